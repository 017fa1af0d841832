// Every order of events among three Raft cores: the step function of consensus/raft itself, over a
// network and disks of which nothing happens but what the search chooses.
//
//   orders_scopes.c  the scopes: where it begins, what may happen how often, how far it is followed
//   orders_search.c  the search: depth first over all choices, with a table of the states reached
//   orders_world.c   the events, and the state as it was put back and as it is hashed
//   orders_check.c   what must hold after each of them
//
// What is abstracted, and why nothing is lost by it that the scope claims:
//   time      Each node has a clock of its own that stands still but for three events: a heartbeat
//             time, an election time (a follower forgets its leader) and two of them (it stands for
//             election). Clocks of different nodes are never compared by the core, so this covers
//             all drifts. After each step the clock is set back to the same hour and all that is
//             remembered by it with it; ages past twelve election times are one age. The bounds
//             keep a node below the ten election times after which its disk counts as stalled.
//   chance    Election time-outs are drawn the same each time: their order is the search's choice.
//   loss      A message that is never delivered is lost. There is no event for it.
//   counters  Hard states, epochs and entry times are hashed by what the core compares them with.
// Left out: snapshots, compaction, reads, recovery after a lost log, more than three nodes.
#ifndef CONCLAVE_TEST_ORDERS_H
#define CONCLAVE_TEST_ORDERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/raft_internal.h"

#define NODES       3u
#define MAIL_MAX    64u // in flight; what does not fit is lost, and counted
#define MAIL_BODIES 4u  // entries in one message
#define INDEX_MAX   12u
#define TERM_MAX    12u
#define EVENTS_MAX  192u
#define DEPTH_MAX   64u

#define ELECTION_NS  1000000ull
#define HEARTBEAT_NS 200000ull
#define HOUR_NS      (1000 * ELECTION_NS) // what every clock shows before an event
#define AGE_MAX_NS   (12 * ELECTION_NS)

struct record {
    uint64_t term, time_ns, body;
    uint8_t type;
};

struct mail {
    struct raft_message message; // peer: the sender
    uint16_t to;
    uint64_t hash;
    struct record entries[MAIL_BODIES];
};

struct drive { // what is durable
    uint64_t term;
    uint16_t vote;
    uint64_t last;
    struct record log[INDEX_MAX + 1];
};

struct budget { // how often each may happen
    uint8_t time_outs, quiets, crashes;
};

struct node {
    struct drive drive;
    bool voting, writing; // on their way to the drive
    struct raft_hard_state vote;
    uint64_t first, last, term, epoch; // of the log write
    struct record records[INDEX_MAX + 1];
    uint64_t commit; // seen in this life
    uint16_t voted_for[TERM_MAX];
    struct budget left;
};

struct world {
    struct node nodes[NODES];
    struct record committed[INDEX_MAX + 1];
    uint64_t committed_in[INDEX_MAX + 1]; // the term
    uint64_t committed_last;
    uint16_t leader_of[TERM_MAX];
    uint8_t proposals, duplicates, heartbeats; // left
    uint64_t next_body;
    uint32_t mail_count;
    struct mail mail[MAIL_MAX];
};

// A core, as far as three nodes with few entries use its memory. It may be put back by copying,
// since its pointers point into that memory or to constants, and it is put back to where it was.
struct image {
    struct raft raft;
    struct raft_log_slot slots[16];
    uint8_t bytes[256];
};

enum event_type {
    DELIVER = 1, // mail `number`
    DOUBLE,      // the same, and it stays in flight
    VOTE_DURABLE,
    LOG_DURABLE,
    TIME_OUT,
    QUIET,
    HEARTBEAT,
    PROPOSE,
    CRASH, // number: bit 0, the vote under way got to the drive; bit 1, the log write did
};
struct event {
    uint8_t type, node, number;
};

struct scope {
    const char *name;
    struct drive drives[NODES];
    uint8_t leads;  // this node is elected first, undisturbed; 0: nobody
    uint8_t offers; // proposals it takes then, nothing of which is delivered
    uint8_t apart;  // this pair has no link: 1 is nodes 2 and 3, 2 is 1 and 3, 4 is 1 and 2
    uint8_t gets;   // this node gets the first of these proposals, and the pair is parted only then
    struct budget budget[NODES];
    uint8_t proposals, duplicates, heartbeats;
    uint32_t depth, depth_long;
};

struct search {
    const struct scope *scope;
    struct world world;
    struct raft *rafts[NODES];
    struct event path[DEPTH_MAX];
    uint32_t depth;
    uint64_t states, steps, cut, lost_mail;
    uint64_t reached; // depth
    bool whole;       // not stopped by the number of states
};
extern struct search search;

// orders_world.c
void world_begin(const struct scope *scope);
uint32_t world_choices(struct event *events);
void world_apply(struct event event);
void world_save(struct image *image, uint8_t node);
void world_put_back(const struct image *image, uint8_t node);
void world_hash(uint64_t hash[2]);
void world_describe(char *text, size_t bytes, struct event event);

// orders_check.c; all end in search_broken() if a rule is broken
void check_sent(uint8_t node, const struct raft_message *message);
void check_node(uint8_t node);
struct record record_at(const struct raft *raft, uint64_t index);

// orders_search.c
__attribute__((noreturn)) void search_broken(const char *rule);
// Goes through a scope to this depth. False: a rule was broken; then the shortest way there has
// been printed.
bool search_scope(const struct scope *scope, uint32_t depth);

#endif
