// Any Ethernet frame against the parser of the DPDK port, under every trust a device may have
// earned. What it accepts is read to the last byte, learnt by the neighbour table and answered, as
// the port does. With all trust given no checksum stands between the fuzzer and the lengths.
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "net_neighbours.h"

static volatile uint8_t sink;
static struct net_neighbours neighbours;
static uint64_t now_ns;

static const struct net_host host = {.address = 0x0a4d0001u,
                                     .port = 7000,
                                     .mac = {0x02, 0, 0, 0, 0, 1},
                                     .gateway = 0x0a4d00feu,
                                     .mask = 0xffffff00u};

static void require(int condition) {
    if (!condition) abort();
}

static void use(enum net_verdict verdict, const struct net_parsed *parsed, const uint8_t *frame,
                uint32_t length) {
    uint8_t out[NET_FRAME_MAX];
    if (verdict == NET_DATAGRAM || verdict == NET_ECHO_REQUEST) {
        require(parsed->payload >= frame);
        require(parsed->payload + parsed->payload_length <= frame + length);
        for (uint32_t i = 0; i < parsed->payload_length; i++) {
            sink = (uint8_t)(sink ^ parsed->payload[i]);
        }
    }
    if (verdict == NET_DATAGRAM) require(parsed->payload_length <= 1472 && parsed->source_port);
    if (verdict == NET_ECHO_REQUEST) {
        uint32_t built = net_build_echo_reply(&host, parsed, out);
        require(built >= NET_FRAME_MIN && built <= NET_FRAME_MAX);
    }
    if (verdict == NET_ARP_REQUEST) require(net_build_arp_reply(&host, parsed, out) == 60);
    uint32_t address = parsed->source_address;
    require(address != host.address);
    require(address != 0 || verdict == NET_ARP_REQUEST);
    if (address == 0 || !net_on_link(&host, address)) return;
    net_neighbours_learn(&neighbours, now_ns, address, parsed->source_mac, 0, NET_SOURCE_FRAME);
    struct net_route route = net_neighbours_find(&neighbours, now_ns, address);
    require(route.ready && (route.mac[0] & 1) == 0);
    now_ns += 1000000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 4096) return 0;
    for (uint32_t trust = 0; trust < 8; trust++) {
        struct net_parsed parsed;
        enum net_verdict verdict = net_parse(&host, data, (uint32_t)size, trust, &parsed);
        require(verdict < NET_VERDICTS);
        if (verdict < NET_DROP_SHORT) use(verdict, &parsed, data, (uint32_t)size);
    }
    return 0;
}
