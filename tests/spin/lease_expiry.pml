/* A lease, its keepalives, its expiry, and a change of leader.
 *
 * Consensus is taken for granted: there is one log. A leader appends to it with its own term and the
 * time; what is not yet committed may be lost when the leader changes, and is never reordered. An
 * expiry is decided by a leader from the state it has applied, and may then be held up for as long
 * as one likes (a stalled leader) before it is appended, by whoever leads then. A keepalive and its
 * answer may be held up as well.
 *
 * Holds: the lease is ended only when its newest deadline has passed; so one renewed under a
 *        later leader is not ended by a former one's expiry;
 *        the client takes it for lost before the server ends it;
 *        a lease that is not renewed does end, however often the leader changes.
 *
 * The machine compares three things (consensus/machine/lease.c): term, renewals, deadline. Left out one
 * by one (-DNO_TERM, -DNO_RENEWALS, -DNO_DEADLINE) all still holds: renewals or deadline alone would do, and
 * the term is a third line.
 *
 * To be refuted: -DBLIND         nothing is compared (etcd issue 15247)
 *                -DTERM_ONLY     the term alone is
 *                -DFROM_ANSWER   the client counts from the answer, not from when it asked
 *                -DGIVEN_ONCE    an expiry that was lost with its leader is not proposed again
 */
#define TTL    2
#define DRIFT  1 /* the server waits so much longer than the client: semantics.md, "Leases" */
#define NOW_MAX 7
#define TERMS  3
#define KEEPALIVES 2
#define LOG    3

#if defined(BLIND) || defined(NO_TERM)
#define SAME_TERM true
#else
#define SAME_TERM (x == entry_term)
#endif
#if defined(BLIND) || defined(TERM_ONLY) || defined(NO_RENEWALS)
#define SAME_RENEWALS true
#else
#define SAME_RENEWALS (y == renewals)
#endif
#if defined(BLIND) || defined(TERM_ONLY) || defined(NO_DEADLINE)
#define PAST_DEADLINE true
#else
#define PAST_DEADLINE (deadline <= time)
#endif
#ifdef GIVEN_ONCE
#define MAY_GIVE !given
#else
#define MAY_GIVE true
#endif

mtype = { KEEP, EXPIRE };
chan log = [LOG] of { mtype, byte, byte, byte, byte }; /* what, entry's term, its time, expiry's term, renewals */

byte now = 0;   /* real time; clocks differ from it by less than DRIFT over a TTL */
byte term = 1;  /* of the leader */
bool alive = true;
byte renewals = 0;
byte deadline = TTL + DRIFT; /* granted at 0 */
byte renewed_in = 1;         /* term */
byte believed = TTL; /* the client's */
byte answered = 255;         /* an answer under way: when the keepalive was sent; 255: none */
bool given = false;          /* GIVEN_ONCE */

proctype clock() {
    do
    :: now < NOW_MAX -> now++
    :: else -> break
    od
}

/* What is not committed is lost, from some entry on; at most three are there. */
proctype elections() {
    mtype what; byte a, b, c, d;
    do
    :: term < TERMS ->
        atomic {
            term++;
            if
            :: true
            :: len(log) == 1 -> log?what, a, b, c, d
            :: len(log) == 2 -> log?what, a, b, c, d; log?what, a, b, c, d
            fi
        }
    :: break
    od
}

proctype client() {
    byte sent, count = 0;
    do
    :: count < KEEPALIVES && now < believed ->
        sent = now;
        count++;
        if
        :: atomic { nfull(log) -> log!KEEP, term, now, sent, 0 } /* at any later time */
        :: true                                                  /* lost on the way */
        fi
    :: atomic {
           answered != 255 ->
#ifdef FROM_ANSWER
           sent = now;
#else
           sent = answered;
#endif
           believed = (sent + TTL > believed -> sent + TTL : believed);
           answered = 255; sent = 0
       }
    :: now == NOW_MAX && answered == 255 -> break
    od
}

/* A leader's upkeep: it sees a lease past its deadline, and proposes; perhaps much later. */
proctype upkeep() {
    byte seen_term, seen_renewals;
end:
    do
    :: atomic {
           alive && deadline <= now && MAY_GIVE ->
           seen_term = term; seen_renewals = renewals; given = true
       };
       atomic { nfull(log) -> log!EXPIRE, term, now, seen_term, seen_renewals };
       (empty(log) || !alive) /* one at a time: keeps the model small */
    od
}

/* The machine. What is applied is committed. */
proctype machine() {
    mtype what; byte entry_term, time, x, y;
end:
    do
    :: atomic {
           log?what, entry_term, time, x, y ->
           if
           :: what == KEEP && alive && deadline > time ->
               deadline = time + TTL + DRIFT;
               renewals++;
               renewed_in = entry_term;
               answered = x
           :: what == EXPIRE && alive && SAME_TERM && SAME_RENEWALS && PAST_DEADLINE ->
               assert(deadline <= time);  /* not one that was renewed meanwhile */
               assert(renewed_in <= x);   /* least of all under a later leader */
               assert(believed <= now);   /* its holder has let go */
               alive = false
           :: else
           fi;
           what = 0; entry_term = 0; time = 0; x = 0; y = 0
       }
    od
}

init {
    atomic { run clock(); run elections(); run client(); run upkeep(); run machine() }
    /* Nothing can happen any more but this: time is at its end and all is applied. */
    (timeout && now == NOW_MAX) -> assert(!alive)
}
