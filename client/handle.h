// A handle: the engine, a UDP socket, CLOCK_BOOTTIME and the caller's callbacks.
#ifndef CONCLAVE_CLIENT_HANDLE_H
#define CONCLAVE_CLIENT_HANDLE_H

#include "core.h"
#include "endpoints.h"

struct handle_call {    // an operation of the caller, from start to its callback
    conclave_t *handle; // NULL: free
    conclave_done_fn done;
    void *context;
};

struct conclave {
    struct core *core;
    void *memory;
    int fd;
    bool calling_back; // inside conclave_process(): sending is left to its end
    int send_errno;    // of the last send, 0 if it went well
    uint64_t sends_failed;
    uint32_t call_count;
    struct handle_call *calls;
    void (*on_notice)(void *context, enum conclave_notice notice, uint64_t value);
    void *notice_context;
    struct endpoints endpoints;
    _Alignas(8) uint8_t frame[WIRE_FRAME_MAX + 8]; // a byte more than a frame shows as too long
};

uint64_t handle_now_ns(void);
void handle_flush(conclave_t *handle); // sends what is due; nothing from inside a callback
// Waits for a packet, a timer or so long, and processes. False: a signal cut the wait short.
bool handle_round(conclave_t *handle, uint64_t wait_ns);

#endif
