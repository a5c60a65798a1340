%% SPDX-License-Identifier: Apache-2.0
%%
%% The examples for devices and the network's lower layers (serial, tun, ping, netlink), on the
%% kernel's own, with real programs at the other end (socat, ping, ip), on every pollset.
%%
%% What touches a network runs in a peer VM with a network namespace of its own, which goes when the
%% peer does. Where the machine has no such thing, its cases are skipped and say why.
-module(device_SUITE).

-export([suite/0]).
-export([all/0]).
-export([groups/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

%% serial
-export([lines_come_from_a_program_and_go_to_it/1]).
-export([lines_come_in_pieces_and_bytes_as_they_are/1]).
-export([a_line_that_never_ends_is_an_error_and_can_be_read/1]).
-export([the_line_has_the_settings_asked_for/1]).
-export([what_cannot_be_opened_says_why/1]).
-export([another_user_is_kept_out/1]).
-export([a_read_times_out_and_keeps_what_has_come/1]).
-export([a_write_that_nobody_reads_times_out/1]).
-export([writers_take_turns/1]).
-export([a_second_reader_is_busy/1]).
-export([a_caller_that_dies_takes_its_call_back/1]).
-export([reading_and_writing_at_the_same_time/1]).
-export([unplugging_is_a_clean_end/1]).
-export([a_program_that_ends_is_a_clean_end/1]).
-export([what_came_before_unplugging_is_still_read/1]).
-export([the_line_closes_with_its_owner/1]).
-export([closing_ends_those_who_wait/1]).
-export([the_line_survives_the_end_of_inert/1]).

%% tun
-export([ping_gets_its_replies/1]).
-export([a_host_answers_arp_and_ping/1]).
-export([a_device_that_is_deleted_ends_the_host/1]).
-export([a_device_that_is_down_comes_back/1]).
-export([a_device_is_gone_with_its_host/1]).
-export([a_device_made_to_stay_is_used_again/1]).
-export([a_device_that_cannot_be_had_says_why/1]).
-export([a_flood_of_pings_leaves_the_host_responsive/1]).
-export([the_host_ends_when_inert_does/1]).
-export([bad_options_are_badarg/1]).

%% ping
-export([loopback_replies_on_every_kind_of_socket/1]).
-export([any_kind_of_socket_is_found/1]).
-export([payloads_of_any_size/1]).
-export([nobody_answers_in_time/1]).
-export([errors_from_the_network_come_back/1]).
-export([only_the_reply_counts/1]).
-export([a_late_reply_is_no_reply/1]).
-export([many_pings_at_once/1]).
-export([a_ping_ends_when_inert_does/1]).
-export([bad_arguments_are_badarg/1]).

%% netlink
-export([what_there_is_comes_first/1]).
-export([links_come_change_and_go/1]).
-export([addresses_come_and_go/1]).
-export([leaving_a_bridge_is_not_going/1]).
-export([events_come_only_when_asked_for/1]).
-export([an_overflow_is_a_resync/1]).
-export([the_picture_is_right_after_a_storm/1]).
-export([a_watcher_goes_with_its_owner/1]).
-export([a_watcher_ends_when_inert_does/1]).

%% packets
-export([any_bytes_are_events_or_none/1]).
-export([netlink_options_are_checked/1]).
-export([a_request_has_its_reply/1]).
-export([whatever_is_wrong_with_a_packet_is_ignored/1]).
-export([any_bytes_at_all_are_taken/1]).

-include_lib("stdlib/include/assert.hrl").

-import(inert_test, [run/1, result/1, kill/1, with/2, close/1, no_message/0, until/1]).

%% For what must not happen; not for what takes its time.
-define(SHORT, 20).

%% What a test that waits for it gives up with is the suite's time trap.
-define(LONG, 60_000).

suite() ->
    inert_test:suite().

all() ->
    inert_test:per_pollset(topics()) ++ [{group, packets}].

groups() ->
    [{packets, [], packets()} | inert_test:groups_per_pollset(topics())].

topics() ->
    [
        {serial, [
            lines_come_from_a_program_and_go_to_it,
            lines_come_in_pieces_and_bytes_as_they_are,
            a_line_that_never_ends_is_an_error_and_can_be_read,
            the_line_has_the_settings_asked_for,
            what_cannot_be_opened_says_why,
            another_user_is_kept_out,
            a_read_times_out_and_keeps_what_has_come,
            a_write_that_nobody_reads_times_out,
            writers_take_turns,
            a_second_reader_is_busy,
            a_caller_that_dies_takes_its_call_back,
            reading_and_writing_at_the_same_time,
            unplugging_is_a_clean_end,
            a_program_that_ends_is_a_clean_end,
            what_came_before_unplugging_is_still_read,
            the_line_closes_with_its_owner,
            closing_ends_those_who_wait,
            the_line_survives_the_end_of_inert
        ]},
        {tun, [
            ping_gets_its_replies,
            a_host_answers_arp_and_ping,
            a_device_that_is_deleted_ends_the_host,
            a_device_that_is_down_comes_back,
            a_device_is_gone_with_its_host,
            a_device_made_to_stay_is_used_again,
            a_device_that_cannot_be_had_says_why,
            a_flood_of_pings_leaves_the_host_responsive,
            the_host_ends_when_inert_does
        ]},
        {ping, [
            loopback_replies_on_every_kind_of_socket,
            any_kind_of_socket_is_found,
            payloads_of_any_size,
            nobody_answers_in_time,
            errors_from_the_network_come_back,
            only_the_reply_counts,
            a_late_reply_is_no_reply,
            many_pings_at_once,
            a_ping_ends_when_inert_does
        ]},
        {netlink, [
            what_there_is_comes_first,
            links_come_change_and_go,
            addresses_come_and_go,
            leaving_a_bridge_is_not_going,
            events_come_only_when_asked_for,
            an_overflow_is_a_resync,
            the_picture_is_right_after_a_storm,
            a_watcher_goes_with_its_owner,
            a_watcher_ends_when_inert_does
        ]}
    ].

%% Nothing of these waits.
packets() ->
    [
        a_request_has_its_reply,
        whatever_is_wrong_with_a_packet_is_ignored,
        any_bytes_at_all_are_taken,
        bad_options_are_badarg,
        bad_arguments_are_badarg,
        any_bytes_are_events_or_none,
        netlink_options_are_checked
    ].

init_per_suite(Config) ->
    _ = code:ensure_modules_loaded([serial, tun, ping, netlink, file, os, string, rand, peer]),
    [{namespace, namespace()} | inert_test:init_per_suite(Config)].

end_per_suite(Config) ->
    inert_test:end_per_suite(Config).

init_per_group(Group, Config) when Group =:= tun; Group =:= ping; Group =:= netlink ->
    case proplists:get_value(namespace, Config) of
        {skip, _Why} = Skip -> Skip;
        Command -> tun_in(Command, Config)
    end;
init_per_group(Group, Config) ->
    inert_test:init_per_group(Group, Config).

end_per_group(Group, Config) ->
    inert_test:end_per_group(Group, Config).

init_per_testcase(_Case, Config) ->
    Prepared = inert_test:init_per_testcase(Config),
    ok = inert:start(),
    Prepared.

end_per_testcase(_Case, Config) ->
    ok = inert:stop(),
    inert_test:end_per_testcase(Config).

%%% serial

%% socat makes the pseudo-terminal, and sed at its other end answers lines.
lines_come_from_a_program_and_go_to_it(Config) ->
    with_program("EXEC:sed -u s/^/heard=/", Config, fun(Tty) ->
        {ok, Line} = serial:open(Tty, #{speed => 115200}),
        [
            begin
                ok = serial:write(Line, [Text, $\n]),
                ?assertEqual({ok, <<"heard=", Text/binary>>}, serial:read_line(Line, ?LONG))
            end
         || Text <- [<<"hello">>, <<>>, binary:copy(<<"x">>, 3000), <<"bye">>]
        ],
        ok = serial:close(Line)
    end).

lines_come_in_pieces_and_bytes_as_they_are(_Config) ->
    with_line(#{}, fun(Master, Line) ->
        send(Master, <<"one\ntwo\r\n\r\n\nth">>),
        ?assertEqual({ok, <<"one">>}, serial:read_line(Line, ?LONG)),
        ?assertEqual({ok, <<"two">>}, serial:read_line(Line, ?LONG)),
        ?assertEqual({ok, <<>>}, serial:read_line(Line, ?LONG)),
        ?assertEqual({ok, <<>>}, serial:read_line(Line, 0)),
        Reader = run(fun() -> serial:read_line(Line, ?LONG) end),
        send(Master, <<"r", 255, 0, "e">>),
        send(Master, <<"e\r\r\n">>),
        ?assertEqual({ok, <<"thr", 255, 0, "ee\r">>}, result(Reader)),
        Bytes = list_to_binary(lists:seq(0, 255)),
        send(Master, Bytes),
        ?assertEqual(Bytes, read_exactly(Line, 256)),
        ok = serial:write(Line, [[Bytes], "", $!]),
        ?assertEqual(<<Bytes/binary, "!">>, receive_exactly(Master, 257))
    end).

a_line_that_never_ends_is_an_error_and_can_be_read(_Config) ->
    with_line(#{}, fun(Master, Line) ->
        Sender = run(fun() -> send(Master, binary:copy(<<"x">>, 70_000)) end),
        ?assertEqual({error, emsgsize}, serial:read_line(Line, ?LONG)),
        ?assertEqual({error, emsgsize}, serial:read_line(Line, ?LONG)),
        ?assertEqual(binary:copy(<<"x">>, 70_000), read_exactly(Line, 70_000)),
        ok = result(Sender),
        send(Master, <<"now\n">>),
        ?assertEqual({ok, <<"now">>}, serial:read_line(Line, ?LONG))
    end).

the_line_has_the_settings_asked_for(_Config) ->
    {ok, {Master, Slave, Name}} = fdio:openpty(),
    Settings = #{speed => 57600, stop_bits => 2, flow => hardware},
    {ok, Line} = serial:open(Name, Settings),
    ?assertEqual({ok, Settings#{data_bits => 8, parity => none}}, fdio:tcgetattr(Slave)),
    ok = serial:close(Line),
    {ok, Default} = serial:open(Name),
    ?assertMatch({ok, #{speed := 9600, stop_bits := 1, flow := none}}, fdio:tcgetattr(Slave)),
    ok = serial:close(Default),
    close([Master, Slave]).

what_cannot_be_opened_says_why(_Config) ->
    {ok, {Master, Slave, Name}} = fdio:openpty(),
    ?assertEqual({error, {open, enoent}}, serial:open("/dev/no-such-tty")),
    ?assertEqual({error, {open, eisdir}}, serial:open("/dev")),
    ?assertEqual({error, {tcsetattr, enotty}}, serial:open("/dev/null")),
    %% A pseudo-terminal has no parity.
    ?assertEqual({error, {unsupported, [data_bits, parity]}}, serial:open(Name, #{parity => odd, data_bits => 7})),
    [
        ?assertError(badarg, serial:open(Name, Bad))
     || Bad <- [#{speed => 0}, #{speed => "9600"}, #{parity => mark}, #{baud => 9600}]
    ],
    ?assertError({badmap, [raw]}, serial:open(Name, [raw])),
    ?assertError(badarg, serial:open(no_path)),
    close([Master, Slave]).

another_user_is_kept_out(_Config) ->
    case {os:find_executable("setpriv"), os:cmd("id -u")} of
        {Setpriv, "0\n"} when is_list(Setpriv) ->
            with_line(#{}, fun(_Master, Line) ->
                {ok, Name} = file:read_link(link_of(Line)),
                ok = file:change_mode(Name, 8#666),
                Said = os:cmd("setpriv --reuid=65534 --clear-groups sh -c 'exec <" ++ Name ++ "' 2>&1"),
                ?assertNotEqual(nomatch, string:find(Said, "busy"))
            end);
        _ ->
            {skip, "needs root, and setpriv to become somebody else"}
    end.

a_read_times_out_and_keeps_what_has_come(_Config) ->
    with_line(#{}, fun(Master, Line) ->
        ?assertEqual({error, timeout}, serial:read(Line, 0)),
        ?assertEqual({error, timeout}, serial:read_line(Line, ?SHORT)),
        send(Master, <<"half a ">>),
        ?assertEqual({error, timeout}, serial:read_line(Line, ?SHORT)),
        send(Master, <<"line\n">>),
        ?assertEqual({ok, <<"half a line">>}, serial:read_line(Line, ?LONG)),
        ?assertError(function_clause, serial:read(Line, -1)),
        ?assertError(function_clause, serial:read(Line, soon))
    end).

a_write_that_nobody_reads_times_out(_Config) ->
    with_line(#{}, fun(Master, Line) ->
        Much = binary:copy(<<"x">>, 1_000_000),
        ?assertEqual({error, timeout}, serial:write(Line, Much, ?SHORT)),
        ?assertError(badarg, serial:write(Line, [a])),
        ?assertError(function_clause, serial:write(Line, <<>>, -1)),
        Writer = run(fun() -> serial:write(Line, <<"z">>) end),
        %% What was not written by then never is.
        Seen = receive_until(Master, <<"z">>),
        ?assert(byte_size(Seen) < 1_000_000),
        ?assertEqual(ok, result(Writer))
    end).

writers_take_turns(_Config) ->
    with_line(#{}, fun(Master, Line) ->
        Texts = [binary:copy(<<C>>, 50_000) || C <- lists:seq($a, $j)],
        Writers = [run(fun() -> serial:write(Line, Text) end) || Text <- Texts],
        Seen = receive_exactly(Master, 500_000),
        [ok = result(Writer) || Writer <- Writers],
        ?assertEqual(lists:sort(Texts), lists:sort([binary:part(Seen, N * 50_000, 50_000) || N <- lists:seq(0, 9)]))
    end).

a_second_reader_is_busy(_Config) ->
    with_line(#{}, fun(Master, Line) ->
        Reader = reading(Line),
        ?assertEqual({error, ebusy}, serial:read(Line, ?LONG)),
        ?assertEqual({error, ebusy}, serial:read_line(Line, 0)),
        send(Master, <<"mine\nyours\n">>),
        ?assertEqual({ok, <<"mine">>}, result(Reader)),
        ?assertEqual({ok, <<"yours">>}, serial:read_line(Line, ?LONG))
    end).

a_caller_that_dies_takes_its_call_back(_Config) ->
    with_line(#{}, fun(Master, Line) ->
        kill(reading(Line)),
        send(Master, <<"kept\n">>),
        ?assertEqual({ok, <<"kept">>}, serial:read_line(Line, ?LONG)),
        Much = binary:copy(<<"x">>, 1_000_000),
        Writer = run(fun() -> serial:write(Line, Much) end),
        Behind = run(fun() -> serial:write(Line, <<"z">>) end),
        until(fun() -> writers(Line) =:= 2 end),
        kill(Writer),
        Seen = receive_until(Master, <<"z">>),
        ?assert(byte_size(Seen) < 1_000_000),
        ?assertEqual(ok, result(Behind))
    end).

%% More than the kernel holds, both ways at once, through an echo.
reading_and_writing_at_the_same_time(Config) ->
    with_program("EXEC:cat", Config, fun(Tty) ->
        {ok, Line} = serial:open(Tty),
        Data = rand:bytes(300_000),
        Reader = run(fun() -> read_exactly(Line, byte_size(Data)) end),
        ?assertEqual(ok, serial:write(Line, Data)),
        ?assertEqual(Data, result(Reader)),
        ok = serial:close(Line)
    end).

unplugging_is_a_clean_end(_Config) ->
    {ok, {Master, Slave, Name}} = fdio:openpty(),
    {ok, Line} = serial:open(Name),
    ok = fdio:close(Slave),
    FDs = inert_test:fds(),
    Reader = reading(Line),
    Writer = run(fun() -> serial:write(Line, binary:copy(<<"x">>, 1_000_000)) end),
    until(fun() -> writers(Line) =:= 1 end),
    ok = fdio:close(Master),
    ?assertEqual({error, closed}, result(Reader)),
    ?assertEqual({error, closed}, result(Writer)),
    %% The device's name is free at once, and nothing spins.
    ?assertEqual(2, length(FDs -- inert_test:fds())),
    ?assert(inert_test:is_quiet()),
    ?assertEqual({error, closed}, serial:read(Line, ?LONG)),
    ?assertEqual({error, closed}, serial:read_line(Line, ?LONG)),
    ?assertEqual({error, closed}, serial:write(Line, <<"x">>)),
    ok = serial:close(Line),
    ?assertEqual({error, closed}, serial:read(Line, ?LONG)),
    ok = serial:close(Line).

a_program_that_ends_is_a_clean_end(Config) ->
    with_program("SYSTEM:read line; echo hello; read line", Config, fun(Tty) ->
        {ok, Line} = serial:open(Tty),
        ok = serial:write(Line, <<"hello\n">>),
        ?assertEqual({ok, <<"hello">>}, serial:read_line(Line, ?LONG)),
        Reader = reading(Line),
        ok = serial:write(Line, <<"bye\n">>),
        ?assertEqual({error, closed}, result(Reader)),
        ok = serial:close(Line)
    end).

what_came_before_unplugging_is_still_read(_Config) ->
    {ok, {Master, Slave, Name}} = fdio:openpty(),
    {ok, Line} = serial:open(Name),
    send(Master, <<"one\ntwo\nrest">>),
    ?assertEqual({ok, <<"one">>}, serial:read_line(Line, ?LONG)),
    close([Master, Slave]),
    %% Read ahead, with the first line.
    ?assertEqual({ok, <<"two">>}, serial:read_line(Line, ?LONG)),
    ?assertEqual({error, closed}, serial:read_line(Line, ?LONG)),
    ?assertEqual({ok, <<"rest">>}, serial:read(Line, ?LONG)),
    ?assertEqual({error, closed}, serial:read(Line, ?LONG)),
    ok = serial:close(Line).

the_line_closes_with_its_owner(_Config) ->
    {ok, {Master, Slave, Name}} = fdio:openpty(),
    Owner = run(fun() ->
        {ok, Line} = serial:open(Name),
        Line
    end),
    Line = result(Owner),
    Monitor = monitor(process, Line),
    receive
        {'DOWN', Monitor, process, Line, Reason} -> ?assert(lists:member(Reason, [normal, noproc]))
    end,
    ?assertEqual({error, closed}, serial:write(Line, <<"x">>)),
    ok = fdio:close(Slave),
    %% The last one that had it open is gone.
    ?assertEqual({error, eio}, fdio:read(Master, 1)),
    ok = fdio:close(Master).

closing_ends_those_who_wait(_Config) ->
    {ok, {Master, Slave, Name}} = fdio:openpty(),
    {ok, Line} = serial:open(Name),
    Reader = reading(Line),
    Writer = run(fun() -> serial:write(Line, binary:copy(<<"x">>, 1_000_000)) end),
    until(fun() -> writers(Line) =:= 1 end),
    ok = serial:close(Line),
    ?assertEqual({error, closed}, result(Reader)),
    ?assertEqual({error, closed}, result(Writer)),
    close([Master, Slave]).

the_line_survives_the_end_of_inert(_Config) ->
    {ok, {Master, Slave, Name}} = fdio:openpty(),
    {ok, Line} = serial:open(Name),
    Reader = reading(Line),
    ok = inert:stop(),
    ?assertEqual({error, closed}, result(Reader)),
    ?assertEqual({error, closed}, serial:write(Line, <<"x">>)),
    ok = serial:close(Line),
    close([Master, Slave]).

%% A line, and what is at its other end.
with_line(Settings, Fun) ->
    {ok, {Master, Slave, Name}} = fdio:openpty(),
    {ok, Line} = serial:open(Name, Settings),
    Fun(Master, Line),
    ok = serial:close(Line),
    close([Master, Slave]),
    no_message().

%% A process that waits for a line of text.
reading(Line) ->
    Reader = run(fun() -> serial:read_line(Line, ?LONG) end),
    until(fun() -> element(5, sys:get_state(Line)) =/= [] end),
    Reader.

%% How many wait to write.
writers(Line) ->
    length(element(6, sys:get_state(Line))).

link_of(Line) ->
    "/proc/self/fd/" ++ integer_to_list(element(2, sys:get_state(Line))).

read_exactly(_Line, 0) ->
    <<>>;
read_exactly(Line, Length) ->
    {ok, Data} = serial:read(Line, ?LONG),
    <<Data/binary, (read_exactly(Line, Length - byte_size(Data)))/binary>>.

%% The other end of a line, without inert.
send(_FD, <<>>) ->
    ok;
send(FD, Data) ->
    case fdio:write(FD, Data) of
        {ok, Written} ->
            <<_:Written/binary, Rest/binary>> = Data,
            send(FD, Rest);
        {error, eagain} ->
            timer:sleep(1),
            send(FD, Data)
    end.

receive_exactly(_FD, 0) ->
    <<>>;
receive_exactly(FD, Length) ->
    Data = receive_some(FD, Length),
    <<Data/binary, (receive_exactly(FD, Length - byte_size(Data)))/binary>>.

receive_until(FD, End) ->
    Data = receive_some(FD, 65536),
    case binary:match(Data, End) of
        nomatch -> <<Data/binary, (receive_until(FD, End))/binary>>;
        _Found -> Data
    end.

receive_some(FD, Max) ->
    case fdio:read(FD, Max) of
        {ok, <<_, _/binary>> = Data} ->
            Data;
        {error, eagain} ->
            timer:sleep(1),
            receive_some(FD, Max)
    end.

%%% tun

ping_gets_its_replies(Config) ->
    in_network(Config, fun() ->
        {ok, Host} = tun:start_link(#{address => {192, 0, 2, 2}, name => "try%d"}),
        ?assertEqual(<<"try0">>, tun:device(Host)),
        ok = tun:up(<<"try0">>, {192, 0, 2, 1}, 24),
        ?assertMatch({0, _}, ping(["-c", "3", "-i", "0.2", "192.0.2.2"])),
        %% Of an odd length, and as long as fits; ping compares what comes back.
        ?assertMatch({0, _}, ping(["-c", "1", "-s", "1", "192.0.2.2"])),
        ?assertMatch({0, _}, ping(["-c", "1", "-s", "1472", "-p", "ff00", "192.0.2.2"])),
        ?assertMatch({1, _}, ping(["-c", "1", "-W", "1", "192.0.2.3"])),
        ok = tun:stop(Host)
    end).

a_host_answers_arp_and_ping(Config) ->
    in_network(Config, fun() ->
        Mac = <<2, 16#12, 16#34, 16#56, 16#78, 16#9a>>,
        {ok, Host} = tun:start_link(#{kind => tap, address => {192, 0, 2, 2}, mac => Mac}),
        ok = tun:up(tun:device(Host), {192, 0, 2, 1}, 24),
        ?assertMatch({0, _}, ping(["-c", "2", "-i", "0.2", "192.0.2.2"])),
        {0, Neighbour} = command("ip", ["neighbour", "show", "192.0.2.2"]),
        ?assertNotEqual(nomatch, string:find(Neighbour, "02:12:34:56:78:9a")),
        %% For nobody else.
        ?assertMatch({1, _}, ping(["-c", "1", "-W", "1", "192.0.2.3"])),
        {0, Nobody} = command("ip", ["neighbour", "show", "192.0.2.3"]),
        ?assertEqual(nomatch, string:find(Nobody, "lladdr")),
        ok = tun:stop(Host)
    end).

%% The cable is pulled out of a device that is waited for.
a_device_that_is_deleted_ends_the_host(Config) ->
    in_network(Config, fun() ->
        process_flag(trap_exit, true),
        [
            begin
                {ok, Host} = tun:start_link(#{address => {192, 0, 2, 2}, kind => Kind, name => "try"}),
                ok = tun:up(<<"try">>, {192, 0, 2, 1}, 24),
                ?assertMatch({0, _}, ping(["-c", "1", "192.0.2.2"])),
                {0, _} = command("ip", ["link", "delete", "try"]),
                receive
                    {'EXIT', Host, Reason} -> ?assertEqual({read, ebadfd}, Reason)
                end
            end
         || Kind <- [tun, tap]
        ]
    end).

a_device_that_is_down_comes_back(Config) ->
    in_network(Config, fun() ->
        {ok, Host} = tun:start_link(#{address => {192, 0, 2, 2}, name => "try"}),
        ok = tun:up(<<"try">>, {192, 0, 2, 1}, 24),
        ?assertMatch({0, _}, ping(["-c", "1", "192.0.2.2"])),
        {0, _} = command("ip", ["link", "set", "try", "down"]),
        ?assert(inert_test:is_quiet()),
        {0, _} = command("ip", ["link", "set", "try", "up"]),
        ?assertMatch({0, _}, ping(["-c", "1", "192.0.2.2"])),
        ok = tun:stop(Host)
    end).

a_device_is_gone_with_its_host(Config) ->
    in_network(Config, fun() ->
        process_flag(trap_exit, true),
        {ok, Host} = tun:start_link(#{address => {192, 0, 2, 2}, name => "try"}),
        ?assertMatch({0, _}, command("ip", ["link", "show", "try"])),
        exit(Host, shutdown),
        receive
            {'EXIT', Host, shutdown} -> ok
        end,
        ?assertMatch({1, _}, command("ip", ["link", "show", "try"]))
    end).

a_device_made_to_stay_is_used_again(Config) ->
    in_network(Config, fun() ->
        {0, _} = command("ip", ["tuntap", "add", "dev", "try", "mode", "tun"]),
        ok = tun:up(<<"try">>, {192, 0, 2, 1}, 24),
        [
            begin
                {ok, Host} = tun:start_link(#{address => {192, 0, 2, 2}, name => "try"}),
                ?assertMatch({0, _}, ping(["-c", "1", "192.0.2.2"])),
                ok = tun:stop(Host)
            end
         || _ <- [1, 2]
        ]
    end).

a_device_that_cannot_be_had_says_why(Config) ->
    %% In a process of its own, which up to OTP 25 gets an exit beside the error.
    Start = fun(Options) ->
        inert_test:result(
            inert_test:run(fun() ->
                process_flag(trap_exit, true),
                tun:start_link(Options#{address => {192, 0, 2, 2}})
            end)
        )
    end,
    in_network(Config, fun() ->
        {0, _} = command("ip", ["tuntap", "add", "dev", "try", "mode", "tun"]),
        {ok, Host} = tun:start_link(#{address => {192, 0, 2, 2}, name => "try"}),
        ?assertEqual({error, ebusy}, Start(#{name => "try"})),
        ?assertEqual({error, einval}, Start(#{name => "try", kind => tap})),
        ?assertEqual({error, einval}, Start(#{name => "a/b"})),
        ?assertEqual({error, einval}, Start(#{name => "lo"})),
        ?assertEqual({error, enametoolong}, Start(#{name => "sixteen-bytes-16"})),
        ?assertMatch({error, <<_, _/binary>>}, tun:up(<<"nosuch">>, {192, 0, 2, 1}, 24)),
        ok = tun:stop(Host)
    end),
    %% Root, but for the right to change networks.
    Without = "exec setpriv --bounding-set -net_admin --inh-caps -net_admin ",
    in_network(Without, Config, fun() -> ?assertEqual({error, eperm}, Start(#{})) end),
    NoDevice = "mount -t tmpfs none /dev/net && exec ",
    in_network(NoDevice, Config, fun() -> ?assertEqual({error, enoent}, Start(#{})) end).

a_flood_of_pings_leaves_the_host_responsive(Config) ->
    in_network(Config, fun() ->
        {ok, Host} = tun:start_link(#{address => {192, 0, 2, 2}}),
        ok = tun:up(tun:device(Host), {192, 0, 2, 1}, 24),
        Floods = [run(fun() -> ping(["-f", "-c", "2000", "192.0.2.2"]) end) || _ <- [1, 2, 3]],
        [?assertEqual(<<"tun0">>, tun:device(Host)) || _ <- lists:seq(1, 100)],
        [?assertMatch({0, _}, result(Flood)) || Flood <- Floods],
        ok = tun:stop(Host)
    end).

the_host_ends_when_inert_does(Config) ->
    in_network(Config, fun() ->
        process_flag(trap_exit, true),
        {ok, Host} = tun:start_link(#{address => {192, 0, 2, 2}}),
        %% By now it waits.
        _ = tun:device(Host),
        ok = inert:stop(),
        receive
            {'EXIT', Host, Reason} -> ?assertMatch({inert, _}, Reason)
        end
    end).

%%% ping

loopback_replies_on_every_kind_of_socket(Config) ->
    in_network(Config, fun() ->
        loopback(),
        [
            ?assertMatch(
                {_, _, {ok, [{1, {ok, _}}, {2, {ok, _}}, {3, {ok, _}}]}},
                {IP, Socket, ping:ping(IP, #{count => 3, interval => 0, timeout => ?LONG, socket => Socket})}
            )
         || IP <- [{127, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 1}], Socket <- [dgram, raw]
        ],
        ?assertMatch({ok, [{1, {ok, _}}]}, ping:ping({127, 9, 9, 9}))
    end).

any_kind_of_socket_is_found(Config) ->
    Ping = fun(Socket) -> ping:ping({127, 0, 0, 1}, #{socket => Socket, timeout => ?LONG}) end,
    in_network(Config, fun() ->
        loopback(),
        ok = file:write_file("/proc/sys/net/ipv4/ping_group_range", "1 0"),
        ?assertEqual({error, {socket, eacces}}, Ping(dgram)),
        ?assertMatch({ok, [{1, {ok, _}}]}, Ping(any))
    end),
    in_network("exec setpriv --bounding-set -net_raw --inh-caps -net_raw ", Config, fun() ->
        loopback(),
        ?assertEqual({error, {socket, eperm}}, Ping(raw)),
        ?assertMatch({ok, [{1, {ok, _}}]}, Ping(any)),
        ok = file:write_file("/proc/sys/net/ipv4/ping_group_range", "1 0"),
        ?assertEqual({error, {socket, eperm}}, Ping(any))
    end).

payloads_of_any_size(Config) ->
    in_network(Config, fun() ->
        loopback(),
        [
            ?assertMatch(
                {_, {ok, [{1, {ok, _}}]}},
                {Size, ping:ping({127, 0, 0, 1}, #{size => Size, timeout => ?LONG, socket => Socket})}
            )
         || Size <- [0, 1, 2, 7, 1473, 65507], Socket <- [dgram, raw]
        ],
        ?assertMatch({ok, [{1, {error, emsgsize}}]}, ping:ping({127, 0, 0, 1}, #{size => 65508}))
    end).

nobody_answers_in_time(Config) ->
    in_network(Config, fun() ->
        loopback(),
        ok = file:write_file("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1"),
        [
            ?assertEqual(
                {ok, [{1, {error, timeout}}, {2, {error, timeout}}]},
                ping:ping({127, 0, 0, 1}, #{count => 2, interval => 0, timeout => Timeout, socket => Socket})
            )
         || Socket <- [dgram, raw], Timeout <- [0, ?SHORT]
        ]
    end).

errors_from_the_network_come_back(Config) ->
    in_network(Config, fun() ->
        %% No route at all.
        ?assertEqual({error, {connect, enetunreach}}, ping:ping({192, 0, 2, 2})),
        Tun = network("192.0.2.0"),
        [
            begin
                Ping = run(fun() -> ping:ping({192, 0, 2, 2}, #{timeout => ?LONG, socket => Socket}) end),
                {IP, _Icmp} = next_request(Tun),
                %% A router's error has the packet's header and 8 bytes more. "Host unreachable" may
                %% pass, "prohibited" is final.
                <<Start:28/binary, _/binary>> = IP,
                to_machine(Tun, <<3, 1, 0:16, 0:32, Start/binary>>),
                _ = inert_test:blocked(Ping),
                to_machine(Tun, <<3, 13, 0:16, 0:32, Start/binary>>),
                ?assertEqual({ok, [{1, {error, ehostunreach}}]}, result(Ping))
            end
         || Socket <- [dgram, raw]
        ],
        close(Tun)
    end).

only_the_reply_counts(Config) ->
    in_network(Config, fun() ->
        Tun = network("192.0.2.0"),
        [
            begin
                Ping = run(fun() -> ping:ping({192, 0, 2, 2}, #{timeout => ?LONG, socket => Socket}) end),
                {_, <<8, 0, _:16, Id:16, Seq:16, Payload/binary>>} = next_request(Tun),
                <<First, Rest/binary>> = Payload,
                [
                    to_machine(Tun, Wrong)
                 || Wrong <- [
                        <<0, 0, 0:16, Id:16, (Seq + 1):16, Payload/binary>>,
                        <<0, 0, 0:16, (Id bxor 1):16, Seq:16, Payload/binary>>,
                        <<0, 0, 0:16, Id:16, Seq:16, (First bxor 1), Rest/binary>>,
                        <<0, 0, 0:16, Id:16, Seq:16, Rest/binary>>,
                        <<0, 1, 0:16, Id:16, Seq:16, Payload/binary>>,
                        <<8, 0, 0:16, Id:16, Seq:16, Payload/binary>>,
                        <<0, 0>>
                    ]
                ],
                _ = inert_test:blocked(Ping),
                %% Twice: the second has nobody to go to.
                [to_machine(Tun, <<0, 0, 0:16, Id:16, Seq:16, Payload/binary>>) || _ <- [1, 2]],
                ?assertMatch({ok, [{1, {ok, _}}]}, result(Ping))
            end
         || Socket <- [dgram, raw]
        ],
        close(Tun)
    end).

a_late_reply_is_no_reply(Config) ->
    in_network(Config, fun() ->
        Tun = network("192.0.2.0"),
        [
            begin
                Ping = run(fun() ->
                    ping:ping({192, 0, 2, 2}, #{count => 2, interval => 0, timeout => 200, socket => Socket})
                end),
                {_, <<8, 0, _:16, Id:16, 1:16, Payload/binary>>} = next_request(Tun),
                {_, <<8, 0, _:16, Id:16, 2:16, Payload/binary>>} = next_request(Tun),
                to_machine(Tun, <<0, 0, 0:16, Id:16, 1:16, Payload/binary>>),
                ?assertEqual({ok, [{1, {error, timeout}}, {2, {error, timeout}}]}, result(Ping))
            end
         || Socket <- [dgram, raw]
        ],
        close(Tun)
    end).

%% Each raw socket sees the replies of all. Not more of them than its buffer holds: what comes
%% then is lost.
many_pings_at_once(Config) ->
    in_network(Config, fun() ->
        loopback(),
        Pings = [
            run(fun() -> ping:ping({127, 0, 0, 1}, #{count => 5, interval => 0, timeout => ?LONG, socket => Socket}) end)
         || _ <- lists:seq(1, 4), Socket <- [dgram, raw]
        ],
        [
            begin
                {ok, Replies} = result(Ping),
                ?assertEqual(lists:seq(1, 5), [Sequence || {Sequence, {ok, _}} <- Replies])
            end
         || Ping <- Pings
        ]
    end).

a_ping_ends_when_inert_does(Config) ->
    in_network(Config, fun() ->
        loopback(),
        ok = file:write_file("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1"),
        Ping = inert_test:blocked(run(fun() -> ping:ping({127, 0, 0, 1}, #{timeout => ?LONG}) end)),
        ok = inert:stop(),
        ?assertEqual({ok, [{1, {error, closed}}]}, result(Ping))
    end).

bad_arguments_are_badarg(_Config) ->
    [
        ?assertError(badarg, ping:ping(IP, Options))
     || {IP, Options} <- [
            {"127.0.0.1", #{}}, {{127, 0, 0}, #{}}, {{127, 0, 0, 256}, #{}}, {localhost, #{}} |
            [
                {{127, 0, 0, 1}, Bad}
             || Bad <- [
                    #{count => 0}, #{count => 65536}, #{timeout => -1}, #{timeout => infinity}, #{interval => 1.0},
                    #{size => 65528}, #{socket => stream}, #{ttl => 64}
                ]
            ]
        ]
    ].

%% The machine's side of a namespace: the loopback device up, and ICMP for everybody.
loopback() ->
    {0, _} = command("ip", ["link", "set", "lo", "up"]),
    ok = file:write_file("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").

%% A network of which the case itself is every other host.
network(Network) ->
    loopback(),
    {ok, {Tun, <<"tun0">>}} = fdio:tun(tun, ""),
    {ok, {A, B, C, _}} = inet:parse_address(Network),
    ok = tun:up(<<"tun0">>, {A, B, C, 1}, 24),
    Tun.

%% The machine's next IPv4 packet with an echo request, and the request.
next_request(Tun) ->
    case fdio:read(Tun, 65535) of
        {ok, <<16#45, _:64, 1, _:16, _:64, 8, _/binary>> = Packet} ->
            <<_Header:20/binary, Message/binary>> = Packet,
            {Packet, Message};
        {ok, _Other} ->
            next_request(Tun);
        {error, eagain} ->
            {ok, read} = inert:poll(Tun, read),
            next_request(Tun)
    end.

%% Sends the machine an ICMP message, with the checksums it lacks.
to_machine(Tun, <<TypeAndCode:2/binary, Rest/binary>>) ->
    Body = binary:part(<<Rest/binary, 0:48>>, 2, max(0, byte_size(Rest) - 2)),
    Sum = 16#ffff - ones_sum(<<TypeAndCode/binary, 0:16, Body/binary>>),
    Message = <<TypeAndCode/binary, Sum:16, Body/binary>>,
    Header = fun(S) ->
        <<16#45, 0, (20 + byte_size(Message)):16, 0:32, 64, 1, S:16, 192, 0, 2, 2, 192, 0, 2, 1>>
    end,
    Packet = <<(Header(16#ffff - ones_sum(Header(0))))/binary, Message/binary>>,
    {ok, _} = fdio:write(Tun, Packet).

%%% netlink

what_there_is_comes_first(Config) ->
    in_network(Config, fun() ->
        {ok, Watcher} = netlink:start_link(),
        ?assertEqual([resync], next(Watcher)),
        Loopback = {new_link, #{
            index => 1,
            name => <<"lo">>,
            mtu => 65536,
            flags => [loopback],
            operstate => down,
            mac => <<0:48>>
        }},
        ?assertEqual([Loopback, synced], until_event(Watcher, synced)),
        ok = netlink:stop(Watcher)
    end).

links_come_change_and_go(Config) ->
    in_network(Config, fun() ->
        Watcher = synced_watcher(#{}),
        ip("tuntap add dev try mode tap"),
        #{index := Index, mac := <<_:6/binary>>, mtu := 1500} = Link = link_with(Watcher, name, <<"try">>),
        ?assertNot(lists:member(up, maps:get(flags, Link))),
        ip("link set try address 02:00:00:00:00:07"),
        ?assertMatch(#{index := Index}, link_with(Watcher, mac, <<2, 0, 0, 0, 0, 7>>)),
        ip("link set try mtu 1400"),
        ?assertMatch(#{index := Index, name := <<"try">>}, link_with(Watcher, mtu, 1400)),
        ip("link set try name fresh"),
        ?assertMatch(#{index := Index, mtu := 1400}, link_with(Watcher, name, <<"fresh">>)),
        ip("link set fresh up"),
        Up = fun({new_link, #{index := I, flags := Flags}}) -> I =:= Index andalso lists:member(up, Flags); (_) -> false end,
        ?assertMatch({new_link, #{operstate := down}}, until_is(Watcher, Up)),
        ip("link delete fresh"),
        Gone = fun({del_link, _}) -> true; (_) -> false end,
        ?assertMatch({del_link, #{index := Index, name := <<"fresh">>}}, until_is(Watcher, Gone)),
        ok = netlink:stop(Watcher)
    end).

addresses_come_and_go(Config) ->
    in_network(Config, fun() ->
        ip("tuntap add dev try mode tun"),
        Watcher = synced_watcher(#{}),
        Next = fun(Kind) -> until_is(Watcher, fun(Event) -> element(1, Event) =:= Kind end) end,
        ip("address add 192.0.2.1/24 dev try"),
        {new_address, #{index := Index} = V4} = Next(new_address),
        ?assertEqual(
            #{index => Index, address => {192, 0, 2, 1}, prefix_length => 24, scope => universe, flags => [permanent]},
            V4
        ),
        ip("address add 192.0.2.5 peer 198.51.100.9/32 dev try"),
        ?assertMatch(
            {new_address, #{index := Index, address := {192, 0, 2, 5}, peer := {198, 51, 100, 9}, prefix_length := 32}},
            Next(new_address)
        ),
        ip("address del 192.0.2.1/24 dev try"),
        ?assertEqual({del_address, V4}, Next(del_address)),
        ip("link set try up"),
        ip("address add 2001:db8::1/64 dev try nodad"),
        Global = fun({new_address, #{address := {16#2001, 16#db8, 0, 0, 0, 0, 0, 1}}}) -> true; (_) -> false end,
        ?assertMatch({new_address, #{index := Index, prefix_length := 64, scope := universe}}, until_is(Watcher, Global)),
        %% Somebody who looks now sees the same.
        Second = synced_watcher(#{}),
        ok = netlink:stop(Second),
        ok = netlink:stop(Watcher)
    end).

%% The kernel sends both with the same message.
leaving_a_bridge_is_not_going(Config) ->
    in_network(Config, fun() ->
        case command("ip", ["link", "add", "bridge", "type", "bridge"]) of
            {0, _} ->
                ip("tuntap add dev try mode tap"),
                Watcher = synced_watcher(#{}),
                ip("link set try master bridge"),
                ip("link set try nomaster"),
                ip("link set try mtu 1400"),
                Events = until_event(Watcher, fun(Event) ->
                    case Event of
                        {new_link, #{mtu := 1400}} -> true;
                        _ -> false
                    end
                end),
                ?assertEqual([], [Link || {del_link, _} = Link <- Events]),
                ok = netlink:stop(Watcher);
            {_, Said} ->
                io:format("no bridges here: ~s", [Said])
        end
    end).

events_come_only_when_asked_for(Config) ->
    in_network(Config, fun() ->
        {ok, Watcher} = netlink:start_link(),
        ip("tuntap add dev try mode tun"),
        _ = sys:get_state(Watcher),
        no_message(),
        [netlink:next(Watcher) || _ <- [1, 2, 3]],
        _ = sys:get_state(Watcher),
        receive
            {netlink, Watcher, [resync]} -> ok
        end,
        _ = until_event(Watcher, synced),
        netlink:next(Watcher),
        netlink:next(Watcher),
        _ = sys:get_state(Watcher),
        ?assert(inert_test:is_quiet()),
        no_message(),
        ip("link set try mtu 1400"),
        ip("link set try mtu 1300"),
        receive
            {netlink, Watcher, [{new_link, #{mtu := 1400}} | _]} -> ok
        end,
        _ = sys:get_state(Watcher),
        no_message(),
        ?assertMatch(#{name := <<"try">>}, link_with(Watcher, mtu, 1300)),
        ok = netlink:stop(Watcher)
    end).

an_overflow_is_a_resync(Config) ->
    in_network(Config, fun() ->
        ip("tuntap add dev try mode tun"),
        Watcher = synced_watcher(#{rcvbuf => 1}),
        [ip("link set try mtu " ++ integer_to_list(Mtu)) || Mtu <- lists:seq(1301, 1330)],
        Missed = until_event(Watcher, resync),
        ?assert(length(Missed) < 30),
        Picture = until_event(Watcher, synced),
        ?assertEqual([1330], [Mtu || {new_link, #{name := <<"try">>, mtu := Mtu}} <- Picture]),
        ?assertEqual(2, length([Link || {new_link, Link} <- Picture])),
        %% And it goes on.
        ip("link set try mtu 1400"),
        ?assertMatch(#{name := <<"try">>}, link_with(Watcher, mtu, 1400)),
        ok = netlink:stop(Watcher)
    end).

%% Links and addresses that come and go while one reads, with a socket that is too small.
the_picture_is_right_after_a_storm(Config) ->
    in_network(Config, fun() ->
        Watcher = synced_watcher(#{rcvbuf => 1}),
        Storm = run(fun() ->
            _ = [
                begin
                    Name = "try" ++ integer_to_list(N rem 5),
                    _ = ip_try(["tuntap", "add", "dev", Name, "mode", "tun"]),
                    _ = ip_try(["link", "set", Name, "mtu", integer_to_list(1300 + N)]),
                    _ = ip_try(["address", "add", "192.0.2." ++ integer_to_list(N) ++ "/24", "dev", Name]),
                    N rem 3 =:= 0 andalso ip_try(["link", "delete", Name])
                end
             || N <- lists:seq(1, 60)
            ],
            ip("link add name last type veth peer name end")
        end),
        Names = picture(Watcher, <<"last">>),
        _ = result(Storm),
        {ok, Interfaces} = net:if_names(),
        ?assertEqual(lists:sort([list_to_binary(Name) || {_, Name} <- Interfaces]), Names),
        ok = netlink:stop(Watcher)
    end).

a_watcher_goes_with_its_owner(Config) ->
    in_network(Config, fun() ->
        Before = inert_test:fds(),
        Owner = run(fun() ->
            Watcher = synced_watcher(#{}),
            netlink:next(Watcher),
            Watcher
        end),
        Watcher = result(Owner),
        until(fun() -> not is_process_alive(Watcher) end),
        until(fun() -> inert_test:fds() =:= Before end),
        ok = netlink:next(Watcher)
    end).

a_watcher_ends_when_inert_does(Config) ->
    in_network(Config, fun() ->
        process_flag(trap_exit, true),
        Watcher = synced_watcher(#{}),
        netlink:next(Watcher),
        %% By now it waits.
        _ = sys:get_state(Watcher),
        ok = inert:stop(),
        receive
            {'EXIT', Watcher, Reason} -> ?assertMatch({inert, _}, Reason)
        end
    end).

netlink_options_are_checked(_Config) ->
    [
        ?assertError(badarg, netlink:start_link(Bad))
     || Bad <- [[], #{rcvbuf => 0}, #{rcvbuf => 1 bsl 31}, #{rcvbuf => a}, #{groups => 1}, #{rcvbuf => 1, groups => 1}]
    ].

any_bytes_are_events_or_none(_Config) ->
    ?assertEqual([], netlink:events(<<>>)),
    Attribute = fun(Type, Value) ->
        Padding = (4 - byte_size(Value) rem 4) rem 4 * 8,
        <<(4 + byte_size(Value)):16/native, Type:16/native, Value/binary, 0:Padding>>
    end,
    Message = fun(Type, Body) -> <<(16 + byte_size(Body)):32/native, Type:16/native, 0:80, Body/binary>> end,
    Link = Message(16, <<0, 0, 0:16, 7:32/native, 1:32/native, 0:32, (Attribute(3, <<"eth0", 0>>))/binary>>),
    Address = Message(20, <<2, 24, 0, 254, 7:32/native, (Attribute(1, <<10, 0, 0, 1>>))/binary>>),
    Both = [
        {new_link, #{index => 7, name => <<"eth0">>, flags => [up]}},
        {new_address, #{index => 7, address => {10, 0, 0, 1}, prefix_length => 24, scope => host, flags => []}}
    ],
    ?assertEqual(Both, netlink:events(<<Link/binary, Address/binary>>)),
    Datagram = <<Link/binary, Address/binary>>,
    [
        ?assert(is_list(netlink:events(binary:part(Datagram, 0, N))))
     || N <- lists:seq(0, byte_size(Datagram))
    ],
    [
        begin
            N = rand:uniform(byte_size(Datagram)) - 1,
            <<Before:N/binary, _, After/binary>> = Datagram,
            ?assert(is_list(netlink:events(<<Before/binary, (rand:uniform(256) - 1), After/binary>>)))
        end
     || _ <- lists:seq(1, 20_000)
    ].

%% One that has told what there was.
synced_watcher(Options) ->
    {ok, Watcher} = netlink:start_link(Options),
    [resync] = next(Watcher),
    _ = until_event(Watcher, synced),
    Watcher.

next(Watcher) ->
    ok = netlink:next(Watcher),
    receive
        {netlink, Watcher, Events} -> Events
    end.

%% All events up to one; those behind it in its message belong to it.
until_event(Watcher, Wanted) when is_function(Wanted) ->
    Events = next(Watcher),
    case lists:any(Wanted, Events) of
        true -> Events;
        false -> Events ++ until_event(Watcher, Wanted)
    end;
until_event(Watcher, Wanted) ->
    until_event(Watcher, fun(Event) -> Event =:= Wanted end).

until_is(Watcher, Wanted) ->
    hd(lists:filter(Wanted, until_event(Watcher, Wanted))).

link_with(Watcher, Key, Value) ->
    Is = fun
        ({new_link, Link}) -> maps:get(Key, Link, none) =:= Value;
        (_) -> false
    end,
    {new_link, Link} = until_is(Watcher, Is),
    Link.

%% The names that a reader who keeps the rule has, once this one is among them.
picture(Watcher, Last) ->
    picture(Watcher, Last, {synced, #{}}).

picture(Watcher, Last, Picture) ->
    Names = fun(Links) -> lists:sort([Name || #{name := Name} <- maps:values(Links)]) end,
    Now = {_, NowLinks} = lists:foldl(
        fun
            (resync, _) -> {resync, #{}};
            (synced, {_, Links}) -> {synced, Links};
            ({new_link, #{index := Index} = Link}, {Phase, Links}) -> {Phase, Links#{Index => Link}};
            ({del_link, #{index := Index}}, {Phase, Links}) -> {Phase, maps:remove(Index, Links)};
            (_Address, Same) -> Same
        end,
        Picture,
        next(Watcher)
    ),
    case {element(1, Now), lists:member(Last, Names(NowLinks))} of
        {synced, true} -> Names(NowLinks);
        _NotYet -> picture(Watcher, Last, Now)
    end.

ip(Words) ->
    {0, _} = command("ip", string:lexemes(Words, " ")).

%% What the storm has taken away may be missing.
ip_try(Arguments) ->
    command("ip", Arguments).

%%% packets

-define(HOST, #{address => {192, 0, 2, 2}, kind => tun, mac => <<2, 0, 0, 0, 0, 1>>}).

% An echo request with three bytes, by the RFCs; its checksums were computed by another program.
-define(REQUEST, <<
    16#45, 0, 0, 31, 16#12, 16#34, 16#40, 0, 64, 1, 16#a4, 16#a6, 192, 0, 2, 1, 192, 0, 2, 2,
    8, 0, 16#f3, 16#fa, 0, 1, 0, 2, 1, 2, 3
>>).

a_request_has_its_reply(_Config) ->
    {ok, Reply} = tun:answer(?REQUEST, ?HOST),
    ?assertMatch(
        <<4:4, 5:4, 0, 31:16, _:16, 0:16, 64, 1, _:16, 192, 0, 2, 2, 192, 0, 2, 1, 0, 0, _:16, 0, 1, 0, 2, 1, 2, 3>>,
        Reply
    ),
    <<Header:20/binary, Icmp/binary>> = Reply,
    ?assertEqual(16#ffff, ones_sum(Header)),
    ?assertEqual(16#ffff, ones_sum(Icmp)),
    %% With padding behind the packet.
    ?assertEqual({ok, Reply}, tun:answer(<<?REQUEST/binary, 0:160>>, ?HOST)),
    Tap = maps:merge(?HOST, #{kind => tap}),
    Ethernet = <<2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0>>,
    ?assertEqual(
        {ok, <<2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0, Reply/binary>>},
        tun:answer(<<Ethernet/binary, ?REQUEST/binary>>, Tap)
    ),
    ?assertEqual(ignore, tun:answer(<<2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 9, 8, 0, ?REQUEST/binary>>, Tap)).

%% One bit is another: a checksum is wrong, or the packet is for somebody else.
whatever_is_wrong_with_a_packet_is_ignored(_Config) ->
    Bits = bit_size(?REQUEST),
    [
        begin
            <<Before:N/bitstring, Bit:1, After/bitstring>> = ?REQUEST,
            ?assertEqual({N, ignore}, {N, tun:answer(<<Before/bitstring, (1 - Bit):1, After/bitstring>>, ?HOST)})
        end
     || N <- lists:seq(0, Bits - 1)
    ],
    [
        ?assertEqual({N, ignore}, {N, tun:answer(binary:part(?REQUEST, 0, N), ?HOST)})
     || N <- lists:seq(0, byte_size(?REQUEST) - 1)
    ],
    ?assertEqual(ignore, tun:answer(?REQUEST, maps:merge(?HOST, #{address => {192, 0, 2, 3}}))).

any_bytes_at_all_are_taken(_Config) ->
    [
        begin
            Bytes = rand:bytes(rand:uniform(80) - 1),
            _ = [tun:answer(<<Start/binary, Bytes/binary>>, maps:merge(?HOST, #{kind => Kind})) || Kind <- [tun, tap], Start <- [
                <<>>, binary:part(?REQUEST, 0, 12), <<2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 6>>
            ]]
        end
     || _ <- lists:seq(1, 5000)
    ].

bad_options_are_badarg(_Config) ->
    [
        ?assertError(badarg, tun:start_link(Bad))
     || Bad <- [
            #{}, #{address => "192.0.2.2"}, #{address => {192, 0, 2, 256}}, #{address => {192, 0, 2, 2}, kind => ethernet},
            #{address => {192, 0, 2, 2}, mac => <<1>>}, #{address => {192, 0, 2, 2}, mtu => 9000}
        ]
    ].

ones_sum(Data) ->
    Padding = (byte_size(Data) rem 2) * 8,
    Sum = lists:sum([Word || <<Word:16>> <= <<Data/binary, 0:Padding>>]),
    (Sum band 16#ffff) + (Sum bsr 16).

%%% A network of its own

%% The command that runs another in new namespaces, for networks and for mounts.
namespace() ->
    Commands =
        case os:cmd("id -u") of
            "0\n" -> ["unshare --net --mount"];
            _User -> ["unshare --net --mount --map-root-user"]
        end,
    case [Command || Command <- Commands, os:cmd(Command ++ " echo works 2>&1") =:= "works\n"] of
        [Command] -> Command;
        [] -> {skip, "unshare(1) makes no network namespace here"}
    end.

tun_in(Command, Config) ->
    case os:cmd(Command ++ " sh -c 'true <>/dev/net/tun && echo works' 2>&1") of
        "works\n" -> Config;
        Why -> {skip, "no TUN device: " ++ string:trim(Why)}
    end.

%% Runs Fun in a VM that has a network to itself: a loopback device that is down. It ends with the
%% case, and the network with it.
in_network(Config, Fun) ->
    in_network("exec ", Config, Fun).

in_network(Before, Config, Fun) ->
    [Unshare | Options] = string:lexemes(proplists:get_value(namespace, Config), " "),
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io,
        exec => {os:find_executable(Unshare), Options ++ ["sh", "-c", Before ++ "erl \"$@\"", "erl"]},
        args => ["-pa", filename:dirname(code:which(?MODULE))]
    }),
    Pollset = proplists:get_value(pollset, Config),
    try
        %% If Fun is ended by an exit signal, this returns, too, but something else.
        done = peer:call(Peer, erlang, apply, [fun() -> tidily(Pollset, Fun) end, []], infinity)
    after
        peer:stop(Peer)
    end.

tidily(Pollset, Fun) ->
    ok = application:set_env(inert, pollset, Pollset),
    _ = code:ensure_modules_loaded([inert, prim_inert, inert_drv, fdio, tun, ping, netlink, rand, crypto, inert_test]),
    Before = inert_test:fds(),
    ok = inert:start(),
    _ = Fun(),
    ok = inert:stop(),
    until(fun() -> inert_test:fds() -- Before =:= [] end),
    done.

ping(Arguments) ->
    command("ping", ["-n", "-W", "30" | Arguments]).

%% What a program exits with, and says.
command(Name, Arguments) ->
    Path = os:find_executable(Name, os:getenv("PATH") ++ ":/sbin:/usr/sbin"),
    Port = open_port({spawn_executable, Path}, [{args, Arguments}, exit_status, stderr_to_stdout]),
    command_ended(Port, []).

command_ended(Port, Said) ->
    receive
        {Port, {data, Data}} -> command_ended(Port, [Said, Data]);
        {Port, {exit_status, Status}} -> {Status, lists:flatten(Said)}
    end.

%%% Other programs

%% Runs Fun with the path of a tty, at whose other end is the program of this socat address.
with_program(Address, Config, Fun) ->
    Tty = filename:join(proplists:get_value(priv_dir, Config), "tty"),
    Port = open_port({spawn_executable, os:find_executable("socat")}, [
        {args, ["-d", "-d", "-t", "0", "PTY,rawer,link=" ++ Tty, Address]},
        stderr_to_stdout,
        exit_status,
        {line, 1000}
    ]),
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    try
        transferring(Port),
        Fun(Tty)
    after
        %% Its tty stays when nobody has it open, so most often it does not end by itself.
        _ = os:cmd("kill " ++ integer_to_list(Pid)),
        ended(Port)
    end.

transferring(Port) ->
    receive
        {Port, {data, {eol, Text}}} ->
            case string:find(Text, "starting data transfer loop") of
                nomatch -> transferring(Port);
                _Ready -> ok
            end;
        {Port, {exit_status, _}} = Ended ->
            self() ! Ended,
            ct:fail({socat, Ended})
    end.

ended(Port) ->
    receive
        {Port, {data, _}} -> ended(Port);
        {Port, {exit_status, _}} -> ok
    end.
