// The store: everything a node keeps on disk, behind one asynchronous interface.
//
//   wal-NN.seg      a ring of fixed-size segments, written in full once, then recycled for ever
//   hard-state      term and vote in two checksummed copies, 4 KiB each
//   snapshot-a, -b  the newest durable snapshot and the one being written
//   lock            held (flock) while a node runs, so that two cannot share a directory
//
// Threading: one thread owns the store after store_open(). Requests belong to the caller, are lent
// by store_submit() and come back through store_poll(), with `status` set; appends come back in the
// order they were submitted. Nothing blocks but store_open(), store_replay() and
// store_snapshot_load(), which run at start.
//
// Failure: a failed or short durable write is never retried and trusted ("Can Applications Recover
// from fsync Failures?", ATC'20): the store goes to STORE_FAILED, every later request fails, and
// the node must stop and rejoin. Only snapshot writes may meet ENOSPC, since all else is allocated
// in full at first start; that snapshot is abandoned, the store goes on.
//
// Recovery: a torn tail (nothing valid after it) was never acknowledged and is cut. Damage with
// valid records behind it, or a next record that the device cannot read, may have been
// acknowledged: the log is cut there, `damaged` is set, and the node must not vote until a leader
// has brought it up to date (FAST'18, Protocol-Aware Recovery).
#ifndef CONCLAVE_STORE_H
#define CONCLAVE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/raft.h"

#define STORE_BLOCK       4096u          // every write starts and ends on this boundary
#define STORE_BATCH_BYTES (256u * 1024u) // one append is at most this much in one write
// Of the log's last segment, for `urgent` appends only: 64 of one block each.
#define STORE_RESERVE_BYTES  (256u * 1024u)
#define STORE_SNAPSHOT_BYTES (64u * 1024u) // one snapshot read or write is at most this much
#define STORE_ERROR_BYTES    256u

struct disk; // disk.h: io_uring, or a simulated one

struct store_options {
    struct disk *disk;
    uint64_t cluster;
    uint32_t group;
    uint16_t node;
    bool memory;            // durability = memory: appends complete at once and are not written
    uint32_t segment_bytes; // multiple of STORE_BLOCK, at least 4 * STORE_BATCH_BYTES
    uint32_t segment_count; // at least 3
};

struct store_recovered {
    bool existed; // this directory had been used before
    // Acknowledged entries may be missing: see above. Remembered over restarts, until a hard state
    // with `recovering` false has been written.
    bool damaged;
    uint64_t term;
    uint16_t vote;
    uint64_t snapshot_index; // 0: none
    uint64_t snapshot_term;
    uint64_t snapshot_time_ns;
    uint64_t snapshot_bytes;
    uint64_t entries;    // readable in the WAL, before truncations
    uint64_t torn_bytes; // cut from the tail
};

enum store_state { STORE_RUNNING = 0, STORE_FAILED };

enum store_request_type {
    STORE_APPEND = 1,
    STORE_HARD_STATE,
    STORE_SNAPSHOT_WRITE, // in order from offset 0; `final` makes it the newest once durable
    STORE_SNAPSHOT_READ,  // of the newest durable snapshot
};

struct store_request {
    enum store_request_type type;
    int32_t status; // when back: 0 or -errno (-ENOSPC and -EIO above all)
    uint8_t
        *data; // APPEND: STORE_BATCH_BYTES, snapshots: STORE_SNAPSHOT_BYTES; STORE_BLOCK-aligned
    uint32_t bytes; // of data in use
    union {
        struct {
            uint32_t entries;
            uint64_t last_index;
            uint64_t last_term;
            uint64_t epoch; // raft_unpersisted()'s, carried through
            // No snapshot can free the log before this is written: after a restart only an entry of
            // the new term commits the old ones.
            bool urgent;
        } append;
        struct raft_hard_state hard_state;
        struct {
            uint64_t index; // the snapshot's last included entry
            uint64_t term;
            uint64_t time_ns;
            uint64_t offset;
            bool final;
            bool install;  // received from a leader: the WAL starts afresh after `index`
            uint16_t peer; // carried through
        } snapshot;
    };
    uint64_t submitted_ns; // set by the store's owner for its latency counters
};

struct store; // opaque

size_t store_bytes(const struct store_options *options);
// Opens or creates everything, showing progress on stderr where that takes long. 0, or -errno with
// a sentence in error: what happened and what to do.
int store_open(void *memory, const struct store_options *options, struct store **store,
               struct store_recovered *recovered, char error[STORE_ERROR_BYTES]);
void store_close(struct store *store);

// Start-up, blocking. Entries in WAL order, as raft_restore_entry() wants them (an index already
// given replaces it and all after). fn returns false to stop. 0 or -errno.
typedef bool (*store_entry_fn)(void *context, uint64_t index, const struct raft_entry *entry);
int store_replay(struct store *store, store_entry_fn fn, void *context);
// Reads the newest snapshot's content at offset; returns bytes read, 0 at the end, or -errno
// (-EBADMSG: checksum).
int32_t store_snapshot_load(struct store *store, uint64_t offset, void *buffer, uint32_t capacity);

// Building an append, on the caller's thread: no disk is touched. False: the batch is full.
void store_batch_reset(struct store_request *request);
bool store_batch_add(struct store_request *request, uint64_t index, const struct raft_entry *entry);

// Registers request buffers (io_uring fixed buffers) once, before the first submit.
int store_register_buffers(struct store *store, struct store_request **requests, uint32_t count);

// False: no room now (WAL ring full until a snapshot frees a segment, or queue full); keep the
// request and try again.
bool store_submit(struct store *store, struct store_request *request);
// Moves work forward; returns finished requests, at most max.
uint32_t store_poll(struct store *store, struct store_request **done, uint32_t max);
// Would store_poll() get further now, though no disk operation comes back?
bool store_busy(const struct store *store);
uint64_t store_landed(const struct store *store); // disk operations that have come back
enum store_state store_state(const struct store *store);
bool store_wal_full(const struct store *store);
// Bytes of the WAL ring in use, 0 to 100 per cent: a snapshot is due when this grows.
uint32_t store_wal_used_percent(const struct store *store);

enum store_counter {
    STORE_COUNT_APPENDS,
    STORE_COUNT_ENTRIES,
    STORE_COUNT_BYTES_WRITTEN,
    STORE_COUNT_HARD_STATES,
    STORE_COUNT_SEGMENT_ROLLS,
    STORE_COUNT_SNAPSHOTS,
    STORE_COUNT_SNAPSHOTS_FAILED,
    STORE_COUNT_WAL_FULL,
    STORE_COUNT_IO_ERRORS,
    STORE_COUNT_TORN_TAILS,
    STORE_COUNT_DAMAGED,
    STORE_COUNTERS
};
uint64_t store_counter(const struct store *store, enum store_counter counter);
const char *store_counter_name(enum store_counter counter);

#endif
