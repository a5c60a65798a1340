#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What would be published: the crates as `cargo package` makes them, each compiled
# from its archive, and the Erlang package, built from the files that
# inert.app.src names for it.

. "$(dirname "$0")/release_common.sh"
cd "$root" || exit 1

crates() { cargo package --allow-dirty --quiet -p erl_driver-sys -p erl_driver; }

# Registries refuse crates without these.
metadata() {
    for crate in erl_driver erl_driver-sys; do
        grep -q '^description = ' "$crate/Cargo.toml" \
            && grep -Eq '^license(\.workspace)? = ' "$crate/Cargo.toml" \
            && grep -q '^readme = ' "$crate/Cargo.toml" || { echo "$crate"; return 1; }
    done
}

# Packing crates that need each other, unpublished, came with cargo 1.90.
minor=$(cargo --version | sed 's/^cargo [0-9]*\.\([0-9]*\).*/\1/')
check "crates: description, license and readme are there" metadata
if [ "$minor" -ge 90 ]; then
    check "crates: cargo package, each compiled from its archive" crates
else
    echo "skip cargo package: cargo 1.$minor cannot pack both crates at once"
    skipped=$((skipped + 1))
fi

# The names, one a line, or nothing.
hex_files() {
    erl -noinput -eval '
        {ok, [{application, inert, Keys}]} = file:consult("erlang/src/inert.app.src"),
        [io:format("~ts~n", [F]) || F <- proplists:get_value(files, Keys, [])],
        halt(0, [{flush, true}]).'
}

# As an archive has them: links are what they lead to.
unpack() {
    mkdir "$work/inert"
    hex_files | while IFS= read -r file; do
        mkdir -p "$work/inert/$(dirname "$file")" && cp -RL "$file" "$work/inert/$file" || return 1
    done
}

build() { (cd "$work/inert" && CARGO_TARGET_DIR=$root/_build/dep-target rebar3 compile); }

run_it() {
    erl -noinput -pa "$work" "$work/inert/_build/default/lib/inert/ebin" -eval '
        {ok, _} = application:ensure_all_started(inert),
        shipped:main(), halt(0, [{flush, true}]).'
}

if [ -n "$(hex_files)" ]; then
    write_shipped_module "$work/shipped.erl"
    erlc -o "$work" "$work/shipped.erl" || exit 1
    check "Erlang package: the files it names are there" unpack
    check "Erlang package: they are enough to build" build
    check "Erlang package: and to run" run_it
else
    echo "skip the Erlang package: inert.app.src names no files for it"
    skipped=$((skipped + 1))
fi

finish
