#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# bench/syscalls.sh [PEER...]
#
# Counts the system calls of an echo server's round trip with strace(1): the VM's,
# all of its threads', for 64 bytes over loopback TCP. Prints a table, and keeps it in
# bench/results/syscalls.md for docs/performance.md. Installs strace if it is
# missing and apt-get is there.
#
# A VM that is traced is several times slower. Under full load the next request is there
# before the server asks for it, and nobody would wait; so every connection pauses
# between requests, and every round trip waits.

set -eu
cd "$(dirname "$0")/.."

if ! command -v strace >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -q >/dev/null
        apt-get install -y -q --no-install-recommends strace >/dev/null
    else
        echo "syscalls: strace is missing; install it, then run this again" >&2
        exit 1
    fi
fi

[ -n "${BENCH_LOAD-}" ] || . bench/build.sh

[ $# != 0 ] || set -- inert_epoll inert_erts enif_select gen_tcp_passive gen_tcp_active socket

seconds=2               # of counting, per row
rate=500                # requests a second that all connections make together
settle=1                # seconds for the connections to be opened

columns='recv send poll epoll_ctl epoll_wait wake futex other'

work=$(mktemp -d "${TMPDIR:-/tmp}/inert-syscalls.XXXXXX")
server=
tracer=
client=
# Ends what was started here, by its id.
end() {
    [ -z "$tracer" ] || kill -INT "$tracer" 2>/dev/null || :
    [ -z "$server" ] || kill "$server" 2>/dev/null || :
    [ -z "$client" ] || kill "$client" 2>/dev/null || :
    wait
    server='' tracer='' client=''
}
trap 'end; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# count PEER CONNECTIONS: one row.
count() {
    : >"$work/port"
    scripts/with-libs erl -noinput -boot no_dot_erlang -run bench serve \
        -extra "$1" "$work/port" >"$work/server" 2>&1 &
    server=$!
    # The VM ends by itself after a minute, so this does too.
    while [ ! -s "$work/port" ]; do
        kill -0 "$server" 2>/dev/null || {
            server=
            echo "| $1 | $2 | not there |" >>"$work/rows"
            return 0
        }
        sleep 0.1
    done
    pause=$(awk -v n="$2" -v rate=$rate 'BEGIN { print n / rate }')
    read -r port pid <"$work/port"

    # The load is there before strace and outlives it: no connection is opened
    # or closed while it counts.
    "$BENCH_LOAD" client --port "$port" --connections "$2" --pause "$pause" \
        --seconds $((settle + seconds + settle)) >"$work/load" &
    client=$!
    sleep $settle
    strace -q -f -c -U name,calls -o "$work/calls" -p "$pid" 2>"$work/strace" &
    tracer=$!
    sleep $seconds
    kill -INT "$tracer"
    wait "$tracer" || :
    tracer=
    end

    # Every echo is sent in one call.
    awk -v peer="$1" -v connections="$2" -v names="$columns" '
        BEGIN {
            count = split(names, column)
            as["epoll_pwait"] = as["epoll_pwait2"] = as["epoll_wait"] = "epoll_wait"
            as["poll"] = as["ppoll"] = "poll"
            as["recvfrom"] = as["recvmsg"] = as["readv"] = "recv"
            as["sendto"] = as["sendmsg"] = as["writev"] = "send"
            as["read"] = as["write"] = "wake"
            as["epoll_ctl"] = "epoll_ctl"
            as["futex"] = "futex"
            as["sched_yield"] = "yield"
        }
        $2 ~ /^[0-9]+$/ && $1 != "total" { n[($1 in as) ? as[$1] : "other"] += $2 }
        END {
            printf "| %-15s | %11d |", peer, connections
            for (i = 1; i <= count; i++)
                printf " %10s |", n["send"] ? sprintf("%.2f", n[column[i]] / n["send"]) : "-"
            printf "\n"
        }' "$work/calls" >>"$work/rows"
    [ -z "${SYSCALLS_DEBUG-}" ] || cat "$work/calls" >&2
    tail -n 1 "$work/rows" >&2
}

for connections in 1 100; do
    for peer in "$@"; do
        count "$peer" $connections
    done
done

{
    cat <<'EOT'
System calls of one echo in the VM, 64 bytes over loopback TCP: counted with `strace -c -f` by `bench/syscalls.sh`.
The connections pause between requests, so that the server waits for every one: the table is of a quiet server.
`recv` and `send` are recvfrom(2), sendto(2), writev(2) and their like, `wake` is read(2) and write(2), with which the
VM's threads wake each other up; what the VM does by itself meanwhile is counted too, but for sched_yield(2), which
idle schedulers call while they spin.

EOT
    printf '| %-15s | %11s |' peer connections
    for name in $columns; do printf ' %10s |' $name; done
    printf '\n| --------------- | ----------: |'
    for _ in $columns; do printf ' ---------: |'; done
    printf '\n'
    cat "$work/rows"
} >"$work/table"
mkdir -p bench/results
mv -f "$work/table" bench/results/syscalls.md
echo
cat bench/results/syscalls.md
