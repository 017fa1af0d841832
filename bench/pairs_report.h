// What `pairs` prints: exact percentiles over all samples, as a table with a histogram or as JSON.
#ifndef CONCLAVE_PAIRS_REPORT_H
#define CONCLAVE_PAIRS_REPORT_H

#include <stdbool.h>
#include <stdint.h>

struct pairs_result {
    uint64_t pairs; // above 0 to be printed
    uint64_t resent;
    uint64_t pause_ns; // longest time from one answer to the next
    double seconds;
    uint64_t *acquire_ns; // one per pair; sorted by pairs_print()
    uint64_t *pair_ns;
};
void pairs_print(struct pairs_result *result, bool json);

#endif
