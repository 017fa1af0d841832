// What a leader proposes by itself: leases and waits that ran out, and ticks that carry cluster
// time forward while nothing else does, so that a lease's remaining time survives an election.
#include <string.h>

#include "stage_consensus.h"

// A command of `bytes` value with its header, ready to be filled; NULL when this round has had
// enough.
static struct wire_request *command(struct stage_consensus *stage, uint16_t op, uint32_t bytes) {
    uint32_t length = (uint32_t)sizeof(struct wire_request) + wire_pad(bytes);
    if (stage->command_count == STAGE_COMMANDS || stage->event_count == RAFT_EVENTS_MAX ||
        !raft_can_propose(stage->raft, 1, length))
        return NULL;
    struct wire_request *request = (struct wire_request *)stage->commands[stage->command_count++];
    memset(request, 0, length);
    request->head.type = WIRE_REQUEST;
    request->head.length = (uint16_t)length;
    request->op = op;
    request->value_length = (uint16_t)bytes;
    struct raft_event *event = stage_event(stage, RAFT_EVENT_PROPOSE);
    event->propose.data = request;
    event->propose.length = request->head.length;
    stage->proposals[stage->proposal_count].endpoint = 0;
    stage->proposals[stage->proposal_count++].request = request;
    return request;
}

static void expire_leases(struct stage_consensus *stage, uint64_t time_ns) {
    struct wire_expiry due[WIRE_VALUE_MAX / sizeof(struct wire_expiry)];
    uint32_t count =
        machine_due_leases(stage->machine, time_ns, due, (uint32_t)(sizeof due / sizeof due[0]));
    if (count == 0) return;
    for (uint32_t i = 0; i < count; i++) due[i].term = raft_term(stage->raft);
    uint32_t bytes = count * (uint32_t)sizeof due[0];
    struct wire_request *request = command(stage, WIRE_OP_EXPIRE_LEASES, bytes);
    if (request == NULL) return; // given again by the machine a little later
    memcpy(request + 1, due, bytes);
    stage_count(stage, STAGE_COUNT_EXPIRIES, count);
}

static void expire_waits(struct stage_consensus *stage, uint64_t time_ns) {
    struct wire_wait_expiry due[WIRE_VALUE_MAX / sizeof(struct wire_wait_expiry)];
    uint32_t count =
        machine_due_waits(stage->machine, time_ns, due, (uint32_t)(sizeof due / sizeof due[0]));
    if (count == 0) return;
    uint32_t bytes = count * (uint32_t)sizeof due[0];
    struct wire_request *request = command(stage, WIRE_OP_EXPIRE_WAITS, bytes);
    if (request == NULL) return;
    memcpy(request + 1, due, bytes);
    stage_count(stage, STAGE_COUNT_EXPIRIES, count);
}

uint64_t stage_tick_due(const struct stage_consensus *stage) {
    uint64_t last_ns = machine_time(stage->machine);
    // What was proposed counts, but not by a former leadership that ran ahead of this one.
    if (stage->ticked_ns > last_ns && stage->ticked_ns <= raft_time(stage->raft, stage->now_ns))
        last_ns = stage->ticked_ns;
    bool leases = machine_sizes(stage->machine).leases > 0;
    return last_ns + (leases ? STAGE_TICK_NS : STAGE_TICK_IDLE_NS);
}

static void tick(struct stage_consensus *stage, uint64_t time_ns) {
    if (time_ns < stage_tick_due(stage)) return;
    struct wire_request *request = command(stage, WIRE_OP_TICK, 0);
    if (request == NULL) return;
    request->amount = machine_applied(stage->machine);
    request->token = machine_hash(stage->machine);
    stage->ticked_ns = time_ns;
    stage_count(stage, STAGE_COUNT_TICKS, 1);
}

void stage_upkeep(struct stage_consensus *stage) {
    stage->command_count = 0;
    if (!raft_leader_ready(stage->raft) || stage->restoring) return;
    uint64_t time_ns = raft_time(stage->raft, stage->now_ns);
    if (machine_next_due(stage->machine) <= time_ns) {
        expire_leases(stage, time_ns);
        expire_waits(stage, time_ns);
    }
    tick(stage, time_ns);
}
