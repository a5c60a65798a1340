%% SPDX-License-Identifier: Apache-2.0
%% @private
-module(inert_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    %% A port that is killed is opened anew at once and has no state to spoil; only one
    %% that cannot live is given up.
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10}, [inert_server:child_spec(inert, inert_server:options())]}}.
