%% SPDX-License-Identifier: Apache-2.0

%% @doc What inert's calls cost when nobody has to wait, beside a call to the same port that
%% does nothing.
-module(bench_calls).

-export([run/1]).

-export_type([options/0]).
-export_type([result/0]).

-type options() :: #{pollset := atom(), measure_ms := pos_integer()}.

-type result() :: #{empty_ns := float(), poll_ns := float(), pair_ns := float()}.
%% Nanoseconds of an empty `port_control/3', of a poll of a fd that is ready, and of fdset
%% and fdclr of one that is not.

%% The three loops take turns this often, and the medians count: a
%% disturbance meets one of them and falls out.
-define(TURNS, 25).

%% No command of the wire: the driver answers "einval" and does nothing.
-define(NO_COMMAND, 99).

-spec run(options()) -> result().
run(#{pollset := Pollset, measure_ms := Measure}) ->
    {ok, Port} = prim_inert:start([{pollset, Pollset}]),
    {ok, Ready} = fdio:eventfd(),
    {ok, 8} = fdio:write(Ready, <<1:64/native>>),
    {ok, Idle} = fdio:eventfd(),
    Loops = [
        {empty_ns, fun(N) -> empty(Port, N) end},
        {poll_ns, fun(N) -> poll(Port, Ready, N) end},
        {pair_ns, fun(N) -> pair(Port, Idle, N) end}
    ],
    Warmup = 1000,
    _ = [time(Loop, Warmup) || {_, Loop} <- Loops],
    Nanoseconds = lists:sum([time(Loop, Warmup) || {_, Loop} <- Loops]),
    Count = max(Warmup, round(Measure * 1.0e6 / ?TURNS / Nanoseconds)),
    Times = [{Name, time(Loop, Count)} || _ <- lists:seq(1, ?TURNS), {Name, Loop} <- Loops],
    maps:from_list([{Name, median(proplists:get_all_values(Name, Times))} || {Name, _} <- Loops]).

time(Loop, Count) ->
    Began = erlang:monotonic_time(nanosecond),
    ok = Loop(Count),
    (erlang:monotonic_time(nanosecond) - Began) / Count.

empty(_Port, 0) ->
    ok;
empty(Port, N) ->
    "einval" = erlang:port_control(Port, ?NO_COMMAND, <<>>),
    empty(Port, N - 1).

poll(_Port, _FD, 0) ->
    ok;
poll(Port, FD, N) ->
    {ok, read} = prim_inert:poll(Port, FD),
    poll(Port, FD, N - 1).

pair(_Port, _FD, 0) ->
    ok;
pair(Port, FD, N) ->
    ok = prim_inert:fdset(Port, FD),
    ok = prim_inert:fdclr(Port, FD),
    pair(Port, FD, N - 1).

median(Numbers) ->
    lists:nth((length(Numbers) + 1) div 2, lists:sort(Numbers)).
