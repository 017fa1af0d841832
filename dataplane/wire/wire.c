// The codec of Conclave's frames.
//
// A frame is judged from the outside in: header, checksum, then each message in order. The checksum
// proves only that the bytes are the sender's; a sender can still be wrong or hostile, so every
// count and length is held against the bytes that are there before anything is believed. What
// passes here needs no bounds check anywhere else. What is judged here is form alone: an unknown
// operation, mode or status is well formed, and the layer that knows the meaning answers it by
// name.
//
// Every message is a multiple of 8 bytes, frames start 8-aligned, so all is read in place.
#include "wire.h"

#include <assert.h>
#include <isa-l/crc.h>
#include <stdbool.h>
#include <string.h>

static_assert(WIRE_FRAME_MAX % 8 == 0, "a full frame ends on a message boundary");
static_assert(sizeof(struct wire_frame) % 8 == 0, "the first message is 8-aligned");
static_assert(WIRE_APPEND_ENTRY_BYTES - sizeof(struct wire_entry) == 1344,
              "the longest entry that fits a frame is the log's longest");

// The least length of a datagram worth looking at.
#define FRAME_MIN ((uint32_t)(sizeof(struct wire_frame) + sizeof(struct wire_head)))
// Entry types of the log: 1 no-op, 2 command (enum raft_entry_type).
#define ENTRY_TYPE_MIN 1u
#define ENTRY_TYPE_MAX 2u

const char *wire_verdict_name(enum wire_verdict verdict) {
    static const char *const names[WIRE_VERDICTS] = {
        [WIRE_VALID] = "valid",
        [WIRE_BAD_SHORT] = "bad_short",
        [WIRE_BAD_MAGIC] = "bad_magic",
        [WIRE_BAD_VERSION] = "bad_version",
        [WIRE_BAD_FLAGS] = "bad_flags",
        [WIRE_BAD_LENGTH] = "bad_length",
        [WIRE_BAD_CHECKSUM] = "bad_checksum",
        [WIRE_BAD_KEY] = "bad_key",
        [WIRE_BAD_CLUSTER] = "bad_cluster",
        [WIRE_BAD_GROUP] = "bad_group",
        [WIRE_BAD_TYPE] = "bad_type",
        [WIRE_BAD_MESSAGE] = "bad_message",
    };
    if ((unsigned)verdict >= WIRE_VERDICTS) return "bad_verdict";
    return names[verdict];
}

uint32_t wire_crc32c(uint32_t crc, const void *bytes, uint32_t length) {
    // ISA-L reads only, but says so nowhere in its type.
    unsigned char *data = (unsigned char *)(uintptr_t)bytes;
    return ~crc32_iscsi(data, (int)length, ~crc);
}

// The checksum of a frame as if its tag were zero.
static uint32_t frame_checksum(const void *data, uint32_t length) {
    struct wire_frame header;
    memcpy(&header, data, sizeof header);
    memset(header.tag, 0, sizeof header.tag);
    uint32_t crc = wire_crc32c(0, &header, sizeof header);
    return wire_crc32c(crc, (const uint8_t *)data + sizeof header,
                       length - (uint32_t)sizeof header);
}

// ---------------------------------------------------------------- building

void wire_begin(struct wire_writer *writer, void *data, uint32_t capacity, uint64_t cluster,
                uint32_t group, uint16_t source) {
    assert((uintptr_t)data % 8 == 0);
    assert(capacity >= FRAME_MIN && capacity <= WIRE_FRAME_MAX);
    struct wire_frame *frame = data;
    memset(frame, 0, sizeof *frame);
    frame->magic = WIRE_MAGIC;
    frame->version = WIRE_VERSION;
    frame->cluster = cluster;
    frame->group = group;
    frame->source = source;
    writer->data = data;
    writer->capacity = capacity & ~7u;
    writer->length = sizeof *frame;
}

uint32_t wire_room(const struct wire_writer *writer) {
    return writer->capacity - writer->length;
}

void *wire_add(struct wire_writer *writer, uint16_t type, uint32_t flags, uint32_t length) {
    assert(length >= sizeof(struct wire_head));
    if (length > wire_room(writer)) return NULL; // first, so that rounding cannot wrap
    uint32_t padded = wire_pad(length);          // room is a multiple of 8, so this fits too
    struct wire_head *head = (struct wire_head *)(void *)(writer->data + writer->length);
    memset(head, 0, padded);
    head->type = type;
    head->length = (uint16_t)padded;
    head->flags = flags;
    writer->length += padded;
    return head;
}

uint32_t wire_finish(struct wire_writer *writer) {
    struct wire_frame *frame = (struct wire_frame *)(void *)writer->data;
    if (writer->length == sizeof *frame) return 0;
    frame->length = (uint16_t)writer->length;
    uint32_t crc = frame_checksum(frame, writer->length);
    memset(frame->tag, 0, sizeof frame->tag);
    memcpy(frame->tag, &crc, sizeof crc);
    return writer->length;
}

// ---------------------------------------------------------------- checking

// True if bytes [used, padded end) of a message are zero and the padded end is the message's end.
static bool ends_padded(const struct wire_head *head, uint32_t used) {
    if (head->length != wire_pad(used)) return false;
    const uint8_t *bytes = (const uint8_t *)head;
    for (uint32_t i = used; i < head->length; i++) {
        if (bytes[i] != 0) return false;
    }
    return true;
}

// The life of a node goes with the flag that speaks of it, and only with that.
static bool wrong_life(const struct wire_head *head, uint32_t life, uint32_t flag) {
    return (life != 0) != ((head->flags & flag) != 0);
}

static bool append_reply_is_sound(const struct wire_append_reply *reply) {
    return reply->head.length == sizeof *reply && reply->reserved == 0 &&
           !wrong_life(&reply->head, reply->life, WIRE_APPEND_RECOVERING);
}

static bool append_is_sound(const struct wire_append *append) {
    if (append->head.length < sizeof *append ||
        wrong_life(&append->head, append->life, WIRE_APPEND_RECOVERED))
        return false;
    const uint8_t *bytes = (const uint8_t *)append;
    uint32_t end = append->head.length;
    uint32_t offset = sizeof *append;
    for (uint32_t i = 0; i < append->count; i++) {
        if (end - offset < sizeof(struct wire_entry)) return false;
        const struct wire_entry *entry = (const struct wire_entry *)(const void *)(bytes + offset);
        offset += (uint32_t)sizeof *entry;
        if (entry->type < ENTRY_TYPE_MIN || entry->type > ENTRY_TYPE_MAX) return false;
        if (entry->reserved8 != 0 || entry->reserved != 0) return false;
        // So no entry is longer than one alone in its frame: 1,344 bytes, RAFT_ENTRY_MAX.
        if (wire_pad(entry->length) > end - offset) return false;
        for (uint32_t k = entry->length; k < wire_pad(entry->length); k++) {
            if (bytes[offset + k] != 0) return false;
        }
        offset += wire_pad(entry->length);
    }
    return offset == end;
}

static bool snapshot_is_sound(const struct wire_snapshot *snapshot) {
    if (snapshot->head.length < sizeof *snapshot || snapshot->reserved != 0) return false;
    if (snapshot->bytes > snapshot->head.length - sizeof *snapshot) return false;
    if (snapshot->offset > snapshot->total) return false;
    if (snapshot->bytes > snapshot->total - snapshot->offset) return false;
    return ends_padded(&snapshot->head, (uint32_t)sizeof *snapshot + snapshot->bytes);
}

static bool request_is_sound(const struct wire_request *request) {
    if (request->head.length < sizeof *request || request->reserved != 0) return false;
    if (request->value_length > WIRE_VALUE_MAX) return false;
    return ends_padded(&request->head,
                       (uint32_t)sizeof *request + request->name_length + request->value_length);
}

static bool reply_is_sound(const struct wire_reply *reply) {
    if (reply->head.length < sizeof *reply) return false;
    return ends_padded(&reply->head, (uint32_t)sizeof *reply + reply->value_length);
}

static bool event_is_sound(const struct wire_event *event) {
    return event->head.length == sizeof *event && event->reserved16 == 0 && event->reserved == 0;
}

// One message whose head->length bytes are known to lie inside the frame.
static enum wire_verdict check_message(const struct wire_head *head) {
    const void *message = head;
    uint32_t flags = 0; // those defined for the type
    bool sound = false;
    switch (head->type) {
    case WIRE_VOTE:
        flags = WIRE_VOTE_PREVOTE;
        sound = head->length == sizeof(struct wire_vote);
        break;
    case WIRE_VOTE_REPLY:
        flags = WIRE_VOTE_PREVOTE | WIRE_VOTE_GRANTED;
        sound = head->length == sizeof(struct wire_vote_reply);
        break;
    case WIRE_APPEND:
        flags = WIRE_APPEND_RECOVERED;
        sound = append_is_sound(message);
        break;
    case WIRE_APPEND_REPLY:
        flags = WIRE_APPEND_REJECTED | WIRE_APPEND_RECOVERING;
        sound = append_reply_is_sound(message);
        break;
    case WIRE_SNAPSHOT:
        sound = snapshot_is_sound(message);
        break;
    case WIRE_SNAPSHOT_REPLY:
        sound = head->length == sizeof(struct wire_snapshot_reply);
        break;
    case WIRE_REQUEST:
        sound = request_is_sound(message);
        break;
    case WIRE_REPLY:
        sound = reply_is_sound(message);
        break;
    case WIRE_EVENT:
        sound = event_is_sound(message);
        break;
    default:
        return WIRE_BAD_TYPE;
    }
    return sound && (head->flags & ~flags) == 0 ? WIRE_VALID : WIRE_BAD_MESSAGE;
}

static enum wire_verdict check_header(const struct wire_frame *frame, uint32_t length) {
    if (frame->magic != WIRE_MAGIC) return WIRE_BAD_MAGIC;
    if (frame->version != WIRE_VERSION) return WIRE_BAD_VERSION;
    if (frame->flags != 0) return WIRE_BAD_FLAGS;
    if (frame->length != length || length > WIRE_FRAME_MAX) return WIRE_BAD_LENGTH;
    // No key is known to this version, and a packet counter means nothing without one.
    if (frame->key_epoch != 0 || frame->counter != 0) return WIRE_BAD_KEY;
    uint32_t tag[4];
    static_assert(sizeof tag == sizeof frame->tag, "the tag is four words");
    memcpy(tag, frame->tag, sizeof tag);
    if (tag[0] != frame_checksum(frame, length) || (tag[1] | tag[2] | tag[3]) != 0) {
        return WIRE_BAD_CHECKSUM;
    }
    return WIRE_VALID;
}

enum wire_verdict wire_check(const void *data, uint32_t length) {
    assert((uintptr_t)data % 8 == 0);
    if (length < FRAME_MIN) return WIRE_BAD_SHORT;
    enum wire_verdict verdict = check_header(data, length);
    if (verdict != WIRE_VALID) return verdict;
    uint32_t offset = sizeof(struct wire_frame);
    while (offset < length) {
        uint32_t left = length - offset;
        if (left < sizeof(struct wire_head)) return WIRE_BAD_MESSAGE;
        const struct wire_head *head =
            (const struct wire_head *)(const void *)((const uint8_t *)data + offset);
        if (head->length < sizeof *head || head->length % 8 != 0 || head->length > left) {
            return WIRE_BAD_MESSAGE;
        }
        verdict = check_message(head);
        if (verdict != WIRE_VALID) return verdict;
        offset += head->length;
    }
    return WIRE_VALID;
}

// A client that does not know the cluster's id yet may ask for the status, and for nothing else.
static bool asks_status_only(const void *data) {
    uint32_t offset = 0;
    for (const struct wire_head *head; (head = wire_next(data, &offset)) != NULL;) {
        if (head->type != WIRE_REQUEST) return false;
        if (((const struct wire_request *)(const void *)head)->op != WIRE_OP_STATUS) return false;
    }
    return true;
}

enum wire_verdict wire_check_for(const void *data, uint32_t length, uint64_t cluster,
                                 uint32_t group) {
    enum wire_verdict verdict = wire_check(data, length);
    if (verdict != WIRE_VALID) return verdict;
    const struct wire_frame *frame = data;
    if (frame->cluster == 0 ? !asks_status_only(data) : frame->cluster != cluster) {
        return WIRE_BAD_CLUSTER;
    }
    return frame->group == group ? WIRE_VALID : WIRE_BAD_GROUP;
}

// ---------------------------------------------------------------- reading what was checked

const struct wire_head *wire_next(const void *data, uint32_t *offset) {
    const struct wire_frame *frame = data;
    if (*offset == 0) *offset = sizeof *frame;
    assert(*offset <= frame->length);
    if (*offset >= frame->length) return NULL;
    const struct wire_head *head =
        (const struct wire_head *)(const void *)((const uint8_t *)data + *offset);
    *offset += head->length;
    return head;
}

const struct wire_entry *wire_next_entry(const struct wire_append *append, uint32_t *offset) {
    if (*offset == 0) *offset = sizeof *append;
    assert(*offset <= append->head.length);
    if (*offset >= append->head.length) return NULL;
    const struct wire_entry *entry =
        (const struct wire_entry *)(const void *)((const uint8_t *)append + *offset);
    *offset += (uint32_t)sizeof *entry + wire_pad(entry->length);
    return entry;
}
