// Answers to RequestVote and PreVote received.
#include "raft_internal.h"

void raft_recv_vote_reply(struct raft *raft, const struct raft_message *message) {
    bool prevote = (message->flags & WIRE_VOTE_PREVOTE) != 0;
    bool granted = (message->flags & WIRE_VOTE_GRANTED) != 0;
    if (!granted && message->term > raft->term) {
        raft_become_follower(raft, message->term, 0);
        return;
    }
    enum wire_role asking = prevote ? WIRE_ROLE_PRECANDIDATE : WIRE_ROLE_CANDIDATE;
    // A granted PreVote names the term it was asked for; anything else is from an earlier attempt.
    bool current = !granted || message->term == raft->term + (prevote ? 1 : 0);
    if (raft->role != asking || !current) {
        RAFT_COUNT(raft, STALE_MESSAGES);
        return;
    }
    struct raft_peer *peer = raft_peer_by_id(raft, message->peer);
    peer->vote_answered = granted; // a refusal is asked again: the voter may lose its leader
    peer->vote_granted = granted;
    raft_count_votes(raft);
}
