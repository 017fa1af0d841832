// `conclave dev`: the nodes of a cluster as they are in production, on loopback UDP, with all their
// stages on one thread that sleeps when nothing happens. No privileges, no configuration; unless
// told otherwise no traces either.
#include "dev.h"

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host.h"

// Those of the other verbs (exit_status.h): the machine refused, or the command line is wrong.
enum { EXIT_OK = 0, EXIT_SYSTEM = 1, EXIT_USAGE = 2 };

#define LOOPBACK 0x7f000001u
// Always the same, so that a directory given with --data can be used again. "dev".
#define DEV_CLUSTER 0x646576u
// A laptop suspends, compiles and swaps meanwhile: longer than the appliance's, still quick.
#define DEV_ELECTION_NS (300ull * 1000 * 1000)
// Small tables: three nodes start in an instant and take some 100 MB.
#define DEV_LOG_ENTRIES   16384u
#define DEV_LOG_BYTES     (4u * 1024 * 1024)
#define DEV_SEGMENT_BYTES (4u * 1024 * 1024)
#define WATCH_NS          (50l * 1000 * 1000)
// Elections take well under a second; after this long something is wrong and worth a sentence.
#define LEADER_PATIENCE_ROUNDS (10u * 20)

struct dev {
    uint32_t nodes;
    uint32_t base_port;
    bool memory;
    enum topology_idle idle;
    char data[CONFIG_DATA_DIR_BYTES - 16]; // leaves room for "/node9"
    bool temporary;
    struct host *hosts[RAFT_NODES_MAX];
    bool reported[RAFT_NODES_MAX]; // its failure
    struct topology *topology;
};

static const char help[] =
    "conclave dev: a whole cluster in one process, to try things on\n"
    "\n"
    "  conclave dev [--nodes 3] [--data DIR] [--base-port 7100] [--durability disk|memory]\n"
    "               [--idle sleep|yield|spin]\n"
    "\n"
    "  --nodes N         1 to 9 nodes; default 3\n"
    "  --data DIR        keep the nodes' data here, and go on from it next time;\n"
    "                    default: a temporary directory, removed at the end\n"
    "  --base-port PORT  node 1 is at 127.0.0.1:PORT, node 2 at PORT + 1, ...; default 7100\n"
    "  --durability      disk (default): what was acknowledged survives, as in production;\n"
    "                    memory: quicker, for tests that start from nothing\n"
    "  --idle            sleep (default) is kind to a laptop; yield and spin answer sooner and\n"
    "                    take a whole processor\n"
    "\n"
    "Ctrl-C stops it. Exit: 0 stopped as asked, 1 cannot start or every node failed, 2 usage.\n";

// ---------------------------------------------------------------- arguments

static int usage(const char *option, const char *value, const char *allowed) {
    fprintf(stderr, "conclave dev: %s \"%s\": allowed is %s; see conclave dev --help\n", option,
            value, allowed);
    return EXIT_USAGE;
}

static bool parse_number(const char *text, uint32_t min, uint32_t max, uint32_t *number) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != 0 || errno != 0 || value < min || value > max)
        return false;
    *number = (uint32_t)value;
    return true;
}

static bool parse_word(const char *text, const char *const words[], uint32_t *which) {
    for (*which = 0; words[*which] != NULL; ++*which)
        if (strcmp(text, words[*which]) == 0) return true;
    return false;
}

static int take_option(struct dev *dev, int option, const char *value) {
    static const char *const durabilities[] = {"disk", "memory", NULL};
    static const char *const idles[] = {"spin", "yield", "sleep", NULL};
    uint32_t which;
    switch (option) {
    case 'n':
        if (!parse_number(value, 1, RAFT_NODES_MAX, &dev->nodes))
            return usage("--nodes", value, "a number from 1 to 9");
        return 0;
    case 'b':
        if (!parse_number(value, 1, UINT16_MAX - RAFT_NODES_MAX, &dev->base_port))
            return usage("--base-port", value, "a number from 1 to 65526");
        return 0;
    case 'u':
        if (!parse_word(value, durabilities, &which))
            return usage("--durability", value, "disk or memory");
        dev->memory = which == 1;
        return 0;
    case 'i':
        if (!parse_word(value, idles, &which))
            return usage("--idle", value, "sleep, yield or spin");
        dev->idle = (enum topology_idle)which;
        return 0;
    case 'd':
        if (value[0] == 0 || strlen(value) >= sizeof dev->data)
            return usage("--data", value, "a directory's name of 1 to 463 bytes");
        snprintf(dev->data, sizeof dev->data, "%s", value);
        return 0;
    default:
        fprintf(stderr, "see conclave dev --help\n"); // getopt has said what is wrong
        return EXIT_USAGE;
    }
}

// ---------------------------------------------------------------- the data directory

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static bool make_data(struct dev *dev) {
    if (dev->data[0] != 0) {
        if (mkdir(dev->data, 0700) == 0 || errno == EEXIST) return true;
        fprintf(stderr, "conclave dev: cannot create %s: %s; its parent must exist\n", dev->data,
                strerror(errno));
        return false;
    }
    const char *where = getenv("TMPDIR");
    if (where == NULL || where[0] == 0 || strlen(where) > 400) where = "/tmp";
    snprintf(dev->data, sizeof dev->data, "%.400s/conclave-dev.XXXXXX", where);
    dev->temporary = mkdtemp(dev->data) != NULL;
    if (!dev->temporary)
        fprintf(stderr,
                "conclave dev: cannot make a temporary directory in %s: %s; set TMPDIR or give "
                "--data DIR\n",
                where, strerror(errno));
    return dev->temporary;
}

// ---------------------------------------------------------------- nodes

static void configure(const struct dev *dev, uint32_t number, struct config *config) {
    config_defaults(config);
    struct node_options *o = &config->node;
    o->cluster = DEV_CLUSTER;
    o->id = (uint16_t)(number + 1);
    o->node_count = (uint16_t)dev->nodes;
    for (uint32_t i = 0; i < dev->nodes; i++)
        o->nodes[i] = (struct node_peer){
            .id = (uint16_t)(i + 1),
            .endpoint = wire_endpoint_pack(LOOPBACK, (uint16_t)(dev->base_port + i))};
    o->election_ns = DEV_ELECTION_NS;
    o->log_entries = DEV_LOG_ENTRIES;
    o->log_bytes = DEV_LOG_BYTES;
    o->segment_bytes = DEV_SEGMENT_BYTES;
    o->limits =
        (struct machine_limits){.sessions = 4096, .leases = 8192, .locks = 8192, .claims = 16384};
    config->durability = dev->memory ? CONFIG_MEMORY : CONFIG_DISK;
    snprintf(config->data_dir, sizeof config->data_dir, "%s/node%u", dev->data, number + 1);
    config_derive(config);
}

static bool open_nodes(struct dev *dev) {
    char error[256];
    dev->topology = topology_create();
    if (dev->topology == NULL) {
        fprintf(stderr, "conclave dev: not enough memory\n");
        return false;
    }
    int lcore = topology_lcore(dev->topology, -1, dev->idle);
    for (uint32_t i = 0; i < dev->nodes; i++) {
        static struct config config;
        configure(dev, i, &config);
        dev->hosts[i] = host_open(&config, NULL, error);
        if (dev->hosts[i] == NULL) {
            fprintf(stderr, "conclave dev: node %u: %s%s\n", i + 1, error,
                    strstr(error, "cannot bind") != NULL ? " (--base-port PORT)" : "");
            return false;
        }
        if (!host_register_on(dev->hosts[i], dev->topology, lcore, error)) {
            fprintf(stderr, "conclave dev: %s\n", error);
            return false;
        }
    }
    if (topology_start(dev->topology, error)) return true;
    fprintf(stderr, "conclave dev: %s\n", error);
    return false;
}

static void close_nodes(struct dev *dev) {
    if (dev->topology != NULL) topology_stop(dev->topology);
    for (uint32_t i = 0; i < dev->nodes; i++)
        if (dev->hosts[i] != NULL) host_close(dev->hosts[i]);
    topology_destroy(dev->topology);
}

// ---------------------------------------------------------------- what is printed

static void print_endpoints(const struct dev *dev) {
    for (uint32_t i = 0; i < dev->nodes; i++)
        printf("%s127.0.0.1:%u", i > 0 ? "," : "", dev->base_port + i);
}

static void print_start(const struct dev *dev) {
    printf("conclave dev: %u node%s in this process, durability %s\n", dev->nodes,
           dev->nodes == 1 ? "" : "s",
           dev->memory ? "MEMORY (nothing survives a restart)" : "disk");
    printf("  data  %s%s\n", dev->data, dev->temporary ? " (removed at the end)" : " (kept)");
    fflush(stdout);
}

static void print_ready(const struct dev *dev, uint32_t leader) {
    printf("\nready: node %u leads; endpoints ", leader);
    print_endpoints(dev);
    printf("\n\nIn another terminal:\n\n  conclave -e ");
    print_endpoints(dev);
    printf(" status\n  conclave -e ");
    print_endpoints(dev);
    printf(" lock demo -- sh -c 'echo $CONCLAVE_TOKEN'\n\nor once: export CONCLAVE_ENDPOINTS=");
    print_endpoints(dev);
    printf("\nCtrl-C stops it.\n\n");
    fflush(stdout);
}

// ---------------------------------------------------------------- watching

// A leader that most nodes follow; 0: none yet.
static uint32_t find_leader(const struct dev *dev) {
    uint32_t votes[RAFT_NODES_MAX + 1] = {0};
    for (uint32_t i = 0; i < dev->nodes; i++) {
        struct wire_status status;
        host_status(dev->hosts[i], &status);
        uint32_t leader = status.leader <= dev->nodes ? status.leader : 0;
        if (leader != 0 && ++votes[leader] > dev->nodes / 2) return leader;
    }
    return 0;
}

// False: all have failed.
static bool report(struct dev *dev, bool ready) {
    uint32_t alive = 0;
    for (uint32_t i = 0; i < dev->nodes; i++) {
        char text[160];
        const char *failure = host_failure(dev->hosts[i]);
        bool changed = host_describe_change(dev->hosts[i], text, sizeof text);
        if (changed && ready) printf("%s\n", text);
        alive += failure == NULL;
        if (failure == NULL || dev->reported[i]) continue;
        dev->reported[i] = true;
        fprintf(stderr, "conclave dev: node %u failed: %s\n", i + 1, failure);
    }
    fflush(stdout);
    return alive > 0;
}

static int watch(struct dev *dev, const sigset_t *signals) {
    const struct timespec interval = {.tv_nsec = WATCH_NS};
    bool ready = false;
    for (uint32_t round = 0;; round++) {
        if (sigtimedwait(signals, NULL, &interval) > 0) return EXIT_OK;
        if (!report(dev, ready)) return EXIT_SYSTEM;
        if (ready) continue;
        uint32_t leader = find_leader(dev);
        ready = leader != 0;
        if (ready) print_ready(dev, leader);
        if (!ready && round == LEADER_PATIENCE_ROUNDS)
            fprintf(stderr, "conclave dev: still no leader after 10 s: is this machine very busy, "
                            "or do packet filters drop UDP on loopback?\n");
    }
}

static int run(struct dev *dev) {
    // Before the thread is made, so that only watch() gets them.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (!make_data(dev)) return EXIT_SYSTEM;
    int code = EXIT_SYSTEM;
    print_start(dev);
    if (open_nodes(dev)) code = watch(dev, &signals);
    close_nodes(dev);
    if (dev->temporary && nftw(dev->data, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0)
        fprintf(stderr, "conclave dev: cannot remove %s: %s\n", dev->data, strerror(errno));
    if (code == EXIT_OK)
        printf("\nstopped%s\n", dev->temporary ? "; the temporary directory is removed" : "");
    return code;
}

int cli_dev(int argc, char **argv) {
    static const struct option options[] = {{"nodes", required_argument, NULL, 'n'},
                                            {"data", required_argument, NULL, 'd'},
                                            {"base-port", required_argument, NULL, 'b'},
                                            {"durability", required_argument, NULL, 'u'},
                                            {"idle", required_argument, NULL, 'i'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct dev dev = {.nodes = 3, .base_port = 7100, .idle = TOPOLOGY_SLEEP};
    static char name[] = "conclave dev"; // in front of getopt's own sentences
    argv[0] = name;
    optind = 0; // also forgets what the caller's own getopt_long() was doing
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(help, stdout);
            return EXIT_OK;
        }
        int code = take_option(&dev, option, optarg);
        if (code != 0) return code;
    }
    if (optind < argc) {
        fprintf(stderr, "conclave dev: \"%s\": it takes options only; see conclave dev --help\n",
                argv[optind]);
        return EXIT_USAGE;
    }
    return run(&dev);
}
