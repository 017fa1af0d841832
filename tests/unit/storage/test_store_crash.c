// The store over a disk whose every completion the test decides: tears and damage at the places
// where recovery has to tell them apart, and what must outlive a second crash.
#include "crash_fixture.h"

// Two writes in flight over the end of a segment: the first is lost, the second lands whole at the
// start of the next segment. Neither was acknowledged.
static void test_lost_batch_before_a_landed_one_is_a_torn_tail(void **state) {
    (void)state;
    hard_state(1, 0, false);
    uint64_t last = fill_first_segment();
    submit(0, last + 1, 1, 3 * 400, 2);
    submit(1, last + 2, 30, 1300, 3);
    assert_int_equal(f.store->wal.current, 1); // the second went over
    assert_int_equal(disk_memory_pending(f.disk), 2);
    disk_memory_land(f.disk, 1);
    boot();
    assert_false(f.found.damaged);
    assert_int_equal(f.last, last);
    append(last + 1, 1, 100, 4);
    boot();
    assert_false(f.found.damaged);
    assert_int_equal(f.last, last + 1);
    assert_int_equal(f.bodies[last + 1], 4);
}

// In one segment it is the same.
static void test_lost_batch_before_a_landed_one_in_one_segment(void **state) {
    (void)state;
    hard_state(1, 0, false);
    append(1, 3, 100, 1);
    submit(0, 4, 3, 100, 2);
    submit(1, 7, 3, 100, 3);
    disk_memory_land(f.disk, 1);
    boot();
    assert_false(f.found.damaged);
    assert_int_equal(f.last, 3);
}

static void damage_batch(uint32_t segment, uint64_t offset) {
    disk_memory_file(f.disk, segment, 0)[offset + 200] ^= 0x10;
}

// Acknowledged entries are gone, and the log goes on after a leader brought it up to date. What lay
// behind the hole is still on the disk, longer than the new log, and must stay dead.
static void test_entries_behind_a_hole_never_come_back(void **state) {
    (void)state;
    hard_state(1, 0, false);
    uint64_t last = fill_first_segment();
    for (uint32_t i = 0; i < 20; i++) append(last + 1 + i, 1, 100, 2); // in the second segment
    damage_batch(0, 8192 * 3);
    boot();
    assert_true(f.found.damaged);
    uint64_t kept = f.last;
    assert_true(kept > 0 && kept < last);
    // A snapshot comes from the leader, beyond what the stale batches begin with.
    uint64_t installed = last + 5;
    snapshot(installed, true);
    hard_state(1, 0, false); // the leader said that it has recovered
    append(installed + 1, 3, 100, 9);
    boot();
    assert_false(f.found.damaged);
    assert_int_equal(f.found.snapshot_index, installed);
    assert_int_equal(f.first, installed + 1);
    assert_int_equal(f.last, installed + 3);
    for (uint64_t i = f.first; i <= f.last; i++) assert_int_equal(f.bodies[i], 9);
}

// The first batch of the log itself is damaged: nothing can be read, and the log begins anew.
static void test_a_log_begun_anew_is_found_again(void **state) {
    (void)state;
    hard_state(1, 0, false);
    uint64_t last = fill_first_segment();
    for (uint32_t i = 0; i < 20; i++) append(last + 1 + i, 1, 100, 2);
    damage_batch(0, 0);
    boot();
    assert_true(f.found.damaged);
    assert_int_equal(f.last, 0);
    append(1, 2, 100, 5); // a leader sends all again
    uint64_t installed = last + 10;
    snapshot(installed, true);
    hard_state(1, 0, false);
    append(installed + 1, 1, 100, 9);
    boot();
    assert_false(f.found.damaged);
    assert_int_equal(f.first, installed + 1);
    assert_int_equal(f.last, installed + 1);
    assert_int_equal(f.bodies[f.last], 9);
}

// Damaged, partly repaired, and down again before the leader had said that all is there.
static void test_damage_is_remembered_over_restarts(void **state) {
    (void)state;
    hard_state(1, 0, false);
    for (uint32_t i = 0; i < 10; i++) append(1 + i, 1, 100, 1);
    damage_batch(0, 4096 * 4);
    boot();
    assert_true(f.found.damaged);
    assert_int_equal(f.last, 4);
    append(5, 1, 100, 2); // written over the damage
    boot();
    assert_true(f.found.damaged);
    hard_state(2, 0, true); // a newer term, still without the rest
    boot();
    assert_true(f.found.damaged);
    hard_state(2, 0, false);
    boot();
    assert_false(f.found.damaged);
    assert_int_equal(f.found.term, 2);
}

static void test_damaged_snapshot_is_remembered_over_restarts(void **state) {
    (void)state;
    hard_state(1, 0, false);
    append(1, 5, 100, 1);
    snapshot(5, false);
    append(6, 5, 100, 1);
    snapshot(10, false);
    uint32_t newest = STORE_FILE_SNAP + f.store->snapshot.newest;
    disk_memory_file(f.disk, newest, 0)[8192] ^= 1; // its table of checksums
    boot();
    assert_true(f.found.damaged);
    assert_int_equal(f.found.snapshot_index, 5);
    snapshot(10, false);
    boot();
    assert_true(f.found.damaged);
    assert_int_equal(f.found.snapshot_index, 10);
}

// Power went between a received snapshot and the RESET behind it, so that the log goes on behind
// the snapshot with nothing in between. Then that snapshot is damaged: what follows it has no
// ground.
static void test_log_behind_a_lost_snapshot_is_not_replayed(void **state) {
    (void)state;
    hard_state(1, 0, false);
    append(1, 3, 100, 1);
    snapshot(3, false);
    memset(&f.snapshot.snapshot, 0, sizeof f.snapshot.snapshot);
    f.snapshot.snapshot.index = 50;
    f.snapshot.snapshot.term = 1;
    f.snapshot.snapshot.final = f.snapshot.snapshot.install = true;
    assert_true(store_submit(f.store, &f.snapshot));
    struct store_request *done[4];
    for (uint32_t written = 0; written < 3;) {
        (void)store_poll(f.store, done, 4);
        if (disk_memory_pending(f.disk) == 0) continue;
        disk_memory_land(f.disk, 0);
        written++;
    }
    boot();
    assert_int_equal(f.found.snapshot_index, 50);
    append(51, 3, 100, 2);
    boot();
    assert_false(f.found.damaged);
    assert_int_equal(f.last, 53);
    uint32_t newest = STORE_FILE_SNAP + f.store->snapshot.newest;
    disk_memory_file(f.disk, newest, 0)[8192] ^= 1;
    boot();
    assert_true(f.found.damaged);
    assert_int_equal(f.found.snapshot_index, 3);
    assert_int_equal(f.last, 0);
}

// A client's value may look like a batch that proves damage: it is a value all the same.
static void test_no_value_passes_for_a_batch(void **state) {
    (void)state;
    hard_state(1, 0, false);
    append(1, 1, 100, 1);
    struct wal_batch_header forged = {.magic = WAL_MAGIC,
                                      .version = WAL_VERSION,
                                      .node = options.node,
                                      .cluster = options.cluster,
                                      .life = 1u << 20,
                                      .sequence = 1u << 20,
                                      .durable = (1u << 20) - 1,
                                      .body_crc = 0};
    forged.header_crc = store_crc(&forged, sizeof forged);
    // One entry's bytes lie over the batch's second block, and begin there with the forgery.
    uint8_t data[RAFT_ENTRY_MAX] = {0};
    struct store_request *r = &f.append[0];
    store_batch_reset(r);
    for (uint64_t index = 2; r->bytes < 8192; index++) {
        uint32_t start = r->bytes + (uint32_t)sizeof(struct wal_record);
        memset(data, 0, sizeof data);
        for (uint32_t at = 0; at + sizeof forged <= sizeof data; at += 8)
            if ((start + at) % 4096 == 0) memcpy(data + at, &forged, sizeof forged);
        struct raft_entry entry = {.term = 1, .data = data, .length = 1344, .type = 2};
        assert_true(store_batch_add(r, index, &entry));
        r->append.last_index = index;
    }
    assert_true(store_submit(f.store, r));
    settle();
    const uint8_t *file = disk_memory_file(f.disk, 0, 0);
    assert_memory_equal(file + 4096 + 4096, &forged, sizeof forged); // it does lie on a block
    boot();
    assert_false(f.found.damaged);
    assert_int_equal(f.last, f.append[0].append.last_index);
    assert_true(f.store->wal.life < 100);
}

// A sector that cannot be read any more, in the middle of the log.
static void test_unreadable_sector_is_damage(void **state) {
    (void)state;
    hard_state(1, 0, false);
    for (uint32_t i = 0; i < 10; i++) append(1 + i, 1, 100, 1);
    disk_memory_unreadable(f.disk, 0, 4096 * 4);
    boot();
    assert_true(f.found.damaged);
    assert_int_equal(f.last, 4);
}

// The newest batch: nothing behind it says that it had been durable, but that it cannot be read is
// no sign of power that went while it was written.
static void test_unreadable_newest_batch_is_damage(void **state) {
    (void)state;
    for (uint32_t body = 0; body < 2; body++) {
        teardown(NULL);
        setup(NULL);
        hard_state(1, 0, false);
        for (uint32_t i = 0; i < 9; i++) append(1 + i, 1, 100, 1);
        append(10, 6, 1300, 1);                       // of two blocks
        disk_memory_unreadable(f.disk, 0, 4096 * 20); // where nothing can be missing
        boot();
        assert_false(f.found.damaged);
        disk_memory_unreadable(f.disk, 0, 4096 * (9 + body));
        boot();
        assert_true(f.found.damaged);
        assert_int_equal(f.last, 9);
    }
}

// ---------------------------------------------------------------- term and vote

static void damage_hard_state(uint32_t copy) {
    disk_memory_file(f.disk, STORE_FILE_HARD, 0)[copy * 4096 + 40] ^= 1;
}

// Either copy may rot at any time after the vote was acknowledged: it is in the other.
static void test_acknowledged_vote_survives_the_loss_of_either_copy(void **state) {
    (void)state;
    for (uint32_t copy = 0; copy < 2; copy++) {
        for (uint32_t votes = 1; votes <= 4; votes++) {
            teardown(NULL);
            setup(NULL);
            for (uint32_t i = 1; i <= votes; i++) hard_state(i, (uint16_t)(1 + i % 3), false);
            damage_hard_state(copy);
            boot();
            assert_int_equal(f.found.term, votes);
            assert_int_equal(f.found.vote, 1 + votes % 3);
            damage_hard_state(1 - copy); // the damaged one was made whole at start
            boot();
            assert_int_equal(f.found.term, votes);
        }
    }
}

// Power goes at any moment while a vote is written: the one before it, or this one; and never again
// the one before it once this one was seen.
static void test_torn_vote_is_the_old_or_the_new(void **state) {
    (void)state;
    for (uint32_t writes = 0; writes < 2; writes++) {
        for (uint32_t torn = 0; torn <= 1; torn++) {
            teardown(NULL);
            setup(NULL);
            hard_state(4, 1, false);
            f.hard.hard_state = (struct raft_hard_state){.term = 5, .vote = 2, .sequence = 9};
            assert_true(store_submit(f.store, &f.hard));
            struct store_request *done[4];
            for (uint32_t i = 0; i < writes; i++) {
                disk_memory_land(f.disk, 0);
                assert_int_equal(store_poll(f.store, done, 4), 0); // not yet acknowledged
            }
            assert_int_equal(disk_memory_pending(f.disk), 1);
            if (torn) disk_memory_tear(f.disk, 0, 0, 20); // a device without atomic sectors
            boot();
            uint64_t term = f.found.term;
            assert_true(term == 4 || term == 5);
            assert_int_equal(f.found.vote, term == 4 ? 1 : 2);
            for (uint32_t copy = 0; copy < 2; copy++) {
                damage_hard_state(copy);
                boot();
                assert_int_equal(f.found.term, term);
            }
        }
    }
}

static void test_both_copies_damaged_is_refused(void **state) {
    (void)state;
    hard_state(3, 1, false);
    damage_hard_state(0);
    damage_hard_state(1);
    char error[STORE_ERROR_BYTES] = "";
    assert_int_equal(try_boot(error, false), -EBADMSG);
    assert_non_null(strstr(error, "both copies of hard-state"));
}

static int try_segments(uint32_t count, char error[STORE_ERROR_BYTES]) {
    struct store_options o = options;
    o.disk = f.disk;
    o.segment_count = count;
    disk_memory_crash(f.disk);
    memset(f.memory, 0, store_bytes(&o));
    return store_open(f.memory, &o, &f.store, &f.found, error);
}

// Another number of segments would not find the log's end. A refusal changes nothing on disk.
static void test_another_number_of_segments_is_refused(void **state) {
    (void)state;
    hard_state(3, 1, false);
    append(1, 2, 100, 1);
    char error[STORE_ERROR_BYTES] = "";
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(try_segments(4, error), -EINVAL);
        assert_non_null(strstr(error, "it is 4, and there are 3"));
    }
    boot();
    assert_int_equal(f.last, 2);
}

static void test_fewer_segments_are_refused(void **state) {
    (void)state;
    char error[STORE_ERROR_BYTES] = "";
    assert_int_equal(try_segments(5, error), 0); // nothing was ever said here: not a used log
    hard_state(3, 1, false);
    assert_int_equal(try_segments(4, error), -EINVAL);
    assert_non_null(strstr(error, "it is 4, and there are 5"));
    assert_int_equal(try_segments(5, error), 0);
}

// A follower's first entry and its first term are written side by side: the entry may be first.
static void test_entries_may_be_durable_before_the_first_term(void **state) {
    (void)state;
    append(1, 2, 100, 1);
    boot();
    assert_false(f.found.damaged);
    assert_int_equal(f.last, 2);
    assert_int_equal(f.found.term, 0);
}

static void test_log_without_any_hard_state_is_refused(void **state) {
    (void)state;
    hard_state(3, 1, false);
    append(1, 2, 100, 1);
    memset(disk_memory_file(f.disk, STORE_FILE_HARD, 0), 0, 8192); // the file was removed
    char error[STORE_ERROR_BYTES] = "";
    assert_int_equal(try_boot(error, false), -EBADMSG);
    assert_non_null(strstr(error, "no hard-state"));
}

static void test_an_untouched_directory_is_not_a_used_one(void **state) {
    (void)state;
    boot();
    boot();
    assert_false(f.found.existed);
    hard_state(1, 0, false);
    boot();
    assert_true(f.found.existed);
}

// What was acknowledged in memory is not on the disk that is trusted from now on.
static void test_disk_after_memory_is_damage(void **state) {
    (void)state;
    char error[STORE_ERROR_BYTES] = "";
    hard_state(1, 0, false);
    append(1, 2, 100, 1);
    assert_int_equal(try_boot(error, true), 0);
    assert_true(f.found.existed);
    hard_state(2, 0, true);
    hard_state(2, 1, false);
    boot();
    assert_true(f.found.damaged);
    boot();
    assert_true(f.found.damaged);
    hard_state(3, 0, false);
    boot();
    assert_false(f.found.damaged);
}

// ---------------------------------------------------------------- failures of the disk

static void test_failed_write_ends_the_store(void **state) {
    (void)state;
    hard_state(1, 0, false);
    submit(0, 1, 1, 100, 1);
    submit(1, 2, 1, 100, 1);
    disk_memory_fail(f.disk, 0, -EIO);
    disk_memory_land(f.disk, 0); // the one behind it lands: it does not count any more
    struct store_request *done[4];
    assert_int_equal(store_poll(f.store, done, 4), 2);
    assert_int_equal(done[0]->status, -EIO);
    assert_int_equal(done[1]->status, -EIO);
    assert_int_equal(store_state(f.store), STORE_FAILED);
    assert_true(store_submit(f.store, &f.append[2]));
    assert_int_equal(store_poll(f.store, done, 4), 1);
    assert_int_equal(done[0]->status, -EIO);
}

// The RESET behind an installed snapshot fails: who waits for the install must hear of it.
static void test_failed_reset_is_reported(void **state) {
    (void)state;
    hard_state(1, 0, false);
    append(1, 1, 100, 1);
    memset(&f.snapshot.snapshot, 0, sizeof f.snapshot.snapshot);
    f.snapshot.snapshot.index = 50;
    f.snapshot.snapshot.term = 1;
    f.snapshot.snapshot.final = f.snapshot.snapshot.install = true;
    f.snapshot.bytes = 100;
    assert_true(store_submit(f.store, &f.snapshot));
    struct store_request *done[4];
    for (uint32_t write = 0; write < 4; write++) { // data, table, header, and the RESET
        for (uint32_t i = 0; i < 3 && disk_memory_pending(f.disk) == 0; i++)
            assert_int_equal(store_poll(f.store, done, 4), 0);
        assert_int_equal(disk_memory_pending(f.disk), 1);
        if (write < 3)
            disk_memory_land(f.disk, 0);
        else
            disk_memory_fail(f.disk, 0, -EIO);
        assert_int_equal(store_poll(f.store, done, 4), write == 3);
    }
    assert_ptr_equal(done[0], &f.snapshot);
    assert_int_equal(done[0]->status, -EIO);
    assert_int_equal(store_state(f.store), STORE_FAILED);
}

// A snapshot that rots after it was written is not sent to anybody.
static void test_rotten_snapshot_is_not_read(void **state) {
    (void)state;
    struct store_request *done[4];
    append(1, 1, 100, 1);
    snapshot(1, false);
    uint32_t newest = STORE_FILE_SNAP + f.store->snapshot.newest;
    disk_memory_file(f.disk, newest, 0)[STORE_BLOCK + 50] ^= 1;
    f.snapshot.type = STORE_SNAPSHOT_READ;
    f.snapshot.snapshot.offset = 0;
    assert_true(store_submit(f.store, &f.snapshot));
    disk_memory_land_all(f.disk);
    assert_int_equal(store_poll(f.store, done, 4), 1);
    assert_int_equal(done[0]->status, -EBADMSG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_lost_batch_before_a_landed_one_is_a_torn_tail),
        TEST(test_lost_batch_before_a_landed_one_in_one_segment),
        TEST(test_entries_behind_a_hole_never_come_back),
        TEST(test_a_log_begun_anew_is_found_again),
        TEST(test_damage_is_remembered_over_restarts),
        TEST(test_damaged_snapshot_is_remembered_over_restarts),
        TEST(test_log_behind_a_lost_snapshot_is_not_replayed),
        TEST(test_no_value_passes_for_a_batch),
        TEST(test_unreadable_sector_is_damage),
        TEST(test_unreadable_newest_batch_is_damage),
        TEST(test_acknowledged_vote_survives_the_loss_of_either_copy),
        TEST(test_torn_vote_is_the_old_or_the_new),
        TEST(test_both_copies_damaged_is_refused),
        TEST(test_another_number_of_segments_is_refused),
        TEST(test_fewer_segments_are_refused),
        TEST(test_entries_may_be_durable_before_the_first_term),
        TEST(test_log_without_any_hard_state_is_refused),
        TEST(test_an_untouched_directory_is_not_a_used_one),
        TEST(test_disk_after_memory_is_damage),
        TEST(test_failed_write_ends_the_store),
        TEST(test_failed_reset_is_reported),
        TEST(test_rotten_snapshot_is_not_read),
    };
    return cmocka_run_group_tests_name("store_crash", tests, NULL, NULL);
}
