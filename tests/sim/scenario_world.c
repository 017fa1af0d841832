// The scripted world: the simulator's nodes, links and disks, but nothing happens by chance.
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

#define STEP_NS 50000u

// ---------------------------------------------------------------- messages

static uint16_t node_at(const struct scenario *s, uint64_t endpoint) {
    for (uint32_t i = 0; i < s->sim->node_count; i++)
        if (s->sim->machines[i].endpoint == endpoint) return s->sim->machines[i].id;
    return 0;
}

static bool has(const void *bytes, uint16_t type, enum scenario_what what) {
    uint32_t offset = 0;
    const struct wire_head *head;
    while ((head = wire_next(bytes, &offset)) != NULL) {
        if (type != 0 && head->type != type) continue;
        if (what == WITH_ENTRIES && ((const struct wire_append *)head)->count == 0) continue;
        if (what == REAL_VOTE && (head->flags & WIRE_VOTE_PREVOTE) != 0) continue;
        return true;
    }
    return false;
}

static void keep(struct scenario *s, uint64_t from, uint64_t to, const void *bytes,
                 uint32_t length) {
    if (s->kept_count == SCENARIO_KEPT) scenario_broken(s, "more is kept back than there is room");
    struct kept *kept = &s->kept[s->kept_count++];
    *kept = (struct kept){.from = from, .to = to, .length = length, .bytes = malloc(length)};
    memcpy(kept->bytes, bytes, length);
}

static bool filter(void *context, uint64_t from, uint64_t to, const void *bytes, uint32_t length) {
    struct scenario *s = context;
    uint16_t source = node_at(s, from), target = node_at(s, to);
    if (source == 0 || target == 0) return true;
    if (s->only_candidate != 0 && source != s->only_candidate && has(bytes, WIRE_VOTE, ANYTHING))
        return false;
    for (uint32_t i = 0; i < s->rule_count; i++) {
        struct scenario_rule *rule = &s->rules[i];
        if ((rule->from != 0 && rule->from != source) || (rule->to != 0 && rule->to != target) ||
            !has(bytes, rule->type, rule->what))
            continue;
        enum scenario_action action = rule->action;
        if (rule->times > 0 && --rule->times == 0) {
            memmove(rule, rule + 1, (s->rule_count - i - 1) * sizeof *rule);
            s->rule_count--;
        }
        if (action == KEEP || action == KEEP_COPY) keep(s, from, to, bytes, length);
        return action == LET_PASS || action == KEEP_COPY;
    }
    return true;
}

void scenario_rule(struct scenario *s, struct scenario_rule rule) {
    GIVEN(s, s->rule_count < SCENARIO_RULES);
    s->rules[s->rule_count++] = rule;
}

void scenario_no_rules(struct scenario *s) {
    s->rule_count = 0;
}

void scenario_deliver_kept(struct scenario *s) {
    uint32_t count = s->kept_count;
    for (uint32_t i = 0; i < count; i++) {
        const struct kept *kept = &s->kept[i];
        sim_net_inject(s->sim->net, kept->from, kept->to, kept->bytes, kept->length);
        scenario_step(s); // longer than the way, so that the order stays
    }
    scenario_forget_kept(s);
}

void scenario_forget_kept(struct scenario *s) {
    while (s->kept_count > 0) free(s->kept[--s->kept_count].bytes);
}

// ---------------------------------------------------------------- nodes

struct sim_machine *scenario_machine(struct scenario *s, uint16_t id) {
    return &s->sim->machines[id - 1];
}

const struct raft *scenario_raft(struct scenario *s, uint16_t id) {
    const struct sim_machine *machine = scenario_machine(s, id);
    GIVEN(s, machine->node != NULL);
    return node_raft(machine->node);
}

uint64_t scenario_applied(struct scenario *s, uint16_t id) {
    return machine_applied(node_machine(scenario_machine(s, id)->node));
}

bool scenario_leads(struct scenario *s, uint16_t id) {
    return raft_role(scenario_raft(s, id)) == WIRE_ROLE_LEADER;
}

uint16_t scenario_leader(struct scenario *s) {
    const struct sim_machine *leader = sim_leader(s->sim);
    return leader != NULL ? leader->id : 0;
}

void scenario_elect(struct scenario *s, uint16_t id) {
    s->only_candidate = id;
    AWAIT(s, 3000, scenario_leads(s, id));
    s->only_candidate = 0;
    sim_trace(s->sim, "node %u leads term %lu", id, (unsigned long)raft_term(scenario_raft(s, id)));
}

void scenario_crash(struct scenario *s, uint16_t id, uint32_t sectors) {
    struct sim_machine *machine = scenario_machine(s, id);
    sim_disk_crash_keeping(machine->disk, sectors);
    sim_crash(s->sim, machine);
    GIVEN(s, machine->node == NULL);
}

void scenario_restart(struct scenario *s, uint16_t id) {
    sim_net_forget(s->sim->net, scenario_machine(s, id)->endpoint); // what came while it was down
    sim_boot(s->sim, scenario_machine(s, id));
}

static void poll(struct scenario *s, struct sim_machine *machine) {
    if (machine->node == NULL || s->paused[machine->id]) return;
    node_poll_port(machine->node, sim_clock(s->sim, machine));
    node_poll_consensus(machine->node, sim_clock(s->sim, machine));
    node_poll_wal(machine->node, sim_clock(s->sim, machine));
    sim_check_terms(s->sim, machine);
    const char *failure = node_failure(machine->node);
    if (failure != NULL && !s->may_fail[machine->id])
        scenario_broken(s, "node %u failed: %s", machine->id, failure);
}

void scenario_step(struct scenario *s) {
    s->sim->now_ns += STEP_NS;
    for (uint32_t i = 0; i < s->sim->node_count; i++) poll(s, &s->sim->machines[i]);
    for (uint32_t i = 0; i < s->caller_count; i++) caller_receive(s->callers[i]);
    for (uint32_t i = 0; i < s->sim->node_count; i++)
        if (s->sim->machines[i].node != NULL) sim_check_hash(s->sim, &s->sim->machines[i]);
}

void scenario_run(struct scenario *s, uint32_t ms) {
    uint64_t until_ns = s->sim->now_ns + ms * SIM_MS;
    while (s->sim->now_ns < until_ns) scenario_step(s);
}

// ---------------------------------------------------------------- links

void scenario_cut(struct scenario *s, uint16_t from, uint16_t to) {
    sim_net_cut(s->sim->net, scenario_machine(s, from)->endpoint, scenario_machine(s, to)->endpoint,
                true);
}

void scenario_isolate(struct scenario *s, uint16_t id) {
    sim_trace(s->sim, "node %u is cut off", id);
    for (uint16_t other = 1; other <= s->sim->node_count; other++) {
        if (other == id) continue;
        scenario_cut(s, id, other);
        scenario_cut(s, other, id);
    }
}

void scenario_heal(struct scenario *s) {
    sim_trace(s->sim, "links are whole");
    sim_net_heal(s->sim->net);
}

// ---------------------------------------------------------------- begin and end

void scenario_begin(struct scenario *s, uint32_t nodes, enum scenario_logs logs) {
    struct sim *sim = s->sim;
    sim->random = 1;
    sim->now_ns = SIM_MS;
    sim->node_count = nodes;
    sim->small_logs = logs == SMALL_LOGS;
    sim->recorder.history = history_create();
    sim->logs = sim_logs_create();
    sim->net = sim_net_create(sim);
    sim_net_set_filter(sim->net, filter, s);
    for (uint32_t i = 0; i < nodes; i++) {
        struct sim_machine *machine = &sim->machines[i];
        machine->id = (uint16_t)(i + 1);
        machine->endpoint = wire_endpoint_pack(0x0a000001u + i, 7100);
        machine->clock_base_ns = (i + 1) * 7 * SIM_MS;
        machine->disk = sim_disk_create(sim, machine);
        machine->port = sim_net_port(sim->net, machine->endpoint, SIM_ACTORS);
    }
    for (uint32_t i = 0; i < nodes; i++) sim_boot(sim, &sim->machines[i]);
}

void scenario_end(struct scenario *s) {
    scenario_forget_kept(s);
    for (uint32_t i = 0; i < s->caller_count; i++) free(s->callers[i]);
    sim_destroy(s->sim);
}

uint64_t scenario_snapshot(struct scenario *s, uint16_t id) {
    struct wire_status status;
    node_status(scenario_machine(s, id)->node, &status);
    return status.snapshot;
}

uint64_t scenario_counter(struct scenario *s, uint16_t id, const char *name) {
    struct wire_counter counters[256];
    size_t length = strlen(name);
    uint32_t count = counters_read(node_counters(scenario_machine(s, id)->node), 0, counters, 256);
    for (uint32_t i = 0; i < count; i++) {
        size_t have = strnlen(counters[i].name, sizeof counters[i].name);
        if (have >= length && memcmp(counters[i].name + have - length, name, length) == 0)
            return counters[i].value;
    }
    scenario_broken(s, "node %u has no counter %s", id, name);
}

void scenario_settle(struct scenario *s) {
    scenario_no_rules(s);
    scenario_heal(s);
    for (uint16_t id = 1; id <= s->sim->node_count; id++) {
        s->paused[id] = false;
        sim_disk_hold(scenario_machine(s, id)->disk, NULL);
        if (scenario_machine(s, id)->node == NULL) scenario_restart(s, id);
    }
    scenario_run(s, 500);
    AWAIT(s, 2000, scenario_leader(s) != 0);
    scenario_run(s, 300);
    sim_check_final(s->sim);
}
