// The rings between stages and the packet pools behind them: single producer, single consumer, in
// plain memory, sized once.
//
// No ring can fill up: each has room for everything that can be on its way, because what travels on
// it is lent from a fixed stock that returns by another ring. So an enqueue never fails, and a
// cycle of rings never deadlocks; ring_put() asserts it.
#ifndef CONCLAVE_STAGE_RINGS_H
#define CONCLAVE_STAGE_RINGS_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ring.h>

#include "packet.h"

struct rte_ring *ring_create(const char *name, uint32_t capacity); // NULL: no memory
void ring_destroy(struct rte_ring *ring);

static inline void ring_put(struct rte_ring *ring, void *const *objects, uint32_t count) {
    uint32_t put = rte_ring_sp_enqueue_bulk(ring, objects, count, NULL);
    assert(put == count && "rings hold all that can be in flight");
    (void)put;
}
static inline uint32_t ring_take(struct rte_ring *ring, void **objects, uint32_t max) {
    return rte_ring_sc_dequeue_burst(ring, objects, max, NULL);
}

// A stock of packets, owned by one stage. The newest free one is taken first: it is still in cache.
struct packet_pool {
    struct packet *packets;
    struct packet **free;
    uint32_t free_count;
    uint32_t total;
};
bool packet_pool_create(struct packet_pool *pool, uint32_t total);
void packet_pool_destroy(struct packet_pool *pool);
static inline struct packet *packet_take(struct packet_pool *pool) {
    return pool->free_count > 0 ? pool->free[--pool->free_count] : NULL;
}
static inline void packet_give(struct packet_pool *pool, struct packet *packet) {
    assert(pool->free_count < pool->total);
    pool->free[pool->free_count++] = packet;
}
// Takes back what has returned on `ring`.
void packet_reclaim(struct packet_pool *pool, struct rte_ring *ring);

#endif
