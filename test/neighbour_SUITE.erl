%% SPDX-License-Identifier: Apache-2.0
%%
%% Fds that somebody else uses through ERTS, too: inet, socket, ports. The epoll
%% pollset disturbs nobody, and nobody disturbs it. (The erts pollset cannot
%% promise that: ERTS has one user per fd.)
-module(neighbour_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([suite/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

-export([a_passive_tcp_socket_is_polled_and_received_in_turn/1]).
-export([an_active_tcp_socket_loses_nothing_while_polled/1]).
-export([an_active_once_tcp_socket_loses_nothing_while_polled/1]).
-export([a_udp_socket_loses_nothing_while_polled/1]).
-export([a_socket_is_polled_while_it_waits_in_recv/1]).
-export([a_port_of_a_fd_loses_nothing_while_polled/1]).
-export([a_tcp_socket_is_closed_while_armed/1]).
-export([a_socket_is_closed_while_armed/1]).

%% For logger.
-export([log/2]).

-define(MESSAGES, 500).

-spec all() -> [atom()].
all() ->
    [
        a_passive_tcp_socket_is_polled_and_received_in_turn,
        an_active_tcp_socket_loses_nothing_while_polled,
        an_active_once_tcp_socket_loses_nothing_while_polled,
        a_udp_socket_loses_nothing_while_polled,
        a_socket_is_polled_while_it_waits_in_recv,
        a_port_of_a_fd_loses_nothing_while_polled,
        a_tcp_socket_is_closed_while_armed,
        a_socket_is_closed_while_armed
    ].

-spec suite() -> [tuple()].
suite() ->
    [{timetrap, {seconds, 60}}].

-spec init_per_suite(list()) -> list() | {skip, string()}.
init_per_suite(Config) ->
    case os:type() of
        {unix, linux} ->
            ok = inert:start([{pollset, epoll}]),
            Config;
        _ ->
            {skip, "epoll is Linux's"}
    end.

-spec end_per_suite(list()) -> ok.
end_per_suite(_Config) ->
    inert:stop().

-spec init_per_testcase(atom(), list()) -> list().
init_per_testcase(_Case, Config) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => warning, config => #{to => self()}}),
    Config.

%% Nobody has reported anything.
-spec end_per_testcase(atom(), list()) -> ok | {fail, term()}.
end_per_testcase(_Case, _Config) ->
    ok = logger:remove_handler(?MODULE),
    ok.

-spec log(logger:log_event(), map()) -> term().
log(Event, #{config := #{to := Pid}}) ->
    Pid ! {?MODULE, Event}.

-spec nothing_logged() -> ok.
nothing_logged() ->
    %% What ERTS reports comes through this process. What is on its way to the
    %% handler has passed when the answer and the line below have.
    _ = sys:get_status(logger_proxy),
    logger:warning("~s", [?FUNCTION_NAME]),
    receive
        {?MODULE, #{msg := {"~s", [?FUNCTION_NAME]}}} -> ok;
        {?MODULE, Event} -> ct:fail({logged, Event})
    end.

a_passive_tcp_socket_is_polled_and_received_in_turn(_Config) ->
    {Socket, Peer} = tcp([binary, {active, false}]),
    {ok, FD} = inet:getfd(Socket),
    lists:foreach(
        fun(N) ->
            {error, timeout} = inert:poll(FD, read, 0),
            Poller = poller(FD),
            ok = gen_tcp:send(Peer, <<N:32>>),
            {ok, read} = result(Poller),
            {ok, <<N:32>>} = gen_tcp:recv(Socket, 4)
        end,
        lists:seq(1, ?MESSAGES)
    ),
    ok = gen_tcp:close(Socket),
    ok = gen_tcp:close(Peer),
    nothing_logged().

an_active_tcp_socket_loses_nothing_while_polled(_Config) ->
    tcp_loses_nothing(true).

an_active_once_tcp_socket_loses_nothing_while_polled(_Config) ->
    tcp_loses_nothing(once).

tcp_loses_nothing(Active) ->
    {Socket, Peer} = tcp([binary, {packet, 4}, {active, Active}]),
    {ok, FD} = inet:getfd(Socket),
    Storm = storm(FD),
    lists:foreach(
        fun(N) ->
            ok = gen_tcp:send(Peer, <<4:32, N:32>>),
            receive
                {tcp, Socket, <<N:32>>} -> ok
            end,
            ok = inet:setopts(Socket, [{active, Active}])
        end,
        lists:seq(1, ?MESSAGES)
    ),
    calm(Storm),
    ok = gen_tcp:close(Socket),
    ok = gen_tcp:close(Peer),
    nothing_logged().

a_udp_socket_loses_nothing_while_polled(_Config) ->
    {ok, Socket} = gen_udp:open(0, [binary, {active, true}, {ip, {127, 0, 0, 1}}]),
    {ok, Peer} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    {ok, FD} = inet:getfd(Socket),
    Storm = storm(FD),
    lists:foreach(
        fun(N) ->
            ok = gen_udp:send(Peer, {127, 0, 0, 1}, Port, <<N:32>>),
            receive
                {udp, Socket, _, _, <<N:32>>} -> ok
            end
        end,
        lists:seq(1, ?MESSAGES)
    ),
    calm(Storm),
    ok = gen_udp:close(Socket),
    ok = gen_udp:close(Peer),
    nothing_logged().

a_socket_is_polled_while_it_waits_in_recv(_Config) ->
    {Socket, Peer} = sockets(),
    {ok, FD} = socket:getopt(Socket, otp, fd),
    Storm = storm(FD),
    Self = self(),
    Receiver = spawn_link(fun() -> receive_all(Self, Socket, 1) end),
    lists:foreach(
        fun(N) ->
            ok = socket:send(Peer, <<N:32>>),
            receive
                {Receiver, N} -> ok
            end
        end,
        lists:seq(1, ?MESSAGES)
    ),
    calm(Storm),
    ok = socket:close(Peer),
    ok = socket:close(Socket),
    nothing_logged().

receive_all(_Parent, _Socket, N) when N > ?MESSAGES ->
    ok;
receive_all(Parent, Socket, N) ->
    {ok, <<N:32>>} = socket:recv(Socket, 4),
    Parent ! {self(), N},
    receive_all(Parent, Socket, N + 1).

a_port_of_a_fd_loses_nothing_while_polled(_Config) ->
    {ok, {FD, PeerFD}} = fdio:socketpair(),
    Port = open_port({fd, FD, FD}, [binary, stream]),
    Storm = storm(FD),
    lists:foreach(
        fun(N) ->
            {ok, 4} = fdio:write(PeerFD, <<N:32>>),
            receive
                {Port, {data, <<N:32>>}} -> ok
            end
        end,
        lists:seq(1, ?MESSAGES)
    ),
    calm(Storm),
    true = port_close(Port),
    ok = fdio:close(FD),
    ok = fdio:close(PeerFD),
    nothing_logged().

a_tcp_socket_is_closed_while_armed(_Config) ->
    lists:foreach(
        fun(_) ->
            {Socket, Peer} = tcp([binary, {active, true}]),
            {ok, FD} = inet:getfd(Socket),
            ok = inert:fdset(FD, read),
            ok = gen_tcp:close(Socket),
            ok = gen_tcp:close(Peer),
            forgotten(FD)
        end,
        lists:seq(1, 100)
    ),
    nothing_logged().

a_socket_is_closed_while_armed(_Config) ->
    lists:foreach(
        fun(_) ->
            {Socket, Peer} = sockets(),
            {ok, FD} = socket:getopt(Socket, otp, fd),
            ok = inert:fdset(FD, read),
            ok = socket:close(Socket),
            ok = socket:close(Peer),
            forgotten(FD)
        end,
        lists:seq(1, 100)
    ),
    nothing_logged().

%% Nothing of a closed fd reaches this process, not even when its number is back.
forgotten(FD) ->
    _ = inert:fdclr(FD),
    receive
        {inert_read, _, FD} -> ok
    after 0 -> ok
    end.

%% A process that polls once.
poller(FD) ->
    Self = self(),
    spawn_link(fun() -> Self ! {self(), inert:poll(FD, read)} end).

result(Poller) ->
    receive
        {Poller, Result} -> Result
    end.

%% A process that polls and sets as fast as it can until it is told to stop.
storm(FD) ->
    Self = self(),
    spawn_link(fun() -> storm(Self, FD, 0) end).

storm(Parent, FD, Count) ->
    case inert:poll(FD, read, 1) of
        {ok, read} -> ok;
        {error, timeout} -> ok
    end,
    ok = inert:fdset(FD, read),
    ok = inert:fdclr(FD),
    receive
        stop -> Parent ! {self(), Count}
    after 0 -> storm(Parent, FD, Count + 1)
    end.

calm(Storm) ->
    Storm ! stop,
    ?assert(result(Storm) > 0).

tcp(Options) ->
    {ok, Listen} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}} | Options]),
    {ok, Port} = inet:port(Listen),
    {ok, Peer} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}, {nodelay, true}]),
    {ok, Socket} = gen_tcp:accept(Listen),
    ok = gen_tcp:close(Listen),
    {Socket, Peer}.

sockets() ->
    {ok, Listen} = socket:open(inet, stream, tcp),
    ok = socket:bind(Listen, #{family => inet, addr => {127, 0, 0, 1}, port => 0}),
    ok = socket:listen(Listen),
    {ok, Address} = socket:sockname(Listen),
    {ok, Peer} = socket:open(inet, stream, tcp),
    ok = socket:connect(Peer, Address),
    {ok, Socket} = socket:accept(Listen),
    ok = socket:close(Listen),
    {Socket, Peer}.
