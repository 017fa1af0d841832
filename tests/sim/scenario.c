// The list of scenarios, and how they are run: each in a process of its own, so that an assertion
// of the product that ends one is one that failed, and the others are run all the same.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "scenarios.h"

#define MEMBERSHIP "membership change, a later issue"
#define TRANSFER   "leadership transfer, a later issue"

static const struct scenario_entry entries[] = {
    SCENARIOS_RAFT,
    SCENARIOS_READ,
    SCENARIOS_SNAPSHOT,
    SCENARIOS_WAL,
    SCENARIOS_LOCK,
    {"transfer-to-learner", TRANSFER, NULL},
    {"transfer-never-times-out", TRANSFER, NULL},
    {"two-membership-changes", MEMBERSHIP, NULL},
    {"membership-before-own-commit", MEMBERSHIP, NULL},
    {"removed-leader-counts-itself", MEMBERSHIP, NULL},
    {"config-kept-at-truncation", MEMBERSHIP, NULL},
    {"watch-over-reconnect", "watches, issue 4 (the whole service)", NULL},
};
#define ENTRIES (sizeof entries / sizeof entries[0])

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool play(const struct scenario_entry *entry, bool verbose) {
    struct scenario *s = calloc(1, sizeof *s);
    s->sim = calloc(1, sizeof *s->sim);
    s->sim->options.verbose = verbose;
    bool well = setjmp(s->sim->broken) == 0;
    if (well) {
        entry->play(s);
    } else {
        printf("%s is broken at %.6f s: %s\n  rule: %s\n  replay: sim --scenario %s --verbose\n",
               entry->name, (double)s->sim->now_ns / 1e9, s->sim->broken_rule, entry->rule,
               entry->name);
        if (verbose) sim_describe(s->sim);
    }
    scenario_end(s);
    free(s->sim);
    free(s);
    return well;
}

// In a child; what it prints comes out as it is.
static bool play_apart(const struct scenario_entry *entry, bool verbose) {
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(60); // one that hangs has failed
        bool well = play(entry, verbose);
        (void)fflush(stdout);
        _exit(well ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return false;
    if (WIFSIGNALED(status))
        printf("%s is ended by signal %d\n  rule: %s\n", entry->name, WTERMSIG(status),
               entry->rule);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int run_one(const char *name, bool verbose) {
    for (size_t i = 0; i < ENTRIES; i++) {
        if (strcmp(entries[i].name, name) != 0) continue;
        if (entries[i].play == NULL) {
            printf("%s waits for: %s\n", name, entries[i].rule);
            return 0;
        }
        bool well = play_apart(&entries[i], verbose);
        if (well) printf("%s holds: %s\n", name, entries[i].rule);
        return !well;
    }
    fprintf(stderr, "there is no scenario %s; see sim --scenarios\n", name);
    return 2;
}

static int run_all(bool verbose) {
    uint32_t passed = 0, failed = 0, waiting = 0;
    for (size_t i = 0; i < ENTRIES; i++) {
        const struct scenario_entry *entry = &entries[i];
        if (entry->play == NULL) {
            waiting++;
            printf("waiting          %-30s for: %s\n", entry->name, entry->rule);
            continue;
        }
        double began = seconds_now();
        bool well = play_apart(entry, verbose);
        passed += well;
        failed += !well;
        printf("%s %5.0f ms  %-30s %s\n", well ? "passed" : "FAILED",
               (seconds_now() - began) * 1000, entry->name, entry->rule);
    }
    printf("%u passed, %u failed, %u waiting\n", passed, failed, waiting);
    return failed != 0;
}

int scenario_arguments(int argc, char **argv) {
    const char *name = NULL;
    bool all = false, verbose = false;
    for (int i = 1; i < argc; i++) {
        all = all || strcmp(argv[i], "--scenarios") == 0;
        verbose = verbose || strcmp(argv[i], "--verbose") == 0;
        if (strcmp(argv[i], "--scenario") == 0) name = i + 1 < argc ? argv[++i] : "(none named)";
    }
    if (!all && name == NULL) return -1;
#ifdef SIM_MUTANT
    printf("MUTANT %s: a bug is planted in this build, see tests/mutants\n", SIM_MUTANT);
#endif
    return name != NULL ? run_one(name, verbose) : run_all(verbose);
}
