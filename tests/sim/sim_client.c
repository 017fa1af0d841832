// Clients of a simulated cluster: each lives on a machine with a clock of its own, drives the real
// client engine (client/core.h), and does what programs do with locks: take leases, try or wait for
// several locks at once, hold them for a while, give them back; some die holding. And it does what
// programs should not: gives back what it no longer holds, renews what is over, lets go of a lease
// while it holds. Checked while it happens:
//   - no two clients believe at the same moment that they hold the same lock;
//   - the token of a hold is larger than that of every earlier hold of that name;
//   - a grant is still there when it is given back under a living lease;
//   - what a client believes to hold at the end, the cluster says too.
// All the rest is judged from the history (recorder.h, check.h).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_client.h"

uint32_t sim_workload_name(uint32_t number, char name[16]) {
    memcpy(name, "lock/0", 7);
    name[5] = (char)('0' + number);
    return 6;
}

uint64_t client_clock(struct client *client) {
    return sim_clock(client->sim, &client->machine);
}

static struct call *begin_call(struct task *task) {
    struct call *call = &task->calls[++task->call_number % CLIENT_CALLS];
    *call = (struct call){.task = task, .number = task->call_number};
    task->begun_ns = task->client->sim->now_ns;
    return call;
}

// Does what this client believes count? Not when its clock, or a node's, has broken the bound that
// leases rest on (docs/semantics.md): until leases of then have surely ended, only tokens hold.
static bool in_doubt(const struct client *client) {
    return client->sim->now_ns < client->doubt_ns ||
           client->sim->now_ns < client->sim->faults.doubt_ns;
}

static bool is_open(const struct call *call, enum stage stage) {
    return call->number == call->task->call_number && call->task->stage == stage;
}

static void rest(struct task *task, uint64_t rest_ns) {
    struct sim *sim = task->client->sim;
    if (sim->busy) rest_ns /= 100;
    task->next_ns = sim->now_ns + sim_draw(sim, rest_ns);
}

static void finished(struct task *task, enum stage stage, uint64_t rest_ns) {
    task->stage = stage;
    rest(task, rest_ns);
    if (task->begun_ns > task->client->completed_from_ns)
        task->client->completed_from_ns = task->begun_ns;
}

// ---------------------------------------------------------------- leases

static void lease_is_gone(struct lease *lease) {
    struct client *client = lease->client;
    lease->id = 0;
    lease->next_ns = client->sim->now_ns + sim_draw(client->sim, 50 * SIM_MS);
    for (uint32_t i = 0; i < client->task_count; i++)
        if (client->tasks[i].lease == lease) client->tasks[i].stage = STAGE_NO_LEASE;
}

static void on_lost(void *context, uint64_t id, enum conclave_status reason) {
    struct lease *lease = context;
    struct client *client = lease->client;
    client->sim->stats.lost_leases++;
    sim_trace(client->sim, "client %u loses lease %lu (%u)", client->number, (unsigned long)id,
              reason);
    if (lease->id != id) return;
    lease_is_gone(lease);
    lease->lost = id;
}

static void on_leased(void *context, const struct core_result *result) {
    struct lease *lease = context;
    struct sim *sim = lease->client->sim;
    lease->leasing = false;
    if (result->status != WIRE_OK) {
        lease->next_ns = sim->now_ns + sim_draw(sim, 100 * SIM_MS);
        return;
    }
    lease->id = result->lease;
    for (uint32_t i = 0; i < lease->client->task_count; i++) {
        struct task *task = &lease->client->tasks[i];
        if (task->lease != lease) continue;
        task->stage = STAGE_FREE;
        rest(task, 10 * SIM_MS);
    }
}

void client_give_up_lease(struct lease *lease) {
    struct client *client = lease->client;
    if (lease->id == 0) return;
    (void)core_lease_close(client->core, client_clock(client), lease->id, NULL, NULL);
    lease_is_gone(lease);
}

static void take_lease(struct lease *lease) {
    struct client *client = lease->client;
    struct core_keep keep = {.ttl_ms = 200 + sim_draw(client->sim, CLIENT_TTL_MAX_MS - 200),
                             .lost = on_lost,
                             .lost_context = lease};
    // One that was lost keeps its place in the engine until it is closed or forgotten.
    if (lease->lost != 0) (void)core_lease_forget(client->core, client_clock(client), lease->lost);
    lease->lost = 0;
    lease->leasing =
        core_lease_keep(client->core, client_clock(client), &keep, on_leased, lease) == WIRE_OK;
    if (!lease->leasing) lease->next_ns = client->sim->now_ns + sim_draw(client->sim, 50 * SIM_MS);
}

// ---------------------------------------------------------------- what the engine calls back

static void on_granted(struct task *task, uint64_t token) {
    struct client *client = task->client;
    struct sim *sim = client->sim;
    char name[16];
    uint32_t length = sim_workload_name(task->name, name);
    sim->stats.grants++;
    task->token = token;
    task->doubled = false;
    finished(task, STAGE_HOLDING, 300 * SIM_MS);
    client->old[client->old_count++ % CLIENT_OLD].token = token;
    client->old[(client->old_count - 1) % CLIENT_OLD].lease = task->lease->id;
    client->old[(client->old_count - 1) % CLIENT_OLD].name = task->name;
    sim_trace(sim, "client %u holds %s with token %lu", client->number, name, (unsigned long)token);
    uint64_t held = core_held(client->core, client_clock(client), name, length);
    if (held != 0 && held != token) // 0: granted too late to be believed
        sim_broken(sim, "client %u was told token %lu but holds %lu", client->number,
                   (unsigned long)token, (unsigned long)held);
}

static void on_acquired(void *context, const struct core_result *result) {
    const struct call *call = context;
    struct task *task = call->task;
    struct sim *sim = task->client->sim;
    if (!is_open(call, STAGE_ACQUIRING)) return;
    switch (result->status) {
    case WIRE_OK:
        on_granted(task, result->token);
        return;
    case WIRE_WOULD_BLOCK:
    case WIRE_WAIT_TIMEOUT:
        sim->stats.refused++;
        sim_trace(sim, "client %u does not get lock/%u", task->client->number, task->name);
        finished(task, STAGE_FREE, 50 * SIM_MS);
        return;
    case WIRE_UNKNOWN:
        sim->stats.unknown++;
        sim_trace(sim, "client %u does not know whether it got lock/%u", task->client->number,
                  task->name);
        // It may be ours: only the end of the lease makes sure it is not.
        client_give_up_lease(task->lease);
        return;
    default:
        finished(task, STAGE_FREE, 50 * SIM_MS);
        return;
    }
}

static void on_released(void *context, const struct core_result *result) {
    const struct call *call = context;
    struct task *task = call->task;
    struct client *client = task->client;
    struct sim *sim = client->sim;
    if (!is_open(call, STAGE_RELEASING)) return;
    if (result->status == WIRE_OK) {
        sim->stats.releases++;
        sim_trace(sim, "client %u has given token %lu back", client->number,
                  (unsigned long)task->token);
        finished(task, STAGE_FREE, 50 * SIM_MS);
        return;
    }
    if (result->status == WIRE_UNKNOWN || result->status == CORE_TIMEOUT) {
        sim->stats.unknown++;
        client_give_up_lease(task->lease);
        return;
    }
    // The lease was alive when the release was sent, so the grant must have been there, unless the
    // lease ran out on the way, or the other of two releases was quicker.
    sim_trace(sim, "client %u: release of token %lu answered %u", client->number,
              (unsigned long)task->token, result->status);
    bool alive = core_lease_remaining_ns(client->core, client_clock(client), task->lease->id) > 0;
    if (alive && !task->doubled && !in_doubt(client))
        sim_broken(sim, "client %u: an acknowledged grant (token %lu) was gone: status %u",
                   client->number, (unsigned long)task->token, result->status);
    finished(task, STAGE_FREE, 50 * SIM_MS);
}

// ---------------------------------------------------------------- what a client does

static void begin_life(struct client *client) {
    struct sim *sim = client->sim;
    client->endpoint =
        wire_endpoint_pack(0x0a000100u + client->number, (uint16_t)(1000 + client->number));
    client->port = sim_net_port(sim->net, client->endpoint, SIM_ACTOR_CLIENTS + client->number - 1);
    sim_net_forget(sim->net, client->endpoint);
    recorder_begin(&sim->recorder, (uint8_t)client->number);
    struct core_options options = {
        .endpoint_count = sim->node_count,
        .seed = sim_draw(sim, UINT32_MAX),
        .nonce = sim_draw(sim, UINT64_MAX - 1) + 1,
        .timeout_ns = 2000 * SIM_MS,
        .operations = 16,
        .leases = 4,
        .locks = CLIENT_LOCKS,
    };
    for (uint32_t i = 0; i < sim->node_count; i++) options.endpoints[i] = sim->machines[i].endpoint;
    size_t bytes = (core_bytes(&options) + 63u) & ~(size_t)63u;
    void *memory = aligned_alloc(64, bytes);
    memset(memory, 0, bytes);
    client->core = core_create(memory, &options, client_clock(client));
    client->task_count = 1 + (uint32_t)sim_draw(sim, CLIENT_TASKS);
    memset(&client->ghost, 0, sizeof client->ghost);
    for (uint32_t i = 0; i < CLIENT_LEASES; i++)
        client->leases[i] = (struct lease){.client = client, .next_ns = sim->now_ns};
    for (uint32_t i = 0; i < client->task_count; i++) {
        struct task *task = &client->tasks[i];
        memset(task, 0, sizeof *task);
        task->client = client;
        task->lease = &client->leases[i / 2];
    }
}

static void note_beliefs(struct client *client);

static void end_life(struct client *client) {
    for (uint32_t i = 0; i < client->task_count; i++) client->tasks[i].stage = STAGE_NO_LEASE;
    note_beliefs(client);
    free(client->core); // no farewell: its leases run out
    client->core = NULL;
    client->next_ns = client->sim->now_ns + sim_draw(client->sim, 500 * SIM_MS);
}

// A name that none of the client's other tasks is busy with; SIM_NAMES: none was drawn.
static uint32_t draw_name(struct client *client) {
    uint32_t name = (uint32_t)sim_draw(client->sim, SIM_NAMES);
    for (uint32_t i = 0; i < client->task_count; i++)
        if (client->tasks[i].stage >= STAGE_ACQUIRING && client->tasks[i].name == name)
            return SIM_NAMES;
    return name;
}

static void take_lock(struct task *task) {
    struct client *client = task->client;
    struct sim *sim = client->sim;
    static const uint64_t waits_ms[] = {0, 0, 100, 1000, 5000, WIRE_WAIT_FOREVER};
    char text[16];
    uint32_t name = draw_name(client);
    if (name == SIM_NAMES) {
        rest(task, 20 * SIM_MS);
        return;
    }
    task->name = name;
    task->stage = STAGE_ACQUIRING;
    struct call *call = begin_call(task);
    sim->stats.requests++;
    uint32_t length = sim_workload_name(name, text);
    uint64_t wait_ms = waits_ms[sim_draw(sim, 6)];
    if (wait_ms == WIRE_WAIT_FOREVER)
        sim_trace(sim, "client %u asks for lock/%u and waits", client->number, name);
    else
        sim_trace(sim, "client %u asks for lock/%u, for %lu ms", client->number, name,
                  (unsigned long)wait_ms);
    uint16_t status = core_acquire(client->core, client_clock(client), text, length,
                                   task->lease->id, wait_ms, on_acquired, call);
    // A wait of an earlier time may still be open here, or the engine be full.
    if (status != WIRE_OK) task->stage = STAGE_FREE, rest(task, 50 * SIM_MS);
}

static void give_lock(struct task *task) {
    struct client *client = task->client;
    struct sim *sim = client->sim;
    char name[16];
    uint32_t length = sim_workload_name(task->name, name);
    task->stage = STAGE_RELEASING;
    struct call *call = begin_call(task);
    uint16_t status = core_release(client->core, client_clock(client), name, length, task->token,
                                   on_released, call);
    if (status != WIRE_OK) {
        task->stage = STAGE_HOLDING;
        rest(task, 50 * SIM_MS);
    } else if (sim_strikes(sim, SIM_MISCHIEF)) {
        task->doubled = core_release(client->core, client_clock(client), name, length, task->token,
                                     NULL, NULL) == WIRE_OK;
        sim->stats.mischief += task->doubled;
    }
}

static void act(struct client *client) {
    struct sim *sim = client->sim;
    if (sim->resting) return;
    mischief_renew_ghost(client);
    for (uint32_t i = 0; i < (client->task_count + 1) / 2; i++) {
        struct lease *lease = &client->leases[i];
        if (lease->id == 0 && !lease->leasing && sim->now_ns >= lease->next_ns) take_lease(lease);
    }
    for (uint32_t i = 0; i < client->task_count; i++) {
        struct task *task = &client->tasks[i];
        if (sim->now_ns < task->next_ns) continue;
        if (task->stage != STAGE_FREE && task->stage != STAGE_HOLDING) continue; // engine answers
        if (sim_strikes(sim, SIM_MISCHIEF)) mischief_do(client);
        if (task->stage == STAGE_FREE)
            take_lock(task);
        else if (task->stage == STAGE_HOLDING)
            give_lock(task);
    }
}

// ---------------------------------------------------------------- what a client believes

static uint64_t believed(struct client *client, const struct task *task) {
    char name[16];
    if (client->core == NULL || task->stage != STAGE_HOLDING) return 0;
    uint32_t length = sim_workload_name(task->name, name);
    return core_held(client->core, client_clock(client), name, length);
}

static void check_exclusion(struct client *client, const struct task *task, uint64_t token) {
    struct sim_workload *workload = client->workload;
    struct sim *sim = client->sim;
    for (uint32_t i = 0; i < workload->client_count; i++) {
        struct client *other = &workload->clients[i];
        for (uint32_t k = 0; k < other->task_count && other != client; k++)
            if (other->tasks[k].name == task->name && !in_doubt(other) &&
                believed(other, &other->tasks[k]) != 0)
                sim_broken(sim, "clients %u and %u both hold lock/%u", other->number,
                           client->number, task->name);
    }
    if (token <= workload->newest_token[task->name])
        sim_broken(sim, "token %lu of lock/%u is not larger than %lu before it",
                   (unsigned long)token, task->name,
                   (unsigned long)workload->newest_token[task->name]);
    workload->newest_token[task->name] = token;
}

static void end_belief(struct client *client, struct task *task) {
    struct sim *sim = client->sim;
    struct history_hold *hold = history_add_hold(sim->recorder.history);
    char name[16];
    uint32_t length = sim_workload_name(task->belief.name, name);
    if (hold != NULL) {
        hold->client = (uint8_t)client->number;
        hold->name = history_name(sim->recorder.history, name, length);
        hold->token = task->belief.token;
        hold->from_ns = task->belief.from_ns;
        hold->to_ns = sim->now_ns < task->belief.until_ns ? sim->now_ns : task->belief.until_ns;
        uint64_t from_ns = sim->faults.doubt_from_ns;
        if (sim->now_ns < sim->faults.doubt_ns && from_ns < hold->to_ns)
            hold->to_ns = from_ns > hold->from_ns ? from_ns : hold->from_ns;
    }
    task->belief.token = 0;
}

// The interval ends where the client lets go, or at its deadline, whichever is first; the deadline
// is told by the client's clock and translated by its rate.
static void note_beliefs(struct client *client) {
    for (uint32_t i = 0; i < client->task_count; i++) {
        struct task *task = &client->tasks[i];
        uint64_t token = in_doubt(client) ? 0 : believed(client, task);
        if (task->belief.token != 0 && task->belief.token != token) end_belief(client, task);
        if (token == 0) continue;
        uint64_t now_ns = client->sim->now_ns;
        if (task->belief.token == 0) {
            check_exclusion(client, task, token);
            task->belief.token = token;
            task->belief.name = task->name;
            task->belief.from_ns = now_ns;
        }
        int64_t left_ns =
            (int64_t)core_lease_remaining_ns(client->core, client_clock(client), task->lease->id);
        left_ns -= left_ns / 1000000 * client->machine.drift_ppm;
        if (left_ns > 0) task->belief.until_ns = now_ns + (uint64_t)left_ns;
    }
}

// ---------------------------------------------------------------- its round

static void step_client(struct client *client) {
    struct sim *sim = client->sim;
    uint8_t number = (uint8_t)client->number;
    _Alignas(8) uint8_t bytes[WIRE_FRAME_MAX];
    uint64_t from;
    if (client->core == NULL) {
        if (sim->now_ns < client->next_ns) return;
        begin_life(client);
    }
    if (sim->now_ns < client->suspended_ns) return;
    for (uint32_t length;
         (length = sim_net_receive(sim->net, client->endpoint, &from, bytes, sizeof bytes)) > 0;) {
        recorder_received(&sim->recorder, number, sim->now_ns, bytes, length);
        core_receive(client->core, client_clock(client), from, bytes, length);
    }
    core_tick(client->core, client_clock(client));
    note_beliefs(client); // what was granted, before it is given back
    act(client);
    note_beliefs(client);
    struct core_datagram datagram;
    while (core_send(client->core, client_clock(client), &datagram)) {
        recorder_sent(&sim->recorder, number, sim->now_ns, datagram.bytes);
        sim_net_send(sim->net, client->endpoint, datagram.endpoint, datagram.bytes,
                     datagram.length);
    }
}

// When it does something again by itself: the engine, a task that is free or holds, a lease to
// take, a lease nobody keeps whose time comes.
static uint64_t client_wakes(const struct client *client) {
    if (client->core == NULL) return client->next_ns;
    uint64_t wake_ns = sim_when(&client->machine, core_next_timeout(client->core));
    uint64_t arrives_ns = sim_net_next(client->port), ghost_ns = mischief_wakes(client);
    if (arrives_ns < wake_ns) wake_ns = arrives_ns;
    if (client->sim->resting) return wake_ns;
    if (ghost_ns < wake_ns) wake_ns = ghost_ns;
    for (uint32_t i = 0; i < (client->task_count + 1) / 2; i++) {
        const struct lease *lease = &client->leases[i];
        if (lease->id == 0 && !lease->leasing && lease->next_ns < wake_ns) wake_ns = lease->next_ns;
    }
    for (uint32_t i = 0; i < client->task_count; i++) {
        const struct task *task = &client->tasks[i];
        bool acts = task->stage == STAGE_FREE || task->stage == STAGE_HOLDING;
        if (acts && task->next_ns < wake_ns) wake_ns = task->next_ns;
    }
    return wake_ns > client->suspended_ns ? wake_ns : client->suspended_ns;
}

uint64_t sim_workload_step(struct sim_workload *workload, uint32_t number) {
    struct client *client = &workload->clients[number];
    step_client(client);
    return client_wakes(client);
}

uint32_t sim_workload_idle(struct sim_workload *workload, uint32_t number) {
    struct client *client = &workload->clients[number];
    struct core_datagram datagram;
    uint32_t sent = 0;
    if (number >= workload->client_count || client->core == NULL) return 0;
    if (workload->sim->now_ns < client->suspended_ns) return 0;
    core_tick(client->core, client_clock(client));
    while (core_send(client->core, client_clock(client), &datagram)) sent++;
    return sent;
}

uint32_t sim_workload_clients(const struct sim_workload *workload) {
    return workload->client_count;
}

static struct client *some_client(struct sim_workload *workload) {
    struct client *client = &workload->clients[sim_draw(workload->sim, workload->client_count)];
    return client->core == NULL ? NULL : client;
}

bool sim_workload_kill(struct sim_workload *workload) {
    struct client *client = some_client(workload);
    if (client == NULL) return false;
    sim_trace(workload->sim, "client %u dies", client->number);
    end_life(client);
    sim_client_changed(workload->sim, client->number - 1);
    return true;
}

bool sim_workload_suspend(struct sim_workload *workload, uint64_t until_ns, bool clock_too) {
    struct client *client = some_client(workload);
    uint64_t now_ns = workload->sim->now_ns;
    if (client == NULL || client->suspended_ns > now_ns) return false;
    sim_trace(workload->sim, "client %u is suspended%s", client->number,
              clock_too ? ", and its clock with it" : "");
    client->suspended_ns = until_ns;
    sim_client_changed(workload->sim, client->number - 1);
    if (!clock_too) return true;
    (void)client_clock(client);
    client->machine.clock_base_ns -= until_ns - now_ns; // it goes on where it stood
    client->doubt_ns = until_ns + 2 * CLIENT_TTL_MAX_MS * SIM_MS;
    return true;
}

void sim_workload_wake(struct sim_workload *workload) {
    for (uint32_t i = 0; i < workload->client_count; i++) workload->clients[i].suspended_ns = 0;
}

uint64_t sim_workload_endpoint(const struct sim_workload *workload, uint32_t client) {
    return client < workload->client_count ? workload->clients[client].endpoint : 0;
}

void sim_workload_describe(const struct sim_workload *workload) {
    static const char *const names[] = {"has no lease", "is free", "acquires", "holds", "releases"};
    for (uint32_t i = 0; i < workload->client_count; i++) {
        const struct client *c = &workload->clients[i];
        printf("client %u%s:", c->number, c->core == NULL ? " is dead" : "");
        for (uint32_t k = 0; k < c->task_count; k++)
            printf(" %s lock/%u (token %lu, lease %lu) since %.6f s;", names[c->tasks[k].stage],
                   c->tasks[k].name, (unsigned long)c->tasks[k].token,
                   (unsigned long)c->tasks[k].lease->id, (double)c->tasks[k].begun_ns / 1e9);
        printf("\n");
    }
}

bool sim_workload_progressed(const struct sim_workload *workload, uint64_t since_ns) {
    for (uint32_t i = 0; i < workload->client_count; i++)
        if (workload->clients[i].completed_from_ns < since_ns) return false;
    return true;
}

uint64_t sim_workload_token(const struct sim_workload *workload, uint32_t name) {
    return workload->newest_token[name];
}

uint64_t sim_token_in(const struct machine *machine, const char *name, uint32_t length) {
    struct {
        struct wire_request request;
        char name[16];
    } query = {.request = {.op = WIRE_OP_LOCK_HOLDERS, .name_length = (uint8_t)length}};
    memcpy(query.name, name, length);
    struct machine_reply reply;
    struct wire_claim claims[WIRE_VALUE_MAX / sizeof(struct wire_claim)];
    memset(claims, 0, sizeof claims);
    machine_query(machine, machine_time(machine), &query.request, &reply, claims);
    return claims[0].token;
}

void sim_workload_final_check(struct sim_workload *workload) {
    struct sim *sim = workload->sim;
    const struct sim_machine *leader = sim_leader(sim);
    if (leader == NULL) sim_broken(sim, "no leader at the end of the calm phase");
    for (uint32_t i = 0; i < workload->client_count; i++) {
        struct client *client = &workload->clients[i];
        for (uint32_t k = 0; k < client->task_count; k++) {
            struct task *task = &client->tasks[k];
            char name[16];
            uint32_t length = sim_workload_name(task->name, name);
            uint64_t held = believed(client, task);
            if (task->belief.token != 0) end_belief(client, task);
            if (held == 0 || in_doubt(client)) continue;
            uint64_t token = sim_token_in(node_machine(leader->node), name, length);
            if (token != held)
                sim_broken(sim, "client %u holds %s with token %lu, the cluster says %lu",
                           client->number, name, (unsigned long)held, (unsigned long)token);
        }
    }
}

struct sim_workload *sim_workload_create(struct sim *sim) {
    struct sim_workload *workload = calloc(1, sizeof *workload);
    workload->sim = sim;
    workload->client_count = 2 + (uint32_t)sim_draw(sim, SIM_CLIENTS_MAX - 1);
    if (sim->options.clients != 0) workload->client_count = sim->options.clients;
    for (uint32_t i = 0; i < workload->client_count; i++) {
        struct client *client = &workload->clients[i];
        client->sim = sim;
        client->workload = workload;
        client->number = i + 1;
        if (sim_strikes(sim, SIM_DRIFT))
            client->machine.drift_ppm = (int64_t)sim_draw(sim, 801) - 400;
        client->machine.clock_base_ns =
            (100000 + sim_draw(sim, 1000)) * SIM_MS; // it may stand still
        begin_life(client);
    }
    return workload;
}

void sim_workload_destroy(struct sim_workload *workload) {
    for (uint32_t i = 0; i < workload->client_count; i++) free(workload->clients[i].core);
    free(workload);
}
