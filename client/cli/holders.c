// conclave holders: who holds a lock.
#include <stdio.h>

#include "claims.h"

static const char help[] =
    "conclave holders NAME    who holds the lock NAME: token, lease, session, since when\n"
    "\n"
    "The answer is linearizable: it was true at a moment between question and answer. Nothing is\n"
    "printed (JSON: an empty list) if nobody holds it.\n"
    "\n"
    "Exit status: 0 answered, held or not; 7 no answer, 2 usage.\n"
    "\n"
    "Example:\n"
    "  $ conclave holders nightly-backup\n"
    "  token=1207 lease=1203 session=1198 since=3m12s claim=1207\n";

int verb_holders(struct cli *cli, struct args *args) {
    const char *name;
    int ends = claims_begin(cli, args, help, &name);
    if (ends >= 0) return ends;
    struct conclave_claim claims[CLAIMS_PAGE];
    uint32_t listed = 0;
    uint64_t count = 0;
    enum conclave_status status =
        conclave_lock_holders(cli->handle, name, claims, CLAIMS_PAGE, &listed, &count);
    if (status != CONCLAVE_OK) return cli_failed(cli, cli->handle, "The holders", status);
    struct records records;
    claims_records(&records, true);
    for (uint32_t i = 0; i < listed; i++) claims_add(&records, true, 0, &claims[i]);
    claims_print(cli, &records, name, count, "holders");
    return EXIT_DONE;
}
