// A disk with a power switch. A submitted write takes its time, and only when it is reported is it
// durable. When power goes, every write still in flight leaves a random set of its 512-byte sectors
// behind: none, some or all, in order or in none.
//
// And a disk that lies and ages: writes that fail, or that land elsewhere while the place they were
// meant for keeps what it had; sectors that rot or cannot be read any more until they are written
// again; a device that does nothing for seconds. What such damage hides is kept in the ledger.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim_file.h"
#include "sim_internal.h"
#include "sim_ledger.h"

#define UNREADABLE_MAX 16u

// A longer read comes back short, as any may: recovery reads ahead by the megabyte, mostly zeros.
#define DISK_READ_WHOLE (256u * 1024u)
#define DISK_READ_SHORT (32u * 1024u)

struct operation {
    bool write;
    uint32_t file;
    uint64_t offset;
    uint32_t bytes;
    uint64_t cookie;
    uint64_t due_ns;
    bool let_go;     // though its file is held
    uint8_t *buffer; // the disk's until it is done: what is changed meanwhile goes to the platter
};

struct sim_disk {
    struct disk disk;
    struct sim *sim;
    struct sim_machine *machine;
    uint64_t least_ns, spread_ns;
    uint64_t stalled_ns; // nothing completes until then
    bool full;
    bool faulty;                // it has failed or lied: its node may stop, or not start
    bool doomed;                // a durable write has failed: its node must stop
    const char *held, *failing; // of scenarios: names' beginnings, NULL: none
    struct {
        const struct sim_file *file; // NULL: unused
        uint64_t offset;             // of a sector
    } unreadable[UNREADABLE_MAX];
    struct sim_ledger ledger;
    struct sim_file files[DISK_FILES_MAX];
    int32_t number[DISK_FILES_MAX]; // caller's file number to files[]
    uint64_t used;                  // bit i: operations[i] is under way
    struct operation operations[DISK_QUEUE];
};
static_assert(DISK_QUEUE == 64, "one bit for each operation");

static struct sim_file *file_of(struct sim_disk *d, uint32_t file) {
    return &d->files[d->number[file]];
}

static int disk_open(struct disk *disk, uint32_t file, const char *name, uint64_t bytes,
                     bool *created) {
    struct sim_disk *d = (struct sim_disk *)disk;
    uint32_t i = 0;
    while (i < DISK_FILES_MAX && d->files[i].name[0] != 0 && strcmp(d->files[i].name, name) != 0)
        i++;
    if (i == DISK_FILES_MAX) return -ENFILE;
    if (created != NULL) *created = false;
    if (d->files[i].name[0] == 0) {
        if (bytes == 0) return -ENOENT;
        strncpy(d->files[i].name, name, sizeof d->files[i].name - 1);
        if (created != NULL) *created = true;
    }
    d->number[file] = (int32_t)i;
    sim_file_grow(&d->files[i], bytes);
    return 0;
}

static int64_t disk_size(struct disk *disk, uint32_t file) {
    return (int64_t)file_of((struct sim_disk *)disk, file)->size;
}

static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

static int32_t disk_read(struct disk *disk, uint32_t file, uint64_t offset, void *buffer,
                         uint32_t bytes) {
    struct sim_disk *d = (struct sim_disk *)disk;
    const struct sim_file *f = file_of(d, file);
    if (offset >= f->size) return 0;
    if (bytes > f->size - offset) bytes = (uint32_t)(f->size - offset);
    if (bytes > DISK_READ_WHOLE) bytes = DISK_READ_SHORT;
    for (uint32_t i = 0; i < UNREADABLE_MAX; i++)
        if (d->unreadable[i].file == f &&
            overlap(d->unreadable[i].offset, SIM_SECTOR, offset, bytes))
            return -EIO;
    return (int32_t)sim_file_read(f, offset, buffer, bytes);
}

// What is written can be read again.
static void put(struct sim_disk *d, struct sim_file *f, uint64_t offset, const void *buffer,
                uint32_t bytes) {
    sim_file_grow(f, offset + bytes);
    sim_file_write(f, offset, buffer, bytes);
    for (uint32_t i = 0; i < UNREADABLE_MAX; i++)
        if (d->unreadable[i].file == f &&
            overlap(d->unreadable[i].offset, SIM_SECTOR, offset, bytes))
            d->unreadable[i].file = NULL;
}

static int32_t disk_write(struct disk *disk, uint32_t file, uint64_t offset, const void *buffer,
                          uint32_t bytes) {
    struct sim_disk *d = (struct sim_disk *)disk;
    struct sim_file *f = file_of(d, file);
    put(d, f, offset, buffer, bytes);
    ledger_landed(&d->ledger, f->name, offset, buffer, bytes);
    ledger_reported(&d->ledger, f->name, buffer);
    return (int32_t)bytes;
}

static int disk_register(struct disk *disk, void *const *buffers, const uint32_t *bytes,
                         uint32_t count) {
    (void)disk, (void)buffers, (void)bytes, (void)count;
    return 0;
}

static struct operation *free_operation(struct sim_disk *d) {
    return ~d->used == 0 ? NULL : &d->operations[__builtin_ctzll(~d->used)];
}

static bool submit(struct sim_disk *d, const struct operation *wanted) {
    struct operation *o = free_operation(d);
    if (o == NULL) return false;
    *o = *wanted;
    d->used |= 1ull << (o - d->operations);
    o->due_ns = d->sim->now_ns + d->least_ns + (d->spread_ns ? sim_draw(d->sim, d->spread_ns) : 0);
    d->sim->stats.writes += o->write;
    return true;
}

static bool disk_submit_write(struct disk *disk, uint32_t file, uint64_t offset, const void *buffer,
                              uint32_t bytes, uint64_t cookie) {
    union {
        const void *in;
        void *out;
    } cast = {.in = buffer}; // only read from
    struct operation o = {.write = true,
                          .file = file,
                          .offset = offset,
                          .bytes = bytes,
                          .cookie = cookie,
                          .buffer = cast.out};
    return submit((struct sim_disk *)disk, &o);
}

static bool disk_submit_read(struct disk *disk, uint32_t file, uint64_t offset, void *buffer,
                             uint32_t bytes, uint64_t cookie) {
    struct operation o = {
        .file = file, .offset = offset, .bytes = bytes, .cookie = cookie, .buffer = buffer};
    return submit((struct sim_disk *)disk, &o);
}

// Which bytes must be there for this write to count when it is read back: not the padding.
static uint32_t needed_bytes(const struct operation *o) {
    const struct wal_batch_header *header = (const struct wal_batch_header *)o->buffer;
    if (header->magic == HARD_STATE_MAGIC) return (uint32_t)sizeof(struct hard_state_block);
    return header->magic == WAL_MAGIC ? (uint32_t)sizeof *header + header->bytes : o->bytes;
}

// Some sectors of it land: as the device took them, or in order up to some point.
static void tear(struct sim_disk *d, const struct operation *o) {
    struct sim_file *f = file_of(d, o->file);
    uint64_t share = sim_draw(d->sim, 4); // of 4: how likely each sector made it
    bool in_order = sim_draw(d->sim, 3) == 0;
    uint32_t until = (uint32_t)sim_draw(d->sim, o->bytes / SIM_SECTOR + 1) * SIM_SECTOR;
    bool whole = true;
    sim_file_grow(f, o->offset + o->bytes);
    for (uint32_t at = 0; at < o->bytes; at += SIM_SECTOR) {
        if (in_order ? at < until : sim_draw(d->sim, 3) < share) {
            put(d, f, o->offset + at, o->buffer + at, SIM_SECTOR);
            continue;
        }
        d->sim->stats.sectors_torn++;
        if (at < needed_bytes(o)) whole = false;
    }
    if (whole) ledger_landed(&d->ledger, f->name, o->offset, o->buffer, o->bytes);
}

static bool is_snapshot(const struct sim_file *f) {
    return strncmp(f->name, "snapshot", 8) == 0;
}

static bool may_fail(const struct sim_disk *d, const struct sim_file *f) {
    if (is_snapshot(f)) return true;
    return !d->doomed && !ledger_blind(&d->ledger) && sim_can_be_lost(d->sim, d->machine);
}

// Somewhere else, in this file or another; the place it was meant for keeps what it had.
static bool misdirect(struct sim_disk *d, const struct operation *o) {
    struct sim_file *f = file_of(d, o->file), *other = NULL;
    while (other == NULL || other->size < o->bytes) // the file itself will do
        other = &d->files[sim_draw(d->sim, DISK_FILES_MAX)];
    uint64_t places = (other->size - o->bytes) / STORE_BLOCK + 1;
    uint64_t offset = sim_draw(d->sim, places) * STORE_BLOCK;
    if (other == f && overlap(offset, o->bytes, o->offset, o->bytes)) return false;
    sim_trace(d->sim, "node %u: a write of %u bytes to %s at %lu lands in %s at %lu",
              d->machine->id, o->bytes, f->name, (unsigned long)o->offset, other->name,
              (unsigned long)offset);
    ledger_damaged(&d->ledger, other->name, offset, o->bytes);
    put(d, other, offset, o->buffer, o->bytes);
    ledger_missing(&d->ledger, f->name, o->buffer);
    ledger_reported(&d->ledger, f->name, o->buffer);
    sim_damage_done(d->sim, d->machine);
    return d->faulty = true;
}

static bool begins(const struct sim_disk *d, const struct operation *o, const char *prefix) {
    const char *name = d->files[d->number[o->file]].name;
    return prefix != NULL && strncmp(name, prefix, strlen(prefix)) == 0;
}

static int32_t complete_write(struct sim_disk *d, const struct operation *o) {
    struct sim *sim = d->sim;
    struct sim_file *f = file_of(d, o->file);
    if (begins(d, o, d->failing)) { // leaves nothing
        d->failing = NULL;
        d->faulty = true;
        return -EIO;
    }
    if (d->full && is_snapshot(f)) {
        sim->stats.no_space++;
        return -ENOSPC;
    }
    if (sim->faults.rate[SIM_EIO_WRITE] > 0 && may_fail(d, f) && sim_strikes(sim, SIM_EIO_WRITE)) {
        sim_trace(sim, "node %u: a write to %s fails", d->machine->id, f->name);
        tear(d, o);
        d->faulty = true;
        if (!is_snapshot(f)) d->doomed = true;
        return -EIO;
    }
    if (!d->doomed && f->size >= o->offset + o->bytes &&
        sim_damages(sim, d->machine, SIM_MISDIRECT) && misdirect(d, o))
        return (int32_t)o->bytes;
    return disk_write(&d->disk, o->file, o->offset, o->buffer, o->bytes);
}

static uint32_t disk_poll(struct disk *disk, struct disk_completion *completions, uint32_t max) {
    struct sim_disk *d = (struct sim_disk *)disk;
    uint32_t done = 0;
    if (d->stalled_ns > d->sim->now_ns) return 0;
    for (uint64_t left = d->used; left != 0 && done < max; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(left);
        struct operation *o = &d->operations[i];
        if (o->due_ns > d->sim->now_ns || (begins(d, o, d->held) && !o->let_go)) continue;
        int32_t result = o->write ? complete_write(d, o)
                                  : disk_read(disk, o->file, o->offset, o->buffer, o->bytes);
        completions[done++] = (struct disk_completion){.cookie = o->cookie, .result = result};
        *o = (struct operation){0};
        d->used &= ~(1ull << i);
    }
    return done;
}

static int disk_wait_fd(struct disk *disk) {
    (void)disk;
    return -1;
}
static void disk_close(struct disk *disk) {
    (void)disk;
} // the simulator owns it

static const struct disk_ops ops = {
    .open = disk_open,
    .size = disk_size,
    .read = disk_read,
    .write = disk_write,
    .register_buffers = disk_register,
    .submit_write = disk_submit_write,
    .submit_read = disk_submit_read,
    .poll = disk_poll,
    .wait_fd = disk_wait_fd,
    .close = disk_close,
};

struct disk *sim_disk_create(struct sim *sim, struct sim_machine *machine) {
    struct sim_disk *d = calloc(1, sizeof *d);
    d->disk.ops = &ops;
    d->sim = sim;
    d->machine = machine;
    d->least_ns = 50000;
    d->spread_ns = 100000;
    return &d->disk;
}

uint64_t sim_disk_next(const struct disk *disk) {
    const struct sim_disk *d = (const struct sim_disk *)disk;
    uint64_t next_ns = UINT64_MAX;
    for (uint64_t left = d->used; left != 0; left &= left - 1) {
        const struct operation *o = &d->operations[__builtin_ctzll(left)];
        if (o->due_ns < next_ns) next_ns = o->due_ns;
    }
    return next_ns < d->stalled_ns ? d->stalled_ns : next_ns;
}

void sim_disk_set_full(struct disk *disk, bool full) {
    ((struct sim_disk *)disk)->full = full;
}

void sim_disk_set_slow(struct disk *disk, uint64_t least_ns, uint64_t spread_ns) {
    struct sim_disk *d = (struct sim_disk *)disk;
    d->least_ns = least_ns;
    d->spread_ns = spread_ns;
}

void sim_disk_hold(struct disk *disk, const char *prefix) {
    ((struct sim_disk *)disk)->held = prefix;
}

void sim_disk_let_go(struct disk *disk, uint32_t count) {
    struct sim_disk *d = (struct sim_disk *)disk;
    for (; count > 0; count--) {
        struct operation *oldest = NULL;
        for (uint64_t left = d->used; left != 0; left &= left - 1) {
            struct operation *o = &d->operations[__builtin_ctzll(left)];
            if (o->let_go || !begins(d, o, d->held)) continue;
            if (oldest == NULL || o->due_ns < oldest->due_ns) oldest = o;
        }
        if (oldest != NULL) oldest->let_go = true;
    }
}

void sim_disk_fail_next(struct disk *disk, const char *prefix) {
    ((struct sim_disk *)disk)->failing = prefix;
}

void sim_disk_crash_keeping(struct disk *disk, uint32_t sectors) {
    struct sim_disk *d = (struct sim_disk *)disk;
    for (uint64_t left = d->used; left != 0; left &= left - 1) {
        struct operation *o = &d->operations[__builtin_ctzll(left)];
        uint64_t bytes = (uint64_t)sectors * SIM_SECTOR;
        if (bytes > o->bytes) bytes = o->bytes;
        if (o->write) put(d, file_of(d, o->file), o->offset, o->buffer, (uint32_t)bytes);
        *o = (struct operation){0};
    }
    d->used = 0;
    d->held = d->failing = NULL;
}

static struct sim_file *named(struct sim_disk *d, const char *name) {
    for (uint32_t i = 0; i < DISK_FILES_MAX; i++)
        if (strcmp(d->files[i].name, name) == 0) return &d->files[i];
    return NULL;
}

uint64_t sim_disk_peek(struct disk *disk, const char *name, void *buffer, uint32_t bytes) {
    const struct sim_file *f = named((struct sim_disk *)disk, name);
    if (f == NULL) return 0;
    return sim_file_read(f, 0, buffer, bytes < f->size ? bytes : (uint32_t)f->size);
}

void sim_disk_poke(struct disk *disk, const char *name, uint64_t offset, uint8_t byte) {
    struct sim_disk *d = (struct sim_disk *)disk;
    sim_file_write(named(d, name), offset, &byte, 1);
    d->faulty = true;
}

void sim_disk_stall(struct disk *disk, uint64_t until_ns) {
    ((struct sim_disk *)disk)->stalled_ns = until_ns;
}

bool sim_disk_stalled(const struct disk *disk) {
    const struct sim_disk *d = (const struct sim_disk *)disk;
    return d->stalled_ns > d->sim->now_ns;
}

bool sim_disk_well(const struct disk *disk) {
    const struct sim_disk *d = (const struct sim_disk *)disk;
    return !d->full && !d->doomed && !sim_disk_stalled(disk);
}

bool sim_disk_faulty(const struct disk *disk) {
    return ((const struct sim_disk *)disk)->faulty;
}

bool sim_disk_doomed(const struct disk *disk) {
    return ((const struct sim_disk *)disk)->doomed;
}

bool sim_disk_blind(const struct disk *disk) {
    return ledger_blind(&((const struct sim_disk *)disk)->ledger);
}

// Where something lies: mostly in the log, sometimes in a snapshot or in the hard state.
static struct sim_file *pick_place(struct sim_disk *d, uint64_t *offset) {
    uint64_t kind = sim_draw(d->sim, 10);
    for (uint32_t tries = 0; tries < 400; tries++) {
        struct sim_file *f = &d->files[sim_draw(d->sim, DISK_FILES_MAX)];
        bool hard = strcmp(f->name, "hard-state") == 0;
        bool wanted = kind < 6   ? strncmp(f->name, "wal-", 4) == 0
                      : kind < 9 ? is_snapshot(f)
                                 : hard;
        if (!wanted || f->size < STORE_BLOCK) continue;
        *offset = sim_draw(d->sim, f->size / SIM_SECTOR) * SIM_SECTOR;
        if (hard) *offset -= *offset % STORE_BLOCK; // the rest of the block is padding
        uint8_t sector[SIM_SECTOR];
        (void)sim_file_read(f, *offset, sector, SIM_SECTOR);
        for (uint32_t i = 0; i < SIM_SECTOR; i++)
            if (sector[i] != 0) return f;
    }
    return NULL;
}

static void damage_sector(struct sim_disk *d, struct sim_file *f, uint64_t offset, bool rot) {
    uint8_t sector[SIM_SECTOR];
    (void)sim_file_read(f, offset, sector, SIM_SECTOR);
    uint64_t how = sim_draw(d->sim, 3);
    uint32_t struck = (uint32_t)sim_draw(d->sim, sizeof(struct hard_state_block));
    sim_trace(d->sim, "node %u: sector at %lu of %s %s", d->machine->id, (unsigned long)offset,
              f->name, rot ? "rots" : "cannot be read any more");
    d->faulty = true;
    if (!rot) {
        ledger_unreadable(&d->ledger, f->name, offset);
        uint32_t i = (uint32_t)sim_draw(d->sim, UNREADABLE_MAX);
        d->unreadable[i].file = f;
        d->unreadable[i].offset = offset;
    } else if (how == 0) { // in front, where something that counts lies in every kind of block
        sector[struck] ^= (uint8_t)(1u << sim_draw(d->sim, 8));
    } else {
        for (uint32_t i = 0; i < SIM_SECTOR; i++)
            sector[i] = how == 1 ? 0 : (uint8_t)sim_draw(d->sim, 256);
    }
    if (rot) sim_file_write(f, offset, sector, SIM_SECTOR);
}

bool sim_disk_damage(struct disk *disk, bool rot) {
    struct sim_disk *d = (struct sim_disk *)disk;
    uint64_t offset;
    struct sim_file *f = pick_place(d, &offset);
    if (f == NULL || d->doomed) return false;
    struct sim_ledger before = d->ledger;
    // A sector that cannot be read says so itself.
    if (rot) ledger_damaged(&d->ledger, f->name, offset, SIM_SECTOR);
    if (d->machine->node == NULL &&
        ledger_blind(&d->ledger)) { // it could not be kept from starting
        d->ledger = before;
        return false;
    }
    damage_sector(d, f, offset, rot);
    sim_damage_done(d->sim, d->machine);
    return true;
}

bool sim_disk_damage_newest(struct disk *disk, bool rot) {
    struct sim_disk *d = (struct sim_disk *)disk;
    uint32_t segment;
    uint64_t offset;
    if (d->doomed || ledger_blind(&d->ledger) || !ledger_newest(&d->ledger, rot, &segment, &offset))
        return false;
    struct sim_file *f = file_of(d, segment);
    if (rot) ledger_damaged(&d->ledger, f->name, offset, SIM_SECTOR);
    damage_sector(d, f, offset, rot);
    return true;
}

void sim_disk_crash(struct disk *disk) {
    struct sim_disk *d = (struct sim_disk *)disk;
    d->doomed = false;
    for (uint64_t left = d->used; left != 0; left &= left - 1) {
        struct operation *o = &d->operations[__builtin_ctzll(left)];
        if (o->write) tear(d, o);
        *o = (struct operation){0};
    }
    d->used = 0;
}

void sim_disk_destroy(struct disk *disk) {
    struct sim_disk *d = (struct sim_disk *)disk;
    for (uint32_t i = 0; i < DISK_FILES_MAX; i++) sim_file_clear(&d->files[i]);
    free(d);
}
