// conclave: locks and leases of a Conclave cluster, from the command line.
//
// This file reads the options before the verb, finds the verb and leaves the rest to it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "dev.h"

static const struct {
    const char *name;
    int (*run)(struct cli *cli, struct args *args);
} verbs[] = {
    {"lock", verb_lock},   {"lease", verb_lease},   {"holders", verb_holders},
    {"queue", verb_queue}, {"status", verb_status}, {"counters", verb_counters},
};
#define VERBS (sizeof verbs / sizeof *verbs)

static const char help[] =
    "conclave: locks and leases that survive the machines that keep them.\n"
    "\n"
    "  conclave lock NAME -- CMD ARGS    run CMD while holding a lock\n"
    "  conclave lock NAME                hold a lock until ended by a signal\n"
    "  conclave lease grant|keepalive|revoke|ttl ...\n"
    "  conclave holders NAME             who holds a lock\n"
    "  conclave queue NAME               who waits for it\n"
    "  conclave status                   every node: role, progress, agreement\n"
    "  conclave counters                 every node's counters\n"
    "  conclave dev                      a three-node cluster on this machine, to try things\n"
    "  conclave VERB --help              more on each, with an example\n"
    "  conclave --version\n"
    "\n"
    "Example:\n"
    "  $ export CONCLAVE_ENDPOINTS=10.0.0.1:7100,10.0.0.2:7100,10.0.0.3:7100\n"
    "  $ conclave lock nightly-backup --try -- ./backup.sh\n"
    "\n";

static int show_help(void) {
    (void)printf("%s%s\n%s", help, cli_options_help, exit_status_help);
    return output_flush() ? EXIT_DONE : EXIT_SYSTEM;
}

static int run_verb(struct cli *cli, struct args *args, const char *name) {
    if (strcmp(name, "dev") == 0)
        return cli_dev(args->count - args->at + 1, args->words + args->at - 1);
    for (size_t i = 0; i < VERBS; i++) {
        if (strcmp(name, verbs[i].name) != 0) continue;
        args->verb = verbs[i].name;
        int status = verbs[i].run(cli, args);
        conclave_close(cli->handle);
        return !output_flush() && status == EXIT_DONE ? EXIT_SYSTEM : status;
    }
    output_error("There is no verb '%s'.", name);
    output_error("See conclave --help.");
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    static const struct option_spec own[] = {{0, "version", false}, {0, NULL, false}};
    const char *endpoints = getenv("CONCLAVE_ENDPOINTS");
    bool given = endpoints && *endpoints;
    struct cli cli = {
        .endpoints = given ? endpoints : CLI_ENDPOINTS_DEFAULT,
        .endpoints_given = given,
    };
    struct args args = {.count = argc, .words = argv, .at = 1};
    for (;;) {
        struct arg arg = args_next(&args, own, cli_options);
        if (arg.kind == ARG_BAD) return EXIT_USAGE;
        if (arg.kind == ARG_WORD) return run_verb(&cli, &args, arg.text);
        if (arg.kind == ARG_END || arg.kind == ARG_REST) break;
        if (arg_is(&arg, "version")) {
            (void)puts("conclave " CONCLAVE_VERSION);
            return output_flush() ? EXIT_DONE : EXIT_SYSTEM;
        }
        enum taken taken = cli_take(&cli, &arg);
        if (taken == TAKEN_HELP) return show_help();
        if (taken == TAKEN_BAD) return EXIT_USAGE;
    }
    output_error("A verb is missing, as in: conclave lock NAME -- CMD.");
    output_error("See conclave --help.");
    return EXIT_USAGE;
}
