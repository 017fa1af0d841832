// Locks: waiting in the queue, holding, and re-entry.
//
//   ASKING --OK--> held                       A queued claim is told of its grant by an event.
//   Events
//     |                                       may be lost, and only go to the address that asked
//     last,
//     +--QUEUED--> QUEUED <--> POLLING        so the claim is also asked for: soon at first, then
//                    |            |           less often, and at once when another node leads.
//                    +--event-----+--> held, or the wait is over
//
// What is held is kept here only for re-entry and for conclave_lock_held(), and only under leases
// kept here, of which it is known how long they live. The truth is the cluster's, and whatever the
// lock protects decides by token.
#include "core_internal.h"

static struct core_hold *find_hold(const struct core *core, const char *name,
                                   uint32_t name_length) {
    for (uint32_t i = 0; i < core->options.locks; i++) {
        struct core_hold *hold = &core->holds[i];
        if (hold->depth && name_equal(hold->name, hold->name_length, name, name_length))
            return hold;
    }
    return NULL;
}

static void end_wait(struct core *core, struct core_wait *wait, const struct core_result *result) {
    core_done_fn done = wait->done;
    void *context = wait->context;
    if (wait->request) request_cancel(core, wait->request);
    wait->request = NULL;
    wait->state = WAIT_FREE;
    core->owned--;
    if (done) done(context, result);
}

static void fail_wait(struct core *core, struct core_wait *wait, uint16_t status) {
    struct core_result result = {
        .op = WIRE_OP_LOCK_ACQUIRE, .status = status, .lease = wait->lease};
    if (status == WIRE_UNKNOWN) core_count(core, CORE_COUNT_UNKNOWN);
    end_wait(core, wait, &result);
}

static void granted(struct core *core, struct core_wait *wait, const struct core_result *answer) {
    struct core_result result = *answer;
    result.op = WIRE_OP_LOCK_ACQUIRE;
    result.lease = wait->lease;
    // Its holder has been told to stop, or has told us to: this is not ours.
    if (wait->closing || lease_is_lost(core, wait->lease)) {
        fail_wait(core, wait, WIRE_LEASE_EXPIRED);
        return;
    }
    if (core_lease_remaining_ns(core, core->now_ns, wait->lease) == 0) { // not kept here
        end_wait(core, wait, &result);
        return;
    }
    // The same name may still be listed from a grant that the server has since taken back.
    struct core_hold *hold = find_hold(core, wait->name, wait->name_length);
    for (uint32_t i = 0; i < core->options.locks && !hold; i++) {
        if (core->holds[i].depth == 0) hold = &core->holds[i];
    }
    assert(hold); // core_acquire() counted the slots
    hold->depth = 1;
    hold->name_length = wait->name_length;
    memcpy(hold->name, wait->name, wait->name_length);
    hold->lease = wait->lease;
    hold->token = result.token;
    end_wait(core, wait, &result);
}

// Refused, or over without a grant. A lease that is gone is told of as such first.
static void refused(struct core *core, struct core_wait *wait, const struct core_result *answer) {
    struct core_result result = *answer;
    bool gone = result.status == WIRE_NO_LEASE || result.status == WIRE_LEASE_EXPIRED;
    if (gone && lease_gone(core, wait->lease, result.status)) return;
    result.op = WIRE_OP_LOCK_ACQUIRE;
    result.lease = wait->lease;
    end_wait(core, wait, &result);
}

// ---------------------------------------------------------------- asking and polling

static void queue_again(struct core *core, struct core_wait *wait) {
    wait->state = WAIT_QUEUED;
    wait->poll_ns = core->now_ns + core_jitter(core, wait->interval_ns);
    wait->interval_ns *= 2;
    if (wait->interval_ns > POLL_NS_MAX) wait->interval_ns = POLL_NS_MAX;
    // Ask once more just after the wait should have ended.
    uint64_t after_ns = time_add(wait->due_ns, 10 * MS_NS);
    if (core->now_ns < after_ns && wait->poll_ns > after_ns) wait->poll_ns = after_ns;
}

static void polled(void *context, const struct core_result *result) {
    struct core_wait *wait = context;
    struct core *core = wait->core;
    wait->request = NULL;
    if (result->status == WIRE_QUEUED || result->status == CORE_TIMEOUT) {
        queue_again(core, wait);
    } else if (result->status == WIRE_OK) {
        core_count(core, CORE_COUNT_GRANTS_BY_POLL);
        granted(core, wait, result);
    } else {
        refused(core, wait, result);
    }
}

static void poll_claim(struct core *core, struct core_wait *wait) {
    struct core_call call = {
        .op = WIRE_OP_CLAIM,
        .name = wait->name,
        .name_length = wait->name_length,
        .lease = wait->lease,
        .token = wait->claim,
    };
    wait->request = request_create(core, &call, false, polled, wait);
    assert(wait->request); // a wait's slot is counted with the caller's operations
    wait->state = WAIT_POLLING;
    core_count(core, CORE_COUNT_POLLS);
}

static void asked(void *context, const struct core_result *result) {
    struct core_wait *wait = context;
    struct core *core = wait->core;
    wait->request = NULL;
    if (result->status == WIRE_OK) {
        granted(core, wait, result);
    } else if (result->status == WIRE_QUEUED) {
        wait->session = result->session;
        wait->claim = result->token;
        wait->interval_ns = POLL_NS_FIRST;
        queue_again(core, wait);
        // A retried question may have been queued, and even granted, some time ago.
        if (result->attempts > 1) wait->poll_ns = core->now_ns;
    } else {
        refused(core, wait, result);
    }
}

static bool has_room(const struct core *core) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < core->options.locks; i++) used += core->holds[i].depth > 0;
    for (uint32_t i = 0; i < core->options.operations; i++) {
        used += core->waits[i].state != WAIT_FREE;
    }
    return used < core->options.locks;
}

// A free wait, counted and with a slot for what it may come to hold; NULL: at a limit.
static struct core_wait *take_wait(struct core *core) {
    if (core->owned >= core->options.operations || !has_room(core)) return NULL;
    for (uint32_t i = 0; i < core->options.operations; i++) {
        struct core_wait *wait = &core->waits[i];
        if (wait->state != WAIT_FREE) continue;
        memset(wait, 0, offsetof(struct core_wait, name));
        wait->state = WAIT_ASKING;
        wait->core = core;
        core->owned++;
        return wait;
    }
    return NULL;
}

static bool is_acquiring(const struct core *core, const char *name, uint32_t name_length,
                         uint64_t lease) {
    for (uint32_t i = 0; i < core->options.operations; i++) {
        const struct core_wait *wait = &core->waits[i];
        if (wait->state != WAIT_FREE && wait->lease == lease &&
            name_equal(wait->name, wait->name_length, name, name_length)) {
            return true;
        }
    }
    return false;
}

uint16_t core_acquire(struct core *core, uint64_t now_ns, const char *name, uint32_t name_length,
                      uint64_t lease, uint64_t wait_ms, core_done_fn done, void *context) {
    core_advance(core, now_ns);
    if (core->closed) return CORE_CLOSED;
    bool bounded = wait_ms != WIRE_WAIT_FOREVER;
    if (name_length == 0 || name_length > WIRE_NAME_MAX || lease == 0 ||
        (bounded && wait_ms > WIRE_WAIT_MS_MAX)) {
        return WIRE_BAD_REQUEST;
    }
    struct core_result known = {.op = WIRE_OP_LOCK_ACQUIRE, .lease = lease};
    if (lease_is_lost(core, lease)) {
        known.status = WIRE_LEASE_EXPIRED;
        return request_ready(core, &known, done, context);
    }
    struct core_hold *hold = find_hold(core, name, name_length);
    bool kept = core_lease_remaining_ns(core, core->now_ns, lease) > 0;
    if (hold && hold->lease == lease && kept) {
        known.token = hold->token;
        uint16_t status = request_ready(core, &known, done, context);
        if (status != WIRE_OK) return status;
        hold->depth++;
        core_count(core, CORE_COUNT_REENTRIES);
        return WIRE_OK;
    }
    if (is_acquiring(core, name, name_length, lease)) return WIRE_BUSY;
    struct core_wait *wait = take_wait(core);
    if (!wait) {
        core_count(core, CORE_COUNT_LIMIT);
        return CORE_LIMIT;
    }
    wait->name_length = (uint8_t)name_length;
    memcpy(wait->name, name, name_length);
    wait->lease = lease;
    wait->due_ns = bounded ? core->now_ns + wait_ms * MS_NS : NEVER;
    wait->deadline_ns = time_add(wait->due_ns, core->options.timeout_ns);
    wait->done = done;
    wait->context = context;
    struct core_call call = {
        .op = WIRE_OP_LOCK_ACQUIRE,
        .name = wait->name,
        .name_length = wait->name_length,
        .lease = lease,
        .amount = wait_ms,
    };
    wait->request = request_create(core, &call, false, asked, wait);
    assert(wait->request);
    return WIRE_OK;
}

// ---------------------------------------------------------------- releasing

uint16_t core_release(struct core *core, uint64_t now_ns, const char *name, uint32_t name_length,
                      uint64_t token, core_done_fn done, void *context) {
    core_advance(core, now_ns);
    if (core->closed) return CORE_CLOSED;
    if (name_length == 0 || name_length > WIRE_NAME_MAX || token == 0) return WIRE_BAD_REQUEST;
    struct core_hold *hold = find_hold(core, name, name_length);
    if (hold && hold->token != token) hold = NULL;
    if (hold && hold->depth > 1) {
        struct core_result result = {
            .op = WIRE_OP_LOCK_RELEASE, .lease = hold->lease, .token = token};
        uint16_t status = request_ready(core, &result, done, context);
        if (status == WIRE_OK) hold->depth--;
        return status;
    }
    struct core_call call = {
        .op = WIRE_OP_LOCK_RELEASE,
        .name = name,
        .name_length = (uint8_t)name_length,
        .token = token,
    };
    uint16_t status = core_start(core, now_ns, &call, done, context);
    if (status == WIRE_OK && hold) hold->depth = 0;
    return status;
}

uint64_t core_held(const struct core *core, uint64_t now_ns, const char *name,
                   uint32_t name_length) {
    const struct core_hold *hold = find_hold(core, name, name_length);
    if (!hold || core_lease_remaining_ns(core, now_ns, hold->lease) == 0) return 0;
    return hold->token;
}

// ---------------------------------------------------------------- what happens to them

void lock_event(struct core *core, const struct wire_event *event) {
    core_count(core, CORE_COUNT_EVENTS);
    for (uint32_t i = 0; i < core->options.operations; i++) {
        struct core_wait *wait = &core->waits[i];
        if (wait->state != WAIT_QUEUED && wait->state != WAIT_POLLING) continue;
        if (wait->claim != event->claim || wait->lease != event->lease) continue;
        if (wait->session != event->session) continue;
        struct core_result result = {
            .status = event->status,
            .session = event->session,
            .token = event->token,
            .index = event->index,
        };
        if (event->status == WIRE_OK) {
            granted(core, wait, &result);
        } else if (event->status == WIRE_WAIT_TIMEOUT || event->status == WIRE_LEASE_EXPIRED ||
                   event->status == WIRE_NO_LEASE) {
            refused(core, wait, &result);
        } else {
            core_count(core, CORE_COUNT_DROP_STATUS);
        }
        return;
    }
    core_count(core, CORE_COUNT_EVENTS_STALE);
}

void lock_leader_changed(struct core *core) {
    for (uint32_t i = 0; i < core->options.operations; i++) {
        struct core_wait *wait = &core->waits[i];
        if (wait->state != WAIT_QUEUED) continue;
        wait->interval_ns = POLL_NS_FIRST;
        wait->poll_ns = core->now_ns;
    }
}

void lock_lease_lost(struct core *core, uint64_t lease) {
    for (uint32_t i = 0; i < core->options.locks; i++) {
        if (core->holds[i].lease == lease) core->holds[i].depth = 0;
    }
}

void lock_lease_closing(struct core *core, uint64_t lease) {
    for (uint32_t i = 0; i < core->options.operations; i++) {
        struct core_wait *wait = &core->waits[i];
        if (wait->state != WAIT_FREE && wait->lease == lease) wait->closing = true;
    }
}

void lock_end_waits(struct core *core, uint64_t lease, uint16_t status) {
    for (uint32_t i = 0; i < core->options.operations; i++) {
        struct core_wait *wait = &core->waits[i];
        if (wait->state != WAIT_FREE && wait->lease == lease) fail_wait(core, wait, status);
    }
}

void lock_tick(struct core *core) {
    for (uint32_t i = 0; i < core->options.operations; i++) {
        struct core_wait *wait = &core->waits[i];
        if (wait->state != WAIT_QUEUED && wait->state != WAIT_POLLING) continue;
        if (wait->deadline_ns <= core->now_ns) {
            fail_wait(core, wait, WIRE_UNKNOWN);
        } else if (wait->state == WAIT_QUEUED && wait->poll_ns <= core->now_ns) {
            poll_claim(core, wait);
        }
    }
}

uint64_t lock_next_timeout(const struct core *core) {
    uint64_t next_ns = NEVER;
    for (uint32_t i = 0; i < core->options.operations; i++) {
        const struct core_wait *wait = &core->waits[i];
        if (wait->state != WAIT_QUEUED && wait->state != WAIT_POLLING) continue;
        if (wait->deadline_ns < next_ns) next_ns = wait->deadline_ns;
        if (wait->state == WAIT_QUEUED && wait->poll_ns < next_ns) next_ns = wait->poll_ns;
    }
    return next_ns;
}

void lock_close(struct core *core) {
    for (uint32_t i = 0; i < core->options.operations; i++) {
        if (core->waits[i].state != WAIT_FREE) fail_wait(core, &core->waits[i], CORE_CLOSED);
    }
}
