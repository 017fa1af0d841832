// The command line, word by word, and the values people write in it.
//
// Options may stand anywhere before "--": `conclave status -w json` and `conclave -w json status`
// mean the same. Long options are written out in full, so that a script goes on working when a
// later version knows more of them. Everything refused is refused with one sentence on stderr that
// names the word, what is wrong with it and what is allowed.
#ifndef CONCLAVE_CLI_ARGS_H
#define CONCLAVE_CLI_ARGS_H

#include <stdbool.h>
#include <stdint.h>

struct option_spec {
    char short_name;  // 0: none
    const char *name; // without dashes; NULL ends a list
    bool takes_value;
};

struct args { // what is left to read
    int count;
    char **words;
    int at;
    bool words_only;  // no options follow
    bool rest;        // "--" was met
    const char *verb; // for messages; NULL before it is known
};

enum arg_kind { ARG_END, ARG_WORD, ARG_OPTION, ARG_REST, ARG_BAD };

struct arg {
    enum arg_kind kind;
    const char *text;               // ARG_WORD; ARG_OPTION: its value or NULL
    const struct option_spec *spec; // ARG_OPTION
};

// The next word by the options of two lists (the second may be NULL). ARG_REST: "--" was met,
// args->rest is set and args->at is the word after it. ARG_BAD: told on stderr.
struct arg args_next(struct args *args, const struct option_spec *own,
                     const struct option_spec *common);

// Is this the option of that name?
bool arg_is(const struct arg *arg, const char *name);

// Each returns false after a sentence on stderr; `what` names the thing in it: "--ttl", "LEASE".

// "10ms", "5s", "2m", "1h": a whole number and its unit, nothing else, within [min_ms, max_ms].
bool parse_duration(const char *what, const char *text, uint64_t min_ms, uint64_t max_ms,
                    uint64_t *ms);
// A decimal number within [min, max].
bool parse_number(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *number);
// A lock's name: 1 to 255 bytes of UTF-8 without control characters, so that it can be shown.
bool check_lock_name(const char *text);

#define DURATION_BYTES 24
// For people: "950ms", "12.3s", "4m05s", "2h10m", "3d04h".
const char *duration_text(uint64_t ms, char text[DURATION_BYTES]);

#endif
