# SPDX-License-Identifier: Apache-2.0
#
# Shared by the tests that use inert as another project's dependency.
#
# Those projects live in a directory outside this checkout, see only what is
# committed here, and have no network: crates come from cargo's own cache, which
# the build of this checkout has filled, and every proxy leads nowhere.

set -u

root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/env.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/inert-dep.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Warm across runs and apart from this checkout's own target directory: cargo
# still builds inert's crates for each project (their paths differ), but not
# theirs again.
CARGO_TARGET_DIR=$root/_build/dep-target
CARGO_NET_OFFLINE=true
http_proxy=http://127.0.0.1:9 https_proxy=$http_proxy HTTP_PROXY=$http_proxy HTTPS_PROXY=$http_proxy
export CARGO_TARGET_DIR CARGO_NET_OFFLINE http_proxy https_proxy HTTP_PROXY HTTPS_PROXY

# What the caller's build has set must not help here.
unset ERL_LIBS REBAR_OFFLINE

passed=0
failed=0

# check NAME COMMAND ARGUMENT...
check() {
    name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        echo "ok $name"
        passed=$((passed + 1))
    else
        echo "not ok $name"
        sed 's/^/    /' "$work/log"
        failed=$((failed + 1))
    fi
}

# The dependency: a bare copy, as a hosting service would serve it.
publish() {
    git clone --quiet --bare "file://$root" "$work/inert.git" \
        && git --git-dir "$work/inert.git" rev-parse HEAD >"$work/commit"
}

# What the user's module does with inert: wait for a connection, and for none.
write_user_module() {
    cat >"$1" <<'ERL'
-module(user_of_inert).
-export([main/0]).

main() ->
    ok = inert:start(),
    {ok, Listening} = gen_tcp:listen(0, [{ip, loopback}]),
    {ok, FD} = inet:getfd(Listening),
    {error, timeout} = inert:poll(FD, read, 0),
    {ok, Port} = inet:port(Listening),
    {ok, _} = gen_tcp:connect({127, 0, 0, 1}, Port, []),
    {ok, read} = inert:poll(FD, read, 5000),
    ok = inert:stop(),
    io:format("driver: ~ts~n", [code:priv_dir(inert)]).
ERL
}

finish() {
    echo "$passed passed, $failed failed"
    [ $failed = 0 ]
}
