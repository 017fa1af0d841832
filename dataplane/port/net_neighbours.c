// A small set-associative cache: an address hashes to one set of four, found by a linear look.
#include "net_neighbours.h"

#include <assert.h>
#include <string.h>

static_assert((NET_NEIGHBOUR_SETS & (NET_NEIGHBOUR_SETS - 1)) == 0, "sets are masked");

static struct net_neighbour *set_of(struct net_neighbours *table, uint32_t address) {
    // Fibonacci hashing: neighbours differ in their low bits, the product spreads them to the top.
    uint32_t hash = address * 2654435769u;
    return table->entries[(hash >> 16) & (NET_NEIGHBOUR_SETS - 1)];
}

static struct net_neighbour *find(struct net_neighbours *table, uint32_t address) {
    struct net_neighbour *set = set_of(table, address);
    for (uint32_t i = 0; i < NET_NEIGHBOUR_WAYS; i++) {
        if (set[i].address == address) return &set[i];
    }
    return NULL;
}

// A free entry of the address's set, or the one that was unused for longest.
static struct net_neighbour *claim(struct net_neighbours *table, uint32_t address) {
    struct net_neighbour *set = set_of(table, address);
    struct net_neighbour *victim = &set[0];
    for (uint32_t i = 0; i < NET_NEIGHBOUR_WAYS; i++) {
        if (set[i].address == 0) {
            victim = &set[i];
            break;
        }
        if (set[i].used_ns < victim->used_ns) victim = &set[i];
    }
    memset(victim, 0, sizeof *victim);
    victim->address = address;
    return victim;
}

struct net_route net_neighbours_find(struct net_neighbours *table, uint64_t now_ns,
                                     uint32_t address) {
    assert(address != 0);
    struct net_neighbour *entry = find(table, address);
    if (entry == NULL) entry = claim(table, address);
    entry->used_ns = now_ns;
    struct net_route route = {0};
    if (entry->asking && now_ns - entry->first_asked_ns >= NET_NEIGHBOUR_LOST_NS) {
        entry->resolved = false;
    }
    route.ready = entry->resolved;
    route.link = entry->link;
    memcpy(route.mac, entry->mac, NET_MAC_BYTES);
    bool doubtful = !entry->resolved || now_ns - entry->confirmed_ns >= NET_NEIGHBOUR_STALE_NS;
    if (doubtful && (!entry->asking || now_ns - entry->asked_ns >= NET_NEIGHBOUR_ASK_NS)) {
        if (!entry->asking) entry->first_asked_ns = now_ns;
        entry->asking = true;
        entry->asked_ns = now_ns;
        route.ask = true;
    }
    return route;
}

void net_neighbours_learn(struct net_neighbours *table, uint64_t now_ns, uint32_t address,
                          const uint8_t mac[NET_MAC_BYTES], uint8_t link, enum net_source source) {
    assert(address != 0);
    struct net_neighbour *entry = find(table, address);
    if (entry == NULL) {
        if (source == NET_SOURCE_ARP) return;
        entry = claim(table, address);
    } else if (source == NET_SOURCE_FRAME && entry->resolved &&
               (entry->link != link || memcmp(entry->mac, mac, NET_MAC_BYTES) != 0) &&
               now_ns - entry->confirmed_ns < NET_NEIGHBOUR_STALE_NS) {
        // A datagram alone does not move a neighbour that was just seen elsewhere.
        return;
    }
    memcpy(entry->mac, mac, NET_MAC_BYTES);
    entry->link = link;
    entry->resolved = true;
    entry->asking = false;
    entry->confirmed_ns = now_ns;
    entry->used_ns = now_ns;
}
