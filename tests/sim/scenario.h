// Scenarios: published bugs, each played out with the real cluster under scripted faults.
//
// A scenario begins with a cluster whose links, disks, elections and clients it decides about step
// by step; there is no chance in it but what is drawn from one fixed seed. It states the rule it
// guards, and ends with a word of what broke it (scenario_broken, a failed AWAIT or MUST, or a
// check of sim_check.c, which all hold here too). Nodes are named by their ids 1 .. n.
//
//   scenario.c         the list, and running them
//   scenario_world.c   time, nodes, links, messages kept back, disks
//   scenario_caller.c  clients that say exactly what they are told to
//   scenario_*.c       the scenarios
#ifndef CONCLAVE_SIM_SCENARIO_H
#define CONCLAVE_SIM_SCENARIO_H

#include "sim_internal.h"
#include "wire/wire.h"

#define SCENARIO_RULES   8u
#define SCENARIO_KEPT    512u
#define SCENARIO_CALLERS 64u
#define CALLER_ANSWERS   128u

enum scenario_action {
    LET_PASS,
    DROP,
    KEEP,     // kept back until scenario_deliver_kept()
    KEEP_COPY // goes on, and a copy is kept
};

enum scenario_what { ANYTHING, WITH_ENTRIES, REAL_VOTE }; // appends with some; no PreVote

struct scenario_rule { // for datagrams between nodes; the first that matches decides
    uint16_t from, to; // 0: any
    uint16_t type;     // enum wire_type of a message in it; 0: any
    enum scenario_what what;
    enum scenario_action action;
    uint32_t times; // then it is used up; 0: for ever
};

struct answer {
    uint64_t sequence;
    uint64_t token, amount, index;
    uint16_t op, status;
    uint32_t claims; // of the value, when it is a list
    struct wire_claim claim[8];
};

struct caller { // a client without a library: one request at a time, as told
    struct scenario *scenario;
    uint64_t endpoint;
    uint64_t session, lease;
    uint64_t sequence;                     // newest used
    uint64_t read_from;                    // reads are numbered apart
    struct answer answers[CALLER_ANSWERS]; // by sequence % CALLER_ANSWERS
    uint32_t answer_count;
    struct wire_event event; // newest
    uint32_t event_count;
    uint32_t late_grants; // events that grant to a lease that was marked dead
    bool lease_dead;
};

struct kept {
    uint64_t from, to;
    uint32_t length;
    uint8_t *bytes;
};

struct scenario {
    struct sim *sim;
    uint16_t only_candidate; // 0: all may ask for votes
    bool paused[SIM_NODES_MAX + 1];
    bool may_fail[SIM_NODES_MAX + 1];
    struct scenario_rule rules[SCENARIO_RULES];
    uint32_t rule_count;
    struct kept kept[SCENARIO_KEPT];
    uint32_t kept_count;
    struct caller *callers[SCENARIO_CALLERS];
    uint32_t caller_count;
};

struct scenario_entry {
    const char *name;
    const char *rule; // what must hold
    // NULL: waits for a feature that is not there yet; `rule` then says for what.
    void (*play)(struct scenario *s);
};

// scenario.c: plays what --scenario NAME or --scenarios asks for. The program's exit status; -1:
// neither was asked for.
int scenario_arguments(int argc, char **argv);

// ---------------------------------------------------------------- scenario_world.c
enum scenario_logs { LARGE_LOGS, SMALL_LOGS };
void scenario_begin(struct scenario *s, uint32_t nodes, enum scenario_logs logs);
void scenario_end(struct scenario *s);
void scenario_step(struct scenario *s); // 50 us, each node polled once
void scenario_run(struct scenario *s, uint32_t ms);
#define scenario_broken(s, ...) sim_broken((s)->sim, __VA_ARGS__)
// Steps until the condition holds; that it does within so many ms is part of the scenario.
#define AWAIT(s, ms, condition)                                                                    \
    do {                                                                                           \
        uint64_t limit_ns = (s)->sim->now_ns + (ms)*SIM_MS;                                        \
        while (!(condition)) {                                                                     \
            if ((s)->sim->now_ns > limit_ns)                                                       \
                scenario_broken(s, "%s:%d: waited %u ms in vain for: %s", __FILE__, __LINE__,      \
                                (unsigned)(ms), #condition);                                       \
            scenario_step(s);                                                                      \
        }                                                                                          \
    } while (0)
// The rule itself: `words` say what it means that the condition does not hold.
#define MUST(s, condition, ...)                                                                    \
    do {                                                                                           \
        if (!(condition)) scenario_broken(s, __VA_ARGS__);                                         \
    } while (0)
// What the scenario needs to have come about; without it, it would prove nothing.
#define GIVEN(s, condition)                                                                        \
    do {                                                                                           \
        if (!(condition))                                                                          \
            scenario_broken(s, "%s:%d: the scenario did not get there: %s", __FILE__, __LINE__,    \
                            #condition);                                                           \
    } while (0)

struct sim_machine *scenario_machine(struct scenario *s, uint16_t id);
const struct raft *scenario_raft(struct scenario *s, uint16_t id);
uint64_t scenario_applied(struct scenario *s, uint16_t id);
bool scenario_leads(struct scenario *s, uint16_t id);
uint16_t scenario_leader(struct scenario *s);         // that has committed in its term; 0: none
void scenario_elect(struct scenario *s, uint16_t id); // the others keep quiet until it leads
// Power goes: of each write in flight the first `sectors` of 512 bytes survive.
#define NOTHING_LANDS 0u
#define ALL_LANDS     UINT32_MAX
void scenario_crash(struct scenario *s, uint16_t id, uint32_t sectors);
void scenario_restart(struct scenario *s, uint16_t id);
void scenario_isolate(struct scenario *s, uint16_t id); // from nodes, not from clients
void scenario_heal(struct scenario *s);
void scenario_cut(struct scenario *s, uint16_t from, uint16_t to);
void scenario_rule(struct scenario *s, struct scenario_rule rule);
void scenario_no_rules(struct scenario *s);
void scenario_deliver_kept(struct scenario *s); // in order, a step after each
void scenario_forget_kept(struct scenario *s);
// Of the newest durable snapshot; 0: none.
uint64_t scenario_snapshot(struct scenario *s, uint16_t id);
// A node's counter whose name ends so.
uint64_t scenario_counter(struct scenario *s, uint16_t id, const char *name);
// All nodes are up, alike and in agreement with what was answered; else it is broken.
void scenario_settle(struct scenario *s);

// ---------------------------------------------------------------- scenario_caller.c
struct caller *caller_create(struct scenario *s);
void caller_receive(struct caller *c);
struct ask {
    uint16_t op;
    const char *name;
    uint64_t token, amount;
    uint64_t sequence; // 0: the next one; else that one once more
    bool other_lease;
    uint64_t lease; // with other_lease
};
uint64_t caller_send(struct caller *c, uint16_t node, const struct ask *ask);  // its sequence
const struct answer *caller_answer(const struct caller *c, uint64_t sequence); // NULL: none yet
// Sends and waits for the answer; again, to whoever leads, when it was refused unexecuted.
const struct answer *caller_call(struct caller *c, const struct ask *ask);
void caller_open(struct caller *c, uint64_t ttl_ms); // a session, and a lease if ttl_ms is not 0
uint64_t caller_acquire(struct caller *c, const char *name); // token of a free lock
// So many tries for one long name, all sent to this node at once: entries of some 330 bytes.
void caller_fill(struct caller *c, uint16_t node, uint32_t count);
// Token of the lock's holder as the leader tells it; 0: nobody.
uint64_t caller_holder(struct caller *c, const char *name);

#endif
