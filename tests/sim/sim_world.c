// One life: boots the machines, lets faults loose at rates drawn from the seed, polls every stage
// of every node in a random order, then heals everything and demands progress and equal states.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "sim_internal.h"

uint64_t sim_draw(struct sim *sim, uint64_t below) {
    uint64_t z = sim->random += 0x9e3779b97f4a7c15ull; // splitmix64
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return below == 0 ? 0 : (z ^ (z >> 31)) % below;
}

bool sim_chance(struct sim *sim, uint32_t per_million) {
    return per_million > 0 && sim_draw(sim, 1000000) < per_million;
}

void sim_trace(struct sim *sim, const char *format, ...) {
    char line[400];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (length < 0) return;
    if ((size_t)length >= sizeof line) length = (int)sizeof line - 1;
    sim->trace_hash = XXH3_64bits_withSeed(line, (size_t)length, sim->trace_hash ^ sim->now_ns);
    if (sim->options.verbose) printf("%12.6f  %s\n", (double)sim->now_ns / 1e9, line);
}

void sim_broken(struct sim *sim, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(sim->broken_rule, sizeof sim->broken_rule, format, list);
    va_end(list);
    longjmp(sim->broken, 1);
}

uint64_t sim_clock(struct sim *sim, struct sim_machine *machine) {
    int64_t skew = (int64_t)(sim->now_ns / 1000000) * machine->drift_ppm;
    uint64_t now = machine->clock_base_ns + sim->now_ns + (uint64_t)skew;
    if (now < machine->clock_last_ns) now = machine->clock_last_ns;
    return machine->clock_last_ns = now;
}

void sim_boot(struct sim *sim, struct sim_machine *machine) {
    struct node_options options = {
        .cluster = SIM_CLUSTER,
        .id = machine->id,
        .node_count = (uint16_t)sim->node_count,
        .election_ns = 100 * SIM_MS,
        .heartbeat_ns = 20 * SIM_MS,
        // Busy lives fill the WAL first, others the log in memory.
        .log_entries = sim->small_logs ? 256
                       : sim->busy     ? 8192
                                       : 2048,
        .log_bytes = sim->small_logs ? 1u << 15
                     : sim->busy     ? 1u << 19
                                     : 1u << 18,
        .window_entries = sim->small_logs ? 64 : 256,
        .limits = {.sessions = 64, .leases = 256, .locks = 256, .claims = 512},
        .memory = sim->memory,
        .segment_bytes = 1u << 20,
        .segment_count = 3,
        .snapshot_percent = sim->small_logs ? 10 : 30,
        .seed = sim_draw(sim, UINT32_MAX) + 1,
        .port = machine->port,
        .disk = machine->disk,
    };
    for (uint32_t i = 0; i < sim->node_count; i++)
        options.nodes[i] = (struct node_peer){sim->machines[i].id, sim->machines[i].endpoint};
    char error[256] = "";
    machine->node = node_open(&options, sim_clock(sim, machine), error);
    if (machine->node == NULL) sim_broken(sim, "node %u does not start: %s", machine->id, error);
    sim_trace(sim, "node %u starts, log to %lu", machine->id,
              (unsigned long)raft_last(node_raft(machine->node)));
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
    sim->stats.crashes++;
}

static void cut_something(struct sim *sim) {
    sim->stats.partitions++;
    const struct sim_machine *victim = &sim->machines[sim_draw(sim, sim->node_count)];
    uint64_t kind = sim_draw(sim, 3); // both ways, only out, only in
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_machine *other = &sim->machines[i];
        if (other == victim || sim_draw(sim, 3) == 0) continue;
        if (kind != 2) sim_net_cut(sim->net, victim->endpoint, other->endpoint, true);
        if (kind != 1) sim_net_cut(sim->net, other->endpoint, victim->endpoint, true);
    }
    sim->healed_ns = sim->now_ns + 50 * SIM_MS + sim_draw(sim, 800 * SIM_MS);
    sim_trace(sim, "links of node %u are cut (%s)", victim->id,
              kind == 0   ? "both ways"
              : kind == 1 ? "outward"
                          : "inward");
}

static void misfortune(struct sim *sim) {
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_machine *machine = &sim->machines[i];
        if (sim_chance(sim, sim->crash_rate)) sim_crash(sim, machine);
        if (machine->node != NULL && sim_chance(sim, sim->pause_rate)) {
            machine->paused_ns = sim->now_ns + sim_draw(sim, 1500 * SIM_MS);
            sim->stats.pauses++;
            sim_trace(sim, "node %u pauses", machine->id);
        }
        if (sim_chance(sim, sim->full_rate)) {
            machine->full_ns = sim->now_ns + sim_draw(sim, 4000 * SIM_MS);
            sim_disk_set_full(machine->disk, true);
            sim->stats.full_disks++;
            sim_trace(sim, "the disk of node %u is full", machine->id);
        }
        if (machine->full_ns != 0 && sim->now_ns >= machine->full_ns) {
            machine->full_ns = 0;
            sim_disk_set_full(machine->disk, false);
            sim_trace(sim, "the disk of node %u has room again", machine->id);
        }
    }
    if (!sim->memory && (sim->all_ambushed || sim_chance(sim, sim->all_down_rate))) {
        sim->stats.all_down++;
        for (uint32_t i = 0; i < sim->node_count; i++) sim_crash(sim, &sim->machines[i]);
    }
    sim->all_ambushed = false;
    if (sim->healed_ns == 0 && sim_chance(sim, sim->cut_rate)) cut_something(sim);
    if (sim->healed_ns != 0 && sim->now_ns >= sim->healed_ns) {
        sim_net_heal(sim->net);
        sim->healed_ns = 0;
    }
}

static void heal(struct sim *sim) {
    struct sim_net_faults none = {0};
    sim_trace(sim, "everything heals");
    sim_net_set_faults(sim->net, &none);
    sim->vote_ambush_rate = sim->ack_ambush_rate = sim->answer_ambush_rate = 0;
    sim->all_ambushed = false;
    sim_net_heal(sim->net);
    sim_workload_calm(sim->workload);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        sim->machines[i].paused_ns = 0;
        sim->machines[i].back_ns = sim->now_ns;
        sim_disk_set_slow(sim->machines[i].disk, 50000, 100000);
        sim_disk_set_full(sim->machines[i].disk, false);
        sim->machines[i].full_ns = 0;
    }
}

static void poll_node(struct sim *sim, struct sim_machine *machine) {
    if (machine->node == NULL && sim->now_ns >= machine->back_ns) {
        sim->stats.restarts++;
        sim_boot(sim, machine);
    }
    if (machine->node == NULL || sim->now_ns < machine->paused_ns) return;
    enum wire_role before = raft_role(node_raft(machine->node));
    uint32_t first = (uint32_t)sim_draw(sim, 3);
    for (uint32_t i = 0; i < 3; i++) {
        switch ((first + i) % 3) {
        case 0:
            node_poll_port(machine->node, sim_clock(sim, machine));
            break;
        case 1:
            node_poll_consensus(machine->node, sim_clock(sim, machine));
            break;
        case 2:
            node_poll_wal(machine->node, sim_clock(sim, machine));
            break;
        }
    }
    sim_check_terms(sim, machine);
    if (machine->ambushed) {
        machine->ambushed = false;
        sim->stats.ambushes++;
        sim_crash(sim, machine);
        if (machine->node == NULL) machine->back_ns = sim->now_ns + sim_draw(sim, 20 * SIM_MS);
        return;
    }
    const char *failure = node_failure(machine->node);
    if (failure != NULL) sim_broken(sim, "node %u failed: %s", machine->id, failure);
    const struct raft *raft = node_raft(machine->node);
    if (raft_role(raft) != before && raft_role(raft) == WIRE_ROLE_LEADER) {
        sim->stats.elections++;
        sim_trace(sim, "node %u leads term %lu", machine->id, (unsigned long)raft_term(raft));
    }
}

struct sim_machine *sim_leader(struct sim *sim) {
    struct sim_machine *leader = NULL;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_machine *m = &sim->machines[i];
        if (m->node == NULL || !raft_leader_ready(node_raft(m->node))) continue;
        if (leader == NULL || raft_term(node_raft(m->node)) > raft_term(node_raft(leader->node)))
            leader = m;
    }
    return leader;
}

static void create(struct sim *sim) {
    struct sim_net_faults faults = {
        .lose = (uint32_t)sim_draw(sim, 4) * 30000,
        .twice = (uint32_t)sim_draw(sim, 3) * 50000,
        .late = (uint32_t)sim_draw(sim, 3) * 30000,
        .flip = (uint32_t)sim_draw(sim, 3) * 10000,
    };
    sim->node_count = sim_draw(sim, 6) == 0 ? 5 : sim_draw(sim, 12) == 0 ? 1 : 3;
    sim->small_logs = sim_draw(sim, 3) == 0;
    sim->crash_rate = (uint32_t)sim_draw(sim, 4) * 8;
    sim->pause_rate = (uint32_t)sim_draw(sim, 3) * 8;
    sim->cut_rate = (uint32_t)sim_draw(sim, 3) * 60;
    sim->all_down_rate = (uint32_t)sim_draw(sim, 3) * 6;
    sim->busy = sim_draw(sim, 4) == 0;
    sim->full_rate = sim->busy ? (uint32_t)sim_draw(sim, 3) * 30 : 0;
    sim->vote_ambush_rate = (uint32_t)sim_draw(sim, 2) * 300000;
    sim->ack_ambush_rate = (uint32_t)sim_draw(sim, 3) * 100;
    sim->answer_ambush_rate = (uint32_t)sim_draw(sim, 3) * 500;
    sim->memory = sim->node_count > 1 && sim_draw(sim, 5) == 0;
    sim->net = sim_net_create(sim);
    sim_net_set_faults(sim->net, &faults);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_machine *machine = &sim->machines[i];
        machine->id = (uint16_t)(i + 1);
        machine->endpoint = wire_endpoint_pack(0x0a000001u + i, 7100);
        machine->drift_ppm = (int64_t)sim_draw(sim, 801) - 400;
        machine->clock_base_ns = (1 + sim_draw(sim, 1000)) * SIM_MS;
        machine->disk = sim_disk_create(sim);
        machine->port = sim_net_port(sim->net, machine->endpoint);
        if (sim_draw(sim, 4) == 0) sim_disk_set_slow(machine->disk, SIM_MS, 30 * SIM_MS);
    }
    for (uint32_t i = 0; i < sim->node_count; i++) sim_boot(sim, &sim->machines[i]);
    sim->workload = sim_workload_create(sim);
    sim->reader = sim_reader_create(sim);
}

void sim_describe(const struct sim *sim) {
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct sim_machine *m = &sim->machines[i];
        if (m->node == NULL) {
            printf("node %u is down\n", m->id);
            continue;
        }
        const struct raft *raft = node_raft(m->node);
        printf("node %u: role %u, leader %u, term %lu, log %lu to %lu, durable %lu, commit %lu, "
               "applied %lu\n",
               m->id, raft_role(raft), raft_leader(raft), (unsigned long)raft_term(raft),
               (unsigned long)raft_first(raft), (unsigned long)raft_last(raft),
               (unsigned long)raft_durable(raft), (unsigned long)raft_commit(raft),
               (unsigned long)machine_applied(node_machine(m->node)));
        struct wire_counter counters[256];
        uint32_t count = counters_read(node_counters(m->node), 0, counters, 256);
        for (uint32_t c = 0, shown = 0; c < count; c++)
            if (counters[c].value > 0)
                printf("%s%.40s %lu", shown++ % 5 == 0 ? "\n    " : "  ", counters[c].name,
                       (unsigned long)counters[c].value);
        printf("\n");
    }
}

void sim_destroy(struct sim *sim) {
    if (sim->workload != NULL) sim_workload_destroy(sim->workload);
    if (sim->reader != NULL) sim_reader_destroy(sim->reader);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (sim->machines[i].node != NULL) node_close(sim->machines[i].node);
        if (sim->machines[i].disk != NULL) sim_disk_destroy(sim->machines[i].disk);
    }
    if (sim->net != NULL) sim_net_destroy(sim->net);
}

static void round_once(struct sim *sim) {
    sim->now_ns += 10000 + sim_draw(sim, 190000);
    uint32_t first = (uint32_t)sim_draw(sim, sim->node_count);
    for (uint32_t i = 0; i < sim->node_count; i++)
        poll_node(sim, &sim->machines[(first + i) % sim->node_count]);
    sim_workload_step(sim->workload);
    sim_reader_step(sim->reader);
    sim_check_hashes(sim);
}

bool sim_live(struct sim *sim, const struct sim_options *options) {
    memset(sim, 0, sizeof *sim);
    sim->options = *options;
    sim->random = options->seed * 0xd1342543de82ef95ull + 1;
    sim->now_ns = SIM_MS;
    bool well = setjmp(sim->broken) == 0;
    if (well) {
        create(sim);
        while (sim->now_ns < options->faulty_ns) {
            misfortune(sim);
            round_once(sim);
        }
        heal(sim);
        uint64_t healed_ns = sim->now_ns;
        while (sim->now_ns < healed_ns + options->calm_ns) round_once(sim);
        if (!sim_workload_progressed(sim->workload, healed_ns))
            sim_broken(sim, "no progress within %lu ms after all faults ended",
                       (unsigned long)(options->calm_ns / SIM_MS));
        sim_workload_final_check(sim->workload);
        sim_check_final(sim);
    }
    if (!well && options->verbose) sim_describe(sim);
    sim_destroy(sim);
    return well;
}
