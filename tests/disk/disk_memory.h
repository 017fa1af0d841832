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

// From the first call on, what happens to the files is noted, and disk_memory_rollback() undoes all
// that came after that point (what tests do to disk_memory_file()'s bytes is not noted). What is
// pending is lost, as in a crash.
size_t disk_memory_point(struct disk *disk);
void disk_memory_rollback(struct disk *disk, size_t point);

#define DISK_SECTOR 512u // what a device writes whole or not at all
struct disk_memory_sector {
    uint32_t operation; // which pending write it is a part of
    uint32_t file;
    uint64_t offset;
    uint8_t bytes[DISK_SECTOR];
};
// The sectors that pending writes would change; each may survive a crash or not, whatever becomes
// of the others. Sectors written with what is there already make no difference and are left out.
uint32_t disk_memory_unsynced(const struct disk *disk, struct disk_memory_sector *out,
                              uint32_t max);
void disk_memory_put_sector(struct disk *disk, const struct disk_memory_sector *sector);

// Power goes during a blocking call: so many blocking writes from now on happen, of the one after
// them only these sectors of its first eight do, and nothing works from there on (-EIO).
// UINT32_MAX: power stays.
void disk_memory_cut_power(struct disk *disk, uint32_t after_writes, uint8_t sectors);
// Blocking writes since then, and the sectors that the one that was cut would have changed.
uint32_t disk_memory_blocking_writes(const struct disk *disk);
uint8_t disk_memory_cut_sectors(const struct disk *disk);

#endif
