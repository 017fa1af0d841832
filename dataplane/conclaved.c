// conclaved: one node of a cluster. Reads its configuration, opens everything, starts the threads,
// then only watches: signals, a failure, and changes of role to be logged.
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <systemd/sd-daemon.h>

#include "host.h"
#include "port/dpdk_eal.h"

// Exit codes; also in --help and docs/configuration.md.
enum { EXIT_OK = 0, EXIT_START = 1, EXIT_USAGE = 2, EXIT_FAILED = 3 };

// How often roles and failures are looked at. A person sees no difference, and twenty wake-ups a
// second cost nothing.
#define WATCH_NS (50l * 1000 * 1000)

static const char help[] =
    "conclaved: one node of a Conclave cluster (locks and leases, replicated by Raft)\n"
    "\n"
    "  conclaved --config FILE            run\n"
    "  conclaved --config FILE --check    check FILE, print the effective configuration, do not "
    "run\n"
    "  conclaved --version | --help\n"
    "\n"
    "A configuration for node 1 of three (the other two differ in [node] id only):\n"
    "\n"
    "  [cluster]\n"
    "  id = 0xc0c1                        ; any number but 0, the same on all nodes\n"
    "  nodes = 1@10.0.0.1:7100, 2@10.0.0.2:7100, 3@10.0.0.3:7100\n"
    "\n"
    "  [node]\n"
    "  id = 1\n"
    "  data_dir = /var/lib/conclave\n"
    "\n"
    "That is all that has no default: it uses a kernel UDP socket and one thread. For packets "
    "that\n"
    "bypass the kernel and a core per stage, add for example:\n"
    "\n"
    "  [port]\n"
    "  type = dpdk\n"
    "  eal = --in-memory -a 0000:01:00.0\n"
    "\n"
    "  [topology]\n"
    "  port = 2\n"
    "  consensus = 3\n"
    "  wal = 4                            ; the same number twice shares the core\n"
    "\n"
    "Every key: docs/configuration.md. To try a whole cluster in one process: conclave dev\n"
    "\n"
    "Signals   TERM, INT  stop cleanly          USR1  print all counters to stderr\n"
    "Exit      0 stopped as asked    1 cannot start    2 usage or configuration    3 node failed\n";

// A time in front, unless the journal puts one there.
static void log_line(const char *text) {
    char stamp[32] = "";
    if (getenv("JOURNAL_STREAM") == NULL) {
        struct timespec now;
        struct tm local;
        char clock[16];
        clock_gettime(CLOCK_REALTIME, &now);
        localtime_r(&now.tv_sec, &local);
        strftime(clock, sizeof clock, "%H:%M:%S", &local);
        snprintf(stamp, sizeof stamp, "%s.%03ld ", clock, now.tv_nsec / 1000000);
    }
    fprintf(stderr, "%s%s\n", stamp, text);
}

// ---------------------------------------------------------------- running

static void print_counters(const struct host *host, const struct topology *topology) {
    fprintf(stderr, "counters (those not zero):\n");
    host_print_counters(host, stderr);
    for (uint32_t l = 0; l < topology_lcores(topology); l++)
        for (uint32_t i = 0; i < TOPOLOGY_COUNTERS; i++) {
            char name[48];
            snprintf(name, sizeof name, "lcore%u.%s", l, topology_counter_name(i));
            fprintf(stderr, "  %-40s %" PRIu64 "\n", name, topology_counter(topology, l, i));
        }
}

static void tell_change(struct host *host) {
    char text[160], status[192];
    if (!host_describe_change(host, text, sizeof text)) return;
    log_line(text);
    snprintf(status, sizeof status, "STATUS=%s", text);
    sd_notify(0, status);
}

static int watch(struct host *host, struct topology *topology, const sigset_t *signals) {
    const struct timespec interval = {.tv_nsec = WATCH_NS};
    for (;;) {
        int number = sigtimedwait(signals, NULL, &interval);
        if (number == SIGUSR1) print_counters(host, topology);
        if (number == SIGTERM || number == SIGINT) {
            log_line(number == SIGTERM ? "asked to stop (SIGTERM)" : "asked to stop (SIGINT)");
            return EXIT_OK;
        }
        tell_change(host);
        const char *failure = host_failure(host);
        if (failure == NULL) continue;
        char text[300];
        snprintf(text, sizeof text, "node %u failed: %s", host_config(host)->node.id, failure);
        log_line(text);
        sd_notifyf(0, "STATUS=%s", text);
        return EXIT_FAILED;
    }
}

static int run_topology(struct host *host, struct topology *topology, const sigset_t *signals) {
    char error[256];
    if (host_config(host)->port.type == CONFIG_DPDK)
        topology_on_start(topology, dpdk_eal_adopt_thread);
    if (!host_register(host, topology, error)) {
        fprintf(stderr, "conclaved: %s\n", error);
        return EXIT_START;
    }
    host_print_start(host, stderr);
    for (uint32_t i = 0; i < topology_lcores(topology); i++) {
        char text[160];
        topology_describe(topology, i, text, sizeof text);
        fprintf(stderr, "  %-11s %s\n", i == 0 ? "topology" : "", text);
    }
    if (!topology_start(topology, error)) {
        fprintf(stderr, "conclaved: %s\n", error);
        return EXIT_START;
    }
    sd_notify(0, "READY=1");
    int code = watch(host, topology, signals);
    sd_notify(0, "STOPPING=1");
    topology_stop(topology);
    // The last thing a failed node says is what its counters were.
    if (code == EXIT_FAILED) print_counters(host, topology);
    if (code == EXIT_OK) log_line("stopped");
    return code;
}

static int run(const struct config *config) {
    // Before any thread is made (EAL makes some), so that only watch() gets them.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    // A log beyond `ulimit -f` is an error of the disk (EFBIG) that stops the node with a sentence.
    signal(SIGXFSZ, SIG_IGN);

    char error[256];
    fprintf(stderr, "conclaved %s\n", CONCLAVE_VERSION_TEXT);
    struct host *host = host_open(config, port_dpdk_open, error);
    if (host == NULL) {
        fprintf(stderr, "conclaved: %s\n", error);
        return EXIT_START;
    }
    struct topology *topology = topology_create();
    int code = EXIT_START;
    if (topology == NULL)
        fprintf(stderr, "conclaved: not enough memory for the topology\n");
    else
        code = run_topology(host, topology, &signals);
    topology_destroy(topology);
    host_close(host);
    return code;
}

// ---------------------------------------------------------------- command line

static int usage(const char *sentence) {
    fprintf(stderr, "conclaved: %s; see conclaved --help\n", sentence);
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"check", no_argument, NULL, 'k'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *path = NULL;
    bool check = false;
    for (int option; (option = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            path = optarg;
            break;
        case 'k':
            check = true;
            break;
        case 'v':
            printf("conclaved %s\n", CONCLAVE_VERSION_TEXT);
            return EXIT_OK;
        case 'h':
            fputs(help, stdout);
            return EXIT_OK;
        default:
            return usage("that is not how it is called"); // getopt has said what is wrong
        }
    }
    if (optind < argc) return usage("it takes options only");
    if (path == NULL) return usage("which configuration? --config FILE is missing");
    static struct config config;
    static struct config_errors errors;
    if (!config_read(&config, path, &errors)) {
        config_print_errors(&errors, stderr);
        return EXIT_USAGE;
    }
    if (!check) return run(&config);
    config_print(&config, stdout);
    return EXIT_OK;
}
