// The events, and the state.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "orders.h"

static const uint64_t noop = 0x6e6f6f70;
#define CHANCE 12345u // every draw begins here: an election time and a bit, always the same

static struct raft_options options_of(uint8_t node) {
    return (struct raft_options){.id = (uint16_t)(node + 1),
                                 .node_count = NODES,
                                 .nodes = {1, 2, 3},
                                 .election_ns = ELECTION_NS,
                                 .heartbeat_ns = HEARTBEAT_NS,
                                 .log_entries = 128,
                                 .log_bytes = 8192,
                                 .window_entries = 4,
                                 .noop = &noop,
                                 .noop_length = sizeof noop};
}

static bool all_linked; // while a scope is being prepared

// ---------------------------------------------------------------- time stands still

static void back_to_the_hour(uint64_t *time_ns, uint64_t passed, uint64_t now_ns) {
    if (*time_ns + AGE_MAX_NS < now_ns) *time_ns = now_ns - AGE_MAX_NS;
    *time_ns -= passed;
}

static void normalise(struct raft *raft, uint64_t passed) {
    uint64_t now_ns = raft->now_ns;
    uint64_t *times[] = {&raft->leader_heard_ns, &raft->election_deadline_ns, &raft->resend_ns,
                         &raft->durable_moved_ns, &raft->context_ns};
    for (uint32_t i = 0; i < sizeof times / sizeof *times; i++)
        back_to_the_hour(times[i], passed, now_ns);
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        back_to_the_hour(&raft->peers[i].heard_ns, passed, now_ns);
        back_to_the_hour(&raft->peers[i].sent_ns, passed, now_ns);
    }
    raft->led_since_ns -= passed < raft->led_since_ns ? passed : 0; // raft_time() goes on
    raft->now_ns = HOUR_NS;
    raft->random = CHANCE;
}

// ---------------------------------------------------------------- what follows from a step

static void post(uint8_t node, const struct raft_message *message) {
    struct world *w = &search.world;
    uint8_t to = (uint8_t)(message->peer - 1);
    check_sent(node, message);
    if (!all_linked && (search.scope->apart & (1u << (3 - node - to)))) return;
    if (w->mail_count == MAIL_MAX) {
        search.lost_mail++;
        return;
    }
    struct mail *mail = &w->mail[w->mail_count++];
    memset(mail, 0, sizeof *mail);
    mail->message = *message;
    mail->message.peer = (uint16_t)(node + 1);
    mail->to = message->peer;
    if (message->type == WIRE_APPEND) {
        if (message->append.count > MAIL_BODIES) search_broken("scope: too large an append");
        for (uint32_t i = 0; i < message->append.count; i++)
            mail->entries[i] = record_at(search.rafts[node], message->append.prev_index + 1 + i);
    }
    struct mail plain = *mail; // times decide nothing: see orders.h
    for (uint32_t i = 0; i < MAIL_BODIES; i++) plain.entries[i].time_ns = 0;
    mail->hash = XXH3_64bits(&plain, sizeof plain);
}

static void begin_writes(uint8_t number) {
    struct node *n = &search.world.nodes[number];
    struct raft *raft = search.rafts[number];
    struct raft_hard_state vote = raft_hard_state(raft);
    if (!n->voting && vote.sequence > raft->hard_durable) {
        n->voting = true;
        n->vote = vote;
    }
    uint64_t first, epoch, count = raft_unpersisted(raft, &first, &epoch);
    if (n->writing || count == 0) return;
    n->writing = true;
    n->first = first;
    n->last = first + count - 1;
    n->term = raft_term_at(raft, n->last);
    n->epoch = epoch;
    if (n->last > INDEX_MAX) search_broken("scope: too long a log");
    for (uint64_t i = first; i <= n->last; i++) n->records[i] = record_at(raft, i);
    raft_persist_begun(raft, n->last);
}

static void step(uint8_t number, uint64_t passed, const struct raft_event *event) {
    static struct raft_effects effects;
    struct raft *raft = search.rafts[number];
    raft_step(raft, HOUR_NS + passed, event, event != NULL, &effects);
    for (uint32_t i = 0; i < effects.message_count; i++) post(number, &effects.messages[i]);
    check_node(number);
    begin_writes(number);
    normalise(raft, passed);
}

// ---------------------------------------------------------------- events

static void vote_lands(struct node *n) {
    n->voting = false;
    n->drive.term = n->vote.term;
    n->drive.vote = n->vote.vote;
}

static void log_lands(struct node *n) {
    n->writing = false;
    for (uint64_t i = n->first; i <= n->last; i++) n->drive.log[i] = n->records[i];
    n->drive.last = n->last;
}

static void boot(uint8_t number) {
    struct node *n = &search.world.nodes[number];
    struct raft_options options = options_of(number);
    struct raft *raft = raft_create(search.rafts[number], &options);
    raft_restore_hard_state(raft, n->drive.term, n->drive.vote);
    for (uint64_t i = 1; i <= n->drive.last; i++) {
        const struct record *r = &n->drive.log[i];
        struct raft_entry entry = {r->term, r->time_ns, &r->body, sizeof r->body, r->type};
        if (!raft_restore_entry(raft, i, &entry)) search_broken("restart: the log does not fit");
    }
    raft->random = CHANCE;
    raft_start(raft, HOUR_NS);
    n->voting = n->writing = false;
    n->vote = (struct raft_hard_state){0};
    n->commit = 0;
    normalise(raft, 0);
}

static void deliver(uint8_t which, bool stays) {
    struct world *w = &search.world;
    struct mail mail = w->mail[which];
    struct raft_entry entries[MAIL_BODIES];
    struct raft_event event = {.type = RAFT_EVENT_MESSAGE, .message = mail.message};
    if (mail.message.type == WIRE_APPEND) {
        for (uint32_t i = 0; i < mail.message.append.count; i++)
            entries[i] = (struct raft_entry){mail.entries[i].term, mail.entries[i].time_ns,
                                             &mail.entries[i].body, 8, mail.entries[i].type};
        event.message.append.entries = entries;
    }
    if (stays) {
        w->duplicates--;
    } else {
        w->mail_count--;
        memmove(&w->mail[which], &w->mail[which + 1], (w->mail_count - which) * sizeof *w->mail);
    }
    step((uint8_t)(mail.to - 1), 0, &event);
}

void world_apply(struct event e) {
    struct world *w = &search.world;
    struct node *n = &w->nodes[e.node];
    struct raft_event event = {0};
    switch ((enum event_type)e.type) {
    case DELIVER:
    case DOUBLE:
        deliver(e.number, e.type == DOUBLE);
        return;
    case VOTE_DURABLE:
        event.type = RAFT_EVENT_HARD_STATE_DURABLE;
        event.hard_state.sequence = n->vote.sequence;
        vote_lands(n);
        break;
    case LOG_DURABLE:
        event.type = RAFT_EVENT_DURABLE;
        event.durable.index = n->last;
        event.durable.term = n->term;
        event.durable.epoch = n->epoch;
        log_lands(n);
        break;
    case TIME_OUT:
        n->left.time_outs--;
        step(e.node, 2 * ELECTION_NS, NULL);
        return;
    case QUIET:
        n->left.quiets--;
        step(e.node, ELECTION_NS, NULL);
        return;
    case HEARTBEAT:
        w->heartbeats--;
        step(e.node, HEARTBEAT_NS, NULL);
        return;
    case PROPOSE:
        w->proposals--;
        w->next_body++;
        event.type = RAFT_EVENT_PROPOSE;
        event.propose.data = &w->next_body;
        event.propose.length = 8;
        break;
    case CRASH:
        n->left.crashes--;
        if (e.number & 1) vote_lands(n);
        if (e.number & 2) log_lands(n);
        boot(e.node);
        return;
    }
    step(e.node, 0, &event);
}

static uint32_t choices_of(uint8_t i, struct event *events) {
    const struct world *w = &search.world;
    const struct node *n = &w->nodes[i];
    bool leads = raft_role(search.rafts[i]) == WIRE_ROLE_LEADER;
    uint32_t count = 0;
    if (n->voting) events[count++] = (struct event){VOTE_DURABLE, i, 0};
    if (n->writing) events[count++] = (struct event){LOG_DURABLE, i, 0};
    if (n->left.time_outs > 0) events[count++] = (struct event){TIME_OUT, i, 0};
    if (n->left.quiets > 0) events[count++] = (struct event){QUIET, i, 0};
    if (leads && w->heartbeats > 0) events[count++] = (struct event){HEARTBEAT, i, 0};
    if (leads && w->proposals > 0) events[count++] = (struct event){PROPOSE, i, 0};
    for (uint8_t kept = 0; n->left.crashes > 0 && kept < 4; kept++)
        if ((!(kept & 1) || n->voting) && (!(kept & 2) || n->writing))
            events[count++] = (struct event){CRASH, i, kept};
    return count;
}

uint32_t world_choices(struct event *events) {
    const struct world *w = &search.world;
    uint32_t count = 0;
    for (uint8_t i = 0; i < w->mail_count; i++) {
        bool seen = false; // two alike are one choice
        for (uint8_t k = 0; k < i; k++) seen = seen || w->mail[k].hash == w->mail[i].hash;
        uint8_t to = (uint8_t)(w->mail[i].to - 1);
        if (seen) continue;
        events[count++] = (struct event){DELIVER, to, i};
        if (w->duplicates > 0) events[count++] = (struct event){DOUBLE, to, i};
    }
    for (uint8_t i = 0; i < NODES; i++) count += choices_of(i, events + count);
    return count;
}

// ---------------------------------------------------------------- the beginning

static void settle(void) { // first come, first served, until there is nothing to do
    struct world *w = &search.world;
    bool busy = true;
    while (busy) {
        busy = w->mail_count > 0;
        if (busy) deliver(0, false);
        for (uint8_t i = 0; i < NODES; i++) {
            bool voting = w->nodes[i].voting, writing = w->nodes[i].writing;
            if (voting) world_apply((struct event){VOTE_DURABLE, i, 0});
            if (writing) world_apply((struct event){LOG_DURABLE, i, 0});
            busy = busy || voting || writing;
        }
    }
}

void world_begin(const struct scope *scope) {
    struct world *w = &search.world;
    struct raft_options options = options_of(0);
    memset(w, 0, sizeof *w);
    for (uint8_t i = 0; i < NODES; i++) {
        if (search.rafts[i] == NULL)
            search.rafts[i] = aligned_alloc(64, (raft_bytes(&options) + 63) & ~63ull);
        memset(search.rafts[i], 0, raft_bytes(&options));
        w->nodes[i].drive = scope->drives[i];
        for (uint64_t k = 1; k <= w->nodes[i].drive.last; k++) {
            struct record *r = &w->nodes[i].drive.log[k];
            r->type = RAFT_ENTRY_COMMAND;
            r->body = 100 * r->term + k;
        }
        boot(i);
    }
    all_linked = scope->gets > 0;
    if (scope->leads > 0) {
        uint8_t leader = (uint8_t)(scope->leads - 1);
        w->nodes[leader].left.time_outs = 1;
        world_apply((struct event){TIME_OUT, leader, 0});
        settle();
        w->proposals = scope->offers;
        while (w->proposals > 0) world_apply((struct event){PROPOSE, leader, 0});
    }
    for (uint8_t i = 0; all_linked && i < w->mail_count;) {
        all_linked = w->mail[i].to != scope->gets;
        if (all_linked)
            i++;
        else
            deliver(i, false);
    }
    all_linked = false;
    for (uint8_t i = 0; i < NODES; i++) w->nodes[i].left = scope->budget[i];
    w->proposals = scope->proposals;
    w->duplicates = scope->duplicates;
    w->heartbeats = scope->heartbeats;
}

void world_save(struct image *image, uint8_t node) {
    const struct raft *raft = search.rafts[node];
    image->raft = *raft;
    memcpy(image->slots, raft->log.slots, sizeof image->slots);
    memcpy(image->bytes, raft->log.bytes, sizeof image->bytes);
}

void world_put_back(const struct image *image, uint8_t node) {
    struct raft *raft = search.rafts[node];
    *raft = image->raft;
    memcpy(raft->log.slots, image->slots, sizeof image->slots);
    memcpy(raft->log.bytes, image->bytes, sizeof image->bytes);
}

// ---------------------------------------------------------------- the hash of a state

struct digest {
    uint64_t words[600];
    uint32_t count;
};

static void add(struct digest *d, uint64_t word) {
    assert(d->count < sizeof d->words / sizeof *d->words);
    d->words[d->count++] = word;
}

static void add_record(struct digest *d, const struct record *r) {
    add(d, r->term);
    add(d, r->body << 8 | r->type);
}

static void add_raft(struct digest *d, const struct raft *raft) {
    bool leads = raft->role == WIRE_ROLE_LEADER;
    bool asks = raft->role == WIRE_ROLE_CANDIDATE || raft->role == WIRE_ROLE_PRECANDIDATE;
    const uint64_t words[] = {raft->term,
                              raft->vote,
                              raft->hard_sequence - raft->hard_durable,
                              (uint64_t)raft->role,
                              raft->leader,
                              leads || raft->leader == 0 ? 0 : raft->leader_heard_ns,
                              leads ? 0 : raft->election_deadline_ns,
                              asks ? raft->resend_ns : 0,
                              raft->commit,
                              raft->durable,
                              raft->persist_next,
                              raft->matched,
                              raft->match_reported,
                              raft->context_seen,
                              raft->prev_seen,
                              raft->reply_owed,
                              raft->vote_owed,
                              raft->noop_index,
                              raft->context,
                              leads ? raft->context_ns : 0};
    for (uint32_t i = 0; i < sizeof words / sizeof *words; i++) add(d, words[i]);
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        const struct raft_peer *p = &raft->peers[i];
        if (asks) add(d, p->vote_answered * 2u + p->vote_granted);
        if (!leads) continue; // all below is set anew by an election
        add(d, p->next << 32 | p->match << 8 | (uint64_t)p->state << 1 | p->probe_sent);
        add(d, p->context_sent << 32 | p->context_acked);
        add(d, p->heard_ns);
        add(d, p->sent_ns);
    }
    add(d, raft->log.last);
    for (uint64_t i = 1; i <= raft->log.last; i++) {
        struct record r = record_at(raft, i);
        add_record(d, &r);
    }
}

static void add_node(struct digest *d, const struct node *n, const struct raft *raft) {
    add(d, n->drive.term << 16 | n->drive.vote);
    add(d, n->drive.last);
    for (uint64_t i = 1; i <= n->drive.last; i++) add_record(d, &n->drive.log[i]);
    add(d, n->voting);
    if (n->voting) {
        add(d, raft->hard_sequence - n->vote.sequence);
        add(d, n->vote.term << 16 | n->vote.vote);
    }
    add(d, n->writing);
    if (n->writing) {
        add(d, n->first << 32 | n->last << 1 | (n->epoch == raft->epoch));
        for (uint64_t i = n->first; i <= n->last; i++) add_record(d, &n->records[i]);
    }
    add(d, n->commit);
    for (uint32_t i = 0; i < TERM_MAX; i += 4)
        add(d, (uint64_t)n->voted_for[i] | (uint64_t)n->voted_for[i + 1] << 16 |
                   (uint64_t)n->voted_for[i + 2] << 32 | (uint64_t)n->voted_for[i + 3] << 48);
    add(d, n->left.time_outs << 16 | n->left.quiets << 8 | n->left.crashes);
    add_raft(d, raft);
}

void world_hash(uint64_t hash[2]) {
    static struct digest d;
    const struct world *w = &search.world;
    d.count = 0;
    for (uint8_t i = 0; i < NODES; i++) add_node(&d, &w->nodes[i], search.rafts[i]);
    add(&d, w->committed_last);
    for (uint64_t i = 1; i <= w->committed_last; i++) {
        add_record(&d, &w->committed[i]);
        add(&d, w->committed_in[i]);
    }
    for (uint32_t i = 0; i < TERM_MAX; i++) add(&d, w->leader_of[i]);
    add(&d, (uint64_t)w->proposals << 16 | w->duplicates << 8 | w->heartbeats);
    uint64_t mail[2] = {0}; // the network has no order
    for (uint32_t i = 0; i < w->mail_count; i++) {
        mail[0] += w->mail[i].hash;
        mail[1] += XXH3_64bits(&w->mail[i].hash, 8);
    }
    add(&d, mail[0]);
    add(&d, mail[1]);
    XXH128_hash_t sum = XXH3_128bits(d.words, d.count * sizeof *d.words);
    hash[0] = sum.low64;
    hash[1] = sum.high64;
}

// ---------------------------------------------------------------- in words

static void describe_mail(char *text, size_t bytes, const struct mail *mail, const char *fate) {
    const struct raft_message *m = &mail->message;
    static const char *const names[] = {"?", "vote", "vote reply", "append", "append reply"};
    char more[80] = "";
    if (m->type == WIRE_APPEND)
        snprintf(more, sizeof more, " behind %llu, %u entries, commit %llu",
                 (unsigned long long)m->append.prev_index, m->append.count,
                 (unsigned long long)m->append.commit);
    if (m->type == WIRE_APPEND_REPLY)
        snprintf(more, sizeof more, " match %llu", (unsigned long long)m->append_reply.match);
    snprintf(text, bytes, "%s%s of term %llu from %u to %u%s, flags %u%s",
             m->type <= WIRE_VOTE_REPLY && (m->flags & WIRE_VOTE_PREVOTE) ? "pre-" : "",
             names[m->type <= 4 ? m->type : 0], (unsigned long long)m->term, m->peer, mail->to,
             more, m->flags, fate);
}

void world_describe(char *text, size_t bytes, struct event e) {
    static const char *const names[] = {"",
                                        "",
                                        "",
                                        "vote is durable at",
                                        "log is durable at",
                                        "time-out of",
                                        "quiet at",
                                        "heartbeat of",
                                        "proposal at",
                                        "crash and restart of"};
    if (e.type == DELIVER || e.type == DOUBLE)
        describe_mail(text, bytes, &search.world.mail[e.number],
                      e.type == DOUBLE ? ", and stays" : "");
    else
        snprintf(text, bytes, "%s node %u%s%s", names[e.type], e.node + 1u,
                 e.type == CRASH && (e.number & 1) ? ", vote kept" : "",
                 e.type == CRASH && (e.number & 2) ? ", log write kept" : "");
}
