// A disk with a power switch. A submitted write takes its time, and only when it is reported is it
// durable. When power goes, every write still in flight leaves a random set of its 512-byte sectors
// behind: none, some or all, in no order.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim_file.h"
#include "sim_internal.h"

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
    uint8_t *buffer; // the disk's until it is done: what is changed meanwhile goes to the platter
};

struct sim_disk {
    struct disk disk;
    struct sim *sim;
    uint64_t least_ns, spread_ns;
    bool full;
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

static int32_t disk_read(struct disk *disk, uint32_t file, uint64_t offset, void *buffer,
                         uint32_t bytes) {
    const struct sim_file *f = file_of((struct sim_disk *)disk, file);
    if (offset >= f->size) return 0;
    if (bytes > f->size - offset) bytes = (uint32_t)(f->size - offset);
    if (bytes > DISK_READ_WHOLE) bytes = DISK_READ_SHORT;
    return (int32_t)sim_file_read(f, offset, buffer, bytes);
}

static int32_t disk_write(struct disk *disk, uint32_t file, uint64_t offset, const void *buffer,
                          uint32_t bytes) {
    sim_file_write(file_of((struct sim_disk *)disk, file), offset, buffer, bytes);
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

static uint32_t disk_poll(struct disk *disk, struct disk_completion *completions, uint32_t max) {
    struct sim_disk *d = (struct sim_disk *)disk;
    uint32_t done = 0;
    for (uint64_t left = d->used; left != 0 && done < max; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(left);
        struct operation *o = &d->operations[i];
        if (o->due_ns > d->sim->now_ns) continue;
        bool room = !d->full || strncmp(file_of(d, o->file)->name, "snapshot", 8) != 0;
        int32_t result = !o->write ? disk_read(disk, o->file, o->offset, o->buffer, o->bytes)
                         : room    ? disk_write(disk, o->file, o->offset, o->buffer, o->bytes)
                                   : -ENOSPC;
        d->sim->stats.no_space += result == -ENOSPC;
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

struct disk *sim_disk_create(struct sim *sim) {
    struct sim_disk *d = calloc(1, sizeof *d);
    d->disk.ops = &ops;
    d->sim = sim;
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
    return next_ns;
}

void sim_disk_set_full(struct disk *disk, bool full) {
    ((struct sim_disk *)disk)->full = full;
}

void sim_disk_set_slow(struct disk *disk, uint64_t least_ns, uint64_t spread_ns) {
    struct sim_disk *d = (struct sim_disk *)disk;
    d->least_ns = least_ns;
    d->spread_ns = spread_ns;
}

static void tear(struct sim_disk *d, const struct operation *o) {
    struct sim_file *f = file_of(d, o->file);
    sim_file_grow(f, o->offset + o->bytes);
    uint64_t share = sim_draw(d->sim, 4); // of 4: how likely each sector made it
    for (uint32_t at = 0; at < o->bytes; at += SIM_SECTOR) {
        if (sim_draw(d->sim, 3) >= share) {
            d->sim->stats.sectors_torn++;
            continue;
        }
        sim_file_write(f, o->offset + at, o->buffer + at, SIM_SECTOR);
    }
}

void sim_disk_crash(struct disk *disk) {
    struct sim_disk *d = (struct sim_disk *)disk;
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
