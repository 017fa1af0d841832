// InstallSnapshot chunks and their answers (thesis 5.3). The core looks after terms, leadership and
// contexts; the bytes are moved by the caller, who asks raft_wants_snapshot() for each chunk.
#include "raft_internal.h"

void raft_recv_snapshot(struct raft *raft, const struct raft_message *message) {
    bool other_leader = raft->leader != 0 && raft->leader != message->peer;
    bool forged = message->term == raft->term && (raft->role == WIRE_ROLE_LEADER || other_leader);
    if (message->term < raft->term || forged) {
        RAFT_COUNT(raft, STALE_MESSAGES);
        return;
    }
    if (message->term > raft->term || raft->role != WIRE_ROLE_FOLLOWER)
        raft_become_follower(raft, message->term, message->peer);
    raft_hear_leader(raft, message->peer);

    raft_meet_snapshot(raft, message->snapshot.last_index, message->snapshot.last_term);
}

bool raft_meet_snapshot(struct raft *raft, uint64_t index, uint64_t term) {
    if (index <= raft->commit || term == 0 || raft_log_term(&raft->log, index) != term)
        return false;
    raft->commit = index;
    if (raft->matched < index) raft->matched = index;
    raft->reply_owed = true;
    return true;
}

bool raft_wants_snapshot(const struct raft *raft, uint16_t peer, uint64_t term,
                         uint64_t last_index) {
    return raft->role == WIRE_ROLE_FOLLOWER && term == raft->term && raft->leader == peer &&
           last_index > raft->commit;
}

void raft_recv_snapshot_reply(struct raft *raft, const struct raft_message *message) {
    if (message->term > raft->term) {
        raft_become_follower(raft, message->term, 0);
        return;
    }
    if (raft->role != WIRE_ROLE_LEADER || message->term < raft->term) {
        RAFT_COUNT(raft, STALE_MESSAGES);
        return;
    }
    raft_peer_heard(raft, raft_peer_by_id(raft, message->peer), message->snapshot.context);
}
