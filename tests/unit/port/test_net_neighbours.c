// The neighbour table. Feared most: a flood of invented senders that pushes out the peers, and an
// address that moved and is never found again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "net_neighbours.h"

#define MS   1000000ull
#define PEER 0x0a000001u

static const uint8_t mac_a[6] = {2, 0, 0, 0, 0, 0xa};
static const uint8_t mac_b[6] = {2, 0, 0, 0, 0, 0xb};
static struct net_neighbours table;

static int reset(void **state) {
    (void)state;
    memset(&table, 0, sizeof table);
    return 0;
}

static void asked_at_once_then_rarely_until_answered(void **state) {
    (void)state;
    struct net_route route = net_neighbours_find(&table, 0, PEER); // time may well be 0
    assert_true(route.ask && !route.ready);
    uint32_t asked = 0;
    for (uint64_t now = 0; now < 1000 * MS; now += MS / 10) {
        asked += net_neighbours_find(&table, now, PEER).ask;
    }
    assert_int_equal(asked, 9); // at 100, 200 ... 900 ms
    net_neighbours_learn(&table, 1000 * MS, PEER, mac_a, 0, NET_SOURCE_ARP);
    route = net_neighbours_find(&table, 1001 * MS, PEER);
    assert_true(route.ready && !route.ask);
    assert_memory_equal(route.mac, mac_a, 6);
}

static void other_peoples_arp_makes_no_entry(void **state) {
    (void)state;
    net_neighbours_learn(&table, 0, PEER, mac_a, 0, NET_SOURCE_ARP);
    assert_false(net_neighbours_find(&table, 0, PEER).ready);
    net_neighbours_learn(&table, 0, PEER + 1, mac_a, 0, NET_SOURCE_REQUEST);
    assert_true(net_neighbours_find(&table, 0, PEER + 1).ready);
    net_neighbours_learn(&table, 0, PEER + 2, mac_a, 0, NET_SOURCE_FRAME);
    assert_true(net_neighbours_find(&table, 0, PEER + 2).ready);
}

// The same MAC behind another of our cables is another place.
static void a_datagram_moves_only_a_stale_entry_to_another_link(void **state) {
    (void)state;
    net_neighbours_learn(&table, 0, PEER, mac_a, 3, NET_SOURCE_REQUEST);
    assert_int_equal(net_neighbours_find(&table, 0, PEER).link, 3);
    net_neighbours_learn(&table, MS, PEER, mac_a, 1, NET_SOURCE_FRAME);
    assert_int_equal(net_neighbours_find(&table, MS, PEER).link, 3);
    net_neighbours_learn(&table, MS, PEER, mac_a, 2, NET_SOURCE_ARP);
    assert_int_equal(net_neighbours_find(&table, MS, PEER).link, 2);
    uint64_t later = MS + NET_NEIGHBOUR_STALE_NS;
    net_neighbours_learn(&table, later, PEER, mac_a, 1, NET_SOURCE_FRAME);
    assert_int_equal(net_neighbours_find(&table, later, PEER).link, 1);
}

static void a_datagram_moves_only_a_stale_entry(void **state) {
    (void)state;
    net_neighbours_learn(&table, 0, PEER, mac_a, 0, NET_SOURCE_REQUEST);
    net_neighbours_learn(&table, MS, PEER, mac_b, 0, NET_SOURCE_FRAME);
    assert_memory_equal(net_neighbours_find(&table, MS, PEER).mac, mac_a, 6);
    net_neighbours_learn(&table, MS, PEER, mac_b, 0, NET_SOURCE_ARP); // ARP may
    assert_memory_equal(net_neighbours_find(&table, MS, PEER).mac, mac_b, 6);
    uint64_t later = MS + NET_NEIGHBOUR_STALE_NS;
    net_neighbours_learn(&table, later, PEER, mac_a, 0, NET_SOURCE_FRAME);
    assert_memory_equal(net_neighbours_find(&table, later, PEER).mac, mac_a, 6);
}

static void stale_is_used_while_asked_for_then_forgotten(void **state) {
    (void)state;
    net_neighbours_learn(&table, 0, PEER, mac_a, 0, NET_SOURCE_REQUEST);
    assert_false(net_neighbours_find(&table, NET_NEIGHBOUR_STALE_NS - 1, PEER).ask);
    // Idle for long: still used at first, and asked for.
    uint64_t now = 100 * NET_NEIGHBOUR_STALE_NS;
    struct net_route route = net_neighbours_find(&table, now, PEER);
    assert_true(route.ready && route.ask);
    route = net_neighbours_find(&table, now + 1, PEER);
    assert_true(route.ready && !route.ask);
    route = net_neighbours_find(&table, now + NET_NEIGHBOUR_LOST_NS - 1, PEER);
    assert_true(route.ready && route.ask);
    route = net_neighbours_find(&table, now + NET_NEIGHBOUR_LOST_NS, PEER);
    assert_false(route.ready);
    net_neighbours_learn(&table, now + NET_NEIGHBOUR_LOST_NS, PEER, mac_b, 0, NET_SOURCE_ARP);
    route = net_neighbours_find(&table, now + NET_NEIGHBOUR_LOST_NS, PEER);
    assert_true(route.ready && !route.ask);
    assert_memory_equal(route.mac, mac_b, 6);
}

static void frames_keep_an_entry_fresh(void **state) {
    (void)state;
    net_neighbours_learn(&table, 0, PEER, mac_a, 0, NET_SOURCE_REQUEST);
    for (uint64_t now = 0; now < 10 * NET_NEIGHBOUR_STALE_NS; now += 1000 * MS) {
        net_neighbours_learn(&table, now, PEER, mac_a, 0, NET_SOURCE_FRAME);
        struct net_route route = net_neighbours_find(&table, now, PEER);
        assert_true(route.ready && !route.ask);
    }
}

static void peers_in_use_outlive_a_flood(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        net_neighbours_find(&table, 0, PEER + i);
        net_neighbours_learn(&table, 0, PEER + i, mac_a, 0, NET_SOURCE_ARP);
    }
    uint32_t lost = 0;
    uint64_t now = MS;
    for (uint32_t flood = 0; flood < 100000; flood++) {
        now += MS / 100;
        net_neighbours_learn(&table, now, 0x0b000000u + flood * 7919u, mac_b, 0, NET_SOURCE_FRAME);
        if (flood % 100 != 0) continue; // heartbeats each millisecond
        for (uint32_t i = 0; i < 8; i++) lost += !net_neighbours_find(&table, now, PEER + i).ready;
    }
    assert_int_equal(lost, 0);
}

static void neighbours_of_one_subnet_spread(void **state) {
    (void)state;
    // A whole /24 fits without evictions.
    for (uint32_t i = 1; i < 255; i++) {
        net_neighbours_learn(&table, i, 0x0a4d0000u + i, mac_a, 0, NET_SOURCE_FRAME);
    }
    for (uint32_t i = 1; i < 255; i++) {
        assert_true(net_neighbours_find(&table, 300, 0x0a4d0000u + i).ready);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(peers_in_use_outlive_a_flood, reset),
        cmocka_unit_test_setup(stale_is_used_while_asked_for_then_forgotten, reset),
        cmocka_unit_test_setup(asked_at_once_then_rarely_until_answered, reset),
        cmocka_unit_test_setup(other_peoples_arp_makes_no_entry, reset),
        cmocka_unit_test_setup(a_datagram_moves_only_a_stale_entry, reset),
        cmocka_unit_test_setup(a_datagram_moves_only_a_stale_entry_to_another_link, reset),
        cmocka_unit_test_setup(frames_keep_an_entry_fresh, reset),
        cmocka_unit_test_setup(neighbours_of_one_subnet_spread, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
