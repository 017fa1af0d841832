// Frames in: messages of nodes become Raft events, requests of clients become proposals, reads or
// refusals. Packets stay here until the step is done, since events point into them.
#include <string.h>

#include "stage_consensus.h"

// ---------------------------------------------------------------- from nodes

static void on_append(struct stage_consensus *stage, const struct wire_append *in,
                      struct raft_message *m) {
    uint32_t offset = 0;
    const struct wire_entry *entry;
    m->append.prev_index = in->prev_index;
    m->append.prev_term = in->prev_term;
    m->append.commit = in->commit;
    m->append.context = in->context;
    m->append.life = in->life;
    m->append.entries = &stage->entries[stage->entry_count];
    while ((entry = wire_next_entry(in, &offset)) != NULL) {
        assert(stage->entry_count < STAGE_ENTRIES);
        stage->entries[stage->entry_count++] = (struct raft_entry){.term = entry->term,
                                                                   .time_ns = entry->time_ns,
                                                                   .data = entry + 1,
                                                                   .length = entry->length,
                                                                   .type = entry->type};
        m->append.count++;
    }
}

static void keep_chunk(struct stage_consensus *stage, const struct wire_head *head,
                       uint64_t endpoint, uint16_t peer) {
    if (stage->chunk_count == PACKET_BURST) {
        stage_count(stage, STAGE_COUNT_CHUNKS_REFUSED, 1);
        return;
    }
    stage->chunks[stage->chunk_count].head = head;
    stage->chunks[stage->chunk_count].endpoint = endpoint;
    stage->chunks[stage->chunk_count++].peer = peer;
}

// Fills the message's body; false: not a message nodes send each other.
static bool decode(struct stage_consensus *stage, const struct wire_head *head, uint64_t endpoint,
                   struct raft_message *m) {
    switch (head->type) {
    case WIRE_VOTE: {
        const struct wire_vote *in = (const struct wire_vote *)head;
        m->term = in->term;
        m->vote.last_index = in->last_index;
        m->vote.last_term = in->last_term;
        return true;
    }
    case WIRE_VOTE_REPLY:
        m->term = ((const struct wire_vote_reply *)head)->term;
        return true;
    case WIRE_APPEND:
        m->term = ((const struct wire_append *)head)->term;
        on_append(stage, (const struct wire_append *)head, m);
        return true;
    case WIRE_APPEND_REPLY: {
        const struct wire_append_reply *in = (const struct wire_append_reply *)head;
        m->term = in->term;
        m->append_reply.match = in->match;
        m->append_reply.hint = in->hint;
        m->append_reply.prev = in->prev;
        m->append_reply.context = in->context;
        m->append_reply.life = in->life;
        return true;
    }
    case WIRE_SNAPSHOT: {
        const struct wire_snapshot *in = (const struct wire_snapshot *)head;
        m->term = in->term;
        m->snapshot.last_index = in->last_index;
        m->snapshot.last_term = in->last_term;
        m->snapshot.context = in->context;
        keep_chunk(stage, head, endpoint, m->peer);
        return true;
    }
    case WIRE_SNAPSHOT_REPLY: {
        const struct wire_snapshot_reply *in = (const struct wire_snapshot_reply *)head;
        m->term = in->term;
        m->snapshot.last_index = in->last_index;
        m->snapshot.context = in->context;
        keep_chunk(stage, head, endpoint, m->peer);
        return true;
    }
    default:
        return false;
    }
}

static void from_node(struct stage_consensus *stage, const struct wire_head *head,
                      uint64_t endpoint, uint16_t source) {
    struct raft_event *event = stage_event(stage, RAFT_EVENT_MESSAGE);
    event->message.peer = source;
    event->message.type = head->type;
    event->message.flags = head->flags;
    if (decode(stage, head, endpoint, &event->message)) return;
    stage->event_count--;
    stage_count(stage, STAGE_COUNT_DROP_TYPE, 1);
}

// ---------------------------------------------------------------- from clients

static void propose(struct stage_consensus *stage, uint64_t endpoint,
                    const struct wire_request *request) {
    if (!raft_leader_ready(stage->raft) || stage->restoring) {
        stage_count(stage, STAGE_COUNT_BUSY_LOG, 1);
        stage_refuse(stage, endpoint, request, WIRE_BUSY);
        return;
    }
    struct raft_event *event = stage_event(stage, RAFT_EVENT_PROPOSE);
    event->propose.data = request;
    event->propose.length = request->head.length;
    stage->proposals[stage->proposal_count].endpoint = endpoint;
    stage->proposals[stage->proposal_count++].request = request;
}

static void read_later(struct stage_consensus *stage, uint64_t endpoint,
                       const struct wire_request *request) {
    if (stage->read_last - stage->read_first == STAGE_READS) {
        stage_count(stage, STAGE_COUNT_BUSY_READS, 1);
        stage_refuse(stage, endpoint, request, WIRE_BUSY);
        return;
    }
    (void)stage_event(stage, RAFT_EVENT_READ);
    struct stage_read *read = &stage->reads[stage->read_last++ % STAGE_READS];
    read->endpoint = endpoint;
    read->asked.request = *request;
    memcpy(read->asked.name, wire_request_name(request), request->name_length);
}

static void answer_locally(struct stage_consensus *stage, uint64_t endpoint,
                           const struct wire_request *request) {
    _Alignas(8) uint8_t value[WIRE_VALUE_MAX];
    uint32_t bytes, total = 0;
    if (request->op == WIRE_OP_STATUS) {
        struct wire_status *status = (struct wire_status *)value;
        stage_status(stage, status);
        bytes = sizeof *status;
    } else {
        uint32_t skip = request->amount > UINT32_MAX ? UINT32_MAX : (uint32_t)request->amount;
        bytes = (uint32_t)sizeof(struct wire_counter) *
                counters_read(stage->counter_list, skip, (struct wire_counter *)value,
                              WIRE_VALUE_MAX / sizeof(struct wire_counter));
        total = counters_total(stage->counter_list);
    }
    struct wire_reply *reply =
        stage_message(stage, endpoint, WIRE_REPLY, 0, (uint32_t)sizeof *reply + bytes);
    if (reply == NULL) return;
    stage_count(stage, STAGE_COUNT_REPLIES, 1);
    reply->session = request->session;
    reply->sequence = request->sequence;
    reply->op = request->op;
    reply->amount = total;
    reply->value_length = (uint16_t)bytes;
    memcpy(reply + 1, value, bytes);
}

static void from_client(struct stage_consensus *stage, const struct wire_head *head,
                        uint64_t endpoint) {
    const struct wire_request *request = (const struct wire_request *)head;
    if (head->type != WIRE_REQUEST) {
        stage_count(stage, STAGE_COUNT_DROP_TYPE, 1);
        return;
    }
    stage_count(stage, STAGE_COUNT_REQUESTS, 1);
    uint16_t verdict = machine_validate(request, head->length, false);
    if (verdict != WIRE_OK) {
        stage_count(stage, STAGE_COUNT_BAD_REQUEST, 1);
        stage_refuse(stage, endpoint, request, verdict);
    } else if (wire_op_is_local(request->op)) {
        answer_locally(stage, endpoint, request);
    } else if (raft_role(stage->raft) != WIRE_ROLE_LEADER) {
        stage_count(stage, STAGE_COUNT_NOT_LEADER, 1);
        stage_refuse(stage, endpoint, request, WIRE_NOT_LEADER);
    } else if (wire_op_is_read(request->op)) {
        read_later(stage, endpoint, request);
    } else {
        propose(stage, endpoint, request);
    }
}

// ---------------------------------------------------------------- packets

static void take_frame(struct stage_consensus *stage, const struct packet *packet) {
    const struct wire_frame *frame = (const struct wire_frame *)packet->data;
    uint64_t known = frame->source != 0 ? stage_endpoint_of(stage, frame->source) : 0;
    if (frame->source != 0 && (known != packet->endpoint || frame->source == stage->options.id)) {
        stage_count(stage, STAGE_COUNT_DROP_SOURCE, 1);
        return;
    }
    uint32_t offset = 0;
    const struct wire_head *head;
    while ((head = wire_next(packet->data, &offset)) != NULL) {
        if (frame->source != 0)
            from_node(stage, head, packet->endpoint, frame->source);
        else
            from_client(stage, head, packet->endpoint);
    }
}

uint32_t stage_receive(struct stage_consensus *stage) {
    while (stage->taken_count < PACKET_BURST &&
           stage->event_count + STAGE_FRAME_EVENTS <= RAFT_EVENTS_MAX) {
        void *packet;
        if (ring_take(stage->from_port, &packet, 1) == 0) break;
        stage->taken[stage->taken_count++] = packet;
        take_frame(stage, packet);
    }
    return stage->taken_count;
}

void stage_return_packets(struct stage_consensus *stage) {
    if (stage->taken_count == 0) return;
    ring_put(stage->to_port_empty, (void *const *)stage->taken, stage->taken_count);
    stage->taken_count = 0;
}

// After the step: those accepted are remembered by index, the rest are refused.
void stage_settle_proposals(struct stage_consensus *stage) {
    const struct raft_effects *effects = &stage->effects;
    for (uint32_t i = 0; i < stage->proposal_count; i++) {
        uint64_t endpoint = stage->proposals[i].endpoint;
        if (i < effects->proposed) {
            uint64_t index = effects->proposed_first + i;
            stage->pending[index & stage->pending_mask] = (struct stage_pending){
                .index = index, .term = effects->proposed_term, .endpoint = endpoint};
        } else if (endpoint != 0) {
            bool leads = raft_role(stage->raft) == WIRE_ROLE_LEADER;
            stage_count(stage, leads ? STAGE_COUNT_BUSY_LOG : STAGE_COUNT_NOT_LEADER, 1);
            stage_refuse(stage, endpoint, stage->proposals[i].request,
                         leads ? WIRE_BUSY : WIRE_NOT_LEADER);
        }
    }
}
