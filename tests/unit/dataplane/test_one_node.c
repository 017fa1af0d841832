// What one node may say, and when. All others are played by the test. Snapshots have a file of
// their own.
#include "one_fixture.h"

// ---------------------------------------------------------------- answers to clients

static void an_answer_waits_for_commit(void **state) {
    (void)state;
    one_lead(&term);
    one_forget();
    one_request(&(struct wire_request){.op = WIRE_OP_SESSION_OPEN, .sequence = 1, .token = 5},
                NULL);
    one_run(10); // durable here, and nowhere else
    assert_int_equal(raft_durable(raft()), raft_last(raft()));
    assert_null(answer());
    one_ack(2, term, raft_last(raft()));
    one_run(3);
    assert_non_null(answer());
    assert_int_equal(answer()->status, WIRE_OK);
    assert_int_equal(answer()->index, raft_last(raft()));
}

// The leader counts its own log only as far as it is on its disk.
static void a_write_under_way_does_not_count(void **state) {
    (void)state;
    one_lead(&term);
    one_forget();
    one_hold_disk(true);
    one_request(&(struct wire_request){.op = WIRE_OP_SESSION_OPEN, .sequence = 1, .token = 5},
                NULL);
    one_run(3);
    one_ack(2, term, raft_last(raft()));
    one_run(3);
    assert_null(answer());
    one_hold_disk(false);
    one_run(6);
    assert_non_null(answer());
}

static void a_vote_waits_for_the_disk(void **state) {
    (void)state;
    one_hold_disk(true);
    struct wire_vote *vote = one_say(2, WIRE_VOTE, 0, sizeof *vote);
    vote->term = 1;
    one_run(5);
    assert_int_equal(one_count(2, WIRE_VOTE_REPLY), 0);
    one_hold_disk(false);
    one_run(5);
    const struct wire_vote_reply *reply = one_newest(2, WIRE_VOTE_REPLY);
    assert_non_null(reply);
    assert_int_equal(reply->head.flags, WIRE_VOTE_GRANTED);
}

// Node 2 takes over at `term` + 1 with an entry in the place of the newest one here.
static void be_replaced(const void *data, uint16_t length, uint8_t type) {
    uint64_t prev = raft_last(raft()) - 1, prev_term = raft_term_at(raft(), prev);
    struct raft_entry entry = {
        .term = term + 1, .time_ns = 10000 * ONE_MS, .data = data, .length = length, .type = type};
    one_append(2, term + 1, prev, prev_term, prev + 1, &entry);
    one_run(6);
    assert_int_equal(raft_role(raft()), WIRE_ROLE_FOLLOWER);
    assert_int_equal(machine_applied(node_machine(one_node())), prev + 1);
}

static void an_entry_of_another_term_answers_nobody(void **state) {
    (void)state;
    one_lead(&term);
    one_forget();
    one_request(&(struct wire_request){.op = WIRE_OP_SESSION_OPEN, .sequence = 1, .token = 5},
                NULL);
    one_run(3);
    struct machine_limits limits = one_limits();
    be_replaced(&limits, sizeof limits, RAFT_ENTRY_NOOP);
    assert_null(answer());
}

// One who holds "a" and one who waits for it, under leases of their own.
struct pair {
    uint64_t session, token, claim;
};

static struct pair holder_and_waiter(void) {
    struct pair pair = {.session = open_session(5)};
    struct wire_request grant = {
        .op = WIRE_OP_LEASE_GRANT, .session = pair.session, .sequence = 1, .amount = 60000};
    uint64_t first = do_request(&grant, NULL);
    grant.sequence = 2;
    uint64_t second = do_request(&grant, NULL);
    struct wire_request acquire = {.op = WIRE_OP_LOCK_ACQUIRE,
                                   .session = pair.session,
                                   .sequence = 3,
                                   .lease = first,
                                   .amount = WIRE_WAIT_FOREVER};
    pair.token = do_request(&acquire, "a");
    assert_int_equal(answer()->status, WIRE_OK);
    acquire.sequence = 4;
    acquire.lease = second;
    pair.claim = do_request(&acquire, "a");
    assert_int_equal(answer()->status, WIRE_QUEUED);
    return pair;
}

static void the_next_waiter_is_told(void **state) {
    (void)state;
    one_lead(&term);
    struct pair pair = holder_and_waiter();
    do_request(&(struct wire_request){.op = WIRE_OP_LOCK_RELEASE,
                                      .session = pair.session,
                                      .sequence = 5,
                                      .token = pair.token},
               "a");
    assert_int_equal(one_count(ONE_CLIENT, WIRE_EVENT), 1);
    const struct wire_event *event = one_newest(ONE_CLIENT, WIRE_EVENT);
    assert_int_equal(event->claim, pair.claim);
    assert_int_equal(event->status, WIRE_OK);
    assert_int_equal(event->token, raft_last(raft()));
}

static void only_a_leader_tells_waiters(void **state) {
    (void)state;
    one_lead(&term);
    struct pair pair = holder_and_waiter();
    // An entry to be replaced by the release.
    one_request(&(struct wire_request){.op = WIRE_OP_SESSION_OPEN, .sequence = 1, .token = 6},
                NULL);
    one_run(3);
    struct {
        struct wire_request request;
        char name[8];
    } release = {.request = {.head = {.type = WIRE_REQUEST, .length = sizeof release},
                             .op = WIRE_OP_LOCK_RELEASE,
                             .session = pair.session,
                             .sequence = 5,
                             .name_length = 1,
                             .token = pair.token},
                 .name = "a"};
    one_forget();
    be_replaced(&release, sizeof release, RAFT_ENTRY_COMMAND);
    assert_int_equal(machine_sizes(node_machine(one_node())).claims, 1); // the waiter holds it now
    assert_int_equal(one_count(ONE_CLIENT, WIRE_EVENT), 0);
}

static void a_read_waits_for_a_majority(void **state) {
    (void)state;
    one_lead(&term);
    one_forget();
    one_request(&(struct wire_request){.op = WIRE_OP_LOCK_HOLDERS, .sequence = 77}, "a");
    one_run(5);
    assert_null(answer());
    one_ack(2, term, raft_last(raft()));
    one_run(3);
    assert_non_null(answer());
    assert_int_equal(answer()->sequence, 77);
}

static void reads_of_a_deposed_leader_are_refused_in_order(void **state) {
    (void)state;
    one_lead(&term);
    for (uint32_t round = 0; round < 3; round++) {
        one_forget();
        for (uint64_t i = 1; i <= 5; i++)
            one_request(&(struct wire_request){.op = WIRE_OP_LOCK_HOLDERS, .sequence = i}, "a");
        one_run(3);
        assert_null(answer());
        one_append(2, ++term, 0, 0, 0, NULL);
        one_run(3);
        assert_int_equal(one_count(ONE_CLIENT, WIRE_REPLY), 5);
        assert_int_equal(answer()->status, WIRE_NOT_LEADER);
        one_lead(&term);
        one_forget();
        one_request(&(struct wire_request){.op = WIRE_OP_LOCK_HOLDERS, .sequence = 99}, "a");
        one_run(3);
        one_ack_all(term);
        one_run(3);
        assert_int_equal(one_count(ONE_CLIENT, WIRE_REPLY), 1);
        assert_int_equal(answer()->sequence, 99);
        assert_int_equal(answer()->status, WIRE_OK);
    }
}

// With a log that fills, entries are applied only when they are on the own disk, whoever else has
// them; reads that need them wait, and so do snapshots.
static void a_read_waits_until_its_index_is_applied(void **state) {
    (void)state;
    one_lead(&term);
    one_hold_disk(true);
    uint64_t durable = raft_durable(raft());
    for (uint64_t i = 0; i < 110; i++)
        one_request(
            &(struct wire_request){.op = WIRE_OP_SESSION_OPEN, .sequence = 1, .token = 1 + i},
            NULL);
    for (uint32_t i = 0; i < 8; i++) {
        one_run(3);
        one_ack(2, term, raft_last(raft()));
        one_ack(3, term, raft_last(raft()));
    }
    one_run(3);
    assert_true(raft_commit(raft()) > durable + 100);
    assert_int_equal(machine_applied(node_machine(one_node())), durable);
    one_forget();
    one_request(&(struct wire_request){.op = WIRE_OP_LOCK_HOLDERS, .sequence = 77}, "a");
    one_run(3);
    one_ack(2, term, raft_last(raft()));
    one_run(3);
    assert_null(answer());
    one_hold_disk(false);
    one_run(20);
    assert_non_null(answer());
    assert_int_equal(answer()->sequence, 77);
    assert_true(answer()->index > durable + 100);
}

// A failed log write is never taken for a good one: the node stops, and says why.
static void a_failed_log_write_stops_the_node(void **state) {
    (void)state;
    one_lead(&term);
    one_hold_disk(true);
    one_may_fail();
    uint64_t durable = raft_durable(raft());
    one_request(&(struct wire_request){.op = WIRE_OP_SESSION_OPEN, .sequence = 1, .token = 5},
                NULL);
    one_run(3);
    disk_memory_fail(one_disk(), 0, -EIO);
    one_run(5);
    assert_int_equal(raft_durable(raft()), durable);
    assert_non_null(node_failure(one_node()));
}

// More frames than there are packets, one after another and in bursts: none may get lost inside.
static void every_packet_comes_back(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 1200; i++) {
        one_forget();
        for (uint32_t k = 0; k < 40; k++) {
            one_request(&(struct wire_request){.op = WIRE_OP_STATUS, .sequence = k}, NULL);
            one_run(0); // in a frame of its own
        }
        one_run(4);
        assert_int_equal(one_count(ONE_CLIENT, WIRE_REPLY), 40);
        assert_int_equal(one_counter("frame.rx_shed_client"), 0); // none was answered busy
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        THREE(an_answer_waits_for_commit),
        THREE(a_vote_waits_for_the_disk),
        THREE(an_entry_of_another_term_answers_nobody),
        THREE(only_a_leader_tells_waiters),
        THREE(a_read_waits_for_a_majority),
        THREE(reads_of_a_deposed_leader_are_refused_in_order),
        THREE(a_read_waits_until_its_index_is_applied),
        THREE(a_failed_log_write_stops_the_node),
        THREE(every_packet_comes_back),
        THREE(the_next_waiter_is_told),
        THREE(a_write_under_way_does_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
