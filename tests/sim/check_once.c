// Exactly once. Requests are lost, doubled and retried; so one (session, sequence) may be in the
// log many times. It takes effect at the first of them, all its answers are one answer, and what is
// in the log was asked for by somebody.
#include <stdlib.h>

#include "check.h"
#include "conclave_wire.h"

#define U(number) ((unsigned long)(number))

struct asked { // one request in the log, or one that a client sent
    uint64_t session, sequence;
    uint32_t at; // place in its array
};

static int by_sequence(const void *a, const void *b) {
    const struct asked *x = a, *y = b;
    if (x->session != y->session) return x->session < y->session ? -1 : 1;
    if (x->sequence != y->sequence) return x->sequence < y->sequence ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

// A session is opened without one: the random number stands for it.
static struct asked of_operation(const struct history *h, uint32_t at) {
    const struct history_operation *o = &h->operations[at];
    bool opens = o->op == WIRE_OP_SESSION_OPEN;
    return (struct asked){opens ? 0 : o->session, opens ? o->token : o->sequence, at};
}

static struct asked of_entry(const struct history *h, uint32_t at) {
    const struct history_entry *e = &h->entries[at];
    bool opens = e->op == WIRE_OP_SESSION_OPEN;
    return (struct asked){opens ? 0 : e->session, opens ? e->token : e->sequence, at};
}

static bool executed(const struct history_operation *o) {
    return o->returned_ns != 0 && o->status != WIRE_NO_SESSION &&
           o->status != WIRE_STALE_SEQUENCE && o->status != WIRE_BAD_REQUEST &&
           o->status != WIRE_NOT_LEADER && o->status != WIRE_BUSY && o->status != WIRE_TOO_LARGE;
}

static bool same_key(const struct asked *a, const struct asked *b) {
    return a->session == b->session && a->sequence == b->sequence;
}

// All answers to one request are one.
static bool answers_agree(const struct history *h, const struct asked *asked, uint32_t count,
                          struct verdict *verdict) {
    const struct history_operation *known = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct history_operation *o = &h->operations[asked[i].at];
        if (i > 0 && !same_key(&asked[i - 1], &asked[i])) known = NULL;
        if (!executed(o)) continue;
        if (known != NULL && (known->op != o->op || known->status != o->status ||
                              known->answer_token != o->answer_token))
            return refuse(verdict,
                          "session %lu, sequence %lu (%s) is answered twice, and not the "
                          "same: status %u, token %lu; then %u, %lu",
                          U(o->session), U(o->sequence), history_op_name(o->op), known->status,
                          U(known->answer_token), o->status, U(o->answer_token));
        known = o;
    }
    return true;
}

static bool makes_new(const struct history_operation *o) {
    return o->op == WIRE_OP_LEASE_GRANT || o->op == WIRE_OP_SESSION_OPEN ||
           o->op == WIRE_OP_LOCK_ACQUIRE;
}

// What is made bears the index at which it was made: the first at which it was asked for. Of an
// acquire that found what it wanted made already, that is the index of another request.
static bool made_once(const struct history *h, const struct asked *entries, uint32_t entry_count,
                      const struct asked *asked, struct verdict *verdict) {
    const struct history_operation *o = &h->operations[asked->at];
    if (!executed(o) || !makes_new(o)) return true;
    if (o->status != WIRE_OK && o->status != WIRE_QUEUED) return true;
    uint32_t low = 0, high = entry_count; // first entry that is not before this request
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct asked key = {asked->session, asked->sequence, 0};
        if (by_sequence(&entries[middle], &key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    verdict->checked++;
    if (low == entry_count || !same_key(&entries[low], asked))
        return refuse(verdict,
                      "session %lu, sequence %lu (%s) is answered with token %lu, but is "
                      "nowhere in the log",
                      U(o->session), U(o->sequence), history_op_name(o->op), U(o->answer_token));
    uint64_t made = entries[low].at + 1;
    bool must = o->op != WIRE_OP_LOCK_ACQUIRE;
    for (uint32_t i = low; !must && i < entry_count && same_key(&entries[i], asked); i++)
        must = entries[i].at + 1 == o->answer_token;
    if (!must || o->answer_token == made) return true;
    return refuse(verdict,
                  "session %lu, sequence %lu (%s) took effect at index %lu and again at "
                  "%lu: a retry was executed twice",
                  U(o->session), U(o->sequence), history_op_name(o->op), U(made),
                  U(o->answer_token));
}

static bool asked_before(const struct history *h, const struct asked *entry,
                         const struct asked *asked, uint32_t count, struct verdict *verdict) {
    const struct history_entry *e = &h->entries[entry->at];
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct asked key = {entry->session, entry->sequence, 0};
        if (by_sequence(&asked[middle], &key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < count && same_key(&asked[low], entry)) {
        const struct history_operation *o = &h->operations[asked[low].at];
        if (o->op == e->op && o->lease == e->lease && o->token == e->token &&
            o->amount == e->amount && o->name == e->name)
            return true;
    }
    return refuse(verdict, "index %u holds a command nobody sent: %s, session %lu, sequence %lu",
                  entry->at + 1, history_op_name(e->op), U(e->session), U(e->sequence));
}

void check_once(const struct history *h, struct verdict *verdict) {
    struct asked *asked = malloc((h->operation_count + 1) * sizeof *asked);
    struct asked *entries = malloc((h->entry_count + 1) * sizeof *entries);
    uint32_t asked_count = 0, entry_count = 0;
    for (uint32_t i = 0; i < h->operation_count; i++)
        if (wire_op_is_logged(h->operations[i].op)) asked[asked_count++] = of_operation(h, i);
    bool whole =
        h->lost == 0 && h->entry_count > 0; // else nothing can be said of what is not there
    for (uint32_t i = 0; i < h->entry_count; i++) {
        if (wire_op_is_logged(h->entries[i].op)) entries[entry_count++] = of_entry(h, i);
        whole &= h->entries[i].term != 0;
    }
    qsort(asked, asked_count, sizeof *asked, by_sequence);
    qsort(entries, entry_count, sizeof *entries, by_sequence);
    bool well = answers_agree(h, asked, asked_count, verdict);
    for (uint32_t i = 0; i < asked_count && well && whole; i++)
        well = made_once(h, entries, entry_count, &asked[i], verdict);
    for (uint32_t i = 0; i < entry_count && well && whole; i++)
        well = asked_before(h, &entries[i], asked, asked_count, verdict);
    if (!whole) verdict->undecided += asked_count;
    free(asked);
    free(entries);
}
