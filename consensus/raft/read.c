// Linearizable reads without log writes: ReadIndex (thesis 6.4), batched. All reads of a step share
// one confirmation: the commit index is noted, a fresh context number goes out with whatever is
// sent next, and when a majority has echoed it the leader was still leader after the reads arrived.
#include "raft_internal.h"

void raft_read_request(struct raft *raft) {
    if (raft->role == WIRE_ROLE_LEADER)
        raft->reads_waiting++;
    else
        raft->effects->reads_aborted++;
}

void raft_read_abort(struct raft *raft) {
    uint32_t count = raft->reads_waiting;
    while (raft->read_first != raft->read_last)
        count += raft->reads[raft->read_first++ % RAFT_READ_BATCHES].count;
    raft->reads_waiting = 0;
    if (raft->effects != NULL) raft->effects->reads_aborted += count;
}

// The newest context that a majority, this node included, has confirmed.
static uint64_t majority_context(const struct raft *raft) {
    uint64_t acked[RAFT_NODES_MAX];
    uint32_t count = 0;
    acked[count++] = raft->context;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        uint64_t value = raft->peers[i].context_acked;
        uint32_t at = count++;
        while (at > 0 && acked[at - 1] < value) {
            acked[at] = acked[at - 1];
            at--;
        }
        acked[at] = value;
    }
    return acked[raft_majority(raft) - 1];
}

void raft_read_advance(struct raft *raft) {
    if (raft->role != WIRE_ROLE_LEADER) return;
    bool room = raft->read_last - raft->read_first < RAFT_READ_BATCHES;
    // Before an entry of the own term is committed the commit index may lag behind what an earlier
    // leader answered: reads wait.
    if (raft->reads_waiting > 0 && room && raft_leader_ready(raft)) {
        struct raft_read_batch *batch = &raft->reads[raft->read_last++ % RAFT_READ_BATCHES];
        batch->context = ++raft->context;
        batch->index = raft->commit;
        batch->count = raft->reads_waiting;
        raft->reads_waiting = 0;
    }
    uint64_t confirmed = majority_context(raft);
    while (raft->read_first != raft->read_last) {
        const struct raft_read_batch *batch = &raft->reads[raft->read_first % RAFT_READ_BATCHES];
        if (batch->context > confirmed) break;
        raft->effects->reads[raft->effects->read_count++] =
            (struct raft_read_release){.count = batch->count, .index = batch->index};
        raft->read_first++;
    }
}
