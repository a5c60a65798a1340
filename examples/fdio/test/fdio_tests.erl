%% SPDX-License-Identifier: Apache-2.0

%% Every function of fdio by what its documentation promises. Every test runs in a
%% process of its own, and what it opened is closed when it ends.
-module(fdio_tests).

-include_lib("eunit/include/eunit.hrl").

%% A number that no fd of this VM can have, and one that no int can hold.
-define(NEVER_OPEN, [-1, -7, fdio:max_fds(), 1 bsl 31, -(1 bsl 31) - 1, 1 bsl 80]).

-define(LOOPBACK, {127, 0, 0, 1}).

%% Within the kernel this takes microseconds; only a lost event reaches it.
-define(PATIENCE_MS, 5000).

%%% Any fd

open_reads_what_write_wrote_test() ->
    Path = temporary(?FUNCTION_NAME),
    try
        {ok, Out} = fdio:open(Path, [write, creat, trunc]),
        ?assertEqual({ok, 5}, fdio:write(Out, <<"hello">>)),
        ?assertEqual({error, ebadf}, fdio:read(Out, 5)),
        ok = fdio:close(Out),
        {ok, In} = fdio:open(list_to_binary(Path), [read]),
        ?assertEqual({ok, <<"hel">>}, fdio:read(In, 3)),
        ?assertEqual({ok, <<"lo">>}, fdio:read(In, 3)),
        ?assertEqual({ok, <<>>}, fdio:read(In, 3)),
        ?assertEqual({error, ebadf}, fdio:write(In, <<"x">>)),
        ok = fdio:close(In),
        {ok, Append} = fdio:open(Path, [append]),
        {ok, 1} = fdio:write(Append, <<"!">>),
        ok = fdio:close(Append),
        ?assertEqual({ok, <<"hello!">>}, file:read_file(Path)),
        {ok, Both} = fdio:open(Path, [read, write]),
        {ok, 1} = fdio:write(Both, <<"H">>),
        ?assertEqual({ok, <<"ello!">>}, fdio:read(Both, 10)),
        ok = fdio:close(Both),
        ?assertEqual({error, eexist}, fdio:open(Path, [write, creat, excl]))
    after
        file:delete(Path)
    end.

open_errors_test() ->
    ?assertEqual({error, enoent}, fdio:open("/no/such/file", [read])),
    ?assertEqual({error, enoent}, fdio:open(<<>>, [])),
    ?assertEqual({error, einval}, fdio:open(<<"/dev/null", 0>>, [read])),
    ?assertEqual({error, eisdir}, fdio:open("/", [write])),
    ?assertError(badarg, fdio:open(nopath, [read])),
    ?assertError(badarg, fdio:open([-1], [read])),
    ?assertError(badarg, fdio:open("/dev/null", [readwrite])),
    ?assertError(badarg, fdio:open("/dev/null", [read | write])),
    ?assertError(badarg, fdio:open("/dev/null", read)).

open_takes_directories_and_unicode_test() ->
    {ok, Root} = fdio:open("/", []),
    ?assertEqual({error, eisdir}, fdio:read(Root, 1)),
    ok = fdio:close(Root),
    Path = filename:join(directory(), "fdio-\x{20ac}"),
    {ok, FD} = fdio:open(Path, [write, creat]),
    ok = fdio:close(FD),
    ok = file:delete(Path).

open_of_a_fifo_does_not_wait_for_the_other_side_test() ->
    Path = temporary(?FUNCTION_NAME),
    [] = os:cmd("mkfifo " ++ Path),
    try
        ?assertEqual({error, enxio}, fdio:open(Path, [write])),
        {ok, Reader} = fdio:open(Path, [read]),
        {ok, Writer} = fdio:open(Path, [write]),
        ?assertEqual({error, eagain}, fdio:read(Reader, 1)),
        {ok, 1} = fdio:write(Writer, <<"x">>),
        ?assertEqual({ok, <<"x">>}, fdio:read(Reader, 1)),
        close([Reader, Writer])
    after
        file:delete(Path)
    end.

new_fds_are_nonblocking_and_close_on_exec_test() ->
    {ok, {Reader, Writer}} = fdio:pipe(),
    {ok, {A, B}} = fdio:socketpair(),
    {ok, Event} = fdio:eventfd(),
    {ok, {Master, Slave, _}} = fdio:openpty(),
    {ok, Socket} = fdio:socket(inet, stream, 0),
    {ok, Null} = fdio:open("/dev/null", [read]),
    {Listen, Port} = listener(),
    {Client, Accepted} = connected(Listen, Port),
    {ok, Copy} = fdio:dup(Null),
    FDs = [
        Reader, Writer, A, B, Event, Master, Slave, Socket, Null, Listen, Client, Accepted, Copy
    ],
    [?assertEqual({FD, true, true}, {FD, has_flag(FD, 8#4000), has_flag(FD, 8#2000000)}) || FD <- FDs],
    ok = fdio:dup2(Null, Copy),
    ?assert(has_flag(Copy, 8#2000000)),
    close(FDs).

close_twice_test() ->
    {ok, {A, B}} = fdio:pipe(),
    ?assertEqual(ok, fdio:close(A)),
    ?assertEqual({error, ebadf}, fdio:close(A)),
    ok = fdio:close(B),
    ?assertError(badarg, fdio:close(a)),
    ?assertError(badarg, fdio:close(1.0)).

read_and_write_through_a_pipe_test() ->
    {ok, {Reader, Writer}} = fdio:pipe(),
    ?assertEqual({error, eagain}, fdio:read(Reader, 10)),
    ?assertEqual({ok, 0}, fdio:write(Writer, <<>>)),
    Filled = fill(Writer, 0),
    ?assertEqual({error, eagain}, fdio:write(Writer, <<0:65536/unit:8>>)),
    ?assertEqual(Filled, byte_size(drain(Reader))),
    ?assertEqual({error, eagain}, fdio:read(Reader, 10)),
    ok = fdio:close(Writer),
    ?assertEqual({ok, <<>>}, fdio:read(Reader, 10)),
    ok = fdio:close(Reader),
    {ok, {Reader1, Writer1}} = fdio:pipe(),
    ok = fdio:close(Reader1),
    ?assertEqual({error, epipe}, fdio:write(Writer1, <<"x">>)),
    ok = fdio:close(Writer1).

read_and_write_arguments_test() ->
    {ok, {A, B}} = fdio:socketpair(),
    [?assertError(badarg, fdio:Read(A, Max)) || Read <- [read, recv, recv_oob], Max <- [0, -1, 1048577, a, 1.0]],
    [
        ?assertError(badarg, fdio:Write(A, Data))
     || Write <- [write, send, send_oob], Data <- [a, [], "text", [<<"x">>], <<1:3>>]
    ],
    ?assertEqual({error, eagain}, fdio:read(A, 1048576)),
    close([A, B]).

%% One call moves at most 1 MiB; the rest is for the next one.
long_data_takes_several_calls_test() ->
    {ok, Null} = fdio:open("/dev/null", [write]),
    ?assertEqual({ok, 1048576}, fdio:write(Null, <<0:2000000/unit:8>>)),
    ok = fdio:close(Null),
    {ok, Zero} = fdio:open("/dev/zero", [read]),
    ?assertEqual({ok, <<0:1048576/unit:8>>}, fdio:read(Zero, 1048576)),
    ok = fdio:close(Zero).

dup_shares_the_open_file_test() ->
    {ok, {Reader, Writer}} = fdio:pipe(),
    {ok, Copy} = fdio:dup(Writer),
    ok = fdio:close(Writer),
    {ok, 1} = fdio:write(Copy, <<"x">>),
    ?assertEqual({ok, <<"x">>}, fdio:read(Reader, 10)),
    ?assertEqual({error, eagain}, fdio:read(Reader, 10)),
    close([Reader, Copy]).

dup2_replaces_what_the_number_was_test() ->
    {ok, {R1, W1}} = fdio:pipe(),
    {ok, {R2, W2}} = fdio:pipe(),
    ?assertEqual(ok, fdio:dup2(R2, R1)),
    ?assertEqual({error, epipe}, fdio:write(W1, <<"old">>)),
    {ok, 3} = fdio:write(W2, <<"new">>),
    ?assertEqual({ok, <<"new">>}, fdio:read(R1, 10)),
    ?assertEqual(ok, fdio:dup2(R1, R1)),
    ok = fdio:close(R1),
    ?assertEqual(ok, fdio:dup2(R2, R1)),
    ?assert(fdio:is_open(R1)),
    close([R1, R2, W1, W2]),
    ?assertEqual({error, ebadf}, fdio:dup2(R1, R1)),
    ?assertEqual({error, ebadf}, fdio:dup2(R1, R2)),
    ?assertEqual({error, ebadf}, fdio:dup2(0, fdio:max_fds())).

eventfd_counts_test() ->
    {ok, FD} = fdio:eventfd(),
    ?assertEqual({error, eagain}, fdio:read(FD, 8)),
    ?assertEqual({ok, 8}, fdio:write(FD, <<3:64/native>>)),
    ?assertEqual({ok, 8}, fdio:write(FD, <<4:64/native>>)),
    ?assertEqual({error, einval}, fdio:read(FD, 7)),
    ?assertEqual({ok, <<7:64/native>>}, fdio:read(FD, 8)),
    ok = fdio:close(FD).

openpty_is_a_raw_line_test() ->
    {ok, {Master, Slave, Name}} = fdio:openpty(),
    Bytes = list_to_binary(lists:seq(0, 255)),
    {ok, 256} = fdio:write(Master, Bytes),
    ?assertEqual(Bytes, read_exactly(Slave, 256)),
    {ok, 256} = fdio:write(Slave, Bytes),
    ?assertEqual(Bytes, read_exactly(Master, 256)),
    ?assertEqual({error, eagain}, fdio:read(Master, 1)),
    {ok, Again} = fdio:open(Name, [read, write]),
    {ok, 1} = fdio:write(Again, <<"x">>),
    ?assertEqual(<<"x">>, read_exactly(Master, 1)),
    close([Slave, Again]),
    ?assertEqual({error, eio}, fdio:read(Master, 1)),
    ok = fdio:close(Master).

%% A scheduler that waited in one of these would take the test with it.
blocking_mode_is_refused_test() ->
    {ok, {A, B}} = fdio:socketpair(),
    ok = fdio:set_nonblock(A, false),
    ?assertEqual({error, einval}, fdio:read(A, 1)),
    ?assertEqual({error, einval}, fdio:write(A, <<"x">>)),
    ?assertEqual({error, eagain}, fdio:recv(A, 1)),
    ?assertEqual({ok, 1}, fdio:send(A, <<"x">>)),
    ok = fdio:set_nonblock(A, true),
    ?assertEqual({error, eagain}, fdio:read(A, 1)),
    ?assertError(badarg, fdio:set_nonblock(A, yes)),
    {Listen, Port} = listener(),
    ok = fdio:set_nonblock(Listen, false),
    ?assertEqual({error, einval}, fdio:accept(Listen)),
    {ok, Socket} = fdio:socket(inet, stream, 0),
    ok = fdio:set_nonblock(Socket, false),
    ?assertEqual({error, einval}, fdio:connect(Socket, {?LOOPBACK, Port})),
    close([A, B, Listen, Socket]).

is_open_test() ->
    ?assert(fdio:is_open(0)),
    {ok, FD} = fdio:eventfd(),
    ?assert(fdio:is_open(FD)),
    ok = fdio:close(FD),
    [?assertNot(fdio:is_open(Never)) || Never <- [FD | ?NEVER_OPEN]],
    ?assertError(badarg, fdio:is_open(a)).

max_fds_test() ->
    ?assert(is_integer(fdio:max_fds())),
    ?assertEqual(os:cmd("ulimit -n"), integer_to_list(fdio:max_fds()) ++ "\n").

what_is_not_open_is_ebadf_everywhere_test_() ->
    Address = {?LOOPBACK, 1},
    Calls = [
        {close, []},
        {close_wait, []},
        {read, [1]},
        {write, [<<"x">>]},
        {dup, []},
        {dup2, [0]},
        {set_nonblock, [true]},
        {bind, [Address]},
        {listen, [1]},
        {accept, []},
        {connect, [Address]},
        {shutdown, [write]},
        {getsockname, []},
        {getpeername, []},
        {so_error, []},
        {setsockopt, [reuseaddr, true]},
        {setsockopt, [sndbuf, 1]},
        {send, [<<"x">>]},
        {send_oob, [<<"x">>]},
        {recv, [1]},
        {recv_oob, [1]}
    ],
    [
        {atom_to_list(Call), [
            [?_assertEqual({error, ebadf}, apply(fdio, Call, [FD | Args])) || FD <- ?NEVER_OPEN],
            [?_assertError(badarg, apply(fdio, Call, [NoFD | Args])) || NoFD <- [a, 1.0, <<"1">>]]
        ]}
     || {Call, Args} <- Calls
    ].

what_is_no_socket_is_enotsock_test() ->
    {ok, FD} = fdio:eventfd(),
    [
        ?assertEqual({error, enotsock}, Call(FD))
     || Call <- [
            fun fdio:accept/1,
            fun fdio:getsockname/1,
            fun fdio:getpeername/1,
            fun fdio:so_error/1,
            fun(F) -> fdio:bind(F, {?LOOPBACK, 0}) end,
            fun(F) -> fdio:listen(F, 1) end,
            fun(F) -> fdio:connect(F, {?LOOPBACK, 1}) end,
            fun(F) -> fdio:shutdown(F, read) end,
            fun(F) -> fdio:setsockopt(F, keepalive, true) end,
            fun(F) -> fdio:send(F, <<"x">>) end,
            fun(F) -> fdio:recv(F, 1) end
        ]
    ],
    ok = fdio:close(FD).

%%% Sockets

socketpair_keeps_the_type_test() ->
    {ok, {S1, S2}} = fdio:socketpair(stream),
    {ok, 1} = fdio:send(S1, <<"a">>),
    {ok, 1} = fdio:send(S1, <<"b">>),
    ?assertEqual({ok, <<"ab">>}, fdio:recv(S2, 10)),
    [
        begin
            {ok, {A, B}} = fdio:socketpair(Type),
            {ok, 2} = fdio:send(A, <<"a1">>),
            {ok, 2} = fdio:send(A, <<"b2">>),
            ?assertEqual({ok, <<"a">>}, fdio:recv(B, 1)),
            ?assertEqual({ok, <<"b2">>}, fdio:recv(B, 10)),
            close([A, B])
        end
     || Type <- [dgram, seqpacket]
    ],
    ?assertError(badarg, fdio:socketpair(raw)),
    close([S1, S2]).

socket_arguments_test() ->
    [
        begin
            {ok, FD} = fdio:socket(Domain, Type, 0),
            ok = fdio:close(FD)
        end
     || Domain <- [inet, inet6, unix], Type <- [stream, dgram]
    ],
    ?assertError(badarg, fdio:socket(packet, stream, 0)),
    ?assertError(badarg, fdio:socket(inet, packet, 0)),
    ?assertError(badarg, fdio:socket(inet, stream, 6)),
    ?assertError(badarg, fdio:socket(inet, stream, 256)).

tcp_from_listen_to_end_of_file_test_() ->
    [
        {atom_to_list(Domain), fun() -> talk(Domain, {IP, 0}) end}
     || {Domain, IP} <- [{inet, ?LOOPBACK}, {inet6, {0, 0, 0, 0, 0, 0, 0, 1}}]
    ].

unix_from_listen_to_end_of_file_test_() ->
    Path = list_to_binary(temporary(unix)),
    Abstract = <<0, "fdio ", (integer_to_binary(erlang:unique_integer()))/binary, 0, 1>>,
    [
        {"path", {setup, fun() -> ok end, fun(_) -> file:delete(Path) end, fun() -> talk(unix, {unix, Path}) end}},
        {"abstract", fun() -> talk(unix, {unix, Abstract}) end}
    ].

talk(Domain, Address) ->
    {ok, Listen} = fdio:socket(Domain, stream, 0),
    ok = fdio:setsockopt(Listen, reuseaddr, true),
    ok = fdio:bind(Listen, Address),
    ok = fdio:listen(Listen, 5),
    ?assertEqual({error, eagain}, fdio:accept(Listen)),
    {ok, Bound} = fdio:getsockname(Listen),
    ?assertEqual(element(1, Address), element(1, Bound)),
    {ok, Client} = fdio:socket(Domain, stream, 0),
    ?assertEqual({error, enotconn}, fdio:getpeername(Client)),
    ok = connect(Client, Bound),
    ?assertEqual({ok, Bound}, fdio:getpeername(Client)),
    Server = accept(Listen),
    ?assertEqual(fdio:getsockname(Client), fdio:getpeername(Server)),
    %% The first repetition may still be the answer to a connect in progress.
    _ = fdio:connect(Client, Bound),
    ?assertEqual({error, eisconn}, fdio:connect(Client, Bound)),
    ?assertEqual({error, eagain}, fdio:recv(Server, 10)),
    {ok, 4} = fdio:send(Client, <<"ping">>),
    ok = fdio:shutdown(Client, write),
    ?assertEqual({error, epipe}, fdio:send(Client, <<"more">>)),
    ?assertEqual(<<"ping">>, read_exactly(Server, 4)),
    ?assertEqual({ok, <<>>}, retry(fun() -> fdio:read(Server, 10) end)),
    {ok, 4} = fdio:write(Server, <<"pong">>),
    ?assertEqual(<<"pong">>, read_exactly(Client, 4)),
    close([Server, Client, Listen]).

udp_test() ->
    {ok, Server} = fdio:socket(inet, dgram, 0),
    ok = fdio:bind(Server, {?LOOPBACK, 0}),
    {ok, Address} = fdio:getsockname(Server),
    {ok, Client} = fdio:socket(inet, dgram, 0),
    ok = fdio:connect(Client, Address),
    {ok, 0} = fdio:send(Client, <<>>),
    {ok, 5} = fdio:send(Client, <<"hello">>),
    ?assertEqual({ok, <<>>}, retry(fun() -> fdio:recv(Server, 10) end)),
    ?assertEqual({ok, <<"hello">>}, retry(fun() -> fdio:recv(Server, 10) end)),
    ?assertEqual({error, emsgsize}, fdio:send(Client, <<0:70000/unit:8>>)),
    close([Server, Client]).

addresses_test() ->
    {ok, FD} = fdio:socket(inet, stream, 0),
    ?assertEqual({ok, {{0, 0, 0, 0}, 0}}, fdio:getsockname(FD)),
    [
        ?assertError(badarg, fdio:bind(FD, Bad))
     || Bad <- [
            a, {}, {?LOOPBACK}, {?LOOPBACK, 65536}, {?LOOPBACK, -1}, {{127, 0, 0, 256}, 0}, {{127, 0, 1}, 0}, {{-1, 0, 0, 1}, 0},
            {{0, 0, 0, 0, 0, 0, 0, 65536}, 0}, {"127.0.0.1", 0}, {unix, "path"}, {unix, 1}, {inet, ?LOOPBACK}
        ]
    ],
    ?assertEqual({error, eaddrnotavail}, fdio:bind(FD, {{192, 0, 2, 1}, 0})),
    ok = fdio:bind(FD, {?LOOPBACK, 0}),
    ?assertEqual({error, einval}, fdio:bind(FD, {?LOOPBACK, 0})),
    {ok, Taken} = fdio:getsockname(FD),
    {ok, Other} = fdio:socket(inet, stream, 0),
    ?assertEqual({error, eaddrinuse}, fdio:bind(Other, Taken)),
    {ok, Unix} = fdio:socket(unix, stream, 0),
    ?assertEqual({ok, {unix, <<>>}}, fdio:getsockname(Unix)),
    ?assertEqual({error, enametoolong}, fdio:bind(Unix, {unix, binary:copy(<<"x">>, 110)})),
    ?assertEqual({error, einval}, fdio:bind(Unix, {?LOOPBACK, 0})),
    ?assertEqual({error, enoent}, fdio:connect(Unix, {unix, <<"/no/such/socket">>})),
    {ok, {A, B}} = fdio:socketpair(),
    ?assertEqual({ok, {unix, <<>>}}, fdio:getpeername(A)),
    close([FD, Other, Unix, A, B]).

listen_errors_test() ->
    {ok, FD} = fdio:socket(inet, dgram, 0),
    ?assertEqual({error, enotsup}, fdio:listen(FD, 1)),
    ?assertError(badarg, fdio:listen(FD, many)),
    {ok, Stream} = fdio:socket(inet, stream, 0),
    ?assertEqual({error, einval}, fdio:accept(Stream)),
    close([FD, Stream]).

connect_to_nobody_is_refused_test() ->
    {Listen, Port} = listener(),
    ok = fdio:close(Listen),
    {ok, FD} = fdio:socket(inet, stream, 0),
    ?assertEqual({error, econnrefused}, connect(FD, {?LOOPBACK, Port})),
    ?assertEqual(ok, fdio:so_error(FD)),
    ok = fdio:close(FD).

%% A TCP handshake, even over loopback, is not done when connect(2) returns.
connect_does_not_wait_test() ->
    {Listen, Port} = listener(),
    {ok, FD} = fdio:socket(inet, stream, 0),
    ?assertEqual({error, einprogress}, fdio:connect(FD, {?LOOPBACK, Port})),
    Server = accept(Listen),
    ?assertEqual(ok, fdio:so_error(FD)),
    close([FD, Server, Listen]).

shutdown_test() ->
    {ok, {A, B}} = fdio:socketpair(),
    ok = fdio:shutdown(A, read),
    ?assertEqual({ok, <<>>}, fdio:read(A, 1)),
    ?assertEqual({error, epipe}, fdio:send(B, <<"x">>)),
    ok = fdio:shutdown(A, read_write),
    ?assertEqual({error, epipe}, fdio:write(A, <<"x">>)),
    ?assertEqual({ok, <<>>}, fdio:recv(B, 1)),
    ?assertError(badarg, fdio:shutdown(A, both)),
    {ok, Alone} = fdio:socket(inet, stream, 0),
    ?assertEqual({error, enotconn}, fdio:shutdown(Alone, write)),
    close([A, B, Alone]).

setsockopt_test() ->
    {Listen, Port} = listener(),
    {FD, Server} = connected(Listen, Port),
    [
        ?assertEqual(ok, fdio:setsockopt(FD, Option, On))
     || Option <- [reuseaddr, nodelay, keepalive], On <- [true, false]
    ],
    [?assertEqual(ok, fdio:setsockopt(FD, Option, 8192)) || Option <- [sndbuf, rcvbuf]],
    ok = fdio:setsockopt(Server, rcvbuf, 4096),
    ?assert(fill(FD, 0) < 200_000),
    ?assertEqual({error, eagain}, fdio:send(FD, <<0:65536/unit:8>>)),
    ?assertError(badarg, fdio:setsockopt(FD, nodelay, 1)),
    ?assertError(badarg, fdio:setsockopt(FD, sndbuf, true)),
    ?assertError(badarg, fdio:setsockopt(FD, sndbuf, -1)),
    ?assertError(badarg, fdio:setsockopt(FD, linger, true)),
    {ok, Unix} = fdio:socket(unix, stream, 0),
    ?assertEqual({error, enotsup}, fdio:setsockopt(Unix, nodelay, true)),
    close([FD, Server, Listen, Unix]).

urgent_data_test() ->
    {Listen, Port} = listener(),
    {FD, Server} = connected(Listen, Port),
    ?assertEqual({error, einval}, fdio:recv_oob(Server, 1)),
    {ok, 3} = fdio:send_oob(FD, <<"ab!">>),
    ?assertEqual({ok, <<"!">>}, retry(fun() -> fdio:recv_oob(Server, 1) end)),
    ?assertEqual({ok, <<"ab">>}, fdio:recv(Server, 10)),
    {ok, Udp} = fdio:socket(inet, dgram, 0),
    ok = fdio:connect(Udp, {?LOOPBACK, Port}),
    ?assertEqual({error, enotsup}, fdio:send_oob(Udp, <<"x">>)),
    close([FD, Server, Listen, Udp]).

a_reset_connection_says_so_test() ->
    {Listen, Port} = listener(),
    {FD, Server} = connected(Listen, Port),
    {ok, 1} = fdio:send(FD, <<"x">>),
    %% Closed with unread data, Linux sends a RST; wait until it is there.
    {ok, _} = retry(fun() -> fdio:recv(Server, 1) end),
    {ok, 1} = fdio:send(FD, <<"y">>),
    ok = fdio:close(Server),
    ?assertEqual({error, econnreset}, retry(fun() -> fdio:read(FD, 1) end)),
    close([FD, Listen]).

%%% Support

listener() ->
    {ok, Listen} = fdio:socket(inet, stream, 0),
    ok = fdio:bind(Listen, {?LOOPBACK, 0}),
    ok = fdio:listen(Listen, 5),
    {ok, {?LOOPBACK, Port}} = fdio:getsockname(Listen),
    {Listen, Port}.

connected(Listen, Port) ->
    {ok, Client} = fdio:socket(inet, stream, 0),
    ok = connect(Client, {?LOOPBACK, Port}),
    {Client, accept(Listen)}.

%% Without inert to say when it is decided: so_error is ok while the handshake
%% is under way, getpeername is not.
connect(FD, Address) ->
    case fdio:connect(FD, Address) of
        {error, einprogress} ->
            retry(fun() ->
                case fdio:so_error(FD) of
                    ok ->
                        case fdio:getpeername(FD) of
                            {ok, _} -> ok;
                            {error, enotconn} -> {error, eagain}
                        end;
                    {error, _} = Error ->
                        Error
                end
            end);
        Other ->
            Other
    end.

accept(Listen) ->
    {ok, FD} = retry(fun() -> fdio:accept(Listen) end),
    FD.

read_exactly(FD, Length) ->
    read_exactly(FD, Length, <<>>).

read_exactly(_FD, Length, Read) when byte_size(Read) =:= Length ->
    Read;
read_exactly(FD, Length, Read) ->
    {ok, <<_, _/binary>> = More} = retry(fun() -> fdio:read(FD, Length - byte_size(Read)) end),
    read_exactly(FD, Length, <<Read/binary, More/binary>>).

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

fill(FD, Total) ->
    case fdio:write(FD, <<0:65536/unit:8>>) of
        {ok, Written} -> fill(FD, Total + Written);
        {error, eagain} -> Total
    end.

drain(FD) ->
    case fdio:read(FD, 65536) of
        {ok, Data} -> <<Data/binary, (drain(FD))/binary>>;
        {error, eagain} -> <<>>
    end.

%% proc(5): the flags of an open fd, in octal, close-on-exec included.
has_flag(FD, Flag) ->
    Path = "/proc/self/fdinfo/" ++ integer_to_list(FD),
    {ok, Info} = file:read_file(Path),
    {match, [Octal]} = re:run(Info, "flags:\\s*(\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Octal, 8) band Flag =/= 0.

close(FDs) ->
    [?assertEqual(ok, fdio:close(FD)) || FD <- FDs].

temporary(Name) ->
    Unique = integer_to_list(erlang:unique_integer([positive])),
    filename:join(directory(), lists:concat(["fdio-", os:getpid(), "-", Name, "-", Unique])).

directory() ->
    os:getenv("TMPDIR", "/tmp").
