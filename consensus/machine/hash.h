// The hash of names, states and streams: XXH3, inlined because most inputs are short.
#ifndef CONCLAVE_MACHINE_HASH_H
#define CONCLAVE_MACHINE_HASH_H

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t length) {
    return XXH3_64bits_withSeed(bytes, length, seed);
}

#endif
