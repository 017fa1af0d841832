// Locks: a holder and a queue under a name.
//
// A record exists while somebody holds or waits. The fencing token is the log index of the entry
// that grants, so it rises strictly per name whatever happens to the record. A lock with waiters
// always has a holder: whatever removes the holder grants the next in the same entry, and looks at
// that waiter's lease and wait once more, since either may have run out without having been
// collected yet (etcd issues 11456 and 9921 are what happens otherwise).
//
// A lease has at most one claim on a lock. Acquiring again under the same lease is how a client
// learns what became of an acquire whose answer it never saw: holding, it gets its token; waiting,
// it keeps its place under the new wait; trying, it gives up its place.
#include "machine/hash.h"
#include "machine/machine_internal.h"

uint64_t lock_hash(const void *name, uint32_t length) {
    return hash_bytes(0, name, length);
}

uint32_t lock_find(const struct machine *m, const void *name, uint32_t length) {
    uint64_t hash = lock_hash(name, length);
    for (uint32_t slot = index_first(&m->locks, hash); slot != 0;
         slot = index_next(&m->locks, slot)) {
        const struct lock *lock = lock_at(m, slot);
        if (lock->hash == (uint32_t)hash && name_equals(m, lock, name, length)) return slot;
    }
    return 0;
}

void lock_index(struct machine *m, uint32_t slot) {
    // Buckets are at most 2^32, so the low half is all the index uses.
    index_add(&m->locks, lock_at(m, slot)->hash, slot);
}

static uint32_t create(struct machine *m, const struct wire_request *request) {
    uint32_t slot = pool_take(&m->pools[TABLE_LOCK]);
    if (slot == 0) return 0;
    struct lock *lock = lock_at(m, slot);
    const void *name = (const uint8_t *)request + sizeof *request;
    lock->created = m->head.applied;
    lock->hash = (uint32_t)lock_hash(name, request->name_length);
    name_store(m, lock, name, request->name_length);
    lock_index(m, slot);
    return slot;
}

static void destroy(struct machine *m, uint32_t slot) {
    const struct lock *lock = lock_at(m, slot);
    index_remove(&m->locks, lock->hash, slot);
    name_free(m, lock);
    pool_free(&m->pools[TABLE_LOCK], slot);
}

// The holder is gone: the first waiter that still can be is the next one.
static void grant_next(struct machine *m, uint32_t slot) {
    struct lock *lock = lock_edit(m, slot);
    lock->holder = 0;
    while (lock->first != 0) {
        uint32_t next = lock->first;
        struct claim *claim = claim_edit(m, next);
        claim_dequeue(m, next);
        bool alive = lease_alive(lease_at(m, claim->lease), m->head.time_ns);
        if (alive && claim->until_ns > m->head.time_ns) {
            claim->token = m->head.applied;
            claim->since_ns = m->head.time_ns;
            claim->until_ns = UINT64_MAX;
            lock->holder = next;
            wheel_remove(&m->wait_wheel, next);
            claim_notify(m, next, WIRE_OK);
            return;
        }
        claim_notify(m, next, alive ? WIRE_WAIT_TIMEOUT : WIRE_LEASE_EXPIRED);
        claim_destroy(m, next);
    }
    destroy(m, slot);
}

static void drop_waiter(struct machine *m, uint32_t slot, uint16_t status) {
    claim_dequeue(m, slot);
    claim_notify(m, slot, status);
    claim_destroy(m, slot);
}

static void drop_holder(struct machine *m, uint32_t slot) {
    uint32_t lock = claim_at(m, slot)->lock;
    claim_destroy(m, slot);
    grant_next(m, lock);
}

// This lease's claim among the waiters, by the shorter of the two lists it would be on.
static uint32_t waiting_claim(const struct machine *m, uint32_t lock_slot, uint32_t lease_slot) {
    const struct lock *lock = lock_at(m, lock_slot);
    const struct lease *lease = lease_at(m, lease_slot);
    if (lock->waiters < lease->claim_count) {
        for (uint32_t at = lock->first; at != 0; at = claim_at(m, at)->next)
            if (claim_at(m, at)->lease == lease_slot) return at;
    } else {
        for (uint32_t at = lease->claims; at != 0; at = claim_at(m, at)->lease_next)
            if (claim_at(m, at)->lock == lock_slot && claim_at(m, at)->token == 0) return at;
    }
    return 0;
}

static void full(struct machine_reply *reply, uint16_t table) {
    reply->status = WIRE_FULL;
    reply->detail = table;
}

static void acquire_free(struct machine *m, const struct wire_request *request, uint32_t lease,
                         struct machine_reply *reply) {
    const struct pool *claims = &m->pools[TABLE_CLAIM];
    if (claims->used >= claims->limit) {
        full(reply, WIRE_TABLE_CLAIM);
        return;
    }
    uint32_t slot = create(m, request);
    if (slot == 0) {
        full(reply, WIRE_TABLE_LOCK);
        return;
    }
    uint32_t claim = claim_create(m, request, slot, lease);
    claim_at(m, claim)->token = m->head.applied;
    lock_at(m, slot)->holder = claim;
    reply->token = m->head.applied;
}

static void acquire_held(struct machine *m, const struct wire_request *request, uint32_t slot,
                         uint32_t lease, struct machine_reply *reply) {
    const struct claim *holder = claim_at(m, lock_at(m, slot)->holder);
    if (holder->lease == lease) {
        reply->token = holder->token;
        return;
    }
    uint32_t claim = waiting_claim(m, slot, lease);
    if (request->amount == 0) {
        reply->status = WIRE_WOULD_BLOCK;
        reply->token = holder->token;
        if (claim != 0) drop_waiter(m, claim, WIRE_WAIT_TIMEOUT);
        return;
    }
    if (claim == 0) {
        claim = claim_create(m, request, slot, lease);
        if (claim == 0) {
            full(reply, WIRE_TABLE_CLAIM);
            return;
        }
        claim_enqueue(m, claim);
    }
    claim_set_wait(m, claim, request->amount);
    claim_edit(m, claim)->session = request->session;
    reply->status = WIRE_QUEUED;
    reply->token = claim_at(m, claim)->id;
    reply->claim_slot = claim - 1;
}

void lock_acquire(struct machine *m, const struct wire_request *request,
                  struct machine_reply *reply) {
    uint32_t lease;
    reply->status = lease_check(m, request->lease, m->head.time_ns, &lease);
    if (reply->status != WIRE_OK) return;
    const void *name = (const uint8_t *)request + sizeof *request;
    uint32_t slot = lock_find(m, name, request->name_length);
    if (slot == 0)
        acquire_free(m, request, lease, reply);
    else
        acquire_held(m, request, slot, lease, reply);
}

void lock_release(struct machine *m, const struct wire_request *request,
                  struct machine_reply *reply) {
    const void *name = (const uint8_t *)request + sizeof *request;
    uint32_t slot = lock_find(m, name, request->name_length);
    if (slot == 0 || claim_at(m, lock_at(m, slot)->holder)->token != request->token) {
        reply->status = WIRE_NOT_HOLDER;
        return;
    }
    drop_holder(m, lock_at(m, slot)->holder);
}

void lock_end_lease(struct machine *m, uint32_t lease, uint16_t status) {
    // Waiters first, so that nothing this lease held is granted to itself.
    for (uint32_t at = lease_at(m, lease)->claims; at != 0;) {
        uint32_t next = claim_at(m, at)->lease_next;
        if (claim_at(m, at)->token == 0) drop_waiter(m, at, status);
        at = next;
    }
    while (lease_at(m, lease)->claims != 0) drop_holder(m, lease_at(m, lease)->claims);
}

void lock_expire_waits(struct machine *m, const struct wire_wait_expiry *waits, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct wire_wait_expiry wait;
        memcpy(&wait, &waits[i], sizeof wait);
        uint32_t slot = claim_find(m, wait.claim);
        if (slot == 0) continue;
        const struct claim *claim = claim_at(m, slot);
        if (claim->token != 0 || claim->until_ns > m->head.time_ns) continue;
        if (lock_at(m, claim->lock)->created != wait.lock ||
            lease_at(m, claim->lease)->id != wait.lease)
            continue;
        drop_waiter(m, slot, WIRE_WAIT_TIMEOUT);
    }
}

uint32_t machine_due_waits(struct machine *m, uint64_t time_ns, struct wire_wait_expiry *out,
                           uint32_t max) {
    uint32_t count = 0, slot, budget = MACHINE_WHEEL_BUDGET;
    while (count < max && (slot = wheel_pop(&m->wait_wheel, time_ns, &budget)) != 0) {
        const struct claim *claim = claim_at(m, slot);
        out[count++] = (struct wire_wait_expiry){.claim = claim->id,
                                                 .lock = lock_at(m, claim->lock)->created,
                                                 .lease = lease_at(m, claim->lease)->id};
        wheel_put(&m->wait_wheel, slot, time_ns + MACHINE_RETRY_NS);
    }
    return count;
}
