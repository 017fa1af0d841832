// The codec of conclave_wire.h: builds frames in place, and checks received ones whole before
// anything in them is believed. Linked by the data plane and by the client library; needs neither.
//
// After wire_check() answers WIRE_VALID every message in the frame is well-formed: its length fits
// its type, its counts fit its length, its padding is zero. So readers need no further bounds
// checks. Nothing here allocates, and input of any kind gives a named error.
#ifndef CONCLAVE_WIRE_CODEC_H
#define CONCLAVE_WIRE_CODEC_H

#include <stdint.h>

#include "conclave_wire.h"

enum wire_verdict {
    WIRE_VALID = 0,
    WIRE_BAD_SHORT, // less than a frame header and one message head
    WIRE_BAD_MAGIC,
    WIRE_BAD_VERSION,
    WIRE_BAD_FLAGS,
    WIRE_BAD_LENGTH, // header's length is not the datagram's
    WIRE_BAD_CHECKSUM,
    WIRE_BAD_KEY, // key epoch not known here
    WIRE_BAD_CLUSTER,
    WIRE_BAD_GROUP,
    WIRE_BAD_TYPE,    // unknown message type
    WIRE_BAD_MESSAGE, // a message contradicts itself or its frame
    WIRE_VERDICTS
};
const char *
wire_verdict_name(enum wire_verdict verdict); // for counters and people: "bad_magic" ...

// CRC32C (Castagnoli) of bytes, the usual inversion before and after, continued from `crc` (0 at
// first).
uint32_t wire_crc32c(uint32_t crc, const void *bytes, uint32_t length);

// ---- building: begin, add messages, finish. The frame is built in the caller's buffer
// (8-aligned).
struct wire_writer {
    uint8_t *data;
    uint32_t capacity; // at most WIRE_FRAME_MAX
    uint32_t length;
};
void wire_begin(struct wire_writer *writer, void *data, uint32_t capacity, uint64_t cluster,
                uint32_t group, uint16_t source);
// Adds a message of `length` bytes (rounded up to 8), zeroed but for its head, to be filled in
// place. NULL: it does not fit any more.
void *wire_add(struct wire_writer *writer, uint16_t type, uint32_t flags, uint32_t length);
// Room left for one message, head included.
uint32_t wire_room(const struct wire_writer *writer);
// Writes length and checksum. Returns the frame's bytes; 0 if no message was added.
uint32_t wire_finish(struct wire_writer *writer);

// ---- reading. `data` must be 8-aligned.
// Checks all but cluster and group, which the caller compares (a client may not know them yet).
enum wire_verdict wire_check(const void *data, uint32_t length);
// As wire_check, and cluster and group must be these. cluster 0 in the frame is let through only if
// every message is a WIRE_REQUEST with WIRE_OP_STATUS.
enum wire_verdict wire_check_for(const void *data, uint32_t length, uint64_t cluster,
                                 uint32_t group);
// Messages of a checked frame, in order; *offset starts at 0. NULL at the end.
const struct wire_head *wire_next(const void *data, uint32_t *offset);
// Entries of a checked append, in order; *offset starts at 0. NULL at the end. The entry's bytes
// follow the returned header.
const struct wire_entry *wire_next_entry(const struct wire_append *append, uint32_t *offset);

static inline uint32_t wire_pad(uint32_t bytes) {
    return (bytes + 7u) & ~7u;
}
static inline const void *wire_request_name(const struct wire_request *request) {
    return (const uint8_t *)request + sizeof *request;
}
static inline const void *wire_request_value(const struct wire_request *request) {
    return (const uint8_t *)request + sizeof *request + request->name_length;
}
static inline const void *wire_reply_value(const struct wire_reply *reply) {
    return (const uint8_t *)reply + sizeof *reply;
}

#endif
