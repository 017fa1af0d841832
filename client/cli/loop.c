// See loop.h.
#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "output.h"

uint64_t loop_now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool loop_begin(struct loop *loop, conclave_t *handle) {
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD};
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
        // What the caller has us ignore (nohup, a background job's SIGINT) stays ignored.
        struct sigaction action;
        (void)sigaction(ending[i], NULL, &action);
        if (ending[i] == SIGCHLD || action.sa_handler != SIG_IGN) (void)sigaddset(&set, ending[i]);
    }
    (void)signal(SIGCHLD, SIG_DFL); // ignored, commands' statuses would be lost
    (void)sigprocmask(SIG_BLOCK, &set, &loop->before);
    loop->handle = handle;
    loop->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (loop->signals >= 0) return true;
    output_error("No signal descriptor from the system: %s.", strerror(errno));
    return false;
}

static int poll_ms(const struct loop *loop, uint64_t until_ms) {
    int library_ms = conclave_timeout_ms(loop->handle);
    if (until_ms == UINT64_MAX) return library_ms;
    uint64_t now_ms = loop_now_ms();
    uint64_t own_ms = until_ms > now_ms ? until_ms - now_ms : 0;
    if (own_ms > INT_MAX) own_ms = INT_MAX;
    return library_ms >= 0 && (uint64_t)library_ms < own_ms ? library_ms : (int)own_ms;
}

int loop_wait(struct loop *loop, uint64_t until_ms) {
    struct pollfd fds[] = {
        {.fd = loop->signals, .events = POLLIN},
        {.fd = conclave_fd(loop->handle), .events = POLLIN},
    };
    (void)poll(fds, 2, poll_ms(loop, until_ms));
    conclave_process(loop->handle);
    struct signalfd_siginfo info;
    if (read(loop->signals, &info, sizeof info) != (ssize_t)sizeof info) return 0;
    return (int)info.ssi_signo;
}

void outcome_told(void *context, const struct conclave_result *result) {
    struct outcome *outcome = context;
    outcome->told = true;
    outcome->result = *result;
    outcome->result.claims = NULL;
    outcome->result.counters = NULL;
    outcome->result.node = NULL;
}

enum conclave_status outcome_wait(struct outcome *outcome, struct loop *loop,
                                  enum conclave_status started, uint64_t until_ms, int *ending) {
    if (started != CONCLAVE_OK) return started;
    while (!outcome->told) {
        int came = loop_wait(loop, until_ms);
        if (outcome->told) break;
        if (came && came != SIGCHLD && ending) {
            *ending = came;
            return CONCLAVE_CLOSED;
        }
        if (loop_now_ms() >= until_ms) return CONCLAVE_UNKNOWN;
    }
    return outcome->result.status;
}
