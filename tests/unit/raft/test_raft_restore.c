// Coming back from disk: what raft_restore_entry() makes of records as a log really leaves them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "raft/raft.h"

static void *memory;

static struct raft *fresh(uint64_t snapshot_index, uint64_t snapshot_term) {
    struct raft_options options = {.id = 1,
                                   .node_count = 3,
                                   .nodes = {1, 2, 3},
                                   .election_ns = 1000000,
                                   .heartbeat_ns = 100000,
                                   .log_entries = 256,
                                   .log_bytes = 16384,
                                   .window_entries = 16,
                                   .seed = 1};
    free(memory);
    memory = aligned_alloc(64, (raft_bytes(&options) + 63) & ~63ull);
    struct raft *raft = raft_create(memory, &options);
    raft_restore_hard_state(raft, 9, 0);
    raft_restore_snapshot(raft, snapshot_index, snapshot_term, 0);
    return raft;
}

static void give(struct raft *raft, uint64_t from, uint64_t to, uint64_t term) {
    for (uint64_t i = from; i <= to; i++) {
        struct raft_entry entry = {.term = term, .data = "12345678", .length = 8, .type = 2};
        assert_true(raft_restore_entry(raft, i, &entry));
    }
}

static void test_replaced_suffix(void **state) {
    (void)state;
    struct raft *raft = fresh(0, 0);
    give(raft, 1, 10, 1);
    give(raft, 6, 7, 2);
    raft_start(raft, 1);
    assert_int_equal(raft_last(raft), 7);
    assert_int_equal(raft_term_at(raft, 5), 1);
    assert_int_equal(raft_term_at(raft, 7), 2);
}

// Snapshot at 110 of term 4; the log still has 100..120 of term 3, then 95..110 of term 4.
static void test_truncated_entries_behind_the_snapshot_stay_away(void **state) {
    (void)state;
    struct raft *raft = fresh(110, 4);
    give(raft, 90, 120, 3);
    give(raft, 95, 110, 4);
    raft_start(raft, 1);
    assert_int_equal(raft_last(raft), 110);
    assert_int_equal(raft_term_at(raft, 110), 4);

    raft = fresh(110, 4);
    give(raft, 90, 120, 3);
    give(raft, 95, 113, 4);
    raft_start(raft, 1);
    assert_int_equal(raft_last(raft), 113);
    assert_int_equal(raft_term_at(raft, 111), 4);
}

// The same, but the stale entries have the snapshot's own term's right to be replaced at once.
static void test_entries_of_equal_term_are_dropped_when_replaced_before_the_snapshot(void **state) {
    (void)state;
    struct raft *raft = fresh(110, 4);
    give(raft, 105, 120, 4);
    give(raft, 108, 110, 5);
    raft_start(raft, 1);
    assert_int_equal(raft_last(raft), 110);
}

static void test_gap_is_refused(void **state) {
    (void)state;
    struct raft *raft = fresh(10, 2);
    give(raft, 11, 12, 2);
    struct raft_entry entry = {.term = 2, .data = "12345678", .length = 8, .type = 2};
    assert_false(raft_restore_entry(raft, 14, &entry));
}

static void test_term_newer_than_hard_state(void **state) {
    (void)state;
    struct raft *raft = fresh(0, 0);
    give(raft, 1, 1, 12);
    raft_start(raft, 1);
    assert_int_equal(raft_term(raft), 12);
    assert_int_equal(raft_hard_state(raft).vote, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replaced_suffix),
        cmocka_unit_test(test_truncated_entries_behind_the_snapshot_stay_away),
        cmocka_unit_test(test_entries_of_equal_term_are_dropped_when_replaced_before_the_snapshot),
        cmocka_unit_test(test_gap_is_refused),
        cmocka_unit_test(test_term_newer_than_hard_state),
    };
    int failed = cmocka_run_group_tests_name("raft_restore", tests, NULL, NULL);
    free(memory);
    return failed;
}
