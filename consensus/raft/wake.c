// When the core next does something by itself, so that a caller need not step it before: a sleeping
// loop, or a simulator that jumps from event to event. Each timer here stands for one comparison
// with now_ns in role.c, replicate.c or read.c. What a step left undone, because it had produced
// all the messages it may, is due at once.
#include "raft_internal.h"

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

// CheckQuorum: the leader steps down once fewer than a majority have been heard of lately.
static uint64_t quorum_ends(const struct raft *raft) {
    uint64_t heard[RAFT_NODES_MAX - 1];
    uint32_t needed = raft_majority(raft) - 1; // beside itself
    if (needed == 0) return UINT64_MAX;
    for (uint32_t i = 0; i < raft->peer_count; i++) { // newest first
        uint32_t at = i;
        for (; at > 0 && heard[at - 1] < raft->peers[i].heard_ns; at--) heard[at] = heard[at - 1];
        heard[at] = raft->peers[i].heard_ns;
    }
    return heard[needed - 1] + raft->options.election_ns + 1;
}

static uint64_t stall_ends(const struct raft *raft) {
    if (raft->peer_count == 0 || raft->durable == raft->log.last) return UINT64_MAX;
    return raft->durable_moved_ns + raft->options.election_ns * RAFT_DISK_STALL_ELECTIONS + 1;
}

static bool peer_is_owed(const struct raft *raft, const struct raft_peer *peer) {
    if (peer->context_sent < raft->context) return true;
    switch (peer->state) {
    case RAFT_PEER_PROBE:
        return !peer->probe_sent || peer->next < raft->log.first;
    case RAFT_PEER_REPLICATE:
        return peer->next < raft->log.first ||
               (peer->next <= raft->log.last &&
                peer->next - 1 - peer->match < raft->options.window_entries);
    case RAFT_PEER_SNAPSHOT:
        return false;
    }
    return true;
}

static uint64_t leader_wakes(const struct raft *raft) {
    bool room = raft->read_last - raft->read_first < RAFT_READ_BATCHES;
    if (raft->reads_waiting > 0 && room && raft_leader_ready(raft)) return 0;
    uint64_t wake = earlier(quorum_ends(raft), stall_ends(raft));
    wake = earlier(wake, raft->context_ns + raft->options.heartbeat_ns);
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        if (peer_is_owed(raft, &raft->peers[i])) return 0;
        wake = earlier(wake, raft->peers[i].sent_ns + raft->options.heartbeat_ns);
    }
    return wake;
}

uint64_t raft_wake_ns(const struct raft *raft) {
    if (raft->role == WIRE_ROLE_LEADER) return leader_wakes(raft);
    uint64_t wake = raft->election_deadline_ns;
    if (raft->role == WIRE_ROLE_FOLLOWER) return raft_owes_reply(raft) ? 0 : wake;
    // A candidate first asks when its vote is durable, which is an event.
    bool asks = raft->role == WIRE_ROLE_PRECANDIDATE || raft_hard_ready(raft);
    return asks ? earlier(wake, raft->resend_ns) : wake;
}
