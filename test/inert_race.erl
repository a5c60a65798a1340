%% SPDX-License-Identifier: Apache-2.0
%%
%% Programs that run at the same time: workers who wait, each on a fd of its own,
%% where every step's outcome is known, and all on fds that are closed, reused,
%% duplicated, filled and drained meanwhile, on a service that is stopped and started,
%% where only what holds whatever the order can be asked:
%%
%% - whose fd is made ready is told, once, and at once;
%% - a poll returns what it may return, and leaves nothing;
%% - nobody is told more often than it asked to be;
%% - at the end nothing is armed, nobody waits, and the same numbers work.
%%
%% A program is a list of {Actor, Operation}: each actor does its own in this order.
-module(inert_race).

-export([run/2]).
-export([workers/0]).
-export([shared/0]).

-export_type([step/0]).

-type worker() :: 1..3.
-type shared() :: 1..3.
-type delay() :: non_neg_integer().
%% So many yields.
-type mode() :: read | write | read_write.
-type operation() ::
    %% On the worker's own fd, which somebody makes ready after the delay.
    {poll, stable | service, read | write, timeout(), delay()}
    | {fdset, mode(), delay()}
    | {fdset_fdclr, mode(), delay(), delay()}
    | {fdset_poll, mode(), delay()}
    | {many, timeout(), delay()}
    %% Somebody else waits there first, and is killed.
    | {killed, poll | fdset, delay(), delay()}
    %% On fds that everybody uses.
    | {shared, fdset | fdclr, shared(), mode()}
    | {shared, poll, shared(), mode(), timeout()}
    | {shared, poll_all | fdset_all | fdclr_all, [{shared(), mode()}], timeout()}
    | stop
    | start.
-type deed() ::
    {feed | drain | fill | empty | hang | close, shared()}
    | {open, shared(), inert_model:file()}
    | {dup, shared(), shared()}
    | give.
-type step() :: {worker(), operation()} | {world, deed()}.

-define(PRIVATE, 1100).
-define(SHARED, 1200).

%% What takes this long is lost. It takes milliseconds, but on a machine with more to do than
%% it can, the VM has been seen waiting for a core for seconds.
-define(TRAP_MS, 30_000).
%% A program takes milliseconds, too. Longer than several traps one after the other.
-define(RUN_MS, 150_000).
%% How often it is looked how long the VM did not run, which is said of a failure.
-define(PULSE_MS, 20).

-spec workers() -> [worker()].
workers() -> [1, 2, 3].

-spec shared() -> [shared()].
shared() -> [1, 2, 3].

-spec run(epoll | erts, [step()]) -> {ok, #{atom() => non_neg_integer()}} | {failed, term()}.
run(Pollset, Program) ->
    Self = self(),
    Pulse = spawn(fun() -> pulse(Self, monitor(process, Self), 0) end),
    {Pid, Monitor} = spawn_monitor(fun() -> exit({result, program(Self, Pollset, Program)}) end),
    Result =
        receive
            {'DOWN', Monitor, process, Pid, {result, Counts}} -> {ok, Counts};
            {'DOWN', Monitor, process, Pid, Reason} -> {failed, Reason}
        after ?RUN_MS ->
            {dictionary, Dictionary} = process_info(Pid, dictionary),
            Who = [{P, process_info(P, [current_stacktrace, messages])} || {actor, Ps} <- Dictionary, P <- Ps, is_process_alive(P)],
            exit(Pid, kill),
            {failed, {hung, Who}}
        end,
    Pause = ask_all(Pulse, longest),
    Actors =
        receive
            {actors, Pid, Pids} -> Pids
        after 0 -> []
        end,
    %% Of a program that failed.
    [gone(Actor) || element(1, Result) =:= failed, Actor <- Actors],
    ok = inert:stop(),
    [fdio:close(FD) || element(1, Result) =:= failed, FD <- [private(I) || I <- workers()] ++ [shared(N) || N <- shared()]],
    case Result of
        {ok, _} -> Result;
        {failed, Why} -> {failed, {Why, {longest_pause_ms, Pause}}}
    end.

%% Before its fds are closed: it would complain, and the next program would have failed of that.
gone(Pid) ->
    Monitor = monitor(process, Pid),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

pulse(Runner, Monitor, Longest) ->
    Then = erlang:monotonic_time(millisecond),
    receive
        longest -> Runner ! {self(), Longest};
        {'DOWN', Monitor, process, Runner, _} -> ok
    after ?PULSE_MS ->
        pulse(Runner, Monitor, max(Longest, erlang:monotonic_time(millisecond) - Then - ?PULSE_MS))
    end.

private(I) -> ?PRIVATE + I.

shared(N) -> ?SHARED + N.

%% Everything is linked to this process, and goes with it.
program(Starter, Pollset, Program) ->
    Keepers = [K, _] = [spawn_link(fun keep/0) || _ <- [1, 2]],
    {ok, Stable} = ask(K, fun() -> prim_inert:start([{pollset, Pollset}]) end),
    ok = inert:start([{pollset, Pollset}]),
    Self = self(),
    World = spawn_link(fun() -> world(Self, Stable, Keepers) end),
    Workers = [spawn_link(fun() -> worker(Self, I, Pollset, Stable) end) || I <- workers()],
    put(actor, [World | Workers]),
    Starter ! {actors, self(), [World | Workers]},
    Actors = [{world, World} | lists:zip(workers(), Workers)],
    [ready = from(Pid) || {_, Pid} <- Actors],
    [Pid ! {program, [Operation || {Who, Operation} <- Program, Who =:= Actor]} || {Actor, Pid} <- Actors],
    Counts = [from(Pid) || {_, Pid} <- Actors],

    %% All is quiet now but for polls of fds that everybody uses.
    ok = inert:start([{pollset, Pollset}]),
    [_ = inert:fdclr(shared(N)) || N <- shared()],
    Pollers = [ask_all(Pid, pollers) || Pid <- Workers],
    [no_violation(poller, allowed_in_the_crowd(Result)) || Results <- Pollers, Result <- Results],
    aside(fun() -> inert_test:quiet_barrier(inert), inert_test:quiet_barrier(Stable) end),

    %% The numbers that everybody has used still work, for everybody.
    ask_all(World, renew),
    0 = armed(inert),
    0 = armed(Stable),
    Places = lists:zip(workers() ++ workers(), [{N, Kind} || Kind <- [read, write], N <- shared()]),
    [lists:nth(I, Workers) ! {check, shared(N), Kind} || {I, {N, Kind}} <- Places],
    %% Each worker has the one that came first.
    until(fun() -> armed(inert) =:= length(Workers) end, check_not_armed),
    ask_all(World, hang_all),
    [{checked, {ok, _}} = from(lists:nth(I, Workers)) || {I, _} <- Places],

    [ask_all(Pid, mailbox) || Pid <- Workers],
    [stop_actor(Pid) || {_, Pid} <- Actors],
    [until(fun() -> is_empty(Port) end, {table_not_empty, Port}) || Port <- [inert, Stable]],
    ok = inert:stop(),
    ok = prim_inert:stop(Stable),
    [stop_actor(Pid) || Pid <- Keepers],
    lists:foldl(fun(One, All) -> maps:fold(fun add/3, All, One) end, #{}, Counts).

add(Key, N, Map) ->
    maps:update_with(Key, fun(V) -> V + N end, N, Map).

is_empty(Port) ->
    case inert_drv:info(Port) of
        {ok, #{armed := 0, processes := 0}} -> true;
        _ -> false
    end.

armed(Port) ->
    {ok, #{armed := Armed}} = inert_drv:info(Port),
    Armed.

from(Pid) ->
    receive
        {Pid, Answer} -> Answer
    end.

ask_all(Pid, Question) ->
    Pid ! Question,
    from(Pid).

stop_actor(Pid) ->
    Monitor = monitor(process, Pid),
    Pid ! finish,
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

aside(Fun) ->
    {Pid, Monitor} = spawn_monitor(Fun),
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> exit({aside, Reason})
    after ?TRAP_MS -> exit({lost, barrier})
    end.

until(Fun, What) ->
    until(Fun, What, erlang:monotonic_time(millisecond) + ?TRAP_MS).

until(Fun, What, Deadline) ->
    case Fun() of
        true ->
            ok;
        false ->
            erlang:monotonic_time(millisecond) < Deadline orelse exit({in_vain, What}),
            receive after 1 -> ok end,
            until(Fun, What, Deadline)
    end.

no_violation(_What, true) -> ok;
no_violation(What, Violation) -> exit({violation, What, Violation}).

spin(0) -> ok;
spin(N) ->
    erlang:yield(),
    spin(N - 1).

%%% Owners of the stable port

keep() ->
    receive
        {ask, From, Fun} ->
            From ! {self(), Fun()},
            keep();
        finish ->
            ok
    end.

ask(Pid, Fun) ->
    Pid ! {ask, self(), Fun},
    from(Pid).

%%% Workers

worker(Runner, I, Pollset, Port) ->
    {Full, Peer} = inert_test:full_pair(),
    FD = private(I),
    ok = fdio:dup2(Full, FD),
    ok = fdio:close(Full),
    Worker = self(),
    Feeder = spawn_link(fun() -> feed(Worker, Peer) end),
    Runner ! {self(), ready},
    Operations =
        receive
            {program, Program} -> Program
        end,
    W0 = #{fd => FD, feeder => Feeder, port => Port, pollset => Pollset, asked => #{}, pollers => [], counts => #{}},
    W = lists:foldl(fun(Operation, Acc) -> operate(Operation, count(element_1(Operation), Acc)) end, W0, Operations),
    [until(fun() -> is_over_or_blocked(Pid) end, {poller, Pid}) || {Pid, _} <- maps:get(pollers, W)],
    Runner ! {self(), maps:get(counts, W)},
    rest(Runner, W),
    stop_actor(Feeder),
    inert_test:close([FD, Peer]).

is_over_or_blocked(Pid) ->
    case process_info(Pid, [status, current_function]) of
        undefined -> true;
        [{status, waiting}, {current_function, {prim_inert, _, _}}] -> true;
        _ -> false
    end.

element_1(Operation) when is_tuple(Operation) -> element(1, Operation);
element_1(Operation) -> Operation.

count(What, #{counts := Counts} = W) ->
    W#{counts := add(What, 1, Counts)}.

%% What the runner asks for when the program is done.
rest(Runner, #{pollers := Pollers, asked := Asked} = W) ->
    receive
        pollers ->
            Runner ! {self(), [result_of(Poller) || Poller <- Pollers]},
            rest(Runner, W);
        {check, FD, Kind} ->
            Runner ! {self(), {checked, inert:poll(FD, Kind, ?TRAP_MS)}},
            rest(Runner, W);
        mailbox ->
            Told = told_in_the_crowd(#{}),
            maps:foreach(
                fun(What, N) ->
                    Asks = maps:get(What, Asked, 0),
                    N =< Asks orelse exit({violation, told_too_often, What, N, Asks})
                end,
                Told
            ),
            {messages, Left} = process_info(self(), messages),
            Left =:= [] orelse exit({violation, left_in_mailbox, Left}),
            Runner ! {self(), ok},
            rest(Runner, W);
        finish ->
            ok
    end.

result_of({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {result, Result}} -> Result;
        {'DOWN', Monitor, process, Pid, Reason} -> exit({violation, poller, Reason})
    after ?TRAP_MS -> exit({violation, poller_blocked, process_info(Pid)})
    end.

told_in_the_crowd(Told) ->
    receive
        {Tag, Port, FD} when is_port(Port), Tag =:= inert_read orelse Tag =:= inert_write, FD > ?SHARED ->
            told_in_the_crowd(add({Tag, FD}, 1, Told))
    after 0 -> Told
    end.

operate({poll, Where, Kind, Timeout, Delay}, #{fd := FD} = W) ->
    Port = where(Where, W),
    to_be(Kind, Delay, W),
    Result = prim_inert:poll(Port, FD, Kind, Timeout),
    is(Kind, W),
    Again =
        case {Result, Where} of
            {{ok, Kind}, _} -> Result;
            {{error, timeout}, _} when Timeout =/= infinity -> prim_inert:poll(Port, FD, Kind, ?TRAP_MS);
            {{error, closed}, service} -> {ok, Kind};
            _ -> exit({violation, poll, Where, Kind, Timeout, Result})
        end,
    case {Again, Where} of
        {{ok, Kind}, _} -> ok;
        {{error, closed}, service} -> ok;
        _ -> exit({violation, second_poll, Where, Kind, Timeout, Again})
    end,
    reset(W),
    count(result(Result), W);
operate({fdset, Mode, Delay}, #{fd := FD, port := Port} = W) ->
    to_be(Mode, Delay, W),
    ok = prim_inert:fdset(Port, FD, Mode),
    told(Mode, W),
    is(Mode, W),
    told_no_more(W),
    reset(W),
    count(told, W);
operate({fdset_fdclr, Mode, Delay, Delay2}, #{fd := FD, port := Port} = W) ->
    ok = prim_inert:fdset(Port, FD, Mode),
    to_be(Mode, Delay, W),
    spin(Delay2),
    ok = prim_inert:fdclr(Port, FD, Mode),
    %% What was told before is here by now.
    Told = [Kind || Kind <- kinds(Mode), told_already(Kind, W)],
    is(Mode, W),
    0 = armed_of(FD, W),
    told_no_more(W),
    reset(W),
    count(list_to_atom("cleared_after_" ++ integer_to_list(length(Told))), W);
operate({fdset_poll, Mode, Delay}, #{fd := FD, port := Port} = W) ->
    %% The poll takes the place of what fdset has armed, told or not.
    ok = prim_inert:fdset(Port, FD, Mode),
    to_be(Mode, Delay, W),
    {ok, _} = prim_inert:poll(Port, FD, Mode, ?TRAP_MS),
    _ = [Kind || Kind <- kinds(Mode), told_already(Kind, W)],
    is(Mode, W),
    told_no_more(W),
    reset(W),
    W;
operate({killed, How, Delay, Delay2}, #{fd := FD, port := Port} = W) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
        case How of
            poll ->
                prim_inert:poll(Port, FD, read);
            fdset ->
                ok = prim_inert:fdset(Port, FD, read_write),
                receive
                    never -> ok
                end
        end
    end),
    spin(Delay),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, killed} -> ok
    end,
    ok = after_death(W),
    to_be(read, Delay2, W),
    {ok, read} = prim_inert:poll(Port, FD, read, ?TRAP_MS),
    is(read, W),
    reset(W),
    W;
operate({shared, fdset, N, Mode}, #{asked := Asked} = W) ->
    case inert:fdset(shared(N), Mode) of
        ok ->
            More = fun(Kind, Acc) -> add({tag(Kind), shared(N)}, 1, Acc) end,
            W#{asked := lists:foldl(More, Asked, kinds(Mode))};
        Result ->
            no_violation(shared_fdset, allowed_in_the_crowd(Result)),
            count(result(Result), W)
    end;
operate({shared, fdclr, N, Mode}, W) ->
    case inert:fdclr(shared(N), Mode) of
        ok -> W;
        {error, ebadf} -> W;
        {error, closed} -> W;
        Result -> exit({violation, shared_fdclr, Result})
    end;
operate({shared, poll, N, Mode, infinity}, #{pollers := Pollers} = W) ->
    W#{pollers := [spawn_monitor(fun() -> exit({result, inert:poll(shared(N), Mode)}) end) | Pollers]};
operate({shared, poll, N, Mode, Timeout}, W) ->
    Result = inert:poll(shared(N), Mode, Timeout),
    no_violation(shared_poll, Result =:= {error, timeout} orelse allowed_in_the_crowd(Result)),
    count(result(Result), W);
operate({shared, poll_all, Set, infinity}, #{pollers := Pollers} = W) ->
    W#{pollers := [spawn_monitor(fun() -> exit({result, inert:poll(shared_set(Set), infinity)}) end) | Pollers]};
operate({shared, poll_all, Set, Timeout}, W) ->
    Result = inert:poll(shared_set(Set), Timeout),
    no_violation(shared_poll_all, Result =:= {error, timeout} orelse allowed_in_the_crowd(Result)),
    count(result(Result), W);
operate({shared, fdset_all, Set, _}, #{asked := Asked} = W) ->
    case inert:fdset(shared_set(Set)) of
        ok ->
            More = fun({N, Kind}, Acc) -> add({tag(Kind), shared(N)}, 1, Acc) end,
            W#{asked := lists:foldl(More, Asked, [{N, Kind} || {N, Mode} <- Set, Kind <- kinds(Mode)])};
        Result ->
            no_violation(shared_fdset_all, allowed_in_the_crowd(Result)),
            count(result(Result), W)
    end;
operate({shared, fdclr_all, Set, _}, W) ->
    case inert:fdclr(shared_set(Set)) of
        ok -> W;
        {error, closed} -> W;
        {error, {ebadf, _}} -> W;
        Result -> exit({violation, shared_fdclr_all, Result})
    end;
operate({many, Timeout, Delay}, #{fd := FD, port := Port} = W) ->
    %% The own fd among others that are never ready: the only one that can be told.
    Others = [Other || _ <- [1, 2, 3], {ok, Other} <- [fdio:eventfd()]],
    to_be(read, Delay, W),
    Set = [FD | Others],
    Result = prim_inert:poll(Port, Set, Timeout),
    is(read, W),
    Again =
        case Result of
            {error, timeout} when Timeout =/= infinity -> prim_inert:poll(Port, Set, ?TRAP_MS);
            _ -> Result
        end,
    Again =:= {ok, [{FD, read}]} orelse exit({violation, many, Result, Again}),
    ok = prim_inert:fdclr(Port, Others),
    lists:foreach(fun fdio:close/1, Others),
    reset(W),
    count(result(Result), W);
operate(stop, W) ->
    ok = inert:stop(),
    W;
operate(start, #{pollset := Pollset} = W) ->
    ok = inert:start([{pollset, Pollset}]),
    W.

result({ok, Kind}) when is_atom(Kind) -> Kind;
result({ok, _}) -> set;
result({error, {Reason, _}}) -> Reason;
result({error, Reason}) -> Reason.

shared_set(Set) -> [{shared(N), Mode} || {N, Mode} <- Set].

where(stable, #{port := Port}) -> Port;
where(service, _W) -> inert.

allowed_in_the_crowd({ok, read}) -> true;
allowed_in_the_crowd({ok, write}) -> true;
allowed_in_the_crowd({error, Reason}) when Reason =:= ebadf; Reason =:= ebusy; Reason =:= ecanceled; Reason =:= closed -> true;
allowed_in_the_crowd({ok, [_ | _] = Ready}) ->
    case [One || {FD, Kind} = One <- Ready, FD =< ?SHARED orelse not (Kind =:= read orelse Kind =:= write)] of
        [] -> true;
        Strange -> Strange
    end;
allowed_in_the_crowd({error, {Reason, FD}}) when is_integer(FD), Reason =/= closed -> allowed_in_the_crowd({error, Reason});
allowed_in_the_crowd(Result) -> Result.

kinds(read_write) -> [read, write];
kinds(Kind) -> [Kind].

tag(read) -> inert_read;
tag(write) -> inert_write.

told(Mode, W) ->
    [told_one(Kind, W) || Kind <- kinds(Mode)],
    ok.

told_one(Kind, #{fd := FD, port := Port} = W) ->
    Tag = tag(Kind),
    receive
        {Tag, Port, FD} -> ok
    after ?TRAP_MS -> exit({violation, lost, Kind, FD, maps:get(counts, W)})
    end.

told_already(Kind, #{fd := FD, port := Port}) ->
    Tag = tag(Kind),
    receive
        {Tag, Port, FD} -> true
    after 0 -> false
    end.

told_no_more(#{fd := FD}) ->
    receive
        {Tag, _, FD} -> exit({violation, told_twice, Tag, FD})
    after 0 -> ok
    end.

%% Nothing of ours is armed: whatever else the port has is of other workers. So
%% somebody else may have it now, and gives it back.
armed_of(FD, #{port := Port}) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({result, prim_inert:poll(Port, FD, read_write, 0)}) end),
    receive
        {'DOWN', Monitor, process, Pid, {result, {error, ebusy}}} -> 1;
        {'DOWN', Monitor, process, Pid, {result, _}} -> 0
    end.

%% A waiter that dies makes room at once, though its death may be known here before the
%% driver is told of it.
after_death(#{fd := FD, port := Port}) ->
    case prim_inert:poll(Port, FD, read_write, 0) of
        {error, timeout} -> ok;
        Result -> exit({violation, after_death, Result})
    end.

%% Has the own fd made ready for these kinds, in a while.
to_be(Mode, Delay, #{feeder := Feeder}) ->
    Feeder ! {make, kinds(Mode), Delay}.

%% By now it is.
is(_Mode, #{feeder := Feeder}) ->
    receive
        {made, Feeder} -> ok
    end.

%% As it was: neither readable nor writable.
reset(#{fd := FD}) ->
    inert_test:drain(FD),
    inert_test:fill(FD).

feed(Worker, Peer) ->
    receive
        {make, Kinds, Delay} ->
            spin(Delay),
            [make(Kind, Peer) || Kind <- Kinds],
            Worker ! {made, self()},
            feed(Worker, Peer);
        finish ->
            ok
    end.

make(read, Peer) -> inert_test:make_readable(Peer);
make(write, Peer) -> inert_test:make_writable(Peer).

%%% What happens to the fds that everybody uses

world(Runner, Stable, Keepers) ->
    W0 = #{files => #{}, stable => Stable, keepers => Keepers, counts => #{}},
    W1 = lists:foldl(fun(N, Acc) -> deed({open, N, full_socket}, Acc) end, W0, shared()),
    Runner ! {self(), ready},
    Deeds =
        receive
            {program, Program} -> Program
        end,
    W2 = lists:foldl(fun(Deed, Acc) -> deed(Deed, count(element_1(Deed), Acc)) end, W1, Deeds),
    Runner ! {self(), maps:get(counts, W2)},
    receive
        renew -> ok
    end,
    W3 = lists:foldl(fun(N, Acc) -> deed({open, N, full_socket}, Acc) end, W2, shared()),
    Runner ! {self(), ok},
    receive
        hang_all -> ok
    end,
    W4 = lists:foldl(fun(N, Acc) -> deed({hang, N}, Acc) end, W3, shared()),
    Runner ! {self(), ok},
    receive
        finish -> ok
    end,
    _ = lists:foldl(fun(N, Acc) -> deed({close, N}, Acc) end, W4, shared()),
    ok.

deed({open, N, Kind}, #{files := Files} = W) ->
    {FD, Peer} = inert_model:open(Kind),
    ok = fdio:dup2(FD, shared(N)),
    ok = fdio:close(FD),
    place(N, {make_ref(), Peer}, W#{files := Files});
deed({dup, From, To}, #{files := Files} = W) ->
    case Files of
        #{From := File} when From =/= To ->
            ok = fdio:dup2(shared(From), shared(To)),
            place(To, File, W);
        _ ->
            W
    end;
deed({close, N}, #{files := Files} = W) ->
    case Files of
        #{N := _} ->
            ok = fdio:close(shared(N)),
            place(N, none, W);
        _ ->
            W
    end;
deed({hang, N}, #{files := Files} = W) ->
    case Files of
        #{N := {Id, Peer}} when Peer =/= none ->
            ok = fdio:close(Peer),
            W#{files := maps:map(fun
                (_, {Which, _}) when Which =:= Id -> {Id, none};
                (_, Other) -> Other
            end, Files)};
        _ ->
            W
    end;
deed({feed, N}, W) -> with_peer(N, fun(Peer) -> fdio:write(Peer, <<"x">>) end, W);
deed({empty, N}, W) -> with_peer(N, fun(Peer) -> inert_test:drain(Peer) end, W);
deed({drain, N}, W) -> with_peer(N, fun(_) -> inert_test:drain(shared(N)) end, W);
deed({fill, N}, W) -> with_peer(N, fun(_) -> fill(shared(N)) end, W);
deed(give, #{keepers := [From, To], stable := Stable} = W) ->
    ok = ask(From, fun() -> prim_inert:controlling_process(Stable, To) end),
    {error, not_owner} = ask(From, fun() -> prim_inert:controlling_process(Stable, self()) end),
    W#{keepers := [To, From]}.

with_peer(N, Fun, #{files := Files} = W) ->
    case Files of
        #{N := {_, Peer}} when Peer =/= none -> Fun(Peer);
        _ -> ok
    end,
    W.

%% What is full says eagain; what cannot be written, something else.
fill(FD) ->
    case fdio:write(FD, <<0:(4096 * 8)>>) of
        {ok, _} -> fill(FD);
        {error, _} -> ok
    end.

%% The file that a number had is closed if no other number has it, and so is its peer.
place(N, File, #{files := Files} = W) ->
    New =
        case File of
            none -> maps:remove(N, Files);
            _ -> Files#{N => File}
        end,
    case Files of
        #{N := {Id, Peer}} when Peer =/= none ->
            lists:keymember(Id, 1, maps:values(New)) orelse fdio:close(Peer);
        _ ->
            ok
    end,
    W#{files := New}.
