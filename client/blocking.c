// The blocking calls: start, pump until told, hand over what was asked for.
#include <string.h>

#include "handle.h"

#define ROUND_NS (1000ull * 1000ull * 1000ull) // of one wait; the engine's timers end it sooner

struct waiter {
    bool told;
    struct conclave_result result;
    struct conclave_node node;
    void *list; // of claims or counters, the caller's
    uint32_t max;
};

static void told(void *context, const struct conclave_result *result) {
    struct waiter *waiter = context;
    waiter->told = true;
    waiter->result = *result;
    if (result->node) waiter->node = *result->node;
    if (waiter->result.listed > waiter->max) waiter->result.listed = waiter->max;
    uint32_t listed = waiter->result.listed;
    if (result->claims && listed)
        memcpy(waiter->list, result->claims, listed * sizeof *result->claims);
    if (result->counters && listed) {
        memcpy(waiter->list, result->counters, listed * sizeof *result->counters);
    }
}

// Starting inside a callback would wait for what only its caller can bring about.
#define RUN(handle, start)                                                                         \
    ((handle)->calling_back ? CONCLAVE_BAD_REQUEST : wait_for(handle, &waiter, start))

static enum conclave_status wait_for(conclave_t *handle, struct waiter *waiter,
                                     enum conclave_status status) {
    if (status != CONCLAVE_OK) return status;
    while (!waiter->told) (void)handle_round(handle, ROUND_NS);
    return waiter->result.status;
}

static void give(uint64_t *to, uint64_t value) {
    if (to) *to = value;
}

enum conclave_status conclave_lease_grant(conclave_t *handle, uint64_t ttl_ms, uint64_t *lease) {
    struct waiter waiter = {0};
    enum conclave_status status =
        RUN(handle, conclave_lease_grant_start(handle, ttl_ms, told, &waiter));
    if (status == CONCLAVE_OK) give(lease, waiter.result.lease);
    return status;
}

enum conclave_status conclave_lease_keepalive(conclave_t *handle, uint64_t lease,
                                              uint64_t *ttl_ms) {
    struct waiter waiter = {0};
    enum conclave_status status =
        RUN(handle, conclave_lease_keepalive_start(handle, lease, told, &waiter));
    if (status == CONCLAVE_OK) give(ttl_ms, waiter.result.ttl_ms);
    return status;
}

enum conclave_status conclave_lease_revoke(conclave_t *handle, uint64_t lease) {
    struct waiter waiter = {0};
    return RUN(handle, conclave_lease_revoke_start(handle, lease, told, &waiter));
}

enum conclave_status conclave_lease_ttl(conclave_t *handle, uint64_t lease, uint64_t *remaining_ms,
                                        uint64_t *ttl_ms) {
    struct waiter waiter = {0};
    enum conclave_status status =
        RUN(handle, conclave_lease_ttl_start(handle, lease, told, &waiter));
    if (status != CONCLAVE_OK) return status;
    give(remaining_ms, waiter.result.remaining_ms);
    give(ttl_ms, waiter.result.ttl_ms);
    return status;
}

enum conclave_status conclave_lease_open(conclave_t *handle,
                                         const struct conclave_lease_options *options,
                                         uint64_t *lease) {
    struct waiter waiter = {0};
    enum conclave_status status =
        RUN(handle, conclave_lease_open_start(handle, options, told, &waiter));
    if (status == CONCLAVE_OK) give(lease, waiter.result.lease);
    return status;
}

enum conclave_status conclave_lease_adopt(conclave_t *handle, uint64_t lease,
                                          const struct conclave_lease_options *options,
                                          uint64_t *ttl_ms) {
    struct waiter waiter = {0};
    enum conclave_status status =
        RUN(handle, conclave_lease_adopt_start(handle, lease, options, told, &waiter));
    if (status == CONCLAVE_OK) give(ttl_ms, waiter.result.ttl_ms);
    return status;
}

enum conclave_status conclave_lease_close(conclave_t *handle, uint64_t lease) {
    struct waiter waiter = {0};
    return RUN(handle, conclave_lease_close_start(handle, lease, told, &waiter));
}

enum conclave_status conclave_lock_acquire(conclave_t *handle, const char *name, uint64_t lease,
                                           uint64_t wait_ms, uint64_t *token) {
    struct waiter waiter = {0};
    enum conclave_status status =
        RUN(handle, conclave_lock_acquire_start(handle, name, lease, wait_ms, told, &waiter));
    if (status == CONCLAVE_OK || status == CONCLAVE_WOULD_BLOCK) give(token, waiter.result.token);
    return status;
}

enum conclave_status conclave_lock_release(conclave_t *handle, const char *name, uint64_t token) {
    struct waiter waiter = {0};
    return RUN(handle, conclave_lock_release_start(handle, name, token, told, &waiter));
}

static void give_list(const struct waiter *waiter, uint32_t *listed, uint64_t *count) {
    if (listed) *listed = waiter->result.listed;
    give(count, waiter->result.count);
}

enum conclave_status conclave_lock_holders(conclave_t *handle, const char *name,
                                           struct conclave_claim *claims, uint32_t max,
                                           uint32_t *listed, uint64_t *count) {
    struct waiter waiter = {.list = claims, .max = claims ? max : 0};
    enum conclave_status status =
        RUN(handle, conclave_lock_holders_start(handle, name, told, &waiter));
    if (status == CONCLAVE_OK) give_list(&waiter, listed, count);
    return status;
}

enum conclave_status conclave_lock_queue(conclave_t *handle, const char *name, uint64_t skip,
                                         struct conclave_claim *claims, uint32_t max,
                                         uint32_t *listed, uint64_t *count) {
    struct waiter waiter = {.list = claims, .max = claims ? max : 0};
    enum conclave_status status =
        RUN(handle, conclave_lock_queue_start(handle, name, skip, told, &waiter));
    if (status == CONCLAVE_OK) give_list(&waiter, listed, count);
    return status;
}

enum conclave_status conclave_node_status(conclave_t *handle, uint32_t endpoint,
                                          struct conclave_node *node) {
    struct waiter waiter = {0};
    enum conclave_status status =
        RUN(handle, conclave_node_status_start(handle, endpoint, told, &waiter));
    if (status == CONCLAVE_OK && node) *node = waiter.node;
    return status;
}

enum conclave_status conclave_node_counters(conclave_t *handle, uint32_t endpoint, uint64_t skip,
                                            struct conclave_counter *counters, uint32_t max,
                                            uint32_t *listed, uint64_t *count) {
    struct waiter waiter = {.list = counters, .max = counters ? max : 0};
    enum conclave_status status =
        RUN(handle, conclave_node_counters_start(handle, endpoint, skip, told, &waiter));
    if (status == CONCLAVE_OK) give_list(&waiter, listed, count);
    return status;
}
