%% SPDX-License-Identifier: Apache-2.0
%%
%% What the Common Test suites of inert share: a group per pollset, fds in known
%% states, processes known to be blocked, and the look around after each case, which
%% finds ports, fds, processes, messages and log events that the case left behind.
%%
%% It knows the public API and fdio, and nothing of the driver.
-module(inert_test).

%% Groups and callbacks of suites
-export([pollsets/0]).
-export([per_pollset/1]).
-export([groups_per_pollset/1]).
-export([own_pollset/1]).
-export([suite/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/1]).
-export([end_per_testcase/1]).
-export([options/1]).
-export([open/1]).

%% Fds
-export([pair/0]).
-export([full_pair/0]).
-export([fill/1]).
-export([copies/2]).
-export([drain/1]).
-export([make_readable/1]).
-export([make_writable/1]).
-export([closed_fd/0]).
-export([close/1]).
-export([with/2]).
-export([room_for_fds/1]).

%% Processes
-export([run/1]).
-export([blocked/1]).
-export([blocked_all/1]).
-export([result/1]).
-export([results/1]).
-export([kill/1]).
-export([quiet_barrier/1]).
-export([no_message/0]).
-export([until/1]).
-export([message_of/1]).

%% Errors
-export([badarg_position/1]).

%% The VM
-export([fds/0]).
-export([inert_ports/0]).
-export([driver_loaded/0]).
-export([is_quiet/0]).
-export([logged/0]).
-export([erl/2]).
-export([start_peer/1]).

%% On a peer, and in a VM of its own
-export([end_vm/1]).
-export([ready_after_renaming/0]).
-export([times_out_after_renaming/0]).

%% The logger's filter
-export([log/2]).

-include_lib("stdlib/include/assert.hrl").

-define(LOG, inert_test_log).
-define(DRIVER, "inert_drv").

%% Within the VM these take microseconds. The time trap of the suite is what ends
%% a wait that is in vain; this is for questions whose answer "no" must be reported.
-define(PATIENCE_MS, 10_000).

%%% Groups and callbacks of suites

%% Every behavioural case runs on each of these.
pollsets() ->
    [epoll, erts].

%% For all/0.
per_pollset(_Topics) ->
    [{group, Pollset} || Pollset <- pollsets()].

%% For groups/0: Topics is [{Name, Cases}].
groups_per_pollset(Topics) ->
    [{Pollset, [], [{group, Name} || {Name, _} <- Topics]} || Pollset <- pollsets()] ++
        [{Name, [], Cases} || {Name, Cases} <- Topics].

%% Whether ERTS never sees the fds that are polled.
own_pollset(Config) ->
    proplists:get_value(pollset, Config) =/= erts.

%% A case takes seconds at most, on a machine that has nothing else to do. What takes
%% this long waits in vain.
suite() ->
    [{timetrap, {seconds, 120}}].

init_per_suite(Config) ->
    %% What is loaded by a case would look like its doing.
    Modules = [inert, prim_inert, inert_drv, inert_server, fdio, peer, inet, gen_tcp, socket, prim_socket],
    _ = code:ensure_modules_loaded(Modules),
    _ = fdio:max_fds(),
    Caller = self(),
    Keeper = spawn(fun() ->
        register(?LOG, self()),
        Caller ! {self(), started},
        keep_log([])
    end),
    receive
        {Keeper, started} -> ok
    end,
    ok = logger:add_primary_filter(?MODULE, {fun ?MODULE:log/2, []}),
    Config.

end_per_suite(Config) ->
    ok = logger:remove_primary_filter(?MODULE),
    exit(whereis(?LOG), kill),
    Config.

init_per_group(Group, Config) ->
    case lists:member(Group, pollsets()) of
        true ->
            %% What inert:start/0 starts.
            ok = application:set_env(inert, pollset, Group),
            [{pollset, Group} | Config];
        false ->
            Config
    end.

end_per_group(Group, _Config) ->
    case lists:member(Group, pollsets()) of
        true -> application:unset_env(inert, pollset);
        false -> ok
    end.

options(Config) ->
    [{pollset, Pollset} || {pollset, Pollset} <- Config].

%% A port of the group's pollset, owned by the caller.
open(Config) ->
    {ok, Port} = prim_inert:start(options(Config)),
    Port.

init_per_testcase(Config) ->
    _ = logged(),
    [{before, world()} | Config].

%% What a suite's end_per_testcase/2 returns. A case that has failed leaves things, and
%% what it failed of is what should be reported.
end_per_testcase(Config) ->
    case proplists:get_value(tc_status, Config) of
        ok -> look_around(proplists:get_value(before, Config));
        _Failed -> ok
    end.

look_around(Before) ->
    case {settled(Before), logged(), messages()} of
        {[], [], []} ->
            ok;
        {Left, Logged, Messages} ->
            {fail, {left_behind, Left, {logged, Logged}, {messages, Messages}}}
    end.

world() ->
    #{
        ports => lists:sort(erlang:ports()),
        fds => fds(),
        processes => lists:sort(processes()),
        driver => driver_loaded()
    }.

%% Exits and closings take their time: what matters is what stays.
settled(Before) ->
    settled(Before, erlang:monotonic_time(millisecond) + ?PATIENCE_MS).

settled(Before, Deadline) ->
    Now = world(),
    case left_over(Before, Now) of
        [] ->
            [];
        Left ->
            case erlang:monotonic_time(millisecond) > Deadline of
                true ->
                    Left;
                false ->
                    pause(),
                    settled(Before, Deadline)
            end
    end.

left_over(#{driver := Driver} = Before, #{driver := DriverNow} = Now) ->
    lists:append([
        [{port, Port, erlang:port_info(Port)} || Port <- new(ports, Before, Now)],
        [{fd, FD} || FD <- new(fds, Before, Now)],
        [{closed, FD} || FD <- new(fds, Now, Before)],
        [{process, Pid, Info} || Pid <- new(processes, Before, Now), Info <- ours(Pid)],
        [{driver_loaded, DriverNow} || DriverNow =/= Driver]
    ]).

new(Key, Before, Now) ->
    maps:get(Key, Now) -- maps:get(Key, Before).

%% Common Test and the logger have processes that come and go.
ours(Pid) ->
    case process_info(Pid, [initial_call, dictionary, current_stacktrace, message_queue_len]) of
        undefined ->
            [];
        [{initial_call, {Module, _, _}}, {dictionary, Dictionary} | _] = Info ->
            {Initial, _, _} = proplists:get_value('$initial_call', Dictionary, {Module, none, 0}),
            [
                Info
             || not lists:prefix("test_server", atom_to_list(Initial)),
                not lists:prefix("ct", atom_to_list(Initial)),
                not lists:prefix("logger", atom_to_list(Initial))
            ]
    end.

messages() ->
    receive
        Message -> [Message | messages()]
    after 0 -> []
    end.

pause() ->
    receive
    after 2 -> ok
    end.

%%% Fds

%% Two connected sockets: writable, not readable.
pair() ->
    {ok, Pair} = fdio:socketpair(),
    Pair.

%% Two connected sockets: the first is neither readable nor writable until the other
%% writes or reads.
full_pair() ->
    {A, B} = pair(),
    fill(A),
    {A, B}.

fill(FD) ->
    case fdio:write(FD, <<0:(4096 * 8)>>) of
        {ok, _} -> fill(FD);
        {error, eagain} -> ok
    end.

%% The same file under so many more numbers.
-spec copies(fdio:fd(), non_neg_integer()) -> [fdio:fd()].
copies(FD, Count) ->
    [
        begin
            {ok, Copy} = fdio:dup(FD),
            Copy
        end
     || _ <- lists:seq(1, Count)
    ].

drain(FD) ->
    case fdio:read(FD, 65536) of
        {ok, Data} when Data =/= <<>> -> drain(FD);
        _EmptyOrEnded -> ok
    end.

%% The other end does what makes a full_pair/0's first end ready.
make_readable(B) ->
    {ok, 1} = fdio:write(B, <<"x">>),
    ok.

make_writable(B) ->
    drain(B).

%% A number that was open a moment ago. Far above those that the VM takes next.
closed_fd() ->
    {ok, FD} = fdio:eventfd(),
    High = fdio:max_fds() - 1,
    ok = fdio:dup2(FD, High),
    ok = fdio:close(FD),
    ok = fdio:close(High),
    High.

close(FDs) when is_list(FDs) ->
    lists:foreach(fun close/1, FDs);
close({A, B}) ->
    close([A, B]);
close(FD) ->
    ok = fdio:close(FD).

%% Runs Fun with fds that are closed afterwards.
with(FDs, Fun) ->
    try
        Fun(FDs)
    after
        close(FDs)
    end.

%% How many more fds this VM may have, of those wanted.
room_for_fds(Wanted) ->
    Reserve = 200,
    case fdio:max_fds() of
        infinity -> Wanted;
        Max -> min(Wanted, Max - length(fds()) - Reserve)
    end.

%%% Processes

%% Runs Fun in a process of its own, linked to the caller so that it does not outlive
%% the case; result/1 gives what it returned.
run(Fun) ->
    Caller = self(),
    spawn_link(fun() -> Caller ! {self(), Fun()} end).

%% The process is blocked in a poll, or will be in a moment.
blocked(Pid) ->
    blocked(Pid, erlang:monotonic_time(millisecond) + ?PATIENCE_MS).

blocked(Pid, Deadline) ->
    case process_info(Pid, [status, current_function]) of
        [{status, waiting}, {current_function, {prim_inert, _, _}}] ->
            Pid;
        undefined ->
            error({not_blocked, Pid});
        NotYet ->
            erlang:monotonic_time(millisecond) < Deadline orelse error({not_blocked, Pid, NotYet}),
            pause(),
            blocked(Pid, Deadline)
    end.

blocked_all(Pids) ->
    lists:map(fun blocked/1, Pids).

%% What a process of run/1 returned.
result(Pid) ->
    receive
        {Pid, Result} -> Result
    end.

results(Pids) ->
    lists:map(fun result/1, Pids).

%% Kills a process of run/1 and waits for its end.
kill(Pid) ->
    unlink(Pid),
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

%% Returns when what was ready before on fds of this port must have been told: an
%% event that came later has. Twice, since the kernel's order is not promised.
quiet_barrier(Port) ->
    Id = case Port of inert -> inert:pollid(); _ -> Port end,
    lists:foreach(
        fun(_) ->
            {ok, FD} = fdio:eventfd(),
            ok = prim_inert:fdset(Port, FD, read),
            {ok, 8} = fdio:write(FD, <<1:64/native>>),
            receive
                {inert_read, Id, FD} -> ok
            end,
            ok = fdio:close(FD)
        end,
        [1, 2]
    ).

%% What has been sent to the caller is here by now; there is nothing.
no_message() ->
    ?assertEqual([], messages()).

message_of(Port) ->
    receive
        {Tag, Port, FD} when Tag =:= inert_read; Tag =:= inert_write -> {Tag, FD}
    end.

%% Waits for a condition that nobody announces, under the suite's time trap.
until(Fun) ->
    case Fun() of
        true ->
            ok;
        false ->
            pause(),
            until(Fun)
    end.

%%% Errors

%% Which arguments a badarg exception names, as the shell would show them, or what
%% happened instead.
badarg_position(Fun) ->
    try Fun() of
        Result -> {returned, Result}
    catch
        error:badarg:Stack ->
            [{_, _, _, Info} | _] = Stack,
            #{module := Module} = proplists:get_value(error_info, Info),
            Positions = lists:sort(maps:keys(Module:format_error(badarg, Stack))),
            Text = lists:flatten(erl_error:format_exception(error, badarg, Stack)),
            [
                ?assertNotEqual(nomatch, string:find(Text, "argument " ++ integer_to_list(P)))
             || P <- Positions
            ],
            Positions;
        Class:Reason ->
            {raised, Class, Reason}
    end.

%%% The VM

%% The VM's open fds.
fds() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    lists:sort([FD || Name <- Names, FD <- [list_to_integer(Name)], fdio:is_open(FD)]).

inert_ports() ->
    [Port || Port <- erlang:ports(), is_inert(erlang:port_info(Port, name))].

%% The name is the command that opened it.
is_inert({name, Name}) -> lists:prefix(?DRIVER, Name);
is_inert(undefined) -> false.

driver_loaded() ->
    {ok, Drivers} = erl_ddll:loaded_drivers(),
    lists:member(?DRIVER, Drivers).

%% Whether the VM spends no more than a small part of a core over a moment. A thread
%% that spins takes all of one for as long as one looks.
is_quiet() ->
    Ticks = cpu_ticks(),
    receive
    after 200 -> ok
    end,
    %% 20 ticks of 10 ms would be all of one core.
    cpu_ticks() - Ticks < 8.

%% Of all threads: utime and stime of proc(5).
cpu_ticks() ->
    {ok, Stat} = file:read_file("/proc/self/stat"),
    [_, AfterName] = string:split(Stat, ") ", trailing),
    Fields = string:lexemes(AfterName, " "),
    binary_to_integer(lists:nth(12, Fields)) + binary_to_integer(lists:nth(13, Fields)).

%% What has been logged at warning or above since the last call. The VM's own reports
%% come through a process, which is asked to pass one of ours behind them.
logged() ->
    Marker = make_ref(),
    Meta = #{pid => self(), gl => whereis(init), time => logger:timestamp(), marker => {self(), Marker}},
    erlang:system_info(system_logger) ! {log, error, "~p", [Marker], Meta},
    receive
        {?LOG, Marker, Events} -> Events
    end.

%% A filter that notes events and lets them pass, but for the marker.
log(#{meta := #{marker := {Pid, Marker}}}, _) ->
    ?LOG ! {take, Pid, Marker},
    stop;
log(#{level := Level, msg := Message}, _) ->
    case logger:compare_levels(Level, warning) of
        lt -> ok;
        _ -> ?LOG ! {event, {Level, Message}}
    end,
    ignore.

keep_log(Events) ->
    receive
        {event, Event} ->
            keep_log([Event | Events]);
        {take, Pid, Marker} ->
            Pid ! {?LOG, Marker, lists:reverse(Events)},
            keep_log([])
    end.

%% Runs an Erlang VM of its own that calls Module:Function with the arguments as one list
%% of strings. Returns its exit status and all of its output, or where its crash dump is.
erl(Directory, {Module, Function, Arguments}) ->
    ok = filelib:ensure_dir(filename:join(Directory, "x")),
    Dump = filename:join(Directory, "erl_crash.dump"),
    Port = open_port({spawn_executable, os:find_executable("erl")}, [
        {args, ["-noinput", "-pa", filename:dirname(code:which(?MODULE)), "-run", atom_to_list(Module), atom_to_list(Function)
                | [atom_to_list(A) || A <- Arguments]]},
        {cd, Directory},
        {env, [{"ERL_CRASH_DUMP", Dump}]},
        exit_status,
        stderr_to_stdout,
        binary,
        hide
    ]),
    {Status, Output} = collect(Port, []),
    case filelib:is_file(Dump) of
        false -> {Status, Output};
        true -> {Status, {crash_dump, Dump, Output}}
    end.

collect(Port, Output) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Output, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Output)}
    end.

%% A node that is not distributed, with inert, fdio and the suites in reach.
start_peer(Arguments) ->
    {ok, Peer, _} = peer:start(#{
        connection => standard_io,
        args => ["-pa", filename:dirname(code:which(?MODULE)) | Arguments]
    }),
    Peer.

%%% On a peer, and in a VM of its own

%% Ends the VM while all there is to wait for is waited for.
end_vm([Pollset, "application"]) ->
    ok = application:load(inert),
    ok = application:set_env(inert, pollset, list_to_atom(Pollset)),
    {ok, _} = application:ensure_all_started(inert),
    end_vm([Pollset, "orderly"]);
end_vm([Pollset, How]) ->
    Options = [{pollset, list_to_atom(Pollset)}],
    ok = inert:start(Options),
    {ok, Second} = prim_inert:start(Options),
    Pairs = [full_pair() || _ <- lists:seq(1, 50)],
    [ok = prim_inert:fdset(Port, A, read) || {A, _} <- Pairs, Port <- [inert, Second]],
    _ = blocked_all([
        spawn(fun() -> prim_inert:poll(Port, A, write) end)
     || {A, _} <- Pairs, Port <- [inert, Second]
    ]),
    case How of
        "orderly" -> init:stop();
        "halt" -> halt();
        "halt_without_flushing" -> halt(0, [{flush, false}]);
        "amid" -> end_amid(Pairs, Second)
    end.

%% Every scheduler is in the driver, and its fds become ready by the thousand.
end_amid(Pairs, Port) ->
    Main = self(),
    _ = [
        spawn(fun() ->
            Main ! ready,
            toil(Pairs, Port)
        end)
     || _ <- lists:seq(1, 8)
    ],
    [
        receive
            ready -> ok
        end
     || _ <- lists:seq(1, 8)
    ],
    halt().

toil(Pairs, Port) ->
    [
        begin
            _ = prim_inert:fdset(Port, B, read_write),
            _ = inert:fdset(B, read),
            _ = fdio:write(B, <<"x">>),
            drain(A),
            _ = inert:poll(A, read_write, 0),
            _ = prim_inert:fdclr(Port, B)
        end
     || {A, B} <- Pairs
    ],
    toil(Pairs, Port).

%% Polls that were blocked before the node got its name, and what they left. With a
%% long mailbox a poll's message carries a reference, which a renamed node no longer
%% takes for its own.
ready_after_renaming() ->
    ok = inert:start(),
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    Pollers = [
        blocked(run(fun() -> Mailbox(fun() -> inert:poll(FD, Mode, Timeout) end) end))
     || {FD, Mode, Timeout, Mailbox} <- [
            {A, read, infinity, fun short_mailbox/1},
            {C, read, infinity, fun long_mailbox/1},
            {A, write, 1 bsl 40, fun long_mailbox/1}
        ]
    ],
    ok = rename(),
    make_readable(B),
    make_readable(D),
    make_writable(B),
    Results = results(Pollers),
    close([A, B, C, D]),
    Results.

times_out_after_renaming() ->
    ok = inert:start(),
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    %% Below and above the time after which a poll looks whether this happened.
    Pollers = [
        blocked(run(fun() -> Mailbox(fun() -> inert:poll(FD, Mode, Timeout) end) end))
     || {FD, Mode, Timeout, Mailbox} <- [
            {A, read, 1000, fun short_mailbox/1},
            {A, write, 5500, fun short_mailbox/1},
            {C, read, 1000, fun long_mailbox/1},
            {C, write, 5500, fun long_mailbox/1}
        ]
    ],
    ok = rename(),
    Results = results(Pollers),
    %% Nothing of them is left: the kinds are free.
    ok = inert:fdset(A, read_write),
    ok = inert:fdset(C, read_write),
    close([A, B, C, D]),
    Results.

short_mailbox(Poll) ->
    {Poll(), messages()}.

%% With what is left in the mailbox beside what was there.
long_mailbox(Poll) ->
    There = [{unasked, N} || N <- lists:seq(1, 100)],
    [self() ! Message || Message <- There],
    Result = Poll(),
    {Result, messages() -- There}.

%% Makes this a distributed node. It listens nowhere, so it needs no epmd.
rename() ->
    nonode@nohost = node(),
    Name = list_to_atom("inert_test_" ++ os:getpid()),
    {ok, _} = net_kernel:start(Name, #{name_domain => shortnames, dist_listen => false}),
    true = is_alive(),
    false = node() =:= nonode@nohost,
    ok.
