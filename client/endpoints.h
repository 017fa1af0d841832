// "HOST:PORT,HOST:PORT,..." to addresses.
#ifndef CONCLAVE_CLIENT_ENDPOINTS_H
#define CONCLAVE_CLIENT_ENDPOINTS_H

#include "core.h"

#define ENDPOINT_NAME_BYTES 262 // a DNS name has at most 253, then ":65535"

struct endpoints {
    uint32_t count;
    uint64_t address[CORE_CONFIGURED_MAX]; // wire_endpoint_pack()
    char name[CORE_CONFIGURED_MAX][ENDPOINT_NAME_BYTES];
};

// Resolves names, which may block. False with a sentence in error.
bool endpoints_parse(struct endpoints *endpoints, const char *text,
                     char error[CONCLAVE_ERROR_BYTES]);

#endif
