// The leader's sending side (thesis 3.5, 10.2): entries leave before they are on the leader's own
// disk, in as many messages in flight as the peer's window allows. What gathers while a window is
// full travels together afterwards; there is no batching timer.
//
// Losses are found by heartbeats: an empty append names the entry before `next` as its predecessor,
// and a peer that lacks it says so.
#include "raft_internal.h"

void raft_truncate(struct raft *raft, uint64_t from) {
    assert(from > raft->commit && "committed entries are never truncated");
    RAFT_COUNT_N(raft, ENTRIES_TRUNCATED, raft->log.last + 1 - from);
    raft_log_truncate(&raft->log, from);
    if (raft->durable >= from) raft->durable = from - 1;
    // Writes in flight end under the older epoch and will not count: what they carry and is kept
    // is written again.
    if (raft->persist_next > raft->durable + 1) raft->persist_next = raft->durable + 1;
    if (raft->matched >= from) raft->matched = from - 1;
    if (raft->match_reported >= from) raft->match_reported = from - 1;
    raft->epoch++;                    // completions of writes begun before no longer count
    raft->last_got_ns = raft->now_ns; // of the one that is last now nothing better is known
}

bool raft_append_own(struct raft *raft, uint8_t type, const void *data, uint16_t length) {
    struct raft_entry entry = {
        .term = raft->term,
        .time_ns = raft_time(raft, raft->now_ns),
        .data = data,
        .length = length,
        .type = type,
    };
    if (raft->durable == raft->log.last) raft->durable_moved_ns = raft->now_ns;
    raft->last_got_ns = raft->now_ns;
    return raft_log_append(&raft->log, &entry);
}

// Fills an append from peer->next with as many entries as fit one frame, at most `limit`.
static bool send_append(struct raft *raft, struct raft_peer *peer, uint32_t limit) {
    struct raft_message *message = raft_send(raft, peer->id, WIRE_APPEND);
    if (message == NULL) return false;
    uint32_t room = WIRE_APPEND_ENTRY_BYTES;
    uint32_t count = 0;
    uint64_t index = peer->next;
    while (count < limit && index <= raft->log.last) {
        uint32_t length = raft_log_entry(&raft->log, index).length;
        uint32_t bytes = (uint32_t)sizeof(struct wire_entry) + ((length + 7u) & ~7u);
        if (bytes > room) break;
        room -= bytes;
        count++;
        index++;
    }
    bool recovered = peer->recovering && peer->match >= peer->recover_target;
    message->flags = recovered ? WIRE_APPEND_RECOVERED : 0;
    message->append.life = recovered ? peer->life : 0;
    message->append.prev_index = peer->next - 1;
    message->append.prev_term = raft_log_term(&raft->log, peer->next - 1);
    message->append.commit = raft->commit;
    message->append.context = raft->context;
    message->append.count = count;
    peer->sent_ns = raft->now_ns;
    peer->context_sent = raft->context;
    if (peer->state == RAFT_PEER_REPLICATE) peer->next = index;
    return true;
}

// Keeps a peer that needs a snapshot from electing somebody: index 0 precedes every log.
static void send_bare_heartbeat(struct raft *raft, struct raft_peer *peer) {
    struct raft_message *message = raft_send(raft, peer->id, WIRE_APPEND);
    if (message == NULL) return;
    message->append.context = raft->context;
    peer->sent_ns = raft->now_ns;
    peer->context_sent = raft->context;
}

static void replicate_to(struct raft *raft, struct raft_peer *peer) {
    bool due = raft->now_ns - peer->sent_ns >= raft->options.heartbeat_ns;
    bool news = peer->context_sent < raft->context;
    if (peer->state != RAFT_PEER_SNAPSHOT && peer->next < raft->log.first) {
        peer->state = RAFT_PEER_SNAPSHOT;
        peer->probe_sent = false;
    }
    switch (peer->state) {
    case RAFT_PEER_PROBE:
        if (peer->probe_sent && !due && !news) return;
        // One message, with entries: where the logs meet at once nothing is lost.
        peer->probe_sent = send_append(raft, peer, UINT32_MAX);
        return;
    case RAFT_PEER_REPLICATE: {
        uint32_t burst = 0;
        while (peer->next <= raft->log.last && burst++ < RAFT_BURST) {
            uint64_t in_flight = peer->next - 1 - peer->match;
            if (in_flight >= raft->options.window_entries) break;
            uint32_t limit = raft->options.window_entries - (uint32_t)in_flight;
            if (!send_append(raft, peer, limit)) return;
            due = news = false;
        }
        if (due || news) send_append(raft, peer, 0);
        return;
    }
    case RAFT_PEER_SNAPSHOT:
        raft->effects->snapshot_peers |= 1u << peer->number;
        if (due || news) send_bare_heartbeat(raft, peer);
        return;
    }
}

void raft_replicate(struct raft *raft) {
    if (raft->role != WIRE_ROLE_LEADER) return;
    // Each heartbeat time asks for a fresh echo, however much is being sent anyway: an old one
    // cannot pass for a living peer.
    if (raft->now_ns - raft->context_ns >= raft->options.heartbeat_ns) {
        raft->context++;
        raft->context_ns = raft->now_ns;
    }
    for (uint32_t i = 0; i < raft->peer_count; i++) replicate_to(raft, &raft->peers[i]);
}

// The highest index durable on a majority, own log included only as far as it is on the own disk.
static uint64_t majority_match(const struct raft *raft) {
    uint64_t match[RAFT_NODES_MAX];
    uint32_t count = 0;
    match[count++] = raft->durable;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        uint64_t value = raft->peers[i].match;
        uint32_t at = count++;
        while (at > 0 && match[at - 1] < value) {
            match[at] = match[at - 1];
            at--;
        }
        match[at] = value;
    }
    return match[raft_majority(raft) - 1];
}

void raft_advance_commit(struct raft *raft) {
    if (raft->role != WIRE_ROLE_LEADER) return;
    uint64_t index = majority_match(raft);
    // Only an entry of the own term is committed by counting; earlier ones with it (3.6.2).
    if (index > raft->commit && raft_log_term(&raft->log, index) == raft->term)
        raft->commit = index;
}
