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

static int memory_open(struct disk *disk, uint32_t file, const char *name, uint64_t bytes,
                       bool *created) {
    (void)name;
    struct file *f = &memory_of(disk)->files[file];
    *created = !f->exists;
    if (!f->exists && bytes == 0) return -ENOENT;
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
    struct file *f = &memory_of(disk)->files[file];
    assert(offset % 4096 == 0 && bytes % 4096 == 0 && (uintptr_t)buffer % 4096 == 0);
    grow(f, offset + bytes);
    memcpy(f->bytes + offset, buffer, bytes);
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
    return &m->disk;
}

void disk_memory_destroy(struct disk *disk) {
    struct disk_memory *m = memory_of(disk);
    disk_memory_crash(disk);
    for (uint32_t i = 0; i < DISK_FILES_MAX; i++) free(m->files[i].bytes);
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
        grow(&m->files[o.file], o.offset + o.bytes);
        memcpy(m->files[o.file].bytes + o.offset, o.copy, o.bytes);
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
