// What the caller may ask of the core between steps, and the counters' names.
#include "raft_internal.h"

struct raft_entry raft_entry_at(const struct raft *raft, uint64_t index) {
    return raft_log_entry(&raft->log, index);
}

struct raft_hard_state raft_hard_state(const struct raft *raft) {
    return (struct raft_hard_state){.term = raft->term,
                                    .vote = raft->vote,
                                    .sequence = raft->hard_sequence,
                                    .recovering = raft->recovering};
}

enum wire_role raft_role(const struct raft *raft) {
    return raft->role;
}
uint64_t raft_term(const struct raft *raft) {
    return raft->term;
}
uint16_t raft_leader(const struct raft *raft) {
    return raft->leader;
}
uint64_t raft_first(const struct raft *raft) {
    return raft->log.first;
}
uint64_t raft_last(const struct raft *raft) {
    return raft->log.last;
}
uint64_t raft_commit(const struct raft *raft) {
    return raft->commit;
}
uint64_t raft_durable(const struct raft *raft) {
    return raft->durable;
}
bool raft_recovering(const struct raft *raft) {
    return raft->recovering;
}
uint64_t raft_context(const struct raft *raft) {
    return raft->context;
}

bool raft_leader_ready(const struct raft *raft) {
    return raft->role == WIRE_ROLE_LEADER && raft->commit >= raft->noop_index;
}

bool raft_can_propose(const struct raft *raft, uint32_t entries, uint32_t bytes) {
    if (raft->role != WIRE_ROLE_LEADER || bytes > RAFT_ENTRY_MAX * entries) return false;
    uint32_t noop_bytes = RAFT_NOOP_RESERVE * (raft->options.noop_length + 8u);
    return raft_log_has_room(&raft->log, entries + RAFT_NOOP_RESERVE, bytes + noop_bytes);
}

uint32_t raft_log_used_percent(const struct raft *raft) {
    return raft_log_percent(&raft->log);
}

uint64_t raft_term_at(const struct raft *raft, uint64_t index) {
    return raft_log_term(&raft->log, index);
}

uint64_t raft_time(const struct raft *raft, uint64_t now_ns) {
    assert(raft->role == WIRE_ROLE_LEADER && now_ns >= raft->led_since_ns);
    return raft->time_base_ns + (now_ns - raft->led_since_ns);
}

uint64_t raft_when(const struct raft *raft, uint64_t time_ns) {
    assert(raft->role == WIRE_ROLE_LEADER);
    if (time_ns == UINT64_MAX) return UINT64_MAX;
    return time_ns <= raft->time_base_ns ? 0 : raft->led_since_ns + (time_ns - raft->time_base_ns);
}

uint64_t raft_counter(const struct raft *raft, enum raft_counter counter) {
    return __atomic_load_n(&raft->counters[counter], __ATOMIC_RELAXED);
}

const char *raft_counter_name(enum raft_counter counter) {
    static const char *const names[RAFT_COUNTERS] = {
        [RAFT_COUNT_ELECTIONS_STARTED] = "elections_started",
        [RAFT_COUNT_PREVOTES_STARTED] = "prevotes_started",
        [RAFT_COUNT_TERMS_LED] = "terms_led",
        [RAFT_COUNT_STEPPED_DOWN_QUORUM] = "stepped_down_quorum",
        [RAFT_COUNT_STEPPED_DOWN_DISK] = "stepped_down_disk",
        [RAFT_COUNT_APPENDS_REJECTED] = "appends_rejected",
        [RAFT_COUNT_APPENDS_RESENT] = "appends_resent",
        [RAFT_COUNT_ENTRIES_TRUNCATED] = "entries_truncated",
        [RAFT_COUNT_STALE_MESSAGES] = "stale_messages",
        [RAFT_COUNT_STALE_DURABLE] = "stale_durable",
        [RAFT_COUNT_PROPOSALS_REFUSED] = "proposals_refused",
        [RAFT_COUNT_LOG_FULL] = "log_full",
    };
    return names[counter];
}
