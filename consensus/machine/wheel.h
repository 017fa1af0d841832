// A hierarchical timing wheel (Varghese and Lauck, SOSP'87): what is due when, at O(1) to file,
// to move and to take out.
//
// Time is cut into ticks of 2^16 ns. Level n has 256 slots of 256^n ticks each; an item lies on the
// level of the highest byte in which its tick differs from the wheel's own, so each item moves down
// at most once a level, when the wheel enters its slot. Six levels cover all of 64-bit time.
//
// A slot may hold a million items that were filed together. Moving them down is work that is spread
// over as many calls as it takes (`budget`); until it is done that slot comes before all else.
//
// Invariant, but for the slot being moved down: on level 0 occupied slots are at or after the
// wheel's tick, on higher levels after it. So the lowest occupied slot of the lowest occupied level
// is what comes next.
#ifndef CONCLAVE_MACHINE_WHEEL_H
#define CONCLAVE_MACHINE_WHEEL_H

#include <stddef.h>
#include <stdint.h>

#define WHEEL_TICK_SHIFT 16u // 65.5 us: far below the shortest TTL of 10 ms
#define WHEEL_LEVELS     6u
#define WHEEL_SLOTS      256u

struct wheel_link {
    uint64_t when_ns; // 0: not filed
    uint32_t prev, next;
    uint16_t level, digit; // where it is filed
    uint32_t reserved;
};

struct wheel {
    uint64_t tick;            // everything before it has been taken out
    struct wheel_link *links; // by item, 1 to capacity
    uint32_t capacity;
    uint32_t moving_level; // of the slot being moved down, 0: none
    uint32_t moving_digit;
    uint64_t occupied[WHEEL_LEVELS][WHEEL_SLOTS / 64];
    uint32_t heads[WHEEL_LEVELS][WHEEL_SLOTS];
};

size_t wheel_bytes(uint32_t capacity); // of the links
void wheel_create(struct wheel *wheel, uint32_t capacity, uint8_t **memory);
void wheel_clear(struct wheel *wheel, uint64_t now_ns);

// Files item, or moves it. when_ns may lie in the past: then it is next.
void wheel_put(struct wheel *wheel, uint32_t item, uint64_t when_ns);
void wheel_remove(struct wheel *wheel, uint32_t item); // if it is filed
// Takes out and returns an item with when_ns <= now_ns; 0: none is due, or the budget ran out
// before that is known. *budget goes down by one for each item moved or looked at.
uint32_t wheel_pop(struct wheel *wheel, uint64_t now_ns, uint32_t *budget);
// A lower bound on the earliest when_ns, 0 while there is work left over; UINT64_MAX if empty.
uint64_t wheel_next(const struct wheel *wheel);

#endif
