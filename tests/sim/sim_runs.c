// See sim_runs.h. Workers take seeds from a counter in shared memory, a seed at a time, and keep
// their sums there; who watches adds them up, tells how far it is, and replaces a worker that died.
#include "sim_runs.h"

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX  256u
#define EVENTS_OF 5u // so many failures are told with their last events, the rest in a line each
#define WATCH_NS  (100 * SIM_MS)

struct shared {
    _Atomic uint64_t next; // seed to be taken, counted from the first
    _Atomic uint32_t told;
    struct worker {
        pid_t pid;     // 0: has ended
        uint64_t seed; // alive now
        struct sim_tally tally;
    } workers[JOBS_MAX];
};

void sim_print_command(const struct sim_options *options) {
    printf("sim --seed %" PRIu64, options->seed);
    if (options->faulty_ns != SIM_FAULTY_NS)
        printf(" --faulty %" PRIu64, (uint64_t)(options->faulty_ns / SIM_MS));
    if (options->calm_ns != SIM_CALM_NS)
        printf(" --calm %" PRIu64, (uint64_t)(options->calm_ns / SIM_MS));
    if (options->nodes != 0) printf(" --nodes %u", options->nodes);
    if (options->clients != 0) printf(" --clients %u", options->clients);
    const char *before = " --without ";
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        if (!(options->without >> i & 1u)) continue;
        printf("%s%s", before, sim_fault_kinds[i].name);
        before = ",";
    }
    if (options->check_wake) printf(" --check-wake");
}

static void tell(const struct sim *sim, bool events) {
    printf("seed %" PRIu64 " breaks a rule at %.6f s: %s\n", sim->options.seed,
           (double)sim->now_ns / 1e9, sim->broken_rule);
    if (events && !sim->options.verbose) sim_print_events(sim);
    printf("replay: ");
    sim_print_command(&sim->options);
    printf(" --verbose\n");
    (void)fflush(stdout); // whole, beside what other workers tell
}

// Sums, but for what is the largest of all.
static void add_stats(struct sim_stats *sum, const struct sim_stats *one) {
    uint64_t slowest_ms = one->slowest_ms > sum->slowest_ms ? one->slowest_ms : sum->slowest_ms;
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)one;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) to[i] += from[i];
    sum->slowest_ms = slowest_ms;
}

bool sim_run_one(struct sim *sim, const struct sim_options *options, struct sim_tally *tally,
                 uint64_t *hash, bool events) {
    bool well = sim_live(sim, options);
    add_stats(&tally->stats, &sim->stats);
    tally->lives++;
    tally->broken += !well;
    tally->simulated_ns += sim->now_ns;
    tally->polls += sim->loop.polls;
    tally->idle_polls += sim->loop.idle_polls;
    *hash = sim->trace_hash;
    if (!well) tell(sim, events);
    return well;
}

// Again, and it must be the same life: nothing but the seed decides. With --check-wake the first
// one is lived without.
static void live_again(struct sim *sim, struct sim_options options, struct sim_tally *tally,
                       uint64_t hash) {
    options.check_wake = options.verbose = false;
    (void)sim_live(sim, &options);
    if (sim->trace_hash == hash) return;
    tally->broken++;
    printf("seed %" PRIu64 " is not the same life twice: trace %016" PRIx64 ", then %016" PRIx64
           "\n",
           options.seed, hash, sim->trace_hash);
    (void)fflush(stdout);
}

static void work(const struct sim_plan *plan, struct shared *shared, struct worker *worker) {
    struct sim *sim = calloc(1, sizeof *sim);
    struct sim_options options = plan->options;
    for (uint64_t i; (i = atomic_fetch_add(&shared->next, 1)) < plan->count;) {
        uint64_t hash;
        options.seed = worker->seed = plan->from + i;
        bool events = atomic_load(&shared->told) < EVENTS_OF;
        if (!sim_run_one(sim, &options, &worker->tally, &hash, events))
            atomic_fetch_add(&shared->told, 1);
        if (plan->twice || options.check_wake) live_again(sim, options, &worker->tally, hash);
        if (plan->hashes) printf("%" PRIu64 " %016" PRIx64 "\n", options.seed, hash);
    }
    free(sim);
}

static void start(const struct sim_plan *plan, struct shared *shared, struct worker *worker) {
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid != 0) {
        worker->pid = pid;
        return;
    }
    work(plan, shared, worker);
    (void)fflush(stdout);
    _exit(0);
}

static void add(struct sim_tally *sum, const struct sim_tally *one) {
    struct sim_stats stats = sum->stats;
    const uint64_t *from = (const uint64_t *)one;
    uint64_t *to = (uint64_t *)sum;
    add_stats(&stats, &one->stats);
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) to[i] += from[i];
    sum->stats = stats;
}
static_assert(sizeof(struct sim_tally) % sizeof(uint64_t) == 0, "sums of numbers only");

static void died(const struct sim_plan *plan, struct worker *worker, int status) {
    struct sim_options options = plan->options;
    options.seed = worker->seed;
    worker->tally.lives++;
    worker->tally.broken++;
    printf("seed %" PRIu64 " ends the program: %s\nreplay: ", options.seed,
           WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit");
    sim_print_command(&options);
    printf("\n");
}

static void progress(const struct sim_plan *plan, const struct shared *shared, double seconds) {
    struct sim_tally sum = {0};
    for (uint32_t i = 0; i < plan->jobs; i++) add(&sum, &shared->workers[i].tally);
    fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " lives, %.0f a second, %" PRIu64 " broken ",
            sum.lives, plan->count, (double)sum.lives / seconds, sum.broken);
}

void sim_run_all(const struct sim_plan *plan, struct sim_tally *sum) {
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(shared != MAP_FAILED && plan->jobs <= JOBS_MAX);
    bool watched = isatty(STDERR_FILENO) && !plan->options.verbose;
    uint32_t running = plan->jobs;
    for (uint32_t i = 0; i < plan->jobs; i++) start(plan, shared, &shared->workers[i]);
    for (double seconds = 0.1; running > 0; seconds += 0.1) {
        struct timespec nap = {.tv_nsec = WATCH_NS};
        for (uint32_t i = 0; i < plan->jobs; i++) {
            struct worker *worker = &shared->workers[i];
            int status;
            if (worker->pid == 0 || waitpid(worker->pid, &status, WNOHANG) != worker->pid) continue;
            worker->pid = 0;
            if (status != 0) {
                died(plan, worker, status);
                start(plan, shared, worker);
            } else {
                running--;
            }
        }
        if (watched) progress(plan, shared, seconds);
        if (running > 0) nanosleep(&nap, NULL);
    }
    if (watched) fprintf(stderr, "\r%60s\r", "");
    for (uint32_t i = 0; i < plan->jobs; i++) add(sum, &shared->workers[i].tally);
    munmap(shared, sizeof *shared);
}
