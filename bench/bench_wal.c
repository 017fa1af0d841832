// The log on disk: building an append in memory, and a whole durable append through io_uring. The
// latter goes to a directory made for it under $TMPDIR, or /var/tmp, which unlike /tmp is a disk
// everywhere. Compare it with floor_disk on the same directory.
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"
#include "harness.h"
#include "store.h"

#define COMMAND_BYTES 72u // an acquire with a name of 16 bytes
#define TERM          1u

struct log {
    struct store_request request;
    uint32_t entries; // per append
    uint64_t index;
    uint8_t command[COMMAND_BYTES];
    // With a disk only.
    struct disk *disk;
    struct store *store;
    void *memory;
    struct store_request snapshot, hard;
    char directory[200];
};

static void build(struct log *log) {
    struct raft_entry entry = {
        .term = TERM, .data = log->command, .length = COMMAND_BYTES, .type = RAFT_ENTRY_COMMAND};
    store_batch_reset(&log->request);
    for (uint32_t i = 0; i < log->entries; i++) {
        entry.time_ns = ++log->index;
        bool added = store_batch_add(&log->request, log->index, &entry);
        assert(added && "benches ask for no more than fits");
    }
    log->request.append.last_index = log->index;
    log->request.append.last_term = TERM;
}

static void *build_setup(uint64_t entries) {
    struct log *log = calloc(1, sizeof *log);
    if (log == NULL) return NULL;
    log->entries = (uint32_t)entries;
    log->request.type = STORE_APPEND;
    log->request.data = aligned_alloc(STORE_BLOCK, STORE_BATCH_BYTES);
    if (log->request.data != NULL) {
        memset(log->request.data, 0, STORE_BATCH_BYTES);
        return log;
    }
    free(log);
    return NULL;
}

static void build_teardown(void *context) {
    struct log *log = context;
    free(log->request.data);
    free(log);
}

static void build_run(void *context, uint64_t iterations) {
    struct log *log = context;
    for (uint64_t i = 0; i < iterations; i++) {
        build(log);
        bench_keep(log->request.data);
    }
}

// ---------------------------------------------------------------- with a disk

static void remove_directory(const char *path) {
    DIR *directory = opendir(path);
    if (directory == NULL) return;
    for (struct dirent *file; (file = readdir(directory)) != NULL;)
        if (strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0)
            unlinkat(dirfd(directory), file->d_name, 0);
    closedir(directory);
    rmdir(path);
}

// Hands a request to the store and waits for it, yielding as a node on shared cores does.
static void finish(struct log *log, struct store_request *request) {
    struct store_request *done = NULL;
    bool submitted = store_submit(log->store, request);
    assert(submitted && "the ring of segments is emptied in time");
    while (store_poll(log->store, &done, 1) == 0) sched_yield();
    assert(done == request);
    if (request->status == 0) return;
    fprintf(stderr, "wal: writing in %s failed: %s\n", log->directory, strerror(-request->status));
    exit(1);
}

static bool open_store(struct log *log) {
    char error[STORE_ERROR_BYTES] = "";
    const char *parent = getenv("TMPDIR");
    snprintf(log->directory, sizeof log->directory, "%s/conclave-bench-XXXXXX",
             parent != NULL && parent[0] != 0 ? parent : "/var/tmp");
    if (mkdtemp(log->directory) == NULL) {
        fprintf(stderr, "wal: cannot make %s: %s; set TMPDIR to a directory on a disk\n",
                log->directory, strerror(errno));
        return false;
    }
    struct store_options options = {
        .cluster = 1, .node = 1, .segment_bytes = 4u << 20, .segment_count = 4};
    struct store_recovered found;
    options.disk = log->disk = disk_uring_open(log->directory, error);
    size_t bytes = (store_bytes(&options) + 4095) & ~(size_t)4095;
    log->memory = aligned_alloc(4096, bytes);
    log->snapshot.data = aligned_alloc(4096, STORE_SNAPSHOT_BYTES);
    log->hard.data = aligned_alloc(4096, STORE_BLOCK);
    if (log->disk == NULL || log->memory == NULL || log->snapshot.data == NULL ||
        log->hard.data == NULL) {
        fprintf(stderr, "wal: %s\n", error[0] != 0 ? error : "not enough memory");
        return false;
    }
    memset(log->memory, 0, bytes);
    memset(log->snapshot.data, 0, STORE_SNAPSHOT_BYTES);
    memset(log->hard.data, 0, STORE_BLOCK);
    if (store_open(log->memory, &options, &log->store, &found, error) != 0) {
        fprintf(stderr, "wal: %s\n", error);
        return false;
    }
    struct store_request *requests[] = {&log->request, &log->snapshot, &log->hard};
    if (store_register_buffers(log->store, requests, 3) == 0) return true;
    fprintf(stderr, "wal: the buffers cannot be registered\n");
    return false;
}

static void append_teardown(void *context) {
    struct log *log = context;
    if (log->store != NULL) store_close(log->store);
    if (log->disk != NULL) log->disk->ops->close(log->disk);
    if (log->directory[0] != 0) remove_directory(log->directory);
    free(log->memory);
    free(log->snapshot.data);
    free(log->hard.data);
    build_teardown(log);
}

static void *append_setup(uint64_t entries) {
    struct log *log = build_setup(entries);
    if (log == NULL) return NULL;
    log->snapshot.type = STORE_SNAPSHOT_WRITE;
    log->hard.type = STORE_HARD_STATE;
    if (!open_store(log)) {
        append_teardown(log);
        return NULL;
    }
    log->hard.hard_state.term = TERM; // term comes before any entry, as in a node's life
    finish(log, &log->hard);
    return log;
}

// A snapshot of one block when half of the ring is in use: it frees the segments. Once in some two
// thousand appends, so that its own two writes do not count.
static void make_room(struct log *log) {
    if (store_wal_used_percent(log->store) < 50) return;
    log->snapshot.bytes = STORE_BLOCK;
    log->snapshot.snapshot.index = log->index;
    log->snapshot.snapshot.term = TERM;
    log->snapshot.snapshot.time_ns = log->index;
    log->snapshot.snapshot.offset = 0;
    log->snapshot.snapshot.final = true;
    finish(log, &log->snapshot);
}

static void append_run(void *context, uint64_t iterations) {
    struct log *log = context;
    for (uint64_t i = 0; i < iterations; i++) {
        build(log);
        assert(log->request.bytes <= STORE_BLOCK);
        finish(log, &log->request);
        make_room(log);
    }
}

void bench_wal(void) {
    static const struct bench build_batch = {.name = "wal/batch_build",
                                             .setup = build_setup,
                                             .run = build_run,
                                             .teardown = build_teardown,
                                             .argument_count = 3,
                                             .arguments = {1, 32, 256}};
    static const struct bench durable = {.name = "wal/append_durable_4k",
                                         .setup = append_setup,
                                         .run = append_run,
                                         .teardown = append_teardown,
                                         .items = 1,
                                         .argument_count = 1,
                                         .arguments = {16}};
    bench_register(&build_batch);
    bench_register(&durable);
}
