// A cluster of three whole nodes in one process, over a network made of arrays and real disks:
// one thread polls the three port stages, one the three consensus stages, one the three wal stages,
// as three lcores would. Clients on the port thread acquire and release locks without pause, each
// its own, one request of each in flight.
#ifndef CONCLAVE_TEST_LOOPBACK_H
#define CONCLAVE_TEST_LOOPBACK_H

#include <stdbool.h>
#include <stdint.h>

#include "node.h"

#define LOOPBACK_NODES 3u

enum loopback_thread { LOOPBACK_PORT, LOOPBACK_CONSENSUS, LOOPBACK_WAL, LOOPBACK_THREADS };

// Called by each of the threads after each of its rounds. False ends that thread.
typedef bool (*loopback_round_fn)(void *context, enum loopback_thread thread);

struct loopback; // opaque

// The nodes' files go to a directory made under the working directory. NULL after a sentence on
// stderr.
struct loopback *loopback_open(bool memory);
void loopback_close(struct loopback *loopback); // removes the files as well
// Runs all threads until round() has ended each; the nodes then rest. False, after a sentence on
// stderr, if a node failed or an answer was wrong.
bool loopback_run(struct loopback *loopback, loopback_round_fn round, void *context);
// While running, from any thread: the clients ask for nothing more.
void loopback_quiet(struct loopback *loopback);
// While running, from any thread: acquire + release pairs answered so far.
uint64_t loopback_pairs(const struct loopback *loopback);
const struct node *loopback_node(const struct loopback *loopback, uint32_t i);
// Sum over the nodes of the counter with this full name ("node.snapshots"); from any thread.
uint64_t loopback_counter(const struct loopback *loopback, const char *name);

#endif
