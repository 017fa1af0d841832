// Which node to ask. One endpoint is followed at a time, believed to be the leader.
//
// It changes in three ways: a node that does not lead names the leader (a hint), a node stays
// silent, or an answer shows that another one leads. Hints can be stale, lost in a loop, or wrong;
// so a hint to a node that has been silent is not followed, and when there is nothing to follow the
// next endpoint is tried in turn: every node is asked in the end, whatever the others say.
#include "core_internal.h"

uint32_t route_find(const struct core *core, uint64_t address) {
    for (uint32_t i = 0; i < core->endpoint_count; i++) {
        if (core->endpoints[i].address == address) return i;
    }
    return ROUTE_MAX;
}

// A node may name a peer that the caller did not configure. It is taken in, up to a limit; then the
// oldest of those taken in makes room.
static uint32_t route_accept(struct core *core, uint64_t address) {
    uint32_t found = route_find(core, address);
    if (found != ROUTE_MAX) return found;
    uint32_t slot = core->endpoint_count;
    if (slot < core->options.endpoint_count + ROUTE_HINTED_MAX) {
        core->endpoint_count++;
    } else {
        slot = core->options.endpoint_count + core->hinted_next;
        core->hinted_next = (core->hinted_next + 1) % ROUTE_HINTED_MAX;
        if (core->leader_confirmed == slot) core->leader_confirmed = ROUTE_MAX;
    }
    core->endpoints[slot] = (struct core_endpoint){.address = address};
    core_count(core, CORE_COUNT_ENDPOINTS_ADDED);
    return slot;
}

static void route_rotate(struct core *core) {
    core->leader = (core->leader + 1) % core->endpoint_count;
    core_count(core, CORE_COUNT_ROTATIONS);
}

// False: there is nothing to follow.
static bool route_follow(struct core *core, uint32_t from, uint64_t hint) {
    if (hint >> 16 == 0 || (hint & 0xffff) == 0 || hint >> 48 != 0) return false;
    uint32_t endpoint = route_accept(core, hint);
    if (endpoint == from || core->endpoints[endpoint].silent >= ROUTE_SILENT) {
        core_count(core, CORE_COUNT_HINTS_IGNORED);
        return false;
    }
    core->leader = endpoint;
    core_count(core, CORE_COUNT_HINTS_FOLLOWED);
    return true;
}

void route_heard(struct core *core, uint32_t endpoint) {
    core->endpoints[endpoint].heard_ns = core->now_ns;
    core->endpoints[endpoint].silent = 0;
}

void route_silence(struct core *core, uint32_t index, uint64_t since_ns) {
    struct core_endpoint *endpoint = &core->endpoints[index];
    // Something else was heard from it, or this silence has been counted for another request.
    if (endpoint->heard_ns >= since_ns || endpoint->silence_ns > since_ns) return;
    endpoint->silence_ns = core->now_ns;
    endpoint->silent++;
    core->trouble = TROUBLE_SILENT;
    bool known = core->leader_confirmed == index && endpoint->silent < ROUTE_SILENT;
    if (!known && core->leader == index) route_rotate(core);
}

void route_not_leader(struct core *core, uint32_t endpoint, uint64_t hint) {
    core_count(core, CORE_COUNT_NOT_LEADER);
    if (hint == 0) core->trouble = TROUBLE_NO_LEADER;
    if (core->leader != endpoint) return; // another request has been told already
    if (!route_follow(core, endpoint, hint)) route_rotate(core);
}

void route_answered(struct core *core, uint32_t endpoint) {
    core->trouble = TROUBLE_NONE;
    core->leader = endpoint;
    if (core->leader_confirmed == endpoint) return;
    core->leader_confirmed = endpoint;
    core_count(core, CORE_COUNT_LEADER_CHANGES);
    if (core->options.notice) {
        core->options.notice(core->options.context, CORE_NOTICE_LEADER,
                             core->endpoints[endpoint].address);
    }
    request_hurry(core, endpoint);
    lock_leader_changed(core);
}

void route_learn(struct core *core, uint64_t hint) {
    if (core->leader_confirmed == ROUTE_MAX) (void)route_follow(core, ROUTE_MAX, hint);
}
