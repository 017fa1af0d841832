// The scopes. Each is small, so that every order and every set of sectors can be gone through, and
// each has at its heart one thing the store must not get wrong.
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "crash.h"

#define APPEND(from, many, in_term, content, size)                                                 \
    .type = STEP_APPEND,                                                                           \
    .batch = {.first = (from), .count = (many), .entry = {(in_term), (content), (size)}}
#define VOTE(in_term, candidate) .type = STEP_VOTE, .vote = {(in_term), (candidate)}
#define SNAPSHOT(upto, in_term, size, content, from)                                               \
    .type = STEP_SNAPSHOT, .snapshot = {(upto), (in_term), (size), (content), false},              \
    .offset = (from)
#define INSTALL(upto, in_term, size, content, from)                                                \
    .type = STEP_SNAPSHOT, .snapshot = {(upto), (in_term), (size), (content), true},               \
    .offset = (from)

static void do_append(uint64_t first, uint32_t count, uint64_t term, uint64_t body,
                      uint16_t length) {
    struct step step = {APPEND(first, count, term, body, length)};
    crash_do(&step);
}
static void do_vote(uint64_t term, uint16_t vote) {
    struct step step = {VOTE(term, vote)};
    crash_do(&step);
}
static void do_snapshot(uint64_t index, uint64_t term, uint32_t bytes, uint8_t fill) {
    for (uint32_t at = 0; at < bytes; at += STORE_SNAPSHOT_BYTES) {
        struct step step = {SNAPSHOT(index, term, bytes, fill, at)};
        crash_do(&step);
    }
}

static void plain(void) {
    do_vote(1, 2);
    do_append(1, 3, 1, 1, 100);
}

// Large batches, until `left` bytes of the segment are free; a full one is left for the next first.
static void fill_segment(uint32_t left) {
    const struct store *store = crash.node.store;
    do_append(crash.expect.log.last + 1, 3, 1, 7, 1290); // no sector of its block is zero
    uint32_t segment = store->wal.current;
    while (store->wal.current == segment && store->wal.offset + left < SEGMENT_BYTES) {
        uint64_t room = SEGMENT_BYTES - left - store->wal.offset;
        uint32_t count = room >= 188 * 1328 + 96 ? 188
                         : room > 2800           ? (uint32_t)(room - 96) / 1328
                                                 : 1;
        do_append(crash.expect.log.last + 1, count, 1, 7, count == 1 ? 1000 : 1304);
    }
}

static void end_of_segment(void) {
    do_vote(1, 2);
    fill_segment(STORE_BLOCK);
}

// The next segment holds what a snapshot has made superfluous.
static void end_of_ring(uint32_t left) {
    do_vote(1, 2);
    fill_segment(0);
    fill_segment(0);
    do_snapshot(crash.expect.log.last, 1, 900, 0x11);
    do_append(crash.expect.log.last + 1, 1, 1, 7, 100);
    fill_segment(left);
}
static void full_ring(void) {
    end_of_ring(0);
}
static void nearly_full_ring(void) {
    end_of_ring(STORE_BLOCK);
}

static void two_snapshots(void) {
    plain();
    do_snapshot(1, 1, 70000, 0x21);
    do_snapshot(2, 1, 70000, 0x31);
    do_append(4, 2, 1, 2, 100);
}

static void two_small_snapshots(void) {
    plain();
    do_snapshot(1, 1, 700, 0x21);
    do_snapshot(2, 1, 700, 0x31);
    do_append(4, 2, 1, 2, 100);
}

static const struct scope scopes[] = {
    {"first start", NULL, false, 2, {{APPEND(1, 1, 1, 1, 100)}, {VOTE(1, 2)}}},
    {"append of one block", plain, false, 1, {{APPEND(4, 3, 1, 2, 1290)}}},
    {"append of four blocks", plain, false, 1, {{APPEND(4, 12, 1, 2, 1200)}}},
    {"appends over entries of an older term",
     plain,
     false,
     2,
     {{APPEND(2, 1, 2, 2, 900)}, {APPEND(3, 1, 2, 3, 900)}}},
    {"three appends in flight",
     plain,
     false,
     3,
     {{APPEND(4, 1, 1, 2, 900)}, {APPEND(5, 1, 1, 3, 900)}, {APPEND(6, 1, 1, 4, 900)}}},
    {"term and vote", plain, false, 2, {{VOTE(2, 3)}, {VOTE(3, 1)}}},
    {"term and vote beside appends",
     plain,
     false,
     3,
     {{APPEND(4, 1, 1, 2, 100)}, {VOTE(2, 3)}, {APPEND(4, 1, 2, 3, 600)}}},
    {"segment roll",
     end_of_segment,
     true,
     3,
     {{APPEND(1, 1, 1, 2, 100)}, {APPEND(2, 1, 1, 3, 100)}, {APPEND(3, 1, 1, 4, 100)}}},
    {"segment roll onto an old segment", full_ring, true, 1, {{APPEND(1, 1, 1, 2, 900)}}},
    {"snapshot",
     two_snapshots,
     false,
     2,
     {{SNAPSHOT(5, 1, 66000, 0x41, 0)}, {SNAPSHOT(5, 1, 66000, 0x41, 65536)}}},
    {"first snapshot", plain, false, 1, {{SNAPSHOT(3, 1, 1500, 0x41, 0)}}},
    {"small snapshot beside an append",
     two_small_snapshots,
     false,
     2,
     {{APPEND(6, 1, 1, 2, 100)}, {SNAPSHOT(5, 1, 700, 0x41, 0)}}},
    {"install",
     plain,
     false,
     2,
     {{INSTALL(50, 2, 900, 0x51, 0)}, {APPEND(51, 1, 2, 2, 100), .alone = true}}},
    {"install below the end of an older log",
     plain,
     false,
     2,
     {{INSTALL(2, 2, 900, 0x51, 0)}, {APPEND(3, 1, 2, 3, 100), .alone = true}}},
};

// Minutes each, with --long only.
static const struct scope long_scopes[] = {
    {"four appends in flight",
     plain,
     false,
     4,
     {{APPEND(4, 1, 1, 2, 100)},
      {APPEND(5, 2, 1, 3, 200)},
      {APPEND(6, 1, 2, 4, 100)},
      {APPEND(7, 1, 2, 5, 100)}}},
    {"two votes beside appends",
     plain,
     false,
     4,
     {{APPEND(4, 1, 1, 2, 100)}, {VOTE(2, 0)}, {APPEND(4, 1, 2, 3, 600)}, {VOTE(3, 3)}}},
    {"the same with two in flight",
     nearly_full_ring,
     true,
     2,
     {{APPEND(1, 1, 1, 2, 100)}, {APPEND(2, 6, 1, 3, 900)}}},
    {"first snapshot beside an append",
     plain,
     false,
     2,
     {{APPEND(4, 1, 1, 2, 100)}, {SNAPSHOT(3, 1, 1500, 0x41, 0)}}},
    {"snapshot beside append, term and vote",
     two_snapshots,
     false,
     3,
     {{APPEND(6, 1, 1, 2, 100)}, {SNAPSHOT(5, 1, 700, 0x41, 0)}, {VOTE(2, 3)}}},
    {"install beside an append",
     two_snapshots,
     false,
     3,
     {{APPEND(6, 1, 1, 2, 100)},
      {INSTALL(50, 2, 66000, 0x51, 0)},
      {INSTALL(50, 2, 66000, 0x51, 65536)}}},
    {"install below the end of an older log, beside an append",
     plain,
     false,
     3,
     {{APPEND(4, 8, 1, 2, 100)},
      {INSTALL(6, 2, 900, 0x51, 0)},
      {APPEND(7, 1, 2, 3, 100), .alone = true}}},
};

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_row(const char *name, const struct tally *t, double seconds) {
    printf("%-48s %8llu %8llu %10llu %8llu %7.1f\n", name, (unsigned long long)t->points,
           (unsigned long long)t->images, (unsigned long long)t->recoveries,
           (unsigned long long)t->cut_recoveries, seconds);
}

static void run(const struct scope *scope, bool thorough, struct tally *sum) {
    double began = now_s();
    crash_scope(scope, thorough ? SECTORS_AGAIN_LONG : SECTORS_AGAIN);
    print_row(scope->name, &crash.tally, now_s() - began);
    sum->points += crash.tally.points;
    sum->images += crash.tally.images;
    sum->recoveries += crash.tally.recoveries;
    sum->cut_recoveries += crash.tally.cut_recoveries;
}

// crash [--long] [NAME]: all scopes, or the one of that name.
int main(int argc, char **argv) {
    struct tally sum = {0};
    bool thorough = argc > 1 && strcmp(argv[1], "--long") == 0;
    const char *only = argc > 1 + thorough ? argv[1 + thorough] : NULL;
    double began = now_s();
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%-48s %8s %8s %10s %8s %7s\n", "scope", "points", "disks", "recoveries", "cut", "s");
    for (uint32_t i = 0; i < sizeof scopes / sizeof *scopes; i++)
        if (only == NULL || strcmp(only, scopes[i].name) == 0) run(&scopes[i], thorough, &sum);
    for (uint32_t i = 0; thorough && i < sizeof long_scopes / sizeof *long_scopes; i++)
        if (only == NULL || strcmp(only, long_scopes[i].name) == 0)
            run(&long_scopes[i], thorough, &sum);
    print_row("all", &sum, now_s() - began);
    return sum.points > 0 ? 0 : 1; // no such scope
}
