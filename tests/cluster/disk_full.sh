#!/usr/bin/env bash
# A disk that is full. Too small for the WAL at first start: a clear sentence and exit status 1.
# Full later: the WAL is allocated already, so only snapshots fail; they are counted, the node goes
# on, and recovers by itself when there is room again.
#
#   tests/cluster/disk_full.sh BUILD udp|dpdk [DRIVER]
# shellcheck disable=SC2034 # read by cluster_config
CLUSTER_SEGMENT=1MiB CLUSTER_LOG=1MiB
. "$(dirname "$0")/begin.sh"
[ "$(id -u)" = 0 ] || skip "needs root to mount a small file system"
cluster_test_prepare "$@"

small_disk() { # NODE SIZE-IN-MIB
    local image=$CLUSTER_DIR/disk$1.img directory=$CLUSTER_DIR/data$1
    dd if=/dev/zero of="$image" bs=1M count="$2" status=none
    mkfs.ext4 -q -m 0 -O ^has_journal "$image"
    mkdir -p "$directory"
    mount -o loop "$image" "$directory" || skip "cannot mount a loop device here"
    MOUNTS="$MOUNTS $directory"
}

say "node 1 on a disk of 3 MiB, with a WAL of 4"
small_disk 1 3
status=0
in_net timeout 20 "$BIN/dataplane/conclaved" --config "$CLUSTER_DIR/node1.ini" \
    > "$CLUSTER_DIR/too-small.log" 2>&1 || status=$?
sed 's/^/    /' "$CLUSTER_DIR/too-small.log" | tail -n 3
[ "$status" = 1 ] || die "exit status $status, expected 1"
grep -qiE 'no space|full|free' "$CLUSTER_DIR/too-small.log" || die "the message does not say that the disk is full"
umount "$CLUSTER_DIR/data1"
rm -rf "$CLUSTER_DIR/data1"

small_disk 3 16
cluster_start 1 2 3
cluster_wait_leader
say "node 3's disk fills up"
dd if=/dev/zero of="$CLUSTER_DIR/data3/filler" bs=64k status=none 2> /dev/null || true
# Small snapshots fit the files there are: let the state outgrow them.
for _ in $(seq 400); do conclave lease grant 10m > "$CLUSTER_DIR/lease.out"; done
say "400 leases make its snapshots larger than the disk has room for"
ledger_start 90
failed_snapshots() { [ "$(counter 3 node.snapshots_failed)" -gt 0 ]; }
wait_for 60 "a failed snapshot on node 3" failed_snapshots
running 3 || die "node 3 stopped"
say "snapshots fail there ($(counter 3 wal.snapshots_failed) so far), the cluster goes on"
rm "$CLUSTER_DIR/data3/filler"
before=$(counter 3 node.snapshots)
more_snapshots() { [ "$(counter 3 node.snapshots)" -gt "$before" ]; }
wait_for 60 "a snapshot on node 3 with room again" more_snapshots
say "with room again node 3 has taken $(($(counter 3 node.snapshots) - before)) more"
wait_for 20 "node 3 to catch up" caught_up 3
ledger_stop
states_equal
cluster_test_end
