// See dpdk_device.h.
#include "dpdk_device.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_ethdev.h>

static_assert(RTE_MBUF_DEFAULT_DATAROOM >= NET_FRAME_MAX, "a frame fits one mbuf");

// Per-lcore cache of the mempool: one burst in and one out without touching the shared ring.
#define POOL_CACHE (2u * PACKET_BURST)
// What a driver keeps for itself beyond its descriptors: af_xdp's fill and completion rings of
// 2,048 each, memif's and ring's own queues are smaller.
#define POOL_DRIVER 4096u

// ---------------------------------------------------------------- finding

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

static uint32_t find_only(uint16_t ids[PORT_DPDK_DEVICES_MAX], char error[256]) {
    char names[96];
    if (rte_eth_dev_count_avail() == 1) {
        ids[0] = (uint16_t)rte_eth_find_next_owned_by(0, RTE_ETH_DEV_NO_OWNER);
        return 1;
    }
    if (rte_eth_dev_count_avail() == 0) {
        snprintf(error, 256,
                 "DPDK has no device: its own lines above say why one failed; else add a --vdev to "
                 "the EAL arguments, or bind the NIC to vfio-pci");
        return 0;
    }
    list_devices(names, sizeof names);
    snprintf(error, 256,
             "which DPDK device? There are: %s. Name the one, or several, or have exactly one "
             "(--vdev, vfio-pci)",
             names);
    return 0;
}

// Adds the device called `name`. False with a sentence in error.
static bool find_one(const char *name, uint16_t *ids, uint32_t count, char error[256]) {
    char names[96];
    if (count == PORT_DPDK_DEVICES_MAX) {
        snprintf(error, 256, "more than %u DPDK devices are named: a port has one per link",
                 PORT_DPDK_DEVICES_MAX);
        return false;
    }
    if (rte_eth_dev_get_port_by_name(name, &ids[count]) != 0) {
        list_devices(names, sizeof names);
        snprintf(error, 256,
                 "no DPDK device is called %.32s; there are: %s. Add a --vdev to the EAL "
                 "arguments, or bind the NIC to vfio-pci",
                 name, names);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] != ids[count]) continue;
        snprintf(error, 256, "the DPDK device %.32s is named twice: once is enough", name);
        return false;
    }
    return true;
}

uint32_t dpdk_devices_find(const char *names, uint16_t ids[PORT_DPDK_DEVICES_MAX],
                           char error[256]) {
    static const char between[] = ", \t";
    uint32_t count = 0;
    if (names == NULL) return find_only(ids, error);
    for (const char *at = names + strspn(names, between); *at != 0; at += strspn(at, between)) {
        char name[RTE_ETH_NAME_MAX_LEN];
        size_t length = strcspn(at, between);
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        if (!find_one(name, ids, count, error)) return 0;
        count++;
        at += length;
    }
    if (count == 0) snprintf(error, 256, "no DPDK device is named in \"%.32s\": name one", names);
    return count;
}

// ---------------------------------------------------------------- opening

// Devices that hand over what kernel sockets of this machine sent: see net_frame.h. (net_tap does
// so too, but the kernel completes checksums before it writes to a tap.)
static bool leaves_checksums_partial(const char *driver) {
    return strcmp(driver, "net_af_packet") == 0 || strcmp(driver, "net_af_xdp") == 0 ||
           strcmp(driver, "net_pcap") == 0;
}

// Every holder of an mbuf, named; a pool smaller than their sum can run dry and stop the device.
static uint32_t pool_size(uint16_t rx_descriptors, uint16_t tx_descriptors) {
    return rx_descriptors     // waiting to be filled by the device
           + tx_descriptors   // waiting to be sent or reclaimed
           + PACKET_BURST     // one receive burst in our hands
           + PACKET_BURST     // one transmit burst in our hands
           + DPDK_ANSWERS_MAX // ARP and ICMP of our own
           + 2u * POOL_CACHE  // idle in the polling thread's cache, which may overfill by half
           + POOL_DRIVER;
}

static bool set_up_queues(struct dpdk_device *device, const struct port_dpdk_options *options,
                          const struct rte_eth_dev_info *info, char error[256]) {
    uint16_t rx = (uint16_t)(options->rx_queue_descriptors ? options->rx_queue_descriptors : 512);
    uint16_t tx = (uint16_t)(options->tx_queue_descriptors ? options->tx_queue_descriptors : 512);
    const char *step = "configured";
    struct rte_eth_conf conf = {0};
    if (device->offload_flags) {
        conf.txmode.offloads = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    }
    conf.rxmode.offloads =
        info->rx_offload_capa & (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
    int result = rte_eth_dev_configure(device->id, 1, 1, &conf);
    if (result == 0) {
        step = "given its queues";
        result = rte_eth_dev_adjust_nb_rx_tx_desc(device->id, &rx, &tx);
    }
    if (result == 0) {
        char name[32];
        snprintf(name, sizeof name, "conclave_port_%u", device->id);
        device->pool = rte_pktmbuf_pool_create(name, pool_size(rx, tx), POOL_CACHE, 0,
                                               RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
        if (device->pool == NULL) {
            snprintf(error, 256,
                     "no memory for %u packet buffers (%s): give EAL more, -m 64 a device with "
                     "--no-huge, else more hugepages",
                     pool_size(rx, tx), rte_strerror(rte_errno));
            return false;
        }
        result = rte_eth_rx_queue_setup(device->id, 0, rx, SOCKET_ID_ANY, NULL, device->pool);
    }
    if (result == 0) result = rte_eth_tx_queue_setup(device->id, 0, tx, SOCKET_ID_ANY, NULL);
    if (result == 0) {
        step = "started";
        result = rte_eth_dev_start(device->id);
    }
    if (result == 0) return true;
    snprintf(error, 256,
             "DPDK device %u (%s) could not be %s: %s; CONCLAVE_EAL_LOG=debug tells more",
             device->id, info->driver_name, step, rte_strerror(-result));
    return false;
}

static void set_host(struct dpdk_device *device, const struct port_dpdk_options *options) {
    struct net_host *host = &device->host;
    host->address = (uint32_t)(options->endpoint >> 16);
    host->port = (uint16_t)options->endpoint;
    host->gateway = options->gateway;
    host->mask = options->prefix_length ? UINT32_MAX << (32 - options->prefix_length) : 0;
    struct rte_ether_addr mac = {0};
    rte_eth_macaddr_get(device->id, &mac);
    if (rte_is_zero_ether_addr(&mac)) {
        // Ring devices have none: a locally administered one made of our address.
        mac.addr_bytes[0] = 0x02;
        mac.addr_bytes[1] = (uint8_t)device->id;
        for (uint32_t i = 0; i < 4; i++) {
            mac.addr_bytes[2 + i] = (uint8_t)(host->address >> (24 - 8 * i));
        }
    }
    memcpy(host->mac, mac.addr_bytes, NET_MAC_BYTES);
}

bool dpdk_device_open(struct dpdk_device *device, uint16_t id,
                      const struct port_dpdk_options *options, char error[256]) {
    struct rte_eth_dev_info info;
    int result = rte_eth_dev_info_get(id, &info);
    if (result != 0) {
        snprintf(error, 256, "DPDK device %u does not tell what it can: %s; try another driver", id,
                 rte_strerror(-result));
        return false;
    }
    device->id = id;
    device->trust = leaves_checksums_partial(info.driver_name) ? NET_TRUST_PARTIAL : 0;
    uint64_t needed = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    if ((info.tx_offload_capa & needed) == needed) {
        device->offload_flags =
            RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_UDP_CKSUM;
    }
    set_host(device, options);
    if (set_up_queues(device, options, &info, error)) return true;
    rte_mempool_free(device->pool);
    return false;
}

void dpdk_device_close(struct dpdk_device *device) {
    rte_eth_dev_stop(device->id);
    rte_eth_dev_close(device->id);
    rte_mempool_free(device->pool);
}

// ---------------------------------------------------------------- bursts

// "None" is what a device says of a frame whose checksum is not filled in but whose data it vouches
// for.
uint32_t dpdk_device_trust(const struct dpdk_device *device, const struct rte_mbuf *mbuf) {
    uint32_t trust = device->trust;
    uint64_t ip = mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    uint64_t udp = mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
    if (ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD) trust |= NET_TRUST_IPV4;
    if (udp == RTE_MBUF_F_RX_L4_CKSUM_GOOD || udp == RTE_MBUF_F_RX_L4_CKSUM_NONE) {
        trust |= NET_TRUST_UDP;
    }
    return trust;
}

static void flush_answers(struct dpdk_device *device, struct dpdk_sent *sent) {
    uint16_t total = (uint16_t)device->answer_count;
    uint16_t taken = rte_eth_tx_burst(device->id, 0, device->answers, total);
    if (taken < total) rte_pktmbuf_free_bulk(device->answers + taken, total - taken);
    sent->full += total - taken;
    device->answer_count = 0;
}

struct dpdk_sent dpdk_device_flush(struct dpdk_device *device) {
    struct dpdk_sent sent = {0};
    uint32_t ready = device->staged_count;
    if (ready > 0) {
        uint32_t good = ready;
        if (device->offload_flags) {
            good = rte_eth_tx_prepare(device->id, 0, device->staged, (uint16_t)ready);
        }
        sent.packets = rte_eth_tx_burst(device->id, 0, device->staged, (uint16_t)good);
        sent.bytes = device->staged_until[sent.packets];
        sent.full = good - sent.packets;
        sent.refused = ready - good;
        if (sent.packets < ready) {
            rte_pktmbuf_free_bulk(device->staged + sent.packets, ready - sent.packets);
        }
        device->staged_count = 0;
    }
    if (device->answer_count > 0) flush_answers(device, &sent);
    return sent;
}
