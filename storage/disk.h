// The disk under the store: the one seam between storage logic and a real or simulated device.
//
// Files are named inside one directory and numbered by the caller (0 to DISK_FILES_MAX - 1).
// Blocking calls are for start-up only. Submitted operations complete in any order; a write
// reported with its full length is durable (O_DIRECT with RWF_DSYNC). Offsets, lengths and buffers
// are multiples of 4096. Errors are -errno.
#ifndef CONCLAVE_DISK_H
#define CONCLAVE_DISK_H

#include <stdbool.h>
#include <stdint.h>

#define DISK_FILES_MAX 40u
#define DISK_QUEUE     64u // operations in flight at most

struct disk_completion {
    uint64_t cookie;
    int32_t result; // bytes, or -errno
};

struct disk;

struct disk_ops {
    // Opens name as file number `file`. bytes > 0: creates it if missing, written in full with
    // zeros up to that size and synced, with its directory. *created tells which. 0 or -errno.
    int (*open)(struct disk *disk, uint32_t file, const char *name, uint64_t bytes, bool *created);
    int64_t (*size)(struct disk *disk, uint32_t file);
    int32_t (*read)(struct disk *disk, uint32_t file, uint64_t offset, void *buffer,
                    uint32_t bytes);
    int32_t (*write)(struct disk *disk, uint32_t file, uint64_t offset, const void *buffer,
                     uint32_t bytes);
    int (*register_buffers)(struct disk *disk, void *const *buffers, const uint32_t *bytes,
                            uint32_t count);
    // False: the queue is full. `buffer` may be registered; the disk finds out which.
    bool (*submit_write)(struct disk *disk, uint32_t file, uint64_t offset, const void *buffer,
                         uint32_t bytes, uint64_t cookie);
    bool (*submit_read)(struct disk *disk, uint32_t file, uint64_t offset, void *buffer,
                        uint32_t bytes, uint64_t cookie);
    // Starts what was submitted and collects what finished, without waiting.
    uint32_t (*poll)(struct disk *disk, struct disk_completion *completions, uint32_t max);
    int (*wait_fd)(struct disk *disk); // readable when a completion waits; -1: none
    void (*close)(struct disk *disk);
};

struct disk {
    const struct disk_ops *ops;
};

// io_uring on `directory` (created if missing), locked against a second user. NULL with a sentence
// in error.
struct disk *disk_uring_open(const char *directory, char error[256]);

#endif
