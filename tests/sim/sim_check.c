// What must hold of the nodes at any time: equal states at equal indices; and at the end of a calm
// phase: all nodes at the same index with the same content.
#include "sim_internal.h"

void sim_check_hashes(struct sim *sim) {
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_machine *m = &sim->machines[i];
        if (m->node == NULL) continue;
        const struct machine *machine = node_machine(m->node);
        uint64_t index = machine_applied(machine), hash = machine_hash(machine);
        if (index == 0) continue;
        if (index > sim->stats.applied) sim->stats.applied = index;
        if (sim->hashes[index % SIM_HASHES].index == index) {
            if (sim->hashes[index % SIM_HASHES].hash != hash)
                sim_broken(sim, "state of node %u at index %lu differs from another's", m->id,
                           (unsigned long)index);
            continue;
        }
        sim->hashes[index % SIM_HASHES].index = index;
        sim->hashes[index % SIM_HASHES].hash = hash;
    }
}

void sim_check_final(struct sim *sim) {
    const struct sim_machine *leader = sim_leader(sim);
    if (leader == NULL) sim_broken(sim, "no leader at the end of the calm phase");
    uint64_t commit = raft_commit(node_raft(leader->node));
    uint32_t level = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_machine *m = &sim->machines[i];
        if (m->node == NULL) sim_broken(sim, "node %u is down after healing", m->id);
        uint64_t applied = machine_applied(node_machine(m->node));
        if (applied + 200 < commit)
            sim_broken(sim, "node %u stays behind: applied %lu of %lu", m->id,
                       (unsigned long)applied, (unsigned long)commit);
        for (uint32_t j = 0; j < i; j++) {
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
