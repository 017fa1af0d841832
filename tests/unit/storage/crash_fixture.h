// What the tests of recovery begin with: a store on a disk in memory that the test lets crash.
#ifndef CONCLAVE_TEST_CRASH_FIXTURE_H
#define CONCLAVE_TEST_CRASH_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "disk_memory.h"
#include "store_internal.h"

#define SEGMENT     (1u << 20)
#define ENTRIES_MAX 4096u

struct fixture {
    struct disk *disk;
    struct store *store;
    void *memory;
    struct store_recovered found;
    struct store_request append[3], hard, snapshot;
    uint64_t last, first, term;
    uint64_t bodies[ENTRIES_MAX]; // what replay gave
    uint64_t sequence;
};
static struct fixture f;

static const struct store_options options = {
    .cluster = 7, .node = 1, .segment_bytes = SEGMENT, .segment_count = 3};

static inline bool take(void *context, uint64_t index, const struct raft_entry *entry) {
    (void)context;
    if (f.first == 0) f.first = index;
    f.last = index;
    memcpy(&f.bodies[index], entry->data, 8);
    return true;
}

static inline int try_boot(char error[STORE_ERROR_BYTES], bool memory) {
    struct store_options o = options;
    o.disk = f.disk;
    o.memory = memory;
    disk_memory_crash(f.disk);
    memset(f.memory, 0, store_bytes(&o));
    f.first = f.last = 0;
    int result = store_open(f.memory, &o, &f.store, &f.found, error);
    if (result == 0 && !memory) assert_int_equal(store_replay(f.store, take, NULL), 0);
    return result;
}

static inline void boot(void) {
    char error[STORE_ERROR_BYTES] = "";
    if (try_boot(error, false) != 0) fail_msg("%s", error);
}

static inline int setup(void **state) {
    (void)state;
    memset(&f, 0, sizeof f);
    f.disk = disk_memory_create();
    f.memory = aligned_alloc(4096, (store_bytes(&options) + 4095) & ~4095ull);
    for (uint32_t i = 0; i < 3; i++) {
        f.append[i].type = STORE_APPEND;
        f.append[i].data = aligned_alloc(4096, STORE_BATCH_BYTES);
    }
    f.hard.type = STORE_HARD_STATE;
    f.snapshot.type = STORE_SNAPSHOT_WRITE;
    f.snapshot.data = aligned_alloc(4096, STORE_SNAPSHOT_BYTES);
    f.term = 1;
    boot();
    return 0;
}

static inline int teardown(void **state) {
    (void)state;
    disk_memory_destroy(f.disk);
    for (uint32_t i = 0; i < 3; i++) free(f.append[i].data);
    free(f.snapshot.data);
    free(f.memory);
    return 0;
}

// Runs the store until nothing is under way; all lands.
static inline void settle(void) {
    struct store_request *done[8];
    for (uint32_t quiet = 0; quiet < 3;) {
        uint32_t count = store_poll(f.store, done, 8);
        for (uint32_t i = 0; i < count; i++) assert_int_equal(done[i]->status, 0);
        quiet = count + disk_memory_pending(f.disk) > 0 ? 0 : quiet + 1;
        disk_memory_land_all(f.disk);
    }
}

// Entries first .. first + count - 1 of `bytes` each, whose bodies begin with `body`.
static inline void submit(uint32_t slot, uint64_t first, uint32_t count, uint16_t bytes,
                          uint64_t body) {
    static uint8_t data[RAFT_ENTRY_MAX];
    struct store_request *r = &f.append[slot];
    store_batch_reset(r);
    memcpy(data, &body, sizeof body);
    for (uint32_t i = 0; i < count; i++) {
        struct raft_entry entry = {
            .term = f.term, .data = data, .length = bytes, .type = RAFT_ENTRY_COMMAND};
        assert_true(store_batch_add(r, first + i, &entry));
    }
    r->append.last_index = first + count - 1;
    assert_true(store_submit(f.store, r));
}

static inline void append(uint64_t first, uint32_t count, uint16_t bytes, uint64_t body) {
    submit(0, first, count, bytes, body);
    settle();
}

static inline void hard_state(uint64_t term, uint16_t vote, bool recovering) {
    f.hard.hard_state = (struct raft_hard_state){
        .term = term, .vote = vote, .sequence = ++f.sequence, .recovering = recovering};
    assert_true(store_submit(f.store, &f.hard));
    settle();
}

static inline void snapshot(uint64_t index, bool install) {
    memset(&f.snapshot.snapshot, 0, sizeof f.snapshot.snapshot);
    f.snapshot.snapshot.index = index;
    f.snapshot.snapshot.term = f.term;
    f.snapshot.snapshot.final = true;
    f.snapshot.snapshot.install = install;
    f.snapshot.bytes = 100;
    memset(f.snapshot.data, 0x5a, 100);
    assert_true(store_submit(f.store, &f.snapshot));
    settle();
}

// Fills the first segment so that the next batch goes to the start of the second: returns the last
// index. The ends of segments are where a batch and its successor lie apart.
static inline uint64_t fill_first_segment(void) {
    uint64_t last = 0;
    while (f.store->wal.current == 0 && f.store->wal.offset + 8192 < SEGMENT) {
        append(last + 1, 4, 1300, 1);
        last += 4;
    }
    return last;
}

// ---------------------------------------------------------------- torn, or damaged?

#endif
