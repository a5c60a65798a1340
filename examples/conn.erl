%% SPDX-License-Identifier: Apache-2.0

%% @doc Connecting without blocking: reads an SSH server's greeting.
%%
%% ```
%% 1> conn:ssh().
%% {ok,<<"SSH-2.0-OpenSSH_9.2p1 Debian-2">>}
%% '''
%%
%% It is what `gen_tcp:connect/4' and `gen_tcp:recv/3' do, one system call at a time:
%% connect(2) answers einprogress, inert waits until the socket is writable, SO_ERROR tells
%% how the connect ended, and reading waits the same way.
-module(conn).

-export([ssh/0]).
-export([ssh/2]).
-export([ssh/3]).

-define(TIMEOUT_MS, 5000).

%% RFC 4253, 4.2: no longer than this, CR and LF included.
-define(MAX_GREETING, 255).

%% In milliseconds of erlang:monotonic_time/1.
-type deadline() :: integer() | infinity.

-type result() :: {ok, Greeting :: binary()} | {error, fdio:posix() | timeout | closed}.

%% @doc As `ssh({127, 0, 0, 1}, 22)'.
-spec ssh() -> result().
ssh() ->
    ssh({127, 0, 0, 1}, 22).

%% @doc As `ssh(IP, Port, 5000)'.
-spec ssh(inet:ip_address(), inet:port_number()) -> result().
ssh(IP, Port) ->
    ssh(IP, Port, ?TIMEOUT_MS).

%% @doc The first line that the server sends, without CR LF. The timeout, in milliseconds, is
%% for connecting and reading together.
%%
%% Errors: `econnrefused', `ehostunreach', ...; `timeout'; `closed' (the server, or
%% inert, closed before there was a line); `emsgsize' (255 bytes, and no end of the line).
-spec ssh(inet:ip_address(), inet:port_number(), timeout()) -> result().
ssh(IP, Port, Timeout) ->
    Deadline = deadline(Timeout),
    ok = inert:start(),
    case fdio:socket(domain(IP), stream, 0) of
        {ok, FD} ->
            %% Runs on errors and exceptions. If this process may be killed from
            %% outside, the fd must belong to another one: see echo.erl.
            try
                greeting(FD, {IP, Port}, Deadline)
            after
                %% First cleared, then closed: the number may belong to another file at once.
                _ = inert:fdclr(FD),
                ok = fdio:close(FD)
            end;
        {error, _Reason} = Error ->
            Error
    end.

greeting(FD, Address, Deadline) ->
    case connect(FD, Address, Deadline) of
        ok -> read_line(FD, Deadline, <<>>);
        {error, _Reason} = Error -> Error
    end.

%% connect(2): the socket becomes writable when the attempt is decided, either way.
connect(FD, Address, Deadline) ->
    case fdio:connect(FD, Address) of
        {error, einprogress} ->
            case inert:poll(FD, write, time_left(Deadline)) of
                {ok, write} -> fdio:so_error(FD);
                {error, _Reason} = Error -> Error
            end;
        Decided ->
            Decided
    end.

%% TCP has no lines: a greeting may come in pieces, and a piece may hold more than the greeting.
read_line(FD, Deadline, Before) ->
    case binary:split(Before, <<"\r\n">>) of
        [Line, _After] ->
            {ok, Line};
        [_Incomplete] when byte_size(Before) >= ?MAX_GREETING ->
            {error, emsgsize};
        [_Incomplete] ->
            read_more(FD, Deadline, Before)
    end.

read_more(FD, Deadline, Before) ->
    case fdio:recv(FD, ?MAX_GREETING - byte_size(Before)) of
        {ok, <<>>} ->
            {error, closed};
        {ok, More} ->
            read_line(FD, Deadline, <<Before/binary, More/binary>>);
        {error, eagain} ->
            case inert:poll(FD, read, time_left(Deadline)) of
                {ok, read} -> read_more(FD, Deadline, Before);
                {error, _Reason} = Error -> Error
            end;
        {error, _Reason} = Error ->
            Error
    end.

-spec deadline(timeout()) -> deadline().
deadline(infinity) ->
    infinity;
deadline(Timeout) ->
    erlang:monotonic_time(millisecond) + Timeout.

-spec time_left(deadline()) -> timeout().
time_left(infinity) ->
    infinity;
time_left(Deadline) ->
    max(0, Deadline - erlang:monotonic_time(millisecond)).

domain(IP) when tuple_size(IP) =:= 4 -> inet;
domain(IP) when tuple_size(IP) =:= 8 -> inet6.
