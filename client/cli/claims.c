// See claims.h.
#include "claims.h"

#include <stdio.h>

static const struct column holder_columns[] = {
    {"token", "TOKEN", COLUMN_NUMBER, false},     {"lease", "LEASE", COLUMN_NUMBER, false},
    {"session", "SESSION", COLUMN_NUMBER, false}, {"since_ms", "SINCE", COLUMN_MS, false},
    {"claim", NULL, COLUMN_NUMBER, false},        {NULL, NULL, COLUMN_TEXT, false},
};
static const struct column waiter_columns[] = {
    {"place", "PLACE", COLUMN_NUMBER, false},     {"lease", "LEASE", COLUMN_NUMBER, false},
    {"session", "SESSION", COLUMN_NUMBER, false}, {"since_ms", "SINCE", COLUMN_MS, false},
    {"claim", NULL, COLUMN_NUMBER, false},        {NULL, NULL, COLUMN_TEXT, false},
};

int claims_begin(struct cli *cli, struct args *args, const char *help, const char **name) {
    static const char *const names[] = {"NAME, the lock's name,"};
    struct verb_words words = {.names = names, .min = 1, .max = 1, .help = help};
    int ends = cli_words(cli, args, &words, name);
    if (ends >= 0) return ends;
    if (!check_lock_name(*name)) return EXIT_USAGE;
    enum exit_status opened = cli_open(cli);
    return opened == EXIT_DONE ? -1 : (int)opened;
}

void claims_records(struct records *records, bool holding) {
    records_begin(records, holding ? holder_columns : waiter_columns);
}

void claims_add(struct records *records, bool holding, uint64_t place,
                const struct conclave_claim *claim) {
    struct cell *cells = records_add(records);
    cell_number(&cells[0], holding ? claim->token : place);
    cell_number(&cells[1], claim->lease);
    cell_number(&cells[2], claim->session);
    cell_number(&cells[3], claim->since_ms);
    cell_number(&cells[4], claim->claim);
}

void claims_print(struct cli *cli, struct records *records, const char *name, uint64_t count,
                  const char *key) {
    json_t *object = NULL;
    if (cli->format == OUTPUT_JSON) {
        object = json_pack("{s:s, s:I}", "name", name, "count", (json_int_t)count);
        if (!object) output_no_memory();
    }
    cli_print(cli, records, object, key);
}
