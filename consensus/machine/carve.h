// Tables out of the one piece of memory that the machine is given: each begins on a cache line.
#ifndef CONCLAVE_MACHINE_CARVE_H
#define CONCLAVE_MACHINE_CARVE_H

#include <stddef.h>
#include <stdint.h>

static inline size_t carve_bytes(size_t bytes) {
    return (bytes + 63u) & ~(size_t)63u;
}

// Takes so many bytes from *memory and moves it on by carve_bytes().
static inline void *carve(uint8_t **memory, size_t bytes) {
    void *at = *memory;
    *memory += carve_bytes(bytes);
    return at;
}

#endif
