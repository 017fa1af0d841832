// Reading a history back from its JSON lines: see history.h. Records may come in any order, but
// operations are told in the order of their invocation. Lines that begin with # are for people.
#include <jansson.h>
#include <string.h>

#include "conclave_wire.h"
#include "history.h"

static const uint16_t ops[] = {0,
                               WIRE_OP_SESSION_OPEN,
                               WIRE_OP_LEASE_GRANT,
                               WIRE_OP_LEASE_KEEPALIVE,
                               WIRE_OP_LEASE_REVOKE,
                               WIRE_OP_LOCK_ACQUIRE,
                               WIRE_OP_LOCK_RELEASE,
                               WIRE_OP_LEASE_TTL,
                               WIRE_OP_LOCK_HOLDERS,
                               WIRE_OP_LOCK_QUEUE,
                               WIRE_OP_CLAIM,
                               WIRE_OP_EXPIRE_LEASES,
                               WIRE_OP_EXPIRE_WAITS,
                               WIRE_OP_TICK,
                               HISTORY_OP_EVENT};

static bool take_op(const json_t *record, uint16_t *op) {
    const char *text = json_string_value(json_object_get(record, "op"));
    for (size_t i = 0; text != NULL && i < sizeof ops / sizeof ops[0]; i++) {
        if (strcmp(history_op_name(ops[i]), text) != 0) continue;
        *op = ops[i];
        return true;
    }
    return false;
}

// An absent number is 0; numbers from 2^63 on are written as negative ones.
static uint64_t number(const json_t *record, const char *key) {
    return (uint64_t)json_integer_value(json_object_get(record, key));
}

static uint8_t name(struct history *history, const json_t *record) {
    const char *text = json_string_value(json_object_get(record, "name"));
    return text == NULL ? HISTORY_NO_NAME : history_name(history, text, (uint32_t)strlen(text));
}

static uint16_t parts(struct history *history, const json_t *record) {
    const json_t *list = json_object_get(record, "parts");
    size_t count = json_array_size(list);
    for (size_t i = 0; i < count; i++) {
        const json_t *part = json_array_get(list, i);
        history_add_part(history, (struct history_part){
                                      .a = (uint64_t)json_integer_value(json_array_get(part, 0)),
                                      .b = (uint64_t)json_integer_value(json_array_get(part, 1)),
                                      .c = (uint64_t)json_integer_value(json_array_get(part, 2))});
    }
    return (uint16_t)count;
}

static bool take_operation(struct history *history, const json_t *record) {
    uint64_t invoked = number(record, "invoked");
    uint32_t count = history->operation_count;
    if (count > 0 && history->operations[count - 1].invoked_ns > invoked) return false;
    struct history_operation *o = history_add_operation(history);
    if (o == NULL || !take_op(record, &o->op)) return false;
    o->invoked_ns = invoked;
    o->returned_ns = number(record, "returned");
    o->client = (uint8_t)number(record, "client");
    o->name = name(history, record);
    o->session = number(record, "session");
    o->sequence = number(record, "sequence");
    o->lease = number(record, "lease");
    o->token = number(record, "token");
    o->amount = number(record, "amount");
    o->status = (uint16_t)number(record, "status");
    o->answer_token = number(record, "answer_token");
    o->answer_amount = number(record, "answer_amount");
    o->index = number(record, "index");
    o->parts = history->part_count;
    o->part_count = parts(history, record);
    return true;
}

static bool take_entry(struct history *history, const json_t *record) {
    struct history_entry *e = history_put_entry(history, number(record, "index"));
    if (e == NULL || !take_op(record, &e->op)) return false;
    e->term = number(record, "term");
    e->time_ns = number(record, "time");
    e->name = name(history, record);
    e->session = number(record, "session");
    e->sequence = number(record, "sequence");
    e->lease = number(record, "lease");
    e->token = number(record, "token");
    e->amount = number(record, "amount");
    e->parts = history->part_count;
    e->part_count = parts(history, record);
    return e->term != 0;
}

static bool take(struct history *history, const json_t *record) {
    const char *kind = json_string_value(json_object_get(record, "kind"));
    if (kind == NULL) return false;
    if (strcmp(kind, "operation") == 0) return take_operation(history, record);
    if (strcmp(kind, "entry") == 0) return take_entry(history, record);
    if (strcmp(kind, "hold") == 0) {
        struct history_hold *h = history_add_hold(history);
        if (h == NULL) return false;
        h->client = (uint8_t)number(record, "client");
        h->name = name(history, record);
        h->token = number(record, "token");
        h->from_ns = number(record, "from");
        h->to_ns = number(record, "to");
        return h->name != HISTORY_NO_NAME;
    }
    struct history_state *s = strcmp(kind, "state") == 0 ? history_add_state(history) : NULL;
    if (s == NULL) return false;
    s->index = number(record, "index");
    s->sessions = (uint32_t)number(record, "sessions");
    s->leases = (uint32_t)number(record, "leases");
    s->locks = (uint32_t)number(record, "locks");
    s->claims = (uint32_t)number(record, "claims");
    return true;
}

bool history_read(struct history *history, FILE *file, uint32_t *line) {
    char text[4096];
    for (*line = 1; fgets(text, sizeof text, file) != NULL; ++*line) {
        if (text[0] == '#' || text[0] == '\n') continue;
        json_t *record = json_loads(text, 0, NULL);
        bool well = record != NULL && take(history, record);
        json_decref(record);
        if (!well) return false;
    }
    return true;
}
