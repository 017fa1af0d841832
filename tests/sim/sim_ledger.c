// Damage without a trace. Two losses cannot be seen by any reader of one disk, because what is left
// looks exactly like a disk on which power failed before the write was acknowledged:
//
//   - the newest batch of the log, as long as no later batch says that it had been durable;
//   - a hard state of which neither copy is there any more, but an older one is.
//
// (A mark written after each write would tell, at the price of a second write; and a disk that
// loses several writes in a row loses the marks as well.) The ledger knows when a disk is in that
// state; the life then keeps its machine from stopping, until a later batch has left evidence.
#include "sim_ledger.h"

#include <stdlib.h>
#include <string.h>

static bool later(struct ledger_batch a, struct ledger_batch b) {
    return a.life > b.life || (a.life == b.life && a.sequence > b.sequence);
}

// Number of the segment, or -1 for a file whose blocks are not kept book of.
static int segment_of(const char *file) {
    int segment = strncmp(file, "wal-", 4) == 0 ? atoi(file + 4) : -1;
    return segment < (int)LEDGER_SEGMENTS ? segment : -1;
}

static const struct wal_batch_header *batch_in(const void *content) {
    const struct wal_batch_header *header = content;
    return header->magic == WAL_MAGIC ? header : NULL;
}

static const struct hard_state_block *hard_in(const void *content) {
    const struct hard_state_block *block = content;
    return block->magic == HARD_STATE_MAGIC ? block : NULL;
}

void ledger_landed(struct sim_ledger *ledger, const char *file, uint64_t offset,
                   const void *content, uint32_t bytes) {
    int segment = segment_of(file);
    if (strcmp(file, "hard-state") == 0 && offset < 2ull * STORE_BLOCK) {
        const struct hard_state_block *block = hard_in(content);
        ledger->hard_copy[offset / STORE_BLOCK] = block != NULL ? block->sequence : 0;
    }
    const struct wal_batch_header *header = batch_in(content);
    if (segment < 0 || header == NULL) return;
    struct ledger_batch batch = {header->life, header->sequence};
    for (uint64_t at = offset; at < offset + bytes && at / STORE_BLOCK < LEDGER_BLOCKS;
         at += STORE_BLOCK) {
        ledger->owner[segment][at / STORE_BLOCK] = batch;
        ledger->proof[segment][at / STORE_BLOCK] = (struct ledger_batch){0};
    }
    if (offset / STORE_BLOCK < LEDGER_BLOCKS)
        ledger->proof[segment][offset / STORE_BLOCK] =
            (struct ledger_batch){header->life, header->durable};
}

// Newest batch that one which is still there proves to have been durable.
static struct ledger_batch evidence(const struct sim_ledger *ledger) {
    struct ledger_batch newest = {0};
    for (uint32_t s = 0; s < LEDGER_SEGMENTS; s++)
        for (uint32_t b = 0; b < LEDGER_BLOCKS; b++)
            if (later(ledger->proof[s][b], newest)) newest = ledger->proof[s][b];
    return newest;
}

void ledger_unreadable(struct sim_ledger *ledger, const char *file, uint64_t offset) {
    int segment = segment_of(file);
    uint64_t block = offset / STORE_BLOCK;
    if (segment >= 0 && block < LEDGER_BLOCKS)
        ledger->proof[segment][block] = (struct ledger_batch){0};
}

void ledger_reported(struct sim_ledger *ledger, const char *file, const void *content) {
    const struct hard_state_block *block = hard_in(content);
    if (strcmp(file, "hard-state") != 0 || block == NULL) return;
    ledger->hard_copies = block->sequence == ledger->hard_written ? ledger->hard_copies + 1 : 1;
    ledger->hard_written = block->sequence;
    if (ledger->hard_copies == 2) ledger->hard_durable = block->sequence;
}

static void note_damaged(struct sim_ledger *ledger, struct ledger_batch batch) {
    if (later(batch, ledger->damaged)) ledger->damaged = batch;
}

void ledger_missing(struct sim_ledger *ledger, const char *file, const void *content) {
    const struct wal_batch_header *header = batch_in(content);
    if (segment_of(file) < 0 || header == NULL) return;
    note_damaged(ledger, (struct ledger_batch){header->life, header->sequence});
}

void ledger_damaged(struct sim_ledger *ledger, const char *file, uint64_t offset, uint32_t bytes) {
    int segment = segment_of(file);
    for (uint64_t at = offset & ~(uint64_t)(STORE_BLOCK - 1); at < offset + bytes;
         at += STORE_BLOCK) {
        uint64_t block = at / STORE_BLOCK;
        if (segment >= 0 && block < LEDGER_BLOCKS) {
            note_damaged(ledger, ledger->owner[segment][block]);
            ledger->proof[segment][block] = (struct ledger_batch){0};
        }
        if (strcmp(file, "hard-state") == 0 && block < 2) ledger->hard_copy[block] = 0;
    }
}

bool ledger_newest(const struct sim_ledger *ledger, bool proved, uint32_t *segment,
                   uint64_t *offset) {
    struct ledger_batch newest = {0}, known = evidence(ledger);
    for (uint32_t s = 0; s < LEDGER_SEGMENTS; s++)
        for (uint32_t b = 0; b < LEDGER_BLOCKS; b++) {
            struct ledger_batch batch = ledger->owner[s][b];
            if (!later(batch, newest) || (proved && later(batch, known))) continue;
            newest = batch;
            *segment = s;
            *offset = (uint64_t)b * STORE_BLOCK;
        }
    return newest.life > 0;
}

bool ledger_blind(const struct sim_ledger *ledger) {
    uint64_t a = ledger->hard_copy[0], b = ledger->hard_copy[1];
    uint64_t best = a > b ? a : b;
    if (best > 0 && best < ledger->hard_durable) return true;
    return ledger->damaged.life > 0 && later(ledger->damaged, evidence(ledger));
}
