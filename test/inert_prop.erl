%% SPDX-License-Identifier: Apache-2.0
%%
%% The properties, with PropEr (Debian: erlang-proper), and how to run one by hand:
%%
%%     inert_prop:check(commands, epoll, 1000).
%%     inert_prop:replay(commands, epoll, [{fdset, service, 1, 1, read}, ...]).
%%
%% A failure is shrunk and printed as such a replay.
%%
%% With PROP_STRICT=1 in the environment they also fail of what ERTS logs: see
%% is_let_pass/2.
-module(inert_prop).

-export([check/3]).
-export([replay/3]).
-export([judge/2]).

-export_type([property/0]).

-type property() :: commands | programs.
%% commands: one after the other, against an exact model (inert_model). programs:
%% at the same time, against what holds whatever the order (inert_race).
-type pollset() :: epoll | erts.

%% How long a failure is being shrunk, unless PROP_SHRINK_MS is in the environment.
-define(SHRINK_MS, "60000").
-define(SHRINKS, 2_000).

%% Commands of a sequence, at most.
-define(LENGTH, 80).

%% Runs so many sequences. Returns what was done in them.
-spec check(property(), pollset(), pos_integer()) ->
    {ok, #{atom() => non_neg_integer()}} | {failed, Replay :: string(), term()}.
check(Property, Pollset, Sequences) ->
    case whereis(inert_test_log) of
        undefined ->
            Config = inert_test:init_per_suite([]),
            try
                check_logged(Property, Pollset, Sequences)
            after
                inert_test:end_per_suite(Config)
            end;
        _ ->
            check_logged(Property, Pollset, Sequences)
    end.

check_logged(Property, Pollset, Sequences) ->
    _ = inert_test:logged(),
    Table = ets:new(?MODULE, [public]),
    Property1 = proper:forall(type(Property), fun(Sequence) ->
        case ets:lookup(Table, deadline) of
            [] -> tried(Table, Sequence, run(Property, Pollset, Sequence));
            %% The time for shrinking is over: what failed last is it.
            [{deadline, Deadline}] ->
                erlang:monotonic_time(millisecond) > Deadline orelse
                    tried(Table, Sequence, run(Property, Pollset, Sequence))
        end
    end),
    _ = persistent_term:put({inert_model, shrinking}, false),
    Result =
        try
            proper:quickcheck(Property1, [{numtests, Sequences}, {max_shrinks, ?SHRINKS}, quiet, {start_size, ?LENGTH}, {max_size, ?LENGTH}])
        after
            _ = persistent_term:erase({inert_model, shrinking})
        end,
    Counts = maps:from_list([{Key, N} || {{count, Key}, N} <- ets:tab2list(Table)]),
    Failed = ets:lookup(Table, failed),
    true = ets:delete(Table),
    case {Result, Failed} of
        {true, _} -> {ok, Counts};
        {_, [{failed, Sequence, Why}]} ->
            Replay = lists:flatten(io_lib:format("inert_prop:replay(~p, ~p, ~w).", [Property, Pollset, Sequence])),
            {failed, Replay, {Why, {after_sequences, maps:get(sequences, Counts, 0)}}};
        {Error, []} -> {failed, "", Error}
    end.

tried(Table, _Sequence, {ok, Done}) ->
    ets:member(Table, deadline) orelse
        maps:foreach(fun(Key, N) -> ets:update_counter(Table, {count, Key}, N, {{count, Key}, 0}) end, Done#{sequences => 1}),
    true;
tried(Table, Sequence, {failed, Why}) ->
    ets:insert_new(Table, {deadline, erlang:monotonic_time(millisecond) + shrink_ms()}) andalso
        begin
            %% What was found first may be what is needed, if it is one of timing.
            io:format(user, "found, shrinking: ~w~n~tp~n", [Sequence, Why]),
            persistent_term:put({inert_model, shrinking}, true)
        end,
    true = ets:insert(Table, {failed, Sequence, Why}),
    false.

shrink_ms() ->
    list_to_integer(os:getenv("PROP_SHRINK_MS", ?SHRINK_MS)).

%% Runs one sequence, as a failure prints it.
-spec replay(property(), pollset(), [term()]) -> {ok, #{atom() => non_neg_integer()}} | {failed, term()}.
replay(Property, Pollset, Sequence) ->
    run(Property, Pollset, Sequence).

run(Property, Pollset, Sequence) ->
    Result =
        case Property of
            commands -> inert_model:run(Pollset, Sequence);
            programs -> inert_race:run(Pollset, Sequence)
        end,
    case whereis(inert_test_log) of
        undefined -> Result;
        _ -> judge(Pollset, Result)
    end.

%% A result and what has been logged since the last call. What passes with it is counted.
-spec judge(pollset(), Result) -> Result | {failed, {logged, [term()]}} when
    Result :: {ok, #{atom() => term()}} | {failed, term()}.
judge(Pollset, {ok, Counts}) ->
    case logged(Pollset) of
        {0, []} -> {ok, Counts};
        {Passed, []} -> {ok, Counts#{logged => Passed}};
        {_, Logged} -> {failed, {logged, Logged}}
    end;
judge(Pollset, {failed, _} = Failed) ->
    %% What is logged of a failure is not the next one's, least of all while one is shrunk.
    _ = logged(Pollset),
    Failed.

%% What has been logged since the last call: how much that is let pass, and the rest.
logged(Pollset) ->
    {Passed, Rest} = lists:partition(fun(Event) -> is_let_pass(Event, Pollset) end, inert_test:logged()),
    {length(Passed), Rest}.

%% On the pollset erts it is ERTS that watches the number, and it complains if that is
%% closed just when it would change what it watches, or while the file is open under
%% another number.
is_let_pass({error, {"~s~n", ["Bad " ++ _ = Text]}}, erts) ->
    string:find(Text, "fd in erts_poll()!") =/= nomatch andalso
        not inert_model:is_strict();
is_let_pass(_Event, _Pollset) ->
    false.

%%% Generators

type(commands) ->
    proper_types:resize(?LENGTH, proper_types:list(command()));
type(programs) ->
    proper_types:resize(?LENGTH, proper_types:list(program_step())).

command() ->
    proper_types:frequency([
        {10, tuple([fdset, port_name(), worker(), number_(), any_mode()])},
        {9, tuple([poll, port_name(), worker(), number_(), any_mode(), timeout_()])},
        {4, tuple([fdclr, port_name(), anybody(), number_(), any_mode()])},
        {3, tuple([fdset_all, port_name(), worker(), entries()])},
        {5, tuple([poll_all, port_name(), worker(), entries(), timeout_()])},
        {1, tuple([fdclr_all, port_name(), anybody(), entries()])},
        {10, tuple([one_of([feed, drain, fill, empty]), number_()])},
        {1, tuple([hang, number_()])},
        {4, tuple([open, number_(), kind()])},
        {3, tuple([dup, number_(), number_()])},
        {1, tuple([come_back, port_name(), number_(), number_(), [silent(), silent()], [tuple([worker(), mode()]) || _ <- [1, 2, 3]]])},
        {2, tuple([close, number_()])},
        {2, tuple([kill, worker()])},
        {1, tuple([junk, worker(), one_of([1, 40])])},
        {3, tuple([start, port_name(), worker()])},
        {1, tuple([stop, port_name(), anybody()])},
        {2, tuple([give, port_name(), worker(), worker()])},
        {1, tuple([bad, worker(), port_name(), one_of([negative, huge, large, clear, mode, poll_mode, empty_set, fd, timeout])])}
    ]).

program_step() ->
    proper_types:frequency([
        {3, tuple([one_of(inert_race:workers()), operation()])},
        {1, tuple([world, deed()])}
    ]).

operation() ->
    proper_types:frequency([
        {6, tuple([poll, one_of([stable, stable, service]), one_of([read, write]), one_of([0, 1, 1, 2, 60_000, infinity]), delay()])},
        {3, tuple([fdset, mode(), delay()])},
        {3, tuple([fdset_fdclr, mode(), delay(), delay()])},
        {2, tuple([fdset_poll, mode(), delay()])},
        {2, tuple([many, one_of([1, 60_000, infinity]), delay()])},
        {2, tuple([shared, one_of([poll_all, poll_all, fdset_all, fdclr_all]), shared_set(), one_of([0, 1, infinity])])},
        {2, tuple([killed, one_of([poll, fdset]), delay(), delay()])},
        {3, tuple([shared, one_of([fdset, fdset, fdclr]), shared(), mode()])},
        {4, tuple([shared, poll, shared(), mode(), one_of([0, 1, infinity])])},
        {1, stop},
        {2, start}
    ]).

deed() ->
    proper_types:frequency([
        {6, tuple([one_of([feed, drain, fill, empty]), shared()])},
        {1, tuple([one_of([hang, close]), shared()])},
        {3, tuple([open, shared(), kind()])},
        {2, tuple([dup, shared(), shared()])},
        {1, give}
    ]).

delay() -> one_of([0, 1, 3, 10, 30, 100]).

%% Each once, and at least one.
shared_set() ->
    proper_types:bind(
        proper_types:non_empty(proper_types:list(tuple([shared(), mode()]))),
        fun(Set) -> proper_types:exactly(lists:ukeysort(1, Set)) end,
        false
    ).

shared() -> one_of(inert_race:shared()).

tuple(Fields) -> proper_types:tuple([field(Field) || Field <- Fields]).

field(Field) when is_atom(Field) -> proper_types:exactly(Field);
field(Type) -> Type.

one_of(Values) -> proper_types:oneof([proper_types:exactly(Value) || Value <- Values]).

port_name() -> proper_types:frequency([{3, service}, {1, own}]).

worker() -> one_of(inert_model:workers()).

anybody() -> one_of([runner | inert_model:workers()]).

%% The first ones more often, so that they meet.
number_() -> proper_types:frequency([{6 - N, proper_types:exactly(N)} || N <- inert_model:numbers()]).

mode() -> one_of([read, write, read_write]).

%% Files that are not ready for everything.
silent() -> one_of([full_socket, pipe_reader, full_pipe_writer]).

%% All of them more seldom: the pollset erts has only two, and says so.
any_mode() ->
    proper_types:frequency([
        {8, mode()},
        {1, one_of([priority, hangup, [read, hangup], [write, priority], [hangup, write, read], [read, write, priority, hangup]])}
    ]).

entries() -> proper_types:resize(4, proper_types:list(tuple([number_(), any_mode()]))).

timeout_() -> one_of([0, 1, 60_000, infinity, infinity]).

kind() ->
    one_of([
        socket, full_socket, full_socket, pipe_reader, pipe_reader, pipe_writer, full_pipe_writer, eventfd, eventfd, full_eventfd,
        regular, directory
    ]).
