// conclave lock: a lock held while a command runs, or until a signal.
//
//   grant a lease --> acquire --> run CMD ------ CMD ends -----> revoke the lease --> CMD's status
//                                    |
//                                    +-- the lease is lost: SIGTERM, then SIGKILL while it surely
//                                        still lives at the server --> EXIT_LOST
//
// One lease carries the lock, so that one entry in the log gives all back, and a killed program
// gives all back by its TTL.
//
// When CMD must end. libconclave takes the lease for lost `grace` before the server can expire it
// (margin_ms of conclave_lease_open). CMD's group gets SIGTERM then, and SIGKILL a little before
// the grace is over. If the server itself says that the lease is gone, or if we have overslept,
// there is no time left: SIGKILL at once. A CMD on a machine that is suspended or stopped whole
// cannot be ended in time by anybody on that machine: what the lock protects should check
// CONCLAVE_TOKEN.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "command.h"
#include "loop.h"

static const char help[] =
    "conclave lock NAME [options] -- CMD ARGS    run CMD while holding the lock NAME\n"
    "conclave lock NAME [options]                print the fencing token and hold until ended by\n"
    "                                            a signal (SIGINT, SIGTERM, SIGHUP)\n"
    "\n"
    "  --ttl DURATION      of the lease under the lock: if this machine dies, the lock is free\n"
    "                      again after so long (default 5s; 10ms to 24h)\n"
    "  --try               do not wait if another holds it\n"
    "  --wait DURATION     wait at most so long (default: for ever, first come first served)\n"
    "  --grace DURATION    between SIGTERM and SIGKILL for CMD when the lock is lost (default a\n"
    "                      quarter of the TTL; at most half)\n"
    "  --exit-base N       add N (0 to 110) to our own exit statuses, to tell them from CMD's\n"
    "\n"
    "CMD finds in its environment\n"
    "  CONCLAVE_LOCK       NAME\n"
    "  CONCLAVE_TOKEN      the fencing token: it rises with every grant of this lock. Hand it to\n"
    "                      what you write to, and let that refuse lower ones than it has seen.\n"
    "  CONCLAVE_LEASE      the lease, for conclave lease ttl\n"
    "  CONCLAVE_ENDPOINTS  the nodes\n"
    "\n"
    "The lease is renewed every third of its TTL while CMD runs. SIGINT, SIGTERM, SIGHUP and "
    "SIGQUIT\n"
    "are passed on to CMD's process group. If the lease cannot be renewed, CMD's process group "
    "gets\n"
    "SIGTERM a grace before the cluster can give the lock to another, and SIGKILL before that\n"
    "happens; if the cluster says that the lease is gone already, SIGKILL at once. If this "
    "program\n"
    "is killed, CMD gets SIGKILL from the kernel (what CMD started does not). A CMD that becomes\n"
    "another user (sudo) cannot be ended by us: put conclave inside of it.\n"
    "Stopped by Ctrl-Z, both stop; nothing renews the lease then, and if it is lost CMD is ended "
    "as\n"
    "soon as it is continued.\n"
    "\n"
    "Exit status: CMD's own (128 + N if signal N ended it), 126 if CMD cannot be executed, 127 if\n"
    "there is none; or 3 held by another (--try), 4 not free in time (--wait), 5 lost while held,\n"
    "6 no final answer, 7 no answer, 8 refused, 2 usage. Without CMD, 0 after a signal ended it.\n"
    "\n"
    "Example:\n"
    "  $ conclave lock nightly-backup --ttl 10s --wait 1m -- ./backup.sh /srv\n";

struct lock {
    struct cli *cli;
    const char *name;
    char **words; // CMD; NULL: none
    char what[32 + CONCLAVE_NAME_MAX];

    uint64_t ttl_ms;
    uint64_t wait_ms; // 0: try; CONCLAVE_WAIT_FOREVER
    uint64_t grace_ms;
    uint64_t exit_base;
    bool tries, waits; // the options were given

    struct loop loop;
    struct outcome opening, acquiring, closing;
    uint64_t lease; // 0: none
    uint64_t token;
    uint64_t deadline_ms; // the lease surely lives until then, as of the last renewal seen
    bool lost;
    enum conclave_status lost_reason;
    int ending; // the signal that ends us
};

// ---------------------------------------------------------------- command line

static const struct option_spec options[] = {
    {0, "ttl", true},   {0, "try", false},      {0, "wait", true},
    {0, "grace", true}, {0, "exit-base", true}, {0, NULL, false},
};

static bool take(void *context, const struct arg *arg) {
    struct lock *lock = context;
    const uint64_t max_ms = CONCLAVE_TTL_MS_MAX;
    if (arg_is(arg, "ttl")) {
        return parse_duration("--ttl", arg->text, CONCLAVE_TTL_MS_MIN, max_ms, &lock->ttl_ms);
    }
    if (arg_is(arg, "wait")) {
        lock->waits = true;
        return parse_duration("--wait", arg->text, 1, max_ms, &lock->wait_ms);
    }
    if (arg_is(arg, "grace")) {
        return parse_duration("--grace", arg->text, 1, max_ms, &lock->grace_ms);
    }
    if (arg_is(arg, "exit-base")) {
        return parse_number("--exit-base", arg->text, 0, EXIT_BASE_MAX, &lock->exit_base);
    }
    lock->tries = true;
    lock->wait_ms = 0;
    return true;
}

static bool check(struct lock *lock) {
    if (!check_lock_name(lock->name)) return false;
    if (lock->tries && lock->waits) {
        output_error("--try and --wait exclude each other: --try does not wait at all.");
        return false;
    }
    if (lock->grace_ms == 0) lock->grace_ms = lock->ttl_ms / 4;
    if (lock->grace_ms > lock->ttl_ms / 2) {
        output_error("--grace is more than half of --ttl: nothing would be left to renew the lease "
                     "in. Lower it, or raise --ttl.");
        return false;
    }
    return true;
}

static int refuse_command(const struct lock *lock, int error) {
    if (error == ENOENT) {
        output_error("There is no command '%s': check its spelling and PATH.", lock->words[0]);
        return EXIT_NOT_FOUND;
    }
    output_error("The command '%s' cannot be executed: %s.", lock->words[0], strerror(error));
    return EXIT_NOT_RUN;
}

// ---------------------------------------------------------------- getting it

static void lease_lost(void *context, uint64_t lease, enum conclave_status reason) {
    struct lock *lock = context;
    lock->lost = true;
    lock->lost_reason = reason;
}

static void note_deadline(struct lock *lock) {
    uint64_t remaining_ms = conclave_lease_remaining_ms(lock->cli->handle, lock->lease);
    if (remaining_ms) lock->deadline_ms = loop_now_ms() + remaining_ms;
}

static enum conclave_status open_lease(struct lock *lock) {
    struct conclave_lease_options keep = {
        .ttl_ms = lock->ttl_ms,
        .margin_ms = lock->grace_ms,
        .on_lost = lease_lost,
        .context = lock,
    };
    lock->lost = false;
    lock->opening = (struct outcome){0};
    enum conclave_status started =
        conclave_lease_open_start(lock->cli->handle, &keep, outcome_told, &lock->opening);
    enum conclave_status status =
        outcome_wait(&lock->opening, &lock->loop, started, UINT64_MAX, &lock->ending);
    lock->lease = status == CONCLAVE_OK ? lock->opening.result.lease : 0;
    // Granted, but the answer took longer than the lease lives: as good as none.
    return status == CONCLAVE_LEASE_EXPIRED ? CONCLAVE_TIMEOUT : status;
}

static enum conclave_status acquire(struct lock *lock, uint64_t end_ms) {
    uint64_t wait_ms = lock->wait_ms;
    if (end_ms != UINT64_MAX && wait_ms > 0) {
        uint64_t now_ms = loop_now_ms();
        wait_ms = end_ms > now_ms ? end_ms - now_ms : 0;
    }
    lock->acquiring = (struct outcome){0};
    enum conclave_status started = conclave_lock_acquire_start(
        lock->cli->handle, lock->name, lock->lease, wait_ms, outcome_told, &lock->acquiring);
    enum conclave_status status =
        outcome_wait(&lock->acquiring, &lock->loop, started, UINT64_MAX, &lock->ending);
    lock->token = lock->acquiring.result.token;
    return status;
}

// With its queue place lost together with the lease, a waiter queues again, at the end, as long as
// it was told to wait; and then it also waits for a cluster that does not answer.
static enum conclave_status get(struct lock *lock) {
    bool forever = lock->wait_ms == CONCLAVE_WAIT_FOREVER;
    uint64_t end_ms = forever ? UINT64_MAX : loop_now_ms() + lock->wait_ms;
    bool again = false;
    for (;;) {
        enum conclave_status status = open_lease(lock);
        bool silent = status == CONCLAVE_TIMEOUT || status == CONCLAVE_UNKNOWN;
        bool lost = false;
        if (status == CONCLAVE_OK) {
            status = acquire(lock, end_ms);
            lost = status == CONCLAVE_LEASE_EXPIRED || status == CONCLAVE_NO_LEASE;
        }
        if (lost) {
            (void)conclave_lease_forget(lock->cli->handle, lock->lease);
            lock->lease = 0;
        }
        if (lock->ending || lock->wait_ms == 0 || !(lost || (silent && again))) return status;
        if (loop_now_ms() >= end_ms) return CONCLAVE_WAIT_TIMEOUT;
        if (lost) {
            output_error("The lease was lost while waiting for %s: queueing again, at the end.",
                         lock->what);
        }
        again = true;
    }
}

// ---------------------------------------------------------------- giving it back

#define GIVE_UP_MS 2000u // for a lock that we did not get, from a cluster that may be silent

static enum conclave_status give_back(struct lock *lock, uint64_t patience_ms) {
    if (lock->lease == 0) return CONCLAVE_OK;
    int ending = 0; // a second signal ends the wait
    lock->closing = (struct outcome){0};
    enum conclave_status started =
        conclave_lease_close_start(lock->cli->handle, lock->lease, outcome_told, &lock->closing);
    enum conclave_status status =
        outcome_wait(&lock->closing, &lock->loop, started, loop_now_ms() + patience_ms, &ending);
    bool silent = status == CONCLAVE_UNKNOWN || status == CONCLAVE_TIMEOUT;
    bool unsure = silent || status == CONCLAVE_CLOSED;
    char ttl[DURATION_BYTES];
    if (unsure && lock->token != 0)
        output_error("The cluster did not confirm that %s was given back: it is free after at most "
                     "%s.",
                     lock->what, duration_text(lock->ttl_ms, ttl));
    if (unsure && lock->token == 0)
        output_error(
            "Gave up %s; the cluster did not confirm that: if it was granted meanwhile, it "
            "is free after at most %s.",
            lock->what, duration_text(lock->ttl_ms, ttl));
    lock->lease = 0;
    return status;
}

static int own(const struct lock *lock, enum exit_status status) {
    return status == EXIT_DONE ? EXIT_DONE : (int)(status + lock->exit_base);
}

static int not_got(struct lock *lock, enum conclave_status status) {
    int ending = lock->ending;
    int exit_status = 0;
    if (!ending) {
        uint64_t holder = status == CONCLAVE_WOULD_BLOCK ? lock->token : 0;
        exit_status = own(lock, cli_failed(lock->cli, lock->cli->handle, lock->what, status));
        if (holder) {
            output_error("See conclave holders '%s'; its token is %ju.", lock->name,
                         (uintmax_t)holder);
        }
    }
    (void)give_back(lock, GIVE_UP_MS);
    return ending ? EXIT_SIGNAL_BASE + ending : exit_status;
}

static int was_lost(const struct lock *lock, const char *then, enum conclave_status reason) {
    output_error(
        "%s was lost %s. %s", lock->what, then,
        reason == CONCLAVE_UNKNOWN
            ? "Its lease could not be renewed in time: check that the nodes run and can be "
              "reached; a longer --ttl bridges longer gaps."
            : conclave_status_sentence(reason));
    return own(lock, EXIT_LOST);
}

// ---------------------------------------------------------------- while it is held

static bool print_held(const struct lock *lock) {
    static const struct column columns[] = {
        {"token", "TOKEN", COLUMN_NUMBER, true}, {"lease", NULL, COLUMN_NUMBER, false},
        {"ttl_ms", "TTL", COLUMN_MS, false},     {"name", "LOCK", COLUMN_TEXT, false},
        {NULL, NULL, COLUMN_TEXT, false},
    };
    struct records records;
    records_begin(&records, columns);
    struct cell *cells = records_add(&records);
    cell_number(&cells[0], lock->token);
    cell_number(&cells[1], lock->lease);
    cell_number(&cells[2], lock->ttl_ms);
    cell_text(&cells[3], lock->name);
    cli_print(lock->cli, &records, NULL, NULL);
    return output_flush();
}

static int hold(struct lock *lock) {
    if (!print_held(lock)) { // whoever waits for the token would wait for ever
        (void)give_back(lock, lock->ttl_ms);
        return own(lock, EXIT_SYSTEM);
    }
    while (!lock->lost && !lock->ending) {
        int came = loop_wait(&lock->loop, UINT64_MAX);
        if (came != SIGCHLD) lock->ending = came;
    }
    if (lock->lost) return was_lost(lock, "while it was held", lock->lost_reason);
    enum conclave_status status = give_back(lock, lock->ttl_ms);
    if (status == CONCLAVE_NO_LEASE || status == CONCLAVE_LEASE_EXPIRED) {
        return was_lost(lock, "while it was held", status);
    }
    return EXIT_DONE;
}

static void set_environment(const struct lock *lock) {
    char token[24], lease[24];
    (void)snprintf(token, sizeof token, "%ju", (uintmax_t)lock->token);
    (void)snprintf(lease, sizeof lease, "%ju", (uintmax_t)lock->lease);
    int failed = setenv("CONCLAVE_TOKEN", token, 1) | setenv("CONCLAVE_LEASE", lease, 1) |
                 setenv("CONCLAVE_LOCK", lock->name, 1) |
                 setenv("CONCLAVE_ENDPOINTS", lock->cli->endpoints, 1);
    if (failed) output_no_memory();
}

// The command's last moment after a loss: before the server's expiry, with some time for SIGKILL to
// take effect. Now, if that has passed or the lease is gone already.
static uint64_t kill_time_ms(const struct lock *lock) {
    if (lock->lost_reason != CONCLAVE_UNKNOWN) return 0;
    uint64_t reserve_ms = lock->grace_ms / 8;
    if (reserve_ms < 1) reserve_ms = 1;
    if (reserve_ms > 100) reserve_ms = 100;
    return lock->deadline_ms + lock->grace_ms - reserve_ms;
}

static void supervise(struct lock *lock, const struct command *command) {
    uint64_t kill_ms = UINT64_MAX;
    bool told = false, continued = false;
    for (;;) {
        note_deadline(lock);
        int came = loop_wait(&lock->loop, continued ? 0 : kill_ms);
        if (lock->lost && !told) {
            told = true;
            kill_ms = kill_time_ms(lock);
            command_signal(command, SIGTERM);
        }
        if (came && came != SIGCHLD) command_signal(command, came);
        if (loop_now_ms() >= kill_ms) {
            command_signal(command, SIGKILL);
            kill_ms = UINT64_MAX;
        }
        if (continued) command_continue(command);
        enum command_state state = command_poll(command);
        if (state == COMMAND_ENDED) return;
        bool stopped = state == COMMAND_STOPPED && command->terminal;
        continued = stopped && command_stop_along(command);
    }
}

static int run(struct lock *lock) {
    struct command command;
    set_environment(lock);
    int error = command_start(&command, lock->words, &lock->loop.before);
    if (error) {
        int exit_status = refuse_command(lock, error);
        (void)give_back(lock, GIVE_UP_MS);
        return exit_status;
    }
    supervise(lock, &command);
    int exit_status = command_finish(&command, lock->lost);
    if (lock->lost) {
        return was_lost(lock, "while the command ran, which was ended", lock->lost_reason);
    }
    enum conclave_status status = give_back(lock, lock->ttl_ms);
    if (status == CONCLAVE_NO_LEASE || status == CONCLAVE_LEASE_EXPIRED) {
        return was_lost(lock, "before the command ended", status);
    }
    return exit_status;
}

static int get_and_hold(struct lock *lock) {
    if (!loop_begin(&lock->loop, lock->cli->handle)) return own(lock, EXIT_SYSTEM);
    enum conclave_status status = get(lock);
    if (status != CONCLAVE_OK) return not_got(lock, status);
    note_deadline(lock);
    return lock->words ? run(lock) : hold(lock);
}

int verb_lock(struct cli *cli, struct args *args) {
    static const char *const names[] = {"NAME"};
    struct lock lock = {.cli = cli, .ttl_ms = 5000, .wait_ms = CONCLAVE_WAIT_FOREVER};
    struct verb_words words = {
        .options = options,
        .take = take,
        .context = &lock,
        .names = names,
        .min = 1,
        .max = 1,
        .rest = true,
        .help = help,
    };
    int ends = cli_words(cli, args, &words, &lock.name);
    if (ends >= 0) return own(&lock, (enum exit_status)ends);
    if (!check(&lock)) return own(&lock, EXIT_USAGE);
    (void)snprintf(lock.what, sizeof lock.what, "Lock '%s'", lock.name);
    if (args->rest && args->at == args->count) {
        output_error("There is no command after '--': name one, or leave out '--' to hold the lock "
                     "until a signal.");
        return own(&lock, EXIT_USAGE);
    }
    if (args->rest) lock.words = args->words + args->at;
    int error = lock.words ? command_find(lock.words[0]) : 0;
    if (error) return refuse_command(&lock, error);
    enum exit_status opened = cli_open(cli);
    int exit_status = opened == EXIT_DONE ? get_and_hold(&lock) : own(&lock, opened);
    conclave_close(cli->handle); // here: operations still open speak to `lock`
    cli->handle = NULL;
    return exit_status;
}
