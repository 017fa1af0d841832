// The checkers: each a pure function over one history (history.h), with a sentence as its verdict.
// They share no code with what they judge, and as little as possible with each other.
//
//   check_witness.c  every answer, held against an independent model that replays the log
//   check_rules.c    what a lock promises, from what clients saw alone
//   check_once.c     nothing is executed twice, nothing out of nothing
//   check_linear.c   Wing and Gong's search for an order, one name at a time
#ifndef CONCLAVE_SIM_CHECK_H
#define CONCLAVE_SIM_CHECK_H

#include "history.h"

struct verdict {
    bool broken;
    uint64_t checked;   // operations judged
    uint64_t undecided; // operations not judged, for a limit or a gap in the history
    char text[400];     // the broken rule; empty if none is
};

// False, for convenience: `return refuse(...)`.
bool refuse(struct verdict *verdict, const char *format, ...) __attribute__((format(printf, 2, 3)));

void check_witness(const struct history *history, struct verdict *verdict);
void check_rules(const struct history *history, struct verdict *verdict);
void check_once(const struct history *history, struct verdict *verdict);
void check_linear(const struct history *history, struct verdict *verdict);

struct checker {
    const char *name;
    void (*check)(const struct history *history, struct verdict *verdict);
};
#define CHECKERS 4u
extern const struct checker checkers[CHECKERS];

#endif
