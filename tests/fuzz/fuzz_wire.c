// Any datagram against the frame codec, three times: as it is; with a right checksum; and with a
// right header too, so that the fuzzer spends itself on the messages. After WIRE_VALID every
// message is walked and read to its last byte, as the stages do without further checks.
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "wire.h"

static volatile uint8_t sink;

static void require(int condition) {
    if (!condition) abort();
}

static void read_bytes(const void *bytes, uint32_t length) {
    const uint8_t *at = bytes;
    for (uint32_t i = 0; i < length; i++) sink = (uint8_t)(sink ^ at[i]);
}

static void walk_append(const struct wire_append *append) {
    uint32_t offset = 0;
    uint32_t count = 0;
    for (const struct wire_entry *entry; (entry = wire_next_entry(append, &offset)) != NULL;) {
        require(entry->length <= 1344 && offset <= append->head.length);
        require(entry->type == 1 || entry->type == 2);
        read_bytes(entry + 1, entry->length);
        count++;
    }
    require(count == append->count && (count == 0 || offset == append->head.length));
}

static void walk(const uint8_t *frame, uint32_t length) {
    uint32_t offset = 0;
    uint32_t seen = sizeof(struct wire_frame);
    for (const struct wire_head *head; (head = wire_next(frame, &offset)) != NULL;) {
        const void *message = head;
        require(head->length % 8 == 0 && offset <= length);
        read_bytes(head, head->length);
        seen += head->length;
        if (head->type == WIRE_APPEND) walk_append(message);
        if (head->type == WIRE_REQUEST) {
            const struct wire_request *request = message;
            require(request->value_length <= WIRE_VALUE_MAX);
            require(wire_pad((uint32_t)sizeof *request + request->name_length +
                             request->value_length) == head->length);
            read_bytes(wire_request_name(request), request->name_length);
            read_bytes(wire_request_value(request), request->value_length);
        }
        if (head->type == WIRE_REPLY) {
            const struct wire_reply *reply = message;
            read_bytes(wire_reply_value(reply), reply->value_length);
        }
        if (head->type == WIRE_SNAPSHOT) {
            const struct wire_snapshot *snapshot = message;
            require(snapshot->offset + snapshot->bytes <= snapshot->total);
            read_bytes(snapshot + 1, snapshot->bytes);
        }
    }
    require(seen == length);
}

static void check(const uint8_t *frame, uint32_t length) {
    enum wire_verdict verdict = wire_check(frame, length);
    require(verdict < WIRE_VERDICTS && wire_verdict_name(verdict) != NULL);
    if (verdict == WIRE_VALID) walk(frame, length);
    enum wire_verdict for_us = wire_check_for(frame, length, 1, 0);
    require(verdict == WIRE_VALID || for_us == verdict);
}

static void seal(struct wire_frame *frame, uint32_t length) {
    memset(frame->tag, 0, sizeof frame->tag);
    uint32_t crc = wire_crc32c(0, frame, length);
    memcpy(frame->tag, &crc, sizeof crc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 2 * WIRE_FRAME_MAX) return 0;
    uint32_t length = (uint32_t)size;
    // malloc is 16-aligned, and exact: ASan sees the first byte too far.
    uint8_t *copy = malloc(size ? size : 1);
    require(copy != NULL);
    memcpy(copy, data, size);
    check(copy, length);
    if (length >= sizeof(struct wire_frame)) {
        struct wire_frame *frame = (struct wire_frame *)(void *)copy;
        seal(frame, length);
        check(copy, length);
        frame->magic = WIRE_MAGIC;
        frame->version = WIRE_VERSION;
        frame->flags = 0;
        frame->length = (uint16_t)length;
        frame->key_epoch = 0;
        frame->counter = 0;
        seal(frame, length);
        check(copy, length);
    }
    free(copy);
    return 0;
}
