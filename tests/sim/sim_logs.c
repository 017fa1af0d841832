// The logs of all nodes, looked at as they grow.
//
// Log matching (thesis 3.5): two entries of the same index and term are equal, and so is what lies
// before them. Each entry is hashed together with the term of the one before it, so equality at
// every index is, by induction, equality of all before. Leader completeness: what is committed
// anywhere is committed alike everywhere, and is in the log of every later leader. What is
// committed is written into the history.
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "sim_internal.h"

#define INDICES HISTORY_ENTRIES

struct print { // of an entry
    uint64_t term, hash;
};

struct sim_logs {
    uint64_t committed; // all up to here are known
    struct print commits[INDICES];
    uint64_t commit_terms[INDICES]; // in which it was seen committed: that, or an earlier one
    struct print newest[INDICES];   // of the highest term seen at that index
    struct seen {
        uint64_t commit, last, last_term, led_term;
    } seen[SIM_NODES_MAX];
};

struct sim_logs *sim_logs_create(void) {
    struct sim_logs *logs = calloc(1, sizeof *logs); // untouched pages cost nothing
    if (logs == NULL) abort();
    return logs;
}

void sim_logs_destroy(struct sim_logs *logs) {
    free(logs);
}

static struct print print_of(const struct raft *raft, uint64_t index) {
    struct raft_entry entry = raft_entry_at(raft, index);
    struct {
        uint64_t term, before, time_ns, type;
    } facts = {entry.term, raft_term_at(raft, index - 1), entry.time_ns, entry.type};
    uint64_t hash = XXH3_64bits_withSeed(&facts, sizeof facts, 1);
    return (struct print){entry.term, XXH3_64bits_withSeed(entry.data, entry.length, hash)};
}

// Entries this node has got since it was last looked at.
static void check_matching(struct sim *sim, const struct sim_machine *machine,
                           const struct raft *raft, struct seen *seen) {
    struct sim_logs *logs = sim->logs;
    uint64_t from = seen->last + 1, last = raft_last(raft);
    bool grown = seen->last <= last && raft_term_at(raft, seen->last) == seen->last_term;
    if (!grown) from = raft_commit(raft) + 1; // its end was replaced: look at all of it again
    if (from < raft_first(raft)) from = raft_first(raft);
    for (uint64_t i = from; i <= last && i < INDICES; i++) {
        struct print now = print_of(raft, i), *known = &logs->newest[i];
        if (known->term == now.term && known->hash != now.hash)
            sim_broken(sim, "node %u has another entry at index %lu, term %lu than a node before",
                       machine->id, (unsigned long)i, (unsigned long)now.term);
        if (now.term >= known->term) *known = now;
    }
    seen->last = last;
    seen->last_term = raft_term_at(raft, last);
}

static void check_commits(struct sim *sim, const struct sim_machine *machine,
                          const struct raft *raft, struct seen *seen) {
    struct sim_logs *logs = sim->logs;
    uint64_t commit = raft_commit(raft);
    if (commit == seen->commit) return;
    uint64_t from = commit > seen->commit ? seen->commit + 1 : raft_first(raft); // a new life
    if (from < raft_first(raft)) from = raft_first(raft);
    for (uint64_t i = from; i <= commit && i < INDICES; i++) {
        struct print now = print_of(raft, i), *known = &logs->commits[i];
        if (known->term == 0) {
            struct raft_entry entry = raft_entry_at(raft, i);
            *known = now;
            logs->commit_terms[i] = raft_term(raft);
            recorder_committed(&sim->recorder, i, entry.term, entry.time_ns, entry.type,
                               entry.data);
        } else if (known->term != now.term || known->hash != now.hash) {
            sim_broken(sim,
                       "node %u commits another entry at index %lu (term %lu) than was "
                       "committed there before (term %lu)",
                       machine->id, (unsigned long)i, (unsigned long)now.term,
                       (unsigned long)known->term);
        }
    }
    if (commit > logs->committed) logs->committed = commit;
    seen->commit = commit;
}

// At the beginning of a leadership: all that was committed in earlier terms is there. (A leader of
// an older term may come late, its votes having been long on the way; it owes nothing to newer
// ones.)
static void check_complete(struct sim *sim, const struct sim_machine *machine,
                           const struct raft *raft, struct seen *seen) {
    const struct sim_logs *logs = sim->logs;
    uint64_t term = raft_term(raft), last = raft_last(raft);
    if (raft_role(raft) != WIRE_ROLE_LEADER || term == seen->led_term) return;
    seen->led_term = term;
    for (uint64_t i = raft_first(raft); i <= logs->committed && i < INDICES; i++) {
        const struct print *known = &logs->commits[i];
        if (known->term == 0 || logs->commit_terms[i] >= term) continue;
        struct print now = i <= last ? print_of(raft, i) : (struct print){0};
        if (known->term != now.term || known->hash != now.hash)
            sim_broken(sim, "node %u leads term %lu without the entry committed at index %lu",
                       machine->id, (unsigned long)term, (unsigned long)i);
    }
}

void sim_logs_check(struct sim *sim, const struct sim_machine *machine) {
    const struct raft *raft = node_raft(machine->node);
    struct seen *seen = &sim->logs->seen[machine->id - 1];
    check_complete(sim, machine, raft, seen);
    check_matching(sim, machine, raft, seen);
    check_commits(sim, machine, raft, seen);
}
