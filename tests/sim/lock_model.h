// A sequential model of sessions, leases and locks, written from docs/semantics.md: plain arrays,
// no wheel, no index, no list. It replays committed entries and says what the answer must be.
#ifndef CONCLAVE_SIM_LOCK_MODEL_H
#define CONCLAVE_SIM_LOCK_MODEL_H

#include "conclave_wire.h"
#include "history.h"

#define MODEL_SESSIONS 256u
#define MODEL_LEASES   1024u
#define MODEL_WAITERS  512u

struct model_answer {
    uint16_t status;
    uint64_t token, amount;
};

struct model_claim {
    uint64_t claim, lease, token;
    uint64_t until_ns; // end of the wait
};

struct model_session {
    uint64_t id, nonce, highest, last_ns;
    struct {
        uint64_t sequence;
        struct model_answer answer;
    } cache[WIRE_SESSION_WINDOW];
};

struct model_lease {
    uint64_t id, ttl_ms, deadline_ns, renewals;
};

struct model_lock {
    struct model_claim holder; // token 0: free
    uint64_t created;
    uint32_t waiter_count;
    struct model_claim waiters[MODEL_WAITERS];
};

struct lock_model {
    const struct history *history;
    uint64_t index, term, time_ns;
    struct history_state limits; // agreed on by the first entry
    uint32_t session_count, lease_count, claim_count, lock_count;
    bool beyond; // larger than the model's own arrays: it judges nothing from here on
    struct model_session sessions[MODEL_SESSIONS];
    struct model_lease leases[MODEL_LEASES];
    struct model_lock locks[HISTORY_NAMES];
    uint64_t granted[HISTORY_ENTRIES]; // by claim less one: token, 0: none yet
    uint64_t ended[HISTORY_ENTRIES];   // by claim less one: index where it ended ungranted
};

struct lock_model *lock_model_create(const struct history *history);
void lock_model_destroy(struct lock_model *model);
// Applies the next entry.
struct model_answer lock_model_apply(struct lock_model *model, const struct history_entry *entry);
const struct model_lease *lock_model_lease(const struct lock_model *model, uint64_t id);

#endif
