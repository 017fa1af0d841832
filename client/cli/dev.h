// `conclave dev`: a whole cluster in this process, to try things on.
#ifndef CONCLAVE_CLI_DEV_H
#define CONCLAVE_CLI_DEV_H

// argv[0] is "dev". Runs until SIGINT, SIGTERM or SIGHUP; returns the exit code: 0 stopped as
// asked, 1 cannot start or every node failed, 2 usage.
int cli_dev(int argc, char **argv);

#endif
