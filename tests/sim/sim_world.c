// One life: boots the machines, lets faults loose (sim_faults.c; sim_loop.c polls whoever is due),
// then heals everything and demands progress and equal states.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

void sim_broken(struct sim *sim, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(sim->broken_rule, sizeof sim->broken_rule, format, list);
    va_end(list);
    sim->broken_kind = format;
    longjmp(sim->broken, 1);
}

uint64_t sim_clock_at(const struct sim_machine *machine, uint64_t at_ns) {
    int64_t skew = (int64_t)at_ns * machine->drift_ppm / 1000000;
    return machine->clock_base_ns + at_ns + (uint64_t)skew;
}

uint64_t sim_clock(struct sim *sim, struct sim_machine *machine) {
    uint64_t now = sim_clock_at(machine, sim->now_ns);
    if (now < machine->clock_last_ns) now = machine->clock_last_ns;
    return machine->clock_last_ns = now;
}

void sim_boot(struct sim *sim, struct sim_machine *machine) {
    struct node_options options = {
        .cluster = SIM_CLUSTER,
        .id = machine->id,
        .node_count = (uint16_t)sim->node_count,
        .election_ns = SIM_ELECTION_NS,
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
        .lender = sim_lender(),
    };
    for (uint32_t i = 0; i < sim->node_count; i++)
        options.nodes[i] = (struct node_peer){sim->machines[i].id, sim->machines[i].endpoint};
    char error[256] = "";
    machine->node = node_open(&options, sim_clock(sim, machine), error);
    if (machine->node == NULL) {
        sim_stopped(sim, machine, error);
        return;
    }
    if (raft_recovering(node_raft(machine->node))) sim->stats.recoveries++;
    sim_trace(sim, "node %u starts, log to %lu%s", machine->id,
              (unsigned long)raft_last(node_raft(machine->node)),
              raft_recovering(node_raft(machine->node)) ? ", not whole" : "");
}

// A node whose disk has failed a durable write says so, and does nothing more.
#define DOOMED_NS (3000 * SIM_MS) // writes before it land first, on a slow disk
static void check_doomed(struct sim *sim, struct sim_machine *machine) {
    if (!sim_disk_doomed(machine->disk) || sim_disk_stalled(machine->disk) ||
        !sim_machine_runs(sim, machine))
        machine->doomed_ns = 0;
    else if (machine->doomed_ns == 0)
        machine->doomed_ns = sim->now_ns;
    else if (sim->now_ns > machine->doomed_ns + DOOMED_NS)
        sim_broken(sim, "node %u goes on after a durable write has failed", machine->id);
}

void sim_polled(struct sim *sim, struct sim_machine *machine, enum wire_role before) {
    sim_check_terms(sim, machine);
    sim_check_hash(sim, machine);
    if (machine->ambushed) {
        machine->ambushed = false;
        if (sim_crash(sim, machine)) {
            machine->back_ns = sim->now_ns + sim_draw(sim, 20 * SIM_MS);
            return;
        }
    }
    if (node_failure(machine->node) != NULL) {
        sim_stopped(sim, machine, node_failure(machine->node));
        return;
    }
    check_doomed(sim, machine);
    const struct raft *raft = node_raft(machine->node);
    if (raft_role(raft) != before && raft_role(raft) == WIRE_ROLE_LEADER) {
        sim->stats.elections++;
        sim_trace(sim, "node %u leads term %lu", machine->id, (unsigned long)raft_term(raft));
    } else if (raft_role(raft) != before && before == WIRE_ROLE_LEADER) {
        sim_trace(sim, "node %u leads no longer, term %lu", machine->id,
                  (unsigned long)raft_term(raft));
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
    sim_loop_begin(sim);
    sim_faults_draw(sim);
    if (sim->options.nodes != 0) sim->node_count = sim->options.nodes;
    if (sim->node_count == 1) sim->memory = false;
    sim_faults_draw_atlas(sim);
    sim->recorder.history = history_create();
    sim->logs = sim_logs_create();
    sim->net = sim_net_create(sim);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_machine *machine = &sim->machines[i];
        machine->id = (uint16_t)(i + 1);
        machine->endpoint = wire_endpoint_pack(0x0a000001u + i, 7100);
        if (sim_strikes(sim, SIM_DRIFT)) machine->drift_ppm = (int64_t)sim_draw(sim, 801) - 400;
        machine->clock_base_ns = (1 + sim_draw(sim, 1000)) * SIM_MS;
        machine->disk = sim_disk_create(sim, machine);
        machine->port = sim_net_port(sim->net, machine->endpoint, sim_machine_actor(sim, machine));
        if (sim_strikes(sim, SIM_SLOW)) sim_disk_set_slow(machine->disk, SIM_MS, 30 * SIM_MS);
    }
    for (uint32_t i = 0; i < sim->node_count; i++) sim_boot(sim, &sim->machines[i]);
    sim->workload = sim_workload_create(sim);
    sim->reader = sim_reader_create(sim);
}

void sim_describe(const struct sim *sim) {
    if (sim->workload != NULL) sim_workload_describe(sim->workload);
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
    if (sim->logs != NULL) sim_logs_destroy(sim->logs);
    history_destroy(sim->recorder.history);
}

static void write_history(const struct sim *sim) {
    FILE *file = fopen(sim->options.history, "w");
    bool well = file != NULL && history_write(sim->recorder.history, file);
    if (file != NULL) well &= fclose(file) == 0;
    if (!well) fprintf(stderr, "sim: cannot write %s\n", sim->options.history);
}

// After healing nothing new happens once all have got through and all nodes follow: most lives end
// there, looked at every SETTLE_NS.
#define SETTLE_NS     (250 * SIM_MS)
#define REBUILD_STEPS 200u
static bool rebuilding(struct sim *sim) {
    const struct sim_machine *leader = sim_leader(sim);
    for (uint32_t i = 0; i < sim->node_count && leader != NULL; i++) {
        const struct node *node = sim->machines[i].node;
        if (node != NULL &&
            machine_applied(node_machine(node)) + 200 < raft_commit(node_raft(leader->node)))
            return true;
    }
    return false;
}

static bool settled(struct sim *sim) {
    const struct sim_machine *leader = sim_leader(sim);
    if (leader == NULL || sim->liveness.progressed_ns == 0) return false;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct node *node = sim->machines[i].node;
        if (sim->machines[i].retired) continue;
        if (node == NULL || raft_recovering(node_raft(node)) ||
            machine_applied(node_machine(node)) + 200 < raft_commit(node_raft(leader->node)))
            return false;
    }
    return true;
}

// An assertion of the code under test is a rule like others: it ends this life, not the program.
static struct sim *alive;

void __assert_fail(const char *assertion, const char *file, unsigned line, const char *function) {
    if (alive == NULL) {
        fprintf(stderr, "%s:%u: %s: assertion %s failed\n", file, line, function, assertion);
        abort();
    }
    struct sim *sim = alive;
    alive = NULL;
    snprintf(sim->broken_rule, sizeof sim->broken_rule, "%s:%u: %s(): %s does not hold", file, line,
             function, assertion);
    sim->broken_kind = assertion;
    longjmp(sim->broken, 1);
}

bool sim_live(struct sim *sim, const struct sim_options *options) {
    memset(sim->hashes, 0,
           (sim->stats.applied + 1 < SIM_HASHES ? sim->stats.applied + 1 : SIM_HASHES) *
               sizeof sim->hashes[0]);
    memset(sim, 0, offsetof(struct sim, hashes));
    sim->options = *options;
    sim->random = options->seed * 0xd1342543de82ef95ull + 1;
    sim->now_ns = SIM_MS;
    alive = sim;
    bool well = setjmp(sim->broken) == 0;
    if (well) {
        create(sim);
        sim_loop_start(sim);
        sim_loop_run(sim, options->faulty_ns);
        sim_faults_heal(sim);
        sim->liveness.healed_ns = sim->now_ns;
        sim_loop_start(sim);
        bool long_one = sim_draw(sim, 8) == 0;
        while (sim->now_ns < sim->liveness.healed_ns + options->calm_ns &&
               (long_one || !settled(sim)))
            sim_loop_run(sim, sim->now_ns + SETTLE_NS);
        // Under a full load a log of a few hundred entries is gone before its snapshot has arrived:
        // who is behind need not catch up before there is a moment's rest.
        sim->resting = rebuilding(sim);
        for (uint32_t i = 0; i < REBUILD_STEPS && rebuilding(sim); i++)
            sim_loop_run(sim, sim->now_ns + 5 * SIM_MS);
        sim_liveness_final(sim);
        sim_check_history(sim);
    }
    alive = NULL;
    if (!well && options->verbose) sim_describe(sim);
    if (options->history != NULL) write_history(sim);
    sim_destroy(sim);
    return well;
}
