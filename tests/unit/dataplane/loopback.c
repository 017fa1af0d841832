// See loopback.h. Network and clients belong to the port thread, so they need no synchronisation of
// their own: whatever a sanitizer finds is between the stages.
#include "loopback.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "port/port.h"
#include "wire.h"

#define MS         1000000ull
#define CLUSTER    0x10095u
#define CLIENTS    48u
#define ENDPOINTS  (LOOPBACK_NODES + 1) // the clients share the last one
#define QUEUE      2048u                // frames on their way to one endpoint
#define RESEND_NS  (1000 * MS)
#define RETREAT_NS (2 * MS) // after a refusal
#define LEASE_MS   600000u

struct frame {
    uint64_t from;
    uint16_t length;
    uint8_t data[WIRE_FRAME_MAX];
};

struct link { // what waits for one endpoint; its port
    struct port port;
    struct loopback *loopback;
    uint32_t first, last;
    struct frame frames[QUEUE];
};

enum client_state { OPENING, GRANTING, ACQUIRING, RELEASING };

struct client {
    enum client_state state;
    uint64_t session, sequence, lease, token;
    uint64_t due_ns; // asks again then
    char name[16];
};

struct loopback {
    struct link links[ENDPOINTS];
    struct node *nodes[LOOPBACK_NODES];
    struct disk *disks[LOOPBACK_NODES];
    char directory[64];
    struct client clients[CLIENTS];
    uint32_t asked; // node the clients take for the leader
    struct packet in[PACKET_BURST], out;
    _Atomic uint64_t pairs;
    atomic_bool broken, quiet;
    loopback_round_fn round;
    void *context;
};

static uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

// ---------------------------------------------------------------- network

static uint64_t endpoint_of(uint32_t link) {
    return wire_endpoint_pack(0x0a000001 + link, 7100);
}

static uint32_t tx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                         uint32_t count) {
    struct loopback *l = ((struct link *)port)->loopback;
    uint32_t sent = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct link *to = NULL;
        for (uint32_t k = 0; k < ENDPOINTS; k++)
            if (endpoint_of(k) == packets[i]->endpoint) to = &l->links[k];
        if (to == NULL || to->last - to->first == QUEUE) continue; // lost, as on a real one
        struct frame *frame = &to->frames[to->last++ % QUEUE];
        frame->from = port->endpoint;
        frame->length = packets[i]->length;
        memcpy(frame->data, packets[i]->data, packets[i]->length);
        sent++;
    }
    return sent;
}

static uint32_t rx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                         uint32_t count) {
    struct link *link = (struct link *)port;
    uint32_t got = 0;
    for (; got < count && link->first != link->last; got++) {
        const struct frame *frame = &link->frames[link->first++ % QUEUE];
        packets[got]->endpoint = frame->from;
        packets[got]->time_ns = now_ns;
        packets[got]->length = frame->length;
        memcpy(packets[got]->data, frame->data, frame->length);
    }
    return got;
}

static int no_fd(struct port *port) {
    return -1;
}
static void no_close(struct port *port) {}

static const struct port_ops link_ops = {
    .rx_burst = rx_burst, .tx_burst = tx_burst, .wait_fd = no_fd, .close = no_close};

// ---------------------------------------------------------------- clients

static uint64_t number_of(const struct loopback *l, const struct client *c) {
    return (uint64_t)(c - l->clients) + 1;
}

static struct wire_request request_of(const struct loopback *l, const struct client *c) {
    switch (c->state) {
    case OPENING:
        return (struct wire_request){
            .op = WIRE_OP_SESSION_OPEN, .sequence = number_of(l, c), .token = number_of(l, c)};
    case GRANTING:
        return (struct wire_request){.op = WIRE_OP_LEASE_GRANT, .amount = LEASE_MS};
    case ACQUIRING:
        return (struct wire_request){.op = WIRE_OP_LOCK_ACQUIRE, .lease = c->lease};
    default:
        return (struct wire_request){.op = WIRE_OP_LOCK_RELEASE, .token = c->token};
    }
}

static void ask(struct loopback *l, struct client *c, uint64_t now_ns) {
    struct wire_request request = request_of(l, c);
    struct wire_writer writer;
    bool named = c->state == ACQUIRING || c->state == RELEASING;
    request.session = c->session;
    if (c->session != 0) request.sequence = c->sequence;
    request.name_length = named ? (uint8_t)strlen(c->name) : 0;
    wire_begin(&writer, l->out.data, WIRE_FRAME_MAX, CLUSTER, 0, 0);
    struct wire_request *out =
        wire_add(&writer, WIRE_REQUEST, 0, (uint32_t)sizeof *out + request.name_length);
    request.head = out->head;
    *out = request;
    memcpy(out + 1, c->name, request.name_length);
    l->out.length = (uint16_t)wire_finish(&writer);
    l->out.endpoint = endpoint_of(l->asked);
    struct packet *packet = &l->out;
    struct port *port = &l->links[LOOPBACK_NODES].port;
    tx_burst(port, now_ns, &packet, 1);
    c->due_ns = now_ns + RESEND_NS;
}

static void wrong(struct loopback *l, const struct client *c, const struct wire_reply *reply) {
    fprintf(stderr, "%s: operation %u answered status %u, token %llu after %llu\n", c->name,
            reply->op, reply->status, (unsigned long long)reply->token,
            (unsigned long long)c->token);
    atomic_store(&l->broken, true);
}

static void go_on(struct loopback *l, struct client *c, const struct wire_reply *reply,
                  uint64_t now_ns) {
    bool rises = c->state != ACQUIRING || reply->token > c->token;
    if (reply->status != WIRE_OK || !rises) {
        wrong(l, c, reply);
        return;
    }
    switch (c->state) {
    case OPENING:
        c->session = reply->token;
        c->state = GRANTING;
        break;
    case GRANTING:
        c->lease = reply->token;
        c->state = ACQUIRING;
        break;
    case ACQUIRING:
        c->token = reply->token;
        c->state = RELEASING;
        break;
    case RELEASING:
        c->state = ACQUIRING;
        atomic_fetch_add_explicit(&l->pairs, 1, memory_order_relaxed);
        break;
    }
    c->sequence++;
    if (!atomic_load_explicit(&l->quiet, memory_order_relaxed)) ask(l, c, now_ns);
}

static struct client *who_waits(struct loopback *l, const struct wire_reply *reply) {
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct client *c = &l->clients[i];
        bool opens = c->state == OPENING && reply->op == WIRE_OP_SESSION_OPEN &&
                     reply->sequence == number_of(l, c);
        bool others =
            c->state != OPENING && reply->session == c->session && reply->sequence == c->sequence;
        if (opens || others) return c;
    }
    return NULL; // answered already
}

static void clients_receive(struct loopback *l, const struct packet *packet, uint64_t now_ns) {
    uint32_t offset = 0;
    const struct wire_head *head;
    if (wire_check_for(packet->data, packet->length, CLUSTER, 0) != WIRE_VALID) {
        fprintf(stderr, "a node sent a frame that is not sound\n");
        atomic_store(&l->broken, true);
        return;
    }
    while ((head = wire_next(packet->data, &offset)) != NULL) {
        if (head->type != WIRE_REPLY) continue;
        const struct wire_reply *reply = (const struct wire_reply *)head;
        struct client *c = who_waits(l, reply);
        if (c == NULL) continue;
        if (reply->status != WIRE_NOT_LEADER && reply->status != WIRE_BUSY) {
            go_on(l, c, reply, now_ns);
            continue;
        }
        if (reply->status == WIRE_NOT_LEADER && packet->endpoint == endpoint_of(l->asked))
            l->asked =
                reply->token != 0 ? (uint32_t)reply->token - 1 : (l->asked + 1) % LOOPBACK_NODES;
        c->due_ns = now_ns + RETREAT_NS;
    }
}

static uint32_t clients_poll(struct loopback *l, uint64_t now_ns) {
    struct packet *burst[PACKET_BURST];
    for (uint32_t i = 0; i < PACKET_BURST; i++) burst[i] = &l->in[i];
    uint32_t count = rx_burst(&l->links[LOOPBACK_NODES].port, now_ns, burst, PACKET_BURST);
    for (uint32_t i = 0; i < count; i++) clients_receive(l, burst[i], now_ns);
    bool quiet = atomic_load_explicit(&l->quiet, memory_order_relaxed);
    for (uint32_t i = 0; i < CLIENTS && !quiet; i++)
        if (now_ns >= l->clients[i].due_ns) ask(l, &l->clients[i], now_ns);
    return count;
}

// ---------------------------------------------------------------- threads

static bool all_well(struct loopback *l) {
    for (uint32_t i = 0; i < LOOPBACK_NODES; i++) {
        const char *failure = node_failure(l->nodes[i]);
        if (failure == NULL) continue;
        fprintf(stderr, "node %u: %s\n", i + 1, failure);
        atomic_store(&l->broken, true);
    }
    return !atomic_load_explicit(&l->broken, memory_order_relaxed);
}

static void *port_thread(void *context) {
    struct loopback *l = context;
    do {
        uint64_t now_ns = clock_ns();
        uint32_t work = clients_poll(l, now_ns);
        for (uint32_t i = 0; i < LOOPBACK_NODES; i++) work += node_poll_port(l->nodes[i], now_ns);
        if (work == 0) sched_yield();
    } while (all_well(l) && l->round(l->context, LOOPBACK_PORT));
    return NULL;
}

static void *consensus_thread(void *context) {
    struct loopback *l = context;
    do {
        uint64_t now_ns = clock_ns();
        uint32_t work = 0;
        for (uint32_t i = 0; i < LOOPBACK_NODES; i++)
            work += node_poll_consensus(l->nodes[i], now_ns);
        if (work == 0) sched_yield();
    } while (all_well(l) && l->round(l->context, LOOPBACK_CONSENSUS));
    return NULL;
}

static void *wal_thread(void *context) {
    struct loopback *l = context;
    do {
        uint64_t now_ns = clock_ns();
        uint32_t work = 0;
        for (uint32_t i = 0; i < LOOPBACK_NODES; i++) work += node_poll_wal(l->nodes[i], now_ns);
        if (work == 0) sched_yield();
    } while (all_well(l) && l->round(l->context, LOOPBACK_WAL));
    return NULL;
}

bool loopback_run(struct loopback *l, loopback_round_fn round, void *context) {
    static void *(*const bodies[LOOPBACK_THREADS])(void *) = {port_thread, consensus_thread,
                                                              wal_thread};
    pthread_t threads[LOOPBACK_THREADS];
    l->round = round;
    l->context = context;
    for (uint32_t i = 0; i < LOOPBACK_THREADS; i++) {
        if (pthread_create(&threads[i], NULL, bodies[i], l) == 0) continue;
        fprintf(stderr, "cannot start a thread\n");
        exit(1);
    }
    for (uint32_t i = 0; i < LOOPBACK_THREADS; i++) pthread_join(threads[i], NULL);
    return !atomic_load(&l->broken);
}

// ---------------------------------------------------------------- opening and closing

static bool open_node(struct loopback *l, uint32_t i, bool memory) {
    char error[256] = "no memory", path[96];
    snprintf(path, sizeof path, "%s/%u", l->directory, i + 1);
    l->disks[i] = disk_uring_open(path, error);
    struct node_options options = {
        .cluster = CLUSTER,
        .id = (uint16_t)(i + 1),
        .node_count = LOOPBACK_NODES,
        .election_ns = 1000 * MS, // long: three nodes share a thread, and sanitizers are slow
        .heartbeat_ns = 100 * MS,
        .log_entries = 4096, // small too
        .log_bytes = 1u << 20,
        .window_entries = 1024,
        .limits = {.sessions = 64, .leases = 64, .locks = 64, .claims = 64},
        .memory = memory,
        .segment_bytes = 1u << 20, // small, so that segments roll and snapshots are taken
        .segment_count = 4,
        .snapshot_percent = 50,
        .seed = i + 1,
        .port = &l->links[i].port,
        .disk = l->disks[i],
    };
    for (uint32_t k = 0; k < LOOPBACK_NODES; k++)
        options.nodes[k] = (struct node_peer){.id = (uint16_t)(k + 1), .endpoint = endpoint_of(k)};
    if (l->disks[i] != NULL) l->nodes[i] = node_open(&options, clock_ns(), error);
    if (l->nodes[i] != NULL) return true;
    fprintf(stderr, "node %u: %s\n", i + 1, error);
    return false;
}

struct loopback *loopback_open(bool memory) {
    struct loopback *l = calloc(1, sizeof *l);
    if (l == NULL) return NULL;
    for (uint32_t i = 0; i < ENDPOINTS; i++) {
        l->links[i].loopback = l;
        l->links[i].port.ops = &link_ops;
        l->links[i].port.endpoint = endpoint_of(i);
    }
    for (uint32_t i = 0; i < CLIENTS; i++)
        snprintf(l->clients[i].name, sizeof l->clients[i].name, "lock/%u", i);
    snprintf(l->directory, sizeof l->directory, "loopback.XXXXXX");
    bool good = mkdtemp(l->directory) != NULL;
    if (!good) {
        fprintf(stderr, "cannot make a directory here: %s\n", strerror(errno));
        l->directory[0] = 0;
    }
    for (uint32_t i = 0; i < LOOPBACK_NODES && good; i++) good = open_node(l, i, memory);
    if (good) return l;
    loopback_close(l);
    return NULL;
}

static void remove_directory(const char *path) {
    DIR *directory = opendir(path);
    if (directory == NULL) return;
    for (struct dirent *file; (file = readdir(directory)) != NULL;)
        if (strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0)
            unlinkat(dirfd(directory), file->d_name, 0);
    closedir(directory);
    rmdir(path);
}

void loopback_close(struct loopback *l) {
    char path[96];
    for (uint32_t i = 0; i < LOOPBACK_NODES; i++) {
        if (l->nodes[i] != NULL) node_close(l->nodes[i]);
        if (l->disks[i] != NULL) l->disks[i]->ops->close(l->disks[i]);
        snprintf(path, sizeof path, "%s/%u", l->directory, i + 1);
        if (l->directory[0] != 0) remove_directory(path);
    }
    if (l->directory[0] != 0) rmdir(l->directory);
    free(l);
}

void loopback_quiet(struct loopback *l) {
    atomic_store(&l->quiet, true);
}
uint64_t loopback_pairs(const struct loopback *l) {
    return atomic_load_explicit(&l->pairs, memory_order_relaxed);
}
const struct node *loopback_node(const struct loopback *l, uint32_t i) {
    return l->nodes[i];
}

uint64_t loopback_counter(const struct loopback *l, const char *name) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < LOOPBACK_NODES; i++) {
        const struct counters *counters = node_counters(l->nodes[i]);
        for (uint32_t k = 0; k < counters_total(counters); k++) {
            struct wire_counter counter;
            if (counters_read(counters, k, &counter, 1) == 1 && strcmp(counter.name, name) == 0)
                sum += counter.value;
        }
    }
    return sum;
}
