// The state machine's tables, shared by its files.
//
// Everything replicated is in the five pools and in struct machine_head. Indexes, wheels and the
// ring of hashes can be rebuilt from these and are a node's own. Slots refer to each other by
// number, 0 is none.
//
//   machine.c   apply: one committed entry        validate.c  what a well-formed command is
//   session.c   exactly-once replies              snapshot.c  copy-aside stream out
//   lease.c     grant to expiry                   restore.c   and back in
//   lock.c      holders and queues                digest.c    the content as one number
//   query.c     reads                             pool, index, wheel: the containers
#ifndef CONCLAVE_MACHINE_INTERNAL_H
#define CONCLAVE_MACHINE_INTERNAL_H

#include "machine/index.h"
#include "machine/machine.h"
#include "machine/pool.h"
#include "machine/wheel.h"

struct cached_reply { // of one executed sequence
    uint64_t sequence;
    uint64_t token;
    uint64_t amount;
    uint16_t op;
    uint16_t status;
    uint16_t detail;
    uint16_t reserved;
};
static_assert(sizeof(struct cached_reply) == 32, "no padding: it is written to snapshots");

struct session {
    uint64_t id; // log index of its SESSION_OPEN
    uint64_t nonce;
    uint64_t highest;    // sequence
    uint64_t last_index; // of its newest command, duplicates included
    uint64_t last_ns;
    struct cached_reply replies[WIRE_SESSION_WINDOW]; // by sequence % window
};
static_assert(sizeof(struct session) == 40 + 32 * WIRE_SESSION_WINDOW, "no padding");

struct lease {
    uint64_t id; // log index of its grant
    uint64_t deadline_ns;
    uint64_t renewals;
    uint32_t ttl_ms;
    uint32_t claims; // first of its claims, newest first
    uint32_t claim_count;
    uint32_t reserved;
};
static_assert(sizeof(struct lease) == 40, "no padding");

struct claim {      // one holder or waiter
    uint64_t id;    // log index at which it was asked for
    uint64_t token; // 0 while waiting
    uint64_t session;
    uint64_t since_ns;
    uint64_t until_ns; // end of a bounded wait; UINT64_MAX for ever
    uint32_t lock;
    uint32_t lease;
    uint32_t prev, next; // in the lock's queue
    uint32_t lease_prev, lease_next;
};
static_assert(sizeof(struct claim) == 64, "one cache line, no padding");

// Most names fit the lock's own record; the rest of a longer one is in a chain of pieces.
#define LOCK_NAME_INLINE 39u
#define NAME_PIECE_BYTES 60u
#define NAME_PIECES_MAX                                                                            \
    ((WIRE_NAME_MAX - LOCK_NAME_INLINE + NAME_PIECE_BYTES - 1) / NAME_PIECE_BYTES)

struct lock {
    uint64_t created; // log index: the record's identity
    uint32_t holder;
    uint32_t first, last; // waiters in order
    uint32_t waiters;
    uint32_t more; // first piece of the name behind the inline part
    uint32_t hash; // of the name
    uint8_t name_length;
    uint8_t name[LOCK_NAME_INLINE];
};
static_assert(sizeof(struct lock) == 72, "no padding");

struct name_piece {
    uint32_t next;
    uint8_t bytes[NAME_PIECE_BYTES];
};
static_assert(sizeof(struct name_piece) == 64, "one cache line, no padding");

struct machine_head {             // replicated, beside the pools
    struct machine_limits agreed; // all zero until the first NOOP
    uint64_t applied;
    uint64_t time_ns;
    uint64_t hash;
};
static_assert(sizeof(struct machine_head) == 40, "no padding: it is written to snapshots");

enum machine_table { // in the order of a snapshot
    TABLE_SESSION,
    TABLE_LEASE,
    TABLE_LOCK,
    TABLE_CLAIM,
    TABLE_NAME,
    TABLES
};

// State hashes of the newest entries, so that a TICK can be compared with what was applied some
// time ago. More than a leader has in flight.
#define MACHINE_HASHES 16384u

// The snapshot stream: units of 8 bytes and more, each starting with a snapshot_mark.
//   head      SNAPSHOT_HEAD, then struct snapshot_header
//   object    table and slot, then the object
//   filler    SNAPSHOT_FILLER: nothing, so that a read always has something to return
//   end       SNAPSHOT_END, then the hash of all units before it
#define SNAPSHOT_HEAD   0x434e434cu
#define SNAPSHOT_FILLER 0x20202020u
#define SNAPSHOT_END    0x21444e45u
#define SNAPSHOT_FORMAT 1u

struct snapshot_mark {
    uint32_t what; // enum machine_table, or one of the above
    uint32_t slot; // objects only
};

struct snapshot_header {
    uint32_t format;
    uint32_t tables;
    struct machine_head head;
    uint32_t counts[TABLES];
    uint32_t reserved;
};
static_assert(sizeof(struct snapshot_header) == 8 + 40 + 4 * TABLES + 4 &&
                  sizeof(struct snapshot_header) % 8 == 0,
              "no padding");

// Wheel entries touched in one call: each may miss the cache, so this is some 50 us, whatever was
// granted at once. What is left is done in the next round.
#define MACHINE_WHEEL_BUDGET 512u

struct snapshot_out {
    bool active;
    bool begun;
    bool ended;
    uint32_t table;
    uint64_t sum; // of the units so far
    struct snapshot_header header;
};

struct snapshot_in {
    bool active;
    bool bad;
    bool begun;
    bool ended;
    uint64_t sum;
    uint32_t buffered; // bytes of a unit cut in two
    struct snapshot_header header;
    _Alignas(8) uint8_t buffer[sizeof(struct snapshot_mark) + sizeof(struct session)];
};

struct machine {
    struct machine_limits capacity;
    struct machine_head head;
    enum machine_fault fault;
    machine_notice_fn notice;
    void *notice_context;

    struct pool pools[TABLES];
    struct index sessions, nonces, leases, locks, claims;
    uint64_t *session_last; // by slot: last_index of live ones, UINT64_MAX else; for eviction
    struct wheel lease_wheel, wait_wheel;

    uint64_t hashes[MACHINE_HASHES]; // by index
    uint64_t hashes_from;            // first index they hold

    // The entry being applied.
    uint64_t term;
    struct snapshot_out out;
    struct snapshot_in in;
};

static inline struct session *session_at(const struct machine *m, uint32_t slot) {
    return pool_at(&m->pools[TABLE_SESSION], slot);
}
static inline struct lease *lease_at(const struct machine *m, uint32_t slot) {
    return pool_at(&m->pools[TABLE_LEASE], slot);
}
static inline struct lock *lock_at(const struct machine *m, uint32_t slot) {
    return pool_at(&m->pools[TABLE_LOCK], slot);
}
static inline struct claim *claim_at(const struct machine *m, uint32_t slot) {
    return pool_at(&m->pools[TABLE_CLAIM], slot);
}
static inline struct lease *lease_edit(struct machine *m, uint32_t slot) {
    return pool_edit(&m->pools[TABLE_LEASE], slot);
}
static inline struct lock *lock_edit(struct machine *m, uint32_t slot) {
    return pool_edit(&m->pools[TABLE_LOCK], slot);
}
static inline struct claim *claim_edit(struct machine *m, uint32_t slot) {
    return pool_edit(&m->pools[TABLE_CLAIM], slot);
}

// validate.c
// True for the entry types and commands that apply knows; a false in the log is a fault.
bool machine_command_valid(const void *data, uint32_t length);

// session.c
// Executes through `execute` unless the reply is cached, the session unknown, or the sequence
// stale.
typedef void (*session_execute_fn)(struct machine *m, const struct wire_request *request,
                                   struct machine_reply *reply);
void session_run(struct machine *m, const struct wire_request *request, struct machine_reply *reply,
                 session_execute_fn execute);
void session_open(struct machine *m, const struct wire_request *request,
                  struct machine_reply *reply);
void session_index(struct machine *m, uint32_t slot); // restored: into the indexes
bool session_is_new(const struct machine *m, const struct session *session); // id and nonce are

// lease.c
uint32_t lease_find(const struct machine *m, uint64_t id); // slot, 0: none
bool lease_alive(const struct lease *lease, uint64_t time_ns);
// WIRE_OK with its slot, WIRE_NO_LEASE or WIRE_LEASE_EXPIRED.
uint16_t lease_check(const struct machine *m, uint64_t id, uint64_t time_ns, uint32_t *slot);
void lease_grant(struct machine *m, const struct wire_request *request,
                 struct machine_reply *reply);
void lease_keepalive(struct machine *m, const struct wire_request *request,
                     struct machine_reply *reply);
void lease_revoke(struct machine *m, const struct wire_request *request,
                  struct machine_reply *reply);
void lease_expire(struct machine *m, const struct wire_expiry *expiries, uint32_t count);
void lease_index(struct machine *m, uint32_t slot);

// lock.c
uint64_t lock_hash(const void *name, uint32_t length);
uint32_t lock_find(const struct machine *m, const void *name, uint32_t length);
void lock_acquire(struct machine *m, const struct wire_request *request,
                  struct machine_reply *reply);
void lock_release(struct machine *m, const struct wire_request *request,
                  struct machine_reply *reply);
void lock_expire_waits(struct machine *m, const struct wire_wait_expiry *waits, uint32_t count);
// Ends everything held or waited for under a lease; waiters hear `status`.
void lock_end_lease(struct machine *m, uint32_t lease, uint16_t status);
void lock_index(struct machine *m, uint32_t slot);

// claim.c
uint32_t claim_find(const struct machine *m, uint64_t id);
uint32_t claim_create(struct machine *m, const struct wire_request *request, uint32_t lock,
                      uint32_t lease);
void claim_destroy(struct machine *m, uint32_t slot); // out of its lease's list and the wheel
void claim_enqueue(struct machine *m, uint32_t slot);
void claim_dequeue(struct machine *m, uint32_t slot);
void claim_set_wait(struct machine *m, uint32_t slot, uint64_t wait_ms);
void claim_notify(struct machine *m, uint32_t slot, uint16_t status);
void claim_index(struct machine *m, uint32_t slot);

// name.c: names of any length on locks
void name_store(struct machine *m, struct lock *lock, const uint8_t *name, uint32_t length);
bool name_equals(const struct machine *m, const struct lock *lock, const uint8_t *name,
                 uint32_t length);
void name_free(struct machine *m, const struct lock *lock);
void name_copy(const struct machine *m, const struct lock *lock, uint8_t out[WIRE_NAME_MAX]);

// machine.c
void machine_set_limits(struct machine *m, const struct machine_limits *limits);
void machine_clear(struct machine *m);

#endif
