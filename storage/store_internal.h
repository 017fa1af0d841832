// What the files of the store share: store.c (life, requests), wal.c (appending), recovery.c
// (reading the log back), hard_state.c, snapshot_file.c.
#ifndef CONCLAVE_STORE_INTERNAL_H
#define CONCLAVE_STORE_INTERNAL_H

#include "disk.h"
#include "store.h"
#include "wal_format.h"

#define STORE_SEGMENTS_MAX 32u
// Writes of the log in flight at most. Each beyond the first helps only a disk that overlaps
// flushes.
#define STORE_IN_FLIGHT 8u
// Bounds the table of checksums kept in memory: 4 GiB of state.
#define STORE_CHUNKS_MAX 65536u
// Recovery reads ahead this much: 64 MiB read block by block took 0.8 s, so it takes 0.1 s.
#define STORE_WINDOW_BYTES (1024u * 1024u)
static_assert(STORE_WINDOW_BYTES >= STORE_BATCH_BYTES, "a batch fits the window");
static_assert(STORE_SEGMENTS_MAX <= 32, "sets of segments are 32-bit masks");
#define STORE_FILE_HARD 36u
#define STORE_FILE_SNAP 37u // and 38
static_assert(STORE_FILE_SNAP + 2 <= DISK_FILES_MAX, "file numbers");
static_assert(STORE_SEGMENTS_MAX <= STORE_FILE_HARD, "file numbers");
#define STORE_DONE_MAX 64u

// What a disk completion is about: kind in the high byte of the cookie, a number below.
enum { COOKIE_APPEND = 1, COOKIE_HARD, COOKIE_SNAPSHOT, COOKIE_READ };
#define COOKIE(kind, number) ((uint64_t)(kind) << 56 | (number))

struct wal_segment {
    uint64_t first_sequence; // of its first batch, 0: unused
    uint64_t max_index;      // highest entry in it; recyclable when a snapshot covers it
};

struct wal_flight {                // one write of the log on its way
    struct store_request *request; // NULL: the store's own RESET
    uint64_t sequence;
    uint32_t expected;
    bool landed;
    int32_t result;
};

struct wal {
    uint32_t current; // segment
    uint64_t offset;  // in it, where the next batch goes
    uint64_t life;
    uint64_t sequence; // of the next batch
    uint64_t durable;  // newest batch reported
    uint64_t last_hash;
    uint32_t start;       // segment the chain begins in, as recovered
    uint64_t replay_from; // sequence of the first batch to replay (after the last RESET)
    uint64_t replay_to;   // last
    struct wal_segment segments[STORE_SEGMENTS_MAX];
    struct wal_flight flights[STORE_IN_FLIGHT];
    uint64_t flight_first, flight_last; // ring, endless
};

enum snapshot_step { STEP_IDLE, STEP_DATA, STEP_TABLE, STEP_HEADER, STEP_RESET };

struct snapshot_file {
    uint32_t newest;               // 0 or 1: which file; 2: none
    struct snapshot_header header; // of the newest
    uint32_t *table;               // of the newest, for reading
    // Being written, into the other file.
    enum snapshot_step step;
    struct store_request *request;
    bool moving; // a step of it is on its way
    struct snapshot_header next;
    uint64_t written;
    uint32_t *next_table;
    uint8_t *block;             // STORE_BLOCK
    struct store_request *read; // one at a time
    uint32_t read_bytes;
};

struct store {
    struct store_options options;
    struct disk *disk;
    enum store_state state;
    struct wal wal;
    struct snapshot_file snapshot;
    uint64_t hard_sequence;
    uint8_t *hard_block; // STORE_BLOCK
    struct store_request *hard_request;
    uint32_t hard_copies; // of the request, that are durable
    bool hard_moving;     // one is on its way
    bool hard_blank;      // at start: never written
    uint16_t hard_flags;  // at start: as found
    uint8_t *reset_block; // STORE_BLOCK
    uint8_t *scan;        // STORE_BATCH_BYTES, for recovery
    struct {              // what recovery has read ahead
        uint8_t *bytes;   // STORE_WINDOW_BYTES
        uint32_t segment;
        uint64_t offset;
        uint64_t length; // 0: nothing
    } window;
    struct store_request *done[STORE_DONE_MAX]; // ring
    uint32_t done_first, done_last;
    uint64_t landed; // disk operations that came back
    uint64_t counters[STORE_COUNTERS];
};

#define STORE_COUNT(store, name, n) ((store)->counters[STORE_COUNT_##name] += (n))

uint32_t store_crc(const void *bytes, uint32_t length);
void store_finish(struct store *store, struct store_request *request, int32_t status);
void store_failed(struct store *store);

// wal.c
void wal_init(struct store *store);
bool wal_append(struct store *store, struct store_request *request);
bool wal_append_reset(struct store *store, const struct snapshot_header *snapshot);
void wal_landed(struct store *store, uint64_t flight, int32_t result);
bool wal_segment_free(const struct store *store, uint32_t segment);

// recovery.c
int wal_recover(struct store *store, struct store_recovered *recovered, char *error);
int wal_replay(struct store *store, store_entry_fn fn, void *context);

// hard_state.c
int hard_state_open(struct store *store, struct store_recovered *recovered, char *error);
// Blocking, at start, once the rest has been read: what was found is made safe to go on from.
int hard_state_settle(struct store *store, const struct store_recovered *recovered, char *error);
bool hard_state_write(struct store *store, struct store_request *request);
void hard_state_move(struct store *store); // the second copy, if it is due
void hard_state_landed(struct store *store, int32_t result);

// snapshot_file.c
int snapshot_open(struct store *store, struct store_recovered *recovered, char *error);
bool snapshot_write(struct store *store, struct store_request *request);
bool snapshot_read(struct store *store, struct store_request *request);
void snapshot_landed(struct store *store, int32_t result, int32_t expected);
void snapshot_reset_landed(struct store *store, int32_t status);
void snapshot_read_landed(struct store *store, int32_t result);
bool snapshot_move(struct store *store); // submits the next step; true if it did

#endif
