// What must hold of the nodes at any time: equal states at equal indices, one leader in a term, no
// answer before its entry is committed; at the end of a calm phase: all nodes at the same index
// with the same content; and then the checkers over the life's history (check.h). Of the logs see
// sim_logs.c.
#include <stdlib.h>

#include "check.h"
#include "sim_internal.h"
#include "wire/wire.h"

// A sample of how much there is in the state, now and then, for the model to agree with.
static void sample(struct sim *sim, const struct machine *machine, uint64_t index) {
    if (index < sim->sampled + 512) return;
    struct machine_sizes sizes = machine_sizes(machine);
    struct history_state *state = history_add_state(sim->recorder.history);
    if (state == NULL) return;
    sim->sampled = index;
    *state = (struct history_state){index, sizes.sessions, sizes.leases, sizes.locks, sizes.claims};
}

void sim_check_hash(struct sim *sim, struct sim_machine *m) {
    const struct machine *machine = node_machine(m->node);
    uint64_t index = machine_applied(machine), hash = machine_hash(machine);
    if (index == m->checked || index == 0) return;
    m->checked = index;
    if (index > sim->stats.applied) sim->stats.applied = index;
    if (sim->hashes[index % SIM_HASHES].index == index) {
        if (sim->hashes[index % SIM_HASHES].hash != hash)
            sim_broken(sim, "state of node %u at index %lu differs from another's", m->id,
                       (unsigned long)index);
        return;
    }
    sim->hashes[index % SIM_HASHES].index = index;
    sim->hashes[index % SIM_HASHES].hash = hash;
    sample(sim, machine, index);
}

// Election safety (thesis 3.2).
void sim_check_terms(struct sim *sim, const struct sim_machine *machine) {
    const struct raft *raft = node_raft(machine->node);
    sim_logs_check(sim, machine);
    if (raft_role(raft) != WIRE_ROLE_LEADER || raft_term(raft) >= SIM_TERMS) return;
    uint16_t *leader = &sim->leaders[raft_term(raft)];
    if (*leader != 0 && *leader != machine->id)
        sim_broken(sim, "nodes %u and %u both lead term %lu", *leader, machine->id,
                   (unsigned long)raft_term(raft));
    *leader = machine->id;
}

static bool executed(const struct wire_reply *reply) {
    return wire_op_is_logged(reply->op) && reply->status != WIRE_NOT_LEADER &&
           reply->status != WIRE_BUSY && reply->status != WIRE_BAD_REQUEST &&
           reply->status != WIRE_TOO_LARGE;
}

static void check_promise(struct sim *sim, struct sim_machine *machine,
                          const struct wire_head *head) {
    switch (head->type) {
    case WIRE_VOTE_REPLY:
        if ((head->flags & WIRE_VOTE_GRANTED) && raft_recovering(node_raft(machine->node)))
            sim_broken(sim, "node %u votes, though its log is not whole", machine->id);
        if (head->flags == WIRE_VOTE_GRANTED && sim_strikes(sim, SIM_AMBUSH_VOTE))
            machine->ambushed = true;
        return;
    case WIRE_APPEND_REPLY:
        if (sim_strikes(sim, SIM_AMBUSH_ACK)) machine->ambushed = true;
        return;
    case WIRE_REPLY: {
        const struct wire_reply *reply = (const struct wire_reply *)head;
        if (!executed(reply)) return;
        uint64_t committed = raft_commit(node_raft(machine->node));
        if (reply->index == 0 || reply->index > committed)
            sim_broken(sim, "node %u answers for index %lu but has committed %lu", machine->id,
                       (unsigned long)reply->index, (unsigned long)committed);
        if (reply->index > sim->answered) sim->answered = reply->index;
        if (sim_strikes(sim, SIM_AMBUSH_ANSWER)) sim->faults.all_ambushed = true;
        return;
    }
    default:
        return;
    }
}

void sim_check_sent(struct sim *sim, uint64_t from, const void *bytes, uint32_t length) {
    const struct wire_head *head;
    uint32_t offset = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_machine *machine = &sim->machines[i];
        if (machine->endpoint != from || machine->node == NULL) continue;
        if (wire_check(bytes, length) != WIRE_VALID)
            sim_broken(sim, "node %u sends a malformed frame", machine->id);
        while ((head = wire_next(bytes, &offset)) != NULL) check_promise(sim, machine, head);
    }
}

void sim_check_final(struct sim *sim) {
    const struct sim_machine *leader = sim_leader(sim);
    if (leader == NULL) sim_broken(sim, "no leader at the end of the calm phase");
    uint64_t commit = raft_commit(node_raft(leader->node));
    uint32_t level = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_machine *m = &sim->machines[i];
        if (m->retired) continue;
        if (!sim_machine_whole(m))
            sim_broken(sim, "node %u is %s after healing", m->id,
                       m->node == NULL ? "down" : "not whole");
        uint64_t applied = machine_applied(node_machine(m->node));
        if (applied + 200 < commit)
            sim_broken(sim, "node %u stays behind: applied %lu of %lu", m->id,
                       (unsigned long)applied, (unsigned long)commit);
        for (uint32_t j = 0; j < i; j++) {
            if (sim->machines[j].node == NULL) continue;
            const struct machine *a = node_machine(m->node);
            const struct machine *b = node_machine(sim->machines[j].node);
            if (machine_applied(a) != machine_applied(b)) continue;
            level++;
            if (machine_digest(a) != machine_digest(b) || machine_hash(a) != machine_hash(b))
                sim_broken(sim, "nodes %u and %u have different contents at index %lu", m->id,
                           sim->machines[j].id, (unsigned long)applied);
        }
    }
    sim_trace(sim, "ends: applied %lu, %u pairs equal", (unsigned long)commit, level);
}

void sim_check_history(struct sim *sim) {
    struct history *history = sim->recorder.history;
    if (history->lost > 0) sim->stats.histories_cut++;
    for (uint32_t i = 0; i < CHECKERS; i++) {
        struct verdict verdict = {0};
        checkers[i].check(history, &verdict);
        if (checkers[i].check == check_witness) sim->stats.checked += verdict.checked;
        if (checkers[i].check == check_witness) sim->stats.unchecked += verdict.undecided;
        if (checkers[i].check == check_linear) sim->stats.searched += verdict.checked;
        if (checkers[i].check == check_linear) sim->stats.not_searched += verdict.undecided;
        if (verdict.broken) sim_broken(sim, "%s", verdict.text);
    }
}
