// Keys against each other, after each has been read by itself. A pair is compared only if both were
// readable, so that one mistake gives one sentence.
#include <string.h>

#include "config_internal.h"

static bool readable(const struct config_reader *reader, const char *section, const char *name) {
    uint32_t count;
    return (reader->bad >> (config_find(section, name) - config_keys(&count)) & 1) == 0;
}

static void require_keys(struct config_reader *reader) {
    uint32_t count;
    const struct config_key *keys = config_keys(&count);
    for (uint32_t i = 0; i < count; i++) {
        if (!keys[i].required || reader->config->line[i] != 0) continue;
        char range[128];
        config_describe_range(&keys[i], range, sizeof range);
        config_error(reader, 0, keys[i].section, keys[i].name,
                     "missing, and it has no default; allowed: %s", range);
    }
}

static void check_port_keys(struct config_reader *reader) {
    uint32_t count;
    const struct config_key *keys = config_keys(&count);
    if (!readable(reader, "port", "type")) return;
    for (uint32_t i = 0; i < count; i++) {
        if (reader->config->line[i] == 0 || config_key_applies(reader->config, &keys[i])) continue;
        config_error(reader, reader->config->line[i], keys[i].section, keys[i].name,
                     "means nothing with type = %s; allowed: only with type = %s",
                     reader->config->port.type == CONFIG_UDP ? "udp" : "dpdk",
                     reader->config->port.type == CONFIG_UDP ? "dpdk" : "udp");
    }
}

static void check_member(struct config_reader *reader) {
    const struct node_options *o = &reader->config->node;
    if (o->id == 0 || o->node_count == 0 || !readable(reader, "cluster", "nodes")) return;
    for (uint32_t i = 0; i < o->node_count; i++)
        if (o->nodes[i].id == o->id) return;
    config_error(reader, config_key_line(reader->config, "node", "id"), "node", "id",
                 "%u does not stand in [cluster] nodes; allowed: an id that does", o->id);
}

static void check_times(struct config_reader *reader) {
    const struct config *c = reader->config;
    if (c->node.heartbeat_ns <= c->node.election_ns / 3 || !readable(reader, "raft", "election"))
        return;
    char election[32], heartbeat[32];
    config_get(c, config_find("raft", "election"), election, sizeof election);
    config_get(c, config_find("raft", "heartbeat"), heartbeat, sizeof heartbeat);
    config_error(reader, config_key_line(c, "raft", "heartbeat"), "raft", "heartbeat",
                 "%s is more than a third of election (%s), so that two lost ones would start an "
                 "election; allowed: at most a third",
                 heartbeat, election);
}

static void check_window(struct config_reader *reader) {
    const struct config *c = reader->config;
    if (c->node.window_entries <= c->node.log_entries || !readable(reader, "raft", "log_entries"))
        return;
    uint32_t line = config_key_line(c, "raft", "window");
    config_error(reader, line != 0 ? line : config_key_line(c, "raft", "log_entries"), "raft",
                 "window", "%u is more than the log holds; allowed: at most log_entries (%u)",
                 c->node.window_entries, c->node.log_entries);
}

// What lies in memory must fit the disk's log while a snapshot is due, or the log could not take
// what has been applied, and so no snapshot of it (raft.h, duty 8).
static void check_log_sizes(struct config_reader *reader) {
    const struct config *c = reader->config;
    uint64_t wal = (uint64_t)c->node.segment_bytes * c->node.segment_count;
    if (wal / NODE_WAL_PER_LOG >= c->node.log_bytes || !readable(reader, "wal", "segment_size") ||
        !readable(reader, "wal", "segments") || !readable(reader, "raft", "log_size"))
        return;
    uint32_t line = config_key_line(c, "raft", "log_size");
    if (line == 0) line = config_key_line(c, "wal", "segment_size");
    if (line == 0) line = config_key_line(c, "wal", "segments");
    config_error(reader, line, "raft", "log_size",
                 "%llu KiB is more than a quarter of the log on disk (segments * segment_size = "
                 "%llu KiB), which could then fill up for good; allowed: at most a quarter",
                 (unsigned long long)c->node.log_bytes / 1024, (unsigned long long)wal / 1024);
}

static void check_gateway(struct config_reader *reader) {
    const struct config *c = reader->config;
    uint32_t line = config_key_line(c, "port", "gateway");
    uint32_t own = 0;
    if (c->port.gateway == 0 || c->port.type != CONFIG_DPDK ||
        !readable(reader, "port", "prefix_length"))
        return;
    if (c->port.prefix_length == 0) {
        config_error(reader, line, "port", "gateway",
                     "without prefix_length all addresses are neighbours and it is never used; "
                     "allowed: only with prefix_length, 1 to 32");
        return;
    }
    for (uint32_t i = 0; i < c->node.node_count; i++)
        if (c->node.nodes[i].id == c->node.id) own = (uint32_t)(c->node.nodes[i].endpoint >> 16);
    uint32_t mask = UINT32_MAX << (32 - c->port.prefix_length);
    if (own == 0 || ((own ^ c->port.gateway) & mask) == 0) return;
    config_error(reader, line, "port", "gateway",
                 "lies outside this node's own subnet (prefix_length %u), so that it cannot be "
                 "reached; allowed: a neighbour",
                 c->port.prefix_length);
}

static void check_cpus(struct config_reader *reader) {
    static const char *const names[] = {"port", "consensus", "wal"};
    const struct config *c = reader->config;
    uint32_t lines[3], given = 0;
    for (uint32_t i = 0; i < 3; i++) {
        lines[i] = config_key_line(c, "topology", names[i]);
        if (lines[i] != 0) given++;
    }
    if (given == 0 || given == 3) return;
    uint32_t line = 0;
    const char *missing = "";
    for (uint32_t i = 0; i < 3; i++) {
        if (lines[i] == 0)
            missing = names[i];
        else
            line = lines[i];
    }
    config_error(reader, line, "topology", missing,
                 "missing while another stage has a CPU; allowed: all three of port, consensus and "
                 "wal (the same number shares a thread), or none");
}

void config_check(struct config_reader *reader) {
    require_keys(reader);
    check_port_keys(reader);
    check_member(reader);
    check_times(reader);
    check_window(reader);
    check_log_sizes(reader);
    check_gateway(reader);
    check_cpus(reader);
}
