# SPDX-License-Identifier: Apache-2.0
#
# Shared by the tests of what is shipped: releases, and `make install`.
#
# What is shipped is started from the root directory, by nobody, with an empty
# environment. It is copied away from where it was built, and says which file
# the driver was loaded from. Unlike for the tests of dependencies, this
# checkout itself is the dependency, with its driver built.

target_dir=${CARGO_TARGET_DIR-}
. "$(dirname "$0")/dep_common.sh"

if [ -n "$target_dir" ]; then CARGO_TARGET_DIR=$target_dir; else unset CARGO_TARGET_DIR; fi
REBAR_OFFLINE=1
# A home with nothing cached, but for Rust.
CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}
HOME=$work/home
export REBAR_OFFLINE CARGO_HOME RUSTUP_HOME HOME
mkdir "$HOME"

# nobody has to get there.
chmod 755 "$work"

skipped=0
nobody=
if [ "$(id -u)" != 0 ]; then
    echo "skip another user: only root can become one"
    skipped=1
elif ! command -v setpriv >/dev/null 2>&1; then
    echo "skip another user: no setpriv on this machine"
    skipped=1
else
    nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
fi

# abroad COMMAND ARGUMENT...
abroad() {
    # shellcheck disable=SC2086  # a command, in words
    (cd / && $nobody env -i PATH=/usr/local/bin:/usr/bin:/bin ERL_CRASH_DUMP_SECONDS=0 "$@")
}

# What the program says when it has waited for a connection: who it is, and
# where the driver's file is, as the kernel has it.
write_shipped_module() {
    cat >"$1" <<'ERL'
-module(shipped).
-export([main/0]).

main() ->
    %% The service is started by the application's supervisor.
    true = is_port(inert:pollid()),
    {ok, Listening} = gen_tcp:listen(0, [{ip, loopback}]),
    {ok, FD} = inet:getfd(Listening),
    {error, timeout} = inert:poll(FD, read, 0),
    {ok, Port} = inet:port(Listening),
    {ok, _} = gen_tcp:connect({127, 0, 0, 1}, Port, []),
    {ok, read} = inert:poll(FD, read, 5000),
    io:format("driver: ~ts~nuser: ~s~n", [driver(), user()]).

driver() ->
    case file:read_file("/proc/self/maps") of
        {ok, Maps} ->
            [Line | _] = [L || L <- string:split(Maps, "\n", all), string:find(L, "inert_drv.so") =/= nomatch],
            lists:last(string:lexemes(Line, " "));
        {error, enoent} ->
            code:priv_dir(inert)
    end.

user() ->
    case file:read_file("/proc/self/status") of
        {ok, Status} ->
            [_, After] = string:split(Status, "Uid:"),
            hd(string:lexemes(After, "\t"));
        {error, enoent} ->
            "?"
    end.
ERL
}

# says_it_works FILE DIRECTORY: what shipped:main/0 has printed.
says_it_works() {
    cat "$1"
    grep -q "^driver: $2/.*/inert_drv\.so$\|^driver: $2/.*/priv$" "$1" \
        && { [ -z "$nobody" ] || [ ! -d /proc/self ] || grep -q '^user: 65534$' "$1"; }
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
}
