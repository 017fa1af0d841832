// See stage_consensus.h: the round itself, and what its parts share.
#include "stage_consensus.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

void stage_count(struct stage_consensus *stage, enum stage_counter counter, uint64_t n) {
    if (n > 0) COUNTER_ADD(stage->counters[counter], n);
}

void stage_fail(struct stage_consensus *stage, const char *format, ...) {
    if (stage->failure != NULL) return; // the first reason is the one that matters
    va_list list;
    va_start(list, format);
    vsnprintf(stage->failure_text, sizeof stage->failure_text, format, list);
    va_end(list);
    __atomic_store_n(&stage->failure, stage->failure_text, __ATOMIC_RELEASE);
}

struct raft_event *stage_event(struct stage_consensus *stage, enum raft_event_type type) {
    assert(stage->event_count < RAFT_EVENTS_MAX);
    struct raft_event *event = &stage->events[stage->event_count++];
    memset(event, 0, sizeof *event);
    event->type = type;
    return event;
}

uint64_t stage_endpoint_of(const struct stage_consensus *stage, uint16_t node) {
    for (uint32_t i = 0; i < stage->options.node_count; i++)
        if (stage->options.nodes[i].id == node) return stage->options.nodes[i].endpoint;
    return 0;
}

void stage_status(const struct stage_consensus *stage, struct wire_status *status) {
    const struct raft *raft = stage->raft;
    struct machine_sizes sizes = machine_sizes(stage->machine);
    *status = (struct wire_status){
        .cluster = stage->options.cluster,
        .node = stage->options.id,
        .leader = raft_leader(raft),
        .role = (uint8_t)raft_role(raft),
        .nodes = stage->options.node_count,
        .leader_endpoint = stage_endpoint_of(stage, raft_leader(raft)),
        .term = raft_term(raft),
        .commit = raft_commit(raft),
        .applied = machine_applied(stage->machine),
        .durable = raft_durable(raft),
        .first = raft_first(raft),
        .snapshot = stage->snapshot.newest_index,
        .uptime_ms = (stage->now_ns - stage->started_ns) / 1000000,
        .sessions = sizes.sessions,
        .leases = sizes.leases,
        .locks = sizes.locks,
        .claims = sizes.claims,
        .state_hash = machine_hash(stage->machine),
    };
    if (stage->options.memory) status->flags |= WIRE_STATUS_MEMORY;
    if (raft_recovering(raft)) status->flags |= WIRE_STATUS_RECOVERING;
}

static uint32_t step(struct stage_consensus *stage) {
    raft_step(stage->raft, stage->now_ns, stage->events, stage->event_count, &stage->effects);
    uint32_t work = stage->event_count + stage->effects.message_count;
    stage->event_count = 0; // from here on: events for the next round
    stage->entry_count = 0;
    return work;
}

uint32_t stage_consensus_poll(struct stage_consensus *stage, uint64_t now_ns) {
    if (stage->failure != NULL) return 0;
    stage->now_ns = now_ns;
    packet_reclaim(&stage->tx, stage->from_port_empty);

    uint32_t work = stage_collect_completions(stage);
    stage_upkeep(stage);
    work += stage_receive(stage);
    work += step(stage);
    stage_settle_proposals(stage);
    stage->proposal_count = 0;
    stage_send_raft(stage); // before the own write begins (thesis 10.2.1)
    stage_flush(stage);
    work += stage_persist(stage);
    stage_transfer_messages(stage);

    // A snapshot was installed and the log restarted behind it: so must the machine.
    if (!stage->restoring && raft_first(stage->raft) > machine_applied(stage->machine) + 1)
        stage_restore_begin(stage);
    work += stage_apply(stage);
    stage_release_reads(stage);
    work += stage_answer_reads(stage);
    work += stage_snapshot_step(stage);
    work += stage_transfer_step(stage);
    stage_flush(stage);
    stage_return_packets(stage);
    return work;
}

const char *stage_counter_name(uint32_t counter) {
    static const char *const names[STAGE_COUNTERS] = {
        [STAGE_COUNT_REQUESTS] = "requests",
        [STAGE_COUNT_REPLIES] = "replies",
        [STAGE_COUNT_EVENTS_SENT] = "events_sent",
        [STAGE_COUNT_BUSY_LOG] = "busy_log",
        [STAGE_COUNT_BUSY_READS] = "busy_reads",
        [STAGE_COUNT_NOT_LEADER] = "not_leader",
        [STAGE_COUNT_BAD_REQUEST] = "bad_request",
        [STAGE_COUNT_DROP_SOURCE] = "drop_source",
        [STAGE_COUNT_DROP_TYPE] = "drop_type",
        [STAGE_COUNT_DROP_TX_FULL] = "drop_tx_full",
        [STAGE_COUNT_READS] = "reads",
        [STAGE_COUNT_READS_ABORTED] = "reads_aborted",
        [STAGE_COUNT_DUPLICATES] = "duplicates",
        [STAGE_COUNT_APPLIED] = "applied",
        [STAGE_COUNT_EXPIRIES] = "expiries_proposed",
        [STAGE_COUNT_TICKS] = "ticks_proposed",
        [STAGE_COUNT_SNAPSHOTS] = "snapshots",
        [STAGE_COUNT_SNAPSHOTS_FAILED] = "snapshots_failed",
        [STAGE_COUNT_SNAPSHOTS_SENT] = "snapshots_sent",
        [STAGE_COUNT_SNAPSHOTS_RECEIVED] = "snapshots_received",
        [STAGE_COUNT_CHUNKS_SENT] = "chunks_sent",
        [STAGE_COUNT_CHUNKS_RESENT] = "chunks_resent",
        [STAGE_COUNT_CHUNKS_REFUSED] = "chunks_refused",
    };
    return names[counter];
}
