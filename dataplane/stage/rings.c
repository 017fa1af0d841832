// See rings.h.
#include "rings.h"

#include <stdlib.h>

struct rte_ring *ring_create(const char *name, uint32_t capacity) {
    // Exact size: the ring holds `capacity`, whatever power of two lies underneath.
    ssize_t bytes = rte_ring_get_memsize(rte_align32pow2(capacity + 1));
    if (bytes < 0) return NULL;
    struct rte_ring *ring = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL((size_t)bytes, 128));
    if (ring == NULL) return NULL;
    unsigned flags = RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ;
    if (rte_ring_init(ring, name, capacity, flags) != 0) {
        free(ring);
        return NULL;
    }
    return ring;
}

void ring_destroy(struct rte_ring *ring) {
    free(ring);
}

bool packet_pool_create(struct packet_pool *pool, uint32_t total) {
    pool->packets = aligned_alloc(64, (size_t)total * sizeof *pool->packets);
    pool->free = malloc(total * sizeof(struct packet *));
    pool->total = total;
    pool->free_count = 0;
    if (pool->packets == NULL || pool->free == NULL) return false;
    for (uint32_t i = total; i > 0; i--) packet_give(pool, &pool->packets[i - 1]);
    return true;
}

void packet_pool_destroy(struct packet_pool *pool) {
    free(pool->packets);
    free(pool->free);
}

void packet_reclaim(struct packet_pool *pool, struct rte_ring *ring) {
    void *back[PACKET_BURST];
    for (uint32_t count; (count = ring_take(ring, back, PACKET_BURST)) > 0;)
        for (uint32_t i = 0; i < count; i++) packet_give(pool, back[i]);
}
