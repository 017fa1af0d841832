// Life of the engine: creation, time, and what the other files need in common.
//
// Time only goes forward here: a caller's clock that steps back is held at the latest time seen.
// Every entry point advances time first, and with it the leases: so after a long pause of the whole
// process the loss of a lease is told before any answer that has arrived meanwhile is believed.
#include "core_internal.h"

static uint32_t request_slots(const struct core_options *options) {
    // The caller's operations have one request open each; so has each lease kept; two are ours.
    return options->operations + options->leases + REQUEST_FIRST;
}

static size_t round_up(size_t bytes) {
    return (bytes + 63u) & ~(size_t)63u;
}

size_t core_bytes(const struct core_options *options) {
    return round_up(sizeof(struct core)) +
           round_up(request_slots(options) * sizeof(struct core_request)) +
           round_up(options->operations * sizeof(struct core_wait)) +
           round_up(options->locks * sizeof(struct core_hold)) +
           round_up(options->leases * sizeof(struct core_lease));
}

struct core *core_create(void *memory, const struct core_options *options, uint64_t now_ns) {
    assert((uintptr_t)memory % 64 == 0);
    assert(options->endpoint_count >= 1 && options->endpoint_count <= CORE_CONFIGURED_MAX);
    assert(options->operations >= 1 && options->operations <= CORE_OPERATIONS_MAX);
    assert(options->leases <= CORE_LEASES_MAX && options->locks <= CORE_LOCKS_MAX);
    assert(options->timeout_ns > 0);
    struct core *core = memory;
    uint8_t *next = (uint8_t *)memory + round_up(sizeof *core);
    core->options = *options;
    core->requests = (struct core_request *)(void *)next;
    core->request_count = request_slots(options);
    next += round_up(core->request_count * sizeof *core->requests);
    core->waits = (struct core_wait *)(void *)next;
    next += round_up(options->operations * sizeof *core->waits);
    core->holds = (struct core_hold *)(void *)next;
    next += round_up(options->locks * sizeof *core->holds);
    core->leases = (struct core_lease *)(void *)next;

    core->now_ns = now_ns;
    core->random = options->seed;
    core->cluster = options->cluster;
    core->used = REQUEST_FIRST;
    // Replies to an earlier client on the same address must not match ours.
    core->read_sequence = core_random(core) >> 1;
    for (uint32_t i = 0; i < options->endpoint_count; i++) {
        core->endpoints[i].address = options->endpoints[i];
    }
    core->endpoint_count = options->endpoint_count;
    // Many clients with the same list must not all begin at the same node.
    core->leader = (uint32_t)(core_random(core) % options->endpoint_count);
    core->leader_confirmed = ROUTE_MAX;
    return core;
}

void core_close(struct core *core) {
    core->closed = true;
    lease_close_all(core);
    lock_close(core);
    request_close(core);
}

// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
uint64_t core_random(struct core *core) {
    uint64_t z = core->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t core_jitter(struct core *core, uint64_t ns) {
    return ns - ns / 4 + core_random(core) % (ns / 2 + 1);
}

uint64_t core_backoff(struct core *core, uint64_t first_ns, uint64_t max_ns, uint32_t times) {
    uint64_t ns = first_ns;
    for (uint32_t i = 0; i < times && ns < max_ns; i++) ns *= 2;
    return core_jitter(core, ns < max_ns ? ns : max_ns);
}

void core_advance(struct core *core, uint64_t now_ns) {
    if (now_ns > core->now_ns) core->now_ns = now_ns;
}

void core_tick(struct core *core, uint64_t now_ns) {
    core_advance(core, now_ns);
    lease_tick(core); // first: see the top of this file
    lock_tick(core);
    request_tick(core);
}

uint64_t core_next_timeout(const struct core *core) {
    uint64_t next_ns = request_next_timeout(core);
    uint64_t lease_ns = lease_next_timeout(core);
    uint64_t lock_ns = lock_next_timeout(core);
    if (lease_ns < next_ns) next_ns = lease_ns;
    return lock_ns < next_ns ? lock_ns : next_ns;
}

uint64_t core_cluster(const struct core *core) {
    return core->cluster;
}
uint64_t core_session(const struct core *core) {
    return core->session;
}
uint64_t core_leader(const struct core *core) {
    return core->endpoints[core->leader].address;
}

const char *core_problem(const struct core *core) {
    static const char *const sentences[] = {
        [TROUBLE_NONE] = NULL,
        [TROUBLE_SILENT] = "No answer from the node asked last: check that the nodes run, that the "
                           "endpoints are right, and that UDP passes between here and there.",
        [TROUBLE_NO_LEADER] = "The nodes answer but none of them leads: an election is under way, "
                              "or more than half of the nodes are down or cut off.",
        [TROUBLE_BUSY] = "The leader refuses work because it is overloaded: ask less often.",
        [TROUBLE_CLUSTER] = "An endpoint belongs to another cluster: check the list of endpoints "
                            "and the cluster id.",
    };
    return sentences[core->trouble];
}

uint64_t core_counter(const struct core *core, enum core_counter counter) {
    return core->counters[counter];
}

const char *core_counter_name(uint32_t counter) {
    static const char *const names[] = {
        [CORE_COUNT_DATAGRAMS_SENT] = "datagrams_sent",
        [CORE_COUNT_DATAGRAMS_RECEIVED] = "datagrams_received",
        [CORE_COUNT_REQUESTS_SENT] = "requests_sent",
        [CORE_COUNT_REQUESTS_RESENT] = "requests_resent",
        [CORE_COUNT_REPLIES] = "replies",
        [CORE_COUNT_DROP_FRAME] = "drop_frame",
        [CORE_COUNT_DROP_SOURCE] = "drop_source",
        [CORE_COUNT_DROP_CLUSTER] = "drop_cluster",
        [CORE_COUNT_DROP_GROUP] = "drop_group",
        [CORE_COUNT_DROP_TYPE] = "drop_type",
        [CORE_COUNT_DROP_STALE] = "drop_stale",
        [CORE_COUNT_DROP_STATUS] = "drop_status",
        [CORE_COUNT_NOT_LEADER] = "not_leader",
        [CORE_COUNT_HINTS_FOLLOWED] = "hints_followed",
        [CORE_COUNT_HINTS_IGNORED] = "hints_ignored",
        [CORE_COUNT_ENDPOINTS_ADDED] = "endpoints_added",
        [CORE_COUNT_ROTATIONS] = "rotations",
        [CORE_COUNT_LEADER_CHANGES] = "leader_changes",
        [CORE_COUNT_BUSY] = "busy",
        [CORE_COUNT_WINDOW_FULL] = "window_full",
        [CORE_COUNT_LIMIT] = "limit",
        [CORE_COUNT_TIMEOUTS] = "timeouts",
        [CORE_COUNT_UNKNOWN] = "unknown",
        [CORE_COUNT_SESSIONS_OPENED] = "sessions_opened",
        [CORE_COUNT_SESSIONS_LOST] = "sessions_lost",
        [CORE_COUNT_STALE_SEQUENCE] = "stale_sequence",
        [CORE_COUNT_EVENTS] = "events",
        [CORE_COUNT_EVENTS_STALE] = "events_stale",
        [CORE_COUNT_POLLS] = "polls",
        [CORE_COUNT_GRANTS_BY_POLL] = "grants_by_poll",
        [CORE_COUNT_REENTRIES] = "reentries",
        [CORE_COUNT_KEEPALIVES] = "keepalives",
        [CORE_COUNT_KEEPALIVES_FAILED] = "keepalives_failed",
        [CORE_COUNT_LEASES_LOST] = "leases_lost",
    };
    static_assert(sizeof names / sizeof *names == CORE_COUNTERS, "every counter has a name");
    return counter < CORE_COUNTERS ? names[counter] : NULL;
}
