// Clients of a scenario: requests as told, byte for byte, to the node that is named; what comes
// back is written down and never acted upon.
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

struct caller *caller_create(struct scenario *s) {
    GIVEN(s, s->caller_count < SCENARIO_CALLERS);
    struct caller *c = calloc(1, sizeof *c);
    c->scenario = s;
    c->endpoint = wire_endpoint_pack(0x0a000101u + s->caller_count, 999);
    c->read_from = 1ull << 32;
    s->callers[s->caller_count++] = c;
    sim_net_port(s->sim->net, c->endpoint, SIM_ACTORS);
    return c;
}

static void on_reply(struct caller *c, const struct wire_reply *reply) {
    struct answer *answer = &c->answers[reply->sequence % CALLER_ANSWERS];
    c->answer_count++;
    *answer = (struct answer){.sequence = reply->sequence,
                              .token = reply->token,
                              .amount = reply->amount,
                              .index = reply->index,
                              .op = reply->op,
                              .status = reply->status};
    if (!wire_op_is_read(reply->op)) return;
    answer->claims = reply->value_length / (uint32_t)sizeof(struct wire_claim);
    if (answer->claims > 8) answer->claims = 8;
    memcpy(answer->claim, wire_reply_value(reply), answer->claims * sizeof(struct wire_claim));
}

static void on_event(struct caller *c, const struct wire_event *event) {
    c->event = *event;
    c->event_count++;
    if (event->status == WIRE_OK && c->lease_dead) c->late_grants++;
}

void caller_receive(struct caller *c) {
    _Alignas(8) uint8_t bytes[WIRE_FRAME_MAX];
    uint64_t from;
    while (sim_net_receive(c->scenario->sim->net, c->endpoint, &from, bytes, sizeof bytes) > 0) {
        uint32_t offset = 0;
        const struct wire_head *head;
        while ((head = wire_next(bytes, &offset)) != NULL) {
            if (head->type == WIRE_REPLY) on_reply(c, (const struct wire_reply *)head);
            if (head->type == WIRE_EVENT) on_event(c, (const struct wire_event *)head);
        }
    }
}

uint64_t caller_send(struct caller *c, uint16_t node, const struct ask *ask) {
    struct sim *sim = c->scenario->sim;
    _Alignas(8) uint8_t bytes[WIRE_FRAME_MAX];
    struct wire_writer writer;
    uint32_t name_length = ask->name == NULL ? 0 : (uint32_t)strlen(ask->name);
    bool logged = wire_op_is_logged(ask->op);
    uint64_t sequence = ask->sequence;
    if (sequence == 0) sequence = logged ? ++c->sequence : ++c->read_from;
    c->answers[sequence % CALLER_ANSWERS].sequence = 0; // asked anew
    wire_begin(&writer, bytes, sizeof bytes, SIM_CLUSTER, 0, 0);
    struct wire_request *request =
        wire_add(&writer, WIRE_REQUEST, 0, (uint32_t)sizeof *request + name_length);
    request->op = ask->op;
    request->session = logged && ask->op != WIRE_OP_SESSION_OPEN ? c->session : 0;
    request->sequence = sequence;
    request->name_length = (uint8_t)name_length;
    bool leased = ask->op == WIRE_OP_LOCK_ACQUIRE || ask->op == WIRE_OP_LEASE_KEEPALIVE ||
                  ask->op == WIRE_OP_LEASE_REVOKE || ask->op == WIRE_OP_LEASE_TTL;
    if (leased) request->lease = ask->other_lease ? ask->lease : c->lease;
    request->token = ask->token;
    request->amount = ask->amount;
    if (name_length > 0) memcpy(request + 1, ask->name, name_length);
    sim_net_send(sim->net, c->endpoint, scenario_machine(c->scenario, node)->endpoint, bytes,
                 wire_finish(&writer));
    return sequence;
}

const struct answer *caller_answer(const struct caller *c, uint64_t sequence) {
    const struct answer *answer = &c->answers[sequence % CALLER_ANSWERS];
    return answer->sequence == sequence ? answer : NULL;
}

const struct answer *caller_call(struct caller *c, const struct ask *ask) {
    struct scenario *s = c->scenario;
    struct ask again = *ask;
    for (uint32_t i = 0; i < 20; i++) {
        AWAIT(s, 3000, scenario_leader(s) != 0);
        again.sequence = caller_send(c, scenario_leader(s), &again);
        const struct answer *answer = NULL;
        for (uint32_t step = 0; step < 2000 && answer == NULL; step++) {
            scenario_step(s);
            answer = caller_answer(c, again.sequence);
        }
        if (answer == NULL) continue;
        if (answer->status != WIRE_BUSY && answer->status != WIRE_NOT_LEADER) return answer;
        scenario_run(s, 20);
    }
    scenario_broken(s, "a client got no answer to operation %u", ask->op);
}

void caller_open(struct caller *c, uint64_t ttl_ms) {
    struct scenario *s = c->scenario;
    const struct ask open = {.op = WIRE_OP_SESSION_OPEN, .token = c->endpoint};
    const struct answer *answer = caller_call(c, &open);
    GIVEN(s, answer->status == WIRE_OK);
    c->session = answer->token;
    if (ttl_ms == 0) return;
    answer = caller_call(c, &(struct ask){.op = WIRE_OP_LEASE_GRANT, .amount = ttl_ms});
    GIVEN(s, answer->status == WIRE_OK);
    c->lease = answer->token;
}

uint64_t caller_acquire(struct caller *c, const char *name) {
    const struct ask ask = {.op = WIRE_OP_LOCK_ACQUIRE, .name = name};
    const struct answer *answer = caller_call(c, &ask);
    MUST(c->scenario, answer->status == WIRE_OK, "a free lock is refused with status %u",
         answer->status);
    return answer->token;
}

void caller_fill(struct caller *c, uint16_t node, uint32_t count) {
    char name[WIRE_NAME_MAX + 1];
    memset(name, 'x', WIRE_NAME_MAX);
    name[WIRE_NAME_MAX] = 0;
    for (uint32_t i = 0; i < count; i++)
        caller_send(c, node, &(struct ask){.op = WIRE_OP_LOCK_ACQUIRE, .name = name});
}

uint64_t caller_holder(struct caller *c, const char *name) {
    const struct answer *answer =
        caller_call(c, &(struct ask){.op = WIRE_OP_LOCK_HOLDERS, .name = name});
    return answer->claims > 0 ? answer->claim[0].token : 0;
}
