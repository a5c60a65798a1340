#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# inert as the dependency of a rebar3 project: from git, and in _checkouts.

. "$(dirname "$0")/dep_common.sh"

rebar3=${REBAR3:-rebar3}

# new_project DIRECTORY DEPS
new_project() {
    mkdir -p "$1/src"
    cat >"$1/rebar.config" <<ERL
{erl_opts, [debug_info, warnings_as_errors]}.
{deps, [$2]}.
ERL
    cat >"$1/src/user_of_inert.app.src" <<'ERL'
{application, user_of_inert, [
    {description, "A project that depends on inert"}, {vsn, "0.1.0"},
    {applications, [kernel, stdlib, inert]}
]}.
ERL
    write_user_module "$1/src/user_of_inert.erl"
}

compile() { (cd "$1" && "$rebar3" compile); }

# The project's application started as a whole, inert's among it, then used.
# The paths are rebar3's own: both places it puts applications.
run() {
    (cd "$1" && erl -noinput -pa _build/default/lib/*/ebin _build/default/checkouts/*/ebin -eval '
        {ok, _} = application:ensure_all_started(user_of_inert),
        user_of_inert:main(),
        halt(0, [{flush, true}]).')
}

driver_comes_from() { run "$1" | grep -q "^driver: .*$2"; }

has_driver() { test -f "$1/priv/inert_drv.so" && test -f "$1/ebin/inert.app"; }

# The second build has nothing to do: the driver's file is not touched.
nothing_to_rebuild() {
    touch "$work/before" && compile "$1" \
        && ! find "$1/_build/" -follow -name inert_drv.so -newer "$work/before" | grep .
}

# rebar3 has its own idea of home; give it one with nothing cached.
CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}
export CARGO_HOME RUSTUP_HOME
HOME=$work/home
mkdir "$HOME"

check "the repository can be cloned" publish

git_project=$work/from_git
new_project "$git_project" "{inert, {git, \"file://$work/inert.git\", {ref, \"$(cat "$work/commit")\"}}}"
check "git dependency: compiles, the driver included" compile "$git_project"
check "git dependency: ebin and priv are in place" has_driver "$git_project/_build/default/lib/inert"
check "git dependency: inert starts and polls" run "$git_project"
check "git dependency: compiling again rebuilds nothing" nothing_to_rebuild "$git_project"

checkouts_project=$work/with_checkouts
new_project "$checkouts_project" inert
mkdir "$checkouts_project/_checkouts"
git clone --quiet "$work/inert.git" "$checkouts_project/_checkouts/inert"
REBAR_OFFLINE=1
export REBAR_OFFLINE
check "_checkouts: compiles, the driver included" compile "$checkouts_project"
check "_checkouts: inert starts and polls" run "$checkouts_project"
check "_checkouts: the driver is that of _checkouts" driver_comes_from "$checkouts_project" checkouts
check "_checkouts: compiling again rebuilds nothing" nothing_to_rebuild "$checkouts_project"
check "rebar3 clean removes the driver" \
    sh -c "cd '$checkouts_project/_checkouts/inert' && '$rebar3' clean && ! test -e priv"

finish
