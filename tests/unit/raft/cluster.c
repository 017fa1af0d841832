// Small clusters in lock-step rounds of one millisecond. See harness.h. Checked all along: one
// leader a term, and an index committed anywhere is the same everywhere and durable on a majority.
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static uint64_t node_now(const struct cluster *c, const struct member *n) {
    return c->now_ns + (uint64_t)n->clock_offset_ns;
}

struct cluster *cluster_open(uint32_t size) {
    struct cluster *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->size = size;
    c->now_ns = 1000 * MS;
    return c;
}

void cluster_close(struct cluster *c) {
    for (uint16_t id = 1; id <= CLUSTER_NODES; id++) free(c->nodes[id].memory);
    free(c);
}

void cluster_boot(struct cluster *c, uint16_t id) {
    struct member *n = &c->nodes[id];
    struct raft_options options = options_of(id, (uint16_t)c->size);
    options.log_entries = 1024;
    options.log_bytes = 65536;
    options.recovering = n->recovering;
    if (n->recovering) n->disk_last = n->snapshot_index = 0;
    if (n->memory == NULL) n->memory = aligned_alloc(64, (raft_bytes(&options) + 63) & ~63ull);
    n->raft = raft_create(n->memory, &options);
    assert_non_null(n->raft);
    raft_restore_hard_state(n->raft, n->disk_term, n->disk_vote);
    if (n->snapshot_index > 0) {
        const struct record *r = &c->committed[n->snapshot_index];
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
    raft_start(n->raft, node_now(c, n));
    n->up = true;
    n->writing = n->voting = false;
    n->vote = (struct raft_hard_state){0};
    n->applied = n->snapshot_index;
    n->inbox_count[0] = n->inbox_count[1] = 0;
}

void cluster_boot_all(struct cluster *c) {
    for (uint16_t id = 1; id <= c->size; id++) cluster_boot(c, id);
}

void cluster_crash(struct cluster *c, uint16_t id) {
    c->nodes[id].up = false; // what was in flight to its disk is lost
}

void cluster_cut(struct cluster *c, uint16_t from, uint16_t to) {
    c->cut[from][to] = true;
}

void cluster_cut_both(struct cluster *c, uint16_t one, uint16_t other) {
    cluster_cut(c, one, other);
    cluster_cut(c, other, one);
}

void cluster_heal(struct cluster *c) {
    memset(c->cut, 0, sizeof c->cut);
}

static void post(struct cluster *c, uint16_t from, const struct raft_message *m) {
    struct member *to = &c->nodes[m->peer];
    uint32_t next = c->turn ^ 1;
    if (!to->up || c->cut[from][m->peer] || to->inbox_count[next] == CLUSTER_MAIL_MAX) return;
    struct mail *mail = &to->inbox[next][to->inbox_count[next]++];
    mail->message = *m;
    mail->message.peer = from;
    if (m->type != WIRE_APPEND) return;
    assert_true(m->append.count <= 64);
    for (uint32_t i = 0; i < m->append.count; i++) {
        mail->entries[i] = raft_entry_at(c->nodes[from].raft, m->append.prev_index + 1 + i);
        memcpy(&mail->bodies[i], mail->entries[i].data, 8);
        mail->entries[i].data = &mail->bodies[i];
    }
    mail->message.append.entries = mail->entries;
}

static struct record record_at(const struct raft *raft, uint64_t index) {
    struct raft_entry entry = raft_entry_at(raft, index);
    struct record r;
    memset(&r, 0, sizeof r);
    r.term = entry.term;
    r.time_ns = entry.time_ns;
    r.type = entry.type;
    memcpy(&r.body, entry.data, 8);
    return r;
}

static void apply(struct cluster *c, struct member *n) {
    while (n->applied < raft_commit(n->raft)) {
        n->applied++;
        assert_true(n->applied >= raft_first(n->raft));
        struct record r = record_at(n->raft, n->applied);
        if (n->applied <= c->committed_last) {
            assert_memory_equal(&r, &c->committed[n->applied], sizeof r);
            continue;
        }
        assert_int_equal(n->applied, c->committed_last + 1);
        assert_true(r.time_ns >= c->committed[c->committed_last].time_ns);
        c->committed[++c->committed_last] = r;
        uint32_t durable = 0;
        for (uint16_t id = 1; id <= c->size; id++) {
            const struct member *o = &c->nodes[id];
            durable +=
                o->snapshot_index >= n->applied ||
                (o->disk_last >= n->applied && memcmp(&o->disk[n->applied], &r, sizeof r) == 0);
        }
        assert_true(durable >= c->size / 2 + 1);
    }
}

static void disk_begin(struct member *n) {
    struct raft_hard_state vote = raft_hard_state(n->raft);
    if (!n->voting && vote.sequence > n->vote.sequence) {
        n->voting = true;
        n->vote = vote;
    }
    uint64_t first, epoch;
    uint64_t count = raft_unpersisted(n->raft, &first, &epoch);
    if (n->writing || count == 0) return;
    n->writing = true;
    n->write_first = first;
    uint64_t last = first + count - 1;
    n->write = (struct ticket){last, raft_term_at(n->raft, last), epoch};
    for (uint64_t i = first; i <= last; i++) n->written[i] = record_at(n->raft, i);
    raft_persist_begun(n->raft, last);
}

static uint32_t disk_end(struct member *n, struct raft_event *events) {
    uint32_t count = 0;
    if (n->disk_stalled) return 0;
    if (n->voting) {
        n->voting = false;
        n->disk_term = n->vote.term;
        n->disk_vote = n->vote.vote;
        events[count++] = (struct raft_event){.type = RAFT_EVENT_HARD_STATE_DURABLE,
                                              .hard_state.sequence = n->vote.sequence};
    }
    if (n->writing) {
        n->writing = false;
        for (uint64_t i = n->write_first; i <= n->write.index; i++) n->disk[i] = n->written[i];
        n->disk_last = n->write.index;
        events[count++] = (struct raft_event){
            .type = RAFT_EVENT_DURABLE, .durable = {n->write.index, n->write.term, n->write.epoch}};
    }
    return count;
}

static void run_member(struct cluster *c, uint16_t id) {
    static struct raft_effects effects;
    static struct raft_event events[RAFT_EVENTS_MAX];
    static uint64_t bodies[RAFT_EVENTS_MAX];
    struct member *n = &c->nodes[id];
    uint32_t count = disk_end(n, events);
    for (uint32_t i = 0; i < n->inbox_count[c->turn] && count < 200; i++)
        events[count++] = (struct raft_event){.type = RAFT_EVENT_MESSAGE,
                                              .message = n->inbox[c->turn][i].message};
    n->inbox_count[c->turn] = 0;
    uint32_t offered = 0;
    for (; n->proposals > 0 && count < RAFT_EVENTS_MAX; n->proposals--, offered++) {
        bodies[count] = ++c->next_body;
        events[count] =
            (struct raft_event){.type = RAFT_EVENT_PROPOSE, .propose = {&bodies[count], 8}};
        count++;
    }
    raft_step(n->raft, node_now(c, n), events, count, &effects);
    n->proposed += effects.proposed;
    n->refused += offered - effects.proposed;
    if (raft_role(n->raft) == WIRE_ROLE_LEADER) {
        uint64_t term = raft_term(n->raft);
        assert_true(term < CLUSTER_LOG_MAX);
        assert_true(c->leader_of[term] == 0 || c->leader_of[term] == id);
        c->leader_of[term] = id;
    }
    for (uint32_t i = 0; i < effects.message_count; i++) post(c, id, &effects.messages[i]);
    apply(c, n);
    disk_begin(n);
}

void cluster_run(struct cluster *c, uint32_t ms) {
    for (; ms > 0; ms--) {
        c->now_ns += MS;
        for (uint16_t id = 1; id <= c->size; id++)
            if (c->nodes[id].up) run_member(c, id);
        c->turn ^= 1;
    }
}

uint16_t cluster_leader(const struct cluster *c) {
    uint16_t leader = 0;
    uint64_t term = 0;
    for (uint16_t id = 1; id <= c->size; id++) {
        const struct member *n = &c->nodes[id];
        if (!n->up || raft_role(n->raft) != WIRE_ROLE_LEADER || raft_term(n->raft) <= term)
            continue;
        leader = id;
        term = raft_term(n->raft);
    }
    return leader;
}

uint16_t cluster_await_leader(struct cluster *c, uint32_t ms) {
    for (; ms > 0; ms--) {
        uint16_t leader = cluster_leader(c);
        if (leader != 0 && raft_leader_ready(c->nodes[leader].raft)) return leader;
        cluster_run(c, 1);
    }
    fail_msg("no leader came to be");
    return 0;
}

void cluster_make_leader(struct cluster *c, uint16_t id) {
    cluster_boot_all(c);
    // A node that begins to campaign before `id` does is restarted: a pre-vote changes nothing.
    uint32_t ms = 0;
    while (raft_role(c->nodes[id].raft) != WIRE_ROLE_LEADER) {
        for (uint16_t to = 1; to <= c->size; to++)
            if (to != id && raft_role(c->nodes[to].raft) != WIRE_ROLE_FOLLOWER) cluster_boot(c, to);
        cluster_run(c, 1);
        assert_true(++ms < 2000);
    }
    assert_int_equal(cluster_await_leader(c, 200), id);
    cluster_run(c, 50);
}

bool cluster_commits(struct cluster *c, uint16_t leader, uint32_t ms) {
    uint64_t before = c->nodes[leader].proposed;
    c->nodes[leader].proposals = 1;
    cluster_run(c, 1);
    if (c->nodes[leader].proposed == before) return false;
    uint64_t index = raft_last(c->nodes[leader].raft);
    for (; ms > 0; ms--) {
        if (c->committed_last >= index) return true;
        cluster_run(c, 1);
    }
    return false;
}

uint64_t cluster_highest_term(const struct cluster *c) {
    uint64_t term = 0;
    for (uint16_t id = 1; id <= c->size; id++)
        if (c->nodes[id].up && raft_term(c->nodes[id].raft) > term)
            term = raft_term(c->nodes[id].raft);
    return term;
}
