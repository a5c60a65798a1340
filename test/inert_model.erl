%% SPDX-License-Identifier: Apache-2.0
%%
%% The whole library on real fds against an exact model: a list of commands is run
%% one after the other, by real worker processes, and after each of them everyone who
%% must have been told has been told, nobody else, and the driver's table holds what
%% the model says.
%%
%% Every command means something in every state (what cannot be done is skipped), so
%% any list of them can be run, and a failing one be shrunk by leaving commands out.
%%
%% It knows SPEC.md and the public API, and of the driver the counters `armed' and
%% `processes' of inert_drv:info/1.
%%
%% The one thing it leaves open: what was armed for a file that has left its number
%% (closed, or replaced, without having been cleared) may end with `ebadf' at any
%% time, and must when somebody touches the number.
-module(inert_model).

-export([run/2]).
-export([numbers/0]).
-export([workers/0]).
-export([open/1]).
-export([is_strict/0]).

-export_type([command/0]).
-export_type([file/0]).
-export_type([failure/0]).

-type pollset() :: epoll | erts.
-type port_name() :: service | own.
%% The service, or a port of a worker's own.
-type number_() :: 1..5.
%% A fd number, far above those that the VM takes by itself.
-type worker() :: 1..3.
-type mode() :: read | write | read_write | priority | hangup | [read | write | priority | hangup, ...].
-type entries() :: [{number_(), mode()}].
-type file() :: socket | full_socket | pipe_reader | pipe_writer | full_pipe_writer | eventfd | full_eventfd | regular | directory.
-type command() ::
    {fdset, port_name(), worker(), number_(), mode()}
    | {fdclr, port_name(), worker() | runner, number_(), mode()}
    | {poll, port_name(), worker(), number_(), mode(), timeout()}
    | {fdset_all, port_name(), worker(), entries()}
    | {fdclr_all, port_name(), worker() | runner, entries()}
    | {poll_all, port_name(), worker(), entries(), timeout()}
    | {feed | drain | fill | empty | hang | close, number_()}
    | {open, number_(), file()}
    | {dup, number_(), number_()}
    | {come_back, port_name(), number_(), Elsewhere :: number_(), [file()], [{worker(), mode()}]}
    | {kill, worker()}
    | {junk, worker(), pos_integer()}
    | {start, port_name(), worker()}
    | {stop, port_name(), worker() | runner}
    | {give, port_name(), worker(), worker()}
    | {bad, worker(), port_name(), atom()}.
-type failure() :: #{step := non_neg_integer(), command := term(), what := term()}.

%% fd 1000 + N: below every limit that scripts/with-libs leaves.
-define(BASE, 1000).

%% Within the VM what is awaited takes microseconds: what takes this long is lost.
-define(TRAP_MS, 3_000).
%% While a failure is being shrunk.
-define(SHRINK_TRAP_MS, 300).
%% A run that itself hangs.
-define(RUN_MS, 60_000).

%% In the order in which a poll names them.
-define(KINDS, [read, write, priority, hangup]).

%% Timeouts up to this are waited for; longer ones stand for infinity.
-define(SHORT_MS, 10).

-spec numbers() -> [number_()].
numbers() -> [1, 2, 3, 4, 5].

-spec workers() -> [worker()].
workers() -> [1, 2, 3].

%% Runs the commands. Counts what was done in `counters' of the result.
-spec run(pollset(), [command()]) -> {ok, #{atom() => non_neg_integer()}} | {failed, failure()}.
run(Pollset, Commands) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({result, sequence(Pollset, Commands)}) end),
    receive
        {'DOWN', Monitor, process, Pid, {result, Result}} -> Result;
        {'DOWN', Monitor, process, Pid, Reason} -> {failed, #{step => 0, command => none, what => {crashed, Reason}}}
    after ?RUN_MS ->
        exit(Pid, kill),
        {failed, #{step => 0, command => none, what => hung}}
    end.

sequence(Pollset, Commands) ->
    process_flag(trap_exit, true),
    S0 = #{
        pollset => Pollset,
        step => 0,
        command => start,
        numbers => #{},
        files => #{},
        workers => #{},
        ports => #{},
        %% {PortName, N} => #{file, waiters => #{Kind => {worker(), event | poll}}}
        regs => #{},
        %% {PortName, N} => files that were armed there and may have left something
        past => #{},
        %% Peers of files that are being closed.
        doomed => [],
        %% What a worker must have got, and has not passed on.
        owed => [],
        %% Polls that must have ended: {worker(), Allowed results}.
        ends => [],
        counts => #{}
    },
    try
        S1 = lists:foldl(fun new_worker/2, S0, workers()),
        S2 = lists:foldl(fun step/2, S1, [
            {start, service, 1}, {start, own, 1}, {open, 1, full_socket}, {open, 2, socket}, {open, 3, pipe_reader},
            {open, 4, eventfd}
            | Commands
        ]),
        S3 = finale(erlang:phash2(Commands, 3), S2),
        {ok, maps:get(counts, S3)}
    catch
        throw:{mismatch, S, What} ->
            clean_up(S),
            #{step := Step, command := Command} = S,
            {failed, #{step => Step, command => Command, what => What}};
        Class:Reason:Stack ->
            ok = inert:stop(),
            {failed, #{step => 0, command => none, what => {Class, Reason, Stack}}}
    end.

mismatch(What, S) ->
    throw({mismatch, S, What}).

%% Whether PROP_STRICT is in the environment.
-spec is_strict() -> boolean().
is_strict() ->
    os:getenv("PROP_STRICT", "") =/= "".

trap() ->
    case persistent_term:get({?MODULE, shrinking}, false) of
        true -> ?SHRINK_TRAP_MS;
        false -> ?TRAP_MS
    end.

step(Command, #{step := Step} = S) ->
    S1 = #{doomed := Doomed} = do(Command, count(element(1, Command), S#{step := Step + 1, command := Command})),
    [ok = fdio:close(Peer) || Peer <- Doomed],
    settle(S1#{doomed := []}).

count(What, S) ->
    count(What, 1, S).

count(What, N, #{counts := Counts} = S) ->
    S#{counts := maps:update_with(What, fun(V) -> V + N end, N, Counts)}.

%%% Commands

do({fdset, P, I, N, Mode}, S) ->
    fdset(P, I, one, [{N, Mode}], S);
do({fdset_all, P, I, Entries}, S) ->
    fdset(P, I, set, Entries, S);
do({poll, P, I, N, Mode, Timeout}, S) ->
    poll(P, I, one, [{N, Mode}], Timeout, S);
do({poll_all, P, I, Entries, Timeout}, S) ->
    poll(P, I, set, Entries, Timeout, S);
do({fdclr, P, By, N, Mode}, S) ->
    fdclr(P, By, one, [{N, Mode}], S);
do({fdclr_all, P, By, Entries}, S) ->
    fdclr(P, By, set, Entries, S);
do({feed, N}, S) ->
    change(N, S, fun
        (#{kind := socket, peer := Peer} = F) when Peer =/= none -> feed(Peer, F);
        (#{kind := pipe_reader, peer := Peer} = F) when Peer =/= none -> feed(Peer, F);
        (#{kind := eventfd, level := L} = F) when L < 16#ffffffffffff ->
            {ok, 8} = fdio:write(fd(N), <<1:64/native>>),
            F#{level := L + 1};
        (F) ->
            F
    end);
do({drain, N}, S) ->
    change(N, S, fun
        (#{kind := Kind} = F) when Kind =:= socket; Kind =:= pipe_reader ->
            inert_test:drain(fd(N)),
            F#{data := false};
        (#{kind := eventfd} = F) ->
            inert_test:drain(fd(N)),
            F#{level := 0};
        (F) ->
            F
    end);
do({fill, N}, S) ->
    change(N, S, fun
        (#{kind := Kind, peer := Peer} = F) when Peer =/= none, Kind =:= socket orelse Kind =:= pipe_writer ->
            inert_test:fill(fd(N)),
            F#{full := true};
        (#{kind := eventfd, level := L} = F) when L < 16#ffffffffffff ->
            {ok, 8} = fdio:write(fd(N), <<(16#fffffffffffffffe - L):64/native>>),
            F#{level := 16#fffffffffffffffe};
        (F) ->
            F
    end);
do({empty, N}, S) ->
    change(N, S, fun
        (#{kind := Kind, peer := Peer} = F) when Peer =/= none, Kind =:= socket orelse Kind =:= pipe_writer ->
            inert_test:drain(Peer),
            F#{full := false};
        (F) ->
            F
    end);
do({hang, N}, S) ->
    change(N, S, fun
        (#{peer := Peer} = F) when Peer =/= none ->
            ok = fdio:close(Peer),
            F#{peer := none};
        (F) ->
            F
    end);
do({open, N, Kind}, S) ->
    {FD, File} = new_file(Kind),
    S1 = place(N, File, S),
    ok = fdio:dup2(FD, fd(N)),
    ok = fdio:close(FD),
    left(N, S1);
do({dup, From, To}, S) ->
    case numbers(S) of
        #{From := File} when From =/= To ->
            S1 = place(To, File, S),
            ok = fdio:dup2(fd(From), fd(To)),
            left(To, S1);
        _ ->
            S
    end;
%% What chance alone brings about too seldom: a file leaves its number, another is waited
%% for there, and the first comes back.
do({come_back, P, N, Elsewhere, [File, Other], [{I, Mode}, {I2, Mode2}, {I3, Mode3}]}, S) ->
    lists:foldl(fun step/2, S, [
        {open, N, File}, {fdset, P, I, N, Mode}, {dup, N, Elsewhere},
        {open, N, Other}, {fdset, P, I2, N, Mode2}, {dup, Elsewhere, N},
        {fdset, P, I3, N, Mode3}
    ]);
do({close, N}, S) ->
    case maps:is_key(N, numbers(S)) of
        true ->
            ok = fdio:close(fd(N)),
            left(N, leave(N, S));
        false ->
            S
    end;
do({kill, I}, #{workers := Workers, owed := Owed} = S) ->
    #{I := #{pid := Pid}} = Workers,
    ok = inert_test:kill(Pid),
    flush_dead(Pid),
    S1 = lists:foldl(
        fun({P, N}, Acc) -> remove(fun(Who, _, _) -> Who =:= I end, P, N, Acc) end,
        S#{owed := [One || {Who, _} = One <- Owed, Who =/= I]},
        maps:keys(maps:get(regs, S))
    ),
    %% Ports that were linked to it go with it.
    Lost = [P || {P, #{owner := Owner, linked := true}} <- maps:to_list(maps:get(ports, S)), Owner =:= Pid],
    new_worker(I, lists:foldl(fun(P, Acc) -> port_gone(P, Acc) end, S1, Lost));
do({junk, I, N}, #{workers := Workers} = S) ->
    #{I := #{pid := Pid, junk := Junk} = W} = Workers,
    [Pid ! {junk, K} || K <- lists:seq(Junk + 1, Junk + N)],
    S#{workers := Workers#{I := W#{junk := Junk + N}}};
do({start, P, I}, #{pollset := Pollset, ports := Ports} = S) ->
    case is_busy(I, S) of
        true ->
            S;
        false when P =:= service ->
            S1 = same(ok, call(I, fun(_) -> inert:start([{pollset, Pollset}]) end, P, S), S),
            case Ports of
                #{P := _} -> S1;
                _ -> S1#{ports := Ports#{P => #{port => inert:pollid(), owner => pid_of(I, S), linked => false}}}
            end;
        false ->
            case Ports of
                #{P := _} ->
                    S;
                _ ->
                    {ok, Port} = call(I, fun(_) -> prim_inert:start([{pollset, Pollset}]) end, P, S),
                    S#{ports := Ports#{P => #{port => Port, owner => pid_of(I, S), linked => true}}}
            end
    end;
do({stop, P, By}, S) ->
    case is_busy(By, S) of
        true ->
            S;
        false ->
            Stop = fun
                (_) when P =:= service -> inert:stop();
                (undefined) -> ok;
                (Id) -> prim_inert:stop(Id)
            end,
            S1 = same(ok, call(By, Stop, P, S), S),
            case port(P, S1) of
                undefined -> S1;
                _ -> port_gone(P, S1)
            end
    end;
do({give, P, From, To}, #{ports := Ports} = S) ->
    case is_busy(From, S) of
        true ->
            S;
        false ->
            {Giver, Taker} = {pid_of(From, S), pid_of(To, S)},
            Result = call(From, fun(Id) -> controlling_process(P, Id, Taker) end, P, S),
            case Ports of
                #{P := #{owner := Taker}} ->
                    same(ok, Result, S);
                #{P := #{owner := Giver} = Port} ->
                    same(ok, Result, S#{ports := Ports#{P := Port#{owner := Taker, linked := true}}});
                #{P := _} ->
                    same({error, not_owner}, Result, S);
                _ ->
                    same({error, einval}, Result, S)
            end
    end;
do({bad, I, P, What}, S) ->
    case is_busy(I, S) of
        true ->
            S;
        false ->
            {Fun, Expected} = bad(What, P),
            Result = call(I, Fun, P, S),
            case port(P, S) of
                undefined when Expected =:= {error, ebadf} -> one_of([{error, closed}, Expected], Result, S);
                _ -> same(Expected, Result, S)
            end
    end.

fdset(P, I, Shape, Entries, S) ->
    case is_busy(I, S) of
        true ->
            S;
        false ->
            Result = call(I, fun(Id) -> fdset(P, Id, target(Shape, Entries)) end, P, S),
            case claim(P, I, Shape, Entries, S) of
                {error, Error, S1} ->
                    same(Error, Result, S1);
                {ok, S1} ->
                    case watch(P, Shape, later(Entries, S1), S1) of
                        {error, Error, S2} ->
                            same(Error, Result, S2);
                        {ok, S2} ->
                            S3 = same(ok, Result, S2),
                            S4 = lists:foldl(
                                fun({N, _}, Acc) -> remove(fun(Who, _, _) -> Who =:= I end, P, N, Acc) end,
                                S3,
                                Entries
                            ),
                            S5 = arm_all(P, I, later(Entries, S4), event, S4),
                            lists:foldl(fun({N, Kinds}, Acc) -> owe(P, I, N, Kinds, Acc) end, S5, now(Entries, S5))
                    end
            end
    end.

poll(P, I, Shape, Entries, Timeout, S) ->
    case is_busy(I, S) of
        true ->
            S;
        false ->
            Poll = fun(Id) -> poll(P, Id, target(Shape, Entries), Timeout) end,
            case claim(P, I, Shape, Entries, S) of
                _ when Entries =:= [] ->
                    same({error, einval}, call(I, Poll, P, S), S);
                {error, Error, S1} ->
                    same(Error, call(I, Poll, P, S), S1);
                {ok, S1} ->
                    case now(Entries, S1) of
                        [] when Timeout =:= 0 ->
                            same({error, timeout}, call(I, Poll, P, S), S1);
                        [] ->
                            wait(P, I, Shape, Entries, Poll, Timeout =< ?SHORT_MS, S1);
                        Now when Timeout =:= 0 ->
                            same(is_now(Shape, Now), call(I, Poll, P, S), S1);
                        Now ->
                            same(is_now(Shape, Now), call(I, Poll, P, S), without_own(P, I, Entries, S1))
                    end
            end
    end.

wait(P, I, Shape, Entries, Poll, IsShort, S) ->
    Later = later(Entries, S),
    case watch(P, Shape, Later, S) of
        {error, Error, S1} ->
            same(Error, call(I, Poll, P, S), S1);
        {ok, S1} when IsShort ->
            Result = call(I, Poll, P, S),
            same({error, timeout}, Result, without_own(P, I, Entries, S1));
        {ok, S1} ->
            cast(I, Poll, P, S),
            blocked(I, S),
            Armed = arm_all(P, I, Later, poll, without_own(P, I, Entries, S1)),
            set_busy(I, {P, Shape, Entries}, Armed)
    end.

%% A poll takes the place of what the same worker has armed for the same kinds.
without_own(P, I, Entries, S) ->
    lists:foldl(
        fun({N, Mode}, Acc) ->
            remove(fun(Who, _, Kind) -> Who =:= I andalso lists:member(Kind, kinds(Mode)) end, P, N, Acc)
        end,
        S,
        Entries
    ).

is_now(one, [{_, [Kind | _]}]) -> {ok, Kind};
is_now(set, Now) -> {ok, lists:sort([{fd(N), Kind} || {N, Kinds} <- Now, Kind <- Kinds])}.

fdclr(P, By, Shape, Entries, S) ->
    case is_busy(By, S) of
        true ->
            S;
        false ->
            Result = call(By, fun(Id) -> fdclr(P, Id, target(Shape, Entries)) end, P, S),
            Closed = [N || {N, _} <- Entries, not maps:is_key(N, numbers(S))],
            case {port(P, S), twice(Entries), Closed} of
                {undefined, _, _} ->
                    same({error, closed}, Result, S);
                {_, [N | _], _} ->
                    same(refused(Shape, einval, N), Result, S);
                {_, [], [N | _]} ->
                    same(refused(Shape, ebadf, N), Result, evict(P, N, S));
                {_, [], []} ->
                    Cleared = fun({N, Mode}, Acc) -> cleared(P, N, Mode, Acc) end,
                    lists:foldl(Cleared, same(ok, Result, S), Entries)
            end
    end.

feed(Peer, F) ->
    case fdio:write(Peer, <<"x">>) of
        {ok, 1} -> ok;
        {error, eagain} -> ok
    end,
    F#{data := true}.

bad(negative, P) -> {fun(Id) -> fdset(P, Id, {-1, read}) end, {error, ebadf}};
bad(huge, P) -> {fun(Id) -> poll(P, Id, {1 bsl 40, read}, infinity) end, {error, ebadf}};
bad(large, P) -> {fun(Id) -> poll(P, Id, {16#7fffffff, write}, 5) end, {error, ebadf}};
bad(clear, P) -> {fun(Id) -> fdclr(P, Id, {-5, read_write}) end, {error, ebadf}};
bad(mode, P) -> {fun(Id) -> fdset(P, Id, {fd(1), sideways}) end, {error, einval}};
bad(poll_mode, P) -> {fun(Id) -> poll(P, Id, {fd(1), [{mode, 7}]}, infinity) end, {error, einval}};
bad(empty_set, P) -> {fun(Id) -> poll(P, Id, [], infinity) end, {error, einval}};
bad(fd, P) -> {fun(Id) -> try poll(P, Id, {one, read}, 0) catch error:badarg -> badarg end end, badarg};
bad(timeout, P) -> {fun(Id) -> try poll(P, Id, {fd(1), read}, -1) catch error:badarg -> badarg end end, badarg}.

target(one, [{N, Mode}]) -> {fd(N), Mode};
target(set, Entries) -> [{fd(N), Mode} || {N, Mode} <- Entries].

%% A port that is gone is called by what it was, to see that it says so.
fdset(service, _, {FD, Mode}) -> inert:fdset(FD, Mode);
fdset(own, Port, {FD, Mode}) -> prim_inert:fdset(Port, FD, Mode);
fdset(service, _, Set) -> inert:fdset(Set);
fdset(own, Port, Set) -> prim_inert:fdset(Port, Set).

fdclr(service, _, {FD, Mode}) -> inert:fdclr(FD, Mode);
fdclr(own, Port, {FD, Mode}) -> prim_inert:fdclr(Port, FD, Mode);
fdclr(service, _, Set) -> inert:fdclr(Set);
fdclr(own, Port, Set) -> prim_inert:fdclr(Port, Set).

poll(service, _, {FD, Mode}, Timeout) -> inert:poll(FD, Mode, Timeout);
poll(own, Port, {FD, Mode}, Timeout) -> prim_inert:poll(Port, FD, Mode, Timeout);
poll(service, _, Set, Timeout) -> sorted(inert:poll(Set, Timeout));
poll(own, Port, Set, Timeout) -> sorted(prim_inert:poll(Port, Set, Timeout)).

sorted({ok, Ready}) -> {ok, lists:sort(Ready)};
sorted(Error) -> Error.

controlling_process(service, _, Pid) -> prim_inert:controlling_process(inert, Pid);
controlling_process(own, Port, Pid) -> prim_inert:controlling_process(Port, Pid).

%%% The model

fd(N) -> ?BASE + N.

kinds(read_write) -> [read, write];
kinds(Kind) when is_atom(Kind) -> [Kind];
kinds(Kinds) -> [Kind || Kind <- ?KINDS, lists:member(Kind, Kinds)].

numbers(#{numbers := Numbers}) -> Numbers.

port(P, #{ports := Ports}) ->
    case Ports of
        #{P := #{port := Port}} -> Port;
        _ -> undefined
    end.

file(N, #{numbers := Numbers, files := Files}) ->
    maps:get(maps:get(N, Numbers), Files).

%% poll(2)'s idea of it: errors and hang-ups are every kind.
ready(#{kind := always}) -> [read, write];
ready(#{kind := eventfd, level := L}) -> [read || L > 0] ++ [write || L < 16#fffffffffffffffe];
ready(#{peer := none}) -> ?KINDS;
ready(#{kind := socket, data := Data, full := Full}) -> [read || Data] ++ [write || not Full];
ready(#{kind := pipe_reader, data := Data}) -> [read || Data];
ready(#{kind := pipe_writer, full := Full}) -> [write || not Full].

%% Of these entries, [{N, Kinds}] that are ready, and that are not.
now(Entries, S) ->
    Now = [{N, [Kind || Kind <- kinds(Mode), lists:member(Kind, ready(file(N, S)))]} || {N, Mode} <- Entries],
    [{N, Kinds} || {N, Kinds} <- Now, Kinds =/= []].

later(Entries, S) ->
    Later = [{N, kinds(Mode) -- ready(file(N, S))} || {N, Mode} <- Entries],
    [{N, Kinds} || {N, Kinds} <- Later, Kinds =/= []].

reg(P, N, #{regs := Regs}) ->
    maps:get({P, N}, Regs, #{file => none, waiters => #{}}).

put_reg(P, N, #{waiters := Waiters}, #{regs := Regs} = S) when map_size(Waiters) =:= 0 ->
    S#{regs := maps:remove({P, N}, Regs)};
put_reg(P, N, Reg, #{regs := Regs} = S) ->
    S#{regs := Regs#{{P, N} => Reg}}.

%% Whether what is armed is of a file that has left the number.
is_stale(P, N, S) ->
    #{file := File} = reg(P, N, S),
    File =/= none andalso maps:get(N, numbers(S), none) =/= File.

%% May this worker wait for these kinds? Whoever waits for a file that has gone makes
%% room.
claim(P, I, Shape, Entries, S) ->
    case {port(P, S), twice(Entries)} of
        {undefined, _} -> {error, {error, closed}, S};
        {_, [N | _]} -> {error, refused(Shape, einval, N), S};
        {_, []} -> claim_each(P, I, Shape, Entries, S)
    end.

claim_each(P, I, Shape, Entries, S0) ->
    Claim = fun
        (_, {error, _, _} = Error) ->
            Error;
        ({N, Mode}, {ok, #{pollset := Pollset} = S}) ->
            #{waiters := Waiters} = reg(P, N, S),
            Taken = [Kind || Kind <- kinds(Mode), {Who, _} <- [maps:get(Kind, Waiters, {I, none})], Who =/= I],
            Unknown = Pollset =:= erts andalso kinds(Mode) -- [read, write] =/= [],
            case {Unknown, Taken, is_stale(P, N, S)} of
                {true, _, _} -> {error, refused(Shape, enotsup, N), S};
                {_, [], _} -> {ok, S};
                {_, _, true} -> {ok, evict(P, N, S)};
                {_, _, false} -> {error, refused(Shape, ebusy, N), S}
            end
    end,
    case lists:foldl(Claim, {ok, S0}, Entries) of
        {error, _, _} = Error ->
            Error;
        {ok, S1} ->
            case [N || {N, _} <- Entries, not maps:is_key(N, numbers(S1))] of
                [] -> {ok, S1};
                [N | _] -> {error, refused(Shape, ebadf, N), evict(P, N, S1)}
            end
    end.

twice(Entries) ->
    Numbers = [N || {N, _} <- Entries],
    lists:usort(Numbers -- lists:usort(Numbers)).

refused(one, Reason, _N) -> {error, Reason};
refused(set, Reason, N) -> {error, {Reason, fd(N)}}.

%% What is armed for a file that has gone makes room for what will be. The kernel has
%% nothing to say of the priority and hang-up of files and directories.
watch(P, Shape, Later, S0) ->
    Watch = fun
        (_, {error, _, _} = Error) ->
            Error;
        ({N, _Kinds}, {ok, S}) ->
            case {file(N, S), is_stale(P, N, S)} of
                {#{kind := always}, _} -> {error, refused(Shape, enotsup, N), S};
                {_, true} -> {ok, evict(P, N, S)};
                {_, false} -> {ok, S}
            end
    end,
    lists:foldl(Watch, {ok, S0}, Later).

%% All that is armed on the number is of a file that has gone.
evict(P, N, S) ->
    #{waiters := Waiters} = reg(P, N, S),
    Polls = lists:usort([I || {I, poll} <- maps:values(Waiters)]),
    S1 = lists:foldl(fun(I, Acc) -> end_poll(P, N, I, ebadf, Acc) end, S, Polls),
    count(evicted, map_size(Waiters), remove(fun(_, _, _) -> true end, P, N, S1)).

%% What a poll for a file that has gone may return beside what ended it.
%% A set never waits with such a number from one command to the next: see left/2.
also(Shape, P, N, S) ->
    [refused(Shape, ebadf, N) || is_stale(P, N, S)].

remove(Fun, P, N, S) ->
    #{waiters := Waiters} = Reg = reg(P, N, S),
    Left = maps:filter(fun(Kind, {I, How}) -> not Fun(I, How, Kind) end, Waiters),
    put_reg(P, N, Reg#{waiters := Left}, S).

arm_all(P, I, Later, How, S) ->
    lists:foldl(fun({N, Kinds}, Acc) -> arm(P, I, N, Kinds, How, Acc) end, S, Later).

arm(P, I, N, Kinds, How, #{past := Past} = S) ->
    #{N := File} = numbers(S),
    #{waiters := Waiters} = reg(P, N, S),
    New = maps:merge(Waiters, maps:from_list([{Kind, {I, How}} || Kind <- Kinds])),
    Files = maps:get({P, N}, Past, []),
    S1 = S#{past := Past#{{P, N} => lists:usort([File | Files])}},
    count(armed, length(Kinds), put_reg(P, N, #{file => File, waiters => New}, S1)).

owe(P, I, N, Kinds, #{owed := Owed} = S) ->
    Port = port(P, S),
    count(told, length(Kinds), S#{owed := Owed ++ [{I, {tag(Kind), Port, fd(N)}} || Kind <- Kinds]}).

tag(read) -> inert_read;
tag(write) -> inert_write;
tag(priority) -> inert_priority;
tag(hangup) -> inert_hangup.

ends(I, Allowed, #{ends := Ends} = S) ->
    S#{ends := Ends ++ [{I, Allowed}]}.

%% The poll of worker I ends, because of this number, and nothing of it stays armed.
end_poll(P, N, I, Why, S) ->
    {P, Shape, Entries} = busy(I, S),
    Result =
        case {Why, Shape} of
            {{ready, Kind}, one} -> {ok, Kind};
            {{ready, _}, set} -> is_now(set, now([E || {M, _} = E <- Entries, maps:is_key(M, numbers(S))], S));
            {closed, _} -> {error, closed};
            {Reason, _} -> refused(Shape, Reason, N)
        end,
    Also = lists:append([also(Shape, P, M, S) || {M, _} <- Entries]),
    Mine = fun(Who, How, _) -> Who =:= I andalso How =:= poll end,
    ends(I, [Result | Also], lists:foldl(fun({M, _}, Acc) -> remove(Mine, P, M, Acc) end, S, Entries)).

cleared(P, N, Mode, S) ->
    lists:foldl(
        fun(Kind, Acc) ->
            case maps:get(waiters, reg(P, N, Acc)) of
                #{Kind := {I, poll}} -> end_poll(P, N, I, ecanceled, Acc);
                _ -> remove(fun(_, _, K) -> K =:= Kind end, P, N, Acc)
            end
        end,
        S,
        kinds(Mode)
    ).

port_gone(P, #{ports := Ports} = S) ->
    #{P := #{port := Port}} = Ports,
    true = until(fun() -> erlang:port_info(Port) =:= undefined end, {port_still_open, P}, S),
    Polls = lists:usort([
        I
     || {{P1, _}, #{waiters := Waiters}} <- maps:to_list(maps:get(regs, S)), P1 =:= P, {I, poll} <- maps:values(Waiters)
    ]),
    S0 = lists:foldl(fun(I, Acc) -> end_poll(P, none, I, closed, Acc) end, S, Polls),
    %% What they had armed goes, too, and those who waited for files that have gone may
    %% have been told before.
    Armed = [N || {P1, N} <- maps:keys(maps:get(regs, S0)), P1 =:= P],
    S1 = lists:foldl(fun(N, Acc) -> remove(fun(_, _, _) -> true end, P, N, Acc) end, S0, Armed),
    S1#{
        ports := maps:remove(P, Ports),
        regs := maps:filter(fun({P1, _}, _) -> P1 =/= P end, maps:get(regs, S1)),
        past := maps:filter(fun({P1, _}, _) -> P1 =/= P end, maps:get(past, S1))
    }.

%% The state of a file changes, and those who waited for it are told.
change(N, #{numbers := Numbers, files := Files} = S, Fun) ->
    case Numbers of
        #{N := Id} -> fire(Id, S#{files := Files#{Id := Fun(maps:get(Id, Files))}});
        _ -> S
    end.

fire(Id, #{regs := Regs, files := Files} = S) ->
    Ready = ready(maps:get(Id, Files)),
    lists:foldl(
        fun({P, N}, Acc) ->
            case reg(P, N, Acc) of
                #{file := Id} ->
                    case is_stale(P, N, Acc) of
                        true -> Acc;
                        false -> lists:foldl(fun(Kind, A) -> fired(P, N, Kind, A) end, Acc, Ready)
                    end;
                _ ->
                    Acc
            end
        end,
        S,
        maps:keys(Regs)
    ).

fired(P, N, Kind, S) ->
    case maps:get(waiters, reg(P, N, S)) of
        #{Kind := {I, event}} -> owe(P, I, N, [Kind], remove(fun(_, _, K) -> K =:= Kind end, P, N, S));
        #{Kind := {I, poll}} -> count(told, end_poll(P, N, I, {ready, Kind}, S));
        _ -> S
    end.

%%% Files

%% A new file of this kind, and what is at its other end.
-spec open(file()) -> {FD :: fdio:fd(), Peer :: fdio:fd() | none}.
open(Kind) ->
    {FD, File} = new_file(Kind),
    {FD, maps:get(peer, File, none)}.

new_file(Kind) when Kind =:= socket; Kind =:= full_socket ->
    {FD, Peer} =
        case Kind of
            socket -> inert_test:pair();
            full_socket -> inert_test:full_pair()
        end,
    {FD, #{kind => socket, peer => Peer, data => false, full => Kind =:= full_socket}};
new_file(pipe_reader) ->
    {ok, {FD, Peer}} = fdio:pipe(),
    {FD, #{kind => pipe_reader, peer => Peer, data => false}};
new_file(Kind) when Kind =:= pipe_writer; Kind =:= full_pipe_writer ->
    {ok, {Peer, FD}} = fdio:pipe(),
    [inert_test:fill(FD) || Kind =:= full_pipe_writer],
    {FD, #{kind => pipe_writer, peer => Peer, full => Kind =:= full_pipe_writer}};
new_file(Kind) when Kind =:= eventfd; Kind =:= full_eventfd ->
    {ok, FD} = fdio:eventfd(),
    Level =
        case Kind of
            eventfd -> 0;
            full_eventfd -> 16#fffffffffffffffe
        end,
    [{ok, 8} = fdio:write(FD, <<Level:64/native>>) || Level > 0],
    {FD, #{kind => eventfd, level => Level}};
new_file(regular) ->
    {ok, FD} = fdio:open("/etc/passwd", [read]),
    {FD, #{kind => always}};
new_file(directory) ->
    {ok, FD} = fdio:open("/", [read]),
    {FD, #{kind => always}}.

%% A file, new or known, comes under a number. Where the kernel could not tell it from
%% what is armed there, that is cleared first, as users are told to do.
place(N, File, S) when is_map(File) ->
    Id = make_ref(),
    #{files := Files} = S,
    place(N, Id, S#{files := Files#{Id => File}});
place(N, Id, #{files := Files} = S) ->
    #{Id := #{kind := Kind}} = Files,
    S1 = lists:foldl(
        fun(P, Acc) ->
            case reg(P, N, Acc) of
                #{file := none} ->
                    Acc;
                #{file := Old} ->
                    Same = Old =:= Id andalso maps:get(N, numbers(Acc), none) =/= Id,
                    case Same orelse (Old =/= Id andalso is_alike(P, N, Id, Kind, Old, Acc)) of
                        true -> settle(clear_first(P, N, Acc));
                        false -> Acc
                    end
            end
        end,
        S,
        maps:keys(maps:get(ports, S))
    ),
    S2 = leave(N, Id, S1),
    S2#{numbers := maps:put(N, Id, numbers(S2))}.

%% Eventfds share an inode. epoll knows them apart all the same, unless this one was
%% armed there before and has left its registration behind: then what is armed for the
%% file between them is taken for its own.
is_alike(P, N, Id, Kind, Old, #{files := Files, pollset := Pollset, past := Past}) ->
    #{Old := #{kind := Other}} = Files,
    WasThere = lists:member(Id, maps:get({P, N}, Past, [])),
    {Kind, Other} =:= {eventfd, eventfd} andalso (Pollset =:= erts orelse WasThere).

%% Of a set whose number has a new file, or none, nobody could say whether its other
%% numbers are waited for: an event of the old file may end it at any time. So it is
%% cleared.
left(N, S) ->
    lists:foldl(
        fun(P, Acc) ->
            IsSet = fun
                ({I, poll}) -> element(2, busy(I, Acc)) =:= set;
                (_) -> false
            end,
            case is_stale(P, N, Acc) andalso lists:any(IsSet, maps:values(maps:get(waiters, reg(P, N, Acc)))) of
                true -> clear_first(P, N, Acc);
                false -> Acc
            end
        end,
        S,
        maps:keys(maps:get(ports, S))
    ).

clear_first(P, N, S) ->
    case {port(P, S), maps:is_key(N, numbers(S))} of
        {undefined, _} ->
            S;
        {Port, true} ->
            cleared(P, N, ?KINDS, same(ok, prim_inert:fdclr(Port, fd(N), ?KINDS), S));
        {Port, false} ->
            evict(P, N, same({error, ebadf}, prim_inert:fdclr(Port, fd(N)), S))
    end.

leave(N, S) ->
    leave(N, none, S).

%% A number's file leaves it. A file without a number is closed, and so is its peer.
leave(N, Next, #{numbers := Numbers, files := Files} = S) ->
    case Numbers of
        #{N := Id} when Id =/= Next ->
            Left = maps:remove(N, Numbers),
            Peer = maps:get(peer, maps:get(Id, Files), none),
            case lists:member(Id, maps:values(Left)) of
                false when Peer =/= none ->
                    %% After the number has left it, so that nobody sees it hang up.
                    S#{
                        numbers := Left,
                        files := maps:update(Id, (maps:get(Id, Files))#{peer := none}, Files),
                        doomed := [Peer | maps:get(doomed, S)]
                    };
                _ ->
                    S#{numbers := Left}
            end;
        _ ->
            S
    end.

%%% Workers

new_worker(I, #{workers := Workers} = S) ->
    Runner = self(),
    Pid = spawn_link(fun() -> work(Runner) end),
    S#{workers := Workers#{I => #{pid => Pid, busy => false, junk => 0}}}.

%% What inert sends is passed on; everything else stays.
work(Runner) ->
    receive
        {do, Fun} ->
            Result = Fun(),
            Runner ! {done, self(), Result},
            work(Runner);
        {Tag, Port, FD} when is_port(Port), Tag =/= 'EXIT' ->
            Runner ! {told, self(), {Tag, Port, FD}},
            work(Runner);
        mailbox ->
            {messages, Messages} = process_info(self(), messages),
            Runner ! {mailbox, self(), Messages},
            work(Runner)
    end.

pid_of(I, #{workers := Workers}) ->
    maps:get(pid, maps:get(I, Workers)).

is_busy(runner, _S) -> false;
is_busy(I, #{workers := Workers}) -> maps:get(busy, maps:get(I, Workers)) =/= false.

busy(I, #{workers := Workers}) -> maps:get(busy, maps:get(I, Workers)).

set_busy(I, Busy, #{workers := Workers} = S) ->
    S#{workers := Workers#{I := (maps:get(I, Workers))#{busy := Busy}}}.

%% Has the worker call Fun with the port's id, and waits for the result.
call(runner, Fun, P, S) ->
    Fun(port(P, S));
call(I, Fun, P, S) ->
    cast(I, Fun, P, S),
    Pid = pid_of(I, S),
    receive
        {done, Pid, Result} -> Result;
        {'EXIT', Pid, Reason} -> mismatch({worker_crashed, I, Reason}, S)
    after 2 * trap() -> mismatch({no_answer, I, process_info(Pid)}, S)
    end.

cast(I, Fun, P, S) ->
    Id = id(P, S),
    pid_of(I, S) ! {do, fun() -> Fun(Id) end}.

%% A name that nobody has stands for a port that is gone.
id(P, S) ->
    case port(P, S) of
        undefined -> inert_model_nobody;
        Port -> Port
    end.

blocked(I, S) ->
    Pid = pid_of(I, S),
    true = until(
        fun() ->
            receive
                {done, Pid, Result} -> mismatch({returned_too_early, I, Result}, S)
            after 0 -> ok
            end,
            case process_info(Pid, [status, current_function]) of
                [{status, waiting}, {current_function, {prim_inert, _, _}}] -> true;
                _ -> false
            end
        end,
        {does_not_block, I},
        S
    ).

%% Waits for a condition that nobody announces.
until(Fun, What, S) ->
    until(Fun, What, S, 0, erlang:monotonic_time(millisecond) + trap()).

until(Fun, What, S, Round, Deadline) ->
    case Fun() of
        true ->
            true;
        here ->
            here;
        Not ->
            erlang:monotonic_time(millisecond) < Deadline orelse mismatch({What, Not}, S),
            case Round < 200 of
                true -> erlang:yield();
                false -> receive after 1 -> ok end
            end,
            until(Fun, What, S, Round + 1, Deadline)
    end.

flush_dead(Pid) ->
    receive
        {told, Pid, _} -> flush_dead(Pid);
        {done, Pid, _} -> flush_dead(Pid);
        {'EXIT', Pid, _} -> flush_dead(Pid)
    after 0 -> ok
    end.

%%% Comparing

same(Expected, Result, S) ->
    one_of([Expected], Result, S).

one_of(Allowed, Result, S) ->
    case lists:member(Result, Allowed) of
        true -> S;
        false -> mismatch({result, Result, {instead_of, Allowed}}, S)
    end.

%% Everything that the last command caused has happened, and nothing else.
settle(#{ends := Ends} = S) ->
    S1 = lists:foldl(fun ended/2, S#{ends := []}, Ends),
    S2 = lists:foldl(fun owed/2, S1#{owed := []}, maps:get(owed, S1)),
    S3 = unexpected(S2),
    table(S3),
    S3.

ended({I, Allowed}, S) ->
    Pid = pid_of(I, S),
    receive
        {done, Pid, Result} -> set_busy(I, false, one_of(Allowed, Result, S))
    after trap() ->
        mismatch({poll_not_ended, I, {expected, Allowed}, process_info(Pid)}, S)
    end.

owed({I, Message}, #{owed := Owed} = S) ->
    Pid = pid_of(I, S),
    case is_busy(I, S) of
        false ->
            receive
                {told, Pid, Message} -> S
            after trap() -> mismatch({lost, I, Message}, S)
            end;
        true ->
            %% It is blocked in a poll, and has it in its mailbox; or the poll has just
            %% ended, for a file that has gone.
            Passed = fun() ->
                receive
                    {told, Pid, Message} -> true
                after 0 -> false
                end
            end,
            Here = fun() ->
                case process_info(Pid, messages) of
                    {messages, Messages} -> lists:member(Message, Messages) andalso here;
                    undefined -> mismatch({worker_crashed, I}, S)
                end
            end,
            case until(fun() -> Passed() orelse Here() end, {lost, I, Message}, S) of
                true -> S;
                here -> S#{owed := Owed ++ [{I, Message}]}
            end
    end.

unexpected(#{workers := Workers} = S) ->
    receive
        {told, Pid, Message} ->
            One = {index(Pid, Workers), Message},
            case lists:member(One, maps:get(owed, S)) of
                %% It was in the mailbox of one whose poll has ended just now.
                true -> unexpected(S#{owed := maps:get(owed, S) -- [One]});
                false -> mismatch({told_without_reason, element(1, One), Message}, S)
            end;
        {done, Pid, Result} ->
            I = index(Pid, Workers),
            case I =/= dead andalso busy(I, S) of
                {P, one, [{N, _}]} ->
                    case lists:member(Result, also(one, P, N, S)) of
                        true ->
                            S1 = remove(fun(Who, How, _) -> Who =:= I andalso How =:= poll end, P, N, S),
                            unexpected(set_busy(I, false, count(left_early, S1)));
                        false ->
                            mismatch({returned_without_reason, I, Result}, S)
                    end;
                _ ->
                    mismatch({returned_without_reason, I, Result}, S)
            end;
        {'EXIT', Pid, Reason} when is_pid(Pid) ->
            mismatch({worker_crashed, index(Pid, Workers), Reason}, S)
    after 0 -> S
    end.

index(Pid, Workers) ->
    hd([I || {I, #{pid := P}} <- maps:to_list(Workers), P =:= Pid] ++ [dead]).

%% The driver's table has what the model says. What is stale may have gone.
table(#{ports := Ports, regs := Regs} = S) ->
    maps:foreach(
        fun(P, #{port := Port}) ->
            Mine = [{N, map_size(Waiters)} || {{P1, N}, #{waiters := Waiters}} <- maps:to_list(Regs), P1 =:= P],
            Most = lists:sum([Count || {_, Count} <- Mine]),
            Least = lists:sum([Count || {N, Count} <- Mine, not is_stale(P, N, S)]),
            true = until(
                fun() ->
                    {ok, #{armed := Armed}} = inert_drv:info(Port),
                    case Armed >= Least andalso Armed =< Most of
                        true -> true;
                        false -> {armed, Armed, Least, Most}
                    end
                end,
                {table, P},
                S
            )
        end,
        Ports
    ).

%%% The end

%% One way or another all that is armed ends, nothing is left over.
finale(How, S0) ->
    Ports = maps:to_list(maps:get(ports, S0)),
    S1 = S0#{command := {finale, How}},
    [aside(fun() -> inert_test:quiet_barrier(Port) end, S1) || {_, #{port := Port}} <- Ports],
    S2 = ending(How, settle(S1)),
    [mailbox(I, S2) || I <- workers()],
    [begin unlink(pid_of(I, S2)), ok = inert_test:kill(pid_of(I, S2)) end || I <- workers()],
    [
        until(
            fun() ->
                case inert_drv:info(Port) of
                    {ok, #{armed := 0, processes := 0}} -> true;
                    %% Its owner was a worker.
                    {error, closed} -> true;
                    Info -> Info
                end
            end,
            {table_not_empty, P},
            S2
        )
     || {P, #{port := Port}} <- maps:to_list(maps:get(ports, S2))
    ],
    clean_up(S2),
    S2.

%% Everything becomes ready; what waits for files that are gone is cleared.
ending(0, S) ->
    S1 = lists:foldl(
        fun(N, Acc) ->
            case numbers(Acc) of
                #{N := _} -> lists:foldl(fun step/2, Acc, [{hang, N}, {feed, N}, {drain, N}, {feed, N}]);
                _ -> Acc
            end
        end,
        S,
        numbers()
    ),
    lists:foldl(fun({P, N}, Acc) -> step({fdclr, P, runner, N, ?KINDS}, Acc) end, S1, maps:keys(maps:get(regs, S1)));
ending(1, S) ->
    lists:foldl(fun(P, Acc) -> step({stop, P, runner}, Acc) end, S, [own, service]);
ending(2, S) ->
    lists:foldl(fun(I, Acc) -> step({kill, I}, Acc) end, S, workers()).

mailbox(I, S) ->
    Pid = pid_of(I, S),
    case is_busy(I, S) of
        true ->
            mismatch({still_polling, I}, S);
        false ->
            Pid ! mailbox,
            #{workers := #{I := #{junk := Junk}}} = S,
            Expected = [{junk, K} || K <- lists:seq(1, Junk)],
            receive
                {mailbox, Pid, Expected} -> ok;
                {mailbox, Pid, Messages} -> mismatch({left_in_mailbox, I, Messages -- Expected}, S)
            after trap() -> mismatch({no_answer, I}, S)
            end
    end.

%% In a process of its own, which leaves nothing armed.
aside(Fun, S) ->
    {Pid, Monitor} = spawn_monitor(Fun),
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> mismatch({aside, Reason}, S)
    after trap() ->
        exit(Pid, kill),
        mismatch({lost, barrier}, S)
    end.

clean_up(#{workers := Workers, ports := Ports, numbers := Numbers, files := Files, doomed := Doomed}) ->
    maps:foreach(
        fun(_, #{pid := Pid}) ->
            unlink(Pid),
            exit(Pid, kill)
        end,
        Workers
    ),
    maps:foreach(fun(_, #{port := Port}) -> prim_inert:stop(Port) end, Ports),
    ok = inert:stop(),
    maps:foreach(fun(N, _) -> fdio:close(fd(N)) end, Numbers),
    lists:foreach(fun fdio:close/1, Doomed),
    maps:foreach(
        fun
            (_, #{peer := Peer}) when Peer =/= none -> fdio:close(Peer);
            (_, _) -> ok
        end,
        Files
    ).
