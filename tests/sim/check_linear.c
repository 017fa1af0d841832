// Linearizability of each lock by search (Wing and Gong 1993; memoised states as in Lowe 2017;
// name by name as in Horn and Kroening's P-compositionality). Indices are not looked at: this is an
// opinion from what clients asked and were told, and when.
//
// Required operations have an answer and take effect between question and answer. Optional ones may
// take effect or not, at any time after they began: operations never answered, the end of a lease
// from the earliest moment its TTL allows, the end of a bounded wait. Optional ones are tried last,
// and only where they change something, so that the search is nearly straight where all is well.
//
// Bounded: a name with more operations than LINEAR_MAX, or a search of more than LINEAR_STEPS, is
// told as undecided. States are remembered by a hash of 64 bits: two states that collide could at
// worst refuse a good history, once in 2^40 lives.
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "conclave_wire.h"

#define LINEAR_MAX   8192u // required operations of a name
#define LINEAR_STEPS 40000u
#define MEMO         (1u << 16)
#define QUEUE_MAX    24u
#define NOBODY       0u
#define MS           1000000ull
#define OP_END       2001u // of a lease
#define OP_TIMEOUT   2002u // of a wait
#define NONE         UINT32_MAX

#define U(number) ((unsigned long)(number))

struct state {      // of one lock
    uint64_t token; // of the holder; 0: not known yet
    uint64_t last;  // newest token known
    uint16_t holder;
    uint16_t waiters;
    uint16_t queue[QUEUE_MAX]; // leases, by number
};

struct step {
    const struct history_operation *o;
    uint64_t from_ns;
    uint16_t op;
    uint16_t lease;
    bool done;
    uint32_t next; // OP_TIMEOUT: the lease's next of them, or NONE
};

struct event { // of a required operation, in order of time
    uint64_t at_ns;
    uint32_t step;
    uint32_t next, before;
    bool returns;
};

struct frame {
    struct state state; // before
    uint32_t event;     // NONE: an optional one
    uint32_t choice;    // then: which of those that were open
    uint32_t step;
};

struct search {
    const struct history *h;
    struct step *steps;
    uint32_t step_count, optional; // required ones first, optional from here
    struct event *events;          // from 1; 0 is the head
    uint32_t event_count;
    struct frame *frames;
    uint32_t depth;
    // Leases are numbered anew for each name, from 1, as they are met in it.
    uint16_t lease_count;
    uint16_t number[HISTORY_ENTRIES + 1];   // by lease; 0: not met
    uint64_t end_ns[HISTORY_ENTRIES + 1];   // by lease: when it can first end by itself
    uint32_t leases[HISTORY_ENTRIES + 1];   // by number less one
    uint32_t ends[HISTORY_ENTRIES + 1];     // by number: its step
    uint32_t timeouts[HISTORY_ENTRIES + 1]; // by number: its first step of this kind, or NONE
    uint32_t unanswered;                    // steps, from `optional` on
    uint64_t done_hash;
    uint64_t *memo;
    uint32_t *memo_used; // places, so that they can be emptied
    uint32_t memo_count;
    bool beyond;
};

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static uint16_t lease_number(struct search *s, uint64_t lease) {
    if (lease > HISTORY_ENTRIES || s->lease_count == UINT16_MAX - 1) {
        s->beyond = true;
        return 1;
    }
    if (s->number[lease] == 0) {
        s->leases[s->lease_count++] = (uint32_t)lease;
        s->number[lease] = s->lease_count;
    }
    return s->number[lease];
}

// ---------------------------------------------------------------- the lock

static uint32_t place(const struct state *q, uint16_t lease) {
    for (uint32_t i = 0; i < q->waiters; i++)
        if (q->queue[i] == lease) return i;
    return NONE;
}

static bool leave_queue(struct state *q, uint16_t lease) {
    uint32_t at = place(q, lease);
    if (at == NONE) return false;
    q->waiters--;
    memmove(&q->queue[at], &q->queue[at + 1], (q->waiters - at) * sizeof q->queue[0]);
    return true;
}

static void give_on(struct state *q) {
    q->holder = NOBODY;
    q->token = 0;
    if (q->waiters == 0) return;
    q->holder = q->queue[0];
    (void)leave_queue(q, q->holder);
}

static bool end(struct state *q, uint16_t lease) {
    if (leave_queue(q, lease)) return true;
    if (q->holder != lease) return false;
    give_on(q);
    return true;
}

// Is `token` the holder's? The first to name it settles it.
static bool is_token(struct state *q, uint64_t token) {
    if (q->holder == NOBODY) return false;
    if (q->token != 0) return q->token == token;
    if (token <= q->last) return false;
    q->token = q->last = token;
    return true;
}

static bool take(struct state *q, uint16_t lease, uint64_t token) {
    if (q->holder == lease) return is_token(q, token);
    if (q->holder != NOBODY || token <= q->last) return false;
    q->holder = lease;
    q->token = q->last = token;
    return true;
}

static bool wait(struct search *s, struct state *q, uint16_t lease) {
    if (q->holder == NOBODY || q->holder == lease) return false;
    if (place(q, lease) != NONE) return true;
    if (q->waiters == QUEUE_MAX) {
        s->beyond = true;
        return false;
    }
    q->queue[q->waiters++] = lease;
    return true;
}

static bool step_acquire(struct search *s, struct state *q, const struct step *step) {
    const struct history_operation *o = step->o;
    switch (o->status) {
    case WIRE_OK:
        return take(q, step->lease, o->answer_token);
    case WIRE_WOULD_BLOCK:
        if (q->holder == step->lease || !is_token(q, o->answer_token)) return false;
        (void)leave_queue(q, step->lease);
        return true;
    case WIRE_QUEUED:
        return wait(s, q, step->lease);
    default:
        return true; // refused for its lease or for room: not this lock's affair
    }
}

static bool step_read(struct search *s, struct state *q, const struct step *step) {
    const struct history_operation *o = step->o;
    const struct history_part *parts = &s->h->parts[o->parts];
    if (o->op == WIRE_OP_LOCK_HOLDERS) {
        if (o->part_count == 0) return q->holder == NOBODY;
        return q->holder == lease_number(s, parts[0].b) && is_token(q, parts[0].c);
    }
    if (o->op == WIRE_OP_LOCK_QUEUE) {
        if (o->answer_amount != q->waiters || o->amount + o->part_count > q->waiters) return false;
        for (uint32_t i = 0; i < o->part_count; i++)
            if (q->queue[o->amount + i] != lease_number(s, parts[i].b)) return false;
        return true;
    }
    if (o->status == WIRE_OK) return q->holder == step->lease && is_token(q, o->answer_token);
    if (o->status == WIRE_QUEUED) return place(q, step->lease) != NONE;
    return true;
}

// Answered: can it happen here, with that answer?
static bool step_required(struct search *s, struct state *q, const struct step *step) {
    const struct history_operation *o = step->o;
    switch (step->op) {
    case WIRE_OP_LOCK_ACQUIRE:
        return step_acquire(s, q, step);
    case WIRE_OP_LOCK_RELEASE:
        if (o->status == WIRE_OK) {
            if (!is_token(q, o->token)) return false;
            give_on(q);
            return true;
        }
        if (o->status == WIRE_NOT_HOLDER)
            return q->holder == NOBODY || q->token == 0 || q->token != o->token;
        return true;
    case WIRE_OP_LEASE_REVOKE:
        if (o->status == WIRE_OK) (void)end(q, step->lease);
        return true;
    default:
        return step_read(s, q, step);
    }
}

// Not answered: does it change anything here?
static bool step_optional(struct search *s, struct state *q, const struct step *step) {
    switch (step->op) {
    case WIRE_OP_LOCK_ACQUIRE:
        if (q->holder == step->lease) return false;
        if (q->holder == NOBODY) {
            q->holder = step->lease; // its token is not known
            q->token = 0;
            return true;
        }
        if (step->o->amount == 0) return leave_queue(q, step->lease);
        return place(q, step->lease) == NONE && wait(s, q, step->lease);
    case WIRE_OP_LOCK_RELEASE:
        if (!is_token(q, step->o->token)) return false;
        give_on(q);
        return true;
    case OP_TIMEOUT:
        return leave_queue(q, step->lease);
    default:
        return end(q, step->lease);
    }
}

// ---------------------------------------------------------------- the search

static void lift(struct search *s, uint32_t call, bool out) {
    uint32_t back = call;
    while (!s->events[back].returns || s->events[back].step != s->events[call].step) back++;
    const uint32_t pair[2] = {out ? call : back, out ? back : call};
    for (uint32_t i = 0; i < 2; i++) {
        const struct event *e = &s->events[pair[i]];
        s->events[e->before].next = out ? e->next : pair[i];
        s->events[e->next].before = out ? e->before : pair[i];
    }
}

static bool is_new(struct search *s, const struct state *q, uint32_t step) {
    uint64_t key = s->done_hash ^ mix(step + 1);
    key = mix(key ^ mix(q->token ^ ((uint64_t)q->holder << 48)) ^ mix(~q->last));
    for (uint32_t i = 0; i < q->waiters; i++) key = mix(key + q->queue[i] + 1);
    if (key == 0) key = 1;
    uint32_t at = (uint32_t)key % MEMO;
    for (; s->memo[at] != 0; at = (at + 1) % MEMO)
        if (s->memo[at] == key) return false;
    s->memo[at] = key;
    s->memo_used[s->memo_count++] = at;
    return true;
}

static void push(struct search *s, struct state *q, const struct state *after, uint32_t event,
                 uint32_t choice, uint32_t step) {
    s->frames[s->depth++] = (struct frame){*q, event, choice, step};
    s->steps[step].done = true;
    s->done_hash ^= mix(step + 1);
    if (event != NONE) lift(s, event, true);
    *q = *after;
}

// Optional steps that could change this state, by number: those never answered, and for each lease
// that holds or waits its end and the end of a wait. NONE: that choice is not open; a number too
// high: LAST.
#define LAST (UINT32_MAX - 1)
static uint32_t optional_step(const struct search *s, const struct state *q, uint32_t choice,
                              uint64_t limit_ns) {
    uint32_t at = NONE;
    if (choice < s->unanswered) {
        at = s->optional + choice;
    } else {
        uint32_t who = (choice - s->unanswered) / 2;
        if (who > q->waiters) return LAST;
        uint16_t lease = who == 0 ? q->holder : q->queue[who - 1];
        if (lease == NOBODY) return NONE;
        at = (choice - s->unanswered) % 2 == 0 ? s->ends[lease] : s->timeouts[lease];
        while (at != NONE && s->steps[at].op == OP_TIMEOUT &&
               (s->steps[at].done || s->steps[at].from_ns > limit_ns))
            at = s->steps[at].next;
    }
    if (at == NONE || s->steps[at].done || s->steps[at].from_ns > limit_ns) return NONE;
    return at;
}

// The next way on from here: required ones from `event`, then optional ones from `choice`. False:
// there is none.
static bool advance(struct search *s, struct state *q, uint32_t event, uint32_t choice) {
    uint32_t tail = s->event_count + 1, step;
    for (; event != NONE && event != tail && !s->events[event].returns;
         event = s->events[event].next) {
        uint32_t at = s->events[event].step;
        struct state after = *q;
        if (!step_required(s, &after, &s->steps[at]) || !is_new(s, &after, at)) continue;
        push(s, q, &after, event, 0, at);
        return true;
    }
    uint64_t limit_ns = UINT64_MAX; // of the first answer that is still to come
    for (uint32_t e = s->events[0].next; e != tail; e = s->events[e].next) {
        if (!s->events[e].returns) continue;
        limit_ns = s->events[e].at_ns;
        break;
    }
    for (; (step = optional_step(s, q, choice, limit_ns)) != LAST; choice++) {
        if (step == NONE) continue;
        struct state after = *q;
        if (!step_optional(s, &after, &s->steps[step]) || !is_new(s, &after, step)) continue;
        push(s, q, &after, NONE, choice, step);
        return true;
    }
    return false;
}

// 1: an order was found, 0: there is none, -1: given up. *deepest: the answer that no order
// reached.
static int find_order(struct search *s, uint32_t *deepest) {
    struct state q = {0};
    uint32_t tail = s->event_count + 1, from = s->events[0].next, choice = 0, far = 0;
    for (uint32_t steps = 0; s->events[0].next != tail; steps++) {
        if (s->beyond || steps == LINEAR_STEPS) return -1;
        if (advance(s, &q, from, choice)) {
            from = s->events[0].next, choice = 0;
            for (uint32_t e = from; e != tail && e > far; e = s->events[e].next) {
                if (!s->events[e].returns) continue;
                far = e, *deepest = s->events[e].step;
                break;
            }
            continue;
        }
        if (s->depth == 0) return 0;
        const struct frame *frame = &s->frames[--s->depth];
        q = frame->state;
        s->steps[frame->step].done = false;
        s->done_hash ^= mix(frame->step + 1);
        if (frame->event != NONE) lift(s, frame->event, false);
        from = frame->event != NONE ? s->events[frame->event].next : NONE;
        choice = frame->event != NONE ? 0 : frame->choice + 1;
    }
    return 1;
}

// ---------------------------------------------------------------- a name's operations

static void add(struct search *s, uint16_t op, const struct history_operation *o, uint64_t lease,
                uint64_t from_ns) {
    s->steps[s->step_count++] = (struct step){
        .o = o,
        .op = op,
        .lease = lease == 0 ? NOBODY : lease_number(s, lease),
        .from_ns = from_ns,
        .next = NONE,
    };
}

static bool of_name(const struct search *s, const struct history_operation *o, uint8_t name) {
    if (o->op == WIRE_OP_LEASE_REVOKE)
        return o->lease <= HISTORY_ENTRIES && s->number[o->lease] != 0;
    return o->name == name && o->op != HISTORY_OP_EVENT;
}

// An answer that says nothing of what became of the question is none.
static bool answered(const struct history_operation *o) {
    return o->returned_ns != 0 && o->status != WIRE_STALE_SEQUENCE && o->status != WIRE_NO_SESSION;
}

// The earliest moment at which a lease can end by itself: TTL after the last renewal that was
// acknowledged had been asked for.
static void find_ends(struct search *s) {
    memset(s->end_ns, 0, sizeof s->end_ns);
    if (s->h->early) return;
    for (uint32_t i = 0; i < s->h->operation_count; i++) {
        const struct history_operation *o = &s->h->operations[i];
        bool grants = o->op == WIRE_OP_LEASE_GRANT;
        if (!grants && o->op != WIRE_OP_LEASE_KEEPALIVE) continue;
        if (o->returned_ns == 0 || o->status != WIRE_OK) continue;
        uint64_t lease = grants ? o->answer_token : o->lease;
        if (lease <= HISTORY_ENTRIES) s->end_ns[lease] = o->invoked_ns + o->answer_amount * MS;
    }
}

static void meet_leases(struct search *s, uint8_t name) {
    for (uint32_t i = 0; i < s->h->operation_count; i++) {
        const struct history_operation *o = &s->h->operations[i];
        if (o->name != name) continue;
        if (o->op == WIRE_OP_LOCK_ACQUIRE) (void)lease_number(s, o->lease);
        for (uint32_t k = 0; k < o->part_count; k++)
            (void)lease_number(s, s->h->parts[o->parts + k].b);
    }
}

static void gather(struct search *s, uint8_t name) {
    const struct history *h = s->h;
    meet_leases(s, name);
    for (uint32_t i = 0; i < h->operation_count; i++) {
        const struct history_operation *o = &h->operations[i];
        if (answered(o) && of_name(s, o, name)) add(s, o->op, o, o->lease, o->invoked_ns);
    }
    s->optional = s->step_count;
    for (uint32_t i = 0; i < h->operation_count; i++) {
        const struct history_operation *o = &h->operations[i];
        if (!answered(o) && !wire_op_is_read(o->op) && of_name(s, o, name))
            add(s, o->op, o, o->lease, o->invoked_ns);
    }
    s->unanswered = s->step_count - s->optional;
    for (uint16_t k = 1; k <= s->lease_count; k++) {
        s->ends[k] = s->step_count;
        s->timeouts[k] = NONE;
        add(s, OP_END, NULL, s->leases[k - 1], s->end_ns[s->leases[k - 1]]);
    }
    for (uint32_t i = h->operation_count; i-- > 0;) { // so that the first is first in its chain
        const struct history_operation *o = &h->operations[i];
        if (o->name != name || o->op != WIRE_OP_LOCK_ACQUIRE) continue;
        if (o->amount == 0 || o->amount == WIRE_WAIT_FOREVER) continue;
        uint16_t lease = lease_number(s, o->lease);
        uint64_t wait_ns = s->h->early ? 0 : o->amount * (MS - MS / 1000);
        add(s, OP_TIMEOUT, o, o->lease, o->invoked_ns + wait_ns);
        s->steps[s->step_count - 1].next = s->timeouts[lease];
        s->timeouts[lease] = s->step_count - 1;
    }
}

static int by_time(const void *a, const void *b) {
    const struct event *x = a, *y = b;
    if (x->at_ns != y->at_ns) return x->at_ns < y->at_ns ? -1 : 1;
    if (x->returns != y->returns) return x->returns ? 1 : -1; // at one moment: both ways are open
    return x->step < y->step ? -1 : x->step > y->step;
}

static void line_up(struct search *s) {
    s->event_count = 0;
    for (uint32_t i = 0; i < s->optional; i++) {
        const struct history_operation *o = s->steps[i].o;
        s->events[++s->event_count] = (struct event){.at_ns = o->invoked_ns, .step = i};
        s->events[++s->event_count] =
            (struct event){.at_ns = o->returned_ns, .step = i, .returns = true};
    }
    qsort(s->events + 1, s->event_count, sizeof *s->events, by_time);
    for (uint32_t i = 0; i <= s->event_count + 1; i++) {
        s->events[i].next = i + 1;
        s->events[i].before = i - 1;
    }
}

static void check_name(struct search *s, uint8_t name, struct verdict *verdict) {
    while (s->lease_count > 0) s->number[s->leases[--s->lease_count]] = 0;
    s->step_count = s->depth = 0;
    s->done_hash = 0;
    s->beyond = false;
    gather(s, name);
    if (s->optional > LINEAR_MAX || s->beyond) {
        verdict->undecided += s->optional;
        return;
    }
    line_up(s);
    while (s->memo_count > 0) s->memo[s->memo_used[--s->memo_count]] = 0;
    uint32_t deepest = 0;
    int found = find_order(s, &deepest);
    if (found < 0) verdict->undecided += s->optional;
    if (found >= 0) verdict->checked += s->optional;
    if (found != 0) return;
    const struct history_operation *o = s->steps[deepest].o;
    refuse(verdict,
           "%s is not linearizable: no order of %u operations explains the answer to client "
           "%u's %s at %.6f s: status %u, token %lu",
           s->h->names[name], s->optional, o->client, history_op_name(o->op),
           (double)o->returned_ns / 1e9, o->status,
           U(o->part_count > 0 ? s->h->parts[o->parts].c : o->answer_token));
}

void check_linear(const struct history *h, struct verdict *verdict) {
    if (h->lost != 0) { // what is not there may explain what is
        verdict->undecided = h->operation_count;
        return;
    }
    // Of each operation at most an answer, a time-out and a lease's end; each reads at most
    // part_count leases.
    size_t room = 2 * (size_t)h->operation_count + h->part_count + 8;
    struct search *s = malloc(sizeof *s);
    s->h = h;
    s->lease_count = 0;
    s->memo_count = 0;
    memset(s->number, 0, sizeof s->number);
    find_ends(s);
    s->steps = malloc(2 * room * sizeof *s->steps);
    s->events = malloc(room * sizeof *s->events);
    s->frames = malloc(room * sizeof *s->frames);
    s->memo = calloc(MEMO, sizeof *s->memo);
    s->memo_used = malloc(MEMO * sizeof *s->memo_used);
    for (uint32_t n = 0; n < h->name_count && !verdict->broken; n++)
        check_name(s, (uint8_t)n, verdict);
    free(s->steps);
    free(s->events);
    free(s->frames);
    free(s->memo);
    free(s->memo_used);
    free(s);
}
