// See durable_names.h: each fsync() of a directory writes down which names it has at that moment.
#include "durable_names.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAMES_MAX 256u

static struct {
    ino_t directory;
    char name[256];
} durable[NAMES_MAX];
static uint32_t durable_count;

static void note(ino_t directory, const char *name) {
    if (durable_count == NAMES_MAX) return; // then more is lost than would be: seen at once
    durable[durable_count].directory = directory;
    snprintf(durable[durable_count].name, sizeof durable[0].name, "%s", name);
    durable_count++;
}

static bool is_durable(ino_t directory, const char *name) {
    for (uint32_t i = 0; i < durable_count; i++)
        if (durable[i].directory == directory && strcmp(durable[i].name, name) == 0) return true;
    return false;
}

static bool is_entry(const char *name) {
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int fsync(int fd) {
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *names = again < 0 ? NULL : fdopendir(again);
        for (struct dirent *e; names != NULL && (e = readdir(names)) != NULL;)
            if (is_entry(e->d_name)) note(info.st_ino, e->d_name);
        if (names != NULL) closedir(names);
    }
    return (int)syscall(SYS_fsync, fd);
}

// `all`: whatever is durable or not.
static void clear(const char *directory, bool all) {
    char path[512];
    struct stat info;
    DIR *names = opendir(directory);
    if (names == NULL || stat(directory, &info) != 0) return;
    ino_t number = info.st_ino;
    for (struct dirent *e; (e = readdir(names)) != NULL;) {
        if (!is_entry(e->d_name)) continue;
        bool lost = all || !is_durable(number, e->d_name);
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        bool is_directory = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
        if (is_directory) clear(path, lost);
        if (lost) (void)(is_directory ? rmdir(path) : unlink(path));
    }
    closedir(names);
}

void durable_names_power_cut(const char *directory) {
    clear(directory, false);
}

void durable_names_remove(const char *directory) {
    clear(directory, true);
    rmdir(directory);
}
