// See host.h.
#include "host.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "counters.h"
#include "disk.h"

#define STATUS_WORDS (sizeof(struct wire_status) / sizeof(uint64_t))
static_assert(sizeof(struct wire_status) % sizeof(uint64_t) == 0, "copied by words");

struct host {
    struct config config;
    struct port *port;
    struct disk *disk;
    struct node *node;
    struct wire_status told; // by host_describe_change()
    bool told_any;
    // The status, copied out by the consensus thread. A sequence lock: odd while it is written.
    _Alignas(64) uint64_t published_ns;
    _Atomic uint32_t sequence;
    _Atomic uint64_t words[STATUS_WORDS];
};

// ---------------------------------------------------------------- opening

static uint64_t read_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool open_udp(struct host *host, char error[256]) {
    const struct config *config = &host->config;
    const struct port_udp_options options = {.endpoint = config->endpoint,
                                             .buffer_bytes = config->port.buffer_bytes};
    host->port = port_udp_open(&options, error);
    return host->port != NULL;
}

static bool open_dpdk(struct host *host, host_dpdk_fn dpdk, char error[256]) {
    const struct config *config = &host->config;
    const struct port_dpdk_options options = {
        .endpoint = config->endpoint,
        .eal = config->port.eal,
        .device = config->port.device[0] != 0 ? config->port.device : NULL,
        .rx_queue_descriptors = config->port.rx_descriptors,
        .tx_queue_descriptors = config->port.tx_descriptors,
        .gateway = config->port.gateway,
        .prefix_length = config->port.prefix_length,
    };
    snprintf(error, 256, "[port] type = dpdk: only conclaved has DPDK ports; use udp here");
    if (dpdk != NULL) host->port = dpdk(&options, error);
    return host->port != NULL;
}

// Disk first, since its lock tells that this node runs already; then the port, which may be in use;
// the node last, since it may write the log's segments in full.
static bool open_all(struct host *host, host_dpdk_fn dpdk, char error[256]) {
    struct node_options *options = &host->config.node;
    host->disk = disk_uring_open(host->config.data_dir, error);
    if (host->disk == NULL) return false;
    bool udp = host->config.port.type == CONFIG_UDP;
    if (!(udp ? open_udp(host, error) : open_dpdk(host, dpdk, error))) return false;
    options->port = host->port;
    options->disk = host->disk;
    if (getrandom(&options->seed, sizeof options->seed, 0) != sizeof options->seed) {
        snprintf(error, 256, "the kernel gives no random numbers: %s", strerror(errno));
        return false;
    }
    host->node = node_open(options, read_clock(), error);
    return host->node != NULL;
}

struct host *host_open(const struct config *config, host_dpdk_fn dpdk, char error[256]) {
    struct host *host = aligned_alloc(64, (sizeof *host + 63) & ~(size_t)63);
    snprintf(error, 256, "not enough memory");
    if (host == NULL) return NULL;
    memset(host, 0, sizeof *host);
    host->config = *config;
    if (open_all(host, dpdk, error)) return host;
    host_close(host);
    return NULL;
}

void host_close(struct host *host) {
    if (host->node != NULL) node_close(host->node);
    if (host->port != NULL) host->port->ops->close(host->port);
    if (host->disk != NULL) host->disk->ops->close(host->disk);
    free(host);
}

// ---------------------------------------------------------------- stages

// No fences, which ThreadSanitizer cannot follow: who reads a new word (acquire) sees that the
// sequence was odd when it was written (release), and begins again.
static void publish(struct host *host, uint64_t now_ns) {
    union {
        struct wire_status status;
        uint64_t words[STATUS_WORDS];
    } copy;
    node_status(host->node, &copy.status);
    uint32_t sequence = atomic_load_explicit(&host->sequence, memory_order_relaxed);
    atomic_store_explicit(&host->sequence, sequence + 1, memory_order_relaxed);
    for (uint32_t i = 0; i < STATUS_WORDS; i++)
        atomic_store_explicit(&host->words[i], copy.words[i], memory_order_release);
    atomic_store_explicit(&host->sequence, sequence + 2, memory_order_release);
    host->published_ns = now_ns;
}

void host_status(const struct host *host, struct wire_status *status) {
    union {
        struct wire_status status;
        uint64_t words[STATUS_WORDS];
    } copy;
    uint32_t before, after;
    do {
        before = atomic_load_explicit(&host->sequence, memory_order_acquire);
        for (uint32_t i = 0; i < STATUS_WORDS; i++)
            copy.words[i] = atomic_load_explicit(&host->words[i], memory_order_acquire);
        after = atomic_load_explicit(&host->sequence, memory_order_relaxed);
    } while (before != after || before % 2 != 0);
    *status = copy.status;
}

static uint32_t poll_port(void *context, uint64_t now_ns) {
    return node_poll_port(((struct host *)context)->node, now_ns);
}
static uint32_t poll_wal(void *context, uint64_t now_ns) {
    return node_poll_wal(((struct host *)context)->node, now_ns);
}
static uint32_t poll_consensus(void *context, uint64_t now_ns) {
    struct host *host = context;
    uint32_t work = node_poll_consensus(host->node, now_ns);
    if (now_ns - host->published_ns >= HOST_STATUS_NS) publish(host, now_ns);
    return work;
}
static const char *stage_failure(void *context) {
    return node_failure(((struct host *)context)->node);
}
static int port_fd(void *context) {
    struct port *port = ((struct host *)context)->port;
    return port->ops->wait_fd(port);
}
static int disk_fd(void *context) {
    struct disk *disk = ((struct host *)context)->disk;
    return disk->ops->wait_fd(disk);
}

static const struct topology_stage port_stage = {
    .name = "port", .poll = poll_port, .wait_fd = port_fd};
static const struct topology_stage consensus_stage = {.name = "consensus", .poll = poll_consensus};
static const struct topology_stage wal_stage = {
    .name = "wal", .poll = poll_wal, .wait_fd = disk_fd};

static bool bind_stage(struct host *host, struct topology *topology, int lcore,
                       const struct topology_stage *kind, char error[256]) {
    struct topology_stage stage = *kind;
    stage.context = host;
    stage.owner = host->config.node.id;
    stage.failure = stage_failure;
    if (lcore >= 0 && topology_bind(topology, lcore, &stage)) return true;
    snprintf(error, 256, "more than %u threads or %u stages in one process: run fewer nodes in it",
             TOPOLOGY_LCORES_MAX, TOPOLOGY_STAGES_MAX);
    return false;
}

bool host_register_on(struct host *host, struct topology *topology, int lcore, char error[256]) {
    return bind_stage(host, topology, lcore, &port_stage, error) &&
           bind_stage(host, topology, lcore, &consensus_stage, error) &&
           bind_stage(host, topology, lcore, &wal_stage, error);
}

static enum topology_idle idle_for(const struct config *config, int cpu) {
    switch (config->topology.idle) {
    case CONFIG_IDLE_SPIN:
        return TOPOLOGY_SPIN;
    case CONFIG_IDLE_YIELD:
        return TOPOLOGY_YIELD;
    case CONFIG_IDLE_SLEEP:
        return TOPOLOGY_SLEEP;
    default:
        return cpu >= 0 && topology_cpu_isolated(cpu, NULL) ? TOPOLOGY_SPIN : TOPOLOGY_YIELD;
    }
}

bool host_register(struct host *host, struct topology *topology, char error[256]) {
    const struct config *c = &host->config;
    const struct {
        int cpu;
        const struct topology_stage *stage;
    } table[] = {{c->topology.port, &port_stage},
                 {c->topology.consensus, &consensus_stage},
                 {c->topology.wal, &wal_stage}};
    if (c->topology.port < 0)
        return host_register_on(host, topology, topology_lcore(topology, -1, idle_for(c, -1)),
                                error);
    for (uint32_t i = 0; i < 3; i++) {
        int lcore = topology_lcore(topology, table[i].cpu, idle_for(c, table[i].cpu));
        if (!bind_stage(host, topology, lcore, table[i].stage, error)) return false;
    }
    return true;
}

// ---------------------------------------------------------------- for people

const struct config *host_config(const struct host *host) {
    return &host->config;
}

const char *host_failure(const struct host *host) {
    return node_failure(host->node);
}

void host_print_start(const struct host *host, FILE *out) {
    const struct config *c = &host->config;
    const struct store_recovered *found = node_recovered(host->node);
    uint32_t failures = (uint32_t)(c->node.node_count - 1) / 2;
    uint64_t endpoint = host->port->endpoint;
    fprintf(out, "  node        %u of %u; the cluster lives on with %u down\n", c->node.id,
            c->node.node_count, failures);
    fprintf(out, "  cluster     0x%" PRIx64 "\n", c->node.cluster);
    fprintf(out, "  port        %s %u.%u.%u.%u:%u\n", c->port.type == CONFIG_UDP ? "udp" : "dpdk",
            (unsigned)(endpoint >> 40), (unsigned)(endpoint >> 32 & 255),
            (unsigned)(endpoint >> 24 & 255), (unsigned)(endpoint >> 16 & 255),
            (unsigned)(endpoint & 0xffff));
    if (c->node.memory) {
        fprintf(
            out,
            "  durability  MEMORY: the log is NOT on disk. A node that restarts has lost it and\n"
            "              votes again only after a leader brought it up to date. If most nodes\n"
            "              stop together the state is gone and the cluster stays down.\n");
        if (found->existed)
            fprintf(out,
                    "  RESTARTED   this node has lost its log and waits for a leader that has it. "
                    "If all\n"
                    "              nodes were stopped there is none: remove every data_dir, and "
                    "begin anew\n"
                    "              under another [cluster] id, since fencing tokens begin anew "
                    "too.\n");
    } else {
        fprintf(out, "  durability  disk, %s\n", c->data_dir);
    }
    if (!found->existed) {
        fprintf(out, "  recovered   nothing: first start with this directory\n");
        return;
    }
    fprintf(out, "  recovered   term %" PRIu64 ", %" PRIu64 " entries, ", found->term,
            found->entries);
    if (found->snapshot_index > 0) fprintf(out, "snapshot at %" PRIu64 ", ", found->snapshot_index);
    fprintf(out, "%" PRIu64 " torn bytes cut\n", found->torn_bytes);
    if (found->damaged)
        fprintf(out,
                "  DAMAGED     entries that may have been acknowledged are missing here: the disk "
                "lost\n"
                "              them, or [node] durability was memory for a while. This node does "
                "not\n"
                "              vote until a leader has repaired it.\n");
}

static void describe(const struct wire_status *now, char *text, size_t bytes) {
    const char *recovering =
        now->flags & WIRE_STATUS_RECOVERING ? "; recovering, does not vote yet" : "";
    if (now->role == WIRE_ROLE_LEADER)
        snprintf(text, bytes, "node %u: leader, term %" PRIu64 "%s", now->node, now->term,
                 recovering);
    else if (now->leader != 0)
        snprintf(text, bytes, "node %u: follows node %u, term %" PRIu64 "%s", now->node,
                 now->leader, now->term, recovering);
    else
        snprintf(text, bytes, "node %u: knows no leader, term %" PRIu64 "%s", now->node, now->term,
                 recovering);
}

bool host_describe_change(struct host *host, char *text, size_t bytes) {
    struct wire_status now, *told = &host->told;
    host_status(host, &now);
    if (now.node == 0) return false; // nothing published yet
    bool leads = now.role == WIRE_ROLE_LEADER, led = told->role == WIRE_ROLE_LEADER;
    // A candidate's term rises with each attempt; without a leader that is not worth a line each.
    bool same = host->told_any && leads == led && now.leader == told->leader &&
                (now.term == told->term || now.leader == 0) &&
                ((now.flags ^ told->flags) & WIRE_STATUS_RECOVERING) == 0;
    host->told_any = true;
    *told = now;
    if (!same) describe(&now, text, bytes);
    return !same;
}

void host_print_counters(const struct host *host, FILE *out) {
    const struct counters *counters = node_counters(host->node);
    struct wire_counter batch[32];
    uint32_t skip = 0, count;
    while ((count = counters_read(counters, skip, batch, 32)) > 0) {
        for (uint32_t i = 0; i < count; i++)
            if (batch[i].value != 0)
                fprintf(out, "  %-40.40s %" PRIu64 "\n", batch[i].name, batch[i].value);
        skip += count;
    }
}
