// A fuzz target is one function over bytes. With -Dfuzz=true and clang, libFuzzer drives it;
// otherwise replay.c runs it over the committed corpus, as an ordinary test.
#ifndef CONCLAVE_FUZZ_H
#define CONCLAVE_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
