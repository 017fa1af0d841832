// Snapshots as the core sees them: compaction, who needs one, what an installed one does to the
// log, and how late or older ones are refused.
#include "harness.h"

static struct solo s;

static void open_three(void) {
    struct raft_options options = options_of(1, 3);
    solo_open(&s, &options);
}

static void open_follower(uint32_t count, const uint64_t *terms) {
    open_three();
    solo_hear_append(&s, 2, terms[count - 1], 0, 0, 0, count, terms);
    solo_hard_state(&s);
    solo_write(&s);
    solo_forget(&s);
}

static void snapshot_event(enum raft_event_type type, uint16_t peer, uint64_t index,
                           uint64_t term) {
    solo_event(&s, (struct raft_event){.type = type, .snapshot = {peer, index, term, index}});
    solo_step(&s);
}

// A leader with 60 entries committed, durable everywhere but at peer 3, compacted up to 50.
static void open_compacted_leader(void) {
    open_three();
    solo_elect(&s);
    for (uint32_t i = 1; i < 60; i++) {
        solo_propose(&s, 1);
        solo_step(&s);
        solo_write(&s);
        solo_hear_ack(&s, 2, raft_last(s.raft));
    }
    assert_int_equal(raft_commit(s.raft), 60);
    snapshot_event(RAFT_EVENT_COMPACT, 0, 50, raft_term(s.raft));
    assert_int_equal(raft_first(s.raft), 51);
    solo_forget(&s);
}

static void test_compaction_keeps_the_base(void **state) {
    open_compacted_leader();
    assert_int_equal(raft_last(s.raft), 60);
    assert_int_equal(raft_commit(s.raft), 60);
    assert_int_equal(raft_term_at(s.raft, 50), raft_term(s.raft)); // known: prev_term of 51
    assert_int_equal(raft_term_at(s.raft, 49), 0);
    solo_close(&s);
}

// Published bug: an older snapshot that becomes durable late removes newer state.
static void test_compaction_never_goes_back(void **state) {
    open_compacted_leader();
    snapshot_event(RAFT_EVENT_COMPACT, 0, 30, raft_term(s.raft));
    assert_int_equal(raft_first(s.raft), 51);
    assert_int_equal(raft_last(s.raft), 60);
    assert_int_equal(raft_commit(s.raft), 60);
    solo_close(&s);
}

// raft.h, duty 8: the log a snapshot was made from must be on the disk before it is given up.
static void test_compaction_stops_at_the_durable_index(void **state) {
    open_three();
    solo_elect(&s);
    solo_propose(&s, 9);
    solo_step(&s);
    struct ticket write = solo_write_begin(&s);
    solo_hear_ack(&s, 2, 10);
    solo_hear_ack(&s, 3, 10);
    assert_int_equal(raft_commit(s.raft), 10);
    snapshot_event(RAFT_EVENT_COMPACT, 0, 8, 0);
    assert_int_equal(raft_first(s.raft), 1);
    solo_write_end(&s, write);
    snapshot_event(RAFT_EVENT_COMPACT, 0, 8, 0);
    assert_int_equal(raft_first(s.raft), 9);
    solo_close(&s);
}

static void test_peer_behind_the_log_needs_a_snapshot(void **state) {
    open_compacted_leader();
    // Peer 3 says that its log is empty.
    solo_hear_reply(&s, 3, raft_term(s.raft), WIRE_APPEND_REJECTED, 0, 0, 60, 0);
    solo_pass(&s, 2 * HEARTBEAT);
    solo_hear_reply(&s, 3, raft_term(s.raft), WIRE_APPEND_REJECTED, 0, 0,
                    solo_last_sent(&s, WIRE_APPEND, 3)->append.prev_index, raft_context(s.raft));
    solo_pass(&s, MS);
    assert_true(s.effects.snapshot_peers & 4u);
    assert_false(s.effects.snapshot_peers & 2u);
    solo_pass(&s, MS);
    assert_true(s.effects.snapshot_peers & 4u); // repeated until it is told
    solo_forget(&s);
    snapshot_event(RAFT_EVENT_SNAPSHOT_SENT, 3, 50, raft_term(s.raft));
    solo_pass(&s, 2 * HEARTBEAT);
    assert_int_equal(s.effects.snapshot_peers, 0);
    const struct raft_message *m = solo_last_sent(&s, WIRE_APPEND, 3);
    assert_non_null(m);
    bool from_there = false;
    for (uint32_t i = 0; i < s.sent_count; i++)
        from_there |= s.sent[i].type == WIRE_APPEND && s.sent[i].peer == 3 &&
                      s.sent[i].append.prev_index == 50;
    assert_true(from_there);
    solo_hear_ack(&s, 3, 60);
    solo_close(&s);
}

// Sending is given up: the peer is not forgotten.
static void test_failed_snapshot_is_wanted_again(void **state) {
    open_compacted_leader();
    solo_hear_reply(&s, 3, raft_term(s.raft), WIRE_APPEND_REJECTED, 0, 0, 60, 0);
    solo_pass(&s, MS);
    snapshot_event(RAFT_EVENT_SNAPSHOT_FAILED, 3, 50, 0);
    for (uint32_t i = 0; i < 30 && !(s.effects.snapshot_peers & 4u); i++) {
        solo_pass(&s, 5 * MS);
        solo_hear_ack(&s, 2, 60);
        const struct raft_message *m = solo_last_sent(&s, WIRE_APPEND, 3);
        if (m != NULL && m->append.prev_index > 0)
            solo_hear_reply(&s, 3, raft_term(s.raft), WIRE_APPEND_REJECTED, 0, 0,
                            m->append.prev_index, raft_context(s.raft));
        solo_pass(&s, MS);
    }
    assert_true(s.effects.snapshot_peers & 4u);
    solo_close(&s);
}

static void test_snapshot_sent_never_lowers_match(void **state) {
    open_three();
    solo_elect(&s);
    solo_propose(&s, 9);
    solo_step(&s);
    solo_hear_ack(&s, 3, 10);
    snapshot_event(RAFT_EVENT_SNAPSHOT_SENT, 3, 4, raft_term(s.raft)); // of long ago
    solo_write(&s);
    assert_int_equal(raft_commit(s.raft), 10);
    solo_close(&s);
}

static void test_snapshot_sent_beyond_the_log_is_not_believed(void **state) {
    open_three();
    solo_elect(&s);
    solo_write(&s);
    snapshot_event(RAFT_EVENT_SNAPSHOT_SENT, 3, 400, raft_term(s.raft));
    snapshot_event(RAFT_EVENT_SNAPSHOT_SENT, 77, 1, raft_term(s.raft)); // a stranger
    assert_true(raft_commit(s.raft) <= raft_last(s.raft));
    solo_pass(&s, 2 * HEARTBEAT);
    solo_close(&s);
}

static void test_installed_snapshot_restarts_the_log(void **state) {
    static const uint64_t terms[] = {1, 1, 1};
    open_follower(3, terms);
    solo_hear_append(&s, 2, 4, 90, 4, 0, 0, NULL); // its leader is far ahead
    solo_hard_state(&s);
    assert_true(raft_wants_snapshot(s.raft, 2, 4, 80));
    snapshot_event(RAFT_EVENT_SNAPSHOT_INSTALLED, 2, 80, 4);
    assert_int_equal(raft_first(s.raft), 81);
    assert_int_equal(raft_last(s.raft), 80);
    assert_int_equal(raft_commit(s.raft), 80);
    assert_int_equal(raft_durable(s.raft), 80);
    assert_int_equal(raft_term_at(s.raft, 80), 4);
    static const uint64_t next[] = {4, 4};
    solo_forget(&s);
    solo_hear_append(&s, 2, 4, 80, 4, 82, 2, next);
    assert_int_equal(raft_last(s.raft), 82);
    assert_int_equal(raft_commit(s.raft), 82);
    uint64_t first, epoch;
    assert_int_equal(raft_unpersisted(s.raft, &first, &epoch), 2);
    assert_int_equal(first, 81);
    solo_write(&s);
    assert_int_equal(solo_last_sent(&s, WIRE_APPEND_REPLY, 2)->append_reply.match, 82);
    solo_close(&s);
}

// hashicorp/raft 704: entries of another term lie where the snapshot ends, and beyond it. They must
// go, or the log joins two histories.
static void test_installed_snapshot_drops_a_conflicting_log(void **state) {
    static const uint64_t terms[] = {1, 1, 2, 2, 2, 2, 2, 2, 2, 2};
    open_follower(10, terms);
    solo_hear_append(&s, 3, 4, 90, 4, 0, 0, NULL);
    solo_hard_state(&s);
    snapshot_event(RAFT_EVENT_SNAPSHOT_INSTALLED, 3, 8, 3); // here entry 8 is of term 2
    assert_int_equal(raft_first(s.raft), 9);
    assert_int_equal(raft_last(s.raft), 8);
    assert_int_equal(raft_term_at(s.raft, 8), 3);
    assert_int_equal(raft_commit(s.raft), 8);
    uint64_t first, epoch;
    assert_int_equal(raft_unpersisted(s.raft, &first, &epoch), 0);
    solo_close(&s);
}

// The entry is here with the same term: what follows it is kept (figure 5.3, step 6).
static void test_installed_snapshot_keeps_a_matching_log(void **state) {
    static const uint64_t terms[] = {1, 1, 2, 2, 2, 2, 2, 2, 2, 2};
    open_follower(10, terms);
    solo_hear_append(&s, 3, 4, 90, 4, 0, 0, NULL);
    solo_hard_state(&s);
    snapshot_event(RAFT_EVENT_SNAPSHOT_INSTALLED, 3, 8, 2);
    assert_int_equal(raft_last(s.raft), 10);
    assert_int_equal(raft_durable(s.raft), 10);
    assert_true(raft_commit(s.raft) >= 8 || raft_first(s.raft) <= 8);
    solo_close(&s);
}

// A write in flight when the log restarts is of another log.
static void test_completion_from_before_the_snapshot_is_stale(void **state) {
    static const uint64_t terms[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    open_three();
    solo_hear_append(&s, 2, 1, 0, 0, 0, 10, terms);
    struct ticket old = solo_write_begin(&s);
    solo_hear_append(&s, 3, 2, 90, 2, 0, 0, NULL);
    solo_hard_state(&s);
    snapshot_event(RAFT_EVENT_SNAPSHOT_INSTALLED, 3, 5, 2);
    static const uint64_t next[] = {2, 2, 2, 2, 2};
    solo_hear_append(&s, 3, 2, 5, 2, 0, 5, next); // 6 to 10, not written
    solo_write_end(&s, old);
    assert_int_equal(raft_durable(s.raft), 5);
    assert_true(solo_last_sent(&s, WIRE_APPEND_REPLY, 3)->append_reply.match <= 5);
    solo_write(&s);
    assert_int_equal(raft_durable(s.raft), 10);
    solo_close(&s);
}

// While the last chunk was being written, another leader's appends brought the entries, and this
// node was elected before it knew them to be committed.
static void test_snapshot_installed_by_a_node_that_leads_by_now(void **state) {
    static const uint64_t terms[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    open_follower(10, terms);
    assert_int_equal(raft_commit(s.raft), 0);
    solo_elect(&s);
    snapshot_event(RAFT_EVENT_SNAPSHOT_INSTALLED, 2, 8, 1);
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    assert_int_equal(raft_last(s.raft), 11);
    assert_int_equal(raft_first(s.raft), 1);
    assert_in_range(raft_commit(s.raft), 0, 8);
    solo_close(&s);
}

static void test_older_snapshot_is_refused(void **state) {
    static const uint64_t terms[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    open_three();
    solo_hear_append(&s, 2, 1, 0, 0, 10, 10, terms); // committed
    solo_hard_state(&s);
    solo_write(&s);
    assert_int_equal(raft_commit(s.raft), 10);
    assert_false(raft_wants_snapshot(s.raft, 2, 1, 6));
    assert_false(raft_wants_snapshot(s.raft, 2, 1, 10));
    snapshot_event(RAFT_EVENT_SNAPSHOT_INSTALLED, 2, 6, 1);
    assert_int_equal(raft_commit(s.raft), 10);
    assert_int_equal(raft_last(s.raft), 10);
    assert_int_equal(raft_durable(s.raft), 10);
    solo_close(&s);
}

static void test_snapshot_is_wanted_only_from_the_leader_of_this_term(void **state) {
    open_three();
    solo_hear_append(&s, 2, 4, 90, 4, 0, 0, NULL);
    solo_hard_state(&s);
    assert_true(raft_wants_snapshot(s.raft, 2, 4, 80));
    assert_false(raft_wants_snapshot(s.raft, 2, 3, 80)); // of an older term
    assert_false(raft_wants_snapshot(s.raft, 3, 4, 80)); // not the leader
    assert_false(raft_wants_snapshot(s.raft, 77, 4, 80));
    solo_close(&s);
}

// A chunk is a sign of life: a long transfer must not end in an election.
static void test_chunks_hold_off_the_election(void **state) {
    open_three();
    solo_hear_append(&s, 2, 4, 90, 4, 0, 0, NULL);
    solo_hard_state(&s);
    solo_forget(&s);
    for (uint32_t i = 0; i < 60; i++) {
        solo_pass(&s, 10 * MS);
        solo_hear(&s, (struct raft_message){
                          .peer = 2, .type = WIRE_SNAPSHOT, .term = 4, .snapshot = {80, 4, i}});
    }
    assert_int_equal(solo_sent(&s, WIRE_VOTE, 0), 0);
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_FOLLOWER);
    solo_close(&s);
}

// Chunks of a deposed leader. (Its heartbeats are what it hears of the newer term by.)
static void test_chunk_of_an_older_term_holds_off_nothing(void **state) {
    struct raft_options options = options_of(1, 3);
    solo_create(&s, &options);
    raft_restore_hard_state(s.raft, 9, 0);
    solo_start(&s);
    for (uint32_t i = 0; i < 60; i++) {
        solo_pass(&s, 10 * MS);
        solo_hear(&s, (struct raft_message){
                          .peer = 2, .type = WIRE_SNAPSHOT, .term = 4, .snapshot = {80, 4, i}});
    }
    assert_true(solo_sent(&s, WIRE_VOTE, 3) > 0);
    assert_int_equal(raft_term(s.raft), 9);
    assert_false(raft_wants_snapshot(s.raft, 2, 4, 80));
    solo_close(&s);
}

// Its answers count for CheckQuorum and ReadIndex as those to appends do.
static void test_snapshot_replies_are_signs_of_life(void **state) {
    open_compacted_leader();
    for (uint32_t i = 0; i < 60; i++) {
        solo_pass(&s, 10 * MS);
        solo_hear(&s, (struct raft_message){.peer = 3,
                                            .type = WIRE_SNAPSHOT_REPLY,
                                            .term = raft_term(s.raft),
                                            .snapshot = {50, 0, raft_context(s.raft)}});
        solo_forget(&s);
    }
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    solo_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compaction_keeps_the_base),
        cmocka_unit_test(test_compaction_never_goes_back),
        cmocka_unit_test(test_compaction_stops_at_the_durable_index),
        cmocka_unit_test(test_peer_behind_the_log_needs_a_snapshot),
        cmocka_unit_test(test_failed_snapshot_is_wanted_again),
        cmocka_unit_test(test_snapshot_sent_never_lowers_match),
        cmocka_unit_test(test_snapshot_sent_beyond_the_log_is_not_believed),
        cmocka_unit_test(test_installed_snapshot_restarts_the_log),
        cmocka_unit_test(test_installed_snapshot_drops_a_conflicting_log),
        cmocka_unit_test(test_installed_snapshot_keeps_a_matching_log),
        cmocka_unit_test(test_completion_from_before_the_snapshot_is_stale),
        cmocka_unit_test(test_snapshot_installed_by_a_node_that_leads_by_now),
        cmocka_unit_test(test_older_snapshot_is_refused),
        cmocka_unit_test(test_snapshot_is_wanted_only_from_the_leader_of_this_term),
        cmocka_unit_test(test_chunks_hold_off_the_election),
        cmocka_unit_test(test_chunk_of_an_older_term_holds_off_nothing),
        cmocka_unit_test(test_snapshot_replies_are_signs_of_life),
    };
    return cmocka_run_group_tests_name("raft_snapshot", tests, NULL, NULL);
}
