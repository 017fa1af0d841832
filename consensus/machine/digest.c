// The whole content as one number, the same for equal contents whatever slots they lie in: a sum
// over hashes of objects, each told by ids and names only.
#include "machine/hash.h"
#include "machine/machine_internal.h"

static uint64_t session_digest(const struct session *session) {
    return hash_bytes(TABLE_SESSION, session, sizeof *session);
}

static uint64_t lease_digest(const struct lease *lease) {
    uint64_t facts[] = {lease->id, lease->deadline_ns, lease->renewals, lease->ttl_ms,
                        lease->claim_count};
    return hash_bytes(TABLE_LEASE, facts, sizeof facts);
}

static uint64_t claim_digest(const struct machine *m, uint64_t seed, uint32_t slot) {
    const struct claim *claim = claim_at(m, slot);
    uint64_t facts[] = {claim->id,       claim->token,    claim->session,
                        claim->since_ns, claim->until_ns, lease_at(m, claim->lease)->id};
    return hash_bytes(seed, facts, sizeof facts);
}

// Holder and queue in their order.
static uint64_t lock_digest(const struct machine *m, uint32_t slot) {
    const struct lock *lock = lock_at(m, slot);
    uint8_t name[WIRE_NAME_MAX];
    name_copy(m, lock, name);
    uint64_t digest = hash_bytes(TABLE_LOCK + lock->created, name, lock->name_length);
    digest = claim_digest(m, digest, lock->holder);
    for (uint32_t at = lock->first; at != 0; at = claim_at(m, at)->next)
        digest = claim_digest(m, digest, at);
    return digest;
}

uint64_t machine_digest(const struct machine *m) {
    uint64_t digest = hash_bytes(TABLES, &m->head, sizeof m->head);
    for (uint32_t t = TABLE_SESSION; t <= TABLE_LOCK; t++) {
        const struct pool *pool = &m->pools[t];
        for (uint32_t slot = 1; slot <= pool->high; slot++) {
            if (!pool->live[slot]) continue;
            if (t == TABLE_SESSION)
                digest += session_digest(session_at(m, slot));
            else if (t == TABLE_LEASE)
                digest += lease_digest(lease_at(m, slot));
            else
                digest += lock_digest(m, slot);
        }
    }
    return digest;
}
