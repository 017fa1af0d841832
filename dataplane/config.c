// Lines of the file to keys of the table, through inih.
//
// inih is kind where a configuration should not be: it cuts long lines in two, takes "key: value",
// remembers only the first bad line, says nothing about a section without keys and cuts long
// section names. So each line is looked at here before inih gets it, and what is refused here
// reaches inih as an empty line. inih's handler is not told line numbers either: since it asks for
// one line at a time, the reader knows which.
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <ini.h>

#include "config_internal.h"

// With "\r\n" and the terminating zero; [port] eal is the longest value there is.
#define LINE_BYTES ((int)CONFIG_EAL_BYTES + 128)

// ---------------------------------------------------------------- errors

// Kept in order of lines; those of no line come last, those beyond the last place are only counted.
void config_error(struct config_reader *reader, uint32_t line, const char *section, const char *key,
                  const char *format, ...) {
    struct config_errors *errors = reader->errors;
    uint32_t kept = errors->count < CONFIG_ERRORS_MAX ? errors->count : CONFIG_ERRORS_MAX;
    uint32_t place = kept;
    errors->count++;
    while (place > 0 && line != 0 &&
           (errors->list[place - 1].line == 0 || errors->list[place - 1].line > line))
        place--;
    if (place == CONFIG_ERRORS_MAX) return;
    if (kept == CONFIG_ERRORS_MAX) kept--;
    memmove(&errors->list[place + 1], &errors->list[place],
            (kept - place) * sizeof errors->list[0]);
    char number[16] = "", where[160] = "", what[280];
    if (line != 0) snprintf(number, sizeof number, "%u:", line);
    if (section[0] != 0)
        snprintf(where, sizeof where, "[%.60s]%s%.60s: ", section, key[0] != 0 ? " " : "", key);
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    errors->list[place].line = line;
    snprintf(errors->list[place].text, sizeof errors->list[place].text, "%.180s:%s %s%s",
             reader->name, number, where, what);
}

void config_print_errors(const struct config_errors *errors, FILE *out) {
    for (uint32_t i = 0; i < errors->count && i < CONFIG_ERRORS_MAX; i++)
        fprintf(out, "%s\n", errors->list[i].text);
    if (errors->count > CONFIG_ERRORS_MAX)
        fprintf(out, "and %u more\n", errors->count - CONFIG_ERRORS_MAX);
}

// ---------------------------------------------------------------- sections

static bool section_known(const char *section) {
    uint32_t count;
    const struct config_key *keys = config_keys(&count);
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(keys[i].section, section) == 0) return true;
    return false;
}

// The sections there are, or the keys of one.
static void list_names(const char *section, char *text, size_t bytes) {
    uint32_t count;
    const struct config_key *keys = config_keys(&count);
    const char *last = "";
    size_t used = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < count && used < bytes; i++) {
        if (section != NULL ? strcmp(keys[i].section, section) != 0
                            : strcmp(keys[i].section, last) == 0)
            continue;
        last = keys[i].section;
        used += (size_t)snprintf(text + used, bytes - used, section ? "%s%s" : "%s[%s]",
                                 used > 0 ? ", " : "", section ? keys[i].name : last);
    }
}

// `text` begins with '['.
static bool check_section(struct config_reader *reader, const char *text) {
    char name[64], names[160];
    const char *end = strchr(text, ']');
    size_t length = end != NULL ? (size_t)(end - text) - 1 : 0;
    const char *behind = end != NULL ? end + 1 : text;
    while (end != NULL && isspace((unsigned char)*behind)) behind++;
    reader->unknown = true;
    if (end == NULL || (*behind != 0 && *behind != ';' && *behind != '#')) {
        config_error(reader, reader->line, "", "",
                     "\"%.60s\" is not a section; a line that begins with [ is [section] and "
                     "nothing more",
                     text);
        return false;
    }
    snprintf(name, sizeof name, "%.*s", (int)(length < 60 ? length : 60), text + 1);
    list_names(NULL, names, sizeof names);
    reader->unknown = !section_known(name);
    if (reader->unknown)
        config_error(reader, reader->line, "", "", "[%s]: no such section; allowed: %s", name,
                     names);
    return !reader->unknown;
}

// ---------------------------------------------------------------- lines

// May inih have this line?
static bool check_line(struct config_reader *reader, const char *line, size_t bytes, size_t room) {
    if (memchr(line, 0, bytes) != NULL) {
        config_error(reader, reader->line, "", "",
                     "a byte of value zero; the file must be plain text (UTF-8 or ASCII)");
        return false;
    }
    if (bytes > room) {
        config_error(reader, reader->line, "", "",
                     "the line has %zu bytes; at most %zu are allowed", bytes, room);
        return false;
    }
    char text[LINE_BYTES];
    snprintf(text, sizeof text, "%.*s", (int)bytes, line);
    const char *at = text;
    while (isspace((unsigned char)*at)) at++;
    for (size_t n = strlen(text); n > 0 && isspace((unsigned char)text[n - 1]); n--)
        text[n - 1] = 0;
    if (*at == 0 || *at == ';' || *at == '#') return true;
    if (*at == '[') return check_section(reader, at);
    const char *equals = strchr(at, '='), *comment = strchr(at, ';');
    if (equals == NULL || (comment != NULL && comment < equals) ||
        memchr(at, ':', (size_t)(equals - at)) != NULL) {
        config_error(reader, reader->line, "", "",
                     "\"%.60s\" is neither [section] nor key = value nor a comment (; or #)", at);
        return false;
    }
    return true;
}

static void check_start(struct config_reader *reader) {
    const char *text = reader->text;
    if (reader->bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        config_error(reader, 1, "", "",
                     "the file begins with a byte order mark; save it as UTF-8 without one");
    else if (reader->bytes >= 2 &&
             (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
        config_error(reader, 1, "", "", "the file is UTF-16; save it as plain UTF-8 or ASCII");
    else
        return;
    // One sentence says it; the rest of a UTF-16 file would only repeat it.
    reader->bytes = 0;
}

// inih's fgets: one line, or an empty one in place of what was refused.
static char *next_line(char *buffer, int room, void *context) {
    struct config_reader *reader = context;
    if (reader->bytes == 0) return NULL;
    const char *line = reader->text, *end = memchr(line, '\n', reader->bytes);
    size_t bytes = end != NULL ? (size_t)(end - line) : reader->bytes;
    size_t taken = bytes + (end != NULL);
    reader->line++;
    reader->text += taken;
    reader->bytes -= taken;
    if (bytes > 0 && line[bytes - 1] == '\r') bytes--;
    bool good = check_line(reader, line, bytes, (size_t)room - 2);
    snprintf(buffer, (size_t)room, "%.*s\n", good ? (int)bytes : 0, line);
    return buffer;
}

// ---------------------------------------------------------------- keys

static int on_key(void *context, const char *section, const char *name, const char *value) {
    struct config_reader *reader = context;
    struct config *config = reader->config;
    if (reader->unknown) return 1;
    if (section[0] == 0) {
        config_error(reader, reader->line, "", "",
                     "%.60s: stands before any [section]; put it below the one it belongs to",
                     name);
        return 1;
    }
    const struct config_key *key = config_find(section, name);
    if (key == NULL) {
        char names[160];
        list_names(section, names, sizeof names);
        config_error(reader, reader->line, section, name, "no such key; allowed: %s", names);
        return 1;
    }
    uint32_t count, *line = &config->line[key - config_keys(&count)];
    if (*line != 0) {
        config_error(reader, reader->line, section, name, "given before, in line %u; allowed: once",
                     *line);
        return 1;
    }
    *line = reader->line;
    char why[240];
    if (!config_set(config, key, value, why, sizeof why)) {
        reader->bad |= 1ull << (line - config->line);
        config_error(reader, reader->line, section, name, "%s", why);
    }
    return 1;
}

void config_defaults(struct config *config) {
    uint32_t count;
    const struct config_key *keys = config_keys(&count);
    memset(config, 0, sizeof *config);
    config->topology.port = config->topology.consensus = config->topology.wal = -1;
    for (uint32_t i = 0; i < count; i++) {
        char why[240];
        if (keys[i].rest == NULL) continue;
        bool good = config_set(config, &keys[i], keys[i].rest, why, sizeof why);
        assert(good && "defaults are in range");
        (void)good;
    }
}

void config_derive(struct config *config) {
    struct node_options *o = &config->node;
    // Five in an election time-out: four may be lost before a follower stands.
    // In whole microseconds, the finest unit a file can say.
    if (o->heartbeat_ns == 0) o->heartbeat_ns = o->election_ns / 5 / 1000 * 1000;
    o->memory = config->durability == CONFIG_MEMORY;
    config->endpoint = 0;
    for (uint32_t i = 0; i < o->node_count; i++)
        if (o->nodes[i].id == o->id) config->endpoint = o->nodes[i].endpoint;
}

bool config_parse(struct config *config, const char *name, const char *text, size_t bytes,
                  struct config_errors *errors) {
    struct config_reader reader = {
        .config = config, .errors = errors, .name = name, .text = text, .bytes = bytes};
    config_defaults(config);
    memset(errors, 0, sizeof *errors);
    check_start(&reader);
    bool readable = reader.bytes > 0 || bytes == 0;
    ini_use_stack = false;
    ini_max_line = ini_initial_alloc = LINE_BYTES;
    ini_allow_multiline = false; // an indented key is a key
    if (ini_parse_stream(next_line, &reader, on_key, &reader) == -2)
        config_error(&reader, 0, "", "", "not enough memory to read it");
    if (readable) config_check(&reader);
    config_derive(config);
    return errors->count == 0;
}

bool config_read(struct config *config, const char *path, struct config_errors *errors) {
    struct config_reader reader = {.errors = errors, .name = path};
    memset(errors, 0, sizeof *errors);
    FILE *file = fopen(path, "re");
    char *text = file != NULL ? malloc(CONFIG_FILE_BYTES + 1) : NULL;
    size_t bytes = text != NULL ? fread(text, 1, CONFIG_FILE_BYTES + 1, file) : 0;
    if (text == NULL || ferror(file))
        config_error(&reader, 0, "", "", "cannot be read: %s", strerror(errno));
    else if (bytes > CONFIG_FILE_BYTES)
        config_error(&reader, 0, "", "", "longer than %u bytes: is it a configuration file?",
                     CONFIG_FILE_BYTES);
    else
        config_parse(config, path, text, bytes, errors);
    free(text);
    if (file != NULL) fclose(file);
    return errors->count == 0;
}

// ---------------------------------------------------------------- printing

void config_print(const struct config *config, FILE *out) {
    uint32_t count;
    const struct config_key *keys = config_keys(&count);
    const char *section = "";
    for (uint32_t i = 0; i < count; i++) {
        char text[CONFIG_EAL_BYTES];
        config_get(config, &keys[i], text, sizeof text);
        if (text[0] == 0 || !config_key_applies(config, &keys[i])) continue;
        if (strcmp(section, keys[i].section) != 0)
            fprintf(out, "%s[%s]\n", section[0] != 0 ? "\n" : "", keys[i].section);
        section = keys[i].section;
        fprintf(out, "%s = %s\n", keys[i].name, text);
    }
}
