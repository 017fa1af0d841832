// What the files of the Raft core share. One file per received message (recv_*.c), one for role
// transitions and timers (role.c), one each for sending entries (replicate.c), reads (read.c), what
// the disk reports (persist.c) and the invariants checked after every step (invariants.c).
#ifndef CONCLAVE_RAFT_INTERNAL_H
#define CONCLAVE_RAFT_INTERNAL_H

#include <assert.h>

#include "log.h"
#include "raft.h"

// Entries and bytes only an election's no-op may use, so that a full log can still get a leader. 64
// elections without one compaction between them are a broken cluster.
#define RAFT_NOOP_RESERVE 64u
// No cluster gets here by elections. A message that claims to have is broken, and believing it
// would leave no term to elect anybody in.
#define RAFT_TERM_MAX (UINT64_MAX / 2)
// A leader whose own disk has not finished a write for this many election time-outs hands over:
// long enough for a hiccup, short enough that clients see a pause and not an outage.
#define RAFT_DISK_STALL_ELECTIONS 10u

enum raft_peer_state {
    RAFT_PEER_PROBE,     // where its log meets ours is not known: one message at a time
    RAFT_PEER_REPLICATE, // pipelined (thesis 10.2.1)
    RAFT_PEER_SNAPSHOT,  // what it needs is compacted away
};

struct raft_peer {
    uint16_t id;
    uint8_t number; // in options.nodes
    enum raft_peer_state state;
    uint64_t next;  // next entry to send
    uint64_t match; // highest entry known to be durable there and equal to ours
    uint64_t context_sent;
    uint64_t context_acked;
    uint64_t heard_ns;
    uint64_t sent_ns;
    uint64_t recover_target; // match needed before it may vote again
    uint32_t life;           // of a recovering one: "recovered" is said to this life only
    bool probe_sent;
    bool recovering;
    bool vote_answered;
    bool vote_granted;
};

struct raft_read_batch {
    uint64_t context;
    uint64_t index;
    uint32_t count;
};

struct raft {
    struct raft_options options;
    struct raft_log log;
    uint64_t now_ns;
    uint64_t random;

    // Persistent (figure 3.1), written by the caller as hard state.
    uint64_t term;
    uint16_t vote;
    uint64_t hard_sequence; // of the newest (term, vote)
    uint64_t hard_durable;

    enum wire_role role;
    uint16_t leader;
    uint64_t leader_heard_ns;
    uint64_t election_deadline_ns;
    uint64_t resend_ns; // candidates ask again then

    uint64_t commit;
    uint64_t durable;      // own log, on own disk
    uint64_t persist_next; // first entry not yet handed to the log writer
    uint64_t epoch;        // counts truncations
    uint64_t durable_moved_ns;
    uint64_t last_got_ns; // own clock, when the last entry of the log came here, or later

    // Follower.
    uint64_t matched; // highest entry known equal to the current leader's
    uint64_t match_reported;
    uint64_t context_seen;
    uint64_t prev_seen;
    bool reply_owed;
    uint16_t vote_owed; // candidate to answer once the vote is durable
    bool recovering;
    uint32_t life;      // drawn at start: tells this node from what it was before it lost its log
    bool restore_stale; // raft_restore_entry()

    // Leader.
    uint64_t led_since_ns;
    uint64_t time_base_ns;
    uint64_t noop_index;
    uint64_t context;
    uint64_t context_ns;    // when it was last raised by the heartbeat
    uint32_t reads_waiting; // not yet in a batch
    uint32_t read_first;    // ring of batches: read_first .. read_last (endless)
    uint32_t read_last;
    struct raft_read_batch reads[RAFT_READ_BATCHES];

    uint32_t peer_count;
    struct raft_peer peers[RAFT_NODES_MAX - 1];

    struct raft_effects *effects; // during a step only
    uint64_t commit_checked;      // invariants: may only rise
    uint64_t counters[RAFT_COUNTERS];
};

// One writer, readers on any thread: a plain store on every processor, but said to be atomic.
#define RAFT_COUNT_N(raft, name, n)                                                                \
    __atomic_store_n(&(raft)->counters[RAFT_COUNT_##name],                                         \
                     (raft)->counters[RAFT_COUNT_##name] + (n), __ATOMIC_RELAXED)
#define RAFT_COUNT(raft, name) RAFT_COUNT_N(raft, name, 1)

static inline uint32_t raft_majority(const struct raft *raft) {
    return raft->options.node_count / 2u + 1u;
}
static inline bool raft_hard_ready(const struct raft *raft) {
    return raft->hard_durable == raft->hard_sequence;
}
struct raft_peer *raft_peer_by_id(struct raft *raft, uint16_t id);
// Room for one more outgoing message, zeroed but for peer, type and term; NULL when the step has
// produced all it may.
struct raft_message *raft_send(struct raft *raft, uint16_t peer, uint16_t type);

// role.c
void raft_become_follower(struct raft *raft, uint64_t term, uint16_t leader);
void raft_become_leader(struct raft *raft);
void raft_campaign(struct raft *raft);
void raft_reset_election_deadline(struct raft *raft);
void raft_ask_for_votes(struct raft *raft);
void raft_count_votes(struct raft *raft);
void raft_tick(struct raft *raft);
bool raft_disk_stalled(const struct raft *raft);
void raft_hear_leader(struct raft *raft, uint16_t leader);

// recv_*.c
void raft_recv_vote(struct raft *raft, const struct raft_message *message);
void raft_recv_vote_reply(struct raft *raft, const struct raft_message *message);
void raft_recv_append(struct raft *raft, const struct raft_message *message);
void raft_recv_append_reply(struct raft *raft, const struct raft_message *message);
void raft_recv_snapshot(struct raft *raft, const struct raft_message *message);
// A snapshot holds committed state only. Where its last entry is in our log, the logs are equal up
// to there (3.5, Log Matching) and nothing needs to be installed: true.
bool raft_meet_snapshot(struct raft *raft, uint64_t index, uint64_t term);
void raft_recv_snapshot_reply(struct raft *raft, const struct raft_message *message);
void raft_answer_vote(struct raft *raft, uint16_t candidate, uint32_t flags, uint64_t term);
// What a follower has acknowledged is not all it could.
bool raft_owes_reply(const struct raft *raft);
void raft_flush_follower(struct raft *raft);

// replicate.c
void raft_replicate(struct raft *raft);
void raft_advance_commit(struct raft *raft);
bool raft_append_own(struct raft *raft, uint8_t type, const void *data, uint16_t length);
void raft_truncate(struct raft *raft, uint64_t from);
void raft_peer_heard(struct raft *raft, struct raft_peer *peer, uint64_t context);

// read.c
void raft_read_request(struct raft *raft);
void raft_read_abort(struct raft *raft);
void raft_read_advance(struct raft *raft);

// persist.c
void raft_change_hard_state(struct raft *raft, uint64_t term, uint16_t vote);
void raft_end_recovery(struct raft *raft);
void raft_on_durable(struct raft *raft, uint64_t index, uint64_t term, uint64_t epoch);
void raft_on_hard_state_durable(struct raft *raft, uint64_t sequence);
void raft_on_compact(struct raft *raft, uint64_t index);
void raft_on_snapshot_sent(struct raft *raft, uint16_t peer, uint64_t index);
void raft_on_snapshot_installed(struct raft *raft, uint64_t index, uint64_t term, uint64_t time_ns);

// invariants.c
void raft_check_invariants(struct raft *raft);

#endif
