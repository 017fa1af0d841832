// Makes a life that breaks a rule smaller: less time with faults, fewer kinds of them, fewer nodes
// and clients, as long as the same rule breaks. Less of something is another life, so each attempt
// is given a few seeds. Goes round until nothing more can be left out.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sim_runs.h"

#define SHRINK_SEEDS 8u

struct shrink {
    struct sim *sim;
    const char *kind;        // of the rule
    struct sim_options best; // that breaks it
    uint64_t broken_ns;      // when
    uint64_t attempts;
};

// Keeps `less` if the rule breaks there too.
static bool attempt(struct shrink *s, struct sim_options less) {
    uint64_t seed = s->best.seed;
    for (uint32_t i = 0; i < SHRINK_SEEDS; i++) {
        less.seed = seed + i;
        s->attempts++;
        if (sim_live(s->sim, &less) || strcmp(s->sim->broken_kind, s->kind) != 0) continue;
        s->best = less;
        s->broken_ns = s->sim->now_ns;
        return true;
    }
    return false;
}

static bool shorten(struct shrink *s) {
    struct sim_options less = s->best;
    uint64_t step_ns = 10 * SIM_MS;
    // What broke while faults were loose breaks without what comes after.
    uint64_t until_ns = (s->broken_ns / step_ns + 1) * step_ns;
    if (until_ns < less.faulty_ns) {
        less.faulty_ns = until_ns;
        if (attempt(s, less)) return true;
    }
    static const uint32_t percent[] = {25, 50, 75, 90};
    for (uint32_t i = 0; i < sizeof percent / sizeof percent[0]; i++) {
        less = s->best;
        less.faulty_ns = less.faulty_ns * percent[i] / 100 / step_ns * step_ns;
        if (less.faulty_ns != s->best.faulty_ns && attempt(s, less)) return true;
    }
    less = s->best;
    less.calm_ns = 2000 * SIM_MS;
    return s->best.calm_ns > less.calm_ns && s->broken_ns < less.faulty_ns + less.calm_ns &&
           attempt(s, less);
}

static bool switch_off(struct shrink *s) {
    bool any = false;
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        struct sim_options less = s->best;
        less.without |= 1ull << i;
        if (less.without != s->best.without && attempt(s, less)) any = true;
    }
    return any;
}

static bool thin_out(struct shrink *s, uint32_t nodes, uint32_t clients) {
    bool any = false;
    for (uint32_t n = 1; n < nodes; n += 2) {
        struct sim_options less = s->best;
        less.nodes = n;
        if (less.nodes == s->best.nodes || !attempt(s, less)) continue;
        any = true;
        break;
    }
    for (uint32_t n = 1; n < clients; n++) {
        struct sim_options less = s->best;
        less.clients = n;
        if (less.clients == s->best.clients || !attempt(s, less)) continue;
        any = true;
        break;
    }
    return any;
}

bool sim_shrink(struct sim *sim, const struct sim_options *options) {
    struct shrink s = {.sim = sim, .best = *options};
    s.best.verbose = false;
    if (sim_live(sim, &s.best)) return false;
    s.kind = sim->broken_kind;
    s.broken_ns = sim->now_ns;
    printf("seed %" PRIu64 " breaks: %s\n", options->seed, sim->broken_rule);
    for (bool any = true; any;) {
        any = shorten(&s);
        any |= switch_off(&s);
        uint32_t nodes = s.best.nodes != 0 ? s.best.nodes : SIM_NODES_MAX + 1;
        uint32_t clients = s.best.clients != 0 ? s.best.clients : SIM_CLIENTS_MAX + 1;
        any |= thin_out(&s, nodes, clients);
    }
    (void)sim_live(sim, &s.best);
    printf("after %" PRIu64 " lives, the smallest that breaks it, at %.6f s: %s\n", s.attempts,
           (double)sim->now_ns / 1e9, sim->broken_rule);
    sim_print_events(sim);
    sim_print_command(&s.best);
    printf("\n");
    return true;
}
