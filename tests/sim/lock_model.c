// See lock_model.h.
#include "lock_model.h"

#include <stdlib.h>
#include <string.h>

#define MS 1000000ull

struct lock_model *lock_model_create(const struct history *history) {
    struct lock_model *m = malloc(sizeof *m);
    if (m == NULL) abort();
    memset(m, 0, offsetof(struct lock_model, sessions));
    for (uint32_t i = 0; i < HISTORY_NAMES; i++) {
        m->locks[i].holder.token = 0;
        m->locks[i].waiter_count = 0;
    }
    memset(m->granted, 0, history->entry_count * sizeof m->granted[0]);
    memset(m->ended, 0, history->entry_count * sizeof m->ended[0]);
    m->history = history;
    return m;
}

void lock_model_destroy(struct lock_model *model) {
    free(model);
}

static struct model_lease *find_lease(struct lock_model *m, uint64_t id) {
    for (uint32_t i = 0; i < m->lease_count; i++)
        if (m->leases[i].id == id) return &m->leases[i];
    return NULL;
}

const struct model_lease *lock_model_lease(const struct lock_model *m, uint64_t id) {
    for (uint32_t i = 0; i < m->lease_count; i++)
        if (m->leases[i].id == id) return &m->leases[i];
    return NULL;
}

static bool lives(const struct lock_model *m, const struct model_lease *lease) {
    return lease != NULL && lease->deadline_ns > m->time_ns;
}

static uint16_t lease_status(const struct lock_model *m, const struct model_lease *lease) {
    if (lease == NULL) return WIRE_NO_LEASE;
    return lives(m, lease) ? WIRE_OK : WIRE_LEASE_EXPIRED;
}

// "not before receipt + TTL * (1 + e)", e = 1/1000
static void extend(const struct lock_model *m, struct model_lease *lease) {
    lease->deadline_ns = m->time_ns + lease->ttl_ms * MS + lease->ttl_ms * 1000;
}

// ---------------------------------------------------------------- claims

static void end_waiter(struct lock_model *m, struct model_lock *lock, uint32_t at) {
    m->ended[lock->waiters[at].claim - 1] = m->index;
    lock->waiter_count--;
    m->claim_count--;
    memmove(&lock->waiters[at], &lock->waiters[at + 1],
            (lock->waiter_count - at) * sizeof lock->waiters[0]);
}

static void end_holder(struct lock_model *m, struct model_lock *lock) {
    lock->holder.token = 0;
    m->claim_count--;
    while (lock->waiter_count > 0) {
        struct model_claim next = lock->waiters[0];
        bool well = lives(m, find_lease(m, next.lease)) && next.until_ns > m->time_ns;
        end_waiter(m, lock, 0);
        if (!well) continue;
        m->ended[next.claim - 1] = 0;
        m->claim_count++;
        next.token = m->granted[next.claim - 1] = m->index;
        lock->holder = next;
        return;
    }
    m->lock_count--;
}

static void end_lease(struct lock_model *m, struct model_lease *lease) {
    uint64_t id = lease->id;
    for (uint32_t n = 0; n < HISTORY_NAMES; n++) {
        struct model_lock *lock = &m->locks[n];
        for (uint32_t i = lock->waiter_count; i-- > 0;)
            if (lock->waiters[i].lease == id) end_waiter(m, lock, i);
    }
    for (uint32_t n = 0; n < HISTORY_NAMES; n++) {
        struct model_lock *lock = &m->locks[n];
        if (lock->holder.token != 0 && lock->holder.lease == id) end_holder(m, lock);
    }
    *lease = m->leases[--m->lease_count];
}

static struct model_answer acquire_held(struct lock_model *m, const struct history_entry *e,
                                        struct model_lock *lock) {
    if (lock->holder.lease == e->lease) return (struct model_answer){.token = lock->holder.token};
    uint32_t at = 0;
    while (at < lock->waiter_count && lock->waiters[at].lease != e->lease) at++;
    bool waits = at < lock->waiter_count;
    if (e->amount == 0) {
        if (waits) end_waiter(m, lock, at);
        return (struct model_answer){WIRE_WOULD_BLOCK, lock->holder.token, 0};
    }
    if (!waits) {
        if (m->claim_count >= m->limits.claims) return (struct model_answer){.status = WIRE_FULL};
        if (lock->waiter_count == MODEL_WAITERS) {
            m->beyond = true;
            return (struct model_answer){0};
        }
        m->claim_count++;
        lock->waiters[lock->waiter_count++] =
            (struct model_claim){.claim = m->index, .lease = e->lease};
    }
    bool bounded = e->amount != WIRE_WAIT_FOREVER;
    lock->waiters[at].until_ns = bounded ? m->time_ns + e->amount * MS : UINT64_MAX;
    return (struct model_answer){WIRE_QUEUED, lock->waiters[at].claim, 0};
}

static struct model_answer acquire(struct lock_model *m, const struct history_entry *e) {
    struct model_answer answer = {.status = lease_status(m, find_lease(m, e->lease))};
    if (answer.status != WIRE_OK) return answer;
    if (e->name >= HISTORY_NAMES) {
        m->beyond = true;
        return answer;
    }
    struct model_lock *lock = &m->locks[e->name];
    if (lock->holder.token != 0) return acquire_held(m, e, lock);
    if (m->claim_count >= m->limits.claims || m->lock_count >= m->limits.locks)
        return (struct model_answer){.status = WIRE_FULL};
    lock->holder = (struct model_claim){m->index, e->lease, m->index, UINT64_MAX};
    lock->created = m->index;
    m->granted[m->index - 1] = m->index;
    m->claim_count++;
    m->lock_count++;
    return (struct model_answer){.token = m->index};
}

static struct model_answer release(struct lock_model *m, const struct history_entry *e) {
    struct model_lock *lock = e->name < HISTORY_NAMES ? &m->locks[e->name] : NULL;
    if (lock == NULL || lock->holder.token == 0 || lock->holder.token != e->token)
        return (struct model_answer){.status = WIRE_NOT_HOLDER};
    end_holder(m, lock);
    return (struct model_answer){0};
}

// ---------------------------------------------------------------- leases

static struct model_answer grant(struct lock_model *m, const struct history_entry *e) {
    if (m->lease_count >= m->limits.leases) return (struct model_answer){.status = WIRE_FULL};
    if (m->lease_count == MODEL_LEASES) {
        m->beyond = true;
        return (struct model_answer){0};
    }
    struct model_lease *lease = &m->leases[m->lease_count++];
    *lease = (struct model_lease){.id = m->index, .ttl_ms = e->amount};
    extend(m, lease);
    return (struct model_answer){.token = m->index, .amount = e->amount};
}

static struct model_answer renew_or_revoke(struct lock_model *m, const struct history_entry *e) {
    struct model_lease *lease = find_lease(m, e->lease);
    struct model_answer answer = {.status = lease_status(m, lease)};
    if (answer.status != WIRE_OK) return answer;
    if (e->op == WIRE_OP_LEASE_REVOKE) {
        end_lease(m, lease);
        return answer;
    }
    extend(m, lease);
    lease->renewals++;
    answer.amount = lease->ttl_ms;
    return answer;
}

static void expire_leases(struct lock_model *m, const struct history_entry *e) {
    for (uint32_t i = 0; i < e->part_count; i++) {
        const struct history_part *part = &m->history->parts[e->parts + i];
        struct model_lease *lease = find_lease(m, part->a);
        if (lease == NULL || part->b != e->term || part->c != lease->renewals) continue;
        if (!lives(m, lease)) end_lease(m, lease);
    }
}

static void expire_waits(struct lock_model *m, const struct history_entry *e) {
    for (uint32_t i = 0; i < e->part_count; i++) {
        const struct history_part *part = &m->history->parts[e->parts + i];
        for (uint32_t n = 0; n < HISTORY_NAMES; n++) {
            struct model_lock *lock = &m->locks[n];
            for (uint32_t w = 0; w < lock->waiter_count; w++) {
                const struct model_claim *claim = &lock->waiters[w];
                if (claim->claim != part->a || claim->until_ns > m->time_ns) continue;
                if (lock->created == part->b && claim->lease == part->c) end_waiter(m, lock, w);
                break;
            }
        }
    }
}

// ---------------------------------------------------------------- sessions

static struct model_answer open_session(struct lock_model *m, const struct history_entry *e) {
    struct model_session *session = NULL;
    for (uint32_t i = 0; i < m->session_count; i++)
        if (m->sessions[i].nonce == e->token) session = &m->sessions[i];
    if (session == NULL) {
        if (m->session_count >= m->limits.sessions) {
            // Now one idle for 60 s would make room; lives do not last so long.
            for (uint32_t i = 0; i < m->session_count; i++)
                m->beyond |= m->time_ns - m->sessions[i].last_ns >= 60000 * MS;
            return (struct model_answer){.status = WIRE_FULL};
        }
        if (m->session_count == MODEL_SESSIONS) {
            m->beyond = true;
            return (struct model_answer){0};
        }
        session = &m->sessions[m->session_count++];
        *session = (struct model_session){.id = m->index, .nonce = e->token};
    }
    session->last_ns = m->time_ns;
    return (struct model_answer){.token = session->id};
}

static struct model_answer execute(struct lock_model *m, const struct history_entry *e) {
    switch (e->op) {
    case WIRE_OP_LEASE_GRANT:
        return grant(m, e);
    case WIRE_OP_LOCK_ACQUIRE:
        return acquire(m, e);
    case WIRE_OP_LOCK_RELEASE:
        return release(m, e);
    default:
        return renew_or_revoke(m, e);
    }
}

static struct model_answer run_session(struct lock_model *m, const struct history_entry *e) {
    struct model_session *session = NULL;
    for (uint32_t i = 0; i < m->session_count; i++)
        if (m->sessions[i].id == e->session) session = &m->sessions[i];
    if (session == NULL) return (struct model_answer){.status = WIRE_NO_SESSION};
    session->last_ns = m->time_ns;
    if (e->sequence + WIRE_SESSION_WINDOW <= session->highest)
        return (struct model_answer){.status = WIRE_STALE_SEQUENCE};
    uint32_t at = e->sequence % WIRE_SESSION_WINDOW;
    if (session->cache[at].sequence == e->sequence) return session->cache[at].answer;
    struct model_answer answer = execute(m, e);
    if (e->sequence > session->highest) session->highest = e->sequence;
    session->cache[at].sequence = e->sequence;
    session->cache[at].answer = answer;
    return answer;
}

struct model_answer lock_model_apply(struct lock_model *m, const struct history_entry *e) {
    m->index++;
    m->term = e->term;
    m->time_ns = e->time_ns;
    switch (e->op) {
    case 0:
        if (m->limits.sessions == 0)
            m->limits = (struct history_state){.sessions = (uint32_t)e->session,
                                               .leases = (uint32_t)e->lease,
                                               .locks = (uint32_t)e->token,
                                               .claims = (uint32_t)e->amount};
        return (struct model_answer){0};
    case WIRE_OP_SESSION_OPEN:
        return open_session(m, e);
    case WIRE_OP_EXPIRE_LEASES:
        expire_leases(m, e);
        return (struct model_answer){0};
    case WIRE_OP_EXPIRE_WAITS:
        expire_waits(m, e);
        return (struct model_answer){0};
    case WIRE_OP_TICK:
        return (struct model_answer){0};
    default:
        return run_session(m, e);
    }
}
