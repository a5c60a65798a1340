%% SPDX-License-Identifier: Apache-2.0

%% @doc The benchmark's conductor: `bench/run' calls it. It measures and writes the numbers down;
%% what they mean, targets included, is bench/report's to say.
%%
%% Peers take turns: round by round, and within a round point by point, every peer is measured in a
%% VM of its own. A machine that gets slower for a while makes a round slower, and leaves the
%% ratios within it alone.
-module(bench).

-export([main/0]).
-export([serve/0]).

-type point() :: non_neg_integer().
%% The number that a case varies: pairs, connections, messages, ...

-record(peer, {
    name :: atom(),
    title :: binary(),
    %% An inert has a pollset, and is left out where that is missing.
    pollset :: atom(),
    waiter :: bench_waiter:waiter() | undefined,
    server :: {module(), term()} | rust | undefined
}).

-record(plan, {
    mode :: quick | full,
    rounds :: pos_integer(),
    cases :: [atom()],
    peers :: [#peer{}],
    %% Of the rounds' parts that a program cannot take apart: a quick run measures shorter.
    warmup_ms :: pos_integer(),
    measure_ms :: pos_integer(),
    load_ms :: pos_integer(),
    trials :: pos_integer()
}).

-record(step, {name :: atom(), point :: point(), peer :: #peer{}, round :: pos_integer()}).

-define(CALL_MS, 60_000).

%% Longer than bench/syscalls.sh counts.
-define(SERVE_MS, 60_000).

%% The VM's own files, and some more.
-define(SPARE_FDS, 100).

%% @doc Arguments, after `-extra': `quick' or `full', the file to write, and perhaps `rounds=N',
%% `cases=a,b', `peers=inert_epoll,socket' to do a part only.
-spec main() -> no_return().
main() ->
    try
        [Mode, File | Options] = init:get_plain_arguments(),
        Plan = lists:foldl(fun option/2, plan(list_to_atom(Mode)), Options),
        halt(conduct(File, Plan), [{flush, true}])
    catch
        Class:Reason:Stack ->
            say("~ts~n", [erl_error:format_exception(Class, Reason, Stack)]),
            halt(1, [{flush, true}])
    end.

%% @doc For bench/syscalls.sh. Arguments, after `-extra': a peer, whose server is started, and a file
%% that gets the port and the VM's process id. Ends after a minute.
-spec serve() -> no_return().
serve() ->
    {ok, _} = timer:apply_after(?SERVE_MS, erlang, halt, [0]),
    [Name, File] = init:get_plain_arguments(),
    [#peer{server = {Module, Argument}} = Peer] = named(Name),
    is_present(Peer) orelse halt(1),
    {ok, Port} = Module:listen(Argument),
    ok = file:write_file(File, io_lib:format("~b ~s~n", [Port, os:getpid()])),
    receive
        never -> halt(0)
    end.

plan(full) ->
    #plan{
        mode = full,
        rounds = 5,
        cases = cases(),
        peers = peers(),
        warmup_ms = 200,
        measure_ms = 400,
        load_ms = 800,
        trials = 300
    };
plan(quick) ->
    Leave = [gen_tcp_once, fd_port],
    #plan{
        mode = quick,
        rounds = 1,
        cases = cases(),
        peers = [Peer || Peer <- peers(), not lists:member(Peer#peer.name, Leave)],
        warmup_ms = 100,
        measure_ms = 250,
        load_ms = 600,
        trials = 100
    }.

option("rounds=" ++ Rounds, Plan) ->
    Plan#plan{rounds = list_to_integer(Rounds)};
option("cases=" ++ Names, Plan) ->
    Plan#plan{cases = chosen(Names, cases())};
option("peers=" ++ Names, Plan) ->
    Plan#plan{peers = named(Names)};
option(Other, _Plan) ->
    error({unknown_option, Other, "rounds=N, cases=a,b,..., peers=inert_epoll,..."}).

named(Names) ->
    Chosen = chosen(Names, [Peer#peer.name || Peer <- peers()]),
    [Peer || Peer <- peers(), lists:member(Peer#peer.name, Chosen)].

chosen(Names, Known) ->
    Chosen = [list_to_atom(Name) || Name <- string:lexemes(Names, ",")],
    case Chosen -- Known of
        [] -> Chosen;
        Unknown -> error({unknown, Unknown, {known, Known}})
    end.

peers() ->
    [
        #peer{
            name = inert_epoll,
            title = <<"inert epoll">>,
            pollset = epoll,
            waiter = {bench_inert, epoll},
            server = {bench_raw, {bench_inert, epoll}}
        },
        #peer{
            name = inert_erts,
            title = <<"inert erts">>,
            pollset = erts,
            waiter = {bench_inert, erts},
            server = {bench_raw, {bench_inert, erts}}
        },
        #peer{
            name = enif_select,
            title = <<"enif_select">>,
            waiter = {bench_select, none},
            server = {bench_raw, {bench_select, none}}
        },
        #peer{name = gen_tcp_passive, title = <<"gen_tcp passive">>, server = {bench_gen_tcp, false}},
        #peer{name = gen_tcp_once, title = <<"gen_tcp {active, once}">>, server = {bench_gen_tcp, once}},
        #peer{name = gen_tcp_active, title = <<"gen_tcp {active, true}">>, server = {bench_gen_tcp, true}},
        #peer{name = socket, title = <<"socket">>, server = {bench_socket, none}},
        #peer{name = fd_port, title = <<"open_port {fd, _, _}">>, server = {bench_fd_port, none}},
        #peer{name = rust, title = <<"Rust epoll (limit)">>, server = rust}
    ].

cases() ->
    [a, b, c, d, e, f, g].

-spec points(atom()) -> [point()].
points(a) -> [0];
points(b) -> [1, 10, 100, 1000];
points(c) -> [1, 10, 100, 1000, 4000];
points(d) -> [0, 1000, 8000];
points(e) -> [0, 10_000, 100_000];
points(f) -> [0, 2, 4, 8];
points(g) -> [0, 8000].

%% How many fds one process needs for a point.
fds(b, Pairs) -> 2 * Pairs;
fds(c, Connections) -> Connections;
fds(d, Idle) -> Idle;
fds(g, Armed) -> Armed;
fds(_, _) -> 0.

takes_part(Name, #peer{pollset = Pollset}) when Name =:= a; Name =:= g -> Pollset =/= undefined;
takes_part(c, #peer{server = Server}) -> Server =/= undefined;
takes_part(_, #peer{waiter = Waiter}) -> Waiter =/= undefined.

%% What one step does, and which numbers say it shortly.
measure(#step{name = a, peer = #peer{pollset = Pollset}}, Plan) ->
    call(bench_calls, #{pollset => Pollset, measure_ms => Plan#plan.measure_ms});
measure(#step{name = b, point = Pairs} = Step, Plan) ->
    ping_pong(Step, #{pairs => Pairs}, Plan);
measure(#step{name = c, point = Connections, peer = #peer{server = Server}}, Plan) ->
    Load = #{
        connections => Connections,
        warmup_ms => Plan#plan.warmup_ms,
        measure_ms => Plan#plan.load_ms
    },
    case Server of
        rust -> bench_vm:rust_under_load(Load);
        _ -> bench_vm:under_load(Server, Load)
    end;
measure(#step{name = d, point = Idle} = Step, Plan) ->
    ping_pong(Step, #{idle => Idle}, Plan);
measure(#step{name = e, point = Mailbox} = Step, Plan) ->
    ping_pong(Step, #{mailbox => Mailbox}, Plan);
measure(#step{name = f, point = Spinners} = Step, Plan) ->
    ping_pong(Step, #{spinners => Spinners}, Plan);
measure(#step{name = g, point = Others, peer = #peer{pollset = Pollset}}, Plan) ->
    call(bench_exit, #{pollset => Pollset, others => Others, trials => Plan#plan.trials}).

ping_pong(#step{peer = #peer{waiter = Waiter}}, Options, Plan) ->
    call(bench_pingpong, Options#{
        waiter => Waiter,
        warmup_ms => Plan#plan.warmup_ms,
        measure_ms => Plan#plan.measure_ms
    }).

call(Module, Options) ->
    bench_vm:call(Module, run, [Options], ?CALL_MS).

brief(#step{name = a}, #{empty_ns := Empty, poll_ns := Poll, pair_ns := Pair}) ->
    io_lib:format("empty ~b ns  poll ~b ns  fdset+fdclr ~b ns", [round(N) || N <- [Empty, Poll, Pair]]);
brief(#step{name = c}, #{rps := Rps, p50 := P50, p99 := P99}) ->
    io_lib:format("~6b requests/s  p50 ~b us  p99 ~b us", [round(N) || N <- [Rps, P50, P99]]);
brief(#step{name = f}, #{p50 := P50}) ->
    io_lib:format("p50 ~.1f us", [P50]);
brief(#step{name = g}, #{p50 := P50}) ->
    io_lib:format("p50 ~.1f us", [P50]);
brief(_, #{us := Time, system_bytes := Bytes}) ->
    io_lib:format("~.1f us a round trip  ~b bytes an armed fd", [Time, round(Bytes)]);
brief(_, #{us := Time}) ->
    io_lib:format("~.1f us a round trip", [Time]).

unit(a) -> "calls";
unit(b) -> "pairs";
unit(c) -> "connections";
unit(d) -> "idle fds";
unit(e) -> "messages";
unit(f) -> "busy processes";
unit(g) -> "others' fds".

%%% A run

conduct(File, #plan{peers = Peers} = Plan) ->
    {Present, Absent} = lists:partition(fun is_present/1, Peers),
    NotThere = [
        skipped(["the pollset is not there: {pollset, ", atom_to_list(P), "} is refused"], T)
     || #peer{pollset = P, title = T} <- Absent
    ],
    {Steps, TooMany} = steps(Plan#plan{peers = Present}),
    Skipped = NotThere ++ TooMany,
    _ = [say("skipped: ~ts~n", [Text]) || Text <- Skipped],
    Began = erlang:monotonic_time(millisecond),
    Results = run(Steps, 1, length(Steps), Began, Plan),
    Results1 = [Result || Result <- Results, not is_map_key(failed, Result)],
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, [
        bench_json:encode(#{
            mode => Plan#plan.mode,
            rounds => Plan#plan.rounds,
            machine => machine(),
            peers => [#{name => P#peer.name, title => P#peer.title} || P <- Present],
            skipped => Skipped ++ [Text || #{failed := Text} <- Results],
            results => Results1
        }),
        "\n"
    ]),
    say("wrote ~ts~n", [File]),
    min(1, length(Results) - length(Results1)).

is_present(#peer{pollset = undefined}) -> true;
is_present(#peer{pollset = Pollset}) -> bench_inert:available(Pollset).

steps(#plan{rounds = Rounds, cases = Cases, peers = Peers}) ->
    Limit = fdio:max_fds() - ?SPARE_FDS,
    TooMany = [
        skipped(["the limit on open files, ulimit -n, is below ", integer_to_list(fds(Name, Point))], [
            "case ", atom_to_list(Name), " with ", integer_to_list(Point), " ", unit(Name)
        ])
     || Name <- Cases, Point <- points(Name), fds(Name, Point) > Limit
    ],
    Steps = [
        #step{name = Name, point = Point, peer = Peer, round = Round}
     || Round <- lists:seq(1, Rounds),
        Name <- Cases,
        Point <- points(Name),
        fds(Name, Point) =< Limit,
        Peer <- Peers,
        takes_part(Name, Peer)
    ],
    {Steps, TooMany}.

skipped(Why, What) ->
    unicode:characters_to_binary([What, ": ", Why]).

run([], _Number, _Count, _Began, _Plan) ->
    [];
run([Step | Steps], Number, Count, Began, Plan) ->
    #step{name = Name, point = Point, peer = #peer{name = Peer, title = Title}, round = Round} = Step,
    Key = #{'case' => Name, x => Point, peer => Peer, round => Round},
    {Result, Text} =
        try measure(Step, Plan) of
            Numbers -> {maps:merge(Numbers, Key), brief(Step, Numbers)}
        catch
            Class:Reason:Stack ->
                Why = io_lib:format("failed: ~0tp", [{Class, Reason, Stack}]),
                What = [atom_to_list(Name), " ", integer_to_list(Point), " ", Title],
                {Key#{failed => skipped(Why, What)}, Why}
        end,
    Elapsed = (erlang:monotonic_time(millisecond) - Began) div 1000,
    say("~4b/~b ~3b:~2..0b  ~s ~6b ~-14s ~-22ts ~ts~n", [
        Number, Count, Elapsed div 60, Elapsed rem 60, Name, Point, unit(Name), Title, Text
    ]),
    [Result | run(Steps, Number + 1, Count, Began, Plan)].

machine() ->
    #{
        cpu => cpu_model(),
        cores => erlang:system_info(logical_processors_available),
        kernel => command("uname -sr"),
        otp => list_to_binary(erlang:system_info(otp_release)),
        erts => list_to_binary(erlang:system_info(version)),
        emulator => erlang:system_info(emu_flavor),
        rust => command("rustc --version"),
        commit => command("git describe --always --dirty --abbrev=12"),
        date => list_to_binary(calendar:system_time_to_rfc3339(erlang:system_time(second), [{offset, "Z"}]))
    }.

cpu_model() ->
    case file:read_file("/proc/cpuinfo") of
        {ok, Text} ->
            case re:run(Text, "model name\\s*: (.*)", [{capture, all_but_first, binary}]) of
                {match, [Model]} -> Model;
                nomatch -> <<"unknown">>
            end;
        {error, _} ->
            <<"unknown">>
    end.

command(Command) ->
    unicode:characters_to_binary(string:trim(os:cmd(Command ++ " 2>/dev/null"))).

say(Format, Arguments) ->
    io:format(Format, Arguments).
