%% SPDX-License-Identifier: Apache-2.0
%%
%% SPEC.md, section 4: the kinds priority and hangup, on what has them: TCP, unix sockets,
%% pipes, /proc/self/mounts, /proc/pressure; and inotify, which needs neither.
%%
%% Mounts are made by a peer VM in a mount namespace of its own, which goes when the peer
%% does. Where the machine has no such thing, or no pressure-stall information, those
%% cases are skipped and say why.
-module(kind_SUITE).

-export([suite/0]).
-export([all/0]).
-export([groups/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

%% sockets_and_pipes
-export([a_half_closed_socket_has_hung_up/1]).
-export([data_is_no_hangup/1]).
-export([a_closed_socket_has_hung_up_and_more/1]).
-export([a_pipe_without_a_writer_has_hung_up/1]).
-export([a_pipe_without_a_reader_has_hung_up/1]).
-export([a_tcp_peer_that_shuts_down_hangs_up/1]).
-export([out_of_band_data_is_priority/1]).
-export([out_of_band_data_is_told_every_time/1]).
-export([poll_names_the_first_of_what_is_ready/1]).
-export([the_kinds_in_sets/1]).

%% rules
-export([modes_are_lists_of_kinds/1]).
-export([each_kind_has_one_waiter/1]).
-export([a_waiters_death_frees_its_kinds/1]).
-export([arming_again_replaces_all_kinds/1]).
-export([a_poll_replaces_its_kinds_only/1]).
-export([fdclr_takes_what_it_says/1]).
-export([a_cleared_kind_cancels_the_poll/1]).
-export([a_reused_number_is_told_of_the_new_file/1]).
-export([a_fd_goes_from_kind_to_kind/1]).

%% mounts
-export([a_mount_is_told/1]).
-export([a_mount_that_nobody_waited_for_is_told_once/1]).
-export([no_mount_of_many_is_lost/1]).
-export([no_mount_is_lost_to_those_who_read/1]).
-export([no_mount_is_lost_to_another_port/1]).
-export([no_mount_is_lost_between_clearing_and_arming/1]).
-export([no_mount_is_lost_to_a_refused_request/1]).
-export([no_mount_is_lost_to_another_kind_that_is_named/1]).
-export([two_readers_of_mounts_in_one_set/1]).
-export([mounts_opened_anew_under_the_same_number/1]).
-export([nothing_is_told_where_nothing_happens/1]).

%% pressure
-export([pressure_is_told_again_and_again/1]).
-export([pressure_that_nobody_waited_for_is_told/1]).

%% unsupported
-export([an_unsupported_kind_is_enotsup_and_changes_nothing/1]).
-export([clearing_an_unsupported_kind_is_ok/1]).

%% neighbour
-export([inotify_is_read/1]).
-export([lists_of_read_and_write/1]).

-include_lib("stdlib/include/assert.hrl").

-define(LOOPBACK, {127, 0, 0, 1}).
-define(LONG, 3_600_000).

%% Not ready within this long is taken for not ready: only for what is known by other
%% means.
-define(SHORT, 20).

-import(inert_test, [
    pair/0,
    full_pair/0,
    close/1,
    run/1,
    blocked/1,
    result/1,
    results/1,
    kill/1,
    until/1,
    make_readable/1,
    make_writable/1,
    no_message/0
]).

suite() ->
    inert_test:suite().

all() ->
    inert_test:per_pollset(groups()).

groups() ->
    [
        {epoll, [], [{group, Name} || {Name, _, _} <- topics()] ++ [{group, neighbour}]},
        {erts, [], [{group, unsupported}, {group, neighbour}]}
        | topics()
    ] ++
        [
            {unsupported, [], [
                an_unsupported_kind_is_enotsup_and_changes_nothing,
                clearing_an_unsupported_kind_is_ok
            ]},
            {neighbour, [], [
                inotify_is_read,
                lists_of_read_and_write
            ]}
        ].

topics() ->
    [
        {sockets_and_pipes, [], [
            a_half_closed_socket_has_hung_up,
            data_is_no_hangup,
            a_closed_socket_has_hung_up_and_more,
            a_pipe_without_a_writer_has_hung_up,
            a_pipe_without_a_reader_has_hung_up,
            a_tcp_peer_that_shuts_down_hangs_up,
            out_of_band_data_is_priority,
            out_of_band_data_is_told_every_time,
            poll_names_the_first_of_what_is_ready,
            the_kinds_in_sets
        ]},
        {rules, [], [
            modes_are_lists_of_kinds,
            each_kind_has_one_waiter,
            a_waiters_death_frees_its_kinds,
            arming_again_replaces_all_kinds,
            a_poll_replaces_its_kinds_only,
            fdclr_takes_what_it_says,
            a_cleared_kind_cancels_the_poll,
            a_reused_number_is_told_of_the_new_file,
            a_fd_goes_from_kind_to_kind
        ]},
        {mounts, [], [
            a_mount_is_told,
            a_mount_that_nobody_waited_for_is_told_once,
            no_mount_of_many_is_lost,
            no_mount_is_lost_to_those_who_read,
            no_mount_is_lost_to_another_port,
            no_mount_is_lost_between_clearing_and_arming,
            no_mount_is_lost_to_a_refused_request,
            no_mount_is_lost_to_another_kind_that_is_named,
            two_readers_of_mounts_in_one_set,
            mounts_opened_anew_under_the_same_number,
            nothing_is_told_where_nothing_happens
        ]},
        {pressure, [], [
            pressure_is_told_again_and_again,
            pressure_that_nobody_waited_for_is_told
        ]}
    ].

init_per_suite(Config) ->
    _ = code:ensure_modules_loaded([os, peer, file, filelib]),
    inert_test:init_per_suite(Config).

end_per_suite(Config) ->
    inert_test:end_per_suite(Config).

init_per_group(mounts, Config) ->
    case namespace() of
        {skip, _Why} = Skip -> Skip;
        Command -> start_in_namespace(Command, Config)
    end;
init_per_group(pressure, Config) ->
    case trigger() of
        {ok, FD} ->
            close(FD),
            Config;
        {error, Reason} ->
            {skip, "no pressure-stall trigger: " ++ atom_to_list(Reason)}
    end;
init_per_group(Group, Config) ->
    inert_test:init_per_group(Group, Config).

end_per_group(mounts, Config) ->
    peer:stop(proplists:get_value(peer, Config));
end_per_group(Group, Config) ->
    inert_test:end_per_group(Group, Config).

init_per_testcase(_Case, Config0) ->
    Config = inert_test:init_per_testcase(Config0),
    ok = inert:start(),
    Config.

end_per_testcase(_Case, Config) ->
    ok = inert:stop(),
    inert_test:end_per_testcase(Config).

waiters(FD) ->
    #{waiters := Waiters} = inert:info(FD),
    lists:sort([{Kind, Pid} || #{kind := Kind, pid := Pid} <- Waiters]).

kinds(FD) ->
    [Kind || {Kind, _Pid} <- waiters(FD)].

message() ->
    Port = inert:pollid(),
    receive
        {Tag, Port, FD} -> {Tag, FD}
    end.

messages(Count) ->
    lists:sort([message() || _ <- lists:seq(1, Count)]).

none_left() ->
    inert_test:quiet_barrier(inert),
    ?assertMatch(#{armed := 0, fds := 0, polls := 0}, inert:info()),
    no_message().

%% Two connected TCP sockets of fdio.
tcp() ->
    {ok, Listener} = fdio:socket(inet, stream, 0),
    ok = fdio:bind(Listener, {?LOOPBACK, 0}),
    ok = fdio:listen(Listener, 1),
    {ok, Address} = fdio:getsockname(Listener),
    {ok, A} = fdio:socket(inet, stream, 0),
    case fdio:connect(A, Address) of
        ok -> ok;
        {error, einprogress} -> {ok, write} = inert:poll(A, write)
    end,
    {ok, read} = inert:poll(Listener),
    {ok, B} = fdio:accept(Listener),
    close(Listener),
    {A, B}.

urge(FD) ->
    {ok, 1} = fdio:send_oob(FD, <<"!">>),
    ok.

%%% Sockets and pipes

a_half_closed_socket_has_hung_up(_Config) ->
    {A, B} = full_pair(),
    ?assertEqual({error, timeout}, inert:poll(A, hangup, 0)),
    ?assertEqual({error, timeout}, inert:poll(A, hangup, ?SHORT)),
    ok = inert:fdset(A, hangup),
    Reader = blocked(run(fun() -> inert:poll(A, read, infinity) end)),
    ok = fdio:shutdown(B, write),
    ?assertEqual({inert_hangup, A}, message()),
    %% The end of the stream is something to read.
    ?assertEqual({ok, read}, result(Reader)),
    ?assertEqual({ok, hangup}, inert:poll(A, hangup)),
    ?assertEqual({error, timeout}, inert:poll(A, write, 0)),
    ok = inert:fdset(A, hangup),
    ?assertEqual({inert_hangup, A}, message()),
    none_left(),
    close([A, B]).

data_is_no_hangup(_Config) ->
    {A, B} = full_pair(),
    ok = inert:fdset(A, [hangup, priority]),
    Poller = blocked(run(fun() -> inert:poll(A, [read, write], infinity) end)),
    make_readable(B),
    ?assertEqual({ok, read}, result(Poller)),
    make_writable(B),
    ?assertEqual({ok, read}, inert:poll(A, read_write, 0)),
    inert_test:quiet_barrier(inert),
    no_message(),
    ?assertEqual([hangup, priority], kinds(A)),
    ?assertEqual({error, timeout}, inert:poll(A, [hangup, priority], ?SHORT)),
    none_left(),
    close([A, B]).

%% POLLHUP is ready for every kind.
a_closed_socket_has_hung_up_and_more(_Config) ->
    {A, B} = full_pair(),
    ok = inert:fdset(A, [read, write, priority, hangup]),
    close(B),
    ?assertEqual(
        lists:sort([{inert_read, A}, {inert_write, A}, {inert_priority, A}, {inert_hangup, A}]),
        messages(4)
    ),
    [?assertEqual({ok, Kind}, inert:poll(A, Kind)) || Kind <- [read, write, priority, hangup]],
    none_left(),
    close(A).

a_pipe_without_a_writer_has_hung_up(_Config) ->
    {ok, {Reader, Writer}} = fdio:pipe(),
    {ok, 1} = fdio:write(Writer, <<"x">>),
    ?assertEqual({error, timeout}, inert:poll(Reader, hangup, 0)),
    Poller = blocked(run(fun() -> inert:poll(Reader, hangup, infinity) end)),
    close(Writer),
    ?assertEqual({ok, hangup}, result(Poller)),
    ok = inert:fdset(Reader, [hangup]),
    ?assertEqual({inert_hangup, Reader}, message()),
    none_left(),
    close(Reader).

a_pipe_without_a_reader_has_hung_up(_Config) ->
    {ok, {Reader, Writer}} = fdio:pipe(),
    inert_test:fill(Writer),
    ok = inert:fdset(Writer, [hangup, write]),
    no_message(),
    close(Reader),
    %% POLLERR, which is ready for every kind.
    ?assertEqual(lists:sort([{inert_hangup, Writer}, {inert_write, Writer}]), messages(2)),
    ?assertEqual({ok, hangup}, inert:poll(Writer, hangup, 0)),
    none_left(),
    close(Writer).

a_tcp_peer_that_shuts_down_hangs_up(_Config) ->
    {A, B} = tcp(),
    Poller = blocked(run(fun() -> inert:poll(A, hangup, ?LONG) end)),
    {ok, 5} = fdio:write(B, <<"hello">>),
    ?assertEqual({ok, read}, inert:poll(A)),
    ?assertEqual({error, timeout}, inert:poll(A, [priority], 0)),
    ok = fdio:shutdown(B, write),
    ?assertEqual({ok, hangup}, result(Poller)),
    ?assertEqual({ok, [{A, read}, {A, write}, {A, hangup}]}, inert:poll([{A, [hangup, read, write, priority]}])),
    none_left(),
    close([A, B]).

out_of_band_data_is_priority(_Config) ->
    {A, B} = tcp(),
    ?assertEqual({error, timeout}, inert:poll(A, priority, ?SHORT)),
    ok = inert:fdset(A, priority),
    Other = blocked(run(fun() -> inert:poll(A, hangup, infinity) end)),
    urge(B),
    ?assertEqual({inert_priority, A}, message()),
    %% It is told as long as it is there, whoever has been told.
    ?assertEqual({ok, priority}, inert:poll(A, priority, 0)),
    ?assertEqual({ok, priority}, result(run(fun() -> inert:poll(A, priority) end))),
    ok = inert:fdset(A, [priority]),
    ?assertEqual({inert_priority, A}, message()),
    ?assertEqual({ok, <<"!">>}, fdio:recv_oob(A, 1)),
    %% Taken, and nothing of it is left to be told.
    ?assertEqual({error, timeout}, inert:poll(A, priority, ?SHORT)),
    kill(Other),
    none_left(),
    close([A, B]).

out_of_band_data_is_told_every_time(_Config) ->
    {A, B} = tcp(),
    Reader = run(fun() -> poll_reads(A, 0) end),
    [
        begin
            Poller = run(fun() -> wait_for_priority(A, Round rem 3) end),
            until(fun() -> lists:member(priority, kinds(A)) end),
            urge(B),
            ?assertEqual(told, result(Poller)),
            ?assertEqual({ok, <<"!">>}, fdio:recv_oob(A, 1))
        end
     || Round <- lists:seq(1, 200)
    ],
    ok = fdio:shutdown(B, write),
    ?assertEqual(ended, result(Reader)),
    ?assertEqual({ok, hangup}, inert:poll(A, [priority, hangup])),
    none_left(),
    close([A, B]).

wait_for_priority(FD, 0) ->
    {ok, priority} = inert:poll(FD, priority, infinity),
    told;
wait_for_priority(FD, 1) ->
    {ok, [{FD, priority}]} = inert:poll([{FD, priority}]),
    told;
wait_for_priority(FD, 2) ->
    ok = inert:fdset(FD, priority),
    {inert_priority, FD} = message(),
    told.

%% Somebody who polls and reads the same fd, until its end.
poll_reads(FD, Count) ->
    {ok, read} = inert:poll(FD),
    case fdio:read(FD, 100) of
        {ok, <<>>} -> ended;
        _ -> poll_reads(FD, Count + 1)
    end.

poll_names_the_first_of_what_is_ready(_Config) ->
    {A, B} = tcp(),
    urge(B),
    {ok, priority} = inert:poll(A, priority),
    {ok, 1} = fdio:write(B, <<"x">>),
    {ok, read} = inert:poll(A),
    ok = fdio:shutdown(B, write),
    {ok, hangup} = inert:poll(A, hangup),
    Order = [read, write, priority, hangup],
    [
        ?assertEqual({Mode, {ok, hd([Kind || Kind <- Order, lists:member(Kind, Mode)])}}, {Mode, Poll()})
     || Mode <- subsets(Order),
        Poll <- [
            fun() -> inert:poll(A, Mode) end,
            fun() -> inert:poll(A, lists:reverse(Mode), 0) end,
            fun() -> inert:poll(A, [{mode, Mode}]) end
        ]
    ],
    close([A, B]),
    %% The same where it waits.
    [
        begin
            {C, D} = full_pair(),
            Poller = blocked(run(fun() -> inert:poll(C, Mode) end)),
            close(D),
            ?assertEqual({Mode, {ok, hd(Mode)}}, {Mode, result(Poller)}),
            close(C)
        end
     || Mode <- subsets(Order)
    ],
    none_left().

subsets([Last]) ->
    [[Last]];
subsets([First | Rest]) ->
    Without = subsets(Rest),
    [[First]] ++ [[First | Some] || Some <- Without] ++ Without.

the_kinds_in_sets(_Config) ->
    {A, B} = tcp(),
    {C, D} = full_pair(),
    Set = [{A, [priority, hangup]}, {C, [read, hangup]}],
    ?assertEqual({error, timeout}, inert:poll(Set, ?SHORT)),
    Poller = blocked(run(fun() -> inert:poll(Set) end)),
    urge(B),
    ?assertEqual({ok, [{A, priority}]}, result(Poller)),
    Again = run(fun() ->
        ok = inert:fdset(Set),
        {message(), message(), message()}
    end),
    ok = fdio:shutdown(D, write),
    ?assertEqual(
        lists:sort([{inert_priority, A}, {inert_read, C}, {inert_hangup, C}]),
        lists:sort(tuple_to_list(result(Again)))
    ),
    ?assertEqual({ok, [{A, priority}, {C, read}, {C, hangup}]}, inert:poll(Set)),
    none_left(),
    close([A, B, C, D]).

%%% Rules

modes_are_lists_of_kinds(_Config) ->
    {A, B} = full_pair(),
    Kinds = [read, write, priority, hangup],
    [
        begin
            ok = Set(),
            ?assertEqual(lists:sort(Mode), kinds(A)),
            ok = inert:fdclr(A, Mode),
            ?assertEqual([], kinds(A)),
            ?assertEqual({error, timeout}, inert:poll(A, Mode, 0)),
            ?assertEqual({error, timeout}, inert:poll(A, Mode, 1)),
            ?assertEqual({error, timeout}, inert:poll(A, [{timeout, 1}, {mode, Mode}])),
            ?assertEqual({error, timeout}, inert:poll([{A, Mode}], 1))
        end
     || Mode <- subsets(Kinds),
        Set <- [
            fun() -> inert:fdset(A, Mode) end,
            fun() -> inert:fdset(A, lists:reverse(Mode)) end,
            fun() -> inert:fdset(A, Mode ++ Mode) end,
            fun() -> inert:fdset(A, [{mode, Mode}]) end,
            fun() -> inert:fdset([{A, Mode}]) end
        ]
    ],
    [
        begin
            ok = inert:fdset(A, Kind),
            ?assertEqual([Kind], kinds(A)),
            ok = inert:fdclr(A, [{mode, Kind}]),
            ?assertEqual([], kinds(A))
        end
     || Kind <- Kinds
    ],
    [
        begin
            ?assertEqual({error, einval}, inert:fdset(A, Mode)),
            ?assertEqual({error, einval}, inert:fdclr(A, Mode)),
            ?assertEqual({error, einval}, inert:poll(A, Mode, 0)),
            ?assertEqual({error, {einval, A}}, inert:poll([{A, Mode}], 0))
        end
     || Mode <- [[priority, foo], [hangup | priority], [read_write, hangup], [[priority]], hang_up, pri]
    ],
    none_left(),
    close([A, B]).

each_kind_has_one_waiter(_Config) ->
    {A, B} = full_pair(),
    Kinds = [read, write, priority, hangup],
    Pollers = [{Kind, blocked(run(fun() -> inert:poll(A, Kind, infinity) end))} || Kind <- Kinds],
    Before = waiters(A),
    ?assertEqual(lists:sort(Pollers), Before),
    [
        begin
            ?assertEqual({error, ebusy}, inert:fdset(A, Mode)),
            ?assertEqual({error, ebusy}, inert:poll(A, Mode, ?LONG)),
            ?assertEqual({error, {ebusy, A}}, inert:fdset([{A, Mode}])),
            ?assertEqual({error, {ebusy, A}}, inert:poll([{A, Mode}])),
            ?assertEqual(Before, waiters(A))
        end
     || Mode <- Kinds ++ subsets(Kinds)
    ],
    close(B),
    ?assertEqual([{ok, Kind} || Kind <- Kinds], results([Pid || {_, Pid} <- Pollers])),
    none_left(),
    close(A).

a_waiters_death_frees_its_kinds(_Config) ->
    {A, B} = full_pair(),
    Hangup = blocked(run(fun() -> inert:poll(A, [hangup, read], infinity) end)),
    Priority = run(fun() ->
        ok = inert:fdset(A, priority),
        receive
            never -> ok
        end
    end),
    until(fun() -> kinds(A) =:= [hangup, priority, read] end),
    kill(Hangup),
    ?assertEqual([{priority, Priority}], waiters(A)),
    ?assertEqual({error, ebusy}, inert:fdset(A, [hangup, priority])),
    kill(Priority),
    ?assertEqual([], waiters(A)),
    ok = inert:fdset(A, [hangup, priority]),
    ok = fdio:shutdown(B, write),
    ?assertEqual({inert_hangup, A}, message()),
    ok = inert:fdclr(A, priority),
    none_left(),
    close([A, B]).

arming_again_replaces_all_kinds(_Config) ->
    {A, B} = full_pair(),
    ok = inert:fdset(A, [read, priority, hangup]),
    ok = inert:fdset(A, priority),
    ?assertEqual([priority], kinds(A)),
    ok = inert:fdset(A, [write, hangup]),
    ?assertEqual([hangup, write], kinds(A)),
    ok = inert:fdset([{A, read}]),
    ?assertEqual([read], kinds(A)),
    ok = inert:fdset(A, priority),
    %% Ends as hung up, for every kind: the one that is armed is told.
    close(B),
    ?assertEqual({inert_priority, A}, message()),
    none_left(),
    close(A).

a_poll_replaces_its_kinds_only(_Config) ->
    {A, B} = full_pair(),
    ok = inert:fdset(A, [read, priority, hangup]),
    ?assertEqual({error, timeout}, inert:poll(A, [hangup, write], ?SHORT)),
    ?assertEqual([priority, read], kinds(A)),
    ?assertEqual({error, timeout}, inert:poll([{A, priority}], ?SHORT)),
    ?assertEqual([read], kinds(A)),
    make_readable(B),
    ?assertEqual({inert_read, A}, message()),
    none_left(),
    close([A, B]).

fdclr_takes_what_it_says(_Config) ->
    {A, B} = full_pair(),
    All = [read, write, priority, hangup],
    ok = inert:fdset(A, All),
    %% read_write, by default.
    ok = inert:fdclr(A),
    ?assertEqual([hangup, priority], kinds(A)),
    ok = inert:fdset(A, All),
    ok = inert:fdclr([A]),
    ?assertEqual([hangup, priority], kinds(A)),
    ok = result(run(fun() -> inert:fdclr(A, [read, hangup]) end)),
    ?assertEqual([priority], kinds(A)),
    ok = inert:fdclr(A, hangup),
    ok = inert:fdclr([{A, All}]),
    close(B),
    none_left(),
    close(A).

a_cleared_kind_cancels_the_poll(_Config) ->
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    [
        begin
            Poller = blocked(run(fun() -> inert:poll(A, [read, priority, hangup], infinity) end)),
            Set = blocked(run(fun() -> inert:poll([{A, write}, C]) end)),
            ok = inert:fdclr(A, Kind),
            ?assertEqual({error, ecanceled}, result(Poller)),
            ?assertEqual([{write, Set}], waiters(A)),
            ok = inert:fdclr(A, [write, hangup]),
            ?assertEqual({error, {ecanceled, A}}, result(Set))
        end
     || Kind <- [priority, hangup, [hangup, priority]]
    ],
    none_left(),
    close([A, B, C, D]).

a_reused_number_is_told_of_the_new_file(_Config) ->
    [
        begin
            {A, B} = tcp(),
            {C, D} = tcp(),
            Poller = blocked(run(fun() -> inert:poll(A, Old, infinity) end)),
            ok = fdio:dup2(C, A),
            close(C),
            ok = inert:fdset(A, New),
            ?assertEqual({error, ebadf}, result(Poller)),
            _ = fdio:send_oob(B, <<"!">>),
            close(B),
            inert_test:quiet_barrier(inert),
            no_message(),
            urge(D),
            case lists:member(priority, New) of
                true -> ?assertEqual({inert_priority, A}, message());
                false -> ok
            end,
            close(D),
            case lists:member(hangup, New) of
                true -> ?assertEqual({inert_hangup, A}, message());
                false -> ok
            end,
            none_left(),
            close(A)
        end
     || Old <- [priority, hangup, [read, priority]], New <- [[priority], [hangup], [priority, hangup]]
    ].

%% Registered for edges as long as priority is among what is armed, and else for one shot.
a_fd_goes_from_kind_to_kind(_Config) ->
    {A, B} = tcp(),
    [
        begin
            Mode = [Kind || Kind <- [read, priority], rand:uniform(2) =:= 1] ++ [hangup],
            Waits = run(fun() -> inert:poll(A, Mode) end),
            until(fun() -> lists:member(hangup, kinds(A)) end),
            ?assertEqual(lists:sort(Mode), kinds(A)),
            case Mode of
                [read | _] ->
                    {ok, 1} = fdio:write(B, <<"x">>),
                    ?assertEqual({ok, read}, result(Waits)),
                    {ok, _} = fdio:read(A, 10);
                [priority | _] ->
                    urge(B),
                    ?assertEqual({ok, priority}, result(Waits)),
                    {ok, _} = fdio:recv_oob(A, 1);
                [hangup] ->
                    ok = inert:fdclr(A, hangup),
                    ?assertEqual({error, ecanceled}, result(Waits))
            end
        end
     || _ <- lists:seq(1, 200)
    ],
    none_left(),
    close([A, B]).

%%% Mounts

namespace() ->
    Commands =
        case os:cmd("id -u") of
            "0\n" -> ["unshare --mount --propagation private"];
            _User -> ["unshare --mount --propagation private --map-root-user"]
        end,
    Try = " sh -c 'mount -t tmpfs none /mnt && umount /mnt && echo works' 2>&1",
    case [Command || Command <- Commands, os:cmd(Command ++ Try) =:= "works\n"] of
        [Command] -> Command;
        [] -> {skip, "unshare(1) and mount(8) make no mounts here"}
    end.

start_in_namespace(Command, Config) ->
    [Unshare | Options] = string:lexemes(Command, " "),
    Directory = filename:join(proplists:get_value(priv_dir, Config), "mounts"),
    ok = filelib:ensure_dir(filename:join(Directory, "x")),
    {ok, Peer, _} = peer:start(#{
        connection => standard_io,
        exec => {os:find_executable(Unshare), Options ++ ["sh", "-c", "exec erl \"$@\"", "erl"]},
        args => ["-pa", filename:dirname(code:which(?MODULE))]
    }),
    [{peer, Peer}, {directory, Directory} | Config].

%% Runs Fun in the namespace, with /proc/self/mounts open and a function that mounts or
%% unmounts something: one event.
with_mounts(Config, Fun) ->
    Peer = proplists:get_value(peer, Config),
    Directory = proplists:get_value(directory, Config),
    peer:call(Peer, erlang, apply, [fun() -> in_namespace(Directory, Fun) end, []], 110_000).

in_namespace(Directory, Fun) ->
    ok = application:set_env(inert, pollset, epoll),
    ok = inert:start(),
    FD = open_mounts(),
    Before = mounts(),
    try
        Fun(FD, fun() -> mount_or_unmount(Directory) end),
        ?assertMatch(#{armed := 0, fds := 0, polls := 0}, inert:info()),
        no_message()
    after
        [mount_or_unmount(Directory) || mounts() > Before],
        close(FD),
        inert:stop()
    end.

open_mounts() ->
    {ok, FD} = fdio:open("/proc/self/mounts", [read]),
    FD.

mounts() ->
    {ok, Mounts} = file:read_file("/proc/self/mounts"),
    length(binary:matches(Mounts, <<"\n">>)).

mount_or_unmount(Directory) ->
    case get(mounted) of
        true ->
            "" = os:cmd("umount " ++ Directory ++ " 2>&1"),
            put(mounted, false);
        _ ->
            "" = os:cmd("mount -t tmpfs none " ++ Directory ++ " 2>&1"),
            put(mounted, true)
    end,
    ok.

%% Waits for the next event in all the ways there are.
ways(FD) ->
    [
        fun() -> inert:poll(FD, priority, infinity) end,
        fun() -> inert:poll(FD, [priority, hangup], ?LONG) end,
        fun() ->
            {ok, [{FD, priority}]} = inert:poll([{FD, priority}]),
            {ok, priority}
        end,
        fun() ->
            ok = inert:fdset(FD, priority),
            {inert_priority, FD} = message(),
            {ok, priority}
        end,
        fun() ->
            ok = inert:fdset([{FD, priority}]),
            {inert_priority, FD} = message(),
            {ok, priority}
        end
    ].

%% One event for each way of waiting: before it waits, or while.
each_is_told(FD, Event, Rounds) ->
    [
        begin
            case When of
                waiting ->
                    Waits = run(Way),
                    until(fun() -> lists:member(priority, kinds(FD)) end),
                    Event();
                before ->
                    Event(),
                    Waits = run(Way)
            end,
            ?assertEqual({ok, priority}, result(Waits))
        end
     || _ <- lists:seq(1, Rounds), Way <- ways(FD), When <- [waiting, before]
    ].

a_mount_is_told(Config) ->
    with_mounts(Config, fun(FD, Event) ->
        ?assertEqual({error, timeout}, inert:poll(FD, priority, 0)),
        ?assertEqual({error, timeout}, inert:poll(FD, priority, ?SHORT)),
        ?assertEqual({ok, read}, inert:poll(FD, [read, priority])),
        ok = inert:fdset(FD, priority),
        inert_test:quiet_barrier(inert),
        no_message(),
        Event(),
        ?assertEqual({inert_priority, FD}, message()),
        ?assertEqual({error, timeout}, inert:poll(FD, priority, ?SHORT)),
        Poller = blocked(run(fun() -> inert:poll(FD, priority, infinity) end)),
        Event(),
        ?assertEqual({ok, priority}, result(Poller))
    end).

a_mount_that_nobody_waited_for_is_told_once(Config) ->
    with_mounts(Config, fun(FD, Event) ->
        %% Before it was ever armed, and after.
        [
            begin
                Event(),
                Between(FD),
                ?assertEqual({ok, priority}, inert:poll(FD, priority, infinity)),
                ?assertEqual({error, timeout}, inert:poll(FD, priority, 0)),
                ?assertEqual({error, timeout}, inert:poll(FD, priority, ?SHORT)),
                ok = inert:fdset(FD, priority),
                inert_test:quiet_barrier(inert),
                no_message(),
                ok = inert:fdclr(FD, priority)
            end
         || _ <- lists:seq(1, 5),
            Between <- [
                fun(_) -> ok end,
                fun(_) -> inert_test:quiet_barrier(inert) end,
                fun(_) -> Event() end
            ]
        ]
    end).

no_mount_of_many_is_lost(Config) ->
    with_mounts(Config, fun(FD, Event) -> each_is_told(FD, Event, 8) end).

%% They wait for other kinds of the same fd, and what they ask the kernel makes the file
%% forget.
no_mount_is_lost_to_those_who_read(Config) ->
    with_mounts(Config, fun(FD, Event) ->
        ?assertEqual({error, timeout}, inert:poll(FD, priority, ?SHORT)),
        Noise = [
            spawn_link(fun() -> forever(Call) end)
         || Call <- [
                fun() -> {ok, read} = inert:poll(FD, read, 0) end,
                fun() -> {ok, [{FD, read}]} = inert:poll([FD], 0) end,
                fun() -> {error, ebadf} = inert:poll(-1, read, 0) end,
                fun() -> _ = inert:poll(FD, [read, hangup], 1) end
            ]
        ],
        each_is_told(FD, Event, 6),
        quiet(Noise)
    end).

no_mount_is_lost_to_another_port(Config) ->
    with_mounts(Config, fun(FD, Event) ->
        {ok, Port} = prim_inert:start([{pollset, epoll}]),
        {ok, Other} = prim_inert:start([{pollset, erts}]),
        ?assertEqual({error, timeout}, inert:poll(FD, priority, ?SHORT)),
        Noise = [
            spawn_link(fun() -> forever(Call) end)
         || Call <- [
                fun() -> {ok, read} = prim_inert:poll(Port, FD, read, infinity) end,
                fun() -> {ok, [{FD, read}]} = prim_inert:poll(Other, [{FD, read}]) end
            ]
        ],
        each_is_told(FD, Event, 6),
        quiet(Noise),
        ok = prim_inert:stop(Port),
        ok = prim_inert:stop(Other)
    end).

forever(Call) ->
    Call(),
    receive
        {stop, Pid} ->
            unlink(Pid),
            Pid ! {stopped, self()}
    after 1 -> forever(Call)
    end.

quiet(Noise) ->
    [Pid ! {stop, self()} || Pid <- Noise],
    [
        receive
            {stopped, Pid} -> ok
        end
     || Pid <- Noise
    ].

no_mount_is_lost_between_clearing_and_arming(Config) ->
    with_mounts(Config, fun(FD, Event) ->
        [
            begin
                ok = inert:fdset(FD, Mode),
                ok = Gives(FD),
                Event(),
                [inert_test:quiet_barrier(inert) || Mode =:= priority],
                ?assertEqual({ok, priority}, inert:poll(FD, priority, infinity)),
                ?assertEqual({error, timeout}, inert:poll(FD, priority, 0))
            end
         || Mode <- [priority, [priority, hangup]],
            Gives <- [
                fun(_) -> inert:fdclr(FD, Mode) end,
                fun(_) -> result(run(fun() -> inert:fdclr([{FD, Mode}]) end)) end,
                fun(_) ->
                    {error, timeout} = inert:poll(FD, Mode, 1),
                    ok
                end
            ]
        ],
        %% A waiter that dies before it is told.
        Poller = blocked(run(fun() -> inert:poll(FD, priority, infinity) end)),
        kill(Poller),
        Event(),
        ?assertEqual({ok, priority}, inert:poll(FD, priority, infinity))
    end).

no_mount_is_lost_to_a_refused_request(Config) ->
    Closed = inert_test:closed_fd(),
    with_mounts(Config, fun(FD, Event) ->
        {A, B} = full_pair(),
        Busy = blocked(run(fun() -> inert:poll(A, write, infinity) end)),
        [
            begin
                Event(),
                ?assertEqual({error, Error}, inert:poll(Set)),
                ?assertEqual({error, Error}, inert:fdset(Set)),
                ?assertEqual({ok, priority}, inert:poll(FD, priority, infinity)),
                ?assertEqual({error, timeout}, inert:poll(FD, priority, 0)),
                %% Somebody else waits for it.
                Waits = blocked(run(fun() -> inert:poll(FD, priority, infinity) end)),
                Event(),
                ?assertEqual({error, Error}, inert:poll(lists:keyreplace(FD, 1, Set, {FD, read}))),
                ?assertEqual({ok, priority}, result(Waits))
            end
         || {Set, Error} <- [
                {[{FD, priority}, {Closed, read}], {ebadf, Closed}},
                {[{Closed, read}, {FD, priority}], {ebadf, Closed}},
                {[{FD, priority}, {A, write}], {ebusy, A}}
            ]
        ],
        kill(Busy),
        close([A, B])
    end).

%% Of several kinds that are ready a poll of one fd names the first.
no_mount_is_lost_to_another_kind_that_is_named(Config) ->
    with_mounts(Config, fun(FD, Event) ->
        ?assertEqual({error, timeout}, inert:poll(FD, priority, ?SHORT)),
        [
            begin
                Event(),
                ?assertEqual({ok, read}, inert:poll(FD, [read, priority], Timeout)),
                ?assertEqual({ok, priority}, inert:poll(FD, priority, infinity))
            end
         || Timeout <- [0, 1, infinity, 0, 1, infinity]
        ],
        %% A mount is POLLERR, too, which is ready for every kind.
        [
            begin
                Poller = blocked(run(fun() -> inert:poll(FD, [write, priority, hangup], infinity) end)),
                Event(),
                case result(Poller) of
                    {ok, priority} -> ok;
                    {ok, write} -> ?assertEqual({ok, priority}, inert:poll(FD, priority, infinity))
                end
            end
         || _ <- lists:seq(1, 10)
        ]
    end).

two_readers_of_mounts_in_one_set(Config) ->
    with_mounts(Config, fun(FD, Event) ->
        Second = open_mounts(),
        {A, B} = full_pair(),
        Set = [{FD, priority}, A, {Second, priority}],
        %% Both have been told of, whether by one poll or by two, and neither twice.
        [
            begin
                Poller = blocked(run(fun() -> inert:poll(Set) end)),
                Event(),
                {ok, First} = result(Poller),
                Rest =
                    case First of
                        [_, _] ->
                            [];
                        [_] ->
                            {ok, Others} = inert:poll(Set),
                            Others
                    end,
                ?assertEqual(lists:sort([{FD, priority}, {Second, priority}]), lists:sort(First ++ Rest)),
                ?assertEqual({error, timeout}, inert:poll(Set, 0)),
                ?assertEqual({error, timeout}, inert:poll(Set, ?SHORT))
            end
         || _ <- lists:seq(1, 20)
        ],
        %% One of them has another waiter.
        Other = blocked(run(fun() -> inert:poll(Second, priority, infinity) end)),
        Poller = blocked(run(fun() -> inert:poll([{FD, priority}, {Second, hangup}, A]) end)),
        Event(),
        ?assertEqual({ok, priority}, result(Other)),
        ?assertEqual({ok, [{FD, priority}]}, result(Poller)),
        close([A, B, Second])
    end).

mounts_opened_anew_under_the_same_number(Config) ->
    with_mounts(Config, fun(FD, Event) ->
        Number = fdio:max_fds() - 1,
        Anew = fun() ->
            New = open_mounts(),
            ok = fdio:dup2(New, Number),
            close(New)
        end,
        Anew(),
        [
            begin
                Poller = blocked(run(fun() -> inert:poll(Number, priority, infinity) end)),
                Event(),
                ?assertEqual({ok, priority}, result(Poller)),
                %% What the old file had to tell is not the new one's.
                Event(),
                close(Number),
                Anew(),
                ?assertEqual({error, timeout}, inert:poll(Number, priority, Timeout)),
                Event(),
                ?assertEqual({ok, priority}, inert:poll(Number, priority, infinity))
            end
         || Timeout <- [0, ?SHORT, 0, ?SHORT]
        ],
        %% The file is closed and opened anew while somebody waits.
        Old = blocked(run(fun() -> inert:poll(Number, priority, infinity) end)),
        close(Number),
        Anew(),
        Newcomer = run(fun() -> inert:poll(Number, priority, infinity) end),
        ?assertEqual({error, ebadf}, result(Old)),
        blocked(Newcomer),
        Event(),
        ?assertEqual({ok, priority}, result(Newcomer)),
        %% Or something else comes.
        close(Number),
        {A, B} = full_pair(),
        ok = fdio:dup2(A, Number),
        ok = inert:fdset(Number, [read, priority]),
        Event(),
        inert_test:quiet_barrier(inert),
        no_message(),
        make_readable(B),
        ?assertEqual({inert_read, Number}, message()),
        ok = inert:fdclr(Number, priority),
        close([Number, A, B]),
        ?assertEqual({ok, priority}, inert:poll(FD, priority))
    end).

nothing_is_told_where_nothing_happens(Config) ->
    with_mounts(Config, fun(FD, Event) ->
        Noise = [
            spawn_link(fun() -> forever(Call) end)
         || Call <- [
                fun() -> {ok, read} = inert:poll(FD, read, infinity) end,
                fun() -> {ok, [{FD, read}]} = inert:poll([{FD, [read, hangup]}]) end
            ]
        ],
        [?assertEqual({error, timeout}, inert:poll(FD, priority, N rem 3)) || N <- lists:seq(1, 100)],
        [
            begin
                ok = inert:fdset(FD, priority),
                ok = inert:fdclr(FD, priority)
            end
         || _ <- lists:seq(1, 100)
        ],
        Event(),
        ?assertEqual({ok, priority}, inert:poll(FD, priority)),
        [?assertEqual({error, timeout}, inert:poll([{FD, priority}], N rem 3)) || N <- lists:seq(1, 100)],
        quiet(Noise),
        no_message()
    end).

%%% Pressure

%% Tells when tasks have waited for a processor for 10 ms within the window, once in that time
%% at most. Without CAP_SYS_RESOURCE the shortest window is two seconds.
trigger() ->
    case trigger(<<"some 10000 500000">>) of
        {error, einval} -> trigger(<<"some 10000 2000000">>);
        Done -> Done
    end.

trigger(Trigger) ->
    case fdio:open("/proc/pressure/cpu", [read, write]) of
        {ok, FD} ->
            case fdio:write(FD, <<Trigger/binary, 0>>) of
                {ok, _} ->
                    {ok, FD};
                {error, _} = Error ->
                    close(FD),
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

%% While twice as many processes want to run as there are processors.
under_pressure(Fun) ->
    Count = 2 * erlang:system_info(logical_processors),
    Spinners = [
        open_port({spawn_executable, os:find_executable("timeout")}, [
            {args, ["60", "sh", "-c", "while :; do :; done"]}, exit_status, hide
        ])
     || _ <- lists:seq(1, Count)
    ],
    Pids = [integer_to_list(Pid) || Port <- Spinners, {os_pid, Pid} <- [erlang:port_info(Port, os_pid)]],
    try
        Fun()
    after
        %% Which ends what it runs.
        _ = os:cmd("kill " ++ lists:join(" ", Pids)),
        [
            receive
                {Port, {exit_status, _}} -> ok
            end
         || Port <- Spinners
        ]
    end.

pressure_is_told_again_and_again(_Config) ->
    {ok, FD} = trigger(),
    Reader = spawn_link(fun() -> forever(fun() -> {ok, read} = inert:poll(FD, read, infinity) end) end),
    under_pressure(fun() ->
        [?assertEqual({ok, priority}, (lists:nth(N, ways(FD)))()) || N <- [1, 3, 4]]
    end),
    quiet([Reader]),
    none_left(),
    close(FD).

pressure_that_nobody_waited_for_is_told(_Config) ->
    {ok, FD} = trigger(),
    {ok, Other} = trigger(),
    under_pressure(fun() ->
        ?assertEqual({ok, priority}, inert:poll(FD, priority)),
        %% When another trigger has been told of twice, so could this one have been, and those
        %% who ask for something else have made the file forget.
        [
            begin
                ?assertEqual({ok, priority}, inert:poll(Other, priority)),
                ?assertEqual({ok, read}, inert:poll(FD, read))
            end
         || _ <- [1, 2]
        ],
        inert_test:quiet_barrier(inert),
        ?assertEqual({ok, [{FD, priority}]}, inert:poll([{FD, priority}], 0))
    end),
    none_left(),
    close([FD, Other]).

%%% Unsupported

an_unsupported_kind_is_enotsup_and_changes_nothing(_Config) ->
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    ok = inert:fdset(A, read),
    Other = blocked(run(fun() -> inert:poll([{A, write}, C]) end)),
    Before = {waiters(A), waiters(C), waiters(D)},
    [
        begin
            [
                ?assertEqual({Mode, {error, enotsup}}, {Mode, Call()})
             || Call <- [
                    fun() -> inert:fdset(D, Mode) end,
                    fun() -> inert:fdset(D, [{mode, Mode}]) end,
                    fun() -> inert:poll(D, Mode) end,
                    fun() -> inert:poll(D, Mode, 0) end,
                    fun() -> inert:poll(D, [{mode, Mode}, {timeout, 1}]) end
                ]
            ],
            [
                ?assertEqual({Set, {error, {enotsup, D}}}, {Set, Call(Set)})
             || Set <- [[{A, read}, {D, Mode}], [{D, Mode}, {A, read}], [{D, Mode}]],
                Call <- [
                    fun inert:fdset/1,
                    fun inert:poll/1,
                    fun(Of) -> inert:poll(Of, 0) end,
                    fun(Of) -> inert:poll(Of, 1) end
                ]
            ],
            ?assertEqual(Before, {waiters(A), waiters(C), waiters(D)})
        end
     || Mode <- [priority, hangup, [priority, hangup], [read, hangup], [write, priority]]
    ],
    make_readable(B),
    ?assertEqual({inert_read, A}, message()),
    make_readable(D),
    ?assertEqual({ok, [{C, read}]}, result(Other)),
    none_left(),
    close([A, B, C, D]).

clearing_an_unsupported_kind_is_ok(_Config) ->
    {A, B} = full_pair(),
    ok = inert:fdset(A, read_write),
    ?assertEqual(ok, inert:fdclr(A, [priority, hangup])),
    ?assertEqual(ok, inert:fdclr([{A, hangup}, {B, priority}])),
    ?assertEqual([read, write], kinds(A)),
    ?assertEqual(ok, inert:fdclr(A, [read, hangup])),
    ?assertEqual([write], kinds(A)),
    ?assertEqual(ok, inert:fdclr([{A, [priority, write]}])),
    none_left(),
    close([A, B]).

%%% The neighbour

inotify_is_read(Config) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), "watched"),
    ok = filelib:ensure_dir(filename:join(Directory, "x")),
    {ok, FD} = fdio:inotify_init(),
    {ok, _} = fdio:inotify_add_watch(FD, Directory, [create, delete]),
    {A, B} = full_pair(),
    File = filename:join(Directory, "file"),
    ?assertEqual({error, timeout}, inert:poll(FD, read, 0)),
    Write = fun() -> ok = file:write_file(File, "x") end,
    Delete = fun() -> ok = file:delete(File) end,
    Flags = fun() ->
        {ok, Events} = fdio:inotify_read(FD),
        [Flag || #{flags := Of, name := <<"file">>} <- Events, Flag <- Of]
    end,
    Poller = blocked(run(fun() -> inert:poll(FD) end)),
    Write(),
    ?assertEqual({ok, read}, result(Poller)),
    ?assertEqual([create], Flags()),
    ok = inert:fdset([{FD, read}, A]),
    Delete(),
    ?assertEqual({inert_read, FD}, message()),
    ?assertEqual([delete], Flags()),
    ok = inert:fdclr(A),
    Set = blocked(run(fun() -> inert:poll([A, FD]) end)),
    Write(),
    ?assertEqual({ok, [{FD, read}]}, result(Set)),
    Delete(),
    ?assertEqual({ok, read}, inert:poll(FD)),
    ?assertEqual([create, delete], Flags()),
    ?assertEqual({error, timeout}, inert:poll(FD, read, ?SHORT)),
    case inert_test:own_pollset(Config) of
        true ->
            %% It has neither.
            Write(),
            ?assertEqual({error, timeout}, inert:poll(FD, [priority, hangup], ?SHORT)),
            Delete();
        false ->
            ok
    end,
    none_left(),
    close([FD, A, B]).

lists_of_read_and_write(_Config) ->
    {A, B} = full_pair(),
    ok = inert:fdset(A, [read, write]),
    ?assertEqual([read, write], kinds(A)),
    ok = inert:fdset(A, [write]),
    ?assertEqual([write], kinds(A)),
    ?assertEqual({error, timeout}, inert:poll(A, [read], ?SHORT)),
    make_readable(B),
    make_writable(B),
    ?assertEqual({inert_write, A}, message()),
    ?assertEqual({ok, read}, inert:poll(A, [write, read])),
    ?assertEqual({ok, write}, inert:poll(A, [write])),
    none_left(),
    close([A, B]).
