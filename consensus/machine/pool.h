// Pools: fixed tables of equal objects, addressed by slot, that can be read out in slices while
// they go on changing.
//
// Slots run from 1; 0 means none, so that zeroed memory is empty. Which slot an object gets is a
// node's own affair: nothing that is replicated depends on it. A pool takes no memory it has not
// yet used: fresh slots come from the high-water mark, freed ones are used again first.
//
// Snapshots (copy aside): between pool_scan_begin() and pool_scan_end() the caller walks the slots;
// an object not yet reached is copied aside before its first change. Every change must therefore
// go through pool_edit(), and pool_take() and pool_free() do it by themselves. Nothing can run out:
// there is a place aside for every slot.
#ifndef CONCLAVE_MACHINE_POOL_H
#define CONCLAVE_MACHINE_POOL_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum pool_saved { POOL_UNTOUCHED = 0, POOL_ASIDE, POOL_ABSENT };

struct pool {
    uint8_t *items; // (capacity + 1) * item_bytes
    uint8_t *aside; // as items
    uint8_t *live;
    uint8_t *saved; // enum pool_saved, while scanning
    uint32_t item_bytes;
    uint32_t capacity;
    uint32_t limit; // agreed by the cluster, at most capacity
    uint32_t used;
    uint32_t high; // slots ever used
    uint32_t free; // first of the freed ones; each holds the next in its first bytes
    bool scanning;
    uint32_t scan_next, scan_end; // slots of the snapshot still to be read: [next, end)
};

size_t pool_bytes(uint32_t capacity, uint32_t item_bytes);
// Takes its arrays from *memory, which is zeroed, and moves it on by pool_bytes().
void pool_create(struct pool *pool, uint32_t capacity, uint32_t item_bytes, uint8_t **memory);
void pool_clear(struct pool *pool); // empties it; limit stays

uint32_t pool_take(struct pool *pool); // zeroed object; 0: the limit is reached
void pool_free(struct pool *pool, uint32_t slot);

static inline void *pool_at(const struct pool *pool, uint32_t slot) {
    assert(slot > 0 && slot <= pool->capacity);
    return pool->items + (size_t)slot * pool->item_bytes;
}

static inline void *pool_aside(const struct pool *pool, uint32_t slot) {
    return pool->aside + (size_t)slot * pool->item_bytes;
}

// The object at slot, about to be changed.
static inline void *pool_edit(struct pool *pool, uint32_t slot) {
    void *item = pool_at(pool, slot);
    if (pool->scanning && slot >= pool->scan_next && slot < pool->scan_end &&
        pool->saved[slot] == POOL_UNTOUCHED) {
        memcpy(pool_aside(pool, slot), item, pool->item_bytes);
        pool->saved[slot] = POOL_ASIDE;
    }
    return item;
}

void pool_scan_begin(struct pool *pool);
// The next object as it was at begin, and its slot. NULL when all have been read, or when *budget,
// which goes down by one for each slot looked at, has come to 0: pool_scanned() tells which.
const void *pool_scan(struct pool *pool, uint32_t *slot, uint32_t *budget);
static inline bool pool_scanned(const struct pool *pool) {
    return pool->scan_next >= pool->scan_end;
}
void pool_scan_end(struct pool *pool);

// Restoring into an empty pool: objects arrive at the slots they had. False: slot is out of range
// or taken.
bool pool_put(struct pool *pool, uint32_t slot, const void *item);
void pool_put_end(struct pool *pool); // the slots between become free ones

#endif
