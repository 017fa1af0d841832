// One whole node, three stages and a store, in the middle of a cluster that the test plays: frames
// of the other nodes and of clients are made by hand, what the node sends is read back, and the
// disk does what the test says.
#ifndef CONCLAVE_TEST_ONE_NODE_H
#define CONCLAVE_TEST_ONE_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "node.h"
#include "wire/wire.h"

#define ONE_ID      1u
#define ONE_CLUSTER 0x10de1u
#define ONE_MS      1000000ull
#define ONE_CLIENT  9u // who: a client; 2 to 5 are the other nodes

// Of a cluster of `nodes`: follower of nobody, term 0, an empty disk that lands all writes at once.
void one_open(uint32_t nodes);
void one_close(void);
void one_restart(void); // power goes, and comes back
struct node *one_node(void);
struct disk *one_disk(void);
void one_hold_disk(bool hold); // writes wait until it is let go
void one_may_fail(void);       // else a node that fails is a test that fails
uint64_t one_now(void);
uint64_t one_counter(const char *name); // "node.snapshots"
uint64_t one_who(uint32_t number);      // its endpoint

// A frame to the node. one_say() gives room for a message, zeroed but for its head; the frame goes
// off with the next one_run() or when another speaks.
void *one_say(uint32_t who, uint16_t type, uint32_t flags, uint32_t length);
void one_run(uint32_t rounds); // 20 us each
void one_wait(uint64_t ms);    // a round every 500 us

// Messages the node has sent to `who` of this type since they were last forgotten: the number of
// them, and the newest (NULL: none).
uint32_t one_count(uint32_t who, uint16_t type);
const void *one_newest(uint32_t who, uint16_t type);
void one_forget(void);

// As leader of `term`: an append of one entry (NULL: none) after `prev`.
void one_append(uint32_t who, uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t commit,
                const struct raft_entry *entry);
void one_lead(uint64_t *term); // the node wins an election by the votes of 2 (and 3 of 5)
// Of the newest append and its context.
void one_ack(uint32_t who, uint64_t term, uint64_t match); // of the newest append and its context
void one_ack_all(uint64_t term);                           // by those who vote, of all there is
void one_request(const struct wire_request *request, const char *name); // from ONE_CLIENT
struct machine_limits one_limits(void);                                 // what a first no-op holds

#endif
