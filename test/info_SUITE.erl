%% SPDX-License-Identifier: Apache-2.0
%%
%% The look inside: inert:info/0, info/1 and i/0, and their like in prim_inert; and what the
%% shell shows of arguments that are wrong.
-module(info_SUITE).

-export([suite/0]).
-export([all/0]).
-export([groups/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

%% counters
-export([info_has_exactly_what_its_type_says/1]).
-export([what_is_armed_is_counted/1]).
-export([processes_are_counted_until_they_end/1]).
-export([notifications_are_counted/1]).
-export([stale_waiters_are_counted/1]).
-export([spurious_events_are_counted/1]).
-export([a_new_port_counts_from_zero/1]).

%% fds
-export([sockets_of_inet/1]).
-export([sockets_of_inet6/1]).
-export([sockets_of_unix/1]).
-export([socket_paths_with_odd_bytes/1]).
-export([other_files/1]).
-export([anonymous_files/1]).
-export([those_who_wait_for_a_fd/1]).
-export([those_who_wait_at_another_port/1]).
-export([wrong_fds/1]).

%% table
-export([a_table_of_nothing/1]).
-export([a_table_of_all_sorts/1]).
-export([a_table_of_two_thousand/1]).
-export([a_table_with_a_closed_fd/1]).
-export([a_table_with_odd_names/1]).
-export([a_table_of_a_port_of_ones_own/1]).
-export([a_table_on_a_terminal_of_latin1/1]).
-export([looking_while_others_arm_and_die/1]).
-export([looking_while_the_service_comes_and_goes/1]).

%% arguments
-export([the_shell_says_what_is_wrong/1]).
-export([an_error_says_which_fd/1]).

-include_lib("stdlib/include/assert.hrl").

-import(inert_test, [
    full_pair/0, pair/0, make_readable/1, run/1, blocked/1, blocked_all/1, result/1, results/1, close/1,
    no_message/0, until/1, with/2
]).

%% The kernel's coarse clock goes on in steps of 10 ms at most.
-define(TICK_MS, 10).

suite() ->
    inert_test:suite().

all() ->
    inert_test:per_pollset(topics()).

groups() ->
    inert_test:groups_per_pollset(topics()).

topics() ->
    [
        {counters, [
            info_has_exactly_what_its_type_says,
            what_is_armed_is_counted,
            processes_are_counted_until_they_end,
            notifications_are_counted,
            stale_waiters_are_counted,
            spurious_events_are_counted,
            a_new_port_counts_from_zero
        ]},
        {fds, [
            sockets_of_inet,
            sockets_of_inet6,
            sockets_of_unix,
            socket_paths_with_odd_bytes,
            other_files,
            anonymous_files,
            those_who_wait_for_a_fd,
            those_who_wait_at_another_port,
            wrong_fds
        ]},
        {table, [
            a_table_of_nothing,
            a_table_of_all_sorts,
            a_table_of_two_thousand,
            a_table_with_a_closed_fd,
            a_table_with_odd_names,
            a_table_of_a_port_of_ones_own,
            a_table_on_a_terminal_of_latin1,
            looking_while_others_arm_and_die,
            looking_while_the_service_comes_and_goes
        ]},
        {arguments, [
            the_shell_says_what_is_wrong,
            an_error_says_which_fd
        ]}
    ].

init_per_suite(Config) ->
    _ = code:ensure_modules_loaded([inert_info, inert_args, erl_error]),
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
    Config.

end_per_testcase(_Case, Config) ->
    ok = inert:stop(),
    inert_test:end_per_testcase(Config).

%%% Helpers

count(Counter) ->
    maps:get(Counter, inert:info()).

counts(Counters) ->
    maps:with(Counters, inert:info()).

flush() ->
    receive
        Message -> [Message | flush()]
    after 0 -> []
    end.

%% What a function prints, as lines; and what it returns.
printed(Fun) ->
    Self = self(),
    Printer = run(fun() ->
        group_leader(Self, self()),
        Fun()
    end),
    print(Printer, []).

print(Printer, Text) ->
    receive
        {io_request, From, As, Request} ->
            Chars =
                case Request of
                    {put_chars, unicode, M, F, A} -> apply(M, F, A);
                    {put_chars, unicode, C} -> C
                end,
            Binary = unicode:characters_to_binary(Chars),
            From ! {io_reply, As, ok},
            print(Printer, [Text, Binary]);
        {Printer, Result} ->
            Lines = string:split(unicode:characters_to_list(Text), "\n", all),
            ?assertEqual("", lists:last(Lines)),
            {Result, lists:droplast(Lines)}
    end.

%% The cells of a row: columns are at least two spaces apart.
cells(Line) ->
    [string:trim(Cell) || Cell <- re:split(string:trim(Line), "  +", [{return, list}, unicode])].

table() ->
    {ok, [Title | Rows]} = printed(fun() -> inert:i() end),
    {Title, [cells(Row) || Row <- Rows]}.

socket(Domain, Type) ->
    {ok, FD} = fdio:socket(Domain, Type, 0),
    FD.

bound(Domain, Type, Address) ->
    FD = socket(Domain, Type),
    ok = fdio:bind(FD, Address),
    {ok, Bound} = fdio:getsockname(FD),
    {FD, Bound}.

text({inet, {IP, Port}}) -> text({IP, Port});
text({IP, Port}) when tuple_size(IP) =:= 4 -> lists:flatten(io_lib:format("~s:~b", [inet:ntoa(IP), Port]));
text({IP, Port}) -> lists:flatten(io_lib:format("[~s]:~b", [inet:ntoa(IP), Port])).

%%% counters

info_has_exactly_what_its_type_says(Config) ->
    Pollset = proplists:get_value(pollset, Config),
    Port = inert:pollid(),
    Counters = [armed, fds, polls, processes, delivered, spurious, stale, wakeups, migrated, returned],
    Info = inert:info(),
    ?assertMatch(#{port := Port, pollset := Pollset}, Info),
    ?assertEqual(lists:sort([port, pollset | Counters]), lists:sort(maps:keys(Info))),
    ?assertEqual([0], lists:usort([maps:get(Counter, Info) || Counter <- Counters])),
    ?assertEqual(Info, prim_inert:info(inert)),
    ?assertEqual(Info, prim_inert:info(Port)),
    %% Looking leaves nothing behind.
    [_ = inert:info() || _ <- lists:seq(1, 1000)],
    ?assertEqual(Info, inert:info()).

what_is_armed_is_counted(_Config) ->
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    Now = [armed, fds, polls],
    ?assertEqual(#{armed => 0, fds => 0, polls => 0}, counts(Now)),
    ok = inert:fdset(A, read_write),
    ?assertEqual(#{armed => 2, fds => 1, polls => 0}, counts(Now)),
    ok = inert:fdset(C, read),
    ?assertEqual(#{armed => 3, fds => 2, polls => 0}, counts(Now)),
    ok = inert:fdclr(A, write),
    ?assertEqual(#{armed => 2, fds => 2, polls => 0}, counts(Now)),
    Poller = blocked(run(fun() -> inert:poll(C, write) end)),
    ?assertEqual(#{armed => 3, fds => 2, polls => 1}, counts(Now)),
    ok = inert:fdclr(A),
    ok = inert:fdclr(C, read),
    ?assertEqual(#{armed => 1, fds => 1, polls => 1}, counts(Now)),
    %% A poll of a set is one poll.
    Set = blocked(run(fun() -> inert:poll([{A, read_write}, C], infinity) end)),
    ?assertEqual(#{armed => 4, fds => 2, polls => 2}, counts(Now)),
    make_readable(B),
    ?assertEqual({ok, [{A, read}]}, result(Set)),
    ?assertEqual(#{armed => 1, fds => 1, polls => 1}, counts(Now)),
    inert_test:make_writable(D),
    ?assertEqual({ok, write}, result(Poller)),
    ?assertEqual(#{armed => 0, fds => 0, polls => 0}, counts(Now)),
    {error, timeout} = inert:poll(C, read, 1),
    ?assertEqual(#{armed => 0, fds => 0, polls => 0}, counts(Now)),
    close([A, B, C, D]).

processes_are_counted_until_they_end(_Config) ->
    {A, B} = full_pair(),
    ?assertEqual(0, count(processes)),
    ok = inert:fdset(A, read),
    ok = inert:fdset(A, write),
    ?assertEqual(1, count(processes)),
    %% What has armed something once is known for as long as it lives.
    ok = inert:fdclr(A),
    ?assertEqual(1, count(processes)),
    Others = blocked_all([run(fun() -> inert:poll(A, Mode) end) || Mode <- [read, write]]),
    ?assertEqual(3, count(processes)),
    lists:foreach(fun inert_test:kill/1, Others),
    until(fun() -> count(processes) =:= 1 end),
    ?assertEqual(0, count(armed)),
    close([A, B]).

notifications_are_counted(_Config) ->
    {A, B} = full_pair(),
    %% Told at once.
    make_readable(B),
    ok = inert:fdset(A, read),
    _ = inert_test:message_of(inert:pollid()),
    ?assertEqual(#{delivered => 1, wakeups => 0}, counts([delivered, wakeups])),
    inert_test:drain(A),
    %% Told when ERTS says so.
    ok = inert:fdset(A, read),
    make_readable(B),
    _ = inert_test:message_of(inert:pollid()),
    ?assertEqual(2, count(delivered)),
    ?assert(count(wakeups) >= 1),
    inert_test:drain(A),
    %% A poll that waits.
    Wakeups = count(wakeups),
    Poller = blocked(run(fun() -> inert:poll(A) end)),
    make_readable(B),
    {ok, read} = result(Poller),
    ?assertEqual(3, count(delivered)),
    ?assert(count(wakeups) > Wakeups),
    %% One that need not wait, or waits in vain, is told nothing.
    {ok, read} = inert:poll(A),
    inert_test:drain(A),
    {error, timeout} = inert:poll(A, read, 0),
    {error, timeout} = inert:poll(A, read, 1),
    ok = inert:fdset(A, read),
    ok = inert:fdclr(A),
    ?assertEqual(3, count(delivered)),
    %% Both kinds of one fd are two.
    inert_test:make_writable(B),
    make_readable(B),
    ok = inert:fdset(A, read_write),
    _ = [inert_test:message_of(inert:pollid()) || _ <- [1, 2]],
    ?assertEqual(5, count(delivered)),
    ?assertEqual(0, count(stale)),
    close([A, B]).

stale_waiters_are_counted(_Config) ->
    {A, B} = full_pair(),
    ok = inert:fdset(A, read_write),
    close([A, B]),
    ?assertEqual(0, count(stale)),
    %% Nobody tells; it is found when somebody asks.
    {error, ebadf} = inert:poll(A, read, 0),
    ?assertEqual(#{stale => 2, armed => 0, fds => 0, delivered => 0}, counts([stale, armed, fds, delivered])),
    {error, ebadf} = inert:poll(A, read, 0),
    ?assertEqual(2, count(stale)).

%% The event of a file that is still open, but has left its number.
spurious_events_are_counted(Config) ->
    {A, B} = full_pair(),
    {Mode, Others} =
        case proplists:get_value(pollset, Config) of
            %% The kernel tells of every change of a fd that is armed for priority. Of others
            %% its event says what is ready, and an old file's is stale.
            epoll ->
                ok = inert:fdset(A, priority),
                {priority, []};
            erts ->
                {C, D} = full_pair(),
                {ok, Elsewhere} = fdio:dup(A),
                ok = inert:fdset(A, read),
                ok = fdio:dup2(C, A),
                {read, [C, D, Elsewhere]}
        end,
    ?assertEqual(0, count(spurious)),
    make_readable(B),
    until(fun() -> count(spurious) > 0 end),
    ?assertEqual(0, count(delivered)),
    ?assert(count(wakeups) > 0),
    no_message(),
    _ = inert:fdclr(A, Mode),
    close([A, B | Others]).

a_new_port_counts_from_zero(Config) ->
    {A, B} = pair(),
    ok = inert:fdset(A, write),
    _ = inert_test:message_of(inert:pollid()),
    ?assertEqual(1, count(delivered)),
    Port = inert_test:open(Config),
    ?assertMatch(#{delivered := 0, port := Port}, prim_inert:info(Port)),
    ok = prim_inert:fdset(Port, A, write),
    ok = prim_inert:fdset(Port, A, read),
    _ = inert_test:message_of(Port),
    ?assertMatch(#{delivered := 1, armed := 1}, prim_inert:info(Port)),
    ?assertMatch(#{delivered := 1, armed := 0}, inert:info()),
    ok = prim_inert:stop(Port),
    ?assertEqual({error, closed}, prim_inert:info(Port)),
    ?assertEqual({error, closed}, prim_inert:info(Port, A)),
    ?assertEqual({error, closed}, prim_inert:i(Port)),
    ok = inert:stop(),
    ?assertEqual({error, closed}, inert:info()),
    ?assertEqual({error, closed}, inert:info(A)),
    ?assertEqual({error, closed}, inert:info(-1)),
    ?assertEqual({error, closed}, inert:i()),
    ok = inert:start(),
    ?assertEqual(0, count(delivered)),
    close([A, B]).

%%% fds

sockets_of_inet(_Config) ->
    {Server, {inet, Address}} = inet_bound(inet, stream, {127, 0, 0, 1}),
    ok = fdio:listen(Server, 5),
    ?assertEqual(
        #{fd => Server, type => socket, domain => "inet", style => stream, local => text(Address), waiters => []},
        inert:info(Server)
    ),
    Client = socket(inet, stream),
    Unbound = socket(inet, stream),
    ?assertEqual(
        #{fd => Unbound, type => socket, domain => "inet", style => stream, local => "0.0.0.0:0", waiters => []},
        inert:info(Unbound)
    ),
    ok = connected(Client, Address),
    {ok, read} = inert:poll(Server),
    {ok, Accepted} = fdio:accept(Server),
    {ok, {inet, Own}} = address(fdio:getsockname(Client)),
    {Local, Peer} = {text(Own), text(Address)},
    ?assertMatch(#{local := Local, peer := Peer}, inert:info(Client)),
    ?assertMatch(#{local := Peer, peer := Local}, inert:info(Accepted)),
    %% UDP, without a peer and with.
    {Udp, {inet, UdpAddress}} = inet_bound(inet, dgram, {127, 0, 0, 1}),
    ?assertEqual(
        #{fd => Udp, type => socket, domain => "inet", style => dgram, local => text(UdpAddress), waiters => []},
        inert:info(Udp)
    ),
    {Other, {inet, OtherAddress}} = inet_bound(inet, dgram, {127, 0, 0, 1}),
    ok = fdio:connect(Other, UdpAddress),
    {OtherLocal, OtherPeer} = {text(OtherAddress), text(UdpAddress)},
    ?assertMatch(#{local := OtherLocal, peer := OtherPeer, style := dgram}, inert:info(Other)),
    close([Server, Client, Unbound, Accepted, Udp, Other]).

sockets_of_inet6(_Config) ->
    Loopback = {0, 0, 0, 0, 0, 0, 0, 1},
    FD = socket(inet6, stream),
    case fdio:bind(FD, {Loopback, 0}) of
        ok ->
            {ok, {inet, Address}} = address(fdio:getsockname(FD)),
            ?assertEqual(
                #{fd => FD, type => socket, domain => "inet6", style => stream, local => text(Address), waiters => []},
                inert:info(FD)
            ),
            ok = fdio:listen(FD, 5),
            Client = socket(inet6, stream),
            ok = connected(Client, Address),
            Peer = text(Address),
            ?assertMatch(#{domain := "inet6", peer := Peer}, inert:info(Client)),
            close([FD, Client]);
        {error, eaddrnotavail} ->
            close(FD),
            {skip, "no IPv6 here"}
    end.

inet_bound(Domain, Type, IP) ->
    {FD, Bound} = bound(Domain, Type, {IP, 0}),
    {ok, Address} = address({ok, Bound}),
    {FD, Address}.

address({ok, {IP, Port}}) when is_tuple(IP) -> {ok, {inet, {IP, Port}}};
address({ok, {unix, Path}}) -> {ok, {unix, Path}}.

connected(FD, Address) ->
    case fdio:connect(FD, Address) of
        ok ->
            ok;
        {error, einprogress} ->
            {ok, write} = inert:poll(FD, write),
            fdio:so_error(FD)
    end.

sockets_of_unix(Config) ->
    {A, B} = pair(),
    ?assertEqual(#{fd => A, type => socket, domain => "unix", style => stream, waiters => []}, inert:info(A)),
    Path = path(Config, "socket"),
    {Server, _} = bound(unix, stream, {unix, list_to_binary(Path)}),
    ok = fdio:listen(Server, 5),
    ?assertEqual(
        #{fd => Server, type => socket, domain => "unix", style => stream, local => Path, waiters => []},
        inert:info(Server)
    ),
    Client = socket(unix, stream),
    ok = connected(Client, {unix, list_to_binary(Path)}),
    ?assertEqual(
        #{fd => Client, type => socket, domain => "unix", style => stream, peer => Path, waiters => []},
        inert:info(Client)
    ),
    %% The abstract name, which begins with a zero byte.
    Name = "inert_info_" ++ os:getpid(),
    {Abstract, _} = bound(unix, dgram, {unix, <<0, (list_to_binary(Name))/binary>>}),
    ?assertEqual(
        #{fd => Abstract, type => socket, domain => "unix", style => dgram, local => "@" ++ Name, waiters => []},
        inert:info(Abstract)
    ),
    Packets = socket(unix, seqpacket),
    ?assertMatch(#{style := seqpacket}, inert:info(Packets)),
    close([A, B, Server, Client, Abstract, Packets]),
    ok = file:delete(Path).

%% The longest one and those with bytes that no terminal should see.
socket_paths_with_odd_bytes(Config) ->
    Directory = path(Config, "d"),
    ok = filelib:ensure_dir(filename:join(Directory, "x")),
    {ok, Before} = file:get_cwd(),
    %% The path may be too long as it is.
    ok = file:set_cwd(Directory),
    _ = [
        begin
            {FD, _} = bound(unix, stream, {unix, Name}),
            #{local := Local} = inert:info(FD),
            ?assertEqual({Name, []}, {Name, [C || C <- Local, C < $\s orelse C > $~]}),
            %% A full path, in which nothing else is lost.
            ?assertEqual({Name, Length}, {Name, length(Local)}),
            %% One that does not listen is ready at once.
            ok = fdio:listen(FD, 1),
            ok = inert:fdset(FD),
            {_, Rows} = table(),
            ?assertMatch([_, [_, "unix stream " ++ _ | _]], Rows),
            ok = inert:fdclr(FD),
            close(FD),
            ok = file:delete(Name)
        end
     || {Name, Length} <- [
            {<<"a b">>, 3},
            {<<"a\nb">>, 4},
            {<<"a\eb\t">>, 8},
            {<<255, 254>>, 8},
            {binary:copy(<<"x">>, 107), 107}
        ]
    ],
    ok = file:set_cwd(Before),
    ok = file:del_dir(Directory).

%% What priv_dir/1 says may be longer than a socket's path may be.
path(Config, Name) ->
    Pollset = atom_to_list(proplists:get_value(pollset, Config)),
    filename:join("/tmp", "inert_info_" ++ os:getpid() ++ "_" ++ Pollset ++ "_" ++ Name).

other_files(Config) ->
    Path = filename:join(proplists:get_value(priv_dir, Config), "plain"),
    ok = file:write_file(Path, <<"x">>),
    {ok, File} = fdio:open(Path, [read]),
    ?assertEqual(#{fd => File, type => file, path => Path, waiters => []}, inert:info(File)),
    ok = file:delete(Path),
    Deleted = Path ++ " (deleted)",
    ?assertMatch(#{type := file, path := Deleted}, inert:info(File)),
    {ok, Directory} = fdio:open("/tmp", [read]),
    ?assertMatch(#{type := directory, path := "/tmp"}, inert:info(Directory)),
    {ok, Null} = fdio:open("/dev/null", [read]),
    ?assertMatch(#{type := character_device, path := "/dev/null"}, inert:info(Null)),
    {ok, {Reader, Writer}} = fdio:pipe(),
    ?assertMatch(#{type := pipe, path := "pipe:[" ++ _}, inert:info(Reader)),
    ?assertMatch(#{type := pipe}, inert:info(Writer)),
    {ok, {Master, Slave, Name}} = fdio:openpty(),
    Tty = binary_to_list(Name),
    ?assertMatch(#{type := tty, path := Tty}, inert:info(Slave)),
    ?assertMatch(#{type := tty, path := "/dev/p" ++ _}, inert:info(Master)),
    %% A file's name is bytes.
    Odd = <<(list_to_binary(Path))/binary, 255, "\n">>,
    ok = file:write_file(Odd, <<"x">>),
    {ok, OddFile} = fdio:open(Odd, [read]),
    ?assertMatch(#{type := file, path := Odd}, inert:info(OddFile)),
    ok = file:delete(Odd),
    close([File, Directory, Null, Reader, Writer, Master, Slave, OddFile]).

anonymous_files(_Config) ->
    {ok, Event} = fdio:eventfd(),
    {ok, Inotify} = fdio:inotify_init(),
    ?assertMatch(#{type := anonymous, path := "anon_inode:[eventfd]"}, inert:info(Event)),
    ?assertMatch(#{type := anonymous, path := "anon_inode:inotify"}, inert:info(Inotify)),
    ok = inert:fdset(Inotify),
    {ok, Timer} = fdio:timerfd_create(monotonic),
    ok = inert:fdset(Event),
    ok = inert:fdset(Timer),
    {_, [_ | Rows]} = table(),
    ?assertEqual(
        lists:sort([{Event, "eventfd"}, {Inotify, "inotify"}, {Timer, "timerfd"}]),
        [{list_to_integer(FD), What} || [FD, What | _] <- Rows]
    ),
    ok = inert:fdclr([Event, Inotify, Timer]),
    close([Event, Inotify, Timer]).

those_who_wait_for_a_fd(_Config) ->
    {A, B} = full_pair(),
    Self = self(),
    %% Of other numbers, too, one of them larger.
    Others = [{E, F} || _ <- [1, 2], {E, F} <- [full_pair()]],
    High = fdio:max_fds() - 2,
    false = fdio:is_open(High),
    ok = fdio:dup2(element(1, hd(Others)), High),
    ok = inert:fdset([High | [E || {E, _} <- Others]]),
    Began = erlang:monotonic_time(millisecond),
    ok = inert:fdset(A, read),
    Poller = blocked(run(fun() -> inert:poll(A, write) end)),
    #{fd := A, waiters := Waiters} = inert:info(A),
    ?assertMatch(
        [#{kind := read, pid := Self, waiting := _}, #{kind := write, pid := Poller, waiting := _}],
        lists:sort(fun(#{kind := K1}, #{kind := K2}) -> K1 =< K2 end, Waiters)
    ),
    ?assertEqual([[kind, pid, waiting]], lists:usort([lists:sort(maps:keys(W)) || W <- Waiters])),
    %% It grows as time goes by, in milliseconds, neither faster nor slower.
    receive
    after 60 -> ok
    end,
    Before = erlang:monotonic_time(millisecond),
    #{waiters := Later} = inert:info(A),
    After = erlang:monotonic_time(millisecond),
    [
        begin
            ?assert(Waiting =< After - Began + 2 * ?TICK_MS),
            ?assert(Waiting >= 60 - 2 * ?TICK_MS)
        end
     || #{waiting := Waiting} <- Later, After >= Before
    ],
    %% Arming again begins anew.
    ok = inert:fdset(A, read),
    #{waiters := Again} = inert:info(A),
    [New] = [W || #{kind := read, waiting := W} <- Again],
    ?assert(New =< erlang:monotonic_time(millisecond) - After + 2 * ?TICK_MS),
    %% Nobody of another fd.
    ok = inert:fdset(B, write),
    _ = flush(),
    ?assertMatch(#{waiters := []}, inert:info(B)),
    make_readable(B),
    _ = inert_test:message_of(inert:pollid()),
    ?assertMatch(#{waiters := [#{kind := write, pid := Poller}]}, inert:info(A)),
    inert_test:make_writable(B),
    {ok, write} = result(Poller),
    ?assertMatch(#{waiters := []}, inert:info(A)),
    _ = flush(),
    _ = inert:fdclr(B),
    ok = inert:fdclr([High | [E || {E, _} <- Others]]),
    close([A, B, High | Others]).

those_who_wait_at_another_port(Config) ->
    {A, B} = full_pair(),
    Port = inert_test:open(Config),
    true = register(inert_of_info, Port),
    ok = prim_inert:fdset(Port, A),
    ?assertMatch(#{waiters := []}, inert:info(A)),
    ?assertMatch(#{waiters := [#{kind := read}]}, prim_inert:info(Port, A)),
    ?assertMatch(#{waiters := [#{kind := read}]}, prim_inert:info(inert_of_info, A)),
    ?assertMatch(#{port := Port, armed := 1}, prim_inert:info(inert_of_info)),
    ok = prim_inert:stop(Port),
    ?assertEqual({error, closed}, prim_inert:info(inert_of_info)),
    ?assertEqual({error, closed}, prim_inert:info(inert_of_info, A)),
    close([A, B]).

wrong_fds(_Config) ->
    Closed = inert_test:closed_fd(),
    [
        ?assertEqual({FD, {error, ebadf}}, {FD, inert:info(FD)})
     || FD <- [-1, Closed, 16#7fffffff, 16#80000000, -16#80000001, 1 bsl 70]
    ],
    [
        ?assertEqual({FD, [1]}, {FD, inert_test:badarg_position(fun() -> inert:info(FD) end)})
     || FD <- [foo, 1.0, "1", [1], {1, read}, self()]
    ],
    [
        ?assertEqual([2], inert_test:badarg_position(fun() -> prim_inert:info(inert, FD) end))
     || FD <- [foo, [1]]
    ],
    no_message().

%%% table

a_table_of_nothing(Config) ->
    Title = lists:flatten(
        io_lib:format("inert, pollset ~p: 0 waiting for 0 fds, 0 notifications so far", [
            proplists:get_value(pollset, Config)
        ])
    ),
    ?assertEqual({ok, [Title]}, printed(fun() -> inert:i() end)).

a_table_of_all_sorts(Config) ->
    {A, B} = full_pair(),
    {Udp, {inet, UdpAddress}} = inet_bound(inet, dgram, {127, 0, 0, 1}),
    {ok, {Reader, Writer}} = fdio:pipe(),
    {ok, {Master, Slave, Name}} = fdio:openpty(),
    {Listener, ListenBound} = bound(inet, stream, {{127, 0, 0, 1}, 0}),
    {ok, {inet, ListenAddress}} = address({ok, ListenBound}),
    ok = fdio:listen(Listener, 5),
    Client = socket(inet, stream),
    ok = connected(Client, ListenBound),
    {ok, {inet, ClientAddress}} = address(fdio:getsockname(Client)),
    Self = self(),
    true = register(reader_of_info, run(fun() ->
        R = inert:poll([Reader, Slave, {A, read_write}], infinity),
        R
    end)),
    Named = blocked(whereis(reader_of_info)),
    ok = inert:fdset([Udp, Client]),
    {Title, [Heading | Rows]} = table(),
    Expected =
        "inert, pollset " ++ atom_to_list(proplists:get_value(pollset, Config)) ++
            ": 6 waiting for 5 fds, 0 notifications so far",
    ?assertEqual(Expected, Title),
    ?assertEqual(["fd", "what", "kind", "owner", "waiting"], Heading),
    ?assertEqual(
        lists:keysort(1, [
            {Udp, "inet dgram " ++ text(UdpAddress), "read", pid_to_list(Self)},
            {Client, "inet stream " ++ text(ClientAddress) ++ " - " ++ text(ListenAddress), "read", pid_to_list(Self)},
            {A, "unix stream", "read", "reader_of_info"},
            {A, "unix stream", "write", "reader_of_info"},
            {Slave, "tty " ++ binary_to_list(Name), "read", "reader_of_info"},
            {Reader, pipe, "read", "reader_of_info"}
        ]),
        [
            {list_to_integer(FD), case What of "pipe:[" ++ _ -> pipe; _ -> What end, Kind, Owner}
         || [FD, What, Kind, Owner, _Waiting] <- Rows
        ]
    ),
    [?assertMatch({match, _}, re:run(Waiting, "^[0-9]+(\\.[0-9])? m?s$")) || [_, _, _, _, Waiting] <- Rows],
    %% Every line is as wide as the others.
    {ok, [_ | Lines]} = printed(fun() -> inert:i() end),
    ?assertMatch([_], lists:usort([string:length(Line) || Line <- Lines])),
    ct:pal("~ts~n", [lists:join("\n", [Title | Lines])]),
    make_readable(B),
    ?assertMatch({ok, [{A, read}]}, result(Named)),
    ok = inert:fdclr([Udp, Client]),
    close([A, B, Udp, Reader, Writer, Master, Slave, Listener, Client]).

%% More than one message has room for, with two for each fd at the seams.
a_table_of_two_thousand(_Config) ->
    Count = min(1000, inert_test:room_for_fds(2000) div 2),
    Pairs = [full_pair() || _ <- lists:seq(1, Count)],
    FDs = lists:sort([A || {A, _} <- Pairs]),
    ok = inert:fdset([{A, read_write} || A <- FDs]),
    {_, [_ | Rows]} = table(),
    ?assertEqual(
        [{integer_to_list(FD), Kind} || FD <- FDs, Kind <- ["read", "write"]],
        [{FD, Kind} || [FD, _, Kind | _] <- Rows]
    ),
    #{armed := Armed} = inert:info(),
    ?assertEqual(2 * Count, Armed),
    ?assertMatch(#{waiters := [_, _]}, inert:info(lists:last(FDs))),
    ok = inert:fdclr(FDs),
    no_message(),
    close(Pairs).

a_table_with_a_closed_fd(_Config) ->
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    ok = inert:fdset(A),
    ok = inert:fdset(C),
    close(A),
    {_, [_ | Rows]} = table(),
    ?assertMatch([_, _], Rows),
    ?assertEqual(
        lists:sort([{integer_to_list(A), "(closed)"}, {integer_to_list(C), "unix stream"}]),
        lists:sort([{FD, What} || [FD, What | _] <- Rows])
    ),
    _ = inert:fdclr(A),
    ok = inert:fdclr(C),
    close([B, C, D]).

a_table_with_odd_names(Config) ->
    Directory = proplists:get_value(priv_dir, Config),
    Names = [<<"plain">>, <<"new\nline">>, <<"esc\e[31m">>, <<255, 254>>, <<"é"/utf8>>, binary:copy(<<"long">>, 50)],
    Owners = ['имя', 'with space', 'new\nline', list_to_atom(lists:duplicate(255, $o)), '数'],
    {A, B} = full_pair(),
    %% Regular files are ready at once: what waits is a fifo.
    FDs = [
        begin
            Path = filename:join(list_to_binary(Directory), Name),
            0 = mkfifo(Path),
            {ok, FD} = fdio:open(Path, [read, write]),
            ok = inert:fdset(FD),
            ok = file:delete(Path),
            FD
        end
     || Name <- Names
    ],
    Pollers = [
        begin
            {C, D} = full_pair(),
            Pid = blocked(run(fun() -> inert:poll(C) end)),
            true = register(Owner, Pid),
            {Pid, C, D}
        end
     || Owner <- Owners
    ],
    {ok, [_ | Lines]} = printed(fun() -> inert:i() end),
    %% One line for each, of one width, that fits a screen, with nothing in it but what can be seen.
    ?assertEqual(1 + length(Names) + length(Owners), length(Lines)),
    ?assertMatch([Width] when Width < 160, lists:usort([string:length(Line) || Line <- Lines])),
    ?assertEqual([], [C || Line <- Lines, C <- Line, C < $\s orelse (C >= 16#7f andalso C < 16#a0)]),
    Text = lists:append(Lines),
    [
        ?assertMatch({Part, [_ | _]}, {Part, string:find(Text, Part) =/= nomatch andalso Part})
     || Part <- ["/plain", "new\\x0aline", "esc\\x1b[31m", "\\xff\\xfe", "é", "longlong (deleted)", "имя", "'with space'", "'new\\nline'", "ooo...ooo", "数"]
    ],
    ct:pal("~ts~n", [lists:join("\n", Lines)]),
    ok = inert:fdclr(FDs),
    [make_readable(D) || {_, _, D} <- Pollers],
    _ = results([Pid || {Pid, _, _} <- Pollers]),
    close(FDs),
    close([[C, D] || {_, C, D} <- Pollers]),
    close([A, B]).

%% By the name's bytes, whatever they are.
mkfifo(Path) ->
    Port = open_port({spawn_executable, os:find_executable("mkfifo")}, [{args, [Path]}, exit_status]),
    receive
        {Port, {exit_status, Status}} -> Status
    end.

a_table_of_a_port_of_ones_own(Config) ->
    {A, B} = full_pair(),
    Port = inert_test:open(Config),
    true = register('имя', Port),
    ok = prim_inert:fdset(Port, A),
    {ok, [Title | Rows]} = printed(fun() -> prim_inert:i(Port) end),
    ?assertMatch("#Port<" ++ _, Title),
    {ok, [Named | Rows2]} = printed(fun() -> prim_inert:i('имя') end),
    ?assertNotEqual(nomatch, string:prefix(Named, "'имя', pollset ")),
    ?assertMatch({[_, _], [_, _]}, {Rows, Rows2}),
    {ok, [_]} = printed(fun() -> inert:i() end),
    ok = prim_inert:stop(Port),
    ?assertEqual({{error, closed}, []}, printed(fun() -> prim_inert:i('имя') end)),
    close([A, B]).

%% The shell of a VM that knows of latin1 only.
a_table_on_a_terminal_of_latin1(_Config) ->
    Eval =
        "ok = inert:start(), {ok, {A, _}} = fdio:socketpair(),"
        "register(list_to_atom([1080, 1084, 1103]), self()), ok = inert:fdset(A), inert:i(), init:stop().",
    Port = open_port({spawn_executable, os:find_executable("erl")}, [
        {args, ["-noinput", "-eval", Eval]}, {env, [{"LC_ALL", "C"}]}, exit_status, stderr_to_stdout, binary, hide
    ]),
    {Status, Output} = collect(Port, <<>>),
    ?assertEqual(0, Status, Output),
    ?assertMatch([_, _, _], binary:split(Output, <<"\n">>, [global, trim_all])),
    ?assertNotEqual(nomatch, binary:match(Output, <<"\\x{438}\\x{43C}\\x{44F}">>)).

collect(Port, Output) ->
    receive
        {Port, {data, Data}} -> collect(Port, <<Output/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Output}
    end.

looking_while_others_arm_and_die(_Config) ->
    Pairs = [full_pair() || _ <- lists:seq(1, 40)],
    Looker = run(fun() -> look(200), flush() end),
    busy_until_dead(Looker, Pairs),
    ?assertEqual([], result(Looker)),
    no_message(),
    until(fun() -> count(armed) =:= 0 end),
    close(Pairs).

look(0) ->
    ok;
look(N) ->
    #{armed := _} = inert:info(),
    [?assert(is_map(Info) orelse Info =:= {error, ebadf}, Info) || FD <- lists:seq(10, 30), Info <- [inert:info(FD)]],
    case N rem 10 of
        0 -> {ok, [_ | _]} = printed(fun() -> inert:i() end);
        _ -> ok
    end,
    look(N - 1).

busy_until_dead(Looker, Pairs) ->
    case is_process_alive(Looker) of
        false ->
            ok;
        true ->
            Pids = [
                spawn(fun() ->
                    _ = inert:fdset(B, write),
                    _ = inert:fdset(A, read),
                    inert:poll([A, {B, read}], rand:uniform(20))
                end)
             || {A, B} <- Pairs
            ],
            [exit(Pid, kill) || Pid <- Pids, rand:uniform(3) > 1],
            [
                begin
                    M = monitor(process, Pid),
                    receive
                        {'DOWN', M, _, _, _} -> ok
                    end
                end
             || Pid <- Pids
            ],
            busy_until_dead(Looker, Pairs)
    end.

looking_while_the_service_comes_and_goes(_Config) ->
    {A, B} = full_pair(),
    Looker = run(fun() ->
        [
            begin
                Info = inert:info(),
                ?assert(is_map(Info) orelse Info =:= {error, closed}, Info),
                FD = inert:info(A),
                ?assert(is_map(FD) orelse FD =:= {error, closed}, FD),
                {Result, _} = printed(fun() -> inert:i() end),
                ?assert(lists:member(Result, [ok, {error, closed}]), Result)
            end
         || _ <- lists:seq(1, 300)
        ],
        flush()
    end),
    stop_and_start_until_dead(Looker, A),
    ?assertEqual([], result(Looker)),
    _ = inert:start(),
    close([A, B]).

stop_and_start_until_dead(Looker, A) ->
    case is_process_alive(Looker) of
        false ->
            ok;
        true ->
            ok = inert:stop(),
            ok = inert:start(),
            _ = inert:fdset(A),
            stop_and_start_until_dead(Looker, A)
    end.

%%% arguments

%% Call, the argument that is wrong, and what the shell says of it.
the_shell_says_what_is_wrong(Config) ->
    Port = inert_test:open(Config),
    {A, B} = pair(),
    FD = "not a file descriptor, which is an integer",
    FDs = "not a file descriptor, which is an integer, nor a list of such and of {FD, Mode}",
    Timeout = "not a timeout, which is infinity or a number of milliseconds from 0",
    Option = "the option timeout is not infinity or a number of milliseconds from 0",
    Start = "not a list of start options: {pollset, epoll | erts}",
    Child = "not a list of options: {name, atom()}, {pollset, epoll | erts}",
    InList = fun(Term) ->
        "a list with " ++ Term ++ " in it, which is neither a file descriptor nor {FD, Mode}"
    end,
    Service = [
        {start, [foo], 1, Start},
        {start, [[{pollset, foo}]], 1, Start},
        {child_spec, [[{name, "a"}]], 1, Child},
        {info, [foo], 1, FD}
    ],
    Own = [
        {start, [foo], 1, Start},
        {info, [Port, foo], 2, FD}
    ],
    Both = lists:append([
        [
            {F, [foo], 1, FDs},
            {F, [[A | foo]], 1, FDs},
            {F, [[A, foo]], 1, InList("foo")},
            {F, [[A, {B, read, write}]], 1, InList("{" ++ integer_to_list(B) ++ ",read,write}")},
            {F, [[{foo, read}]], 1, InList("{foo,read}")},
            {F, [foo, read], 1, if F =:= poll -> FDs; true -> FD end},
            {F, [A, [{timeout, -1}]], 2, Option},
            {F, [A, [{mode, read}, {timeout, foo}]], 2, Option}
        ]
     || F <- [fdset, fdclr, poll]
    ]) ++ [
        {poll, [[A], foo], 2, Timeout},
        {poll, [[A], -1], 2, Timeout},
        {poll, [[A, foo], 1], 1, InList("foo")},
        {poll, [[A, foo], foo], 1, InList("foo")},
        {poll, [foo, read, 1], 1, FD},
        {poll, [foo, read, foo], 1, FD},
        {poll, [A, read, foo], 3, Timeout},
        {poll, [A, read, 1.0], 3, Timeout},
        {poll, [A, [{timeout, foo}], 1], 2, Option},
        {fdset, [[A], read], 1, FD},
        {fdclr, [[A], read], 1, FD},
        {poll, [[A], read, 1], 1, FD}
    ],
    [
        ?assertEqual({F, Args, ["*** argument " ++ integer_to_list(Position) ++ ": " ++ Text]}, {F, Args, shown(M, F, Args)})
     || {M, F, Args, Position, Text} <-
            [{inert, F, Args, Position, Text} || {F, Args, Position, Text} <- Service ++ Both] ++
                [{prim_inert, F, Args, Position, Text} || {F, Args, Position, Text} <- Own] ++
                [{prim_inert, F, [Port | Args], Position + 1, Text} || {F, Args, Position, Text} <- Both]
    ],
    %% However large what is wrong is, what is shown is not.
    [Shown] = shown(inert, poll, [[A, lists:seq(1, 100000)]]),
    ?assert(length(Shown) < 200),
    ?assertMatch(#{armed := 0}, inert:info()),
    ok = prim_inert:stop(Port),
    no_message(),
    close([A, B]).

%% The lines of what the shell would print that tell of arguments.
shown(M, F, Args) ->
    try apply(M, F, Args) of
        Result -> {returned, Result}
    catch
        error:badarg:Stack ->
            ?assertMatch([{M, F, Args, _} | _], Stack),
            Text = erl_error:format_exception(error, badarg, Stack, #{column => 200}),
            Lines = string:split(unicode:characters_to_list(Text), "\n", all),
            [string:trim(Line) || Line <- Lines, string:find(Line, "***") =/= nomatch]
    end.

an_error_says_which_fd(_Config) ->
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    Closed = inert_test:closed_fd(),
    ?assertEqual({error, {ebadf, Closed}}, inert:poll([A, Closed, C], 100)),
    ?assertEqual({error, {ebadf, -1}}, inert:poll([A, -1, C], 100)),
    ?assertEqual({error, {ebadf, 1 bsl 40}}, inert:fdset([A, 1 bsl 40, C])),
    ?assertEqual({error, {einval, C}}, inert:fdset([A, {C, foo}])),
    ?assertEqual({error, {einval, A}}, inert:fdclr([A, C, A])),
    Poller = blocked(run(fun() -> inert:poll(C) end)),
    ?assertEqual({error, {ebusy, C}}, inert:poll([A, C], 100)),
    ?assertEqual({error, {ebusy, C}}, inert:fdset([A, C])),
    Set = blocked(run(fun() -> inert:poll([A, {C, write}], infinity) end)),
    ok = inert:fdclr(A),
    ?assertEqual({error, {ecanceled, A}}, result(Set)),
    make_readable(D),
    ?assertEqual({ok, read}, result(Poller)),
    ?assertMatch(#{armed := 0}, inert:info()),
    close([A, B, C, D]).
