// Leases kept alive: renewed every third of the TTL, and taken for lost before the server can.
//
// The server counts from when it accepted a renewal, which is no earlier than when its first copy
// was sent. So the client counts from that, allows for clocks that differ by 1 part in 1000, and
// takes off a margin in which the owner can still stop its work:
//
//     deadline = first send of the renewal last acknowledged + TTL * (1 - 1/1000) - margin
//
// A renewal that gets no answer within a sixth of the TTL is given up and a new one sent: it would
// move the deadline further than a late answer to the old one.
#include "core_internal.h"

#define DRIFT_DIVISOR 1000u // MACHINE_DRIFT_DIVISOR, the bound e of SEMANTICS

static struct core_lease *find(const struct core *core, uint64_t id) {
    if (id == 0) return NULL;
    for (uint32_t i = 0; i < core->options.leases; i++) {
        struct core_lease *lease = &core->leases[i];
        if (lease->state != LEASE_FREE && lease->id == id) return lease;
    }
    return NULL;
}

static uint64_t margin_ns(const struct core_lease *lease) {
    if (lease->margin_ms) return lease->margin_ms * MS_NS;
    uint64_t ns = MS_NS + lease->ttl_ms * MS_NS / 20;
    return ns < 1000 * MS_NS ? ns : 1000 * MS_NS;
}

static bool margin_is_sound(uint64_t ttl_ms, uint64_t margin_ms) {
    return margin_ms <= ttl_ms / 2;
}

static void renewed(struct core_lease *lease, uint64_t first_sent_ns) {
    uint64_t ttl_ns = lease->ttl_ms * MS_NS;
    uint64_t deadline_ns = first_sent_ns + ttl_ns - ttl_ns / DRIFT_DIVISOR - margin_ns(lease);
    if (deadline_ns > lease->deadline_ns) {
        lease->deadline_ns = deadline_ns;
        lease->renew_ns = first_sent_ns + ttl_ns / 3;
    }
}

static void free_lease(struct core *core, struct core_lease *lease) {
    if (lease->renewal) request_cancel(core, lease->renewal);
    *lease = (struct core_lease){0};
}

static void lose(struct core *core, struct core_lease *lease, uint16_t reason) {
    uint64_t id = lease->id;
    if (lease->renewal) request_cancel(core, lease->renewal);
    lease->renewal = NULL;
    lease->state = LEASE_LOST; // until closed, so that nothing is acquired under it meanwhile
    core_count(core, CORE_COUNT_LEASES_LOST);
    lock_lease_lost(core, id);
    if (lease->lost) lease->lost(lease->lost_context, id, (enum conclave_status)reason);
    lock_end_waits(core, id, WIRE_LEASE_EXPIRED);
}

bool lease_gone(struct core *core, uint64_t id, uint16_t reason) {
    struct core_lease *lease = find(core, id);
    if (!lease || lease->state != LEASE_KEPT) return false;
    lose(core, lease, reason);
    return true;
}

bool lease_is_lost(const struct core *core, uint64_t id) {
    const struct core_lease *lease = find(core, id);
    return lease && lease->state == LEASE_LOST;
}

// ---------------------------------------------------------------- renewing

static void renewal_done(void *context, const struct core_result *result) {
    struct core_lease *lease = context;
    struct core *core = lease->core;
    lease->renewal = NULL;
    if (result->status == WIRE_OK) {
        renewed(lease, result->first_sent_ns);
        return;
    }
    if (result->status == CORE_CLOSED) return;
    core_count(core, CORE_COUNT_KEEPALIVES_FAILED);
    if (result->status == WIRE_NO_LEASE || result->status == WIRE_LEASE_EXPIRED) {
        lose(core, lease, result->status);
        return;
    }
    uint64_t pause_ns = lease->ttl_ms * MS_NS / 20; // a hundredth would hammer, a tenth waste
    lease->renew_ns =
        core->now_ns + core_jitter(core, pause_ns < 500 * MS_NS ? pause_ns : 500 * MS_NS);
}

static void renew(struct core *core, struct core_lease *lease) {
    uint64_t patience_ns = lease->ttl_ms * MS_NS / 6;
    if (patience_ns > core->options.timeout_ns) patience_ns = core->options.timeout_ns;
    struct core_call call = {
        .op = WIRE_OP_LEASE_KEEPALIVE,
        .urgent = true,
        .lease = lease->id,
        .timeout_ns = patience_ns,
    };
    lease->renewal = request_create(core, &call, false, renewal_done, lease);
    assert(lease->renewal); // a slot is set aside for each lease
    core_count(core, CORE_COUNT_KEEPALIVES);
}

void lease_tick(struct core *core) {
    for (uint32_t i = 0; i < core->options.leases; i++) {
        struct core_lease *lease = &core->leases[i];
        if (lease->state != LEASE_KEPT) continue;
        if (lease->deadline_ns <= core->now_ns) {
            lose(core, lease, WIRE_UNKNOWN);
        } else if (lease->renew_ns <= core->now_ns && !lease->renewal) {
            renew(core, lease);
        }
    }
}

uint64_t lease_next_timeout(const struct core *core) {
    uint64_t next_ns = NEVER;
    for (uint32_t i = 0; i < core->options.leases; i++) {
        const struct core_lease *lease = &core->leases[i];
        if (lease->state != LEASE_KEPT) continue;
        if (lease->deadline_ns < next_ns) next_ns = lease->deadline_ns;
        if (!lease->renewal && lease->renew_ns < next_ns) next_ns = lease->renew_ns;
    }
    return next_ns;
}

// ---------------------------------------------------------------- opening and closing

static void keep_done(void *context, const struct core_result *answer) {
    struct core_lease *lease = context;
    struct core *core = lease->core;
    struct core_result result = *answer;
    core_done_fn done = lease->done;
    void *done_context = lease->context;
    lease->renewal = NULL;
    if (result.status == WIRE_OK) {
        if (result.op == WIRE_OP_LEASE_GRANT) lease->id = result.token;
        lease->ttl_ms = result.amount;
        result.lease = lease->id;
        if (lease->id == 0 || !margin_is_sound(lease->ttl_ms, lease->margin_ms)) {
            result.status = WIRE_BAD_REQUEST;
        }
    }
    if (result.status != WIRE_OK) {
        free_lease(core, lease);
    } else {
        lease->state = LEASE_KEPT;
        renewed(lease, result.first_sent_ns);
        // The answer may be so late that there is nothing left of the lease.
        if (lease->deadline_ns <= core->now_ns) {
            result.status = WIRE_LEASE_EXPIRED;
            free_lease(core, lease);
        }
    }
    if (done) done(done_context, &result);
}

uint16_t core_lease_keep(struct core *core, uint64_t now_ns, const struct core_keep *keep,
                         core_done_fn done, void *context) {
    core_advance(core, now_ns);
    if (core->closed) return CORE_CLOSED;
    bool grant = keep->lease == 0;
    if (grant && (keep->ttl_ms < WIRE_TTL_MS_MIN || keep->ttl_ms > WIRE_TTL_MS_MAX ||
                  !margin_is_sound(keep->ttl_ms, keep->margin_ms))) {
        return WIRE_BAD_REQUEST;
    }
    if (keep->margin_ms > WIRE_TTL_MS_MAX || find(core, keep->lease)) return WIRE_BAD_REQUEST;
    struct core_lease *lease = NULL;
    for (uint32_t i = 0; i < core->options.leases && !lease; i++) {
        if (core->leases[i].state == LEASE_FREE) lease = &core->leases[i];
    }
    struct core_call call = {
        .op = grant ? WIRE_OP_LEASE_GRANT : WIRE_OP_LEASE_KEEPALIVE,
        .urgent = true,
        .lease = keep->lease,
        .amount = grant ? keep->ttl_ms : 0,
    };
    struct core_request *request =
        lease ? request_create(core, &call, true, keep_done, lease) : NULL;
    if (!request) return CORE_LIMIT;
    *lease = (struct core_lease){
        .state = LEASE_OPENING,
        .id = keep->lease,
        .ttl_ms = keep->ttl_ms,
        .margin_ms = keep->margin_ms,
        .renewal = request,
        .lost = keep->lost,
        .lost_context = keep->lost_context,
        .done = done,
        .context = context,
        .core = core,
    };
    return WIRE_OK;
}

bool core_lease_forget(struct core *core, uint64_t now_ns, uint64_t id) {
    core_advance(core, now_ns);
    struct core_lease *lease = find(core, id);
    if (!lease || lease->state == LEASE_OPENING) return false;
    free_lease(core, lease);
    lock_lease_lost(core, id);
    return true;
}

uint16_t core_lease_close(struct core *core, uint64_t now_ns, uint64_t id, core_done_fn done,
                          void *context) {
    struct core_call call = {.op = WIRE_OP_LEASE_REVOKE, .urgent = true, .lease = id};
    struct core_lease *lease = find(core, id);
    if (!lease || lease->state == LEASE_OPENING) return WIRE_BAD_REQUEST;
    uint16_t status = core_start(core, now_ns, &call, done, context);
    if (status == WIRE_OK) {
        lock_lease_closing(core, id);
        (void)core_lease_forget(core, now_ns, id);
    }
    return status;
}

uint64_t core_lease_remaining_ns(const struct core *core, uint64_t now_ns, uint64_t id) {
    const struct core_lease *lease = find(core, id);
    if (!lease || lease->state != LEASE_KEPT || lease->deadline_ns <= now_ns) return 0;
    return lease->deadline_ns - now_ns;
}

void lease_close_all(struct core *core) {
    for (uint32_t i = 0; i < core->options.leases; i++) {
        struct core_lease *lease = &core->leases[i];
        if (lease->state == LEASE_KEPT || lease->state == LEASE_LOST) free_lease(core, lease);
    }
}
