// A hosted node: opens port, disk and node from a configuration, owns all three, and puts its
// stages into a topology. Both `conclaved` (one) and `conclave dev` (several) run nodes this way.
//
// Threads: open, register and close on one thread while the topology does not run. host_status(),
// host_failure() and the counters may be asked for from any thread at any time.
#ifndef CONCLAVE_HOST_H
#define CONCLAVE_HOST_H

#include <stdbool.h>
#include <stdio.h>

#include "config.h"
#include "port/port.h"
#include "topology.h"

// How old a status may be: below what a person sees, and a thousandth of what polling costs.
#define HOST_STATUS_NS (10ull * 1000 * 1000)

struct host; // opaque

// port_dpdk_open, lent by programs that link it; NULL in those that do not.
typedef struct port *(*host_dpdk_fn)(const struct port_dpdk_options *options, char error[256]);

// The configuration must be one that config_parse() accepted, or be made of config_defaults() and
// config_derive(). It is copied. NULL with a sentence in error.
struct host *host_open(const struct config *config, host_dpdk_fn dpdk, char error[256]);
void host_close(struct host *host); // after topology_stop()

// As [topology] says. False with a sentence in error.
bool host_register(struct host *host, struct topology *topology, char error[256]);
// All three stages on one lcore of the topology.
bool host_register_on(struct host *host, struct topology *topology, int lcore, char error[256]);

const struct config *host_config(const struct host *host);
const char *host_failure(const struct host *host); // NULL while well
// At most HOST_STATUS_NS old while the topology runs.
void host_status(const struct host *host, struct wire_status *status);

// For people. A few aligned lines after host_open(); one line when role, leader or term changed
// since the last call (false: nothing to say); all counters that are not zero.
void host_print_start(const struct host *host, FILE *out);
bool host_describe_change(struct host *host, char *text, size_t bytes);
void host_print_counters(const struct host *host, FILE *out);

#endif
