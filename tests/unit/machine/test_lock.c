// Locks: who holds, with which token, and who is told. Queues have their own file, test_queue.c.
#include "harness.h"

static const struct machine_limits limits = {
    .sessions = 8, .leases = 64, .locks = 16, .claims = 32};

static int set_up(void **state) {
    *state = lab_open(&limits);
    return 0;
}

static int tear_down(void **state) {
    lab_close(*state);
    return 0;
}

static void the_token_is_the_granting_entrys_index(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 60000);
    struct machine_reply reply = acquire(lab, &client, "x", lease, 0);
    assert_int_equal(reply.status, WIRE_OK);
    assert_int_equal(reply.token, lab->index);
    assert_int_equal(lab->notice_count, 0); // who asked has the reply
    assert_sizes(lab, 1, 1, 1, 1);
    must_release(lab, &client, "x", reply.token);
    assert_sizes(lab, 1, 1, 0, 0);
    // A bounded or endless wait on a free lock is no wait.
    uint64_t bounded = acquire(lab, &client, "x", lease, 1000).token;
    assert_int_equal(bounded, lab->index);
    must_release(lab, &client, "x", bounded);
    uint64_t endless = acquire(lab, &client, "x", lease, WIRE_WAIT_FOREVER).token;
    assert_int_equal(endless, lab->index);
}

// Over release, deletion of the record, expiry, another term and a restore.
static void tokens_rise_strictly_whatever_happens(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t last = 0;
    for (int round = 0; round < 30; round++) {
        uint64_t lease = grant(lab, &client, 1000);
        uint64_t token = must_hold(lab, &client, "x", lease);
        assert_true(token > last);
        last = token;
        if (round % 3 == 0) {
            must_release(lab, &client, "x", token);
        } else if (round % 3 == 1) {
            lab_later(lab, TTL_NS(1000));
            struct wire_expiry due[32];
            uint32_t count = due_leases(lab, due, 32);
            assert_in_range(count, 1, 31);
            expire_leases(lab, due, count);
        } else {
            assert_int_equal(revoke(lab, &client, lease).status, WIRE_OK);
            lab->term++;
            lab_noop(lab, NULL);
            struct stream stream = stream_of(lab);
            static const uint32_t whole[] = {4096};
            assert_true(lab_restore(lab, &stream, whole, 1));
            stream_free(&stream);
        }
        assert_int_equal(holder_token(lab, "x"), 0);
        lab_later(lab, MS);
    }
}

static void a_try_on_a_held_lock_carries_the_holders_token(void **state) {
    struct lab *lab = *state;
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t token = must_hold(lab, &a, "x", grant(lab, &a, 60000));
    uint64_t lease = grant(lab, &b, 60000);
    for (int i = 0; i < 3; i++) {
        struct machine_reply reply = acquire(lab, &b, "x", lease, 0);
        assert_int_equal(reply.status, WIRE_WOULD_BLOCK);
        assert_int_equal(reply.token, token);
        assert_sizes(lab, 2, 2, 1, 1);
    }
    must_hold(lab, &b, "y", lease); // another name is another lock
    must_release(lab, &a, "x", token);
    assert_int_equal(lab->notice_count, 0); // who only tried is not told
    must_hold(lab, &b, "x", lease);
}

static void release_is_of_its_own_grant_only(void **state) {
    struct lab *lab = *state;
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t lease = grant(lab, &a, 60000);
    uint64_t first = must_hold(lab, &a, "x", lease);
    uint64_t elsewhere = must_hold(lab, &a, "y", lease);
    assert_int_equal(release(lab, &a, "x", first + 1).status, WIRE_NOT_HOLDER);
    assert_int_equal(release(lab, &a, "x", elsewhere).status, WIRE_NOT_HOLDER);
    assert_int_equal(release(lab, &a, "z", first).status, WIRE_NOT_HOLDER); // never locked
    assert_int_equal(release(lab, &a, "x", UINT64_MAX).status, WIRE_NOT_HOLDER);
    assert_sizes(lab, 2, 1, 2, 2);
    must_release(lab, &a, "x", first);
    assert_int_equal(release(lab, &a, "x", first).status, WIRE_NOT_HOLDER);
    // A late release of an old grant does not touch the next holder.
    uint64_t second = must_hold(lab, &b, "x", grant(lab, &b, 60000));
    assert_int_equal(release(lab, &a, "x", first).status, WIRE_NOT_HOLDER);
    assert_int_equal(holder_token(lab, "x"), second);
}

static void holders_tell_who(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    assert_int_equal(holder_token(lab, "x"), 0);
    uint64_t lease = grant(lab, &client, 60000);
    uint64_t token = must_hold(lab, &client, "x", lease);
    lab_later(lab, 1234 * MS);
    struct wire_claim claims[CLAIMS_PER_PAGE];
    uint32_t bytes;
    struct ask ask = {.op = WIRE_OP_LOCK_HOLDERS, .name = "x", .sequence = 99};
    struct machine_reply reply = lab_query(lab, &ask, claims, &bytes);
    assert_int_equal(reply.status, WIRE_OK);
    assert_int_equal(reply.amount, 1);
    assert_int_equal(bytes, sizeof claims[0]);
    assert_int_equal(claims[0].claim, token); // asked for by the entry that granted it
    assert_int_equal(claims[0].token, token);
    assert_int_equal(claims[0].lease, lease);
    assert_int_equal(claims[0].session, client.session);
    assert_int_equal(claims[0].since_ms, 1234);
    assert_int_equal(holder_token(lab, "xx"), 0);
    assert_int_equal(holder_token(lab, "y"), 0);
}

static void claim_answers_as_acquire_would_now(void **state) {
    struct lab *lab = *state;
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t first = grant(lab, &a, 60000), second = grant(lab, &b, 60000);
    uint64_t token = must_hold(lab, &a, "x", first);
    struct machine_reply reply = claim_of(lab, "x", first, token);
    assert_int_equal(reply.status, WIRE_OK);
    assert_int_equal(reply.token, token);
    uint64_t claim = must_queue(lab, &b, "x", second, WIRE_WAIT_FOREVER);
    reply = claim_of(lab, "x", second, claim);
    assert_int_equal(reply.status, WIRE_QUEUED);
    assert_int_equal(reply.token, claim);
    must_release(lab, &a, "x", token);
    reply = claim_of(lab, "x", second, claim);
    assert_int_equal(reply.status, WIRE_OK);
    assert_int_equal(reply.token, lab->index);
    // What is over is neither granted nor waiting, and neither is what never was.
    assert_true(claim_of(lab, "x", first, token).status > WIRE_QUEUED);
    assert_true(claim_of(lab, "x", second, claim + 1000).status > WIRE_QUEUED);
    assert_true(claim_of(lab, "nowhere", second, claim).status > WIRE_QUEUED);
    assert_int_equal(claim_of(lab, "x", second + 1000, claim).status, WIRE_NO_LEASE);
    lab_later(lab, TTL_NS(60000));
    assert_true(is_gone(claim_of(lab, "x", second, claim).status));
}

// A lease has at most one claim on a lock: acquiring again answers what is.
static void the_same_lease_again_gets_its_token(void **state) {
    struct lab *lab = *state;
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t lease = grant(lab, &a, 60000), other = grant(lab, &b, 60000);
    uint64_t token = must_hold(lab, &a, "x", lease);
    static const uint64_t waits[] = {0, 1000, WIRE_WAIT_FOREVER};
    for (int i = 0; i < 3; i++) { // also from another session of the same program
        struct machine_reply again = acquire(lab, i == 1 ? &b : &a, "x", lease, waits[i]);
        assert_int_equal(again.status, WIRE_OK);
        assert_int_equal(again.token, token);
        assert_sizes(lab, 2, 2, 1, 1);
    }
    assert_int_equal(acquire(lab, &b, "x", other, 0).status, WIRE_WOULD_BLOCK);
    must_release(lab, &a, "x", token);
    assert_sizes(lab, 2, 2, 0, 0);
    must_hold(lab, &b, "x", other);
}

// What a dead lease holds is given on only when its expiry has gone through the log.
static void a_dead_holder_is_in_the_way_until_its_expiry(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t token = must_hold(lab, &client, "x", grant(lab, &client, 1000));
    uint64_t lease = grant(lab, &client, 60000);
    lab_later(lab, TTL_NS(1000));
    struct machine_reply reply = acquire(lab, &client, "x", lease, 0);
    assert_int_equal(reply.status, WIRE_WOULD_BLOCK);
    assert_int_equal(reply.token, token);
    uint64_t claim = must_queue(lab, &client, "x", lease, 5000);
    struct wire_expiry due[2];
    assert_int_equal(due_leases(lab, due, 2), 1);
    expire_leases(lab, due, 1);
    assert_int_equal(notice_of(lab, claim)->status, WIRE_OK);
    assert_int_equal(holder_token(lab, "x"), lab->index);
}

// ---------------------------------------------------------------- names

static void names_are_bytes(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 60000);
    uint8_t longest[WIRE_NAME_MAX], almost[WIRE_NAME_MAX];
    memset(longest, 0xff, sizeof longest);
    memcpy(almost, longest, sizeof almost);
    almost[WIRE_NAME_MAX - 1] = 0xfe;
    const struct {
        const void *bytes;
        uint32_t length;
    } names[] = {{"\0", 1},      {"\0\0", 2},    {"a", 1},     {"a\0", 2},      {"a\0b", 3},
                 {"a\0c", 3},    {"A", 1},       {"\xff", 1},  {"aaaaaaaa", 8}, {"aaaaaaaaa", 9},
                 {longest, 255}, {longest, 254}, {almost, 255}};
    enum { COUNT = sizeof names / sizeof names[0] };
    uint64_t tokens[COUNT];
    for (int i = 0; i < COUNT; i++) {
        struct machine_reply reply = client_do(lab, &client,
                                               (struct ask){.op = WIRE_OP_LOCK_ACQUIRE,
                                                            .lease = lease,
                                                            .name = names[i].bytes,
                                                            .name_length = names[i].length});
        assert_int_equal(reply.status, WIRE_OK); // each is a lock of its own
        tokens[i] = reply.token;
    }
    assert_sizes(lab, 1, 1, COUNT, COUNT);
    for (int i = 0; i < COUNT; i++) {
        struct wire_claim claims[CLAIMS_PER_PAGE];
        uint32_t bytes;
        struct ask ask = {
            .op = WIRE_OP_LOCK_HOLDERS, .name = names[i].bytes, .name_length = names[i].length};
        assert_int_equal(lab_query(lab, &ask, claims, &bytes).amount, 1);
        assert_int_equal(claims[0].token, tokens[i]);
    }
    for (int i = COUNT - 1; i >= 0; i--) {
        struct machine_reply reply = client_do(lab, &client,
                                               (struct ask){.op = WIRE_OP_LOCK_RELEASE,
                                                            .token = tokens[i],
                                                            .name = names[i].bytes,
                                                            .name_length = names[i].length});
        assert_int_equal(reply.status, WIRE_OK);
    }
    assert_sizes(lab, 1, 1, 0, 0);
}

// A claim is asked for by name too, to the last byte.
static void a_claim_is_of_its_own_name(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 60000), other = grant(lab, &client, 60000);
    char name[WIRE_NAME_MAX + 1] = {0};
    for (uint32_t length = 1; length <= WIRE_NAME_MAX; length += 6) {
        memset(name, 'n', length);
        uint64_t token = must_hold(lab, &client, name, lease);
        uint64_t claim = must_queue(lab, &client, name, other, WIRE_WAIT_FOREVER);
        for (uint32_t at = 0; at < length; at++) {
            name[at] = 'm';
            assert_true(claim_of(lab, name, lease, token).status > WIRE_QUEUED);
            assert_true(claim_of(lab, name, other, claim).status > WIRE_QUEUED);
            name[at] = 'n';
        }
        assert_int_equal(claim_of(lab, name, lease, token).status, WIRE_OK);
        assert_int_equal(claim_of(lab, name, other, claim).status, WIRE_QUEUED);
        must_release(lab, &client, name, token);
        must_release(lab, &client, name, lab->index);
    }
}

// ---------------------------------------------------------------- full tables

static void name_of(char *name, int i) {
    sprintf(name, "lock-%d", i);
}

static void a_full_lock_table_is_named_and_recovers(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 60000);
    uint64_t tokens[16];
    char name[16];
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 16; i++) {
            name_of(name, i + round);
            tokens[i] = must_hold(lab, &client, name, lease);
        }
        struct machine_reply reply = acquire(lab, &client, "one too many", lease, 0);
        assert_int_equal(reply.status, WIRE_FULL);
        assert_int_equal(reply.detail, WIRE_TABLE_LOCK);
        reply = acquire(lab, &client, "one too many", lease, WIRE_WAIT_FOREVER);
        assert_int_equal(reply.status, WIRE_FULL);
        assert_sizes(lab, 1, 1, 16, 16);
        for (int k = 0; k < 16; k++) {
            int i = (k * 7 + round) % 16;
            name_of(name, i + round);
            must_release(lab, &client, name, tokens[i]);
        }
        assert_sizes(lab, 1, 1, 0, 0);
    }
}

static void a_full_claim_table_is_named_and_recovers(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t leases[33];
    for (int i = 0; i < 33; i++) leases[i] = grant(lab, &client, 60000);
    for (int round = 0; round < 4; round++) {
        uint64_t token = must_hold(lab, &client, "x", leases[0]);
        for (int i = 1; i < 32; i++) must_queue(lab, &client, "x", leases[i], WIRE_WAIT_FOREVER);
        struct machine_reply reply = acquire(lab, &client, "x", leases[32], 1000);
        assert_int_equal(reply.status, WIRE_FULL);
        assert_int_equal(reply.detail, WIRE_TABLE_CLAIM);
        // A try needs no claim on a held lock.
        reply = acquire(lab, &client, "x", leases[32], 0);
        assert_int_equal(reply.status, WIRE_WOULD_BLOCK);
        assert_int_equal(reply.token, token);
        // On a new name it does, and no empty lock is left behind for it.
        reply = acquire(lab, &client, "y", leases[32], 0);
        assert_int_equal(reply.status, WIRE_FULL);
        assert_int_equal(reply.detail, WIRE_TABLE_CLAIM);
        assert_sizes(lab, 1, 33, 1, 32);
        for (int i = 0; i < 32; i++) must_release(lab, &client, "x", holder_token(lab, "x"));
        assert_sizes(lab, 1, 33, 0, 0);
    }
}

// Tables fill and drain in every order without losing a place.
static void places_come_back_after_any_order(void **state) {
    struct lab *lab = *state;
    struct client client = client_open(lab);
    uint64_t held[16] = {0};
    uint64_t lease = grant(lab, &client, WIRE_TTL_MS_MAX);
    uint32_t count = 0, chance = 12345;
    char name[16];
    for (int step = 0; step < 4000; step++) {
        chance = chance * 1664525u + 1013904223u;
        int i = (chance >> 16) % 16;
        name_of(name, i * 1000 + 7);
        if (held[i] == 0) {
            held[i] = must_hold(lab, &client, name, lease);
            count++;
        } else {
            must_release(lab, &client, name, held[i]);
            held[i] = 0;
            count--;
        }
        assert_sizes(lab, 1, 1, count, count);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define WITH(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        WITH(the_token_is_the_granting_entrys_index),
        WITH(tokens_rise_strictly_whatever_happens),
        WITH(a_try_on_a_held_lock_carries_the_holders_token),
        WITH(release_is_of_its_own_grant_only),
        WITH(holders_tell_who),
        WITH(claim_answers_as_acquire_would_now),
        WITH(the_same_lease_again_gets_its_token),
        WITH(a_dead_holder_is_in_the_way_until_its_expiry),
        WITH(names_are_bytes),
        WITH(a_claim_is_of_its_own_name),
        WITH(a_full_lock_table_is_named_and_recovers),
        WITH(a_full_claim_table_is_named_and_recovers),
        WITH(places_come_back_after_any_order),
    };
    return cmocka_run_group_tests_name("machine_lock", tests, NULL, NULL);
}
