// Appending: one batch, one write, on a fresh block. A durable block is never written again while
// it is needed, so a torn write can only hit what was never acknowledged.
#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store_internal.h"

static uint32_t pad8(uint32_t bytes) {
    return (bytes + 7u) & ~7u;
}

void store_batch_reset(struct store_request *request) {
    request->bytes = (uint32_t)sizeof(struct wal_batch_header);
    request->append.entries = 0;
    request->append.urgent = false;
    request->status = 0;
}

bool store_batch_add(struct store_request *request, uint64_t index,
                     const struct raft_entry *entry) {
    struct wal_batch_header *header = (struct wal_batch_header *)request->data;
    uint32_t bytes = (uint32_t)sizeof(struct wal_record) + pad8(entry->length);
    if (request->bytes + bytes > STORE_BATCH_BYTES) return false;
    if (request->append.entries == 0) header->first_index = index;
    assert(index == header->first_index + request->append.entries);
    struct wal_record *record = (struct wal_record *)(request->data + request->bytes);
    *record = (struct wal_record){.term = entry->term,
                                  .time_ns = entry->time_ns,
                                  .length = entry->length,
                                  .type = entry->type};
    uint8_t *body = (uint8_t *)(record + 1);
    if (entry->length > 0) memcpy(body, entry->data, entry->length);
    memset(body + entry->length, 0, pad8(entry->length) - entry->length);
    request->bytes += bytes;
    request->append.entries++;
    return true;
}

void wal_init(struct store *store) {
    store->wal.sequence = 1;
}

bool wal_segment_free(const struct store *store, uint32_t segment) {
    const struct wal_segment *s = &store->wal.segments[segment];
    bool covered = store->snapshot.newest < 2 && s->max_index <= store->snapshot.header.index;
    return segment != store->wal.current && (s->first_sequence == 0 || covered);
}

// Makes room for `bytes` in the current segment or the next; false if the next is still needed.
// While it is, the end of the current one is kept for what is urgent. A free segment stays free
// until it is begun, so nothing else has got in there before.
static bool make_room(struct store *store, uint32_t bytes, bool urgent) {
    struct wal *wal = &store->wal;
    uint32_t next = (wal->current + 1) % store->options.segment_count;
    bool next_free = wal_segment_free(store, next);
    uint64_t room = store->options.segment_bytes;
    if (!next_free && !urgent) room -= STORE_RESERVE_BYTES;
    if (wal->offset + bytes <= room) return true;
    if (!next_free) {
        STORE_COUNT(store, WAL_FULL, 1);
        return false;
    }
    wal->current = next;
    wal->offset = 0;
    wal->segments[next] = (struct wal_segment){0};
    STORE_COUNT(store, SEGMENT_ROLLS, 1);
    return true;
}

// `bytes` counts header and records; the buffer has room for the padding behind them.
static bool write_batch(struct store *store, uint8_t *data, uint32_t bytes, uint64_t last_index,
                        struct store_request *request) {
    struct wal *wal = &store->wal;
    struct wal_batch_header *header = (struct wal_batch_header *)data;
    uint32_t padded = (bytes + STORE_BLOCK - 1) & ~(STORE_BLOCK - 1);
    bool urgent = request == NULL || request->append.urgent;
    if (wal->flight_last - wal->flight_first == STORE_IN_FLIGHT ||
        !make_room(store, padded, urgent))
        return false;
    memset(data + bytes, 0, padded - bytes);
    header->magic = WAL_MAGIC;
    header->version = WAL_VERSION;
    header->node = store->options.node;
    header->cluster = store->options.cluster;
    header->group = store->options.group;
    header->life = wal->life;
    header->sequence = wal->sequence;
    header->durable = wal->durable;
    header->previous_hash = wal->last_hash;
    header->bytes = bytes - (uint32_t)sizeof *header;
    header->body_crc = store_crc(header + 1, header->bytes);
    header->header_crc = 0;
    header->header_crc = store_crc(header, sizeof *header);

    uint64_t flight = wal->flight_last;
    if (!store->disk->ops->submit_write(store->disk, wal->current, wal->offset, data, padded,
                                        COOKIE(COOKIE_APPEND, flight % STORE_IN_FLIGHT)))
        return false;
    wal->flight_last++;
    wal->flights[flight % STORE_IN_FLIGHT] =
        (struct wal_flight){.request = request, .sequence = wal->sequence, .expected = padded};
    struct wal_segment *segment = &wal->segments[wal->current];
    if (segment->first_sequence == 0) segment->first_sequence = wal->sequence;
    if (segment->max_index < last_index) segment->max_index = last_index;
    wal->last_hash = XXH3_64bits(data, bytes);
    wal->sequence++;
    wal->offset += padded;
    STORE_COUNT(store, APPENDS, 1);
    STORE_COUNT(store, ENTRIES, header->entries);
    STORE_COUNT(store, BYTES_WRITTEN, padded);
    return true;
}

bool wal_append(struct store *store, struct store_request *request) {
    struct wal_batch_header *header = (struct wal_batch_header *)request->data;
    uint64_t first_index = header->first_index;
    memset(header, 0, sizeof *header);
    header->first_index = first_index;
    header->entries = request->append.entries;
    return write_batch(store, request->data, request->bytes, request->append.last_index, request);
}

bool wal_append_reset(struct store *store, const struct snapshot_header *snapshot) {
    struct wal_batch_header *header = (struct wal_batch_header *)store->reset_block;
    memset(store->reset_block, 0, STORE_BLOCK);
    header->flags = WAL_RESET;
    header->first_index = snapshot->index;
    header->term = snapshot->term;
    header->time_ns = snapshot->time_ns;
    // The snapshot is durable, so what was written before is void: it must not hold up recycling,
    // nor this very batch.
    for (uint32_t i = 0; i < store->options.segment_count; i++)
        store->wal.segments[i].max_index = 0;
    return write_batch(store, store->reset_block, sizeof *header, 0, NULL);
}

// Completions may come in any order; they are reported in the order of submission.
void wal_landed(struct store *store, uint64_t flight, int32_t result) {
    struct wal *wal = &store->wal;
    wal->flights[flight].landed = true;
    wal->flights[flight].result = result;
    while (wal->flight_first != wal->flight_last) {
        struct wal_flight *f = &wal->flights[wal->flight_first % STORE_IN_FLIGHT];
        if (!f->landed) return;
        int32_t status = 0;
        if (f->result != (int32_t)f->expected) {
            status = f->result < 0 ? f->result : -EIO;
            store_failed(store);
        }
        if (store->state == STORE_FAILED && status == 0) status = -EIO; // one before it failed
        if (status == 0) wal->durable = f->sequence;
        if (f->request != NULL)
            store_finish(store, f->request, status);
        else
            snapshot_reset_landed(store, status);
        wal->flight_first++;
    }
}
