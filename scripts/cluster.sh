# Three real conclaved processes to try things on; sourced by scripts/demo and the cluster tests.
# shellcheck shell=bash
#
# With port dpdk each node polls veths of its own through net_af_packet (or net_af_xdp) in a network
# namespace made for the purpose; clients use ordinary sockets there. CLUSTER_LINKS says how they are
# joined: `bridge`, one veth a node and a switch, or `mesh`, a veth between each two nodes and from
# each to the clients, as cables between dedicated cards would be. With port udp everything is on
# loopback. Only processes started here are ended, by their ids.

BIN=${BIN:-$PWD/build}
CLUSTER_NODES=${CLUSTER_NODES:-3}
CLUSTER_LINKS=${CLUSTER_LINKS:-bridge}
declare -A CLUSTER_PID

# cluster_init PORT DURABILITY [DRIVER]: directories, network, configurations.
cluster_init() {
    CLUSTER_PORT=$1 CLUSTER_DURABILITY=$2 CLUSTER_DRIVER=${3:-net_af_packet}
    mkdir -p "$BIN"
    CLUSTER_DIR=$(mktemp -d "$BIN/cluster.XXXXXX")
    CLUSTER_NS="" CLUSTER_HUGE=""
    local i base=$((20000 + $$ % 20000)) nodes=""
    ENDPOINTS=""
    for i in $(seq "$CLUSTER_NODES"); do
        local at
        if [ "$CLUSTER_PORT" = dpdk ]; then at="10.77.0.$i:7100"; else at="127.0.0.1:$((base + i))"; fi
        nodes="$nodes${nodes:+, }$i@$at"
        ENDPOINTS="$ENDPOINTS${ENDPOINTS:+,}$at"
    done
    export CONCLAVE_ENDPOINTS=$ENDPOINTS
    if [ "$CLUSTER_PORT" = dpdk ]; then cluster_network; fi
    for i in $(seq "$CLUSTER_NODES"); do cluster_config "$i" "$nodes" > "$CLUSTER_DIR/node$i.ini"; done
}

cluster_network() {
    CLUSTER_NS=conclave-$$
    ip netns add "$CLUSTER_NS"
    ip -n "$CLUSTER_NS" link set lo up
    ip -n "$CLUSTER_NS" link add sink0 type bridge
    "cluster_$CLUSTER_LINKS"
    cluster_hugepages
}

# cluster_veth NUMBER NODE-SIDE OTHER-SIDE: a link whose one end a DPDK port will poll.
cluster_veth() {
    # DPDK's af_packet names its fanout group by process id XOR interface index, and two equal names
    # on two interfaces are an error: indices far apart keep processes started one after the other
    # from meeting.
    ip -n "$CLUSTER_NS" link add "$2" index $(($1 << 12)) type veth peer name "$3"
    cluster_polled "$2"
}

# The node's port sees a packet first; as a port of a switch that is down its way ends there. Else
# the kernel would look for a route for each before it drops it.
cluster_polled() {
    ip netns exec "$CLUSTER_NS" sysctl -qw "net.ipv6.conf.$1.disable_ipv6=1"
    if [ -z "${NO_SINK:-}" ]; then ip -n "$CLUSTER_NS" link set "$1" master sink0; fi
    ip -n "$CLUSTER_NS" link set "$1" up
}

cluster_bridge() {
    local i
    # A plain switch: no netfilter, no snooping. They cost microseconds a packet.
    ip -n "$CLUSTER_NS" link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 \
        nf_call_iptables 0 nf_call_ip6tables 0 nf_call_arptables 0
    ip netns exec "$CLUSTER_NS" sysctl -qw net.bridge.bridge-nf-call-iptables=0 \
        net.bridge.bridge-nf-call-ip6tables=0 net.bridge.bridge-nf-call-arptables=0 2> /dev/null || true
    ip -n "$CLUSTER_NS" addr add 10.77.0.254/24 dev br0
    ip -n "$CLUSTER_NS" link set br0 up
    # One veth per node, and one more for a client or a ping-pong on a DPDK port of its own.
    for i in $(seq $((CLUSTER_NODES + 1))); do
        cluster_veth "$i" "d$i" "b$i"
        ip -n "$CLUSTER_NS" link set "b$i" master br0 up
    done
}

# Node i polls d$i, which leads to the clients, and p$i$j for each other node j.
cluster_mesh() {
    local i j number=$CLUSTER_NODES
    ip -n "$CLUSTER_NS" addr add 10.77.0.254/32 dev lo
    for i in $(seq "$CLUSTER_NODES"); do
        cluster_veth "$i" "d$i" "c$i"
        ip -n "$CLUSTER_NS" link set "c$i" up
        ip -n "$CLUSTER_NS" route add "10.77.0.$i/32" dev "c$i" src 10.77.0.254
        for j in $(seq $((i - 1))); do
            number=$((number + 2))
            ip -n "$CLUSTER_NS" link add "p$i$j" index $(((number - 1) << 12)) type veth \
                peer name "p$j$i" index $((number << 12))
            cluster_polled "p$i$j"
            cluster_polled "p$j$i"
        done
    done
}

# Interfaces node $1 polls.
cluster_links() {
    local j
    echo "d$1"
    [ "$CLUSTER_LINKS" = mesh ] || return 0
    for j in $(seq "$CLUSTER_NODES"); do [ "$j" = "$1" ] || echo "p$1$j"; done
}

# Two-megabyte pages for the nodes, given back at the end; where there are none, --no-huge does.
cluster_hugepages() {
    local file=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages wanted=192
    [ -w $file ] || return 0
    CLUSTER_HUGE=$(cat $file)
    [ "$CLUSTER_HUGE" -ge $wanted ] || echo $wanted > $file 2>/dev/null || true
}

# cluster_eal NUMBER: EAL arguments for the port of node NUMBER.
cluster_eal() {
    local memory="--in-memory" free link more="" vdevs="" number=0
    free=$(awk '/HugePages_Free/ {print $2}' /proc/meminfo)
    [ "${free:-0}" -ge 40 ] || memory="--no-huge -m 96 --file-prefix conclave-$$-$1"
    [ "$CLUSTER_DRIVER" = net_af_packet ] && more=",qdisc_bypass=1"
    # Without: a system call for each empty poll, to ask the kernel to look into a queue of its own.
    [ "$CLUSTER_DRIVER" = net_af_xdp ] && more=",busy_budget=0"
    for link in $(cluster_links "$1"); do
        vdevs="$vdevs --vdev $CLUSTER_DRIVER$number,iface=$link$more"
        number=$((number + 1))
    done
    echo "$memory --no-pci --no-telemetry$vdevs"
}

# cluster_devices NUMBER: the names of what cluster_eal brings up.
cluster_devices() {
    local number=0 names=""
    for _ in $(cluster_links "$1"); do
        names="$names${names:+, }$CLUSTER_DRIVER$number"
        number=$((number + 1))
    done
    echo "$names"
}

# CLUSTER_PIN=1: each node's stages share a thread bound to one CPU, the nodes dealt out over all.
# Left to itself the scheduler now and then puts all three on one for seconds.
cluster_cpus() {
    local cpu=$(($1 % $(nproc)))
    [ "${CLUSTER_PIN:-0}" = 0 ] || printf 'port = %s\nconsensus = %s\nwal = %s\n' $cpu $cpu $cpu
}

cluster_config() {
    local i=$1 nodes=$2
    cat << INI
[cluster]
id = 0xc0c1
nodes = $nodes

[node]
id = $i
data_dir = $CLUSTER_DIR/data$i
durability = $CLUSTER_DURABILITY

[topology]
idle = yield
$(cluster_cpus "$i")

[raft]
log_size = ${CLUSTER_LOG:-16MiB}

[wal]
segment_size = ${CLUSTER_SEGMENT:-16MiB}
segments = 4
INI
    if [ "$CLUSTER_PORT" = dpdk ]; then
        printf '\n[port]\ntype = dpdk\neal = %s\ndevice = %s\n' "$(cluster_eal "$i")" "$(cluster_devices "$i")"
    else
        printf '\n[port]\ntype = udp\n'
    fi
}

cluster_port_words() {
    if [ "$CLUSTER_PORT" = dpdk ]; then
        echo "DPDK ($CLUSTER_DRIVER on veth, $CLUSTER_LINKS)"
    else
        echo "kernel UDP on loopback"
    fi
}

in_net() {
    if [ -n "$CLUSTER_NS" ]; then ip netns exec "$CLUSTER_NS" "$@"; else "$@"; fi
}
conclave() { in_net "$BIN/client/conclave" "$@"; }

cluster_start() {
    local i
    for i in "$@"; do
        if [ -n "$CLUSTER_NS" ]; then # exec, so that the id is conclaved's own
            ip netns exec "$CLUSTER_NS" "$BIN/dataplane/conclaved" --config "$CLUSTER_DIR/node$i.ini" \
                >> "$CLUSTER_DIR/node$i.log" 2>&1 &
        else
            "$BIN/dataplane/conclaved" --config "$CLUSTER_DIR/node$i.ini" >> "$CLUSTER_DIR/node$i.log" 2>&1 &
        fi
        CLUSTER_PID[$i]=$!
    done
}

cluster_signal() {
    local signal=$1 i
    shift
    for i in "$@"; do
        if [ -n "${CLUSTER_PID[$i]:-}" ]; then kill "-$signal" "${CLUSTER_PID[$i]}" 2>/dev/null || true; fi
    done
}
cluster_reap() {
    local i
    for i in "$@"; do
        if [ -n "${CLUSTER_PID[$i]:-}" ]; then wait "${CLUSTER_PID[$i]}" 2>/dev/null || true; fi
        unset "CLUSTER_PID[$i]"
    done
}
cluster_kill() { cluster_signal KILL "$@"; cluster_reap "$@"; }
cluster_stop() { cluster_signal TERM "$@"; cluster_reap "$@"; }

# Node id of the leader, empty if nobody says so.
cluster_leader() {
    conclave status --timeout 1s -w json 2>/dev/null |
        jq -r '[.. | objects | select(.role? == "leader") | .node][0] // empty' 2>/dev/null
}

# wait_for SECONDS WHAT COMMAND...: until COMMAND succeeds.
wait_for() {
    local limit=$1 what=$2 start=$SECONDS
    shift 2
    until "$@"; do
        if [ $((SECONDS - start)) -ge "$limit" ]; then
            tail -n 5 "$CLUSTER_DIR"/node*.log >&2 || true
            die "no sign of $what within $limit s; the nodes' last words are above"
        fi
        sleep 0.05
    done
}
cluster_has_leader() { [ -n "$(cluster_leader)" ]; }
cluster_wait_leader() { wait_for 20 "a leader" cluster_has_leader; }
cluster_wait_settled() { cluster_wait_leader; sleep 1; }

holder_token() { conclave holders "$1" -w json | jq -r '[.. | objects | .token? // empty][0] // 0'; }
json_number() { jq -r ".$2" "$1"; }

# The port's own round trip, same driver and bridge, nothing behind it. Arguments go to the measuring
# side.
cluster_pingpong() {
    local server
    touch "$CLUSTER_DIR/pingpong.log"
    if [ "$CLUSTER_PORT" = dpdk ]; then
        in_net "$BIN/bench/pingpong" serve --port dpdk --listen 10.77.0.1:7100 --eal "$(cluster_eal 1)" \
            --device "$(cluster_devices 1)" \
            --seconds 60 > "$CLUSTER_DIR/pingpong.log" 2>&1 &
        server=$!
        wait_for 15 "the ping-pong server" grep -q serving "$CLUSTER_DIR/pingpong.log"
        in_net "$BIN/bench/pingpong" measure --port udp --peer 10.77.0.1:7100 --rounds 20000 "$@" 2> /dev/null
    else
        "$BIN/bench/pingpong" serve --port udp --listen 127.0.0.1:$((19000 + $$ % 1000)) --seconds 60 \
            > "$CLUSTER_DIR/pingpong.log" 2>&1 &
        server=$!
        wait_for 15 "the ping-pong server" grep -q serving "$CLUSTER_DIR/pingpong.log"
        "$BIN/bench/pingpong" measure --port udp --peer 127.0.0.1:$((19000 + $$ % 1000)) --rounds 20000 "$@" 2> /dev/null
    fi
    kill $server 2>/dev/null || true
    wait $server 2>/dev/null || true
}

cluster_remove() {
    local i
    cluster_kill "${!CLUSTER_PID[@]}"
    for i in $(jobs -p); do kill "$i" 2>/dev/null || true; done
    if [ -n "${CLUSTER_NS:-}" ]; then ip netns del "$CLUSTER_NS" 2>/dev/null || true; fi
    if [ -n "${CLUSTER_HUGE:-}" ]; then
        echo "$CLUSTER_HUGE" > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages 2>/dev/null || true
    fi
    if [ -z "${CLUSTER_KEEP:-}" ]; then rm -rf "$CLUSTER_DIR"; fi
}
