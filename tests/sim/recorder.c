// See recorder.h. Nothing is formatted or searched here: a place in an array by sequence, a copy.
#include "recorder.h"

#include <string.h>

#include "machine/machine.h"
#include "raft/raft.h"
#include "wire/wire.h"

void recorder_begin(struct recorder *recorder, uint8_t client) {
    memset(&recorder->clients[client], 0, sizeof recorder->clients[client]);
}

static uint32_t *place(struct recorder *recorder, uint8_t client, uint16_t op, uint64_t sequence) {
    bool change = wire_op_is_logged(op) && op != WIRE_OP_SESSION_OPEN;
    uint32_t at = sequence % RECORDER_OPEN;
    return change ? &recorder->clients[client].changes[at] : &recorder->clients[client].reads[at];
}

static struct history_operation *find(struct recorder *recorder, uint8_t client, uint16_t op,
                                      uint64_t session, uint64_t sequence) {
    uint32_t at = *place(recorder, client, op, sequence);
    if (at == 0) return NULL;
    struct history_operation *o = &recorder->history->operations[at - 1];
    bool same = o->sequence == sequence && o->op == op;
    // A session has no number yet while it is opened.
    return same && (o->session == session || op == WIRE_OP_SESSION_OPEN) ? o : NULL;
}

static void asked(struct recorder *recorder, uint8_t client, uint64_t now_ns,
                  const struct wire_request *request) {
    struct history *history = recorder->history;
    if (wire_op_is_local(request->op)) return;
    if (find(recorder, client, request->op, request->session, request->sequence)) return; // a retry
    struct history_operation *o = history_add_operation(history);
    if (o == NULL) return;
    o->invoked_ns = now_ns;
    o->client = client;
    o->op = request->op;
    o->session = request->session;
    o->sequence = request->sequence;
    o->lease = request->lease;
    o->token = request->token;
    o->amount = request->amount;
    o->name = history_name(history, request + 1, request->name_length);
    *place(recorder, client, o->op, o->sequence) = history->operation_count;
}

void recorder_sent(struct recorder *recorder, uint8_t client, uint64_t now_ns, const void *frame) {
    uint32_t offset = 0;
    for (const struct wire_head *head; (head = wire_next(frame, &offset)) != NULL;)
        if (head->type == WIRE_REQUEST)
            asked(recorder, client, now_ns, (const struct wire_request *)head);
}

static void take_parts(struct history *history, struct history_operation *o,
                       const struct wire_reply *reply) {
    if (o->op != WIRE_OP_LOCK_HOLDERS && o->op != WIRE_OP_LOCK_QUEUE) return;
    o->parts = history->part_count;
    for (uint32_t i = 0; i < reply->value_length / sizeof(struct wire_claim); i++) {
        struct wire_claim claim;
        memcpy(&claim, (const uint8_t *)wire_reply_value(reply) + i * sizeof claim, sizeof claim);
        o->part_count +=
            history_add_part(history, (struct history_part){claim.claim, claim.lease, claim.token});
    }
}

static void take_answer(struct history *history, struct history_operation *o, uint64_t now_ns,
                        const struct wire_reply *reply) {
    o->returned_ns = now_ns;
    o->status = reply->status;
    o->answer_token = reply->token;
    o->answer_amount = reply->amount;
    o->index = reply->index;
    take_parts(history, o, reply);
}

static void answered(struct recorder *recorder, uint8_t client, uint64_t now_ns,
                     const struct wire_reply *reply) {
    struct history *history = recorder->history;
    if (reply->status == WIRE_NOT_LEADER || reply->status == WIRE_BUSY) return; // nothing happened
    struct history_operation *o =
        find(recorder, client, reply->op, reply->session, reply->sequence);
    if (o == NULL) return;
    // "It may have been executed, it will not be now" is no answer beside another: it comes to a
    // request of long ago that turns up once more.
    bool stale = reply->status == WIRE_STALE_SEQUENCE;
    if (o->returned_ns == 0 || (o->status == WIRE_STALE_SEQUENCE && !stale)) {
        take_answer(history, o, now_ns, reply);
    } else if (stale) {
        return;
    } else if (wire_op_is_logged(o->op) &&
               (o->status != reply->status || o->answer_token != reply->token)) {
        // Another answer to the same question: for the checkers to judge.
        struct history_operation *again = history_add_operation(history);
        if (again == NULL) return;
        *again = *o;
        again->invoked_ns = now_ns;
        take_answer(history, again, now_ns, reply);
    }
    if (reply->status == WIRE_QUEUED) {
        uint32_t at = reply->token % RECORDER_OPEN;
        recorder->clients[client].claims[at].claim = reply->token;
        recorder->clients[client].claims[at].name = o->name;
    }
}

static void told(struct recorder *recorder, uint8_t client, uint64_t now_ns,
                 const struct wire_event *event) {
    uint32_t at = event->claim % RECORDER_OPEN;
    struct history_operation *o = history_add_operation(recorder->history);
    if (o == NULL) return;
    o->invoked_ns = o->returned_ns = now_ns;
    o->client = client;
    o->op = HISTORY_OP_EVENT;
    o->session = event->session;
    o->lease = event->lease;
    o->token = event->claim;
    o->status = event->status;
    o->answer_token = event->token;
    o->index = event->index;
    if (recorder->clients[client].claims[at].claim == event->claim)
        o->name = recorder->clients[client].claims[at].name;
}

void recorder_received(struct recorder *recorder, uint8_t client, uint64_t now_ns,
                       const void *bytes, uint32_t length) {
    if (wire_check(bytes, length) != WIRE_VALID) return;
    uint32_t offset = 0;
    for (const struct wire_head *head; (head = wire_next(bytes, &offset)) != NULL;) {
        const void *message = head;
        if (head->type == WIRE_REPLY) answered(recorder, client, now_ns, message);
        if (head->type == WIRE_EVENT) told(recorder, client, now_ns, message);
    }
}

// ---------------------------------------------------------------- the log

static void take_expiries(struct history *history, struct history_entry *e,
                          const struct wire_request *request) {
    static_assert(sizeof(struct history_part) == sizeof(struct wire_expiry), "three numbers");
    static_assert(sizeof(struct history_part) == sizeof(struct wire_wait_expiry), "three numbers");
    e->parts = history->part_count;
    for (uint32_t i = 0; i < request->value_length / sizeof(struct wire_expiry); i++) {
        struct history_part part;
        memcpy(&part, (const uint8_t *)(request + 1) + i * sizeof part, sizeof part);
        e->part_count += history_add_part(history, part);
    }
}

void recorder_committed(struct recorder *recorder, uint64_t index, uint64_t term, uint64_t time_ns,
                        uint8_t type, const void *data) {
    struct history *history = recorder->history;
    struct history_entry *e = history_put_entry(history, index);
    if (e == NULL) return;
    e->term = term;
    e->time_ns = time_ns;
    if (type == RAFT_ENTRY_NOOP) { // the limits, as check_* know them
        struct machine_limits limits;
        memcpy(&limits, data, sizeof limits);
        e->session = limits.sessions;
        e->lease = limits.leases;
        e->token = limits.locks;
        e->amount = limits.claims;
        return;
    }
    const struct wire_request *request = data;
    e->op = request->op;
    e->session = request->session;
    e->sequence = request->sequence;
    e->lease = request->lease;
    e->token = request->token;
    e->amount = request->amount;
    e->name = history_name(history, request + 1, request->name_length);
    if (request->op == WIRE_OP_EXPIRE_LEASES || request->op == WIRE_OP_EXPIRE_WAITS)
        take_expiries(history, e, request);
}
