// The engine's leases and locks: lost before the server says so, waiting, and re-entry.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "wire.h"

struct loss {
    int told;
    uint64_t when_ns;
    uint64_t lease;
    enum conclave_status reason;
    struct harness *harness;
    struct outcome *wait; // to see who is told first
    int wait_told_before;
};

static void lost(void *context, uint64_t lease, enum conclave_status reason) {
    struct loss *loss = context;
    assert_false(loss->told);
    loss->told = 1;
    loss->when_ns = loss->harness->now_ns;
    loss->lease = lease;
    loss->reason = reason;
    if (loss->wait) loss->wait_told_before = loss->wait->told;
}

static uint64_t keep(struct harness *h, uint64_t ttl_ms, uint64_t margin_ms, struct loss *loss) {
    struct outcome outcome = {0};
    *loss = (struct loss){.harness = h};
    struct core_keep options = {
        .ttl_ms = ttl_ms, .margin_ms = margin_ms, .lost = lost, .lost_context = loss};
    assert_int_equal(core_lease_keep(h->core, h->now_ns, &options, outcome_done, &outcome),
                     WIRE_OK);
    assert_true(harness_until(h, &outcome.told, SECOND));
    assert_int_equal(outcome.result.status, WIRE_OK);
    return outcome.result.lease;
}

static uint64_t bare_lease(struct harness *h) { // of another client, as it were
    struct outcome outcome = {0};
    struct core_call call = {.op = WIRE_OP_LEASE_GRANT, .amount = 3600000};
    assert_int_equal(core_start(h->core, h->now_ns, &call, outcome_done, &outcome), WIRE_OK);
    assert_true(harness_until(h, &outcome.told, SECOND));
    return outcome.result.token;
}

static uint16_t acquire(struct harness *h, const char *name, uint64_t lease, uint64_t wait_ms,
                        struct outcome *outcome) {
    *outcome = (struct outcome){.harness = h};
    return core_acquire(h->core, h->now_ns, name, (uint32_t)strlen(name), lease, wait_ms,
                        outcome_done, outcome);
}

static uint64_t must_acquire(struct harness *h, const char *name, uint64_t lease) {
    struct outcome outcome;
    assert_int_equal(acquire(h, name, lease, 0, &outcome), WIRE_OK);
    assert_true(harness_until(h, &outcome.told, SECOND));
    assert_int_equal(outcome.result.status, WIRE_OK);
    return outcome.result.token;
}

static uint16_t release(struct harness *h, const char *name, uint64_t token) {
    struct outcome outcome = {0};
    assert_int_equal(core_release(h->core, h->now_ns, name, (uint32_t)strlen(name), token,
                                  outcome_done, &outcome),
                     WIRE_OK);
    assert_true(harness_until(h, &outcome.told, SECOND));
    return outcome.result.status;
}

// ---------------------------------------------------------------- leases

static void a_kept_lease_lives_on(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(1, &options);
    h->loss = 5;
    struct loss loss;
    uint64_t lease = keep(h, 1000, 0, &loss);
    harness_run(h, 30 * SECOND);
    assert_int_equal(loss.told, 0);
    assert_non_null(fake_lease(&h->fake, lease));
    // A third of the TTL, not a tenth: 30 s of 1000 ms are about 90 renewals.
    assert_in_range(core_counter(h->core, CORE_COUNT_KEEPALIVES), 80, 130);
    harness_close(h);
}

// Feared most: the server expires the lease, another is granted the lock, and we still believe.
static void loss_is_told_before_the_server_expires_it(void **state) {
    static const uint64_t ttls[] = {10, 50, 1000, 30000};
    for (uint32_t i = 0; i < sizeof ttls / sizeof *ttls; i++) {
        for (uint64_t at = 0; at < 10; at++) {
            struct core_options options = harness_options();
            struct harness *h = harness_open(100 + at, &options);
            h->latency_ns = MS / 10;
            struct loss loss;
            uint64_t ttl_ms = ttls[i];
            uint64_t lease = keep(h, ttl_ms, 0, &loss);
            harness_run(h, ttl_ms * MS * (10 + at) / 10);
            // Requests still arrive, answers do not: the server's deadline moves, ours must not.
            h->deaf = at % 2;
            for (uint32_t node = 0; node < FAKE_NODES && !(at % 2); node++) h->cut[node] = true;
            assert_true(harness_until(h, &loss.told, 2 * ttl_ms * MS));
            assert_int_equal(loss.reason, CONCLAVE_UNKNOWN);
            assert_int_equal(loss.lease, lease);
            struct fake_lease *server = fake_lease(&h->fake, lease);
            assert_non_null(server);
            uint64_t margin_ns = MS + ttl_ms * MS / 20;
            if (margin_ns > SECOND) margin_ns = SECOND;
            assert_true(server->deadline_ns >= h->now_ns + margin_ns);
            assert_int_equal(core_lease_remaining_ns(h->core, h->now_ns, lease), 0);
            harness_close(h);
        }
    }
}

static void the_margin_asked_for_is_kept(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(2, &options);
    struct loss loss;
    uint64_t lease = keep(h, 1000, 400, &loss);
    for (uint32_t node = 0; node < FAKE_NODES; node++) h->cut[node] = true;
    assert_true(harness_until(h, &loss.told, 2 * SECOND));
    assert_true(fake_lease(&h->fake, lease)->deadline_ns >= h->now_ns + 400 * MS);
    struct core_keep bad = {.ttl_ms = 1000, .margin_ms = 501};
    assert_int_equal(core_lease_keep(h->core, h->now_ns, &bad, NULL, NULL), WIRE_BAD_REQUEST);
    harness_close(h);
}

static void a_lease_revoked_elsewhere_is_told(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(3, &options);
    struct loss loss;
    uint64_t lease = keep(h, 900, 0, &loss);
    must_acquire(h, "a", lease);
    assert_int_not_equal(core_held(h->core, h->now_ns, "a", 1), 0);
    fake_lease(&h->fake, lease)->deadline_ns = 0;
    assert_true(harness_until(h, &loss.told, SECOND));
    assert_int_equal(loss.reason, CONCLAVE_NO_LEASE);
    assert_int_equal(core_held(h->core, h->now_ns, "a", 1), 0);
    // Nothing more is acquired under it, even before it is closed.
    struct outcome outcome;
    assert_int_equal(acquire(h, "b", lease, 0, &outcome), WIRE_OK);
    assert_true(harness_until(h, &outcome.told, SECOND));
    assert_int_equal(outcome.result.status, WIRE_LEASE_EXPIRED);
    harness_close(h);
}

// After a long sleep of the machine the loss is told before any answer that has waited meanwhile.
static void after_a_long_pause_the_loss_comes_first(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(4, &options);
    struct loss loss;
    uint64_t lease = keep(h, 1000, 0, &loss);
    struct outcome outcome;
    assert_int_equal(acquire(h, "a", lease, 0, &outcome), WIRE_OK);
    loss.wait = &outcome;
    harness_run(h, MS / 2); // asked, the answer is under way
    assert_int_equal(outcome.told, 0);
    h->now_ns += 10 * SECOND; // suspended
    harness_run(h, 10 * MS);
    assert_int_equal(loss.told, 1);
    assert_int_equal(loss.wait_told_before, 0);
    assert_int_equal(outcome.told, 1);
    assert_int_equal(outcome.result.status, WIRE_LEASE_EXPIRED);
    harness_close(h);
}

static void an_existing_lease_is_adopted_and_closed(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(5, &options);
    struct outcome granted = {0};
    struct core_call call = {.op = WIRE_OP_LEASE_GRANT, .amount = 600};
    core_start(h->core, h->now_ns, &call, outcome_done, &granted);
    assert_true(harness_until(h, &granted.told, SECOND));
    uint64_t lease = granted.result.token;
    struct outcome adopted = {0};
    struct core_keep adopt = {.lease = lease};
    assert_int_equal(core_lease_keep(h->core, h->now_ns, &adopt, outcome_done, &adopted), WIRE_OK);
    assert_true(harness_until(h, &adopted.told, SECOND));
    assert_int_equal(adopted.result.amount, 600);
    harness_run(h, 5 * SECOND);
    assert_non_null(fake_lease(&h->fake, lease));
    struct outcome closed = {0};
    assert_int_equal(core_lease_close(h->core, h->now_ns, lease, outcome_done, &closed), WIRE_OK);
    assert_int_equal(core_lease_remaining_ns(h->core, h->now_ns, lease), 0);
    assert_true(harness_until(h, &closed.told, SECOND));
    assert_int_equal(closed.result.status, WIRE_OK);
    assert_null(fake_lease(&h->fake, lease));
    uint64_t sent = h->sent;
    harness_run(h, 5 * SECOND);
    assert_int_equal(h->sent, sent); // no more renewals
    harness_close(h);
}

static void a_failover_shorter_than_the_ttl_costs_no_lease(void **state) {
    for (uint64_t seed = 40; seed < 50; seed++) {
        struct core_options options = harness_options();
        struct harness *h = harness_open(seed, &options);
        struct loss loss;
        keep(h, 2000, 0, &loss);
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t old = h->fake.leader;
            h->cut[old] = true;
            h->fake.leader = FAKE_NOBODY;
            harness_run(h, 500 * MS);
            h->fake.leader = (old + 1 + (uint32_t)(seed % 2)) % FAKE_NODES;
            harness_run(h, 2 * SECOND);
            h->cut[old] = false;
        }
        assert_int_equal(loss.told, 0);
        harness_close(h);
    }
}

// ---------------------------------------------------------------- waiting

static void a_waiter_is_told_by_the_event(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(6, &options);
    struct loss loss;
    uint64_t token = must_acquire(h, "a", bare_lease(h));
    uint64_t lease = keep(h, 5000, 0, &loss);
    struct outcome outcome;
    assert_int_equal(acquire(h, "a", lease, WIRE_WAIT_FOREVER, &outcome), WIRE_OK);
    assert_int_equal(acquire(h, "a", lease, WIRE_WAIT_FOREVER, &(struct outcome){0}), WIRE_BUSY);
    harness_run(h, 10 * SECOND); // longer than any operation's time-out
    assert_int_equal(outcome.told, 0);
    assert_in_range(core_counter(h->core, CORE_COUNT_POLLS), 8, 25); // backed off to a second
    uint64_t released_ns = h->now_ns;
    assert_int_equal(release(h, "a", token), WIRE_OK);
    assert_true(harness_until(h, &outcome.told, SECOND));
    assert_int_equal(outcome.result.status, WIRE_OK);
    assert_true(outcome.result.token > token);
    assert_true(outcome.when_ns - released_ns <= 10 * MS);
    assert_int_equal(core_held(h->core, h->now_ns, "a", 1), outcome.result.token);
    harness_close(h);
}

static void a_lost_event_is_made_up_for_by_polling(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(7, &options);
    struct loss loss;
    uint64_t token = must_acquire(h, "a", bare_lease(h));
    uint64_t lease = keep(h, 5000, 0, &loss);
    struct outcome outcome;
    acquire(h, "a", lease, 20000, &outcome);
    harness_run(h, 3 * SECOND);
    h->fake.mute_events = true;
    assert_int_equal(release(h, "a", token), WIRE_OK);
    assert_true(harness_until(h, &outcome.told, 1500 * MS));
    assert_int_equal(outcome.result.status, WIRE_OK);
    assert_int_equal(core_counter(h->core, CORE_COUNT_GRANTS_BY_POLL), 1);
    assert_int_equal(outcome.result.token, fake_holder(&h->fake, "a"));
    harness_close(h);
}

static void a_new_leader_is_polled_at_once(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(8, &options);
    struct loss loss;
    uint64_t token = must_acquire(h, "a", bare_lease(h));
    uint64_t lease = keep(h, 600, 0, &loss); // renewed every 200 ms: so the change is noticed
    struct outcome outcome;
    acquire(h, "a", lease, WIRE_WAIT_FOREVER, &outcome);
    harness_run(h, 5 * SECOND);
    h->fake.mute_events = true;
    h->fake.leader = (h->fake.leader + 1) % FAKE_NODES;
    assert_int_equal(release(h, "a", token), WIRE_OK); // finds the new leader
    uint64_t found_ns = h->now_ns;
    assert_true(harness_until(h, &outcome.told, SECOND));
    assert_true(outcome.when_ns - found_ns <= 20 * MS);
    harness_close(h);
}

static void a_wait_ends_when_its_time_is_over(void **state) {
    for (uint32_t mute = 0; mute < 2; mute++) {
        struct core_options options = harness_options();
        struct harness *h = harness_open(9, &options);
        struct loss loss;
        must_acquire(h, "a", bare_lease(h));
        uint64_t lease = keep(h, 5000, 0, &loss);
        h->fake.mute_events = mute;
        struct outcome outcome;
        uint64_t begun_ns = h->now_ns;
        acquire(h, "a", lease, 3000, &outcome);
        assert_true(harness_until(h, &outcome.told, 5 * SECOND));
        assert_int_equal(outcome.result.status, WIRE_WAIT_TIMEOUT);
        assert_in_range(outcome.when_ns - begun_ns, 3000 * MS, 3100 * MS);
        struct outcome try_it;
        acquire(h, "a", lease, 0, &try_it);
        assert_true(harness_until(h, &try_it.told, SECOND));
        assert_int_equal(try_it.result.status, WIRE_WOULD_BLOCK);
        assert_int_equal(try_it.result.token, fake_holder(&h->fake, "a"));
        harness_close(h);
    }
}

static void a_wait_without_answers_ends_unknown_and_a_late_event_changes_nothing(void **state) {
    struct core_options options = harness_options();
    options.timeout_ns = SECOND;
    struct harness *h = harness_open(10, &options);
    uint64_t token = must_acquire(h, "a", bare_lease(h));
    uint64_t lease = bare_lease(h);
    struct outcome outcome;
    uint64_t begun_ns = h->now_ns;
    acquire(h, "a", lease, 1000, &outcome);
    harness_run(h, 20 * MS);
    uint64_t claim = h->fake.index; // nothing was logged since
    h->deaf = true;
    assert_true(harness_until(h, &outcome.told, 5 * SECOND));
    assert_int_equal(outcome.result.status, WIRE_UNKNOWN);
    assert_in_range(outcome.when_ns - begun_ns, 2000 * MS, 2010 * MS);
    h->deaf = false;
    // Word of that very claim comes after all.
    _Alignas(8) uint8_t frame[WIRE_FRAME_MAX];
    struct wire_writer writer;
    wire_begin(&writer, frame, sizeof frame, FAKE_CLUSTER, 0, 1);
    struct wire_event *event = wire_add(&writer, WIRE_EVENT, 0, sizeof *event);
    event->session = core_session(h->core);
    event->claim = claim;
    event->lease = lease;
    event->token = claim + 1;
    event->status = WIRE_OK;
    harness_inject(h, h->fake.endpoints[0], frame, wire_finish(&writer));
    harness_run(h, 20 * MS);
    assert_int_equal(core_counter(h->core, CORE_COUNT_EVENTS_STALE), 1);
    assert_int_equal(core_held(h->core, h->now_ns, "a", 1), 0);
    struct outcome again;
    acquire(h, "a", lease, WIRE_WAIT_FOREVER, &again);
    harness_run(h, 20 * MS);
    assert_int_equal(release(h, "a", token), WIRE_OK);
    assert_true(harness_until(h, &again.told, SECOND));
    assert_int_equal(again.result.token, fake_holder(&h->fake, "a"));
    harness_close(h);
}

static void the_end_of_the_lease_ends_the_wait(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(11, &options);
    struct loss loss;
    must_acquire(h, "a", bare_lease(h));
    uint64_t lease = keep(h, 1000, 0, &loss);
    struct outcome outcome;
    loss.wait = &outcome;
    acquire(h, "a", lease, WIRE_WAIT_FOREVER, &outcome);
    harness_run(h, 100 * MS);
    for (uint32_t node = 0; node < FAKE_NODES; node++) h->cut[node] = true;
    assert_true(harness_until(h, &outcome.told, 2 * SECOND));
    assert_int_equal(outcome.result.status, WIRE_LEASE_EXPIRED);
    assert_int_equal(loss.told, 1);
    assert_int_equal(loss.wait_told_before, 0); // first that the work must stop
    harness_close(h);
}

// ---------------------------------------------------------------- re-entry

// Granted at the server a moment before the revocation arrives there: nobody must take it for
// theirs.
static void a_grant_that_crosses_the_close_of_its_lease_is_none(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(12, &options);
    h->latency_ns = 10 * MS;
    struct loss loss;
    uint64_t lease = keep(h, 10000, 0, &loss);
    uint64_t token = must_acquire(h, "a", bare_lease(h));
    struct outcome wait, released = {0}, closed = {0};
    assert_int_equal(acquire(h, "a", lease, WIRE_WAIT_FOREVER, &wait), WIRE_OK);
    harness_run(h, 100 * MS);
    assert_int_equal(core_release(h->core, h->now_ns, "a", 1, token, outcome_done, &released),
                     WIRE_OK);
    harness_run(h, 5 * MS); // the release is under way
    assert_int_equal(core_lease_close(h->core, h->now_ns, lease, outcome_done, &closed), WIRE_OK);
    assert_true(harness_until(h, &wait.told, SECOND));
    assert_int_equal(wait.result.status, WIRE_LEASE_EXPIRED);
    assert_true(core_counter(h->core, CORE_COUNT_EVENTS) > 0); // the grant was told of
    assert_true(harness_until(h, &closed.told, SECOND));
    assert_int_equal(closed.result.status, WIRE_OK);
    assert_int_equal(fake_holder(&h->fake, "a"), 0);
    harness_close(h);
}

static void a_reentry_that_crosses_the_close_of_its_lease_is_none(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(13, &options);
    struct loss loss;
    uint64_t lease = keep(h, 10000, 0, &loss);
    must_acquire(h, "a", lease);
    struct outcome again;
    assert_int_equal(acquire(h, "a", lease, 0, &again), WIRE_OK);
    assert_int_equal(core_lease_close(h->core, h->now_ns, lease, NULL, NULL), WIRE_OK);
    assert_true(harness_until(h, &again.told, SECOND));
    assert_int_equal(again.result.status, WIRE_LEASE_EXPIRED);
    harness_close(h);
}

static void reentry_is_counted_here(void **state) {
    struct core_options options = harness_options();
    struct harness *h = harness_open(12, &options);
    struct loss loss;
    uint64_t lease = keep(h, 5000, 0, &loss);
    uint64_t token = must_acquire(h, "a", lease);
    assert_int_equal(must_acquire(h, "a", lease), token);
    assert_int_equal(must_acquire(h, "a", lease), token);
    assert_int_equal(h->fake.by_op[WIRE_OP_LOCK_ACQUIRE], 1);
    assert_int_equal(release(h, "a", token), WIRE_OK);
    assert_int_equal(release(h, "a", token), WIRE_OK);
    assert_int_equal(fake_holder(&h->fake, "a"), token);
    assert_int_equal(release(h, "a", token), WIRE_OK);
    assert_int_equal(fake_holder(&h->fake, "a"), 0);
    assert_int_equal(h->fake.by_op[WIRE_OP_LOCK_RELEASE], 1);
    assert_int_equal(release(h, "a", token), WIRE_NOT_HOLDER);
    // Another lease of the same client is another holder.
    struct loss other_loss;
    uint64_t other = keep(h, 5000, 0, &other_loss);
    must_acquire(h, "a", lease);
    struct outcome outcome;
    acquire(h, "a", other, 0, &outcome);
    assert_true(harness_until(h, &outcome.told, SECOND));
    assert_int_equal(outcome.result.status, WIRE_WOULD_BLOCK);
    harness_close(h);
}

static void held_locks_have_a_limit(void **state) {
    struct core_options options = harness_options();
    options.locks = 2;
    struct harness *h = harness_open(13, &options);
    struct loss loss;
    uint64_t lease = keep(h, 5000, 0, &loss);
    must_acquire(h, "a", lease);
    uint64_t token = must_acquire(h, "b", lease);
    struct outcome outcome;
    assert_int_equal(acquire(h, "c", lease, 0, &outcome), CORE_LIMIT);
    assert_int_equal(release(h, "b", token), WIRE_OK);
    must_acquire(h, "c", lease);
    assert_int_equal(acquire(h, "", lease, 0, &outcome), WIRE_BAD_REQUEST);
    assert_int_equal(acquire(h, "d", 0, 0, &outcome), WIRE_BAD_REQUEST);
    assert_int_equal(acquire(h, "d", lease, WIRE_WAIT_MS_MAX + 1ull, &outcome), WIRE_BAD_REQUEST);
    harness_close(h);
}

// ---------------------------------------------------------------- all at once

// Two clients would be the simulator's; here one client with rival leases, under a bad network:
// never are two of them believed to hold, and every belief is the cluster's truth too.
static void believed_holds_are_true_under_a_bad_network(void **state) {
    for (uint64_t seed = 200; seed < 208; seed++) {
        struct core_options options = harness_options();
        options.timeout_ns = 2 * SECOND;
        struct harness *h = harness_open(seed, &options);
        struct loss losses[3];
        uint64_t leases[3];
        struct outcome outcomes[3];
        bool open[3] = {0};
        for (uint32_t i = 0; i < 3; i++) leases[i] = keep(h, 3000, 0, &losses[i]);
        h->loss = 10;
        h->duplication = 10;
        h->reorder = 20;
        uint64_t last_token = 0;
        uint32_t grants = 0;
        for (uint32_t round = 0; round < 400; round++) {
            uint32_t i = (uint32_t)(harness_random(h) % 3);
            if (!open[i]) open[i] = acquire(h, "x", leases[i], 1500, &outcomes[i]) == WIRE_OK;
            if (round % 100 == 50) h->fake.leader = (h->fake.leader + 1) % FAKE_NODES;
            harness_run(h, harness_random(h) % 60 * MS);
            for (uint32_t k = 0; k < 3; k++) {
                if (!open[k] || !outcomes[k].told) continue;
                open[k] = false;
                if (outcomes[k].result.status != WIRE_OK) continue;
                uint64_t token = outcomes[k].result.token;
                if (losses[k].told) continue;
                assert_int_equal(fake_holder(&h->fake, "x"), token);
                assert_true(token > last_token);
                last_token = token;
                grants++;
                core_release(h->core, h->now_ns, "x", 1, token, NULL, NULL);
            }
        }
        assert_true(grants > 20);
        harness_close(h);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kept_lease_lives_on),
        cmocka_unit_test(loss_is_told_before_the_server_expires_it),
        cmocka_unit_test(the_margin_asked_for_is_kept),
        cmocka_unit_test(a_lease_revoked_elsewhere_is_told),
        cmocka_unit_test(after_a_long_pause_the_loss_comes_first),
        cmocka_unit_test(an_existing_lease_is_adopted_and_closed),
        cmocka_unit_test(a_failover_shorter_than_the_ttl_costs_no_lease),
        cmocka_unit_test(a_waiter_is_told_by_the_event),
        cmocka_unit_test(a_lost_event_is_made_up_for_by_polling),
        cmocka_unit_test(a_new_leader_is_polled_at_once),
        cmocka_unit_test(a_wait_ends_when_its_time_is_over),
        cmocka_unit_test(a_wait_without_answers_ends_unknown_and_a_late_event_changes_nothing),
        cmocka_unit_test(the_end_of_the_lease_ends_the_wait),
        cmocka_unit_test(a_grant_that_crosses_the_close_of_its_lease_is_none),
        cmocka_unit_test(a_reentry_that_crosses_the_close_of_its_lease_is_none),
        cmocka_unit_test(reentry_is_counted_here),
        cmocka_unit_test(held_locks_have_a_limit),
        cmocka_unit_test(believed_holds_are_true_under_a_bad_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
