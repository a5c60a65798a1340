%% SPDX-License-Identifier: Apache-2.0
%%
%% The property tests and the fuzzing, in turn and on both pollsets, in one VM for as
%% long as one likes: what grows a little with each of them is seen then.
-module(inert_soak).

-export([main/1]).

%% One turn of one pollset: some seconds.
-define(SEQUENCES, 500).
-define(PROGRAMS, 200).
-define(CALLS, 100_000).

%% So many sequences and programs a minute at least, on each pollset, up to so many:
%% where the machine is slower than that, it takes longer than was asked for.
-define(PER_MINUTE, 500).
-define(ENOUGH, 10_000).

%% The VM itself takes and gives back this much between two looks.
-define(MEMORY_SLACK, 4 * 1024 * 1024).

-define(PROGRESS_MS, 30_000).

%% main([Minutes, FileOfTheReport, Commit]). Ends the VM: with 0 if nothing failed.
-spec main([string()]) -> no_return().
main([Minutes, File, Commit]) ->
    {ok, _} = application:ensure_all_started(proper),
    Config = inert_test:init_per_suite([]),
    Began = erlang:monotonic_time(millisecond),
    S0 = #{
        commit => Commit,
        wanted => min(?ENOUGH, round(list_to_float_or_integer(Minutes) * ?PER_MINUTE)),
        deadline => Began + round(list_to_float_or_integer(Minutes) * 60_000),
        began => Began,
        progress => Began,
        at => calendar:universal_time(),
        turns => 0,
        counts => #{},
        samples => [],
        failure => none
    },
    %% What is loaded or made once is, before anything is measured.
    S1 = S0#{counts := #{}, samples := []},
    S2 =
        case turn(S1) of
            #{failure := none} = Warm -> soak(sample(Warm#{counts := #{}, turns := 0}));
            Failed -> Failed
        end,
    S3 = judge(S2),
    Report = report(S3),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, unicode:characters_to_binary(Report)),
    io:format("~n~ts~nWritten to ~ts.~n", [Report, File]),
    _ = inert_test:end_per_suite(Config),
    halt(
        case S3 of
            #{failure := none} -> 0;
            _ -> 1
        end,
        [{flush, true}]
    ).

list_to_float_or_integer(Text) ->
    try list_to_integer(Text)
    catch
        error:badarg -> list_to_float(Text)
    end.

soak(#{deadline := Deadline, failure := none} = S) ->
    case erlang:monotonic_time(millisecond) < Deadline orelse not has_enough(S) of
        true -> soak(progress(sample(turn(S))));
        false -> S
    end;
soak(S) ->
    S.

has_enough(#{wanted := Wanted} = S) ->
    lists:all(
        fun({Pollset, What}) -> total(Pollset, What, [sequences], S) >= Wanted end,
        [{Pollset, What} || Pollset <- inert_test:pollsets(), What <- [commands, programs]]
    ).

%% Everything once, on each pollset.
turn(#{turns := Turns} = S) ->
    Parts = [
        {Pollset, What}
     || Pollset <- inert_test:pollsets(), What <- [{commands, ?SEQUENCES}, {programs, ?PROGRAMS}, {calls, ?CALLS}]
    ],
    lists:foldl(fun part/2, S#{turns := Turns + 1}, Parts).

part({Pollset, {What, N}}, #{failure := none, counts := Counts} = S) ->
    Result =
        case What of
            calls -> inert_fuzz:run(Pollset, N);
            _ -> inert_prop:check(What, Pollset, N)
        end,
    case {Result, inert_test:inert_ports()} of
        {{ok, Done}, []} ->
            Known = maps:get({Pollset, What}, Counts, #{}),
            S#{counts := Counts#{{Pollset, What} => maps:fold(fun add/3, Known, Done)}};
        {{ok, _}, Ports} ->
            S#{failure := {left, Pollset, What, {ports, Ports}}};
        {Failed, _} ->
            S#{failure := {Pollset, What, Failed}}
    end;
part(_, S) ->
    S.

%% What says something of one run only.
add(Key, _, All) when Key =:= seed; Key =:= memory; Key =:= atoms -> All;
add(Key, N, All) -> maps:update_with(Key, fun(V) -> V + N end, N, All).

%%% Memory and fds

sample(#{samples := Samples} = S) ->
    [garbage_collect(Pid) || Pid <- processes()],
    Sample = #{
        memory => erlang:memory(total),
        system => erlang:memory(system),
        atoms => erlang:system_info(atom_count),
        processes => erlang:system_info(process_count),
        rss => rss(),
        fds => length(inert_test:fds())
    },
    S#{samples := [Sample | Samples]}.

%% In bytes, of proc(5).
rss() ->
    {ok, Statm} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = string:lexemes(Statm, " "),
    binary_to_integer(Pages) * 4096.

judge(#{failure := none, samples := Samples} = S) ->
    {First, Last} = {lists:last(Samples), hd(Samples)},
    Grown = [
        {Key, maps:get(Key, First), maps:get(Key, Last)}
     || {Key, Slack} <- [{memory, ?MEMORY_SLACK}, {fds, 0}, {processes, 2}],
        maps:get(Key, Last) - maps:get(Key, First) > Slack
    ],
    case Grown of
        [] -> S;
        _ -> S#{failure := {grown, Grown}}
    end;
judge(S) ->
    S.

%%% What it says

progress(#{progress := Then, began := Began, deadline := Deadline, samples := [Sample | _]} = S) ->
    Now = erlang:monotonic_time(millisecond),
    case Now - Then > ?PROGRESS_MS of
        true ->
            io:format("~5b of ~b s: ~s sequences, ~s programs, ~s calls; ~.1f MB, ~b fds~n", [
                (Now - Began) div 1000,
                (Deadline - Began) div 1000,
                number(total(commands, [sequences], S)),
                number(total(programs, [sequences], S)),
                number(total(calls, [calls], S)),
                maps:get(memory, Sample) / 1.0e6,
                maps:get(fds, Sample)
            ]),
            S#{progress := Now};
        false ->
            S
    end.

total(What, Keys, S) ->
    lists:sum([total(Pollset, What, Keys, S) || Pollset <- inert_test:pollsets()]).

total(Pollset, What, Keys, #{counts := Counts}) ->
    Some = maps:get({Pollset, What}, Counts, #{}),
    lists:sum([maps:get(Key, Some, 0) || Key <- Keys]).

-define(COMMANDS, [
    fdset, poll, fdclr, feed, drain, fill, empty, hang, close, open, dup, kill, junk, start, stop, give, bad,
    fdset_all, poll_all, fdclr_all
]).
-define(STEPS, [
    fdset, poll, fdset_fdclr, fdset_poll, many, killed, shared, feed, drain, fill, empty, hang, close, open, dup, start, stop, give
]).

-define(FAULTS, [kill, killed, lives, close, open, dup, hang, stop, bad, malformed]).

rows() ->
    [
        {"Command sequences against the exact model", commands, [sequences]},
        {"commands in them", commands, ?COMMANDS},
        {"waiters armed", commands, [armed]},
        {"waiters told", commands, [told]},
        {"Concurrent programs", programs, [sequences]},
        {"steps in them", programs, ?STEPS},
        {"waiters told, of those whose outcome is known", programs, [told, read, write, set, cleared_after_1, cleared_after_2]},
        {"Control calls, random and nearly right, of 20 processes at the same time", calls, [calls]},
        {"events told to them", calls, [events]},
        {"Events delivered, of all these", all, [told, read, write, set, cleared_after_1, cleared_after_2, events]},
        {"Faults injected, in all", all, ?FAULTS},
        {"processes killed while they waited or ran, or died with what they had armed", all, [kill, killed, lives]},
        {"files closed, replaced or shared by dup2 under whoever waits", both, [close, open, dup]},
        {"peers hung up", both, [hang]},
        {"ports stopped", both, [stop]},
        {"wrong arguments, malformed calls", all, [bad, malformed]},
        {"Ports handed over", both, [give]},
        {"Complaints that ERTS logged of closed numbers it watched", all, [logged]}
    ].

report(#{at := At, commit := Commit, began := Began, turns := Turns, samples := Samples, failure := Failure} = S) ->
    {{Year, Month, Day}, _} = At,
    Seconds = (erlang:monotonic_time(millisecond) - Began) div 1000,
    [
        io_lib:format("# Soak of ~4..0b-~2..0b-~2..0b~n~n", [Year, Month, Day]),
        "`make soak`: the property tests and the fuzzing of the port, in turn, on both pollsets, in one VM.\n\n",
        io_lib:format("~b minutes ~b seconds, ~b turns; commit ~s, Erlang/OTP ~s, ~b schedulers, ~ts.~n~n", [
            Seconds div 60, Seconds rem 60, Turns, Commit, erlang:system_info(otp_release), erlang:system_info(schedulers_online), system()
        ]),
        case Failure of
            none -> "Nothing failed.\n\n";
            {_, _, {failed, Replay, Why}} -> io_lib:format("**Failed.** To replay it:~n~n    ~ts~n~n~tp~n~n", [Replay, Why]);
            _ -> io_lib:format("**Failed**: ~tp~n~n", [Failure])
        end,
        "| | epoll | erts |\n| --- | ---: | ---: |\n",
        [
            io_lib:format("| ~s | ~s | ~s |~n", [Title, number(row(epoll, What, Keys, S)), number(row(erts, What, Keys, S))])
         || {Title, What, Keys} <- rows()
        ],
        "\n| | after the first turn | least | most | at the end |\n| --- | ---: | ---: | ---: | ---: |\n",
        [
            io_lib:format("| ~s | ~s | ~s | ~s | ~s |~n", [Title | [Show(V) || V <- course(Key, Samples)]])
         || Samples =/= [],
            {Title, Key, Show} <- [
                {"`erlang:memory(total)`, MB", memory, fun megabytes/1},
                {"`erlang:memory(system)`, MB", system, fun megabytes/1},
                {"resident set, MB", rss, fun megabytes/1},
                {"fds in /proc/self/fd", fds, fun number/1},
                {"processes", processes, fun number/1},
                {"atoms", atoms, fun number/1}
            ]
        ]
    ].

row(Pollset, all, Keys, S) -> row(Pollset, both, Keys, S) + row(Pollset, calls, Keys, S);
row(Pollset, both, Keys, S) -> row(Pollset, commands, Keys, S) + row(Pollset, programs, Keys, S);
row(Pollset, What, Keys, S) -> total(Pollset, What, Keys, S).

course(Key, Samples) ->
    Values = [maps:get(Key, Sample) || Sample <- Samples],
    [lists:last(Values), lists:min(Values), lists:max(Values), hd(Values)].

system() ->
    {Family, Name} = os:type(),
    {Major, Minor, _} = os:version(),
    io_lib:format("~s/~s ~b.~b", [Family, Name, Major, Minor]).

megabytes(Bytes) -> io_lib:format("~.1f", [Bytes / 1.0e6]).

%% With commas between thousands.
number(N) when N < 1000 -> integer_to_list(N);
number(N) -> [number(N div 1000), io_lib:format(",~3..0b", [N rem 1000])].
