// Every kind of fault a life can meet, in one table: its name (for --without and the summary), its
// rate in this life, and how often it struck.
#ifndef CONCLAVE_SIM_FAULTS_H
#define CONCLAVE_SIM_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

enum sim_fault {
    // Per million datagrams.
    SIM_LOSS,
    SIM_DUPLICATE,
    SIM_DELAY, // overtaken by others
    SIM_FLIP,  // one bit
    // Per million steps, each of a machine where that makes sense.
    SIM_CUT,
    SIM_CRASH,
    SIM_POWER, // all machines at once
    SIM_PAUSE,
    SIM_FULL,
    SIM_DEATH, // of a client that holds what it holds
    // Per million promises: the machine loses power right after one, SIM_AMBUSH_ANSWER all of them.
    SIM_AMBUSH_VOTE,
    SIM_AMBUSH_ACK,
    SIM_AMBUSH_ANSWER,
    // Per million machines, for the whole life.
    SIM_SLOW,
    SIM_FAULTS
};

struct sim_fault_kind {
    const char *name;
    const char *what; // is counted
};
extern const struct sim_fault_kind sim_fault_kinds[SIM_FAULTS];

struct sim_faults {
    uint32_t rate[SIM_FAULTS]; // of this life, 0: never
    bool all_ambushed;         // an answer has just left: all machines lose power
    uint64_t cut_until_ns;     // 0: no link is cut
};

struct sim;
struct sim_machine;

// Bit of the kind in sim_options.without, 0 for a name that is none.
uint64_t sim_fault_bit(const char *name);
void sim_faults_draw(struct sim *sim);
void sim_faults_step(struct sim *sim);
void sim_faults_heal(struct sim *sim);
// True, and counted, if this kind strikes now.
bool sim_strikes(struct sim *sim, enum sim_fault fault);
void sim_crash(struct sim *sim, struct sim_machine *machine);

#endif
