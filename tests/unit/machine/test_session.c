// Sessions: exactly-once replies (thesis 6.3) within WIRE_SESSION_WINDOW, and who may be evicted.
//
// A retried SESSION_OPEN carries no session to be deduplicated by. Two answers are safe: the same
// session again, found by its nonce and with its cache untouched, or another session that costs a
// slot until it has been idle long enough. Either way the session answered first must stay good:
// the client may have taken the first answer and begun to use it before the second copy is applied.
#include "harness.h"

static const struct machine_limits limits = {
    .sessions = 4, .leases = 64, .locks = 64, .claims = 128};

static int set_up(void **state) {
    *state = lab_open(&limits);
    return 0;
}

static int tear_down(void **state) {
    lab_close(*state);
    return 0;
}

static struct machine_reply open_with(struct lab *lab, uint64_t nonce) {
    return lab_apply(lab, &(struct ask){.op = WIRE_OP_SESSION_OPEN, .token = nonce});
}

static const struct ask ask_lease = {.op = WIRE_OP_LEASE_GRANT, .amount = 10000};

static void opening_gives_different_sessions(void **state) {
    struct lab *lab = *state;
    struct client a = client_open(lab), b = client_open(lab);
    assert_int_not_equal(a.session, b.session);
    assert_sizes(lab, 2, 0, 0, 0);
    assert_true(grant(lab, &a, 1000) != grant(lab, &b, 1000)); // both at sequence 1
}

static void same_nonce_twice_keeps_the_first_session_good(void **state) {
    struct lab *lab = *state;
    struct machine_reply first = open_with(lab, 77);
    assert_int_equal(first.status, WIRE_OK);
    struct client client = {.session = first.token};
    struct machine_reply leased = client_do(lab, &client, ask_lease);

    struct machine_reply second = open_with(lab, 77); // the network's copy, late
    assert_int_equal(second.status, WIRE_OK);
    assert_true(second.token != 0);
    assert_sizes(lab, second.token == first.token ? 1 : 2, 1, 0, 0);

    struct machine_reply again = client_again(lab, &client, ask_lease, 1);
    assert_true(again.duplicate);
    assert_int_equal(again.token, leased.token);
    assert_sizes(lab, second.token == first.token ? 1 : 2, 1, 0, 0); // not granted twice
    assert_int_equal(keepalive(lab, &client, leased.token).status, WIRE_OK);
}

static void replies_in_the_window_are_cached(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    struct machine_reply first[WIRE_SESSION_WINDOW + 1];
    for (uint32_t i = 1; i <= WIRE_SESSION_WINDOW; i++) {
        first[i] = client_do(lab, &client, ask_lease);
        assert_false(first[i].duplicate);
        assert_int_equal(first[i].status, WIRE_OK);
    }
    assert_sizes(lab, 1, WIRE_SESSION_WINDOW, 0, 0);
    for (uint32_t i = WIRE_SESSION_WINDOW; i >= 1; i--) {
        struct machine_reply again = client_again(lab, &client, ask_lease, i);
        assert_true(again.duplicate);
        again.duplicate = false;
        assert_same_reply(&again, &first[i]);
    }
    assert_sizes(lab, 1, WIRE_SESSION_WINDOW, 0, 0);
}

static void below_the_window_is_stale_and_not_executed(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    for (uint32_t i = 0; i < WIRE_SESSION_WINDOW; i++) grant(lab, &client, 10000);
    assert_true(client_again(lab, &client, ask_lease, 1).duplicate); // the last moment for 1
    grant(lab, &client, 10000);
    struct machine_reply late = client_again(lab, &client, ask_lease, 1);
    assert_int_equal(late.status, WIRE_STALE_SEQUENCE);
    assert_false(late.duplicate);
    assert_true(client_again(lab, &client, ask_lease, 2).duplicate);
    assert_sizes(lab, 1, WIRE_SESSION_WINDOW + 1, 0, 0);
    // Stale does not count as seen: the window has not moved.
    assert_true(client_again(lab, &client, ask_lease, 3).duplicate);
}

// Datagrams overtake each other: the window is of sequences, not of arrivals.
static void sequences_may_come_in_any_order(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t tokens[WIRE_SESSION_WINDOW + 1] = {0};
    for (uint32_t k = 0; k < WIRE_SESSION_WINDOW; k++) {
        uint32_t sequence = 1 + k * 13 % WIRE_SESSION_WINDOW; // 13 and 32 share no factor
        struct machine_reply reply = client_again(lab, &client, ask_lease, sequence);
        assert_int_equal(reply.status, WIRE_OK);
        assert_false(reply.duplicate);
        tokens[sequence] = reply.token;
    }
    for (uint32_t i = 1; i <= WIRE_SESSION_WINDOW; i++) {
        struct machine_reply again = client_again(lab, &client, ask_lease, i);
        assert_true(again.duplicate);
        assert_int_equal(again.token, tokens[i]);
    }
}

// A slot of the cache is not the reply of whoever had the slot 32 sequences ago.
static void a_skipped_sequence_is_executed_when_it_comes(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t old = grant(lab, &client, 10000); // sequence 1
    client.sequence = 50;
    grant(lab, &client, 10000); // 51: window is 20 to 51
    struct machine_reply reply = client_again(lab, &client, ask_lease, 33); // shares 1's place
    assert_int_equal(reply.status, WIRE_OK);
    assert_false(reply.duplicate);
    assert_int_not_equal(reply.token, old);
    assert_int_equal(client_again(lab, &client, ask_lease, 19).status, WIRE_STALE_SEQUENCE);
    assert_int_equal(client_again(lab, &client, ask_lease, 20).status, WIRE_OK);
    assert_sizes(lab, 1, 4, 0, 0);
}

static void a_far_jump_is_accepted_and_nothing_wraps(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    grant(lab, &client, 10000);
    struct machine_reply reply = client_again(lab, &client, ask_lease, UINT64_MAX - 1);
    assert_int_equal(reply.status, WIRE_OK);
    assert_int_equal(client_again(lab, &client, ask_lease, 1).status, WIRE_STALE_SEQUENCE);
    assert_int_equal(client_again(lab, &client, ask_lease, 40).status, WIRE_STALE_SEQUENCE);
    assert_true(client_again(lab, &client, ask_lease, UINT64_MAX - 1).duplicate);
    assert_sizes(lab, 1, 2, 0, 0);
}

static void refusals_are_cached_too(void **state) {
    struct lab *lab = *state;
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t holder = grant(lab, &a, 60000), other = grant(lab, &b, 60000);
    uint64_t token = must_hold(lab, &a, "x", holder);
    struct ask ask = {.op = WIRE_OP_LOCK_ACQUIRE, .name = "x", .lease = other};
    struct machine_reply blocked = client_do(lab, &b, ask);
    assert_int_equal(blocked.status, WIRE_WOULD_BLOCK);
    must_release(lab, &a, "x", token);
    // The lock is free by now, but this request has had its answer.
    struct machine_reply again = client_again(lab, &b, ask, b.sequence);
    assert_true(again.duplicate);
    assert_int_equal(again.status, WIRE_WOULD_BLOCK);
    assert_int_equal(again.token, token);
    assert_int_equal(holder_token(lab, "x"), 0);
}

// The answer to a retry is the cached one, and no second notice or claim comes of it.
static void a_retried_wait_queues_once(void **state) {
    struct lab *lab = *state;
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t token = must_hold(lab, &a, "x", grant(lab, &a, 60000));
    uint64_t lease = grant(lab, &b, 60000);
    struct ask ask = {
        .op = WIRE_OP_LOCK_ACQUIRE, .name = "x", .lease = lease, .amount = WIRE_WAIT_FOREVER};
    struct machine_reply queued = client_do(lab, &b, ask);
    assert_int_equal(queued.status, WIRE_QUEUED);
    struct machine_reply again = client_again(lab, &b, ask, b.sequence);
    assert_true(again.duplicate);
    assert_int_equal(again.status, WIRE_QUEUED);
    assert_int_equal(again.token, queued.token);
    if (again.claim_slot != UINT32_MAX) assert_int_equal(again.claim_slot, queued.claim_slot);
    assert_sizes(lab, 2, 2, 1, 2);

    must_release(lab, &a, "x", token);
    assert_int_equal(lab->notice_count, 1);
    // Granted meanwhile: still the cached answer, but no slot, since nothing waits in it now.
    again = client_again(lab, &b, ask, b.sequence);
    assert_true(again.duplicate);
    assert_int_equal(again.status, WIRE_QUEUED);
    assert_int_equal(again.claim_slot, UINT32_MAX);
    assert_int_equal(lab->notice_count, 0);
    assert_sizes(lab, 2, 2, 1, 1);
}

// Same number, other command: a client's bug. Nothing may be executed for it.
static void a_sequence_used_for_another_command_executes_nothing(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 60000);
    client_again(lab, &client, (struct ask){.op = WIRE_OP_LEASE_REVOKE, .lease = lease}, 1);
    assert_sizes(lab, 1, 1, 0, 0);
    assert_int_equal(ttl_of(lab, lease).status, WIRE_OK);
}

static void unknown_sessions_are_named(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    struct client nobody = {.session = client.session + 1000};
    for (int i = 0; i < 2; i++) {
        struct machine_reply reply = client_again(lab, &nobody, ask_lease, 1);
        assert_int_equal(reply.status, WIRE_NO_SESSION);
        assert_false(reply.duplicate);
    }
    assert_sizes(lab, 1, 0, 0, 0);
}

// ---------------------------------------------------------------- eviction

static void full_of_busy_sessions_refuses_and_names_the_table(void **state) {
    struct lab *lab = *state;
    struct client clients[4];
    for (int i = 0; i < 4; i++) clients[i] = client_open(lab);
    lab_later(lab, MACHINE_SESSION_IDLE_NS - 1);
    struct machine_reply reply = open_with(lab, 9);
    assert_int_equal(reply.status, WIRE_FULL);
    assert_int_equal(reply.detail, WIRE_TABLE_SESSION);
    assert_sizes(lab, 4, 0, 0, 0);
    for (int i = 0; i < 4; i++) grant(lab, &clients[i], 10000); // all still there
}

static void only_an_idle_session_is_evicted(void **state) {
    struct lab *lab = *state;
    struct client clients[4];
    for (int i = 0; i < 4; i++) clients[i] = client_open(lab);
    uint64_t lease = grant(lab, &clients[2], WIRE_TTL_MS_MAX);
    uint64_t token = must_hold(lab, &clients[2], "kept", lease);
    lab_later(lab, MACHINE_SESSION_IDLE_NS / 2);
    for (int i = 0; i < 4; i++)
        if (i != 2) grant(lab, &clients[i], 600000);
    lab_later(lab, MACHINE_SESSION_IDLE_NS / 2); // now 2 alone is idle for so long

    struct machine_reply opened = open_with(lab, 9);
    assert_int_equal(opened.status, WIRE_OK);
    assert_sizes(lab, 4, 4, 1, 1); // its lease and lock are not the session's, and live on
    for (int i = 0; i < 4; i++) {
        assert_int_not_equal(opened.token, clients[i].session);
        struct machine_reply reply = client_do(lab, &clients[i], ask_lease);
        assert_int_equal(reply.status, i == 2 ? WIRE_NO_SESSION : WIRE_OK);
    }
    assert_int_equal(holder_token(lab, "kept"), token);
    struct client heir = {.session = opened.token};
    assert_int_equal(keepalive(lab, &heir, lease).status, WIRE_OK);
    must_release(lab, &heir, "kept", token); // the token is enough
}

static void the_longest_idle_goes_first(void **state) {
    struct lab *lab = *state;
    struct client clients[4];
    static const int order[] = {2, 0, 3, 1};
    for (int i = 0; i < 4; i++) clients[i] = client_open(lab);
    for (int i = 0; i < 4; i++) {
        lab_later(lab, SECOND);
        grant(lab, &clients[order[i]], 1000);
    }
    lab_later(lab, SECOND);
    client_again(lab, &clients[2], ask_lease, 1); // a retry is a command too
    lab_later(lab, MACHINE_SESSION_IDLE_NS);
    static const int going[] = {0, 3, 1, 2};
    for (int i = 0; i < 4; i++) {
        client_open(lab);
        struct client *gone = &clients[going[i]];
        assert_int_equal(client_again(lab, gone, ask_lease, 1).status, WIRE_NO_SESSION);
    }
}

static void an_evicted_session_never_comes_back(void **state) {
    struct lab *lab = *state;
    struct machine_reply first = open_with(lab, 5);
    struct client client = {.session = first.token};
    grant(lab, &client, WIRE_TTL_MS_MAX);
    lab_later(lab, MACHINE_SESSION_IDLE_NS);
    for (int i = 0; i < 4; i++) client_open(lab); // the last needs its place
    assert_sizes(lab, 4, 1, 0, 0);
    // Its commands, sent again by the network, are not executed a second time.
    assert_int_equal(client_again(lab, &client, ask_lease, 1).status, WIRE_NO_SESSION);
    assert_sizes(lab, 4, 1, 0, 0);
    lab_later(lab, MACHINE_SESSION_IDLE_NS);
    struct machine_reply late = open_with(lab, 5); // an old copy of its opening
    assert_int_equal(late.status, WIRE_OK);
    assert_int_not_equal(late.token, first.token);
    assert_int_equal(client_again(lab, &client, ask_lease, 1).status, WIRE_NO_SESSION);
}

static void every_idle_session_can_be_replaced(void **state) {
    struct lab *lab = *state;
    for (int round = 0; round < 20; round++) {
        uint64_t seen[4];
        for (int i = 0; i < 4; i++) {
            struct client client = client_open(lab);
            seen[i] = client.session;
            for (int k = 0; k < i; k++) assert_int_not_equal(seen[k], seen[i]);
        }
        assert_int_equal(open_with(lab, 1 + (uint64_t)round).status, WIRE_FULL);
        assert_sizes(lab, 4, 0, 0, 0);
        lab_later(lab, MACHINE_SESSION_IDLE_NS);
    }
}

// Limits agreed on may be smaller than what a node has allocated: the agreed ones count.
static void the_agreed_limit_counts(void **state) {
    struct lab *lab = lab_bare(&limits);
    struct machine_limits agreed = limits;
    agreed.sessions = 2;
    lab_noop(lab, &agreed);
    client_open(lab);
    client_open(lab);
    assert_int_equal(open_with(lab, 3).status, WIRE_FULL);
    lab_close(lab);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define WITH(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        WITH(opening_gives_different_sessions),
        WITH(same_nonce_twice_keeps_the_first_session_good),
        WITH(replies_in_the_window_are_cached),
        WITH(below_the_window_is_stale_and_not_executed),
        WITH(sequences_may_come_in_any_order),
        WITH(a_skipped_sequence_is_executed_when_it_comes),
        WITH(a_far_jump_is_accepted_and_nothing_wraps),
        WITH(refusals_are_cached_too),
        WITH(a_retried_wait_queues_once),
        WITH(a_sequence_used_for_another_command_executes_nothing),
        WITH(unknown_sessions_are_named),
        WITH(full_of_busy_sessions_refuses_and_names_the_table),
        WITH(only_an_idle_session_is_evicted),
        WITH(the_longest_idle_goes_first),
        WITH(an_evicted_session_never_comes_back),
        WITH(every_idle_session_can_be_replaced),
        cmocka_unit_test(the_agreed_limit_counts),
    };
    return cmocka_run_group_tests_name("machine_session", tests, NULL, NULL);
}
