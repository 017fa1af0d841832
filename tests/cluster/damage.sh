#!/usr/bin/env bash
# Bytes rot on the disks of nodes that are down: in the tail of a WAL, in its middle, in one copy of
# term and vote. A node with damage either cuts what was never acknowledged or is brought up to date
# by the others before it votes again; nothing acknowledged is lost.
#
#   tests/cluster/damage.sh BUILD udp|dpdk [DRIVER]
. "$(dirname "$0")/begin.sh"
cluster_test_begin "$@"

rot() { # FILE OFFSET BYTES
    dd if=/dev/urandom of="$1" bs=1 seek="$2" count="$3" conv=notrunc status=none
}
# Offset of the last 4 KiB block of the file that is not all zeros.
last_block() {
    python3 - "$1" << 'PY'
import sys
data = open(sys.argv[1], "rb").read()
at = len(data) - 4096
while at > 0 and not data[at:at + 4096].strip(b"\0"):
    at -= 4096
print(at)
PY
}
segment_in_use() { # NODE: the segment written last
    ls -t "$CLUSTER_DIR/data$1"/wal-*.seg | head -n 1
}

ledger_start 60
sleep 2
node=$(a_follower)
say "node $node: the tail of its WAL rots while it is down"
cluster_kill "$node"
segment=$(segment_in_use "$node")
at=$(last_block "$segment")
rot "$segment" $((at + 100)) 64
cluster_start "$node"
wait_for 20 "node $node to catch up" caught_up "$node"

node=$(a_follower)
say "node $node: the middle of its WAL rots"
cluster_kill "$node"
segment=$(segment_in_use "$node")
at=$(($(last_block "$segment") / 2 / 4096 * 4096))
rot "$segment" $((at + 40)) 200
cluster_start "$node"
wait_for 20 "node $node to catch up" caught_up "$node"

node=$(a_follower)
say "node $node: one copy of term and vote rots"
cluster_kill "$node"
rot "$CLUSTER_DIR/data$node/hard-state" 16 64
cluster_start "$node"
wait_for 20 "node $node to catch up" caught_up "$node"

# The newest batch on one disk looks the same whether it was torn or has rotted: it is cut. That is no
# loss as long as another node that votes has it, so here all have what was acknowledged when the
# leader's copy rots (docs/verification.md tells what happens otherwise).
say "the leader's WAL tail rots, all three restart"
node=$(cluster_leader)
kill -STOP "$LEDGER"
level() {
    [ "$(conclave status -w json | jq -r '[.. | objects | select(.role?) | .durable] | unique | length')" = 1 ]
}
wait_for 10 "all nodes to have the same log" level
cluster_kill 1 2 3
segment=$(segment_in_use "$node")
at=$(last_block "$segment")
rot "$segment" $((at + 100)) 64
cluster_start 1 2 3
cluster_wait_leader
kill -CONT "$LEDGER"
wait_for 20 "node $node to catch up" caught_up "$node"

ledger_stop
states_equal
cluster_test_end
