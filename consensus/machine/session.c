// Sessions: exactly-once execution over a network that loses, doubles and delays (thesis 6.3).
//
// A session caches its newest WIRE_SESSION_WINDOW replies by sequence. A sequence in the window is
// executed at most once; below it, never. When the table is full the session idle for longest makes
// room, if it has been idle for longer than any client retries.
#include "machine/machine_internal.h"

static uint32_t find(const struct machine *m, uint64_t id) {
    for (uint32_t slot = index_first(&m->sessions, index_hash(id)); slot != 0;
         slot = index_next(&m->sessions, slot))
        if (session_at(m, slot)->id == id) return slot;
    return 0;
}

static uint32_t find_nonce(const struct machine *m, uint64_t nonce) {
    for (uint32_t slot = index_first(&m->nonces, index_hash(nonce)); slot != 0;
         slot = index_next(&m->nonces, slot))
        if (session_at(m, slot)->nonce == nonce) return slot;
    return 0;
}

bool session_is_new(const struct machine *m, const struct session *session) {
    return find(m, session->id) == 0 && find_nonce(m, session->nonce) == 0;
}

void session_index(struct machine *m, uint32_t slot) {
    const struct session *session = session_at(m, slot);
    index_add(&m->sessions, index_hash(session->id), slot);
    index_add(&m->nonces, index_hash(session->nonce), slot);
    m->session_last[slot] = session->last_index;
}

static void touch(struct machine *m, uint32_t slot) {
    struct session *session = pool_edit(&m->pools[TABLE_SESSION], slot);
    session->last_index = m->session_last[slot] = m->head.applied;
    session->last_ns = m->head.time_ns;
}

// Last indices are unique, so every replica picks the same one.
static void evict_idle(struct machine *m) {
    uint32_t idle = 0;
    uint64_t least = UINT64_MAX;
    for (uint32_t slot = 1; slot <= m->pools[TABLE_SESSION].high; slot++) {
        if (m->session_last[slot] >= least) continue;
        least = m->session_last[slot];
        idle = slot;
    }
    if (idle == 0) return;
    const struct session *session = session_at(m, idle);
    if (m->head.time_ns - session->last_ns < MACHINE_SESSION_IDLE_NS) return;
    index_remove(&m->sessions, index_hash(session->id), idle);
    index_remove(&m->nonces, index_hash(session->nonce), idle);
    m->session_last[idle] = UINT64_MAX;
    pool_free(&m->pools[TABLE_SESSION], idle);
}

void session_open(struct machine *m, const struct wire_request *request,
                  struct machine_reply *reply) {
    struct pool *pool = &m->pools[TABLE_SESSION];
    uint32_t slot = find_nonce(m, request->token);
    reply->duplicate = slot != 0;
    if (slot == 0) {
        if (pool->used >= pool->limit) evict_idle(m);
        slot = pool_take(pool);
        if (slot == 0) {
            reply->status = WIRE_FULL;
            reply->detail = WIRE_TABLE_SESSION;
            return;
        }
        struct session *session = session_at(m, slot);
        session->id = m->head.applied;
        session->nonce = request->token;
        session->last_index = m->head.applied;
        session_index(m, slot);
    }
    touch(m, slot);
    reply->token = session_at(m, slot)->id;
}

// A queued claim's slot is a node's own affair and not cached: it is looked up again.
static void find_claim(const struct machine *m, struct machine_reply *reply) {
    if (reply->status != WIRE_QUEUED) return;
    uint32_t slot = claim_find(m, reply->token);
    if (slot != 0 && claim_at(m, slot)->token == 0) reply->claim_slot = slot - 1;
}

void session_run(struct machine *m, const struct wire_request *request, struct machine_reply *reply,
                 session_execute_fn execute) {
    uint32_t slot = find(m, request->session);
    if (slot == 0) {
        reply->status = WIRE_NO_SESSION;
        return;
    }
    touch(m, slot);
    struct session *session = session_at(m, slot); // touch has made it editable
    uint64_t sequence = request->sequence;
    struct cached_reply *cached = &session->replies[sequence % WIRE_SESSION_WINDOW];
    // First, since after a jump forward the cache still holds replies that the window has left.
    if (session->highest >= WIRE_SESSION_WINDOW &&
        sequence <= session->highest - WIRE_SESSION_WINDOW) {
        reply->status = WIRE_STALE_SEQUENCE;
        return;
    }
    if (cached->sequence == sequence) {
        reply->status = cached->status;
        reply->detail = cached->detail;
        reply->token = cached->token;
        reply->amount = cached->amount;
        reply->op = cached->op;
        reply->duplicate = true;
        find_claim(m, reply);
        return;
    }
    execute(m, request, reply);
    if (sequence > session->highest) session->highest = sequence;
    *cached = (struct cached_reply){
        .sequence = sequence,
        .token = reply->token,
        .amount = reply->amount,
        .op = request->op,
        .status = reply->status,
        .detail = reply->detail,
    };
}
