// The wire format: what a frame costs to build and to check. Entries are what locks make of them:
// an acquire with a name of eight bytes, of which 15 fill a frame (see WIRE_APPEND_ENTRY_BYTES).
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "wire.h"

#define CLUSTER 0xc0c1u
#define NAME    "orders/7"

struct codec {
    _Alignas(64) uint8_t frame[WIRE_FRAME_MAX];
    _Alignas(8) uint8_t command[WIRE_COMMAND_MAX];
    uint32_t command_length;
    uint32_t length;
    uint32_t entries;
};

static void fill_command(struct codec *c) {
    struct wire_request *request = (struct wire_request *)c->command;
    c->command_length = wire_pad((uint32_t)(sizeof *request + strlen(NAME)));
    request->head = (struct wire_head){.type = WIRE_REQUEST, .length = (uint16_t)c->command_length};
    request->op = WIRE_OP_LOCK_ACQUIRE;
    request->session = 77;
    request->sequence = 9;
    request->lease = 78;
    request->name_length = (uint8_t)strlen(NAME);
    memcpy(request + 1, NAME, strlen(NAME));
}

static uint32_t encode_append(struct codec *c, uint64_t index) {
    struct wire_writer writer;
    uint32_t each = (uint32_t)sizeof(struct wire_entry) + c->command_length;
    wire_begin(&writer, c->frame, WIRE_FRAME_MAX, CLUSTER, 0, 1);
    struct wire_append *append =
        wire_add(&writer, WIRE_APPEND, 0, (uint32_t)sizeof *append + c->entries * each);
    assert(append != NULL);
    append->term = 3;
    append->prev_index = index;
    append->prev_term = 3;
    append->commit = index;
    append->count = c->entries;
    uint8_t *at = (uint8_t *)(append + 1);
    for (uint32_t i = 0; i < c->entries; i++, at += each) {
        struct wire_entry *entry = (struct wire_entry *)at;
        entry->term = 3;
        entry->time_ns = index + i;
        entry->length = (uint16_t)c->command_length;
        entry->type = 2;
        memcpy(entry + 1, c->command, c->command_length);
    }
    return wire_finish(&writer);
}

static uint32_t encode_request(struct codec *c, uint64_t sequence) {
    struct wire_writer writer;
    wire_begin(&writer, c->frame, WIRE_FRAME_MAX, CLUSTER, 0, 0);
    struct wire_request *request = wire_add(&writer, WIRE_REQUEST, 0, c->command_length);
    struct wire_head head = request->head;
    memcpy(request, c->command, c->command_length);
    request->head = head;
    request->sequence = sequence;
    return wire_finish(&writer);
}

static void *setup(uint64_t entries) {
    struct codec *c = aligned_alloc(64, (sizeof *c + 63) & ~(size_t)63);
    if (c == NULL) return NULL;
    memset(c, 0, sizeof *c);
    c->entries = (uint32_t)entries;
    fill_command(c);
    c->length = entries > 0 ? encode_append(c, 100) : encode_request(c, 1);
    assert(wire_check_for(c->frame, c->length, CLUSTER, 0) == WIRE_VALID);
    return c;
}

static void append_encode(void *context, uint64_t iterations) {
    struct codec *c = context;
    for (uint64_t i = 0; i < iterations; i++) {
        c->length = encode_append(c, i);
        bench_keep(c);
    }
}

static void append_decode(void *context, uint64_t iterations) {
    struct codec *c = context;
    for (uint64_t i = 0; i < iterations; i++) {
        enum wire_verdict verdict = wire_check_for(c->frame, c->length, CLUSTER, 0);
        assert(verdict == WIRE_VALID);
        uint32_t offset = 0, at = 0, entries = 0;
        uint64_t sum = 0;
        const struct wire_append *append = (const struct wire_append *)wire_next(c->frame, &offset);
        for (const struct wire_entry *e; (e = wire_next_entry(append, &at)) != NULL; entries++)
            sum += e->time_ns + e->length;
        assert(entries == c->entries);
        bench_keep(&sum);
    }
}

static void request_encode(void *context, uint64_t iterations) {
    struct codec *c = context;
    for (uint64_t i = 0; i < iterations; i++) {
        c->length = encode_request(c, i);
        bench_keep(c);
    }
}

static void request_decode(void *context, uint64_t iterations) {
    struct codec *c = context;
    for (uint64_t i = 0; i < iterations; i++) {
        enum wire_verdict verdict = wire_check_for(c->frame, c->length, CLUSTER, 0);
        assert(verdict == WIRE_VALID);
        uint32_t offset = 0;
        const struct wire_request *request =
            (const struct wire_request *)wire_next(c->frame, &offset);
        bench_keep(request);
    }
}

void bench_wire(void) {
    static const struct bench benches[] = {
        {.name = "wire/append_encode",
         .setup = setup,
         .run = append_encode,
         .items = 1,
         .argument_count = 3,
         .arguments = {1, 8, 15}},
        {.name = "wire/append_decode",
         .setup = setup,
         .run = append_decode,
         .items = 1,
         .argument_count = 3,
         .arguments = {1, 8, 15}},
        {.name = "wire/request_encode", .setup = setup, .run = request_encode, .items = 1},
        {.name = "wire/request_decode", .setup = setup, .run = request_decode, .items = 1},
    };
    for (uint32_t i = 0; i < sizeof benches / sizeof benches[0]; i++) bench_register(&benches[i]);
}
