# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the other scripts: makes a Rust just installed by rustup usable in
# a shell that was started before it.

if ! command -v "${CARGO:-cargo}" >/dev/null 2>&1; then
    cargo_bin=${CARGO_HOME:-${HOME-}/.cargo}/bin
    if [ -x "$cargo_bin/cargo" ]; then
        PATH=$cargo_bin:$PATH
        export PATH
    fi
fi
