%% SPDX-License-Identifier: Apache-2.0

%% What fdio has for devices and the network's lower layers: serial lines, TUN and TAP,
%% netlink, ICMP. What needs rights or changes a network is tested in a namespace of its own,
%% with the examples: device_SUITE.
-module(fdio_device_tests).

-include_lib("eunit/include/eunit.hrl").

-define(LOOPBACK, {127, 0, 0, 1}).

%% Within the kernel this takes microseconds; only a lost event reaches it.
-define(PATIENCE_MS, 5000).

%%% Terminals

settings_that_were_set_are_there_test() ->
    with_pty(fun(_Master, Slave) ->
        [
            begin
                ?assertEqual(ok, fdio:tcsetattr(Slave, Line)),
                {ok, Now} = fdio:tcgetattr(Slave),
                ?assertEqual(Line, maps:with(maps:keys(Line), Now))
            end
         || Line <- [
                #{speed => 9600},
                #{speed => 115200, stop_bits => 2},
                %% None of those that have a name.
                #{speed => 250_000},
                #{flow => hardware},
                #{flow => software},
                #{flow => none, stop_bits => 1}
            ]
        ]
    end).

settings_not_named_stay_test() ->
    with_pty(fun(_Master, Slave) ->
        ok = fdio:tcsetattr(Slave, #{speed => 19200, stop_bits => 2}),
        ok = fdio:tcsetattr(Slave, #{flow => hardware}),
        ?assertEqual(
            {ok, #{speed => 19200, stop_bits => 2, flow => hardware, data_bits => 8, parity => none}},
            fdio:tcgetattr(Slave)
        ),
        ok = fdio:tcsetattr(Slave, #{}),
        ?assertMatch({ok, #{speed := 19200, stop_bits := 2, flow := hardware}}, fdio:tcgetattr(Slave))
    end).

%% A pseudo-terminal's bytes have no parity bit, and it says so only when asked.
what_the_device_cannot_do_is_seen_by_asking_test() ->
    with_pty(fun(_Master, Slave) ->
        ?assertEqual(ok, fdio:tcsetattr(Slave, #{speed => 4800, parity => even, data_bits => 7})),
        ?assertMatch({ok, #{speed := 4800, parity := none, data_bits := 8}}, fdio:tcgetattr(Slave))
    end).

settings_make_the_line_raw_test() ->
    with_pty(fun(Master, Slave) ->
        Name = slave_name(Slave),
        [] = os:cmd("stty sane -F " ++ Name),
        {ok, 5} = fdio:write(Master, <<"line\n">>),
        %% Echoed, the line's end as a terminal shows it.
        ?assertEqual({ok, <<"line\r\n">>}, retry(fun() -> fdio:read(Master, 100) end)),
        ?assertEqual({ok, <<"line\n">>}, retry(fun() -> fdio:read(Slave, 100) end)),
        ok = fdio:tcsetattr(Slave, #{}),
        Bytes = list_to_binary(lists:seq(0, 255)),
        {ok, 256} = fdio:write(Master, Bytes),
        ?assertEqual({ok, Bytes}, retry(fun() -> fdio:read(Slave, 256) end)),
        ?assertEqual({error, eagain}, fdio:read(Master, 100))
    end).

settings_that_are_none_are_badarg_test() ->
    with_pty(fun(_Master, Slave) ->
        Before = fdio:tcgetattr(Slave),
        [
            ?assertError(badarg, fdio:tcsetattr(Slave, Bad))
         || Bad <- [
                [], raw, #{speed => 0}, #{speed => -1}, #{speed => 1 bsl 32}, #{speed => fast},
                #{data_bits => 4}, #{data_bits => 9}, #{parity => mark}, #{parity => 0}, #{stop_bits => 0},
                #{stop_bits => 3}, #{flow => xon}, #{flow => true}, #{baud => 9600}, #{"speed" => 9600},
                #{speed => 4800, parity => 1}
            ]
        ],
        ?assertEqual(Before, fdio:tcgetattr(Slave))
    end).

an_unplugged_line_says_so_test() ->
    {ok, {Master, Slave, _}} = fdio:openpty(),
    ok = fdio:close(Master),
    ?assertEqual({ok, <<>>}, fdio:read(Slave, 1)),
    ?assertEqual({error, eio}, fdio:write(Slave, <<"x">>)),
    ?assertEqual({error, eio}, fdio:tcgetattr(Slave)),
    ?assertEqual({error, eio}, fdio:tcsetattr(Slave, #{})),
    ?assertEqual({error, eio}, fdio:tiocexcl(Slave)),
    ok = fdio:close(Slave).

what_is_no_terminal_is_enotty_test() ->
    {ok, FD} = fdio:eventfd(),
    ?assertEqual({error, enotty}, fdio:tcgetattr(FD)),
    ?assertEqual({error, enotty}, fdio:tcsetattr(FD, #{})),
    ?assertEqual({error, enotty}, fdio:tiocexcl(FD)),
    ok = fdio:close(FD),
    [
        begin
            ?assertEqual({error, ebadf}, fdio:tcgetattr(Never)),
            ?assertEqual({error, ebadf}, fdio:tcsetattr(Never, #{})),
            ?assertEqual({error, ebadf}, fdio:tiocexcl(Never))
        end
     || Never <- [-1, FD, fdio:max_fds(), 1 bsl 80]
    ],
    ?assertError(badarg, fdio:tcgetattr(a)),
    ?assertError(badarg, fdio:tcsetattr(a, #{})),
    ?assertError(badarg, fdio:tiocexcl(a)).

%%% TUN and TAP

%% None of these gets as far as the device.
tun_names_are_checked_test() ->
    Before = links(),
    ?assertEqual({error, enametoolong}, fdio:tun(tun, "sixteen-bytes-16")),
    ?assertEqual({error, enametoolong}, fdio:tun(tun, binary:copy(<<"x">>, 4096))),
    ?assertEqual({error, einval}, fdio:tun(tap, <<"a", 0, "b">>)),
    [
        ?assertError(badarg, fdio:tun(Kind, Name))
     || {Kind, Name} <- [{ethernet, "a"}, {"tun", "a"}, {tun, a}, {tun, [-1]}, {tap, 1}]
    ],
    ?assertEqual(Before, links()).

links() ->
    {ok, Names} = file:list_dir("/sys/class/net"),
    Names.

%%% Netlink

netlink_addresses_test() ->
    {ok, FD} = fdio:socket(netlink, raw, 0),
    ?assertEqual({ok, {netlink, 0, 0}}, fdio:getsockname(FD)),
    ok = fdio:bind(FD, {netlink, 0, 16#11}),
    {ok, {netlink, Port, 16#11}} = fdio:getsockname(FD),
    ?assert(Port > 0),
    {ok, Other} = fdio:socket(netlink, dgram, 0),
    ?assertEqual({error, eaddrinuse}, fdio:bind(Other, {netlink, Port, 0})),
    ?assertEqual({error, einval}, fdio:bind(Other, {?LOOPBACK, 0})),
    [
        ?assertError(badarg, fdio:bind(Other, Bad))
     || Bad <- [
            {netlink, 0}, {netlink, -1, 0}, {netlink, 0, 1 bsl 32}, {netlink, 0, 0, 0}, {inet, 0, 0}, {netlink, a, 0}
        ]
    ],
    ok = fdio:connect(Other, {netlink, 0, 0}),
    ?assertEqual({ok, {netlink, 0, 0}}, fdio:getpeername(Other)),
    close([FD, Other]).

%% RTM_GETLINK, NLM_F_REQUEST and NLM_F_DUMP: the answer has the loopback device first.
netlink_answers_test() ->
    {ok, FD} = fdio:socket(netlink, raw, 0),
    ?assertEqual({error, eagain}, fdio:recv(FD, 65536)),
    Request = <<32:32/native, 18:16/native, 16#301:16/native, 7:32/native, 0:32, 0:128>>,
    {ok, 32} = fdio:send(FD, Request),
    {ok, <<_:32, 16:16/native, _:16, 7:32/native, _/binary>> = Answer} = retry(fun() -> fdio:recv(FD, 65536) end),
    ?assertNotEqual(nomatch, binary:match(Answer, <<"lo", 0>>)),
    ok = fdio:close(FD).

%%% ICMP

sockets_of_other_protocols_test() ->
    ?assertEqual({error, eprotonosupport}, fdio:socket(inet, stream, icmp)),
    ?assertEqual({error, eprotonosupport}, fdio:socket(unix, stream, icmp)),
    ?assertEqual({error, eprotonosupport}, fdio:socket(netlink, raw, icmp)),
    ?assertEqual({error, esocktnosupport}, fdio:socket(netlink, stream, 0)),
    ?assertError(badarg, fdio:socket(inet, dgram, udp)),
    ?assertError(badarg, fdio:socket(inet, dgram, 1)),
    ?assertError(badarg, fdio:socketpair(raw)).

%% Whether this user may have one depends on the machine.
icmp_sockets_test() ->
    [
        case fdio:socket(Domain, Type, Protocol) of
            {ok, FD} -> ok = fdio:close(FD);
            {error, Reason} -> ?assert(lists:member(Reason, [eacces, eperm, eafnosupport]))
        end
     || {Domain, Protocol} <- [{inet, icmp}, {inet6, icmpv6}], Type <- [dgram, raw]
    ].

%%% Support

with_pty(Fun) ->
    {ok, {Master, Slave, _}} = fdio:openpty(),
    Fun(Master, Slave),
    close([Master, Slave]).

slave_name(Slave) ->
    {ok, Name} = file:read_link("/proc/self/fd/" ++ integer_to_list(Slave)),
    Name.

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

close(FDs) ->
    [?assertEqual(ok, fdio:close(FD)) || FD <- FDs].
