// A port: the one burst interface in front of every way to move datagrams. Implementations: dpdk
// (any ethdev, port_dpdk.c), udp (kernel sockets, port_udp.c), and the simulator's.
//
// One thread polls a port. rx_burst fills packets the caller owns; tx_burst copies out of packets
// the caller owns, so both stay the caller's. Neither waits. Datagrams that are not for this node,
// are damaged or do not fit are dropped here, each kind with its counter.
#ifndef CONCLAVE_PORT_H
#define CONCLAVE_PORT_H

#include <stdint.h>

#include "../packet.h"

enum port_counter {
    PORT_COUNT_RX_PACKETS,
    PORT_COUNT_RX_BYTES,
    PORT_COUNT_TX_PACKETS,
    PORT_COUNT_TX_BYTES,
    PORT_COUNT_RX_DROP_SHORT,    // truncated, or lengths that contradict each other
    PORT_COUNT_RX_DROP_OVERSIZE, // longer than WIRE_FRAME_MAX
    PORT_COUNT_RX_DROP_CHECKSUM,
    PORT_COUNT_RX_DROP_FRAGMENT,
    PORT_COUNT_RX_DROP_OTHER,      // another protocol, address or port
    PORT_COUNT_TX_DROP_FULL,       // device queue or socket buffer full
    PORT_COUNT_TX_DROP_UNRESOLVED, // neighbour's address not known yet; an ARP request was sent
    PORT_COUNT_TX_ERRORS,
    PORT_COUNT_ARP_REQUESTS, // answered
    PORT_COUNT_ARP_SENT,
    PORT_COUNT_ICMP_ECHO,       // answered
    PORT_COUNT_RX_DROP_OVERRUN, // udp: socket buffer overflowed because nobody polled in time
    PORT_COUNT_RX_ERRORS,       // the kernel refused to receive
    PORT_COUNTERS
};

struct port;

struct port_ops {
    // Returns how many of `packets` were filled (data, length, endpoint, time_ns).
    uint32_t (*rx_burst)(struct port *port, uint64_t now_ns, struct packet *const *packets,
                         uint32_t count);
    // Sends what it can and drops the rest with a counter: datagrams may be lost anyway, and
    // waiting would stall the stage. Returns how many were sent.
    uint32_t (*tx_burst)(struct port *port, uint64_t now_ns, struct packet *const *packets,
                         uint32_t count);
    int (*wait_fd)(struct port *port); // readable when a packet waits; -1: must be polled
    void (*close)(struct port *port);
};

struct port {
    const struct port_ops *ops;
    uint64_t endpoint;                        // our own
    _Atomic uint64_t counters[PORT_COUNTERS]; // written by the polling thread only, relaxed
};

const char *port_counter_name(enum port_counter counter);

struct port_udp_options {
    uint64_t endpoint;     // to bind; address 0 binds all, port 0 picks one (see port->endpoint)
    uint32_t buffer_bytes; // SO_RCVBUF and SO_SNDBUF, as much of it as the kernel allows
};
// NULL with a sentence in error: what happened and what to do.
struct port *port_udp_open(const struct port_udp_options *options, char error[256]);

// Links of one node: one to each peer of the largest cluster, and one to the clients.
#define PORT_DPDK_DEVICES_MAX 8u

struct port_dpdk_options {
    uint64_t endpoint; // our IPv4 address and UDP port
    const char *eal;   // EAL arguments, blank-separated, without the program's name
    // Ethdev names, e.g. net_af_packet0 or 0000:01:00.0, separated by commas; NULL: the only one.
    const char *device;
    uint32_t rx_queue_descriptors;
    uint32_t tx_queue_descriptors;
    uint32_t gateway;      // IPv4 of the next hop for other subnets, 0: all neighbours are on-link
    uint8_t prefix_length; // of our subnet; 0: all on-link
};
struct port *port_dpdk_open(const struct port_dpdk_options *options, char error[256]);

#endif
