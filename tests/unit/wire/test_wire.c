// The frame codec: what is built is accepted and read back unchanged; everything else is refused.
//
// Most feared first: a frame that passes the checksum but lies about its lengths. So most tests
// here seal their damage with a right checksum, as a hostile or broken sender would.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

#define CLUSTER 0x1122334455667788ull
#define GROUP   3u

struct buffer {
    _Alignas(8) uint8_t bytes[2048];
};

static void begin(struct wire_writer *writer, struct buffer *buffer) {
    memset(buffer->bytes, 0xa5, sizeof buffer->bytes); // so that forgotten zeroing shows
    wire_begin(writer, buffer->bytes, WIRE_FRAME_MAX, CLUSTER, GROUP, 7);
}

// Rewrites the checksum over whatever the frame now says.
static void seal(struct buffer *buffer, uint32_t length) {
    struct wire_frame *frame = (struct wire_frame *)buffer->bytes;
    memset(frame->tag, 0, sizeof frame->tag);
    uint32_t crc = wire_crc32c(0, buffer->bytes, length);
    memcpy(frame->tag, &crc, sizeof crc);
}

static enum wire_verdict sealed_verdict(struct buffer *buffer, uint32_t length) {
    seal(buffer, length);
    return wire_check(buffer->bytes, length);
}

static void add_entry(uint8_t *at, uint64_t term, uint8_t type, const void *data, uint16_t length) {
    struct wire_entry *entry = (struct wire_entry *)(void *)at;
    entry->term = term;
    entry->time_ns = term * 1000;
    entry->length = length;
    entry->type = type;
    memcpy(at + sizeof *entry, data, length);
}

static struct wire_request *add_request(struct wire_writer *writer, uint16_t op, const char *name,
                                        const char *value) {
    uint32_t name_length = (uint32_t)strlen(name);
    uint32_t value_length = (uint32_t)strlen(value);
    struct wire_request *request =
        wire_add(writer, WIRE_REQUEST, 0,
                 (uint32_t)sizeof(struct wire_request) + name_length + value_length);
    assert_non_null(request);
    request->op = op;
    request->sequence = 42;
    request->name_length = (uint8_t)name_length;
    request->value_length = (uint16_t)value_length;
    memcpy((uint8_t *)request + sizeof *request, name, name_length);
    memcpy((uint8_t *)request + sizeof *request + name_length, value, value_length);
    return request;
}

// A frame with one message of every type, small enough for exhaustive damage.
static uint32_t build_all(struct buffer *buffer) {
    struct wire_writer writer;
    begin(&writer, buffer);
    struct wire_vote *vote = wire_add(&writer, WIRE_VOTE, WIRE_VOTE_PREVOTE, sizeof *vote);
    vote->term = 9;
    vote->last_index = 10;
    vote->last_term = 8;
    struct wire_vote_reply *granted =
        wire_add(&writer, WIRE_VOTE_REPLY, WIRE_VOTE_GRANTED | WIRE_VOTE_PREVOTE, sizeof *granted);
    granted->term = 9;
    struct wire_append *append = wire_add(&writer, WIRE_APPEND, WIRE_APPEND_RECOVERED,
                                          sizeof *append + 3 * sizeof(struct wire_entry) +
                                              wire_pad(5) + wire_pad(16) + wire_pad(0));
    append->term = 9;
    append->prev_index = 10;
    append->count = 3;
    append->life = 7;
    uint8_t *at = (uint8_t *)(append + 1);
    add_entry(at, 8, 2, "five.", 5);
    add_entry(at + 32, 9, 1, "sixteen bytes...", 16);
    add_entry(at + 72, 9, 2, "", 0);
    struct wire_append_reply *match =
        wire_add(&writer, WIRE_APPEND_REPLY, WIRE_APPEND_REJECTED, sizeof *match);
    match->hint = 4;
    struct wire_snapshot *snapshot = wire_add(&writer, WIRE_SNAPSHOT, 0, sizeof *snapshot + 11);
    snapshot->offset = 100;
    snapshot->total = 111;
    snapshot->bytes = 11;
    memcpy(snapshot + 1, "eleven byte", 11);
    struct wire_snapshot_reply *wanted = wire_add(&writer, WIRE_SNAPSHOT_REPLY, 0, sizeof *wanted);
    wanted->offset = 111;
    add_request(&writer, WIRE_OP_LOCK_ACQUIRE, "name", "value");
    struct wire_reply *reply = wire_add(&writer, WIRE_REPLY, 0, sizeof *reply + 3);
    reply->value_length = 3;
    memcpy(reply + 1, "abc", 3);
    struct wire_event *event = wire_add(&writer, WIRE_EVENT, 0, sizeof *event);
    event->token = 77;
    return wire_finish(&writer);
}

static void crc32c_is_castagnoli(void **state) {
    (void)state;
    // RFC 3720 B.4: 32 bytes of zeros, and the usual check value of "123456789".
    uint8_t zeros[32] = {0};
    assert_int_equal(wire_crc32c(0, zeros, 32), 0x8a9136aau);
    assert_int_equal(wire_crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(wire_crc32c(wire_crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
    assert_int_equal(wire_crc32c(0, "", 0), 0);
}

static void every_type_comes_back_as_it_was(void **state) {
    (void)state;
    struct buffer buffer;
    uint32_t length = build_all(&buffer);
    assert_true(length > 0 && length % 8 == 0);
    assert_int_equal(wire_check(buffer.bytes, length), WIRE_VALID);
    static const uint16_t order[] = {WIRE_VOTE,         WIRE_VOTE_REPLY, WIRE_APPEND,
                                     WIRE_APPEND_REPLY, WIRE_SNAPSHOT,   WIRE_SNAPSHOT_REPLY,
                                     WIRE_REQUEST,      WIRE_REPLY,      WIRE_EVENT};
    uint32_t offset = 0;
    for (uint32_t i = 0; i < sizeof order / sizeof *order; i++) {
        const struct wire_head *head = wire_next(buffer.bytes, &offset);
        assert_non_null(head);
        assert_int_equal(head->type, order[i]);
        if (head->type == WIRE_APPEND) {
            const struct wire_append *append = (const void *)head;
            uint32_t at = 0;
            const struct wire_entry *entry = wire_next_entry(append, &at);
            assert_int_equal(entry->length, 5);
            assert_memory_equal(entry + 1, "five.\0\0", 8);
            entry = wire_next_entry(append, &at);
            assert_memory_equal(entry + 1, "sixteen bytes...", 16);
            assert_int_equal(entry->type, 1);
            entry = wire_next_entry(append, &at);
            assert_int_equal(entry->length, 0);
            assert_null(wire_next_entry(append, &at));
            assert_null(wire_next_entry(append, &at));
        }
        if (head->type == WIRE_REQUEST) {
            const struct wire_request *request = (const void *)head;
            assert_memory_equal(wire_request_name(request), "name", 4);
            assert_memory_equal(wire_request_value(request), "value", 5);
        }
        if (head->type == WIRE_REPLY) {
            assert_memory_equal(wire_reply_value((const void *)head), "abc", 3);
        }
    }
    assert_null(wire_next(buffer.bytes, &offset));
    assert_null(wire_next(buffer.bytes, &offset));
    const struct wire_frame *frame = (const void *)buffer.bytes;
    assert_true(frame->cluster == CLUSTER && frame->group == GROUP && frame->source == 7);
    assert_true(frame->counter == 0 && frame->key_epoch == 0 && frame->flags == 0);
}

static void every_flipped_bit_is_refused(void **state) {
    (void)state;
    struct buffer buffer;
    uint32_t length = build_all(&buffer);
    for (uint32_t bit = 0; bit < length * 8; bit++) {
        buffer.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(wire_check(buffer.bytes, length), WIRE_VALID);
        buffer.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(wire_check(buffer.bytes, length), WIRE_VALID);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    struct buffer buffer;
    uint32_t length = build_all(&buffer);
    for (uint32_t cut = 0; cut < length; cut++) {
        // An exact copy on the heap, so that ASan sees a read past the cut.
        uint8_t *copy = NULL;
        assert_int_equal(posix_memalign((void **)&copy, 8, cut ? cut : 1), 0);
        memcpy(copy, buffer.bytes, cut);
        enum wire_verdict verdict = wire_check(copy, cut);
        assert_int_equal(verdict, cut < 56 ? WIRE_BAD_SHORT : WIRE_BAD_LENGTH);
        free(copy);
    }
}

// As above, but the frame header is honest about the cut and the checksum is right.
static void sealed_truncation_is_valid_only_between_messages(void **state) {
    (void)state;
    struct buffer whole;
    uint32_t length = build_all(&whole);
    for (uint32_t cut = 56; cut < length; cut++) {
        struct buffer *copy = NULL;
        assert_int_equal(posix_memalign((void **)&copy, 8, cut), 0);
        memcpy(copy->bytes, whole.bytes, cut);
        ((struct wire_frame *)copy->bytes)->length = (uint16_t)cut;
        uint32_t offset = 0;
        uint32_t end = 0;
        while (end < cut && wire_next(whole.bytes, &offset)) end = offset;
        assert_int_equal(sealed_verdict(copy, cut), end == cut ? WIRE_VALID : WIRE_BAD_MESSAGE);
        free(copy);
    }
}

// Damages every byte in turn with several values and a right checksum: wire_check must answer and,
// when it says valid, the walk must stay inside. ASan watches the exact allocation.
static void sealed_damage_never_misleads_a_reader(void **state) {
    (void)state;
    struct buffer whole;
    uint32_t length = build_all(&whole);
    struct buffer *copy = NULL;
    assert_int_equal(posix_memalign((void **)&copy, 8, length), 0);
    static const uint8_t values[] = {0x00, 0x01, 0x07, 0x08, 0x7f, 0x80, 0xf8, 0xff};
    for (uint32_t i = 48; i < length * sizeof values; i++) {
        memcpy(copy->bytes, whole.bytes, length);
        copy->bytes[i / sizeof values] = values[i % sizeof values];
        if (sealed_verdict(copy, length) != WIRE_VALID) continue;
        uint32_t offset = 0;
        for (const struct wire_head *head; (head = wire_next(copy->bytes, &offset));) {
            assert_true(offset <= length);
            if (head->type != WIRE_APPEND) continue;
            const struct wire_append *append = (const void *)head;
            uint32_t at = 0;
            uint32_t count = 0;
            while (wire_next_entry(append, &at)) count++;
            assert_int_equal(count, append->count);
            assert_int_equal(at, head->length);
        }
    }
    free(copy);
}

static void garbage_is_refused(void **state) {
    (void)state;
    struct buffer buffer;
    uint64_t random = 88172645463325252ull;
    for (uint32_t round = 0; round < 20000; round++) {
        uint32_t length = (uint32_t)(random % 1600);
        for (uint32_t i = 0; i < length; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17; // xorshift64
            buffer.bytes[i] = (uint8_t)random;
        }
        assert_int_not_equal(wire_check(buffer.bytes, length), WIRE_VALID);
        random++;
    }
}

static void headers_are_refused_by_name(void **state) {
    (void)state;
    struct buffer buffer;
    struct wire_frame *frame = (struct wire_frame *)buffer.bytes;
    uint32_t length = build_all(&buffer);
    assert_int_equal(wire_check(buffer.bytes, 0), WIRE_BAD_SHORT);
    assert_int_equal(wire_check(buffer.bytes, 55), WIRE_BAD_SHORT);
    frame->magic++;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MAGIC);
    frame->magic--;
    frame->version = 2;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_VERSION);
    frame->version = 1;
    frame->flags = 0x80;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_FLAGS);
    frame->flags = 0;
    frame->length = (uint16_t)(length + 8);
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_LENGTH);
    frame->length = (uint16_t)length;
    frame->key_epoch = 1;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_KEY);
    frame->key_epoch = 0;
    frame->counter = 1;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_KEY);
    frame->counter = 0;
    seal(&buffer, length);
    frame->tag[15] = 1;
    assert_int_equal(wire_check(buffer.bytes, length), WIRE_BAD_CHECKSUM);
    frame->tag[15] = 0;
    assert_int_equal(wire_check(buffer.bytes, length), WIRE_VALID);
}

static void sizes_at_the_boundary(void **state) {
    (void)state;
    struct buffer buffer;
    struct wire_writer writer;
    begin(&writer, &buffer);
    assert_int_equal(wire_room(&writer), 1424);
    assert_int_equal(wire_finish(&writer), 0); // nothing in it
    assert_null(wire_add(&writer, WIRE_REPLY, 0, 1425));
    assert_null(wire_add(&writer, WIRE_REPLY, 0, UINT32_MAX));
    struct wire_reply *reply = wire_add(&writer, WIRE_REPLY, 0, 1424);
    assert_non_null(reply);
    reply->value_length = 1424 - sizeof *reply;
    assert_int_equal(wire_room(&writer), 0);
    assert_null(wire_add(&writer, WIRE_EVENT, 0, 8));
    assert_int_equal(wire_finish(&writer), WIRE_FRAME_MAX);
    assert_int_equal(wire_check(buffer.bytes, WIRE_FRAME_MAX), WIRE_VALID);
    // One message more than a frame may hold, sealed and with honest lengths.
    struct wire_frame *frame = (struct wire_frame *)buffer.bytes;
    memset(buffer.bytes + WIRE_FRAME_MAX, 0, 56);
    struct wire_event *event = (struct wire_event *)(void *)(buffer.bytes + WIRE_FRAME_MAX);
    event->head.type = WIRE_EVENT;
    event->head.length = sizeof *event;
    frame->length = WIRE_FRAME_MAX + 56;
    assert_int_equal(sealed_verdict(&buffer, WIRE_FRAME_MAX + 56), WIRE_BAD_LENGTH);
}

static void longest_entry_fits_and_one_more_byte_does_not(void **state) {
    (void)state;
    struct buffer buffer;
    struct wire_writer writer;
    uint8_t data[1344];
    memset(data, 0x5a, sizeof data);
    begin(&writer, &buffer);
    struct wire_append *append = wire_add(&writer, WIRE_APPEND, 0, wire_room(&writer));
    append->count = 1;
    add_entry((uint8_t *)(append + 1), 1, 2, data, 1344);
    uint32_t length = wire_finish(&writer);
    assert_int_equal(length, WIRE_FRAME_MAX);
    assert_int_equal(wire_check(buffer.bytes, length), WIRE_VALID);
    struct wire_entry *entry = (struct wire_entry *)(append + 1);
    static const uint16_t lengths[] = {1345, 1352, 65535, 1336, 0};
    for (uint32_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        entry->length = lengths[i];
        assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    }
}

static void append_counts_must_fill_it(void **state) {
    (void)state;
    struct buffer buffer;
    struct wire_writer writer;
    begin(&writer, &buffer);
    struct wire_append *append = wire_add(&writer, WIRE_APPEND, 0, sizeof *append + 24 + 8);
    struct wire_entry *entry = (struct wire_entry *)(append + 1);
    append->count = 1;
    add_entry((uint8_t *)entry, 1, 2, "abc", 3);
    uint32_t length = wire_finish(&writer);
    assert_int_equal(wire_check(buffer.bytes, length), WIRE_VALID);
    static const uint32_t counts[] = {0, 2, 3, UINT32_MAX};
    for (uint32_t i = 0; i < 4; i++) {
        append->count = counts[i];
        assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    }
    append->count = 1;
    static const uint8_t types[] = {0, 3, 255};
    for (uint32_t i = 0; i < 3; i++) {
        entry->type = types[i];
        assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    }
    entry->type = 1;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_VALID);
    ((uint8_t *)(entry + 1))[3] = 1; // padding
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    ((uint8_t *)(entry + 1))[3] = 0;
    entry->reserved8 = 1;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    entry->reserved8 = 0;
    entry->reserved = 1;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    entry->reserved = 0;
    append->life = 1; // of whom? nobody is said to have recovered
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    append->head.flags = WIRE_APPEND_RECOVERED;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_VALID);
    append->life = 0;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
}

static void a_node_without_its_log_tells_its_life(void **state) {
    (void)state;
    struct buffer buffer;
    struct wire_writer writer;
    wire_begin(&writer, buffer.bytes, WIRE_FRAME_MAX, CLUSTER, GROUP, 2);
    struct wire_append_reply *reply = wire_add(&writer, WIRE_APPEND_REPLY, 0, sizeof *reply);
    uint32_t length = wire_finish(&writer);
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_VALID);
    reply->life = 5;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    reply->head.flags = WIRE_APPEND_RECOVERING;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_VALID);
    reply->reserved = 1;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    reply->reserved = 0;
    reply->life = 0;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
}

// An append that claims more entries than it has, at the very end of the memory it lies in.
static void append_is_not_read_past_its_end(void **state) {
    (void)state;
    struct buffer buffer;
    struct wire_writer writer;
    begin(&writer, &buffer);
    struct wire_append *append = wire_add(&writer, WIRE_APPEND, 0, sizeof *append + 32);
    append->count = 1;
    add_entry((uint8_t *)(append + 1), 1, 2, "abc", 3);
    uint32_t length = wire_finish(&writer);
    for (uint32_t count = 2; count < 5; count++) {
        append->count = count;
        seal(&buffer, length);
        uint8_t *copy = NULL;
        assert_int_equal(posix_memalign((void **)&copy, 8, length), 0);
        memcpy(copy, buffer.bytes, length);
        assert_int_equal(wire_check(copy, length), WIRE_BAD_MESSAGE);
        free(copy);
    }
}

static void request_sums_must_be_exact(void **state) {
    (void)state;
    struct buffer buffer;
    struct wire_writer writer;
    char name[256] = {0};
    char value[1025] = {0};
    memset(name, 'n', 255);
    memset(value, 'v', 1024);
    begin(&writer, &buffer);
    struct wire_request *request = add_request(&writer, WIRE_OP_LOCK_ACQUIRE, name, value);
    assert_int_equal(request->head.length, WIRE_COMMAND_MAX);
    uint32_t length = wire_finish(&writer);
    assert_int_equal(wire_check(buffer.bytes, length), WIRE_VALID);
    request->name_length = 254; // the last value byte becomes padding, and it is not zero
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    request->name_length = 255;
    request->reserved = 1;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    request->reserved = 0;
    request->value_length = 65535;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    // 1025 bytes of value fit the same padded length when the name is shorter; still refused.
    request->value_length = 1025;
    request->name_length = 254;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    begin(&writer, &buffer);
    request = add_request(&writer, 60000, "", ""); // an unknown operation is well formed
    request->mode = 200;
    length = wire_finish(&writer);
    assert_int_equal(wire_check(buffer.bytes, length), WIRE_VALID);
    request->name_length = 1;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
}

static void snapshot_chunks_lie_inside_the_whole(void **state) {
    (void)state;
    struct buffer buffer;
    struct wire_writer writer;
    begin(&writer, &buffer);
    struct wire_snapshot *snapshot = wire_add(&writer, WIRE_SNAPSHOT, 0, sizeof *snapshot + 16);
    snapshot->offset = 1000;
    snapshot->total = 1016;
    snapshot->bytes = 16;
    uint32_t length = wire_finish(&writer);
    assert_int_equal(wire_check(buffer.bytes, length), WIRE_VALID);
    snapshot->total = 1015;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    snapshot->total = UINT64_MAX;
    snapshot->offset = UINT64_MAX - 8; // offset + bytes would wrap
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    snapshot->offset = UINT64_MAX - 16;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_VALID);
    static const uint32_t bytes[] = {0, 8, 17, 24, UINT32_MAX, UINT32_MAX - 63};
    for (uint32_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        snapshot->bytes = bytes[i];
        assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    }
}

// Every type: all lengths but the right one, all flags but the defined ones.
static void fixed_sizes_and_flags(void **state) {
    (void)state;
    static const struct {
        uint16_t type, length;
        uint32_t flags;
    } rules[] = {{WIRE_VOTE, 32, 1},
                 {WIRE_VOTE_REPLY, 16, 3},
                 {WIRE_APPEND, 56, 0},
                 {WIRE_APPEND_REPLY, 56, 1},
                 {WIRE_SNAPSHOT, 72, 0},
                 {WIRE_SNAPSHOT_REPLY, 40, 0},
                 {WIRE_REQUEST, 56, 0},
                 {WIRE_REPLY, 56, 0},
                 {WIRE_EVENT, 56, 0},
                 {0, 8, 0},
                 {7, 8, 0},
                 {35, 56, 0},
                 {65535, 56, 0}};
    for (uint32_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        int known = i < 9; // recovered and recovering need a life beside the flag
        for (uint32_t size = 8; size <= 128; size += 8) {
            for (uint32_t bit = 0; bit <= 32; bit++) {
                struct buffer buffer;
                struct wire_writer writer;
                begin(&writer, &buffer);
                uint32_t flags = bit < 32 ? 1u << bit : 0;
                wire_add(&writer, rules[i].type, flags, size);
                uint32_t length = wire_finish(&writer);
                enum wire_verdict want = WIRE_BAD_TYPE;
                if (known) {
                    int good = size == rules[i].length && (flags & ~rules[i].flags) == 0;
                    want = good ? WIRE_VALID : WIRE_BAD_MESSAGE;
                }
                assert_int_equal(wire_check(buffer.bytes, length), want);
            }
        }
    }
}

static void message_lengths_must_fit_the_frame(void **state) {
    (void)state;
    struct buffer buffer;
    struct wire_writer writer;
    begin(&writer, &buffer);
    struct wire_event *event = wire_add(&writer, WIRE_EVENT, 0, sizeof *event);
    uint32_t length = wire_finish(&writer);
    assert_int_equal(wire_check(buffer.bytes, length), WIRE_VALID);
    static const uint16_t lengths[] = {0, 1, 7, 8, 48, 55, 57, 64, 65535};
    for (uint32_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        event->head.length = lengths[i];
        assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
    }
    event->head.length = sizeof *event;
    event->reserved16 = 1;
    assert_int_equal(sealed_verdict(&buffer, length), WIRE_BAD_MESSAGE);
}

static void cluster_and_group_are_compared(void **state) {
    (void)state;
    struct buffer buffer;
    uint32_t length = build_all(&buffer);
    struct wire_frame *frame = (struct wire_frame *)buffer.bytes;
    assert_int_equal(wire_check_for(buffer.bytes, length, CLUSTER, GROUP), WIRE_VALID);
    assert_int_equal(wire_check_for(buffer.bytes, length, CLUSTER + 1, GROUP), WIRE_BAD_CLUSTER);
    assert_int_equal(wire_check_for(buffer.bytes, length, CLUSTER, GROUP + 1), WIRE_BAD_GROUP);
    assert_int_equal(wire_check_for(buffer.bytes, length - 8, CLUSTER, GROUP), WIRE_BAD_LENGTH);
    frame->cluster = 0; // not only status requests in it
    seal(&buffer, length);
    assert_int_equal(wire_check_for(buffer.bytes, length, CLUSTER, GROUP), WIRE_BAD_CLUSTER);
    assert_int_equal(wire_check_for(buffer.bytes, length, 0, GROUP), WIRE_BAD_CLUSTER);

    struct wire_writer writer;
    begin(&writer, &buffer);
    frame->cluster = 0;
    add_request(&writer, WIRE_OP_STATUS, "", "");
    add_request(&writer, WIRE_OP_STATUS, "", "");
    length = wire_finish(&writer);
    assert_int_equal(wire_check_for(buffer.bytes, length, CLUSTER, GROUP), WIRE_VALID);
    assert_int_equal(wire_check_for(buffer.bytes, length, CLUSTER, 1), WIRE_BAD_GROUP);
    add_request(&writer, WIRE_OP_COUNTERS, "", "");
    length = wire_finish(&writer);
    assert_int_equal(wire_check_for(buffer.bytes, length, CLUSTER, GROUP), WIRE_BAD_CLUSTER);
}

static void verdicts_have_names(void **state) {
    (void)state;
    for (int i = 0; i < WIRE_VERDICTS; i++) {
        assert_non_null(wire_verdict_name((enum wire_verdict)i));
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(wire_verdict_name((enum wire_verdict)i),
                                    wire_verdict_name((enum wire_verdict)k));
        }
    }
    assert_string_equal(wire_verdict_name(WIRE_BAD_MAGIC), "bad_magic");
    assert_string_equal(wire_verdict_name((enum wire_verdict)99), "bad_verdict");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sealed_damage_never_misleads_a_reader),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(sealed_truncation_is_valid_only_between_messages),
        cmocka_unit_test(crc32c_is_castagnoli),
        cmocka_unit_test(every_type_comes_back_as_it_was),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(headers_are_refused_by_name),
        cmocka_unit_test(sizes_at_the_boundary),
        cmocka_unit_test(longest_entry_fits_and_one_more_byte_does_not),
        cmocka_unit_test(a_node_without_its_log_tells_its_life),
        cmocka_unit_test(append_counts_must_fill_it),
        cmocka_unit_test(append_is_not_read_past_its_end),
        cmocka_unit_test(request_sums_must_be_exact),
        cmocka_unit_test(snapshot_chunks_lie_inside_the_whole),
        cmocka_unit_test(fixed_sizes_and_flags),
        cmocka_unit_test(message_lengths_must_fit_the_frame),
        cmocka_unit_test(cluster_and_group_are_compared),
        cmocka_unit_test(verdicts_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
