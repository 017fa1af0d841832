// A disk with a power switch. Files are arrays in memory; a submitted write takes its time, and
// only when it is reported is it durable. When power goes, every write still in flight leaves a
// random set of its 512-byte sectors behind: none, some or all, in no order.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim_internal.h"

struct file {
    char name[64];
    uint8_t *bytes;
    uint64_t size;
};

struct operation {
    bool used;
    bool write;
    uint32_t file;
    uint64_t offset;
    uint32_t bytes;
    uint64_t cookie;
    uint64_t due_ns;
    bool let_go; // though its file is held
    void *buffer;
    uint8_t *copy; // of a write, as it was submitted
};

struct sim_disk {
    struct disk disk;
    struct sim *sim;
    uint64_t least_ns, spread_ns;
    bool full;
    const char *held, *failing; // names' beginnings, NULL: none
    struct file files[DISK_FILES_MAX];
    int32_t number[DISK_FILES_MAX]; // caller's file number to files[]
    struct operation operations[DISK_QUEUE];
};

static struct file *file_of(struct sim_disk *d, uint32_t file) {
    return &d->files[d->number[file]];
}

static void grow(struct file *file, uint64_t size) {
    if (size <= file->size) return;
    file->bytes = realloc(file->bytes, size);
    memset(file->bytes + file->size, 0, size - file->size);
    file->size = size;
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
    grow(&d->files[i], bytes);
    return 0;
}

static int64_t disk_size(struct disk *disk, uint32_t file) {
    return (int64_t)file_of((struct sim_disk *)disk, file)->size;
}

static int32_t disk_read(struct disk *disk, uint32_t file, uint64_t offset, void *buffer,
                         uint32_t bytes) {
    const struct file *f = file_of((struct sim_disk *)disk, file);
    if (offset >= f->size) return 0;
    if (bytes > f->size - offset) bytes = (uint32_t)(f->size - offset);
    memcpy(buffer, f->bytes + offset, bytes);
    return (int32_t)bytes;
}

static int32_t disk_write(struct disk *disk, uint32_t file, uint64_t offset, const void *buffer,
                          uint32_t bytes) {
    struct file *f = file_of((struct sim_disk *)disk, file);
    grow(f, offset + bytes);
    memcpy(f->bytes + offset, buffer, bytes);
    return (int32_t)bytes;
}

static int disk_register(struct disk *disk, void *const *buffers, const uint32_t *bytes,
                         uint32_t count) {
    (void)disk, (void)buffers, (void)bytes, (void)count;
    return 0;
}

static struct operation *free_operation(struct sim_disk *d) {
    for (uint32_t i = 0; i < DISK_QUEUE; i++)
        if (!d->operations[i].used) return &d->operations[i];
    return NULL;
}

static bool submit(struct sim_disk *d, const struct operation *wanted) {
    struct operation *o = free_operation(d);
    if (o == NULL) return false;
    *o = *wanted;
    o->used = true;
    o->due_ns = d->sim->now_ns + d->least_ns + (d->spread_ns ? sim_draw(d->sim, d->spread_ns) : 0);
    if (!o->write) return true;
    d->sim->stats.writes++;
    o->copy = malloc(o->bytes);
    memcpy(o->copy, o->buffer, o->bytes);
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

static bool begins(const struct sim_disk *d, const struct operation *o, const char *prefix) {
    const char *name = d->files[d->number[o->file]].name;
    return prefix != NULL && strncmp(name, prefix, strlen(prefix)) == 0;
}

static int32_t write_now(struct sim_disk *d, const struct operation *o) {
    if (begins(d, o, d->failing)) {
        d->failing = NULL;
        return -EIO;
    }
    bool room = !d->full || !begins(d, o, "snapshot");
    return room ? disk_write(&d->disk, o->file, o->offset, o->copy, o->bytes) : -ENOSPC;
}

static uint32_t disk_poll(struct disk *disk, struct disk_completion *completions, uint32_t max) {
    struct sim_disk *d = (struct sim_disk *)disk;
    uint32_t done = 0;
    for (uint32_t i = 0; i < DISK_QUEUE && done < max; i++) {
        struct operation *o = &d->operations[i];
        if (!o->used || o->due_ns > d->sim->now_ns) continue;
        if (begins(d, o, d->held) && !o->let_go) continue;
        int32_t result =
            !o->write ? disk_read(disk, o->file, o->offset, o->buffer, o->bytes) : write_now(d, o);
        d->sim->stats.no_space += result == -ENOSPC;
        completions[done++] = (struct disk_completion){.cookie = o->cookie, .result = result};
        free(o->copy);
        *o = (struct operation){0};
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
        for (uint32_t i = 0; i < DISK_QUEUE; i++) {
            struct operation *o = &d->operations[i];
            if (!o->used || o->let_go || !begins(d, o, d->held)) continue;
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
    for (uint32_t i = 0; i < DISK_QUEUE; i++) {
        struct operation *o = &d->operations[i];
        if (!o->used) continue;
        uint64_t bytes = (uint64_t)sectors * SIM_SECTOR;
        if (bytes > o->bytes) bytes = o->bytes;
        if (o->write) disk_write(disk, o->file, o->offset, o->copy, (uint32_t)bytes);
        free(o->copy);
        *o = (struct operation){0};
    }
    d->held = d->failing = NULL;
}

uint8_t *sim_disk_file(struct disk *disk, const char *name, uint64_t *size) {
    struct sim_disk *d = (struct sim_disk *)disk;
    for (uint32_t i = 0; i < DISK_FILES_MAX; i++) {
        if (strcmp(d->files[i].name, name) != 0) continue;
        *size = d->files[i].size;
        return d->files[i].bytes;
    }
    return NULL;
}

static void tear(struct sim_disk *d, const struct operation *o) {
    struct file *f = file_of(d, o->file);
    grow(f, o->offset + o->bytes);
    uint64_t share = sim_draw(d->sim, 4); // of 4: how likely each sector made it
    for (uint32_t at = 0; at < o->bytes; at += SIM_SECTOR) {
        if (sim_draw(d->sim, 3) >= share) {
            d->sim->stats.sectors_torn++;
            continue;
        }
        memcpy(f->bytes + o->offset + at, o->copy + at, SIM_SECTOR);
    }
}

void sim_disk_crash(struct disk *disk) {
    struct sim_disk *d = (struct sim_disk *)disk;
    for (uint32_t i = 0; i < DISK_QUEUE; i++) {
        struct operation *o = &d->operations[i];
        if (!o->used) continue;
        if (o->write) tear(d, o);
        free(o->copy);
        *o = (struct operation){0};
    }
}

void sim_disk_destroy(struct disk *disk) {
    struct sim_disk *d = (struct sim_disk *)disk;
    for (uint32_t i = 0; i < DISK_QUEUE; i++) free(d->operations[i].copy);
    for (uint32_t i = 0; i < DISK_FILES_MAX; i++) free(d->files[i].bytes);
    free(d);
}
