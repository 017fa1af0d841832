// A network that loses, doubles, delays, overtakes and damages datagrams, brings old ones again,
// and can be cut per pair and direction. Each destination has a heap of datagrams ordered by
// arrival.
#include <stdlib.h>
#include <string.h>

#include "sim_internal.h"

#define NET_PLACES_MAX 32u
#define NET_QUEUE_MAX  8192u
#define NET_OLD        256u // datagrams kept to be brought again

struct datagram {
    uint64_t due_ns;
    uint64_t order; // ties arrive in the order sent
    uint64_t from;
    struct datagram *next; // while it waits to be used again
    uint32_t length;
    uint8_t bytes[WIRE_FRAME_MAX];
};

// Those that have arrived wait in a list to be used again.
static struct datagram *spares;

static struct datagram *take_datagram(void) {
    struct datagram *datagram = spares;
    if (datagram == NULL) return malloc(sizeof *datagram);
    spares = datagram->next;
    return datagram;
}

static void give_datagram(struct datagram *datagram) {
    datagram->next = spares;
    spares = datagram;
}
struct old { // as it was sent, from whom to whom
    uint64_t from, to;
    uint32_t length;
    uint8_t bytes[WIRE_FRAME_MAX];
};

struct place {
    struct port port; // first: the port's address is the place's
    struct sim_net *net;
    uint64_t endpoint;
    uint32_t actor; // told of what is on its way
    uint32_t count, room;
    struct datagram **heap;
    bool cut_to[NET_PLACES_MAX]; // by place number
};

struct sim_net {
    struct sim *sim;
    sim_net_filter filter; // NULL: all pass
    void *filter_context;
    uint64_t order;
    uint32_t place_count;
    struct place *places[NET_PLACES_MAX];
    struct old old[NET_OLD];
};

static struct place *place_of(struct sim_net *net, uint64_t endpoint) {
    for (uint32_t i = 0; i < net->place_count; i++)
        if (net->places[i]->endpoint == endpoint) return net->places[i];
    return NULL;
}

static uint32_t number_of(const struct sim_net *net, const struct place *place) {
    uint32_t i = 0;
    while (net->places[i] != place) i++;
    return i;
}

static bool before(const struct datagram *a, const struct datagram *b) {
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void heap_push(struct place *place, struct datagram *datagram) {
    if (place->count == place->room) {
        place->room = place->room == 0 ? 64 : 2 * place->room;
        place->heap = realloc(place->heap, place->room * sizeof(struct datagram *));
    }
    uint32_t i = place->count++;
    for (; i > 0 && before(datagram, place->heap[(i - 1) / 2]); i = (i - 1) / 2)
        place->heap[i] = place->heap[(i - 1) / 2];
    place->heap[i] = datagram;
}

static struct datagram *heap_pop(struct place *place) {
    struct datagram *top = place->heap[0];
    struct datagram *last = place->heap[--place->count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= place->count) break;
        if (child + 1 < place->count && before(place->heap[child + 1], place->heap[child])) child++;
        if (!before(place->heap[child], last)) break;
        place->heap[i] = place->heap[child];
        i = child;
    }
    place->heap[i] = last;
    return top;
}

static void deliver(struct sim_net *net, struct place *to, uint64_t from, const void *bytes,
                    uint32_t length) {
    struct sim *sim = net->sim;
    if (to->count == NET_QUEUE_MAX) {
        sim->stats.faults[SIM_LOSS]++;
        return;
    }
    struct datagram *datagram = take_datagram();
    datagram->from = from;
    datagram->order = net->order++;
    datagram->length = length;
    memcpy(datagram->bytes, bytes, length);
    datagram->due_ns = sim->now_ns + 5000 + sim_draw(sim, 20000);
    if (sim_strikes(sim, SIM_DELAY)) datagram->due_ns += sim_draw(sim, 50 * SIM_MS);
    if (sim_strikes(sim, SIM_FLIP)) {
        uint32_t bit = (uint32_t)sim_draw(sim, length * 8u);
        datagram->bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    heap_push(to, datagram);
    sim_arrives(sim, to->actor, datagram->due_ns);
}

// One in sixteen is kept, in a random place: so they grow some seconds old. Sender and receiver may
// have crashed and restarted since.
static void bring_old(struct sim_net *net, uint64_t from, uint64_t to, const void *bytes,
                      uint32_t length) {
    struct sim *sim = net->sim;
    if (sim->faults.rate[SIM_REPLAY] == 0) return;
    if (sim_draw(sim, 16) == 0) {
        struct old *kept = &net->old[sim_draw(sim, NET_OLD)];
        kept->from = from;
        kept->to = to;
        kept->length = length;
        memcpy(kept->bytes, bytes, length);
    }
    if (!sim_strikes(sim, SIM_REPLAY)) return;
    const struct old *again = &net->old[sim_draw(sim, NET_OLD)];
    if (again->length > 0)
        deliver(net, place_of(net, again->to), again->from, again->bytes, again->length);
}

void sim_net_send(struct sim_net *net, uint64_t from, uint64_t to, const void *bytes,
                  uint32_t length) {
    struct sim *sim = net->sim;
    const struct place *source = place_of(net, from);
    struct place *target = place_of(net, to);
    sim->stats.datagrams++;
    sim_check_sent(sim, from, bytes, length);
    uint64_t sum; // part of the frame's checksum stands for its content
    memcpy(&sum, (const uint8_t *)bytes + offsetof(struct wire_frame, tag), sizeof sum);
    sim_fold(sim, sum ^ from, sim->now_ns ^ to);
    if (target == NULL || source == NULL) return;
    if (net->filter != NULL && !net->filter(net->filter_context, from, to, bytes, length)) return;
    bring_old(net, from, to, bytes, length);
    if (source->cut_to[number_of(net, target)]) {
        sim->stats.cut_off++;
        return;
    }
    if (sim_strikes(sim, SIM_LOSS)) return;
    deliver(net, target, from, bytes, length);
    if (sim_strikes(sim, SIM_DUPLICATE)) deliver(net, target, from, bytes, length);
}

void sim_net_set_filter(struct sim_net *net, sim_net_filter filter, void *context) {
    net->filter = filter;
    net->filter_context = context;
}

void sim_net_inject(struct sim_net *net, uint64_t from, uint64_t to, const void *bytes,
                    uint32_t length) {
    deliver(net, place_of(net, to), from, bytes, length);
}

static uint32_t receive(struct place *place, uint64_t *from, void *bytes, uint32_t capacity) {
    if (place->count == 0 || place->heap[0]->due_ns > place->net->sim->now_ns) return 0;
    struct datagram *datagram = heap_pop(place);
    uint32_t length = datagram->length < capacity ? datagram->length : capacity;
    memcpy(bytes, datagram->bytes, length);
    *from = datagram->from;
    give_datagram(datagram);
    return length;
}

uint32_t sim_net_receive(struct sim_net *net, uint64_t to, uint64_t *from, void *bytes,
                         uint32_t capacity) {
    return receive(place_of(net, to), from, bytes, capacity);
}

static uint32_t net_rx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                             uint32_t count) {
    struct place *place = (struct place *)port;
    uint32_t filled = 0;
    while (filled < count) {
        struct packet *packet = packets[filled];
        uint32_t length = receive(place, &packet->endpoint, packet->data, WIRE_FRAME_MAX);
        if (length == 0) break;
        packet->length = (uint16_t)length;
        packet->time_ns = now_ns;
        filled++;
    }
    return filled;
}

static uint32_t net_tx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                             uint32_t count) {
    struct place *place = (struct place *)port;
    (void)now_ns;
    for (uint32_t i = 0; i < count; i++)
        sim_net_send(place->net, place->endpoint, packets[i]->endpoint, packets[i]->data,
                     packets[i]->length);
    return count;
}

static int net_wait_fd(struct port *port) {
    (void)port;
    return -1;
}
static void net_close(struct port *port) {
    (void)port;
} // the net owns its places

static const struct port_ops net_ops = {net_rx_burst, net_tx_burst, net_wait_fd, net_close};

struct sim_net *sim_net_create(struct sim *sim) {
    struct sim_net *net = calloc(1, sizeof *net);
    net->sim = sim;
    return net;
}

struct port *sim_net_port(struct sim_net *net, uint64_t endpoint, uint32_t actor) {
    struct place *place = place_of(net, endpoint);
    if (place == NULL) {
        place = calloc(1, sizeof *place);
        place->net = net;
        place->endpoint = endpoint;
        place->actor = actor;
        place->port.ops = &net_ops;
        place->port.endpoint = endpoint;
        net->places[net->place_count++] = place;
    }
    return &place->port;
}

uint64_t sim_net_next(const struct port *port) {
    const struct place *place = (const struct place *)port;
    return place->count > 0 ? place->heap[0]->due_ns : UINT64_MAX;
}

static void empty(struct place *place) {
    while (place->count > 0) give_datagram(place->heap[--place->count]);
}

void sim_net_forget(struct sim_net *net, uint64_t endpoint) {
    empty(place_of(net, endpoint));
}

void sim_net_cut(struct sim_net *net, uint64_t a, uint64_t b, bool cut) {
    place_of(net, a)->cut_to[number_of(net, place_of(net, b))] = cut;
}

bool sim_net_is_cut(const struct sim_net *net, uint64_t a, uint64_t b) {
    uint32_t i = 0, j = 0;
    while (net->places[i]->endpoint != a) i++;
    while (net->places[j]->endpoint != b) j++;
    return net->places[i]->cut_to[j];
}

void sim_net_heal(struct sim_net *net) {
    for (uint32_t i = 0; i < net->place_count; i++)
        memset(net->places[i]->cut_to, 0, sizeof net->places[i]->cut_to);
}

void sim_net_destroy(struct sim_net *net) {
    for (uint32_t i = 0; i < net->place_count; i++) {
        struct place *place = net->places[i];
        empty(place);
        free(place->heap);
        free(place);
    }
    free(net);
}
