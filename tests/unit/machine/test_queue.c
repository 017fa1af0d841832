// Queues: first come, first granted, in the same entry that frees the lock, and only that waiter
// hears of it; waits that end by time; waiters whose lease has died meanwhile.
#include "harness.h"

static const struct machine_limits limits = {
    .sessions = 8, .leases = 128, .locks = 16, .claims = 256};

struct scene { // a lock "x" held by `holder`, and leases that may wait for it
    struct lab *lab;
    struct client client;
    uint64_t holder, token;
    uint64_t lease[80];
};

static int set_up(void **state) {
    struct scene *s = calloc(1, sizeof *s);
    s->lab = lab_open(&limits);
    s->client = client_open(s->lab);
    s->holder = grant(s->lab, &s->client, 3600000);
    s->token = must_hold(s->lab, &s->client, "x", s->holder);
    for (int i = 0; i < 80; i++) s->lease[i] = grant(s->lab, &s->client, 3600000);
    *state = s;
    return 0;
}

static int tear_down(void **state) {
    struct scene *s = *state;
    lab_close(s->lab);
    free(s);
    return 0;
}

static void release_grants_the_next_and_tells_only_it(void **state) {
    struct scene *s = *state;
    uint64_t claims[20];
    for (int i = 0; i < 20; i++) {
        lab_later(s->lab, MS);
        uint64_t wait = i % 2 ? WIRE_WAIT_FOREVER : 600000;
        claims[i] = must_queue(s->lab, &s->client, "x", s->lease[i], wait);
    }
    assert_sizes(s->lab, 1, 81, 1, 21);
    uint64_t token = s->token;
    for (int i = 0; i < 20; i++) {
        lab_later(s->lab, MS);
        must_release(s->lab, &s->client, "x", token);
        assert_int_equal(s->lab->notice_count, 1);
        const struct machine_notice *notice = notice_of(s->lab, claims[i]);
        assert_non_null(notice);
        assert_int_equal(notice->status, WIRE_OK);
        assert_int_equal(notice->token, s->lab->index);
        assert_int_equal(notice->lease, s->lease[i]);
        assert_int_equal(notice->session, s->client.session);
        assert_true(notice->token > token);
        token = notice->token;
        assert_int_equal(holder_token(s->lab, "x"), token);
    }
    must_release(s->lab, &s->client, "x", token);
    assert_int_equal(s->lab->notice_count, 0);
    assert_sizes(s->lab, 1, 81, 0, 0);
}

static void a_newcomer_does_not_overtake(void **state) {
    struct scene *s = *state;
    uint64_t first = must_queue(s->lab, &s->client, "x", s->lease[0], WIRE_WAIT_FOREVER);
    must_release(s->lab, &s->client, "x", s->token);
    struct machine_reply reply = acquire(s->lab, &s->client, "x", s->lease[1], 0);
    assert_int_equal(reply.status, WIRE_WOULD_BLOCK);
    assert_int_equal(reply.token, s->lab->index - 1); // the grant in the releasing entry
    assert_int_equal(claim_of(s->lab, "x", s->lease[0], first).status, WIRE_OK);
}

static void queue_lists_who_waits_in_order(void **state) {
    struct scene *s = *state;
    uint64_t asked[80], at[80];
    for (int i = 0; i < 80; i++) {
        lab_later(s->lab, 3 * MS);
        at[i] = s->lab->time_ns;
        asked[i] = must_queue(s->lab, &s->client, "x", s->lease[i], WIRE_WAIT_FOREVER);
    }
    lab_later(s->lab, SECOND);
    struct wire_claim claims[100];
    assert_int_equal(queue_of(s->lab, "x", 1, claims, 100), 80);
    for (int i = 0; i < 80; i++) {
        assert_int_equal(claims[i].claim, asked[i]);
        assert_int_equal(claims[i].lease, s->lease[i]);
        assert_int_equal(claims[i].session, s->client.session);
        assert_int_equal(claims[i].token, 0);
        assert_int_equal(claims[i].since_ms, (s->lab->time_ns - at[i]) / MS);
    }
    static const uint64_t skips[] = {0,  1,  24, 25,       26,         55,
                                     79, 80, 81, 1u << 20, 1ull << 32, UINT64_MAX};
    for (size_t i = 0; i < sizeof skips / sizeof skips[0]; i++) {
        uint32_t bytes;
        struct ask ask = {.op = WIRE_OP_LOCK_QUEUE, .name = "x", .amount = skips[i]};
        struct machine_reply reply = lab_query(s->lab, &ask, claims, &bytes);
        assert_int_equal(reply.status, WIRE_OK);
        assert_int_equal(reply.amount, 80); // length of all, whatever was skipped
        if (skips[i] >= 80) {
            assert_int_equal(bytes, 0);
        } else {
            assert_true(bytes >= sizeof claims[0]);
            assert_int_equal(claims[0].claim, asked[skips[i]]);
        }
    }
    assert_int_equal(queue_of(s->lab, "nobody", 6, claims, 100), 0);
    // The holder is not in its queue, and waiters do not hold.
    assert_int_equal(holder_token(s->lab, "x"), s->token);
}

static void since_of_a_granted_waiter_counts_from_its_grant(void **state) {
    struct scene *s = *state;
    uint64_t claim = must_queue(s->lab, &s->client, "x", s->lease[0], WIRE_WAIT_FOREVER);
    lab_later(s->lab, 500 * MS);
    must_release(s->lab, &s->client, "x", s->token);
    lab_later(s->lab, 20 * MS);
    struct wire_claim held;
    uint32_t bytes;
    lab_query(s->lab, &(struct ask){.op = WIRE_OP_LOCK_HOLDERS, .name = "x"}, &held, &bytes);
    assert_int_equal(held.claim, claim);
    assert_int_equal(held.since_ms, 20);
    assert_int_equal(held.token, s->lab->index);
}

// ---------------------------------------------------------------- waits that end

// A wait is for so many milliseconds of cluster time, perhaps with the drift allowance on top.
static void a_wait_ends_at_its_time(void **state) {
    struct scene *s = *state;
    static const uint64_t waits[] = {1, 20, 999, 30000};
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        uint64_t start = s->lab->time_ns;
        uint64_t claim = must_queue(s->lab, &s->client, "x", s->lease[i], waits[i]);
        uint64_t behind = must_queue(s->lab, &s->client, "x", s->lease[40], 3000000);
        struct wire_wait_expiry due[4];
        s->lab->time_ns = start + waits[i] * MS - 1;
        assert_int_equal(due_waits(s->lab, due, 4), 0);
        s->lab->time_ns = start + TTL_NS(waits[i]);
        assert_int_equal(due_waits(s->lab, due, 4), 1);
        assert_int_equal(due[0].claim, claim);
        assert_int_equal(due[0].lease, s->lease[i]);
        expire_waits(s->lab, due, 1);
        assert_int_equal(s->lab->notice_count, 1);
        assert_int_equal(notice_of(s->lab, claim)->status, WIRE_WAIT_TIMEOUT);
        assert_int_equal(notice_of(s->lab, claim)->session, s->client.session);
        struct machine_reply reply = claim_of(s->lab, "x", s->lease[i], claim);
        assert_true(reply.status == WIRE_WAIT_TIMEOUT || reply.status == WIRE_NOT_HOLDER);
        assert_sizes(s->lab, 1, 81, 1, 2);
        // The one behind is next, and is not due.
        must_release(s->lab, &s->client, "x", s->token);
        assert_int_equal(notice_of(s->lab, behind)->status, WIRE_OK);
        must_release(s->lab, &s->client, "x", s->lab->index);
        s->token = must_hold(s->lab, &s->client, "x", s->holder);
    }
}

// At a grant the waiter's wait is looked at once more, as its lease is.
static void a_waiter_whose_wait_is_over_is_passed_over(void **state) {
    struct scene *s = *state;
    uint64_t late = must_queue(s->lab, &s->client, "x", s->lease[0], 100);
    uint64_t next = must_queue(s->lab, &s->client, "x", s->lease[1], 200);
    lab_later(s->lab, 150 * MS);
    must_release(s->lab, &s->client, "x", s->token); // before EXPIRE_WAITS is applied
    assert_int_equal(s->lab->notice_count, 2);
    assert_int_equal(notice_of(s->lab, late)->status, WIRE_WAIT_TIMEOUT);
    assert_int_equal(notice_of(s->lab, next)->status, WIRE_OK);
    assert_sizes(s->lab, 1, 81, 1, 1);
}

// A waiter keeps its place over a reconnect of its client: asking again under the same lease gets
// that place, with the new wait, and the new session is the one that is told.
static void asking_again_keeps_the_place_with_the_new_wait(void **state) {
    struct scene *s = *state;
    struct client again = client_open(s->lab);
    uint64_t first = must_queue(s->lab, &s->client, "x", s->lease[0], 100);
    uint64_t second = must_queue(s->lab, &s->client, "x", s->lease[1], WIRE_WAIT_FOREVER);
    struct wire_wait_expiry due[2];
    uint64_t now = s->lab->time_ns;
    s->lab->time_ns = now + 100 * MS; // the leader looks ahead of the entry that asks again
    assert_int_equal(due_waits(s->lab, due, 2), 1);
    s->lab->time_ns = now + 50 * MS;
    struct machine_reply reply = acquire(s->lab, &again, "x", s->lease[0], 1000);
    assert_int_equal(reply.status, WIRE_QUEUED);
    assert_int_equal(reply.token, first);
    assert_true(reply.claim_slot != UINT32_MAX);
    assert_sizes(s->lab, 2, 81, 1, 3);

    lab_later(s->lab, 500 * MS);
    expire_waits(s->lab, due, 1); // of the wait it had before
    assert_int_equal(s->lab->notice_count, 0);
    assert_int_equal(due_waits(s->lab, due, 2), 0);
    must_release(s->lab, &s->client, "x", s->token);
    assert_int_equal(notice_of(s->lab, first)->status, WIRE_OK);
    assert_int_equal(notice_of(s->lab, first)->session, again.session);
    // And from endless to bounded.
    assert_int_equal(acquire(s->lab, &again, "x", s->lease[1], 100).token, second);
    lab_later(s->lab, 100 * MS);
    assert_int_equal(due_waits(s->lab, due, 2), 1);
    assert_int_equal(due[0].claim, second);
}

static void a_try_gives_up_the_place(void **state) {
    struct scene *s = *state;
    uint64_t first = must_queue(s->lab, &s->client, "x", s->lease[0], 1000);
    uint64_t second = must_queue(s->lab, &s->client, "x", s->lease[1], 1000);
    struct machine_reply reply = acquire(s->lab, &s->client, "x", s->lease[0], 0);
    assert_int_equal(reply.status, WIRE_WOULD_BLOCK);
    assert_int_equal(reply.token, s->token);
    for (uint32_t i = 0; i < s->lab->notice_count; i++) // whoever waited is told, if anybody
        assert_int_equal(s->lab->notices[i].claim, first);
    assert_true(claim_of(s->lab, "x", s->lease[0], first).status > WIRE_QUEUED);
    assert_sizes(s->lab, 1, 81, 1, 2);
    must_release(s->lab, &s->client, "x", s->token);
    assert_int_equal(notice_of(s->lab, second)->status, WIRE_OK);
}

static void an_endless_wait_is_never_due(void **state) {
    struct scene *s = *state;
    for (int i = 0; i < 3; i++) must_queue(s->lab, &s->client, "x", s->lease[i], WIRE_WAIT_FOREVER);
    lab_later(s->lab, 3000 * SECOND);
    struct wire_wait_expiry due[4];
    assert_int_equal(machine_due_waits(s->lab->machine, s->lab->time_ns, due, 4), 0);
    assert_int_equal(due_waits(s->lab, due, 4), 0);
}

// A late cancel against a grant: the claim was granted before the proposal came to be applied.
static void a_stale_wait_expiry_is_ignored(void **state) {
    struct scene *s = *state;
    uint64_t claim = must_queue(s->lab, &s->client, "x", s->lease[0], 100);
    uint64_t next = must_queue(s->lab, &s->client, "x", s->lease[1], WIRE_WAIT_FOREVER);
    struct wire_wait_expiry due[4];
    uint64_t now = s->lab->time_ns;
    s->lab->time_ns = now + 200 * MS;
    assert_int_equal(due_waits(s->lab, due, 4), 1);
    s->lab->time_ns = now + 50 * MS;
    must_release(s->lab, &s->client, "x", s->token);
    assert_int_equal(notice_of(s->lab, claim)->status, WIRE_OK);
    uint64_t token = s->lab->index;
    s->lab->time_ns = now + 200 * MS;
    expire_waits(s->lab, due, 1);
    assert_int_equal(s->lab->notice_count, 0);
    assert_int_equal(holder_token(s->lab, "x"), token);
    // Nor after it is gone, nor against whoever waits or holds then.
    must_release(s->lab, &s->client, "x", token);
    expire_waits(s->lab, due, 1);
    assert_int_equal(holder_token(s->lab, "x"), s->lab->index - 1);
    assert_int_equal(claim_of(s->lab, "x", s->lease[1], next).status, WIRE_OK);
    assert_sizes(s->lab, 1, 81, 1, 1);
}

static void wait_expiries_that_name_others_are_ignored(void **state) {
    struct scene *s = *state;
    uint64_t claim = must_queue(s->lab, &s->client, "x", s->lease[0], 100);
    lab_later(s->lab, SECOND);
    struct wire_wait_expiry due[2];
    assert_int_equal(due_waits(s->lab, due, 2), 1);
    struct wire_wait_expiry wrong[4] = {
        due[0], due[0], due[0], {.claim = s->token, .lock = due[0].lock, .lease = s->holder}};
    wrong[0].claim += 1000;
    wrong[1].lock += 1000;
    wrong[2].lease = s->lease[1];
    expire_waits(s->lab, wrong, 4);
    assert_int_equal(s->lab->notice_count, 0);
    assert_int_equal(claim_of(s->lab, "x", s->lease[0], claim).status == WIRE_OK, false);
    assert_int_equal(holder_token(s->lab, "x"), s->token);
    assert_sizes(s->lab, 1, 81, 1, 2);
    struct wire_wait_expiry twice[2] = {due[0], due[0]};
    expire_waits(s->lab, twice, 2);
    assert_int_equal(s->lab->notice_count, 1);
    assert_sizes(s->lab, 1, 81, 1, 1);
}

static void wait_times_are_bounded(void **state) {
    struct scene *s = *state;
    must_queue(s->lab, &s->client, "x", s->lease[0], WIRE_WAIT_MS_MAX);
    static const uint64_t bad[] = {WIRE_WAIT_MS_MAX + 1ull, UINT64_MAX - 1, UINT64_MAX / MS + 1};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        union command command;
        struct ask ask = {.op = WIRE_OP_LOCK_ACQUIRE,
                          .name = "x",
                          .lease = s->lease[1],
                          .amount = bad[i],
                          .session = s->client.session,
                          .sequence = ++s->client.sequence};
        command_build(&command, &ask);
        uint32_t length = command.request.head.length;
        if (machine_validate(&command.request, length, false) == WIRE_OK)
            assert_int_equal(lab_apply(s->lab, &ask).status, WIRE_BAD_REQUEST);
    }
    assert_sizes(s->lab, 1, 81, 1, 2);
}

// ---------------------------------------------------------------- waiters whose lease has died

// etcd 11456: the lease is looked at again at the moment of grant.
static void a_waiter_with_a_dead_lease_is_skipped(void **state) {
    struct scene *s = *state;
    uint64_t dying = grant(s->lab, &s->client, 1000);
    uint64_t dead = must_queue(s->lab, &s->client, "x", dying, WIRE_WAIT_FOREVER);
    uint64_t alive = must_queue(s->lab, &s->client, "x", s->lease[1], WIRE_WAIT_FOREVER);
    lab_later(s->lab, TTL_NS(1000));
    must_release(s->lab, &s->client, "x", s->token); // before EXPIRE_LEASES is applied
    uint64_t token = s->lab->index;
    assert_int_equal(notice_of(s->lab, alive)->status, WIRE_OK);
    uint32_t told = notice_of(s->lab, dead) != NULL;
    if (told) assert_int_equal(notice_of(s->lab, dead)->status, WIRE_LEASE_EXPIRED);
    assert_int_equal(holder_token(s->lab, "x"), token);
    assert_true(is_gone(claim_of(s->lab, "x", dying, dead).status));

    struct wire_expiry due[4];
    uint32_t count = due_leases(s->lab, due, 4);
    if (count > 0) expire_leases(s->lab, due, count);
    if (count > 0 && notice_of(s->lab, dead) != NULL) {
        assert_int_equal(notice_of(s->lab, dead)->status, WIRE_LEASE_EXPIRED);
        told++;
    }
    assert_int_equal(told, 1); // once, now or at the skip
    assert_int_equal(holder_token(s->lab, "x"), token);
    assert_sizes(s->lab, 1, 81, 1, 1);
}

static void with_only_dead_waiters_the_lock_is_free(void **state) {
    struct scene *s = *state;
    uint64_t dying[3];
    for (int i = 0; i < 3; i++) {
        dying[i] = grant(s->lab, &s->client, 1000);
        must_queue(s->lab, &s->client, "x", dying[i], WIRE_WAIT_FOREVER);
    }
    lab_later(s->lab, TTL_NS(1000));
    must_release(s->lab, &s->client, "x", s->token);
    for (uint32_t i = 0; i < s->lab->notice_count; i++)
        assert_int_equal(s->lab->notices[i].status, WIRE_LEASE_EXPIRED);
    assert_int_equal(holder_token(s->lab, "x"), 0);
    uint64_t token = must_hold(s->lab, &s->client, "x", s->lease[0]);
    struct wire_expiry due[4];
    uint32_t count = due_leases(s->lab, due, 4);
    if (count > 0) expire_leases(s->lab, due, count);
    assert_int_equal(holder_token(s->lab, "x"), token);
    assert_sizes(s->lab, 1, 81, 1, 1);
    must_release(s->lab, &s->client, "x", token);
    assert_sizes(s->lab, 1, 81, 0, 0);
}

// Holder and first waiter die in the same list: the grant must not go to the one just before its
// own turn in the list.
static void one_list_that_ends_holder_and_waiter_grants_neither(void **state) {
    struct scene *s = *state;
    for (int order = 0; order < 2; order++) {
        uint64_t a = grant(s->lab, &s->client, 1000), b = grant(s->lab, &s->client, 1000);
        uint64_t held = must_hold(s->lab, &s->client, "y", a);
        uint64_t second = must_queue(s->lab, &s->client, "y", b, WIRE_WAIT_FOREVER);
        uint64_t third = must_queue(s->lab, &s->client, "y", s->lease[5], WIRE_WAIT_FOREVER);
        lab_later(s->lab, TTL_NS(1000));
        struct wire_expiry due[4];
        assert_int_equal(due_leases(s->lab, due, 4), 2);
        struct wire_expiry list[2] = {due[0], due[1]};
        if ((due[0].lease == a) != (order == 0)) {
            list[0] = due[1];
            list[1] = due[0];
        }
        expire_leases(s->lab, list, 2);
        assert_int_equal(s->lab->notice_count, 2);
        assert_int_equal(notice_of(s->lab, second)->status, WIRE_LEASE_EXPIRED);
        assert_int_equal(notice_of(s->lab, third)->status, WIRE_OK);
        assert_int_equal(holder_token(s->lab, "y"), s->lab->index);
        assert_true(s->lab->index > held);
        must_release(s->lab, &s->client, "y", s->lab->index);
        assert_sizes(s->lab, 1, 81, 1, 1);
    }
}

static void a_waiter_that_goes_leaves_the_others_in_order(void **state) {
    struct scene *s = *state;
    uint64_t claims[9];
    for (int i = 0; i < 9; i++)
        claims[i] = must_queue(s->lab, &s->client, "x", s->lease[i], WIRE_WAIT_FOREVER);
    static const int going[] = {0, 8, 4, 5}; // first, last, two in the middle
    for (int i = 0; i < 4; i++) {
        revoke(s->lab, &s->client, s->lease[going[i]]);
        assert_int_equal(s->lab->notice_count, 1);
        assert_int_equal(notice_of(s->lab, claims[going[i]])->status, WIRE_NO_LEASE);
    }
    static const int staying[] = {1, 2, 3, 6, 7};
    struct wire_claim listed[9];
    assert_int_equal(queue_of(s->lab, "x", 1, listed, 9), 5);
    uint64_t token = s->token;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(listed[i].claim, claims[staying[i]]);
        must_release(s->lab, &s->client, "x", token);
        token = s->lab->index;
        assert_int_equal(notice_of(s->lab, claims[staying[i]])->token, token);
    }
}

// One lease waiting for the lock it holds: however that is answered, ending the lease ends it all.
static void a_lease_behind_itself_leaves_nothing(void **state) {
    struct scene *s = *state;
    acquire(s->lab, &s->client, "x", s->holder, WIRE_WAIT_FOREVER);
    acquire(s->lab, &s->client, "x", s->holder, 1000);
    assert_int_equal(s->lab->notice_count, 0);
    uint64_t other = must_queue(s->lab, &s->client, "x", s->lease[0], WIRE_WAIT_FOREVER);
    acquire(s->lab, &s->client, "x", s->lease[0], WIRE_WAIT_FOREVER); // twice in the queue
    assert_int_equal(revoke(s->lab, &s->client, s->holder).status, WIRE_OK);
    assert_int_equal(notice_of(s->lab, other)->status, WIRE_OK);
    assert_int_equal(holder_token(s->lab, "x"), s->lab->index);
    assert_int_equal(revoke(s->lab, &s->client, s->lease[0]).status, WIRE_OK);
    assert_int_equal(holder_token(s->lab, "x"), 0);
    assert_sizes(s->lab, 1, 79, 0, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define WITH(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        WITH(release_grants_the_next_and_tells_only_it),
        WITH(a_newcomer_does_not_overtake),
        WITH(queue_lists_who_waits_in_order),
        WITH(since_of_a_granted_waiter_counts_from_its_grant),
        WITH(a_wait_ends_at_its_time),
        WITH(a_waiter_whose_wait_is_over_is_passed_over),
        WITH(asking_again_keeps_the_place_with_the_new_wait),
        WITH(a_try_gives_up_the_place),
        WITH(an_endless_wait_is_never_due),
        WITH(a_stale_wait_expiry_is_ignored),
        WITH(wait_expiries_that_name_others_are_ignored),
        WITH(wait_times_are_bounded),
        WITH(a_waiter_with_a_dead_lease_is_skipped),
        WITH(with_only_dead_waiters_the_lock_is_free),
        WITH(one_list_that_ends_holder_and_waiter_grants_neither),
        WITH(a_waiter_that_goes_leaves_the_others_in_order),
        WITH(a_lease_behind_itself_leaves_nothing),
    };
    return cmocka_run_group_tests_name("machine_queue", tests, NULL, NULL);
}
