// What programs should not do, and may: give back what they no longer hold, or under a wrong name;
// renew what is over; let go of a lease while they hold. None of it may harm anybody else.
#include "sim_client.h"

// A short lease that is left to die in a queue, or holding. At about the moment it is over it is
// renewed, or the lock it waits for, of the same client, is given back: then it must be passed
// over.
static void on_ghost(void *context, const struct core_result *result) {
    struct client *client = context;
    struct sim *sim = client->sim;
    char text[16];
    client->ghost.asked = false;
    if (result->status != WIRE_OK) return;
    client->ghost.id = result->token;
    uint64_t ttl_ns = client->ghost.ttl_ms * SIM_MS;
    // A release on its way when the lease ends: the leader's own round is the only time in which
    // the one is in the log and the other is not.
    client->ghost.over_ns =
        client->ghost.asked_ns + ttl_ns + ttl_ns / 1000 + sim_draw(sim, 6 * SIM_MS / 10);
    client->ghost.over_ns -= 4 * SIM_MS / 10;
    uint32_t name = (uint32_t)sim_draw(sim, SIM_NAMES);
    for (uint32_t i = 0; i < client->task_count; i++) {
        struct task *task = &client->tasks[i];
        if (task->stage != STAGE_HOLDING) continue;
        name = task->name;
        task->next_ns = client->ghost.over_ns;
    }
    uint32_t length = sim_workload_name(name, text);
    (void)core_acquire(client->core, client_clock(client), text, length, client->ghost.id,
                       WIRE_WAIT_FOREVER, NULL, NULL);
}

static void raise_ghost(struct client *client) {
    if (client->ghost.asked || client->ghost.id != 0) return;
    client->ghost.ttl_ms = 10 + sim_draw(client->sim, 150);
    client->ghost.asked_ns = client->sim->now_ns;
    struct core_call call = {.op = WIRE_OP_LEASE_GRANT, .amount = client->ghost.ttl_ms};
    client->ghost.asked =
        core_start(client->core, client_clock(client), &call, on_ghost, client) == WIRE_OK;
}

void mischief_renew_ghost(struct client *client) {
    if (client->ghost.id == 0 || client->sim->now_ns < client->ghost.over_ns) return;
    struct core_call call = {.op = WIRE_OP_LEASE_KEEPALIVE, .lease = client->ghost.id};
    if (sim_draw(client->sim, 2) == 0)
        (void)core_start(client->core, client_clock(client), &call, NULL, NULL);
    client->ghost.id = 0;
}

uint64_t mischief_wakes(const struct client *client) {
    return client->ghost.id == 0 ? UINT64_MAX : client->ghost.over_ns;
}

void mischief_do(struct client *client) {
    struct sim *sim = client->sim;
    uint64_t now_ns = client_clock(client);
    uint32_t at = (uint32_t)sim_draw(sim, CLIENT_OLD);
    char name[16];
    uint64_t token = client->old[at].token;
    if (token == 0) return;
    sim->stats.mischief++;
    uint32_t length = sim_workload_name(client->old[at].name, name);
    bool mine = false; // now
    for (uint32_t i = 0; i < client->task_count; i++)
        mine |= client->tasks[i].stage >= STAGE_ACQUIRING && client->tasks[i].token == token;
    struct core_call call = {.name = name, .name_length = (uint8_t)length};
    switch (sim_draw(sim, 8)) {
    case 0: // a release of what it held once, or of what nobody was ever given
        if (!mine) (void)core_release(client->core, now_ns, name, length, token, NULL, NULL);
        return;
    case 1: // a right token for a wrong name; one entry may have granted both, and then it is right
        length = sim_workload_name((client->old[at].name + 1) % SIM_NAMES, name);
        if (sim_leader(sim) == NULL ||
            sim_token_in(node_machine(sim_leader(sim)->node), name, length) == token)
            return;
        (void)core_release(client->core, now_ns, name, length, token, NULL, NULL);
        return;
    case 2: // a lease that is over, as a rule
        call = (struct core_call){.op = WIRE_OP_LEASE_KEEPALIVE, .lease = client->old[at].lease};
        break;
    case 3: // while it holds, perhaps
        client_give_up_lease(&client->leases[sim_draw(sim, CLIENT_LEASES)]);
        return;
    case 4:
    case 5:
        raise_ghost(client);
        return;
    case 6:
        call.op = sim_draw(sim, 2) == 0 ? WIRE_OP_LOCK_HOLDERS : WIRE_OP_LOCK_QUEUE;
        break;
    default:
        call = (struct core_call){.op = WIRE_OP_LEASE_TTL, .lease = client->old[at].lease};
        break;
    }
    (void)core_start(client->core, now_ns, &call, NULL, NULL);
}
