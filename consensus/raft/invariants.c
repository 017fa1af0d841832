// Checked after every step, in release builds too: a node that finds one broken has a bug and must
// not go on. The cluster-wide ones (election safety, log matching, leader completeness) are checked
// by the simulator, which sees all nodes.
#include "raft_internal.h"

static void check_leader(const struct raft *raft) {
    assert(raft->leader == raft->options.id);
    assert(raft->vote == raft->options.id);
    assert(raft_hard_ready(raft) && "a leader's own vote is durable");
    assert(raft->noop_index <= raft->log.last);
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        assert(peer->match <= raft->log.last);
        assert(peer->next > peer->match || peer->state == RAFT_PEER_SNAPSHOT);
        assert(peer->next <= raft->log.last + 1);
        assert(peer->context_acked <= raft->context);
        assert(peer->context_sent <= raft->context);
    }
}

void raft_check_invariants(struct raft *raft) {
    assert(raft->commit >= raft->commit_checked && "the commit index never goes back");
    raft->commit_checked = raft->commit;
    assert(raft->commit <= raft->log.last);
    assert(raft->log.first <= raft->commit + 1 && "only committed entries are compacted");
    assert(raft->durable <= raft->log.last);
    assert(raft->persist_next <= raft->log.last + 1);
    assert(raft->durable < raft->persist_next);
    assert(raft->hard_durable <= raft->hard_sequence);
    assert(raft_log_last_term(&raft->log) <= raft->term);
    assert(raft->matched <= raft->log.last || raft->role == WIRE_ROLE_LEADER);
    if (raft->role == WIRE_ROLE_LEADER) check_leader(raft);
    if (raft->role == WIRE_ROLE_CANDIDATE) assert(raft->vote == raft->options.id);
    if (raft->recovering) assert(raft->role == WIRE_ROLE_FOLLOWER && "may not stand or vote");
}
