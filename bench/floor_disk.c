// The disk's floor: what one durable 4 KiB write costs here, whatever software asks for it.
//
// A file is written out in full and synced first, so that the measured writes change data and
// nothing else: no block is allocated, no size grows. Each is an overwrite with O_DIRECT and
// O_DSYNC, one after the other. One writer alone is the floor of one node; three writers at once,
// each with a file of its own, that of three nodes on one disk.
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <linux/magic.h>

#define BLOCK      4096u
#define WRITERS    3u
#define WRITES     3000u
#define WRITES_MAX 1000000u
#define FILE_BYTES (4u << 20)

struct writer {
    pthread_t thread;
    pthread_barrier_t *start;
    int fd;
    int error; // errno of the write that failed
    uint8_t *block;
    uint64_t *times_ns;
    uint32_t writes;
};

struct figures {
    double p50_us, p99_us, p999_us, max_us, per_second;
};

static uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

// ---------------------------------------------------------------- the file

static bool complain(const char *directory, const char *what) {
    fprintf(stderr, "floor_disk: %s in %s: %s\n", what, directory, strerror(errno));
    return false;
}

static bool in_memory(const char *directory) {
    struct statfs system;
    if (statfs(directory, &system) != 0 ||
        (system.f_type != TMPFS_MAGIC && system.f_type != RAMFS_MAGIC))
        return false;
    fprintf(stderr, "floor_disk: %s is in memory: name a directory on a disk\n", directory);
    return true;
}

// A file without a name: gone with the process, however that ends.
static bool open_file(struct writer *w, const char *directory) {
    w->fd = open(directory, O_TMPFILE | O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC, 0600);
    if (w->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        char path[4096];
        snprintf(path, sizeof path, "%s/floor_disk.%ld", directory, (long)getpid());
        w->fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC, 0600);
        int error = errno;
        unlink(path);
        errno = error;
    }
    if (w->fd >= 0) return true;
    if (errno == EINVAL) {
        fprintf(stderr,
                "floor_disk: the file system of %s has no O_DIRECT: name a directory on a disk\n",
                directory);
        return false;
    }
    return complain(directory, "cannot make a file");
}

static bool prepare(struct writer *w, const char *directory, uint32_t writes) {
    w->writes = writes;
    w->block = aligned_alloc(BLOCK, BLOCK);
    w->times_ns = calloc(writes, sizeof *w->times_ns);
    if (w->block == NULL || w->times_ns == NULL) return complain(directory, "no memory");
    memset(w->block, 0x5a, BLOCK);
    memset(w->times_ns, 0xff, writes * sizeof *w->times_ns); // no page fault while measuring
    if (!open_file(w, directory)) return false;
    static _Alignas(BLOCK) uint8_t chunk[1u << 20];
    for (uint32_t at = 0; at < FILE_BYTES; at += sizeof chunk)
        if (pwrite(w->fd, chunk, sizeof chunk, at) != (ssize_t)sizeof chunk)
            return complain(directory, "cannot write a file of 4 MiB");
    return fsync(w->fd) == 0 || complain(directory, "cannot sync");
}

static void discard(struct writer *w) {
    if (w->fd >= 0) close(w->fd);
    free(w->block);
    free(w->times_ns);
}

// ---------------------------------------------------------------- measuring

static void *overwrite(void *context) {
    struct writer *w = context;
    pthread_barrier_wait(w->start);
    for (uint32_t i = 0; i < w->writes; i++) {
        memcpy(w->block, &i, sizeof i);
        uint64_t begun_ns = clock_ns();
        ssize_t put = pwrite(w->fd, w->block, BLOCK, (off_t)(i % (FILE_BYTES / BLOCK) * BLOCK));
        w->times_ns[i] = clock_ns() - begun_ns;
        if (put == BLOCK) continue;
        w->error = put < 0 ? errno : ENOSPC;
        break;
    }
    return NULL;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// Nearest rank: the smallest time that at least `share` per mille of all do not exceed.
static double percentile_us(const uint64_t *sorted, uint64_t count, uint64_t per_mille) {
    uint64_t rank = (count * per_mille + 999) / 1000;
    return (double)sorted[rank > 0 ? rank - 1 : 0] / 1e3;
}

static bool summarize(const struct writer *writers, uint32_t count, uint64_t took_ns,
                      struct figures *out) {
    uint32_t each = writers[0].writes;
    uint64_t total = (uint64_t)count * each;
    uint64_t *all = malloc(total * sizeof *all);
    if (all == NULL) return false;
    for (uint32_t i = 0; i < count; i++)
        memcpy(all + (uint64_t)i * each, writers[i].times_ns, each * sizeof *all);
    qsort(all, total, sizeof *all, by_value);
    *out = (struct figures){.p50_us = percentile_us(all, total, 500),
                            .p99_us = percentile_us(all, total, 990),
                            .p999_us = percentile_us(all, total, 999),
                            .max_us = percentile_us(all, total, 1000),
                            .per_second = (double)total / ((double)took_ns / 1e9)};
    free(all);
    return true;
}

// Runs `count` writers at once. False after a sentence on stderr.
static bool measure(const char *directory, uint32_t count, uint32_t writes, struct figures *out) {
    struct writer writers[WRITERS];
    pthread_barrier_t start;
    bool good = true;
    memset(writers, 0, sizeof writers);
    for (uint32_t i = 0; i < count; i++) writers[i].fd = -1;
    for (uint32_t i = 0; i < count && good; i++) good = prepare(&writers[i], directory, writes);
    if (good) {
        pthread_barrier_init(&start, NULL, count + 1);
        for (uint32_t i = 0; i < count; i++) {
            writers[i].start = &start;
            if (pthread_create(&writers[i].thread, NULL, overwrite, &writers[i]) == 0) continue;
            fprintf(stderr, "floor_disk: cannot start a thread\n");
            exit(1);
        }
        pthread_barrier_wait(&start);
        uint64_t begun_ns = clock_ns();
        for (uint32_t i = 0; i < count; i++) pthread_join(writers[i].thread, NULL);
        uint64_t took_ns = clock_ns() - begun_ns;
        pthread_barrier_destroy(&start);
        for (uint32_t i = 0; i < count && good; i++) {
            errno = writers[i].error;
            good = errno == 0 || complain(directory, "a write failed");
        }
        good = good && summarize(writers, count, took_ns, out);
    }
    for (uint32_t i = 0; i < count; i++) discard(&writers[i]);
    return good;
}

// ---------------------------------------------------------------- printing

static void print_row(const char *what, const struct figures *f) {
    printf("%-22s %9.1f %9.1f %9.1f %9.1f %10.0f\n", what, f->p50_us, f->p99_us, f->p999_us,
           f->max_us, f->per_second);
}

static void print_object(const char *what, const struct figures *f) {
    printf("\"%s\": {\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, "
           "\"writes_per_second\": %.0f}",
           what, f->p50_us, f->p99_us, f->p999_us, f->max_us, f->per_second);
}

static void print_all(bool json, uint32_t writes, const struct figures *one,
                      const struct figures *three) {
    if (json) {
        printf("{\"bench\": \"floor_disk\", \"bytes\": %u, \"writes\": %u, ", BLOCK, writes);
        print_object("one_writer", one);
        printf(", ");
        print_object("three_writers", three);
        printf("}\n");
        return;
    }
    printf("%-22s %9s %9s %9s %9s %10s\n", "disk, 4 KiB + sync, us", "p50", "p99", "p99.9", "max",
           "writes/s");
    print_row("one writer", one);
    print_row("three writers at once", three);
}

static const char help[] =
    "usage: floor_disk [options] DIRECTORY\n"
    "Measures durable overwrites of 4 KiB (O_DIRECT, O_DSYNC) in files made for it there.\n\n"
    "  -n COUNT         writes of each writer (default 3000)\n"
    "  -w simple|json   how to print (default simple)\n\n"
    "example: floor_disk /var/lib/conclave\n";

int main(int argc, char **argv) {
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    unsigned long writes = WRITES;
    bool json = false, usable = true;
    for (int o; (o = getopt_long(argc, argv, "n:w:h", options, NULL)) != -1;) {
        char *end = NULL;
        switch (o) {
        case 'n':
            writes = strtoul(optarg, &end, 10);
            usable = usable && *end == 0 && writes > 0 && writes <= WRITES_MAX;
            break;
        case 'w':
            json = strcmp(optarg, "json") == 0;
            usable = usable && (json || strcmp(optarg, "simple") == 0);
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            usable = false;
        }
    }
    if (!usable || optind + 1 != argc) {
        fputs(help, stderr);
        return 2;
    }
    if (in_memory(argv[optind])) return 1;
    struct figures one, three;
    if (!measure(argv[optind], 1, (uint32_t)writes, &one)) return 1;
    if (!measure(argv[optind], WRITERS, (uint32_t)writes, &three)) return 1;
    print_all(json, (uint32_t)writes, &one, &three);
    return 0;
}
