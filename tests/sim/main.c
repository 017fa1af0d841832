// sim: runs lives of a simulated cluster and says what happened.
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sim_internal.h"

static const char help[] =
    "usage: sim [--seed S | --seeds N [--from S]] [options]\n"
    "Runs whole clusters of production code over a simulated network, disk and clock.\n\n"
    "  --seed S       one life, run twice: both must leave the same trace hash\n"
    "  --seeds N      N lives (default 20)\n"
    "  --from S       first seed (default 1)\n"
    "  --faulty MS    simulated milliseconds with faults (default 4000)\n"
    "  --calm MS      and without, at the end, when progress is demanded (default 6000)\n"
    "  --regressions FILE  the seeds named in it, one a line\n"
    "  --without A,B  switches these faults off; the summary names all\n"
    "  --verbose      print what happens, in order\n\n"
    "examples: sim --seeds 200\n"
    "          sim --seed 17 --verbose\n";

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void add(struct sim_stats *sum, const struct sim_stats *one) {
    const uint64_t *from = (const uint64_t *)one;
    uint64_t *to = (uint64_t *)sum;
    uint64_t slowest_ms = one->slowest_ms > sum->slowest_ms ? one->slowest_ms : sum->slowest_ms;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) to[i] += from[i];
    sum->slowest_ms = slowest_ms;
}

static void print_summary(const struct sim_stats *s, uint64_t lives, double simulated_s,
                          double real_s) {
    printf("lives      %" PRIu64 ", %.0f s simulated in %.1f s: %.0f x real time\n", lives,
           simulated_s, real_s, simulated_s / real_s);
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
}

static bool run(struct sim *sim, const struct sim_options *options) {
    if (sim_live(sim, options)) return true;
    printf("seed %" PRIu64 " breaks a rule at %.6f s: %s\nreplay: sim --seed %" PRIu64
           " --verbose --faulty %" PRIu64 " --calm %" PRIu64 "\n",
           options->seed, (double)sim->now_ns / 1e9, sim->broken_rule, options->seed,
           (uint64_t)(options->faulty_ns / SIM_MS), (uint64_t)(options->calm_ns / SIM_MS));
    return false;
}

// Lines that begin with a number; the rest of them says what broke then.
static bool next_seed(FILE *seeds, uint64_t *seed) {
    char line[256];
    while (fgets(line, sizeof line, seeds) != NULL)
        if (sscanf(line, "%" SCNu64, seed) == 1) return true;
    fclose(seeds);
    return false;
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

struct order { // what is asked for
    struct sim_options options;
    uint64_t lives;
    bool twice;
    FILE *seeds; // NULL: counted on from the first
};

// Exit status, or -1: go on.
static int parse(int argc, char **argv, struct order *order) {
    static const struct option names[] = {{"seed", required_argument, NULL, 's'},
                                          {"seeds", required_argument, NULL, 'n'},
                                          {"from", required_argument, NULL, 'f'},
                                          {"faulty", required_argument, NULL, 'F'},
                                          {"calm", required_argument, NULL, 'C'},
                                          {"without", required_argument, NULL, 'W'},
                                          {"regressions", required_argument, NULL, 'R'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    struct sim_options *options = &order->options;
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (o) {
        case 's':
            options->seed = strtoull(optarg, NULL, 10), order->lives = 1, order->twice = true;
            break;
        case 'n':
            order->lives = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            options->seed = strtoull(optarg, NULL, 10);
            break;
        case 'F':
            options->faulty_ns = strtoull(optarg, NULL, 10) * SIM_MS;
            break;
        case 'C':
            options->calm_ns = strtoull(optarg, NULL, 10) * SIM_MS;
            break;
        case 'W':
            if (!parse_without(optarg, &options->without)) return 2;
            break;
        case 'R':
            if ((order->seeds = fopen(optarg, "r")) == NULL) {
                fprintf(stderr, "sim: cannot read %s\n", optarg);
                return 2;
            }
            order->lives = UINT64_MAX;
            break;
        case 'v':
            options->verbose = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            fputs(help, stderr);
            return 2;
        }
    }
    return -1;
}

int main(int argc, char **argv) {
    struct order order = {
        .options = {.seed = 1, .faulty_ns = 4000 * SIM_MS, .calm_ns = 6000 * SIM_MS}, .lives = 20};
    int status = parse(argc, argv, &order);
    if (status >= 0) return status;
    struct sim_options options = order.options;
    uint64_t lives = order.lives;
    struct sim *sim = calloc(1, sizeof *sim);
    struct sim_stats sum = {0};
    double began = seconds_now(), simulated = 0;
    uint64_t broken = 0, first = options.seed;
    for (uint64_t i = 0; i < lives; i++) {
        options.seed = first + i;
        if (order.seeds != NULL && !next_seed(order.seeds, &options.seed)) lives = i;
        if (i == lives) break;
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
    if (order.twice) {
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
