%% SPDX-License-Identifier: Apache-2.0

%% @doc What waits for raw fds: inert with either pollset, or enif_select. All of them get the
%% same loops (bench_raw, bench_pingpong) and the same system calls (fdio) around them.
-module(bench_waiter).

-export([recv/3]).
-export([send/4]).

-export_type([waiter/0]).
-export_type([handle/0]).

-type waiter() :: {module(), Argument :: term()}.
-type handle() :: term().
%% What the waiter has for a fd.

%% Once per VM.
-callback start(Argument :: term()) -> ok.
%% Takes a fd, which {@link close/1} will close.
-callback handle(fdio:fd()) -> handle().
%% Blocks the caller until the fd is ready.
-callback wait(handle(), read | write) -> ok.
%% Whether waiting for a fd that is ready is a plain look at it, which makes reading first to
%% see whether there is anything superfluous. Elsewhere that is the usual loop.
-callback looks() -> boolean().
%% Asks for a message when there is something to read, and does not wait for it.
-callback arm(handle()) -> ok.
%% Closes a fd that nobody waits for.
-callback close(handle()) -> ok.

%% What one read takes at most, here and in the Rust server.
-define(CHUNK, 4096).

%% @doc Reads, and waits only if there is nothing to read; which of both comes first is as the
%% waiter's users write it.
-spec recv(module(), handle(), fdio:fd()) -> {ok, binary()} | {error, fdio:posix()}.
recv(Waiter, Handle, FD) ->
    ok = look(Waiter:looks(), Waiter, Handle),
    case fdio:recv(FD, ?CHUNK) of
        {error, eagain} ->
            ok = look(not Waiter:looks(), Waiter, Handle),
            recv(Waiter, Handle, FD);
        Result ->
            Result
    end.

look(true, Waiter, Handle) -> Waiter:wait(Handle, read);
look(false, _Waiter, _Handle) -> ok.

%% @doc Writes all, and waits only if not all fits.
-spec send(module(), handle(), fdio:fd(), binary()) -> ok | {error, fdio:posix()}.
send(Waiter, Handle, FD, Data) ->
    case fdio:send(FD, Data) of
        {ok, Sent} when Sent =:= byte_size(Data) ->
            ok;
        {ok, Sent} ->
            <<_:Sent/binary, Rest/binary>> = Data,
            send(Waiter, Handle, FD, Rest);
        {error, eagain} ->
            ok = Waiter:wait(Handle, write),
            send(Waiter, Handle, FD, Data);
        {error, _Reason} = Error ->
            Error
    end.
