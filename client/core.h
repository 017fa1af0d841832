// The client engine: everything libconclave does, but for sockets, clocks and chance.
//
// Datagrams come in with core_receive() and go out with core_send(); time is an argument, chance is
// a seed, all memory is given once. So the same engine runs under the library and under a
// simulator.
//
// Exactly once: a logged operation gets one (session, sequence) when first sent, and every retry
// repeats it; the cluster executes it once and caches its reply for WIRE_SESSION_WINDOW sequences.
// So no more are open than that. When the answer stays away until the deadline, the outcome is
// WIRE_UNKNOWN if it was ever sent, else CORE_TIMEOUT: nothing happened. Reads are repeated freely.
//
// Rounds: after anything was started or received, and whenever core_next_timeout() has come, call
// core_tick() and then core_send() until it returns false. Callbacks run inside core_receive() and
// core_tick() and may start operations; nothing is called back from inside a starting function.
#ifndef CONCLAVE_CLIENT_CORE_H
#define CONCLAVE_CLIENT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conclave.h"
#include "conclave_wire.h"

#define CORE_CONFIGURED_MAX 9u    // endpoints given: voters of a group
#define CORE_OPERATIONS_MAX 4096u // keeps scans and sums far from overflow
#define CORE_LEASES_MAX     4096u
#define CORE_LOCKS_MAX      65536u

// Outcomes beside enum wire_status_code; conclave.h repeats the numbers.
#define CORE_TIMEOUT 64u
#define CORE_CLOSED  65u
#define CORE_LIMIT   66u

enum core_notice { CORE_NOTICE_SESSION_OPENED = 1, CORE_NOTICE_SESSION_LOST, CORE_NOTICE_LEADER };
typedef void (*core_notice_fn)(void *context, enum core_notice notice, uint64_t value);

struct core_options {
    uint64_t endpoints[CORE_CONFIGURED_MAX]; // wire_endpoint_pack()
    uint32_t endpoint_count;                 // 1 to CORE_CONFIGURED_MAX
    uint32_t group;
    uint64_t cluster;    // 0: learned from the first node that answers WIRE_OP_STATUS
    uint64_t seed;       // jitter
    uint64_t nonce;      // from a true random source: sessions are told apart by it
    uint64_t timeout_ns; // for one operation
    uint32_t operations; // the caller's, open at once
    uint32_t leases;     // kept at once
    uint32_t locks;      // held or being acquired at once
    core_notice_fn notice;
    void *context;
};

struct core_result {
    uint16_t op;
    uint16_t status; // enum wire_status_code, or CORE_*
    uint16_t detail;
    uint16_t value_length;
    uint64_t session;
    uint64_t lease; // of kept leases and lock operations
    uint64_t token;
    uint64_t amount;
    uint64_t index;
    uint64_t first_sent_ns; // 0: never
    uint64_t round_trip_ns; // 0: retried, or not sent
    uint32_t attempts;
    const void *value; // valid during the callback
};
typedef void (*core_done_fn)(void *context, const struct core_result *result);

// One operation that is a single exchange: all but waiting, keeping and re-entry.
struct core_call {
    uint16_t op;
    uint8_t name_length;
    bool urgent;       // goes before others when the window is full
    uint32_t endpoint; // WIRE_OP_STATUS and WIRE_OP_COUNTERS: which configured node
    const char *name;
    uint64_t lease;
    uint64_t token;
    uint64_t amount;
    uint64_t timeout_ns; // 0: core_options.timeout_ns
};

struct core; // opaque

size_t core_bytes(const struct core_options *options);
// Memory is aligned to 64, zeroed, and stays the caller's.
struct core *core_create(void *memory, const struct core_options *options, uint64_t now_ns);
// Completes all that is open with CORE_CLOSED; nothing may be started after.
void core_close(struct core *core);

// Starting answers WIRE_OK (done will be called once, if not NULL), WIRE_BAD_REQUEST, WIRE_BUSY or
// CORE_LIMIT (done will not be called).
uint16_t core_start(struct core *core, uint64_t now_ns, const struct core_call *call,
                    core_done_fn done, void *context);
// Waiting and re-entry as conclave.h tells them. wait_ms as `amount` of WIRE_OP_LOCK_ACQUIRE.
uint16_t core_acquire(struct core *core, uint64_t now_ns, const char *name, uint32_t name_length,
                      uint64_t lease, uint64_t wait_ms, core_done_fn done, void *context);
uint16_t core_release(struct core *core, uint64_t now_ns, const char *name, uint32_t name_length,
                      uint64_t token, core_done_fn done, void *context);
// Token of a lock held under a lease surely alive at now_ns; 0 if not held.
uint64_t core_held(const struct core *core, uint64_t now_ns, const char *name,
                   uint32_t name_length);

struct core_keep {
    uint64_t lease;     // 0: grant one
    uint64_t ttl_ms;    // of the one to grant
    uint64_t margin_ms; // 0: 1 ms + TTL/20, at most 1 s
    conclave_lost_fn lost;
    void *lost_context;
};
uint16_t core_lease_keep(struct core *core, uint64_t now_ns, const struct core_keep *keep,
                         core_done_fn done, void *context);
// Stops keeping and revokes.
uint16_t core_lease_close(struct core *core, uint64_t now_ns, uint64_t lease, core_done_fn done,
                          void *context);
// Stops keeping only. False: not kept here.
bool core_lease_forget(struct core *core, uint64_t now_ns, uint64_t lease);
// Until the client takes the lease for lost; 0 if it has, or does not keep it.
uint64_t core_lease_remaining_ns(const struct core *core, uint64_t now_ns, uint64_t lease);

// One datagram from `from`. bytes are 8-aligned. Anything that is not an answer to something open
// is counted and dropped.
void core_receive(struct core *core, uint64_t now_ns, uint64_t from, const void *bytes,
                  uint32_t length);
void core_tick(struct core *core, uint64_t now_ns);

struct core_datagram {
    uint64_t endpoint;
    uint32_t length;
    const void *bytes; // valid until the next call into the core
};
// The next datagram due; false: none now.
bool core_send(struct core *core, uint64_t now_ns, struct core_datagram *datagram);
// When core_tick() or core_send() next has work; at or before now: at once. UINT64_MAX: never.
uint64_t core_next_timeout(const struct core *core);

uint64_t core_cluster(const struct core *core); // 0: not known yet
uint64_t core_session(const struct core *core); // 0: none
uint64_t core_leader(const struct core *core);  // endpoint followed at present
// What stands in the way: a sentence, or NULL while answers come.
const char *core_problem(const struct core *core);

enum core_counter {
    CORE_COUNT_DATAGRAMS_SENT,
    CORE_COUNT_DATAGRAMS_RECEIVED,
    CORE_COUNT_REQUESTS_SENT, // messages, retries included
    CORE_COUNT_REQUESTS_RESENT,
    CORE_COUNT_REPLIES, // that answered something
    CORE_COUNT_DROP_FRAME,
    CORE_COUNT_DROP_SOURCE, // from an address that is no endpoint of ours
    CORE_COUNT_DROP_CLUSTER,
    CORE_COUNT_DROP_GROUP,
    CORE_COUNT_DROP_TYPE,
    CORE_COUNT_DROP_STALE,  // answers nothing open: late, duplicated or foreign
    CORE_COUNT_DROP_STATUS, // a status this library does not know
    CORE_COUNT_NOT_LEADER,
    CORE_COUNT_HINTS_FOLLOWED,
    CORE_COUNT_HINTS_IGNORED,
    CORE_COUNT_ENDPOINTS_ADDED,
    CORE_COUNT_ROTATIONS,
    CORE_COUNT_LEADER_CHANGES,
    CORE_COUNT_BUSY,
    CORE_COUNT_WINDOW_FULL, // an operation waited for the session's window
    CORE_COUNT_LIMIT,
    CORE_COUNT_TIMEOUTS,
    CORE_COUNT_UNKNOWN,
    CORE_COUNT_SESSIONS_OPENED,
    CORE_COUNT_SESSIONS_LOST,
    CORE_COUNT_STALE_SEQUENCE,
    CORE_COUNT_EVENTS,
    CORE_COUNT_EVENTS_STALE,
    CORE_COUNT_POLLS,
    CORE_COUNT_GRANTS_BY_POLL,
    CORE_COUNT_REENTRIES,
    CORE_COUNT_KEEPALIVES,
    CORE_COUNT_KEEPALIVES_FAILED,
    CORE_COUNT_LEASES_LOST,
    CORE_COUNTERS
};
uint64_t core_counter(const struct core *core, enum core_counter counter);
const char *core_counter_name(uint32_t counter); // NULL: no such

#endif
