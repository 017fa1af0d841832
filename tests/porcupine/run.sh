#!/usr/bin/env bash
# A second opinion: histories of some lives, and the known-bad and good ones, judged by Porcupine.
#
#   run.sh SIM SOURCES [SEEDS]     SIM: the simulator; SOURCES: tests/; exit 77: skipped, and why
set -euo pipefail
sim=$(realpath "$1") sources=$2 seeds=${3:-12}

skip() {
    echo "SKIPPED: $1: the histories were NOT judged by a second opinion" >&2
    exit 77
}
command -v go > /dev/null || skip "Go is not installed"
version=$(go env GOVERSION)
printf '%s\n' go1.22 "$version" | sort --check=quiet --version-sort || skip "$version is older than go1.22"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$sources/porcupine"
timeout 60 go mod download 2> "$work/download" || {
    cat "$work/download" >&2
    skip "Porcupine's module is not here and cannot be downloaded"
}
timeout 120 go build -o "$work/porcupine" .

for seed in $(seq 1 "$seeds"); do
    # A life that breaks a rule is the sim test's affair; here only two opinions are compared.
    timeout 60 "$sim" --seeds 1 --from "$seed" --without jump --history "$work/life_$seed.jsonl" > "$work/out" || {
        cat "$work/out"
        exit 1
    }
done
timeout 100 "$work/porcupine" "$sources"/sim/bad/*.jsonl "$sources"/sim/good/*.jsonl "$work"/life_*.jsonl |
    sed "s|$work/||; s|$sources/||"
