#!/usr/bin/env bash
# Garbage, truncated, oversized, damaged and foreign packets, at nodes that serve a client
# meanwhile: nobody stops, nothing changes, and every packet is counted by what was wrong with it.
#
#   tests/cluster/garbage.sh BUILD udp|dpdk [DRIVER]
. "$(dirname "$0")/begin.sh"
cluster_test_begin "$@"

ledger_start 60
in_net python3 tests/cluster/garbage.py "$ENDPOINTS" 6000
ledger_stop

dropped() { # NODE COUNTER...: their sum
    local node=$1 sum=0 name
    shift
    for name in "$@"; do sum=$((sum + $(counter "$node" "$name"))); done
    echo "$sum"
}
for node in 1 2 3; do
    for name in frame.bad_magic frame.bad_version frame.bad_length frame.bad_checksum \
        frame.bad_cluster frame.bad_message; do
        [ "$(counter "$node" "$name")" -gt 0 ] || die "node $node: $name is 0 after all that garbage"
    done
    short=$(dropped "$node" frame.bad_short port.rx_drop_short)
    [ "$short" -gt 0 ] || die "node $node: no short packet was counted"
    long=$(dropped "$node" port.rx_drop_oversize port.rx_drop_fragment)
    [ "$long" -gt 0 ] || die "node $node: no oversized packet was counted"
    refused=$(dropped "$node" node.bad_request node.drop_source node.drop_type)
    [ "$refused" -gt 0 ] || die "node $node: no well-framed nonsense was refused"
    say "node $node counted: $short short, $long long, $(counter "$node" frame.bad_checksum) damaged," \
        "$(counter "$node" frame.bad_cluster) foreign, $refused nonsense"
done
states_equal
cluster_test_end
