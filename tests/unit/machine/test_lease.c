// Leases: granted, renewed, revoked, and dead at their deadline whether or not anybody has said so.
#include "harness.h"

static const struct machine_limits limits = {
    .sessions = 8, .leases = 16, .locks = 32, .claims = 64};

static int set_up(void **state) {
    *state = lab_open(&limits);
    return 0;
}

static int tear_down(void **state) {
    lab_close(*state);
    return 0;
}

// Refused by the leader before it is proposed or, if it lets it through, by apply: with this status
// and without a trace.
static void assert_refused(struct lab *lab, struct client *client, struct ask ask,
                           uint16_t status) {
    union command command;
    ask.session = client->session;
    ask.sequence = ++client->sequence;
    command_build(&command, &ask);
    uint16_t verdict = machine_validate(&command.request, command.request.head.length, false);
    if (verdict != WIRE_OK) {
        assert_int_equal(verdict, WIRE_BAD_REQUEST);
        return;
    }
    struct machine_sizes before = machine_sizes(lab->machine);
    assert_int_equal(lab_apply(lab, &ask).status, status);
    assert_sizes(lab, before.sessions, before.leases, before.locks, before.claims);
}

// What is left, in milliseconds: rounded either way, and with or without the server's allowance.
static void assert_remaining(struct lab *lab, uint64_t lease, uint64_t ttl_ms,
                             uint64_t deadline_ns) {
    struct machine_reply reply = ttl_of(lab, lease);
    assert_int_equal(reply.status, WIRE_OK);
    assert_int_equal(reply.token, ttl_ms);
    uint64_t left_ns = deadline_ns - lab->time_ns;
    uint64_t low = (left_ns - left_ns / MACHINE_DRIFT_DIVISOR) / MS;
    assert_in_range(reply.amount, low > 0 ? low - 1 : 0, (left_ns + MS - 1) / MS);
}

static void granted_leases_are_different_and_counted(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t a = grant(lab, &client, 100), b = grant(lab, &client, 100);
    assert_int_not_equal(a, b);
    assert_sizes(lab, 1, 2, 0, 0);
    assert_int_equal(revoke(lab, &client, a).status, WIRE_OK);
    assert_sizes(lab, 1, 1, 0, 0);
    assert_int_equal(ttl_of(lab, a).status, WIRE_NO_LEASE); // revoked, not expired
    assert_int_equal(revoke(lab, &client, a).status, WIRE_NO_LEASE);
    assert_int_equal(keepalive(lab, &client, a).status, WIRE_NO_LEASE);
    assert_int_equal(acquire(lab, &client, "x", a, 0).status, WIRE_NO_LEASE);
    assert_sizes(lab, 1, 1, 0, 0);
    assert_int_not_equal(grant(lab, &client, 100), a); // never reused
}

static void unknown_leases_are_named(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 100);
    for (uint64_t other = lease + 1; other < lease + 3; other++) {
        assert_int_equal(keepalive(lab, &client, other).status, WIRE_NO_LEASE);
        assert_int_equal(revoke(lab, &client, other).status, WIRE_NO_LEASE);
        assert_int_equal(acquire(lab, &client, "x", other, 0).status, WIRE_NO_LEASE);
        assert_int_equal(ttl_of(lab, other).status, WIRE_NO_LEASE);
    }
    assert_sizes(lab, 1, 1, 0, 0);
}

static void ttl_is_bounded(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    static const uint64_t bad[] = {0,          WIRE_TTL_MS_MIN - 1, WIRE_TTL_MS_MAX + 1,
                                   UINT64_MAX, UINT64_MAX / MS,     UINT64_MAX / MS + 1,
                                   1ull << 63};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_refused(lab, &client, (struct ask){.op = WIRE_OP_LEASE_GRANT, .amount = bad[i]},
                       WIRE_BAD_REQUEST);
    assert_sizes(lab, 1, 0, 0, 0);
    uint64_t shortest = grant(lab, &client, WIRE_TTL_MS_MIN);
    uint64_t longest = grant(lab, &client, WIRE_TTL_MS_MAX);
    lab_later(lab, MS);
    assert_remaining(lab, shortest, WIRE_TTL_MS_MIN, lab->time_ns - MS + TTL_NS(WIRE_TTL_MS_MIN));
    assert_remaining(lab, longest, WIRE_TTL_MS_MAX, lab->time_ns - MS + TTL_NS(WIRE_TTL_MS_MAX));
}

// deadline = time + ttl * (1 + 1/1000), and at the deadline it is dead.
static void the_deadline_is_exact(void **state) {
    static const uint64_t ttls[] = {WIRE_TTL_MS_MIN, 11, 999, 1000, 30000, WIRE_TTL_MS_MAX};
    struct lab *lab = *state;
    struct client client = client_open(lab);
    for (size_t i = 0; i < sizeof ttls / sizeof ttls[0]; i++) {
        uint64_t lease = grant(lab, &client, ttls[i]);
        lab_later(lab, TTL_NS(ttls[i]) - 1);
        struct machine_reply reply = keepalive(lab, &client, lease);
        assert_int_equal(reply.status, WIRE_OK);
        assert_int_equal(reply.amount, ttls[i]);
        lab_later(lab, TTL_NS(ttls[i])); // renewed for its whole TTL from then
        assert_int_equal(keepalive(lab, &client, lease).status, WIRE_LEASE_EXPIRED);
    }
}

static void remaining_time_counts_down_and_renewal_resets_it(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 5000);
    uint64_t deadline = lab->time_ns + TTL_NS(5000);
    for (int i = 0; i < 50; i++) {
        assert_remaining(lab, lease, 5000, deadline);
        lab_later(lab, 100 * MS + 1234567);
        if (lab->time_ns >= deadline) break;
    }
    assert_int_equal(ttl_of(lab, lease).status, WIRE_LEASE_EXPIRED); // read at 5061 ms
    lab->time_ns = deadline - MS;
    assert_int_equal(keepalive(lab, &client, lease).amount, 5000);
    assert_remaining(lab, lease, 5000, lab->time_ns + TTL_NS(5000));
}

static void a_dead_lease_is_refused_before_its_expiry_is_applied(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 1000);
    must_hold(lab, &client, "held", lease);
    lab_later(lab, TTL_NS(1000));
    assert_int_equal(ttl_of(lab, lease).status, WIRE_LEASE_EXPIRED);
    assert_int_equal(acquire(lab, &client, "x", lease, 0).status, WIRE_LEASE_EXPIRED);
    assert_true(is_gone(acquire(lab, &client, "x", lease, WIRE_WAIT_FOREVER).status));
    assert_int_equal(holder_token(lab, "x"), 0);
    // Renewing comes too late: its holder may have been told long ago, and others may act on it.
    assert_true(is_gone(keepalive(lab, &client, lease).status));
    assert_true(is_gone(revoke(lab, &client, lease).status));
    assert_true(is_gone(ttl_of(lab, lease).status));
    // Under an entry of the same time nobody is stopped who has a living lease.
    uint64_t living = grant(lab, &client, 1000);
    must_hold(lab, &client, "x", living);
}

// Whatever the dead lease's lock answers before EXPIRE_LEASES is applied, it is not held twice.
static void a_dead_holder_and_a_newcomer_never_both_hold(void **state) {
    struct lab *lab = *state;
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t dead = grant(lab, &a, 1000), living = grant(lab, &b, 60000);
    uint64_t old = must_hold(lab, &a, "x", dead);
    lab_later(lab, TTL_NS(1000));
    struct machine_reply reply = acquire(lab, &b, "x", living, 0);
    if (reply.status == WIRE_OK) {
        assert_int_equal(reply.token, lab->index);
        assert_int_equal(release(lab, &a, "x", old).status, WIRE_NOT_HOLDER);
        assert_int_equal(holder_token(lab, "x"), reply.token);
    } else {
        assert_int_equal(reply.status, WIRE_WOULD_BLOCK);
        assert_int_equal(reply.token, old);
        struct wire_expiry due[4];
        uint32_t count = due_leases(lab, due, 4);
        assert_int_equal(count, 1);
        expire_leases(lab, due, count);
        assert_int_equal(holder_token(lab, "x"), 0);
        must_hold(lab, &b, "x", living);
    }
    assert_sizes(lab, 2, machine_sizes(lab->machine).leases, 1, 1);
}

static void leases_are_not_bound_to_sessions(void **state) {
    struct lab *lab = *state;
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t lease = grant(lab, &a, 1000);
    assert_int_equal(keepalive(lab, &b, lease).status, WIRE_OK);
    uint64_t token = must_hold(lab, &b, "x", lease);
    must_release(lab, &a, "x", token);
    assert_int_equal(revoke(lab, &b, lease).status, WIRE_OK);
}

// ---------------------------------------------------------------- everything under it

static void everything_under_a_revoked_lease_goes_in_one_entry(void **state) {
    struct lab *lab = *state;
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t doomed = grant(lab, &a, 60000), other = grant(lab, &b, 60000);
    must_hold(lab, &a, "one", doomed);
    must_hold(lab, &a, "two", doomed);
    must_hold(lab, &a, "free", doomed);
    uint64_t third = must_hold(lab, &b, "three", other);
    uint64_t next_one = must_queue(lab, &b, "one", other, WIRE_WAIT_FOREVER);
    uint64_t next_two = must_queue(lab, &b, "two", other, 50000);
    uint64_t waits = must_queue(lab, &a, "three", doomed, 50000);
    assert_sizes(lab, 2, 2, 4, 7);

    assert_int_equal(revoke(lab, &a, doomed).status, WIRE_OK);
    assert_int_equal(lab->notice_count, 3);
    assert_int_equal(notice_of(lab, next_one)->status, WIRE_OK);
    assert_int_equal(notice_of(lab, next_one)->token, lab->index);
    assert_int_equal(notice_of(lab, next_one)->session, b.session);
    assert_int_equal(notice_of(lab, next_one)->lease, other);
    assert_int_equal(notice_of(lab, next_two)->status, WIRE_OK);
    assert_int_equal(notice_of(lab, waits)->status, WIRE_NO_LEASE); // revoked
    assert_int_equal(notice_of(lab, waits)->session, a.session);
    assert_int_equal(notice_of(lab, waits)->lease, doomed);
    assert_int_equal(holder_token(lab, "one"), lab->index);
    assert_int_equal(holder_token(lab, "two"), lab->index);
    assert_int_equal(holder_token(lab, "three"), third);
    assert_int_equal(holder_token(lab, "free"), 0);
    assert_sizes(lab, 2, 1, 3, 3);
    assert_int_equal(claim_of(lab, "three", doomed, waits).status, WIRE_NO_LEASE);
}

static void everything_under_an_expired_lease_goes_in_one_entry(void **state) {
    struct lab *lab = *state;
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t doomed = grant(lab, &a, 1000), other = grant(lab, &b, 60000);
    must_hold(lab, &a, "one", doomed);
    must_hold(lab, &a, "two", doomed);
    must_hold(lab, &b, "three", other);
    uint64_t next = must_queue(lab, &b, "two", other, WIRE_WAIT_FOREVER);
    uint64_t waits = must_queue(lab, &a, "three", doomed, WIRE_WAIT_FOREVER);
    lab_later(lab, TTL_NS(1000));
    struct wire_expiry due[4];
    assert_int_equal(due_leases(lab, due, 4), 1);
    assert_int_equal(due[0].lease, doomed);
    expire_leases(lab, due, 1);
    assert_int_equal(lab->notice_count, 2);
    assert_int_equal(notice_of(lab, next)->status, WIRE_OK);
    assert_int_equal(notice_of(lab, waits)->status, WIRE_LEASE_EXPIRED);
    assert_int_equal(holder_token(lab, "one"), 0);
    assert_int_equal(holder_token(lab, "two"), lab->index);
    assert_sizes(lab, 2, 1, 2, 2);
    assert_true(is_gone(ttl_of(lab, doomed).status));
    assert_true(is_gone(claim_of(lab, "three", doomed, waits).status));
    assert_true(is_gone(keepalive(lab, &a, doomed).status));
}

static void a_full_lease_table_is_named_and_recovers(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t leases[16];
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 16; i++) leases[i] = grant(lab, &client, 60000);
        struct machine_reply reply =
            client_do(lab, &client, (struct ask){.op = WIRE_OP_LEASE_GRANT, .amount = 1000});
        assert_int_equal(reply.status, WIRE_FULL);
        assert_int_equal(reply.detail, WIRE_TABLE_LEASE);
        assert_sizes(lab, 1, 16, 0, 0);
        for (int i = 0; i < 16; i++) // in another order each time
            assert_int_equal(revoke(lab, &client, leases[(i * 5 + round) % 16]).status, WIRE_OK);
        assert_sizes(lab, 1, 0, 0, 0);
        assert_int_equal(machine_next_due(lab->machine), UINT64_MAX);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define WITH(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        WITH(granted_leases_are_different_and_counted),
        WITH(unknown_leases_are_named),
        WITH(ttl_is_bounded),
        WITH(the_deadline_is_exact),
        WITH(remaining_time_counts_down_and_renewal_resets_it),
        WITH(a_dead_lease_is_refused_before_its_expiry_is_applied),
        WITH(a_dead_holder_and_a_newcomer_never_both_hold),
        WITH(leases_are_not_bound_to_sessions),
        WITH(everything_under_a_revoked_lease_goes_in_one_entry),
        WITH(everything_under_an_expired_lease_goes_in_one_entry),
        WITH(a_full_lease_table_is_named_and_recovers),
    };
    return cmocka_run_group_tests_name("machine_lease", tests, NULL, NULL);
}
