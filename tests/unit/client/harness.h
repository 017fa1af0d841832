// The engine and a fake cluster joined by a network under virtual time. One seed, one course.
#ifndef CLIENT_HARNESS_H
#define CLIENT_HARNESS_H

#include "core.h"
#include "fake_cluster.h"

#define MS             1000000ull
#define SECOND         (1000ull * MS)
#define CLIENT_ADDRESS wire_endpoint_pack(0x0a0000fe, 40000)
#define FLIGHT_MAX     512u

struct flight { // one datagram under way
    bool used;
    bool to_client;
    uint32_t node;
    uint64_t arrive_ns;
    uint64_t from; // of those to the client
    uint32_t length;
    _Alignas(8) uint8_t bytes[WIRE_FRAME_MAX];
};

struct harness {
    uint64_t now_ns;
    uint64_t random;
    struct core *core;
    struct fake_cluster fake;
    struct flight flights[FLIGHT_MAX];
    // The network. Percentages are of datagrams, each way.
    uint32_t loss;
    uint32_t duplication;
    uint32_t reorder;
    uint64_t latency_ns;
    bool cut[FAKE_NODES]; // nothing passes to or from it
    bool deaf;            // nothing reaches the client
    uint64_t sent;
    // Looks at what the client sends; NULL: nobody does.
    void (*watch)(struct harness *harness, uint32_t node, const struct wire_request *request);
    void *user;
};

// Options with the three fake nodes and defaults; change what the test is about.
struct core_options harness_options(void);
struct harness *harness_open(uint64_t seed, const struct core_options *options);
void harness_close(struct harness *harness);
void harness_run(struct harness *harness, uint64_t for_ns);
// Runs until *flag is not zero; false if `limit_ns` passed first.
bool harness_until(struct harness *harness, const int *flag, uint64_t limit_ns);
uint64_t harness_random(struct harness *harness);
// Puts any bytes before the client.
void harness_inject(struct harness *harness, uint64_t from, const void *bytes, uint32_t length);

struct outcome { // of one operation
    int told;
    uint64_t when_ns;
    struct harness *harness;
    struct core_result result;
};
void outcome_done(void *context, const struct core_result *result);

#endif
