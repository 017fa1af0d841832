// The kernel-socket port over loopback. Feared most: a dropped datagram in the middle of a burst
// that takes its neighbours' bytes or sender with it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port/port.h"

#define LOOPBACK 0x7f000001u

static struct packet store[2 * PACKET_BURST];
static struct packet *packets[2 * PACKET_BURST];

static struct port *open_at(uint64_t endpoint) {
    char error[256] = "";
    struct port_udp_options options = {.endpoint = endpoint, .buffer_bytes = 1 << 20};
    struct port *port = port_udp_open(&options, error);
    assert_string_equal(error, "");
    assert_non_null(port);
    return port;
}

static uint64_t counted(const struct port *port, enum port_counter counter) {
    return atomic_load(&port->counters[counter]);
}

static uint32_t receive(struct port *port, uint32_t wanted) {
    struct pollfd wait = {.fd = port->ops->wait_fd(port), .events = POLLIN};
    if (poll(&wait, 1, 2000) != 1) return 0;
    return port->ops->rx_burst(port, 1234, packets, wanted);
}

static int set_up(void **state) {
    (void)state;
    memset(store, 0, sizeof store);
    for (uint32_t i = 0; i < 2 * PACKET_BURST; i++) packets[i] = &store[i];
    return 0;
}

static void bursts_arrive_in_order_with_their_sender(void **state) {
    (void)state;
    struct port *a = open_at(wire_endpoint_pack(LOOPBACK, 0));
    struct port *b = open_at(wire_endpoint_pack(LOOPBACK, 0));
    assert_true((a->endpoint & 0xffff) != 0 && a->endpoint >> 16 == LOOPBACK);
    for (uint32_t i = 0; i < 2 * PACKET_BURST; i++) {
        packets[i]->endpoint = b->endpoint;
        packets[i]->length = (uint16_t)(i * WIRE_FRAME_MAX / (2 * PACKET_BURST - 1));
        memset(packets[i]->data, (int)i, packets[i]->length);
    }
    assert_int_equal(a->ops->tx_burst(a, 0, packets, 2 * PACKET_BURST), 2 * PACKET_BURST);
    assert_int_equal(counted(a, PORT_COUNT_TX_PACKETS), 2 * PACKET_BURST);
    memset(store, 0xee, sizeof store);
    uint32_t seen = 0;
    while (seen < 2 * PACKET_BURST) {
        uint32_t got = receive(b, 2 * PACKET_BURST);
        assert_true(got > 0 && got <= PACKET_BURST);
        for (uint32_t i = 0; i < got; i++, seen++) {
            assert_true(packets[i]->endpoint == a->endpoint && packets[i]->time_ns == 1234);
            assert_int_equal(packets[i]->length, seen * WIRE_FRAME_MAX / (2 * PACKET_BURST - 1));
            for (uint32_t k = 0; k < packets[i]->length; k++) {
                assert_int_equal(packets[i]->data[k], seen);
            }
        }
    }
    assert_int_equal(counted(b, PORT_COUNT_RX_PACKETS), 2 * PACKET_BURST);
    assert_int_equal(counted(b, PORT_COUNT_RX_BYTES), counted(a, PORT_COUNT_TX_BYTES));
    assert_int_equal(b->ops->rx_burst(b, 0, packets, PACKET_BURST), 0);
    assert_int_equal(counted(b, PORT_COUNT_RX_ERRORS), 0);
    a->ops->close(a);
    b->ops->close(b);
}

static void an_oversize_one_is_dropped_alone(void **state) {
    (void)state;
    struct port *port = open_at(wire_endpoint_pack(LOOPBACK, 0));
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(LOOPBACK),
                             .sin_port = htons((uint16_t)port->endpoint)};
    static const uint32_t sizes[] = {100, WIRE_FRAME_MAX + 1, WIRE_FRAME_MAX, 9000, 7};
    uint8_t bytes[9000];
    for (uint32_t i = 0; i < 5; i++) {
        memset(bytes, (int)(i + 1), sizes[i]);
        assert_int_equal(sendto(fd, bytes, sizes[i], 0, (struct sockaddr *)&to, sizeof to),
                         sizes[i]);
    }
    assert_int_equal(receive(port, PACKET_BURST), 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(packets[i]->length, sizes[2 * i]);
        assert_int_equal(packets[i]->data[0], 2 * i + 1);
        assert_int_equal(packets[i]->data[packets[i]->length - 1], 2 * i + 1);
    }
    assert_int_equal(counted(port, PORT_COUNT_RX_DROP_OVERSIZE), 2);
    assert_int_equal(counted(port, PORT_COUNT_RX_PACKETS), 3);
    close(fd);
    port->ops->close(port);
}

static void one_bad_address_does_not_stop_the_rest(void **state) {
    (void)state;
    struct port *a = open_at(wire_endpoint_pack(LOOPBACK, 0));
    struct port *b = open_at(wire_endpoint_pack(LOOPBACK, 0));
    for (uint32_t i = 0; i < 4; i++) {
        packets[i]->length = 8;
        packets[i]->endpoint = b->endpoint;
    }
    packets[1]->endpoint = wire_endpoint_pack(LOOPBACK, 0);       // no port: EINVAL
    packets[3]->endpoint = wire_endpoint_pack(0xffffffffu, 7000); // broadcast: EACCES
    assert_int_equal(a->ops->tx_burst(a, 0, packets, 4), 2);
    assert_int_equal(counted(a, PORT_COUNT_TX_ERRORS), 2);
    assert_int_equal(counted(a, PORT_COUNT_TX_PACKETS), 2);
    assert_int_equal(receive(b, PACKET_BURST), 2);
    a->ops->close(a);
    b->ops->close(b);
}

static void what_nobody_polled_for_is_counted(void **state) {
    (void)state;
    char error[256];
    struct port_udp_options options = {.endpoint = wire_endpoint_pack(LOOPBACK, 0),
                                       .buffer_bytes = 8192};
    struct port *slow = port_udp_open(&options, error);
    struct port *a = open_at(wire_endpoint_pack(LOOPBACK, 0));
    uint32_t sent = 0;
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < PACKET_BURST; i++) {
            packets[i]->length = 1000;
            packets[i]->endpoint = slow->endpoint;
        }
        sent += a->ops->tx_burst(a, 0, packets, PACKET_BURST);
    }
    uint32_t got = 0;
    for (uint32_t n; (n = slow->ops->rx_burst(slow, 0, packets, PACKET_BURST)) != 0;) got += n;
    assert_true(got < sent);
    // The count rides on the next datagram to be queued.
    packets[0]->length = 8;
    packets[0]->endpoint = slow->endpoint;
    a->ops->tx_burst(a, 0, packets, 1);
    got += receive(slow, PACKET_BURST);
    assert_int_equal(counted(slow, PORT_COUNT_RX_DROP_OVERRUN), sent + 1 - got);
    a->ops->close(a);
    slow->ops->close(slow);
}

static void errors_say_what_to_do(void **state) {
    (void)state;
    char error[256] = "";
    struct port *first = open_at(wire_endpoint_pack(LOOPBACK, 0));
    struct port_udp_options options = {.endpoint = first->endpoint};
    assert_null(port_udp_open(&options, error));
    assert_non_null(strstr(error, "127.0.0.1:"));
    assert_non_null(strstr(error, "another process has this port"));
    first->ops->close(first);
    options.endpoint = wire_endpoint_pack(0xc0000201u, 7000); // 192.0.2.1, RFC 5737
    assert_null(port_udp_open(&options, error));
    assert_non_null(strstr(error, "no interface of this machine has this address"));
}

static void counters_have_names(void **state) {
    (void)state;
    for (int i = 0; i < PORT_COUNTERS; i++) {
        const char *name = port_counter_name((enum port_counter)i);
        assert_non_null(name);
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(name, port_counter_name((enum port_counter)k));
        }
    }
    assert_string_equal(port_counter_name(PORT_COUNTERS), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_oversize_one_is_dropped_alone, set_up),
        cmocka_unit_test_setup(bursts_arrive_in_order_with_their_sender, set_up),
        cmocka_unit_test_setup(one_bad_address_does_not_stop_the_rest, set_up),
        cmocka_unit_test_setup(what_nobody_polled_for_is_counted, set_up),
        cmocka_unit_test_setup(errors_say_what_to_do, set_up),
        cmocka_unit_test(counters_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
