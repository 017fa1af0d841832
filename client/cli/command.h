// A command run under a lock: started, signalled as a group, never outliving us by our own fault.
//
// The command leads a process group of its own, so that what it started can be ended with it. If we
// stand in a terminal's foreground, that is handed to the group, so that the command can read and
// Ctrl-C reaches it; when Ctrl-Z stops it, we stop too, as one job.
//
// Should this program be killed, the kernel sends SIGKILL to the command (PR_SET_PDEATHSIG). That
// reaches the command itself, not what it has started.
#ifndef CONCLAVE_CLI_COMMAND_H
#define CONCLAVE_CLI_COMMAND_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct command {
    pid_t process; // and its group
    bool terminal; // there is one that both may stand in the foreground of
};
enum command_state { COMMAND_RUNS, COMMAND_STOPPED, COMMAND_ENDED };

// Can `name` be executed, by the rules of execvp(3)? 0, or the errno why not.
int command_find(const char *name);
// Starts words[0] with the environment as it is and the signal mask `mask`. 0, or the errno why
// not.
int command_start(struct command *command, char **words, const sigset_t *mask);
enum command_state command_poll(const struct command *command);
void command_signal(const struct command *command, int number); // to the whole group
// After COMMAND_STOPPED, with a terminal: stops this program too. Returns when it is continued; the
// command is still stopped then. False: it is to stay so.
bool command_stop_along(const struct command *command);
void command_continue(const struct command *command);
// After COMMAND_ENDED: its exit status as a shell has it. With group_too, what is left of its group
// is killed first.
int command_finish(const struct command *command, bool group_too);

#endif
