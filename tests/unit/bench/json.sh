#!/usr/bin/env bash
# The measuring programs print what scripts can read, and fail in words when they cannot measure.
#
#   json.sh PATH-OF-FLOOR_DISK PATH-OF-PAIRS PATH-OF-FAKE_NODE
set -euo pipefail
floor_disk=$1 pairs=$2 fake_node=$3
work=$(mktemp -d "$(dirname "$floor_disk")/json-test.XXXXXX")
nodes=''
trap '[ -z "$nodes" ] || kill "$nodes" 2> /dev/null || true; rm -rf "$work"' EXIT
fail() { echo "$*" >&2; exit 1; }
# refused STATUS WORDS COMMAND...: it must end with this status and say these words on stderr.
refused() {
    local status=$1 words=$2 got=0
    shift 2
    "$@" > "$work/out" 2> "$work/err" || got=$?
    [ "$got" = "$status" ] || fail "status $got instead of $status: $*"
    [ ! -s "$work/out" ] || fail "prints figures although it failed: $*"
    grep -qe "$words" "$work/err" || fail "says '$(cat "$work/err")' and not '$words': $*"
}

"$floor_disk" -n 50 -w json "$work" > "$work/floor.json"
jq -e '.writes == 50 and (.one_writer, .three_writers |
    .p50_us > 0 and .p99_us >= .p50_us and .p999_us >= .p99_us and .max_us >= .p999_us and
    .writes_per_second > 0)' "$work/floor.json" > /dev/null || fail "floor_disk: $(cat "$work/floor.json")"
"$floor_disk" -n 50 "$work" | grep -Eq '^three writers at once +[0-9.]+ ' || fail "floor_disk: no table"
refused 2 usage "$floor_disk"
refused 2 usage "$floor_disk" -n 0 "$work"
refused 1 "No such file" "$floor_disk" "$work/missing"
if [ "$(stat -f -c %T /dev/shm)" = tmpfs ]; then
    refused 1 "is in memory" "$floor_disk" /dev/shm
fi

# Nobody listens on a port of this address: nothing answers, and patience ends soon.
nobody=127.0.0.1:9
started=$SECONDS
refused 1 "is a majority of the nodes running" "$pairs" -e $nobody -n 10 --patience 0.3 -w json
[ $((SECONDS - started)) -le 5 ] || fail "pairs took $((SECONDS - started)) s to give up after 0.3"
refused 2 usage "$pairs"
refused 2 "ADDRESS:PORT" "$pairs" -e nonsense
refused 2 "-n" "$pairs" -e $nobody -n many
refused 2 "patience" "$pairs" -e $nobody --patience 0
refused 2 "simple or json" "$pairs" -e $nobody -w yaml

# serve SCENARIO: nodes that do not exist (fake_node.c), at $at until `unserve`.
serve() {
    mkfifo "$work/hold" # they live while somebody holds it open
    "$fake_node" "$1" < "$work/hold" > "$work/at" 2> "$work/node.err" &
    nodes=$!
    exec 9> "$work/hold"
    for _ in $(seq 100); do [ -s "$work/at" ] && break; sleep 0.05; done
    at=$(cat "$work/at")
}
unserve() {
    exec 9>&-
    wait "$nodes" || fail "the nodes: $(cat "$work/node.err")"
    nodes=''
    rm -f "$work/hold" "$work/at"
}
valid() {
    jq -e "$1"' and .seconds > 0 and .pairs_per_second > 0 and .longest_pause_ms > 0 and
        (.acquire, .acquire_release | .p50_us > 0 and .p90_us >= .p50_us and .p99_us >= .p90_us and
        .p999_us >= .p99_us and .max_us >= .p999_us) and .acquire_release.p50_us > .acquire.p50_us' \
        "$work/pairs.json" > /dev/null || fail "pairs: $(cat "$work/pairs.json")"
}

serve plain
"$pairs" -e "$at" -n 500 -w json > "$work/pairs.json"
valid '.pairs == 500'
unserve
serve plain
"$pairs" -e "$at" -n 500 > "$work/table"
grep -Eq '^acquire \+ release +[0-9.]+ +[0-9.]+ ' "$work/table" || fail "pairs: no table"
marks=$(grep -Ec '^ +[0-9.]+ - [0-9.]+ +[0-9]+ +[0-9.]+ %  [#.]' "$work/table") || true
counted=$(awk '$2 == "-" && $5 ~ /%/ {n += $4} $2 == "-" && $6 == "%" {n += $4} END {print n}' "$work/table")
[ "$marks" -ge 2 ] && [ "$counted" = 500 ] || fail "the histogram has $marks lines of $counted samples"
unserve

# Lost datagrams are asked for again, 20 ms later, with the same number; the pause shows it.
serve lossy
"$pairs" -e "$at" -n 200 -t 10 -w json > "$work/pairs.json"
valid '.pairs == 200 and .resent >= 8 and .longest_pause_ms >= 19 and .longest_pause_ms < 2000'
unserve

# A promise that is broken ends the run with a status of its own.
serve falling
refused 3 "tokens must rise" "$pairs" -e "$at" -n 500 -w json
unserve
serve silent
refused 1 "outcome is unknown" "$pairs" -e "$at" -n 500 --patience 0.5 -w json
unserve
