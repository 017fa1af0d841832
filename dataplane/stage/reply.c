// Frames going out: messages to one destination share a frame while they fit and the round lasts.
#include <string.h>

#include "stage_consensus.h"

static void close_frame(struct stage_consensus *stage, struct stage_frame *frame) {
    if (frame->packet == NULL) return;
    frame->packet->length = (uint16_t)wire_finish(&frame->writer);
    void *out = frame->packet;
    frame->packet = NULL;
    ring_put(stage->to_port, &out, 1);
}

static struct stage_frame *open_frame(struct stage_consensus *stage, uint64_t endpoint) {
    struct packet *packet = packet_take(&stage->tx);
    if (packet == NULL) return NULL;
    struct stage_frame *frame = NULL;
    for (uint32_t i = 0; i < STAGE_OPEN_FRAMES && frame == NULL; i++)
        if (stage->frames[i].packet == NULL) frame = &stage->frames[i];
    if (frame == NULL) {
        frame = &stage->frames[stage->frame_next++ % STAGE_OPEN_FRAMES];
        close_frame(stage, frame);
    }
    packet->endpoint = endpoint;
    frame->packet = packet;
    wire_begin(&frame->writer, packet->data, WIRE_FRAME_MAX, stage->options.cluster,
               stage->options.group, stage->options.id);
    return frame;
}

void *stage_message(struct stage_consensus *stage, uint64_t endpoint, uint16_t type, uint32_t flags,
                    uint32_t length) {
    for (uint32_t i = 0; i < STAGE_OPEN_FRAMES; i++) {
        struct stage_frame *frame = &stage->frames[i];
        if (frame->packet == NULL || frame->packet->endpoint != endpoint) continue;
        void *message = wire_add(&frame->writer, type, flags, length);
        if (message != NULL) return message;
        close_frame(stage, frame);
    }
    struct stage_frame *frame = open_frame(stage, endpoint);
    if (frame == NULL) {
        stage_count(stage, STAGE_COUNT_DROP_TX_FULL, 1);
        return NULL;
    }
    return wire_add(&frame->writer, type, flags, length);
}

void stage_flush(struct stage_consensus *stage) {
    for (uint32_t i = 0; i < STAGE_OPEN_FRAMES; i++) close_frame(stage, &stage->frames[i]);
}

void stage_refuse(struct stage_consensus *stage, uint64_t endpoint,
                  const struct wire_request *request, uint16_t status) {
    struct wire_reply *reply = stage_message(stage, endpoint, WIRE_REPLY, 0, sizeof *reply);
    if (reply == NULL) return;
    stage_count(stage, STAGE_COUNT_REPLIES, 1);
    reply->session = request->session;
    reply->sequence = request->sequence;
    reply->op = request->op;
    reply->status = status;
    if (status != WIRE_NOT_LEADER) return;
    uint16_t leader = raft_leader(stage->raft);
    if (leader == stage->options.id) leader = 0; // just elected, or just deposed
    reply->token = leader;
    reply->amount = stage_endpoint_of(stage, leader);
}

static void send_append(struct stage_consensus *stage, uint64_t endpoint,
                        const struct raft_message *m) {
    uint32_t length = sizeof(struct wire_append);
    for (uint32_t i = 0; i < m->append.count; i++)
        length += (uint32_t)sizeof(struct wire_entry) +
                  wire_pad(raft_entry_at(stage->raft, m->append.prev_index + 1 + i).length);
    struct wire_append *out = stage_message(stage, endpoint, WIRE_APPEND, m->flags, length);
    if (out == NULL) return;
    out->term = m->term;
    out->prev_index = m->append.prev_index;
    out->prev_term = m->append.prev_term;
    out->commit = m->append.commit;
    out->context = m->append.context;
    out->count = m->append.count;
    out->life = m->append.life;
    uint8_t *at = (uint8_t *)(out + 1);
    for (uint32_t i = 0; i < m->append.count; i++) {
        struct raft_entry entry = raft_entry_at(stage->raft, m->append.prev_index + 1 + i);
        struct wire_entry *header = (struct wire_entry *)at;
        header->term = entry.term;
        header->time_ns = entry.time_ns;
        header->length = entry.length;
        header->type = entry.type;
        memcpy(header + 1, entry.data, entry.length);
        at += sizeof *header + wire_pad(entry.length);
    }
}

static void send_one(struct stage_consensus *stage, const struct raft_message *m) {
    uint64_t endpoint = stage_endpoint_of(stage, m->peer);
    switch (m->type) {
    case WIRE_VOTE: {
        struct wire_vote *out = stage_message(stage, endpoint, m->type, m->flags, sizeof *out);
        if (out == NULL) return;
        out->term = m->term;
        out->last_index = m->vote.last_index;
        out->last_term = m->vote.last_term;
        return;
    }
    case WIRE_VOTE_REPLY: {
        struct wire_vote_reply *out =
            stage_message(stage, endpoint, m->type, m->flags, sizeof *out);
        if (out != NULL) out->term = m->term;
        return;
    }
    case WIRE_APPEND:
        send_append(stage, endpoint, m);
        return;
    case WIRE_APPEND_REPLY: {
        struct wire_append_reply *out =
            stage_message(stage, endpoint, m->type, m->flags, sizeof *out);
        if (out == NULL) return;
        out->term = m->term;
        out->match = m->append_reply.match;
        out->hint = m->append_reply.hint;
        out->prev = m->append_reply.prev;
        out->context = m->append_reply.context;
        out->life = m->append_reply.life;
        return;
    }
    default:
        return; // snapshots are sent by transfer.c
    }
}

void stage_send_raft(struct stage_consensus *stage) {
    for (uint32_t i = 0; i < stage->effects.message_count; i++)
        send_one(stage, &stage->effects.messages[i]);
}
