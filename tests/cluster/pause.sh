#!/usr/bin/env bash
# SIGSTOP of the leader for five seconds: the others elect another, the books stay right, and the
# one that wakes up believes neither its old leadership nor the leases it could have ended.
#
#   tests/cluster/pause.sh BUILD udp|dpdk [DRIVER]
. "$(dirname "$0")/begin.sh"
cluster_test_begin "$@"

ledger_start 30
sleep 1
old=$(cluster_leader)
say "SIGSTOP of the leader, node $old, for 5 s"
cluster_signal STOP "$old"
sleep 2
new=$(cluster_leader)
[ -n "$new" ] && [ "$new" != "$old" ] || die "no other leader within 2 s: '$new'"
say "node $new leads meanwhile"
token=$(conclave lock pause/while-stopped --ttl 5s --wait 5s -- printenv CONCLAVE_TOKEN)
say "a lock was granted meanwhile, token $token"
sleep 3
cluster_signal CONT "$old"
sleep 1
now=$(cluster_leader)
[ -n "$now" ] || die "no leader after node $old woke up"
[ "$(counter "$old" raft.terms_led)" -ge 1 ] || die "node $old never led"
ledger_stop
states_equal
cluster_test_end
