// What the files of the configuration share: config.c (lines), config_keys.c (the table),
// config_value.c (values to and from text), config_check.c (keys against each other).
#ifndef CONCLAVE_CONFIG_INTERNAL_H
#define CONCLAVE_CONFIG_INTERNAL_H

#include "config.h"

struct config_reader {
    struct config *config;
    struct config_errors *errors;
    const char *name; // of the file
    const char *text; // what is left of it
    size_t bytes;
    uint32_t line; // being read
    bool unknown;  // inside a section that is not known: its keys were refused with it
    uint64_t bad;  // bit i: key i of the table was refused
};
static_assert(CONFIG_KEYS_MAX <= 64, "a bit for each key");

// where: "[section] key" or "[section]" or "". line 0: none.
void config_error(struct config_reader *reader, uint32_t line, const char *section, const char *key,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

// Parses and stores. False with a reason, and what is allowed, in `why`.
bool config_set(struct config *config, const struct config_key *key, const char *value, char *why,
                size_t bytes);
// As config_set() reads it; "" when there is nothing to write.
void config_get(const struct config *config, const struct config_key *key, char *text,
                size_t bytes);
uint64_t config_number(const struct config *config, const struct config_key *key);
bool config_key_applies(const struct config *config, const struct config_key *key);
const struct config_key *config_find(const char *section, const char *name);
uint32_t config_key_line(const struct config *config, const char *section, const char *name);

void config_check(struct config_reader *reader);

#endif
