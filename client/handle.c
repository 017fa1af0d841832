// Opening, closing and driving a handle. All waiting is the caller's, or conclave_pump()'s.
#include "handle.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MS_NS (1000ull * 1000ull)
// Datagrams taken in one round, so that a flood cannot keep time from being looked at.
#define RECEIVE_MAX 256u

uint64_t handle_now_ns(void) {
    struct timespec now;
    int failed = clock_gettime(CLOCK_BOOTTIME, &now);
    assert(!failed); // every Linux this runs on has it
    (void)failed;
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

// ---------------------------------------------------------------- opening

static void tell_notice(void *context, enum core_notice notice, uint64_t value) {
    conclave_t *handle = context;
    if (handle->on_notice) {
        handle->on_notice(handle->notice_context, (enum conclave_notice)notice, value);
    }
}

static uint32_t or_default(uint32_t value, uint32_t otherwise) {
    return value ? value : otherwise;
}

static bool refuse(char *error, const char *sentence) {
    (void)snprintf(error, CONCLAVE_ERROR_BYTES, "%s", sentence);
    return false;
}

static bool take_options(conclave_t *handle, const struct conclave_options *from,
                         struct core_options *to, char *error) {
    if (!endpoints_parse(&handle->endpoints, from->endpoints, error)) return false;
    *to = (struct core_options){
        .endpoint_count = handle->endpoints.count,
        .group = from->group,
        .cluster = from->cluster,
        .timeout_ns = or_default(from->timeout_ms, 5000) * MS_NS,
        .operations = or_default(from->operations, 64),
        .leases = or_default(from->leases, 64),
        .locks = or_default(from->locks, 256),
        .notice = tell_notice,
        .context = handle,
    };
    memcpy(to->endpoints, handle->endpoints.address, sizeof to->endpoints);
    if (from->timeout_ms > CONCLAVE_TTL_MS_MAX) {
        return refuse(error, "The time-out is too long: give at most 24 hours.");
    }
    if (to->operations > CORE_OPERATIONS_MAX) {
        return refuse(error, "Too many operations at once: give at most 4096 in the options.");
    }
    if (to->leases > CORE_LEASES_MAX) {
        return refuse(error, "Too many leases at once: give at most 4096 in the options.");
    }
    if (to->locks > CORE_LOCKS_MAX) {
        return refuse(error, "Too many locks at once: give at most 65536 in the options.");
    }
    return true;
}

static enum conclave_status take_system(conclave_t *handle, struct core_options *options,
                                        char *error) {
    uint64_t random[2];
    if (getrandom(random, sizeof random, 0) != sizeof random) {
        (void)snprintf(error, CONCLAVE_ERROR_BYTES, "No random numbers from the system: %s.",
                       strerror(errno));
        return CONCLAVE_SYSTEM;
    }
    options->seed = random[0];
    options->nonce = random[1];
    handle->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (handle->fd < 0) {
        (void)snprintf(error, CONCLAVE_ERROR_BYTES,
                       "No UDP socket from the system: %s. Is the limit of open files reached?",
                       strerror(errno));
        return CONCLAVE_SYSTEM;
    }
    handle->call_count = options->operations;
    handle->calls = calloc(handle->call_count, sizeof *handle->calls);
    size_t bytes = core_bytes(options);
    handle->memory = aligned_alloc(64, bytes);
    if (!handle->calls || !handle->memory) {
        (void)snprintf(error, CONCLAVE_ERROR_BYTES,
                       "Not enough memory: %zu bytes are needed, lower the limits in the options.",
                       bytes);
        errno = ENOMEM;
        return CONCLAVE_SYSTEM;
    }
    memset(handle->memory, 0, bytes);
    handle->core = core_create(handle->memory, options, handle_now_ns());
    return CONCLAVE_OK;
}

enum conclave_status conclave_open(const struct conclave_options *options, conclave_t **result,
                                   char *error) {
    char sink[CONCLAVE_ERROR_BYTES];
    if (!error) error = sink;
    *result = NULL;
    conclave_t *handle = calloc(1, sizeof *handle);
    if (!handle) {
        (void)refuse(error, "Not enough memory for a handle.");
        return CONCLAVE_SYSTEM;
    }
    handle->fd = -1;
    handle->on_notice = options->on_notice;
    handle->notice_context = options->context;
    struct core_options core_options;
    enum conclave_status status = CONCLAVE_BAD_REQUEST;
    if (take_options(handle, options, &core_options, error)) {
        status = take_system(handle, &core_options, error);
    }
    if (status != CONCLAVE_OK) {
        int saved = errno;
        conclave_close(handle);
        errno = saved;
        return status;
    }
    *result = handle;
    return CONCLAVE_OK;
}

void conclave_close(conclave_t *handle) {
    if (!handle) return;
    assert(!handle->calling_back);
    if (handle->core) {
        handle->calling_back = true;
        core_close(handle->core);
    }
    if (handle->fd >= 0) (void)close(handle->fd);
    free(handle->calls);
    free(handle->memory);
    free(handle);
}

// ---------------------------------------------------------------- what it knows

uint64_t conclave_cluster(const conclave_t *handle) {
    return core_cluster(handle->core);
}

uint32_t conclave_endpoint_count(const conclave_t *handle) {
    return handle->endpoints.count;
}

const char *conclave_endpoint_name(const conclave_t *handle, uint32_t endpoint) {
    return endpoint < handle->endpoints.count ? handle->endpoints.name[endpoint] : NULL;
}

const char *conclave_problem(const conclave_t *handle) {
    if (handle->send_errno) {
        return "The system refused to send the last packet: check routes and firewall of this "
               "machine.";
    }
    return core_problem(handle->core);
}

const char *conclave_client_counter_name(uint32_t index) {
    return index == CORE_COUNTERS ? "sends_failed" : core_counter_name(index);
}

uint64_t conclave_client_counter(const conclave_t *handle, uint32_t index) {
    if (index == CORE_COUNTERS) return handle->sends_failed;
    return index < CORE_COUNTERS ? core_counter(handle->core, (enum core_counter)index) : 0;
}

// ---------------------------------------------------------------- driving

void handle_flush(conclave_t *handle) {
    if (handle->calling_back) return;
    uint64_t now_ns = handle_now_ns();
    struct core_datagram datagram;
    while (core_send(handle->core, now_ns, &datagram)) {
        struct sockaddr_in to = {
            .sin_family = AF_INET,
            .sin_port = htons((uint16_t)(datagram.endpoint & 0xffff)),
            .sin_addr.s_addr = htonl((uint32_t)(datagram.endpoint >> 16)),
        };
        ssize_t sent = sendto(handle->fd, datagram.bytes, datagram.length, MSG_NOSIGNAL,
                              (const struct sockaddr *)&to, sizeof to);
        // A packet that was not sent is a packet lost: it is repeated in time.
        handle->send_errno = sent < 0 && errno != EAGAIN && errno != EINTR ? errno : 0;
        if (sent < 0) handle->sends_failed++;
    }
}

static void receive(conclave_t *handle) {
    for (uint32_t i = 0; i < RECEIVE_MAX; i++) {
        struct sockaddr_in from = {.sin_family = AF_UNSPEC};
        socklen_t from_bytes = sizeof from;
        ssize_t length = recvfrom(handle->fd, handle->frame, sizeof handle->frame, 0,
                                  (struct sockaddr *)&from, &from_bytes);
        if (length < 0 && (errno == EINTR || errno == ECONNREFUSED)) continue;
        if (length < 0) return;
        if (from.sin_family != AF_INET) continue;
        uint64_t endpoint = wire_endpoint_pack(ntohl(from.sin_addr.s_addr), ntohs(from.sin_port));
        core_receive(handle->core, handle_now_ns(), endpoint, handle->frame, (uint32_t)length);
    }
}

int conclave_fd(const conclave_t *handle) {
    return handle->fd;
}

static uint64_t timeout_ns(const conclave_t *handle) {
    uint64_t next_ns = core_next_timeout(handle->core);
    if (next_ns == UINT64_MAX) return UINT64_MAX;
    uint64_t now_ns = handle_now_ns();
    return next_ns > now_ns ? next_ns - now_ns : 0;
}

int conclave_timeout_ms(const conclave_t *handle) {
    uint64_t ns = timeout_ns(handle);
    if (ns == UINT64_MAX) return -1;
    uint64_t ms = (ns + MS_NS - 1) / MS_NS; // up: too early would only go round once more
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

void conclave_process(conclave_t *handle) {
    assert(!handle->calling_back);
    handle->calling_back = true;
    core_tick(handle->core, handle_now_ns());
    receive(handle);
    core_tick(handle->core, handle_now_ns());
    handle->calling_back = false;
    handle_flush(handle);
}

bool handle_round(conclave_t *handle, uint64_t wait_ns) {
    uint64_t timer_ns = timeout_ns(handle);
    uint64_t ns = timer_ns < wait_ns ? timer_ns : wait_ns;
    struct timespec time = {
        .tv_sec = (time_t)(ns / 1000000000ull),
        .tv_nsec = (long)(ns % 1000000000ull),
    };
    struct pollfd poll = {.fd = handle->fd, .events = POLLIN};
    bool undisturbed = ppoll(&poll, 1, &time, NULL) >= 0 || errno != EINTR;
    conclave_process(handle);
    return undisturbed;
}

void conclave_pump(conclave_t *handle, uint32_t wait_ms) {
    uint64_t end_ns = handle_now_ns() + wait_ms * MS_NS;
    conclave_process(handle);
    for (uint64_t now_ns; (now_ns = handle_now_ns()) < end_ns;) {
        if (!handle_round(handle, end_ns - now_ns)) return;
    }
}
