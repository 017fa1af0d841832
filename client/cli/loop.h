// Waiting for three things at once: the cluster, signals and time.
//
// The signals that end a program are blocked and read from a descriptor, so that a lock is given
// back and a command is told before the program ends. Blocking calls of libconclave are not used
// with it: they would not notice a signal.
#ifndef CONCLAVE_CLI_LOOP_H
#define CONCLAVE_CLI_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "conclave.h"

struct loop {
    conclave_t *handle; // lent
    int signals;        // signalfd
    sigset_t before;    // the mask to give back to a command
};

uint64_t loop_now_ms(void); // CLOCK_BOOTTIME, as libconclave's
// SIGINT, SIGTERM, SIGHUP, SIGQUIT and SIGCHLD are read from now on. False after a sentence.
bool loop_begin(struct loop *loop, conclave_t *handle);
// Waits at most until until_ms (UINT64_MAX: no limit), processes what came. The signal's number if
// one came, else 0. May return early.
int loop_wait(struct loop *loop, uint64_t until_ms);

// A started operation's outcome, for loops that wait for it.
struct outcome {
    bool told;
    struct conclave_result result; // lists and node are not kept
};
void outcome_told(void *context, const struct conclave_result *result); // a conclave_done_fn
// Waits for it, given what starting it returned. The status; *signal, if not NULL, is set and
// CONCLAVE_CLOSED returned if an ending signal came first, and at until_ms CONCLAVE_UNKNOWN. The
// outcome must outlive the operation, which is still open in both cases.
enum conclave_status outcome_wait(struct outcome *outcome, struct loop *loop,
                                  enum conclave_status started, uint64_t until_ms, int *signal);

#endif
