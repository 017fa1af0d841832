// The store over the simulator's disk: what is acknowledged survives, what is torn is cut, what is
// damaged is said to be, and no byte that lies is believed.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim_internal.h"
#include "store.h"

#define ENTRIES_MAX 20000u
#define APPENDS     2u

// The simulator's chance and clock, as far as its disk needs them.
static struct sim sim;
static struct sim_machine machine;
// Of the disk's own faults, none strikes here: the tests choose theirs.
bool sim_strikes(struct sim *s, enum sim_fault fault) {
    return false;
}
bool sim_damages(struct sim *s, const struct sim_machine *m, enum sim_fault fault) {
    return false;
}
bool sim_can_be_lost(const struct sim *s, const struct sim_machine *m) {
    return false;
}
void sim_damage_done(struct sim *s, struct sim_machine *m) {}
void sim_trace(struct sim *s, const char *format, ...) {}
uint64_t sim_draw(struct sim *s, uint64_t below) {
    uint64_t z = s->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % below;
}

struct fixture {
    struct disk *disk;
    struct store *store;
    void *memory;
    struct store_recovered found;
    struct store_request append[APPENDS], hard, snapshot;
    bool busy[APPENDS], hard_busy, snapshot_busy;
    uint64_t last, acked;         // submitted, acknowledged
    uint64_t bodies[ENTRIES_MAX]; // what entry i holds
    uint64_t replayed;
    uint64_t replayed_bodies[ENTRIES_MAX];
    uint64_t first_replayed;
    uint64_t term_acked, term_asked;
    uint64_t snapshot_index, snapshot_asked;
};
static struct fixture f;

static const struct store_options options = {
    .cluster = 7, .node = 1, .segment_bytes = 1u << 20, .segment_count = 3};

static bool take(void *context, uint64_t index, const struct raft_entry *entry) {
    (void)context;
    assert_true(index < ENTRIES_MAX && entry->length >= 8);
    if (f.first_replayed == 0) f.first_replayed = index;
    assert_true(index <= f.replayed + 1 || f.replayed == 0);
    f.replayed = index;
    memcpy(&f.replayed_bodies[index], entry->data, 8);
    return true;
}

static void boot(void) {
    char error[STORE_ERROR_BYTES] = "";
    struct store_options o = options;
    o.disk = f.disk;
    memset(f.memory, 0, store_bytes(&o));
    if (store_open(f.memory, &o, &f.store, &f.found, error) != 0) fail_msg("%s", error);
    f.replayed = f.first_replayed = 0;
    assert_int_equal(store_replay(f.store, take, NULL), 0);
    memset(f.busy, 0, sizeof f.busy);
    f.hard_busy = f.snapshot_busy = false;
}

static void begin(uint64_t seed) {
    memset(&sim, 0, sizeof sim);
    memset(&f, 0, sizeof f);
    sim.random = seed;
    sim.now_ns = 1;
    f.disk = sim_disk_create(&sim, &machine);
    f.memory = aligned_alloc(4096, (store_bytes(&options) + 4095) & ~4095ull);
    for (uint32_t i = 0; i < APPENDS; i++) {
        f.append[i].type = STORE_APPEND;
        f.append[i].data = aligned_alloc(4096, STORE_BATCH_BYTES);
    }
    f.hard.type = STORE_HARD_STATE;
    f.snapshot.type = STORE_SNAPSHOT_WRITE;
    f.snapshot.data = aligned_alloc(4096, STORE_SNAPSHOT_BYTES);
    boot();
    // Term and vote come before any entry, as in a node's life.
    f.hard.hard_state.term = 1;
    assert_true(store_submit(f.store, &f.hard));
    struct store_request *done;
    for (sim.now_ns += 1000000000; store_poll(f.store, &done, 1) == 0;) sim.now_ns += 1000000;
    f.term_asked = f.term_acked = 1;
}

static void end(void) {
    sim_disk_destroy(f.disk);
    for (uint32_t i = 0; i < APPENDS; i++) free(f.append[i].data);
    free(f.snapshot.data);
    free(f.memory);
}

static void collect(void) {
    struct store_request *done[8];
    uint32_t count = store_poll(f.store, done, 8);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(done[i]->status, 0);
        if (done[i] == &f.hard) {
            f.hard_busy = false;
            f.term_acked = f.hard.hard_state.term;
        } else if (done[i] == &f.snapshot) {
            f.snapshot_busy = false;
            f.snapshot_index = f.snapshot.snapshot.index;
        } else {
            assert_true(done[i]->append.last_index > f.acked); // in order
            f.acked = done[i]->append.last_index;
            f.busy[done[i] == &f.append[1]] = false;
        }
    }
}

static bool urgent; // what append() asks for

static void append(uint32_t slot, uint32_t entries) {
    static uint8_t data[RAFT_ENTRY_MAX];
    struct store_request *r = &f.append[slot];
    store_batch_reset(r);
    r->append.urgent = urgent;
    for (uint32_t i = 0; i < entries; i++) {
        uint64_t index = f.last + 1 + i;
        f.bodies[index] = sim_draw(&sim, UINT64_MAX);
        memcpy(data, &f.bodies[index], 8);
        struct raft_entry entry = {
            .term = 1, .data = data, .type = 2, .length = (uint16_t)(8 + sim_draw(&sim, 1300))};
        assert_true(store_batch_add(r, index, &entry));
    }
    r->append.last_index = f.last + entries;
    if (!store_submit(f.store, r)) return; // full: as if never built
    f.last += entries;
    f.busy[slot] = true;
}

static void settle(void) {
    for (uint32_t i = 0; i < 4000; i++) {
        sim.now_ns += 1000000;
        collect();
    }
}

// What must hold after any crash: everything acknowledged is there, in order and right; what is
// there beyond was at least submitted.
static void check_recovered(void) {
    assert_false(f.found.damaged);
    assert_true(f.found.term == f.term_acked || f.found.term == f.term_asked);
    f.term_acked = f.term_asked = f.found.term;
    assert_true(f.found.snapshot_index == f.snapshot_index ||
                f.found.snapshot_index == f.snapshot_asked);
    f.snapshot_index = f.snapshot_asked = f.found.snapshot_index;
    uint64_t reached = f.replayed > f.snapshot_index ? f.replayed : f.snapshot_index;
    assert_true(reached >= f.acked && reached <= f.last);
    if (f.replayed > f.snapshot_index) assert_true(f.first_replayed <= f.snapshot_index + 1);
    for (uint64_t i = f.first_replayed; i > 0 && i <= f.replayed; i++)
        assert_true(f.replayed_bodies[i] == f.bodies[i]);
    f.last = f.acked = reached;
}

static void step(void) {
    sim.now_ns += sim_draw(&sim, 100000);
    uint32_t slot = (uint32_t)sim_draw(&sim, APPENDS);
    if (!f.busy[slot] && f.last + 40 < ENTRIES_MAX) append(slot, 1 + (uint32_t)sim_draw(&sim, 30));
    if (!f.hard_busy && sim_draw(&sim, 20) == 0) {
        f.hard.hard_state.term = ++f.term_asked;
        f.hard_busy = store_submit(f.store, &f.hard);
    }
    if (!f.snapshot_busy && f.acked > f.snapshot_index && sim_draw(&sim, 15) == 0) {
        memset(&f.snapshot.snapshot, 0, sizeof f.snapshot.snapshot);
        f.snapshot.snapshot.index = f.snapshot_asked = f.acked;
        f.snapshot.snapshot.term = 1;
        f.snapshot.snapshot.final = true;
        f.snapshot.bytes = 1 + (uint32_t)sim_draw(&sim, STORE_SNAPSHOT_BYTES);
        memset(f.snapshot.data, 0x5a, f.snapshot.bytes);
        f.snapshot_busy = store_submit(f.store, &f.snapshot);
    }
    collect();
}

static void test_crashes_lose_nothing_acknowledged(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        begin(seed);
        for (uint32_t life = 0; life < 12; life++) {
            uint64_t steps = sim_draw(&sim, 150);
            for (uint64_t i = 0; i < steps; i++) step();
            sim_disk_crash(f.disk);
            boot();
            check_recovered();
        }
        end();
    }
}

static void test_log_runs_for_ever_in_its_ring(void **state) {
    (void)state;
    begin(3);
    for (uint32_t i = 0; i < 12000 && f.last + 40 < ENTRIES_MAX; i++) step();
    settle();
    assert_true(store_counter(f.store, STORE_COUNT_SEGMENT_ROLLS) > 6);
    boot();
    check_recovered();
    end();
}

static void fill_ring(void) {
    for (uint32_t i = 0; i < 600; i++) {
        uint64_t before = f.last;
        append(0, 20);
        if (f.last == before) break;
        settle();
    }
}

static void take_snapshot(void) {
    f.snapshot.snapshot.index = f.snapshot_asked = f.acked;
    f.snapshot.snapshot.term = 1;
    f.snapshot.snapshot.final = true;
    f.snapshot.bytes = 100;
    assert_true(store_submit(f.store, &f.snapshot));
    settle();
}

static void test_full_ring_says_so_and_recovers(void **state) {
    (void)state;
    begin(4);
    fill_ring();
    assert_true(store_wal_full(f.store));
    assert_true(store_wal_used_percent(f.store) > 80);
    assert_true(store_counter(f.store, STORE_COUNT_WAL_FULL) > 0);
    take_snapshot();
    uint64_t before = f.last;
    append(0, 20);
    assert_true(f.last == before + 20);
    settle();
    boot();
    check_recovered();
    end();
}

// A snapshot was taken early and the log went on. What lies behind it is needed, in whichever
// segment: the ring is full when it would be written over, and says so.
static void test_a_snapshot_frees_only_what_it_covers(void **state) {
    (void)state;
    begin(5);
    append(0, 20);
    settle();
    take_snapshot();
    fill_ring();
    assert_true(store_wal_full(f.store));
    boot();
    assert_int_equal(f.found.snapshot_index, 20);
    assert_int_equal(f.first_replayed, 1); // the first segment is as it was
    check_recovered();
    end();
}

// A node that stopped with its log full needs one more entry before it may free any of it.
static void test_a_full_ring_takes_what_is_urgent(void **state) {
    (void)state;
    begin(4);
    for (uint32_t i = 0; i < 2000; i++) {
        uint64_t before = f.last;
        append(0, 1);
        if (f.last == before) break;
        settle();
    }
    for (uint32_t i = 0; i < 60; i++) {
        boot();
        check_recovered();
        uint64_t before = f.last;
        append(0, 1);
        assert_true(f.last == before); // nothing else gets in there
        urgent = true;
        append(0, 1);
        urgent = false;
        assert_true(f.last == before + 1);
        settle();
        assert_true(f.acked == f.last);
    }
    end();
}

// One byte anywhere in the log changes: what is believed afterwards is right, and if acknowledged
// entries with later ones behind them are gone, that is said.
static void test_any_damaged_byte_is_seen(void **state) {
    (void)state;
    uint32_t damaged = 0, cut = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        begin(seed);
        for (uint32_t i = 0; i < 6; i++) {
            append(0, 3);
            settle();
        }
        uint8_t block[4096];
        uint64_t at = sim_draw(&sim, 6 * 8192);
        uint64_t from = at & ~4095ull;
        f.disk->ops->read(f.disk, 0, from, block, sizeof block);
        block[at % 4096] ^= (uint8_t)(1u << sim_draw(&sim, 8));
        f.disk->ops->write(f.disk, 0, from, block, sizeof block);
        boot();
        for (uint64_t i = 1; i <= f.replayed; i++) assert_true(f.replayed_bodies[i] == f.bodies[i]);
        if (f.replayed + 3 < f.last) assert_true(f.found.damaged);
        damaged += f.found.damaged;
        cut += f.replayed < f.last && !f.found.damaged;
        end();
    }
    assert_true(damaged > 5 && cut > 0);
}

static void test_cut_batches_never_come_back(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        begin(seed);
        append(0, 2);
        settle();
        append(0, 2); // these two are in flight when power goes
        append(1, 2);
        sim_disk_crash(f.disk);
        boot();
        check_recovered();
        append(0, 2); // other entries at the same indices
        settle();
        boot();
        check_recovered();
        end();
    }
}

static void test_hard_state_survives_one_bad_copy(void **state) {
    (void)state;
    begin(9);
    uint8_t block[4096];
    for (uint64_t copy = 0; copy < 2; copy++) {
        f.disk->ops->read(f.disk, 36, copy * 4096, block, sizeof block);
        block[40] ^= 1;
        f.disk->ops->write(f.disk, 36, copy * 4096, block, sizeof block);
        if (copy == 0) {
            f.hard.hard_state.term = f.term_asked = 5;
            boot();
            assert_true(store_submit(f.store, &f.hard));
            settle();
            boot();
            assert_int_equal(f.found.term, 5);
        }
    }
    end();
}

static void test_another_clusters_directory_is_refused(void **state) {
    (void)state;
    begin(10);
    char error[STORE_ERROR_BYTES] = "";
    struct store_options other = options;
    other.disk = f.disk;
    other.cluster = 8;
    assert_int_equal(store_open(f.memory, &other, &f.store, &f.found, error), -EINVAL);
    assert_non_null(strstr(error, "belongs to node 1 of cluster 0x7"));
    end();
}

static void test_install_voids_the_older_log(void **state) {
    (void)state;
    begin(11);
    append(0, 5);
    settle();
    memset(&f.snapshot.snapshot, 0, sizeof f.snapshot.snapshot);
    f.snapshot.snapshot.index = 1000;
    f.snapshot.snapshot.term = 1;
    f.snapshot.snapshot.final = f.snapshot.snapshot.install = true;
    f.snapshot.bytes = 5000;
    assert_true(store_submit(f.store, &f.snapshot));
    settle();
    f.last = 1000;
    append(0, 3);
    settle();
    boot();
    assert_int_equal(f.found.snapshot_index, 1000);
    assert_int_equal(f.found.snapshot_bytes, 5000);
    assert_int_equal(f.first_replayed, 1001);
    assert_int_equal(f.replayed, 1003);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crashes_lose_nothing_acknowledged),
        cmocka_unit_test(test_log_runs_for_ever_in_its_ring),
        cmocka_unit_test(test_full_ring_says_so_and_recovers),
        cmocka_unit_test(test_a_snapshot_frees_only_what_it_covers),
        cmocka_unit_test(test_a_full_ring_takes_what_is_urgent),
        cmocka_unit_test(test_any_damaged_byte_is_seen),
        cmocka_unit_test(test_cut_batches_never_come_back),
        cmocka_unit_test(test_hard_state_survives_one_bad_copy),
        cmocka_unit_test(test_another_clusters_directory_is_refused),
        cmocka_unit_test(test_install_voids_the_older_log),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
