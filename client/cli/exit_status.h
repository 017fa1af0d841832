// What `conclave` answers its caller with. Each outcome has a number of its own, so that a script
// can tell "somebody else has it" from "nobody answers" without reading text. The numbers never
// change.
//
// `conclave lock ... -- CMD` returns CMD's own status, which may be any of these numbers too.
// Whoever must tell them apart moves ours out of the way with `--exit-base N`: then N is added to
// them.
#ifndef CONCLAVE_CLI_EXIT_STATUS_H
#define CONCLAVE_CLI_EXIT_STATUS_H

#include "conclave.h"

enum exit_status {
    EXIT_DONE = 0,
    EXIT_SYSTEM = 1,       // the operating system refused something: memory, socket, output
    EXIT_USAGE = 2,        // the command line is wrong; nothing was sent
    EXIT_HELD = 3,         // lock --try: another holds it
    EXIT_WAITED = 4,       // lock --wait: not free in time
    EXIT_LOST = 5,         // no such lease, or it (and so the lock) was lost
    EXIT_UNSURE = 6,       // no final answer: it may or may not have happened
    EXIT_UNREACHABLE = 7,  // no answer in time, nothing was changed
    EXIT_REFUSED = 8,      // full, busy, denied
    EXIT_DIVERGED = 9,     // status: replicas contradict each other
    EXIT_NOT_RUN = 126,    // CMD was found but cannot be executed, as shells have it
    EXIT_NOT_FOUND = 127,  // no such CMD
    EXIT_SIGNAL_BASE = 128 // ended by signal N: this plus N
};
#define EXIT_BASE_MAX 110 // of --exit-base: all of ours then stay below 126

enum exit_status exit_status_of(enum conclave_status status);
// The list above as --help shows it.
extern const char exit_status_help[];

#endif
