%% SPDX-License-Identifier: Apache-2.0

%% @doc Ping-pong inside one VM: pairs of processes, each pair with a socketpair, and one message that
%% goes to and fro. Whoever has nothing to read waits.
%%
%% Beside the pairs there may be fds that are armed and never become ready, messages in the pinging
%% process's mailbox that nobody asks for, and processes that only compute.
%%
%% Nothing is cleaned up: a run has a VM of its own.
-module(bench_pingpong).

-export([run/1]).

-export_type([options/0]).
-export_type([result/0]).

-type options() :: #{
    waiter := bench_waiter:waiter(),
    pairs => pos_integer(),
    idle => non_neg_integer(),
    mailbox => non_neg_integer(),
    spinners => non_neg_integer(),
    warmup_ms := non_neg_integer(),
    measure_ms := pos_integer()
}.

-type result() :: #{
    round_trips := non_neg_integer(),
    us := float(),
    p50 => float(),
    p99 => float(),
    system_bytes => float(),
    total_bytes => float()
}.
%% `us': the measured time divided by all round trips, in microseconds. `p50', `p99': of a
%% single round trip; only if there is one pair. `..._bytes': what one armed fd takes, by
%% erlang:memory/1; only if there are idle ones.

%% As the requests of the external load.
-define(SIZE, 64).

-spec run(options()) -> result().
run(#{waiter := {Waiter, Argument}} = Options) ->
    ok = Waiter:start(Argument),
    Memory = idle(Waiter, maps:get(idle, Options, 0)),
    _ = [spawn_link(fun() -> spin(0) end) || _ <- lists:seq(1, maps:get(spinners, Options, 0))],
    Mailbox = maps:get(mailbox, Options, 0),
    Times =
        case maps:get(pairs, Options, 1) of
            1 -> one_pair(Waiter, Mailbox, Options);
            Pairs -> many_pairs(Waiter, Pairs, Mailbox, Options)
        end,
    maps:merge(Memory, Times).

%% Every round trip is timed.
-spec one_pair(module(), non_neg_integer(), options()) -> result().
one_pair(Waiter, Mailbox, #{warmup_ms := Warmup, measure_ms := Measure}) ->
    Caller = self(),
    Ref = make_ref(),
    ping_pong(Waiter, Mailbox, fun(Ping) ->
        Now = erlang:monotonic_time(),
        Begin = Now + native(Warmup),
        Caller ! {Ref, timed(Ping, Begin, Begin + native(Measure), Now, [])}
    end),
    receive
        {Ref, {Times, Elapsed}} ->
            Sorted = lists:sort(Times),
            Count = length(Sorted),
            #{
                round_trips => Count,
                us => microseconds(Elapsed) / Count,
                p50 => microseconds(quantile(0.5, Sorted, Count)),
                p99 => microseconds(quantile(0.99, Sorted, Count))
            }
    end.

timed(Ping, Begin, End, Before, Times) ->
    ok = Ping(),
    case erlang:monotonic_time() of
        Now when Now >= End, Times =/= [] -> {[Now - Before | Times], Now - Begin};
        Now when Before >= Begin -> timed(Ping, Begin, End, Now, [Now - Before | Times]);
        Now when Now >= Begin -> timed(Ping, Now, Now + End - Begin, Now, Times);
        Now -> timed(Ping, Begin, End, Now, Times)
    end.

quantile(Quantile, Sorted, Count) ->
    lists:nth(max(1, ceil(Quantile * Count)), Sorted).

%% The round trips of all are counted together.
-spec many_pairs(module(), pos_integer(), non_neg_integer(), options()) -> result().
many_pairs(Waiter, Pairs, Mailbox, #{warmup_ms := Warmup, measure_ms := Measure}) ->
    Counter = counters:new(1, [write_concurrency]),
    _ = [ping_pong(Waiter, Mailbox, fun(Ping) -> count(Ping, Counter) end) || _ <- lists:seq(1, Pairs)],
    timer:sleep(Warmup),
    {Before, Began} = {counters:get(Counter, 1), erlang:monotonic_time()},
    timer:sleep(Measure),
    {After, Ended} = {counters:get(Counter, 1), erlang:monotonic_time()},
    Count = After - Before,
    #{round_trips => Count, us => microseconds(Ended - Began) / max(1, Count)}.

-spec count(fun(() -> ok), counters:counters_ref()) -> no_return().
count(Ping, Counter) ->
    ok = Ping(),
    counters:add(Counter, 1, 1),
    count(Ping, Counter).

%% A pair. The pinging process runs the function, with a round trip for its argument.
ping_pong(Waiter, Mailbox, Run) ->
    {ok, {Near, Far}} = fdio:socketpair(),
    _ = spawn_link(fun() -> pong(Waiter, Waiter:handle(Far), Far) end),
    _ = spawn_link(fun() ->
        _ = [self() ! {unasked, N} || N <- lists:seq(1, Mailbox)],
        Handle = Waiter:handle(Near),
        Data = binary:copy(<<"x">>, ?SIZE),
        _ = Run(fun() ->
            ok = bench_waiter:send(Waiter, Handle, Near, Data),
            {ok, Data} = bench_waiter:recv(Waiter, Handle, Near),
            ok
        end),
        %% The handle must not be collected before the VM ends.
        receive
            {never, Handle} -> ok
        end
    end),
    ok.

-spec pong(module(), bench_waiter:handle(), fdio:fd()) -> no_return().
pong(Waiter, Handle, FD) ->
    {ok, Data} = bench_waiter:recv(Waiter, Handle, FD),
    ok = bench_waiter:send(Waiter, Handle, FD, Data),
    pong(Waiter, Handle, FD).

-spec spin(non_neg_integer()) -> no_return().
spin(N) ->
    spin((N + 1) band 16#ffff).

%% Arms fds that are never ready, all held by one process.
idle(_Waiter, 0) ->
    #{};
idle(Waiter, Count) ->
    Caller = self(),
    Ref = make_ref(),
    _ = spawn_link(fun() ->
        FDs = [FD || _ <- lists:seq(1, Count), {ok, FD} <- [fdio:eventfd()]],
        Count = length(FDs),
        true = erlang:garbage_collect(),
        {System, Total} = {erlang:memory(system), erlang:memory(total)},
        Handles = [armed(Waiter, FD) || FD <- FDs],
        true = erlang:garbage_collect(),
        Caller !
            {Ref, #{
                system_bytes => (erlang:memory(system) - System) / Count,
                total_bytes => (erlang:memory(total) - Total) / Count
            }},
        receive
            {never, Handles, FDs} -> ok
        end
    end),
    receive
        {Ref, Memory} -> Memory
    end.

armed(Waiter, FD) ->
    Handle = Waiter:handle(FD),
    ok = Waiter:arm(Handle),
    Handle.

native(Milliseconds) ->
    erlang:convert_time_unit(Milliseconds, millisecond, native).

microseconds(Native) ->
    erlang:convert_time_unit(Native, native, nanosecond) / 1000.
