%% SPDX-License-Identifier: Apache-2.0
%%
%% Real use, under load from another OS process over TCP: a process that serves hundreds of
%% fds with one poll in a loop, and a gen_server that mixes messages of fdset with calls.
%% Every byte and every request is accounted for on both sides, and all of it is bounded in
%% time.
-module(scenario_SUITE).

-export([suite/0]).
-export([all/0]).
-export([groups/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

-export([one_process_serves_200_fds_with_one_poll/1]).
-export([a_gen_server_mixes_fdset_messages_with_calls/1]).

%% The load, in the other VM
-export([load/2]).

-include_lib("stdlib/include/assert.hrl").

%% Connections at a time.
-define(CONNECTIONS, 200).

%% Each is opened so many times, one after another: the numbers of the server's fds come
%% back.
-define(SESSIONS, 3).

%% What a connection sends and gets back, in bytes; more at once than a socket takes.
-define(BLOCKS, 6).
-define(LARGEST, 20_000).

%% A byte that does not come within this time will not. In milliseconds.
-define(LOST, 60_000).

-import(inert_test, [run/1, result/1, results/1, close/1, no_message/0]).

suite() ->
    inert_test:suite().

all() ->
    inert_test:per_pollset(topics()).

groups() ->
    inert_test:groups_per_pollset(topics()).

topics() ->
    [
        {scenarios, [
            one_process_serves_200_fds_with_one_poll,
            a_gen_server_mixes_fdset_messages_with_calls
        ]}
    ].

init_per_suite(Config) ->
    _ = code:ensure_modules_loaded([scenario_server, rand, gen_server]),
    Peer = inert_test:start_peer([]),
    [{peer, Peer} | inert_test:init_per_suite(Config)].

end_per_suite(Config) ->
    inert_test:end_per_suite(Config),
    peer:stop(proplists:get_value(peer, Config)).

init_per_group(Group, Config) ->
    inert_test:init_per_group(Group, Config).

end_per_group(Group, Config) ->
    inert_test:end_per_group(Group, Config).

init_per_testcase(_Case, Config) ->
    inert_test:init_per_testcase(Config).

end_per_testcase(_Case, Config) ->
    ok = inert:stop(),
    inert_test:end_per_testcase(Config).

%% What the load has sent, and got back as it was.
expected() ->
    Sizes = [size_of(C, S, B) || C <- numbers(), S <- lists:seq(1, ?SESSIONS), B <- lists:seq(1, ?BLOCKS)],
    lists:sum(Sizes).

numbers() ->
    lists:seq(1, ?CONNECTIONS).

one_process_serves_200_fds_with_one_poll(Config) ->
    ok = inert:start(),
    {ok, Stop} = fdio:eventfd(),
    Parent = self(),
    Server = run(fun() -> scenario_server:run(inert, Stop, Parent) end),
    Number =
        receive
            {Server, listening, Listening} -> Listening
        end,
    Bytes = expected(),
    ?assertEqual({ok, Bytes}, loaded(Config, Number)),
    {ok, 8} = fdio:write(Stop, <<1:64/native>>),
    Counts = result(Server),
    ct:log("~p", [{Counts, inert:info()}]),
    Sessions = ?CONNECTIONS * ?SESSIONS,
    ?assertMatch(
        #{in := Bytes, out := Bytes, accepted := Sessions, ended := Sessions, left := 0}, Counts
    ),
    %% All were open at the same time, and one poll told of several.
    ?assertMatch(#{most_open := ?CONNECTIONS}, Counts),
    ?assert(maps:get(most_ready, Counts) > 1),
    %% Some have waited for room.
    ?assert(maps:get(write, Counts) > 0),
    ?assertMatch(#{armed := 0, fds := 0, polls := 0}, inert:info()),
    close(Stop),
    no_message().

a_gen_server_mixes_fdset_messages_with_calls(Config) ->
    {ok, Server} = scenario_server:start_link(inert_test:options(Config)),
    Callers = [run(fun() -> calls(Server, 0, 0) end) || _ <- lists:seq(1, 10)],
    Bytes = expected(),
    Load = loaded(Config, scenario_server:address(Server)),
    [Caller ! {stop, self()} || Caller <- Callers],
    Added = results(Callers),
    ?assertEqual({ok, Bytes}, Load),
    Counts = scenario_server:stop(Server),
    ct:log("~p", [Counts]),
    {Calls, Sum} = {lists:sum([C || {C, _} <- Added]), lists:sum([S || {_, S} <- Added])},
    Sessions = ?CONNECTIONS * ?SESSIONS,
    ?assertMatch(
        #{
            in := Bytes,
            out := Bytes,
            accepted := Sessions,
            ended := Sessions,
            left := 0,
            calls := Calls,
            sum := Sum,
            %% The listening socket, and nothing of those that are closed.
            armed := 1
        },
        Counts
    ),
    %% Some connections have waited for room.
    ?assert(maps:get(write, Counts) > 0),
    %% None of the callers was kept out by the load.
    ?assertEqual([], [Count || {Count, _} <- Added, Count < 10]),
    no_message().

%% Calls as fast as it is answered. The sums of all callers only grow.
calls(Server, Count, Sum) ->
    receive
        {stop, _} -> {Count, Sum}
    after 0 ->
        Number = 1 + Count rem 100,
        After = scenario_server:add(Server, Number),
        true = After >= Sum + Number,
        calls(Server, Count + 1, Sum + Number)
    end.

%% Runs the load in the other VM.
loaded(Config, Number) ->
    Size = {?CONNECTIONS, ?SESSIONS, ?BLOCKS},
    peer:call(proplists:get_value(peer, Config), ?MODULE, load, [Number, Size], 2 * ?LOST).

%%% The load

%% Opens all connections, then has all send and receive at the same time, and again. What
%% comes back must be what was sent, all of it, and then the end.
load(Number, {Connections, Sessions, Blocks}) ->
    Main = self(),
    Clients = [
        spawn_monitor(fun() ->
            Bytes = lists:sum([session(Number, C, S, Blocks, Main) || S <- lists:seq(1, Sessions)]),
            exit({done, Bytes})
        end)
     || C <- lists:seq(1, Connections)
    ],
    [go_together(Clients) || _ <- lists:seq(1, Sessions)],
    Ends = [
        receive
            {'DOWN', Monitor, process, Pid, End} -> End
        after ?LOST -> silent
        end
     || {Pid, Monitor} <- Clients
    ],
    case [End || End <- Ends, element(1, End) =/= done] of
        [] -> {ok, lists:sum([Bytes || {done, Bytes} <- Ends])};
        Failed -> {error, lists:usort(Failed)}
    end.

%% When the last one is connected.
go_together(Clients) ->
    [
        receive
            {Pid, connected} -> ok;
            {'DOWN', Monitor, process, Pid, _} = Down -> self() ! Down
        after ?LOST -> ok
        end
     || {Pid, Monitor} <- Clients
    ],
    [Pid ! go || {Pid, _} <- Clients].

session(Number, C, S, Blocks, Main) ->
    %% With little room for what comes, so that the server has to wait, too.
    Options = [binary, {active, false}, {nodelay, true}, {recbuf, 4096}],
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Number, Options, ?LOST),
    Main ! {self(), connected},
    receive
        go -> ok
    end,
    Sizes = [size_of(C, S, B) || B <- lists:seq(1, Blocks)],
    Sender = spawn_link(fun() ->
        [ok = gen_tcp:send(Socket, block(C, S, B)) || B <- lists:seq(1, Blocks)],
        ok = gen_tcp:shutdown(Socket, write)
    end),
    Monitor = monitor(process, Sender),
    [
        begin
            {ok, Data} = gen_tcp:recv(Socket, Size, ?LOST),
            {B, true} = {B, Data =:= block(C, S, B)}
        end
     || {B, Size} <- lists:zip(lists:seq(1, Blocks), Sizes)
    ],
    {error, closed} = gen_tcp:recv(Socket, 0, ?LOST),
    receive
        {'DOWN', Monitor, process, Sender, normal} -> ok
    end,
    ok = gen_tcp:close(Socket),
    lists:sum(Sizes).

%% From one byte on: small ones are as common as large ones. Known to both sides.
size_of(C, S, B) ->
    case erlang:phash2({C, S, B}, 3) of
        0 -> 1 + erlang:phash2({C, S, B, small}, 64);
        1 -> 1 + erlang:phash2({C, S, B, medium}, 2_000);
        2 -> 1 + erlang:phash2({C, S, B, large}, ?LARGEST)
    end.

block(C, S, B) ->
    Size = size_of(C, S, B),
    {Bytes, _} = rand:bytes_s(Size, rand:seed_s(exsss, {C, S, B})),
    Bytes.
