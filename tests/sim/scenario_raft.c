// Scenarios of replication: what counts as committed, and what a late message may do.
#include "scenarios.h"

// Three nodes with `leader` leading, a client with a session and a lease, all level.
static struct caller *three(struct scenario *s, uint16_t leader) {
    scenario_begin(s, 3, LARGE_LOGS);
    scenario_elect(s, leader);
    struct caller *c = caller_create(s);
    caller_open(c, 60000);
    scenario_run(s, 50);
    return c;
}

static uint64_t last(struct scenario *s, uint16_t id) {
    return raft_last(scenario_raft(s, id));
}

static bool all_durable(struct scenario *s, uint16_t id, uint64_t index) {
    return last(s, id) == index && raft_durable(scenario_raft(s, id)) == index;
}

static struct ask acquire(const char *name) {
    return (struct ask){.op = WIRE_OP_LOCK_ACQUIRE, .name = name};
}

static uint64_t send(struct caller *c, uint16_t node, const char *name) {
    struct ask ask = acquire(name);
    return caller_send(c, node, &ask);
}

// Thesis figure 3.7. Node 1 has entries of term 1 that nobody else has, node 3 one of term 2 in
// their place. Node 1 leads again and copies its old entries to node 2, but not its new one: they
// are on a majority, and still node 3 can win and overwrite them.
void play_commit_older_term(struct scenario *s) {
    struct caller *c = three(s, 1);
    uint64_t base = last(s, 1);
    scenario_isolate(s, 1);
    caller_fill(c, 1, 5); // more than one frame
    AWAIT(s, 50, all_durable(s, 1, base + 5));
    scenario_crash(s, 1, ALL_LANDS);
    scenario_rule(s, (struct scenario_rule){
                         .from = 3, .type = WIRE_APPEND, .what = WITH_ENTRIES, .action = DROP});
    scenario_elect(s, 3);
    AWAIT(s, 50, all_durable(s, 3, base + 1));
    scenario_heal(s);
    scenario_isolate(s, 3);
    scenario_restart(s, 1);
    scenario_no_rules(s);
    // The probe that is refused, the four entries of the first frame, and nothing after them.
    scenario_rule(s, (struct scenario_rule){.from = 1,
                                            .to = 2,
                                            .type = WIRE_APPEND,
                                            .what = WITH_ENTRIES,
                                            .action = LET_PASS,
                                            .times = 2});
    scenario_rule(s, (struct scenario_rule){
                         .from = 1, .type = WIRE_APPEND, .what = WITH_ENTRIES, .action = DROP});
    scenario_elect(s, 1);
    AWAIT(s, 50, all_durable(s, 2, base + 4));
    scenario_run(s, 30);
    scenario_crash(s, 1, ALL_LANDS);
    scenario_no_rules(s);
    scenario_heal(s);
    scenario_elect(s, 3);
    GIVEN(s, raft_term_at(scenario_raft(s, 3), base + 1) == 2);
    scenario_settle(s);
}

// Node 2 votes for node 1 and loses power before its disk has the vote. Then it is asked by node 3
// for the same term.
void play_vote_before_durable(struct scenario *s) {
    (void)three(s, 3);
    uint64_t term = raft_term(scenario_raft(s, 3));
    scenario_crash(s, 3, ALL_LANDS);
    scenario_rule(s, (struct scenario_rule){.from = 1, .type = WIRE_APPEND, .action = DROP});
    sim_disk_hold(scenario_machine(s, 2)->disk, "hard-state");
    s->only_candidate = 1;
    AWAIT(s, 1000, raft_term(scenario_raft(s, 2)) > term);
    scenario_run(s, 5);
    GIVEN(s, raft_term(scenario_raft(s, 1)) == term + 1);
    s->paused[1] = true;
    scenario_isolate(s, 1);
    scenario_crash(s, 2, NOTHING_LANDS);
    scenario_restart(s, 2);
    scenario_restart(s, 3);
    scenario_elect(s, 3);
    GIVEN(s, raft_term(scenario_raft(s, 3)) == term + 1);
    scenario_settle(s);
}

// Node 3 is down, node 1 leads and its disk hangs. Node 2 alone has the entry on disk.
void play_leader_counts_itself(struct scenario *s) {
    struct caller *c = three(s, 1);
    uint64_t base = last(s, 1);
    scenario_crash(s, 3, ALL_LANDS);
    sim_disk_hold(scenario_machine(s, 1)->disk, "wal-");
    uint64_t asked = send(c, 1, "a");
    AWAIT(s, 50, all_durable(s, 2, base + 1));
    scenario_run(s, 60);
    bool answered = caller_answer(c, asked) != NULL;
    scenario_crash(s, 2, ALL_LANDS);
    scenario_crash(s, 1, NOTHING_LANDS);
    scenario_restart(s, 1);
    scenario_restart(s, 3);
    uint64_t held = caller_holder(c, "a");
    MUST(s, held != 0 || !answered,
         "a grant was acknowledged, and is gone with the leader's power");
    scenario_settle(s);
}

// Node 3 has entries of term 1 nobody else has. A later leader's append brings it up to where they
// begin, with a commit index that lies beyond.
void play_commit_beyond_append(struct scenario *s) {
    struct caller *c = three(s, 3);
    uint64_t base = last(s, 3);
    scenario_rule(s, (struct scenario_rule){.to = 3, .type = WIRE_APPEND_REPLY, .action = DROP});
    caller_fill(c, 3, 4);
    AWAIT(s, 50, last(s, 1) == base + 4 && last(s, 2) == base + 4);
    scenario_rule(s, (struct scenario_rule){
                         .from = 3, .type = WIRE_APPEND, .what = WITH_ENTRIES, .action = DROP});
    caller_fill(c, 3, 4);
    AWAIT(s, 50, all_durable(s, 3, base + 8));
    scenario_isolate(s, 3);
    scenario_no_rules(s);
    scenario_elect(s, 1);
    AWAIT(s, 50, scenario_leader(s) == 1);
    caller_fill(c, 1, 3);
    AWAIT(s, 200, raft_commit(scenario_raft(s, 2)) == base + 8);
    scenario_crash(s, 1, ALL_LANDS);
    scenario_restart(s, 1);
    scenario_elect(s, 2);
    AWAIT(s, 200, raft_commit(scenario_raft(s, 2)) == base + 9);
    GIVEN(s, raft_commit(scenario_raft(s, 3)) == base && last(s, 3) == base + 8);
    // The probe that is refused, the first frame of what is missing, and no more for a while.
    scenario_rule(s, (struct scenario_rule){.from = 2,
                                            .to = 3,
                                            .type = WIRE_APPEND,
                                            .what = WITH_ENTRIES,
                                            .action = LET_PASS,
                                            .times = 2});
    scenario_rule(s,
                  (struct scenario_rule){.from = 2, .to = 3, .type = WIRE_APPEND, .action = DROP});
    scenario_heal(s);
    AWAIT(s, 50, scenario_applied(s, 3) > base);
    MUST(s, scenario_applied(s, 3) == base + 4,
         "node 3 has applied up to %lu of what it was told up to %lu",
         (unsigned long)scenario_applied(s, 3), (unsigned long)base + 4);
    scenario_no_rules(s);
    AWAIT(s, 500, scenario_applied(s, 3) == base + 9);
    scenario_settle(s);
}

// Node 2 has three entries, has acknowledged them, and hears the first append once more before it
// hears that they are committed. Then the leader is gone.
void play_stale_append_truncates(struct scenario *s) {
    struct caller *c = three(s, 1);
    uint64_t base = last(s, 1);
    scenario_crash(s, 3, ALL_LANDS);
    scenario_rule(s, (struct scenario_rule){.from = 2, .type = WIRE_APPEND_REPLY, .action = KEEP});
    scenario_rule(s, (struct scenario_rule){.from = 1,
                                            .to = 2,
                                            .type = WIRE_APPEND,
                                            .what = WITH_ENTRIES,
                                            .action = KEEP_COPY,
                                            .times = 1});
    uint64_t asked[3];
    static const char *const names[] = {"a", "b", "c"};
    for (uint32_t i = 0; i < 3; i++) {
        asked[i] = send(c, 1, names[i]);
        AWAIT(s, 50, all_durable(s, 2, base + 1 + i));
        scenario_step(s);
    }
    GIVEN(s, raft_commit(scenario_raft(s, 2)) == base);
    scenario_cut(s, 1, 2);
    scenario_deliver_kept(s);
    AWAIT(s, 50, caller_answer(c, asked[2]) != NULL);
    uint64_t token = caller_answer(c, asked[2])->token;
    scenario_crash(s, 1, ALL_LANDS);
    scenario_no_rules(s);
    scenario_heal(s);
    scenario_restart(s, 3);
    scenario_elect(s, 2);
    MUST(s, caller_holder(c, "c") == token, "an acknowledged grant was truncated away");
    scenario_settle(s);
}

// An old acknowledgement overtakes nothing but comes after a newer one, while the leader's own disk
// is slow. Links are cut then, so what the leader knows must do.
void play_match_goes_back(struct scenario *s) {
    struct caller *c = three(s, 1);
    uint64_t base = last(s, 1);
    scenario_crash(s, 3, ALL_LANDS);
    scenario_rule(s, (struct scenario_rule){
                         .from = 2, .type = WIRE_APPEND_REPLY, .action = KEEP, .times = 1});
    AWAIT(s, 50, s->kept_count == 1);
    sim_disk_hold(scenario_machine(s, 1)->disk, "wal-");
    uint64_t asked = send(c, 1, "a");
    AWAIT(s, 50, all_durable(s, 2, base + 1));
    for (uint32_t i = 0; i < 5; i++) scenario_step(s); // its acknowledgement arrives
    scenario_isolate(s, 1);
    scenario_deliver_kept(s);
    sim_disk_hold(scenario_machine(s, 1)->disk, NULL);
    scenario_run(s, 5);
    MUST(s, caller_answer(c, asked) != NULL,
         "what is on two disks of three is not committed, since an old answer came late");
    scenario_settle(s);
}

// Node 2's disk hangs with an entry on its way. That entry is truncated by another leader, and
// comes again with the first one. The first write completing says nothing of the second.
void play_append_aba(struct scenario *s) {
    scenario_begin(s, 5, LARGE_LOGS);
    scenario_elect(s, 1);
    struct caller *c = caller_create(s);
    caller_open(c, 60000);
    scenario_run(s, 50);
    uint64_t base = last(s, 1);
    sim_disk_hold(scenario_machine(s, 2)->disk, "wal-");
    send(c, 1, "everywhere"); // the first of the two writes that may be on their way
    AWAIT(s, 50, raft_commit(scenario_raft(s, 3)) == base + 1 && last(s, 2) == base + 1);
    for (uint16_t other = 3; other <= 5; other++)
        scenario_rule(
            s,
            (struct scenario_rule){
                .from = 1, .to = other, .type = WIRE_APPEND, .what = WITH_ENTRIES, .action = DROP});
    send(c, 1, "a");
    AWAIT(s, 50, last(s, 2) == base + 2);
    scenario_no_rules(s);
    scenario_isolate(s, 1);
    for (uint16_t other = 4; other <= 5; other++)
        scenario_rule(
            s,
            (struct scenario_rule){
                .from = 3, .to = other, .type = WIRE_APPEND, .what = WITH_ENTRIES, .action = DROP});
    scenario_elect(s, 3);
    AWAIT(s, 100, raft_term_at(scenario_raft(s, 2), base + 2) == 2);
    scenario_no_rules(s);
    scenario_heal(s);
    scenario_isolate(s, 3);
    scenario_elect(s, 1);
    AWAIT(s, 100, raft_term_at(scenario_raft(s, 2), base + 2) == 1 && last(s, 2) == base + 3);
    uint64_t writes = s->sim->stats.writes;
    sim_disk_let_go(scenario_machine(s, 2)->disk, 1);
    AWAIT(s, 100, s->sim->stats.writes > writes);
    scenario_run(s, 2); // all is being written anew
    sim_disk_let_go(scenario_machine(s, 2)->disk, 1);
    scenario_run(s, 2);
    MUST(s, raft_durable(scenario_raft(s, 2)) == base,
         "index %lu is called durable by a write that began before it was truncated",
         (unsigned long)raft_durable(scenario_raft(s, 2)));
    scenario_settle(s);
}
