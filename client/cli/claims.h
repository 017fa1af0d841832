// What `holders` and `queue` share: reading a lock's name and printing claims.
#ifndef CONCLAVE_CLI_CLAIMS_H
#define CONCLAVE_CLI_CLAIMS_H

#include "cli.h"

#define CLAIMS_PAGE 32u // more than one answer of the cluster carries

// Reads the only word, a lock's name, and opens the cluster. -1 to go on, else the exit status.
int claims_begin(struct cli *cli, struct args *args, const char *help, const char **name);
// The records of claims; `holding`: with tokens, else with places in the queue from `place` on.
void claims_records(struct records *records, bool holding);
void claims_add(struct records *records, bool holding, uint64_t place,
                const struct conclave_claim *claim);
// {"name": ..., "count": ..., KEY: [...]} for JSON.
void claims_print(struct cli *cli, struct records *records, const char *name, uint64_t count,
                  const char *key);

#endif
