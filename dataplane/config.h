// The configuration of a node: one INI file, read whole, checked whole, before anything is opened.
//
// Every key stands in one table (config_keys()) with its kind, default and range; reading,
// printing, the error sentences and the test of docs/configuration.md all come from it. A typing
// error must not become a default: unknown sections and keys, keys given twice, values out of range
// and values that contradict each other are refused, all of one file together, each as
//
//   FILE:LINE: [section] key: what is wrong; what is allowed
#ifndef CONCLAVE_CONFIG_H
#define CONCLAVE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "node.h"

// What disk_uring_open() and its error sentences have room for.
#define CONFIG_DATA_DIR_BYTES 480u
// EAL keeps the arguments in a buffer of this size (port/dpdk_eal.c).
#define CONFIG_EAL_BYTES 2048u
// RTE_ETH_NAME_MAX_LEN for each of PORT_DPDK_DEVICES_MAX.
#define CONFIG_DEVICE_BYTES (8u * 64u)
// A file with every key at its longest is below this; anything bigger is not a configuration.
#define CONFIG_FILE_BYTES (64u * 1024u)
// What a person reads at once. More are counted.
#define CONFIG_ERRORS_MAX 20u
#define CONFIG_KEYS_MAX   40u
// CPU_SETSIZE: what pthread_setaffinity_np() can name without a set of its own size.
#define CONFIG_CPU_MAX 1023u

enum config_durability { CONFIG_DISK, CONFIG_MEMORY };
enum config_port_type { CONFIG_UDP, CONFIG_DPDK };
enum config_idle { CONFIG_IDLE_AUTO, CONFIG_IDLE_SPIN, CONFIG_IDLE_YIELD, CONFIG_IDLE_SLEEP };

struct config {
    struct node_options node; // seed, port and disk are filled in by host_open()
    uint64_t endpoint;        // this node's own, out of node.nodes
    char data_dir[CONFIG_DATA_DIR_BYTES];
    enum config_durability durability;
    struct {
        enum config_port_type type;
        char eal[CONFIG_EAL_BYTES];
        char device[CONFIG_DEVICE_BYTES]; // names with commas between; "": the only one
        uint32_t rx_descriptors;
        uint32_t tx_descriptors;
        uint32_t gateway; // 0: none
        uint8_t prefix_length;
        uint32_t buffer_bytes;
    } port;
    struct {
        int32_t port, consensus, wal; // CPUs; -1, all three: one thread, not pinned
        enum config_idle idle;
    } topology;
    uint32_t line[CONFIG_KEYS_MAX]; // where each key stands, by its place in the table; 0: default
};

struct config_errors {
    uint32_t count; // of all; the first CONFIG_ERRORS_MAX are kept, in order of lines
    struct {
        uint32_t line; // 0: of no line
        char text[640];
    } list[CONFIG_ERRORS_MAX];
};

// False with errors. `name` stands for FILE in them. Leaves *config complete: defaults filled in.
bool config_read(struct config *config, const char *path, struct config_errors *errors);
bool config_parse(struct config *config, const char *name, const char *text, size_t bytes,
                  struct config_errors *errors);
// The effective configuration, every key that matters for its port type, as a file that reads back
// to the same.
void config_print(const struct config *config, FILE *out);
void config_print_errors(const struct config_errors *errors, FILE *out);

// Defaults for what a program fills in by itself (`conclave dev`): nodes, id and data_dir are
// empty.
void config_defaults(struct config *config);
// What depends on other keys: heartbeat, the own endpoint, node.memory. Call after filling in.
void config_derive(struct config *config);

enum config_kind {
    CONFIG_KIND_NUMBER,
    CONFIG_KIND_CLUSTER, // decimal or 0x hexadecimal
    CONFIG_KIND_DURATION,
    CONFIG_KIND_SIZE,
    CONFIG_KIND_PERCENT,
    CONFIG_KIND_CHOICE,
    CONFIG_KIND_TEXT,
    CONFIG_KIND_NODES,
    CONFIG_KIND_ADDRESS,
    CONFIG_KIND_CPU,
};

struct config_key {
    const char *section;
    const char *name;
    enum config_kind kind;
    bool required;
    uint16_t width;   // bytes of the field
    uint32_t offset;  // of the field in struct config
    const char *rest; // default, written as in a file; NULL: none, or derived
    uint64_t min, max;
    bool power_of_two;
    uint32_t multiple; // 0: of anything
    const char *choices[5];
    enum { CONFIG_ANY_PORT, CONFIG_UDP_ONLY, CONFIG_DPDK_ONLY } port;
};
const struct config_key *config_keys(uint32_t *count);
// "10ms to 60s" and the like, as error sentences and docs/configuration.md say it.
void config_describe_range(const struct config_key *key, char *text, size_t bytes);

#endif
