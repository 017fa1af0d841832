// What a power cut does to names: a file or directory whose directory was not synced after it was
// made is gone. Replaces fsync() in the program it is linked into, to know what was synced; the
// real one is called too.
#ifndef CONCLAVE_TEST_DURABLE_NAMES_H
#define CONCLAVE_TEST_DURABLE_NAMES_H

// Takes away, below this directory, every name that is not durable.
void durable_names_power_cut(const char *directory);
void durable_names_remove(const char *directory); // with all that is in it

#endif
