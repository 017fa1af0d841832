// Reads: answered from the current state, changing nothing.
#include "machine/machine_internal.h"

static uint64_t ms_since(uint64_t time_ns, uint64_t since_ns) {
    return time_ns > since_ns ? (time_ns - since_ns) / 1000000 : 0;
}

static struct wire_claim describe(const struct machine *m, uint64_t time_ns, uint32_t slot) {
    const struct claim *claim = claim_at(m, slot);
    return (struct wire_claim){.claim = claim->id,
                               .lease = lease_at(m, claim->lease)->id,
                               .token = claim->token,
                               .session = claim->session,
                               .since_ms = ms_since(time_ns, claim->since_ns)};
}

static void lease_ttl(const struct machine *m, uint64_t time_ns, const struct wire_request *request,
                      struct machine_reply *reply) {
    uint32_t slot;
    reply->status = lease_check(m, request->lease, time_ns, &slot);
    if (reply->status != WIRE_OK) return;
    const struct lease *lease = lease_at(m, slot);
    reply->token = lease->ttl_ms;
    reply->amount = (lease->deadline_ns - time_ns) / 1000000;
}

static uint32_t holders(const struct machine *m, uint64_t time_ns,
                        const struct wire_request *request, struct machine_reply *reply,
                        struct wire_claim *out) {
    uint32_t slot = lock_find(m, request + 1, request->name_length);
    if (slot == 0) return 0;
    reply->amount = 1;
    out[0] = describe(m, time_ns, lock_at(m, slot)->holder);
    return sizeof out[0];
}

static uint32_t queue(const struct machine *m, uint64_t time_ns, const struct wire_request *request,
                      struct machine_reply *reply, struct wire_claim *out) {
    uint32_t slot = lock_find(m, request + 1, request->name_length), listed = 0;
    if (slot == 0) return 0;
    const struct lock *lock = lock_at(m, slot);
    reply->amount = lock->waiters;
    if (request->amount >= lock->waiters) return 0;
    uint64_t skip = request->amount;
    for (uint32_t at = lock->first; at != 0 && listed < WIRE_VALUE_MAX / sizeof *out;
         at = claim_at(m, at)->next) {
        if (skip > 0)
            skip--;
        else
            out[listed++] = describe(m, time_ns, at);
    }
    return listed * (uint32_t)sizeof *out;
}

// As LOCK_ACQUIRE would answer now: its token, its place, or why it is no longer there.
static void claim_state(const struct machine *m, uint64_t time_ns,
                        const struct wire_request *request, struct machine_reply *reply) {
    uint32_t lease;
    reply->status = lease_check(m, request->lease, time_ns, &lease);
    if (reply->status != WIRE_OK) return;
    uint32_t slot = claim_find(m, request->token);
    const struct claim *claim = slot != 0 ? claim_at(m, slot) : NULL;
    if (claim == NULL || claim->lease != lease ||
        !name_equals(m, lock_at(m, claim->lock), (const uint8_t *)(request + 1),
                     request->name_length)) {
        reply->status = WIRE_WAIT_TIMEOUT;
    } else if (claim->token != 0) {
        reply->token = claim->token;
    } else {
        reply->status = WIRE_QUEUED;
        reply->token = claim->id;
        reply->claim_slot = slot - 1;
    }
}

uint32_t machine_query(const struct machine *m, uint64_t time_ns,
                       const struct wire_request *request, struct machine_reply *reply,
                       void *value) {
    *reply = (struct machine_reply){.session = request->session,
                                    .sequence = request->sequence,
                                    .op = request->op,
                                    .claim_slot = UINT32_MAX};
    switch (request->op) {
    case WIRE_OP_LEASE_TTL:
        lease_ttl(m, time_ns, request, reply);
        return 0;
    case WIRE_OP_LOCK_HOLDERS:
        return holders(m, time_ns, request, reply, value);
    case WIRE_OP_LOCK_QUEUE:
        return queue(m, time_ns, request, reply, value);
    case WIRE_OP_CLAIM:
        claim_state(m, time_ns, request, reply);
        return 0;
    default:
        reply->status = WIRE_BAD_REQUEST;
        return 0;
    }
}
