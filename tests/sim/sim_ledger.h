// What a disk's owner may still know after damage: the simulator's book-keeping of which damage on
// a disk leaves a trace. See sim_ledger.c.
#ifndef CONCLAVE_SIM_LEDGER_H
#define CONCLAVE_SIM_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "store.h"
#include "wal_format.h"

#define LEDGER_SEGMENTS 3u
#define LEDGER_BLOCKS   256u // a segment of 1 MiB

struct ledger_batch { // its place in the log's history
    uint64_t life;
    uint64_t sequence;
};

struct sim_ledger {
    struct ledger_batch owner[LEDGER_SEGMENTS][LEDGER_BLOCKS]; // of what lies in each block
    // The newest batch that one beginning in this block proves to have been durable.
    struct ledger_batch proof[LEDGER_SEGMENTS][LEDGER_BLOCKS];
    struct ledger_batch damaged; // newest batch that is damaged
    uint64_t hard_copy[2];       // sequence of each copy as it lies there, 0: not readable
    uint64_t hard_written;       // of the write under way,
    uint32_t hard_copies;        // and how many copies of it were reported
    uint64_t hard_durable;       // both were
};

// This content lies at this place now. (Of a batch that was torn: only if it is whole all the
// same.)
void ledger_landed(struct sim_ledger *ledger, const char *file, uint64_t offset,
                   const void *content, uint32_t bytes);
// The store was told that this write is durable.
void ledger_reported(struct sim_ledger *ledger, const char *file, const void *content);
// It was told so, but the write is not there.
void ledger_missing(struct sim_ledger *ledger, const char *file, const void *content);
// What lay there is damaged.
void ledger_damaged(struct sim_ledger *ledger, const char *file, uint64_t offset, uint32_t bytes);
// What lay there cannot be read: that says itself that something is missing, but proves no longer.
void ledger_unreadable(struct sim_ledger *ledger, const char *file, uint64_t offset);
// Where the newest batch begins; proved: of those that a later one proves to have been durable.
bool ledger_newest(const struct sim_ledger *ledger, bool proved, uint32_t *segment,
                   uint64_t *offset);
// Something that was reported durable is gone and nothing on the disk says so.
bool ledger_blind(const struct sim_ledger *ledger);

#endif
