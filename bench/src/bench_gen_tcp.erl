%% SPDX-License-Identifier: Apache-2.0

%% @doc An echo server on gen_tcp. The argument is the socket's `active' option.
-module(bench_gen_tcp).

-behaviour(bench_server).

-export([listen/1]).

%% @private
listen(Active) ->
    Caller = self(),
    Ref = make_ref(),
    %% The socket's owner has to live as long as the server.
    _ = spawn(fun() ->
        {ok, Listener} = gen_tcp:listen(0, [
            binary,
            {ip, {127, 0, 0, 1}},
            {active, false},
            {nodelay, true},
            {backlog, bench_server:backlog()}
        ]),
        Caller ! {Ref, inet:port(Listener)},
        accept(Listener, Active)
    end),
    receive
        {Ref, {ok, _Port} = Result} -> Result
    end.

accept(Listener, Active) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Connection = spawn(fun() ->
        receive
            start -> connection(Socket, Active)
        end
    end),
    case gen_tcp:controlling_process(Socket, Connection) of
        ok -> Connection ! start;
        {error, _Reason} -> exit(Connection, kill)
    end,
    accept(Listener, Active).

connection(Socket, false) ->
    passive(Socket);
connection(Socket, once) ->
    once(Socket);
connection(Socket, true) ->
    case inet:setopts(Socket, [{active, true}]) of
        ok -> active(Socket);
        {error, _Reason} -> ok
    end.

passive(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Data} ->
            case gen_tcp:send(Socket, Data) of
                ok -> passive(Socket);
                {error, _Reason} -> ok
            end;
        {error, _Reason} ->
            ok
    end.

once(Socket) ->
    case inet:setopts(Socket, [{active, once}]) of
        ok ->
            receive
                {tcp, Socket, Data} ->
                    case gen_tcp:send(Socket, Data) of
                        ok -> once(Socket);
                        {error, _Reason} -> ok
                    end;
                {tcp_closed, Socket} ->
                    ok;
                {tcp_error, Socket, _Reason} ->
                    ok
            end;
        {error, _Reason} ->
            ok
    end.

active(Socket) ->
    receive
        {tcp, Socket, Data} ->
            case gen_tcp:send(Socket, Data) of
                ok -> active(Socket);
                {error, _Reason} -> ok
            end;
        {tcp_closed, Socket} ->
            ok;
        {tcp_error, Socket, _Reason} ->
            ok
    end.
