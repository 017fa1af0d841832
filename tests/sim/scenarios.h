// The scenarios, by the file they are in. Each name is that of the mutant it kills.
#ifndef CONCLAVE_SIM_SCENARIOS_H
#define CONCLAVE_SIM_SCENARIOS_H

#include "scenario.h"

// clang-format off
// scenario_raft.c
void play_commit_older_term(struct scenario *s);
void play_vote_before_durable(struct scenario *s);
void play_leader_counts_itself(struct scenario *s);
void play_commit_beyond_append(struct scenario *s);
void play_stale_append_truncates(struct scenario *s);
void play_match_goes_back(struct scenario *s);
void play_append_aba(struct scenario *s);
#define SCENARIOS_RAFT \
    {"commit-older-term", "only entries of the leader's own term are committed by counting", play_commit_older_term}, \
    {"vote-before-durable", "a vote leaves when it is on disk: one leader a term, over power cuts", play_vote_before_durable}, \
    {"leader-counts-itself", "the leader's copy counts when it is on its disk", play_leader_counts_itself}, \
    {"commit-beyond-append", "a follower commits no more than the append proves to be the leader's", play_commit_beyond_append}, \
    {"stale-append-truncates", "an append that comes late takes nothing away", play_stale_append_truncates}, \
    {"match-goes-back", "an acknowledgement that comes late takes nothing back", play_match_goes_back}, \
    {"append-aba", "a write from before a truncation does not make what came after it durable", play_append_aba}

// scenario_links.c
void play_prevote_checkquorum_deadlock(struct scenario *s);
void play_partial_partition(struct scenario *s);
void play_one_way_link(struct scenario *s);
void play_quorumless_leader(struct scenario *s);
void play_read_before_own_commit(struct scenario *s);
void play_read_context_reused(struct scenario *s);
#define SCENARIOS_READ \
    {"prevote-checkquorum-deadlock", "a node with a higher term and an older log gets back", play_prevote_checkquorum_deadlock}, \
    {"partial-partition", "one cut link of three deposes nobody", play_partial_partition}, \
    {"one-way-link", "a node that cannot hear the leader does not raise its term", play_one_way_link}, \
    {"quorumless-leader", "a leader that hears nobody makes room, though its heartbeats arrive", play_quorumless_leader}, \
    {"read-before-own-commit", "a new leader's reads wait until it knows what was committed", play_read_before_own_commit}, \
    {"read-context-reused", "only answers to what was sent after it confirm a read", play_read_context_reused}

// scenario_snapshot.c
void play_snapshot_conflict(struct scenario *s);
void play_older_snapshot(struct scenario *s);
void play_snapshot_index_back(struct scenario *s);
void play_applied_apart(struct scenario *s);
void play_token_reuse_restore(struct scenario *s);
#define SCENARIOS_SNAPSHOT \
    {"snapshot-conflict", "a snapshot replaces a log that contradicts it", play_snapshot_conflict}, \
    {"older-snapshot", "an older snapshot removes nothing of a newer log", play_older_snapshot}, \
    {"snapshot-index-back", "the newest snapshot is never replaced by an older one", play_snapshot_index_back}, \
    {"applied-apart", "a snapshot's index is that of its state", play_applied_apart}, \
    {"token-reuse-restore", "tokens rise over a restore from a snapshot", play_token_reuse_restore}

// scenario_wal.c
void play_wal_directory_fsync(struct scenario *s);
void play_torn_tail_boots(struct scenario *s);
void play_damage_is_no_crash(struct scenario *s);
void play_fsync_failure(struct scenario *s);
void play_single_vote_copy(struct scenario *s);
#define SCENARIOS_WAL \
    {"wal-directory-fsync", "what was acknowledged has a name after a power cut", play_wal_directory_fsync}, \
    {"torn-tail-boots", "a node whose last write was torn starts, and lacks nothing acknowledged", play_torn_tail_boots}, \
    {"damage-is-no-crash", "a node with a damaged log does not vote what was acknowledged away", play_damage_is_no_crash}, \
    {"fsync-failure", "a write that failed is not acknowledged, then or later", play_fsync_failure}, \
    {"single-vote-copy", "a vote outlives the rot of either of its copies", play_single_vote_copy}

// scenario_lock.c
void play_grant_to_dead_waiter(struct scenario *s);
void play_stalled_expiry(struct scenario *s);
void play_ttl_reset_on_election(struct scenario *s);
void play_short_lived_leaders(struct scenario *s);
void play_token_reuse_delete(struct scenario *s);
void play_duplicate_request(struct scenario *s);
void play_late_cancel(struct scenario *s);
void play_dead_waiter(struct scenario *s);
void play_queue_order(struct scenario *s);
#define SCENARIOS_LOCK \
    {"grant-to-dead-waiter", "a lock goes to no waiter whose lease has run out", play_grant_to_dead_waiter}, \
    {"stalled-expiry", "a lease that was renewed is not ended by an expiry held up on its way", play_stalled_expiry}, \
    {"ttl-reset-on-election", "elections make no lease immortal", play_ttl_reset_on_election}, \
    {"short-lived-leaders", "leaders that die young do not stop cluster time", play_short_lived_leaders}, \
    {"token-reuse-delete", "tokens rise over the deletion of a lock", play_token_reuse_delete}, \
    {"duplicate-request", "a request that comes again is answered again and not run again", play_duplicate_request}, \
    {"late-cancel", "the end of a wait takes no lock from whom it was granted to", play_late_cancel}, \
    {"dead-waiter", "a waiter whose lease has ended leaves the queue", play_dead_waiter}, \
    {"queue-order", "who asked first is granted first", play_queue_order}
// clang-format on

#endif
