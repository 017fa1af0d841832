// A reader: asks nodes who holds a lock, or who waits for it, without a session, now this node, now
// that. What it is told must not be older than what anybody had been answered when it asked:
// linearizable reads, over every change of leader, partition and crash.
#include <stdlib.h>
#include <string.h>

#include "sim_internal.h"
#include "wire/wire.h"

#define READER_OPEN  256u
#define READER_FLOOD 1500u

struct sim_reader {
    struct sim *sim;
    uint64_t endpoint; // client 0 of the history
    struct port *port;
    uint64_t next_ns;
    uint64_t pace_ns;
    uint64_t sequence;
    struct {
        uint64_t sequence;
        uint64_t answered; // index, when it was asked
        uint64_t token;    // newest hold of that name anybody had believed in
        uint32_t name;
    } asked[READER_OPEN];
};

struct sim_reader *sim_reader_create(struct sim *sim) {
    struct sim_reader *reader = calloc(1, sizeof *reader);
    reader->sim = sim;
    static const uint64_t paces_ns[] = {10 * SIM_MS, 50 * SIM_MS, 200 * SIM_MS};
    reader->pace_ns = paces_ns[sim_draw(sim, 3)];
    reader->endpoint = wire_endpoint_pack(0x0a000200u, 999);
    reader->port = sim_net_port(sim->net, reader->endpoint, SIM_ACTOR_READER);
    return reader;
}

void sim_reader_destroy(struct sim_reader *reader) {
    free(reader);
}

static void send_question(struct sim_reader *reader, const struct sim_machine *to,
                          uint64_t sequence, const char *name) {
    struct sim *sim = reader->sim;
    _Alignas(8) uint8_t bytes[WIRE_FRAME_MAX];
    struct wire_writer writer;
    wire_begin(&writer, bytes, sizeof bytes, SIM_CLUSTER, 0, 0);
    struct wire_request *request =
        wire_add(&writer, WIRE_REQUEST, 0, (uint32_t)(sizeof *request + strlen(name)));
    request->op = sim_draw(sim, 4) == 0 ? WIRE_OP_LOCK_QUEUE : WIRE_OP_LOCK_HOLDERS;
    request->sequence = sequence;
    request->name_length = (uint8_t)strlen(name);
    memcpy(request + 1, name, strlen(name));
    uint32_t length = wire_finish(&writer);
    if (sequence <= reader->sequence) recorder_sent(&sim->recorder, 0, sim->now_ns, bytes);
    sim_net_send(sim->net, reader->endpoint, to->endpoint, bytes, length);
}

static void ask(struct sim_reader *reader) {
    struct sim *sim = reader->sim;
    char name[16];
    uint64_t sequence = ++reader->sequence;
    uint32_t number = (uint32_t)sim_draw(sim, SIM_NAMES);
    sim_workload_name(number, name);
    reader->asked[sequence % READER_OPEN].sequence = sequence;
    reader->asked[sequence % READER_OPEN].answered = sim->answered;
    reader->asked[sequence % READER_OPEN].token = sim_workload_token(sim->workload, number);
    reader->asked[sequence % READER_OPEN].name = number;
    send_question(reader, &sim->machines[sim_draw(sim, sim->node_count)], sequence, name);
}

void sim_reader_flood(struct sim_reader *reader, const struct sim_machine *machine) {
    for (uint32_t i = 0; i < READER_FLOOD; i++)
        send_question(reader, machine, UINT64_MAX - i, "flood"); // no answer to it is waited for
}

static void on_reply(struct sim_reader *reader, const struct wire_reply *reply) {
    struct sim *sim = reader->sim;
    uint32_t at = reply->sequence % READER_OPEN;
    if (reply->status == WIRE_BUSY) sim->stats.busy++;
    if (reply->status != WIRE_OK || reader->asked[at].sequence != reply->sequence) return;
    sim->stats.reads++;
    if (reply->index < reader->asked[at].answered)
        sim_broken(sim,
                   "a read is answered as of index %lu, though %lu had been answered before it",
                   (unsigned long)reply->index, (unsigned long)reader->asked[at].answered);
    if (reply->op != WIRE_OP_LOCK_HOLDERS || reply->value_length < sizeof(struct wire_claim))
        return;
    struct wire_claim claim;
    memcpy(&claim, wire_reply_value(reply), sizeof claim);
    if (claim.token < reader->asked[at].token)
        sim_broken(sim, "a read names token %lu for lock/%u, though %lu had been granted before it",
                   (unsigned long)claim.token, reader->asked[at].name,
                   (unsigned long)reader->asked[at].token);
}

uint64_t sim_reader_step(struct sim_reader *reader) {
    struct sim *sim = reader->sim;
    _Alignas(8) uint8_t bytes[WIRE_FRAME_MAX];
    uint64_t from;
    for (uint32_t length;
         (length = sim_net_receive(sim->net, reader->endpoint, &from, bytes, sizeof bytes)) > 0;) {
        const struct wire_head *head;
        uint32_t offset = 0;
        if (wire_check(bytes, length) != WIRE_VALID) continue; // damaged on the way
        recorder_received(&sim->recorder, 0, sim->now_ns, bytes, length);
        while ((head = wire_next(bytes, &offset)) != NULL)
            if (head->type == WIRE_REPLY) on_reply(reader, (const struct wire_reply *)head);
    }
    if (sim->now_ns >= reader->next_ns) {
        reader->next_ns = sim->now_ns + sim_draw(sim, reader->pace_ns);
        ask(reader);
    }
    uint64_t arrives_ns = sim_net_next(reader->port);
    return arrives_ns < reader->next_ns ? arrives_ns : reader->next_ns;
}
