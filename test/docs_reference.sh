#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The reference: `make docs`, and what h/1,2 print in the shell.

. "$(dirname "$0")/release_common.sh"
cd "$root" || exit 1

html() { make -s docs; }

pages() {
    for page in index.html erlang/index.html erlang/inert.html erlang/prim_inert.html \
        erlang/overview-summary.html rust/erl_driver/index.html rust/erl_driver_sys/index.html; do
        [ -s "_build/docs/$page" ] || { echo "missing: $page"; return 1; }
    done
}

# Of the first page and EDoc's: rustdoc looks after its own.
links() {
    for page in _build/docs/index.html _build/docs/erlang/*.html; do
        sed -n 's/href="\([^"]*\)"/\
\1\
/gp' "$page" | grep -E '^[^:# ]+\.html' | sed 's/#.*//' | sort -u | while IFS= read -r link; do
            [ -e "$(dirname "$page")/$link" ] || echo "$page: no $link"
        done
    done | grep . && return 1
    return 0
}

in_shell() { scripts/with-libs erl -noinput -eval "$1, halt(0, [{flush, true}])."; }

h_prints() {
    in_shell 'c:h(inert, poll)' >"$work/h" 2>&1
    cat "$work/h"
    grep -q -- '-spec poll' "$work/h" && grep -q 'Blocks the calling process' "$work/h" || return 1
    in_shell 'c:h(inert)' >"$work/h" 2>&1
    cat "$work/h"
    grep -q 'Waits for readiness' "$work/h" && grep -q 'A kind of a fd has one waiter' "$work/h" || return 1
    in_shell 'c:ht(inert, mode)' >"$work/h" 2>&1
    cat "$work/h"
    grep -q -- '-type mode' "$work/h"
}

# Functions that are there for the public are documented, the others hidden. Where nothing is
# said of a function, its entry is empty; of the hidden ones, EDoc has no entry since OTP 29.
all_documented() {
    in_shell '
        [] = [{M, N, A} || M <- [inert, prim_inert, inert_drv],
                           {ok, {docs_v1, _, _, _, _, _, Docs}} <- [code:get_doc(M)],
                           {{function, N, A}, _, _, Doc, _} <- Docs,
                           lists:member({N, A}, M:module_info(exports)),
                           Doc =:= none orelse Doc =:= #{}],
        [{ok, _} = code:get_doc(M) || M <- [inert, prim_inert, inert_drv]]'
}

# Word for word what EDoc says, of this project's modules and of text that is easily misread.
chunks() { test/docs_chunks.escript "$work/chunks" erlang/src/*.erl test/docs_markup/docs_markup.erl; }

# What has no Markdown that both shells read is an error, and not lost in silence.
refused() {
    mkdir -p "$work/refused"
    for text in '<dl><dt>term</dt><dd>text</dd></dl>' "\`\` a\`b ''" "\`[a](b)'" "\`{:b}'" "\`b\\'"; do
        printf '%%%% @doc Text: %s\n-module(refused).\n' "$text" >"$work/refused/refused.erl"
        scripts/docs-erlang chunks "$work/refused" "$work/refused/refused.erl" >"$work/said" 2>&1
        status=$?
        cat "$work/said"
        if [ "$(in_shell 'io:put_chars(erlang:system_info(otp_release))')" -lt 27 ]; then
            [ $status = 0 ] || return 1
        else
            [ $status = 1 ] && grep -q no_markdown_for "$work/said" || { echo "not refused: $text"; return 1; }
        fi
    done
}

check "make docs: writes the reference" html
check "make docs: the pages are there" pages
check "make docs: links lead somewhere" links
check "the shell: h(inert), h(inert, poll) and ht(inert, mode) print" h_prints
check "the shell: reads what EDoc has written, and all of it" chunks
check "the shell: what it could not read is refused" refused
check "the shell: every public function has documentation" all_documented

finish
