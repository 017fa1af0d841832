// AppendEntries received (thesis 3.5), and the follower's answer.
//
// Accepted entries are answered once a step, and entries count only when both they and the current
// term are durable. A rejection goes out at once with the place where the logs may meet. Messages
// may come late, twice or out of order: entries that are already here are never truncated away.
#include "raft_internal.h"

static void reject(struct raft *raft, const struct raft_message *message, uint64_t hint) {
    struct raft_message *reply = raft_send(raft, message->peer, WIRE_APPEND_REPLY);
    if (reply == NULL) return; // the leader asks again
    RAFT_COUNT(raft, APPENDS_REJECTED);
    reply->flags = WIRE_APPEND_REJECTED | (raft->recovering ? WIRE_APPEND_RECOVERING : 0);
    reply->append_reply.life = raft->recovering ? raft->life : 0;
    reply->append_reply.hint = hint;
    reply->append_reply.prev = message->append.prev_index;
    reply->append_reply.context = message->append.context;
}

// The last index before `index` whose term differs from the one there: one round trip per term in
// conflict instead of one per entry (3.5, end). Committed entries are known to agree.
static uint64_t skip_conflicting_term(const struct raft *raft, uint64_t index) {
    uint64_t term = raft_log_term(&raft->log, index);
    while (index > raft->commit && index >= raft->log.first &&
           raft_log_term(&raft->log, index) == term)
        index--;
    return index > raft->commit ? index : raft->commit;
}

// Stores what is not here yet. Returns the last index that is now known to equal the leader's log.
static uint64_t store_entries(struct raft *raft, const struct raft_message *message) {
    uint64_t index = message->append.prev_index;
    for (uint32_t i = 0; i < message->append.count; i++) {
        const struct raft_entry *entry = &message->append.entries[i];
        index++;
        if (index <= raft->commit) continue;
        if (index <= raft->log.last) {
            if (raft_log_term(&raft->log, index) == entry->term) continue;
            raft_truncate(raft, index);
        }
        // Below the commit index the predecessor's term is not compared: a broken peer's entries
        // could still fall behind what is here.
        if (entry->term < raft_log_last_term(&raft->log)) {
            RAFT_COUNT(raft, STALE_MESSAGES);
            return index - 1;
        }
        if (raft->durable == raft->log.last) raft->durable_moved_ns = raft->now_ns;
        if (!raft_log_append(&raft->log, entry)) {
            RAFT_COUNT(raft, LOG_FULL);
            return index - 1;
        }
        raft->last_got_ns = raft->now_ns;
    }
    return index;
}

// Entry terms must not fall along the log, nor exceed the message's; a peer that sends otherwise is
// broken, and its entries are not stored.
static bool entries_in_order(const struct raft_message *message) {
    uint64_t term = message->append.prev_term;
    for (uint32_t i = 0; i < message->append.count; i++) {
        const struct raft_entry *entry = &message->append.entries[i];
        if (entry->term < term || entry->term > message->term || entry->length > RAFT_ENTRY_MAX)
            return false;
        term = entry->term;
    }
    return true;
}

static void accept(struct raft *raft, const struct raft_message *message) {
    uint64_t agreed = store_entries(raft, message);
    bool nothing_new = agreed <= raft->matched;
    if (!nothing_new) raft->matched = agreed;
    // Never beyond what this very message proves to be the leader's.
    uint64_t commit = message->append.commit < agreed ? message->append.commit : agreed;
    if (commit > raft->commit) raft->commit = commit;

    // The word may have been on its way when this node was alive before, and had more: so it counts
    // only when it is said to this life, and where all before it is here.
    bool caught_up = message->flags & WIRE_APPEND_RECOVERED && message->append.life == raft->life;
    if (raft->recovering && caught_up && raft->durable >= message->append.prev_index)
        raft_end_recovery(raft);

    raft->prev_seen = message->append.prev_index;
    // Entries that are new are answered when durable; all else at once: a heartbeat, a context to
    // confirm, or entries sent again because an earlier answer was lost.
    if (nothing_new || message->append.context > raft->context_seen) raft->reply_owed = true;
    if (message->append.context > raft->context_seen) raft->context_seen = message->append.context;
}

void raft_recv_append(struct raft *raft, const struct raft_message *message) {
    if (message->term < raft->term) {
        // Tells a deposed leader; also what keeps PreVote and CheckQuorum from deadlocking when a
        // node with a higher term cannot win (etcd issue 8334).
        RAFT_COUNT(raft, STALE_MESSAGES);
        reject(raft, message, raft->commit);
        return;
    }
    bool other_leader = raft->leader != 0 && raft->leader != message->peer;
    if (message->term == raft->term && (raft->role == WIRE_ROLE_LEADER || other_leader)) {
        RAFT_COUNT(raft, STALE_MESSAGES); // two leaders in a term: forged, and not to be believed
        return;
    }
    if (message->term > raft->term || raft->role != WIRE_ROLE_FOLLOWER)
        raft_become_follower(raft, message->term, message->peer);
    raft_hear_leader(raft, message->peer);
    if (!entries_in_order(message)) {
        RAFT_COUNT(raft, STALE_MESSAGES);
        return;
    }

    uint64_t prev = message->append.prev_index;
    if (prev > raft->log.last) {
        reject(raft, message, raft->log.last);
        return;
    }
    if (prev > raft->commit && raft_log_term(&raft->log, prev) != message->append.prev_term) {
        reject(raft, message, skip_conflicting_term(raft, prev));
        return;
    }
    accept(raft, message);
}

static uint64_t durable_match(const struct raft *raft) {
    return raft->matched < raft->durable ? raft->matched : raft->durable;
}

bool raft_owes_reply(const struct raft *raft) {
    if (raft->role != WIRE_ROLE_FOLLOWER || raft->leader == 0 || !raft_hard_ready(raft))
        return false;
    return raft->reply_owed || durable_match(raft) > raft->match_reported;
}

void raft_flush_follower(struct raft *raft) {
    if (!raft_owes_reply(raft)) return;
    uint64_t match = durable_match(raft);
    struct raft_message *reply = raft_send(raft, raft->leader, WIRE_APPEND_REPLY);
    if (reply == NULL) return;
    reply->flags = raft->recovering ? WIRE_APPEND_RECOVERING : 0;
    reply->append_reply.life = raft->recovering ? raft->life : 0;
    reply->append_reply.match = match;
    reply->append_reply.hint = raft->matched;
    reply->append_reply.prev = raft->prev_seen;
    reply->append_reply.context = raft->context_seen;
    raft->reply_owed = false;
    raft->match_reported = match;
}
