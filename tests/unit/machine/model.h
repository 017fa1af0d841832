// A second, simple state machine to hold the real one against: arrays and linear search, no index,
// no timer, no list. It judges every reply, notice, size and read of one lab.
//
// Where the contract leaves a choice, policy_probe() first asks the machine, in small scenes, which
// choice it has made, and the model then demands that one always: what is free once is not free to
// vary.
#ifndef MACHINE_MODEL_H
#define MACHINE_MODEL_H

#include "harness.h"

enum again {    // a lease acquires what it holds, or what it waits for already
    AGAIN_SAME, // the answer it had: same token, or same claim
    AGAIN_NEW,  // a new token, or another claim behind
    AGAIN_REFUSED,
};

struct policy {
    bool reopen_same;        // SESSION_OPEN with the nonce of a living session answers that one
    bool dead_holder_blocks; // until its EXPIRE_LEASES is applied
    bool takeover_ends;      // else: the whole dead lease ends, not just the one claim
    bool dead_release;       // a dead lease's token still releases
    bool dead_held;          // LOCK_HOLDERS lists a dead holder
    bool dead_queued;        // LOCK_QUEUE lists dead waiters
    bool skip_removes;       // a dead waiter passed over at a grant is removed there and then
    bool late_granted;       // a waiter whose wait has run out, but was not expired yet, is granted
    bool late_removed;       // else: removed with WAIT_TIMEOUT there and then
    bool wait_allowance;     // a wait gets the drift allowance of a TTL
    bool again_extends;      // waiting again under the same lease replaces the wait's end
    bool again_moves;        // ... and the session that is told
    enum again hold_again;   // acquire of a lock held under the same lease, trying
    enum again hold_wait;    // ... and waiting
    enum again wait_again;   // acquire with a wait, of a lock the lease waits for already
    bool try_queued;         // a try under a lease that waits already answers QUEUED
    bool try_leaves;         // else: it ends that wait with WAIT_TIMEOUT
};
void policy_probe(struct policy *policy);

#define MODEL_SESSIONS 64
#define MODEL_LEASES   256
#define MODEL_CLAIMS   512

struct model_session {
    uint64_t id, nonce, highest;
    uint64_t heard_ns;    // any command of it
    uint64_t executed_ns; // the last one that was not a retry
    struct {
        bool valid;
        uint64_t sequence;
        struct machine_reply reply;
    } cache[WIRE_SESSION_WINDOW];
};

struct model_lease {
    uint64_t id, ttl_ms, deadline_ns;
    uint64_t epoch;       // renewals
    uint64_t given_ns;    // by machine_due_leases(); 0: not yet
    uint64_t given_epoch; // and what the machine called the epoch then
    uint64_t given_name;
};

struct model_claim {
    uint8_t name[WIRE_NAME_MAX];
    uint32_t name_length;
    uint64_t claim, lease, token, session, since_ns;
    uint64_t wait_ns;  // end of the wait; UINT64_MAX: none
    uint64_t given_ns; // by machine_due_waits()
};

struct model {
    struct policy policy;
    struct machine_limits limits;
    uint64_t index, term, time_ns; // of the entry in hand
    uint32_t session_count, lease_count, claim_count;
    struct model_session sessions[MODEL_SESSIONS];
    struct model_lease leases[MODEL_LEASES];
    struct model_claim claims[MODEL_CLAIMS];
    struct machine_notice notices[LAB_NOTICES];
    uint32_t notice_count;
    // Which of these sessions is gone now? Asked when one must have been evicted. Index of it.
    uint32_t (*victim)(void *context, const struct model_session *sessions, uint32_t count);
    void *context;
};

// The entry that lab has just applied, and what it answered.
void model_apply(struct model *model, const struct lab *lab, const struct record *record,
                 const struct machine_reply *reply);
// Reads at the lab's time, for this name, lease and claim.
void model_check_reads(struct model *model, struct lab *lab, const void *name, uint32_t name_length,
                       uint64_t lease, uint64_t claim);
// What the machine gave as due at the lab's time, after all of it was asked for.
void model_check_due(struct model *model, const struct lab *lab, const struct wire_expiry *leases,
                     uint32_t lease_count, const struct wire_wait_expiry *waits,
                     uint32_t wait_count);

#endif
