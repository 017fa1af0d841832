// See args.h.
#include "args.h"

#include <stdio.h>
#include <string.h>

#include "conclave.h"
#include "output.h"

static const struct option_spec *find_long(const struct option_spec *list, const char *name,
                                           size_t length) {
    for (; list && list->name; list++) {
        if (strlen(list->name) == length && memcmp(list->name, name, length) == 0) return list;
    }
    return NULL;
}

static const struct option_spec *find_short(const struct option_spec *list, char name) {
    for (; list && list->name; list++) {
        if (list->short_name && list->short_name == name) return list;
    }
    return NULL;
}

static struct arg bad_option(const struct args *args, const char *word, const char *trouble) {
    const char *verb = args->verb ? args->verb : "";
    output_error("Option '%s' %s: see conclave %s%s--help.", word, trouble, verb, *verb ? " " : "");
    return (struct arg){.kind = ARG_BAD};
}

static struct arg with_value(struct args *args, const struct option_spec *spec, const char *word,
                             const char *attached) {
    struct arg arg = {.kind = ARG_OPTION, .spec = spec, .text = attached};
    if (!spec->takes_value && attached) return bad_option(args, word, "takes no value");
    if (spec->takes_value && !attached) {
        if (args->at >= args->count) return bad_option(args, word, "needs a value after it");
        arg.text = args->words[args->at++];
    }
    return arg;
}

struct arg args_next(struct args *args, const struct option_spec *own,
                     const struct option_spec *common) {
    if (args->at >= args->count) return (struct arg){.kind = ARG_END};
    const char *word = args->words[args->at++];
    if (args->words_only || word[0] != '-' || word[1] == 0)
        return (struct arg){.kind = ARG_WORD, .text = word};
    const struct option_spec *spec;
    const char *attached;
    if (word[1] == '-') {
        if (word[2] == 0) {
            args->rest = true;
            return (struct arg){.kind = ARG_REST};
        }
        size_t length = strcspn(word + 2, "=");
        spec = find_long(own, word + 2, length);
        if (!spec) spec = find_long(common, word + 2, length);
        attached = word[2 + length] ? word + 3 + length : NULL;
    } else { // one letter, its value attached or after it; flags are not bundled
        spec = find_short(own, word[1]);
        if (!spec) spec = find_short(common, word[1]);
        attached = word[2] ? word + 2 : NULL;
    }
    if (!spec) return bad_option(args, word, "is not known here");
    return with_value(args, spec, word, attached);
}

bool arg_is(const struct arg *arg, const char *name) {
    return arg->kind == ARG_OPTION && strcmp(arg->spec->name, name) == 0;
}

// ---------------------------------------------------------------- values

// Digits at the front; their count, 0 for none. A number too large for 64 bits is UINT64_MAX.
static size_t take_digits(const char *text, uint64_t *number) {
    size_t digits = 0;
    uint64_t value = 0;
    bool over = false;
    for (; text[digits] >= '0' && text[digits] <= '9'; digits++) {
        uint64_t digit = (uint64_t)(text[digits] - '0');
        over |= __builtin_mul_overflow(value, 10, &value);
        over |= __builtin_add_overflow(value, digit, &value);
    }
    *number = over ? UINT64_MAX : value;
    return digits;
}

bool parse_number(const char *what, const char *text, uint64_t min, uint64_t max,
                  uint64_t *number) {
    uint64_t value;
    size_t digits = take_digits(text, &value);
    if (digits == 0 || text[digits] != 0) {
        output_error("%s '%s' is not a whole number in decimal digits: write for example %ju.",
                     what, text, (uintmax_t)(min ? min : 1));
        return false;
    }
    if (value < min || value > max) {
        output_error("%s '%s' is out of range: it must be from %ju to %ju.", what, text,
                     (uintmax_t)min, (uintmax_t)max);
        return false;
    }
    *number = value;
    return true;
}

static uint64_t unit_ms(const char *unit) {
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(units[i].name, unit) == 0) return units[i].ms;
    }
    return 0;
}

bool parse_duration(const char *what, const char *text, uint64_t min_ms, uint64_t max_ms,
                    uint64_t *ms) {
    uint64_t value;
    size_t digits = take_digits(text, &value);
    uint64_t unit = unit_ms(text + digits);
    if (digits == 0 || unit == 0) {
        output_error("%s '%s' is not a duration: write a whole number and its unit, ms, s, m or h, "
                     "for example 500ms, 5s, 2m, 1h.",
                     what, text);
        return false;
    }
    bool over = __builtin_mul_overflow(value, unit, &value);
    if (over || value < min_ms || value > max_ms) {
        char least[DURATION_BYTES], most[DURATION_BYTES];
        output_error("%s '%s' is out of range: it must be from %s to %s.", what, text,
                     duration_text(min_ms, least), duration_text(max_ms, most));
        return false;
    }
    *ms = value;
    return true;
}

// Bytes of the UTF-8 sequence at text, 0 if it is none or a control character.
static size_t shown_sequence(const unsigned char *text) {
    unsigned char c = text[0];
    if (c < 0x80) return c >= 0x20 && c != 0x7f;
    size_t length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4) return 0;
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
    }
    unsigned char d = text[1];
    bool overlong = (c == 0xe0 && d < 0xa0) || (c == 0xf0 && d < 0x90);
    bool not_unicode = (c == 0xed && d >= 0xa0) || (c == 0xf4 && d >= 0x90);
    bool control = c == 0xc2 && d < 0xa0; // C1: U+0080 to U+009F
    return overlong || not_unicode || control ? 0 : length;
}

bool check_lock_name(const char *text) {
    size_t bytes = strlen(text);
    if (bytes == 0 || bytes > CONCLAVE_NAME_MAX) {
        output_error("A lock's name has 1 to %d bytes, this one has %zu: choose another.",
                     CONCLAVE_NAME_MAX, bytes);
        return false;
    }
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        size_t step = shown_sequence(at);
        if (step == 0) {
            output_error(
                "The lock's name has a control character or invalid UTF-8 at byte %td: use "
                "characters that can be shown.",
                at - (const unsigned char *)text + 1);
            return false;
        }
        at += step;
    }
    return true;
}

const char *duration_text(uint64_t ms, char text[DURATION_BYTES]) {
    uint64_t s = ms / 1000, m = s / 60, h = m / 60, d = h / 24;
    if (ms < 1000) {
        (void)snprintf(text, DURATION_BYTES, "%jums", (uintmax_t)ms);
    } else if (s < 60 && ms % 1000) {
        (void)snprintf(text, DURATION_BYTES, "%ju.%jus", (uintmax_t)s,
                       (uintmax_t)(ms % 1000 / 100));
    } else if (s < 60) {
        (void)snprintf(text, DURATION_BYTES, "%jus", (uintmax_t)s);
    } else if (m < 60) {
        (void)snprintf(text, DURATION_BYTES, "%jum%02jus", (uintmax_t)m, (uintmax_t)(s % 60));
    } else if (h < 48) {
        (void)snprintf(text, DURATION_BYTES, "%juh%02jum", (uintmax_t)h, (uintmax_t)(m % 60));
    } else {
        (void)snprintf(text, DURATION_BYTES, "%jud%02juh", (uintmax_t)d, (uintmax_t)(h % 24));
    }
    return text;
}
