// libconclave: locks and leases of a Conclave cluster, for C and C++.
//
//     #include <conclave.h>
//     #include <stdio.h>
//
//     static void lost(void *context, uint64_t lease, enum conclave_status reason) {
//         *(int *)context = 1;
//         fprintf(stderr, "%s\n", conclave_status_sentence(reason));
//     }
//
//     int main(void) {
//         char error[CONCLAVE_ERROR_BYTES];
//         struct conclave_options options = {.endpoints = "10.0.0.1:7100,10.0.0.2:7100"};
//         conclave_t *c = NULL;
//         if (conclave_open(&options, &c, error) != CONCLAVE_OK) return puts(error), 1;
//
//         int gone = 0;
//         uint64_t lease = 0, token = 0;
//         struct conclave_lease_options keep = {
//             .ttl_ms = 5000, .on_lost = lost, .context = &gone};
//         enum conclave_status s = conclave_lease_open(c, &keep, &lease);
//         if (s == CONCLAVE_OK) s = conclave_lock_acquire(c, "backup", lease, 10000, &token);
//         if (s == CONCLAVE_OK) {
//             while (!gone && work_a_little(token)) // hand the token to what you write to
//                 conclave_pump(c, 0);              // keeps the lease alive
//             conclave_lock_release(c, "backup", token);
//         } else {
//             fprintf(stderr, "%s\n", conclave_status_sentence(s));
//         }
//         conclave_lease_close(c, lease);
//         conclave_close(c);
//     }
//
// Threads. A handle belongs to one thread at a time; different handles are independent. The library
// starts no thread and installs no signal handler. Leases are renewed, retries sent and callbacks
// called only inside conclave_process(), conclave_pump() and the blocking calls: a thread that does
// none of these for longer than two thirds of a TTL loses its leases. conclave_lease_remaining_ms()
// is right at any time, whether or not the callback has had a chance to run.
//
// Ownership. The handle owns everything it hands out; a result and what it points to are valid only
// during the callback that receives it. Strings given to the library are copied. All memory is
// taken in conclave_open() and given back in conclave_close().
//
// Units are in the names: _ms are milliseconds, measured on CLOCK_BOOTTIME (suspended time counts).
//
// Errors. Every outcome is an enum conclave_status with a sentence. Two of them matter most:
// CONCLAVE_UNKNOWN means that a change may or may not have happened (or may still happen);
// CONCLAVE_TIMEOUT means that nothing was changed.
#ifndef CONCLAVE_H
#define CONCLAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---------------------------------------------------------------- status

enum conclave_status {
    // As the cluster answers them. The numbers never change.
    CONCLAVE_OK = 0,
    CONCLAVE_QUEUED = 1,
    CONCLAVE_NOT_LEADER = 2,
    CONCLAVE_BUSY = 3,
    CONCLAVE_NO_LEASE = 4,
    CONCLAVE_LEASE_EXPIRED = 5,
    CONCLAVE_NOT_HOLDER = 6,
    CONCLAVE_WOULD_BLOCK = 7,
    CONCLAVE_WAIT_TIMEOUT = 8,
    CONCLAVE_STALE_TOKEN = 9,
    CONCLAVE_TOO_LARGE = 10,
    CONCLAVE_FULL = 11,
    CONCLAVE_COMPACTED = 12,
    CONCLAVE_BAD_REQUEST = 13,
    CONCLAVE_UNAUTHENTICATED = 14,
    CONCLAVE_DENIED = 15,
    CONCLAVE_UNKNOWN = 16, // no final answer in time: it may or may not have happened
    CONCLAVE_NO_SESSION = 17,
    CONCLAVE_STALE_SEQUENCE = 18,
    // The library's own.
    CONCLAVE_TIMEOUT = 64, // no answer in time, and nothing was changed
    CONCLAVE_CLOSED = 65,  // the handle was closed with this operation open; it may have happened
    CONCLAVE_LIMIT = 66,   // more at once than conclave_options allows; nothing happened
    CONCLAVE_SYSTEM = 67,  // the operating system refused something; errno says why
};

// "wait_timeout": for logs and scripts. Never NULL; valid for ever.
const char *conclave_status_name(enum conclave_status status);
// What happened and what to do, one English sentence or two. Never NULL; valid for ever.
const char *conclave_status_sentence(enum conclave_status status);

// ---------------------------------------------------------------- handle

typedef struct conclave conclave_t;

#define CONCLAVE_ERROR_BYTES   256
#define CONCLAVE_NAME_MAX      255        // bytes of a lock's name
#define CONCLAVE_TTL_MS_MIN    10         // of a lease
#define CONCLAVE_TTL_MS_MAX    86400000   // 24 h
#define CONCLAVE_WAIT_FOREVER  UINT64_MAX // wait_ms; else at most CONCLAVE_TTL_MS_MAX
#define CONCLAVE_ENDPOINTS_MAX 9

// Things worth a log line, told through conclave_options.on_notice.
enum conclave_notice {
    CONCLAVE_NOTICE_SESSION_OPENED = 1, // value: the session
    CONCLAVE_NOTICE_SESSION_LOST = 2,   // value: the session; another is opened when needed
    CONCLAVE_NOTICE_LEADER = 3,         // value: address << 16 | port of the leader now followed
};

struct conclave_options { // zeros and NULLs mean the defaults
    // "HOST:PORT,HOST:PORT,...": one to CONCLAVE_ENDPOINTS_MAX nodes of one cluster, IPv4 or a
    // name that resolves to it. Required.
    const char *endpoints;
    uint64_t cluster;    // 0: learned from the first node that answers, then kept
    uint32_t group;      // Raft group; default 0
    uint32_t timeout_ms; // for one operation, retries included; default 5000. A lock's wait comes
                         // on top.
    uint32_t operations; // open at once at most; default 64, at most 4096
    uint32_t leases;     // kept alive at once at most; default 64
    uint32_t locks;      // held or waited for at once at most; default 256
    void (*on_notice)(void *context, enum conclave_notice notice, uint64_t value);
    void *context; // for on_notice
};

// Opens a handle: resolves names and makes a socket, but sends nothing yet. CONCLAVE_OK,
// CONCLAVE_BAD_REQUEST (an option is wrong) or CONCLAVE_SYSTEM; then *handle is NULL and a
// sentence is in error, which may be NULL or must have CONCLAVE_ERROR_BYTES.
enum conclave_status conclave_open(const struct conclave_options *options, conclave_t **handle,
                                   char *error);
// Completes what is open with CONCLAVE_CLOSED and frees everything. Sends nothing: leases not
// closed before run out at the server by themselves, and take their locks with them. Not to be
// called from a callback. NULL is allowed.
void conclave_close(conclave_t *handle);

// The cluster's id: as given or as learned; 0 while not known yet.
uint64_t conclave_cluster(const conclave_t *handle);
// Endpoints as given, in order. The name is the text given, valid while the handle is.
uint32_t conclave_endpoint_count(const conclave_t *handle);
const char *conclave_endpoint_name(const conclave_t *handle, uint32_t endpoint);
// What stands in the way at present, one sentence; NULL while answers come. Good to print beside
// CONCLAVE_TIMEOUT and CONCLAVE_UNKNOWN.
const char *conclave_problem(const conclave_t *handle);

// The library's own counters (packets, retries, drops by reason ...): names are NULL from the
// first index on that does not exist.
const char *conclave_client_counter_name(uint32_t index);
uint64_t conclave_client_counter(const conclave_t *handle, uint32_t index);

// ---------------------------------------------------------------- driving a handle
//
// With an event loop: wait until conclave_fd() is readable or conclave_timeout_ms() has passed,
// then call conclave_process(); ask for the time-out again after every call into the library.

// The socket, for poll(2) and the like. Only to be waited on. Valid while the handle is.
int conclave_fd(const conclave_t *handle);
// Milliseconds until conclave_process() has something to do without a packet: 0 now, -1 never.
int conclave_timeout_ms(const conclave_t *handle);
// Receives, retries, renews, calls callbacks. Never waits. Not to be called from a callback.
void conclave_process(conclave_t *handle);
// As an event loop for those who have none: waits and processes for wait_ms, 0 for one round
// without waiting. Returns early, after the round, if a signal came. Not from a callback.
void conclave_pump(conclave_t *handle, uint32_t wait_ms);

// ---------------------------------------------------------------- results of asynchronous calls

struct conclave_claim { // one holder or waiter of a lock
    uint64_t claim;     // when it asked: log index, rises
    uint64_t lease;
    uint64_t token; // 0 while waiting
    uint64_t session;
    uint64_t since_ms; // it holds, or waits, since so long
};

struct conclave_node { // one node's view of itself
    uint64_t cluster;
    uint16_t node;
    uint16_t leader;  // node id, 0 unknown
    uint16_t nodes;   // voters
    const char *role; // "follower", "precandidate", "candidate", "leader"
    bool memory;      // durability = memory: nothing is on disk
    bool recovering;  // does not vote yet
    uint64_t term;
    uint64_t commit;
    uint64_t applied;
    uint64_t durable;
    uint64_t first;    // first log index still there
    uint64_t snapshot; // index of the newest, 0 none
    uint64_t uptime_ms;
    uint32_t sessions;
    uint32_t leases;
    uint32_t locks;
    uint32_t claims;
    uint64_t state_hash;
};

struct conclave_counter {
    uint64_t value;
    char name[41]; // zero-terminated
};

struct conclave_result {
    enum conclave_status status;
    const char *table;     // CONCLAVE_FULL: which table of the cluster, else NULL
    uint64_t lease;        // lease_grant, lease_open, lease_adopt
    uint64_t ttl_ms;       // lease_grant, lease_open, lease_adopt, lease_keepalive, lease_ttl
    uint64_t remaining_ms; // lease_ttl
    uint64_t token;        // lock_acquire: of the grant; with CONCLAVE_WOULD_BLOCK the holder's
    uint64_t index;        // log index of the answer, 0 if it came from no log
    uint64_t count;        // lock_holders, lock_queue, counters: how many there are in all ...
    uint32_t listed;       // ... and how many of them are listed here
    const struct conclave_claim *claims;     // lock_holders, lock_queue
    const struct conclave_counter *counters; // counters
    const struct conclave_node *node;        // status
    uint64_t round_trip_us; // of the answer's exchange; 0 if it needed a retry or no packet
};

// Called exactly once for each operation started, never before the starting call has returned. It
// may start operations; it may not call blocking functions, conclave_process(), conclave_pump() or
// conclave_close().
typedef void (*conclave_done_fn)(void *context, const struct conclave_result *result);

// All *_start functions return CONCLAVE_OK if the operation was started, else done is never called:
// CONCLAVE_BAD_REQUEST (an argument is out of range), CONCLAVE_LIMIT (too many open at once). done
// may be NULL if the outcome does not matter. Each has a blocking sibling that returns the status.

// ---------------------------------------------------------------- leases

// A lease of ttl_ms (10 ms to 24 h) that the caller renews by itself.
// CONCLAVE_OK, _FULL, _UNKNOWN, _TIMEOUT.
enum conclave_status conclave_lease_grant_start(conclave_t *handle, uint64_t ttl_ms,
                                                conclave_done_fn done, void *context);
// Renews it once for its whole TTL. CONCLAVE_OK, _NO_LEASE, _LEASE_EXPIRED, _UNKNOWN, _TIMEOUT.
enum conclave_status conclave_lease_keepalive_start(conclave_t *handle, uint64_t lease,
                                                    conclave_done_fn done, void *context);
// Ends it now, with everything held under it. As keepalive.
enum conclave_status conclave_lease_revoke_start(conclave_t *handle, uint64_t lease,
                                                 conclave_done_fn done, void *context);
// How long it still lives. CONCLAVE_OK, _NO_LEASE, _LEASE_EXPIRED, _TIMEOUT.
enum conclave_status conclave_lease_ttl_start(conclave_t *handle, uint64_t lease,
                                              conclave_done_fn done, void *context);

// A lease kept alive by the handle: renewed every third of its TTL.
//
// The handle takes it for lost at
//     (when the last acknowledged renewal was first sent) + TTL * (1 - 1/1000) - margin,
// while the server expires it no earlier than (receipt) + TTL * (1 + 1/1000): so, with clocks whose
// rates differ by no more than 1 in 1000, on_lost runs at least `margin` before anybody else can be
// granted what was held. It also runs when the server says that the lease is gone. It runs exactly
// once, before anything else that the same round brings; then waits under the lease have ended
// with CONCLAVE_LEASE_EXPIRED and its locks count as not held. The reason is CONCLAVE_UNKNOWN (not
// renewed in time), CONCLAVE_LEASE_EXPIRED or CONCLAVE_NO_LEASE (revoked).
// It is not called for a lease closed with conclave_lease_close() or by conclave_close().
typedef void (*conclave_lost_fn)(void *context, uint64_t lease, enum conclave_status reason);

struct conclave_lease_options {
    uint64_t ttl_ms;          // lease_open; not used by lease_adopt
    uint64_t margin_ms;       // at most half the TTL; 0: 1 ms + TTL/20, at most 1 s
    conclave_lost_fn on_lost; // may be NULL
    void *context;            // for on_lost
};

// Grants a lease and keeps it. As lease_grant, and CONCLAVE_LEASE_EXPIRED: the answer took longer
// than the lease lives.
enum conclave_status conclave_lease_open_start(conclave_t *handle,
                                               const struct conclave_lease_options *options,
                                               conclave_done_fn done, void *context);
// Keeps a lease that exists already: renews it at once, its TTL is learned. As lease_keepalive.
// CONCLAVE_BAD_REQUEST if the margin turns out to be more than half its TTL.
enum conclave_status conclave_lease_adopt_start(conclave_t *handle, uint64_t lease,
                                                const struct conclave_lease_options *options,
                                                conclave_done_fn done, void *context);
// Stops keeping it and revokes it. Its locks count as not held from this call on, and what is still
// being acquired under it ends with CONCLAVE_LEASE_EXPIRED or CONCLAVE_NO_LEASE. As lease_revoke.
enum conclave_status conclave_lease_close_start(conclave_t *handle, uint64_t lease,
                                                conclave_done_fn done, void *context);
// Stops keeping it; it runs out at the server. CONCLAVE_OK, or _NO_LEASE if it is not kept here.
// May be called from callbacks.
enum conclave_status conclave_lease_forget(conclave_t *handle, uint64_t lease);
// How long a kept lease is surely still ours, by the rule above; 0 when lost or not kept here.
uint64_t conclave_lease_remaining_ms(const conclave_t *handle, uint64_t lease);

// ---------------------------------------------------------------- locks
//
// A name has 1 to 255 bytes, given as a C string. A grant's token rises strictly per name: hand it
// to whatever the lock protects, and let that refuse lower ones.

// Acquires the lock exclusively under a lease. wait_ms: 0 tries, CONCLAVE_WAIT_FOREVER waits while
// the lease lives. Waiters are served in order. CONCLAVE_OK, _WOULD_BLOCK (wait_ms 0 and held),
// _WAIT_TIMEOUT, _NO_LEASE, _LEASE_EXPIRED, _FULL, _TIMEOUT, or _UNKNOWN: it may be or become ours;
// close the lease to be rid of it, or acquire again.
// Re-entry: if this handle holds the lock under the same lease, the answer is CONCLAVE_OK with the
// same token, without asking the cluster, and one more release is needed. While the handle is
// still acquiring that very lock, start returns CONCLAVE_BUSY.
enum conclave_status conclave_lock_acquire_start(conclave_t *handle, const char *name,
                                                 uint64_t lease, uint64_t wait_ms,
                                                 conclave_done_fn done, void *context);
// Releases the grant with this token and no other; a re-entered one only once the count is down to
// zero. CONCLAVE_OK, _NOT_HOLDER, _UNKNOWN, _TIMEOUT. Whatever the answer, the handle no longer
// counts the lock as held once the last release was started.
enum conclave_status conclave_lock_release_start(conclave_t *handle, const char *name,
                                                 uint64_t token, conclave_done_fn done,
                                                 void *context);
// Who holds it. CONCLAVE_OK (count 0: nobody), _TIMEOUT.
enum conclave_status conclave_lock_holders_start(conclave_t *handle, const char *name,
                                                 conclave_done_fn done, void *context);
// Who waits for it, in order, from the skip-th on. CONCLAVE_OK, _TIMEOUT.
enum conclave_status conclave_lock_queue_start(conclave_t *handle, const char *name, uint64_t skip,
                                               conclave_done_fn done, void *context);
// Is this lock held by this handle, under a lease that is surely alive? token: if not NULL, which.
bool conclave_lock_held(const conclave_t *handle, const char *name, uint64_t *token);

// ---------------------------------------------------------------- nodes

// What one node (index of the endpoint) says of itself, leader or not. CONCLAVE_OK, _TIMEOUT.
enum conclave_status conclave_node_status_start(conclave_t *handle, uint32_t endpoint,
                                                conclave_done_fn done, void *context);
// Its counters, from the skip-th on. CONCLAVE_OK, _TIMEOUT.
enum conclave_status conclave_node_counters_start(conclave_t *handle, uint32_t endpoint,
                                                  uint64_t skip, conclave_done_fn done,
                                                  void *context);

// ---------------------------------------------------------------- blocking calls
//
// The same operations, waited for. Pointers for what is wanted may be NULL; they are written only
// with CONCLAVE_OK unless it says otherwise. Other callbacks of the handle run meanwhile. Not from
// a callback: then CONCLAVE_BAD_REQUEST.

enum conclave_status conclave_lease_grant(conclave_t *handle, uint64_t ttl_ms, uint64_t *lease);
enum conclave_status conclave_lease_keepalive(conclave_t *handle, uint64_t lease, uint64_t *ttl_ms);
enum conclave_status conclave_lease_revoke(conclave_t *handle, uint64_t lease);
enum conclave_status conclave_lease_ttl(conclave_t *handle, uint64_t lease, uint64_t *remaining_ms,
                                        uint64_t *ttl_ms);
enum conclave_status conclave_lease_open(conclave_t *handle,
                                         const struct conclave_lease_options *options,
                                         uint64_t *lease);
enum conclave_status conclave_lease_adopt(conclave_t *handle, uint64_t lease,
                                          const struct conclave_lease_options *options,
                                          uint64_t *ttl_ms);
enum conclave_status conclave_lease_close(conclave_t *handle, uint64_t lease);
// *token is also written with CONCLAVE_WOULD_BLOCK: the holder's.
enum conclave_status conclave_lock_acquire(conclave_t *handle, const char *name, uint64_t lease,
                                           uint64_t wait_ms, uint64_t *token);
enum conclave_status conclave_lock_release(conclave_t *handle, const char *name, uint64_t token);
// Writes at most max claims at claims; *listed tells how many, *count how many there are in all.
enum conclave_status conclave_lock_holders(conclave_t *handle, const char *name,
                                           struct conclave_claim *claims, uint32_t max,
                                           uint32_t *listed, uint64_t *count);
enum conclave_status conclave_lock_queue(conclave_t *handle, const char *name, uint64_t skip,
                                         struct conclave_claim *claims, uint32_t max,
                                         uint32_t *listed, uint64_t *count);
enum conclave_status conclave_node_status(conclave_t *handle, uint32_t endpoint,
                                          struct conclave_node *node);
enum conclave_status conclave_node_counters(conclave_t *handle, uint32_t endpoint, uint64_t skip,
                                            struct conclave_counter *counters, uint32_t max,
                                            uint32_t *listed, uint64_t *count);

#ifdef __cplusplus
}
#endif

#endif
