// What a well-formed command is, operation by operation: which fields it uses and within which
// bounds. A field that an operation does not use must be zero, so that a later version may give it
// a meaning.
#include "machine/machine_internal.h"

enum { // fields an operation uses
    USES_SESSION = 1,
    USES_NAME = 2,
    USES_LEASE = 4,
    USES_TOKEN = 8, // and it is not 0
    USES_AMOUNT = 16,
    MAY_TOKEN = 32, // any value
};

static bool rule_of(uint16_t op, uint32_t *uses) {
    switch (op) {
    case WIRE_OP_SESSION_OPEN:
        *uses = USES_TOKEN;
        return true;
    case WIRE_OP_LEASE_GRANT:
        *uses = USES_SESSION | USES_AMOUNT;
        return true;
    case WIRE_OP_LEASE_KEEPALIVE:
    case WIRE_OP_LEASE_REVOKE:
        *uses = USES_SESSION | USES_LEASE;
        return true;
    case WIRE_OP_LOCK_ACQUIRE:
        *uses = USES_SESSION | USES_NAME | USES_LEASE | USES_AMOUNT;
        return true;
    case WIRE_OP_LOCK_RELEASE:
        *uses = USES_SESSION | USES_NAME | USES_TOKEN;
        return true;
    case WIRE_OP_LEASE_TTL:
        *uses = USES_LEASE;
        return true;
    case WIRE_OP_LOCK_HOLDERS:
        *uses = USES_NAME;
        return true;
    case WIRE_OP_LOCK_QUEUE:
        *uses = USES_NAME | USES_AMOUNT;
        return true;
    case WIRE_OP_CLAIM:
        *uses = USES_NAME | USES_LEASE | USES_TOKEN;
        return true;
    case WIRE_OP_STATUS:
        *uses = 0;
        return true;
    case WIRE_OP_COUNTERS:
        *uses = USES_AMOUNT;
        return true;
    case WIRE_OP_EXPIRE_LEASES:
    case WIRE_OP_EXPIRE_WAITS:
        *uses = 0;
        return true;
    case WIRE_OP_TICK:
        *uses = USES_AMOUNT | MAY_TOKEN;
        return true;
    default:
        return false;
    }
}

static bool amount_in_range(const struct wire_request *request) {
    switch (request->op) {
    case WIRE_OP_LEASE_GRANT:
        return request->amount >= WIRE_TTL_MS_MIN && request->amount <= WIRE_TTL_MS_MAX;
    case WIRE_OP_LOCK_ACQUIRE:
        return request->amount == WIRE_WAIT_FOREVER || request->amount <= WIRE_WAIT_MS_MAX;
    default:
        return true;
    }
}

// Bytes of one element of the value; 0: the operation has none.
static uint32_t value_unit(uint16_t op) {
    switch (op) {
    case WIRE_OP_EXPIRE_LEASES:
        return sizeof(struct wire_expiry);
    case WIRE_OP_EXPIRE_WAITS:
        return sizeof(struct wire_wait_expiry);
    default:
        return 0;
    }
}

static bool value_fits(const struct wire_request *request) {
    uint32_t unit = value_unit(request->op);
    if (unit == 0) return request->value_length == 0;
    return request->value_length > 0 && request->value_length % unit == 0;
}

static bool fields_fit(const struct wire_request *r, uint32_t uses) {
    bool session = (uses & USES_SESSION) != 0;
    // Reads and local operations echo any sequence.
    if (session && (r->session == 0 || r->sequence == 0)) return false;
    if (!session && r->session != 0) return false;
    if (((uses & USES_NAME) != 0) != (r->name_length > 0)) return false;
    if (((uses & USES_LEASE) != 0) != (r->lease != 0)) return false;
    if (uses & USES_TOKEN && r->token == 0) return false;
    if (!(uses & (USES_TOKEN | MAY_TOKEN)) && r->token != 0) return false;
    if (!(uses & USES_AMOUNT) && r->amount != 0) return false;
    return r->mode == WIRE_MODE_EXCLUSIVE && r->reserved == 0;
}

uint16_t machine_validate(const struct wire_request *request, uint32_t length, bool internal) {
    if (length < sizeof *request || length % 8 != 0) return WIRE_BAD_REQUEST;
    if (length > WIRE_COMMAND_MAX || request->value_length > WIRE_VALUE_MAX) return WIRE_TOO_LARGE;
    uint32_t bytes = (uint32_t)sizeof *request + request->name_length + request->value_length;
    uint32_t uses;
    if (request->head.type != WIRE_REQUEST || request->head.length != length ||
        ((bytes + 7u) & ~7u) != length || request->head.flags != 0)
        return WIRE_BAD_REQUEST;
    for (uint32_t at = bytes; at < length; at++)
        if (((const uint8_t *)request)[at] != 0) return WIRE_BAD_REQUEST;
    if (!rule_of(request->op, &uses) || (wire_op_is_internal(request->op) && !internal))
        return WIRE_BAD_REQUEST;
    if (!fields_fit(request, uses) || !amount_in_range(request) || !value_fits(request))
        return WIRE_BAD_REQUEST;
    return WIRE_OK;
}

bool machine_command_valid(const void *data, uint32_t length) {
    const struct wire_request *request = data;
    return machine_validate(request, length, true) == WIRE_OK &&
           (wire_op_is_logged(request->op) || wire_op_is_internal(request->op));
}
