// The consensus stage: the one thread that owns the Raft core and the state machine of a group.
//
// A round, in order of time: what the disk finished and what arrived become events; one
// raft_step(); messages leave before the own write begins; committed entries are applied and
// answered; the log's new part is handed to the wal stage. Nothing here allocates, waits or calls
// the kernel.
//
//   receive.c    frames to events        reply.c     replies, events, frames going out
//   apply.c      entries and reads       persist.c   log writes, hard state, what the disk reports
//   upkeep.c     expiry, ticks           snapshot.c  local snapshots, restoring
//   transfer.c   snapshots to and from other nodes         wake.c      when the next round is due
#ifndef CONCLAVE_STAGE_CONSENSUS_H
#define CONCLAVE_STAGE_CONSENSUS_H

#include "node.h"
#include "rings.h"
#include "stage_wal.h"
#include "wire.h"

#define STAGE_TX_PACKETS 1024u
#define STAGE_READS      1024u // reads waiting for their confirmation; more are answered busy
// Frames being filled in a round, each for one destination: more only means emptier frames.
#define STAGE_OPEN_FRAMES 16u
// A frame of smallest messages (16 bytes) has at most this many; one is taken only if its events
// fit.
#define STAGE_FRAME_EVENTS ((WIRE_FRAME_MAX - 48u) / 16u)
// Entries decoded in a round: each frame's fit.
#define STAGE_ENTRIES     (PACKET_BURST * (WIRE_APPEND_ENTRY_BYTES / 24u))
#define STAGE_APPLY_MAX   256u // entries applied in a round, so that the next burst is not late
#define STAGE_COMMANDS    4u   // of the leader's own, in a round
#define STAGE_SLICE_BYTES (16u * 1024u) // of a snapshot, in a round: about 10 us of copying

#define STAGE_TICK_NS             (250ull * 1000 * 1000)       // while leases exist
#define STAGE_TICK_IDLE_NS        (10ull * 1000 * 1000 * 1000) // else
#define STAGE_RETRY_SNAPSHOT_NS   (1000ull * 1000 * 1000)      // after one failed
#define STAGE_TRANSFER_STALL_NS   (20ull * 1000 * 1000) // without progress: go back and send again
#define STAGE_TRANSFER_GIVE_UP_NS (5000ull * 1000 * 1000)
#define STAGE_TRANSFER_SILENT_NS  (500ull * 1000 * 1000) // not an answer: others' turn, if any
// A receiver repeats how far it is when a chunk was lost or overtaken, or when it had no room and
// has some again. So many repetitions, or one after so long a silence, mean: go back.
#define STAGE_TRANSFER_REPEATS  3u
#define STAGE_TRANSFER_BELIEVE  6u // of less than was acknowledged: it has begun anew
#define STAGE_TRANSFER_AGAIN_NS (200ull * 1000)
#define STAGE_CHUNK_BYTES       1344u // with its header it fills a frame
#define STAGE_CHUNKS_AHEAD      16u

enum stage_counter {
    STAGE_COUNT_REQUESTS,
    STAGE_COUNT_REPLIES,
    STAGE_COUNT_EVENTS_SENT,
    STAGE_COUNT_BUSY_LOG,   // log full, or not ready to lead yet
    STAGE_COUNT_BUSY_READS, // too many reads waiting
    STAGE_COUNT_NOT_LEADER,
    STAGE_COUNT_BAD_REQUEST,
    STAGE_COUNT_DROP_SOURCE,  // frame of a node from an address that is not its own
    STAGE_COUNT_DROP_TYPE,    // a message this node does not expect from there
    STAGE_COUNT_DROP_TX_FULL, // no packet left to send with
    STAGE_COUNT_READS,
    STAGE_COUNT_READS_ABORTED,
    STAGE_COUNT_DUPLICATES, // answered from a session's cache
    STAGE_COUNT_APPLIED,
    STAGE_COUNT_EXPIRIES, // proposed
    STAGE_COUNT_TICKS,
    STAGE_COUNT_SNAPSHOTS,
    STAGE_COUNT_SNAPSHOTS_FAILED,
    STAGE_COUNT_SNAPSHOTS_SENT,
    STAGE_COUNT_SNAPSHOTS_RECEIVED,
    STAGE_COUNT_CHUNKS_SENT,
    STAGE_COUNT_CHUNKS_RESENT,
    STAGE_COUNT_CHUNKS_REFUSED, // out of order, or not wanted
    STAGE_COUNTERS
};

struct stage_pending { // who is to be answered when the entry at this slot is applied
    uint64_t index;
    uint64_t term;
    uint64_t endpoint;
};

struct stage_read {
    uint64_t endpoint;
    struct {
        struct wire_request request;
        uint8_t name[WIRE_NAME_MAX + 1];
    } asked;
};

struct stage_waiter { // where to send a queued claim's event
    uint64_t claim;
    uint64_t endpoint;
};

struct stage_frame {
    struct wire_writer writer;
    struct packet *packet; // NULL: slot is free
};

enum stage_snapshot_state { SNAPSHOT_IDLE, SNAPSHOT_WRITING, SNAPSHOT_FINISHING };

struct stage_snapshot { // of the own state machine
    enum stage_snapshot_state state;
    uint64_t index, term, time_ns;
    uint64_t offset;               // of the request being filled
    struct store_request *filling; // NULL: none free yet
    uint32_t in_flight;
    uint32_t spill_from, spill_bytes; // read from the machine, not yet in a request
    bool failed;
    uint64_t retry_ns;
    uint64_t newest_index, newest_term, newest_time_ns, newest_bytes; // durable
    bool unreadable; // the newest is, on this node's disk
    uint8_t spill[STAGE_SLICE_BYTES];
};

struct stage_sender { // of the newest snapshot, to one node at a time
    uint16_t peer;    // 0: idle
    uint64_t endpoint;
    uint64_t index, term, time_ns, total;
    uint64_t acked, sent;
    uint64_t progress_ns, heard_ns, sent_ns;
    uint32_t repeats;       // of `acked` by the receiver
    uint32_t lower_repeats; // of less than that, always the same
    uint64_t lower;
    uint64_t
        recover; // what had been sent when it last went back: repetitions up to here are echoes
    struct store_request *block; // with data at block->snapshot.offset, once back
    bool reading;
    bool stale; // a newer snapshot has taken its place: to be ended
};

struct stage_receiver {
    uint16_t peer; // 0: idle
    uint64_t index, term, time_ns, total;
    uint64_t received;
    uint64_t heard_ns;
    uint64_t context; // of the newest chunk
    struct store_request *filling;
    uint32_t in_flight;
    bool final_sent;
    bool failed;
};

struct stage_consensus {
    struct node_options options;
    struct raft *raft;
    struct machine *machine;
    struct counters *counter_list;
    uint64_t now_ns;
    uint64_t started_ns;
    const char *failure;
    char failure_text[200];

    struct rte_ring *from_port, *to_port_empty, *to_port, *from_port_empty;
    struct rte_ring *to_wal, *from_wal;
    const _Atomic uint32_t *wal_used_percent;

    struct packet_pool tx;
    struct stage_frame frames[STAGE_OPEN_FRAMES];
    uint32_t frame_next; // to be closed when all are open

    // This round.
    struct packet *taken[PACKET_BURST];
    uint32_t taken_count;
    struct raft_event events[RAFT_EVENTS_MAX];
    uint32_t event_count;
    struct raft_entry entries[STAGE_ENTRIES];
    uint32_t entry_count;
    struct {               // RAFT_EVENT_PROPOSE of this round, in order
        uint64_t endpoint; // 0: the leader's own
        const struct wire_request *request;
    } proposals[RAFT_EVENTS_MAX];
    uint32_t proposal_count;
    struct {
        const struct wire_head *head;
        uint64_t endpoint;
        uint16_t peer;
    } chunks[PACKET_BURST]; // WIRE_SNAPSHOT and WIRE_SNAPSHOT_REPLY, looked at after the step
    uint32_t chunk_count;
    _Alignas(8) uint8_t commands[STAGE_COMMANDS][WIRE_COMMAND_MAX];
    uint32_t command_count;
    struct raft_effects effects;

    struct stage_pending *pending; // by index & pending_mask
    uint64_t pending_mask;
    uint64_t ticked_ns;           // cluster time of the last tick proposed
    struct stage_waiter *waiters; // by claim slot
    struct stage_read *reads;     // ring: read_first .. read_last, endless
    uint32_t read_first, read_ready, read_last;
    uint64_t read_index; // that the ready ones need

    struct store_request requests[STAGE_WAL_REQUESTS];
    struct store_request *free_append[STAGE_APPENDS];
    uint32_t free_append_count;
    struct store_request *free_snapshot[STAGE_SNAPSHOTS];
    uint32_t free_snapshot_count;
    struct store_request *hard_state; // NULL while in flight
    uint64_t hard_state_sent;         // sequence

    struct stage_snapshot snapshot;
    struct stage_sender sender;
    uint32_t sender_turn; // whose turn it is to be sent one
    struct stage_receiver receiver;
    bool restoring; // the machine is being rebuilt from the newest snapshot
    bool restore_reading;
    uint64_t restore_offset;

    _Atomic uint64_t counters[STAGE_COUNTERS];
};

uint32_t stage_consensus_poll(struct stage_consensus *stage, uint64_t now_ns);
// A poll does nothing before this time (of the caller's clock) unless something comes by a ring; 0:
// it would now. UINT64_MAX: only what comes by a ring can change that. wake.c
uint64_t stage_consensus_wake_ns(const struct stage_consensus *stage);
const char *stage_counter_name(uint32_t counter);
void stage_status(const struct stage_consensus *stage, struct wire_status *status);
void stage_fail(struct stage_consensus *stage, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void stage_count(struct stage_consensus *stage, enum stage_counter counter, uint64_t n);
struct raft_event *stage_event(struct stage_consensus *stage, enum raft_event_type type);
uint64_t stage_endpoint_of(const struct stage_consensus *stage, uint16_t node); // 0: no such

// reply.c
// Room for a message of `length` bytes to this endpoint, head filled in; NULL when no packet is
// left.
void *stage_message(struct stage_consensus *stage, uint64_t endpoint, uint16_t type, uint32_t flags,
                    uint32_t length);
void stage_refuse(struct stage_consensus *stage, uint64_t endpoint,
                  const struct wire_request *request, uint16_t status);
void stage_send_raft(struct stage_consensus *stage);
void stage_flush(struct stage_consensus *stage);

// receive.c
uint32_t stage_receive(struct stage_consensus *stage);
void stage_settle_proposals(struct stage_consensus *stage);
void stage_return_packets(struct stage_consensus *stage);

// apply.c
uint64_t
stage_apply_limit(const struct stage_consensus *stage); // entries up to here may be applied
uint32_t stage_apply(struct stage_consensus *stage);
void stage_release_reads(struct stage_consensus *stage);
uint32_t stage_answer_reads(struct stage_consensus *stage);
void stage_on_notice(void *context, const struct machine_notice *notice);
void stage_remember_waiter(struct stage_consensus *stage, const struct machine_reply *reply,
                           uint64_t endpoint);

// persist.c
uint32_t stage_collect_completions(struct stage_consensus *stage);
uint32_t stage_persist(struct stage_consensus *stage);

// upkeep.c
void stage_upkeep(struct stage_consensus *stage);
uint64_t stage_tick_due(const struct stage_consensus *stage); // in cluster time

// snapshot.c
uint32_t stage_snapshot_step(struct stage_consensus *stage);
bool stage_snapshot_due(const struct stage_consensus *stage);
bool stage_snapshot_wanted(const struct stage_consensus *stage); // due, or as soon as it is retried
// Is the log so full, on disk or in memory, that a snapshot is wanted?
bool stage_log_fills(const struct stage_consensus *stage);
void stage_snapshot_written(struct stage_consensus *stage, struct store_request *request);
void stage_restore_begin(struct stage_consensus *stage);
void stage_restore_go_on(struct stage_consensus *stage);
void stage_restore_read(struct stage_consensus *stage, struct store_request *request);
struct store_request *stage_take_snapshot_request(struct stage_consensus *stage);
void stage_give_snapshot_request(struct stage_consensus *stage, struct store_request *request);
void stage_push(struct stage_consensus *stage, struct store_request *request);

// transfer.c
// All of a received snapshot is here: until it is installed no append may begin.
bool stage_transfer_closing(const struct stage_consensus *stage);
void stage_transfer_messages(struct stage_consensus *stage);
uint32_t stage_transfer_step(struct stage_consensus *stage);
uint64_t stage_transfer_wake_ns(const struct stage_consensus *stage);
void stage_transfer_begin_anew(struct stage_consensus *stage);
void stage_transfer_read(struct stage_consensus *stage, struct store_request *request);
void stage_transfer_written(struct stage_consensus *stage, struct store_request *request);

#endif
