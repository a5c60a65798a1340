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

%% In milliseconds.
-define(LOOK_AGAIN, 10).

%% The start options of the application's environment.
-spec options() -> [prim_inert:start_option()].
options() ->
    case application:get_env(inert, pollset) of
        {ok, Pollset} -> [{pollset, Pollset}];
        undefined -> []
    end.

%% The options of inert:child_spec/1. The first of several values for one counts.
-spec child_options(term()) -> {ok, atom(), [prim_inert:start_option()]} | error.
child_options(Options) ->
    child_options(Options, [], []).

-spec child_options(term(), [atom()], [prim_inert:start_option()]) ->
    {ok, atom(), [prim_inert:start_option()]} | error.
child_options([{name, Name} | Options], Names, StartOptions) when is_atom(Name), Name =/= undefined ->
    child_options(Options, [Name | Names], StartOptions);
child_options([{pollset, _} = Option | Options], Names, StartOptions) ->
    case inert_args:start_options([Option]) of
        ok -> child_options(Options, Names, [Option | StartOptions]);
        error -> error
    end;
child_options([], [], StartOptions) ->
    {ok, ?SERVICE, lists:reverse(StartOptions)};
child_options([], Names, StartOptions) ->
    {ok, lists:last(Names), lists:reverse(StartOptions)};
child_options(_, _Names, _StartOptions) ->
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
    Start = fun() -> supervisor:start_child(inert_sup, child_spec(?SERVICE, Options)) end,
    case ask_supervisor(Start) of
        {ok, _} ->
            ok;
        {error, {already_started, Server}} ->
            case serves(Server) of
                true -> ok;
                false -> start_service(Options)
            end;
        {error, already_present} ->
            %% It has ended, but its specification is there.
            _ = ask_supervisor(fun() -> supervisor:delete_child(inert_sup, ?MODULE) end),
            start_service(Options);
        {error, {Reason, _Child}} ->
            error(Reason);
        no_supervisor ->
            start_unsupervised(Options)
    end.

%% Whether the server has its port. One whose port has just closed ends, and is
%% restarted; nobody is told that it is started meanwhile.
-spec serves(pid() | {restarting, pid()}) -> boolean().
serves(Server) when is_pid(Server) ->
    try
        gen_server:call(Server, serves, infinity)
    catch
        exit:_ -> false
    end;
serves({restarting, _}) ->
    false.

-spec stop_service() -> ok.
stop_service() ->
    _ = ask_supervisor(fun() -> supervisor:terminate_child(inert_sup, ?MODULE) end),
    _ = ask_supervisor(fun() -> supervisor:delete_child(inert_sup, ?MODULE) end),
    %% In a supervision tree of the user's, whose transient child it is.
    try
        gen_server:stop(?MODULE)
    catch
        exit:_ -> ok
    end,
    stop_unsupervised().

-spec stop_unsupervised() -> ok.
stop_unsupervised() ->
    Port = whereis(?SERVICE),
    Server = whereis(?MODULE),
    case is_port(Port) andalso erlang:port_info(Port, connected) of
        %% The application has been started meanwhile.
        {connected, Server} -> stop_service();
        {connected, _} -> prim_inert:stop(Port);
        _ -> ok
    end.

%% The application may be stopping at any time: the supervisor is not there, or goes
%% while it is asked.
-spec ask_supervisor(fun(() -> Answer)) -> Answer | no_supervisor.
ask_supervisor(Question) ->
    try
        Question()
    catch
        exit:{_Reason, {gen_server, call, _}} -> no_supervisor
    end.

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
                true ->
                    ok;
                false ->
                    ok = prim_inert:stop(Port),
                    is_pid(whereis(?SERVICE)) andalso error({name_taken, ?SERVICE, whereis(?SERVICE)}),
                    ok
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

-type state() :: {Name :: atom(), [prim_inert:start_option()], port(), opened | adopted}.

-spec init({atom(), [prim_inert:start_option()]}) -> {ok, state()} | {stop, term()}.
init({Name, Options}) ->
    process_flag(trap_exit, true),
    try own(Name, Options) of
        {How, Port} -> {ok, {Name, Options, Port, How}};
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
-spec own(atom(), [prim_inert:start_option()]) -> {opened | adopted, port()} | taken.
own(Name, Options) ->
    case whereis(Name) of
        undefined ->
            {ok, Port} = prim_inert:start(Options),
            case register_port(Name, Port) of
                true ->
                    {opened, Port};
                false ->
                    ok = close(Port),
                    own(Name, Options)
            end;
        Port when is_port(Port) ->
            case erlang:port_info(Port, links) of
                undefined ->
                    own(Name, Options);
                {links, Links} ->
                    case lists:all(fun is_process_alive/1, [Pid || Pid <- Links, is_pid(Pid)]) of
                        true -> take_over(Name, Port, Options);
                        false -> await_end(Name, Port, Options)
                    end
            end;
        _ ->
            taken
    end.

-spec take_over(atom(), port(), [prim_inert:start_option()]) -> {opened | adopted, port()} | taken.
take_over(?SERVICE = Name, Port, Options) ->
    case erlang:port_info(Port, name) of
        {name, "inert_drv" ++ _} ->
            try erlang:port_connect(Port, self()) of
                true -> {adopted, Port}
            catch
                error:badarg -> own(Name, Options)
            end;
        {name, _} ->
            taken;
        undefined ->
            own(Name, Options)
    end;
take_over(_Name, _Port, _Options) ->
    taken.

%% Whoever owned the port is dead, and the port has not heard of it yet: a server
%% before this one that was killed, for example. The signal is under way.
-spec await_end(atom(), port(), [prim_inert:start_option()]) -> {opened | adopted, port()} | taken.
await_end(Name, Port, Options) ->
    Monitor = monitor(port, Port),
    receive
        {'DOWN', Monitor, port, _, _} -> ok
    after ?LOOK_AGAIN ->
        %% It may not have been the owner, and have ended normally.
        demonitor(Monitor, [flush])
    end,
    own(Name, Options).

%% Closes a port, and takes the word of it out of the mailbox.
-spec close(port()) -> ok.
close(Port) ->
    unlink(Port),
    prim_inert:stop(Port),
    receive
        {'EXIT', Port, _} -> ok
    after 0 -> ok
    end.

-spec handle_call(term(), gen_server:from(), state()) -> {reply, boolean() | {error, unknown_call}, state()}.
handle_call(serves, _From, {_Name, _Options, Port, _How} = State) ->
    {reply, erlang:port_info(Port, connected) =/= undefined, State};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), state()) -> {noreply, state()}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), state()) -> {noreply, state()} | {stop, term(), state()}.
handle_info({'EXIT', Port, normal}, {?SERVICE = Name, Options, Port, adopted} = State) ->
    %% Whoever stopped what was started by hand had not seen the application start.
    case init({Name, Options}) of
        {ok, Started} -> {noreply, Started};
        {stop, Reason} -> {stop, Reason, State}
    end;
handle_info({'EXIT', Port, Reason}, {_Name, _Options, Port, _How} = State) ->
    {stop, {port_closed, Reason}, State};
handle_info(_Message, State) ->
    {noreply, State}.

-spec terminate(term(), state()) -> ok.
terminate(_Reason, {_Name, _Options, Port, _How}) ->
    prim_inert:stop(Port).
