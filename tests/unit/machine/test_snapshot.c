// Snapshots: the state as it was at begin, although entries went on; restored from a stream cut
// anywhere; refused whole when anything in it is wrong.
#include "harness.h"

static const struct machine_limits limits = {
    .sessions = 32, .leases = 3000, .locks = 2000, .claims = 6000};
static const struct machine_limits some = {
    .sessions = 16, .leases = 48, .locks = 64, .claims = 128};
static const struct machine_limits few = {.sessions = 4, .leases = 8, .locks = 8, .claims = 16};

static uint32_t chance;
static uint32_t draw(uint32_t below) {
    chance = chance * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)chance * below) >> 32);
}

struct busy { // a lab under a mixed load
    struct lab *lab;
    struct client clients[12];
    uint64_t leases[2500];
    uint32_t lease_count;
    uint32_t names;
};

static void name_of(char *name, uint32_t number) {
    sprintf(name, "%u-%.*s", number, (int)(number % 200),
            "................................................................................"
            "................................................................................"
            "........................................");
}

static void grow(struct busy *b, uint32_t leases, uint32_t names, uint32_t claims) {
    for (uint32_t i = 0; i < 12; i++) b->clients[i] = client_open(b->lab);
    for (uint32_t i = 0; i < leases; i++)
        b->leases[b->lease_count++] = grant(b->lab, &b->clients[i % 12], 2000 + draw(100000));
    b->names = names;
    char name[300];
    for (uint32_t i = 0; i < claims; i++) {
        name_of(name, i % names);
        acquire(b->lab, &b->clients[i % 12], name, b->leases[draw(b->lease_count)],
                i % 3 ? WIRE_WAIT_FOREVER : 1000 + draw(100000));
    }
}

// One entry of any kind.
static void stir(struct busy *b) {
    char name[300];
    struct client *client = &b->clients[draw(12)];
    uint64_t *lease = &b->leases[draw(b->lease_count)];
    name_of(name, draw(b->names + 40));
    lab_later(b->lab, draw(3) * MS);
    switch (draw(8)) {
    case 0:
        revoke(b->lab, client, *lease);
        break;
    case 1: {
        struct machine_reply reply = client_do(
            b->lab, client, (struct ask){.op = WIRE_OP_LEASE_GRANT, .amount = 2000 + draw(9000)});
        if (reply.status == WIRE_OK) *lease = reply.token;
        break;
    }
    case 2:
        keepalive(b->lab, client, *lease);
        break;
    case 3:
        acquire(b->lab, client, name, *lease, draw(2) ? WIRE_WAIT_FOREVER : draw(2) * 5000);
        break;
    case 4:
    case 5: {
        uint64_t token = holder_token(b->lab, name);
        release(b->lab, client, name, token != 0 ? token : 1);
        break;
    }
    case 6: {
        struct wire_expiry due[40];
        uint32_t count = due_leases(b->lab, due, 40);
        if (count > 0) expire_leases(b->lab, due, count);
        break;
    }
    default:
        tick(b->lab);
    }
}

struct mark {
    uint64_t applied, time_ns, hash, digest;
};

static struct mark mark_of(const struct machine *m) {
    return (struct mark){machine_applied(m), machine_time(m), machine_hash(m), machine_digest(m)};
}

static void assert_mark(const struct machine *m, const struct mark *mark) {
    assert_int_equal(machine_applied(m), mark->applied);
    assert_int_equal(machine_time(m), mark->time_ns);
    assert_int_equal(machine_hash(m), mark->hash);
    assert_int_equal(machine_digest(m), mark->digest);
}

// Replays what the original did after the snapshot, comparing each reply and notice. The original
// is represented by a twin that starts from nothing and gets the whole history.
static void assert_same_future(struct lab *restored, const struct lab *original) {
    struct lab *twin = lab_bare(&original->limits);
    twin->silent = true;
    uint64_t from = machine_applied(restored->machine);
    while (machine_applied(twin->machine) < from) lab_follow(twin, original);
    assert_equal_machines(restored, twin);
    while (machine_applied(twin->machine) < original->record_count) {
        struct machine_reply expected = lab_follow(twin, original);
        struct machine_reply got = lab_follow(restored, original);
        assert_same_reply(&got, &expected);
        assert_same_notices(restored, twin);
        assert_int_equal(machine_hash(restored->machine), machine_hash(twin->machine));
    }
    assert_equal_machines(restored, twin);
    assert_equal_machines(restored, original);
    lab_close(twin);
}

static void taken_while_entries_go_on(void **state) {
    chance = 20240601;
    struct busy b = {.lab = lab_open(&limits)};
    grow(&b, 2000, 1500, 5000);
    struct mark begin = mark_of(b.lab->machine);
    struct stream stream = {0};
    machine_snapshot_begin(b.lab->machine);
    uint32_t reads = 0;
    do {
        assert_true(machine_snapshot_active(b.lab->machine));
        for (uint32_t i = draw(30); i > 0; i--) stir(&b);
        reads++;
    } while (stream_pull(&stream, b.lab));
    assert_true(reads > 20); // it was read in slices, and much was changed in between
    assert_true(machine_applied(b.lab->machine) > begin.applied + 200);
    machine_snapshot_end(b.lab->machine);

    static const uint32_t pieces[] = {1, 2, 3, 5, 8, 13, 4096, 7, 9000, 0, 31};
    struct lab *other = lab_bare(&limits);
    other->silent = true;
    assert_true(lab_restore(other, &stream, pieces, 11));
    assert_int_equal(machine_fault(other->machine), MACHINE_FAULT_NONE);
    assert_mark(other->machine, &begin);
    for (int i = 0; i < 2000; i++) stir(&b);
    assert_same_future(other, b.lab);
    lab_close(other);
    lab_close(b.lab);
    stream_free(&stream);
}

// Everything that was there at begin is gone, or another, by the end.
static void taken_while_all_of_it_is_replaced(void **state) {
    chance = 7;
    struct busy b = {.lab = lab_open(&limits)};
    grow(&b, 1000, 700, 2500);
    struct mark begin = mark_of(b.lab->machine);
    struct stream stream = {0};
    machine_snapshot_begin(b.lab->machine);
    assert_true(stream_pull(&stream, b.lab));
    for (uint32_t i = 0; i < b.lease_count; i++) revoke(b.lab, &b.clients[i % 12], b.leases[i]);
    assert_sizes(b.lab, 12, 0, 0, 0);
    lab_later(b.lab, MACHINE_SESSION_IDLE_NS);
    for (int i = 0; i < 32; i++) client_open(b.lab); // the old sessions are evicted
    while (stream_pull(&stream, b.lab)) {
    }
    machine_snapshot_end(b.lab->machine);
    struct lab *other = lab_restored(&limits, &stream);
    assert_mark(other->machine, &begin);
    assert_same_future(other, b.lab);
    lab_close(other);
    lab_close(b.lab);
    stream_free(&stream);
}

// Each kind of change alone, between begin and the first read: what it touches must be seen as it
// was, also what it touches only to keep lists in order.
static void each_change_alone_is_kept_out(void **state) {
    for (int change = 0; change < 16; change++) {
        struct lab *lab = lab_open(&few);
        struct client c = client_open(lab), d = client_open(lab);
        uint64_t brief = grant(lab, &c, 1000), lease[4];
        for (int i = 0; i < 4; i++) lease[i] = grant(lab, &c, 60000);
        uint64_t x = must_hold(lab, &c, "x", lease[0]), y = must_hold(lab, &c, "y", brief);
        for (int i = 1; i < 4; i++) must_queue(lab, &d, "x", lease[i], i == 2 ? 500 : 30000);
        must_queue(lab, &c, "y", lease[1], WIRE_WAIT_FOREVER);
        struct wire_expiry due;
        struct wire_wait_expiry wait;
        lab_later(lab, 1100 * MS);
        tick(lab);
        assert_int_equal(due_leases(lab, &due, 1), 1);
        assert_int_equal(due_waits(lab, &wait, 1), 1);
        struct mark begin = mark_of(lab->machine);
        machine_snapshot_begin(lab->machine);
        if (change == 0) keepalive(lab, &c, lease[1]);
        if (change == 1) revoke(lab, &c, lease[0]);
        if (change == 2) revoke(lab, &c, lease[2]);
        if (change == 3) expire_leases(lab, &due, 1);
        if (change == 4) expire_waits(lab, &wait, 1);
        if (change == 5) must_release(lab, &c, "x", x);
        if (change == 6) must_release(lab, &d, "y", y);
        if (change == 7) must_queue(lab, &c, "y", lease[3], 5000);
        if (change == 8) acquire(lab, &c, "x", lease[3], WIRE_WAIT_FOREVER); // waits anew
        if (change == 9) acquire(lab, &c, "x", lease[3], 0);                 // or no more
        if (change == 10) must_hold(lab, &d, "z", lease[0]);
        if (change == 11) grant(lab, &d, 1000);
        if (change == 12) client_open(lab);
        if (change == 13)
            client_again(lab, &c, (struct ask){.op = WIRE_OP_LEASE_GRANT, .amount = 1000}, 1);
        if (change == 14) tick(lab);
        if (change == 15) lab_noop(lab, NULL);
        struct stream stream = {0};
        while (stream_pull(&stream, lab)) {
        }
        machine_snapshot_end(lab->machine);
        struct lab *other = lab_restored(&few, &stream);
        assert_mark(other->machine, &begin);
        assert_same_future(other, lab);
        stream_free(&stream);
        lab_close(other);
        lab_close(lab);
    }
}

static void limits_agreed_on_come_along(void **state) {
    struct lab *lab = lab_bare(&limits);
    lab_noop(lab, &few);
    struct client client = client_open(lab);
    struct stream stream = stream_of(lab);
    struct lab *other = lab_restored(&limits, &stream);
    for (uint32_t i = 0; i < few.leases; i++) grant(other, &client, 60000);
    struct ask ask = {.op = WIRE_OP_LEASE_GRANT, .amount = 1000};
    assert_int_equal(client_do(other, &client, ask).detail, WIRE_TABLE_LEASE);
    lab_noop(other, &limits); // not the first
    assert_int_equal(client_do(other, &client, ask).detail, WIRE_TABLE_LEASE);
    stream_free(&stream);
    lab_close(other);
    lab_close(lab);
}

static void the_same_state_may_be_taken_again_and_given_up(void **state) {
    chance = 99;
    struct busy b = {.lab = lab_open(&limits)};
    grow(&b, 100, 60, 200);
    for (int round = 0; round < 6; round++) {
        struct stream dropped = {0};
        machine_snapshot_begin(b.lab->machine);
        for (int i = 0; i < round; i++) stream_pull(&dropped, b.lab);
        for (int i = 0; i < 50; i++) stir(&b);
        machine_snapshot_end(b.lab->machine); // given up, before or after its end
        assert_false(machine_snapshot_active(b.lab->machine));
        stream_free(&dropped);
        for (int i = 0; i < 50; i++) stir(&b);
        struct stream stream = stream_of(b.lab);
        struct lab *other = lab_restored(&limits, &stream);
        assert_equal_machines(other, b.lab);
        stream_free(&stream);
        struct stream second = stream_of(other); // a restored machine can be taken too
        struct lab *third = lab_restored(&limits, &second);
        assert_equal_machines(third, b.lab);
        stream_free(&second);
        lab_close(third);
        lab_close(other);
    }
    lab_close(b.lab);
}

static void taking_one_changes_nothing(void **state) {
    chance = 3;
    struct busy a = {.lab = lab_open(&limits)};
    grow(&a, 200, 100, 400);
    struct lab *plain = lab_bare(&limits);
    machine_snapshot_begin(a.lab->machine);
    struct stream stream = {0};
    for (int i = 0; i < 300; i++) {
        stir(&a);
        if (i % 20 == 0) stream_pull(&stream, a.lab);
    }
    plain->silent = true;
    while (machine_applied(plain->machine) < a.lab->record_count) lab_follow(plain, a.lab);
    assert_equal_machines(plain, a.lab);
    machine_snapshot_end(a.lab->machine);
    assert_equal_machines(plain, a.lab);
    stream_free(&stream);
    lab_close(plain);
    lab_close(a.lab);
}

// Cached replies and waiting claims come along: a retry over a restore is still exactly once.
static void exactly_once_survives(void **state) {
    struct lab *lab = lab_open(&few);
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t holder = grant(lab, &a, 60000), waiter = grant(lab, &b, 60000);
    uint64_t token = must_hold(lab, &a, "x", holder);
    struct ask ask = {
        .op = WIRE_OP_LOCK_ACQUIRE, .name = "x", .lease = waiter, .amount = WIRE_WAIT_FOREVER};
    struct machine_reply queued = client_do(lab, &b, ask);
    struct stream stream = stream_of(lab);
    struct lab *other = lab_restored(&few, &stream);
    struct machine_reply again = client_again(other, &b, ask, b.sequence);
    assert_true(again.duplicate);
    assert_int_equal(again.status, WIRE_QUEUED);
    assert_int_equal(again.token, queued.token);
    struct machine_reply poll = claim_of(other, "x", waiter, queued.token);
    assert_int_equal(poll.status, WIRE_QUEUED);
    must_release(other, &a, "x", token);
    assert_int_equal(other->notice_count, 1);
    assert_int_equal(other->notices[0].claim, queued.token);
    assert_int_equal(other->notices[0].claim_slot, poll.claim_slot);
    assert_int_equal(
        client_again(other, &a, (struct ask){.op = WIRE_OP_LEASE_GRANT, .amount = 60000}, 1).token,
        holder);
    stream_free(&stream);
    lab_close(other);
    lab_close(lab);
}

// The stream without any object, and a machine that held something else before.
static void an_empty_state_replaces_everything(void **state) {
    struct lab *empty = lab_open(&few);
    struct stream stream = stream_of(empty);
    struct lab *lab = lab_open(&few);
    struct client client = client_open(lab);
    must_hold(lab, &client, "x", grant(lab, &client, 1000));
    static const uint32_t whole[] = {4096};
    assert_true(lab_restore(lab, &stream, whole, 1));
    assert_equal_machines(lab, empty);
    assert_sizes(lab, 0, 0, 0, 0);
    assert_int_equal(machine_next_due(lab->machine), UINT64_MAX);
    assert_int_equal(holder_token(lab, "x"), 0);
    stream_free(&stream);
    lab_close(lab);
    lab_close(empty);
}

// ---------------------------------------------------------------- refused

static void assert_refused_and_empty(struct lab *lab, const struct stream *stream) {
    static const uint32_t pieces[] = {100, 4096};
    assert_false(lab_restore(lab, stream, pieces, 2));
    assert_sizes(lab, 0, 0, 0, 0);
    assert_int_equal(machine_applied(lab->machine), 0);
    assert_int_equal(machine_next_due(lab->machine), UINT64_MAX);
    assert_int_equal(machine_fault(lab->machine), MACHINE_FAULT_NONE);
    struct lab *fresh = lab_bare(&lab->limits);
    assert_int_equal(machine_hash(lab->machine), machine_hash(fresh->machine));
    assert_int_equal(machine_digest(lab->machine), machine_digest(fresh->machine));
    lab_close(fresh);
}

static struct stream small_stream(struct lab **from) {
    chance = 5;
    struct busy b = {.lab = lab_open(&some)};
    grow(&b, 20, 10, 30);
    for (int i = 0; i < 30; i++) stir(&b);
    *from = b.lab;
    return stream_of(b.lab);
}

static void every_flipped_bit_is_seen(void **state) {
    struct lab *from, *lab = lab_bare(&some);
    lab->silent = true;
    struct stream stream = small_stream(&from);
    for (uint32_t at = 0; at < stream.length; at += at < 256 ? 1 : 1 + draw(60)) {
        uint8_t bit = (uint8_t)(1u << draw(8));
        stream.bytes[at] ^= bit;
        assert_refused_and_empty(lab, &stream);
        stream.bytes[at] ^= bit;
    }
    static const uint32_t whole[] = {4096};
    assert_true(lab_restore(lab, &stream, whole, 1)); // none of it left a trace
    assert_equal_machines(lab, from);
    stream_free(&stream);
    lab_close(lab);
    lab_close(from);
}

static void truncated_lengthened_and_shuffled_streams_are_refused(void **state) {
    struct lab *from, *lab = lab_bare(&some);
    lab->silent = true;
    struct stream stream = small_stream(&from);
    struct stream cut = stream;
    for (cut.length = 0; cut.length < stream.length; cut.length += 1 + draw(40))
        assert_refused_and_empty(lab, &cut);
    cut.length = stream.length - 1;
    assert_refused_and_empty(lab, &cut);

    struct stream more = {.bytes = calloc(1, stream.length * 2 + 64u)};
    memcpy(more.bytes, stream.bytes, stream.length);
    static const uint32_t extra[] = {1, 8, 64};
    for (int i = 0; i < 3; i++) {
        more.length = stream.length + extra[i];
        assert_refused_and_empty(lab, &more);
    }
    memcpy(more.bytes + stream.length, stream.bytes, stream.length); // twice in a row
    more.length = 2 * stream.length;
    assert_refused_and_empty(lab, &more);
    uint32_t half = stream.length / 16 * 8;
    memcpy(more.bytes, stream.bytes + half, stream.length - half); // halves changed about
    memcpy(more.bytes + stream.length - half, stream.bytes, half);
    more.length = stream.length;
    assert_refused_and_empty(lab, &more);
    for (uint32_t i = 0; i < more.length; i++) more.bytes[i] = (uint8_t)draw(256);
    assert_refused_and_empty(lab, &more);
    stream_free(&more);
    stream_free(&stream);
    lab_close(lab);
    lab_close(from);
}

static void smaller_limits_are_refused_by_name(void **state) {
    struct lab *from;
    struct stream stream = small_stream(&from);
    for (int table = 0; table < 4; table++) {
        struct machine_limits small = some;
        if (table == 0) small.sessions = 2;
        if (table == 1) small.leases = 2;
        if (table == 2) small.locks = 2;
        if (table == 3) small.claims = 2;
        struct lab *lab = lab_bare(&small);
        lab->silent = true;
        assert_refused_and_empty(lab, &stream);
        lab_close(lab);
    }
    // All objects would fit, but the cluster has agreed on more than this node has room for.
    struct machine_limits less = some;
    less.claims--;
    struct lab *lab = lab_bare(&less);
    static const uint32_t whole[] = {4096};
    bool restored = lab_restore(lab, &stream, whole, 1);
    assert_true(!restored || machine_fault(lab->machine) == MACHINE_FAULT_LIMITS);
    lab_close(lab);
    // Larger is no obstacle, and changes nothing of the state.
    struct machine_limits more = {.sessions = 64, .leases = 4000, .locks = 4001, .claims = 7777};
    lab = lab_restored(&more, &stream);
    assert_equal_machines(lab, from);
    lab_close(lab);
    stream_free(&stream);
    lab_close(from);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taken_while_entries_go_on),
        cmocka_unit_test(taken_while_all_of_it_is_replaced),
        cmocka_unit_test(each_change_alone_is_kept_out),
        cmocka_unit_test(limits_agreed_on_come_along),
        cmocka_unit_test(the_same_state_may_be_taken_again_and_given_up),
        cmocka_unit_test(taking_one_changes_nothing),
        cmocka_unit_test(exactly_once_survives),
        cmocka_unit_test(an_empty_state_replaces_everything),
        cmocka_unit_test(every_flipped_bit_is_seen),
        cmocka_unit_test(truncated_lengthened_and_shuffled_streams_are_refused),
        cmocka_unit_test(smaller_limits_are_refused_by_name),
    };
    return cmocka_run_group_tests_name("machine_snapshot", tests, NULL, NULL);
}
