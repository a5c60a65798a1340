%% SPDX-License-Identifier: Apache-2.0
%%
%% The examples, as a user would run them, on the real kernel and every pollset: what they
%% promise, and what they answer when something goes wrong. After each case nothing may be
%% left behind: see inert_test.
-module(example_SUITE).

-export([suite/0]).
-export([all/0]).
-export([groups/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

%% unix
-export([unix_fds_from_another_program_are_polled/1]).
-export([unix_messages_arrive_whole_and_in_order/1]).
-export([unix_fds_that_are_too_many_are_closed/1]).
-export([unix_fds_that_have_no_number_are_told_and_the_rest_closed/1]).
-export([unix_a_stream_that_ends_amid_a_message_says_so/1]).
-export([unix_long_messages_are_refused/1]).
-export([unix_waits_end_in_time/1]).
-export([unix_a_file_left_behind_is_replaced/1]).
-export([unix_connecting_to_nobody_says_so/1]).
-export([unix_connecting_waits_for_the_backlog/1]).
-export([unix_a_datagram_waits_for_room/1]).
-export([unix_a_bad_datagram_is_gone_and_the_next_is_good/1]).

%% udp
-export([udp_answers_from_the_address_it_was_asked_at/1]).
-export([udp_without_ancillary_data_answers_from_another/1]).
-export([udp_over_ipv6/1]).
-export([udp_datagrams_of_every_length/1]).
-export([udp_many_clients_at_once/1]).
-export([udp_errors_are_told/1]).
-export([udp_server_ends_with_inert/1]).

%% watch
-export([watch_tells_every_change_in_order/1]).
-export([watch_tells_the_halves_of_a_rename_apart/1]).
-export([watch_tells_no_more_than_is_asked_for/1]).
-export([watch_tells_that_the_queue_overflowed/1]).
-export([watch_ends_with_its_directory/1]).
-export([watch_errors_are_told/1]).
-export([watch_ends_with_its_owner/1]).
-export([watch_ends_with_inert/1]).

%% fdtimer
-export([fdtimer_counts_its_periods/1]).
-export([fdtimer_counts_what_was_missed/1]).
-export([fdtimer_errors_are_told/1]).
-export([fdtimer_is_closed_when_the_function_fails/1]).

%% event
-export([event_counts_what_is_posted/1]).
-export([event_semaphore_gives_one_at_a_time/1]).
-export([event_is_posted_by_another_program/1]).
-export([event_errors_are_told/1]).

%% pidfd
-export([pidfd_waits_for_a_program/1]).
-export([pidfd_stops_a_program_that_is_nobodys_child/1]).
-export([pidfd_kills_what_does_not_stop/1]).
-export([pidfd_of_a_program_that_has_ended/1]).

%% splice
-export([splice_moves_both_ways_under_slow_readers/1]).
-export([splice_joins_unlike_fds/1]).
-export([splice_reads_no_more_than_can_be_written/1]).
-export([splice_passes_the_end_on_and_goes_on/1]).
-export([splice_ends_with_an_error_of_either_side/1]).
-export([splice_errors_are_told/1]).
-export([splice_ends_when_idle_or_with_inert/1]).
-export([splice_leaves_the_mailbox_alone/1]).

%% echo
-export([echo_gives_everything_back/1]).
-export([echo_serves_no_more_than_it_should/1]).
-export([echo_closes_idle_connections/1]).
-export([echo_survives_its_connections/1]).
-export([echo_errors_are_told/1]).
-export([echo_ends_with_inert/1]).

%% conn
-export([conn_reads_a_greeting_in_pieces/1]).
-export([conn_errors_are_told/1]).

%% On a peer
-export([send_pipe/1]).
-export([post_event/1]).

-include_lib("stdlib/include/assert.hrl").

-define(LOOPBACK, {127, 0, 0, 1}).

%% Longer than a case may take.
-define(LONG, 3_600_000).

%% Not ready within this long is taken for not ready: only for what is known by other means.
-define(SHORT, 20).

-import(inert_test, [pair/0, close/1, run/1, blocked/1, result/1, results/1, no_message/0, until/1]).

suite() ->
    inert_test:suite().

all() ->
    inert_test:per_pollset(topics()).

groups() ->
    inert_test:groups_per_pollset(topics()).

topics() ->
    Cases = [Case || {Case, 1} <- ?MODULE:module_info(exports)],
    [
        {Example, [Case || Case <- Cases, lists:prefix(atom_to_list(Example) ++ "_", atom_to_list(Case))]}
     || Example <- examples()
    ].

examples() ->
    [unix, udp, watch, fdtimer, event, pidfd, splice, echo, conn].

init_per_suite(Config) ->
    ok = code:ensure_modules_loaded(examples()),
    inert_test:init_per_suite(Config).

end_per_suite(Config) ->
    inert_test:end_per_suite(Config).

init_per_group(Group, Config) ->
    inert_test:init_per_group(Group, Config).

end_per_group(Group, Config) ->
    inert_test:end_per_group(Group, Config).

init_per_testcase(_Case, Config0) ->
    Config = inert_test:init_per_testcase(Config0),
    ok = inert:start(),
    Name = lists:concat(["inert-example-", os:getpid(), "-", erlang:unique_integer([positive])]),
    Directory = filename:join(os:getenv("TMPDIR", "/tmp"), Name),
    ok = file:make_dir(Directory),
    [{directory, Directory} | Config].

end_per_testcase(_Case, Config) ->
    ok = file:del_dir_r(proplists:get_value(directory, Config)),
    ok = inert:stop(),
    inert_test:end_per_testcase(Config).

%%% unix

unix_fds_from_another_program_are_polled(Config) ->
    Path = path(Config),
    {ok, Listen} = unix:listen(Path),
    Accept = blocked(run(fun() -> unix:accept(Listen, ?LONG) end)),
    Peer = inert_test:start_peer(["-pa" | code:get_path()]),
    ok = peer:call(Peer, ?MODULE, send_pipe, [Path]),
    {ok, FD} = result(Accept),
    {ok, <<"a pipe">>, [Pipe]} = unix:recv(FD, 1, ?LONG),
    %% The other program has closed it: this number is the file's only reader.
    Reader = blocked(run(fun() -> inert:poll(Pipe, read, ?LONG) end)),
    ok = unix:send(FD, <<"write to it">>, [], ?LONG),
    ?assertEqual({ok, read}, result(Reader)),
    ?assertEqual({ok, <<"from the other program">>}, fdio:read(Pipe, 100)),
    peer:stop(Peer),
    ?assertEqual({ok, read}, inert:poll(Pipe)),
    ?assertEqual({ok, <<>>}, fdio:read(Pipe, 100)),
    ?assertEqual({error, closed}, unix:recv(FD, 0, ?LONG)),
    ok = unix:close(Pipe),
    ok = unix:close(FD),
    ok = unix:close(Listen, Path),
    ?assertEqual({error, enoent}, file:read_link_info(Path)).

%% The other program. What it has open ends with it.
send_pipe(Path) ->
    Caller = self(),
    _ = spawn(fun() ->
        {ok, FD} = unix:connect(stream, Path, ?LONG),
        {ok, {Reader, Writer}} = fdio:pipe(),
        ok = unix:send(FD, <<"a pipe">>, [Reader], ?LONG),
        ok = unix:close(Reader),
        Caller ! {self(), sent},
        {ok, <<"write to it">>, []} = unix:recv(FD, 0, ?LONG),
        {ok, _} = fdio:write(Writer, <<"from the other program">>),
        receive
            never -> ok
        end
    end),
    receive
        {_, sent} -> ok
    end.

unix_messages_arrive_whole_and_in_order(_Config) ->
    {A, B} = pair(),
    ok = fdio:setsockopt(A, sndbuf, 4096),
    Sizes = [0, 1, 3, 4, 5, 4096, 65536, 0, 65535, 17],
    Messages = [{rand:bytes(Size), N rem 4} || {N, Size} <- lists:enumerate(Sizes)],
    Sender = run(fun() ->
        [ok = unix:send(A, Data, lists:duplicate(FDs, A), ?LONG) || {Data, FDs} <- Messages],
        ok
    end),
    Received = [
        begin
            {ok, Data, FDs} = unix:recv(B, 3, ?LONG),
            lists:foreach(fun unix:close/1, FDs),
            {Data, length(FDs)}
        end
     || _ <- Messages
    ],
    ok = result(Sender),
    ?assertEqual(Messages, Received),
    close([A, B]).

%% That they are closed is for the look around to see.
unix_fds_that_are_too_many_are_closed(_Config) ->
    [
        begin
            {A, B} = pair(),
            ok = unix:send(A, <<"x">>, lists:duplicate(Sent, A), ?LONG),
            ?assertEqual({error, too_many_fds}, unix:recv(B, Allowed, ?LONG)),
            close([A, B])
        end
     || {Sent, Allowed} <- [{1, 0}, {3, 2}, {253, 252}]
    ],
    %% Some come with the header, some amid the data.
    {A, B} = pair(),
    Send = fun(Data, FDs) -> {ok, _} = fdio:sendmsg(A, #{data => Data, control => [{rights, FDs}]}) end,
    _ = Send(<<0, 0>>, [A]),
    _ = Send(<<0, 4, "ab">>, [A]),
    _ = Send(<<"cd">>, [A, A]),
    ?assertEqual({error, too_many_fds}, unix:recv(B, 3, ?LONG)),
    _ = Send(<<0, 0>>, [A]),
    _ = Send(<<0, 4, "ab">>, [A]),
    _ = Send(<<"cd">>, [A, A]),
    {ok, <<"abcd">>, [_, _, _, _] = Four} = unix:recv(B, 4, ?LONG),
    close(Four),
    close([A, B]).

unix_fds_that_have_no_number_are_told_and_the_rest_closed(_Config) ->
    {A, B} = pair(),
    ok = unix:send(A, <<"x">>, [A, A, A], ?LONG),
    [One | Others] = use_all_fds([]),
    close(One),
    Received = unix:recv(B, 3, ?LONG),
    close(Others),
    ?assertEqual({error, ctrunc}, Received),
    close([A, B]).

use_all_fds(FDs) ->
    case fdio:eventfd() of
        {ok, FD} -> use_all_fds([FD | FDs]);
        {error, emfile} -> FDs
    end.

unix_a_stream_that_ends_amid_a_message_says_so(_Config) ->
    Whole = <<3:32, "abc">>,
    %% Not an end of the stream itself, which would stay open as long as it travels.
    {ok, Event} = fdio:eventfd(),
    [
        begin
            {A, B} = pair(),
            _ = [
                {ok, Length} = fdio:sendmsg(A, #{
                    data => binary:part(Whole, 0, Length), control => [{rights, [Event]}]
                })
             || Length > 0
            ],
            Receiver = run(fun() -> unix:recv(B, 5, ?LONG) end),
            _ = blocked(Receiver),
            close(A),
            ?assertEqual({error, Reason}, result(Receiver)),
            close(B)
        end
     || {Length, Reason} <- [{0, closed}, {1, eproto}, {4, eproto}, {6, eproto}]
    ],
    {A, B} = pair(),
    close(B),
    ?assertEqual({error, epipe}, unix:send(A, <<"x">>, [], ?LONG)),
    close([A, Event]).

unix_long_messages_are_refused(_Config) ->
    {A, B} = pair(),
    ?assertEqual({error, emsgsize}, unix:send(A, <<0:65537/unit:8>>, [], ?LONG)),
    {ok, 6} = fdio:sendmsg(A, #{data => <<65537:32, "ab">>, control => [{rights, [A]}]}),
    ?assertEqual({error, emsgsize}, unix:recv(B, 1, ?LONG)),
    close([A, B]).

unix_waits_end_in_time(Config) ->
    Path = path(Config),
    {ok, Listen} = unix:listen(Path),
    ?assertEqual({error, timeout}, unix:accept(Listen, ?SHORT)),
    ok = unix:close(Listen, Path),
    {A, B} = inert_test:full_pair(),
    ?assertEqual({error, timeout}, unix:send(A, <<"x">>, [], ?SHORT)),
    ?assertEqual({error, timeout}, unix:recv(A, 0, ?SHORT)),
    %% The timeout is for all of a message, however its pieces come.
    {ok, 5} = fdio:write(B, <<9:32, "x">>),
    ?assertEqual({error, timeout}, unix:recv(A, 0, ?SHORT)),
    close([A, B]).

unix_a_file_left_behind_is_replaced(Config) ->
    Path = path(Config),
    {ok, Live} = unix:listen(Path),
    ?assertEqual({error, eaddrinuse}, unix:listen(Path)),
    ?assertEqual({error, eaddrinuse}, unix:open(Path)),
    %% As a program leaves it that is killed.
    close(Live),
    {ok, Again} = unix:listen(Path),
    {ok, Client} = unix:connect(stream, list_to_binary(Path), ?LONG),
    close(Client),
    ok = unix:close(Again, Path),
    {ok, Datagrams} = unix:open(Path),
    close(Datagrams),
    {ok, Datagrams1} = unix:open(Path),
    ok = unix:close(Datagrams1, Path),
    %% What is no socket is nobody's to remove.
    ok = file:write_file(Path, <<"mine">>),
    ?assertEqual({error, eaddrinuse}, unix:listen(Path)),
    ?assertEqual({ok, <<"mine">>}, file:read_file(Path)),
    ?assertEqual({error, enoent}, unix:listen(filename:join(Path ++ ".no", "file"))),
    ?assertEqual({error, enametoolong}, unix:listen(Path ++ lists:duplicate(108, $x))).

unix_connecting_to_nobody_says_so(Config) ->
    Path = path(Config),
    ?assertError(badarg, unix:connect(stream, no_path, ?LONG)),
    ?assertError(badarg, unix:listen([-1])),
    ?assertEqual({error, enoent}, unix:connect(stream, Path, ?LONG)),
    {ok, Listen} = unix:listen(Path),
    ?assertEqual({error, eprototype}, unix:connect(dgram, Path, ?LONG)),
    close(Listen),
    ?assertEqual({error, econnrefused}, unix:connect(stream, Path, ?LONG)).

unix_connecting_waits_for_the_backlog(Config) ->
    Path = path(Config),
    {ok, Listen} = unix:listen(Path),
    ok = fdio:listen(Listen, 0),
    {ok, First} = unix:connect(stream, Path, ?LONG),
    ?assertEqual({error, timeout}, unix:connect(stream, Path, ?SHORT)),
    Second = run(fun() -> unix:connect(stream, Path, ?LONG) end),
    {ok, Server1} = unix:accept(Listen, ?LONG),
    {ok, Server2} = unix:accept(Listen, ?LONG),
    {ok, Client2} = result(Second),
    close([First, Server1, Server2, Client2]),
    ok = unix:close(Listen, Path).

unix_a_datagram_waits_for_room(Config) ->
    Path = path(Config),
    {ok, Receiver} = unix:open(Path),
    {ok, Sender} = unix:connect(dgram, Path, ?LONG),
    Count = 1000,
    Send = fun(N) -> unix:send_datagram(Sender, <<N:32>>, [], ?LONG) end,
    Sending = blocked(run(fun() -> [ok = Send(N) || N <- lists:seq(1, Count)], ok end)),
    Received = [
        begin
            {ok, <<N:32>>, []} = unix:recv_datagram(Receiver, 0, ?LONG),
            N
        end
     || _ <- lists:seq(1, Count)
    ],
    ok = result(Sending),
    ?assertEqual(lists:seq(1, Count), Received),
    ok = unix:close(Receiver, Path),
    ?assertEqual({error, econnrefused}, Send(0)),
    ok = unix:close(Sender).

unix_a_bad_datagram_is_gone_and_the_next_is_good(_Config) ->
    Path = <<0, "example_SUITE", (list_to_binary(os:getpid()))/binary>>,
    {ok, Receiver} = unix:open(Path),
    {ok, Sender} = unix:connect(dgram, Path, ?LONG),
    ok = unix:send_datagram(Sender, <<"too many">>, [Sender, Sender], ?LONG),
    ok = unix:send_datagram(Sender, <<0:65537/unit:8>>, [Sender], ?LONG),
    ok = unix:send_datagram(Sender, <<>>, [], ?LONG),
    ok = unix:send_datagram(Sender, <<"good">>, [Sender], ?LONG),
    ?assertEqual({error, too_many_fds}, unix:recv_datagram(Receiver, 1, ?LONG)),
    ?assertEqual({error, emsgsize}, unix:recv_datagram(Receiver, 1, ?LONG)),
    ?assertEqual({ok, <<>>, []}, unix:recv_datagram(Receiver, 1, ?LONG)),
    {ok, <<"good">>, [FD]} = unix:recv_datagram(Receiver, 1, ?LONG),
    ok = unix:send_datagram(FD, <<"by itself">>, [], ?LONG),
    ?assertEqual({ok, <<"by itself">>, []}, unix:recv_datagram(Receiver, 0, ?LONG)),
    ?assertEqual({error, timeout}, unix:recv_datagram(Receiver, 0, ?SHORT)),
    close([FD, Sender]),
    ok = unix:close(Receiver, Path).

%%% udp

udp_answers_from_the_address_it_was_asked_at(_Config) ->
    {Server, Port} = udp_server(#{}),
    [
        begin
            {ok, Answer} = udp:ask({IP, Port}, <<"hello">>, ?LONG),
            #{data := <<"hello">>, ttl := TTL, round_trip := RoundTrip} = Answer,
            ?assert(TTL > 0),
            ?assert(is_integer(RoundTrip))
        end
     || IP <- [?LOOPBACK, {127, 0, 0, 2}, {127, 1, 2, 3}]
    ],
    ?assertEqual(#{answered => 3, dropped => 0}, udp:counts(Server)),
    ok = udp:stop(Server).

%% So it is the ancillary data that makes the case above pass.
udp_without_ancillary_data_answers_from_another(_Config) ->
    {ok, Plain} = fdio:socket(inet, dgram, 0),
    ok = fdio:setsockopt(Plain, bindtodevice, <<"lo">>),
    ok = fdio:bind(Plain, {{0, 0, 0, 0}, 0}),
    {ok, {_, Port}} = fdio:getsockname(Plain),
    {ok, Client} = fdio:socket(inet, dgram, 0),
    ok = fdio:connect(Client, {{127, 0, 0, 2}, Port}),
    {ok, 5} = fdio:send(Client, <<"hello">>),
    {ok, read} = inert:poll(Plain),
    {ok, #{data := Data, address := From}} = fdio:recvmsg(Plain, 100),
    {ok, 5} = fdio:sendmsg(Plain, #{data => Data, address => From}),
    ?assertEqual({error, timeout}, inert:poll(Client, read, ?SHORT)),
    close([Plain, Client]).

udp_over_ipv6(_Config) ->
    {Server, Port} = udp_server(#{ip => {0, 0, 0, 0, 0, 0, 0, 0}}),
    {ok, #{data := <<"six">>, ttl := _}} = udp:ask({{0, 0, 0, 0, 0, 0, 0, 1}, Port}, <<"six">>, ?LONG),
    ok = udp:stop(Server).

udp_datagrams_of_every_length(_Config) ->
    {Server, Port} = udp_server(#{}),
    [
        begin
            Data = rand:bytes(Size),
            {ok, #{data := Data}} = udp:ask({?LOOPBACK, Port}, Data, ?LONG)
        end
     || Size <- [0, 1, 1472, 1473, 9000, 65507]
    ],
    ?assertEqual({error, emsgsize}, udp:ask({?LOOPBACK, Port}, <<0:65508/unit:8>>, ?LONG)),
    ok = udp:stop(Server).

udp_many_clients_at_once(_Config) ->
    {Server, Port} = udp_server(#{}),
    Clients = [
        run(fun() ->
            [
                begin
                    Data = <<Client:32, N:32>>,
                    {ok, #{data := Data}} = udp:ask({{127, 0, 0, Client}, Port}, Data, ?LONG)
                end
             || N <- lists:seq(1, 20)
            ],
            ok
        end)
     || Client <- lists:seq(1, 50)
    ],
    [ok = Done || Done <- results(Clients)],
    ?assertEqual(#{answered => 1000, dropped => 0}, udp:counts(Server)),
    ok = udp:stop(Server).

udp_errors_are_told(_Config) ->
    {Server, Port} = udp_server(#{ip => ?LOOPBACK}),
    ?assertEqual({error, {bind, eaddrinuse}}, udp:start_link(Port, #{ip => ?LOOPBACK})),
    ?assertEqual({error, {bind, eaddrnotavail}}, udp:start_link(0, #{ip => {192, 0, 2, 1}})),
    ?assertEqual({error, {setsockopt, enodev}}, udp:start_link(0, #{interface => <<"none">>})),
    ?assertError({unknown_options, [port]}, udp:start_link(0, #{port => 1})),
    ?assertError(badarg, udp:start_link(-1, #{})),
    ?assertError(badarg, udp:start_link(0, #{ip => {300, 0, 0, 1}})),
    ?assertError(badarg, udp:start_link(0, #{interface => lo})),
    ok = udp:stop(Server),
    ?assertEqual({error, econnrefused}, udp:ask({?LOOPBACK, Port}, <<"x">>, ?LONG)),
    %% Somebody is there, and silent.
    {ok, Silent} = fdio:socket(inet, dgram, 0),
    ok = fdio:bind(Silent, {?LOOPBACK, 0}),
    {ok, Address} = fdio:getsockname(Silent),
    ?assertEqual({error, timeout}, udp:ask(Address, <<"x">>, ?SHORT)),
    close(Silent).

udp_server_ends_with_inert(_Config) ->
    {Server, _Port} = udp_server(#{}),
    ends_with_inert(Server).

udp_server(Options) ->
    {ok, Server} = udp:start_link(0, maps:merge(#{interface => <<"lo">>}, Options)),
    {Server, udp:port(Server)}.

%%% watch

watch_tells_every_change_in_order(Config) ->
    Directory = directory(Config),
    {ok, Watcher} = watch:start_link(Directory),
    ok = file:make_dir(Directory ++ "/d"),
    ok = file:write_file(Directory ++ "/a", <<"x">>),
    ok = file:rename(Directory ++ "/a", Directory ++ "/b"),
    ok = file:delete(Directory ++ "/b"),
    ok = file:write_file(<<(list_to_binary(Directory))/binary, "/", 16#ff>>, <<>>),
    ok = file:del_dir(Directory ++ "/d"),
    ok = file:write_file(Directory ++ "/last", <<>>),
    ?assertEqual(
        [
            {created, <<"d">>},
            {created, <<"a">>},
            {written, <<"a">>},
            {renamed, <<"a">>, <<"b">>},
            {deleted, <<"b">>},
            {created, <<16#ff>>},
            {written, <<16#ff>>},
            {deleted, <<"d">>},
            {created, <<"last">>},
            {written, <<"last">>}
        ],
        watched_until(Watcher, {written, <<"last">>})
    ),
    ok = watch:stop(Watcher).

watch_tells_the_halves_of_a_rename_apart(Config) ->
    Directory = directory(Config),
    Elsewhere = Directory ++ ".elsewhere",
    ok = file:make_dir(Elsewhere),
    ok = file:write_file(Directory ++ "/a", <<>>),
    {ok, Watcher} = watch:start_link(list_to_binary(Directory)),
    ok = file:rename(Directory ++ "/a", Elsewhere ++ "/a"),
    ok = file:rename(Elsewhere ++ "/a", Directory ++ "/b"),
    ?assertEqual(
        [{moved_out, <<"a">>}, {moved_in, <<"b">>}], watched_until(Watcher, {moved_in, <<"b">>})
    ),
    ok = watch:stop(Watcher).

watch_tells_no_more_than_is_asked_for(Config) ->
    Directory = directory(Config),
    {ok, Watcher} = watch:start_link(Directory),
    ok = file:make_dir(Directory ++ "/a"),
    receive
        {watch, Watcher, [{created, <<"a">>}]} -> ok
    end,
    ok = file:make_dir(Directory ++ "/b"),
    ok = file:make_dir(Directory ++ "/c"),
    inert_test:quiet_barrier(inert),
    no_message(),
    %% Asking twice asks once.
    ok = watch:next(Watcher),
    ok = watch:next(Watcher),
    receive
        {watch, Watcher, [{created, <<"b">>}, {created, <<"c">>}]} -> ok
    end,
    ok = file:make_dir(Directory ++ "/d"),
    inert_test:quiet_barrier(inert),
    _ = sys:get_state(Watcher),
    no_message(),
    ok = watch:stop(Watcher).

watch_tells_that_the_queue_overflowed(Config) ->
    Directory = directory(Config),
    {ok, Watcher} = watch:start_link(Directory),
    ok = file:make_dir(Directory ++ "/first"),
    receive
        {watch, Watcher, [{created, <<"first">>}]} -> ok
    end,
    {ok, Text} = file:read_file("/proc/sys/fs/inotify/max_queued_events"),
    Room = binary_to_integer(string:trim(Text)),
    Path = Directory ++ "/again and again",
    [
        begin
            ok = file:make_dir(Path),
            ok = file:del_dir(Path)
        end
     || _ <- lists:seq(1, Room div 2 + 10)
    ],
    ok = watch:next(Watcher),
    Changes = watched_until(Watcher, overflow),
    ?assertEqual(Room + 1, length(Changes)),
    %% And then it goes on.
    ok = watch:next(Watcher),
    ok = file:make_dir(Directory ++ "/last"),
    ?assertEqual([{created, <<"last">>}], watched_until(Watcher, {created, <<"last">>})),
    ok = watch:stop(Watcher).

watch_ends_with_its_directory(Config) ->
    process_flag(trap_exit, true),
    [
        begin
            Directory = directory(Config),
            {ok, Watcher} = watch:start_link(Directory),
            ok = file:write_file(Directory ++ "/a", <<>>),
            End(Directory),
            Changes = watched_until(Watcher, gone),
            ?assert(lists:member({created, <<"a">>}, Changes)),
            receive
                {'EXIT', Watcher, normal} -> ok
            end
        end
     || End <- [
            fun(Directory) -> ok = file:del_dir_r(Directory) end,
            fun(Directory) -> ok = file:rename(Directory, Directory ++ ".moved") end
        ]
    ].

watch_errors_are_told(Config) ->
    Directory = directory(Config),
    ok = file:write_file(Directory ++ "/file", <<>>),
    ?assertEqual({error, enoent}, watch:start_link(Directory ++ "/none")),
    ?assertEqual({error, enotdir}, watch:start_link(Directory ++ "/file")),
    ?assertError(badarg, watch:start_link(directory)).

watch_ends_with_its_owner(Config) ->
    Directory = directory(Config),
    Test = self(),
    Owner = run(fun() ->
        Test ! watch:start_link(Directory),
        receive
            never -> ok
        end
    end),
    Watcher =
        receive
            {ok, Pid} -> Pid
        end,
    Monitor = monitor(process, Watcher),
    inert_test:kill(Owner),
    receive
        {'DOWN', Monitor, process, Watcher, _} -> ok
    end,
    %% A server whose parent was killed says so.
    _ = inert_test:logged().

watch_ends_with_inert(Config) ->
    {ok, Watcher} = watch:start_link(directory(Config)),
    ends_with_inert(Watcher).

%% All changes up to this one. It is the last of its message.
watched_until(Watcher, Last) ->
    receive
        {watch, Watcher, gone} when Last =:= gone ->
            [];
        {watch, Watcher, Changes} ->
            case lists:last(Changes) of
                Last ->
                    Changes;
                _ ->
                    ok = watch:next(Watcher),
                    Changes ++ watched_until(Watcher, Last)
            end
    end.

%%% fdtimer

fdtimer_counts_its_periods(_Config) ->
    Began = erlang:monotonic_time(nanosecond),
    Fun = fun
        (Missed, {9, All}) -> {stop, {10, All + Missed}};
        (Missed, {N, All}) -> {ok, {N + 1, All + Missed}}
    end,
    {ok, {10, Missed}} = fdtimer:fold(1_000_000, Fun, {0, 0}),
    Took = erlang:monotonic_time(nanosecond) - Began,
    %% No period is told before it has ended. (The two clocks may differ in their last digits.)
    ?assert((10 + Missed) * 1_000_000 =< Took + 1_000_000),
    {ok, FD} = fdtimer:open(1),
    {ok, Periods} = fdtimer:next(FD, ?LONG),
    ?assert(Periods > 0),
    ok = fdtimer:close(FD).

fdtimer_counts_what_was_missed(_Config) ->
    {ok, FD} = fdtimer:open(1_000_000),
    Began = erlang:monotonic_time(nanosecond),
    {ok, First} = fdtimer:next(FD, ?LONG),
    timer:sleep(50),
    {ok, Second} = fdtimer:next(FD, ?LONG),
    Took = erlang:monotonic_time(nanosecond) - Began,
    ?assert(Second >= 49),
    ?assert((First + Second) * 1_000_000 =< Took + 2_000_000),
    ok = fdtimer:close(FD).

fdtimer_errors_are_told(_Config) ->
    [?assertError(function_clause, fdtimer:open(Period)) || Period <- [0, -1, 1.0, soon]],
    {ok, FD} = fdtimer:open(?LONG * 1_000_000),
    ?assertEqual({error, timeout}, fdtimer:next(FD, 0)),
    ?assertEqual({error, timeout}, fdtimer:next(FD, ?SHORT)),
    Waiter = blocked(run(fun() -> fdtimer:next(FD, ?LONG) end)),
    ?assertEqual({error, ebusy}, fdtimer:next(FD, ?LONG)),
    ok = inert:stop(),
    ?assertEqual({error, closed}, result(Waiter)),
    ok = fdtimer:close(FD),
    ?assertEqual({error, ebadf}, fdtimer:next(FD, ?LONG)).

fdtimer_is_closed_when_the_function_fails(_Config) ->
    ?assertError(failed, fdtimer:fold(1_000_000, fun(_Missed, none) -> error(failed) end, none)).

%%% event

event_counts_what_is_posted(_Config) ->
    {ok, FD} = event:open(counter),
    ok = event:post(FD, 3),
    ok = event:post(FD, 4),
    ?assertEqual({ok, 7}, event:take(FD, ?LONG)),
    Posts = [run(fun() -> [ok = event:post(FD, 1) || _ <- lists:seq(1, 100)], ok end) || _ <- lists:seq(1, 10)],
    ?assertEqual(1000, take_all(FD, 1000)),
    [ok = Posted || Posted <- results(Posts)],
    ?assertEqual({error, timeout}, event:take(FD, 0)),
    ok = event:close(FD).

take_all(_FD, 0) ->
    0;
take_all(FD, Left) ->
    {ok, Count} = event:take(FD, ?LONG),
    Count + take_all(FD, Left - Count).

event_semaphore_gives_one_at_a_time(_Config) ->
    {ok, FD} = event:open(semaphore),
    Takers = [
        begin
            {ok, Own} = fdio:dup(FD),
            run(fun() ->
                Taken = event:take(Own, ?LONG),
                ok = event:close(Own),
                Taken
            end)
        end
     || _ <- lists:seq(1, 10)
    ],
    _ = inert_test:blocked_all(Takers),
    ok = event:post(FD, 4),
    ok = event:post(FD, 7),
    ?assertEqual(lists:duplicate(10, {ok, 1}), results(Takers)),
    ?assertEqual({ok, 1}, event:take(FD, ?LONG)),
    ?assertEqual({error, timeout}, event:take(FD, 0)),
    ok = event:close(FD).

event_is_posted_by_another_program(Config) ->
    Path = path(Config),
    {ok, Listen} = unix:listen(Path),
    {ok, FD} = event:open(counter),
    Taker = blocked(run(fun() -> event:take(FD, ?LONG) end)),
    Peer = inert_test:start_peer(["-pa" | code:get_path()]),
    Connection = run(fun() ->
        {ok, Socket} = unix:accept(Listen, ?LONG),
        ok = unix:send(Socket, <<"event">>, [FD], ?LONG),
        ok = unix:close(Socket)
    end),
    ok = peer:call(Peer, ?MODULE, post_event, [Path]),
    ok = result(Connection),
    ?assertEqual({ok, 42}, result(Taker)),
    peer:stop(Peer),
    ok = unix:close(Listen, Path),
    ok = event:close(FD).

%% The other program.
post_event(Path) ->
    {ok, Socket} = unix:connect(stream, Path, ?LONG),
    {ok, <<"event">>, [FD]} = unix:recv(Socket, 1, ?LONG),
    event:post(FD, 42).

event_errors_are_told(_Config) ->
    [?assertError(function_clause, event:post(0, Count)) || Count <- [0, -1, 1 bsl 64 - 1, 1.0]],
    ?assertError(badarg, event:open(mutex)),
    {ok, FD} = event:open(counter),
    ?assertEqual({error, timeout}, event:take(FD, ?SHORT)),
    ok = event:post(FD, 1 bsl 64 - 2),
    ?assertEqual({error, eagain}, event:post(FD, 1)),
    ?assertEqual({ok, 1 bsl 64 - 2}, event:take(FD, ?LONG)),
    Taker = blocked(run(fun() -> event:take(FD, ?LONG) end)),
    ?assertEqual({error, ebusy}, event:take(FD, ?LONG)),
    ok = inert:stop(),
    ?assertEqual({error, closed}, result(Taker)),
    ok = event:close(FD),
    ?assertEqual({error, ebadf}, event:take(FD, ?LONG)),
    ?assertEqual({error, ebadf}, event:post(FD, 1)).

%%% pidfd

pidfd_waits_for_a_program(_Config) ->
    {Port, OsPid} = program("read line; exit 7"),
    ?assertEqual({error, timeout}, pidfd:wait(OsPid, ?SHORT)),
    Waiters = [blocked(run(fun() -> pidfd:wait(OsPid, ?LONG) end)) || _ <- lists:seq(1, 3)],
    true = port_command(Port, "end\n"),
    ?assertEqual([ok, ok, ok], results(Waiters)),
    ?assertEqual(7, exit_status(Port)).

pidfd_stops_a_program_that_is_nobodys_child(_Config) ->
    %% The shell ends at once, and what it has started is left to itself.
    {Port, _Shell} = program("sleep 600 >/dev/null & echo $!"),
    OsPid =
        receive
            {Port, {data, Line}} -> list_to_integer(string:trim(Line))
        end,
    0 = exit_status(Port),
    ?assertEqual({ok, term}, pidfd:stop(OsPid, ?LONG)).

pidfd_kills_what_does_not_stop(_Config) ->
    {Port, OsPid} = program("trap '' TERM; echo deaf; read line"),
    receive
        {Port, {data, "deaf\n"}} -> ok
    end,
    ?assertEqual({ok, kill}, pidfd:stop(OsPid, ?SHORT)),
    ?assertEqual(128 + 9, exit_status(Port)).

pidfd_of_a_program_that_has_ended(_Config) ->
    {Port, OsPid} = program("read line"),
    {ok, FD} = pidfd:open(OsPid),
    Waiter = blocked(run(fun() -> pidfd:await(FD, ?LONG) end)),
    ?assertEqual({error, ebusy}, pidfd:await(FD, ?LONG)),
    true = port_command(Port, "\n"),
    ok = result(Waiter),
    0 = exit_status(Port),
    ?assertEqual(ok, pidfd:await(FD, 0)),
    ?assertEqual({error, esrch}, fdio:pidfd_send_signal(FD, term)),
    ok = pidfd:close(FD),
    ?assertEqual(ok, pidfd:wait(OsPid, ?LONG)),
    ?assertEqual({ok, none}, pidfd:stop(OsPid, ?LONG)),
    ?assertEqual({error, esrch}, pidfd:open(OsPid)),
    ?assertEqual({error, einval}, pidfd:wait(0, ?LONG)),
    ?assertEqual({error, einval}, pidfd:stop(-1, ?LONG)).

%% A shell that runs this, and is what the signals go to.
program(Script) ->
    Port = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", Script]}, exit_status]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    {Port, OsPid}.

exit_status(Port) ->
    receive
        {Port, {exit_status, Status}} -> Status
    end.

%%% splice

%% Both directions at once; each reader is slow in its own way. What a process has at a time in
%% binaries is the buffers, and garbage that it has not collected yet.
splice_moves_both_ways_under_slow_readers(_Config) ->
    {A, NearA} = pair(),
    {NearB, B} = tcp_pair(),
    Bytes = 16 * 1024 * 1024,
    Splice = run(fun() -> splice:run(NearA, NearB, #{idle => ?LONG}) end),
    Sources = [run(fun() -> source(FD, Bytes, crypto:hash_init(sha256)) end) || FD <- [A, B]],
    Sinks = [
        run(fun() -> sink(FD, Max, Splice, crypto:hash_init(sha256), 0, 0) end)
     || {FD, Max} <- [{A, 1447}, {B, 40_000}]
    ],
    [FromA, FromB] = results(Sources),
    [{AtA, AtABytes, Most1}, {AtB, AtBBytes, Most2}] = results(Sinks),
    ?assertEqual({Bytes, Bytes}, {AtABytes, AtBBytes}),
    ?assertEqual({FromA, FromB}, {AtB, AtA}),
    ?assertEqual({ok, #{NearA => Bytes, NearB => Bytes}}, result(Splice)),
    ct:log("at most ~b bytes in binaries", [max(Most1, Most2)]),
    ?assert(max(Most1, Most2) < 4 * 1024 * 1024),
    close([A, NearA, NearB, B]).

%% Random data in pieces of random sizes, then the end.
source(FD, 0, Hash) ->
    ok = fdio:shutdown(FD, write),
    crypto:hash_final(Hash);
source(FD, Left, Hash) ->
    Data = rand:bytes(min(Left, rand:uniform(100_000))),
    write_all(FD, Data),
    source(FD, Left - byte_size(Data), crypto:hash_update(Hash, Data)).

write_all(_FD, <<>>) ->
    ok;
write_all(FD, Data) ->
    case fdio:write(FD, Data) of
        {ok, Written} ->
            write_all(FD, binary:part(Data, Written, byte_size(Data) - Written));
        {error, eagain} ->
            {ok, write} = inert:poll(FD, write),
            write_all(FD, Data)
    end.

%% Reads less than there is, and now and then nothing; looks how much the splice holds.
sink(FD, Max, Splice, Hash, Total, Most) ->
    case fdio:read(FD, Max) of
        {ok, <<>>} ->
            {crypto:hash_final(Hash), Total, Most};
        {ok, Data} ->
            Look = rand:uniform(50) =:= 1,
            Held =
                case Look andalso process_info(Splice, binary) of
                    {binary, Binaries} -> lists:sum([Size || {_, Size, _} <- lists:ukeysort(1, Binaries)]);
                    _ -> 0
                end,
            [erlang:yield() || Look],
            sink(FD, Max, Splice, crypto:hash_update(Hash, Data), Total + byte_size(Data), max(Most, Held));
        {error, eagain} ->
            {ok, read} = inert:poll(FD, read),
            sink(FD, Max, Splice, Hash, Total, Most)
    end.

splice_joins_unlike_fds(_Config) ->
    {ok, {Master, Slave, _Name}} = fdio:openpty(),
    {A, B} = pair(),
    Splice = run(fun() -> splice:run(Master, A, #{buffer => 3}) end),
    {ok, 8} = fdio:write(Slave, <<"to the b">>),
    ?assertEqual(<<"to the b">>, read_exactly(B, 8)),
    {ok, 10} = fdio:write(B, <<"and return">>),
    ?assertEqual(<<"and return">>, read_exactly(Slave, 10)),
    %% A terminal has no half to shut down: the end of B's data ends that way only.
    ok = fdio:shutdown(B, write),
    {ok, 1} = fdio:write(Slave, <<"!">>),
    ?assertEqual(<<"!">>, read_exactly(B, 1)),
    %% And its end is an error.
    close(Slave),
    ?assertEqual({error, {read, Master, eio}, #{Master => 9, A => 10}}, result(Splice)),
    close([Master, A, B]).

%% Nobody reads at B: what A can write ends. The other way runs meanwhile.
splice_reads_no_more_than_can_be_written(_Config) ->
    {A, NearA} = pair(),
    {NearB, B} = pair(),
    Splice = run(fun() -> splice:run(NearA, NearB, #{buffer => 10_000}) end),
    Written = write_until_stuck(A, Splice, 0),
    {ok, 5} = fdio:write(B, <<"hello">>),
    ?assertEqual(<<"hello">>, read_exactly(A, 5)),
    ?assertEqual({error, timeout}, inert:poll(A, write, ?SHORT)),
    {binary, Held} = process_info(Splice, binary),
    ?assert(lists:sum([Size || {_, Size, _} <- lists:ukeysort(1, Held)]) < 1_000_000),
    %% All of it comes out.
    ok = fdio:shutdown(A, write),
    ok = fdio:shutdown(B, write),
    ?assertEqual(Written, read_to_end(B, 0)),
    ?assertEqual({ok, #{NearA => Written, NearB => 5}}, result(Splice)),
    close([A, NearA, NearB, B]).

%% The splice may still be at work when a write finds no room: stuck is when it waits.
write_until_stuck(FD, Splice, Total) ->
    case fdio:write(FD, <<0:10_000/unit:8>>) of
        {ok, Written} ->
            write_until_stuck(FD, Splice, Total + Written);
        {error, eagain} ->
            case inert:poll(FD, write, 200) of
                {ok, write} -> write_until_stuck(FD, Splice, Total);
                {error, timeout} -> Total
            end
    end.

splice_passes_the_end_on_and_goes_on(_Config) ->
    {A, NearA} = pair(),
    {NearB, B} = pair(),
    Splice = run(fun() -> splice:run(NearA, NearB) end),
    {ok, 4} = fdio:write(A, <<"last">>),
    ok = fdio:shutdown(A, write),
    ?assertEqual(<<"last">>, read_exactly(B, 4)),
    {ok, read} = inert:poll(B),
    ?assertEqual({ok, <<>>}, fdio:read(B, 1)),
    {ok, 5} = fdio:write(B, <<"reply">>),
    ?assertEqual(<<"reply">>, read_exactly(A, 5)),
    close(B),
    {ok, read} = inert:poll(A),
    ?assertEqual({ok, <<>>}, fdio:read(A, 1)),
    ?assertEqual({ok, #{NearA => 4, NearB => 5}}, result(Splice)),
    close([A, NearA, NearB]).

splice_ends_with_an_error_of_either_side(_Config) ->
    [
        begin
            {A, NearA} = pair(),
            {NearB, B} = pair(),
            {Ends, Stays} = Side(A, B),
            Splice = run(fun() -> splice:run(NearA, NearB) end),
            %% Read no more, but written on.
            ok = fdio:shutdown(Ends, read),
            {ok, 1} = fdio:write(Stays, <<"x">>),
            {error, {write, FD, epipe}, #{NearA := 0, NearB := 0}} = result(Splice),
            ?assertEqual(element(2, Side(NearB, NearA)), FD),
            close([A, NearA, NearB, B])
        end
     || Side <- [fun(A, B) -> {A, B} end, fun(A, B) -> {B, A} end]
    ],
    %% A connection that breaks.
    {NearA, A} = tcp_pair(),
    {NearB, B} = pair(),
    Splice = blocked_in_splice(run(fun() -> splice:run(NearA, NearB) end)),
    %% Closed with data that it has not read, it is reset.
    {ok, 6} = fdio:write(B, <<"unread">>),
    {ok, read} = inert:poll(A),
    close(A),
    {error, {read, NearA, econnreset}, _} = result(Splice),
    close([NearA, NearB, B]).

splice_errors_are_told(_Config) ->
    {A, B} = pair(),
    {C, D} = pair(),
    [
        ?assertError(Class, splice:run(X, Y, Options))
     || {Class, X, Y, Options} <- [
            {function_clause, A, A, #{}},
            {function_clause, a, B, #{}},
            {function_clause, A, B, []},
            {badarg, A, B, #{unknown => 1}}
        ]
    ],
    ?assertEqual({error, {wait, -1, ebadf}, #{-1 => 0, A => 0}}, splice:run(-1, A)),
    ok = fdio:set_nonblock(C, false),
    ?assertMatch({error, {read, C, einval}, _}, splice:run(A, C)),
    ok = fdio:set_nonblock(C, true),
    %% Whoever waits already is not disturbed.
    Waiter = blocked(run(fun() -> inert:poll(C, read, ?LONG) end)),
    ?assertEqual({error, {wait, C, ebusy}, #{A => 0, C => 0}}, splice:run(A, C)),
    ?assertEqual({error, {wait, C, ebusy}, #{A => 0, C => 0}}, splice:run(C, A)),
    {ok, 1} = fdio:write(D, <<"x">>),
    ?assertEqual({ok, read}, result(Waiter)),
    close([A, B, C, D]).

splice_ends_when_idle_or_with_inert(_Config) ->
    {A, NearA} = pair(),
    {NearB, B} = pair(),
    ?assertEqual({error, timeout, #{NearA => 0, NearB => 0}}, splice:run(NearA, NearB, #{idle => ?SHORT})),
    Splice = blocked_in_splice(run(fun() -> splice:run(NearA, NearB) end)),
    ok = inert:stop(),
    ?assertEqual({error, closed, #{NearA => 0, NearB => 0}}, result(Splice)),
    close([A, NearA, NearB, B]).

splice_leaves_the_mailbox_alone(_Config) ->
    {A, NearA} = pair(),
    {NearB, B} = pair(),
    Others = [{inert_read, make_ref(), NearA}, {inert_read, inert:pollid(), 0}, hello],
    [self() ! Other || Other <- Others],
    write_all(A, <<0:100_000/unit:8>>),
    write_all(B, <<0:100_000/unit:8>>),
    _ = [ok = fdio:shutdown(FD, write) || FD <- [A, B]],
    Readers = [run(fun() -> read_to_end(FD, 0) end) || FD <- [A, B]],
    {ok, _} = splice:run(NearA, NearB),
    ?assertEqual([100_000, 100_000], results(Readers)),
    ?assertEqual(Others, [receive Message -> Message after 0 -> none end || _ <- Others]),
    no_message(),
    close([A, NearA, NearB, B]).

blocked_in_splice(Pid) ->
    until(fun() ->
        process_info(Pid, [status, current_function]) =:=
            [{status, waiting}, {current_function, {splice, await, 5}}]
    end),
    Pid.

%%% echo

echo_gives_everything_back(_Config) ->
    {ok, Server} = echo:start_link(0),
    Clients = [
        run(fun() ->
            Socket = client(echo:port(Server)),
            Data = rand:bytes(Size),
            Sender = run(fun() ->
                ok = gen_tcp:send(Socket, Data),
                gen_tcp:shutdown(Socket, write)
            end),
            Received = gen_tcp:recv(Socket, Size, ?LONG),
            ok = result(Sender),
            {error, closed} = gen_tcp:recv(Socket, 0, ?LONG),
            ok = gen_tcp:close(Socket),
            Received =:= {ok, Data}
        end)
     || Size <- [1, 2, 1000, 65536, 65537, 1_000_000, 5_000_000]
    ],
    ?assertEqual(lists:duplicate(7, true), results(Clients)),
    ok = echo:stop(Server).

echo_serves_no_more_than_it_should(_Config) ->
    {ok, Server} = echo:start_link(0, #{max_connections => 2}),
    Port = echo:port(Server),
    [One, Two, Three] = [client(Port) || _ <- [1, 2, 3]],
    [<<"x">> = ask(Socket, <<"x">>) || Socket <- [One, Two]],
    ok = gen_tcp:send(Three, <<"later">>),
    ?assertEqual({error, timeout}, gen_tcp:recv(Three, 5, ?SHORT)),
    ok = gen_tcp:close(One),
    ?assertEqual({ok, <<"later">>}, gen_tcp:recv(Three, 5, ?LONG)),
    ok = echo:stop(Server),
    [{error, closed} = gen_tcp:recv(Socket, 1, ?LONG) || Socket <- [Two, Three]],
    [ok = gen_tcp:close(Socket) || Socket <- [Two, Three]].

echo_closes_idle_connections(_Config) ->
    {ok, Server} = echo:start_link(0, #{idle => ?SHORT}),
    Socket = client(echo:port(Server)),
    ?assertEqual({error, closed}, gen_tcp:recv(Socket, 1, ?LONG)),
    ok = gen_tcp:close(Socket),
    ok = echo:stop(Server).

%% A connection's process is killed, a client breaks its connection: the others and the server go on.
echo_survives_its_connections(_Config) ->
    {ok, Server} = echo:start_link(0),
    Port = echo:port(Server),
    One = client(Port),
    <<"one">> = ask(One, <<"one">>),
    {links, [Connection]} = connections(Server),
    Two = client(Port),
    <<"two">> = ask(Two, <<"two">>),
    exit(Connection, kill),
    ?assertEqual({error, closed}, gen_tcp:recv(One, 1, ?LONG)),
    ?assertEqual(<<"two">>, ask(Two, <<"two">>)),
    ok = inet:setopts(Two, [{linger, {true, 0}}]),
    ok = gen_tcp:close(Two),
    until(fun() -> connections(Server) =:= {links, []} end),
    Three = client(Port),
    ?assertEqual(<<"three">>, ask(Three, <<"three">>)),
    [ok = gen_tcp:close(Socket) || Socket <- [One, Three]],
    ok = echo:stop(Server).

connections(Server) ->
    {links, Links} = process_info(Server, links),
    {links, Links -- [self()]}.

echo_errors_are_told(_Config) ->
    {ok, Server} = echo:start_link(0),
    Port = echo:port(Server),
    %% In a process of its own, as it may get the exits of servers that do not start, too:
    %% from OTP 26 on it does not.
    ok = result(run(fun() ->
        process_flag(trap_exit, true),
        {error, {bind, eaddrinuse}} = echo:start_link(Port),
        ?assertExit({bind, eaddrinuse}, echo:listen(Port)),
        {error, {bind, eaddrnotavail}} = echo:start_link(0, #{ip => {192, 0, 2, 1}}),
        {error, {badarg, _Stack}} = echo:start_link(70_000),
        ?assertError({unknown_options, [backlogg]}, echo:start_link(0, #{backlogg => 1})),
        ok
    end)),
    ok = echo:stop(Server),
    %% Servers that do not start are logged.
    _ = inert_test:logged().

echo_ends_with_inert(_Config) ->
    {ok, Server} = echo:start_link(0),
    Socket = client(echo:port(Server)),
    <<"x">> = ask(Socket, <<"x">>),
    ends_with_inert(Server),
    ?assertEqual({error, closed}, gen_tcp:recv(Socket, 1, ?LONG)),
    ok = gen_tcp:close(Socket).

client(Port) ->
    {ok, Socket} = gen_tcp:connect(?LOOPBACK, Port, [binary, {active, false}]),
    Socket.

ask(Socket, Data) ->
    ok = gen_tcp:send(Socket, Data),
    {ok, Answer} = gen_tcp:recv(Socket, byte_size(Data), ?LONG),
    Answer.

%%% conn

conn_reads_a_greeting_in_pieces(_Config) ->
    [
        ?assertEqual({ok, <<"SSH-2.0-test">>}, greeted(Pieces, ?LONG))
     || Pieces <- [
            [<<"SSH-2.0-test\r\n">>],
            [<<"SSH-2.0-">>, <<"test\r">>, <<"\n">>],
            [<<"SSH-2.0-test\r\nand what comes behind it">>]
        ]
    ],
    Longest = binary:copy(<<"x">>, 253),
    ?assertEqual({ok, Longest}, greeted([Longest, <<"\r\n">>], ?LONG)).

conn_errors_are_told(_Config) ->
    ?assertEqual({error, closed}, greeted([close], ?LONG)),
    ?assertEqual({error, closed}, greeted([<<"SSH-">>, close], ?LONG)),
    ?assertEqual({error, emsgsize}, greeted([binary:copy(<<"x">>, 255)], ?LONG)),
    ?assertEqual({error, timeout}, greeted([], ?SHORT)),
    ?assertEqual({error, timeout}, greeted([<<"SSH-">>], ?SHORT)),
    ?assertEqual({error, closed}, greeted([stop], ?LONG)),
    {ok, Listen} = gen_tcp:listen(0, [{ip, ?LOOPBACK}]),
    {ok, Port} = inet:port(Listen),
    ok = gen_tcp:close(Listen),
    ?assertEqual({error, econnrefused}, conn:ssh(?LOOPBACK, Port)).

%% What conn makes of a server that sends these pieces.
greeted(Pieces, Timeout) ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {ip, ?LOOPBACK}, {nodelay, true}]),
    {ok, Port} = inet:port(Listen),
    Client = run(fun() -> conn:ssh(?LOOPBACK, Port, Timeout) end),
    {ok, Socket} = gen_tcp:accept(Listen),
    lists:foreach(
        fun
            (close) ->
                ok = gen_tcp:close(Socket);
            (stop) ->
                _ = blocked(Client),
                ok = inert:stop();
            (Piece) ->
                %% Sent when the last one has been read.
                _ = Timeout =:= ?LONG andalso blocked(Client),
                ok = gen_tcp:send(Socket, Piece)
        end,
        Pieces
    ),
    Result = result(Client),
    ok = gen_tcp:close(Socket),
    ok = gen_tcp:close(Listen),
    Result.

%%% Support

%% A server ends when inert does, with the reason, and closes what it has open.
ends_with_inert(Server) ->
    unlink(Server),
    Monitor = monitor(process, Server),
    ok = inert:stop(),
    receive
        {'DOWN', Monitor, process, Server, Reason} -> ?assertMatch({inert, _}, Reason)
    end,
    _ = inert_test:logged(),
    ok.

%% In a directory of its own that ends with the case. (A socket's path is 107 bytes at most, and
%% Common Test's directories are long.)
path(Config) ->
    filename:join(proplists:get_value(directory, Config), "socket").

directory(Config) ->
    Unique = integer_to_list(erlang:unique_integer([positive])),
    Directory = filename:join(proplists:get_value(directory, Config), "watched-" ++ Unique),
    ok = file:make_dir(Directory),
    Directory.

tcp_pair() ->
    {ok, Listen} = fdio:socket(inet, stream, 0),
    ok = fdio:bind(Listen, {?LOOPBACK, 0}),
    ok = fdio:listen(Listen, 1),
    {ok, Address} = fdio:getsockname(Listen),
    {ok, Client} = fdio:socket(inet, stream, 0),
    _ = fdio:connect(Client, Address),
    {ok, read} = inert:poll(Listen),
    {ok, Server} = fdio:accept(Listen),
    {ok, write} = inert:poll(Client, write),
    ok = fdio:so_error(Client),
    close(Listen),
    {Client, Server}.

read_exactly(_FD, 0) ->
    <<>>;
read_exactly(FD, Length) ->
    {ok, read} = inert:poll(FD),
    case fdio:read(FD, Length) of
        {ok, <<_, _/binary>> = Data} -> <<Data/binary, (read_exactly(FD, Length - byte_size(Data)))/binary>>;
        {error, eagain} -> read_exactly(FD, Length)
    end.

read_to_end(FD, Total) ->
    {ok, read} = inert:poll(FD),
    case fdio:read(FD, 65536) of
        {ok, <<>>} -> Total;
        {ok, Data} -> read_to_end(FD, Total + byte_size(Data));
        {error, eagain} -> read_to_end(FD, Total)
    end.
