// Chained hash index over the slots of a pool. The chains are a node's own affair: they are rebuilt
// when a snapshot is restored.
//
//     for (slot = index_first(index, hash); slot != 0; slot = index_next(index, slot)) ...
#ifndef CONCLAVE_MACHINE_INDEX_H
#define CONCLAVE_MACHINE_INDEX_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "machine/carve.h"

struct index {
    uint32_t *heads; // mask + 1
    uint32_t *next;  // by slot
    uint32_t mask;
    uint32_t capacity;
};

// Buckets: at least one per slot, so that a chain has one object on average.
static inline uint32_t index_buckets(uint32_t capacity) {
    uint32_t buckets = 64;
    while (buckets < capacity) buckets *= 2;
    return buckets;
}

static inline size_t index_bytes(uint32_t capacity) {
    size_t words = (size_t)index_buckets(capacity) + capacity + 1;
    return carve_bytes(words * sizeof(uint32_t));
}

static inline void index_create(struct index *index, uint32_t capacity, uint8_t **memory) {
    index->mask = index_buckets(capacity) - 1;
    index->capacity = capacity;
    index->heads = carve(memory, index_bytes(capacity));
    index->next = index->heads + index->mask + 1;
}

static inline void index_clear(struct index *index) {
    memset(index->heads, 0, ((size_t)index->mask + 1) * sizeof *index->heads);
}

static inline uint32_t index_first(const struct index *index, uint64_t hash) {
    return index->heads[hash & index->mask];
}
static inline uint32_t index_next(const struct index *index, uint32_t slot) {
    return index->next[slot];
}

static inline void index_add(struct index *index, uint64_t hash, uint32_t slot) {
    uint32_t *head = &index->heads[hash & index->mask];
    index->next[slot] = *head;
    *head = slot;
}

static inline void index_remove(struct index *index, uint64_t hash, uint32_t slot) {
    uint32_t *at = &index->heads[hash & index->mask];
    while (*at != slot) at = &index->next[*at];
    *at = index->next[slot];
}

// Spreads ids, which are log indices and so come in runs, over all bits (splitmix64's finalizer).
static inline uint64_t index_hash(uint64_t id) {
    id = (id ^ (id >> 30)) * 0xbf58476d1ce4e5b9ull;
    id = (id ^ (id >> 27)) * 0x94d049bb133111ebull;
    return id ^ (id >> 31);
}

#endif
