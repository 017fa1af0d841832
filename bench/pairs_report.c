// See pairs_report.h.
#include "pairs_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static double percentile_us(const uint64_t *sorted, uint64_t count, double share) {
    uint64_t at = (uint64_t)((double)count * share);
    if (at >= count) at = count - 1;
    return (double)sorted[at] / 1e3;
}

static const double shares[] = {0.5, 0.9, 0.99, 0.999, 1.0};

static void print_row(const char *what, const uint64_t *sorted, uint64_t count) {
    printf("%-18s", what);
    for (unsigned i = 0; i < 5; i++) printf(" %10.1f", percentile_us(sorted, count, shares[i]));
    printf("\n");
}

static void print_object(const char *what, const uint64_t *sorted, uint64_t count) {
    static const char *const names[] = {"p50_us", "p90_us", "p99_us", "p999_us", "max_us"};
    printf("\"%s\": {", what);
    for (unsigned i = 0; i < 5; i++)
        printf("%s\"%s\": %.2f", i ? ", " : "", names[i], percentile_us(sorted, count, shares[i]));
    printf("}");
}

void pairs_print(struct pairs_result *r, bool json) {
    qsort(r->acquire_ns, r->pairs, sizeof *r->acquire_ns, by_value);
    qsort(r->pair_ns, r->pairs, sizeof *r->pair_ns, by_value);
    double rate = (double)r->pairs / r->seconds;
    if (json) {
        printf("{\"pairs\": %" PRIu64 ", \"seconds\": %.3f, \"pairs_per_second\": %.0f, "
               "\"resent\": %" PRIu64 ", \"longest_pause_ms\": %.3f, ",
               r->pairs, r->seconds, rate, r->resent, (double)r->pause_ns / 1e6);
        print_object("acquire", r->acquire_ns, r->pairs);
        printf(", ");
        print_object("acquire_release", r->pair_ns, r->pairs);
        printf("}\n");
        return;
    }
    printf("%-18s %10s %10s %10s %10s %10s   (microseconds)\n", "", "p50", "p90", "p99", "p99.9",
           "max");
    print_row("acquire", r->acquire_ns, r->pairs);
    print_row("acquire + release", r->pair_ns, r->pairs);
    printf("%" PRIu64 " pairs in %.2f s: %.0f pairs a second, one at a time; %" PRIu64
           " sent again\n",
           r->pairs, r->seconds, rate, r->resent);
}
