#!/usr/bin/env bash
# kill -9 of the leader, of a follower and of all three nodes while a client takes and gives back
# locks, and keeps books of what was acknowledged. Nothing acknowledged may be lost, no token may
# fall, no request may run twice, and at the end all nodes have the same state.
#
#   tests/cluster/kills.sh BUILD udp|dpdk [DRIVER]
. "$(dirname "$0")/begin.sh"
cluster_test_begin "$@"

ledger_start 60
sleep 1
leader=$(cluster_leader)
say "kill -9 of the leader, node $leader"
cluster_kill "$leader"
sleep 1
cluster_start "$leader"
sleep 1

follower=$(a_follower)
say "kill -9 of a follower, node $follower"
cluster_kill "$follower"
sleep 1
cluster_start "$follower"
sleep 1

say "kill -9 of all three"
cluster_kill 1 2 3
sleep 0.5
cluster_start 1 2 3
cluster_wait_leader
sleep 1

say "kill -9 of two at once, twice"
for round in 1 2; do
    leader=$(cluster_leader)
    other=$(a_follower)
    cluster_kill "$leader" "$other"
    sleep 0.3
    cluster_start "$leader" "$other"
    cluster_wait_leader
    sleep "0.$round"
done

ledger_stop
states_equal
cluster_test_end
