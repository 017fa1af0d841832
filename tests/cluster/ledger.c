// ledger: keeps the books of a cluster under attack. One client takes and gives back locks for as
// long as it is told to, while somebody else kills nodes; every answer is checked against the
// books:
//   - each grant of a name has a larger token than every earlier one of that name;
//   - a lock that was granted and not given back is still held, by the same token, at the end;
//   - giving back what was granted always succeeds: no acknowledged grant was lost;
//   - a request that had to be sent many times was executed once: a second execution would find the
//     lock held (acquire) or not held (release), and answer so;
//   - when the lease is revoked, everything held under it is free.
// A request without an answer for a minute has an unknown outcome, and books with one of those
// cannot be balanced. Exit status 0 only if the books are right.
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
    char name[48];
    uint64_t token; // of the newest grant
    bool held;
    bool unknown; // an outcome never came: nothing can be said of this name any more
};

static struct wire_client client = {.retry_ns = 20ull * 1000 * 1000,
                                    .patience_ns = 60ull * 1000 * 1000 * 1000};
static struct page pages[NAMES];
static uint64_t lease, grants, releases, unknown, errors, longest_ns;
static volatile sig_atomic_t stop;

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

static void wrong(const struct page *page, const char *what, uint64_t expected, uint64_t found) {
    fprintf(stderr, "ledger: %s: %s (%" PRIu64 ", %" PRIu64 ")\n", page->name, what, expected,
            found);
    errors++;
}

static void refused(const struct page *page, const char *what, uint16_t status) {
    fprintf(stderr, "ledger: %s: %s, status %s, our newest token %" PRIu64 "\n", page->name, what,
            wire_client_status_name(status), page->token);
    errors++;
}

// True if there was an answer; else the page is closed.
static bool answered(struct page *page, const struct wire_reply *reply) {
    if (reply->status != WIRE_UNKNOWN) return true;
    fprintf(stderr, "ledger: %s: no answer for a minute: is a majority running?\n", page->name);
    page->unknown = true;
    unknown++;
    return false;
}

static void acquire(struct page *page) {
    struct wire_reply reply =
        wire_client_call(&client, (struct wire_request){.op = WIRE_OP_LOCK_ACQUIRE, .lease = lease},
                         page->name, NULL);
    if (!answered(page, &reply)) return;
    if (reply.status != WIRE_OK) {
        refused(page, "acquire of a free lock refused", reply.status);
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
    if (!answered(page, &reply)) return;
    if (reply.status != WIRE_OK) refused(page, "an acknowledged grant is lost", reply.status);
    page->held = false;
    releases++;
}

// Renews or revokes; true if that succeeded.
static bool on_lease(uint16_t op, const char *what) {
    struct wire_reply reply =
        wire_client_call(&client, (struct wire_request){.op = op, .lease = lease}, "", NULL);
    if (reply.status == WIRE_OK) return true;
    fprintf(stderr, "ledger: %s of the lease failed: %s\n", what,
            wire_client_status_name(reply.status));
    errors++;
    return false;
}

static void audit(void) {
    _Alignas(8) uint8_t value[WIRE_VALUE_MAX];
    for (uint32_t i = 0; i < NAMES; i++) {
        if (pages[i].unknown) continue;
        struct wire_reply reply = wire_client_call(
            &client, (struct wire_request){.op = WIRE_OP_LOCK_HOLDERS}, pages[i].name, value);
        if (!answered(&pages[i], &reply)) continue;
        struct wire_claim claim = {0};
        if (reply.value_length >= sizeof claim) memcpy(&claim, value, sizeof claim);
        uint64_t holders = pages[i].held ? 1 : 0;
        uint64_t expected = pages[i].held ? pages[i].token : 0;
        if (reply.status != WIRE_OK)
            refused(&pages[i], "holders cannot be read", reply.status);
        else if (reply.amount != holders)
            wrong(&pages[i], "number of holders: expected, found", holders, reply.amount);
        else if (claim.token != expected)
            wrong(&pages[i], "books and cluster differ: expected, found", expected, claim.token);
    }
}

static void work(uint64_t seconds) {
    uint64_t begun_ns = wire_client_now_ns(), renewed_ns = begun_ns, now_ns = begun_ns;
    srand(1);
    while (!stop && unknown == 0 && now_ns - begun_ns < seconds * 1000000000ull) {
        struct page *page = &pages[(unsigned)rand() % NAMES];
        if (page->held)
            release(page);
        else
            acquire(page);
        if (now_ns - renewed_ns > RENEW_NS) {
            (void)on_lease(WIRE_OP_LEASE_KEEPALIVE, "renewal");
            renewed_ns = now_ns;
        }
        uint64_t done_ns = wire_client_now_ns();
        if (done_ns - now_ns > longest_ns) longest_ns = done_ns - now_ns;
        now_ns = done_ns;
    }
}

static bool begin(void) {
    uint16_t status = wire_client_begin(&client);
    struct wire_reply reply = {.status = status};
    if (status == WIRE_OK)
        reply = wire_client_call(
            &client, (struct wire_request){.op = WIRE_OP_LEASE_GRANT, .amount = LEASE_MS}, "",
            NULL);
    if (reply.status != WIRE_OK) {
        fprintf(stderr, "ledger: no session or lease: %s; is a majority running?\n",
                wire_client_status_name(reply.status));
        return false;
    }
    lease = reply.token;
    for (uint32_t i = 0; i < NAMES; i++) // nobody else's, not even an earlier run's
        snprintf(pages[i].name, sizeof pages[i].name, "ledger/%" PRIu64 "/%u", client.session, i);
    return true;
}

int main(int argc, char **argv) {
    char *end = NULL;
    uint64_t seconds = argc == 3 ? strtoull(argv[2], &end, 10) : 0;
    if (argc != 3 || *end != 0) {
        fprintf(stderr,
                "usage: ledger ADDRESS:PORT,... SECONDS\n"
                "Takes and gives back locks until SECONDS passed or SIGTERM, then audits.\n");
        return 2;
    }
    char error[256] = "";
    const char *bad = wire_client_add_nodes(&client, argv[1]);
    if (bad != NULL || client.node_count == 0) {
        fprintf(stderr, "ledger: '%s' is not ADDRESS:PORT, or there are more than %u\n",
                bad != NULL ? bad : argv[1], WIRE_CLIENT_NODES_MAX);
        return 2;
    }
    client.port = port_udp_open(&(struct port_udp_options){.buffer_bytes = 1u << 20}, error);
    if (client.port == NULL) {
        fprintf(stderr, "ledger: %s\n", error);
        return 2;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    if (!begin()) return 1;
    work(seconds);
    audit();
    if (unknown == 0 && on_lease(WIRE_OP_LEASE_REVOKE, "revocation")) {
        for (uint32_t i = 0; i < NAMES; i++) pages[i].held = false;
        audit();
    }
    printf("{\"grants\": %" PRIu64 ", \"releases\": %" PRIu64 ", \"resent\": %" PRIu64
           ", \"longest_ms\": %.1f, \"unknown\": %" PRIu64 ", \"errors\": %" PRIu64 "}\n",
           grants, releases, client.resent, (double)longest_ns / 1e6, unknown, errors);
    client.port->ops->close(client.port);
    return errors != 0 || unknown != 0 || grants == 0;
}
