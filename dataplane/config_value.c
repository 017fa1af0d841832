// Values from text and back. Strict: a value is taken whole or refused, so that "64MB" or "1e6" are
// not half understood. Units are part of the value, never guessed.
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config_internal.h"

struct unit {
    const char *name;
    uint64_t worth;
};
// Largest last: printing takes the last that divides.
static const struct unit durations[] = {
    {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {NULL, 0}};
static const struct unit sizes[] = {
    {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}, {NULL, 0}};
static const struct unit percents[] = {{"", 1}, {"%", 1}, {NULL, 0}};
static const struct unit plain[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(enum config_kind kind) {
    switch (kind) {
    case CONFIG_KIND_DURATION:
        return durations;
    case CONFIG_KIND_SIZE:
        return sizes;
    case CONFIG_KIND_PERCENT:
        return percents;
    default:
        return plain;
    }
}

static bool is_number(enum config_kind kind) {
    return kind == CONFIG_KIND_NUMBER || kind == CONFIG_KIND_CLUSTER || kind == CONFIG_KIND_CPU ||
           kind == CONFIG_KIND_DURATION || kind == CONFIG_KIND_SIZE || kind == CONFIG_KIND_PERCENT;
}

// ---------------------------------------------------------------- what is allowed

static void print_number(uint64_t number, const struct unit *units, char *text, size_t bytes) {
    const struct unit *best = &units[0];
    for (const struct unit *u = units; u->name != NULL; u++)
        if (number != 0 && number % u->worth == 0) best = u;
    snprintf(text, bytes, "%" PRIu64 "%s", number / best->worth, best->name);
}

static void print_choices(const struct config_key *key, char *text, size_t bytes) {
    size_t used = 0;
    for (uint32_t i = 0; key->choices[i] != NULL && used < bytes; i++) {
        const char *between = i == 0 ? "" : key->choices[i + 1] != NULL ? ", " : " or ";
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", between, key->choices[i]);
    }
}

void config_describe_range(const struct config_key *key, char *text, size_t bytes) {
    char low[32], high[32], multiple[32] = "";
    const struct unit *units = units_of(key->kind);
    print_number(key->min, units, low, sizeof low);
    print_number(key->max, units, high, sizeof high);
    if (key->multiple != 0) print_number(key->multiple, units, multiple, sizeof multiple);
    switch (key->kind) {
    case CONFIG_KIND_CHOICE:
        print_choices(key, text, bytes);
        return;
    case CONFIG_KIND_NODES:
        snprintf(text, bytes, "%s to %s of ID@IPV4:PORT, comma-separated", low, high);
        return;
    case CONFIG_KIND_ADDRESS:
        snprintf(text, bytes, "an IPv4 address");
        return;
    case CONFIG_KIND_TEXT:
        snprintf(text, bytes, "%s to %s bytes", low, high);
        return;
    case CONFIG_KIND_CLUSTER:
        snprintf(text, bytes, "%s to 2^64-1, decimal or 0x hexadecimal", low);
        return;
    default:
        snprintf(text, bytes, "%s to %s%s%s%s", low, high,
                 key->power_of_two ? ", a power of two" : "",
                 key->multiple != 0 ? ", a multiple of " : "", multiple);
    }
}

// "is not X; RANGE is allowed", with a word about the usual mistake.
static void refuse(const struct config_key *key, const char *value, const char *problem, char *why,
                   size_t bytes) {
    char range[128];
    config_describe_range(key, range, sizeof range);
    bool comment = strstr(value, " #") != NULL || value[0] == '#';
    snprintf(why, bytes, "\"%.60s\" %s; allowed: %s%s%s", value, problem, range,
             key->kind == CONFIG_KIND_DURATION ? ", in us, ms or s"
             : key->kind == CONFIG_KIND_SIZE   ? ", in KiB, MiB or GiB"
                                               : "",
             comment ? "; a comment behind a value starts with ; and not with #" : "");
}

// ---------------------------------------------------------------- numbers

// Digits only: strtoull() would take blanks, signs and wrap-around.
static const char *take_digits(const char *text, uint32_t base, uint64_t *number, bool *overflow) {
    *number = 0;
    *overflow = false;
    const char *at = text;
    for (;; at++) {
        uint32_t digit = *at >= '0' && *at <= '9'   ? (uint32_t)(*at - '0')
                         : *at >= 'a' && *at <= 'f' ? (uint32_t)(*at - 'a' + 10)
                         : *at >= 'A' && *at <= 'F' ? (uint32_t)(*at - 'A' + 10)
                                                    : base;
        if (digit >= base) return at == text ? NULL : at;
        if (*number > (UINT64_MAX - digit) / base) *overflow = true;
        *number = *number * base + digit;
    }
}

enum parsed { PARSED, PARSED_NOT, PARSED_OVERFLOW };

static enum parsed parse_number(enum config_kind kind, const char *value, uint64_t *number) {
    bool hex = kind == CONFIG_KIND_CLUSTER && strncmp(value, "0x", 2) == 0;
    bool overflow;
    const char *rest = take_digits(hex ? value + 2 : value, hex ? 16 : 10, number, &overflow);
    if (rest == NULL) return PARSED_NOT;
    if (*rest == ' ') rest++;
    for (const struct unit *u = units_of(kind); u->name != NULL; u++) {
        if (strcmp(rest, u->name) != 0) continue;
        if (overflow || *number > UINT64_MAX / u->worth) return PARSED_OVERFLOW;
        *number *= u->worth;
        return PARSED;
    }
    return PARSED_NOT;
}

static void store(struct config *config, const struct config_key *key, uint64_t number) {
    uint8_t *field = (uint8_t *)config + key->offset;
    // Little-endian only, as the wire format is.
    memcpy(field, &number, key->width);
}

uint64_t config_number(const struct config *config, const struct config_key *key) {
    uint64_t number = 0;
    if (key->width <= sizeof number)
        memcpy(&number, (const uint8_t *)config + key->offset, key->width);
    return number;
}

static bool set_number(struct config *config, const struct config_key *key, const char *value,
                       char *why, size_t bytes) {
    static const char *const nouns[] = {[CONFIG_KIND_NUMBER] = "is not a whole number",
                                        [CONFIG_KIND_CLUSTER] = "is not a number",
                                        [CONFIG_KIND_DURATION] = "is not a duration",
                                        [CONFIG_KIND_SIZE] = "is not a size",
                                        [CONFIG_KIND_PERCENT] = "is not a percentage",
                                        [CONFIG_KIND_CPU] = "is not a CPU's number"};
    uint64_t number;
    const char *problem = NULL;
    switch (parse_number(key->kind, value, &number)) {
    case PARSED_NOT:
        problem = nouns[key->kind];
        break;
    case PARSED_OVERFLOW:
        problem = "is out of range";
        break;
    case PARSED:
        if (number < key->min || number > key->max)
            problem = "is out of range";
        else if (key->power_of_two && (number & (number - 1)) != 0)
            problem = "is not a power of two";
        else if (key->multiple != 0 && number % key->multiple != 0)
            problem = "is not a whole multiple";
    }
    if (problem == NULL)
        store(config, key, number);
    else
        refuse(key, value, problem, why, bytes);
    return problem == NULL;
}

// ---------------------------------------------------------------- addresses

// The address of one machine: not 0.0.0.0/8, multicast, reserved or broadcast.
static bool parse_address(const char *text, uint32_t *address) {
    struct in_addr in;
    if (inet_pton(AF_INET, text, &in) != 1) return false;
    *address = ntohl(in.s_addr);
    return *address >> 24 != 0 && *address >> 28 < 0xe;
}

static bool parse_node(char *item, struct node_peer *node) {
    char *at = strchr(item, '@'), *colon = strrchr(item, ':');
    uint64_t id, port;
    uint32_t address;
    if (at == NULL || colon == NULL || colon < at) return false;
    *at = *colon = 0;
    bool good = parse_number(CONFIG_KIND_NUMBER, item, &id) == PARSED && id >= 1 &&
                id <= UINT16_MAX && parse_address(at + 1, &address) &&
                parse_number(CONFIG_KIND_NUMBER, colon + 1, &port) == PARSED && port >= 1 &&
                port <= UINT16_MAX;
    if (good)
        *node = (struct node_peer){.id = (uint16_t)id,
                                   .endpoint = wire_endpoint_pack(address, (uint16_t)port)};
    return good;
}

static const char *node_conflict(const struct node_options *o, const struct node_peer *node) {
    for (uint32_t i = 0; i < o->node_count; i++) {
        if (o->nodes[i].id == node->id) return "has an id that stands in the list already";
        if (o->nodes[i].endpoint == node->endpoint)
            return "has an address and port that stand in the list already";
    }
    return NULL;
}

static char *trim(char *text) {
    while (*text == ' ' || *text == '\t') text++;
    for (size_t n = strlen(text); n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'); n--)
        text[n - 1] = 0;
    return text;
}

static bool set_nodes(struct config *config, const struct config_key *key, const char *value,
                      char *why, size_t bytes) {
    struct node_options *o = &config->node;
    char list[1024], *next = list;
    o->node_count = 0;
    if (strlen(value) >= sizeof list) {
        refuse(key, value, "is far too long", why, bytes);
        return false;
    }
    strcpy(list, value);
    for (char *item; (item = strsep(&next, ",")) != NULL;) {
        char shown[64];
        item = trim(item);
        snprintf(shown, sizeof shown, "%s", item);
        struct node_peer node;
        const char *problem = NULL;
        if (o->node_count == RAFT_NODES_MAX)
            problem = "is one node too many";
        else if (!parse_node(item, &node))
            problem = "is not a node";
        else
            problem = node_conflict(o, &node);
        if (problem != NULL) {
            refuse(key, shown, problem, why, bytes);
            return false;
        }
        o->nodes[o->node_count++] = node;
    }
    return true;
}

static void print_nodes(const struct node_options *o, char *text, size_t bytes) {
    size_t used = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < o->node_count && used < bytes; i++) {
        uint32_t a = (uint32_t)(o->nodes[i].endpoint >> 16);
        used += (size_t)snprintf(text + used, bytes - used, "%s%u@%u.%u.%u.%u:%u", i ? ", " : "",
                                 o->nodes[i].id, a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255,
                                 (unsigned)(o->nodes[i].endpoint & 0xffff));
    }
}

// ---------------------------------------------------------------- any kind

static bool set_choice(struct config *config, const struct config_key *key, const char *value,
                       char *why, size_t bytes) {
    for (uint32_t i = 0; key->choices[i] != NULL; i++) {
        if (strcmp(key->choices[i], value) != 0) continue;
        store(config, key, i);
        return true;
    }
    refuse(key, value, "is not known", why, bytes);
    return false;
}

static bool set_text(struct config *config, const struct config_key *key, const char *value,
                     char *why, size_t bytes) {
    size_t length = strlen(value);
    if (length < key->min || length > key->max) {
        refuse(key, value, length == 0 ? "is empty" : "is too long", why, bytes);
        return false;
    }
    // With a blank in front, as --check prints it, this would be a comment.
    if (value[0] == ';') {
        refuse(key, value, "begins like a comment, which needs a blank before its ;", why, bytes);
        return false;
    }
    memcpy((uint8_t *)config + key->offset, value, length + 1);
    return true;
}

static bool set_address(struct config *config, const struct config_key *key, const char *value,
                        char *why, size_t bytes) {
    uint32_t address;
    if (!parse_address(value, &address)) {
        refuse(key, value, "is not the address of one machine", why, bytes);
        return false;
    }
    store(config, key, address);
    return true;
}

bool config_set(struct config *config, const struct config_key *key, const char *value, char *why,
                size_t bytes) {
    if (is_number(key->kind)) return set_number(config, key, value, why, bytes);
    if (key->kind == CONFIG_KIND_CHOICE) return set_choice(config, key, value, why, bytes);
    if (key->kind == CONFIG_KIND_NODES) return set_nodes(config, key, value, why, bytes);
    if (key->kind == CONFIG_KIND_ADDRESS) return set_address(config, key, value, why, bytes);
    return set_text(config, key, value, why, bytes);
}

void config_get(const struct config *config, const struct config_key *key, char *text,
                size_t bytes) {
    uint64_t number = config_number(config, key);
    text[0] = 0;
    switch (key->kind) {
    case CONFIG_KIND_TEXT:
        snprintf(text, bytes, "%s", (const char *)config + key->offset);
        return;
    case CONFIG_KIND_CHOICE:
        snprintf(text, bytes, "%s", key->choices[number]);
        return;
    case CONFIG_KIND_NODES:
        print_nodes(&config->node, text, bytes);
        return;
    case CONFIG_KIND_CLUSTER:
        snprintf(text, bytes, "0x%" PRIx64, number);
        return;
    case CONFIG_KIND_ADDRESS:
        if (number != 0)
            snprintf(text, bytes, "%u.%u.%u.%u", (unsigned)(number >> 24 & 255),
                     (unsigned)(number >> 16 & 255), (unsigned)(number >> 8 & 255),
                     (unsigned)(number & 255));
        return;
    case CONFIG_KIND_CPU:
        if (number <= key->max) snprintf(text, bytes, "%" PRIu64, number);
        return;
    default:
        print_number(number, units_of(key->kind), text, bytes);
    }
}
