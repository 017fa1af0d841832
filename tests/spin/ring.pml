/* The rings between two stages, as they use rte_ring: one producer and one consumer each way.
 *
 * A lends requests from a stock of STOCK to B over one ring; B gives each back over another. Put
 * and take are those of rte_ring with RING_F_SP_ENQ, RING_F_SC_DEQ and RING_F_EXACT_SZ: slots are
 * written, then the producer's tail is; slots are read, then the consumer's tail is written.
 *
 * Memory is weaker than a PC's: a store waits in a buffer of the processor that made it, and reaches
 * the others in any order among different places, but that a tail is stored with release: not
 * before the slots it stands for.
 *
 * Holds: each request arrives once, whole and in order, both ways; the ring back is never full (the
 * assertion in ring_put()); neither side waits for ever (no invalid end state). Indices wrap around.
 * With -DSTREAM A has no stock and waits for room instead: then full and empty are put to the test.
 *
 * To be refuted: -DTAIL_FIRST        the producer's tail may be seen before the slots
 *                -DSMALL_RETURN      the ring back has less room than the stock
 *                -DSTREAM -DFULL_LATE          more is let in than there are slots
 *                -DSTREAM -DFREED_BEFORE_READ  the consumer's tail is seen before a burst is read
 * (-DFREED_BEFORE_READ alone holds: a stock that fits the ring never comes round to a slot in use.)
 */
#define STOCK 3
#define TOTAL 7  /* requests sent: each slot is used again, indices go round twice */
#define SIZE  4  /* slots; a power of two */
#define SPAN  16 /* of the indices, a multiple of SIZE: 2^32 in rte_ring */

#if defined(SMALL_RETURN)
#define ROOM(r) (r == 0 -> STOCK : STOCK - 1)
#elif defined(FULL_LATE)
#define ROOM(r) (SIZE + 1)
#else
#define ROOM(r) STOCK
#endif
#ifdef STREAM
#define STOCKED true
#else
#define STOCKED (stock > 0)
#endif

typedef ring_t {
    byte slot[SIZE];
    byte prod_tail;
    byte cons_tail;
    /* stores on their way */
    bool slot_waits[SIZE];
    byte slot_store[SIZE];
    bool tail_waits;
    byte tail_store;
};
ring_t rings[2]; /* 0: A to B, 1: back */

inline distance(from, to, result) { result = (to + SPAN - from) % SPAN }

/* Room for one more, as the producer sees it. */
inline room(r, head, free) {
    d_step {
        distance(rings[r].cons_tail, head, free);
        free = (free < ROOM(r) -> ROOM(r) - free : 0);
    }
}

inline put_slot(r, head, value) {
    d_step {
        assert(!rings[r].slot_waits[head % SIZE]); /* its former content was seen and taken */
        rings[r].slot_store[head % SIZE] = value;
        rings[r].slot_waits[head % SIZE] = true;
        head = (head + 1) % SPAN;
    }
}
inline publish(r, head) {
    d_step { rings[r].tail_store = head; rings[r].tail_waits = true; }
}

/* What the processor's buffer does by itself. */
proctype memory(byte r) {
    byte i, n;
end:
    do
    :: d_step { rings[r].slot_waits[0] -> rings[r].slot[0] = rings[r].slot_store[0]; rings[r].slot_waits[0] = false }
    :: d_step { rings[r].slot_waits[1] -> rings[r].slot[1] = rings[r].slot_store[1]; rings[r].slot_waits[1] = false }
    :: d_step { rings[r].slot_waits[2] -> rings[r].slot[2] = rings[r].slot_store[2]; rings[r].slot_waits[2] = false }
    :: d_step { rings[r].slot_waits[3] -> rings[r].slot[3] = rings[r].slot_store[3]; rings[r].slot_waits[3] = false }
    :: atomic {
           rings[r].tail_waits ->
           n = 0;
#ifndef TAIL_FIRST
           i = rings[r].prod_tail;
           do
           :: i != rings[r].tail_store -> n = n + rings[r].slot_waits[i % SIZE]; i = (i + 1) % SPAN
           :: else -> break
           od;
#endif
           if
           :: n == 0 -> rings[r].prod_tail = rings[r].tail_store; rings[r].tail_waits = false
           :: else -> skip /* release: not yet */
           fi;
           i = 0; n = 0
       }
    od
}

/* One or two at once, as a burst: they share one tail. */
inline take(r, tail, count, one, other) {
    count = 1;
    if
    :: (rings[r].prod_tail + SPAN - tail) % SPAN > 1 -> count = 2
    :: true
    fi;
#ifdef FREED_BEFORE_READ
    rings[r].cons_tail = (tail + count) % SPAN;
#endif
    one = rings[r].slot[tail % SIZE];
    if
    :: count == 2 -> other = rings[r].slot[(tail + 1) % SIZE]
    :: else
    fi;
    tail = (tail + count) % SPAN;
    rings[r].cons_tail = tail
}

inline give_back(value) {
    taken++;
    assert(value == taken); /* whole, once, in order */
#ifndef STREAM
    room(1, head, free);
    assert(free > 0); /* rings hold all that can be in flight */
    put_slot(1, head, value);
#endif
}

proctype stage_a() {
    byte head = 0, tail = 0; /* of the ring to B, of the ring back */
    byte sent = 0, back = 0, stock = STOCK, free, count, one, other;
    do
    :: STOCKED && sent < TOTAL ->
        room(0, head, free);
        if
        :: free > 0 ->
            put_slot(0, head, sent + 1);
            sent++; stock--;
            if
            :: STOCKED && sent < TOTAL && free > 1 -> put_slot(0, head, sent + 1); sent++; stock--
            :: true
            fi;
            publish(0, head)
        :: else -> /* only a stream finds it full */
#ifdef STREAM
            (rings[0].cons_tail + ROOM(0)) % SPAN != head
#else
            assert(false)
#endif
        fi
    :: rings[1].prod_tail != tail ->
        take(1, tail, count, one, other);
        back++; stock++;
        assert(one == back);
        if
        :: count == 2 -> back++; stock++; assert(other == back)
        :: else
        fi
#ifdef STREAM
    :: sent == TOTAL -> break
#else
    :: back == TOTAL -> break
#endif
    od
}

proctype stage_b() {
    byte tail = 0, head = 0, taken = 0, free, count, one, other;
    do
    :: rings[0].prod_tail != tail ->
        take(0, tail, count, one, other);
        give_back(one);
        if
        :: count == 2 -> give_back(other)
        :: else
        fi;
        publish(1, head)
    :: taken == TOTAL -> break /* else it waits for what never comes: an invalid end state */
    od
}

init {
    atomic { run memory(0); run memory(1); run stage_a(); run stage_b() }
}
