%% SPDX-License-Identifier: Apache-2.0

%% @doc enif_select, for the benchmark to compare with: bench/select_nif has the other half.
%%
%% ```
%% Resource = select_nif:own(FD),
%% Ref = make_ref(),
%% ok = select_nif:select(Resource, read, Ref),
%% receive {select, Resource, Ref, ready_input} -> ok end.
%% '''
-module(select_nif).

-export([own/1]).
-export([select/3]).
-export([close/1]).

-export_type([resource/0]).

-on_load(load/0).

-opaque resource() :: reference().

%% @doc A resource for a fd. It is closed by {@link close/1}, and by nothing else.
-spec own(FD :: non_neg_integer()) -> resource().
own(_FD) ->
    erlang:nif_error(not_loaded).

%% @doc Asks for one message, `{select, Resource, Ref, ready_input | ready_output}'.
-spec select(resource(), read | write, reference()) -> ok.
select(_Resource, _Mode, _Ref) ->
    erlang:nif_error(not_loaded).

%% @doc Stops waiting and has ERTS close the fd.
-spec close(resource()) -> ok.
close(_Resource) ->
    erlang:nif_error(not_loaded).

load() ->
    Ebin = filename:dirname(code:which(?MODULE)),
    erlang:load_nif(filename:join([filename:dirname(Ebin), "priv", "select_nif"]), 0).
