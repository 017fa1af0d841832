// See fake_cluster.h. Written apart from the real state machine on purpose: the client is to be
// held against the wire contract, not against our own reading of it twice.
#include "fake_cluster.h"

#include <assert.h>
#include <string.h>

#include "wire.h"

#define MS_NS 1000000ull

struct fake_lease *fake_lease(struct fake_cluster *fake, uint64_t id) {
    for (uint32_t i = 0; i < FAKE_LEASES && id; i++) {
        struct fake_lease *lease = &fake->leases[i];
        if (lease->id == id && lease->deadline_ns > fake->now_ns) return lease;
    }
    return NULL;
}

static bool names(const struct fake_claim *claim, const void *name, uint32_t length) {
    return claim->used && claim->name_length == length && memcmp(claim->name, name, length) == 0;
}

static struct fake_claim *holder(const struct fake_cluster *fake, const void *name,
                                 uint32_t length) {
    for (uint32_t i = 0; i < FAKE_CLAIMS; i++) {
        const struct fake_claim *claim = &fake->claims[i];
        if (names(claim, name, length) && claim->token) {
            return (struct fake_claim *)(uintptr_t)claim;
        }
    }
    return NULL;
}

uint64_t fake_holder(const struct fake_cluster *fake, const char *name) {
    struct fake_claim *claim = holder(fake, name, (uint32_t)strlen(name));
    return claim ? claim->token : 0;
}

static void send_frame(struct fake_cluster *fake, uint32_t node, uint64_t to, uint16_t type,
                       const void *message, uint32_t length, const void *value, uint32_t bytes) {
    _Alignas(8) uint8_t frame[WIRE_FRAME_MAX];
    struct wire_writer writer;
    wire_begin(&writer, frame, sizeof frame, fake->cluster, 0, (uint16_t)(node + 1));
    uint8_t *at = wire_add(&writer, type, 0, length + bytes);
    assert(at);
    memcpy(at + sizeof(struct wire_head), (const uint8_t *)message + sizeof(struct wire_head),
           length - sizeof(struct wire_head));
    if (bytes) memcpy(at + length, value, bytes);
    fake->emit(fake->context, node, to, frame, wire_finish(&writer));
}

static void tell(struct fake_cluster *fake, const struct fake_claim *claim, uint16_t status) {
    struct wire_event event = {
        .session = claim->session,
        .claim = claim->claim,
        .lease = claim->lease,
        .token = status == WIRE_OK ? claim->token : 0,
        .status = status,
        .index = fake->index,
    };
    if (fake->mute_events || fake->leader == FAKE_NOBODY) return;
    send_frame(fake, fake->leader, claim->address, WIRE_EVENT, &event, sizeof event, NULL, 0);
}

static void grant_next(struct fake_cluster *fake, const void *name, uint32_t length) {
    struct fake_claim *first = NULL;
    for (uint32_t i = 0; i < FAKE_CLAIMS; i++) {
        struct fake_claim *claim = &fake->claims[i];
        if (!names(claim, name, length) || claim->token) continue;
        if (!first || claim->claim < first->claim) first = claim;
    }
    if (!first) return;
    first->token = ++fake->index;
    first->since_ns = fake->now_ns;
    tell(fake, first, WIRE_OK);
}

static void remove_claim(struct fake_cluster *fake, struct fake_claim *claim) {
    bool held = claim->token != 0;
    claim->used = false;
    if (held) grant_next(fake, claim->name, claim->name_length);
}

static void end_lease(struct fake_cluster *fake, uint64_t lease, uint16_t status) {
    for (uint32_t i = 0; i < FAKE_CLAIMS; i++) { // waiters first: none of them may be granted
        struct fake_claim *claim = &fake->claims[i];
        if (!claim->used || claim->lease != lease || claim->token) continue;
        tell(fake, claim, status);
        claim->used = false;
    }
    for (uint32_t i = 0; i < FAKE_CLAIMS; i++) {
        struct fake_claim *claim = &fake->claims[i];
        if (claim->used && claim->lease == lease) remove_claim(fake, claim);
    }
}

void fake_tick(struct fake_cluster *fake, uint64_t now_ns) {
    fake->now_ns = now_ns;
    for (uint32_t i = 0; i < FAKE_LEASES; i++) {
        struct fake_lease *lease = &fake->leases[i];
        if (lease->id == 0 || lease->deadline_ns > now_ns) continue;
        uint64_t id = lease->id;
        lease->id = 0;
        fake->index++;
        end_lease(fake, id, WIRE_LEASE_EXPIRED);
    }
    for (uint32_t i = 0; i < FAKE_CLAIMS; i++) {
        struct fake_claim *claim = &fake->claims[i];
        if (!claim->used || claim->token || claim->until_ns > now_ns) continue;
        claim->used = false;
        tell(fake, claim, WIRE_WAIT_TIMEOUT);
    }
}

// ---------------------------------------------------------------- operations

static void renew(struct fake_cluster *fake, struct fake_lease *lease) {
    lease->deadline_ns = fake->now_ns + lease->ttl_ms * MS_NS * 1001 / 1000;
}

static void grant(struct fake_cluster *fake, const struct wire_request *request,
                  struct wire_reply *reply) {
    for (uint32_t i = 0; i < FAKE_LEASES; i++) {
        struct fake_lease *lease = &fake->leases[i];
        if (lease->id) continue;
        *lease = (struct fake_lease){.id = fake->index, .ttl_ms = request->amount};
        renew(fake, lease);
        reply->token = lease->id;
        reply->amount = lease->ttl_ms;
        return;
    }
    reply->status = WIRE_FULL;
    reply->detail = WIRE_TABLE_LEASE;
}

static void acquire(struct fake_cluster *fake, uint64_t from, const struct wire_request *request,
                    struct wire_reply *reply) {
    const void *name = wire_request_name(request);
    struct fake_claim *held = holder(fake, name, request->name_length);
    if (!fake_lease(fake, request->lease)) {
        reply->status = WIRE_NO_LEASE;
        return;
    }
    if (held && request->amount == 0) {
        reply->status = WIRE_WOULD_BLOCK;
        reply->token = held->token;
        return;
    }
    struct fake_claim *claim = fake->claims;
    while (claim->used) claim++;
    assert(claim < fake->claims + FAKE_CLAIMS);
    *claim = (struct fake_claim){
        .used = true,
        .name_length = request->name_length,
        .claim = fake->index,
        .lease = request->lease,
        .session = request->session,
        .token = held ? 0 : fake->index,
        .until_ns = request->amount == WIRE_WAIT_FOREVER ? UINT64_MAX
                                                         : fake->now_ns + request->amount * MS_NS,
        .since_ns = fake->now_ns,
        .address = from,
    };
    memcpy(claim->name, name, request->name_length);
    reply->status = held ? WIRE_QUEUED : WIRE_OK;
    reply->token = fake->index;
}

static void open_session(struct fake_cluster *fake, const struct wire_request *request,
                         struct wire_reply *reply) {
    struct fake_session *spare = NULL;
    for (uint32_t i = 0; i < FAKE_SESSIONS; i++) {
        struct fake_session *session = &fake->sessions[i];
        if (session->id && session->nonce == request->token) {
            reply->token = session->id;
            return;
        }
        if (!session->id && !spare) spare = session;
    }
    assert(spare);
    memset(spare, 0, sizeof *spare);
    spare->id = fake->index;
    spare->nonce = request->token;
    reply->token = spare->id;
}

static void execute(struct fake_cluster *fake, uint64_t from, const struct wire_request *request,
                    struct wire_reply *reply) {
    struct fake_lease *lease = fake_lease(fake, request->lease);
    struct fake_claim *held = holder(fake, wire_request_name(request), request->name_length);
    fake->index++;
    fake->executions++;
    fake->by_op[request->op]++;
    reply->index = fake->index;
    switch (request->op) {
    case WIRE_OP_SESSION_OPEN:
        open_session(fake, request, reply);
        break;
    case WIRE_OP_LEASE_GRANT:
        grant(fake, request, reply);
        break;
    case WIRE_OP_LEASE_KEEPALIVE:
        reply->status = lease ? WIRE_OK : WIRE_NO_LEASE;
        if (lease) renew(fake, lease);
        reply->amount = lease ? lease->ttl_ms : 0;
        break;
    case WIRE_OP_LEASE_REVOKE:
        reply->status = lease ? WIRE_OK : WIRE_NO_LEASE;
        if (lease) lease->id = 0;
        if (lease) end_lease(fake, request->lease, WIRE_NO_LEASE);
        break;
    case WIRE_OP_LOCK_ACQUIRE:
        acquire(fake, from, request, reply);
        break;
    case WIRE_OP_LOCK_RELEASE:
        reply->status = held && held->token == request->token ? WIRE_OK : WIRE_NOT_HOLDER;
        if (reply->status == WIRE_OK) remove_claim(fake, held);
        break;
    default:
        reply->status = WIRE_BAD_REQUEST;
    }
}

// Exactly once, as the state machine promises it.
static void apply(struct fake_cluster *fake, uint64_t from, const struct wire_request *request,
                  struct wire_reply *reply) {
    if (request->op == WIRE_OP_SESSION_OPEN) {
        execute(fake, from, request, reply);
        return;
    }
    struct fake_session *session = NULL;
    for (uint32_t i = 0; i < FAKE_SESSIONS; i++) {
        if (fake->sessions[i].id == request->session) session = &fake->sessions[i];
    }
    if (!session || request->session == 0) {
        reply->status = WIRE_NO_SESSION;
        return;
    }
    uint64_t sequence = request->sequence;
    assert(sequence >= 1 && sequence < FAKE_CACHE);
    if (sequence + WIRE_SESSION_WINDOW <= session->highest) {
        reply->status = WIRE_STALE_SEQUENCE;
        return;
    }
    if (sequence > session->highest) session->highest = sequence;
    if (!session->executed[sequence]) {
        execute(fake, from, request, reply);
        session->executed[sequence] = true;
        session->replies[sequence] = *reply;
    }
    *reply = session->replies[sequence];
}

static uint32_t list(const struct fake_cluster *fake, const struct wire_request *request,
                     struct wire_reply *reply, struct wire_claim *claims) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < FAKE_CLAIMS; i++) {
        const struct fake_claim *claim = &fake->claims[i];
        if (!names(claim, wire_request_name(request), request->name_length)) continue;
        if ((claim->token != 0) != (request->op == WIRE_OP_LOCK_HOLDERS)) continue;
        claims[count++] = (struct wire_claim){
            .claim = claim->claim,
            .lease = claim->lease,
            .token = claim->token,
            .session = claim->session,
            .since_ms = (fake->now_ns - claim->since_ns) / MS_NS,
        };
        if (count == WIRE_VALUE_MAX / sizeof *claims) break;
    }
    reply->amount = count;
    return count * (uint32_t)sizeof *claims;
}

static void query_claim(struct fake_cluster *fake, uint64_t from,
                        const struct wire_request *request, struct wire_reply *reply) {
    reply->status = fake_lease(fake, request->lease) ? WIRE_WAIT_TIMEOUT : WIRE_LEASE_EXPIRED;
    for (uint32_t i = 0; i < FAKE_CLAIMS; i++) {
        struct fake_claim *claim = &fake->claims[i];
        if (!claim->used || claim->claim != request->token) continue;
        claim->address = from;
        reply->status = claim->token ? WIRE_OK : WIRE_QUEUED;
        reply->token = claim->token ? claim->token : claim->claim;
    }
}

static uint32_t query(struct fake_cluster *fake, uint32_t node, uint64_t from,
                      const struct wire_request *request, struct wire_reply *reply, void *value) {
    struct fake_lease *lease = fake_lease(fake, request->lease);
    fake->by_op[request->op]++;
    switch (request->op) {
    case WIRE_OP_LEASE_TTL:
        reply->status = lease ? WIRE_OK : WIRE_NO_LEASE;
        reply->amount = lease ? (lease->deadline_ns - fake->now_ns) / MS_NS : 0;
        reply->token = lease ? lease->ttl_ms : 0;
        return 0;
    case WIRE_OP_LOCK_HOLDERS:
    case WIRE_OP_LOCK_QUEUE:
        return list(fake, request, reply, value);
    case WIRE_OP_CLAIM:
        query_claim(fake, from, request, reply);
        return 0;
    case WIRE_OP_STATUS: {
        struct wire_status status = {
            .cluster = fake->cluster,
            .node = (uint16_t)(node + 1),
            .leader = fake->leader == FAKE_NOBODY ? 0 : (uint16_t)(fake->leader + 1),
            .role = node == fake->leader ? WIRE_ROLE_LEADER : WIRE_ROLE_FOLLOWER,
            .nodes = FAKE_NODES,
            .leader_endpoint = fake->leader == FAKE_NOBODY ? 0 : fake->endpoints[fake->leader],
            .term = 1,
            .commit = fake->index,
            .applied = fake->index,
            .durable = fake->index,
            .uptime_ms = fake->now_ns / MS_NS,
        };
        memcpy(value, &status, sizeof status);
        return sizeof status;
    }
    case WIRE_OP_COUNTERS: {
        struct wire_counter counters[2] = {{fake->executions, "fake.executions"},
                                           {fake->index, "fake.index"}};
        uint64_t skip = request->amount < 2 ? request->amount : 2;
        reply->amount = 2;
        memcpy(value, counters + skip, (2 - skip) * sizeof *counters);
        return (uint32_t)((2 - skip) * sizeof *counters);
    }
    default:
        reply->status = WIRE_BAD_REQUEST;
        return 0;
    }
}

static void serve(struct fake_cluster *fake, uint32_t node, uint64_t from,
                  const struct wire_request *request) {
    struct wire_reply reply = {
        .session = request->session, .sequence = request->sequence, .op = request->op};
    uint8_t value[WIRE_VALUE_MAX];
    uint32_t bytes = 0;
    if (fake->before && fake->before(fake, node, request, &reply)) {
        // as the hook has it
    } else if (wire_op_is_local(request->op)) {
        bytes = query(fake, node, from, request, &reply, value);
    } else if (node != fake->leader) {
        reply.status = WIRE_NOT_LEADER;
        if (fake->leader != FAKE_NOBODY) reply.amount = fake->endpoints[fake->leader];
    } else if (wire_op_is_logged(request->op)) {
        apply(fake, from, request, &reply);
    } else {
        bytes = query(fake, node, from, request, &reply, value);
    }
    if (fake->after) fake->after(fake, node, request, &reply);
    reply.value_length = (uint16_t)bytes;
    send_frame(fake, node, from, WIRE_REPLY, &reply, sizeof reply, value, bytes);
}

void fake_receive(struct fake_cluster *fake, uint64_t now_ns, uint32_t node, uint64_t from,
                  const void *bytes, uint32_t length) {
    fake_tick(fake, now_ns);
    enum wire_verdict verdict = wire_check_for(bytes, length, fake->cluster, 0);
    assert(verdict == WIRE_VALID); // the client under test must not send anything else
    (void)verdict;
    uint32_t offset = 0;
    for (const struct wire_head *head; (head = wire_next(bytes, &offset)) != NULL;) {
        assert(head->type == WIRE_REQUEST);
        serve(fake, node, from, (const struct wire_request *)(const void *)head);
    }
}
