#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# make install and make uninstall, as a distribution uses them.

. "$(dirname "$0")/release_common.sh"
cd "$root" || exit 1

version=$(sed -n 's/.*{vsn, *"\([^"]*\)"}.*/\1/p' erlang/src/inert.app.src)
installed=$work/package/usr/lib/erlang/lib/inert-$version
neighbour=$(dirname "$installed")/neighbour-1.0

install_it() { make -s install PREFIX=/usr DESTDIR="$work/package"; }
uninstall_it() { make -s uninstall PREFIX=/usr DESTDIR="$work/package"; }

# Files as they have to be, and no others: directories and files anybody may
# read, nothing that leads back into the checkout.
is_complete() {
    for file in ebin/inert.app ebin/inert.beam ebin/prim_inert.beam ebin/inert_drv.beam \
        priv/inert_drv.so src/inert.erl src/inert.app.src doc/chunks/inert.chunk LICENSE; do
        [ -f "$installed/$file" ] || { echo "missing: $file"; return 1; }
    done
    ! find "$work/package" -type l | grep . || return 1
    ! find "$work/package" -type f ! -perm 644 | grep . || return 1
    ! find "$work/package" -type d ! -perm 755 | grep .
}

same_beams() {
    for beam in "$root"/_build/default/lib/inert/ebin/*.beam; do
        cmp "$beam" "$installed/ebin/$(basename "$beam")" || return 1
    done
}

run_it() {
    abroad ERL_LIBS="$work/elsewhere" erl -noinput -pa "$work" -eval '
        {ok, _} = application:ensure_all_started(inert),
        shipped:main(),
        halt(0, [{flush, true}]).' >"$work/said" 2>&1
    says_it_works "$work/said" "$work/elsewhere"
}

help_is_there() {
    abroad ERL_LIBS="$work/elsewhere" erl -noinput -eval '
        c:h(inert, poll), halt(0, [{flush, true}]).' | grep -q 'Blocks the calling process'
}

stale_files_go() {
    touch "$installed/ebin/of_an_older_build.beam" && install_it \
        && ! [ -e "$installed/ebin/of_an_older_build.beam" ]
}

# A neighbour must survive, and whatever else happens to be called inert-VERSION.
uninstall_removes_only_itself() {
    mkdir "$neighbour" && uninstall_it && ! [ -e "$installed" ] \
        && [ -d "$neighbour" ] || return 1
    mkdir -p "$installed" && touch "$installed/of_somebody" || return 1
    ! uninstall_it && [ -e "$installed/of_somebody" ]
}

unbuilt_is_refused() {
    mkdir -p "$work/unbuilt/erlang" && cp -R scripts Makefile "$work/unbuilt" \
        && cp -R erlang/src "$work/unbuilt/erlang/src" \
        && ! make -s -C "$work/unbuilt" install PREFIX="$work/nowhere" \
        && ! [ -e "$work/nowhere" ]
}

# Builds nothing, so whoever runs it needs no right to write here.
touches_nothing_here() { ! find . -newer "$work/before" -type f -not -path './.git/*' -not -path './_build/test-logs/*' | grep .; }

write_shipped_module "$work/shipped.erl"
erlc -o "$work" "$work/shipped.erl" || exit 1
touch "$work/before"

check "make install: installs" install_it
check "make install: changes nothing in the checkout" touches_nothing_here
check "make install: all files, with the rights they need, and no links" is_complete
check "make install: what was built" same_beams
mkdir "$work/elsewhere" && cp -R "$installed" "$work/elsewhere/"
check "installed: works from / as another user" run_it
check "installed: h(inert, poll) prints" help_is_there
check "make install: replaces an older build of this version" stale_files_go
check "make uninstall: removes inert, and nothing else" uninstall_removes_only_itself
check "make install: says so if nothing is built" unbuilt_is_refused

finish
