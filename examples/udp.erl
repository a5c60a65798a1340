%% SPDX-License-Identifier: Apache-2.0

%% @doc A UDP echo server that answers from the address it was asked at.
%%
%% ```
%% {ok, Server} = udp:start_link(7777, #{}),
%% {ok, #{data := <<"hello">>, ttl := 64}} = udp:ask({{127, 0, 0, 2}, 7777}, <<"hello">>, 1000).
%% '''
%%
%% A machine has many addresses, and a UDP socket for all of them (`{0, 0, 0, 0}') answers from the one that
%% routing likes best. A client that asked another one then drops the answer. The ancillary data of
%% recvmsg(2) tells which address a datagram was sent to, and sendmsg(2) takes it for the answer's source: what
%% a server of DNS, NTP or QUIC does, and what the first inert was written for, as gen_udp could not.
%%
%% The server waits for messages of inert, and takes some datagrams at a time, so that calls and the end come in
%% between. UDP is allowed to lose: an answer that cannot be sent now is dropped and counted, as waiting
%% would let one client delay all others.
-module(udp).

-behaviour(gen_server).

-export([start_link/2]).
-export([stop/1]).
-export([port/1]).
-export([counts/1]).
-export([ask/3]).

-export([init/1]).
-export([handle_continue/2]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

-export_type([options/0]).
-export_type([answer/0]).

-type options() :: #{ip => inet:ip_address(), interface => binary()}.
%% `ip': where to listen; default `{0, 0, 0, 0}', every IPv4 address of this machine.
%% `interface': the only interface to listen on, for example `<<"lo">>'; default all.

-type answer() :: #{
    data := binary(),
    ttl => 0..255,
    round_trip => Nanoseconds :: non_neg_integer()
}.
%% `ttl': what is left of the time to live, which each router takes one off. `round_trip': from just before the
%% datagram was sent to when the kernel received the answer, so without the time that
%% this process waited for its turn.

-record(state, {fd :: fdio:fd(), answered = 0 :: non_neg_integer(), dropped = 0 :: non_neg_integer()}).

%% No datagram is longer.
-define(MAX, 65535).

%% Datagrams before the server looks at its other messages.
-define(BATCH, 100).

%%% API

%% @doc Starts a server. Port 0 lets the kernel choose (see `port/1').
%%
%% Errors are named by the call that failed: `{bind, eaddrinuse}', `{setsockopt, enodev}', ...
-spec start_link(inet:port_number(), options()) -> gen_server:start_ret().
start_link(Port, Options) ->
    case maps:keys(maps:without([ip, interface], Options)) of
        [] -> start_open(open(Port, Options));
        Unknown -> error({unknown_options, Unknown})
    end.

%% Opened by the caller, so that an error is an answer and not the end of a process linked to it.
-spec start_open({ok, fdio:fd()} | {error, term()}) -> gen_server:start_ret().
start_open({ok, FD}) -> gen_server:start_link(?MODULE, FD, []);
start_open({error, _Reason} = Error) -> Error.

%% @doc Stops a server.
-spec stop(pid()) -> ok.
stop(Server) ->
    gen_server:stop(Server).

%% @doc The port that a server listens on.
-spec port(pid()) -> inet:port_number().
port(Server) ->
    gen_server:call(Server, port).

%% @doc How many datagrams were answered, and how many were not.
-spec counts(pid()) -> #{answered := non_neg_integer(), dropped := non_neg_integer()}.
counts(Server) ->
    gen_server:call(Server, counts).

%% @doc Sends a datagram and waits for the answer, which the kernel takes from that address only.
%%
%% Errors: `timeout' (lost on the way, or nobody there), `econnrefused' (nobody there, says the
%% machine), `emsgsize', `enetunreach', ...
-spec ask({inet:ip_address(), inet:port_number()}, binary(), timeout()) ->
    {ok, answer()} | {error, fdio:posix() | inert:error() | timeout | ecanceled}.
ask({IP, _Port} = Address, Data, Timeout) ->
    ok = inert:start(),
    case fdio:socket(domain(IP), dgram, 0) of
        {ok, FD} ->
            try
                ask_with(FD, Address, Data, Timeout)
            after
                _ = inert:fdclr(FD),
                ok = fdio:close(FD)
            end;
        {error, _Reason} = Error ->
            Error
    end.

%%% The client

-spec ask_with(fdio:fd(), fdio:address(), binary(), timeout()) -> {ok, answer()} | {error, atom()}.
ask_with(FD, Address, Data, Timeout) ->
    Steps = [
        {setsockopt, [FD, recvttl, true]},
        {setsockopt, [FD, timestamp, true]},
        {connect, [FD, Address]}
    ],
    case first_error(Steps) of
        ok ->
            Began = os:system_time(nanosecond),
            case fdio:send(FD, Data) of
                {ok, _All} -> await_answer(FD, Began, Timeout);
                {error, _Reason} = Error -> Error
            end;
        {error, {_Call, Reason}} ->
            {error, Reason}
    end.

%% Once is enough: what makes the socket readable stays until it is read.
-spec await_answer(fdio:fd(), integer(), timeout()) -> {ok, answer()} | {error, atom()}.
await_answer(FD, Began, Timeout) ->
    case inert:poll(FD, read, Timeout) of
        {ok, read} ->
            case fdio:recvmsg(FD, ?MAX) of
                {ok, #{data := Data, control := Control}} -> {ok, answer(Data, Began, Control)};
                {error, _Reason} = Error -> Error
            end;
        {error, _Reason} = Error ->
            Error
    end.

-spec answer(binary(), integer(), [fdio:control()]) -> answer().
answer(Data, Began, Control) ->
    lists:foldl(
        fun
            ({ttl, TTL}, Answer) -> Answer#{ttl => TTL};
            %% Somebody may set the clock meanwhile.
            ({timestamp, Time}, Answer) -> Answer#{round_trip => max(0, Time - Began)};
            (_Other, Answer) -> Answer
        end,
        #{data => Data},
        Control
    ).

%%% The server

%% @private
-spec init(fdio:fd()) -> {ok, #state{}, {continue, serve}}.
init(FD) ->
    process_flag(trap_exit, true),
    %% Nothing else would tell the server that what it waits for will not come.
    _ = erlang:monitor(port, inert:pollid()),
    {ok, #state{fd = FD}, {continue, serve}}.

%% @private
-spec handle_continue(serve, #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_continue(serve, State) ->
    serve(State, ?BATCH).

%% @private
-spec handle_call(port | counts, gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(port, _From, #state{fd = FD} = State) ->
    {ok, {_IP, Port}} = fdio:getsockname(FD),
    {reply, Port, State};
handle_call(counts, _From, #state{answered = Answered, dropped = Dropped} = State) ->
    {reply, #{answered => Answered, dropped => Dropped}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({inert_read, _PollId, FD}, #state{fd = FD} = State) ->
    serve(State, ?BATCH);
handle_info({'DOWN', _Monitor, port, _PollId, Reason}, State) ->
    {stop, {inert, Reason}, State};
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{fd = FD}) ->
    _ = inert:fdclr(FD),
    ok = fdio:close(FD).

-spec open(inet:port_number(), options()) -> {ok, fdio:fd()} | {error, term()}.
open(Port, Options) ->
    IP = maps:get(ip, Options, {0, 0, 0, 0}),
    ok = inert:start(),
    case fdio:socket(domain(IP), dgram, 0) of
        {ok, FD} ->
            Steps =
                [{setsockopt, [FD, bindtodevice, Only]} || #{interface := Only} <- [Options]] ++
                    [{setsockopt, [FD, pktinfo, true]}, {bind, [FD, {IP, Port}]}],
            try first_error(Steps) of
                ok ->
                    {ok, FD};
                {error, _Reason} = Error ->
                    ok = fdio:close(FD),
                    Error
            catch
                error:badarg ->
                    ok = fdio:close(FD),
                    error(badarg, [Port, Options])
            end;
        {error, Reason} ->
            {error, {socket, Reason}}
    end.

%% inert tells at once if there is more, and otherwise when there is something again.
-spec serve(#state{}, non_neg_integer()) -> {noreply, #state{}} | {stop, term(), #state{}}.
serve(#state{fd = FD} = State, 0) ->
    case inert:fdset(FD, read) of
        ok -> {noreply, State};
        {error, Reason} -> {stop, {fdset, Reason}, State}
    end;
serve(#state{fd = FD} = State, Left) ->
    case fdio:recvmsg(FD, ?MAX) of
        {ok, Message} ->
            serve(reply(Message, State), Left - 1);
        {error, eagain} ->
            serve(State, 0);
        {error, Reason} when Reason =:= ebadf; Reason =:= enotsock ->
            {stop, {recvmsg, Reason}, State};
        {error, _OfAnEarlierAnswer} ->
            serve(State, Left - 1)
    end.

-spec reply(fdio:message(), #state{}) -> #state{}.
reply(#{data := Data, address := From, control := Control}, State) ->
    #state{fd = FD, answered = Answered, dropped = Dropped} = State,
    Answer = #{data => Data, address => From, control => lists:filtermap(fun source/1, Control)},
    case fdio:sendmsg(FD, Answer) of
        {ok, _All} -> State#state{answered = Answered + 1};
        {error, _Reason} -> State#state{dropped = Dropped + 1}
    end.

%% The interface is routing's to choose, except where an address means nothing without one.
-spec source(fdio:control()) -> {true, fdio:control()} | false.
source({pktinfo, {16#fe80, _, _, _, _, _, _, _} = LinkLocal, Interface}) ->
    {true, {pktinfo, LinkLocal, Interface}};
source({pktinfo, Local, _Interface}) ->
    {true, {pktinfo, Local, 0}};
source(_Other) ->
    false.

-spec first_error([{atom(), [term()]}]) -> ok | {error, {atom(), fdio:posix()}}.
first_error([]) ->
    ok;
first_error([{Function, Arguments} | Steps]) ->
    case apply(fdio, Function, Arguments) of
        ok -> first_error(Steps);
        {error, Reason} -> {error, {Function, Reason}}
    end.

-spec domain(inet:ip_address()) -> inet | inet6.
domain(IP) when tuple_size(IP) =:= 4 -> inet;
domain(IP) when tuple_size(IP) =:= 8 -> inet6.
