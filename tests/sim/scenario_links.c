// Scenarios of links that are cut in part, and of reads.
#include "scenarios.h"

static struct caller *three(struct scenario *s, uint16_t leader, uint64_t ttl_ms) {
    scenario_begin(s, 3, LARGE_LOGS);
    scenario_elect(s, leader);
    struct caller *c = caller_create(s);
    caller_open(c, ttl_ms);
    scenario_run(s, 50);
    return c;
}

// Node 3 has asked for votes twice and not been heard, and then missed entries: its term is higher
// than the leader's, and nobody will elect it.
void play_prevote_checkquorum_deadlock(struct scenario *s) {
    struct caller *c = three(s, 1, 60000);
    s->paused[1] = true;
    s->only_candidate = 3;
    scenario_rule(
        s, (struct scenario_rule){.from = 3, .type = WIRE_VOTE, .what = REAL_VOTE, .action = DROP});
    AWAIT(s, 2000, raft_term(scenario_raft(s, 3)) >= 3);
    scenario_isolate(s, 3);
    scenario_no_rules(s);
    s->paused[1] = false;
    s->only_candidate = 1;
    AWAIT(s, 2000, scenario_leads(s, 1) && raft_term(scenario_raft(s, 1)) > 1);
    s->only_candidate = 0;
    caller_acquire(c, "a");
    GIVEN(s, raft_term(scenario_raft(s, 1)) < raft_term(scenario_raft(s, 3)));
    scenario_heal(s);
    scenario_run(s, 1500);
    MUST(s, scenario_applied(s, 3) >= scenario_applied(s, 1) && scenario_leader(s) != 0,
         "node 3 does not get back into the cluster");
    scenario_settle(s);
}

void play_partial_partition(struct scenario *s) {
    (void)three(s, 1, 0);
    uint64_t term = raft_term(scenario_raft(s, 1));
    scenario_cut(s, 1, 3);
    scenario_cut(s, 3, 1);
    scenario_run(s, 2000);
    MUST(s, scenario_leads(s, 1) && raft_term(scenario_raft(s, 1)) == term,
         "a leader with a majority was deposed by a node that does not hear it");
    scenario_settle(s);
}

void play_one_way_link(struct scenario *s) {
    (void)three(s, 1, 0);
    uint64_t term = raft_term(scenario_raft(s, 1));
    scenario_cut(s, 1, 3);
    scenario_run(s, 2000);
    for (uint16_t id = 1; id <= 3; id++)
        MUST(s, raft_term(scenario_raft(s, id)) == term,
             "node %u is in term %lu, though the leader of term %lu is heard by a majority", id,
             (unsigned long)raft_term(scenario_raft(s, id)), (unsigned long)term);
    scenario_settle(s);
}

void play_quorumless_leader(struct scenario *s) {
    struct caller *c = three(s, 1, 60000);
    scenario_cut(s, 2, 1);
    scenario_cut(s, 3, 1);
    scenario_run(s, 1000);
    MUST(s, scenario_leader(s) > 1, "a leader that hears nobody keeps the others from electing");
    caller_acquire(c, "a");
    scenario_settle(s);
}

// Node 1 has committed and answered, node 2 has the entry and does not know. It is elected, and the
// disk of node 3 hangs: it hears, but nothing of node 2's term is committed.
void play_read_before_own_commit(struct scenario *s) {
    struct caller *c = three(s, 1, 60000);
    uint64_t base = raft_last(scenario_raft(s, 1));
    scenario_rule(s, (struct scenario_rule){.from = 2, .type = WIRE_APPEND_REPLY, .action = KEEP});
    scenario_rule(
        s, (struct scenario_rule){
               .from = 1, .to = 3, .type = WIRE_APPEND, .what = WITH_ENTRIES, .action = DROP});
    struct ask ask = {.op = WIRE_OP_LOCK_ACQUIRE, .name = "a"};
    uint64_t asked = caller_send(c, 1, &ask);
    AWAIT(s, 50, raft_durable(scenario_raft(s, 2)) == base + 1);
    scenario_step(s);
    scenario_cut(s, 1, 2);
    scenario_cut(s, 1, 3);
    scenario_deliver_kept(s);
    AWAIT(s, 50, caller_answer(c, asked) != NULL);
    scenario_crash(s, 1, ALL_LANDS);
    scenario_no_rules(s);
    sim_disk_hold(scenario_machine(s, 3)->disk, "wal-");
    scenario_elect(s, 2);
    GIVEN(s, raft_commit(scenario_raft(s, 2)) == base);
    struct ask read = {.op = WIRE_OP_LOCK_HOLDERS, .name = "a"};
    uint64_t reading = caller_send(c, 2, &read);
    scenario_run(s, 60);
    sim_disk_hold(scenario_machine(s, 3)->disk, NULL);
    AWAIT(s, 200, caller_answer(c, reading) != NULL);
    MUST(s, caller_answer(c, reading)->claims == 1,
         "a read does not see a grant that had been answered before it was asked");
    scenario_settle(s);
}

// Node 1 leads and is paused, with answers to its newest heartbeat on their way to it. Meanwhile
// node 2 leads and grants. Node 1 goes on with those answers and a read in its hands.
void play_read_context_reused(struct scenario *s) {
    struct caller *c = three(s, 1, 60000);
    scenario_rule(s, (struct scenario_rule){.to = 1, .type = WIRE_APPEND_REPLY, .action = KEEP});
    AWAIT(s, 50, s->kept_count == 2);
    s->paused[1] = true;
    scenario_no_rules(s);
    scenario_isolate(s, 1);
    scenario_elect(s, 2);
    caller_acquire(c, "a");
    scenario_deliver_kept(s);
    struct ask read = {.op = WIRE_OP_LOCK_HOLDERS, .name = "a"};
    uint64_t reading = caller_send(c, 1, &read);
    scenario_step(s); // it lies at node 1's door
    s->paused[1] = false;
    scenario_run(s, 300);
    const struct answer *answer = caller_answer(c, reading);
    GIVEN(s, answer != NULL);
    MUST(s, answer->status == WIRE_NOT_LEADER || answer->claims == 1,
         "a deposed leader answers a read as if nothing had been granted since");
    scenario_settle(s);
}
