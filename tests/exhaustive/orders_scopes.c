// The scopes. Depth and budgets are what half a minute on one core bears: each budget is what the
// story in the name needs, one crash or doubled message more where that still fits.
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "orders.h"

static const struct scope elections[] = {
    // By symmetry node 1 may be the first to stand: at the start nodes differ in nothing but the
    // id.
    {.name = "an election with a crash",
     .budget = {{1, 0, 1}, {0, 0, 1}, {0, 0, 0}},
     .duplicates = 1,
     .depth = 12,
     .depth_long = 16},
    {.name = "two candidates",
     .budget = {{1, 0, 0}, {1, 0, 1}, {0, 0, 1}},
     .apart = 0,
     .depth = 13,
     .depth_long = 16},
    {.name = "a candidate that tries again",
     .drives = {{0}, {0}, {1, 0, 0, {{0}}}},
     .apart = 2,
     .budget = {{2, 0, 0}, {0, 0, 0}, {1, 0, 0}},
     .depth = 18,
     .depth_long = 24},
    // Node 2 learns of the term first, and votes in it while that is still on its way to the drive.
    {.name = "a vote behind a write of the term",
     .drives = {{4, 0, 0, {{0}}}, {0}, {4, 0, 0, {{0}}}},
     .apart = 2,
     .budget = {{1, 0, 0}, {1, 0, 1}, {1, 0, 0}},
     .depth = 16,
     .depth_long = 20},
};

static const struct scope logs[] = {
    {.name = "two entries, a doubled message, a crash of a follower",
     .leads = 1,
     .offers = 1,
     .proposals = 1,
     .duplicates = 1,
     .heartbeats = 1,
     .budget = {{0, 0, 0}, {0, 0, 1}, {0, 0, 0}},
     .depth = 9,
     .depth_long = 14},
    {.name = "a change of leader under way",
     .leads = 1,
     .offers = 2,
     .apart = 2,
     .budget = {{0, 0, 0}, {1, 0, 1}, {0, 1, 0}},
     .depth = 14,
     .depth_long = 18},
    // The log of node 3 is newer, that of nodes 1 and 2 on a majority: figure 3.7 (c) of the
    // thesis.
    {.name = "an older term's entry on a majority",
     .drives = {{4, 1, 2, {{0}, {1, 0, 0, 0}, {2, 0, 0, 0}}},
                {4, 1, 2, {{0}, {1, 0, 0, 0}, {2, 0, 0, 0}}},
                {4, 0, 2, {{0}, {1, 0, 0, 0}, {3, 0, 0, 0}}}},
     .apart = 2,
     .budget = {{1, 0, 0}, {0, 0, 1}, {2, 0, 0}},
     .depth = 21,
     .depth_long = 24},
    // Node 2 acknowledges what the leader itself may lose, and cannot be heard by node 3.
    {.name = "a leader crashes before its log is durable",
     .leads = 1,
     .offers = 1,
     .apart = 1,
     .budget = {{0, 0, 1}, {0, 0, 0}, {1, 0, 0}},
     .depth = 13,
     .depth_long = 20},
    {.name = "a longer log of an older term",
     .drives = {{2, 1, 2, {{0}, {1, 0, 0, 0}, {2, 0, 0, 0}}},
                {2, 1, 2, {{0}, {1, 0, 0, 0}, {2, 0, 0, 0}}},
                {5, 0, 3, {{0}, {1, 0, 0, 0}, {1, 0, 0, 0}, {1, 0, 0, 0}}}},
     .apart = 1,
     .budget = {{1, 0, 1}, {0, 0, 0}, {1, 0, 0}},
     .depth = 24,
     .depth_long = 30},
    {.name = "an append that comes again",
     .leads = 1,
     .offers = 2,
     .gets = 3,
     .apart = 2,
     .duplicates = 1,
     .budget = {{0, 0, 0}, {0, 1, 0}, {1, 0, 0}},
     .depth = 14,
     .depth_long = 17},
};

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct { uint64_t states, steps; } sum;

static bool run(const struct scope *scope, bool thorough) {
    double began = now_s();
    if (!search_scope(scope, thorough ? scope->depth_long : scope->depth)) return false;
    printf("%-54s %5llu %10llu %11llu %10llu %6.1f\n", scope->name,
           (unsigned long long)search.reached, (unsigned long long)search.states,
           (unsigned long long)search.steps, (unsigned long long)search.cut, now_s() - began);
    if (!search.whole) printf("  stopped there: too many states, so not gone through in full\n");
    if (search.lost_mail > 0)
        printf("  %llu messages did not fit the network\n", (unsigned long long)search.lost_mail);
    sum.states += search.states;
    sum.steps += search.steps;
    return true;
}

static bool run_all(const struct scope *scopes, size_t count, const char *only, bool thorough) {
    for (size_t i = 0; i < count; i++)
        if ((only == NULL || strcmp(only, scopes[i].name) == 0) && !run(&scopes[i], thorough))
            return false;
    return true;
}

// orders [--long] [NAME]: all scopes, or the one of that name. "cut" counts states at the depth
// bound, which had more to come.
int main(int argc, char **argv) {
    bool thorough = argc > 1 && strcmp(argv[1], "--long") == 0;
    const char *only = argc > 1 + thorough ? argv[1 + thorough] : NULL;
    double began = now_s();
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%-54s %5s %10s %11s %10s %6s\n", "scope", "depth", "states", "steps", "cut", "s");
    if (!run_all(elections, sizeof elections / sizeof *elections, only, thorough)) return 1;
    if (!run_all(logs, sizeof logs / sizeof *logs, only, thorough)) return 1;
    printf("%-54s %5s %10llu %11llu %10s %6.1f\n", "all", "", (unsigned long long)sum.states,
           (unsigned long long)sum.steps, "", now_s() - began);
    return sum.states > 0 ? 0 : 1; // no such scope
}
