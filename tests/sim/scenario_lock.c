// Scenarios of leases, locks and queues.
#include "scenarios.h"

static void three(struct scenario *s) {
    scenario_begin(s, 3, LARGE_LOGS);
    scenario_elect(s, 1);
    scenario_run(s, 50);
}

static struct caller *open(struct scenario *s, uint64_t ttl_ms) {
    struct caller *c = caller_create(s);
    caller_open(c, ttl_ms);
    return c;
}

static void await_place(struct caller *c, const char *name, uint64_t wait_ms) {
    struct ask ask = {.op = WIRE_OP_LOCK_ACQUIRE, .name = name, .amount = wait_ms};
    const struct answer *answer = caller_call(c, &ask);
    GIVEN(c->scenario, answer->status == WIRE_QUEUED);
}

static struct ask release(const char *name, uint64_t token) {
    return (struct ask){.op = WIRE_OP_LOCK_RELEASE, .name = name, .token = token};
}

enum { LEASES = 56, AT_ONCE = 8 }; // at once: far fewer than a session's window

// Every lease of b waits for the lock.
static void crowd(struct scenario *s, struct caller *b) {
    for (uint32_t begin = 0; begin < LEASES; begin += AT_ONCE) {
        uint64_t asked[AT_ONCE], waiting[AT_ONCE];
        for (uint32_t i = 0; i < AT_ONCE; i++)
            asked[i] = caller_send(b, 1, &(struct ask){.op = WIRE_OP_LEASE_GRANT, .amount = 400});
        scenario_run(s, 1);
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            const struct answer *lease = caller_answer(b, asked[i]);
            GIVEN(s, lease != NULL && lease->status == WIRE_OK);
            waiting[i] = caller_send(b, 1,
                                     &(struct ask){.op = WIRE_OP_LOCK_ACQUIRE,
                                                   .name = "l",
                                                   .amount = WIRE_WAIT_FOREVER,
                                                   .other_lease = true,
                                                   .lease = lease->token});
        }
        scenario_run(s, 1);
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            const struct answer *place = caller_answer(b, waiting[i]);
            GIVEN(s, place != NULL && place->status == WIRE_QUEUED);
        }
    }
}

// So many leases run out at once that the leader cannot expire them all in one command: a release
// comes between, while some that wait are dead and not yet collected.
void play_grant_to_dead_waiter(struct scenario *s) {
    three(s);
    struct caller *a = open(s, 60000), *b = open(s, 0), *c = open(s, 60000);
    uint64_t token = caller_acquire(a, "l"), granted_ns = s->sim->now_ns;
    crowd(s, b);
    await_place(c, "l", WIRE_WAIT_FOREVER);
    while (s->sim->now_ns < granted_ns + 390 * SIM_MS) scenario_step(s);
    s->paused[1] = true; // until all have run out
    b->lease_dead = true;
    struct ask ask = release("l", token);
    caller_send(a, 1, &ask);
    scenario_run(s, 60);
    s->paused[1] = false;
    AWAIT(s, 100, c->event_count > 0);
    MUST(s, b->late_grants == 0, "the lock was granted to a waiter whose lease had run out");
    GIVEN(s, c->event.status == WIRE_OK);
    scenario_settle(s);
}

// A keepalive is in the leader's log and not committed when the lease runs out by what the leader
// has applied: it proposes the expiry behind the keepalive.
void play_stalled_expiry(struct scenario *s) {
    three(s);
    struct caller *b = open(s, 300);
    uint64_t granted_ns = s->sim->now_ns, token = caller_acquire(b, "l");
    while (s->sim->now_ns < granted_ns + 270 * SIM_MS) scenario_step(s);
    uint64_t before = scenario_counter(s, 1, "expiries_proposed");
    scenario_rule(s, (struct scenario_rule){.to = 1, .type = WIRE_APPEND_REPLY, .action = KEEP});
    uint64_t asked = caller_send(b, 1, &(struct ask){.op = WIRE_OP_LEASE_KEEPALIVE});
    AWAIT(s, 60, scenario_counter(s, 1, "expiries_proposed") > before);
    GIVEN(s, caller_answer(b, asked) == NULL);
    scenario_no_rules(s);
    scenario_deliver_kept(s);
    AWAIT(s, 50, caller_answer(b, asked) != NULL);
    GIVEN(s, caller_answer(b, asked)->status == WIRE_OK);
    scenario_run(s, 50);
    MUST(s, caller_holder(b, "l") == token, "a lease that was renewed has been ended");
    scenario_settle(s);
}

// So many leaders, each of whom dies so long after it was ready; then a lease of 800 ms is gone.
static void outlive_leaders(struct scenario *s, uint32_t leaders, uint32_t life_ms) {
    three(s);
    struct caller *b = open(s, 800);
    uint64_t granted_ns = s->sim->now_ns;
    for (uint32_t i = 0; i < leaders; i++) {
        scenario_run(s, life_ms);
        uint16_t leader = scenario_leader(s);
        GIVEN(s, leader != 0);
        scenario_crash(s, leader, ALL_LANDS);
        scenario_restart(s, leader);
        AWAIT(s, 1000, scenario_leader(s) != 0);
    }
    const struct answer *answer = caller_call(b, &(struct ask){.op = WIRE_OP_LEASE_TTL});
    MUST(s, answer->status != WIRE_OK, "a lease of 800 ms lives after %lu ms, with %lu ms to go",
         (unsigned long)((s->sim->now_ns - granted_ns) / SIM_MS), (unsigned long)answer->amount);
    scenario_settle(s);
}

void play_ttl_reset_on_election(struct scenario *s) {
    outlive_leaders(s, 6, 450);
}

// Leaders that die before they have written anything that carries the time on.
void play_short_lived_leaders(struct scenario *s) {
    outlive_leaders(s, 10, 150);
}

void play_token_reuse_delete(struct scenario *s) {
    three(s);
    struct caller *a = open(s, 60000);
    uint64_t newest = 0;
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t token = caller_acquire(a, "l");
        MUST(s, token > newest, "token %lu was granted after %lu", (unsigned long)token,
             (unsigned long)newest);
        newest = token;
        struct ask ask = release("l", token);
        caller_call(a, &ask);
        if (i != 1) continue;
        for (uint16_t id = 1; id <= 3; id++) scenario_crash(s, id, ALL_LANDS);
        for (uint16_t id = 1; id <= 3; id++) scenario_restart(s, id);
    }
    scenario_settle(s);
}

// The acquire comes once more after the release, then again at another leader.
void play_duplicate_request(struct scenario *s) {
    three(s);
    struct caller *a = open(s, 60000);
    struct ask ask = {.op = WIRE_OP_LOCK_ACQUIRE, .name = "l"};
    const struct answer *answer = caller_call(a, &ask);
    GIVEN(s, answer->status == WIRE_OK);
    uint64_t token = answer->token;
    ask.sequence = answer->sequence;
    struct ask back = release("l", token);
    caller_call(a, &back);
    for (uint32_t i = 0; i < 2; i++) {
        answer = caller_call(a, &ask);
        MUST(s, answer->status == WIRE_OK && answer->token == token,
             "a repeated request is answered %u with token %lu, at first it was token %lu",
             answer->status, (unsigned long)answer->token, (unsigned long)token);
        MUST(s, caller_holder(a, "l") == 0, "a repeated request was executed again");
        scenario_crash(s, scenario_leader(s), ALL_LANDS);
    }
    scenario_settle(s);
}

// The release is in the leader's log and not committed when the wait ends by what the leader has
// applied: it proposes the end of the wait behind the release.
void play_late_cancel(struct scenario *s) {
    three(s);
    struct caller *a = open(s, 60000), *b = open(s, 60000);
    uint64_t token = caller_acquire(a, "l");
    await_place(b, "l", 200);
    uint64_t queued_ns = s->sim->now_ns;
    while (s->sim->now_ns < queued_ns + 180 * SIM_MS) scenario_step(s);
    uint64_t before = scenario_counter(s, 1, "expiries_proposed");
    scenario_rule(s, (struct scenario_rule){.to = 1, .type = WIRE_APPEND_REPLY, .action = KEEP});
    struct ask ask = release("l", token);
    caller_send(a, 1, &ask);
    AWAIT(s, 60, scenario_counter(s, 1, "expiries_proposed") > before);
    scenario_no_rules(s);
    scenario_deliver_kept(s);
    AWAIT(s, 50, b->event_count > 0);
    GIVEN(s, b->event.status == WIRE_OK);
    uint64_t granted = b->event.token;
    caller_acquire(a, "m"); // would take the place of a claim that was taken away
    MUST(s, caller_holder(b, "l") == granted,
         "a lock was granted, and taken away by the end of the wait for it");
    ask = release("l", granted);
    MUST(s, caller_call(b, &ask)->status == WIRE_OK, "a grant cannot be given back");
    MUST(s, caller_holder(b, "l") == 0, "a lock that was given back is held");
    scenario_settle(s);
}

void play_dead_waiter(struct scenario *s) {
    three(s);
    struct caller *a = open(s, 60000), *b = open(s, 300), *c = open(s, 60000);
    uint64_t token = caller_acquire(a, "l");
    await_place(b, "l", WIRE_WAIT_FOREVER);
    await_place(c, "l", WIRE_WAIT_FOREVER);
    scenario_run(s, 500);
    struct ask queue = {.op = WIRE_OP_LOCK_QUEUE, .name = "l"};
    const struct answer *answer = caller_call(a, &queue);
    MUST(s, answer->claims == 1 && answer->claim[0].lease == c->lease,
         "the queue has %u places; the one whose lease has ended should have left it",
         answer->claims);
    struct ask ask = release("l", token);
    caller_call(a, &ask);
    AWAIT(s, 50, c->event_count > 0);
    MUST(s, c->event.status == WIRE_OK && caller_holder(c, "l") == c->event.token,
         "the next living waiter does not hold the lock");
    scenario_settle(s);
}

void play_queue_order(struct scenario *s) {
    three(s);
    struct caller *c[4] = {open(s, 60000), open(s, 60000), open(s, 60000), open(s, 60000)};
    uint64_t token = caller_acquire(c[0], "l");
    for (uint32_t i = 1; i < 4; i++) await_place(c[i], "l", WIRE_WAIT_FOREVER);
    for (uint32_t i = 1; i < 4; i++) {
        struct ask ask = release("l", token);
        caller_call(c[i - 1], &ask);
        scenario_run(s, 20);
        MUST(s, c[i]->event_count == 1, "the lock went past the one who had asked first");
        token = c[i]->event.token;
    }
    scenario_settle(s);
}
