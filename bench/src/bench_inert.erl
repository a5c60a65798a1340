%% SPDX-License-Identifier: Apache-2.0

%% @doc Waits with inert. The argument is the pollset.
-module(bench_inert).

-behaviour(bench_waiter).

-export([available/1]).

-export([start/1]).
-export([handle/1]).
-export([wait/2]).
-export([looks/0]).
-export([arm/1]).
-export([close/1]).

%% @doc Whether this inert has the pollset, on this system.
-spec available(atom()) -> boolean().
available(Pollset) ->
    try prim_inert:start([{pollset, Pollset}]) of
        {ok, Port} ->
            ok = prim_inert:stop(Port),
            true
    catch
        error:_ -> false
    end.

%% @private
start(Pollset) ->
    inert:start([{pollset, Pollset}]).

%% @private
handle(FD) ->
    FD.

%% @private
wait(FD, Mode) ->
    {ok, Mode} = inert:poll(FD, Mode, infinity),
    ok.

%% @private
looks() ->
    true.

%% @private
arm(FD) ->
    inert:fdset(FD, read).

%% @private
close(FD) ->
    fdio:close(FD).
