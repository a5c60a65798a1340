%% SPDX-License-Identifier: Apache-2.0
%%
%% Faults on purpose: system calls that fail at any moment, files that live on where
%% nobody expects them, owners killed in the middle of a callback, a driver unloaded
%% while polled, VMs that halt, run with other flags, or have their clock set. Each
%% has one outcome, which docs/reliability.md names.
%%
%% System calls are failed and held in a VM of its own, by a library that is loaded
%% before all others (fault/fault.c). The rest needs no tricks. After each case nothing
%% may be left behind, in that VM or in this one: see inert_test.
-module(fault_SUITE).

-export([suite/0]).
-export([all/0]).
-export([groups/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

%% refused
-export([a_refused_request_arms_nothing/1]).
-export([a_refused_request_leaves_what_the_caller_had/1]).
-export([a_taken_kind_stays_taken_without_memory/1]).
-export([clearing_and_checking_need_no_memory/1]).

%% drained
-export([a_waiter_is_told_where_poll_fails/1]).
-export([a_waiter_is_told_where_arming_anew_fails/1]).
-export([an_interrupted_poll_goes_on/1]).

%% instance
-export([without_an_instance_the_default_falls_back/1]).
-export([a_drain_that_fails_is_tried_again/1]).
-export([an_owner_killed_while_opening_leaves_nothing/1]).
-export([a_panic_in_a_drain_closes_the_port/1]).
-export([a_panic_in_a_request_closes_the_port/1]).

%% duplicate
-export([a_fd_that_cannot_be_duplicated_is_refused/1]).

%% files
-export([a_forked_child_that_keeps_the_fds_disturbs_nobody/1]).
-export([a_file_in_flight_to_another_process_disturbs_nobody/1]).
-export([a_fd_of_a_set_is_closed/1]).
-export([a_number_becomes_another_file_while_it_is_armed/1]).

%% owner
-export([the_owner_is_killed_in_a_request/1]).
-export([the_owner_is_killed_in_its_own_request/1]).
-export([the_owner_is_killed_in_a_drain/1]).

%% unload
-export([unload_leaves_those_who_wait/1]).
-export([unload_driver_closes_the_port/1]).
-export([the_code_stays_until_the_callback_has_returned/1]).
-export([reload_waits_for_the_port/1]).
-export([reload_driver_is_refused/1]).

%% processes
-export([a_suspended_poller_is_told/1]).
-export([a_suspended_poller_that_timed_out_leaves_nothing/1]).
-export([a_poller_with_a_million_messages/1]).

%% ends
-export([the_vm_ends_while_hundreds_poll/1]).

%% vms
-export([it_works_whatever_the_flags/1]).
-export([it_works_when_the_clock_jumps/1]).

%% In VMs of their own.
-export([in_vm/1]).
-export([end_vm/1]).

-include_lib("stdlib/include/assert.hrl").

-define(LONG, 3_600_000).
-define(DRIVER, "inert_drv").

%% fault/fault.c: rows of eight numbers of 32 bits, and what comes after them.
-define(CALLS, [epoll_create1, epoll_ctl_add, epoll_ctl_mod, epoll_wait, poll, fstat, dup, getfd]).
-define(ROW, 32).
-define(SKIP, 0).
-define(HOLD, 12).
-define(FAILED, 16).
-define(HELD, 20).
-define(EXPIRED, 24).
-define(TIMES, 28).
-define(CLOCK, 256).
-define(FORK, 260).
-define(CHILD, 264).
-define(RELEASE, 268).
-define(PLAN_BYTES, 4096).

-define(ERRNOS, #{eintr => 4, eio => 5, enomem => 12, einval => 22, enfile => 23, emfile => 24, enospc => 28}).

%% What takes a VM down, and what a case does in one, takes a few seconds. A VM that is
%% still there or a case that still runs then hangs.
-define(VM_SECONDS, 60).
-define(CASE_SECONDS, 30).

%% Where the case itself runs, where calls are held, and where not.
-define(OWN_SCHEDULER, 4).
-define(HELD_SCHEDULER, 3).
-define(FREE_SCHEDULER, 2).

-import(inert_test, [
    pair/0,
    full_pair/0,
    close/1,
    run/1,
    blocked/1,
    blocked_all/1,
    result/1,
    results/1,
    make_readable/1,
    make_writable/1,
    drain/1,
    no_message/0,
    quiet_barrier/1,
    until/1
]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    inert_test:per_pollset(topics()) ++ [{group, instance}, {group, duplicate}, {group, vms}].

groups() ->
    inert_test:groups_per_pollset(topics()) ++
        [
            {instance, [], [
                a_number_becomes_another_file_while_it_is_armed,
                without_an_instance_the_default_falls_back,
                a_drain_that_fails_is_tried_again,
                an_owner_killed_while_opening_leaves_nothing,
                a_panic_in_a_drain_closes_the_port,
                a_panic_in_a_request_closes_the_port
            ]},
            {duplicate, [], [
                a_fd_that_cannot_be_duplicated_is_refused
            ]},
            {vms, [], [
                it_works_whatever_the_flags,
                it_works_when_the_clock_jumps
            ]}
        ].

topics() ->
    [
        {refused, [
            a_refused_request_arms_nothing,
            a_refused_request_leaves_what_the_caller_had,
            a_taken_kind_stays_taken_without_memory,
            clearing_and_checking_need_no_memory
        ]},
        {drained, [
            a_waiter_is_told_where_poll_fails,
            a_waiter_is_told_where_arming_anew_fails,
            an_interrupted_poll_goes_on
        ]},
        {files, [
            a_forked_child_that_keeps_the_fds_disturbs_nobody,
            a_file_in_flight_to_another_process_disturbs_nobody,
            a_fd_of_a_set_is_closed
        ]},
        {owner, [
            the_owner_is_killed_in_a_request,
            the_owner_is_killed_in_its_own_request,
            the_owner_is_killed_in_a_drain
        ]},
        {unload, [
            unload_leaves_those_who_wait,
            unload_driver_closes_the_port,
            the_code_stays_until_the_callback_has_returned,
            reload_waits_for_the_port,
            reload_driver_is_refused
        ]},
        {processes, [
            a_suspended_poller_is_told,
            a_suspended_poller_that_timed_out_leaves_nothing,
            a_poller_with_a_million_messages
        ]},
        {ends, [
            the_vm_ends_while_hundreds_poll
        ]}
    ].

init_per_suite(Config) ->
    case os:type() of
        {unix, linux} -> [{library, library()} | inert_test:init_per_suite(Config)];
        _ -> {skip, "the library that fails system calls is Linux's"}
    end.

end_per_suite(Config) ->
    inert_test:end_per_suite(Config).

init_per_group(instance, Config) ->
    [{pollset, epoll} | Config];
init_per_group(duplicate, Config) ->
    [{pollset, erts} | Config];
init_per_group(Group, Config) ->
    inert_test:init_per_group(Group, Config).

end_per_group(Group, Config) ->
    inert_test:end_per_group(Group, Config).

init_per_testcase(_Case, Config) ->
    inert_test:init_per_testcase(Config).

end_per_testcase(_Case, Config) ->
    inert_test:end_per_testcase(Config).

%%% refused

a_refused_request_arms_nothing(Config) ->
    in_faulty_vm(Config, fun() ->
        [request_refused(Config, Fault, Request) || Fault <- refusals(Config), Request <- requests()]
    end).

%% What fails in a request, with what, and how many of these calls come before the one
%% for the third fd of a set, the first of which has a waiter.
refusals(Config) ->
    Poll = [{poll, enomem, 0}, {poll, einval, 0}],
    case pollset(Config) of
        epoll -> [{epoll_ctl_add, enomem, 1}, {epoll_ctl_add, enospc, 1}, {epoll_ctl_mod, enomem, 2} | Poll];
        erts -> [{fstat, enomem, 2} | Poll]
    end.

requests() ->
    [
        {one, fun(Port, FD) -> prim_inert:fdset(Port, FD, read) end},
        {one, fun(Port, FD) -> prim_inert:poll(Port, FD) end},
        {one, fun(Port, FD) -> prim_inert:poll(Port, FD, read, ?LONG) end},
        {set, fun(Port, FDs) -> prim_inert:fdset(Port, FDs) end},
        {set, fun(Port, FDs) -> prim_inert:poll(Port, FDs) end},
        {set, fun(Port, FDs) -> prim_inert:poll(Port, FDs, ?LONG) end}
    ].

request_refused(Config, {Call, Errno, Before}, {About, Request}) ->
    Port = inert_test:open(Config),
    Pairs = [{First, Peer} | New] = [full_pair() || _ <- lists:seq(1, 4)],
    [Second, Third, _] = FDs = [FD || {FD, _} <- New],
    %% Known fds are modified, others are added.
    [ok = prim_inert:fdset(Port, FD, read) || FD <- FDs, Call =:= epoll_ctl_mod],
    [ok = prim_inert:fdclr(Port, FD) || FD <- FDs, Call =:= epoll_ctl_mod],
    Earlier = blocked(run(fun() -> prim_inert:poll(Port, First, write) end)),
    Fault = {Call, Errno, About},
    case About of
        one ->
            ok = fail(Call, Errno),
            ?assertEqual({Fault, {error, Errno}}, {Fault, Request(Port, Second)});
        set ->
            Offender = case Call of poll -> First; _ -> Third end,
            ok = fail(Call, Errno, Before, 1),
            ?assertEqual({Fault, {error, {Errno, Offender}}}, {Fault, Request(Port, [First | FDs])})
    end,
    ?assertEqual(1, armed(Port)),
    [make_readable(B) || {_, B} <- Pairs],
    quiet_barrier(Port),
    no_message(),
    blocked(Earlier),
    make_writable(Peer),
    ?assertEqual({ok, write}, result(Earlier)),
    %% The next request is like any.
    [drain(FD) || FD <- FDs],
    Poller = blocked(run(fun() -> prim_inert:poll(Port, FDs) end)),
    [{_, B}, _, _] = New,
    make_readable(B),
    ?assertEqual({ok, [{Second, read}]}, result(Poller)),
    ok = prim_inert:stop(Port),
    close(Pairs).

a_refused_request_leaves_what_the_caller_had(Config) ->
    in_faulty_vm(Config, fun() ->
        Calls = case pollset(Config) of epoll -> [epoll_ctl_mod, poll]; erts -> [fstat, poll] end,
        [
            begin
                Port = inert_test:open(Config),
                {A, B} = full_pair(),
                ok = prim_inert:fdset(Port, A, write),
                ok = fail(Call, enomem),
                ?assertEqual({error, Expected}, Request(Port, A)),
                make_readable(B),
                quiet_barrier(Port),
                no_message(),
                make_writable(B),
                ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
                ok = prim_inert:stop(Port),
                close([A, B])
            end
         || Call <- Calls,
            {Request, Expected} <- [
                {fun(Port, A) -> prim_inert:fdset(Port, A, read) end, enomem},
                {fun(Port, A) -> prim_inert:poll(Port, A, read) end, enomem},
                {fun(Port, A) -> prim_inert:poll(Port, A, read_write) end, enomem}
            ]
        ]
    end).

%% Whether the file is still the one that others wait for is a question that can fail.
a_taken_kind_stays_taken_without_memory(Config) ->
    in_faulty_vm(Config, fun() ->
        Calls = case pollset(Config) of epoll -> [epoll_ctl_mod, fstat]; erts -> [fstat] end,
        [
            begin
                Port = inert_test:open(Config),
                {A, B} = full_pair(),
                ok = prim_inert:fdset(Port, A, write),
                Poller = blocked(run(fun() -> prim_inert:poll(Port, A) end)),
                [
                    begin
                        ok = fail(Call, enomem),
                        ?assertEqual({Call, {error, ebusy}}, {Call, result(run(fun() -> prim_inert:poll(Port, A, Mode) end))})
                    end
                 || Mode <- [read, write]
                ],
                ?assertEqual(2, armed(Port)),
                make_readable(B),
                ?assertEqual({ok, read}, result(Poller)),
                make_writable(B),
                ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
                ok = prim_inert:stop(Port),
                close([A, B])
            end
         || Call <- Calls
        ]
    end).

clearing_and_checking_need_no_memory(Config) ->
    in_faulty_vm(Config, fun() ->
        Port = inert_test:open(Config),
        {A, B} = full_pair(),
        ok = prim_inert:fdset(Port, A, read),
        %% A check is poll(2), and says what poll(2) says.
        ok = fail(poll, enomem),
        ?assertEqual({error, enomem}, prim_inert:poll(Port, A, read, 0)),
        ok = fail(poll, enomem),
        ?assertEqual({error, {enomem, A}}, prim_inert:poll(Port, [A], 0)),
        ?assertEqual(1, armed(Port)),
        Calls = [epoll_ctl_add, epoll_ctl_mod, poll],
        [ok = fail(Call, enomem) || Call <- Calls],
        ?assertEqual(ok, prim_inert:fdclr(Port, A)),
        [ok = fail(Call, enomem, 0, 0) || Call <- Calls],
        make_readable(B),
        quiet_barrier(Port),
        no_message(),
        ok = prim_inert:stop(Port),
        close([A, B])
    end).

%%% drained

%% What was reported is taken for ready: a wake-up too many can be borne.
a_waiter_is_told_where_poll_fails(Config) ->
    in_faulty_vm(Config, fun() ->
        Port = inert_test:open(Config),
        Pairs = [{A, B}, {C, _}, {E, F}] = [full_pair() || _ <- [1, 2, 3]],
        Asked = by_poll(Config),
        ok = prim_inert:fdset(Port, A, [write | Asked]),
        Poller = blocked(run(fun() -> prim_inert:poll(Port, A) end)),
        Bystander = blocked(run(fun() -> prim_inert:poll(Port, C) end)),
        ok = fail(poll, enomem),
        make_readable(B),
        ?assertEqual({ok, read}, result(Poller)),
        ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
        [receive {inert_priority, Port, A} -> ok end || priority <- Asked],
        blocked(Bystander),
        inert_test:kill(Bystander),
        drain(A),
        %% Of a set, what was reported; the rest is found by the next poll.
        Set = blocked(run(fun() -> prim_inert:poll(Port, [A, C, {E, [read, write | Asked]}]) end)),
        ok = fail(poll, enomem, 0, 2),
        make_readable(F),
        ?assertEqual({ok, [{E, Kind} || Kind <- [read, write | Asked]]}, result(Set)),
        ?assertEqual({ok, [{E, read}]}, prim_inert:poll(Port, [A, C, {E, read_write}])),
        ?assertEqual(0, armed(Port)),
        no_message(),
        ok = prim_inert:stop(Port),
        close(Pairs)
    end).

%% Of two who wait for one fd the one is told, and the fd is to be watched on for the other.
a_waiter_is_told_where_arming_anew_fails(Config) ->
    in_faulty_vm(Config, fun() ->
        Call = case pollset(Config) of epoll -> epoll_ctl_mod; erts -> fstat end,
        Port = inert_test:open(Config),
        Pairs = [{A, B}, {C, D}, {E, F}] = [full_pair() || _ <- [1, 2, 3]],
        %% By a message.
        Reader = blocked(run(fun() -> prim_inert:poll(Port, A) end)),
        ok = prim_inert:fdset(Port, A, write),
        ok = fail(Call, enomem),
        make_readable(B),
        ?assertEqual({ok, read}, result(Reader)),
        make_writable(B),
        ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
        %% By the end of a poll, and of a set's.
        drain(A),
        [
            begin
                ok = prim_inert:fdset(Port, FD, read),
                Writer = blocked(run(fun() -> Poll(FD) end)),
                ok = fail(Call, enomem),
                make_readable(Peer),
                ?assertEqual({inert_read, FD}, inert_test:message_of(Port)),
                make_writable(Peer),
                ?assertEqual(Expected, result(Writer))
            end
         || {{FD, Peer}, Poll, Expected} <- [
                {{C, D}, fun(FD) -> prim_inert:poll(Port, FD, write) end, {ok, write}},
                {{E, F}, fun(FD) -> prim_inert:poll(Port, [{FD, write}, A]) end, {ok, [{E, write}]}}
            ]
        ],
        quiet_barrier(Port),
        no_message(),
        ?assertEqual(0, armed(Port)),
        ok = prim_inert:stop(Port),
        close(Pairs)
    end).

an_interrupted_poll_goes_on(Config) ->
    in_faulty_vm(Config, fun() ->
        Port = inert_test:open(Config),
        {A, B} = full_pair(),
        Interrupted = fun() -> fail(poll, eintr, 0, 100) end,
        Interrupted(),
        ?assertEqual({error, timeout}, prim_inert:poll(Port, A, read, 0)),
        Interrupted(),
        ok = prim_inert:fdset(Port, A, write),
        Interrupted(),
        Poller = blocked(run(fun() -> prim_inert:poll(Port, [{A, [read | by_poll(Config)]}]) end)),
        %% In the drain.
        Interrupted(),
        make_readable(B),
        ?assertEqual({ok, [{A, read}]}, result(Poller)),
        ?assert(failed(poll) > 0),
        Interrupted(),
        ?assertEqual({ok, [{A, read}]}, prim_inert:poll(Port, [A])),
        %% Nobody was told too much.
        ?assertEqual(1, armed(Port)),
        no_message(),
        ok = prim_inert:stop(Port),
        close([A, B])
    end).

%%% instance

%% The instance itself; the one that stands in for ERTS's second one; and its place in that.
without_an_instance_the_default_falls_back(Config) ->
    in_faulty_vm(Config, fun() ->
        Before = inert_test:fds(),
        [
            begin
                ok = fail(Call, Errno, Skip, 1),
                ?assertError(Errno, prim_inert:start([{pollset, epoll}])),
                ok = fail(Call, Errno, Skip, 1),
                ?assertError(Errno, inert:start([{pollset, epoll}])),
                ?assertEqual(undefined, inert:pollid()),
                ?assertEqual(Before, inert_test:fds()),
                ok = fail(Call, Errno, Skip, 1),
                {ok, Port} = prim_inert:start(),
                {ok, #{pollset := erts}} = inert_drv:info(Port),
                ?assertEqual(Before, inert_test:fds()),
                works(Port),
                ok = prim_inert:stop(Port)
            end
         || {Call, Skip} <- [{epoll_create1, 0}, {epoll_create1, 1}, {epoll_ctl_add, 0}],
            Errno <- [emfile, enfile, enomem]
        ]
    end).

a_drain_that_fails_is_tried_again(Config) ->
    in_faulty_vm(Config, fun() ->
        Port = inert_test:open(Config),
        [
            begin
                {A, B} = full_pair(),
                Poller = blocked(run(fun() -> prim_inert:poll(Port, A) end)),
                ok = fail(epoll_wait, Errno, 0, Times),
                make_readable(B),
                ?assertEqual({ok, read}, result(Poller)),
                ?assertEqual(Times, failed(epoll_wait)),
                close([A, B])
            end
         || Errno <- [eintr, enomem, einval], Times <- [1, 5, 100]
        ],
        works(Port),
        ok = prim_inert:stop(Port)
    end).

an_owner_killed_while_opening_leaves_nothing(Config) ->
    in_faulty_vm(Config, fun() ->
        [
            while_held(fun() ->
                hold(epoll_create1),
                {Opener, Monitor} = spawn_monitor(fun() ->
                    move(?HELD_SCHEDULER),
                    _ = Open(),
                    receive
                        never -> ok
                    end
                end),
                held(epoll_create1),
                exit(Opener, kill),
                Held = release(epoll_create1),
                receive
                    {'DOWN', Monitor, process, Opener, killed} -> ok
                end,
                ok = Undo(),
                until(fun() -> inert_test:inert_ports() =:= [] end),
                Held
            end)
         || {Open, Undo} <- [
                {fun() -> prim_inert:start([{pollset, epoll}]) end, fun() -> ok end},
                %% This one may have done its work: what it starts outlives it.
                {fun() -> inert:start([{pollset, epoll}]) end, fun inert:stop/0}
            ]
        ]
    end).

%% More events than there is room for: what a kernel that has gone mad would say.
a_panic_in_a_drain_closes_the_port(Config) ->
    in_faulty_vm(Config, fun() ->
        {Port, Pairs = [{_, B} | _], Pollers} = polled(Config),
        unlink(Port),
        Monitor = monitor(port, Port),
        ok = answer(epoll_wait, 1000),
        make_readable(B),
        receive
            {'DOWN', Monitor, port, Port, Reason} -> panicked("ready_input", Reason)
        end,
        ?assertEqual([{error, closed}], lists:usort(results(Pollers))),
        no_message(),
        works_anew(Config),
        close(Pairs)
    end).

a_panic_in_a_request_closes_the_port(Config) ->
    in_faulty_vm(Config, fun() ->
        {Port, Pairs, Pollers} = polled(Config),
        {A, B} = full_pair(),
        unlink(Port),
        Monitor = monitor(port, Port),
        ok = answer(epoll_wait, 1000),
        %% Some requests look into the instance.
        ArmUntilClosed = fun Arm() ->
            case prim_inert:fdset(Port, A, read) of
                ok -> ok = prim_inert:fdclr(Port, A), Arm();
                Error -> Error
            end
        end,
        ?assertEqual({error, closed}, ArmUntilClosed()),
        receive
            {'DOWN', Monitor, port, Port, Reason} -> panicked("control", Reason)
        end,
        ?assertEqual([{error, closed}], lists:usort(results(Pollers))),
        no_message(),
        works_anew(Config),
        close([A, B | Pairs])
    end).

panicked(Callback, Reason) ->
    ?assertMatch("driver inert_drv: panic in " ++ _, atom_to_list(Reason)),
    ?assertNotEqual(nomatch, string:find(atom_to_list(Reason), Callback)).

%%% duplicate

%% Two ports of the erts pollset on one fd: the second needs a number of its own.
a_fd_that_cannot_be_duplicated_is_refused(Config) ->
    in_faulty_vm(Config, fun() ->
        [First, Second] = [inert_test:open(Config), inert_test:open(Config)],
        {A, B} = full_pair(),
        {C, D} = full_pair(),
        [
            begin
                Poller = blocked(run(fun() -> prim_inert:poll(First, A) end)),
                [
                    begin
                        ok = fail(dup, Errno),
                        ?assertEqual({error, Expected}, Request()),
                        ?assertEqual(0, armed(Second))
                    end
                 || {Request, Expected} <- [
                        {fun() -> prim_inert:fdset(Second, A, read) end, Errno},
                        {fun() -> prim_inert:poll(Second, A, read_write) end, Errno},
                        {fun() -> prim_inert:fdset(Second, [C, A]) end, {Errno, A}},
                        {fun() -> prim_inert:poll(Second, [C, A], ?LONG) end, {Errno, A}}
                    ]
                ],
                blocked(Poller),
                ok = prim_inert:fdset(Second, A, read),
                make_readable(B),
                make_readable(D),
                ?assertEqual({ok, read}, result(Poller)),
                ?assertEqual({inert_read, A}, inert_test:message_of(Second)),
                no_message(),
                drain(A),
                drain(C)
            end
         || Errno <- [emfile, enfile]
        ],
        [ok = prim_inert:stop(Port) || Port <- [First, Second]],
        close([A, B, C, D])
    end).

%%% files

%% The child has the waiters' fds, their peers', and the port's own.
a_forked_child_that_keeps_the_fds_disturbs_nobody(Config) ->
    in_faulty_vm(Config, fun() ->
        Port = inert_test:open(Config),
        Pairs = [{A, B}, {C, D}, {E, F}] = [full_pair() || _ <- [1, 2, 3]],
        ok = prim_inert:fdset(Port, A, read_write),
        Bystander = blocked(run(fun() -> prim_inert:poll(Port, C) end)),
        put_plan(?FORK, [1]),
        ?assertEqual({error, timeout}, prim_inert:poll(Port, E, read, 0)),
        until(fun() -> get_plan(?CHILD) =/= 0 end),
        %% The number comes back as another file, and the old file's event does not.
        ok = fdio:dup2(E, A),
        Newcomer = blocked(run(fun() -> prim_inert:poll(Port, A, read_write) end)),
        make_readable(B),
        make_writable(B),
        quiet_barrier(Port),
        blocked(Newcomer),
        no_message(),
        make_readable(F),
        ?assertEqual({ok, read}, result(Newcomer)),
        make_readable(D),
        ?assertEqual({ok, read}, result(Bystander)),
        until(fun inert_test:is_quiet/0),
        %% The port's instance stays open in the child. Another port has another.
        ok = prim_inert:stop(Port),
        works_anew(Config),
        put_plan(?RELEASE, [1]),
        until(fun() -> get_plan(?CHILD) =:= 0 end),
        close(Pairs)
    end).

a_file_in_flight_to_another_process_disturbs_nobody(Config) ->
    Port = inert_test:open(Config),
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    {From, To} = pair(),
    ok = prim_inert:fdset(Port, A, read_write),
    {ok, 1} = fdio:sendmsg(From, #{data => <<"x">>, control => [{rights, [A]}]}),
    ok = fdio:dup2(C, A),
    Newcomer = blocked(run(fun() -> prim_inert:poll(Port, A, read_write) end)),
    make_readable(B),
    make_writable(B),
    quiet_barrier(Port),
    no_message(),
    {ok, #{control := [{rights, [Elsewhere]}]}} = fdio:recvmsg(To, 1),
    ?assertEqual({ok, read}, prim_inert:poll(Port, Elsewhere, read)),
    drain(Elsewhere),
    Receiver = blocked(run(fun() -> prim_inert:poll(Port, Elsewhere, read) end)),
    make_readable(B),
    ?assertEqual({ok, read}, result(Receiver)),
    blocked(Newcomer),
    make_writable(D),
    ?assertEqual({ok, write}, result(Newcomer)),
    no_message(),
    ok = prim_inert:stop(Port),
    close([A, B, C, D, From, To, Elsewhere]).

%% Between poll(2), which finds nothing ready, and epoll_ctl(2) the number becomes a regular
%% file, which epoll refuses; or one that epoll does not find where another one was.
a_number_becomes_another_file_while_it_is_armed(Config) ->
    in_faulty_vm(Config, fun() ->
        {ok, File} = fdio:open("/etc/passwd", [read]),
        {Silent, SilentPeer} = full_pair(),
        {Between, BetweenPeer} = full_pair(),
        [
            while_held(fun() ->
                Port = inert_test:open(Config),
                {A, B} = full_pair(),
                {ok, Kept} = fdio:dup(A),
                ok = before(How, Port, A, Kept, Between),
                Call = case How of new -> epoll_ctl_add; _ -> epoll_ctl_mod end,
                hold(Call),
                Caller = run(fun() ->
                    move(?HELD_SCHEDULER),
                    Request(Port, A)
                end),
                held(Call),
                ok = fdio:dup2(Other, A),
                Held = release(Call),
                ?assertEqual({How, Other =:= File, Expected}, {How, Other =:= File, of_fd(A, result(Caller))}),
                ok = prim_inert:stop(Port),
                close([A, B, Kept]),
                Held
            end)
         || How <- [new, known, came_back],
            {Other, Request, Expected} <- [
                {File, fun(Port, A) -> prim_inert:poll(Port, A, read) end, {ok, read}},
                {File, fun(Port, A) -> prim_inert:poll(Port, [{A, read}, Silent]) end, {ok, [{fd, read}]}},
                {File,
                    fun(Port, A) ->
                        ok = prim_inert:fdset(Port, A, read),
                        inert_test:message_of(Port)
                    end,
                    {inert_read, fd}},
                {Silent, fun(Port, A) -> prim_inert:poll(Port, A, read, 1) end, {error, timeout}}
            ]
        ],
        close([File, Silent, SilentPeer, Between, BetweenPeer])
    end).

of_fd(A, {ok, [{A, Kind}]}) -> {ok, [{fd, Kind}]};
of_fd(A, {Tag, A}) -> {Tag, fd};
of_fd(_A, Result) -> Result.

%% What was armed under the number before.
before(new, _Port, _A, _Kept, _Between) ->
    ok;
before(known, Port, A, _Kept, _Between) ->
    ok = prim_inert:fdset(Port, A, read),
    prim_inert:fdclr(Port, A);
%% Another file was armed meanwhile, and this one finds what it left behind.
before(came_back, Port, A, Kept, Between) ->
    ok = prim_inert:fdset(Port, A, read),
    ok = fdio:dup2(Between, A),
    ok = prim_inert:fdset(Port, A, read),
    ok = prim_inert:fdclr(Port, A),
    fdio:dup2(Kept, A).

a_fd_of_a_set_is_closed(Config) ->
    Port = inert_test:open(Config),
    [
        begin
            {A, B} = full_pair(),
            {C, D} = full_pair(),
            Kept = [FD || Keep, {ok, FD} <- [fdio:dup(A)]],
            %% Nobody notices, and the others are told of.
            %% What is left is counted before the process ends, which takes all it has.
            Unaware = blocked(run(fun() -> [prim_inert:poll(Port, [A, C]), armed(Port)] end)),
            close(A),
            make_readable(D),
            ?assertEqual([{ok, [{C, read}]}, 0], result(Unaware)),
            drain(C),
            %% Somebody asks, and it is told with the fd.
            {E, F} = full_pair(),
            Aware = blocked(run(fun() -> prim_inert:poll(Port, [C, E]) end)),
            close(E),
            ?assertEqual({error, ebadf}, prim_inert:fdset(Port, E)),
            ?assertEqual({error, {ebadf, E}}, result(Aware)),
            ?assertEqual(0, armed(Port)),
            close([B, C, D, F | Kept])
        end
     || Keep <- [false, true]
    ],
    until(fun inert_test:is_quiet/0),
    ok = prim_inert:stop(Port).

%%% owner

%% While another process's request is in the driver, at each of its system calls.
the_owner_is_killed_in_a_request(Config) ->
    in_faulty_vm(Config, fun() ->
        Calls = case pollset(Config) of epoll -> [poll, epoll_ctl_add, epoll_ctl_mod, getfd]; erts -> [poll, fstat, getfd] end,
        [
            while_held(fun() ->
                {Owner, Port, Pairs, Pollers} = owned(Config),
                {A, B} = full_pair(),
                [ok = prim_inert:fdset(Port, A, read) || Call =:= epoll_ctl_mod],
                Expected = case Call of getfd -> ok; _ -> {error, closed} end,
                hold(Call),
                Caller = run(fun() ->
                    move(?HELD_SCHEDULER),
                    case Call of
                        getfd -> prim_inert:fdclr(Port, A);
                        _ -> prim_inert:poll(Port, A, write)
                    end
                end),
                held(Call),
                inert_test:kill(Owner),
                Held = release(Call),
                ?assertEqual({Call, Expected}, {Call, result(Caller)}),
                is_gone(Port, Pollers),
                close([A, B | Pairs]),
                Held
            end)
         || Call <- Calls
        ],
        works_anew(Config)
    end).

the_owner_is_killed_in_its_own_request(Config) ->
    in_faulty_vm(Config, fun() ->
        Main = self(),
        Calls = case pollset(Config) of epoll -> [poll, epoll_ctl_add]; erts -> [poll, fstat] end,
        [
            while_held(fun() ->
                {A, B} = full_pair(),
                {Owner, Monitor} = spawn_monitor(fun() ->
                    move(?HELD_SCHEDULER),
                    {Port, Pairs, Pollers} = polled(Config),
                    Main ! {self(), {Port, Pairs, Pollers}},
                    receive
                        go -> prim_inert:poll(Port, A)
                    end
                end),
                {Port, Pairs, Pollers} = result(Owner),
                hold(Call),
                Owner ! go,
                held(Call),
                exit(Owner, kill),
                Held = release(Call),
                receive
                    {'DOWN', Monitor, process, Owner, killed} -> ok
                end,
                is_gone(Port, Pollers),
                close([A, B | Pairs]),
                Held
            end)
         || Call <- Calls
        ],
        works_anew(Config)
    end).

%% While ERTS has the driver look at what is ready.
the_owner_is_killed_in_a_drain(Config) ->
    in_faulty_vm(Config, fun() ->
        Calls = case pollset(Config) of epoll -> [epoll_wait, poll, epoll_ctl_mod]; erts -> [poll, fstat] end,
        [
            while_held(fun() ->
                {Owner, Port, Pairs, Pollers} = owned(Config),
                {A, B} = full_pair(),
                Ready = blocked(run(fun() -> prim_inert:poll(Port, A) end)),
                Asked = [Kind || Call =:= poll, Kind <- by_poll(Config)],
                Unready = blocked(run(fun() -> prim_inert:poll(Port, A, [write | Asked]) end)),
                hold(Call),
                make_readable(B),
                held(Call),
                inert_test:kill(Owner),
                Held = release(Call),
                %% The callback goes on to its end.
                ?assertEqual({Call, {ok, read}}, {Call, result(Ready)}),
                is_gone(Port, [Unready | Pollers]),
                close([A, B | Pairs]),
                Held
            end)
         || Call <- Calls
        ],
        works_anew(Config)
    end).

%% A port with pollers of fds and of a set, and a process that is its owner and nothing
%% else.
owned(Config) ->
    Main = self(),
    Owner = spawn(fun() ->
        %% The port stays where it was opened.
        move(?HELD_SCHEDULER),
        Polled = polled(Config),
        move(?FREE_SCHEDULER),
        Main ! {self(), Polled},
        receive
            never -> ok
        end
    end),
    receive
        {Owner, {Port, Pairs, Pollers}} -> {Owner, Port, Pairs, Pollers}
    end.

polled(Config) ->
    Port = inert_test:open(Config),
    Pairs = [full_pair() || _ <- lists:seq(1, 10)],
    FDs = [FD || {FD, _} <- Pairs],
    %% As run/1, but they outlive the owner.
    Main = main(),
    Pollers = [
        spawn(fun() -> Main ! {self(), Poll()} end)
     || Poll <- [
            fun() -> prim_inert:poll(Port, [{FD, write} || FD <- FDs]) end
            | [fun() -> prim_inert:poll(Port, FD) end || FD <- FDs]
        ]
    ],
    {Port, Pairs, blocked_all(Pollers)}.

is_gone(Port, Pollers) ->
    ?assertEqual([{error, closed}], lists:usort(results(Pollers))),
    until(fun() -> erlang:port_info(Port) =:= undefined end),
    ?assertEqual({error, closed}, prim_inert:poll(Port, 0, read, 0)),
    no_message().

%%% unload

unload_leaves_those_who_wait(Config) ->
    in_faulty_vm(Config, fun() ->
        {Port, Pairs = [{A, B} | _], [Set | Pollers]} = polled(Config),
        ok = inert_drv:stop(),
        ok = inert_drv:start(),
        ok = inert_drv:stop(),
        ok = erl_ddll:unload(?DRIVER),
        %% While somebody else uses the driver, not even this closes the port.
        ok = inert_drv:start(),
        ok = result(run(fun() ->
            ok = inert_drv:start(),
            erl_ddll:unload_driver(?DRIVER)
        end)),
        ok = inert_drv:stop(),
        blocked_all([Set | Pollers]),
        ?assert(is_mapped()),
        make_readable(B),
        ?assertEqual({ok, read}, result(hd(Pollers))),
        make_writable(B),
        ?assertEqual({ok, [{A, write}]}, result(Set)),
        ok = prim_inert:stop(Port),
        ?assertEqual([{error, closed}], lists:usort(results(tl(Pollers)))),
        until(fun() -> not is_mapped() end),
        close(Pairs)
    end).

unload_driver_closes_the_port(Config) ->
    in_faulty_vm(Config, fun() ->
        {Port, Pairs, Pollers} = polled(Config),
        unlink(Port),
        Monitor = monitor(port, Port),
        ok = inert_drv:start(),
        ok = erl_ddll:unload_driver(?DRIVER),
        receive
            {'DOWN', Monitor, port, Port, driver_unloaded} -> ok
        end,
        ?assertEqual([{error, closed}], lists:usort(results(Pollers))),
        until(fun() -> not is_mapped() end),
        works_anew(Config),
        close(Pairs)
    end).

the_code_stays_until_the_callback_has_returned(Config) ->
    in_faulty_vm(Config, fun() ->
        Calls = case pollset(Config) of epoll -> [epoll_wait, poll]; erts -> [poll, fstat] end,
        [
            while_held(fun() ->
                {_Owner, Port, Pairs, Pollers} = owned(Config),
                {A, B} = full_pair(),
                Ready = blocked(run(fun() -> prim_inert:poll(Port, A, [read | by_poll(Config)]) end)),
                hold(Call),
                make_readable(B),
                held(Call),
                Main = self(),
                Unloader = run(fun() ->
                    move(?FREE_SCHEDULER),
                    ok = inert_drv:start(),
                    Main ! unloading,
                    erl_ddll:unload_driver(?DRIVER)
                end),
                receive
                    unloading -> ok
                end,
                %% ERTS waits for the callback, inside erl_ddll:try_unload/2: nobody tells of that.
                receive
                after 50 -> ok
                end,
                Mapped = is_mapped(),
                Held = release(Call),
                ?assert(Mapped orelse not Held),
                ?assertEqual({ok, read}, result(Ready)),
                ?assertEqual(ok, result(Unloader)),
                is_gone(Port, Pollers),
                until(fun() -> not is_mapped() end),
                close([A, B | Pairs]),
                Held
            end)
         || Call <- Calls
        ],
        works_anew(Config)
    end).

reload_waits_for_the_port(Config) ->
    in_faulty_vm(Config, fun() ->
        {Port, Pairs = [{_, B} | _], [_Set, Poller | _] = Pollers} = polled(Config),
        Reloader = run(fun() ->
            ok = inert_drv:start(),
            Result = erl_ddll:reload(directory(), ?DRIVER),
            ok = inert_drv:stop(),
            Result
        end),
        until(fun awaits_reload/0),
        %% Until then it does what it did.
        make_readable(B),
        ?assertEqual({ok, read}, result(Poller)),
        ok = prim_inert:stop(Port),
        ?assertEqual([{error, closed}], lists:usort(results(Pollers -- [Poller]))),
        ?assertEqual(ok, result(Reloader)),
        works_anew(Config),
        close(Pairs)
    end).

%% ERTS closes no port of a driver that was not loaded for that.
reload_driver_is_refused(Config) ->
    in_faulty_vm(Config, fun() ->
        {Port, Pairs = [{_, B} | _], [_Set, Poller | _] = Pollers} = polled(Config),
        ok = inert_drv:start(),
        ?assertMatch({error, _}, erl_ddll:reload_driver(directory(), ?DRIVER)),
        ok = inert_drv:stop(),
        blocked_all(Pollers),
        make_readable(B),
        ?assertEqual({ok, read}, result(Poller)),
        ok = prim_inert:stop(Port),
        ?assertEqual([{error, closed}], lists:usort(results(Pollers -- [Poller]))),
        close(Pairs)
    end).

%% The driver is to be loaded anew, as soon as that can be.
awaits_reload() ->
    try erl_ddll:info(?DRIVER, awaiting_load) of
        Awaiting -> Awaiting =/= []
    catch
        error:badarg -> false
    end.

is_mapped() ->
    {ok, Maps} = file:read_file("/proc/self/maps"),
    binary:match(Maps, <<"inert_drv.so">>) =/= nomatch.

directory() ->
    code:priv_dir(inert).

%%% processes

a_suspended_poller_is_told(Config) ->
    Port = inert_test:open(Config),
    [
        begin
            {A, B} = full_pair(),
            Poller = blocked(run(fun() -> Poll(Port, A) end)),
            true = erlang:suspend_process(Poller),
            %% It still waits.
            ?assertEqual({error, ebusy}, prim_inert:poll(Port, A)),
            make_readable(B),
            until(fun() -> armed(Port) =:= 0 end),
            %% Its turn is over. Others have theirs.
            ?assertEqual({ok, read}, prim_inert:poll(Port, A)),
            true = erlang:resume_process(Poller),
            ?assertEqual(Expected(A), result(Poller)),
            no_message(),
            close([A, B])
        end
     || {Poll, Expected} <- [
            {fun(P, A) -> prim_inert:poll(P, A) end, fun(_) -> {ok, read} end},
            {fun(P, A) -> prim_inert:poll(P, A, read, ?LONG) end, fun(_) -> {ok, read} end},
            {fun(P, A) -> prim_inert:poll(P, [A], ?LONG) end, fun(A) -> {ok, [{A, read}]} end}
        ]
    ],
    %% One that is killed as it is frees what it has.
    {A, B} = full_pair(),
    Poller = blocked(run(fun() -> prim_inert:poll(Port, A) end)),
    true = erlang:suspend_process(Poller),
    inert_test:kill(Poller),
    until(fun() -> armed(Port) =:= 0 end),
    ok = prim_inert:fdset(Port, A, read),
    ok = prim_inert:stop(Port),
    close([A, B]).

%% Its time is up while it sleeps, and the event comes after that: its poll ends with the
%% event or the timeout, and leaves nothing.
a_suspended_poller_that_timed_out_leaves_nothing(Config) ->
    Port = inert_test:open(Config),
    [
        begin
            {A, B} = full_pair(),
            Poller = run(fun() ->
                Result = prim_inert:poll(Port, A, read, 100),
                no_message(),
                Result
            end),
            until(fun() -> armed(Port) =:= 1 end),
            true = erlang:suspend_process(Poller),
            receive
            after 150 -> ok
            end,
            [make_readable(B) || Event],
            [until(fun() -> armed(Port) =:= 0 end) || Event],
            true = erlang:resume_process(Poller),
            ?assertEqual(case Event of true -> {ok, read}; false -> {error, timeout} end, result(Poller)),
            ?assertEqual(0, armed(Port)),
            close([A, B])
        end
     || Event <- [true, false]
    ],
    ok = prim_inert:stop(Port).

a_poller_with_a_million_messages(Config) ->
    Port = inert_test:open(Config),
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    Million = 1_000_000,
    Main = self(),
    Poller = run(fun() ->
        [self() ! N || N <- lists:seq(1, Million)],
        Results = [
            begin
                Main ! {polling, Poll},
                Poll()
            end
         || Poll <- [
                fun() -> prim_inert:poll(Port, A, read, 0) end,
                fun() -> prim_inert:poll(Port, A, read, 10) end,
                fun() -> prim_inert:poll(Port, [A, C], 10) end,
                fun() -> prim_inert:poll(Port, A) end,
                fun() -> prim_inert:poll(Port, A) end,
                fun() -> prim_inert:poll(Port, [A, C]) end,
                fun() -> drain(A), prim_inert:poll(Port, [A, {C, read_write}]) end
            ]
        ],
        {Results, process_info(self(), message_queue_len)}
    end),
    Next = fun() -> receive {polling, _} -> ok end end,
    [Next() || _ <- [1, 2, 3, 4]],
    blocked(Poller),
    make_readable(B),
    [Next() || _ <- [5, 6, 7]],
    blocked(Poller),
    make_writable(D),
    ?assertEqual(
        {
            [
                {error, timeout}, {error, timeout}, {error, timeout},
                {ok, read}, {ok, read}, {ok, [{A, read}]}, {ok, [{C, write}]}
            ],
            {message_queue_len, Million}
        },
        result(Poller)
    ),
    ?assertEqual(0, armed(Port)),
    ok = prim_inert:stop(Port),
    close([A, B, C, D]).

%%% ends

the_vm_ends_while_hundreds_poll(Config) ->
    [
        begin
            Directory = filename:join([proplists:get_value(priv_dir, Config), pollset(Config), How]),
            {Status, Output} = inert_test:erl(Directory, {?MODULE, end_vm, [pollset(Config), How]}),
            ?assertMatch({How, 0, _, {match, _}}, {How, Status, Output, re:run(Output, Expected)})
        end
     || {How, Expected} <- [
            {halt, "^$"},
            {halt_without_flushing, "^$"},
            {stop, "^$"},
            {sigterm, "SIGTERM received - shutting down\\n*$"}
        ]
    ].

%% In the VM that is to end.
end_vm([Pollset, How]) ->
    _ = spawn(fun() ->
        receive
        after ?VM_SECONDS * 1000 -> erlang:halt("does not end")
        end
    end),
    {ok, Port} = prim_inert:start([{pollset, list_to_atom(Pollset)}]),
    Pairs = [full_pair() || _ <- lists:seq(1, 300)],
    _ = blocked_all([
        spawn(fun() -> Poll(FD) end)
     || {FD, _} <- Pairs,
        Poll <- [
            fun(F) -> prim_inert:poll(Port, F) end,
            fun(F) -> prim_inert:poll(Port, [{F, write}], ?LONG) end
        ]
    ]),
    case How of
        "halt" -> halt();
        "halt_without_flushing" -> halt(0, [{flush, false}]);
        "stop" -> init:stop();
        "sigterm" -> os:cmd("kill -TERM " ++ os:getpid())
    end,
    receive
        never -> ok
    end.

%%% vms

it_works_whatever_the_flags(_Config) ->
    [
        begin
            Peer = start_vm(string:lexemes(Flags, " "), []),
            ct:log("~ts", [Flags]),
            Work = fun() -> [core(Pollset) || Pollset <- inert_test:pollsets()] end,
            ok = peer:call(Peer, ?MODULE, in_vm, [Work], ?CASE_SECONDS * 1000),
            ok = peer:stop(Peer)
        end
     || Flags <- [
            "+S 1",
            "+S 8:8 +C multi_time_warp",
            "+IOs false +A 1",
            "+IOt 4 +sbwt none +sbwtdcpu none +sbwtdio none",
            "+IOp 2 +IOt 4 +C no_time_warp",
            "+IOPp 100 +IOPt 100 +A 0"
        ]
    ].

%% The wall clock is set by a day, as one does with date(1), and the VM is to believe it.
it_works_when_the_clock_jumps(Config) ->
    [
        begin
            Peer = start_faulty(Config, ["+C", Warp]),
            Work = fun() ->
                [clock_jumps(Pollset, Days) || Pollset <- inert_test:pollsets(), Days <- [1, -1]]
            end,
            ok = peer:call(Peer, ?MODULE, in_vm, [Work], ?CASE_SECONDS * 1000),
            ok = peer:stop(Peer)
        end
     || Warp <- ["multi_time_warp", "no_time_warp"]
    ].

clock_jumps(Pollset, Days) ->
    {ok, Port} = prim_inert:start([{pollset, Pollset}]),
    Pairs = [{A, B}, {C, _}, {E, F}] = [full_pair() || _ <- [1, 2, 3]],
    Hour = blocked(run(fun() -> prim_inert:poll(Port, A, read, ?LONG) end)),
    Short = run(fun() -> prim_inert:poll(Port, C, read, 200) end),
    Ever = blocked(run(fun() -> prim_inert:poll(Port, [E]) end)),
    put_plan(?CLOCK, [Days * 86400]),
    %% The OS's time, as the VM sees it.
    Off = abs(os:system_time(second) - Days * 86400 - real_seconds()),
    ?assert(Off < 3600, Off),
    ?assertMatch([_ | _], result(run(fun() -> [core(Pollset)] end))),
    ?assertEqual({error, timeout}, result(Short)),
    blocked_all([Hour, Ever]),
    [?assert(Waiting < ?LONG) || {_, _, _, Waiting} <- waiters(Port)],
    make_readable(B),
    make_readable(F),
    ?assertEqual({ok, read}, result(Hour)),
    ?assertEqual({ok, [{E, read}]}, result(Ever)),
    ok = prim_inert:stop(Port),
    close(Pairs).

waiters(Port) ->
    {ok, Waiters, none} = inert_drv:waiters(Port, 0, 1),
    Waiters.

%% From the kernel, past the library.
real_seconds() ->
    {ok, Stat} = file:read_file("/proc/stat"),
    {match, [Boot]} = re:run(Stat, "btime (\\d+)", [{capture, all_but_first, list}]),
    {ok, Uptime} = file:read_file("/proc/uptime"),
    [Seconds | _] = string:lexemes(Uptime, ". "),
    list_to_integer(Boot) + binary_to_integer(Seconds).

%% What inert is for, in short.
core(Pollset) ->
    {ok, Port} = prim_inert:start([{pollset, Pollset}]),
    works(Port),
    Pairs = [full_pair() || _ <- lists:seq(1, 100)],
    FDs = [FD || {FD, _} <- Pairs],
    [{A, B}, {C, D} | _] = Pairs,
    %% Timeouts.
    ?assertEqual({error, timeout}, prim_inert:poll(Port, A, read_write, 0)),
    ?assertEqual({error, timeout}, prim_inert:poll(Port, A, read_write, 5)),
    ?assertEqual({error, timeout}, prim_inert:poll(Port, FDs, 5)),
    %% Many pairs, round and round.
    Echoes = [run(fun() -> echo(Port, FD, 10) end) || FD <- FDs],
    Callers = [run(fun() -> call(Port, FD, 10) end) || {_, FD} <- Pairs],
    [?assertEqual(ok, Result) || Result <- results(Echoes ++ Callers)],
    %% Sets.
    Set = blocked(run(fun() -> prim_inert:poll(Port, FDs) end)),
    make_readable(D),
    ?assertEqual({ok, [{C, read}]}, result(Set)),
    ok = prim_inert:fdset(Port, [A]),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(Port)),
    %% A number that comes back as another file.
    drain(C),
    Old = blocked(run(fun() -> prim_inert:poll(Port, C) end)),
    ok = fdio:dup2(A, C),
    ?assertEqual({ok, read}, prim_inert:poll(Port, C)),
    ?assertEqual({error, ebadf}, result(Old)),
    %% Death frees, and the port's end is told.
    drain(C),
    New = blocked(run(fun() -> prim_inert:poll(Port, C) end)),
    inert_test:kill(New),
    until(fun() -> armed(Port) =:= 0 end),
    Last = blocked(run(fun() -> prim_inert:poll(Port, lists:last(FDs)) end)),
    ok = prim_inert:stop(Port),
    ?assertEqual({error, closed}, result(Last)),
    no_message(),
    close(Pairs).

echo(Port, FD, Rounds) ->
    rounds(Rounds, fun(N) ->
        <<N>> = receive_byte(Port, FD),
        send_byte(Port, FD, N)
    end).

%% The pair was full: what filled it is taken out first.
call(Port, FD, Rounds) ->
    drain(FD),
    rounds(Rounds, fun(N) ->
        send_byte(Port, FD, N),
        <<N>> = receive_byte(Port, FD)
    end).

rounds(0, _Fun) ->
    ok;
rounds(N, Fun) ->
    Fun(N),
    rounds(N - 1, Fun).

receive_byte(Port, FD) ->
    {ok, read} = prim_inert:poll(Port, FD, read),
    {ok, Byte} = fdio:read(FD, 1),
    Byte.

send_byte(Port, FD, N) ->
    {ok, write} = prim_inert:poll(Port, FD, write),
    {ok, 1} = fdio:write(FD, <<N>>),
    ok.

%%% Tools

pollset(Config) ->
    proplists:get_value(pollset, Config).

armed(Port) ->
    {ok, #{armed := Armed}} = inert_drv:info(Port),
    Armed.

%% The port does what it should.
works(Port) ->
    {A, B} = full_pair(),
    ok = prim_inert:fdset(Port, A, read_write),
    make_readable(B),
    ?assertEqual({inert_read, A}, inert_test:message_of(Port)),
    make_writable(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
    drain(A),
    Poller = blocked(run(fun() -> prim_inert:poll(Port, A, read) end)),
    make_readable(B),
    ?assertEqual({ok, read}, result(Poller)),
    close([A, B]).

works_anew(Config) ->
    Port = inert_test:open(Config),
    works(Port),
    ok = prim_inert:stop(Port).

%%% The VM whose system calls fail

library() ->
    Suites = filename:dirname(filename:absname(code:which(?MODULE))),
    Source = filename:join([Suites, "..", "..", "test", "fault", "fault.c"]),
    Library = filename:join(Suites, "fault.so"),
    Command = ["cc -shared -fPIC -O1 -Wall -Wextra -Werror -o '", Library, "' '", Source, "' -ldl && echo built"],
    "built" ++ _ = os:cmd(lists:flatten(Command)),
    Library.

%% A VM for each case: what one breaks is not the next one's.
in_faulty_vm(Config, Work) ->
    %% More schedulers than calls that are held.
    Peer = start_faulty(Config, ["+S", "4:4"]),
    ok = peer:call(Peer, ?MODULE, in_vm, [Work], ?CASE_SECONDS * 1000),
    ok = peer:stop(Peer).

start_faulty(Config, Arguments) ->
    Name = "fault_plan." ++ integer_to_list(erlang:unique_integer([positive])),
    Plan = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(Plan, <<0:(?PLAN_BYTES * 8)>>),
    start_vm(Arguments, [{"LD_PRELOAD", proplists:get_value(library, Config)}, {"FAULT_FILE", Plan}]).

%% It ends with the case.
start_vm(Arguments, Environment) ->
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io,
        args => ["-pa", filename:dirname(code:which(?MODULE)) | Arguments],
        env => Environment
    }),
    Peer.

%% In another VM: a case's work, and the look around after it.
in_vm(Work) ->
    inert_test:init_per_suite([]),
    true = register(?MODULE, self()),
    move(min(?OWN_SCHEDULER, erlang:system_info(schedulers_online))),
    Config = inert_test:init_per_testcase([]),
    _ = Work(),
    %% Each fault was met.
    [?assertEqual({Call, 0}, {Call, get_plan(at(Call, ?TIMES))}) || has_plan(), Call <- ?CALLS],
    inert_test:end_per_testcase([{tc_status, ok} | Config]).

%% The process that runs the case.
main() ->
    whereis(?MODULE).

%% The next call fails.
fail(Call, Errno) ->
    fail(Call, Errno, 0, 1).

%% What is to be waited for beside it, if poll(2) is to be asked when an event arrives:
%% of other fds, epoll_wait(2) itself says what is ready.
by_poll(Config) ->
    [priority || pollset(Config) =:= epoll].

%% So many calls fail, after so many that do not.
fail(Call, Errno, Skip, Times) ->
    put_plan(at(Call, ?SKIP), [Skip, maps:get(Errno, ?ERRNOS), 0]),
    put_plan(at(Call, ?FAILED), [0]),
    put_plan(at(Call, ?TIMES), [Times]).

%% The next call is not made, and returns this.
answer(Call, Value) ->
    put_plan(at(Call, ?SKIP), [0, 0, Value]),
    put_plan(at(Call, ?TIMES), [1]).

failed(Call) ->
    get_plan(at(Call, ?FAILED)).

%% From now on the process runs on this scheduler, and no other.
move(Scheduler) ->
    _ = process_flag(scheduler, Scheduler),
    ok.

%% Calls wait until they are released. So does the scheduler that makes them, with all
%% that is bound to it, timers for one.
hold(Call) ->
    put_plan(at(Call, ?SKIP), [0]),
    put_plan(at(Call, ?HELD), [0, 0]),
    put_plan(at(Call, ?HOLD), [1]).

held(Call) ->
    until(fun() -> get_plan(at(Call, ?HELD)) > 0 end).

%% Whether it was held until now.
release(Call) ->
    put_plan(at(Call, ?HOLD), [0]),
    get_plan(at(Call, ?EXPIRED)) =:= 0.

%% A scheduler that is held cannot run the case, and none can be kept from taking over a
%% port's work from another. No call is held for long, then, and the scenario, which
%% returns what release/1 has, is played again.
while_held(Scenario) ->
    while_held(Scenario, 20).

while_held(Scenario, Times) when Times > 0 ->
    case Scenario() of
        true -> ok;
        false -> while_held(Scenario, Times - 1)
    end.

at(Call, Field) ->
    length(lists:takewhile(fun(C) -> C =/= Call end, ?CALLS)) * ?ROW + Field.

has_plan() ->
    os:getenv("FAULT_FILE") =/= false.

put_plan(Offset, Numbers) ->
    with_plan([read, write], fun(Plan) ->
        file:pwrite(Plan, Offset, <<<<N:32/native>> || N <- Numbers>>)
    end).

get_plan(Offset) ->
    {ok, <<N:32/native-signed>>} = with_plan([read], fun(Plan) -> file:pread(Plan, Offset, 4) end),
    N.

with_plan(Modes, Fun) ->
    {ok, Plan} = file:open(os:getenv("FAULT_FILE"), [raw, binary | Modes]),
    try
        Fun(Plan)
    after
        ok = file:close(Plan)
    end.
