// A laboratory for the replicated state machine: one machine, entries applied to it one by one, its
// replies and notices kept. Every test of this folder goes through it, because it checks at each
// entry what must hold whatever the command was:
//   - the reply echoes session, sequence and operation; its detail is 0 unless WIRE_FULL;
//   - applied index and time are the entry's, also as seen from inside a notice;
//   - claim slots: a slot given for a waiting claim belongs to that claim alone until its notice,
//     since the data plane keeps a table of addresses beside them;
//   - every command passes machine_validate() first, as it does in a leader.
//
// The tests are written from machine.h, conclave_wire.h and docs/semantics.md, not from the
// implementation. Where these leave freedom, a test accepts every answer they permit.
#ifndef MACHINE_HARNESS_H
#define MACHINE_HARNESS_H

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/machine.h"
#include "raft/raft.h"

#define MS     1000000ull
#define SECOND (1000 * MS)

// What the server adds to a TTL is 1 part in MACHINE_DRIFT_DIVISOR.
#define TTL_NS(ttl_ms) ((ttl_ms)*MS + (ttl_ms)*MS / MACHINE_DRIFT_DIVISOR)

#define LAB_NOTICES     512u
#define LAB_SLOTS       8192u
#define CLAIMS_PER_PAGE (WIRE_VALUE_MAX / sizeof(struct wire_claim))

// A command or a read, as a test writes it; zeros are what is not said.
struct ask {
    uint16_t op;
    uint8_t mode;
    uint64_t session;
    uint64_t sequence;
    uint64_t lease;
    uint64_t token;
    uint64_t amount;
    const void *name;
    uint32_t name_length; // 0 with a name: strlen
    const void *value;
    uint32_t value_length;
};

union command {
    struct wire_request request;
    uint8_t bytes[WIRE_COMMAND_MAX];
};

struct record { // one entry as it was applied
    uint64_t term;
    uint64_t time_ns;
    uint32_t length;
    uint8_t type;
    union command command;
};

struct lab {
    void *memory;
    struct machine *machine;
    struct machine_limits limits; // allocated
    uint64_t index;
    uint64_t term;
    uint64_t time_ns; // of the next entry
    bool silent;      // do not keep records (machines that follow another)
    // Notices of the entry applied last.
    struct machine_notice notices[LAB_NOTICES];
    uint32_t notice_count;
    uint64_t slots[LAB_SLOTS]; // claim waiting in each slot as far as known; 0 unknown or none
    struct record **records;   // records[i] is entry i + 1 (only while not silent)
    uint64_t record_count;
    uint64_t record_room;
};

struct client {
    uint64_t session;
    uint64_t sequence; // last used
    uint64_t nonce;
};

void command_build(union command *command, const struct ask *ask);

// A machine with a first NOOP (index 1, term 1, time 1 s) that agrees on these limits.
struct lab *lab_open(const struct machine_limits *limits);
// As allocated, without any entry.
struct lab *lab_bare(const struct machine_limits *limits);
void lab_close(struct lab *lab);

struct machine_reply lab_noop(struct lab *lab, const struct machine_limits *limits);
struct machine_reply lab_apply(struct lab *lab, const struct ask *ask);
// The next entry of another lab's history.
struct machine_reply lab_follow(struct lab *lab, const struct lab *leader);
// Just machine_apply at the next index, with no expectation but that it returns.
struct machine_reply lab_apply_raw(struct lab *lab, uint8_t type, const void *data,
                                   uint32_t length);
void lab_later(struct lab *lab, uint64_t ns);

// Clients: each call is a new sequence.
struct client client_open(struct lab *lab);
struct machine_reply client_do(struct lab *lab, struct client *client, struct ask ask);
struct machine_reply client_again(struct lab *lab, const struct client *client, struct ask ask,
                                  uint64_t sequence);
uint64_t grant(struct lab *lab, struct client *client, uint64_t ttl_ms);
struct machine_reply keepalive(struct lab *lab, struct client *client, uint64_t lease);
struct machine_reply revoke(struct lab *lab, struct client *client, uint64_t lease);
struct machine_reply acquire(struct lab *lab, struct client *client, const char *name,
                             uint64_t lease, uint64_t wait);
struct machine_reply release(struct lab *lab, struct client *client, const char *name,
                             uint64_t token);
// The same, which must be granted at once, queued or released.
uint64_t must_hold(struct lab *lab, struct client *client, const char *name, uint64_t lease);
uint64_t must_queue(struct lab *lab, struct client *client, const char *name, uint64_t lease,
                    uint64_t wait);
void must_release(struct lab *lab, struct client *client, const char *name, uint64_t token);

// Reads at lab->time_ns.
struct machine_reply lab_query(struct lab *lab, const struct ask *ask, void *value,
                               uint32_t *bytes);
uint64_t holder_token(struct lab *lab, const char *name); // 0: nobody
// All pages; returns the length told.
uint32_t queue_of(struct lab *lab, const void *name, uint32_t name_length,
                  struct wire_claim *claims, uint32_t max);
struct machine_reply ttl_of(struct lab *lab, uint64_t lease);
struct machine_reply claim_of(struct lab *lab, const char *name, uint64_t lease, uint64_t claim);

// Everything due at lab->time_ns, by as many calls as it takes; the term is filled in.
uint32_t due_leases(struct lab *lab, struct wire_expiry *out, uint32_t max);
uint32_t due_waits(struct lab *lab, struct wire_wait_expiry *out, uint32_t max);
struct machine_reply expire_leases(struct lab *lab, const struct wire_expiry *list, uint32_t count);
struct machine_reply expire_waits(struct lab *lab, const struct wire_wait_expiry *list,
                                  uint32_t count);
void tick(struct lab *lab); // with the machine's own index and hash

const struct machine_notice *notice_of(const struct lab *lab, uint64_t claim); // of the last entry
void assert_sizes(const struct lab *lab, uint32_t sessions, uint32_t leases, uint32_t locks,
                  uint32_t claims);
bool is_gone(uint16_t status); // NO_LEASE or LEASE_EXPIRED
void assert_same_reply(const struct machine_reply *a, const struct machine_reply *b);
void assert_same_notices(const struct lab *a, const struct lab *b);
void assert_equal_machines(const struct lab *a, const struct lab *b);

// Snapshots. The stream is malloc'ed; capacity of each read 4096.
struct stream {
    uint8_t *bytes;
    uint32_t length;
    uint32_t room;
};
// One read; false: complete.
bool stream_pull(struct stream *stream, struct lab *lab);
struct stream stream_of(struct lab *lab);
void stream_free(struct stream *stream);
// Restores in pieces of the given sizes, repeated cyclically; false as the machine says.
bool lab_restore(struct lab *lab, const struct stream *stream, const uint32_t *pieces,
                 uint32_t piece_count);
// A new lab with this state; it goes on at the index after it. Fails the test if refused.
struct lab *lab_restored(const struct machine_limits *limits, const struct stream *stream);

#endif
