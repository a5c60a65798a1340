%% SPDX-License-Identifier: Apache-2.0
%%
%% erl_driver inside a VM: everything that the crate offers is asked of
%% probe_drv, a driver of safe code alone, whose replies and messages show what
%% ERTS and the crate have made of it.
%%
%% What panics, or might take the VM down, runs in a VM of its own (in_vm/2),
%% whose standard error is read here.
-module(probe_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([init_per_testcase/2, end_per_testcase/2]).

-export([start_gets_its_command/1]).
-export([start_refuses/1]).
-export([start_may_call_back/1]).
-export([fail_in_start_is_ignored/1]).
-export([stop_runs_whoever_closes/1]).
-export([nothing_is_begun_in_stop/1]).
-export([ports_share_nothing_but_statics/1]).

-export([control_replies_of_any_length/1]).
-export([control_alternates_binary_and_list/1]).
-export([control_refuses/1]).
-export([call_of_any_length/1]).
-export([call_refuses/1]).
-export([call_without_a_term_leaks_nothing/1]).
-export([output_in_pieces/1]).
-export([output_as_a_message/1]).
-export([busy_port_suspends/1]).
-export([timeslice/1]).

-export([every_term/1]).
-export([external_terms/1]).
-export([bad_terms/1]).
-export([send_to_the_dead/1]).
-export([send_to_the_owner/1]).
-export([errno_names/1]).
-export([erts_version/1]).

-export([select_read/1]).
-export([select_write/1]).
-export([select_both/1]).
-export([use_keeps_and_gives_up/1]).
-export([select_refuses/1]).

-export([monitors/1]).
-export([monitors_compare/1]).
-export([demonitor/1]).
-export([timer/1]).
-export([timer_is_never_early/1]).
-export([timer_for_ever/1]).

-export([fail_answers_the_control/1]).
-export([fail_in_each_callback/1]).
-export([fail_eof_as_the_port_was_opened/1]).
-export([fail_in_process_exit_among_monitors/1]).
-export([demonitor_in_process_exit/1]).

-export([panic_in_each_callback/1]).
-export([panic_in_process_exit_among_monitors/1]).
-export([panic_with_any_payload/1]).
-export([panic_without_a_port/1]).
-export([panic_at_load/1]).
-export([refuse_at_load/1]).
-export([panic_at_unload/1]).
-export([panic_caught_by_the_driver/1]).

-export([memory_is_seen/1]).
-export([memory_is_aligned/1]).
-export([reload/1]).
-export([many_ports_at_once/1]).
-export([many_processes_on_one_port/1]).

%% What runs in another VM.
-export([vm/1]).
-export([vm_fail_in_process_exit/0]).
-export([vm_demonitor_in_process_exit/0]).
-export([vm_panic_in_each_callback/0]).
-export([vm_panic_in_process_exit/0]).
-export([vm_panic_with_any_payload/0]).
-export([vm_panic_without_a_port/0]).
-export([vm_load_fails/0]).
-export([vm_panic_at_unload/0]).
-export([vm_panic_caught/0]).
-export([vm_reload/0]).
-export([vm_many_ports/0]).

-define(DRIVER, "probe_drv").

%% Nothing is to come: long enough for what is on its way.
-define(SILENCE_MS, 50).

%% The life of a VM of a case's own. They take a few seconds at most.
-define(VM_SECONDS, 100).

%% command.rs
-define(COMMANDS, #{
    list => 1, binary => 2, bytewise => 3, cleared => 4, refuse => 5, opened => 6,
    plan => 7, select => 8, deselect => 9, stopped => 10, monitor => 11,
    demonitor => 12, monitored => 13, same => 14, timer => 15, cancel_timer => 16,
    term => 17, external => 18, remember => 19, send_remembered => 20,
    send_owner => 21, output => 22, consume => 23, busy => 24, allocate => 25,
    aligned => 26, errno => 27, who => 28, catch_own_panic => 29,
    erts_version => 30
}).

%% deed.rs
-define(CALLBACKS, #{
    stop => 1, output => 2, control => 3, call => 4, ready_input => 5,
    ready_output => 6, stop_select => 7, process_exit => 8, timeout => 9
}).

%% lib.rs: the modes of driver_select.
-define(READ, 1).
-define(WRITE, 2).
-define(USE, 4).
-define(USE_NO_CALLBACK, 8).

-define(ENOENT, 2).

suite() ->
    [{timetrap, {seconds, ?VM_SECONDS + 20}}].

all() ->
    [{group, G} || {G, _, _} <- groups()].

groups() ->
    [
        {ports, [], [
            start_gets_its_command,
            start_refuses,
            start_may_call_back,
            fail_in_start_is_ignored,
            stop_runs_whoever_closes,
            nothing_is_begun_in_stop,
            ports_share_nothing_but_statics
        ]},
        {requests, [], [
            control_replies_of_any_length,
            control_alternates_binary_and_list,
            control_refuses,
            call_of_any_length,
            call_refuses,
            call_without_a_term_leaks_nothing,
            output_in_pieces,
            output_as_a_message,
            busy_port_suspends,
            timeslice
        ]},
        {terms, [], [
            every_term,
            external_terms,
            bad_terms,
            send_to_the_dead,
            send_to_the_owner,
            errno_names,
            erts_version
        ]},
        {events, [], [
            select_read,
            select_write,
            select_both,
            use_keeps_and_gives_up,
            select_refuses
        ]},
        {monitors_and_timers, [], [
            monitors,
            monitors_compare,
            demonitor,
            timer,
            timer_is_never_early,
            timer_for_ever
        ]},
        {failures, [], [
            fail_answers_the_control,
            fail_in_each_callback,
            fail_eof_as_the_port_was_opened,
            fail_in_process_exit_among_monitors,
            demonitor_in_process_exit
        ]},
        {panics, [], [
            panic_in_each_callback,
            panic_in_process_exit_among_monitors,
            panic_with_any_payload,
            panic_without_a_port,
            panic_at_load,
            refuse_at_load,
            panic_at_unload,
            panic_caught_by_the_driver
        ]},
        {memory_and_load, [], [
            memory_is_seen,
            memory_is_aligned,
            reload,
            many_ports_at_once,
            many_processes_on_one_port
        ]}
    ].

init_per_suite(Config) ->
    true = os:putenv("PROBE_DIR", directory(Config)),
    Config.

end_per_suite(_Config) ->
    ok.

%% A port's exit is a message here. The driver stays loaded during the case.
init_per_testcase(_Case, Config) ->
    ok = load(),
    process_flag(trap_exit, true),
    Config.

end_per_testcase(_Case, _Config) ->
    [caught(fun() -> port_close(P) end) || P <- erlang:ports(), erlang:port_info(P, name) =:= {name, ?DRIVER}],
    ok.

%%% Ports

start_gets_its_command(_Config) ->
    Port = open("probe_drv hello"),
    ?assertEqual({Port, start, <<"probe_drv hello">>}, next()),
    %% Spaces are the driver's to read.
    ?assertError(badarg, open("probe_drv hello ")).

start_refuses(_Config) ->
    ?assertError(einval, open("probe_drv general")),
    ?assertError(badarg, open("probe_drv badarg")),
    ?assertError(badarg, open("probe_drv nonsense")),
    ?assertError(emfile, open("probe_drv emfile")),
    ?assertError(ebusy, open("probe_drv ebusy")),
    quiet().

%% start may send, ask for its caller, set the timer and monitor.
start_may_call_back(_Config) ->
    Port = open("probe_drv caller timer monitor"),
    ?assertEqual({Port, start, []}, next()),
    ?assertEqual({Port, timeout, 1}, next()),
    ?assertEqual([], control(Port, monitored, <<0>>)),
    ?assertEqual({Port, monitored, self()}, next()).

fail_in_start_is_ignored(_Config) ->
    Port = open("probe_drv fail"),
    ?assertEqual("x", control(Port, list, "x")),
    quiet().

stop_runs_whoever_closes(_Config) ->
    %% port_close/1
    Closed = open(),
    true = port_close(Closed),
    ?assertEqual(normal, stopped_with(Closed)),
    %% Port ! {Owner, close}
    Asked = open(),
    Asked ! {self(), close},
    receive {Asked, closed} -> ok end,
    ?assertEqual(normal, stopped_with(Asked)),
    %% An exit signal. The owner is who is told, also from stop.
    Killed = open(),
    exit(Killed, enough),
    ?assertEqual(enough, stopped_with(Killed)),
    %% The owner's death: nobody is there to be told, and nothing breaks.
    Self = self(),
    {Owner, Ref} = spawn_monitor(fun() -> Self ! {orphan, open()} end),
    receive {orphan, Orphan} -> ok end,
    receive {'DOWN', Ref, process, Owner, normal} -> ok end,
    wait_until(fun() -> erlang:port_info(Orphan) =:= undefined end),
    quiet().

%% A timer would hold the port, and so the driver, until it expires.
nothing_is_begun_in_stop(_Config) ->
    Port = open(),
    [] = plan(Port, stop, outlive),
    true = port_close(Port),
    receive {Port, outlived, Timer, Monitor} -> ok end,
    ?assertEqual({0, 0}, {Timer, Monitor}),
    ?assertEqual(normal, stopped_with(Port)).

ports_share_nothing_but_statics(_Config) ->
    [One, Other] = [open(), open()],
    [] = control(One, remember, []),
    ?assertEqual("ok", control(One, send_remembered, "x")),
    ?assertEqual(<<"x">>, next()),
    ?assertError(badarg, control(Other, send_remembered, "x")),
    Opened = opened(One),
    ?assertEqual(Opened, opened(Other)),
    _ = open(),
    ?assertEqual(Opened + 1, opened(One)).

%%% Requests

%% ERTS lends 64 bytes: shorter replies are there, longer ones elsewhere.
control_replies_of_any_length(_Config) ->
    Port = open(),
    [
        begin
            Data = rand:bytes(Length),
            ?assertEqual(binary_to_list(Data), control(Port, list, Data)),
            ?assertEqual(binary_to_list(Data), control(Port, cleared, Data)),
            ?assertEqual(Data, control(Port, binary, Data)),
            ?assertEqual(Data, control(Port, bytewise, Data))
        end
     || Length <- [0, 1, 63, 64, 65, 127, 128, 255, 256, 257, 8192, 8193, 100_000]
    ].

control_alternates_binary_and_list(_Config) ->
    Port = open(),
    [
        begin
            ?assertEqual(<<"b">>, control(Port, binary, "b")),
            ?assertEqual("l", control(Port, list, "l")),
            ?assertEqual(Long, control(Port, binary, Long)),
            ?assertEqual(binary_to_list(Long), control(Port, list, Long)),
            ?assertEqual("l", control(Port, list, "l")),
            ?assertEqual(<<>>, control(Port, binary, "")),
            ?assertEqual("", control(Port, list, ""))
        end
     || Long <- [rand:bytes(1000) || _ <- lists:seq(1, 100)]
    ].

%% A refused control had asked for a binary, of which nothing stays.
control_refuses(_Config) ->
    Port = open(),
    [
        begin
            ?assertError(badarg, control(Port, refuse, Data)),
            ?assertEqual("list", control(Port, list, "list"))
        end
     || Data <- ["", "short", binary:copy(<<"long">>, 1000)]
    ],
    ?assertError(badarg, erlang:port_control(Port, 1000, [])),
    ?assertError(badarg, erlang:port_control(Port, 16#ffffffff, [])),
    ?assertEqual("list", control(Port, list, "list")),
    quiet().

%% ERTS lends 255 bytes, or 256 if the call had to wait.
call_of_any_length(_Config) ->
    Port = open(),
    Terms = [
        [], ok, 1.5, self(), Port, make_ref(), #{a => {b, "c"}}, fun lists:map/2, -1 bsl 80
        | [rand:bytes(N) || N <- lists:seq(240, 260)] ++ [rand:bytes(100_000)]
    ],
    [?assertEqual(Term, erlang:port_call(Port, 1, Term)) || Term <- Terms],
    quiet().

call_refuses(_Config) ->
    Port = open(),
    %% No term, short and long; nothing; an unknown command.
    ?assertError(badarg, erlang:port_call(Port, 2, a)),
    ?assertError(badarg, erlang:port_call(Port, 2, rand:bytes(1000))),
    ?assertError(badarg, erlang:port_call(Port, 3, a)),
    ?assertError(badarg, erlang:port_call(Port, 4, a)),
    ?assertEqual(a, erlang:port_call(Port, 1, a)),
    quiet().

call_without_a_term_leaks_nothing(_Config) ->
    Port = open(),
    Term = rand:bytes(100_000),
    Before = erlang:memory(system),
    [?assertError(badarg, erlang:port_call(Port, 2, Term)) || _ <- lists:seq(1, 1000)],
    ?assert(erlang:memory(system) - Before < 10_000_000).

output_in_pieces(_Config) ->
    Port = open(),
    [A, B] = [rand:bytes(N) || N <- [1000, 2000]],
    Lists = [
        {"", []},
        {"text", [<<"text">>]},
        {[A, B, A], [A, B, A]},
        {[A, <<>>, "b", [B | <<"tail">>]], [A, <<"b">>, B, <<"tail">>]}
    ],
    [
        begin
            true = port_command(Port, Data),
            {Port, outputv, Size, Pieces} = next(),
            ?assertEqual(iolist_size(Data), Size),
            ?assertEqual(iolist_to_binary(Data), iolist_to_binary(Pieces)),
            %% How ERTS cuts small ones is its own affair.
            ?assert(length(Pieces) >= length([P || P <- Expected, byte_size(P) >= 1000])),
            ?assertEqual({Port, output, iolist_to_binary(Data)}, next())
        end
     || {Data, Expected} <- Lists
    ],
    %% From another process: it is the caller, we are the owner.
    Self = self(),
    {Pid, Ref} = spawn_monitor(fun() ->
        true = port_command(Port, "x"),
        Self ! {self(), next()}
    end),
    ?assertEqual({Port, output, <<"x">>}, next()),
    ?assertEqual({Pid, {Port, outputv, 1, [<<"x">>]}}, next()),
    receive {'DOWN', Ref, process, Pid, normal} -> ok end.

output_as_a_message(_Config) ->
    Port = open(),
    Port ! {self(), {command, ["ab", <<"c">>]}},
    ?assertMatch({Port, outputv, 3, _}, next()),
    ?assertEqual({Port, output, <<"abc">>}, next()).

busy_port_suspends(_Config) ->
    Port = open(),
    [] = control(Port, busy, <<1>>),
    ?assertEqual(false, port_command(Port, "x", [nosuspend])),
    Self = self(),
    Pid = spawn_link(fun() ->
        true = port_command(Port, "late"),
        Self ! {self(), done}
    end),
    wait_until(fun() -> process_info(Pid, status) =:= {status, suspended} end),
    quiet(),
    %% Control is answered by a busy port.
    [] = control(Port, busy, <<0>>),
    ?assertEqual([{Pid, done}, {Port, output, <<"late">>}], lists:sort([next(), next()])),
    ?assertEqual({'EXIT', Pid, normal}, next()),
    true = port_command(Port, "x", [nosuspend]),
    {Port, outputv, 1, _} = next(),
    {Port, output, <<"x">>} = next().

timeslice(_Config) ->
    Port = open(),
    ?assertEqual("true", control(Port, consume, <<100>>)),
    %% Out of range is cut to the range, and no harm.
    [
        ?assert(lists:member(control(Port, consume, <<Percent>>), ["true", "false"]))
     || Percent <- [0, 1, 101, 255]
    ].

%%% Terms

every_term(_Config) ->
    Port = open(),
    Terms = #{
        "nil" => [],
        "atoms" => [ok, '', 'å'],
        "ints" => [0, -1, min_word(), -min_word() - 1],
        "int64s" => [0, -1, -(1 bsl 63), (1 bsl 63) - 1, (1 bsl 64) - 1],
        "floats" => [0.0, -1.5, 1.7976931348623157e308],
        "port" => Port,
        "pid" => self(),
        "binaries" => [<<>>, <<"short">>, binary:copy(<<7>>, 65)],
        "strings" => ["", "abc"],
        "tuples" => {{}, {1, {[]}}},
        "lists" => [[], [1, [2]]],
        "map" => #{1 => #{}, 2 => <<"two">>},
        "large_map" => maps:from_list([{N, N} || N <- lists:seq(0, 99)]),
        "large" => [{N, <<"some bytes">>} || N <- lists:seq(0, 9999)],
        "externals" => {<<1, 2>>, 5}
    },
    maps:foreach(
        fun(Name, Term) ->
            ?assertEqual({Name, "ok"}, {Name, control(Port, term, Name)}),
            ?assertEqual({Name, Term}, {Name, next()})
        end,
        Terms
    ).

external_terms(_Config) ->
    Port = open(),
    [
        begin
            ?assertEqual("ok", control(Port, external, term_to_binary(Term, Options))),
            ?assertEqual(Term, next())
        end
     || Term <- [make_ref(), self(), Port, -1 bsl 100, #{a => [1 | b]}, lists:duplicate(10_000, x)],
        Options <- [[], [compressed], [{minor_version, 2}]]
    ].

bad_terms(_Config) ->
    Port = open(),
    Names = [
        "infinity", "nan", "same_keys", "large_same_keys", "no_value", "none", "two", "good_then_bad"
    ],
    [?assertEqual({Name, "bad_term"}, {Name, control(Port, term, Name)}) || Name <- Names],
    Good = term_to_binary({abc, [1, 2.5], <<"binary">>}),
    Bad = [
        <<>>, <<131>>, <<0>>, <<131, 255>>, <<131, 80, 255, 255, 255, 255>>
        | [binary:part(Good, 0, N) || N <- lists:seq(1, byte_size(Good) - 1)]
    ],
    [?assertEqual({B, "bad_term"}, {B, control(Port, external, B)}) || B <- Bad],
    quiet().

send_to_the_dead(_Config) ->
    Port = open(),
    {Pid, Ref} = spawn_monitor(fun() -> control(Port, remember, []) end),
    receive {'DOWN', Ref, process, Pid, normal} -> ok end,
    ?assertEqual("no_process", control(Port, send_remembered, "x")),
    ?assertEqual("no such process", control(Port, monitor, [])),
    quiet().

send_to_the_owner(_Config) ->
    Port = open(),
    ?assertEqual("ok", control(Port, send_owner, "x")),
    ?assertEqual(<<"x">>, next()),
    ?assertEqual("ok", control(Port, output, "data")),
    ?assertEqual({Port, {data, "data"}}, next()),
    Binary = open("probe_drv", [binary]),
    ?assertEqual("ok", control(Binary, output, rand:bytes(1000))),
    ?assertMatch({Binary, {data, <<_:1000/binary>>}}, next()),
    ?assertEqual("ok", control(Binary, output, [])),
    ?assertEqual({Binary, {data, <<>>}}, next()),
    %% With another owner, the caller is still the caller.
    Self = self(),
    Owner = spawn_link(fun() -> Self ! {told, next()} end),
    true = port_connect(Port, Owner),
    [] = control(Port, who, []),
    ?assertEqual({Port, who, Owner, Self}, next()),
    ?assertEqual("ok", control(Port, send_owner, "y")),
    ?assertEqual({told, <<"y">>}, next()).

erts_version(_Config) ->
    ?assertEqual(erlang:system_info(version), control(open(), erts_version, <<>>)).

errno_names(_Config) ->
    Port = open(),
    ?assertEqual("enoent", control(Port, errno, <<?ENOENT:32>>)),
    %% "unknown" up to OTP 27; OTP 29 says the number.
    [
        ?assert(lists:member(control(Port, errno, <<Errno:32>>), ["unknown", "errno_" ++ integer_to_list(Errno)]))
     || Errno <- [-1, 100_000]
    ].

%%% Events

select_read(_Config) ->
    Port = open(),
    {ok, {Reader, Writer}} = fdio:pipe(),
    "ok" = select(Port, Reader, ?READ bor ?USE),
    quiet(),
    %% The driver deselects what is ready, so that it is told once.
    {ok, 1} = fdio:write(Writer, <<"x">>),
    ?assertEqual({Port, ready_input, Reader}, next()),
    quiet(),
    "ok" = select(Port, Reader, ?READ),
    ?assertEqual({Port, ready_input, Reader}, next()),
    {ok, <<"x">>} = fdio:read(Reader, 10),
    "ok" = deselect(Port, Reader, ?USE),
    ?assertEqual([Reader], stopped(Port, 1)),
    [ok = fdio:close(FD) || FD <- [Reader, Writer]].

select_write(_Config) ->
    Port = open(),
    {ok, FD} = fdio:eventfd(),
    "ok" = select(Port, FD, ?WRITE bor ?USE),
    ?assertEqual({Port, ready_output, FD}, next()),
    quiet(),
    "ok" = deselect(Port, FD, ?USE),
    ?assertEqual([FD], stopped(Port, 1)),
    ok = fdio:close(FD).

select_both(_Config) ->
    Port = open(),
    {ok, {One, Other}} = fdio:socketpair(),
    {ok, 1} = fdio:write(Other, <<"x">>),
    "ok" = select(Port, One, ?READ bor ?WRITE bor ?USE),
    ?assertEqual([{Port, ready_input, One}, {Port, ready_output, One}], lists:sort([next(), next()])),
    %% Both again, and one of them taken away before it can happen.
    {ok, <<"x">>} = fdio:read(One, 10),
    "ok" = select(Port, One, ?READ bor ?WRITE),
    ?assertEqual({Port, ready_output, One}, next()),
    "ok" = deselect(Port, One, ?READ),
    {ok, 1} = fdio:write(Other, <<"x">>),
    quiet(),
    "ok" = deselect(Port, One, ?USE),
    ?assertEqual([One], stopped(Port, 1)),
    [ok = fdio:close(FD) || FD <- [One, Other]].

use_keeps_and_gives_up(_Config) ->
    Port = open(),
    {ok, {Reader, Writer}} = fdio:pipe(),
    %% Not used: deselecting is the end, without a callback.
    "ok" = select(Port, Reader, ?READ),
    "ok" = deselect(Port, Reader, ?READ),
    ?assertEqual([], stopped(Port, 0)),
    %% Used, and given up without a callback.
    "ok" = select(Port, Reader, ?READ bor ?USE),
    "ok" = deselect(Port, Reader, ?READ bor ?USE_NO_CALLBACK),
    ?assertEqual([], stopped(Port, 0)),
    %% Given up in one go with a callback, which may run at once.
    "ok" = select(Port, Reader, ?READ bor ?USE),
    "ok" = deselect(Port, Reader, ?READ bor ?USE),
    ?assertEqual([Reader], stopped(Port, 1)),
    %% Never selected: nothing to wait for.
    "ok" = deselect(Port, Reader, ?USE),
    ?assertEqual([Reader], stopped(Port, 1)),
    [ok = fdio:close(FD) || FD <- [Reader, Writer]],
    quiet().

select_refuses(_Config) ->
    Port = open(),
    [
        begin
            ?assertEqual({FD, "error"}, {FD, select(Port, FD, ?READ)}),
            ?assertEqual({FD, "error"}, {FD, deselect(Port, FD, ?READ)})
        end
     || FD <- [-1, -(1 bsl 31), (1 bsl 31) - 1]
    ],
    ?assertEqual("list", control(Port, list, "list")).

%%% Monitors and timers

monitors(_Config) ->
    Port = open(),
    {Pid, Ref} = spawn_monitor(fun() ->
        "0" = control(Port, monitor, []),
        receive go -> ok end
    end),
    wait_until(fun() -> caught(fun() -> control(Port, monitored, <<0>>) end) =:= [] end),
    ?assertEqual({Port, monitored, Pid}, next_but_down()),
    Pid ! go,
    receive {'DOWN', Ref, process, Pid, normal} -> ok end,
    ?assertEqual({Port, process_exit, Pid, 0}, next()),
    %% Over: it is nobody's, and cannot be ended.
    ?assertEqual("nobody", control(Port, monitored, <<0>>)),
    ?assertEqual("error", control(Port, demonitor, <<0>>)),
    quiet().

%% A process monitored twice is two monitors.
monitors_compare(_Config) ->
    Port = open(),
    Pid = spawn(fun() ->
        ["0", "1"] = [control(Port, monitor, []) || _ <- [1, 2]],
        receive go -> ok end
    end),
    wait_until(fun() -> caught(fun() -> control(Port, same, <<1, 1>>) end) =:= "true" end),
    ?assertEqual("true", control(Port, same, <<0, 0>>)),
    ?assertEqual("false", control(Port, same, <<0, 1>>)),
    Pid ! go,
    ?assertEqual(
        [{Port, process_exit, Pid, 0}, {Port, process_exit, Pid, 1}],
        lists:sort([next(), next()])
    ),
    %% Another port's monitor is none of this one's.
    Other = open(),
    ?assertError(badarg, control(Other, monitored, <<0>>)),
    quiet().

demonitor(_Config) ->
    Port = open(),
    {Pid, Ref} = spawn_monitor(fun() ->
        "0" = control(Port, monitor, []),
        "1" = control(Port, monitor, []),
        "ok" = control(Port, demonitor, <<0>>),
        "error" = control(Port, demonitor, <<0>>),
        "nobody" = control(Port, monitored, <<0>>)
    end),
    receive {'DOWN', Ref, process, Pid, normal} -> ok end,
    ?assertEqual({Port, process_exit, Pid, 1}, next()),
    quiet().

timer(_Config) ->
    Port = open(),
    "ok" = set_timer(Port, 0),
    ?assertEqual({Port, timeout, 1}, next()),
    "ok" = set_timer(Port, 10_000),
    ?assertEqual({Port, timeout, 2}, next()),
    %% Cancelled, also when there is none; replaced.
    "ok" = set_timer(Port, 10_000),
    "ok" = control(Port, cancel_timer, []),
    "ok" = control(Port, cancel_timer, []),
    quiet(),
    "ok" = set_timer(Port, 3600_000_000),
    "ok" = set_timer(Port, 1000),
    ?assertEqual({Port, timeout, 3}, next()),
    quiet().

timer_is_never_early(_Config) ->
    Port = open(),
    [
        begin
            Began = erlang:monotonic_time(microsecond),
            "ok" = set_timer(Port, Microseconds),
            {Port, timeout, _} = next(),
            ?assert(erlang:monotonic_time(microsecond) - Began >= Microseconds)
        end
     || Microseconds <- lists:seq(1900, 2990, 90)
    ].

%% The longest Duration that Rust has.
timer_for_ever(_Config) ->
    Port = open(),
    "ok" = control(Port, timer, <<>>),
    quiet(),
    "ok" = set_timer(Port, 0),
    ?assertEqual({Port, timeout, 1}, next()).

%%% Failures

fail_answers_the_control(_Config) ->
    [
        begin
            Port = open(),
            [] = plan(Port, control, Deed),
            ?assertEqual(Reply, control(Port, Kind, Reply)),
            ?assertEqual(Reason, stopped_with(Port)),
            ?assertError(badarg, control(Port, list, "x"))
        end
     || {Deed, Reason} <- deeds(),
        {Kind, Reply} <- [
            {list, "short"}, {binary, <<"short">>}, {list, lists:duplicate(1000, $x)},
            {binary, binary:copy(<<"long">>, 1000)}
        ]
    ],
    %% So does the call, and so the terms sent before.
    Port = open(),
    [] = plan(Port, call, {atom, "over"}),
    ?assertEqual({some, term}, erlang:port_call(Port, 1, {some, term})),
    ?assertEqual(over, stopped_with(Port)).

fail_in_each_callback(_Config) ->
    [
        begin
            Port = open(),
            [] = plan(Port, Callback, Deed),
            Undo = provoke(Port, Callback),
            ?assertEqual({Callback, Reason}, {Callback, stopped_with(Port)}),
            Undo(),
            quiet()
        end
     || Callback <- [output, ready_input, ready_output, process_exit, timeout],
        {Deed, Reason} <- deeds()
    ],
    %% Without effect in stop.
    Port = open(),
    [] = plan(Port, stop, {atom, "late"}),
    true = port_close(Port),
    ?assertEqual(normal, stopped_with(Port)).

%% With the option eof the owner is told, and the port stays open.
fail_eof_as_the_port_was_opened(_Config) ->
    Port = open("probe_drv", [eof]),
    [
        begin
            [] = plan(Port, Callback, eof),
            Undo = provoke(Port, Callback),
            ?assertEqual({Callback, {Port, eof}}, {Callback, next_from(Port, Callback)}),
            ?assertEqual("on", control(Port, list, "on")),
            Undo()
        end
     || Callback <- [control, call, output, ready_input, timeout, process_exit, timeout]
    ],
    quiet().

%% ERTS unlinks a monitor after process_exit: the others must still be there.
fail_in_process_exit_among_monitors(_Config) ->
    in_vm(vm_fail_in_process_exit, []).

vm_fail_in_process_exit() ->
    [
        begin
            Port = open(),
            Pids = monitored_processes(Port, 100),
            [] = plan(Port, process_exit, {atom, "over"}),
            [exit(Pid, kill) || Pid <- Pids],
            over = stopped_with(Port)
        end
     || _ <- lists:seq(1, 100)
    ],
    "alive".

demonitor_in_process_exit(_Config) ->
    in_vm(vm_demonitor_in_process_exit, []).

vm_demonitor_in_process_exit() ->
    [
        begin
            Port = open(),
            Pids = monitored_processes(Port, 100),
            [
                begin
                    [] = plan(Port, process_exit, demonitor),
                    exit(Pid, kill),
                    {Port, process_exit, Pid, _} = next(),
                    {Port, demonitored, 0} = next()
                end
             || Pid <- Pids
            ],
            true = port_close(Port),
            normal = stopped_with(Port)
        end
     || _ <- lists:seq(1, 10)
    ],
    "alive".

%%% Panics

panic_in_each_callback(_Config) ->
    Lines = in_vm(vm_panic_in_each_callback, []),
    Callbacks = ["output", "outputv", "control", "call", "ready_input", "ready_output",
        "process_exit", "timeout", "start", "stop", "stop_select"],
    %% outputv is what ERTS calls.
    Expected = Callbacks -- ["output"],
    ?assertEqual(
        Expected,
        [callback_of(Line, "a str") || "driver probe_drv: panic in " ++ _ = Line <- Lines]
    ).

vm_panic_in_each_callback() ->
    Bystander = open(),
    [
        begin
            Port = open(),
            [] = plan(Port, Callback, panic),
            Undo = provoke(Port, Callback),
            Text = atom_to_list(stopped_with(Port)),
            Name = case Callback of output -> "outputv"; _ -> atom_to_list(Callback) end,
            {Name, _} = {callback_of(Text, "a str"), Text},
            Undo(),
            "on" = control(Bystander, list, "on")
        end
     || Callback <- [output, control, call, ready_input, ready_output, process_exit, timeout]
    ],
    {'EXIT', {einval, _}} = caught(fun() -> open("probe_drv panic") end),
    %% A port that is closing has a reason already.
    Stopped = open(),
    [] = plan(Stopped, stop, panic),
    true = port_close(Stopped),
    normal = stopped_with(Stopped),
    %% stop_select has no port to fail.
    {ok, FD} = fdio:eventfd(),
    [] = plan(Bystander, stop_select, panic),
    "ok" = deselect(Bystander, FD, ?USE),
    [FD] = stopped(Bystander, 1),
    ok = fdio:close(FD),
    "on" = control(Bystander, list, "on"),
    quiet(),
    "alive".

panic_in_process_exit_among_monitors(_Config) ->
    Lines = in_vm(vm_panic_in_process_exit, []),
    %% Once each: the port that is to fail runs no more callbacks.
    ?assertEqual(30, length([L || L <- Lines, callback_of(L, "a str") =:= "process_exit"])).

vm_panic_in_process_exit() ->
    [
        begin
            Port = open(),
            Pids = monitored_processes(Port, 100),
            [] = plan(Port, process_exit, panic),
            [exit(Pid, kill) || Pid <- Pids],
            "process_exit" = callback_of(atom_to_list(stopped_with(Port)), "a str")
        end
     || _ <- lists:seq(1, 30)
    ],
    "alive".

panic_with_any_payload(_Config) ->
    Lines = in_vm(vm_panic_with_any_payload, []),
    ["driver probe_drv: panic in control: " ++ Long] = [L || L <- Lines, length(L) > 1000],
    %% The line has all of it, on one line.
    ?assertMatch({match, _}, re:run(Long, "^x{2000} y+ \\(.*deed\\.rs:\\d+\\)$")),
    ?assertEqual(5, length([L || "driver probe_drv: panic in control: " ++ _ = L <- Lines])).

vm_panic_with_any_payload() ->
    Text = binary:copy(<<"x">>, 2000),
    Reasons = [
        {panic, "a str"},
        {{panic, "a String of €"}, "a String of \\?"},
        {panic_other, "\\(no message\\)"},
        {panic_bomb, "\\(no message\\)"},
        {{panic, <<Text/binary, "\n   yyy\n">>}, "x{100,}"}
    ],
    [
        begin
            Port = open(),
            [] = plan(Port, control, Deed),
            {'EXIT', {badarg, _}} = caught(fun() -> control(Port, list, "x") end),
            Reason = atom_to_list(stopped_with(Port)),
            true = length(Reason) =< 255,
            {"control", _} = {callback_of(Reason, Message), Reason}
        end
     || {Deed, Message} <- Reasons
    ],
    "alive".

%% With the schedulers' threads, and hundreds of times: nothing piles up.
panic_without_a_port(_Config) ->
    Lines = in_vm(vm_panic_without_a_port, []),
    ?assertEqual(500, length([L || L <- Lines, callback_of(L, "a str") =:= "start"])).

vm_panic_without_a_port() ->
    [{'EXIT', {einval, _}} = caught(fun() -> open("probe_drv panic") end) || _ <- lists:seq(1, 500)],
    quiet(),
    "alive".

panic_at_load(_Config) ->
    Lines = in_vm(vm_load_fails, [{"PROBE_LOAD", "cannot load"}]),
    ?assertMatch(
        ["driver probe_drv: panic in load: cannot load (" ++ _], [L || "driver" ++ _ = L <- Lines]
    ).

refuse_at_load(_Config) ->
    Lines = in_vm(vm_load_fails, [{"PROBE_LOAD", "fail"}]),
    ?assertEqual([], [L || "driver" ++ _ = L <- Lines]).

vm_load_fails() ->
    {error, Error} = load(),
    "Driver init failed" = erl_ddll:format_error(Error),
    false = mapped(),
    "alive".

panic_at_unload(_Config) ->
    Lines = in_vm(vm_panic_at_unload, [{"PROBE_UNLOAD", "cannot unload"}]),
    ?assertMatch(
        ["driver probe_drv: panic in unload: cannot unload (" ++ _],
        [L || "driver" ++ _ = L <- Lines]
    ).

vm_panic_at_unload() ->
    ok = unload(),
    "alive".

%% What the driver catches itself is not reported, and closes nothing.
panic_caught_by_the_driver(_Config) ->
    ?assertEqual(["alive"], in_vm(vm_panic_caught, [])).

vm_panic_caught() ->
    Port = open(),
    "ok" = control(Port, catch_own_panic, []),
    "on" = control(Port, list, "on"),
    quiet(),
    true = port_close(Port),
    "alive".

%%% Memory and load

memory_is_seen(_Config) ->
    Port = open(),
    Size = 50_000_000,
    %% What else the VM does meanwhile is far less than a tenth of it.
    Before = erlang:memory(system),
    Seen = fun() -> round((erlang:memory(system) - Before) / Size * 10) end,
    [] = control(Port, allocate, <<Size:64>>),
    ?assertEqual(10, Seen()),
    [] = control(Port, allocate, <<0:64>>),
    ?assertEqual(0, Seen()),
    %% What a port holds goes with it.
    [] = control(Port, allocate, <<Size:64>>),
    ?assertEqual(10, Seen()),
    true = port_close(Port),
    ?assertEqual(0, Seen()).

%% Beyond what driver_alloc aligns by itself; grown by reallocation.
memory_is_aligned(_Config) ->
    Port = open(),
    [
        ?assertEqual("true", control(Port, aligned, <<Count:64>>))
     || Count <- [0, 1, 2, 3, 1000, 10_000]
    ].

reload(_Config) ->
    in_vm(vm_reload, []).

%% Loaded anew each time, with all that could pin the library or stay behind.
vm_reload() ->
    ok = unload(),
    Round = fun(_) ->
        ok = load(),
        Port = open(),
        1 = opened(Port),
        Panicking = open(),
        2 = opened(Port),
        "ok" = control(Port, catch_own_panic, []),
        [] = control(Port, allocate, <<1_000_000:64>>),
        "true" = control(Port, aligned, <<100:64>>),
        "ok" = control(Port, term, "large_map"),
        #{} = next(),
        [] = plan(Panicking, control, {panic, binary:copy(<<"x">>, 10_000)}),
        {'EXIT', {badarg, _}} = caught(fun() -> control(Panicking, list, "x") end),
        _ = stopped_with(Panicking),
        [{'EXIT', {einval, _}} = caught(fun() -> open("probe_drv panic") end) || _ <- lists:seq(1, 4)],
        {ok, FD} = fdio:eventfd(),
        "ok" = select(Port, FD, ?READ bor ?USE),
        "ok" = deselect(Port, FD, ?USE),
        [FD] = stopped(Port, 1),
        ok = fdio:close(FD),
        "ok" = control(Port, timer, <<>>),
        [] = plan(Port, stop, outlive),
        true = port_close(Port),
        normal = stopped_with(Port),
        ok = unload()
    end,
    lists:foreach(Round, lists:seq(1, 10)),
    Before = erlang:memory(system),
    lists:foreach(Round, lists:seq(1, 100)),
    Grown = erlang:memory(system) - Before,
    {true, _} = {Grown < 500_000, Grown},
    "alive".

many_ports_at_once(_Config) ->
    Lines = in_vm(vm_many_ports, []),
    Panics = [L || "driver probe_drv: panic in " ++ _ = L <- Lines],
    %% One line each, whole.
    ?assertEqual(50 * 10, length(Panics)),
    ?assertEqual(["control"], lists:usort([callback_of(L, "a str") || L <- Panics])).

%% Each process opens ports, works with them, has them panic.
vm_many_ports() ->
    Work = fun() ->
        process_flag(trap_exit, true),
        [
            begin
                Port = open(),
                echo(Port, 50),
                "0" = control(Port, monitor, []),
                "ok" = set_timer(Port, 0),
                {Port, timeout, 1} = next(),
                [] = plan(Port, control, panic),
                {'EXIT', {badarg, _}} = caught(fun() -> control(Port, list, "x") end),
                _ = stopped_with(Port)
            end
         || _ <- lists:seq(1, 10)
        ]
    end,
    ok = in_parallel(50, Work),
    "alive".

%% Those that find the port at work are queued, and answered from elsewhere.
many_processes_on_one_port(_Config) ->
    Port = open(),
    ok = in_parallel(50, fun() -> echo(Port, 300) end),
    ?assertEqual("on", control(Port, list, "on")).

echo(Port, Times) ->
    [
        begin
            Data = rand:bytes(rand:uniform(200)),
            Data = control(Port, binary, Data),
            true = binary_to_list(Data) =:= control(Port, list, Data),
            Data = control(Port, bytewise, Data),
            {self, N, Data} = erlang:port_call(Port, 1, {self, N, Data})
        end
     || N <- lists:seq(1, Times)
    ].

%%% What a callback takes to be called

%% Returns what undoes it.
provoke(Port, output) ->
    true = port_command(Port, "x"),
    fun nothing/0;
provoke(Port, control) ->
    _ = caught(fun() -> control(Port, list, "x") end),
    fun nothing/0;
provoke(Port, call) ->
    _ = caught(fun() -> erlang:port_call(Port, 1, x) end),
    fun nothing/0;
provoke(Port, ready_input) ->
    {ok, {Reader, Writer}} = fdio:pipe(),
    {ok, 1} = fdio:write(Writer, <<"x">>),
    "ok" = select(Port, Reader, ?READ),
    fun() -> [ok = fdio:close(FD) || FD <- [Reader, Writer]] end;
provoke(Port, ready_output) ->
    {ok, FD} = fdio:eventfd(),
    "ok" = select(Port, FD, ?WRITE),
    fun() -> ok = fdio:close(FD) end;
provoke(Port, process_exit) ->
    _ = spawn(fun() -> control(Port, monitor, []) end),
    fun nothing/0;
provoke(Port, timeout) ->
    "ok" = set_timer(Port, 0),
    fun nothing/0.

nothing() ->
    ok.

%% The message after those that tell of the callback itself.
next_from(Port, Callback) ->
    case next() of
        {Port, What, _} when What =:= Callback; What =:= output -> next_from(Port, Callback);
        {Port, What, _, _} when What =:= Callback; What =:= outputv -> next_from(Port, Callback);
        Message -> Message
    end.

%% What to fail with, and the reason that it gives.
deeds() ->
    [{eof, normal}, {{posix, ?ENOENT}, enoent}, {{atom, "some reason"}, 'some reason'}].

plan(Port, Callback, Deed) ->
    control(Port, plan, [maps:get(Callback, ?CALLBACKS), deed(Deed)]).

deed(eof) -> <<1>>;
deed({posix, Errno}) -> <<2, Errno:32>>;
deed({atom, Reason}) -> [3, Reason];
deed(panic) -> <<4>>;
deed({panic, Message}) -> [5, unicode:characters_to_binary(Message)];
deed(panic_other) -> <<6>>;
deed(panic_bomb) -> <<7>>;
deed(demonitor) -> <<8>>;
deed(outlive) -> <<9>>.

%% The callback that a line or a reason names; it must have the rest as well.
callback_of(Text, Message) ->
    Pattern = ["^driver probe_drv: panic in (\\w+): ", Message, " ?y* ?\\(.*deed\\.rs:\\d+\\)$"],
    case re:run(Text, Pattern, [{capture, all_but_first, list}]) of
        {match, [Callback]} -> Callback;
        nomatch -> {no_panic, Text}
    end.

monitored_processes(Port, Count) ->
    Self = self(),
    Pids = [
        spawn(fun() ->
            _ = control(Port, monitor, []),
            Self ! {monitored, self()},
            receive after infinity -> ok end
        end)
     || _ <- lists:seq(1, Count)
    ],
    [receive {monitored, Pid} -> ok end || Pid <- Pids],
    Pids.

%% The reason, once stop has run. Both are told in no particular order.
stopped_with(Port) ->
    receive {Port, stop} -> ok end,
    receive {'EXIT', Port, Reason} -> ok end,
    flush(Port),
    Reason.

%% What callbacks told before.
flush(Port) ->
    receive
        Message when element(1, Message) =:= Port -> flush(Port)
    after 0 -> ok
    end.

%%% The driver

directory(Config) ->
    %% _build/suites/probe_SUITE_data, which does not exist.
    Path = filename:split(filename:absname(?config(data_dir, Config))),
    Root = lists:sublist(Path, length(Path) - 3),
    filename:join(Root ++ ["test", "probe_drv", "priv"]).

load() ->
    erl_ddll:load(os:getenv("PROBE_DIR"), ?DRIVER).

%% Returns when the library is gone: the last port is freed a little later than
%% it is closed.
unload() ->
    _ = erl_ddll:unload(?DRIVER),
    wait_until(fun() -> not lists:member(?DRIVER, loaded()) end),
    false = mapped(),
    ok.

loaded() ->
    {ok, Names} = erl_ddll:loaded_drivers(),
    Names.

%% Where there is no /proc, dlclose is believed.
mapped() ->
    case file:read_file("/proc/self/maps") of
        {ok, Maps} -> binary:match(Maps, <<"probe_drv.so">>) =/= nomatch;
        {error, enoent} -> false
    end.

open() ->
    open("probe_drv").

open(Command) ->
    open(Command, []).

open(Command, Options) ->
    open_port({spawn_driver, Command}, Options).

control(Port, Command, Data) ->
    erlang:port_control(Port, maps:get(Command, ?COMMANDS), Data).

select(Port, FD, Modes) ->
    control(Port, select, <<FD:32, Modes>>).

deselect(Port, FD, Modes) ->
    control(Port, deselect, <<FD:32, Modes>>).

set_timer(Port, Microseconds) ->
    control(Port, timer, <<Microseconds:64>>).

opened(Port) ->
    binary:decode_unsigned(list_to_binary(control(Port, opened, []))).

%% So many fds that stop_select was called with. It may be called later.
stopped(Port, Count) ->
    case [FD || <<FD:32>> <= list_to_binary(control(Port, stopped, []))] of
        FDs when length(FDs) >= Count -> FDs;
        FDs -> timer:sleep(1), FDs ++ stopped(Port, Count - length(FDs))
    end.

min_word() ->
    -(1 bsl (8 * erlang:system_info(wordsize) - 1)).

%%% Tools

next() ->
    receive Message -> Message end.

next_but_down() ->
    receive Message when element(1, Message) =/= 'DOWN' -> Message end.

%% What the function returns, or the error that it raises.
caught(Fun) ->
    try
        Fun()
    catch
        error:Reason:Stack -> {'EXIT', {Reason, Stack}}
    end.

quiet() ->
    receive Message -> error({unexpected, Message}) after ?SILENCE_MS -> ok end.

wait_until(Holds) ->
    case Holds() of
        true -> ok;
        false -> timer:sleep(1), wait_until(Holds)
    end.

in_parallel(Count, Work) ->
    Running = [spawn_monitor(Work) || _ <- lists:seq(1, Count)],
    [receive {'DOWN', Ref, process, Pid, Reason} -> normal = Reason end || {Pid, Ref} <- Running],
    ok.

%% Runs a function of this module in a VM of its own (vm/1). It must return
%% "alive", and the VM end with status 0. Returns the lines written.
in_vm(Function, Environment) ->
    Paths = lists:append([["-pa", Path] || Path <- code:get_path(), filelib:is_dir(Path)]),
    VM = open_port({spawn_executable, filename:join([code:root_dir(), "bin", "erl"])}, [
        {args, ["-noinput"] ++ Paths ++ ["-run", ?MODULE_STRING, "vm", atom_to_list(Function)]},
        {env, Environment},
        {line, 100_000},
        exit_status,
        stderr_to_stdout
    ]),
    {Lines, Status} = lines(VM, []),
    ct:log("~s: status ~p~n~ts", [Function, Status, lists:join("\n", Lines)]),
    ?assertEqual({0, ["alive"]}, {Status, [L || L <- Lines, L =:= "alive"]}),
    Lines.

%% In the other VM: the driver is loaded, unless it is not to be.
vm([Function]) ->
    process_flag(trap_exit, true),
    %% Gone before the suite's time trap: nothing else would end it.
    _ = timer:apply_after(?VM_SECONDS * 1000, erlang, halt, [3]),
    _ = [ok = load() || os:getenv("PROBE_LOAD") =:= false],
    try ?MODULE:(list_to_existing_atom(Function))() of
        Result ->
            io:format("~s~n", [Result]),
            halt(0)
    catch
        Class:Reason:Stack ->
            io:format("~p~n", [{Class, Reason, Stack}]),
            halt(1)
    end.

lines(VM, Lines) ->
    receive
        {VM, {data, {_, Line}}} -> lines(VM, [Line | Lines]);
        {VM, {exit_status, Status}} -> {lists:reverse(Lines), Status}
    end.
