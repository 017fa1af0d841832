// A cluster as a client sees it, in one struct: right answers, without Raft. Requests go in,
// datagrams come out; a hook may spoil or replace any answer. Used by the engine's tests under
// virtual time, and by fake_node for trying the command line by hand.
#ifndef FAKE_CLUSTER_H
#define FAKE_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "conclave_wire.h"

#define FAKE_NODES    3u
#define FAKE_SESSIONS 16u
#define FAKE_CACHE    4096u
#define FAKE_LEASES   64u
#define FAKE_CLAIMS   128u
#define FAKE_NOBODY   99u
#define FAKE_CLUSTER  0xc0c1a7eull

struct fake_session {
    uint64_t id; // 0: free
    uint64_t nonce;
    uint64_t highest;
    bool executed[FAKE_CACHE]; // by sequence
    struct wire_reply replies[FAKE_CACHE];
};

struct fake_lease {
    uint64_t id;
    uint64_t ttl_ms;
    uint64_t deadline_ns;
};

struct fake_claim {
    bool used;
    uint8_t name_length;
    char name[WIRE_NAME_MAX];
    uint64_t claim;
    uint64_t lease;
    uint64_t session;
    uint64_t token; // 0: waits
    uint64_t until_ns;
    uint64_t since_ns;
    uint64_t address; // that asked last
};

struct fake_cluster {
    uint64_t now_ns;
    uint64_t cluster;
    uint64_t endpoints[FAKE_NODES];
    uint32_t leader; // FAKE_NOBODY: none
    uint64_t index;
    uint64_t executions; // logged operations, each once
    uint64_t by_op[128];
    bool mute_events;
    struct fake_session sessions[FAKE_SESSIONS];
    struct fake_lease leases[FAKE_LEASES];
    struct fake_claim claims[FAKE_CLAIMS];
    // Spoils: may change the reply before it is sent. Called after the request has taken effect ...
    void (*after)(struct fake_cluster *fake, uint32_t node, const struct wire_request *request,
                  struct wire_reply *reply);
    // ... and before: true takes the reply as it is, and nothing takes effect.
    bool (*before)(struct fake_cluster *fake, uint32_t node, const struct wire_request *request,
                   struct wire_reply *reply);
    void (*emit)(void *context, uint32_t node, uint64_t to, const void *bytes, uint32_t length);
    void *context;
};

void fake_receive(struct fake_cluster *fake, uint64_t now_ns, uint32_t node, uint64_t from,
                  const void *bytes, uint32_t length);
void fake_tick(struct fake_cluster *fake, uint64_t now_ns); // expires leases and waits
struct fake_lease *fake_lease(struct fake_cluster *fake, uint64_t id);
// Token of the holder, 0: free.
uint64_t fake_holder(const struct fake_cluster *fake, const char *name);

#endif
