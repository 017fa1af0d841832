// A list of nodes as people write it.
#include "endpoints.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXAMPLE "write HOST:PORT, for example 10.0.0.1:7100"

static bool refuse(char *error, const char *what, const char *name, const char *advice) {
    (void)snprintf(error, CONCLAVE_ERROR_BYTES, "Endpoint '%.120s' %s: %s.", name, what, advice);
    return false;
}

static bool parse_port(const char *text, uint16_t *port) {
    uint32_t value = 0;
    if (!*text || strlen(text) > 5) return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        value = value * 10 + (uint32_t)(*text - '0');
    }
    *port = (uint16_t)value;
    return value >= 1 && value <= 65535;
}

static bool resolve(const char *host, uint32_t *address, const char **why) {
    struct addrinfo wanted = {.ai_family = AF_INET, .ai_socktype = SOCK_DGRAM};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(host, NULL, &wanted, &found);
    *why = code ? gai_strerror(code) : "no address";
    if (code || !found) return false;
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)found->ai_addr;
    *address = ntohl(in->sin_addr.s_addr);
    freeaddrinfo(found);
    return true;
}

static bool parse_one(struct endpoints *endpoints, const char *text, size_t length, char *error) {
    uint32_t index = endpoints->count;
    if (index == CORE_CONFIGURED_MAX) {
        (void)snprintf(
            error, CONCLAVE_ERROR_BYTES,
            "More than %u endpoints are given: name the nodes of one cluster, each once.",
            CORE_CONFIGURED_MAX);
        return false;
    }
    char *name = endpoints->name[index];
    if (length >= ENDPOINT_NAME_BYTES) return refuse(error, "is too long", text, EXAMPLE);
    memcpy(name, text, length);
    name[length] = 0;

    char host[ENDPOINT_NAME_BYTES];
    memcpy(host, name, length + 1);
    char *colon = strrchr(host, ':');
    if (!colon) return refuse(error, "has no port", name, EXAMPLE);
    *colon = 0;
    uint16_t port = 0;
    if (!parse_port(colon + 1, &port)) {
        return refuse(error, "has no valid port", name, "a port is a number from 1 to 65535");
    }
    if (!*host) return refuse(error, "has no host", name, EXAMPLE);
    if (strchr(host, ':')) return refuse(error, "is no IPv4 address or name", name, EXAMPLE);
    uint32_t address = 0;
    const char *why = NULL;
    if (!resolve(host, &address, &why)) {
        char advice[96];
        (void)snprintf(advice, sizeof advice, "%s; check its spelling", why);
        return refuse(error, "cannot be resolved", name, advice);
    }
    if (address == 0) return refuse(error, "is the wildcard address", name, "name a node");
    endpoints->address[index] = wire_endpoint_pack(address, port);
    for (uint32_t i = 0; i < index; i++) {
        if (endpoints->address[i] == endpoints->address[index]) {
            return refuse(error, "is there twice", name, "name each node once");
        }
    }
    endpoints->count++;
    return true;
}

bool endpoints_parse(struct endpoints *endpoints, const char *text,
                     char error[CONCLAVE_ERROR_BYTES]) {
    endpoints->count = 0;
    if (!text || !*text) {
        (void)snprintf(error, CONCLAVE_ERROR_BYTES,
                       "No endpoints are given: name the nodes as "
                       "HOST:PORT,HOST:PORT,...");
        return false;
    }
    for (const char *at = text;;) {
        size_t length = strcspn(at, ",");
        size_t skip = strspn(at, " ");
        if (skip > length) skip = length;
        size_t end = length;
        while (end > skip && at[end - 1] == ' ') end--;
        if (end == skip) {
            (void)snprintf(error, CONCLAVE_ERROR_BYTES,
                           "The list of endpoints '%.120s' has an empty place: take out the extra "
                           "comma.",
                           text);
            return false;
        }
        if (!parse_one(endpoints, at + skip, end - skip, error)) return false;
        if (!at[length]) return true;
        at += length + 1;
    }
}
