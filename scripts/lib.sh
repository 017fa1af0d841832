# What the scripts share; sourced, not run.
# shellcheck shell=bash

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
    BOLD='' DIM='' RED='' PLAIN=''
fi

say() { printf '  %s\n' "$*"; }
headline() { printf '\n%s%s%s\n' "$BOLD" "$*" "$PLAIN"; }
die() {
    printf '%serror:%s %s\n' "$RED" "$PLAIN" "$*" >&2
    exit 1
}

BUILD_DIR=${BUILD_DIR:-build}

# build [DIR] [MESON OPTION...]: configures once, then compiles what changed.
build() {
    local dir=${1:-$BUILD_DIR}
    [ $# -gt 0 ] && shift
    local started=$SECONDS
    if [ ! -f "$dir/build.ninja" ]; then
        say "configuring $dir"
        if ! meson setup "$dir" "$@" > "$dir.log" 2>&1; then
            tail -n 20 "$dir.log" >&2
            die "meson could not configure $dir: see the lines above, and $dir.log for all"
        fi
    fi
    say "compiling $dir"
    if ! ninja -C "$dir" > "$dir.log" 2>&1; then
        grep -E 'error|FAILED|undefined' "$dir.log" | head -n 20 >&2
        die "compiling failed: see the lines above, and $dir.log for all"
    fi
    say "${DIM}done in $((SECONDS - started)) s${PLAIN}"
}
