// Names and sentences of the public status codes, and the proof that their numbers are the wire's.
#include <assert.h>
#include <stddef.h>

#include "core.h"

#define SAME(name) static_assert((int)CONCLAVE_##name == (int)WIRE_##name, #name)
SAME(OK);
SAME(QUEUED);
SAME(NOT_LEADER);
SAME(BUSY);
SAME(NO_LEASE);
SAME(LEASE_EXPIRED);
SAME(NOT_HOLDER);
SAME(WOULD_BLOCK);
SAME(WAIT_TIMEOUT);
SAME(STALE_TOKEN);
SAME(TOO_LARGE);
SAME(FULL);
SAME(COMPACTED);
SAME(BAD_REQUEST);
SAME(UNAUTHENTICATED);
SAME(DENIED);
SAME(UNKNOWN);
SAME(NO_SESSION);
SAME(STALE_SEQUENCE);
SAME(NAME_MAX);
SAME(TTL_MS_MIN);
SAME(TTL_MS_MAX);
static_assert(CONCLAVE_WAIT_FOREVER == WIRE_WAIT_FOREVER, "waiting for ever");
static_assert(WIRE_STATUS_COUNT == 19, "a new wire status needs its twin in conclave.h");
static_assert((int)CONCLAVE_TIMEOUT == (int)CORE_TIMEOUT, "TIMEOUT");
static_assert((int)CONCLAVE_CLOSED == (int)CORE_CLOSED, "CLOSED");
static_assert((int)CONCLAVE_LIMIT == (int)CORE_LIMIT, "LIMIT");
static_assert((int)CONCLAVE_TIMEOUT > WIRE_STATUS_COUNT, "the library's own numbers stay apart");
static_assert((int)CONCLAVE_NOTICE_SESSION_OPENED == (int)CORE_NOTICE_SESSION_OPENED, "notice");
static_assert((int)CONCLAVE_NOTICE_SESSION_LOST == (int)CORE_NOTICE_SESSION_LOST, "notice");
static_assert((int)CONCLAVE_NOTICE_LEADER == (int)CORE_NOTICE_LEADER, "notice");
static_assert(CONCLAVE_ENDPOINTS_MAX == CORE_CONFIGURED_MAX, "endpoints");

static const struct {
    enum conclave_status status;
    const char *name;
    const char *sentence;
} table[] = {
    {CONCLAVE_OK, "ok", "Done."},
    {CONCLAVE_QUEUED, "queued", "The claim waits in the lock's queue: wait for its turn."},
    {CONCLAVE_NOT_LEADER, "not_leader",
     "The node asked does not lead: ask again, the library follows the leader."},
    {CONCLAVE_BUSY, "busy",
     "Refused before anything happened, because too much is under way already: try again "
     "in a moment."},
    {CONCLAVE_NO_LEASE, "no_lease",
     "There is no such lease: it was revoked, has expired, or never was. Grant a new one."},
    {CONCLAVE_LEASE_EXPIRED, "lease_expired",
     "The lease has expired and all that was held under it is gone: stop the work it "
     "protected, grant a new lease and begin again."},
    {CONCLAVE_NOT_HOLDER, "not_holder",
     "This token does not hold this lock, so nothing was released: it was released before, "
     "or its lease has ended."},
    {CONCLAVE_WOULD_BLOCK, "would_block",
     "The lock is held by another: try again later, or wait for it."},
    {CONCLAVE_WAIT_TIMEOUT, "wait_timeout",
     "The lock was not free within the wait: try again, or wait longer."},
    {CONCLAVE_STALE_TOKEN, "stale_token",
     "A newer grant exists than this token's: stop, another holds the lock now."},
    {CONCLAVE_TOO_LARGE, "too_large",
     "The name or value is too long: a name has at most 255 bytes, a value 1024."},
    {CONCLAVE_FULL, "full",
     "A table of the cluster is full, so nothing was changed: end leases and locks that are "
     "no longer needed, or run the cluster with larger limits."},
    {CONCLAVE_COMPACTED, "compacted",
     "That part of the history is gone: read the present state and go on from there."},
    {CONCLAVE_BAD_REQUEST, "bad_request",
     "An argument is out of range: nothing was changed. The manual of the call names the "
     "limits."},
    {CONCLAVE_UNAUTHENTICATED, "unauthenticated",
     "The cluster does not know this client: check its key."},
    {CONCLAVE_DENIED, "denied",
     "The cluster does not allow this client to do that: ask its operator."},
    {CONCLAVE_UNKNOWN, "unknown",
     "No final answer came in time: the change may have happened, may still happen, or "
     "not. Look at the state before relying on either."},
    {CONCLAVE_NO_SESSION, "no_session",
     "The cluster has forgotten this client's session: begin again, the library opens "
     "another."},
    {CONCLAVE_STALE_SEQUENCE, "stale_sequence",
     "The request came too late to be told apart from an older one and was not executed "
     "now: look at the state before relying on it."},
    {CONCLAVE_TIMEOUT, "timeout",
     "No answer came in time; nothing was changed. Check that more than half of the nodes "
     "run and can be reached, then try again."},
    {CONCLAVE_CLOSED, "closed",
     "The handle was closed before the answer came: the change may have happened."},
    {CONCLAVE_LIMIT, "limit",
     "More is open at once than this handle was opened for: wait for something to finish, or "
     "raise the limit in the options."},
    {CONCLAVE_SYSTEM, "system",
     "The operating system refused something the library needs: errno tells what."},
};
#define ROWS (sizeof table / sizeof *table)

const char *conclave_status_name(enum conclave_status status) {
    for (size_t i = 0; i < ROWS; i++) {
        if (table[i].status == status) return table[i].name;
    }
    return "undefined_status";
}

const char *conclave_status_sentence(enum conclave_status status) {
    for (size_t i = 0; i < ROWS; i++) {
        if (table[i].status == status) return table[i].sentence;
    }
    return "An unknown status: is the library older than the program?";
}
