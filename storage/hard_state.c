// Term and vote, in two copies in blocks of their own, written one after the other: so one is whole
// whenever power goes, and what was acknowledged is in both and outlives the rot of either. The
// valid one with the higher sequence counts; at start the other is made equal to it, so that what
// was once read from one copy cannot be forgotten with it.
//
// A directory's first hard state, with sequence 1 and no term, is written when it is first used:
// a log whose hard-state has gone is told from a log whose first entry was durable before the first
// term.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store_internal.h"

static bool read_copy(struct store *store, uint32_t copy, struct hard_state_block *block,
                      bool *blank) {
    int32_t got = store->disk->ops->read(store->disk, STORE_FILE_HARD, (uint64_t)copy * STORE_BLOCK,
                                         store->hard_block, STORE_BLOCK);
    *blank = got == (int32_t)STORE_BLOCK;
    for (uint32_t i = 0; i < STORE_BLOCK && *blank; i++) *blank = store->hard_block[i] == 0;
    if (got != (int32_t)STORE_BLOCK) return false;
    memcpy(block, store->hard_block, sizeof *block);
    struct hard_state_block plain = *block;
    plain.crc = 0;
    return block->magic == HARD_STATE_MAGIC && block->crc == store_crc(&plain, sizeof plain) &&
           block->version == WAL_VERSION;
}

static bool is_ours(const struct store *store, const struct hard_state_block *block, char *error) {
    if (block->cluster == store->options.cluster && block->node == store->options.node &&
        block->group == store->options.group)
        return true;
    snprintf(error, STORE_ERROR_BYTES,
             "the data directory belongs to node %u of cluster 0x%llx, not to node %u of cluster "
             "0x%llx: check data_dir and id, or use an empty directory",
             block->node, (unsigned long long)block->cluster, store->options.node,
             (unsigned long long)store->options.cluster);
    return false;
}

static void fill_block(struct store *store, uint64_t sequence, uint64_t term, uint16_t vote,
                       uint16_t flags) {
    struct hard_state_block *block = (struct hard_state_block *)store->hard_block;
    memset(store->hard_block, 0, STORE_BLOCK);
    *block = (struct hard_state_block){
        .magic = HARD_STATE_MAGIC,
        .version = WAL_VERSION,
        .node = store->options.node,
        .cluster = store->options.cluster,
        .group = store->options.group,
        .sequence = sequence,
        .term = term,
        .vote = vote,
        .flags = flags,
    };
    block->crc = store_crc(block, sizeof *block);
    store->hard_sequence = sequence;
}

// The copy to be written first is the one that was written last but one.
static uint64_t copy_offset(const struct store *store, uint32_t copies) {
    return (store->hard_sequence + copies) % 2 * STORE_BLOCK;
}

// Blocking: both copies of what is in the block.
static int put_both(struct store *store, char *error) {
    for (uint32_t i = 0; i < 2; i++) {
        int32_t put = store->disk->ops->write(store->disk, STORE_FILE_HARD, copy_offset(store, i),
                                              store->hard_block, STORE_BLOCK);
        if (put == (int32_t)STORE_BLOCK) continue;
        snprintf(error, STORE_ERROR_BYTES, "cannot write hard-state: %s: check the disk",
                 strerror(put < 0 ? -put : EIO));
        return put < 0 ? put : -EIO;
    }
    return 0;
}

int hard_state_open(struct store *store, struct store_recovered *recovered, char *error) {
    bool created;
    int result = store->disk->ops->open(store->disk, STORE_FILE_HARD, "hard-state",
                                        2ull * STORE_BLOCK, &created);
    if (result < 0) {
        snprintf(error, STORE_ERROR_BYTES, "cannot create hard-state: %s: check space and rights",
                 strerror(-result));
        return result;
    }
    struct hard_state_block blocks[2];
    bool blank[2], valid[2];
    for (uint32_t i = 0; i < 2; i++) valid[i] = read_copy(store, i, &blocks[i], &blank[i]);
    if (!valid[0] && !valid[1]) {
        // Blank but for, perhaps, the torn beginning of the first write: nothing was said before.
        store->hard_blank = blank[0] || blank[1];
        if (store->hard_blank) return 0;
        snprintf(error, STORE_ERROR_BYTES,
                 "both copies of hard-state are damaged: this node cannot know whom it voted for. "
                 "Remove its data directory, and let it rejoin while the others run");
        return -EBADMSG;
    }
    const struct hard_state_block *best = &blocks[0];
    if (!valid[0] || (valid[1] && blocks[1].sequence > blocks[0].sequence)) best = &blocks[1];
    if (!is_ours(store, best, error)) return -EINVAL;
    store->hard_flags = best->flags;
    recovered->existed = best->sequence > 1;
    recovered->term = best->term;
    recovered->vote = best->vote;
    // What was acknowledged in memory is not in the log that is trusted from now on.
    bool lost = (best->flags & HARD_STATE_MEMORY) && !store->options.memory;
    recovered->damaged = lost || (best->flags & HARD_STATE_RECOVERING);
    fill_block(store, best->sequence, best->term, best->vote, best->flags);
    bool equal = valid[0] && valid[1] && blocks[0].sequence == blocks[1].sequence;
    return equal ? 0 : put_both(store, error);
}

int hard_state_settle(struct store *store, const struct store_recovered *recovered, char *error) {
    if (store->hard_blank) {
        if (recovered->entries > 0 || recovered->snapshot_index > 0 || recovered->damaged) {
            snprintf(error, STORE_ERROR_BYTES,
                     "there is a log but no hard-state: the directory is not whole. Remove it, and "
                     "let this node rejoin while the others run");
            return -EBADMSG;
        }
        fill_block(store, 1, 0, 0, 0);
        return put_both(store, error);
    }
    // Before anything is written over the damage: it must be known until a leader has said that all
    // is here again, however often the node stops before.
    if (!recovered->damaged || (store->hard_flags & HARD_STATE_RECOVERING)) return 0;
    fill_block(store, store->hard_sequence + 1, recovered->term, recovered->vote,
               store->hard_flags | HARD_STATE_RECOVERING);
    return put_both(store, error);
}

bool hard_state_write(struct store *store, struct store_request *request) {
    if (store->hard_request != NULL) return false;
    uint16_t flags = (uint16_t)((request->hard_state.recovering ? HARD_STATE_RECOVERING : 0) |
                                (store->options.memory ? HARD_STATE_MEMORY : 0));
    fill_block(store, store->hard_sequence + 1, request->hard_state.term, request->hard_state.vote,
               flags);
    store->hard_request = request;
    store->hard_copies = 0;
    hard_state_move(store);
    STORE_COUNT(store, HARD_STATES, 1);
    return true;
}

void hard_state_move(struct store *store) {
    if (store->hard_request == NULL || store->hard_moving) return;
    store->hard_moving = store->disk->ops->submit_write(
        store->disk, STORE_FILE_HARD, copy_offset(store, store->hard_copies), store->hard_block,
        STORE_BLOCK, COOKIE(COOKIE_HARD, 0));
}

void hard_state_landed(struct store *store, int32_t result) {
    struct store_request *request = store->hard_request;
    store->hard_moving = false;
    if (result == (int32_t)STORE_BLOCK && ++store->hard_copies < 2) {
        hard_state_move(store);
        return;
    }
    store->hard_request = NULL;
    if (result != (int32_t)STORE_BLOCK) store_failed(store);
    store_finish(store, request, result == (int32_t)STORE_BLOCK ? 0 : result < 0 ? result : -EIO);
}
