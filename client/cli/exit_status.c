// Outcomes of the library as exit statuses of the program.
#include "exit_status.h"

#include <assert.h>

static_assert(EXIT_BASE_MAX + EXIT_DIVERGED < EXIT_NOT_RUN, "moved statuses stay below a shell's");

enum exit_status exit_status_of(enum conclave_status status) {
    switch (status) {
    case CONCLAVE_OK:
        return EXIT_DONE;
    case CONCLAVE_WOULD_BLOCK:
        return EXIT_HELD;
    case CONCLAVE_WAIT_TIMEOUT:
        return EXIT_WAITED;
    case CONCLAVE_NO_LEASE:
    case CONCLAVE_LEASE_EXPIRED:
    case CONCLAVE_NOT_HOLDER:
    case CONCLAVE_STALE_TOKEN:
        return EXIT_LOST;
    case CONCLAVE_UNKNOWN:
    case CONCLAVE_CLOSED:
    case CONCLAVE_STALE_SEQUENCE:
        return EXIT_UNSURE;
    case CONCLAVE_TIMEOUT:
    case CONCLAVE_NOT_LEADER:
        return EXIT_UNREACHABLE;
    case CONCLAVE_SYSTEM:
        return EXIT_SYSTEM;
    default: // busy, full, denied, and whatever a newer cluster may refuse with
        return EXIT_REFUSED;
    }
}

const char exit_status_help[] =
    "Exit status:\n"
    "  0    done\n"
    "  1    the operating system refused something (memory, socket, output)\n"
    "  2    the command line is wrong; nothing was sent\n"
    "  3    lock --try: another holds the lock\n"
    "  4    lock --wait: the lock was not free in time\n"
    "  5    no such lease, or the lock was lost while it was held\n"
    "  6    no final answer: the change may or may not have happened\n"
    "  7    the cluster did not answer in time; nothing was changed\n"
    "  8    the cluster refused: full, busy or denied\n"
    "  9    status: replicas contradict each other\n"
    "  lock -- CMD returns CMD's own status, 128 + N if signal N ended it, 126 if CMD cannot be\n"
    "  executed, 127 if there is no such CMD. To tell CMD's statuses from the above, move the\n"
    "  above away with lock --exit-base N.\n";
