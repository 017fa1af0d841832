// 100,000 acquire + release pairs allocate and free nothing on any of the three stages' threads:
// not with memory durability, and not with every write synced by a real disk. Segments roll and
// snapshots are taken meanwhile. Counted by jemalloc for each thread: what it gave out and what it
// took back since the thread began must be equal, to the byte, before and after.
#ifdef SANITIZED
#include <stdio.h>
int main(void) {
    fprintf(stderr, "SKIPPED: jemalloc does not mix with sanitizers; the plain build counts.\n");
    return 77;
}
#else
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jemalloc/jemalloc.h>

#include "loopback.h"

#define WARM_UP 20000u // until rings exist, pages are touched and a first snapshot is taken
#define PAIRS   100000u

enum { WARMING, COUNTING, DONE, PHASES };

struct tally { // bytes since the thread began, as read when it saw a phase begin
    uint64_t allocated[PHASES];
    uint64_t freed[PHASES];
    uint32_t phase;
    bool ended;
    uint64_t *allocated_now, *freed_now; // jemalloc's own, of this thread
};

struct count {
    struct loopback *loopback;
    _Atomic uint32_t phase;
    _Atomic uint32_t counting; // threads that have seen COUNTING begin
    uint64_t begun_pairs;      // the port thread's
    uint64_t pairs;
    struct tally tallies[LOOPBACK_THREADS];
};

static const char *const thread_names[LOOPBACK_THREADS] = {"port", "consensus", "wal"};

static void read_tally(struct tally *tally, uint32_t phase) {
    if (tally->allocated_now == NULL) {
        size_t size = sizeof tally->allocated_now;
        assert_int_equal(
            mallctl("thread.allocatedp", (void *)&tally->allocated_now, &size, NULL, 0), 0);
        assert_int_equal(mallctl("thread.deallocatedp", (void *)&tally->freed_now, &size, NULL, 0),
                         0);
    }
    tally->allocated[phase] = *tally->allocated_now;
    tally->freed[phase] = *tally->freed_now;
}

// The port thread, whose clients make the pairs, says when the phases begin.
static void direct(struct count *count) {
    uint64_t pairs = loopback_pairs(count->loopback);
    switch (atomic_load(&count->phase)) {
    case WARMING:
        if (pairs >= WARM_UP) atomic_store(&count->phase, COUNTING);
        return;
    case COUNTING:
        if (atomic_load(&count->counting) < LOOPBACK_THREADS) {
            count->begun_pairs = pairs;
        } else if (pairs - count->begun_pairs >= PAIRS) {
            count->pairs = pairs - count->begun_pairs;
            atomic_store(&count->phase, DONE);
        }
        return;
    }
}

// After each round of each thread.
static bool watch(void *context, enum loopback_thread thread) {
    struct count *count = context;
    struct tally *tally = &count->tallies[thread];
    if (tally->allocated_now == NULL) read_tally(tally, WARMING);
    if (thread == LOOPBACK_PORT) direct(count);
    uint32_t phase = atomic_load_explicit(&count->phase, memory_order_acquire);
    if (phase == tally->phase) return true;
    tally->phase = phase;
    read_tally(tally, phase);
    if (phase == COUNTING) {
        atomic_fetch_add(&count->counting, 1);
        return true;
    }
    // The counters live: something allocated and freed on this very thread moves both.
    void *volatile something = malloc(100);
    free(something);
    tally->ended =
        *tally->allocated_now > tally->allocated[DONE] && *tally->freed_now > tally->freed[DONE];
    return false;
}

static void count_with(bool memory) {
    struct count count = {.loopback = loopback_open(memory)};
    assert_non_null(count.loopback);
    bool well = loopback_run(count.loopback, watch, &count);
    uint64_t snapshots = loopback_counter(count.loopback, "node.snapshots");
    uint64_t rolls = loopback_counter(count.loopback, "wal.segment_rolls");
    loopback_close(count.loopback);
    assert_true(well);
    printf("%llu pairs, %s; %llu snapshots, %llu segment rolls on 3 nodes\n",
           (unsigned long long)count.pairs, memory ? "in memory" : "on disk",
           (unsigned long long)snapshots, (unsigned long long)rolls);
    printf("  %-10s %18s %18s %18s %18s\n", "thread", "allocated before", "allocated since",
           "freed before", "freed since");
    for (uint32_t i = 0; i < LOOPBACK_THREADS; i++) {
        const struct tally *t = &count.tallies[i];
        printf("  %-10s %18llu %18llu %18llu %18llu\n", thread_names[i],
               (unsigned long long)t->allocated[COUNTING],
               (unsigned long long)(t->allocated[DONE] - t->allocated[COUNTING]),
               (unsigned long long)t->freed[COUNTING],
               (unsigned long long)(t->freed[DONE] - t->freed[COUNTING]));
    }
    assert_true(count.pairs >= PAIRS);
    assert_true(snapshots > 0);
    assert_true(memory || rolls > 0);
    for (uint32_t i = 0; i < LOOPBACK_THREADS; i++) {
        const struct tally *t = &count.tallies[i];
        assert_true(t->ended);
        assert_int_equal(t->allocated[DONE], t->allocated[COUNTING]);
        assert_int_equal(t->freed[DONE], t->freed[COUNTING]);
    }
}

static void test_memory(void **state) {
    count_with(true);
}
static void test_disk(void **state) {
    count_with(false);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_memory), cmocka_unit_test(test_disk)};
    return cmocka_run_group_tests_name("no_alloc", tests, NULL, NULL);
}
#endif
