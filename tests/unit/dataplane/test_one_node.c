// What one node may say, and when: to clients, to a leader whose snapshot it takes, to a follower
// it sends one. All others are played by the test.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "disk_memory.h"
#include "one_node.h"

static uint64_t term;

static int open_three(void **state) {
    (void)state;
    one_open(3);
    return 0;
}
static int open_five(void **state) {
    (void)state;
    one_open(5);
    return 0;
}
static int close_node(void **state) {
    (void)state;
    one_close();
    return 0;
}

static const struct raft *raft(void) {
    return node_raft(one_node());
}

static const struct wire_reply *answer(void) {
    return one_newest(ONE_CLIENT, WIRE_REPLY);
}

// As a client, to a leader with a majority that acknowledges. Returns the answer's token.
static uint64_t do_request(const struct wire_request *request, const char *name) {
    one_forget();
    one_request(request, name);
    one_run(3);
    one_ack_all(term);
    one_run(3);
    assert_non_null(answer());
    return answer()->token;
}

static uint64_t open_session(uint64_t nonce) {
    return do_request(
        &(struct wire_request){.op = WIRE_OP_SESSION_OPEN, .sequence = 1, .token = nonce}, NULL);
}

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

// ---------------------------------------------------------------- a snapshot received

static uint8_t stream[1u << 18];
static uint32_t stream_bytes;

// A state at index `index`: the first no-op, then sessions.
static void make_snapshot(uint64_t index) {
    struct machine_limits limits = one_limits();
    void *memory = aligned_alloc(64, machine_bytes(&limits));
    memset(memory, 0, machine_bytes(&limits));
    struct machine *machine = machine_create(memory, &limits);
    struct machine_reply reply;
    machine_apply(machine, 1, 1, 0, RAFT_ENTRY_NOOP, &limits, sizeof limits, &reply);
    for (uint64_t i = 2; i <= index; i++) {
        struct wire_request open = {.head = {.type = WIRE_REQUEST, .length = sizeof open},
                                    .op = WIRE_OP_SESSION_OPEN,
                                    .sequence = 1,
                                    .token = i};
        machine_apply(machine, i, 1, 0, RAFT_ENTRY_COMMAND, &open, sizeof open, &reply);
        assert_int_equal(reply.status, WIRE_OK);
    }
    machine_snapshot_begin(machine);
    uint32_t got;
    for (stream_bytes = 0;
         (got = machine_snapshot_read(machine, stream + stream_bytes, 16384)) > 0;)
        stream_bytes += got;
    machine_snapshot_end(machine);
    free(memory);
}

#define CHUNK 1344u

// One chunk of it from node 2, which leads term 1.
static void send_chunk(uint64_t index, uint64_t offset, uint64_t context) {
    uint32_t bytes = stream_bytes - (uint32_t)offset;
    uint32_t in_block = 65536 - (uint32_t)offset % 65536;
    if (bytes > CHUNK) bytes = CHUNK;
    if (bytes > in_block) bytes = in_block;
    struct wire_snapshot *chunk = one_say(2, WIRE_SNAPSHOT, 0, (uint32_t)sizeof *chunk + bytes);
    chunk->term = 1;
    chunk->last_index = index;
    chunk->last_term = 1;
    chunk->offset = offset;
    chunk->total = stream_bytes;
    chunk->context = context;
    chunk->bytes = bytes;
    memcpy(chunk + 1, stream + offset, bytes);
}

static const struct wire_snapshot_reply *how_far(void) {
    return one_newest(2, WIRE_SNAPSHOT_REPLY);
}

// Sends what the node asks for until it has all but what is from `until` on.
static void send_until(uint64_t index, uint64_t until) {
    for (uint64_t offset = 0; offset < until;) {
        send_chunk(index, offset, 0);
        one_run(4);
        assert_non_null(how_far());
        if (offset + CHUNK >= stream_bytes) return;
        assert_true(how_far()->offset > offset);
        offset = how_far()->offset;
    }
}

static void a_snapshot_is_acknowledged_when_durable(void **state) {
    (void)state;
    make_snapshot(100);
    assert_true(stream_bytes > 65536 + CHUNK);
    send_until(100, stream_bytes - CHUNK);
    uint64_t left = how_far()->offset;
    one_hold_disk(true);
    for (uint32_t i = 0; i < 10; i++) {
        send_chunk(100, left, 0);
        one_run(3);
        if (how_far()->offset != left) left = how_far()->offset;
        assert_true(how_far()->offset < stream_bytes);
    }
    assert_int_equal(machine_applied(node_machine(one_node())), 0);
    one_hold_disk(false);
    one_run(20);
    send_chunk(100, left, 0);
    one_run(3);
    assert_int_equal(how_far()->offset, stream_bytes);
    assert_int_equal(machine_applied(node_machine(one_node())), 100);
}

// A chunk also counts as a heartbeat (conclave_wire.h): its context comes back.
static void a_chunk_is_answered_with_its_context(void **state) {
    (void)state;
    make_snapshot(100);
    send_chunk(100, 0, 4711);
    one_run(3);
    assert_int_equal(how_far()->context, 4711);
}

// It restarted and knows nothing of what it had acknowledged: the leader must not go on from there.
static void a_receiver_that_lost_its_beginning_says_so(void **state) {
    (void)state;
    make_snapshot(100);
    send_chunk(100, 3 * CHUNK, 0);
    one_run(3);
    assert_non_null(how_far());
    assert_int_equal(how_far()->last_index, 100);
    assert_int_equal(how_far()->offset, 0);
}

// Entry `index` of what make_snapshot() applies, from node 2 that leads term 1.
static void append_entry(uint64_t index) {
    struct machine_limits limits = one_limits();
    struct wire_request open = {.head = {.type = WIRE_REQUEST, .length = sizeof open},
                                .op = WIRE_OP_SESSION_OPEN,
                                .sequence = 1,
                                .token = index};
    struct raft_entry entry = {
        .term = 1, .data = &open, .length = sizeof open, .type = RAFT_ENTRY_COMMAND};
    if (index == 1)
        entry = (struct raft_entry){
            .term = 1, .data = &limits, .length = sizeof limits, .type = RAFT_ENTRY_NOOP};
    one_append(2, 1, index - 1, index > 1, 0, &entry);
}

// The snapshot's last chunk and the entries it stands for, and one more, come in the same round. To
// install it now would void that one on the disk, after it has been acknowledged.
static void an_overtaken_snapshot_voids_nothing(void **state) {
    (void)state;
    make_snapshot(3);
    uint64_t offset = 0;
    while (offset + CHUNK < stream_bytes) {
        send_chunk(3, offset, 0);
        one_run(4);
        offset = how_far()->offset;
    }
    send_chunk(3, offset, 0);
    for (uint64_t index = 1; index <= 4; index++) append_entry(index);
    one_run(20);
    one_append(2, 1, 4, 1, 4, NULL);
    one_run(5);
    const struct wire_append_reply *reply = one_newest(2, WIRE_APPEND_REPLY);
    assert_int_equal(reply->match, 4);
    one_restart();
    assert_int_equal(raft_last(raft()), 4);
}

// ---------------------------------------------------------------- a snapshot sent

// Sessions until the node has taken another snapshot. Nodes that vote acknowledge all.
static void until_next_snapshot(void) {
    static uint64_t nonce = 1000;
    struct wire_status status;
    node_status(one_node(), &status);
    uint64_t before = status.snapshot;
    for (uint32_t i = 0; i < 2000 && status.snapshot == before; i++) {
        // Of few clients: the table of sessions is not what this is about.
        one_request(&(struct wire_request){.op = WIRE_OP_SESSION_OPEN,
                                           .sequence = 1,
                                           .token = 1 + nonce++ % 90},
                    NULL);
        one_run(2);
        one_ack_all(term);
        one_run(2);
        if (one_count(3, WIRE_SNAPSHOT) == 0) one_forget();
        node_status(one_node(), &status);
    }
    assert_true(status.snapshot > before);
}

// The newest chunk, after a while in which those who vote answer and node `who` does not.
static const struct wire_snapshot *chunk_to(uint32_t who, uint32_t ms) {
    one_forget();
    for (uint32_t i = 0; i < ms / 5 + 1; i++) {
        one_wait(5);
        if (one_newest(2, WIRE_APPEND) != NULL) one_ack_all(term);
    }
    one_run(3);
    return one_newest(who, WIRE_SNAPSHOT);
}

static void reply_chunk(uint32_t who, uint64_t index, uint64_t offset) {
    struct wire_snapshot_reply *reply = one_say(who, WIRE_SNAPSHOT_REPLY, 0, sizeof *reply);
    reply->term = term;
    reply->last_index = index;
    reply->offset = offset;
}

// Snapshots that find no room are given up and tried again, however often; none of it is lost.
static void failed_snapshots_cost_nothing(void **state) {
    (void)state;
    one_lead(&term);
    for (uint64_t i = 1; i <= 90; i++) open_session(i);
    uint64_t failed = one_counter("node.snapshots_failed");
    disk_memory_set_full(one_disk(), true);
    for (uint64_t i = 91; i <= 112; i++) open_session(i);
    for (uint32_t i = 0; i < 2000 && one_counter("node.snapshots_failed") < failed + 8; i++) {
        one_wait(5);
        if (one_newest(2, WIRE_APPEND) != NULL) one_ack_all(term);
        one_forget();
    }
    assert_true(one_counter("node.snapshots_failed") >= failed + 8);
    disk_memory_set_full(one_disk(), false);
    assert_non_null(chunk_to(3, 1500));
    until_next_snapshot(); // beside the one being sent
}

// The leader whose snapshot was being received is gone: nobody goes on with it, and while it was
// waited for, the node took none of its own, however full its log.
static void half_a_snapshot_holds_up_none(void **state) {
    (void)state;
    make_snapshot(100);
    send_chunk(100, 0, 0);
    one_run(10);
    assert_int_equal(how_far()->offset, CHUNK);
    one_lead(&term);
    until_next_snapshot();
}

#define FILE_SNAPSHOT 37u // the store's number of snapshot-a; snapshot-b is the next

// Its snapshot has rotted, and its log is far from full: a new one is taken for those who need one.
static void a_rotten_snapshot_is_replaced(void **state) {
    (void)state;
    one_lead(&term);
    until_next_snapshot();
    for (uint32_t i = 0; i < 2; i++)
        disk_memory_file(one_disk(), FILE_SNAPSHOT + i, 2 * STORE_BLOCK)[STORE_BLOCK + 10] ^= 1;
    // Until it is given up, and begun anew from the disk; resending goes on from what was read.
    (void)chunk_to(3, 6000);
    assert_non_null(chunk_to(3, 1000));
}

static void a_replaced_snapshot_is_not_sent_on(void **state) {
    (void)state;
    one_lead(&term);
    until_next_snapshot();
    const struct wire_snapshot *chunk = chunk_to(3, 30);
    assert_non_null(chunk);
    uint64_t old = chunk->last_index;
    until_next_snapshot();
    chunk = chunk_to(3, 30);
    assert_non_null(chunk);
    assert_true(chunk->last_index > old);
    assert_int_equal(chunk->offset / 65536, 0);
}

static void a_sender_starts_over_when_told(void **state) {
    (void)state;
    one_lead(&term);
    until_next_snapshot();
    const struct wire_snapshot *chunk = chunk_to(3, 30);
    assert_non_null(chunk);
    uint64_t index = chunk->last_index;
    for (uint64_t have = CHUNK; have <= 8 * CHUNK; have += CHUNK) {
        reply_chunk(3, index, have);
        one_run(2);
    }
    one_forget();
    reply_chunk(3, index, 0); // it crashed, and began anew
    one_run(6);
    chunk = one_newest(3, WIRE_SNAPSHOT);
    assert_non_null(chunk);
    assert_true(chunk->offset < 8 * CHUNK || one_count(3, WIRE_SNAPSHOT) >= 16);
    chunk = chunk_to(3, 30);
    assert_non_null(chunk);
    assert_true(chunk->offset < 16 * CHUNK);
    assert_int_equal(chunk->last_index, index);
}

// It began anew and has come some way already, by chunks of long ago that the network brought once
// more: so it never says "nothing yet". Once or twice that is an echo of earlier; said again and
// again to what is sent now, it is so.
static void a_sender_believes_what_it_is_told_again_and_again(void **state) {
    (void)state;
    one_lead(&term);
    until_next_snapshot();
    const struct wire_snapshot *chunk = chunk_to(3, 30);
    assert_non_null(chunk);
    uint64_t index = chunk->last_index;
    for (uint64_t have = CHUNK; have <= 8 * CHUNK; have += CHUNK) {
        reply_chunk(3, index, have);
        one_run(2);
    }
    one_forget();
    reply_chunk(3, index, 2 * CHUNK);
    one_run(2);
    reply_chunk(3, index, 3 * CHUNK);
    one_run(4);
    chunk = one_newest(3, WIRE_SNAPSHOT);
    assert_true(chunk == NULL || chunk->offset >= 8 * CHUNK); // overtaken, as far as it can know
    one_forget();
    for (uint32_t i = 0; i < 12 && one_count(3, WIRE_SNAPSHOT) == 0; i++) {
        reply_chunk(3, index, 2 * CHUNK);
        one_run(2); // far too short for a stall to be noticed
    }
    assert_true(one_count(3, WIRE_SNAPSHOT) >= 6); // all from there on, again
    assert_int_equal(((const struct wire_snapshot *)one_newest(3, WIRE_SNAPSHOT))->last_index,
                     index);
}

// Of five nodes 4 is dead and 5 is behind: the dead one does not keep the other waiting for long.
static void the_dead_do_not_keep_others_waiting(void **state) {
    (void)state;
    one_lead(&term);
    until_next_snapshot();
    assert_non_null(chunk_to(4, 30));
    assert_non_null(chunk_to(5, 1000));
}

int main(void) {
#define THREE(name) cmocka_unit_test_setup_teardown(name, open_three, close_node)
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
        THREE(a_snapshot_is_acknowledged_when_durable),
        THREE(a_chunk_is_answered_with_its_context),
        THREE(a_receiver_that_lost_its_beginning_says_so),
        THREE(an_overtaken_snapshot_voids_nothing),
        THREE(failed_snapshots_cost_nothing),
        THREE(half_a_snapshot_holds_up_none),
        THREE(a_rotten_snapshot_is_replaced),
        THREE(a_replaced_snapshot_is_not_sent_on),
        THREE(a_sender_believes_what_it_is_told_again_and_again),
        THREE(the_next_waiter_is_told),
        THREE(a_sender_starts_over_when_told),
        THREE(a_write_under_way_does_not_count),
        cmocka_unit_test_setup_teardown(the_dead_do_not_keep_others_waiting, open_five, close_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
