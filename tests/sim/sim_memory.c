// Memory for nodes, which are opened and closed many times a life. What is small is zeroed when it
// is lent again; of what is large a life mostly touches a corner, so the kernel is told to forget
// it, and hands out zeros page by page as they are touched.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sim_internal.h"

#define MEMORY_LARGE (256u * 1024u)
#define MEMORY_SIZES 64u // kinds of blocks

struct block { // its head, in a page before it
    struct block *next;
    size_t bytes;
};
#define BLOCK_HEAD 4096u

static struct {
    size_t bytes;
    struct block *spares;
} sizes[MEMORY_SIZES];

static struct block **spares_of(size_t bytes) {
    uint32_t i = 0;
    while (sizes[i].bytes != 0 && sizes[i].bytes != bytes) i++;
    sizes[i].bytes = bytes;
    return &sizes[i].spares;
}

static void *lend(struct node_lender *lender, size_t bytes) {
    (void)lender;
    struct block **spares = spares_of(bytes), *block = *spares;
    if (block == NULL) {
        block = mmap(NULL, BLOCK_HEAD + bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0);
        if (block == MAP_FAILED) return NULL;
        *block = (struct block){.bytes = bytes};
        return (uint8_t *)block + BLOCK_HEAD;
    }
    *spares = block->next;
    if (bytes < MEMORY_LARGE) memset((uint8_t *)block + BLOCK_HEAD, 0, bytes);
    return (uint8_t *)block + BLOCK_HEAD;
}

static void take_back(struct node_lender *lender, void *memory) {
    (void)lender;
    struct block *block = (struct block *)(void *)((uint8_t *)memory - BLOCK_HEAD);
    struct block **spares = spares_of(block->bytes);
    if (block->bytes >= MEMORY_LARGE) madvise(memory, block->bytes, MADV_DONTNEED);
    block->next = *spares;
    *spares = block;
}

// Under AddressSanitizer nodes take their memory from it, so that it sees every table's end.
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define MEMORY_WATCHED
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define MEMORY_WATCHED
#endif

struct node_lender *sim_lender(void) {
    static struct node_lender lender = {lend, take_back};
#ifdef MEMORY_WATCHED
    return NULL;
#endif
    return &lender;
}
