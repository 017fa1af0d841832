// Scenarios of snapshots: small logs, so that a few dozen entries bring one about.
#include "scenarios.h"

static struct caller *three(struct scenario *s, uint16_t leader) {
    scenario_begin(s, 3, SMALL_LOGS);
    scenario_elect(s, leader);
    struct caller *c = caller_create(s);
    caller_open(c, 60000);
    scenario_run(s, 50);
    return c;
}

// Commits entries through this leader until it has compacted `index` away.
static void compact(struct scenario *s, struct caller *c, uint16_t leader, uint64_t index) {
    for (uint32_t i = 0; i < 50 && raft_first(scenario_raft(s, leader)) <= index; i++) {
        caller_fill(c, leader, 4);
        scenario_run(s, 5);
    }
    GIVEN(s, raft_first(scenario_raft(s, leader)) > index);
}

static void level(struct scenario *s, uint16_t id, uint16_t with) {
    AWAIT(s, 2000, scenario_applied(s, id) == raft_commit(scenario_raft(s, with)));
}

// Node 3 has led alone: its log holds entries nobody committed, up to and beyond the index of the
// snapshot it is sent.
void play_snapshot_conflict(struct scenario *s) {
    struct caller *c = three(s, 3);
    uint64_t base = raft_last(scenario_raft(s, 3));
    scenario_isolate(s, 3);
    caller_fill(c, 3, 40);
    AWAIT(s, 90, raft_durable(scenario_raft(s, 3)) == base + 40);
    scenario_elect(s, 1);
    compact(s, c, 1, base + 2);
    GIVEN(s, scenario_snapshot(s, 1) <= base + 40);
    scenario_heal(s);
    level(s, 3, 1);
    GIVEN(s, scenario_counter(s, 3, "snapshots_received") > 0);
    scenario_settle(s);
}

// Node 3 is sent a snapshot and installs it; a copy of all its chunks is kept.
static struct caller *with_kept_chunks(struct scenario *s) {
    struct caller *c = three(s, 1);
    uint64_t base = raft_last(scenario_raft(s, 1));
    scenario_isolate(s, 3);
    compact(s, c, 1, base + 2);
    scenario_rule(
        s, (struct scenario_rule){.from = 1, .to = 3, .type = WIRE_SNAPSHOT, .action = KEEP_COPY});
    scenario_heal(s);
    level(s, 3, 1);
    scenario_no_rules(s);
    GIVEN(s, scenario_counter(s, 3, "snapshots_received") == 1 && s->kept_count > 0);
    return c;
}

void play_older_snapshot(struct scenario *s) {
    struct caller *c = with_kept_chunks(s);
    uint64_t snapshot = scenario_snapshot(s, 3);
    for (uint32_t i = 0; i < 3; i++) caller_fill(c, 1, 1);
    scenario_run(s, 50);
    level(s, 3, 1);
    uint64_t acknowledged = raft_durable(scenario_raft(s, 3));
    GIVEN(s, scenario_snapshot(s, 3) == snapshot && acknowledged > snapshot);
    scenario_deliver_kept(s);
    scenario_run(s, 50);
    scenario_crash(s, 3, ALL_LANDS);
    scenario_restart(s, 3);
    MUST(s, raft_last(scenario_raft(s, 3)) >= acknowledged,
         "node 3 had acknowledged up to %lu and restarts with %lu", (unsigned long)acknowledged,
         (unsigned long)raft_last(scenario_raft(s, 3)));
    scenario_settle(s);
}

void play_snapshot_index_back(struct scenario *s) {
    struct caller *c = with_kept_chunks(s);
    uint64_t snapshot = scenario_snapshot(s, 3);
    for (uint32_t i = 0; i < 50 && scenario_snapshot(s, 3) == snapshot; i++) {
        caller_fill(c, 1, 4);
        scenario_run(s, 5);
    }
    snapshot = scenario_snapshot(s, 3);
    level(s, 3, 1);
    scenario_deliver_kept(s);
    scenario_run(s, 50);
    MUST(s, scenario_snapshot(s, 3) >= snapshot, "node 3 had a snapshot at %lu, now at %lu",
         (unsigned long)snapshot, (unsigned long)scenario_snapshot(s, 3));
    scenario_crash(s, 3, ALL_LANDS);
    scenario_restart(s, 3);
    uint64_t found = node_recovered(scenario_machine(s, 3)->node)->snapshot_index;
    MUST(s, found >= snapshot, "node 3 had a snapshot at %lu and finds one at %lu",
         (unsigned long)snapshot, (unsigned long)found);
    scenario_settle(s);
}

// Node 1 leads and its log's disk hangs with two writes on their way. When the first is done a
// snapshot is due, of a state that lies behind what the others have committed.
void play_applied_apart(struct scenario *s) {
    struct caller *c = three(s, 1);
    GIVEN(s, scenario_snapshot(s, 1) == 0);
    sim_disk_hold(scenario_machine(s, 1)->disk, "wal-");
    uint64_t base = raft_last(scenario_raft(s, 1));
    caller_fill(c, 1, 8);
    AWAIT(s, 50, scenario_applied(s, 1) == base + 8);
    caller_fill(c, 1, 4);
    AWAIT(s, 50, raft_commit(scenario_raft(s, 1)) == base + 12);
    sim_disk_let_go(scenario_machine(s, 1)->disk, 1);
    AWAIT(s, 200, scenario_snapshot(s, 1) != 0);
    GIVEN(s, raft_durable(scenario_raft(s, 1)) == base + 8);
    sim_disk_hold(scenario_machine(s, 1)->disk, NULL);
    AWAIT(s, 200, raft_durable(scenario_raft(s, 1)) == raft_last(scenario_raft(s, 1)));
    scenario_crash(s, 1, ALL_LANDS);
    scenario_restart(s, 1);
    scenario_settle(s);
}

void play_token_reuse_restore(struct scenario *s) {
    struct caller *c = three(s, 1);
    caller_fill(c, 1, 30);
    scenario_run(s, 100);
    uint64_t token = caller_acquire(c, "a");
    caller_call(c, &(struct ask){.op = WIRE_OP_LOCK_RELEASE, .name = "a", .token = token});
    compact(s, c, 1, token + 1);
    AWAIT(s, 500, scenario_snapshot(s, 2) > token && scenario_snapshot(s, 3) > token);
    for (uint16_t id = 1; id <= 3; id++) scenario_crash(s, id, ALL_LANDS);
    for (uint16_t id = 1; id <= 3; id++) scenario_restart(s, id);
    uint64_t next = caller_acquire(c, "a");
    MUST(s, next > token, "the lock was granted with token %lu, and after a restore with %lu",
         (unsigned long)token, (unsigned long)next);
    scenario_settle(s);
}
