#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# docs/drivers.md: the driver is built from what the page shows, as it stands
# there, and the page's Erlang examples are run with it.

. "$(dirname "$0")/dep_common.sh"

project=$work/tally_drv

# Each block that follows <!-- file: NAME --> is the file NAME.
extract() {
    mkdir -p "$project/src" "$project/priv"
    awk -v to="$project/" '
        /^<!-- file: .* -->$/ { file = to $3; next }
        /^```/ { if (inside) { inside = 0; file = "" } else if (file) { inside = 1 } next }
        inside { print > file }' "$root/docs/drivers.md"
    [ -s "$project/Cargo.toml" ] && [ -s "$project/build.rs" ] && [ -s "$project/src/lib.rs" ]
}

# The published crates are not there yet, nor is the network; the versions of what they
# need are those of this repository.
build() {
    sed -i.shown "s|git = \"<this repository>\"|path = \"$root/erl_driver\"|" "$project/Cargo.toml"
    grep -q "path = " "$project/Cargo.toml" || return 1
    cp "$root/Cargo.lock" "$project/"
    (cd "$project" && RUSTFLAGS='-D warnings' cargo build --release) || return 1
    for ending in so dylib; do
        built=$CARGO_TARGET_DIR/release/libtally_drv.$ending
        [ ! -f "$built" ] || cp "$built" "$project/priv/tally_drv.so"
    done
    [ -f "$project/priv/tally_drv.so" ]
}

formatted() { rustfmt --edition 2024 --check "$project/src/lib.rs"; }

examples() {
    cd "$root" && TALLY_DIRECTORY=$project/priv scripts/with-libs \
        erl -noinput -pa "$root/_build/suites" -run run_docs main docs/drivers.md
}

check "drivers.md: the files are there" extract
check "drivers.md: the driver compiles without warnings" build
check "drivers.md: the driver is formatted" formatted
check "drivers.md: the examples work" examples

finish
