// What goes wrong: each life draws from its seed which faults it meets and how often, and then they
// strike: those of machines here, those of datagrams in sim_net.c, those of sectors in sim_disk.c.
//
// The atlas. What may be demanded of a cluster depends on what was done to its disks, so each life
// is one of two kinds:
//
//   recoverable     Damage (rot, unreadable sectors, misdirected writes) strikes only disks of a
//                   minority, the unlucky. So of every log record, hard state and snapshot a
//                   majority keeps what it wrote, and everything is demanded: no wrong answer, and
//                   after healing every client's progress, and all nodes level (sim_liveness.c).
//   beyond budget   Damage strikes anywhere. No wrong answer is demanded all the same, and
//                   progress only as long as a majority of the nodes is whole. Else the cluster may
//                   halt: nodes that refuse to start or to vote, and say why.
//
// Crashes, power cuts, torn and failed writes, full, slow and stalled disks, networks, pauses and
// clocks strike anybody in both: none of them takes away what was acknowledged.
//
// Excluded in both kinds, each for its reason:
//   - A machine does not stop while its disk is blind: damage to the newest acknowledged batch or
//     to both copies of the newest vote, with nothing on the disk that tells it from a write that
//     power cut short (sim_ledger.c). A crash in that moment is spared. A node that stops by itself
//     in that moment stays down: its disk is one to be replaced.
//   - A node that refuses to start is not given an empty disk. An empty node votes at once, though
//     it has forgotten votes and entries it had acknowledged: that is safe only as a new member,
//     which membership changes will bring. So lost disks and membership churn wait for those.
//   - With durability in memory a majority keeps running with its log (docs/semantics.md).
//   - A cluster of one has no other copy: no damage in recoverable lives.
#include <string.h>

#include "sim_internal.h"

const struct sim_fault_kind sim_fault_kinds[SIM_FAULTS] = {
    [SIM_LOSS] = {"loss", "datagrams lost", SIM_PER_DATAGRAM, 60, 90000},
    [SIM_DUPLICATE] = {"duplicate", "datagrams doubled", SIM_PER_DATAGRAM, 50, 100000},
    [SIM_DELAY] = {"delay", "datagrams overtaken by others", SIM_PER_DATAGRAM, 50, 60000},
    [SIM_FLIP] = {"flip", "datagrams with a bit turned", SIM_PER_DATAGRAM, 50, 20000},
    [SIM_REPLAY] = {"replay", "datagrams of long ago", SIM_PER_DATAGRAM, 40, 20000},
    [SIM_CUT_FULL] = {"cut-full", "partitions into two sides", SIM_PER_TIME, 35, 800},
    [SIM_CUT_PARTIAL] = {"cut-partial", "partitions of some pairs", SIM_PER_TIME, 35, 800},
    [SIM_CUT_ONE_WAY] = {"cut-one-way", "partitions in one direction", SIM_PER_TIME, 35, 800},
    [SIM_CUT_CLIENTS] = {"cut-clients", "clients cut off from nodes", SIM_PER_TIME, 30, 800},
    [SIM_CRASH] = {"crash", "crashes of one machine", SIM_PER_TIME, 65, 2000},
    [SIM_POWER] = {"power", "power cuts of all machines", SIM_PER_TIME, 30, 300},
    [SIM_AMBUSH_VOTE] = {"ambush-vote", "crashes after a vote", SIM_PER_PROMISE, 50, 300000},
    [SIM_AMBUSH_ACK] = {"ambush-ack", "crashes after an ack", SIM_PER_PROMISE, 60, 200},
    [SIM_AMBUSH_ANSWER] = {"ambush-answer", "power cuts after an answer", SIM_PER_PROMISE, 60,
                           1000},
    [SIM_PAUSE] = {"pause", "nodes that stand still", SIM_PER_TIME, 40, 800},
    [SIM_PAUSE_STAGE] = {"pause-stage", "stages that stand still", SIM_PER_TIME, 40, 2000},
    [SIM_FLOOD] = {"flood", "floods of requests", SIM_PER_TIME, 25, 500},
    [SIM_DRIFT] = {"drift", "clocks that drift", SIM_PER_MACHINE, 80, 1000000},
    [SIM_JUMP] = {"jump", "nodes' clocks that jump", SIM_PER_TIME, 20, 300},
    [SIM_FULL] = {"full", "disks without room", SIM_PER_TIME, 30, 800},
    [SIM_SLOW] = {"slow", "slow disks", SIM_PER_MACHINE, 60, 500000},
    [SIM_STALL] = {"stall", "disks that stand still", SIM_PER_TIME, 30, 500},
    [SIM_EIO_WRITE] = {"eio-write", "writes that fail", SIM_PER_IO, 35, 600},
    [SIM_EIO_READ] = {"eio-read", "sectors gone unreadable", SIM_PER_TIME, 35, 3000},
    [SIM_ROT] = {"rot", "sectors gone rotten", SIM_PER_TIME, 45, 6000},
    [SIM_MISDIRECT] = {"misdirect", "writes gone elsewhere", SIM_PER_IO, 40, 3000},
    [SIM_DEATH] = {"death", "clients that die", SIM_PER_TIME, 50, 1500},
    [SIM_SUSPEND] = {"suspend", "clients that stand still", SIM_PER_TIME, 30, 800},
    [SIM_SUSPEND_CLOCK] = {"suspend-clock", "and their clocks", SIM_PER_TIME, 20, 300},
    [SIM_MISCHIEF] = {"mischief", "releases doubled, stale ...", SIM_PER_REQUEST, 65, 200000},
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

void sim_damage_done(struct sim *sim, struct sim_machine *machine) {
    if (sim->faults.rate[SIM_CRASH] > 0 && machine->crash_ns == 0 && sim_draw(sim, 2) == 0)
        machine->crash_ns = sim->now_ns + sim_draw(sim, 2) * sim_draw(sim, 300 * SIM_MS);
}

static bool is_unlucky(const struct sim *sim, const struct sim_machine *machine) {
    return (sim->faults.unlucky >> (machine->id - 1)) & 1u;
}

bool sim_damages(struct sim *sim, const struct sim_machine *machine, enum sim_fault fault) {
    return is_unlucky(sim, machine) && sim_strikes(sim, fault);
}

void sim_faults_draw_atlas(struct sim *sim) {
    struct sim_faults *faults = &sim->faults;
    faults->beyond = sim_draw(sim, 4) == 0;
    if (faults->beyond) {
        faults->unlucky = (1u << sim->node_count) - 1;
        sim->stats.beyond++;
        return;
    }
    uint32_t minority = (sim->node_count - 1) / 2;
    while ((uint32_t)__builtin_popcount(faults->unlucky) < minority)
        faults->unlucky |= 1u << sim_draw(sim, sim->node_count);
}

void sim_faults_draw(struct sim *sim) {
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        const struct sim_fault_kind *kind = &sim_fault_kinds[i];
        bool on = sim_draw(sim, 100) < kind->on_percent;
        uint32_t rate = 1 + (uint32_t)sim_draw(sim, kind->rate_max);
        bool without = sim->options.without >> i & 1u;
        sim->faults.rate[i] = on && !without ? rate : 0;
    }
    sim->node_count = sim_draw(sim, 6) == 0 ? 5 : sim_draw(sim, 12) == 0 ? 1 : 3;
    sim->small_logs = sim_draw(sim, 3) == 0;
    sim->busy = sim_draw(sim, 4) == 0;
    sim->memory = sim->node_count > 1 && sim_draw(sim, 5) == 0;
}

// ---------------------------------------------------------------- machines that stop

bool sim_can_be_lost(const struct sim *sim, const struct sim_machine *machine) {
    uint32_t whole = 0;
    if (!sim->memory) return true;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_machine *other = &sim->machines[i];
        if (other != machine && other->node != NULL && !sim_disk_doomed(other->disk))
            whole += !raft_recovering(node_raft(other->node));
    }
    return whole > sim->node_count / 2;
}

static void power_off(struct sim *sim, struct sim_machine *machine) {
    sim_disk_crash(machine->disk);
    if (machine->node != NULL) node_close(machine->node);
    machine->node = NULL;
    machine->ambushed = false;
    machine->doomed_ns = 0;
    machine->unwell_ns = sim->now_ns;
    sim_net_forget(sim->net, machine->endpoint);
    machine->back_ns = sim->now_ns + sim_draw(sim, (sim->small_logs ? 3000 : 500) * SIM_MS);
    machine->clock_base_ns += sim_draw(sim, 1000 * SIM_MS); // a new boot, a new monotonic clock
}

bool sim_crash(struct sim *sim, struct sim_machine *machine) {
    if (machine->node == NULL || !sim_can_be_lost(sim, machine)) return false;
    if (sim_disk_blind(machine->disk)) {
        sim->stats.spared++;
        return false;
    }
    sim_trace(sim, "node %u crashes", machine->id);
    power_off(sim, machine);
    sim->stats.faults[SIM_CRASH]++;
    return true;
}

void sim_stopped(struct sim *sim, struct sim_machine *machine, const char *reason) {
    bool starting = machine->node == NULL;
    const char *what = starting ? "does not start" : "stops";
    if (!sim_disk_faulty(machine->disk))
        sim_broken(sim, "node %u %s: %s", machine->id, what, reason);
    sim_trace(sim, "node %u %s: %s", machine->id, what, reason);
    if (starting)
        sim->stats.refused_starts++;
    else
        sim->stats.stops++;
    machine->retired = starting || sim_disk_blind(machine->disk);
    power_off(sim, machine);
}

// ---------------------------------------------------------------- partitions

static void cut(struct sim *sim, uint32_t a, uint32_t b, bool one_way) {
    sim_net_cut(sim->net, sim->machines[a].endpoint, sim->machines[b].endpoint, true);
    if (!one_way) sim_net_cut(sim->net, sim->machines[b].endpoint, sim->machines[a].endpoint, true);
    uint64_t until_ns = sim->faults.cut_until_ns;
    sim->liveness.cut_ns[a][b] = sim->liveness.cut_ns[b][a] = until_ns;
}

static void cut_clients(struct sim *sim) {
    uint64_t endpoint;
    for (uint32_t c = 0; (endpoint = sim_workload_endpoint(sim->workload, c)) != 0; c++)
        for (uint32_t i = 0; i < sim->node_count; i++) {
            uint64_t way = sim_draw(sim, 4); // both, out, in, none
            if (way <= 1) sim_net_cut(sim->net, endpoint, sim->machines[i].endpoint, true);
            if (way % 2 == 0) sim_net_cut(sim->net, sim->machines[i].endpoint, endpoint, true);
        }
}

static void cut_something(struct sim *sim, enum sim_fault how) {
    uint64_t side = sim_draw(sim, 1u << sim->node_count); // bit i: the side of machine i
    sim->faults.cut_until_ns = sim->now_ns + 50 * SIM_MS + sim_draw(sim, 2500 * SIM_MS);
    sim_trace(sim, "links are cut: %s", sim_fault_kinds[how].what);
    if (how == SIM_CUT_CLIENTS) {
        cut_clients(sim);
        return;
    }
    for (uint32_t a = 0; a < sim->node_count; a++)
        for (uint32_t b = 0; b < sim->node_count; b++) {
            bool across = (side >> a & 1) > (side >> b & 1);
            if (how == SIM_CUT_FULL && across) cut(sim, a, b, false);
            if (how == SIM_CUT_PARTIAL && a < b && sim_draw(sim, 3) == 0) cut(sim, a, b, false);
            if (how == SIM_CUT_ONE_WAY && a != b && sim_draw(sim, 3) == 0) cut(sim, a, b, true);
        }
}

// ---------------------------------------------------------------- what strikes by time

// Chance alone hardly ever makes one copy count. So some damage is a plot: one node stands still
// while others go on; then what the unlucky one wrote last is damaged, and it and the leader lose
// power together. If it came back as if nothing were missing, it could help the late one to lead.
static bool begin_plot(struct sim *sim, struct sim_machine *damaged, bool rot) {
    struct sim_faults *faults = &sim->faults;
    struct sim_machine *late = &sim->machines[sim_draw(sim, sim->node_count)];
    if (faults->plot.due_ns != 0 || sim->memory || late == damaged || late == sim_leader(sim))
        return false;
    faults->plot.due_ns = sim->now_ns + 50 * SIM_MS + sim_draw(sim, 300 * SIM_MS);
    faults->plot.damaged = damaged;
    faults->plot.late = late;
    faults->plot.rot = rot;
    late->paused_ns = faults->plot.due_ns;
    sim_trace(sim, "node %u pauses, and node %u will be damaged", late->id, damaged->id);
    return true;
}

static void end_plot(struct sim *sim) {
    struct sim_faults *faults = &sim->faults;
    struct sim_machine *damaged = faults->plot.damaged, *leader = sim_leader(sim);
    if (faults->plot.due_ns == 0 || sim->now_ns < faults->plot.due_ns) return;
    faults->plot.due_ns = 0;
    if (damaged->node == NULL || !sim_disk_damage_newest(damaged->disk, faults->plot.rot)) return;
    sim->stats.faults[faults->plot.rot ? SIM_ROT : SIM_EIO_READ]++;
    sim->stats.plots++;
    if (sim_crash(sim, damaged)) damaged->back_ns = sim->now_ns + sim_draw(sim, 20 * SIM_MS);
    if (leader == NULL || leader == damaged || leader == faults->plot.late) return;
    if (sim_crash(sim, leader)) leader->back_ns += 500 * SIM_MS;
}

static bool damage(struct sim *sim, struct sim_machine *machine, bool rot) {
    if (!is_unlucky(sim, machine)) return false;
    if (sim_draw(sim, 2) == 0 && begin_plot(sim, machine, rot)) return false; // counted at its end
    return sim_disk_damage(machine->disk, rot);
}

static void pause_stage(struct sim *sim, struct sim_machine *machine) {
    static const char *const names[3] = {"port", "consensus", "wal"};
    uint32_t stage = (uint32_t)sim_draw(sim, 3);
    uint64_t longest_ms = sim_draw(sim, 4) == 0 ? 1500 : 100;
    machine->stage_paused_ns[stage] = sim->now_ns + sim_draw(sim, longest_ms * SIM_MS);
    sim_trace(sim, "the %s stage of node %u pauses", names[stage], machine->id);
}

static bool strike_disk(struct sim *sim, struct sim_machine *machine, enum sim_fault fault) {
    switch (fault) {
    case SIM_FULL:
        machine->full_ns = sim->now_ns + sim_draw(sim, 4000 * SIM_MS);
        sim_disk_set_full(machine->disk, true);
        sim_trace(sim, "the disk of node %u is full", machine->id);
        return true;
    case SIM_STALL:
        sim_disk_stall(machine->disk, sim->now_ns + sim_draw(sim, 4000 * SIM_MS));
        sim_trace(sim, "the disk of node %u stands still", machine->id);
        return true;
    case SIM_EIO_READ:
    case SIM_ROT:
        return damage(sim, machine, fault == SIM_ROT);
    default:
        return false;
    }
}

static bool strike_machine(struct sim *sim, struct sim_machine *machine, enum sim_fault fault) {
    if (fault != SIM_FULL && fault != SIM_STALL && fault != SIM_EIO_READ && fault != SIM_ROT &&
        machine->node == NULL)
        return false;
    switch (fault) {
    case SIM_CRASH:
        (void)sim_crash(sim, machine);
        return false; // it has counted itself
    case SIM_PAUSE:
        machine->paused_ns = sim->now_ns + sim_draw(sim, 1500 * SIM_MS);
        sim_trace(sim, "node %u pauses", machine->id);
        return true;
    case SIM_PAUSE_STAGE:
        pause_stage(sim, machine);
        return true;
    case SIM_FLOOD: // while consensus does not look: so that packets run out
        machine->stage_paused_ns[1] = sim->now_ns + sim_draw(sim, 60 * SIM_MS);
        sim_reader_flood(sim->reader, machine);
        sim_trace(sim, "node %u is flooded", machine->id);
        return true;
    case SIM_JUMP:
        machine->clock_base_ns += sim_draw(sim, 3000 * SIM_MS);
        machine->unwell_ns = sim->now_ns;
        if (sim->now_ns >= sim->faults.doubt_ns) sim->faults.doubt_from_ns = sim->now_ns;
        sim->faults.doubt_ns = sim->now_ns + 2 * CLIENT_TTL_MAX_MS * SIM_MS;
        sim->recorder.history->early = true;
        sim_trace(sim, "the clock of node %u jumps", machine->id);
        return true;
    default:
        return strike_disk(sim, machine, fault);
    }
}

static void all_down(struct sim *sim) {
    if (sim->memory) return;
    for (uint32_t i = 0; i < sim->node_count; i++) (void)sim_crash(sim, &sim->machines[i]);
}

static struct sim_machine *some_machine(struct sim *sim, enum sim_fault fault) {
    struct sim_machine *machine = &sim->machines[sim_draw(sim, sim->node_count)];
    bool damages = fault == SIM_EIO_READ || fault == SIM_ROT;
    while (damages && sim->faults.unlucky != 0 && !is_unlucky(sim, machine))
        machine = &sim->machines[sim_draw(sim, sim->node_count)];
    return machine;
}

static bool strike(struct sim *sim, enum sim_fault fault) {
    switch (fault) {
    case SIM_CUT_FULL:
    case SIM_CUT_PARTIAL:
    case SIM_CUT_ONE_WAY:
    case SIM_CUT_CLIENTS:
        if (sim->faults.cut_until_ns != 0) return false;
        cut_something(sim, fault);
        return true;
    case SIM_POWER:
        all_down(sim);
        return !sim->memory;
    case SIM_DEATH:
        return sim_workload_kill(sim->workload);
    case SIM_SUSPEND:
    case SIM_SUSPEND_CLOCK:
        return sim_workload_suspend(sim->workload, sim->now_ns + sim_draw(sim, 3000 * SIM_MS),
                                    fault == SIM_SUSPEND_CLOCK);
    default:
        return strike_machine(sim, some_machine(sim, fault), fault);
    }
}

static void strike_by_time(struct sim *sim) {
    struct sim_faults *faults = &sim->faults;
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        if (sim_fault_kinds[i].per != SIM_PER_TIME || faults->rate[i] == 0) continue;
        if (sim->now_ns < faults->next_ns[i]) continue;
        if (faults->next_ns[i] != 0) sim->stats.faults[i] += strike(sim, (enum sim_fault)i);
        uint64_t mean_ns = 1000000 * SIM_MS / faults->rate[i];
        faults->next_ns[i] = sim->now_ns + 1 + sim_draw(sim, 2 * mean_ns);
    }
}

void sim_faults_step(struct sim *sim) {
    struct sim_faults *faults = &sim->faults;
    strike_by_time(sim);
    end_plot(sim);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_machine *machine = &sim->machines[i];
        if (machine->crash_ns != 0 && sim->now_ns >= machine->crash_ns &&
            sim_crash(sim, machine)) // else again in the next step
            machine->crash_ns = 0;
        if (machine->full_ns == 0 || sim->now_ns < machine->full_ns) continue;
        machine->full_ns = 0;
        sim_disk_set_full(machine->disk, false);
        sim_trace(sim, "the disk of node %u has room again", machine->id);
    }
    if (faults->all_ambushed) all_down(sim);
    faults->all_ambushed = false;
    if (faults->cut_until_ns != 0 && sim->now_ns >= faults->cut_until_ns) {
        sim_net_heal(sim->net);
        sim_trace(sim, "links are whole again");
        faults->cut_until_ns = 0;
    }
}

void sim_faults_heal(struct sim *sim) {
    struct sim_faults healed = {.beyond = sim->faults.beyond,
                                .doubt_from_ns = sim->faults.doubt_from_ns,
                                .doubt_ns = sim->faults.doubt_ns};
    sim_trace(sim, "everything heals");
    sim->faults = healed;
    sim_net_heal(sim->net);
    sim_workload_wake(sim->workload);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_machine *machine = &sim->machines[i];
        machine->paused_ns = 0;
        machine->crash_ns = 0;
        memset(machine->stage_paused_ns, 0, sizeof machine->stage_paused_ns);
        machine->back_ns = sim->now_ns;
        machine->full_ns = 0;
        sim_disk_set_slow(machine->disk, 50000, 100000);
        sim_disk_set_full(machine->disk, false);
        sim_disk_stall(machine->disk, 0);
    }
}
