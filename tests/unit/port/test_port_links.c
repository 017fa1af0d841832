// A DPDK port with several links, each a pair of rings (net_ring) whose other end is this test.
// Feared most: a frame that leaves through the wrong cable, where nobody listens, while everything
// looks well; and mbufs of one device that go home to another.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "dpdk_eal.h"
#include "net_frame.h"
#include "port/port.h"

#define LINKS 3u
#define US    0x0a4d0001u
#define WIRE  64u
#define S     1000000000ull

static const char eal[] = "--no-huge -m 128 --no-pci --no-telemetry --no-shconf";
static struct rte_ring *to_port[LINKS], *from_port[LINKS];
static struct rte_mempool *outside; // mbufs of the world beyond
static struct port *port;
static struct packet store[PACKET_BURST];
static struct packet *packets[PACKET_BURST];

// The neighbour at the other end of link `i`.
static struct net_host other(uint32_t i) {
    struct net_host host = {.address = 0x0a4d0010u + i, .port = 9000, .mac = {2, 0, 0, 0, 1}};
    host.mac[5] = (uint8_t)i;
    return host;
}

static uint64_t counted(enum port_counter counter) {
    return atomic_load(&port->counters[counter]);
}

static void inject(uint32_t link, const uint8_t *frame, uint32_t length) {
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(outside);
    assert_non_null(mbuf);
    memcpy(rte_pktmbuf_append(mbuf, (uint16_t)length), frame, length);
    assert_int_equal(rte_ring_enqueue(to_port[link], mbuf), 0);
}

// What the port sent next on a link; 0 if nothing.
static uint32_t sniff(uint32_t link, uint8_t out[2048]) {
    void *taken = NULL;
    if (rte_ring_dequeue(from_port[link], &taken) != 0) return 0;
    struct rte_mbuf *mbuf = taken;
    uint32_t length = mbuf->data_len;
    memcpy(out, rte_pktmbuf_mtod(mbuf, void *), length);
    rte_pktmbuf_free(mbuf);
    return length;
}

static uint32_t poll_port(uint64_t now_ns) {
    return port->ops->rx_burst(port, now_ns, packets, PACKET_BURST);
}

static uint32_t send_to(uint64_t now_ns, uint32_t address, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        packets[i]->endpoint = wire_endpoint_pack(address, 9000);
        packets[i]->length = 100;
    }
    return port->ops->tx_burst(port, now_ns, packets, count);
}

static const char names[] = "net_ring_link0, net_ring_link1,net_ring_link2";

static int open_port(void **state) {
    (void)state;
    char error[256] = "";
    if (!dpdk_eal_start(eal, error)) {
        print_error("%s\n", error);
        return -1;
    }
    for (uint32_t i = 0; i < LINKS; i++) {
        char name[32];
        snprintf(name, sizeof name, "to_%u", i);
        to_port[i] = rte_ring_create(name, WIRE, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
        snprintf(name, sizeof name, "from_%u", i);
        from_port[i] = rte_ring_create(name, WIRE, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
        snprintf(name, sizeof name, "link%u", i);
        if (!to_port[i] || !from_port[i] ||
            rte_eth_from_rings(name, &to_port[i], 1, &from_port[i], 1, 0) < 0)
            return -1;
    }
    outside = rte_pktmbuf_pool_create("outside", 511, 0, 0, 2048 + 128, SOCKET_ID_ANY);
    if (outside == NULL) return -1;
    struct port_dpdk_options options = {
        .endpoint = wire_endpoint_pack(US, 7000), .eal = eal, .device = names};
    port = port_dpdk_open(&options, error);
    if (port == NULL) print_error("%s\n", error);
    return port == NULL ? -1 : 0;
}

static int close_port(void **state) {
    (void)state;
    port->ops->close(port);
    rte_mempool_free(outside);
    return 0;
}

static int clear(void **state) {
    (void)state;
    for (uint32_t i = 0; i < PACKET_BURST; i++) packets[i] = &store[i];
    for (int i = 0; i < PORT_COUNTERS; i++) atomic_store(&port->counters[i], 0);
    return 0;
}

static int all_mbufs_are_home(void **state) {
    (void)state;
    uint8_t frame[2048];
    for (uint32_t i = 0; i < LINKS; i++) {
        while (sniff(i, frame) != 0) {
        }
    }
    for (uint32_t i = 0; i < LINKS; i++) {
        char name[32];
        snprintf(name, sizeof name, "conclave_port_%u", i);
        struct rte_mempool *inside = rte_mempool_lookup(name);
        assert_non_null(inside);
        assert_int_equal(rte_mempool_avail_count(inside), inside->size);
    }
    assert_int_equal(rte_mempool_avail_count(outside), outside->size);
    return 0;
}

static void opening_names_what_is_wrong(void **state) {
    (void)state;
    char error[256];
    struct port_dpdk_options options = {.endpoint = wire_endpoint_pack(US, 7000), .eal = eal};
    assert_null(port_dpdk_open(&options, error));
    assert_non_null(strstr(error, "which DPDK device? There are: net_ring_link0, net_ring_link1"));
    options.device = "net_ring_link0, net_ring_link7";
    assert_null(port_dpdk_open(&options, error));
    assert_non_null(strstr(error, "no DPDK device is called net_ring_link7"));
    options.device = "net_ring_link0,net_ring_link1 , net_ring_link0";
    assert_null(port_dpdk_open(&options, error));
    assert_non_null(strstr(error, "net_ring_link0 is named twice"));
    options.device = " , ";
    assert_null(port_dpdk_open(&options, error));
    assert_non_null(strstr(error, "name one"));
    char long_name[200];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    options.device = long_name;
    assert_null(port_dpdk_open(&options, error));
    assert_non_null(strstr(error, "no DPDK device is called xxx"));
}

// First: nothing has been said yet.
static void says_where_it_is_on_every_link(void **state) {
    (void)state;
    uint8_t frame[2048];
    struct net_parsed parsed;
    uint8_t mac[LINKS][NET_MAC_BYTES];
    for (uint64_t second = 0; second < 4; second++) {
        assert_int_equal(poll_port(second * S), 0);
        for (uint32_t i = 0; i < LINKS; i++) {
            struct net_host them = other(i);
            assert_int_equal(sniff(i, frame), second < 3 ? 60 : 0);
            if (second >= 3) continue;
            assert_int_equal(net_parse(&them, frame, 60, 0, &parsed), NET_ARP_NEWS);
            assert_int_equal(parsed.source_address, US);
            memcpy(mac[i], parsed.source_mac, NET_MAC_BYTES);
        }
    }
    assert_memory_not_equal(mac[0], mac[1], NET_MAC_BYTES);
    assert_memory_not_equal(mac[1], mac[2], NET_MAC_BYTES);
}

// Second: nobody is known yet. Who answers on one link is sent to on that link only.
static void asks_on_all_links_and_sends_on_one(void **state) {
    (void)state;
    uint8_t frame[2048], reply[NET_FRAME_MIN];
    struct net_parsed parsed;
    struct net_host them = other(1);
    assert_int_equal(send_to(4 * S, them.address, 2), 0);
    assert_int_equal(counted(PORT_COUNT_TX_DROP_UNRESOLVED), 2);
    assert_int_equal(counted(PORT_COUNT_ARP_SENT), LINKS);
    for (uint32_t i = 0; i < LINKS; i++) {
        assert_int_equal(sniff(i, frame), 60);
        struct net_host there = other(i);
        there.address = them.address;
        assert_int_equal(net_parse(&there, frame, 60, 0, &parsed), NET_ARP_REQUEST);
        if (i == 1) inject(1, reply, net_build_arp_reply(&there, &parsed, reply));
    }
    assert_int_equal(poll_port(4 * S + 1), 0);
    assert_int_equal(send_to(4 * S + 2, them.address, 3), 3);
    assert_int_equal(sniff(0, frame), 0);
    assert_int_equal(sniff(2, frame), 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(sniff(1, frame), 142);
        assert_int_equal(net_parse(&them, frame, 142, 0, &parsed), NET_DATAGRAM);
    }
    assert_int_equal(counted(PORT_COUNT_TX_PACKETS), 3);
    assert_int_equal(counted(PORT_COUNT_TX_BYTES), 300);
}

// Asks for us from the other end of a link; gives the MAC that answered.
static void meet(uint64_t now_ns, uint32_t link, const struct net_host *them, uint8_t mac[6]) {
    uint8_t frame[2048];
    struct net_parsed parsed;
    inject(link, frame, net_build_arp_request(them, US, frame));
    assert_int_equal(poll_port(now_ns), 0);
    assert_int_equal(sniff(link, frame), 60);
    assert_int_equal(net_parse(them, frame, 60, 0, &parsed), NET_ARP_NEWS);
    memcpy(mac, parsed.source_mac, NET_MAC_BYTES);
}

// A burst to several neighbours is sorted to their links, and comes from all of them.
static void bursts_mix_links(void **state) {
    (void)state;
    uint8_t frame[2048], mac[LINKS][NET_MAC_BYTES];
    for (uint32_t i = 0; i < LINKS; i++) {
        struct net_host them = other(i);
        meet(5 * S, i, &them, mac[i]);
    }
    for (uint32_t i = 0; i < LINKS; i++) {
        struct net_host them = other(i);
        memcpy(frame + NET_HEADERS_BYTES, "hello", 5);
        uint32_t length =
            net_build_udp(&them, mac[i], wire_endpoint_pack(US, 7000), 5, NET_CHECKSUM_FULL, frame);
        inject(i, frame, length);
        inject(i, frame, length);
        inject((i + 1) % LINKS, frame, length); // addressed to another link's MAC: not ours
    }
    assert_int_equal(poll_port(5 * S + 1), 2 * LINKS);
    assert_int_equal(counted(PORT_COUNT_RX_DROP_OTHER), LINKS);
    assert_int_equal(counted(PORT_COUNT_RX_PACKETS), 2 * LINKS);
    for (uint32_t i = 0; i < PACKET_BURST; i++) {
        packets[i]->endpoint = wire_endpoint_pack(other(i % LINKS).address, 9000);
        packets[i]->length = 64;
    }
    assert_int_equal(port->ops->tx_burst(port, 5 * S + 2, packets, PACKET_BURST), PACKET_BURST);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < LINKS; i++) {
        struct net_host them = other(i);
        for (uint32_t length; (length = sniff(i, frame)) != 0; seen++) {
            assert_memory_equal(frame, them.mac, NET_MAC_BYTES);
            assert_memory_equal(frame + 6, mac[i], NET_MAC_BYTES);
        }
    }
    assert_int_equal(seen, PACKET_BURST);
}

// One link that is never empty leaves the others their turn.
static void a_busy_link_starves_none(void **state) {
    (void)state;
    uint8_t frame[2048], mac[LINKS][NET_MAC_BYTES];
    struct net_host busy = other(0), quiet = other(2);
    meet(6 * S, 0, &busy, mac[0]);
    meet(6 * S, 2, &quiet, mac[2]);
    memcpy(frame + NET_HEADERS_BYTES, "quiet", 5);
    inject(
        2, frame,
        net_build_udp(&quiet, mac[2], wire_endpoint_pack(US, 7000), 5, NET_CHECKSUM_FULL, frame));
    uint32_t length =
        net_build_udp(&busy, mac[0], wire_endpoint_pack(US, 7000), 5, NET_CHECKSUM_FULL, frame);
    bool heard = false;
    for (uint32_t round = 0; round < LINKS; round++) {
        while (rte_ring_count(to_port[0]) < PACKET_BURST) inject(0, frame, length);
        uint32_t got = poll_port(6 * S + 1 + round);
        for (uint32_t i = 0; i < got; i++)
            heard = heard || packets[i]->endpoint == wire_endpoint_pack(quiet.address, 9000);
    }
    assert_true(heard);
    while (poll_port(7 * S) != 0) {
    }
}

static void a_full_link_costs_the_others_nothing(void **state) {
    (void)state;
    uint8_t frame[2048], mac[NET_MAC_BYTES];
    struct net_host full = other(0), free_one = other(1);
    meet(8 * S, 0, &full, mac);
    meet(8 * S, 1, &free_one, mac);
    uint32_t sent = 0;
    for (uint32_t i = 0; i < 4; i++) sent += send_to(8 * S, full.address, PACKET_BURST);
    assert_int_equal(sent, WIRE - 1);
    assert_int_equal(counted(PORT_COUNT_TX_DROP_FULL), 4 * PACKET_BURST - sent);
    assert_int_equal(send_to(8 * S, free_one.address, 2), 2);
    assert_int_equal(sniff(1, frame), 142);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(says_where_it_is_on_every_link, clear, all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(asks_on_all_links_and_sends_on_one, clear,
                                        all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(bursts_mix_links, clear, all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(a_busy_link_starves_none, clear, all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(a_full_link_costs_the_others_nothing, clear,
                                        all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(opening_names_what_is_wrong, clear, all_mbufs_are_home),
    };
    return cmocka_run_group_tests(tests, open_port, close_port);
}
