%% SPDX-License-Identifier: Apache-2.0
%% @private
%% Starts, owns and stops the service's port, with the application and without.
-module(inert_server).
-behaviour(gen_server).

-export([options/0]).
-export([start_service/1]).
-export([stop_service/0]).
-export([child_spec/1]).
-export([start_link/1]).

-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

%% The name of the service's port.
-define(SERVICE, inert).

%% The start options of the application's environment.
-spec options() -> [prim_inert:start_option()].
options() ->
    case application:get_env(inert, pollset) of
        {ok, Pollset} -> [{pollset, Pollset}];
        undefined -> []
    end.

-spec child_spec([prim_inert:start_option()]) -> supervisor:child_spec().
child_spec(Options) ->
    #{id => ?MODULE, start => {?MODULE, start_link, [Options]}}.

-spec start_link([prim_inert:start_option()]) -> {ok, pid()} | {error, term()}.
start_link(Options) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Options, []).

%% Starts the service: under the supervisor if the application is there, and
%% else with the calling process as the port's owner.
-spec start_service([prim_inert:start_option()]) -> ok.
start_service(Options) ->
    try supervisor:start_child(inert_sup, child_spec(Options)) of
        {ok, _} ->
            ok;
        {error, {already_started, _}} ->
            ok;
        {error, already_present} ->
            %% It is being restarted, or could not be.
            _ = supervisor:delete_child(inert_sup, ?MODULE),
            start_service(Options);
        {error, Reason} ->
            error(Reason)
    catch
        exit:{noproc, _} -> start_unsupervised(Options)
    end.

-spec stop_service() -> ok.
stop_service() ->
    try
        _ = supervisor:terminate_child(inert_sup, ?MODULE),
        _ = supervisor:delete_child(inert_sup, ?MODULE),
        ok
    catch
        exit:{noproc, _} -> ok
    end,
    prim_inert:stop(?SERVICE).

%% The port is to outlive its opener, so that one unlinks it; and it is registered
%% by then or closed, even if its opener is killed between any two lines of this.
-spec start_unsupervised([prim_inert:start_option()]) -> ok.
start_unsupervised(Options) ->
    Opener = self(),
    Guard = spawn(fun() -> guard(Opener) end),
    try prim_inert:start(Options) of
        {ok, Port} ->
            Guard ! {opened, Port},
            unlink(Port),
            case register_port(Port) of
                true -> ok;
                false -> prim_inert:stop(Port)
            end
    after
        Guard ! done
    end.

-spec register_port(port()) -> boolean().
register_port(Port) ->
    try register(?SERVICE, Port)
    catch
        error:badarg -> false
    end.

-spec guard(pid()) -> ok.
guard(Opener) ->
    Monitor = monitor(process, Opener),
    receive
        done -> ok;
        {'DOWN', Monitor, process, Opener, _} -> ok;
        {opened, Port} -> guard(Monitor, Port)
    end.

-spec guard(reference(), port()) -> ok.
guard(Monitor, Port) ->
    receive
        done ->
            ok;
        {'DOWN', Monitor, process, _, _} ->
            case whereis(?SERVICE) of
                Port -> ok;
                _ -> prim_inert:stop(Port)
            end
    end.

%% The process that owns the service's port under the supervisor.

-spec init([prim_inert:start_option()]) -> {ok, port()}.
init(Options) ->
    process_flag(trap_exit, true),
    own(whereis(?SERVICE), Options).

%% A port that was started by hand goes on, with those who wait on it.
-spec own(port() | undefined, [prim_inert:start_option()]) -> {ok, port()}.
own(undefined, Options) ->
    {ok, Port} = prim_inert:start(Options),
    case register_port(Port) of
        true ->
            {ok, Port};
        false ->
            ok = prim_inert:stop(Port),
            own(whereis(?SERVICE), Options)
    end;
own(Port, Options) ->
    try erlang:port_connect(Port, self()) of
        true -> {ok, Port}
    catch
        error:badarg -> own(whereis(?SERVICE), Options)
    end.

-spec handle_call(term(), gen_server:from(), port()) -> {reply, {error, unknown_call}, port()}.
handle_call(_Request, _From, Port) ->
    {reply, {error, unknown_call}, Port}.

-spec handle_cast(term(), port()) -> {noreply, port()}.
handle_cast(_Request, Port) ->
    {noreply, Port}.

-spec handle_info(term(), port()) -> {noreply, port()} | {stop, term(), port()}.
handle_info({'EXIT', Port, Reason}, Port) ->
    {stop, {port_closed, Reason}, Port};
handle_info(_Message, Port) ->
    {noreply, Port}.

-spec terminate(term(), port()) -> ok.
terminate(_Reason, Port) ->
    prim_inert:stop(Port).
