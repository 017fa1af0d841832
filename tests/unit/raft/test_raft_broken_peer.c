// What a peer that is broken, or forged, may send: nothing of it may stop a node, or let it commit
// what is not on a majority's disks.
#include "harness.h"

static struct solo s;

static void open_three(void) {
    struct raft_options options = options_of(1, 3);
    solo_open(&s, &options);
}

// The predecessor lies below the commit index, so its term is not compared: the entries' own terms
// must still not fall along the log.
static void test_entries_of_a_falling_term_are_not_stored(void **state) {
    static const uint64_t terms[] = {5, 5, 5}, older[] = {1, 1};
    open_three();
    solo_hear_append(&s, 2, 5, 0, 0, 3, 3, terms);
    solo_hard_state(&s);
    solo_write(&s);
    assert_int_equal(raft_commit(s.raft), 3);
    solo_hear_append(&s, 2, 5, 3, 0, 3, 2, older);
    assert_int_equal(raft_last(s.raft), 3);
    solo_hear_append(&s, 2, 5, 1, 0, 3, 2, older); // and what is committed stays what it is
    assert_int_equal(raft_term_at(s.raft, 2), 5);
    solo_close(&s);
}

// A term from which no election could follow would end the cluster for good.
static void test_terms_at_the_end_of_the_numbers_are_refused(void **state) {
    open_three();
    for (uint16_t type = WIRE_VOTE; type <= WIRE_SNAPSHOT_REPLY; type++)
        for (uint32_t flags = 0; flags <= 1; flags++)
            solo_hear(&s, (struct raft_message){
                              .peer = 2, .type = type, .flags = flags, .term = UINT64_MAX});
    assert_int_equal(raft_term(s.raft), 0);
    solo_pass(&s, 5 * ELECTION);
    solo_lead(&s);
    solo_close(&s);
}

// Any bytes in any field: nothing is committed that was not, and nothing aborts.
static void test_noise_from_a_peer_stops_nothing(void **state) {
    static const uint64_t numbers[] = {0,         1, 2, 3, 4, 5, 255, UINT32_MAX, UINT64_MAX - 1,
                                       UINT64_MAX};
    uint64_t random = 88172645463325252ull;
    for (uint32_t life = 0; life < 300; life++) {
        struct raft_options options = options_of(1, 3);
        options.recovering = life % 5 == 0;
        solo_open(&s, &options);
        if (!options.recovering && life % 2) solo_lead(&s);
        for (uint32_t i = 0; i < 100; i++) {
            static struct raft_entry entries[4];
            uint64_t draws[10];
            for (uint32_t k = 0; k < 10; k++) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                draws[k] = random;
            }
            struct raft_message m = {.peer = (uint16_t)(2 + draws[0] % 2),
                                     .type = (uint16_t)(1 + draws[1] % 6),
                                     .flags = draws[2] % 4,
                                     .term = raft_term(s.raft) + draws[3] % 3};
            uint64_t *fields = &m.vote.last_index; // all members begin with 64-bit fields
            for (uint32_t k = 0; k < 4; k++) fields[k] = numbers[draws[4 + k] % 10];
            if (m.type == WIRE_APPEND) {
                m.append.count = (uint32_t)(draws[8] % 4);
                for (uint32_t k = 0; k < 4; k++)
                    entries[k] = (struct raft_entry){.term = numbers[(draws[9] >> (8 * k)) % 5],
                                                     .data = "12345678",
                                                     .length = 8,
                                                     .type = RAFT_ENTRY_COMMAND};
                m.append.entries = entries;
            }
            uint64_t commit = raft_commit(s.raft);
            solo_hear(&s, m);
            assert_true(raft_commit(s.raft) >= commit && raft_commit(s.raft) <= raft_last(s.raft));
            if (draws[0] % 7 == 0) solo_hard_state(&s);
            if (draws[1] % 5 == 0) solo_write(&s);
            if (draws[2] % 9 == 0) solo_pass(&s, ELECTION / 2);
            solo_forget(&s);
        }
        solo_close(&s);
    }
}

// Options that would leave a core without room, peers or time are refused before it exists.
static void test_options_out_of_range_are_refused(void **state) {
    static _Alignas(64) uint8_t memory[1u << 18];
    const struct raft_options good = options_of(1, 3);
    struct raft_options bad[11];
    for (uint32_t i = 0; i < 11; i++) bad[i] = good;
    bad[0].node_count = 0;
    bad[1].node_count = RAFT_NODES_MAX + 1;
    bad[2].nodes[2] = 0;
    bad[3].nodes[2] = 2; // twice
    bad[4].id = 7;       // not a member
    bad[5].log_entries = 192;
    bad[6].log_bytes = 0;
    bad[7].log_entries = 64;
    bad[8].heartbeat_ns = good.election_ns / 2;
    bad[9].window_entries = 0;
    bad[10].noop_length = RAFT_ENTRY_MAX + 1;
    assert_true(raft_bytes(&good) <= sizeof memory);
    assert_non_null(raft_create(memory, &good));
    for (uint32_t i = 0; i < 11; i++) assert_null(raft_create(memory, &bad[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_of_a_falling_term_are_not_stored),
        cmocka_unit_test(test_terms_at_the_end_of_the_numbers_are_refused),
        cmocka_unit_test(test_options_out_of_range_are_refused),
        cmocka_unit_test(test_noise_from_a_peer_stops_nothing),
    };
    return cmocka_run_group_tests_name("raft_broken_peer", tests, NULL, NULL);
}
