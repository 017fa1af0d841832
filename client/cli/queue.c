// conclave queue: who waits for a lock, in order.
#include <stdio.h>

#include "claims.h"

static const char help[] =
    "conclave queue NAME    who waits for the lock NAME, first come first served\n"
    "\n"
    "A long queue takes several answers: each is true at its moment, waiters may come and go "
    "between\n"
    "them. Nothing is printed (JSON: an empty list) if nobody waits.\n"
    "\n"
    "Exit status: 0 answered, anybody waiting or not; 7 no answer, 2 usage.\n"
    "\n"
    "Example:\n"
    "  $ conclave queue nightly-backup\n"
    "  place=1 lease=1210 session=1209 since=12.4s claim=1211\n";

int verb_queue(struct cli *cli, struct args *args) {
    const char *name;
    int ends = claims_begin(cli, args, help, &name);
    if (ends >= 0) return ends;
    struct records records;
    claims_records(&records, false);
    uint64_t count = 0;
    uint64_t last = 0; // claim: rises along the queue, so that nobody is listed twice
    for (size_t before = SIZE_MAX; before != records.count;) { // until a page brings nothing new
        struct conclave_claim claims[CLAIMS_PAGE];
        uint32_t listed = 0;
        before = records.count;
        enum conclave_status status = conclave_lock_queue(cli->handle, name, records.count, claims,
                                                          CLAIMS_PAGE, &listed, &count);
        if (status != CONCLAVE_OK) {
            records_end(&records);
            return cli_failed(cli, cli->handle, "The queue", status);
        }
        for (uint32_t i = 0; i < listed; i++) {
            if (claims[i].claim <= last) continue;
            last = claims[i].claim;
            claims_add(&records, false, records.count + 1, &claims[i]);
        }
    }
    claims_print(cli, &records, name, count, "waiters");
    return EXIT_DONE;
}
