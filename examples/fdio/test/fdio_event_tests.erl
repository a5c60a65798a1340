%% SPDX-License-Identifier: Apache-2.0

%% As fdio_tests, for what is there because of events: messages with ancillary data, inotify,
%% timers, semaphores and processes of the system.
-module(fdio_event_tests).

-include_lib("eunit/include/eunit.hrl").

-define(LOOPBACK, {127, 0, 0, 1}).
-define(LOOPBACK6, {0, 0, 0, 0, 0, 0, 0, 1}).

%% Within the kernel this takes microseconds; only a lost event reaches it.
-define(PATIENCE_MS, 5000).

%%% Everything

new_fds_are_nonblocking_and_close_on_exec_test() ->
    {ok, Inotify} = fdio:inotify_init(),
    {ok, Timer} = fdio:timerfd_create(monotonic),
    {ok, Process} = fdio:pidfd_open(list_to_integer(os:getpid())),
    {ok, Semaphore} = fdio:eventfd(semaphore),
    FDs = [Inotify, Timer, Process, Semaphore],
    [?assertEqual({FD, true, true}, {FD, has_flag(FD, 8#4000), has_flag(FD, 8#2000000)}) || FD <- FDs],
    close(FDs).

what_is_not_open_is_ebadf_everywhere_test_() ->
    Calls = [
        {sendmsg, [#{data => <<"x">>}]},
        {sendmsg, [#{data => <<"x">>, address => {?LOOPBACK, 1}}]},
        {recvmsg, [1]},
        {inotify_add_watch, ["/", [create]]},
        {inotify_rm_watch, [1]},
        {inotify_read, []},
        {timerfd_settime, [1, 1]},
        {pidfd_send_signal, [cont]},
        {setsockopt, [pktinfo, true]},
        {setsockopt, [recvttl, true]},
        {setsockopt, [timestamp, true]},
        {setsockopt, [bindtodevice, <<"lo">>]}
    ],
    [
        {atom_to_list(Call), [
            [
                ?_assertEqual({error, ebadf}, apply(fdio, Call, [FD | Args]))
             || FD <- [-1, fdio:max_fds(), 1 bsl 80]
            ],
            [?_assertError(badarg, apply(fdio, Call, [NoFD | Args])) || NoFD <- [a, 1.0, <<"1">>]]
        ]}
     || {Call, Args} <- Calls
    ].

%% What each call says to an open fd of a kind that it is not for.
another_kind_of_fd_is_refused_test() ->
    {ok, {A, B}} = fdio:socketpair(),
    {ok, Event} = fdio:eventfd(),
    ?assertEqual({error, enotsock}, fdio:sendmsg(Event, #{data => <<"x">>})),
    ?assertEqual({error, enotsock}, fdio:recvmsg(Event, 1)),
    ?assertEqual({error, einval}, fdio:inotify_add_watch(A, "/", [create])),
    ?assertEqual({error, einval}, fdio:inotify_rm_watch(A, 1)),
    ?assertEqual({error, einval}, fdio:timerfd_settime(A, 1, 1)),
    ?assertEqual({error, ebadf}, fdio:pidfd_send_signal(A, cont)),
    %% Bytes that are no events, or lie about their length.
    [
        begin
            {ok, _} = fdio:write(B, Bytes),
            ?assertEqual({error, einval}, fdio:inotify_read(A))
        end
     || Bytes <- [
            <<"x">>,
            <<0:15/unit:8>>,
            <<0:96, 16#ffffffff:32/native>>,
            <<0:96, 100:32/native, "short">>,
            <<0:128, 0:8>>
        ]
    ],
    close([A, B, Event]).

%%% Messages

fds_travel_over_a_stream_test() ->
    fds_travel(stream).

fds_travel_over_datagrams_test() ->
    fds_travel(dgram).

fds_travel(Type) ->
    {ok, {A, B}} = fdio:socketpair(Type),
    {ok, {Reader, Writer}} = fdio:pipe(),
    {ok, 2} = fdio:sendmsg(A, #{data => <<"fd">>, control => [{rights, [Reader, Writer]}]}),
    close([Reader, Writer]),
    {ok, Message} = fdio:recvmsg(B, 100),
    #{data := <<"fd">>, flags := [], control := [{rights, [Reader1, Writer1]}]} = Message,
    ?assert(has_flag(Reader1, 8#2000000)),
    {ok, 1} = fdio:write(Writer1, <<"x">>),
    ?assertEqual({ok, <<"x">>}, fdio:read(Reader1, 10)),
    ?assertEqual({error, eagain}, fdio:recvmsg(B, 100)),
    close([A, B, Reader1, Writer1]).

the_most_fds_that_the_kernel_passes_test() ->
    {ok, {A, B}} = fdio:socketpair(),
    {ok, 1} = fdio:sendmsg(A, #{data => <<"x">>, control => [{rights, lists:duplicate(253, A)}]}),
    {ok, #{control := [{rights, FDs}], flags := []}} = fdio:recvmsg(B, 1),
    ?assertEqual(253, length(FDs)),
    ?assertEqual(
        {error, einval},
        fdio:sendmsg(A, #{data => <<"x">>, control => [{rights, lists:duplicate(254, A)}]})
    ),
    close([A, B | FDs]).

%% Those for which there is a number are told, and are the receiver's to close.
fds_that_do_not_fit_are_said_to_be_cut_test() ->
    {ok, {A, B}} = fdio:socketpair(),
    {ok, 1} = fdio:sendmsg(A, #{data => <<"x">>, control => [{rights, [A, A, A]}]}),
    Used = open_fds(),
    Filling = use_all_fds([]),
    [One, Two | Filling1] = Filling,
    close([One, Two]),
    {ok, Message} = fdio:recvmsg(B, 1),
    {ok, 1} = fdio:sendmsg(A, #{data => <<"y">>, control => [{rights, [A]}]}),
    {ok, Message1} = fdio:recvmsg(B, 1),
    close(Filling1),
    #{control := [{rights, Got}], flags := [ctrunc]} = Message,
    ?assertEqual(lists:sort([One, Two]), lists:sort(Got)),
    ?assertMatch(#{data := <<"y">>, control := [], flags := [ctrunc]}, Message1),
    close(Got),
    ?assertEqual(Used, open_fds()),
    close([A, B]).

a_datagram_that_is_cut_says_so_test_() ->
    [
        {atom_to_list(Domain), fun() ->
            {A, B, _} = datagram_pair(Domain, Address),
            {ok, 5} = fdio:sendmsg(A, #{data => <<"hello">>}),
            ?assertMatch({ok, #{data := <<"hel">>, flags := [trunc]}}, receive_message(B, 3)),
            {ok, 0} = fdio:sendmsg(A, #{data => <<>>}),
            ?assertMatch({ok, #{data := <<>>, flags := []}}, receive_message(B, 3)),
            close([A, B])
        end}
     || {Domain, Address} <- [{unix, unix_address()}, {inet, {?LOOPBACK, 0}}, {inet6, {?LOOPBACK6, 0}}]
    ].

addresses_of_messages_test_() ->
    [
        {atom_to_list(Domain), fun() ->
            {A, B, BAddress} = datagram_pair(Domain, Address),
            {ok, C} = fdio:socket(Domain, dgram, 0),
            {ok, 1} = fdio:sendmsg(C, #{data => <<"c">>, address => BAddress}),
            ?assertMatch({ok, #{data := <<"c">>}}, receive_message(B, 10)),
            Own =
                case Domain of
                    unix -> unix_address();
                    _ -> {element(1, Address), 0}
                end,
            {ok, D} = fdio:socket(Domain, dgram, 0),
            ok = fdio:bind(D, Own),
            {ok, DAddress} = fdio:getsockname(D),
            {ok, 1} = fdio:sendmsg(D, #{data => <<"d">>, address => BAddress, control => []}),
            ?assertMatch({ok, #{data := <<"d">>, address := DAddress}}, receive_message(B, 10)),
            {ok, E} = fdio:socket(Domain, dgram, 0),
            {error, Reason} = fdio:sendmsg(E, #{data => <<"e">>}),
            ?assert(lists:member(Reason, [edestaddrreq, enotconn])),
            close([A, B, C, D, E])
        end}
     || {Domain, Address} <- [{unix, unix_address()}, {inet, {?LOOPBACK, 0}}, {inet6, {?LOOPBACK6, 0}}]
    ].

addresses_of_another_domain_are_refused_test() ->
    {ok, Inet} = fdio:socket(inet, dgram, 0),
    {ok, Unix} = fdio:socket(unix, dgram, 0),
    ?assertMatch({error, _}, fdio:sendmsg(Inet, #{data => <<>>, address => unix_address()})),
    ?assertMatch({error, _}, fdio:sendmsg(Inet, #{data => <<>>, address => {?LOOPBACK6, 1}})),
    ?assertMatch({error, _}, fdio:sendmsg(Unix, #{data => <<>>, address => {?LOOPBACK, 1}})),
    close([Inet, Unix]).

nothing_is_told_that_was_not_asked_for_test() ->
    {A, B, _} = datagram_pair(inet, {?LOOPBACK, 0}),
    {ok, 1} = fdio:send(A, <<"x">>),
    ?assertMatch({ok, #{control := [], flags := []}}, receive_message(B, 1)),
    [ok = fdio:setsockopt(B, Option, On) || On <- [true, false], Option <- [pktinfo, recvttl, timestamp]],
    {ok, 1} = fdio:send(A, <<"x">>),
    ?assertMatch({ok, #{control := [], flags := []}}, receive_message(B, 1)),
    close([A, B]).

ancillary_data_of_ip_test_() ->
    [
        {atom_to_list(Domain), fun() ->
            {A, B, _} = datagram_pair(Domain, {IP, 0}),
            [ok = fdio:setsockopt(B, Option, true) || Option <- [pktinfo, recvttl, timestamp]],
            Before = os:system_time(nanosecond),
            {ok, 1} = fdio:sendmsg(A, #{data => <<"x">>, control => [{ttl, 7}]}),
            {ok, #{control := Control, flags := []}} = receive_message(B, 1),
            ?assertEqual([pktinfo, timestamp, ttl], lists:sort([element(1, C) || C <- Control])),
            ?assertEqual({ttl, 7}, lists:keyfind(ttl, 1, Control)),
            ?assertEqual({pktinfo, IP, interface_index("lo")}, lists:keyfind(pktinfo, 1, Control)),
            {timestamp, Time} = lists:keyfind(timestamp, 1, Control),
            %% Both are the system's clock; the VM's own may be corrected more slowly.
            ?assert(abs(Time - Before) < 60_000_000_000),
            %% An answer goes out from the address that was asked.
            {ok, Client} = fdio:getsockname(A),
            {ok, 1} = fdio:sendmsg(B, #{data => <<"y">>, address => Client, control => [{pktinfo, IP, 0}]}),
            ?assertMatch({ok, #{data := <<"y">>}}, receive_message(A, 1)),
            close([A, B])
        end}
     || {Domain, IP} <- [{inet, ?LOOPBACK}, {inet6, ?LOOPBACK6}]
    ].

a_message_leaves_from_the_address_that_is_said_test() ->
    {ok, FD} = fdio:socket(inet, dgram, 0),
    ok = fdio:setsockopt(FD, bindtodevice, <<"lo">>),
    ok = fdio:bind(FD, {{0, 0, 0, 0}, 0}),
    B = bound(inet, {?LOOPBACK, 0}),
    {ok, To} = fdio:getsockname(B),
    Send = fun(Control) -> fdio:sendmsg(FD, #{data => <<"x">>, address => To, control => Control}) end,
    {ok, 1} = Send([{pktinfo, {127, 0, 0, 2}, 0}]),
    ?assertMatch({ok, #{address := {{127, 0, 0, 2}, _}}}, receive_message(B, 1)),
    {ok, 1} = Send([]),
    ?assertMatch({ok, #{address := {?LOOPBACK, _}}}, receive_message(B, 1)),
    %% No address of this machine, no interface of this number.
    ?assertMatch({error, _}, Send([{pktinfo, {192, 0, 2, 1}, 0}])),
    ?assertMatch({error, _}, Send([{pktinfo, {0, 0, 0, 0}, 999_999}])),
    close([FD, B]).

ancillary_data_of_another_domain_is_einval_test() ->
    {ok, Inet} = fdio:socket(inet, dgram, 0),
    {ok, Inet6} = fdio:socket(inet6, dgram, 0),
    {ok, {A, B}} = fdio:socketpair(),
    [
        ?assertEqual({error, einval}, fdio:sendmsg(FD, #{data => <<"x">>, control => Control}))
     || {FD, Control} <- [
            {Inet, [{rights, [A]}]},
            {Inet6, [{rights, [A]}]},
            {Inet, [{pktinfo, ?LOOPBACK6, 0}]},
            {Inet6, [{pktinfo, ?LOOPBACK, 0}]},
            {A, [{ttl, 1}]},
            {A, [{pktinfo, ?LOOPBACK, 0}]},
            {A, [{rights, [A]}, {rights, [B]}]}
        ]
    ],
    ?assertEqual({error, ebadf}, fdio:sendmsg(A, #{data => <<"x">>, control => [{rights, [A, -1]}]})),
    ?assertEqual(
        {error, ebadf}, fdio:sendmsg(A, #{data => <<"x">>, control => [{rights, [fdio:max_fds()]}]})
    ),
    ?assertEqual({error, eagain}, fdio:recvmsg(B, 1)),
    close([Inet, Inet6, A, B]).

message_arguments_test() ->
    {ok, {A, B}} = fdio:socketpair(),
    [
        ?assertError(badarg, fdio:sendmsg(A, Message))
     || Message <- [
            <<"x">>,
            [],
            #{},
            #{data => "x"},
            #{data => [<<"x">>]},
            #{data => <<"x">>, unknown => 1},
            #{data => <<"x">>, address => a},
            #{data => <<"x">>, control => {ttl, 1}},
            #{data => <<"x">>, control => [{ttl, 1} | a]},
            #{data => <<"x">>, control => [{ttl, 256}]},
            #{data => <<"x">>, control => [{ttl, -1}]},
            #{data => <<"x">>, control => [{ttl, a}]},
            #{data => <<"x">>, control => [{timestamp, 1}]},
            #{data => <<"x">>, control => [{rights, A}]},
            #{data => <<"x">>, control => [{rights, [a]}]},
            #{data => <<"x">>, control => [{rights, [A | B]}]},
            #{data => <<"x">>, control => [{pktinfo, ?LOOPBACK}]},
            #{data => <<"x">>, control => [{pktinfo, ?LOOPBACK, -1}]},
            #{data => <<"x">>, control => [{pktinfo, a, 0}]}
        ]
    ],
    [?assertError(badarg, fdio:recvmsg(A, Max)) || Max <- [0, -1, 1048577, a]],
    ?assertEqual({error, eagain}, fdio:recvmsg(A, 1048576)),
    ?assertError(badarg, fdio:setsockopt(A, pktinfo, 1)),
    ?assertError(badarg, fdio:setsockopt(A, bindtodevice, "lo")),
    close([A, B]).

the_ends_of_a_stream_of_messages_test() ->
    {ok, {A, B}} = fdio:socketpair(),
    ?assertEqual({error, eagain}, fdio:recvmsg(B, 10)),
    ok = fdio:close(A),
    ?assertMatch({ok, #{data := <<>>, control := [], flags := []}}, fdio:recvmsg(B, 10)),
    ?assertEqual({error, epipe}, fdio:sendmsg(B, #{data => <<"x">>})),
    ok = fdio:close(B).

a_socket_bound_to_a_device_that_is_not_there_test() ->
    {ok, FD} = fdio:socket(inet, dgram, 0),
    ?assertEqual({error, enodev}, fdio:setsockopt(FD, bindtodevice, <<"no such">>)),
    ok = fdio:close(FD).

%%% inotify

inotify_tells_what_happens_in_a_directory_test() ->
    with_directory(fun(Directory) ->
        {ok, FD} = fdio:inotify_init(),
        {ok, Watch} = fdio:inotify_add_watch(FD, Directory, [create, close_write, moved_from, moved_to, delete]),
        ?assertEqual({error, eagain}, fdio:inotify_read(FD)),
        %% As names are told: with and without padding.
        Names = [binary:copy(<<"n">>, N) || N <- [1, 15, 16, 17, 255]],
        [
            begin
                Path = filename:join(Directory, Name),
                ok = file:write_file(Path, <<"x">>),
                ok = file:delete(Path)
            end
         || Name <- Names
        ],
        {ok, Events} = fdio:inotify_read(FD),
        ?assertEqual(
            [
                #{watch => Watch, flags => [Flag], cookie => 0, name => Name}
             || Name <- Names, Flag <- [create, close_write, delete]
            ],
            Events
        ),
        ok = file:make_dir(filename:join(Directory, "a")),
        ok = file:rename(filename:join(Directory, "a"), filename:join(Directory, "b")),
        {ok, [Create, From, To]} = fdio:inotify_read(FD),
        ?assertMatch(#{flags := [create, isdir], name := <<"a">>}, Create),
        #{flags := [moved_from, isdir], cookie := Cookie, name := <<"a">>} = From,
        ?assert(Cookie > 0),
        ?assertMatch(#{flags := [moved_to, isdir], cookie := Cookie, name := <<"b">>}, To),
        ok = fdio:close(FD)
    end).

inotify_tells_the_end_of_a_watch_test() ->
    with_directory(fun(Directory) ->
        {ok, FD} = fdio:inotify_init(),
        {ok, Watch} = fdio:inotify_add_watch(FD, list_to_binary(Directory), [create]),
        ?assertEqual({ok, Watch}, fdio:inotify_add_watch(FD, Directory, [delete_self])),
        ok = fdio:inotify_rm_watch(FD, Watch),
        ?assertMatch({ok, [#{watch := Watch, flags := [ignored], name := <<>>}]}, fdio:inotify_read(FD)),
        ?assertEqual({error, einval}, fdio:inotify_rm_watch(FD, Watch)),
        {ok, Watch1} = fdio:inotify_add_watch(FD, Directory, [delete_self]),
        ok = file:del_dir(Directory),
        ?assertMatch(
            {ok, [#{watch := Watch1, flags := [delete_self]}, #{watch := Watch1, flags := [ignored]}]},
            fdio:inotify_read(FD)
        ),
        ok = file:make_dir(Directory),
        ok = fdio:close(FD)
    end).

inotify_errors_test() ->
    {ok, FD} = fdio:inotify_init(),
    ?assertEqual({error, enoent}, fdio:inotify_add_watch(FD, "/no/such/directory", [create])),
    ?assertEqual({error, enotdir}, fdio:inotify_add_watch(FD, "/dev/null", [create, onlydir])),
    ?assertEqual({error, einval}, fdio:inotify_add_watch(FD, "/", [])),
    ?assertEqual({error, einval}, fdio:inotify_add_watch(FD, <<"/", 0>>, [create])),
    [
        ?assertError(badarg, fdio:inotify_add_watch(FD, Path, Flags))
     || {Path, Flags} <- [{a, [create]}, {[-1], [create]}, {"/", create}, {"/", [creat]}, {"/", [create | a]}]
    ],
    ?assertError(badarg, fdio:inotify_rm_watch(FD, a)),
    ok = fdio:close(FD).

%%% Timers

a_timer_expires_test_() ->
    [
        {atom_to_list(Clock), fun() ->
            {ok, FD} = fdio:timerfd_create(Clock),
            ?assertEqual({error, eagain}, fdio:read(FD, 8)),
            ok = fdio:timerfd_settime(FD, 1_000_000, 0),
            ?assertEqual({ok, <<1:64/native>>}, retry(fun() -> fdio:read(FD, 8) end)),
            ?assertEqual({error, eagain}, fdio:read(FD, 8)),
            ?assertEqual({error, einval}, fdio:read(FD, 7)),
            ok = fdio:timerfd_settime(FD, 1, 1_000_000),
            timer:sleep(10),
            {ok, <<Times:64/native>>} = fdio:read(FD, 8),
            ?assert(Times >= 10),
            ok = fdio:timerfd_settime(FD, 0, 1),
            ?assertEqual({error, eagain}, fdio:read(FD, 8)),
            ok = fdio:close(FD)
        end}
     || Clock <- [monotonic, realtime, boottime]
    ].

timer_arguments_test() ->
    ?assertError(badarg, fdio:timerfd_create(process)),
    {ok, FD} = fdio:timerfd_create(monotonic),
    [
        ?assertError(badarg, fdio:timerfd_settime(FD, After, Every))
     || {After, Every} <- [{-1, 0}, {0, -1}, {1.0, 0}, {1 bsl 64, 0}, {0, infinity}]
    ],
    ?assertEqual(ok, fdio:timerfd_settime(FD, 1 bsl 64 - 1, 1 bsl 64 - 1)),
    ?assertEqual({error, eagain}, fdio:read(FD, 8)),
    ok = fdio:close(FD).

%%% Counters

a_semaphore_gives_one_at_a_time_test() ->
    {ok, FD} = fdio:eventfd(semaphore),
    {ok, 8} = fdio:write(FD, <<2:64/native>>),
    ?assertEqual({ok, <<1:64/native>>}, fdio:read(FD, 8)),
    ?assertEqual({ok, <<1:64/native>>}, fdio:read(FD, 8)),
    ?assertEqual({error, eagain}, fdio:read(FD, 8)),
    ok = fdio:close(FD),
    ?assertError(badarg, fdio:eventfd(mutex)).

a_counter_that_is_full_says_so_test() ->
    {ok, FD} = fdio:eventfd(counter),
    Most = 1 bsl 64 - 2,
    {ok, 8} = fdio:write(FD, <<Most:64/native>>),
    ?assertEqual({error, eagain}, fdio:write(FD, <<1:64/native>>)),
    ?assertEqual({error, einval}, fdio:write(FD, <<(Most + 1):64/native>>)),
    ?assertEqual({ok, <<Most:64/native>>}, fdio:read(FD, 8)),
    ok = fdio:close(FD).

%%% Processes of the system

a_process_is_signalled_until_it_has_ended_test() ->
    %% Before it is what it shall become, it ignores SIGTERM as the VM's own helper does.
    Port = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", "echo ready; exec sleep 60"]}, exit_status]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    receive
        {Port, {data, "ready\n"}} -> ok
    end,
    {ok, FD} = fdio:pidfd_open(OsPid),
    ok = fdio:pidfd_send_signal(FD, stop),
    ok = fdio:pidfd_send_signal(FD, cont),
    ok = fdio:pidfd_send_signal(FD, term),
    receive
        {Port, {exit_status, Status}} -> ?assertEqual(128 + 15, Status)
    end,
    ?assertEqual({error, esrch}, fdio:pidfd_send_signal(FD, kill)),
    ok = fdio:close(FD).

pidfd_errors_test() ->
    [?assertEqual({error, einval}, fdio:pidfd_open(Pid)) || Pid <- [0, -1, -(1 bsl 31)]],
    ?assertEqual({error, esrch}, fdio:pidfd_open(1 bsl 31 - 1)),
    [?assertError(badarg, fdio:pidfd_open(Pid)) || Pid <- [a, "1", 1 bsl 31]],
    {ok, FD} = fdio:pidfd_open(list_to_integer(os:getpid())),
    [?assertError(badarg, fdio:pidfd_send_signal(FD, Signal)) || Signal <- [sigterm, 15, segv]],
    ?assertMatch({error, _}, fdio:read(FD, 1)),
    ok = fdio:close(FD).

%%% Support

%% A is connected to B, which is bound to the address.
datagram_pair(Domain, Address) ->
    B = bound(Domain, Address),
    {ok, BAddress} = fdio:getsockname(B),
    A =
        case Domain of
            unix -> bound(unix, unix_address());
            _ -> bound(Domain, Address)
        end,
    ok = fdio:connect(A, BAddress),
    {A, B, BAddress}.

bound(Domain, Address) ->
    {ok, FD} = fdio:socket(Domain, dgram, 0),
    ok = fdio:bind(FD, Address),
    FD.

%% In the abstract namespace, which leaves no files.
unix_address() ->
    Unique = integer_to_binary(erlang:unique_integer([positive])),
    {unix, <<0, "fdio_event_tests ", (list_to_binary(os:getpid()))/binary, " ", Unique/binary>>}.

receive_message(FD, Max) ->
    retry(fun() -> fdio:recvmsg(FD, Max) end).

interface_index(Name) ->
    {ok, Text} = file:read_file("/sys/class/net/" ++ Name ++ "/ifindex"),
    binary_to_integer(string:trim(Text)).

with_directory(Fun) ->
    Directory = filename:join(
        os:getenv("TMPDIR", "/tmp"),
        lists:concat(["fdio-event-", os:getpid(), "-", erlang:unique_integer([positive])])
    ),
    ok = file:make_dir(Directory),
    try
        Fun(Directory)
    after
        ok = file:del_dir_r(Directory)
    end.

%% Takes every number below the soft limit that is free.
use_all_fds(FDs) ->
    case fdio:eventfd() of
        {ok, FD} -> use_all_fds([FD | FDs]);
        {error, emfile} -> FDs
    end.

open_fds() ->
    length([FD || FD <- lists:seq(0, fdio:max_fds() - 1), fdio:is_open(FD)]).

retry(Call) ->
    retry(Call, erlang:monotonic_time(millisecond) + ?PATIENCE_MS).

retry(Call, Deadline) ->
    case Call() of
        {error, eagain} ->
            ?assert(erlang:monotonic_time(millisecond) < Deadline),
            timer:sleep(1),
            retry(Call, Deadline);
        Answer ->
            Answer
    end.

%% proc(5): the flags of an open fd, in octal, close-on-exec included.
has_flag(FD, Flag) ->
    {ok, Info} = file:read_file("/proc/self/fdinfo/" ++ integer_to_list(FD)),
    {match, [Octal]} = re:run(Info, "flags:\\s*(\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Octal, 8) band Flag =/= 0.

close(FDs) ->
    [?assertEqual(ok, fdio:close(FD)) || FD <- FDs].
