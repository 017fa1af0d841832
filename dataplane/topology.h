// Binds stages to threads. A lcore is one thread that polls a list of stages round after round: a
// core per stage on an appliance, all three of a node on one thread on a small machine, those of
// several nodes on one thread in `conclave dev`. The stages are the same; only this table differs.
//
// A round reads the clock once, polls each stage once and, if none had work, idles as the lcore's
// policy says:
//   spin   not at all: for a core that nothing else runs on
//   yield  sched_yield(): for a core shared with others; costs a processor, but lets others in
//   sleep  yields a little, then waits for the stages' descriptors with a time-out that doubles up
//          to TOPOLOGY_SLEEP_MAX_NS, since timers run in the stages too
//
// A stage that reports a failure is not polled again, and neither are the others of its owner; a
// thread without stages ends.
#ifndef CONCLAVE_TOPOLOGY_H
#define CONCLAVE_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

// Nine nodes of three stages in one process.
#define TOPOLOGY_LCORES_MAX 27u
#define TOPOLOGY_STAGES_MAX 27u
// Heartbeats may be a millisecond apart, and a tenth of the shortest election is as late as a timer
// may be.
#define TOPOLOGY_SLEEP_MAX_NS (1000u * 1000u)
#define TOPOLOGY_SLEEP_MIN_NS (50u * 1000u) // below this the kernel's timer slack is the sleep
// What an answer from another process on the same machine takes to come: sleeping sooner would add
// a wake-up to every step of a replication round.
#define TOPOLOGY_YIELDS_FIRST 32u

enum topology_idle { TOPOLOGY_SPIN, TOPOLOGY_YIELD, TOPOLOGY_SLEEP };

struct topology_stage {
    const char *name; // "port", "consensus", "wal"
    uint16_t owner;   // node id: stages of one owner end together
    void *context;    // lent; for the three functions below
    uint32_t (*poll)(void *context, uint64_t now_ns);
    const char *(*failure)(void *context); // NULL while well; any thread
    int (*wait_fd)(void *context);         // readable when there is work; -1: none. NULL: none ever
};

enum topology_counter {
    TOPOLOGY_COUNT_ROUNDS,
    TOPOLOGY_COUNT_EMPTY,           // rounds in which no stage had work
    TOPOLOGY_COUNT_SLEEPS,          // of those, ended by sleeping
    TOPOLOGY_COUNT_LONGEST_US,      // from one clock reading to the next with no idling between
    TOPOLOGY_COUNT_ALLOCATED_BYTES, // by this thread since its 1000th round; 0 without jemalloc
    TOPOLOGY_COUNTERS
};

struct topology; // opaque

struct topology *topology_create(void);           // NULL: no memory
void topology_destroy(struct topology *topology); // after topology_stop()

// The lcore of this CPU, made at its first mention; cpu -1: a new one, not pinned. Its number.
// idle counts at the first mention. A negative number: TOPOLOGY_LCORES_MAX reached.
int topology_lcore(struct topology *topology, int cpu, enum topology_idle idle);
// False: TOPOLOGY_STAGES_MAX reached.
bool topology_bind(struct topology *topology, int lcore, const struct topology_stage *stage);
// Called first on each thread, e.g. dpdk_eal_adopt_thread.
void topology_on_start(struct topology *topology, void (*fn)(void));

// Starts all threads; signals stay blocked in them. False with a sentence in error, and none runs.
bool topology_start(struct topology *topology, char error[256]);
// Asks all to stop after their round and waits for them. Harmless if not started or twice.
void topology_stop(struct topology *topology);
// How many lcores still poll something.
uint32_t topology_running(const struct topology *topology);

uint32_t topology_lcores(const struct topology *topology);
// "cpu 2, spin: port 1, consensus 1"
void topology_describe(const struct topology *topology, uint32_t lcore, char *text, uint32_t bytes);
uint64_t topology_counter(const struct topology *topology, uint32_t lcore,
                          enum topology_counter counter);
const char *topology_counter_name(enum topology_counter counter);

const char *topology_idle_name(enum topology_idle idle);
// Is this CPU one of those the kernel was told to keep free (isolcpus)? `list` as in
// /sys/devices/system/cpu/isolated: "2-5,8". NULL: read that file.
bool topology_cpu_isolated(int cpu, const char *list);

#endif
