// Restoring from a snapshot's stream, cut anywhere. Objects go back to the slots they had, so their
// links hold as they are; indexes and wheels are filled on the way. The stream comes from another
// machine or a disk, so nothing in it is believed before it is checked: first each object, at the
// end the hash over all, the counts, and every link. A stream may carry its right hash and still be
// wrong, when the machine that wrote it was: that must not spread to this one.
#include "machine/hash.h"
#include "machine/machine_internal.h"

void machine_restore_begin(struct machine *m) {
    machine_clear(m);
    machine_set_limits(m, &m->capacity);
    m->head.agreed = (struct machine_limits){0};
    m->in = (struct snapshot_in){.active = true};
}

static bool take_header(struct machine *m, const struct snapshot_header *header) {
    const struct machine_limits *agreed = &header->head.agreed, *have = &m->capacity;
    m->in.header = *header;
    m->in.begun = true;
    if (header->format != SNAPSHOT_FORMAT || header->tables != TABLES) return false;
    if (agreed->sessions > have->sessions || agreed->leases > have->leases ||
        agreed->locks > have->locks || agreed->claims > have->claims)
        return false;
    if (agreed->sessions != 0) machine_set_limits(m, agreed);
    return true;
}

// What an object says of itself: an id that is new here, and nothing from the future.
static bool believable(const struct machine *m, uint32_t table, const void *object) {
    uint64_t applied = m->in.header.head.applied, time_ns = m->in.header.head.time_ns;
    switch (table) {
    case TABLE_SESSION: {
        const struct session *s = object;
        return s->id > 0 && s->id <= s->last_index && s->last_index <= applied &&
               s->last_ns <= time_ns && session_is_new(m, s);
    }
    case TABLE_LEASE: {
        const struct lease *l = object;
        return l->id > 0 && l->id <= applied && l->ttl_ms >= WIRE_TTL_MS_MIN &&
               l->ttl_ms <= WIRE_TTL_MS_MAX && lease_find(m, l->id) == 0;
    }
    case TABLE_LOCK:
        return ((const struct lock *)object)->created <= applied;
    case TABLE_CLAIM: {
        const struct claim *c = object;
        return c->id > 0 && c->id <= applied && c->token <= applied && c->since_ns <= time_ns &&
               claim_find(m, c->id) == 0;
    }
    default:
        return true;
    }
}

static bool take_object(struct machine *m, const struct snapshot_mark *mark) {
    struct pool *pool = &m->pools[mark->what];
    if (!believable(m, mark->what, mark + 1) || !pool_put(pool, mark->slot, mark + 1)) return false;
    switch (mark->what) {
    case TABLE_SESSION:
        session_index(m, mark->slot);
        return true;
    case TABLE_LEASE:
        lease_index(m, mark->slot);
        return true;
    case TABLE_LOCK:
        lock_index(m, mark->slot);
        return true;
    case TABLE_CLAIM:
        claim_index(m, mark->slot);
        return true;
    default:
        return true;
    }
}

// Bytes of the unit that begins with this mark; 0: no such unit may come now.
static uint32_t unit_bytes(const struct machine *m, const struct snapshot_mark *mark) {
    const struct snapshot_in *in = &m->in;
    uint32_t bytes = sizeof *mark;
    if (in->ended || in->begun == (mark->what == SNAPSHOT_HEAD)) return 0;
    if (mark->what < TABLES) return bytes + m->pools[mark->what].item_bytes;
    switch (mark->what) {
    case SNAPSHOT_HEAD:
        return bytes + (uint32_t)sizeof(struct snapshot_header);
    case SNAPSHOT_FILLER:
        return bytes;
    case SNAPSHOT_END:
        return bytes + (uint32_t)sizeof(uint64_t);
    default:
        return 0;
    }
}

static bool take_unit(struct machine *m, const struct snapshot_mark *mark, uint32_t bytes) {
    struct snapshot_in *in = &m->in;
    uint64_t sum_before = in->sum, sum_told;
    in->sum = hash_bytes(in->sum, mark, bytes);
    if (mark->what < TABLES) return take_object(m, mark);
    switch (mark->what) {
    case SNAPSHOT_HEAD:
        return take_header(m, (const struct snapshot_header *)(mark + 1));
    case SNAPSHOT_END:
        memcpy(&sum_told, mark + 1, sizeof sum_told);
        in->ended = true;
        return sum_told == sum_before;
    default:
        return true;
    }
}

// Moves bytes of the stream into the buffer until it holds `wanted`.
static bool gather(struct snapshot_in *in, const uint8_t **bytes, uint32_t *length,
                   uint32_t wanted) {
    uint32_t take = wanted - in->buffered;
    if (take > *length) take = *length;
    memcpy(in->buffer + in->buffered, *bytes, take);
    in->buffered += take;
    *bytes += take;
    *length -= take;
    return in->buffered == wanted;
}

bool machine_restore_write(struct machine *m, const void *bytes, uint32_t length) {
    struct snapshot_in *in = &m->in;
    const uint8_t *at = bytes;
    assert(in->active);
    while (length > 0 && !in->bad) {
        const struct snapshot_mark *mark = (const struct snapshot_mark *)(const void *)in->buffer;
        if (in->buffered < sizeof *mark && !gather(in, &at, &length, sizeof *mark)) break;
        uint32_t wanted = unit_bytes(m, mark);
        if (wanted == 0) {
            in->bad = true;
        } else if (gather(in, &at, &length, wanted)) {
            in->bad = !take_unit(m, mark, wanted);
            in->buffered = 0;
        }
    }
    if (in->bad) machine_clear(m);
    return !in->bad;
}

// ---------------------------------------------------------------- links

static bool live(const struct machine *m, enum machine_table table, uint32_t slot) {
    const struct pool *pool = &m->pools[table];
    return slot > 0 && slot <= pool->high && pool->live[slot];
}

// A chain of its own, as long as the name needs, under which the lock is found. The places for
// copies aside, unused now, tell which pieces have been seen.
static bool name_holds(const struct machine *m, uint32_t slot) {
    const struct lock *lock = lock_at(m, slot);
    const struct pool *names = &m->pools[TABLE_NAME];
    uint8_t name[WIRE_NAME_MAX];
    uint32_t pieces = 0;
    for (uint32_t at = lock->more; at != 0; pieces++) {
        if (!live(m, TABLE_NAME, at) || names->saved[at] != POOL_UNTOUCHED) return false;
        names->saved[at] = POOL_ASIDE;
        at = ((const struct name_piece *)pool_at(names, at))->next;
    }
    uint32_t inlined = lock->name_length < LOCK_NAME_INLINE ? lock->name_length : LOCK_NAME_INLINE;
    uint32_t rest = lock->name_length - inlined;
    if (lock->name_length == 0 || pieces != (rest + NAME_PIECE_BYTES - 1) / NAME_PIECE_BYTES)
        return false;
    name_copy(m, lock, name);
    return lock_find(m, name, lock->name_length) == slot;
}

// Claims a lock links to, each counted once by its back link; UINT32_MAX: a link is broken.
static uint32_t check_lock(const struct machine *m, uint32_t slot) {
    const struct lock *lock = lock_at(m, slot);
    uint32_t count = 0, prev = 0;
    if (!live(m, TABLE_CLAIM, lock->holder)) return UINT32_MAX;
    const struct claim *holder = claim_at(m, lock->holder);
    if (holder->lock != slot || holder->token == 0) return UINT32_MAX;
    for (uint32_t at = lock->first; at != 0; at = claim_at(m, at)->next) {
        if (!live(m, TABLE_CLAIM, at) || count++ == lock->waiters) return UINT32_MAX;
        const struct claim *claim = claim_at(m, at);
        if (claim->lock != slot || claim->token != 0 || claim->prev != prev) return UINT32_MAX;
        prev = at;
    }
    if (count != lock->waiters || lock->last != prev) return UINT32_MAX;
    return name_holds(m, slot) ? count + 1 : UINT32_MAX;
}

static uint32_t check_lease(const struct machine *m, uint32_t slot) {
    const struct lease *lease = lease_at(m, slot);
    uint32_t count = 0, prev = 0;
    for (uint32_t at = lease->claims; at != 0; at = claim_at(m, at)->lease_next) {
        if (!live(m, TABLE_CLAIM, at) || count++ == lease->claim_count) return UINT32_MAX;
        const struct claim *claim = claim_at(m, at);
        if (claim->lease != slot || claim->lease_prev != prev) return UINT32_MAX;
        prev = at;
    }
    return count == lease->claim_count ? count : UINT32_MAX;
}

// Every claim is on exactly one lock's and one lease's list, every piece in one name: the sums say
// so.
static bool links_hold(const struct machine *m) {
    uint64_t by_lock = 0, by_lease = 0;
    uint32_t seen = 0;
    const struct pool *names = &m->pools[TABLE_NAME];
    memset(names->saved, POOL_UNTOUCHED, (size_t)names->high + 1);
    for (uint32_t slot = 1; slot <= m->pools[TABLE_LOCK].high; slot++) {
        if (!m->pools[TABLE_LOCK].live[slot]) continue;
        uint32_t claims = check_lock(m, slot);
        if (claims == UINT32_MAX) return false;
        by_lock += claims;
    }
    for (uint32_t slot = 1; slot <= m->pools[TABLE_LEASE].high; slot++) {
        if (!m->pools[TABLE_LEASE].live[slot]) continue;
        uint32_t claims = check_lease(m, slot);
        if (claims == UINT32_MAX) return false;
        by_lease += claims;
    }
    for (uint32_t slot = 1; slot <= names->high; slot++) seen += names->saved[slot] == POOL_ASIDE;
    uint32_t used = m->pools[TABLE_CLAIM].used;
    return by_lock == used && by_lease == used && seen == names->used;
}

bool machine_restore_end(struct machine *m) {
    struct snapshot_in *in = &m->in;
    bool good = in->active && in->ended && !in->bad && in->buffered == 0;
    for (uint32_t t = 0; t < TABLES && good; t++) good = m->pools[t].used == in->header.counts[t];
    if (good) good = links_hold(m);
    if (!good) {
        machine_clear(m);
    } else {
        for (uint32_t t = 0; t < TABLES; t++) pool_put_end(&m->pools[t]);
        for (uint32_t slot = 1; slot <= m->pools[TABLE_SESSION].high; slot++)
            if (!m->pools[TABLE_SESSION].live[slot]) m->session_last[slot] = UINT64_MAX;
        m->head = in->header.head;
        m->hashes_from = m->head.applied;
        m->hashes[m->head.applied % MACHINE_HASHES] = m->head.hash;
    }
    in->active = false;
    return good;
}
