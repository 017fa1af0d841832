// Small scenes that show which of the permitted answers the machine has chosen. See model.h.
#include "model.h"

static const struct machine_limits limits = {.sessions = 4, .leases = 16, .locks = 8, .claims = 16};

struct scene {
    struct lab *lab;
    struct client client;
    uint64_t brief; // a lease of 1 s
    uint64_t a, b;  // leases that live for long
};

static struct scene begin(void) {
    struct scene s = {.lab = lab_open(&limits)};
    s.client = client_open(s.lab);
    s.brief = grant(s.lab, &s.client, 1000);
    s.a = grant(s.lab, &s.client, 100000);
    s.b = grant(s.lab, &s.client, 100000);
    return s;
}

static void sessions(struct policy *p) {
    struct lab *lab = lab_open(&limits);
    struct ask ask = {.op = WIRE_OP_SESSION_OPEN, .token = 5};
    uint64_t first = lab_apply(lab, &ask).token;
    p->reopen_same = lab_apply(lab, &ask).token == first;
    lab_close(lab);
}

static void dead_holder(struct policy *p) {
    struct scene s = begin();
    uint64_t token = must_hold(s.lab, &s.client, "x", s.brief);
    uint64_t other = must_hold(s.lab, &s.client, "y", s.brief);
    lab_later(s.lab, TTL_NS(1000));
    p->dead_held = holder_token(s.lab, "x") == token;
    p->dead_release = release(s.lab, &s.client, "y", other).status == WIRE_OK;
    struct machine_reply reply = acquire(s.lab, &s.client, "x", s.a, 0);
    p->dead_holder_blocks = reply.status == WIRE_WOULD_BLOCK;
    if (!p->dead_holder_blocks) assert_int_equal(reply.status, WIRE_OK);
    p->takeover_ends = machine_sizes(s.lab->machine).leases == 2;
    lab_close(s.lab);
}

static void dead_waiter(struct policy *p) {
    struct scene s = begin();
    uint64_t token = must_hold(s.lab, &s.client, "x", s.a);
    uint64_t claim = must_queue(s.lab, &s.client, "x", s.brief, WIRE_WAIT_FOREVER);
    must_queue(s.lab, &s.client, "x", s.b, WIRE_WAIT_FOREVER);
    lab_later(s.lab, TTL_NS(1000));
    struct wire_claim listed[4];
    p->dead_queued = queue_of(s.lab, "x", 1, listed, 4) == 2;
    must_release(s.lab, &s.client, "x", token);
    p->skip_removes = notice_of(s.lab, claim) != NULL;
    lab_close(s.lab);
}

static void late_waiter(struct policy *p) {
    struct scene s = begin();
    uint64_t token = must_hold(s.lab, &s.client, "x", s.a);
    uint64_t claim = must_queue(s.lab, &s.client, "x", s.b, 100);
    lab_later(s.lab, 100 * MS);
    struct wire_wait_expiry due[2];
    p->wait_allowance = due_waits(s.lab, due, 2) == 0;
    lab_later(s.lab, MS);
    must_release(s.lab, &s.client, "x", token);
    const struct machine_notice *notice = notice_of(s.lab, claim);
    p->late_granted = notice != NULL && notice->status == WIRE_OK;
    p->late_removed = notice != NULL && notice->status == WIRE_WAIT_TIMEOUT;
    lab_close(s.lab);
}

static enum again hold_again(uint64_t wait) {
    struct scene s = begin();
    uint64_t token = must_hold(s.lab, &s.client, "x", s.a);
    struct machine_reply reply = acquire(s.lab, &s.client, "x", s.a, wait);
    enum again again = AGAIN_NEW;
    if (reply.status == WIRE_OK && reply.token == token) again = AGAIN_SAME;
    if (reply.status == WIRE_WOULD_BLOCK) again = AGAIN_REFUSED;
    lab_close(s.lab);
    return again;
}

static void wait_again(struct policy *p) {
    struct scene s = begin();
    struct client other = client_open(s.lab);
    must_hold(s.lab, &s.client, "x", s.a);
    uint64_t claim = must_queue(s.lab, &s.client, "x", s.b, 100);
    struct machine_reply reply = acquire(s.lab, &other, "x", s.b, 5000);
    assert_int_equal(reply.status, WIRE_QUEUED);
    p->wait_again = reply.token == claim ? AGAIN_SAME : AGAIN_NEW;
    struct wire_claim listed[2];
    queue_of(s.lab, "x", 1, listed, 2);
    p->again_moves = listed[0].session == other.session;
    lab_later(s.lab, SECOND);
    struct wire_wait_expiry due[2];
    p->again_extends = due_waits(s.lab, due, 2) == 0;
    lab_close(s.lab);
}

static void try_again(struct policy *p) {
    struct scene s = begin();
    must_hold(s.lab, &s.client, "x", s.a);
    uint64_t claim = must_queue(s.lab, &s.client, "x", s.b, 100);
    p->try_queued = acquire(s.lab, &s.client, "x", s.b, 0).status == WIRE_QUEUED;
    p->try_leaves = notice_of(s.lab, claim) != NULL;
    lab_close(s.lab);
}

void policy_probe(struct policy *policy) {
    memset(policy, 0, sizeof *policy);
    sessions(policy);
    dead_holder(policy);
    dead_waiter(policy);
    late_waiter(policy);
    policy->hold_again = hold_again(0);
    policy->hold_wait = hold_again(WIRE_WAIT_FOREVER);
    wait_again(policy);
    try_again(policy);
}
