// See harness.h.
#include "harness.h"

static const struct machine_limits *agreed_or_own(const struct lab *lab,
                                                  const struct machine_limits *limits) {
    return limits != NULL ? limits : &lab->limits;
}

static void on_notice(void *context, const struct machine_notice *notice) {
    struct lab *lab = context;
    assert_true(lab->notice_count < LAB_NOTICES);
    // The data plane stamps its events with machine_applied(): it is this entry, not the one
    // before.
    assert_int_equal(machine_applied(lab->machine), lab->index);
    assert_true(notice->claim_slot < lab->limits.claims);
    uint64_t *slot = &lab->slots[notice->claim_slot];
    if (*slot != 0) assert_int_equal(*slot, notice->claim);
    *slot = 0;
    if (notice->status == WIRE_OK) assert_int_equal(notice->token, lab->index);
    assert_true(notice->status == WIRE_OK || notice->status == WIRE_WAIT_TIMEOUT ||
                notice->status == WIRE_LEASE_EXPIRED || notice->status == WIRE_NO_LEASE);
    for (uint32_t i = 0; i < lab->notice_count; i++) // one entry tells of a claim at most once
        assert_int_not_equal(lab->notices[i].claim, notice->claim);
    lab->notices[lab->notice_count++] = *notice;
}

void command_build(union command *command, const struct ask *ask) {
    uint32_t name_length = ask->name_length;
    if (ask->name != NULL && name_length == 0) name_length = (uint32_t)strlen(ask->name);
    uint32_t length = (uint32_t)sizeof command->request + name_length + ask->value_length;
    assert(name_length <= WIRE_NAME_MAX && ask->value_length <= WIRE_VALUE_MAX);
    memset(command, 0, sizeof *command);
    command->request = (struct wire_request){
        .head = {.type = WIRE_REQUEST, .length = (uint16_t)((length + 7u) & ~7u)},
        .session = ask->session,
        .sequence = ask->sequence,
        .op = ask->op,
        .mode = ask->mode,
        .name_length = (uint8_t)name_length,
        .value_length = (uint16_t)ask->value_length,
        .lease = ask->lease,
        .token = ask->token,
        .amount = ask->amount,
    };
    uint8_t *at = command->bytes + sizeof command->request;
    if (name_length > 0) memcpy(at, ask->name, name_length);
    if (ask->value_length > 0) memcpy(at + name_length, ask->value, ask->value_length);
}

// ---------------------------------------------------------------- life

struct lab *lab_bare(const struct machine_limits *limits) {
    struct lab *lab = calloc(1, sizeof *lab);
    assert_non_null(lab);
    assert_true(limits->claims <= LAB_SLOTS);
    size_t bytes = machine_bytes(limits);
    assert_true(bytes > 0);
    assert_int_equal(bytes % 64, 0);
    lab->memory = aligned_alloc(64, bytes);
    assert_non_null(lab->memory);
    memset(lab->memory, 0, bytes);
    lab->limits = *limits;
    lab->machine = machine_create(lab->memory, limits);
    assert_non_null(lab->machine);
    machine_set_notice(lab->machine, on_notice, lab);
    lab->term = 1;
    lab->time_ns = SECOND;
    return lab;
}

struct lab *lab_open(const struct machine_limits *limits) {
    struct lab *lab = lab_bare(limits);
    lab_noop(lab, NULL);
    return lab;
}

void lab_close(struct lab *lab) {
    for (uint64_t i = 0; i < lab->record_count; i++) free(lab->records[i]);
    free(lab->records);
    free(lab->memory);
    free(lab);
}

void lab_later(struct lab *lab, uint64_t ns) {
    lab->time_ns += ns;
}

// ---------------------------------------------------------------- applying

static void keep_record(struct lab *lab, uint8_t type, const void *data, uint32_t length) {
    if (lab->silent) return;
    if (lab->record_count == lab->record_room) {
        lab->record_room = lab->record_room * 2 + 256;
        lab->records = realloc(lab->records, lab->record_room * sizeof *lab->records);
        assert_non_null(lab->records);
    }
    struct record *record = calloc(1, sizeof *record);
    assert_non_null(record);
    record->term = lab->term;
    record->time_ns = lab->time_ns;
    record->type = type;
    record->length = length;
    memcpy(&record->command, data, length);
    lab->records[lab->record_count++] = record;
}

struct machine_reply lab_apply_raw(struct lab *lab, uint8_t type, const void *data,
                                   uint32_t length) {
    struct machine_reply reply;
    memset(&reply, 0xa5, sizeof reply); // always gives a reply, whole
    lab->notice_count = 0;
    lab->index = machine_applied(lab->machine) + 1;
    machine_apply(lab->machine, lab->index, lab->term, lab->time_ns, type, data, length, &reply);
    return reply;
}

static void check_slot(struct lab *lab, const struct machine_reply *reply) {
    if (reply->claim_slot == UINT32_MAX) {
        // A claim that has just been queued always has one.
        if (reply->op == WIRE_OP_LOCK_ACQUIRE && reply->status == WIRE_QUEUED)
            assert_true(reply->duplicate);
        return;
    }
    assert_true(reply->op == WIRE_OP_LOCK_ACQUIRE || reply->op == WIRE_OP_CLAIM);
    assert_int_equal(reply->status, WIRE_QUEUED);
    assert_true(reply->claim_slot < lab->limits.claims);
    uint64_t *slot = &lab->slots[reply->claim_slot];
    if (*slot != 0) assert_int_equal(*slot, reply->token); // else it waits for another's news
    *slot = reply->token;
}

static struct machine_reply apply_checked(struct lab *lab, uint8_t type, const void *data,
                                          uint32_t length) {
    keep_record(lab, type, data, length);
    struct machine_reply reply = lab_apply_raw(lab, type, data, length);
    assert_int_equal(machine_fault(lab->machine), MACHINE_FAULT_NONE);
    assert_int_equal(machine_applied(lab->machine), lab->index);
    assert_int_equal(machine_time(lab->machine), lab->time_ns);
    assert_true(reply.status < WIRE_STATUS_COUNT);
    if (reply.status == WIRE_FULL)
        assert_true(reply.detail >= WIRE_TABLE_SESSION && reply.detail <= WIRE_TABLE_CLAIM);
    else
        assert_int_equal(reply.detail, 0);
    if (type == RAFT_ENTRY_NOOP) {
        assert_int_equal(reply.claim_slot, UINT32_MAX);
        return reply;
    }
    const struct wire_request *request = data;
    // A cached answer is to the command that was executed, whatever the same sequence says now.
    if (!reply.duplicate) assert_int_equal(reply.op, request->op);
    if (wire_op_is_internal(request->op)) {
        assert_int_equal(reply.session, 0);
        assert_int_equal(reply.claim_slot, UINT32_MAX);
        return reply;
    }
    assert_int_equal(reply.sequence, request->sequence);
    if (request->op == WIRE_OP_SESSION_OPEN)
        assert_true(reply.session == 0 || reply.session == reply.token);
    else
        assert_int_equal(reply.session, request->session);
    check_slot(lab, &reply);
    return reply;
}

struct machine_reply lab_noop(struct lab *lab, const struct machine_limits *limits) {
    return apply_checked(lab, RAFT_ENTRY_NOOP, agreed_or_own(lab, limits), sizeof *limits);
}

struct machine_reply lab_apply(struct lab *lab, const struct ask *ask) {
    union command command;
    command_build(&command, ask);
    uint32_t length = command.request.head.length;
    bool internal = wire_op_is_internal(ask->op);
    assert_int_equal(machine_validate(&command.request, length, internal), WIRE_OK);
    return apply_checked(lab, RAFT_ENTRY_COMMAND, &command, length);
}

struct machine_reply lab_follow(struct lab *lab, const struct lab *leader) {
    uint64_t next = machine_applied(lab->machine);
    assert_true(next < leader->record_count);
    const struct record *record = leader->records[next];
    lab->term = record->term;
    lab->time_ns = record->time_ns;
    return apply_checked(lab, record->type, &record->command, record->length);
}

// ---------------------------------------------------------------- clients

struct client client_open(struct lab *lab) {
    static uint64_t nonce = 0x6e6f6e63650000ull;
    struct client client = {.nonce = ++nonce};
    struct machine_reply reply =
        lab_apply(lab, &(struct ask){.op = WIRE_OP_SESSION_OPEN, .token = client.nonce});
    assert_int_equal(reply.status, WIRE_OK);
    assert_true(reply.token != 0);
    client.session = reply.token;
    return client;
}

struct machine_reply client_do(struct lab *lab, struct client *client, struct ask ask) {
    ask.session = client->session;
    ask.sequence = ++client->sequence;
    return lab_apply(lab, &ask);
}

struct machine_reply client_again(struct lab *lab, const struct client *client, struct ask ask,
                                  uint64_t sequence) {
    ask.session = client->session;
    ask.sequence = sequence;
    return lab_apply(lab, &ask);
}

uint64_t grant(struct lab *lab, struct client *client, uint64_t ttl_ms) {
    struct machine_reply reply =
        client_do(lab, client, (struct ask){.op = WIRE_OP_LEASE_GRANT, .amount = ttl_ms});
    assert_int_equal(reply.status, WIRE_OK);
    assert_int_equal(reply.amount, ttl_ms);
    assert_true(reply.token != 0);
    assert_false(reply.duplicate);
    return reply.token;
}

struct machine_reply keepalive(struct lab *lab, struct client *client, uint64_t lease) {
    return client_do(lab, client, (struct ask){.op = WIRE_OP_LEASE_KEEPALIVE, .lease = lease});
}

struct machine_reply revoke(struct lab *lab, struct client *client, uint64_t lease) {
    return client_do(lab, client, (struct ask){.op = WIRE_OP_LEASE_REVOKE, .lease = lease});
}

struct machine_reply acquire(struct lab *lab, struct client *client, const char *name,
                             uint64_t lease, uint64_t wait) {
    return client_do(
        lab, client,
        (struct ask){.op = WIRE_OP_LOCK_ACQUIRE, .name = name, .lease = lease, .amount = wait});
}

struct machine_reply release(struct lab *lab, struct client *client, const char *name,
                             uint64_t token) {
    return client_do(lab, client,
                     (struct ask){.op = WIRE_OP_LOCK_RELEASE, .name = name, .token = token});
}

uint64_t must_hold(struct lab *lab, struct client *client, const char *name, uint64_t lease) {
    struct machine_reply reply = acquire(lab, client, name, lease, 0);
    assert_int_equal(reply.status, WIRE_OK);
    assert_int_equal(reply.token, lab->index);
    return reply.token;
}

uint64_t must_queue(struct lab *lab, struct client *client, const char *name, uint64_t lease,
                    uint64_t wait) {
    struct machine_reply reply = acquire(lab, client, name, lease, wait);
    assert_int_equal(reply.status, WIRE_QUEUED);
    assert_int_equal(reply.token, lab->index); // claim: log index at which it was asked for
    return reply.token;
}

void must_release(struct lab *lab, struct client *client, const char *name, uint64_t token) {
    assert_int_equal(release(lab, client, name, token).status, WIRE_OK);
}

// ---------------------------------------------------------------- reads

struct machine_reply lab_query(struct lab *lab, const struct ask *ask, void *value,
                               uint32_t *bytes) {
    union command command;
    command_build(&command, ask);
    assert_int_equal(machine_validate(&command.request, command.request.head.length, false),
                     WIRE_OK);
    struct machine_reply reply;
    memset(&reply, 0xa5, sizeof reply);
    _Alignas(8) uint8_t room[WIRE_VALUE_MAX];
    uint64_t hash = machine_hash(lab->machine);
    *bytes = machine_query(lab->machine, lab->time_ns, &command.request, &reply, room);
    assert_true(*bytes <= WIRE_VALUE_MAX);
    memcpy(value, room, *bytes);
    assert_int_equal(machine_hash(lab->machine), hash);
    assert_int_equal(reply.op, ask->op);
    assert_int_equal(reply.sequence, ask->sequence);
    assert_int_equal(reply.session, 0);
    assert_int_equal(reply.detail, 0);
    assert_false(reply.duplicate);
    check_slot(lab, &reply);
    if (ask->op == WIRE_OP_CLAIM && reply.status == WIRE_QUEUED)
        assert_true(reply.claim_slot != UINT32_MAX); // so that it is heard of again
    return reply;
}

uint64_t holder_token(struct lab *lab, const char *name) {
    struct wire_claim claims[CLAIMS_PER_PAGE];
    uint32_t bytes;
    struct machine_reply reply =
        lab_query(lab, &(struct ask){.op = WIRE_OP_LOCK_HOLDERS, .name = name}, claims, &bytes);
    assert_int_equal(reply.status, WIRE_OK);
    assert_true(reply.amount <= 1);
    assert_int_equal(bytes, reply.amount * sizeof claims[0]);
    if (reply.amount == 1) assert_true(claims[0].token != 0);
    return reply.amount == 1 ? claims[0].token : 0;
}

uint32_t queue_of(struct lab *lab, const void *name, uint32_t name_length,
                  struct wire_claim *claims, uint32_t max) {
    uint32_t got = 0;
    for (;;) {
        struct wire_claim page[CLAIMS_PER_PAGE];
        uint32_t bytes;
        struct ask ask = {.op = WIRE_OP_LOCK_QUEUE,
                          .name = name,
                          .name_length = name_length,
                          .amount = got,
                          .sequence = got + 7};
        struct machine_reply reply = lab_query(lab, &ask, page, &bytes);
        assert_int_equal(reply.status, WIRE_OK);
        assert_int_equal(bytes % sizeof page[0], 0);
        uint32_t count = bytes / (uint32_t)sizeof page[0];
        assert_true(got + count <= reply.amount);
        if (got == reply.amount) return got;
        assert_true(count > 0); // else a reader never gets to the end
        assert_true(got + count <= max);
        memcpy(claims + got, page, bytes);
        got += count;
    }
}

struct machine_reply ttl_of(struct lab *lab, uint64_t lease) {
    uint8_t none[WIRE_VALUE_MAX];
    uint32_t bytes;
    struct machine_reply reply =
        lab_query(lab, &(struct ask){.op = WIRE_OP_LEASE_TTL, .lease = lease}, none, &bytes);
    assert_int_equal(bytes, 0);
    return reply;
}

struct machine_reply claim_of(struct lab *lab, const char *name, uint64_t lease, uint64_t claim) {
    uint8_t none[WIRE_VALUE_MAX];
    uint32_t bytes;
    struct ask ask = {.op = WIRE_OP_CLAIM, .name = name, .lease = lease, .token = claim};
    struct machine_reply reply = lab_query(lab, &ask, none, &bytes);
    assert_int_equal(bytes, 0);
    return reply;
}

// ---------------------------------------------------------------- what a leader does by itself

// Work per call is bounded, so a call may give less than is due: go on while the machine says that
// something is.
#define DUE_CALLS 200000u

uint32_t due_leases(struct lab *lab, struct wire_expiry *out, uint32_t max) {
    uint32_t count = 0;
    for (uint32_t calls = 0; calls < DUE_CALLS && count < max; calls++) {
        if (machine_next_due(lab->machine) > lab->time_ns) break;
        uint32_t room = max - count < 40 ? max - count : 40;
        uint32_t got = machine_due_leases(lab->machine, lab->time_ns, out + count, room);
        assert_true(got <= room);
        // A wait that is due and not asked for here may keep next_due low.
        if (got == 0 && calls > 1000) break;
        count += got;
    }
    for (uint32_t i = 0; i < count; i++) out[i].term = lab->term;
    return count;
}

uint32_t due_waits(struct lab *lab, struct wire_wait_expiry *out, uint32_t max) {
    uint32_t count = 0;
    for (uint32_t calls = 0; calls < DUE_CALLS && count < max; calls++) {
        if (machine_next_due(lab->machine) > lab->time_ns) break;
        uint32_t room = max - count < 40 ? max - count : 40;
        uint32_t got = machine_due_waits(lab->machine, lab->time_ns, out + count, room);
        assert_true(got <= room);
        if (got == 0 && calls > 1000) break;
        count += got;
    }
    return count;
}

struct machine_reply expire_leases(struct lab *lab, const struct wire_expiry *list,
                                   uint32_t count) {
    return lab_apply(lab, &(struct ask){.op = WIRE_OP_EXPIRE_LEASES,
                                        .value = list,
                                        .value_length = count * (uint32_t)sizeof *list});
}

struct machine_reply expire_waits(struct lab *lab, const struct wire_wait_expiry *list,
                                  uint32_t count) {
    return lab_apply(lab, &(struct ask){.op = WIRE_OP_EXPIRE_WAITS,
                                        .value = list,
                                        .value_length = count * (uint32_t)sizeof *list});
}

void tick(struct lab *lab) {
    lab_apply(lab, &(struct ask){.op = WIRE_OP_TICK,
                                 .amount = machine_applied(lab->machine),
                                 .token = machine_hash(lab->machine)});
}

// ---------------------------------------------------------------- comparing

const struct machine_notice *notice_of(const struct lab *lab, uint64_t claim) {
    for (uint32_t i = 0; i < lab->notice_count; i++)
        if (lab->notices[i].claim == claim) return &lab->notices[i];
    return NULL;
}

void assert_sizes(const struct lab *lab, uint32_t sessions, uint32_t leases, uint32_t locks,
                  uint32_t claims) {
    struct machine_sizes sizes = machine_sizes(lab->machine);
    assert_int_equal(sizes.sessions, sessions);
    assert_int_equal(sizes.leases, leases);
    assert_int_equal(sizes.locks, locks);
    assert_int_equal(sizes.claims, claims);
}

bool is_gone(uint16_t status) {
    return status == WIRE_NO_LEASE || status == WIRE_LEASE_EXPIRED;
}

void assert_same_reply(const struct machine_reply *a, const struct machine_reply *b) {
    assert_int_equal(a->session, b->session);
    assert_int_equal(a->sequence, b->sequence);
    assert_int_equal(a->token, b->token);
    assert_int_equal(a->amount, b->amount);
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->detail, b->detail);
    assert_int_equal(a->duplicate, b->duplicate);
}

void assert_same_notices(const struct lab *a, const struct lab *b) {
    assert_int_equal(a->notice_count, b->notice_count);
    for (uint32_t i = 0; i < a->notice_count; i++) {
        const struct machine_notice *one = &a->notices[i];
        const struct machine_notice *other = notice_of(b, one->claim);
        assert_non_null(other);
        assert_int_equal(one->session, other->session);
        assert_int_equal(one->lease, other->lease);
        assert_int_equal(one->token, other->token);
        assert_int_equal(one->status, other->status);
    }
}

void assert_equal_machines(const struct lab *a, const struct lab *b) {
    assert_int_equal(machine_applied(a->machine), machine_applied(b->machine));
    assert_int_equal(machine_time(a->machine), machine_time(b->machine));
    assert_int_equal(machine_hash(a->machine), machine_hash(b->machine));
    assert_int_equal(machine_digest(a->machine), machine_digest(b->machine));
    struct machine_sizes sizes = machine_sizes(b->machine);
    assert_sizes(a, sizes.sessions, sizes.leases, sizes.locks, sizes.claims);
}

// ---------------------------------------------------------------- snapshots

#define READ_BYTES 4096u

bool stream_pull(struct stream *stream, struct lab *lab) {
    if (stream->room - stream->length < READ_BYTES) {
        stream->room = stream->room * 2 + 4 * READ_BYTES;
        stream->bytes = realloc(stream->bytes, stream->room);
        assert_non_null(stream->bytes);
    }
    // A buffer of exactly the size told, so that a sanitizer sees a write beyond it.
    uint8_t *exact = malloc(READ_BYTES);
    assert_non_null(exact);
    uint32_t got = machine_snapshot_read(lab->machine, exact, READ_BYTES);
    assert_true(got <= READ_BYTES);
    memcpy(stream->bytes + stream->length, exact, got);
    free(exact);
    stream->length += got;
    return got > 0;
}

struct stream stream_of(struct lab *lab) {
    struct stream stream = {0};
    machine_snapshot_begin(lab->machine);
    assert_true(machine_snapshot_active(lab->machine));
    while (stream_pull(&stream, lab)) assert_true(stream.length < 1u << 30);
    machine_snapshot_end(lab->machine);
    assert_false(machine_snapshot_active(lab->machine));
    assert_true(stream.length > 0);
    return stream;
}

void stream_free(struct stream *stream) {
    free(stream->bytes);
    *stream = (struct stream){0};
}

bool lab_restore(struct lab *lab, const struct stream *stream, const uint32_t *pieces,
                 uint32_t piece_count) {
    memset(lab->slots, 0, sizeof lab->slots);
    lab->notice_count = 0;
    machine_restore_begin(lab->machine);
    uint32_t offset = 0;
    for (uint32_t i = 0; offset < stream->length; i++) {
        uint32_t take = pieces[i % piece_count];
        if (take > stream->length - offset) take = stream->length - offset;
        uint8_t *exact = malloc(take > 0 ? take : 1);
        assert_non_null(exact);
        memcpy(exact, stream->bytes + offset, take);
        bool good = machine_restore_write(lab->machine, exact, take);
        free(exact);
        if (!good) return false;
        offset += take;
    }
    bool good = machine_restore_end(lab->machine);
    assert_int_equal(lab->notice_count, 0); // nobody is told anew of what was told before
    return good;
}

struct lab *lab_restored(const struct machine_limits *limits, const struct stream *stream) {
    static const uint32_t pieces[] = {1, 4096, 7, 63, 1000};
    struct lab *lab = lab_bare(limits);
    lab->silent = true;
    assert_true(lab_restore(lab, stream, pieces, sizeof pieces / sizeof pieces[0]));
    lab->index = machine_applied(lab->machine);
    lab->time_ns = machine_time(lab->machine);
    return lab;
}
