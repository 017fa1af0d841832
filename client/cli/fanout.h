// Asking every endpoint for itself, all at once.
//
// Each endpoint gets a handle of its own: so one that is silent delays no other, and one that
// belongs to another cluster is heard instead of being dropped as foreign.
#ifndef CONCLAVE_CLI_FANOUT_H
#define CONCLAVE_CLI_FANOUT_H

#include "cli.h"

#define FANOUT_TIMEOUT_MS 1000u // default: a node that is up answers in far less

struct fanout_node {
    char *endpoint; // as given
    conclave_t *handle;
    bool open; // an answer is still awaited; the asker clears it
    enum conclave_status status;
    struct conclave_node node;
    struct records records; // the asker's
};
struct fanout {
    uint32_t count;
    struct fanout_node nodes[CONCLAVE_ENDPOINTS_MAX];
};

// EXIT_DONE, or the status to end with after a sentence. To be closed in either case.
enum exit_status fanout_open(struct cli *cli, struct fanout *fanout);
// Until no node is open.
void fanout_wait(struct fanout *fanout);
void fanout_close(struct fanout *fanout);
// EXIT_DONE if any answered, else EXIT_UNREACHABLE after a sentence.
enum exit_status fanout_reached(const struct cli *cli, const struct fanout *fanout);

#endif
