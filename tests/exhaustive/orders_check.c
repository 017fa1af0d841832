// The rules (thesis, figure 3.2), looked at after every event, by a witness that remembers all.
#include <string.h>

#include "orders.h"

struct record record_at(const struct raft *raft, uint64_t index) {
    struct raft_entry entry = raft_entry_at(raft, index);
    struct record record;
    memset(&record, 0, sizeof record);
    record.term = entry.term;
    record.time_ns = entry.time_ns;
    record.type = entry.type;
    memcpy(&record.body, entry.data, sizeof record.body);
    return record;
}

static bool same(const struct record *a, const struct record *b) {
    return a->term == b->term && a->body == b->body && a->type == b->type;
}

// A node speaks for one candidate a term, itself or another, over all its lives.
void check_sent(uint8_t node, const struct raft_message *message) {
    bool prevote = message->flags & WIRE_VOTE_PREVOTE;
    uint16_t candidate = 0;
    if (message->term >= TERM_MAX) search_broken("scope: more terms than there is room for");
    if (message->type == WIRE_VOTE && !prevote) candidate = (uint16_t)(node + 1);
    if (message->type == WIRE_VOTE_REPLY && !prevote && (message->flags & WIRE_VOTE_GRANTED))
        candidate = message->peer;
    if (candidate == 0) return;
    uint16_t *voted_for = &search.world.nodes[node].voted_for[message->term];
    if (*voted_for != 0 && *voted_for != candidate) search_broken("two votes in a term");
    *voted_for = candidate;
}

static void check_leader(uint8_t node) {
    const struct world *w = &search.world;
    const struct raft *raft = search.rafts[node];
    uint64_t term = raft_term(raft);
    uint16_t *leader = &search.world.leader_of[term];
    if (*leader != 0 && *leader != node + 1)
        search_broken("election safety: two leaders in a term");
    *leader = (uint16_t)(node + 1);
    for (uint64_t i = 1; i <= w->committed_last; i++) {
        if (w->committed_in[i] > term) continue; // deposed, and does not know
        struct record mine = {0};
        if (i <= raft_last(raft)) mine = record_at(raft, i);
        if (!same(&mine, &w->committed[i]))
            search_broken("leader completeness: a leader lacks a committed entry");
    }
}

static void check_commit(uint8_t node) {
    struct world *w = &search.world;
    const struct raft *raft = search.rafts[node];
    uint64_t *seen = &w->nodes[node].commit;
    if (raft_commit(raft) < *seen) search_broken("commit: the index went back");
    while (*seen < raft_commit(raft)) {
        struct record mine = record_at(raft, ++*seen);
        if (*seen <= w->committed_last) {
            if (!same(&mine, &w->committed[*seen]))
                search_broken("state machine safety: two entries committed at one index");
            continue;
        }
        w->committed[*seen] = mine;
        w->committed_in[*seen] = raft_term(raft);
        w->committed_last = *seen;
    }
}

// Where two logs have an entry of the same index and term, they are the same up to there.
static void check_matching(const struct raft *a, const struct raft *b) {
    uint64_t last = raft_last(a) < raft_last(b) ? raft_last(a) : raft_last(b);
    bool met = false;
    for (uint64_t i = last; i > 0; i--) {
        struct record one = record_at(a, i), other = record_at(b, i);
        met = met || one.term == other.term;
        if (met && !same(&one, &other)) search_broken("log matching: logs differ below an entry");
    }
}

void check_node(uint8_t node) {
    const struct raft *raft = search.rafts[node];
    if (raft_term(raft) >= TERM_MAX || raft_last(raft) > INDEX_MAX)
        search_broken("scope: more terms or entries than there is room for");
    if (raft_role(raft) == WIRE_ROLE_LEADER) check_leader(node);
    check_commit(node);
    for (uint8_t other = 0; other < NODES; other++)
        if (other != node) check_matching(raft, search.rafts[other]);
}
