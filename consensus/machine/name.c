// Names of locks: the first bytes in the lock's own record, so that most comparisons touch one
// cache line, the rest in pieces from a pool that is large enough for the longest name of every
// lock and so never runs out.
#include "machine/machine_internal.h"

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

void name_store(struct machine *m, struct lock *lock, const uint8_t *name, uint32_t length) {
    struct pool *pool = &m->pools[TABLE_NAME];
    uint32_t done = least(length, LOCK_NAME_INLINE);
    lock->name_length = (uint8_t)length;
    memcpy(lock->name, name, done);
    uint32_t *link = &lock->more;
    while (done < length) {
        uint32_t slot = pool_take(pool);
        assert(slot != 0 && "one chain of pieces for every lock");
        struct name_piece *piece = pool_at(pool, slot);
        uint32_t bytes = least(length - done, NAME_PIECE_BYTES);
        memcpy(piece->bytes, name + done, bytes);
        done += bytes;
        *link = slot;
        link = &piece->next;
    }
}

bool name_equals(const struct machine *m, const struct lock *lock, const uint8_t *name,
                 uint32_t length) {
    uint32_t done = least(length, LOCK_NAME_INLINE);
    if (lock->name_length != length || memcmp(lock->name, name, done) != 0) return false;
    for (uint32_t slot = lock->more; done < length;) {
        const struct name_piece *piece = pool_at(&m->pools[TABLE_NAME], slot);
        uint32_t bytes = least(length - done, NAME_PIECE_BYTES);
        if (memcmp(piece->bytes, name + done, bytes) != 0) return false;
        done += bytes;
        slot = piece->next;
    }
    return true;
}

void name_free(struct machine *m, const struct lock *lock) {
    struct pool *pool = &m->pools[TABLE_NAME];
    for (uint32_t slot = lock->more; slot != 0;) {
        uint32_t next = ((const struct name_piece *)pool_at(pool, slot))->next;
        pool_free(pool, slot);
        slot = next;
    }
}

void name_copy(const struct machine *m, const struct lock *lock, uint8_t out[WIRE_NAME_MAX]) {
    uint32_t done = least(lock->name_length, LOCK_NAME_INLINE);
    memcpy(out, lock->name, done);
    for (uint32_t slot = lock->more; done < lock->name_length;) {
        const struct name_piece *piece = pool_at(&m->pools[TABLE_NAME], slot);
        uint32_t bytes = least(lock->name_length - done, NAME_PIECE_BYTES);
        memcpy(out + done, piece->bytes, bytes);
        done += bytes;
        slot = piece->next;
    }
}
