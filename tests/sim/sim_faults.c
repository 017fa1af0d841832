// What goes wrong: each life draws from its seed which faults it meets and how often, and then they
// strike: those of machines here, those of datagrams in sim_net.c, those of sectors in sim_disk.c.
#include <string.h>

#include "sim_internal.h"

const struct sim_fault_kind sim_fault_kinds[SIM_FAULTS] = {
    [SIM_LOSS] = {"loss", "datagrams"},
    [SIM_DUPLICATE] = {"duplicate", "datagrams"},
    [SIM_DELAY] = {"delay", "datagrams overtaken by others"},
    [SIM_FLIP] = {"flip", "datagrams with one bit turned"},
    [SIM_CUT] = {"cut", "datagrams on a link that is cut"},
    [SIM_CRASH] = {"crash", "machines, with whatever the disk had under way"},
    [SIM_POWER] = {"power", "power cuts of all machines"},
    [SIM_PAUSE] = {"pause", "machines that stand still"},
    [SIM_FULL] = {"full", "writes without room on the disk"},
    [SIM_DEATH] = {"death", "clients that die"},
    [SIM_AMBUSH_VOTE] = {"ambush-vote", "crashes right after a vote"},
    [SIM_AMBUSH_ACK] = {"ambush-ack", "crashes right after an acknowledgement"},
    [SIM_AMBUSH_ANSWER] = {"ambush-answer", "power cuts right after an answer to a client"},
    [SIM_SLOW] = {"slow", "disks that take up to 31 ms for a write"},
};

uint64_t sim_fault_bit(const char *name) {
    for (uint32_t i = 0; i < SIM_FAULTS; i++)
        if (strcmp(sim_fault_kinds[i].name, name) == 0) return 1ull << i;
    return 0;
}

bool sim_strikes(struct sim *sim, enum sim_fault fault) {
    if (!sim_chance(sim, sim->faults.rate[fault])) return false;
    sim->stats.faults[fault]++;
    return true;
}

void sim_faults_draw(struct sim *sim) {
    uint32_t *rate = sim->faults.rate;
    rate[SIM_LOSS] = (uint32_t)sim_draw(sim, 4) * 30000;
    rate[SIM_DUPLICATE] = (uint32_t)sim_draw(sim, 3) * 50000;
    rate[SIM_DELAY] = (uint32_t)sim_draw(sim, 3) * 30000;
    rate[SIM_FLIP] = (uint32_t)sim_draw(sim, 3) * 10000;
    sim->node_count = sim_draw(sim, 6) == 0 ? 5 : sim_draw(sim, 12) == 0 ? 1 : 3;
    sim->small_logs = sim_draw(sim, 3) == 0;
    rate[SIM_CRASH] = (uint32_t)sim_draw(sim, 4) * 8;
    rate[SIM_PAUSE] = (uint32_t)sim_draw(sim, 3) * 8;
    rate[SIM_CUT] = (uint32_t)sim_draw(sim, 3) * 60;
    rate[SIM_POWER] = (uint32_t)sim_draw(sim, 3) * 6;
    sim->busy = sim_draw(sim, 4) == 0;
    rate[SIM_FULL] = sim->busy ? (uint32_t)sim_draw(sim, 3) * 30 : 0;
    rate[SIM_AMBUSH_VOTE] = (uint32_t)sim_draw(sim, 2) * 300000;
    rate[SIM_AMBUSH_ACK] = (uint32_t)sim_draw(sim, 3) * 100;
    rate[SIM_AMBUSH_ANSWER] = (uint32_t)sim_draw(sim, 3) * 500;
    rate[SIM_SLOW] = 250000;
    sim->memory = sim->node_count > 1 && sim_draw(sim, 5) == 0;
    for (uint32_t i = 0; i < SIM_FAULTS; i++)
        if (sim->options.without >> i & 1u) rate[i] = 0;
}

// In memory, a majority must keep its log: what fewer hold is not promised to outlive anything.
static bool can_be_lost(const struct sim *sim, const struct sim_machine *machine) {
    uint32_t whole = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_machine *other = &sim->machines[i];
        if (other != machine && other->node != NULL)
            whole += !raft_recovering(node_raft(other->node));
    }
    return !sim->memory || whole > sim->node_count / 2;
}

void sim_crash(struct sim *sim, struct sim_machine *machine) {
    if (machine->node == NULL || !can_be_lost(sim, machine)) return;
    sim_trace(sim, "node %u crashes", machine->id);
    sim_disk_crash(machine->disk);
    node_close(machine->node);
    machine->node = NULL;
    sim_net_forget(sim->net, machine->endpoint);
    machine->back_ns = sim->now_ns + sim_draw(sim, (sim->small_logs ? 3000 : 500) * SIM_MS);
    machine->clock_base_ns += sim_draw(sim, 1000 * SIM_MS); // a new boot, a new monotonic clock
    sim->stats.faults[SIM_CRASH]++;
}

static void cut_something(struct sim *sim) {
    const struct sim_machine *victim = &sim->machines[sim_draw(sim, sim->node_count)];
    uint64_t kind = sim_draw(sim, 3); // both ways, only out, only in
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_machine *other = &sim->machines[i];
        if (other == victim || sim_draw(sim, 3) == 0) continue;
        if (kind != 2) sim_net_cut(sim->net, victim->endpoint, other->endpoint, true);
        if (kind != 1) sim_net_cut(sim->net, other->endpoint, victim->endpoint, true);
    }
    sim->faults.cut_until_ns = sim->now_ns + 50 * SIM_MS + sim_draw(sim, 800 * SIM_MS);
    sim_trace(sim, "links of node %u are cut (%s)", victim->id,
              kind == 0   ? "both ways"
              : kind == 1 ? "outward"
                          : "inward");
}

static void fill_disk(struct sim *sim, struct sim_machine *machine) {
    if (sim_chance(sim, sim->faults.rate[SIM_FULL])) {
        machine->full_ns = sim->now_ns + sim_draw(sim, 4000 * SIM_MS);
        sim_disk_set_full(machine->disk, true);
        sim_trace(sim, "the disk of node %u is full", machine->id);
    }
    if (machine->full_ns != 0 && sim->now_ns >= machine->full_ns) {
        machine->full_ns = 0;
        sim_disk_set_full(machine->disk, false);
        sim_trace(sim, "the disk of node %u has room again", machine->id);
    }
}

void sim_faults_step(struct sim *sim) {
    struct sim_faults *faults = &sim->faults;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_machine *machine = &sim->machines[i];
        if (sim_chance(sim, faults->rate[SIM_CRASH])) sim_crash(sim, machine);
        if (machine->node != NULL && sim_strikes(sim, SIM_PAUSE)) {
            machine->paused_ns = sim->now_ns + sim_draw(sim, 1500 * SIM_MS);
            sim_trace(sim, "node %u pauses", machine->id);
        }
        fill_disk(sim, machine);
    }
    if (!sim->memory && (faults->all_ambushed || sim_strikes(sim, SIM_POWER)))
        for (uint32_t i = 0; i < sim->node_count; i++) sim_crash(sim, &sim->machines[i]);
    faults->all_ambushed = false;
    if (faults->cut_until_ns == 0 && sim_chance(sim, faults->rate[SIM_CUT])) cut_something(sim);
    if (faults->cut_until_ns != 0 && sim->now_ns >= faults->cut_until_ns) {
        sim_net_heal(sim->net);
        faults->cut_until_ns = 0;
    }
}

void sim_faults_heal(struct sim *sim) {
    sim_trace(sim, "everything heals");
    memset(&sim->faults, 0, sizeof sim->faults);
    sim_net_heal(sim->net);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        sim->machines[i].paused_ns = 0;
        sim->machines[i].back_ns = sim->now_ns;
        sim_disk_set_slow(sim->machines[i].disk, 50000, 100000);
        sim_disk_set_full(sim->machines[i].disk, false);
        sim->machines[i].full_ns = 0;
    }
}
