// pairs: one client that acquires and releases a lock, over and over, and says how long it took.
//
// Closed loop, one request in flight: the figure papers give as "latency, one client".
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pairs_report.h"
#include "wire_client.h"

#define LEASE_MS    60000u // longer than a failover; renewed on the way
#define RENEW_NS    (10ull * 1000 * 1000 * 1000)
#define RETRY_NS    (20ull * 1000 * 1000)
#define PATIENCE_NS (20ull * 1000 * 1000 * 1000)

static void must_be_ok(const struct wire_reply *reply, const char *what) {
    if (reply->status == WIRE_OK) return;
    if (reply->status == WIRE_UNKNOWN) {
        fprintf(stderr, "pairs: %s: no answer for 20 s; is a majority of the nodes running?\n",
                what);
        exit(1);
    }
    fprintf(stderr, "pairs: %s was refused with status %u\n", what, reply->status);
    exit(1);
}

static struct wire_reply ask(struct wire_client *client, struct wire_request request,
                             const char *name, const char *what) {
    struct wire_reply reply = wire_client_call(client, request, name, NULL);
    must_be_ok(&reply, what);
    return reply;
}

// Runs until `pairs` are done or `seconds` have passed (0: no limit); returns how many were.
static uint64_t run(struct wire_client *c, uint64_t pairs, double seconds,
                    struct pairs_result *result) {
    static const char name[] = "bench/pairs";
    uint64_t lease =
        ask(c, (struct wire_request){.op = WIRE_OP_LEASE_GRANT, .amount = LEASE_MS}, "", "a lease")
            .token;
    uint64_t begun_ns = wire_client_now_ns(), renewed_ns = begun_ns, last_ns = begun_ns;
    uint64_t last_token = 0, done = 0;
    while (done < pairs && (seconds <= 0 || (double)(last_ns - begun_ns) < seconds * 1e9)) {
        uint64_t t0 = wire_client_now_ns();
        uint64_t token = ask(c, (struct wire_request){.op = WIRE_OP_LOCK_ACQUIRE, .lease = lease},
                             name, "acquire")
                             .token;
        uint64_t t1 = wire_client_now_ns();
        if (token <= last_token) {
            fprintf(stderr, "pairs: token %" PRIu64 " after %" PRIu64 ": tokens must rise\n", token,
                    last_token);
            exit(1);
        }
        last_token = token;
        ask(c, (struct wire_request){.op = WIRE_OP_LOCK_RELEASE, .token = token}, name, "release");
        uint64_t t2 = wire_client_now_ns();
        result->acquire_ns[done] = t1 - t0;
        result->pair_ns[done++] = t2 - t0;
        if (t1 - last_ns > result->pause_ns) result->pause_ns = t1 - last_ns;
        last_ns = t2;
        if (t2 - renewed_ns > RENEW_NS) {
            ask(c, (struct wire_request){.op = WIRE_OP_LEASE_KEEPALIVE, .lease = lease}, "",
                "renewal");
            renewed_ns = t2;
        }
    }
    result->seconds = (double)(wire_client_now_ns() - begun_ns) / 1e9;
    result->resent = c->resent;
    ask(c, (struct wire_request){.op = WIRE_OP_LEASE_REVOKE, .lease = lease}, "", "revoke");
    return done;
}

static const char help[] =
    "usage: pairs -e HOST:PORT,... [options]\n"
    "Acquires and releases one lock, one request at a time, and prints the latency.\n\n"
    "  -e LIST          nodes, IPv4 addresses and ports\n"
    "  -n COUNT         pairs to run (default 20000)\n"
    "  -t SECONDS       stop after this long even if not all are done\n"
    "  -l ADDR:PORT     own address (default: any; needed with --eal)\n"
    "  --eal ARGS       use a DPDK port with these EAL arguments instead of a kernel socket\n"
    "  --device NAME    its ethdev (default: the only one)\n"
    "  -w simple|json   how to print (default simple)\n\n"
    "example: pairs -e 127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103 -n 20000\n";

static struct port *open_port(const char *own, const char *eal, const char *device) {
    char error[256] = "";
    uint64_t endpoint = own != NULL ? wire_client_parse(own) : 0;
    struct port_dpdk_options dpdk = {.endpoint = endpoint, .eal = eal, .device = device};
    struct port_udp_options udp = {.endpoint = endpoint, .buffer_bytes = 1u << 20};
    struct port *port = eal != NULL ? port_dpdk_open(&dpdk, error) : port_udp_open(&udp, error);
    if (port == NULL) {
        fprintf(stderr, "pairs: %s\n", error);
        exit(1);
    }
    return port;
}

int main(int argc, char **argv) {
    static struct wire_client c = {.retry_ns = RETRY_NS, .patience_ns = PATIENCE_NS};
    uint64_t pairs = 20000;
    double seconds = 0;
    const char *own = NULL, *eal = NULL, *device = NULL, *format = "simple", *bad = NULL;
    static const struct option options[] = {{"eal", required_argument, NULL, 'E'},
                                            {"device", required_argument, NULL, 'D'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    for (int o; (o = getopt_long(argc, argv, "e:n:t:l:w:h", options, NULL)) != -1;) {
        switch (o) {
        case 'e':
            bad = wire_client_add_nodes(&c, optarg);
            break;
        case 'n':
            pairs = strtoull(optarg, NULL, 10);
            break;
        case 't':
            seconds = strtod(optarg, NULL);
            break;
        case 'l':
            own = optarg;
            break;
        case 'E':
            eal = optarg;
            break;
        case 'D':
            device = optarg;
            break;
        case 'w':
            format = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            fputs(help, stderr);
            return 2;
        }
        if (bad != NULL) {
            fprintf(stderr, "pairs: '%s' is not ADDRESS:PORT, or there are too many\n", bad);
            return 2;
        }
    }
    if (c.node_count == 0 || pairs == 0) {
        fputs(help, stderr);
        return 2;
    }
    c.port = open_port(own, eal, device);
    struct pairs_result result = {0};
    result.acquire_ns = calloc(pairs, sizeof *result.acquire_ns);
    result.pair_ns = calloc(pairs, sizeof *result.pair_ns);
    if (result.acquire_ns == NULL || result.pair_ns == NULL) return 1;
    must_be_ok(&(struct wire_reply){.status = wire_client_begin(&c)}, "opening a session");
    result.pairs = run(&c, pairs, seconds, &result);
    pairs_print(&result, strcmp(format, "json") == 0);
    c.port->ops->close(c.port);
    free(result.acquire_ns);
    free(result.pair_ns);
    return result.pairs == 0;
}
