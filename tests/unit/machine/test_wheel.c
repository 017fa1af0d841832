// The timing wheel against a plain list: random times near and far, moves, removals, jumps of the
// clock forwards and back, and budgets that run out.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/wheel.h"

#define ITEMS 300u

static struct wheel wheel;
static void *memory;
static uint64_t when[ITEMS + 1]; // 0: not filed
static uint64_t state_of_chance;

static uint64_t draw(uint64_t below) {
    state_of_chance = state_of_chance * 6364136223846793005ull + 1442695040888963407ull;
    return (state_of_chance >> 20) % below;
}

static int setup(void **state) {
    (void)state;
    memory = calloc(1, wheel_bytes(ITEMS));
    uint8_t *at = memory;
    wheel_create(&wheel, ITEMS, &at);
    assert_true(at == (uint8_t *)memory + wheel_bytes(ITEMS));
    memset(when, 0, sizeof when);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    free(memory);
    return 0;
}

static uint64_t earliest(void) {
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 1; i <= ITEMS; i++)
        if (when[i] != 0 && when[i] < least) least = when[i];
    return least;
}

static void put(uint32_t item, uint64_t when_ns) {
    wheel_put(&wheel, item, when_ns);
    when[item] = when_ns;
}

// Everything due comes out, nothing else does, and next is never later than what is next.
static void pop_all(uint64_t now_ns, uint32_t each) {
    assert_true(wheel_next(&wheel) <= earliest());
    for (uint32_t calls = 0;; calls++) {
        uint32_t budget = each;
        uint32_t item = wheel_pop(&wheel, now_ns, &budget);
        assert_true(budget <= each);
        assert_true(calls < 100000);
        if (item != 0) {
            assert_true(when[item] != 0 && when[item] <= now_ns);
            when[item] = 0;
        } else if (budget > 0) {
            break;
        }
        assert_true(wheel_next(&wheel) <= earliest());
    }
    assert_true(earliest() > now_ns);
}

static uint64_t some_time(uint64_t now_ns) {
    switch (draw(6)) {
    case 0:
        return now_ns + draw(1000);
    case 1:
        return now_ns + draw(1u << 20);
    case 2:
        return now_ns + draw(1ull << 30);
    case 3:
        return now_ns + draw(1ull << 46); // 19 hours
    case 4:
        return now_ns > 1000000 ? now_ns - draw(1000000) : 1;
    default:
        return (now_ns | 0xffffffffull) + draw(3); // where digits carry over
    }
}

static void random_times(void **state) {
    (void)state;
    static const uint32_t budgets[] = {ITEMS + 1, ITEMS + 7, 2 * ITEMS, 100000};
    for (uint64_t seed = 1; seed <= 40; seed++) {
        setup(NULL);
        state_of_chance = seed;
        uint64_t now_ns = draw(1ull << 40) + 1;
        for (uint32_t step = 0; step < 3000; step++) {
            uint32_t item = 1 + (uint32_t)draw(ITEMS);
            switch (draw(8)) {
            case 0:
                wheel_remove(&wheel, item);
                when[item] = 0;
                break;
            case 1:
                now_ns += draw(4) == 0 ? draw(1ull << 44) : draw(1u << 22);
                pop_all(now_ns, budgets[draw(4)]);
                break;
            case 2: { // some only, then everything else goes on meanwhile
                uint32_t budget = (uint32_t)draw(4);
                uint32_t out = wheel_pop(&wheel, now_ns, &budget);
                if (out != 0) assert_true(when[out] != 0 && when[out] <= now_ns);
                if (out != 0) when[out] = 0;
                break;
            }
            case 3: // a leader that was deposed was ahead: time may be earlier than before
                pop_all(now_ns - draw(now_ns < 1000000 ? now_ns : 1000000), ITEMS + 1);
                break;
            default:
                put(item, some_time(now_ns));
            }
        }
        pop_all(UINT64_MAX - 1, 100000);
        assert_true(wheel_next(&wheel) == UINT64_MAX);
        teardown(NULL);
    }
}

// A clock far ahead, reached in one step: items of every level come out, each at most six moves.
static void every_level(void **state) {
    (void)state;
    uint32_t item = 1;
    for (uint32_t bit = 0; bit < 63; bit++) put(item++, 1ull << bit);
    uint32_t budget = 63 * 8, out = 0;
    while (wheel_pop(&wheel, UINT64_MAX / 2 + 1, &budget) != 0) out++;
    assert_int_equal(out, 63);
    assert_true(budget > 0);
}

// Work per call is bounded by the budget, however many lie in one slot; and it gets done.
static void budget_bounds_the_work(void **state) {
    (void)state;
    for (uint32_t i = 1; i <= ITEMS; i++) put(i, (1ull << 40) + i);
    uint32_t calls = 0, budget;
    do {
        budget = 10;
        assert_int_equal(wheel_pop(&wheel, 1ull << 40, &budget), 0); // all are due a little later
        assert_true(wheel_next(&wheel) <= (1ull << 40) + 1);
    } while (wheel.moving_level != 0 && ++calls < 1000);
    assert_in_range(calls, ITEMS / 10 - 1, ITEMS);
    for (uint32_t i = 1; i <= ITEMS; i++) {
        budget = 10;
        assert_true(wheel_pop(&wheel, 1ull << 41, &budget) != 0);
    }
    assert_true(wheel_next(&wheel) == UINT64_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_times), // a wheel for each seed
        cmocka_unit_test_setup_teardown(every_level, setup, teardown),
        cmocka_unit_test_setup_teardown(budget_bounds_the_work, setup, teardown),
    };
    return cmocka_run_group_tests_name("wheel", tests, NULL, NULL);
}
