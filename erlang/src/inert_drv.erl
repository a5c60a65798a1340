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
%% others belong to inert's own modules (`driver/wire.rs' has all of them).
%%
%% <ul>
%% <li>1 FDSET, 2 FDCLR: exactly 8 bytes, the fd and the mode, both big-endian
%%   signed 32-bit integers; mode 1 is read, 2 write, 3 both. The reply is empty
%%   for ok, else the errno's name in lower case, `"ebadf"'.</li>
%% </ul>
%%
%% Anything else is answered with `"einval"'.
-module(inert_drv).

-export([start/0]).
-export([stop/0]).
-export([encode/1]).
-export([ctl/3]).

%% For inert's other modules.
-export([open/1]).
-export([command/1]).
-export([fdset/2]).
-export([fdclr/2]).
-export([check/2]).
-export([poll/3]).
-export([cancel/2]).
-export([info/1]).
-export([waiters/3]).
-export([describe/2]).

-export_type([mode/0]).
-export_type([bits/0]).
-export_type([kind/0]).
-export_type([error/0]).
-export_type([target/0]).
-export_type([waiter/0]).

-type kind() :: read | write | priority | hangup.
-type mode() :: read | write | read_write | priority | hangup | [kind(), ...].
-type bits() :: 1..15.
%% A mode on the wire.
-type error() :: closed | ebadf | ebusy | einval | enotsup | file:posix().
-type target() ::
    {integer(), bits()}
    | {one, integer(), bits()}
    | {set, Count :: non_neg_integer(), binary()}.
%% What a request is about: a fd; a set of one fd; or a set as it goes over the wire.
-type waiter() :: {FD :: integer(), kind(), pid(), Milliseconds :: non_neg_integer()}.

-define(DRIVER, "inert_drv").

-define(FDSET, 1).
-define(FDCLR, 2).
-define(CHECK, 3).
-define(POLL, 4).
-define(CANCEL, 5).
-define(INFO, 6).
-define(FDSET_ALL, 7).
-define(FDCLR_ALL, 8).
-define(CHECK_ALL, 9).
-define(POLL_ALL, 10).
-define(WAITERS, 11).
-define(DESCRIBE, 12).

%% A message that the port has sent before it replied is there. In milliseconds.
-define(LAST_MESSAGE, 5_000).

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

%% @doc A mode as the wire has it. Of a list of kinds: all of them.
%%
%% FDSET and FDCLR take read and write only.
-spec encode(mode()) -> bits().
encode(read) -> 1;
encode(write) -> 2;
encode(read_write) -> 3;
encode(priority) -> 4;
encode(hangup) -> 8;
encode([Kind]) when Kind =/= read_write, is_atom(Kind) -> encode(Kind);
encode([Kind | Kinds]) when Kind =/= read_write, is_atom(Kind), is_list(Kinds) ->
    encode(Kind) bor encode(Kinds).

%% @doc Sends a command to the driver's port, from any process.
%%
%% `{error, closed}' means that there is no such port (any more).
-spec ctl(port() | atom(), non_neg_integer(), iodata()) -> ok | {error, error()}.
ctl(Port, Command, Data) ->
    try erlang:port_control(Port, Command, Data) of
        [] -> ok;
        Reply -> {error, word(Reply)}
    catch
        error:badarg -> {error, closed}
    end.

%% Not every reply may become an atom: some commands answer with numbers.
-spec word(string() | binary()) -> atom().
word(Reply) ->
    IsWord = is_list(Reply) andalso length(Reply) < 20 andalso lists:all(fun(C) -> C >= $0 andalso C =< $z end, Reply),
    case IsWord of
        true -> list_to_atom(Reply);
        false -> einval
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

%% @private The driver's start command.
-spec command([{pollset, epoll | erts}]) -> string().
command([]) -> ?DRIVER;
command([{pollset, Pollset} | _]) -> ?DRIVER ++ " " ++ atom_to_list(Pollset).

%% @private Of a set, an error comes with the fd that it is about.
-spec fdset(port() | atom(), target()) -> ok | {error, error() | {error(), integer()}}.
fdset(Port, {one, FD, Bits}) -> request(Port, ?FDSET_ALL, <<FD:32, Bits:32>>);
fdset(Port, {set, _Count, Set}) -> request(Port, ?FDSET_ALL, Set);
fdset(Port, {FD, Bits}) when Bits =< 3 -> request(Port, ?FDSET, <<FD:32, Bits:32>>);
fdset(Port, {FD, Bits}) -> of_one(request(Port, ?FDSET_ALL, <<FD:32, Bits:32>>)).

%% @private
-spec fdclr(port() | atom(), target()) -> ok | {error, error() | {error(), integer()}}.
fdclr(Port, {one, FD, Bits}) -> request(Port, ?FDCLR_ALL, <<FD:32, Bits:32>>);
fdclr(Port, {set, _Count, Set}) -> request(Port, ?FDCLR_ALL, Set);
fdclr(Port, {FD, Bits}) when Bits =< 3 -> request(Port, ?FDCLR, <<FD:32, Bits:32>>);
fdclr(Port, {FD, Bits}) -> of_one(request(Port, ?FDCLR_ALL, <<FD:32, Bits:32>>)).

-spec of_one(ok | {error, error() | {error(), integer()}}) -> ok | {error, error()}.
of_one({error, {Reason, _FD}}) -> {error, Reason};
of_one(Result) -> Result.

%% @private What is ready now. Nothing changes.
-spec check(port() | atom(), target()) ->
    {ok, kind() | [{integer(), kind()}]} | {error, timeout | error() | {error(), integer()}}.
check(Port, {set, _Count, Set}) ->
    case request(Port, ?CHECK_ALL, Set) of
        {ok, []} -> {error, timeout};
        Result -> Result
    end;
check(Port, {FD, Bits}) ->
    request(Port, ?CHECK, <<FD:32, Bits:32>>).

%% @private What is ready now, or `ok': a message with the tag will come.
-spec poll(port() | atom(), target(), 0..16#7fffffff | binary()) ->
    ok | {ok, kind() | [{integer(), kind()}]} | {error, error() | {error(), integer()}}.
poll(Port, {FD, Bits}, Key) when is_integer(Key) ->
    request(Port, ?POLL, <<FD:32, Bits:32, Key:32>>);
poll(Port, Set, Key) when is_integer(Key) ->
    poll(Port, Set, <<Key:32>>);
poll(Port, {set, Count, Set}, Tag) ->
    request(Port, ?POLL_ALL, [<<Count:32>>, Set, Tag]);
poll(Port, {FD, Bits}, Tag) ->
    request(Port, ?POLL, <<FD:32, Bits:32, Tag/binary>>).

%% @private Clears what the calling process's poll has armed. `gone': its message
%% has been sent.
-spec cancel(port() | atom(), target()) -> ok | gone | {error, error()}.
cancel(Port, {set, _Count, <<First:8/binary, _/binary>>}) ->
    request(Port, ?CANCEL, First);
cancel(Port, {FD, Bits}) ->
    request(Port, ?CANCEL, <<FD:32, Bits:32>>).

%% @private A row of counters: see Counters in driver/wire.rs.
-spec info(port() | atom()) -> {ok, #{pollset := erts | epoll, atom() => non_neg_integer()}} | {error, closed}.
info(Port) ->
    try list_to_binary(erlang:port_control(Port, ?INFO, <<>>)) of
        <<Pollset:64, Counters/binary>> ->
            Names = [armed, fds, polls, processes, delivered, spurious, stale, wakeups, migrated, returned],
            Values = [Counter || <<Counter:64>> <= Counters],
            {ok, maps:from_list([{pollset, lists:nth(Pollset + 1, [erts, epoll])} | lists:zip(Names, Values)])}
    catch
        error:badarg -> {error, closed}
    end.

%% @private Who waits, from a fd on; the fd to go on from, if there are more.
-spec waiters(port() | atom(), integer(), integer()) ->
    {ok, [waiter()], Next :: integer() | none} | {error, closed}.
waiters(Port, First, Key) ->
    case request(Port, ?WAITERS, <<First:32, Key:32>>) of
        ok ->
            receive
                {inert_waiters, Key, Waiters, Next} -> {ok, Waiters, Next}
            after ?LAST_MESSAGE -> {error, closed}
            end;
        {error, _} = Error ->
            Error
    end.

%% @private What a fd is: the words of Description in driver/sys.rs.
-spec describe(port() | atom(), integer()) -> {ok, [string()]} | {error, error()}.
describe(Port, FD) ->
    try erlang:port_control(Port, ?DESCRIBE, <<FD:32>>) of
        %% No word for a file begins so.
        "e" ++ _ = Errno -> {error, list_to_atom(Errno)};
        Text -> {ok, string:split(Text, "\n", all)}
    catch
        error:badarg -> {error, closed}
    end.

-type reply() ::
    ok
    | gone
    | {ok, kind() | [{integer(), kind()}]}
    | {error, timeout | error() | {error(), integer()}}.

-spec request(port() | atom(), non_neg_integer(), iodata()) -> reply().
request(Port, Command, Data) ->
    try erlang:port_control(Port, Command, Data) of
        [] -> ok;
        "read" -> {ok, read};
        "write" -> {ok, write};
        "priority" -> {ok, priority};
        "hangup" -> {ok, hangup};
        "timeout" -> {error, timeout};
        "gone" -> gone;
        Set when is_binary(Set) -> {ok, [{FD, Kind} || <<FD:32/signed, Bits:32>> <= Set, Kind <- kinds(Bits)]};
        Error -> {error, error_term(Error)}
    catch
        error:badarg -> {error, closed}
    end.

-spec kinds(bits()) -> [kind()].
kinds(1) -> [read];
kinds(2) -> [write];
kinds(Bits) ->
    [Kind || Kind <- [read, write, priority, hangup], encode(Kind) band Bits =/= 0].

%% An errno's name, of a set with the fd.
-spec error_term(string()) -> error() | {error(), integer()}.
error_term(Text) ->
    case string:split(Text, " ") of
        [Errno] -> list_to_atom(Errno);
        [Errno, FD] -> {list_to_atom(Errno), list_to_integer(FD)}
    end.

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
