// What must go on. At any time: where a majority of machines has been well, and linked to each
// other, for LIVE_ELECTIONS election time-outs, entries are committed, whatever the others do to
// it. After healing: every client gets through within CALM_ELECTIONS, and all nodes end level and
// whole.
#include "sim_internal.h"

// Restarts, a term that somebody else raised meanwhile, candidates that split votes under loss, and
// disks that need 30 ms a write: an election takes several rounds of up to two time-outs then.
#define LIVE_ELECTIONS 20u
// An election, and then what clients wait for: leases of up to 2.2 s of clients that died with the
// lock, and waits of others before them in the queue.
#define CALM_ELECTIONS 60u

bool sim_machine_runs(const struct sim *sim, const struct sim_machine *machine) {
    const uint64_t *stage_ns = machine->stage_paused_ns;
    return machine->node != NULL && sim->now_ns >= machine->paused_ns &&
           sim->now_ns >= stage_ns[0] && sim->now_ns >= stage_ns[1] && sim->now_ns >= stage_ns[2];
}

bool sim_machine_whole(const struct sim_machine *machine) {
    return machine->node != NULL && !raft_recovering(node_raft(machine->node));
}

static bool well(const struct sim *sim, const struct sim_machine *machine) {
    return sim_machine_runs(sim, machine) && sim_machine_whole(machine) &&
           sim_disk_well(machine->disk);
}

// When these machines were all well, and all linked, for the last time not so.
static uint64_t well_since(const struct sim *sim, uint32_t set) {
    uint64_t since_ns = 0;
    for (uint32_t a = 0; a < sim->node_count; a++) {
        if (!(set >> a & 1u)) continue;
        if (sim->machines[a].unwell_ns > since_ns) since_ns = sim->machines[a].unwell_ns;
        for (uint32_t b = 0; b < a; b++)
            if ((set >> b & 1u) && sim->liveness.cut_ns[a][b] > since_ns)
                since_ns = sim->liveness.cut_ns[a][b];
    }
    return since_ns;
}

// Something has been committed since, or there was nothing to commit.
static bool works(struct sim *sim) {
    uint64_t commit = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (sim->machines[i].node == NULL) continue;
        uint64_t one = raft_commit(node_raft(sim->machines[i].node));
        if (one > commit) commit = one;
    }
    bool rose = commit > sim->liveness.commit;
    if (rose) sim->liveness.commit = commit;
    const struct sim_machine *leader = sim_leader(sim);
    return rose || (leader != NULL &&
                    raft_commit(node_raft(leader->node)) == raft_last(node_raft(leader->node)));
}

void sim_liveness_step(struct sim *sim) {
    struct sim_liveness *liveness = &sim->liveness;
    if (sim->now_ns < liveness->next_ns) return;
    liveness->next_ns = sim->now_ns + SIM_MS;
    for (uint32_t i = 0; i < sim->node_count; i++)
        if (!well(sim, &sim->machines[i])) sim->machines[i].unwell_ns = sim->now_ns;
    if (works(sim)) liveness->worked_ns = sim->now_ns;
    if (liveness->healed_ns != 0 && liveness->progressed_ns == 0 &&
        sim_workload_progressed(sim->workload, liveness->healed_ns))
        liveness->progressed_ns = sim->now_ns;
    uint64_t bound_ns = LIVE_ELECTIONS * SIM_ELECTION_NS;
    if (sim->now_ns < liveness->worked_ns + bound_ns) return;
    for (uint32_t set = 1; set < 1u << sim->node_count; set++) {
        if ((uint32_t)__builtin_popcount(set) != sim->node_count / 2 + 1) continue;
        if (sim->now_ns < well_since(sim, set) + bound_ns) continue;
        sim_broken(sim,
                   "nothing is committed for %u election time-outs, though a majority (%#x) "
                   "is well and linked",
                   LIVE_ELECTIONS, set);
    }
}

void sim_liveness_final(struct sim *sim) {
    struct sim_liveness *liveness = &sim->liveness;
    uint32_t whole = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) whole += sim_machine_whole(&sim->machines[i]);
    bool halted = sim_leader(sim) == NULL && whole <= sim->node_count / 2;
    if (halted && sim->faults.beyond) {
        sim->stats.halted++;
        sim_trace(sim, "halted: %u of %u nodes are whole", whole, sim->node_count);
        return;
    }
    if (liveness->progressed_ns == 0 ||
        liveness->progressed_ns > liveness->healed_ns + CALM_ELECTIONS * SIM_ELECTION_NS)
        sim_broken(sim, "a client has not got through %u election time-outs after healing",
                   CALM_ELECTIONS);
    uint64_t took_ms = (liveness->progressed_ns - liveness->healed_ns) / SIM_MS;
    if (took_ms > sim->stats.slowest_ms) sim->stats.slowest_ms = took_ms;
    sim_workload_final_check(sim->workload);
    sim_check_final(sim);
}
