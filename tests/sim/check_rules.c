// What a lock promises, judged from what clients were told and believed alone; the log is not
// looked at. One holder at a time, tokens that rise, first come first served, no grant lost once it
// was acknowledged, and nobody gives back what is another's.
//
// Whether a holder's lease may have ended cannot be seen by its clients. So a lease counts as alive
// at a moment only when something begun after that moment was answered with "alive".
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "conclave_wire.h"

#define U(number) ((unsigned long)(number))

struct grant { // as somebody was told of it
    uint64_t token, claim, lease;
    uint64_t seen_ns;
    uint8_t name;
    uint8_t client;
};

struct rules {
    const struct history *h;
    struct verdict *verdict;
    struct grant *grants; // by token, one each
    uint32_t grant_count;
    // Answers about leases, by (lease, time): the last time each was surely alive.
    struct alive {
        uint64_t lease, invoked_ns;
    } * alive;
    uint32_t alive_count;
    // Who asked for the end of what: of a token, of a lease. By (key, time).
    struct ending {
        uint64_t key, invoked_ns;
        uint32_t at; // operation
    } * releases, *revokes;
    uint32_t release_count, revoke_count;
};

static const char *name_of(const struct history *h, uint8_t name) {
    return name < h->name_count ? h->names[name] : "(no name)";
}

static int compare(uint64_t a, uint64_t b) {
    return a < b ? -1 : a > b;
}

// ---------------------------------------------------------------- gathering

static void add_grant(struct rules *r, const struct history_operation *o, uint64_t token,
                      uint64_t claim, uint64_t lease) {
    if (token == 0 || o->name == HISTORY_NO_NAME) return;
    r->grants[r->grant_count++] =
        (struct grant){token, claim, lease, o->returned_ns, o->name, o->client};
}

static void gather(struct rules *r, uint32_t at) {
    const struct history_operation *o = &r->h->operations[at];
    if (o->op == WIRE_OP_LOCK_RELEASE)
        r->releases[r->release_count++] = (struct ending){o->token, o->invoked_ns, at};
    if (o->op == WIRE_OP_LEASE_REVOKE)
        r->revokes[r->revoke_count++] = (struct ending){o->lease, o->invoked_ns, at};
    if (o->returned_ns == 0 || o->status != WIRE_OK) return;
    switch (o->op) {
    case WIRE_OP_LOCK_ACQUIRE: // of a free lock, claim and token are one
        add_grant(r, o, o->answer_token, o->answer_token == o->index ? o->index : 0, o->lease);
        break;
    case WIRE_OP_CLAIM:
    case HISTORY_OP_EVENT:
        add_grant(r, o, o->answer_token, o->token, o->lease);
        break;
    case WIRE_OP_LOCK_HOLDERS:
        if (o->part_count > 0) {
            const struct history_part *part = &r->h->parts[o->parts];
            add_grant(r, o, part->c, part->a, part->b);
        }
        break;
    case WIRE_OP_LEASE_KEEPALIVE:
        r->alive[r->alive_count++] = (struct alive){o->lease, o->invoked_ns};
        break;
    default:
        break;
    }
}

static int by_token(const void *a, const void *b) {
    const struct grant *x = a, *y = b;
    int order = compare(x->token, y->token);
    if (order == 0) order = compare(x->name, y->name); // one entry may grant several locks
    return order != 0 ? order : compare(x->seen_ns, y->seen_ns);
}

static int by_lease(const void *a, const void *b) {
    const struct alive *x = a, *y = b;
    int order = compare(x->lease, y->lease);
    return order != 0 ? order : compare(x->invoked_ns, y->invoked_ns);
}

static int by_key(const void *a, const void *b) {
    const struct ending *x = a, *y = b;
    int order = compare(x->key, y->key);
    return order != 0 ? order : compare(x->at, y->at);
}

// All that were told of one grant must have been told the same; then one record of it is enough.
static bool merge(struct rules *r) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->grant_count; i++) {
        const struct grant *g = &r->grants[i];
        struct grant *last = kept > 0 ? &r->grants[kept - 1] : NULL;
        if (last == NULL || last->token != g->token || last->name != g->name) {
            r->grants[kept++] = *g;
            continue;
        }
        if (last->lease != g->lease ||
            (last->claim != 0 && g->claim != 0 && last->claim != g->claim))
            return refuse(r->verdict,
                          "token %lu of %s is two grants: claim %lu under lease %lu, and claim %lu "
                          "under lease %lu",
                          U(g->token), name_of(r->h, g->name), U(last->claim), U(last->lease),
                          U(g->claim), U(g->lease));
        if (last->claim == 0) last->claim = g->claim;
    }
    r->grant_count = kept;
    return true;
}

// ---------------------------------------------------------------- looking up

static bool alive_after(const struct rules *r, uint64_t lease, uint64_t since_ns) {
    uint32_t low = 0, high = r->alive_count;
    while (low < high) { // first behind this lease's
        uint32_t middle = low + (high - low) / 2;
        if (r->alive[middle].lease <= lease)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && r->alive[low - 1].lease == lease && r->alive[low - 1].invoked_ns > since_ns;
}

// Did anybody, in another operation than `self`, ask for the end of it before `until_ns`?
static bool asked_to_end(const struct ending *list, uint32_t count, uint64_t key, uint32_t self,
                         uint64_t until_ns) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (list[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < count && list[low].key == key; low++)
        if (list[low].at != self) return list[low].invoked_ns < until_ns;
    return false;
}

static bool may_have_ended(const struct rules *r, const struct grant *grant, uint32_t self,
                           uint64_t until_ns) {
    return asked_to_end(r->releases, r->release_count, grant->token, self, until_ns) ||
           asked_to_end(r->revokes, r->revoke_count, grant->lease, self, until_ns);
}

static const struct grant *find_grant(const struct rules *r, uint64_t token, uint8_t name) {
    struct grant key = {.token = token, .name = name};
    uint32_t low = 0, high = r->grant_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (by_token(&r->grants[middle], &key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    const struct grant *found = &r->grants[low];
    return low < r->grant_count && found->token == token && found->name == name ? found : NULL;
}

// ---------------------------------------------------------------- the rules

// Grants of each name in the order of their tokens: one after the other, in the order of the queue.
static bool one_after_another(struct rules *r) {
    const struct grant *last[HISTORY_NAMES] = {NULL};
    uint64_t claim[HISTORY_NAMES] = {0};
    for (uint32_t i = 0; i < r->grant_count; i++) {
        const struct grant *g = &r->grants[i], *before = last[g->name];
        last[g->name] = g;
        if (g->claim != 0) {
            if (g->claim < claim[g->name])
                return refuse(r->verdict,
                              "the queue of %s was jumped: claim %lu is granted (token "
                              "%lu) only after claim %lu, which came later",
                              name_of(r->h, g->name), U(g->claim), U(g->token), U(claim[g->name]));
            claim[g->name] = g->claim;
        }
        if (before == NULL || !alive_after(r, before->lease, g->seen_ns)) continue;
        if (!may_have_ended(r, before, UINT32_MAX, g->seen_ns))
            return refuse(r->verdict,
                          "%s is granted twice: token %lu to lease %lu, though lease %lu "
                          "holds it with token %lu, is alive after that, and was never asked to go",
                          name_of(r->h, g->name), U(g->token), U(g->lease), U(before->lease),
                          U(before->token));
    }
    return true;
}

static int by_seen(const void *a, const void *b) {
    const struct grant *x = a, *y = b;
    return compare(x->seen_ns, y->seen_ns);
}

// In real time: once a token was told, no read begun later names an older one, and no later acquire
// is given one.
static bool tokens_rise(struct rules *r) {
    const struct history *h = r->h;
    struct grant *seen = malloc((r->grant_count + 1) * sizeof *seen);
    memcpy(seen, r->grants, r->grant_count * sizeof *seen);
    qsort(seen, r->grant_count, sizeof *seen, by_seen);
    uint64_t newest[HISTORY_NAMES] = {0};
    uint32_t at = 0;
    bool well = true;
    for (uint32_t i = 0; i < h->operation_count && well; i++) {
        const struct history_operation *o = &h->operations[i];
        for (; at < r->grant_count && seen[at].seen_ns < o->invoked_ns; at++)
            if (seen[at].token > newest[seen[at].name]) newest[seen[at].name] = seen[at].token;
        if (o->returned_ns == 0 || o->name == HISTORY_NO_NAME) continue;
        bool holders = o->op == WIRE_OP_LOCK_HOLDERS && o->part_count > 0;
        bool granted = o->op == WIRE_OP_LOCK_ACQUIRE && o->status == WIRE_OK;
        uint64_t token = holders ? h->parts[o->parts].c : granted ? o->answer_token : UINT64_MAX;
        if (token >= newest[o->name]) continue;
        well = refuse(r->verdict,
                      "%s goes back: client %u is told token %lu by %s, though token %lu had "
                      "been told before it asked",
                      name_of(h, o->name), o->client, U(token), history_op_name(o->op),
                      U(newest[o->name]));
    }
    free(seen);
    return well;
}

static int by_grant(const void *a, const void *b) {
    const struct history_hold *x = a, *y = b;
    int order = compare(x->token, y->token);
    return order != 0 ? order : compare(x->name, y->name);
}

// A release that was answered "done" ended that grant: it was the name's newest at that index, and
// it ends but once.
static bool only_ones_own(struct rules *r) {
    struct history_hold *done = malloc((r->release_count + 1) * sizeof *done);
    uint32_t done_count = 0;
    bool well = true;
    for (uint32_t i = 0; i < r->release_count && well; i++) {
        const struct history_operation *o = &r->h->operations[r->releases[i].at];
        r->verdict->checked++;
        if (o->returned_ns == 0 || o->status != WIRE_OK) continue;
        done[done_count++] = (struct history_hold){.token = o->token, .name = o->name};
        const struct grant *g = find_grant(r, o->token, o->name);
        // Told of a later grant before this was asked: that one held the lock then.
        for (uint32_t k = 0; g != NULL && k < 2 && well; k++) {
            while (++g < r->grants + r->grant_count && g->name != o->name) {
            }
            if (g == r->grants + r->grant_count) break;
            if (g->seen_ns < o->invoked_ns)
                well = refuse(r->verdict,
                              "client %u gives back %s with token %lu and is told it is "
                              "done, but token %lu held it already",
                              o->client, name_of(r->h, o->name), U(o->token), U(g->token));
        }
    }
    qsort(done, done_count, sizeof *done, by_grant);
    for (uint32_t i = 1; i < done_count && well; i++)
        if (by_grant(&done[i], &done[i - 1]) == 0)
            well = refuse(r->verdict, "token %lu was given back twice, each time successfully",
                          U(done[i].token));
    free(done);
    return well;
}

// A grant that was acknowledged is there when it is given back, while its lease lives.
static bool none_lost(struct rules *r) {
    for (uint32_t i = 0; i < r->release_count; i++) {
        const struct history_operation *o = &r->h->operations[r->releases[i].at];
        if (o->returned_ns == 0 || o->status != WIRE_NOT_HOLDER) continue;
        const struct grant *g = find_grant(r, o->token, o->name);
        if (g == NULL || g->seen_ns >= o->invoked_ns) continue;
        if (!alive_after(r, g->lease, o->returned_ns)) continue;
        // Unless another release of it, or a revoke, was under way or done.
        if (!may_have_ended(r, g, r->releases[i].at, o->returned_ns + 1))
            return refuse(r->verdict,
                          "an acknowledged grant was lost: client %u gives back %s with "
                          "token %lu under the living lease %lu and is told it does not hold it",
                          o->client, name_of(r->h, o->name), U(o->token), U(g->lease));
    }
    return true;
}

// ---------------------------------------------------------------- what was believed

static int by_start(const void *a, const void *b) {
    const struct history_hold *x = a, *y = b;
    if (x->name != y->name) return x->name < y->name ? -1 : 1;
    return compare(x->from_ns, y->from_ns);
}

static void beliefs(struct rules *r) {
    const struct history *h = r->h;
    struct history_hold *holds = malloc((h->hold_count + 1) * sizeof *holds);
    memcpy(holds, h->holds, h->hold_count * sizeof *holds);
    qsort(holds, h->hold_count, sizeof *holds, by_start);
    for (uint32_t i = 1; i < h->hold_count && !r->verdict->broken; i++) {
        const struct history_hold *a = &holds[i - 1];
        struct history_hold *b = &holds[i];
        if (a->name != b->name) continue;
        if (b->from_ns < a->to_ns)
            refuse(r->verdict,
                   "clients %u (token %lu) and %u (token %lu) both believed that they hold %s "
                   "for %lu us",
                   a->client, U(a->token), b->client, U(b->token), name_of(h, a->name),
                   U(((a->to_ns < b->to_ns ? a->to_ns : b->to_ns) - b->from_ns) / 1000));
        else if (b->token <= a->token)
            refuse(r->verdict, "%s is held with token %lu after token %lu", name_of(h, a->name),
                   U(b->token), U(a->token));
    }
    r->verdict->checked += h->hold_count;
    free(holds);
}

void check_rules(const struct history *h, struct verdict *verdict) {
    struct rules r = {.h = h, .verdict = verdict};
    uint32_t room = h->operation_count + 1;
    r.grants = malloc(room * sizeof *r.grants);
    r.alive = malloc(room * sizeof *r.alive);
    r.releases = malloc(room * sizeof *r.releases);
    r.revokes = malloc(room * sizeof *r.revokes);
    for (uint32_t i = 0; i < h->operation_count; i++) gather(&r, i);
    qsort(r.grants, r.grant_count, sizeof *r.grants, by_token);
    qsort(r.alive, r.alive_count, sizeof *r.alive, by_lease);
    qsort(r.releases, r.release_count, sizeof *r.releases, by_key);
    qsort(r.revokes, r.revoke_count, sizeof *r.revokes, by_key);
    verdict->checked += r.grant_count;
    beliefs(&r);
    if (!verdict->broken && merge(&r) && one_after_another(&r) && tokens_rise(&r) &&
        only_ones_own(&r))
        none_lost(&r);
    free(r.grants);
    free(r.alive);
    free(r.releases);
    free(r.revokes);
}
