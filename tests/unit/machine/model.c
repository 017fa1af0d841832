// See model.h.
#include "model.h"

// ---------------------------------------------------------------- finding

static struct model_lease *find_lease(struct model *m, uint64_t id) {
    for (uint32_t i = 0; i < m->lease_count; i++)
        if (m->leases[i].id == id) return &m->leases[i];
    return NULL;
}

static bool dead_at(const struct model_lease *lease, uint64_t time_ns) {
    return lease->deadline_ns <= time_ns;
}

static bool claim_dead(struct model *m, const struct model_claim *claim, uint64_t time_ns) {
    struct model_lease *lease = find_lease(m, claim->lease);
    assert_non_null(lease); // nothing is held under what has ended
    return dead_at(lease, time_ns);
}

static bool is_of(const struct model_claim *claim, const void *name, uint32_t length) {
    return claim->name_length == length && memcmp(claim->name, name, length) == 0;
}

static struct model_claim *find_holder(struct model *m, const void *name, uint32_t length) {
    for (uint32_t i = 0; i < m->claim_count; i++)
        if (is_of(&m->claims[i], name, length) && m->claims[i].token != 0) return &m->claims[i];
    return NULL;
}

// Claims stay in the order of the array, which is the order they were asked in.
static struct model_claim *find_waiter(struct model *m, const void *name, uint32_t length,
                                       uint64_t lease) {
    for (uint32_t i = 0; i < m->claim_count; i++) {
        struct model_claim *claim = &m->claims[i];
        if (is_of(claim, name, length) && claim->token == 0 && claim->lease == lease) return claim;
    }
    return NULL;
}

static uint32_t count_locks(const struct model *m) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->claim_count; i++) {
        bool first = true;
        for (uint32_t k = 0; k < i && first; k++)
            first = !is_of(&m->claims[k], m->claims[i].name, m->claims[i].name_length);
        count += first;
    }
    return count;
}

// ---------------------------------------------------------------- changing

static void tell(struct model *m, const struct model_claim *claim, uint16_t status) {
    m->notices[m->notice_count++] =
        (struct machine_notice){.session = claim->session,
                                .claim = claim->claim,
                                .lease = claim->lease,
                                .token = status == WIRE_OK ? claim->token : 0,
                                .status = status};
}

static void drop_claim(struct model *m, struct model_claim *claim) {
    uint32_t at = (uint32_t)(claim - m->claims);
    m->claim_count--;
    memmove(claim, claim + 1, (m->claim_count - at) * sizeof *claim);
}

static void grant_next(struct model *m, const void *name, uint32_t length) {
    for (uint32_t i = 0; i < m->claim_count;) {
        struct model_claim *claim = &m->claims[i];
        if (!is_of(claim, name, length)) {
            i++;
            continue;
        }
        bool dead = claim_dead(m, claim, m->time_ns), late = claim->wait_ns <= m->time_ns;
        if (!dead && (!late || m->policy.late_granted)) {
            claim->token = m->index;
            claim->since_ns = m->time_ns;
            tell(m, claim, WIRE_OK);
            return;
        }
        if (dead ? m->policy.skip_removes : m->policy.late_removed) {
            tell(m, claim, dead ? WIRE_LEASE_EXPIRED : WIRE_WAIT_TIMEOUT);
            drop_claim(m, claim);
        } else {
            i++;
        }
    }
}

static void free_lock(struct model *m, struct model_claim *holder) {
    struct model_claim was = *holder;
    drop_claim(m, holder);
    grant_next(m, was.name, was.name_length);
}

static void end_lease(struct model *m, struct model_lease *lease, uint16_t status) {
    uint64_t id = lease->id;
    for (uint32_t i = 0; i < m->claim_count;) { // waits first: none of them may be granted
        struct model_claim *claim = &m->claims[i];
        if (claim->lease != id || claim->token != 0) {
            i++;
            continue;
        }
        tell(m, claim, status);
        drop_claim(m, claim);
    }
    for (uint32_t i = 0; i < m->claim_count;) {
        if (m->claims[i].lease == id) {
            free_lock(m, &m->claims[i]);
            i = 0;
        } else {
            i++;
        }
    }
    lease = find_lease(m, id);
    *lease = m->leases[--m->lease_count];
}

// ---------------------------------------------------------------- commands

// The lease, if it lives; else the reply must say that it does not.
static struct model_lease *living(struct model *m, uint64_t id, const struct machine_reply *reply) {
    struct model_lease *lease = find_lease(m, id);
    if (lease == NULL) {
        assert_true(is_gone(reply->status));
        return NULL;
    }
    if (!dead_at(lease, m->time_ns)) return lease;
    assert_int_equal(reply->status, WIRE_LEASE_EXPIRED);
    return NULL;
}

static void lease_grant(struct model *m, const struct wire_request *r,
                        const struct machine_reply *reply) {
    if (m->lease_count == m->limits.leases) {
        assert_int_equal(reply->status, WIRE_FULL);
        assert_int_equal(reply->detail, WIRE_TABLE_LEASE);
        return;
    }
    assert_int_equal(reply->status, WIRE_OK);
    assert_int_equal(reply->amount, r->amount);
    assert_true(reply->token != 0);
    assert_null(find_lease(m, reply->token));
    m->leases[m->lease_count++] = (struct model_lease){
        .id = reply->token, .ttl_ms = r->amount, .deadline_ns = m->time_ns + TTL_NS(r->amount)};
}

static void acquire_again(struct model *m, struct model_claim *holder, enum again again,
                          const struct machine_reply *reply) {
    if (again == AGAIN_REFUSED) {
        assert_int_equal(reply->status, WIRE_WOULD_BLOCK);
        assert_int_equal(reply->token, holder->token);
        return;
    }
    assert_int_equal(reply->status, WIRE_OK);
    if (again == AGAIN_NEW) holder->token = m->index;
    assert_int_equal(reply->token, holder->token);
}

static uint64_t wait_end(const struct model *m, uint64_t wait_ms) {
    if (wait_ms == WIRE_WAIT_FOREVER) return UINT64_MAX;
    return m->time_ns + (m->policy.wait_allowance ? TTL_NS(wait_ms) : wait_ms * MS);
}

static void put_claim(struct model *m, const struct wire_request *r, uint64_t token) {
    struct model_claim *claim = &m->claims[m->claim_count++];
    *claim = (struct model_claim){.name_length = r->name_length,
                                  .claim = m->index,
                                  .lease = r->lease,
                                  .token = token,
                                  .session = r->session,
                                  .since_ns = m->time_ns,
                                  .wait_ns = UINT64_MAX};
    memcpy(claim->name, r + 1, r->name_length);
    if (token == 0) claim->wait_ns = wait_end(m, r->amount);
}

static void acquire_free(struct model *m, const struct wire_request *r,
                         const struct machine_reply *reply) {
    bool known = false;
    for (uint32_t i = 0; i < m->claim_count; i++)
        known |= is_of(&m->claims[i], r + 1, r->name_length);
    bool no_lock = !known && count_locks(m) == m->limits.locks;
    bool no_claim = m->claim_count == m->limits.claims;
    if (no_lock || no_claim) {
        assert_int_equal(reply->status, WIRE_FULL);
        assert_true((no_lock && reply->detail == WIRE_TABLE_LOCK) ||
                    (no_claim && reply->detail == WIRE_TABLE_CLAIM));
        return;
    }
    assert_int_equal(reply->status, WIRE_OK);
    assert_int_equal(reply->token, m->index);
    put_claim(m, r, m->index);
}

static void acquire_held(struct model *m, const struct wire_request *r, struct model_claim *holder,
                         const struct machine_reply *reply) {
    bool tries = r->amount == 0;
    enum again own = tries ? m->policy.hold_again : m->policy.hold_wait;
    bool queues_behind = !tries && own == AGAIN_NEW;
    if (holder->lease == r->lease && !queues_behind) {
        acquire_again(m, holder, own, reply);
        return;
    }
    struct model_claim *waits = find_waiter(m, r + 1, r->name_length, r->lease);
    bool same = waits != NULL && m->policy.wait_again == AGAIN_SAME;
    if (same && (!tries || m->policy.try_queued)) {
        assert_int_equal(reply->status, WIRE_QUEUED);
        assert_int_equal(reply->token, waits->claim);
        if (m->policy.again_moves) waits->session = r->session;
        if (m->policy.again_extends && !tries) {
            waits->wait_ns = wait_end(m, r->amount);
            waits->given_ns = 0; // due anew by the new end
        }
        return;
    }
    if (tries) {
        assert_int_equal(reply->status, WIRE_WOULD_BLOCK);
        assert_int_equal(reply->token, holder->token);
        if (waits != NULL && m->policy.try_leaves) {
            tell(m, waits, WIRE_WAIT_TIMEOUT);
            drop_claim(m, waits);
        }
        return;
    }
    if (m->claim_count == m->limits.claims) {
        assert_int_equal(reply->status, WIRE_FULL);
        assert_int_equal(reply->detail, WIRE_TABLE_CLAIM);
        return;
    }
    assert_int_equal(reply->status, WIRE_QUEUED);
    assert_int_equal(reply->token, m->index);
    put_claim(m, r, 0);
}

static void lock_acquire(struct model *m, const struct wire_request *r,
                         const struct machine_reply *reply) {
    if (living(m, r->lease, reply) == NULL) return;
    struct model_claim *holder = find_holder(m, r + 1, r->name_length);
    if (holder != NULL && claim_dead(m, holder, m->time_ns) && !m->policy.dead_holder_blocks) {
        if (m->policy.takeover_ends)
            end_lease(m, find_lease(m, holder->lease), WIRE_LEASE_EXPIRED);
        else
            free_lock(m, holder);
        holder = find_holder(m, r + 1, r->name_length);
    }
    if (holder == NULL)
        acquire_free(m, r, reply);
    else
        acquire_held(m, r, holder, reply);
}

static void lock_release(struct model *m, const struct wire_request *r,
                         const struct machine_reply *reply) {
    struct model_claim *holder = find_holder(m, r + 1, r->name_length);
    bool matches = holder != NULL && holder->token == r->token;
    if (matches && claim_dead(m, holder, m->time_ns) && !m->policy.dead_release) {
        assert_true(reply->status == WIRE_NOT_HOLDER || reply->status == WIRE_LEASE_EXPIRED);
        return;
    }
    assert_int_equal(reply->status, matches ? WIRE_OK : WIRE_NOT_HOLDER);
    if (matches) free_lock(m, holder);
}

static void execute(struct model *m, const struct wire_request *r,
                    const struct machine_reply *reply) {
    struct model_lease *lease;
    switch (r->op) {
    case WIRE_OP_LEASE_GRANT:
        lease_grant(m, r, reply);
        break;
    case WIRE_OP_LEASE_KEEPALIVE:
        lease = living(m, r->lease, reply);
        if (lease == NULL) break;
        assert_int_equal(reply->status, WIRE_OK);
        assert_int_equal(reply->amount, lease->ttl_ms);
        lease->deadline_ns = m->time_ns + TTL_NS(lease->ttl_ms);
        lease->epoch++;
        break;
    case WIRE_OP_LEASE_REVOKE:
        lease = living(m, r->lease, reply);
        if (lease == NULL) break;
        assert_int_equal(reply->status, WIRE_OK);
        end_lease(m, lease, WIRE_NO_LEASE);
        break;
    case WIRE_OP_LOCK_ACQUIRE:
        lock_acquire(m, r, reply);
        break;
    case WIRE_OP_LOCK_RELEASE:
        lock_release(m, r, reply);
        break;
    default:
        fail_msg("operation %u is not the model's", r->op);
    }
}

// ---------------------------------------------------------------- sessions

static void session_put(struct model *m, uint64_t nonce, uint64_t id) {
    assert_true(id != 0);
    for (uint32_t i = 0; i < m->session_count; i++) assert_int_not_equal(m->sessions[i].id, id);
    struct model_session *session = &m->sessions[m->session_count++];
    memset(session, 0, sizeof *session);
    session->id = id;
    session->nonce = nonce;
    session->heard_ns = session->executed_ns = m->time_ns;
}

static void session_open(struct model *m, const struct wire_request *r,
                         const struct machine_reply *reply) {
    bool may = false, must = false; // evict: heard of is more than executed
    for (uint32_t i = 0; i < m->session_count; i++) {
        struct model_session *session = &m->sessions[i];
        if (session->nonce == r->token && m->policy.reopen_same) {
            assert_int_equal(reply->status, WIRE_OK);
            assert_int_equal(reply->token, session->id);
            session->heard_ns = m->time_ns;
            return;
        }
        may |= m->time_ns - session->executed_ns >= MACHINE_SESSION_IDLE_NS;
        must |= m->time_ns - session->heard_ns >= MACHINE_SESSION_IDLE_NS;
    }
    if (m->session_count < m->limits.sessions) {
        assert_int_equal(reply->status, WIRE_OK);
        session_put(m, r->token, reply->token);
        return;
    }
    if (reply->status == WIRE_FULL) {
        assert_int_equal(reply->detail, WIRE_TABLE_SESSION);
        assert_false(must);
        return;
    }
    assert_int_equal(reply->status, WIRE_OK);
    assert_true(may);
    uint32_t victim = m->victim(m->context, m->sessions, m->session_count);
    assert_true(m->time_ns - m->sessions[victim].executed_ns >= MACHINE_SESSION_IDLE_NS);
    m->sessions[victim] = m->sessions[--m->session_count];
    session_put(m, r->token, reply->token);
}

static void of_session(struct model *m, const struct wire_request *r,
                       const struct machine_reply *reply) {
    struct model_session *session = NULL;
    for (uint32_t i = 0; i < m->session_count; i++)
        if (m->sessions[i].id == r->session) session = &m->sessions[i];
    if (session == NULL) {
        assert_int_equal(reply->status, WIRE_NO_SESSION);
        assert_false(reply->duplicate);
        return;
    }
    session->heard_ns = m->time_ns;
    uint64_t sequence = r->sequence;
    if (session->highest >= WIRE_SESSION_WINDOW &&
        sequence <= session->highest - WIRE_SESSION_WINDOW) {
        assert_int_equal(reply->status, WIRE_STALE_SEQUENCE);
        assert_false(reply->duplicate);
        return;
    }
    uint32_t at = (uint32_t)(sequence % WIRE_SESSION_WINDOW);
    if (session->cache[at].valid && session->cache[at].sequence == sequence) {
        struct machine_reply first = session->cache[at].reply;
        first.duplicate = true;
        assert_same_reply(reply, &first);
        return;
    }
    assert_false(reply->duplicate);
    execute(m, r, reply);
    session->executed_ns = m->time_ns;
    if (sequence > session->highest) session->highest = sequence;
    session->cache[at].valid = true;
    session->cache[at].sequence = sequence;
    session->cache[at].reply = *reply;
}

// ---------------------------------------------------------------- the leader's commands

static void apply_expiries(struct model *m, const struct wire_request *r) {
    for (uint32_t at = 0; at < r->value_length; at += sizeof(struct wire_expiry)) {
        struct wire_expiry expiry;
        memcpy(&expiry, (const uint8_t *)(r + 1) + at, sizeof expiry);
        struct model_lease *lease = find_lease(m, expiry.lease);
        if (lease == NULL || expiry.term != m->term) continue;
        if (lease->given_ns == 0 || lease->given_name != expiry.renewals) continue;
        if (lease->given_epoch != lease->epoch || !dead_at(lease, m->time_ns)) continue;
        end_lease(m, lease, WIRE_LEASE_EXPIRED);
    }
}

static void apply_wait_expiries(struct model *m, const struct wire_request *r) {
    for (uint32_t at = 0; at < r->value_length; at += sizeof(struct wire_wait_expiry)) {
        struct wire_wait_expiry expiry;
        memcpy(&expiry, (const uint8_t *)(r + 1) + at, sizeof expiry);
        for (uint32_t i = 0; i < m->claim_count; i++) {
            struct model_claim *claim = &m->claims[i];
            if (claim->claim != expiry.claim || claim->token != 0) continue;
            if (claim->wait_ns > m->time_ns) break; // it waits anew, and for longer
            tell(m, claim, WIRE_WAIT_TIMEOUT);
            drop_claim(m, claim);
            break;
        }
    }
}

static void compare_notices(const struct model *m, const struct lab *lab) {
    assert_int_equal(lab->notice_count, m->notice_count);
    for (uint32_t i = 0; i < m->notice_count; i++) {
        const struct machine_notice *expected = &m->notices[i];
        const struct machine_notice *got = notice_of(lab, expected->claim);
        assert_non_null(got);
        assert_int_equal(got->status, expected->status);
        assert_int_equal(got->session, expected->session);
        assert_int_equal(got->lease, expected->lease);
        if (expected->status == WIRE_OK) assert_int_equal(got->token, expected->token);
    }
}

void model_apply(struct model *m, const struct lab *lab, const struct record *record,
                 const struct machine_reply *reply) {
    m->index = lab->index;
    m->term = record->term;
    m->time_ns = record->time_ns;
    m->notice_count = 0;
    const struct wire_request *r = &record->command.request;
    if (record->type == RAFT_ENTRY_COMMAND) {
        if (r->op == WIRE_OP_SESSION_OPEN)
            session_open(m, r, reply);
        else if (r->op == WIRE_OP_EXPIRE_LEASES)
            apply_expiries(m, r);
        else if (r->op == WIRE_OP_EXPIRE_WAITS)
            apply_wait_expiries(m, r);
        else if (r->op != WIRE_OP_TICK)
            of_session(m, r, reply);
    }
    compare_notices(m, lab);
    assert_sizes(lab, m->session_count, m->lease_count, count_locks(m), m->claim_count);
}

// ---------------------------------------------------------------- reads

static void check_claim_line(struct model *m, const struct lab *lab, const struct wire_claim *got,
                             const struct model_claim *claim) {
    assert_int_equal(got->claim, claim->claim);
    assert_int_equal(got->lease, claim->lease);
    assert_int_equal(got->token, claim->token);
    assert_int_equal(got->session, claim->session);
    uint64_t since_ns = lab->time_ns - claim->since_ns;
    assert_in_range(got->since_ms, since_ns / MS, (since_ns + MS - 1) / MS);
}

static void check_lists(struct model *m, struct lab *lab, const void *name, uint32_t length) {
    struct wire_claim listed[MODEL_CLAIMS];
    uint32_t bytes, count = queue_of(lab, name, length, listed, MODEL_CLAIMS), at = 0;
    for (uint32_t i = 0; i < m->claim_count; i++) {
        struct model_claim *claim = &m->claims[i];
        if (!is_of(claim, name, length) || claim->token != 0) continue;
        if (claim_dead(m, claim, lab->time_ns) && !m->policy.dead_queued) continue;
        assert_true(at < count);
        check_claim_line(m, lab, &listed[at++], claim);
    }
    assert_int_equal(at, count);

    struct model_claim *holder = find_holder(m, name, length);
    if (holder != NULL && claim_dead(m, holder, lab->time_ns) && !m->policy.dead_held)
        holder = NULL;
    struct ask ask = {.op = WIRE_OP_LOCK_HOLDERS, .name = name, .name_length = length};
    struct machine_reply reply = lab_query(lab, &ask, listed, &bytes);
    assert_int_equal(reply.status, WIRE_OK);
    assert_int_equal(reply.amount, holder != NULL);
    assert_int_equal(bytes, reply.amount * sizeof listed[0]);
    if (holder != NULL) check_claim_line(m, lab, &listed[0], holder);
}

static void check_ttl(struct model *m, struct lab *lab, uint64_t id) {
    struct model_lease *lease = find_lease(m, id);
    struct machine_reply reply = ttl_of(lab, id);
    if (lease == NULL || dead_at(lease, lab->time_ns)) {
        assert_true(is_gone(reply.status));
        return;
    }
    assert_int_equal(reply.status, WIRE_OK);
    assert_int_equal(reply.token, lease->ttl_ms);
    uint64_t left_ns = lease->deadline_ns - lab->time_ns;
    uint64_t low = (left_ns - left_ns / MACHINE_DRIFT_DIVISOR) / MS;
    assert_in_range(reply.amount, low > 0 ? low - 1 : 0, (left_ns + MS - 1) / MS);
}

static void check_claim(struct model *m, struct lab *lab, const void *name, uint32_t length,
                        uint64_t lease_id, uint64_t id) {
    uint8_t none[WIRE_VALUE_MAX];
    uint32_t bytes;
    struct ask ask = {
        .op = WIRE_OP_CLAIM, .name = name, .name_length = length, .lease = lease_id, .token = id};
    struct machine_reply reply = lab_query(lab, &ask, none, &bytes);
    assert_int_equal(bytes, 0);
    struct model_lease *lease = find_lease(m, lease_id);
    if (lease == NULL || dead_at(lease, lab->time_ns)) {
        assert_true(is_gone(reply.status));
        return;
    }
    for (uint32_t i = 0; i < m->claim_count; i++) {
        struct model_claim *claim = &m->claims[i];
        if (claim->claim != id || claim->lease != lease_id || !is_of(claim, name, length)) continue;
        if (claim->token == 0 && claim->wait_ns <= lab->time_ns &&
            reply.status == WIRE_WAIT_TIMEOUT)
            return; // its time is over, though that has not been applied
        assert_int_equal(reply.status, claim->token != 0 ? WIRE_OK : WIRE_QUEUED);
        assert_int_equal(reply.token, claim->token != 0 ? claim->token : id);
        return;
    }
    assert_true(reply.status == WIRE_WAIT_TIMEOUT || reply.status == WIRE_NOT_HOLDER);
}

void model_check_reads(struct model *m, struct lab *lab, const void *name, uint32_t name_length,
                       uint64_t lease, uint64_t claim) {
    check_lists(m, lab, name, name_length);
    check_ttl(m, lab, lease);
    check_claim(m, lab, name, name_length, lease, claim);
}

// ---------------------------------------------------------------- what is due

// A retry may be a little later than promised, since a timer has a grain.
#define RETRY_SLACK_NS (50 * MS)

void model_check_due(struct model *m, const struct lab *lab, const struct wire_expiry *leases,
                     uint32_t lease_count, const struct wire_wait_expiry *waits,
                     uint32_t wait_count) {
    uint64_t now = lab->time_ns;
    for (uint32_t i = 0; i < lease_count; i++) {
        struct model_lease *lease = find_lease(m, leases[i].lease);
        assert_non_null(lease);
        assert_true(dead_at(lease, now));
        assert_true(lease->given_ns == 0 || now - lease->given_ns >= MACHINE_RETRY_NS);
        lease->given_ns = now;
        lease->given_epoch = lease->epoch;
        lease->given_name = leases[i].renewals;
    }
    for (uint32_t i = 0; i < m->lease_count; i++) { // and none was left out
        struct model_lease *lease = &m->leases[i];
        if (!dead_at(lease, now)) continue;
        assert_true(lease->given_ns != 0);
        assert_true(now - lease->given_ns <= MACHINE_RETRY_NS + RETRY_SLACK_NS);
    }
    for (uint32_t i = 0; i < wait_count; i++) {
        struct model_claim *claim = NULL;
        for (uint32_t k = 0; k < m->claim_count; k++)
            if (m->claims[k].claim == waits[i].claim) claim = &m->claims[k];
        assert_non_null(claim);
        assert_int_equal(claim->token, 0);
        assert_int_equal(claim->lease, waits[i].lease);
        assert_true(claim->wait_ns <= now);
        assert_true(claim->given_ns == 0 || now - claim->given_ns >= MACHINE_RETRY_NS);
        claim->given_ns = now;
    }
    for (uint32_t i = 0; i < m->claim_count; i++) {
        struct model_claim *claim = &m->claims[i];
        if (claim->token != 0 || claim->wait_ns > now) continue;
        assert_true(claim->given_ns != 0);
        assert_true(now - claim->given_ns <= MACHINE_RETRY_NS + RETRY_SLACK_NS);
    }
}
