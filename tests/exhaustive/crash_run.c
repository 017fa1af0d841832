// Walks every order of submitting the scope's steps and of its writes landing. A node of the walk
// is a path of choices, run from the prepared disk each time: the store cannot be copied halfway,
// but it does the same when it is asked the same.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crash.h"

#define SUBMIT 0xffu // a choice; any other is the number of a pending write that lands

struct crash crash;

void crash_broken(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "crash scope '%s', ", crash.scope ? crash.scope->name : "");
    for (uint32_t i = 0; i < crash.path_length; i++)
        if (crash.path[i] == SUBMIT)
            fprintf(stderr, "submit, ");
        else
            fprintf(stderr, "land %u, ", crash.path[i]);
    fprintf(stderr, "then of the sectors set 0x%llx:\n  ", (unsigned long long)crash.kept);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

// ---------------------------------------------------------------- one machine

static void build_append(struct store_request *r, const struct batch *batch) {
    uint8_t data[RAFT_ENTRY_MAX];
    store_batch_reset(r);
    fill_entry(data, &batch->entry);
    struct raft_entry entry = {.term = batch->entry.term,
                               .data = data,
                               .length = batch->entry.length,
                               .type = RAFT_ENTRY_COMMAND};
    for (uint32_t i = 0; i < batch->count; i++)
        if (!store_batch_add(r, batch->first + i, &entry)) crash_broken("scope: batch too large");
    r->append.last_index = batch->first + batch->count - 1;
}

static bool build_snapshot(struct store_request *r, const struct step *step) {
    uint32_t left = step->snapshot.bytes - step->offset;
    bool final = left <= STORE_SNAPSHOT_BYTES;
    r->bytes = final ? left : STORE_SNAPSHOT_BYTES;
    fill_chunk(r->data, &step->snapshot, step->offset, r->bytes);
    memset(&r->snapshot, 0, sizeof r->snapshot);
    r->snapshot.index = step->snapshot.index;
    r->snapshot.term = step->snapshot.term;
    r->snapshot.offset = step->offset;
    r->snapshot.final = final;
    r->snapshot.install = step->snapshot.install;
    return final;
}

static void note(struct expected *expect, const struct step *step, bool final) {
    switch (step->type) {
    case STEP_APPEND:
        expect->open[expect->open_count++] = step->batch;
        break;
    case STEP_VOTE:
        expect->vote_open = step->vote;
        expect->voting = true;
        break;
    case STEP_SNAPSHOT:
        if (!final) break;
        expect->snapshot_open = step->snapshot;
        expect->snapshotting = true;
        if (step->snapshot.install)
            expect->open[expect->open_count++] =
                (struct batch){.reset = true, .first = step->snapshot.index};
        break;
    }
}

bool crash_submit(struct machine *machine, struct expected *expect, uint32_t slot,
                  const struct step *step) {
    struct store_request *r = &machine->requests[slot];
    bool final = false;
    if (step->type == STEP_APPEND) {
        r->type = STORE_APPEND;
        build_append(r, &step->batch);
    } else if (step->type == STEP_VOTE) {
        r->type = STORE_HARD_STATE;
        r->hard_state = (struct raft_hard_state){.term = step->vote.term, .vote = step->vote.vote};
    } else {
        r->type = STORE_SNAPSHOT_WRITE;
        final = build_snapshot(r, step);
    }
    if (!store_submit(machine->store, r)) return false;
    note(expect, step, final);
    return true;
}

static void log_reported(struct expected *expect, bool reset) {
    if (expect->open_count == 0 || expect->open[0].reset != reset)
        crash_broken("reported: writes of the log out of order");
    log_apply(&expect->log, &expect->open[0]);
    expect->open_count--;
    memmove(expect->open, expect->open + 1, expect->open_count * sizeof *expect->open);
}

static void reported(struct expected *expect, const struct store_request *r) {
    if (r->status != 0) crash_broken("going on: a request failed with %d", r->status);
    if (r->type == STORE_APPEND) {
        log_reported(expect, false);
    } else if (r->type == STORE_HARD_STATE) {
        expect->vote = expect->vote_open;
        expect->voting = false;
    } else if (r->snapshot.final) {
        if (r->snapshot.install) log_reported(expect, true);
        expect->snapshot = expect->snapshot_open;
        expect->snapshotting = false;
    }
}

// Until the store has nothing more to do by itself: one poll takes what has landed, the next begins
// the write that follows from it.
void crash_poll(struct machine *machine, struct expected *expect) {
    struct store_request *done[STORE_DONE_MAX];
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t count = store_poll(machine->store, done, STORE_DONE_MAX);
        for (uint32_t k = 0; k < count; k++) reported(expect, done[k]);
    }
}

void crash_settle(struct machine *machine, struct expected *expect) {
    crash_poll(machine, expect);
    while (disk_memory_pending(crash.disk) > 0) {
        disk_memory_land(crash.disk, 0);
        crash_poll(machine, expect);
    }
}

void crash_do(const struct step *step) {
    if (!crash_submit(&crash.node, &crash.expect, 0, step))
        crash_broken("scope: cannot be prepared");
    crash_settle(&crash.node, &crash.expect);
}

// ---------------------------------------------------------------- sets of sectors

// Moves the sectors at the edges of the writes to the front: of each write the first, then the
// last, then the second, and so on.
static void edges_first(struct disk_memory_sector *sectors, uint32_t count, uint32_t wanted) {
    static struct disk_memory_sector sorted[SECTORS_MAX];
    static bool used[SECTORS_MAX];
    uint32_t n = 0;
    memset(used, 0, sizeof used);
    for (uint32_t round = 0; n < wanted; round++) {
        for (uint32_t from = 0, to; from < count && n < wanted; from = to) {
            to = from;
            while (to < count && sectors[to].operation == sectors[from].operation) to++;
            uint32_t depth = round / 2;
            if (depth * 2 + round % 2 >= to - from) continue;
            uint32_t at = round % 2 == 0 ? from + depth : to - 1 - depth;
            used[at] = true;
            sorted[n++] = sectors[at];
        }
    }
    for (uint32_t i = 0; i < count; i++)
        if (!used[i]) sorted[n++] = sectors[i];
    memcpy(sectors, sorted, count * sizeof *sectors);
}

// A sector that was being written when power went: its first bytes are new, the rest is old. A
// device must not do that, some do.
static void put_torn(const struct disk_memory_sector *sector) {
    struct disk_memory_sector torn = *sector;
    const uint8_t *old = disk_memory_file(crash.disk, sector->file, 0);
    memcpy(torn.bytes + TORN_BYTES, old + sector->offset + TORN_BYTES, DISK_SECTOR - TORN_BYTES);
    disk_memory_put_sector(crash.disk, &torn);
}

// Where only a few sectors are under way: each set again, and one of the lost ones torn.
static void each_torn(const struct disk_memory_sector *sectors, uint32_t count,
                      void (*fn)(const void *), const void *argument) {
    size_t point = disk_memory_point(crash.disk);
    for (uint32_t torn = 0; torn < count && count <= TORN_SECTORS; torn++) {
        if (sectors[torn].offset + DISK_SECTOR >
            (uint64_t)crash.disk->ops->size(crash.disk, sectors[torn].file))
            continue; // there is nothing old
        for (uint64_t set = 0; set < 1ull << count; set++) {
            if (set & (1ull << torn)) continue;
            for (uint32_t i = 0; i < count; i++)
                if (set & (1ull << i)) disk_memory_put_sector(crash.disk, &sectors[i]);
            put_torn(&sectors[torn]);
            crash.kept = set | (torn + 1ull) << 32;
            fn(argument);
            disk_memory_rollback(crash.disk, point);
        }
    }
    crash.kept = 0;
}

void crash_each_set(struct disk_memory_sector *sectors, uint32_t count, uint32_t all,
                    void (*fn)(const void *), const void *argument) {
    size_t point = disk_memory_point(crash.disk);
    uint64_t outer = crash.kept;
    uint32_t bits = count;
    if (count > all) {
        edges_first(sectors, count, all);
        bits = all + 1; // the last stands for all the rest
    }
    for (uint64_t set = 0; set < 1ull << bits; set++) {
        for (uint32_t i = 0; i < count; i++)
            if (set & (1ull << (i < bits ? i : bits - 1)))
                disk_memory_put_sector(crash.disk, &sectors[i]);
        crash.kept = outer << 16 | set;
        fn(argument);
        disk_memory_rollback(crash.disk, point);
    }
    crash.kept = outer;
}

// ---------------------------------------------------------------- every order

struct prepared {
    uint8_t *memory; // of the store, as it was
    size_t disk;
    struct expected expect;
};
static struct prepared prepared;

static bool waits(const struct step *step, const struct expected *expect) {
    return step->alone && (expect->open_count > 0 || expect->voting || expect->snapshotting ||
                           disk_memory_pending(crash.disk) > 0);
}

// From the prepared disk along the path. False: its last choice is not there to take.
static bool run(uint32_t *submitted) {
    struct expected *expect = &crash.expect;
    disk_memory_rollback(crash.disk, prepared.disk);
    memcpy(crash.node.memory, prepared.memory, store_bytes(&crash.options));
    *expect = prepared.expect;
    *submitted = 0;
    for (uint32_t i = 0; i < crash.path_length; i++) {
        if (crash.path[i] == SUBMIT) {
            if (*submitted == crash.scope->step_count) return false;
            const struct step *step = &crash.scope->steps[*submitted];
            if (waits(step, expect) || !crash_submit(&crash.node, expect, *submitted, step))
                return false;
            ++*submitted;
        } else {
            if (crash.path[i] >= disk_memory_pending(crash.disk)) return false;
            disk_memory_land(crash.disk, crash.path[i]);
        }
        crash_poll(&crash.node, expect);
    }
    return true;
}

static void check_image(const void *argument) {
    crash_check(argument);
}

static void walk(void) {
    static struct disk_memory_sector sectors[SECTORS_MAX];
    uint32_t submitted;
    if (!run(&submitted)) return;
    uint32_t pending = disk_memory_pending(crash.disk);
    uint32_t count = disk_memory_unsynced(crash.disk, sectors, SECTORS_MAX);
    disk_memory_crash(crash.disk);
    crash.tally.points++;
    crash_each_set(sectors, count, SECTORS_ALL, check_image, &crash.expect);
    each_torn(sectors, count, check_image, &crash.expect);
    if (crash.path_length == sizeof crash.path) crash_broken("scope: too long a path");
    crash.path[crash.path_length++] = SUBMIT;
    walk();
    for (uint8_t i = 0; i < pending; i++) {
        crash.path[crash.path_length - 1] = i;
        walk();
    }
    crash.path_length--;
}

static void machine_open(struct machine *machine) {
    machine->memory = aligned_alloc(STORE_BLOCK, (store_bytes(&crash.options) + 4095) & ~4095ull);
    for (uint32_t i = 0; i < STEPS_MAX; i++)
        machine->requests[i].data = aligned_alloc(STORE_BLOCK, STORE_BATCH_BYTES);
}

static void machine_close(struct machine *machine) {
    for (uint32_t i = 0; i < STEPS_MAX; i++) free(machine->requests[i].data);
    free(machine->memory);
}

void crash_scope(const struct scope *scope, uint32_t again) {
    struct store_recovered found;
    char error[STORE_ERROR_BYTES] = "";
    memset(&crash, 0, sizeof crash);
    crash.scope = scope;
    crash.again = again;
    crash.options = (struct store_options){
        .cluster = 7, .node = 1, .segment_bytes = SEGMENT_BYTES, .segment_count = 3};
    crash.disk = disk_memory_create();
    machine_open(&crash.node);
    machine_open(&crash.after);
    prepared.memory = malloc(store_bytes(&crash.options));
    if (scope->prepare == NULL) { // the very first start
        (void)disk_memory_point(crash.disk);
        crash_check(&crash.expect);
    }
    if (!crash_open(&crash.node, &found, error)) crash_broken("scope: %s", error);
    if (scope->prepare != NULL) scope->prepare();
    static struct scope placed;
    placed = *scope;
    for (uint32_t i = 0; scope->behind && i < scope->step_count; i++)
        placed.steps[i].batch.first += crash.expect.log.last;
    crash.scope = &placed;
    prepared.disk = disk_memory_point(crash.disk);
    memcpy(prepared.memory, crash.node.memory, store_bytes(&crash.options));
    prepared.expect = crash.expect;
    walk();
    free(prepared.memory);
    machine_close(&crash.node);
    machine_close(&crash.after);
    disk_memory_destroy(crash.disk);
}
