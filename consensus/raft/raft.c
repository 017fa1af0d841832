// The step function: events in order, then timers, then what follows from them. See raft.h.
#include "raft_internal.h"

#include <string.h>

static size_t raft_struct_bytes(void) {
    return (sizeof(struct raft) + 63u) & ~(size_t)63u;
}

size_t raft_bytes(const struct raft_options *options) {
    return raft_struct_bytes() + raft_log_memory(options->log_entries, options->log_bytes);
}

static bool power_of_two(uint32_t value) {
    return value != 0 && (value & (value - 1)) == 0;
}

static bool options_valid(const struct raft_options *options) {
    bool member = false;
    if (options->node_count < 1 || options->node_count > RAFT_NODES_MAX) return false;
    for (uint32_t i = 0; i < options->node_count; i++) {
        if (options->nodes[i] == 0) return false;
        member = member || options->nodes[i] == options->id;
        for (uint32_t j = 0; j < i; j++)
            if (options->nodes[i] == options->nodes[j]) return false;
    }
    uint32_t least_entries = 2 * RAFT_NOOP_RESERVE;
    uint32_t least_bytes = 2 * RAFT_NOOP_RESERVE * (options->noop_length + 8u) + 4 * RAFT_ENTRY_MAX;
    return member && power_of_two(options->log_entries) && power_of_two(options->log_bytes) &&
           options->log_entries >= least_entries && options->log_bytes >= least_bytes &&
           options->heartbeat_ns > 0 && options->heartbeat_ns <= options->election_ns / 3 &&
           options->window_entries > 0 && options->noop_length <= RAFT_ENTRY_MAX;
}

struct raft *raft_create(void *memory, const struct raft_options *options) {
    if (!options_valid(options)) return NULL;
    struct raft *raft = memory;
    memset(raft, 0, sizeof *raft);
    raft->options = *options;
    raft->random = options->seed ^ ((uint64_t)options->id << 48);
    raft->life = (uint32_t)((raft->random * 0x9e3779b97f4a7c15ull) >> 32) | 1u;
    raft->recovering = options->recovering;
    raft->persist_next = 1;
    raft_log_init(&raft->log, (uint8_t *)memory + raft_struct_bytes(), options->log_entries,
                  options->log_bytes);
    for (uint32_t i = 0; i < options->node_count; i++) {
        if (options->nodes[i] == options->id) continue;
        struct raft_peer *peer = &raft->peers[raft->peer_count++];
        peer->id = options->nodes[i];
        peer->number = (uint8_t)i;
        peer->next = 1;
    }
    return raft;
}

void raft_restore_hard_state(struct raft *raft, uint64_t term, uint16_t vote) {
    raft->term = term;
    raft->vote = vote;
}

void raft_restore_snapshot(struct raft *raft, uint64_t index, uint64_t term, uint64_t time_ns) {
    raft_log_reset(&raft->log, index, term, time_ns);
    raft->commit = raft->durable = raft->matched = index;
    raft->persist_next = index + 1;
}

// Records come as they were written: one with an index already given replaces it and all after, and
// those the snapshot covers only do that. A record right behind the snapshot but of an older term
// is what a later leader truncated before it was written over: it and what follows it wait to be
// replaced.
bool raft_restore_entry(struct raft *raft, uint64_t index, const struct raft_entry *entry) {
    struct raft_log *log = &raft->log;
    if (index < log->first) {
        if (log->last >= log->first) raft_log_truncate(log, log->first);
        raft->restore_stale = false;
        raft->durable = log->last;
        raft->persist_next = log->last + 1;
        return true;
    }
    if (index == log->first) raft->restore_stale = entry->term < log->base_term;
    if (raft->restore_stale) return true;
    if (index > log->last + 1) return false;
    if (index <= log->last) raft_log_truncate(log, index);
    if (entry->term < raft_log_last_term(log)) return false;
    if (!raft_log_append(log, entry)) return false;
    raft->durable = log->last;
    raft->persist_next = log->last + 1;
    return true;
}

void raft_start(struct raft *raft, uint64_t now_ns) {
    uint64_t last_term = raft_log_last_term(&raft->log);
    if (last_term > raft->term) {
        // Entries of a term became durable before the term itself did: we had not spoken in it.
        raft->term = last_term;
        raft->vote = 0;
    }
    raft->now_ns = now_ns;
    raft->durable_moved_ns = raft->last_got_ns = now_ns;
    raft->matched = raft->commit;
    raft_reset_election_deadline(raft);
    // Nobody else could be leader: no need to wait for one.
    if (raft->options.node_count == 1) raft->election_deadline_ns = now_ns;
}

struct raft_peer *raft_peer_by_id(struct raft *raft, uint16_t id) {
    for (uint32_t i = 0; i < raft->peer_count; i++)
        if (raft->peers[i].id == id) return &raft->peers[i];
    return NULL;
}

struct raft_message *raft_send(struct raft *raft, uint16_t peer, uint16_t type) {
    struct raft_effects *effects = raft->effects;
    if (effects->message_count == RAFT_MESSAGES_MAX) return NULL;
    struct raft_message *message = &effects->messages[effects->message_count++];
    memset(message, 0, sizeof *message);
    message->peer = peer;
    message->type = type;
    message->term = raft->term;
    return message;
}

static void receive(struct raft *raft, const struct raft_message *message) {
    if (raft_peer_by_id(raft, message->peer) == NULL || message->term > RAFT_TERM_MAX) {
        RAFT_COUNT(raft, STALE_MESSAGES);
        return;
    }
    switch (message->type) {
    case WIRE_VOTE:
        raft_recv_vote(raft, message);
        break;
    case WIRE_VOTE_REPLY:
        raft_recv_vote_reply(raft, message);
        break;
    case WIRE_APPEND:
        raft_recv_append(raft, message);
        break;
    case WIRE_APPEND_REPLY:
        raft_recv_append_reply(raft, message);
        break;
    case WIRE_SNAPSHOT:
        raft_recv_snapshot(raft, message);
        break;
    case WIRE_SNAPSHOT_REPLY:
        raft_recv_snapshot_reply(raft, message);
        break;
    default:
        RAFT_COUNT(raft, STALE_MESSAGES);
        break;
    }
}

// Returns false once one was refused: those after it are refused too, so that the ones appended are
// the first of the step and at consecutive indices.
static bool propose(struct raft *raft, const void *data, uint16_t length, bool refused) {
    if (refused || !raft_can_propose(raft, 1, length) ||
        !raft_append_own(raft, RAFT_ENTRY_COMMAND, data, length)) {
        RAFT_COUNT(raft, PROPOSALS_REFUSED);
        return false;
    }
    if (raft->effects->proposed++ == 0) {
        raft->effects->proposed_first = raft->log.last;
        raft->effects->proposed_term = raft->term;
    }
    return true;
}

static void handle(struct raft *raft, const struct raft_event *event, bool *refused) {
    switch (event->type) {
    case RAFT_EVENT_MESSAGE:
        receive(raft, &event->message);
        break;
    case RAFT_EVENT_PROPOSE:
        *refused = !propose(raft, event->propose.data, event->propose.length, *refused);
        break;
    case RAFT_EVENT_READ:
        raft_read_request(raft);
        break;
    case RAFT_EVENT_DURABLE:
        raft_on_durable(raft, event->durable.index, event->durable.term, event->durable.epoch);
        break;
    case RAFT_EVENT_HARD_STATE_DURABLE:
        raft_on_hard_state_durable(raft, event->hard_state.sequence);
        break;
    case RAFT_EVENT_COMPACT:
        raft_on_compact(raft, event->snapshot.index);
        break;
    case RAFT_EVENT_SNAPSHOT_SENT:
        raft_on_snapshot_sent(raft, event->snapshot.peer, event->snapshot.index);
        break;
    case RAFT_EVENT_SNAPSHOT_FAILED:
        break; // the peer still needs one: asked for again each step
    case RAFT_EVENT_SNAPSHOT_INSTALLED:
        raft_on_snapshot_installed(raft, event->snapshot.index, event->snapshot.term,
                                   event->snapshot.time_ns);
        break;
    }
}

void raft_step(struct raft *raft, uint64_t now_ns, const struct raft_event *events, uint32_t count,
               struct raft_effects *effects) {
    assert(count <= RAFT_EVENTS_MAX);
    assert(now_ns >= raft->now_ns);
    effects->message_count = 0;
    effects->proposed = 0;
    effects->proposed_first = 0;
    effects->proposed_term = 0;
    effects->read_count = 0;
    effects->reads_aborted = 0;
    effects->snapshot_peers = 0;
    effects->hard_state_changed = false;
    effects->role_changed = false;
    raft->effects = effects;
    raft->now_ns = now_ns;

    bool refused = false;
    for (uint32_t i = 0; i < count; i++) handle(raft, &events[i], &refused);
    raft_tick(raft);
    raft_advance_commit(raft);
    raft_read_advance(raft);
    raft_replicate(raft);
    raft_flush_follower(raft);

    raft_check_invariants(raft);
    raft->effects = NULL;
}

uint64_t raft_unpersisted(const struct raft *raft, uint64_t *first, uint64_t *epoch) {
    *first = raft->persist_next;
    *epoch = raft->epoch;
    return raft->log.last + 1 - raft->persist_next;
}

void raft_persist_begun(struct raft *raft, uint64_t last) {
    assert(last >= raft->persist_next && last <= raft->log.last);
    raft->persist_next = last + 1;
}
