// When the consensus stage next has something to do, so that a caller may leave it alone until
// then. Follows the round in stage_consensus.c: each part of it that can go on by itself, or by
// time, says so here. Early is harmless, late is not: the simulator polls stages that say they are
// not due and wants to see that nothing happens (sim --check-wake).
#include "stage_consensus.h"

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static bool persist_due(const struct stage_consensus *stage) {
    uint64_t first, epoch;
    bool hard = raft_hard_state(stage->raft).sequence > stage->hard_state_sent;
    if (hard && stage->hard_state != NULL) return true;
    return stage->free_append_count > 0 && !stage_transfer_closing(stage) &&
           raft_unpersisted(stage->raft, &first, &epoch) > 0;
}

static bool apply_due(const struct stage_consensus *stage) {
    uint64_t applied = machine_applied(stage->machine);
    if (!stage->restoring && raft_first(stage->raft) > applied + 1) return true; // to be restored
    if (stage->restoring) return !stage->restore_reading && stage->free_snapshot_count > 0;
    if (stage_apply_limit(stage) > applied) return true;
    return stage->read_first != stage->read_ready && applied >= stage->read_index;
}

static uint64_t upkeep_wakes(const struct stage_consensus *stage) {
    if (!raft_leader_ready(stage->raft) || stage->restoring) return UINT64_MAX;
    uint64_t due_ns = raft_when(stage->raft, machine_next_due(stage->machine));
    // A log that is full takes no tick; it gets room by an event.
    if (!raft_can_propose(stage->raft, 1, sizeof(struct wire_request))) return due_ns;
    return earlier(due_ns, raft_when(stage->raft, stage_tick_due(stage)));
}

static uint64_t snapshot_wakes(const struct stage_consensus *stage) {
    const struct stage_snapshot *s = &stage->snapshot;
    if (s->failed && s->state != SNAPSHOT_IDLE) return s->in_flight > 0 ? UINT64_MAX : 0;
    switch (s->state) {
    case SNAPSHOT_IDLE:
        if (!stage_snapshot_wanted(stage) ||
            machine_applied(stage->machine) > raft_durable(stage->raft))
            return UINT64_MAX;
        return s->retry_ns;
    case SNAPSHOT_WRITING:
        return s->filling != NULL || stage->free_snapshot_count > 0 ? 0 : UINT64_MAX;
    case SNAPSHOT_FINISHING:
        return UINT64_MAX;
    }
    return 0;
}

uint64_t stage_consensus_wake_ns(const struct stage_consensus *stage) {
    if (stage->failure != NULL) return UINT64_MAX;
    if (!rte_ring_empty(stage->from_port) || !rte_ring_empty(stage->from_wal) ||
        stage->event_count > 0 || persist_due(stage) || apply_due(stage))
        return 0;
    uint64_t wake = raft_wake_ns(stage->raft);
    wake = earlier(wake, upkeep_wakes(stage));
    wake = earlier(wake, snapshot_wakes(stage));
    return earlier(wake, stage_transfer_wake_ns(stage));
}
