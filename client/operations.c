// The asynchronous calls: arguments in, the engine's results out as the public header names them.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "handle.h"

// ---------------------------------------------------------------- results

#define CLAIMS_MAX   (WIRE_VALUE_MAX / sizeof(struct wire_claim))
#define COUNTERS_MAX (WIRE_VALUE_MAX / sizeof(struct wire_counter))

static const char *table_name(const struct core_result *from) {
    if (from->status != WIRE_FULL) return NULL;
    switch (from->detail) {
    case WIRE_TABLE_SESSION:
        return "sessions";
    case WIRE_TABLE_LEASE:
        return "leases";
    case WIRE_TABLE_LOCK:
        return "locks";
    case WIRE_TABLE_CLAIM:
        return "claims";
    default:
        return "unknown";
    }
}

static const char *role_name(uint8_t role) {
    switch (role) {
    case WIRE_ROLE_FOLLOWER:
        return "follower";
    case WIRE_ROLE_PRECANDIDATE:
        return "precandidate";
    case WIRE_ROLE_CANDIDATE:
        return "candidate";
    case WIRE_ROLE_LEADER:
        return "leader";
    default:
        return "unknown";
    }
}

static void take_node(struct conclave_node *to, const struct wire_status *from) {
    *to = (struct conclave_node){
        .cluster = from->cluster,
        .node = from->node,
        .leader = from->leader,
        .nodes = from->nodes,
        .role = role_name(from->role),
        .memory = (from->flags & WIRE_STATUS_MEMORY) != 0,
        .recovering = (from->flags & WIRE_STATUS_RECOVERING) != 0,
        .term = from->term,
        .commit = from->commit,
        .applied = from->applied,
        .durable = from->durable,
        .first = from->first,
        .snapshot = from->snapshot,
        .uptime_ms = from->uptime_ms,
        .sessions = from->sessions,
        .leases = from->leases,
        .locks = from->locks,
        .claims = from->claims,
        .state_hash = from->state_hash,
    };
}

struct room { // for the lists of one result, during its callback
    struct conclave_claim claims[CLAIMS_MAX];
    struct conclave_counter counters[COUNTERS_MAX];
    struct conclave_node node;
};

static void take_claims(struct conclave_result *to, const struct core_result *from,
                        struct room *room) {
    uint32_t listed = from->value_length / (uint32_t)sizeof(struct wire_claim);
    if (listed > CLAIMS_MAX) listed = CLAIMS_MAX;
    for (uint32_t i = 0; i < listed; i++) {
        struct wire_claim claim;
        memcpy(&claim, (const uint8_t *)from->value + i * sizeof claim, sizeof claim);
        room->claims[i] = (struct conclave_claim){
            .claim = claim.claim,
            .lease = claim.lease,
            .token = claim.token,
            .session = claim.session,
            .since_ms = claim.since_ms,
        };
    }
    to->count = from->amount;
    to->listed = listed;
    to->claims = room->claims;
}

static void take_counters(struct conclave_result *to, const struct core_result *from,
                          struct room *room) {
    uint32_t listed = from->value_length / (uint32_t)sizeof(struct wire_counter);
    if (listed > COUNTERS_MAX) listed = COUNTERS_MAX;
    for (uint32_t i = 0; i < listed; i++) {
        struct wire_counter counter;
        memcpy(&counter, (const uint8_t *)from->value + i * sizeof counter, sizeof counter);
        room->counters[i].value = counter.value;
        memcpy(room->counters[i].name, counter.name, sizeof counter.name);
        room->counters[i].name[sizeof counter.name] = 0;
    }
    to->count = from->amount;
    to->listed = listed;
    to->counters = room->counters;
}

static void take_answer(struct conclave_result *to, const struct core_result *from,
                        struct room *room) {
    switch (from->op) {
    case WIRE_OP_LEASE_GRANT:
        to->lease = from->token;
        to->ttl_ms = from->amount;
        break;
    case WIRE_OP_LEASE_KEEPALIVE:
        to->lease = from->lease;
        to->ttl_ms = from->amount;
        break;
    case WIRE_OP_LEASE_TTL:
        to->lease = from->lease;
        to->remaining_ms = from->amount;
        to->ttl_ms = from->token;
        break;
    case WIRE_OP_LOCK_ACQUIRE:
        to->lease = from->lease;
        to->token = from->token;
        break;
    case WIRE_OP_LOCK_HOLDERS:
    case WIRE_OP_LOCK_QUEUE:
        take_claims(to, from, room);
        break;
    case WIRE_OP_COUNTERS:
        take_counters(to, from, room);
        break;
    case WIRE_OP_STATUS:
        if (from->value_length >= sizeof(struct wire_status)) {
            take_node(&room->node, from->value);
            to->node = &room->node;
        } else {
            to->status = CONCLAVE_BAD_REQUEST;
        }
        break;
    default:
        break;
    }
}

static void tell(void *context, const struct core_result *from) {
    struct handle_call call = *(struct handle_call *)context;
    ((struct handle_call *)context)->handle = NULL;
    struct room room;
    struct conclave_result result = {
        .status = (enum conclave_status)from->status,
        .table = table_name(from),
        .index = from->index,
        .round_trip_us = from->round_trip_ns / 1000,
    };
    if (from->status == WIRE_OK) take_answer(&result, from, &room);
    if (from->status == WIRE_WOULD_BLOCK) result.token = from->token;
    call.done(call.context, &result);
}

// ---------------------------------------------------------------- calls

struct target { // what the engine is to call
    core_done_fn done;
    struct handle_call *call;
};

// False: all are in use.
static bool take_call(conclave_t *handle, conclave_done_fn done, void *context,
                      struct target *target) {
    *target = (struct target){0};
    if (!done) return true;
    for (uint32_t i = 0; i < handle->call_count; i++) {
        struct handle_call *call = &handle->calls[i];
        if (call->handle) continue;
        *call = (struct handle_call){.handle = handle, .done = done, .context = context};
        *target = (struct target){.done = tell, .call = call};
        return true;
    }
    return false;
}

static enum conclave_status started(conclave_t *handle, const struct target *target,
                                    uint16_t status) {
    if (status != WIRE_OK && target->call) target->call->handle = NULL;
    handle_flush(handle);
    return (enum conclave_status)status;
}

static enum conclave_status start(conclave_t *handle, const struct core_call *core_call,
                                  conclave_done_fn done, void *context) {
    struct target target;
    if (!take_call(handle, done, context, &target)) return CONCLAVE_LIMIT;
    return started(handle, &target,
                   core_start(handle->core, handle_now_ns(), core_call, target.done, target.call));
}

static bool take_name(const char *name, uint32_t *length) {
    size_t bytes = name ? strnlen(name, CONCLAVE_NAME_MAX + 1) : 0;
    *length = (uint32_t)bytes;
    return bytes >= 1 && bytes <= CONCLAVE_NAME_MAX;
}

enum conclave_status conclave_lease_grant_start(conclave_t *handle, uint64_t ttl_ms,
                                                conclave_done_fn done, void *context) {
    struct core_call call = {.op = WIRE_OP_LEASE_GRANT, .amount = ttl_ms};
    return start(handle, &call, done, context);
}

enum conclave_status conclave_lease_keepalive_start(conclave_t *handle, uint64_t lease,
                                                    conclave_done_fn done, void *context) {
    struct core_call call = {.op = WIRE_OP_LEASE_KEEPALIVE, .lease = lease};
    return start(handle, &call, done, context);
}

enum conclave_status conclave_lease_revoke_start(conclave_t *handle, uint64_t lease,
                                                 conclave_done_fn done, void *context) {
    struct core_call call = {.op = WIRE_OP_LEASE_REVOKE, .lease = lease};
    return start(handle, &call, done, context);
}

enum conclave_status conclave_lease_ttl_start(conclave_t *handle, uint64_t lease,
                                              conclave_done_fn done, void *context) {
    struct core_call call = {.op = WIRE_OP_LEASE_TTL, .lease = lease};
    return start(handle, &call, done, context);
}

static enum conclave_status keep_start(conclave_t *handle, const struct core_keep *keep,
                                       conclave_done_fn done, void *context) {
    struct target target;
    if (!take_call(handle, done, context, &target)) return CONCLAVE_LIMIT;
    return started(handle, &target,
                   core_lease_keep(handle->core, handle_now_ns(), keep, target.done, target.call));
}

enum conclave_status conclave_lease_open_start(conclave_t *handle,
                                               const struct conclave_lease_options *options,
                                               conclave_done_fn done, void *context) {
    struct core_keep keep = {
        .ttl_ms = options->ttl_ms,
        .margin_ms = options->margin_ms,
        .lost = options->on_lost,
        .lost_context = options->context,
    };
    return keep_start(handle, &keep, done, context);
}

enum conclave_status conclave_lease_adopt_start(conclave_t *handle, uint64_t lease,
                                                const struct conclave_lease_options *options,
                                                conclave_done_fn done, void *context) {
    struct core_keep keep = {
        .lease = lease,
        .margin_ms = options->margin_ms,
        .lost = options->on_lost,
        .lost_context = options->context,
    };
    if (lease == 0) return CONCLAVE_BAD_REQUEST;
    return keep_start(handle, &keep, done, context);
}

enum conclave_status conclave_lease_close_start(conclave_t *handle, uint64_t lease,
                                                conclave_done_fn done, void *context) {
    struct target target;
    if (!take_call(handle, done, context, &target)) return CONCLAVE_LIMIT;
    return started(
        handle, &target,
        core_lease_close(handle->core, handle_now_ns(), lease, target.done, target.call));
}

enum conclave_status conclave_lease_forget(conclave_t *handle, uint64_t lease) {
    bool kept = core_lease_forget(handle->core, handle_now_ns(), lease);
    return kept ? CONCLAVE_OK : CONCLAVE_NO_LEASE;
}

uint64_t conclave_lease_remaining_ms(const conclave_t *handle, uint64_t lease) {
    return core_lease_remaining_ns(handle->core, handle_now_ns(), lease) / 1000000;
}

enum conclave_status conclave_lock_acquire_start(conclave_t *handle, const char *name,
                                                 uint64_t lease, uint64_t wait_ms,
                                                 conclave_done_fn done, void *context) {
    struct target target;
    uint32_t length;
    if (!take_name(name, &length)) return CONCLAVE_BAD_REQUEST;
    if (!take_call(handle, done, context, &target)) return CONCLAVE_LIMIT;
    return started(handle, &target,
                   core_acquire(handle->core, handle_now_ns(), name, length, lease, wait_ms,
                                target.done, target.call));
}

enum conclave_status conclave_lock_release_start(conclave_t *handle, const char *name,
                                                 uint64_t token, conclave_done_fn done,
                                                 void *context) {
    struct target target;
    uint32_t length;
    if (!take_name(name, &length)) return CONCLAVE_BAD_REQUEST;
    if (!take_call(handle, done, context, &target)) return CONCLAVE_LIMIT;
    return started(
        handle, &target,
        core_release(handle->core, handle_now_ns(), name, length, token, target.done, target.call));
}

static enum conclave_status list_start(conclave_t *handle, uint16_t op, const char *name,
                                       uint64_t skip, conclave_done_fn done, void *context) {
    uint32_t length;
    if (!take_name(name, &length)) return CONCLAVE_BAD_REQUEST;
    struct core_call call = {
        .op = op, .name = name, .name_length = (uint8_t)length, .amount = skip};
    return start(handle, &call, done, context);
}

enum conclave_status conclave_lock_holders_start(conclave_t *handle, const char *name,
                                                 conclave_done_fn done, void *context) {
    return list_start(handle, WIRE_OP_LOCK_HOLDERS, name, 0, done, context);
}

enum conclave_status conclave_lock_queue_start(conclave_t *handle, const char *name, uint64_t skip,
                                               conclave_done_fn done, void *context) {
    return list_start(handle, WIRE_OP_LOCK_QUEUE, name, skip, done, context);
}

bool conclave_lock_held(const conclave_t *handle, const char *name, uint64_t *token) {
    uint32_t length;
    if (!take_name(name, &length)) return false;
    uint64_t held = core_held(handle->core, handle_now_ns(), name, length);
    if (token && held) *token = held;
    return held != 0;
}

enum conclave_status conclave_node_status_start(conclave_t *handle, uint32_t endpoint,
                                                conclave_done_fn done, void *context) {
    struct core_call call = {.op = WIRE_OP_STATUS, .endpoint = endpoint};
    return start(handle, &call, done, context);
}

enum conclave_status conclave_node_counters_start(conclave_t *handle, uint32_t endpoint,
                                                  uint64_t skip, conclave_done_fn done,
                                                  void *context) {
    struct core_call call = {.op = WIRE_OP_COUNTERS, .endpoint = endpoint, .amount = skip};
    return start(handle, &call, done, context);
}
