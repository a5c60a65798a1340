%% SPDX-License-Identifier: Apache-2.0
%%
%% Control calls with random and nearly right data, from many processes at the same
%% time, to one port, while fds are closed, reopened, fed and drained, and the
%% processes die in between. Every answer is one that the request can have, and a request
%% that is refused arms nothing. Afterwards the port still answers rightly, its table is
%% empty, and nothing has leaked: memory, fds, atoms, polls, monitors.
%%
%% The fds are of its own, or closed, negative or huge: an fd of the VM's own would be
%% stolen from it on the pollset `erts', as SPEC.md says.
-module(inert_fuzz).

-export([main/1]).
-export([run/2]).
-export([call/2]).

-define(PROCESSES, 20).
%% Then a process dies, with whatever it has armed, and another takes its place.
-define(CALLS_PER_LIFE, 500).
%% What a port grows by in use has grown after so many.
-define(WARM_UP, 40_000).

-define(BASE, 2000).
-define(OPEN, 48).
%% Numbers that nobody ever opens.
-define(CLOSED, 2100).

%% What may be left of a million calls: no byte of each.
-define(MEMORY_SLACK, 2 * 1024 * 1024).
%% A driver keeps the names of four nodes; each makes an atom when it is sent.
-define(ATOM_SLACK, 100).

-define(TRAP_MS, 10_000).

%% One call of so many is looked at for what it has armed.
-define(LOOK_EVERY, 25).
%% No key of number/0, which others' answers may have.
-define(LOOK_KEY, 424_242).
%% driver/wire.rs, Counters.
-define(INFO_BYTES, 11 * 8).

%% main([Calls]): so many on each pollset. Ends the VM: with 0 if nothing failed.
-spec main([string()]) -> no_return().
main([Calls]) ->
    Config = inert_test:init_per_suite([]),
    Held = [holds(Pollset, list_to_integer(Calls)) || Pollset <- inert_test:pollsets()],
    _ = inert_test:end_per_suite(Config),
    halt(
        case lists:all(fun(Holds) -> Holds end, Held) of
            true -> 0;
            false -> 1
        end,
        [{flush, true}]
    ).

holds(Pollset, Calls) ->
    Began = erlang:monotonic_time(millisecond),
    Result = run(Pollset, Calls),
    Seconds = (erlang:monotonic_time(millisecond) - Began) / 1000,
    case Result of
        {ok, Counts} ->
            io:format("ok ~s, in ~.1f seconds:~n~p~n", [Pollset, Seconds, Counts]),
            true;
        {failed, Why} ->
            io:format("not ok ~s:~n~p~n", [Pollset, Why]),
            false
    end.

%% Makes so many calls. A failure comes with the seed that run/2 prints.
-spec run(epoll | erts, pos_integer()) -> {ok, #{atom() => term()}} | {failed, term()}.
run(Pollset, Calls) ->
    Seed = erlang:phash2({erlang:unique_integer(), os:timestamp()}),
    {Pid, Monitor} = spawn_monitor(fun() -> exit({result, fuzz(Pollset, Calls, Seed)}) end),
    Result =
        receive
            {'DOWN', Monitor, process, Pid, {result, Counts}} -> {ok, Counts};
            {'DOWN', Monitor, process, Pid, Reason} -> {failed, Reason}
        end,
    case inert_prop:judge(Pollset, Result) of
        {ok, _} = Done -> Done;
        {failed, Why} -> {failed, {Why, {seed, Seed}}}
    end.

fuzz(Pollset, Calls, Seed) ->
    process_flag(trap_exit, true),
    FdsBefore = inert_test:fds(),
    {ok, Port} = prim_inert:start([{pollset, Pollset}]),
    Pairs = [open(N) || N <- lists:seq(1, ?OPEN)],
    Chaos = spawn_link(fun() -> chaos(Pairs, rand:seed_s(exsss, {Seed, 0, 0})) end),
    _ = storm(Port, min(?WARM_UP, Calls), Seed + 1),
    empty(Port),
    Before = memory(),
    AtomsBefore = erlang:system_info(atom_count),
    Done = storm(Port, Calls, Seed),
    empty(Port),
    right(Port),
    After = memory(),
    Atoms = erlang:system_info(atom_count) - AtomsBefore,
    After - Before < ?MEMORY_SLACK orelse exit({memory, Before, After}),
    Atoms < ?ATOM_SLACK orelse exit({atoms, Atoms}),
    {ok, Info} = inert_drv:info(Port),
    Monitor = monitor(process, Chaos),
    Chaos ! finish,
    receive
        {'DOWN', Monitor, process, Chaos, _} -> ok
    end,
    ok = prim_inert:stop(Port),
    until(fun() -> inert_test:fds() -- FdsBefore =:= [] end, fds),
    Done#{seed => Seed, memory => After - Before, atoms => Atoms, events => maps:get(delivered, Info)}.

memory() ->
    [garbage_collect(Pid) || Pid <- processes()],
    try
        erlang:memory(total)
    catch
        %% Without the VM's own allocators, as under valgrind, nobody knows.
        error:notsup -> 0
    end.

%% The table has nothing of processes that are gone.
empty(Port) ->
    until(
        fun() ->
            case inert_drv:info(Port) of
                {ok, #{armed := 0, fds := 0, polls := 0, processes := 0}} -> true;
                _ -> false
            end
        end,
        {table_not_empty, Port}
    ).

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

%% The port does what it is there for.
right(Port) ->
    inert_test:with(inert_test:full_pair(), fun({A, B}) ->
        {error, timeout} = prim_inert:poll(Port, A, read, 0),
        {error, timeout} = prim_inert:poll(Port, A, read_write, 1),
        ok = prim_inert:fdset(Port, A, read_write),
        inert_test:make_readable(B),
        receive
            {inert_read, Port, A} -> ok
        after ?TRAP_MS -> exit(lost)
        end,
        inert_test:make_writable(B),
        receive
            {inert_write, Port, A} -> ok
        after ?TRAP_MS -> exit(lost)
        end,
        {ok, read} = prim_inert:poll(Port, A, read, infinity),
        inert_test:drain(A),
        ok = prim_inert:fdset(Port, A, read),
        [
            {First, [A]} = {First, [FD || {FD, read, _, _} <- waiters(Port, First)]}
         || First <- [-16#80000000, -1, 0, A]
        ],
        [{First, []} = {First, waiters(Port, First)} || First <- [A + 1, 1 bsl 20, 16#7fffffff]],
        ok = prim_inert:fdclr(Port, A, read),
        {error, ebadf} = prim_inert:fdset(Port, ?CLOSED),
        {error, einval} = inert_drv:ctl(Port, 1, <<>>)
    end).

%%% Processes that call

storm(Port, Calls, Seed) ->
    Share = max(1, Calls div ?PROCESSES),
    [spawn_link(fun() -> life(Port, Share, {Seed, I, 1}) end) || I <- lists:seq(1, ?PROCESSES)],
    gather(?PROCESSES, #{calls => 0}).

gather(0, Counts) ->
    Counts;
gather(Left, Counts) ->
    receive
        {lived, done, Some} -> gather(Left - 1, sum(Counts, Some));
        {lived, Next, Some} ->
            spawn_link(Next),
            gather(Left, sum(Counts, Some));
        {'EXIT', _, normal} -> gather(Left, Counts);
        {'EXIT', _, Reason} -> exit(Reason)
    end.

sum(A, B) ->
    maps:fold(fun(Key, N, Acc) -> maps:update_with(Key, fun(V) -> V + N end, N, Acc) end, A, B).

life(Port, Calls, {Seed, I, Generation}) ->
    Parent = hd(get_links()),
    _ = rand:seed(exsss, {Seed, I, Generation}),
    Now = min(Calls, ?CALLS_PER_LIFE),
    Counts = calls(Port, Now, #{calls => Now, lives => 1}),
    Next =
        case Calls - Now of
            0 -> done;
            Left -> fun() -> life(Port, Left, {Seed, I, Generation + 1}) end
        end,
    Parent ! {lived, Next, Counts}.

get_links() ->
    {links, Links} = process_info(self(), links),
    [Pid || Pid <- Links, is_pid(Pid)].

calls(Port, 0, Counts) ->
    %% A port monitors a process once, whatever it has armed; and once more while it asks
    %% for another one whether this one lives.
    until(
        fun() ->
            {monitored_by, By} = process_info(self(), monitored_by),
            length([Port || P <- By, P =:= Port]) =< 1
        end,
        monitored_again
    ),
    sum(Counts, #{messages => flush(0)});
calls(Port, N, Counts) ->
    {Command, Data} = request(),
    Answer =
        case N rem ?LOOK_EVERY of
            0 -> watched_call(Port, {Command, Data});
            _ -> call(Port, {Command, Data})
        end,
    Class = class(Command, iolist_to_binary(Data), Answer),
    Counts1 = sum(Counts, #{Class => 1}),
    Counts2 =
        case N rem 50 of
            0 -> sum(Counts1, #{messages => flush(0)});
            _ -> Counts1
        end,
    calls(Port, N - 1, Counts2).

%% One request, as it is made here.
-spec call(port(), {non_neg_integer(), iodata()}) -> string() | binary().
call(Port, {Command, Data}) ->
    erlang:port_control(Port, Command, Data).

%% A request that is refused arms nothing. (What was armed may be gone meanwhile.)
watched_call(Port, Request) ->
    Before = own(Port),
    Answer = call(Port, Request),
    case Answer of
        "e" ++ _ ->
            New = own(Port) -- Before,
            New =:= [] orelse exit({armed_by_refused, Request, Answer, New});
        _ ->
            ok
    end,
    Answer.

own(Port) ->
    Self = self(),
    [{FD, Kind} || {FD, Kind, Pid, _} <- waiters(Port, ?BASE), Pid =:= Self].

%% Who waits for this fd and those after it.
waiters(Port, First) ->
    case inert_drv:waiters(Port, First, ?LOOK_KEY) of
        {ok, Waiters, none} -> Waiters;
        {ok, Waiters, Next} -> Waiters ++ waiters(Port, Next)
    end.

flush(N) ->
    receive
        {Tag, Port, FD} when is_atom(Tag), is_port(Port), is_integer(FD) -> flush(N + 1);
        {inert_poll, Key, _} when is_integer(Key) -> flush(N + 1);
        {inert_waiters, Key, Waiters, _} when is_integer(Key), is_list(Waiters) -> flush(N + 1);
        {Reference, _} when is_reference(Reference) -> flush(N + 1);
        Other -> exit({strange_message, Other})
    after 0 -> N
    end.

%%% What is asked

request() ->
    case uniform(20) of
        1 -> {uniform(21) - 1, rand:bytes(uniform(64) - 1)};
        2 -> {uniform(21) - 1, bent(data(uniform(12)))};
        3 -> {uniform(16#ffffffff) - 1, data(uniform(12))};
        4 -> {uniform(21) - 1, data(uniform(12))};
        _ -> (fun(Command) -> {Command, data(Command)} end)(uniform(12))
    end.

%% Right for the command; or nearly, in what it says.
data(4) -> [entry(), tag()];
data(6) -> [];
data(Command) when Command =:= 7; Command =:= 8; Command =:= 9 -> set();
data(10) ->
    Set = set(),
    [<<(one_of([length(Set), length(Set), length(Set), number()])):32>>, Set, tag()];
data(11) -> [<<(fd()):32>>, <<(number()):32>>];
data(12) -> <<(fd()):32>>;
data(_) -> entry().

entry() -> <<(fd()):32, (mode()):32>>.

mode() -> one_of([1, 2, 3, 1, 2, 3, 4, 8, 15, 5, number()]).

set() ->
    [entry() || _ <- lists:seq(1, one_of([0, 1, 1, 2, 2, 3, 5, 40]))].

fd() ->
    case uniform(10) of
        1 -> number();
        2 -> ?CLOSED + uniform(64);
        _ -> ?BASE + uniform(?OPEN)
    end.

%% No number of an fd that the VM may have.
number() ->
    one_of([-1, -2, -16#80000000, 16#7fffffff, 16#7ffffffe, 1 bsl 20, 1 bsl 30, 999_999]).

tag() ->
    case uniform(6) of
        1 -> bent(term_to_binary(make_ref()));
        2 -> foreign();
        3 -> term_to_binary(one_of([self(), node(), {}, <<"x">>, 1 bsl 100, [a | b]]));
        4 -> <<(number()):32>>;
        5 -> <<(uniform(16#7fffffff)):32>>;
        6 -> term_to_binary(make_ref())
    end.

%% Of another node, or of one that cannot be.
foreign() ->
    Node = one_of([<<"a@b">>, <<"nonode@nohost">>, <<"x">>, <<255, $@>>, <<>>, rand:bytes(uniform(300)), <<"n", (uniform(1_000_000)):32, "@h">>]),
    Words = one_of([1, 3, 5, 0, 6, 65535]),
    Atom =
        case uniform(3) of
            1 -> <<119, (byte_size(Node)):8, Node/binary>>;
            2 -> <<118, (byte_size(Node)):16, Node/binary>>;
            3 -> <<100, (byte_size(Node)):16, Node/binary>>
        end,
    <<131, 90, Words:16, Atom/binary, 1:32, (rand:bytes(4 * min(Words, 6)))/binary>>.

%% Some bytes changed, cut off or added.
bent(Data) ->
    Binary = iolist_to_binary(Data),
    Size = byte_size(Binary),
    At = uniform(Size + 1) - 1,
    <<Head:At/binary, Tail/binary>> = Binary,
    case uniform(4) of
        1 -> Head;
        2 -> [Head, rand:bytes(uniform(4)), Tail];
        3 when Tail =/= <<>> ->
            <<_, Rest/binary>> = Tail,
            [Head, uniform(256) - 1, Rest];
        _ -> [Binary, Head]
    end.

uniform(N) -> rand:uniform(N).

one_of(List) -> lists:nth(uniform(length(List)), List).

%%% What may be answered

class(Command, Data, Answer) ->
    case {is_request(Command, Data), Answer} of
        {false, "einval"} -> malformed;
        {false, _} -> exit({should_be_einval, Command, Data, Answer});
        {_, []} when Command =/= 3, Command =/= 6, Command =/= 9, Command =/= 12 -> done;
        {_, Binary} when is_binary(Binary), Command =:= 9 orelse Command =:= 10 ->
            is_part(Binary, asked(Command, Data)) orelse exit({not_asked_for, Command, Data, Answer}),
            ready;
        {_, Counters} when is_list(Counters), Command =:= 6, length(Counters) =:= ?INFO_BYTES -> info;
        {_, [_ | _] = Text} when Command =/= 6 -> word(Text, Command, Data);
        _ -> exit({strange_answer, Command, Data, Answer})
    end.

word(Text, Command, Data) ->
    case {string:split(Text, " "), Command} of
        {["e" ++ _ = Word], _} -> list_to_atom(Word);
        %% Of a set, with a fd of it.
        {["e" ++ _ = Word, FD], _} when Command >= 7, Command =< 10 ->
            lists:keymember(list_to_integer(FD), 1, asked(Command, Data)) orelse exit({not_asked_for, Command, Data, Text}),
            list_to_atom(Word);
        {_, 12} -> described;
        {["timeout"], 3} -> timeout;
        {["gone"], 5} -> gone;
        {[Word], _} when Command =:= 3; Command =:= 4 ->
            [{_, Mode}] = asked(Command, Data),
            Mode band bit(Word) =/= 0 orelse exit({not_asked_for, Command, Data, Text}),
            ready;
        _ ->
            exit({strange_word, Command, Data, Text})
    end.

bit("read") -> 1;
bit("write") -> 2;
bit("priority") -> 4;
bit("hangup") -> 8;
bit(_) -> 0.

%% Fds and modes of a request that is none that is malformed.
asked(10, <<Count:32, Rest/binary>>) -> entries(binary_part(Rest, 0, 8 * Count));
asked(4, <<Entry:8/binary, _/binary>>) -> entries(Entry);
asked(_Command, Set) -> entries(Set).

entries(Set) ->
    [{FD, Mode} || <<FD:32/signed, Mode:32>> <= Set].

%% What is ready is some of what was asked for, in this order, with kinds of it.
is_part(<<FD:32/signed, Mode:32, Rest/binary>>, [{FD, Asked} | Others]) when Mode > 0, Mode band Asked =:= Mode ->
    is_part(Rest, Others);
is_part(<<_:64, _/binary>> = Ready, [_ | Others]) ->
    is_part(Ready, Others);
is_part(Rest, _) ->
    Rest =:= <<>>.

%% Whether the data could be a request of this command, as driver/wire.rs has it. Of tags,
%% only the length is looked at.
is_request(Command, <<FD:32/signed, Mode:32>>) when Command =:= 1; Command =:= 2 -> is_integer(FD) andalso Mode >= 1 andalso Mode =< 3;
is_request(Command, <<_:32, Mode:32>>) when Command =:= 3; Command =:= 5 -> is_mode(Mode);
is_request(4, <<_:32, Mode:32, Tag/binary>>) -> is_mode(Mode) andalso byte_size(Tag) >= 4;
is_request(6, <<>>) -> true;
is_request(Command, Set) when Command =:= 7; Command =:= 8; Command =:= 9 -> is_set(Set);
is_request(10, <<Count:32/signed, Rest/binary>>) when Count > 0, byte_size(Rest) >= 8 * Count + 4 -> is_set(binary_part(Rest, 0, 8 * Count));
is_request(11, <<_:32, _:32>>) -> true;
is_request(12, <<_:32>>) -> true;
is_request(_, _) -> false.

is_mode(Mode) -> Mode >= 1 andalso Mode =< 15.

is_set(<<_:32, Mode:32, Rest/binary>>) -> is_mode(Mode) andalso is_set(Rest);
is_set(Rest) -> Rest =:= <<>>.

%%% What happens to the fds meanwhile

open(N) ->
    {FD, Peer} = inert_model:open(
        one_of([socket, full_socket, full_socket, pipe_reader, pipe_writer, full_pipe_writer, eventfd, full_eventfd, regular, directory])
    ),
    ok = fdio:dup2(FD, ?BASE + N),
    ok = fdio:close(FD),
    {N, Peer}.

%% The peers are in a tuple: a map of more than 32 keys that is looked up in is what a VM
%% under valgrind comes to harm by (docs/reliability.md).
chaos(Pairs, State) ->
    _ = rand:seed(State),
    {_, Peers} = lists:unzip(lists:keysort(1, Pairs)),
    chaos(list_to_tuple(Peers)).

chaos(Peers) ->
    receive
        finish ->
            [fdio:close(?BASE + N) || N <- lists:seq(1, ?OPEN)],
            [fdio:close(Peer) || Peer <- tuple_to_list(Peers), Peer =/= none],
            ok
    after 0 ->
        N = uniform(?OPEN),
        Peer = element(N, Peers),
        case uniform(12) of
            1 ->
                [fdio:close(Peer) || Peer =/= none],
                _ = fdio:close(?BASE + N),
                {N, New} = open(N),
                erlang:yield(),
                chaos(setelement(N, Peers, New));
            2 when Peer =/= none ->
                _ = fdio:close(Peer),
                chaos(setelement(N, Peers, none));
            K when Peer =/= none, K < 6 ->
                _ = fdio:write(Peer, <<"x">>),
                erlang:yield(),
                chaos(Peers);
            K when Peer =/= none, K < 8 ->
                _ = fdio:read(Peer, 65536),
                erlang:yield(),
                chaos(Peers);
            _ ->
                _ = fdio:read(?BASE + N, 65536),
                erlang:yield(),
                chaos(Peers)
        end
    end.
