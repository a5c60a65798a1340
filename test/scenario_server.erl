%% SPDX-License-Identifier: Apache-2.0
%%
%% Two echo servers, written the two ways that inert's sets and messages are made for:
%% a process that waits for all of its fds in one poll, and a gen_server that gets
%% messages of fdset between its calls. Both count what they see.
-module(scenario_server).
-behaviour(gen_server).

%% One poll for all
-export([run/3]).

%% The gen_server
-export([start_link/1]).
-export([address/1]).
-export([add/2]).
-export([stop/1]).
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

%% Of one read. What is written takes several where the other side does not read.
-define(CHUNK, 65536).

%%% What both share

%% A listening socket and its port number.
listen() ->
    {ok, Listener} = fdio:socket(inet, stream, 0),
    ok = fdio:bind(Listener, {{127, 0, 0, 1}, 0}),
    ok = fdio:listen(Listener, 512),
    {ok, {_, Port}} = fdio:getsockname(Listener),
    {Listener, Port}.

%% A small buffer, so that what is echoed does not always find room.
accept_all(Listener) ->
    case fdio:accept(Listener) of
        {ok, FD} ->
            ok = fdio:setsockopt(FD, sndbuf, 4096),
            [FD | accept_all(Listener)];
        {error, eagain} -> []
    end.

count(Key, By, Counts) ->
    maps:update_with(Key, fun(Count) -> Count + By end, By, Counts).

%% What a connection does next: wait for something to read, or for room to write the rest, or
%% nothing, for it has ended. A connection whose rest is not written yet reads no more.
serve(FD, <<>>) ->
    case fdio:read(FD, ?CHUNK) of
        {ok, <<>>} -> ended;
        {ok, Data} -> put_out(FD, Data, byte_size(Data));
        {error, eagain} -> {read, <<>>, 0, 0}
    end;
serve(FD, Rest) ->
    put_out(FD, Rest, 0).

put_out(FD, Data, Read) ->
    case fdio:write(FD, Data) of
        {ok, Size} when Size =:= byte_size(Data) ->
            {read, <<>>, Read, Size};
        {ok, Size} ->
            <<_:Size/binary, Rest/binary>> = Data,
            {write, Rest, Read, Size};
        {error, eagain} ->
            {write, Data, Read, 0}
    end.

%%% One poll for all

%% Serves until something can be read of the fd Stop. Tells Parent the port number first.
run(Inert, Stop, Parent) ->
    {Listener, Number} = listen(),
    Parent ! {self(), listening, Number},
    Counts = loop(Inert, Stop, Listener, #{}, #{polls => 0, most_ready => 0, most_open => 0}),
    ok = fdio:close(Listener),
    Counts.

loop(Inert, Stop, Listener, Rests, Counts0) ->
    Set = [Stop, Listener | maps:fold(fun(FD, Rest, Set) -> [{FD, mode(Rest)} | Set] end, [], Rests)],
    {ok, Ready} = prim_inert:poll(Inert, Set),
    Counts1 = count(polls, 1, Counts0),
    Counts2 = Counts1#{
        most_ready := max(length(Ready), maps:get(most_ready, Counts1)),
        most_open := max(map_size(Rests), maps:get(most_open, Counts1))
    },
    case lists:keymember(Stop, 1, Ready) of
        true ->
            #{} = maps:map(fun(FD, _) -> ok = fdio:close(FD) end, Rests),
            Counts2#{left => map_size(Rests)};
        false ->
            {Served, Counts} = lists:foldl(
                fun
                    ({FD, read}, {Some, Seen}) when FD =:= Listener ->
                        New = accept_all(Listener),
                        {maps:merge(Some, maps:from_list([{One, <<>>} || One <- New])),
                            count(accepted, length(New), Seen)};
                    ({FD, _Kind}, {Some, Seen}) ->
                        one(FD, Some, Seen)
                end,
                {Rests, Counts2},
                %% Numbers that are closed here may come back by accept.
                lists:keydelete(Listener, 1, Ready) ++ [Of || {FD, _} = Of <- Ready, FD =:= Listener]
            ),
            loop(Inert, Stop, Listener, Served, Counts)
    end.

mode(<<>>) -> read;
mode(_Rest) -> write.

one(FD, Rests, Counts) ->
    case serve(FD, maps:get(FD, Rests)) of
        {Mode, Rest, In, Out} ->
            {Rests#{FD := Rest}, count(Mode, 1, count(out, Out, count(in, In, Counts)))};
        ended ->
            ok = fdio:close(FD),
            {maps:remove(FD, Rests), count(ended, 1, Counts)}
    end.

%%% The gen_server

start_link(Options) ->
    gen_server:start_link(?MODULE, Options, []).

address(Server) ->
    gen_server:call(Server, address).

%% Adds to a sum, and answers the new one.
add(Server, Number) ->
    gen_server:call(Server, {add, Number}).

%% What it has counted.
stop(Server) ->
    Counts = gen_server:call(Server, counts),
    ok = gen_server:stop(Server),
    Counts.

init(Options) ->
    {ok, Inert} = prim_inert:start(Options),
    {Listener, Number} = listen(),
    ok = prim_inert:fdset(Inert, Listener, read),
    {ok, #{
        inert => Inert, listener => Listener, number => Number, rests => #{}, counts => #{}, sum => 0
    }}.

handle_call(address, _From, #{number := Number} = State) ->
    {reply, Number, State};
handle_call({add, Number}, _From, #{sum := Sum, counts := Counts} = State) ->
    {reply, Sum + Number, State#{sum := Sum + Number, counts := count(calls, 1, Counts)}};
handle_call(counts, _From, #{inert := Inert, counts := Counts, rests := Rests, sum := Sum} = State) ->
    #{armed := Armed} = prim_inert:info(Inert),
    {reply, Counts#{left => map_size(Rests), armed => Armed, sum => Sum}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({inert_read, Inert, Listener}, #{inert := Inert, listener := Listener} = State) ->
    #{rests := Rests, counts := Counts} = State,
    New = accept_all(Listener),
    ok = prim_inert:fdset(Inert, [Listener | New]),
    {noreply, State#{
        rests := maps:merge(Rests, maps:from_list([{FD, <<>>} || FD <- New])),
        counts := count(accepted, length(New), Counts)
    }};
handle_info({Tag, Inert, FD}, #{inert := Inert, rests := Rests, counts := Counts} = State) when
    Tag =:= inert_read; Tag =:= inert_write
->
    #{FD := Before} = Rests,
    case serve(FD, Before) of
        {Mode, Rest, In, Out} ->
            ok = prim_inert:fdset(Inert, FD, Mode),
            {noreply, State#{
                rests := Rests#{FD := Rest},
                counts := count(Mode, 1, count(out, Out, count(in, In, Counts)))
            }};
        ended ->
            ok = fdio:close(FD),
            {noreply, State#{rests := maps:remove(FD, Rests), counts := count(ended, 1, Counts)}}
    end.

terminate(_Reason, #{inert := Inert, listener := Listener, rests := Rests}) ->
    ok = prim_inert:fdclr(Inert, [Listener | maps:keys(Rests)]),
    lists:foreach(fun fdio:close/1, [Listener | maps:keys(Rests)]),
    prim_inert:stop(Inert).
