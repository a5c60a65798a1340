%% SPDX-License-Identifier: Apache-2.0

%% @doc What `make demo' runs: inert at work, against programs that do not know it.
%%
%% <ol>
%% <li>The server of echo.erl, driven by a client in another OS process, which is
%%     plain gen_tcp and compares every byte that comes back.</li>
%% <li>conn.erl, reading the greeting of a real SSH server: OTP's own.</li>
%% </ol>
%%
%% Exits with status 0 only if all of it worked.
-module(demo).

-export([main/0]).
-export([client/1]).

%% OTP's ssh daemon asks this module for its host key.
-behaviour(ssh_server_key_api).
-export([host_key/2]).
-export([is_auth_key/3]).

-define(LOOPBACK, {127, 0, 0, 1}).
-define(CONNECTIONS, 1000).

%% From one byte to more than echo reads at a time and a socket buffers.
-define(SIZES, [1, 100, 1448, 16384, 131072]).

%% The VM's own files, and some for whoever else runs in it.
-define(SPARE_FDS, 100).

%% The client reports progress many times a second. This long without any is a
%% hang, on the slowest of machines.
-define(STALLED_MS, 60000).

%%% The demo

-spec main() -> no_return().
main() ->
    Began = erlang:monotonic_time(millisecond),
    try
        start(),
        echo(),
        ssh(),
        say("All of it worked, in ~.1f s.~n", [(erlang:monotonic_time(millisecond) - Began) / 1000]),
        halt(0, [{flush, true}])
    catch
        throw:{failed, Why} ->
            fail(Why);
        Class:Reason:Stack ->
            fail(erl_error:format_exception(Class, Reason, Stack))
    end.

-spec fail(iodata()) -> no_return().
fail(Why) ->
    say("~n~nThe demo failed: ~ts~n", [Why]),
    halt(1, [{flush, true}]).

start() ->
    ok = inert:start(),
    say("inert is started: ~ts~n", [filename:join(code:priv_dir(inert), "inert_drv.so")]),
    say("  Erlang/OTP ~s, at most ~s open files~n~n", [
        erlang:system_info(otp_release), thousands(max_fds())
    ]).

echo() ->
    Connections = min(?CONNECTIONS, max_fds() - ?SPARE_FDS),
    Connections >= ?CONNECTIONS orelse
        say("  (the limit on open files allows ~b connections instead of ~b; see ulimit -n)~n", [
            Connections, ?CONNECTIONS
        ]),
    {ok, Server} = echo:start_link(0, #{max_connections => Connections}),
    Port = echo:port(Server),
    say("1. An echo server on raw fds, examples/echo.erl, listens on port ~b.~n", [Port]),
    {Client, OsPid} = start_client([Port, Connections | ?SIZES]),
    say("   Its client is another OS process, ~b, that uses gen_tcp.~n", [OsPid]),
    {Messages, Bytes} = watch_client(Client, Connections),
    {Messages, Bytes} =:= {Connections * length(?SIZES), Connections * lists:sum(?SIZES)} orelse
        throw({failed, "the client compared less than it should have"}),
    say("   ~s messages, ~s bytes: all came back, every byte the same.~n~n", [
        thousands(Messages), thousands(Bytes)
    ]),
    ok = echo:stop(Server).

ssh() ->
    {ok, _} = application:ensure_all_started(ssh),
    {ok, Daemon} = ssh:daemon(?LOOPBACK, 0, [{key_cb, {?MODULE, []}}]),
    {ok, Info} = ssh:daemon_info(Daemon),
    {port, Port} = lists:keyfind(port, 1, Info),
    say("2. OTP's SSH server listens on port ~b; conn:ssh/2 connects without blocking.~n", [Port]),
    case conn:ssh(?LOOPBACK, Port) of
        {ok, <<"SSH-2.0-", _/binary>> = Greeting} ->
            say("   Its greeting: ~ts~n~n", [Greeting]);
        Other ->
            throw({failed, io_lib:format("conn:ssh/2 returned ~tp", [Other])})
    end,
    ok = ssh:stop_daemon(Daemon).

start_client(Arguments) ->
    Port = open_port({spawn_executable, filename:join([code:root_dir(), "bin", "erl"])}, [
        {line, 200},
        exit_status,
        stderr_to_stdout,
        {args, ["-noinput", "-pa", filename:dirname(code:which(?MODULE)), "-run", "demo", "client"]
            ++ [integer_to_list(A) || A <- Arguments]}
    ]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    {Port, OsPid}.

%% Shows what the client reports, in tenths of all that it will compare.
watch_client(Client, Connections) ->
    watch_client(Client, Connections, 0).

watch_client(Client, Connections, Shown) ->
    receive
        {Client, {data, {eol, Line}}} ->
            case string:lexemes(Line, " ") of
                ["connected", N] ->
                    say("   ~s connections are open at the same time.~n", [
                        thousands(list_to_integer(N))
                    ]),
                    say("   Messages of ~s to ~s bytes, compared: ", [
                        thousands(lists:min(?SIZES)), thousands(lists:max(?SIZES))
                    ]),
                    watch_client(Client, Connections, Shown);
                ["compared", N] ->
                    Tenths = list_to_integer(N) * 10 div (Connections * length(?SIZES)),
                    [say("~b % ", [T * 10]) || T <- lists:seq(Shown + 1, Tenths)],
                    watch_client(Client, Connections, max(Shown, Tenths));
                ["done", Messages, Bytes] ->
                    say("~n", []),
                    receive
                        {Client, {exit_status, 0}} ->
                            {list_to_integer(Messages), list_to_integer(Bytes)}
                    after ?STALLED_MS -> throw({failed, "the client does not end"})
                    end;
                _ ->
                    throw({failed, ["the client says: ", Line | rest_of_output(Client)]})
            end;
        {Client, {exit_status, Status}} ->
            throw({failed, io_lib:format("the client ended with status ~b", [Status])})
    after ?STALLED_MS ->
        throw({failed, "no progress for a minute"})
    end.

rest_of_output(Client) ->
    receive
        {Client, {data, {_, More}}} -> ["\n", More | rest_of_output(Client)]
    after 1000 -> []
    end.

say(Format, Arguments) ->
    io:format(Format, Arguments).

max_fds() ->
    lists:max([0 | [N || {max_fds, N} <- lists:flatten([erlang:system_info(check_io)])]]).

thousands(N) when N < 1000 ->
    integer_to_list(N);
thousands(N) ->
    [thousands(N div 1000), io_lib:format(",~3..0b", [N rem 1000])].

%%% The client: an OS process of its own, that knows neither inert nor fdio

%% One process a connection. All connections are open before the first byte is sent.
-spec client([string()]) -> no_return().
client(Arguments) ->
    [Port, Connections | Sizes] = [list_to_integer(A) || A <- Arguments],
    process_flag(trap_exit, true),
    Workers = [
        begin
            {ok, Socket} = gen_tcp:connect(?LOOPBACK, Port, [binary, {active, false}]),
            Parent = self(),
            Worker = spawn_link(fun() -> worker(Parent, Socket, Sizes) end),
            ok = gen_tcp:controlling_process(Socket, Worker),
            Worker
        end
     || _ <- lists:seq(1, Connections)
    ],
    io:format("connected ~b~n", [length(Workers)]),
    lists:foreach(fun(Worker) -> Worker ! go end, Workers),
    collect(length(Workers), 0, 0).

collect(0, Messages, Bytes) ->
    io:format("done ~b ~b~n", [Messages, Bytes]),
    halt(0, [{flush, true}]);
collect(Running, Messages, Bytes) ->
    receive
        {compared, Size} ->
            (Messages + 1) rem 50 =:= 0 andalso io:format("compared ~b~n", [Messages + 1]),
            collect(Running, Messages + 1, Bytes + Size);
        {'EXIT', _Worker, normal} ->
            collect(Running - 1, Messages, Bytes);
        {'EXIT', _Worker, Reason} ->
            io:format("~0tp~n", [Reason]),
            halt(1, [{flush, true}])
    end.

worker(Parent, Socket, Sizes) ->
    receive
        go -> ok
    end,
    lists:foreach(
        fun(Size) ->
            Sent = rand:bytes(Size),
            %% Sending and receiving go on at the same time, as neither side's
            %% buffers need hold all of a message.
            Sender = spawn_link(fun() -> ok = gen_tcp:send(Socket, Sent) end),
            {ok, Received} = gen_tcp:recv(Socket, Size),
            Received =:= Sent orelse exit({came_back_different, Size}),
            Monitor = erlang:monitor(process, Sender),
            receive
                {'DOWN', Monitor, process, Sender, _} -> Parent ! {compared, Size}
            end
        end,
        Sizes
    ),
    %% The server's answer to the end of the data is the end of its own.
    ok = gen_tcp:shutdown(Socket, write),
    {error, closed} = gen_tcp:recv(Socket, 0),
    ok = gen_tcp:close(Socket).

%%% The SSH server's host key: a fresh one, kept nowhere

-spec host_key(ssh:pubkey_alg(), list()) -> {ok, public_key:private_key()} | {error, string()}.
host_key('ecdsa-sha2-nistp256', _Options) ->
    case persistent_term:get(?MODULE, none) of
        none ->
            Key = public_key:generate_key({namedCurve, secp256r1}),
            persistent_term:put(?MODULE, Key),
            {ok, Key};
        Key ->
            {ok, Key}
    end;
host_key(_Algorithm, _Options) ->
    {error, "only one kind of key here"}.

%% Nobody logs in.
-spec is_auth_key(public_key:public_key(), string(), list()) -> boolean().
is_auth_key(_Key, _User, _Options) ->
    false.
