#!/usr/bin/env bash
# DPDK ports over real (virtual) devices: a node in one network namespace, in the other first an
# ordinary kernel socket, then a second DPDK process. Checks ARP, ICMP echo, round trips, that the
# kernel's partial checksums are accepted, and a restart after kill -9; prints p50 of each ping-pong.
#
#   tests/cluster/port_veth.sh BUILD/bench/pingpong
#
# Needs root for namespaces and devices; without it says so and exits 77 ("skipped" to meson). Makes
# its own namespaces and removes them; uses hugepages if 64 of 2 MiB are free, never reserves any.
set -u
pingpong=${1:?usage: port_veth.sh BUILD/bench/pingpong}
rounds=${ROUNDS:-3000}
id=$$
a=cpv$id-a b=cpv$id-b
scratch=$(mktemp -d)
server=
failures=0
export LIBXDP_SKIP_DISPATCHER=1

skip() { echo "SKIPPED: port_veth: $*" >&2; rm -rf "$scratch"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root (network namespaces, raw devices)"
ip netns add "$a" 2>/dev/null || skip "cannot make network namespaces here"

clean_up() {
  [ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null
  ip netns del "$a" 2>/dev/null
  ip netns del "$b" 2>/dev/null
  rm -rf "$scratch" "/var/run/dpdk/cpv$id"? # EAL leaves its run-time directories behind
}
trap clean_up EXIT

ip netns add "$b" || exit 1
ip link add va netns "$a" type veth peer name vb netns "$b" || exit 1
for ns in "$a" "$b"; do
  # No IPv6 chatter on the wire; no offloads are changed: the partial checksums are the point.
  ip netns exec "$ns" sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6' 2>/dev/null
  ip -n "$ns" link set lo up
done
ip -n "$a" link set va up
ip -n "$b" link set vb up

check() { # what, command...
  local what=$1
  shift
  if "$@" > "$scratch/out" 2> "$scratch/err"; then
    printf '  ok    %-34s %s\n' "$what" "$(head -n 1 "$scratch/out")"
  else
    failures=$((failures + 1))
    printf '  FAIL  %s\n' "$what"
    sed 's/^/        /' "$scratch/out" "$scratch/err"
  fi
}

# Serves 10.77.0.1:7000 in $a and waits until it says so.
start_server() { # EAL arguments
  ip netns exec "$a" "$pingpong" serve --port dpdk --listen 10.77.0.1:7000 --eal "$1" \
    2> "$scratch/server" &
  server=$!
  for _ in $(seq 100); do
    grep -q 'pingpong: serving' "$scratch/server" && return 0
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  cat "$scratch/server"
  return 1
}

stop_server() {
  kill "$server" 2>/dev/null
  wait "$server" 2>/dev/null
  server=
}

counter() { sed -n "s/^  $1 //p" "$scratch/server"; }

measure() { ip netns exec "$b" "$pingpong" measure --peer 10.77.0.1:7000 --rounds "$rounds" "$@"; }

# ICMP echo with 56 and 1472 bytes; without a ping program, by hand.
ping_node() {
  if command -v ping > /dev/null; then
    ip netns exec "$b" ping -q -c 2 -W 1 -s "$1" 10.77.0.1
    return
  fi
  ip netns exec "$b" python3 - "$1" <<'PING'
import os, socket, struct, sys
size = int(sys.argv[1])
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(1)
body = os.urandom(size)
head = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xffff, 1)
head = struct.pack("!BBHHH", 8, 0, checksum(head + body), os.getpid() & 0xffff, 1)
s.sendto(head + body, ("10.77.0.1", 0))
reply, sender = s.recvfrom(65535)
icmp = reply[20:]
assert sender[0] == "10.77.0.1" and icmp[0] == 0 and icmp[8:] == body and checksum(icmp) == 0, icmp[:8]
print("echo of %d bytes" % size)
PING
}

knows_mac() { # the kernel learnt the node's MAC by ARP
  ip -n "$b" neigh show 10.77.0.1 | grep -o 'lladdr [0-9a-f:]*'
}

no_checksum_drops() {
  [ -z "$(counter rx_drop_checksum)" ] && [ -n "$(counter icmp_echo)" ] &&
    [ -n "$(counter arp_requests)" ] && echo "icmp $(counter icmp_echo) arp $(counter arp_requests)"
}

kernel_client() { # name, EAL
  echo "$1: kernel socket -> DPDK node"
  ip -n "$b" addr add 10.77.0.2/24 dev vb
  ip -n "$b" neigh flush all
  check "starts" start_server "$2"
  check "ICMP echo, 56 bytes" ping_node 56
  check "ICMP echo, 1472 bytes" ping_node 1472
  check "ARP is answered" knows_mac
  check "64 bytes" measure --port udp
  check "1472 bytes" measure --port udp --size 1472
  stop_server
  check "partial checksums are accepted" no_checksum_drops
  ip -n "$b" addr flush dev vb
}

between_nodes() { # name, server's EAL, client's EAL
  echo "$1: DPDK node -> DPDK node"
  check "starts" start_server "$2"
  check "64 bytes" measure --port dpdk --listen 10.77.0.2:7000 --eal "$3"
  stop_server
}

restart_after_kill() { # name, EAL
  echo "$1: restart after kill -9"
  ip -n "$b" addr add 10.77.0.2/24 dev vb
  check "starts" start_server "$2"
  kill -9 "$server"
  wait "$server" 2>/dev/null
  check "starts again" start_server "$2"
  check "64 bytes" measure --port udp
  stop_server
  ip -n "$b" addr flush dev vb
}

all_devices() { # label, first part of the EAL arguments; @ becomes a or b
  local label=$1 base=$2
  local memif="socket=$scratch/memif.sock,socket-abstract=no"
  kernel_client "af_packet, $label" "${base//@/a} --vdev net_af_packet0,iface=va"
  kernel_client "af_xdp, $label" "${base//@/a} --vdev net_af_xdp0,iface=va"
  between_nodes "af_packet, $label" "${base//@/a} --vdev net_af_packet0,iface=va,qdisc_bypass=1" \
    "${base//@/b} --vdev net_af_packet0,iface=vb,qdisc_bypass=1"
  between_nodes "af_xdp, $label" "${base//@/a} --vdev net_af_xdp0,iface=va" \
    "${base//@/b} --vdev net_af_xdp0,iface=vb"
  between_nodes "memif, $label" "${base//@/a} --vdev net_memif0,role=server,$memif" \
    "${base//@/b} --vdev net_memif0,role=client,$memif"
}

nohuge="--no-huge -m 64 --no-pci --no-telemetry --file-prefix cpv$id@"
all_devices "no hugepages" "$nohuge"
restart_after_kill "af_xdp" "${nohuge//@/a} --vdev net_af_xdp0,iface=va"
restart_after_kill "af_packet" "${nohuge//@/a} --vdev net_af_packet0,iface=va"
free=$(cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages 2>/dev/null || echo 0)
if [ "$free" -ge 64 ]; then
  all_devices "2 MiB hugepages" "--in-memory -m 64 --no-pci --no-telemetry"
else
  echo "SKIPPED: hugepages: $free free, 64 needed" \
    "(echo 64 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages)" >&2
fi
echo "port_veth: $failures failures"
[ "$failures" = 0 ]
