// ledger: keeps the books of a cluster under attack. One client takes and gives back locks for as
// long as it is told to, while somebody else kills nodes; every answer is checked against the
// books:
//   - each grant of a name has a larger token than every earlier one of that name;
//   - a lock that was granted and not given back is still held, by the same token, at the end;
//   - giving back what was granted always succeeds: no acknowledged grant was lost;
//   - a request that had to be sent many times was executed once.
// Exit status 0 only if the books are right.
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire_client.h"

#define NAMES    16u
#define LEASE_MS 120000u // outlives every outage the tests make
#define RENEW_NS (5ull * 1000 * 1000 * 1000)

struct page {
    char name[32];
    uint64_t token; // of the newest grant
    bool held;
};

static struct wire_client client = {.retry_ns = 20ull * 1000 * 1000,
                                    .patience_ns = 60ull * 1000 * 1000 * 1000};
static struct page pages[NAMES];
static uint64_t lease, grants, releases, errors, longest_ns;
static volatile sig_atomic_t stop;

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

static void wrong(const struct page *page, const char *what, uint64_t a, uint64_t b) {
    fprintf(stderr, "ledger: %s: %s (%" PRIu64 ", %" PRIu64 ")\n", page->name, what, a, b);
    errors++;
}

static void acquire(struct page *page) {
    struct wire_reply reply =
        wire_client_call(&client, (struct wire_request){.op = WIRE_OP_LOCK_ACQUIRE, .lease = lease},
                         page->name, NULL);
    if (reply.status != WIRE_OK) {
        wrong(page, "acquire of a free lock refused: status, token", reply.status, reply.token);
        return;
    }
    if (reply.token <= page->token) wrong(page, "token did not rise", page->token, reply.token);
    page->token = reply.token;
    page->held = true;
    grants++;
}

static void release(struct page *page) {
    struct wire_reply reply = wire_client_call(
        &client, (struct wire_request){.op = WIRE_OP_LOCK_RELEASE, .token = page->token},
        page->name, NULL);
    if (reply.status != WIRE_OK)
        wrong(page, "an acknowledged grant is lost: status, token", reply.status, page->token);
    page->held = false;
    releases++;
}

static void renew(void) {
    struct wire_reply reply = wire_client_call(
        &client, (struct wire_request){.op = WIRE_OP_LEASE_KEEPALIVE, .lease = lease}, "", NULL);
    if (reply.status != WIRE_OK) {
        fprintf(stderr, "ledger: renewal refused with status %u\n", reply.status);
        errors++;
    }
}

static void audit(void) {
    uint8_t value[WIRE_VALUE_MAX];
    for (uint32_t i = 0; i < NAMES; i++) {
        struct wire_reply reply = wire_client_call(
            &client, (struct wire_request){.op = WIRE_OP_LOCK_HOLDERS}, pages[i].name, value);
        struct wire_claim claim = {0};
        if (reply.value_length >= sizeof claim) memcpy(&claim, value, sizeof claim);
        uint64_t expected = pages[i].held ? pages[i].token : 0;
        if (reply.status != WIRE_OK || claim.token != expected)
            wrong(&pages[i], "books and cluster differ: expected, found", expected, claim.token);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr,
                "usage: ledger HOST:PORT,... SECONDS\n"
                "Takes and gives back locks until SECONDS passed or SIGTERM, then audits.\n");
        return 2;
    }
    char error[256] = "";
    const char *bad = wire_client_add_nodes(&client, argv[1]);
    uint64_t seconds = strtoull(argv[2], NULL, 10);
    client.port = port_udp_open(&(struct port_udp_options){.buffer_bytes = 1u << 20}, error);
    if (bad != NULL || client.port == NULL) {
        fprintf(stderr, "ledger: %s%s\n", bad != NULL ? "not ADDRESS:PORT: " : error,
                bad ? bad : "");
        return 2;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    if (wire_client_begin(&client) != WIRE_OK) {
        fprintf(stderr, "ledger: no session: is a majority running?\n");
        return 1;
    }
    lease = wire_client_call(&client,
                             (struct wire_request){.op = WIRE_OP_LEASE_GRANT, .amount = LEASE_MS},
                             "", NULL)
                .token;
    for (uint32_t i = 0; i < NAMES; i++)
        snprintf(pages[i].name, sizeof pages[i].name, "ledger/%u", i);

    uint64_t begun_ns = wire_client_now_ns(), renewed_ns = begun_ns, now_ns = begun_ns;
    srand(1);
    while (!stop && now_ns - begun_ns < seconds * 1000000000ull) {
        struct page *page = &pages[(unsigned)rand() % NAMES];
        if (page->held)
            release(page);
        else
            acquire(page);
        uint64_t done_ns = wire_client_now_ns();
        if (done_ns - now_ns > longest_ns) longest_ns = done_ns - now_ns;
        now_ns = done_ns;
        if (now_ns - renewed_ns > RENEW_NS) {
            renew();
            renewed_ns = now_ns;
        }
    }
    audit();
    printf("{\"grants\": %" PRIu64 ", \"releases\": %" PRIu64 ", \"resent\": %" PRIu64
           ", \"longest_ms\": %.1f, \"errors\": %" PRIu64 "}\n",
           grants, releases, client.resent, (double)longest_ns / 1e6, errors);
    client.port->ops->close(client.port);
    return errors != 0 || grants == 0;
}
