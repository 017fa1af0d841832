// sim: runs lives of a simulated cluster and says what happened.
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "scenario.h"

static const char help[] =
    "usage: sim [--seed S | --seeds N [--from S]] [options]\n"
    "Runs whole clusters of production code over a simulated network, disk and clock.\n\n"
    "  --seed S       one life, run twice: both must leave the same trace hash\n"
    "  --seeds N      N lives (default 20)\n"
    "  --from S       first seed (default 1)\n"
    "  --faulty MS    simulated milliseconds with faults (default 4000)\n"
    "  --calm MS      and without, at the end, when progress is demanded (default 6000)\n"
    "  --verbose      print what happens, in order\n"
    "  --scenarios    play every published bug that there is a scenario for; exit status 1 if one\n"
    "                 breaks its rule\n"
    "  --scenario NAME  one of them; with --verbose in order\n\n"
    "examples: sim --seeds 200\n"
    "          sim --seed 17 --verbose\n"
    "          sim --scenario vote-before-durable --verbose\n";

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void add(struct sim_stats *sum, const struct sim_stats *one) {
    const uint64_t *from = (const uint64_t *)one;
    uint64_t *to = (uint64_t *)sum;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) to[i] += from[i];
}

static void print_summary(const struct sim_stats *s, uint64_t lives, double simulated_s,
                          double real_s) {
#ifdef SIM_MUTANT
    printf("MUTANT     %s: a bug is planted in this build, see tests/mutants\n", SIM_MUTANT);
#endif
    printf("lives      %" PRIu64 ", %.0f s simulated in %.1f s: %.0f x real time\n", lives,
           simulated_s, real_s, simulated_s / real_s);
    printf("network    %" PRIu64 " datagrams: %" PRIu64 " lost, %" PRIu64 " doubled, %" PRIu64
           " late, %" PRIu64 " damaged, %" PRIu64 " cut off\n",
           s->datagrams, s->lost, s->doubled, s->delayed, s->flipped, s->cut);
    printf("disk       %" PRIu64 " writes, %" PRIu64 " sectors lost in crashes, %" PRIu64
           " writes without room on %" PRIu64 " full disks\n",
           s->writes, s->sectors_torn, s->no_space, s->full_disks);
    printf("machines   %" PRIu64 " crashes (%" PRIu64 " after a promise, %" PRIu64
           " times all at once), %" PRIu64 " restarts, %" PRIu64 " pauses, %" PRIu64
           " partitions\n",
           s->crashes, s->ambushes, s->all_down, s->restarts, s->pauses, s->partitions);
    printf("cluster    %" PRIu64 " elections, %" PRIu64 " entries applied\n", s->elections,
           s->applied);
    printf("clients    %" PRIu64 " acquires: %" PRIu64 " granted, %" PRIu64 " refused, %" PRIu64
           " unknown; %" PRIu64 " releases, %" PRIu64 " leases lost; %" PRIu64 " reads\n",
           s->requests, s->grants, s->refused, s->unknown, s->releases, s->lost_leases, s->reads);
}

static bool run(struct sim *sim, const struct sim_options *options) {
    if (sim_live(sim, options)) return true;
    printf("seed %" PRIu64 " breaks a rule at %.6f s: %s\nreplay: sim --seed %" PRIu64
           " --verbose --faulty %" PRIu64 " --calm %" PRIu64 "\n",
           options->seed, (double)sim->now_ns / 1e9, sim->broken_rule, options->seed,
           (uint64_t)(options->faulty_ns / SIM_MS), (uint64_t)(options->calm_ns / SIM_MS));
    return false;
}

int main(int argc, char **argv) {
    int played = scenario_arguments(argc, argv);
    if (played >= 0) return played;
    struct sim_options options = {.seed = 1, .faulty_ns = 4000 * SIM_MS, .calm_ns = 6000 * SIM_MS};
    uint64_t lives = 20;
    bool twice = false;
    static const struct option names[] = {
        {"seed", required_argument, NULL, 's'}, {"seeds", required_argument, NULL, 'n'},
        {"from", required_argument, NULL, 'f'}, {"faulty", required_argument, NULL, 'F'},
        {"calm", required_argument, NULL, 'C'}, {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},       {0}};
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (o) {
        case 's':
            options.seed = strtoull(optarg, NULL, 10), lives = 1, twice = true;
            break;
        case 'n':
            lives = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            options.seed = strtoull(optarg, NULL, 10);
            break;
        case 'F':
            options.faulty_ns = strtoull(optarg, NULL, 10) * SIM_MS;
            break;
        case 'C':
            options.calm_ns = strtoull(optarg, NULL, 10) * SIM_MS;
            break;
        case 'v':
            options.verbose = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            fputs(help, stderr);
            return 2;
        }
    }
    struct sim *sim = calloc(1, sizeof *sim);
    struct sim_stats sum = {0};
    double began = seconds_now(), simulated = 0;
    uint64_t broken = 0, first = options.seed;
    for (uint64_t i = 0; i < lives; i++) {
        options.seed = first + i;
        broken += !run(sim, &options);
        add(&sum, &sim->stats);
        simulated += (double)sim->now_ns / 1e9;
        if (isatty(STDERR_FILENO) && !options.verbose)
            fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " lives, %" PRIu64 " broken ", i + 1, lives,
                    broken);
    }
    uint64_t hash = sim->trace_hash;
    if (isatty(STDERR_FILENO) && !options.verbose) fprintf(stderr, "\r%40s\r", "");
    print_summary(&sum, lives, simulated, seconds_now() - began);
    if (twice) {
        options.verbose = false;
        (void)sim_live(sim, &options);
        printf("trace      %016" PRIx64 ", again %016" PRIx64 "\n", hash, sim->trace_hash);
        broken += hash != sim->trace_hash;
    }
    free(sim);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", lives - (broken > lives ? lives : broken),
           broken);
    return broken != 0;
}
