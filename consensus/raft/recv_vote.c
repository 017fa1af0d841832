// RequestVote and PreVote received (thesis 3.4, 3.6.1, 9.6).
//
// A node that hears a leader refuses to help depose it (4.2.3): it answers a PreVote with no, and
// does not even look at the term of a RequestVote. The answer to a RequestVote leaves only when the
// vote is durable.
#include "raft_internal.h"

void raft_answer_vote(struct raft *raft, uint16_t candidate, uint32_t flags, uint64_t term) {
    struct raft_message *reply = raft_send(raft, candidate, WIRE_VOTE_REPLY);
    if (reply == NULL) return; // the candidate asks again
    reply->flags = flags;
    reply->term = term;
}

static bool hears_leader(const struct raft *raft) {
    if (raft->role == WIRE_ROLE_LEADER) return true;
    return raft->leader != 0 && raft->now_ns - raft->leader_heard_ns < raft->options.election_ns;
}

// 3.6.1: the later last term wins, then the longer log.
static bool up_to_date(const struct raft *raft, const struct raft_message *message) {
    uint64_t own_term = raft_log_last_term(&raft->log);
    if (message->vote.last_term != own_term) return message->vote.last_term > own_term;
    return message->vote.last_index >= raft->log.last;
}

static void recv_prevote(struct raft *raft, const struct raft_message *message) {
    bool granted = message->term > raft->term && !hears_leader(raft) && !raft->recovering &&
                   up_to_date(raft, message);
    if (granted)
        raft_answer_vote(raft, message->peer, WIRE_VOTE_PREVOTE | WIRE_VOTE_GRANTED, message->term);
    else
        raft_answer_vote(raft, message->peer, WIRE_VOTE_PREVOTE, raft->term);
}

void raft_recv_vote(struct raft *raft, const struct raft_message *message) {
    if (message->flags & WIRE_VOTE_PREVOTE) {
        recv_prevote(raft, message);
        return;
    }
    if (message->term < raft->term) {
        raft_answer_vote(raft, message->peer, 0, raft->term);
        return;
    }
    if (hears_leader(raft)) {
        RAFT_COUNT(raft, STALE_MESSAGES);
        return;
    }
    if (message->term > raft->term) raft_become_follower(raft, message->term, 0);

    bool free_to_vote = raft->vote == 0 || raft->vote == message->peer;
    bool grant = free_to_vote && !raft->recovering && up_to_date(raft, message);
    if (!grant) {
        raft_answer_vote(raft, message->peer, 0, raft->term);
        return;
    }
    if (raft->vote == 0) raft_change_hard_state(raft, raft->term, message->peer);
    raft_reset_election_deadline(raft);
    if (raft_hard_ready(raft))
        raft_answer_vote(raft, message->peer, WIRE_VOTE_GRANTED, raft->term);
    else
        raft->vote_owed = message->peer;
}
