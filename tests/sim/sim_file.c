// See sim_file.h. Blocks that are free wait in a list for the next life, so that lives do not pay
// for fresh pages again and again.
#include "sim_file.h"

#include <stdlib.h>
#include <string.h>

union spare { // a block that waits
    union spare *next;
    uint8_t bytes[SIM_FILE_BLOCK];
};
static union spare *spares;

static uint8_t *take_block(void) {
    union spare *block = spares;
    if (block == NULL) return malloc(sizeof *block);
    spares = block->next;
    return block->bytes;
}

static void give_block(uint8_t *bytes) {
    union spare *block = (union spare *)(void *)bytes;
    block->next = spares;
    spares = block;
}

void sim_file_grow(struct sim_file *file, uint64_t size) {
    uint64_t count = (size + SIM_FILE_BLOCK - 1) / SIM_FILE_BLOCK;
    if (size > file->size) file->size = size;
    if (count <= file->block_count) return;
    file->blocks = realloc(file->blocks, count * sizeof *file->blocks);
    memset(file->blocks + file->block_count, 0, (count - file->block_count) * sizeof *file->blocks);
    file->block_count = count;
}

uint32_t sim_file_read(const struct sim_file *file, uint64_t offset, void *buffer, uint32_t bytes) {
    uint8_t *to = buffer;
    for (uint32_t left = bytes; left > 0;) {
        uint32_t in = (uint32_t)(offset % SIM_FILE_BLOCK);
        uint32_t part = left < SIM_FILE_BLOCK - in ? left : SIM_FILE_BLOCK - in;
        const uint8_t *block = file->blocks[offset / SIM_FILE_BLOCK];
        if (block != NULL)
            memcpy(to, block + in, part);
        else
            memset(to, 0, part);
        to += part, offset += part, left -= part;
    }
    return bytes;
}

void sim_file_write(struct sim_file *file, uint64_t offset, const void *buffer, uint32_t bytes) {
    const uint8_t *from = buffer;
    sim_file_grow(file, offset + bytes);
    for (uint32_t left = bytes; left > 0;) {
        uint32_t in = (uint32_t)(offset % SIM_FILE_BLOCK);
        uint32_t part = left < SIM_FILE_BLOCK - in ? left : SIM_FILE_BLOCK - in;
        uint8_t **block = &file->blocks[offset / SIM_FILE_BLOCK];
        if (*block == NULL) {
            *block = take_block();
            if (part < SIM_FILE_BLOCK) memset(*block, 0, SIM_FILE_BLOCK);
        }
        memcpy(*block + in, from, part);
        from += part, offset += part, left -= part;
    }
}

void sim_file_clear(struct sim_file *file) {
    for (uint64_t i = 0; i < file->block_count; i++)
        if (file->blocks[i] != NULL) give_block(file->blocks[i]);
    free(file->blocks);
    *file = (struct sim_file){0};
}
