// The state machine by itself: what applying a committed command costs, through machine.h only. The
// table is full of held locks, and names are taken in random order, so that at a million names each
// command finds memory as cold as a large cluster's.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "machine/machine.h"
#include "raft/raft.h"

#define TTL_MS WIRE_TTL_MS_MAX

struct world {
    struct machine *machine;
    uint64_t index, time_ns, random;
    uint64_t session, sequence;
    uint64_t lease;
    uint64_t count;   // of locks or leases standing
    uint64_t *tokens; // of each
    _Alignas(8) uint8_t command[WIRE_COMMAND_MAX];
};

static uint64_t draw(struct world *w, uint64_t below) {
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random % below;
}

static struct wire_request *command(struct world *w, uint16_t op) {
    struct wire_request *request = (struct wire_request *)w->command;
    memset(request, 0, sizeof *request);
    request->head.type = WIRE_REQUEST;
    request->head.length = sizeof *request;
    request->op = op;
    request->session = w->session;
    request->sequence = ++w->sequence;
    return request;
}

// A name of 16 bytes for a number, as quickly made as possible.
static void name_it(struct wire_request *request, uint64_t number) {
    static const char digits[] = "0123456789abcdef";
    char *name = (char *)(request + 1);
    for (uint32_t i = 0; i < 16; i++) name[i] = digits[number >> (60 - 4 * i) & 15];
    request->name_length = 16;
    request->head.length = sizeof *request + 16;
}

static struct machine_reply apply(struct world *w, const struct wire_request *request) {
    struct machine_reply reply;
    w->time_ns += 1000;
    machine_apply(w->machine, ++w->index, 1, w->time_ns, RAFT_ENTRY_COMMAND, request,
                  request->head.length, &reply);
    assert(reply.status == WIRE_OK);
    return reply;
}

static uint64_t grant(struct world *w) {
    struct wire_request *request = command(w, WIRE_OP_LEASE_GRANT);
    request->amount = TTL_MS;
    return apply(w, request).token;
}

static void acquire(struct world *w, uint64_t number) {
    struct wire_request *request = command(w, WIRE_OP_LOCK_ACQUIRE);
    request->lease = w->lease;
    name_it(request, number);
    w->tokens[number] = apply(w, request).token;
}

static void release(struct world *w, uint64_t number) {
    struct wire_request *request = command(w, WIRE_OP_LOCK_RELEASE);
    request->token = w->tokens[number];
    name_it(request, number);
    (void)apply(w, request);
}

static void teardown(void *context) {
    struct world *w = context;
    free(w->machine); // its memory begins where it was created
    free(w->tokens);
    free(w);
}

static struct world *create(uint64_t count) {
    uint32_t room = (uint32_t)count + 16;
    struct machine_limits limits = {.sessions = 16, .leases = room, .locks = room, .claims = room};
    struct world *w = calloc(1, sizeof *w);
    size_t bytes = (machine_bytes(&limits) + 63) & ~(size_t)63;
    void *memory = aligned_alloc(64, bytes);
    uint64_t *tokens = calloc(count, sizeof *tokens);
    if (w == NULL || memory == NULL || tokens == NULL) {
        fprintf(stderr, "lock: no memory for %llu names\n", (unsigned long long)count);
        free(w);
        free(memory);
        free(tokens);
        return NULL;
    }
    memset(memory, 0, bytes);
    w->machine = machine_create(memory, &limits);
    assert((void *)w->machine == memory);
    w->tokens = tokens;
    w->count = count;
    w->random = 1;
    struct machine_reply reply;
    machine_apply(w->machine, ++w->index, 1, ++w->time_ns, RAFT_ENTRY_NOOP, &limits, sizeof limits,
                  &reply);
    struct wire_request *request = command(w, WIRE_OP_SESSION_OPEN);
    request->sequence = 0;
    request->token = 4711;
    w->session = apply(w, request).token;
    w->sequence = 0;
    return w;
}

static void *locks_setup(uint64_t names) {
    struct world *w = create(names);
    if (w == NULL) return NULL;
    w->lease = grant(w);
    for (uint64_t i = 0; i < names; i++) acquire(w, i);
    return w;
}

static void *leases_setup(uint64_t leases) {
    struct world *w = create(leases);
    if (w == NULL) return NULL;
    for (uint64_t i = 0; i < leases; i++) w->tokens[i] = grant(w);
    return w;
}

static void release_acquire(void *context, uint64_t iterations) {
    struct world *w = context;
    for (uint64_t i = 0; i < iterations; i++) {
        uint64_t number = draw(w, w->count);
        release(w, number);
        acquire(w, number);
    }
}

static void keepalive(void *context, uint64_t iterations) {
    struct world *w = context;
    for (uint64_t i = 0; i < iterations; i++) {
        struct wire_request *request = command(w, WIRE_OP_LEASE_KEEPALIVE);
        request->lease = w->tokens[draw(w, w->count)];
        (void)apply(w, request);
    }
}

static void grant_revoke(void *context, uint64_t iterations) {
    struct world *w = context;
    for (uint64_t i = 0; i < iterations; i++) {
        uint64_t lease = grant(w);
        struct wire_request *request = command(w, WIRE_OP_LEASE_REVOKE);
        request->lease = lease;
        (void)apply(w, request);
    }
}

void bench_lock(void) {
    static const struct bench benches[] = {
        {.name = "machine/acquire_release",
         .setup = locks_setup,
         .run = release_acquire,
         .teardown = teardown,
         .items = 1,
         .argument_count = 3,
         .arguments = {1000, 100000, 1000000}},
        {.name = "machine/keepalive",
         .setup = leases_setup,
         .run = keepalive,
         .teardown = teardown,
         .items = 1,
         .argument_count = 2,
         .arguments = {1000, 100000}},
        {.name = "machine/grant_revoke",
         .setup = leases_setup,
         .run = grant_revoke,
         .teardown = teardown,
         .items = 1,
         .argument_count = 2,
         .arguments = {1000, 100000}},
    };
    for (uint32_t i = 0; i < sizeof benches / sizeof benches[0]; i++) bench_register(&benches[i]);
}
