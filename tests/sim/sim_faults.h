// Every kind of fault a life can meet, in one table: its name (for --without and the summary), what
// its rate counts, and how often it struck. See sim_faults.c for how they are drawn.
#ifndef CONCLAVE_SIM_FAULTS_H
#define CONCLAVE_SIM_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

enum sim_fault {
    SIM_LOSS,
    SIM_DUPLICATE,
    SIM_DELAY, // overtaken by others
    SIM_FLIP,
    SIM_REPLAY, // of a datagram from seconds ago, whoever has restarted since
    SIM_CUT_FULL,
    SIM_CUT_PARTIAL,
    SIM_CUT_ONE_WAY,
    SIM_CUT_CLIENTS,
    SIM_CRASH,
    SIM_POWER, // all machines at once
    SIM_AMBUSH_VOTE,
    SIM_AMBUSH_ACK,
    SIM_AMBUSH_ANSWER,
    SIM_PAUSE,
    SIM_PAUSE_STAGE,
    SIM_FLOOD, // more requests at once than a node has packets for
    SIM_DRIFT,
    SIM_JUMP,
    SIM_FULL,
    SIM_SLOW,
    SIM_STALL,
    SIM_EIO_WRITE,
    SIM_EIO_READ,
    SIM_ROT,
    SIM_MISDIRECT,
    SIM_DEATH,
    SIM_SUSPEND,
    SIM_SUSPEND_CLOCK, // and the client's clock did not see it
    SIM_MISCHIEF,      // of clients: sim_mischief.c
    SIM_FAULTS
};

enum sim_per {        // what a rate counts
    SIM_PER_DATAGRAM, // a million of them
    SIM_PER_TIME,     // 1,000 simulated seconds of the whole cluster
    SIM_PER_PROMISE,  // a million votes, acknowledgements or answers
    SIM_PER_IO,       // a million writes or reads of one disk
    SIM_PER_MACHINE,  // a million machines, for their whole life
    SIM_PER_REQUEST   // a million that clients think of
};

struct sim_fault_kind {
    const char *name;
    const char *what; // is counted
    enum sim_per per;
    uint32_t on_percent; // of lives that meet it
    uint32_t rate_max;
};
extern const struct sim_fault_kind sim_fault_kinds[SIM_FAULTS];

struct sim;
struct sim_machine;

struct sim_faults {
    uint32_t rate[SIM_FAULTS];    // of this life, 0: never
    uint64_t next_ns[SIM_FAULTS]; // SIM_PER_TIME: when it strikes next
    bool beyond;                  // damage may lie anywhere: see the atlas in sim_faults.c
    uint32_t unlucky;             // bit i: the disk of machines[i] may be damaged
    bool all_ambushed;            // an answer has just left: all machines lose power
    uint64_t cut_until_ns;        // 0: no link is cut
    struct {                      // see begin_plot()
        uint64_t due_ns;          // 0: none
        struct sim_machine *damaged, *late;
        bool rot;
    } plot;
    // A node's clock has jumped: leases say nothing from then until then.
    uint64_t doubt_from_ns, doubt_ns;
};

// Bit of the kind in sim_options.without, 0 for a name that is none.
uint64_t sim_fault_bit(const char *name);
void sim_faults_draw(struct sim *sim);
void sim_faults_draw_atlas(struct sim *sim); // the number of nodes is settled
void sim_faults_step(struct sim *sim);
void sim_faults_heal(struct sim *sim);
// True, and counted, if this kind strikes now. For rates per datagram, promise, I/O and machine.
bool sim_strikes(struct sim *sim, enum sim_fault fault);
// The same for what destroys data: it strikes only where the atlas allows it.
bool sim_damages(struct sim *sim, const struct sim_machine *machine, enum sim_fault fault);
// It has struck: nobody sees it before the node starts again, so that half of them do soon.
void sim_damage_done(struct sim *sim, struct sim_machine *machine);

// Power off. False where the atlas forbids it now.
bool sim_crash(struct sim *sim, struct sim_machine *machine);
// The node has stopped by itself, or does not start: judged, and left to its operator.
void sim_stopped(struct sim *sim, struct sim_machine *machine, const char *reason);
// In memory, a majority must keep its log: what fewer hold is not promised to outlive anything.
bool sim_can_be_lost(const struct sim *sim, const struct sim_machine *machine);

#endif
