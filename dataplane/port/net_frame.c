// Parsing goes strictly inwards: Ethernet, then ARP or IPv4, then UDP or ICMP; each layer checks
// its own length against what the layer outside has proved to be there. Fields are read and written
// by named offsets through memcpy, since an Ethernet header leaves everything behind it misaligned.
#include "net_frame.h"

#include <assert.h>
#include <string.h>

#include "conclave_wire.h"

static_assert(NET_HEADERS_BYTES + WIRE_FRAME_MAX == NET_FRAME_MAX, "a full frame fills the MTU");

enum { ETHERNET_DESTINATION = 0, ETHERNET_SOURCE = 6, ETHERNET_TYPE = 12 };
enum { TYPE_IPV4 = 0x0800, TYPE_ARP = 0x0806 };

enum {
    ARP_HARDWARE = 0,
    ARP_PROTOCOL = 2,
    ARP_HARDWARE_LENGTH = 4,
    ARP_PROTOCOL_LENGTH = 5,
    ARP_OPERATION = 6,
    ARP_SENDER_MAC = 8,
    ARP_SENDER_ADDRESS = 14,
    ARP_TARGET_MAC = 18,
    ARP_TARGET_ADDRESS = 24,
    ARP_BYTES = 28
};
enum { ARP_HARDWARE_ETHERNET = 1, ARP_OPERATION_REQUEST = 1, ARP_OPERATION_REPLY = 2 };

enum {
    IPV4_VERSION_LENGTH = 0,
    IPV4_TOTAL_LENGTH = 2,
    IPV4_FRAGMENT = 6, // flags and offset
    IPV4_TTL = 8,
    IPV4_PROTOCOL = 9,
    IPV4_CHECKSUM = 10,
    IPV4_SOURCE = 12,
    IPV4_DESTINATION = 16
};
enum { IPV4_DONT_FRAGMENT = 0x4000, IPV4_FRAGMENTED = 0x3fff, IPV4_DEFAULT_TTL = 64 };
enum { PROTOCOL_ICMP = 1, PROTOCOL_UDP = 17 };

enum { UDP_SOURCE = 0, UDP_DESTINATION = 2, UDP_LENGTH = 4, UDP_CHECKSUM = 6 };

enum { ICMP_TYPE = 0, ICMP_CODE = 1, ICMP_CHECKSUM = 2, ICMP_BYTES = 8 };
enum { ICMP_ECHO_REPLY = 0, ICMP_ECHO_REQUEST = 8 };

static const uint8_t mac_broadcast[NET_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static uint16_t get16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return __builtin_bswap16(value);
}

static uint32_t get32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return __builtin_bswap32(value);
}

static void put16(uint8_t *at, uint32_t value) {
    uint16_t swapped = __builtin_bswap16((uint16_t)value);
    memcpy(at, &swapped, sizeof swapped);
}

static void put32(uint8_t *at, uint32_t value) {
    uint32_t swapped = __builtin_bswap32(value);
    memcpy(at, &swapped, sizeof swapped);
}

// ---------------------------------------------------------------- checksums

// Sums in memory order: a ones' complement sum is the same in either byte order but for the order
// of its result (RFC 1071, 2.B), which net_checksum_finish() gives as a host-order number.
uint64_t net_checksum_add(uint64_t sum, const void *bytes, uint32_t length) {
    const uint8_t *at = bytes;
    for (; length >= 4; at += 4, length -= 4) {
        uint32_t word;
        memcpy(&word, at, sizeof word);
        sum += word;
    }
    if (length >= 2) {
        uint16_t half;
        memcpy(&half, at, sizeof half);
        sum += half;
        at += 2;
        length -= 2;
    }
    if (length != 0) sum += *at; // as if a zero byte followed
    return sum;
}

static uint16_t checksum_fold(uint64_t sum) {
    sum = (sum & 0xffffffffu) + (sum >> 32);
    sum = (sum & 0xffffffffu) + (sum >> 32);
    sum = (sum & 0xffffu) + (sum >> 16);
    sum = (sum & 0xffffu) + (sum >> 16);
    return __builtin_bswap16((uint16_t)sum);
}

uint16_t net_checksum_finish(uint64_t sum) {
    return (uint16_t)~checksum_fold(sum);
}

// Source, destination, protocol and length (RFC 768).
static uint64_t pseudo_header_sum(const uint8_t *ipv4, uint32_t udp_length) {
    uint8_t tail[4] = {0, PROTOCOL_UDP};
    put16(tail + 2, udp_length);
    return net_checksum_add(net_checksum_add(0, ipv4 + IPV4_SOURCE, 8), tail, sizeof tail);
}

static bool udp_checksum_is_right(const uint8_t *ipv4, const uint8_t *udp, uint32_t udp_length,
                                  uint32_t trust) {
    uint16_t field = get16(udp + UDP_CHECKSUM);
    if (field == 0 || trust & NET_TRUST_UDP) return true; // RFC 768: zero means none was made
    uint64_t pseudo = pseudo_header_sum(ipv4, udp_length);
    if (net_checksum_finish(net_checksum_add(pseudo, udp, udp_length)) == 0) return true;
    return (trust & NET_TRUST_PARTIAL) && field == checksum_fold(pseudo);
}

// ---------------------------------------------------------------- addresses

static bool address_is_unicast(uint32_t address) {
    return address != 0 && address < 0xe0000000u; // below 224.0.0.0: not multicast, not broadcast
}

static bool mac_is_unicast(const uint8_t *mac) {
    static const uint8_t zero[NET_MAC_BYTES];
    return (mac[0] & 1) == 0 && memcmp(mac, zero, sizeof zero) != 0;
}

static bool in_subnet(const struct net_host *host, uint32_t address) {
    return ((address ^ host->address) & host->mask) == 0; // mask 0: always
}

bool net_on_link(const struct net_host *host, uint32_t address) {
    return host->gateway == 0 || in_subnet(host, address);
}

uint32_t net_next_hop(const struct net_host *host, uint32_t address) {
    if (!address_is_unicast(address) || address == host->address) return 0;
    // The subnet's own broadcast address; a /31 or /32 has none (RFC 3021).
    bool has_broadcast = host->mask != 0 && host->mask < 0xfffffffeu;
    if (has_broadcast && in_subnet(host, address) && (address | host->mask) == 0xffffffffu) {
        return 0;
    }
    return net_on_link(host, address) ? address : host->gateway;
}

// ---------------------------------------------------------------- parsing

static enum net_verdict parse_arp(const struct net_host *host, const uint8_t *arp, uint32_t length,
                                  struct net_parsed *parsed) {
    if (length < ARP_BYTES) return NET_DROP_SHORT;
    if (get16(arp + ARP_HARDWARE) != ARP_HARDWARE_ETHERNET ||
        get16(arp + ARP_PROTOCOL) != TYPE_IPV4 || arp[ARP_HARDWARE_LENGTH] != NET_MAC_BYTES ||
        arp[ARP_PROTOCOL_LENGTH] != 4) {
        return NET_DROP_OTHER;
    }
    uint16_t operation = get16(arp + ARP_OPERATION);
    if (operation != ARP_OPERATION_REQUEST && operation != ARP_OPERATION_REPLY) {
        return NET_DROP_OTHER;
    }
    parsed->source_address = get32(arp + ARP_SENDER_ADDRESS);
    memcpy(parsed->source_mac, arp + ARP_SENDER_MAC, NET_MAC_BYTES);
    if (!mac_is_unicast(parsed->source_mac)) return NET_DROP_OTHER;
    bool for_us = get32(arp + ARP_TARGET_ADDRESS) == host->address;
    // A probe (RFC 5227) comes from address 0 and wants an answer, but teaches nothing.
    if (for_us && operation == ARP_OPERATION_REQUEST && parsed->source_address == 0) {
        return NET_ARP_REQUEST;
    }
    if (!address_is_unicast(parsed->source_address) || parsed->source_address == host->address) {
        return NET_DROP_OTHER;
    }
    return for_us && operation == ARP_OPERATION_REQUEST ? NET_ARP_REQUEST : NET_ARP_NEWS;
}

static enum net_verdict parse_udp(const struct net_host *host, const uint8_t *ipv4,
                                  const uint8_t *udp, uint32_t length, uint32_t trust,
                                  struct net_parsed *parsed) {
    if (length < NET_UDP_BYTES) return NET_DROP_SHORT;
    if (get16(udp + UDP_DESTINATION) != host->port) return NET_DROP_OTHER;
    uint32_t udp_length = get16(udp + UDP_LENGTH);
    if (udp_length < NET_UDP_BYTES || udp_length > length) return NET_DROP_SHORT;
    if (udp_length - NET_UDP_BYTES > WIRE_FRAME_MAX) return NET_DROP_OVERSIZE;
    if (!udp_checksum_is_right(ipv4, udp, udp_length, trust)) return NET_DROP_CHECKSUM;
    parsed->source_port = get16(udp + UDP_SOURCE);
    if (parsed->source_port == 0) return NET_DROP_OTHER; // nowhere to answer to
    parsed->payload = udp + NET_UDP_BYTES;
    parsed->payload_length = (uint16_t)(udp_length - NET_UDP_BYTES);
    return NET_DATAGRAM;
}

static enum net_verdict parse_icmp(const uint8_t *icmp, uint32_t length,
                                   struct net_parsed *parsed) {
    if (length < ICMP_BYTES) return NET_DROP_SHORT;
    if (icmp[ICMP_TYPE] != ICMP_ECHO_REQUEST || icmp[ICMP_CODE] != 0) return NET_DROP_OTHER;
    if (length > NET_FRAME_MAX - NET_ETHERNET_BYTES - NET_IPV4_BYTES) return NET_DROP_OVERSIZE;
    if (net_checksum_finish(net_checksum_add(0, icmp, length)) != 0) return NET_DROP_CHECKSUM;
    parsed->payload = icmp;
    parsed->payload_length = (uint16_t)length;
    return NET_ECHO_REQUEST;
}

static enum net_verdict parse_ipv4(const struct net_host *host, const uint8_t *ipv4,
                                   uint32_t length, uint32_t trust, struct net_parsed *parsed) {
    if (length < NET_IPV4_BYTES) return NET_DROP_SHORT;
    if (ipv4[IPV4_VERSION_LENGTH] >> 4 != 4) return NET_DROP_OTHER;
    uint32_t header = (ipv4[IPV4_VERSION_LENGTH] & 15u) * 4u;
    uint32_t total = get16(ipv4 + IPV4_TOTAL_LENGTH);
    // The frame may be longer than the datagram: Ethernet pads.
    if (header < NET_IPV4_BYTES || total < header || total > length) return NET_DROP_SHORT;
    if (get32(ipv4 + IPV4_DESTINATION) != host->address) return NET_DROP_OTHER;
    if (!(trust & NET_TRUST_IPV4) && net_checksum_finish(net_checksum_add(0, ipv4, header)) != 0) {
        return NET_DROP_CHECKSUM;
    }
    // More-fragments or an offset. Conclave's frames fit the MTU, so nobody has a reason to.
    if (get16(ipv4 + IPV4_FRAGMENT) & IPV4_FRAGMENTED) return NET_DROP_FRAGMENT;
    parsed->source_address = get32(ipv4 + IPV4_SOURCE);
    if (!address_is_unicast(parsed->source_address) || parsed->source_address == host->address) {
        return NET_DROP_OTHER;
    }
    if (ipv4[IPV4_PROTOCOL] == PROTOCOL_UDP) {
        return parse_udp(host, ipv4, ipv4 + header, total - header, trust, parsed);
    }
    if (ipv4[IPV4_PROTOCOL] == PROTOCOL_ICMP) {
        return parse_icmp(ipv4 + header, total - header, parsed);
    }
    return NET_DROP_OTHER;
}

enum net_verdict net_parse(const struct net_host *host, const uint8_t *frame, uint32_t length,
                           uint32_t trust, struct net_parsed *parsed) {
    memset(parsed, 0, sizeof *parsed);
    if (length < NET_ETHERNET_BYTES) return NET_DROP_SHORT;
    const uint8_t *destination = frame + ETHERNET_DESTINATION;
    const uint8_t *inner = frame + NET_ETHERNET_BYTES;
    uint32_t inner_length = length - NET_ETHERNET_BYTES;
    uint16_t type = get16(frame + ETHERNET_TYPE);
    bool to_us = memcmp(destination, host->mac, NET_MAC_BYTES) == 0;
    if (type == TYPE_ARP) {
        if (!to_us && memcmp(destination, mac_broadcast, NET_MAC_BYTES) != 0) return NET_DROP_OTHER;
        return parse_arp(host, inner, inner_length, parsed);
    }
    // A unicast datagram in a broadcast frame is discarded (RFC 1122, 3.3.6).
    if (type != TYPE_IPV4 || !to_us) return NET_DROP_OTHER;
    memcpy(parsed->source_mac, frame + ETHERNET_SOURCE, NET_MAC_BYTES);
    if (!mac_is_unicast(parsed->source_mac)) return NET_DROP_OTHER;
    return parse_ipv4(host, inner, inner_length, trust, parsed);
}

// ---------------------------------------------------------------- building

static void build_ethernet(const struct net_host *host, const uint8_t *destination, uint16_t type,
                           uint8_t *out) {
    memcpy(out + ETHERNET_DESTINATION, destination, NET_MAC_BYTES);
    memcpy(out + ETHERNET_SOURCE, host->mac, NET_MAC_BYTES);
    put16(out + ETHERNET_TYPE, type);
}

// DF is set and so the identification may be constant (RFC 6864, 4.1).
static void build_ipv4(const struct net_host *host, uint32_t destination, uint8_t protocol,
                       uint32_t payload_length, enum net_checksums checksums, uint8_t *out) {
    memset(out, 0, NET_IPV4_BYTES);
    out[IPV4_VERSION_LENGTH] = 4 << 4 | NET_IPV4_BYTES / 4;
    put16(out + IPV4_TOTAL_LENGTH, NET_IPV4_BYTES + payload_length);
    put16(out + IPV4_FRAGMENT, IPV4_DONT_FRAGMENT);
    out[IPV4_TTL] = IPV4_DEFAULT_TTL;
    out[IPV4_PROTOCOL] = protocol;
    put32(out + IPV4_SOURCE, host->address);
    put32(out + IPV4_DESTINATION, destination);
    if (checksums == NET_CHECKSUM_FULL) {
        put16(out + IPV4_CHECKSUM, net_checksum_finish(net_checksum_add(0, out, NET_IPV4_BYTES)));
    }
}

static uint32_t pad_frame(uint8_t *out, uint32_t length) {
    if (length >= NET_FRAME_MIN) return length;
    memset(out + length, 0, NET_FRAME_MIN - length);
    return NET_FRAME_MIN;
}

static uint32_t build_arp(const struct net_host *host, uint16_t operation,
                          const uint8_t *ethernet_mac, const uint8_t *target_mac,
                          uint32_t target_address, uint8_t *out) {
    build_ethernet(host, ethernet_mac, TYPE_ARP, out);
    uint8_t *arp = out + NET_ETHERNET_BYTES;
    put16(arp + ARP_HARDWARE, ARP_HARDWARE_ETHERNET);
    put16(arp + ARP_PROTOCOL, TYPE_IPV4);
    arp[ARP_HARDWARE_LENGTH] = NET_MAC_BYTES;
    arp[ARP_PROTOCOL_LENGTH] = 4;
    put16(arp + ARP_OPERATION, operation);
    memcpy(arp + ARP_SENDER_MAC, host->mac, NET_MAC_BYTES);
    put32(arp + ARP_SENDER_ADDRESS, host->address);
    memcpy(arp + ARP_TARGET_MAC, target_mac, NET_MAC_BYTES);
    put32(arp + ARP_TARGET_ADDRESS, target_address);
    return pad_frame(out, NET_ETHERNET_BYTES + ARP_BYTES);
}

uint32_t net_build_arp_request(const struct net_host *host, uint32_t address, uint8_t *out) {
    static const uint8_t unknown[NET_MAC_BYTES];
    return build_arp(host, ARP_OPERATION_REQUEST, mac_broadcast, unknown, address, out);
}

uint32_t net_build_arp_reply(const struct net_host *host, const struct net_parsed *request,
                             uint8_t *out) {
    return build_arp(host, ARP_OPERATION_REPLY, request->source_mac, request->source_mac,
                     request->source_address, out);
}

uint32_t net_build_echo_reply(const struct net_host *host, const struct net_parsed *request,
                              uint8_t *out) {
    uint32_t length = request->payload_length;
    assert(length >= ICMP_BYTES);
    assert(length <= NET_FRAME_MAX - NET_ETHERNET_BYTES - NET_IPV4_BYTES);
    // To where it came from, without asking the neighbour table: a ping must be answerable first.
    build_ethernet(host, request->source_mac, TYPE_IPV4, out);
    build_ipv4(host, request->source_address, PROTOCOL_ICMP, length, NET_CHECKSUM_FULL,
               out + NET_ETHERNET_BYTES);
    uint8_t *icmp = out + NET_ETHERNET_BYTES + NET_IPV4_BYTES;
    memcpy(icmp, request->payload, length);
    icmp[ICMP_TYPE] = ICMP_ECHO_REPLY;
    put16(icmp + ICMP_CHECKSUM, 0);
    put16(icmp + ICMP_CHECKSUM, net_checksum_finish(net_checksum_add(0, icmp, length)));
    return pad_frame(out, NET_ETHERNET_BYTES + NET_IPV4_BYTES + length);
}

uint32_t net_build_udp(const struct net_host *host, const uint8_t mac[NET_MAC_BYTES],
                       uint64_t endpoint, uint32_t payload_length, enum net_checksums checksums,
                       uint8_t *out) {
    assert(payload_length <= WIRE_FRAME_MAX);
    uint32_t udp_length = NET_UDP_BYTES + payload_length;
    build_ethernet(host, mac, TYPE_IPV4, out);
    uint8_t *ipv4 = out + NET_ETHERNET_BYTES;
    build_ipv4(host, (uint32_t)(endpoint >> 16), PROTOCOL_UDP, udp_length, checksums, ipv4);
    uint8_t *udp = ipv4 + NET_IPV4_BYTES;
    put16(udp + UDP_SOURCE, host->port);
    put16(udp + UDP_DESTINATION, (uint16_t)endpoint);
    put16(udp + UDP_LENGTH, udp_length);
    put16(udp + UDP_CHECKSUM, 0);
    uint64_t pseudo = pseudo_header_sum(ipv4, udp_length);
    if (checksums == NET_CHECKSUM_DEVICE) {
        put16(udp + UDP_CHECKSUM, checksum_fold(pseudo));
    } else {
        uint16_t checksum = net_checksum_finish(net_checksum_add(pseudo, udp, udp_length));
        put16(udp + UDP_CHECKSUM, checksum != 0 ? checksum : 0xffff); // zero would mean "none"
    }
    return pad_frame(out, NET_HEADERS_BYTES + payload_length);
}
