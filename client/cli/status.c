// conclave status: what every node says of itself, and whether they contradict each other.
#include <stdio.h>
#include <string.h>

#include "fanout.h"

static const char help[] =
    "conclave status    one line for each endpoint: role, progress, agreement\n"
    "\n"
    "  node, role, leader  its id, what it is, and whom it takes for the leader\n"
    "  term                the election term it is in\n"
    "  commit, applied     log index known committed, and executed\n"
    "  durable             log index on its disk\n"
    "  state_hash          of all it has executed: equal on nodes with equal `applied`\n"
    "More in JSON: sessions, leases, locks, claims, first and snapshot (log indices), cluster.\n"
    "\n"
    "Contradictions are told on stderr (JSON: in \"problems\"): different hashes at the same "
    "index, two\n"
    "leaders in one term, endpoints of different clusters. So is the lack of a leader.\n"
    "\n"
    "Exit status: 0 at least one node answered, 7 none did, 9 they contradict each other, 2 "
    "usage.\n"
    "\n"
    "Example:\n"
    "  $ conclave status -w table\n"
    "  ENDPOINT       NODE  ROLE      TERM  COMMIT  APPLIED  DURABLE  LEADER  UPTIME  STATE\n"
    "  10.0.0.1:7100     1  leader       2    1207     1207     1207       1   3h12m  0x9f...\n";

static const struct column columns[] = {
    {"endpoint", "ENDPOINT", COLUMN_TEXT, true},  {"reachable", NULL, COLUMN_FLAG, false},
    {"node", "NODE", COLUMN_NUMBER, false},       {"role", "ROLE", COLUMN_TEXT, false},
    {"term", "TERM", COLUMN_NUMBER, false},       {"commit", "COMMIT", COLUMN_NUMBER, false},
    {"applied", "APPLIED", COLUMN_NUMBER, false}, {"durable", "DURABLE", COLUMN_NUMBER, false},
    {"leader", "LEADER", COLUMN_NUMBER, false},   {"uptime_ms", "UPTIME", COLUMN_MS, false},
    {"state_hash", "STATE", COLUMN_HEX, false},   {"durability", NULL, COLUMN_TEXT, false},
    {"recovering", NULL, COLUMN_FLAG, false},     {"nodes", NULL, COLUMN_NUMBER, false},
    {"first", NULL, COLUMN_NUMBER, false},        {"snapshot", NULL, COLUMN_NUMBER, false},
    {"sessions", NULL, COLUMN_NUMBER, false},     {"leases", NULL, COLUMN_NUMBER, false},
    {"locks", NULL, COLUMN_NUMBER, false},        {"claims", NULL, COLUMN_NUMBER, false},
    {"cluster", NULL, COLUMN_HEX, false},         {NULL, NULL, COLUMN_TEXT, false},
};
enum {
    ENDPOINT,
    REACHABLE,
    NODE,
    ROLE,
    TERM,
    COMMIT,
    APPLIED,
    DURABLE,
    LEADER,
    UPTIME,
    STATE_HASH,
    DURABILITY,
    RECOVERING,
    NODES,
    FIRST,
    SNAPSHOT,
    SESSIONS,
    LEASES,
    LOCKS,
    CLAIMS,
    CLUSTER,
};

static void told(void *context, const struct conclave_result *result) {
    struct fanout_node *node = context;
    node->open = false;
    node->status = result->status;
    if (result->node) node->node = *result->node;
}

static bool answered(const struct fanout_node *node) {
    return node->status == CONCLAVE_OK;
}

static bool leads(const struct fanout_node *node) {
    return answered(node) && strcmp(node->node.role, "leader") == 0;
}

// ---------------------------------------------------------------- contradictions

struct findings {
    bool contradiction;
    bool differs[CONCLAVE_ENDPOINTS_MAX]; // its state hash is one of several
    json_t *problems;                     // NULL: tell on stderr
};

static void find(struct findings *findings, bool contradiction, const char *kind,
                 const char *sentence) {
    findings->contradiction |= contradiction;
    if (!findings->problems) {
        output_error("%s", sentence);
    } else {
        json_t *problem = json_pack("{s:s, s:s}", "kind", kind, "sentence", sentence);
        if (json_array_append_new(findings->problems, problem) != 0) output_no_memory();
    }
}

static void compare(struct findings *findings, const struct fanout *fanout, uint32_t i,
                    uint32_t j) {
    const struct fanout_node *a = &fanout->nodes[i], *b = &fanout->nodes[j];
    const char *one = a->endpoint, *other = b->endpoint;
    char sentence[768];
    if (!answered(a) || !answered(b)) return;
    if (a->node.cluster != b->node.cluster) {
        (void)snprintf(
            sentence, sizeof sentence,
            "%s and %s belong to different clusters (0x%jx and 0x%jx): check the list of "
            "endpoints.",
            one, other, (uintmax_t)a->node.cluster, (uintmax_t)b->node.cluster);
        find(findings, true, "clusters_differ", sentence);
        return;
    }
    if (a->node.applied == b->node.applied && a->node.state_hash != b->node.state_hash) {
        findings->differs[i] = findings->differs[j] = true;
        (void)snprintf(sentence, sizeof sentence,
                       "%s and %s have executed the same %ju entries with different results: stop "
                       "writing, keep the data directories of both and report a bug.",
                       one, other, (uintmax_t)a->node.applied);
        find(findings, true, "state_differs", sentence);
    }
    if (leads(a) && leads(b) && a->node.term == b->node.term) {
        (void)snprintf(sentence, sizeof sentence,
                       "%s and %s both lead term %ju: keep the data directories of both and report "
                       "a bug.",
                       one, other, (uintmax_t)a->node.term);
        find(findings, true, "two_leaders", sentence);
    }
}

static void examine(struct findings *findings, const struct fanout *fanout) {
    bool any = false, led = false; // a leader is named, be it an endpoint of ours or not
    for (uint32_t i = 0; i < fanout->count; i++) {
        any |= answered(&fanout->nodes[i]);
        led |= answered(&fanout->nodes[i]) && fanout->nodes[i].node.leader != 0;
        for (uint32_t j = i + 1; j < fanout->count; j++) compare(findings, fanout, i, j);
    }
    if (any && !led) {
        find(findings, false, "no_leader",
             "None of the nodes that answered knows a leader: an election is under way, or more "
             "than half of the nodes are down or cut off.");
    }
}

// ---------------------------------------------------------------- printing

static void add(struct records *records, const struct fanout_node *from, bool differs, bool json) {
    const struct conclave_node *node = &from->node;
    struct cell *cells = records_add(records);
    cell_text(&cells[ENDPOINT], from->endpoint);
    cell_number(&cells[REACHABLE], answered(from));
    if (!answered(from)) {
        if (!json) cell_text(&cells[ROLE], "unreachable");
        cells[ROLE].colour = COLOUR_BAD;
        return;
    }
    cell_number(&cells[NODE], node->node);
    cell_text(&cells[ROLE], node->role);
    if (leads(from)) cells[ROLE].colour = COLOUR_GOOD;
    cell_number(&cells[TERM], node->term);
    cell_number(&cells[COMMIT], node->commit);
    cell_number(&cells[APPLIED], node->applied);
    cell_number(&cells[DURABLE], node->durable);
    if (node->leader) cell_number(&cells[LEADER], node->leader);
    cell_number(&cells[UPTIME], node->uptime_ms);
    cell_number(&cells[STATE_HASH], node->state_hash);
    if (differs) cells[STATE_HASH].colour = COLOUR_BAD;
    cell_text(&cells[DURABILITY], node->memory ? "memory" : "disk");
    cell_number(&cells[RECOVERING], node->recovering);
    cell_number(&cells[NODES], node->nodes);
    cell_number(&cells[FIRST], node->first);
    cell_number(&cells[SNAPSHOT], node->snapshot);
    cell_number(&cells[SESSIONS], node->sessions);
    cell_number(&cells[LEASES], node->leases);
    cell_number(&cells[LOCKS], node->locks);
    cell_number(&cells[CLAIMS], node->claims);
    cell_number(&cells[CLUSTER], node->cluster);
}

static int show(struct cli *cli, const struct fanout *fanout) {
    bool json = cli->format == OUTPUT_JSON;
    struct findings findings = {.problems = json ? json_array() : NULL};
    json_t *object = NULL;
    if (json) {
        examine(&findings, fanout);
        object = json_pack("{s:o}", "problems", findings.problems);
        if (!object) output_no_memory();
    }
    struct records records;
    records_begin(&records, columns);
    for (uint32_t i = 0; i < fanout->count; i++) {
        add(&records, &fanout->nodes[i], findings.differs[i], json);
    }
    cli_print(cli, &records, object, "nodes");
    enum exit_status reached = fanout_reached(cli, fanout);
    if (!json) examine(&findings, fanout); // its sentences below the table
    return findings.contradiction ? EXIT_DIVERGED : reached;
}

int verb_status(struct cli *cli, struct args *args) {
    struct verb_words words = {.help = help};
    int ends = cli_words(cli, args, &words, NULL);
    if (ends >= 0) return ends;
    struct fanout fanout;
    int exit_status = fanout_open(cli, &fanout);
    if (exit_status == EXIT_DONE) {
        for (uint32_t i = 0; i < fanout.count; i++) {
            struct fanout_node *node = &fanout.nodes[i];
            node->status = conclave_node_status_start(node->handle, 0, told, node);
            node->open = node->status == CONCLAVE_OK;
        }
        fanout_wait(&fanout);
        exit_status = show(cli, &fanout);
    }
    fanout_close(&fanout);
    return exit_status;
}
