// Linearizable reads by ReadIndex (thesis 6.4): a read is released only by a majority that answered
// something sent after the read was asked, and only at an index the leader knows to be committed.
#include "harness.h"

static struct solo s;

static void open_leader(void) {
    struct raft_options options = options_of(1, 3);
    solo_open(&s, &options);
    solo_lead(&s);
}

static void ask(uint32_t count) {
    solo_read(&s, count);
    solo_step(&s);
}

static void echo(uint16_t peer, uint64_t context) {
    uint64_t last = raft_last(s.raft);
    solo_hear_reply(&s, peer, raft_term(s.raft), 0, last, last, last, context);
}

static void test_read_is_released_by_a_majority_that_answered_it(void **state) {
    open_leader();
    ask(3);
    assert_int_equal(s.reads_released, 0);
    const struct raft_message *sent = solo_last_sent(&s, WIRE_APPEND, 2);
    assert_non_null(sent); // the round begins at once, not with the next heartbeat
    echo(2, sent->append.context);
    assert_int_equal(s.reads_released, 3);
    assert_int_equal(s.read_index, 1);
    echo(3, sent->append.context);
    assert_int_equal(s.reads_released, 3); // once
    solo_close(&s);
}

// Published bug: a context used before lets an old answer confirm a new read.
static void test_answers_sent_before_the_read_do_not_release_it(void **state) {
    open_leader();
    ask(1);
    uint64_t first = solo_last_sent(&s, WIRE_APPEND, 2)->append.context;
    echo(2, first);
    assert_int_equal(s.reads_released, 1);
    solo_forget(&s);
    ask(1);
    echo(3, first);
    echo(2, first);
    assert_int_equal(s.reads_released, 0);
    assert_true(raft_context(s.raft) > first);
    echo(2, raft_context(s.raft));
    assert_int_equal(s.reads_released, 1);
    solo_close(&s);
}

// A read asked while a round is under way is not confirmed by that round.
static void test_a_round_under_way_does_not_take_up_later_reads(void **state) {
    open_leader();
    ask(1);
    uint64_t first = solo_last_sent(&s, WIRE_APPEND, 2)->append.context;
    ask(5);
    echo(2, first);
    assert_int_equal(s.reads_released, 1);
    solo_pass(&s, HEARTBEAT + MS);
    echo(2, solo_last_sent(&s, WIRE_APPEND, 2)->append.context);
    assert_int_equal(s.reads_released, 6);
    solo_close(&s);
}

static void test_contexts_are_not_reused_by_a_later_leadership(void **state) {
    open_leader();
    ask(1);
    uint64_t before = raft_context(s.raft), term = raft_term(s.raft);
    solo_hear_append(&s, 3, term + 1, 1, term, 1, 0, NULL);
    assert_int_equal(s.reads_aborted, 1);
    solo_hard_state(&s);
    solo_pass(&s, ELECTION + MS);
    solo_lead(&s);
    assert_true(raft_term(s.raft) > term + 1);
    ask(1);
    uint64_t now = solo_last_sent(&s, WIRE_APPEND, 2)->append.context;
    assert_true(now > before);
    uint64_t last = raft_last(s.raft);
    solo_hear_reply(&s, 2, term, 0, 1, 1, 1, now); // an answer from that older term
    solo_hear_reply(&s, 2, raft_term(s.raft), 0, last, last, last, before);
    assert_int_equal(s.reads_released, 0);
    solo_close(&s);
}

// A restarted leader must not take up answers to its former self.
static void test_no_answer_to_a_former_life_counts(void **state) {
    open_leader();
    uint64_t context = raft_context(s.raft), term = raft_term(s.raft);
    solo_close(&s);
    struct raft_options options = options_of(1, 3);
    solo_create(&s, &options);
    raft_restore_hard_state(s.raft, term, 1);
    solo_start(&s);
    solo_lead(&s);
    assert_true(raft_term(s.raft) > term);
    ask(1);
    solo_hear_reply(&s, 2, term, 0, 1, 1, 1, context + 100);
    assert_int_equal(s.reads_released, 0);
    solo_close(&s);
}

// 6.4 step 1: until an entry of its own term is committed, a leader does not know what is.
static void test_reads_wait_for_a_commit_of_the_leaders_term(void **state) {
    struct raft_options options = options_of(1, 3);
    solo_create(&s, &options);
    raft_restore_hard_state(s.raft, 2, 0);
    for (uint64_t i = 1; i <= 5; i++) { // committed by the former leader, not known here
        struct raft_entry entry = {.term = 2, .data = "12345678", .length = 8, .type = 2};
        assert_true(raft_restore_entry(s.raft, i, &entry));
    }
    solo_start(&s);
    solo_elect(&s);
    solo_forget(&s);
    ask(2);
    for (uint32_t i = 0; i < 5; i++) { // a majority answers, but holds only the old entries
        solo_pass(&s, 10 * MS);
        solo_hear_reply(&s, 2, raft_term(s.raft), 0, 5, 5, 5, raft_context(s.raft));
    }
    assert_int_equal(s.reads_released, 0);
    solo_hear_ack(&s, 2, 6);
    solo_write(&s);
    assert_int_equal(raft_commit(s.raft), 6);
    solo_pass(&s, HEARTBEAT + MS);
    solo_hear_ack(&s, 2, 6);
    assert_int_equal(s.reads_released, 2);
    assert_true(s.read_index >= 6);
    assert_int_equal(s.reads_aborted, 0);
    solo_close(&s);
}

static void test_read_index_covers_what_was_committed_when_asked(void **state) {
    open_leader();
    solo_propose(&s, 4);
    solo_step(&s);
    solo_write(&s);
    solo_hear_ack(&s, 2, 5);
    assert_int_equal(raft_commit(s.raft), 5);
    solo_forget(&s);
    ask(1);
    echo(2, raft_context(s.raft));
    assert_int_equal(s.reads_released, 1);
    assert_true(s.read_index >= 5);
    solo_close(&s);
}

static void test_one_peer_answering_twice_is_no_majority_of_five(void **state) {
    struct raft_options options = options_of(1, 5);
    solo_open(&s, &options);
    solo_lead(&s);
    ask(1);
    uint64_t context = raft_context(s.raft);
    echo(2, context);
    echo(2, context);
    assert_int_equal(s.reads_released, 0);
    echo(4, context);
    assert_int_equal(s.reads_released, 1);
    solo_close(&s);
}

static void test_contexts_never_sent_confirm_nothing(void **state) {
    open_leader();
    solo_pass(&s, MS);
    echo(2, UINT64_MAX);
    echo(3, UINT64_MAX);
    solo_forget(&s);
    ask(1);
    assert_int_equal(s.reads_released, 0);
    echo(2, raft_context(s.raft));
    assert_int_equal(s.reads_released, 1);
    solo_close(&s);
}

static void test_follower_aborts_reads(void **state) {
    struct raft_options options = options_of(1, 3);
    solo_open(&s, &options);
    ask(7);
    assert_int_equal(s.reads_aborted, 7);
    assert_int_equal(s.reads_released, 0);
    solo_close(&s);
}

static void test_step_down_aborts_reads(void **state) {
    open_leader();
    ask(2);
    ask(3);
    solo_pass(&s, 3 * ELECTION); // no quorum answers
    assert_int_not_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    assert_int_equal(s.reads_aborted, 5);
    assert_int_equal(s.reads_released, 0);
    solo_close(&s);
}

static void test_deposed_leader_releases_nothing(void **state) {
    open_leader();
    ask(1);
    uint64_t context = raft_context(s.raft), term = raft_term(s.raft);
    solo_hear_append(&s, 3, term + 1, 1, term, 1, 0, NULL);
    solo_hear_reply(&s, 2, term, 0, 1, 1, 1, context);
    assert_int_equal(s.reads_released, 0);
    assert_int_equal(s.reads_aborted, 1);
    solo_close(&s);
}

static void test_single_node_answers_reads_alone(void **state) {
    struct raft_options options = options_of(1, 1);
    solo_open(&s, &options);
    solo_pass(&s, 3 * ELECTION);
    solo_hard_state(&s);
    solo_pass(&s, MS);
    ask(2);
    assert_int_equal(s.reads_released, 0); // its no-op is not committed
    solo_write(&s);
    solo_pass(&s, HEARTBEAT + MS);
    assert_int_equal(s.reads_released, 2);
    assert_true(s.read_index >= 1);
    ask(1);
    solo_pass(&s, MS);
    assert_int_equal(s.reads_released, 3);
    solo_close(&s);
}

// More rounds outstanding than RAFT_READ_BATCHES: they are merged, none is lost.
static void test_many_rounds_outstanding(void **state) {
    open_leader();
    uint64_t asked = 0;
    for (uint32_t i = 0; i < 3 * RAFT_READ_BATCHES; i++) {
        ask(1 + i % 3);
        asked += 1 + i % 3;
    }
    assert_int_equal(s.reads_released + s.reads_aborted, 0);
    solo_pass(&s, HEARTBEAT + MS);
    echo(2, raft_context(s.raft));
    solo_pass(&s, HEARTBEAT + MS);
    echo(2, raft_context(s.raft));
    assert_int_equal(s.reads_released, asked);
    assert_int_equal(s.reads_aborted, 0);
    solo_close(&s);
}

// A follower that rejects (its log differs) still says that this term has no newer leader; one that
// does not answer says nothing.
static void test_silence_releases_nothing(void **state) {
    open_leader();
    ask(1);
    solo_pass(&s, ELECTION / 2);
    assert_int_equal(s.reads_released, 0);
    solo_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_is_released_by_a_majority_that_answered_it),
        cmocka_unit_test(test_answers_sent_before_the_read_do_not_release_it),
        cmocka_unit_test(test_a_round_under_way_does_not_take_up_later_reads),
        cmocka_unit_test(test_contexts_are_not_reused_by_a_later_leadership),
        cmocka_unit_test(test_no_answer_to_a_former_life_counts),
        cmocka_unit_test(test_reads_wait_for_a_commit_of_the_leaders_term),
        cmocka_unit_test(test_read_index_covers_what_was_committed_when_asked),
        cmocka_unit_test(test_one_peer_answering_twice_is_no_majority_of_five),
        cmocka_unit_test(test_contexts_never_sent_confirm_nothing),
        cmocka_unit_test(test_follower_aborts_reads),
        cmocka_unit_test(test_step_down_aborts_reads),
        cmocka_unit_test(test_deposed_leader_releases_nothing),
        cmocka_unit_test(test_single_node_answers_reads_alone),
        cmocka_unit_test(test_many_rounds_outstanding),
        cmocka_unit_test(test_silence_releases_nothing),
    };
    return cmocka_run_group_tests_name("raft_read", tests, NULL, NULL);
}
