// The replicated state machine: sessions, leases, locks. Deterministic: driven only by committed
// entries, never by a clock. Two machines that applied the same entries are equal, whatever their
// slot numbers, and machine_hash() proves it.
//
// Semantics are in docs/semantics.md. Fencing tokens are log indices, so they rise strictly over
// failover, restart, snapshot and deletion (Kleppmann 2016, "How to do distributed locking").
// Exactly-once replies follow thesis section 6.3. Time is the entry's cluster time (raft.h): a
// lease whose deadline is at or before an entry's time is dead for that entry, whether or not its
// EXPIRE_LEASES has been applied yet.
//
// All memory is given once at creation; a full table answers WIRE_FULL and names itself.
#ifndef CONCLAVE_MACHINE_H
#define CONCLAVE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conclave_wire.h"

// Stated clock-rate bound e of SEMANTICS: 1 part in 1000. The server adds it to each TTL.
#define MACHINE_DRIFT_DIVISOR 1000u
// A session idle for less than this is never evicted to make room: a client may retry that long.
#define MACHINE_SESSION_IDLE_NS (60ull * 1000 * 1000 * 1000)

// Table sizes. They are part of the replicated state: the first NOOP applied fixes them (its
// payload is this struct) and every replica then refuses at the same entry. A node that allocated
// less than the agreed limits must not run: machine_apply() then sets MACHINE_FAULT_LIMITS.
struct machine_limits {
    uint32_t sessions;
    uint32_t leases;
    uint32_t locks;
    uint32_t claims; // holders and waiters together
};

struct machine; // opaque

enum machine_fault {
    MACHINE_FAULT_NONE = 0,
    MACHINE_FAULT_LIMITS,   // configured smaller than the cluster agreed on
    MACHINE_FAULT_DIVERGED, // a TICK's hash differs from ours at that index
    MACHINE_FAULT_ENTRY,    // a committed entry is malformed
};

// What one applied entry answers to the client that asked. For internal commands session is 0.
struct machine_reply {
    uint64_t session;
    uint64_t sequence;
    uint64_t token;
    uint64_t amount;
    uint16_t op;
    uint16_t status; // enum wire_status_code
    uint16_t detail; // enum wire_table with WIRE_FULL
    bool duplicate;  // answered from the session's cache, nothing was executed
    uint32_t
        claim_slot; // LOCK_ACQUIRE that queued: slot of the waiting claim, below limits.claims;
                    // else UINT32_MAX. Local to this node: for an address table beside it.
};

// A queued claim changed without its client asking.
struct machine_notice {
    uint64_t session;
    uint64_t claim;
    uint64_t lease;
    uint64_t token;  // when granted
    uint16_t status; // WIRE_OK, WIRE_WAIT_TIMEOUT, WIRE_LEASE_EXPIRED, WIRE_NO_LEASE
    uint32_t claim_slot;
};
typedef void (*machine_notice_fn)(void *context, const struct machine_notice *notice);

// Bytes for these limits, aligned to 64; the memory must be zeroed and stays the caller's.
size_t machine_bytes(const struct machine_limits *limits);
struct machine *machine_create(void *memory, const struct machine_limits *limits);
void machine_set_notice(struct machine *machine, machine_notice_fn notice, void *context);

// Is this a well-formed command a client may send (or, with internal, the leader)? length is what
// was received, head included. WIRE_OK, WIRE_BAD_REQUEST or WIRE_TOO_LARGE.
uint16_t machine_validate(const struct wire_request *request, uint32_t length, bool internal);

// Applies entry `index` (must be applied index + 1). type is enum raft_entry_type. Always gives a
// reply. Check machine_fault() after: on a fault the node must stop, the machine no longer changes.
void machine_apply(struct machine *machine, uint64_t index, uint64_t term, uint64_t time_ns,
                   uint8_t type, const void *data, uint32_t length, struct machine_reply *reply);
enum machine_fault machine_fault(const struct machine *machine);

// Answers a read (wire_op_is_read) at cluster time time_ns from the current state. Writes at most
// WIRE_VALUE_MAX bytes at value; returns their count. reply->claim_slot as in machine_apply, so
// that a client that asks again after a failover is heard of again.
uint32_t machine_query(const struct machine *machine, uint64_t time_ns,
                       const struct wire_request *request, struct machine_reply *reply,
                       void *value);

// Leader only: leases and waits due at cluster time time_ns, to be proposed as EXPIRE_LEASES and
// EXPIRE_WAITS (term is filled in by the caller). Each is given again only after MACHINE_RETRY_NS,
// in case the proposal was lost. Work is bounded by max.
#define MACHINE_RETRY_NS (200ull * 1000 * 1000)
uint32_t machine_due_leases(struct machine *machine, uint64_t time_ns, struct wire_expiry *out,
                            uint32_t max);
uint32_t machine_due_waits(struct machine *machine, uint64_t time_ns, struct wire_wait_expiry *out,
                           uint32_t max);
// A lower bound on the cluster time at which the next lease or wait is due; UINT64_MAX for none.
uint64_t machine_next_due(const struct machine *machine);

struct machine_sizes {
    uint32_t sessions;
    uint32_t leases;
    uint32_t locks;
    uint32_t claims;
};
struct machine_sizes machine_sizes(const struct machine *machine);
uint64_t machine_applied(const struct machine *machine);
uint64_t machine_time(const struct machine *machine); // of the entry applied last
uint64_t machine_hash(const struct machine *machine); // rolling, over commands and their replies
// Digest of the whole content, independent of slot numbers and addresses. Slow: tests and restore.
uint64_t machine_digest(const struct machine *machine);

// Snapshot of the state as it is at machine_snapshot_begin(), written while entries go on being
// applied: objects are copied aside when first changed. Each read does work bounded by `capacity`
// (at least 4096 bytes) and returns the bytes it wrote; 0 means complete. Only one at a time.
void machine_snapshot_begin(struct machine *machine);
uint32_t machine_snapshot_read(struct machine *machine, void *buffer, uint32_t capacity);
void machine_snapshot_end(struct machine *machine); // after completion, or to give up
bool machine_snapshot_active(const struct machine *machine);

// Restore replaces everything. The stream is that of machine_snapshot_read, cut anywhere. False:
// the stream is damaged or needs more room than this node has; the machine is then empty. After a
// true machine_restore_end() the applied index, time, hash and digest are those at snapshot begin.
void machine_restore_begin(struct machine *machine);
bool machine_restore_write(struct machine *machine, const void *bytes, uint32_t length);
bool machine_restore_end(struct machine *machine);

#endif
