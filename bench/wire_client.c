// See wire_client.h.
#include "wire_client.h"

#include <arpa/inet.h>
#include <assert.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "wire.h"

uint64_t wire_client_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

uint64_t wire_client_parse(const char *text) {
    char address[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    struct in_addr parsed;
    if (colon == NULL || (size_t)(colon - text) >= sizeof address) return 0;
    memcpy(address, text, (size_t)(colon - text));
    address[colon - text] = 0;
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (inet_pton(AF_INET, address, &parsed) != 1 || *end != 0 || port == 0 || port > 65535)
        return 0;
    return wire_endpoint_pack(ntohl(parsed.s_addr), (uint16_t)port);
}

const char *wire_client_add_nodes(struct wire_client *client, char *list) {
    char *save = NULL;
    for (char *part = strtok_r(list, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
        uint64_t endpoint = wire_client_parse(part);
        if (endpoint == 0 || client->node_count == WIRE_CLIENT_NODES_MAX) return part;
        client->nodes[client->node_count++] = endpoint;
    }
    return NULL;
}

const char *wire_client_status_name(uint16_t status) {
    static const char *const names[] = {
        [WIRE_OK] = "ok",
        [WIRE_QUEUED] = "queued",
        [WIRE_NOT_LEADER] = "not_leader",
        [WIRE_BUSY] = "busy",
        [WIRE_NO_LEASE] = "no_lease",
        [WIRE_LEASE_EXPIRED] = "lease_expired",
        [WIRE_NOT_HOLDER] = "not_holder",
        [WIRE_WOULD_BLOCK] = "would_block",
        [WIRE_WAIT_TIMEOUT] = "wait_timeout",
        [WIRE_STALE_TOKEN] = "stale_token",
        [WIRE_TOO_LARGE] = "too_large",
        [WIRE_FULL] = "full",
        [WIRE_COMPACTED] = "compacted",
        [WIRE_BAD_REQUEST] = "bad_request",
        [WIRE_UNAUTHENTICATED] = "unauthenticated",
        [WIRE_DENIED] = "denied",
        [WIRE_UNKNOWN] = "unknown",
        [WIRE_NO_SESSION] = "no_session",
        [WIRE_STALE_SEQUENCE] = "stale_sequence",
    };
    static_assert(sizeof names / sizeof names[0] == WIRE_STATUS_COUNT, "every status has its name");
    return status < WIRE_STATUS_COUNT ? names[status] : "an undefined status";
}

// Where the refusing node says the leader is, if that is one of ours; else the next of ours.
static void follow_hint(struct wire_client *c, const struct wire_reply *reply) {
    for (uint32_t i = 0; i < c->node_count; i++) {
        if (reply->amount != 0 && c->nodes[i] == reply->amount) {
            c->at = i;
            return;
        }
    }
    c->at = (c->at + 1) % c->node_count;
}

static void send_request(struct wire_client *c, const struct wire_request *request,
                         const char *name) {
    struct wire_writer writer;
    wire_begin(&writer, c->out.data, WIRE_FRAME_MAX, c->cluster, 0, 0);
    struct wire_request *out =
        wire_add(&writer, WIRE_REQUEST, 0, (uint32_t)sizeof *request + request->name_length);
    struct wire_head head = out->head;
    *out = *request;
    out->head = head;
    memcpy(out + 1, name, request->name_length);
    c->out.length = (uint16_t)wire_finish(&writer);
    c->out.endpoint = c->nodes[c->at];
    struct packet *packet = &c->out;
    c->port->ops->tx_burst(c->port, wire_client_now_ns(), &packet, 1);
}

// Is this the answer to `request`, from who may give it? A node refuses, or speaks of its own
// memory, only for itself: a late not_leader of a node asked earlier says nothing about the one
// asked now.
static bool answers(const struct wire_client *c, const struct packet *packet,
                    const struct wire_reply *reply, const struct wire_request *request) {
    if (reply->head.type != WIRE_REPLY || reply->op != request->op ||
        reply->sequence != request->sequence || reply->value_length > WIRE_VALUE_MAX)
        return false;
    bool opens = reply->op == WIRE_OP_SESSION_OPEN; // may name the session it opened
    if (reply->session != request->session && !opens) return false;
    bool own = wire_op_is_local(reply->op) || reply->status == WIRE_NOT_LEADER ||
               reply->status == WIRE_BUSY;
    return !own || packet->endpoint == c->nodes[c->at];
}

// True when the final answer to `request` is in this frame; *again when it is to be asked anew.
static bool read_frame(struct wire_client *c, const struct packet *packet,
                       const struct wire_request *request, struct wire_reply *answer, void *value,
                       bool *again) {
    if (wire_check(packet->data, packet->length) != WIRE_VALID) return false;
    const struct wire_frame *frame = (const struct wire_frame *)packet->data;
    if (c->cluster != 0 && frame->cluster != c->cluster) return false;
    uint32_t offset = 0;
    const struct wire_head *head;
    while ((head = wire_next(packet->data, &offset)) != NULL) {
        const struct wire_reply *reply = (const struct wire_reply *)head;
        if (!answers(c, packet, reply, request)) continue;
        if (reply->status == WIRE_NOT_LEADER || reply->status == WIRE_BUSY) {
            if (reply->status == WIRE_NOT_LEADER) follow_hint(c, reply);
            *again = true;
            return false;
        }
        *answer = *reply;
        if (value != NULL) memcpy(value, wire_reply_value(reply), reply->value_length);
        if (c->cluster == 0) c->cluster = frame->cluster;
        return true;
    }
    return false;
}

static bool receive(struct wire_client *c, const struct wire_request *request,
                    struct wire_reply *answer, void *value, bool *again) {
    uint32_t count = c->port->ops->rx_burst(c->port, wire_client_now_ns(), c->burst, PACKET_BURST);
    if (count == 0) sched_yield();
    for (uint32_t i = 0; i < count; i++)
        if (read_frame(c, c->burst[i], request, answer, value, again)) return true;
    return false;
}

struct wire_reply wire_client_call(struct wire_client *c, struct wire_request request,
                                   const char *name, void *value) {
    struct wire_reply answer = {.status = WIRE_UNKNOWN};
    uint64_t begun_ns = wire_client_now_ns(), sent_ns = begun_ns;
    assert(strlen(name) <= WIRE_NAME_MAX && c->node_count > 0);
    bool logged = wire_op_is_logged(request.op) && request.op != WIRE_OP_SESSION_OPEN;
    request.session = logged ? c->session : 0;
    // A session's sequences have no gaps; what is not logged counts for itself.
    request.sequence = logged ? ++c->sequence : ++c->other_sequence;
    request.name_length = (uint8_t)strlen(name);
    send_request(c, &request, name);
    for (;;) {
        bool again = false;
        if (receive(c, &request, &answer, value, &again)) return answer;
        uint64_t now_ns = wire_client_now_ns();
        if (again) { // not the leader, or busy: a moment later somebody is
            struct timespec moment = {.tv_nsec = 1000000};
            nanosleep(&moment, NULL);
        } else if (now_ns - sent_ns < c->retry_ns) {
            continue;
        } else {
            c->at = (c->at + 1) % c->node_count;
        }
        if (now_ns - begun_ns > c->patience_ns) return answer;
        c->resent++;
        sent_ns = now_ns;
        send_request(c, &request, name);
    }
}

uint16_t wire_client_begin(struct wire_client *c) {
    for (uint32_t i = 0; i < PACKET_BURST; i++) c->burst[i] = &c->in[i];
    struct wire_reply reply =
        wire_client_call(c, (struct wire_request){.op = WIRE_OP_STATUS}, "", NULL);
    if (reply.status != WIRE_OK) return reply.status;
    uint64_t nonce = 0;
    while (nonce == 0)
        if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce) nonce = 0;
    reply = wire_client_call(c, (struct wire_request){.op = WIRE_OP_SESSION_OPEN, .token = nonce},
                             "", NULL);
    c->session = reply.token;
    return reply.status;
}
