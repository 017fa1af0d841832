// Snapshots of the own state machine, taken a slice per round while entries go on being applied;
// and the way back, from a snapshot on disk into the machine.
#include <stdatomic.h>
#include <string.h>

#include "stage_consensus.h"

struct store_request *stage_take_snapshot_request(struct stage_consensus *stage) {
    if (stage->free_snapshot_count == 0) return NULL;
    struct store_request *request = stage->free_snapshot[--stage->free_snapshot_count];
    memset(&request->snapshot, 0, sizeof request->snapshot);
    request->bytes = 0;
    request->status = 0;
    return request;
}

void stage_give_snapshot_request(struct stage_consensus *stage, struct store_request *request) {
    if (request != NULL) stage->free_snapshot[stage->free_snapshot_count++] = request;
}

// How full the log is, per cent: on disk or in memory, whichever is worse.
static uint32_t used_percent(const struct stage_consensus *stage) {
    uint32_t wal = atomic_load_explicit(stage->wal_used_percent, memory_order_relaxed);
    uint32_t log = raft_log_used_percent(stage->raft);
    return wal > log ? wal : log;
}

bool stage_log_fills(const struct stage_consensus *stage) {
    return used_percent(stage) >= stage->options.snapshot_percent;
}

bool stage_snapshot_wanted(const struct stage_consensus *stage) {
    uint32_t used = used_percent(stage), limit = stage->options.snapshot_percent;
    // Who needs the one that cannot be read waits for another, however little has happened since.
    bool again = stage->snapshot.unreadable;
    if ((used < limit && !again) || stage->snapshot.state != SNAPSHOT_IDLE || stage->restoring ||
        stage->receiver.peer != 0 ||
        (machine_applied(stage->machine) <= stage->snapshot.newest_index && !again))
        return false;
    // Sending the one there is goes first, but only as long as the own log can wait.
    return again || stage->sender.peer == 0 || used >= limit + (100 - limit) / 2;
}

bool stage_snapshot_due(const struct stage_consensus *stage) {
    return stage->now_ns >= stage->snapshot.retry_ns && stage_snapshot_wanted(stage);
}

static void begin(struct stage_consensus *stage) {
    struct stage_snapshot *s = &stage->snapshot;
    s->state = SNAPSHOT_WRITING;
    s->index = machine_applied(stage->machine);
    s->term = raft_term_at(stage->raft, s->index);
    s->time_ns = machine_time(stage->machine);
    s->offset = 0;
    s->spill_bytes = 0;
    s->failed = false;
    machine_snapshot_begin(stage->machine);
}

static void push_filled(struct stage_consensus *stage, bool final) {
    struct stage_snapshot *s = &stage->snapshot;
    struct store_request *request = s->filling;
    s->filling = NULL;
    request->type = STORE_SNAPSHOT_WRITE;
    request->snapshot.index = s->index;
    request->snapshot.term = s->term;
    request->snapshot.time_ns = s->time_ns;
    request->snapshot.offset = s->offset;
    request->snapshot.final = final;
    s->offset += request->bytes;
    s->in_flight++;
    stage_push(stage, request);
}

// One slice from the machine, or from what was left over, into the request being filled. A full
// request goes off only when there is more, so that the last one can say that it is the last.
static void write_slice(struct stage_consensus *stage) {
    struct stage_snapshot *s = &stage->snapshot;
    if (s->filling == NULL) s->filling = stage_take_snapshot_request(stage);
    if (s->filling == NULL) return;
    if (s->spill_bytes == 0) {
        s->spill_from = 0;
        s->spill_bytes = machine_snapshot_read(stage->machine, s->spill, sizeof s->spill);
        if (s->spill_bytes == 0) {
            machine_snapshot_end(stage->machine);
            push_filled(stage, true);
            s->state = SNAPSHOT_FINISHING;
            return;
        }
    }
    uint32_t room = STORE_SNAPSHOT_BYTES - s->filling->bytes;
    if (room == 0) {
        push_filled(stage, false);
        return;
    }
    uint32_t take = s->spill_bytes < room ? s->spill_bytes : room;
    memcpy(s->filling->data + s->filling->bytes, s->spill + s->spill_from, take);
    s->filling->bytes += take;
    s->spill_from += take;
    s->spill_bytes -= take;
}

static void give_up(struct stage_consensus *stage) {
    struct stage_snapshot *s = &stage->snapshot;
    if (s->in_flight > 0) return; // wait for what the store still has
    if (machine_snapshot_active(stage->machine)) machine_snapshot_end(stage->machine);
    stage_give_snapshot_request(stage, s->filling);
    s->filling = NULL;
    s->state = SNAPSHOT_IDLE;
    s->retry_ns = stage->now_ns + STAGE_RETRY_SNAPSHOT_NS;
    stage_count(stage, STAGE_COUNT_SNAPSHOTS_FAILED, 1);
}

uint32_t stage_snapshot_step(struct stage_consensus *stage) {
    struct stage_snapshot *s = &stage->snapshot;
    stage_restore_go_on(stage);
    if (s->failed && s->state != SNAPSHOT_IDLE) {
        give_up(stage);
        return 0;
    }
    switch (s->state) {
    case SNAPSHOT_IDLE:
        // raft.h, duty 8: only of what is durable in the own log.
        if (!stage_snapshot_due(stage) ||
            machine_applied(stage->machine) > raft_durable(stage->raft))
            return 0;
        begin(stage);
        return 1;
    case SNAPSHOT_WRITING:
        write_slice(stage);
        return 1;
    case SNAPSHOT_FINISHING:
        return 0;
    }
    return 0;
}

// Entries kept in memory behind a snapshot, so that a follower a little late needs none.
static uint64_t trailing(const struct stage_consensus *stage) {
    uint64_t by_bytes = stage->options.log_bytes / RAFT_ENTRY_MAX / 8;
    uint64_t by_count = stage->options.log_entries / 8;
    return by_bytes < by_count ? by_bytes : by_count;
}

void stage_snapshot_written(struct stage_consensus *stage, struct store_request *request) {
    struct stage_snapshot *s = &stage->snapshot;
    s->in_flight--;
    if (request->status != 0) s->failed = true;
    if (request->snapshot.final && request->status == 0) {
        s->newest_index = s->index;
        s->newest_term = s->term;
        s->newest_time_ns = s->time_ns;
        s->newest_bytes = s->offset;
        s->unreadable = false;
        s->state = SNAPSHOT_IDLE;
        stage_count(stage, STAGE_COUNT_SNAPSHOTS, 1);
        stage_transfer_begin_anew(stage); // what was being sent is no longer the newest
        uint64_t keep = trailing(stage);
        if (s->index > keep) {
            struct raft_event *event = stage_event(stage, RAFT_EVENT_COMPACT);
            event->snapshot.index = s->index - keep;
        }
    }
    stage_give_snapshot_request(stage, request);
}

// ---------------------------------------------------------------- restoring

static void read_next(struct stage_consensus *stage) {
    struct store_request *request = stage_take_snapshot_request(stage);
    if (request == NULL) return; // next round
    request->type = STORE_SNAPSHOT_READ;
    request->snapshot.offset = stage->restore_offset;
    request->bytes = STORE_SNAPSHOT_BYTES;
    stage->restore_reading = true;
    stage_push(stage, request);
}

void stage_restore_begin(struct stage_consensus *stage) {
    stage->restoring = true;
    stage->restore_offset = 0;
    if (machine_snapshot_active(stage->machine)) machine_snapshot_end(stage->machine);
    machine_restore_begin(stage->machine);
    read_next(stage);
}

void stage_restore_go_on(struct stage_consensus *stage) {
    if (stage->restoring && !stage->restore_reading && stage->failure == NULL) read_next(stage);
}

void stage_restore_read(struct stage_consensus *stage, struct store_request *request) {
    stage->restore_reading = false;
    bool good = request->status == 0 &&
                machine_restore_write(stage->machine, request->data, request->bytes);
    stage->restore_offset += request->bytes;
    bool done = stage->restore_offset >= stage->snapshot.newest_bytes;
    if (good && done) good = machine_restore_end(stage->machine);
    if (good && done && machine_applied(stage->machine) != stage->snapshot.newest_index)
        good = false;
    if (!good)
        stage_fail(stage, "the snapshot received from the leader cannot be loaded; its state may "
                          "need larger [limits] than this node has");
    stage_give_snapshot_request(stage, request);
    if (!good) return;
    if (done)
        stage->restoring = false;
    else
        read_next(stage);
}
