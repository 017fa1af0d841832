// Whole clusters of Raft cores under random schedules, checked against the five properties of the
// thesis's figure 3.2. One seed is one life: messages are lost, doubled and overtake each other,
// nodes crash and forget what was not durable, disks finish when they like. Only the core is here;
// the full simulator (tests/sim) puts the rest of the node around it.
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "raft/raft.h"

#define NODES_MAX   5
#define WIRE_SLOTS  512
#define LOG_MAX     4096
#define ENTRIES_MAX 16
#define MS          1000000ull

struct flight {
    bool used;
    uint16_t to;
    uint64_t due_ns;
    struct raft_message message;
    struct raft_entry entries[64];
    uint64_t bodies[64];
};

struct record { // one entry as the disk has it
    uint64_t term;
    uint64_t time_ns;
    uint64_t body;
    uint8_t type;
};

struct node {
    void *memory;
    struct raft *raft;
    bool up;
    uint64_t back_ns;
    // What survives a crash.
    uint64_t disk_term;
    uint16_t disk_vote;
    struct record disk[LOG_MAX];
    uint64_t disk_last;
    uint64_t snapshot_index;
    // In flight to the disk.
    bool writing, voting;
    uint64_t write_first, write_last, write_term, write_epoch, write_done_ns;
    struct record write[LOG_MAX];
    struct raft_hard_state vote;
    uint64_t vote_done_ns;
    uint64_t applied;
    uint64_t asked[1024]; // per read not yet answered: what was committed when it was asked
    uint32_t asked_first, asked_last;
    struct raft_event events[RAFT_EVENTS_MAX];
    uint32_t event_count;
    struct flight *held[RAFT_EVENTS_MAX];
    uint32_t held_count;
};

struct world {
    uint64_t random;
    uint64_t now_ns;
    uint32_t node_count;
    struct node nodes[NODES_MAX + 1]; // by id
    struct flight wire[WIRE_SLOTS];
    struct record committed[LOG_MAX];
    uint64_t committed_last;
    uint64_t time_committed_ns;
    uint16_t leader_of[LOG_MAX]; // by term
    uint64_t next_body;
    uint32_t loss, twice, crash; // per mille
    uint64_t cut_until_ns;
    bool quiet;   // nothing new is proposed: everybody can catch up
    uint16_t cut; // node cut off until then
    uint64_t commits, reads, crashes;
};

static uint64_t draw(struct world *w, uint64_t below) {
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random % below;
}

static const uint64_t noop = 0x6e6f6f70;

static void boot(struct world *w, uint16_t id) {
    struct node *n = &w->nodes[id];
    struct raft_options options = {
        .id = id,
        .node_count = (uint16_t)w->node_count,
        .election_ns = 100 * MS,
        .heartbeat_ns = 20 * MS,
        .log_entries = 1024,
        .log_bytes = 65536,
        .window_entries = 16,
        .seed = draw(w, UINT32_MAX) + 1,
        .noop = &noop,
        .noop_length = sizeof noop,
    };
    for (uint16_t i = 0; i < w->node_count; i++) options.nodes[i] = (uint16_t)(i + 1);
    if (n->memory == NULL) n->memory = aligned_alloc(64, (raft_bytes(&options) + 63) & ~63ull);
    n->raft = raft_create(n->memory, &options);
    assert_non_null(n->raft);
    raft_restore_hard_state(n->raft, n->disk_term, n->disk_vote);
    if (n->snapshot_index > 0) {
        const struct record *r = &w->committed[n->snapshot_index];
        raft_restore_snapshot(n->raft, n->snapshot_index, r->term, r->time_ns);
    }
    for (uint64_t i = n->snapshot_index + 1; i <= n->disk_last; i++) {
        struct raft_entry entry = {.term = n->disk[i].term,
                                   .time_ns = n->disk[i].time_ns,
                                   .data = &n->disk[i].body,
                                   .length = 8,
                                   .type = n->disk[i].type};
        assert_true(raft_restore_entry(n->raft, i, &entry));
    }
    raft_start(n->raft, w->now_ns);
    n->up = true;
    n->writing = n->voting = false;
    n->applied = n->snapshot_index;
    n->event_count = n->held_count = 0;
    n->asked_first = n->asked_last = 0;
}

static void put_on_wire(struct world *w, uint16_t from, const struct raft_message *m) {
    struct node *n = &w->nodes[from];
    if (draw(w, 1000) < w->loss) return;
    if (w->now_ns < w->cut_until_ns && (from == w->cut || m->peer == w->cut)) return;
    uint32_t copies = draw(w, 1000) < w->twice ? 2 : 1;
    for (uint32_t i = 0; i < WIRE_SLOTS && copies > 0; i++) {
        struct flight *f = &w->wire[i];
        if (f->used) continue;
        copies--;
        *f = (struct flight){.used = true, .to = m->peer, .message = *m};
        f->due_ns = w->now_ns + 50000 + draw(w, draw(w, 10) == 0 ? 60 * MS : MS);
        f->message.peer = from;
        if (m->type != WIRE_APPEND) continue;
        assert_true(m->append.count <= 64);
        for (uint32_t k = 0; k < m->append.count; k++) {
            f->entries[k] = raft_entry_at(n->raft, m->append.prev_index + 1 + k);
            memcpy(&f->bodies[k], f->entries[k].data, 8);
            f->entries[k].data = &f->bodies[k];
        }
        f->message.append.entries = f->entries;
    }
}

// State machine safety and log matching: an index once applied anywhere is the same everywhere.
static void apply(struct world *w, struct node *n) {
    while (n->applied < raft_commit(n->raft)) {
        n->applied++;
        if (n->applied < raft_first(n->raft)) continue;
        struct raft_entry entry = raft_entry_at(n->raft, n->applied);
        struct record r = {.term = entry.term, .time_ns = entry.time_ns, .type = entry.type};
        memcpy(&r.body, entry.data, 8);
        if (n->applied <= w->committed_last) {
            assert_memory_equal(&r, &w->committed[n->applied], sizeof r);
            continue;
        }
        assert_int_equal(n->applied, w->committed_last + 1);
        assert_true(r.time_ns >= w->time_committed_ns);
        w->time_committed_ns = r.time_ns;
        w->committed[++w->committed_last] = r;
        w->commits++;
        // Committed means: durable on a majority, whatever their cores believe.
        uint32_t durable = 0;
        for (uint16_t i = 1; i <= w->node_count; i++) {
            const struct node *o = &w->nodes[i];
            durable +=
                o->snapshot_index >= n->applied ||
                (o->disk_last >= n->applied && memcmp(&o->disk[n->applied], &r, sizeof r) == 0);
        }
        assert_true(durable >= w->node_count / 2 + 1);
    }
}

static void begin_writes(struct world *w, struct node *n, bool hard_state_changed) {
    if (hard_state_changed ||
        (!n->voting && raft_hard_state(n->raft).sequence > n->vote.sequence)) {
        n->voting = true; // the newest replaces one not yet written
        n->vote = raft_hard_state(n->raft);
        n->vote_done_ns = w->now_ns + draw(w, 5 * MS);
    }
    uint64_t first, epoch;
    uint64_t count = raft_unpersisted(n->raft, &first, &epoch);
    if (n->writing || count == 0) return;
    n->writing = true;
    n->write_first = first;
    n->write_last = first + draw(w, count);
    n->write_epoch = epoch;
    n->write_term = raft_term_at(n->raft, n->write_last);
    n->write_done_ns = w->now_ns + draw(w, draw(w, 20) == 0 ? 200 * MS : 3 * MS);
    for (uint64_t i = first; i <= n->write_last; i++) {
        struct raft_entry entry = raft_entry_at(n->raft, i);
        n->write[i] =
            (struct record){.term = entry.term, .time_ns = entry.time_ns, .type = entry.type};
        memcpy(&n->write[i].body, entry.data, 8);
    }
    raft_persist_begun(n->raft, n->write_last);
}

static void finish_writes(struct world *w, struct node *n) {
    if (n->voting && w->now_ns >= n->vote_done_ns) {
        n->voting = false;
        n->disk_term = n->vote.term;
        n->disk_vote = n->vote.vote;
        n->events[n->event_count++] = (struct raft_event){.type = RAFT_EVENT_HARD_STATE_DURABLE,
                                                          .hard_state.sequence = n->vote.sequence};
    }
    if (n->writing && w->now_ns >= n->write_done_ns) {
        n->writing = false;
        for (uint64_t i = n->write_first; i <= n->write_last; i++) n->disk[i] = n->write[i];
        n->disk_last = n->write_last; // a record replaces its index and all after
        n->events[n->event_count++] = (struct raft_event){
            .type = RAFT_EVENT_DURABLE, .durable = {n->write_last, n->write_term, n->write_epoch}};
    }
}

static void receive(struct world *w, struct node *n, uint16_t id) {
    for (uint32_t i = 0; i < WIRE_SLOTS && n->event_count < 64; i++) {
        struct flight *f = &w->wire[i];
        if (!f->used || f->to != id || f->due_ns > w->now_ns) continue;
        f->used = false; // its memory stays until after the step
        n->events[n->event_count++] =
            (struct raft_event){.type = RAFT_EVENT_MESSAGE, .message = f->message};
    }
}

// A read sees all that was committed anywhere when it was asked (6.4), or is refused.
static void answer_reads(struct world *w, struct node *n, const struct raft_effects *effects) {
    for (uint32_t i = 0; i < effects->read_count; i++) {
        for (uint32_t k = 0; k < effects->reads[i].count; k++) {
            assert_true(n->asked_first != n->asked_last);
            assert_true(effects->reads[i].index >= n->asked[n->asked_first++ % 1024]);
            w->reads++;
        }
    }
    assert_true(n->asked_last - n->asked_first >= effects->reads_aborted);
    n->asked_first += effects->reads_aborted;
}

static void run_node(struct world *w, uint16_t id) {
    static struct raft_effects effects;
    struct node *n = &w->nodes[id];
    uint64_t body[4];
    n->event_count = 0;
    finish_writes(w, n);
    receive(w, n, id);
    bool room =
        !w->quiet && w->committed_last + 600 < LOG_MAX && raft_last(n->raft) + 600 < LOG_MAX;
    uint64_t wanted = draw(w, 5) == 0 ? draw(w, 4) : 0;
    for (uint32_t i = 0; room && raft_role(n->raft) == WIRE_ROLE_LEADER && i < wanted; i++) {
        body[i] = ++w->next_body;
        n->events[n->event_count++] =
            (struct raft_event){.type = RAFT_EVENT_PROPOSE, .propose = {&body[i], 8}};
    }
    if (draw(w, 4) == 0 && n->asked_last - n->asked_first < 1024) {
        n->events[n->event_count++] = (struct raft_event){.type = RAFT_EVENT_READ};
        n->asked[n->asked_last++ % 1024] = w->committed_last;
    }
    if (draw(w, 50) == 0 && n->applied > n->snapshot_index + 20 &&
        raft_durable(n->raft) >= n->applied) {
        n->snapshot_index = n->applied - 10;
        n->events[n->event_count++] =
            (struct raft_event){.type = RAFT_EVENT_COMPACT, .snapshot.index = n->snapshot_index};
    }
    raft_step(n->raft, w->now_ns, n->events, n->event_count, &effects);

    if (raft_role(n->raft) == WIRE_ROLE_LEADER) { // election safety
        uint64_t term = raft_term(n->raft);
        assert_true(term < LOG_MAX);
        assert_true(w->leader_of[term] == 0 || w->leader_of[term] == id);
        w->leader_of[term] = id;
        // Leader completeness: it has every committed entry.
        assert_true(raft_last(n->raft) >= w->committed_last);
    }
    for (uint32_t i = 0; i < effects.message_count; i++) put_on_wire(w, id, &effects.messages[i]);
    answer_reads(w, n, &effects);
    for (uint16_t p = 0; p < w->node_count; p++) { // a snapshot arrives at once, and durably
        if (!(effects.snapshot_peers & (1u << p)) || n->snapshot_index == 0) continue;
        struct node *o = &w->nodes[p + 1];
        if (!o->up || o->writing ||
            !raft_wants_snapshot(o->raft, id, raft_term(n->raft), n->snapshot_index))
            continue;
        const struct record *r = &w->committed[n->snapshot_index];
        struct raft_event installed = {.type = RAFT_EVENT_SNAPSHOT_INSTALLED,
                                       .snapshot = {0, n->snapshot_index, r->term, r->time_ns}};
        static struct raft_effects ignored;
        raft_step(o->raft, w->now_ns, &installed, 1, &ignored);
        if (raft_first(o->raft) != n->snapshot_index + 1) continue;
        o->snapshot_index = o->disk_last = o->applied = n->snapshot_index;
        struct raft_event sent = {.type = RAFT_EVENT_SNAPSHOT_SENT,
                                  .snapshot = {(uint16_t)(p + 1), n->snapshot_index, 0, 0}};
        raft_step(n->raft, w->now_ns, &sent, 1, &ignored);
    }
    apply(w, n);
    begin_writes(w, n, effects.hard_state_changed);
}

static void misfortune(struct world *w, bool heal) {
    for (uint16_t id = 1; id <= w->node_count; id++) {
        struct node *n = &w->nodes[id];
        if (n->up && !heal && draw(w, 100000) < w->crash) {
            n->up = false; // what was in flight to the disk is lost
            n->back_ns = w->now_ns + draw(w, 400 * MS);
            w->crashes++;
        }
        if (!n->up && (heal || w->now_ns >= n->back_ns)) boot(w, id);
    }
    if (!heal && draw(w, 2000) == 0) {
        w->cut = (uint16_t)(1 + draw(w, w->node_count));
        w->cut_until_ns = w->now_ns + draw(w, 500 * MS);
    }
}

static void live(uint64_t seed, struct world *w) {
    for (uint16_t id = 1; id <= NODES_MAX; id++) free(w->nodes[id].memory);
    memset(w, 0, sizeof *w);
    w->random = seed * 0x9e3779b97f4a7c15ull + 1;
    w->node_count = seed % 7 == 0 ? 5 : seed % 11 == 0 ? 1 : seed % 13 == 0 ? 2 : 3;
    w->loss = (uint32_t)draw(w, 4) * 70;
    w->twice = (uint32_t)draw(w, 3) * 100;
    w->crash = (uint32_t)draw(w, 4) * 100;
    w->now_ns = 1000 * MS;
    for (uint16_t id = 1; id <= w->node_count; id++) boot(w, id);
    uint64_t calm_ns = w->now_ns + 4000 * MS, healed_at = 0;
    while (w->now_ns < calm_ns + 3000 * MS) {
        bool heal = w->now_ns >= calm_ns;
        if (heal && healed_at == 0) {
            healed_at = w->committed_last + 1;
            w->loss = w->twice = 0;
            w->cut_until_ns = 0;
        }
        w->quiet = w->now_ns >= calm_ns + 2000 * MS;
        misfortune(w, heal);
        for (uint16_t id = 1; id <= w->node_count; id++)
            if (w->nodes[id].up) run_node(w, id);
        w->now_ns += 100000 + draw(w, 2 * MS);
    }
    // Liveness: after the faults end the cluster goes on, and all nodes come to the same point.
    if (getenv("RAFT_VERBOSE"))
        for (uint16_t id = 1; id <= w->node_count; id++) {
            struct raft *r = w->nodes[id].raft;
            fprintf(stderr, "  node %u role %d term %llu log %llu..%llu commit %llu durable %llu\n",
                    id, raft_role(r), (unsigned long long)raft_term(r),
                    (unsigned long long)raft_first(r), (unsigned long long)raft_last(r),
                    (unsigned long long)raft_commit(r), (unsigned long long)raft_durable(r));
        }
    bool more = w->committed_last >= healed_at || w->committed_last + 700 > LOG_MAX;
    assert_true(more);
    for (uint16_t id = 1; id <= w->node_count; id++)
        assert_true(w->nodes[id].applied == w->committed_last);
}

static void test_random_lives(void **state) {
    (void)state;
    const char *seeds = getenv("RAFT_SEEDS");
    uint64_t count = seeds ? strtoull(seeds, NULL, 10) : 60;
    const char *from = getenv("RAFT_SEED");
    uint64_t first = from ? strtoull(from, NULL, 10) : 1;
    struct world *w = calloc(1, sizeof *w);
    uint64_t commits = 0, reads = 0, crashes = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        if (getenv("RAFT_VERBOSE")) fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        live(seed, w);
        commits += w->commits;
        reads += w->reads;
        crashes += w->crashes;
    }
    for (uint16_t id = 1; id <= NODES_MAX; id++) free(w->nodes[id].memory);
    free(w);
    print_message("%llu lives: %llu commits, %llu reads, %llu crashes\n", (unsigned long long)count,
                  (unsigned long long)commits, (unsigned long long)reads,
                  (unsigned long long)crashes);
    assert_true(commits > count * 50 && crashes > 0 && reads > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_lives)};
    return cmocka_run_group_tests_name("raft_random", tests, NULL, NULL);
}
