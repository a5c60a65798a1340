%% SPDX-License-Identifier: Apache-2.0
%%
%% Runs one Common Test suite for test/run, in a VM of its own: a suite that
%% takes the VM down is one failed stage, not the end of the run.
%%
%% It is also the hook that names each case as it starts, and what failed.
%% A case skipped because its suite or group could not be set up has failed.
-module(run_ct).

-export([main/1]).
-export([id/1, init/2]).
-export([pre_init_per_testcase/4, on_tc_fail/4, on_tc_skip/4]).

-spec main([string()]) -> no_return().
main([Suite, LogDir]) ->
    Result = ct:run_test([
        {suite, list_to_atom(Suite)},
        {dir, filename:dirname(code:which(list_to_atom(Suite)))},
        {auto_compile, false},
        {logdir, LogDir},
        %% For a VM that is slow because something watches it.
        {multiply_timetraps, list_to_integer(os:getenv("CT_MULTIPLY_TIMETRAPS", "1"))},
        {ct_hooks, [?MODULE, {inert_cth, [{logdir, LogDir}]}]},
        {abort_if_missing_suites, true}
    ]),
    case Result of
        {Passed, Failed, {Skipped, NotSetUp}} ->
            NotPassed = Failed + NotSetUp + length(inert_cth:leaks()),
            io:format("~b passed, ~b failed", [Passed, NotPassed]),
            [io:format(", ~b skipped", [Skipped]) || Skipped > 0],
            io:nl(),
            halt(min(1, NotPassed), [{flush, true}]);
        {error, Reason} ->
            io:format("Common Test could not run ~s: ~tp~n", [Suite, Reason]),
            halt(1, [{flush, true}])
    end.

%%% The hook

-spec id(term()) -> module().
id(_Options) ->
    ?MODULE.

-spec init(module(), term()) -> {ok, []}.
init(?MODULE, _Options) ->
    {ok, []}.

-spec pre_init_per_testcase(module(), atom(), Config, State) -> {Config, State}.
pre_init_per_testcase(Suite, Case, Config, State) ->
    io:format(user, "case ~s:~s~n", [Suite, Case]),
    {Config, State}.

-spec on_tc_fail(module(), term(), term(), State) -> State.
on_tc_fail(Suite, Case, Reason, State) ->
    io:format(user, "not ok ~s:~ts~n~tp~n", [Suite, name(Case), Reason]),
    State.

-spec on_tc_skip(module(), term(), term(), State) -> State.
on_tc_skip(Suite, Case, {tc_user_skip, Reason}, State) ->
    io:format(user, "skip ~s:~ts: ~tp~n", [Suite, name(Case), Reason]),
    State;
on_tc_skip(_Suite, {end_per_group, _Group}, {tc_auto_skip, _Reason}, State) ->
    State;
on_tc_skip(_Suite, end_per_suite, {tc_auto_skip, _Reason}, State) ->
    State;
on_tc_skip(Suite, Case, {tc_auto_skip, Reason}, State) ->
    io:format(user, "not ok ~s:~ts (not set up)~n~tp~n", [Suite, name(Case), Reason]),
    State.

name({Case, Group}) -> io_lib:format("~p in ~p", [Case, Group]);
name(Case) -> io_lib:format("~p", [Case]).
