// A port over DPDK ethdevs: one receive queue and one transmit queue of each, polled.
//
// A receive burst takes up to 32 frames, parses each (net_frame.h), copies datagrams for us into
// the caller's packets, answers ARP and ICMP echo, and learns neighbours on the way. A transmit
// burst copies the caller's packets into mbufs behind headers made here and hands them to the
// devices, each in one call; what a device has no room for is dropped and counted.
//
// A node may have several links: a cable to each peer and one to the clients, or two switches. Its
// address is the same on all of them. Which link a neighbour is on is learned with its MAC; who is
// not known is asked for on all.
//
// EAL strings that work (DPDK 22.11, several processes on one machine; P stands for a name of the
// process's own, unique on the machine). None looks for PCI devices; tests/cluster/port_veth.sh
// runs them all.
//
//   Without hugepages:
//     --no-huge -m 64 --no-pci --no-telemetry --file-prefix P --vdev net_af_packet0,iface=veth0
//     --no-huge -m 64 --no-pci --no-telemetry --file-prefix P --vdev net_af_xdp0,iface=veth0
//     --no-huge -m 64 --no-pci --no-telemetry --file-prefix P
//         --vdev net_memif0,role=server,socket=/run/a-b.sock,socket-abstract=no
//   and role=client at the other end. With 2 MiB hugepages (32 free ones per process), given back
//   when the process ends, however it does, and needing neither a mount nor a prefix, the first
//   part is instead:
//     --in-memory -m 64 --no-pci --no-telemetry
//   A real NIC bound to vfio-pci: --in-memory --no-telemetry -a 0000:01:00.0
//
// qdisc_bypass=1 after iface= makes af_packet a little quicker, busy_budget=0 spares af_xdp a
// system call for each empty poll. An interface under either must be up and carry no IP address of
// its own: else the kernel answers the same datagrams, with "port unreachable".
// LIBXDP_SKIP_DISPATCHER=1 in the environment quietens libxdp.
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "counters.h"
#include "dpdk_device.h"
#include "dpdk_eal.h"
#include "net_frame.h"
#include "net_neighbours.h"
#include "port/port.h"

// At its start a port says three times, a second apart, where its address is now (RFC 5227, 2.3): a
// node that came back with another MAC, as each memif does, is then found at once.
#define ANNOUNCEMENTS   3u
#define ANNOUNCE_GAP_NS 1000000000ull

struct port_dpdk {
    struct port port;     // first: ops get this
    uint32_t announced;   // how many times
    uint64_t announce_ns; // when to do so next
    uint32_t device_count;
    uint32_t first; // device polled first, in turn, so that none starves the others
    struct dpdk_device devices[PORT_DPDK_DEVICES_MAX];
    struct net_neighbours neighbours;
};

static void count(struct port_dpdk *dpdk, enum port_counter counter, uint64_t n) {
    COUNTER_ADD(dpdk->port.counters[counter], n);
}

// How many datagrams went out.
static uint32_t flush(struct port_dpdk *dpdk, struct dpdk_device *device) {
    if (device->staged_count + device->answer_count == 0) return 0;
    struct dpdk_sent sent = dpdk_device_flush(device);
    if (sent.full != 0) count(dpdk, PORT_COUNT_TX_DROP_FULL, sent.full);
    if (sent.refused != 0) count(dpdk, PORT_COUNT_TX_ERRORS, sent.refused);
    if (sent.packets == 0) return 0;
    count(dpdk, PORT_COUNT_TX_PACKETS, sent.packets);
    count(dpdk, PORT_COUNT_TX_BYTES, sent.bytes);
    return sent.packets;
}

// ---------------------------------------------------------------- ARP and ICMP answers

// Room for one frame of our own; NULL if there is none.
static struct rte_mbuf *new_answer(struct port_dpdk *dpdk, struct dpdk_device *device) {
    struct rte_mbuf *mbuf = NULL;
    if (device->answer_count < DPDK_ANSWERS_MAX) mbuf = rte_pktmbuf_alloc(device->pool);
    if (mbuf == NULL) count(dpdk, PORT_COUNT_TX_DROP_FULL, 1);
    return mbuf;
}

static void keep_answer(struct dpdk_device *device, struct rte_mbuf *mbuf, uint32_t length) {
    mbuf->data_len = (uint16_t)length;
    mbuf->pkt_len = length;
    device->answers[device->answer_count++] = mbuf;
}

static void ask_for(struct port_dpdk *dpdk, uint32_t address) {
    for (uint32_t i = 0; i < dpdk->device_count; i++) {
        struct dpdk_device *device = &dpdk->devices[i];
        struct rte_mbuf *mbuf = new_answer(dpdk, device);
        if (mbuf == NULL) continue;
        uint8_t *out = rte_pktmbuf_mtod(mbuf, uint8_t *);
        keep_answer(device, mbuf, net_build_arp_request(&device->host, address, out));
        count(dpdk, PORT_COUNT_ARP_SENT, 1);
    }
}

static void announce(struct port_dpdk *dpdk, uint64_t now_ns) {
    if (now_ns < dpdk->announce_ns) return;
    dpdk->announced++;
    dpdk->announce_ns = now_ns + ANNOUNCE_GAP_NS;
    ask_for(dpdk, dpdk->devices[0].host.address); // sender and target the same: an announcement
    for (uint32_t i = 0; i < dpdk->device_count; i++) flush(dpdk, &dpdk->devices[i]);
}

static void answer(struct port_dpdk *dpdk, struct dpdk_device *device, enum net_verdict verdict,
                   const struct net_parsed *parsed) {
    struct rte_mbuf *mbuf = new_answer(dpdk, device);
    if (mbuf == NULL) return;
    uint8_t *out = rte_pktmbuf_mtod(mbuf, uint8_t *);
    bool arp = verdict == NET_ARP_REQUEST;
    keep_answer(device, mbuf,
                arp ? net_build_arp_reply(&device->host, parsed, out)
                    : net_build_echo_reply(&device->host, parsed, out));
    count(dpdk, arp ? PORT_COUNT_ARP_REQUESTS : PORT_COUNT_ICMP_ECHO, 1);
}

// ---------------------------------------------------------------- receiving

static void learn(struct port_dpdk *dpdk, const struct dpdk_device *device, uint64_t now_ns,
                  enum net_verdict verdict, const struct net_parsed *parsed) {
    uint32_t address = parsed->source_address;
    if (address == 0 || !net_on_link(&device->host, address)) return; // ARP probe; via the gateway
    enum net_source source = verdict == NET_ARP_REQUEST ? NET_SOURCE_REQUEST
                             : verdict == NET_ARP_NEWS  ? NET_SOURCE_ARP
                                                        : NET_SOURCE_FRAME;
    net_neighbours_learn(&dpdk->neighbours, now_ns, address, parsed->source_mac,
                         (uint8_t)(device - dpdk->devices), source);
}

// True if `packet` was filled.
static bool receive(struct port_dpdk *dpdk, struct dpdk_device *device, uint64_t now_ns,
                    const struct rte_mbuf *mbuf, struct packet *packet) {
    static const enum port_counter drops[NET_VERDICTS] = {
        [NET_DROP_SHORT] = PORT_COUNT_RX_DROP_SHORT,
        [NET_DROP_OVERSIZE] = PORT_COUNT_RX_DROP_OVERSIZE,
        [NET_DROP_CHECKSUM] = PORT_COUNT_RX_DROP_CHECKSUM,
        [NET_DROP_FRAGMENT] = PORT_COUNT_RX_DROP_FRAGMENT,
        [NET_DROP_OTHER] = PORT_COUNT_RX_DROP_OTHER,
    };
    struct net_parsed parsed;
    enum net_verdict verdict = NET_DROP_OVERSIZE; // in several segments: more than an MTU
    if (mbuf->nb_segs == 1) {
        verdict = net_parse(&device->host, rte_pktmbuf_mtod(mbuf, const uint8_t *), mbuf->data_len,
                            dpdk_device_trust(device, mbuf), &parsed);
    }
    if (verdict >= NET_DROP_SHORT) {
        count(dpdk, drops[verdict], 1);
        return false;
    }
    learn(dpdk, device, now_ns, verdict, &parsed);
    if (verdict == NET_ARP_REQUEST || verdict == NET_ECHO_REQUEST)
        answer(dpdk, device, verdict, &parsed);
    if (verdict != NET_DATAGRAM) return false;
    memcpy(packet->data, parsed.payload, parsed.payload_length);
    packet->endpoint = wire_endpoint_pack(parsed.source_address, parsed.source_port);
    packet->time_ns = now_ns;
    packet->length = parsed.payload_length;
    return true;
}

// Takes a burst from one device.
static uint32_t receive_burst(struct port_dpdk *dpdk, struct dpdk_device *device, uint64_t now_ns,
                              struct packet *const *packets, uint32_t room) {
    struct rte_mbuf *mbufs[PACKET_BURST];
    uint32_t received = rte_eth_rx_burst(device->id, 0, mbufs, (uint16_t)room);
    if (received == 0) return 0;
    uint32_t filled = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < received; i++) {
        if (i + 1 < received) rte_prefetch0(rte_pktmbuf_mtod(mbufs[i + 1], const void *));
        if (!receive(dpdk, device, now_ns, mbufs[i], packets[filled])) continue;
        bytes += packets[filled]->length;
        filled++;
    }
    rte_pktmbuf_free_bulk(mbufs, received);
    flush(dpdk, device);
    if (filled != 0) {
        count(dpdk, PORT_COUNT_RX_PACKETS, filled);
        count(dpdk, PORT_COUNT_RX_BYTES, bytes);
    }
    return filled;
}

static uint32_t dpdk_rx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                              uint32_t wanted) {
    struct port_dpdk *dpdk = (struct port_dpdk *)port;
    dpdk_eal_adopt_thread();
    if (dpdk->announced < ANNOUNCEMENTS) announce(dpdk, now_ns);
    uint32_t room = wanted < PACKET_BURST ? wanted : PACKET_BURST;
    uint32_t filled = 0;
    if (++dpdk->first >= dpdk->device_count) dpdk->first = 0;
    for (uint32_t i = 0, at = dpdk->first; i < dpdk->device_count && filled < room; i++) {
        filled += receive_burst(dpdk, &dpdk->devices[at], now_ns, packets + filled, room - filled);
        if (++at == dpdk->device_count) at = 0;
    }
    return filled;
}

// ---------------------------------------------------------------- sending

// Puts the packet's frame on the device it leaves through, or counts why it cannot be sent now.
static void stage(struct port_dpdk *dpdk, uint64_t now_ns, const struct packet *packet) {
    assert(packet->length <= WIRE_FRAME_MAX);
    uint32_t hop = net_next_hop(&dpdk->devices[0].host, (uint32_t)(packet->endpoint >> 16));
    if (hop == 0 || (uint16_t)packet->endpoint == 0) {
        count(dpdk, PORT_COUNT_TX_ERRORS, 1);
        return;
    }
    struct net_route route = net_neighbours_find(&dpdk->neighbours, now_ns, hop);
    if (route.ask) ask_for(dpdk, hop);
    if (!route.ready) {
        count(dpdk, PORT_COUNT_TX_DROP_UNRESOLVED, 1);
        return;
    }
    struct dpdk_device *device = &dpdk->devices[route.link];
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(device->pool);
    if (mbuf == NULL) {
        count(dpdk, PORT_COUNT_TX_DROP_FULL, 1);
        return;
    }
    uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
    memcpy(frame + NET_HEADERS_BYTES, packet->data, packet->length);
    enum net_checksums checksums = device->offload_flags ? NET_CHECKSUM_DEVICE : NET_CHECKSUM_FULL;
    uint32_t length =
        net_build_udp(&device->host, route.mac, packet->endpoint, packet->length, checksums, frame);
    mbuf->data_len = (uint16_t)length;
    mbuf->pkt_len = length;
    mbuf->ol_flags |= device->offload_flags;
    mbuf->l2_len = NET_ETHERNET_BYTES;
    mbuf->l3_len = NET_IPV4_BYTES;
    uint32_t at = device->staged_count++;
    device->staged[at] = mbuf;
    device->staged_until[at + 1] = device->staged_until[at] + packet->length;
}

static uint32_t dpdk_tx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                              uint32_t total) {
    struct port_dpdk *dpdk = (struct port_dpdk *)port;
    dpdk_eal_adopt_thread();
    uint32_t sent = 0;
    for (uint32_t at = 0; at < total;) {
        uint32_t end = total - at < PACKET_BURST ? total : at + PACKET_BURST;
        while (at < end) stage(dpdk, now_ns, packets[at++]);
        for (uint32_t i = 0; i < dpdk->device_count; i++) sent += flush(dpdk, &dpdk->devices[i]);
    }
    return sent;
}

static int dpdk_wait_fd(struct port *port) {
    (void)port;
    return -1;
}

static void dpdk_close(struct port *port) {
    struct port_dpdk *dpdk = (struct port_dpdk *)port;
    for (uint32_t i = 0; i < dpdk->device_count; i++) dpdk_device_close(&dpdk->devices[i]);
    free(dpdk);
}

static const struct port_ops dpdk_ops = {
    .rx_burst = dpdk_rx_burst,
    .tx_burst = dpdk_tx_burst,
    .wait_fd = dpdk_wait_fd,
    .close = dpdk_close,
};

// ---------------------------------------------------------------- opening

static bool check_options(const struct port_dpdk_options *options, char error[256]) {
    struct net_host host = {.address = (uint32_t)(options->endpoint >> 16) ^ 1u};
    const char *wrong = NULL;
    if (net_next_hop(&host, (uint32_t)(options->endpoint >> 16)) == 0) {
        wrong = "needs an IPv4 address of its own (not 0.0.0.0, not multicast): set one";
    } else if ((uint16_t)options->endpoint == 0) {
        wrong = "needs a UDP port number: it cannot pick one";
    } else if (options->prefix_length > 32) {
        wrong = "has a subnet prefix longer than 32 bits: correct it";
    } else if (options->rx_queue_descriptors > 32768 || options->tx_queue_descriptors > 32768) {
        wrong = "has more than 32768 queue descriptors: lower the number";
    }
    if (wrong != NULL) snprintf(error, 256, "a DPDK port %s", wrong);
    return wrong == NULL;
}

struct port *port_dpdk_open(const struct port_dpdk_options *options, char error[256]) {
    uint16_t ids[PORT_DPDK_DEVICES_MAX];
    if (!check_options(options, error) || !dpdk_eal_start(options->eal, error)) return NULL;
    uint32_t wanted = dpdk_devices_find(options->device, ids, error);
    if (wanted == 0) return NULL;
    struct port_dpdk *dpdk = aligned_alloc(64, (sizeof *dpdk + 63) & ~(size_t)63);
    if (dpdk == NULL) {
        snprintf(error, 256, "no memory for a DPDK port: free some and start again");
        return NULL;
    }
    memset(dpdk, 0, sizeof *dpdk);
    dpdk->port.ops = &dpdk_ops;
    dpdk->port.endpoint = options->endpoint;
    while (dpdk->device_count < wanted) {
        struct dpdk_device *device = &dpdk->devices[dpdk->device_count];
        if (!dpdk_device_open(device, ids[dpdk->device_count], options, error)) {
            dpdk_close(&dpdk->port);
            return NULL;
        }
        dpdk->device_count++;
    }
    return &dpdk->port;
}
