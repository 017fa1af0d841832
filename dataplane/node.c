// Puts a node together and brings it back from its disk. All memory a node will ever use is taken
// here; afterwards only the three poll functions run.
#include "node.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stage/stage_consensus.h"
#include "stage/stage_port.h"
#include "stage/stage_wal.h"

struct node {
    struct stage_port port;
    _Alignas(64) struct stage_consensus consensus;
    _Alignas(64) struct stage_wal wal;
    struct counters counters;
    void *raft_memory, *machine_memory, *store_memory;
    struct rte_ring *rings[6];
    struct store_recovered recovered;
};

static_assert(STAGE_APPENDS + STAGE_HARD_STATES + STAGE_SNAPSHOTS == STAGE_WAL_REQUESTS,
              "the wal rings hold every request there is");

static void *zeroed(struct node_lender *lender, size_t bytes) {
    size_t rounded = (bytes + 4095u) & ~(size_t)4095u;
    if (lender != NULL) return lender->lend(lender, rounded);
    void *memory = aligned_alloc(4096, rounded);
    if (memory != NULL) memset(memory, 0, rounded);
    return memory;
}

static void give_back(struct node_lender *lender, void *memory) {
    if (lender == NULL)
        free(memory);
    else if (memory != NULL)
        lender->take_back(lender, memory);
}

// ---------------------------------------------------------------- counters

static uint64_t read_atomic(const void *owner, uint32_t index) {
    const _Atomic uint64_t *counters = owner;
    return atomic_load_explicit(&counters[index], memory_order_relaxed);
}
static const char *port_name(uint32_t i) {
    return port_counter_name((enum port_counter)i);
}
static const char *raft_name(uint32_t i) {
    return raft_counter_name((enum raft_counter)i);
}
static uint64_t raft_value(const void *owner, uint32_t i) {
    return raft_counter(owner, (enum raft_counter)i);
}

static void list_counters(struct node *node, struct port *port) {
    const struct counter_group groups[] = {
        {"port", PORT_COUNTERS, port_name, read_atomic, port->counters},
        {"frame", STAGE_PORT_COUNTERS, stage_port_counter_name, read_atomic, node->port.counters},
        {"node", STAGE_COUNTERS, stage_counter_name, read_atomic, node->consensus.counters},
        {"raft", RAFT_COUNTERS, raft_name, raft_value, node->consensus.raft},
        {"wal", STORE_COUNTERS + STAGE_WAL_COUNT_EXTRA, stage_wal_counter_name, read_atomic,
         node->wal.counters},
    };
    for (uint32_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        counters_add(&node->counters, &groups[i]);
}

// ---------------------------------------------------------------- recovery

struct replay {
    struct raft *raft;
    uint64_t stopped_at; // index of an entry that could not be taken, 0: none
};

static bool replay_entry(void *context, uint64_t index, const struct raft_entry *entry) {
    struct replay *replay = context;
    if (raft_restore_entry(replay->raft, index, entry)) return true;
    replay->stopped_at = index;
    return false;
}

static bool load_snapshot(struct node *node, char error[256]) {
    uint8_t *buffer = zeroed(node->consensus.options.lender, STORE_SNAPSHOT_BYTES);
    uint64_t offset = 0;
    int32_t bytes = -1;
    bool good = buffer != NULL;
    machine_restore_begin(node->consensus.machine);
    while (good && offset < node->recovered.snapshot_bytes) {
        bytes = store_snapshot_load(node->wal.store, offset, buffer, STORE_SNAPSHOT_BYTES);
        good = bytes > 0 && machine_restore_write(node->consensus.machine, buffer, (uint32_t)bytes);
        offset += bytes > 0 ? (uint64_t)bytes : 0;
    }
    good = good && machine_restore_end(node->consensus.machine) &&
           machine_applied(node->consensus.machine) == node->recovered.snapshot_index;
    give_back(node->consensus.options.lender, buffer);
    if (!good)
        snprintf(error, 256,
                 "the snapshot on disk cannot be loaded (%s): if [limits] were lowered, raise them "
                 "again; else remove this node's data directory and let it rejoin",
                 bytes < 0 ? strerror(-bytes) : "it does not fit");
    return good;
}

static bool recover(struct node *node, uint64_t now_ns, char error[256]) {
    const struct store_recovered *found = &node->recovered;
    struct stage_consensus *c = &node->consensus;
    bool memory = c->options.memory;
    raft_restore_hard_state(c->raft, found->term, found->vote);
    if (!memory && found->snapshot_index > 0) {
        if (!load_snapshot(node, error)) return false;
        raft_restore_snapshot(c->raft, found->snapshot_index, found->snapshot_term,
                              found->snapshot_time_ns);
        c->snapshot.newest_index = found->snapshot_index;
        c->snapshot.newest_term = found->snapshot_term;
        c->snapshot.newest_time_ns = found->snapshot_time_ns;
        c->snapshot.newest_bytes = found->snapshot_bytes;
    }
    struct replay replay = {.raft = c->raft};
    int result = memory ? 0 : store_replay(node->wal.store, replay_entry, &replay);
    if (result < 0) {
        snprintf(error, 256, "reading the log failed: %s; check the disk", strerror(-result));
        return false;
    }
    if (replay.stopped_at != 0) {
        snprintf(error, 256,
                 "log entry %llu does not fit: [raft] log_entries or log_size may have been "
                 "lowered; raise them again",
                 (unsigned long long)replay.stopped_at);
        return false;
    }
    raft_start(c->raft, now_ns);
    return true;
}

// ---------------------------------------------------------------- assembly

static bool create_raft(struct node *node) {
    struct stage_consensus *c = &node->consensus;
    const struct node_options *o = &c->options;
    struct raft_options options = {
        .id = o->id,
        .node_count = o->node_count,
        .election_ns = o->election_ns,
        .heartbeat_ns = o->heartbeat_ns,
        .log_entries = o->log_entries,
        .log_bytes = o->log_bytes,
        .window_entries = o->window_entries,
        .seed = o->seed,
        .noop = &c->options.limits,
        .noop_length = sizeof c->options.limits,
        // A log that is lost or damaged may lack what this node once acknowledged.
        .recovering = node->recovered.damaged || (o->memory && node->recovered.existed),
    };
    for (uint32_t i = 0; i < o->node_count; i++) options.nodes[i] = o->nodes[i].id;
    node->raft_memory = zeroed(o->lender, raft_bytes(&options));
    c->raft = node->raft_memory != NULL ? raft_create(node->raft_memory, &options) : NULL;
    return c->raft != NULL;
}

static bool create_machine(struct node *node) {
    struct stage_consensus *c = &node->consensus;
    node->machine_memory = zeroed(c->options.lender, machine_bytes(&c->options.limits));
    if (node->machine_memory == NULL) return false;
    c->machine = machine_create(node->machine_memory, &c->options.limits);
    if (c->machine == NULL) return false;
    machine_set_notice(c->machine, stage_on_notice, c);
    c->pending_mask = c->options.log_entries - 1;
    c->pending = zeroed(c->options.lender, c->options.log_entries * sizeof *c->pending);
    c->waiters = zeroed(c->options.lender, c->options.limits.claims * sizeof *c->waiters);
    c->reads = zeroed(c->options.lender, STAGE_READS * sizeof *c->reads);
    return c->pending != NULL && c->waiters != NULL && c->reads != NULL;
}

static bool create_requests(struct node *node) {
    struct stage_consensus *c = &node->consensus;
    struct store_request *all[STAGE_WAL_REQUESTS];
    for (uint32_t i = 0; i < STAGE_WAL_REQUESTS; i++) {
        struct store_request *request = all[i] = &c->requests[i];
        bool append = i < STAGE_APPENDS;
        bool hard = !append && i < STAGE_APPENDS + STAGE_HARD_STATES;
        request->type = append ? STORE_APPEND : hard ? STORE_HARD_STATE : STORE_SNAPSHOT_WRITE;
        request->data = zeroed(c->options.lender, append ? STORE_BATCH_BYTES
                                                  : hard ? STORE_BLOCK
                                                         : STORE_SNAPSHOT_BYTES);
        if (request->data == NULL) return false;
        if (append)
            c->free_append[c->free_append_count++] = request;
        else if (hard)
            c->hard_state = request;
        else
            c->free_snapshot[c->free_snapshot_count++] = request;
    }
    return store_register_buffers(node->wal.store, all, STAGE_WAL_REQUESTS) == 0;
}

static bool create_rings(struct node *node) {
    static const struct {
        const char *name;
        uint32_t capacity;
    } rings[6] = {
        {"port_to_consensus", STAGE_RX_PACKETS},  {"consensus_to_port_empty", STAGE_RX_PACKETS},
        {"consensus_to_port", STAGE_TX_PACKETS},  {"port_to_consensus_empty", STAGE_TX_PACKETS},
        {"consensus_to_wal", STAGE_WAL_REQUESTS}, {"wal_to_consensus", STAGE_WAL_REQUESTS},
    };
    for (uint32_t i = 0; i < 6; i++) {
        node->rings[i] = ring_create(rings[i].name, rings[i].capacity);
        if (node->rings[i] == NULL) return false;
    }
    struct stage_consensus *c = &node->consensus;
    node->port.to_consensus = c->from_port = node->rings[0];
    node->port.from_consensus_empty = c->to_port_empty = node->rings[1];
    node->port.from_consensus = c->to_port = node->rings[2];
    node->port.to_consensus_empty = c->from_port_empty = node->rings[3];
    c->to_wal = node->wal.from_consensus = node->rings[4];
    c->from_wal = node->wal.to_consensus = node->rings[5];
    return packet_pool_create(&node->port.pool, STAGE_RX_PACKETS) &&
           packet_pool_create(&c->tx, STAGE_TX_PACKETS) &&
           (node->port.busy = zeroed(c->options.lender, sizeof *node->port.busy)) != NULL;
}

static bool assemble(struct node *node, uint64_t now_ns, char error[256]) {
    const struct node_options *o = &node->consensus.options;
    struct store_options store = {
        .disk = o->disk,
        .cluster = o->cluster,
        .group = o->group,
        .node = o->id,
        .memory = o->memory,
        .segment_bytes = o->segment_bytes,
        .segment_count = o->segment_count,
    };
    snprintf(error, 256, "not enough memory for this node's tables: lower [limits] or log_size");
    node->store_memory = zeroed(o->lender, store_bytes(&store));
    if (node->store_memory == NULL) return false;
    if (store_open(node->store_memory, &store, &node->wal.store, &node->recovered, error) != 0) {
        node->wal.store = NULL;
        return false;
    }
    stage_wal_begin(&node->wal);
    if (!create_rings(node) || !create_machine(node) || !create_requests(node)) return false;
    if (!create_raft(node)) {
        snprintf(error, 256,
                 "the [raft] options contradict each other: log_entries and log_size "
                 "must be powers of two, heartbeat at most a third of election");
        return false;
    }
    node->port.port = o->port;
    node->port.cluster = o->cluster;
    node->port.group = o->group;
    node->port.node = o->id;
    node->consensus.wal_used_percent = &node->wal.used_percent;
    node->consensus.counter_list = &node->counters;
    node->consensus.started_ns = node->consensus.now_ns = now_ns;
    list_counters(node, o->port);
    return recover(node, now_ns, error);
}

struct node *node_open(const struct node_options *options, uint64_t now_ns, char error[256]) {
    struct node *node = zeroed(options->lender, sizeof *node);
    if (node == NULL) {
        snprintf(error, 256, "not enough memory");
        return NULL;
    }
    node->consensus.options = *options;
    if (assemble(node, now_ns, error)) return node;
    node_close(node);
    return NULL;
}

void node_close(struct node *node) {
    struct node_lender *lender = node->consensus.options.lender;
    if (node->wal.store != NULL) store_close(node->wal.store);
    for (uint32_t i = 0; i < STAGE_WAL_REQUESTS; i++)
        give_back(lender, node->consensus.requests[i].data);
    for (uint32_t i = 0; i < 6; i++) ring_destroy(node->rings[i]);
    packet_pool_destroy(&node->port.pool);
    packet_pool_destroy(&node->consensus.tx);
    give_back(lender, node->port.busy);
    give_back(lender, node->consensus.pending);
    give_back(lender, node->consensus.waiters);
    give_back(lender, node->consensus.reads);
    give_back(lender, node->raft_memory);
    give_back(lender, node->machine_memory);
    give_back(lender, node->store_memory);
    give_back(lender, node);
}

uint32_t node_poll_port(struct node *node, uint64_t now_ns) {
    return stage_port_poll(&node->port, now_ns);
}
uint32_t node_poll_consensus(struct node *node, uint64_t now_ns) {
    return stage_consensus_poll(&node->consensus, now_ns);
}
uint32_t node_poll_wal(struct node *node, uint64_t now_ns) {
    return stage_wal_poll(&node->wal, now_ns);
}

uint64_t node_wake_port(const struct node *node) {
    return rte_ring_empty(node->port.from_consensus) ? UINT64_MAX : 0;
}
uint64_t node_wake_consensus(const struct node *node) {
    return stage_consensus_wake_ns(&node->consensus);
}
uint64_t node_wake_wal(const struct node *node) {
    return stage_wal_due(&node->wal) ? 0 : UINT64_MAX;
}
uint64_t node_wake_ns(const struct node *node) {
    uint64_t port = node_wake_port(node), consensus = node_wake_consensus(node);
    uint64_t wake = port < consensus ? port : consensus, wal = node_wake_wal(node);
    return wal < wake ? wal : wake;
}

const char *node_failure(const struct node *node) {
    return __atomic_load_n(&node->consensus.failure, __ATOMIC_ACQUIRE);
}
void node_status(const struct node *node, struct wire_status *status) {
    stage_status(&node->consensus, status);
}
const struct counters *node_counters(const struct node *node) {
    return &node->counters;
}
const struct store_recovered *node_recovered(const struct node *node) {
    return &node->recovered;
}
const struct raft *node_raft(const struct node *node) {
    return node->consensus.raft;
}
const struct machine *node_machine(const struct node *node) {
    return node->consensus.machine;
}
