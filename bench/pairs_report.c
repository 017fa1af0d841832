// See pairs_report.h. The histogram's steps are a quarter of an octave wide (each 19 % above the
// one before), so that a tail a hundred times the median still fits a screen.
#include "pairs_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_PER_OCTAVE 4
#define STEPS            (40 * STEPS_PER_OCTAVE) // from 1 ns to 18 minutes
#define BAR_WIDTH        50u
#define ROWS_MAX         28u

static int by_value(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

// Nearest rank: the smallest sample that at least so many per mille of all do not exceed.
static double percentile_us(const uint64_t *sorted, uint64_t count, uint64_t per_mille) {
    uint64_t rank = (count * per_mille + 999) / 1000;
    return (double)sorted[rank > 0 ? rank - 1 : 0] / 1e3;
}

static const uint32_t per_mille[] = {500, 900, 990, 999, 1000};
#define COLUMNS (sizeof per_mille / sizeof per_mille[0])

static void print_row(const char *what, const uint64_t *sorted, uint64_t count) {
    printf("%-18s", what);
    for (unsigned i = 0; i < COLUMNS; i++)
        printf(" %10.1f", percentile_us(sorted, count, per_mille[i]));
    printf("\n");
}

static void print_object(const char *what, const uint64_t *sorted, uint64_t count) {
    static const char *const names[COLUMNS] = {"p50_us", "p90_us", "p99_us", "p999_us", "max_us"};
    printf("\"%s\": {", what);
    for (unsigned i = 0; i < COLUMNS; i++)
        printf("%s\"%s\": %.2f", i ? ", " : "", names[i],
               percentile_us(sorted, count, per_mille[i]));
    printf("}");
}

// ---------------------------------------------------------------- histogram

static uint32_t step_of(uint64_t ns) {
    if (ns < 1) return 0;
    double step = floor(log2((double)ns) * STEPS_PER_OCTAVE + 1e-9);
    return step < STEPS - 1 ? (uint32_t)step : STEPS - 1;
}
static double step_begin_us(uint32_t step) {
    return exp2((double)step / STEPS_PER_OCTAVE) / 1e3;
}

static void print_step(double from_us, double to_us, uint64_t samples, uint64_t most,
                       uint64_t total) {
    static const char bar[BAR_WIDTH + 1] = "##################################################";
    uint32_t width = (uint32_t)((samples * BAR_WIDTH + most / 2) / most);
    // One sample among thousands is the point of looking at a tail: it gets a mark.
    if (width == 0)
        printf("%10.1f - %-10.1f %8" PRIu64 " %6.2f %%  .\n", from_us, to_us, samples,
               (double)samples * 100 / (double)total);
    else
        printf("%10.1f - %-10.1f %8" PRIu64 " %6.2f %%  %.*s\n", from_us, to_us, samples,
               (double)samples * 100 / (double)total, (int)width, bar);
}

// Empty steps are left out, so a line of dots tells where the scale jumps. When there are too many
// lines, neighbours are joined.
static void print_histogram(const char *what, const uint64_t *sorted, uint64_t count) {
    uint64_t samples[STEPS] = {0}, most = 1;
    uint32_t first = step_of(sorted[0]), last = step_of(sorted[count - 1]), join = 1;
    for (uint64_t i = 0; i < count; i++) samples[step_of(sorted[i])]++;
    while ((last - first) / join + 1 > ROWS_MAX) join++;
    for (uint32_t at = first; at <= last; at += join) {
        uint64_t sum = 0;
        for (uint32_t i = at; i < at + join && i <= last; i++) sum += samples[i];
        if (sum > most) most = sum;
    }
    printf("\n%s, microseconds\n", what);
    bool gap = false;
    for (uint32_t at = first; at <= last; at += join) {
        uint64_t sum = 0;
        for (uint32_t i = at; i < at + join && i <= last; i++) sum += samples[i];
        if (sum == 0) {
            if (!gap) printf("%10s\n", "...");
            gap = true;
            continue;
        }
        gap = false;
        print_step(step_begin_us(at), step_begin_us(at + join), sum, most, count);
    }
}

void pairs_print(struct pairs_result *r, bool json) {
    qsort(r->acquire_ns, r->pairs, sizeof *r->acquire_ns, by_value);
    qsort(r->pair_ns, r->pairs, sizeof *r->pair_ns, by_value);
    double rate = r->seconds > 0 ? (double)r->pairs / r->seconds : 0;
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
    print_histogram("acquire + release", r->pair_ns, r->pairs);
    printf("\n%" PRIu64 " pairs in %.2f s: %.0f pairs a second, one at a time; longest pause %.1f "
           "ms; %" PRIu64 " requests sent again\n",
           r->pairs, r->seconds, rate, (double)r->pause_ns / 1e6, r->resent);
}
