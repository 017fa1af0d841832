// See stage_port.h.
#include "stage_port.h"

#include <stdatomic.h>
#include <string.h>

#include "counters.h"

static void count(struct stage_port *stage, uint32_t counter, uint64_t n) {
    COUNTER_ADD(stage->counters[counter], n);
}

static uint32_t transmit(struct stage_port *stage, uint64_t now_ns) {
    void *packets[PACKET_BURST];
    uint32_t sent = 0;
    for (uint32_t n; (n = ring_take(stage->from_consensus, packets, PACKET_BURST)) > 0; sent += n) {
        stage->port->ops->tx_burst(stage->port, now_ns, (struct packet *const *)packets, n);
        ring_put(stage->to_consensus_empty, packets, n);
    }
    return sent;
}

// Answers every request of a client's frame with busy. What does not fit one frame is not answered:
// the client asks again.
static void answer_busy(struct stage_port *stage, uint64_t now_ns, const struct packet *packet) {
    struct wire_writer writer;
    uint32_t offset = 0;
    const struct wire_head *head;
    wire_begin(&writer, stage->busy->data, WIRE_FRAME_MAX, stage->cluster, stage->group,
               stage->node);
    while ((head = wire_next(packet->data, &offset)) != NULL) {
        if (head->type != WIRE_REQUEST) continue;
        const struct wire_request *request = (const struct wire_request *)head;
        count(stage, STAGE_PORT_COUNT_RX_SHED_CLIENT, 1);
        struct wire_reply *reply = wire_add(&writer, WIRE_REPLY, 0, sizeof *reply);
        if (reply == NULL) continue;
        reply->session = request->session;
        reply->sequence = request->sequence;
        reply->op = request->op;
        reply->status = WIRE_BUSY;
    }
    stage->busy->length = (uint16_t)wire_finish(&writer);
    stage->busy->endpoint = packet->endpoint;
    if (stage->busy->length > 0) stage->port->ops->tx_burst(stage->port, now_ns, &stage->busy, 1);
}

// True if the packet is to go on to consensus; it stays ours otherwise.
static bool admit(struct stage_port *stage, uint64_t now_ns, const struct packet *packet) {
    enum wire_verdict verdict =
        wire_check_for(packet->data, packet->length, stage->cluster, stage->group);
    if (verdict != WIRE_VALID) {
        count(stage, STAGE_PORT_COUNT_VERDICTS + verdict - 1, 1);
        return false;
    }
    count(stage, STAGE_PORT_COUNT_FRAMES, 1);
    const struct wire_frame *frame = (const struct wire_frame *)packet->data;
    if (stage->pool.free_count >= STAGE_RX_RESERVE) return true;
    if (frame->source == 0) {
        answer_busy(stage, now_ns, packet);
        return false;
    }
    if (stage->pool.free_count > 0) return true;
    count(stage, STAGE_PORT_COUNT_RX_SHED_PEER, 1);
    return false;
}

static uint32_t receive(struct stage_port *stage, uint64_t now_ns) {
    struct packet_pool *pool = &stage->pool;
    struct packet *packets[PACKET_BURST];
    void *on[PACKET_BURST];
    uint32_t room = 0, on_count = 0;
    while (room < PACKET_BURST && pool->free_count > 0) packets[room++] = packet_take(pool);
    if (room == 0) return 0;
    uint32_t received = stage->port->ops->rx_burst(stage->port, now_ns, packets, room);
    for (uint32_t i = room; i > received; i--) packet_give(pool, packets[i - 1]);
    for (uint32_t i = 0; i < received; i++) {
        if (admit(stage, now_ns, packets[i]))
            on[on_count++] = packets[i];
        else
            packet_give(pool, packets[i]);
    }
    if (on_count > 0) ring_put(stage->to_consensus, on, on_count);
    return received;
}

uint32_t stage_port_poll(struct stage_port *stage, uint64_t now_ns) {
    packet_reclaim(&stage->pool, stage->from_consensus_empty);
    uint32_t work = transmit(stage, now_ns);
    return work + receive(stage, now_ns);
}

const char *stage_port_counter_name(uint32_t counter) {
    switch (counter) {
    case STAGE_PORT_COUNT_FRAMES:
        return "frames";
    case STAGE_PORT_COUNT_RX_SHED_CLIENT:
        return "rx_shed_client";
    case STAGE_PORT_COUNT_RX_SHED_PEER:
        return "rx_shed_peer";
    default:
        return wire_verdict_name((enum wire_verdict)(counter - STAGE_PORT_COUNT_VERDICTS + 1));
    }
}
