%% SPDX-License-Identifier: Apache-2.0

%% @doc What `make demo' runs: inert at work, a tour of the examples.
%%
%% Each part uses one example against the real kernel, most of them with a program at the other end that does
%% not know inert: gen_tcp in another VM, OTP's SSH server, a shell, socat, ping. Every number it
%% shows is from this run. What this machine cannot do (a program is not there, the user has not the
%% right) is said to be left out, and why.
%%
%% Exits with status 0 only if all the rest worked.
-module(demo).

-export([main/0]).
-export([client/1]).
-export([poster/1]).
-export([pinged/0]).

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

%% There and back through the proxy.
-define(PROXIED, 33554432).

-define(POSTS, 10000).
-define(FILES, 500).

%% Of a millisecond.
-define(PERIODS, 250).

%% For a program to stop by itself.
-define(GRACE_MS, 200).

%% The exit status that says that a part could not be, on this machine.
-define(LEFT_OUT, 77).

%%% The demo

-spec main() -> no_return().
main() ->
    Began = erlang:monotonic_time(millisecond),
    try
        start(),
        lists:foreach(
            fun({Number, {Title, Part}}) ->
                say("~b. ~ts~n", [Number, Title]),
                Part(),
                say("~n", [])
            end,
            lists:enumerate(parts())
        ),
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

-spec parts() -> [{string(), fun(() -> term())}].
parts() ->
    [
        {"A TCP server on raw fds: echo.erl", fun echo/0},
        {"Connecting without blocking: conn.erl", fun ssh/0},
        {"A proxy in one process: splice.erl", fun proxy/0},
        {"A fd for another program: unix.erl, event.erl", fun another_program/0},
        {"UDP with ancillary data: udp.erl", fun udp/0},
        {"A directory: watch.erl", fun directory/0},
        {"A timer: fdtimer.erl", fun timer/0},
        {"Another program's end: pidfd.erl", fun stop_program/0},
        {"A serial line: serial.erl", fun serial_line/0},
        {"ICMP: ping.erl", fun icmp/0},
        {"A network interface: tun.erl, netlink.erl", fun network_interface/0}
    ].

%% What cannot be on this machine is no failure.
-spec left_out(string(), [term()]) -> ok.
left_out(Format, Arguments) ->
    say("   Left out: " ++ Format ++ ".~n", Arguments).

-spec check(boolean(), string(), [term()]) -> ok.
check(true, _Format, _Arguments) -> ok;
check(false, Format, Arguments) -> throw({failed, io_lib:format(Format, Arguments)}).

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
    say("   An echo server listens on port ~b.~n", [Port]),
    {Client, OsPid} = start_client([Port, Connections | ?SIZES]),
    say("   Its client is another OS process, ~b, that uses gen_tcp.~n", [OsPid]),
    {Messages, Bytes} = watch_client(Client, Connections),
    {Messages, Bytes} =:= {Connections * length(?SIZES), Connections * lists:sum(?SIZES)} orelse
        throw({failed, "the client compared less than it should have"}),
    say("   ~s messages, ~s bytes: all came back, every byte the same.~n", [
        thousands(Messages), thousands(Bytes)
    ]),
    ok = echo:stop(Server).

ssh() ->
    {ok, _} = application:ensure_all_started(ssh),
    {ok, Daemon} = ssh:daemon(?LOOPBACK, 0, [{key_cb, {?MODULE, []}}]),
    {ok, Info} = ssh:daemon_info(Daemon),
    {port, Port} = lists:keyfind(port, 1, Info),
    say("   OTP's SSH server listens on port ~b.~n", [Port]),
    case conn:ssh(?LOOPBACK, Port) of
        {ok, <<"SSH-2.0-", _/binary>> = Greeting} ->
            say("   Its greeting: ~ts~n", [Greeting]);
        Other ->
            throw({failed, io_lib:format("conn:ssh/2 returned ~tp", [Other])})
    end,
    ok = ssh:stop_daemon(Daemon).

%%% A proxy

%% A client of gen_tcp, the splice, and the server of echo.erl.
proxy() ->
    {ok, Server} = echo:start_link(0),
    {ok, Listen} = fdio:socket(inet, stream, 0),
    ok = fdio:bind(Listen, {?LOOPBACK, 0}),
    ok = fdio:listen(Listen, 1),
    {ok, {_, Port}} = fdio:getsockname(Listen),
    {ok, Client} = gen_tcp:connect(?LOOPBACK, Port, [binary, {active, false}]),
    {ok, read} = inert:poll(Listen, read, ?STALLED_MS),
    {ok, Near} = fdio:accept(Listen),
    {ok, Far} = fdio:socket(inet, stream, 0),
    {error, einprogress} = fdio:connect(Far, {?LOOPBACK, echo:port(Server)}),
    {ok, write} = inert:poll(Far, write, ?STALLED_MS),
    ok = fdio:so_error(Far),
    Demo = self(),
    Splice = spawn_link(fun() -> Demo ! {self(), splice:run(Near, Far)} end),
    Began = erlang:monotonic_time(millisecond),
    _ = spawn_link(fun() ->
        Demo ! {sent, send_random(Client, ?PROXIED, crypto:hash_init(sha256))},
        ok = gen_tcp:shutdown(Client, write)
    end),
    {Received, Most} = receive_hashed(Client, Splice, crypto:hash_init(sha256), 0),
    Took = erlang:monotonic_time(millisecond) - Began,
    receive
        {sent, Sent} -> check(Sent =:= Received, "the bytes that came back are others", [])
    end,
    receive
        {Splice, {ok, #{Near := ?PROXIED, Far := ?PROXIED}}} -> ok;
        {Splice, Other} -> throw({failed, io_lib:format("splice:run/2 returned ~tp", [Other])})
    end,
    lists:foreach(fun(FD) -> ok = fdio:close(FD) end, [Near, Far, Listen]),
    ok = gen_tcp:close(Client),
    ok = echo:stop(Server),
    say("   ~s random bytes went through it to the echo server, and back, in ~.1f s.~n", [
        thousands(?PROXIED), Took / 1000
    ]),
    say("   SHA-256 of what was sent and received: the same. Held in memory when looked at: ~s bytes at most.~n", [
        thousands(Most)
    ]).

-spec send_random(gen_tcp:socket(), non_neg_integer(), crypto:hash_state()) -> binary().
send_random(_Socket, 0, Hash) ->
    crypto:hash_final(Hash);
send_random(Socket, Left, Hash) ->
    Data = rand:bytes(min(Left, 65536)),
    ok = gen_tcp:send(Socket, Data),
    send_random(Socket, Left - byte_size(Data), crypto:hash_update(Hash, Data)).

-spec receive_hashed(gen_tcp:socket(), pid(), crypto:hash_state(), non_neg_integer()) ->
    {binary(), non_neg_integer()}.
receive_hashed(Socket, Splice, Hash, Most) ->
    case gen_tcp:recv(Socket, 0, ?STALLED_MS) of
        {ok, Data} ->
            receive_hashed(Socket, Splice, crypto:hash_update(Hash, Data), max(Most, held(Splice)));
        {error, closed} ->
            {crypto:hash_final(Hash), Most}
    end.

%% The binaries that a process has, garbage included.
-spec held(pid()) -> non_neg_integer().
held(Pid) ->
    case process_info(Pid, binary) of
        {binary, Binaries} -> lists:sum([Size || {_, Size, _} <- lists:ukeysort(1, Binaries)]);
        undefined -> 0
    end.

%%% Another program

another_program() ->
    Path = <<0, "inert demo ", (list_to_binary(os:getpid()))/binary>>,
    {ok, Listen} = unix:listen(Path),
    {ok, Event} = event:open(counter),
    {Program, OsPid} = start_vm([], "poster", [binary_to_list(binary:part(Path, 1, byte_size(Path) - 1))]),
    {ok, Socket} = unix:accept(Listen, ?STALLED_MS),
    ok = unix:send(Socket, <<"event">>, [Event], ?STALLED_MS),
    say("   OS process ~b got the fd of a counter over a unix socket, and adds 1 to it ~s times.~n", [
        OsPid, thousands(?POSTS)
    ]),
    Takes = take(Event, ?POSTS, 0),
    say("   Reading it ~s, this VM took ~s.~n", [times(Takes), thousands(?POSTS)]),
    {0, []} = output(Program),
    {error, closed} = unix:recv(Socket, 0, ?STALLED_MS),
    lists:foreach(fun unix:close/1, [Socket, Listen, Event]).

-spec take(fdio:fd(), non_neg_integer(), non_neg_integer()) -> non_neg_integer().
take(_Event, 0, Takes) ->
    Takes;
take(Event, Left, Takes) ->
    case event:take(Event, ?STALLED_MS) of
        {ok, Count} when Count =< Left -> take(Event, Left - Count, Takes + 1);
        Other -> throw({failed, io_lib:format("event:take/2 returned ~tp", [Other])})
    end.

%% The other program.
-spec poster([string()]) -> no_return().
poster(Words) ->
    {ok, Socket} = unix:connect(stream, <<0, (list_to_binary(lists:join(" ", Words)))/binary>>, ?STALLED_MS),
    {ok, <<"event">>, [Event]} = unix:recv(Socket, 1, ?STALLED_MS),
    lists:foreach(fun(_) -> ok = event:post(Event, 1) end, lists:seq(1, ?POSTS)),
    halt(0, [{flush, true}]).

%%% UDP

%% On the loopback interface only: nobody else on the network can ask.
udp() ->
    {ok, Server} = udp:start_link(0, #{interface => <<"lo">>}),
    Port = udp:port(Server),
    say("   An echo server for every address of the loopback interface listens on port ~b.~n", [Port]),
    lists:foreach(
        fun(IP) ->
            case udp:ask({IP, Port}, <<"hello">>, ?STALLED_MS) of
                {ok, #{data := <<"hello">>, ttl := TTL, round_trip := RoundTrip}} ->
                    say("   Asked at ~s, it answered from there in ~b us, TTL ~b.~n", [
                        inet:ntoa(IP), RoundTrip div 1000, TTL
                    ]);
                Other ->
                    throw({failed, io_lib:format("udp:ask/3 returned ~tp", [Other])})
            end
        end,
        [?LOOPBACK, {127, 0, 0, 2}, {127, 1, 2, 3}]
    ),
    ok = udp:stop(Server).

%%% A directory

directory() ->
    Directory = filename:join(os:getenv("TMPDIR", "/tmp"), "inert-demo-" ++ os:getpid()),
    ok = file:make_dir(Directory),
    {ok, Watcher} = watch:start_link(Directory),
    Script = io_lib:format(
        "cd ~s && for n in $(seq ~b); do echo $n > new; mv new $n; done && cd / && rm -r ~s", [
            Directory, ?FILES, Directory
        ]
    ),
    {Program, _OsPid} = start_program("/bin/sh", ["-c", lists:flatten(Script)]),
    Changes = watched(Watcher),
    {0, []} = output(Program),
    Names = [integer_to_binary(N) || N <- lists:seq(1, ?FILES)],
    Told = fun(Kind) -> [Change || Change <- Changes, element(1, Change) =:= Kind] end,
    Expected = [{renamed, <<"new">>, Name} || Name <- Names],
    check(Told(renamed) =:= Expected, "renames were told as ~0tp", [Told(renamed)]),
    check(length(Told(written)) =:= ?FILES, "~b writes were told", [length(Told(written))]),
    check(
        lists:sort(Told(deleted)) =:= lists:sort([{deleted, Name} || Name <- Names]),
        "not every file was told to be deleted",
        []
    ),
    say("   A shell wrote, renamed and deleted ~b files, and then their directory.~n", [?FILES]),
    say("   ~s changes were told, every rename with both names, and the end of the directory.~n", [
        thousands(length(Changes))
    ]).

-spec watched(pid()) -> [watch:change()].
watched(Watcher) ->
    receive
        {watch, Watcher, gone} ->
            [];
        {watch, Watcher, Changes} ->
            ok = watch:next(Watcher),
            Changes ++ watched(Watcher)
    after ?STALLED_MS -> throw({failed, "no change of the directory is told"})
    end.

%%% A timer

timer() ->
    Began = erlang:monotonic_time(microsecond),
    {ok, {Told, Missed}} = fdtimer:fold(
        1_000_000,
        fun(Missed, {Told, Sum}) ->
            Go =
                case Told + Sum + Missed + 1 >= ?PERIODS of
                    true -> stop;
                    false -> ok
                end,
            {Go, {Told + 1, Sum + Missed}}
        end,
        {0, 0}
    ),
    Took = erlang:monotonic_time(microsecond) - Began,
    say("   ~b periods of 1 ms took ~.3f ms. ~b were told at once; ~b ended while this VM was busy, and were counted.~n", [
        Told + Missed, Took / 1000, Told, Missed
    ]).

%%% Another program's end

stop_program() ->
    {Program, OsPid} = start_program("/bin/sh", ["-c", "trap '' TERM; echo deaf; read line"]),
    receive
        {Program, {data, {eol, "deaf"}}} -> ok
    after ?STALLED_MS -> throw({failed, "a shell does not start"})
    end,
    Began = erlang:monotonic_time(millisecond),
    {ok, kill} = pidfd:stop(OsPid, ?GRACE_MS),
    Took = erlang:monotonic_time(millisecond) - Began,
    {137, []} = output(Program),
    say("   OS process ~b ignored SIGTERM for ~b ms; SIGKILL ended it, seen by its pidfd after ~b ms in all.~n", [
        OsPid, ?GRACE_MS, Took
    ]).

%%% A serial line

%% socat makes a pseudo-terminal with a program at the other end.
serial_line() ->
    case os:find_executable("socat") of
        false -> left_out("socat is not installed", []);
        Socat -> serial_line(Socat)
    end.

-spec serial_line(string()) -> ok.
serial_line(Socat) ->
    Tty = filename:join(os:getenv("TMPDIR", "/tmp"), "inert-demo-tty-" ++ os:getpid()),
    {Program, OsPid} = start_program(Socat, [
        "-d", "-d", "-t", "0", "PTY,rawer,link=" ++ Tty, "SYSTEM:sed -u s/^AT/OK/"
    ]),
    try
        await_transfer(Program),
        {ok, Line} = serial:open(Tty, #{speed => 115200}),
        ok = serial:write(Line, <<"AT+GMI\n">>, ?STALLED_MS),
        {ok, Answer} = serial:read_line(Line, ?STALLED_MS),
        check(Answer =:= <<"OK+GMI">>, "the line answers ~tp", [Answer]),
        ok = serial:close(Line),
        say("   ~s, set to 115200 bits/s, with sed at its other end: sent AT+GMI, received ~s.~n", [Tty, Answer])
    after
        %% It waits for the next one to open its terminal.
        {ok, _} = pidfd:stop(OsPid, ?STALLED_MS),
        _ = output(Program),
        _ = file:delete(Tty)
    end.

%% socat says when the terminal is there.
-spec await_transfer(port()) -> ok.
await_transfer(Program) ->
    receive
        {Program, {data, {_, Text}}} ->
            case string:find(Text, "starting data transfer loop") of
                nomatch -> await_transfer(Program);
                _There -> ok
            end;
        {Program, {exit_status, Status}} ->
            throw({failed, io_lib:format("socat ended with status ~b", [Status])})
    after ?STALLED_MS -> throw({failed, "socat does not start"})
    end.

%%% ICMP

icmp() ->
    case ping:ping(?LOOPBACK, #{count => 5, interval => 10, timeout => ?STALLED_MS}) of
        {ok, Replies} ->
            Times = [Microseconds || {_Sequence, {ok, Microseconds}} <- Replies],
            check(length(Times) =:= 5, "ping:ping/2 returned ~tp", [Replies]),
            say("   ~s answered 5 of 5 echo requests, in ~b to ~b us.~n", [
                inet:ntoa(?LOOPBACK), lists:min(Times), lists:max(Times)
            ]);
        {error, {socket, Reason}} ->
            left_out("no ICMP socket (~s)", [Reason])
    end.

%%% A network interface

%% In a network namespace of its own, which a user may make who is root in a user namespace.
network_interface() ->
    case [Name || Name <- ["unshare", "ip", "ping"], os:find_executable(Name) =:= false] of
        [] -> network_interface(os:find_executable("unshare"));
        [Missing | _] -> left_out("~s is not installed", [Missing])
    end.

-spec network_interface(string()) -> ok.
network_interface(Unshare) ->
    AsRoot = ["--map-root-user" || os:cmd("id -u") =/= "0\n"],
    {Program, _OsPid} = start_vm([Unshare, "--net" | AsRoot], "pinged", []),
    case output(Program) of
        {0, Lines} -> lists:foreach(fun(Line) -> say("   ~ts~n", [Line]) end, Lines);
        {?LEFT_OUT, Lines} -> left_out("~ts", [lists:join(" ", Lines)]);
        %% unshare(1) is not allowed to.
        {1, ["unshare: " ++ Why | _]} -> left_out("no network namespace (~ts)", [Why]);
        {Status, Lines} -> throw({failed, io_lib:format("status ~b, ~tp", [Status, Lines])})
    end.

%% In the namespace.
-spec pinged() -> no_return().
pinged() ->
    process_flag(trap_exit, true),
    {ok, Watcher} = netlink:start_link(),
    synced = await_event(Watcher, fun(Event) -> Event =:= synced end),
    case tun:start_link(#{address => {192, 0, 2, 2}}) of
        {ok, Host} ->
            ok = tun:up(tun:device(Host), {192, 0, 2, 1}, 24),
            {new_address, #{prefix_length := Length}} = await_event(Watcher, fun
                ({new_address, #{address := IP}}) -> IP =:= {192, 0, 2, 1};
                (_Other) -> false
            end),
            say("The kernel told of the new address 192.0.2.1/~b.~n", [Length]),
            {Ping, _} = start_program(os:find_executable("ping"), [
                "-c", "5", "-i", "0.2", "-w", "30", "192.0.2.2"
            ]),
            {0, Lines} = output(Ping),
            say("192.0.2.2 is an Erlang process behind ~s; ping says:~n", [tun:device(Host)]),
            [say("~s~n", [Line]) || Line <- Lines, string:find(Line, "packets transmitted") =/= nomatch],
            ok = tun:stop(Host),
            halt(0, [{flush, true}]);
        {error, Reason} ->
            say("no TUN device (~tp)~n", [Reason]),
            halt(?LEFT_OUT, [{flush, true}])
    end.

%% The first event for which the function is true.
-spec await_event(pid(), fun((netlink:event()) -> boolean())) -> netlink:event().
await_event(Watcher, Fun) ->
    ok = netlink:next(Watcher),
    receive
        {netlink, Watcher, Events} ->
            case lists:filter(Fun, Events) of
                [Event | _] -> Event;
                [] -> await_event(Watcher, Fun)
            end
    after ?STALLED_MS -> throw({failed, "no event of the network is told"})
    end.

%%% Other programs

start_client(Arguments) ->
    start_vm([], "client", [integer_to_list(A) || A <- Arguments]).

%% Another VM, as an OS process of its own, that runs a function of this module; Before is what
%% the command line begins with.
-spec start_vm([string()], string(), [string()]) -> {port(), OsPid :: integer()}.
start_vm(Before, Function, Arguments) ->
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    [Program | First] = Before ++ [Erl],
    start_program(
        Program, First ++ ["-noinput", "-pa", filename:dirname(code:which(?MODULE)), "-run", "demo", Function | Arguments]
    ).

-spec start_program(string(), [string()]) -> {port(), OsPid :: integer()}.
start_program(Program, Arguments) ->
    Port = open_port({spawn_executable, Program}, [
        {line, 200}, exit_status, stderr_to_stdout, {args, Arguments}
    ]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    {Port, OsPid}.

%% All lines of a program, and its exit status.
-spec output(port()) -> {integer(), [string()]}.
output(Port) ->
    receive
        {Port, {data, {_, Line}}} ->
            {Status, Lines} = output(Port),
            {Status, [Line | Lines]};
        {Port, {exit_status, Status}} ->
            {Status, []}
    after ?STALLED_MS -> throw({failed, "a program does not end"})
    end.

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

times(1) -> "once";
times(N) -> [thousands(N), " times"].

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
