%% SPDX-License-Identifier: Apache-2.0

%% @doc An echo server on raw fds given to ERTS's own driver: `open_port({fd, FD, FD}, ...)'.
%%
%% Accepting is inert's: the driver has no part in it.
-module(bench_fd_port).

-behaviour(bench_server).

-export([listen/1]).

%% @private
listen(_) ->
    ok = inert:start(),
    {ok, FD} = fdio:socket(inet, stream, 0),
    ok = fdio:bind(FD, {{127, 0, 0, 1}, 0}),
    ok = fdio:listen(FD, bench_server:backlog()),
    {ok, {_IP, Port}} = fdio:getsockname(FD),
    _ = spawn(fun() -> accept(FD) end),
    {ok, Port}.

accept(FD) ->
    case fdio:accept(FD) of
        {ok, Connection} ->
            _ = spawn(fun() -> connection(Connection) end),
            accept(FD);
        {error, eagain} ->
            {ok, read} = inert:poll(FD, read),
            accept(FD)
    end.

%% The fd stays open until the VM ends: the driver does not close it, and only
%% the driver knows when it has stopped using it.
connection(FD) ->
    ok = fdio:setsockopt(FD, nodelay, true),
    Port = open_port({fd, FD, FD}, [stream, binary, eof]),
    echo(Port).

echo(Port) ->
    receive
        {Port, {data, Data}} ->
            true = port_command(Port, Data),
            echo(Port);
        {Port, eof} ->
            true = port_close(Port)
    end.
