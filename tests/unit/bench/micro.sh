#!/usr/bin/env bash
# Every micro benchmark still sets up, runs and counts: each name that `micro` lists must come back
# with a rate above zero, and none of the areas may have lost its benchmarks. Says nothing about
# speed: each runs for a millisecond.
#
#   micro.sh PATH-OF-MICRO
set -euo pipefail
micro=$1
work=$(mktemp -d "$(dirname "$micro")/micro-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work

"$micro" --benchmark_list_tests | sed 's,/real_time$,,' | sort > "$work/listed"
"$micro" --benchmark_min_time=0.001 --benchmark_out="$work/out.json" --benchmark_out_format=json > "$work/table"
jq -r '.benchmarks[] | select(.items_per_second > 0) | .name' "$work/out.json" |
    sed 's,/real_time$,,' | sort > "$work/ran"
if ! diff "$work/listed" "$work/ran"; then
    echo "these were listed and did not run (<)" >&2
    exit 1
fi

for name in ring/hop/1 ring/hop/32 ring/two_threads/32 wire/append_encode/15 wire/append_decode/15 \
    wire/request_decode raft/leader_commit/32 machine/acquire_release/1000000 machine/keepalive/100000 \
    machine/grant_revoke/1000 wal/batch_build/256 wal/append_durable_4k/16; do
    grep -qx "$name" "$work/ran" || { echo "there is no benchmark $name any more" >&2; exit 1; }
    grep -Eq "^$name +[0-9.]+ [num]?s +[0-9.]+ " "$work/table" || { echo "no line in the table for $name" >&2; exit 1; }
done

# What cannot run must say so and fail.
if TMPDIR=$work/missing "$micro" --benchmark_filter=wal/append 2> "$work/error" > /dev/null; then
    echo "a benchmark without its directory passed" >&2
    exit 1
fi
grep -q "set TMPDIR" "$work/error"
if "$micro" --benchmark_filter=no_such_name > /dev/null 2>&1; then
    echo "a filter that matches nothing passed" >&2
    exit 1
fi
echo "$(wc -l < "$work/ran") benchmarks ran"
