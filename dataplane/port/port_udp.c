// A port over one kernel UDP socket: no root, no hugepages, no EAL.
//
// A burst is one recvmmsg() straight into the caller's packets, or one sendmmsg() straight out of
// them; the message headers and addresses they need lie in the port and never move. Nothing is
// allocated after open and nothing waits.
//
// Bound to address 0, answers leave with the address the routing table picks, which on a host with
// several addresses may not be the one that was asked: nodes should bind the address they publish.
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "counters.h"
#include "port/port.h"

#define CONTROL_BYTES CMSG_SPACE(sizeof(uint32_t)) // SO_RXQ_OVFL

struct port_udp {
    struct port port; // first: ops get this
    int fd;
    uint32_t overruns; // SO_RXQ_OVFL's running total, last seen
    struct mmsghdr rx[PACKET_BURST];
    struct mmsghdr tx[PACKET_BURST];
    struct iovec rx_data[PACKET_BURST];
    struct iovec tx_data[PACKET_BURST];
    struct sockaddr_in rx_from[PACKET_BURST];
    struct sockaddr_in tx_to[PACKET_BURST];
    _Alignas(struct cmsghdr) uint8_t control[PACKET_BURST][CONTROL_BYTES];
};

static void count(struct port *port, enum port_counter counter, uint64_t n) {
    COUNTER_ADD(port->counters[counter], n);
}

// ---------------------------------------------------------------- receiving

// The kernel attaches its count of datagrams lost to a full socket buffer once there are any.
static void note_overruns(struct port_udp *udp, struct msghdr *message) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_RXQ_OVFL) continue;
        uint32_t total;
        memcpy(&total, CMSG_DATA(c), sizeof total);
        count(&udp->port, PORT_COUNT_RX_DROP_OVERRUN, total - udp->overruns);
        udp->overruns = total;
    }
}

// Why a received datagram is dropped, or PORT_COUNTERS if it is not.
static enum port_counter judge(const struct port_udp *udp, uint32_t i) {
    if (udp->rx[i].msg_hdr.msg_flags & MSG_TRUNC) return PORT_COUNT_RX_DROP_OVERSIZE;
    const struct sockaddr_in *from = &udp->rx_from[i];
    if (from->sin_family != AF_INET || from->sin_port == 0) return PORT_COUNT_RX_DROP_OTHER;
    return PORT_COUNTERS;
}

static uint32_t udp_rx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                             uint32_t wanted) {
    struct port_udp *udp = (struct port_udp *)port;
    uint32_t room = wanted < PACKET_BURST ? wanted : PACKET_BURST;
    for (uint32_t i = 0; i < room; i++) {
        udp->rx_data[i].iov_base = packets[i]->data;
        udp->rx[i].msg_hdr.msg_namelen = sizeof udp->rx_from[i];
        udp->rx[i].msg_hdr.msg_controllen = CONTROL_BYTES;
    }
    int received = recvmmsg(udp->fd, udp->rx, room, MSG_DONTWAIT, NULL);
    if (received < 0) {
        if (errno != EAGAIN && errno != EINTR) count(port, PORT_COUNT_RX_ERRORS, 1);
        return 0;
    }
    uint32_t filled = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < (uint32_t)received; i++) {
        if (udp->rx[i].msg_hdr.msg_controllen != 0) note_overruns(udp, &udp->rx[i].msg_hdr);
        enum port_counter drop = judge(udp, i);
        if (drop != PORT_COUNTERS) {
            count(port, drop, 1);
            continue;
        }
        struct packet *packet = packets[filled];
        // Behind a dropped one the rest move up; that is rare enough to copy.
        if (filled != i) memcpy(packet->data, packets[i]->data, udp->rx[i].msg_len);
        packet->endpoint = wire_endpoint_pack(ntohl(udp->rx_from[i].sin_addr.s_addr),
                                              ntohs(udp->rx_from[i].sin_port));
        packet->time_ns = now_ns;
        packet->length = (uint16_t)udp->rx[i].msg_len;
        bytes += packet->length;
        filled++;
    }
    if (filled != 0) {
        count(port, PORT_COUNT_RX_PACKETS, filled);
        count(port, PORT_COUNT_RX_BYTES, bytes);
    }
    return filled;
}

// ---------------------------------------------------------------- sending

static bool is_full(int error) {
    return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}

// Sends messages [0, prepared); one that the kernel refuses is skipped, so each call of sendmmsg()
// gets at least one message out of the way.
static uint32_t send_prepared(struct port_udp *udp, struct packet *const *packets,
                              uint32_t prepared) {
    struct port *port = &udp->port;
    uint32_t sent = 0;
    uint64_t bytes = 0;
    for (uint32_t next = 0; next < prepared;) {
        int done = sendmmsg(udp->fd, udp->tx + next, prepared - next, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (done > 0) {
            for (uint32_t i = next; i < next + (uint32_t)done; i++) bytes += packets[i]->length;
            next += (uint32_t)done;
            sent += (uint32_t)done;
        } else if (is_full(errno)) {
            count(port, PORT_COUNT_TX_DROP_FULL, prepared - next);
            break;
        } else {
            count(port, PORT_COUNT_TX_ERRORS, 1); // no route, not permitted, bad address ...
            next++;
        }
    }
    if (sent != 0) {
        count(port, PORT_COUNT_TX_PACKETS, sent);
        count(port, PORT_COUNT_TX_BYTES, bytes);
    }
    return sent;
}

static uint32_t udp_tx_burst(struct port *port, uint64_t now_ns, struct packet *const *packets,
                             uint32_t total) {
    (void)now_ns;
    struct port_udp *udp = (struct port_udp *)port;
    uint32_t sent = 0;
    for (uint32_t first = 0; first < total; first += PACKET_BURST) {
        uint32_t burst = total - first < PACKET_BURST ? total - first : PACKET_BURST;
        for (uint32_t i = 0; i < burst; i++) {
            struct packet *packet = packets[first + i];
            assert(packet->length <= WIRE_FRAME_MAX);
            udp->tx_data[i].iov_base = packet->data;
            udp->tx_data[i].iov_len = packet->length;
            udp->tx_to[i].sin_addr.s_addr = htonl((uint32_t)(packet->endpoint >> 16));
            udp->tx_to[i].sin_port = htons((uint16_t)packet->endpoint);
        }
        sent += send_prepared(udp, packets + first, burst);
    }
    return sent;
}

static int udp_wait_fd(struct port *port) {
    return ((struct port_udp *)port)->fd;
}

static void udp_close(struct port *port) {
    struct port_udp *udp = (struct port_udp *)port;
    close(udp->fd);
    free(udp);
}

static const struct port_ops udp_ops = {
    .rx_burst = udp_rx_burst,
    .tx_burst = udp_tx_burst,
    .wait_fd = udp_wait_fd,
    .close = udp_close,
};

// ---------------------------------------------------------------- opening

static void prepare_messages(struct port_udp *udp) {
    for (uint32_t i = 0; i < PACKET_BURST; i++) {
        udp->rx_data[i].iov_len = WIRE_FRAME_MAX;
        udp->rx[i].msg_hdr = (struct msghdr){.msg_name = &udp->rx_from[i],
                                             .msg_iov = &udp->rx_data[i],
                                             .msg_iovlen = 1,
                                             .msg_control = udp->control[i]};
        udp->tx_to[i].sin_family = AF_INET;
        udp->tx[i].msg_hdr = (struct msghdr){.msg_name = &udp->tx_to[i],
                                             .msg_namelen = sizeof udp->tx_to[i],
                                             .msg_iov = &udp->tx_data[i],
                                             .msg_iovlen = 1};
    }
}

// As much of it as the kernel allows: beyond net.core.?mem_max only with CAP_NET_ADMIN.
static void set_buffers(int fd, uint32_t bytes) {
    int value = bytes > INT32_MAX / 2 ? INT32_MAX / 2 : (int)bytes;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &value, sizeof value) != 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof value);
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &value, sizeof value) != 0) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value);
    }
}

static const char *bind_advice(int error) {
    switch (error) {
    case EADDRINUSE:
        return "another process has this port: stop it or choose another port";
    case EADDRNOTAVAIL:
        return "no interface of this machine has this address: see `ip address`";
    case EACCES:
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE: choose a higher one";
    default:
        return "check address and port";
    }
}

static void say_bind_failed(uint64_t endpoint, int error, char text[256]) {
    struct in_addr address = {.s_addr = htonl((uint32_t)(endpoint >> 16))};
    char dotted[INET_ADDRSTRLEN] = "?";
    inet_ntop(AF_INET, &address, dotted, sizeof dotted);
    snprintf(text, 256, "cannot bind UDP %s:%u: %s; %s", dotted, (unsigned)(endpoint & 0xffff),
             strerror(error), bind_advice(error));
}

static bool bind_socket(int fd, uint64_t wanted, uint64_t *endpoint, char error[256]) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl((uint32_t)(wanted >> 16)),
                                  .sin_port = htons((uint16_t)wanted)};
    socklen_t length = sizeof address;
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0) {
        say_bind_failed(wanted, errno, error);
        return false;
    }
    *endpoint = wire_endpoint_pack(ntohl(address.sin_addr.s_addr), ntohs(address.sin_port));
    return true;
}

struct port *port_udp_open(const struct port_udp_options *options, char error[256]) {
    struct port_udp *udp = aligned_alloc(64, (sizeof *udp + 63) & ~(size_t)63);
    if (udp == NULL) {
        snprintf(error, 256, "no memory for a UDP port: free some and start again");
        return NULL;
    }
    memset(udp, 0, sizeof *udp);
    udp->port.ops = &udp_ops;
    udp->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (udp->fd < 0) {
        snprintf(error, 256, "cannot open a UDP socket: %s; check `ulimit -n` and permissions",
                 strerror(errno));
        free(udp);
        return NULL;
    }
    if (options->buffer_bytes != 0) set_buffers(udp->fd, options->buffer_bytes);
    int on = 1;
    setsockopt(udp->fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on); // only counts; fails harmlessly
    if (!bind_socket(udp->fd, options->endpoint, &udp->port.endpoint, error)) {
        close(udp->fd);
        free(udp);
        return NULL;
    }
    prepare_messages(udp);
    return &udp->port;
}
