// A simulated client, shared by its two files: what programs do (sim_client.c), and what they
// should not do (sim_mischief.c).
#ifndef CONCLAVE_SIM_CLIENT_H
#define CONCLAVE_SIM_CLIENT_H

#include "core.h"
#include "sim_internal.h"

#define CLIENT_LOCKS  8u
#define CLIENT_CALLS  128u // of a task; far more than can be open
#define CLIENT_TASKS  3u
#define CLIENT_LEASES 2u
#define CLIENT_OLD    8u // tokens remembered for mischief

enum stage { STAGE_NO_LEASE, STAGE_FREE, STAGE_ACQUIRING, STAGE_HOLDING, STAGE_RELEASING };

struct client;
struct task;

// What an operation was begun for. When the task has turned to something else meanwhile (its lease
// ran out), the late answer is not taken for that of the newer operation.
struct call {
    struct task *task;
    uint64_t number;
};

struct lease {
    struct client *client;
    uint64_t id;      // 0: none
    uint64_t lost;    // the one before, which the engine still remembers; 0: none
    bool leasing;     // asked for
    uint64_t next_ns; // when another is asked for
};

struct task { // one lock at a time
    struct client *client;
    struct lease *lease;
    enum stage stage;
    uint32_t name; // acquiring, holding or releasing
    uint64_t token;
    bool doubled;         // its release was sent twice
    uint64_t next_ns;     // when it does something again
    uint64_t begun_ns;    // of the operation that is open
    uint64_t call_number; // of the operation that is open
    struct call calls[CLIENT_CALLS];
    struct { // token 0: nothing is believed
        uint64_t token, from_ns, until_ns;
        uint32_t name;
    } belief;
};

struct client {
    struct sim *sim;
    struct sim_workload *workload;
    uint32_t number;
    uint64_t endpoint;
    struct port *port;
    struct core *core;          // NULL between two lives
    struct sim_machine machine; // its clock; nothing else of it is used
    uint64_t next_ns;           // when it lives again
    uint64_t suspended_ns;      // it does nothing until then
    uint64_t doubt_ns;          // its clock stood still: what it believes is not right until then
    uint64_t completed_from_ns; // begin of the newest operation that completed well
    struct lease leases[CLIENT_LEASES];
    uint32_t task_count;
    struct task tasks[CLIENT_TASKS];
    struct {
        uint64_t token, lease;
        uint32_t name;
    } old[CLIENT_OLD]; // what it held once
    uint32_t old_count;
    struct { // a lease nobody keeps, with a place in a queue
        uint64_t id;
        uint64_t ttl_ms;
        uint64_t asked_ns, over_ns;
        bool asked;
    } ghost;
};

struct sim_workload {
    struct sim *sim;
    uint32_t client_count;
    struct client clients[SIM_CLIENTS_MAX];
    uint64_t newest_token[SIM_NAMES]; // of a hold that was believed
};

uint64_t client_clock(struct client *client);
void client_give_up_lease(struct lease *lease);
// What this node has of a lock: token of its holder, 0 if it is free.
uint64_t sim_token_in(const struct machine *machine, const char *name, uint32_t length);

// sim_mischief.c
void mischief_do(struct client *client);
void mischief_renew_ghost(struct client *client);     // if its time has come
uint64_t mischief_wakes(const struct client *client); // when that is; UINT64_MAX: never

#endif
