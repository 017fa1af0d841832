// Time in the simulator: it jumps from event to event.
//
// Whoever can do something by itself is an actor: each stage of each node, each client, the reader,
// misfortune. An actor says when it can do something next (a datagram or a disk operation due, a
// timer of its own, work left over); it is polled a little after that. The delay is drawn for each
// poll: a loop in production is soon there but not at once, and now and then it is held up, so that
// what arrives is found in batches of any size and stages overtake each other. How quick the polls
// are on the whole is drawn for each machine.
//
// That nothing is missed by not polling is checked, not believed: with --check-wake every actor
// that says it is not due is polled all the same, and must do nothing.
#include "sim_internal.h"

#define POLL_NS_LEAST 200u // no poll takes no time
#define HELD_UP_OF    64u  // one poll of so many comes late ...
#define HELD_UP_TIMES 20u  // ... by up to so many times the usual

enum stage { STAGE_PORT, STAGE_CONSENSUS, STAGE_WAL };

uint32_t sim_machine_actor(const struct sim *sim, const struct sim_machine *machine) {
    return SIM_ACTOR_NODES + SIM_STAGES * (uint32_t)(machine - sim->machines);
}

uint64_t sim_when(const struct sim_machine *machine, uint64_t clock_ns) {
    if (clock_ns <= machine->clock_base_ns) return 0;
    uint64_t passed = clock_ns - machine->clock_base_ns;
    if (passed > 1000000000 * SIM_MS) return UINT64_MAX; // beyond any life
    // All but exact: what rounding left is put right behind.
    uint64_t at = (uint64_t)((double)passed / (1.0 + (double)machine->drift_ppm / 1e6));
    while (at > 0 && sim_clock_at(machine, at - 1) >= clock_ns) at--;
    while (sim_clock_at(machine, at) < clock_ns) at++;
    return at;
}

static uint64_t delay(struct sim *sim, uint32_t actor) {
    uint64_t usual = sim->loop.poll_ns[actor];
    uint64_t ns = POLL_NS_LEAST + sim_draw(sim, usual);
    return sim_draw(sim, HELD_UP_OF) == 0 ? ns + sim_draw(sim, usual * HELD_UP_TIMES) : ns;
}

static void set_due(struct sim_loop *loop, uint32_t actor, uint64_t due_ns) {
    loop->due_ns[actor] = due_ns;
    for (uint32_t i = (SIM_LEAVES + actor) / 2; i > 0; i /= 2) {
        uint32_t left = loop->first[2 * i], right = loop->first[2 * i + 1];
        loop->first[i] = loop->due_ns[left] <= loop->due_ns[right] ? left : right;
    }
}

// The actor can do something at wake_ns. What has been drawn for that very moment stays.
static void arm(struct sim *sim, uint32_t actor, uint64_t wake_ns) {
    struct sim_loop *loop = &sim->loop;
    if (loop->wake_ns[actor] == wake_ns) return;
    loop->wake_ns[actor] = wake_ns;
    uint64_t from = wake_ns > sim->now_ns ? wake_ns : sim->now_ns;
    set_due(loop, actor, wake_ns == UINT64_MAX ? UINT64_MAX : from + delay(sim, actor));
}

void sim_arrives(struct sim *sim, uint32_t actor, uint64_t at_ns) {
    if (actor < SIM_ACTORS && at_ns < sim->loop.wake_ns[actor]) arm(sim, actor, at_ns);
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

// ---------------------------------------------------------------- nodes

static uint64_t stage_wakes(struct sim *sim, const struct sim_machine *machine, enum stage stage) {
    switch (stage) {
    case STAGE_PORT:
        return earlier(node_wake_port(machine->node), sim_net_next(machine->port));
    case STAGE_CONSENSUS:
        return sim_when(machine, node_wake_consensus(machine->node));
    case STAGE_WAL:
        return earlier(node_wake_wal(machine->node), sim_disk_next(machine->disk));
    }
    return sim->now_ns;
}

static uint64_t paused_until(const struct sim_machine *machine, enum stage stage) {
    uint64_t own_ns = machine->stage_paused_ns[stage];
    return own_ns > machine->paused_ns ? own_ns : machine->paused_ns;
}

static void arm_stage(struct sim *sim, const struct sim_machine *machine, enum stage stage) {
    uint32_t actor = sim_machine_actor(sim, machine) + stage;
    uint64_t wake_ns = UINT64_MAX;
    if (machine->node == NULL) {
        if (stage == STAGE_PORT && !machine->retired) wake_ns = machine->back_ns;
    } else if (sim->loop.wake_ns[actor] <= sim->now_ns &&
               sim->now_ns >= paused_until(machine, stage)) {
        return; // it is about to be polled in any case
    } else {
        wake_ns = stage_wakes(sim, machine, stage);
        if (wake_ns < paused_until(machine, stage)) wake_ns = paused_until(machine, stage);
    }
    arm(sim, actor, wake_ns);
}

void sim_machine_changed(struct sim *sim, const struct sim_machine *machine) {
    for (uint32_t i = 0; i < SIM_STAGES; i++) arm_stage(sim, machine, i);
}

static uint32_t poll_stage(struct sim *sim, struct sim_machine *machine, enum stage stage) {
    switch (stage) {
    case STAGE_PORT:
        return node_poll_port(machine->node, sim_clock(sim, machine));
    case STAGE_CONSENSUS:
        return node_poll_consensus(machine->node, sim_clock(sim, machine));
    case STAGE_WAL:
        return node_poll_wal(machine->node, sim_clock(sim, machine));
    }
    return 0;
}

static void poll_machine(struct sim *sim, struct sim_machine *machine, enum stage stage) {
    if (machine->node == NULL && !machine->retired && sim->now_ns >= machine->back_ns) {
        sim->stats.restarts++;
        sim_boot(sim, machine);
    }
    if (machine->node != NULL && sim->now_ns >= paused_until(machine, stage)) {
        enum wire_role before = raft_role(node_raft(machine->node));
        (void)poll_stage(sim, machine, stage);
        sim_polled(sim, machine, before);
        if (machine->node != NULL && stage != STAGE_CONSENSUS) {
            // Port and wal share nothing.
            arm_stage(sim, machine, stage);
            arm_stage(sim, machine, STAGE_CONSENSUS);
            return;
        }
    }
    sim_machine_changed(sim, machine);
}

// What misfortune does to a machine, but for its disk's speed and its links, shows here.
static uint64_t condition(const struct sim_machine *machine) {
    uint64_t sum = (machine->node != NULL) ^ machine->back_ns * 3 ^ machine->paused_ns * 5 ^
                   machine->clock_base_ns * 7 ^ (uint64_t)machine->drift_ppm * 9;
    for (uint32_t i = 0; i < SIM_STAGES; i++) sum ^= machine->stage_paused_ns[i] * (11 + 2 * i);
    return sum;
}

static void look_around(struct sim *sim) {
    uint64_t before[SIM_NODES_MAX];
    for (uint32_t i = 0; i < sim->node_count; i++) before[i] = condition(&sim->machines[i]);
    sim_faults_step(sim);
    sim_liveness_step(sim);
    for (uint32_t i = 0; i < sim->node_count; i++)
        if (condition(&sim->machines[i]) != before[i]) sim_machine_changed(sim, &sim->machines[i]);
}

// ---------------------------------------------------------------- all

static void poll(struct sim *sim, uint32_t actor) {
    sim->loop.polls++;
    sim->loop.wake_ns[actor] = UINT64_MAX - 1; // in any case to be armed anew
    if (actor >= SIM_ACTOR_NODES) {
        uint32_t at = actor - SIM_ACTOR_NODES;
        poll_machine(sim, &sim->machines[at / SIM_STAGES], at % SIM_STAGES);
    } else if (actor >= SIM_ACTOR_CLIENTS) {
        arm(sim, actor, sim_workload_step(sim->workload, actor - SIM_ACTOR_CLIENTS));
    } else if (actor == SIM_ACTOR_READER) {
        arm(sim, actor, sim_reader_step(sim->reader));
    } else {
        look_around(sim);
        arm(sim, actor, sim->now_ns + sim_draw(sim, 2 * SIM_FAULTS_NS));
    }
    if (sim->faults.all_ambushed) sim_arrives(sim, SIM_ACTOR_FAULTS, sim->now_ns);
}

// Polls all who are not due: nothing may happen, no chance be drawn, nothing sent or written.
static void check_idle(struct sim *sim) {
    for (uint32_t actor = SIM_ACTOR_CLIENTS; actor < SIM_ACTORS; actor++) {
        if (sim->loop.wake_ns[actor] <= sim->now_ns) continue;
        uint64_t random = sim->random;
        uint32_t work = 0;
        if (actor < SIM_ACTOR_NODES) {
            work = sim_workload_idle(sim->workload, actor - SIM_ACTOR_CLIENTS);
        } else {
            uint32_t at = actor - SIM_ACTOR_NODES;
            struct sim_machine *machine = &sim->machines[at / SIM_STAGES];
            if (machine->node == NULL || sim->now_ns < paused_until(machine, at % SIM_STAGES))
                continue;
            work = poll_stage(sim, machine, at % SIM_STAGES);
        }
        sim->loop.idle_polls++;
        if (work != 0 || sim->random != random)
            sim_broken(sim, "actor %u was not due before %lu ns but did %u units of work", actor,
                       (unsigned long)sim->loop.wake_ns[actor], work);
    }
}

void sim_loop_begin(struct sim *sim) {
    static const uint64_t usual_ns[] = {4000, 30000, 150000};
    struct sim_loop *loop = &sim->loop;
    for (uint32_t i = 0; i < SIM_LEAVES; i++) {
        loop->due_ns[i] = UINT64_MAX;
        loop->first[SIM_LEAVES + i] = i;
    }
    for (uint32_t i = SIM_LEAVES - 1; i > 0; i--) loop->first[i] = loop->first[2 * i];
    for (uint32_t i = 0; i < SIM_ACTORS; i++) {
        loop->wake_ns[i] = UINT64_MAX;
        bool own = i < SIM_ACTOR_NODES || (i - SIM_ACTOR_NODES) % SIM_STAGES == 0;
        loop->poll_ns[i] = own ? usual_ns[sim_draw(sim, 3)] : loop->poll_ns[i - 1];
    }
}

void sim_client_changed(struct sim *sim, uint32_t client) {
    arm(sim, SIM_ACTOR_CLIENTS + client, sim->now_ns);
}

void sim_loop_start(struct sim *sim) {
    arm(sim, SIM_ACTOR_FAULTS, sim->now_ns);
    arm(sim, SIM_ACTOR_READER, sim->now_ns);
    for (uint32_t i = 0; i < sim_workload_clients(sim->workload); i++)
        arm(sim, SIM_ACTOR_CLIENTS + i, sim->now_ns);
    for (uint32_t i = 0; i < sim->node_count; i++) sim_machine_changed(sim, &sim->machines[i]);
}

void sim_loop_run(struct sim *sim, uint64_t until_ns) {
    for (;;) {
        uint32_t actor = sim->loop.first[1];
        if (sim->loop.due_ns[actor] >= until_ns) break;
        sim->now_ns = sim->loop.due_ns[actor];
        poll(sim, actor);
        if (sim->options.check_wake) check_idle(sim);
    }
    sim->now_ns = until_ns;
}
