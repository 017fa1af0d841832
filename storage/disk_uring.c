// The real disk: files of one directory through io_uring.
//
// Start-up reads and writes are plain system calls on the opening thread. The ring belongs to the
// thread that polls: it is made there, at the first submit, as SINGLE_ISSUER with DEFER_TASKRUN
// where the kernel has them, so that completions cost no interrupt of the polling thread. With
// nothing in flight a poll makes no system call; with something in flight only when the kernel says
// that there is something to collect.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <liburing.h>

#include "disk.h"

#define FILL_BYTES  (1024u * 1024u) // one write while a file is made
#define BUFFERS_MAX 32u

struct disk_uring {
    struct disk disk; // first: ops get this
    char directory[512];
    int directory_fd;
    int lock_fd;
    int fds[DISK_FILES_MAX];
    bool ring_made;
    bool files_registered;
    bool buffers_registered;
    struct io_uring ring;
    uint32_t in_flight;
    uint32_t unsubmitted;
    uint32_t buffer_count;
    struct iovec buffers[BUFFERS_MAX];
};

// ---------------------------------------------------------------- files

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int open_direct(struct disk_uring *d, const char *name, int flags) {
    int fd = openat(d->directory_fd, name, flags | O_RDWR | O_CLOEXEC | O_DIRECT, 0600);
    if (fd >= 0 || errno != EINVAL) return fd;
    fd = openat(d->directory_fd, name, flags | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        fprintf(stderr, "%s/%s: this file system has no O_DIRECT; writes go through its cache\n",
                d->directory, name);
    return fd;
}

// Zeros from `from` to `bytes`, synced, with a line of progress where that takes long.
static int fill(const struct disk_uring *d, int fd, const char *name, uint64_t from,
                uint64_t bytes) {
    uint8_t *zeros = aligned_alloc(4096, FILL_BYTES);
    if (zeros == NULL) return -ENOMEM;
    memset(zeros, 0, FILL_BYTES);
    double began = seconds_now(), told = began;
    int result = 0;
    for (uint64_t at = from; at < bytes && result == 0;) {
        uint64_t part = bytes - at < FILL_BYTES ? bytes - at : FILL_BYTES;
        ssize_t wrote = pwrite(fd, zeros, part, (off_t)at);
        if (wrote <= 0)
            result = wrote < 0 ? -errno : -ENOSPC;
        else
            at += (uint64_t)wrote;
        if (seconds_now() - told > 1.0) {
            told = seconds_now();
            fprintf(stderr, "preparing %s/%s: %llu of %llu MiB\n", d->directory, name,
                    (unsigned long long)(at >> 20), (unsigned long long)(bytes >> 20));
        }
    }
    if (result == 0 && fsync(fd) != 0) result = -errno;
    free(zeros);
    return result;
}

static int uring_open(struct disk *disk, uint32_t file, const char *name, uint64_t bytes,
                      bool *created) {
    struct disk_uring *d = (struct disk_uring *)disk;
    struct stat info;
    int fd = open_direct(d, name, 0);
    *created = fd < 0 && errno == ENOENT;
    if (*created && bytes > 0) fd = open_direct(d, name, O_CREAT);
    if (fd < 0) return -errno;
    int result = fstat(fd, &info) != 0 ? -errno : 0;
    // A crash while the file was being made leaves it short: finish it.
    uint64_t have = (uint64_t)info.st_size & ~4095ull;
    if (result == 0 && have < bytes) result = fill(d, fd, name, have, bytes);
    // Also where an earlier start made the file and was killed before it synced the directory.
    if (result == 0 && bytes > 0 && fsync(d->directory_fd) != 0) result = -errno;
    if (result != 0) {
        close(fd);
        return result;
    }
    if (d->fds[file] >= 0) close(d->fds[file]); // looked for before
    d->fds[file] = fd;
    return 0;
}

static int64_t uring_size(struct disk *disk, uint32_t file) {
    struct stat info;
    if (fstat(((struct disk_uring *)disk)->fds[file], &info) != 0) return -errno;
    return info.st_size;
}

static int32_t uring_read(struct disk *disk, uint32_t file, uint64_t offset, void *buffer,
                          uint32_t bytes) {
    ssize_t got = pread(((struct disk_uring *)disk)->fds[file], buffer, bytes, (off_t)offset);
    return got < 0 ? -errno : (int32_t)got;
}

static int32_t uring_write(struct disk *disk, uint32_t file, uint64_t offset, const void *buffer,
                           uint32_t bytes) {
    struct iovec part = {.iov_len = bytes};
    memcpy(&part.iov_base, &buffer, sizeof buffer);
    ssize_t put =
        pwritev2(((struct disk_uring *)disk)->fds[file], &part, 1, (off_t)offset, RWF_DSYNC);
    return put < 0 ? -errno : (int32_t)put;
}

// ---------------------------------------------------------------- the ring

static int uring_register(struct disk *disk, void *const *buffers, const uint32_t *bytes,
                          uint32_t count) {
    struct disk_uring *d = (struct disk_uring *)disk;
    if (count > BUFFERS_MAX) return -EINVAL;
    for (uint32_t i = 0; i < count; i++)
        d->buffers[i] = (struct iovec){.iov_base = buffers[i], .iov_len = bytes[i]};
    d->buffer_count = count; // told to the kernel by the polling thread
    return 0;
}

static int make_ring(struct disk_uring *d) {
    static const unsigned tries[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_TASKRUN_FLAG,
                                     IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, 0};
    int result = -EINVAL;
    for (uint32_t i = 0; i < 3 && result == -EINVAL; i++) {
        struct io_uring_params params = {.flags = tries[i]};
        result = io_uring_queue_init_params(DISK_QUEUE, &d->ring, &params);
    }
    if (result != 0) return result;
    d->ring_made = true;
    // Both spare the kernel work for each operation; without them it goes too.
    d->files_registered = io_uring_register_files(&d->ring, d->fds, DISK_FILES_MAX) == 0;
    d->buffers_registered = d->buffer_count > 0 &&
                            io_uring_register_buffers(&d->ring, d->buffers, d->buffer_count) == 0;
    return 0;
}

static int buffer_number(const struct disk_uring *d, const void *buffer, uint32_t bytes) {
    for (uint32_t i = 0; i < d->buffer_count && d->buffers_registered; i++) {
        const uint8_t *from = d->buffers[i].iov_base, *at = buffer;
        if (at >= from && at + bytes <= from + d->buffers[i].iov_len) return (int)i;
    }
    return -1;
}

static struct io_uring_sqe *next_sqe(struct disk_uring *d) {
    if (!d->ring_made && make_ring(d) != 0) return NULL;
    if (d->in_flight + d->unsubmitted == DISK_QUEUE) return NULL;
    return io_uring_get_sqe(&d->ring);
}

static void complete_sqe(struct disk_uring *d, struct io_uring_sqe *sqe, uint32_t file,
                         uint64_t cookie) {
    if (d->files_registered) {
        sqe->fd = (int)file;
        sqe->flags |= IOSQE_FIXED_FILE;
    }
    sqe->user_data = cookie;
    d->unsubmitted++;
}

static bool uring_submit_write(struct disk *disk, uint32_t file, uint64_t offset,
                               const void *buffer, uint32_t bytes, uint64_t cookie) {
    struct disk_uring *d = (struct disk_uring *)disk;
    struct io_uring_sqe *sqe = next_sqe(d);
    if (sqe == NULL) return false;
    int number = buffer_number(d, buffer, bytes);
    if (number >= 0)
        io_uring_prep_write_fixed(sqe, d->fds[file], buffer, bytes, offset, number);
    else
        io_uring_prep_write(sqe, d->fds[file], buffer, bytes, offset);
    sqe->rw_flags = RWF_DSYNC;
    complete_sqe(d, sqe, file, cookie);
    return true;
}

static bool uring_submit_read(struct disk *disk, uint32_t file, uint64_t offset, void *buffer,
                              uint32_t bytes, uint64_t cookie) {
    struct disk_uring *d = (struct disk_uring *)disk;
    struct io_uring_sqe *sqe = next_sqe(d);
    if (sqe == NULL) return false;
    int number = buffer_number(d, buffer, bytes);
    if (number >= 0)
        io_uring_prep_read_fixed(sqe, d->fds[file], buffer, bytes, offset, number);
    else
        io_uring_prep_read(sqe, d->fds[file], buffer, bytes, offset);
    complete_sqe(d, sqe, file, cookie);
    return true;
}

static uint32_t uring_poll(struct disk *disk, struct disk_completion *completions, uint32_t max) {
    struct disk_uring *d = (struct disk_uring *)disk;
    if (d->in_flight + d->unsubmitted == 0) return 0;
    if (d->unsubmitted > 0) {
        int went = io_uring_submit(&d->ring);
        if (went > 0) {
            d->unsubmitted -= (uint32_t)went;
            d->in_flight += (uint32_t)went;
        }
    }
    if (__atomic_load_n(d->ring.sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_TASKRUN)
        io_uring_get_events(&d->ring);
    struct io_uring_cqe *cqes[DISK_QUEUE];
    uint32_t count = io_uring_peek_batch_cqe(&d->ring, cqes, max < DISK_QUEUE ? max : DISK_QUEUE);
    for (uint32_t i = 0; i < count; i++)
        completions[i] =
            (struct disk_completion){.cookie = cqes[i]->user_data, .result = cqes[i]->res};
    io_uring_cq_advance(&d->ring, count);
    d->in_flight -= count;
    return count;
}

static int uring_wait_fd(struct disk *disk) {
    const struct disk_uring *d = (const struct disk_uring *)disk;
    return d->ring_made ? d->ring.ring_fd : -1;
}

static void uring_close(struct disk *disk) {
    struct disk_uring *d = (struct disk_uring *)disk;
    if (d->ring_made) io_uring_queue_exit(&d->ring);
    for (uint32_t i = 0; i < DISK_FILES_MAX; i++)
        if (d->fds[i] >= 0) close(d->fds[i]);
    if (d->lock_fd >= 0) close(d->lock_fd);
    if (d->directory_fd >= 0) close(d->directory_fd);
    free(d);
}

static const struct disk_ops uring_ops = {
    .open = uring_open,
    .size = uring_size,
    .read = uring_read,
    .write = uring_write,
    .register_buffers = uring_register,
    .submit_write = uring_submit_write,
    .submit_read = uring_submit_read,
    .poll = uring_poll,
    .wait_fd = uring_wait_fd,
    .close = uring_close,
};

// ---------------------------------------------------------------- opening

// A directory just made must itself be on disk, or all in it is lost with it.
static void sync_parent(const char *directory) {
    char parent[512];
    snprintf(parent, sizeof parent, "%s", directory);
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        snprintf(parent, sizeof parent, ".");
    else if (slash == parent)
        slash[1] = 0;
    else
        *slash = 0;
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

// The ring itself is made later, by the thread that polls. Where the kernel would refuse it, that
// is said now and not found out by writes that never end.
static bool ring_allowed(char error[256]) {
    struct io_uring probe;
    int result = io_uring_queue_init(1, &probe, 0);
    if (result == 0) {
        io_uring_queue_exit(&probe);
        return true;
    }
    snprintf(error, 256,
             "the kernel refuses io_uring (%s): allow it (sysctl kernel.io_uring_disabled=0, the "
             "container's seccomp profile, or the locked-memory limit)",
             strerror(-result));
    return false;
}

struct disk *disk_uring_open(const char *directory, char error[256]) {
    if (!ring_allowed(error)) return NULL;
    struct disk_uring *d = calloc(1, sizeof *d);
    if (d == NULL) return NULL;
    d->disk.ops = &uring_ops;
    d->directory_fd = d->lock_fd = -1;
    for (uint32_t i = 0; i < DISK_FILES_MAX; i++) d->fds[i] = -1;
    snprintf(d->directory, sizeof d->directory, "%s", directory);
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        snprintf(error, 256, "cannot create %.150s: %s: its parent must exist and be writable",
                 directory, strerror(errno));
        uring_close(&d->disk);
        return NULL;
    }
    sync_parent(directory); // whoever made it may have been killed before it did
    d->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->directory_fd >= 0)
        d->lock_fd = openat(d->directory_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock_fd < 0) {
        snprintf(error, 256, "cannot use %.150s: %s", directory, strerror(errno));
        uring_close(&d->disk);
        return NULL;
    }
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        snprintf(error, 256,
                 "%.150s is in use by another node: stop that one, or give each its own data_dir",
                 directory);
        uring_close(&d->disk);
        return NULL;
    }
    return &d->disk;
}
