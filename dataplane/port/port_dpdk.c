// A port over any DPDK ethdev: one receive queue, one transmit queue, polled.
//
// A receive burst takes up to 32 frames, parses each (net_frame.h), copies datagrams for us into
// the caller's packets, answers ARP and ICMP echo, and learns neighbours on the way. A transmit
// burst copies the caller's packets into mbufs behind headers made here and hands them to the
// device in one call; what the device has no room for is dropped and counted.
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
// qdisc_bypass=1 after iface= makes af_packet a little quicker. An interface under af_packet or
// af_xdp must be up and carry no IP address of its own: else the kernel answers the same datagrams,
// with "port unreachable". LIBXDP_SKIP_DISPATCHER=1 in the environment quietens libxdp.
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "counters.h"
#include "dpdk_eal.h"
#include "net_frame.h"
#include "net_neighbours.h"
#include "port/port.h"

static_assert(RTE_MBUF_DEFAULT_DATAROOM >= NET_FRAME_MAX, "a frame fits one mbuf");

// Frames the port itself wants to send during one burst: at most one per frame received or sent.
#define ANSWERS_MAX PACKET_BURST
// Per-lcore cache of the mempool: one burst in and one out without touching the shared ring.
#define POOL_CACHE (2u * PACKET_BURST)
// What a driver keeps for itself beyond its descriptors: af_xdp's fill and completion rings of
// 2,048 each, memif's and ring's own queues are smaller.
#define POOL_DRIVER 4096u

// At its start a port says three times, a second apart, where its address is now (RFC 5227, 2.3): a
// node that came back with another MAC, as each memif does, is then found at once.
#define ANNOUNCEMENTS   3u
#define ANNOUNCE_GAP_NS 1000000000ull

struct port_dpdk {
    struct port port; // first: ops get this
    uint16_t id;
    uint32_t trust;         // enum net_trust for all frames of this device
    uint64_t offload_flags; // for a UDP mbuf; 0: checksums in software
    struct rte_mempool *pool;
    uint32_t announced;   // how many times
    uint64_t announce_ns; // when to do so next
    uint32_t answer_count;
    struct rte_mbuf *answers[ANSWERS_MAX];
    struct net_host host;
    struct net_neighbours neighbours;
};

static void count(struct port_dpdk *dpdk, enum port_counter counter, uint64_t n) {
    COUNTER_ADD(dpdk->port.counters[counter], n);
}

// ---------------------------------------------------------------- ARP and ICMP answers

// Room for one frame of our own; NULL if there is none.
static struct rte_mbuf *new_answer(struct port_dpdk *dpdk) {
    struct rte_mbuf *mbuf = dpdk->answer_count < ANSWERS_MAX ? rte_pktmbuf_alloc(dpdk->pool) : NULL;
    if (mbuf == NULL) count(dpdk, PORT_COUNT_TX_DROP_FULL, 1);
    return mbuf;
}

static void keep_answer(struct port_dpdk *dpdk, struct rte_mbuf *mbuf, uint32_t length) {
    mbuf->data_len = (uint16_t)length;
    mbuf->pkt_len = length;
    dpdk->answers[dpdk->answer_count++] = mbuf;
}

static void send_answers(struct port_dpdk *dpdk) {
    if (dpdk->answer_count == 0) return;
    uint16_t total = (uint16_t)dpdk->answer_count;
    uint16_t sent = rte_eth_tx_burst(dpdk->id, 0, dpdk->answers, total);
    if (sent < total) {
        rte_pktmbuf_free_bulk(dpdk->answers + sent, total - sent);
        count(dpdk, PORT_COUNT_TX_DROP_FULL, total - sent);
    }
    dpdk->answer_count = 0;
}

static void ask_for(struct port_dpdk *dpdk, uint32_t address) {
    struct rte_mbuf *mbuf = new_answer(dpdk);
    if (mbuf == NULL) return;
    keep_answer(dpdk, mbuf,
                net_build_arp_request(&dpdk->host, address, rte_pktmbuf_mtod(mbuf, uint8_t *)));
    count(dpdk, PORT_COUNT_ARP_SENT, 1);
}

static void announce(struct port_dpdk *dpdk, uint64_t now_ns) {
    if (now_ns < dpdk->announce_ns) return;
    dpdk->announced++;
    dpdk->announce_ns = now_ns + ANNOUNCE_GAP_NS;
    ask_for(dpdk, dpdk->host.address); // sender and target the same: an announcement
    send_answers(dpdk);
}

static void answer(struct port_dpdk *dpdk, enum net_verdict verdict,
                   const struct net_parsed *parsed) {
    struct rte_mbuf *mbuf = new_answer(dpdk);
    if (mbuf == NULL) return;
    uint8_t *out = rte_pktmbuf_mtod(mbuf, uint8_t *);
    bool arp = verdict == NET_ARP_REQUEST;
    keep_answer(dpdk, mbuf,
                arp ? net_build_arp_reply(&dpdk->host, parsed, out)
                    : net_build_echo_reply(&dpdk->host, parsed, out));
    count(dpdk, arp ? PORT_COUNT_ARP_REQUESTS : PORT_COUNT_ICMP_ECHO, 1);
}

// ---------------------------------------------------------------- receiving

static void learn(struct port_dpdk *dpdk, uint64_t now_ns, enum net_verdict verdict,
                  const struct net_parsed *parsed) {
    uint32_t address = parsed->source_address;
    if (address == 0 || !net_on_link(&dpdk->host, address)) return; // ARP probe; via the gateway
    enum net_source source = verdict == NET_ARP_REQUEST ? NET_SOURCE_REQUEST
                             : verdict == NET_ARP_NEWS  ? NET_SOURCE_ARP
                                                        : NET_SOURCE_FRAME;
    net_neighbours_learn(&dpdk->neighbours, now_ns, address, parsed->source_mac, source);
}

// Checksums as far as the device has seen to them. "None" is what a device says of a frame whose
// checksum is not filled in but whose data it vouches for.
static uint32_t trust_of(const struct port_dpdk *dpdk, const struct rte_mbuf *mbuf) {
    uint32_t trust = dpdk->trust;
    uint64_t ip = mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    uint64_t udp = mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
    if (ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD) trust |= NET_TRUST_IPV4;
    if (udp == RTE_MBUF_F_RX_L4_CKSUM_GOOD || udp == RTE_MBUF_F_RX_L4_CKSUM_NONE) {
        trust |= NET_TRUST_UDP;
    }
    return trust;
}

// True if `packet` was filled.
static bool receive(struct port_dpdk *dpdk, uint64_t now_ns, struct rte_mbuf *mbuf,
                    struct packet *packet) {
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
        verdict = net_parse(&dpdk->host, rte_pktmbuf_mtod(mbuf, const uint8_t *), mbuf->data_len,
                            trust_of(dpdk, mbuf), &parsed);
    }
    if (verdict >= NET_DROP_SHORT) {
        count(dpdk, drops[verdict], 1);
        return false;
    }
    learn(dpdk, now_ns, verdict, &parsed);
    if (verdict == NET_ARP_REQUEST || verdict == NET_ECHO_REQUEST) answer(dpdk, verdict, &parsed);
    if (verdict != NET_DATAGRAM) return false;
    memcpy(packet->data, parsed.payload, parsed.payload_length);
    packet->endpoint = wire_endpoint_pack(parsed.source_address, parsed.source_port);
    packet->time_ns = now_ns;
    packet->length = parsed.payload_length;
    return true;
}

static uint32_t dpdk_rx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                              uint32_t wanted) {
    struct port_dpdk *dpdk = (struct port_dpdk *)port;
    struct rte_mbuf *mbufs[PACKET_BURST];
    dpdk_eal_adopt_thread();
    if (dpdk->announced < ANNOUNCEMENTS) announce(dpdk, now_ns);
    uint32_t room = wanted < PACKET_BURST ? wanted : PACKET_BURST;
    uint32_t received = rte_eth_rx_burst(dpdk->id, 0, mbufs, (uint16_t)room);
    if (received == 0) return 0;
    uint32_t filled = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < received; i++) {
        if (i + 1 < received) rte_prefetch0(rte_pktmbuf_mtod(mbufs[i + 1], const void *));
        if (!receive(dpdk, now_ns, mbufs[i], packets[filled])) continue;
        bytes += packets[filled]->length;
        filled++;
    }
    rte_pktmbuf_free_bulk(mbufs, received);
    send_answers(dpdk);
    if (filled != 0) {
        count(dpdk, PORT_COUNT_RX_PACKETS, filled);
        count(dpdk, PORT_COUNT_RX_BYTES, bytes);
    }
    return filled;
}

// ---------------------------------------------------------------- sending

// Fills `mbuf` with the packet's frame. False: it cannot be sent now, and was counted.
static bool prepare(struct port_dpdk *dpdk, uint64_t now_ns, const struct packet *packet,
                    struct rte_mbuf *mbuf) {
    assert(packet->length <= WIRE_FRAME_MAX);
    uint32_t hop = net_next_hop(&dpdk->host, (uint32_t)(packet->endpoint >> 16));
    if (hop == 0 || (uint16_t)packet->endpoint == 0) {
        count(dpdk, PORT_COUNT_TX_ERRORS, 1);
        return false;
    }
    struct net_route route = net_neighbours_find(&dpdk->neighbours, now_ns, hop);
    if (route.ask) ask_for(dpdk, hop);
    if (!route.ready) {
        count(dpdk, PORT_COUNT_TX_DROP_UNRESOLVED, 1);
        return false;
    }
    uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
    memcpy(frame + NET_HEADERS_BYTES, packet->data, packet->length);
    enum net_checksums checksums = dpdk->offload_flags ? NET_CHECKSUM_DEVICE : NET_CHECKSUM_FULL;
    uint32_t length =
        net_build_udp(&dpdk->host, route.mac, packet->endpoint, packet->length, checksums, frame);
    mbuf->data_len = (uint16_t)length;
    mbuf->pkt_len = length;
    mbuf->ol_flags |= dpdk->offload_flags;
    mbuf->l2_len = NET_ETHERNET_BYTES;
    mbuf->l3_len = NET_IPV4_BYTES;
    return true;
}

// Hands over `ready` frames; frees and counts what the device does not take.
static uint32_t transmit(struct port_dpdk *dpdk, struct rte_mbuf **mbufs, uint32_t ready) {
    uint32_t good = ready;
    if (dpdk->offload_flags) {
        good = rte_eth_tx_prepare(dpdk->id, 0, mbufs, (uint16_t)ready);
        if (good < ready) count(dpdk, PORT_COUNT_TX_ERRORS, ready - good);
    }
    uint32_t sent = rte_eth_tx_burst(dpdk->id, 0, mbufs, (uint16_t)good);
    if (sent < good) count(dpdk, PORT_COUNT_TX_DROP_FULL, good - sent);
    if (sent < ready) rte_pktmbuf_free_bulk(mbufs + sent, ready - sent);
    return sent;
}

static uint32_t send_burst(struct port_dpdk *dpdk, uint64_t now_ns, struct packet *const *packets,
                           uint32_t total) {
    struct rte_mbuf *mbufs[PACKET_BURST];
    uint64_t bytes_until[PACKET_BURST + 1] = {0};
    if (rte_pktmbuf_alloc_bulk(dpdk->pool, mbufs, total) != 0) {
        count(dpdk, PORT_COUNT_TX_DROP_FULL, total);
        return 0;
    }
    uint32_t ready = 0;
    for (uint32_t i = 0; i < total; i++) {
        if (!prepare(dpdk, now_ns, packets[i], mbufs[ready])) continue;
        bytes_until[ready + 1] = bytes_until[ready] + packets[i]->length;
        ready++;
    }
    if (ready < total) rte_pktmbuf_free_bulk(mbufs + ready, total - ready);
    uint32_t sent = ready != 0 ? transmit(dpdk, mbufs, ready) : 0;
    count(dpdk, PORT_COUNT_TX_PACKETS, sent);
    count(dpdk, PORT_COUNT_TX_BYTES, bytes_until[sent]);
    return sent;
}

static uint32_t dpdk_tx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                              uint32_t total) {
    struct port_dpdk *dpdk = (struct port_dpdk *)port;
    dpdk_eal_adopt_thread();
    uint32_t sent = 0;
    for (uint32_t first = 0; first < total; first += PACKET_BURST) {
        uint32_t burst = total - first < PACKET_BURST ? total - first : PACKET_BURST;
        sent += send_burst(dpdk, now_ns, packets + first, burst);
    }
    send_answers(dpdk);
    return sent;
}

static int dpdk_wait_fd(struct port *port) {
    (void)port;
    return -1;
}

static void dpdk_close(struct port *port) {
    struct port_dpdk *dpdk = (struct port_dpdk *)port;
    rte_eth_dev_stop(dpdk->id);
    rte_eth_dev_close(dpdk->id);
    rte_mempool_free(dpdk->pool);
    free(dpdk);
}

static const struct port_ops dpdk_ops = {
    .rx_burst = dpdk_rx_burst,
    .tx_burst = dpdk_tx_burst,
    .wait_fd = dpdk_wait_fd,
    .close = dpdk_close,
};

// ---------------------------------------------------------------- opening

static void list_devices(char *text, size_t room) {
    size_t used = 0;
    uint16_t id;
    text[0] = 0;
    RTE_ETH_FOREACH_DEV(id) {
        char name[RTE_ETH_NAME_MAX_LEN];
        if (rte_eth_dev_get_name_by_port(id, name) != 0 || used + 1 >= room) continue;
        int wrote = snprintf(text + used, room - used, "%s%s", used ? ", " : "", name);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    if (used == 0) snprintf(text, room, "none");
}

static bool find_device(const char *device, uint16_t *id, char error[256]) {
    char names[96];
    if (device != NULL) {
        if (rte_eth_dev_get_port_by_name(device, id) == 0) return true;
        list_devices(names, sizeof names);
        snprintf(error, 256,
                 "no DPDK device is called %.32s; there are: %s. Add a --vdev to the EAL "
                 "arguments, or bind the NIC to vfio-pci",
                 device, names);
        return false;
    }
    if (rte_eth_dev_count_avail() == 1) {
        *id = (uint16_t)rte_eth_find_next_owned_by(0, RTE_ETH_DEV_NO_OWNER);
        return true;
    }
    if (rte_eth_dev_count_avail() == 0) {
        snprintf(error, 256,
                 "DPDK has no device: its own lines above say why one failed; else add a --vdev to "
                 "the EAL arguments, or bind the NIC to vfio-pci");
        return false;
    }
    list_devices(names, sizeof names);
    snprintf(error, 256,
             "which DPDK device? There are: %s. Name one, or have exactly one (--vdev, vfio-pci)",
             names);
    return false;
}

// Devices that hand over what kernel sockets of this machine sent: see net_frame.h. (net_tap does
// so too, but the kernel completes checksums before it writes to a tap.)
static bool leaves_checksums_partial(const char *driver) {
    return strcmp(driver, "net_af_packet") == 0 || strcmp(driver, "net_af_xdp") == 0 ||
           strcmp(driver, "net_pcap") == 0;
}

// Every holder of an mbuf, named; a pool smaller than their sum can run dry and stop the device.
static uint32_t pool_size(uint16_t rx_descriptors, uint16_t tx_descriptors) {
    return rx_descriptors    // waiting to be filled by the device
           + tx_descriptors  // waiting to be sent or reclaimed
           + PACKET_BURST    // one receive burst in our hands
           + PACKET_BURST    // one transmit burst in our hands
           + ANSWERS_MAX     // ARP and ICMP of our own
           + 2u * POOL_CACHE // idle in the polling thread's cache, which may overfill by half
           + POOL_DRIVER;
}

static bool set_up_queues(struct port_dpdk *dpdk, const struct port_dpdk_options *options,
                          const struct rte_eth_dev_info *info, char error[256]) {
    uint16_t rx = (uint16_t)(options->rx_queue_descriptors ? options->rx_queue_descriptors : 512);
    uint16_t tx = (uint16_t)(options->tx_queue_descriptors ? options->tx_queue_descriptors : 512);
    const char *step = "configured";
    struct rte_eth_conf conf = {0};
    if (dpdk->offload_flags) {
        conf.txmode.offloads = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    }
    conf.rxmode.offloads =
        info->rx_offload_capa & (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
    int result = rte_eth_dev_configure(dpdk->id, 1, 1, &conf);
    if (result == 0) {
        step = "given its queues";
        result = rte_eth_dev_adjust_nb_rx_tx_desc(dpdk->id, &rx, &tx);
    }
    if (result == 0) {
        char name[32];
        snprintf(name, sizeof name, "conclave_port_%u", dpdk->id);
        dpdk->pool = rte_pktmbuf_pool_create(name, pool_size(rx, tx), POOL_CACHE, 0,
                                             RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
        if (dpdk->pool == NULL) {
            snprintf(error, 256,
                     "no memory for %u packet buffers (%s): give EAL more, -m 64 with --no-huge, "
                     "else more hugepages",
                     pool_size(rx, tx), rte_strerror(rte_errno));
            return false;
        }
        result = rte_eth_rx_queue_setup(dpdk->id, 0, rx, SOCKET_ID_ANY, NULL, dpdk->pool);
    }
    if (result == 0) result = rte_eth_tx_queue_setup(dpdk->id, 0, tx, SOCKET_ID_ANY, NULL);
    if (result == 0) {
        step = "started";
        result = rte_eth_dev_start(dpdk->id);
    }
    if (result == 0) return true;
    snprintf(error, 256,
             "DPDK device %u (%s) could not be %s: %s; CONCLAVE_EAL_LOG=debug tells more", dpdk->id,
             info->driver_name, step, rte_strerror(-result));
    return false;
}

static void set_host(struct port_dpdk *dpdk, const struct port_dpdk_options *options) {
    struct net_host *host = &dpdk->host;
    host->address = (uint32_t)(options->endpoint >> 16);
    host->port = (uint16_t)options->endpoint;
    host->gateway = options->gateway;
    host->mask = options->prefix_length ? UINT32_MAX << (32 - options->prefix_length) : 0;
    struct rte_ether_addr mac = {0};
    rte_eth_macaddr_get(dpdk->id, &mac);
    if (rte_is_zero_ether_addr(&mac)) {
        // Ring devices have none: a locally administered one made of our address.
        mac.addr_bytes[0] = 0x02;
        for (uint32_t i = 0; i < 4; i++) {
            mac.addr_bytes[2 + i] = (uint8_t)(host->address >> (24 - 8 * i));
        }
    }
    memcpy(host->mac, mac.addr_bytes, NET_MAC_BYTES);
}

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
    uint16_t id = 0;
    if (!check_options(options, error) || !dpdk_eal_start(options->eal, error) ||
        !find_device(options->device, &id, error)) {
        return NULL;
    }
    struct rte_eth_dev_info info;
    int result = rte_eth_dev_info_get(id, &info);
    if (result != 0) {
        snprintf(error, 256, "DPDK device %u does not tell what it can: %s; try another driver", id,
                 rte_strerror(-result));
        return NULL;
    }
    struct port_dpdk *dpdk = aligned_alloc(64, (sizeof *dpdk + 63) & ~(size_t)63);
    if (dpdk == NULL) {
        snprintf(error, 256, "no memory for a DPDK port: free some and start again");
        return NULL;
    }
    memset(dpdk, 0, sizeof *dpdk);
    dpdk->port.ops = &dpdk_ops;
    dpdk->port.endpoint = options->endpoint;
    dpdk->id = id;
    dpdk->trust = leaves_checksums_partial(info.driver_name) ? NET_TRUST_PARTIAL : 0;
    uint64_t needed = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    if ((info.tx_offload_capa & needed) == needed) {
        dpdk->offload_flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_UDP_CKSUM;
    }
    set_host(dpdk, options);
    if (!set_up_queues(dpdk, options, &info, error)) {
        rte_mempool_free(dpdk->pool);
        free(dpdk);
        return NULL;
    }
    return &dpdk->port;
}
