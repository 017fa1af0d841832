// Answers to AppendEntries received by the leader: progress of one peer (thesis 3.5, 10.2.1).
#include "raft_internal.h"

void raft_peer_heard(struct raft *raft, struct raft_peer *peer, uint64_t context) {
    // Each heartbeat has a context of its own, so a living peer brings a new one before long; an
    // answer held up or doubled on the way does not make a silent peer look alive (6.2).
    if (context <= peer->context_acked || context > raft->context) return;
    peer->context_acked = context;
    peer->heard_ns = raft->now_ns;
}

// A node without its log (memory durability, damaged disk) starts from nothing, whatever it had
// acknowledged before. It is told when it has all that this leader had at that moment.
static void note_recovering(struct raft *raft, struct raft_peer *peer,
                            const struct raft_message *message) {
    bool recovering = (message->flags & WIRE_APPEND_RECOVERING) != 0;
    if (recovering && (!peer->recovering || peer->life != message->append_reply.life)) {
        peer->recover_target = raft->log.last;
        peer->match = 0;
        if (peer->state == RAFT_PEER_REPLICATE) peer->state = RAFT_PEER_PROBE;
        peer->probe_sent = false;
        peer->life = message->append_reply.life;
    }
    peer->recovering = recovering;
}

static void rejected(struct raft *raft, struct raft_peer *peer,
                     const struct raft_message *message) {
    // Only an answer to what was sent last can tell where to go on; others come from messages that
    // overtook each other.
    bool current = message->append_reply.prev + 1 == peer->next;
    if (peer->state == RAFT_PEER_REPLICATE)
        current =
            message->append_reply.prev >= peer->match && message->append_reply.prev < peer->next;
    if (peer->state == RAFT_PEER_SNAPSHOT || !current) {
        RAFT_COUNT(raft, STALE_MESSAGES);
        return;
    }
    uint64_t hint = message->append_reply.hint;
    if (hint >= message->append_reply.prev)
        hint = message->append_reply.prev == 0 ? 0 : message->append_reply.prev - 1;
    if (hint < peer->match) {
        // Late, or the peer has lost what it had acknowledged. Only an answer to the newest context
        // is believed; the commit index does not depend on match going back.
        if (message->append_reply.context < peer->context_sent) {
            RAFT_COUNT(raft, STALE_MESSAGES);
            return;
        }
        peer->match = hint;
    }
    RAFT_COUNT(raft, APPENDS_RESENT);
    peer->state = RAFT_PEER_PROBE;
    peer->probe_sent = false;
    peer->next = hint + 1;
}

void raft_recv_append_reply(struct raft *raft, const struct raft_message *message) {
    if (message->term > raft->term) {
        raft_become_follower(raft, message->term, 0);
        return;
    }
    bool beyond =
        message->append_reply.match > raft->log.last || message->append_reply.prev > raft->log.last;
    if (raft->role != WIRE_ROLE_LEADER || message->term < raft->term || beyond) {
        RAFT_COUNT(raft, STALE_MESSAGES);
        return;
    }
    struct raft_peer *peer = raft_peer_by_id(raft, message->peer);
    raft_peer_heard(raft, peer, message->append_reply.context);
    note_recovering(raft, peer, message);
    if (message->flags & WIRE_APPEND_REJECTED) {
        rejected(raft, peer, message);
        return;
    }
    if (message->append_reply.match > peer->match) peer->match = message->append_reply.match;
    uint64_t received = message->append_reply.hint;
    if (received > raft->log.last) received = raft->log.last;
    if (received < peer->match) received = peer->match;
    switch (peer->state) {
    case RAFT_PEER_PROBE:
        // The logs meet: send without waiting from here on.
        peer->state = RAFT_PEER_REPLICATE;
        peer->next = received + 1;
        break;
    case RAFT_PEER_REPLICATE:
        if (peer->next <= peer->match) peer->next = peer->match + 1;
        break;
    case RAFT_PEER_SNAPSHOT:
        // It has more than was thought; if all that is still in the log, no snapshot is needed.
        if (peer->match + 1 >= raft->log.first && peer->match > 0) {
            peer->state = RAFT_PEER_REPLICATE;
            peer->next = peer->match + 1;
        }
        break;
    }
}
