// The simulator: a whole cluster of production code in one thread, driven by one seed.
//
// What is real: wire format, Raft core, state machine, store, stages, the client library's core.
// What is simulated, behind the interfaces that production uses: port (sim_net.c), disk
// (sim_disk.c), clock (virtual, with an offset and a drift per machine). The same seed gives the
// same life, down to its trace hash. What happened is checked while it happens (sim_check.c).
#ifndef CONCLAVE_SIM_H
#define CONCLAVE_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "disk.h"
#include "node.h"
#include "port/port.h"

#define SIM_NODES_MAX   5u
#define SIM_CLIENTS_MAX 8u
#define SIM_MS          1000000ull
#define SIM_SECTOR      512u

struct sim;

// ---------------------------------------------------------------- chance and trace (sim_world.c)
uint64_t sim_draw(struct sim *sim, uint64_t below); // 0 .. below - 1
bool sim_chance(struct sim *sim, uint32_t per_million);
// Adds to the trace hash and, with --verbose, prints a line with the simulated time.
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A broken rule: prints seed, rule and how to replay, and ends this life.
void sim_broken(struct sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

// ---------------------------------------------------------------- network (sim_net.c)
struct sim_net_faults { // per million datagrams; drawn per seed
    uint32_t lose;
    uint32_t twice;
    uint32_t late; // overtaken by others
    uint32_t flip; // one bit
};
struct sim_net;
struct sim_net *sim_net_create(struct sim *sim);
void sim_net_destroy(struct sim_net *net);
void sim_net_set_faults(struct sim_net *net, const struct sim_net_faults *faults);
struct port *sim_net_port(struct sim_net *net, uint64_t endpoint);       // owned by the net
void sim_net_forget(struct sim_net *net, uint64_t endpoint);             // its machine crashed
void sim_net_cut(struct sim_net *net, uint64_t a, uint64_t b, bool cut); // a to b, one way
void sim_net_heal(struct sim_net *net);
void sim_net_send(struct sim_net *net, uint64_t from, uint64_t to, const void *bytes,
                  uint32_t length);
// Asked for each datagram that is sent; false: it is not delivered, and the asker may have kept it.
typedef bool (*sim_net_filter)(void *context, uint64_t from, uint64_t to, const void *bytes,
                               uint32_t length);
void sim_net_set_filter(struct sim_net *net, sim_net_filter filter, void *context);
// Delivers one that was kept, whatever is cut by now.
void sim_net_inject(struct sim_net *net, uint64_t from, uint64_t to, const void *bytes,
                    uint32_t length);
// Length of the next datagram for this endpoint that has arrived, 0: none.
uint32_t sim_net_receive(struct sim_net *net, uint64_t to, uint64_t *from, void *bytes,
                         uint32_t capacity);

// ---------------------------------------------------------------- disk (sim_disk.c)
struct disk *sim_disk_create(struct sim *sim);
void sim_disk_destroy(struct disk *disk);
// Power is lost: of every write in flight a random set of sectors survives.
void sim_disk_crash(struct disk *disk);
// No room: snapshots, the only files that grow, cannot be written.
void sim_disk_set_full(struct disk *disk, bool full);
void sim_disk_set_slow(struct disk *disk, uint64_t least_ns, uint64_t spread_ns);

// For scenarios, which decide what the disk does. What is under way on files whose name begins so
// is held; NULL: nothing is. Of what is held, the oldest so many go on all the same.
void sim_disk_hold(struct disk *disk, const char *prefix);
void sim_disk_let_go(struct disk *disk, uint32_t count);
// The next write to such a file that would complete fails and leaves nothing.
void sim_disk_fail_next(struct disk *disk, const char *prefix);
// Power is lost: of every write in flight just the first so many sectors survive.
void sim_disk_crash_keeping(struct disk *disk, uint32_t sectors);
uint8_t *sim_disk_file(struct disk *disk, const char *name, uint64_t *size); // NULL: no such

// ---------------------------------------------------------------- statistics
struct sim_stats {
    uint64_t datagrams, lost, doubled, delayed, flipped, cut;
    uint64_t writes, sectors_torn, no_space;
    uint64_t crashes, ambushes, restarts, all_down, pauses, partitions, full_disks;
    uint64_t requests, grants, reads, releases, refused, unknown, lost_leases, expired;
    uint64_t elections, applied;
};

#endif
