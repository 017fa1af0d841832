// The wal stage: hands requests of the consensus stage to the store and brings them back finished.
// A request the store has no room for waits here, and those of its kind behind it, so that their
// order is kept. Kinds do not wait for each other: a full log is freed by a snapshot, which must
// not queue behind the append that waits for that.
#ifndef CONCLAVE_STAGE_WAL_H
#define CONCLAVE_STAGE_WAL_H

#include "rings.h"
#include "store.h"

// Appends in flight: one being written, one being filled meanwhile. More would split batches.
#define STAGE_APPENDS      2u
#define STAGE_HARD_STATES  1u // the newest waits for the one before it
#define STAGE_SNAPSHOTS    4u // two to write while two are filled or read
#define STAGE_WAL_REQUESTS (STAGE_APPENDS + STAGE_HARD_STATES + STAGE_SNAPSHOTS)

// Behind the store's own: held_full, append_us_sum, append_us_max, hard_state_us_max.
#define STAGE_WAL_COUNT_EXTRA 4u

enum stage_lane { LANE_LOG, LANE_HARD_STATE, LANE_SNAPSHOT_WRITE, LANE_SNAPSHOT_READ, STAGE_LANES };

struct stage_wal {
    struct store *store;
    struct rte_ring *from_consensus;
    struct rte_ring *to_consensus;
    struct { // a ring, endless
        struct store_request *waiting[STAGE_WAL_REQUESTS];
        uint32_t first, last;
    } lanes[STAGE_LANES];
    // The last write of a received snapshot is under way: the log restarts behind it. Log writes
    // that wait here belong to the log before; none may land after the restart.
    struct store_request *installing;
    uint64_t refused_at; // store_landed() when the store last had no room; UINT64_MAX: try again
    _Atomic uint32_t used_percent; // of the WAL ring, for the consensus stage
    _Atomic uint32_t failed;
    // Copies of the store's counters, so that another thread may read them.
    _Atomic uint64_t counters[STORE_COUNTERS + STAGE_WAL_COUNT_EXTRA];
};

// Before the first poll: what the store found on disk is told, above all that its log is full.
void stage_wal_begin(struct stage_wal *stage);
uint32_t stage_wal_poll(struct stage_wal *stage, uint64_t now_ns);
// Would a poll do something now, though no disk operation comes back?
bool stage_wal_due(const struct stage_wal *stage);
const char *stage_wal_counter_name(uint32_t counter);

#endif
