// To the disk and back: hard state, the log's new part, and what became durable.
//
// Batching is natural: there are few append requests, so what gathers while they are in flight goes
// together with the next one that comes free, in one write. No timer, and no queue but the log.
#include <errno.h>

#include "stage_consensus.h"

void stage_push(struct stage_consensus *stage, struct store_request *request) {
    void *out = request;
    ring_put(stage->to_wal, &out, 1);
}

static void persist_hard_state(struct stage_consensus *stage) {
    struct raft_hard_state wanted = raft_hard_state(stage->raft);
    if (stage->hard_state == NULL || wanted.sequence <= stage->hard_state_sent) return;
    struct store_request *request = stage->hard_state;
    stage->hard_state = NULL;
    stage->hard_state_sent = wanted.sequence;
    request->hard_state = wanted;
    stage_push(stage, request);
}

uint32_t stage_persist(struct stage_consensus *stage) {
    persist_hard_state(stage);
    uint32_t pushed = 0;
    uint64_t first, epoch;
    // While the log restarts behind a received snapshot nothing may be written before or after it
    // that belongs to the other side.
    if (stage_transfer_closing(stage)) return 0;
    while (stage->free_append_count > 0 && raft_unpersisted(stage->raft, &first, &epoch) > 0) {
        struct store_request *request = stage->free_append[--stage->free_append_count];
        uint64_t last = raft_last(stage->raft), index = first;
        store_batch_reset(request);
        for (; index <= last; index++) {
            struct raft_entry entry = raft_entry_at(stage->raft, index);
            if (!store_batch_add(request, index, &entry)) break;
        }
        assert(index > first && "one entry always fits an empty batch");
        request->append.last_index = index - 1;
        request->append.last_term = raft_term_at(stage->raft, index - 1);
        request->append.epoch = epoch;
        request->append.urgent = machine_applied(stage->machine) <= stage->snapshot.newest_index;
        raft_persist_begun(stage->raft, index - 1);
        stage_push(stage, request);
        pushed++;
    }
    return pushed;
}

static void completed(struct stage_consensus *stage, struct store_request *request) {
    struct raft_event *event;
    switch (request->type) {
    case STORE_APPEND:
        if (request->status == 0) {
            event = stage_event(stage, RAFT_EVENT_DURABLE);
            event->durable.index = request->append.last_index;
            event->durable.term = request->append.last_term;
            event->durable.epoch = request->append.epoch;
        } else if (request->status != -ECANCELED) { // that is: void since a snapshot was installed
            stage_fail(stage,
                       "a log write failed (error %d); a failed write is never trusted: "
                       "check the disk, then start this node again",
                       -request->status);
        }
        stage->free_append[stage->free_append_count++] = request;
        return;
    case STORE_HARD_STATE:
        if (request->status == 0) {
            event = stage_event(stage, RAFT_EVENT_HARD_STATE_DURABLE);
            event->hard_state.sequence = request->hard_state.sequence;
        } else {
            stage_fail(stage,
                       "writing term and vote failed (error %d): check the disk, then "
                       "start this node again",
                       -request->status);
        }
        stage->hard_state = request;
        return;
    case STORE_SNAPSHOT_WRITE:
        if (request->snapshot.install)
            stage_transfer_written(stage, request);
        else
            stage_snapshot_written(stage, request);
        return;
    case STORE_SNAPSHOT_READ:
        if (request->snapshot.peer != 0)
            stage_transfer_read(stage, request);
        else
            stage_restore_read(stage, request);
        return;
    }
}

uint32_t stage_collect_completions(struct stage_consensus *stage) {
    void *done[STAGE_WAL_REQUESTS];
    uint32_t count = ring_take(stage->from_wal, done, STAGE_WAL_REQUESTS);
    for (uint32_t i = 0; i < count; i++) completed(stage, done[i]);
    return count;
}
