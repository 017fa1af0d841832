#!/usr/bin/env bash
# The measuring programs print what scripts can read, and fail in words when they cannot measure.
#
#   json.sh PATH-OF-FLOOR_DISK PATH-OF-PAIRS
set -euo pipefail
floor_disk=$1 pairs=$2
work=$(mktemp -d "$(dirname "$floor_disk")/json-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
fail() { echo "$*" >&2; exit 1; }
# refused STATUS WORDS COMMAND...: it must end with this status and say these words on stderr.
refused() {
    local status=$1 words=$2 got=0
    shift 2
    "$@" > "$work/out" 2> "$work/err" || got=$?
    [ "$got" = "$status" ] || fail "status $got instead of $status: $*"
    [ ! -s "$work/out" ] || fail "prints figures although it failed: $*"
    grep -q "$words" "$work/err" || fail "says '$(cat "$work/err")' and not '$words': $*"
}

"$floor_disk" -n 50 -w json "$work" > "$work/floor.json"
jq -e '.writes == 50 and (.one_writer, .three_writers |
    .p50_us > 0 and .p99_us >= .p50_us and .p999_us >= .p99_us and .max_us >= .p999_us and
    .writes_per_second > 0)' "$work/floor.json" > /dev/null || fail "floor_disk: $(cat "$work/floor.json")"
"$floor_disk" -n 50 "$work" | grep -Eq '^three writers at once +[0-9.]+ ' || fail "floor_disk: no table"
refused 2 usage "$floor_disk"
refused 2 usage "$floor_disk" -n 0 "$work"
refused 1 "No such file" "$floor_disk" "$work/missing"

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
