// A node: the three stages port, consensus and wal, joined by rings, over a port and a disk that
// the caller chose. A stage is not a thread: each is a poll function that does bounded work, never
// waits, and returns how much it did. Whoever calls them decides about threads, cores and idling:
// lcores on an appliance, one thread on a laptop, the simulator in tests.
//
//   port --port_to_consensus--> consensus --consensus_to_wal--> wal
//        <--consensus_to_port--           <--wal_to_consensus--
//
// Each stage is to be polled by one thread at a time. now_ns is CLOCK_MONOTONIC (or simulated),
// read once per round by the caller.
#ifndef CONCLAVE_NODE_H
#define CONCLAVE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "counters.h"
#include "machine/machine.h"
#include "raft/raft.h"
#include "store.h"

struct port;
struct disk;

// The log on disk is at least so many times the log in memory, so that everything in memory fits
// what is left when a snapshot is due at half.
#define NODE_WAL_PER_LOG 4u

struct node_peer {
    uint16_t id;
    uint64_t endpoint; // wire_endpoint_pack()
};

// Lends a node its memory: zeroed, aligned to 4096, all of it before node_open() returns, and given
// back by node_close(). For who runs many nodes one after the other.
struct node_lender {
    void *(*lend)(struct node_lender *lender, size_t bytes); // NULL: there is no more
    void (*take_back)(struct node_lender *lender, void *memory);
};

struct node_options {
    uint64_t cluster;
    uint32_t group;
    uint16_t id;
    uint16_t node_count; // this node included
    struct node_peer nodes[RAFT_NODES_MAX];
    uint64_t election_ns;
    uint64_t heartbeat_ns;
    uint32_t log_entries;
    uint32_t log_bytes;
    uint32_t window_entries;
    struct machine_limits limits;
    bool memory;            // durability = memory
    uint32_t segment_bytes; // times segment_count: at least NODE_WAL_PER_LOG * log_bytes
    uint32_t segment_count;
    uint32_t snapshot_percent; // take one when log or WAL are this full, 1 to 90
    uint64_t seed;
    struct port *port; // lent
    struct disk *disk; // lent
    // NULL: memory is the process's, and touched at once, so that no page is missing later.
    struct node_lender *lender;
};

struct node; // opaque

// Recovers from disk and is ready to be polled. NULL with a sentence in error.
struct node *node_open(const struct node_options *options, uint64_t now_ns, char error[256]);
void node_close(struct node *node); // after the last poll; port and disk stay the caller's

uint32_t node_poll_port(struct node *node, uint64_t now_ns);
uint32_t node_poll_consensus(struct node *node, uint64_t now_ns);
uint32_t node_poll_wal(struct node *node, uint64_t now_ns);

// For a caller that does not spin: when a stage is to be polled next if no datagram arrives and no
// disk operation completes, of which port and disk know. At or before now: at once. UINT64_MAX:
// never. Before that time a poll changes nothing. To be asked again after any stage was polled, and
// while none is: what the wal stage tells consensus beside their rings is seen here too.
uint64_t node_wake_port(const struct node *node);
uint64_t node_wake_consensus(const struct node *node);
uint64_t node_wake_wal(const struct node *node);
uint64_t node_wake_ns(const struct node *node); // the earliest of the three

// A node that failed (disk error, diverged state, limits) must be stopped: it does nothing more.
// NULL while well, else a sentence for the operator.
const char *node_failure(const struct node *node);
void node_status(const struct node *node, struct wire_status *status); // from the consensus thread
const struct counters *node_counters(const struct node *node);
// What was found on disk at node_open().
const struct store_recovered *node_recovered(const struct node *node);
const struct raft *node_raft(const struct node *node);       // for tests
const struct machine *node_machine(const struct node *node); // for tests

#endif
