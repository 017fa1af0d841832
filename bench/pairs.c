// pairs: one client that acquires and releases a lock, over and over, and says how long it took.
//
// Closed loop, one request in flight: the figure papers give as "latency, one client". Every answer
// is checked as well: a token that does not rise, or a lock lost under a living lease, ends the run
// with status 3, for then the figures are worth nothing.
//
// A request without an answer is sent again with the same sequence, to the next node, so that a
// change of leader shows as a long time and not as an error, and nothing is executed twice. When
// patience ends the outcome is unknown, and the run ends with status 1.
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pairs_report.h"
#include "wire_client.h"

#define LEASE_MS  60000u // longer than a failover; renewed on the way
#define RENEW_NS  (10ull * 1000 * 1000 * 1000)
#define RETRY_NS  (20ull * 1000 * 1000)
#define PAIRS_MAX 100000000ull // 16 bytes each are kept

enum { EXIT_DONE, EXIT_UNFINISHED, EXIT_USAGE, EXIT_BROKEN };

struct arguments {
    uint64_t pairs;
    double seconds; // 0: no limit
    double patience;
    const char *own, *eal, *device;
    bool json;
};

static void must_be_ok(const struct wire_client *c, uint16_t status, const char *what) {
    if (status == WIRE_OK) return;
    if (status == WIRE_UNKNOWN) {
        fprintf(stderr,
                "pairs: %s: no answer for %g s, so its outcome is unknown; is a majority of the "
                "nodes running?\n",
                what, (double)c->patience_ns / 1e9);
        exit(EXIT_UNFINISHED);
    }
    fprintf(stderr, "pairs: %s was refused: %s\n", what, wire_client_status_name(status));
    exit(status == WIRE_NOT_HOLDER || status == WIRE_WOULD_BLOCK ? EXIT_BROKEN : EXIT_UNFINISHED);
}

static struct wire_reply ask(struct wire_client *c, struct wire_request request, const char *name,
                             const char *what) {
    struct wire_reply reply = wire_client_call(c, request, name, NULL);
    must_be_ok(c, reply.status, what);
    return reply;
}

static uint64_t acquire(struct wire_client *c, uint64_t lease, const char *name,
                        uint64_t last_token) {
    uint64_t token =
        ask(c, (struct wire_request){.op = WIRE_OP_LOCK_ACQUIRE, .lease = lease}, name, "acquire")
            .token;
    if (token > last_token) return token;
    fprintf(stderr,
            "pairs: token %" PRIu64 " after %" PRIu64
            ": tokens must rise; this must never happen, please report it\n",
            token, last_token);
    exit(EXIT_BROKEN);
}

// Runs until all pairs are done or the seconds have passed; fills `result`.
static void run(struct wire_client *c, const struct arguments *a, struct pairs_result *result) {
    char name[40]; // nobody else's, not even an earlier run's
    snprintf(name, sizeof name, "bench/pairs/%" PRIu64, c->session);
    uint64_t lease =
        ask(c, (struct wire_request){.op = WIRE_OP_LEASE_GRANT, .amount = LEASE_MS}, "", "a lease")
            .token;
    uint64_t begun_ns = wire_client_now_ns(), renewed_ns = begun_ns, last_ns = begun_ns;
    uint64_t end_ns = a->seconds > 0 ? begun_ns + (uint64_t)(a->seconds * 1e9) : UINT64_MAX;
    uint64_t token = 0;
    while (result->pairs < a->pairs && last_ns < end_ns) {
        uint64_t t0 = wire_client_now_ns();
        token = acquire(c, lease, name, token);
        uint64_t t1 = wire_client_now_ns();
        ask(c, (struct wire_request){.op = WIRE_OP_LOCK_RELEASE, .token = token}, name, "release");
        uint64_t t2 = wire_client_now_ns();
        result->acquire_ns[result->pairs] = t1 - t0;
        result->pair_ns[result->pairs++] = t2 - t0;
        // An outage may begin in either half, or in a renewal between two pairs.
        if (t1 - last_ns > result->pause_ns) result->pause_ns = t1 - last_ns;
        if (t2 - t1 > result->pause_ns) result->pause_ns = t2 - t1;
        last_ns = t2;
        if (t2 - renewed_ns > RENEW_NS) {
            ask(c, (struct wire_request){.op = WIRE_OP_LEASE_KEEPALIVE, .lease = lease}, "",
                "renewal");
            renewed_ns = t2;
        }
    }
    result->seconds = (double)(last_ns - begun_ns) / 1e9;
    result->resent = c->resent;
    ask(c, (struct wire_request){.op = WIRE_OP_LEASE_REVOKE, .lease = lease}, "", "revoke");
}

// ---------------------------------------------------------------- arguments

static const char help[] =
    "usage: pairs -e HOST:PORT,... [options]\n"
    "Acquires and releases one lock, one request at a time, and prints the latency.\n\n"
    "  -e LIST            nodes, IPv4 addresses and ports\n"
    "  -n COUNT           pairs to run (default 20000)\n"
    "  -t SECONDS         stop after this long even if not all are done\n"
    "  --patience SECONDS give up on a request without an answer after this long (default 20)\n"
    "  -l ADDR:PORT       own address (default: any; needed with --eal)\n"
    "  --eal ARGS         use a DPDK port with these EAL arguments instead of a kernel socket\n"
    "  --device NAME      its ethdev (default: the only one)\n"
    "  -w simple|json     how to print (default simple)\n\n"
    "Exit status: 0 done; 1 could not begin or finish; 2 usage; 3 the service broke a promise.\n"
    "example: pairs -e 127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103 -n 20000\n";

static void refuse(const char *what, const char *value) {
    fprintf(stderr, "pairs: %s, and not '%s'; see pairs --help\n", what, value);
    exit(EXIT_USAGE);
}

static double parse_seconds(const char *text, const char *what) {
    char *end;
    double seconds = strtod(text, &end);
    if (*end != 0 || !(seconds > 0) || seconds > 1e6) refuse(what, text);
    return seconds;
}

static uint64_t parse_count(const char *text) {
    char *end;
    uint64_t count = strtoull(text, &end, 10);
    if (*end != 0 || count == 0 || count > PAIRS_MAX)
        refuse("-n takes a number from 1 to 100000000", text);
    return count;
}

static bool parse_format(const char *text) {
    if (strcmp(text, "json") != 0 && strcmp(text, "simple") != 0)
        refuse("-w takes simple or json", text);
    return strcmp(text, "json") == 0;
}

static void parse_option(struct arguments *a, struct wire_client *c, int option, char *value) {
    const char *bad;
    switch (option) {
    case 'e':
        bad = wire_client_add_nodes(c, value);
        if (bad != NULL) refuse("-e takes up to 9 ADDRESS:PORT", bad);
        break;
    case 'n':
        a->pairs = parse_count(value);
        break;
    case 't':
        a->seconds = parse_seconds(value, "-t takes seconds above 0");
        break;
    case 'P':
        a->patience = parse_seconds(value, "--patience takes seconds above 0");
        break;
    case 'l':
        a->own = value;
        break;
    case 'E':
        a->eal = value;
        break;
    case 'D':
        a->device = value;
        break;
    case 'w':
        a->json = parse_format(value);
        break;
    case 'h':
        fputs(help, stdout);
        exit(EXIT_DONE);
    default:
        fputs(help, stderr);
        exit(EXIT_USAGE);
    }
}

static struct port *open_port(const struct arguments *a) {
    char error[256] = "";
    uint64_t endpoint = a->own != NULL ? wire_client_parse(a->own) : 0;
    if (a->own != NULL && endpoint == 0) refuse("-l takes ADDRESS:PORT", a->own);
    if (a->eal != NULL && endpoint == 0) refuse("--eal needs -l ADDRESS:PORT", "none");
    struct port_dpdk_options dpdk = {.endpoint = endpoint, .eal = a->eal, .device = a->device};
    struct port_udp_options udp = {.endpoint = endpoint, .buffer_bytes = 1u << 20};
    struct port *port = a->eal != NULL ? port_dpdk_open(&dpdk, error) : port_udp_open(&udp, error);
    if (port != NULL) return port;
    fprintf(stderr, "pairs: %s\n", error);
    exit(EXIT_UNFINISHED);
}

int main(int argc, char **argv) {
    static struct wire_client c = {.retry_ns = RETRY_NS};
    struct arguments a = {.pairs = 20000, .patience = 20};
    static const struct option options[] = {{"eal", required_argument, NULL, 'E'},
                                            {"device", required_argument, NULL, 'D'},
                                            {"patience", required_argument, NULL, 'P'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    for (int o; (o = getopt_long(argc, argv, "e:n:t:l:w:h", options, NULL)) != -1;)
        parse_option(&a, &c, o, optarg);
    if (c.node_count == 0 || optind != argc) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    c.patience_ns = (uint64_t)(a.patience * 1e9);
    c.port = open_port(&a);
    // All memory before the first pair; calloc's pages come one by one, every 512 pairs.
    struct pairs_result result = {.acquire_ns = calloc(a.pairs, sizeof *result.acquire_ns),
                                  .pair_ns = calloc(a.pairs, sizeof *result.pair_ns)};
    if (result.acquire_ns == NULL || result.pair_ns == NULL) {
        fprintf(stderr, "pairs: no memory for %" PRIu64 " samples: ask for fewer with -n\n",
                a.pairs);
        return EXIT_UNFINISHED;
    }
    must_be_ok(&c, wire_client_begin(&c), "opening a session");
    run(&c, &a, &result);
    if (result.pairs > 0) pairs_print(&result, a.json);
    c.port->ops->close(c.port);
    free(result.acquire_ns);
    free(result.pair_ns);
    return result.pairs > 0 ? EXIT_DONE : EXIT_UNFINISHED;
}
