// Fuzz target: WAL recovery. The input is a program for a tiny disk: what its files hold when the
// node starts, written as operations so that mutations keep meaning.
//
// First a sound directory is made with the store itself (so that magic numbers, checksums and the
// hash chain are right), by the operations below; then bytes are damaged, blocks are moved, and
// raw bytes are laid over files. Then it is opened and replayed.
//
//   'a' n b     append n entries (1 to 8) of length b * 5
//   'c' n       the next n + 1 writes are on their way: some land, n's bits tell which; then a
//   crash 's'         snapshot of all that is durable     'i' snapshot installed beyond the log 'j'
//   n       one is being installed: n writes land; then a crash 't'         the term rises 'b' boot
//   again, in peace 'x' f o m   flip with mask m at o * 61 in file f        'z' f o   zero the
//   block 'm' f o p   copy the block at o to p (misdirected or stale write) 'r' f o ... the rest of
//   the input lies over file f from block o; its checksums are made right
//               if the first byte says so
//
// What must hold, whatever the bytes: nothing crashes, nothing reads out of bounds, and replay
// gives entries that were once appended here (their bodies tell), at indices without a gap, or says
// that the directory is not sound. Raw bytes with true checksums may invent entries: then only the
// first part is demanded.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk_memory.h"
#include "fuzz.h"
#include "store_internal.h"

#define SEGMENTS      3u
#define SEGMENT_BYTES (4u * STORE_BATCH_BYTES)
#define INDEX_MAX     4096u
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "broken: %s (line %d)\n", #condition, __LINE__);                       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static struct {
    struct disk *disk;
    void *memory;
    struct store *store;
    struct store_recovered found;
    struct store_request append, hard, snapshot;
    uint64_t last, durable, term, body;
    uint64_t written; // where the newest append ended: a cut only shows when it is written over
    uint64_t bodies[INDEX_MAX]; // what was last appended at an index
    bool damaged;               // bytes were changed by something other than a crash
    bool invented;
    // Replay.
    uint64_t first_seen, last_seen;
    uint64_t seen[INDEX_MAX];
} f;

static const struct store_options options = {
    .cluster = 7, .node = 1, .segment_bytes = SEGMENT_BYTES, .segment_count = SEGMENTS};

static bool take(void *context, uint64_t index, const struct raft_entry *entry) {
    (void)context;
    uint8_t sum = 0;
    for (uint32_t i = 0; i < entry->length; i++) sum ^= ((const uint8_t *)entry->data)[i];
    __asm__ volatile("" : : "r"(sum)); // every byte is read
    MUST(entry->length <= RAFT_ENTRY_MAX);
    if (f.invented) return true;
    uint64_t body = 0;
    MUST(index > 0 && index < INDEX_MAX && entry->length >= 8);
    memcpy(&body, entry->data, 8);
    MUST(body % INDEX_MAX == index && body / INDEX_MAX <= f.body); // it was appended here
    f.seen[index] = body;
    uint64_t covered = f.found.snapshot_index; // what is missing before may be in the snapshot
    MUST(f.last_seen == 0 || index <= (f.last_seen > covered ? f.last_seen : covered) + 1);
    MUST(entry->term >= 1 && entry->term <= f.term);
    if (f.first_seen == 0 || index < f.first_seen) f.first_seen = index;
    f.last_seen = index;
    return true;
}

// False: the directory is refused.
static bool boot(void) {
    struct store_options o = options;
    char error[STORE_ERROR_BYTES] = "";
    o.disk = f.disk;
    f.first_seen = f.last_seen = 0;
    disk_memory_crash(f.disk);
    memset(f.memory, 0, store_bytes(&o));
    if (store_open(f.memory, &o, &f.store, &f.found, error) != 0) {
        MUST(error[0] != 0);
        MUST(f.damaged); // a crash alone never ends in a refusal
        return false;
    }
    if (store_replay(f.store, take, NULL) != 0) {
        MUST(f.damaged);
        return false;
    }
    uint8_t *chunk = f.snapshot.data;
    for (uint64_t at = 0; at < f.found.snapshot_bytes; at += STORE_SNAPSHOT_BYTES)
        if (store_snapshot_load(f.store, at, chunk, STORE_SNAPSHOT_BYTES) <= 0) {
            MUST(f.damaged);
            return false;
        }
    uint64_t reached = f.last_seen > f.found.snapshot_index ? f.last_seen : f.found.snapshot_index;
    if (!f.invented) {
        MUST(f.first_seen <= f.found.snapshot_index + 1 || f.found.damaged);
        MUST(reached <= f.written);
        // The newest that was appended at an index, and nothing cut off before.
        for (uint64_t i = f.first_seen; i > 0 && i <= f.last_seen; i++)
            MUST(i <= f.found.snapshot_index || f.seen[i] == f.bodies[i]);
    }
    if (!f.damaged) {
        MUST(!f.found.damaged);
        MUST(reached >= f.durable); // what was acknowledged is here
    }
    f.last = f.durable = reached;
    if (f.found.term > f.term) f.term = f.found.term;
    return !f.invented && f.last + 64 < INDEX_MAX;
}

static void settle(void) {
    struct store_request *done[8];
    for (uint32_t quiet = 0; quiet < 3;) {
        uint32_t count = store_poll(f.store, done, 8);
        quiet = count + disk_memory_pending(f.disk) > 0 ? 0 : quiet + 1;
        disk_memory_land_all(f.disk);
    }
}

static void append(uint32_t count, uint32_t length) {
    static uint8_t data[RAFT_ENTRY_MAX];
    store_batch_reset(&f.append);
    f.body++;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t index = f.last + 1 + i, body = f.body * INDEX_MAX + index;
        f.bodies[index] = body;
        memcpy(data, &body, sizeof body);
        struct raft_entry entry = {.term = f.term,
                                   .data = data,
                                   .length = (uint16_t)(length < 8 ? 8 : length),
                                   .type = RAFT_ENTRY_COMMAND};
        MUST(store_batch_add(&f.append, index, &entry));
    }
    f.append.append.last_index = f.last + count;
    if (store_submit(f.store, &f.append)) f.written = f.last += count;
}

static void hard_state(void) {
    f.hard.hard_state = (struct raft_hard_state){.term = ++f.term, .vote = 2};
    MUST(store_submit(f.store, &f.hard));
    settle();
}

static void snapshot(bool install, uint32_t writes) {
    uint64_t index = install ? f.last + 7 : f.durable;
    if (index == 0) return;
    memset(&f.snapshot.snapshot, 0, sizeof f.snapshot.snapshot);
    f.snapshot.snapshot.index = index;
    f.snapshot.snapshot.term = f.term;
    f.snapshot.snapshot.final = true;
    f.snapshot.snapshot.install = install;
    f.snapshot.bytes = 5000;
    MUST(store_submit(f.store, &f.snapshot));
    if (install) f.written = f.last = index;
    if (writes == UINT32_MAX) {
        settle();
        if (install) f.durable = index;
        return;
    }
    struct store_request *done[8];
    for (uint32_t polls = 3 * writes; polls > 0 && writes > 0; polls--) {
        (void)store_poll(f.store, done, 8);
        if (disk_memory_pending(f.disk) == 0) continue;
        disk_memory_land(f.disk, 0);
        writes--;
    }
}

// Appends that do not all land. The store has at most 8 on their way.
static void crash(uint32_t which) {
    static struct store_request requests[4];
    struct store_request first = f.append;
    for (uint32_t i = 0; i < 4; i++) {
        requests[i].type = STORE_APPEND;
        if (requests[i].data == NULL) requests[i].data = aligned_alloc(4096, STORE_BATCH_BYTES);
    }
    uint32_t count = 1 + which % 4;
    for (uint32_t i = 0; i < count; i++) {
        f.append = requests[i];
        append(1 + (which >> 2) % 8, 1300);
        requests[i] = f.append;
    }
    f.append = first;
    uint32_t landed = 0;
    for (uint32_t i = 0; i < count && landed < disk_memory_pending(f.disk); i++)
        if (which & (8u << i))
            disk_memory_tear(f.disk, landed, (which & 1) * 512, 2048);
        else if (which & (1u << i))
            disk_memory_tear(f.disk, landed, 0, 4096);
        else
            landed++;
}

static uint8_t *block_of(uint8_t file, uint8_t block, uint64_t *size) {
    static const uint32_t files[] = {
        0, 1, 2, STORE_FILE_HARD, STORE_FILE_SNAP, STORE_FILE_SNAP + 1};
    uint32_t number = files[file % 6];
    *size = (uint64_t)f.disk->ops->size(f.disk, number);
    uint64_t blocks = *size / STORE_BLOCK;
    if (blocks == 0) return NULL;
    uint64_t at = block % blocks * STORE_BLOCK;
    *size -= at;
    return disk_memory_file(f.disk, number, 0) + at;
}

// Raw bytes, as whoever has access to the disk could write them.
static void lay_over(const uint8_t *data, size_t size) {
    uint64_t room;
    uint8_t *to = block_of(data[0], data[1], &room);
    uint8_t mend = data[2];
    data += 3;
    size -= 3;
    if (to == NULL) return;
    memcpy(to, data, size < room ? size : room);
    f.damaged = f.invented = true;
    if (mend % 4 == 1) {
        struct wal_batch_header *header = (struct wal_batch_header *)to;
        if (header->bytes <= room - sizeof *header && header->bytes < STORE_BATCH_BYTES)
            header->body_crc = store_crc(header + 1, header->bytes);
        header->header_crc = 0;
        header->header_crc = store_crc(header, sizeof *header);
    } else if (mend % 4 == 2) {
        struct snapshot_header *header = (struct snapshot_header *)to;
        header->crc = 0;
        header->crc = store_crc(header, sizeof *header);
    } else if (mend % 4 == 3) {
        struct hard_state_block *header = (struct hard_state_block *)to;
        header->crc = 0;
        header->crc = store_crc(header, sizeof *header);
    }
}

static bool operation(const uint8_t **data, const uint8_t *end) {
    const uint8_t *at = *data;
    size_t left = (size_t)(end - at);
    uint64_t size;
    uint8_t *block;
    *data = at + 1;
    switch (at[0]) {
    case 'a':
        if (left < 3) return false;
        append(1 + at[1] % 8, at[2] * 5u);
        settle();
        f.durable = f.last;
        *data = at + 3;
        return true;
    case 'c':
        if (left < 2) return false;
        crash(at[1]);
        *data = at + 2;
        return boot();
    case 's':
        snapshot(false, UINT32_MAX);
        return true;
    case 'i':
        snapshot(true, UINT32_MAX);
        return true;
    case 'j':
        if (left < 2) return false;
        snapshot(true, at[1] % 6);
        *data = at + 2;
        return boot();
    case 't':
        hard_state();
        return true;
    case 'b':
        return boot();
    case 'x':
    case 'z':
    case 'm':
        if (left < 4) return false;
        *data = at + 4;
        block = block_of(at[1], at[2], &size);
        f.damaged = true;
        if (block == NULL) return true;
        if (at[0] == 'x') block[at[2] * 61u % STORE_BLOCK] ^= at[3] ? at[3] : 1;
        if (at[0] == 'z') memset(block, 0, STORE_BLOCK);
        if (at[0] == 'm') {
            const uint8_t *from = block_of(at[1], at[3], &size);
            memmove(block, from, STORE_BLOCK);
        }
        return true;
    case 'r':
        if (left < 4) return false;
        lay_over(at + 1, left - 1);
        *data = end;
        return true;
    default:
        return true;
    }
}

static void prepare(void) {
    if (f.disk != NULL)
        disk_memory_erase(f.disk);
    else
        f.disk = disk_memory_create(); // kept: to take and clear megabytes for each input is slow
    if (f.memory == NULL) {
        f.memory = aligned_alloc(4096, (store_bytes(&options) + 4095) & ~4095ull);
        f.append.data = aligned_alloc(4096, STORE_BATCH_BYTES);
        f.snapshot.data = aligned_alloc(4096, STORE_SNAPSHOT_BYTES);
        MUST(f.memory != NULL && f.append.data != NULL && f.snapshot.data != NULL);
    }
    f.append.type = STORE_APPEND;
    f.hard.type = STORE_HARD_STATE;
    f.snapshot.type = STORE_SNAPSHOT_WRITE;
    f.last = f.written = f.durable = f.body = 0;
    f.term = 1;
    f.damaged = f.invented = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = data + size;
    prepare();
    bool up = boot();
    if (up) hard_state();
    while (up && data < end) up = operation(&data, end);
    if (up) (void)boot();
    return 0;
}
