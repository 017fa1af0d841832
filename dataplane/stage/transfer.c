// Snapshots from node to node (thesis 5.3): a node that needs entries the leader no longer has gets
// the leader's newest snapshot in chunks. The receiver takes them in order and says how far it is;
// the sender keeps a few in flight and goes back to what was acknowledged when the receiver repeats
// itself (chunks overtook each other, or one was lost) or when nothing moves.
#include <string.h>

#include "stage_consensus.h"

// ---------------------------------------------------------------- sending

static void end_sending(struct stage_consensus *stage) {
    struct stage_sender *s = &stage->sender;
    if (s->reading) return; // the block comes back first
    stage_give_snapshot_request(stage, s->block);
    *s = (struct stage_sender){0};
}

void stage_transfer_begin_anew(struct stage_consensus *stage) {
    struct stage_sender *s = &stage->sender;
    s->stale = s->peer != 0;
    end_sending(stage);
}

// In turn, so that one who never gets to the end does not keep the others waiting.
static uint16_t node_in_need(struct stage_consensus *stage) {
    uint32_t count = stage->options.node_count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (stage->sender_turn + i) % count;
        if (!(stage->effects.snapshot_peers & (1u << at))) continue;
        stage->sender_turn = at + 1;
        return stage->options.nodes[at].id;
    }
    return 0;
}

static bool still_in_need(const struct stage_consensus *stage, uint16_t peer) {
    for (uint32_t i = 0; i < stage->options.node_count; i++)
        if (stage->options.nodes[i].id == peer)
            return (stage->effects.snapshot_peers & (1u << i)) != 0;
    return false;
}

static bool others_in_need(const struct stage_consensus *stage, uint16_t peer) {
    for (uint32_t i = 0; i < stage->options.node_count; i++)
        if (stage->options.nodes[i].id != peer && (stage->effects.snapshot_peers & (1u << i)))
            return true;
    return false;
}

static bool may_send(const struct stage_consensus *stage) {
    const struct stage_snapshot *snapshot = &stage->snapshot;
    // Not while a newer one is being written over the other file: it would become the newest.
    return snapshot->state == SNAPSHOT_IDLE && snapshot->newest_index != 0 &&
           snapshot->newest_index + 1 >= raft_first(stage->raft) && !stage->restoring &&
           !stage_snapshot_due(stage);
}

static void begin_sending(struct stage_consensus *stage) {
    const struct stage_snapshot *snapshot = &stage->snapshot;
    if (!may_send(stage)) return;
    uint16_t peer = node_in_need(stage);
    if (peer == 0) return;
    stage->sender = (struct stage_sender){
        .peer = peer,
        .endpoint = stage_endpoint_of(stage, peer),
        .index = snapshot->newest_index,
        .term = snapshot->newest_term,
        .time_ns = snapshot->newest_time_ns,
        .total = snapshot->newest_bytes,
        .progress_ns = stage->now_ns,
        .heard_ns = stage->now_ns,
        .sent_ns = stage->now_ns,
    };
}

static bool block_covers(const struct stage_sender *s, uint64_t offset) {
    return s->block != NULL && !s->reading && offset >= s->block->snapshot.offset &&
           offset < s->block->snapshot.offset + s->block->bytes;
}

static void read_block(struct stage_consensus *stage) {
    struct stage_sender *s = &stage->sender;
    if (s->reading) return;
    if (s->block == NULL) s->block = stage_take_snapshot_request(stage);
    if (s->block == NULL) return;
    s->block->type = STORE_SNAPSHOT_READ;
    s->block->snapshot.offset = s->acked - s->acked % STORE_SNAPSHOT_BYTES;
    s->block->snapshot.peer = s->peer;
    s->block->bytes = STORE_SNAPSHOT_BYTES;
    s->reading = true;
    stage_push(stage, s->block);
}

void stage_transfer_read(struct stage_consensus *stage, struct store_request *request) {
    struct stage_sender *s = &stage->sender;
    assert(s->block == request && s->reading);
    s->reading = false;
    if (request->status != 0) stage_count(stage, STAGE_COUNT_SNAPSHOTS_FAILED, 1);
    if (request->status != 0 && !s->stale) stage->snapshot.unreadable = true;
    if (request->status != 0 || s->stale) end_sending(stage);
}

static bool send_chunk(struct stage_consensus *stage) {
    struct stage_sender *s = &stage->sender;
    uint64_t in_block = s->sent - s->block->snapshot.offset;
    uint64_t left = s->block->bytes - in_block;
    uint32_t bytes = left < STAGE_CHUNK_BYTES ? (uint32_t)left : STAGE_CHUNK_BYTES;
    struct wire_snapshot *out =
        stage_message(stage, s->endpoint, WIRE_SNAPSHOT, 0, (uint32_t)sizeof *out + bytes);
    if (out == NULL) return false;
    out->term = raft_term(stage->raft);
    out->last_index = s->index;
    out->last_term = s->term;
    out->offset = s->sent;
    out->total = s->total;
    out->time_ns = s->time_ns;
    out->context = raft_context(stage->raft);
    out->bytes = bytes;
    memcpy(out + 1, s->block->data + in_block, bytes);
    s->sent += bytes;
    s->sent_ns = stage->now_ns;
    stage_count(stage, STAGE_COUNT_CHUNKS_SENT, 1);
    return true;
}

static uint32_t send_some(struct stage_consensus *stage) {
    struct stage_sender *s = &stage->sender;
    uint64_t limit = s->acked + (uint64_t)STAGE_CHUNKS_AHEAD * STAGE_CHUNK_BYTES;
    uint32_t sent = 0;
    if (s->sent > s->acked && stage->now_ns - s->sent_ns > STAGE_TRANSFER_STALL_NS) {
        s->sent = s->acked;
        stage_count(stage, STAGE_COUNT_CHUNKS_RESENT, 1);
    }
    if (s->acked < s->total && !block_covers(s, s->acked)) {
        read_block(stage);
        return 0;
    }
    while (s->sent < limit && block_covers(s, s->sent) && send_chunk(stage)) sent++;
    return sent;
}

// Sends again from what the receiver has.
static void go_back(struct stage_consensus *stage, uint64_t acked) {
    struct stage_sender *s = &stage->sender;
    s->recover = s->sent;
    s->acked = s->sent = acked;
    s->repeats = 0;
    stage_count(stage, STAGE_COUNT_CHUNKS_RESENT, 1);
}

// As TCP's fast retransmit (RFC 6582), with chunks for segments.
static void on_repetition(struct stage_consensus *stage) {
    struct stage_sender *s = &stage->sender;
    s->repeats++;
    bool lost = s->repeats >= STAGE_TRANSFER_REPEATS && s->acked >= s->recover;
    bool silent = stage->now_ns - s->sent_ns > STAGE_TRANSFER_AGAIN_NS;
    if (s->sent > s->acked && (lost || silent)) go_back(stage, s->acked);
}

// Less than it has acknowledged. "Nothing yet": the receiver has begun anew. Others only overtook
// each other, as a rule. So may that one have: then the receiver says how far it really is as soon
// as it hears the first chunk again. But who has begun anew may have come some way by chunks that
// the network brought once more; it says the same to whatever it is sent now.
static void on_less(struct stage_consensus *stage, uint64_t offset) {
    struct stage_sender *s = &stage->sender;
    s->lower_repeats = offset == s->lower ? s->lower_repeats + 1 : 1;
    s->lower = offset;
    if (offset > 0 && s->lower_repeats < STAGE_TRANSFER_BELIEVE) return;
    s->lower_repeats = 0;
    go_back(stage, offset);
}

static void on_progress(struct stage_consensus *stage, const struct wire_snapshot_reply *reply,
                        uint16_t peer) {
    struct stage_sender *s = &stage->sender;
    if (peer != s->peer || reply->last_index != s->index || reply->term != raft_term(stage->raft) ||
        reply->offset > s->total)
        return;
    s->heard_ns = stage->now_ns;
    if (reply->offset < s->acked) {
        on_less(stage, reply->offset);
        return;
    }
    s->lower_repeats = 0;
    if (reply->offset == s->acked) {
        on_repetition(stage);
        return;
    }
    s->repeats = 0;
    s->acked = reply->offset;
    s->progress_ns = stage->now_ns;
    if (s->sent < s->acked) s->sent = s->acked;
    if (s->acked < s->total) return;
    struct raft_event *event = stage_event(stage, RAFT_EVENT_SNAPSHOT_SENT);
    event->snapshot.peer = peer;
    event->snapshot.index = s->index;
    stage_count(stage, STAGE_COUNT_SNAPSHOTS_SENT, 1);
    end_sending(stage);
}

// ---------------------------------------------------------------- receiving

static void say_how_far(struct stage_consensus *stage, uint64_t endpoint, uint64_t last_index,
                        uint64_t context, uint64_t offset) {
    struct wire_snapshot_reply *reply =
        stage_message(stage, endpoint, WIRE_SNAPSHOT_REPLY, 0, sizeof *reply);
    if (reply == NULL) return;
    reply->term = raft_term(stage->raft);
    reply->last_index = last_index;
    reply->offset = offset;
    reply->context = context;
}

static void end_receiving(struct stage_consensus *stage) {
    stage_give_snapshot_request(stage, stage->receiver.filling);
    stage->receiver = (struct stage_receiver){0};
}

static bool may_begin(const struct stage_consensus *stage) {
    return !stage->restoring && stage->snapshot.state == SNAPSHOT_IDLE &&
           stage->receiver.in_flight == 0;
}

// Chunks of another snapshot than before start a new one, once the store has let go of the old.
static bool ready_for(struct stage_consensus *stage, const struct wire_snapshot *chunk,
                      uint16_t peer) {
    struct stage_receiver *r = &stage->receiver;
    if (stage->restoring || stage->snapshot.state != SNAPSHOT_IDLE) return false;
    bool same = r->peer == peer && r->index == chunk->last_index && r->term == chunk->last_term &&
                r->total == chunk->total && !r->failed;
    if (same) return true;
    if (!may_begin(stage) || chunk->offset != 0) return false;
    end_receiving(stage);
    *r = (struct stage_receiver){.peer = peer,
                                 .index = chunk->last_index,
                                 .term = chunk->last_term,
                                 .time_ns = chunk->time_ns,
                                 .total = chunk->total,
                                 .heard_ns = stage->now_ns};
    return true;
}

static void push_received(struct stage_consensus *stage, bool final) {
    struct stage_receiver *r = &stage->receiver;
    struct store_request *request = r->filling;
    r->filling = NULL;
    request->type = STORE_SNAPSHOT_WRITE;
    request->snapshot.index = r->index;
    request->snapshot.term = r->term;
    request->snapshot.time_ns = r->time_ns;
    request->snapshot.offset = r->received - request->bytes;
    request->snapshot.final = final;
    request->snapshot.install = true;
    r->in_flight++;
    r->final_sent = final;
    stage_push(stage, request);
}

// The log on disk is about to restart behind the snapshot. If its last entry has come by append
// meanwhile, entries after it may have been acknowledged: then the snapshot is not wanted any more.
static bool overtaken(const struct stage_consensus *stage) {
    const struct stage_receiver *r = &stage->receiver;
    return raft_commit(stage->raft) >= r->index || raft_term_at(stage->raft, r->index) == r->term;
}

bool stage_transfer_closing(const struct stage_consensus *stage) {
    const struct stage_receiver *r = &stage->receiver;
    return r->peer != 0 && r->received > 0 && r->received == r->total && !r->failed;
}

// All is here. Appends on their way to the disk belong to the log before the restart: the wal stage
// writes them before it or voids them. New ones wait until it is done, see stage_persist().
static void finish_receiving(struct stage_consensus *stage) {
    struct stage_receiver *r = &stage->receiver;
    assert(stage_transfer_closing(stage) && !r->final_sent);
    if (overtaken(stage)) {
        r->failed = true;
        if (r->in_flight == 0) end_receiving(stage);
    } else {
        push_received(stage, true);
    }
}

// True if the chunk was the next one and has been taken.
static bool take_chunk(struct stage_consensus *stage, const struct wire_snapshot *chunk) {
    struct stage_receiver *r = &stage->receiver;
    if (chunk->offset != r->received || chunk->bytes == 0 || chunk->bytes > r->total - r->received)
        return false;
    if (r->filling == NULL) r->filling = stage_take_snapshot_request(stage);
    if (r->filling == NULL || chunk->bytes > STORE_SNAPSHOT_BYTES - r->filling->bytes) return false;
    memcpy(r->filling->data + r->filling->bytes, chunk + 1, chunk->bytes);
    r->filling->bytes += chunk->bytes;
    r->received += chunk->bytes;
    r->heard_ns = stage->now_ns;
    if (r->received == r->total)
        finish_receiving(stage);
    else if (r->filling->bytes == STORE_SNAPSHOT_BYTES)
        push_received(stage, false);
    return true;
}

static void on_chunk(struct stage_consensus *stage, const struct wire_snapshot *chunk,
                     uint64_t endpoint, uint16_t peer) {
    struct stage_receiver *r = &stage->receiver;
    if (!raft_wants_snapshot(stage->raft, peer, chunk->term, chunk->last_index)) {
        bool have =
            chunk->term == raft_term(stage->raft) && raft_commit(stage->raft) >= chunk->last_index;
        if (have) say_how_far(stage, endpoint, chunk->last_index, chunk->context, chunk->total);
        if (!have) stage_count(stage, STAGE_COUNT_CHUNKS_REFUSED, 1);
        return;
    }
    if (!ready_for(stage, chunk, peer)) {
        stage_count(stage, STAGE_COUNT_CHUNKS_REFUSED, 1);
        // Whoever sends from the middle does not know that this node has restarted.
        if (may_begin(stage)) say_how_far(stage, endpoint, chunk->last_index, chunk->context, 0);
        return;
    }
    r->context = chunk->context;
    if (!take_chunk(stage, chunk)) stage_count(stage, STAGE_COUNT_CHUNKS_REFUSED, 1);
    // The whole is acknowledged only when it is durable.
    if (r->peer != 0 && r->received < r->total)
        say_how_far(stage, endpoint, r->index, r->context, r->received);
}

void stage_transfer_written(struct stage_consensus *stage, struct store_request *request) {
    struct stage_receiver *r = &stage->receiver;
    r->in_flight--;
    if (request->status != 0) r->failed = true;
    if (request->status == 0 && request->snapshot.final) {
        struct stage_snapshot *newest = &stage->snapshot;
        newest->newest_index = r->index;
        newest->newest_term = r->term;
        newest->newest_time_ns = r->time_ns;
        newest->newest_bytes = r->total;
        newest->unreadable = false;
        stage_transfer_begin_anew(stage); // a block read for a peer of former days is not of this
        struct raft_event *event = stage_event(stage, RAFT_EVENT_SNAPSHOT_INSTALLED);
        event->snapshot.index = r->index;
        event->snapshot.term = r->term;
        event->snapshot.time_ns = r->time_ns;
        stage_count(stage, STAGE_COUNT_SNAPSHOTS_RECEIVED, 1);
    }
    stage_give_snapshot_request(stage, request);
    // There is room again, and the sender may have run into there being none.
    if (!r->failed && !r->final_sent)
        say_how_far(stage, stage_endpoint_of(stage, r->peer), r->index, r->context, r->received);
    if (r->in_flight == 0 && (r->failed || r->final_sent)) {
        if (r->failed) stage_count(stage, STAGE_COUNT_SNAPSHOTS_FAILED, 1);
        end_receiving(stage);
    }
}

// ---------------------------------------------------------------- both

void stage_transfer_messages(struct stage_consensus *stage) {
    for (uint32_t i = 0; i < stage->chunk_count; i++) {
        const struct wire_head *head = stage->chunks[i].head;
        if (head->type == WIRE_SNAPSHOT)
            on_chunk(stage, (const struct wire_snapshot *)head, stage->chunks[i].endpoint,
                     stage->chunks[i].peer);
        else
            on_progress(stage, (const struct wire_snapshot_reply *)head, stage->chunks[i].peer);
    }
    stage->chunk_count = 0;
}

// Nobody goes on with what is being received: another leads, or its entries have come by append. It
// must not hold up own snapshots until it is given up, since the log may be full by then.
static bool in_vain(const struct stage_consensus *stage) {
    const struct stage_receiver *r = &stage->receiver;
    uint16_t leader = raft_leader(stage->raft);
    return (leader != 0 && leader != r->peer) || raft_commit(stage->raft) >= r->index ||
           stage->now_ns - r->heard_ns > STAGE_TRANSFER_GIVE_UP_NS;
}

uint32_t stage_transfer_step(struct stage_consensus *stage) {
    struct stage_receiver *r = &stage->receiver;
    struct stage_sender *s = &stage->sender;
    if (r->peer != 0 && r->in_flight == 0 && in_vain(stage)) end_receiving(stage);
    if (s->peer == 0) {
        if (stage->effects.snapshot_peers != 0) begin_sending(stage);
        return 0;
    }
    bool stalled = stage->now_ns - s->progress_ns > STAGE_TRANSFER_GIVE_UP_NS;
    bool silent = stage->now_ns - s->heard_ns > STAGE_TRANSFER_SILENT_NS;
    if (silent && others_in_need(stage, s->peer)) stalled = true;
    if (s->stale || stalled || !still_in_need(stage, s->peer)) {
        end_sending(stage);
        return 0;
    }
    return send_some(stage);
}

// ---------------------------------------------------------------- when to go on

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t sender_wakes(const struct stage_consensus *stage) {
    const struct stage_sender *s = &stage->sender;
    if (s->peer == 0) return stage->effects.snapshot_peers != 0 && may_send(stage) ? 0 : UINT64_MAX;
    uint64_t wake = UINT64_MAX;
    if (s->sent > s->acked) wake = s->sent_ns + STAGE_TRANSFER_STALL_NS + 1;
    if (!s->reading) { // else its block comes back first
        if (s->stale || !still_in_need(stage, s->peer)) return 0;
        wake = earlier(wake, s->progress_ns + STAGE_TRANSFER_GIVE_UP_NS + 1);
        if (others_in_need(stage, s->peer))
            wake = earlier(wake, s->heard_ns + STAGE_TRANSFER_SILENT_NS + 1);
        bool read = s->acked < s->total && !block_covers(s, s->acked);
        if (read && (s->block != NULL || stage->free_snapshot_count > 0)) return 0;
    }
    uint64_t limit = s->acked + (uint64_t)STAGE_CHUNKS_AHEAD * STAGE_CHUNK_BYTES;
    return s->sent < limit && block_covers(s, s->sent) ? 0 : wake;
}

uint64_t stage_transfer_wake_ns(const struct stage_consensus *stage) {
    const struct stage_receiver *r = &stage->receiver;
    uint64_t wake = sender_wakes(stage);
    if (r->peer != 0 && r->in_flight == 0)
        wake = earlier(wake, r->heard_ns + STAGE_TRANSFER_GIVE_UP_NS + 1);
    return wake;
}
