// The wal stage over a disk whose completions the test decides: what must wait for what, and what
// must not.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "disk_memory.h"
#include "stage/stage_wal.h"

static struct {
    struct disk *disk;
    void *memory;
    struct stage_wal wal;
    struct store_request append[STAGE_APPENDS], hard, snapshot[STAGE_SNAPSHOTS];
    uint64_t now_ns;
    uint64_t last;
    void *back[64]; // in order
    uint32_t back_count;
} f;

static int setup(void **state) {
    (void)state;
    memset(&f, 0, sizeof f);
    f.disk = disk_memory_create();
    struct store_options options = {.disk = f.disk,
                                    .cluster = 7,
                                    .node = 1,
                                    .segment_bytes = 4 * STORE_BATCH_BYTES,
                                    .segment_count = 3};
    f.memory = aligned_alloc(4096, (store_bytes(&options) + 4095) & ~4095ull);
    struct store_recovered found;
    char error[STORE_ERROR_BYTES] = "";
    if (store_open(f.memory, &options, &f.wal.store, &found, error) != 0) fail_msg("%s", error);
    f.wal.from_consensus = ring_create("in", STAGE_WAL_REQUESTS);
    f.wal.to_consensus = ring_create("out", STAGE_WAL_REQUESTS);
    for (uint32_t i = 0; i < STAGE_APPENDS; i++) {
        f.append[i].type = STORE_APPEND;
        f.append[i].data = aligned_alloc(4096, STORE_BATCH_BYTES);
    }
    f.hard.type = STORE_HARD_STATE;
    for (uint32_t i = 0; i < STAGE_SNAPSHOTS; i++) {
        f.snapshot[i].type = STORE_SNAPSHOT_WRITE;
        f.snapshot[i].data = aligned_alloc(4096, STORE_SNAPSHOT_BYTES);
        memset(f.snapshot[i].data, 1, STORE_SNAPSHOT_BYTES);
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    ring_destroy(f.wal.from_consensus);
    ring_destroy(f.wal.to_consensus);
    for (uint32_t i = 0; i < STAGE_APPENDS; i++) free(f.append[i].data);
    for (uint32_t i = 0; i < STAGE_SNAPSHOTS; i++) free(f.snapshot[i].data);
    disk_memory_destroy(f.disk);
    free(f.memory);
    return 0;
}

static void push(struct store_request *request) {
    void *out = request;
    ring_put(f.wal.from_consensus, &out, 1);
}

// `all` lands what is on its way to the disk.
static void run(uint32_t rounds, bool all) {
    for (; rounds > 0; rounds--) {
        stage_wal_poll(&f.wal, f.now_ns += 1000);
        if (all) disk_memory_land_all(f.disk);
        f.back_count += ring_take(f.wal.to_consensus, f.back + f.back_count, 8);
        assert_true(f.back_count < 48);
    }
}

static bool came_back(const void *request) {
    for (uint32_t i = 0; i < f.back_count; i++)
        if (f.back[i] == request) return true;
    return false;
}

static void append(uint32_t slot, uint32_t entries) {
    static uint8_t data[RAFT_ENTRY_MAX];
    struct store_request *r = &f.append[slot];
    store_batch_reset(r);
    for (uint32_t i = 0; i < entries; i++) {
        struct raft_entry entry = {.term = 1, .data = data, .length = sizeof data, .type = 2};
        assert_true(store_batch_add(r, ++f.last, &entry));
    }
    r->append.last_index = f.last;
    push(r);
}

static void snapshot(uint32_t slot, uint64_t offset, uint64_t index, bool final) {
    struct store_request *r = &f.snapshot[slot];
    r->type = STORE_SNAPSHOT_WRITE;
    r->bytes = STORE_SNAPSHOT_BYTES;
    memset(&r->snapshot, 0, sizeof r->snapshot);
    r->snapshot.index = index;
    r->snapshot.term = 1;
    r->snapshot.offset = offset;
    r->snapshot.final = final;
    push(r);
}

// Fills the ring of segments until an append has to wait. Returns the last index written.
static uint64_t fill(void) {
    for (uint32_t i = 0; i < 100; i++) {
        f.back_count = 0;
        uint64_t written = f.last;
        append(0, 180);
        run(6, true);
        if (!came_back(&f.append[0])) return written;
        assert_int_equal(f.append[0].status, 0);
    }
    fail_msg("the log never filled");
    return 0;
}

// The log is full. Only a snapshot can free it, and it must not queue behind who waits for it.
static void test_full_log_is_freed_by_a_snapshot(void **state) {
    (void)state;
    uint64_t written = fill();
    f.hard.hard_state.term = 2;
    push(&f.hard); // nor must a vote
    snapshot(0, 0, written, false);
    snapshot(1, STORE_SNAPSHOT_BYTES, written, true);
    run(20, true);
    assert_true(came_back(&f.hard) && f.hard.status == 0);
    assert_true(came_back(&f.snapshot[0]) && f.snapshot[0].status == 0);
    assert_true(came_back(&f.snapshot[1]) && f.snapshot[1].status == 0);
    assert_true(came_back(&f.append[0]) && f.append[0].status == 0);
}

// A node that starts with a full log: its first append is refused, and nothing ever comes back that
// could tell so. Consensus must know from the start, or it never takes the snapshot that frees it.
static void test_a_full_log_is_told_at_the_start(void **state) {
    (void)state;
    (void)fill();
    assert_true(atomic_load(&f.wal.used_percent) > 50);
    struct stage_wal again = {.from_consensus = f.wal.from_consensus,
                              .to_consensus = f.wal.to_consensus};
    struct store_options options = {.disk = f.disk,
                                    .cluster = 7,
                                    .node = 1,
                                    .segment_bytes = 4 * STORE_BATCH_BYTES,
                                    .segment_count = 3};
    struct store_recovered found;
    char error[STORE_ERROR_BYTES] = "";
    disk_memory_crash(f.disk);
    memset(f.memory, 0, store_bytes(&options));
    if (store_open(f.memory, &options, &again.store, &found, error) != 0) fail_msg("%s", error);
    f.wal = again;
    stage_wal_begin(&f.wal);
    assert_true(atomic_load(&f.wal.used_percent) > 50);
    append(1, 180);
    run(6, true);
    assert_false(came_back(&f.append[1]));
    assert_true(atomic_load(&f.wal.used_percent) > 50);
}

static uint32_t place_in_order(const void *request) {
    for (uint32_t i = 0; i < f.back_count; i++)
        if (f.back[i] == request) return i;
    return UINT32_MAX;
}

// A snapshot received from a leader voids the log before it: the append that waits for room must
// neither hold it up nor land behind the restart, where it would be read back as what follows.
static void test_an_installed_snapshot_voids_appends_that_wait(void **state) {
    (void)state;
    uint64_t written = fill();
    append(1, 1); // behind the one that waits
    snapshot(0, 0, written + 1000, true);
    f.snapshot[0].snapshot.install = true;
    run(20, true);
    assert_true(came_back(&f.snapshot[0]) && f.snapshot[0].status == 0);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(came_back(&f.append[i]));
        assert_int_equal(f.append[i].status, -ECANCELED);
        assert_true(place_in_order(&f.append[i]) > place_in_order(&f.snapshot[0]));
    }
    // The log goes on behind the snapshot.
    f.last = written + 1000;
    f.back_count = 0;
    append(0, 1);
    run(6, true);
    assert_true(came_back(&f.append[0]) && f.append[0].status == 0);
}

// One that could not be written voids nothing: the appends still wait for room.
static void test_a_failed_install_voids_nothing(void **state) {
    (void)state;
    uint64_t written = fill();
    snapshot(0, STORE_SNAPSHOT_BYTES, written + 1000, true); // without its beginning: refused
    f.snapshot[0].snapshot.install = true;
    run(20, true);
    assert_true(came_back(&f.snapshot[0]) && f.snapshot[0].status != 0);
    assert_false(came_back(&f.append[0]));
    snapshot(1, 0, written, true);
    run(20, true);
    assert_true(came_back(&f.append[0]) && f.append[0].status == 0);
}

// Nor the reading of one, for a node far behind.
static void test_full_log_does_not_hold_up_a_transfer(void **state) {
    (void)state;
    snapshot(0, 0, 1, true);
    run(10, true);
    assert_true(came_back(&f.snapshot[0]));
    fill();
    f.back_count = 0;
    f.snapshot[1].type = STORE_SNAPSHOT_READ;
    f.snapshot[1].bytes = STORE_SNAPSHOT_BYTES;
    memset(&f.snapshot[1].snapshot, 0, sizeof f.snapshot[1].snapshot);
    push(&f.snapshot[1]);
    run(10, true);
    assert_true(came_back(&f.snapshot[1]) && f.snapshot[1].status == 0);
}

// Pieces of a snapshot wait for each other, and no append waits for them.
static void test_snapshots_hold_up_no_append(void **state) {
    (void)state;
    snapshot(0, 0, 1, false);
    snapshot(1, STORE_SNAPSHOT_BYTES, 1, false);
    append(0, 1);
    run(3, false);
    assert_int_equal(disk_memory_pending(f.disk), 2); // the first piece and the append
    disk_memory_land(f.disk, 0);
    disk_memory_land(f.disk, 0);
    run(2, false);
    assert_true(came_back(&f.append[0]));
    assert_false(came_back(&f.snapshot[1]));
    run(8, true);
    assert_true(came_back(&f.snapshot[1]) && f.snapshot[1].status == 0);
}

static void test_appends_come_back_in_order(void **state) {
    (void)state;
    fill();
    f.back_count = 0;
    append(1, 1); // would fit, but what was begun before it does not
    run(5, true);
    assert_int_equal(f.back_count, 0);
    snapshot(0, 0, f.last, true);
    run(20, true);
    assert_int_equal(f.back_count, 3);
    uint32_t first = 0, second = 0;
    for (uint32_t i = 0; i < f.back_count; i++) {
        if (f.back[i] == &f.append[0]) first = i + 1;
        if (f.back[i] == &f.append[1]) second = i + 1;
    }
    assert_true(first > 0 && second > first);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_full_log_is_freed_by_a_snapshot),
        TEST(test_a_full_log_is_told_at_the_start),
        TEST(test_an_installed_snapshot_voids_appends_that_wait),
        TEST(test_a_failed_install_voids_nothing),
        TEST(test_full_log_does_not_hold_up_a_transfer),
        TEST(test_snapshots_hold_up_no_append),
        TEST(test_appends_come_back_in_order),
    };
    return cmocka_run_group_tests_name("stage_wal", tests, NULL, NULL);
}
