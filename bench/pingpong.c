// The transport's floor: one datagram to and fro between two processes over a port, nothing else.
//
//   pingpong serve   --port udp  --listen 127.0.0.1:7000
//   pingpong measure --port udp  --peer 127.0.0.1:7000 --rounds 20000
//   pingpong serve   --port dpdk --listen 10.0.0.1:7000 --eal "..." --device net_af_packet0
//
// One message is in flight at a time; an empty round yields the processor, so that two processes on
// one core make progress too. Latency is taken from before tx_burst to after the rx_burst that
// brought the echo. A round without an answer for LOST_NS is counted lost and its time not taken.
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "port/port.h"

#define LOST_NS     100000000ull  // 100 ms
#define GIVE_UP_NS  5000000000ull // 5 s without any answer
#define ROUNDS_MAX  10000000ul
#define WARM_ROUNDS 200u

struct arguments {
    bool serve;
    bool dpdk;
    bool json;
    uint64_t listen;
    uint64_t peer;
    uint64_t gateway; // as an endpoint; the port is ignored
    unsigned long prefix_length;
    unsigned long rounds;
    unsigned long bytes;
    unsigned long seconds; // 0: until a signal
    const char *eal;
    const char *device;
};

static volatile sig_atomic_t stopped;
static struct packet packets[PACKET_BURST];
static struct packet *burst[PACKET_BURST];

static void stop(int signal_number) {
    (void)signal_number;
    stopped = 1;
}

static uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

// ---------------------------------------------------------------- arguments

static const char usage[] =
    "usage: pingpong serve|measure --port udp|dpdk [options]\n"
    "  --listen IP:PORT   our own address (udp measuring: any by default; dpdk: always needed)\n"
    "  --peer IP:PORT     whom to measure\n"
    "  --eal STRING       DPDK's EAL arguments, see dataplane/port/port_dpdk.c\n"
    "  --device NAME      ethdev, e.g. net_af_packet0; default: the only one\n"
    "  --gateway IP --prefix BITS   next hop beyond our subnet (dpdk)\n"
    "  --rounds N         round trips to measure (20000)\n"
    "  --size BYTES       of the datagram, 8 to 1472 (64)\n"
    "  --seconds N        serve this long (until SIGTERM)\n"
    "  -w json            print one JSON object\n";

static void refuse(const char *what, const char *value) {
    fprintf(stderr, "pingpong: %s: %s\n%s", what, value, usage);
    exit(2);
}

static uint64_t parse_endpoint(const char *text) {
    char address[32];
    const char *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    struct in_addr parsed;
    if (length >= sizeof address) refuse("not an IPv4 address", text);
    memcpy(address, text, length);
    address[length] = 0;
    if (inet_pton(AF_INET, address, &parsed) != 1) refuse("not an IPv4 address", text);
    char *end = NULL;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (colon && (*end != 0 || port > 65535)) refuse("not a port number", text);
    return wire_endpoint_pack(ntohl(parsed.s_addr), (uint16_t)port);
}

static unsigned long parse_number(const char *text, unsigned long min, unsigned long max) {
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (*end != 0 || value < min || value > max) refuse("number out of range", text);
    return value;
}

static void parse_option(struct arguments *arguments, int option, const char *value) {
    switch (option) {
    case 'p':
        if (strcmp(value, "udp") != 0 && strcmp(value, "dpdk") != 0) refuse("no such port", value);
        arguments->dpdk = strcmp(value, "dpdk") == 0;
        break;
    case 'l':
        arguments->listen = parse_endpoint(value);
        break;
    case 'c':
        arguments->peer = parse_endpoint(value);
        break;
    case 'g':
        arguments->gateway = parse_endpoint(value);
        break;
    case 'x':
        arguments->prefix_length = parse_number(value, 0, 32);
        break;
    case 'e':
        arguments->eal = value;
        break;
    case 'd':
        arguments->device = value;
        break;
    case 'n':
        arguments->rounds = parse_number(value, 1, ROUNDS_MAX);
        break;
    case 's':
        arguments->bytes = parse_number(value, 8, WIRE_FRAME_MAX);
        break;
    case 't':
        arguments->seconds = parse_number(value, 1, 1000000);
        break;
    case 'w':
        if (strcmp(value, "json") != 0) refuse("no such output format", value);
        arguments->json = true;
        break;
    default:
        refuse("unknown option", "see below");
    }
}

static void parse_arguments(struct arguments *arguments, int argc, char **argv) {
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"listen", required_argument, NULL, 'l'},
        {"peer", required_argument, NULL, 'c'},
        {"gateway", required_argument, NULL, 'g'},
        {"prefix", required_argument, NULL, 'x'},
        {"eal", required_argument, NULL, 'e'},
        {"device", required_argument, NULL, 'd'},
        {"rounds", required_argument, NULL, 'n'},
        {"size", required_argument, NULL, 's'},
        {"seconds", required_argument, NULL, 't'},
        {NULL, 0, NULL, 0},
    };
    arguments->rounds = 20000;
    arguments->bytes = 64;
    int option;
    while ((option = getopt_long(argc, argv, "w:", options, NULL)) != -1) {
        parse_option(arguments, option, optarg);
    }
    const char *mode = optind + 1 == argc ? argv[optind] : "";
    arguments->serve = strcmp(mode, "serve") == 0;
    if (!arguments->serve && strcmp(mode, "measure") != 0) refuse("say serve or measure", mode);
    if (!arguments->serve && arguments->peer == 0) refuse("needs", "--peer");
    if (arguments->serve && arguments->listen == 0) refuse("needs", "--listen");
}

static struct port *open_port(const struct arguments *arguments, char error[256]) {
    if (arguments->dpdk) {
        struct port_dpdk_options options = {.endpoint = arguments->listen,
                                            .eal = arguments->eal,
                                            .device = arguments->device,
                                            .gateway = (uint32_t)(arguments->gateway >> 16),
                                            .prefix_length = (uint8_t)arguments->prefix_length};
        return port_dpdk_open(&options, error);
    }
    struct port_udp_options options = {.endpoint = arguments->listen, .buffer_bytes = 1u << 20};
    return port_udp_open(&options, error);
}

// ---------------------------------------------------------------- serving and measuring

static int serve(struct port *port, const struct arguments *arguments) {
    uint64_t end_ns = arguments->seconds ? clock_ns() + arguments->seconds * 1000000000ull : 0;
    fprintf(stderr, "pingpong: serving\n");
    while (!stopped) {
        uint64_t now_ns = clock_ns();
        if (end_ns != 0 && now_ns >= end_ns) break;
        uint32_t received = port->ops->rx_burst(port, now_ns, burst, PACKET_BURST);
        if (received != 0) {
            port->ops->tx_burst(port, now_ns, burst, received);
        } else {
            sched_yield();
        }
    }
    return 0;
}

// One round; its time in ns, or 0 if no echo came.
static uint64_t round_trip(struct port *port, const struct arguments *arguments,
                           uint64_t sequence) {
    uint64_t begin_ns = clock_ns();
    struct packet *ping = burst[0];
    memset(ping->data, 0x5a, arguments->bytes);
    memcpy(ping->data, &sequence, sizeof sequence);
    ping->length = (uint16_t)arguments->bytes;
    ping->endpoint = arguments->peer;
    port->ops->tx_burst(port, begin_ns, burst, 1);
    for (;;) {
        uint32_t received = port->ops->rx_burst(port, clock_ns(), burst, PACKET_BURST);
        uint64_t now_ns = clock_ns();
        for (uint32_t i = 0; i < received; i++) {
            uint64_t echoed = 0;
            memcpy(&echoed, burst[i]->data, sizeof echoed);
            if (burst[i]->length == arguments->bytes && echoed == sequence) {
                return now_ns - begin_ns;
            }
        }
        if (stopped || now_ns - begin_ns > LOST_NS) return 0;
        if (received == 0) sched_yield();
    }
}

static int compare_ns(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(const uint64_t *sorted, unsigned long n, double part) {
    unsigned long i = (unsigned long)(part * (double)n);
    return (double)sorted[i < n ? i : n - 1] / 1000.0;
}

static void print_result(const struct arguments *arguments, uint64_t *times, unsigned long n,
                         unsigned long lost) {
    const char *kind = arguments->dpdk ? "dpdk" : "udp";
    const char *device = arguments->device ? arguments->device : "";
    qsort(times, n, sizeof *times, compare_ns);
    double p50 = percentile_us(times, n, 0.5);
    double p99 = percentile_us(times, n, 0.99);
    double p999 = percentile_us(times, n, 0.999);
    double max = percentile_us(times, n, 1.0);
    if (arguments->json) {
        printf("{\"bench\":\"pingpong\",\"port\":\"%s\",\"device\":\"%s\",\"bytes\":%lu,"
               "\"rounds\":%lu,\"lost\":%lu,\"p50_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,"
               "\"max_us\":%.2f}\n",
               kind, device, arguments->bytes, n, lost, p50, p99, p999, max);
    } else {
        printf("pingpong %s %s %lu bytes, %lu rounds: p50 %.2f us, p99 %.2f us, p99.9 %.2f us, "
               "max %.2f us, lost %lu\n",
               kind, device, arguments->bytes, n, p50, p99, p999, max, lost);
    }
}

static int measure(struct port *port, const struct arguments *arguments) {
    uint64_t *times = malloc(arguments->rounds * sizeof *times);
    if (times == NULL) {
        fprintf(stderr, "pingpong: no memory for %lu samples: ask for fewer\n", arguments->rounds);
        return 1;
    }
    uint64_t sequence = clock_ns(); // so that a late echo of an earlier run is not ours
    uint64_t last_ns = clock_ns();
    unsigned long taken = 0;
    unsigned long lost = 0;
    unsigned long warm = 0; // ARP, page faults, frequency
    while (!stopped && taken < arguments->rounds) {
        uint64_t time_ns = round_trip(port, arguments, sequence++);
        if (time_ns != 0) {
            last_ns = clock_ns();
            if (warm++ >= WARM_ROUNDS) times[taken++] = time_ns;
        } else if (clock_ns() - last_ns > GIVE_UP_NS) {
            break;
        } else if (warm >= WARM_ROUNDS) {
            lost++;
        }
    }
    if (taken == 0) {
        fprintf(stderr, "pingpong: no answer in 5 s: does the server run, at that address?\n");
        free(times);
        return 1;
    }
    print_result(arguments, times, taken, lost);
    free(times);
    return taken == arguments->rounds ? 0 : 1;
}

int main(int argc, char **argv) {
    struct arguments arguments = {0};
    char error[256] = "";
    parse_arguments(&arguments, argc, argv);
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    for (uint32_t i = 0; i < PACKET_BURST; i++) burst[i] = &packets[i];
    struct port *port = open_port(&arguments, error);
    if (port == NULL) {
        fprintf(stderr, "pingpong: %s\n", error);
        return 1;
    }
    int result = arguments.serve ? serve(port, &arguments) : measure(port, &arguments);
    for (int i = 0; i < PORT_COUNTERS; i++) {
        unsigned long long n = atomic_load(&port->counters[i]);
        if (n != 0 && !arguments.json) {
            fprintf(stderr, "  %s %llu\n", port_counter_name((enum port_counter)i), n);
        }
    }
    port->ops->close(port);
    return result;
}
