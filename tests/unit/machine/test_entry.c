// Entries as such: the limits that the first one fixes, ticks that compare replicas, and entries
// that must stop a node.
#include "harness.h"

static const struct machine_limits limits = {
    .sessions = 8, .leases = 16, .locks = 16, .claims = 32};

// On a fault the node must stop, and the machine no longer changes.
static void assert_stopped(struct lab *lab, enum machine_fault fault) {
    assert_int_equal(machine_fault(lab->machine), fault);
    uint64_t applied = machine_applied(lab->machine), hash = machine_hash(lab->machine);
    uint64_t digest = machine_digest(lab->machine), time_ns = machine_time(lab->machine);
    struct machine_sizes sizes = machine_sizes(lab->machine);
    lab_later(lab, SECOND);
    union command command;
    command_build(&command, &(struct ask){.op = WIRE_OP_SESSION_OPEN, .token = 4711});
    lab_apply_raw(lab, RAFT_ENTRY_COMMAND, &command, command.request.head.length);
    lab_apply_raw(lab, RAFT_ENTRY_NOOP, &limits, sizeof limits);
    assert_int_equal(machine_fault(lab->machine), fault);
    assert_int_equal(machine_applied(lab->machine), applied);
    assert_int_equal(machine_hash(lab->machine), hash);
    assert_int_equal(machine_digest(lab->machine), digest);
    assert_int_equal(machine_time(lab->machine), time_ns);
    assert_sizes(lab, sizes.sessions, sizes.leases, sizes.locks, sizes.claims);
}

static void a_new_machine_is_empty(void **state) {
    struct lab *lab = lab_bare(&limits);
    assert_int_equal(machine_applied(lab->machine), 0);
    assert_int_equal(machine_fault(lab->machine), MACHINE_FAULT_NONE);
    assert_int_equal(machine_next_due(lab->machine), UINT64_MAX);
    assert_false(machine_snapshot_active(lab->machine));
    assert_sizes(lab, 0, 0, 0, 0);
    struct lab *other = lab_bare(&limits);
    assert_int_equal(machine_hash(lab->machine), machine_hash(other->machine));
    assert_int_equal(machine_digest(lab->machine), machine_digest(other->machine));
    lab_close(other);
    lab_close(lab);
}

static void only_the_first_noop_fixes_the_limits(void **state) {
    struct lab *lab = lab_bare(&limits);
    struct machine_limits agreed = {.sessions = 4, .leases = 2, .locks = 3, .claims = 4};
    lab_noop(lab, &agreed);
    struct machine_limits huge = {1u << 20, 1u << 20, 1u << 20, 1u << 20};
    lab_noop(lab, &huge); // a node configured otherwise leads now
    lab->term++;
    lab_noop(lab, &limits);
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 60000);
    grant(lab, &client, 60000);
    struct ask ask = {.op = WIRE_OP_LEASE_GRANT, .amount = 1000};
    assert_int_equal(client_do(lab, &client, ask).detail, WIRE_TABLE_LEASE);
    must_hold(lab, &client, "a", lease);
    must_hold(lab, &client, "b", lease);
    must_hold(lab, &client, "c", lease);
    assert_int_equal(acquire(lab, &client, "d", lease, 0).detail, WIRE_TABLE_LOCK);
    lab_close(lab);
}

static void less_than_agreed_stops_the_node(void **state) {
    for (int table = 0; table < 4; table++) {
        struct machine_limits agreed = limits;
        uint32_t *field = table == 0   ? &agreed.sessions
                          : table == 1 ? &agreed.leases
                          : table == 2 ? &agreed.locks
                                       : &agreed.claims;
        ++*field;
        struct lab *lab = lab_bare(&limits);
        lab_apply_raw(lab, RAFT_ENTRY_NOOP, &agreed, sizeof agreed);
        assert_stopped(lab, MACHINE_FAULT_LIMITS);
        lab_close(lab);
    }
}

static void different_allocations_apply_the_same(void **state) {
    struct machine_limits larger = {.sessions = 100, .leases = 333, .locks = 64, .claims = 1000};
    struct lab *lab = lab_open(&limits), *other = lab_bare(&larger);
    other->silent = true;
    struct client client = client_open(lab);
    for (int i = 0; i < 20; i++) // over the limit, so refused at the same entries
        client_do(lab, &client, (struct ask){.op = WIRE_OP_LEASE_GRANT, .amount = 1000});
    while (machine_applied(other->machine) < lab->record_count) lab_follow(other, lab);
    assert_equal_machines(lab, other);
    assert_sizes(other, 1, 16, 0, 0);
    lab_close(other);
    lab_close(lab);
}

// ---------------------------------------------------------------- hashes and ticks

static void the_hash_tells_histories_apart(void **state) {
    struct lab *a = lab_open(&limits), *b = lab_open(&limits);
    assert_equal_machines(a, b);
    uint64_t before = machine_hash(a->machine);
    struct client one = client_open(a);
    assert_int_not_equal(machine_hash(a->machine), before);
    lab_follow(b, a);
    assert_equal_machines(a, b);
    b->silent = true;
    struct client same = one;
    uint64_t first = grant(a, &one, 1000), second = grant(b, &same, 1001);
    assert_int_not_equal(machine_hash(a->machine), machine_hash(b->machine));
    assert_int_not_equal(machine_digest(a->machine), machine_digest(b->machine));
    assert_int_equal(revoke(a, &one, first).status, WIRE_OK);
    assert_int_equal(revoke(b, &same, second).status, WIRE_OK);
    // Rolling: what was once different stays told.
    assert_int_not_equal(machine_hash(a->machine), machine_hash(b->machine));
    lab_close(b);
    lab_close(a);
}

static struct machine_reply tick_raw(struct lab *lab, uint64_t index, uint64_t hash) {
    union command command;
    command_build(&command, &(struct ask){.op = WIRE_OP_TICK, .amount = index, .token = hash});
    uint32_t length = command.request.head.length;
    assert_int_equal(machine_validate(&command.request, length, true), WIRE_OK);
    return lab_apply_raw(lab, RAFT_ENTRY_COMMAND, &command, length);
}

static void a_tick_carries_time_and_agrees(void **state) {
    struct lab *lab = lab_open(&limits);
    for (int i = 0; i < 100; i++) {
        lab_later(lab, 50 * MS);
        tick(lab);
        assert_int_equal(machine_time(lab->machine), lab->time_ns);
    }
    // The leader speaks of what it had applied when it proposed: some entries ago.
    uint64_t index = machine_applied(lab->machine), hash = machine_hash(lab->machine);
    struct client client = client_open(lab);
    grant(lab, &client, 1000);
    tick_raw(lab, index, hash);
    assert_int_equal(machine_fault(lab->machine), MACHINE_FAULT_NONE);
    // However long ago.
    uint64_t lease = grant(lab, &client, 60000);
    for (int i = 0; i < 5000; i++) keepalive(lab, &client, lease);
    tick_raw(lab, index, hash);
    assert_int_equal(machine_fault(lab->machine), MACHINE_FAULT_NONE);
    lab_close(lab);
}

static void a_tick_with_another_hash_stops_the_node(void **state) {
    for (uint32_t behind = 0; behind < 4; behind++) {
        struct lab *lab = lab_open(&limits);
        struct client client = client_open(lab);
        uint64_t index = machine_applied(lab->machine), hash = machine_hash(lab->machine);
        for (uint32_t i = 0; i < behind; i++) grant(lab, &client, 1000);
        tick_raw(lab, index, hash ^ 1ull << (behind * 20));
        assert_stopped(lab, MACHINE_FAULT_DIVERGED);
        lab_close(lab);
    }
}

static void a_restored_machine_compares_from_its_snapshot_on(void **state) {
    for (int round = 0; round < 4; round++) {
        struct lab *lab = lab_open(&limits);
        uint64_t before = machine_applied(lab->machine), before_hash = machine_hash(lab->machine);
        struct client client = client_open(lab);
        grant(lab, &client, 60000);
        struct stream stream = stream_of(lab);
        struct lab *other = lab_restored(&limits, &stream);
        uint64_t index = machine_applied(other->machine), hash = machine_hash(other->machine);
        assert_int_equal(hash, machine_hash(lab->machine));
        if (round == 0) tick_raw(other, before, before_hash); // proposed before, applied after
        if (round == 1) tick_raw(other, index, hash);
        if (round == 2) grant(other, &client, 100), tick_raw(other, index, hash);
        if (round < 3) assert_int_equal(machine_fault(other->machine), MACHINE_FAULT_NONE);
        if (round == 3) {
            tick_raw(other, index, ~hash);
            assert_stopped(other, MACHINE_FAULT_DIVERGED);
        }
        stream_free(&stream);
        lab_close(other);
        lab_close(lab);
    }
}

// A machine that refused a stream is empty, and compares from its first entry on.
static void a_machine_emptied_by_a_refusal_starts_anew(void **state) {
    struct lab *lab = lab_open(&limits), *other = lab_bare(&limits);
    struct client client = client_open(lab);
    uint64_t lease = grant(lab, &client, 1000);
    for (int i = 0; i < 50; i++) keepalive(lab, &client, lease);
    struct stream stream = stream_of(lab);
    struct lab *third = lab_restored(&limits, &stream); // it has been something before
    stream.bytes[stream.length - 1] ^= 1;
    static const uint32_t whole[] = {4096};
    assert_false(lab_restore(third, &stream, whole, 1));
    third->silent = true;
    for (int i = 0; i < 10; i++) lab_follow(third, lab), lab_follow(other, lab);
    assert_equal_machines(third, other);
    tick_raw(third, 5, 12345);
    assert_int_equal(machine_fault(third->machine), MACHINE_FAULT_DIVERGED);
    stream_free(&stream);
    lab_close(third);
    lab_close(other);
    lab_close(lab);
}

// ---------------------------------------------------------------- entries that cannot be

static void assert_stops(uint8_t type, const void *data, uint32_t length) {
    struct lab *lab = lab_open(&limits);
    client_open(lab);
    uint8_t *exact = malloc(length > 0 ? length : 1);
    assert_non_null(exact);
    if (length > 0) memcpy(exact, data, length);
    lab_apply_raw(lab, type, exact, length);
    free(exact);
    assert_stopped(lab, MACHINE_FAULT_ENTRY);
    assert_sizes(lab, 1, 0, 0, 0);
    lab_close(lab);
}

static void malformed_entries_stop_the_node(void **state) {
    union command good, bad;
    command_build(&good, &(struct ask){.op = WIRE_OP_SESSION_OPEN, .token = 1});
    uint32_t length = good.request.head.length;
    assert_stops(RAFT_ENTRY_COMMAND, &good, 0);
    assert_stops(RAFT_ENTRY_COMMAND, &good, 8);
    assert_stops(RAFT_ENTRY_COMMAND, &good, length - 8);
    assert_stops(RAFT_ENTRY_COMMAND, &good, length + 8);
    assert_stops(0, &good, length);
    assert_stops(RAFT_ENTRY_COMMAND + 1, &good, length);
    assert_stops(255, &good, length);
    static const uint16_t ops[] = {0,     WIRE_OP_LOCK_RELEASE + 1, WIRE_OP_STATUS, 0x8000, 0x8004,
                                   0xffff};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        bad = good;
        bad.request.op = ops[i];
        assert_stops(RAFT_ENTRY_COMMAND, &bad, length);
    }
    bad = good;
    bad.request.name_length = 9; // beyond its own end
    assert_stops(RAFT_ENTRY_COMMAND, &bad, length);
    bad = good;
    bad.request.value_length = WIRE_VALUE_MAX;
    assert_stops(RAFT_ENTRY_COMMAND, &bad, length);
    struct wire_expiry list[2] = {{1, 1, 0}, {2, 1, 0}};
    command_build(&bad, &(struct ask){.op = WIRE_OP_EXPIRE_LEASES,
                                      .value = list,
                                      .value_length = 40}); // not whole elements
    assert_stops(RAFT_ENTRY_COMMAND, &bad, bad.request.head.length);
    command_build(&bad,
                  &(struct ask){.op = WIRE_OP_EXPIRE_WAITS, .value = list, .value_length = 8});
    assert_stops(RAFT_ENTRY_COMMAND, &bad, bad.request.head.length);
}

static void a_first_noop_without_limits_stops_the_node(void **state) {
    struct lab *lab = lab_bare(&limits);
    lab_apply_raw(lab, RAFT_ENTRY_NOOP, &limits, 4);
    assert_true(machine_fault(lab->machine) != MACHINE_FAULT_NONE);
    assert_stopped(lab, machine_fault(lab->machine));
    lab_close(lab);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_machine_is_empty),
        cmocka_unit_test(only_the_first_noop_fixes_the_limits),
        cmocka_unit_test(less_than_agreed_stops_the_node),
        cmocka_unit_test(different_allocations_apply_the_same),
        cmocka_unit_test(the_hash_tells_histories_apart),
        cmocka_unit_test(a_tick_carries_time_and_agrees),
        cmocka_unit_test(a_tick_with_another_hash_stops_the_node),
        cmocka_unit_test(a_restored_machine_compares_from_its_snapshot_on),
        cmocka_unit_test(a_machine_emptied_by_a_refusal_starts_anew),
        cmocka_unit_test(malformed_entries_stop_the_node),
        cmocka_unit_test(a_first_noop_without_limits_stops_the_node),
    };
    return cmocka_run_group_tests_name("machine_entry", tests, NULL, NULL);
}
