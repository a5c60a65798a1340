%% SPDX-License-Identifier: Apache-2.0

%% @doc An echo server on OTP's socket module: `nowait', and the select message when there is
%% nothing yet.
-module(bench_socket).

-behaviour(bench_server).

-export([listen/1]).

%% @private
listen(_) ->
    Caller = self(),
    Ref = make_ref(),
    %% The socket's owner has to live as long as the server.
    _ = spawn(fun() ->
        {ok, Listener} = socket:open(inet, stream, tcp),
        ok = socket:bind(Listener, #{family => inet, addr => loopback, port => 0}),
        ok = socket:listen(Listener, bench_server:backlog()),
        {ok, #{port := Port}} = socket:sockname(Listener),
        Caller ! {Ref, {ok, Port}},
        accept(Listener)
    end),
    receive
        {Ref, Result} -> Result
    end.

accept(Listener) ->
    {ok, Socket} = socket:accept(Listener),
    Connection = spawn(fun() ->
        receive
            start -> connection(Socket)
        end
    end),
    case socket:setopt(Socket, {otp, controlling_process}, Connection) of
        ok -> Connection ! start;
        {error, _Reason} -> exit(Connection, kill)
    end,
    accept(Listener).

connection(Socket) ->
    case socket:setopt(Socket, {tcp, nodelay}, true) of
        ok -> echo(Socket);
        {error, _Reason} -> ok
    end,
    socket:close(Socket).

echo(Socket) ->
    case socket:recv(Socket, 0, nowait) of
        {ok, Data} ->
            case socket:send(Socket, Data) of
                ok -> echo(Socket);
                {error, _Reason} -> ok
            end;
        {select, {select_info, _Tag, Ref}} ->
            receive
                {'$socket', Socket, select, Ref} -> echo(Socket);
                {'$socket', Socket, abort, {Ref, _Reason}} -> ok
            end;
        {error, _Reason} ->
            ok
    end.
