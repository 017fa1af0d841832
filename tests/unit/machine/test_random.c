// Random lives: thousands of commands, right and wrong, new and retried, against the simple model
// of model.h, which judges every reply, notice, size and read. Beside the machine run
//   - a twin with larger tables that gets the same entries: equal hash and digest at all times;
//   - a third that is created again and again from a snapshot taken while entries went on, and
//     then must answer as the first one did.
// One seed is one life, the same each time; a failing run ends its output with the seed.
#include "model.h"

#define SEEDS    45
#define STEPS    4000
#define CLIENTS  10
#define NAMES    12
#define HISTORY  48
#define REMEMBER 16
#define STALLED  8

struct name {
    uint8_t bytes[WIRE_NAME_MAX];
    uint32_t length;
};

struct held { // something a client was told of, perhaps gone by now
    uint32_t name;
    uint64_t lease, token;
};

struct actor {
    struct client client;
    struct ask history[HISTORY]; // with session and sequence, to be sent again
    uint32_t sent;
    uint64_t leases[REMEMBER];
    struct held grants[REMEMBER], claims[REMEMBER];
    uint32_t lease_count, grant_count, claim_count;
};

struct proposal { // of the leader, not yet in the log
    uint64_t term;
    uint32_t lease_count, wait_count;
    struct wire_expiry leases[40];
    struct wire_wait_expiry waits[40];
};

struct happened { // in all lives together
    uint64_t statuses[WIRE_STATUS_COUNT], notices[WIRE_STATUS_COUNT];
    uint64_t full[WIRE_TABLE_CLAIM + 1];
    uint64_t duplicates, evicted, restores;
};

struct life {
    uint64_t seed, chance;
    struct lab *lab, *twin, *third;
    struct model model;
    struct name names[NAMES];
    struct actor actors[CLIENTS];
    struct proposal stalled[STALLED];
    uint32_t stalled_count;
    struct machine_reply *replies; // of each entry
    struct stream stream;          // of the snapshot under way
    struct happened *all;
};

static uint64_t draw(struct life *l, uint64_t below) {
    l->chance ^= l->chance << 13; // xorshift64
    l->chance ^= l->chance >> 7;
    l->chance ^= l->chance << 17;
    return (l->chance >> 11) % below;
}

static bool one_in(struct life *l, uint64_t n) {
    return draw(l, n) == 0;
}

// ---------------------------------------------------------------- entries

// Right after an entry of the first machine: judged, and given to the twin.
static struct machine_reply settle(struct life *l, struct machine_reply reply) {
    const struct record *record = l->lab->records[l->lab->record_count - 1];
    struct machine_reply twin = lab_follow(l->twin, l->lab);
    assert_same_reply(&reply, &twin);
    assert_same_notices(l->lab, l->twin);
    assert_int_equal(machine_hash(l->lab->machine), machine_hash(l->twin->machine));
    model_apply(&l->model, l->lab, record, &reply);
    l->replies[l->lab->record_count - 1] = reply;
    l->all->statuses[reply.status]++;
    if (reply.status == WIRE_FULL) l->all->full[reply.detail]++;
    l->all->duplicates += reply.duplicate;
    for (uint32_t i = 0; i < l->lab->notice_count; i++)
        l->all->notices[l->lab->notices[i].status]++;
    return reply;
}

// Only the twin is asked, through a copy, so that the two stay alike.
static uint32_t find_victim(void *context, const struct model_session *sessions, uint32_t count) {
    struct life *l = context;
    struct stream stream = stream_of(l->twin);
    struct lab *copy = lab_restored(&l->twin->limits, &stream);
    stream_free(&stream);
    uint32_t victim = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        struct client client = {.session = sessions[i].id, .sequence = sessions[i].highest};
        if (keepalive(copy, &client, 1).status != WIRE_NO_SESSION) continue;
        assert_int_equal(victim, UINT32_MAX); // one is enough
        victim = i;
    }
    assert_int_not_equal(victim, UINT32_MAX);
    l->all->evicted++;
    lab_close(copy);
    return victim;
}

static void open_session(struct life *l, struct actor *actor) {
    bool again = actor->client.nonce != 0 && one_in(l, 4);
    if (!again) actor->client.nonce = 1 + draw(l, UINT64_MAX >> 12);
    struct ask ask = {.op = WIRE_OP_SESSION_OPEN, .token = actor->client.nonce};
    struct machine_reply reply = settle(l, lab_apply(l->lab, &ask));
    if (reply.status != WIRE_OK || reply.token == actor->client.session) return;
    actor->client.session = reply.token;
    actor->client.sequence = 0; // the history stays: copies of it are still in the network
    actor->lease_count = actor->grant_count = actor->claim_count = 0;
}

static void forget_lease(struct actor *actor, uint64_t lease) {
    for (uint32_t i = 0; i < actor->lease_count; i++)
        if (actor->leases[i] == lease) actor->leases[i] = actor->leases[--actor->lease_count];
}

static struct machine_reply send(struct life *l, struct actor *actor, struct ask ask) {
    ask.session = actor->client.session;
    actor->client.sequence += one_in(l, 40) ? 1 + draw(l, 40) : 1; // some never arrive
    ask.sequence = actor->client.sequence;
    if (ask.sequence > 4 && one_in(l, 60)) ask.sequence -= draw(l, 4); // overtaken
    actor->history[actor->sent++ % HISTORY] = ask;
    struct machine_reply reply = settle(l, lab_apply(l->lab, &ask));
    if (reply.status == WIRE_NO_SESSION) open_session(l, actor);
    if (is_gone(reply.status) && !one_in(l, 6)) forget_lease(actor, ask.lease);
    return reply;
}

static void resend(struct life *l, struct actor *actor) {
    uint32_t count = actor->sent < HISTORY ? actor->sent : HISTORY;
    if (count == 0) return;
    struct ask ask = actor->history[draw(l, count)];
    settle(l, lab_apply(l->lab, &ask));
}

static struct ask named(struct life *l, uint32_t name, struct ask ask) {
    ask.name = l->names[name].bytes;
    ask.name_length = l->names[name].length;
    return ask;
}

static void remember(struct life *l, struct held *list, uint32_t *count, struct held held) {
    uint32_t at = *count < REMEMBER ? (*count)++ : (uint32_t)draw(l, REMEMBER);
    list[at] = held;
}

static uint64_t some_lease(struct life *l, const struct actor *actor) {
    if (actor->lease_count == 0 || one_in(l, 50)) return 1 + draw(l, l->lab->index + 3);
    return actor->leases[draw(l, actor->lease_count)];
}

static void grant_some(struct life *l, struct actor *actor) {
    static const uint64_t ttls[] = {10, 400, 3000, 20000, 60000, 300000};
    uint64_t ttl_ms = ttls[draw(l, 6)] + draw(l, 500);
    struct machine_reply reply =
        send(l, actor, (struct ask){.op = WIRE_OP_LEASE_GRANT, .amount = ttl_ms});
    if (reply.status != WIRE_OK || reply.duplicate) return; // an overtaken number's old answer
    uint32_t at =
        actor->lease_count < REMEMBER ? actor->lease_count++ : (uint32_t)draw(l, REMEMBER);
    actor->leases[at] = reply.token;
}

static void acquire_some(struct life *l, struct actor *actor) {
    static const uint64_t waits[] = {0, 0, WIRE_WAIT_FOREVER, 5, 300, 4000, 60000};
    uint32_t name = (uint32_t)draw(l, NAMES);
    uint64_t lease = some_lease(l, actor);
    struct ask ask = {.op = WIRE_OP_LOCK_ACQUIRE, .lease = lease, .amount = waits[draw(l, 7)]};
    struct machine_reply reply = send(l, actor, named(l, name, ask));
    if (reply.duplicate) return;
    struct held held = {.name = name, .lease = lease, .token = reply.token};
    if (reply.status == WIRE_OK) remember(l, actor->grants, &actor->grant_count, held);
    if (reply.status == WIRE_QUEUED) remember(l, actor->claims, &actor->claim_count, held);
}

static void release_some(struct life *l, struct actor *actor) {
    uint32_t name = (uint32_t)draw(l, NAMES);
    uint64_t token = 1 + draw(l, l->lab->index + 2);
    if (actor->grant_count > 0 && one_in(l, 3)) { // perhaps released before, perhaps lost
        struct held *held = &actor->grants[draw(l, actor->grant_count)];
        name = held->name;
        token = held->token;
    } else if (!one_in(l, 10)) { // of whoever holds it: the token is enough
        for (uint32_t i = 0; i < l->model.claim_count; i++) {
            const struct model_claim *claim = &l->model.claims[i];
            bool same = claim->name_length == l->names[name].length &&
                        memcmp(claim->name, l->names[name].bytes, claim->name_length) == 0;
            if (same && claim->token != 0) token = claim->token;
        }
    }
    send(l, actor, named(l, name, (struct ask){.op = WIRE_OP_LOCK_RELEASE, .token = token}));
}

// ---------------------------------------------------------------- the leader

static void propose(struct life *l, struct proposal *proposal) {
    if (proposal->lease_count > 0) {
        for (uint32_t i = 0; i < proposal->lease_count; i++)
            proposal->leases[i].term = proposal->term;
        settle(l, expire_leases(l->lab, proposal->leases, proposal->lease_count));
    }
    if (proposal->wait_count > 0)
        settle(l, expire_waits(l->lab, proposal->waits, proposal->wait_count));
}

static void look_for_due(struct life *l) {
    struct wire_expiry leases[MODEL_LEASES];
    struct wire_wait_expiry waits[MODEL_CLAIMS];
    uint32_t lease_count = due_leases(l->lab, leases, MODEL_LEASES);
    uint32_t wait_count = due_waits(l->lab, waits, MODEL_CLAIMS);
    model_check_due(&l->model, l->lab, leases, lease_count, waits, wait_count);
    uint32_t lease_at = 0, wait_at = 0;
    while (lease_at < lease_count || wait_at < wait_count) {
        struct proposal proposal = {.term = l->lab->term};
        while (lease_at < lease_count && proposal.lease_count < 40)
            proposal.leases[proposal.lease_count++] = leases[lease_at++];
        while (wait_at < wait_count && proposal.wait_count < 40)
            proposal.waits[proposal.wait_count++] = waits[wait_at++];
        uint64_t fate = draw(l, 10);
        if (fate < 6)
            propose(l, &proposal);
        else if (fate < 9 && l->stalled_count < STALLED) // comes later, perhaps in another's term
            l->stalled[l->stalled_count++] = proposal;
    }
}

static void lead(struct life *l) {
    switch (draw(l, 8)) {
    case 0:
        if (l->stalled_count > 0) propose(l, &l->stalled[--l->stalled_count]);
        break;
    case 1:
        if (one_in(l, 4)) l->lab->term++;
        settle(l, lab_noop(l->lab, NULL));
        break;
    case 2: {
        struct ask ask = {.op = WIRE_OP_TICK,
                          .amount = machine_applied(l->lab->machine),
                          .token = machine_hash(l->lab->machine)};
        settle(l, lab_apply(l->lab, &ask));
        break;
    }
    default:
        look_for_due(l);
    }
}

// ---------------------------------------------------------------- the third machine

static void catch_up(struct life *l) {
    if (l->third == NULL) return;
    while (machine_applied(l->third->machine) < l->lab->record_count) {
        uint64_t at = machine_applied(l->third->machine);
        struct machine_reply reply = lab_follow(l->third, l->lab);
        assert_same_reply(&reply, &l->replies[at]);
    }
    assert_equal_machines(l->third, l->lab);
}

static void snapshot_step(struct life *l) {
    if (!machine_snapshot_active(l->lab->machine)) {
        if (one_in(l, 150)) machine_snapshot_begin(l->lab->machine);
        return;
    }
    if (stream_pull(&l->stream, l->lab)) {
        if (one_in(l, 200)) { // given up
            machine_snapshot_end(l->lab->machine);
            stream_free(&l->stream);
        }
        return;
    }
    machine_snapshot_end(l->lab->machine);
    catch_up(l);
    if (l->third != NULL) lab_close(l->third);
    l->third = lab_restored(&l->twin->limits, &l->stream);
    l->all->restores++;
    stream_free(&l->stream);
}

// ---------------------------------------------------------------- a life

static void pass_time(struct life *l) {
    uint64_t kind = draw(l, 1000);
    if (kind < 500) lab_later(l->lab, draw(l, 3 * MS));
    if (kind >= 500 && kind < 900) lab_later(l->lab, draw(l, 40 * MS));
    if (kind >= 970 && kind < 997) lab_later(l->lab, draw(l, 2 * SECOND));
    if (kind >= 997) lab_later(l->lab, draw(l, 80 * SECOND));
}

static void step(struct life *l) {
    pass_time(l);
    struct actor *actor = &l->actors[draw(l, CLIENTS)];
    if (actor->client.session == 0) {
        open_session(l, actor);
        return;
    }
    uint64_t kind = draw(l, 100);
    if (kind < 2)
        open_session(l, actor);
    else if (kind < 12)
        grant_some(l, actor);
    else if (kind < 24)
        send(l, actor, (struct ask){.op = WIRE_OP_LEASE_KEEPALIVE, .lease = some_lease(l, actor)});
    else if (kind < 27)
        send(l, actor, (struct ask){.op = WIRE_OP_LEASE_REVOKE, .lease = some_lease(l, actor)});
    else if (kind < 58)
        acquire_some(l, actor);
    else if (kind < 80)
        release_some(l, actor);
    else if (kind < 88)
        resend(l, actor);
    else
        lead(l);
}

static void read_some(struct life *l) {
    const struct actor *actor = &l->actors[draw(l, CLIENTS)];
    uint32_t name = (uint32_t)draw(l, NAMES);
    uint64_t lease = some_lease(l, actor), claim = 1 + draw(l, l->lab->index + 2);
    if (actor->claim_count > 0 && !one_in(l, 5)) {
        const struct held *held = &actor->claims[draw(l, actor->claim_count)];
        name = held->name;
        lease = held->lease;
        claim = held->token;
    }
    // A leader's clock runs on between entries.
    uint64_t now = l->lab->time_ns;
    if (one_in(l, 3)) l->lab->time_ns += draw(l, 200 * MS);
    model_check_reads(&l->model, l->lab, l->names[name].bytes, l->names[name].length, lease, claim);
    l->lab->time_ns = now;
}

static void make_names(struct life *l) {
    for (uint32_t i = 0; i < NAMES; i++) {
        struct name *name = &l->names[i];
        name->length = i < 4 ? 1 + i / 2 : (uint32_t)(1 + draw(l, WIRE_NAME_MAX));
        if (i >= NAMES - 2) name->length = WIRE_NAME_MAX;
        for (uint32_t k = 0; k < name->length; k++) name->bytes[k] = (uint8_t)draw(l, 3);
        name->bytes[name->length - 1] = (uint8_t)i; // all different
    }
}

static struct life *begin_life(uint64_t seed, const struct policy *policy) {
    static const struct machine_limits limits[] = {
        {.sessions = 8, .leases = 60, .locks = 20, .claims = 90},  // sessions are scarce
        {.sessions = 14, .leases = 16, .locks = 6, .claims = 11},  // the other tables are
        {.sessions = 14, .leases = 60, .locks = 20, .claims = 90}, // nothing is
    };
    struct life *l = calloc(1, sizeof *l);
    assert_non_null(l);
    l->seed = seed;
    l->chance = seed * 0x9e3779b97f4a7c15ull + 1;
    l->replies = calloc(STEPS * 8, sizeof *l->replies);
    assert_non_null(l->replies);
    make_names(l);
    l->model.policy = *policy;
    l->model.limits = limits[seed % 3];
    l->model.victim = find_victim;
    l->model.context = l;
    l->lab = lab_open(&l->model.limits);
    struct machine_limits larger = {.sessions = 64, .leases = 100, .locks = 33, .claims = 257};
    l->twin = lab_bare(&larger);
    l->twin->silent = true;
    l->replies[0] = lab_follow(l->twin, l->lab);
    return l;
}

static void end_life(struct life *l) {
    if (machine_snapshot_active(l->lab->machine)) machine_snapshot_end(l->lab->machine);
    stream_free(&l->stream);
    if (l->third != NULL) lab_close(l->third);
    lab_close(l->twin);
    lab_close(l->lab);
    free(l->replies);
    free(l);
}

// The lives are worth nothing if the interesting things did not happen in them.
static void assert_eventful(const struct happened *all) {
    static const uint16_t wanted[] = {
        WIRE_OK,         WIRE_QUEUED,      WIRE_NO_LEASE,   WIRE_LEASE_EXPIRED,
        WIRE_NOT_HOLDER, WIRE_WOULD_BLOCK, WIRE_NO_SESSION, WIRE_STALE_SEQUENCE};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        assert_true(all->statuses[wanted[i]] > 20 * SEEDS);
    for (int table = WIRE_TABLE_SESSION; table <= WIRE_TABLE_CLAIM; table++)
        assert_true(all->full[table] > 2 * SEEDS);
    assert_true(all->notices[WIRE_OK] > 20 * SEEDS);
    assert_true(all->notices[WIRE_WAIT_TIMEOUT] > 5 * SEEDS);
    assert_true(all->notices[WIRE_LEASE_EXPIRED] > 5 * SEEDS);
    assert_true(all->notices[WIRE_NO_LEASE] > 2 * SEEDS);
    assert_true(all->duplicates > 50 * SEEDS);
    assert_true(all->evicted > SEEDS);
    assert_true(all->restores > 5 * SEEDS);
}

static void live(uint64_t seed, const struct policy *policy, struct happened *all) {
    struct life *l = begin_life(seed, policy);
    l->all = all;
    print_message("seed %u\n", (unsigned)seed);
    for (uint32_t i = 0; i < STEPS; i++) {
        step(l);
        read_some(l);
        snapshot_step(l);
        if (i % 8 == 0) assert_equal_machines(l->lab, l->twin);
        if (i % 64 == 0) catch_up(l);
        assert_true(l->lab->record_count < STEPS * 8 - 64);
    }
    catch_up(l);
    assert_equal_machines(l->lab, l->twin);
    end_life(l);
}

static void random_lives_agree_with_the_model(void **state) {
    struct policy policy;
    policy_probe(&policy);
    struct happened all = {0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) live(seed, &policy, &all);
    assert_eventful(&all);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_lives_agree_with_the_model)};
    return cmocka_run_group_tests_name("machine_random", tests, NULL, NULL);
}
