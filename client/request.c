// Operations, one slot each, from start to the one call of `done`.
//
//   READY ----------------------------------------------------> told at the next tick
//   WAITING --admit: cluster known, session open, window--> OPEN --reply--> told
//      ^                                                     |  ^
//      |                                                     |  +-- silence, busy, not_leader:
//      +------------- no_session, surely not executed -------+      the same bytes again, later
//
// Two slots are the engine's own: one opens the session, one asks for the cluster's id. They live
// only while something waits for them.
#include "core_internal.h"

// ---------------------------------------------------------------- outcomes

void request_cancel(struct core *core, struct core_request *request) {
    request->state = REQUEST_FREE;
    if (request->owned) core->owned--;
    while (core->used > REQUEST_FIRST && core->requests[core->used - 1].state == REQUEST_FREE) {
        core->used--;
    }
}

void request_finish(struct core *core, struct core_request *request,
                    const struct core_result *result) {
    assert(request->state != REQUEST_FREE);
    core_done_fn done = request->done;
    void *context = request->context;
    request_cancel(core, request);
    if (done) done(context, result);
}

static void describe(const struct core_request *request, struct core_result *result) {
    *result = (struct core_result){
        .op = request->wire.op,
        .session = request->wire.session,
        .lease = request->wire.lease,
        .first_sent_ns = request->attempts ? request->first_sent_ns : 0,
        .attempts = request->attempts,
    };
}

void request_fail(struct core *core, struct core_request *request, uint16_t status) {
    struct core_result result;
    describe(request, &result);
    result.status = status;
    if (status == WIRE_UNKNOWN) core_count(core, CORE_COUNT_UNKNOWN);
    if (status == CORE_TIMEOUT) core_count(core, CORE_COUNT_TIMEOUTS);
    request_finish(core, request, &result);
}

// No answer in time. Only what was logged and has left this machine can have changed anything.
static void expire(struct core *core, struct core_request *request) {
    bool sent = request->state == REQUEST_OPEN && request->attempts > 0;
    if (request->awaiting) route_silence(core, request->target, request->last_sent_ns);
    bool doubt = sent && wire_op_is_logged(request->wire.op);
    request_fail(core, request, doubt ? WIRE_UNKNOWN : CORE_TIMEOUT);
}

// ---------------------------------------------------------------- starting

static struct core_request *take_slot(struct core *core, bool owned) {
    if (owned && core->owned >= core->options.operations) return NULL;
    for (uint32_t i = REQUEST_FIRST; i < core->request_count; i++) {
        struct core_request *request = &core->requests[i];
        if (request->state != REQUEST_FREE) continue;
        if (i >= core->used) core->used = i + 1;
        if (owned) core->owned++;
        return request;
    }
    return NULL;
}

static void fill(struct core *core, struct core_request *request, const struct core_call *call,
                 bool owned) {
    uint64_t timeout_ns = call->timeout_ns ? call->timeout_ns : core->options.timeout_ns;
    memset(request, 0, offsetof(struct core_request, name));
    request->state = REQUEST_WAITING;
    request->owned = owned;
    request->urgent = call->urgent;
    request->endpoint = wire_op_is_local(call->op) ? call->endpoint : ROUTE_MAX;
    request->order = ++core->order;
    request->deadline_ns = time_add(core->now_ns, timeout_ns);
    request->next_ns = core->now_ns;
    request->wire.op = call->op;
    request->wire.mode = WIRE_MODE_EXCLUSIVE;
    request->wire.name_length = call->name_length;
    request->wire.lease = call->lease;
    request->wire.token = call->token;
    request->wire.amount = call->amount;
    if (call->name_length) memcpy(request->name, call->name, call->name_length);
}

struct core_request *request_create(struct core *core, const struct core_call *call, bool owned,
                                    core_done_fn done, void *context) {
    struct core_request *request = take_slot(core, owned);
    if (!request) {
        core_count(core, CORE_COUNT_LIMIT);
        return NULL;
    }
    fill(core, request, call, owned);
    request->done = done;
    request->context = context;
    return request;
}

uint16_t request_ready(struct core *core, const struct core_result *result, core_done_fn done,
                       void *context) {
    struct core_call call = {.op = result->op, .endpoint = ROUTE_MAX};
    struct core_request *request = request_create(core, &call, true, done, context);
    if (!request) return CORE_LIMIT;
    request->state = REQUEST_READY;
    request->result = *result;
    return WIRE_OK;
}

static bool call_is_sound(const struct core *core, const struct core_call *call) {
    bool named = call->name_length > 0;
    switch (call->op) {
    case WIRE_OP_LEASE_GRANT:
        return !named && call->amount >= WIRE_TTL_MS_MIN && call->amount <= WIRE_TTL_MS_MAX;
    case WIRE_OP_LEASE_KEEPALIVE:
    case WIRE_OP_LEASE_REVOKE:
    case WIRE_OP_LEASE_TTL:
        return !named && call->lease != 0;
    case WIRE_OP_LOCK_RELEASE:
        return named && call->token != 0;
    case WIRE_OP_LOCK_HOLDERS:
    case WIRE_OP_LOCK_QUEUE:
        return named;
    case WIRE_OP_STATUS:
    case WIRE_OP_COUNTERS:
        return !named && call->endpoint < core->options.endpoint_count;
    default:
        return false; // LOCK_ACQUIRE and CLAIM are core_acquire()'s, the rest is the engine's own
    }
}

uint16_t core_start(struct core *core, uint64_t now_ns, const struct core_call *call,
                    core_done_fn done, void *context) {
    core_advance(core, now_ns);
    if (core->closed) return CORE_CLOSED;
    if (!call_is_sound(core, call)) return WIRE_BAD_REQUEST;
    return request_create(core, call, true, done, context) ? WIRE_OK : CORE_LIMIT;
}

// ---------------------------------------------------------------- session and cluster

static void fail_waiting_logged(struct core *core, const struct core_result *why) {
    for (uint32_t i = REQUEST_FIRST; i < core->used; i++) {
        struct core_request *request = &core->requests[i];
        if (request->state != REQUEST_WAITING || !wire_op_is_logged(request->wire.op)) continue;
        struct core_result result;
        describe(request, &result);
        result.status = why->status;
        result.detail = why->detail;
        request_finish(core, request, &result);
    }
}

static void session_opened(void *context, const struct core_result *result) {
    struct core *core = context;
    if (result->status != WIRE_OK) {
        if (result->status != CORE_CLOSED) fail_waiting_logged(core, result);
        return;
    }
    core->session = result->token;
    core->sequence = 1;
    core_count(core, CORE_COUNT_SESSIONS_OPENED);
    if (core->options.notice) {
        core->options.notice(core->options.context, CORE_NOTICE_SESSION_OPENED, core->session);
    }
}

static uint64_t session_nonce(const struct core *core) {
    uint64_t nonce = core->options.nonce + core->nonces * 0x9e3779b97f4a7c15ull;
    return nonce ? nonce : 1;
}

// The session is gone: `refused` was told so. What was never executed for certain goes to the next
// session; of all else that was sent nobody can say.
static void session_lost(struct core *core, struct core_request *refused) {
    uint64_t session = refused->wire.session;
    bool sure = refused->attempts == 1 && core->now_ns - refused->first_sent_ns < SESSION_SURE_NS;
    if (session == core->session) {
        core->session = 0;
        core->nonces++;
        core_count(core, CORE_COUNT_SESSIONS_LOST);
    }
    if (sure) {
        refused->state = REQUEST_WAITING;
        refused->wire.session = 0;
        refused->awaiting = false;
        refused->attempts = 0;
        // If sessions are lost again and again, something is wrong: do not hammer.
        refused->next_ns =
            core->now_ns + core_backoff(core, REDIRECT_NS, REDIRECT_NS_MAX, refused->redirects++);
    }
    for (uint32_t i = REQUEST_FIRST; i < core->used; i++) {
        struct core_request *request = &core->requests[i];
        if (request->state != REQUEST_OPEN || !wire_op_is_logged(request->wire.op)) continue;
        if (request->wire.session != session) continue;
        if (request->attempts == 0) { // has a sequence but was never sent
            request->state = REQUEST_WAITING;
        } else {
            request_fail(core, request, WIRE_UNKNOWN);
        }
    }
    if (core->options.notice) {
        core->options.notice(core->options.context, CORE_NOTICE_SESSION_LOST, session);
    }
}

static void cluster_learned(void *context, const struct core_result *result) {
    struct core *core = context;
    if (result->status != WIRE_OK || result->value_length < sizeof(struct wire_status)) return;
    const struct wire_status *status = result->value;
    route_learn(core, status->leader_endpoint);
}

// Keeps the engine's own requests going exactly while something waits for them.
static void serve_waiting(struct core *core) {
    bool any = false;
    bool logged = false;
    for (uint32_t i = REQUEST_FIRST; i < core->used; i++) {
        const struct core_request *request = &core->requests[i];
        if (request->state != REQUEST_WAITING) continue;
        any |= request->wire.op != WIRE_OP_STATUS;
        logged |= wire_op_is_logged(request->wire.op) != 0;
    }
    struct core_request *learn = &core->requests[REQUEST_LEARN];
    bool want_learn = any && core->cluster == 0;
    if (!want_learn && learn->state != REQUEST_FREE) request_cancel(core, learn);
    if (want_learn && learn->state == REQUEST_FREE) {
        struct core_call call = {.op = WIRE_OP_STATUS, .endpoint = ROUTE_MAX, .timeout_ns = NEVER};
        fill(core, learn, &call, false);
        learn->done = cluster_learned;
        learn->context = core;
    }
    struct core_request *opening = &core->requests[REQUEST_SESSION];
    bool want_session = logged && core->session == 0;
    if (!want_session && opening->state != REQUEST_FREE) request_cancel(core, opening);
    if (want_session && opening->state == REQUEST_FREE) {
        struct core_call call = {
            .op = WIRE_OP_SESSION_OPEN, .token = session_nonce(core), .timeout_ns = NEVER};
        fill(core, opening, &call, false);
        opening->done = session_opened;
        opening->context = core;
    }
}

// ---------------------------------------------------------------- admission and sending

static bool window_has_room(const struct core *core) {
    for (uint32_t i = REQUEST_FIRST; i < core->used; i++) {
        const struct core_request *request = &core->requests[i];
        if (request->state == REQUEST_OPEN && request->wire.session == core->session &&
            wire_op_is_logged(request->wire.op) &&
            core->sequence - request->wire.sequence >= WIRE_SESSION_WINDOW) {
            return false;
        }
    }
    return true;
}

static bool goes_before(const struct core_request *a, const struct core_request *b) {
    if (a->urgent != b->urgent) return a->urgent;
    return a->order < b->order;
}

// Logged requests get their sequences in the order they were started.
static void admit_logged(struct core *core) {
    while (core->session != 0) {
        struct core_request *first = NULL;
        for (uint32_t i = REQUEST_FIRST; i < core->used; i++) {
            struct core_request *request = &core->requests[i];
            if (request->state != REQUEST_WAITING || !wire_op_is_logged(request->wire.op)) continue;
            if (request->next_ns > core->now_ns) continue;
            if (!first || goes_before(request, first)) first = request;
        }
        if (!first) return;
        if (!window_has_room(core)) {
            if (!first->held) core_count(core, CORE_COUNT_WINDOW_FULL);
            first->held = true;
            return;
        }
        first->state = REQUEST_OPEN;
        first->wire.session = core->session;
        first->wire.sequence = core->sequence++;
    }
}

static void admit(struct core *core) {
    serve_waiting(core);
    for (uint32_t i = 0; i < core->used; i++) {
        struct core_request *request = &core->requests[i];
        if (request->state != REQUEST_WAITING) continue;
        bool opens = request->wire.op == WIRE_OP_SESSION_OPEN;
        if (wire_op_is_logged(request->wire.op) && !opens) continue;
        if (core->cluster == 0 && request->wire.op != WIRE_OP_STATUS) continue;
        request->state = REQUEST_OPEN;
        request->wire.sequence = core->read_sequence++;
    }
    admit_logged(core);
}

static bool is_due(const struct core *core, const struct core_request *request) {
    return request->state == REQUEST_OPEN && request->next_ns <= core->now_ns;
}

static uint32_t request_target(const struct core *core, const struct core_request *request) {
    return request->endpoint == ROUTE_MAX ? core->leader : request->endpoint;
}

static uint64_t retry_first_ns(const struct core *core) {
    if (!core->measured) return RETRY_NS_FIRST;
    uint64_t ns = core->round_trip_ns + 4 * core->variation_ns;
    if (ns < RETRY_NS_MIN) return RETRY_NS_MIN;
    return ns < RETRY_NS_MAX ? ns : RETRY_NS_MAX;
}

// False: no room left in the frame.
static bool put(struct core *core, struct wire_writer *writer, struct core_request *request,
                uint32_t target) {
    uint32_t length = (uint32_t)sizeof request->wire + request->wire.name_length;
    struct wire_request *message = wire_add(writer, WIRE_REQUEST, 0, length);
    if (!message) return false;
    request->wire.head = message->head;
    *message = request->wire;
    memcpy(message + 1, request->name, request->wire.name_length);

    core_count(core, CORE_COUNT_REQUESTS_SENT);
    if (request->attempts > 0) core_count(core, CORE_COUNT_REQUESTS_RESENT);
    if (request->attempts == 0) request->first_sent_ns = core->now_ns;
    request->last_sent_ns = core->now_ns;
    request->target = target;
    request->awaiting = true;
    request->next_ns = time_add(
        core->now_ns, core_backoff(core, retry_first_ns(core), RETRY_NS_MAX, request->attempts));
    request->attempts++;
    return true;
}

bool core_send(struct core *core, uint64_t now_ns, struct core_datagram *datagram) {
    core_advance(core, now_ns);
    if (core->closed) return false;
    admit(core);
    // Silences first, since they may turn all of what is due to another node.
    for (uint32_t i = 0; i < core->used; i++) {
        struct core_request *request = &core->requests[i];
        if (!is_due(core, request) || !request->awaiting) continue;
        request->awaiting = false;
        route_silence(core, request->target, request->last_sent_ns);
    }
    struct wire_writer writer;
    uint32_t target = ROUTE_MAX;
    for (uint32_t i = 0; i < core->used; i++) {
        struct core_request *request = &core->requests[i];
        if (!is_due(core, request)) continue;
        uint32_t to = request_target(core, request);
        if (target == ROUTE_MAX) {
            target = to;
            wire_begin(&writer, core->frame, sizeof core->frame, core->cluster, core->options.group,
                       0);
        }
        if (to == target && !put(core, &writer, request, to)) break;
    }
    if (target == ROUTE_MAX) return false;
    datagram->endpoint = core->endpoints[target].address;
    datagram->bytes = core->frame;
    datagram->length = wire_finish(&writer);
    core_count(core, CORE_COUNT_DATAGRAMS_SENT);
    return true;
}

// Another node leads than the one these were sent to: do not wait out their time.
void request_hurry(struct core *core, uint32_t leader) {
    for (uint32_t i = 0; i < core->used; i++) {
        struct core_request *request = &core->requests[i];
        if (request->state != REQUEST_OPEN || request->attempts == 0) continue;
        if (request->endpoint != ROUTE_MAX || request->target == leader) continue;
        request->awaiting = false;
        request->next_ns = core->now_ns;
    }
}

// ---------------------------------------------------------------- replies

static struct core_request *find_open(struct core *core, uint32_t from,
                                      const struct wire_reply *reply) {
    for (uint32_t i = 0; i < core->used; i++) {
        struct core_request *request = &core->requests[i];
        if (request->state != REQUEST_OPEN || request->attempts == 0) continue;
        if (request->wire.sequence != reply->sequence || request->wire.op != reply->op) continue;
        bool opens = reply->op == WIRE_OP_SESSION_OPEN; // may name the session it opened
        if (request->wire.session != reply->session && !opens) continue;
        // A node speaks of its own memory, or refuses, only for itself.
        bool own = wire_op_is_local(reply->op) || reply->status == WIRE_NOT_LEADER ||
                   reply->status == WIRE_BUSY;
        if (own && request->target != from) continue;
        return request;
    }
    return NULL;
}

// Round trip and its variation as RFC 6298 has them; retried exchanges tell nothing (Karn).
static void measure(struct core *core, const struct core_request *request) {
    if (request->attempts != 1) return;
    uint64_t ns = core->now_ns - request->first_sent_ns;
    if (!core->measured) {
        core->measured = true;
        core->round_trip_ns = ns;
        core->variation_ns = ns / 2;
        return;
    }
    uint64_t off = ns > core->round_trip_ns ? ns - core->round_trip_ns : core->round_trip_ns - ns;
    core->variation_ns = (3 * core->variation_ns + off) / 4;
    core->round_trip_ns = (7 * core->round_trip_ns + ns) / 8;
}

static void redirected(struct core *core, struct core_request *request, uint32_t from,
                       uint64_t hint) {
    route_not_leader(core, from, hint);
    request->awaiting = false;
    uint32_t times = request->redirects++;
    request->next_ns = core->now_ns;
    if (times >= REDIRECTS_AT_ONCE) {
        request->next_ns +=
            core_backoff(core, REDIRECT_NS, REDIRECT_NS_MAX, times - REDIRECTS_AT_ONCE);
    }
}

static void refused_busy(struct core *core, struct core_request *request) {
    core_count(core, CORE_COUNT_BUSY);
    core->trouble = TROUBLE_BUSY;
    request->awaiting = false;
    request->next_ns = core->now_ns + core_backoff(core, BUSY_NS, BUSY_NS_MAX, request->refusals++);
}

static void answered(struct core *core, struct core_request *request,
                     const struct wire_reply *reply) {
    struct core_result result;
    describe(request, &result);
    result.status = reply->status;
    result.detail = reply->detail;
    result.token = reply->token;
    result.amount = reply->amount;
    result.index = reply->index;
    result.value = wire_reply_value(reply);
    result.value_length = reply->value_length;
    if (request->attempts == 1) result.round_trip_ns = core->now_ns - request->first_sent_ns;
    request_finish(core, request, &result);
}

void request_reply(struct core *core, uint32_t from, const struct wire_reply *reply) {
    struct core_request *request = find_open(core, from, reply);
    if (!request) {
        core_count(core, CORE_COUNT_DROP_STALE);
        return;
    }
    bool no_session =
        reply->op == WIRE_OP_SESSION_OPEN && reply->status == WIRE_OK && reply->token == 0;
    if (reply->status >= WIRE_STATUS_COUNT || no_session) {
        core_count(core, CORE_COUNT_DROP_STATUS);
        return;
    }
    core_count(core, CORE_COUNT_REPLIES);
    if (reply->status == WIRE_NOT_LEADER) {
        redirected(core, request, from, reply->amount);
        return;
    }
    measure(core, request);
    if (reply->status == WIRE_BUSY) {
        refused_busy(core, request);
        return;
    }
    uint64_t order = request->order;
    if (!wire_op_is_local(reply->op)) route_answered(core, from);
    if (request->state != REQUEST_OPEN || request->order != order) return; // by a callback
    if (reply->status == WIRE_NO_SESSION && request->wire.session != 0) {
        session_lost(core, request);
    } else if (reply->status == WIRE_STALE_SEQUENCE) {
        core_count(core, CORE_COUNT_STALE_SEQUENCE);
        request_fail(core, request, WIRE_UNKNOWN);
    } else {
        answered(core, request, reply);
    }
}

// ---------------------------------------------------------------- time

void request_tick(struct core *core) {
    for (uint32_t i = 0; i < core->used; i++) {
        struct core_request *request = &core->requests[i];
        if (request->state == REQUEST_READY) {
            struct core_result result = request->result;
            // Re-entry under a lease that was lost or closed since.
            bool acquired = result.op == WIRE_OP_LOCK_ACQUIRE && result.status == WIRE_OK;
            if (acquired && core_lease_remaining_ns(core, core->now_ns, result.lease) == 0) {
                result.status = WIRE_LEASE_EXPIRED;
            }
            request_finish(core, request, &result);
        } else if (request_is_active(request) && request->deadline_ns <= core->now_ns) {
            expire(core, request);
        }
    }
}

uint64_t request_next_timeout(const struct core *core) {
    uint64_t next_ns = NEVER;
    for (uint32_t i = 0; i < core->used; i++) {
        const struct core_request *request = &core->requests[i];
        if (request->state == REQUEST_READY) return core->now_ns;
        if (!request_is_active(request)) continue;
        if (request->deadline_ns < next_ns) next_ns = request->deadline_ns;
        // What waits for session or window goes on when an answer comes, not by time.
        bool timed = request->state == REQUEST_OPEN || request->next_ns > core->now_ns;
        if (timed && request->next_ns < next_ns) next_ns = request->next_ns;
    }
    return next_ns;
}

void request_close(struct core *core) {
    for (uint32_t i = 0; i < core->used; i++) {
        struct core_request *request = &core->requests[i];
        if (request->state != REQUEST_FREE) request_fail(core, request, CORE_CLOSED);
    }
}
