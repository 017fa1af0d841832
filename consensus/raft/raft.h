// The Raft core: one pure step function, events in, effects out (Ongaro's thesis, "Consensus:
// Bridging Theory and Practice", 2014; section numbers below are the thesis's).
//
// Purity: no system call, clock, thread, random source or allocation. Time is an argument, chance
// is a seed, memory is given once by the caller. So the same code runs under a packet loop and
// under a simulator, and the same events always give the same effects.
//
// The caller's duties, in order, each round:
//  1. Gather events and call raft_step() once with them. Effects are valid until the next call.
//  2. Send effects->messages. Entries of an outgoing append are read with raft_entry_at(). Sending
//     may fail silently; Raft repairs losses.
//  3. If effects->hard_state_changed: write raft_hard_state() durably, then feed
//     RAFT_EVENT_HARD_STATE_DURABLE with its sequence. Until then Raft withholds by itself what
//     must not be said earlier.
//  4. When a log writer is free: take raft_unpersisted(), write those entries in order, call
//     raft_persist_begun() at once and feed RAFT_EVENT_DURABLE when the write is durable. Writes
//     must complete in the order begun. A record with an index already written replaces it and all
//     after.
//  5. Apply entries up to raft_commit() in order, each exactly once.
//  6. For effects->reads: run that many reads, oldest first, once applied >= their index; on
//     effects->reads_aborted answer not_leader.
//  7. For peers in effects->snapshot_peers: send them the newest snapshot; feed
//     RAFT_EVENT_SNAPSHOT_SENT when the peer has it durably.
//  8. Take a snapshot only of a state whose last applied entry is durable in this node's own log
//     (applied <= raft_durable()): else the disk could hold a snapshot with another leader's
//     truncated entries behind it, and a restart would join the two. When it is durable, feed
//     RAFT_EVENT_COMPACT.
//
// Cluster time. Every entry carries `time_ns`: the leader's own clock, continued from the time of
// the last entry in its log at its election and the time since that entry came there. Along any log
// it never goes back, and between two entries never more of it passes than real time did (but for
// clock drift); less only by what messages were under way and nodes were down. So deadlines
// computed from it are safe to expire by, survive elections, and are neither reset nor shortened by
// them.
#ifndef CONCLAVE_RAFT_H
#define CONCLAVE_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conclave_wire.h"

// Voters in a group. Nine tolerate four failures; beyond that the leader's fan-out costs more than
// the safety gains.
#define RAFT_NODES_MAX 9u
#define RAFT_ENTRY_MAX 1344u // bytes of one entry: WIRE_APPEND_ENTRY_BYTES less its header
// Messages one step may produce. 32 events bring at most one reply each, and each of 8 peers gets
// at most RAFT_BURST appends plus one heartbeat.
#define RAFT_EVENTS_MAX   256u
#define RAFT_BURST        16u
#define RAFT_MESSAGES_MAX (RAFT_EVENTS_MAX + (RAFT_NODES_MAX - 1) * (RAFT_BURST + 2))
#define RAFT_READ_BATCHES 64u

enum raft_entry_type { RAFT_ENTRY_NOOP = 1, RAFT_ENTRY_COMMAND = 2 };

struct raft_entry {
    uint64_t term;
    uint64_t time_ns;
    const void *data; // owned by the log (or by the caller, in an event); not kept
    uint16_t length;
    uint8_t type; // enum raft_entry_type
};

struct raft_message {
    uint16_t peer;  // to (effects) or from (events): node id
    uint16_t type;  // enum wire_type, WIRE_VOTE .. WIRE_SNAPSHOT_REPLY
    uint32_t flags; // WIRE_VOTE_*, WIRE_APPEND_*
    uint64_t term;
    union {
        struct {
            uint64_t last_index;
            uint64_t last_term;
        } vote;
        struct {
            uint64_t prev_index;
            uint64_t prev_term;
            uint64_t commit;
            uint64_t context;
            uint32_t count;
            uint32_t life; // of the node that has recovered, as its replies told it; else 0
            const struct raft_entry
                *entries; // incoming only; outgoing: raft_entry_at(prev_index + 1 ..)
        } append;
        struct {
            uint64_t match;
            uint64_t hint;
            uint64_t prev;
            uint64_t context;
            uint32_t life; // of a node that is recovering: drawn at its start, not 0; else 0
        } append_reply;
        struct { // WIRE_SNAPSHOT and its reply: the core checks terms, the caller moves the bytes
            uint64_t last_index;
            uint64_t last_term;
            uint64_t context;
        } snapshot;
    };
};

enum raft_event_type {
    RAFT_EVENT_MESSAGE = 1,
    RAFT_EVENT_PROPOSE,
    RAFT_EVENT_READ,               // one linearizable read
    RAFT_EVENT_DURABLE,            // a log write completed
    RAFT_EVENT_HARD_STATE_DURABLE, // term and vote are on disk
    RAFT_EVENT_COMPACT,            // entries up to index are in a durable snapshot
    RAFT_EVENT_SNAPSHOT_SENT,      // peer has the snapshot at index durably
    RAFT_EVENT_SNAPSHOT_FAILED,    // sending to peer was given up
    // This node has received a snapshot durably. Unless its last entry is in the log by now, the
    // log restarts after it (raft_first() is then index + 1), and the caller restores the state
    // machine.
    RAFT_EVENT_SNAPSHOT_INSTALLED,
};

struct raft_event {
    enum raft_event_type type;
    union {
        struct raft_message message;
        struct {
            const void *data;
            uint16_t length;
        } propose;
        struct { // exactly as raft_unpersisted() gave them
            uint64_t index;
            uint64_t term;
            uint64_t epoch;
        } durable;
        struct {
            uint64_t sequence;
        } hard_state;
        struct {
            uint16_t peer;
            uint64_t index;
            uint64_t term;
            uint64_t time_ns; // of the entry at index; INSTALLED only
        } snapshot;
    };
};

struct raft_hard_state {
    uint64_t term;
    uint16_t vote; // 0: none
    uint64_t sequence;
    // raft_options.recovering until a leader said otherwise: to be given back after a restart.
    bool recovering;
};

struct raft_read_release {
    uint32_t count;
    uint64_t index; // applied must reach this before they run
};

struct raft_effects {
    uint32_t message_count;
    uint32_t proposed; // of this step's RAFT_EVENT_PROPOSE, the first so many were appended ...
    uint64_t proposed_first; // ... at consecutive indices from here; the rest were refused
    uint64_t proposed_term;  // ... in this term: by now other entries may lie there
    uint32_t read_count;
    uint32_t reads_aborted;  // the oldest so many reads will not be answered here
    uint32_t snapshot_peers; // bit i: nodes[i] needs the newest snapshot (repeated each step)
    bool hard_state_changed;
    bool role_changed;
    struct raft_read_release reads[RAFT_READ_BATCHES];
    struct raft_message messages[RAFT_MESSAGES_MAX];
};

struct raft_options {
    uint16_t id;
    uint16_t node_count; // voters, this node included; 1 to RAFT_NODES_MAX
    uint16_t nodes[RAFT_NODES_MAX];
    uint64_t election_ns;    // a follower waits between this and twice this (3.4)
    uint64_t heartbeat_ns;   // at most a third of election_ns
    uint32_t log_entries;    // power of two
    uint32_t log_bytes;      // power of two; at least 4 * RAFT_ENTRY_MAX
    uint32_t window_entries; // unacknowledged entries a peer may have
    uint64_t seed;           // for election time-outs; differs per node
    const void *noop;        // carried by the entry each new leader appends; kept by reference
    uint16_t noop_length;
    bool recovering; // log was lost (memory durability): do not vote before a leader says
                     // "recovered"
};

struct raft; // opaque

// Bytes of memory that raft_create() needs for these options, aligned to 64.
size_t raft_bytes(const struct raft_options *options);
// Returns NULL where options are out of range. `memory` stays the caller's.
struct raft *raft_create(void *memory, const struct raft_options *options);

// Restart (before raft_start): hard state, then snapshot, then entries in WAL order.
void raft_restore_hard_state(struct raft *raft, uint64_t term, uint16_t vote);
void raft_restore_snapshot(struct raft *raft, uint64_t index, uint64_t term, uint64_t time_ns);
// An index already present replaces it and all after. False: it does not follow on, or no room.
bool raft_restore_entry(struct raft *raft, uint64_t index, const struct raft_entry *entry);
void raft_start(struct raft *raft, uint64_t now_ns);

// One round. now_ns is any monotonic clock and must not go back. count <= RAFT_EVENTS_MAX; 0 is a
// mere passing of time.
void raft_step(struct raft *raft, uint64_t now_ns, const struct raft_event *events, uint32_t count,
               struct raft_effects *effects);
// A step without events does nothing before this time; 0: it may now. To be asked again after each
// step.
uint64_t raft_wake_ns(const struct raft *raft);

// Entries not yet handed to the log writer: [*first, returned count). *epoch rises with each
// truncation and must come back in RAFT_EVENT_DURABLE together with the last index and its term.
uint64_t raft_unpersisted(const struct raft *raft, uint64_t *first, uint64_t *epoch);
// The caller has begun to write entries up to `last`.
void raft_persist_begun(struct raft *raft, uint64_t last);

struct raft_entry raft_entry_at(const struct raft *raft, uint64_t index); // first <= index <= last
struct raft_hard_state raft_hard_state(const struct raft *raft);
enum wire_role raft_role(const struct raft *raft);
uint64_t raft_term(const struct raft *raft);
uint16_t raft_leader(const struct raft *raft); // 0: unknown
uint64_t raft_first(const struct raft *raft);  // first index in memory
uint64_t raft_last(const struct raft *raft);
uint64_t raft_commit(const struct raft *raft);
uint64_t raft_durable(const struct raft *raft);
bool raft_recovering(const struct raft *raft);
// True once this leader has committed an entry of its own term: the state machine is current.
bool raft_leader_ready(const struct raft *raft);
// Entries and bytes that can still be appended; 0 also when not leader.
bool raft_can_propose(const struct raft *raft, uint32_t entries, uint32_t bytes);
// Part of the in-memory log in use, 0 to 100: a caller takes a snapshot when this grows.
uint32_t raft_log_used_percent(const struct raft *raft);
uint64_t raft_term_at(const struct raft *raft, uint64_t index); // 0: not known
// A snapshot chunk from this peer in this term, for this last index, is wanted here.
bool raft_wants_snapshot(const struct raft *raft, uint16_t peer, uint64_t term,
                         uint64_t last_index);
// Cluster time now, as this leader would stamp an entry. Only while leader.
uint64_t raft_time(const struct raft *raft, uint64_t now_ns);
uint64_t raft_when(const struct raft *raft, uint64_t time_ns); // the inverse; UINT64_MAX: never
uint64_t raft_context(const struct raft *raft); // newest context, to be put into snapshot chunks

// Counters, by name for people; values since creation. May be read from any thread.
enum raft_counter {
    RAFT_COUNT_ELECTIONS_STARTED, // real candidacies
    RAFT_COUNT_PREVOTES_STARTED,
    RAFT_COUNT_TERMS_LED,
    RAFT_COUNT_STEPPED_DOWN_QUORUM, // CheckQuorum (6.2)
    RAFT_COUNT_STEPPED_DOWN_DISK,   // own disk stalled
    RAFT_COUNT_APPENDS_REJECTED,    // sent by this node
    RAFT_COUNT_APPENDS_RESENT,      // probes after a rejection or silence
    RAFT_COUNT_ENTRIES_TRUNCATED,
    RAFT_COUNT_STALE_MESSAGES,
    RAFT_COUNT_STALE_DURABLE,
    RAFT_COUNT_PROPOSALS_REFUSED,
    RAFT_COUNT_LOG_FULL, // a follower had no room for an entry
    RAFT_COUNTERS
};
uint64_t raft_counter(const struct raft *raft, enum raft_counter counter);
const char *raft_counter_name(enum raft_counter counter);

#endif
