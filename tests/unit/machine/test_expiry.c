// Expiry as the leader drives it: what is due, when it is given again, and which proposals apply
// refuses. The two published bugs here: an old leader's stalled expiry revoking leases that live
// again (etcd 15247), and TTLs that begin anew with every election (etcd 9395).
#include "harness.h"

static const struct machine_limits limits = {
    .sessions = 4, .leases = 4096, .locks = 64, .claims = 256};

static int set_up(void **state) {
    *state = lab_open(&limits);
    return 0;
}

static int tear_down(void **state) {
    lab_close(*state);
    return 0;
}

// ---------------------------------------------------------------- what is due

static void nothing_is_due_of_nothing(void **state) {
    struct lab *lab = *state;
    struct wire_expiry leases[8];
    struct wire_wait_expiry waits[8];
    assert_int_equal(machine_next_due(lab->machine), UINT64_MAX);
    lab_later(lab, 3600 * SECOND);
    assert_int_equal(machine_due_leases(lab->machine, lab->time_ns, leases, 8), 0);
    assert_int_equal(machine_due_waits(lab->machine, lab->time_ns, waits, 8), 0);
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, WIRE_TTL_MS_MAX);
    assert_true(machine_next_due(lab->machine) <= lab->time_ns + TTL_NS(WIRE_TTL_MS_MAX));
    assert_int_equal(machine_due_leases(lab->machine, lab->time_ns, leases, 8), 0);
    assert_int_equal(revoke(lab, &client, lease).status, WIRE_OK);
    assert_int_equal(machine_next_due(lab->machine), UINT64_MAX);
}

static void a_lease_is_due_at_its_deadline_and_not_before(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    static const uint64_t ttls[] = {10, 17, 250, 1000, 5000, 61000, 3600000};
    for (size_t i = 0; i < sizeof ttls / sizeof ttls[0]; i++) {
        uint64_t lease = grant(lab, &client, ttls[i]);
        uint64_t deadline = lab->time_ns + TTL_NS(ttls[i]);
        struct wire_expiry due[4];
        assert_true(machine_next_due(lab->machine) <= deadline);
        lab->time_ns = deadline - 1;
        assert_int_equal(due_leases(lab, due, 4), 0);
        assert_true(machine_next_due(lab->machine) <= deadline);
        lab->time_ns = deadline;
        assert_int_equal(due_leases(lab, due, 4), 1);
        assert_int_equal(due[0].lease, lease);
        expire_leases(lab, due, 1);
        assert_sizes(lab, 1, 0, 0, 0);
        assert_int_equal(machine_next_due(lab->machine), UINT64_MAX);
    }
}

// Asking is the leader's alone, so it must leave the replicated state as it is.
static void asking_changes_no_replicated_state(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t holder = grant(lab, &client, 100);
    must_hold(lab, &client, "x", holder);
    must_queue(lab, &client, "x", grant(lab, &client, 100000), 50);
    lab_later(lab, SECOND);
    uint64_t hash = machine_hash(lab->machine), digest = machine_digest(lab->machine);
    struct wire_expiry leases[4];
    struct wire_wait_expiry waits[4];
    assert_int_equal(due_leases(lab, leases, 4), 1);
    assert_int_equal(due_waits(lab, waits, 4), 1);
    assert_int_equal(machine_hash(lab->machine), hash);
    assert_int_equal(machine_digest(lab->machine), digest);
    // A follower that never asked applies the same.
    struct lab *other = lab_bare(&limits);
    expire_leases(lab, leases, 1);
    while (machine_applied(other->machine) < lab->record_count) lab_follow(other, lab);
    assert_equal_machines(lab, other);
    lab_close(other);
}

static void what_was_given_is_given_again_only_later(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 100);
    must_hold(lab, &client, "x", lease);
    uint64_t claim = must_queue(lab, &client, "x", grant(lab, &client, 100000), 50);
    lab_later(lab, TTL_NS(100));
    struct wire_expiry leases[4];
    struct wire_wait_expiry waits[4];
    assert_int_equal(due_leases(lab, leases, 4), 1);
    assert_int_equal(due_waits(lab, waits, 4), 1);
    lab_later(lab, MACHINE_RETRY_NS - 1);
    assert_int_equal(due_leases(lab, leases, 4), 0);
    assert_int_equal(due_waits(lab, waits, 4), 0);
    lab_later(lab, 1 + 10 * MS); // both proposals were lost
    assert_true(machine_next_due(lab->machine) <= lab->time_ns);
    assert_int_equal(due_leases(lab, leases, 4), 1);
    assert_int_equal(leases[0].lease, lease);
    assert_int_equal(due_waits(lab, waits, 4), 1);
    assert_int_equal(waits[0].claim, claim);
    expire_waits(lab, waits, 1);
    expire_leases(lab, leases, 1);
    lab_later(lab, 10 * MACHINE_RETRY_NS);
    assert_int_equal(due_leases(lab, leases, 4), 0);
    assert_int_equal(due_waits(lab, waits, 4), 0);
}

static int by_lease(const void *a, const void *b) {
    uint64_t x = ((const struct wire_expiry *)a)->lease, y = ((const struct wire_expiry *)b)->lease;
    return x < y ? -1 : x > y;
}

// Many at once, each given once, in bounded bites, and none that lives.
static void many_leases_fall_due_in_bounded_bites(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    static uint64_t deadline[4096], lease[4096];
    uint64_t start = lab->time_ns;
    for (uint32_t i = 0; i < 4000; i++) {
        lab->time_ns = start + i * 1000;
        uint64_t ttl_ms = 10 + (i * 7919ull) % 5000;
        lease[i] = grant(lab, &client, ttl_ms);
        deadline[i] = lab->time_ns + TTL_NS(ttl_ms);
    }
    uint32_t left = 4000;
    while (left > 0) {
        lab_later(lab, 97 * MS);
        struct wire_expiry due[4096];
        uint64_t first = UINT64_MAX; // next_due is a lower bound of all that live
        for (uint32_t i = 0; i < 4000; i++)
            if (lease[i] != 0 && deadline[i] < first) first = deadline[i];
        assert_true(machine_next_due(lab->machine) <= first);
        uint32_t count = due_leases(lab, due, 4096), expected = 0;
        qsort(due, count, sizeof due[0], by_lease);
        for (uint32_t i = 0, at = 0; i < 4000; i++) {
            if (lease[i] == 0 || deadline[i] > lab->time_ns) continue;
            expected++;
            assert_true(at < count);
            assert_int_equal(due[at].lease, lease[i]);
            at++;
            lease[i] = 0;
        }
        assert_int_equal(count, expected);
        for (uint32_t at = 0; at < count; at += 40)
            expire_leases(lab, due + at, count - at < 40 ? count - at : 40);
        left -= count;
        assert_sizes(lab, 1, left, 0, 0);
        assert_true(lab->time_ns < start + 10 * SECOND);
    }
    assert_int_equal(machine_next_due(lab->machine), UINT64_MAX);
}

static void at_most_max_are_given_and_none_is_forgotten(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    for (int i = 0; i < 20; i++) grant(lab, &client, 100);
    lab_later(lab, SECOND);
    uint32_t total = 0;
    uint64_t seen[20];
    for (int calls = 0; calls < 1000 && total < 20; calls++) {
        struct wire_expiry due[3] = {{0}, {0}, {.lease = 0x5a5a}};
        uint32_t got = machine_due_leases(lab->machine, lab->time_ns, due, 2);
        assert_true(got <= 2);
        assert_int_equal(due[2].lease, 0x5a5a);
        for (uint32_t i = 0; i < got; i++) {
            for (uint32_t k = 0; k < total; k++) assert_int_not_equal(seen[k], due[i].lease);
            seen[total++] = due[i].lease;
        }
    }
    assert_int_equal(total, 20);
    assert_int_equal(machine_due_leases(lab->machine, lab->time_ns, NULL, 0), 0);
}

// ---------------------------------------------------------------- what apply refuses

static void a_proposal_of_another_term_is_refused(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 1000);
    must_hold(lab, &client, "x", lease);
    lab_later(lab, TTL_NS(1000));
    struct wire_expiry due[2];
    assert_int_equal(due_leases(lab, due, 2), 1);
    lab->term = 2; // another leads by the time it is in the log
    expire_leases(lab, due, 1);
    assert_sizes(lab, 1, 1, 1, 1);
    due[0].term = 3;
    expire_leases(lab, due, 1);
    assert_sizes(lab, 1, 1, 1, 1);
    due[0].term = 2;
    expire_leases(lab, due, 1);
    assert_sizes(lab, 1, 0, 0, 0);
}

// etcd 15247: the expiry was proposed, the lease renewed before it came to be applied.
static void a_stalled_proposal_does_not_expire_a_renewed_lease(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 1000);
    uint64_t token = must_hold(lab, &client, "x", lease);
    // The leader's clock ran ahead of the entry that renews: it saw the lease as due.
    struct wire_expiry due;
    uint64_t now = lab->time_ns;
    lab->time_ns = now + TTL_NS(1000);
    assert_int_equal(due_leases(lab, &due, 1), 1);
    lab->time_ns = now + TTL_NS(1000) - 1;
    assert_int_equal(keepalive(lab, &client, lease).status, WIRE_OK);
    lab_later(lab, 10 * MS);
    expire_leases(lab, &due, 1);
    assert_sizes(lab, 1, 1, 1, 1);
    assert_int_equal(holder_token(lab, "x"), token);
    assert_int_equal(keepalive(lab, &client, lease).status, WIRE_OK);
    // Even long after, when it is truly dead: the epoch it saw is over.
    lab_later(lab, TTL_NS(1000));
    expire_leases(lab, &due, 1);
    assert_sizes(lab, 1, 1, 1, 1);
    struct wire_expiry fresh;
    assert_int_equal(due_leases(lab, &fresh, 1), 1);
    assert_int_not_equal(fresh.renewals, due.renewals);
    expire_leases(lab, &fresh, 1);
    assert_sizes(lab, 1, 0, 0, 0);
}

// SEMANTICS: the server never expires before receipt + TTL * (1 + e), whatever a leader proposes.
static void a_living_lease_is_never_expired(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 1000);
    uint64_t deadline = lab->time_ns + TTL_NS(1000);
    struct wire_expiry due;
    lab->time_ns = deadline;
    assert_int_equal(due_leases(lab, &due, 1), 1);
    lab->time_ns = deadline - 1;
    expire_leases(lab, &due, 1);
    assert_sizes(lab, 1, 1, 0, 0);
    assert_int_equal(ttl_of(lab, lease).status, WIRE_OK);
}

static void one_list_may_name_the_gone_the_unknown_and_the_same_twice(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t a = grant(lab, &client, 100), b = grant(lab, &client, 100);
    grant(lab, &client, 100000);
    lab_later(lab, SECOND);
    struct wire_expiry due[6];
    assert_int_equal(due_leases(lab, due, 6), 2);
    assert_int_equal(revoke(lab, &client, b).status == WIRE_OK, false); // dead already
    due[2] = due[0];
    due[3] = (struct wire_expiry){.lease = a + 100000, .term = lab->term};
    due[4] = due[1];
    expire_leases(lab, due, 5);
    assert_sizes(lab, 1, 1, 0, 0);
    assert_true(is_gone(ttl_of(lab, a).status));
    expire_leases(lab, due, 5);
    assert_sizes(lab, 1, 1, 0, 0);
}

// ---------------------------------------------------------------- elections

static void an_election_neither_resets_nor_shortens_a_ttl(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 3000);
    uint64_t deadline = lab->time_ns + TTL_NS(3000);
    struct wire_expiry due[2];
    while (lab->time_ns + 500 * MS < deadline) { // leaders come and go every half second
        lab_later(lab, 500 * MS);
        lab->term++;
        lab_noop(lab, NULL);
        tick(lab);
        assert_int_equal(ttl_of(lab, lease).status, WIRE_OK);
        assert_int_equal(due_leases(lab, due, 2), 0);
        assert_true(machine_next_due(lab->machine) <= deadline);
    }
    lab->time_ns = deadline - 1;
    lab->term++;
    lab_noop(lab, NULL);
    assert_int_equal(ttl_of(lab, lease).status, WIRE_OK);
    lab->time_ns = deadline;
    assert_int_equal(ttl_of(lab, lease).status, WIRE_LEASE_EXPIRED);
    assert_int_equal(due_leases(lab, due, 2), 1);
    expire_leases(lab, due, 1);
    assert_sizes(lab, 1, 0, 0, 0);
}

static void a_restored_machine_knows_what_is_due_and_when(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t soon = grant(lab, &client, 500), late = grant(lab, &client, 90000);
    uint64_t start = lab->time_ns;
    must_hold(lab, &client, "x", late);
    uint64_t claim = must_queue(lab, &client, "x", grant(lab, &client, 90000), 700);
    lab_later(lab, 400 * MS);
    tick(lab);
    struct stream stream = stream_of(lab);
    struct lab *other = lab_restored(&limits, &stream);
    stream_free(&stream);
    other->term = 2;
    lab_noop(other, NULL);
    assert_true(machine_next_due(other->machine) <= start + TTL_NS(500));
    struct wire_expiry due[4];
    other->time_ns = start + TTL_NS(500) - 1;
    assert_int_equal(due_leases(other, due, 4), 0);
    other->time_ns = start + TTL_NS(500);
    assert_int_equal(due_leases(other, due, 4), 1);
    assert_int_equal(due[0].lease, soon);
    expire_leases(other, due, 1);
    struct wire_wait_expiry wait[4];
    other->time_ns = start + 650 * MS;
    assert_int_equal(due_waits(other, wait, 4), 0);
    other->time_ns = start + 700 * MS + 700 * MS / MACHINE_DRIFT_DIVISOR;
    assert_int_equal(due_waits(other, wait, 4), 1);
    assert_int_equal(wait[0].claim, claim);
    expire_waits(other, wait, 1);
    assert_sizes(other, 1, 2, 1, 1);
    other->time_ns = start + TTL_NS(90000);
    assert_int_equal(due_leases(other, due, 4), 2);
    lab_close(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define WITH(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        WITH(nothing_is_due_of_nothing),
        WITH(a_lease_is_due_at_its_deadline_and_not_before),
        WITH(asking_changes_no_replicated_state),
        WITH(what_was_given_is_given_again_only_later),
        WITH(many_leases_fall_due_in_bounded_bites),
        WITH(at_most_max_are_given_and_none_is_forgotten),
        WITH(a_proposal_of_another_term_is_refused),
        WITH(a_stalled_proposal_does_not_expire_a_renewed_lease),
        WITH(a_living_lease_is_never_expired),
        WITH(one_list_may_name_the_gone_the_unknown_and_the_same_twice),
        WITH(an_election_neither_resets_nor_shortens_a_ttl),
        WITH(a_restored_machine_knows_what_is_due_and_when),
    };
    return cmocka_run_group_tests_name("machine_expiry", tests, NULL, NULL);
}
