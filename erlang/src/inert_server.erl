%% SPDX-License-Identifier: Apache-2.0
%% @private
%% Starts, owns and stops the service's port, with the application and without; and
%% owns ports of other names in supervision trees of the user's.
-module(inert_server).
-behaviour(gen_server).

-export([options/0]).
-export([start_service/1]).
-export([stop_service/0]).
-export([child_options/1]).
-export([child_spec/2]).
-export([start_link/2]).

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

%% The options of inert:child_spec/1.
-spec child_options(term()) -> {ok, atom(), [prim_inert:start_option()]} | error.
child_options([{name, Name} | Options]) when is_atom(Name), Name =/= undefined ->
    case child_options(Options) of
        {ok, ?SERVICE, StartOptions} -> {ok, Name, StartOptions};
        Other -> Other
    end;
child_options([{pollset, _} = Option | Options]) ->
    case {inert_args:start_options([Option]), child_options(Options)} of
        {ok, {ok, Name, StartOptions}} -> {ok, Name, [Option | StartOptions]};
        _ -> error
    end;
child_options([]) ->
    {ok, ?SERVICE, []};
child_options(_) ->
    error.

-spec child_spec(atom(), [prim_inert:start_option()]) -> supervisor:child_spec().
child_spec(Name, Options) ->
    Id =
        case Name of
            ?SERVICE -> ?MODULE;
            _ -> {?MODULE, Name}
        end,
    #{id => Id, start => {?MODULE, start_link, [Name, Options]}, restart => transient}.

-spec start_link(atom(), [prim_inert:start_option()]) -> {ok, pid()} | ignore | {error, term()}.
start_link(?SERVICE, Options) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, {?SERVICE, Options}, []);
start_link(Name, Options) ->
    gen_server:start_link(?MODULE, {Name, Options}, []).

%% Starts the service: under the supervisor if the application is there, and
%% else with the calling process as the port's owner.
-spec start_service([prim_inert:start_option()]) -> ok.
start_service(Options) ->
    try supervisor:start_child(inert_sup, child_spec(?SERVICE, Options)) of
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
    %% In a supervision tree of the user's, whose transient child it is.
    try
        gen_server:stop(?MODULE)
    catch
        exit:_ -> ok
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
            case register_port(?SERVICE, Port) of
                true -> ok;
                false -> prim_inert:stop(Port)
            end
    after
        Guard ! done
    end.

-spec register_port(atom(), port()) -> boolean().
register_port(Name, Port) ->
    try register(Name, Port)
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

-type state() :: {Name :: atom(), port()}.

-spec init({atom(), [prim_inert:start_option()]}) -> {ok, state()} | {stop, term()}.
init({Name, Options}) ->
    process_flag(trap_exit, true),
    try own(Name, Options) of
        {ok, Port} -> {ok, {Name, Port}};
        taken -> {stop, {name_taken, Name, whereis(Name)}}
    catch
        error:{driver_load_failed, _Path, _Text} = Reason ->
            {stop, Reason};
        error:Errno when is_atom(Errno), Errno =/= badarg ->
            {stop, {Errno, {erlang, open_port, [{spawn_driver, inert_drv:command(Options)}, []]}}};
        error:badarg ->
            {stop, {bad_options, Options}}
    end.

%% A service that was started by hand goes on, with those who wait on it.
-spec own(atom(), [prim_inert:start_option()]) -> {ok, port()} | taken.
own(Name, Options) ->
    case whereis(Name) of
        undefined ->
            {ok, Port} = prim_inert:start(Options),
            case register_port(Name, Port) of
                true ->
                    {ok, Port};
                false ->
                    ok = close(Port),
                    own(Name, Options)
            end;
        Port when is_port(Port), Name =:= ?SERVICE ->
            try erlang:port_connect(Port, self()) of
                true -> {ok, Port}
            catch
                error:badarg -> own(Name, Options)
            end;
        _ ->
            taken
    end.

%% Closes a port, and takes the word of it out of the mailbox.
-spec close(port()) -> ok.
close(Port) ->
    unlink(Port),
    prim_inert:stop(Port),
    receive
        {'EXIT', Port, _} -> ok
    after 0 -> ok
    end.

-spec handle_call(term(), gen_server:from(), state()) -> {reply, {error, unknown_call}, state()}.
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), state()) -> {noreply, state()}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), state()) -> {noreply, state()} | {stop, term(), state()}.
handle_info({'EXIT', Port, Reason}, {_Name, Port} = State) ->
    {stop, {port_closed, Reason}, State};
handle_info(_Message, State) ->
    {noreply, State}.

-spec terminate(term(), state()) -> ok.
terminate(_Reason, {_Name, Port}) ->
    prim_inert:stop(Port).
