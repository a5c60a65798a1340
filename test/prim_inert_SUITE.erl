%% SPDX-License-Identifier: Apache-2.0
%%
%% SPEC.md, section 2: ports of one's own, through the public API, on every pollset.
%% What the calls have in common with the service's is shown by inert_SUITE; here it is
%% the port, who owns it, and several of them side by side.
-module(prim_inert_SUITE).

-export([suite/0]).
-export([all/0]).
-export([groups/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

%% calls
-export([start_opens_a_port_that_the_caller_owns/1]).
-export([start_refuses_unknown_options/1]).
-export([fdset_by_port_and_by_name/1]).
-export([fdclr_by_port_and_by_name/1]).
-export([poll_by_port_and_by_name/1]).
-export([messages_carry_the_port/1]).
-export([any_process_may_use_the_port/1]).
-export([a_number_that_is_no_fd_is_ebadf/1]).
-export([an_unknown_mode_or_option_is_einval/1]).
-export([badarg_names_the_argument/1]).
-export([bad_input_changes_nothing_armed/1]).
-export([a_closed_port_is_closed/1]).
-export([a_name_that_is_no_port_is_closed/1]).
-export([stop_is_ok_from_any_process_and_twice/1]).
-export([stop_ends_the_polls/1]).
-export([a_stopped_port_unloads_the_driver/1]).

%% several_ports
-export([several_ports_on_one_fd_are_all_told/1]).
-export([polls_on_several_ports_of_one_fd_all_end/1]).
-export([each_port_has_its_own_waiters/1]).
-export([clearing_on_one_port_leaves_the_others/1]).
-export([stopping_one_port_leaves_the_others/1]).
-export([ports_come_and_go_on_one_fd/1]).
-export([a_reused_number_on_several_ports/1]).
-export([closing_a_fd_that_several_ports_have_armed_is_harmless/1]).
-export([a_hundred_ports_side_by_side/1]).
-export([a_port_beside_the_service/1]).

%% owners
-export([a_port_dies_with_its_owner/1]).
-export([a_port_does_not_die_with_another_process/1]).
-export([a_handed_over_port_is_the_new_owners/1]).
-export([a_handed_over_port_dies_with_its_new_owner/1]).
-export([handing_over_to_oneself_is_ok/1]).
-export([only_the_owner_hands_over/1]).
-export([a_foreigner_may_name_the_owner/1]).
-export([handing_over_by_name/1]).
-export([handing_over_a_closed_port_is_einval/1]).
-export([handing_over_an_unregistered_name_is_einval/1]).
-export([handing_over_to_the_dead_is_einval/1]).
-export([handing_over_to_no_local_process_is_einval/1]).
-export([waiters_keep_waiting_over_a_handover/1]).
-export([a_port_is_handed_round/1]).
-export([handing_over_to_the_dying_leaks_nothing/1]).
-export([the_services_port_is_handed_over/1]).

-include_lib("stdlib/include/assert.hrl").

-define(NAME, prim_inert_SUITE_port).

%% Not infinity, and never over within a test.
-define(LONG, 3_600_000).

-import(inert_test, [
    pair/0,
    full_pair/0,
    close/1,
    run/1,
    blocked/1,
    result/1,
    results/1,
    make_readable/1,
    make_writable/1,
    message_of/1,
    quiet_barrier/1,
    no_message/0
]).

suite() ->
    inert_test:suite().

all() ->
    inert_test:per_pollset(topics()).

groups() ->
    inert_test:groups_per_pollset(topics()).

topics() ->
    [
        {calls, [
            start_opens_a_port_that_the_caller_owns,
            start_refuses_unknown_options,
            fdset_by_port_and_by_name,
            fdclr_by_port_and_by_name,
            poll_by_port_and_by_name,
            messages_carry_the_port,
            any_process_may_use_the_port,
            a_number_that_is_no_fd_is_ebadf,
            an_unknown_mode_or_option_is_einval,
            badarg_names_the_argument,
            bad_input_changes_nothing_armed,
            a_closed_port_is_closed,
            a_name_that_is_no_port_is_closed,
            stop_is_ok_from_any_process_and_twice,
            stop_ends_the_polls,
            a_stopped_port_unloads_the_driver
        ]},
        {several_ports, [
            several_ports_on_one_fd_are_all_told,
            polls_on_several_ports_of_one_fd_all_end,
            each_port_has_its_own_waiters,
            clearing_on_one_port_leaves_the_others,
            stopping_one_port_leaves_the_others,
            ports_come_and_go_on_one_fd,
            a_reused_number_on_several_ports,
            closing_a_fd_that_several_ports_have_armed_is_harmless,
            a_hundred_ports_side_by_side,
            a_port_beside_the_service
        ]},
        {owners, [
            a_port_dies_with_its_owner,
            a_port_does_not_die_with_another_process,
            a_handed_over_port_is_the_new_owners,
            a_handed_over_port_dies_with_its_new_owner,
            handing_over_to_oneself_is_ok,
            only_the_owner_hands_over,
            a_foreigner_may_name_the_owner,
            handing_over_by_name,
            handing_over_a_closed_port_is_einval,
            handing_over_an_unregistered_name_is_einval,
            handing_over_to_the_dead_is_einval,
            handing_over_to_no_local_process_is_einval,
            waiters_keep_waiting_over_a_handover,
            a_port_is_handed_round,
            handing_over_to_the_dying_leaks_nothing,
            the_services_port_is_handed_over
        ]}
    ].

init_per_suite(Config) ->
    inert_test:init_per_suite(Config).

end_per_suite(Config) ->
    inert_test:end_per_suite(Config).

init_per_group(Group, Config) ->
    inert_test:init_per_group(Group, Config).

end_per_group(Group, Config) ->
    inert_test:end_per_group(Group, Config).

init_per_testcase(_Case, Config0) ->
    Config = inert_test:init_per_testcase(Config0),
    %% The process of the case is its owner.
    [{port, inert_test:open(Config)} | Config].

end_per_testcase(_Case, Config) ->
    ok = prim_inert:stop(port(Config)),
    inert_test:end_per_testcase(Config).

port(Config) ->
    proplists:get_value(port, Config).

%% The two ways to name a port.
port_and_name(Config) ->
    Port = port(Config),
    whereis(?NAME) =:= Port orelse register(?NAME, Port),
    [Port, ?NAME].

%%% calls

start_opens_a_port_that_the_caller_owns(Config) ->
    Options = inert_test:options(Config),
    [
        begin
            {ok, Port} = Start(),
            ?assert(is_port(Port)),
            ?assertEqual({connected, self()}, erlang:port_info(Port, connected)),
            ?assertEqual({links, [self()]}, erlang:port_info(Port, links)),
            ?assert(lists:member(Port, links(self()))),
            works(Port),
            ?assertEqual(ok, prim_inert:stop(Port)),
            ?assertEqual(undefined, erlang:port_info(Port))
        end
     || Start <- [
            fun() -> prim_inert:start() end,
            fun() -> prim_inert:start([]) end,
            fun() -> prim_inert:start(Options) end,
            %% The first of several values counts.
            fun() -> prim_inert:start(Options ++ [{pollset, erts}]) end
        ]
    ].

links(Pid) ->
    {links, Links} = process_info(Pid, links),
    Links.

%% The port does what it should.
works(Port) ->
    {A, B} = full_pair(),
    ok = prim_inert:fdset(Port, A, read_write),
    make_readable(B),
    ?assertEqual({inert_read, A}, message_of(Port)),
    make_writable(B),
    ?assertEqual({inert_write, A}, message_of(Port)),
    inert_test:drain(A),
    Poller = blocked(run(fun() -> prim_inert:poll(Port, A, read, ?LONG) end)),
    make_readable(B),
    ?assertEqual({ok, read}, result(Poller)),
    close([A, B]).

start_refuses_unknown_options(_Config) ->
    Before = inert_test:inert_ports(),
    [
        ?assertEqual({Options, [1]}, {Options, inert_test:badarg_position(fun() -> prim_inert:start(Options) end)})
     || Options <- [foo, [foo], [{pollset, foo}], [{foo, erts}], [{pollset, erts} | foo], [{pollset, erts}, foo], #{}]
    ],
    ?assertEqual(Before, inert_test:inert_ports()).

fdset_by_port_and_by_name(Config) ->
    Port = port(Config),
    {A, B} = full_pair(),
    [
        begin
            ?assertEqual(ok, Fdset()),
            no_message(),
            make_readable(B),
            case Mode of
                write -> ok;
                _ -> ?assertEqual({inert_read, A}, message_of(Port))
            end,
            make_writable(B),
            case Mode of
                read -> ok;
                _ -> ?assertEqual({inert_write, A}, message_of(Port))
            end,
            quiet_barrier(Port),
            no_message(),
            inert_test:drain(A),
            inert_test:fill(A)
        end
     || To <- port_and_name(Config),
        {Mode, Fdset} <- [
            {read, fun() -> prim_inert:fdset(To, A) end},
            {read, fun() -> prim_inert:fdset(To, A, []) end},
            {read, fun() -> prim_inert:fdset(To, A, read) end},
            {write, fun() -> prim_inert:fdset(To, A, write) end},
            {read_write, fun() -> prim_inert:fdset(To, A, read_write) end},
            {write, fun() -> prim_inert:fdset(To, A, [{mode, write}]) end},
            {read_write, fun() -> prim_inert:fdset(To, A, [{timeout, 5}, {mode, read_write}]) end}
        ]
    ],
    close([A, B]).

fdclr_by_port_and_by_name(Config) ->
    Port = port(Config),
    {A, B} = full_pair(),
    [
        begin
            ok = prim_inert:fdset(Port, A, Mode),
            ?assertEqual(ok, Fdclr()),
            make_readable(B),
            make_writable(B),
            quiet_barrier(Port),
            no_message(),
            inert_test:drain(A),
            inert_test:fill(A)
        end
     || To <- port_and_name(Config),
        {Mode, Fdclr} <- [
            {read_write, fun() -> prim_inert:fdclr(To, A) end},
            {read_write, fun() -> prim_inert:fdclr(To, A, []) end},
            {read_write, fun() -> prim_inert:fdclr(To, A, read_write) end},
            {read, fun() -> prim_inert:fdclr(To, A, read) end},
            {write, fun() -> prim_inert:fdclr(To, A, [{mode, write}]) end}
        ]
    ],
    close([A, B]).

poll_by_port_and_by_name(Config) ->
    {A, B} = full_pair(),
    [
        begin
            Poller = blocked(run(Poll)),
            case Kind of
                read -> make_readable(B);
                write -> make_writable(B)
            end,
            ?assertEqual({ok, Kind}, result(Poller)),
            inert_test:drain(A),
            inert_test:fill(A)
        end
     || To <- port_and_name(Config),
        {Kind, Poll} <- [
            {read, fun() -> prim_inert:poll(To, A) end},
            {read, fun() -> prim_inert:poll(To, A, []) end},
            {read, fun() -> prim_inert:poll(To, A, read) end},
            {write, fun() -> prim_inert:poll(To, A, write) end},
            {write, fun() -> prim_inert:poll(To, A, read_write) end},
            {read, fun() -> prim_inert:poll(To, A, [{timeout, ?LONG}]) end},
            {write, fun() -> prim_inert:poll(To, A, [{mode, write}, {timeout, infinity}]) end},
            {read, fun() -> prim_inert:poll(To, A, read, 4000) end},
            {write, fun() -> prim_inert:poll(To, A, [{mode, write}], infinity) end}
        ]
    ],
    [
        ?assertEqual({error, timeout}, Poll())
     || To <- port_and_name(Config),
        Timeout <- [0, 1],
        Poll <- [
            fun() -> prim_inert:poll(To, A, read_write, Timeout) end,
            fun() -> prim_inert:poll(To, A, [{mode, write}, {timeout, Timeout}]) end
        ]
    ],
    close([A, B]).

messages_carry_the_port(Config) ->
    Port = port(Config),
    {A, B} = pair(),
    make_readable(B),
    [
        begin
            ok = prim_inert:fdset(To, A, read_write),
            [
                receive
                    Message -> ?assertEqual({Tag, Port, A}, Message)
                end
             || Tag <- [inert_read, inert_write]
            ]
        end
     || To <- port_and_name(Config)
    ],
    close([A, B]).

any_process_may_use_the_port(Config) ->
    Port = port(Config),
    Pairs = [full_pair() || _ <- lists:seq(1, 20)],
    Setters = [
        run(fun() ->
            ok = prim_inert:fdset(Port, A, write),
            message_of(Port)
        end)
     || {A, _} <- Pairs
    ],
    Pollers = inert_test:blocked_all([run(fun() -> prim_inert:poll(Port, A) end) || {A, _} <- Pairs]),
    [make_readable(B) || {_, B} <- Pairs],
    ?assertEqual([{ok, read}], lists:usort(results(Pollers))),
    [make_writable(B) || {_, B} <- Pairs],
    ?assertEqual([{inert_write, A} || {A, _} <- Pairs], results(Setters)),
    no_message(),
    close(Pairs).

a_number_that_is_no_fd_is_ebadf(Config) ->
    {A, B} = pair(),
    [
        ?assertEqual({FD, {error, ebadf}}, {FD, Call()})
     || To <- port_and_name(Config),
        FD <- [-1, fdio:max_fds(), 1 bsl 31, 1 bsl 32 + A, -(1 bsl 80), inert_test:closed_fd()],
        Call <- calls(To, FD)
    ],
    close([A, B]).

calls(To, FD) ->
    [
        fun() -> prim_inert:fdset(To, FD) end,
        fun() -> prim_inert:fdset(To, FD, read_write) end,
        fun() -> prim_inert:fdclr(To, FD) end,
        fun() -> prim_inert:fdclr(To, FD, write) end,
        fun() -> prim_inert:poll(To, FD) end,
        fun() -> prim_inert:poll(To, FD, write) end,
        fun() -> prim_inert:poll(To, FD, read, 0) end,
        fun() -> prim_inert:poll(To, FD, [{mode, read_write}], infinity) end
    ].

an_unknown_mode_or_option_is_einval(Config) ->
    {A, B} = pair(),
    Unknown = [foo, 1, "read", <<"read">>, {mode, read}, [{mode, foo}], [foo], [{foo, 1}], [{mode, read}, {foo, 1}], [{mode, read} | foo]],
    [
        ?assertEqual({Mode, {error, einval}}, {Mode, Call()})
     || To <- port_and_name(Config),
        Mode <- Unknown,
        Call <- [
            fun() -> prim_inert:fdset(To, A, Mode) end,
            fun() -> prim_inert:fdclr(To, A, Mode) end,
            fun() -> prim_inert:poll(To, A, Mode) end,
            fun() -> prim_inert:poll(To, A, Mode, 0) end
        ]
    ],
    close([A, B]).

badarg_names_the_argument(Config) ->
    {A, B} = pair(),
    [
        ?assertEqual({Position, [Position]}, {Position, inert_test:badarg_position(Call)})
     || To <- port_and_name(Config) ++ [no_such_name],
        {Position, Call} <-
            [{2, Call} || FD <- [foo, 1.0, [a], <<"1">>, self()], Call <- calls(To, FD)] ++
                [
                    {Position, Call}
                 || Timeout <- [-1, 1.5, foo, "1"],
                    {Position, Call} <- [
                        {4, fun() -> prim_inert:poll(To, A, read, Timeout) end},
                        {4, fun() -> prim_inert:poll(To, A, [], Timeout) end},
                        {3, fun() -> prim_inert:poll(To, A, [{timeout, Timeout}]) end},
                        {3, fun() -> prim_inert:poll(To, A, [{timeout, Timeout}], 1) end},
                        {3, fun() -> prim_inert:fdset(To, A, [{timeout, Timeout}]) end},
                        {3, fun() -> prim_inert:fdclr(To, A, [{timeout, Timeout}]) end}
                    ]
                ]
    ],
    close([A, B]).

bad_input_changes_nothing_armed(Config) ->
    Port = port(Config),
    {A, B} = full_pair(),
    ok = prim_inert:fdset(Port, A, read),
    Writer = blocked(run(fun() -> prim_inert:poll(Port, A, write) end)),
    [?assertEqual({error, ebadf}, Call()) || Call <- calls(Port, 1 bsl 32 + A)],
    [?assertEqual({error, einval}, prim_inert:fdset(Port, A, Mode)) || Mode <- [foo, [{mode, foo}]]],
    [?assertEqual({error, einval}, prim_inert:fdclr(Port, A, Mode)) || Mode <- [foo, [{mode, foo}]]],
    ?assertEqual([3], inert_test:badarg_position(fun() -> prim_inert:fdclr(Port, A, [{timeout, -1}]) end)),
    make_readable(B),
    ?assertEqual({inert_read, A}, message_of(Port)),
    blocked(Writer),
    make_writable(B),
    ?assertEqual({ok, write}, result(Writer)),
    close([A, B]).

a_closed_port_is_closed(Config) ->
    {A, B} = pair(),
    [Port | _] = Tos = port_and_name(Config),
    ok = prim_inert:stop(Port),
    [?assertEqual({error, closed}, Call()) || To <- Tos, Call <- calls(To, A)],
    no_message(),
    close([A, B]).

a_name_that_is_no_port_is_closed(_Config) ->
    {A, B} = pair(),
    %% Nobody's, and a process's.
    [?assertEqual({error, closed}, Call()) || To <- [no_such_name, undefined, init], Call <- calls(To, A)],
    close([A, B]).

stop_is_ok_from_any_process_and_twice(Config) ->
    [Port, Name] = port_and_name(Config),
    ?assertEqual(ok, result(run(fun() -> prim_inert:stop(Name) end))),
    ?assertEqual(undefined, erlang:port_info(Port)),
    ?assertEqual(ok, prim_inert:stop(Name)),
    ?assertEqual(ok, prim_inert:stop(Port)),
    ?assertEqual(ok, prim_inert:stop(no_such_name)).

stop_ends_the_polls(Config) ->
    Pairs = [full_pair() || _ <- lists:seq(1, 100)],
    [
        begin
            Port = inert_test:open(Config),
            Pollers = [
                run(fun() -> prim_inert:poll(Port, A, Mode, Timeout) end)
             || {A, _} <- Pairs, {Mode, Timeout} <- [{read, infinity}, {write, 4000}]
            ],
            inert_test:blocked_all(Pollers),
            Stop(Port),
            ?assertEqual([{error, closed}], lists:usort(results(Pollers))),
            no_message()
        end
     || Stop <- [
            fun(Port) -> ?assertEqual(ok, prim_inert:stop(Port)) end,
            fun(Port) -> true = port_close(Port) end,
            fun(Port) -> ok = result(run(fun() -> prim_inert:stop(Port) end)) end,
            fun(Port) ->
                unlink(Port),
                exit(Port, kill)
            end
        ]
    ],
    close(Pairs).

a_stopped_port_unloads_the_driver(Config) ->
    Ports = [port(Config) | [inert_test:open(Config) || _ <- [1, 2, 3]]],
    [
        begin
            ?assert(inert_test:driver_loaded()),
            ok = prim_inert:stop(Port)
        end
     || Port <- Ports
    ],
    inert_test:until(fun() -> not inert_test:driver_loaded() end).

%%% several_ports

%% Ports that are stopped afterwards.
with_ports(Count, Config, Fun) ->
    Ports = [inert_test:open(Config) || _ <- lists:seq(1, Count)],
    Fun(Ports),
    lists:foreach(fun(Port) -> ok = prim_inert:stop(Port) end, Ports).

several_ports_on_one_fd_are_all_told(Config) ->
    with_ports(5, Config, fun(Ports) ->
        {A, B} = full_pair(),
        FDs = inert_test:fds(),
        [
            begin
                [ok = prim_inert:fdset(Port, A, read_write) || Port <- Ports],
                [quiet_barrier(Port) || Port <- Ports],
                no_message(),
                make_readable(B),
                [?assertEqual({inert_read, A}, message_of(Port)) || Port <- Ports],
                make_writable(B),
                [?assertEqual({inert_write, A}, message_of(Port)) || Port <- lists:reverse(Ports)],
                [quiet_barrier(Port) || Port <- Ports],
                no_message(),
                %% What inert had opened for it is closed again.
                inert_test:until(fun() -> inert_test:fds() =:= FDs end),
                inert_test:drain(A),
                inert_test:fill(A)
            end
         || _ <- lists:seq(1, 20)
        ],
        close([A, B])
    end).

polls_on_several_ports_of_one_fd_all_end(Config) ->
    with_ports(5, Config, fun(Ports) ->
        {A, B} = full_pair(),
        Readers = inert_test:blocked_all([run(fun() -> prim_inert:poll(Port, A) end) || Port <- Ports]),
        Writers = inert_test:blocked_all([run(fun() -> prim_inert:poll(Port, A, write) end) || Port <- Ports]),
        make_readable(B),
        ?assertEqual([{ok, read}], lists:usort(results(Readers))),
        inert_test:blocked_all(Writers),
        make_writable(B),
        ?assertEqual([{ok, write}], lists:usort(results(Writers))),
        close([A, B])
    end).

each_port_has_its_own_waiters(Config) ->
    with_ports(2, Config, fun([P, Q]) ->
        {A, B} = full_pair(),
        Poller = blocked(run(fun() -> prim_inert:poll(P, A, read_write) end)),
        ?assertEqual({error, ebusy}, prim_inert:fdset(P, A)),
        ?assertEqual(ok, prim_inert:fdset(Q, A)),
        ?assertEqual({error, ebusy}, result(run(fun() -> prim_inert:poll(Q, A) end))),
        %% A timeout on the one leaves the other one's.
        ?assertEqual({error, timeout}, prim_inert:poll(Q, A, write, 1)),
        blocked(Poller),
        make_readable(B),
        ?assertEqual({ok, read}, result(Poller)),
        ?assertEqual({inert_read, A}, message_of(Q)),
        close([A, B])
    end).

clearing_on_one_port_leaves_the_others(Config) ->
    [
        with_ports(3, Config, fun(Ports) ->
            {A, B} = full_pair(),
            [ok = prim_inert:fdset(Port, A, read_write) || Port <- Ports],
            Cleared = lists:nth(Nth, Ports),
            ok = prim_inert:fdclr(Cleared, A),
            make_readable(B),
            make_writable(B),
            [
                ?assertEqual([{inert_read, A}, {inert_write, A}], lists:sort([message_of(Port), message_of(Port)]))
             || Port <- Ports, Port =/= Cleared
            ],
            [quiet_barrier(Port) || Port <- Ports],
            no_message(),
            close([A, B])
        end)
     || Nth <- [1, 2, 3]
    ].

stopping_one_port_leaves_the_others(Config) ->
    [
        with_ports(3, Config, fun(Ports) ->
            {A, B} = full_pair(),
            Pollers = [{Port, blocked(run(fun() -> prim_inert:poll(Port, A, read_write) end))} || Port <- Ports],
            Stopped = lists:nth(Nth, Ports),
            ok = prim_inert:stop(Stopped),
            {value, {_, Closed}, Left} = lists:keytake(Stopped, 1, Pollers),
            ?assertEqual({error, closed}, result(Closed)),
            [blocked(Poller) || {_, Poller} <- Left],
            make_writable(B),
            [?assertEqual({ok, write}, result(Poller)) || {_, Poller} <- Left],
            close([A, B])
        end)
     || Nth <- [1, 2, 3]
    ].

ports_come_and_go_on_one_fd(Config) ->
    %% Any order of arming, clearing and stopping; what is armed is told, nothing else.
    {A, B} = full_pair(),
    FDs = inert_test:fds(),
    _ = rand:seed(exsss, {1, 2, 3}),
    [
        begin
            Ports = [inert_test:open(Config) || _ <- [1, 2, 3, 4]],
            Armed = lists:foldl(
                fun(_, Set) ->
                    Port = lists:nth(rand:uniform(4), Ports),
                    case rand:uniform(3) of
                        1 ->
                            ok = prim_inert:fdclr(Port, A),
                            Set -- [Port];
                        _ ->
                            ok = prim_inert:fdset(Port, A),
                            [Port | Set -- [Port]]
                    end
                end,
                [],
                lists:seq(1, 12)
            ),
            {Stopped, Left} = lists:partition(fun(_) -> rand:uniform(4) =:= 1 end, Ports),
            [ok = prim_inert:stop(Port) || Port <- Stopped],
            make_readable(B),
            [?assertEqual({inert_read, A}, message_of(Port)) || Port <- Left, lists:member(Port, Armed)],
            [quiet_barrier(Port) || Port <- Left],
            no_message(),
            [ok = prim_inert:stop(Port) || Port <- Left],
            inert_test:until(fun() -> inert_test:fds() =:= FDs end),
            inert_test:drain(A)
        end
     || _ <- lists:seq(1, 100)
    ],
    close([A, B]).

a_reused_number_on_several_ports(Config) ->
    with_ports(3, Config, fun([P, Q, R] = Ports) ->
        {A, B} = full_pair(),
        {C, D} = full_pair(),
        {ok, Copy} = fdio:dup(A),
        Old = [blocked(run(fun() -> prim_inert:poll(Port, A) end)) || Port <- [P, Q]],
        ok = fdio:dup2(C, A),
        New = [blocked(run(fun() -> prim_inert:poll(Port, A) end)) || Port <- Ports],
        ?assertEqual([{error, ebadf}, {error, ebadf}], results(Old)),
        make_readable(B),
        [quiet_barrier(Port) || Port <- [R, Q, P]],
        inert_test:blocked_all(New),
        make_readable(D),
        ?assertEqual([{ok, read}], lists:usort(results(New))),
        close([A, B, C, D, Copy])
    end).

closing_a_fd_that_several_ports_have_armed_is_harmless(Config) ->
    with_ports(3, Config, fun(Ports) ->
        {A, B} = full_pair(),
        [ok = prim_inert:fdset(Port, A, read_write) || Port <- Ports],
        close(A),
        make_readable_if_open(B),
        inert_test:until(fun inert_test:is_quiet/0),
        [?assertEqual({error, ebadf}, prim_inert:fdset(Port, A)) || Port <- Ports],
        [quiet_barrier(Port) || Port <- Ports],
        no_message(),
        ?assertEqual([], inert_test:logged()),
        [works(Port) || Port <- Ports],
        close(B)
    end).

make_readable_if_open(B) ->
    _ = fdio:write(B, <<"x">>),
    inert_test:drain(B).

a_hundred_ports_side_by_side(Config) ->
    with_ports(100, Config, fun(Ports) ->
        {A, B} = full_pair(),
        Pollers = inert_test:blocked_all([run(fun() -> prim_inert:poll(Port, A) end) || Port <- Ports]),
        make_readable(B),
        ?assertEqual([{ok, read}], lists:usort(results(Pollers))),
        close([A, B])
    end).

a_port_beside_the_service(Config) ->
    Port = port(Config),
    ok = inert:start(),
    {A, B} = full_pair(),
    ok = inert:fdset(A, read_write),
    ok = prim_inert:fdset(Port, A, read_write),
    make_readable(B),
    ?assertEqual({inert_read, A}, message_of(inert:pollid())),
    ?assertEqual({inert_read, A}, message_of(Port)),
    ok = inert:stop(),
    make_writable(B),
    ?assertEqual({inert_write, A}, message_of(Port)),
    no_message(),
    works(Port),
    close([A, B]).

%%% owners

%% A process that owns a port of its own, and does what it is asked to.
owner(Config) ->
    Main = self(),
    Owner = spawn(fun() ->
        Main ! {self(), inert_test:open(Config)},
        obey()
    end),
    {Owner, result(Owner)}.

obey() ->
    receive
        {do, From, Fun} ->
            From ! {self(), Fun()},
            obey();
        {exit, Reason} ->
            exit(Reason)
    end.

ask(Pid, Fun) ->
    Pid ! {do, self(), Fun},
    result(Pid).

%% Ends a process and waits until it is over.
finish(Pid, Reason) ->
    Monitor = monitor(process, Pid),
    case Reason of
        kill -> exit(Pid, kill);
        _ -> Pid ! {exit, Reason}
    end,
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

closes(Port) ->
    inert_test:until(fun() -> erlang:port_info(Port) =:= undefined end).

a_port_dies_with_its_owner(Config) ->
    {A, B} = full_pair(),
    [
        begin
            {Owner, Port} = owner(Config),
            Pollers = inert_test:blocked_all([
                run(fun() -> prim_inert:poll(Port, A, Mode, Timeout) end)
             || {Mode, Timeout} <- [{read, infinity}, {write, 4000}]
            ]),
            finish(Owner, Reason),
            ?assertEqual([{error, closed}, {error, closed}], results(Pollers)),
            closes(Port),
            ?assertEqual({error, closed}, prim_inert:poll(Port, A))
        end
     || Reason <- [normal, shutdown, whatever, kill]
    ],
    close([A, B]).

a_port_does_not_die_with_another_process(Config) ->
    Port = port(Config),
    [
        begin
            {A, B} = full_pair(),
            User = spawn(fun obey/0),
            ok = ask(User, fun() -> prim_inert:fdset(Port, A, read_write) end),
            finish(User, Reason),
            works(Port),
            close([A, B])
        end
     || Reason <- [normal, shutdown, whatever, kill]
    ].

a_handed_over_port_is_the_new_owners(Config) ->
    Port = port(Config),
    New = spawn(fun obey/0),
    ?assert(lists:member(Port, links(self()))),
    ?assertEqual(ok, prim_inert:controlling_process(Port, New)),
    ?assertEqual({connected, New}, erlang:port_info(Port, connected)),
    ?assertEqual({links, [New]}, erlang:port_info(Port, links)),
    ?assertEqual([Port], links(New)),
    ?assertNot(lists:member(Port, links(self()))),
    works(Port),
    %% It is no longer the first one's to give.
    ?assertEqual({error, not_owner}, prim_inert:controlling_process(Port, self())),
    Main = self(),
    ?assertEqual(ok, ask(New, fun() -> prim_inert:controlling_process(Port, Main) end)),
    ?assertEqual({connected, self()}, erlang:port_info(Port, connected)),
    ?assertEqual({links, [self()]}, erlang:port_info(Port, links)),
    ?assertEqual([], links(New)),
    %% The old owner's end does not matter.
    finish(New, kill),
    works(Port).

a_handed_over_port_dies_with_its_new_owner(Config) ->
    {A, B} = full_pair(),
    [
        begin
            Port = inert_test:open(Config),
            New = spawn(fun obey/0),
            Poller = blocked(run(fun() -> prim_inert:poll(Port, A) end)),
            ok = prim_inert:controlling_process(Port, New),
            blocked(Poller),
            finish(New, Reason),
            ?assertEqual({error, closed}, result(Poller)),
            closes(Port)
        end
     || Reason <- [normal, whatever, kill]
    ],
    close([A, B]).

handing_over_to_oneself_is_ok(Config) ->
    Port = port(Config),
    [
        begin
            ?assertEqual(ok, prim_inert:controlling_process(To, self())),
            ?assertEqual({connected, self()}, erlang:port_info(Port, connected)),
            ?assertEqual({links, [self()]}, erlang:port_info(Port, links))
        end
     || To <- port_and_name(Config)
    ],
    works(Port).

only_the_owner_hands_over(Config) ->
    Port = port(Config),
    Links = links(self()),
    Main = self(),
    Foreigner = spawn(fun obey/0),
    Other = spawn(fun obey/0),
    [
        ?assertEqual({error, not_owner}, ask(Foreigner, fun() -> prim_inert:controlling_process(To, Pid) end))
     || To <- port_and_name(Config), Pid <- [Foreigner, Other]
    ],
    ?assertEqual({connected, Main}, erlang:port_info(Port, connected)),
    ?assertEqual({links, [Main]}, erlang:port_info(Port, links)),
    ?assertEqual(Links, links(Main)),
    ?assertEqual({[], []}, {links(Foreigner), links(Other)}),
    finish(Foreigner, kill),
    finish(Other, kill),
    works(Port).

a_foreigner_may_name_the_owner(Config) ->
    Port = port(Config),
    Main = self(),
    Foreigner = spawn(fun obey/0),
    ?assertEqual(ok, ask(Foreigner, fun() -> prim_inert:controlling_process(Port, Main) end)),
    ?assertEqual({links, [Main]}, erlang:port_info(Port, links)),
    ?assertEqual([], links(Foreigner)),
    finish(Foreigner, kill),
    works(Port).

handing_over_by_name(Config) ->
    [Port, Name] = port_and_name(Config),
    New = spawn(fun obey/0),
    ?assertEqual(ok, prim_inert:controlling_process(Name, New)),
    ?assertEqual({connected, New}, erlang:port_info(Port, connected)),
    ?assertEqual({links, [New]}, erlang:port_info(Port, links)),
    ?assertEqual({error, not_owner}, prim_inert:controlling_process(Name, self())),
    finish(New, normal),
    closes(Port).

handing_over_a_closed_port_is_einval(Config) ->
    [Port | _] = Tos = port_and_name(Config),
    ok = prim_inert:stop(Port),
    Other = spawn(fun obey/0),
    [
        ?assertEqual({error, einval}, prim_inert:controlling_process(To, Pid))
     || To <- Tos, Pid <- [self(), Other]
    ],
    ?assertEqual([], links(Other)),
    finish(Other, kill).

handing_over_an_unregistered_name_is_einval(_Config) ->
    [
        ?assertEqual({error, einval}, prim_inert:controlling_process(Name, self()))
     || Name <- [no_such_name, undefined, inert, init]
    ].

handing_over_to_the_dead_is_einval(Config) ->
    Port = port(Config),
    Dead = spawn(fun() -> ok end),
    finish(Dead, kill),
    Links = links(self()),
    [?assertEqual({error, einval}, prim_inert:controlling_process(To, Dead)) || To <- port_and_name(Config)],
    ?assertEqual({connected, self()}, erlang:port_info(Port, connected)),
    ?assertEqual({links, [self()]}, erlang:port_info(Port, links)),
    ?assertEqual(Links, links(self())),
    works(Port).

handing_over_to_no_local_process_is_einval(Config) ->
    Port = port(Config),
    %% NEW_PID_EXT: a process of a node that is not there.
    Remote = binary_to_term(<<131, 88, 119, 3, "a@b", 1:32, 0:32, 1:32>>),
    ?assert(is_pid(Remote)),
    [
        ?assertEqual({Pid, {error, einval}}, {Pid, prim_inert:controlling_process(To, Pid)})
     || To <- port_and_name(Config), Pid <- [Remote, foo, init, undefined, Port, make_ref(), 1, "pid"]
    ],
    ?assertEqual({connected, self()}, erlang:port_info(Port, connected)),
    ?assertEqual({links, [self()]}, erlang:port_info(Port, links)),
    works(Port).

waiters_keep_waiting_over_a_handover(Config) ->
    Port = port(Config),
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    ok = prim_inert:fdset(Port, A, read),
    Poller = blocked(run(fun() -> prim_inert:poll(Port, A, write) end)),
    New = spawn(fun obey/0),
    %% What the new owner has armed, too.
    ok = ask(New, fun() -> prim_inert:fdset(Port, C, read_write) end),
    ok = prim_inert:controlling_process(Port, New),
    blocked(Poller),
    %% What waits is still taken.
    ?assertEqual({error, ebusy}, prim_inert:fdset(Port, A, write)),
    ?assertEqual({error, ebusy}, prim_inert:fdset(Port, C, read)),
    make_readable(B),
    ?assertEqual({inert_read, A}, message_of(Port)),
    make_writable(B),
    ?assertEqual({ok, write}, result(Poller)),
    make_readable(D),
    ?assertEqual({inert_read, C}, ask(New, fun() -> message_of(Port) end)),
    make_writable(D),
    ?assertEqual({inert_write, C}, ask(New, fun() -> message_of(Port) end)),
    %% The old owner may go on using it.
    inert_test:drain(A),
    ok = prim_inert:fdset(Port, A),
    make_readable(B),
    ?assertEqual({inert_read, A}, message_of(Port)),
    finish(New, normal),
    closes(Port),
    close([A, B, C, D]).

a_port_is_handed_round(Config) ->
    Port = port(Config),
    {A, B} = full_pair(),
    Poller = blocked(run(fun() -> prim_inert:poll(Port, A) end)),
    Hands = [spawn(fun obey/0) || _ <- lists:seq(1, 100)],
    [First | _] = Hands,
    ok = prim_inert:controlling_process(Port, First),
    Last = lists:foldl(
        fun(Next, Owner) ->
            ok = ask(Owner, fun() -> prim_inert:controlling_process(Port, Next) end),
            finish(Owner, whatever),
            Next
        end,
        First,
        tl(Hands)
    ),
    ?assertEqual({connected, Last}, erlang:port_info(Port, connected)),
    ?assertEqual({links, [Last]}, erlang:port_info(Port, links)),
    make_readable(B),
    ?assertEqual({ok, read}, result(Poller)),
    finish(Last, whatever),
    closes(Port),
    close([A, B]).

handing_over_to_the_dying_leaks_nothing(Config) ->
    Results = [
        begin
            Port = inert_test:open(Config),
            Dying = spawn(fun() -> ok end),
            N rem 2 =:= 0 andalso erlang:yield(),
            case prim_inert:controlling_process(Port, Dying) of
                ok ->
                    closes(Port),
                    ok;
                {error, einval} ->
                    ?assertEqual({connected, self()}, erlang:port_info(Port, connected)),
                    ?assertEqual({links, [self()]}, erlang:port_info(Port, links)),
                    ok = prim_inert:stop(Port),
                    einval
            end
        end
     || N <- lists:seq(1, 300)
    ],
    ct:log("~b were handed over", [length([ok || ok <- Results])]).

%% Without the application whoever starts the service is the port's owner.
the_services_port_is_handed_over(_Config) ->
    ok = inert:start(),
    Port = inert:pollid(),
    New = spawn(fun obey/0),
    ?assertEqual({connected, self()}, erlang:port_info(Port, connected)),
    ?assertEqual(ok, prim_inert:controlling_process(inert, New)),
    ?assertEqual({connected, New}, erlang:port_info(Port, connected)),
    ?assertEqual({links, [New]}, erlang:port_info(Port, links)),
    ?assertEqual({error, not_owner}, prim_inert:controlling_process(inert, self())),
    works(Port),
    finish(New, normal),
    closes(Port),
    ?assertEqual(undefined, inert:pollid()),
    ?assertEqual({error, einval}, prim_inert:controlling_process(inert, self())),
    ?assertEqual(ok, inert:start()),
    ?assertEqual(ok, inert:stop()).
