// Streams that carry their right hash and are wrong all the same: one word of one object is changed
// and the hash made to fit, as if the machine that wrote it had been wrong. Such a stream is
// refused, or what it gives is a whole machine: every lease can end, and then nothing is left of
// its tables.
#include "harness.h"
#include "machine/hash.h"
#include "machine/machine_internal.h"

static const struct machine_limits limits = {
    .sessions = 8, .leases = 16, .locks = 16, .claims = 32};

static const uint32_t object_bytes[TABLES] = {sizeof(struct session), sizeof(struct lease),
                                              sizeof(struct lock), sizeof(struct claim),
                                              sizeof(struct name_piece)};

static uint32_t unit_bytes(uint32_t what) {
    uint32_t bytes = sizeof(struct snapshot_mark);
    if (what < TABLES) return bytes + object_bytes[what];
    if (what == SNAPSHOT_HEAD) return bytes + (uint32_t)sizeof(struct snapshot_header);
    return what == SNAPSHOT_END ? bytes + 8 : bytes;
}

static void mend_hash(struct stream *stream) {
    uint64_t sum = 0;
    for (uint32_t at = 0; at < stream->length;) {
        struct snapshot_mark mark;
        memcpy(&mark, stream->bytes + at, sizeof mark);
        if (mark.what == SNAPSHOT_END) memcpy(stream->bytes + at + sizeof mark, &sum, sizeof sum);
        sum = hash_bytes(sum, stream->bytes + at, unit_bytes(mark.what));
        at += unit_bytes(mark.what);
    }
}

// Names of all lengths, two clients, queues.
static struct lab *original(void) {
    struct lab *lab = lab_open(&limits);
    struct client a = client_open(lab), b = client_open(lab);
    uint64_t leases[4];
    for (uint32_t i = 0; i < 4; i++) leases[i] = grant(lab, i % 2 ? &a : &b, 1000 + i);
    for (uint32_t i = 0; i < 8; i++) {
        char name[256];
        memset(name, 'a' + (int)i, sizeof name);
        name[1 + i * 30] = 0;
        for (uint32_t k = 0; k < 3; k++)
            acquire(lab, k % 2 ? &a : &b, name, leases[(i + k) % 4],
                    k == 2 ? 500 + i : WIRE_WAIT_FOREVER);
    }
    return lab;
}

static bool restored(struct machine *m, const struct stream *stream) {
    machine_restore_begin(m);
    bool good = machine_restore_write(m, stream->bytes, stream->length);
    return machine_restore_end(m) && good;
}

// Ends all leases by the machine's own commands.
static void end_everything(struct machine *m) {
    struct {
        struct wire_request request;
        struct wire_expiry due[16];
    } command = {.request = {.op = WIRE_OP_EXPIRE_LEASES}};
    struct machine_reply reply;
    uint64_t index = machine_applied(m) + 1;
    uint32_t count = 0;
    for (uint32_t slot = 1; slot <= m->pools[TABLE_LEASE].high; slot++)
        if (m->pools[TABLE_LEASE].live[slot])
            command.due[count++] = (struct wire_expiry){
                .lease = lease_at(m, slot)->id, .term = 9, .renewals = lease_at(m, slot)->renewals};
    uint32_t length = (uint32_t)(sizeof command.request + count * sizeof command.due[0]);
    command.request.head = (struct wire_head){.type = WIRE_REQUEST, .length = (uint16_t)length};
    command.request.value_length = (uint16_t)(length - sizeof command.request);
    if (count > 0)
        machine_apply(m, index, 9, UINT64_MAX, RAFT_ENTRY_COMMAND, &command, length, &reply);
}

static void a_wrong_word_is_refused_or_harmless(void **state) {
    struct lab *from = original();
    struct stream stream = stream_of(from);
    void *memory = aligned_alloc(64, machine_bytes(&limits));
    memset(memory, 0, machine_bytes(&limits));
    struct machine *m = machine_create(memory, &limits);
    struct stream wrong = {.bytes = malloc(stream.length), .length = stream.length};
    uint32_t refused = 0, taken = 0;
    for (uint32_t unit = 0; unit < stream.length;) {
        struct snapshot_mark mark;
        memcpy(&mark, stream.bytes + unit, sizeof mark);
        uint32_t end = unit + unit_bytes(mark.what);
        for (uint32_t at = unit + (uint32_t)sizeof mark; at < end && mark.what < TABLES; at += 4) {
            static const uint32_t values[] = {0, 1, 2, 3, 4, 5, 6, 7, 12, 16, 17, UINT32_MAX};
            for (uint32_t v = 0; v < sizeof values / sizeof values[0]; v++) {
                memcpy(wrong.bytes, stream.bytes, stream.length);
                memcpy(wrong.bytes + at, &values[v], 4);
                mend_hash(&wrong);
                if (!restored(m, &wrong)) {
                    refused++;
                    continue;
                }
                taken++;
                end_everything(m);
                if (machine_sizes(m).locks + machine_sizes(m).claims + machine_sizes(m).leases +
                        m->pools[TABLE_NAME].used >
                    0)
                    fail_msg("%u at byte %u of an object of table %u leaves something behind",
                             values[v], at - unit - (uint32_t)sizeof mark, mark.what);
            }
        }
        unit = end;
    }
    assert_true(refused > 1000 && taken > 1000);
    free(wrong.bytes);
    free(memory);
    stream_free(&stream);
    lab_close(from);
}

static void change(struct stream *stream, uint32_t table, uint32_t offset, uint32_t by) {
    for (uint32_t at = 0; at < stream->length;) {
        struct snapshot_mark mark;
        memcpy(&mark, stream->bytes + at, sizeof mark);
        if (mark.what == table) {
            uint8_t *word = stream->bytes + at + sizeof mark + offset;
            uint32_t value;
            memcpy(&value, word, 4);
            value += by;
            memcpy(word, &value, 4);
            mend_hash(stream);
            return;
        }
        at += unit_bytes(mark.what);
    }
    fail();
}

// Each of these would lie in wait: a lock nobody finds, a lease or a token given twice, a session
// idle since the future.
static void what_nobody_would_notice_is_refused(void **state) {
    static const struct {
        uint32_t table, offset, by;
    } changes[] = {
        {TABLE_LOCK, offsetof(struct lock, hash), 1},
        {TABLE_LOCK, offsetof(struct lock, name), 1}, // another name under the hash of the first
        {TABLE_LOCK, offsetof(struct lock, created), 1000},
        {TABLE_NAME, offsetof(struct name_piece, bytes), 1},
        {TABLE_LEASE, offsetof(struct lease, id), 1}, // the next one's
        {TABLE_LEASE, offsetof(struct lease, id), 1000},
        {TABLE_LEASE, offsetof(struct lease, ttl_ms), 1u << 30},
        {TABLE_CLAIM, offsetof(struct claim, id), 1},
        {TABLE_CLAIM, offsetof(struct claim, token), 1000},
        {TABLE_SESSION, offsetof(struct session, id), 1},
        {TABLE_SESSION, offsetof(struct session, last_index), 1000},
        {TABLE_SESSION, offsetof(struct session, last_ns) + 4, 1},
    };
    struct lab *from = original();
    void *memory = aligned_alloc(64, machine_bytes(&limits));
    memset(memory, 0, machine_bytes(&limits));
    struct machine *m = machine_create(memory, &limits);
    for (uint32_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct stream stream = stream_of(from);
        assert_true(restored(m, &stream));
        change(&stream, changes[i].table, changes[i].offset, changes[i].by);
        if (restored(m, &stream)) fail_msg("change %u is taken", i);
        stream_free(&stream);
    }
    free(memory);
    lab_close(from);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_word_is_refused_or_harmless),
        cmocka_unit_test(what_nobody_would_notice_is_refused),
    };
    return cmocka_run_group_tests_name("machine_restore", tests, NULL, NULL);
}
