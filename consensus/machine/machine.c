// See machine.h: memory, and the one way in for committed entries.
#include "machine/carve.h"
#include "machine/hash.h"
#include "machine/machine_internal.h"
#include "raft/raft.h"

// ---------------------------------------------------------------- memory

static uint32_t name_pieces(const struct machine_limits *limits) {
    return limits->locks * NAME_PIECES_MAX;
}

size_t machine_bytes(const struct machine_limits *l) {
    return carve_bytes(sizeof(struct machine)) + pool_bytes(l->sessions, sizeof(struct session)) +
           pool_bytes(l->leases, sizeof(struct lease)) + pool_bytes(l->locks, sizeof(struct lock)) +
           pool_bytes(l->claims, sizeof(struct claim)) +
           pool_bytes(name_pieces(l), sizeof(struct name_piece)) + 2 * index_bytes(l->sessions) +
           index_bytes(l->leases) + index_bytes(l->locks) + index_bytes(l->claims) +
           carve_bytes(((size_t)l->sessions + 1) * sizeof(uint64_t)) + wheel_bytes(l->leases) +
           wheel_bytes(l->claims);
}

struct machine *machine_create(void *memory, const struct machine_limits *limits) {
    struct machine *m = memory;
    uint8_t *at = (uint8_t *)memory + carve_bytes(sizeof *m);
    m->capacity = *limits;
    pool_create(&m->pools[TABLE_SESSION], limits->sessions, sizeof(struct session), &at);
    pool_create(&m->pools[TABLE_LEASE], limits->leases, sizeof(struct lease), &at);
    pool_create(&m->pools[TABLE_LOCK], limits->locks, sizeof(struct lock), &at);
    pool_create(&m->pools[TABLE_CLAIM], limits->claims, sizeof(struct claim), &at);
    pool_create(&m->pools[TABLE_NAME], name_pieces(limits), sizeof(struct name_piece), &at);
    index_create(&m->sessions, limits->sessions, &at);
    index_create(&m->nonces, limits->sessions, &at);
    index_create(&m->leases, limits->leases, &at);
    index_create(&m->locks, limits->locks, &at);
    index_create(&m->claims, limits->claims, &at);
    m->session_last = carve(&at, ((size_t)limits->sessions + 1) * sizeof(uint64_t));
    wheel_create(&m->lease_wheel, limits->leases, &at);
    wheel_create(&m->wait_wheel, limits->claims, &at);
    assert(at == (uint8_t *)memory + machine_bytes(limits));
    return m;
}

void machine_set_notice(struct machine *m, machine_notice_fn notice, void *context) {
    m->notice = notice;
    m->notice_context = context;
}

void machine_clear(struct machine *m) {
    for (uint32_t t = 0; t < TABLES; t++) pool_clear(&m->pools[t]);
    index_clear(&m->sessions);
    index_clear(&m->nonces);
    index_clear(&m->leases);
    index_clear(&m->locks);
    index_clear(&m->claims);
    wheel_clear(&m->lease_wheel, 0);
    wheel_clear(&m->wait_wheel, 0);
    m->head = (struct machine_head){0};
    m->fault = MACHINE_FAULT_NONE;
    m->hashes[0] = 0;
    m->hashes_from = 0;
    m->out = (struct snapshot_out){0};
}

// ---------------------------------------------------------------- applying

void machine_set_limits(struct machine *m, const struct machine_limits *limits) {
    m->head.agreed = *limits;
    m->pools[TABLE_SESSION].limit = limits->sessions;
    m->pools[TABLE_LEASE].limit = limits->leases;
    m->pools[TABLE_LOCK].limit = limits->locks;
    m->pools[TABLE_CLAIM].limit = limits->claims;
    m->pools[TABLE_NAME].limit = name_pieces(limits);
}

static bool limits_known(const struct machine *m) {
    return m->head.agreed.sessions != 0;
}

static enum machine_fault check_noop(const struct machine *m, const void *data, uint32_t length) {
    struct machine_limits wanted;
    if (limits_known(m)) return MACHINE_FAULT_NONE; // agreed on for ever by the first
    if (length != sizeof wanted) return MACHINE_FAULT_ENTRY;
    memcpy(&wanted, data, sizeof wanted);
    if (wanted.sessions == 0 || wanted.leases == 0 || wanted.locks == 0 || wanted.claims == 0)
        return MACHINE_FAULT_ENTRY;
    const struct machine_limits *have = &m->capacity;
    bool fits = wanted.sessions <= have->sessions && wanted.leases <= have->leases &&
                wanted.locks <= have->locks && wanted.claims <= have->claims;
    return fits ? MACHINE_FAULT_NONE : MACHINE_FAULT_LIMITS;
}

static enum machine_fault check_tick(const struct machine *m, uint64_t index,
                                     const struct wire_request *request) {
    if (request->amount >= index) return MACHINE_FAULT_ENTRY;
    if (request->amount < m->hashes_from) return MACHINE_FAULT_NONE; // forgotten here
    uint64_t ours = m->hashes[request->amount % MACHINE_HASHES];
    return ours == request->token ? MACHINE_FAULT_NONE : MACHINE_FAULT_DIVERGED;
}

// Everything that can be wrong with an entry, before anything is changed.
static enum machine_fault check(const struct machine *m, uint64_t index, uint64_t time_ns,
                                uint8_t type, const void *data, uint32_t length) {
    if (index != m->head.applied + 1 || time_ns < m->head.time_ns) return MACHINE_FAULT_ENTRY;
    if (type == RAFT_ENTRY_NOOP) return check_noop(m, data, length);
    if (type != RAFT_ENTRY_COMMAND || !limits_known(m) || !machine_command_valid(data, length))
        return MACHINE_FAULT_ENTRY;
    const struct wire_request *request = data;
    return request->op == WIRE_OP_TICK ? check_tick(m, index, request) : MACHINE_FAULT_NONE;
}

static void execute(struct machine *m, const struct wire_request *request,
                    struct machine_reply *reply) {
    switch (request->op) {
    case WIRE_OP_LEASE_GRANT:
        lease_grant(m, request, reply);
        return;
    case WIRE_OP_LEASE_KEEPALIVE:
        lease_keepalive(m, request, reply);
        return;
    case WIRE_OP_LEASE_REVOKE:
        lease_revoke(m, request, reply);
        return;
    case WIRE_OP_LOCK_ACQUIRE:
        lock_acquire(m, request, reply);
        return;
    default:
        assert(request->op == WIRE_OP_LOCK_RELEASE && "validated");
        lock_release(m, request, reply);
    }
}

static void command(struct machine *m, const struct wire_request *request,
                    struct machine_reply *reply) {
    const void *value = request + 1; // internal commands have no name before it
    reply->session = request->session;
    reply->sequence = request->sequence;
    reply->op = request->op;
    switch (request->op) {
    case WIRE_OP_SESSION_OPEN:
        session_open(m, request, reply);
        return;
    case WIRE_OP_EXPIRE_LEASES:
        lease_expire(m, value, request->value_length / (uint32_t)sizeof(struct wire_expiry));
        return;
    case WIRE_OP_EXPIRE_WAITS:
        lock_expire_waits(m, value,
                          request->value_length / (uint32_t)sizeof(struct wire_wait_expiry));
        return;
    case WIRE_OP_TICK:
        return;
    default:
        session_run(m, request, reply, execute);
    }
}

static void roll_hash(struct machine *m, uint8_t type, const void *data, uint32_t length,
                      const struct machine_reply *reply) {
    struct {
        uint64_t index, term, time_ns, token, amount;
        uint32_t type;
        uint16_t status, detail;
    } facts = {m->head.applied, m->term, m->head.time_ns, reply->token,
               reply->amount,   type,    reply->status,   reply->detail};
    static_assert(sizeof facts == 48, "no padding");
    uint64_t hash = hash_bytes(m->head.hash, &facts, sizeof facts);
    m->head.hash = hash_bytes(hash, data, length);
    m->hashes[m->head.applied % MACHINE_HASHES] = m->head.hash;
    if (m->head.applied - m->hashes_from >= MACHINE_HASHES)
        m->hashes_from = m->head.applied - MACHINE_HASHES + 1;
}

void machine_apply(struct machine *m, uint64_t index, uint64_t term, uint64_t time_ns, uint8_t type,
                   const void *data, uint32_t length, struct machine_reply *reply) {
    *reply = (struct machine_reply){.claim_slot = UINT32_MAX};
    if (m->fault == MACHINE_FAULT_NONE) m->fault = check(m, index, time_ns, type, data, length);
    if (m->fault != MACHINE_FAULT_NONE) {
        reply->status = WIRE_BAD_REQUEST;
        return;
    }
    m->head.applied = index;
    m->head.time_ns = time_ns;
    m->term = term;
    if (type == RAFT_ENTRY_COMMAND) {
        command(m, data, reply);
    } else if (!limits_known(m)) {
        struct machine_limits limits;
        memcpy(&limits, data, sizeof limits);
        machine_set_limits(m, &limits);
    }
    roll_hash(m, type, data, length, reply);
}

// ---------------------------------------------------------------- observing

enum machine_fault machine_fault(const struct machine *m) {
    return m->fault;
}
uint64_t machine_applied(const struct machine *m) {
    return m->head.applied;
}
uint64_t machine_time(const struct machine *m) {
    return m->head.time_ns;
}
uint64_t machine_hash(const struct machine *m) {
    return m->head.hash;
}
struct machine_sizes machine_sizes(const struct machine *m) {
    return (struct machine_sizes){.sessions = m->pools[TABLE_SESSION].used,
                                  .leases = m->pools[TABLE_LEASE].used,
                                  .locks = m->pools[TABLE_LOCK].used,
                                  .claims = m->pools[TABLE_CLAIM].used};
}
uint64_t machine_next_due(const struct machine *m) {
    uint64_t leases = wheel_next(&m->lease_wheel), waits = wheel_next(&m->wait_wheel);
    return leases < waits ? leases : waits;
}
