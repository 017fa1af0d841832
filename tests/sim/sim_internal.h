// The simulator's world, shared by its files.
#ifndef CONCLAVE_SIM_INTERNAL_H
#define CONCLAVE_SIM_INTERNAL_H

#include <setjmp.h>

#include "sim.h"

#define SIM_NAMES   4u
#define SIM_HASHES  65536u // applied index -> state hash, the newest ones
#define SIM_CLUSTER 0x51u
#define SIM_TERMS   4096u

struct sim_machine { // one host with its node
    uint16_t id;
    uint64_t endpoint;
    struct disk *disk;
    struct port *port;
    struct node *node;  // NULL while down
    uint64_t back_ns;   // when it restarts
    uint64_t paused_ns; // not polled until then
    uint64_t full_ns;   // its disk has no room until then, 0: it has
    bool ambushed;      // it has just promised something: crashes now
    int64_t drift_ppm;  // of its clock
    uint64_t clock_base_ns;
    uint64_t clock_last_ns;
};

struct sim_options {
    uint64_t seed;
    uint64_t faulty_ns; // simulated time with faults
    uint64_t calm_ns;   // and without, at the end: progress is demanded
    bool verbose;
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
    // Drawn per seed, per million steps.
    uint32_t crash_rate, pause_rate, cut_rate, all_down_rate, full_rate;
    // Per million promises made: votes, acknowledgements, answers.
    uint32_t vote_ambush_rate, ack_ambush_rate, answer_ambush_rate;
    bool all_ambushed;           // an answer has just left: all machines lose power
    uint64_t answered;           // highest index of an answer that has left a node
    uint16_t leaders[SIM_TERMS]; // by term
    uint64_t healed_ns;
    jmp_buf broken;
    char broken_rule[512];
};

// The clock of a machine: monotonic, with its own start and rate.
uint64_t sim_clock(struct sim *sim, struct sim_machine *machine);

// sim_client.c: clients that lease, lock, hold and release, checked against each other.
struct sim_workload *sim_workload_create(struct sim *sim);
void sim_workload_calm(struct sim_workload *workload); // nobody dies any more
void sim_workload_step(struct sim_workload *workload);
// After healing: true once every client has completed an operation begun after `since_ns`.
bool sim_workload_progressed(const struct sim_workload *workload, uint64_t since_ns);
void sim_workload_final_check(struct sim_workload *workload);
void sim_workload_destroy(struct sim_workload *workload);
void sim_workload_name(uint32_t number, char name[16]); // of SIM_NAMES locks
uint64_t sim_workload_token(const struct sim_workload *workload, uint32_t name); // newest believed

// sim_reader.c
struct sim_reader *sim_reader_create(struct sim *sim);
void sim_reader_step(struct sim_reader *reader);
void sim_reader_destroy(struct sim_reader *reader);

// sim_world.c
bool sim_live(struct sim *sim, const struct sim_options *options); // false: a rule was broken
struct sim_machine *sim_leader(struct sim *sim);                   // a running leader, NULL if none

void sim_boot(struct sim *sim, struct sim_machine *machine);
void sim_crash(struct sim *sim, struct sim_machine *machine);
void sim_describe(const struct sim *sim); // what a person looks at first when a rule was broken
void sim_destroy(struct sim *sim);

// sim_check.c
void sim_check_hashes(struct sim *sim);
void sim_check_terms(struct sim *sim, const struct sim_machine *machine);
// Each datagram that leaves a node: what it promises must be so. Some machines crash right after.
void sim_check_sent(struct sim *sim, uint64_t from, const void *bytes, uint32_t length);
void sim_check_final(struct sim *sim);

#endif
