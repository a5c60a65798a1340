%% SPDX-License-Identifier: Apache-2.0

%% @doc A TCP echo server on raw fds: fdio makes the system calls, inert waits.
%%
%% ```
%% 1> echo:listen(1234).
%% '''
%%
%% The rule that keeps fds from leaking is that one process owns all of them: the
%% server opens and accepts, and the server alone closes. A connection's process
%% borrows its fd and may end in any way, killed included; the server, linked to it, then
%% clears and closes the fd. The server itself does little that can fail, and takes everything with it
%% in `terminate/2'. Only if somebody kills the server are its fds left open until the VM ends, as
%% nothing in Erlang owns a plain integer.
%%
%% The server shows how to wait for a message (`inert:fdset/2') between other messages, a connection how
%% to block (`inert:poll/3').
-module(echo).

-behaviour(gen_server).

-export([listen/1]).
-export([listen/2]).
-export([start_link/1]).
-export([start_link/2]).
-export([stop/1]).
-export([port/1]).

-export([init/1]).
-export([handle_continue/2]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

-export_type([options/0]).

-type options() :: #{
    ip => inet:ip_address(),
    max_connections => pos_integer(),
    backlog => pos_integer(),
    idle => timeout()
}.
%% `ip': where to listen; default `{127, 0, 0, 1}', for this machine only.
%% `max_connections': how many are served at a time, the next ones wait in the backlog; default 1000.
%% `backlog': how many the kernel lets wait; default 1024.
%% `idle': after how many milliseconds without a byte moving a connection is closed; default `infinity'.

-record(state, {
    fd :: fdio:fd(),
    max_connections :: pos_integer(),
    idle :: timeout(),
    connections = #{} :: #{pid() => fdio:fd()},
    %% What accepts next: a message from inert, a connection that ends, or a timer.
    waiting_for = readiness :: readiness | room | pause
}).

%% What one connection holds in memory at most: it reads no more until this is written.
-define(CHUNK, 65536).

%% A connection that cannot be accepted now, because there are no fds left, keeps the listening
%% fd readable: waiting for readiness would be a busy loop. Connections end in their own time, so ask
%% again after a moment that a client does not notice.
-define(PAUSE_MS, 100).

%%% API

%% @doc As `listen(Port, #{})'.
-spec listen(inet:port_number()) -> ok.
listen(Port) ->
    listen(Port, #{}).

%% @doc Serves in the foreground: returns when the server is stopped, and exits if it fails, with a
%% reason such as `{bind, eaddrinuse}'.
-spec listen(inet:port_number(), options()) -> ok.
listen(Port, Options) ->
    case start_link(Port, Options) of
        {ok, Server} ->
            Monitor = erlang:monitor(process, Server),
            receive
                {'DOWN', Monitor, process, Server, normal} -> ok;
                {'DOWN', Monitor, process, Server, Reason} -> exit(Reason)
            end;
        {error, Reason} ->
            exit(Reason)
    end.

%% @doc As `start_link(Port, #{})'.
-spec start_link(inet:port_number()) -> gen_server:start_ret().
start_link(Port) ->
    start_link(Port, #{}).

%% @doc Starts a server. Port 0 lets the kernel choose (see `port/1').
%%
%% ```
%% {ok, Server} = echo:start_link(0, #{max_connections => 10}),
%% Port = echo:port(Server).
%% '''
%%
%% Errors are named by the call that failed: `{bind, eaddrinuse}', `{socket, emfile}', ...
-spec start_link(inet:port_number(), options()) -> gen_server:start_ret().
start_link(Port, Options) ->
    Defaults = #{
        ip => {127, 0, 0, 1}, max_connections => 1000, backlog => 1024, idle => infinity
    },
    case maps:keys(maps:without(maps:keys(Defaults), Options)) of
        [] -> gen_server:start_link(?MODULE, {Port, maps:merge(Defaults, Options)}, []);
        Unknown -> error({unknown_options, Unknown})
    end.

%% @doc Stops a server. When it returns, every fd is closed.
-spec stop(pid()) -> ok.
stop(Server) ->
    gen_server:stop(Server).

%% @doc The port that a server listens on.
-spec port(pid()) -> inet:port_number().
port(Server) ->
    gen_server:call(Server, port).

%%% The server

%% @private
init({Port, #{ip := IP, backlog := Backlog} = Options}) ->
    %% Turns the end of a connection into a message, and one's own into terminate/2.
    process_flag(trap_exit, true),
    ok = inert:start(),
    %% Nothing else would tell the server that what it waits for will not come.
    _ = erlang:monitor(port, inert:pollid()),
    case open({IP, Port}, Backlog) of
        {ok, FD} ->
            #{max_connections := MaxConnections, idle := Idle} = Options,
            State = #state{fd = FD, max_connections = MaxConnections, idle = Idle},
            {ok, State, {continue, accept}};
        {error, Reason} ->
            {stop, Reason}
    end.

%% @private
handle_continue(accept, State) ->
    accept(State).

%% @private
handle_call(port, _From, #state{fd = FD} = State) ->
    {ok, {_IP, Port}} = fdio:getsockname(FD),
    {reply, Port, State}.

%% @private
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
handle_info({inert_read, _PollId, FD}, #state{fd = FD, waiting_for = readiness} = State) ->
    accept(State);
handle_info(accept, #state{waiting_for = pause} = State) ->
    accept(State);
handle_info({'EXIT', Pid, _Reason}, #state{connections = Connections} = State) ->
    case maps:take(Pid, Connections) of
        {FD, Rest} ->
            close(FD),
            connection_ended(State#state{connections = Rest});
        error ->
            {noreply, State}
    end;
handle_info({'DOWN', _Monitor, port, _PollId, Reason}, State) ->
    {stop, {inert, Reason}, State};
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
terminate(_Reason, #state{fd = ListenFD, connections = Connections}) ->
    close(ListenFD),
    maps:foreach(fun(Pid, _FD) -> exit(Pid, kill) end, Connections),
    maps:foreach(fun close_after/2, Connections).

%% A process that still ran would write to whatever gets its fd's number next.
close_after(Pid, FD) ->
    receive
        {'EXIT', Pid, _Reason} -> close(FD)
    end.

open({IP, _Port} = Address, Backlog) ->
    Domain =
        case tuple_size(IP) of
            4 -> inet;
            8 -> inet6
        end,
    case fdio:socket(Domain, stream, 0) of
        {ok, FD} ->
            Steps = [
                {setsockopt, [FD, reuseaddr, true]},
                {bind, [FD, Address]},
                {listen, [FD, Backlog]}
            ],
            try first_error(Steps) of
                ok ->
                    {ok, FD};
                {error, _Reason} = Error ->
                    ok = fdio:close(FD),
                    Error
            catch
                %% Such as a port number that is none.
                Class:Reason:Stack ->
                    ok = fdio:close(FD),
                    erlang:raise(Class, Reason, Stack)
            end;
        {error, Reason} ->
            {error, {socket, Reason}}
    end.

first_error([]) ->
    ok;
first_error([{Function, Arguments} | Steps]) ->
    case apply(fdio, Function, Arguments) of
        ok -> first_error(Steps);
        {error, Reason} -> {error, {Function, Reason}}
    end.

%% Accepts all that wait. Ends at the latest when there is no more room.
accept(#state{connections = Connections, max_connections = Max} = State) when
    map_size(Connections) >= Max
->
    {noreply, State#state{waiting_for = room}};
accept(#state{fd = ListenFD} = State) ->
    case fdio:accept(ListenFD) of
        {ok, FD} ->
            accept(start_connection(FD, State));
        {error, eagain} ->
            wait(State);
        {error, Reason} when Reason =:= ebadf; Reason =:= einval; Reason =:= enotsock ->
            {stop, {accept, Reason}, State};
        {error, _Reason} ->
            %% emfile and its kin, or a connection that broke while it waited.
            _ = erlang:send_after(?PAUSE_MS, self(), accept),
            {noreply, State#state{waiting_for = pause}}
    end.

%% inert tells once, at once if the fd has become ready since accept said eagain.
wait(#state{fd = FD} = State) ->
    case inert:fdset(FD, read) of
        ok -> {noreply, State#state{waiting_for = readiness}};
        {error, Reason} -> {stop, {fdset, Reason}, State}
    end.

start_connection(FD, #state{connections = Connections, idle = Idle} = State) ->
    Pid = spawn_link(fun() -> connection(FD, Idle) end),
    State#state{connections = Connections#{Pid => FD}}.

connection_ended(#state{waiting_for = room} = State) ->
    accept(State);
connection_ended(State) ->
    {noreply, State}.

%% Cleared before it is closed, so that inert waits for nothing on a number that the
%% kernel may give to the next file. The error, if inert has stopped meanwhile, changes nothing.
close(FD) ->
    _ = inert:fdclr(FD),
    ok = fdio:close(FD).

%%% A connection

%% Peers that vanish (econnreset, epipe, etimedout) or stay silent (timeout) are everyday life: the
%% reason is there for who looks, and nothing is logged.
connection(FD, Idle) ->
    case echo(FD, Idle) of
        ok -> ok;
        {error, Reason} -> exit({shutdown, Reason})
    end.

%% At the end of the peer's data all of it has been written back: the peer that
%% closed only its writing side still reads its echo to the end.
echo(FD, Idle) ->
    case fdio:recv(FD, ?CHUNK) of
        {ok, <<>>} ->
            ok;
        {ok, Data} ->
            case send(FD, Data, Idle) of
                ok -> echo(FD, Idle);
                {error, _Reason} = Error -> Error
            end;
        {error, eagain} ->
            case inert:poll(FD, read, Idle) of
                {ok, read} -> echo(FD, Idle);
                {error, _Reason} = Error -> Error
            end;
        {error, _Reason} = Error ->
            Error
    end.

%% While this waits nothing is read, so a peer that does not read its echo is, in
%% the end, kept from sending by TCP.
send(_FD, <<>>, _Idle) ->
    ok;
send(FD, Data, Idle) ->
    case fdio:send(FD, Data) of
        {ok, Sent} ->
            <<_:Sent/binary, Rest/binary>> = Data,
            send(FD, Rest, Idle);
        {error, eagain} ->
            case inert:poll(FD, write, Idle) of
                {ok, write} -> send(FD, Data, Idle);
                {error, _Reason} = Error -> Error
            end;
        {error, _Reason} = Error ->
            Error
    end.
