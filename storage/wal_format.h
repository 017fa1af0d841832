// What lies on disk in a WAL segment.
//
// A segment is a row of batches, each starting on a 4 KiB boundary and padded to one; a batch is
// what one write made durable:
//
//   +------------------+--------------------+--------------------+-----+------+
//   | wal_batch_header | wal_record + bytes | wal_record + bytes | ... | zero |
//   +------------------+--------------------+--------------------+-----+------+
//
// Batches are numbered through the whole life of the log, over all segments, and each carries the
// hash of the one before it. So a stale batch from a segment's earlier use, a misdirected write or
// a missing one is seen, whatever its checksums say. `life` counts the starts of the node: batches
// cut off by a recovery cannot come back, since what is written in their place has another hash.
//
// A batch with WAL_RESET has no records: a snapshot was installed, and everything before it is
// void.
#ifndef CONCLAVE_WAL_FORMAT_H
#define CONCLAVE_WAL_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define WAL_MAGIC   0x4c415743u // "CWAL" as it lies in memory
#define WAL_VERSION 1
#define WAL_RESET   1u

struct wal_batch_header {
    uint32_t magic;
    uint16_t version;
    uint16_t node;
    uint64_t cluster;
    uint32_t group;
    uint32_t flags;
    uint64_t life;
    uint64_t sequence;      // of this batch
    uint64_t durable;       // newest batch known durable when this one was written
    uint64_t previous_hash; // of batch sequence - 1
    uint64_t first_index;   // of the first record; WAL_RESET: the snapshot's last index
    uint64_t term;          // WAL_RESET: of that index
    uint64_t time_ns;       // WAL_RESET: of that index
    uint32_t entries;
    uint32_t bytes;      // of the records, without this header and the padding
    uint32_t body_crc;   // CRC32C of the records
    uint32_t header_crc; // CRC32C of this header with this field zero
};
static_assert(sizeof(struct wal_batch_header) == 96, "batch header is 96 bytes");
static_assert(offsetof(struct wal_batch_header, life) == 24, "no padding");
static_assert(offsetof(struct wal_batch_header, entries) == 80, "no padding");

struct wal_record { // its bytes follow, padded to 8; its index is first_index + its place
    uint64_t term;
    uint64_t time_ns;
    uint16_t length;
    uint8_t type;
    uint8_t reserved8;
    uint32_t reserved;
};
static_assert(sizeof(struct wal_record) == 24, "record is 24 bytes");

#define HARD_STATE_MAGIC      0x44524843u // "CHRD"
#define HARD_STATE_RECOVERING 1u          // acknowledged entries may be missing: no vote yet
#define HARD_STATE_MEMORY     2u // this life's entries are acknowledged without being written
struct hard_state_block {        // two copies, each in its own 4 KiB block
    uint32_t magic;
    uint16_t version;
    uint16_t node;
    uint64_t cluster;
    uint32_t group;
    uint32_t crc; // CRC32C of this struct with this field zero
    uint64_t sequence;
    uint64_t term;
    uint16_t vote;
    uint16_t flags;
    uint32_t reserved;
};
static_assert(sizeof(struct hard_state_block) == 48, "hard state is 48 bytes");

#define SNAPSHOT_MAGIC 0x504e5343u // "CSNP"
// A snapshot file: this block, written last; then the content in 64 KiB chunks; then, on a 4 KiB
// boundary, one CRC32C per chunk.
struct snapshot_header {
    uint32_t magic;
    uint16_t version;
    uint16_t node;
    uint64_t cluster;
    uint32_t group;
    uint32_t crc; // CRC32C of this struct with this field zero
    uint64_t sequence;
    uint64_t index;
    uint64_t term;
    uint64_t time_ns;
    uint64_t bytes;
    uint32_t chunks;
    uint32_t table_crc;
};
static_assert(sizeof(struct snapshot_header) == 72, "snapshot header is 72 bytes");

#endif
