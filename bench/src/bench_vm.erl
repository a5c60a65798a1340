%% SPDX-License-Identifier: Apache-2.0

%% @doc The operating system processes of the benchmark: VMs, the load generator, the server in
%% Rust. None of them outlives the one that asked for it.
-module(bench_vm).

-export([call/4]).
-export([under_load/2]).
-export([rust_under_load/1]).

-export_type([load/0]).
-export_type([report/0]).

-type load() :: #{connections := pos_integer(), warmup_ms := non_neg_integer(), measure_ms := pos_integer()}.
-type report() :: #{atom() => number()}.

%% A VM that has not answered by then hangs. The longest call, 4,000 connections or 8,000 fds and the
%% measurement, takes a few seconds on a slow machine.
-define(HANGS_MS, 60_000).

%% How long to wait for the end of a VM that has been told to halt, and how often to look.
-define(GONE_MS, 5_000).
-define(LOOK_MS, 5).

%% @doc Calls a function in a fresh VM, which ends with it.
-spec call(module(), atom(), [term()], timeout()) -> term().
call(Module, Function, Arguments, Timeout) ->
    with_vm(fun(VM) -> peer:call(VM, Module, Function, Arguments, Timeout) end).

%% @doc Starts a server in a fresh VM, and the load outside.
-spec under_load({module(), term()}, load()) -> report().
under_load({Module, Argument}, Load) ->
    with_vm(fun(VM) ->
        {ok, Port} = peer:call(VM, Module, listen, [Argument], ?HANGS_MS),
        load(Port, Load)
    end).

%% @doc The same with the server in Rust.
-spec rust_under_load(load()) -> report().
rust_under_load(Load) ->
    Server = start(["server"]),
    try
        {ok, <<"port ", Port/binary>>} = line(Server),
        load(binary_to_integer(Port), Load)
    after
        %% It ends with its standard input.
        true = port_close(Server)
    end.

with_vm(Use) ->
    %% Standard input and output: no distribution, no epmd, no traffic between calls.
    {ok, VM, _Node} = peer:start_link(#{
        connection => standard_io,
        args => ["-boot", "no_dot_erlang", "-pa", filename:dirname(code:which(?MODULE))],
        shutdown => {halt, ?HANGS_MS}
    }),
    Pid = peer:call(VM, os, getpid, []),
    try
        Use(VM)
    after
        ok = peer:stop(VM),
        until_gone("/proc/" ++ Pid, ?GONE_MS)
    end.

%% The end of a VM with thousands of connections takes a moment, which is not to be the next
%% measurement's. Where there is no /proc it is.
until_gone(Path, Left) ->
    case filelib:is_dir(Path) of
        true when Left > 0 ->
            timer:sleep(?LOOK_MS),
            until_gone(Path, Left - ?LOOK_MS);
        _ ->
            ok
    end.

load(Port, #{connections := Connections, warmup_ms := Warmup, measure_ms := Measure}) ->
    Client = start([
        "client",
        "--port",
        integer_to_list(Port),
        "--connections",
        integer_to_list(Connections),
        "--warmup",
        seconds(Warmup),
        "--seconds",
        seconds(Measure)
    ]),
    {ok, Line} = line(Client),
    receive
        {Client, {exit_status, 0}} -> ok
    end,
    %% A flat object, with numbers only.
    {match, Pairs} = re:run(Line, "\"(\\w+)\":([-+.0-9eE]+)", [global, {capture, all_but_first, binary}]),
    maps:from_list([{binary_to_atom(Name), number(Number)} || [Name, Number] <- Pairs]).

start(Arguments) ->
    open_port({spawn_executable, os:getenv("BENCH_LOAD")}, [
        {args, Arguments}, binary, {line, 1024}, exit_status
    ]).

line(Port) ->
    receive
        {Port, {data, {eol, Line}}} -> {ok, Line};
        {Port, {exit_status, Status}} -> {error, {exit_status, Status}}
    after ?HANGS_MS ->
        {error, hangs}
    end.

seconds(Milliseconds) ->
    float_to_list(Milliseconds / 1000, [{decimals, 3}]).

number(Text) ->
    try
        binary_to_integer(Text)
    catch
        error:badarg -> binary_to_float(Text)
    end.
