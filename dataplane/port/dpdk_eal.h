// DPDK's environment abstraction layer (EAL), brought up once per process from one string.
#ifndef CONCLAVE_DPDK_EAL_H
#define CONCLAVE_DPDK_EAL_H

#include <stdbool.h>

// Initialises EAL at the first call; later calls succeed if they ask for the same or for nothing
// (NULL). False with a sentence in error.
//
// What is added to `arguments` unless it says so itself: `-l <this thread's first processor>`,
// since EAL would start a sleeping thread per processor and Conclave makes its own; and
// `--log-level warning`, or what CONCLAVE_EAL_LOG in the environment asks for (`debug`, `info`,
// `lib.eal:debug` ...). The caller's processor affinity, which EAL narrows to one core, is put
// back.
bool dpdk_eal_start(const char *arguments, char error[256]);

// Non-EAL threads need an lcore id before they touch mempools with caches: gives the calling thread
// one, if it has none. Cheap after the first time.
void dpdk_eal_adopt_thread(void);

#endif
