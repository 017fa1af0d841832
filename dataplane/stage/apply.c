// Committed entries into the state machine, and answers out of it: to who proposed, to who waits in
// a queue, and to reads whose moment has come.
#include <string.h>

#include "stage_consensus.h"

void stage_remember_waiter(struct stage_consensus *stage, const struct machine_reply *reply,
                           uint64_t endpoint) {
    if (reply->claim_slot == UINT32_MAX) return;
    stage->waiters[reply->claim_slot] =
        (struct stage_waiter){.claim = reply->token, .endpoint = endpoint};
}

void stage_on_notice(void *context, const struct machine_notice *notice) {
    struct stage_consensus *stage = context;
    struct stage_waiter *waiter = &stage->waiters[notice->claim_slot];
    if (waiter->claim != notice->claim) return; // asked another leader, and will ask again
    // Only the leader tells: what it applies is what the cluster decided, and followers lag.
    if (raft_role(stage->raft) == WIRE_ROLE_LEADER) {
        struct wire_event *event =
            stage_message(stage, waiter->endpoint, WIRE_EVENT, 0, sizeof *event);
        if (event != NULL) {
            stage_count(stage, STAGE_COUNT_EVENTS_SENT, 1);
            event->session = notice->session;
            event->claim = notice->claim;
            event->lease = notice->lease;
            event->token = notice->token;
            event->status = notice->status;
            event->index = machine_applied(stage->machine);
        }
    }
    waiter->claim = 0;
}

static void send_reply(struct stage_consensus *stage, uint64_t endpoint,
                       const struct machine_reply *from, uint64_t index, const void *value,
                       uint32_t bytes) {
    struct wire_reply *reply =
        stage_message(stage, endpoint, WIRE_REPLY, 0, (uint32_t)sizeof *reply + bytes);
    if (reply == NULL) return;
    stage_count(stage, STAGE_COUNT_REPLIES, 1);
    reply->session = from->session;
    reply->sequence = from->sequence;
    reply->op = from->op;
    reply->status = from->status;
    reply->detail = from->detail;
    reply->token = from->token;
    reply->amount = from->amount;
    reply->index = index;
    reply->value_length = (uint16_t)bytes;
    if (bytes > 0) memcpy(reply + 1, value, bytes);
}

static const char *fault_words(enum machine_fault fault) {
    switch (fault) {
    case MACHINE_FAULT_LIMITS:
        return "its [limits] are smaller than what the cluster agreed on; raise them";
    case MACHINE_FAULT_DIVERGED:
        return "its state differs from the leader's; remove its data directory and let it rejoin";
    default:
        return "a committed entry is malformed; please report this";
    }
}

uint64_t stage_apply_limit(const struct stage_consensus *stage) {
    uint64_t last = raft_commit(stage->raft);
    // A snapshot may only be of a state that is durable in the own log (raft.h, duty 8). A follower
    // gains nothing by running ahead of its disk; a leader answers sooner, but not when its log
    // needs a snapshot to go on: a WAL too full to take what was applied could never have one.
    bool leads = raft_role(stage->raft) == WIRE_ROLE_LEADER;
    if ((!leads || stage_log_fills(stage)) && last > raft_durable(stage->raft))
        last = raft_durable(stage->raft);
    return last;
}

uint32_t stage_apply(struct stage_consensus *stage) {
    if (stage->restoring || stage->failure != NULL) return 0;
    uint64_t next = machine_applied(stage->machine) + 1;
    uint64_t last = stage_apply_limit(stage);
    uint32_t applied = 0;
    for (; next <= last && applied < STAGE_APPLY_MAX; next++, applied++) {
        struct raft_entry entry = raft_entry_at(stage->raft, next);
        struct machine_reply reply;
        machine_apply(stage->machine, next, entry.term, entry.time_ns, entry.type, entry.data,
                      entry.length, &reply);
        enum machine_fault fault = machine_fault(stage->machine);
        if (fault != MACHINE_FAULT_NONE) {
            stage_fail(stage, "this node must stop at log index %llu: %s", (unsigned long long)next,
                       fault_words(fault));
            return applied;
        }
        if (reply.duplicate) stage_count(stage, STAGE_COUNT_DUPLICATES, 1);
        const struct stage_pending *pending = &stage->pending[next & stage->pending_mask];
        if (pending->index != next || pending->term != entry.term || pending->endpoint == 0)
            continue;
        stage_remember_waiter(stage, &reply, pending->endpoint);
        send_reply(stage, pending->endpoint, &reply, next, NULL, 0);
    }
    stage_count(stage, STAGE_COUNT_APPLIED, applied);
    return applied;
}

void stage_release_reads(struct stage_consensus *stage) {
    const struct raft_effects *effects = &stage->effects;
    for (uint32_t i = 0; i < effects->read_count; i++) {
        stage->read_ready += effects->reads[i].count;
        stage->read_index = effects->reads[i].index; // rises: commit does
    }
    // Aborted are the oldest not released. Those released before stay: they were confirmed while
    // this node led.
    uint32_t aborted = effects->reads_aborted;
    for (uint32_t i = 0; i < aborted; i++) {
        const struct stage_read *read = &stage->reads[(stage->read_ready + i) % STAGE_READS];
        stage_refuse(stage, read->endpoint, &read->asked.request, WIRE_NOT_LEADER);
    }
    stage_count(stage, STAGE_COUNT_READS_ABORTED, aborted);
    if (aborted == 0) return;
    for (uint32_t k = stage->read_ready + aborted; k != stage->read_last; k++)
        stage->reads[(k - aborted) % STAGE_READS] = stage->reads[k % STAGE_READS];
    stage->read_last -= aborted;
}

uint32_t stage_answer_reads(struct stage_consensus *stage) {
    if (stage->read_first == stage->read_ready || stage->restoring) return 0;
    if (machine_applied(stage->machine) < stage->read_index) return 0;
    // Cluster time as the leader would stamp an entry now; once deposed, that of the last entry.
    bool leads = raft_role(stage->raft) == WIRE_ROLE_LEADER;
    uint64_t time_ns = leads ? raft_time(stage->raft, stage->now_ns) : machine_time(stage->machine);
    uint32_t answered = 0;
    for (; stage->read_first != stage->read_ready; stage->read_first++, answered++) {
        struct stage_read *read = &stage->reads[stage->read_first % STAGE_READS];
        _Alignas(8) uint8_t value[WIRE_VALUE_MAX];
        struct machine_reply reply;
        uint32_t bytes =
            machine_query(stage->machine, time_ns, &read->asked.request, &reply, value);
        stage_remember_waiter(stage, &reply, read->endpoint);
        send_reply(stage, read->endpoint, &reply, machine_applied(stage->machine), value, bytes);
        stage_count(stage, STAGE_COUNT_READS, 1);
    }
    return answered;
}
