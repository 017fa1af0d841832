// Partitions under which other implementations were seen to lose their leader for good or to change
// it for ever, stalled disks, and cluster time over elections.
#include "harness.h"

static struct solo s;

// etcd 8334: a node of a higher term ignores the leader, the leader's followers ignore it, and it
// never comes back. It must answer the leader with its term.
static void test_node_of_a_higher_term_comes_back(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 1);
    cluster_crash(c, 3);
    c->nodes[3].disk_term = 30;
    c->nodes[3].disk_vote = 3;
    cluster_boot(c, 3);
    cluster_run(c, 1500);
    uint16_t leader = cluster_await_leader(c, 1000);
    assert_true(cluster_commits(c, leader, 200));
    cluster_run(c, 100);
    assert_int_equal(raft_commit(c->nodes[3].raft), c->committed_last);
    assert_true(raft_term(c->nodes[leader].raft) >= 30);
    cluster_close(c);
}

static void test_append_of_an_older_term_is_answered_with_the_newer(void **state) {
    struct raft_options options = options_of(1, 3);
    solo_create(&s, &options);
    raft_restore_hard_state(s.raft, 30, 1);
    solo_start(&s);
    static const uint64_t terms[] = {2};
    solo_hear_append(&s, 2, 2, 0, 0, 0, 1, terms);
    const struct raft_message *reply = solo_last_sent(&s, WIRE_APPEND_REPLY, 2);
    assert_non_null(reply);
    assert_int_equal(reply->term, 30);
    assert_int_equal(raft_last(s.raft), 0); // and changes nothing here
    assert_int_equal(raft_leader(s.raft), 0);
    solo_close(&s);
}

// etcd 8501: the only node with the newest log has an older term than the rest, and cannot win
// unless a refused pre-vote teaches it theirs.
static void test_newest_log_with_an_older_term_wins(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 1);
    cluster_crash(c, 3);
    assert_true(cluster_commits(c, 1, 100));
    cluster_crash(c, 1);
    cluster_crash(c, 2);
    c->nodes[3].disk_term = 40;
    c->nodes[3].disk_vote = 3;
    cluster_boot(c, 3);
    cluster_boot(c, 2);
    cluster_run(c, 2000);
    assert_int_equal(cluster_await_leader(c, 1000), 2);
    cluster_close(c);
}

// A leader heard by one follower only must not keep that follower from electing another.
static void test_heartbeats_of_a_leader_without_quorum_block_no_election(void **state) {
    struct cluster *c = cluster_open(5);
    cluster_make_leader(c, 1);
    cluster_crash(c, 5);
    cluster_cut_both(c, 1, 3);
    cluster_cut_both(c, 1, 4);
    cluster_run(c, 15 * 100);
    uint16_t leader = cluster_await_leader(c, 1000);
    assert_in_range(leader, 2, 4);
    assert_true(cluster_commits(c, leader, 100));
    cluster_close(c);
}

// Its heartbeats reach all, no answer reaches it: it must give up.
static void test_leader_that_hears_nobody_is_replaced(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 1);
    cluster_cut(c, 2, 1);
    cluster_cut(c, 3, 1);
    cluster_run(c, 1500);
    uint16_t leader = cluster_await_leader(c, 1000);
    assert_in_range(leader, 2, 3);
    assert_true(cluster_commits(c, leader, 100));
    uint64_t term = cluster_highest_term(c);
    cluster_run(c, 3000); // and being deaf, it does not disturb the new one
    assert_int_equal(cluster_leader(c), leader);
    assert_int_equal(cluster_highest_term(c), term);
    cluster_close(c);
}

// One-way link: a follower that hears nobody but is heard by all does not unseat the leader.
static void test_deaf_follower_does_not_disturb(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 1);
    uint64_t term = cluster_highest_term(c);
    cluster_cut(c, 1, 3);
    cluster_cut(c, 2, 3);
    cluster_run(c, 3000);
    assert_int_equal(cluster_leader(c), 1);
    assert_int_equal(cluster_highest_term(c), term);
    assert_true(cluster_commits(c, 1, 100));
    cluster_heal(c);
    cluster_run(c, 500);
    assert_int_equal(cluster_highest_term(c), term);
    assert_int_equal(raft_commit(c->nodes[3].raft), c->committed_last);
    cluster_close(c);
}

// Only the link from the leader to one follower is dead.
static void test_one_way_link_from_the_leader(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 1);
    cluster_cut(c, 1, 3);
    uint64_t term = cluster_highest_term(c);
    for (uint32_t i = 0; i < 20; i++) {
        cluster_run(c, 150);
        assert_true(cluster_commits(c, cluster_await_leader(c, 10), 50));
    }
    assert_int_equal(cluster_highest_term(c), term);
    cluster_close(c);
}

// Cloudflare, November 2020: two nodes of three do not see each other, and without PreVote they
// take the leadership from one another for ever.
static void test_partial_partition_of_three_does_not_livelock(void **state) {
    for (uint16_t first = 1; first <= 3; first++) {
        struct cluster *c = cluster_open(3);
        cluster_make_leader(c, first);
        cluster_cut_both(c, 1, 3);
        cluster_run(c, 1000);
        uint16_t leader = cluster_await_leader(c, 1000);
        uint64_t term = cluster_highest_term(c);
        for (uint32_t i = 0; i < 30; i++) {
            cluster_run(c, 100);
            assert_true(cluster_commits(c, leader, 50));
        }
        assert_int_equal(cluster_leader(c), leader);
        assert_int_equal(cluster_highest_term(c), term);
        cluster_close(c);
    }
}

static void test_node_back_from_a_partition_does_not_disturb(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 1);
    uint64_t term = cluster_highest_term(c);
    cluster_cut_both(c, 3, 1);
    cluster_cut_both(c, 3, 2);
    cluster_run(c, 3000);
    assert_true(cluster_commits(c, 1, 100));
    cluster_heal(c);
    cluster_run(c, 300);
    assert_int_equal(cluster_leader(c), 1);
    assert_int_equal(cluster_highest_term(c), term);
    assert_int_equal(raft_commit(c->nodes[3].raft), c->committed_last);
    cluster_close(c);
}

// ---------------------------------------------------------------- the disk

// Heartbeats never wait for the disk; but a leader that cannot write must not stay for ever.
static void test_leader_with_a_stalled_disk_is_replaced(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 1);
    c->nodes[1].disk_stalled = true;
    assert_true(cluster_commits(c, 1, 50)); // two followers are a majority without it
    cluster_run(c, 3000);
    assert_true(raft_counter(c->nodes[1].raft, RAFT_COUNT_STEPPED_DOWN_DISK) >= 1);
    uint16_t leader = cluster_await_leader(c, 1000);
    assert_in_range(leader, 2, 3);
    assert_true(cluster_commits(c, leader, 100));
    cluster_close(c);
}

// One that could not write as a leader does not ask to become one.
static void test_node_with_a_stalled_disk_does_not_campaign(void **state) {
    static const uint64_t terms[] = {1, 1};
    struct raft_options options = options_of(1, 3);
    solo_open(&s, &options);
    solo_hear_append(&s, 2, 1, 0, 0, 0, 2, terms);
    solo_hard_state(&s);
    struct ticket write = solo_write_begin(&s);
    for (uint32_t i = 0; i < 150; i++) { // its leader is heard until the stall is long
        solo_pass(&s, 10 * MS);
        solo_hear_append(&s, 2, 1, 2, 1, 0, 0, NULL);
    }
    solo_forget(&s);
    solo_pass(&s, 10 * ELECTION);
    assert_int_equal(solo_sent(&s, WIRE_VOTE, 0), 0);
    solo_write_end(&s, write); // it was slow, not dead
    solo_pass(&s, 3 * ELECTION);
    assert_true(solo_sent(&s, WIRE_VOTE, 0) > 0);
    solo_close(&s);
}

static void test_leader_with_an_idle_disk_stays(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 1);
    cluster_run(c, 5000);
    assert_int_equal(cluster_leader(c), 1);
    assert_int_equal(raft_counter(c->nodes[1].raft, RAFT_COUNT_STEPPED_DOWN_DISK), 0);
    cluster_close(c);
}

// ---------------------------------------------------------------- cluster time

static void test_cluster_time_is_monotone_over_elections(void **state) {
    struct cluster *c = cluster_open(3);
    c->nodes[1].clock_offset_ns = 3600ll * 1000 * (int64_t)MS; // an hour apart
    cluster_make_leader(c, 1);
    uint64_t time = 0;
    for (uint32_t turn = 0; turn < 6; turn++) {
        uint16_t leader = cluster_await_leader(c, 2000);
        assert_true(cluster_commits(c, leader, 100)); // checked there: never back
        uint64_t committed = c->committed[c->committed_last].time_ns;
        assert_true(committed >= time);
        // Not more cluster time than real time between entries, whoever led. A first leader's
        // clock may start anywhere.
        if (turn > 0) assert_true(committed - time <= 5000 * MS);
        time = committed;
        cluster_crash(c, leader);
        cluster_run(c, 500);
        cluster_boot(c, leader);
        cluster_run(c, 100);
    }
    cluster_close(c);
}

static void test_new_leader_continues_the_time_of_its_log(void **state) {
    struct raft_options options = options_of(1, 3);
    solo_create(&s, &options);
    struct raft_entry entry = {
        .term = 1, .time_ns = 99000 * MS, .data = "12345678", .length = 8, .type = 2};
    assert_true(raft_restore_entry(s.raft, 1, &entry));
    solo_start(&s); // its clock says 1 s
    uint64_t started_ns = s.now_ns;
    solo_elect(&s);
    uint64_t noop = raft_entry_at(s.raft, 2).time_ns;
    // It has had that entry since its start at the latest: so much time has surely gone by.
    assert_int_equal(noop, 99000 * MS + (s.now_ns - started_ns));
    s.now_ns += 40 * MS;
    assert_in_range(raft_time(s.raft, s.now_ns), noop + 40 * MS, noop + 41 * MS);
    solo_propose(&s, 1);
    solo_step(&s);
    assert_in_range(raft_entry_at(s.raft, 3).time_ns, noop + 40 * MS, noop + 41 * MS);
    solo_close(&s);
}

// Leaders that die before they write anything but their first entry: time goes on all the same.
static void test_short_lived_leaders_do_not_stop_cluster_time(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 1);
    (void)cluster_await_leader(c, 2000);
    uint64_t began_ns = c->now_ns, time = c->committed[c->committed_last].time_ns;
    for (uint32_t turn = 0; turn < 20; turn++) {
        uint16_t leader = cluster_await_leader(c, 2000);
        cluster_run(c, 100);
        cluster_crash(c, leader);
        cluster_boot(c, leader);
        cluster_run(c, 50);
    }
    (void)cluster_await_leader(c, 2000);
    uint64_t passed = c->now_ns - began_ns;
    uint64_t counted = c->committed[c->committed_last].time_ns - time;
    assert_true(counted <= passed);
    assert_true(counted >= passed / 2); // a restarted node does not know how long it was away
    cluster_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_node_of_a_higher_term_comes_back),
        cmocka_unit_test(test_append_of_an_older_term_is_answered_with_the_newer),
        cmocka_unit_test(test_newest_log_with_an_older_term_wins),
        cmocka_unit_test(test_heartbeats_of_a_leader_without_quorum_block_no_election),
        cmocka_unit_test(test_leader_that_hears_nobody_is_replaced),
        cmocka_unit_test(test_deaf_follower_does_not_disturb),
        cmocka_unit_test(test_one_way_link_from_the_leader),
        cmocka_unit_test(test_partial_partition_of_three_does_not_livelock),
        cmocka_unit_test(test_node_back_from_a_partition_does_not_disturb),
        cmocka_unit_test(test_leader_with_a_stalled_disk_is_replaced),
        cmocka_unit_test(test_node_with_a_stalled_disk_does_not_campaign),
        cmocka_unit_test(test_leader_with_an_idle_disk_stays),
        cmocka_unit_test(test_cluster_time_is_monotone_over_elections),
        cmocka_unit_test(test_new_leader_continues_the_time_of_its_log),
        cmocka_unit_test(test_short_lived_leaders_do_not_stop_cluster_time),
    };
    return cmocka_run_group_tests_name("raft_partition", tests, NULL, NULL);
}
