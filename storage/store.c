// See store.h: opening, requests in, requests out.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <isa-l/crc.h>

#include "store_internal.h"

uint32_t store_crc(const void *bytes, uint32_t length) {
    union { // the library's prototype lacks a const
        const void *in;
        unsigned char *out;
    } cast = {.in = bytes};
    return ~crc32_iscsi(cast.out, (int)length, 0xffffffffu);
}

#define TABLE_BYTES ((size_t)STORE_CHUNKS_MAX * sizeof(uint32_t))

static size_t struct_bytes(void) {
    return (sizeof(struct store) + STORE_BLOCK - 1) & ~(size_t)(STORE_BLOCK - 1);
}

size_t store_bytes(const struct store_options *options) {
    (void)options;
    return struct_bytes() + 3 * STORE_BLOCK + STORE_BATCH_BYTES + STORE_WINDOW_BYTES +
           2 * TABLE_BYTES;
}

static bool options_valid(const struct store_options *o, char *error) {
    if (o->memory ||
        (o->segment_count >= 3 && o->segment_count <= STORE_SEGMENTS_MAX &&
         o->segment_bytes % STORE_BLOCK == 0 && o->segment_bytes >= 4 * STORE_BATCH_BYTES))
        return true;
    snprintf(error, STORE_ERROR_BYTES,
             "segments: 3 to %u of at least %u bytes, a multiple of %u, are needed",
             STORE_SEGMENTS_MAX, 4 * STORE_BATCH_BYTES, STORE_BLOCK);
    return false;
}

static int open_segment(struct store *store, uint32_t segment, uint64_t bytes, char name[16]) {
    bool created;
    snprintf(name, 16, "wal-%02u.seg", segment % STORE_SEGMENTS_MAX);
    return store->disk->ops->open(store->disk, segment, name, bytes, &created);
}

// The ring of segments is walked by their number: with another number the log's end is not where it
// was left. Looked at before any is made.
static int check_count(struct store *store, const struct store_recovered *recovered, char *error) {
    char name[16];
    uint32_t count = store->options.segment_count, there = 0;
    while (there < STORE_SEGMENTS_MAX && open_segment(store, there, 0, name) == 0) there++;
    // A first start that was cut short has made some of them only.
    if (there == count || there == 0 || (there < count && !recovered->existed)) return 0;
    snprintf(
        error, STORE_ERROR_BYTES,
        "[wal] segments cannot be changed under a log: it is %u, and there are %u. Set it back",
        count, there);
    return -EINVAL;
}

static int open_segments(struct store *store, const struct store_recovered *recovered,
                         char *error) {
    int refused = check_count(store, recovered, error);
    if (refused != 0) return refused;
    for (uint32_t i = 0; i < store->options.segment_count; i++) {
        char name[16];
        int result = open_segment(store, i, store->options.segment_bytes, name);
        if (result == 0 &&
            store->disk->ops->size(store->disk, i) != (int64_t)store->options.segment_bytes)
            result = -EFBIG;
        if (result == 0) continue;
        snprintf(error, STORE_ERROR_BYTES,
                 result == -EFBIG ? "%s has another size: [wal] segment_size cannot be changed "
                                    "under a log (%s)"
                                  : "cannot create %s: %s: check space and rights",
                 name, strerror(-result));
        return result;
    }
    return 0;
}

int store_open(void *memory, const struct store_options *options, struct store **opened,
               struct store_recovered *recovered, char error[STORE_ERROR_BYTES]) {
    struct store *store = memory;
    uint8_t *at = (uint8_t *)memory + struct_bytes();
    memset(store, 0, sizeof *store);
    memset(recovered, 0, sizeof *recovered);
    if (!options_valid(options, error)) return -EINVAL;
    store->options = *options;
    store->disk = options->disk;
    store->hard_block = at;
    store->reset_block = at + STORE_BLOCK;
    store->snapshot.block = at + 2 * STORE_BLOCK;
    store->scan = at + 3 * STORE_BLOCK;
    store->window.bytes = store->scan + STORE_BATCH_BYTES;
    store->snapshot.table = (uint32_t *)(store->window.bytes + STORE_WINDOW_BYTES);
    store->snapshot.next_table =
        (uint32_t *)(store->window.bytes + STORE_WINDOW_BYTES + TABLE_BYTES);
    wal_init(store);

    int result = hard_state_open(store, recovered, error);
    if (result == 0) result = snapshot_open(store, recovered, error);
    if (result == 0 && !options->memory) result = open_segments(store, recovered, error);
    if (result == 0 && !options->memory) result = wal_recover(store, recovered, error);
    if (result == 0) result = hard_state_settle(store, recovered, error);
    if (result != 0) return result;
    *opened = store;
    return 0;
}

void store_close(struct store *store) {
    store->state = STORE_FAILED;
}

int store_replay(struct store *store, store_entry_fn fn, void *context) {
    return wal_replay(store, fn, context);
}

int store_register_buffers(struct store *store, struct store_request **requests, uint32_t count) {
    void *buffers[STORE_DONE_MAX];
    uint32_t bytes[STORE_DONE_MAX], n = 0;
    for (uint32_t i = 0; i < count && n < STORE_DONE_MAX - 3; i++) {
        if (requests[i]->type == STORE_HARD_STATE) continue; // written from the store's own block
        buffers[n] = requests[i]->data;
        bytes[n++] = requests[i]->type == STORE_APPEND ? STORE_BATCH_BYTES : STORE_SNAPSHOT_BYTES;
    }
    buffers[n] = store->hard_block; // with the two blocks behind it
    bytes[n++] = 3 * STORE_BLOCK;
    return store->disk->ops->register_buffers(store->disk, buffers, bytes, n);
}

void store_failed(struct store *store) {
    STORE_COUNT(store, IO_ERRORS, 1);
    store->state = STORE_FAILED;
}

void store_finish(struct store *store, struct store_request *request, int32_t status) {
    assert(store->done_last - store->done_first < STORE_DONE_MAX);
    request->status = status;
    store->done[store->done_last++ % STORE_DONE_MAX] = request;
}

bool store_submit(struct store *store, struct store_request *request) {
    if (store->done_last - store->done_first == STORE_DONE_MAX) return false;
    if (store->state == STORE_FAILED) {
        store_finish(store, request, -EIO);
        return true;
    }
    switch (request->type) {
    case STORE_APPEND:
        if (!store->options.memory) return wal_append(store, request);
        STORE_COUNT(store, APPENDS, 1);
        STORE_COUNT(store, ENTRIES, request->append.entries);
        store_finish(store, request, 0);
        return true;
    case STORE_HARD_STATE:
        return hard_state_write(store, request);
    case STORE_SNAPSHOT_WRITE:
        return snapshot_write(store, request);
    case STORE_SNAPSHOT_READ:
        return snapshot_read(store, request);
    }
    return false;
}

static void landed(struct store *store, const struct disk_completion *completion) {
    uint64_t number = completion->cookie & ((1ull << 56) - 1);
    switch (completion->cookie >> 56) {
    case COOKIE_APPEND:
        wal_landed(store, number, completion->result);
        return;
    case COOKIE_HARD:
        hard_state_landed(store, completion->result);
        return;
    case COOKIE_SNAPSHOT:
        snapshot_landed(store, completion->result, (int32_t)number);
        return;
    case COOKIE_READ:
        snapshot_read_landed(store, completion->result);
        return;
    default:
        assert(!"a completion nobody asked for");
    }
}

uint32_t store_poll(struct store *store, struct store_request **done, uint32_t max) {
    struct disk_completion completions[DISK_QUEUE];
    (void)snapshot_move(store);
    hard_state_move(store);
    uint32_t count = store->disk->ops->poll(store->disk, completions, DISK_QUEUE);
    for (uint32_t i = 0; i < count; i++) landed(store, &completions[i]);
    store->landed += count;
    uint32_t given = 0;
    while (given < max && store->done_first != store->done_last)
        done[given++] = store->done[store->done_first++ % STORE_DONE_MAX];
    return given;
}

bool store_busy(const struct store *store) {
    const struct snapshot_file *s = &store->snapshot;
    return store->done_first != store->done_last || (s->request != NULL && !s->moving) ||
           (store->hard_request != NULL && !store->hard_moving);
}

uint64_t store_landed(const struct store *store) {
    return store->landed;
}

enum store_state store_state(const struct store *store) {
    return store->state;
}

bool store_wal_full(const struct store *store) {
    uint32_t next = (store->wal.current + 1) % store->options.segment_count;
    return !store->options.memory && !wal_segment_free(store, next) &&
           store->wal.offset + STORE_BATCH_BYTES + STORE_RESERVE_BYTES >
               store->options.segment_bytes;
}

uint32_t store_wal_used_percent(const struct store *store) {
    if (store->options.memory) return 0;
    uint64_t used = store->wal.offset;
    for (uint32_t i = 0; i < store->options.segment_count; i++)
        if (i != store->wal.current && !wal_segment_free(store, i))
            used += store->options.segment_bytes;
    uint64_t room = (uint64_t)store->options.segment_bytes * store->options.segment_count;
    uint64_t percent = used * 100 / (room - STORE_RESERVE_BYTES);
    return percent < 100 ? (uint32_t)percent : 100;
}

uint64_t store_counter(const struct store *store, enum store_counter counter) {
    return store->counters[counter];
}

const char *store_counter_name(enum store_counter counter) {
    static const char *const names[STORE_COUNTERS] = {
        [STORE_COUNT_APPENDS] = "appends",
        [STORE_COUNT_ENTRIES] = "entries",
        [STORE_COUNT_BYTES_WRITTEN] = "bytes_written",
        [STORE_COUNT_HARD_STATES] = "hard_states",
        [STORE_COUNT_SEGMENT_ROLLS] = "segment_rolls",
        [STORE_COUNT_SNAPSHOTS] = "snapshots",
        [STORE_COUNT_SNAPSHOTS_FAILED] = "snapshots_failed",
        [STORE_COUNT_WAL_FULL] = "wal_full",
        [STORE_COUNT_IO_ERRORS] = "io_errors",
        [STORE_COUNT_TORN_TAILS] = "torn_tails",
        [STORE_COUNT_DAMAGED] = "damaged",
    };
    return names[counter];
}
