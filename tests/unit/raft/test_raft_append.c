// Replication: what a leader may count as committed, what a follower may throw away, how acks and
// disk completions that come late or twice are told from true ones.
#include "harness.h"

static struct solo s;

static void open_three(void) {
    struct raft_options options = options_of(1, 3);
    solo_open(&s, &options);
}

static void open_follower(uint32_t count, const uint64_t *terms) {
    open_three();
    uint64_t term = terms[count - 1];
    solo_hear_append(&s, 2, term, 0, 0, 0, count, terms);
    solo_hard_state(&s);
    solo_write(&s);
    assert_int_equal(raft_durable(s.raft), count);
    solo_forget(&s);
}

static const struct raft_message *last_ack(uint16_t peer) {
    const struct raft_message *ack = solo_last_sent(&s, WIRE_APPEND_REPLY, peer);
    assert_non_null(ack);
    return ack;
}

// ---------------------------------------------------------------- what is committed

// Thesis 3.6.2, figure 3.7: an entry of an older term is not committed by counting its copies.
static void test_older_terms_are_not_committed_by_counting(void **state) {
    struct raft_options options = options_of(1, 3);
    solo_create(&s, &options);
    raft_restore_hard_state(s.raft, 2, 1);
    for (uint64_t i = 1; i <= 2; i++) {
        struct raft_entry entry = {.term = i, .data = "12345678", .length = 8, .type = 2};
        assert_true(raft_restore_entry(s.raft, i, &entry));
    }
    solo_start(&s);
    solo_elect(&s); // its no-op is entry 3
    solo_hear_ack(&s, 2, 2);
    solo_hear_ack(&s, 3, 2);
    assert_int_equal(raft_commit(s.raft), 0);
    assert_false(raft_leader_ready(s.raft));
    solo_hear_ack(&s, 2, 3);
    solo_write(&s);
    assert_int_equal(raft_commit(s.raft), 3); // and all before it at once
    assert_true(raft_leader_ready(s.raft));
    solo_close(&s);
}

static void test_leader_counts_itself_only_when_durable(void **state) {
    open_three();
    solo_elect(&s);
    struct ticket write = solo_write_begin(&s);
    solo_hear_ack(&s, 2, 1);
    assert_int_equal(raft_commit(s.raft), 0); // one durable copy of three
    solo_write_end(&s, write);
    assert_int_equal(raft_durable(s.raft), 1);
    assert_int_equal(raft_commit(s.raft), 1);
    solo_close(&s);
}

static void test_two_followers_commit_without_the_leaders_disk(void **state) {
    open_three();
    solo_elect(&s);
    solo_hear_ack(&s, 2, 1);
    solo_hear_ack(&s, 3, 1);
    assert_int_equal(raft_commit(s.raft), 1);
    assert_int_equal(raft_durable(s.raft), 0);
    solo_close(&s);
}

// An ack of what it has received but not written is none: `match` is what counts, not `hint`.
static void test_received_is_not_durable(void **state) {
    open_three();
    solo_elect(&s);
    solo_write(&s);
    solo_hear_reply(&s, 2, raft_term(s.raft), 0, 0, 1, 0, raft_context(s.raft));
    assert_int_equal(raft_commit(s.raft), 0);
    solo_close(&s);
}

static void test_match_never_goes_back(void **state) {
    open_three();
    solo_elect(&s);
    solo_propose(&s, 4);
    solo_step(&s); // entries 1 to 5
    solo_hear_ack(&s, 2, 5);
    solo_hear_ack(&s, 2, 2); // overtaken on the way
    solo_write(&s);
    assert_int_equal(raft_commit(s.raft), 5);
    solo_close(&s);
}

// A rejection that answers an append sent long ago must move nothing.
static void test_stale_rejection_moves_nothing(void **state) {
    open_three();
    solo_elect(&s);
    solo_propose(&s, 4);
    solo_step(&s);
    solo_write(&s);
    solo_hear_ack(&s, 2, 5);
    solo_forget(&s);
    solo_hear_reply(&s, 2, raft_term(s.raft), WIRE_APPEND_REJECTED, 0, 0, 1, 0);
    solo_pass(&s, 2 * HEARTBEAT);
    for (uint32_t i = 0; i < s.sent_count; i++) {
        if (s.sent[i].type != WIRE_APPEND || s.sent[i].peer != 2) continue;
        assert_true(s.sent[i].append.prev_index >= 5);
    }
    assert_int_equal(raft_commit(s.raft), 5);
    solo_close(&s);
}

// A peer that claims more than was ever sent is broken, and must not break this node.
static void test_match_beyond_the_log_is_not_believed(void **state) {
    open_three();
    solo_elect(&s);
    solo_write(&s);
    solo_hear_reply(&s, 2, raft_term(s.raft), 0, UINT64_MAX, UINT64_MAX, 0, raft_context(s.raft));
    solo_hear_reply(&s, 3, raft_term(s.raft), 0, 7, 7, 6, raft_context(s.raft));
    assert_true(raft_commit(s.raft) <= raft_last(s.raft));
    solo_propose(&s, 1);
    solo_step(&s);
    solo_pass(&s, 2 * HEARTBEAT);
    assert_true(raft_commit(s.raft) <= 1); // entry 2 is nowhere durable
    solo_close(&s);
}

static void test_reply_of_an_older_term_counts_nothing(void **state) {
    open_three();
    solo_lead(&s);
    solo_propose(&s, 1);
    solo_step(&s);
    solo_write(&s);
    solo_hear_reply(&s, 2, raft_term(s.raft) - 1, 0, 2, 2, 1, raft_context(s.raft));
    assert_int_equal(raft_commit(s.raft), 1);
    solo_close(&s);
}

// Not every sender is a member.
static void test_strangers_count_nothing(void **state) {
    open_three();
    solo_elect(&s);
    solo_write(&s);
    solo_hear_reply(&s, 77, raft_term(s.raft), 0, 1, 1, 0, raft_context(s.raft));
    solo_hear_reply(&s, 1, raft_term(s.raft), 0, 1, 1, 0, raft_context(s.raft)); // itself
    assert_int_equal(raft_commit(s.raft), 0);
    solo_close(&s);
}

// ---------------------------------------------------------------- the follower

// Its own tail beyond what this append speaks of is not known to be the leader's.
static void test_follower_commits_only_what_the_append_covers(void **state) {
    static const uint64_t terms[] = {1, 1, 1, 1, 1};
    open_follower(5, terms);
    solo_hear_append(&s, 3, 2, 3, 1, 5, 0, NULL); // new leader, whose 4 and 5 are others
    assert_int_equal(raft_commit(s.raft), 3);
    static const uint64_t others[] = {2};
    solo_hear_append(&s, 3, 2, 3, 1, 5, 1, others);
    assert_int_equal(raft_commit(s.raft), 4);
    assert_int_equal(raft_last(s.raft), 4); // the rest of the old tail is gone
    solo_close(&s);
}

static void test_follower_acks_only_what_the_append_covers(void **state) {
    static const uint64_t terms[] = {1, 1, 1, 1, 1};
    open_follower(5, terms);
    solo_hear_append(&s, 3, 2, 3, 1, 0, 0, NULL);
    solo_hard_state(&s);
    assert_int_equal(last_ack(3)->append_reply.match, 3);
    assert_int_equal(last_ack(3)->flags & WIRE_APPEND_REJECTED, 0);
    solo_close(&s);
}

static void test_stale_append_truncates_no_matching_suffix(void **state) {
    static const uint64_t terms[] = {1, 1, 1, 1, 1};
    open_follower(5, terms);
    solo_hear_append(&s, 2, 1, 1, 1, 2, 2, terms);
    assert_int_equal(raft_last(s.raft), 5);
    assert_int_equal(raft_durable(s.raft), 5);
    assert_int_equal(raft_counter(s.raft, RAFT_COUNT_ENTRIES_TRUNCATED), 0);
    uint64_t first, epoch;
    assert_int_equal(raft_unpersisted(s.raft, &first, &epoch), 0); // nothing written twice
    solo_hear_append(&s, 2, 1, 0, 0, 2, 0, NULL);                  // a heartbeat from the beginning
    assert_int_equal(raft_last(s.raft), 5);
    solo_close(&s);
}

static void test_conflict_truncates(void **state) {
    static const uint64_t terms[] = {1, 1, 1, 1, 1}, newer[] = {1, 2};
    open_follower(5, terms);
    solo_hear_append(&s, 3, 2, 2, 1, 0, 2, newer); // 3 agrees, 4 does not
    assert_int_equal(raft_last(s.raft), 4);
    assert_int_equal(raft_term_at(s.raft, 3), 1);
    assert_int_equal(raft_term_at(s.raft, 4), 2);
    assert_int_equal(raft_durable(s.raft), 3);
    assert_int_equal(raft_counter(s.raft, RAFT_COUNT_ENTRIES_TRUNCATED), 2);
    uint64_t first, epoch;
    assert_int_equal(raft_unpersisted(s.raft, &first, &epoch), 1);
    assert_int_equal(first, 4);
    solo_close(&s);
}

static void test_mismatch_is_rejected_with_a_hint(void **state) {
    static const uint64_t terms[] = {1, 1, 1};
    open_follower(3, terms);
    solo_hear_append(&s, 3, 5, 9, 4, 0, 0, NULL); // beyond its log
    solo_hard_state(&s);
    assert_true(last_ack(3)->flags & WIRE_APPEND_REJECTED);
    assert_int_equal(last_ack(3)->append_reply.prev, 9);
    assert_true(last_ack(3)->append_reply.hint <= 3);
    solo_hear_append(&s, 3, 5, 3, 4, 0, 0, NULL); // another entry 3
    assert_true(last_ack(3)->flags & WIRE_APPEND_REJECTED);
    assert_true(last_ack(3)->append_reply.hint < 3);
    assert_int_equal(raft_last(s.raft), 3);
    assert_int_equal(raft_commit(s.raft), 0);
    assert_int_equal(raft_counter(s.raft, RAFT_COUNT_APPENDS_REJECTED), 2);
    solo_close(&s);
}

static void test_ack_waits_for_the_disk(void **state) {
    static const uint64_t terms[] = {1, 1, 1};
    open_three();
    solo_hear_append(&s, 2, 1, 0, 0, 0, 3, terms);
    solo_hard_state(&s);
    struct ticket write = solo_write_begin(&s);
    solo_hear_append(&s, 2, 1, 3, 1, 0, 0, NULL);
    assert_int_equal(last_ack(2)->append_reply.match, 0);
    assert_int_equal(last_ack(2)->append_reply.hint, 3);
    solo_write_end(&s, write);
    assert_int_equal(last_ack(2)->append_reply.match, 3); // unasked
    solo_close(&s);
}

// ---------------------------------------------------------------- completions of the disk

// A write of entries that were truncated meanwhile completes: same index, other entry.
static void test_completion_of_truncated_entries_is_stale(void **state) {
    static const uint64_t terms[] = {1, 1, 1}, newer[] = {2, 2};
    open_three();
    solo_hear_append(&s, 2, 1, 0, 0, 0, 3, terms);
    solo_hard_state(&s);
    struct ticket old = solo_write_begin(&s);
    solo_hear_append(&s, 3, 2, 1, 1, 0, 2, newer);
    solo_hard_state(&s);
    solo_forget(&s);
    solo_write_end(&s, old);
    assert_true(raft_durable(s.raft) <= 1);
    for (uint32_t i = 0; i < s.sent_count; i++)
        if (s.sent[i].type == WIRE_APPEND_REPLY) assert_true(s.sent[i].append_reply.match <= 1);
    solo_write(&s);
    assert_int_equal(raft_durable(s.raft), 3);
    assert_int_equal(last_ack(3)->append_reply.match, 3);
    solo_close(&s);
}

// ABA: A is being written, B replaces it, then a third leader brings A back. The completion of the
// first A has its index and term, but on the disk B will overwrite it before the second A comes.
static void test_completion_is_told_by_its_epoch(void **state) {
    static const uint64_t a[] = {1}, b[] = {2};
    open_three();
    solo_hear_append(&s, 2, 1, 0, 0, 0, 1, a);
    struct ticket first_a = solo_write_begin(&s);
    solo_hear_append(&s, 3, 2, 0, 0, 0, 1, b);
    struct ticket then_b = solo_write_begin(&s);
    solo_hear_append(&s, 2, 3, 0, 0, 0, 1, a);
    solo_hard_state(&s);
    assert_int_equal(raft_term_at(s.raft, 1), 1);
    struct ticket second_a = solo_write_begin(&s);
    assert_int_equal(second_a.index, first_a.index);
    assert_int_equal(second_a.term, first_a.term);
    assert_int_not_equal(second_a.epoch, first_a.epoch);
    solo_write_end(&s, first_a);
    assert_int_equal(raft_durable(s.raft), 0);
    solo_write_end(&s, then_b);
    assert_int_equal(raft_durable(s.raft), 0);
    solo_write_end(&s, second_a);
    assert_int_equal(raft_durable(s.raft), 1);
    assert_true(raft_counter(s.raft, RAFT_COUNT_STALE_DURABLE) >= 2);
    solo_close(&s);
}

// The part of a write that was not truncated may be believed, or written again; never more.
static void test_completion_before_and_after_a_later_truncation(void **state) {
    static const uint64_t terms[] = {1, 1, 1, 1}, newer[] = {2};
    open_three();
    solo_hear_append(&s, 2, 1, 0, 0, 0, 4, terms);
    solo_hard_state(&s);
    struct ticket write = solo_write_begin(&s);
    solo_hear_append(&s, 3, 2, 3, 1, 0, 1, newer); // only 4 is replaced
    solo_write_end(&s, write);
    assert_true(raft_durable(s.raft) <= 3);
    solo_hard_state(&s);
    solo_write(&s);
    assert_int_equal(raft_durable(s.raft), 4); // nothing is left out for ever
    solo_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_older_terms_are_not_committed_by_counting),
        cmocka_unit_test(test_leader_counts_itself_only_when_durable),
        cmocka_unit_test(test_two_followers_commit_without_the_leaders_disk),
        cmocka_unit_test(test_received_is_not_durable),
        cmocka_unit_test(test_match_never_goes_back),
        cmocka_unit_test(test_stale_rejection_moves_nothing),
        cmocka_unit_test(test_match_beyond_the_log_is_not_believed),
        cmocka_unit_test(test_reply_of_an_older_term_counts_nothing),
        cmocka_unit_test(test_strangers_count_nothing),
        cmocka_unit_test(test_follower_commits_only_what_the_append_covers),
        cmocka_unit_test(test_follower_acks_only_what_the_append_covers),
        cmocka_unit_test(test_stale_append_truncates_no_matching_suffix),
        cmocka_unit_test(test_conflict_truncates),
        cmocka_unit_test(test_mismatch_is_rejected_with_a_hint),
        cmocka_unit_test(test_ack_waits_for_the_disk),
        cmocka_unit_test(test_completion_of_truncated_entries_is_stale),
        cmocka_unit_test(test_completion_is_told_by_its_epoch),
        cmocka_unit_test(test_completion_before_and_after_a_later_truncation),
    };
    return cmocka_run_group_tests_name("raft_append", tests, NULL, NULL);
}
