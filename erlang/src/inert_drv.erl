%% SPDX-License-Identifier: Apache-2.0
%% @doc Loads the driver and speaks its wire protocol.
%%
%% Most programs want {@link inert}. This module is for those that open the port
%% themselves:
%%
%% ```
%% ok = inert_drv:start(),
%% Port = open_port({spawn_driver, "inert_drv"}, []),
%% Mode = inert_drv:encode(read),
%% ok = inert_drv:ctl(Port, 1, <<FD:32/signed, Mode:32/signed>>),
%% receive {inert_read, Port, FD} -> ok end.
%% '''
%%
%% == The wire ==
%%
%% Requests go through `erlang:port_control/3'. The first two never change; the
%% others belong to inert's own modules.
%%
%% <ul>
%% <li>1 FDSET, 2 FDCLR: exactly 8 bytes, the fd and the mode, both big-endian
%%   signed 32-bit integers; mode 1 is read, 2 write, 3 both. The reply is empty
%%   for ok, else the errno's name in lower case, `"ebadf"'.</li>
%% <li>3 CHECK: as FDSET. The reply is the name of a kind that is ready, or
%%   `"timeout"'.</li>
%% <li>4 POLL: as FDSET, with a tag behind the mode. The reply is the name of a kind
%%   that is ready, and then what the calling process had armed of these kinds is
%%   cleared; or it is empty, and a message will come: `{inert_poll, Key, Result}' if
%%   the tag is a big-endian signed 32-bit integer, `{Reference, Result}' if it is a
%%   reference in the external term format.</li>
%% <li>5 CANCEL: as FDCLR, for what a poll of the calling process has armed. The
%%   reply is empty if that was cleared, and `"gone"' if its message has been
%%   sent.</li>
%% <li>6 INFO: no data. The reply is a row of counters, 64-bit big-endian.</li>
%% </ul>
%%
%% Anything else is answered with `"einval"'.
-module(inert_drv).

-export([start/0]).
-export([stop/0]).
-export([encode/1]).
-export([ctl/3]).

%% For prim_inert.
-export([open/1]).
-export([fdset/3]).
-export([fdclr/3]).
-export([check/3]).
-export([poll/4]).
-export([cancel/3]).
-export([info/1]).

-export_type([mode/0]).
-export_type([bits/0]).
-export_type([kind/0]).
-export_type([error/0]).

-type kind() :: read | write.
-type mode() :: read | write | read_write.
-type bits() :: 1..3.
%% A mode on the wire.
-type error() :: closed | ebadf | ebusy | einval | file:posix().

-define(DRIVER, "inert_drv").

-define(FDSET, 1).
-define(FDCLR, 2).
-define(CHECK, 3).
-define(POLL, 4).
-define(CANCEL, 5).
-define(INFO, 6).

%% @doc Loads the driver, or counts one more use of it by the calling process
%% (`erl_ddll:load/2').
%%
%% Raises `{driver_load_failed, Path, Text}' if it cannot be loaded, with the path
%% that was tried and what `erl_ddll:format_error/1' says.
-spec start() -> ok.
start() ->
    Directory = directory(),
    case erl_ddll:load(Directory, ?DRIVER) of
        ok ->
            ok;
        {error, Reason} ->
            Path = filename:join(Directory, ?DRIVER),
            Text = lists:flatten(erl_ddll:format_error(Reason)),
            error({driver_load_failed, Path, Text})
    end.

%% @doc Takes back one {@link start/0} of the calling process. The driver is
%% unloaded when nobody uses it and its last port is closed.
-spec stop() -> ok.
stop() ->
    %% An error says that it is not loaded, or not by this process.
    _ = erl_ddll:unload(?DRIVER),
    ok.

%% @doc A mode as the wire has it.
-spec encode(mode()) -> bits().
encode(read) -> 1;
encode(write) -> 2;
encode(read_write) -> 3.

%% @doc Sends a command to the driver's port, from any process.
%%
%% `{error, closed}' means that there is no such port (any more).
-spec ctl(port() | atom(), non_neg_integer(), iodata()) -> ok | {error, error()}.
ctl(Port, Command, Data) ->
    case request(Port, Command, Data) of
        ok -> ok;
        {error, _} = Error -> Error;
        Answer -> {error, Answer}
    end.

%% @private Opens a port, owned by and linked to the calling process.
-spec open([{pollset, epoll | erts}]) -> port().
open(Options) ->
    ok = start(),
    try
        open_port({spawn_driver, command(Options)}, [])
    after
        %% The port keeps the driver loaded from here on.
        stop()
    end.

-spec command([{pollset, epoll | erts}]) -> string().
command([]) -> ?DRIVER;
command([{pollset, Pollset} | _]) -> ?DRIVER ++ " " ++ atom_to_list(Pollset).

%% @private
-spec fdset(port() | atom(), integer(), bits()) -> ok | {error, error()}.
fdset(Port, FD, Bits) ->
    ctl(Port, ?FDSET, <<FD:32, Bits:32>>).

%% @private
-spec fdclr(port() | atom(), integer(), bits()) -> ok | {error, error()}.
fdclr(Port, FD, Bits) ->
    ctl(Port, ?FDCLR, <<FD:32, Bits:32>>).

%% @private The kind that is ready now. Nothing changes.
-spec check(port() | atom(), integer(), bits()) -> {ok, kind()} | {error, timeout | error()}.
check(Port, FD, Bits) ->
    result(request(Port, ?CHECK, <<FD:32, Bits:32>>)).

%% @private The kind that is ready now, or `ok': a message with the tag will come.
-spec poll(port() | atom(), integer(), bits(), binary()) -> ok | {ok, kind()} | {error, error()}.
poll(Port, FD, Bits, Tag) ->
    result(request(Port, ?POLL, <<FD:32, Bits:32, Tag/binary>>)).

%% @private Clears what the calling process's poll has armed. `gone': its message
%% has been sent.
-spec cancel(port() | atom(), integer(), bits()) -> ok | gone | {error, error()}.
cancel(Port, FD, Bits) ->
    request(Port, ?CANCEL, <<FD:32, Bits:32>>).

%% @private A row of counters: see Counters in driver/wire.rs.
-spec info(port() | atom()) -> {ok, #{pollset := erts | epoll, atom() => non_neg_integer()}} | {error, closed}.
info(Port) ->
    try list_to_binary(erlang:port_control(Port, ?INFO, <<>>)) of
        <<Pollset:64, Armed:64, Processes:64, Delivered:64, Spurious:64, Stale:64, Wakeups:64, Migrated:64,
            Returned:64>> ->
            {ok, #{
                pollset => lists:nth(Pollset + 1, [erts, epoll]),
                armed => Armed,
                processes => Processes,
                delivered => Delivered,
                spurious => Spurious,
                stale => Stale,
                wakeups => Wakeups,
                migrated => Migrated,
                returned => Returned
            }}
    catch
        error:badarg -> {error, closed}
    end.

-spec request(port() | atom(), non_neg_integer(), iodata()) ->
    ok | kind() | timeout | gone | {error, error()}.
request(Port, Command, Data) ->
    try erlang:port_control(Port, Command, Data) of
        [] -> ok;
        "read" -> read;
        "write" -> write;
        "timeout" -> timeout;
        "gone" -> gone;
        Errno -> {error, list_to_atom(Errno)}
    catch
        error:badarg -> {error, closed}
    end.

-spec result(ok | kind() | timeout | {error, error()}) ->
    ok | {ok, kind()} | {error, timeout | error()}.
result(ok) -> ok;
result(timeout) -> {error, timeout};
result({error, _} = Error) -> Error;
result(Kind) -> {ok, Kind}.

%% The directory of the shared object: where code:priv_dir/1 says (a release, a
%% dependency, _build), or beside this module's ebin directory.
-spec directory() -> file:filename().
directory() ->
    Candidates = [Directory || Directory <- [priv_dir(), beside()], Directory =/= none],
    case lists:filter(fun has_driver/1, Candidates) of
        [Directory | _] -> Directory;
        [] -> hd(Candidates)
    end.

-spec priv_dir() -> file:filename() | none.
priv_dir() ->
    case code:priv_dir(inert) of
        {error, bad_name} -> none;
        Directory -> Directory
    end.

-spec beside() -> file:filename().
beside() ->
    case code:which(?MODULE) of
        File when is_list(File) ->
            filename:join([filename:dirname(filename:dirname(filename:absname(File))), "priv"]);
        _ ->
            "priv"
    end.

-spec has_driver(file:filename()) -> boolean().
has_driver(Directory) ->
    filelib:is_regular(filename:join(Directory, ?DRIVER ".so")).
