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
#include "sim_faults.h"

#define SIM_NODES_MAX   5u
#define SIM_CLIENTS_MAX 8u
#define SIM_MS          1000000ull
#define SIM_SECTOR      512u

struct sim;
struct sim_machine;

// ---------------------------------------------------------------- chance and trace (sim_world.c)
uint64_t sim_draw(struct sim *sim, uint64_t below); // 0 .. below - 1
bool sim_chance(struct sim *sim, uint32_t per_million);
// Adds to the trace hash and, with --verbose, prints a line with the simulated time.
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A broken rule: prints seed, rule and how to replay, and ends this life.
void sim_broken(struct sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

// ---------------------------------------------------------------- network (sim_net.c)
struct sim_net;
struct sim_net *sim_net_create(struct sim *sim);
void sim_net_destroy(struct sim_net *net);
// Owned by the net. The actor is told when a datagram is on its way.
struct port *sim_net_port(struct sim_net *net, uint64_t endpoint, uint32_t actor);
uint64_t sim_net_next(const struct port *port); // when the next one is there; UINT64_MAX: none
void sim_net_forget(struct sim_net *net, uint64_t endpoint);             // its machine crashed
void sim_net_cut(struct sim_net *net, uint64_t a, uint64_t b, bool cut); // a to b, one way
bool sim_net_is_cut(const struct sim_net *net, uint64_t a, uint64_t b);
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
struct disk *sim_disk_create(struct sim *sim, struct sim_machine *machine);
void sim_disk_destroy(struct disk *disk);
uint64_t sim_disk_next(const struct disk *disk); // when something completes; UINT64_MAX: nothing
// Power is lost: of every write in flight a random set of sectors survives.
void sim_disk_crash(struct disk *disk);
// No room: snapshots, the only files that grow, cannot be written.
void sim_disk_set_full(struct disk *disk, bool full);
void sim_disk_set_slow(struct disk *disk, uint64_t least_ns, uint64_t spread_ns);
void sim_disk_stall(struct disk *disk, uint64_t until_ns);
// A sector rots, or cannot be read until it is written again. False: nothing was there to damage.
bool sim_disk_damage(struct disk *disk, bool rot);
// The same of the newest batch of the log that leaves a trace when it is damaged so.
bool sim_disk_damage_newest(struct disk *disk, bool rot);
bool sim_disk_stalled(const struct disk *disk);
bool sim_disk_well(const struct disk *disk);   // it works, if slowly
bool sim_disk_faulty(const struct disk *disk); // it has failed or lied before
bool sim_disk_doomed(const struct disk *disk); // a durable write has failed: the node must stop
bool sim_disk_blind(const struct disk *disk);  // damage that leaves no trace: see sim_ledger.c

// For scenarios, which decide what the disk does. What is under way on files whose name begins so
// is held; NULL: nothing is. Of what is held, the oldest so many go on all the same.
void sim_disk_hold(struct disk *disk, const char *prefix);
void sim_disk_let_go(struct disk *disk, uint32_t count);
// The next write to such a file that would complete fails and leaves nothing.
void sim_disk_fail_next(struct disk *disk, const char *prefix);
// Power is lost: of every write in flight just the first so many sectors survive.
void sim_disk_crash_keeping(struct disk *disk, uint32_t sectors);
// The first bytes of a file; how many there were, 0: no such file.
uint64_t sim_disk_peek(struct disk *disk, const char *name, void *buffer, uint32_t bytes);
void sim_disk_poke(struct disk *disk, const char *name, uint64_t offset, uint8_t byte); // it rots

// ---------------------------------------------------------------- statistics
struct sim_stats {
    uint64_t faults[SIM_FAULTS]; // how often each struck
    uint64_t datagrams, cut_off, writes, no_space, sectors_torn;
    uint64_t restarts, stops, refused_starts, recoveries, spared, plots;
    uint64_t beyond, halted; // lives with damage anywhere, and those of them that ended so
    uint64_t busy;           // answers
    uint64_t slowest_ms;     // from healing to the last client's progress: a maximum, not a sum
    uint64_t requests, grants, reads, releases, refused, unknown, lost_leases, expired;
    uint64_t elections, applied;
    // Operations judged by the log's order, and by search; and those that could not be.
    uint64_t checked, unchecked, searched, not_searched;
    uint64_t histories_cut; // too long to be written down
    uint64_t mischief;      // stale and doubled releases, revokes while holding and the like
};

#endif
