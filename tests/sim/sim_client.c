// Clients of a simulated cluster: each lives on a machine with a clock of its own, drives the real
// client engine (client/core.h), and does what programs do with locks: take a lease, try or wait
// for a lock, hold it for a while, give it back; some die holding. Checked while it happens:
//   - no two clients believe at the same moment that they hold the same lock;
//   - the token of a hold is larger than that of every earlier hold of that name;
//   - what a client believes to hold at the end, the cluster says too.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "sim_internal.h"

#define CLIENT_LOCKS 8u
#define CLIENT_CALLS 256u // far more than can be open

enum stage {
    STAGE_NO_LEASE,
    STAGE_LEASING,
    STAGE_FREE,
    STAGE_ACQUIRING,
    STAGE_HOLDING,
    STAGE_RELEASING
};

// What an operation was begun for. When the client has turned to something else meanwhile (its
// lease ran out), the late answer is not taken for that of the newer operation.
struct call {
    struct client *client;
    uint64_t number;
};

struct client {
    struct sim *sim;
    struct sim_workload *workload;
    uint32_t number;
    uint32_t lives;
    uint64_t endpoint;
    struct port *port;
    struct core *core;          // NULL between two lives
    struct sim_machine machine; // its clock; nothing else of it is used
    enum stage stage;
    uint64_t lease;
    uint32_t name; // acquiring, holding or releasing
    uint64_t token;
    uint64_t next_ns;           // when it does something again
    uint64_t suspended_ns;      // it does nothing until then
    uint64_t doubt_ns;          // its clock stood still: what it believes is not right until then
    uint64_t begun_ns;          // of the operation that is open
    uint64_t completed_from_ns; // begin of the newest operation that completed well
    uint64_t call_number;       // of the operation that is open
    struct call calls[CLIENT_CALLS];
};

struct sim_workload {
    struct sim *sim;
    uint32_t client_count;
    struct client clients[SIM_CLIENTS_MAX];
    uint64_t newest_token[SIM_NAMES]; // of a hold that was believed
};

void sim_workload_name(uint32_t number, char name[16]) {
    snprintf(name, 16, "lock/%u", number);
}

static uint64_t client_clock(struct client *client) {
    return sim_clock(client->sim, &client->machine);
}

static struct call *begin_call(struct client *client) {
    struct call *call = &client->calls[++client->call_number % CLIENT_CALLS];
    *call = (struct call){.client = client, .number = client->call_number};
    client->begun_ns = client->sim->now_ns;
    return call;
}

// Does what this client believes count? Not when its clock, or a node's, has broken the bound that
// leases rest on (docs/semantics.md): until leases of then have surely ended, only tokens hold.
static bool in_doubt(const struct client *client) {
    return client->sim->now_ns < client->doubt_ns ||
           client->sim->now_ns < client->sim->faults.doubt_ns;
}

static bool is_open(const struct call *call, enum stage stage) {
    return call->number == call->client->call_number && call->client->stage == stage;
}

// ---------------------------------------------------------------- what the engine calls back

static void on_lost(void *context, uint64_t lease, enum conclave_status reason) {
    struct client *client = context;
    client->sim->stats.lost_leases++;
    sim_trace(client->sim, "client %u loses lease %lu (%u)", client->number, (unsigned long)lease,
              reason);
    client->stage = STAGE_NO_LEASE;
    client->next_ns = client->sim->now_ns + sim_draw(client->sim, 50 * SIM_MS);
}

static void finished(struct client *client, enum stage stage, uint64_t rest_ns) {
    client->stage = stage;
    if (client->sim->busy) rest_ns /= 100;
    client->next_ns = client->sim->now_ns + sim_draw(client->sim, rest_ns);
    if (client->begun_ns > client->completed_from_ns) client->completed_from_ns = client->begun_ns;
}

static void on_leased(void *context, const struct core_result *result) {
    const struct call *call = context;
    struct client *client = call->client;
    if (!is_open(call, STAGE_LEASING)) return;
    if (result->status != WIRE_OK) {
        client->stage = STAGE_NO_LEASE;
        client->next_ns = client->sim->now_ns + sim_draw(client->sim, 100 * SIM_MS);
        return;
    }
    client->lease = result->token != 0 && result->lease == 0 ? result->token : result->lease;
    finished(client, STAGE_FREE, 10 * SIM_MS);
}

static void give_up_lease(struct client *client) {
    (void)core_lease_close(client->core, client_clock(client), client->lease, NULL, NULL);
    client->stage = STAGE_NO_LEASE;
    client->next_ns = client->sim->now_ns + sim_draw(client->sim, 50 * SIM_MS);
}

static void on_acquired(void *context, const struct core_result *result) {
    const struct call *call = context;
    struct client *client = call->client;
    struct sim *sim = client->sim;
    if (!is_open(call, STAGE_ACQUIRING)) return;
    char name[16];
    sim_workload_name(client->name, name);
    switch (result->status) {
    case WIRE_OK:
        sim->stats.grants++;
        client->token = result->token;
        finished(client, STAGE_HOLDING, 300 * SIM_MS);
        sim_trace(sim, "client %u holds %s with token %lu", client->number, name,
                  (unsigned long)result->token);
        uint64_t held = core_held(client->core, client_clock(client), name, (uint32_t)strlen(name));
        if (held == 0) return; // granted too late to be believed
        if (held != result->token)
            sim_broken(sim, "client %u was told token %lu but holds %lu", client->number,
                       (unsigned long)result->token, (unsigned long)held);
        if (in_doubt(client) && held < client->workload->newest_token[client->name]) return;
        if (held <= client->workload->newest_token[client->name])
            sim_broken(sim, "token %lu of %s is not larger than %lu before it", (unsigned long)held,
                       name, (unsigned long)client->workload->newest_token[client->name]);
        client->workload->newest_token[client->name] = held;
        return;
    case WIRE_WOULD_BLOCK:
    case WIRE_WAIT_TIMEOUT:
        sim->stats.refused++;
        finished(client, STAGE_FREE, 50 * SIM_MS);
        return;
    case WIRE_UNKNOWN:
        sim->stats.unknown++;
        give_up_lease(client); // it may be ours: only the end of the lease makes sure it is not
        return;
    default:
        if (client->stage == STAGE_ACQUIRING) finished(client, STAGE_FREE, 50 * SIM_MS);
        return;
    }
}

static void on_released(void *context, const struct core_result *result) {
    const struct call *call = context;
    struct client *client = call->client;
    struct sim *sim = client->sim;
    if (!is_open(call, STAGE_RELEASING)) return;
    if (result->status == WIRE_OK) {
        sim->stats.releases++;
        finished(client, STAGE_FREE, 50 * SIM_MS);
        return;
    }
    if (result->status == WIRE_UNKNOWN || result->status == CORE_TIMEOUT) {
        sim->stats.unknown++;
        give_up_lease(client);
        return;
    }
    // The lease was alive when the release was sent, so the grant must have been there, unless the
    // lease ran out on the way.
    sim_trace(sim, "client %u: release of token %lu answered %u", client->number,
              (unsigned long)client->token, result->status);
    if (!in_doubt(client) &&
        core_lease_remaining_ns(client->core, client_clock(client), client->lease) > 0)
        sim_broken(sim, "client %u: an acknowledged grant (token %lu) was gone: status %u",
                   client->number, (unsigned long)client->token, result->status);
    finished(client, STAGE_FREE, 50 * SIM_MS);
}

// ---------------------------------------------------------------- what a client does

static void begin_life(struct client *client) {
    struct sim *sim = client->sim;
    client->lives++;
    client->endpoint =
        wire_endpoint_pack(0x0a000100u + client->number, (uint16_t)(1000 + client->number));
    client->port = sim_net_port(sim->net, client->endpoint);
    sim_net_forget(sim->net, client->endpoint);
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
    client->stage = STAGE_NO_LEASE;
    client->next_ns = sim->now_ns;
}

static void end_life(struct client *client) {
    free(client->core); // no farewell: its lease runs out
    client->core = NULL;
    client->next_ns = client->sim->now_ns + sim_draw(client->sim, 500 * SIM_MS);
}

static void take_lease(struct client *client) {
    struct sim *sim = client->sim;
    struct core_keep keep = {.ttl_ms = 200 + sim_draw(sim, CLIENT_TTL_MAX_MS - 200),
                             .lost = on_lost,
                             .lost_context = client};
    // One that was lost keeps its place in the engine until it is closed or forgotten.
    (void)core_lease_forget(client->core, client_clock(client), client->lease);
    client->stage = STAGE_LEASING;
    struct call *call = begin_call(client);
    if (core_lease_keep(client->core, client_clock(client), &keep, on_leased, call) != WIRE_OK)
        client->stage = STAGE_NO_LEASE;
}

static void take_lock(struct client *client) {
    struct sim *sim = client->sim;
    static const uint64_t waits_ms[] = {0, 0, 100, 1000, 5000, WIRE_WAIT_FOREVER};
    char name[16];
    client->name = (uint32_t)sim_draw(sim, SIM_NAMES);
    sim_workload_name(client->name, name);
    client->stage = STAGE_ACQUIRING;
    struct call *call = begin_call(client);
    sim->stats.requests++;
    uint16_t status = core_acquire(client->core, client_clock(client), name, (uint32_t)strlen(name),
                                   client->lease, waits_ms[sim_draw(sim, 6)], on_acquired, call);
    if (status != WIRE_OK) finished(client, STAGE_FREE, 50 * SIM_MS);
}

static void give_lock(struct client *client) {
    char name[16];
    sim_workload_name(client->name, name);
    client->stage = STAGE_RELEASING;
    struct call *call = begin_call(client);
    uint16_t status = core_release(client->core, client_clock(client), name, (uint32_t)strlen(name),
                                   client->token, on_released, call);
    if (status != WIRE_OK) finished(client, STAGE_FREE, 50 * SIM_MS);
}

static void act(struct client *client) {
    if (client->sim->now_ns < client->next_ns) return;
    switch (client->stage) {
    case STAGE_NO_LEASE:
        take_lease(client);
        break;
    case STAGE_FREE:
        take_lock(client);
        break;
    case STAGE_HOLDING:
        give_lock(client);
        break;
    case STAGE_LEASING:
    case STAGE_ACQUIRING:
    case STAGE_RELEASING:
        break; // the engine answers
    }
}

static void step_client(struct client *client) {
    struct sim *sim = client->sim;
    _Alignas(8) uint8_t bytes[WIRE_FRAME_MAX];
    uint64_t from;
    if (client->core == NULL) {
        if (sim->now_ns < client->next_ns) return;
        begin_life(client);
    }
    if (sim->now_ns < client->suspended_ns) return;
    for (uint32_t length;
         (length = sim_net_receive(sim->net, client->endpoint, &from, bytes, sizeof bytes)) > 0;)
        core_receive(client->core, client_clock(client), from, bytes, length);
    core_tick(client->core, client_clock(client));
    act(client);
    struct core_datagram datagram;
    while (core_send(client->core, client_clock(client), &datagram))
        sim_net_send(sim->net, client->endpoint, datagram.endpoint, datagram.bytes,
                     datagram.length);
}

static void check_exclusion(struct sim_workload *workload) {
    for (uint32_t n = 0; n < SIM_NAMES; n++) {
        char name[16];
        sim_workload_name(n, name);
        const struct client *holder = NULL;
        for (uint32_t i = 0; i < workload->client_count; i++) {
            struct client *client = &workload->clients[i];
            if (client->core == NULL || client->stage < STAGE_HOLDING || client->name != n ||
                in_doubt(client))
                continue;
            if (core_held(client->core, client_clock(client), name, (uint32_t)strlen(name)) == 0)
                continue;
            if (holder != NULL)
                sim_broken(workload->sim, "clients %u and %u both hold %s", holder->number,
                           client->number, name);
            holder = client;
        }
    }
}

void sim_workload_step(struct sim_workload *workload) {
    for (uint32_t i = 0; i < workload->client_count; i++) step_client(&workload->clients[i]);
    check_exclusion(workload);
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
    return true;
}

bool sim_workload_suspend(struct sim_workload *workload, uint64_t until_ns, bool clock_too) {
    struct client *client = some_client(workload);
    uint64_t now_ns = workload->sim->now_ns;
    if (client == NULL || client->suspended_ns > now_ns) return false;
    sim_trace(workload->sim, "client %u is suspended%s", client->number,
              clock_too ? ", and its clock with it" : "");
    client->suspended_ns = until_ns;
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
    static const char *const names[] = {"has no lease", "asks for a lease", "is free", "acquires",
                                        "holds",        "releases"};
    for (uint32_t i = 0; i < workload->client_count; i++) {
        const struct client *c = &workload->clients[i];
        printf("client %u: %s lock/%u (token %lu, lease %lu) since %.6f s\n", c->number,
               c->core == NULL ? "is dead," : names[c->stage], c->name, (unsigned long)c->token,
               (unsigned long)c->lease, (double)c->begun_ns / 1e9);
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

void sim_workload_final_check(struct sim_workload *workload) {
    struct sim *sim = workload->sim;
    const struct sim_machine *leader = sim_leader(sim);
    if (leader == NULL) sim_broken(sim, "no leader at the end of the calm phase");
    const struct machine *machine = node_machine(leader->node);
    for (uint32_t i = 0; i < workload->client_count; i++) {
        struct client *client = &workload->clients[i];
        char name[16];
        sim_workload_name(client->name, name);
        uint32_t length = (uint32_t)strlen(name);
        uint64_t held =
            client->core == NULL ? 0 : core_held(client->core, client_clock(client), name, length);
        if (held == 0) continue;
        struct {
            struct wire_request request;
            char name[16];
        } query = {.request = {.op = WIRE_OP_LOCK_HOLDERS, .name_length = (uint8_t)length}};
        memcpy(query.name, name, length);
        struct machine_reply reply;
        struct wire_claim claims[WIRE_VALUE_MAX / sizeof(struct wire_claim)];
        memset(claims, 0, sizeof claims);
        machine_query(machine, machine_time(machine), &query.request, &reply, claims);
        if (claims[0].token != held)
            sim_broken(sim, "client %u holds %s with token %lu, the cluster says %lu",
                       client->number, name, (unsigned long)held, (unsigned long)claims[0].token);
    }
}

struct sim_workload *sim_workload_create(struct sim *sim) {
    struct sim_workload *workload = calloc(1, sizeof *workload);
    workload->sim = sim;
    workload->client_count = 2 + (uint32_t)sim_draw(sim, SIM_CLIENTS_MAX - 1);
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
