%% SPDX-License-Identifier: Apache-2.0

%% @doc Waits with enif_select, as a NIF library that wants to block its caller has to.
-module(bench_select).

-behaviour(bench_waiter).

-export([start/1]).
-export([handle/1]).
-export([wait/2]).
-export([looks/0]).
-export([arm/1]).
-export([close/1]).

%% @private
start(_) ->
    {module, select_nif} = code:ensure_loaded(select_nif),
    ok.

%% @private
handle(FD) ->
    select_nif:own(FD).

%% The fresh reference gives the receive its marker: what is in the mailbox already is not looked
%% at. OTP's own socket module does the same.
%% @private
wait(Resource, Mode) ->
    Ref = make_ref(),
    ok = select_nif:select(Resource, Mode, Ref),
    receive
        {select, Resource, Ref, _Ready} -> ok
    end.

%% @private
looks() ->
    false.

%% @private
arm(Resource) ->
    select_nif:select(Resource, read, make_ref()).

%% @private
close(Resource) ->
    select_nif:close(Resource).
