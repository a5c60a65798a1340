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

# Ends a script where the Rust that is here lacks a sanitizer's library (asan, tsan):
# Rust's own packages have them, a distribution's may not.
need_sanitizer() {
    command -v rustc >/dev/null 2>&1 || { echo "Rust is needed: make deps" >&2; exit 1; }
    for library in "$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')"/lib/*_rt."$1".*; do
        [ ! -e "$library" ] || return 0
    done
    echo "$(rustc --version) comes without its sanitizers ($1): rustup's has them" >&2
    exit 1
}
