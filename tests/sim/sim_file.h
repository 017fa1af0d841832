// A simulated file: blocks of 4 KiB, there once something was written to them; all else reads as
// zeros. So a log of megabytes of which a life uses a corner costs that corner.
#ifndef CONCLAVE_SIM_FILE_H
#define CONCLAVE_SIM_FILE_H

#include <stdint.h>

#define SIM_FILE_BLOCK 4096u

struct sim_file {
    char name[64];
    uint64_t size;
    uint8_t **blocks;
    uint64_t block_count;
};

void sim_file_grow(struct sim_file *file, uint64_t size);
// Within the size. Returns `bytes`.
uint32_t sim_file_read(const struct sim_file *file, uint64_t offset, void *buffer, uint32_t bytes);
void sim_file_write(struct sim_file *file, uint64_t offset, const void *buffer, uint32_t bytes);
void sim_file_clear(struct sim_file *file); // nothing is left of it, not even the name

#endif
