%% SPDX-License-Identifier: Apache-2.0
%%
%% Runs one EUnit module for test/run: names what failed, and closes with the
%% counts. A test cancelled because its fixture could not be set up has failed.
-module(run_eunit).
-behaviour(eunit_listener).

-export([main/1]).
-export([start/0, start/1]).
-export([init/1, handle_begin/3, handle_end/3, handle_cancel/3, terminate/2]).

-spec main([string()]) -> no_return().
main([Module]) ->
    _ = eunit:test(list_to_atom(Module), [no_tty, {report, {?MODULE, []}}]),
    %% terminate/2 halts; getting here means that no listener ran.
    io:format("EUnit ran nothing of ~s~n", [Module]),
    halt(1, [{flush, true}]).

-spec start() -> pid().
start() ->
    start([]).

-spec start(list()) -> pid().
start(Options) ->
    eunit_listener:start(?MODULE, Options).

%%% eunit_listener

-spec init(list()) -> non_neg_integer().
init(_Options) ->
    receive
        {start, _Reference} -> 0
    end.

-spec handle_begin(group | test, list(), Cancelled) -> Cancelled when Cancelled :: integer().
handle_begin(_Kind, _Data, Cancelled) ->
    Cancelled.

-spec handle_end(group | test, list(), Cancelled) -> Cancelled when Cancelled :: integer().
handle_end(test, Data, Cancelled) ->
    case proplists:get_value(status, Data) of
        ok -> io:format("ok~ts~n", [name(Data)]);
        {skipped, Why} -> io:format("skip~ts: ~tp~n", [name(Data), Why]);
        {error, Why} -> io:format("not ok~ts~n~tp~n", [name(Data), Why])
    end,
    Cancelled;
handle_end(group, _Data, Cancelled) ->
    Cancelled.

-spec handle_cancel(group | test, list(), Cancelled) -> Cancelled when Cancelled :: integer().
handle_cancel(Kind, Data, Cancelled) ->
    case proplists:get_value(reason, Data) of
        undefined ->
            Cancelled;
        Why ->
            io:format("not ok ~s~ts (cancelled)~n~tp~n", [Kind, name(Data), Why]),
            Cancelled + 1
    end.

-spec terminate({ok, list()} | {error, term()}, non_neg_integer()) -> no_return().
terminate({ok, Data}, Cancelled) ->
    [Passed, Failed, Skipped] = [proplists:get_value(K, Data, 0) || K <- [pass, fail, skip]],
    io:format("~b passed, ~b failed", [Passed, Failed + Cancelled]),
    [io:format(", ~b skipped", [Skipped]) || Skipped > 0],
    io:nl(),
    halt(min(1, Failed + Cancelled), [{flush, true}]);
terminate({error, Reason}, _Cancelled) ->
    io:format("EUnit failed: ~tp~n", [Reason]),
    halt(1, [{flush, true}]).

name(Data) ->
    Where =
        case proplists:get_value(source, Data) of
            {M, F, _} -> io_lib:format(" ~s:~s", [M, F]);
            undefined -> ""
        end,
    Line =
        case proplists:get_value(line, Data, 0) of
            0 -> "";
            N -> io_lib:format(" line ~b", [N])
        end,
    Description =
        case proplists:get_value(desc, Data) of
            None when None =:= undefined; None =:= <<>>; None =:= "" -> "";
            Text -> io_lib:format(" (~ts)", [Text])
        end,
    [Where, Line, Description].
