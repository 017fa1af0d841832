// The port stage: frames in from the port, checked whole, and on to consensus; frames out from
// consensus to the port. Also the one place where load is shed: when consensus falls behind, frames
// of other nodes go first and clients are answered `busy` from here.
#ifndef CONCLAVE_STAGE_PORT_H
#define CONCLAVE_STAGE_PORT_H

#include "port/port.h"
#include "rings.h"
#include "wire.h"

// Receive packets: four bursts of work for consensus beyond what one round takes, twice over.
#define STAGE_RX_PACKETS 1024u
// Of these, kept for other nodes' frames and for telling clients `busy`.
#define STAGE_RX_RESERVE 128u

enum stage_port_counter {
    STAGE_PORT_COUNT_FRAMES,
    STAGE_PORT_COUNT_RX_SHED_CLIENT, // requests answered busy
    STAGE_PORT_COUNT_RX_SHED_PEER,   // frames of nodes dropped: no packet was left
    STAGE_PORT_COUNT_VERDICTS,       // from here on one per enum wire_verdict but WIRE_VALID
    STAGE_PORT_COUNTERS = STAGE_PORT_COUNT_VERDICTS + WIRE_VERDICTS - 1
};

struct stage_port {
    struct port *port;
    uint64_t cluster;
    uint32_t group;
    uint16_t node;
    struct packet_pool pool; // for receiving
    struct packet *busy;     // for replies made here
    struct rte_ring *to_consensus;
    struct rte_ring *from_consensus_empty;
    struct rte_ring *from_consensus;
    struct rte_ring *to_consensus_empty;
    _Atomic uint64_t counters[STAGE_PORT_COUNTERS];
};

uint32_t stage_port_poll(struct stage_port *stage, uint64_t now_ns);
const char *stage_port_counter_name(uint32_t counter);

#endif
