// Many lives: on one or more cores, each life's outcome told and counted; and one life that breaks
// a rule made smaller.
#ifndef CONCLAVE_SIM_RUNS_H
#define CONCLAVE_SIM_RUNS_H

#include "sim_internal.h"

#define SIM_FAULTY_NS (4000 * SIM_MS) // unless told otherwise
#define SIM_CALM_NS   (6000 * SIM_MS)

struct sim_plan {
    struct sim_options options; // of each life but for its seed
    uint64_t from, count;       // seeds
    uint32_t jobs;
    bool twice;  // each life is lived twice and must leave the same trace hash
    bool hashes; // print each life's trace hash
};

struct sim_tally {
    uint64_t lives, broken;
    uint64_t simulated_ns;
    uint64_t polls, idle_polls;
    struct sim_stats stats;
};

// One life in this very process; false if it broke a rule, which is told. *hash of its trace.
bool sim_run_one(struct sim *sim, const struct sim_options *options, struct sim_tally *tally,
                 uint64_t *hash, bool events);
// All of the plan's, in processes of their own, so that one that crashes is counted and told too.
void sim_run_all(const struct sim_plan *plan, struct sim_tally *sum);
// Tries the life with less of everything while the same rule breaks; false if it breaks none.
bool sim_shrink(struct sim *sim, const struct sim_options *options);
// How to live this life again.
void sim_print_command(const struct sim_options *options);

#endif
