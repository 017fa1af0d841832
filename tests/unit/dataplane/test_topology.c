// Stages on threads. Feared most: a stage polled by two threads, a failed node that goes on being
// polled, and a sleeping thread that does not hear what arrives.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "topology.h"

struct fake {
    _Atomic uint64_t polls;
    _Atomic uint64_t last_ns;
    _Atomic int cpu;
    _Atomic uint64_t thread; // that polled it first
    _Atomic bool two_threads;
    _Atomic bool backwards; // the clock went back
    _Atomic bool signals_open;
    _Atomic uint32_t work; // to report
    _Atomic(const char *) failure;
    int fd; // -1: none
    _Atomic uint64_t heard_ns;
};

static uint64_t read_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint32_t poll_fake(void *context, uint64_t now_ns) {
    struct fake *fake = context;
    uint64_t self = (uint64_t)pthread_self(), none = 0;
    if (!atomic_compare_exchange_strong(&fake->thread, &none, self) && none != self)
        fake->two_threads = true;
    if (fake->polls == 0) {
        sigset_t blocked;
        pthread_sigmask(SIG_SETMASK, NULL, &blocked);
        fake->signals_open = !sigismember(&blocked, SIGTERM) || !sigismember(&blocked, SIGINT);
    }
    if (now_ns < fake->last_ns) fake->backwards = true;
    fake->last_ns = now_ns;
    fake->cpu = sched_getcpu();
    fake->polls++;
    uint64_t value;
    if (fake->fd >= 0 && read(fake->fd, &value, sizeof value) == sizeof value) {
        fake->heard_ns = read_clock();
        return 1;
    }
    return fake->work;
}
static const char *failure_of(void *context) {
    return ((struct fake *)context)->failure;
}
static int fd_of(void *context) {
    return ((struct fake *)context)->fd;
}

static void bind_fake(struct topology *topology, int lcore, struct fake *fake, const char *name,
                      uint16_t owner) {
    const struct topology_stage stage = {.name = name,
                                         .owner = owner,
                                         .context = fake,
                                         .poll = poll_fake,
                                         .failure = failure_of,
                                         .wait_fd = fake->fd >= 0 ? fd_of : NULL};
    assert_true(topology_bind(topology, lcore, &stage));
}

static void start(struct topology *topology) {
    char error[256] = "";
    assert_true(topology_start(topology, error));
    assert_string_equal(error, "");
}

static void pause_ms(uint32_t ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

// Generous: the machine may be busy with other things.
static void wait_polls(const struct fake *fake, uint64_t polls) {
    for (uint32_t i = 0; i < 5000 && fake->polls < polls; i++) pause_ms(1);
    assert_true(fake->polls >= polls);
}

static void check_sane(const struct fake *fake) {
    assert_false(fake->two_threads);
    assert_false(fake->backwards);
    assert_false(fake->signals_open);
}

static void stages_on_one_thread_share_a_clock_reading(void **state) {
    (void)state;
    struct topology *topology = topology_create();
    struct fake fakes[3] = {{.fd = -1}, {.fd = -1}, {.fd = -1}};
    int lcore = topology_lcore(topology, -1, TOPOLOGY_YIELD);
    for (uint32_t i = 0; i < 3; i++) bind_fake(topology, lcore, &fakes[i], "stage", 1);
    start(topology);
    wait_polls(&fakes[2], 1000);
    topology_stop(topology);
    for (uint32_t i = 0; i < 3; i++) {
        check_sane(&fakes[i]);
        assert_int_equal(fakes[i].polls, fakes[0].polls);
        assert_int_equal(fakes[i].thread, fakes[0].thread);
        assert_int_equal(fakes[i].last_ns, fakes[0].last_ns);
    }
    assert_int_equal(topology_counter(topology, 0, TOPOLOGY_COUNT_ROUNDS), fakes[0].polls);
    assert_int_equal(topology_counter(topology, 0, TOPOLOGY_COUNT_EMPTY), fakes[0].polls);
    assert_int_equal(topology_counter(topology, 0, TOPOLOGY_COUNT_SLEEPS), 0);
    assert_int_equal(topology_running(topology), 0);
    topology_stop(topology); // twice is harmless
    topology_destroy(topology);
}

static void stages_with_a_cpu_run_there(void **state) {
    (void)state;
    cpu_set_t allowed;
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &allowed)) cpu++;
    struct topology *topology = topology_create();
    struct fake a = {.fd = -1}, b = {.fd = -1}, c = {.fd = -1};
    int first = topology_lcore(topology, cpu, TOPOLOGY_YIELD);
    assert_int_equal(topology_lcore(topology, cpu, TOPOLOGY_SPIN), first); // the same thread
    int second = topology_lcore(topology, -1, TOPOLOGY_YIELD);
    assert_int_not_equal(second, first);
    bind_fake(topology, first, &a, "port", 1);
    bind_fake(topology, second, &b, "consensus", 1);
    bind_fake(topology, first, &c, "wal", 1);
    char text[128], expected[128];
    topology_describe(topology, 0, text, sizeof text);
    snprintf(expected, sizeof expected, "cpu %d, yield: port 1, wal 1", cpu);
    assert_string_equal(text, expected);
    topology_describe(topology, 1, text, sizeof text);
    assert_string_equal(text, "any cpu, yield: consensus 1");
    start(topology);
    wait_polls(&a, 100);
    wait_polls(&b, 100);
    assert_int_equal(topology_running(topology), 2);
    topology_stop(topology);
    check_sane(&a);
    check_sane(&b);
    assert_true(a.cpu == cpu && c.cpu == cpu);
    assert_int_equal(a.thread, c.thread);
    assert_int_not_equal(a.thread, b.thread);
    topology_destroy(topology);
}

static void a_cpu_that_is_not_there_is_told(void **state) {
    (void)state;
    struct topology *topology = topology_create();
    struct fake good = {.fd = -1}, bad = {.fd = -1};
    char error[256] = "";
    bind_fake(topology, topology_lcore(topology, -1, TOPOLOGY_YIELD), &good, "port", 1);
    bind_fake(topology, topology_lcore(topology, 1023, TOPOLOGY_SPIN), &bad, "wal", 1);
    assert_false(topology_start(topology, error));
    assert_string_equal(error,
                        "cannot start a thread on CPU 1023: Invalid argument; [topology] must name "
                        "CPUs that are online and that this process may use (see `nproc --all`, "
                        "`taskset -p $$`)");
    assert_int_equal(topology_running(topology), 0);
    uint64_t polls = good.polls;
    pause_ms(5);
    assert_int_equal(good.polls, polls); // the one that had started is stopped again
    assert_int_equal(bad.polls, 0);
    topology_destroy(topology);
}

static void one_failed_node_does_not_stop_the_others(void **state) {
    (void)state;
    struct topology *topology = topology_create();
    struct fake a = {.fd = -1}, b = {.fd = -1}, alone = {.fd = -1};
    int shared = topology_lcore(topology, -1, TOPOLOGY_YIELD);
    bind_fake(topology, shared, &a, "consensus", 1);
    bind_fake(topology, shared, &b, "consensus", 2);
    bind_fake(topology, topology_lcore(topology, -1, TOPOLOGY_YIELD), &alone, "wal", 1);
    start(topology);
    wait_polls(&a, 100);
    wait_polls(&alone, 100);
    a.failure = alone.failure = "the disk is on fire";
    for (uint32_t i = 0; i < 5000 && topology_running(topology) != 1; i++) pause_ms(1);
    assert_int_equal(topology_running(topology), 1); // the thread without stages has ended
    wait_polls(&b, b.polls + 1000);
    uint64_t polls = a.polls;
    wait_polls(&b, b.polls + 1000);
    assert_int_equal(a.polls, polls);
    topology_stop(topology);
    topology_destroy(topology);
}

static uint64_t cpu_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void sleeping_is_cheap(void **state) {
    (void)state;
    struct topology *topology = topology_create();
    struct fake fake = {.fd = -1};
    bind_fake(topology, topology_lcore(topology, -1, TOPOLOGY_SLEEP), &fake, "port", 1);
    start(topology);
    uint64_t used_ns = cpu_ns(), from_ns = read_clock();
    pause_ms(300);
    used_ns = cpu_ns() - used_ns;
    topology_stop(topology);
    uint64_t elapsed_ms = (read_clock() - from_ns) / 1000000;
    uint64_t rounds = topology_counter(topology, 0, TOPOLOGY_COUNT_ROUNDS);
    // All but the first few slept; at most one per millisecond then, and it did not stop polling.
    assert_int_equal(topology_counter(topology, 0, TOPOLOGY_COUNT_SLEEPS),
                     rounds - TOPOLOGY_YIELDS_FIRST);
    assert_in_range(rounds, TOPOLOGY_YIELDS_FIRST + 2, TOPOLOGY_YIELDS_FIRST + 10 + elapsed_ms);
    assert_true(used_ns < elapsed_ms * 1000000 / 3);
    topology_destroy(topology);
}

static void who_sleeps_hears_its_descriptor(void **state) {
    (void)state;
    struct topology *topology = topology_create();
    struct fake fake = {.fd = eventfd(0, EFD_NONBLOCK)};
    assert_true(fake.fd >= 0);
    bind_fake(topology, topology_lcore(topology, -1, TOPOLOGY_SLEEP), &fake, "port", 1);
    start(topology);
    uint64_t best_ns = UINT64_MAX;
    for (uint32_t i = 0; i < 50; i++) {
        pause_ms(5); // sleeps at its longest by now
        const uint64_t one = 1, sent_ns = read_clock();
        fake.heard_ns = 0;
        assert_int_equal(write(fake.fd, &one, sizeof one), sizeof one);
        for (uint32_t k = 0; k < 5000 && fake.heard_ns == 0; k++) pause_ms(1);
        assert_true(fake.heard_ns != 0);
        if (fake.heard_ns - sent_ns < best_ns) best_ns = fake.heard_ns - sent_ns;
    }
    topology_stop(topology);
    // Woken, not timed out: 50 times by chance would be a wake-up within the first fifth each.
    assert_true(best_ns < TOPOLOGY_SLEEP_MAX_NS / 5);
    close(fake.fd);
    topology_destroy(topology);
}

static void busy_rounds_do_not_idle(void **state) {
    (void)state;
    struct topology *topology = topology_create();
    struct fake fake = {.fd = -1, .work = 1};
    bind_fake(topology, topology_lcore(topology, -1, TOPOLOGY_SLEEP), &fake, "port", 1);
    start(topology);
    wait_polls(&fake, 10000);
    topology_stop(topology);
    assert_int_equal(topology_counter(topology, 0, TOPOLOGY_COUNT_EMPTY), 0);
    assert_int_equal(topology_counter(topology, 0, TOPOLOGY_COUNT_SLEEPS), 0);
    topology_destroy(topology);
}

static _Atomic uint32_t prepared;
static void prepare(void) {
    prepared++;
}

static void threads_are_prepared_and_the_table_is_bounded(void **state) {
    (void)state;
    struct topology *topology = topology_create();
    static struct fake fakes[TOPOLOGY_STAGES_MAX];
    prepared = 0;
    topology_on_start(topology, prepare);
    for (uint32_t i = 0; i < TOPOLOGY_LCORES_MAX; i++) {
        fakes[i] = (struct fake){.fd = -1};
        int lcore = topology_lcore(topology, -1, TOPOLOGY_SLEEP);
        assert_int_equal(lcore, i);
        bind_fake(topology, lcore, &fakes[i], "port", (uint16_t)(i + 1));
    }
    assert_true(topology_lcore(topology, -1, TOPOLOGY_SLEEP) < 0);
    const struct topology_stage more = {.name = "port"};
    assert_false(topology_bind(topology, 0, &more));
    start(topology);
    for (uint32_t i = 0; i < TOPOLOGY_LCORES_MAX; i++) wait_polls(&fakes[i], 10);
    topology_stop(topology);
    assert_int_equal(prepared, TOPOLOGY_LCORES_MAX);
    for (uint32_t i = 0; i < TOPOLOGY_LCORES_MAX; i++) check_sane(&fakes[i]);
    topology_destroy(topology);
}

static void isolated_cpus_are_read(void **state) {
    (void)state;
    assert_false(topology_cpu_isolated(0, ""));
    assert_false(topology_cpu_isolated(0, "\n"));
    assert_true(topology_cpu_isolated(3, "3\n"));
    assert_false(topology_cpu_isolated(2, "3-5,9\n"));
    assert_true(topology_cpu_isolated(3, "3-5,9\n"));
    assert_true(topology_cpu_isolated(5, "3-5,9\n"));
    assert_false(topology_cpu_isolated(6, "3-5,9\n"));
    assert_true(topology_cpu_isolated(9, "3-5,9\n"));
    assert_false(topology_cpu_isolated(10, "3-5,9-\n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_on_one_thread_share_a_clock_reading),
        cmocka_unit_test(stages_with_a_cpu_run_there),
        cmocka_unit_test(a_cpu_that_is_not_there_is_told),
        cmocka_unit_test(one_failed_node_does_not_stop_the_others),
        cmocka_unit_test(sleeping_is_cheap),
        cmocka_unit_test(who_sleeps_hears_its_descriptor),
        cmocka_unit_test(busy_rounds_do_not_idle),
        cmocka_unit_test(threads_are_prepared_and_the_table_is_bounded),
        cmocka_unit_test(isolated_cpus_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
