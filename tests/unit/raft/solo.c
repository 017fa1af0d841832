// One Raft core, driven event by event. See harness.h.
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static const uint64_t noop = 0x6e6f6f70;

struct raft_options options_of(uint16_t id, uint16_t node_count) {
    struct raft_options options = {
        .id = id,
        .node_count = node_count,
        .election_ns = ELECTION,
        .heartbeat_ns = HEARTBEAT,
        .log_entries = 256,
        .log_bytes = 16384,
        .window_entries = WINDOW,
        .seed = id,
        .noop = &noop,
        .noop_length = sizeof noop,
    };
    for (uint16_t i = 0; i < node_count; i++) options.nodes[i] = (uint16_t)(i + 1);
    return options;
}

void solo_create(struct solo *s, const struct raft_options *options) {
    memset(s, 0, sizeof *s);
    s->options = *options;
    s->now_ns = 1000 * MS;
    s->memory = aligned_alloc(64, (raft_bytes(options) + 63) & ~63ull);
    s->raft = raft_create(s->memory, options);
    assert_non_null(s->raft);
}

void solo_start(struct solo *s) {
    raft_start(s->raft, s->now_ns);
}

void solo_open(struct solo *s, const struct raft_options *options) {
    solo_create(s, options);
    solo_start(s);
}

void solo_close(struct solo *s) {
    free(s->memory);
    s->memory = NULL;
}

void solo_event(struct solo *s, struct raft_event event) {
    assert_true(s->event_count < RAFT_EVENTS_MAX);
    s->events[s->event_count++] = event;
}

void solo_step(struct solo *s) {
    raft_step(s->raft, s->now_ns, s->events, s->event_count, &s->effects);
    s->event_count = 0;
    const struct raft_effects *e = &s->effects;
    assert_true(e->message_count <= RAFT_MESSAGES_MAX);
    for (uint32_t i = 0; i < e->message_count; i++) {
        assert_true(s->sent_count < SOLO_SENT_MAX);
        s->sent[s->sent_count++] = e->messages[i];
    }
    assert_true(e->read_count <= RAFT_READ_BATCHES);
    for (uint32_t i = 0; i < e->read_count; i++) {
        s->reads_released += e->reads[i].count;
        s->read_index = e->reads[i].index;
    }
    s->reads_aborted += e->reads_aborted;
}

void solo_pass(struct solo *s, uint64_t ns) {
    for (uint64_t end = s->now_ns + ns; s->now_ns < end;) {
        s->now_ns += MS;
        solo_step(s);
    }
}

void solo_forget(struct solo *s) {
    s->sent_count = 0;
    s->reads_released = s->reads_aborted = s->read_index = 0;
}

void solo_propose(struct solo *s, uint32_t count) {
    static const uint64_t body = 7;
    for (uint32_t i = 0; i < count; i++)
        solo_event(s, (struct raft_event){.type = RAFT_EVENT_PROPOSE, .propose = {&body, 8}});
}

void solo_read(struct solo *s, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        solo_event(s, (struct raft_event){.type = RAFT_EVENT_READ});
}

void solo_hear(struct solo *s, struct raft_message message) {
    solo_event(s, (struct raft_event){.type = RAFT_EVENT_MESSAGE, .message = message});
    solo_step(s);
}

void solo_hear_vote(struct solo *s, uint16_t peer, uint64_t term, uint32_t flags,
                    uint64_t last_index, uint64_t last_term) {
    solo_hear(s, (struct raft_message){.peer = peer,
                                       .type = WIRE_VOTE,
                                       .flags = flags,
                                       .term = term,
                                       .vote = {last_index, last_term}});
}

void solo_hear_append(struct solo *s, uint16_t peer, uint64_t term, uint64_t prev,
                      uint64_t prev_term, uint64_t commit, uint32_t count, const uint64_t *terms) {
    static struct raft_entry entries[64];
    static uint64_t bodies[64];
    assert_true(count <= 64);
    for (uint32_t i = 0; i < count; i++) {
        bodies[i] = prev + 1 + i;
        entries[i] = (struct raft_entry){.term = terms[i],
                                         .time_ns = prev + 1 + i,
                                         .data = &bodies[i],
                                         .length = 8,
                                         .type = RAFT_ENTRY_COMMAND};
    }
    struct raft_message m = {.peer = peer, .type = WIRE_APPEND, .term = term};
    m.append.prev_index = prev;
    m.append.prev_term = prev_term;
    m.append.commit = commit;
    m.append.context = 1;
    m.append.count = count;
    m.append.entries = entries;
    solo_hear(s, m);
}

void solo_hear_reply(struct solo *s, uint16_t peer, uint64_t term, uint32_t flags, uint64_t match,
                     uint64_t hint, uint64_t prev, uint64_t context) {
    solo_hear(s, (struct raft_message){.peer = peer,
                                       .type = WIRE_APPEND_REPLY,
                                       .flags = flags,
                                       .term = term,
                                       .append_reply = {match, hint, prev, context,
                                                        flags & WIRE_APPEND_RECOVERING ? 77 : 0}});
}

void solo_hear_ack(struct solo *s, uint16_t peer, uint64_t match) {
    uint64_t prev = match > 0 ? match - 1 : 0;
    solo_hear_reply(s, peer, raft_term(s->raft), 0, match, match, prev, raft_context(s->raft));
}

struct ticket solo_write_begin(struct solo *s) {
    uint64_t first, epoch;
    uint64_t count = raft_unpersisted(s->raft, &first, &epoch);
    if (count == 0) return (struct ticket){0};
    uint64_t last = first + count - 1;
    struct ticket ticket = {last, raft_term_at(s->raft, last), epoch};
    raft_persist_begun(s->raft, last);
    return ticket;
}

void solo_write_end(struct solo *s, struct ticket ticket) {
    solo_event(s, (struct raft_event){.type = RAFT_EVENT_DURABLE,
                                      .durable = {ticket.index, ticket.term, ticket.epoch}});
    solo_step(s);
}

void solo_write(struct solo *s) {
    struct ticket ticket = solo_write_begin(s);
    if (ticket.index > 0) solo_write_end(s, ticket);
}

void solo_hard_state(struct solo *s) {
    solo_event(s, (struct raft_event){.type = RAFT_EVENT_HARD_STATE_DURABLE,
                                      .hard_state.sequence = raft_hard_state(s->raft).sequence});
    solo_step(s);
}

// Answers the newest vote request, or pre-vote request, as every peer would.
static void solo_grant(struct solo *s, uint32_t prevote) {
    for (uint16_t i = 0; i < s->options.node_count; i++) {
        uint16_t peer = s->options.nodes[i];
        const struct raft_message *asked = solo_last_sent(s, WIRE_VOTE, peer);
        if (asked == NULL || (asked->flags & WIRE_VOTE_PREVOTE) != prevote) continue;
        solo_hear(s, (struct raft_message){.peer = peer,
                                           .type = WIRE_VOTE_REPLY,
                                           .flags = prevote | WIRE_VOTE_GRANTED,
                                           .term = asked->term});
    }
}

void solo_elect(struct solo *s) {
    solo_forget(s);
    uint64_t end = s->now_ns + 3 * ELECTION;
    while (solo_sent(s, WIRE_VOTE, 0) == 0 && s->now_ns < end && s->options.node_count > 1)
        solo_pass(s, MS);
    solo_grant(s, WIRE_VOTE_PREVOTE);
    solo_hard_state(s);
    solo_grant(s, 0);
    assert_int_equal(raft_role(s->raft), WIRE_ROLE_LEADER);
}

void solo_lead(struct solo *s) {
    solo_elect(s);
    solo_write(s);
    for (uint16_t i = 0; i < s->options.node_count; i++)
        if (s->options.nodes[i] != s->options.id)
            solo_hear_ack(s, s->options.nodes[i], raft_last(s->raft));
    assert_true(raft_leader_ready(s->raft));
    assert_int_equal(raft_commit(s->raft), raft_last(s->raft));
    solo_forget(s);
}

uint32_t solo_sent(const struct solo *s, uint16_t type, uint16_t peer) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->sent_count; i++)
        count += s->sent[i].type == type && (peer == 0 || s->sent[i].peer == peer);
    return count;
}

const struct raft_message *solo_last_sent(const struct solo *s, uint16_t type, uint16_t peer) {
    for (uint32_t i = s->sent_count; i > 0; i--)
        if (s->sent[i - 1].type == type && (peer == 0 || s->sent[i - 1].peer == peer))
            return &s->sent[i - 1];
    return NULL;
}
