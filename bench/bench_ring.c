// The rings between stages: what a hop costs. On one thread it is the ring alone; with two it is
// also what the cores charge each other for the cache lines, and on shared cores the scheduler.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness.h"
#include "stage/rings.h"

#define CAPACITY 1024u

struct hop {
    struct rte_ring *ring;
    uint32_t burst;
    void *objects[PACKET_BURST];
    pthread_t consumer; // two threads only
    _Atomic uint64_t taken;
    atomic_bool stopped;
};

static void *hop_setup(uint64_t burst) {
    struct hop *hop = calloc(1, sizeof *hop);
    if (hop == NULL) return NULL;
    hop->burst = (uint32_t)burst;
    hop->ring = ring_create("bench", CAPACITY);
    for (uint32_t i = 0; i < PACKET_BURST; i++) hop->objects[i] = &hop->objects[i];
    if (hop->ring != NULL) return hop;
    free(hop);
    return NULL;
}

static void hop_teardown(void *context) {
    struct hop *hop = context;
    ring_destroy(hop->ring);
    free(hop);
}

static void hop_run(void *context, uint64_t iterations) {
    struct hop *hop = context;
    void *out[PACKET_BURST];
    for (uint64_t i = 0; i < iterations; i++) {
        ring_put(hop->ring, hop->objects, hop->burst);
        uint32_t taken = ring_take(hop->ring, out, hop->burst);
        assert(taken == hop->burst);
        bench_keep(out);
    }
}

static void *consume(void *context) {
    struct hop *hop = context;
    void *out[PACKET_BURST];
    uint64_t taken = 0;
    while (!atomic_load_explicit(&hop->stopped, memory_order_relaxed)) {
        uint32_t count = ring_take(hop->ring, out, hop->burst);
        if (count == 0) {
            sched_yield();
            continue;
        }
        bench_keep(out);
        taken += count;
        atomic_store_explicit(&hop->taken, taken, memory_order_release);
    }
    return NULL;
}

static void *pair_setup(uint64_t burst) {
    struct hop *hop = hop_setup(burst);
    if (hop == NULL) return NULL;
    if (pthread_create(&hop->consumer, NULL, consume, hop) == 0) return hop;
    fprintf(stderr, "ring: cannot start a thread\n");
    hop_teardown(hop);
    return NULL;
}

static void pair_teardown(void *context) {
    struct hop *hop = context;
    atomic_store(&hop->stopped, true);
    pthread_join(hop->consumer, NULL);
    hop_teardown(hop);
}

// Until the consumer has all of it, so that nothing of one run is left for the next.
static void pair_run(void *context, uint64_t iterations) {
    struct hop *hop = context;
    uint64_t until =
        atomic_load_explicit(&hop->taken, memory_order_acquire) + iterations * hop->burst;
    for (uint64_t i = 0; i < iterations; i++)
        while (rte_ring_sp_enqueue_bulk(hop->ring, hop->objects, hop->burst, NULL) == 0)
            sched_yield();
    while (atomic_load_explicit(&hop->taken, memory_order_acquire) != until) sched_yield();
}

void bench_ring(void) {
    static const struct bench one = {.name = "ring/hop",
                                     .setup = hop_setup,
                                     .run = hop_run,
                                     .teardown = hop_teardown,
                                     .argument_count = 2,
                                     .arguments = {1, PACKET_BURST}};
    static const struct bench two = {.name = "ring/two_threads",
                                     .setup = pair_setup,
                                     .run = pair_run,
                                     .teardown = pair_teardown,
                                     .argument_count = 2,
                                     .arguments = {1, PACKET_BURST}};
    bench_register(&one);
    bench_register(&two);
}
