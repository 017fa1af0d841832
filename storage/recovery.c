// Reading the log back: find the chain of batches, follow it to its end, and judge what the end is.
//
// The end is a torn tail when nothing on disk says that the next batch had been durable: then it
// was never acknowledged, and is cut. If a later batch exists that was written when the next one
// was known to be durable, something is missing that may have been acknowledged: that is damage. So
// is a next batch that cannot be read: power that goes leaves sectors old or new, but readable.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store_internal.h"

// Bytes of a segment into store->scan, mostly from what was read ahead.
static bool fetch(struct store *store, uint32_t segment, uint64_t offset, uint32_t bytes) {
    if (bytes > STORE_BATCH_BYTES || offset + bytes > store->options.segment_bytes) return false;
    bool ahead = store->window.length > 0 && store->window.segment == segment &&
                 offset >= store->window.offset &&
                 offset + bytes <= store->window.offset + store->window.length;
    if (!ahead) {
        uint64_t left = store->options.segment_bytes - offset;
        uint32_t wanted = left < STORE_WINDOW_BYTES ? (uint32_t)left : STORE_WINDOW_BYTES;
        int32_t got =
            store->disk->ops->read(store->disk, segment, offset, store->window.bytes, wanted);
        store->window.segment = segment;
        store->window.offset = offset;
        store->window.length = got > 0 ? (uint64_t)got : 0;
        // A sector that cannot be read must not hide those around it.
        if (got < (int32_t)bytes)
            return store->disk->ops->read(store->disk, segment, offset, store->scan, bytes) ==
                   (int32_t)bytes;
    }
    memcpy(store->scan, store->window.bytes + (offset - store->window.offset), bytes);
    return true;
}

// Reads the batch header at this place; false unless it is a sound one of this node's log.
static bool read_header(struct store *store, uint32_t segment, uint64_t offset,
                        struct wal_batch_header *header) {
    if (!fetch(store, segment, offset, STORE_BLOCK)) return false;
    memcpy(header, store->scan, sizeof *header);
    struct wal_batch_header plain = *header;
    plain.header_crc = 0;
    return header->magic == WAL_MAGIC && header->version == WAL_VERSION &&
           header->cluster == store->options.cluster && header->node == store->options.node &&
           header->group == store->options.group &&
           header->header_crc == store_crc(&plain, sizeof plain) &&
           header->bytes <= STORE_BATCH_BYTES - sizeof *header;
}

static uint32_t padded_bytes(const struct wal_batch_header *header) {
    uint32_t bytes = (uint32_t)sizeof *header + header->bytes;
    return (bytes + STORE_BLOCK - 1) & ~(STORE_BLOCK - 1);
}

// Are the records what the header says?
static bool records_fit(const struct wal_batch_header *header, const uint8_t *body) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < header->entries; i++) {
        if (header->bytes - at < sizeof(struct wal_record)) return false;
        const struct wal_record *record = (const struct wal_record *)(body + at);
        uint32_t bytes = (uint32_t)sizeof *record + ((record->length + 7u) & ~7u);
        if (record->length > RAFT_ENTRY_MAX || header->bytes - at < bytes) return false;
        at += bytes;
    }
    return at == header->bytes;
}

// The whole batch at this place into store->scan; false unless sound.
static bool read_batch(struct store *store, uint32_t segment, uint64_t offset,
                       struct wal_batch_header *header) {
    if (!read_header(store, segment, offset, header)) return false;
    uint32_t padded = padded_bytes(header);
    if (padded > STORE_BLOCK && !fetch(store, segment, offset, padded)) return false;
    const uint8_t *body = store->scan + sizeof *header;
    return store_crc(body, header->bytes) == header->body_crc && records_fit(header, body);
}

struct place {
    uint32_t segment;
    uint64_t offset;
};

// The batch after `from` in the chain: in the same segment, or at the start of another.
static bool next_in_chain(struct store *store, struct place *place, uint64_t sequence,
                          uint64_t hash, struct wal_batch_header *header) {
    struct place tries[2] = {*place, {(place->segment + 1) % store->options.segment_count, 0}};
    for (uint32_t i = 0; i < 2; i++) {
        if (!read_batch(store, tries[i].segment, tries[i].offset, header)) continue;
        if (header->sequence != sequence || header->previous_hash != hash) continue;
        *place = tries[i];
        return true;
    }
    return false;
}

// Is (life, sequence) a later place in the log's history than the other? A life begins where the
// recovery before it cut, so that sequences alone do not tell.
static bool later(uint64_t life, uint64_t sequence, uint64_t than_life, uint64_t than_sequence) {
    return life > than_life || (life == than_life && sequence > than_sequence);
}

// Segments in the order they were begun, the oldest first; returns how many there are.
static uint32_t order_segments(struct store *store, uint32_t order[STORE_SEGMENTS_MAX]) {
    struct wal_batch_header header, begun[STORE_SEGMENTS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < store->options.segment_count; i++) {
        if (!read_header(store, i, 0, &header)) continue;
        uint32_t at = count++;
        for (; at > 0 &&
               later(begun[at - 1].life, begun[at - 1].sequence, header.life, header.sequence);
             at--) {
            begun[at] = begun[at - 1];
            order[at] = order[at - 1];
        }
        begun[at] = header;
        order[at] = i;
    }
    return count;
}

struct chain {
    uint32_t segment; // where it starts
    uint64_t life;    // of its last batch
    uint64_t last;    // sequence of its last batch, 0: there is none
    bool whole;       // it begins no later than right behind the snapshot
};

// *passed: bit i is set for each segment whose first batch lies on the chain.
static struct chain follow(struct store *store, uint32_t segment, uint32_t *passed) {
    struct wal_batch_header header;
    struct place place = {.segment = segment};
    struct chain chain = {.segment = segment};
    uint64_t covered = store->snapshot.header.index;
    if (!read_batch(store, segment, 0, &header)) return chain;
    uint64_t hash, reached = 0;
    do {
        if (place.offset == 0) *passed |= 1u << place.segment;
        if (header.flags & WAL_RESET) {
            // Nothing before it counts: either that snapshot is here, or one as new.
            chain.whole = header.first_index <= covered;
        } else if (header.first_index > (reached > covered ? reached : covered) + 1) {
            chain.whole = false; // it went on behind a snapshot that is not here any more
        } else if (place.offset == 0 && !chain.whole && header.first_index <= covered + 1) {
            chain.segment = place.segment; // all that is needed begins here
            chain.whole = true;
        }
        reached = header.first_index + header.entries - !(header.flags & WAL_RESET);
        chain.life = header.life;
        chain.last = header.sequence;
        hash = XXH3_64bits(store->scan, sizeof header + header.bytes);
        place.offset += padded_bytes(&header);
    } while (next_in_chain(store, &place, chain.last + 1, hash, &header));
    return chain;
}

// The newest chain that begins no later than the snapshot ends. Newest, not longest: what was cut
// off in an earlier life may still lie there, longer than all that was written since.
//
// The oldest segment may be one that was being written over when the node stopped: then its chain
// is short, and the one that begins in the segment after it is the right one. In the same way a
// batch that was lost at the end of a segment may have its successor at the start of the next.
static struct chain find_chain(struct store *store) {
    uint32_t order[STORE_SEGMENTS_MAX];
    uint32_t count = order_segments(store, order);
    struct chain best = {0};
    uint32_t passed = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (passed & (1u << order[i])) continue; // a part of one that was followed already
        struct chain chain = follow(store, order[i], &passed);
        if (chain.whole && later(chain.life, chain.last, best.life, best.last)) best = chain;
    }
    return best;
}

// A batch that power cut short can be read, whatever it holds. One that cannot, where the next
// batch would lie, may have been durable.
static bool unreadable(struct store *store, uint32_t segment, uint64_t offset) {
    struct wal_batch_header header;
    if (offset + STORE_BLOCK > store->options.segment_bytes) return false;
    if (!fetch(store, segment, offset, STORE_BLOCK)) return true;
    if (!read_header(store, segment, offset, &header) || header.sequence != store->wal.sequence ||
        header.previous_hash != store->wal.last_hash)
        return false;
    uint32_t bytes = padded_bytes(&header);
    return offset + bytes <= store->options.segment_bytes && !fetch(store, segment, offset, bytes);
}

static bool end_unreadable(struct store *store) {
    const struct wal *wal = &store->wal;
    uint64_t left = store->options.segment_bytes - wal->offset;
    if (unreadable(store, wal->current, wal->offset)) return true;
    // The largest batch would still have fitted: so the next one is not in the next segment.
    if (left >= STORE_RESERVE_BYTES + STORE_BATCH_BYTES) return false;
    return unreadable(store, (wal->current + 1) % store->options.segment_count, 0);
}

// Looks through everything for a batch that proves batch `sequence` to have been durable in this
// life or a later one, and for the highest life ever. The records of a sound batch are passed over:
// a client's value in them may look like anything.
static bool search_evidence(struct store *store, uint64_t sequence, uint64_t life,
                            uint64_t *highest_life) {
    struct wal_batch_header header;
    bool found = false;
    for (uint32_t i = 0; i < store->options.segment_count; i++) {
        uint32_t bytes;
        for (uint64_t offset = 0; offset < store->options.segment_bytes; offset += bytes) {
            bytes = STORE_BLOCK;
            if (!read_header(store, i, offset, &header)) continue;
            if (header.life > *highest_life) *highest_life = header.life;
            if (header.life >= life && header.durable >= sequence) found = true;
            if (read_batch(store, i, offset, &header)) bytes = padded_bytes(&header);
        }
    }
    return found;
}

static void note_batch(struct store *store, const struct place *place,
                       const struct wal_batch_header *header, struct store_recovered *recovered) {
    struct wal *wal = &store->wal;
    struct wal_segment *segment = &wal->segments[place->segment];
    if (place->offset == 0) *segment = (struct wal_segment){.first_sequence = header->sequence};
    if (header->flags & WAL_RESET) {
        wal->replay_from = header->sequence + 1;
        recovered->entries = 0;
        for (uint32_t i = 0; i < store->options.segment_count; i++) wal->segments[i].max_index = 0;
    } else {
        recovered->entries += header->entries;
        uint64_t last = header->first_index + header->entries - 1;
        if (last > segment->max_index) segment->max_index = last;
    }
}

int wal_recover(struct store *store, struct store_recovered *recovered, char *error) {
    struct wal *wal = &store->wal;
    struct wal_batch_header header;
    struct place place = {0};
    uint64_t chain_life = 0, highest_life = 0;
    struct chain chain = find_chain(store);
    (void)error;
    wal->start = place.segment = chain.segment;
    if (chain.last > 0 && read_batch(store, place.segment, 0, &header)) {
        wal->replay_from = header.sequence;
        do {
            note_batch(store, &place, &header, recovered);
            wal->current = place.segment;
            wal->offset = place.offset + padded_bytes(&header);
            wal->sequence = header.sequence + 1;
            wal->last_hash = XXH3_64bits(store->scan, sizeof header + header.bytes);
            chain_life = header.life;
            place.offset = wal->offset;
        } while (next_in_chain(store, &place, wal->sequence, wal->last_hash, &header));
    }
    wal->durable = wal->sequence - 1;
    wal->replay_to = wal->durable;
    bool missing = end_unreadable(store);
    if (search_evidence(store, wal->sequence, chain_life, &highest_life) || missing) {
        recovered->damaged = true;
    } else if (read_header(store, wal->current, wal->offset, &header) &&
               header.life >= chain_life && header.sequence >= wal->sequence) {
        recovered->torn_bytes = padded_bytes(&header);
        STORE_COUNT(store, TORN_TAILS, 1);
    }
    if (recovered->damaged) STORE_COUNT(store, DAMAGED, 1);
    wal->life = highest_life + 1;
    return 0;
}

int wal_replay(struct store *store, store_entry_fn fn, void *context) {
    struct wal *wal = &store->wal;
    struct wal_batch_header header;
    struct place place = {0};
    uint64_t hash = 0;
    place.segment = wal->start;
    if (wal->replay_to == 0) return 0;
    if (!read_batch(store, place.segment, 0, &header)) return -EIO;
    for (;;) {
        if (header.sequence >= wal->replay_from) {
            uint64_t index = header.first_index;
            uint32_t at = sizeof header;
            for (uint32_t i = 0; i < header.entries; i++, index++) {
                const struct wal_record *record = (const struct wal_record *)(store->scan + at);
                struct raft_entry entry = {.term = record->term,
                                           .time_ns = record->time_ns,
                                           .data = record + 1,
                                           .length = record->length,
                                           .type = record->type};
                if (!fn(context, index, &entry)) return 0;
                at += (uint32_t)sizeof *record + ((record->length + 7u) & ~7u);
            }
        }
        if (header.sequence == wal->replay_to) return 0;
        hash = XXH3_64bits(store->scan, sizeof header + header.bytes);
        place.offset += padded_bytes(&header);
        if (!next_in_chain(store, &place, header.sequence + 1, hash, &header)) return -EIO;
    }
}
