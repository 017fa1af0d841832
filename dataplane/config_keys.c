// The table of all keys: the one place where defaults and limits are, each with its reason.
#include <string.h>

#include "config_internal.h"

#define MS  (1000ull * 1000)
#define S   (1000ull * MS)
#define KIB 1024ull
#define MIB (1024ull * KIB)
#define GIB (1024ull * MIB)

// Below 10 ms a preempted thread looks dead; beyond a minute nobody calls it available.
#define ELECTION_MIN (10 * MS)
#define ELECTION_MAX (60 * S)
// One per millisecond is as often as a sleeping thread wakes; 20 s is a third of the longest
// election.
#define HEARTBEAT_MIN (1 * MS)
#define HEARTBEAT_MAX (20 * S)
// The no-op reserve of the core is 64; below 1024 a snapshot would be due all the time. 16 million
// slots are 512 MiB.
#define LOG_ENTRIES_MIN 1024u
#define LOG_ENTRIES_MAX (16u * 1024 * 1024)
// A log that holds fewer than some 50 of the longest entries cannot pipeline; offsets are 32 bits
// and powers of two, so 2 GiB is the next that would not fit an int32_t beside them.
#define LOG_SIZE_MIN (64 * KIB)
#define LOG_SIZE_MAX (1 * GIB)
// 1: stop and wait. 65536 entries of the longest kind are 88 MiB on their way to one peer.
#define WINDOW_MAX 65536u
// Four batches of STORE_BATCH_BYTES; writing more than 1 GiB of zeros per segment at first start is
// a mistake of units.
#define SEGMENT_MIN (1 * MIB)
#define SEGMENT_MAX (1 * GIB)
// One being written, one before it, one to recycle; at most STORE_SEGMENTS_MAX.
#define SEGMENTS_MIN 3u
#define SEGMENTS_MAX 32u
// Room must be left for what arrives while the snapshot is written.
#define SNAPSHOT_MAX 90u
// Tables are taken at start, and a typing error must not ask for all memory there is: at their most
// sessions take 2.2 GiB, leases 0.5 (a million at once is the target), locks 2.7, claims 1.3.
#define SESSIONS_MAX (1024u * 1024)
#define LEASES_MAX   (4u * 1024 * 1024)
#define LOCKS_MAX    (4u * 1024 * 1024)
#define CLAIMS_MAX   (8u * 1024 * 1024)
// Two bursts, or the device starves between rounds; 32768 is what the DPDK port can pool.
#define DESCRIPTORS_MIN 64u
#define DESCRIPTORS_MAX 32768u
// 64 KiB hold some 40 full frames, a burst and a bit; the kernel takes no more than 1 GiB.
#define BUFFER_MIN (64 * KIB)
#define BUFFER_MAX (1 * GIB)

#define FIELD(member)                                                                              \
    .offset = offsetof(struct config, member), .width = sizeof(((struct config *)0)->member)

static const struct config_key keys[] = {
    {"cluster", "id", CONFIG_KIND_CLUSTER, true, FIELD(node.cluster), .min = 1, .max = UINT64_MAX},
    {"cluster", "nodes", CONFIG_KIND_NODES, true, FIELD(node.nodes), .min = 1,
     .max = RAFT_NODES_MAX},

    {"node", "id", CONFIG_KIND_NUMBER, true, FIELD(node.id), .min = 1, .max = UINT16_MAX},
    {"node", "data_dir", CONFIG_KIND_TEXT, true, FIELD(data_dir), .min = 1,
     .max = CONFIG_DATA_DIR_BYTES - 1},
    {"node", "durability", CONFIG_KIND_CHOICE, false, FIELD(durability), .rest = "disk",
     .choices = {"disk", "memory"}},

    {"port", "type", CONFIG_KIND_CHOICE, false, FIELD(port.type), .rest = "udp",
     .choices = {"udp", "dpdk"}},
    {"port", "eal", CONFIG_KIND_TEXT, false, FIELD(port.eal), .rest = "", .min = 0,
     .max = CONFIG_EAL_BYTES - 1, .port = CONFIG_DPDK_ONLY},
    {"port", "device", CONFIG_KIND_TEXT, false, FIELD(port.device), .rest = "", .min = 0,
     .max = CONFIG_DEVICE_BYTES - 1, .port = CONFIG_DPDK_ONLY},
    {"port", "rx_descriptors", CONFIG_KIND_NUMBER, false, FIELD(port.rx_descriptors), .rest = "512",
     .min = DESCRIPTORS_MIN, .max = DESCRIPTORS_MAX, .power_of_two = true,
     .port = CONFIG_DPDK_ONLY},
    {"port", "tx_descriptors", CONFIG_KIND_NUMBER, false, FIELD(port.tx_descriptors), .rest = "512",
     .min = DESCRIPTORS_MIN, .max = DESCRIPTORS_MAX, .power_of_two = true,
     .port = CONFIG_DPDK_ONLY},
    {"port", "gateway", CONFIG_KIND_ADDRESS, false, FIELD(port.gateway), .port = CONFIG_DPDK_ONLY},
    {"port", "prefix_length", CONFIG_KIND_NUMBER, false, FIELD(port.prefix_length), .rest = "0",
     .min = 0, .max = 32, .port = CONFIG_DPDK_ONLY},
    {"port", "buffer", CONFIG_KIND_SIZE, false, FIELD(port.buffer_bytes), .rest = "4MiB",
     .min = BUFFER_MIN, .max = BUFFER_MAX, .port = CONFIG_UDP_ONLY},

    {"raft", "election", CONFIG_KIND_DURATION, false, FIELD(node.election_ns), .rest = "150ms",
     .min = ELECTION_MIN, .max = ELECTION_MAX},
    {"raft", "heartbeat", CONFIG_KIND_DURATION, false, FIELD(node.heartbeat_ns),
     .min = HEARTBEAT_MIN, .max = HEARTBEAT_MAX},
    {"raft", "log_entries", CONFIG_KIND_NUMBER, false, FIELD(node.log_entries), .rest = "65536",
     .min = LOG_ENTRIES_MIN, .max = LOG_ENTRIES_MAX, .power_of_two = true},
    {"raft", "log_size", CONFIG_KIND_SIZE, false, FIELD(node.log_bytes), .rest = "16MiB",
     .min = LOG_SIZE_MIN, .max = LOG_SIZE_MAX, .power_of_two = true},
    {"raft", "window", CONFIG_KIND_NUMBER, false, FIELD(node.window_entries), .rest = "1024",
     .min = 1, .max = WINDOW_MAX},

    {"wal", "segment_size", CONFIG_KIND_SIZE, false, FIELD(node.segment_bytes), .rest = "64MiB",
     .min = SEGMENT_MIN, .max = SEGMENT_MAX, .multiple = 4096},
    {"wal", "segments", CONFIG_KIND_NUMBER, false, FIELD(node.segment_count), .rest = "4",
     .min = SEGMENTS_MIN, .max = SEGMENTS_MAX},

    {"snapshot", "at", CONFIG_KIND_PERCENT, false, FIELD(node.snapshot_percent), .rest = "50",
     .min = 1, .max = SNAPSHOT_MAX},

    {"limits", "sessions", CONFIG_KIND_NUMBER, false, FIELD(node.limits.sessions), .rest = "16384",
     .min = 1, .max = SESSIONS_MAX},
    {"limits", "leases", CONFIG_KIND_NUMBER, false, FIELD(node.limits.leases), .rest = "65536",
     .min = 1, .max = LEASES_MAX},
    {"limits", "locks", CONFIG_KIND_NUMBER, false, FIELD(node.limits.locks), .rest = "65536",
     .min = 1, .max = LOCKS_MAX},
    {"limits", "claims", CONFIG_KIND_NUMBER, false, FIELD(node.limits.claims), .rest = "131072",
     .min = 1, .max = CLAIMS_MAX},

    {"topology", "port", CONFIG_KIND_CPU, false, FIELD(topology.port), .max = CONFIG_CPU_MAX},
    {"topology", "consensus", CONFIG_KIND_CPU, false, FIELD(topology.consensus),
     .max = CONFIG_CPU_MAX},
    {"topology", "wal", CONFIG_KIND_CPU, false, FIELD(topology.wal), .max = CONFIG_CPU_MAX},
    {"topology", "idle", CONFIG_KIND_CHOICE, false, FIELD(topology.idle), .rest = "auto",
     .choices = {"auto", "spin", "yield", "sleep"}},
};
#define KEYS (sizeof keys / sizeof keys[0])
static_assert(KEYS <= CONFIG_KEYS_MAX, "struct config keeps a line for each key");

const struct config_key *config_keys(uint32_t *count) {
    *count = KEYS;
    return keys;
}

const struct config_key *config_find(const char *section, const char *name) {
    for (uint32_t i = 0; i < KEYS; i++)
        if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

uint32_t config_key_line(const struct config *config, const char *section, const char *name) {
    const struct config_key *key = config_find(section, name);
    assert(key != NULL);
    return config->line[key - keys];
}

bool config_key_applies(const struct config *config, const struct config_key *key) {
    if (key->port == CONFIG_UDP_ONLY) return config->port.type == CONFIG_UDP;
    if (key->port == CONFIG_DPDK_ONLY) return config->port.type == CONFIG_DPDK;
    return true;
}
