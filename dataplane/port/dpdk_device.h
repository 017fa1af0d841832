// One ethdev of a DPDK port: found by name, given one receive and one transmit queue, started; and
// the frames on their way out of it during one burst.
#ifndef CONCLAVE_DPDK_DEVICE_H
#define CONCLAVE_DPDK_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#include "net_frame.h"
#include "port/port.h"

// Frames the port itself wants to send through a device during one burst: at most one per frame
// received or sent, ARP requests and answers together.
#define DPDK_ANSWERS_MAX PACKET_BURST

struct dpdk_device {
    uint16_t id;
    uint32_t trust;           // enum net_trust for all its frames
    uint64_t offload_flags;   // for a UDP mbuf; 0: checksums in software
    struct rte_mempool *pool; // its own: af_xdp sends without a copy only out of the pool it has
    struct net_host host;     // our address with this device's MAC
    uint32_t answer_count;
    uint32_t staged_count;
    struct rte_mbuf *answers[DPDK_ANSWERS_MAX];
    struct rte_mbuf *staged[PACKET_BURST];   // datagrams
    uint64_t staged_until[PACKET_BURST + 1]; // bytes of payload in the first n of them
};

// Devices `names` stands for: separated by commas and blanks, or NULL for the only one there is.
// Returns how many, 0 with a sentence in error.
uint32_t dpdk_devices_find(const char *names, uint16_t ids[PORT_DPDK_DEVICES_MAX], char error[256]);
// Fills in and starts a zeroed device. False with a sentence in error, and nothing to close.
bool dpdk_device_open(struct dpdk_device *device, uint16_t id,
                      const struct port_dpdk_options *options, char error[256]);
void dpdk_device_close(struct dpdk_device *device);

// Checksums of a received frame, as far as the device has seen to them: enum net_trust.
uint32_t dpdk_device_trust(const struct dpdk_device *device, const struct rte_mbuf *mbuf);

struct dpdk_sent { // of a flush
    uint32_t packets;
    uint32_t full;    // the device had no room: freed
    uint32_t refused; // its driver would not have them: freed
    uint64_t bytes;   // of payload
};
// Hands over what is staged, then the answers.
struct dpdk_sent dpdk_device_flush(struct dpdk_device *device);

#endif
