%% SPDX-License-Identifier: Apache-2.0
%%
%% The property tests and the fuzzing of the port, in a size for every day.
%% `make soak' runs the same for as long as one likes.
-module(inert_prop_SUITE).

-export([all/0]).
-export([groups/0]).
-export([suite/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

-export([commands_agree_with_the_model/1]).
-export([programs_lose_and_leave_nothing/1]).
-export([the_port_survives_any_call/1]).

%% A few seconds each; of them is done one in PROP_PART, if that is in the environment.
-define(SEQUENCES, 600).
-define(PROGRAMS, 200).
-define(CALLS, 200_000).

-spec all() -> [{group, atom()}].
all() -> inert_test:per_pollset([properties]).

-spec groups() -> [tuple()].
groups() ->
    inert_test:groups_per_pollset([{properties, [commands_agree_with_the_model, programs_lose_and_leave_nothing, the_port_survives_any_call]}]).

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 240}}].

-spec init_per_suite(Config) -> Config when Config :: [tuple()].
init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(proper),
    inert_test:init_per_suite(Config).

-spec end_per_suite([tuple()]) -> term().
end_per_suite(Config) -> inert_test:end_per_suite(Config).

-spec init_per_group(atom(), Config) -> Config when Config :: [tuple()].
init_per_group(Group, Config) -> inert_test:init_per_group(Group, Config).

-spec end_per_group(atom(), [tuple()]) -> term().
end_per_group(Group, Config) -> inert_test:end_per_group(Group, Config).

-spec init_per_testcase(atom(), Config) -> Config when Config :: [tuple()].
init_per_testcase(_Case, Config) -> inert_test:init_per_testcase(Config).

-spec end_per_testcase(atom(), [tuple()]) -> term().
end_per_testcase(_Case, Config) -> inert_test:end_per_testcase(Config).

-spec commands_agree_with_the_model([tuple()]) -> ok.
commands_agree_with_the_model(Config) ->
    holds(inert_prop:check(commands, pollset(Config), part(?SEQUENCES))).

-spec programs_lose_and_leave_nothing([tuple()]) -> ok.
programs_lose_and_leave_nothing(Config) ->
    holds(inert_prop:check(programs, pollset(Config), part(?PROGRAMS))).

-spec the_port_survives_any_call([tuple()]) -> ok.
the_port_survives_any_call(Config) ->
    holds(inert_fuzz:run(pollset(Config), part(?CALLS))).

part(Whole) -> Whole div list_to_integer(os:getenv("PROP_PART", "1")).

pollset(Config) -> proplists:get_value(pollset, Config).

holds({ok, Counts}) -> ct:log("~p", [Counts]);
holds(Failed) -> ct:fail(Failed).
