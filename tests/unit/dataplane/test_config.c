// The configuration file. Feared most: a typing error that silently becomes a default. So every
// kind of refusal is here with its exact sentence, and no more sentences than mistakes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "store_internal.h"

static struct config config;
static struct config_errors errors;

#define CLUSTER                                                                                    \
    "[cluster]\nid = 0xc0c1\nnodes = 1@10.0.0.1:7100, 2@10.0.0.2:7100, 3@10.0.0.3:7101\n"
#define NODE    "[node]\nid = 1\ndata_dir = /var/lib/conclave\n"
#define MINIMUM CLUSTER NODE // 6 lines

static bool parse(const char *text) {
    return config_parse(&config, "f", text, strlen(text), &errors);
}

static void accept(const char *text) {
    bool good = parse(text);
    if (!good) config_print_errors(&errors, stderr);
    assert_true(good);
    assert_int_equal(errors.count, 0);
}

static void refuse(const char *text, const char *sentence) {
    assert_false(parse(text));
    assert_string_equal(errors.list[0].text, sentence);
    assert_int_equal(errors.count, 1);
}

// One line behind the smallest configuration: line 8, in a section of its own.
static void refuse_key(const char *section, const char *line, const char *sentence) {
    char text[4096], expected[1024];
    snprintf(text, sizeof text, MINIMUM "[%s]\n%s\n", section, line);
    snprintf(expected, sizeof expected, "f:8: %s", sentence);
    refuse(text, expected);
}

static void accept_key(const char *section, const char *line) {
    char text[4096];
    snprintf(text, sizeof text, MINIMUM "[%s]\n%s\n", section, line);
    accept(text);
}

static void defaults_are_those_documented(void **state) {
    (void)state;
    accept(MINIMUM);
    const struct node_options *o = &config.node;
    assert_true(o->cluster == 0xc0c1 && o->id == 1 && o->node_count == 3 && !o->memory);
    assert_true(o->nodes[2].id == 3 &&
                o->nodes[2].endpoint == wire_endpoint_pack(0x0a000003, 7101));
    assert_true(config.endpoint == wire_endpoint_pack(0x0a000001, 7100));
    assert_string_equal(config.data_dir, "/var/lib/conclave");
    assert_true(o->election_ns == 150000000 && o->heartbeat_ns == 30000000);
    assert_true(o->log_entries == 65536 && o->log_bytes == 16 << 20 && o->window_entries == 1024);
    assert_true(o->segment_bytes == 64 << 20 && o->segment_count == 4 && o->snapshot_percent == 50);
    assert_true(o->limits.sessions == 16384 && o->limits.leases == 65536 &&
                o->limits.locks == 65536 && o->limits.claims == 131072);
    assert_true(config.durability == CONFIG_DISK && config.port.type == CONFIG_UDP);
    assert_true(config.port.buffer_bytes == 4 << 20 && config.port.eal[0] == 0);
    assert_true(config.topology.port == -1 && config.topology.consensus == -1 &&
                config.topology.wal == -1 && config.topology.idle == CONFIG_IDLE_AUTO);
}

static void every_key_is_read(void **state) {
    (void)state;
    accept("; a comment\n# another\n\n"
           "[cluster]\nid=18446744073709551615\nnodes =7@192.168.1.7:1\n"
           "[node]\n  id = 7\n\tdata_dir = a dir\ndurability = memory ; loud\n"
           "[port]\r\ntype = dpdk\r\neal = --in-memory -a 0000:01:00.0,x=y:z\r\n"
           "device = 0000:01:00.0\nrx_descriptors = 64\ntx_descriptors = 32768\n"
           "gateway = 192.168.1.1\nprefix_length = 24\n"
           "[raft]\nelection = 2 s\nheartbeat = 1500us\nlog_entries = 1024\nlog_size = 64KiB\n"
           "window = 1024\n[wal]\nsegment_size = 1GiB\nsegments = 32\n[snapshot]\nat = 90%\n"
           "[limits]\nsessions = 1\nleases = 2\nlocks = 3\nclaims = 4\n"
           "[topology]\nport = 0\nconsensus = 1023\nwal = 0\nidle = spin");
    const struct node_options *o = &config.node;
    assert_true(o->cluster == UINT64_MAX && o->id == 7 && o->node_count == 1 && o->memory);
    assert_string_equal(config.data_dir, "a dir");
    assert_string_equal(config.port.eal, "--in-memory -a 0000:01:00.0,x=y:z");
    assert_string_equal(config.port.device, "0000:01:00.0");
    assert_true(config.port.rx_descriptors == 64 && config.port.tx_descriptors == 32768);
    assert_true(config.port.gateway == 0xc0a80101 && config.port.prefix_length == 24);
    assert_true(o->election_ns == 2000000000 && o->heartbeat_ns == 1500000);
    assert_true(o->log_entries == 1024 && o->log_bytes == 65536 && o->window_entries == 1024);
    assert_true(o->segment_bytes == 1 << 30 && o->segment_count == 32 && o->snapshot_percent == 90);
    assert_true(o->limits.sessions == 1 && o->limits.leases == 2 && o->limits.locks == 3 &&
                o->limits.claims == 4);
    assert_true(config.topology.port == 0 && config.topology.consensus == 1023 &&
                config.topology.wal == 0 && config.topology.idle == CONFIG_IDLE_SPIN);
}

static void lines_that_are_none(void **state) {
    (void)state;
    refuse("id = 1\n" MINIMUM,
           "f:1: id: stands before any [section]; put it below the one it belongs to");
    refuse(MINIMUM "rubbish\n",
           "f:7: \"rubbish\" is neither [section] nor key = value nor a comment (; or #)");
    refuse(MINIMUM "durability: disk\n",
           "f:7: \"durability: disk\" is neither [section] nor key = value nor a comment (; or #)");
    refuse(
        MINIMUM "durability ; = disk\n",
        "f:7: \"durability ; = disk\" is neither [section] nor key = value nor a comment (; or #)");
    refuse(MINIMUM "[raft\n", "f:7: \"[raft\" is not a section; a line that begins with [ is "
                              "[section] and nothing more");
    refuse(
        MINIMUM "[raft] window = 3\n",
        "f:7: \"[raft] window = 3\" is not a section; a line that begins with [ is [section] and "
        "nothing more");
    accept(MINIMUM "[raft] ; times\nwindow = 3\n");
}

static void names_that_are_none(void **state) {
    (void)state;
    refuse(MINIMUM "[Raft]\nwindow = 3\nelection = x\n",
           "f:7: [Raft]: no such section; allowed: [cluster], [node], [port], [raft], [wal], "
           "[snapshot], [limits], [topology]");
    refuse(MINIMUM "[]\n", "f:7: []: no such section; allowed: [cluster], [node], [port], [raft], "
                           "[wal], [snapshot], [limits], [topology]");
    // inih would cut this name to 49 bytes.
    refuse(MINIMUM "[raftraftraftraftraftraftraftraftraftraftraftraftraftraft]\n",
           "f:7: [raftraftraftraftraftraftraftraftraftraftraftraftraftraft]: no such section; "
           "allowed: [cluster], [node], [port], [raft], [wal], [snapshot], [limits], [topology]");
    refuse_key("raft", "electoin = 100ms",
               "[raft] electoin: no such key; allowed: election, heartbeat, log_entries, log_size, "
               "window");
    refuse_key("raft", "Election = 100ms",
               "[raft] Election: no such key; allowed: election, heartbeat, log_entries, log_size, "
               "window");
    refuse_key("raft", "= 5",
               "[raft]: no such key; allowed: election, heartbeat, log_entries, "
               "log_size, window");
    refuse(MINIMUM "[raft]\nwindow = 3\nwindow = 3\n",
           "f:9: [raft] window: given before, in line 8; allowed: once");
}

static void files_that_are_none(void **state) {
    (void)state;
    refuse("\xef\xbb\xbf" MINIMUM,
           "f:1: the file begins with a byte order mark; save it as UTF-8 without one");
    assert_false(config_parse(&config, "f", "\xff\xfe[\0c\0", 6, &errors));
    assert_string_equal(errors.list[0].text,
                        "f:1: the file is UTF-16; save it as plain UTF-8 or ASCII");
    assert_int_equal(errors.count, 1);
    static const char with_zero[] = MINIMUM "[raft]\nwin\0dow = 3\n";
    assert_false(config_parse(&config, "f", with_zero, sizeof with_zero - 1, &errors));
    assert_string_equal(errors.list[0].text,
                        "f:8: a byte of value zero; the file must be plain text (UTF-8 or ASCII)");
    assert_int_equal(errors.count, 1);
}

static void lines_too_long(void **state) {
    (void)state;
    char line[2300] = "; ";
    memset(line + 2, 'x', 2200);
    refuse_key("raft", line, "the line has 2202 bytes; at most 2174 are allowed");
    line[2174] = 0;
    accept_key("raft", line);
    // The longest value fits, one more is refused by its own sentence, not cut.
    char text[4096], value[2100];
    memset(value, 'v', sizeof value);
    value[CONFIG_EAL_BYTES - 1] = 0;
    snprintf(text, sizeof text, MINIMUM "[port]\ntype = dpdk\neal = %s\n", value);
    accept(text);
    assert_string_equal(config.port.eal, value);
    value[CONFIG_EAL_BYTES - 1] = 'v';
    value[CONFIG_EAL_BYTES] = 0;
    snprintf(text, sizeof text, MINIMUM "[port]\ntype = dpdk\neal = %s\n", value);
    refuse(text, "f:9: [port] eal: "
                 "\"vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\" is too long; "
                 "allowed: 0 to 2047 bytes");
}

static void required_keys(void **state) {
    (void)state;
    refuse("[cluster]\nnodes = 1@10.0.0.1:7100\n" NODE,
           "f: [cluster] id: missing, and it has no default; allowed: 1 to 2^64-1, decimal or 0x "
           "hexadecimal");
    refuse("[cluster]\nid = 1\n" NODE,
           "f: [cluster] nodes: missing, and it has no default; allowed: 1 to 9 of ID@IPV4:PORT, "
           "comma-separated");
    refuse(CLUSTER "[node]\ndata_dir = x\n",
           "f: [node] id: missing, and it has no default; allowed: 1 to 65535");
    refuse(CLUSTER "[node]\nid = 1\n",
           "f: [node] data_dir: missing, and it has no default; allowed: 1 to 479 bytes");
    assert_false(parse(""));
    assert_int_equal(errors.count, 4);
}

static void numbers(void **state) {
    (void)state;
    refuse("[cluster]\nid = 0\nnodes = 1@10.0.0.1:7100\n" NODE,
           "f:2: [cluster] id: \"0\" is out of range; allowed: 1 to 2^64-1, decimal or 0x "
           "hexadecimal");
    refuse("[cluster]\nid = 18446744073709551616\nnodes = 1@10.0.0.1:7100\n" NODE,
           "f:2: [cluster] id: \"18446744073709551616\" is out of range; allowed: 1 to 2^64-1, "
           "decimal or 0x hexadecimal");
    refuse("[cluster]\nid = 0x\nnodes = 1@10.0.0.1:7100\n" NODE,
           "f:2: [cluster] id: \"0x\" is not a number; allowed: 1 to 2^64-1, decimal or 0x "
           "hexadecimal");
    refuse("[cluster]\nid = c0c1\nnodes = 1@10.0.0.1:7100\n" NODE,
           "f:2: [cluster] id: \"c0c1\" is not a number; allowed: 1 to 2^64-1, decimal or 0x "
           "hexadecimal");
    refuse_key("wal", "segments = 2", "[wal] segments: \"2\" is out of range; allowed: 3 to 32");
    refuse_key("wal", "segments = 33", "[wal] segments: \"33\" is out of range; allowed: 3 to 32");
    refuse_key("wal", "segments = -3",
               "[wal] segments: \"-3\" is not a whole number; allowed: 3 to 32");
    refuse_key("wal", "segments = +3",
               "[wal] segments: \"+3\" is not a whole number; allowed: 3 to 32");
    refuse_key("wal", "segments = 0x3",
               "[wal] segments: \"0x3\" is not a whole number; allowed: 3 to 32");
    refuse_key("wal", "segments =", "[wal] segments: \"\" is not a whole number; allowed: 3 to 32");
    refuse_key("wal", "segments = 4.0",
               "[wal] segments: \"4.0\" is not a whole number; allowed: 3 to 32");
    refuse_key("wal", "segments = 4 # four",
               "[wal] segments: \"4 # four\" is not a whole number; allowed: 3 to 32; a comment "
               "behind a value starts with ; and not with #");
    refuse_key("wal", "segments = 4294967299", // 3 in 32 bits
               "[wal] segments: \"4294967299\" is out of range; allowed: 3 to 32");
    refuse_key("raft", "log_entries = 3000",
               "[raft] log_entries: \"3000\" is not a power of two; allowed: 1024 to 16777216, a "
               "power of two");
    refuse_key("snapshot", "at = 91", "[snapshot] at: \"91\" is out of range; allowed: 1% to 90%");
    refuse_key("snapshot", "at = half",
               "[snapshot] at: \"half\" is not a percentage; allowed: 1% to 90%");
    refuse_key("topology", "port = 1024\nconsensus = 1\nwal = 1",
               "[topology] port: \"1024\" is out of range; allowed: 0 to 1023");
    refuse_key("topology", "port = any\nconsensus = 1\nwal = 1",
               "[topology] port: \"any\" is not a CPU's number; allowed: 0 to 1023");
}

static void units(void **state) {
    (void)state;
    refuse_key("raft", "election = 150",
               "[raft] election: \"150\" is not a duration; allowed: 10ms to 60s, in us, ms or s");
    refuse_key(
        "raft", "election = 150 MS",
        "[raft] election: \"150 MS\" is not a duration; allowed: 10ms to 60s, in us, ms or s");
    refuse_key("raft", "election = 1.5s",
               "[raft] election: \"1.5s\" is not a duration; allowed: 10ms to 60s, in us, ms or s");
    refuse_key("raft", "election = 9999us",
               "[raft] election: \"9999us\" is out of range; allowed: 10ms to 60s, in us, ms or s");
    refuse_key("raft", "election = 61s",
               "[raft] election: \"61s\" is out of range; allowed: 10ms to 60s, in us, ms or s");
    refuse_key("raft", "election = 18446744074s", // wraps in nanoseconds
               "[raft] election: \"18446744074s\" is out of range; allowed: 10ms to 60s, in us, ms "
               "or s");
    refuse_key("raft", "heartbeat = 999us",
               "[raft] heartbeat: \"999us\" is out of range; allowed: 1ms to 20s, in us, ms or s");
    refuse_key(
        "raft", "log_size = 16MB",
        "[raft] log_size: \"16MB\" is not a size; allowed: 64KiB to 1GiB, a power of two, in "
        "KiB, MiB or GiB");
    refuse_key(
        "raft", "log_size = 16777216",
        "[raft] log_size: \"16777216\" is not a size; allowed: 64KiB to 1GiB, a power of two, "
        "in KiB, MiB or GiB");
    refuse_key(
        "raft", "log_size = 3MiB",
        "[raft] log_size: \"3MiB\" is not a power of two; allowed: 64KiB to 1GiB, a power of "
        "two, in KiB, MiB or GiB");
    refuse_key("wal", "segment_size = 1025KiB",
               "[wal] segment_size: \"1025KiB\" is not a whole multiple; allowed: 1MiB to 1GiB, a "
               "multiple of 4KiB, in KiB, MiB or GiB");
    refuse_key("wal", "segment_size = 2GiB",
               "[wal] segment_size: \"2GiB\" is out of range; allowed: 1MiB to 1GiB, a multiple of "
               "4KiB, in KiB, MiB or GiB");
    refuse_key("port", "buffer = 1KiB",
               "[port] buffer: \"1KiB\" is out of range; allowed: 64KiB to "
               "1GiB, in KiB, MiB or GiB");
}

static void words(void **state) {
    (void)state;
    refuse(MINIMUM "durability = ram\n",
           "f:7: [node] durability: \"ram\" is not known; allowed: disk or memory");
    refuse(MINIMUM "durability = Disk\n",
           "f:7: [node] durability: \"Disk\" is not known; allowed: disk or memory");
    refuse_key("port", "type = tcp", "[port] type: \"tcp\" is not known; allowed: udp or dpdk");
    refuse_key("topology", "idle = busy",
               "[topology] idle: \"busy\" is not known; allowed: auto, spin, yield or sleep");
    refuse(CLUSTER "[node]\nid = 1\ndata_dir =\n",
           "f:6: [node] data_dir: \"\" is empty; allowed: 1 to 479 bytes");
}

static void refuse_nodes(const char *nodes, const char *what) {
    char text[1024], expected[512];
    snprintf(text, sizeof text, "[cluster]\nid = 1\nnodes = %s\n" NODE, nodes);
    snprintf(expected, sizeof expected,
             "f:3: [cluster] nodes: %s; allowed: 1 to 9 of ID@IPV4:PORT, comma-separated", what);
    refuse(text, expected);
}

static void nodes(void **state) {
    (void)state;
    static const char *const bad[] = {
        "10.0.0.1:7100",       "1@10.0.0.1",       "1@host:7100",      "0@10.0.0.1:7100",
        "65536@10.0.0.1:7100", "1@10.0.0.1:0",     "1@10.0.0.1:65536", "1@10.0.0:7100",
        "1@010.0.0.256:7100",  "1@0.0.0.0:7100",   "1@224.0.0.1:7100", "1@255.255.255.255:7",
        "1@[::1]:7100",        "1@10.0.0.1 :7100", "x1@10.0.0.1:7100", "1:10.0.0.1@7100"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char what[128];
        snprintf(what, sizeof what, "\"%s\" is not a node", bad[i]);
        refuse_nodes(bad[i], what);
    }
    refuse_nodes("", "\"\" is not a node");
    refuse_nodes("1@10.0.0.1:7100,", "\"\" is not a node");
    refuse_nodes("1@10.0.0.1:1, 1@10.0.0.2:1",
                 "\"1@10.0.0.2:1\" has an id that stands in the list already");
    refuse_nodes("1@10.0.0.1:1, 2@10.0.0.1:1",
                 "\"2@10.0.0.1:1\" has an address and port that stand in the list already");
    refuse_nodes("1@10.0.0.1:1,2@10.0.0.1:2,3@10.0.0.1:3,4@10.0.0.1:4,5@10.0.0.1:5,6@10.0.0.1:6,"
                 "7@10.0.0.1:7,8@10.0.0.1:8,9@10.0.0.1:9,10@10.0.0.1:10",
                 "\"10@10.0.0.1:10\" is one node too many");
    refuse(CLUSTER "[node]\nid = 4\ndata_dir = x\n",
           "f:5: [node] id: 4 does not stand in [cluster] nodes; allowed: an id that does");
}

static void keys_against_each_other(void **state) {
    (void)state;
    refuse_key("raft", "heartbeat = 51ms",
               "[raft] heartbeat: 51ms is more than a third of election (150ms), so that two lost "
               "ones would start an election; allowed: at most a third");
    accept_key("raft", "heartbeat = 50ms");
    accept_key("raft", "election = 10ms"); // its heartbeat follows
    assert_true(config.node.heartbeat_ns == 2000000);
    accept_key("raft", "election = 150001us"); // a fifth that --check could not print
    assert_true(config.node.heartbeat_ns == 30000000);
    refuse_key("raft", "window = 65537",
               "[raft] window: \"65537\" is out of range; allowed: 1 to 65536");
    refuse_key(
        "raft", "window = 2000\nlog_entries = 1024",
        "[raft] window: 2000 is more than the log holds; allowed: at most log_entries (1024)");
    refuse_key("port", "eal =;-a 01:00.0\ntype = dpdk",
               "[port] eal: \";-a 01:00.0\" begins like a comment, which needs a blank before its "
               ";; allowed: 0 to 2047 bytes");
    refuse_key("raft", "log_size = 128MiB",
               "[raft] log_size: 131072 KiB is more than a quarter of the log on disk (segments * "
               "segment_size = 262144 KiB), which could then fill up for good; allowed: at most a "
               "quarter");
    accept_key("raft", "log_size = 64MiB");
    refuse_key("port", "eal = --no-huge",
               "[port] eal: means nothing with type = udp; allowed: only with type = dpdk");
    refuse_key("port", "buffer = 1MiB\ntype = dpdk",
               "[port] buffer: means nothing with type = dpdk; allowed: only with type = udp");
    refuse_key("port", "gateway = 10.0.0.254\ntype = dpdk",
               "[port] gateway: without prefix_length all addresses are neighbours and it is never "
               "used; allowed: only with prefix_length, 1 to 32");
    refuse_key("port", "gateway = 10.0.1.254\ntype = dpdk\nprefix_length = 24",
               "[port] gateway: lies outside this node's own subnet (prefix_length 24), so that it "
               "cannot be reached; allowed: a neighbour");
    refuse_key("port", "gateway = 10.0.0\ntype = dpdk\nprefix_length = 24",
               "[port] gateway: \"10.0.0\" is not the address of one machine; allowed: an IPv4 "
               "address");
    refuse_key("topology", "port = 1",
               "[topology] wal: missing while another stage has a CPU; allowed: all three of port, "
               "consensus and wal (the same number shares a thread), or none");
}

// One mistake, one sentence: what was unreadable is not compared with its neighbours as well.
static void a_mistake_is_told_once(void **state) {
    (void)state;
    refuse_key(
        "raft", "election = never\nheartbeat = 10s",
        "[raft] election: \"never\" is not a duration; allowed: 10ms to 60s, in us, ms or s");
    refuse_key(
        "raft", "log_entries = 7\nwindow = 65536",
        "[raft] log_entries: \"7\" is out of range; allowed: 1024 to 16777216, a power of two");
    refuse_key("port", "type = DPDK\neal = --no-huge",
               "[port] type: \"DPDK\" is not known; allowed: udp or dpdk");
    refuse("[cluster]\nid = 1\nnodes = 2@10.0.0.1:7100, x\n" NODE,
           "f:3: [cluster] nodes: \"x\" is not a node; allowed: 1 to 9 of ID@IPV4:PORT, "
           "comma-separated");
}

static void all_mistakes_are_told(void **state) {
    (void)state;
    assert_false(parse("[topology]\nidle = x\n[cluster]\nid = 0\n[nod]\n[raft]\nheartbeat = 5s\n"));
    assert_int_equal(errors.count, 7);
    static const uint32_t lines[] = {2, 4, 5, 7, 0, 0, 0};
    for (uint32_t i = 0; i < 7; i++) assert_int_equal(errors.list[i].line, lines[i]);
    // More than are kept: the first in the file stay.
    char text[4096] = "[raft]\n";
    for (uint32_t i = 0; i < 100; i++) strcat(text, "nonsense\n");
    assert_false(parse(text));
    assert_int_equal(errors.count, 104);
    assert_int_equal(errors.list[CONFIG_ERRORS_MAX - 1].line, CONFIG_ERRORS_MAX + 1);
    char *printed = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&printed, &bytes);
    config_print_errors(&errors, out);
    fclose(out);
    assert_non_null(strstr(printed, "f:21: \"nonsense\" is neither"));
    assert_null(strstr(printed, "f:22:"));
    assert_string_equal(printed + bytes - strlen("and 84 more\n"), "and 84 more\n");
    free(printed);
}

static char *print(void) {
    char *printed = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&printed, &bytes);
    config_print(&config, out);
    fclose(out);
    return printed;
}

static void what_is_printed_reads_back(void **state) {
    (void)state;
    static const char *const texts[] = {
        MINIMUM, MINIMUM "durability = memory\n[port]\nbuffer = 1GiB\n[limits]\nclaims = 77\n",
        CLUSTER "[node]\nid = 3\ndata_dir = x y\n[raft]\nelection = 1001ms\nheartbeat = 1001us\n"
                "log_size = 128KiB\n[wal]\nsegment_size = 1028KiB\n[snapshot]\nat = 7\n"
                "[topology]\nport = 0\nconsensus = 1\nwal = 1\nidle = sleep\n",
        MINIMUM "[port]\ntype = dpdk\neal = --vdev net_ring0,x=y -l 1\ndevice = net_ring0\n"
                "gateway = 10.0.0.254\nprefix_length = 24\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        accept(texts[i]);
        struct config before = config;
        char *first = print();
        accept(first);
        memset(before.line, 0, sizeof before.line);
        memset(config.line, 0, sizeof config.line);
        assert_memory_equal(&before, &config, sizeof config);
        char *second = print();
        assert_string_equal(first, second);
        free(first);
        free(second);
    }
}

static void files_from_disk(void **state) {
    (void)state;
    assert_false(config_read(&config, "/nonexistent/x.ini", &errors));
    assert_string_equal(errors.list[0].text,
                        "/nonexistent/x.ini: cannot be read: No such file or directory");
    assert_false(config_read(&config, "/", &errors));
    assert_string_equal(errors.list[0].text, "/: cannot be read: Is a directory");
    assert_false(config_read(&config, "/dev/zero", &errors));
    assert_string_equal(errors.list[0].text,
                        "/dev/zero: longer than 65536 bytes: is it a configuration file?");
}

// Constants of other modules that the table repeats, since it may not include their insides.
static void limits_are_those_of_the_modules(void **state) {
    (void)state;
    uint32_t count;
    const struct config_key *keys = config_keys(&count);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(keys[i].name, "segments") == 0)
            assert_int_equal(keys[i].max, STORE_SEGMENTS_MAX);
        if (strcmp(keys[i].name, "segment_size") == 0) {
            assert_int_equal(keys[i].min, 4 * STORE_BATCH_BYTES);
            assert_int_equal(keys[i].multiple, STORE_BLOCK);
        }
        if (strcmp(keys[i].name, "nodes") == 0) assert_int_equal(keys[i].max, RAFT_NODES_MAX);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_documented),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(lines_that_are_none),
        cmocka_unit_test(names_that_are_none),
        cmocka_unit_test(files_that_are_none),
        cmocka_unit_test(lines_too_long),
        cmocka_unit_test(required_keys),
        cmocka_unit_test(numbers),
        cmocka_unit_test(units),
        cmocka_unit_test(words),
        cmocka_unit_test(nodes),
        cmocka_unit_test(keys_against_each_other),
        cmocka_unit_test(a_mistake_is_told_once),
        cmocka_unit_test(all_mistakes_are_told),
        cmocka_unit_test(what_is_printed_reads_back),
        cmocka_unit_test(files_from_disk),
        cmocka_unit_test(limits_are_those_of_the_modules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
