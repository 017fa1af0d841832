// See pool.h.
#include "machine/pool.h"

#include "machine/carve.h"

size_t pool_bytes(uint32_t capacity, uint32_t item_bytes) {
    size_t slots = (size_t)capacity + 1;
    return 2 * carve_bytes(slots * item_bytes) + 2 * carve_bytes(slots);
}

void pool_create(struct pool *pool, uint32_t capacity, uint32_t item_bytes, uint8_t **memory) {
    assert(item_bytes >= sizeof(uint32_t));
    size_t slots = (size_t)capacity + 1;
    *pool = (struct pool){.item_bytes = item_bytes, .capacity = capacity, .limit = capacity};
    pool->items = carve(memory, slots * item_bytes);
    pool->aside = carve(memory, slots * item_bytes);
    pool->live = carve(memory, slots);
    pool->saved = carve(memory, slots);
}

void pool_clear(struct pool *pool) {
    memset(pool->live, 0, (size_t)pool->high + 1);
    pool->used = pool->high = pool->free = 0;
    pool->scanning = false;
}

uint32_t pool_take(struct pool *pool) {
    if (pool->used >= pool->limit) return 0;
    uint32_t slot = pool->free;
    if (slot != 0)
        memcpy(&pool->free, pool_at(pool, slot), sizeof pool->free);
    else
        slot = ++pool->high;
    assert(slot <= pool->capacity && !pool->live[slot]);
    if (pool->scanning && slot >= pool->scan_next && slot < pool->scan_end &&
        pool->saved[slot] == POOL_UNTOUCHED)
        pool->saved[slot] = POOL_ABSENT;
    memset(pool_at(pool, slot), 0, pool->item_bytes);
    pool->live[slot] = 1;
    pool->used++;
    return slot;
}

void pool_free(struct pool *pool, uint32_t slot) {
    assert(pool->live[slot]);
    void *item = pool_edit(pool, slot);
    memcpy(item, &pool->free, sizeof pool->free);
    pool->free = slot;
    pool->live[slot] = 0;
    pool->used--;
}

void pool_scan_begin(struct pool *pool) {
    memset(pool->saved, 0, (size_t)pool->high + 1);
    pool->scanning = true;
    pool->scan_next = 1;
    pool->scan_end = pool->high + 1;
}

const void *pool_scan(struct pool *pool, uint32_t *slot, uint32_t *budget) {
    while (pool->scan_next<pool->scan_end && * budget> 0) {
        uint32_t at = pool->scan_next++;
        *slot = at;
        --*budget;
        if (pool->saved[at] == POOL_ASIDE) return pool_aside(pool, at);
        if (pool->saved[at] == POOL_UNTOUCHED && pool->live[at]) return pool_at(pool, at);
    }
    return NULL;
}

void pool_scan_end(struct pool *pool) {
    pool->scanning = false;
}

bool pool_put(struct pool *pool, uint32_t slot, const void *item) {
    if (slot == 0 || slot > pool->limit || pool->live[slot]) return false;
    memcpy(pool_at(pool, slot), item, pool->item_bytes);
    pool->live[slot] = 1;
    pool->used++;
    if (slot > pool->high) pool->high = slot;
    return true;
}

void pool_put_end(struct pool *pool) {
    pool->free = 0;
    for (uint32_t slot = pool->high; slot > 0; slot--) {
        if (pool->live[slot]) continue;
        memcpy(pool_at(pool, slot), &pool->free, sizeof pool->free);
        pool->free = slot;
    }
}
