// The engine's exchange: exactly once, in doubt, and which node to ask.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "wire.h"

static uint16_t grant(struct harness *h, struct outcome *outcome) {
    struct core_call call = {.op = WIRE_OP_LEASE_GRANT, .amount = 60000};
    return core_start(h->core, h->now_ns, &call, outcome_done, outcome);
}

static uint16_t read_ttl(struct harness *h, uint64_t lease, struct outcome *outcome) {
    struct core_call call = {.op = WIRE_OP_LEASE_TTL, .lease = lease};
    return core_start(h->core, h->now_ns, &call, outcome_done, outcome);
}

// ---------------------------------------------------------------- exactly once

// Feared most: a retry that the cluster takes for a new operation.
static void each_operation_is_executed_once_whatever_the_network_does(void **state) {
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct core_options options = harness_options();
        struct harness *h = harness_open(seed, &options);
        h->loss = 20;
        h->duplication = 20;
        h->reorder = 30;
        h->fake.leader = (uint32_t)(seed % FAKE_NODES);
        enum { COUNT = 60 };
        static struct outcome outcomes[COUNT];
        memset(outcomes, 0, sizeof outcomes);
        for (uint32_t i = 0; i < COUNT; i++) assert_int_equal(grant(h, &outcomes[i]), WIRE_OK);
        harness_run(h, 10 * SECOND);
        uint32_t ok = 0;
        uint32_t unknown = 0;
        for (uint32_t i = 0; i < COUNT; i++) {
            assert_int_equal(outcomes[i].told, 1);
            ok += outcomes[i].result.status == WIRE_OK;
            unknown += outcomes[i].result.status == WIRE_UNKNOWN;
            for (uint32_t k = 0; k < i && outcomes[i].result.status == WIRE_OK; k++) {
                assert_int_not_equal(outcomes[i].result.token, outcomes[k].result.token);
            }
        }
        assert_int_equal(ok + unknown, COUNT);
        assert_true(ok > COUNT / 2);
        assert_in_range(h->fake.by_op[WIRE_OP_LEASE_GRANT], ok, COUNT);
        harness_close(h);
    }
}

static uint64_t lowest_open;
static uint64_t highest_seen;
static void watch_window(struct harness *h, uint32_t node, const struct wire_request *request) {
    if (request->op != WIRE_OP_LEASE_GRANT) return;
    if (request->sequence > highest_seen) highest_seen = request->sequence;
    assert_true(highest_seen < lowest_open + WIRE_SESSION_WINDOW);
}
static bool swallow_first(struct fake_cluster *fake, uint32_t node,
                          const struct wire_request *request, struct wire_reply *reply) {
    if (request->op != WIRE_OP_LEASE_GRANT || request->sequence != 1) return false;
    reply->sequence = 1ull << 60; // answers nothing: as if lost
    return true;
}

static void no_more_sequences_are_open_than_the_window(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(3, &options);
    h->watch = watch_window;
    h->fake.before = swallow_first;
    lowest_open = 1;
    highest_seen = 0;
    static struct outcome outcomes[50];
    memset(outcomes, 0, sizeof outcomes);
    for (uint32_t i = 0; i < 50; i++) assert_int_equal(grant(h, &outcomes[i]), WIRE_OK);
    harness_run(h, 2 * SECOND);
    assert_int_equal(highest_seen, WIRE_SESSION_WINDOW); // all that fit above the stuck one
    assert_int_equal(outcomes[0].told, 0);
    assert_int_equal(outcomes[31].told, 1);
    assert_int_equal(outcomes[32].told, 0);
    assert_true(core_counter(h->core, CORE_COUNT_WINDOW_FULL) > 0);
    lowest_open = 33; // the first is given up at its deadline; then the rest goes on
    harness_run(h, 5 * SECOND);
    assert_int_equal(outcomes[0].result.status, WIRE_UNKNOWN);
    // Those that never left are no mystery.
    assert_int_equal(outcomes[49].told, 1);
    assert_true(outcomes[49].result.status == WIRE_OK ||
                outcomes[49].result.status == CORE_TIMEOUT);
    harness_close(h);
}

// ---------------------------------------------------------------- doubt

static void silence_makes_a_sent_change_unknown_and_a_read_a_timeout(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(4, &options);
    struct outcome first = {0};
    grant(h, &first);
    assert_true(harness_until(h, &first.told, SECOND));
    for (uint32_t i = 0; i < FAKE_NODES; i++) h->cut[i] = true;
    struct outcome change = {.harness = h};
    struct outcome read = {0};
    uint64_t begun_ns = h->now_ns;
    grant(h, &change);
    read_ttl(h, first.result.token, &read);
    harness_run(h, 6 * SECOND);
    assert_int_equal(change.result.status, WIRE_UNKNOWN);
    assert_int_equal(read.result.status, CORE_TIMEOUT);
    assert_true(change.when_ns - begun_ns <= 5 * SECOND + 2 * MS);
    assert_non_null(core_problem(h->core));
    // Backed off: not a packet every 20 ms.
    assert_in_range(core_counter(h->core, CORE_COUNT_REQUESTS_RESENT), 6, 40);
    harness_close(h);
}

static void what_never_left_is_a_timeout_not_unknown(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(5, &options);
    for (uint32_t i = 0; i < FAKE_NODES; i++) h->cut[i] = true;
    struct outcome outcome = {0}; // no session could be opened for it
    grant(h, &outcome);
    harness_run(h, 6 * SECOND);
    assert_int_equal(outcome.result.status, CORE_TIMEOUT);
    // And the engine is quiet when nobody wants anything of it.
    uint64_t sent = h->sent;
    harness_run(h, 60 * SECOND);
    assert_int_equal(h->sent, sent);
    harness_close(h);
}

static bool forget_session;
static bool answer_no_session(struct fake_cluster *fake, uint32_t node,
                              const struct wire_request *request, struct wire_reply *reply) {
    if (!forget_session || request->session == 0) return false;
    memset(fake->sessions, 0, sizeof fake->sessions);
    forget_session = false;
    return false;
}

static void a_lost_session_is_replaced_and_what_was_surely_not_executed_goes_on(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(6, &options);
    struct outcome first = {0};
    grant(h, &first);
    assert_true(harness_until(h, &first.told, SECOND));
    uint64_t session = core_session(h->core);
    h->fake.before = answer_no_session;
    forget_session = true;
    struct outcome second = {0};
    grant(h, &second); // sent once, refused: it goes to the next session
    assert_true(harness_until(h, &second.told, SECOND));
    assert_int_equal(second.result.status, WIRE_OK);
    assert_int_not_equal(core_session(h->core), session);
    assert_int_equal(core_counter(h->core, CORE_COUNT_SESSIONS_LOST), 1);
    assert_int_equal(h->fake.by_op[WIRE_OP_LEASE_GRANT], 2);
    harness_close(h);
}

static void a_retried_request_of_a_lost_session_is_unknown(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(7, &options);
    struct outcome first = {0};
    grant(h, &first);
    assert_true(harness_until(h, &first.told, SECOND));
    h->deaf = true; // executed, but the answers are lost
    struct outcome second = {0};
    struct outcome never_sent = {0};
    grant(h, &second);
    harness_run(h, 300 * MS);
    assert_int_equal(h->fake.by_op[WIRE_OP_LEASE_GRANT], 2);
    memset(h->fake.sessions, 0, sizeof h->fake.sessions);
    h->deaf = false;
    assert_true(harness_until(h, &second.told, 3 * SECOND));
    assert_int_equal(second.result.status, WIRE_UNKNOWN);
    grant(h, &never_sent);
    assert_true(harness_until(h, &never_sent.told, SECOND));
    assert_int_equal(never_sent.result.status, WIRE_OK);
    assert_int_equal(h->fake.by_op[WIRE_OP_LEASE_GRANT], 3); // not a fourth
    harness_close(h);
}

static bool answer_stale(struct fake_cluster *fake, uint32_t node,
                         const struct wire_request *request, struct wire_reply *reply) {
    if (request->op != WIRE_OP_LEASE_GRANT) return false;
    reply->status = WIRE_STALE_SEQUENCE;
    return true;
}

static void a_stale_sequence_is_unknown(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(8, &options);
    h->fake.before = answer_stale;
    struct outcome outcome = {0};
    grant(h, &outcome);
    assert_true(harness_until(h, &outcome.told, SECOND));
    assert_int_equal(outcome.result.status, WIRE_UNKNOWN);
    assert_int_equal(core_counter(h->core, CORE_COUNT_STALE_SEQUENCE), 1);
    harness_close(h);
}

static uint32_t busy_left;
static bool answer_busy(struct fake_cluster *fake, uint32_t node,
                        const struct wire_request *request, struct wire_reply *reply) {
    if (request->op != WIRE_OP_LEASE_GRANT || busy_left == 0) return false;
    busy_left--;
    reply->status = WIRE_BUSY;
    return true;
}

static void busy_is_tried_again_later(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(9, &options);
    h->fake.before = answer_busy;
    busy_left = 5;
    struct outcome outcome = {0};
    grant(h, &outcome);
    assert_true(harness_until(h, &outcome.told, 2 * SECOND));
    assert_int_equal(outcome.result.status, WIRE_OK);
    assert_int_equal(core_counter(h->core, CORE_COUNT_BUSY), 5);
    busy_left = UINT32_MAX; // for ever: the time-out ends it
    struct outcome never = {0};
    grant(h, &never);
    uint64_t sent = h->sent;
    assert_true(harness_until(h, &never.told, 6 * SECOND));
    assert_int_equal(never.result.status, WIRE_UNKNOWN);
    assert_in_range(h->sent - sent, 8, 40);
    harness_close(h);
}

// ---------------------------------------------------------------- which node

static void the_leader_is_found_from_any_node_and_followed(void **state) {
    for (uint32_t leader = 0; leader < FAKE_NODES; leader++) {
        struct core_options options = harness_options();
        struct harness *h = harness_open(10 + leader, &options);
        h->fake.leader = leader;
        struct outcome outcome = {.harness = h};
        uint64_t begun_ns = h->now_ns;
        grant(h, &outcome);
        assert_true(harness_until(h, &outcome.told, SECOND));
        assert_int_equal(outcome.result.status, WIRE_OK);
        assert_true(outcome.when_ns - begun_ns <= 8 * MS); // by hints, not by time-outs
        assert_int_equal(core_leader(h->core), h->fake.endpoints[leader]);
        // It falls silent, another leads.
        h->cut[leader] = true;
        h->fake.leader = (leader + 1) % FAKE_NODES;
        struct outcome after = {.harness = h};
        begun_ns = h->now_ns;
        grant(h, &after);
        assert_true(harness_until(h, &after.told, 2 * SECOND));
        assert_int_equal(after.result.status, WIRE_OK);
        assert_true(after.when_ns - begun_ns <= 300 * MS);
        harness_close(h);
    }
}

// Two nodes that name each other must neither be hammered nor hide the third, which leads.
static bool name_each_other(struct fake_cluster *fake, uint32_t node,
                            const struct wire_request *request, struct wire_reply *reply) {
    if (node == 2) return false;
    reply->status = WIRE_NOT_LEADER;
    reply->amount = fake->endpoints[1 - node];
    return true;
}

static void a_loop_of_hints_is_not_hammered(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(14, &options);
    h->fake.leader = 2;
    h->fake.before = name_each_other;
    struct outcome outcome = {0};
    grant(h, &outcome);
    harness_run(h, 4 * SECOND);
    assert_true(h->sent < 60);
    harness_close(h);
}

static bool name_the_dead(struct fake_cluster *fake, uint32_t node,
                          const struct wire_request *request, struct wire_reply *reply) {
    if (node != 1) return false;
    reply->status = WIRE_NOT_LEADER;
    reply->amount = fake->endpoints[0];
    return true;
}

static void a_hint_to_a_dead_node_does_not_hide_the_leader(void **state) {
    for (uint64_t seed = 15; seed < 25; seed++) {
        struct core_options options = harness_options();
        struct harness *h = harness_open(seed, &options);
        h->fake.leader = 2;
        h->cut[0] = true;
        h->fake.before = name_the_dead;
        struct outcome outcome = {0};
        grant(h, &outcome);
        assert_true(harness_until(h, &outcome.told, 3 * SECOND));
        assert_int_equal(outcome.result.status, WIRE_OK);
        harness_close(h);
    }
}

static void a_leader_that_was_not_configured_is_accepted_from_a_hint(void **state) {
    struct core_options options = harness_options();
    options.endpoint_count = 1;
    struct harness *h = harness_open(25, &options);
    h->fake.leader = 2;
    struct outcome outcome = {0};
    grant(h, &outcome);
    assert_true(harness_until(h, &outcome.told, SECOND));
    assert_int_equal(outcome.result.status, WIRE_OK);
    assert_int_equal(core_counter(h->core, CORE_COUNT_ENDPOINTS_ADDED), 1);
    harness_close(h);
}

static void without_a_leader_it_waits_for_one(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(26, &options);
    h->fake.leader = FAKE_NOBODY;
    struct outcome outcome = {0};
    grant(h, &outcome);
    harness_run(h, 2 * SECOND);
    assert_int_equal(outcome.told, 0);
    assert_non_null(strstr(core_problem(h->core), "none of them leads"));
    h->fake.leader = 1;
    assert_true(harness_until(h, &outcome.told, SECOND));
    assert_int_equal(outcome.result.status, WIRE_OK);
    assert_null(core_problem(h->core));
    harness_close(h);
}

// ---------------------------------------------------------------- what is not believed

static void the_cluster_is_learned_once_and_kept(void **state) {
    struct core_options options = harness_options();
    options.cluster = 0;
    struct harness *h = harness_open(27, &options);
    h->cut[0] = true;
    h->fake.leader = 1;
    struct outcome outcome = {0};
    grant(h, &outcome);
    assert_true(harness_until(h, &outcome.told, 2 * SECOND));
    assert_int_equal(core_cluster(h->core), FAKE_CLUSTER);
    h->fake.cluster = 77; // another cluster answers at the same addresses
    struct outcome foreign = {0};
    struct core_call call = {.op = WIRE_OP_STATUS, .endpoint = 1};
    _Alignas(8) uint8_t frame[WIRE_FRAME_MAX];
    struct wire_writer writer;
    wire_begin(&writer, frame, sizeof frame, 77, 0, 2);
    struct wire_reply *reply = wire_add(&writer, WIRE_REPLY, 0, sizeof *reply);
    reply->op = WIRE_OP_STATUS;
    core_start(h->core, h->now_ns, &call, outcome_done, &foreign);
    for (uint32_t i = 0; i < FAKE_NODES; i++) h->cut[i] = true;
    harness_inject(h, h->fake.endpoints[1], frame, wire_finish(&writer));
    harness_run(h, 6 * SECOND);
    assert_int_equal(foreign.result.status, CORE_TIMEOUT);
    assert_int_equal(core_cluster(h->core), FAKE_CLUSTER);
    assert_int_equal(core_counter(h->core, CORE_COUNT_DROP_CLUSTER), 1);
    harness_close(h);
}

static void strangers_and_noise_are_counted_and_dropped(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(28, &options);
    struct outcome first = {0};
    grant(h, &first);
    assert_true(harness_until(h, &first.told, SECOND));
    h->deaf = true;
    struct outcome outcome = {0};
    grant(h, &outcome);
    harness_run(h, 10 * MS);
    h->deaf = false;
    for (uint32_t i = 0; i < FAKE_NODES; i++) h->cut[i] = true;

    _Alignas(8) uint8_t frame[WIRE_FRAME_MAX];
    struct wire_writer writer;
    wire_begin(&writer, frame, sizeof frame, FAKE_CLUSTER, 0, 1);
    struct wire_reply *reply = wire_add(&writer, WIRE_REPLY, 0, sizeof *reply);
    reply->op = WIRE_OP_LEASE_GRANT;
    reply->session = core_session(h->core);
    reply->sequence = 2;
    reply->token = 666;
    uint32_t length = wire_finish(&writer);
    harness_inject(h, wire_endpoint_pack(0x7f000001, 9), frame, length); // right, but a stranger's
    frame[60] ^= 1;
    harness_inject(h, h->fake.endpoints[0], frame, length); // damaged
    frame[60] ^= 1;
    harness_inject(h, h->fake.endpoints[0], frame, length - 8);
    harness_inject(h, h->fake.endpoints[0], frame, 0);
    wire_begin(&writer, frame, sizeof frame, FAKE_CLUSTER, 7, 1); // another group
    reply = wire_add(&writer, WIRE_REPLY, 0, sizeof *reply);
    harness_inject(h, h->fake.endpoints[0], frame, wire_finish(&writer));
    wire_begin(&writer, frame, sizeof frame, FAKE_CLUSTER, 0, 1); // wrong operation, then a vote
    reply = wire_add(&writer, WIRE_REPLY, 0, sizeof *reply);
    reply->op = WIRE_OP_LEASE_REVOKE;
    reply->session = core_session(h->core);
    reply->sequence = 2;
    assert_non_null(wire_add(&writer, WIRE_VOTE, 0, sizeof(struct wire_vote)));
    harness_inject(h, h->fake.endpoints[0], frame, wire_finish(&writer));
    harness_run(h, 5 * MS);
    assert_int_equal(outcome.told, 0);
    assert_int_equal(core_counter(h->core, CORE_COUNT_DROP_SOURCE), 1);
    assert_int_equal(core_counter(h->core, CORE_COUNT_DROP_FRAME), 3);
    assert_int_equal(core_counter(h->core, CORE_COUNT_DROP_GROUP), 1);
    assert_int_equal(core_counter(h->core, CORE_COUNT_DROP_STALE), 1);
    assert_int_equal(core_counter(h->core, CORE_COUNT_DROP_TYPE), 1);
    harness_close(h);
}

// ---------------------------------------------------------------- limits and arguments

static void limits_and_bad_arguments_are_refused_at_once(void **state) {
    struct core_options options = harness_options();
    options.operations = 2;
    struct harness *h = harness_open(29, &options);
    struct outcome a = {0};
    struct outcome b = {0};
    assert_int_equal(grant(h, &a), WIRE_OK);
    assert_int_equal(grant(h, &b), WIRE_OK);
    assert_int_equal(grant(h, &a), CORE_LIMIT);
    assert_true(harness_until(h, &b.told, SECOND));
    assert_int_equal(core_counter(h->core, CORE_COUNT_LIMIT), 1);
    const struct core_call bad[] = {
        {.op = WIRE_OP_LEASE_GRANT, .amount = 9},
        {.op = WIRE_OP_LEASE_GRANT, .amount = WIRE_TTL_MS_MAX + 1ull},
        {.op = WIRE_OP_LEASE_KEEPALIVE},
        {.op = WIRE_OP_LOCK_RELEASE, .token = 1},
        {.op = WIRE_OP_LOCK_HOLDERS},
        {.op = WIRE_OP_STATUS, .endpoint = 3},
        {.op = WIRE_OP_TICK},
        {.op = WIRE_OP_SESSION_OPEN},
        {.op = WIRE_OP_CLAIM, .name = "x", .name_length = 1},
    };
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(core_start(h->core, h->now_ns, &bad[i], outcome_done, &a),
                         WIRE_BAD_REQUEST);
    }
    harness_close(h);
}

static void closing_tells_all_that_is_open(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(30, &options);
    for (uint32_t i = 0; i < FAKE_NODES; i++) h->cut[i] = true;
    struct outcome change = {0};
    struct outcome lock = {0};
    struct outcome lease = {0};
    struct core_keep keep = {.ttl_ms = 1000};
    grant(h, &change);
    core_acquire(h->core, h->now_ns, "a", 1, 5, 0, outcome_done, &lock);
    core_lease_keep(h->core, h->now_ns, &keep, outcome_done, &lease);
    harness_run(h, 100 * MS);
    core_close(h->core);
    assert_int_equal(change.result.status, CORE_CLOSED);
    assert_int_equal(lock.result.status, CORE_CLOSED);
    assert_int_equal(lease.result.status, CORE_CLOSED);
    assert_int_equal(grant(h, &change), CORE_CLOSED);
    harness_close(h);
}

static void the_same_seed_gives_the_same_course(void **state) {
    uint64_t sent[2];
    uint64_t resent[2];
    for (uint32_t run = 0; run < 2; run++) {
        struct core_options options = harness_options();
        struct harness *h = harness_open(31, &options);
        h->loss = 30;
        static struct outcome outcomes[20];
        memset(outcomes, 0, sizeof outcomes);
        for (uint32_t i = 0; i < 20; i++) grant(h, &outcomes[i]);
        harness_run(h, 3 * SECOND);
        sent[run] = h->sent;
        resent[run] = core_counter(h->core, CORE_COUNT_REQUESTS_RESENT);
        harness_close(h);
    }
    assert_int_equal(sent[0], sent[1]);
    assert_int_equal(resent[0], resent[1]);
    assert_true(resent[0] > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operation_is_executed_once_whatever_the_network_does),
        cmocka_unit_test(no_more_sequences_are_open_than_the_window),
        cmocka_unit_test(silence_makes_a_sent_change_unknown_and_a_read_a_timeout),
        cmocka_unit_test(what_never_left_is_a_timeout_not_unknown),
        cmocka_unit_test(a_lost_session_is_replaced_and_what_was_surely_not_executed_goes_on),
        cmocka_unit_test(a_retried_request_of_a_lost_session_is_unknown),
        cmocka_unit_test(a_stale_sequence_is_unknown),
        cmocka_unit_test(busy_is_tried_again_later),
        cmocka_unit_test(the_leader_is_found_from_any_node_and_followed),
        cmocka_unit_test(a_loop_of_hints_is_not_hammered),
        cmocka_unit_test(a_hint_to_a_dead_node_does_not_hide_the_leader),
        cmocka_unit_test(a_leader_that_was_not_configured_is_accepted_from_a_hint),
        cmocka_unit_test(without_a_leader_it_waits_for_one),
        cmocka_unit_test(the_cluster_is_learned_once_and_kept),
        cmocka_unit_test(strangers_and_noise_are_counted_and_dropped),
        cmocka_unit_test(limits_and_bad_arguments_are_refused_at_once),
        cmocka_unit_test(closing_tells_all_that_is_open),
        cmocka_unit_test(the_same_seed_gives_the_same_course),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
