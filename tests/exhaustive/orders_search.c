// Depth first, with a table of the states reached and at which depth: one that was reached by fewer
// events before has been gone through further than it would be now.
//
// When a rule is broken, the scope is searched again to a depth of one, two, three, until it
// breaks: so the way that is printed is a shortest one.
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orders.h"

struct slot {
    uint64_t key[2]; // 128 bits: a million million states would have to meet by chance
    uint8_t depth;   // plus one; 0: free
};

#define TABLE_FIRST (1u << 20)
// Twelve million states fill a table of 16 million places, 400 MiB: what a test may take of a small
// machine. A scope that has more stops there, and says so.
#define STATES_MAX (12u << 20)

struct frame { // what an event is undone with
    struct event events[EVENTS_MAX];
    struct image image;
    struct world world;
};

struct search search;
static struct slot *table;
static uint64_t table_size;
static struct frame *frames;
static sigjmp_buf way_out;
static const char *broken_rule;
static uint32_t depth_limit;

void search_broken(const char *rule) {
    broken_rule = rule;
    siglongjmp(way_out, 1);
}

static void aborted(int number) {
    (void)number;
    search_broken("an assertion of the core itself, see above");
}

static void copy_world(struct world *to, const struct world *from) {
    memcpy(to, from, offsetof(struct world, mail) + from->mail_count * sizeof *from->mail);
}

static struct slot *slot_of(const uint64_t key[2]) {
    uint64_t at = key[0] & (table_size - 1);
    while (table[at].depth != 0 && (table[at].key[0] != key[0] || table[at].key[1] != key[1]))
        at = (at + 1) & (table_size - 1);
    return &table[at];
}

static void table_begin(uint64_t size) {
    table_size = size;
    table = calloc(size, sizeof *table);
    if (table == NULL) abort();
}

static void table_grow(void) {
    struct slot *old = table;
    uint64_t size = table_size;
    table_begin(size * 2);
    for (uint64_t i = 0; i < size; i++)
        if (old[i].depth != 0) *slot_of(old[i].key) = old[i];
    free(old);
}

// Is this state new, or reached by fewer events than before?
static bool worth(uint32_t depth) {
    uint64_t key[2];
    world_hash(key);
    struct slot *slot = slot_of(key);
    if (slot->depth != 0 && slot->depth <= depth + 1) return false;
    if (slot->depth == 0) {
        if (++search.states * 4 > table_size * 3) {
            table_grow();
            slot = slot_of(key);
        }
        memcpy(slot->key, key, sizeof key);
    }
    slot->depth = (uint8_t)(depth + 1);
    return true;
}

static void follow(void) {
    struct frame *frame = &frames[search.depth];
    if (search.states == STATES_MAX || !worth(search.depth)) return;
    if (search.depth > search.reached) search.reached = search.depth;
    uint32_t count = world_choices(frame->events);
    if (search.depth == depth_limit) {
        search.cut += count > 0;
        return;
    }
    copy_world(&frame->world, &search.world);
    for (uint32_t i = 0; i < count; i++) {
        struct event event = frame->events[i];
        world_save(&frame->image, event.node);
        search.path[search.depth++] = event;
        search.steps++;
        world_apply(event);
        follow();
        search.depth--;
        copy_world(&search.world, &frame->world);
        world_put_back(&frame->image, event.node);
    }
}

static bool search_to(const struct scope *scope, uint32_t depth) {
    search.scope = scope;
    search.depth = 0;
    search.states = search.steps = search.cut = search.lost_mail = search.reached = 0;
    depth_limit = depth;
    table_begin(TABLE_FIRST);
    broken_rule = NULL;
    if (sigsetjmp(way_out, 1) == 0) {
        world_begin(scope);
        follow();
    }
    free(table);
    search.whole = search.states < STATES_MAX;
    return broken_rule == NULL;
}

static void tell(const struct scope *scope) {
    static struct event path[DEPTH_MAX];
    const char *rule = broken_rule;
    uint32_t length = search.depth;
    char text[200];
    memcpy(path, search.path, sizeof path);
    printf("scope '%s', after %u events, %llu states looked at:\n", scope->name, length,
           (unsigned long long)search.states);
    search.depth = 0;
    if (sigsetjmp(way_out, 1) == 0) {
        world_begin(scope);
        for (uint32_t i = 0; i < length; i++) {
            world_describe(text, sizeof text, path[i]);
            printf("  %2u  %s\n", i + 1, text);
            world_apply(path[i]);
        }
    }
    printf("broken: %s\n", rule);
}

bool search_scope(const struct scope *scope, uint32_t depth) {
    if (frames == NULL) frames = calloc(DEPTH_MAX + 1, sizeof *frames);
    if (frames == NULL || depth > DEPTH_MAX) abort();
    signal(SIGABRT, aborted);
    if (search_to(scope, depth)) return true;
    uint32_t found = search.depth;
    for (uint32_t shorter = 0; shorter <= found; shorter++)
        if (!search_to(scope, shorter)) break;
    tell(scope);
    return false;
}
