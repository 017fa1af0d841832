// The simulator's world, shared by its files.
#ifndef CONCLAVE_SIM_INTERNAL_H
#define CONCLAVE_SIM_INTERNAL_H

#include <setjmp.h>

#include "recorder.h"
#include "sim.h"

#define SIM_NAMES         4u
#define SIM_HASHES        65536u // applied index -> state hash, the newest ones
#define SIM_CLUSTER       0x51u
#define SIM_TERMS         4096u
#define SIM_ELECTION_NS   (100 * SIM_MS)
#define CLIENT_TTL_MAX_MS 2200u // of the leases that clients take

struct sim_machine { // one host with its node
    uint16_t id;
    uint64_t endpoint;
    struct disk *disk;
    struct port *port;
    struct node *node;           // NULL while down
    bool retired;                // it stays down: see the atlas in sim_faults.c
    uint64_t back_ns;            // when it restarts
    uint64_t paused_ns;          // not polled until then
    uint64_t stage_paused_ns[3]; // the same of port, consensus and wal
    uint64_t full_ns;            // its disk has no room until then, 0: it has
    uint64_t unwell_ns;          // when last something was wrong with it: sim_liveness.c
    uint64_t crash_ns;  // its disk was damaged: that is seen when it starts again; 0: not planned
    bool ambushed;      // it has just promised something: crashes now
    uint64_t doomed_ns; // since when it goes on though a durable write failed; 0: it does not
    int64_t drift_ppm;  // of its clock
    uint64_t clock_base_ns;
    uint64_t clock_last_ns;
    uint64_t checked; // index at which its state was last compared
};

// Actors: who can be polled, by number. See sim_loop.c.
#define SIM_STAGES        3u // of a node: port, consensus, wal
#define SIM_ACTOR_FAULTS  0u
#define SIM_ACTOR_READER  1u
#define SIM_ACTOR_CLIENTS 2u
#define SIM_ACTOR_NODES   (SIM_ACTOR_CLIENTS + SIM_CLIENTS_MAX)
#define SIM_ACTORS        (SIM_ACTOR_NODES + SIM_STAGES * SIM_NODES_MAX)
#define SIM_LEAVES        32u
static_assert(SIM_ACTORS <= SIM_LEAVES, "a leaf for each actor");
// How often misfortune and who watches for progress look around.
#define SIM_FAULTS_NS (1 * SIM_MS)

struct sim_loop {
    uint64_t wake_ns[SIM_ACTORS];   // when there is something to do
    uint64_t due_ns[SIM_LEAVES];    // when it is polled: a little later
    uint64_t poll_ns[SIM_ACTORS];   // how much later, usually
    uint32_t first[2 * SIM_LEAVES]; // a tree of who is due first, the winner in [1]
    uint64_t polls, idle_polls;
};

// Events remembered, for the case that a rule breaks.
#define SIM_EVENTS          30u
#define SIM_EVENT_ARGUMENTS 8u
#define SIM_EVENT_TEXTS     2u
#define SIM_EVENT_TEXT      24u
struct sim_event {
    uint64_t at_ns;
    const char *format;
    uint64_t arguments[SIM_EVENT_ARGUMENTS];     // of text: its hash
    char texts[SIM_EVENT_TEXTS][SIM_EVENT_TEXT]; // by argument, turn and turn about
};

struct sim_options {
    uint64_t seed;
    uint64_t faulty_ns; // simulated time with faults
    uint64_t calm_ns;   // and without, at the end: progress is demanded
    uint64_t without;   // faults that are switched off: see sim_fault_bit()
    uint32_t nodes;     // 0: as drawn
    uint32_t clients;   // 0: as drawn
    bool verbose;
    bool check_wake;     // who is not due does nothing
    const char *history; // file to write it to, as JSON lines; NULL: none
};

// sim_liveness.c: who can work together must work.
struct sim_liveness {
    uint64_t cut_ns[SIM_NODES_MAX][SIM_NODES_MAX]; // when last the link was cut, either way
    uint64_t commit;
    uint64_t worked_ns; // when last something was committed
    uint64_t next_ns;   // when it is looked at again
    uint64_t healed_ns;
    uint64_t progressed_ns; // every client had got through since
};

struct sim_workload; // sim_client.c
struct sim_reader;   // sim_reader.c
struct sim_logs;     // sim_logs.c

struct sim {
    struct sim_options options;
    uint64_t random;
    uint64_t now_ns;
    struct sim_loop loop;
    uint64_t trace_hash;
    struct sim_stats stats;
    struct sim_net *net;
    uint32_t node_count;
    struct sim_machine machines[SIM_NODES_MAX];
    bool memory;     // durability of this life
    bool busy;       // clients hardly rest, and the log is small: snapshots all the time
    bool resting;    // clients ask for nothing new, so that who is behind can catch up
    bool small_logs; // snapshots all the time, and nodes away for so long that they need one
    struct sim_workload *workload;
    struct sim_reader *reader;
    struct sim_logs *logs;
    struct recorder recorder;
    uint64_t sampled; // index of the newest sample of the state
    struct sim_faults faults;
    struct sim_liveness liveness;
    uint64_t answered;           // highest index of an answer that has left a node
    uint16_t leaders[SIM_TERMS]; // by term
    uint64_t event_count;
    struct sim_event events[SIM_EVENTS];
    jmp_buf broken;
    const char *broken_kind; // the same for the same rule, whatever the numbers in it
    char broken_rule[512];
    // Last, and cleared as far as it was used only.
    struct {
        uint64_t index;
        uint64_t hash;
    } hashes[SIM_HASHES];
};

// The clock of a machine: monotonic, with its own start and rate.
uint64_t sim_clock(struct sim *sim, struct sim_machine *machine);
uint64_t sim_clock_at(const struct sim_machine *machine, uint64_t at_ns);

// sim_client.c: clients that lease, lock, hold and release, checked against each other.
struct sim_workload *sim_workload_create(struct sim *sim);
uint32_t sim_workload_clients(const struct sim_workload *workload);
uint64_t sim_workload_step(struct sim_workload *workload, uint32_t client); // when it is due next
uint32_t sim_workload_idle(struct sim_workload *workload, uint32_t client); // datagrams it sends
// One of the clients dies, or stands still until then; clock_too: and its clock with it, so that it
// learns too late that its lease has run out.
// False: that one is not there.
bool sim_workload_kill(struct sim_workload *workload);
bool sim_workload_suspend(struct sim_workload *workload, uint64_t until_ns, bool clock_too);
void sim_workload_wake(struct sim_workload *workload);
uint64_t sim_workload_endpoint(const struct sim_workload *workload, uint32_t client); // 0: no such
// After healing: true once every client has completed an operation begun after `since_ns`.
bool sim_workload_progressed(const struct sim_workload *workload, uint64_t since_ns);
void sim_workload_describe(const struct sim_workload *workload);
void sim_workload_final_check(struct sim_workload *workload);
void sim_workload_destroy(struct sim_workload *workload);
uint32_t sim_workload_name(uint32_t number, char name[16]); // of SIM_NAMES locks; its length
uint64_t sim_workload_token(const struct sim_workload *workload, uint32_t name); // newest believed

// sim_reader.c
struct sim_reader *sim_reader_create(struct sim *sim);
uint64_t sim_reader_step(struct sim_reader *reader); // when it is due next
// Sends more at once than a node has packets for.
void sim_reader_flood(struct sim_reader *reader, const struct sim_machine *machine);
void sim_reader_destroy(struct sim_reader *reader);

// sim_trace.c
void sim_print_events(const struct sim *sim);
static inline void sim_fold(struct sim *sim, uint64_t a, uint64_t b) { // into the trace hash
    uint64_t z = (sim->trace_hash ^ a) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 32) ^ b) * 0xd6e8feb86659fd93ull;
    sim->trace_hash = z ^ (z >> 32);
}

// sim_world.c
bool sim_live(struct sim *sim, const struct sim_options *options); // false: a rule was broken
struct sim_machine *sim_leader(struct sim *sim);                   // a running leader, NULL if none

void sim_boot(struct sim *sim, struct sim_machine *machine);
void sim_describe(const struct sim *sim); // what a person looks at first when a rule was broken
void sim_destroy(struct sim *sim);
// A node was polled: what it did is checked. `before` is its role before.
void sim_polled(struct sim *sim, struct sim_machine *machine, enum wire_role before);

struct node_lender *sim_lender(void); // sim_memory.c

// sim_loop.c
void sim_loop_begin(struct sim *sim); // before anything can arrive
void sim_loop_start(struct sim *sim); // all are there, or everything may have changed
void sim_loop_run(struct sim *sim, uint64_t until_ns);
// Something will be there for the actor at that time.
void sim_arrives(struct sim *sim, uint32_t actor, uint64_t at_ns);
// Whatever may have changed for this machine but by polling it: up or down, pause, clock, disk.
void sim_machine_changed(struct sim *sim, const struct sim_machine *machine);
void sim_client_changed(struct sim *sim, uint32_t client); // the same of a client
uint32_t sim_machine_actor(const struct sim *sim, const struct sim_machine *machine);
uint64_t sim_when(const struct sim_machine *machine, uint64_t clock_ns); // simulated time

// sim_liveness.c
void sim_liveness_step(struct sim *sim);
void sim_liveness_final(struct sim *sim);
// All its stages are polled.
bool sim_machine_runs(const struct sim *sim, const struct sim_machine *machine);
// It remembers all it has acknowledged.
bool sim_machine_whole(const struct sim_machine *machine);

// sim_check.c
void sim_check_hash(struct sim *sim, struct sim_machine *machine);
void sim_check_terms(struct sim *sim, const struct sim_machine *machine);
// Each datagram that leaves a node: what it promises must be so. Some machines crash right after.
void sim_check_sent(struct sim *sim, uint64_t from, const void *bytes, uint32_t length);
void sim_check_final(struct sim *sim);
void sim_check_history(struct sim *sim); // every checker over the whole life

// sim_logs.c: log matching, leader completeness, and the committed log written down.
struct sim_logs *sim_logs_create(void);
void sim_logs_destroy(struct sim_logs *logs);
void sim_logs_check(struct sim *sim, const struct sim_machine *machine);

#endif
