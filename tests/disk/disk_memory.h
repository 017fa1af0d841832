// A disk in memory whose every byte and every completion is the test's to decide. Nothing that is
// submitted happens by itself: a write lands, tears or is lost as the test says, in any order.
#ifndef CONCLAVE_TEST_DISK_MEMORY_H
#define CONCLAVE_TEST_DISK_MEMORY_H

#include <stddef.h>

#include "disk.h"

struct disk *disk_memory_create(void);
void disk_memory_destroy(struct disk *disk);

// The file's bytes, to read and to damage; NULL if it was never opened. Made `size` bytes long,
// zero-filled, where it is shorter; size 0 leaves it.
uint8_t *disk_memory_file(struct disk *disk, uint32_t file, uint64_t size);
void disk_memory_erase(struct disk *disk); // as new

uint32_t disk_memory_pending(const struct disk *disk);
// Of operation `which`, oldest pending first: all of it happens, and is reported by the next poll.
void disk_memory_land(struct disk *disk, uint32_t which);
// Only these bytes of a write reach the file, and nothing is reported: as if power went then.
void disk_memory_tear(struct disk *disk, uint32_t which, uint32_t from, uint32_t to);
void disk_memory_fail(struct disk *disk, uint32_t which, int32_t result); // nothing happens
void disk_memory_land_all(struct disk *disk);
void disk_memory_crash(struct disk *disk); // what is pending is lost
// Writes that would make a file grow answer -ENOSPC.
void disk_memory_set_full(struct disk *disk, bool full);
// Reads of this block answer -EIO; UINT64_MAX: none does.
void disk_memory_unreadable(struct disk *disk, uint32_t file, uint64_t offset);

#endif
