#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# examples/elixir/inert_example: its tests, and a Mix release of it. Without Elixir
# here, nothing is to be shown, and that is said.

if ! command -v mix >/dev/null 2>&1; then
    echo "skip the Elixir example: no mix on this machine"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

. "$(dirname "$0")/release_common.sh"

# Mix runs the rebar3 it is told of, and would otherwise ask to download one.
MIX_REBAR3=$(command -v "${REBAR3:-rebar3}")
MIX_HOME=$work/home/mix
LC_ALL=C.UTF-8
export MIX_REBAR3 MIX_HOME LC_ALL

cd "$root/examples/elixir/inert_example" || exit 1
release=$work/elsewhere/inert_example

# in_env ENVIRONMENT COMMAND ARGUMENT...: what it builds stays in this checkout's _build.
in_env() {
    mix_env=$1
    shift
    MIX_ENV=$mix_env MIX_BUILD_PATH=$root/_build/elixir/$mix_env "$@"
}

# Every ExUnit test counts.
exunit() {
    in_env test mix test --seed 0 >"$work/exunit" 2>&1
    status=$?
    sed -n 's/^ *[0-9]*) \(\(test\|doctest\) .*\)$/not ok \1/p' "$work/exunit"
    [ $status = 0 ] || sed 's/^/    /' "$work/exunit"
    # "2 doctests, 21 tests, 1 failure"; since Elixir 1.20 "Result: 23 passed (2 doctests, 21 tests)",
    # or "Result: 22/23 passed (...)".
    set -- $(awk '/ tests?, [0-9]+ failures?/ {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^(doc)?tests?,$/) all += $(i - 1)
                if ($i ~ /^failures?,?$/) failed += $(i - 1)
            }
        }
        /^Result: [0-9]+(\/[0-9]+)? passed/ {
            of = split($2, result, "/")
            all += result[of]
            failed += result[of] - result[1]
        }
        END { print all + 0, failed + 0 }' "$work/exunit")
    if [ "$1" = 0 ] || { [ $status != 0 ] && [ "$2" = 0 ]; }; then
        echo "not ok mix test: exited with status $status after $1 tests"
        failed=$((failed + 1))
    fi
    passed=$((passed + $1 - $2))
    failed=$((failed + $2))
}

# The Elixir examples of the guides, with this project's modules and fdio in reach.
guides() {
    ERL_LIBS=$root/examples in_env test mix run "$root/test/run_docs.exs" \
        "$root/README.md" "$root"/docs/*.md README.md
}

make_release() { in_env prod mix release --quiet --overwrite --path "$release"; }

has_driver() {
    file=$(echo "$release"/lib/inert-*/priv/inert_drv.so)
    [ -f "$file" ] && ! [ -L "$file" ] && ! find "$release" -type l | grep .
}

run_release() {
    abroad "$release/bin/inert_example" eval '
        {:ok, _} = Application.ensure_all_started(:inert_example)
        {:ok, "hello"} = InertExample.Client.request({127, 0, 0, 1}, InertExample.Echo.port(), "hello")
        lines = fn file -> file |> File.read!() |> String.split("\n") end
        driver = Enum.find(lines.("/proc/self/maps"), &String.contains?(&1, "inert_drv"))
        ["Uid:", uid | _] = Enum.find(lines.("/proc/self/status"), &String.starts_with?(&1, "Uid:")) |> String.split()
        IO.puts("driver: #{List.last(String.split(driver))}\nuser: #{uid}")' >"$work/said" 2>&1
    says_it_works "$work/said" "$release"
}

check "mix format: nothing to do" in_env test mix format --check-formatted
check "mix compile: no warnings" in_env test mix compile --warnings-as-errors
exunit
check "the Elixir examples in README.md and the guides" guides
check "mix release: is made" make_release
check "mix release: contains the driver, and no links out of itself" has_driver
check "mix release: works from / as another user" run_release

finish
