// See fanout.h.
#include "fanout.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

static enum exit_status open_one(const struct cli *cli, const char *endpoint,
                                 struct fanout_node *node) {
    char error[CONCLAVE_ERROR_BYTES];
    struct conclave_options options = {
        .endpoints = endpoint,
        .timeout_ms = cli_timeout_ms(cli, FANOUT_TIMEOUT_MS),
        .operations = 1,
        .leases = 1,
        .locks = 1,
    };
    node->endpoint = strdup(endpoint);
    if (!node->endpoint) output_no_memory();
    enum conclave_status status = conclave_open(&options, &node->handle, error);
    if (status == CONCLAVE_OK) return EXIT_DONE;
    output_error("%s", error);
    return status == CONCLAVE_BAD_REQUEST ? EXIT_USAGE : EXIT_SYSTEM;
}

enum exit_status fanout_open(struct cli *cli, struct fanout *fanout) {
    *fanout = (struct fanout){0};
    enum exit_status exit_status = cli_open(cli); // checks the list as a whole
    if (exit_status != EXIT_DONE) return exit_status;
    uint32_t count = conclave_endpoint_count(cli->handle);
    for (uint32_t i = 0; i < count && exit_status == EXIT_DONE; i++) {
        fanout->count++;
        exit_status = open_one(cli, conclave_endpoint_name(cli->handle, i), &fanout->nodes[i]);
    }
    return exit_status;
}

void fanout_wait(struct fanout *fanout) {
    for (;;) {
        struct pollfd fds[CONCLAVE_ENDPOINTS_MAX];
        int timeout_ms = -1;
        nfds_t open = 0;
        for (uint32_t i = 0; i < fanout->count; i++) {
            const struct fanout_node *node = &fanout->nodes[i];
            if (!node->open) continue;
            fds[open++] = (struct pollfd){.fd = conclave_fd(node->handle), .events = POLLIN};
            int ms = conclave_timeout_ms(node->handle);
            if (ms >= 0 && (timeout_ms < 0 || ms < timeout_ms)) timeout_ms = ms;
        }
        if (open == 0) return;
        (void)poll(fds, open, timeout_ms);
        for (uint32_t i = 0; i < fanout->count; i++) {
            if (fanout->nodes[i].open) conclave_process(fanout->nodes[i].handle);
        }
    }
}

void fanout_close(struct fanout *fanout) {
    for (uint32_t i = 0; i < fanout->count; i++) {
        conclave_close(fanout->nodes[i].handle);
        free(fanout->nodes[i].endpoint);
        records_end(&fanout->nodes[i].records);
    }
}

enum exit_status fanout_reached(const struct cli *cli, const struct fanout *fanout) {
    for (uint32_t i = 0; i < fanout->count; i++) {
        if (fanout->nodes[i].status == CONCLAVE_OK) return EXIT_DONE;
    }
    output_error("No node answered within %u ms: check that the nodes run, that the endpoints are "
                 "right, and that UDP passes between here and there.%s",
                 cli_timeout_ms(cli, FANOUT_TIMEOUT_MS), cli_endpoints_hint(cli));
    return EXIT_UNREACHABLE;
}
