# SPDX-License-Identifier: Apache-2.0
#
# Sourced by run and syscalls.sh, in the repository's root: builds the benchmark
# and says where its parts are.
#
# BENCH_LOAD, BENCH_REPORT    the programs
# ERL_LIBS                    with the Erlang side in it
# ulimit -n                   large enough, if it may be

. scripts/env.sh

mkdir -p _build/bench
"${CARGO:-cargo}" build --quiet --release --package bench_load --package bench_report \
    --message-format json-render-diagnostics >_build/bench/programs

# Their places, by cargo's own report.
bench_program() {
    sed -n 's/.*"executable":"\([^"]*\/'"$1"'\)".*/\1/p' _build/bench/programs | tail -n 1
}
BENCH_LOAD=$(bench_program bench_load)
BENCH_REPORT=$(bench_program bench_report)
export BENCH_LOAD BENCH_REPORT

# Laid out like an installed application, NIF and all.
scripts/build-cdylib select_nif _build/bench/bench/priv/select_nif.so
mkdir -p _build/bench/bench/ebin
ERL_LIBS=$PWD/_build/bench
export ERL_LIBS
# The behaviours before the modules that have them.
behaviours='bench/src/bench_waiter.erl bench/src/bench_server.erl'
# shellcheck disable=SC2046,SC2086  # lists of words
scripts/compile-erlang _build/bench/bench/ebin $behaviours \
    $(ls bench/src/*.erl | grep -v -e /bench_waiter.erl -e /bench_server.erl)

# The largest cases have 8,000 fds in a process; what is not to be had is left
# out, and said.
enough=10000
soft=$(ulimit -S -n)
if [ "$soft" != unlimited ] && [ "$soft" -lt $enough ]; then
    ulimit -S -n $enough 2>/dev/null || ulimit -S -n "$(ulimit -H -n)" 2>/dev/null || :
fi
