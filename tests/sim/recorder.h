// Writes down what passes the edge of each client, and what the cluster commits: see history.h.
#ifndef CONCLAVE_SIM_RECORDER_H
#define CONCLAVE_SIM_RECORDER_H

#include "history.h"

#define RECORDER_CLIENTS 16u
#define RECORDER_OPEN    256u // far more than can be open

struct recorder {
    struct history *history;
    struct {
        // By sequence: operation and one; 0: none. Changes and reads have sequences of their own.
        uint32_t changes[RECORDER_OPEN], reads[RECORDER_OPEN];
        struct {
            uint64_t claim;
            uint8_t name;
        } claims[RECORDER_OPEN]; // queued: an event does not say under which name
    } clients[RECORDER_CLIENTS];
};

// A new program under this number: it knows nothing of what its predecessor asked.
void recorder_begin(struct recorder *recorder, uint8_t client);
void recorder_sent(struct recorder *recorder, uint8_t client, uint64_t now_ns, const void *frame);
// Damaged frames are passed over.
void recorder_received(struct recorder *recorder, uint8_t client, uint64_t now_ns,
                       const void *bytes, uint32_t length);
void recorder_committed(struct recorder *recorder, uint64_t index, uint64_t term, uint64_t time_ns,
                        uint8_t type, const void *data);

#endif
