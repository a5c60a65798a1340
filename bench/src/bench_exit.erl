%% SPDX-License-Identifier: Apache-2.0

%% @doc How long after the end of a process that waited its fd is free for another, while others
%% hold many.
-module(bench_exit).

-export([run/1]).

-export_type([options/0]).
-export_type([result/0]).

-type options() :: #{pollset := atom(), others := non_neg_integer(), trials := pos_integer()}.

-type result() :: #{p50 := float(), p99 := float()}.
%% Microseconds from the process's last instruction until fdset does not answer `ebusy'.

%% The others are this many processes.
-define(HOLDERS, 8).

-spec run(options()) -> result().
run(#{pollset := Pollset, others := Others, trials := Trials}) ->
    ok = inert:start([{pollset, Pollset}]),
    _ = [hold(Others div ?HOLDERS) || _ <- lists:seq(1, ?HOLDERS)],
    {ok, FD} = fdio:eventfd(),
    Times = lists:sort([trial(FD) || _ <- lists:seq(1, Trials)]),
    #{p50 => quantile(0.5, Times, Trials), p99 => quantile(0.99, Times, Trials)}.

quantile(Quantile, Sorted, Count) ->
    lists:nth(max(1, ceil(Quantile * Count)), Sorted) / 1000.

hold(Count) ->
    Caller = self(),
    Holder = spawn_link(fun() ->
        _ = [armed() || _ <- lists:seq(1, Count)],
        Caller ! {self(), armed},
        receive
            never -> ok
        end
    end),
    receive
        {Holder, armed} -> ok
    end.

armed() ->
    {ok, FD} = fdio:eventfd(),
    ok = inert:fdset(FD, read).

trial(FD) ->
    Caller = self(),
    Waiter = spawn(fun() ->
        ok = inert:fdset(FD, read),
        Caller ! {self(), armed},
        receive
            go -> Caller ! {self(), erlang:monotonic_time(nanosecond)}
        end
    end),
    receive
        {Waiter, armed} -> ok
    end,
    {error, ebusy} = inert:fdset(FD, read),
    Waiter ! go,
    receive
        {Waiter, Ended} -> Ended
    end,
    Free = until_free(FD),
    ok = inert:fdclr(FD),
    Free - Ended.

until_free(FD) ->
    case inert:fdset(FD, read) of
        ok ->
            erlang:monotonic_time(nanosecond);
        {error, ebusy} ->
            erlang:yield(),
            until_free(FD)
    end.
