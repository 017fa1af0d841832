// Named counters for people. Each layer keeps its own numbers; this is the list of where they are,
// in the order shown. Reading may happen on another thread than counting: values are relaxed
// atomics.
#ifndef CONCLAVE_COUNTERS_H
#define CONCLAVE_COUNTERS_H

#include <stdint.h>

#include "conclave_wire.h"

#define COUNTER_GROUPS_MAX 16u

struct counter_group {
    const char *prefix; // "port", "raft" ...: shown as prefix.name
    uint32_t count;
    const char *(*name)(uint32_t index);
    uint64_t (*value)(const void *owner, uint32_t index);
    const void *owner;
};

struct counters {
    uint32_t group_count;
    struct counter_group groups[COUNTER_GROUPS_MAX];
};

void counters_add(struct counters *counters, const struct counter_group *group);
uint32_t counters_total(const struct counters *counters);
// Writes counters [skip, skip + max) and returns how many there were.
uint32_t counters_read(const struct counters *counters, uint32_t skip, struct wire_counter *out,
                       uint32_t max);

// Counting on the hot path: one writer, readers anywhere, no locked instruction.
#define COUNTER_ADD(counter, n)                                                                    \
    atomic_store_explicit(&(counter),                                                              \
                          atomic_load_explicit(&(counter), memory_order_relaxed) + (n),            \
                          memory_order_relaxed)

#endif
