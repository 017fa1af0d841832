// The C face of Google Benchmark. A C file describes its benchmarks and registers them; the harness
// runs each for as long as needed and prints the table. harness.cc is the only C++ in the project.
//
// A benchmark is a loop of the C file's own: run() is told how many times to do its thing, so that
// nothing is called per iteration that is not measured. setup() is called once per argument, not
// once per run: run() is called several times with growing counts until its time is long enough,
// and has to leave the context fit for the next call.
//
// What is reported is wall time, because two of the benchmarks have a second thread and one waits
// for a disk.
#ifndef CONCLAVE_BENCH_HARNESS_H
#define CONCLAVE_BENCH_HARNESS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BENCH_ARGUMENTS_MAX 4u

struct bench {
    const char *name; // "area/what"; the argument follows it: "area/what/32"
    // NULL: it could not be set up, after a sentence on stderr. The program then ends with
    // status 1.
    void *(*setup)(uint64_t argument);
    void (*run)(void *context, uint64_t iterations);
    void (*teardown)(void *context); // NULL: free()
    uint64_t items;                  // per iteration; 0: as many as the argument says
    uint32_t argument_count;         // 0: run once, with argument 0
    uint64_t arguments[BENCH_ARGUMENTS_MAX];
};

// `bench` is kept by reference.
void bench_register(const struct bench *bench);
// Keeps the compiler from dropping the computation of what `pointer` points to.
static inline void bench_keep(const void *pointer) {
    __asm__ volatile("" : : "r"(pointer) : "memory");
}

// One per C file; main() in harness.cc calls them in this order.
void bench_ring(void);
void bench_wire(void);
void bench_raft(void);
void bench_lock(void);
void bench_wal(void);

#ifdef __cplusplus
}
#endif

#endif
