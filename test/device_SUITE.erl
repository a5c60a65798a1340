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

-include_lib("stdlib/include/assert.hrl").

-import(inert_test, [run/1, result/1, kill/1, with/2, close/1, no_message/0, until/1]).

%% For what must not happen; not for what takes its time.
-define(SHORT, 20).

%% What a test that waits for it gives up with is the suite's time trap.
-define(LONG, 60_000).

suite() ->
    inert_test:suite().

all() ->
    inert_test:per_pollset(topics()).

groups() ->
    inert_test:groups_per_pollset(topics()).

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
        ]}
    ].

init_per_suite(Config) ->
    _ = code:ensure_modules_loaded([serial, file, os, string]),
    inert_test:init_per_suite(Config).

end_per_suite(Config) ->
    inert_test:end_per_suite(Config).

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
