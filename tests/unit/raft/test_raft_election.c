// Elections: time-outs, PreVote, votes and what must be durable before them, CheckQuorum, and nodes
// that have lost their log.
#include "harness.h"

static struct solo s;

static void open_three(void) {
    struct raft_options options = options_of(1, 3);
    solo_open(&s, &options);
}

static void test_time_out_is_between_one_and_two_election_times(void **state) {
    uint64_t earliest = UINT64_MAX, latest = 0;
    for (uint64_t seed = 1; seed <= 64; seed++) {
        struct raft_options options = options_of(1, 3);
        options.seed = seed;
        solo_open(&s, &options);
        uint64_t start = s.now_ns;
        while (s.sent_count == 0 && s.now_ns < start + 3 * ELECTION) solo_pass(&s, MS);
        uint64_t waited = s.now_ns - start;
        assert_in_range(waited, ELECTION, 2 * ELECTION + MS);
        if (waited < earliest) earliest = waited;
        if (waited > latest) latest = waited;
        solo_close(&s);
    }
    assert_true(latest - earliest > ELECTION / 2); // else nodes would collide
}

static void test_prevote_persists_nothing(void **state) {
    open_three();
    uint64_t sequence = raft_hard_state(s.raft).sequence;
    solo_pass(&s, 10 * ELECTION);
    assert_int_equal(raft_term(s.raft), 0);
    assert_int_equal(raft_hard_state(s.raft).sequence, sequence);
    assert_true(solo_sent(&s, WIRE_VOTE, 2) > 0 && solo_sent(&s, WIRE_VOTE, 3) > 0);
    for (uint32_t i = 0; i < s.sent_count; i++) {
        assert_int_equal(s.sent[i].flags, WIRE_VOTE_PREVOTE);
        assert_int_equal(s.sent[i].term, 1);
    }
    assert_int_equal(raft_counter(s.raft, RAFT_COUNT_ELECTIONS_STARTED), 0);
    assert_true(raft_counter(s.raft, RAFT_COUNT_PREVOTES_STARTED) > 1);
    solo_close(&s);
}

static void test_prevote_is_refused_while_a_leader_is_heard(void **state) {
    open_three();
    solo_hear_append(&s, 2, 1, 0, 0, 0, 0, NULL);
    solo_hard_state(&s);
    s.now_ns += ELECTION / 2;
    solo_forget(&s);
    solo_hear_vote(&s, 3, 2, WIRE_VOTE_PREVOTE, 9, 1);
    const struct raft_message *reply = solo_last_sent(&s, WIRE_VOTE_REPLY, 3);
    assert_true(reply == NULL || !(reply->flags & WIRE_VOTE_GRANTED));
    assert_int_equal(raft_term(s.raft), 1);
    // Once the leader has been silent for an election time the same question is granted.
    s.now_ns += ELECTION / 2 + MS;
    solo_hear_vote(&s, 3, 2, WIRE_VOTE_PREVOTE, 9, 1);
    reply = solo_last_sent(&s, WIRE_VOTE_REPLY, 3);
    assert_non_null(reply);
    assert_int_equal(reply->flags, WIRE_VOTE_PREVOTE | WIRE_VOTE_GRANTED);
    assert_int_equal(reply->term, 2);
    assert_int_equal(raft_term(s.raft), 1); // granting it persists nothing
    solo_close(&s);
}

// 4.2.3: nor does a RequestVote count then, however high its term: its sender would depose a leader
// that the others hear.
static void test_vote_is_not_heeded_while_a_leader_is_heard(void **state) {
    open_three();
    solo_hear_append(&s, 2, 1, 0, 0, 0, 0, NULL);
    solo_hard_state(&s);
    s.now_ns += ELECTION / 2;
    solo_forget(&s);
    solo_hear_vote(&s, 3, 9, 0, 9, 8);
    assert_int_equal(raft_term(s.raft), 1);
    assert_int_equal(raft_leader(s.raft), 2);
    s.now_ns += ELECTION / 2 + MS;
    solo_hear_vote(&s, 3, 9, 0, 9, 8);
    assert_int_equal(raft_hard_state(s.raft).vote, 3);
    solo_close(&s);
    open_three();
    solo_lead(&s); // and a leader hears itself
    uint64_t term = raft_term(s.raft);
    solo_hear_vote(&s, 3, term + 5, 0, 9, term + 4);
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    assert_int_equal(raft_term(s.raft), term);
    solo_close(&s);
}

// Published bug: the reply leaves first, the crash forgets it, and the node votes twice in a term.
static void test_vote_reply_waits_for_durable_vote(void **state) {
    open_three();
    solo_pass(&s, ELECTION + MS);
    solo_forget(&s);
    solo_hear_vote(&s, 2, 4, 0, 0, 0);
    assert_true(s.effects.hard_state_changed);
    assert_int_equal(raft_hard_state(s.raft).term, 4);
    assert_int_equal(raft_hard_state(s.raft).vote, 2);
    assert_int_equal(solo_sent(&s, WIRE_VOTE_REPLY, 0), 0);
    solo_hear_vote(&s, 2, 4, 0, 0, 0); // asked again: still not durable
    assert_int_equal(solo_sent(&s, WIRE_VOTE_REPLY, 0), 0);
    solo_hard_state(&s);
    const struct raft_message *reply = solo_last_sent(&s, WIRE_VOTE_REPLY, 2);
    assert_non_null(reply);
    assert_int_equal(reply->flags, WIRE_VOTE_GRANTED);
    assert_int_equal(reply->term, 4);
    solo_close(&s);
}

static void test_completion_of_an_older_hard_state_frees_no_vote(void **state) {
    open_three();
    solo_pass(&s, ELECTION + MS);
    solo_forget(&s);
    solo_hear_vote(&s, 2, 4, 0, 0, 0);
    uint64_t older = raft_hard_state(s.raft).sequence;
    solo_hear_vote(&s, 3, 5, 0, 0, 0);
    assert_true(raft_hard_state(s.raft).sequence > older);
    solo_event(&s, (struct raft_event){.type = RAFT_EVENT_HARD_STATE_DURABLE,
                                       .hard_state.sequence = older});
    solo_step(&s);
    for (uint32_t i = 0; i < s.sent_count; i++)
        assert_false(s.sent[i].type == WIRE_VOTE_REPLY && s.sent[i].term == 5 &&
                     (s.sent[i].flags & WIRE_VOTE_GRANTED));
    solo_hard_state(&s);
    const struct raft_message *reply = solo_last_sent(&s, WIRE_VOTE_REPLY, 3);
    assert_non_null(reply);
    assert_int_equal(reply->term, 5);
    solo_close(&s);
}

// The candidate's own vote is a vote like any other: it counts when it is durable.
static void test_candidate_counts_itself_only_when_durable(void **state) {
    open_three();
    while (raft_role(s.raft) == WIRE_ROLE_FOLLOWER) solo_pass(&s, MS);
    uint64_t term = solo_last_sent(&s, WIRE_VOTE, 2)->term;
    solo_hear(&s, (struct raft_message){.peer = 2,
                                        .type = WIRE_VOTE_REPLY,
                                        .flags = WIRE_VOTE_PREVOTE | WIRE_VOTE_GRANTED,
                                        .term = term});
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_CANDIDATE);
    struct raft_message granted = {
        .peer = 2, .type = WIRE_VOTE_REPLY, .flags = WIRE_VOTE_GRANTED, .term = term};
    solo_hear(&s, granted);
    solo_hear(&s, granted); // the same vote twice is one vote
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_CANDIDATE);
    solo_hard_state(&s);
    solo_hear(&s, granted);
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    solo_close(&s);
}

static void test_one_vote_a_term(void **state) {
    open_three();
    solo_pass(&s, ELECTION + MS);
    solo_hear_vote(&s, 2, 4, 0, 0, 0);
    solo_hard_state(&s);
    solo_forget(&s);
    solo_hear_vote(&s, 3, 4, 0, 50, 3); // a longer log does not help
    solo_hard_state(&s);
    const struct raft_message *reply = solo_last_sent(&s, WIRE_VOTE_REPLY, 3);
    assert_true(reply == NULL || !(reply->flags & WIRE_VOTE_GRANTED));
    solo_hear_vote(&s, 2, 4, 0, 0, 0); // its reply was lost
    reply = solo_last_sent(&s, WIRE_VOTE_REPLY, 2);
    assert_non_null(reply);
    assert_int_equal(reply->flags, WIRE_VOTE_GRANTED);
    solo_close(&s);
}

static void test_vote_outlives_a_restart(void **state) {
    struct raft_options options = options_of(1, 3);
    solo_create(&s, &options);
    raft_restore_hard_state(s.raft, 4, 2);
    solo_start(&s);
    solo_pass(&s, ELECTION + MS);
    solo_forget(&s);
    solo_hear_vote(&s, 3, 4, 0, 50, 3);
    solo_hard_state(&s);
    const struct raft_message *reply = solo_last_sent(&s, WIRE_VOTE_REPLY, 3);
    assert_true(reply == NULL || !(reply->flags & WIRE_VOTE_GRANTED));
    solo_close(&s);
}

// 3.6.1: the voter denies its vote if its own log is more up to date.
static void test_vote_only_for_a_log_as_new(void **state) {
    static const struct {
        uint64_t index, term;
        bool granted;
    } cases[] = {{9, 1, false}, {2, 2, false}, {3, 2, true}, {4, 2, true}, {1, 3, true}};
    for (uint32_t prevote = 0; prevote <= WIRE_VOTE_PREVOTE; prevote++) {
        for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            static const uint64_t terms[] = {1, 1, 2};
            open_three();
            solo_hear_append(&s, 2, 2, 0, 0, 0, 3, terms);
            solo_write(&s);
            solo_hard_state(&s);
            s.now_ns += ELECTION + MS; // not stepped: it must not campaign itself
            solo_forget(&s);
            solo_hear_vote(&s, 3, 5, prevote, cases[i].index, cases[i].term);
            solo_hard_state(&s);
            const struct raft_message *reply = solo_last_sent(&s, WIRE_VOTE_REPLY, 3);
            bool granted = reply != NULL && (reply->flags & WIRE_VOTE_GRANTED);
            assert_int_equal(granted, cases[i].granted);
            solo_close(&s);
        }
    }
}

static void test_a_log_vote_counts_what_is_in_memory_too(void **state) {
    // Entries received but not yet durable are part of the voter's log: a leader may hold acks of
    // others for them.
    static const uint64_t terms[] = {1, 1};
    open_three();
    solo_hear_append(&s, 2, 1, 0, 0, 0, 2, terms);
    solo_hard_state(&s);
    s.now_ns += ELECTION + MS;
    solo_forget(&s);
    solo_hear_vote(&s, 3, 2, 0, 1, 1);
    solo_hard_state(&s);
    const struct raft_message *reply = solo_last_sent(&s, WIRE_VOTE_REPLY, 3);
    assert_true(reply == NULL || !(reply->flags & WIRE_VOTE_GRANTED));
    solo_close(&s);
}

static void test_leader_without_a_quorum_steps_down(void **state) {
    open_three();
    solo_lead(&s);
    uint64_t term = raft_term(s.raft);
    uint64_t start = s.now_ns;
    while (raft_role(s.raft) == WIRE_ROLE_LEADER && s.now_ns < start + 5 * ELECTION)
        solo_pass(&s, MS);
    assert_int_not_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    assert_in_range(s.now_ns - start, ELECTION / 2, 2 * ELECTION + 2 * HEARTBEAT);
    assert_int_equal(raft_counter(s.raft, RAFT_COUNT_STEPPED_DOWN_QUORUM), 1);
    assert_int_equal(raft_term(s.raft), term); // and raises no term by it
    solo_close(&s);
}

static void test_leader_with_a_quorum_stays(void **state) {
    open_three();
    solo_lead(&s);
    for (uint32_t i = 0; i < 200; i++) { // only peer 2 answers
        solo_pass(&s, 5 * MS);
        solo_hear_ack(&s, 2, raft_last(s.raft));
        solo_forget(&s);
    }
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    solo_close(&s);
}

// Old answers, arriving late, are no sign of life now.
static void test_check_quorum_is_not_fed_by_stale_contexts(void **state) {
    open_three();
    solo_lead(&s);
    uint64_t old = raft_context(s.raft);
    uint64_t term = raft_term(s.raft);
    solo_pass(&s, HEARTBEAT + MS);
    for (uint32_t i = 0; i < 100 && raft_role(s.raft) == WIRE_ROLE_LEADER; i++) {
        solo_pass(&s, 5 * MS);
        solo_hear_reply(&s, 2, term, 0, 1, 1, 0, old);
        solo_forget(&s);
    }
    assert_int_not_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    solo_close(&s);
}

static void test_a_higher_term_ends_leadership(void **state) {
    open_three();
    solo_lead(&s);
    uint64_t term = raft_term(s.raft);
    solo_hear_append(&s, 3, term + 3, 0, 0, 0, 0, NULL);
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_FOLLOWER);
    assert_int_equal(raft_term(s.raft), term + 3);
    assert_int_equal(raft_leader(s.raft), 3);
    assert_false(raft_leader_ready(s.raft));
    assert_false(raft_can_propose(s.raft, 1, 8));
    solo_close(&s);
}

static void test_single_node_leads_when_its_vote_is_durable(void **state) {
    struct raft_options options = options_of(1, 1);
    solo_open(&s, &options);
    solo_pass(&s, 3 * ELECTION);
    assert_int_not_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    solo_hard_state(&s);
    solo_pass(&s, MS);
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    assert_int_equal(raft_commit(s.raft), 0);
    solo_write(&s);
    assert_int_equal(raft_commit(s.raft), 1);
    assert_true(raft_leader_ready(s.raft));
    solo_pass(&s, 20 * ELECTION); // CheckQuorum of one is always met
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    assert_int_equal(raft_counter(s.raft, RAFT_COUNT_TERMS_LED), 1);
    solo_close(&s);
}

// ---------------------------------------------------------------- recovering nodes

static void test_recovering_node_does_not_vote(void **state) {
    struct raft_options options = options_of(1, 3);
    options.recovering = true;
    solo_open(&s, &options);
    solo_pass(&s, 5 * ELECTION);
    assert_true(raft_recovering(s.raft));
    assert_true(raft_hard_state(s.raft).recovering);
    assert_int_equal(solo_sent(&s, WIRE_VOTE, 0), 0); // nor does it campaign
    solo_hear_vote(&s, 2, 4, WIRE_VOTE_PREVOTE, 9, 3);
    solo_hear_vote(&s, 2, 4, 0, 9, 3);
    solo_hard_state(&s);
    for (uint32_t i = 0; i < s.sent_count; i++)
        assert_false(s.sent[i].type == WIRE_VOTE_REPLY && (s.sent[i].flags & WIRE_VOTE_GRANTED));
    solo_close(&s);
}

static void test_recovering_node_votes_after_its_leader_saw_it_catch_up(void **state) {
    struct raft_options options = options_of(1, 3);
    options.recovering = true;
    solo_open(&s, &options);
    static const uint64_t terms[] = {4, 4};
    solo_hear_append(&s, 2, 4, 0, 0, 0, 2, terms);
    solo_hard_state(&s);
    solo_write(&s);
    const struct raft_message *ack = solo_last_sent(&s, WIRE_APPEND_REPLY, 2);
    assert_non_null(ack);
    assert_true(ack->flags & WIRE_APPEND_RECOVERING);
    struct raft_message m = {
        .peer = 2, .type = WIRE_APPEND, .flags = WIRE_APPEND_RECOVERED, .term = 4};
    m.append.prev_index = 2;
    m.append.prev_term = 4;
    m.append.commit = 2;
    m.append.life = ack->append_reply.life + 2;
    assert_true(ack->append_reply.life != 0);
    for (uint32_t i = 0; i < 20; i++) { // it is meant for a former life of this node, however late
        solo_hear(&s, m);
        assert_true(raft_recovering(s.raft));
        s.now_ns += ELECTION / 4;
    }
    m.append.life -= 2;
    solo_hear(&s, m);
    assert_false(raft_recovering(s.raft));
    // To be written: else a restart would bring back what is over, or forget what is not.
    assert_true(s.effects.hard_state_changed);
    assert_false(raft_hard_state(s.raft).recovering);
    solo_hard_state(&s);
    ack = solo_last_sent(&s, WIRE_APPEND_REPLY, 2);
    assert_false(ack->flags & WIRE_APPEND_RECOVERING);
    s.now_ns += ELECTION + MS;
    solo_hear_vote(&s, 3, 5, 0, 2, 4);
    solo_hard_state(&s);
    const struct raft_message *reply = solo_last_sent(&s, WIRE_VOTE_REPLY, 3);
    assert_non_null(reply);
    assert_true(reply->flags & WIRE_VOTE_GRANTED);
    solo_close(&s);
}

// The leader says "recovered" when the peer has all that it had when it first heard of the loss.
static void test_leader_declares_recovered_when_caught_up(void **state) {
    open_three();
    solo_lead(&s);
    solo_propose(&s, 5);
    solo_step(&s); // entries 2 to 6
    solo_write(&s);
    solo_hear_ack(&s, 3, 6); // it had them all, and then lost its log
    uint64_t term = raft_term(s.raft);
    for (uint64_t match = 0; match <= 6; match++) {
        solo_forget(&s);
        solo_hear_reply(&s, 3, term, WIRE_APPEND_RECOVERING, match, match, match,
                        raft_context(s.raft));
        solo_pass(&s, HEARTBEAT + MS);
        solo_hear_ack(&s, 2, raft_last(s.raft));
        assert_true(solo_sent(&s, WIRE_APPEND, 3) > 0);
        for (uint32_t i = 0; i < s.sent_count; i++) {
            if (s.sent[i].type != WIRE_APPEND) continue;
            bool said = s.sent[i].flags & WIRE_APPEND_RECOVERED;
            assert_int_equal(said, s.sent[i].peer == 3 && match == 6);
            assert_int_equal(s.sent[i].append.life, said ? 77 : 0);
        }
    }
    solo_close(&s);
}

// "Recovered" is believed only by a node that has what stands before it: a word that was meant for
// a former life of this node must not let it vote.
static void test_recovered_is_not_believed_ahead_of_the_log(void **state) {
    struct raft_options options = options_of(1, 3);
    options.recovering = true;
    solo_open(&s, &options);
    static const uint64_t terms[] = {4, 4};
    solo_hear_append(&s, 2, 4, 0, 0, 0, 2, terms);
    s.now_ns += 2 * ELECTION;
    solo_hard_state(&s);
    struct raft_message m = {
        .peer = 2, .type = WIRE_APPEND, .flags = WIRE_APPEND_RECOVERED, .term = 4};
    solo_hear_append(&s, 2, 4, 0, 0, 0, 0, NULL); // a heartbeat, which is answered at once
    const struct raft_message *told = solo_last_sent(&s, WIRE_APPEND_REPLY, 2);
    assert_non_null(told);
    assert_true(told->append_reply.life != 0);
    m.append.life = told->append_reply.life;
    m.append.prev_index = 2; // received, but not durable
    m.append.prev_term = 4;
    solo_hear(&s, m);
    assert_true(raft_recovering(s.raft));
    m.append.prev_index = 7; // not here at all
    solo_hear(&s, m);
    assert_true(raft_recovering(s.raft));
    solo_hear_append(&s, 2, 4, 2, 4, 0, 0, NULL); // durable, but not said
    solo_write(&s);
    solo_hear_append(&s, 2, 4, 2, 4, 0, 0, NULL);
    assert_true(raft_recovering(s.raft));
    solo_close(&s);
}

// Its old vote is gone with its log, so a majority of recovering nodes must not elect anybody; and
// the leader that survives brings them back.
static void test_recovering_majority_waits_for_the_one_that_knows(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 1);
    assert_true(cluster_commits(c, 1, 100));
    for (uint16_t id = 2; id <= 3; id++) {
        cluster_crash(c, id);
        c->nodes[id].recovering = true;
    }
    cluster_crash(c, 1);
    cluster_boot(c, 2);
    cluster_boot(c, 3);
    cluster_run(c, 2000);
    assert_int_equal(cluster_leader(c), 0);
    cluster_close(c);
}

static void test_recovering_node_comes_back(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 1);
    assert_true(cluster_commits(c, 1, 100));
    cluster_crash(c, 3);
    assert_true(cluster_commits(c, 1, 100));
    c->nodes[3].recovering = true;
    cluster_boot(c, 3);
    cluster_run(c, 300);
    assert_false(raft_recovering(c->nodes[3].raft));
    assert_int_equal(raft_commit(c->nodes[3].raft), c->committed_last);
    cluster_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time_out_is_between_one_and_two_election_times),
        cmocka_unit_test(test_prevote_persists_nothing),
        cmocka_unit_test(test_prevote_is_refused_while_a_leader_is_heard),
        cmocka_unit_test(test_vote_is_not_heeded_while_a_leader_is_heard),
        cmocka_unit_test(test_vote_reply_waits_for_durable_vote),
        cmocka_unit_test(test_completion_of_an_older_hard_state_frees_no_vote),
        cmocka_unit_test(test_candidate_counts_itself_only_when_durable),
        cmocka_unit_test(test_one_vote_a_term),
        cmocka_unit_test(test_vote_outlives_a_restart),
        cmocka_unit_test(test_vote_only_for_a_log_as_new),
        cmocka_unit_test(test_a_log_vote_counts_what_is_in_memory_too),
        cmocka_unit_test(test_leader_without_a_quorum_steps_down),
        cmocka_unit_test(test_leader_with_a_quorum_stays),
        cmocka_unit_test(test_check_quorum_is_not_fed_by_stale_contexts),
        cmocka_unit_test(test_a_higher_term_ends_leadership),
        cmocka_unit_test(test_single_node_leads_when_its_vote_is_durable),
        cmocka_unit_test(test_recovering_node_does_not_vote),
        cmocka_unit_test(test_recovering_node_votes_after_its_leader_saw_it_catch_up),
        cmocka_unit_test(test_leader_declares_recovered_when_caught_up),
        cmocka_unit_test(test_recovered_is_not_believed_ahead_of_the_log),
        cmocka_unit_test(test_recovering_majority_waits_for_the_one_that_knows),
        cmocka_unit_test(test_recovering_node_comes_back),
    };
    return cmocka_run_group_tests_name("raft_election", tests, NULL, NULL);
}
