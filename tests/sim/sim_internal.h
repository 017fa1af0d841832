// The simulator's world, shared by its files.
#ifndef CONCLAVE_SIM_INTERNAL_H
#define CONCLAVE_SIM_INTERNAL_H

#include <setjmp.h>

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
    uint64_t crash_ns; // its disk was damaged: that is seen when it starts again; 0: not planned
    bool ambushed;     // it has just promised something: crashes now
    uint32_t doomed_rounds; // polled since a durable write failed
    int64_t drift_ppm;      // of its clock
    uint64_t clock_base_ns;
    uint64_t clock_last_ns;
};

struct sim_options {
    uint64_t seed;
    uint64_t faulty_ns; // simulated time with faults
    uint64_t calm_ns;   // and without, at the end: progress is demanded
    uint64_t without;   // faults that are switched off: see sim_fault_bit()
    bool verbose;
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

struct sim {
    struct sim_options options;
    uint64_t random;
    uint64_t now_ns;
    uint64_t trace_hash;
    struct sim_stats stats;
    struct sim_net *net;
    uint32_t node_count;
    struct sim_machine machines[SIM_NODES_MAX];
    bool memory;     // durability of this life
    bool busy;       // clients hardly rest, and the log is small: snapshots all the time
    bool small_logs; // snapshots all the time, and nodes away for so long that they need one
    struct sim_workload *workload;
    struct sim_reader *reader;
    struct {
        uint64_t index;
        uint64_t hash;
    } hashes[SIM_HASHES];
    struct sim_faults faults;
    struct sim_liveness liveness;
    uint64_t answered;           // highest index of an answer that has left a node
    uint16_t leaders[SIM_TERMS]; // by term
    jmp_buf broken;
    char broken_rule[512];
};

// The clock of a machine: monotonic, with its own start and rate.
uint64_t sim_clock(struct sim *sim, struct sim_machine *machine);

// sim_client.c: clients that lease, lock, hold and release, checked against each other.
struct sim_workload *sim_workload_create(struct sim *sim);
void sim_workload_step(struct sim_workload *workload);
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
void sim_workload_name(uint32_t number, char name[16]); // of SIM_NAMES locks
uint64_t sim_workload_token(const struct sim_workload *workload, uint32_t name); // newest believed

// sim_reader.c
struct sim_reader *sim_reader_create(struct sim *sim);
void sim_reader_step(struct sim_reader *reader);
// Sends more at once than a node has packets for.
void sim_reader_flood(struct sim_reader *reader, const struct sim_machine *machine);
void sim_reader_destroy(struct sim_reader *reader);

// sim_world.c
bool sim_live(struct sim *sim, const struct sim_options *options); // false: a rule was broken
struct sim_machine *sim_leader(struct sim *sim);                   // a running leader, NULL if none

// sim_liveness.c
void sim_liveness_step(struct sim *sim);
void sim_liveness_final(struct sim *sim);
// All its stages are polled.
bool sim_machine_runs(const struct sim *sim, const struct sim_machine *machine);
// It remembers all it has acknowledged.
bool sim_machine_whole(const struct sim_machine *machine);

// sim_check.c
void sim_check_hashes(struct sim *sim);
void sim_check_terms(struct sim *sim, const struct sim_machine *machine);
// Each datagram that leaves a node: what it promises must be so. Some machines crash right after.
void sim_check_sent(struct sim *sim, uint64_t from, const void *bytes, uint32_t length);
void sim_check_final(struct sim *sim);

#endif
