// See log.h. Positions in the byte ring only grow, so that full and empty need no extra flag; the
// gap skipped at the ring's end belongs to the entry after it and is freed with it.
#include "log.h"

#include <assert.h>
#include <string.h>

static uint64_t pad8(uint64_t bytes) {
    return (bytes + 7u) & ~7ull;
}

static size_t slots_bytes(uint32_t slot_count) {
    return (slot_count * sizeof(struct raft_log_slot) + 63u) & ~(size_t)63u;
}

size_t raft_log_memory(uint32_t slot_count, uint32_t byte_count) {
    return slots_bytes(slot_count) + byte_count;
}

void raft_log_init(struct raft_log *log, void *memory, uint32_t slot_count, uint32_t byte_count) {
    memset(log, 0, sizeof *log);
    log->slot_count = slot_count;
    log->byte_count = byte_count;
    log->slots = memory;
    log->bytes = (uint8_t *)memory + slots_bytes(slot_count);
    raft_log_reset(log, 0, 0, 0);
}

void raft_log_reset(struct raft_log *log, uint64_t index, uint64_t term, uint64_t time_ns) {
    log->first = index + 1;
    log->last = index;
    log->base_term = term;
    log->base_time_ns = time_ns;
    log->head = 0;
    log->tail = 0;
}

static struct raft_log_slot *slot_at(const struct raft_log *log, uint64_t index) {
    assert(index >= log->first && index <= log->last);
    return &log->slots[index & (log->slot_count - 1)];
}

// Where an entry of `length` bytes would begin.
static uint64_t place(const struct raft_log *log, uint64_t length) {
    uint64_t offset = log->head & (log->byte_count - 1);
    return offset + length > log->byte_count ? log->head + (log->byte_count - offset) : log->head;
}

bool raft_log_has_room(const struct raft_log *log, uint32_t entries, uint32_t bytes) {
    uint64_t used = log->last + 1 - log->first;
    // The most that can be lost to padding and to the skip at the ring's end.
    uint64_t worst = (uint64_t)bytes + 8ull * entries + RAFT_ENTRY_MAX;
    return used + entries <= log->slot_count && log->head - log->tail + worst <= log->byte_count;
}

bool raft_log_append(struct raft_log *log, const struct raft_entry *entry) {
    uint64_t length = pad8(entry->length);
    uint64_t position = place(log, length);
    if (log->last + 1 - log->first >= log->slot_count) return false;
    if (position + length - log->tail > log->byte_count) return false;
    assert(entry->term >= raft_log_last_term(log));

    log->last++;
    struct raft_log_slot *slot = slot_at(log, log->last);
    slot->term = entry->term;
    slot->time_ns = entry->time_ns;
    slot->position = position;
    slot->length = entry->length;
    slot->type = entry->type;
    if (entry->length > 0)
        memcpy(log->bytes + (position & (log->byte_count - 1)), entry->data, entry->length);
    log->head = position + length;
    return true;
}

void raft_log_truncate(struct raft_log *log, uint64_t from) {
    assert(from >= log->first && from <= log->last);
    log->head = slot_at(log, from)->position;
    log->last = from - 1;
    if (log->last < log->first) log->tail = log->head;
}

void raft_log_compact(struct raft_log *log, uint64_t upto) {
    assert(upto >= log->first && upto <= log->last);
    const struct raft_log_slot *slot = slot_at(log, upto);
    log->base_term = slot->term;
    log->base_time_ns = slot->time_ns;
    log->tail = upto == log->last ? log->head : slot_at(log, upto + 1)->position;
    log->first = upto + 1;
}

struct raft_entry raft_log_entry(const struct raft_log *log, uint64_t index) {
    const struct raft_log_slot *slot = slot_at(log, index);
    return (struct raft_entry){
        .term = slot->term,
        .time_ns = slot->time_ns,
        .data = log->bytes + (slot->position & (log->byte_count - 1)),
        .length = slot->length,
        .type = slot->type,
    };
}

uint64_t raft_log_term(const struct raft_log *log, uint64_t index) {
    if (index + 1 == log->first) return log->base_term;
    if (index < log->first || index > log->last) return 0;
    return slot_at(log, index)->term;
}

uint64_t raft_log_last_term(const struct raft_log *log) {
    return raft_log_term(log, log->last);
}

uint64_t raft_log_last_time_ns(const struct raft_log *log) {
    return log->last < log->first ? log->base_time_ns : slot_at(log, log->last)->time_ns;
}

uint32_t raft_log_percent(const struct raft_log *log) {
    uint64_t by_slots = (log->last + 1 - log->first) * 100 / log->slot_count;
    uint64_t by_bytes = (log->head - log->tail) * 100 / log->byte_count;
    return (uint32_t)(by_slots > by_bytes ? by_slots : by_bytes);
}
