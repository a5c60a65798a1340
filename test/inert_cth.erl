%% SPDX-License-Identifier: Apache-2.0
%%
%% A Common Test hook that counts what the VM holds before and after each suite: file
%% descriptors, ports of inert's driver, the registered service, and memory. A suite
%% that leaves a file descriptor, a port or the service behind has failed; memory is
%% reported only, because it moves with what the VM caches.
%%
%% It knows the VM and /proc, and nothing of the suites: what inert_test looks for
%% after each case, this finds after any suite, whatever it uses.
-module(inert_cth).

-export([leaks/0]).
-export([id/1, init/2]).
-export([pre_init_per_suite/3, post_end_per_suite/4]).

-define(DRIVER, "inert_drv").
-define(SERVICE, inert).

%% A port that was closed gives its file descriptors back a moment later, on another
%% thread. What is held for longer is left behind.
-define(PATIENCE_MS, 10_000).

-define(SHOWN, 5).

-type holdings() :: #{
    fds := #{string() => string()},
    ports := [port()],
    service := [port() | pid()],
    memory := [{atom(), non_neg_integer()}]
}.
-type state() :: #{logs := string(), before => holdings()}.

%% What the suites of this VM have left behind, one string each. Common Test does not
%% count what fails at a suite's end.
-spec leaks() -> [string()].
leaks() ->
    persistent_term:get(?MODULE, []).

-spec id(term()) -> module().
id(_Options) ->
    ?MODULE.

-spec init(module(), [{logdir, file:filename()}]) -> {ok, state()}.
init(?MODULE, Options) ->
    {ok, #{logs => filename:absname(proplists:get_value(logdir, Options, "."))}}.

-spec pre_init_per_suite(module(), Config, state()) -> {Config, state()}.
pre_init_per_suite(_Suite, Config, State) ->
    {Config, State#{before => holdings(State)}}.

-spec post_end_per_suite(module(), term(), Result, state()) -> {Result | {fail, term()}, state()}.
post_end_per_suite(Suite, _Config, Result, #{before := Before} = State) ->
    {Left, Now} = settled(Before, State, erlang:monotonic_time(millisecond) + ?PATIENCE_MS),
    io:format(user, "held ~s: ~ts~n", [Suite, report(Before, Now)]),
    case Left of
        [] ->
            {Result, State};
        _ ->
            Some = some(Left),
            persistent_term:put(?MODULE, leaks() ++ Some),
            [io:format(user, "not ok ~s left behind: ~ts~n", [Suite, What]) || What <- Some],
            {{fail, {left_behind, Some}}, State}
    end.

%% A case that fails with a thousand fds open has one thing to say.
some(Left) when length(Left) > ?SHOWN ->
    lists:sublist(Left, ?SHOWN) ++ [text("and ~b more", [length(Left) - ?SHOWN])];
some(Left) ->
    Left.

settled(Before, State, Deadline) ->
    Now = holdings(State),
    case left_behind(Before, Now) of
        [] ->
            {[], Now};
        Left ->
            case erlang:monotonic_time(millisecond) > Deadline of
                true ->
                    {Left, Now};
                false ->
                    receive
                    after 10 -> ok
                    end,
                    settled(Before, State, Deadline)
            end
    end.

-spec holdings(state()) -> holdings().
holdings(#{logs := Logs}) ->
    _ = [erlang:garbage_collect(Pid) || Pid <- processes()],
    #{
        fds => fds(Logs),
        ports => [Port || Port <- erlang:ports(), is_inert(erlang:port_info(Port, name))],
        service => [Service || Service <- [whereis(?SERVICE)], Service =/= undefined],
        memory => memory()
    }.

%% A VM without its own allocators, as valgrind needs it, does not know.
memory() ->
    try
        erlang:memory([total, processes, system, binary])
    catch
        error:notsup -> []
    end.

%% Every open file descriptor and what it is, but for Common Test's logs. The one that
%% reads the directory is closed again by the time it is looked at.
fds(Logs) ->
    case file:list_dir("/proc/self/fd") of
        {ok, Names} ->
            maps:from_list([
                {Name, Target}
             || Name <- Names,
                {ok, Target} <- [file:read_link_all("/proc/self/fd/" ++ Name)],
                not lists:prefix(Logs, Target)
            ]);
        {error, _NotLinux} ->
            #{}
    end.

%% The name is the command that opened it.
is_inert({name, Name}) -> lists:prefix(?DRIVER, Name);
is_inert(undefined) -> false.

left_behind(#{fds := FdsBefore} = Before, #{fds := Fds} = Now) ->
    %% A number that is another file now has been closed, and opened again for good.
    [
        text("fd ~ts, ~ts", [Name, Target])
     || {Name, Target} <- lists:sort(maps:to_list(Fds)),
        maps:get(Name, FdsBefore, none) =/= Target
    ] ++
        [
            text("~0tp ~0tp", [Port, erlang:port_info(Port)])
         || Port <- maps:get(ports, Now) -- maps:get(ports, Before)
        ] ++
        [
            text("the service, ~0tp", [Service])
         || Service <- maps:get(service, Now) -- maps:get(service, Before)
        ].

text(Format, Arguments) ->
    lists:flatten(io_lib:format(Format, Arguments)).

report(Before, Now) ->
    Count = fun(Key, Size) ->
        io_lib:format("~s ~b -> ~b", [Key, Size(maps:get(Key, Before)), Size(maps:get(Key, Now))])
    end,
    Memory = [
        io_lib:format("~s ~b -> ~b kB", [Key, Bytes div 1024, proplists:get_value(Key, maps:get(memory, Now)) div 1024])
     || {Key, Bytes} <- maps:get(memory, Before)
    ],
    lists:join(", ", [Count(fds, fun maps:size/1), Count(ports, fun length/1), Count(service, fun length/1) | Memory]).
