// See counters.h.
#include "counters.h"

#include <assert.h>
#include <stdio.h>

void counters_add(struct counters *counters, const struct counter_group *group) {
    assert(counters->group_count < COUNTER_GROUPS_MAX);
    counters->groups[counters->group_count++] = *group;
}

uint32_t counters_total(const struct counters *counters) {
    uint32_t total = 0;
    for (uint32_t i = 0; i < counters->group_count; i++) total += counters->groups[i].count;
    return total;
}

uint32_t counters_read(const struct counters *counters, uint32_t skip, struct wire_counter *out,
                       uint32_t max) {
    uint32_t written = 0;
    for (uint32_t g = 0; g < counters->group_count; g++) {
        const struct counter_group *group = &counters->groups[g];
        for (uint32_t i = 0; i < group->count && written < max; i++) {
            if (skip > 0) {
                skip--;
                continue;
            }
            struct wire_counter *counter = &out[written++];
            *counter = (struct wire_counter){.value = group->value(group->owner, i)};
            // Only asked for by people: formatting here is not on the hot path.
            snprintf(counter->name, sizeof counter->name, "%s.%s", group->prefix, group->name(i));
        }
    }
    return written;
}
