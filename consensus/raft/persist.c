// What the disk reports: log writes, hard state, snapshots. Completions name what they are about,
// and one that is about entries since truncated is refused (the ABA of append completion).
#include "raft_internal.h"

void raft_change_hard_state(struct raft *raft, uint64_t term, uint16_t vote) {
    assert(term > raft->term || (term == raft->term && raft->vote == 0));
    raft->term = term;
    raft->vote = vote;
    raft->hard_sequence++;
    if (raft->effects != NULL) raft->effects->hard_state_changed = true;
}

void raft_end_recovery(struct raft *raft) {
    raft->recovering = false;
    raft->hard_sequence++; // what may be forgotten now is part of the hard state
    raft->effects->hard_state_changed = true;
}

void raft_on_hard_state_durable(struct raft *raft, uint64_t sequence) {
    if (sequence > raft->hard_sequence || sequence <= raft->hard_durable) {
        RAFT_COUNT(raft, STALE_DURABLE);
        return;
    }
    raft->hard_durable = sequence;
    if (!raft_hard_ready(raft)) return;
    if (raft->role == WIRE_ROLE_CANDIDATE) {
        raft_ask_for_votes(raft);
        raft_count_votes(raft);
    }
    if (raft->vote_owed != 0 && raft->vote_owed == raft->vote)
        raft_answer_vote(raft, raft->vote, WIRE_VOTE_GRANTED, raft->term);
    raft->vote_owed = 0;
}

void raft_on_durable(struct raft *raft, uint64_t index, uint64_t term, uint64_t epoch) {
    bool known = index <= raft->log.last && index < raft->persist_next;
    if (epoch != raft->epoch || !known || raft_log_term(&raft->log, index) != term) {
        RAFT_COUNT(raft, STALE_DURABLE);
        return;
    }
    if (index <= raft->durable) return;
    raft->durable = index;
    raft->durable_moved_ns = raft->now_ns;
}

void raft_on_compact(struct raft *raft, uint64_t index) {
    // See raft.h, duty 8: on disk a snapshot must be followed by the log it was made from.
    uint64_t limit = raft->commit < raft->durable ? raft->commit : raft->durable;
    if (index > limit) index = limit;
    if (index < raft->log.first) return;
    raft_log_compact(&raft->log, index);
}

void raft_on_snapshot_sent(struct raft *raft, uint16_t id, uint64_t index) {
    struct raft_peer *peer = raft_peer_by_id(raft, id);
    if (raft->role != WIRE_ROLE_LEADER || peer == NULL || peer->state != RAFT_PEER_SNAPSHOT ||
        index > raft->log.last)
        return;
    if (index > peer->match) peer->match = index;
    peer->next = peer->match + 1;
    peer->state = RAFT_PEER_PROBE;
    peer->probe_sent = false;
}

void raft_on_snapshot_installed(struct raft *raft, uint64_t index, uint64_t term,
                                uint64_t time_ns) {
    if (index <= raft->commit) {
        RAFT_COUNT(raft, STALE_DURABLE); // an older snapshot never removes a newer log
        return;
    }
    // Its entries arrived meanwhile by append; this node may even have been elected since.
    if (raft_meet_snapshot(raft, index, term)) return;
    assert(raft->role != WIRE_ROLE_LEADER && "a leader's log holds all that is committed");
    if (raft->role != WIRE_ROLE_FOLLOWER) raft_become_follower(raft, raft->term, 0);
    raft_log_reset(&raft->log, index, term, time_ns);
    raft->commit = index;
    raft->durable = index;
    raft->durable_moved_ns = raft->last_got_ns = raft->now_ns;
    raft->persist_next = index + 1;
    raft->matched = index;
    raft->match_reported = 0;
    raft->reply_owed = true;
    raft->epoch++;
}
