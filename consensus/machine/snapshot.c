// A snapshot of the state as it was at begin, read in slices between entries. See pool.h for how
// objects that change meanwhile are kept, and machine_internal.h for the stream.
#include "machine/hash.h"
#include "machine/machine_internal.h"

// Slots looked at in one read per byte of capacity: an empty one costs about as much as copying a
// few bytes, so that a read of 16 KiB stays far below 100 us over the emptiest table.
#define SLOTS_PER_BYTE 1u

void machine_snapshot_begin(struct machine *m) {
    struct snapshot_out *out = &m->out;
    assert(!out->active);
    *out = (struct snapshot_out){.active = true};
    out->header.format = SNAPSHOT_FORMAT;
    out->header.tables = TABLES;
    out->header.head = m->head;
    for (uint32_t t = 0; t < TABLES; t++) {
        out->header.counts[t] = m->pools[t].used;
        pool_scan_begin(&m->pools[t]);
    }
}

// One unit at `at`; the sum goes over all of it.
static uint32_t unit(struct snapshot_out *out, uint8_t *at, uint32_t what, uint32_t slot,
                     const void *bytes, uint32_t length) {
    struct snapshot_mark mark = {.what = what, .slot = slot};
    memcpy(at, &mark, sizeof mark);
    if (length > 0) memcpy(at + sizeof mark, bytes, length);
    out->sum = hash_bytes(out->sum, at, sizeof mark + length);
    return (uint32_t)sizeof mark + length;
}

// Objects of the current table that fit; false when capacity or budget ends before the table does.
static bool read_table(struct machine *m, uint8_t *buffer, uint32_t capacity, uint32_t *written,
                       uint32_t *budget) {
    struct snapshot_out *out = &m->out;
    struct pool *pool = &m->pools[out->table];
    uint32_t slot;
    const void *item;
    while (capacity - *written >= sizeof(struct snapshot_mark) + pool->item_bytes) {
        item = pool_scan(pool, &slot, budget);
        if (item == NULL) return pool_scanned(pool);
        *written += unit(out, buffer + *written, out->table, slot, item, pool->item_bytes);
    }
    return false;
}

uint32_t machine_snapshot_read(struct machine *m, void *buffer, uint32_t capacity) {
    struct snapshot_out *out = &m->out;
    assert(out->active && capacity >= 4096);
    uint8_t *at = buffer;
    uint32_t written = 0, budget = capacity * SLOTS_PER_BYTE;
    if (out->ended) return 0;
    if (!out->begun) {
        written = unit(out, at, SNAPSHOT_HEAD, 0, &out->header, sizeof out->header);
        out->begun = true;
    }
    while (out->table < TABLES && read_table(m, at, capacity, &written, &budget)) out->table++;
    if (out->table == TABLES && capacity - written >= 16) {
        uint64_t sum = out->sum;
        written += unit(out, at + written, SNAPSHOT_END, 0, &sum, sizeof sum);
        out->ended = true;
    }
    if (written == 0) written = unit(out, at, SNAPSHOT_FILLER, 0, NULL, 0);
    return written;
}

void machine_snapshot_end(struct machine *m) {
    for (uint32_t t = 0; t < TABLES; t++) pool_scan_end(&m->pools[t]);
    m->out.active = false;
}

bool machine_snapshot_active(const struct machine *m) {
    return m->out.active;
}
