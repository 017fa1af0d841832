// What the verbs of `conclave` share: the options that hold for all of them, opening the cluster,
// and saying why something did not work.
//
// One file per verb. A verb reads its own words, opens the cluster, does its one thing, prints it
// in the form asked for and returns its exit status.
#ifndef CONCLAVE_CLI_H
#define CONCLAVE_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "args.h"
#include "conclave.h"
#include "exit_status.h"
#include "output.h"

#define CLI_ENDPOINTS_DEFAULT "127.0.0.1:7100,127.0.0.1:7101,127.0.0.1:7102"

struct cli {
    const char *endpoints;
    bool endpoints_given; // by -e or CONCLAVE_ENDPOINTS, else the default
    enum output_format format;
    uint32_t timeout_ms; // 0: the verb's default
    conclave_t *handle;  // of cli_open()
};

// The options that every verb takes. Each is told in --help.
extern const struct option_spec cli_options[];
extern const char cli_options_help[];

enum taken { TAKEN, TAKEN_HELP, NOT_TAKEN, TAKEN_BAD };
// Takes a common option. NOT_TAKEN: it is the verb's own. TAKEN_HELP: --help was asked for.
enum taken cli_take(struct cli *cli, const struct arg *arg);

// Words of a verb: up to `max` positional ones, at least `min`, into words[]. Own options go to
// `take`, which returns false after a sentence. `help` is printed for --help. Returns -1 to go on,
// else the exit status to end with. "--" and what follows is left to the verb if `rest`.
struct verb_words {
    const struct option_spec *options; // own; NULL: none
    bool (*take)(void *context, const struct arg *arg);
    void *context;
    const char *const *names; // of the words, for messages: "NAME"
    int min, max;
    bool rest; // takes "-- CMD ARGS"
    const char *help;
};
int cli_words(struct cli *cli, struct args *args, const struct verb_words *verb,
              const char **words);

// Opens cli->handle. EXIT_DONE, or the status to end with after a sentence.
enum exit_status cli_open(struct cli *cli);
uint32_t cli_timeout_ms(const struct cli *cli, uint32_t otherwise);
// Says that `what` ("lock 'demo'") did not work, why, and what stands in the way; the exit status.
enum exit_status cli_failed(const struct cli *cli, conclave_t *handle, const char *what,
                            enum conclave_status status);
// Where the endpoints came from, if that may be the trouble; "" else.
const char *cli_endpoints_hint(const struct cli *cli);
// Prints the records as asked. For JSON they are put into `object` as `key`, or, without an object,
// the first record is printed by itself. Ends the records.
void cli_print(const struct cli *cli, struct records *records, json_t *object, const char *key);

int verb_lock(struct cli *cli, struct args *args);
int verb_lease(struct cli *cli, struct args *args);
int verb_holders(struct cli *cli, struct args *args);
int verb_queue(struct cli *cli, struct args *args);
int verb_status(struct cli *cli, struct args *args);
int verb_counters(struct cli *cli, struct args *args);

#endif
