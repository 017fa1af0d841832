// Two ways to hold a Raft core in a test, both from the contract in consensus/raft/raft.h alone.
//
// `solo` is one core whose peers, disk and clock are the test itself: every message it hears and
// every write that completes is spelled out, so that a single ill-timed event can be placed.
// `cluster` is up to five cores on links that can be cut one way, with disks that can be stalled,
// crashed and restarted; a round is one millisecond and there is no chance in it.
#ifndef CONCLAVE_TEST_RAFT_HARNESS_H
#define CONCLAVE_TEST_RAFT_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "raft/raft.h"

#define MS        1000000ull
#define ELECTION  (100 * MS)
#define HEARTBEAT (20 * MS)
#define WINDOW    16u

// Election 100 ms, heartbeat 20 ms, 256 entries in 16 KiB, a window of 16.
struct raft_options options_of(uint16_t id, uint16_t node_count);

// ---------------------------------------------------------------- one core

#define SOLO_SENT_MAX 8192u

struct solo {
    void *memory;
    struct raft *raft;
    struct raft_options options;
    uint64_t now_ns;
    struct raft_event events[RAFT_EVENTS_MAX]; // for the next solo_step()
    uint32_t event_count;
    struct raft_effects effects;             // of the last step
    struct raft_message sent[SOLO_SENT_MAX]; // since the last solo_forget()
    uint32_t sent_count;
    // Reads, summed over steps.
    uint64_t reads_released, reads_aborted, read_index;
};

struct ticket { // a log write in flight
    uint64_t index;
    uint64_t term;
    uint64_t epoch;
};

// Starts at time 1 s with an empty disk.
void solo_open(struct solo *s, const struct raft_options *options);
// As solo_open, but raft_start() is left to the caller, who restores first.
void solo_create(struct solo *s, const struct raft_options *options);
void solo_start(struct solo *s);
void solo_close(struct solo *s);
void solo_step(struct solo *s);                           // with the events gathered
void solo_pass(struct solo *s, uint64_t ns);              // in steps of a millisecond
void solo_forget(struct solo *s);                         // what was sent and read
void solo_event(struct solo *s, struct raft_event event); // gathered, not yet stepped

void solo_propose(struct solo *s, uint32_t count); // gathered: commands of 8 bytes
void solo_read(struct solo *s, uint32_t count);    // gathered
// Each of these is a step.
void solo_hear(struct solo *s, struct raft_message message);
void solo_hear_vote(struct solo *s, uint16_t peer, uint64_t term, uint32_t flags,
                    uint64_t last_index, uint64_t last_term);
// Entries prev + 1 .. prev + count with these terms; bodies are the index. time_ns is the index.
void solo_hear_append(struct solo *s, uint16_t peer, uint64_t term, uint64_t prev,
                      uint64_t prev_term, uint64_t commit, uint32_t count, const uint64_t *terms);
// The peer accepts all this leader has, durably, and echoes the newest context.
void solo_hear_ack(struct solo *s, uint16_t peer, uint64_t match);
void solo_hear_reply(struct solo *s, uint16_t peer, uint64_t term, uint32_t flags, uint64_t match,
                     uint64_t hint, uint64_t prev, uint64_t context);

struct ticket solo_write_begin(struct solo *s); // all unpersisted; index 0: there was nothing
void solo_write_end(struct solo *s, struct ticket ticket);
void solo_write(struct solo *s);      // both
void solo_hard_state(struct solo *s); // the newest term and vote become durable
// By time-out, pre-vote and votes of all peers. Its no-op is appended, nothing is written.
void solo_elect(struct solo *s);
void solo_lead(struct solo *s); // and the no-op is durable everywhere and committed

uint32_t solo_sent(const struct solo *s, uint16_t type, uint16_t peer); // peer 0: to any
const struct raft_message *solo_last_sent(const struct solo *s, uint16_t type, uint16_t peer);

// ---------------------------------------------------------------- small clusters

#define CLUSTER_NODES    5u
#define CLUSTER_LOG_MAX  4096u
#define CLUSTER_MAIL_MAX 256u

struct mail {
    struct raft_message message;
    struct raft_entry entries[64];
    uint64_t bodies[64];
};

struct record {
    uint64_t term;
    uint64_t time_ns;
    uint64_t body;
    uint8_t type;
};

struct member {
    void *memory;
    struct raft *raft;
    bool up;
    bool disk_stalled; // nothing begun completes
    bool recovering;   // at the next boot, with an empty log
    int64_t clock_offset_ns;
    uint64_t disk_term;
    uint16_t disk_vote;
    struct record disk[CLUSTER_LOG_MAX];
    uint64_t disk_last;
    uint64_t snapshot_index;
    bool writing, voting;
    struct ticket write;
    uint64_t write_first;
    struct record written[CLUSTER_LOG_MAX];
    struct raft_hard_state vote;
    uint64_t applied;
    uint32_t proposals; // to offer in the next round
    uint64_t proposed, refused;
    struct mail inbox[2][CLUSTER_MAIL_MAX]; // being read, being filled
    uint32_t inbox_count[2];
};

struct cluster {
    uint32_t size;
    uint64_t now_ns;
    uint32_t turn;
    bool cut[CLUSTER_NODES + 1][CLUSTER_NODES + 1]; // [from][to]
    struct member nodes[CLUSTER_NODES + 1];         // by id
    struct record committed[CLUSTER_LOG_MAX];
    uint64_t committed_last;
    uint16_t leader_of[CLUSTER_LOG_MAX]; // by term
    uint64_t next_body;
};

struct cluster *cluster_open(uint32_t size); // all nodes are given their disks, none is booted
void cluster_boot(struct cluster *c, uint16_t id);
void cluster_boot_all(struct cluster *c);
void cluster_crash(struct cluster *c, uint16_t id);
void cluster_cut(struct cluster *c, uint16_t from, uint16_t to); // one way
void cluster_cut_both(struct cluster *c, uint16_t one, uint16_t other);
void cluster_heal(struct cluster *c);
void cluster_run(struct cluster *c, uint32_t ms);
// The leader of the highest term among nodes that are up; 0: none.
uint16_t cluster_leader(const struct cluster *c);
// Runs until there is a leader that has committed in its term; fails after `ms`.
uint16_t cluster_await_leader(struct cluster *c, uint32_t ms);
// Boots all; node `id` wins the first election (others that are quicker are restarted).
void cluster_make_leader(struct cluster *c, uint16_t id);
// One command through this node; false if it is not committed within `ms`.
bool cluster_commits(struct cluster *c, uint16_t leader, uint32_t ms);
uint64_t cluster_highest_term(const struct cluster *c);
void cluster_close(struct cluster *c);

#endif
