# What the cluster tests share; sourced by each with its arguments.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

skip() {
    echo "SKIPPED: $(basename "$0" .sh): $*" >&2
    exit 77
}

# cluster_test_prepare BUILD PORT [DRIVER]: everything but starting the nodes.
cluster_test_prepare() {
    BIN=$(cd "$1" && pwd)
    local port=$2 driver=${3:-net_af_packet}
    . scripts/lib.sh
    . scripts/cluster.sh
    MOUNTS='' LEDGER=''
    if [ "$port" = dpdk ] && [ "$(id -u)" != 0 ]; then skip "DPDK ports need root"; fi
    export LIBXDP_SKIP_DISPATCHER=1
    trap cluster_test_clean EXIT
    cluster_init "$port" disk "$driver"
    say "three nodes over $(cluster_port_words)"
}
cluster_test_begin() {
    cluster_test_prepare "$@"
    cluster_start 1 2 3
    cluster_wait_leader
}
# A ring's files are let go a moment after its process is gone.
unmount() {
    local try
    for try in $(seq 50); do
        findmnt "$1" > /dev/null || return 0
        umount "$1" 2> /dev/null || sleep 0.1
    done
    echo "  $1 is still mounted after $try tries" >&2
}
cluster_test_clean() {
    local status=$? directory
    if [ $status != 0 ] && [ $status != 77 ] && [ -n "${CLUSTER_DIR:-}" ]; then
        conclave status -w table >&2 || true
        conclave counters >&2 || true
        tail -n 8 "$CLUSTER_DIR"/*.log >&2 || true
    fi
    if [ -n "$LEDGER" ]; then kill -KILL "$LEDGER" 2> /dev/null || true; fi
    cluster_kill "${!CLUSTER_PID[@]}"
    for directory in $MOUNTS; do unmount "$directory"; done
    cluster_remove
    return $status
}

# The books: one client that takes and gives back locks while everything else happens.
ledger_start() { # SECONDS at most
    # shellcheck disable=SC2046 # words; not in_net, so that the id is the ledger's own
    $([ -z "$CLUSTER_NS" ] || echo ip netns exec "$CLUSTER_NS") \
        "$BIN/tests/cluster/ledger" "$ENDPOINTS" "$1" \
        > "$CLUSTER_DIR/ledger.json" 2> "$CLUSTER_DIR/ledger.log" &
    LEDGER=$!
}
ledger_stop() {
    kill -TERM "$LEDGER" 2> /dev/null || true
    local status=0
    wait "$LEDGER" || status=$?
    sed 's/^/  ledger: /' "$CLUSTER_DIR/ledger.json"
    [ $status = 0 ] || die "the books and the cluster differ: see ledger.log below"
}

# A counter of one node since its start, by the name that 'conclave counters' shows.
counter() { # NODE NAME
    conclave counters -e "$(cut -d, -f"$1" <<< "$ENDPOINTS")" -w json | jq -r --arg name "$2" \
        '.nodes[0].counters[$name] // 0'
}
a_follower() {
    conclave status -w json | jq -r '[.. | objects | select(.role? == "follower") | .node][0]'
}
running() { kill -0 "${CLUSTER_PID[$1]}" 2> /dev/null; }
status_field() { # NODE FIELD
    conclave status -w json 2> /dev/null |
        jq -r --argjson node "$1" --arg field "$2" \
            '[.. | objects | select(.node? == $node and .role?) | .[$field]][0] // 0'
}
caught_up() { # NODE: within a few entries of the leader
    local leader applied
    leader=$(cluster_leader)
    [ -n "$leader" ] || return 1
    applied=$(status_field "$leader" applied)
    [ "$applied" -gt 0 ] && [ $(($(status_field "$1" applied) + 500)) -ge "$applied" ]
}

# All nodes at the same index with the same hash. Ticks move the index, so a few tries may be needed.
states_equal() {
    local try lines
    for try in $(seq 60); do
        lines=$(conclave status -w json | jq -r \
            '[.. | objects | select(.role?) | "\(.applied) \(.state_hash)"] | unique | .[]')
        if [ "$(printf '%s\n' "$lines" | wc -l)" = 1 ]; then
            say "all nodes have the same state: applied and hash $lines (try $try)"
            return 0
        fi
        sleep 0.1
    done
    conclave status -w table || true
    die "the nodes' states are not equal after 6 s: $lines"
}
cluster_test_end() {
    local i
    for i in "${!CLUSTER_PID[@]}"; do running "$i" || die "node $i is not running at the end"; done
    say "well"
}
