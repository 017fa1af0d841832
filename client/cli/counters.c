// conclave counters: every node's named counters.
#include <stdio.h>

#include "fanout.h"

static const char help[] = "conclave counters    the counters of every node: packets, drops by "
                           "reason, log, elections ...\n"
                           "\n"
                           "  --all-zero    also those that are zero\n"
                           "\n"
                           "A counter counts from the start of its node's process. Names are "
                           "stable; the prefix before the\n"
                           "dot names the part of the node that counts.\n"
                           "\n"
                           "Exit status: 0 at least one node answered, 7 none did, 2 usage.\n"
                           "\n"
                           "Example:\n"
                           "  $ conclave counters | grep drop\n"
                           "  10.0.0.2:7100 port.drop_checksum 3\n";

static const struct column columns[] = {
    {"counter", "COUNTER", COLUMN_TEXT, false},
    {"value", "VALUE", COLUMN_NUMBER, false},
    {NULL, NULL, COLUMN_TEXT, false},
};
enum { COUNTER, VALUE };

static void told(void *context, const struct conclave_result *result) {
    struct fanout_node *node = context;
    node->open = false;
    node->status = result->status;
    if (result->status != CONCLAVE_OK) return;
    for (uint32_t i = 0; i < result->listed; i++) {
        struct cell *cells = records_add(&node->records);
        cell_text(&cells[COUNTER], result->counters[i].name);
        cell_number(&cells[VALUE], result->counters[i].value);
    }
    uint64_t have = node->records.count;
    if (result->listed == 0 || have >= result->count) return;
    node->status = conclave_node_counters_start(node->handle, 0, have, told, node);
    node->open = node->status == CONCLAVE_OK;
}

// ---------------------------------------------------------------- printing

static const struct cell *row(const struct fanout_node *node, size_t i) {
    return &node->records.cells[i * node->records.column_count];
}

static void print_json(const struct fanout *fanout, bool zeros) {
    json_t *nodes = json_array();
    for (uint32_t i = 0; i < fanout->count; i++) {
        const struct fanout_node *node = &fanout->nodes[i];
        bool answered = node->status == CONCLAVE_OK;
        json_t *counters = json_object();
        for (size_t j = 0; j < node->records.count; j++) {
            const struct cell *cells = row(node, j);
            if (!zeros && cells[VALUE].number == 0) continue;
            json_t *value = json_integer((json_int_t)cells[VALUE].number);
            if (json_object_set_new(counters, cells[COUNTER].text, value) != 0) output_no_memory();
        }
        json_t *object = json_pack("{s:s, s:b, s:o}", "endpoint", node->endpoint, "reachable",
                                   answered, "counters", counters);
        if (json_array_append_new(nodes, object) != 0) output_no_memory();
    }
    output_json(json_pack("{s:o}", "nodes", nodes));
}

// One table for all nodes: each has the same counters in the same order, but for versions.
static void print_rows(const struct cli *cli, const struct fanout *fanout, bool zeros) {
    static const struct column all[] = {
        {"endpoint", "ENDPOINT", COLUMN_TEXT, true},
        {"counter", "COUNTER", COLUMN_TEXT, true},
        {"value", "VALUE", COLUMN_NUMBER, true},
        {NULL, NULL, COLUMN_TEXT, false},
    };
    struct records records;
    records_begin(&records, all);
    for (uint32_t i = 0; i < fanout->count; i++) {
        const struct fanout_node *node = &fanout->nodes[i];
        for (size_t j = 0; j < node->records.count; j++) {
            const struct cell *from = row(node, j);
            if (!zeros && from[VALUE].number == 0) continue;
            struct cell *to = records_add(&records);
            cell_text(&to[0], node->endpoint);
            cell_text(&to[1], from[COUNTER].text);
            cell_number(&to[2], from[VALUE].number);
        }
    }
    cli_print(cli, &records, NULL, NULL);
    for (uint32_t i = 0; i < fanout->count; i++) {
        if (fanout->nodes[i].status == CONCLAVE_OK) continue;
        output_error("%s did not answer, or not to the end.", fanout->nodes[i].endpoint);
    }
}

static bool take(void *context, const struct arg *arg) {
    *(bool *)context = true; // --all-zero is the only one
    return true;
}

int verb_counters(struct cli *cli, struct args *args) {
    static const struct option_spec options[] = {{0, "all-zero", false}, {0, NULL, false}};
    bool zeros = false;
    struct verb_words words = {.options = options, .take = take, .context = &zeros, .help = help};
    int ends = cli_words(cli, args, &words, NULL);
    if (ends >= 0) return ends;
    struct fanout fanout;
    int exit_status = fanout_open(cli, &fanout);
    if (exit_status == EXIT_DONE) {
        for (uint32_t i = 0; i < fanout.count; i++) {
            struct fanout_node *node = &fanout.nodes[i];
            records_begin(&node->records, columns);
            node->status = conclave_node_counters_start(node->handle, 0, 0, told, node);
            node->open = node->status == CONCLAVE_OK;
        }
        fanout_wait(&fanout);
        exit_status = fanout_reached(cli, &fanout);
        if (cli->format == OUTPUT_JSON) {
            print_json(&fanout, zeros);
        } else if (exit_status == EXIT_DONE) {
            print_rows(cli, &fanout, zeros);
        }
    }
    fanout_close(&fanout);
    return exit_status;
}
