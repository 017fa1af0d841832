// Leases: time-bounded promises that a holder is alive.
//
// A deadline is cluster time (raft.h) and so the same on every replica. Renewal only moves the
// deadline: the wheel entry stays where it is and is filed anew when the wheel comes to it, so a
// keepalive touches one cache line. A lease past its deadline is dead for every command at once;
// what it held is given on when EXPIRE_LEASES is applied, which the leader proposes with its term
// and the renewal count it saw, so that one stalled on the way cannot end a lease renewed since.
#include "machine/machine_internal.h"

uint32_t lease_find(const struct machine *m, uint64_t id) {
    for (uint32_t slot = index_first(&m->leases, index_hash(id)); slot != 0;
         slot = index_next(&m->leases, slot))
        if (lease_at(m, slot)->id == id) return slot;
    return 0;
}

bool lease_alive(const struct lease *lease, uint64_t time_ns) {
    return lease->deadline_ns > time_ns;
}

uint16_t lease_check(const struct machine *m, uint64_t id, uint64_t time_ns, uint32_t *slot) {
    *slot = lease_find(m, id);
    if (*slot == 0) return WIRE_NO_LEASE;
    return lease_alive(lease_at(m, *slot), time_ns) ? WIRE_OK : WIRE_LEASE_EXPIRED;
}

void lease_index(struct machine *m, uint32_t slot) {
    const struct lease *lease = lease_at(m, slot);
    index_add(&m->leases, index_hash(lease->id), slot);
    wheel_put(&m->lease_wheel, slot, lease->deadline_ns);
}

static void extend(const struct machine *m, struct lease *lease) {
    uint64_t ttl_ns = lease->ttl_ms * 1000000ull;
    lease->deadline_ns = m->head.time_ns + ttl_ns + ttl_ns / MACHINE_DRIFT_DIVISOR;
}

void lease_grant(struct machine *m, const struct wire_request *request,
                 struct machine_reply *reply) {
    uint32_t slot = pool_take(&m->pools[TABLE_LEASE]);
    if (slot == 0) {
        reply->status = WIRE_FULL;
        reply->detail = WIRE_TABLE_LEASE;
        return;
    }
    struct lease *lease = lease_at(m, slot);
    lease->id = m->head.applied;
    lease->ttl_ms = (uint32_t)request->amount;
    extend(m, lease);
    lease_index(m, slot);
    reply->token = lease->id;
    reply->amount = lease->ttl_ms;
}

void lease_keepalive(struct machine *m, const struct wire_request *request,
                     struct machine_reply *reply) {
    uint32_t slot;
    reply->status = lease_check(m, request->lease, m->head.time_ns, &slot);
    if (reply->status != WIRE_OK) return;
    struct lease *lease = lease_edit(m, slot);
    extend(m, lease);
    lease->renewals++;
    reply->amount = lease->ttl_ms;
}

static void end(struct machine *m, uint32_t slot, uint16_t status) {
    lock_end_lease(m, slot, status);
    index_remove(&m->leases, index_hash(lease_at(m, slot)->id), slot);
    wheel_remove(&m->lease_wheel, slot);
    pool_free(&m->pools[TABLE_LEASE], slot);
}

void lease_revoke(struct machine *m, const struct wire_request *request,
                  struct machine_reply *reply) {
    uint32_t slot;
    reply->status = lease_check(m, request->lease, m->head.time_ns, &slot);
    if (reply->status == WIRE_OK) end(m, slot, WIRE_NO_LEASE);
}

void lease_expire(struct machine *m, const struct wire_expiry *expiries, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct wire_expiry expiry;
        memcpy(&expiry, &expiries[i], sizeof expiry);
        uint32_t slot = lease_find(m, expiry.lease);
        if (slot == 0 || expiry.term != m->term) continue;
        const struct lease *lease = lease_at(m, slot);
        if (lease->renewals != expiry.renewals || lease_alive(lease, m->head.time_ns)) continue;
        end(m, slot, WIRE_LEASE_EXPIRED);
    }
}

uint32_t machine_due_leases(struct machine *m, uint64_t time_ns, struct wire_expiry *out,
                            uint32_t max) {
    uint32_t count = 0, slot, budget = MACHINE_WHEEL_BUDGET;
    while (count < max && (slot = wheel_pop(&m->lease_wheel, time_ns, &budget)) != 0) {
        const struct lease *lease = lease_at(m, slot);
        if (lease_alive(lease, time_ns)) { // renewed since it was filed
            wheel_put(&m->lease_wheel, slot, lease->deadline_ns);
            continue;
        }
        out[count++] = (struct wire_expiry){.lease = lease->id, .renewals = lease->renewals};
        wheel_put(&m->lease_wheel, slot, time_ns + MACHINE_RETRY_NS);
    }
    return count;
}
