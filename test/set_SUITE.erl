%% SPDX-License-Identifier: Apache-2.0
%%
%% SPEC.md, section 4: sets of fds in one call, of the service and of a port of one's own,
%% on every pollset. After each case nothing may be left behind: see inert_test.
-module(set_SUITE).

-export([suite/0]).
-export([all/0]).
-export([groups/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

%% service, own_port: what is asked for, and what is wrong with it
-export([all_that_is_ready_is_told_at_once/1]).
-export([all_that_gets_ready_at_once_is_told/1]).
-export([nothing_but_what_is_ready_is_told/1]).
-export([a_fd_without_a_mode_is_read/1]).
-export([modes_are_those_of_one_fd/1]).
-export([empty_sets/1]).
-export([a_set_of_one/1]).
-export([timeouts/1]).
-export([an_offender_anywhere_is_named_and_changes_nothing/1]).
-export([a_taken_kind_anywhere_is_busy_and_changes_nothing/1]).
-export([what_is_no_set_is_badarg_and_changes_nothing/1]).
-export([a_closed_port_is_closed/1]).

%% service, own_port: fdset and fdclr
-export([fdset_tells_of_each_once/1]).
-export([fdset_replaces_what_the_caller_had_armed/1]).
-export([fdclr_clears_each/1]).
-export([fdclr_leaves_what_it_does_not_say/1]).

%% service, own_port: nothing stays
-export([nothing_stays_armed_after_a_poll/1]).
-export([a_poll_leaves_fdset_for_other_kinds/1]).
-export([a_poll_replaces_fdset_for_the_same_kinds/1]).
-export([a_check_changes_nothing_armed/1]).
-export([timeouts_that_race_with_events_leave_nothing/1]).

%% service, own_port: while somebody waits
-export([a_member_that_is_cleared_ends_the_poll/1]).
-export([a_member_that_is_closed_ends_the_poll_when_noticed/1]).
-export([a_member_that_is_another_file_ends_the_poll/1]).
-export([a_newcomers_set_is_armed_where_it_ends_an_old_one/1]).
-export([the_port_closes_while_sets_wait/1]).
-export([a_killed_pollers_set_is_free_at_once/1]).
-export([overlapping_sets_of_different_kinds/1]).
-export([one_event_ends_several_sets/1]).
-export([a_long_mailbox_stays_as_it_is/1]).

%% many
-export([ten_thousand_fds_in_one_set/1]).
-export([ten_thousand_polls_leave_no_trace/1]).
-export([a_poll_is_one_call_whatever_its_length/1]).
-export([a_poll_asks_the_kernel_once/1]).

%% On a peer
-export([poll_ready_and_not/2]).

-include_lib("stdlib/include/assert.hrl").

%% Longer than a test may take, so that what returns was not timed out.
-define(LONG, 3_600_000).

%% Not ready within this long is taken for not ready: only for what is known by other
%% means.
-define(SHORT, 20).

-import(inert_test, [
    full_pair/0,
    close/1,
    run/1,
    blocked/1,
    result/1,
    results/1,
    kill/1,
    make_readable/1,
    make_writable/1,
    no_message/0
]).

suite() ->
    inert_test:suite().

all() ->
    inert_test:per_pollset(topics()).

groups() ->
    inert_test:groups_per_pollset(topics()).

topics() ->
    Cases = [
        all_that_is_ready_is_told_at_once,
        all_that_gets_ready_at_once_is_told,
        nothing_but_what_is_ready_is_told,
        a_fd_without_a_mode_is_read,
        modes_are_those_of_one_fd,
        empty_sets,
        a_set_of_one,
        timeouts,
        an_offender_anywhere_is_named_and_changes_nothing,
        a_taken_kind_anywhere_is_busy_and_changes_nothing,
        what_is_no_set_is_badarg_and_changes_nothing,
        a_closed_port_is_closed,
        fdset_tells_of_each_once,
        fdset_replaces_what_the_caller_had_armed,
        fdclr_clears_each,
        fdclr_leaves_what_it_does_not_say,
        nothing_stays_armed_after_a_poll,
        a_poll_leaves_fdset_for_other_kinds,
        a_poll_replaces_fdset_for_the_same_kinds,
        a_check_changes_nothing_armed,
        timeouts_that_race_with_events_leave_nothing,
        a_member_that_is_cleared_ends_the_poll,
        a_member_that_is_closed_ends_the_poll_when_noticed,
        a_member_that_is_another_file_ends_the_poll,
        a_newcomers_set_is_armed_where_it_ends_an_old_one,
        the_port_closes_while_sets_wait,
        a_killed_pollers_set_is_free_at_once,
        overlapping_sets_of_different_kinds,
        one_event_ends_several_sets,
        a_long_mailbox_stays_as_it_is
    ],
    [
        {service, Cases},
        {own_port, Cases},
        {many, [
            ten_thousand_fds_in_one_set,
            ten_thousand_polls_leave_no_trace,
            a_poll_is_one_call_whatever_its_length,
            a_poll_asks_the_kernel_once
        ]}
    ].

init_per_suite(Config) ->
    inert_test:init_per_suite(Config).

end_per_suite(Config) ->
    inert_test:end_per_suite(Config).

init_per_group(Group, Config) when Group =:= service; Group =:= own_port; Group =:= many ->
    [{through, Group} | Config];
init_per_group(Group, Config) ->
    inert_test:init_per_group(Group, Config).

end_per_group(Group, Config) ->
    inert_test:end_per_group(Group, Config).

init_per_testcase(_Case, Config0) ->
    Config = inert_test:init_per_testcase(Config0),
    case proplists:get_value(through, Config) of
        own_port ->
            [{port, inert_test:open(Config)} | Config];
        _ ->
            ok = inert:start(),
            [{port, inert} | Config]
    end.

end_per_testcase(_Case, Config) ->
    ok = inert:stop(),
    ok = prim_inert:stop(port(Config)),
    inert_test:end_per_testcase(Config).

%%% The calls, of the service and of a port

port(Config) -> proplists:get_value(port, Config).

id(inert) -> inert:pollid();
id(Port) -> Port.

fdset(inert, FDs) -> inert:fdset(FDs);
fdset(Port, FDs) -> prim_inert:fdset(Port, FDs).

fdset(inert, FD, Mode) -> inert:fdset(FD, Mode);
fdset(Port, FD, Mode) -> prim_inert:fdset(Port, FD, Mode).

fdclr(inert, FDs) -> inert:fdclr(FDs);
fdclr(Port, FDs) -> prim_inert:fdclr(Port, FDs).

fdclr(inert, FD, Mode) -> inert:fdclr(FD, Mode);
fdclr(Port, FD, Mode) -> prim_inert:fdclr(Port, FD, Mode).

poll(inert, FDs) -> inert:poll(FDs);
poll(Port, FDs) -> prim_inert:poll(Port, FDs).

poll(inert, FDs, Timeout) -> inert:poll(FDs, Timeout);
poll(Port, FDs, Timeout) -> prim_inert:poll(Port, FDs, Timeout).

poll(inert, FD, Mode, Timeout) -> inert:poll(FD, Mode, Timeout);
poll(Port, FD, Mode, Timeout) -> prim_inert:poll(Port, FD, Mode, Timeout).

info(inert) -> inert:info();
info(Port) -> prim_inert:info(Port).

info(inert, FD) -> inert:info(FD);
info(Port, FD) -> prim_inert:info(Port, FD).

%% Of badarg exceptions.
position(inert, N) -> [N];
position(_Port, N) -> [N + 1].

%% Who waits for what.
waiters(Port, FD) ->
    #{waiters := Waiters} = info(Port, FD),
    lists:sort([{Kind, Pid} || #{kind := Kind, pid := Pid} <- Waiters]).

armed(Port, FDs) ->
    {maps:with([armed, fds, polls], info(Port)), [{FD, waiters(Port, FD)} || FD <- FDs]}.

%% Nothing is armed, and another process may have all of it.
all_free(Port, FDs) ->
    ?assertMatch(#{armed := 0, fds := 0, polls := 0}, info(Port)),
    ?assertEqual([[] || _ <- FDs], [waiters(Port, FD) || FD <- FDs]),
    Other = run(fun() ->
        {fdset(Port, [{FD, read_write} || FD <- FDs]), fdclr(Port, FDs)}
    end),
    ?assertEqual({ok, ok}, result(Other)).

sorted({ok, Ready}) -> {ok, lists:sort(Ready)};
sorted(Other) -> Other.

%% The first ends, neither readable nor writable.
pairs(Count) ->
    lists:unzip([full_pair() || _ <- lists:seq(1, Count)]).

message(Port) ->
    inert_test:message_of(id(Port)).

%%% What is asked for

all_that_is_ready_is_told_at_once(Config) ->
    Port = port(Config),
    {[A, B, C, D, E] = FDs, [A1, B1, C1, D1, _] = Ends} = pairs(5),
    make_readable(A1),
    make_writable(B1),
    make_readable(C1),
    make_writable(C1),
    %% D is writable, and asked for reading.
    make_writable(D1),
    Set = [A, {B, read_write}, {C, read_write}, {D, read}, {E, read_write}],
    [
        ?assertEqual({ok, [{A, read}, {B, write}, {C, read}, {C, write}]}, sorted(Poll()))
     || Poll <- [
            fun() -> poll(Port, Set) end,
            fun() -> poll(Port, Set, 0) end,
            fun() -> poll(Port, Set, ?LONG) end,
            fun() -> poll(Port, lists:reverse(Set), infinity) end
        ]
    ],
    all_free(Port, FDs),
    no_message(),
    close(FDs ++ Ends).

%% What one event makes ready, while the poll waits: several numbers of one file, and
%% both kinds of a socket that is closed at its other end.
all_that_gets_ready_at_once_is_told(Config) ->
    Port = port(Config),
    {[A, B, C] = FDs, [A1 | Ends]} = pairs(3),
    {ok, Twin} = fdio:dup(A),
    {ok, Triplet} = fdio:dup(A),
    Set = [B, {A, read_write}, {Twin, read}, {C, read_write}, {Triplet, write}],
    Poller = blocked(run(fun() -> poll(Port, Set) end)),
    close(A1),
    ?assertEqual(
        {ok, lists:sort([{A, read}, {A, write}, {Twin, read}, {Triplet, write}])},
        sorted(result(Poller))
    ),
    all_free(Port, [Twin, Triplet | FDs]),
    close([Twin, Triplet] ++ FDs ++ Ends).

nothing_but_what_is_ready_is_told(Config) ->
    Port = port(Config),
    {FDs, Ends} = pairs(10),
    [
        begin
            Poller = blocked(run(fun() -> poll(Port, [{One, read_write} || One <- FDs]) end)),
            make_readable(End),
            ?assertEqual({ok, [{FD, read}]}, result(Poller)),
            all_free(Port, FDs),
            inert_test:drain(FD)
        end
     || {FD, End} <- lists:zip(FDs, Ends)
    ],
    close(FDs ++ Ends).

a_fd_without_a_mode_is_read(Config) ->
    Port = port(Config),
    {[A, B] = FDs, [A1, B1]} = pairs(2),
    make_writable(A1),
    make_writable(B1),
    ?assertEqual({error, timeout}, poll(Port, [A, B], 0)),
    ?assertEqual({ok, [{B, write}]}, poll(Port, [A, {B, write}], 0)),
    ok = fdset(Port, [A, B]),
    ?assertEqual([[{read, self()}], [{read, self()}]], [waiters(Port, FD) || FD <- FDs]),
    ok = fdset(Port, [{A, read_write}, B]),
    ?assertEqual({inert_write, A}, message(Port)),
    ok = fdclr(Port, [{A, read}]),
    ok = fdset(Port, [{A, read}]),
    ok = fdclr(Port, [A, B]),
    all_free_but_ready(Port),
    close(FDs ++ [A1, B1]).

all_free_but_ready(Port) ->
    ?assertMatch(#{armed := 0, fds := 0, polls := 0}, info(Port)),
    no_message().

modes_are_those_of_one_fd(Config) ->
    Port = port(Config),
    {[A, B, C, D] = FDs, Ends} = pairs(4),
    ok = fdset(Port, [{A, read}, {B, write}, {C, read_write}, {D, [write, read, write]}]),
    Self = self(),
    ?assertEqual(
        [
            [{read, Self}],
            [{write, Self}],
            [{read, Self}, {write, Self}],
            [{read, Self}, {write, Self}]
        ],
        [waiters(Port, FD) || FD <- FDs]
    ),
    ok = fdclr(Port, [{C, [read]}, {D, write}, {B, [write]}, A]),
    ?assertEqual([[], [], [{write, Self}], [{read, Self}]], [waiters(Port, FD) || FD <- FDs]),
    ok = fdclr(Port, FDs),
    close(FDs ++ Ends).

empty_sets(Config) ->
    Port = port(Config),
    ?assertEqual(ok, fdset(Port, [])),
    ?assertEqual(ok, fdclr(Port, [])),
    [
        ?assertEqual({error, einval}, Poll())
     || Poll <- [
            fun() -> poll(Port, []) end,
            fun() -> poll(Port, [], 0) end,
            fun() -> poll(Port, [], 1) end,
            fun() -> poll(Port, [], infinity) end
        ]
    ],
    all_free_but_ready(Port).

a_set_of_one(Config) ->
    Port = port(Config),
    {[A], [A1]} = pairs(1),
    ?assertEqual({error, timeout}, poll(Port, [A], 0)),
    ?assertEqual({error, timeout}, poll(Port, [{A, read_write}], ?SHORT)),
    Poller = blocked(run(fun() -> poll(Port, [{A, read_write}]) end)),
    make_readable(A1),
    ?assertEqual({ok, [{A, read}]}, result(Poller)),
    ?assertEqual({ok, [{A, read}]}, poll(Port, [A])),
    Both = run(fun() ->
        inert_test:drain(A),
        poll(Port, [{A, read_write}])
    end),
    close(A1),
    ?assertMatch({ok, [{A, read} | _]}, sorted(result(Both))),
    ?assertEqual({ok, [{A, read}, {A, write}]}, sorted(poll(Port, [{A, read_write}], 0))),
    ok = fdclr(Port, [A]),
    all_free_but_ready(Port),
    close(A).

timeouts(Config) ->
    Port = port(Config),
    {[A, B] = FDs, [_, B1] = Ends} = pairs(2),
    Set = [{A, read_write}, {B, read}],
    ?assertEqual({error, timeout}, poll(Port, Set, 0)),
    Before = erlang:monotonic_time(millisecond),
    ?assertEqual({error, timeout}, poll(Port, Set, 30)),
    ?assert(erlang:monotonic_time(millisecond) - Before >= 30),
    all_free(Port, FDs),
    [
        begin
            Poller = blocked(run(fun() -> poll(Port, Set, Timeout) end)),
            make_readable(B1),
            ?assertEqual({ok, [{B, read}]}, result(Poller)),
            inert_test:drain(B)
        end
     || Timeout <- [?LONG, 1 bsl 32 - 1, 1 bsl 32, 1 bsl 70, infinity]
    ],
    all_free(Port, FDs),
    no_message(),
    close(FDs ++ Ends).

%%% What is wrong with it

%% Others wait, and the caller has armed something that a fdset of the set would replace.
with_waiters(Port, Fun) ->
    {[A, B, C, D, E] = FDs, [A1, B1, C1, D1, _] = Ends} = pairs(5),
    ok = fdset(Port, A, read),
    One = blocked(run(fun() -> poll(Port, B, read, infinity) end)),
    Several = blocked(run(fun() -> poll(Port, [C, D]) end)),
    Before = armed(Port, FDs),
    Good = [{A, write}, {B, write}, {C, write}, {D, write}],
    Fun(Good, E, fun() -> ?assertEqual(Before, armed(Port, FDs)) end),
    %% All of them are still told.
    no_message(),
    make_readable(A1),
    ?assertEqual({inert_read, A}, message(Port)),
    make_readable(B1),
    ?assertEqual({ok, read}, result(One)),
    make_readable(D1),
    ?assertEqual({ok, [{D, read}]}, result(Several)),
    %% And what was refused has not stayed.
    [make_writable(End) || End <- [A1, B1, C1, D1]],
    inert_test:quiet_barrier(Port),
    all_free_but_ready(Port),
    close(FDs ++ Ends).

everywhere(Offender, Good) ->
    [
        lists:sublist(Good, At) ++ [Offender] ++ lists:nthtail(At, Good)
     || At <- lists:seq(0, length(Good))
    ].

calls(Port, Set) ->
    [
        fun() -> fdclr(Port, Set) end
        | arming(Port, Set)
    ].

arming(Port, Set) ->
    [
        fun() -> fdset(Port, Set) end,
        fun() -> poll(Port, Set) end,
        fun() -> poll(Port, Set, 0) end,
        fun() -> poll(Port, Set, ?SHORT) end,
        fun() -> poll(Port, Set, infinity) end
    ].

an_offender_anywhere_is_named_and_changes_nothing(Config) ->
    Port = port(Config),
    Closed = inert_test:closed_fd(),
    with_waiters(Port, fun([{A, _}, _, _, {D, _}] = Good, E, Unchanged) ->
        Numbers = [
            Closed,
            -1,
            -(1 bsl 31),
            1 bsl 31 - 1,
            1 bsl 31,
            -(1 bsl 31) - 1,
            1 bsl 32 + E,
            1 bsl 64 + E,
            -(1 bsl 1000)
        ],
        Offenders =
            [{Offender, {ebadf, N}} || N <- Numbers, Offender <- [N, {N, read}, {N, [write]}]] ++
                [
                    {{E, Mode}, {einval, E}}
                 || Mode <- [foo, 1, 16, [], [read_write], [read, foo], [read | write], "r", {mode, read}, <<"read">>]
                ] ++
                [
                    {Offender, {einval, FD}}
                 || FD <- [A, D], Offender <- [FD, {FD, read}, {FD, write}]
                ],
        [
            begin
                ?assertEqual({Set, {error, Error}}, {Set, Call()}),
                Unchanged()
            end
         || {Offender, Error} <- Offenders,
            Set <- everywhere(Offender, Good),
            Call <- calls(Port, Set)
        ]
    end).

a_taken_kind_anywhere_is_busy_and_changes_nothing(Config) ->
    Port = port(Config),
    with_waiters(Port, fun(Good, E, _Unchanged) ->
        [{A, _}, _, _, {D, _}] = Good,
        Keeper = blocked(run(fun() -> poll(Port, E, read_write, infinity) end)),
        Before = armed(Port, [A, D, E]),
        [
            begin
                ?assertEqual({error, {ebusy, E}}, Call()),
                ?assertEqual(Before, armed(Port, [A, D, E]))
            end
         || Offender <- [E, {E, write}, {E, read_write}],
            Set <- everywhere(Offender, Good),
            Call <- arming(Port, Set)
        ],
        %% Another process's set is in the way, too.
        ?assertEqual({error, {ebusy, D}}, fdset(Port, [{A, write}, {D, read_write}])),
        ?assertEqual(Before, armed(Port, [A, D, E])),
        kill(Keeper)
    end).

what_is_no_set_is_badarg_and_changes_nothing(Config) ->
    Port = port(Config),
    with_waiters(Port, fun([{A, _} | _] = Good, E, Unchanged) ->
        Offenders = [foo, 1.0, <<"7">>, self(), [E], "7", {E}, {E, read, 0}, {foo, read}, {[E], read}, #{}],
        Sets =
            lists:append([everywhere(Offender, Good) || Offender <- Offenders]) ++
                [[E | A], [E | foo], [{E, read} | E], {E, read}, foo, 1.0, #{E => read}],
        [
            begin
                ?assertEqual({Set, position(Port, 1)}, {Set, inert_test:badarg_position(Call)}),
                Unchanged()
            end
         || Set <- Sets,
            Call <- calls(Port, Set)
        ],
        [
            begin
                ?assertEqual(position(Port, 2), inert_test:badarg_position(fun() -> poll(Port, Set, Timeout) end)),
                Unchanged()
            end
         || Set <- [Good, [], [E]], Timeout <- [-1, 1.0, foo, "1", undefined, []]
        ]
    end).

a_closed_port_is_closed(Config) ->
    Port = port(Config),
    {[A], [A1]} = pairs(1),
    ok = prim_inert:stop(Port),
    receive
        {'EXIT', Port, _} -> ok
    after 0 -> ok
    end,
    [
        ?assertEqual({error, closed}, Call())
     || Set <- [[A], [{A, write}]], Call <- calls(Port, Set)
    ],
    ?assertEqual({error, closed}, fdset(Port, [])),
    close([A, A1]).

%%% fdset and fdclr

fdset_tells_of_each_once(Config) ->
    Port = port(Config),
    {[A, B, C, D] = FDs, [A1, B1, C1, _] = Ends} = pairs(4),
    make_readable(A1),
    make_writable(B1),
    ok = fdset(Port, [{A, read_write}, {B, read_write}, C, D]),
    %% What is ready already is told at once.
    ?assertEqual([{inert_read, A}, {inert_write, B}], lists:sort([message(Port), message(Port)])),
    no_message(),
    make_writable(A1),
    ?assertEqual({inert_write, A}, message(Port)),
    make_readable(C1),
    ?assertEqual({inert_read, C}, message(Port)),
    make_readable(B1),
    ?assertEqual({inert_read, B}, message(Port)),
    inert_test:quiet_barrier(Port),
    no_message(),
    ?assertEqual([[], [], [], [{read, self()}]], [waiters(Port, FD) || FD <- FDs]),
    ok = fdclr(Port, FDs),
    close(FDs ++ Ends).

fdset_replaces_what_the_caller_had_armed(Config) ->
    Port = port(Config),
    {[A, B, C] = FDs, [A1, B1, C1] = Ends} = pairs(3),
    ok = fdset(Port, [{A, read_write}, {B, read_write}, {C, read}]),
    ok = fdset(Port, [{A, write}, {B, read}]),
    make_readable(A1),
    make_writable(B1),
    inert_test:quiet_barrier(Port),
    no_message(),
    make_writable(A1),
    make_readable(B1),
    make_readable(C1),
    ?assertEqual(
        [{inert_read, B}, {inert_read, C}, {inert_write, A}],
        lists:sort([message(Port), message(Port), message(Port)])
    ),
    all_free_but_ready(Port),
    %% A kind that is ready takes the place of one that is not.
    inert_test:fill(A),
    inert_test:drain(A),
    ok = fdset(Port, [{A, read}, {C, write}]),
    make_writable(A1),
    ok = fdset(Port, [{A, write}]),
    ?assertEqual({inert_write, A}, message(Port)),
    make_readable(A1),
    inert_test:quiet_barrier(Port),
    no_message(),
    ok = fdclr(Port, [C]),
    close(FDs ++ Ends).

fdclr_clears_each(Config) ->
    Port = port(Config),
    {[A, B, C, D] = FDs, Ends} = pairs(4),
    ok = fdset(Port, [{A, read_write}, {B, write}]),
    Other = run(fun() ->
        ok = fdset(Port, [{B, read}, C]),
        receive
            report -> no_message()
        end
    end),
    inert_test:until(fun() -> waiters(Port, C) =/= [] end),
    Poller = blocked(run(fun() -> poll(Port, [{C, write}, D]) end)),
    %% From any process, and of what is not armed, too.
    ?assertEqual({ok, ok}, result(run(fun() -> {fdclr(Port, [A, B, C]), fdclr(Port, FDs)} end))),
    ?assertEqual({error, {ecanceled, C}}, result(Poller)),
    all_free(Port, FDs),
    [make_readable(End) || End <- Ends],
    [make_writable(End) || End <- Ends],
    inert_test:quiet_barrier(Port),
    no_message(),
    Other ! report,
    _ = result(Other),
    close(FDs ++ Ends).

fdclr_leaves_what_it_does_not_say(Config) ->
    Port = port(Config),
    {[A, B, C] = FDs, [A1, B1, C1] = Ends} = pairs(3),
    ok = fdset(Port, [{A, read_write}, {B, read_write}, {C, read_write}]),
    ok = fdclr(Port, [{A, read}, {B, write}]),
    [make_readable(End) || End <- Ends],
    [make_writable(End) || End <- [A1, B1, C1]],
    Messages = [message(Port) || _ <- [1, 2, 3, 4]],
    ?assertEqual([{inert_read, B}, {inert_read, C}, {inert_write, A}, {inert_write, C}], lists:sort(Messages)),
    inert_test:quiet_barrier(Port),
    all_free_but_ready(Port),
    close(FDs ++ Ends).

%%% Nothing stays

%% Whatever a poll returns, and however it came to that.
nothing_stays_armed_after_a_poll(Config) ->
    Port = port(Config),
    {[A, B, C] = FDs, [A1, B1, _] = Ends} = pairs(3),
    Set = [{A, read_write}, {B, read}, {C, write}],
    Poller = fun(Between) ->
        Pid = blocked(
            run(fun() ->
                Result = poll(Port, Set),
                {Result, self_is_quiet(Port)}
            end)
        ),
        ?assertMatch(#{armed := 4, fds := 3, polls := 1}, info(Port)),
        Between(),
        {Result, quiet} = result(Pid),
        all_free(Port, FDs),
        Result
    end,
    ?assertEqual({error, timeout}, poll(Port, Set, ?SHORT)),
    all_free(Port, FDs),
    ?assertEqual({ok, [{B, read}]}, Poller(fun() -> make_readable(B1) end)),
    ?assertEqual({ok, [{B, read}]}, poll(Port, Set)),
    all_free(Port, FDs),
    inert_test:drain(B),
    ?assertEqual({error, {ecanceled, A}}, Poller(fun() -> ok = fdclr(Port, A, write) end)),
    ?assertEqual({error, {ecanceled, C}}, Poller(fun() -> ok = fdclr(Port, [C, B]) end)),
    %% All of it can be ready now, and nobody is told.
    make_readable(A1),
    [make_writable(End) || End <- Ends],
    inert_test:quiet_barrier(Port),
    no_message(),
    close(FDs ++ Ends).

self_is_quiet(Port) ->
    inert_test:quiet_barrier(Port),
    receive
        Message -> {message, Message}
    after 0 -> quiet
    end.

a_poll_leaves_fdset_for_other_kinds(Config) ->
    Port = port(Config),
    {[A, B] = FDs, [A1, B1] = Ends} = pairs(2),
    ok = fdset(Port, [{A, write}, {B, write}]),
    ?assertEqual({error, timeout}, poll(Port, [A, B], ?SHORT)),
    make_readable(A1),
    ?assertEqual({ok, [{A, read}]}, poll(Port, [A, B])),
    inert_test:drain(A),
    spawn_link(fun() -> make_readable_when_polled(Port, B, B1) end),
    ?assertEqual({ok, [{B, read}]}, poll(Port, [A, B])),
    ?assertEqual([[{write, self()}], [{write, self()}]], [waiters(Port, FD) || FD <- FDs]),
    no_message(),
    [make_writable(End) || End <- Ends],
    ?assertEqual([{inert_write, A}, {inert_write, B}], lists:sort([message(Port), message(Port)])),
    close(FDs ++ Ends).

make_readable_when_polled(Port, FD, End) ->
    inert_test:until(fun() -> lists:keymember(read, 1, waiters(Port, FD)) end),
    make_readable(End).

a_poll_replaces_fdset_for_the_same_kinds(Config) ->
    Port = port(Config),
    {[A, B] = FDs, [A1, B1] = Ends} = pairs(2),
    Fdset = fun() -> ok = fdset(Port, [{A, read_write}, B]) end,
    Left = fun() -> [waiters(Port, FD) || FD <- FDs] end,
    Fdset(),
    ?assertEqual({error, timeout}, poll(Port, [A, B], ?SHORT)),
    ?assertEqual([[{write, self()}], []], Left()),
    Fdset(),
    spawn_link(fun() ->
        inert_test:until(fun() -> maps:get(polls, info(Port)) =:= 1 end),
        make_readable(B1)
    end),
    ?assertEqual({ok, [{B, read}]}, poll(Port, [A, B])),
    ?assertEqual([[{write, self()}], []], Left()),
    inert_test:drain(B),
    %% Where something is ready already nothing is armed, and all the same it is replaced.
    Fdset(),
    no_message(),
    spawn_link(fun() -> make_readable(A1) end),
    _ = poll(Port, A, read, infinity),
    ok = fdset(Port, [{A, write}, B]),
    ?assertEqual({ok, [{A, read}]}, poll(Port, [A, B])),
    ?assertEqual([[{write, self()}], []], Left()),
    make_readable(B1),
    inert_test:quiet_barrier(Port),
    no_message(),
    ok = fdclr(Port, FDs),
    close(FDs ++ Ends).

a_check_changes_nothing_armed(Config) ->
    Port = port(Config),
    {[A, B] = FDs, [A1, B1] = Ends} = pairs(2),
    ok = fdset(Port, [{A, read_write}, B]),
    Before = armed(Port, FDs),
    ?assertEqual({error, timeout}, poll(Port, [{A, read_write}, {B, write}], 0)),
    ?assertEqual(Before, armed(Port, FDs)),
    make_readable(A1),
    make_readable(B1),
    ?assertEqual([{inert_read, A}, {inert_read, B}], lists:sort([message(Port), message(Port)])),
    ok = fdset(Port, [{A, write}]),
    ?assertEqual({ok, [{A, read}, {B, read}]}, sorted(poll(Port, [{A, read_write}, B], 0))),
    make_writable(A1),
    ?assertEqual({inert_write, A}, message(Port)),
    close(FDs ++ Ends).

%% Either the poll tells of it or the next one does, and nothing else ever comes.
timeouts_that_race_with_events_leave_nothing(Config) ->
    Port = port(Config),
    {[A, B, C] = FDs, [_, B1, _] = Ends} = pairs(3),
    Helper = spawn_link(fun() -> write_when_told(B1) end),
    [
        begin
            Helper ! go,
            Timeout = Round rem 3,
            case poll(Port, [{A, read_write}, B, {C, read}], Timeout) of
                {ok, Ready} -> ?assertEqual([{B, read}], Ready);
                {error, timeout} -> ?assertEqual({ok, [{B, read}]}, poll(Port, [A, B, C]))
            end,
            {ok, <<"x">>} = fdio:read(B, 10),
            ?assertMatch(#{armed := 0, polls := 0}, info(Port)),
            no_message()
        end
     || Round <- lists:seq(1, 300)
    ],
    unlink(Helper),
    exit(Helper, kill),
    close(FDs ++ Ends).

write_when_told(FD) ->
    receive
        go ->
            %% About as long as a poll takes to be armed, more or less.
            _ = lists:seq(1, rand:uniform(20_000)),
            make_readable(FD),
            write_when_told(FD)
    end.

%%% While somebody waits

a_member_that_is_cleared_ends_the_poll(Config) ->
    Port = port(Config),
    {FDs, Ends} = pairs(4),
    [
        begin
            Poller = blocked(run(fun() -> poll(Port, [{One, read_write} || One <- FDs]) end)),
            ok = Clear(),
            ?assertEqual({error, {ecanceled, FD}}, result(Poller)),
            all_free(Port, FDs)
        end
     || FD <- FDs,
        Clear <- [
            fun() -> fdclr(Port, FD) end,
            fun() -> fdclr(Port, FD, write) end,
            fun() -> fdclr(Port, [FD]) end,
            fun() -> result(run(fun() -> fdclr(Port, [{FD, [read]}]) end)) end
        ]
    ],
    %% What is not waited for may be cleared.
    [A | _] = FDs,
    Poller = blocked(run(fun() -> poll(Port, FDs) end)),
    ok = fdclr(Port, [{FD, write} || FD <- FDs]),
    make_readable(hd(Ends)),
    ?assertEqual({ok, [{A, read}]}, result(Poller)),
    close(FDs ++ Ends).

a_member_that_is_closed_ends_the_poll_when_noticed(Config) ->
    Port = port(Config),
    [
        begin
            {[A, B, C] = FDs, [_, _, C1] = Ends} = pairs(3),
            Poller = blocked(run(fun() -> poll(Port, FDs) end)),
            close(B),
            %% The others are still waited for.
            Expected = Notice(B, C1),
            case Expected of
                ebadf -> ?assertEqual({error, {ebadf, B}}, result(Poller));
                ready -> ?assertEqual({ok, [{C, read}]}, result(Poller))
            end,
            all_free(Port, [A, C]),
            close([A, C | Ends])
        end
     || Notice <- [
            fun(B, _) -> {error, ebadf} = fdset(Port, B, read), ebadf end,
            fun(B, _) -> {error, {ebadf, B}} = fdclr(Port, [B]), ebadf end,
            fun(B, _) -> {error, {ebadf, B}} = poll(Port, [{B, write}], ?LONG), ebadf end,
            fun(_, C1) -> make_readable(C1), ready end
        ]
    ],
    no_message().

a_member_that_is_another_file_ends_the_poll(Config) ->
    Port = port(Config),
    [
        begin
            {[_, B, _] = FDs, [A1, B1, C1] = Ends} = pairs(3),
            {New, New1} = full_pair(),
            Poller = blocked(run(fun() -> poll(Port, FDs) end)),
            ok = fdio:dup2(New, B),
            ok = Newcomer(B),
            ?assertEqual({error, {ebadf, B}}, result(Poller)),
            %% The old file's events reach nobody, the new one's do.
            make_readable(A1),
            make_readable(C1),
            _ = fdio:write(B1, <<"x">>),
            inert_test:quiet_barrier(Port),
            no_message(),
            make_readable(New1),
            make_writable(New1),
            {Tag, B} = message(Port),
            ?assert(Tag =:= inert_read orelse Tag =:= inert_write),
            all_free_but_ready(Port),
            close(FDs ++ Ends ++ [New, New1])
        end
     || Newcomer <- [
            fun(B) -> fdset(Port, B, read) end,
            fun(B) -> fdset(Port, B, write) end,
            fun(B) -> fdset(Port, [B]) end,
            fun(B) -> fdset(Port, [{B, write}]) end
        ]
    ].

%% A set of two, of which the second ends another's poll of both: the first has been armed
%% by then, and must stay so.
a_newcomers_set_is_armed_where_it_ends_an_old_one(Config) ->
    Port = port(Config),
    {[A, B, C] = FDs, [A1, _, C1] = Ends} = pairs(3),
    {New, New1} = full_pair(),
    Poller = blocked(run(fun() -> poll(Port, [A, B, C]) end)),
    ok = fdio:dup2(New, B),
    ok = fdset(Port, [{A, write}, {B, write}, {C, write}]),
    ?assertEqual({error, {ebadf, B}}, result(Poller)),
    ?assertEqual([[{write, self()}] || _ <- FDs], [waiters(Port, FD) || FD <- FDs]),
    make_writable(A1),
    ?assertEqual({inert_write, A}, message(Port)),
    make_writable(New1),
    ?assertEqual({inert_write, B}, message(Port)),
    make_writable(C1),
    ?assertEqual({inert_write, C}, message(Port)),
    all_free_but_ready(Port),
    close(FDs ++ Ends ++ [New, New1]).

the_port_closes_while_sets_wait(Config) ->
    Port = port(Config),
    {FDs, Ends} = pairs(20),
    Pollers = [
        blocked(run(fun() -> poll(Port, [{FD, Mode} || FD <- FDs]) end))
     || Mode <- [read, write]
    ],
    case Port of
        inert ->
            ok = inert:stop();
        _ ->
            unlink(Port),
            exit(Port, kill)
    end,
    ?assertEqual([{error, closed}, {error, closed}], results(Pollers)),
    close(FDs ++ Ends).

a_killed_pollers_set_is_free_at_once(Config) ->
    Port = port(Config),
    {[A | _] = FDs, [A1 | _] = Ends} = pairs(20),
    Readers = blocked(run(fun() -> poll(Port, FDs) end)),
    Writers = blocked(run(fun() -> poll(Port, [{FD, write} || FD <- FDs]) end)),
    ?assertMatch(#{armed := 40, fds := 20, polls := 2}, info(Port)),
    kill(Readers),
    ?assertEqual([[{write, Writers}] || _ <- FDs], [waiters(Port, FD) || FD <- FDs]),
    ?assertEqual(ok, fdset(Port, FDs)),
    make_readable(A1),
    ?assertEqual({inert_read, A}, message(Port)),
    make_writable(A1),
    ?assertEqual({ok, [{A, write}]}, result(Writers)),
    ?assertEqual(ok, fdclr(Port, FDs)),
    all_free(Port, tl(FDs)),
    close(FDs ++ Ends).

overlapping_sets_of_different_kinds(Config) ->
    Port = port(Config),
    {[A, B, C, D] = FDs, [A1, B1, C1, D1] = Ends} = pairs(4),
    One = blocked(run(fun() -> poll(Port, [{A, read}, {B, write}, {C, read}]) end)),
    Two = blocked(run(fun() -> poll(Port, [{B, read}, {C, write}, {D, read_write}]) end)),
    ?assertEqual({error, {ebusy, C}}, poll(Port, [{A, write}, {C, read}], ?LONG)),
    ?assertEqual({error, {ebusy, B}}, fdset(Port, [{A, write}, {B, write}])),
    make_readable(B1),
    ?assertEqual({ok, [{B, read}]}, result(Two)),
    ?assertEqual([[{read, One}], [{write, One}], [{read, One}], []], [waiters(Port, FD) || FD <- FDs]),
    %% What the one that has ended waited for is nobody's now.
    make_writable(C1),
    make_readable(D1),
    Three = run(fun() -> poll(Port, [{C, write}, {A, write}, {D, read}]) end),
    ?assertEqual({ok, lists:sort([{C, write}, {D, read}])}, sorted(result(Three))),
    make_readable(A1),
    ?assertEqual({ok, [{A, read}]}, result(One)),
    all_free_but_ready(Port),
    close(FDs ++ Ends).

one_event_ends_several_sets(Config) ->
    Port = port(Config),
    {[A, B, C] = FDs, [A1 | _] = Ends} = pairs(3),
    One = blocked(run(fun() -> poll(Port, [{B, read}, {A, read}]) end)),
    Two = blocked(run(fun() -> poll(Port, [{A, write}, {B, write}, {C, read}]) end)),
    close(A1),
    ?assertEqual({ok, [{A, read}]}, result(One)),
    ?assertEqual({ok, [{A, write}]}, result(Two)),
    %% And one that is polled plainly, with one that is told by messages.
    {Z, Z1} = full_pair(),
    {ok, Twin} = fdio:dup(Z),
    ok = fdset(Port, [{Z, write}, {Twin, read}]),
    Plain = blocked(run(fun() -> poll(Port, Z, read, infinity) end)),
    Set = blocked(run(fun() -> poll(Port, [C, {Twin, write}]) end)),
    close(Z1),
    ?assertEqual({ok, read}, result(Plain)),
    ?assertEqual({ok, [{Twin, write}]}, result(Set)),
    ?assertEqual(lists:sort([{inert_write, Z}, {inert_read, Twin}]), lists:sort([message(Port), message(Port)])),
    all_free_but_ready(Port),
    close([Z, Twin] ++ FDs ++ tl(Ends)).

%% From some length on a poll matches on a reference, so that it need not look at all of
%% the messages.
a_long_mailbox_stays_as_it_is(Config) ->
    Port = port(Config),
    {[A, B] = FDs, [_, B1] = Ends} = pairs(2),
    [
        begin
            Poller = run(fun() ->
                There = [{unasked, N} || N <- lists:seq(1, Length)] ++ [{inert_read, id(Port), A}],
                [self() ! Message || Message <- There],
                Waited = poll(Port, [{A, read_write}, B]),
                TimedOut = poll(Port, [{A, read_write}], ?SHORT),
                {messages, Left} = process_info(self(), messages),
                {Waited, TimedOut, Left =:= There}
            end),
            inert_test:until(fun() -> lists:keymember(read, 1, waiters(Port, B)) end),
            make_readable(B1),
            ?assertEqual({{ok, [{B, read}]}, {error, timeout}, true}, result(Poller)),
            inert_test:drain(B),
            all_free(Port, FDs)
        end
     || Length <- [0, 30, 31, 32, 33, 100, 10_000]
    ],
    close(FDs ++ Ends).

%%% many

eventfds(Count) ->
    [
        begin
            {ok, FD} = fdio:eventfd(),
            FD
        end
     || _ <- lists:seq(1, Count)
    ].

signal(FD) ->
    {ok, 8} = fdio:write(FD, <<1:64/native>>),
    ok.

ten_thousand_fds_in_one_set(Config) ->
    FDs = eventfds(inert_test:room_for_fds(10_000)),
    inert_test:with(FDs, fun(_) -> fds_in_one_set(port(Config), FDs) end).

fds_in_one_set(Port, FDs) ->
    Count = length(FDs),
    Some = [lists:nth(N, FDs) || N <- [1, 100, Count div 2, Count]],
    ?assertEqual({error, timeout}, poll(Port, FDs, 0)),
    [
        begin
            Poller = blocked(run(fun() -> poll(Port, FDs) end)),
            ?assertMatch(#{armed := Count, fds := Count, polls := 1}, info(Port)),
            signal(FD),
            ?assertEqual({ok, [{FD, read}]}, result(Poller)),
            {ok, _} = fdio:read(FD, 8),
            ?assertMatch(#{armed := 0, fds := 0, polls := 0}, info(Port))
        end
     || FD <- Some
    ],
    %% The last that can be wrong.
    Closed = inert_test:closed_fd(),
    ?assertEqual({error, {ebadf, Closed}}, poll(Port, FDs ++ [Closed], infinity)),
    ?assertEqual({error, {einval, hd(FDs)}}, fdset(Port, FDs ++ [hd(FDs)])),
    ?assertMatch(#{armed := 0}, info(Port)),
    ok = fdset(Port, FDs),
    lists:foreach(fun signal/1, FDs),
    Told = [message(Port) || _ <- FDs],
    ?assertEqual(lists:sort([{inert_read, FD} || FD <- FDs]), lists:sort(Told)),
    no_message(),
    ?assertEqual({ok, [{FD, read} || FD <- lists:sort(FDs)]}, sorted(poll(Port, FDs))),
    ?assertEqual(ok, fdclr(Port, FDs)),
    ?assertMatch(#{armed := 0, fds := 0, polls := 0}, info(Port)).

%% What a poll keeps of a set of a thousand is 8 KB: a thousandth of the polls that lost it
%% would be seen here.
ten_thousand_polls_leave_no_trace(Config) ->
    FDs = eventfds(1_000),
    inert_test:with(FDs, fun(_) -> polls_leave_no_trace(port(Config), FDs) end).

polls_leave_no_trace(Port, [Last | _] = FDs) ->
    Set = lists:reverse(FDs),
    Polls = fun(Ready, Waiting, TimedOut) ->
        Waker = spawn_link(fun() -> signal_when_polled(Port, Last) end),
        [
            begin
                Waker ! go,
                ?assertEqual({ok, [{Last, read}]}, poll(Port, Set)),
                {ok, _} = fdio:read(Last, 8)
            end
         || _ <- lists:seq(1, Waiting)
        ],
        unlink(Waker),
        kill(Waker),
        [?assertEqual({error, timeout}, poll(Port, Set, 1)) || _ <- lists:seq(1, TimedOut)],
        signal(Last),
        [?assertEqual({ok, [{Last, read}]}, poll(Port, Set)) || _ <- lists:seq(1, Ready)],
        {ok, _} = fdio:read(Last, 8)
    end,
    Polls(50, 50, 10),
    {Open, Memory} = {inert_test:fds(), memory()},
    Polls(9_700, 200, 100),
    ?assertEqual(Open, inert_test:fds()),
    ?assertMatch(#{armed := 0, fds := 0, polls := 0, processes := 1}, info(Port)),
    %% The smallest block for each poll would be half as much again. What others of the
    %% VM's threads have freed comes back later.
    inert_test:until(fun() -> memory() - Memory < 200_000 end),
    no_message().

%% What the VM has for drivers, ports and itself.
memory() ->
    garbage_collect(),
    erlang:memory(system) - erlang:memory(atom) - erlang:memory(code).

signal_when_polled(Port, FD) ->
    receive
        go ->
            inert_test:until(fun() -> maps:get(polls, info(Port)) =:= 1 end),
            signal(FD),
            signal_when_polled(Port, FD)
    end.

a_poll_is_one_call_whatever_its_length(Config) ->
    Port = port(Config),
    FDs = eventfds(1_000),
    Last = lists:last(FDs),
    1 = erlang:trace_pattern({erlang, port_control, 3}, true, [global]),
    Calls = fun(Fun) ->
        Caller = run(fun() ->
            receive
                go -> Fun()
            end
        end),
        1 = erlang:trace(Caller, true, [call]),
        Caller ! go,
        Result = result(Caller),
        Delivered = erlang:trace_delivered(Caller),
        {Result, port_calls(Caller, Delivered, 0)}
    end,
    ?assertEqual({ok, 1}, Calls(fun() -> fdset(Port, FDs) end)),
    ?assertEqual({ok, 1}, Calls(fun() -> fdclr(Port, FDs) end)),
    ?assertEqual({{error, timeout}, 1}, Calls(fun() -> poll(Port, FDs, 0) end)),
    %% One arms, one clears.
    ?assertEqual({{error, timeout}, 2}, Calls(fun() -> poll(Port, FDs, 1) end)),
    ?assertEqual(
        {{ok, [{Last, read}]}, 1},
        Calls(fun() ->
            spawn_link(fun() ->
                inert_test:until(fun() -> maps:get(polls, info(Port)) =:= 1 end),
                signal(Last)
            end),
            poll(Port, FDs)
        end)
    ),
    ?assertEqual({{ok, [{Last, read}]}, 1}, Calls(fun() -> poll(Port, FDs) end)),
    1 = erlang:trace_pattern({erlang, port_control, 3}, false, [global]),
    close(FDs).

port_calls(Caller, Delivered, Count) ->
    receive
        {trace, Caller, call, {erlang, port_control, _}} -> port_calls(Caller, Delivered, Count + 1);
        {trace_delivered, Caller, Delivered} -> Count
    end.

%% Seen by strace, in a VM of its own.
a_poll_asks_the_kernel_once(Config) ->
    Log = filename:join(proplists:get_value(priv_dir, Config), "strace-" ++ atom_to_list(proplists:get_value(pollset, Config))),
    case os:find_executable("strace") of
        false ->
            {skip, "there is no strace"};
        Strace ->
            Peer = inert_test:start_peer([]),
            try asked(Strace, Log, Peer, Config)
            after
                %% asked/4 has stopped it, if it got that far.
                try peer:stop(Peer)
                catch exit:_ -> ok
                end
            end
    end.

asked(Strace, Log, Peer, Config) ->
    OsPid = peer:call(Peer, os, getpid, []),
    Port = open_port({spawn_executable, Strace}, [
        {args, ["-f", "-e", "trace=poll,ppoll", "-o", Log, "-p", OsPid]},
        exit_status,
        stderr_to_stdout,
        {line, 1000},
        hide
    ]),
    receive
        {Port, {data, {_, Line}}} ->
            case string:find(Line, "attached") of
                nomatch ->
                    %% It may have closed by itself.
                    try port_close(Port)
                    catch error:badarg -> true
                    end,
                    {skip, "strace: " ++ Line};
                _ ->
                    ?assertEqual(ok, peer:call(Peer, ?MODULE, poll_ready_and_not, [inert_test:options(Config), 500])),
                    peer:stop(Peer),
                    ok = ended(Port),
                    {ok, Trace} = file:read_file(Log),
                    ?assertEqual(2, length(binary:matches(Trace, <<", 500, 0)">>)))
            end
    end.

ended(Port) ->
    receive
        {Port, {data, _}} -> ended(Port);
        {Port, {exit_status, _}} -> ok
    end.

%% One that finds something ready, and one that arms and times out.
poll_ready_and_not(Options, Count) ->
    {ok, Port} = prim_inert:start(Options),
    [First | _] = FDs = eventfds(Count),
    {error, timeout} = prim_inert:poll(Port, FDs, 1),
    ok = signal(First),
    {ok, [{First, read}]} = prim_inert:poll(Port, FDs, infinity),
    ok = prim_inert:stop(Port),
    close(FDs).
