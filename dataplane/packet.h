// A packet: one datagram on its way through the stages.
//
// Ownership: every packet belongs to exactly one pool and pools are single-threaded. The port stage
// owns the receive pool, the consensus stage the send pool. A packet lent through a ring comes back
// to its owner through the ring the other way. So no pool needs a lock.
#ifndef CONCLAVE_PACKET_H
#define CONCLAVE_PACKET_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "conclave_wire.h"

// A burst: what one poll of a port or ring handles at once (DPDK's customary 32).
#define PACKET_BURST 32u

struct packet {
    uint64_t endpoint; // received: who sent it; to send: who gets it. wire_endpoint_pack().
    uint64_t time_ns;  // when the port stage's round began that received it
    uint16_t length;   // of data in use
    uint16_t reserved[3];
    _Alignas(8) uint8_t data[WIRE_FRAME_MAX];
    uint8_t pad[2048 - 24 - WIRE_FRAME_MAX];
};
static_assert(sizeof(struct packet) == 2048, "one packet is 2 KiB, so pools stay aligned");
static_assert(offsetof(struct packet, data) % 8 == 0, "messages are read in place");

#endif
