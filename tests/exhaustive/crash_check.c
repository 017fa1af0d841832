// What must hold on a disk after a crash. The rules:
//   reported  what the store had reported is there
//   whole     nothing is there that was not submitted, nor a part of it
//   vote      term and vote are the reported ones or those under way
//   snapshot  the newest is the reported one or the one under way, byte for byte
//   honest    a crash is not called damage
//   stable    a second start finds what the first found, whatever the first wrote, and also if
//             power went while it wrote
//   going on  entries, a vote and a snapshot more are taken, and found again after one more crash
#include <string.h>

#include "crash.h"

void fill_entry(uint8_t *data, const struct log_entry *entry) {
    memset(data, (int)(0x40 + entry->body % 150), entry->length);
    memcpy(data, &entry->body, sizeof entry->body);
}

void fill_chunk(uint8_t *data, const struct snapshot_model *snapshot, uint32_t offset,
                uint32_t bytes) {
    memset(data, snapshot->fill + (int)(offset / STORE_SNAPSHOT_BYTES), bytes);
}

void log_apply(struct log_model *log, const struct batch *batch) {
    log->last = batch->reset ? batch->first : batch->first + batch->count - 1;
    for (uint64_t i = batch->first; !batch->reset && i <= log->last; i++)
        log->entries[i] = batch->entry;
}

// ---------------------------------------------------------------- reading what is there

struct found {
    struct store_recovered recovered;
    struct log_model log;
};

static bool take(void *context, uint64_t index, const struct raft_entry *entry) {
    struct found *found = context;
    uint8_t whole[RAFT_ENTRY_MAX];
    struct log_entry seen = {.term = entry->term, .length = entry->length};
    if (entry->length < sizeof seen.body || entry->length > RAFT_ENTRY_MAX)
        crash_broken("whole: entry %llu has %u bytes", (unsigned long long)index, entry->length);
    memcpy(&seen.body, entry->data, sizeof seen.body);
    fill_entry(whole, &seen);
    if (memcmp(whole, entry->data, entry->length) != 0)
        crash_broken("whole: entry %llu is torn", (unsigned long long)index);
    uint64_t covered = found->recovered.snapshot_index;
    if (index <= covered) {
        found->log.last = covered;
        return true;
    }
    if (index > found->log.last + 1 || index >= LOG_MAX)
        crash_broken("reported: a gap before entry %llu", (unsigned long long)index);
    found->log.last = index;
    found->log.entries[index] = seen;
    return true;
}

bool crash_open(struct machine *machine, struct store_recovered *found, char *error) {
    struct store_options options = crash.options;
    options.disk = crash.disk;
    crash.tally.recoveries++;
    return store_open(machine->memory, &options, &machine->store, found, error) == 0;
}

static void read_back(struct found *found) {
    char error[STORE_ERROR_BYTES] = "";
    if (!crash_open(&crash.after, &found->recovered, error))
        crash_broken("going on: the start was refused: %s", error);
    if (found->recovered.damaged) crash_broken("honest: a crash was called damage");
    found->log.last = found->recovered.snapshot_index;
    if (store_replay(crash.after.store, take, found) != 0) crash_broken("going on: no replay");
}

// ---------------------------------------------------------------- comparing

static bool same_log(const struct log_model *found, const struct log_model *wanted,
                     uint64_t covered) {
    uint64_t last = wanted->last > covered ? wanted->last : covered;
    if (found->last != last) return false;
    for (uint64_t i = covered + 1; i <= last; i++) {
        const struct log_entry *a = &found->entries[i], *b = &wanted->entries[i];
        if (a->term != b->term || a->body != b->body || a->length != b->length) return false;
    }
    return true;
}

// The log is the reported one and the first so many of the writes that were under way. A RESET does
// not count without its snapshot.
static void compare_log(const struct found *found, const struct expected *expect) {
    static struct log_model wanted;
    uint64_t covered = found->recovered.snapshot_index;
    wanted = expect->log;
    for (uint32_t i = 0;; i++) {
        if (same_log(&found->log, &wanted, covered)) return;
        if (i == expect->open_count) break;
        if (expect->open[i].reset && covered < expect->open[i].first) break;
        log_apply(&wanted, &expect->open[i]);
    }
    crash_broken("reported: the log ends at %llu behind snapshot %llu; reported up to %llu, %u "
                 "writes were under way",
                 (unsigned long long)found->log.last, (unsigned long long)covered,
                 (unsigned long long)expect->log.last, expect->open_count);
}

static void compare_vote(const struct found *found, struct expected *expect) {
    const struct store_recovered *r = &found->recovered;
    if (r->term == expect->vote.term && r->vote == expect->vote.vote) return;
    if (expect->voting && r->term == expect->vote_open.term && r->vote == expect->vote_open.vote) {
        expect->vote = expect->vote_open;
        return;
    }
    crash_broken("vote: %u in term %llu; reported: %u in term %llu", r->vote,
                 (unsigned long long)r->term, expect->vote.vote,
                 (unsigned long long)expect->vote.term);
}

static void compare_content(const struct snapshot_model *wanted) {
    static _Alignas(STORE_BLOCK) uint8_t read[STORE_SNAPSHOT_BYTES], fill[STORE_SNAPSHOT_BYTES];
    uint32_t offset = 0;
    while (offset < wanted->bytes) {
        int32_t got = store_snapshot_load(crash.after.store, offset, read, sizeof read);
        if (got <= 0) crash_broken("snapshot: its content cannot be read at %u", offset);
        fill_chunk(fill, wanted, offset, (uint32_t)got);
        if (memcmp(read, fill, (size_t)got) != 0)
            crash_broken("snapshot: its content is not what was written at %u", offset);
        offset += (uint32_t)got;
    }
}

static bool same_snapshot(const struct store_recovered *r, const struct snapshot_model *s) {
    return r->snapshot_index == s->index && r->snapshot_term == s->term &&
           r->snapshot_bytes == s->bytes;
}

static void compare_snapshot(const struct found *found, struct expected *expect) {
    if (expect->snapshotting && same_snapshot(&found->recovered, &expect->snapshot_open))
        expect->snapshot = expect->snapshot_open;
    if (!same_snapshot(&found->recovered, &expect->snapshot))
        crash_broken("snapshot: %llu was found; reported: %llu",
                     (unsigned long long)found->recovered.snapshot_index,
                     (unsigned long long)expect->snapshot.index);
    compare_content(&expect->snapshot);
}

// Starts, compares, and leaves in *expect what has been read and may not be unread any more.
static void recover(struct expected *expect) {
    static struct found found;
    read_back(&found);
    compare_vote(&found, expect);
    compare_snapshot(&found, expect);
    compare_log(&found, expect);
    expect->log.last = found.log.last;
    for (uint64_t i = found.recovered.snapshot_index + 1; i <= found.log.last; i++)
        expect->log.entries[i] = found.log.entries[i];
    expect->open_count = 0;
    expect->voting = expect->snapshotting = false;
}

// ---------------------------------------------------------------- what follows

static void recover_again(const void *argument) {
    static struct expected expect;
    expect = *(const struct expected *)argument;
    recover(&expect);
}

// Power goes during the recovery itself: at each of its writes, with every set of the sectors that
// this write changes.
static void crash_recovering(const struct expected *expect, size_t image) {
    struct store_recovered found;
    char error[STORE_ERROR_BYTES];
    uint32_t writes = disk_memory_blocking_writes(crash.disk);
    for (uint32_t i = 0; i < writes; i++) {
        uint8_t set = 0, changed = 0;
        do {
            disk_memory_rollback(crash.disk, image);
            disk_memory_cut_power(crash.disk, i, set);
            bool opened = crash_open(&crash.after, &found, error);
            changed = disk_memory_cut_sectors(crash.disk);
            disk_memory_cut_power(crash.disk, UINT32_MAX, 0);
            if (opened) crash_broken("stable: the start did not see its own write fail");
            crash.tally.cut_recoveries++;
            recover_again(expect);
            set = (uint8_t)((set - changed) & changed); // the next subset
        } while (set != 0);
    }
    disk_memory_rollback(crash.disk, image);
}

static void go_on(struct expected *expect) {
    static struct step step;
    uint64_t next = expect->log.last + 1;
    step = (struct step){.type = STEP_APPEND};
    step.batch = (struct batch){
        .first = next, .count = 2, .entry = {expect->vote.term + 1, 1000 + next, 120}};
    if (!crash_submit(&crash.after, expect, 0, &step)) crash_broken("going on: no append is taken");
    step = (struct step){.type = STEP_VOTE, .vote = {expect->vote.term + 1, 3}};
    if (!crash_submit(&crash.after, expect, 1, &step)) crash_broken("going on: no vote is taken");
}

static void snapshot_of_all(struct expected *expect) {
    static struct step step;
    step = (struct step){.type = STEP_SNAPSHOT};
    step.snapshot = (struct snapshot_model){
        .index = expect->log.last, .term = expect->vote.term, .bytes = 700, .fill = 0x77};
    if (!crash_submit(&crash.after, expect, 2, &step))
        crash_broken("going on: no snapshot is taken");
    crash_settle(&crash.after, expect);
}

void crash_check(const struct expected *reported) {
    static struct expected expect, later;
    static struct disk_memory_sector sectors[SECTORS_MAX];
    size_t image = disk_memory_point(crash.disk);
    crash.tally.images++;
    expect = *reported;
    disk_memory_cut_power(crash.disk, UINT32_MAX, 0); // counts anew
    recover(&expect);
    if (disk_memory_blocking_writes(crash.disk) > 0) {
        crash_recovering(reported, image);
        expect = *reported;
        recover(&expect);
    }
    recover(&expect); // what was read once stays

    go_on(&expect);
    uint32_t count = disk_memory_unsynced(crash.disk, sectors, SECTORS_MAX);
    size_t going = disk_memory_point(crash.disk);
    later = expect;
    crash_settle(&crash.after, &later);
    snapshot_of_all(&later);
    recover(&later);
    disk_memory_rollback(crash.disk, going);
    crash_each_set(sectors, count, crash.again, recover_again, &expect);
    disk_memory_rollback(crash.disk, image);
}
