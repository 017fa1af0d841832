// conclave lease: leases by hand, for scripts that hold several things under one, or for operators.
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "loop.h"

static const char help[] =
    "conclave lease grant TTL            a new lease; nothing renews it by itself\n"
    "conclave lease keepalive LEASE      renew it until ended by a signal; it then runs out\n"
    "conclave lease keepalive LEASE --once\n"
    "                                    renew it once for its whole TTL\n"
    "conclave lease revoke LEASE         end it now, with all that is held under it\n"
    "conclave lease ttl LEASE            how long it still lives\n"
    "\n"
    "TTL is a duration from 10ms to 24h, LEASE the number that grant prints. In the simple form "
    "grant\n"
    "prints nothing else, so that LEASE=$(conclave lease grant 60s) works.\n"
    "\n"
    "Exit status: 0 done, 5 no such lease or it was lost, 6 no final answer, 7 no answer, 8 "
    "refused,\n"
    "2 usage.\n"
    "\n"
    "Example:\n"
    "  $ LEASE=$(conclave lease grant 60s)\n"
    "  $ conclave lease keepalive \"$LEASE\" --once\n"
    "  $ conclave lease revoke \"$LEASE\"\n";

static const struct column columns[] = {
    {"lease", "LEASE", COLUMN_NUMBER, true},
    {"ttl_ms", "TTL", COLUMN_MS, false},
    {"remaining_ms", "REMAINING", COLUMN_MS, false},
    {NULL, NULL, COLUMN_TEXT, false},
};
enum { LEASE, TTL, REMAINING };

struct lease {
    struct cli *cli;
    bool once;
    uint64_t number;
    char what[40];
    bool lost;
    enum conclave_status lost_reason;
};

static void print(const struct lease *lease, const uint64_t *ttl_ms, const uint64_t *remaining_ms) {
    struct records records;
    records_begin(&records, columns);
    struct cell *cells = records_add(&records);
    cell_number(&cells[LEASE], lease->number);
    if (ttl_ms) cell_number(&cells[TTL], *ttl_ms);
    if (remaining_ms) cell_number(&cells[REMAINING], *remaining_ms);
    cli_print(lease->cli, &records, NULL, NULL);
    (void)fflush(stdout);
}

static int failed(const struct lease *lease, enum conclave_status status) {
    return cli_failed(lease->cli, lease->cli->handle, lease->what, status);
}

// ---------------------------------------------------------------- actions

static int lease_grant(struct lease *lease, const char *text) {
    uint64_t ttl_ms;
    if (!parse_duration("TTL", text, CONCLAVE_TTL_MS_MIN, CONCLAVE_TTL_MS_MAX, &ttl_ms)) {
        return EXIT_USAGE;
    }
    (void)snprintf(lease->what, sizeof lease->what, "A new lease");
    enum exit_status opened = cli_open(lease->cli);
    if (opened != EXIT_DONE) return opened;
    enum conclave_status status = conclave_lease_grant(lease->cli->handle, ttl_ms, &lease->number);
    if (status != CONCLAVE_OK) return failed(lease, status);
    // In the simple form the number alone, for $( ).
    print(lease, lease->cli->format == OUTPUT_SIMPLE ? NULL : &ttl_ms, NULL);
    return EXIT_DONE;
}

static void lost(void *context, uint64_t number, enum conclave_status reason) {
    struct lease *lease = context;
    lease->lost = true;
    lease->lost_reason = reason;
}

static int keep(struct lease *lease, struct loop *loop, struct outcome *adopting) {
    struct conclave_lease_options options = {.on_lost = lost, .context = lease};
    int ending = 0;
    enum conclave_status started = conclave_lease_adopt_start(lease->cli->handle, lease->number,
                                                              &options, outcome_told, adopting);
    enum conclave_status status = outcome_wait(adopting, loop, started, UINT64_MAX, &ending);
    if (ending) return EXIT_SIGNAL_BASE + ending;
    if (status != CONCLAVE_OK) return failed(lease, status);
    print(lease, &adopting->result.ttl_ms, NULL);
    while (!lease->lost) {
        int came = loop_wait(loop, UINT64_MAX);
        if (came && came != SIGCHLD) return EXIT_DONE;
    }
    bool unsure = lease->lost_reason == CONCLAVE_UNKNOWN;
    output_error("%s was lost. %s", lease->what,
                 unsure ? "It could not be renewed in time: check that the nodes run and can be "
                          "reached."
                        : conclave_status_sentence(lease->lost_reason));
    return EXIT_LOST;
}

static int lease_keepalive(struct lease *lease) {
    if (lease->once) {
        uint64_t ttl_ms;
        enum conclave_status status =
            conclave_lease_keepalive(lease->cli->handle, lease->number, &ttl_ms);
        if (status != CONCLAVE_OK) return failed(lease, status);
        print(lease, &ttl_ms, NULL);
        return EXIT_DONE;
    }
    struct loop loop;
    struct outcome adopting = {0};
    if (!loop_begin(&loop, lease->cli->handle)) return EXIT_SYSTEM;
    int exit_status = keep(lease, &loop, &adopting);
    conclave_close(lease->cli->handle); // here: an open operation speaks to `adopting`
    lease->cli->handle = NULL;
    return exit_status;
}

static int lease_revoke(struct lease *lease) {
    enum conclave_status status = conclave_lease_revoke(lease->cli->handle, lease->number);
    if (status != CONCLAVE_OK) return failed(lease, status);
    print(lease, NULL, NULL);
    return EXIT_DONE;
}

static int lease_ttl(struct lease *lease) {
    uint64_t remaining_ms, ttl_ms;
    enum conclave_status status =
        conclave_lease_ttl(lease->cli->handle, lease->number, &remaining_ms, &ttl_ms);
    if (status != CONCLAVE_OK) return failed(lease, status);
    print(lease, &ttl_ms, &remaining_ms);
    return EXIT_DONE;
}

// ---------------------------------------------------------------- command line

static bool take(void *context, const struct arg *arg) {
    struct lease *lease = context;
    lease->once = true; // the only option
    return true;
}

static int act(struct lease *lease, int (*action)(struct lease *), const char *text) {
    if (!parse_number("LEASE", text, 1, UINT64_MAX - 1, &lease->number)) return EXIT_USAGE;
    (void)snprintf(lease->what, sizeof lease->what, "Lease %ju", (uintmax_t)lease->number);
    enum exit_status opened = cli_open(lease->cli);
    return opened == EXIT_DONE ? action(lease) : (int)opened;
}

int verb_lease(struct cli *cli, struct args *args) {
    static const struct option_spec options[] = {{0, "once", false}, {0, NULL, false}};
    static const char *const names[] = {"What to do (grant, keepalive, revoke or ttl)",
                                        "The TTL or the lease's number"};
    struct lease lease = {.cli = cli};
    struct verb_words words = {
        .options = options,
        .take = take,
        .context = &lease,
        .names = names,
        .min = 2,
        .max = 2,
        .help = help,
    };
    const char *word[2];
    int ends = cli_words(cli, args, &words, word);
    if (ends >= 0) return ends;
    bool keeps = strcmp(word[0], "keepalive") == 0;
    if (lease.once && !keeps) {
        output_error("--once belongs to lease keepalive.");
        return EXIT_USAGE;
    }
    if (keeps) return act(&lease, lease_keepalive, word[1]);
    if (strcmp(word[0], "grant") == 0) return lease_grant(&lease, word[1]);
    if (strcmp(word[0], "revoke") == 0) return act(&lease, lease_revoke, word[1]);
    if (strcmp(word[0], "ttl") == 0) return act(&lease, lease_ttl, word[1]);
    output_error("There is no 'lease %s': choose grant, keepalive, revoke or ttl.", word[0]);
    return EXIT_USAGE;
}
