%% SPDX-License-Identifier: Apache-2.0
%%
%% SPEC.md, section 1: the registered service, through its public API, on every
%% pollset. After each case nothing may be left behind: see inert_test.
-module(inert_SUITE).

-export([suite/0]).
-export([all/0]).
-export([groups/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

%% bad_input
-export([a_number_that_is_no_fd_is_ebadf/1]).
-export([a_closed_fd_is_ebadf/1]).
-export([an_unknown_mode_is_einval/1]).
-export([an_unknown_option_is_einval/1]).
-export([a_fd_that_is_no_integer_is_badarg/1]).
-export([a_timeout_that_is_none_is_badarg/1]).
-export([bad_input_changes_nothing_armed/1]).
-export([bad_input_is_refused_without_the_service/1]).

%% fdset
-export([fdset_tells_once_when_a_kind_becomes_ready/1]).
-export([fdset_tells_at_once_what_is_ready/1]).
-export([fdset_defaults_to_read/1]).
-export([fdset_takes_options/1]).
-export([both_kinds_ready_at_arming_are_both_told/1]).
-export([both_kinds_ready_later_are_both_told/1]).
-export([the_second_kind_is_told_when_its_turn_comes/1]).
-export([arming_again_replaces/1]).
-export([arming_again_after_the_message_tells_again/1]).
-export([arming_a_ready_kind_replaces_an_unready_one/1]).
-export([fdset_replaces_nothing_of_another_process/1]).

%% fdclr
-export([fdclr_keeps_the_message_from_coming/1]).
-export([fdclr_defaults_to_both_kinds/1]).
-export([fdclr_of_one_kind_leaves_the_other/1]).
-export([fdclr_of_what_is_not_armed_is_ok/1]).
-export([fdclr_works_from_any_process/1]).

%% poll
-export([poll_waits_until_ready/1]).
-export([poll_tells_the_kind/1]).
-export([poll_defaults_to_read/1]).
-export([poll_answers_read_when_both_are_ready/1]).
-export([poll_with_timeout_0_checks/1]).
-export([poll_with_timeout_0_changes_nothing_armed/1]).
-export([poll_times_out/1]).
-export([poll_takes_the_timeout_among_options/1]).
-export([poll_takes_timeouts_of_any_length/1]).
-export([poll_leaves_nothing_behind_after_a_timeout/1]).
-export([poll_leaves_nothing_behind_when_ready/1]).
-export([poll_leaves_nothing_behind_after_an_error/1]).
-export([poll_leaves_nothing_behind_after_an_exit_signal/1]).
-export([poll_leaves_nothing_behind_when_timeouts_race_with_events/1]).
-export([poll_leaves_nothing_behind_when_timeouts_race_with_stop/1]).
-export([poll_replaces_fdset_for_the_same_kinds/1]).
-export([poll_leaves_fdset_for_other_kinds/1]).
-export([poll_leaves_the_mailbox_alone/1]).
-export([poll_costs_the_same_with_a_full_mailbox/1]).
-export([poll_blocks_the_caller_only/1]).

%% ownership
-export([a_second_waiter_is_busy/1]).
-export([busy_changes_nothing/1]).
-export([busy_in_one_kind_arms_neither/1]).
-export([one_reads_while_another_writes/1]).
-export([a_process_may_wait_for_many_fds/1]).
-export([a_blocked_poll_that_is_cleared_is_canceled/1]).
-export([clearing_one_kind_cancels_a_poll_for_both/1]).
-export([a_dead_waiter_frees_its_kinds/1]).
-export([a_killed_poller_frees_its_kinds/1]).
-export([a_waiters_kinds_are_free_once_its_end_is_known/1]).

%% closed_fds
-export([closing_an_armed_fd_is_harmless/1]).
-export([closing_an_armed_fd_that_stays_open_elsewhere_is_harmless/1]).
-export([a_newcomer_gets_a_reused_number/1]).
-export([a_newcomer_to_a_reused_number_may_fdset/1]).
-export([a_newcomer_for_the_other_kind_ends_the_old_wait/1]).
-export([the_same_process_may_arm_a_reused_number/1]).
-export([the_old_files_event_is_never_delivered/1]).
-export([files_of_one_identity_are_told_apart/1]).
-export([a_hang_up_is_told_once/1]).
-export([a_poll_of_a_closed_fd_ends_when_that_is_noticed/1]).
-export([clearing_before_closing_leaves_nothing/1]).
-export([a_file_that_comes_back_to_its_number_is_told_of/1]).
-export([many_generations_of_one_number/1]).
-export([inert_leaves_the_fds_flags_alone/1]).

%% files
-export([a_pipes_reader_hears_of_data_and_of_the_end/1]).
-export([a_pipes_writer_hears_of_room_and_of_an_error/1]).
-export([a_hang_up_is_ready_for_every_kind/1]).
-export([a_pending_error_is_ready_for_every_kind/1]).
-export([regular_files_are_always_ready/1]).
-export([directories_are_always_ready/1]).
-export([dev_null_is_always_ready/1]).
-export([a_tty_is_polled/1]).
-export([an_eventfd_is_polled/1]).
-export([a_udp_socket_is_polled/1]).
-export([a_listening_socket_is_readable_when_somebody_connects/1]).
-export([a_connecting_socket_is_writable_when_decided/1]).
-export([a_socket_of_gen_tcp_is_polled/1]).
-export([a_socket_that_inet_uses_is_not_disturbed/1]).
-export([full_duplex_by_two_processes_over_a_socketpair/1]).
-export([full_duplex_by_two_processes_over_tcp/1]).

%% many
-export([high_fd_numbers_are_polled/1]).
-export([ten_thousand_fds_armed_at_once/1]).
-export([many_numbers_of_one_file_are_ready_at_once/1]).
-export([a_thousand_polls_at_once/1]).
-export([a_busy_fd_goes_on_after_many_rounds/1]).
-export([random_steps_agree_with_a_model/1]).

%% service
-export([start_is_ok_however_often/1]).
-export([fifty_concurrent_starts_give_one_port/1]).
-export([starters_that_die_at_once_leak_nothing/1]).
-export([the_port_outlives_its_starter/1]).
-export([start_takes_a_pollset/1]).
-export([start_refuses_unknown_options/1]).
-export([stop_is_ok_when_not_started/1]).
-export([pollid_is_the_port_or_undefined/1]).
-export([calls_without_the_service_are_closed/1]).
-export([stop_ends_a_thousand_polls/1]).
-export([stop_unloads_the_driver/1]).
-export([a_port_that_is_killed_ends_the_polls/1]).
-export([a_restarted_service_works_and_the_old_polls_are_closed/1]).
-export([starts_and_stops_race/1]).

%% once
-export([a_driver_that_is_not_there_raises/1]).
-export([a_driver_that_is_garbage_raises/1]).
-export([a_poll_survives_the_node_being_renamed/1]).
-export([a_poll_times_out_on_a_renamed_node/1]).

-include_lib("stdlib/include/assert.hrl").

-define(LOOPBACK, {127, 0, 0, 1}).

%% Longer than a test may take, so that what returns was not timed out; but not
%% infinity, which is a case of its own.
-define(LONG, 3_600_000).

%% Not ready within this long is taken for not ready: only for what is known by other
%% means, so that a slow machine makes no difference.
-define(SHORT, 20).

-import(inert_test, [
    pair/0,
    full_pair/0,
    with/2,
    close/1,
    run/1,
    blocked/1,
    result/1,
    results/1,
    make_readable/1,
    make_writable/1,
    no_message/0
]).

suite() ->
    inert_test:suite().

all() ->
    inert_test:per_pollset(topics()) ++ [{group, once}].

groups() ->
    inert_test:groups_per_pollset(topics()) ++
        [
            {once, [], [
                a_driver_that_is_not_there_raises,
                a_driver_that_is_garbage_raises,
                a_poll_survives_the_node_being_renamed,
                a_poll_times_out_on_a_renamed_node
            ]}
        ].

topics() ->
    [
        {bad_input, [
            a_number_that_is_no_fd_is_ebadf,
            a_closed_fd_is_ebadf,
            an_unknown_mode_is_einval,
            an_unknown_option_is_einval,
            a_fd_that_is_no_integer_is_badarg,
            a_timeout_that_is_none_is_badarg,
            bad_input_changes_nothing_armed,
            bad_input_is_refused_without_the_service
        ]},
        {fdset, [
            fdset_tells_once_when_a_kind_becomes_ready,
            fdset_tells_at_once_what_is_ready,
            fdset_defaults_to_read,
            fdset_takes_options,
            both_kinds_ready_at_arming_are_both_told,
            both_kinds_ready_later_are_both_told,
            the_second_kind_is_told_when_its_turn_comes,
            arming_again_replaces,
            arming_again_after_the_message_tells_again,
            arming_a_ready_kind_replaces_an_unready_one,
            fdset_replaces_nothing_of_another_process
        ]},
        {fdclr, [
            fdclr_keeps_the_message_from_coming,
            fdclr_defaults_to_both_kinds,
            fdclr_of_one_kind_leaves_the_other,
            fdclr_of_what_is_not_armed_is_ok,
            fdclr_works_from_any_process
        ]},
        {poll, [
            poll_waits_until_ready,
            poll_tells_the_kind,
            poll_defaults_to_read,
            poll_answers_read_when_both_are_ready,
            poll_with_timeout_0_checks,
            poll_with_timeout_0_changes_nothing_armed,
            poll_times_out,
            poll_takes_the_timeout_among_options,
            poll_takes_timeouts_of_any_length,
            poll_leaves_nothing_behind_after_a_timeout,
            poll_leaves_nothing_behind_when_ready,
            poll_leaves_nothing_behind_after_an_error,
            poll_leaves_nothing_behind_after_an_exit_signal,
            poll_leaves_nothing_behind_when_timeouts_race_with_events,
            poll_leaves_nothing_behind_when_timeouts_race_with_stop,
            poll_replaces_fdset_for_the_same_kinds,
            poll_leaves_fdset_for_other_kinds,
            poll_leaves_the_mailbox_alone,
            poll_costs_the_same_with_a_full_mailbox,
            poll_blocks_the_caller_only
        ]},
        {ownership, [
            a_second_waiter_is_busy,
            busy_changes_nothing,
            busy_in_one_kind_arms_neither,
            one_reads_while_another_writes,
            a_process_may_wait_for_many_fds,
            a_blocked_poll_that_is_cleared_is_canceled,
            clearing_one_kind_cancels_a_poll_for_both,
            a_dead_waiter_frees_its_kinds,
            a_killed_poller_frees_its_kinds,
            a_waiters_kinds_are_free_once_its_end_is_known
        ]},
        {closed_fds, [
            closing_an_armed_fd_is_harmless,
            closing_an_armed_fd_that_stays_open_elsewhere_is_harmless,
            a_newcomer_gets_a_reused_number,
            a_newcomer_to_a_reused_number_may_fdset,
            a_newcomer_for_the_other_kind_ends_the_old_wait,
            the_same_process_may_arm_a_reused_number,
            the_old_files_event_is_never_delivered,
            files_of_one_identity_are_told_apart,
            a_hang_up_is_told_once,
            a_poll_of_a_closed_fd_ends_when_that_is_noticed,
            clearing_before_closing_leaves_nothing,
            a_file_that_comes_back_to_its_number_is_told_of,
            many_generations_of_one_number,
            inert_leaves_the_fds_flags_alone
        ]},
        {files, [
            a_pipes_reader_hears_of_data_and_of_the_end,
            a_pipes_writer_hears_of_room_and_of_an_error,
            a_hang_up_is_ready_for_every_kind,
            a_pending_error_is_ready_for_every_kind,
            regular_files_are_always_ready,
            directories_are_always_ready,
            dev_null_is_always_ready,
            a_tty_is_polled,
            an_eventfd_is_polled,
            a_udp_socket_is_polled,
            a_listening_socket_is_readable_when_somebody_connects,
            a_connecting_socket_is_writable_when_decided,
            a_socket_of_gen_tcp_is_polled,
            a_socket_that_inet_uses_is_not_disturbed,
            full_duplex_by_two_processes_over_a_socketpair,
            full_duplex_by_two_processes_over_tcp
        ]},
        {many, [
            high_fd_numbers_are_polled,
            ten_thousand_fds_armed_at_once,
            many_numbers_of_one_file_are_ready_at_once,
            a_thousand_polls_at_once,
            a_busy_fd_goes_on_after_many_rounds,
            random_steps_agree_with_a_model
        ]},
        {service, [
            start_is_ok_however_often,
            fifty_concurrent_starts_give_one_port,
            starters_that_die_at_once_leak_nothing,
            the_port_outlives_its_starter,
            start_takes_a_pollset,
            start_refuses_unknown_options,
            stop_is_ok_when_not_started,
            pollid_is_the_port_or_undefined,
            calls_without_the_service_are_closed,
            stop_ends_a_thousand_polls,
            stop_unloads_the_driver,
            a_port_that_is_killed_ends_the_polls,
            a_restarted_service_works_and_the_old_polls_are_closed,
            starts_and_stops_race
        ]}
    ].

init_per_suite(Config) ->
    inert_test:init_per_suite(Config).

end_per_suite(Config) ->
    inert_test:end_per_suite(Config).

init_per_group(Group, Config) ->
    Service = not lists:member(Group, [service, once]),
    [{service, Service} | inert_test:init_per_group(Group, Config)].

end_per_group(Group, Config) ->
    inert_test:end_per_group(Group, Config).

init_per_testcase(_Case, Config0) ->
    Config = inert_test:init_per_testcase(Config0),
    case proplists:get_value(service, Config) of
        true -> ok = inert:start();
        false -> ok
    end,
    Config.

end_per_testcase(_Case, Config) ->
    ok = inert:stop(),
    inert_test:end_per_testcase(Config).

%%% bad_input

-define(CALLS(FD), [
    fun() -> inert:fdset(FD) end,
    fun() -> inert:fdset(FD, read) end,
    fun() -> inert:fdset(FD, write) end,
    fun() -> inert:fdset(FD, read_write) end,
    fun() -> inert:fdset(FD, []) end,
    fun() -> inert:fdset(FD, [{mode, write}]) end,
    fun() -> inert:fdclr(FD) end,
    fun() -> inert:fdclr(FD, read) end,
    fun() -> inert:fdclr(FD, [{mode, read_write}]) end,
    fun() -> inert:poll(FD) end,
    fun() -> inert:poll(FD, read_write) end,
    fun() -> inert:poll(FD, [{mode, write}, {timeout, 0}]) end,
    fun() -> inert:poll(FD, read, 0) end,
    fun() -> inert:poll(FD, write, 1) end,
    fun() -> inert:poll(FD, [], infinity) end
]).

a_number_that_is_no_fd_is_ebadf(_Config) ->
    {FD, B} = pair(),
    %% The last ones are an open fd in their lower 32 or 64 bits.
    Numbers = [
        -1,
        -2,
        -100,
        fdio:max_fds(),
        fdio:max_fds() + 1,
        1 bsl 20 + 12345,
        1 bsl 31 - 1,
        1 bsl 31,
        -(1 bsl 31),
        -(1 bsl 31) - 1,
        1 bsl 32 - 1,
        1 bsl 64,
        1 bsl 1000,
        -(1 bsl 1000),
        1 bsl 32 + FD,
        -(1 bsl 32) + FD,
        1 bsl 64 + FD
    ],
    [?assertEqual({Number, {error, ebadf}}, {Number, Call()}) || Number <- Numbers, Call <- ?CALLS(Number)],
    close([FD, B]).

a_closed_fd_is_ebadf(_Config) ->
    FD = inert_test:closed_fd(),
    [?assertEqual({error, ebadf}, Call()) || Call <- ?CALLS(FD)].

-define(NO_MODES, [
    foo,
    undefined,
    0,
    1,
    3,
    -1,
    1.0,
    "read",
    <<"read">>,
    {mode, read},
    {read, write},
    #{mode => read},
    self()
]).

an_unknown_mode_is_einval(_Config) ->
    with(pair(), fun({FD, _}) -> unknown_modes(FD, ?NO_MODES) end).

unknown_modes(FD, Modes) ->
    [
        ?assertEqual({Mode, {error, einval}}, {Mode, Call()})
     || Mode <- Modes,
        Call <- [
            fun() -> inert:fdset(FD, Mode) end,
            fun() -> inert:fdclr(FD, Mode) end,
            fun() -> inert:poll(FD, Mode) end,
            fun() -> inert:poll(FD, Mode, 0) end,
            fun() -> inert:poll(FD, Mode, infinity) end
        ]
    ].

an_unknown_option_is_einval(_Config) ->
    Options =
        [[{mode, Mode}] || Mode <- [[], [read_write] | ?NO_MODES]] ++
            [
                [read, foo],
                [{foo, bar}],
                [{mode, read}, {foo, bar}],
                [{foo, bar}, {mode, read}],
                [{timeout, 1}, {foo, bar}],
                [{mode}],
                [{mode, read, write}],
                [mode],
                [timeout],
                [[{mode, read}]],
                [{mode, read} | write],
                [{mode, read} | {timeout, 0}],
                [0]
            ],
    with(pair(), fun({FD, _}) -> unknown_modes(FD, Options) end).

a_fd_that_is_no_integer_is_badarg(_Config) ->
    [
        ?assertEqual({FD, Call, [1]}, {FD, Call, inert_test:badarg_position(Call)})
     || FD <- [foo, 1.0, <<1>>, <<"1">>, {1}, {1, read}, [a], [1 | 2], self(), make_ref(), #{}, fun() -> 1 end],
        Call <- ?CALLS(FD)
    ].

a_timeout_that_is_none_is_badarg(_Config) ->
    with(pair(), fun({FD, _}) ->
        [
            ?assertEqual({Timeout, Position, [Position]}, {Timeout, Position, inert_test:badarg_position(Call)})
         || Timeout <- [-1, -(1 bsl 70), 1.0, 0.0, foo, undefined, "1", <<"1">>, {1}, [], self()],
            {Position, Call} <- [
                {3, fun() -> inert:poll(FD, read, Timeout) end},
                {3, fun() -> inert:poll(FD, [], Timeout) end},
                {2, fun() -> inert:poll(FD, [{timeout, Timeout}]) end},
                {2, fun() -> inert:poll(FD, [{mode, write}, {timeout, Timeout}]) end},
                {2, fun() -> inert:poll(FD, [{timeout, Timeout}], 0) end},
                {2, fun() -> inert:fdset(FD, [{timeout, Timeout}]) end},
                {2, fun() -> inert:fdclr(FD, [{timeout, Timeout}]) end}
            ]
        ]
    end).

bad_input_changes_nothing_armed(_Config) ->
    {A, B} = full_pair(),
    Writer = blocked(run(fun() -> inert:poll(A, write) end)),
    ok = inert:fdset(A, read),
    unknown_modes(A, ?NO_MODES ++ [[{mode, foo}], [{mode, read}, {foo, bar}], [{mode, write} | read]]),
    [
        ?assertNotMatch({returned, _}, inert_test:badarg_position(Call))
     || Timeout <- [-1, foo],
        Call <- [
            fun() -> inert:poll(A, read_write, Timeout) end,
            fun() -> inert:fdset(A, [{mode, write}, {timeout, Timeout}]) end,
            fun() -> inert:fdclr(A, [{timeout, Timeout}]) end
        ]
    ],
    [?assertEqual({error, ebadf}, Call()) || FD <- [-1, 1 bsl 32 + A, inert_test:closed_fd()], Call <- ?CALLS(FD)],
    no_message(),
    blocked(Writer),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(inert:pollid())),
    blocked(Writer),
    make_writable(B),
    ?assertEqual({ok, write}, result(Writer)),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

bad_input_is_refused_without_the_service(_Config) ->
    {FD, B} = pair(),
    ok = inert:stop(),
    unknown_modes(FD, [foo, [{mode, foo}], [{foo, bar}]]),
    ?assertEqual([1], inert_test:badarg_position(fun() -> inert:poll(foo) end)),
    ?assertEqual([1], inert_test:badarg_position(fun() -> inert:fdset(foo) end)),
    ?assertEqual([1], inert_test:badarg_position(fun() -> inert:fdclr(foo, read) end)),
    ?assertEqual([3], inert_test:badarg_position(fun() -> inert:poll(FD, read, foo) end)),
    ?assertEqual([2], inert_test:badarg_position(fun() -> inert:poll(FD, [{timeout, foo}]) end)),
    close([FD, B]).

%%% fdset

fdset_tells_once_when_a_kind_becomes_ready(_Config) ->
    {A, B} = full_pair(),
    Port = inert:pollid(),
    ?assertEqual(ok, inert:fdset(A, read)),
    inert_test:quiet_barrier(inert),
    no_message(),
    make_readable(B),
    receive
        Message -> ?assertEqual({inert_read, Port, A}, Message)
    end,
    make_readable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    ?assertEqual(ok, inert:fdset(A, write)),
    inert_test:quiet_barrier(inert),
    no_message(),
    make_writable(B),
    receive
        Message2 -> ?assertEqual({inert_write, Port, A}, Message2)
    end,
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

fdset_tells_at_once_what_is_ready(_Config) ->
    {A, B} = pair(),
    Port = inert:pollid(),
    ok = inert:fdset(A, write),
    ?assertEqual([{inert_write, Port, A}], now_there()),
    make_readable(B),
    ok = inert:fdset(A, read),
    ?assertEqual([{inert_read, Port, A}], now_there()),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

%% What was sent before the call that has just returned.
now_there() ->
    receive
        Message -> [Message | now_there()]
    after 0 -> []
    end.

fdset_defaults_to_read(_Config) ->
    {A, B} = pair(),
    [
        begin
            ok = Fdset(),
            no_message(),
            make_readable(B),
            ?assertEqual({inert_read, A}, inert_test:message_of(inert:pollid())),
            inert_test:drain(A)
        end
     || Fdset <- [
            fun() -> inert:fdset(A) end,
            fun() -> inert:fdset(A, []) end,
            fun() -> inert:fdset(A, [{timeout, 5}]) end
        ]
    ],
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

fdset_takes_options(_Config) ->
    {A, B} = pair(),
    Port = inert:pollid(),
    make_readable(B),
    ok = inert:fdset(A, [{mode, read}]),
    ?assertEqual([{inert_read, Port, A}], now_there()),
    ok = inert:fdset(A, [{mode, write}]),
    ?assertEqual([{inert_write, Port, A}], now_there()),
    ok = inert:fdset(A, [{timeout, 0}, {mode, read_write}]),
    ?assertEqual([{inert_read, Port, A}, {inert_write, Port, A}], lists:sort(now_there())),
    ok = inert:fdset(A, [{mode, write}, {timeout, infinity}]),
    ?assertEqual([{inert_write, Port, A}], now_there()),
    close([A, B]).

both_kinds_ready_at_arming_are_both_told(_Config) ->
    {A, B} = pair(),
    Port = inert:pollid(),
    make_readable(B),
    ok = inert:fdset(A, read_write),
    ?assertEqual([{inert_read, Port, A}, {inert_write, Port, A}], lists:sort(now_there())),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

both_kinds_ready_later_are_both_told(_Config) ->
    {A, B} = full_pair(),
    Port = inert:pollid(),
    ok = inert:fdset(A, read_write),
    no_message(),
    %% The end makes both ready in one step.
    close(B),
    First = inert_test:message_of(Port),
    Second = inert_test:message_of(Port),
    ?assertEqual([{inert_read, A}, {inert_write, A}], lists:sort([First, Second])),
    inert_test:quiet_barrier(inert),
    no_message(),
    close(A).

the_second_kind_is_told_when_its_turn_comes(_Config) ->
    Port = inert:pollid(),
    {A, B} = full_pair(),
    ok = inert:fdset(A, read_write),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(Port)),
    inert_test:quiet_barrier(inert),
    no_message(),
    make_writable(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
    inert_test:drain(A),
    inert_test:fill(A),
    ok = inert:fdset(A, read_write),
    no_message(),
    make_writable(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
    inert_test:quiet_barrier(inert),
    no_message(),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(Port)),
    %% One kind is ready at arming, the other one later.
    inert_test:drain(A),
    ok = inert:fdset(A, read_write),
    ?assertEqual([{inert_write, Port, A}], now_there()),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(Port)),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

arming_again_replaces(_Config) ->
    {A, B} = full_pair(),
    ok = inert:fdset(A, [{mode, read_write}]),
    ok = inert:fdset(A, [{mode, write}]),
    make_readable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    make_writable(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(inert:pollid())),
    inert_test:drain(A),
    inert_test:fill(A),
    ok = inert:fdset(A, write),
    ok = inert:fdset(A, read),
    ok = inert:fdset(A, read),
    make_writable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(inert:pollid())),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

arming_again_after_the_message_tells_again(_Config) ->
    {A, B} = pair(),
    Port = inert:pollid(),
    %% Level-triggered: nothing is read in between.
    make_readable(B),
    [
        begin
            ok = inert:fdset(A, Mode),
            ?assertEqual(Expected, lists:sort(now_there()))
        end
     || _ <- lists:seq(1, 100),
        {Mode, Expected} <- [
            {read, [{inert_read, Port, A}]},
            {write, [{inert_write, Port, A}]},
            {read_write, [{inert_read, Port, A}, {inert_write, Port, A}]}
        ]
    ],
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

arming_a_ready_kind_replaces_an_unready_one(_Config) ->
    {A, B} = pair(),
    Port = inert:pollid(),
    ok = inert:fdset(A, read),
    ok = inert:fdset(A, write),
    ?assertEqual([{inert_write, Port, A}], now_there()),
    make_readable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

fdset_replaces_nothing_of_another_process(_Config) ->
    {A, B} = full_pair(),
    Port = inert:pollid(),
    Main = self(),
    Reader = run(fun() ->
        ok = inert:fdset(A, read),
        Main ! armed,
        inert_test:message_of(Port)
    end),
    receive
        armed -> ok
    end,
    ok = inert:fdset(A, write),
    ok = inert:fdset(A, write),
    make_readable(B),
    ?assertEqual({inert_read, A}, result(Reader)),
    make_writable(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
    close([A, B]).

%%% fdclr

fdclr_keeps_the_message_from_coming(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            ok = inert:fdset(A, Armed),
            ?assertEqual(ok, inert:fdclr(A, Cleared)),
            close_in_between(B, A)
        end
     || {Armed, Cleared} <- [
            {read, read},
            {write, write},
            {read, read_write},
            {write, read_write},
            {read_write, read_write},
            {read_write, [{mode, read_write}]}
        ]
    ],
    close([A, B]).

%% Both kinds of A become ready, nobody hears of it, and both become unready again.
close_in_between(B, A) ->
    make_readable(B),
    make_writable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    inert_test:drain(A),
    inert_test:fill(A).

fdclr_defaults_to_both_kinds(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            ok = inert:fdset(A, read_write),
            ?assertEqual(ok, Clear()),
            close_in_between(B, A)
        end
     || Clear <- [fun() -> inert:fdclr(A) end, fun() -> inert:fdclr(A, []) end, fun() -> inert:fdclr(A, [{timeout, 1}]) end]
    ],
    close([A, B]).

fdclr_of_one_kind_leaves_the_other(_Config) ->
    {A, B} = full_pair(),
    Port = inert:pollid(),
    ok = inert:fdset(A, read_write),
    ok = inert:fdclr(A, read),
    make_readable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    make_writable(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
    inert_test:drain(A),
    inert_test:fill(A),
    ok = inert:fdset(A, read_write),
    ok = inert:fdclr(A, [{mode, write}]),
    make_writable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(Port)),
    close([A, B]).

fdclr_of_what_is_not_armed_is_ok(_Config) ->
    {A, B} = full_pair(),
    [?assertEqual(ok, inert:fdclr(A, Mode)) || Mode <- [read, write, read_write, [], [{mode, read}]]],
    ?assertEqual(ok, inert:fdclr(A)),
    ok = inert:fdset(A, read),
    ?assertEqual(ok, inert:fdclr(A, write)),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(inert:pollid())),
    ?assertEqual(ok, inert:fdclr(A)),
    {ok, Null} = fdio:open("/dev/null", [read]),
    ?assertEqual(ok, inert:fdclr(Null)),
    close([A, B, Null]).

fdclr_works_from_any_process(_Config) ->
    {A, B} = full_pair(),
    ok = inert:fdset(A, read_write),
    ?assertEqual(ok, result(run(fun() -> inert:fdclr(A) end))),
    close_in_between(B, A),
    %% The kinds are free for whoever comes.
    Other = blocked(run(fun() -> inert:poll(A, read_write) end)),
    make_readable(B),
    ?assertEqual({ok, read}, result(Other)),
    close([A, B]).

%%% poll

poll_waits_until_ready(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            Reader = blocked(run(Poll)),
            make_readable(B),
            ?assertEqual({ok, read}, result(Reader)),
            inert_test:drain(A)
        end
     || Poll <- [
            fun() -> inert:poll(A) end,
            fun() -> inert:poll(A, read) end,
            fun() -> inert:poll(A, read_write) end,
            fun() -> inert:poll(A, read, infinity) end,
            fun() -> inert:poll(A, read, ?LONG) end,
            fun() -> inert:poll(A, read_write, 4000) end
        ]
    ],
    [
        begin
            Writer = blocked(run(Poll)),
            make_writable(B),
            ?assertEqual({ok, write}, result(Writer)),
            inert_test:fill(A)
        end
     || Poll <- [
            fun() -> inert:poll(A, write) end,
            fun() -> inert:poll(A, read_write) end,
            fun() -> inert:poll(A, [{mode, write}], infinity) end
        ]
    ],
    close([A, B]).

poll_tells_the_kind(_Config) ->
    {A, B} = pair(),
    ?assertEqual({ok, write}, inert:poll(A, write)),
    ?assertEqual({ok, write}, inert:poll(A, read_write)),
    make_readable(B),
    ?assertEqual({ok, read}, inert:poll(A, read)),
    ?assertEqual({ok, write}, inert:poll(A, write)),
    inert_test:fill(A),
    ?assertEqual({ok, read}, inert:poll(A, read_write)),
    close([A, B]).

poll_defaults_to_read(_Config) ->
    {A, B} = pair(),
    ?assertEqual({error, timeout}, inert:poll(A, [], 0)),
    ?assertEqual({error, timeout}, inert:poll(A, [{timeout, 0}])),
    Reader = blocked(run(fun() -> inert:poll(A) end)),
    make_readable(B),
    ?assertEqual({ok, read}, result(Reader)),
    ?assertEqual({ok, read}, inert:poll(A)),
    ?assertEqual({ok, read}, inert:poll(A, [])),
    close([A, B]).

poll_answers_read_when_both_are_ready(_Config) ->
    {A, B} = pair(),
    make_readable(B),
    [
        ?assertEqual({ok, read}, inert:poll(A, Mode, Timeout))
     || Mode <- [read_write, [{mode, read_write}]], Timeout <- [0, 1, infinity]
    ],
    close([A, B]),
    %% Both at once while blocked: the end of the other side.
    {C, D} = full_pair(),
    Both = blocked(run(fun() -> inert:poll(C, read_write) end)),
    close(D),
    ?assertEqual({ok, read}, result(Both)),
    close(C).

poll_with_timeout_0_checks(_Config) ->
    {A, B} = full_pair(),
    [
        ?assertEqual({error, timeout}, Poll())
     || Mode <- [read, write, read_write],
        Poll <- [
            fun() -> inert:poll(A, Mode, 0) end,
            fun() -> inert:poll(A, [{mode, Mode}], 0) end,
            fun() -> inert:poll(A, [{mode, Mode}, {timeout, 0}]) end
        ]
    ],
    make_readable(B),
    ?assertEqual({ok, read}, inert:poll(A, read, 0)),
    ?assertEqual({error, timeout}, inert:poll(A, write, 0)),
    make_writable(B),
    ?assertEqual({ok, write}, inert:poll(A, write, 0)),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

poll_with_timeout_0_changes_nothing_armed(_Config) ->
    {A, B} = full_pair(),
    Port = inert:pollid(),
    ok = inert:fdset(A, read_write),
    ?assertEqual({error, timeout}, inert:poll(A, read_write, 0)),
    ?assertEqual({error, timeout}, inert:poll(A, [{mode, read}, {timeout, 0}])),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(Port)),
    ?assertEqual({error, timeout}, inert:poll(A, write, 0)),
    make_writable(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

poll_times_out(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            Before = erlang:monotonic_time(millisecond),
            ?assertEqual({error, timeout}, inert:poll(A, Mode, Timeout)),
            ?assert(erlang:monotonic_time(millisecond) - Before >= Timeout)
        end
     || Mode <- [read, write, read_write, [], [{mode, write}]], Timeout <- [0, 1, 2, 10, 30]
    ],
    close([A, B]).

poll_takes_the_timeout_among_options(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            Before = erlang:monotonic_time(millisecond),
            ?assertEqual({error, timeout}, inert:poll(A, Options)),
            ?assert(erlang:monotonic_time(millisecond) - Before >= ?SHORT)
        end
     || Options <- [
            [{timeout, ?SHORT}],
            [{mode, write}, {timeout, ?SHORT}],
            [{timeout, ?SHORT}, {mode, read_write}]
        ]
    ],
    Reader = blocked(run(fun() -> inert:poll(A, [{timeout, infinity}]) end)),
    make_readable(B),
    ?assertEqual({ok, read}, result(Reader)),
    close([A, B]).

poll_takes_timeouts_of_any_length(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            Reader = blocked(run(Poll)),
            make_readable(B),
            ?assertEqual({ok, read}, result(Reader)),
            inert_test:drain(A)
        end
     || Timeout <- [
            4999,
            5000,
            5001,
            1 bsl 31,
            1 bsl 32 - 1,
            1 bsl 32,
            1 bsl 32 + ?SHORT,
            1 bsl 40,
            1 bsl 63,
            1 bsl 64 + ?SHORT,
            1 bsl 200
        ],
        Poll <- [
            fun() -> inert:poll(A, read, Timeout) end,
            fun() -> inert:poll(A, [{timeout, Timeout}]) end
        ]
    ],
    close([A, B]).

poll_leaves_nothing_behind_after_a_timeout(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            ?assertEqual({error, timeout}, inert:poll(A, Mode, Timeout)),
            %% Nothing is armed for it: anybody may have the kinds.
            ?assertEqual(
                {error, timeout}, result(run(fun() -> inert:poll(A, read_write, 1) end))
            ),
            close_in_between(B, A)
        end
     || Mode <- [read, write, read_write], Timeout <- [0, 1, 7]
    ],
    close([A, B]).

poll_leaves_nothing_behind_when_ready(_Config) ->
    {A, B} = full_pair(),
    Main = self(),
    Both = run(fun() ->
        Result = inert:poll(A, read_write),
        Main ! done,
        %% The other kind becomes ready, too: nothing of it arrives.
        receive
            go_on -> ok
        end,
        inert_test:quiet_barrier(inert),
        {Result, now_there()}
    end),
    blocked(Both),
    make_readable(B),
    receive
        done -> ok
    end,
    ?assertEqual({error, timeout}, inert:poll(A, write, 1)),
    make_writable(B),
    Both ! go_on,
    ?assertEqual({{ok, read}, []}, result(Both)),
    %% The same for what is ready when polled.
    ?assertEqual({ok, read}, inert:poll(A, read_write)),
    inert_test:drain(A),
    make_readable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

poll_leaves_nothing_behind_after_an_error(_Config) ->
    {A, B} = full_pair(),
    Writer = blocked(run(fun() -> inert:poll(A, write) end)),
    ?assertEqual({error, ebusy}, inert:poll(A, read_write)),
    make_readable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    ?assertEqual({ok, read}, result(run(fun() -> inert:poll(A, read) end))),
    make_writable(B),
    ?assertEqual({ok, write}, result(Writer)),
    %% Canceled in one kind of two.
    inert_test:drain(A),
    inert_test:fill(A),
    Main = self(),
    Canceled = run(fun() ->
        Result = inert:poll(A, read_write),
        Main ! canceled,
        receive
            go_on -> ok
        end,
        inert_test:quiet_barrier(inert),
        {Result, now_there()}
    end),
    blocked(Canceled),
    ok = inert:fdclr(A, write),
    receive
        canceled -> ok
    end,
    make_readable(B),
    Canceled ! go_on,
    ?assertEqual({{error, ecanceled}, []}, result(Canceled)),
    close([A, B]).

poll_leaves_nothing_behind_after_an_exit_signal(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            Pid = blocked(spawn(fun() -> exit(inert:poll(A, read_write)) end)),
            Monitor = monitor(process, Pid),
            exit(Pid, Reason),
            receive
                {'DOWN', Monitor, process, Pid, _} -> ok
            end,
            %% The kinds are free, and the event is nobody's.
            ok = inert:fdset(A, read_write),
            ok = inert:fdclr(A),
            close_in_between(B, A)
        end
     || Reason <- [kill, shutdown, whatever]
    ],
    %% A process that traps exits goes on waiting, and finds the signal afterwards.
    Trapping = run(fun() ->
        process_flag(trap_exit, true),
        {inert:poll(A, read), now_there()}
    end),
    Main = self(),
    blocked(Trapping),
    exit(Trapping, stop_it),
    make_readable(B),
    ?assertEqual({{ok, read}, [{'EXIT', Main, stop_it}]}, result(Trapping)),
    close([A, B]).

poll_leaves_nothing_behind_when_timeouts_race_with_events(_Config) ->
    {A, B} = pair(),
    Poller = run(fun() ->
        Results = [race(A) || _ <- lists:seq(1, 200)],
        inert_test:quiet_barrier(inert),
        {lists:usort(Results), now_there()}
    end),
    race_with(Poller, B),
    {Results, Left} = result(Poller),
    ct:log("~p", [Results]),
    ?assertEqual([], Left),
    ?assertEqual([], Results -- [{ok, read}, {error, timeout}]),
    close([A, B]).

%% A poll that ends about when the fd becomes ready, either way.
race(A) ->
    Result = inert:poll(A, read, 1),
    inert_test:drain(A),
    Result.

race_with(Poller, B) ->
    case is_process_alive(Poller) of
        true ->
            _ = fdio:write(B, <<"x">>),
            receive
            after 1 -> race_with(Poller, B)
            end;
        false ->
            ok
    end.

poll_leaves_nothing_behind_when_timeouts_race_with_stop(_Config) ->
    ok = inert:stop(),
    FDs = [FD || _ <- lists:seq(1, inert_test:room_for_fds(1000)), {ok, FD} <- [fdio:eventfd()]],
    {Some, Others} = lists:split(50, FDs),
    [
        begin
            ok = inert:start(),
            %% They are what makes stopping take a while.
            Blocked = inert_test:blocked_all([run(fun() -> inert:poll(FD) end) || FD <- Others]),
            Main = self(),
            Racing = [
                run(fun() ->
                    Result = inert:poll(FD, read, FD rem 5 + 1),
                    receive
                        {Main, stopped} -> {Result, now_there()}
                    end
                end)
             || FD <- Some
            ],
            receive
            after 1 -> ok
            end,
            ok = inert:stop(),
            ?assertEqual([{error, closed}], lists:usort(results(Blocked))),
            [Pid ! {Main, stopped} || Pid <- Racing],
            [
                ?assert(lists:member(Result, [{{error, closed}, []}, {{error, timeout}, []}]), Result)
             || Result <- results(Racing)
            ]
        end
     || _ <- lists:seq(1, 10)
    ],
    close(FDs).

poll_replaces_fdset_for_the_same_kinds(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            ok = inert:fdset(A, Armed),
            ?assertEqual({error, timeout}, inert:poll(A, Polled, 1)),
            close_in_between(B, A)
        end
     || {Armed, Polled} <- [
            {read, read},
            {write, write},
            {read_write, read_write},
            {read, read_write},
            {write, read_write}
        ]
    ],
    %% Ready while it polls: one answer, and no message besides.
    ok = inert:fdset(A, read),
    Main = self(),
    spawn_link(fun() ->
        blocked(Main),
        make_readable(B)
    end),
    ?assertEqual({ok, read}, inert:poll(A, read)),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

poll_leaves_fdset_for_other_kinds(_Config) ->
    {A, B} = full_pair(),
    Port = inert:pollid(),
    ok = inert:fdset(A, read_write),
    ?assertEqual({error, timeout}, inert:poll(A, read, 1)),
    make_readable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    make_writable(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
    %% A poll that is ready at once.
    inert_test:fill(A),
    ok = inert:fdset(A, write),
    ?assertEqual({ok, read}, inert:poll(A, read)),
    make_writable(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
    %% A poll of two kinds, of which one is armed and the other one ready.
    inert_test:fill(A),
    ok = inert:fdset(A, write),
    ?assertEqual({ok, read}, inert:poll(A, read_write)),
    make_writable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

poll_leaves_the_mailbox_alone(_Config) ->
    {A, B} = full_pair(),
    Port = inert:pollid(),
    %% All that looks like what inert sends, from somebody else.
    Before = [
        {inert_read, Port, A},
        {inert_write, Port, A},
        {make_ref(), read},
        {make_ref(), closed},
        read,
        {ok, read},
        {error, closed},
        {'EXIT', Port, normal},
        {Port, closed},
        {'DOWN', make_ref(), port, Port, normal}
    ],
    After = [{after_it, N} || N <- lists:seq(1, 10)],
    Poller = run(fun() ->
        [self() ! Message || Message <- Before],
        Timeout = inert:poll(A, read, 1),
        Check = inert:poll(A, read_write, 0),
        put(last_poll, begun),
        Ready = inert:poll(A, read),
        {[Timeout, Check, Ready], now_there()}
    end),
    blocked_for_ever(Poller),
    [Poller ! Message || Message <- After],
    blocked(Poller),
    make_readable(B),
    ?assertEqual(
        {[{error, timeout}, {error, timeout}, {ok, read}], Before ++ After}, result(Poller)
    ),
    close([A, B]).

%% Blocked in the last poll, not in the one that times out.
blocked_for_ever(Pid) ->
    inert_test:until(fun() -> process_info(Pid, dictionary) =/= {dictionary, []} end),
    blocked(Pid).

poll_costs_the_same_with_a_full_mailbox(_Config) ->
    {A, B} = pair(),
    Polls = 50,
    Queued = 100_000,
    Cost = fun() ->
        {reductions, Before} = process_info(self(), reductions),
        [{error, timeout} = inert:poll(A, read, 1) || _ <- lists:seq(1, Polls)],
        {reductions, After} = process_info(self(), reductions),
        After - Before
    end,
    Poller = run(fun() ->
        Empty = Cost(),
        [self() ! {queued, N} || N <- lists:seq(1, Queued)],
        Full = Cost(),
        Woken = [blocked_poll(A, B) || _ <- lists:seq(1, Polls)],
        {Empty, Full, lists:usort(Woken), now_there()}
    end),
    {Empty, Full, Woken, Left} = result(Poller),
    ct:log("reductions of ~b polls: ~b, with ~b messages ~b", [Polls, Empty, Queued, Full]),
    ?assertEqual([{ok, read}], Woken),
    ?assertEqual([{queued, N} || N <- lists:seq(1, Queued)], Left),
    %% A look at each message by each poll would be Polls * Queued.
    ?assert(Full - Empty < Polls * Queued div 100),
    close([A, B]).

%% A poll that is woken while blocked.
blocked_poll(A, B) ->
    Main = self(),
    _ = spawn_link(fun() ->
        blocked(Main),
        make_readable(B)
    end),
    Result = inert:poll(A, read),
    {ok, <<"x">>} = fdio:read(A, 10),
    Result.

poll_blocks_the_caller_only(_Config) ->
    %% Many more polls than schedulers are blocked; the VM goes on, inert included.
    Pairs = [full_pair() || _ <- lists:seq(1, 10 * erlang:system_info(schedulers))],
    Pollers = inert_test:blocked_all([run(fun() -> inert:poll(A, read_write) end) || {A, _} <- Pairs]),
    {C, D} = pair(),
    make_readable(D),
    ?assertEqual({ok, read}, inert:poll(C)),
    ?assertEqual({error, timeout}, inert:poll(D, read, 5)),
    [make_readable(B) || {_, B} <- lists:reverse(Pairs)],
    ?assertEqual([{ok, read}], lists:usort(results(Pollers))),
    close([C, D | Pairs]).

%%% ownership

a_second_waiter_is_busy(_Config) ->
    {A, B} = full_pair(),
    Owner = blocked(run(fun() -> inert:poll(A, read_write) end)),
    [
        ?assertEqual({error, ebusy}, Call())
     || Mode <- [read, write, read_write],
        Call <- [
            fun() -> inert:fdset(A, Mode) end,
            fun() -> inert:poll(A, Mode) end,
            fun() -> inert:poll(A, Mode, 1) end,
            fun() -> inert:poll(A, [{mode, Mode}], ?LONG) end
        ]
    ],
    blocked(Owner),
    make_readable(B),
    ?assertEqual({ok, read}, result(Owner)),
    %% The same with fdset as the owner.
    inert_test:drain(A),
    ok = inert:fdset(A, read_write),
    [
        ?assertEqual({error, ebusy}, result(run(Call)))
     || Mode <- [read, write, read_write],
        Call <- [fun() -> inert:fdset(A, Mode) end, fun() -> inert:poll(A, Mode) end]
    ],
    ok = inert:fdclr(A),
    close_in_between(B, A),
    close([A, B]).

busy_changes_nothing(_Config) ->
    {A, B} = full_pair(),
    Port = inert:pollid(),
    ok = inert:fdset(A, read),
    Writer = blocked(run(fun() -> inert:poll(A, write) end)),
    %% Neither what the one has that asks, nor what the other has.
    ?assertEqual({error, ebusy}, inert:fdset(A, read_write)),
    ?assertEqual({error, ebusy}, inert:fdset(A, write)),
    ?assertEqual({error, ebusy}, inert:poll(A, read_write)),
    ?assertEqual({error, ebusy}, inert:poll(A, write, 10)),
    no_message(),
    blocked(Writer),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(Port)),
    blocked(Writer),
    make_writable(B),
    ?assertEqual({ok, write}, result(Writer)),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B]).

busy_in_one_kind_arms_neither(_Config) ->
    {A, B} = full_pair(),
    Writer = blocked(run(fun() -> inert:poll(A, write) end)),
    ?assertEqual({error, ebusy}, inert:fdset(A, read_write)),
    %% Not even where the other kind is ready.
    make_readable(B),
    ?assertEqual({error, ebusy}, inert:fdset(A, read_write)),
    ?assertEqual({error, ebusy}, inert:poll(A, read_write)),
    inert_test:quiet_barrier(inert),
    no_message(),
    make_writable(B),
    ?assertEqual({ok, write}, result(Writer)),
    close([A, B]).

one_reads_while_another_writes(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            Reader = blocked(run(fun() -> inert:poll(A, read) end)),
            Writer = blocked(run(fun() -> inert:poll(A, write) end)),
            First(B),
            {Woken, Waiting} =
                case Kind of
                    read -> {Reader, Writer};
                    write -> {Writer, Reader}
                end,
            ?assertEqual({ok, Kind}, result(Woken)),
            blocked(Waiting),
            Second(B),
            ?assertMatch({ok, _}, result(Waiting)),
            inert_test:drain(A),
            inert_test:fill(A)
        end
     || {Kind, First, Second} <- [
            {read, fun inert_test:make_readable/1, fun inert_test:make_writable/1},
            {write, fun inert_test:make_writable/1, fun inert_test:make_readable/1}
        ]
    ],
    %% Both by one event.
    Reader = blocked(run(fun() -> inert:poll(A, read) end)),
    Writer = blocked(run(fun() -> inert:poll(A, write) end)),
    close(B),
    ?assertEqual([{ok, read}, {ok, write}], results([Reader, Writer])),
    close(A).

a_process_may_wait_for_many_fds(_Config) ->
    Pairs = [full_pair() || _ <- lists:seq(1, 50)],
    Port = inert:pollid(),
    [ok = inert:fdset(A, read_write) || {A, _} <- Pairs],
    {P, Q} = full_pair(),
    %% A poll besides.
    ?assertEqual({error, timeout}, inert:poll(P, read, 1)),
    [make_readable(B) || {_, B} <- Pairs],
    Reads = [inert_test:message_of(Port) || _ <- Pairs],
    ?assertEqual(lists:sort([{inert_read, A} || {A, _} <- Pairs]), lists:sort(Reads)),
    [make_writable(B) || {_, B} <- Pairs],
    Writes = [inert_test:message_of(Port) || _ <- Pairs],
    ?assertEqual(lists:sort([{inert_write, A} || {A, _} <- Pairs]), lists:sort(Writes)),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([P, Q | Pairs]).

a_blocked_poll_that_is_cleared_is_canceled(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            Poller = blocked(run(fun() -> inert:poll(A, Polled, Timeout) end)),
            ?assertEqual(ok, inert:fdclr(A, Cleared)),
            ?assertEqual({error, ecanceled}, result(Poller))
        end
     || {Polled, Cleared} <- [
            {read, read},
            {write, write},
            {read, read_write},
            {write, read_write},
            {read_write, read_write}
        ],
        Timeout <- [4000, ?LONG, infinity]
    ],
    %% The other kind is not concerned.
    Reader = blocked(run(fun() -> inert:poll(A, read) end)),
    Writer = blocked(run(fun() -> inert:poll(A, write) end)),
    ok = inert:fdclr(A, read),
    ?assertEqual({error, ecanceled}, result(Reader)),
    blocked(Writer),
    make_writable(B),
    ?assertEqual({ok, write}, result(Writer)),
    close([A, B]).

clearing_one_kind_cancels_a_poll_for_both(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            Poller = blocked(run(fun() -> inert:poll(A, read_write) end)),
            ?assertEqual(ok, inert:fdclr(A, Cleared)),
            ?assertEqual({error, ecanceled}, result(Poller)),
            %% Nothing of it is left: both kinds are free.
            ?assertEqual(ok, inert:fdset(A, read_write)),
            ?assertEqual(ok, inert:fdclr(A))
        end
     || Cleared <- [read, write]
    ],
    close([A, B]).

a_dead_waiter_frees_its_kinds(_Config) ->
    {A, B} = full_pair(),
    Others = [full_pair() || _ <- lists:seq(1, 20)],
    Main = self(),
    Owner = spawn(fun() ->
        ok = inert:fdset(A, read_write),
        [ok = inert:fdset(FD, read_write) || {FD, _} <- Others],
        Main ! armed,
        receive
            never -> ok
        end
    end),
    receive
        armed -> ok
    end,
    [?assertEqual({error, ebusy}, inert:fdset(FD, read)) || {FD, _} <- [{A, B} | Others]],
    inert_test:kill(Owner),
    [?assertEqual(ok, inert:fdset(FD, read_write)) || {FD, _} <- [{A, B} | Others]],
    ok = inert:fdclr(A),
    [ok = inert:fdclr(FD) || {FD, _} <- Others],
    close_in_between(B, A),
    close([A, B | Others]).

a_killed_poller_frees_its_kinds(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            Poller = blocked(run(fun() -> inert:poll(A, Mode, Timeout) end)),
            ?assertEqual({error, ebusy}, inert:fdset(A, Mode)),
            inert_test:kill(Poller),
            ?assertEqual(ok, inert:fdset(A, Mode)),
            ok = inert:fdclr(A, Mode)
        end
     || Mode <- [read, write, read_write], Timeout <- [4000, infinity]
    ],
    close_in_between(B, A),
    close([A, B]).

%% Whoever hears of a waiter's end, as a supervisor that restarts it does, finds its
%% kinds free.
a_waiters_kinds_are_free_once_its_end_is_known(_Config) ->
    {A, B} = full_pair(),
    Rounds = 1000,
    Busy = lists:sum([
        begin
            {Pid, Monitor} = spawn_monitor(fun() -> exit(inert:fdset(A, read_write)) end),
            receive
                {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(ok, Reason)
            end,
            case inert:fdset(A, read_write) of
                ok ->
                    ok = inert:fdclr(A),
                    0;
                {error, ebusy} ->
                    1
            end
        end
     || _ <- lists:seq(1, Rounds)
    ]),
    ?assertEqual(0, Busy),
    close([A, B]).

%%% closed_fds

closing_an_armed_fd_is_harmless(_Config) ->
    Pairs = [{A1, _}, {A2, _}, {A3, _}] = [full_pair() || _ <- [1, 2, 3]],
    ok = inert:fdset(A1, read_write),
    Reader = blocked(run(fun() -> inert:poll(A2, read) end)),
    Writer = blocked(run(fun() -> inert:poll(A3, write) end)),
    close(Pairs),
    inert_test:until(fun inert_test:is_quiet/0),
    ?assertEqual([], inert_test:logged()),
    %% Asking is what makes the closing known.
    [?assertEqual({error, ebadf}, inert:fdset(FD)) || FD <- [A1, A2, A3]],
    ?assertEqual({error, ebadf}, result(Reader)),
    ?assertEqual({error, ebadf}, result(Writer)),
    works().

closing_an_armed_fd_that_stays_open_elsewhere_is_harmless(_Config) ->
    %% As a forked child would have it.
    {A, B} = full_pair(),
    {ok, Copy} = fdio:dup(A),
    ok = inert:fdset(A, read_write),
    close(A),
    make_readable(B),
    make_writable(B),
    %% The kernel goes on reporting the number that is no more.
    inert_test:until(fun inert_test:is_quiet/0),
    ?assertEqual([], inert_test:logged()),
    inert_test:quiet_barrier(inert),
    no_message(),
    ?assertEqual({error, ebadf}, inert:poll(A)),
    ?assertEqual({ok, read}, inert:poll(Copy, read_write)),
    works(),
    close([Copy, B]).

%% The service does what it should.
works() ->
    {A, B} = full_pair(),
    ok = inert:fdset(A, read_write),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(inert:pollid())),
    make_writable(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(inert:pollid())),
    inert_test:drain(A),
    Poller = blocked(run(fun() -> inert:poll(A, read) end)),
    make_readable(B),
    ?assertEqual({ok, read}, result(Poller)),
    close([A, B]).

a_newcomer_gets_a_reused_number(_Config) ->
    [
        begin
            {A, B} = full_pair(),
            {C, D} = full_pair(),
            Kept = [FD || Keep, {ok, FD} <- [fdio:dup(A)]],
            Old = blocked(run(fun() -> inert:poll(A, Mode) end)),
            ok = fdio:dup2(C, A),
            New = blocked(run(fun() -> inert:poll(A, Mode) end)),
            ?assertEqual({error, ebadf}, result(Old)),
            %% The old file's events are nobody's.
            [make_readable(B) || Keep],
            [make_writable(B) || Keep],
            inert_test:quiet_barrier(inert),
            blocked(New),
            %% The new file's are the newcomer's.
            make_readable(D),
            make_writable(D),
            ?assertMatch({ok, _}, result(New)),
            close([A, B, C, D | Kept])
        end
     || Mode <- [read, write, read_write], Keep <- [false, true]
    ].

a_newcomer_to_a_reused_number_may_fdset(_Config) ->
    Port = inert:pollid(),
    [
        begin
            {A, B} = full_pair(),
            {C, D} = full_pair(),
            {ok, Copy} = fdio:dup(A),
            Main = self(),
            Old = run(fun() ->
                ok = inert:fdset(A, read_write),
                Main ! armed,
                receive
                    go_on -> ok
                end,
                now_there()
            end),
            receive
                armed -> ok
            end,
            ok = fdio:dup2(C, A),
            ?assertEqual(ok, inert:fdset(A, Mode)),
            make_readable(B),
            make_writable(B),
            inert_test:quiet_barrier(inert),
            no_message(),
            Old ! go_on,
            ?assertEqual([], result(Old)),
            make_readable(D),
            make_writable(D),
            ?assertMatch({_, A}, inert_test:message_of(Port)),
            ok = inert:fdclr(A),
            inert_test:quiet_barrier(inert),
            now_there(),
            close([A, B, C, D, Copy])
        end
     || Mode <- [read, write, read_write]
    ].

%% Kinds that do not collide: what is armed for the old file must not be taken for the
%% new one's all the same.
a_newcomer_for_the_other_kind_ends_the_old_wait(_Config) ->
    [
        begin
            {A, B} = full_pair(),
            {C, D} = full_pair(),
            {E, F} = full_pair(),
            {ok, Copy} = fdio:dup(A),
            %% A poll, and then fdset, of the old file.
            Old = blocked(run(fun() -> inert:poll(A, OldKind) end)),
            ok = fdio:dup2(C, A),
            New = blocked(run(fun() -> inert:poll(A, NewKind) end)),
            ?assertEqual({error, ebadf}, result(Old)),
            make_readable(D),
            make_writable(D),
            ?assertEqual({ok, NewKind}, result(New)),
            inert_test:drain(A),
            inert_test:fill(A),
            ok = inert:fdset(A, OldKind),
            ok = fdio:dup2(E, A),
            Newer = blocked(run(fun() -> inert:poll(A, NewKind) end)),
            make_readable(F),
            make_writable(F),
            ?assertEqual({ok, NewKind}, result(Newer)),
            inert_test:quiet_barrier(inert),
            no_message(),
            close([A, B, C, D, E, F, Copy])
        end
     || {OldKind, NewKind} <- [{read, write}, {write, read}]
    ].

the_same_process_may_arm_a_reused_number(_Config) ->
    Port = inert:pollid(),
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    {ok, Copy} = fdio:dup(A),
    ok = inert:fdset(A, read_write),
    ok = fdio:dup2(C, A),
    ok = inert:fdset(A, read),
    make_readable(B),
    make_writable(B),
    make_writable(D),
    inert_test:quiet_barrier(inert),
    no_message(),
    make_readable(D),
    ?assertEqual({inert_read, A}, inert_test:message_of(Port)),
    inert_test:quiet_barrier(inert),
    no_message(),
    %% Likewise by a poll.
    inert_test:drain(C),
    {E, F} = full_pair(),
    ok = inert:fdset(A, read),
    ok = fdio:dup2(E, A),
    ?assertEqual({error, timeout}, inert:poll(A, read, 1)),
    make_readable(D),
    make_readable(F),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B, C, D, E, F, Copy]).

the_old_files_event_is_never_delivered(_Config) ->
    %% Nobody asks anything after the number has come back: the event itself is what
    %% has to be told from the new file's.
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    {ok, Copy} = fdio:dup(A),
    ok = inert:fdset(A, read_write),
    ok = fdio:dup2(C, A),
    make_readable(B),
    make_writable(B),
    inert_test:quiet_barrier(inert),
    no_message(),
    inert_test:until(fun inert_test:is_quiet/0),
    %% Nor is it the new file's, which nobody has asked about.
    make_readable(D),
    make_writable(D),
    inert_test:quiet_barrier(inert),
    no_message(),
    works(),
    ok = inert:fdclr(A),
    close([A, B, C, D, Copy]).

%% Every eventfd has the identity of all others, for fstat(2), and every opening of
%% /dev/ptmx, /dev/net/tun and the like that of the device.
files_of_one_identity_are_told_apart(Config) ->
    Eventfd = fun() ->
        {ok, FD} = fdio:eventfd(),
        {FD, FD}
    end,
    Terminal = fun() ->
        {ok, {Master, Slave, _Name}} = fdio:openpty(),
        {Master, Slave}
    end,
    Write = fun(FD) -> {ok, 8} = fdio:write(FD, <<1:64/native>>) end,
    Set = fun(FD) -> ok = inert:fdset(FD) end,
    Poll = fun(FD) -> blocked(run(fun() -> inert:poll(FD) end)) end,
    [
        begin
            {Old, OldPeer} = Open(),
            {New, NewPeer} = Open(),
            {ok, Copy} = fdio:dup(Old),
            Armed = Arm(Old),
            ok = fdio:dup2(New, Old),
            _ = IsReady andalso Write(NewPeer),
            Write(case OldPeer of Old -> Copy; _ -> OldPeer end),
            inert_test:quiet_barrier(inert),
            Armed =:= ok andalso no_message(),
            ok = inert:fdclr(Old),
            %% However it was noticed, a poll was for a file that is gone.
            Armed =:= ok orelse ?assertMatch({error, Reason} when Reason =:= ebadf; Reason =:= ecanceled, result(Armed)),
            close(lists:usort([Old, OldPeer, New, NewPeer, Copy]))
        end
     || Open <- [Eventfd, Terminal],
        Arm <- [Set, Poll],
        %% Without epoll_ctl(2) there is nothing but the readiness of the new file to tell by.
        IsReady <- [false | [true || inert_test:own_pollset(Config)]]
    ].

%% What has hung up is ready for everything from then on.
a_hang_up_is_told_once(_Config) ->
    Port = inert:pollid(),
    Socket = fun() ->
        {ok, Pair} = fdio:socketpair(),
        Pair
    end,
    Terminal = fun() ->
        {ok, {Master, Slave, _Name}} = fdio:openpty(),
        {Master, Slave}
    end,
    [
        begin
            {FD, Peer} = Open(),
            ok = inert:fdset(FD),
            close(Peer),
            ?assertEqual({inert_read, FD}, inert_test:message_of(Port)),
            inert_test:quiet_barrier(inert),
            #{wakeups := Wakeups, spurious := Spurious} = inert:info(),
            inert_test:quiet_barrier(inert),
            #{wakeups := Later, spurious := SpuriousLater} = inert:info(),
            no_message(),
            ?assertEqual(Spurious, SpuriousLater),
            ?assert(Later - Wakeups < 10),
            close(FD)
        end
     || Open <- [Socket, Terminal]
    ].

a_poll_of_a_closed_fd_ends_when_that_is_noticed(_Config) ->
    [
        begin
            {A, B} = full_pair(),
            Poller = blocked(run(fun() -> inert:poll(A, read_write) end)),
            close(A),
            ?assertEqual({error, ebadf}, Notice(A)),
            ?assertEqual({error, ebadf}, result(Poller)),
            close(B)
        end
     || Notice <- [
            fun(FD) -> inert:fdset(FD) end,
            fun(FD) -> inert:poll(FD) end,
            fun(FD) -> inert:poll(FD, write, 0) end,
            fun(FD) -> inert:fdclr(FD) end
        ]
    ].

clearing_before_closing_leaves_nothing(_Config) ->
    [
        begin
            {A, B} = full_pair(),
            ok = inert:fdset(A, read_write),
            ok = inert:fdclr(A),
            close([A, B])
        end
     || _ <- lists:seq(1, 200)
    ],
    inert_test:quiet_barrier(inert),
    no_message(),
    works().

a_file_that_comes_back_to_its_number_is_told_of(_Config) ->
    Port = inert:pollid(),
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    {ok, Copy} = fdio:dup(A),
    ok = inert:fdset(A, read),
    ok = fdio:dup2(C, A),
    Meanwhile = blocked(run(fun() -> inert:poll(A, read) end)),
    ok = fdio:dup2(Copy, A),
    Again = blocked(run(fun() -> inert:poll(A, read) end)),
    ?assertEqual({error, ebadf}, result(Meanwhile)),
    make_readable(D),
    inert_test:quiet_barrier(inert),
    blocked(Again),
    make_readable(B),
    ?assertEqual({ok, read}, result(Again)),
    %% Nobody has looked while the other file was there.
    inert_test:drain(A),
    ok = inert:fdset(A, read),
    ok = fdio:dup2(C, A),
    ok = fdio:dup2(Copy, A),
    ok = inert:fdset(A, read_write),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(Port)),
    make_writable(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([A, B, C, D, Copy]).

many_generations_of_one_number(_Config) ->
    {ok, Null} = fdio:open("/dev/null", [read]),
    FD = fdio:max_fds() - 1,
    ok = fdio:dup2(Null, FD),
    close(Null),
    Port = inert:pollid(),
    Last = lists:foldl(
        fun(Generation, Old) ->
            {A, B} = full_pair(),
            ok = fdio:dup2(A, FD),
            ?assertEqual(ok, inert:fdset(FD, read_write)),
            %% What was behind the number before makes itself felt.
            [make_readable(OldB) || {_, OldB} <- Old],
            [make_writable(OldB) || {_, OldB} <- Old],
            case Generation rem 3 of
                0 ->
                    ok;
                1 ->
                    make_readable(B),
                    ?assertEqual({inert_read, FD}, inert_test:message_of(Port));
                2 ->
                    ok = inert:fdclr(FD)
            end,
            close(Old),
            [{A, B}]
        end,
        [],
        lists:seq(1, 300)
    ),
    ok = inert:fdclr(FD),
    inert_test:quiet_barrier(inert),
    no_message(),
    close([FD | Last]).

inert_leaves_the_fds_flags_alone(_Config) ->
    %% In blocking mode before, in blocking mode afterwards: fdio refuses to read.
    {A, B} = full_pair(),
    ok = fdio:set_nonblock(A, false),
    Flags = flags(A),
    ?assertEqual({error, timeout}, inert:poll(A, read_write, 1)),
    ok = inert:fdset(A, read_write),
    ?assertEqual(Flags, flags(A)),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(inert:pollid())),
    ok = inert:fdclr(A),
    ?assertEqual({error, einval}, fdio:read(A, 10)),
    ?assertEqual(Flags, flags(A)),
    ok = inert:stop(),
    ?assertEqual(Flags, flags(A)),
    %% Nothing was read, either.
    ?assertEqual({ok, <<"x">>}, fdio:recv(A, 10)),
    close([A, B]).

%% fdinfo of proc(5): position and flags, O_NONBLOCK and O_CLOEXEC among them.
flags(FD) ->
    {ok, Info} = file:read_file("/proc/self/fdinfo/" ++ integer_to_list(FD)),
    Info.

%%% files

a_pipes_reader_hears_of_data_and_of_the_end(_Config) ->
    {ok, {R, W}} = fdio:pipe(),
    ?assertEqual({error, timeout}, inert:poll(R, read, 1)),
    Reader = blocked(run(fun() -> inert:poll(R) end)),
    make_readable(W),
    ?assertEqual({ok, read}, result(Reader)),
    inert_test:drain(R),
    AtEnd = blocked(run(fun() -> inert:poll(R) end)),
    close(W),
    ?assertEqual({ok, read}, result(AtEnd)),
    ?assertEqual({ok, <<>>}, fdio:read(R, 1)),
    close(R).

a_pipes_writer_hears_of_room_and_of_an_error(_Config) ->
    {ok, {R, W}} = fdio:pipe(),
    ?assertEqual({ok, write}, inert:poll(W, write)),
    ?assertEqual({error, timeout}, inert:poll(W, read, 1)),
    inert_test:fill(W),
    Writer = blocked(run(fun() -> inert:poll(W, write) end)),
    inert_test:drain(R),
    ?assertEqual({ok, write}, result(Writer)),
    inert_test:fill(W),
    AtEnd = blocked(run(fun() -> inert:poll(W, write) end)),
    close(R),
    ?assertEqual({ok, write}, result(AtEnd)),
    ?assertEqual({error, epipe}, fdio:write(W, <<"x">>)),
    close(W).

a_hang_up_is_ready_for_every_kind(_Config) ->
    Port = inert:pollid(),
    %% Both ends of a pipe are ready for what they cannot do, too.
    {ok, {R, W}} = fdio:pipe(),
    Wrong = blocked(run(fun() -> inert:poll(R, write) end)),
    close(W),
    ?assertEqual({ok, write}, result(Wrong)),
    [?assertEqual({ok, Kind}, inert:poll(R, Kind, Timeout)) || Kind <- [read, write], Timeout <- [0, infinity]],
    ok = inert:fdset(R, read_write),
    ?assertEqual([{inert_read, Port, R}, {inert_write, Port, R}], lists:sort(now_there())),
    close(R),
    {ok, {R2, W2}} = fdio:pipe(),
    inert_test:fill(W2),
    ok = inert:fdset(W2, read_write),
    no_message(),
    close(R2),
    Told = [inert_test:message_of(Port), inert_test:message_of(Port)],
    ?assertEqual([{inert_read, W2}, {inert_write, W2}], lists:sort(Told)),
    ?assertEqual({ok, read}, inert:poll(W2, read)),
    close(W2).

a_pending_error_is_ready_for_every_kind(_Config) ->
    %% A TCP connection that was reset.
    {A, B} = tcp_pair(),
    inert_test:fill(A),
    Reader = blocked(run(fun() -> inert:poll(A, read) end)),
    Writer = blocked(run(fun() -> inert:poll(A, write) end)),
    %% Closing with data unread resets.
    close(B),
    ?assertEqual([{ok, read}, {ok, write}], results([Reader, Writer])),
    ?assertEqual({error, econnreset}, fdio:so_error(A)),
    close(A).

regular_files_are_always_ready(Config) ->
    Path = filename:join(proplists:get_value(priv_dir, Config), "file"),
    {ok, FD} = fdio:open(Path, [read, write, creat]),
    always_ready(FD),
    ?assertEqual({ok, 3}, fdio:write(FD, <<"abc">>)),
    %% At its end, too.
    always_ready(FD),
    close(FD),
    {ok, ReadOnly} = fdio:open(Path, [read]),
    always_ready(ReadOnly),
    close(ReadOnly).

always_ready(FD) ->
    Port = inert:pollid(),
    [
        ?assertEqual({ok, Kind}, inert:poll(FD, Mode, Timeout))
     || {Mode, Kind} <- [{read, read}, {write, write}, {read_write, read}], Timeout <- [0, 1, infinity]
    ],
    ok = inert:fdset(FD, read_write),
    ?assertEqual([{inert_read, Port, FD}, {inert_write, Port, FD}], lists:sort(now_there())),
    ok = inert:fdset(FD),
    ?assertEqual([{inert_read, Port, FD}], now_there()),
    ok = inert:fdclr(FD).

directories_are_always_ready(Config) ->
    {ok, FD} = fdio:open(proplists:get_value(priv_dir, Config), [read]),
    always_ready(FD),
    close(FD).

dev_null_is_always_ready(_Config) ->
    {ok, FD} = fdio:open("/dev/null", [read, write]),
    always_ready(FD),
    {ok, Zero} = fdio:open("/dev/zero", [read]),
    always_ready(Zero),
    close([FD, Zero]).

a_tty_is_polled(_Config) ->
    {ok, {Master, Slave, _Name}} = fdio:openpty(),
    ?assertEqual({error, timeout}, inert:poll(Master, read, 1)),
    ?assertEqual({error, timeout}, inert:poll(Slave, read, 1)),
    ?assertEqual({ok, write}, inert:poll(Slave, read_write)),
    [
        begin
            Reader = blocked(run(fun() -> inert:poll(To) end)),
            make_readable(From),
            ?assertEqual({ok, read}, result(Reader)),
            ?assertEqual({ok, <<"x">>}, fdio:read(To, 10))
        end
     || {From, To} <- [{Master, Slave}, {Slave, Master}]
    ],
    Reader = blocked(run(fun() -> inert:poll(Master) end)),
    close(Slave),
    ?assertEqual({ok, read}, result(Reader)),
    ?assertEqual({ok, write}, inert:poll(Master, write)),
    ?assertEqual({error, eio}, fdio:read(Master, 10)),
    close(Master).

an_eventfd_is_polled(_Config) ->
    {ok, FD} = fdio:eventfd(),
    ?assertEqual({ok, write}, inert:poll(FD, read_write)),
    Reader = blocked(run(fun() -> inert:poll(FD) end)),
    {ok, 8} = fdio:write(FD, <<1:64/native>>),
    ?assertEqual({ok, read}, result(Reader)),
    ?assertEqual({ok, read}, inert:poll(FD, read_write, 0)),
    {ok, _} = fdio:read(FD, 8),
    ?assertEqual({error, timeout}, inert:poll(FD, read, 0)),
    %% The counter is full: no room to write.
    {ok, 8} = fdio:write(FD, <<16#fffffffffffffffe:64/native>>),
    ?assertEqual({error, timeout}, inert:poll(FD, write, 1)),
    Writer = blocked(run(fun() -> inert:poll(FD, write) end)),
    {ok, _} = fdio:read(FD, 8),
    ?assertEqual({ok, write}, result(Writer)),
    close(FD).

a_udp_socket_is_polled(_Config) ->
    {ok, A} = fdio:socket(inet, dgram, 0),
    {ok, B} = fdio:socket(inet, dgram, 0),
    ok = fdio:bind(A, {?LOOPBACK, 0}),
    {ok, Address} = fdio:getsockname(A),
    ok = fdio:connect(B, Address),
    Reader = blocked(run(fun() -> inert:poll(A) end)),
    ?assertEqual({ok, write}, inert:poll(B, read_write)),
    {ok, 5} = fdio:send(B, <<"hello">>),
    ?assertEqual({ok, read}, result(Reader)),
    ?assertEqual({ok, <<"hello">>}, fdio:recv(A, 100)),
    ?assertEqual({error, timeout}, inert:poll(A, read, 0)),
    close([A, B]).

a_listening_socket_is_readable_when_somebody_connects(_Config) ->
    {Listen, Address} = listen(),
    ?assertEqual({error, timeout}, inert:poll(Listen, read, 1)),
    Accepter = blocked(run(fun() -> inert:poll(Listen) end)),
    {ok, Client} = fdio:socket(inet, stream, 0),
    _ = fdio:connect(Client, Address),
    ?assertEqual({ok, read}, result(Accepter)),
    {ok, Server} = fdio:accept(Listen),
    ?assertEqual({error, eagain}, fdio:accept(Listen)),
    close([Listen, Client, Server]).

listen() ->
    {ok, Listen} = fdio:socket(inet, stream, 0),
    ok = fdio:bind(Listen, {?LOOPBACK, 0}),
    ok = fdio:listen(Listen, 16),
    {ok, Address} = fdio:getsockname(Listen),
    {Listen, Address}.

tcp_pair() ->
    {Listen, Address} = listen(),
    {ok, Client} = fdio:socket(inet, stream, 0),
    connected(Client, fdio:connect(Client, Address)),
    {ok, read} = inert:poll(Listen),
    {ok, Server} = fdio:accept(Listen),
    close(Listen),
    {Client, Server}.

connected(_FD, ok) ->
    ok;
connected(FD, {error, einprogress}) ->
    ?assertEqual({ok, write}, inert:poll(FD, write)),
    ?assertEqual(ok, fdio:so_error(FD)).

a_connecting_socket_is_writable_when_decided(_Config) ->
    {A, B} = tcp_pair(),
    close([A, B]),
    %% Refused: nobody listens on a port that is bound only.
    {ok, Bound} = fdio:socket(inet, stream, 0),
    ok = fdio:bind(Bound, {?LOOPBACK, 0}),
    {ok, Address} = fdio:getsockname(Bound),
    {ok, Client} = fdio:socket(inet, stream, 0),
    case fdio:connect(Client, Address) of
        {error, einprogress} ->
            ?assertEqual({ok, write}, inert:poll(Client, write)),
            ?assertEqual({error, econnrefused}, fdio:so_error(Client));
        {error, econnrefused} ->
            ok
    end,
    %% A socket that is not connected at all is hung up.
    {ok, Idle} = fdio:socket(inet, stream, 0),
    ?assertEqual({ok, read}, inert:poll(Idle, read_write, 0)),
    close([Bound, Client, Idle]),
    %% One that stays undecided: the backlog is full.
    undecided().

undecided() ->
    Path = <<0, "inert_SUITE ", (integer_to_binary(erlang:unique_integer([positive])))/binary, " ", (list_to_binary(os:getpid()))/binary>>,
    {ok, Listen} = fdio:socket(unix, stream, 0),
    ok = fdio:bind(Listen, {unix, Path}),
    ok = fdio:listen(Listen, 1),
    {ok, Client} = fdio:socket(unix, stream, 0),
    ok = fdio:connect(Client, {unix, Path}),
    ?assertEqual({ok, read}, inert:poll(Listen, read_write, 0)),
    close([Listen, Client]).

%% The example of the original's README.
a_socket_of_gen_tcp_is_polled(_Config) ->
    {ok, Socket} = gen_tcp:listen(0, [binary, {active, false}, {ip, ?LOOPBACK}]),
    {ok, Number} = inet:port(Socket),
    {ok, FD} = inet:getfd(Socket),
    ?assertEqual({error, timeout}, inert:poll(FD, read, 1)),
    Accepter = blocked(run(fun() -> inert:poll(FD) end)),
    {ok, Client} = gen_tcp:connect(?LOOPBACK, Number, [binary, {active, false}]),
    ?assertEqual({ok, read}, result(Accepter)),
    ok = inert:fdset(FD),
    ?assertEqual({inert_read, FD}, inert_test:message_of(inert:pollid())),
    ok = inert:fdclr(FD),
    %% inet goes on as if nothing had been.
    {ok, Server} = gen_tcp:accept(Socket),
    ok = gen_tcp:send(Server, <<"hello">>),
    ?assertEqual({ok, <<"hello">>}, gen_tcp:recv(Client, 5)),
    ok = gen_tcp:close(Server),
    ok = gen_tcp:close(Client),
    ok = gen_tcp:close(Socket),
    ?assertEqual([], inert_test:logged()).

a_socket_that_inet_uses_is_not_disturbed(Config) ->
    %% ERTS has one user per fd: on its own pollset this would be stealing.
    case inert_test:own_pollset(Config) of
        true -> polled_while_inet_uses_it();
        false -> {comment, "of pollsets of inert's own only"}
    end.

polled_while_inet_uses_it() ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ip, ?LOOPBACK}]),
    {ok, Number} = inet:port(Listen),
    {ok, ListenFD} = inet:getfd(Listen),
    Acceptor = run(fun() ->
        {ok, Accepted} = gen_tcp:accept(Listen),
        ok = gen_tcp:controlling_process(Accepted, receive {give, Pid} -> Pid end),
        Accepted
    end),
    Polling = blocked(run(fun() -> inert:poll(ListenFD) end)),
    {ok, Client} = gen_tcp:connect(?LOOPBACK, Number, [binary, {active, once}]),
    ?assertEqual({ok, read}, result(Polling)),
    Acceptor ! {give, self()},
    Server = result(Acceptor),
    {ok, FD} = inet:getfd(Client),
    %% Both wait for the same bytes; each is told.
    [
        begin
            Reader = blocked(run(fun() -> inert:poll(FD) end)),
            ok = inert:fdset(FD, write),
            ok = gen_tcp:send(Server, <<N:32>>),
            receive
                {tcp, Client, Data} -> ?assertEqual(<<N:32>>, Data)
            end,
            case process_info(Reader, status) of
                undefined -> ok;
                _ -> ok = inert:fdclr(FD, read)
            end,
            ?assert(lists:member(result(Reader), [{ok, read}, {error, ecanceled}])),
            ?assertEqual({inert_write, FD}, inert_test:message_of(inert:pollid())),
            ok = inet:setopts(Client, [{active, once}])
        end
     || N <- lists:seq(1, 50)
    ],
    %% Closed by its owner while armed here.
    Blocked = blocked(run(fun() -> inert:poll(FD, read, ?LONG) end)),
    ok = gen_tcp:close(Client),
    ok = gen_tcp:close(Server),
    ok = gen_tcp:close(Listen),
    inert_test:kill(Blocked),
    ?assertEqual([], inert_test:logged()).

full_duplex_by_two_processes_over_a_socketpair(_Config) ->
    {A, B} = pair(),
    [ok = fdio:setsockopt(FD, sndbuf, 8192) || FD <- [A, B]],
    full_duplex(A, B, 4).

full_duplex_by_two_processes_over_tcp(_Config) ->
    {A, B} = tcp_pair(),
    full_duplex(A, B, 16).

%% Megabytes in both directions at once: of each end, one process reads while another
%% one writes.
full_duplex(A, B, Megabytes) ->
    There = rand:bytes(Megabytes bsl 20),
    Back = rand:bytes(Megabytes bsl 20),
    Writers = [run(fun() -> write_all(FD, Data, 0, 0) end) || {FD, Data} <- [{A, There}, {B, Back}]],
    %% Nothing is read until nothing more fits.
    inert_test:blocked_all(Writers),
    Readers = [run(fun() -> read_all(FD, [], 0) end) || FD <- [A, B]],
    Written = results(Writers),
    [{FromB, PollsA}, {FromA, PollsB}] = results(Readers),
    ct:log("~p partial writes and polls, ~p polls to read", [Written, {PollsA, PollsB}]),
    ?assert(FromA =:= There),
    ?assert(FromB =:= Back),
    [?assert(Partial > 0 andalso Polls > 0) || {Partial, Polls} <- Written],
    close([A, B]).

%% Returns how many writes were partial, and how often it had to wait.
write_all(FD, <<>>, Partial, Polls) ->
    ok = fdio:shutdown(FD, write),
    {Partial, Polls};
write_all(FD, Data, Partial, Polls) ->
    case fdio:write(FD, Data) of
        {ok, Written} when Written =:= byte_size(Data) ->
            write_all(FD, <<>>, Partial, Polls);
        {ok, Written} ->
            write_all(FD, binary:part(Data, Written, byte_size(Data) - Written), Partial + 1, Polls);
        {error, eagain} ->
            {ok, write} = inert:poll(FD, write),
            write_all(FD, Data, Partial, Polls + 1)
    end.

read_all(FD, Data, Polls) ->
    case fdio:read(FD, 65536) of
        {ok, <<>>} ->
            {iolist_to_binary(lists:reverse(Data)), Polls};
        {ok, More} ->
            read_all(FD, [More | Data], Polls);
        {error, eagain} ->
            {ok, read} = inert:poll(FD, read),
            read_all(FD, Data, Polls + 1)
    end.

%%% many

high_fd_numbers_are_polled(_Config) ->
    Max = fdio:max_fds(),
    {A, B} = full_pair(),
    Numbers = [N || N <- [1023, 1024, 1025, 4095, 4096, 10_000, 16_384, Max - 1], N < Max, not fdio:is_open(N)],
    [ok = fdio:dup2(A, N) || N <- Numbers],
    Pollers = inert_test:blocked_all([run(fun() -> inert:poll(N, read) end) || N <- Numbers]),
    [ok = inert:fdset(N, write) || N <- Numbers],
    make_readable(B),
    ?assertEqual([{ok, read} || _ <- Numbers], results(Pollers)),
    make_writable(B),
    Told = [inert_test:message_of(inert:pollid()) || _ <- Numbers],
    ?assertEqual([{inert_write, N} || N <- Numbers], lists:sort(Told)),
    close([A, B | Numbers]).

ten_thousand_fds_armed_at_once(_Config) ->
    Count = inert_test:room_for_fds(10_000),
    ct:log("~b fds", [Count]),
    Port = inert:pollid(),
    FDs = [FD || _ <- lists:seq(1, Count), {ok, FD} <- [fdio:eventfd()]],
    ?assertEqual(Count, length(FDs)),
    [ok = inert:fdset(FD) || FD <- FDs],
    inert_test:quiet_barrier(inert),
    no_message(),
    %% One message each.
    [{ok, 8} = fdio:write(FD, <<1:64/native>>) || FD <- FDs],
    Told = [inert_test:message_of(Port) || _ <- FDs],
    ?assertEqual([{inert_read, FD} || FD <- lists:sort(FDs)], lists:sort(Told)),
    inert_test:quiet_barrier(inert),
    no_message(),
    %% And again; a third of them is cleared before.
    [{ok, _} = fdio:read(FD, 8) || FD <- FDs],
    [ok = inert:fdset(FD) || FD <- FDs],
    {Cleared, Left} = lists:partition(fun(FD) -> FD rem 3 =:= 0 end, FDs),
    [ok = inert:fdclr(FD) || FD <- Cleared],
    [{ok, 8} = fdio:write(FD, <<1:64/native>>) || FD <- FDs],
    Again = [inert_test:message_of(Port) || _ <- Left],
    ?assertEqual([{inert_read, FD} || FD <- lists:sort(Left)], lists:sort(Again)),
    inert_test:quiet_barrier(inert),
    no_message(),
    close(FDs).

%% One file under many numbers: one write makes all of them ready at once.
many_numbers_of_one_file_are_ready_at_once(_Config) ->
    Port = inert:pollid(),
    {ok, First} = fdio:eventfd(),
    %% On epoll the kernel refuses more than 250: docs/semantics.md.
    FDs = [First | inert_test:copies(First, 200)],
    [ok = inert:fdset(FD) || FD <- FDs],
    inert_test:quiet_barrier(inert),
    no_message(),
    {ok, 8} = fdio:write(First, <<1:64/native>>),
    Told = [inert_test:message_of(Port) || _ <- FDs],
    ?assertEqual([{inert_read, FD} || FD <- lists:sort(FDs)], lists:sort(Told)),
    inert_test:quiet_barrier(inert),
    no_message(),
    close(FDs).

a_thousand_polls_at_once(_Config) ->
    Count = inert_test:room_for_fds(1000),
    FDs = [FD || _ <- lists:seq(1, Count), {ok, FD} <- [fdio:eventfd()]],
    Pollers = inert_test:blocked_all([run(fun() -> inert:poll(FD) end) || FD <- FDs]),
    [{ok, 8} = fdio:write(FD, <<1:64/native>>) || FD <- FDs],
    ?assertEqual([{ok, read}], lists:usort(results(Pollers))),
    close(FDs).

%% ERTS moves a busy fd to the schedulers' pollset after some rounds (DESIGN.md).
a_busy_fd_goes_on_after_many_rounds(_Config) ->
    {A, B} = pair(),
    Rounds = 3000,
    Echo = run(fun() -> echo(B) end),
    [
        begin
            {ok, 4} = fdio:write(A, <<N:32>>),
            ?assertEqual({ok, read}, inert:poll(A)),
            ?assertEqual({ok, <<N:32>>}, fdio:read(A, 10))
        end
     || N <- lists:seq(1, Rounds)
    ],
    Port = inert:pollid(),
    [
        begin
            ok = inert:fdset(A, read),
            {ok, 4} = fdio:write(A, <<N:32>>),
            ?assertEqual({inert_read, A}, inert_test:message_of(Port)),
            ?assertEqual({ok, <<N:32>>}, fdio:read(A, 10))
        end
     || N <- lists:seq(1, Rounds)
    ],
    %% The other kind meanwhile armed, and never ready.
    inert_test:fill(A),
    close(A),
    ?assertEqual(ok, result(Echo)),
    close(B).

echo(FD) ->
    {ok, read} = inert:poll(FD),
    case fdio:read(FD, 100) of
        {ok, <<_:32>> = Data} ->
            {ok, 4} = fdio:write(FD, Data),
            echo(FD);
        {ok, _} ->
            ok;
        {error, econnreset} ->
            ok
    end.

%% What SPEC.md says, naively, against the service: processes that set, clear, poll and
%% die, and fds that become ready and unready.
random_steps_agree_with_a_model(_Config) ->
    Seed = erlang:unique_integer([positive]) + erlang:phash2(erlang:timestamp()),
    ct:log("seed ~b", [Seed]),
    _ = rand:seed(exsss, Seed),
    Pairs = [full_pair() || _ <- [1, 2]],
    Workers = maps:from_list([{N, spawn_link(fun work/0)} || N <- [1, 2, 3]]),
    Model = #{
        workers => Workers,
        %% Worker's number => the fd that it is blocked on.
        polling => #{},
        %% {FD, Kind} => {Worker's number, event | poll}.
        waiters => #{},
        ready => maps:from_list([{{A, Kind}, false} || {A, _} <- Pairs, Kind <- [read, write]]),
        %% What must have been told, and has not been looked at: {Worker's number, What}.
        told => [],
        steps => []
    },
    Last = lists:foldl(fun(_, M) -> checked(random_step(Pairs, M)) end, Model, lists:seq(1, 2000)),
    [inert_test:kill(Pid) || Pid <- maps:values(maps:get(workers, Last))],
    close(Pairs).

work() ->
    receive
        {do, From, Fun} ->
            From ! {self(), Fun()},
            work()
    end.

do(Pid, Fun) ->
    Pid ! {do, self(), Fun}.

random_step(Pairs, #{workers := Workers, polling := Polling, steps := Steps} = Model) ->
    {A, B} = one_of(Pairs),
    N = rand:uniform(maps:size(Workers)),
    Mode = one_of([read, write, read_write]),
    Step =
        case {rand:uniform(14), maps:is_key(N, Polling)} of
            {1, _} -> {ready, A, read};
            {2, _} -> {unready, A, read};
            {3, _} -> {ready, A, write};
            {4, _} -> {unready, A, write};
            {5, _} -> {kill, N};
            {6, _} -> {fdclr, main, A, Mode};
            {_, true} -> {ready, A, one_of([read, write])};
            {7, _} -> {fdclr, N, A, Mode};
            {8, _} -> {poll, N, A, Mode, 0};
            {9, _} -> {poll, N, A, Mode, 1};
            {X, _} when X < 12 -> {poll, N, A, Mode, infinity};
            _ -> {fdset, N, A, Mode}
        end,
    step(Step, B, Model#{steps := lists:sublist([Step | Steps], 30)}).

one_of(List) ->
    lists:nth(rand:uniform(length(List)), List).

step({ready, A, Kind}, B, #{ready := Ready} = Model) ->
    case Kind of
        read -> make_readable(B);
        write -> make_writable(B)
    end,
    fired(A, Kind, Model#{ready := Ready#{{A, Kind} := true}});
step({unready, A, Kind}, _B, #{ready := Ready} = Model) ->
    case Kind of
        read -> inert_test:drain(A);
        write -> inert_test:fill(A)
    end,
    Model#{ready := Ready#{{A, Kind} := false}};
step({kill, N}, _B, #{workers := Workers, polling := Polling, waiters := Waiters, told := Told} = Model) ->
    inert_test:kill(maps:get(N, Workers)),
    Model#{
        workers := Workers#{N := spawn_link(fun work/0)},
        polling := maps:remove(N, Polling),
        told := [One || {Owner, _} = One <- Told, Owner =/= N],
        waiters := maps:filter(fun(_, {Owner, _}) -> Owner =/= N end, Waiters)
    };
step({fdclr, By, A, Mode}, _B, Model) ->
    Result =
        case By of
            main -> inert:fdclr(A, Mode);
            N -> done(N, fun() -> inert:fdclr(A, Mode) end, Model)
        end,
    agree(ok, Result, Model),
    lists:foldl(
        fun(Kind, #{waiters := Waiters} = M) ->
            case Waiters of
                #{{A, Kind} := {Owner, poll}} -> ended(Owner, {error, ecanceled}, M);
                _ -> M#{waiters := maps:remove({A, Kind}, Waiters)}
            end
        end,
        Model,
        kinds(Mode)
    );
step({fdset, N, A, Mode}, _B, Model) ->
    Result = done(N, fun() -> inert:fdset(A, Mode) end, Model),
    case taken(N, A, Mode, Model) of
        true ->
            agree({error, ebusy}, Result, Model),
            Model;
        false ->
            agree(ok, Result, Model),
            {Now, Later} = lists:partition(fun(Kind) -> is_ready(A, Kind, Model) end, kinds(Mode)),
            Cleared = disarmed(N, A, [read, write], Model),
            told(N, A, Now, armed(N, A, Later, event, Cleared))
    end;
step({poll, N, A, Mode, Timeout}, _B, #{workers := Workers} = Model) ->
    Pid = maps:get(N, Workers),
    do(Pid, fun() -> inert:poll(A, Mode, Timeout) end),
    Now = [Kind || Kind <- kinds(Mode), is_ready(A, Kind, Model)],
    case {taken(N, A, Mode, Model), Now, Timeout} of
        {true, _, _} ->
            agree({error, ebusy}, result(Pid), Model),
            Model;
        {false, [Kind | _], 0} ->
            agree({ok, Kind}, result(Pid), Model),
            Model;
        {false, [], 0} ->
            agree({error, timeout}, result(Pid), Model),
            Model;
        {false, [Kind | _], _} ->
            agree({ok, Kind}, result(Pid), Model),
            disarmed(N, A, kinds(Mode), Model);
        {false, [], infinity} ->
            blocked(Pid),
            #{polling := Polling} = Armed = armed(N, A, kinds(Mode), poll, Model),
            Armed#{polling := Polling#{N => A}};
        {false, [], _} ->
            agree({error, timeout}, result(Pid), Model),
            disarmed(N, A, kinds(Mode), Model)
    end.

done(N, Fun, #{workers := Workers}) ->
    Pid = maps:get(N, Workers),
    do(Pid, Fun),
    result(Pid).

agree(Expected, Result, #{steps := Steps}) ->
    ?assertEqual({Expected, Steps}, {Result, Steps}).

kinds(read_write) -> [read, write];
kinds(Kind) -> [Kind].

is_ready(A, Kind, #{ready := Ready}) ->
    maps:get({A, Kind}, Ready).

taken(N, A, Mode, #{waiters := Waiters}) ->
    lists:any(
        fun(Kind) ->
            case Waiters of
                #{{A, Kind} := {Owner, _}} -> Owner =/= N;
                _ -> false
            end
        end,
        kinds(Mode)
    ).

armed(N, A, Kinds, How, #{waiters := Waiters} = Model) ->
    Model#{waiters := maps:merge(Waiters, maps:from_list([{{A, Kind}, {N, How}} || Kind <- Kinds]))}.

disarmed(N, A, Kinds, #{waiters := Waiters} = Model) ->
    Mine = fun({FD, Kind}, {Owner, _}) -> FD =:= A andalso Owner =:= N andalso lists:member(Kind, Kinds) end,
    Model#{waiters := maps:filter(fun(Key, Value) -> not Mine(Key, Value) end, Waiters)}.

fired(A, Kind, #{waiters := Waiters} = Model) ->
    case Waiters of
        #{{A, Kind} := {N, event}} -> told(N, A, [Kind], Model#{waiters := maps:remove({A, Kind}, Waiters)});
        #{{A, Kind} := {N, poll}} -> ended(N, {ok, Kind}, Model);
        _ -> Model
    end.

told(N, A, Kinds, #{told := Told} = Model) ->
    Model#{told := [{N, {tag(Kind), A}} || Kind <- Kinds] ++ Told}.

tag(read) -> inert_read;
tag(write) -> inert_write.

ended(N, Result, #{told := Told, polling := Polling, waiters := Waiters} = Model) ->
    Model#{
        told := [{N, Result} | Told],
        polling := maps:remove(N, Polling),
        waiters := maps:filter(fun(_, Waiter) -> Waiter =/= {N, poll} end, Waiters)
    }.

%% Whoever should have been told has been, whoever should be blocked is, and nobody has
%% a message besides.
checked(#{workers := Workers, polling := Polling, told := Told, steps := Steps} = Model) ->
    Port = inert:pollid(),
    inert_test:quiet_barrier(inert),
    maps:foreach(
        fun(N, Pid) ->
            case Polling of
                #{N := _} ->
                    blocked(Pid);
                _ ->
                    Expected = lists:sort([What || {M, What} <- Told, M =:= N]),
                    Results = [result(Pid) || {Word, _} <- Expected, Word =:= ok orelse Word =:= error],
                    do(Pid, fun now_there/0),
                    Messages = [without(Port, Message) || Message <- result(Pid)],
                    ?assertEqual({Expected, Steps}, {lists:sort(Results ++ Messages), Steps})
            end
        end,
        Workers
    ),
    no_message(),
    Model#{told := [One || {N, _} = One <- Told, maps:is_key(N, Polling)]}.

without(Port, {Tag, Port, FD}) -> {Tag, FD};
without(_Port, Other) -> Other.

%%% service

start_is_ok_however_often(_Config) ->
    ?assertEqual(ok, inert:start()),
    Port = inert:pollid(),
    [?assertEqual(ok, inert:start()) || _ <- lists:seq(1, 100)],
    ?assertEqual(ok, inert:start([])),
    ?assertEqual(Port, inert:pollid()),
    ?assertEqual([Port], inert_test:inert_ports()),
    works(),
    [
        begin
            ok = inert:stop(),
            ok = inert:start()
        end
     || _ <- lists:seq(1, 100)
    ],
    ?assertEqual([inert:pollid()], inert_test:inert_ports()),
    works().

fifty_concurrent_starts_give_one_port(_Config) ->
    [
        begin
            Starters = [
                run(fun() ->
                    %% Those that lose the race hear nothing of their ports, either.
                    process_flag(trap_exit, true),
                    receive
                        go -> {inert:start(), inert:pollid(), now_there()}
                    end
                end)
             || _ <- lists:seq(1, 50)
            ],
            [Starter ! go || Starter <- Starters],
            Results = results(Starters),
            Port = inert:pollid(),
            ?assertEqual([{ok, Port, []}], lists:usort(Results)),
            ?assertEqual([Port], inert_test:inert_ports()),
            ok = inert:stop()
        end
     || _ <- lists:seq(1, 20)
    ].

starters_that_die_at_once_leak_nothing(_Config) ->
    [
        begin
            Starters = [spawn_monitor(fun() -> exit(inert:start()) end) || _ <- lists:seq(1, 50)],
            %% Killed at any of its lines, before the first and after the last.
            [exit(Pid, kill) || {Pid, _} <- Starters, rand:uniform(2) =:= 1],
            [
                receive
                    {'DOWN', Monitor, process, Pid, Reason} ->
                        ?assert(lists:member(Reason, [ok, killed]))
                end
             || {Pid, Monitor} <- Starters
            ],
            inert_test:until(fun() -> inert_test:inert_ports() =:= [P || P <- [inert:pollid()], P =/= undefined] end),
            ?assertEqual(ok, inert:start()),
            ?assertEqual([inert:pollid()], inert_test:inert_ports()),
            works(),
            ok = inert:stop()
        end
     || _ <- lists:seq(1, 30)
    ],
    ?assertEqual([], inert_test:inert_ports()).

the_port_outlives_its_starter(_Config) ->
    [
        begin
            {Pid, Monitor} = spawn_monitor(fun() ->
                ok = inert:start(),
                exit(Reason)
            end),
            receive
                {'DOWN', Monitor, process, Pid, Reason} -> ok
            end,
            ?assert(is_port(inert:pollid())),
            works(),
            ?assert(is_port(inert:pollid())),
            ok = inert:stop()
        end
     || Reason <- [normal, shutdown, whatever]
    ],
    %% Nor is it linked to whoever starts it.
    ok = inert:start(),
    ?assertEqual([], [P || P <- element(2, process_info(self(), links)), is_port(P)]).

start_takes_a_pollset(_Config) ->
    [
        begin
            ?assertEqual(ok, inert:start([{pollset, Pollset}])),
            works(),
            ?assertEqual(ok, inert:stop())
        end
     || Pollset <- inert_test:pollsets()
    ].

start_refuses_unknown_options(_Config) ->
    Unknown = [foo, [foo], [{pollset, foo}], [{foo, erts}], [{pollset, erts} | foo], [{pollset}], "erts", erts],
    Refused = fun() ->
        [
            ?assertEqual({Options, [1]}, {Options, inert_test:badarg_position(fun() -> inert:start(Options) end)})
         || Options <- Unknown
        ]
    end,
    Refused(),
    ?assertEqual(undefined, inert:pollid()),
    ok = inert:start(),
    Refused().

stop_is_ok_when_not_started(_Config) ->
    ?assertEqual(ok, inert:stop()),
    ?assertEqual(ok, inert:stop()),
    ok = inert:start(),
    ?assertEqual(ok, inert:stop()),
    ?assertEqual(ok, inert:stop()).

pollid_is_the_port_or_undefined(_Config) ->
    ?assertEqual(undefined, inert:pollid()),
    ok = inert:start(),
    Port = inert:pollid(),
    ?assert(is_port(Port)),
    ?assertEqual(Port, whereis(inert)),
    ?assertEqual(Port, result(run(fun() -> inert:pollid() end))),
    ok = inert:stop(),
    ?assertEqual(undefined, inert:pollid()).

calls_without_the_service_are_closed(_Config) ->
    {A, B} = pair(),
    Closed = fun() -> [?assertEqual({error, closed}, Call()) || Call <- ?CALLS(A)] end,
    Closed(),
    ok = inert:start(),
    ok = inert:stop(),
    Closed(),
    no_message(),
    close([A, B]).

stop_ends_a_thousand_polls(_Config) ->
    Count = inert_test:room_for_fds(1000),
    ok = inert:start(),
    FDs = [FD || _ <- lists:seq(1, Count), {ok, FD} <- [fdio:eventfd()]],
    Timeouts = [infinity, ?LONG, 4999, 1 bsl 40],
    Pollers = [
        run(fun() ->
            Result = inert:poll(FD, read, lists:nth(1 + FD rem length(Timeouts), Timeouts)),
            {Result, now_there()}
        end)
     || FD <- FDs
    ],
    inert_test:blocked_all(Pollers),
    ok = inert:fdset(hd(FDs), write),
    inert_test:message_of(inert:pollid()),
    ?assertEqual(ok, inert:stop()),
    ?assertEqual([{{error, closed}, []}], lists:usort(results(Pollers))),
    no_message(),
    close(FDs).

stop_unloads_the_driver(_Config) ->
    ok = inert:start(),
    ?assert(inert_test:driver_loaded()),
    works(),
    ok = inert:stop(),
    inert_test:until(fun() -> not inert_test:driver_loaded() end).

a_port_that_is_killed_ends_the_polls(_Config) ->
    [
        begin
            ok = inert:start(),
            Port = inert:pollid(),
            {A, B} = full_pair(),
            Pollers = inert_test:blocked_all([
                run(fun() -> {inert:poll(A, Mode, Timeout), now_there()} end)
             || {Mode, Timeout} <- [{read, infinity}, {write, 4000}]
            ]),
            {C, D} = full_pair(),
            ok = inert:fdset(C, read_write),
            End(Port),
            ?assertEqual([{{error, closed}, []}], lists:usort(results(Pollers))),
            inert_test:until(fun() -> inert:pollid() =:= undefined end),
            ?assertEqual({error, closed}, inert:poll(A)),
            make_readable(D),
            no_message(),
            close([A, B, C, D])
        end
     || End <- [
            fun(Port) -> exit(Port, kill) end,
            fun(Port) -> exit(Port, whatever) end,
            fun(Port) -> port_close(Port) end,
            fun(Port) -> result(run(fun() -> port_close(Port) end)) end,
            fun(Port) ->
                Port ! {self(), close},
                receive
                    {Port, closed} -> ok
                end
            end
        ]
    ].

a_restarted_service_works_and_the_old_polls_are_closed(_Config) ->
    {A, B} = full_pair(),
    ok = inert:start(),
    Old = inert_test:blocked_all([run(fun() -> inert:poll(A, Mode) end) || Mode <- [read, write]]),
    ok = inert:stop(),
    ok = inert:start(),
    New = blocked(run(fun() -> inert:poll(A, read) end)),
    ?assertEqual([{error, closed}, {error, closed}], results(Old)),
    make_readable(B),
    ?assertEqual({ok, read}, result(New)),
    works(),
    close([A, B]).

starts_and_stops_race(_Config) ->
    Pairs = [full_pair() || _ <- lists:seq(1, 8)],
    Racers = [
        run(fun() ->
            _ = rand:seed(exsss, {N, N, N}),
            lists:foreach(fun(_) -> racing_step(Pairs) end, lists:seq(1, 300))
        end)
     || N <- lists:seq(1, 16)
    ],
    _ = results(Racers),
    inert_test:until(fun() -> inert_test:inert_ports() =:= [P || P <- [inert:pollid()], P =/= undefined] end),
    ?assertEqual(ok, inert:start()),
    works(),
    ?assertEqual(ok, inert:stop()),
    ?assertEqual([], inert_test:inert_ports()),
    close(Pairs).

racing_step(Pairs) ->
    {A, B} = lists:nth(rand:uniform(length(Pairs)), Pairs),
    {Result, Allowed} =
        case rand:uniform(10) of
            1 -> {inert:stop(), [ok]};
            2 -> {inert:start(), [ok]};
            3 -> {inert:start(), [ok]};
            4 -> {inert:fdclr(A), [ok, {error, closed}]};
            5 -> {inert:fdset(A, read_write), [ok, {error, closed}, {error, ebusy}]};
            6 -> {make_readable(B), [ok]};
            7 -> {inert_test:drain(A), [ok]};
            8 -> {is_boolean(is_port(inert:pollid())), [true]};
            _ ->
                {inert:poll(A, read, rand:uniform(3)), [
                    {ok, read},
                    {error, timeout},
                    {error, closed},
                    {error, ebusy},
                    {error, ecanceled}
                ]}
        end,
    ?assert(lists:member(Result, Allowed), Result).

%%% once

%% A copy of the application without the driver.
a_driver_that_is_not_there_raises(Config) ->
    Ebin = copy_of_ebin(Config, "without"),
    {driver_load_failed, Path, Text} = start_fails(Ebin),
    ?assertEqual(filename:join([filename:dirname(Ebin), "priv", "inert_drv"]), Path),
    ?assertNotEqual(nomatch, string:find(Text, "No such file")).

a_driver_that_is_garbage_raises(Config) ->
    Ebin = copy_of_ebin(Config, "garbage"),
    Path = filename:join([filename:dirname(Ebin), "priv", "inert_drv"]),
    ok = filelib:ensure_dir(Path),
    ok = file:write_file(Path ++ ".so", <<"not a shared object">>),
    {driver_load_failed, Path, Text} = start_fails(Ebin),
    %% erl_ddll:format_error/1's, which has the linker's.
    ?assertNotEqual("", Text).

copy_of_ebin(Config, Name) ->
    Ebin = filename:join([proplists:get_value(priv_dir, Config), Name, "inert", "ebin"]),
    ok = filelib:ensure_dir(filename:join(Ebin, "x")),
    [
        {ok, _} = file:copy(Beam, filename:join(Ebin, filename:basename(Beam)))
     || Beam <- filelib:wildcard(filename:join(filename:dirname(code:which(inert)), "*"))
    ],
    Ebin.

%% With a node that has nothing but this copy.
start_fails(Ebin) ->
    {ok, Peer, _} = peer:start(#{
        connection => standard_io, args => ["-pa", Ebin], env => [{"ERL_LIBS", ""}]
    }),
    try
        ?assertEqual(filename:join(Ebin, "inert.beam"), peer:call(Peer, code, which, [inert])),
        Results = [
            try peer:call(Peer, Module, start, []) of
                Result -> {returned, Result}
            catch
                error:Reason -> Reason
            end
         || Module <- [inert, inert, prim_inert, inert_drv]
        ],
        %% The same each time, and nothing is started.
        [Reason] = lists:usort(Results),
        ?assertEqual(undefined, peer:call(Peer, inert, pollid, [])),
        ?assertEqual({error, closed}, peer:call(Peer, inert, poll, [0])),
        Reason
    after
        peer:stop(Peer)
    end.

%% The driver holds the poll's reference in the external format, which has the node's
%% name in it.
a_poll_survives_the_node_being_renamed(_Config) ->
    Peer = inert_test:start_peer([]),
    try
        Expected = [{{ok, read}, []}, {{ok, read}, []}, {{ok, write}, []}],
        ?assertEqual(Expected, peer:call(Peer, inert_test, ready_after_renaming, [], infinity))
    after
        peer:stop(Peer)
    end.

a_poll_times_out_on_a_renamed_node(_Config) ->
    Peer = inert_test:start_peer([]),
    try
        Expected = [{{error, timeout}, []} || _ <- lists:seq(1, 4)],
        ?assertEqual(Expected, peer:call(Peer, inert_test, times_out_after_renaming, [], infinity))
    after
        peer:stop(Peer)
    end.
