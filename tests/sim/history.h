// A history of one life: what clients asked and were told, what they believed, and what the cluster
// committed. The checkers (check.h) are pure functions over it; it is also written and read as JSON
// lines, so that other programs can judge the same life.
//
// Recorded while the life goes on, at the edge of each client: an operation is one request, begun
// when its first copy leaves and ended when its first final answer arrives. Retries are the same
// operation. An operation that was never answered stays without an end: it may have happened, or
// not, or happen yet. All arrays are fixed; what does not fit is counted and told, never dropped
// silently. All memory is the history's own.
#ifndef CONCLAVE_SIM_HISTORY_H
#define CONCLAVE_SIM_HISTORY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define HISTORY_NAMES      16u
#define HISTORY_NO_NAME    255u
#define HISTORY_OPERATIONS 65536u
#define HISTORY_ENTRIES    65536u
#define HISTORY_HOLDS      16384u
#define HISTORY_PARTS      65536u
#define HISTORY_STATES     256u
// Told without being asked: a queued claim's end. Beside enum wire_op.
#define HISTORY_OP_EVENT 1000u

struct history_part { // a holder or waiter in an answer; a lease or wait in an expiry
    uint64_t a;       // claim; expiry: lease or claim
    uint64_t b;       // lease; expiry: term or lock
    uint64_t c;       // token; expiry: renewals or lease
};

struct history_operation {
    uint64_t invoked_ns;
    uint64_t returned_ns; // 0: never answered
    uint64_t session, sequence;
    uint64_t lease, token, amount; // as asked; HISTORY_OP_EVENT: token is the claim
    uint64_t answer_token, answer_amount;
    uint64_t index; // of the answer
    uint32_t parts; // first of them, of LOCK_HOLDERS and LOCK_QUEUE
    uint16_t part_count;
    uint16_t op;     // enum wire_op or HISTORY_OP_EVENT
    uint16_t status; // enum wire_status_code
    uint8_t client;
    uint8_t name;
};

struct history_entry { // committed; index is its place in the array and one
    uint64_t term;     // 0: not seen
    uint64_t time_ns;  // cluster time
    uint64_t session, sequence;
    uint64_t lease, token, amount;
    uint32_t parts;
    uint16_t part_count;
    uint16_t op;  // 0: a new leader's first entry
    uint8_t name; // or HISTORY_NO_NAME
};

struct history_hold { // a client believed that it held the lock, from .. to
    uint64_t from_ns, to_ns;
    uint64_t token;
    uint8_t client;
    uint8_t name;
};

struct history_state { // how much there is in a node's state at an index
    uint64_t index;
    uint32_t sessions, leases, locks, claims;
};

struct history {
    uint32_t operation_count, entry_count, hold_count, part_count, state_count, name_count;
    uint64_t lost; // did not fit
    bool early;    // a node's clock has jumped: leases and waits may end before their time
    char names[HISTORY_NAMES][16];
    struct history_operation operations[HISTORY_OPERATIONS]; // in the order of invoked_ns
    struct history_entry entries[HISTORY_ENTRIES];
    struct history_hold holds[HISTORY_HOLDS];
    struct history_part parts[HISTORY_PARTS];
    struct history_state states[HISTORY_STATES];
};

struct history *history_create(void);
void history_destroy(struct history *history);
// Number of a name, given at its first use; HISTORY_NO_NAME: there is no name, or no room.
uint8_t history_name(struct history *history, const void *name, uint32_t length);
// Return NULL when the array is full.
struct history_operation *history_add_operation(struct history *history);
struct history_hold *history_add_hold(struct history *history);
struct history_state *history_add_state(struct history *history);
// The entry at this index, once; NULL: no room.
struct history_entry *history_put_entry(struct history *history, uint64_t index);
// False: no room.
bool history_add_part(struct history *history, struct history_part part);

// JSON lines, one record a line, told by "kind": operation, entry, hold, state.
bool history_write(const struct history *history, FILE *file);
// False: a line is no record; *line is its number.
bool history_read(struct history *history, FILE *file, uint32_t *line); // history_read.c
const char *history_op_name(uint16_t op);

#endif
