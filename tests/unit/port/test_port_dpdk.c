// The DPDK port without a network, root or hugepages: its device is a pair of rings (net_ring), and
// this test is what hangs on the other end of the wire. Feared most: a leaked mbuf, which stops a
// port for good after hours; so every test counts that the rings' mbufs all went home.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "dpdk_eal.h"
#include "net_frame.h"
#include "port/port.h"

#define US   0x0a4d0001u
#define THEM 0x0a4d0002u
#define WIRE 64u // ring slots; one less is usable

static const char eal[] = "--no-huge -m 64 --no-pci --no-telemetry --no-shconf";
static const uint8_t their_mac[6] = {2, 0, 0, 0, 0, 2};
static struct rte_ring *to_port, *from_port;
static struct rte_mempool *outside; // mbufs of the world beyond
static struct port *port;
static struct net_host them = {.address = THEM, .port = 9000, .mac = {2, 0, 0, 0, 0, 2}};
static struct packet store[PACKET_BURST];
static struct packet *packets[PACKET_BURST];

static uint64_t counted(enum port_counter counter) {
    return atomic_load(&port->counters[counter]);
}

static void inject(const uint8_t *frame, uint32_t length) {
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(outside);
    assert_non_null(mbuf);
    memcpy(rte_pktmbuf_append(mbuf, (uint16_t)length), frame, length);
    assert_int_equal(rte_ring_enqueue(to_port, mbuf), 0);
}

// What the port sent next; 0 if nothing.
static uint32_t sniff(uint8_t out[2048]) {
    void *taken = NULL;
    if (rte_ring_dequeue(from_port, &taken) != 0) return 0;
    struct rte_mbuf *mbuf = taken;
    uint32_t length = mbuf->data_len;
    memcpy(out, rte_pktmbuf_mtod(mbuf, void *), length);
    rte_pktmbuf_free(mbuf);
    return length;
}

static uint32_t poll_port(uint64_t now_ns) {
    return port->ops->rx_burst(port, now_ns, packets, PACKET_BURST);
}

static uint32_t their_datagram(uint8_t *frame, const uint8_t *our_mac, const char *text) {
    memcpy(frame + NET_HEADERS_BYTES, text, strlen(text));
    return net_build_udp(&them, our_mac, wire_endpoint_pack(US, 7000), (uint32_t)strlen(text),
                         NET_CHECKSUM_FULL, frame);
}

static int open_port(void **state) {
    (void)state;
    char error[256] = "";
    if (!dpdk_eal_start(eal, error)) {
        print_error("%s\n", error);
        return -1;
    }
    to_port = rte_ring_create("to_port", WIRE, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    from_port = rte_ring_create("from_port", WIRE, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    outside = rte_pktmbuf_pool_create("outside", 255, 0, 0, 2048 + 128, SOCKET_ID_ANY);
    if (!to_port || !from_port || !outside) return -1;
    if (rte_eth_from_rings("wire", &to_port, 1, &from_port, 1, 0) < 0) return -1;
    struct port_dpdk_options options = {.endpoint = wire_endpoint_pack(US, 7000),
                                        .eal = eal,
                                        .device = "net_ring_wire",
                                        .prefix_length = 24,
                                        .gateway = 0x0a4d00feu};
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
    while (sniff(frame) != 0) {
    }
    struct rte_mempool *inside = rte_mempool_lookup("conclave_port_0");
    assert_non_null(inside);
    assert_int_equal(rte_mempool_avail_count(inside), inside->size);
    assert_int_equal(rte_mempool_avail_count(outside), outside->size);
    return 0;
}

static void opening_names_what_is_wrong(void **state) {
    (void)state;
    char error[256];
    struct port_dpdk_options options = {
        .endpoint = wire_endpoint_pack(US, 7000), .eal = eal, .device = "net_nothing0"};
    assert_null(port_dpdk_open(&options, error));
    assert_non_null(strstr(error, "net_nothing0"));
    assert_non_null(strstr(error, "there are: net_ring_wire"));
    options.eal = "--no-huge -m 32";
    assert_null(port_dpdk_open(&options, error));
    assert_non_null(strstr(error, "other EAL arguments"));
    options.endpoint = 7000;
    assert_null(port_dpdk_open(&options, error));
    assert_non_null(strstr(error, "address"));
    options.endpoint = wire_endpoint_pack(US, 0);
    assert_null(port_dpdk_open(&options, error));
    assert_non_null(strstr(error, "port number"));
}

// First test: nothing has been said yet.
static void says_where_it_is(void **state) {
    (void)state;
    uint8_t frame[2048];
    struct net_parsed parsed;
    for (uint64_t second = 0; second < 5; second++) {
        assert_int_equal(poll_port(second * 1000000000ull), 0);
        assert_int_equal(poll_port(second * 1000000000ull + 1), 0);
        assert_int_equal(sniff(frame), second < 3 ? 60 : 0);
        if (second >= 3) continue;
        assert_int_equal(net_parse(&them, frame, 60, 0, &parsed), NET_ARP_NEWS);
        assert_int_equal(parsed.source_address, US);
        assert_int_equal(sniff(frame), 0);
    }
    assert_int_equal(counted(PORT_COUNT_ARP_SENT), 3);
}

// Second test: nothing is known of them yet.
static void unresolved_asks_once_then_sends(void **state) {
    (void)state;
    uint8_t frame[2048];
    for (uint32_t i = 0; i < 3; i++) {
        packets[i]->endpoint = wire_endpoint_pack(THEM, 9000);
        packets[i]->length = 100;
    }
    assert_int_equal(port->ops->tx_burst(port, 1, packets, 3), 0);
    assert_int_equal(counted(PORT_COUNT_TX_DROP_UNRESOLVED), 3);
    assert_int_equal(counted(PORT_COUNT_ARP_SENT), 1);
    assert_int_equal(sniff(frame), 60);
    struct net_parsed parsed;
    assert_int_equal(net_parse(&them, frame, 60, 0, &parsed), NET_ARP_REQUEST);
    uint8_t reply[NET_FRAME_MIN];
    inject(reply, net_build_arp_reply(&them, &parsed, reply));
    assert_int_equal(poll_port(2), 0);
    assert_int_equal(port->ops->tx_burst(port, 3, packets, 3), 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(sniff(frame), 142);
        assert_memory_equal(frame, their_mac, 6);
        assert_int_equal(net_parse(&them, frame, 142, 0, &parsed), NET_DATAGRAM);
        assert_int_equal(parsed.payload_length, 100);
    }
    assert_int_equal(counted(PORT_COUNT_TX_PACKETS), 3);
    assert_int_equal(counted(PORT_COUNT_TX_BYTES), 300);
}

static void our_mac(uint8_t mac[6]) {
    uint8_t frame[2048];
    struct net_parsed parsed;
    inject(frame, net_build_arp_request(&them, US, frame));
    assert_int_equal(poll_port(4), 0);
    assert_int_equal(sniff(frame), 60);
    assert_int_equal(net_parse(&them, frame, 60, 0, &parsed), NET_ARP_NEWS);
    assert_int_equal(parsed.source_address, US);
    memcpy(mac, parsed.source_mac, 6);
}

static void answers_arp_and_learns_the_asker(void **state) {
    (void)state;
    uint8_t mac[6];
    our_mac(mac);
    assert_int_equal(mac[0], 2); // made up from the address: rings have none
    assert_int_equal(counted(PORT_COUNT_ARP_REQUESTS), 1);
}

static void delivers_good_ones_out_of_a_mixed_burst(void **state) {
    (void)state;
    uint8_t mac[6];
    uint8_t frame[2048];
    our_mac(mac);
    uint32_t length = their_datagram(frame, mac, "first datagram, long enough");
    inject(frame, length);
    frame[50] ^= 1; // damaged
    inject(frame, length);
    inject(frame, 20); // cut
    frame[0] ^= 2;     // not ours
    inject(frame, length);
    inject(frame, their_datagram(frame, mac, "second"));
    assert_int_equal(poll_port(77), 2);
    assert_int_equal(packets[0]->length, 27);
    assert_memory_equal(packets[0]->data, "first datagram, long enough", 27);
    assert_memory_equal(packets[1]->data, "second", 6);
    assert_true(packets[1]->endpoint == wire_endpoint_pack(THEM, 9000));
    assert_int_equal(packets[1]->time_ns, 77);
    assert_int_equal(counted(PORT_COUNT_RX_DROP_CHECKSUM), 1);
    assert_int_equal(counted(PORT_COUNT_RX_DROP_SHORT), 1);
    assert_int_equal(counted(PORT_COUNT_RX_DROP_OTHER), 1);
    assert_int_equal(counted(PORT_COUNT_RX_PACKETS), 2);
    assert_int_equal(counted(PORT_COUNT_RX_BYTES), 33);
}

static void a_full_device_drops_and_counts(void **state) {
    (void)state;
    for (uint32_t i = 0; i < PACKET_BURST; i++) {
        packets[i]->endpoint = wire_endpoint_pack(THEM, 9000);
        packets[i]->length = WIRE_FRAME_MAX;
    }
    uint32_t sent = 0;
    for (uint32_t i = 0; i < 4; i++) {
        sent += port->ops->tx_burst(port, 5, packets, PACKET_BURST);
    }
    assert_int_equal(sent, WIRE - 1);
    assert_int_equal(counted(PORT_COUNT_TX_DROP_FULL), 4 * PACKET_BURST - sent);
    assert_int_equal(counted(PORT_COUNT_TX_BYTES), sent * WIRE_FRAME_MAX);
}

static void off_subnet_goes_to_the_gateway(void **state) {
    (void)state;
    uint8_t frame[2048];
    packets[0]->endpoint = wire_endpoint_pack(0x08080808u, 53);
    packets[0]->length = 8;
    assert_int_equal(port->ops->tx_burst(port, 6, packets, 1), 0);
    assert_int_equal(sniff(frame), 60);
    assert_memory_equal(frame + 38, "\x0a\x4d\x00\xfe", 4);
    packets[0]->endpoint = wire_endpoint_pack(US, 7000); // ourselves
    assert_int_equal(port->ops->tx_burst(port, 6, packets, 1), 0);
    assert_int_equal(counted(PORT_COUNT_TX_ERRORS), 1);
}

// A burst of pings is answered in full; more than fit the device are counted.
static void a_burst_of_arp_is_answered_in_full(void **state) {
    (void)state;
    uint8_t frame[2048];
    uint32_t length = net_build_arp_request(&them, US, frame);
    for (uint32_t i = 0; i < PACKET_BURST; i++) inject(frame, length);
    assert_int_equal(poll_port(8), 0);
    assert_int_equal(counted(PORT_COUNT_ARP_REQUESTS), PACKET_BURST);
    uint32_t answers = 0;
    while (sniff(frame) != 0) answers++;
    assert_int_equal(answers, PACKET_BURST);
}

static void *poll_elsewhere(void *argument) {
    uint32_t *got = argument;
    *got = poll_port(9);
    return NULL;
}

static void a_plain_thread_may_poll(void **state) {
    (void)state;
    uint8_t mac[6];
    uint8_t frame[2048];
    our_mac(mac);
    inject(frame, their_datagram(frame, mac, "hello"));
    uint32_t got = 0;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, poll_elsewhere, &got), 0);
    pthread_join(thread, NULL);
    assert_int_equal(got, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(says_where_it_is, clear, all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(unresolved_asks_once_then_sends, clear, all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(a_full_device_drops_and_counts, clear, all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(delivers_good_ones_out_of_a_mixed_burst, clear,
                                        all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(answers_arp_and_learns_the_asker, clear,
                                        all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(a_burst_of_arp_is_answered_in_full, clear,
                                        all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(off_subnet_goes_to_the_gateway, clear, all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(a_plain_thread_may_poll, clear, all_mbufs_are_home),
        cmocka_unit_test_setup_teardown(opening_names_what_is_wrong, clear, all_mbufs_are_home),
    };
    return cmocka_run_group_tests(tests, open_port, close_port);
}
