// Every crash of a small scope: the real store over a disk in memory, driven through every order in
// which its writes can finish; and at each point a power cut that leaves every set of the sectors
// under way. What is then found on the disk is compared with what had been reported.
//
//   crash_scopes.c  the scopes: what lies on the disk before, and what is submitted
//   crash_run.c     walks all orders, and all sets of sectors at each point
//   crash_check.c   recovers, compares, goes on, and crashes once more
#ifndef CONCLAVE_TEST_CRASH_H
#define CONCLAVE_TEST_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk_memory.h"
#include "store_internal.h"

#define SEGMENT_BYTES (4u * STORE_BATCH_BYTES) // the least the store takes
#define LOG_MAX       4096u
#define STEPS_MAX     6u
#define OPEN_MAX      (STEPS_MAX + 2)

// With eight sectors unsynced every set of them is tried: 256, as the issue demands. Of more, eight
// at the edges of the writes (their first and last sectors, where headers and ends of records lie)
// in every set, each with all of the others and with none.
#define SECTORS_ALL 8u
// A crash in the writes after the recovery from a crash: one edge and the rest, so four sets each,
// or the product would take minutes; with --long three edges, sixteen sets.
#define SECTORS_AGAIN      1u
#define SECTORS_AGAIN_LONG 3u
// Up to three sectors under way, one may be torn in itself, behind its first bytes: in the middle
// of any header.
#define TORN_SECTORS 3u
#define TORN_BYTES   30u
#define SECTORS_MAX  2048u

struct log_entry {
    uint64_t term;
    uint64_t body; // all other bytes follow from it
    uint16_t length;
};

struct log_model { // what raft_restore_entry() would make of a replay
    uint64_t last;
    struct log_entry entries[LOG_MAX];
};

struct batch { // one write of the log: entries, or the RESET behind an installed snapshot
    bool reset;
    uint64_t first; // reset: the snapshot's index
    uint32_t count;
    struct log_entry entry;
};

struct vote {
    uint64_t term;
    uint16_t vote;
};

struct snapshot_model {
    uint64_t index, term;
    uint32_t bytes;
    uint8_t fill;
    bool install;
};

// What the store has said so far, and what it was asked and may or may not have done.
struct expected {
    struct log_model log; // reported
    struct batch open[OPEN_MAX];
    uint32_t open_count;
    struct vote vote, vote_open;
    bool voting;
    struct snapshot_model snapshot, snapshot_open;
    bool snapshotting; // its last chunk has been submitted
};

enum step_type { STEP_APPEND = 1, STEP_VOTE, STEP_SNAPSHOT };

struct step {
    enum step_type type;
    bool alone; // waits until all before it has been reported
    struct batch batch;
    struct vote vote;
    struct snapshot_model snapshot; // the whole content
    uint32_t offset;                // of this chunk
};

struct machine { // one node: a store in its memory, and the requests lent to it
    struct store *store;
    uint8_t *memory;
    struct store_request requests[STEPS_MAX];
};

struct scope {
    const char *name;
    void (*prepare)(void); // with crash_do(), from an empty directory
    bool behind;           // indices count from the end of the prepared log
    uint32_t step_count;
    struct step steps[STEPS_MAX];
};

struct tally {
    uint64_t points;     // of time, at which power went
    uint64_t images;     // disks found after that
    uint64_t recoveries; // store_open() on them, and after later crashes
    uint64_t cut_recoveries;
};

struct crash {
    struct disk *disk;
    struct store_options options;
    struct machine node;    // the one that crashes
    struct machine after;   // the one that starts after the crash
    struct expected expect; // of `node`
    const struct scope *scope;
    uint8_t path[64];
    uint32_t path_length;
    uint64_t kept;  // the set of sectors that survived
    uint32_t again; // SECTORS_AGAIN
    struct tally tally;
};
extern struct crash crash;

// Prints what the present case is and ends the program.
__attribute__((format(printf, 1, 2), noreturn)) void crash_broken(const char *format, ...);

// crash_check.c
void fill_entry(uint8_t *data, const struct log_entry *entry);
void fill_chunk(uint8_t *data, const struct snapshot_model *snapshot, uint32_t offset,
                uint32_t bytes);
void log_apply(struct log_model *log, const struct batch *batch);
// Starts a store on the disk as it is. False: refused, with a sentence.
bool crash_open(struct machine *machine, struct store_recovered *found, char *error);
// The disk holds what a crash left: all that follows from it.
void crash_check(const struct expected *expect);

// crash_run.c
bool crash_submit(struct machine *machine, struct expected *expect, uint32_t slot,
                  const struct step *step);
void crash_poll(struct machine *machine, struct expected *expect);
void crash_settle(struct machine *machine, struct expected *expect);
// Calls fn with every set of the sectors on the disk; all but `all` at the edges are kept or lost
// together.
void crash_each_set(struct disk_memory_sector *sectors, uint32_t count, uint32_t all,
                    void (*fn)(const void *), const void *argument);
void crash_do(const struct step *step); // while preparing: submitted and settled
void crash_scope(const struct scope *scope, uint32_t again);

#endif
