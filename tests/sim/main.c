// sim: runs lives of a simulated cluster and says what happened.
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "scenario.h"
#include "sim_runs.h"

static const char help[] =
    "usage: sim [--seed S | --seeds N [--from S] [--jobs J]] [options]\n"
    "Runs whole clusters of production code over a simulated network, disk and clock.\n\n"
    "  --seed S       one life, lived twice: both must leave the same trace hash\n"
    "  --shrink       of --seed S, which breaks a rule: the smallest life that breaks it too\n"
    "  --seeds N      N lives (default 20)\n"
    "  --from S       first seed (default 1)\n"
    "  --jobs J       on so many cores (default 1)\n"
    "  --twice        each of them twice\n"
    "  --hashes       print the trace hash of each\n"
    "  --faulty MS    simulated milliseconds with faults (default 4000)\n"
    "  --calm MS      and without, at the end, when progress is demanded (default 6000)\n"
    "  --nodes N, --clients N   so many, instead of as drawn from the seed\n"
    "  --without A,B  switches these faults off; `--without help` names all\n"
    "  --check-wake   polls all who are not due: they must do nothing\n"
    "  --regressions FILE  the seeds named in it, one a line\n"
    "  --history FILE write what clients asked and were told, as JSON lines (one life)\n"
    "  --verbose      print what happens, in order\n"
    "  --scenarios    play every published bug that there is a scenario for; exit status 1 if one\n"
    "                 breaks its rule\n"
    "  --scenario NAME  one of them; with --verbose in order\n\n"
    "examples: sim --seeds 2000 --jobs 2\n"
    "          sim --seed 17 --verbose\n"
    "          sim --scenario vote-before-durable --verbose\n";

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds_busy(void) { // of all cores
    struct rusage own, workers;
    getrusage(RUSAGE_SELF, &own);
    getrusage(RUSAGE_CHILDREN, &workers);
    return (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec + workers.ru_utime.tv_sec +
                    workers.ru_stime.tv_sec) +
           (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec + workers.ru_utime.tv_usec +
                    workers.ru_stime.tv_usec) /
               1e6;
}

static void print_summary(const struct sim_stats *s, uint64_t lives, double simulated_s,
                          double real_s, double busy_s) {
#ifdef SIM_MUTANT
    printf("MUTANT     %s: a bug is planted in this build, see tests/mutants\n", SIM_MUTANT);
#endif
    printf("lives      %" PRIu64 " in %.1f s, %.0f s simulated: %.0f x real time; "
           "per second of a core %.0f x real time, %.0f lives\n",
           lives, real_s, simulated_s, simulated_s / real_s, simulated_s / busy_s,
           (double)lives / busy_s);
    printf("world      %" PRIu64 " datagrams, %" PRIu64 " on links that were cut; %" PRIu64
           " disk writes, %" PRIu64 " without room, %" PRIu64 " sectors lost in crashes\n",
           s->datagrams, s->cut_off, s->writes, s->no_space, s->sectors_torn);
    printf("faults  ");
    for (uint32_t i = 0; i < SIM_FAULTS; i++)
        printf("%s%10" PRIu64 " %-13s %-29s", i % 2 == 0 ? "\n" : "", s->faults[i],
               sim_fault_kinds[i].name, sim_fault_kinds[i].what);
    printf("\nnodes      %" PRIu64 " restarts, %" PRIu64 " stops, %" PRIu64
           " refused to start, %" PRIu64 " times not whole at start, %" PRIu64
           " crashes spared, %" PRIu64 " plots; %" PRIu64 " busy answers\n",
           s->restarts, s->stops, s->refused_starts, s->recoveries, s->spared, s->plots, s->busy);
    printf("atlas      %" PRIu64 " lives beyond budget, %" PRIu64
           " of them halted; slowest client %" PRIu64 " ms after healing\n",
           s->beyond, s->halted, s->slowest_ms);
    printf("cluster    %" PRIu64 " elections, %" PRIu64 " entries applied\n", s->elections,
           s->applied);
    printf("clients    %" PRIu64 " acquires: %" PRIu64 " granted, %" PRIu64 " refused, %" PRIu64
           " unknown; %" PRIu64 " releases, %" PRIu64 " leases lost; %" PRIu64 " reads\n",
           s->requests, s->grants, s->refused, s->unknown, s->releases, s->lost_leases, s->reads);
    printf("checked    %" PRIu64 " operations in the order of the log (%" PRIu64 " not), %" PRIu64
           " by search (%" PRIu64 " not); %" PRIu64 " acts of mischief; %" PRIu64
           " histories cut\n",
           s->checked, s->unchecked, s->searched, s->not_searched, s->mischief, s->histories_cut);
}

static bool parse_without(char *names, uint64_t *without) {
    for (char *name = strtok(names, ","); name != NULL; name = strtok(NULL, ",")) {
        *without |= sim_fault_bit(name);
        if (sim_fault_bit(name) != 0) continue;
        fprintf(stderr, "sim: there is no fault called '%s'; these are:", name);
        for (uint32_t i = 0; i < SIM_FAULTS; i++) fprintf(stderr, " %s", sim_fault_kinds[i].name);
        fprintf(stderr, "\n");
        return false;
    }
    return true;
}

enum mode { MODE_MANY, MODE_ONE, MODE_SHRINK, MODE_LIST };

// Options that are a number.
static bool take_number(int o, uint64_t number, struct sim_plan *plan) {
    struct sim_options *options = &plan->options;
    switch (o) {
    case 'n':
        plan->count = number;
        return true;
    case 'f':
        plan->from = number;
        return true;
    case 'j':
        plan->jobs = number >= 1 && number <= 256 ? (uint32_t)number : 1;
        return true;
    case 'F':
        options->faulty_ns = number * SIM_MS;
        return true;
    case 'C':
        options->calm_ns = number * SIM_MS;
        return true;
    case 'N':
        options->nodes = number <= SIM_NODES_MAX ? (uint32_t)number : SIM_NODES_MAX;
        return true;
    case 'c':
        options->clients = number <= SIM_CLIENTS_MAX ? (uint32_t)number : SIM_CLIENTS_MAX;
        return true;
    default:
        return false;
    }
}

static const struct option names[] = {
    {"seed", required_argument, NULL, 's'},    {"seeds", required_argument, NULL, 'n'},
    {"from", required_argument, NULL, 'f'},    {"jobs", required_argument, NULL, 'j'},
    {"faulty", required_argument, NULL, 'F'},  {"calm", required_argument, NULL, 'C'},
    {"without", required_argument, NULL, 'W'}, {"nodes", required_argument, NULL, 'N'},
    {"clients", required_argument, NULL, 'c'}, {"check-wake", no_argument, NULL, 'w'},
    {"twice", no_argument, NULL, 't'},         {"hashes", no_argument, NULL, 'H'},
    {"shrink", no_argument, NULL, 'S'},        {"verbose", no_argument, NULL, 'v'},
    {"history", required_argument, NULL, 'y'}, {"regressions", required_argument, NULL, 'R'},
    {"help", no_argument, NULL, 'h'},          {0}};

static bool parse(int argc, char **argv, struct sim_plan *plan, enum mode *mode, FILE **seeds) {
    struct sim_options *options = &plan->options;
    bool shrink = false;
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        uint64_t number = optarg != NULL ? strtoull(optarg, NULL, 10) : 0;
        if (take_number(o, number, plan)) continue;
        switch (o) {
        case 's':
            options->seed = number, *mode = MODE_ONE;
            break;
        case 'W':
            if (!parse_without(optarg, &options->without)) return false;
            break;
        case 'w':
            options->check_wake = true;
            break;
        case 't':
            plan->twice = true;
            break;
        case 'H':
            plan->hashes = true;
            break;
        case 'S':
            shrink = true;
            break;
        case 'R':
            *mode = MODE_LIST;
            *seeds = fopen(optarg, "r");
            if (*seeds != NULL) break;
            fprintf(stderr, "sim: cannot read %s\n", optarg);
            return false;
        case 'y':
            options->history = optarg;
            break;
        case 'v':
            options->verbose = true;
            break;
        case 'h':
            fputs(help, stdout);
            exit(0);
        default:
            fputs(help, stderr);
            return false;
        }
    }
    if (shrink) *mode = MODE_SHRINK;
    return true;
}

// In this process, for a debugger's sake. Lived twice.
static void run_one(const struct sim_options *options, struct sim_tally *tally) {
    struct sim *sim = calloc(1, sizeof *sim);
    struct sim_options again = *options;
    uint64_t hash;
    (void)sim_run_one(sim, options, tally, &hash, true);
    again.verbose = again.check_wake = false;
    again.history = NULL;
    (void)sim_live(sim, &again);
    printf("trace      %016" PRIx64 ", again %016" PRIx64 "\n", hash, sim->trace_hash);
    tally->broken += hash != sim->trace_hash;
    free(sim);
}

// Lines that begin with a number; the rest of them says what broke then.
static void run_list(const struct sim_options *options, FILE *seeds, struct sim_tally *tally) {
    struct sim *sim = calloc(1, sizeof *sim);
    struct sim_options one = *options;
    char line[256];
    uint64_t hash;
    while (fgets(line, sizeof line, seeds) != NULL)
        if (sscanf(line, "%" SCNu64, &one.seed) == 1)
            (void)sim_run_one(sim, &one, tally, &hash, true);
    (void)fclose(seeds);
    free(sim);
}

static int shrink_one(const struct sim_options *options) {
    struct sim *sim = calloc(1, sizeof *sim);
    bool broken = sim_shrink(sim, options);
    if (!broken) printf("seed %" PRIu64 " breaks no rule\n", options->seed);
    free(sim);
    return broken;
}

int main(int argc, char **argv) {
    int played = scenario_arguments(argc, argv);
    if (played >= 0) return played;
    struct sim_plan plan = {
        .options = {.seed = 1, .faulty_ns = SIM_FAULTY_NS, .calm_ns = SIM_CALM_NS},
        .from = 1,
        .count = 20,
        .jobs = 1};
    enum mode mode = MODE_MANY;
    FILE *seeds = NULL;
    if (!parse(argc, argv, &plan, &mode, &seeds)) return 2;
    // Lives follow each other: what one has given back is taken by the next, without the kernel.
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    if (mode == MODE_SHRINK) return shrink_one(&plan.options);
    struct sim_tally sum = {0};
    double began = seconds_now();
    if (mode == MODE_ONE)
        run_one(&plan.options, &sum);
    else if (mode == MODE_LIST)
        run_list(&plan.options, seeds, &sum);
    else
        sim_run_all(&plan, &sum);
    if (plan.hashes) return sum.broken != 0;
    print_summary(&sum.stats, sum.lives, (double)sum.simulated_ns / 1e9, seconds_now() - began,
                  seconds_busy());
    printf("simulator  %" PRIu64 " polls", sum.polls);
    if (plan.options.check_wake)
        printf(", and %" PRIu64 " of who was not due did nothing", sum.idle_polls);
    printf("\n%" PRIu64 " passed, %" PRIu64 " failed\n",
           sum.lives - (sum.broken > sum.lives ? sum.lives : sum.broken), sum.broken);
    return sum.broken != 0;
}
