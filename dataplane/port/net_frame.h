// Ethernet, ARP, IPv4, UDP and ICMP echo: the little of each that a node on a network needs, as
// pure functions over bytes. No state, no allocation, no device: so the parser can be fuzzed and
// packets hand-made in tests. Addresses and ports are in host order, as in wire_endpoint_pack().
//
// A frame for us is a whole IPv4 datagram (RFC 791; no fragments, options skipped) to our MAC,
// address and UDP port, an ARP packet (RFC 826), or an ICMP echo request (RFC 792).
#ifndef CONCLAVE_NET_FRAME_H
#define CONCLAVE_NET_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#define NET_MAC_BYTES      6u
#define NET_ETHERNET_BYTES 14u
#define NET_IPV4_BYTES     20u // without options
#define NET_UDP_BYTES      8u
#define NET_HEADERS_BYTES  (NET_ETHERNET_BYTES + NET_IPV4_BYTES + NET_UDP_BYTES)
#define NET_FRAME_MIN      60u   // shorter ones are padded with zeros (IEEE 802.3, without FCS)
#define NET_FRAME_MAX      1514u // an MTU of 1500

// Who we are.
struct net_host {
    uint32_t address;
    uint16_t port; // UDP
    uint8_t mac[NET_MAC_BYTES];
    uint32_t gateway; // next hop beyond our subnet; 0: every address is a neighbour
    uint32_t mask;    // of our subnet; 0: every address is a neighbour
};

enum net_verdict {
    NET_DATAGRAM = 0, // for us: payload, source_address and source_port are set
    NET_ECHO_REQUEST, // payload is the ICMP message: answer with net_build_echo_reply()
    NET_ARP_REQUEST,  // asks for our address: answer with net_build_arp_reply()
    NET_ARP_NEWS,     // says where source_address is, nothing to answer
    NET_DROP_SHORT,   // truncated, or lengths that contradict each other
    NET_DROP_OVERSIZE,
    NET_DROP_CHECKSUM,
    NET_DROP_FRAGMENT,
    NET_DROP_OTHER, // another protocol, address or port
    NET_VERDICTS
};

// What is known about the checksums of a received frame before it is looked at.
//
// NET_TRUST_PARTIAL is for devices that hand over what another socket of this machine sent. There
// the kernel leaves the UDP checksum to "hardware" that does not exist: the field holds only the
// pseudo-header's sum, not yet complemented (CHECKSUM_PARTIAL in Linux' skbuff.h). Seen on veth,
// from an ordinary kernel socket: net_af_packet and net_af_xdp of DPDK 22.11 both hand over such
// frames as they are, without a flag in the mbuf. A field that equals that sum is accepted;
// Conclave's own CRC32C covers the payload anyway. tests/cluster/port_veth.sh shows it.
enum net_trust {
    NET_TRUST_IPV4 = 1,   // the device has verified the IPv4 header checksum
    NET_TRUST_UDP = 2,    // the device has verified the UDP checksum, or vouches for the data
    NET_TRUST_PARTIAL = 4 // accept a UDP checksum that was left partial
};

struct net_parsed {
    uint32_t source_address;
    uint16_t source_port;
    uint16_t payload_length;
    const uint8_t *payload; // inside the frame
    uint8_t source_mac[NET_MAC_BYTES];
};

// Judges any bytes. trust: enum net_trust, or-ed.
enum net_verdict net_parse(const struct net_host *host, const uint8_t *frame, uint32_t length,
                           uint32_t trust, struct net_parsed *parsed);

// Whether the neighbour table may hold this address: on our link (or everything is).
bool net_on_link(const struct net_host *host, uint32_t address);
// The neighbour to hand a datagram for `address` to; 0: cannot be sent to (0, multicast, broadcast,
// ourselves).
uint32_t net_next_hop(const struct net_host *host, uint32_t address);

// Builders return the frame's length. `out` of the ARP builders has NET_FRAME_MIN bytes, of the
// echo reply NET_FRAME_MAX.
uint32_t net_build_arp_request(const struct net_host *host, uint32_t address, uint8_t *out);
uint32_t net_build_arp_reply(const struct net_host *host, const struct net_parsed *request,
                             uint8_t *out);
uint32_t net_build_echo_reply(const struct net_host *host, const struct net_parsed *request,
                              uint8_t *out);

enum net_checksums {
    NET_CHECKSUM_FULL,   // computed here
    NET_CHECKSUM_DEVICE, // IPv4: zero, UDP: pseudo-header sum; the device completes both
};
// Writes NET_HEADERS_BYTES before a payload that is already at out + NET_HEADERS_BYTES, and pads a
// short frame. `out` has at least NET_FRAME_MIN bytes.
uint32_t net_build_udp(const struct net_host *host, const uint8_t mac[NET_MAC_BYTES],
                       uint64_t endpoint, uint32_t payload_length, enum net_checksums checksums,
                       uint8_t *out);

// Internet checksum (RFC 1071): ones' complement sum of `bytes`, continued from `sum`. Fold and
// complement with net_checksum_finish(). All parts but the last must be of even length.
uint64_t net_checksum_add(uint64_t sum, const void *bytes, uint32_t length);
uint16_t net_checksum_finish(uint64_t sum);

#endif
