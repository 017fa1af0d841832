// See one_node.h.
#include "one_node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "disk_memory.h"
#include "port/port.h"

#define FRAMES 4096u
#define SENT   16384u

struct frame {
    uint64_t from;
    uint16_t length;
    _Alignas(8) uint8_t data[WIRE_FRAME_MAX];
};

struct sent {
    uint64_t to;
    _Alignas(8) uint8_t message[WIRE_FRAME_MAX];
};

static struct {
    struct port port;
    struct disk *disk;
    struct node *node;
    uint64_t now_ns;
    uint32_t nodes;
    uint32_t voters; // with this node a majority
    bool hold, may_fail;
    uint64_t saying; // endpoint whose frame is open, 0: none
    struct wire_writer writer;
    struct frame in[FRAMES];
    uint32_t in_first, in_last;
    struct sent *sent;
    uint32_t sent_count;
} f;

uint64_t one_who(uint32_t number) {
    return wire_endpoint_pack(0x0a000000u + number, 7100);
}

// ---------------------------------------------------------------- the port

static uint32_t rx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                         uint32_t count) {
    uint32_t got = 0;
    for (; got < count && f.in_first != f.in_last; got++) {
        const struct frame *frame = &f.in[f.in_first++ % FRAMES];
        packets[got]->endpoint = frame->from;
        packets[got]->time_ns = now_ns;
        packets[got]->length = frame->length;
        memcpy(packets[got]->data, frame->data, frame->length);
    }
    return got;
}

static uint32_t tx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                         uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t offset = 0;
        const struct wire_head *head;
        assert_int_equal(wire_check(packets[i]->data, packets[i]->length), WIRE_VALID);
        while ((head = wire_next(packets[i]->data, &offset)) != NULL) {
            assert_true(f.sent_count < SENT);
            f.sent[f.sent_count].to = packets[i]->endpoint;
            memcpy(f.sent[f.sent_count++].message, head, head->length);
        }
    }
    return count;
}

static int no_fd(struct port *port) {
    return -1;
}
static void no_close(struct port *port) {}
static const struct port_ops port_ops = {rx_burst, tx_burst, no_fd, no_close};

static void send_off(void) {
    if (f.saying == 0) return;
    struct frame *frame = &f.in[f.in_last % FRAMES];
    frame->from = f.saying;
    frame->length = (uint16_t)wire_finish(&f.writer);
    f.in_last++;
    f.saying = 0;
}

void *one_say(uint32_t who, uint16_t type, uint32_t flags, uint32_t length) {
    if (f.saying != one_who(who)) send_off();
    for (;;) {
        if (f.saying == 0) {
            assert_true(f.in_last - f.in_first < FRAMES);
            uint16_t source = who < ONE_CLIENT ? (uint16_t)who : 0;
            wire_begin(&f.writer, f.in[f.in_last % FRAMES].data, WIRE_FRAME_MAX, ONE_CLUSTER, 0,
                       source);
            f.saying = one_who(who);
        }
        void *message = wire_add(&f.writer, type, flags, length);
        if (message != NULL) return message;
        send_off();
    }
}

uint32_t one_count(uint32_t who, uint16_t type) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < f.sent_count; i++)
        count += f.sent[i].to == one_who(who) &&
                 ((const struct wire_head *)(const void *)f.sent[i].message)->type == type;
    return count;
}

const void *one_newest(uint32_t who, uint16_t type) {
    for (uint32_t i = f.sent_count; i > 0; i--) {
        const void *message = f.sent[i - 1].message;
        if (f.sent[i - 1].to == one_who(who) && ((const struct wire_head *)message)->type == type)
            return message;
    }
    return NULL;
}

void one_forget(void) {
    f.sent_count = 0;
}

// ---------------------------------------------------------------- the node

struct machine_limits one_limits(void) {
    return (struct machine_limits){.sessions = 128, .leases = 64, .locks = 64, .claims = 64};
}

static void boot(void) {
    struct node_options options = {.cluster = ONE_CLUSTER,
                                   .id = ONE_ID,
                                   .node_count = (uint16_t)f.nodes,
                                   .election_ns = 100 * ONE_MS,
                                   .heartbeat_ns = 20 * ONE_MS,
                                   .log_entries = 256,
                                   .log_bytes = 1u << 17,
                                   .window_entries = 64,
                                   .limits = one_limits(),
                                   .segment_bytes = 1u << 20,
                                   .segment_count = 3,
                                   .snapshot_percent = 40,
                                   .seed = 1,
                                   .port = &f.port,
                                   .disk = f.disk};
    for (uint32_t i = 0; i < f.nodes; i++)
        options.nodes[i] = (struct node_peer){.id = (uint16_t)(i + 1), .endpoint = one_who(i + 1)};
    char error[256] = "";
    f.node = node_open(&options, f.now_ns, error);
    if (f.node == NULL) fail_msg("%s", error);
}

void one_open(uint32_t nodes) {
    memset(&f, 0, sizeof f);
    f.sent = calloc(SENT, sizeof *f.sent);
    f.disk = disk_memory_create();
    f.port.ops = &port_ops;
    f.port.endpoint = one_who(ONE_ID);
    f.nodes = nodes;
    f.voters = nodes / 2;
    f.now_ns = 1000 * ONE_MS;
    boot();
}

void one_restart(void) {
    disk_memory_crash(f.disk);
    node_close(f.node);
    one_forget();
    boot();
}

void one_close(void) {
    node_close(f.node);
    disk_memory_destroy(f.disk);
    free(f.sent);
}

struct node *one_node(void) {
    return f.node;
}
struct disk *one_disk(void) {
    return f.disk;
}
void one_hold_disk(bool hold) {
    f.hold = hold;
}
void one_may_fail(void) {
    f.may_fail = true;
}
uint64_t one_counter(const char *name) {
    struct wire_counter all[256];
    uint32_t count = counters_read(node_counters(f.node), 0, all, 256);
    for (uint32_t i = 0; i < count; i++)
        if (strncmp(all[i].name, name, sizeof all[i].name) == 0) return all[i].value;
    fail_msg("no counter %s", name);
    return 0;
}
uint64_t one_now(void) {
    return f.now_ns;
}

static void round_once(uint64_t ns) {
    f.now_ns += ns;
    node_poll_port(f.node, f.now_ns);
    node_poll_consensus(f.node, f.now_ns);
    node_poll_wal(f.node, f.now_ns);
    if (!f.hold) disk_memory_land_all(f.disk);
    if (node_failure(f.node) != NULL && !f.may_fail) fail_msg("%s", node_failure(f.node));
}

void one_run(uint32_t rounds) {
    send_off();
    while (rounds-- > 0) round_once(20000);
}

void one_wait(uint64_t ms) {
    send_off();
    for (uint64_t i = 0; i < 2 * ms; i++) round_once(ONE_MS / 2);
}

// ---------------------------------------------------------------- what others say

void one_append(uint32_t who, uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t commit,
                const struct raft_entry *entry) {
    uint32_t length = (uint32_t)sizeof(struct wire_append);
    if (entry != NULL) length += (uint32_t)sizeof(struct wire_entry) + wire_pad(entry->length);
    struct wire_append *append = one_say(who, WIRE_APPEND, 0, length);
    static uint64_t context;
    append->term = term;
    append->prev_index = prev;
    append->prev_term = prev_term;
    append->commit = commit;
    append->context = ++context;
    if (entry == NULL) return;
    append->count = 1;
    struct wire_entry *out = (struct wire_entry *)(append + 1);
    out->term = entry->term;
    out->time_ns = entry->time_ns;
    out->length = entry->length;
    out->type = entry->type;
    memcpy(out + 1, entry->data, entry->length);
}

void one_ack(uint32_t who, uint64_t term, uint64_t match) {
    const struct wire_append *append = one_newest(who, WIRE_APPEND);
    assert_non_null(append);
    uint64_t context = append->context, prev = append->prev_index;
    struct wire_append_reply *reply = one_say(who, WIRE_APPEND_REPLY, 0, sizeof *reply);
    reply->term = term;
    reply->match = match;
    reply->hint = match;
    reply->prev = prev;
    reply->context = context;
}

static void give_votes(void) {
    for (uint32_t who = 2; who < 2 + f.voters; who++) {
        const struct wire_vote *vote = one_newest(who, WIRE_VOTE);
        if (vote == NULL) continue;
        uint64_t term = vote->term;
        uint32_t flags = (vote->head.flags & WIRE_VOTE_PREVOTE) | WIRE_VOTE_GRANTED;
        struct wire_vote_reply *reply = one_say(who, WIRE_VOTE_REPLY, flags, sizeof *reply);
        reply->term = term;
    }
    one_forget();
}

void one_ack_all(uint64_t term) {
    for (uint32_t who = 2; who < 2 + f.voters; who++)
        one_ack(who, term, raft_last(node_raft(f.node)));
}

void one_lead(uint64_t *term) {
    const struct raft *raft = node_raft(f.node);
    for (uint32_t i = 0; i < 1000 && raft_role(raft) != WIRE_ROLE_LEADER; i++) {
        one_wait(1);
        if (raft_role(raft) != WIRE_ROLE_LEADER) give_votes();
    }
    assert_int_equal(raft_role(raft), WIRE_ROLE_LEADER);
    *term = raft_term(raft);
    one_run(3);
    one_ack_all(*term);
    one_run(3);
    assert_true(raft_leader_ready(raft));
}

void one_request(const struct wire_request *request, const char *name) {
    uint8_t length = name != NULL ? (uint8_t)strlen(name) : 0;
    struct wire_request *out = one_say(ONE_CLIENT, WIRE_REQUEST, 0, (uint32_t)sizeof *out + length);
    struct wire_head head = out->head;
    *out = *request;
    out->head = head;
    out->name_length = length;
    if (length > 0) memcpy(out + 1, name, length);
}
