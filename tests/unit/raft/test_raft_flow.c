// The flow of entries: windows, batches, heartbeats, proposals refused, and the log as a ring.
#include "harness.h"

static struct solo s;

static void open_three(void) {
    struct raft_options options = options_of(1, 3);
    solo_open(&s, &options);
}

static uint64_t highest_sent(uint16_t peer) {
    uint64_t highest = 0;
    for (uint32_t i = 0; i < s.sent_count; i++) {
        const struct raft_message *m = &s.sent[i];
        if (m->type != WIRE_APPEND || m->peer != peer) continue;
        if (m->append.prev_index + m->append.count > highest)
            highest = m->append.prev_index + m->append.count;
    }
    return highest;
}

static void test_window_is_filled_and_not_exceeded(void **state) {
    open_three();
    solo_lead(&s);
    for (uint32_t i = 0; i < 4 * WINDOW; i++) { // one a step: no ack in between
        solo_propose(&s, 1);
        solo_step(&s);
    }
    assert_int_equal(raft_last(s.raft), 1 + 4 * WINDOW);
    assert_int_equal(highest_sent(2), 1 + WINDOW); // pipelined up to the window
    assert_int_equal(highest_sent(3), 1 + WINDOW);
    solo_hear_ack(&s, 2, 1 + WINDOW / 2); // windows are each peer's own
    assert_int_equal(highest_sent(2), 1 + WINDOW + WINDOW / 2);
    assert_int_equal(highest_sent(3), 1 + WINDOW);
    solo_close(&s);
}

// Received but not yet durable opens no window: it bounds what an ack may still be owed for.
static void test_each_entry_is_sent_once_while_acks_come(void **state) {
    open_three();
    solo_lead(&s);
    uint32_t entries = 0;
    for (uint32_t i = 0; i < 50; i++) {
        solo_propose(&s, 2);
        solo_step(&s);
        solo_write(&s);
        solo_hear_ack(&s, 2, raft_last(s.raft));
        solo_hear_ack(&s, 3, raft_last(s.raft));
    }
    for (uint32_t i = 0; i < s.sent_count; i++)
        if (s.sent[i].type == WIRE_APPEND && s.sent[i].peer == 2) entries += s.sent[i].append.count;
    assert_int_equal(entries, 100);
    assert_int_equal(raft_commit(s.raft), 101);
    solo_close(&s);
}

// What gathered in one step travels together.
static void test_proposals_of_one_step_are_one_append(void **state) {
    open_three();
    solo_lead(&s);
    solo_propose(&s, 10);
    solo_step(&s);
    assert_int_equal(s.effects.proposed, 10);
    assert_int_equal(s.effects.proposed_first, 2);
    assert_int_equal(solo_sent(&s, WIRE_APPEND, 2), 1);
    assert_int_equal(solo_last_sent(&s, WIRE_APPEND, 2)->append.count, 10);
    solo_close(&s);
}

// An append must fit its frame: entries with headers, padded.
static void test_an_append_fits_its_frame(void **state) {
    static const uint8_t body[RAFT_ENTRY_MAX];
    static const uint16_t lengths[] = {1, 9, 300, 700, RAFT_ENTRY_MAX, 700, 630, 660, 664};
    open_three();
    solo_lead(&s);
    for (uint32_t i = 0; i < 9; i++)
        solo_event(&s,
                   (struct raft_event){.type = RAFT_EVENT_PROPOSE, .propose = {body, lengths[i]}});
    solo_step(&s);
    assert_int_equal(s.effects.proposed, 9);
    uint64_t next = 2;
    for (uint32_t i = 0; i < s.sent_count; i++) {
        const struct raft_message *m = &s.sent[i];
        if (m->type != WIRE_APPEND || m->peer != 2 || m->append.count == 0) continue;
        assert_int_equal(m->append.prev_index, next - 1);
        uint32_t bytes = 0;
        for (uint32_t k = 0; k < m->append.count; k++, next++) {
            assert_int_equal(raft_entry_at(s.raft, next).length, lengths[next - 2]);
            bytes += sizeof(struct wire_entry) + ((lengths[next - 2] + 7u) & ~7u);
        }
        assert_true(bytes <= WIRE_APPEND_ENTRY_BYTES);
    }
    assert_int_equal(next, 11); // all left at once
    solo_close(&s);
}

static void test_oversized_proposal_is_refused(void **state) {
    static const uint8_t body[RAFT_ENTRY_MAX + 1];
    open_three();
    solo_lead(&s);
    solo_event(
        &s, (struct raft_event){.type = RAFT_EVENT_PROPOSE, .propose = {body, RAFT_ENTRY_MAX + 1}});
    solo_step(&s);
    assert_int_equal(s.effects.proposed, 0);
    assert_int_equal(raft_last(s.raft), 1);
    solo_close(&s);
}

// Sent before the local write: the disk is not in the way of replication, nor of heartbeats.
static void test_heartbeats_while_the_disk_never_completes(void **state) {
    open_three();
    solo_lead(&s);
    solo_propose(&s, 3);
    solo_step(&s);
    assert_int_equal(highest_sent(2), 4); // before the write has even begun
    solo_write_begin(&s);
    solo_forget(&s);
    uint64_t start = s.now_ns, last[4] = {0, 0, start, start};
    while (s.now_ns < start + ELECTION / 2) {
        solo_pass(&s, MS);
        solo_hear_reply(&s, 2, raft_term(s.raft), 0, 1, 4, 1, raft_context(s.raft));
        solo_hear_reply(&s, 3, raft_term(s.raft), 0, 1, 4, 1, raft_context(s.raft));
        for (uint32_t i = 0; i < s.sent_count; i++)
            if (s.sent[i].type == WIRE_APPEND) last[s.sent[i].peer] = s.now_ns;
        assert_true(s.now_ns - last[2] <= HEARTBEAT + MS);
        assert_true(s.now_ns - last[3] <= HEARTBEAT + MS);
        solo_forget(&s);
    }
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    solo_close(&s);
}

// An append is lost: the next heartbeat names what the peer lacks, and it says so.
static void test_lost_append_is_sent_again(void **state) {
    open_three();
    solo_lead(&s);
    solo_propose(&s, 3);
    solo_step(&s);
    solo_forget(&s);
    solo_pass(&s, HEARTBEAT);
    const struct raft_message *m = solo_last_sent(&s, WIRE_APPEND, 2);
    assert_non_null(m);
    assert_int_equal(m->append.prev_index, 4);
    assert_int_equal(m->append.count, 0);
    uint64_t context = m->append.context;
    solo_forget(&s);
    solo_hear_reply(&s, 2, raft_term(s.raft), WIRE_APPEND_REJECTED, 0, 1, 4, context);
    m = solo_last_sent(&s, WIRE_APPEND, 2); // without waiting for anything
    assert_non_null(m);
    assert_int_equal(m->append.prev_index, 1);
    assert_int_equal(m->append.count, 3);
    assert_int_equal(raft_counter(s.raft, RAFT_COUNT_APPENDS_RESENT), 1);
    // The same rejection again (the packet was doubled) is not answered with another burst.
    solo_forget(&s);
    solo_hear_reply(&s, 2, raft_term(s.raft), WIRE_APPEND_REJECTED, 0, 1, 4, context);
    assert_int_equal(solo_sent(&s, WIRE_APPEND, 2), 0);
    solo_close(&s);
}

static void test_rejection_finds_the_common_point(void **state) {
    struct raft_options options = options_of(1, 3);
    solo_create(&s, &options);
    raft_restore_hard_state(s.raft, 5, 0);
    for (uint64_t i = 1; i <= 100; i++) {
        struct raft_entry entry = {.term = 1 + i / 40, .data = "12345678", .length = 8, .type = 2};
        assert_true(raft_restore_entry(s.raft, i, &entry));
    }
    solo_start(&s);
    solo_elect(&s);
    uint32_t rounds = 0;
    uint64_t have = 50; // the peer's log ends here
    for (; rounds < 10; rounds++) {
        const struct raft_message *m = solo_last_sent(&s, WIRE_APPEND, 2);
        assert_non_null(m);
        if (m->append.prev_index <= have && m->append.count > 0) break;
        uint64_t prev = m->append.prev_index;
        if (prev <= have) // a probe that fits
            solo_hear_reply(&s, 2, raft_term(s.raft), 0, prev, prev, prev, m->append.context);
        else
            solo_hear_reply(&s, 2, raft_term(s.raft), WIRE_APPEND_REJECTED, 0, have, prev,
                            m->append.context);
    }
    assert_true(rounds < 4);
    assert_true(raft_counter(s.raft, RAFT_COUNT_APPENDS_RESENT) >= 1);
    solo_close(&s);
}

// ---------------------------------------------------------------- proposals and the ring

static void test_proposals_are_refused_when_not_leader(void **state) {
    open_three();
    solo_propose(&s, 3);
    solo_step(&s);
    assert_int_equal(s.effects.proposed, 0);
    assert_int_equal(raft_last(s.raft), 0);
    assert_int_equal(raft_counter(s.raft, RAFT_COUNT_PROPOSALS_REFUSED), 3);
    assert_false(raft_can_propose(s.raft, 1, 8));
    solo_close(&s);
}

// The election that ends in the same step as a proposal arrives: whichever, the count is true.
static void test_deposed_in_the_same_step(void **state) {
    open_three();
    solo_lead(&s);
    uint64_t term = raft_term(s.raft);
    solo_propose(&s, 2);
    struct raft_entry entry = {
        .term = term + 1, .data = "12345678", .length = 8, .type = RAFT_ENTRY_COMMAND};
    struct raft_message m = {.peer = 3, .type = WIRE_APPEND, .term = term + 1};
    m.append.prev_index = raft_last(s.raft);
    m.append.prev_term = term;
    m.append.count = 1; // takes the place of the first
    m.append.entries = &entry;
    solo_event(&s, (struct raft_event){.type = RAFT_EVENT_MESSAGE, .message = m});
    solo_propose(&s, 2);
    solo_step(&s);
    assert_int_equal(s.effects.proposed, 2);
    assert_int_equal(s.effects.proposed_first, 2);
    assert_int_equal(s.effects.proposed_term, term);
    assert_int_equal(raft_last(s.raft), 2);
    assert_int_equal(raft_term_at(s.raft, 2), term + 1);
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_FOLLOWER);
    // Its appends of that step, if any, can still be read.
    for (uint32_t i = 0; i < s.effects.message_count; i++) {
        const struct raft_message *sent = &s.effects.messages[i];
        if (sent->type != WIRE_APPEND) continue;
        assert_true(sent->append.prev_index + sent->append.count <= raft_last(s.raft));
    }
    solo_close(&s);
}

static void test_full_log_refuses_and_goes_on_after_a_snapshot(void **state) {
    open_three();
    solo_lead(&s);
    uint32_t taken = 0;
    for (;;) {
        solo_propose(&s, 1);
        solo_step(&s);
        if (s.effects.proposed == 0) break;
        taken++;
        solo_write(&s);
        solo_hear_ack(&s, 2, raft_last(s.raft));
        solo_hear_ack(&s, 3, raft_last(s.raft));
        assert_true(taken <= s.options.log_entries);
    }
    assert_in_range(taken, s.options.log_entries / 2, s.options.log_entries);
    assert_true(raft_log_used_percent(s.raft) >= 100 * taken / s.options.log_entries);
    assert_false(raft_can_propose(s.raft, 1, 8));
    assert_true(raft_counter(s.raft, RAFT_COUNT_PROPOSALS_REFUSED) >= 1);
    solo_event(&s, (struct raft_event){.type = RAFT_EVENT_COMPACT, .snapshot.index = 100});
    solo_step(&s);
    assert_true(raft_can_propose(s.raft, 1, 8));
    solo_propose(&s, 1);
    solo_step(&s);
    assert_int_equal(s.effects.proposed, 1);
    assert_int_equal(raft_last(s.raft), taken + 2);
    assert_int_equal(raft_first(s.raft), 101);
    solo_close(&s);
}

// However full, there is room for the no-op of an election: else the cluster could not get the
// leader it needs to become less full.
static void test_a_full_log_still_elects(void **state) {
    open_three();
    solo_lead(&s);
    do {
        solo_propose(&s, 1);
        solo_step(&s);
    } while (s.effects.proposed == 1);
    uint64_t full = raft_last(s.raft);
    for (uint32_t i = 1; i <= 20; i++) {
        uint64_t term = raft_term(s.raft) + 1;
        solo_hear_append(&s, 3, term, 0, 0, 0, 0, NULL);
        solo_hard_state(&s);
        solo_write(&s);
        solo_elect(&s);
        assert_int_equal(raft_last(s.raft), full + i);
        assert_false(raft_can_propose(s.raft, 1, 8));
    }
    solo_close(&s);
}

static void fill(uint8_t *body, uint64_t index, uint16_t length) {
    for (uint16_t i = 0; i < length; i++) body[i] = (uint8_t)(index * 131 + i * 7);
}

static uint16_t length_of(uint64_t index) {
    return (uint16_t)(1 + index * index * 37 % RAFT_ENTRY_MAX);
}

// Many times around both rings, entries of every length, read back whole.
static void test_log_wraps_around(void **state) {
    struct raft_options options = options_of(1, 1);
    options.log_entries = 128;
    options.log_bytes = 8192;
    solo_open(&s, &options);
    solo_pass(&s, 3 * ELECTION);
    solo_hard_state(&s);
    solo_pass(&s, MS);
    assert_int_equal(raft_role(s.raft), WIRE_ROLE_LEADER);
    uint8_t body[RAFT_ENTRY_MAX];
    for (uint64_t index = 2; index < 5000;) {
        fill(body, index, length_of(index));
        bool room = raft_can_propose(s.raft, 1, length_of(index));
        solo_event(&s, (struct raft_event){.type = RAFT_EVENT_PROPOSE,
                                           .propose = {body, length_of(index)}});
        solo_step(&s);
        if (s.effects.proposed == 0) {
            assert_false(room); // what it says can be proposed can be
            solo_event(&s, (struct raft_event){.type = RAFT_EVENT_COMPACT,
                                               .snapshot.index = raft_commit(s.raft) - 2});
            solo_step(&s);
            continue;
        }
        assert_int_equal(raft_last(s.raft), index);
        solo_write(&s);
        assert_int_equal(raft_commit(s.raft), index);
        for (uint64_t i = raft_first(s.raft) < 2 ? 2 : raft_first(s.raft); i <= index; i++) {
            struct raft_entry entry = raft_entry_at(s.raft, i);
            fill(body, i, length_of(i));
            assert_int_equal(entry.length, length_of(i));
            assert_int_equal((uintptr_t)entry.data % 8, 0);
            assert_memory_equal(entry.data, body, entry.length);
        }
        index++;
    }
    solo_close(&s);
}

static void test_follower_without_room_acks_what_it_took(void **state) {
    static uint64_t terms[64];
    open_three();
    for (uint32_t i = 0; i < 64; i++) terms[i] = 1;
    uint64_t last = 0;
    for (uint32_t i = 0; i < 10; i++) {
        solo_hear_append(&s, 2, 1, last, last ? 1 : 0, 0, 64, terms);
        solo_hard_state(&s);
        solo_write(&s);
        last = raft_last(s.raft);
    }
    assert_true(last <= s.options.log_entries);
    assert_true(raft_counter(s.raft, RAFT_COUNT_LOG_FULL) >= 1);
    assert_true(solo_last_sent(&s, WIRE_APPEND_REPLY, 2)->append_reply.match <= last);
    assert_true(solo_last_sent(&s, WIRE_APPEND_REPLY, 2)->append_reply.hint <= last);
    solo_close(&s);
}

// Nine hundred commands, nine at a time.
static void test_small_cluster_carries_load(void **state) {
    struct cluster *c = cluster_open(3);
    cluster_make_leader(c, 2);
    for (uint32_t i = 0; i < 100; i++) {
        c->nodes[2].proposals = 9;
        cluster_run(c, 2);
    }
    cluster_run(c, 100);
    assert_int_equal(c->nodes[2].refused, 0);
    for (uint16_t id = 1; id <= 3; id++) assert_int_equal(c->nodes[id].applied, 901);
    cluster_close(c);
}

// Leaders change and each replaces the tail: the room of what is truncated is given back.
static void test_truncated_entries_give_back_their_room(void **state) {
    static const uint8_t body[RAFT_ENTRY_MAX];
    open_three();
    static const uint64_t first[] = {1};
    solo_hear_append(&s, 2, 1, 0, 0, 0, 1, first); // stays, so that the log is never empty
    for (uint64_t term = 2; term <= 200; term++) {
        struct raft_entry entries[4];
        for (uint32_t i = 0; i < 4; i++)
            entries[i] = (struct raft_entry){.term = term,
                                             .data = body,
                                             .length = (uint16_t)(RAFT_ENTRY_MAX - term),
                                             .type = RAFT_ENTRY_COMMAND};
        struct raft_message m = {
            .peer = (uint16_t)(2 + term % 2), .type = WIRE_APPEND, .term = term};
        m.append.prev_index = 1;
        m.append.prev_term = 1;
        m.append.count = 4;
        m.append.entries = entries;
        solo_hear(&s, m);
        solo_hard_state(&s);
        assert_int_equal(raft_last(s.raft), 5);
    }
    assert_int_equal(raft_counter(s.raft, RAFT_COUNT_LOG_FULL), 0);
    assert_int_equal(raft_counter(s.raft, RAFT_COUNT_ENTRIES_TRUNCATED), 198 * 4);
    solo_close(&s);
}

// The entry that replaces a truncated one finds no room. Those before it were being written under
// the older epoch; they must become durable all the same, or the log could never be compacted.
static void test_truncation_in_a_full_log_leaves_nothing_unwritten(void **state) {
    static const uint8_t body[RAFT_ENTRY_MAX];
    struct raft_entry entries[13];
    open_three();
    for (uint32_t i = 0; i < 13; i++)
        entries[i] = (struct raft_entry){
            .term = 1, .data = body, .length = RAFT_ENTRY_MAX, .type = RAFT_ENTRY_COMMAND};
    entries[12].length = 8;
    struct raft_message m = {.peer = 2, .type = WIRE_APPEND, .term = 1};
    m.append.count = 13;
    m.append.entries = entries;
    solo_hear(&s, m);
    assert_int_equal(raft_last(s.raft), 13);
    struct ticket write = solo_write_begin(&s);
    entries[12] = (struct raft_entry){
        .term = 2, .data = body, .length = RAFT_ENTRY_MAX, .type = RAFT_ENTRY_COMMAND};
    m.term = 2;
    m.append.prev_index = 12;
    m.append.prev_term = 1;
    m.append.count = 1;
    m.append.entries = &entries[12];
    solo_hear(&s, m);
    assert_int_equal(raft_last(s.raft), 12);
    assert_int_equal(raft_counter(s.raft, RAFT_COUNT_LOG_FULL), 1);
    solo_write_end(&s, write);
    solo_hard_state(&s);
    solo_write(&s);
    assert_int_equal(raft_durable(s.raft), 12);
    solo_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_is_filled_and_not_exceeded),
        cmocka_unit_test(test_each_entry_is_sent_once_while_acks_come),
        cmocka_unit_test(test_proposals_of_one_step_are_one_append),
        cmocka_unit_test(test_an_append_fits_its_frame),
        cmocka_unit_test(test_oversized_proposal_is_refused),
        cmocka_unit_test(test_heartbeats_while_the_disk_never_completes),
        cmocka_unit_test(test_lost_append_is_sent_again),
        cmocka_unit_test(test_rejection_finds_the_common_point),
        cmocka_unit_test(test_proposals_are_refused_when_not_leader),
        cmocka_unit_test(test_deposed_in_the_same_step),
        cmocka_unit_test(test_full_log_refuses_and_goes_on_after_a_snapshot),
        cmocka_unit_test(test_a_full_log_still_elects),
        cmocka_unit_test(test_log_wraps_around),
        cmocka_unit_test(test_follower_without_room_acks_what_it_took),
        cmocka_unit_test(test_small_cluster_carries_load),
        cmocka_unit_test(test_truncated_entries_give_back_their_room),
        cmocka_unit_test(test_truncation_in_a_full_log_leaves_nothing_unwritten),
    };
    return cmocka_run_group_tests_name("raft_flow", tests, NULL, NULL);
}
