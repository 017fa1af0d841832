// Term and vote: two copies in blocks of their own, written in turn, so that one is always whole.
// The valid one with the higher sequence counts.
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
        if (blank[0] && blank[1]) return 0; // never written
        // One blank and one damaged: the very first write was torn; nothing was said before it.
        if (blank[0] != blank[1]) return 0;
        snprintf(error, STORE_ERROR_BYTES,
                 "both copies of hard-state are damaged: this node cannot know whom it voted for. "
                 "Remove its data directory, and let it rejoin while the others run");
        return -EBADMSG;
    }
    const struct hard_state_block *best = &blocks[0];
    if (!valid[0] || (valid[1] && blocks[1].sequence > blocks[0].sequence)) best = &blocks[1];
    if (!is_ours(store, best, error)) return -EINVAL;
    store->hard_sequence = best->sequence;
    recovered->existed = true;
    recovered->term = best->term;
    recovered->vote = best->vote;
    return 0;
}

bool hard_state_write(struct store *store, struct store_request *request) {
    if (store->hard_request != NULL) return false;
    struct hard_state_block *block = (struct hard_state_block *)store->hard_block;
    uint64_t sequence = store->hard_sequence + 1;
    memset(store->hard_block, 0, STORE_BLOCK);
    *block = (struct hard_state_block){
        .magic = HARD_STATE_MAGIC,
        .version = WAL_VERSION,
        .node = store->options.node,
        .cluster = store->options.cluster,
        .group = store->options.group,
        .sequence = sequence,
        .term = request->hard_state.term,
        .vote = request->hard_state.vote,
    };
    block->crc = store_crc(block, sizeof *block);
    if (!store->disk->ops->submit_write(store->disk, STORE_FILE_HARD, (sequence % 2) * STORE_BLOCK,
                                        store->hard_block, STORE_BLOCK, COOKIE(COOKIE_HARD, 0)))
        return false;
    store->hard_sequence = sequence;
    store->hard_request = request;
    STORE_COUNT(store, HARD_STATES, 1);
    return true;
}

void hard_state_landed(struct store *store, int32_t result) {
    struct store_request *request = store->hard_request;
    store->hard_request = NULL;
    if (result != (int32_t)STORE_BLOCK) store_failed(store);
    store_finish(store, request, result == (int32_t)STORE_BLOCK ? 0 : result < 0 ? result : -EIO);
}
