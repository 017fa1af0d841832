// See history.h: the arrays, and writing them as JSON lines.
#include "history.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "conclave_wire.h"

struct history *history_create(void) {
    struct history *history = malloc(sizeof *history);
    if (history == NULL) abort();
    memset(history, 0, offsetof(struct history, operations));
    return history; // what lies behind is written before it is read, and mostly never touched
}

void history_destroy(struct history *history) {
    free(history);
}

uint8_t history_name(struct history *history, const void *name, uint32_t length) {
    if (length == 0 || length >= sizeof history->names[0]) return HISTORY_NO_NAME;
    for (uint32_t i = 0; i < history->name_count; i++)
        if (memcmp(history->names[i], name, length) == 0 && history->names[i][length] == 0)
            return (uint8_t)i;
    if (history->name_count == HISTORY_NAMES) {
        history->lost++;
        return HISTORY_NO_NAME;
    }
    memcpy(history->names[history->name_count], name, length);
    return (uint8_t)history->name_count++;
}

struct history_operation *history_add_operation(struct history *history) {
    if (history->operation_count == HISTORY_OPERATIONS) {
        history->lost++;
        return NULL;
    }
    struct history_operation *operation = &history->operations[history->operation_count++];
    *operation = (struct history_operation){.name = HISTORY_NO_NAME};
    return operation;
}

struct history_hold *history_add_hold(struct history *history) {
    if (history->hold_count == HISTORY_HOLDS) {
        history->lost++;
        return NULL;
    }
    struct history_hold *hold = &history->holds[history->hold_count++];
    *hold = (struct history_hold){0};
    return hold;
}

struct history_state *history_add_state(struct history *history) {
    if (history->state_count == HISTORY_STATES) return NULL; // samples: enough is enough
    return &history->states[history->state_count++];
}

struct history_entry *history_put_entry(struct history *history, uint64_t index) {
    if (index == 0 || index > HISTORY_ENTRIES) {
        history->lost++;
        return NULL;
    }
    while (history->entry_count < index)
        history->entries[history->entry_count++] = (struct history_entry){0};
    struct history_entry *entry = &history->entries[index - 1];
    *entry = (struct history_entry){.name = HISTORY_NO_NAME};
    return entry;
}

bool history_add_part(struct history *history, struct history_part part) {
    if (history->part_count == HISTORY_PARTS) {
        history->lost++;
        return false;
    }
    history->parts[history->part_count++] = part;
    return true;
}

// ---------------------------------------------------------------- writing

static const struct {
    uint16_t op;
    const char *name;
} op_names[] = {
    {0, "noop"},
    {WIRE_OP_SESSION_OPEN, "session_open"},
    {WIRE_OP_LEASE_GRANT, "lease_grant"},
    {WIRE_OP_LEASE_KEEPALIVE, "lease_keepalive"},
    {WIRE_OP_LEASE_REVOKE, "lease_revoke"},
    {WIRE_OP_LOCK_ACQUIRE, "acquire"},
    {WIRE_OP_LOCK_RELEASE, "release"},
    {WIRE_OP_LEASE_TTL, "lease_ttl"},
    {WIRE_OP_LOCK_HOLDERS, "holders"},
    {WIRE_OP_LOCK_QUEUE, "queue"},
    {WIRE_OP_CLAIM, "claim"},
    {WIRE_OP_EXPIRE_LEASES, "expire_leases"},
    {WIRE_OP_EXPIRE_WAITS, "expire_waits"},
    {WIRE_OP_TICK, "tick"},
    {HISTORY_OP_EVENT, "event"},
};

const char *history_op_name(uint16_t op) {
    for (size_t i = 0; i < sizeof op_names / sizeof op_names[0]; i++)
        if (op_names[i].op == op) return op_names[i].name;
    return "unknown";
}

static void number(FILE *file, const char *key, uint64_t value) {
    // Signed, since readers of JSON know no larger numbers: the wait without end is -1.
    if (value != 0) fprintf(file, ",\"%s\":%" PRId64, key, (int64_t)value);
}

static void name(const struct history *history, FILE *file, uint8_t number_of) {
    if (number_of < history->name_count)
        fprintf(file, ",\"name\":\"%s\"", history->names[number_of]);
}

static void parts(const struct history *history, FILE *file, uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const struct history_part *part = &history->parts[first + i];
        fprintf(file, "%s[%" PRIu64 ",%" PRIu64 ",%" PRIu64 "]", i == 0 ? ",\"parts\":[" : ",",
                part->a, part->b, part->c);
    }
    if (count > 0) fputc(']', file);
}

static void write_operation(const struct history *history, FILE *file,
                            const struct history_operation *o) {
    fprintf(file, "{\"kind\":\"operation\",\"client\":%u,\"op\":\"%s\"", o->client,
            history_op_name(o->op));
    name(history, file, o->name);
    number(file, "session", o->session);
    number(file, "sequence", o->sequence);
    number(file, "lease", o->lease);
    number(file, "token", o->token);
    number(file, "amount", o->amount);
    fprintf(file, ",\"invoked\":%" PRIu64, o->invoked_ns);
    if (o->returned_ns != 0) {
        fprintf(file, ",\"returned\":%" PRIu64 ",\"status\":%u", o->returned_ns, o->status);
        number(file, "answer_token", o->answer_token);
        number(file, "answer_amount", o->answer_amount);
        number(file, "index", o->index);
        parts(history, file, o->parts, o->part_count);
    }
    fprintf(file, "}\n");
}

static void write_entry(const struct history *history, FILE *file, uint32_t at) {
    const struct history_entry *e = &history->entries[at];
    if (e->term == 0) return;
    fprintf(file, "{\"kind\":\"entry\",\"index\":%u,\"term\":%" PRIu64 ",\"op\":\"%s\"", at + 1,
            e->term, history_op_name(e->op));
    name(history, file, e->name);
    number(file, "time", e->time_ns);
    number(file, "session", e->session);
    number(file, "sequence", e->sequence);
    number(file, "lease", e->lease);
    number(file, "token", e->token);
    number(file, "amount", e->amount);
    parts(history, file, e->parts, e->part_count);
    fprintf(file, "}\n");
}

bool history_write(const struct history *history, FILE *file) {
    for (uint32_t i = 0; i < history->entry_count; i++) write_entry(history, file, i);
    for (uint32_t i = 0; i < history->operation_count; i++)
        write_operation(history, file, &history->operations[i]);
    for (uint32_t i = 0; i < history->hold_count; i++) {
        const struct history_hold *h = &history->holds[i];
        fprintf(file, "{\"kind\":\"hold\",\"client\":%u", h->client);
        name(history, file, h->name);
        fprintf(file, ",\"token\":%" PRIu64 ",\"from\":%" PRIu64 ",\"to\":%" PRIu64 "}\n", h->token,
                h->from_ns, h->to_ns);
    }
    for (uint32_t i = 0; i < history->state_count; i++) {
        const struct history_state *s = &history->states[i];
        fprintf(file,
                "{\"kind\":\"state\",\"index\":%" PRIu64
                ",\"sessions\":%u,\"leases\":%u,\"locks\":%u,\"claims\":%u}\n",
                s->index, s->sessions, s->leases, s->locks, s->claims);
    }
    return !ferror(file);
}
