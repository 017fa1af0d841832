// Scenarios of the disk: power cuts, rot, writes that fail, names that are lost.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "durable_names.h"
#include "scenarios.h"
#include "store.h"
#include "wal_format.h"

static struct caller *three(struct scenario *s, uint16_t leader) {
    scenario_begin(s, 3, LARGE_LOGS);
    scenario_elect(s, leader);
    struct caller *c = caller_create(s);
    caller_open(c, 60000);
    scenario_run(s, 50);
    return c;
}

// Power goes while node 2 writes: of each write the first sector lands.
void play_torn_tail_boots(struct scenario *s) {
    struct caller *c = three(s, 1);
    uint64_t base = raft_last(scenario_raft(s, 2));
    sim_disk_hold(scenario_machine(s, 2)->disk, "wal-");
    caller_fill(c, 1, 8);
    AWAIT(s, 50, raft_last(scenario_raft(s, 2)) == base + 8);
    scenario_crash(s, 2, 1);
    scenario_restart(s, 2);
    const struct store_recovered *found = node_recovered(scenario_machine(s, 2)->node);
    GIVEN(s, found->torn_bytes > 0);
    MUST(s, !found->damaged, "a torn write that nobody was told of is called damage");
    MUST(s, raft_last(scenario_raft(s, 2)) >= base, "entries from before the torn write are gone");
    scenario_settle(s);
}

static void rot(struct scenario *s, uint16_t id, const char *what) {
    for (uint32_t i = 0; i < 8; i++) {
        static uint8_t bytes[1u << 20]; // a segment
        char name[16];
        snprintf(name, sizeof name, "wal-%02u.seg", i);
        struct disk *disk = scenario_machine(s, id)->disk;
        uint64_t size = sim_disk_peek(disk, name, bytes, sizeof bytes);
        const uint8_t *at = memmem(bytes, size, what, strlen(what));
        if (at == NULL) continue;
        sim_disk_poke(disk, name, (uint64_t)(at - bytes), *at ^ 0x10);
        return;
    }
    scenario_broken(s, "%s is not in the log of node %u", what, id);
}

// Nodes 1 and 2 have a grant that node 3 never heard of. All stop; the grant rots in the middle of
// node 2's log; nodes 2 and 3 start.
void play_damage_is_no_crash(struct scenario *s) {
    struct caller *c = three(s, 1);
    scenario_crash(s, 3, ALL_LANDS);
    uint64_t token = caller_acquire(c, "the-lock-that-rots");
    caller_acquire(c, "b");
    caller_acquire(c, "c");
    scenario_crash(s, 1, ALL_LANDS);
    scenario_crash(s, 2, ALL_LANDS);
    rot(s, 2, "the-lock-that-rots");
    scenario_restart(s, 2);
    scenario_restart(s, 3);
    scenario_run(s, 1000);
    MUST(s, scenario_leader(s) == 0 || caller_holder(c, "the-lock-that-rots") == token,
         "a majority with a damaged log has elected an acknowledged grant away");
    scenario_restart(s, 1);
    MUST(s, caller_holder(c, "the-lock-that-rots") == token, "an acknowledged grant is gone");
    scenario_settle(s);
}

// The disk of node 2 refuses one write of the log. Nodes 1 and 2 are a majority, if it is believed.
void play_fsync_failure(struct scenario *s) {
    struct caller *c = three(s, 1);
    scenario_crash(s, 3, ALL_LANDS);
    s->may_fail[2] = true;
    sim_disk_fail_next(scenario_machine(s, 2)->disk, "wal-");
    struct ask ask = {.op = WIRE_OP_LOCK_ACQUIRE, .name = "a"};
    uint64_t asked = caller_send(c, 1, &ask);
    scenario_run(s, 50);
    bool answered = caller_answer(c, asked) != NULL;
    bool stopped = node_failure(scenario_machine(s, 2)->node) != NULL;
    scenario_crash(s, 1, ALL_LANDS);
    scenario_crash(s, 2, ALL_LANDS);
    scenario_restart(s, 2);
    scenario_restart(s, 3);
    uint64_t held = caller_holder(c, "a");
    MUST(s, held != 0 || !answered, "a grant was acknowledged on the word of a write that failed");
    MUST(s, stopped, "a node whose log write failed goes on");
    scenario_settle(s);
}

// Node 2 votes for node 1, which leads; then the copy of the vote written last rots, and node 3
// asks for the same term.
void play_single_vote_copy(struct scenario *s) {
    (void)three(s, 3);
    uint64_t term = raft_term(scenario_raft(s, 3));
    scenario_crash(s, 3, ALL_LANDS);
    scenario_rule(s, (struct scenario_rule){.from = 1, .type = WIRE_APPEND, .action = DROP});
    scenario_elect(s, 1);
    GIVEN(s, raft_term(scenario_raft(s, 1)) == term + 1);
    scenario_crash(s, 1, ALL_LANDS);
    scenario_crash(s, 2, ALL_LANDS);
    struct disk *disk = scenario_machine(s, 2)->disk;
    uint8_t bytes[2 * STORE_BLOCK];
    GIVEN(s, sim_disk_peek(disk, "hard-state", bytes, sizeof bytes) == sizeof bytes);
    struct hard_state_block copies[2];
    for (uint32_t i = 0; i < 2; i++) memcpy(&copies[i], bytes + i * STORE_BLOCK, sizeof copies[i]);
    uint32_t newest = copies[1].sequence > copies[0].sequence ? STORE_BLOCK + 32 : 32;
    sim_disk_poke(disk, "hard-state", newest, bytes[newest] ^ 1);
    scenario_restart(s, 2);
    scenario_restart(s, 3);
    scenario_elect(s, 3);
    MUST(s, raft_term(scenario_raft(s, 3)) > term + 1, "node 2 has voted twice in term %lu",
         (unsigned long)term + 1);
    scenario_settle(s);
}

// ---------------------------------------------------------------- names, on real files

static bool write_term(struct store *store, struct store_request *request) {
    struct timespec rest = {.tv_nsec = 100000};
    if (!store_submit(store, request)) return false;
    for (uint32_t i = 0; i < 20000; i++) {
        struct store_request *done[1];
        if (store_poll(store, done, 1) == 1) return done[0]->status == 0;
        nanosleep(&rest, NULL);
    }
    return false;
}

// A real disk, since it is what makes files. Power goes: what no fsync of its directory has made
// durable loses its name.
void play_wal_directory_fsync(struct scenario *s) {
    char top[] = "/tmp/conclave-scenario-XXXXXX", data[64], error[STORE_ERROR_BYTES] = "";
    GIVEN(s, mkdtemp(top) != NULL);
    snprintf(data, sizeof data, "%s/data", top);
    struct store_options options = {
        .cluster = 7, .node = 1, .segment_bytes = 1u << 20, .segment_count = 3};
    struct store_recovered found = {0};
    for (uint32_t start = 0; start < 2; start++) {
        options.disk = disk_uring_open(data, error);
        if (options.disk == NULL) scenario_broken(s, "no disk to play on: %s", error);
        size_t bytes = (store_bytes(&options) + 4095u) & ~(size_t)4095u;
        void *memory = aligned_alloc(4096, bytes);
        memset(memory, 0, bytes);
        struct store *store;
        if (store_open(memory, &options, &store, &found, error) != 0)
            scenario_broken(s, "the store does not open: %s", error);
        struct store_request term = {.type = STORE_HARD_STATE,
                                     .hard_state = {.term = 5, .vote = 2, .sequence = 1}};
        if (start == 0) GIVEN(s, write_term(store, &term));
        store_close(store);
        options.disk->ops->close(options.disk);
        free(memory);
        if (start == 0) durable_names_power_cut(top);
    }
    durable_names_remove(top);
    MUST(s, found.term == 5 && found.vote == 2,
         "a vote in term 5 was acknowledged; after a power cut the files have no names");
}
