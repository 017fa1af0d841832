// What the engine's files share. Each table is a fixed array scanned from end to end: a client has
// tens of operations open, not thousands, and a scan of tens is cheaper than keeping lists right.
//
//   core.c     life, time, counters          request.c  operations, sending, sessions
//   receive.c  datagrams in                  route.c    endpoints: which node to ask
//   lease.c    leases kept alive             lock.c     waiting, holding, re-entry
#ifndef CONCLAVE_CLIENT_CORE_INTERNAL_H
#define CONCLAVE_CLIENT_CORE_INTERNAL_H

#include <assert.h>
#include <string.h>

#include "core.h"
#include "wire.h"

#define MS_NS (1000ull * 1000ull)
#define NEVER UINT64_MAX

// Nodes learned from hints, beside the configured ones.
#define ROUTE_HINTED_MAX 9u
#define ROUTE_MAX        (CORE_CONFIGURED_MAX + ROUTE_HINTED_MAX)
// Unanswered sends after which another node is tried instead of the known leader: one may be a lost
// packet. Where no leader is known yet, one is enough.
#define ROUTE_SILENT 2u

// Retry: first after the measured round trip, then twice as long each time, up to a second.
#define RETRY_NS_FIRST (100ull * MS_NS) // before anything was measured
#define RETRY_NS_MIN   (20ull * MS_NS)
#define RETRY_NS_MAX   (1000ull * MS_NS)
// Redirections followed at once; further ones wait, so that two nodes that point at each other are
// not hammered.
#define REDIRECTS_AT_ONCE 2u
#define REDIRECT_NS       (10ull * MS_NS)
#define REDIRECT_NS_MAX   (250ull * MS_NS)
#define BUSY_NS           (2ull * MS_NS)
#define BUSY_NS_MAX       (500ull * MS_NS)
#define POLL_NS_FIRST     (100ull * MS_NS)
#define POLL_NS_MAX       (1000ull * MS_NS)
// A session is never evicted within a minute of its last executed request (machine.h). A request
// sent just once, less than half of that ago, and refused with NO_SESSION was surely not executed.
#define SESSION_SURE_NS (30000ull * MS_NS)

struct core_endpoint {
    uint64_t address;
    uint64_t heard_ns;
    uint64_t silence_ns; // when silence was last counted
    uint32_t silent;     // sends in a row that nothing came after
};

enum request_state {
    REQUEST_FREE = 0,
    REQUEST_READY,   // outcome known without asking; to be told at the next tick
    REQUEST_WAITING, // for cluster, session or window: never sent
    REQUEST_OPEN,    // sent, or about to be; has its sequence
};

struct core_request {
    uint8_t state; // enum request_state
    bool urgent;
    bool owned;    // counts against core_options.operations
    bool awaiting; // the last send has not been answered in any way
    bool held;     // by the window, and counted
    uint32_t attempts;
    uint32_t redirects;
    uint32_t refusals; // busy
    uint32_t endpoint; // fixed one of a local operation; ROUTE_MAX: whoever leads
    uint32_t target;   // endpoint sent to last
    uint64_t order;    // of starting
    uint64_t deadline_ns;
    uint64_t next_ns; // to send, or not to be admitted before
    uint64_t first_sent_ns;
    uint64_t last_sent_ns;
    core_done_fn done;
    void *context;
    struct core_result result; // REQUEST_READY
    struct wire_request wire;  // head is filled in when sent
    char name[WIRE_NAME_MAX];
};

enum wait_state { WAIT_FREE = 0, WAIT_ASKING, WAIT_QUEUED, WAIT_POLLING };

struct core_wait { // a lock being acquired
    uint8_t state; // enum wait_state
    uint8_t name_length;
    bool closing;                 // its lease is being revoked: a grant that crosses that is none
    struct core_request *request; // while WAIT_ASKING or WAIT_POLLING
    uint64_t lease;
    uint64_t session; // that asked
    uint64_t claim;
    uint64_t due_ns;      // when the server should have ended the wait; NEVER
    uint64_t deadline_ns; // when we give up on an answer; NEVER
    uint64_t poll_ns;
    uint64_t interval_ns;
    core_done_fn done;
    void *context;
    struct core *core;
    char name[WIRE_NAME_MAX];
};

struct core_hold { // a lock held; depth 0: free slot
    uint32_t depth;
    uint8_t name_length;
    char name[WIRE_NAME_MAX];
    uint64_t lease;
    uint64_t token;
};

enum lease_state { LEASE_FREE = 0, LEASE_OPENING, LEASE_KEPT, LEASE_LOST };

struct core_lease {
    uint8_t state; // enum lease_state
    uint64_t id;   // 0 while being granted
    uint64_t ttl_ms;
    uint64_t margin_ms; // as asked; 0: default
    uint64_t deadline_ns;
    uint64_t renew_ns;
    struct core_request *renewal; // the keepalive open now, or NULL
    conclave_lost_fn lost;
    void *lost_context;
    core_done_fn done; // while LEASE_OPENING
    void *context;
    struct core *core;
};

enum core_trouble {
    TROUBLE_NONE = 0,
    TROUBLE_SILENT,
    TROUBLE_NO_LEADER,
    TROUBLE_BUSY,
    TROUBLE_CLUSTER,
};

struct core {
    struct core_options options;
    uint64_t now_ns;
    uint64_t random;
    uint64_t order;
    bool closed;
    enum core_trouble trouble;

    uint64_t cluster;
    uint64_t session;
    uint64_t nonces;   // sessions asked for so far
    uint64_t sequence; // of the next logged request
    uint64_t read_sequence;

    struct core_endpoint endpoints[ROUTE_MAX];
    uint32_t endpoint_count;
    uint32_t hinted_next;      // slot the next unknown hint takes when all are in use
    uint32_t leader;           // endpoint to ask
    uint32_t leader_confirmed; // the one that last answered as leader; ROUTE_MAX: none yet

    bool measured;
    uint64_t round_trip_ns; // smoothed, RFC 6298
    uint64_t variation_ns;

    uint32_t request_count;
    uint32_t owned;                // requests and waits of the caller
    uint32_t used;                 // highest slot in use + 1, so that idle slots are not scanned
    struct core_request *requests; // [0] opens sessions, [1] learns the cluster
    struct core_wait *waits;
    struct core_hold *holds;
    struct core_lease *leases;

    uint64_t counters[CORE_COUNTERS];
    _Alignas(8) uint8_t frame[WIRE_FRAME_MAX];
};

#define REQUEST_SESSION 0u
#define REQUEST_LEARN   1u
#define REQUEST_FIRST   2u

static inline void core_count(struct core *core, enum core_counter counter) {
    core->counters[counter]++;
}
static inline bool request_is_active(const struct core_request *request) {
    return request->state == REQUEST_OPEN || request->state == REQUEST_WAITING;
}
static inline bool name_equal(const char *a, uint32_t a_length, const char *b, uint32_t b_length) {
    return a_length == b_length && memcmp(a, b, a_length) == 0;
}
static inline uint64_t time_add(uint64_t time_ns, uint64_t more_ns) { // NEVER stays NEVER
    return more_ns >= NEVER - time_ns ? NEVER : time_ns + more_ns;
}

// core.c
uint64_t core_random(struct core *core);
// Within a quarter of ns either way, so that clients do not march in step.
uint64_t core_jitter(struct core *core, uint64_t ns);
uint64_t core_backoff(struct core *core, uint64_t first_ns, uint64_t max_ns, uint32_t times);
void core_advance(struct core *core, uint64_t now_ns);

// request.c
struct core_request *request_create(struct core *core, const struct core_call *call, bool owned,
                                    core_done_fn done, void *context);
// An outcome known already; told at the next tick.
uint16_t request_ready(struct core *core, const struct core_result *result, core_done_fn done,
                       void *context);
void request_finish(struct core *core, struct core_request *request,
                    const struct core_result *result);
void request_fail(struct core *core, struct core_request *request, uint16_t status);
void request_cancel(struct core *core, struct core_request *request);
void request_reply(struct core *core, uint32_t from, const struct wire_reply *reply);
void request_tick(struct core *core);
void request_hurry(struct core *core, uint32_t leader); // resend what went elsewhere
void request_close(struct core *core);
uint64_t request_next_timeout(const struct core *core);

// route.c
uint32_t route_find(const struct core *core, uint64_t address); // ROUTE_MAX: not ours
void route_heard(struct core *core, uint32_t endpoint);
void route_silence(struct core *core, uint32_t endpoint, uint64_t since_ns);
void route_not_leader(struct core *core, uint32_t endpoint, uint64_t hint);
void route_answered(struct core *core, uint32_t endpoint); // as leader
void route_learn(struct core *core, uint64_t hint);        // from a status

// lease.c
void lease_tick(struct core *core);
void lease_close_all(struct core *core);
uint64_t lease_next_timeout(const struct core *core);
// Is this a lease we kept and lost? What it holds must not be believed.
bool lease_is_lost(const struct core *core, uint64_t lease);
// The server said so. True: it was kept here, and whatever waited under it has been told.
bool lease_gone(struct core *core, uint64_t lease, uint16_t reason);

// lock.c
void lock_tick(struct core *core);
void lock_event(struct core *core, const struct wire_event *event);
void lock_leader_changed(struct core *core);
void lock_lease_lost(struct core *core, uint64_t lease); // holds are dropped at once ...
void lock_end_waits(struct core *core, uint64_t lease, uint16_t status); // ... waits told after
void lock_lease_closing(struct core *core, uint64_t lease); // grants under it are none any more
void lock_close(struct core *core);
uint64_t lock_next_timeout(const struct core *core);

#endif
