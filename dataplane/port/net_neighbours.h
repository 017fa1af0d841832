// Which MAC an IPv4 neighbour has and on which of our links it is: a fixed table, filled by ARP
// (RFC 826) and by frames that were accepted. Pure: time comes in as an argument, the caller sends
// the requests, on all its links.
//
// The table is set-associative and evicts the entry of a set that was unused for longest, so a
// flood of invented senders costs a resolution now and then but never memory or an unbounded
// search. An entry is confirmed by ARP or by any accepted frame from the same MAC. Unconfirmed for
// NET_NEIGHBOUR_STALE_NS it is asked for again and still used, but forgotten if no answer comes for
// NET_NEIGHBOUR_LOST_NS: so an address that moves to another machine is found again.
#ifndef CONCLAVE_NET_NEIGHBOURS_H
#define CONCLAVE_NET_NEIGHBOURS_H

#include <stdbool.h>
#include <stdint.h>

#include "net_frame.h"

#define NET_NEIGHBOUR_SETS     256u // power of two
#define NET_NEIGHBOUR_WAYS     4u
#define NET_NEIGHBOUR_ASK_NS   100000000ull   // at most one ARP request per neighbour in 100 ms
#define NET_NEIGHBOUR_STALE_NS 30000000000ull // 30 s
#define NET_NEIGHBOUR_LOST_NS  10000000000ull // 10 s

struct net_neighbour {
    uint64_t confirmed_ns;   // when last seen there
    uint64_t first_asked_ns; // when asked for, for the first time since it was confirmed
    uint64_t asked_ns;       // and for the last time
    uint64_t used_ns;        // when last looked up or confirmed
    uint32_t address;        // 0: free
    uint8_t mac[NET_MAC_BYTES];
    uint8_t link;
    bool resolved;
    bool asking; // a request has not been answered yet
};

struct net_neighbours { // zeroed is empty
    struct net_neighbour entries[NET_NEIGHBOUR_SETS][NET_NEIGHBOUR_WAYS];
};

struct net_route {
    bool ready; // mac and link are usable
    bool ask;   // send an ARP request for `address` now
    uint8_t link;
    uint8_t mac[NET_MAC_BYTES];
};
// Where to send frames for this neighbour. Makes an entry if there is none.
struct net_route net_neighbours_find(struct net_neighbours *table, uint64_t now_ns,
                                     uint32_t address);

enum net_source {
    NET_SOURCE_REQUEST, // ARP request for our address: it will talk to us, remember it
    NET_SOURCE_ARP,     // any other ARP: corrects an entry, never makes one
    NET_SOURCE_FRAME,   // accepted datagram: makes or confirms an entry, replaces only a stale one
};
void net_neighbours_learn(struct net_neighbours *table, uint64_t now_ns, uint32_t address,
                          const uint8_t mac[NET_MAC_BYTES], uint8_t link, enum net_source source);

#endif
