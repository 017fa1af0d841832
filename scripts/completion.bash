# Completion of `conclave` for bash: source it, or put it into /etc/bash_completion.d/conclave.
# shellcheck shell=bash

_conclave() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local common="--endpoints --write-out --timeout --help"
    local verb='' i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        # After -- stands a command with words of its own.
        --) _command_offset $((i + 1)) 2> /dev/null; return ;;
        -e | -w | --endpoints | --write-out | --timeout) [ -n "$verb" ] || i=$((i + 1)) ;;
        -*) ;;
        *) [ -n "$verb" ] || verb=${COMP_WORDS[i]} ;;
        esac
    done
    case $before in
    -w | --write-out) mapfile -t COMPREPLY < <(compgen -W "simple table json" -- "$word"); return ;;
    --timeout | --ttl | --wait | --grace) mapfile -t COMPREPLY < <(compgen -W "1s 5s 30s 1m" -- "$word"); return ;;
    --durability) mapfile -t COMPREPLY < <(compgen -W "disk memory" -- "$word"); return ;;
    --idle) mapfile -t COMPREPLY < <(compgen -W "sleep yield spin" -- "$word"); return ;;
    --data) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    -e | --endpoints | --exit-base | --nodes | --base-port) return ;;
    esac
    local words
    case $verb in
    '') words="lock lease holders queue status counters dev --version $common" ;;
    lock) words="--ttl --try --wait --grace --exit-base -- $common" ;;
    lease) words="grant keepalive revoke ttl --once $common" ;;
    counters) words="--all-zero $common" ;;
    dev) words="--nodes --data --base-port --durability --idle --help" ;;
    *) words=$common ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _conclave conclave
