// See cli.h.
#include "cli.h"

#include <stdio.h>
#include <string.h>

const struct option_spec cli_options[] = {
    {'e', "endpoints", true}, {'w', "write-out", true}, {0, "timeout", true},
    {'h', "help", false},     {0, NULL, false},
};

const char cli_options_help[] =
    "Options of every verb:\n"
    "  -e, --endpoints HOST:PORT,...   the cluster's nodes; else CONCLAVE_ENDPOINTS, else\n"
    "                                  " CLI_ENDPOINTS_DEFAULT "\n"
    "  -w, --write-out FORMAT          simple (default), table or json\n"
    "      --timeout DURATION          for one operation, retries included (default 5s; 1s for\n"
    "                                  status and counters)\n"
    "  -h, --help                      this text\n"
    "Durations are a whole number and a unit: 500ms, 5s, 2m, 1h.\n";

enum taken cli_take(struct cli *cli, const struct arg *arg) {
    if (arg_is(arg, "help")) return TAKEN_HELP;
    if (arg_is(arg, "endpoints")) {
        cli->endpoints = arg->text;
        cli->endpoints_given = true;
        return TAKEN;
    }
    if (arg_is(arg, "write-out")) {
        if (output_format_parse(arg->text, &cli->format)) return TAKEN;
        output_error("Format '%s' does not exist: choose simple, table or json.", arg->text);
        return TAKEN_BAD;
    }
    if (arg_is(arg, "timeout")) {
        uint64_t ms;
        if (!parse_duration("--timeout", arg->text, 1, CONCLAVE_TTL_MS_MAX, &ms)) return TAKEN_BAD;
        cli->timeout_ms = (uint32_t)ms;
        return TAKEN;
    }
    return NOT_TAKEN;
}

static int usage(const struct args *args) {
    output_error("See conclave %s --help.", args->verb);
    return EXIT_USAGE;
}

int cli_words(struct cli *cli, struct args *args, const struct verb_words *verb,
              const char **words) {
    int count = 0;
    for (;;) {
        struct arg arg = args_next(args, verb->options, cli_options);
        if (arg.kind == ARG_BAD) return EXIT_USAGE;
        if (arg.kind == ARG_REST && verb->rest) break;
        if (arg.kind == ARG_REST) { // what follows are words, whatever they begin with
            args->words_only = true;
            continue;
        }
        if (arg.kind == ARG_END) break;
        if (arg.kind == ARG_WORD) {
            if (count == verb->max) {
                output_error(verb->rest
                                 ? "'%s' is one word too many; a command stands behind --, as "
                                   "in: conclave lock NAME -- CMD."
                                 : "'%s' is one word too many.",
                             arg.text);
                return usage(args);
            }
            words[count++] = arg.text;
            continue;
        }
        enum taken taken = cli_take(cli, &arg);
        if (taken == TAKEN_HELP) {
            (void)fputs(verb->help, stdout);
            (void)printf("\n%s", cli_options_help);
            return output_flush() ? EXIT_DONE : EXIT_SYSTEM;
        }
        if (taken == TAKEN_BAD) return EXIT_USAGE;
        if (taken == NOT_TAKEN && !verb->take(verb->context, &arg)) return EXIT_USAGE;
    }
    if (count < verb->min) {
        output_error("%s is missing.", verb->names[count]);
        return usage(args);
    }
    return -1;
}

// ---------------------------------------------------------------- the cluster

uint32_t cli_timeout_ms(const struct cli *cli, uint32_t otherwise) {
    return cli->timeout_ms ? cli->timeout_ms : otherwise;
}

enum exit_status cli_open(struct cli *cli) {
    char error[CONCLAVE_ERROR_BYTES];
    struct conclave_options options = {
        .endpoints = cli->endpoints,
        .timeout_ms = cli_timeout_ms(cli, 5000),
        .operations = 8,
        .leases = 2,
        .locks = 2,
    };
    enum conclave_status status = conclave_open(&options, &cli->handle, error);
    if (status == CONCLAVE_OK) return EXIT_DONE;
    output_error("%s", error);
    return status == CONCLAVE_BAD_REQUEST ? EXIT_USAGE : EXIT_SYSTEM;
}

const char *cli_endpoints_hint(const struct cli *cli) {
    if (cli->endpoints_given) return "";
    return " Asked were " CLI_ENDPOINTS_DEFAULT
           ", as neither -e nor CONCLAVE_ENDPOINTS names others; "
           "conclave dev starts a cluster there.";
}

enum exit_status cli_failed(const struct cli *cli, conclave_t *handle, const char *what,
                            enum conclave_status status) {
    const char *sentence = conclave_status_sentence(status);
    bool silent = status == CONCLAVE_TIMEOUT || status == CONCLAVE_UNKNOWN;
    const char *problem = silent ? conclave_problem(handle) : NULL;
    if (problem && status == CONCLAVE_TIMEOUT) { // the problem gives the better advice
        sentence = "No answer came in time; nothing was changed.";
    }
    output_error("%s: %s: %s%s%s%s", what, conclave_status_name(status), sentence,
                 problem ? " " : "", problem ? problem : "", silent ? cli_endpoints_hint(cli) : "");
    return exit_status_of(status);
}

void cli_print(const struct cli *cli, struct records *records, json_t *object, const char *key) {
    if (cli->format == OUTPUT_SIMPLE) {
        records_print_simple(records);
    } else if (cli->format == OUTPUT_TABLE) {
        records_print_table(records);
    } else {
        json_t *array = records_json(records);
        if (object) {
            if (json_object_set_new(object, key, array) != 0) output_no_memory();
            output_json(json_incref(object));
        } else {
            output_json(json_incref(json_array_get(array, 0)));
            json_decref(array);
        }
    }
    json_decref(object);
    records_end(records);
}
