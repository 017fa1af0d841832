// The log is the witness: every answer names the log index it was given at, so the order in which
// operations took effect need not be searched for. An independent model (lock_model.h) replays the
// committed entries; the answer at an index must be the model's, a read must show the model's state
// at its index, and indices must respect real time: what was answered before another was asked lies
// before it. Together that is linearizability, for every operation, in O(n log n).
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "lock_model.h"

bool refuse(struct verdict *verdict, const char *format, ...) {
    if (verdict->broken) return false;
    va_list list;
    va_start(list, format);
    vsnprintf(verdict->text, sizeof verdict->text, format, list);
    va_end(list);
    verdict->broken = true;
    return false;
}

const struct checker checkers[CHECKERS] = {
    {"witness", check_witness},
    {"rules", check_rules},
    {"once", check_once},
    {"linear", check_linear},
};

#define U(number) ((unsigned long)(number))

static const char *name_of(const struct history *h, uint8_t name) {
    return name < h->name_count ? h->names[name] : "(no name)";
}

// ---------------------------------------------------------------- one answer

static bool asked_for(const struct history_operation *o, const struct history_entry *e) {
    return o->op == e->op && o->session == e->session && o->sequence == e->sequence &&
           o->lease == e->lease && o->token == e->token && o->amount == e->amount &&
           o->name == e->name;
}

static bool judge_logged(const struct history *h, const struct history_operation *o,
                         const struct model_answer *answer, struct verdict *verdict) {
    const struct history_entry *e = &h->entries[o->index - 1];
    if (!asked_for(o, e))
        return refuse(verdict,
                      "client %u: %s, sequence %lu, is answered for index %lu, which holds "
                      "another command (%s, session %lu, sequence %lu)",
                      o->client, history_op_name(o->op), U(o->sequence), U(o->index),
                      history_op_name(e->op), U(e->session), U(e->sequence));
    bool told = o->status == WIRE_OK || o->status == WIRE_QUEUED || o->status == WIRE_WOULD_BLOCK;
    if (o->status != answer->status || (told && o->answer_token != answer->token) ||
        (told && o->answer_amount != answer->amount))
        return refuse(verdict,
                      "client %u: %s %s at index %lu answers status %u, token %lu, amount "
                      "%lu; in log order it must be %u, %lu, %lu",
                      o->client, history_op_name(o->op), name_of(h, o->name), U(o->index),
                      o->status, U(o->answer_token), U(o->answer_amount), answer->status,
                      U(answer->token), U(answer->amount));
    return true;
}

static bool judge_event(const struct lock_model *m, const struct history_operation *o,
                        struct verdict *verdict) {
    if (o->token == 0 || o->token > m->index)
        return refuse(verdict, "client %u is told of claim %lu, which nobody asked for", o->client,
                      U(o->token));
    uint64_t granted = m->granted[o->token - 1], ended = m->ended[o->token - 1];
    if (o->status == WIRE_OK ? granted != o->answer_token || granted != o->index
                             : ended != o->index)
        return refuse(verdict,
                      "client %u is told at index %lu that claim %lu has status %u, token "
                      "%lu; in log order it was granted at %lu or ended at %lu (0: not)",
                      o->client, U(o->index), U(o->token), o->status, U(o->answer_token),
                      U(granted), U(ended));
    return true;
}

static bool judge_claim(const struct lock_model *m, const struct history_operation *o,
                        struct verdict *verdict) {
    const struct model_lease *lease = lock_model_lease(m, o->lease);
    const struct model_lock *lock = &m->locks[o->name];
    uint16_t status = WIRE_WAIT_TIMEOUT;
    uint64_t token = 0;
    if (lease == NULL) {
        status = WIRE_NO_LEASE;
    } else if (lease->deadline_ns <= m->time_ns || o->status == WIRE_LEASE_EXPIRED) {
        status = WIRE_LEASE_EXPIRED; // a read's own time is later than its index's
    } else if (lock->holder.token != 0 && lock->holder.claim == o->token &&
               lock->holder.lease == o->lease) {
        status = WIRE_OK, token = lock->holder.token;
    } else {
        for (uint32_t i = 0; i < lock->waiter_count; i++)
            if (lock->waiters[i].claim == o->token && lock->waiters[i].lease == o->lease)
                status = WIRE_QUEUED, token = o->token;
    }
    if (status == o->status && token == o->answer_token) return true;
    return refuse(verdict,
                  "client %u asks what became of claim %lu and is told status %u, token "
                  "%lu at index %lu; there it is %u, %lu",
                  o->client, U(o->token), o->status, U(o->answer_token), U(o->index), status,
                  U(token));
}

static bool same(const struct history_part *part, const struct model_claim *claim) {
    return part->a == claim->claim && part->b == claim->lease && part->c == claim->token;
}

static bool judge_list(const struct history *h, const struct lock_model *m,
                       const struct history_operation *o, struct verdict *verdict) {
    const struct model_lock *lock = &m->locks[o->name];
    const struct history_part *parts = &h->parts[o->parts];
    bool holders = o->op == WIRE_OP_LOCK_HOLDERS;
    uint64_t count = holders ? lock->holder.token != 0 : lock->waiter_count;
    const struct model_claim *claims = holders ? &lock->holder : lock->waiters;
    uint64_t skip = holders ? 0 : o->amount;
    bool well = o->status == WIRE_OK && o->answer_amount == count;
    if (skip + o->part_count > count || (o->part_count == 0 && skip < count)) well = false;
    for (uint32_t i = 0; well && i < o->part_count; i++) well = same(&parts[i], &claims[skip + i]);
    if (well) return true;
    return refuse(verdict,
                  "client %u reads %s of %s at index %lu and is told of %lu (first: claim "
                  "%lu, token %lu); there are %lu (first: claim %lu, token %lu)",
                  o->client, history_op_name(o->op), name_of(h, o->name), U(o->index),
                  U(o->answer_amount), U(o->part_count > 0 ? parts[0].a : 0),
                  U(o->part_count > 0 ? parts[0].c : 0), U(count),
                  U(count > 0 ? claims[0].claim : 0), U(count > 0 ? claims[0].token : 0));
}

static bool judge_ttl(const struct lock_model *m, const struct history_operation *o,
                      struct verdict *verdict) {
    const struct model_lease *lease = lock_model_lease(m, o->lease);
    bool well;
    if (lease == NULL) {
        well = o->status == WIRE_NO_LEASE;
    } else if (o->status == WIRE_LEASE_EXPIRED) {
        well = true;
    } else {
        well = o->status == WIRE_OK && lease->deadline_ns > m->time_ns &&
               o->answer_token == lease->ttl_ms &&
               o->answer_amount <= (lease->deadline_ns - m->time_ns) / 1000000;
    }
    if (well) return true;
    return refuse(verdict,
                  "client %u reads lease %lu at index %lu: status %u, TTL %lu, %lu left; "
                  "there its TTL is %lu (0: no such lease)",
                  o->client, U(o->lease), U(o->index), o->status, U(o->answer_token),
                  U(o->answer_amount), U(lease == NULL ? 0 : lease->ttl_ms));
}

static bool judge(const struct history *h, const struct lock_model *m,
                  const struct model_answer *answer, const struct history_operation *o,
                  struct verdict *verdict) {
    verdict->checked++;
    if (o->op == HISTORY_OP_EVENT) return judge_event(m, o, verdict);
    if (o->op == WIRE_OP_LEASE_TTL) return judge_ttl(m, o, verdict);
    if (!wire_op_is_read(o->op)) return judge_logged(h, o, answer, verdict);
    if (o->name >= HISTORY_NAMES) return true;
    if (o->op == WIRE_OP_CLAIM) return judge_claim(m, o, verdict);
    return judge_list(h, m, o, verdict);
}

// ---------------------------------------------------------------- real time

struct answered {
    uint64_t at_ns, index;
};

static int by_time(const void *a, const void *b) {
    const struct answered *x = a, *y = b;
    return x->at_ns < y->at_ns ? -1 : x->at_ns > y->at_ns;
}

// Refused before anything was executed: it has no index.
static bool has_index(const struct history_operation *o) {
    return o->returned_ns != 0 && o->index != 0 && o->status != WIRE_NOT_LEADER &&
           o->status != WIRE_BUSY && o->status != WIRE_BAD_REQUEST && o->status != WIRE_TOO_LARGE;
}

static void real_time(const struct history *h, struct verdict *verdict) {
    struct answered *list = malloc((h->operation_count + 1) * sizeof *list);
    uint32_t count = 0, at = 0;
    uint64_t newest = 0;
    for (uint32_t i = 0; i < h->operation_count; i++)
        if (has_index(&h->operations[i]))
            list[count++] = (struct answered){h->operations[i].returned_ns, h->operations[i].index};
    qsort(list, count, sizeof *list, by_time);
    for (uint32_t i = 0; i < h->operation_count && !verdict->broken; i++) {
        const struct history_operation *o = &h->operations[i];
        for (; at < count && list[at].at_ns < o->invoked_ns; at++)
            if (list[at].index > newest) newest = list[at].index;
        // What was told unasked, on its way since, was not invoked now.
        if (!has_index(o) || o->op == HISTORY_OP_EVENT) continue;
        bool read = wire_op_is_read(o->op);
        if (read ? o->index < newest : o->index <= newest)
            refuse(verdict,
                   "client %u: %s %s is answered for index %lu, though index %lu had been "
                   "answered before it was asked",
                   o->client, history_op_name(o->op), name_of(h, o->name), U(o->index), U(newest));
    }
    free(list);
}

// ---------------------------------------------------------------- the replay

static bool judge_state(const struct lock_model *m, const struct history_state *s,
                        struct verdict *verdict) {
    if (s->sessions == m->session_count && s->leases == m->lease_count &&
        s->locks == m->lock_count && s->claims == m->claim_count)
        return true;
    return refuse(verdict,
                  "at index %lu a node has %u sessions, %u leases, %u locks, %u claims; "
                  "what was executed makes %u, %u, %u, %u",
                  U(s->index), s->sessions, s->leases, s->locks, s->claims, m->session_count,
                  m->lease_count, m->lock_count, m->claim_count);
}

static bool committed(const struct history *h, uint64_t index) {
    return index > 0 && index <= h->entry_count && h->entries[index - 1].term != 0;
}

void check_witness(const struct history *h, struct verdict *verdict) {
    real_time(h, verdict);
    uint32_t *first = calloc(h->entry_count + 1u, sizeof *first);
    uint32_t *next = malloc((h->operation_count + 1) * sizeof *next);
    uint32_t waiting = 0;
    for (uint32_t i = h->operation_count; i-- > 0 && !verdict->broken;) {
        const struct history_operation *o = &h->operations[i];
        if (!has_index(o)) continue;
        waiting++;
        if (committed(h, o->index)) {
            next[i] = first[o->index];
            first[o->index] = i + 1;
        } else if (h->entry_count > 0 && h->lost == 0) {
            refuse(verdict,
                   "client %u: %s %s is answered for index %lu, which no node ever committed",
                   o->client, history_op_name(o->op), name_of(h, o->name), U(o->index));
        }
    }
    struct lock_model *m = lock_model_create(h);
    uint32_t state = 0;
    for (uint32_t i = 1; i <= h->entry_count && committed(h, i) && !verdict->broken; i++) {
        struct model_answer answer = lock_model_apply(m, &h->entries[i - 1]);
        if (m->beyond) break;
        for (uint32_t o = first[i]; o != 0 && !verdict->broken; o = next[o - 1])
            judge(h, m, &answer, &h->operations[o - 1], verdict);
        for (; state < h->state_count && h->states[state].index <= i; state++)
            if (h->states[state].index == i) judge_state(m, &h->states[state], verdict);
    }
    verdict->undecided = verdict->broken ? 0 : waiting - verdict->checked;
    lock_model_destroy(m);
    free(first);
    free(next);
}
