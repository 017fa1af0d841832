// Conclave's wire format: every byte that crosses a network, and every byte of a command in the
// log.
//
// One UDP datagram is one frame: a `wire_frame` header and then one or more messages, each starting
// with a `wire_head` and each a multiple of 8 bytes long. All integers are little-endian; all
// structs are packed by construction (size and offset asserts below, no padding anywhere).
//
//   +-------------+------------------+------------------+----
//   | wire_frame  | wire_head + body | wire_head + body | ...
//   +-------------+------------------+------------------+----
//
// Between nodes the bodies are Raft's RPCs (Ongaro's thesis, figure 3.1 and sections 4 to 6
// and 9.6). Between client and node they are requests and replies. A `wire_request` is also, byte
// for byte, the command that is appended to the log: the leader validates it once and copies it.
//
// Integrity: while `key_epoch` is 0 the first 4 bytes of `tag` hold the CRC32C of the whole frame
// taken with `tag` zeroed, and the other 12 are zero. A later key epoch puts an AEAD tag there.
//
// This header defines layout only. The codec that checks frames is dataplane/wire/wire.h.
#ifndef CONCLAVE_WIRE_H
#define CONCLAVE_WIRE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAGIC   0x4c434e43u // "CNCL" as it lies in memory
#define WIRE_VERSION 1

// A frame must fit an Ethernet MTU of 1500 without IP fragmentation: 1500 - 20 (IPv4) - 8 (UDP).
#define WIRE_FRAME_MAX 1472u
// SEMANTICS: a name has 1 to 255 bytes, a value up to 1024, so that one entry fits one frame.
#define WIRE_NAME_MAX  255u
#define WIRE_VALUE_MAX 1024u

// TTL bounds in milliseconds (SEMANTICS: 10 ms to 24 h).
#define WIRE_TTL_MS_MIN 10u
#define WIRE_TTL_MS_MAX (24u * 60u * 60u * 1000u)
// `amount` of a LOCK_ACQUIRE: 0 tries, this value waits for ever, anything else is milliseconds.
#define WIRE_WAIT_FOREVER UINT64_MAX
// A bounded wait is at most as long as the longest lease: no claim can outlive its lease anyway.
#define WIRE_WAIT_MS_MAX WIRE_TTL_MS_MAX

// A client may have this many sequences open: replies are cached for exactly this many.
#define WIRE_SESSION_WINDOW 32u

struct wire_frame {
    uint32_t magic;
    uint8_t version;
    uint8_t flags;    // none defined; must be 0
    uint16_t length;  // bytes of the whole frame, this header included
    uint64_t cluster; // 0 only in a client's WIRE_OP_STATUS, to learn the cluster's id
    uint32_t group;   // Raft group
    uint16_t source;  // node id of the sender, 0 for a client
    uint16_t key_epoch;
    uint64_t counter; // packets sent by this sender under this key epoch; 0 while unauthenticated
    uint8_t tag[16];
};
static_assert(sizeof(struct wire_frame) == 48, "frame header is 48 bytes");
static_assert(offsetof(struct wire_frame, cluster) == 8, "no padding");
static_assert(offsetof(struct wire_frame, counter) == 24, "no padding");
static_assert(offsetof(struct wire_frame, tag) == 32, "no padding");

enum wire_type {
    WIRE_VOTE = 1, // RequestVote, and PreVote with its flag
    WIRE_VOTE_REPLY = 2,
    WIRE_APPEND = 3, // AppendEntries; a heartbeat when it carries no entry
    WIRE_APPEND_REPLY = 4,
    WIRE_SNAPSHOT = 5, // one chunk of InstallSnapshot
    WIRE_SNAPSHOT_REPLY = 6,
    WIRE_REQUEST = 32,
    WIRE_REPLY = 33,
    WIRE_EVENT = 34, // sent without being asked: a queued claim was granted or removed
};

struct wire_head {
    uint16_t type;   // enum wire_type
    uint16_t length; // of the whole message with this head; a multiple of 8
    uint32_t flags;  // by type; undefined bits must be 0
};
static_assert(sizeof(struct wire_head) == 8, "message head is 8 bytes");

// ---------------------------------------------------------------- node to node

#define WIRE_VOTE_PREVOTE 1u // flags of WIRE_VOTE and WIRE_VOTE_REPLY: nothing is persisted
#define WIRE_VOTE_GRANTED 2u // flags of WIRE_VOTE_REPLY

struct wire_vote { // thesis 3.4, PreVote 9.6
    struct wire_head head;
    uint64_t term; // PreVote: the term the candidate would start
    uint64_t last_index;
    uint64_t last_term;
};
static_assert(sizeof(struct wire_vote) == 32, "vote is 32 bytes");

struct wire_vote_reply {
    struct wire_head head;
    uint64_t term; // the term asked for when granted, else the voter's term
};
static_assert(sizeof(struct wire_vote_reply) == 16, "vote reply is 16 bytes");

struct wire_append { // thesis 3.5; followed by `count` entries, each wire_entry + bytes padded to 8
    struct wire_head head;
    uint64_t term;
    uint64_t prev_index;
    uint64_t prev_term;
    uint64_t commit;
    uint64_t context; // echoed in the reply; ReadIndex rounds and CheckQuorum count by it (6.4)
    uint32_t count;
    uint32_t life; // with WIRE_APPEND_RECOVERED: of the node this is said of, as it told it; else 0
};
static_assert(sizeof(struct wire_append) == 56, "append is 56 bytes");

#define WIRE_APPEND_RECOVERED 1u // flags of WIRE_APPEND: the leader has seen this node catch up

// Room for entries in one WIRE_APPEND that travels alone in its frame.
#define WIRE_APPEND_ENTRY_BYTES (WIRE_FRAME_MAX - 48u - 56u)

struct wire_entry {
    uint64_t term;
    uint64_t time_ns; // cluster time at proposal, see consensus/raft/raft.h
    uint16_t length;  // of the bytes that follow, before padding to 8
    uint8_t type;     // enum raft_entry_type
    uint8_t reserved8;
    uint32_t reserved;
};
static_assert(sizeof(struct wire_entry) == 24, "entry is 24 bytes");

#define WIRE_APPEND_REJECTED                                                                       \
    1u // flags: prev_index/prev_term did not match; `hint` says where to go
#define WIRE_APPEND_RECOVERING                                                                     \
    2u // flags: this node lost its log (memory durability) and may not vote

struct wire_append_reply {
    struct wire_head head;
    uint64_t term;
    uint64_t match;   // highest index durable here and known equal to the leader's log
    uint64_t hint;    // accepted: last index received in order; rejected: try prev_index = hint
    uint64_t prev;    // the prev_index this answers, so a stale rejection can be told
    uint64_t context; // echoed
    uint32_t life;    // with WIRE_APPEND_RECOVERING: drawn at this node's start, not 0; else 0
    uint32_t reserved;
};
static_assert(sizeof(struct wire_append_reply) == 56, "append reply is 56 bytes");

struct wire_snapshot { // thesis 5.3; followed by the chunk's bytes, padded to 8
    struct wire_head head;
    uint64_t term;
    uint64_t last_index;
    uint64_t last_term;
    uint64_t offset;
    uint64_t total;   // bytes of the whole snapshot
    uint64_t time_ns; // cluster time of the entry at last_index
    uint64_t context; // as in wire_append: a chunk also counts as a heartbeat
    uint32_t bytes;
    uint32_t reserved;
};
static_assert(sizeof(struct wire_snapshot) == 72, "snapshot is 72 bytes");

struct wire_snapshot_reply {
    struct wire_head head;
    uint64_t term;
    uint64_t last_index; // of the snapshot being received
    uint64_t offset;     // next byte wanted; `total` when all of it is durable
    uint64_t context;
};
static_assert(sizeof(struct wire_snapshot_reply) == 40, "snapshot reply is 40 bytes");

// ---------------------------------------------------------------- client to node, and the log

enum wire_op {
    // Logged: replicated, then applied once (session, sequence).
    WIRE_OP_SESSION_OPEN = 1, // token: client's random nonce, not 0         -> token: session
    WIRE_OP_LEASE_GRANT =
        2, // amount: ttl_ms                              -> token: lease, amount: ttl_ms
    WIRE_OP_LEASE_KEEPALIVE = 3, // lease                                       -> amount: ttl_ms
    WIRE_OP_LEASE_REVOKE = 4,    // lease
    WIRE_OP_LOCK_ACQUIRE =
        5, // name, lease, mode, amount: wait             -> token; or QUEUED with token: claim
    WIRE_OP_LOCK_RELEASE = 6, // name, token
    // Reads: linearizable by ReadIndex, never logged.
    WIRE_OP_LEASE_TTL = 64,    // lease          -> amount: remaining_ms, token: ttl_ms
    WIRE_OP_LOCK_HOLDERS = 65, // name           -> amount: how many; value: wire_claim[]
    WIRE_OP_LOCK_QUEUE = 66, // name, amount: skip this many -> amount: length; value: wire_claim[]
    WIRE_OP_CLAIM = 67,      // name, lease, token: claim -> as LOCK_ACQUIRE would answer now
    // Served by any node from its own memory, no consistency promised.
    WIRE_OP_STATUS = 96,   //                -> value: wire_status
    WIRE_OP_COUNTERS = 97, // amount: skip   -> amount: how many in all; value: wire_counter[]
    // Proposed by the leader itself; refused from the network.
    WIRE_OP_EXPIRE_LEASES = 0x8001, // value: wire_expiry[]
    WIRE_OP_EXPIRE_WAITS = 0x8002,  // value: wire_wait_expiry[]
    WIRE_OP_TICK = 0x8003, // carries cluster time forward; amount, token: the leader's applied
                           // index and state hash there, compared by every replica
};

static inline int wire_op_is_logged(uint16_t op) {
    return op >= WIRE_OP_SESSION_OPEN && op <= WIRE_OP_LOCK_RELEASE;
}
static inline int wire_op_is_read(uint16_t op) {
    return op >= WIRE_OP_LEASE_TTL && op <= WIRE_OP_CLAIM;
}
static inline int wire_op_is_local(uint16_t op) {
    return op == WIRE_OP_STATUS || op == WIRE_OP_COUNTERS;
}
static inline int wire_op_is_internal(uint16_t op) {
    return op >= WIRE_OP_EXPIRE_LEASES && op <= WIRE_OP_TICK;
}

enum wire_mode {
    WIRE_MODE_EXCLUSIVE = 0, // later: shared, permits
};

struct wire_request { // followed by name, then value, then zero padding to 8
    struct wire_head head;
    uint64_t session;  // 0 for SESSION_OPEN, reads and local operations
    uint64_t sequence; // logged: rises by one per new request of the session, retries repeat it;
                       // reads: any number, echoed
    uint16_t op;       // enum wire_op
    uint8_t mode;      // enum wire_mode
    uint8_t name_length;
    uint16_t value_length;
    uint16_t reserved;
    uint64_t lease;
    uint64_t token;
    uint64_t amount;
};
static_assert(sizeof(struct wire_request) == 56, "request is 56 bytes");

// The longest command, and so the longest log entry: header, name, value, padding.
#define WIRE_COMMAND_MAX 1336u
static_assert(WIRE_COMMAND_MAX == ((56u + WIRE_NAME_MAX + WIRE_VALUE_MAX + 7u) & ~7u),
              "padded sum");
static_assert(WIRE_COMMAND_MAX + sizeof(struct wire_entry) <= WIRE_APPEND_ENTRY_BYTES,
              "one entry always fits one frame");

// Status codes: the same numbers on the wire, in the state machine and in the client library
// (conclave.h repeats them as CONCLAVE_*, checked by a static assert there). Never renumber.
enum wire_status_code {
    WIRE_OK = 0,
    WIRE_QUEUED = 1,     // not an error: the claim waits in the queue
    WIRE_NOT_LEADER = 2, // token: leader's node id or 0, amount: leader's endpoint or 0
    WIRE_BUSY = 3,       // refused before it was accepted; nothing happened; try again
    WIRE_NO_LEASE = 4,   // never granted, revoked, or expired and forgotten
    WIRE_LEASE_EXPIRED = 5,
    WIRE_NOT_HOLDER = 6,  // this token does not hold this lock
    WIRE_WOULD_BLOCK = 7, // try-lock on a held lock; token: the holder's token
    WIRE_WAIT_TIMEOUT = 8,
    WIRE_STALE_TOKEN = 9,
    WIRE_TOO_LARGE = 10,
    WIRE_FULL = 11, // a table of the state machine is at its limit; detail names it
    WIRE_COMPACTED = 12,
    WIRE_BAD_REQUEST = 13,
    WIRE_UNAUTHENTICATED = 14,
    WIRE_DENIED = 15,
    WIRE_UNKNOWN = 16,        // client side only: the outcome is not known
    WIRE_NO_SESSION = 17,     // session never opened or evicted: open another, do not resend
    WIRE_STALE_SEQUENCE = 18, // below the session's window: executed before or never, not now
    WIRE_STATUS_COUNT
};

struct wire_reply { // followed by `value_length` bytes, then zero padding to 8
    struct wire_head head;
    uint64_t session;
    uint64_t sequence;
    uint16_t op;
    uint16_t status; // enum wire_status_code
    uint16_t value_length;
    uint16_t detail; // WIRE_FULL: enum wire_table; else 0
    uint64_t token;
    uint64_t amount;
    uint64_t index; // log index applied (logged) or the read index (reads)
};
static_assert(sizeof(struct wire_reply) == 56, "reply is 56 bytes");

enum wire_table { WIRE_TABLE_SESSION = 1, WIRE_TABLE_LEASE, WIRE_TABLE_LOCK, WIRE_TABLE_CLAIM };

struct wire_event { // to the address that last asked for the claim; may be lost: poll WIRE_OP_CLAIM
    struct wire_head head;
    uint64_t session;
    uint64_t claim;
    uint64_t lease;
    uint64_t token; // when granted
    uint16_t
        status; // WIRE_OK granted, WIRE_WAIT_TIMEOUT, WIRE_LEASE_EXPIRED, WIRE_NO_LEASE (revoked)
    uint16_t reserved16;
    uint32_t reserved;
    uint64_t index;
};
static_assert(sizeof(struct wire_event) == 56, "event is 56 bytes");

struct wire_claim { // one holder or waiter
    uint64_t claim; // log index at which it was asked for
    uint64_t lease;
    uint64_t token;    // 0 while waiting
    uint64_t session;  // who asked
    uint64_t since_ms; // cluster time since it holds or waits, milliseconds ago
};
static_assert(sizeof(struct wire_claim) == 40, "claim is 40 bytes");

struct wire_expiry { // EXPIRE_LEASES: refused at apply unless both match
    uint64_t lease;
    uint64_t term;     // the leader's term when it proposed; must equal the entry's
    uint64_t renewals; // the lease's renewal epoch it saw
};
static_assert(sizeof(struct wire_expiry) == 24, "expiry is 24 bytes");

struct wire_wait_expiry { // EXPIRE_WAITS: ignored at apply unless that very claim still waits
    uint64_t claim;
    uint64_t lock; // log index that created the lock record
    uint64_t lease;
};
static_assert(sizeof(struct wire_wait_expiry) == 24, "wait expiry is 24 bytes");

enum wire_role {
    WIRE_ROLE_FOLLOWER = 0,
    WIRE_ROLE_PRECANDIDATE,
    WIRE_ROLE_CANDIDATE,
    WIRE_ROLE_LEADER
};
#define WIRE_STATUS_MEMORY     1u // flags: durability = memory
#define WIRE_STATUS_RECOVERING 2u // flags: does not vote yet

struct wire_status {
    uint64_t cluster;
    uint16_t node;
    uint16_t leader; // 0 unknown
    uint8_t role;    // enum wire_role
    uint8_t flags;
    uint16_t nodes;
    uint64_t leader_endpoint; // wire_endpoint_pack, 0 unknown
    uint64_t term;
    uint64_t commit;
    uint64_t applied;
    uint64_t durable;
    uint64_t first;    // first index still in the log
    uint64_t snapshot; // index of the newest durable snapshot, 0 none
    uint64_t uptime_ms;
    uint32_t sessions;
    uint32_t leases;
    uint32_t locks;
    uint32_t claims;
    uint64_t state_hash; // rolling, at `applied`
};
static_assert(sizeof(struct wire_status) == 104, "status is 104 bytes");

struct wire_counter {
    uint64_t value;
    char name[40]; // zero-padded
};
static_assert(sizeof(struct wire_counter) == 48, "counter is 48 bytes");

// IPv4 address and UDP port, both in host order, as one number: (address << 16) | port.
static inline uint64_t wire_endpoint_pack(uint32_t address, uint16_t port) {
    return ((uint64_t)address << 16) | port;
}

#endif
