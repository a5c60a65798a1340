#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A release made by rebar3 (relx), with ERTS in it.

. "$(dirname "$0")/release_common.sh"

rebar3=${REBAR3:-rebar3}
project=$work/project
release=$work/elsewhere/shipped

new_project() {
    mkdir -p "$project/src" "$project/_checkouts" "$work/elsewhere"
    ln -s "$root" "$project/_checkouts/inert"
    cat >"$project/rebar.config" <<'ERL'
{erl_opts, [debug_info, warnings_as_errors]}.
{deps, [inert]}.
{relx, [
    {release, {shipped, "0.1.0"}, [shipped]},
    {dev_mode, false},
    {include_erts, true},
    {include_src, false},
    {extended_start_script, false}
]}.
ERL
    cat >"$project/src/shipped.app.src" <<'ERL'
{application, shipped, [
    {description, "A release that contains inert"}, {vsn, "0.1.0"},
    {applications, [kernel, stdlib, inert]}
]}.
ERL
    write_shipped_module "$project/src/shipped.erl"
}

make_release() { (cd "$project" && "$rebar3" release) && cp -R "$project/_build/default/rel/shipped" "$work/elsewhere/"; }

has_driver() {
    file=$(echo "$release"/lib/inert-*/priv/inert_drv.so)
    [ -f "$file" ] && ! [ -L "$file" ] && ! find "$release" -type l | grep .
}

run_it() {
    abroad "$release/bin/shipped" -noinput -s shipped main -s init stop >"$work/said" 2>&1
    says_it_works "$work/said" "$release"
}

# Without its driver a release must not start as if all were well, and says why.
without_driver() {
    rm "$release"/lib/inert-*/priv/inert_drv.so
    abroad "$release/bin/shipped" -noinput -s init stop >"$work/said" 2>&1
    status=$?
    cat "$work/said"
    [ $status != 0 ] && grep -q driver_load_failed "$work/said" && grep -q "$release/lib/inert-.*/priv/inert_drv" "$work/said"
}

new_project
check "rebar3 release: is made" make_release
check "rebar3 release: contains the driver, and no links out of itself" has_driver
check "rebar3 release: works from / as another user" run_it
check "rebar3 release: without its driver it says what is missing" without_driver

finish
