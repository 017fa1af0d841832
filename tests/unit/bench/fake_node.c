// Two nodes of a cluster that does not exist, for testing the measuring client without one: the
// first is not the leader and says who is, the second grants whatever is asked for.
//
//   fake_node plain|lossy|falling|silent
//
// lossy drops every 40th datagram, falling grants the tenth lock with a token below the ninth's,
// silent stops answering at the tenth. It prints the two addresses and serves for 20 s or until its
// input ends. A request of a session that is neither the newest again nor its successor ends it
// with status 1: the client must number without gaps and repeat, not renumber.
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "port/port.h"
#include "wire.h"

#define CLUSTER 0xfa7eu
#define SESSION 9000u

static enum { PLAIN, LOSSY, FALLING, SILENT } scenario;
static struct port *ports[2];
static struct packet in[PACKET_BURST], out;
static struct wire_reply newest; // of the session, to be repeated
static uint64_t sequence, token = 10000, datagrams, grants;

static uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void execute(const struct wire_request *request, struct wire_reply *reply) {
    reply->token = request->op == WIRE_OP_SESSION_OPEN ? SESSION : 0;
    if (request->op != WIRE_OP_LOCK_ACQUIRE && request->op != WIRE_OP_LEASE_GRANT) return;
    token++;
    if (request->op == WIRE_OP_LOCK_ACQUIRE && ++grants == 10 && scenario == FALLING) token -= 2;
    reply->token = token;
}

// False: no answer.
static bool answer(uint32_t node, const struct wire_request *request, struct wire_reply *reply) {
    reply->session = request->session;
    reply->sequence = request->sequence;
    reply->op = request->op;
    if (request->op == WIRE_OP_STATUS) return true;
    if (node == 0) {
        reply->status = WIRE_NOT_LEADER;
        reply->token = 2;
        reply->amount = ports[1]->endpoint;
        return true;
    }
    if (request->session == 0) {
        execute(request, reply);
        return true;
    }
    if (scenario == SILENT && grants == 10) return false;
    struct wire_head head = reply->head;
    if (request->sequence == sequence + 1) {
        sequence++;
        execute(request, reply);
        newest = *reply;
    } else if (request->session != SESSION || request->sequence != sequence) {
        fprintf(stderr, "fake_node: sequence %" PRIu64 " after %" PRIu64 "\n", request->sequence,
                sequence);
        exit(1);
    }
    *reply = newest;
    reply->head = head;
    return true;
}

static void serve(uint32_t node, const struct packet *packet) {
    uint32_t offset = 0;
    if (wire_check(packet->data, packet->length) != WIRE_VALID) return;
    if (scenario == LOSSY && ++datagrams % 40 == 0) return;
    const struct wire_request *request =
        (const struct wire_request *)wire_next(packet->data, &offset);
    struct wire_writer writer;
    wire_begin(&writer, out.data, WIRE_FRAME_MAX, CLUSTER, 0, (uint16_t)(node + 1));
    struct wire_reply *reply = wire_add(&writer, WIRE_REPLY, 0, sizeof *reply);
    if (!answer(node, request, reply)) return;
    out.length = (uint16_t)wire_finish(&writer);
    out.endpoint = packet->endpoint;
    struct packet *packets = &out;
    ports[node]->ops->tx_burst(ports[node], clock_ns(), &packets, 1);
}

int main(int argc, char **argv) {
    static const char *const names[] = {"plain", "lossy", "falling", "silent"};
    for (uint32_t i = 0; i < 4 && argc == 2; i++)
        if (strcmp(argv[1], names[i]) == 0) scenario = i;
    uint64_t localhost = wire_endpoint_pack(0x7f000001, 0);
    char error[256] = "";
    for (uint32_t i = 0; i < 2; i++) {
        ports[i] = port_udp_open(
            &(struct port_udp_options){.endpoint = localhost, .buffer_bytes = 1u << 16}, error);
        if (ports[i] == NULL) {
            fprintf(stderr, "fake_node: %s\n", error);
            return 1;
        }
    }
    printf("127.0.0.1:%u,127.0.0.1:%u\n", (unsigned)(ports[0]->endpoint & 0xffff),
           (unsigned)(ports[1]->endpoint & 0xffff));
    fflush(stdout);
    struct packet *burst[PACKET_BURST];
    for (uint32_t i = 0; i < PACKET_BURST; i++) burst[i] = &in[i];
    struct pollfd wait[] = {{.fd = ports[0]->ops->wait_fd(ports[0]), .events = POLLIN},
                            {.fd = ports[1]->ops->wait_fd(ports[1]), .events = POLLIN},
                            {.fd = 0, .events = POLLIN}};
    for (uint64_t end_ns = clock_ns() + 20000000000ull; clock_ns() < end_ns;) {
        poll(wait, 3, 1000);
        if (wait[2].revents != 0) break;
        for (uint32_t node = 0; node < 2; node++) {
            uint32_t count =
                ports[node]->ops->rx_burst(ports[node], clock_ns(), burst, PACKET_BURST);
            for (uint32_t i = 0; i < count; i++) serve(node, burst[i]);
        }
    }
    for (uint32_t i = 0; i < 2; i++) ports[i]->ops->close(ports[i]);
    return 0;
}
