// The three stages on three threads under load, for a ThreadSanitizer build to look at: rings,
// packet pools, requests to the disk, counters and failure read by a fourth thread. In any build:
// the answers are right and the replicas equal in the end.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "loopback.h"

#define RUN_NS    2000000000ull
#define LIMIT_NS  30000000000ull
#define PAIRS_MIN 100u // a sanitized build on a busy machine; a plain one does tens of thousands

struct watch {
    struct loopback *loopback;
    atomic_bool quiet, stop;
    uint64_t looked; // by the onlooker
    uint64_t applied, digests[LOOPBACK_NODES];
};

static uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

// On the consensus thread, to which the machines belong: have all applied all there is?
static bool settled(struct watch *w) {
    uint64_t applied = machine_applied(node_machine(loopback_node(w->loopback, 0)));
    for (uint32_t i = 0; i < LOOPBACK_NODES; i++) {
        const struct node *node = loopback_node(w->loopback, i);
        if (raft_last(node_raft(node)) != applied || machine_applied(node_machine(node)) != applied)
            return false;
    }
    w->applied = applied;
    for (uint32_t i = 0; i < LOOPBACK_NODES; i++)
        w->digests[i] = machine_digest(node_machine(loopback_node(w->loopback, i)));
    return true;
}

static bool until_stopped(void *context, enum loopback_thread thread) {
    struct watch *w = context;
    if (thread == LOOPBACK_CONSENSUS && atomic_load(&w->quiet) && settled(w))
        atomic_store(&w->stop, true);
    return !atomic_load(&w->stop);
}

// What an operator's status thread does: reads counters and health while the stages run. After two
// seconds of load, counted from the first pair on, which comes after an election, it calls for
// quiet.
static void *look_on(void *context) {
    struct watch *w = context;
    uint64_t first_ns = 0, begun_ns = clock_ns();
    while (!atomic_load(&w->stop)) {
        uint64_t now_ns = clock_ns();
        for (uint32_t i = 0; i < LOOPBACK_NODES; i++)
            if (node_failure(loopback_node(w->loopback, i)) != NULL) atomic_store(&w->stop, true);
        if (loopback_counter(w->loopback, "node.applied") > 0) w->looked++;
        if (first_ns == 0 && loopback_pairs(w->loopback) > 0) first_ns = now_ns;
        if (first_ns != 0 && now_ns - first_ns > RUN_NS && !atomic_load(&w->quiet)) {
            loopback_quiet(w->loopback);
            atomic_store(&w->quiet, true);
        }
        if (now_ns - begun_ns > LIMIT_NS) atomic_store(&w->stop, true);
        usleep(1000);
    }
    return NULL;
}

static void run(bool memory) {
    struct watch w = {.loopback = loopback_open(memory)};
    pthread_t onlooker;
    assert_non_null(w.loopback);
    assert_int_equal(pthread_create(&onlooker, NULL, look_on, &w), 0);
    bool well = loopback_run(w.loopback, until_stopped, &w);
    atomic_store(&w.stop, true); // also when a wrong answer ended the run
    pthread_join(onlooker, NULL);
    uint64_t pairs = loopback_pairs(w.loopback);
    assert_true(well);
    printf("%llu pairs, %s\n", (unsigned long long)pairs, memory ? "in memory" : "on disk");
    assert_true(pairs >= PAIRS_MIN);
    assert_true(w.looked > 0);
    assert_true(w.applied > 0); // they came to rest
    for (uint32_t i = 1; i < LOOPBACK_NODES; i++) assert_int_equal(w.digests[i], w.digests[0]);
    loopback_close(w.loopback);
}

static void test_memory(void **state) {
    run(true);
}
static void test_disk(void **state) {
    run(false);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_memory), cmocka_unit_test(test_disk)};
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
