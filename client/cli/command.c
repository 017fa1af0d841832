// See command.h.
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "exit_status.h"

static int check_file(const char *path) {
    struct stat file;
    if (stat(path, &file) != 0) return errno;
    if (S_ISDIR(file.st_mode)) return EACCES;
    return access(path, X_OK) == 0 ? 0 : errno;
}

int command_find(const char *name) {
    if (!*name) return ENOENT;
    if (strchr(name, '/')) return check_file(name);
    const char *path = getenv("PATH");
    if (!path) path = "/bin:/usr/bin"; // execvp's own default
    int found = ENOENT;
    for (const char *at = path;;) {
        size_t length = strcspn(at, ":");
        char *file = NULL;
        if (asprintf(&file, "%.*s%s%s", (int)length, at, length ? "/" : "", name) < 0)
            return ENOMEM;
        int error = check_file(file);
        free(file);
        if (error == 0) return 0;
        if (error == EACCES) found = EACCES;
        if (!at[length]) return found;
        at += length + 1;
    }
}

// ---------------------------------------------------------------- starting

// The group in the foreground of our terminal; -1: we have none.
static pid_t foreground(void) {
    return tcgetpgrp(STDIN_FILENO);
}

// A background group that sets the foreground is sent SIGTTOU unless that is blocked.
static void give_terminal(pid_t group) {
    sigset_t set, before;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTTOU);
    (void)sigprocmask(SIG_BLOCK, &set, &before);
    (void)tcsetpgrp(STDIN_FILENO, group);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
}

// Back from the command, if it has it.
static void take_terminal(const struct command *command) {
    if (command->terminal && foreground() == command->process) give_terminal(getpgrp());
}

// In the child. Returns only if the command cannot be run.
static void become(char **words, const sigset_t *mask, bool ahead, pid_t parent) {
    (void)setpgid(0, 0);
    if (ahead) give_terminal(getpgrp());
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return;
    if (getppid() != parent) raise(SIGKILL); // it died before that took effect
    (void)sigprocmask(SIG_SETMASK, mask, NULL);
    (void)execvp(words[0], words);
}

int command_start(struct command *command, char **words, const sigset_t *mask) {
    int report[2]; // closed by a successful exec, else carries errno
    if (pipe2(report, O_CLOEXEC) != 0) return errno;
    bool terminal = foreground() >= 0;
    bool ahead = terminal && foreground() == getpgrp();
    pid_t parent = getpid();
    pid_t process = fork();
    if (process == 0) {
        become(words, mask, ahead, parent);
        int error = errno;
        (void)!write(report[1], &error, sizeof error);
        _exit(EXIT_NOT_RUN);
    }
    int error = process < 0 ? errno : 0;
    (void)close(report[1]);
    if (process > 0) {
        (void)setpgid(process, process); // whoever of the two is first
        *command = (struct command){.process = process, .terminal = terminal};
        ssize_t told;
        do {
            told = read(report[0], &error, sizeof error);
        } while (told < 0 && errno == EINTR);
        if (told == (ssize_t)sizeof error) {
            (void)waitpid(process, NULL, 0);
            take_terminal(command);
        } else {
            error = 0;
        }
    }
    (void)close(report[0]);
    return error;
}

// ---------------------------------------------------------------- while it runs

enum command_state command_poll(const struct command *command) {
    siginfo_t info = {0};
    // Left unreaped, so that its group's number cannot go to another meanwhile.
    int failed =
        waitid(P_PID, (id_t)command->process, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT);
    if (failed || info.si_pid == 0) return COMMAND_RUNS;
    if (info.si_code != CLD_STOPPED) return COMMAND_ENDED;
    (void)waitid(P_PID, (id_t)command->process, &info, WSTOPPED | WNOHANG);
    return COMMAND_STOPPED;
}

void command_signal(const struct command *command, int number) {
    (void)kill(-command->process, number);
}

bool command_stop_along(const struct command *command) {
    sigset_t set, before;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCONT);
    (void)sigprocmask(SIG_BLOCK, &set, &before); // continues us all the same, and stays to be seen
    take_terminal(command);
    (void)kill(0, SIGTSTP); // the whole job, as the terminal would
    bool stopped = sigtimedwait(&set, NULL, &(struct timespec){0}) == SIGCONT;
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    // Without a shell that could continue us the kernel does not stop us. Then the command goes on
    // too, but not to read from a terminal that it is not to have, again and again.
    return stopped || foreground() == getpgrp();
}

void command_continue(const struct command *command) {
    if (foreground() == getpgrp()) give_terminal(command->process);
    command_signal(command, SIGCONT);
}

int command_finish(const struct command *command, bool group_too) {
    if (group_too) command_signal(command, SIGKILL);
    int status = 0;
    pid_t reaped;
    do {
        reaped = waitpid(command->process, &status, 0);
    } while (reaped < 0 && errno == EINTR);
    take_terminal(command);
    return WIFSIGNALED(status) ? EXIT_SIGNAL_BASE + WTERMSIG(status) : WEXITSTATUS(status);
}
