// The loop of a lcore fits a screen: lcore_round(). Everything else is start and stop.
#include "topology.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "counters.h"

struct lcore {
    int cpu; // -1: not pinned
    enum topology_idle idle;
    uint32_t stage_count;
    struct topology_stage stages[TOPOLOGY_STAGES_MAX];
    pthread_t thread;
    bool started;
    struct topology *topology;
    uint32_t empty_rounds;     // in a row
    uint64_t last_ns;          // clock reading of the round before, 0: idled since
    const uint64_t *allocated; // by this thread, NULL: unknown
    uint64_t allocated_at_start;
    _Alignas(64) _Atomic uint64_t counters[TOPOLOGY_COUNTERS];
};

struct topology {
    _Atomic bool stop;
    _Atomic uint32_t running;
    void (*on_start)(void);
    uint32_t lcore_count;
    uint32_t stage_count;
    _Alignas(64) struct lcore lcores[TOPOLOGY_LCORES_MAX];
};

// ---------------------------------------------------------------- the table

struct topology *topology_create(void) {
    struct topology *topology = aligned_alloc(64, sizeof *topology);
    if (topology != NULL) memset(topology, 0, sizeof *topology);
    return topology;
}

void topology_destroy(struct topology *topology) {
    free(topology);
}

int topology_lcore(struct topology *topology, int cpu, enum topology_idle idle) {
    for (uint32_t i = 0; i < topology->lcore_count && cpu >= 0; i++)
        if (topology->lcores[i].cpu == cpu) return (int)i;
    if (topology->lcore_count == TOPOLOGY_LCORES_MAX) return -1;
    struct lcore *lcore = &topology->lcores[topology->lcore_count];
    lcore->cpu = cpu;
    lcore->idle = idle;
    lcore->topology = topology;
    return (int)topology->lcore_count++;
}

bool topology_bind(struct topology *topology, int lcore, const struct topology_stage *stage) {
    if (topology->stage_count == TOPOLOGY_STAGES_MAX) return false;
    struct lcore *l = &topology->lcores[lcore];
    l->stages[l->stage_count++] = *stage;
    topology->stage_count++;
    return true;
}

void topology_on_start(struct topology *topology, void (*fn)(void)) {
    topology->on_start = fn;
}

// ---------------------------------------------------------------- one round

static uint64_t read_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void drop_failed(struct lcore *lcore) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < lcore->stage_count; i++)
        if (lcore->stages[i].failure(lcore->stages[i].context) == NULL)
            lcore->stages[kept++] = lcore->stages[i];
    lcore->stage_count = kept;
}

static void nap(struct lcore *lcore, uint32_t empty) {
    struct pollfd fds[TOPOLOGY_STAGES_MAX];
    nfds_t count = 0;
    for (uint32_t i = 0; i < lcore->stage_count; i++) {
        const struct topology_stage *stage = &lcore->stages[i];
        int fd = stage->wait_fd != NULL ? stage->wait_fd(stage->context) : -1;
        if (fd >= 0) fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    uint32_t doublings = empty - TOPOLOGY_YIELDS_FIRST;
    long ns = doublings < 5 ? (long)TOPOLOGY_SLEEP_MIN_NS << doublings : TOPOLOGY_SLEEP_MAX_NS;
    if (ns > (long)TOPOLOGY_SLEEP_MAX_NS) ns = TOPOLOGY_SLEEP_MAX_NS;
    struct timespec time_out = {.tv_nsec = ns};
    COUNTER_ADD(lcore->counters[TOPOLOGY_COUNT_SLEEPS], 1);
    ppoll(fds, count, &time_out, NULL);
}

static void idle(struct lcore *lcore) {
    uint32_t empty = lcore->empty_rounds++;
    lcore->last_ns = 0;
    if (lcore->idle == TOPOLOGY_SPIN) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    } else if (lcore->idle == TOPOLOGY_YIELD || empty < TOPOLOGY_YIELDS_FIRST) {
        sched_yield();
    } else {
        nap(lcore, empty);
    }
}

static void measure(struct lcore *lcore, uint64_t now_ns) {
    uint64_t us = lcore->last_ns != 0 ? (now_ns - lcore->last_ns) / 1000 : 0;
    lcore->last_ns = now_ns;
    if (us >
        atomic_load_explicit(&lcore->counters[TOPOLOGY_COUNT_LONGEST_US], memory_order_relaxed))
        atomic_store_explicit(&lcore->counters[TOPOLOGY_COUNT_LONGEST_US], us,
                              memory_order_relaxed);
}

static void lcore_round(struct lcore *lcore) {
    uint64_t now_ns = read_clock();
    uint32_t work = 0;
    bool failed = false;
    measure(lcore, now_ns);
    for (uint32_t i = 0; i < lcore->stage_count; i++) {
        const struct topology_stage *stage = &lcore->stages[i];
        work += stage->poll(stage->context, now_ns);
        failed = failed || stage->failure(stage->context) != NULL;
    }
    COUNTER_ADD(lcore->counters[TOPOLOGY_COUNT_ROUNDS], 1);
    if (failed) drop_failed(lcore);
    if (work > 0) {
        lcore->empty_rounds = 0;
        return;
    }
    COUNTER_ADD(lcore->counters[TOPOLOGY_COUNT_EMPTY], 1);
    idle(lcore);
}

// ---------------------------------------------------------------- threads

// jemalloc's own interface; where the program is not linked with it (sanitizers) there is none.
extern int mallctl(const char *name, void *old, size_t *old_bytes, void *new_value,
                   size_t new_bytes) __attribute__((weak));

// Two reads of a counter that jemalloc keeps per thread show that polling allocates nothing. The
// first rounds are left out: io_uring and DPDK set themselves up in them.
#define SETTLED_ROUNDS 1000u

static void watch_allocations(struct lcore *lcore) {
    uint64_t rounds =
        atomic_load_explicit(&lcore->counters[TOPOLOGY_COUNT_ROUNDS], memory_order_relaxed);
    if (lcore->allocated == NULL || rounds < SETTLED_ROUNDS) return;
    if (rounds == SETTLED_ROUNDS) lcore->allocated_at_start = *lcore->allocated;
    atomic_store_explicit(&lcore->counters[TOPOLOGY_COUNT_ALLOCATED_BYTES],
                          *lcore->allocated - lcore->allocated_at_start, memory_order_relaxed);
}

static void *lcore_run(void *argument) {
    struct lcore *lcore = argument;
    struct topology *topology = lcore->topology;
    if (topology->on_start != NULL) topology->on_start();
    size_t bytes = sizeof lcore->allocated;
    if (mallctl != NULL) mallctl("thread.allocatedp", (void *)&lcore->allocated, &bytes, NULL, 0);
    while (lcore->stage_count > 0 && !atomic_load_explicit(&topology->stop, memory_order_relaxed)) {
        lcore_round(lcore);
        watch_allocations(lcore);
    }
    atomic_fetch_sub(&topology->running, 1);
    return NULL;
}

static int create_thread(struct lcore *lcore) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    int result = 0;
    if (lcore->cpu >= 0) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET(lcore->cpu, &cpus);
        result = pthread_attr_setaffinity_np(&attributes, sizeof cpus, &cpus);
    }
    if (result == 0) result = pthread_create(&lcore->thread, &attributes, lcore_run, lcore);
    pthread_attr_destroy(&attributes);
    return result;
}

static bool start_one(struct lcore *lcore, uint32_t number, char error[256]) {
    int result = create_thread(lcore);
    if (result != 0) {
        atomic_fetch_sub(&lcore->topology->running, 1);
        if (lcore->cpu >= 0)
            snprintf(error, 256,
                     "cannot start a thread on CPU %d: %s; [topology] must name CPUs that are "
                     "online and that this process may use (see `nproc --all`, `taskset -p $$`)",
                     lcore->cpu, strerror(result));
        else
            snprintf(error, 256, "cannot start a thread: %s; see `ulimit -u`", strerror(result));
        return false;
    }
    lcore->started = true;
    char name[16];
    snprintf(name, sizeof name, "lcore%u", number);
    pthread_setname_np(lcore->thread, name);
    return true;
}

bool topology_start(struct topology *topology, char error[256]) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool good = true;
    for (uint32_t i = 0; i < topology->lcore_count && good; i++) {
        atomic_fetch_add(&topology->running, 1);
        good = start_one(&topology->lcores[i], i, error);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!good) topology_stop(topology);
    return good;
}

void topology_stop(struct topology *topology) {
    atomic_store(&topology->stop, true);
    for (uint32_t i = 0; i < topology->lcore_count; i++) {
        struct lcore *lcore = &topology->lcores[i];
        if (lcore->started) pthread_join(lcore->thread, NULL);
        lcore->started = false;
    }
}

uint32_t topology_running(const struct topology *topology) {
    return atomic_load(&topology->running);
}

// ---------------------------------------------------------------- for people

uint32_t topology_lcores(const struct topology *topology) {
    return topology->lcore_count;
}

const char *topology_idle_name(enum topology_idle idle) {
    static const char *const names[] = {"spin", "yield", "sleep"};
    return names[idle];
}

void topology_describe(const struct topology *topology, uint32_t lcore, char *text,
                       uint32_t bytes) {
    const struct lcore *l = &topology->lcores[lcore];
    uint32_t used;
    if (l->cpu >= 0)
        used = (uint32_t)snprintf(text, bytes, "cpu %d, %s:", l->cpu, topology_idle_name(l->idle));
    else
        used = (uint32_t)snprintf(text, bytes, "any cpu, %s:", topology_idle_name(l->idle));
    for (uint32_t i = 0; i < l->stage_count && used < bytes; i++)
        used += (uint32_t)snprintf(text + used, bytes - used, "%s %s %u", i > 0 ? "," : "",
                                   l->stages[i].name, l->stages[i].owner);
}

uint64_t topology_counter(const struct topology *topology, uint32_t lcore,
                          enum topology_counter counter) {
    return atomic_load_explicit(&topology->lcores[lcore].counters[counter], memory_order_relaxed);
}

const char *topology_counter_name(enum topology_counter counter) {
    static const char *const names[TOPOLOGY_COUNTERS] = {
        [TOPOLOGY_COUNT_ROUNDS] = "rounds",
        [TOPOLOGY_COUNT_EMPTY] = "empty_rounds",
        [TOPOLOGY_COUNT_SLEEPS] = "sleeps",
        [TOPOLOGY_COUNT_LONGEST_US] = "longest_round_us",
        [TOPOLOGY_COUNT_ALLOCATED_BYTES] = "allocated_bytes",
    };
    return names[counter];
}

bool topology_cpu_isolated(int cpu, const char *list) {
    char text[512] = "";
    if (list == NULL) {
        FILE *file = fopen("/sys/devices/system/cpu/isolated", "re");
        if (file == NULL) return false;
        if (fgets(text, sizeof text, file) == NULL) text[0] = 0;
        fclose(file);
        list = text;
    }
    while (*list >= '0' && *list <= '9') {
        char *end;
        long first = strtol(list, &end, 10), last = first;
        if (*end == '-') last = strtol(end + 1, &end, 10);
        if (cpu >= first && cpu <= last) return true;
        list = *end == ',' ? end + 1 : end;
    }
    return false;
}
