// Roles and timers: follower, pre-candidate, candidate, leader (thesis figure 3.3), with PreVote
// (9.6) and CheckQuorum (6.2). A node asks for votes only if its disk works and its log is whole.
#include "raft_internal.h"

// splitmix64: enough for spreading election time-outs, and the same everywhere.
static uint64_t next_random(struct raft *raft) {
    uint64_t z = raft->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void raft_reset_election_deadline(struct raft *raft) {
    uint64_t spread = next_random(raft) % raft->options.election_ns;
    raft->election_deadline_ns = raft->now_ns + raft->options.election_ns + spread;
}

void raft_hear_leader(struct raft *raft, uint16_t leader) {
    raft->leader = leader;
    raft->leader_heard_ns = raft->now_ns;
    raft_reset_election_deadline(raft);
}

bool raft_disk_stalled(const struct raft *raft) {
    uint64_t limit = raft->options.election_ns * RAFT_DISK_STALL_ELECTIONS;
    return raft->durable < raft->log.last && raft->now_ns - raft->durable_moved_ns > limit;
}

static void set_role(struct raft *raft, enum wire_role role) {
    if (raft->role == role) return;
    if (raft->role == WIRE_ROLE_LEADER) raft_read_abort(raft);
    raft->role = role;
    if (raft->effects != NULL) raft->effects->role_changed = true;
}

void raft_become_follower(struct raft *raft, uint64_t term, uint16_t leader) {
    assert(term >= raft->term);
    set_role(raft, WIRE_ROLE_FOLLOWER);
    if (term > raft->term) {
        raft_change_hard_state(raft, term, 0);
        raft->matched = raft->commit; // only committed entries are surely in the new leader's log
        raft->match_reported = 0;
        raft->context_seen = 0;
        raft->reply_owed = false;
        raft->vote_owed = 0;
    }
    raft->leader = leader;
    raft_reset_election_deadline(raft);
}

static void forget_votes(struct raft *raft) {
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        raft->peers[i].vote_answered = false;
        raft->peers[i].vote_granted = false;
    }
}

static void begin_prevote(struct raft *raft) {
    RAFT_COUNT(raft, PREVOTES_STARTED);
    set_role(raft, WIRE_ROLE_PRECANDIDATE);
    raft->leader = 0;
    forget_votes(raft);
    raft_reset_election_deadline(raft);
    raft_ask_for_votes(raft);
    raft_count_votes(raft); // a cluster of one needs nobody
}

void raft_campaign(struct raft *raft) {
    RAFT_COUNT(raft, ELECTIONS_STARTED);
    set_role(raft, WIRE_ROLE_CANDIDATE);
    raft->leader = 0;
    forget_votes(raft);
    raft->matched = raft->commit;
    raft->match_reported = 0;
    raft->context_seen = 0;
    raft->reply_owed = false;
    raft->vote_owed = 0;
    raft_change_hard_state(raft, raft->term + 1, raft->options.id);
    raft_reset_election_deadline(raft);
    // Votes are asked for when our own is durable: raft_on_hard_state_durable().
}

void raft_ask_for_votes(struct raft *raft) {
    bool prevote = raft->role == WIRE_ROLE_PRECANDIDATE;
    if (!prevote && !raft_hard_ready(raft)) return;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        if (raft->peers[i].vote_answered) continue;
        struct raft_message *message = raft_send(raft, raft->peers[i].id, WIRE_VOTE);
        if (message == NULL) return;
        message->flags = prevote ? WIRE_VOTE_PREVOTE : 0;
        message->term = raft->term + (prevote ? 1 : 0);
        message->vote.last_index = raft->log.last;
        message->vote.last_term = raft_log_last_term(&raft->log);
    }
    raft->resend_ns = raft->now_ns + raft->options.heartbeat_ns;
}

void raft_count_votes(struct raft *raft) {
    uint32_t granted = 1; // our own
    if (raft->role == WIRE_ROLE_CANDIDATE && !raft_hard_ready(raft)) return;
    for (uint32_t i = 0; i < raft->peer_count; i++) granted += raft->peers[i].vote_granted;
    if (granted < raft_majority(raft)) return;
    if (raft->role == WIRE_ROLE_PRECANDIDATE)
        raft_campaign(raft);
    else if (raft->role == WIRE_ROLE_CANDIDATE)
        raft_become_leader(raft);
}

void raft_become_leader(struct raft *raft) {
    assert(raft->role == WIRE_ROLE_CANDIDATE && raft->vote == raft->options.id);
    RAFT_COUNT(raft, TERMS_LED);
    set_role(raft, WIRE_ROLE_LEADER);
    raft->leader = raft->options.id;
    raft->led_since_ns = raft->now_ns;
    // That entry was stamped before it came here, so at least so much time has gone by since.
    raft->time_base_ns = raft_log_last_time_ns(&raft->log) + (raft->now_ns - raft->last_got_ns);
    raft->reads_waiting = 0;
    raft->read_first = raft->read_last = 0;
    if (raft->durable == raft->log.last) raft->durable_moved_ns = raft->now_ns;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        struct raft_peer *peer = &raft->peers[i];
        peer->state = RAFT_PEER_PROBE;
        peer->next = raft->log.last + 1;
        peer->match = 0;
        peer->context_sent = peer->context_acked = 0;
        peer->heard_ns = raft->now_ns;
        peer->sent_ns = 0;
        peer->probe_sent = false;
        peer->recovering = false;
    }
    // An entry of the own term lets earlier ones be committed, and reads be served (3.6.2, 6.4).
    if (raft_append_own(raft, RAFT_ENTRY_NOOP, raft->options.noop, raft->options.noop_length)) {
        raft->noop_index = raft->log.last;
    } else { // not even the reserve is left: somebody else may have room
        RAFT_COUNT(raft, LOG_FULL);
        raft_become_follower(raft, raft->term, 0);
    }
}

static void step_down(struct raft *raft) {
    raft_become_follower(raft, raft->term, 0);
}

static void tick_leader(struct raft *raft) {
    uint32_t heard = 1;
    for (uint32_t i = 0; i < raft->peer_count; i++)
        heard += raft->now_ns - raft->peers[i].heard_ns <= raft->options.election_ns;
    if (heard < raft_majority(raft)) {
        RAFT_COUNT(raft, STEPPED_DOWN_QUORUM);
        step_down(raft);
    } else if (raft->peer_count > 0 && raft_disk_stalled(raft)) {
        RAFT_COUNT(raft, STEPPED_DOWN_DISK);
        step_down(raft);
    }
}

void raft_tick(struct raft *raft) {
    if (raft->role == WIRE_ROLE_LEADER) {
        tick_leader(raft);
        return;
    }
    if (raft->now_ns < raft->election_deadline_ns) {
        bool asking = raft->role != WIRE_ROLE_FOLLOWER;
        if (asking && raft->now_ns >= raft->resend_ns) raft_ask_for_votes(raft);
        return;
    }
    // A term that is not yet durable, a stalled disk or a lost log: wait, another may do better.
    if (raft->recovering || !raft_hard_ready(raft) || raft_disk_stalled(raft)) {
        raft->leader = 0;
        if (raft->role == WIRE_ROLE_PRECANDIDATE) set_role(raft, WIRE_ROLE_FOLLOWER);
        raft_reset_election_deadline(raft);
        return;
    }
    begin_prevote(raft);
}
