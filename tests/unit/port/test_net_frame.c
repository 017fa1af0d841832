// Ethernet to UDP by hand: packets are written out byte by byte, so that parser and builder are not
// only compared with each other. Feared most: a length inside the packet that reaches past its end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "net_frame.h"
#include "packet.h"

#define US   0x0a4d0001u // 10.77.0.1
#define THEM 0x0a4d0002u // 10.77.0.2

static const struct net_host host = {
    .address = US, .port = 7000, .mac = {0x02, 0, 0, 0, 0, 1}, .mask = 0xffffff00u};

// An ordinary datagram: 10.77.0.2:49100 -> 10.77.0.1:7000, payload "ping!". Its checksums were
// worked out independently of the code under test.
static const uint8_t datagram[] = {
    0x02, 0,    0,    0,    0,    1,    0x02, 0,    0,  0,  0,    2,    0x08, 0x00, // Ethernet
    0x45, 0,    0,    33,   0xc0, 0x3e, 0x40, 0,    64, 17, 0x65, 0xf1,             // IPv4
    10,   77,   0,    2,    10,   77,   0,    1,                                    //
    0xbf, 0xcc, 0x1b, 0x58, 0,    13,   0x10, 0x42,                                 // UDP
    'p',  'i',  'n',  'g',  '!',                                                    //
};

static const uint8_t arp_request[] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0,  0, 0, 0, 2, 0x08, 0x06, // Ethernet
    0,    1,    8,    0,    6,    4,    0,    1,                          // who has
    0x02, 0,    0,    0,    0,    2,    10,   77, 0, 2,                   // tell
    0,    0,    0,    0,    0,    0,    10,   77, 0, 1,
};

struct frame {
    uint8_t bytes[2048];
    uint32_t length;
};

// The plainest way to sum, to compare with: big-endian pairs, end-around carry at each step.
static uint16_t plain_sum(uint32_t sum, const uint8_t *bytes, uint32_t length) {
    for (uint32_t i = 0; i < length; i += 2) {
        sum += (uint32_t)bytes[i] << 8 | (i + 1 < length ? bytes[i + 1] : 0);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

static void set16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint32_t header_bytes(const struct frame *frame) {
    return (frame->bytes[14] & 15u) * 4u;
}

static uint16_t pseudo_sum(const struct frame *frame) {
    const uint8_t *udp = frame->bytes + 14 + header_bytes(frame);
    uint16_t sum = plain_sum(0, frame->bytes + 26, 8);
    sum = plain_sum(sum + 17u, udp + 4, 2);
    return sum;
}

static void seal_ipv4(struct frame *frame) {
    set16(frame->bytes + 24, 0);
    set16(frame->bytes + 24, ~(uint32_t)plain_sum(0, frame->bytes + 14, header_bytes(frame)));
}

static void seal_udp(struct frame *frame) {
    uint8_t *udp = frame->bytes + 14 + header_bytes(frame);
    uint32_t length = (uint32_t)udp[4] << 8 | udp[5];
    set16(udp + 6, 0);
    uint16_t sum = (uint16_t)~plain_sum(pseudo_sum(frame), udp, length);
    set16(udp + 6, sum ? sum : 0xffff);
}

static struct frame frame_of(const uint8_t *bytes, uint32_t length) {
    struct frame frame = {.length = length};
    memcpy(frame.bytes, bytes, length);
    return frame;
}

static struct frame a_datagram(void) {
    struct frame frame = frame_of(datagram, sizeof datagram);
    seal_ipv4(&frame);
    seal_udp(&frame);
    return frame;
}

static enum net_verdict parse(const struct frame *frame, uint32_t trust,
                              struct net_parsed *parsed) {
    // An exact copy on the heap, so that ASan sees a read past the end.
    uint8_t *copy = malloc(frame->length ? frame->length : 1);
    memcpy(copy, frame->bytes, frame->length);
    struct net_parsed dummy;
    struct net_parsed *out = parsed ? parsed : &dummy;
    enum net_verdict verdict = net_parse(&host, copy, frame->length, trust, out);
    if (out->payload != NULL) {
        assert_true(out->payload >= copy);
        assert_true(out->payload + out->payload_length <= copy + frame->length);
        out->payload = frame->bytes + (out->payload - copy);
    }
    free(copy);
    return verdict;
}

static void checksum_examples(void **state) {
    (void)state;
    // RFC 1071, section 3: the sum is ddf2.
    const uint8_t rfc[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    assert_int_equal(net_checksum_finish(net_checksum_add(0, rfc, 8)), 0x220d);
    // A well-known header; its checksum is b861.
    const uint8_t header[] = {0x45, 0, 0,    0x73, 0, 0, 0x40, 0,    0x40, 0x11,
                              0,    0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,    0xc7};
    assert_int_equal(net_checksum_finish(net_checksum_add(0, header, 20)), 0xb861);
    // Every length and alignment, against the plain sum.
    uint8_t bytes[256];
    for (uint32_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 197 + 255);
    for (uint32_t from = 0; from < 8; from++) {
        for (uint32_t length = 0; from + length <= sizeof bytes; length++) {
            uint16_t want = (uint16_t)~plain_sum(0, bytes + from, length);
            assert_int_equal(net_checksum_finish(net_checksum_add(0, bytes + from, length)), want);
        }
    }
    memset(bytes, 0xff, sizeof bytes); // carries everywhere
    assert_int_equal(net_checksum_finish(net_checksum_add(0, bytes, sizeof bytes)), 0);
}

static void a_datagram_for_us_is_delivered(void **state) {
    (void)state;
    struct frame frame = a_datagram();
    assert_memory_equal(frame.bytes, datagram, sizeof datagram); // as summed by hand above
    struct net_parsed parsed;
    assert_int_equal(parse(&frame, 0, &parsed), NET_DATAGRAM);
    assert_int_equal(parsed.source_address, THEM);
    assert_int_equal(parsed.source_port, 49100);
    assert_int_equal(parsed.payload_length, 5);
    assert_memory_equal(parsed.payload, "ping!", 5);
    assert_memory_equal(parsed.source_mac, datagram + 6, 6);
    frame.length = 60; // Ethernet's padding is not part of it
    assert_int_equal(parse(&frame, 0, &parsed), NET_DATAGRAM);
    assert_int_equal(parsed.payload_length, 5);
}

static void every_truncation_is_short(void **state) {
    (void)state;
    struct frame frame = a_datagram();
    for (uint32_t length = 0; length < sizeof datagram; length++) {
        frame.length = length;
        assert_int_equal(parse(&frame, 0, NULL), NET_DROP_SHORT);
    }
    frame = frame_of(arp_request, sizeof arp_request);
    for (uint32_t length = 0; length < sizeof arp_request; length++) {
        frame.length = length;
        assert_int_equal(parse(&frame, 0, NULL), NET_DROP_SHORT);
    }
}

static void lengths_that_contradict_each_other(void **state) {
    (void)state;
    struct frame frame = a_datagram();
    static const uint16_t totals[] = {0, 19, 34, 65535};
    for (uint32_t i = 0; i < 4; i++) {
        set16(frame.bytes + 16, totals[i]);
        seal_ipv4(&frame);
        assert_int_equal(parse(&frame, 0, NULL), NET_DROP_SHORT);
    }
    set16(frame.bytes + 16, 27); // room for seven bytes of UDP header
    seal_ipv4(&frame);
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_SHORT);
    static const uint16_t udp_lengths[] = {0, 7, 14, 65535};
    for (uint32_t i = 0; i < 4; i++) {
        frame = a_datagram();
        set16(frame.bytes + 38, udp_lengths[i]);
        assert_int_equal(parse(&frame, NET_TRUST_UDP, NULL), NET_DROP_SHORT);
    }
    for (uint32_t header = 0; header < 16; header++) {
        if (header == 5) continue;
        frame = a_datagram();
        frame.bytes[14] = (uint8_t)(0x40 | header);
        enum net_verdict verdict = parse(&frame, NET_TRUST_IPV4, NULL);
        assert_true(verdict == NET_DROP_SHORT || verdict == NET_DROP_OTHER);
    }
}

static void every_flipped_bit_is_noticed(void **state) {
    (void)state;
    struct frame frame = a_datagram();
    for (uint32_t bit = 14 * 8; bit < sizeof datagram * 8; bit++) {
        frame.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(parse(&frame, 0, NULL), NET_DATAGRAM);
        frame.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void udp_checksums_as_they_come(void **state) {
    (void)state;
    struct frame frame = a_datagram();
    uint16_t partial = pseudo_sum(&frame);
    frame.bytes[40] ^= 1;
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_CHECKSUM);
    assert_int_equal(parse(&frame, NET_TRUST_PARTIAL, NULL), NET_DROP_CHECKSUM);
    assert_int_equal(parse(&frame, NET_TRUST_UDP, NULL), NET_DATAGRAM);
    set16(frame.bytes + 40, 0); // none was made
    assert_int_equal(parse(&frame, 0, NULL), NET_DATAGRAM);
    set16(frame.bytes + 40, partial); // as a kernel socket leaves it on veth
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_CHECKSUM);
    assert_int_equal(parse(&frame, NET_TRUST_PARTIAL, NULL), NET_DATAGRAM);
    frame.bytes[24] ^= 1;
    assert_int_equal(parse(&frame, NET_TRUST_PARTIAL, NULL), NET_DROP_CHECKSUM);
    assert_int_equal(parse(&frame, NET_TRUST_PARTIAL | NET_TRUST_IPV4, NULL), NET_DATAGRAM);
    // Seen on a veth pair: 10.77.0.2 -> 10.77.0.1, 72 bytes of UDP, field 0x14f6.
    frame = a_datagram();
    set16(frame.bytes + 16, 92);
    set16(frame.bytes + 38, 72);
    set16(frame.bytes + 40, 0x14f6);
    frame.length = 106;
    seal_ipv4(&frame);
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_CHECKSUM);
    assert_int_equal(parse(&frame, NET_TRUST_PARTIAL, NULL), NET_DATAGRAM);
}

static void fragments_and_options(void **state) {
    (void)state;
    static const uint16_t fragments[] = {0x2000, 0x0001, 0x1fff, 0x3fff};
    for (uint32_t i = 0; i < 4; i++) {
        struct frame frame = a_datagram();
        set16(frame.bytes + 20, fragments[i]);
        seal_ipv4(&frame);
        assert_int_equal(parse(&frame, 0, NULL), NET_DROP_FRAGMENT);
    }
    struct frame frame = a_datagram();
    set16(frame.bytes + 20, 0x4000); // don't-fragment alone is fine
    seal_ipv4(&frame);
    assert_int_equal(parse(&frame, 0, NULL), NET_DATAGRAM);
    // Router alert (RFC 2113): skipped.
    memmove(frame.bytes + 38, frame.bytes + 34, 13);
    memcpy(frame.bytes + 34, "\x94\x04\x00\x00", 4);
    frame.bytes[14] = 0x46;
    set16(frame.bytes + 16, 37);
    frame.length += 4;
    seal_ipv4(&frame);
    struct net_parsed parsed;
    assert_int_equal(parse(&frame, 0, &parsed), NET_DATAGRAM);
    assert_memory_equal(parsed.payload, "ping!", 5);
}

static void what_is_not_for_us(void **state) {
    (void)state;
    static const struct {
        uint32_t at;
        uint8_t value;
    } changes[] = {
        {0, 0x06},  // another MAC
        {12, 0x86}, // another EtherType
        {14, 0x65}, // IP version 6
        {23, 6},    // TCP
        {33, 9},    // another address
        {37, 0x59}, // another port
    };
    for (uint32_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct frame frame = a_datagram();
        frame.bytes[changes[i].at] = changes[i].value;
        seal_ipv4(&frame);
        assert_int_equal(parse(&frame, NET_TRUST_UDP, NULL), NET_DROP_OTHER);
    }
    struct frame frame = a_datagram();
    memset(frame.bytes, 0xff, 6); // broadcast frame, unicast datagram
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_OTHER);
    static const uint8_t sources[][4] = {
        {0, 0, 0, 0}, {10, 77, 0, 1}, {224, 0, 0, 1}, {255, 255, 255, 255}};
    for (uint32_t i = 0; i < 4; i++) {
        frame = a_datagram();
        memcpy(frame.bytes + 26, sources[i], 4);
        seal_ipv4(&frame);
        seal_udp(&frame);
        assert_int_equal(parse(&frame, 0, NULL), NET_DROP_OTHER);
    }
    frame = a_datagram();
    set16(frame.bytes + 34, 0); // source port 0: nowhere to answer to
    seal_udp(&frame);
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_OTHER);
    frame = a_datagram();
    frame.bytes[6] = 0x01; // multicast source MAC would poison the neighbour table
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_OTHER);
}

static void payload_sizes(void **state) {
    (void)state;
    for (uint32_t size = 0; size <= 1500; size++) {
        struct frame frame = a_datagram();
        memset(frame.bytes + 42, 0x33, size);
        frame.length = 42 + size;
        set16(frame.bytes + 16, 28 + size);
        set16(frame.bytes + 38, 8 + size);
        seal_ipv4(&frame);
        seal_udp(&frame);
        struct net_parsed parsed;
        enum net_verdict want = size <= WIRE_FRAME_MAX ? NET_DATAGRAM : NET_DROP_OVERSIZE;
        assert_int_equal(parse(&frame, 0, &parsed), want);
        if (want == NET_DATAGRAM) assert_int_equal(parsed.payload_length, size);
    }
}

static void arp_requests_are_answered(void **state) {
    (void)state;
    struct frame frame = frame_of(arp_request, sizeof arp_request);
    struct net_parsed parsed;
    assert_int_equal(parse(&frame, 0, &parsed), NET_ARP_REQUEST);
    assert_int_equal(parsed.source_address, THEM);
    uint8_t out[NET_FRAME_MIN];
    memset(out, 0xa5, sizeof out);
    assert_int_equal(net_build_arp_reply(&host, &parsed, out), 60);
    static const uint8_t reply[NET_FRAME_MIN] = {
        0x02, 0, 0, 0, 0, 2, 0x02, 0,  0, 0, 0,    1, 0x08, 0x06, 0, 1, 8,  0,  6, 4, 0, 2, //
        0x02, 0, 0, 0, 0, 1, 10,   77, 0, 1, 0x02, 0, 0,    0,    0, 2, 10, 77, 0, 2};
    assert_memory_equal(out, reply, sizeof out);
    memset(frame.bytes + 28, 0, 4); // RFC 5227 probe
    assert_int_equal(parse(&frame, 0, &parsed), NET_ARP_REQUEST);
    assert_int_equal(parsed.source_address, 0);

    assert_int_equal(net_build_arp_request(&host, THEM, out), 60);
    static const uint8_t request[NET_FRAME_MIN] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0,  0,  0, 0, 1, 8, 6, 0, 1, 8, 0,  6,  4, 0,
        1,    0x02, 0,    0,    0,    0,    1,    10, 77, 0, 1, 0, 0, 0, 0, 0, 0, 10, 77, 0, 2};
    assert_memory_equal(out, request, sizeof out);
}

static void arp_of_others_and_nonsense(void **state) {
    (void)state;
    struct net_parsed parsed;
    struct frame frame = frame_of(arp_request, sizeof arp_request);
    frame.bytes[41] = 3; // asks for another
    assert_int_equal(parse(&frame, 0, &parsed), NET_ARP_NEWS);
    assert_int_equal(parsed.source_address, THEM);
    frame = frame_of(arp_request, sizeof arp_request);
    frame.bytes[21] = 2; // a reply
    assert_int_equal(parse(&frame, 0, NULL), NET_ARP_NEWS);
    frame.bytes[21] = 3; // RARP
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_OTHER);
    static const uint32_t fixed[] = {14, 15, 16, 17, 18, 19};
    for (uint32_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        frame = frame_of(arp_request, sizeof arp_request);
        frame.bytes[fixed[i]] ^= 0x40;
        assert_int_equal(parse(&frame, 0, NULL), NET_DROP_OTHER);
    }
    frame = frame_of(arp_request, sizeof arp_request);
    frame.bytes[31] = 1; // says it has our own address
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_OTHER);
    frame = frame_of(arp_request, sizeof arp_request);
    memset(frame.bytes + 22, 0xff, 6); // says it is everyone
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_OTHER);
    memset(frame.bytes + 22, 0, 6); // or no one
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_OTHER);
}

static struct frame an_echo(uint32_t data) {
    struct frame frame = frame_of(datagram, sizeof datagram);
    frame.bytes[23] = 1;
    set16(frame.bytes + 16, 28 + data);
    seal_ipv4(&frame);
    uint8_t *icmp = frame.bytes + 34;
    memset(icmp, 0x61, 8 + data);
    memcpy(icmp, "\x08\x00\x00\x00\x12\x34\x00\x01", 8);
    set16(icmp + 2, ~(uint32_t)plain_sum(0, icmp, 8 + data));
    frame.length = 42 + data;
    return frame;
}

static void echo_is_answered_up_to_an_mtu(void **state) {
    (void)state;
    for (uint32_t data = 0; data <= 1480; data++) {
        struct frame frame = an_echo(data);
        struct net_parsed parsed;
        if (data > 1472) {
            assert_int_equal(parse(&frame, 0, NULL), NET_DROP_OVERSIZE);
            continue;
        }
        assert_int_equal(parse(&frame, 0, &parsed), NET_ECHO_REQUEST);
        uint8_t *out = malloc(data + 42 < 60 ? 60 : data + 42); // exact, for ASan
        uint32_t length = net_build_echo_reply(&host, &parsed, out);
        assert_int_equal(length, data + 42 < 60 ? 60 : data + 42);
        assert_memory_equal(out, frame.bytes + 6, 6);
        assert_memory_equal(out + 26, frame.bytes + 30, 4);
        assert_memory_equal(out + 30, frame.bytes + 26, 4);
        assert_int_equal(plain_sum(0, out + 14, 20), 0xffff);
        assert_int_equal(plain_sum(0, out + 34, 8 + data), 0xffff);
        assert_int_equal(out[34], 0);
        assert_memory_equal(out + 38, frame.bytes + 38, 4 + data);
        free(out);
    }
    struct frame frame = an_echo(56);
    frame.bytes[60] ^= 1;
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_CHECKSUM);
    frame = an_echo(56);
    frame.bytes[34] = 0; // a reply: nobody asked
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_OTHER);
    frame = an_echo(56);
    set16(frame.bytes + 16, 27);
    seal_ipv4(&frame);
    assert_int_equal(parse(&frame, 0, NULL), NET_DROP_SHORT);
}

static void built_datagrams(void **state) {
    (void)state;
    static const uint8_t mac[6] = {0x02, 0, 0, 0, 0, 2};
    struct net_host them = {.address = THEM, .port = 49100, .mac = {0x02, 0, 0, 0, 0, 2}};
    for (uint32_t size = 0; size <= WIRE_FRAME_MAX; size++) {
        uint32_t want = size + 42 < 60 ? 60 : size + 42;
        uint8_t *out = malloc(want);
        memset(out, 0xa5, want);
        for (uint32_t i = 0; i < size; i++) out[42 + i] = (uint8_t)(i * size);
        uint64_t to = wire_endpoint_pack(THEM, 49100);
        assert_int_equal(net_build_udp(&host, mac, to, size, NET_CHECKSUM_FULL, out), want);
        struct net_parsed parsed;
        assert_int_equal(net_parse(&them, out, want, 0, &parsed), NET_DATAGRAM);
        assert_int_equal(parsed.payload_length, size);
        assert_int_equal(parsed.source_address, US);
        assert_int_equal(parsed.source_port, 7000);
        assert_int_equal(plain_sum(0, out + 14, 20), 0xffff);
        assert_int_equal(out[22], 64);             // TTL
        assert_int_equal(out[20], 0x40);           // DF
        assert_true(out[40] != 0 || out[41] != 0); // a checksum was made
        for (uint32_t i = 42 + size; i < want; i++) assert_int_equal(out[i], 0);
        free(out);
    }
}

// A checksum that comes out as zero must be sent as ffff, for zero means that none was made.
static void a_zero_checksum_is_sent_as_ffff(void **state) {
    (void)state;
    static const uint8_t mac[6] = {0x02, 0, 0, 0, 0, 2};
    uint64_t to = wire_endpoint_pack(THEM, 49100);
    uint8_t out[NET_FRAME_MIN] = {0};
    net_build_udp(&host, mac, to, 2, NET_CHECKSUM_FULL, out);
    memcpy(out + 42, out + 40, 2); // the payload now makes up what was missing
    net_build_udp(&host, mac, to, 2, NET_CHECKSUM_FULL, out);
    assert_int_equal(out[40] << 8 | out[41], 0xffff);
}

static void device_checksums_are_left_partial(void **state) {
    (void)state;
    static const uint8_t mac[6] = {0x02, 0, 0, 0, 0, 2};
    struct frame frame = {.length = 106};
    net_build_udp(&host, mac, wire_endpoint_pack(THEM, 49100), 64, NET_CHECKSUM_DEVICE,
                  frame.bytes);
    assert_int_equal(frame.bytes[24] << 8 | frame.bytes[25], 0);
    assert_int_equal(frame.bytes[40] << 8 | frame.bytes[41], 0x14f6);
    assert_int_equal(frame.bytes[40] << 8 | frame.bytes[41], pseudo_sum(&frame));
}

static void next_hops(void **state) {
    (void)state;
    struct net_host routed = host;
    routed.gateway = 0x0a4d00feu;
    assert_int_equal(net_next_hop(&routed, THEM), THEM);
    assert_int_equal(net_next_hop(&routed, 0x08080808u), routed.gateway);
    assert_int_equal(net_next_hop(&routed, 0x0a4d00ffu), 0); // our subnet's broadcast
    assert_int_equal(net_next_hop(&routed, 0x0a4d01ffu), routed.gateway);
    assert_int_equal(net_next_hop(&routed, US), 0);
    assert_int_equal(net_next_hop(&routed, 0), 0);
    assert_int_equal(net_next_hop(&routed, 0xe0000001u), 0);
    assert_int_equal(net_next_hop(&routed, 0xffffffffu), 0);
    assert_true(net_on_link(&routed, THEM) && !net_on_link(&routed, 0x08080808u));
    routed.gateway = 0; // then all are neighbours
    assert_int_equal(net_next_hop(&routed, 0x08080808u), 0x08080808u);
    struct net_host flat = {.address = US, .gateway = 0x0a4d00feu};
    assert_int_equal(net_next_hop(&flat, 0x08080808u), 0x08080808u);
    struct net_host pair = {.address = US, .gateway = 0x0a4d0001u, .mask = 0xfffffffeu};
    assert_int_equal(net_next_hop(&pair, US ^ 1u), US ^ 1u); // RFC 3021
}

static void garbage_never_passes_the_end(void **state) {
    (void)state;
    uint64_t random = 88172645463325252ull;
    for (uint32_t round = 0; round < 200000; round++) {
        struct frame frame = round & 1   ? a_datagram()
                             : round & 2 ? an_echo(8)
                                         : frame_of(arp_request, sizeof arp_request);
        for (uint32_t i = 0; i < 3; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17; // xorshift64
            frame.bytes[random % frame.length] = (uint8_t)(random >> 32);
        }
        frame.length -= (uint32_t)(random >> 48) % 4;
        parse(&frame, NET_TRUST_IPV4 | NET_TRUST_UDP, NULL); // asserts that payloads lie inside
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_that_contradict_each_other),
        cmocka_unit_test(garbage_never_passes_the_end),
        cmocka_unit_test(every_truncation_is_short),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(checksum_examples),
        cmocka_unit_test(a_datagram_for_us_is_delivered),
        cmocka_unit_test(udp_checksums_as_they_come),
        cmocka_unit_test(fragments_and_options),
        cmocka_unit_test(what_is_not_for_us),
        cmocka_unit_test(payload_sizes),
        cmocka_unit_test(arp_requests_are_answered),
        cmocka_unit_test(arp_of_others_and_nonsense),
        cmocka_unit_test(echo_is_answered_up_to_an_mtu),
        cmocka_unit_test(built_datagrams),
        cmocka_unit_test(a_zero_checksum_is_sent_as_ffff),
        cmocka_unit_test(device_checksums_are_left_partial),
        cmocka_unit_test(next_hops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
