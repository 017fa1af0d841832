// Snapshots: two files in turn. Content goes to the file that is not the newest; then the table of
// its checksums; then the header, which makes it the newest. A crash before that leaves the old
// one.
//
// One that was received from a leader is followed by a RESET in the log, so that what the log held
// before never comes back.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store_internal.h"

static uint64_t table_offset(uint64_t bytes) {
    uint64_t end = STORE_BLOCK + bytes;
    return (end + STORE_BLOCK - 1) & ~(uint64_t)(STORE_BLOCK - 1);
}
static uint32_t table_padded(uint32_t chunks) {
    return (uint32_t)((chunks * sizeof(uint32_t) + STORE_BLOCK - 1) & ~(size_t)(STORE_BLOCK - 1));
}

static bool read_header(struct store *store, uint32_t file, struct snapshot_header *header) {
    int32_t got = store->disk->ops->read(store->disk, STORE_FILE_SNAP + file, 0,
                                         store->snapshot.block, STORE_BLOCK);
    if (got != (int32_t)STORE_BLOCK) return false;
    memcpy(header, store->snapshot.block, sizeof *header);
    struct snapshot_header plain = *header;
    plain.crc = 0;
    return header->magic == SNAPSHOT_MAGIC && header->version == WAL_VERSION &&
           header->crc == store_crc(&plain, sizeof plain) &&
           header->cluster == store->options.cluster && header->node == store->options.node &&
           header->group == store->options.group && header->chunks <= STORE_CHUNKS_MAX &&
           header->chunks == (header->bytes + STORE_SNAPSHOT_BYTES - 1) / STORE_SNAPSHOT_BYTES;
}

static bool read_table(struct store *store, uint32_t file, const struct snapshot_header *header) {
    uint32_t padded = table_padded(header->chunks);
    int32_t got =
        store->disk->ops->read(store->disk, STORE_FILE_SNAP + file, table_offset(header->bytes),
                               store->snapshot.table, padded);
    return got == (int32_t)padded &&
           store_crc(store->snapshot.table, header->chunks * 4) == header->table_crc;
}

int snapshot_open(struct store *store, struct store_recovered *recovered, char *error) {
    struct snapshot_file *s = &store->snapshot;
    struct snapshot_header headers[2];
    bool valid[2];
    s->newest = 2;
    for (uint32_t i = 0; i < 2; i++) {
        bool created;
        int result =
            store->disk->ops->open(store->disk, STORE_FILE_SNAP + i,
                                   i == 0 ? "snapshot-a" : "snapshot-b", STORE_BLOCK, &created);
        if (result < 0) {
            snprintf(error, STORE_ERROR_BYTES, "cannot create a snapshot file: %s: check space",
                     strerror(-result));
            return result;
        }
        valid[i] = read_header(store, i, &headers[i]);
    }
    if (store->options.memory) return 0; // what lies there belongs to a state that is gone
    for (uint32_t round = 0; round < 2; round++) {
        uint32_t best =
            valid[0] && (!valid[1] || headers[0].sequence > headers[1].sequence) ? 0 : 1;
        if (!valid[best]) return 0;
        if (read_table(store, best, &headers[best])) {
            s->newest = best;
            s->header = headers[best];
            recovered->snapshot_index = s->header.index;
            recovered->snapshot_term = s->header.term;
            recovered->snapshot_time_ns = s->header.time_ns;
            recovered->snapshot_bytes = s->header.bytes;
            return 0;
        }
        // The newest is damaged, and the log it replaced may be recycled: see damaged in store.h.
        valid[best] = false;
        recovered->damaged = true;
        STORE_COUNT(store, DAMAGED, 1);
    }
    return 0;
}

// ---------------------------------------------------------------- writing

static uint32_t target(const struct snapshot_file *s) {
    return s->newest == 0 ? 1 : 0;
}

static void finish(struct store *store, int32_t status) {
    struct snapshot_file *s = &store->snapshot;
    struct store_request *request = s->request;
    s->request = NULL;
    s->step = STEP_IDLE;
    if (status != 0) {
        s->written = UINT64_MAX; // nothing but a new beginning is taken
        STORE_COUNT(store, SNAPSHOTS_FAILED, 1);
    }
    store_finish(store, request, status);
}

bool snapshot_write(struct store *store, struct store_request *request) {
    struct snapshot_file *s = &store->snapshot;
    if (s->request != NULL) return false;
    if (request->snapshot.offset == 0) {
        s->written = 0;
        s->next = (struct snapshot_header){.index = request->snapshot.index};
    }
    s->request = request;
    bool full = request->bytes == STORE_SNAPSHOT_BYTES || request->snapshot.final;
    if (request->snapshot.offset != s->written || !full || request->bytes == 0 ||
        request->snapshot.index != s->next.index || s->next.chunks == STORE_CHUNKS_MAX) {
        finish(store, -EINVAL);
        return true;
    }
    s->step = STEP_DATA;
    uint32_t padded = (request->bytes + STORE_BLOCK - 1) & ~(STORE_BLOCK - 1);
    memset(request->data + request->bytes, 0, padded - request->bytes);
    s->next_table[s->next.chunks++] = store_crc(request->data, request->bytes);
    return true;
}

static void fill_header(struct store *store) {
    struct snapshot_file *s = &store->snapshot;
    const struct store_request *request = s->request;
    s->next.magic = SNAPSHOT_MAGIC;
    s->next.version = WAL_VERSION;
    s->next.node = store->options.node;
    s->next.cluster = store->options.cluster;
    s->next.group = store->options.group;
    s->next.sequence = s->header.sequence + 1;
    s->next.term = request->snapshot.term;
    s->next.time_ns = request->snapshot.time_ns;
    s->next.bytes = s->written;
    s->next.table_crc = store_crc(s->next_table, s->next.chunks * 4);
    s->next.crc = 0;
    s->next.crc = store_crc(&s->next, sizeof s->next);
    memset(s->block, 0, STORE_BLOCK);
    memcpy(s->block, &s->next, sizeof s->next);
}

// Submits what the present step needs, once. False: the disk's queue is full, or nothing to do.
bool snapshot_move(struct store *store) {
    struct snapshot_file *s = &store->snapshot;
    struct disk *disk = store->disk;
    uint32_t file = STORE_FILE_SNAP + target(s);
    if (s->request == NULL || s->moving) return false;
    bool went = false;
    switch (s->step) {
    case STEP_IDLE:
        return false;
    case STEP_DATA: {
        uint32_t padded = (s->request->bytes + STORE_BLOCK - 1) & ~(STORE_BLOCK - 1);
        went = disk->ops->submit_write(disk, file, STORE_BLOCK + s->written, s->request->data,
                                       padded, COOKIE(COOKIE_SNAPSHOT, padded));
        break;
    }
    case STEP_TABLE: {
        uint32_t padded = table_padded(s->next.chunks);
        memset((uint8_t *)s->next_table + s->next.chunks * 4, 0, padded - s->next.chunks * 4);
        went = disk->ops->submit_write(disk, file, table_offset(s->written), s->next_table, padded,
                                       COOKIE(COOKIE_SNAPSHOT, padded));
        break;
    }
    case STEP_HEADER:
        fill_header(store);
        went = disk->ops->submit_write(disk, file, 0, s->block, STORE_BLOCK,
                                       COOKIE(COOKIE_SNAPSHOT, STORE_BLOCK));
        break;
    case STEP_RESET:
        went = wal_append_reset(store, &s->next);
        break;
    }
    s->moving = went;
    return went;
}

static void make_newest(struct store *store) {
    struct snapshot_file *s = &store->snapshot;
    s->newest = target(s);
    s->header = s->next;
    uint32_t *table = s->table;
    s->table = s->next_table;
    s->next_table = table;
    STORE_COUNT(store, SNAPSHOTS, 1);
}

void snapshot_landed(struct store *store, int32_t result, int32_t expected) {
    struct snapshot_file *s = &store->snapshot;
    s->moving = false;
    if (result != expected) { // a short write is a disk that ran full
        finish(store, result < 0 ? result : -ENOSPC);
        return;
    }
    switch (s->step) {
    case STEP_DATA:
        s->written += s->request->bytes;
        if (!s->request->snapshot.final)
            finish(store, 0);
        else
            s->step = STEP_TABLE;
        return;
    case STEP_TABLE:
        s->step = STEP_HEADER;
        return;
    case STEP_HEADER:
        make_newest(store);
        if (s->request->snapshot.install && !store->options.memory)
            s->step = STEP_RESET;
        else
            finish(store, 0);
        return;
    default:
        assert(!"no snapshot write was under way");
    }
}

void snapshot_reset_landed(struct store *store, int32_t status) {
    store->snapshot.moving = false;
    finish(store, status);
}

// ---------------------------------------------------------------- reading

static bool chunk_sound(const struct snapshot_file *s, uint64_t offset, const void *data,
                        uint32_t bytes) {
    return s->table[offset / STORE_SNAPSHOT_BYTES] == store_crc(data, bytes);
}

static uint32_t chunk_bytes(const struct snapshot_file *s, uint64_t offset) {
    uint64_t left = s->header.bytes - offset;
    return left < STORE_SNAPSHOT_BYTES ? (uint32_t)left : STORE_SNAPSHOT_BYTES;
}

bool snapshot_read(struct store *store, struct store_request *request) {
    struct snapshot_file *s = &store->snapshot;
    uint64_t offset = request->snapshot.offset;
    if (s->read != NULL) return false;
    if (s->newest == 2 || offset % STORE_SNAPSHOT_BYTES != 0 || offset >= s->header.bytes) {
        store_finish(store, request, -EINVAL);
        return true;
    }
    s->read_bytes = chunk_bytes(s, offset);
    uint32_t padded = (s->read_bytes + STORE_BLOCK - 1) & ~(STORE_BLOCK - 1);
    if (!store->disk->ops->submit_read(store->disk, STORE_FILE_SNAP + s->newest,
                                       STORE_BLOCK + offset, request->data, padded,
                                       COOKIE(COOKIE_READ, padded)))
        return false;
    s->read = request;
    return true;
}

void snapshot_read_landed(struct store *store, int32_t result) {
    struct snapshot_file *s = &store->snapshot;
    struct store_request *request = s->read;
    s->read = NULL;
    int32_t status = result < 0 ? result : 0;
    if (status == 0 && ((uint32_t)result < s->read_bytes ||
                        !chunk_sound(s, request->snapshot.offset, request->data, s->read_bytes)))
        status = -EBADMSG;
    request->bytes = s->read_bytes;
    store_finish(store, request, status);
}

int32_t store_snapshot_load(struct store *store, uint64_t offset, void *buffer, uint32_t capacity) {
    struct snapshot_file *s = &store->snapshot;
    if (s->newest == 2 || offset >= s->header.bytes) return 0;
    if (offset % STORE_SNAPSHOT_BYTES != 0 || capacity < STORE_SNAPSHOT_BYTES) return -EINVAL;
    uint32_t bytes = chunk_bytes(s, offset);
    uint32_t padded = (bytes + STORE_BLOCK - 1) & ~(STORE_BLOCK - 1);
    int32_t got = store->disk->ops->read(store->disk, STORE_FILE_SNAP + s->newest,
                                         STORE_BLOCK + offset, buffer, padded);
    if (got < 0) return got;
    if (got != (int32_t)padded || !chunk_sound(s, offset, buffer, bytes)) return -EBADMSG;
    return (int32_t)bytes;
}
