// Snapshots between one node and others, which the test plays: to a leader whose snapshot it takes,
// to a follower it sends one.
#include "one_fixture.h"

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
    const struct CMUnitTest tests[] = {
        THREE(a_snapshot_is_acknowledged_when_durable),
        THREE(a_chunk_is_answered_with_its_context),
        THREE(a_receiver_that_lost_its_beginning_says_so),
        THREE(an_overtaken_snapshot_voids_nothing),
        THREE(failed_snapshots_cost_nothing),
        THREE(half_a_snapshot_holds_up_none),
        THREE(a_rotten_snapshot_is_replaced),
        THREE(a_replaced_snapshot_is_not_sent_on),
        THREE(a_sender_believes_what_it_is_told_again_and_again),
        THREE(a_sender_starts_over_when_told),
        FIVE(the_dead_do_not_keep_others_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
