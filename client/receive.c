// Datagrams in. A frame is believed only when it is sound, comes from an endpoint we know, and
// carries our cluster and group; a message only when something open is waiting for just that.
#include "core_internal.h"

// While the cluster is not known, only the answer to a status request tells it.
static bool frame_teaches_cluster(const struct core *core, const void *bytes, uint32_t from) {
    uint32_t offset = 0;
    for (const struct wire_head *head; (head = wire_next(bytes, &offset)) != NULL;) {
        if (head->type != WIRE_REPLY) continue;
        const struct wire_reply *reply = (const struct wire_reply *)(const void *)head;
        if (reply->op != WIRE_OP_STATUS || reply->status != WIRE_OK) continue;
        for (uint32_t i = 0; i < core->used; i++) {
            const struct core_request *request = &core->requests[i];
            if (request->state == REQUEST_OPEN && request->wire.op == WIRE_OP_STATUS &&
                request->wire.sequence == reply->sequence && request->target == from) {
                return true;
            }
        }
    }
    return false;
}

static bool frame_is_ours(struct core *core, uint32_t from, const void *bytes) {
    const struct wire_frame *frame = bytes;
    if (frame->group != core->options.group) {
        core_count(core, CORE_COUNT_DROP_GROUP);
        return false;
    }
    if (core->cluster == 0 && frame->cluster != 0 && frame_teaches_cluster(core, bytes, from)) {
        core->cluster = frame->cluster;
    }
    if (frame->cluster != core->cluster || core->cluster == 0) {
        core_count(core, CORE_COUNT_DROP_CLUSTER);
        core->trouble = TROUBLE_CLUSTER;
        return false;
    }
    return true;
}

void core_receive(struct core *core, uint64_t now_ns, uint64_t from, const void *bytes,
                  uint32_t length) {
    core_tick(core, now_ns);
    core_count(core, CORE_COUNT_DATAGRAMS_RECEIVED);
    uint32_t endpoint = route_find(core, from);
    if (endpoint == ROUTE_MAX) {
        core_count(core, CORE_COUNT_DROP_SOURCE);
        return;
    }
    if (wire_check(bytes, length) != WIRE_VALID) {
        core_count(core, CORE_COUNT_DROP_FRAME);
        return;
    }
    if (!frame_is_ours(core, endpoint, bytes)) return;
    route_heard(core, endpoint);
    uint32_t offset = 0;
    for (const struct wire_head *head; (head = wire_next(bytes, &offset)) != NULL;) {
        const void *message = head;
        if (head->type == WIRE_REPLY) {
            request_reply(core, endpoint, message);
        } else if (head->type == WIRE_EVENT) {
            lock_event(core, message);
        } else {
            core_count(core, CORE_COUNT_DROP_TYPE);
        }
    }
}
