// What the tests around one_node.h begin with.
#ifndef CONCLAVE_TEST_ONE_FIXTURE_H
#define CONCLAVE_TEST_ONE_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "disk_memory.h"
#include "one_node.h"

#define THREE(name) cmocka_unit_test_setup_teardown(name, open_three, close_node)
#define FIVE(name)  cmocka_unit_test_setup_teardown(name, open_five, close_node)

static uint64_t term;

static inline int open_three(void **state) {
    (void)state;
    one_open(3);
    return 0;
}
static inline int open_five(void **state) {
    (void)state;
    one_open(5);
    return 0;
}
static inline int close_node(void **state) {
    (void)state;
    one_close();
    return 0;
}

static inline const struct raft *raft(void) {
    return node_raft(one_node());
}

static inline const struct wire_reply *answer(void) {
    return one_newest(ONE_CLIENT, WIRE_REPLY);
}

// As a client, to a leader with a majority that acknowledges. Returns the answer's token.
static inline uint64_t do_request(const struct wire_request *request, const char *name) {
    one_forget();
    one_request(request, name);
    one_run(3);
    one_ack_all(term);
    one_run(3);
    assert_non_null(answer());
    return answer()->token;
}

static inline uint64_t open_session(uint64_t nonce) {
    return do_request(
        &(struct wire_request){.op = WIRE_OP_SESSION_OPEN, .sequence = 1, .token = nonce}, NULL);
}

#endif
