// The Raft log in memory: a ring of entry descriptors over a ring of bytes, both sized once.
//
// It holds the entries from `first` to `last`; what lies before is in a snapshot, of which only the
// term and time of entry first - 1 are kept (thesis 5.1). Entry bytes are contiguous and 8-aligned,
// so that a command can be read in place: an entry that would straddle the end of the byte ring
// starts at its beginning instead.
#ifndef CONCLAVE_RAFT_LOG_H
#define CONCLAVE_RAFT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft.h"

struct raft_log_slot {
    uint64_t term;
    uint64_t time_ns;
    uint64_t position; // in the endless byte stream; modulo log_bytes in the ring
    uint16_t length;
    uint8_t type;
};

struct raft_log {
    uint64_t first; // base + 1, also when empty
    uint64_t last;  // first - 1 when empty
    uint64_t base_term;
    uint64_t base_time_ns;
    uint64_t head;       // where the next entry's bytes may begin
    uint64_t tail;       // where the oldest entry's bytes begin
    uint32_t slot_count; // power of two
    uint32_t byte_count; // power of two
    struct raft_log_slot *slots;
    uint8_t *bytes;
};

size_t raft_log_memory(uint32_t slot_count, uint32_t byte_count);
void raft_log_init(struct raft_log *log, void *memory, uint32_t slot_count, uint32_t byte_count);
// Forgets everything; the next entry is index + 1.
void raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term, uint64_t time_ns);
// False: no room. data may not lie in the log.
bool raft_log_append(struct raft_log *log, const struct raft_entry *entry);
bool raft_log_has_room(const struct raft_log *log, uint32_t entries, uint32_t bytes);
void raft_log_truncate(struct raft_log *log, uint64_t from); // drops from .. last
void raft_log_compact(struct raft_log *log, uint64_t upto);  // drops first .. upto
struct raft_entry raft_log_entry(const struct raft_log *log, uint64_t index);
uint64_t raft_log_term(const struct raft_log *log, uint64_t index); // 0: not in memory
uint64_t raft_log_last_term(const struct raft_log *log);
uint64_t raft_log_last_time_ns(const struct raft_log *log);
uint32_t raft_log_percent(const struct raft_log *log);

#endif
