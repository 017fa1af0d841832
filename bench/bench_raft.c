// The leader's work for one batch of proposals, from their arrival to their commit: one step that
// appends them and makes the messages to two followers, and one that takes the followers' acks and
// the own disk's. Through raft.h only; the followers are played here and always agree.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "raft/raft.h"

#define MS            1000000ull
#define COMMAND_BYTES 64u
#define LOG_ENTRIES   65536u

struct leader {
    struct raft *raft;
    uint64_t now_ns;
    uint32_t batch;
    uint32_t event_count;
    struct raft_event events[RAFT_EVENTS_MAX];
    struct raft_effects effects;
    uint8_t command[COMMAND_BYTES];
};

static const uint64_t noop = 1;

static struct raft_event *add(struct leader *l, enum raft_event_type type) {
    assert(l->event_count < RAFT_EVENTS_MAX);
    struct raft_event *event = &l->events[l->event_count++];
    memset(event, 0, sizeof *event);
    event->type = type;
    return event;
}

static void step(struct leader *l) {
    l->now_ns += 1000;
    uint32_t count = l->event_count;
    l->event_count = 0;
    raft_step(l->raft, l->now_ns, l->events, count, &l->effects);
}

// What followers with the same log and a quick disk answer.
static void answer(struct leader *l) {
    for (uint32_t i = 0; i < l->effects.message_count; i++) {
        const struct raft_message *m = &l->effects.messages[i];
        struct raft_message *reply = &add(l, RAFT_EVENT_MESSAGE)->message;
        reply->peer = m->peer;
        reply->term = m->term;
        if (m->type == WIRE_VOTE) {
            reply->type = WIRE_VOTE_REPLY;
            reply->flags = m->flags | WIRE_VOTE_GRANTED;
            continue;
        }
        assert(m->type == WIRE_APPEND);
        reply->type = WIRE_APPEND_REPLY;
        reply->append_reply.match = m->append.prev_index + m->append.count;
        reply->append_reply.hint = reply->append_reply.match;
        reply->append_reply.prev = m->append.prev_index;
        reply->append_reply.context = m->append.context;
    }
}

// The own disk, as quick.
static void persist(struct leader *l) {
    if (l->effects.hard_state_changed)
        add(l, RAFT_EVENT_HARD_STATE_DURABLE)->hard_state.sequence =
            raft_hard_state(l->raft).sequence;
    uint64_t first, epoch;
    if (raft_unpersisted(l->raft, &first, &epoch) == 0) return;
    uint64_t last = raft_last(l->raft);
    struct raft_event *event = add(l, RAFT_EVENT_DURABLE);
    event->durable.index = last;
    event->durable.term = raft_term_at(l->raft, last);
    event->durable.epoch = epoch;
    raft_persist_begun(l->raft, last);
}

static void *setup(uint64_t batch) {
    struct raft_options options = {.id = 1,
                                   .node_count = 3,
                                   .nodes = {1, 2, 3},
                                   .election_ns = 150 * MS,
                                   .heartbeat_ns = 30 * MS,
                                   .log_entries = LOG_ENTRIES,
                                   .log_bytes = 16u << 20,
                                   .window_entries = 4096,
                                   .seed = 1,
                                   .noop = &noop,
                                   .noop_length = sizeof noop};
    size_t bytes = (sizeof(struct leader) + 63) & ~(size_t)63;
    struct leader *l = aligned_alloc(64, (bytes + raft_bytes(&options) + 63) & ~(size_t)63);
    if (l == NULL) return NULL;
    memset(l, 0, bytes);
    l->batch = (uint32_t)batch;
    l->now_ns = 1;
    l->raft = raft_create((uint8_t *)l + bytes, &options);
    assert(l->raft != NULL);
    raft_start(l->raft, l->now_ns);
    l->now_ns += 400 * MS; // nobody leads: it is elected
    for (uint32_t i = 0; i < 100 && !raft_leader_ready(l->raft); i++) {
        step(l);
        answer(l);
        persist(l);
    }
    if (raft_leader_ready(l->raft)) return l;
    fprintf(stderr, "raft: the node did not become leader\n");
    free(l);
    return NULL;
}

static void run(void *context, uint64_t iterations) {
    struct leader *l = context;
    for (uint64_t i = 0; i < iterations; i++) {
        for (uint32_t k = 0; k < l->batch; k++) {
            struct raft_event *event = add(l, RAFT_EVENT_PROPOSE);
            event->propose.data = l->command;
            event->propose.length = COMMAND_BYTES;
        }
        step(l);
        assert(l->effects.proposed == l->batch);
        answer(l);
        persist(l);
        step(l);
        assert(raft_commit(l->raft) == raft_last(l->raft));
        if (raft_last(l->raft) - raft_first(l->raft) > LOG_ENTRIES / 2)
            add(l, RAFT_EVENT_COMPACT)->snapshot.index = raft_commit(l->raft);
    }
}

void bench_raft(void) {
    static const struct bench leader = {.name = "raft/leader_commit",
                                        .setup = setup,
                                        .run = run,
                                        .argument_count = 2,
                                        .arguments = {1, 32}};
    bench_register(&leader);
}
