// See disk_memory.h.
#include "disk_memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct file {
    bool exists;
    uint8_t *bytes; // zero from size to capacity
    uint64_t size, capacity;
};

struct operation {
    bool write;
    uint32_t file;
    uint64_t offset;
    uint32_t bytes;
    uint64_t cookie;
    uint8_t *buffer; // of a read
    uint8_t *copy;   // of a write
};

struct note { // what a range of a file was before it changed
    uint32_t file;
    bool existed;
    uint64_t size;
    uint64_t offset;
    uint32_t bytes;
    uint8_t *old;
};

struct disk_memory {
    struct disk disk; // first: ops get this
    struct file files[DISK_FILES_MAX];
    struct operation pending[DISK_QUEUE];
    uint32_t pending_count;
    struct disk_completion done[DISK_QUEUE];
    uint32_t done_count;
    bool full;
    uint32_t bad_file;
    uint64_t bad_offset;
    bool noting;
    struct note *notes;
    size_t note_count, note_room;
    uint32_t writes, writes_allowed; // blocking ones
    uint8_t cut_keeps, cut_sectors;
};

static struct disk_memory *memory_of(const struct disk *disk) {
    union {
        const struct disk *in;
        struct disk_memory *out;
    } cast = {.in = disk};
    return cast.out;
}

static void grow(struct file *f, uint64_t size) {
    if (size <= f->size) return;
    if (size > f->capacity) {
        f->bytes = realloc(f->bytes, size);
        if (f->bytes == NULL) abort();
        memset(f->bytes + f->capacity, 0, size - f->capacity);
        f->capacity = size;
    }
    f->size = size;
}

static void note(struct disk_memory *m, uint32_t file, uint64_t offset, uint32_t bytes) {
    const struct file *f = &m->files[file];
    if (!m->noting) return;
    if (m->note_count == m->note_room) {
        m->note_room = m->note_room * 2 + 16;
        m->notes = realloc(m->notes, m->note_room * sizeof *m->notes);
        if (m->notes == NULL) abort();
    }
    uint64_t there = offset < f->size ? f->size - offset : 0;
    if (there < bytes) bytes = (uint32_t)there;
    struct note *n = &m->notes[m->note_count++];
    *n = (struct note){file, f->exists, f->size, offset, bytes, bytes > 0 ? malloc(bytes) : NULL};
    if (bytes > 0) memcpy(n->old, f->bytes + offset, bytes);
}

// All changes of a file's content go through here.
static void put(struct disk_memory *m, uint32_t file, uint64_t offset, const void *bytes,
                uint32_t count) {
    note(m, file, offset, count);
    grow(&m->files[file], offset + count);
    memcpy(m->files[file].bytes + offset, bytes, count);
}

static uint8_t changed_sectors(const struct file *f, uint64_t offset, const uint8_t *bytes,
                               uint32_t count) {
    uint8_t changed = 0;
    for (uint32_t i = 0; i < 8 && i * DISK_SECTOR < count; i++)
        if (offset + (i + 1) * DISK_SECTOR > f->size ||
            memcmp(f->bytes + offset + i * DISK_SECTOR, bytes + i * DISK_SECTOR, DISK_SECTOR) != 0)
            changed |= (uint8_t)(1u << i);
    return changed;
}

static int memory_open(struct disk *disk, uint32_t file, const char *name, uint64_t bytes,
                       bool *created) {
    (void)name;
    struct disk_memory *m = memory_of(disk);
    struct file *f = &m->files[file];
    *created = !f->exists;
    if (!f->exists && bytes == 0) return -ENOENT;
    if (m->writes > m->writes_allowed) return -EIO;
    if (!f->exists || bytes > f->size) note(m, file, f->size, 0);
    f->exists = true;
    grow(f, bytes);
    return 0;
}

static int64_t memory_size(struct disk *disk, uint32_t file) {
    return (int64_t)memory_of(disk)->files[file].size;
}

static int32_t memory_read(struct disk *disk, uint32_t file, uint64_t offset, void *buffer,
                           uint32_t bytes) {
    struct disk_memory *m = memory_of(disk);
    const struct file *f = &m->files[file];
    assert(offset % 4096 == 0 && bytes % 4096 == 0 && (uintptr_t)buffer % 4096 == 0);
    if (file == m->bad_file && m->bad_offset + 4096 > offset && m->bad_offset < offset + bytes)
        return -EIO;
    if (offset >= f->size) return 0;
    if (bytes > f->size - offset) bytes = (uint32_t)(f->size - offset);
    memcpy(buffer, f->bytes + offset, bytes);
    return (int32_t)bytes;
}

static int32_t memory_write(struct disk *disk, uint32_t file, uint64_t offset, const void *buffer,
                            uint32_t bytes) {
    struct disk_memory *m = memory_of(disk);
    const uint8_t *from = buffer;
    assert(offset % 4096 == 0 && bytes % 4096 == 0 && (uintptr_t)buffer % 4096 == 0);
    if (m->writes_allowed != UINT32_MAX && m->writes >= m->writes_allowed) {
        if (m->writes++ > m->writes_allowed) return -EIO;
        m->cut_sectors = changed_sectors(&m->files[file], offset, from, bytes);
        for (uint32_t i = 0; i < 8 && i * DISK_SECTOR < bytes; i++)
            if (m->cut_keeps & (1u << i))
                put(m, file, offset + i * DISK_SECTOR, from + i * DISK_SECTOR, DISK_SECTOR);
        return -EIO;
    }
    m->writes++;
    put(m, file, offset, buffer, bytes);
    return (int32_t)bytes;
}

static int memory_register(struct disk *disk, void *const *buffers, const uint32_t *bytes,
                           uint32_t count) {
    (void)disk, (void)buffers, (void)bytes, (void)count;
    return 0;
}

static struct operation *add(struct disk *disk) {
    struct disk_memory *m = memory_of(disk);
    if (m->pending_count + m->done_count == DISK_QUEUE) return NULL;
    struct operation *o = &m->pending[m->pending_count++];
    memset(o, 0, sizeof *o);
    return o;
}

static bool memory_submit_write(struct disk *disk, uint32_t file, uint64_t offset,
                                const void *buffer, uint32_t bytes, uint64_t cookie) {
    assert(offset % 4096 == 0 && bytes % 4096 == 0 && (uintptr_t)buffer % 4096 == 0);
    struct operation *o = add(disk);
    if (o == NULL) return false;
    *o = (struct operation){
        .write = true, .file = file, .offset = offset, .bytes = bytes, .cookie = cookie};
    o->copy = malloc(bytes);
    if (o->copy == NULL) abort();
    memcpy(o->copy, buffer, bytes);
    return true;
}

static bool memory_submit_read(struct disk *disk, uint32_t file, uint64_t offset, void *buffer,
                               uint32_t bytes, uint64_t cookie) {
    struct operation *o = add(disk);
    if (o == NULL) return false;
    *o = (struct operation){
        .file = file, .offset = offset, .bytes = bytes, .cookie = cookie, .buffer = buffer};
    return true;
}

static uint32_t memory_poll(struct disk *disk, struct disk_completion *completions, uint32_t max) {
    struct disk_memory *m = memory_of(disk);
    uint32_t count = m->done_count < max ? m->done_count : max;
    memcpy(completions, m->done, count * sizeof *completions);
    m->done_count -= count;
    memmove(m->done, m->done + count, m->done_count * sizeof *m->done);
    return count;
}

static int memory_wait_fd(struct disk *disk) {
    (void)disk;
    return -1;
}
static void memory_close(struct disk *disk) {
    (void)disk; // the test owns it
}

static const struct disk_ops ops = {
    .open = memory_open,
    .size = memory_size,
    .read = memory_read,
    .write = memory_write,
    .register_buffers = memory_register,
    .submit_write = memory_submit_write,
    .submit_read = memory_submit_read,
    .poll = memory_poll,
    .wait_fd = memory_wait_fd,
    .close = memory_close,
};

struct disk *disk_memory_create(void) {
    struct disk_memory *m = calloc(1, sizeof *m);
    if (m == NULL) abort();
    m->disk.ops = &ops;
    m->bad_file = UINT32_MAX;
    m->writes_allowed = UINT32_MAX;
    return &m->disk;
}

void disk_memory_destroy(struct disk *disk) {
    struct disk_memory *m = memory_of(disk);
    disk_memory_crash(disk);
    for (uint32_t i = 0; i < DISK_FILES_MAX; i++) free(m->files[i].bytes);
    while (m->note_count > 0) free(m->notes[--m->note_count].old);
    free(m->notes);
    free(m);
}

void disk_memory_erase(struct disk *disk) {
    struct disk_memory *m = memory_of(disk);
    disk_memory_crash(disk);
    for (uint32_t i = 0; i < DISK_FILES_MAX; i++) {
        if (m->files[i].size > 0) memset(m->files[i].bytes, 0, m->files[i].size);
        m->files[i].exists = false;
        m->files[i].size = 0;
    }
}

uint8_t *disk_memory_file(struct disk *disk, uint32_t file, uint64_t size) {
    struct file *f = &memory_of(disk)->files[file];
    if (size > 0) f->exists = true;
    grow(f, size);
    return f->bytes;
}

uint32_t disk_memory_pending(const struct disk *disk) {
    return memory_of(disk)->pending_count;
}

static struct operation take(struct disk_memory *m, uint32_t which) {
    assert(which < m->pending_count);
    struct operation o = m->pending[which];
    m->pending_count--;
    memmove(&m->pending[which], &m->pending[which + 1], (m->pending_count - which) * sizeof o);
    return o;
}

void disk_memory_land(struct disk *disk, uint32_t which) {
    struct disk_memory *m = memory_of(disk);
    struct operation o = take(m, which);
    int32_t result;
    if (o.write && m->full && o.offset + o.bytes > m->files[o.file].size) {
        result = -ENOSPC;
    } else if (o.write) {
        put(m, o.file, o.offset, o.copy, o.bytes);
        result = (int32_t)o.bytes;
    } else {
        result = memory_read(disk, o.file, o.offset, o.buffer, o.bytes);
    }
    free(o.copy);
    m->done[m->done_count++] = (struct disk_completion){.cookie = o.cookie, .result = result};
}

void disk_memory_tear(struct disk *disk, uint32_t which, uint32_t from, uint32_t to) {
    struct disk_memory *m = memory_of(disk);
    struct operation o = take(m, which);
    assert(o.write && from <= to && to <= o.bytes);
    note(m, o.file, o.offset, o.bytes);
    grow(&m->files[o.file], o.offset + o.bytes);
    memcpy(m->files[o.file].bytes + o.offset + from, o.copy + from, to - from);
    free(o.copy);
}

void disk_memory_fail(struct disk *disk, uint32_t which, int32_t result) {
    struct disk_memory *m = memory_of(disk);
    struct operation o = take(m, which);
    free(o.copy);
    m->done[m->done_count++] = (struct disk_completion){.cookie = o.cookie, .result = result};
}

void disk_memory_land_all(struct disk *disk) {
    while (disk_memory_pending(disk) > 0) disk_memory_land(disk, 0);
}

void disk_memory_crash(struct disk *disk) {
    struct disk_memory *m = memory_of(disk);
    while (m->pending_count > 0) free(take(m, 0).copy);
    m->done_count = 0;
}

void disk_memory_set_full(struct disk *disk, bool full) {
    memory_of(disk)->full = full;
}

void disk_memory_unreadable(struct disk *disk, uint32_t file, uint64_t offset) {
    memory_of(disk)->bad_file = offset == UINT64_MAX ? UINT32_MAX : file;
    memory_of(disk)->bad_offset = offset;
}

// ---------------------------------------------------------------- many crashes of one state

size_t disk_memory_point(struct disk *disk) {
    memory_of(disk)->noting = true;
    return memory_of(disk)->note_count;
}

void disk_memory_rollback(struct disk *disk, size_t point) {
    struct disk_memory *m = memory_of(disk);
    assert(m->noting && point <= m->note_count);
    disk_memory_crash(disk);
    while (m->note_count > point) {
        const struct note *n = &m->notes[--m->note_count];
        struct file *f = &m->files[n->file];
        if (n->bytes > 0) memcpy(f->bytes + n->offset, n->old, n->bytes);
        if (f->size > n->size) memset(f->bytes + n->size, 0, f->size - n->size);
        f->size = n->size;
        f->exists = n->existed;
        free(n->old);
    }
}

uint32_t disk_memory_unsynced(const struct disk *disk, struct disk_memory_sector *out,
                              uint32_t max) {
    const struct disk_memory *m = memory_of(disk);
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->pending_count; i++) {
        const struct operation *o = &m->pending[i];
        for (uint32_t at = 0; o->write && at < o->bytes; at += DISK_SECTOR) {
            const struct file *f = &m->files[o->file];
            if (!changed_sectors(f, o->offset + at, o->copy + at, DISK_SECTOR)) continue;
            assert(count < max);
            out[count] = (struct disk_memory_sector){
                .operation = i, .file = o->file, .offset = o->offset + at};
            memcpy(out[count++].bytes, o->copy + at, DISK_SECTOR);
        }
    }
    return count;
}

void disk_memory_put_sector(struct disk *disk, const struct disk_memory_sector *sector) {
    put(memory_of(disk), sector->file, sector->offset, sector->bytes, DISK_SECTOR);
}

void disk_memory_cut_power(struct disk *disk, uint32_t after_writes, uint8_t sectors) {
    struct disk_memory *m = memory_of(disk);
    m->writes = 0;
    m->writes_allowed = after_writes;
    m->cut_keeps = sectors;
    m->cut_sectors = 0;
}

uint32_t disk_memory_blocking_writes(const struct disk *disk) {
    return memory_of(disk)->writes;
}

uint8_t disk_memory_cut_sectors(const struct disk *disk) {
    return memory_of(disk)->cut_sectors;
}
