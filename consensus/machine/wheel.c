// See wheel.h.
#include "machine/wheel.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "machine/carve.h"

#define DIGIT_BITS 8u

size_t wheel_bytes(uint32_t capacity) {
    return carve_bytes(((size_t)capacity + 1) * sizeof(struct wheel_link));
}

void wheel_create(struct wheel *wheel, uint32_t capacity, uint8_t **memory) {
    memset(wheel, 0, sizeof *wheel);
    wheel->capacity = capacity;
    wheel->links = carve(memory, wheel_bytes(capacity));
}

void wheel_clear(struct wheel *wheel, uint64_t now_ns) {
    struct wheel_link *links = wheel->links;
    uint32_t capacity = wheel->capacity;
    for (uint32_t level = 0; level < WHEEL_LEVELS; level++)
        for (uint32_t digit = 0; digit < WHEEL_SLOTS; digit++)
            for (uint32_t item = wheel->heads[level][digit]; item != 0; item = links[item].next)
                links[item].when_ns = 0;
    memset(wheel, 0, sizeof *wheel);
    wheel->links = links;
    wheel->capacity = capacity;
    wheel->tick = now_ns >> WHEEL_TICK_SHIFT;
}

// Where an item of this time lies, by the invariant. What is overdue lies in the wheel's own slot,
// which the wheel does not leave before it is empty.
static void locate(const struct wheel *wheel, uint64_t when_ns, uint32_t *level, uint32_t *digit) {
    uint64_t tick = when_ns >> WHEEL_TICK_SHIFT;
    if (tick < wheel->tick) tick = wheel->tick;
    uint64_t differs = tick ^ wheel->tick;
    *level = differs == 0 ? 0 : (63u - (uint32_t)__builtin_clzll(differs)) / DIGIT_BITS;
    *digit = (uint32_t)(tick >> (*level * DIGIT_BITS)) & (WHEEL_SLOTS - 1);
}

static void file(struct wheel *wheel, uint32_t item) {
    uint32_t level, digit;
    struct wheel_link *link = &wheel->links[item];
    locate(wheel, link->when_ns, &level, &digit);
    uint32_t *head = &wheel->heads[level][digit];
    link->level = (uint16_t)level;
    link->digit = (uint16_t)digit;
    link->prev = 0;
    link->next = *head;
    if (*head != 0) wheel->links[*head].prev = item;
    *head = item;
    wheel->occupied[level][digit / 64] |= 1ull << (digit % 64);
}

// Out of its slot, wherever that is; when_ns stays.
static void take_out(struct wheel *wheel, uint32_t item) {
    const struct wheel_link *link = &wheel->links[item];
    uint32_t level = link->level, digit = link->digit;
    if (link->prev != 0)
        wheel->links[link->prev].next = link->next;
    else
        wheel->heads[level][digit] = link->next;
    if (link->next != 0) wheel->links[link->next].prev = link->prev;
    if (wheel->heads[level][digit] == 0)
        wheel->occupied[level][digit / 64] &= ~(1ull << (digit % 64));
}

static void unfile(struct wheel *wheel, uint32_t item) {
    take_out(wheel, item);
    wheel->links[item].when_ns = 0;
}

void wheel_put(struct wheel *wheel, uint32_t item, uint64_t when_ns) {
    assert(item > 0 && item <= wheel->capacity);
    wheel_remove(wheel, item);
    wheel->links[item].when_ns = when_ns != 0 ? when_ns : 1;
    file(wheel, item);
}

void wheel_remove(struct wheel *wheel, uint32_t item) {
    if (wheel->links[item].when_ns != 0) unfile(wheel, item);
}

// The lowest occupied slot of the lowest occupied level, and the tick at which it begins.
static bool next_slot(const struct wheel *wheel, uint32_t *level, uint32_t *digit, uint64_t *tick) {
    for (*level = 0; *level < WHEEL_LEVELS; (*level)++) {
        for (uint32_t word = 0; word < WHEEL_SLOTS / 64; word++) {
            uint64_t bits = wheel->occupied[*level][word];
            if (bits == 0) continue;
            *digit = word * 64 + (uint32_t)__builtin_ctzll(bits);
            uint32_t shift = *level * DIGIT_BITS;
            uint64_t above = wheel->tick >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
            *tick = above | (uint64_t)*digit << shift;
            return true;
        }
    }
    return false;
}

// Moves the items of the slot that the wheel has entered down. False: the budget ran out.
static bool move_down(struct wheel *wheel, uint32_t *budget) {
    uint32_t level = wheel->moving_level, item;
    if (level == 0) return true;
    while ((item = wheel->heads[level][wheel->moving_digit]) != 0) {
        if (*budget == 0) return false;
        --*budget;
        take_out(wheel, item);
        file(wheel, item);
    }
    wheel->moving_level = 0;
    return true;
}

uint32_t wheel_pop(struct wheel *wheel, uint64_t now_ns, uint32_t *budget) {
    uint32_t level, digit;
    uint64_t tick, now_tick = now_ns >> WHEEL_TICK_SHIFT;
    while (move_down(wheel, budget) && next_slot(wheel, &level, &digit, &tick)) {
        if (tick > now_tick && tick != wheel->tick) return 0;
        wheel->tick = tick;
        if (level > 0) {
            wheel->moving_level = level;
            wheel->moving_digit = digit;
            continue;
        }
        for (uint32_t item = wheel->heads[0][digit]; item != 0; item = wheel->links[item].next) {
            if (*budget == 0) return 0;
            --*budget;
            if (wheel->links[item].when_ns > now_ns) continue;
            unfile(wheel, item);
            return item;
        }
        return 0; // the slot of this very tick holds only what is due later in it
    }
    return 0;
}

uint64_t wheel_next(const struct wheel *wheel) {
    uint32_t level, digit;
    uint64_t tick;
    if (wheel->moving_level != 0) return 0;
    if (!next_slot(wheel, &level, &digit, &tick)) return UINT64_MAX;
    // The wheel's own slot may hold what is overdue by any amount.
    return tick == wheel->tick ? 0 : tick << WHEEL_TICK_SHIFT;
}
