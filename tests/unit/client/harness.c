#include "harness.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

uint64_t harness_random(struct harness *harness) {
    uint64_t z = harness->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static bool chance(struct harness *harness, uint32_t percent) {
    return harness_random(harness) % 100 < percent;
}

static void fly(struct harness *harness, bool to_client, uint32_t node, uint64_t from,
                const void *bytes, uint32_t length) {
    uint32_t copies = chance(harness, harness->loss) ? 0 : 1;
    if (chance(harness, harness->duplication)) copies++;
    for (; copies > 0; copies--) {
        struct flight *flight = harness->flights;
        while (flight->used) flight++;
        assert(flight < harness->flights + FLIGHT_MAX);
        flight->used = true;
        flight->to_client = to_client;
        flight->node = node;
        flight->from = from;
        flight->length = length;
        flight->arrive_ns = harness->now_ns + harness->latency_ns;
        if (chance(harness, harness->reorder)) {
            flight->arrive_ns += harness_random(harness) % (20 * harness->latency_ns);
        }
        memcpy(flight->bytes, bytes, length);
    }
}

static void emit(void *context, uint32_t node, uint64_t to, const void *bytes, uint32_t length) {
    struct harness *harness = context;
    assert(to == CLIENT_ADDRESS);
    fly(harness, true, node, harness->fake.endpoints[node], bytes, length);
}

void harness_inject(struct harness *harness, uint64_t from, const void *bytes, uint32_t length) {
    fly(harness, true, FAKE_NOBODY, from, bytes, length);
}

struct core_options harness_options(void) {
    struct core_options options = {
        .endpoint_count = FAKE_NODES,
        .cluster = FAKE_CLUSTER,
        .nonce = 0x5eed,
        .timeout_ns = 5 * SECOND,
        .operations = 64,
        .leases = 8,
        .locks = 32,
    };
    for (uint32_t i = 0; i < FAKE_NODES; i++) {
        options.endpoints[i] = wire_endpoint_pack(0x0a000001 + i, 7100);
    }
    return options;
}

struct harness *harness_open(uint64_t seed, const struct core_options *given) {
    struct core_options options = *given;
    struct core_options standard = harness_options();
    struct harness *harness = calloc(1, sizeof *harness);
    assert(harness);
    harness->now_ns = 1000 * SECOND;
    harness->random = seed;
    harness->latency_ns = MS;
    options.seed = seed;
    size_t bytes = core_bytes(&options);
    void *memory = aligned_alloc(64, bytes);
    assert(memory);
    memset(memory, 0, bytes);
    harness->core = core_create(memory, &options, harness->now_ns);
    harness->fake.cluster = FAKE_CLUSTER;
    harness->fake.index = 100;
    harness->fake.now_ns = harness->now_ns;
    memcpy(harness->fake.endpoints, standard.endpoints, sizeof harness->fake.endpoints);
    harness->fake.emit = emit;
    harness->fake.context = harness;
    return harness;
}

void harness_close(struct harness *harness) {
    core_close(harness->core);
    free(harness->core);
    free(harness);
}

static void look(struct harness *harness, uint32_t node, const struct core_datagram *datagram) {
    uint32_t offset = sizeof(struct wire_frame);
    while (harness->watch && offset < datagram->length) {
        const struct wire_request *request =
            (const struct wire_request *)(const void *)((const uint8_t *)datagram->bytes + offset);
        harness->watch(harness, node, request);
        offset += request->head.length;
    }
}

static void pump(struct harness *harness) {
    core_tick(harness->core, harness->now_ns);
    struct core_datagram datagram;
    while (core_send(harness->core, harness->now_ns, &datagram)) {
        harness->sent++;
        for (uint32_t node = 0; node < FAKE_NODES; node++) {
            if (harness->fake.endpoints[node] != datagram.endpoint) continue;
            look(harness, node, &datagram);
            fly(harness, false, node, CLIENT_ADDRESS, datagram.bytes, datagram.length);
        }
    }
}

static void arrive(struct harness *harness, struct flight *flight) {
    struct flight copy = *flight;
    flight->used = false;
    if (copy.node < FAKE_NODES && harness->cut[copy.node]) return;
    if (!copy.to_client) {
        fake_receive(&harness->fake, harness->now_ns, copy.node, copy.from, copy.bytes,
                     copy.length);
    } else if (!harness->deaf) {
        core_receive(harness->core, harness->now_ns, copy.from, copy.bytes, copy.length);
    }
}

// The next thing that happens, or `end_ns`.
static void step(struct harness *harness, uint64_t end_ns) {
    pump(harness);
    struct flight *next = NULL;
    for (uint32_t i = 0; i < FLIGHT_MAX; i++) {
        struct flight *flight = &harness->flights[i];
        if (flight->used && (!next || flight->arrive_ns < next->arrive_ns)) next = flight;
    }
    uint64_t then_ns = core_next_timeout(harness->core);
    uint64_t grain_ns = harness->now_ns + MS; // the cluster's own clock
    if (grain_ns < then_ns) then_ns = grain_ns;
    if (end_ns < then_ns) then_ns = end_ns;
    if (next && next->arrive_ns <= then_ns) then_ns = next->arrive_ns;
    if (then_ns > harness->now_ns) harness->now_ns = then_ns;
    fake_tick(&harness->fake, harness->now_ns);
    if (next && next->arrive_ns <= harness->now_ns) arrive(harness, next);
    pump(harness);
}

void harness_run(struct harness *harness, uint64_t for_ns) {
    uint64_t end_ns = harness->now_ns + for_ns;
    while (harness->now_ns < end_ns) step(harness, end_ns);
}

bool harness_until(struct harness *harness, const int *flag, uint64_t limit_ns) {
    uint64_t end_ns = harness->now_ns + limit_ns;
    while (!*flag && harness->now_ns < end_ns) step(harness, end_ns);
    return *flag != 0;
}

void outcome_done(void *context, const struct core_result *result) {
    struct outcome *outcome = context;
    assert(!outcome->told); // exactly once
    outcome->told = 1;
    outcome->result = *result;
    if (outcome->harness) outcome->when_ns = outcome->harness->now_ns;
}
