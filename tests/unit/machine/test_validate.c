// machine_validate(): what a client may send, and what only the leader may say. Every request is
// given in a buffer of exactly the length told, so that a sanitizer sees a look beyond it.
#include "harness.h"

// One well-formed request of each operation.
static const uint8_t due[48] = {1};
static const struct ask good[] = {
    {.op = WIRE_OP_SESSION_OPEN, .token = 77, .sequence = 5},
    {.op = WIRE_OP_LEASE_GRANT, .session = 3, .sequence = 1, .amount = 1000},
    {.op = WIRE_OP_LEASE_KEEPALIVE, .session = 3, .sequence = 2, .lease = 9},
    {.op = WIRE_OP_LEASE_REVOKE, .session = 3, .sequence = 2, .lease = 9},
    {.op = WIRE_OP_LOCK_ACQUIRE, .session = 3, .sequence = 2, .lease = 9, .name = "name"},
    {.op = WIRE_OP_LOCK_RELEASE, .session = 3, .sequence = 2, .token = 8, .name = "name"},
    {.op = WIRE_OP_LEASE_TTL, .sequence = 12, .lease = 9},
    {.op = WIRE_OP_LOCK_HOLDERS, .sequence = 12, .name = "name"},
    {.op = WIRE_OP_LOCK_QUEUE, .sequence = 12, .name = "name", .amount = 25},
    {.op = WIRE_OP_CLAIM, .sequence = 12, .name = "name", .lease = 9, .token = 7},
    {.op = WIRE_OP_STATUS, .sequence = 12},
    {.op = WIRE_OP_COUNTERS, .sequence = 12, .amount = 20},
    {.op = WIRE_OP_EXPIRE_LEASES, .value = due, .value_length = 48},
    {.op = WIRE_OP_EXPIRE_WAITS, .value = due, .value_length = 24},
    {.op = WIRE_OP_TICK, .amount = 7, .token = 0x1234},
};
#define GOOD (sizeof good / sizeof good[0])

static uint16_t verdict(const union command *command, uint32_t length, bool internal) {
    uint8_t *exact = malloc(length > 0 ? length : 1);
    assert_non_null(exact);
    if (length > 0) memcpy(exact, command, length);
    uint16_t said =
        machine_validate((const struct wire_request *)(const void *)exact, length, internal);
    free(exact);
    assert_true(said == WIRE_OK || said == WIRE_BAD_REQUEST || said == WIRE_TOO_LARGE);
    return said;
}

static uint16_t verdict_of(const struct ask *ask) {
    union command command;
    command_build(&command, ask);
    return verdict(&command, command.request.head.length, wire_op_is_internal(ask->op));
}

// Refused whoever sends it.
static void assert_bad(const union command *command, uint32_t length) {
    assert_int_equal(verdict(command, length, false), WIRE_BAD_REQUEST);
    assert_int_equal(verdict(command, length, true), WIRE_BAD_REQUEST);
}

static void assert_bad_ask(const struct ask *ask) {
    union command command;
    command_build(&command, ask);
    assert_bad(&command, command.request.head.length);
}

static void well_formed_requests_are_let_through(void **state) {
    for (size_t i = 0; i < GOOD; i++) assert_int_equal(verdict_of(&good[i]), WIRE_OK);
}

static void internal_operations_are_refused_from_the_network(void **state) {
    for (size_t i = 0; i < GOOD; i++) {
        if (!wire_op_is_internal(good[i].op)) continue;
        union command command;
        command_build(&command, &good[i]);
        assert_int_equal(verdict(&command, command.request.head.length, false), WIRE_BAD_REQUEST);
    }
}

static void unknown_operations_are_refused(void **state) {
    union command command;
    command_build(&command, &(struct ask){.token = 1});
    for (uint32_t op = 0; op <= UINT16_MAX; op++) {
        bool known = false;
        for (size_t i = 0; i < GOOD; i++) known |= good[i].op == op;
        if (known) continue;
        command.request.op = (uint16_t)op;
        assert_int_equal(machine_validate(&command.request, sizeof command.request, false),
                         WIRE_BAD_REQUEST);
        assert_int_equal(machine_validate(&command.request, sizeof command.request, true),
                         WIRE_BAD_REQUEST);
    }
}

static void lengths_must_agree(void **state) {
    for (size_t i = 0; i < GOOD; i++) {
        union command command, bad;
        command_build(&command, &good[i]);
        uint32_t length = command.request.head.length;
        for (uint32_t less = 0; less < length; less++) // cut short by the network
            assert_bad(&command, less);
        for (uint32_t more = length + 1; more <= length + 16; more++) // or with something behind
            assert_bad(&command, more);
        for (int32_t off = -16; off <= 16; off++) {
            if (off == 0) continue;
            bad = command;
            bad.request.head.length = (uint16_t)(length + (uint32_t)off);
            assert_bad(&bad, length);
            // Consistent with what was received, but not with name and value.
            assert_bad(&bad, bad.request.head.length);
        }
        bad = command;
        bad.request.head.length = 0;
        assert_bad(&bad, length);
        bad.request.head.length = UINT16_MAX;
        assert_bad(&bad, length);
    }
}

static void head_and_reserved_must_be_as_defined(void **state) {
    for (size_t i = 0; i < GOOD; i++) {
        union command command, bad;
        command_build(&command, &good[i]);
        uint32_t length = command.request.head.length;
        static const uint16_t types[] = {0, WIRE_REPLY, WIRE_EVENT, WIRE_APPEND, UINT16_MAX};
        for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
            bad = command;
            bad.request.head.type = types[k];
            assert_bad(&bad, length);
        }
        for (uint32_t bit = 0; bit < 32; bit++) {
            bad = command;
            bad.request.head.flags = 1u << bit;
            assert_bad(&bad, length);
        }
        for (uint32_t bit = 0; bit < 16; bit++) {
            bad = command;
            bad.request.reserved = (uint16_t)(1u << bit);
            assert_bad(&bad, length);
        }
        for (uint32_t mode = 1; mode < 256; mode++) { // only EXCLUSIVE is defined
            bad = command;
            bad.request.mode = (uint8_t)mode;
            assert_bad(&bad, length);
        }
    }
}

static void padding_must_be_zero(void **state) {
    for (uint32_t name_length = 1; name_length <= WIRE_NAME_MAX; name_length++) {
        uint8_t name[WIRE_NAME_MAX];
        memset(name, 0xee, sizeof name);
        union command command;
        command_build(
            &command,
            &(struct ask){.op = WIRE_OP_LOCK_HOLDERS, .name = name, .name_length = name_length});
        uint32_t length = command.request.head.length;
        assert_int_equal(verdict(&command, length, false), WIRE_OK);
        for (uint32_t at = (uint32_t)sizeof command.request + name_length; at < length; at++) {
            command.bytes[at] = 1;
            assert_bad(&command, length);
            command.bytes[at] = 0;
        }
    }
}

static void names_belong_to_locks_only(void **state) {
    for (size_t i = 0; i < GOOD; i++) {
        struct ask ask = good[i];
        if (ask.name != NULL) {
            ask.name = NULL; // a lock's name has 1 to 255 bytes
            ask.name_length = 0;
            assert_bad_ask(&ask);
            uint8_t longest[WIRE_NAME_MAX] = {0};
            ask.name = longest;
            ask.name_length = sizeof longest;
            assert_int_equal(verdict_of(&ask), WIRE_OK);
        } else {
            ask.name = "n";
            assert_bad_ask(&ask);
        }
    }
}

static void values_belong_to_the_leaders_lists_only(void **state) {
    uint8_t value[WIRE_VALUE_MAX] = {0};
    for (size_t i = 0; i < GOOD; i++) {
        struct ask ask = good[i];
        if (ask.value != NULL) continue;
        ask.value = value;
        static const uint32_t lengths[] = {1, 8, 24, WIRE_VALUE_MAX};
        for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
            ask.value_length = lengths[k];
            assert_bad_ask(&ask);
        }
    }
    for (uint16_t op = WIRE_OP_EXPIRE_LEASES; op <= WIRE_OP_EXPIRE_WAITS; op++) {
        for (uint32_t length = 1; length <= WIRE_VALUE_MAX; length++) { // whole elements
            struct ask ask = {.op = op, .value = value, .value_length = length};
            if (length % 24 == 0)
                assert_int_equal(verdict_of(&ask), WIRE_OK);
            else
                assert_bad_ask(&ask);
        }
    }
}

// Longer than any command may be.
static void too_large_is_refused(void **state) {
    uint8_t *room = calloc(1, 65536);
    assert_non_null(room);
    struct wire_request *request = (struct wire_request *)(void *)room;
    for (size_t i = 0; i < GOOD; i++) {
        for (uint32_t value = WIRE_VALUE_MAX + 8; value < 65000; value += 6400) {
            union command command;
            command_build(&command, &good[i]);
            memcpy(room, &command, sizeof command);
            request->value_length = (uint16_t)value;
            uint32_t length = (uint32_t)sizeof *request + request->name_length + value;
            length = (length + 7u) & ~7u;
            request->head.length = (uint16_t)length;
            for (int internal = 0; internal < 2; internal++) {
                uint16_t said = machine_validate(request, length, internal != 0);
                assert_true(said == WIRE_TOO_LARGE || said == WIRE_BAD_REQUEST);
                said = machine_validate(request, sizeof *request, internal != 0);
                assert_true(said == WIRE_TOO_LARGE || said == WIRE_BAD_REQUEST);
            }
        }
    }
    free(room);
}

// conclave_wire.h names the fields of each operation beside it; the others carry nothing and are 0,
// so that a later version can give them a meaning.
static void fields_not_used_must_be_zero(void **state) {
    for (size_t i = 0; i < GOOD; i++) {
        struct ask ask = good[i];
        bool acquires = ask.op == WIRE_OP_LOCK_ACQUIRE; // its amount is the wait
        if (ask.session == 0) {
            ask.session = 3; // 0 for SESSION_OPEN, reads, local operations and the leader's own
            assert_bad_ask(&ask);
            ask.session = 0;
        }
        if (ask.lease == 0) {
            ask.lease = 1;
            assert_bad_ask(&ask);
            ask.lease = 0;
        }
        if (ask.token == 0) {
            ask.token = 1;
            assert_bad_ask(&ask);
            ask.token = 0;
        }
        if (ask.amount == 0 && !acquires) {
            ask.amount = 1;
            assert_bad_ask(&ask);
            ask.amount = 0;
        }
        assert_int_equal(verdict_of(&ask), WIRE_OK);
    }
}

static void a_nonce_is_not_zero(void **state) {
    assert_bad_ask(&(struct ask){.op = WIRE_OP_SESSION_OPEN});
}

static void sequences_of_reads_are_any_number(void **state) {
    static const uint64_t numbers[] = {0, 1, 1ull << 40, UINT64_MAX};
    for (size_t i = 0; i < GOOD; i++) {
        if (!wire_op_is_read(good[i].op) && !wire_op_is_local(good[i].op)) continue;
        for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++) {
            struct ask ask = good[i];
            ask.sequence = numbers[k];
            assert_int_equal(verdict_of(&ask), WIRE_OK);
        }
    }
}

static void waits_and_skips_take_all_their_values(void **state) {
    struct ask ask = good[4];
    assert_int_equal(ask.op, WIRE_OP_LOCK_ACQUIRE);
    static const uint64_t waits[] = {0, 1, 1000, WIRE_WAIT_MS_MAX, WIRE_WAIT_FOREVER};
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        ask.amount = waits[i];
        assert_int_equal(verdict_of(&ask), WIRE_OK);
    }
    ask = good[1];
    static const uint64_t ttls[] = {WIRE_TTL_MS_MIN, 12345, WIRE_TTL_MS_MAX};
    for (size_t i = 0; i < sizeof ttls / sizeof ttls[0]; i++) {
        ask.amount = ttls[i];
        assert_int_equal(verdict_of(&ask), WIRE_OK);
    }
}

// Noise must get a verdict and nothing else; nearly all of it is refused.
static void noise_is_judged_within_its_bounds(void **state) {
    uint32_t chance = 4242;
    for (int round = 0; round < 20000; round++) {
        union command command;
        command_build(&command, &good[(uint32_t)round % GOOD]);
        uint32_t length = command.request.head.length;
        for (int flips = 0; flips < 1 + round % 4; flips++) {
            chance = chance * 1664525u + 1013904223u;
            command.bytes[(chance >> 8) % (length + 8)] ^= (uint8_t)(chance >> 24);
        }
        chance = chance * 1664525u + 1013904223u;
        if (chance >> 31) length = (chance >> 8) % sizeof command;
        verdict(&command, length, (chance & 1) != 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well_formed_requests_are_let_through),
        cmocka_unit_test(internal_operations_are_refused_from_the_network),
        cmocka_unit_test(unknown_operations_are_refused),
        cmocka_unit_test(lengths_must_agree),
        cmocka_unit_test(head_and_reserved_must_be_as_defined),
        cmocka_unit_test(padding_must_be_zero),
        cmocka_unit_test(names_belong_to_locks_only),
        cmocka_unit_test(values_belong_to_the_leaders_lists_only),
        cmocka_unit_test(too_large_is_refused),
        cmocka_unit_test(fields_not_used_must_be_zero),
        cmocka_unit_test(a_nonce_is_not_zero),
        cmocka_unit_test(sequences_of_reads_are_any_number),
        cmocka_unit_test(waits_and_skips_take_all_their_values),
        cmocka_unit_test(noise_is_judged_within_its_bounds),
    };
    return cmocka_run_group_tests_name("machine_validate", tests, NULL, NULL);
}
