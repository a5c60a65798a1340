%% SPDX-License-Identifier: Apache-2.0
%%
%% The service as it is started and stopped: by hand, by the application, in supervision
%% trees, in any order and at once; what becomes of it, and of those who wait, when its port
%% or its server is killed; and what is logged then, which is these reports and no others.
-module(service_SUITE).

-export([suite/0]).
-export([all/0]).
-export([groups/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

%% by hand and by the application
-export([neither/1]).
-export([the_application_alone/1]).
-export([by_hand_under_the_application/1]).
-export([by_hand_before_the_application/1]).
-export([by_hand_after_the_application/1]).
-export([the_owner_of_what_was_started_by_hand/1]).
-export([the_owner_under_the_application/1]).
-export([a_port_whose_owner_is_dying_is_not_taken_over/1]).
-export([the_application_starts_during_a_stop/1]).
-export([stopping_ends_those_who_wait/1]).
-export([starts_stops_and_the_application_race/1]).
-export([the_application_starts_while_a_port_by_hand_is_stopped/1]).
-export([a_killed_starter_leaves_no_port/1]).

%% death
-export([a_port_that_dies_comes_back/1]).
-export([a_server_that_dies_comes_back/1]).
-export([a_start_right_after_a_kill_is_in_time/1]).
-export([the_options_of_a_start_survive_a_restart/1]).
-export([too_many_kills_end_the_application/1]).

%% configuration
-export([the_environment_says_the_pollset/1]).
-export([a_wrong_environment_is_a_readable_error/1]).
-export([a_name_that_is_taken_is_a_readable_error/1]).

%% trees
-export([the_service_in_a_tree/1]).
-export([the_service_in_a_tree_and_the_application/1]).
-export([the_service_in_a_tree_is_stopped_and_started/1]).
-export([named_ports_in_a_tree/1]).
-export([two_ports_of_one_name/1]).
-export([wrong_child_options_are_badarg/1]).
-export([a_port_dies_with_its_process_in_a_tree/1]).

%% once
-export([running_out_of_fds_is_told_with_the_call/1]).
-export([a_release_in_embedded_mode/1]).
-export([a_permanent_application_that_gives_up_ends_the_vm/1]).
-export([embedded_mode_without_a_boot_script/1]).

%% Supervisor and worker of the trees
-behaviour(supervisor).
-export([init/1]).
-export([start_owner/1]).
-export([own/2]).

%% On a peer, and in a VM of its own
-export([blocked_starter/1]).
-export([out_of_fds/0]).

-include_lib("stdlib/include/assert.hrl").

-import(inert_test, [
    full_pair/0, pair/0, make_readable/1, run/1, blocked/1, blocked_all/1, result/1, results/1, close/1, until/1, with/2
]).

-define(IN_TREE, supervisor_of_the_test).

%% Each step goes through one supervisor, whose time they share.
-define(RACERS, 5).
-define(ROUNDS, 20).

suite() ->
    inert_test:suite().

all() ->
    inert_test:per_pollset(topics()) ++ [{group, once}].

groups() ->
    inert_test:groups_per_pollset(topics()) ++
        [
            {once, [], [
                running_out_of_fds_is_told_with_the_call,
                a_release_in_embedded_mode,
                a_permanent_application_that_gives_up_ends_the_vm,
                embedded_mode_without_a_boot_script
            ]}
        ].

topics() ->
    [
        {starting, [
            neither,
            the_application_alone,
            by_hand_under_the_application,
            by_hand_before_the_application,
            by_hand_after_the_application,
            the_owner_of_what_was_started_by_hand,
            the_owner_under_the_application,
            a_port_whose_owner_is_dying_is_not_taken_over,
            the_application_starts_during_a_stop,
            stopping_ends_those_who_wait,
            starts_stops_and_the_application_race,
            the_application_starts_while_a_port_by_hand_is_stopped,
            a_killed_starter_leaves_no_port
        ]},
        {death, [
            a_port_that_dies_comes_back,
            a_server_that_dies_comes_back,
            a_start_right_after_a_kill_is_in_time,
            the_options_of_a_start_survive_a_restart,
            too_many_kills_end_the_application
        ]},
        {configuration, [
            the_environment_says_the_pollset,
            a_wrong_environment_is_a_readable_error,
            a_name_that_is_taken_is_a_readable_error
        ]},
        {trees, [
            the_service_in_a_tree,
            the_service_in_a_tree_and_the_application,
            the_service_in_a_tree_is_stopped_and_started,
            named_ports_in_a_tree,
            two_ports_of_one_name,
            wrong_child_options_are_badarg,
            a_port_dies_with_its_process_in_a_tree
        ]}
    ].

init_per_suite(Config) ->
    _ = code:ensure_modules_loaded([inert_app, inert_sup, inert_info, inert_args, supervisor, application_master]),
    ok = application:load(inert),
    %% That the application was stopped is told, each time.
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, warning),
    %% What is expected is not for the screen.
    {ok, #{level := OnScreen}} = logger:get_handler_config(default),
    ok = logger:set_handler_config(default, level, none),
    inert_test:init_per_suite([{level, Level}, {on_screen, OnScreen} | Config]).

end_per_suite(Config) ->
    ok = logger:set_primary_config(level, proplists:get_value(level, Config)),
    ok = logger:set_handler_config(default, level, proplists:get_value(on_screen, Config)),
    inert_test:end_per_suite(Config),
    application:unload(inert).

init_per_group(Group, Config) ->
    inert_test:init_per_group(Group, Config).

end_per_group(Group, Config) ->
    inert_test:end_per_group(Group, Config).

init_per_testcase(_Case, Config) ->
    inert_test:init_per_testcase(Config).

end_per_testcase(_Case, Config) ->
    _ = application:stop(inert),
    ok = inert:stop(),
    %% A case may have changed it, and failed.
    case proplists:get_value(pollset, Config) of
        undefined -> ok;
        Pollset -> application:set_env(inert, pollset, Pollset)
    end,
    inert_test:end_per_testcase(Config).

%%% Helpers

start_application() ->
    ?assertMatch({ok, [inert]}, application:ensure_all_started(inert)).

works() ->
    {A, B} = pair(),
    ?assertEqual({ok, write}, inert:poll(A, write)),
    Poller = blocked(run(fun() -> inert:poll(A) end)),
    make_readable(B),
    ?assertEqual({ok, read}, result(Poller)),
    close([A, B]).

%% The service is there, with this pollset and one port, whose owner is the server.
served(Pollset) ->
    Server = whereis(inert_server),
    Port = inert:pollid(),
    ?assertEqual([Port], inert_test:inert_ports()),
    ?assertEqual({connected, Server}, erlang:port_info(Port, connected)),
    ?assertEqual({links, [Server]}, erlang:port_info(Port, links)),
    ?assertMatch(#{pollset := Pollset, port := Port}, inert:info()),
    works(),
    Port.

not_there() ->
    ?assertEqual(undefined, inert:pollid()),
    ?assertEqual({error, closed}, inert:info()),
    ?assertEqual({error, closed}, inert:poll(0, read, 0)),
    ?assertEqual([], inert_test:inert_ports()).

pollset(Config) ->
    proplists:get_value(pollset, Config).

other(epoll) -> erts;
other(erts) -> epoll.

set_pollset(Pollset) ->
    ok = application:set_env(inert, pollset, Pollset).

%% Three who wait in each of the ways there are.
waiters(A) ->
    blocked_all([
        run(fun() -> inert:poll(A, read) end),
        run(fun() -> inert:poll(A, write, 60_000) end),
        run(fun() ->
            [{C, _}, {D, _}] = Pairs = [full_pair(), full_pair()],
            [self() ! N || N <- lists:seq(1, 100)],
            Result = inert:poll([C, {D, read_write}], infinity),
            close(Pairs),
            Result
        end)
    ]).

all_closed(Waiters) ->
    ?assertEqual([{error, closed}], lists:usort(results(Waiters))).

await_server(Old) ->
    until(fun() ->
        case {whereis(inert_server), whereis(inert)} of
            {New, Port} when is_pid(New), New =/= Old, is_port(Port) ->
                %% It is past its init by then.
                try sys:get_status(New) of
                    _ -> true
                catch
                    exit:_ -> false
                end;
            _ ->
                false
        end
    end).

%% What has been logged since the last call, as {Whose, What, Reason}, sorted: several
%% processes log at once.
logged() ->
    lists:sort([summary(Event) || Event <- inert_test:logged()]).

summary({error, {report, #{label := {supervisor, What}, report := Report}}}) ->
    {supervisor, What, proplists:get_value(reason, Report)};
summary({error, {report, #{label := {gen_server, terminate}, reason := Reason}}}) ->
    {gen_server, terminate, case Reason of {R, [_ | _]} -> R; R -> R end};
summary({error, {report, #{label := {proc_lib, crash}, report := [Crash | _]}}}) ->
    {_Class, Reason, _Stack} = proplists:get_value(error_info, Crash),
    {proc_lib, crash, Reason};
summary(Other) ->
    {other, Other}.

%% What is logged when the server ends because its port did.
port_closed(Reason) ->
    lists:sort([
        {gen_server, terminate, {port_closed, Reason}},
        {proc_lib, crash, {port_closed, Reason}},
        {supervisor, child_terminated, {port_closed, Reason}}
    ]).

killed(Port) ->
    Monitor = monitor(port, Port),
    exit(Port, kill),
    receive
        {'DOWN', Monitor, port, Port, _} -> ok
    end.

%%% by hand and by the application

neither(_Config) ->
    not_there(),
    ?assertEqual(ok, inert:stop()),
    ?assertEqual(ok, inert:stop()),
    not_there(),
    ?assertEqual({error, closed}, inert:info(0)),
    ?assertEqual({error, closed}, inert:i()).

the_application_alone(Config) ->
    start_application(),
    Port = served(pollset(Config)),
    ?assertEqual({ok, []}, application:ensure_all_started(inert)),
    ?assertEqual(Port, inert:pollid()),
    ?assertEqual(ok, application:stop(inert)),
    not_there(),
    start_application(),
    _ = served(pollset(Config)),
    ?assertEqual(ok, application:stop(inert)),
    not_there().

by_hand_under_the_application(Config) ->
    start_application(),
    Port = served(pollset(Config)),
    %% It is started already, whatever is asked for.
    ?assertEqual(ok, inert:start()),
    ?assertEqual(ok, inert:start([{pollset, other(pollset(Config))}])),
    ?assertEqual(Port, served(pollset(Config))),
    %% Stopping stops it, for the application goes on without.
    ?assertEqual(ok, inert:stop()),
    not_there(),
    ?assertEqual(ok, inert:stop()),
    ?assertEqual({ok, []}, application:ensure_all_started(inert)),
    not_there(),
    %% Whoever starts it is not the owner, so it survives them.
    ?assertEqual(ok, result(run(fun() -> inert:start() end))),
    _ = served(pollset(Config)),
    [
        begin
            ok = inert:stop(),
            ok = inert:start()
        end
     || _ <- lists:seq(1, 20)
    ],
    _ = served(pollset(Config)),
    %% A server that somebody ends normally is not missed, and can be started.
    ok = gen_server:stop(inert_server),
    not_there(),
    ?assertEqual(ok, inert:start()),
    _ = served(pollset(Config)),
    ?assertEqual(ok, application:stop(inert)),
    not_there().

%% What was started by hand goes on, with those who wait.
by_hand_before_the_application(Config) ->
    {A, B} = full_pair(),
    ok = inert:start(),
    Port = inert:pollid(),
    Poller = blocked(run(fun() -> inert:poll(A, read) end)),
    ok = inert:fdset(A, write),
    start_application(),
    ?assertEqual(Port, inert:pollid()),
    make_readable(B),
    ?assertEqual({ok, read}, result(Poller)),
    inert_test:drain(B),
    ?assertEqual({inert_write, A}, inert_test:message_of(Port)),
    ?assertEqual(Port, served(pollset(Config))),
    %% From here on the application has it.
    inert_test:drain(A),
    inert_test:fill(A),
    Waiters = waiters(A),
    ok = application:stop(inert),
    all_closed(Waiters),
    not_there(),
    close([A, B]).

by_hand_after_the_application(_Config) ->
    start_application(),
    ok = application:stop(inert),
    ok = inert:start(),
    Self = self(),
    ?assertEqual({connected, Self}, erlang:port_info(inert:pollid(), connected)),
    works(),
    start_application(),
    ok = inert:stop(),
    not_there(),
    ok = application:stop(inert),
    not_there().

the_owner_of_what_was_started_by_hand(_Config) ->
    ok = inert:start(),
    Port = inert:pollid(),
    Self = self(),
    ?assertEqual({connected, Self}, erlang:port_info(Port, connected)),
    ?assertEqual({links, []}, erlang:port_info(Port, links)),
    Owner = spawn(fun() ->
        receive
            stop -> ok
        end
    end),
    ?assertEqual(ok, prim_inert:controlling_process(inert, Owner)),
    ?assertEqual({connected, Owner}, erlang:port_info(Port, connected)),
    ?assertEqual({links, [Owner]}, erlang:port_info(Port, links)),
    ?assertEqual({error, not_owner}, prim_inert:controlling_process(inert, Self)),
    works(),
    Owner ! stop,
    until(fun() -> inert:pollid() =:= undefined end),
    not_there().

the_owner_under_the_application(Config) ->
    start_application(),
    ?assertEqual({error, not_owner}, prim_inert:controlling_process(inert, self())),
    _ = served(pollset(Config)),
    %% Nor is whoever had started it by hand before, or again.
    ok = inert:stop(),
    ok = inert:start(),
    ?assertEqual({error, not_owner}, prim_inert:controlling_process(inert, self())),
    _ = served(pollset(Config)).

%% The port of an owner that is just dying is not taken for one that goes on: that would
%% end in a crash of the server. It dies slowly, for it has a large table to leave.
a_port_whose_owner_is_dying_is_not_taken_over(Config) ->
    [
        begin
            ok = inert:start(),
            Self = self(),
            Owner = spawn(fun() ->
                Table = ets:new(large, []),
                ets:insert(Table, [{N} || N <- lists:seq(1, 500_000)]),
                Self ! ready,
                receive
                    never -> ok
                end
            end),
            receive
                ready -> ok
            end,
            ok = prim_inert:controlling_process(inert, Owner),
            Port = inert:pollid(),
            exit(Owner, kill),
            %% Quicker than the application, and the same server.
            Tree = start_tree(#{}, [inert:child_spec(inert_test:options(Config))]),
            ?assertNotEqual(Port, served(pollset(Config))),
            shutdown = stop_tree(Tree)
        end
     || _ <- [1, 2]
    ],
    ?assertEqual([], logged()).

%% The application starts while inert:stop/0 is under way, in the place of a server in a tree.
the_application_starts_during_a_stop(_Config) ->
    Server = spawn(fun() ->
        true = register(inert_server, self()),
        receive
            {system, _From, {terminate, normal}} -> ok
        end,
        true = unregister(inert_server),
        start_application()
    end),
    until(fun() -> whereis(inert_server) =:= Server end),
    ?assertEqual(ok, inert:stop()),
    not_there(),
    ?assert(is_pid(whereis(inert_sup))),
    ?assertEqual([], logged()).

stopping_ends_those_who_wait(_Config) ->
    {A, B} = full_pair(),
    [
        begin
            Start(),
            Waiters = waiters(A),
            ok = inert:fdset(B, write),
            {inert_write, B} = inert_test:message_of(inert:pollid()),
            Stop(),
            all_closed(Waiters),
            not_there(),
            _ = application:stop(inert)
        end
     || Start <- [
            fun() -> ok = inert:start() end,
            fun() -> start_application() end,
            fun() ->
                ok = inert:start(),
                start_application()
            end
        ],
        Stop <- [
            fun() -> ok = inert:stop() end,
            fun() ->
                _ = application:stop(inert),
                ok = inert:stop()
            end
        ]
    ],
    close([A, B]).

%% Many start and stop it, the application comes and goes, others wait: whatever the order,
%% there is one port at most, nobody waits on one that is gone, and nothing crashes.
starts_stops_and_the_application_race(Config) ->
    Pairs = [full_pair() || _ <- lists:seq(1, 6)],
    Application = run(fun() ->
        [
            begin
                {ok, _} = application:ensure_all_started(inert),
                [inert:pollid() || _ <- lists:seq(1, N rem 7 * 100)],
                ok = application:stop(inert)
            end
         || N <- lists:seq(1, ?ROUNDS)
        ]
    end),
    Racers = [
        run(fun() ->
            _ = rand:seed(exsss, {N, N, N}),
            race_until_gone(Application, Pairs)
        end)
     || N <- lists:seq(1, ?RACERS)
    ],
    Pollers = [
        run(fun() -> poll_until_gone(Application, A, []) end)
     || {A, _} <- Pairs
    ],
    _ = result(Application),
    _ = results(Racers),
    _ = application:stop(inert),
    ok = inert:stop(),
    ?assertEqual([], lists:usort(lists:append(results(Pollers))) -- [{error, closed}, {error, ecanceled}, {ok, read}]),
    until(fun() -> inert_test:inert_ports() =:= [] end),
    not_there(),
    ?assertEqual([], logged()),
    start_application(),
    _ = served(pollset(Config)),
    close(Pairs).

race_until_gone(Application, Pairs) ->
    case is_process_alive(Application) of
        false ->
            ok;
        true ->
            {_A, B} = lists:nth(rand:uniform(length(Pairs)), Pairs),
            case rand:uniform(6) of
                1 -> ?assertEqual(ok, inert:stop());
                2 -> ?assertEqual(ok, inert:stop());
                3 -> ?assert(lists:member(inert:fdset(B, read), [ok, {error, closed}, {error, ebusy}]));
                4 -> ?assert(lists:member(inert:fdclr(B), [ok, {error, closed}]));
                _ -> ?assertEqual(ok, inert:start())
            end,
            race_until_gone(Application, Pairs)
    end.

poll_until_gone(Application, A, Results) ->
    case is_process_alive(Application) of
        false -> Results;
        true -> poll_until_gone(Application, A, lists:usort([inert:poll(A) | Results]))
    end.

%% inert:stop/0 of a port by hand and the application's start meet at that port.
the_application_starts_while_a_port_by_hand_is_stopped(_Config) ->
    [
        begin
            ok = inert:start(),
            Port = inert:pollid(),
            start_application(),
            Server = whereis(inert_server),
            %% What a stop does that has not seen the application start.
            true = port_close(Port),
            until(fun() -> is_port(inert:pollid()) end),
            ?assertEqual(Server, whereis(inert_server)),
            works(),
            ok = application:stop(inert)
        end
     || _ <- lists:seq(1, 10)
    ],
    ?assertEqual([], logged()).

%% Killed between its steps, of which there are two that matter: before the port has its
%% name, and after. The step is made to last by a copy of the module in a VM of its own.
a_killed_starter_leaves_no_port(Config) ->
    Peer = inert_test:start_peer([]),
    try
        Options = [pollset(Config)],
        ?assertEqual({undefined, []}, peer:call(Peer, ?MODULE, blocked_starter, [[before | Options]])),
        {Port, Ports} = peer:call(Peer, ?MODULE, blocked_starter, [['after' | Options]]),
        ?assert(is_port(Port)),
        ?assertEqual([Port], Ports)
    after
        peer:stop(Peer)
    end.

%% On the peer: which port is registered, and which there are, once the starter is dead and
%% whoever guards it has acted.
blocked_starter([When, Pollset]) ->
    Beam = filename:join(filename:dirname(code:which(inert)), "inert_server.beam"),
    {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(Beam, [abstract_code]),
    Blocked = [
        case Form of
            {function, _, register_port, 2, _} -> blocked_registration(When);
            _ -> Form
        end
     || Form <- Forms
    ],
    ?assertNotEqual(Forms, Blocked),
    {ok, inert_server, Binary} = compile:forms(Blocked, []),
    {module, inert_server} = code:load_binary(inert_server, "blocked", Binary),
    register(tester, self()),
    {Starter, Monitor} = spawn_monitor(fun() -> inert:start([{pollset, Pollset}]) end),
    receive
        blocked -> ok
    end,
    Before = processes(),
    [_] = inert_test:inert_ports(),
    exit(Starter, kill),
    receive
        {'DOWN', Monitor, process, Starter, killed} -> ok
    end,
    %% The guard, if there is one, is what it had started.
    until(fun() -> [] =:= [P || P <- Before, P =/= Starter, is_guard(P), is_process_alive(P)] end),
    unregister(tester),
    Result = {inert:pollid(), inert_test:inert_ports()},
    ok = inert:stop(),
    Result.

is_guard(Pid) ->
    case process_info(Pid, [current_function, dictionary]) of
        [{current_function, {inert_server, guard, _}}, _] -> true;
        _ -> false
    end.

blocked_registration(When) ->
    Registered = [[$  | "register(Name, Port),"] || When =:= 'after'],
    Text = lists:flatten(["register_port(Name, Port) ->", Registered, " tester ! blocked, receive {Name, Port} -> true end."]),
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Form} = erl_parse:parse_form(Tokens),
    Form.

%%% death

a_port_that_dies_comes_back(Config) ->
    {A, B} = full_pair(),
    [
        begin
            start_application(),
            Port = served(pollset(Config)),
            Server = whereis(inert_server),
            Waiters = waiters(A),
            End(Port),
            all_closed(Waiters),
            await_server(Server),
            ?assertNotEqual(Port, served(pollset(Config))),
            ?assertEqual(port_closed(Reason), logged()),
            ok = application:stop(inert)
        end
     || {End, Reason} <- [
            {fun(Port) -> exit(Port, kill) end, killed},
            {fun(Port) -> exit(Port, whatever) end, whatever},
            {fun(Port) -> port_close(Port) end, normal},
            {fun(_) -> ok = prim_inert:stop(inert) end, normal}
        ]
    ],
    close([A, B]).

%% The port dies with it; the next server does not take the dying one for its own.
a_server_that_dies_comes_back(Config) ->
    {A, B} = full_pair(),
    [
        begin
            start_application(),
            Server = whereis(inert_server),
            Waiters = waiters(A),
            exit(Server, Reason),
            all_closed(Waiters),
            await_server(Server),
            _ = served(pollset(Config)),
            ?assertEqual([{supervisor, child_terminated, killed}], logged()),
            ok = application:stop(inert)
        end
     || Reason <- lists:duplicate(20, kill)
    ],
    %% What is not for it, it ignores.
    start_application(),
    Server = whereis(inert_server),
    exit(Server, normal),
    exit(Server, whatever),
    Server ! what,
    gen_server:cast(Server, what),
    ?assertEqual({error, unknown_call}, gen_server:call(Server, what)),
    ?assertEqual(Server, whereis(inert_server)),
    _ = served(pollset(Config)),
    close([A, B]).

%% inert:start/0 is ok when the service is there, not when it is about to come back.
a_start_right_after_a_kill_is_in_time(Config) ->
    {A, B} = pair(),
    [
        begin
            start_application(),
            Port = inert:pollid(),
            case N rem 2 of
                0 -> killed(Port);
                1 -> exit(whereis(inert_server), kill)
            end,
            until(fun() -> inert:pollid() =/= Port end),
            ?assertEqual(ok, inert:start()),
            ?assertEqual({ok, write}, inert:poll(A, write)),
            _ = served(pollset(Config)),
            ok = application:stop(inert)
        end
     || N <- lists:seq(1, 40)
    ],
    _ = logged(),
    close([A, B]).

the_options_of_a_start_survive_a_restart(Config) ->
    Other = other(pollset(Config)),
    start_application(),
    ok = inert:stop(),
    ok = inert:start([{pollset, Other}]),
    Port = served(Other),
    Server = whereis(inert_server),
    exit(Port, kill),
    await_server(Server),
    _ = served(Other),
    ?assertEqual(port_closed(killed), logged()),
    %% The environment counts when the application starts, not when it is set.
    set_pollset(Other),
    ok = application:stop(inert),
    start_application(),
    set_pollset(pollset(Config)),
    Next = whereis(inert_server),
    exit(served(Other), kill),
    await_server(Next),
    _ = served(Other),
    ?assertEqual(port_closed(killed), logged()).

too_many_kills_end_the_application(_Config) ->
    {A, B} = full_pair(),
    start_application(),
    Supervisor = whereis(inert_sup),
    Monitor = monitor(process, Supervisor),
    kill_until_down(Monitor),
    until(fun() -> not lists:keymember(inert, 1, application:which_applications()) end),
    Logged = logged(),
    ?assertEqual([{supervisor, shutdown, reached_max_restart_intensity}], [L || {supervisor, shutdown, _} = L <- Logged]),
    ?assertEqual([], [L || L <- Logged, not lists:member(L, port_closed(killed)), element(2, L) =/= shutdown]),
    not_there(),
    %% By hand it works, and the application can be started again.
    ok = inert:start(),
    works(),
    start_application(),
    works(),
    close([A, B]).

kill_until_down(Monitor) ->
    case inert:pollid() of
        undefined -> ok;
        Port -> exit(Port, kill)
    end,
    receive
        {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(shutdown, Reason)
    after 1 -> kill_until_down(Monitor)
    end.

%%% configuration

the_environment_says_the_pollset(Config) ->
    Other = other(pollset(Config)),
    start_application(),
    _ = served(pollset(Config)),
    ok = application:stop(inert),
    set_pollset(Other),
    start_application(),
    _ = served(Other),
    ok = application:stop(inert),
    ok = inert:start(),
    ?assertMatch(#{pollset := Other}, inert:info()),
    ok = inert:stop(),
    ok = application:unset_env(inert, pollset),
    start_application(),
    %% On Linux.
    _ = served(epoll).

a_wrong_environment_is_a_readable_error(_Config) ->
    [
        begin
            set_pollset(Wrong),
            {error, {inert, {{shutdown, {failed_to_start_child, inert_server, Reason}}, {inert_app, start, _}}}} =
                application:ensure_all_started(inert),
            ?assertEqual({bad_options, [{pollset, Wrong}]}, Reason),
            ?assertEqual(
                [{proc_lib, crash, Reason}, {supervisor, start_error, Reason}],
                %% Beside the application master's own, of the whole application.
                [Report || {_, _, R} = Report <- logged(), R =:= Reason]
            ),
            not_there(),
            ?assertEqual([1], inert_test:badarg_position(fun() -> inert:start() end)),
            not_there()
        end
     || Wrong <- [foo, [], "epoll", {pollset, epoll}, 1]
    ].

%% The name is somebody else's.
a_name_that_is_taken_is_a_readable_error(_Config) ->
    Self = self(),
    true = register(inert, Self),
    {error, {inert, {{shutdown, {failed_to_start_child, inert_server, Reason}}, _}}} =
        application:ensure_all_started(inert),
    ?assertEqual({name_taken, inert, Self}, Reason),
    ?assertMatch([_ | _], logged()),
    ?assertEqual(ok, inert:stop()),
    ?assertEqual(Self, whereis(inert)),
    true = unregister(inert),
    %% A port, but none of the driver's.
    Foreign = open_port({spawn, "cat"}, []),
    true = register(inert, Foreign),
    {error, {inert, {{shutdown, {failed_to_start_child, inert_server, Taken}}, _}}} =
        application:ensure_all_started(inert),
    ?assertEqual({name_taken, inert, Foreign}, Taken),
    ?assertMatch([_ | _], logged()),
    ?assertEqual({connected, Self}, erlang:port_info(Foreign, connected)),
    true = port_close(Foreign).

%%% trees

%% A supervisor, not linked to the test, so that its end ends the test only where it asks.
start_tree(Flags, Children) ->
    {ok, Supervisor} = supervisor:start_link({local, ?IN_TREE}, ?MODULE, {Flags, Children}),
    unlink(Supervisor),
    Supervisor.

init({_Flags, _Children} = Tree) ->
    {ok, Tree}.

stop_tree(Supervisor) ->
    Monitor = monitor(process, Supervisor),
    exit(Supervisor, shutdown),
    receive
        {'DOWN', Monitor, process, Supervisor, Reason} -> Reason
    end.

children() ->
    [{Id, Pid} || {Id, Pid, _, _} <- lists:sort(supervisor:which_children(?IN_TREE))].

the_service_in_a_tree(Config) ->
    {A, B} = full_pair(),
    Spec = inert:child_spec(inert_test:options(Config)),
    ?assertMatch(ok, supervisor:check_childspecs([Spec])),
    Tree = start_tree(#{}, [Spec]),
    Port = served(pollset(Config)),
    Server = whereis(inert_server),
    ?assertEqual([{inert_server, Server}], children()),
    ?assertEqual(ok, inert:start()),
    ?assertEqual(Port, inert:pollid()),
    Waiters = waiters(A),
    exit(Port, kill),
    all_closed(Waiters),
    await_server(Server),
    _ = served(pollset(Config)),
    ?assertEqual(port_closed(killed), logged()),
    More = waiters(A),
    shutdown = stop_tree(Tree),
    all_closed(More),
    not_there(),
    %% What is there already is taken over, as by the application.
    ok = inert:start(inert_test:options(Config)),
    ByHand = inert:pollid(),
    Next = start_tree(#{}, [Spec]),
    ?assertEqual(ByHand, served(pollset(Config))),
    shutdown = stop_tree(Next),
    not_there(),
    close([A, B]).

%% There is one service: who comes second is told who has it.
the_service_in_a_tree_and_the_application(Config) ->
    Tree = start_tree(#{}, [inert:child_spec(inert_test:options(Config))]),
    Server = whereis(inert_server),
    {error, {inert, {{shutdown, {failed_to_start_child, inert_server, Reason}}, _}}} =
        application:ensure_all_started(inert),
    ?assertEqual({already_started, Server}, Reason),
    ?assertMatch([_ | _], logged()),
    _ = served(pollset(Config)),
    shutdown = stop_tree(Tree),
    start_application(),
    Application = whereis(inert_server),
    %% In a process of its own: only before OTP 26 is there an 'EXIT' message, too.
    Starter = run(fun() ->
        process_flag(trap_exit, true),
        supervisor:start_link(?MODULE, {#{}, [inert:child_spec([])]})
    end),
    {error, {shutdown, {failed_to_start_child, inert_server, InTree}}} = result(Starter),
    ?assertEqual({already_started, Application}, InTree),
    ?assertMatch([_ | _], logged()),
    _ = served(pollset(Config)).

the_service_in_a_tree_is_stopped_and_started(Config) ->
    Tree = start_tree(#{}, [inert:child_spec(inert_test:options(Config))]),
    Waiters = (fun({A, _} = Pair) -> {Pair, waiters(A)} end)(full_pair()),
    ?assertEqual(ok, inert:stop()),
    all_closed(element(2, Waiters)),
    not_there(),
    %% It has ended as normal, and stays away. So a start is one by hand.
    ?assertEqual([{inert_server, undefined}], children()),
    ?assertEqual(ok, inert:start()),
    Self = self(),
    ?assertEqual({connected, Self}, erlang:port_info(inert:pollid(), connected)),
    works(),
    %% The user's supervisor may have it again.
    {ok, Server} = supervisor:restart_child(?IN_TREE, inert_server),
    ?assertEqual(Server, whereis(inert_server)),
    _ = served(pollset(Config)),
    [
        begin
            ?assertEqual(ok, inert:stop()),
            ?assertEqual(ok, inert:start())
        end
     || _ <- lists:seq(1, 20)
    ],
    ok = inert:stop(),
    not_there(),
    ?assertEqual([], logged()),
    shutdown = stop_tree(Tree),
    close(element(1, Waiters)).

named_ports_in_a_tree(Config) ->
    {A, B} = full_pair(),
    Pollsets = [{inert_of_a, epoll}, {inert_of_b, erts}],
    Specs = [inert:child_spec([{name, Name}, {pollset, Pollset}]) || {Name, Pollset} <- Pollsets],
    ok = supervisor:check_childspecs(Specs),
    Tree = start_tree(#{}, [inert:child_spec(inert_test:options(Config)) | Specs]),
    _ = [
        ?assertMatch(#{pollset := Pollset}, prim_inert:info(Name))
     || {Name, Pollset} <- Pollsets
    ],
    ?assertEqual(3, length(inert_test:inert_ports())),
    works(),
    %% Each is one of its own: all wait for the same.
    Pollers = blocked_all([run(fun() -> prim_inert:poll(Name, A) end) || {Name, _} <- Pollsets]),
    make_readable(B),
    ?assertEqual([{ok, read}, {ok, read}], results(Pollers)),
    inert_test:drain(A),
    %% Stopping the service leaves them alone.
    Waiting = blocked(run(fun() -> prim_inert:poll(inert_of_b, A) end)),
    ok = inert:stop(),
    %% Kill the server of one: it comes back under its name, the other does not notice.
    Before = whereis(inert_of_a),
    Blocked = blocked(run(fun() -> prim_inert:poll(inert_of_a, A) end)),
    exit(proplists:get_value({inert_server, inert_of_a}, children()), kill),
    ?assertEqual({error, closed}, result(Blocked)),
    until(fun() -> not lists:member(whereis(inert_of_a), [Before, undefined]) end),
    ?assertMatch(#{pollset := epoll}, prim_inert:info(inert_of_a)),
    _ = sys:get_state(proplists:get_value({inert_server, inert_of_a}, children())),
    ?assertEqual([{supervisor, child_terminated, killed}], logged()),
    make_readable(B),
    ?assertEqual({ok, read}, result(Waiting)),
    shutdown = stop_tree(Tree),
    ?assertEqual([undefined, undefined], [whereis(Name) || {Name, _} <- Pollsets]),
    close([A, B]).

two_ports_of_one_name(Config) ->
    Options = [{name, inert_of_a} | inert_test:options(Config)],
    Spec = inert:child_spec(Options),
    Tree = start_tree(#{}, [Spec]),
    Port = whereis(inert_of_a),
    {error, {Reason, _}} = supervisor:start_child(?IN_TREE, Spec#{id := another}),
    ?assertEqual({name_taken, inert_of_a, Port}, Reason),
    ?assertMatch([_ | _], logged()),
    %% A process has the name.
    true = register(inert_of_b, self()),
    {error, {Taken, _}} = supervisor:start_child(?IN_TREE, inert:child_spec([{name, inert_of_b}])),
    ?assertEqual({name_taken, inert_of_b, self()}, Taken),
    ?assertMatch([_ | _], logged()),
    true = unregister(inert_of_b),
    ?assertEqual([Port], inert_test:inert_ports()),
    ?assertMatch(#{port := Port}, prim_inert:info(inert_of_a)),
    shutdown = stop_tree(Tree).

wrong_child_options_are_badarg(_Config) ->
    [
        ?assertEqual({Options, [1]}, {Options, inert_test:badarg_position(fun() -> inert:child_spec(Options) end)})
     || Options <- [
            foo, [foo], [{name, "a"}], [{name, undefined}], [{pollset, foo}], [{foo, a}],
            [{name, a} | foo], [{name}], {name, a}, [{pollset, epoll}, {pollset, foo}]
        ]
    ],
    %% The first of several values for one option counts.
    ?assertMatch(
        #{id := {inert_server, a}, start := {_, _, [a, [{pollset, erts} | _]]}, restart := transient},
        inert:child_spec([{name, a}, {pollset, erts}, {name, b}, {pollset, epoll}])
    ),
    ?assertMatch(#{id := inert_server}, inert:child_spec([{name, inert}, {name, b}])),
    ?assertMatch(#{id := inert_server}, inert:child_spec([])).

%% A port of prim_inert's has an owner in a tree of the user's, and ends with it.
a_port_dies_with_its_process_in_a_tree(Config) ->
    {A, B} = full_pair(),
    Child = #{id => owner, start => {?MODULE, start_owner, [inert_test:options(Config)]}},
    Tree = start_tree(#{}, [Child]),
    [{owner, Owner}] = children(),
    Owner ! {port, self()},
    receive
        {Owner, Port} -> ok
    end,
    ?assertEqual({connected, Owner}, erlang:port_info(Port, connected)),
    Pollers = blocked_all([run(fun() -> prim_inert:poll(Port, A, Mode) end) || Mode <- [read, write]]),
    exit(Owner, kill),
    all_closed(Pollers),
    until(fun() -> [] =/= inert_test:inert_ports() -- [Port] end),
    [Next] = inert_test:inert_ports(),
    Poller = blocked(run(fun() -> prim_inert:poll(Next, A) end)),
    ?assertEqual([{supervisor, child_terminated, killed}], logged()),
    shutdown = stop_tree(Tree),
    ?assertEqual({error, closed}, result(Poller)),
    ?assertEqual({error, closed}, prim_inert:info(Next)),
    not_there(),
    close([A, B]).

start_owner(Options) ->
    proc_lib:start_link(?MODULE, own, [self(), Options]).

own(Parent, Options) ->
    {ok, Port} = prim_inert:start(Options),
    proc_lib:init_ack(Parent, {ok, self()}),
    owner_loop(Port).

owner_loop(Port) ->
    receive
        {port, From} -> From ! {self(), Port}
    end,
    owner_loop(Port).

%%% once

%% The epoll instance is a fd, of which there is none left.
running_out_of_fds_is_told_with_the_call(_Config) ->
    %% So that taking them all is quick.
    Limited = "ulimit -n 100; exec erl \"$@\"",
    {ok, Peer, _} = peer:start(#{
        connection => standard_io,
        exec => {"/bin/sh", ["-c", Limited, "erl"]},
        args => ["-pa", filename:dirname(code:which(?MODULE))]
    }),
    try
        {Started, Child, ByHand, Later} = peer:call(Peer, ?MODULE, out_of_fds, [], infinity),
        Reason = {emfile, {erlang, open_port, [{spawn_driver, "inert_drv epoll"}, []]}},
        ?assertMatch({error, {inert, {{shutdown, {failed_to_start_child, inert_server, Reason}}, _}}}, Started),
        %% As the doc of child_spec/1 has it, and of start/1.
        ?assertEqual(Reason, Child),
        ?assertEqual(emfile, ByHand),
        ?assertEqual({Reason, ok}, Later)
    after
        peer:stop(Peer)
    end.

%% On the peer.
out_of_fds() ->
    Pollset = epoll,
    ok = application:load(inert),
    set_pollset(Pollset),
    _ = code:ensure_modules_loaded([inert_test, inert, inert_app, inert_sup, inert_server, inert_args, inert_drv, prim_inert]),
    %% The driver's file is open only while it is loaded.
    ok = inert_drv:start(),
    Taken = take_all_fds([]),
    Started = application:ensure_all_started(inert),
    process_flag(trap_exit, true),
    Child =
        case inert_server:start_link(inert, [{pollset, Pollset}]) of
            {error, Reason} -> Reason;
            Other -> Other
        end,
    ByHand = raised(fun() -> inert:start() end),
    close(Taken),
    {ok, _} = application:ensure_all_started(inert),
    ok = inert:stop(),
    Again = take_all_fds([]),
    %% Under the application, from whoever starts it.
    Later = raised(fun() -> inert:start() end),
    close(Again),
    {Started, Child, ByHand, {Later, inert:start()}}.

take_all_fds(FDs) ->
    case fdio:eventfd() of
        {ok, FD} -> take_all_fds([FD | FDs]);
        {error, emfile} -> FDs
    end.

raised(Fun) ->
    try
        Fun()
    catch
        error:Reason -> Reason
    end.

%% A boot script as systools makes it: all modules are loaded at boot, none later.
boot_script(Config, Name) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = filelib:ensure_dir(filename:join(Directory, "x")),
    Versions = [{Application, version(Application)} || Application <- [kernel, stdlib, inert]],
    Release = {release, {Name, "1"}, {erts, erlang:system_info(version)}, [
        case Version of
            {inert, V} -> {inert, V, permanent};
            _ -> Version
        end
     || Version <- Versions
    ]},
    Base = filename:join(Directory, Name),
    ok = file:write_file(Base ++ ".rel", io_lib:format("~p.~n", [Release])),
    %% fdio and the tests are no part of the release.
    {ok, _, _} = systools:make_script(Base, [local, no_warn_sasl, {outdir, Directory}, {path, [filename:dirname(code:which(inert))]}, silent]),
    Base.

version(Application) ->
    _ = application:load(Application),
    {ok, Version} = application:get_key(Application, vsn),
    Version.

erl(Arguments) ->
    Port = open_port({spawn_executable, os:find_executable("erl")}, [
        {args, ["-noinput" | Arguments]}, exit_status, stderr_to_stdout, binary, hide
    ]),
    output(Port, []).

output(Port, Output) ->
    receive
        {Port, {data, Data}} -> output(Port, [Output, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Output)}
    end.

a_release_in_embedded_mode(Config) ->
    Boot = boot_script(Config, "embedded"),
    Eval =
        "#{pollset := P} = inert:info(), {ok, []} = application:ensure_all_started(inert),"
        "{error, ebadf} = inert:poll(-1),"
        "{links, [S]} = erlang:port_info(inert:pollid(), links), S = whereis(inert_server),"
        "{'EXIT', {badarg, _}} = (catch inert:poll(foo)), inert:i(),"
        "io:format(\"~p ~p~n\", [code:get_mode(), P]), init:stop().",
    {0, Output} = erl(["-mode", "embedded", "-boot", Boot, "-inert", "pollset", "erts", "-eval", Eval]),
    ?assertMatch([<<"inert, pollset erts: ", _/binary>>, <<"embedded erts">>], binary:split(Output, <<"\n">>, [global, trim_all])).

%% As OTP has it for permanent applications: the VM goes, and says why.
a_permanent_application_that_gives_up_ends_the_vm(Config) ->
    Boot = boot_script(Config, "permanent"),
    Eval =
        "Kill = fun(Kill) -> case inert:pollid() of undefined -> ok; P -> exit(P, kill) end, timer:sleep(1), Kill(Kill) end,"
        "spawn(fun() -> Kill(Kill) end).",
    {Status, Output} = erl(["-mode", "embedded", "-boot", Boot, "-eval", Eval, "-env", "ERL_CRASH_DUMP", "/dev/null"]),
    ?assertEqual(1, Status),
    [
        ?assertMatch({Text, [_ | _]}, {Text, [found || _ <- [1], nomatch =/= string:find(Output, Text)]})
     || Text <- ["{port_closed,killed}", "reached_max_restart_intensity", "Kernel pid terminated", "inert"]
    ].

%% `erl -mode embedded -pa ...': nothing is loaded by being called.
embedded_mode_without_a_boot_script(_Config) ->
    Ebin = filename:dirname(code:which(inert)),
    Eval =
        "ok = application:load(inert), {ok, Modules} = application:get_key(inert, modules),"
        "ok = code:ensure_modules_loaded(Modules), {ok, [inert]} = application:ensure_all_started(inert),"
        "#{pollset := P} = inert:info(), io:format(\"~p ~p~n\", [code:get_mode(), P]), init:stop().",
    {Status, Output} = erl(["-mode", "embedded", "-pa", Ebin, "-eval", Eval]),
    ?assertEqual({0, <<"embedded epoll\n">>}, {Status, Output}).
