%% SPDX-License-Identifier: Apache-2.0

%% @doc An echo server on raw fds. The argument says what waits: see bench_waiter.
-module(bench_raw).

-behaviour(bench_server).

-export([listen/1]).

%% @private
listen({Waiter, Argument}) ->
    ok = Waiter:start(Argument),
    {ok, FD} = fdio:socket(inet, stream, 0),
    ok = fdio:bind(FD, {{127, 0, 0, 1}, 0}),
    ok = fdio:listen(FD, bench_server:backlog()),
    {ok, {_IP, Port}} = fdio:getsockname(FD),
    _ = spawn(fun() -> accept(Waiter, Waiter:handle(FD), FD) end),
    {ok, Port}.

accept(Waiter, Handle, FD) ->
    case fdio:accept(FD) of
        {ok, Connection} ->
            _ = spawn(fun() -> connection(Waiter, Connection) end),
            accept(Waiter, Handle, FD);
        {error, eagain} ->
            ok = Waiter:wait(Handle, read),
            accept(Waiter, Handle, FD)
    end.

connection(Waiter, FD) ->
    ok = fdio:setsockopt(FD, nodelay, true),
    Handle = Waiter:handle(FD),
    echo(Waiter, Handle, FD),
    Waiter:close(Handle).

echo(Waiter, Handle, FD) ->
    case bench_waiter:recv(Waiter, Handle, FD) of
        {ok, <<>>} ->
            ok;
        {ok, Data} ->
            case bench_waiter:send(Waiter, Handle, FD, Data) of
                ok -> echo(Waiter, Handle, FD);
                {error, _Reason} -> ok
            end;
        {error, _Reason} ->
            ok
    end.
