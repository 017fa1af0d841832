// See stage_wal.h.
#include "stage_wal.h"

#include <errno.h>
#include <stdatomic.h>

#include "counters.h"

enum { HELD_FULL = STORE_COUNTERS, APPEND_US_SUM, APPEND_US_MAX, HARD_STATE_US_MAX };

static enum stage_lane lane_of(const struct store_request *request) {
    switch (request->type) {
    case STORE_APPEND:
        return LANE_LOG;
    case STORE_HARD_STATE:
        return LANE_HARD_STATE;
    case STORE_SNAPSHOT_WRITE:
        return LANE_SNAPSHOT_WRITE;
    default:
        return LANE_SNAPSHOT_READ;
    }
}

static void sort(struct stage_wal *stage, uint64_t now_ns) {
    void *arrived[STAGE_WAL_REQUESTS];
    uint32_t count = ring_take(stage->from_consensus, arrived, STAGE_WAL_REQUESTS);
    for (uint32_t i = 0; i < count; i++) {
        struct store_request *request = arrived[i];
        request->submitted_ns = now_ns;
        enum stage_lane lane = lane_of(request);
        uint32_t at = stage->lanes[lane].last++ % STAGE_WAL_REQUESTS;
        stage->lanes[lane].waiting[at] = request;
    }
}

static struct store_request *first_of(const struct stage_wal *stage, enum stage_lane lane) {
    const uint32_t first = stage->lanes[lane].first;
    if (first == stage->lanes[lane].last) return NULL;
    return stage->lanes[lane].waiting[first % STAGE_WAL_REQUESTS];
}

static uint32_t submit(struct stage_wal *stage, uint64_t now_ns) {
    uint32_t submitted = 0;
    struct store_request *request;
    sort(stage, now_ns);
    for (uint32_t i = 0; i < STAGE_LANES; i++) {
        while ((request = first_of(stage, i)) != NULL) {
            if (i == LANE_LOG && stage->installing != NULL) break;
            if (!store_submit(stage->store, request)) {
                COUNTER_ADD(stage->counters[HELD_FULL], 1);
                stage->refused_at = store_landed(stage->store);
                break;
            }
            bool restarts = i == LANE_SNAPSHOT_WRITE && request->snapshot.install;
            if (restarts && request->snapshot.final) stage->installing = request;
            stage->lanes[i].first++;
            submitted++;
        }
    }
    return submitted;
}

// The snapshot is installed, or it failed and the log goes on as it was. Void log writes go back
// behind the request that voided them, so that consensus hears of that first.
static uint32_t end_install(struct stage_wal *stage, int32_t status, struct store_request **done) {
    struct store_request *request;
    uint32_t count = 0;
    stage->installing = NULL;
    while (status == 0 && (request = first_of(stage, LANE_LOG)) != NULL) {
        request->status = -ECANCELED;
        done[count++] = request;
        stage->lanes[LANE_LOG].first++;
    }
    return count;
}

static void keep_max(_Atomic uint64_t *max, uint64_t us) {
    if (us > atomic_load_explicit(max, memory_order_relaxed))
        atomic_store_explicit(max, us, memory_order_relaxed);
}

// How long the disk took. A slow write of term and vote is what makes a slow election.
static void time_write(struct stage_wal *stage, uint64_t now_ns, const struct store_request *r) {
    uint64_t us = (now_ns - r->submitted_ns) / 1000;
    if (r->type == STORE_HARD_STATE) keep_max(&stage->counters[HARD_STATE_US_MAX], us);
    if (r->type != STORE_APPEND) return;
    COUNTER_ADD(stage->counters[APPEND_US_SUM], us);
    keep_max(&stage->counters[APPEND_US_MAX], us);
}

static void publish(struct stage_wal *stage) {
    for (uint32_t i = 0; i < STORE_COUNTERS; i++)
        atomic_store_explicit(&stage->counters[i],
                              store_counter(stage->store, (enum store_counter)i),
                              memory_order_relaxed);
    atomic_store_explicit(&stage->used_percent, store_wal_used_percent(stage->store),
                          memory_order_relaxed);
    atomic_store_explicit(&stage->failed, store_state(stage->store) == STORE_FAILED,
                          memory_order_relaxed);
}

void stage_wal_begin(struct stage_wal *stage) {
    stage->refused_at = UINT64_MAX;
    publish(stage);
}

uint32_t stage_wal_poll(struct stage_wal *stage, uint64_t now_ns) {
    struct store_request *done[STAGE_WAL_REQUESTS];
    uint32_t work = submit(stage, now_ns);
    uint32_t count = store_poll(stage->store, done, STAGE_WAL_REQUESTS);
    if (count > 0) stage->refused_at = UINT64_MAX;
    for (uint32_t i = 0; i < count; i++) time_write(stage, now_ns, done[i]);
    for (uint32_t i = 0, polled = count; i < polled; i++)
        if (done[i] == stage->installing)
            count += end_install(stage, done[i]->status, done + count);
    if (work + count == 0) return 0;
    // Published before the completions, so that who sees one sees what it did to the counters.
    publish(stage);
    if (count > 0) ring_put(stage->to_consensus, (void *const *)done, count);
    return work + count;
}

// What the store once refused it refuses until something else has come back from the disk.
bool stage_wal_due(const struct stage_wal *stage) {
    if (!rte_ring_empty(stage->from_consensus) || store_busy(stage->store)) return true;
    for (uint32_t i = 0; i < STAGE_LANES; i++) {
        if (first_of(stage, i) == NULL || (i == LANE_LOG && stage->installing != NULL)) continue;
        if (stage->refused_at != store_landed(stage->store)) return true;
    }
    return false;
}

const char *stage_wal_counter_name(uint32_t counter) {
    switch (counter) {
    case HELD_FULL:
        return "held_full";
    case APPEND_US_SUM:
        return "append_us_sum";
    case APPEND_US_MAX:
        return "append_us_max";
    case HARD_STATE_US_MAX:
        return "hard_state_us_max";
    default:
        return store_counter_name((enum store_counter)counter);
    }
}
