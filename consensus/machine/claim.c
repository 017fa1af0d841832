// Claims: one holder or waiter each, threaded on two lists, the lock's queue and its lease's own.
#include "machine/machine_internal.h"

uint32_t claim_find(const struct machine *m, uint64_t id) {
    for (uint32_t slot = index_first(&m->claims, index_hash(id)); slot != 0;
         slot = index_next(&m->claims, slot))
        if (claim_at(m, slot)->id == id) return slot;
    return 0;
}

void claim_index(struct machine *m, uint32_t slot) {
    const struct claim *claim = claim_at(m, slot);
    index_add(&m->claims, index_hash(claim->id), slot);
    if (claim->token == 0 && claim->until_ns != UINT64_MAX)
        wheel_put(&m->wait_wheel, slot, claim->until_ns);
}

uint32_t claim_create(struct machine *m, const struct wire_request *request, uint32_t lock,
                      uint32_t lease_slot) {
    uint32_t slot = pool_take(&m->pools[TABLE_CLAIM]);
    if (slot == 0) return 0;
    struct claim *claim = claim_at(m, slot);
    struct lease *lease = lease_edit(m, lease_slot);
    claim->id = m->head.applied;
    claim->session = request->session;
    claim->since_ns = m->head.time_ns;
    claim->until_ns = UINT64_MAX;
    claim->lock = lock;
    claim->lease = lease_slot;
    claim->lease_next = lease->claims;
    if (lease->claims != 0) claim_edit(m, lease->claims)->lease_prev = slot;
    lease->claims = slot;
    lease->claim_count++;
    index_add(&m->claims, index_hash(claim->id), slot);
    return slot;
}

void claim_destroy(struct machine *m, uint32_t slot) {
    const struct claim *claim = claim_at(m, slot);
    struct lease *lease = lease_edit(m, claim->lease);
    if (claim->lease_prev != 0)
        claim_edit(m, claim->lease_prev)->lease_next = claim->lease_next;
    else
        lease->claims = claim->lease_next;
    if (claim->lease_next != 0) claim_edit(m, claim->lease_next)->lease_prev = claim->lease_prev;
    lease->claim_count--;
    index_remove(&m->claims, index_hash(claim->id), slot);
    wheel_remove(&m->wait_wheel, slot);
    pool_free(&m->pools[TABLE_CLAIM], slot);
}

void claim_enqueue(struct machine *m, uint32_t slot) {
    struct claim *claim = claim_edit(m, slot);
    struct lock *lock = lock_edit(m, claim->lock);
    claim->prev = lock->last;
    if (lock->last != 0)
        claim_edit(m, lock->last)->next = slot;
    else
        lock->first = slot;
    lock->last = slot;
    lock->waiters++;
}

void claim_dequeue(struct machine *m, uint32_t slot) {
    struct claim *claim = claim_edit(m, slot);
    struct lock *lock = lock_edit(m, claim->lock);
    if (claim->prev != 0)
        claim_edit(m, claim->prev)->next = claim->next;
    else
        lock->first = claim->next;
    if (claim->next != 0)
        claim_edit(m, claim->next)->prev = claim->prev;
    else
        lock->last = claim->prev;
    lock->waiters--;
    claim->prev = claim->next = 0;
}

void claim_set_wait(struct machine *m, uint32_t slot, uint64_t wait_ms) {
    struct claim *claim = claim_edit(m, slot);
    bool bounded = wait_ms != WIRE_WAIT_FOREVER;
    claim->until_ns = bounded ? m->head.time_ns + wait_ms * 1000000ull : UINT64_MAX;
    if (bounded)
        wheel_put(&m->wait_wheel, slot, claim->until_ns);
    else
        wheel_remove(&m->wait_wheel, slot);
}

void claim_notify(struct machine *m, uint32_t slot, uint16_t status) {
    if (m->notice == NULL) return;
    const struct claim *claim = claim_at(m, slot);
    struct machine_notice notice = {
        .session = claim->session,
        .claim = claim->id,
        .lease = lease_at(m, claim->lease)->id,
        .token = claim->token,
        .status = status,
        .claim_slot = slot - 1,
    };
    m->notice(m->notice_context, &notice);
}
