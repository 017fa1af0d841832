// A plain client for measuring and for accounting: one request in flight, polled, over any port.
//
// It speaks the wire format itself and yields the core on an empty round, so that what is measured
// is the service and not a client library's wait. Unanswered requests are sent again with the same
// sequence, to the next node, until an answer comes or patience ends. A refusal (not_leader, busy)
// is followed by a pause of a millisecond. No allocation: packets are part of the struct.
#ifndef CONCLAVE_WIRE_CLIENT_H
#define CONCLAVE_WIRE_CLIENT_H

#include <stdint.h>

#include "port/port.h"

#define WIRE_CLIENT_NODES_MAX 9u

struct wire_client {
    struct port *port; // lent
    uint64_t nodes[WIRE_CLIENT_NODES_MAX];
    uint32_t node_count;
    uint32_t at;          // the node asked now
    uint64_t retry_ns;    // an unanswered request is sent again after this
    uint64_t patience_ns; // for one request
    uint64_t cluster;
    uint64_t session;
    uint64_t sequence;       // of the session
    uint64_t other_sequence; // of requests outside it
    uint64_t resent;
    struct packet out;
    struct packet in[PACKET_BURST];
    struct packet *burst[PACKET_BURST];
};

uint64_t wire_client_now_ns(void);                    // CLOCK_MONOTONIC
const char *wire_client_status_name(uint16_t status); // "not_leader" ...
// "ADDRESS:PORT" to an endpoint, 0 if it is not one.
uint64_t wire_client_parse(const char *text);
// Adds the nodes of a comma-separated list, which it cuts up. Returns 0, or the bad part.
const char *wire_client_add_nodes(struct wire_client *client, char *list);
// Learns the cluster's id and opens a session. 0, or the status it was refused with.
uint16_t wire_client_begin(struct wire_client *client);
// One request to its final answer: name may be "". Status WIRE_UNKNOWN when patience ended: it may
// have been executed, or may still be. The reply's value, if any, is copied to `value`
// (WIRE_VALUE_MAX bytes) unless that is NULL.
struct wire_reply wire_client_call(struct wire_client *client, struct wire_request request,
                                   const char *name, void *value);

#endif
