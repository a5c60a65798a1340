%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What inert:info/0, info/1 and i/0 tell, of any port of the driver.
-module(inert_info).

-export([port/1]).
-export([fd/2]).
-export([print/1]).

-type row() :: {FD :: string(), What :: string(), Kind :: string(), Owner :: string(), Waiting :: string()}.

-spec port(prim_inert:prim_inert()) -> inert:info() | {error, closed}.
port(Name) ->
    case {inert_drv:info(Name), to_port(Name)} of
        {{ok, Counters}, Port} when is_port(Port) -> Counters#{port => Port};
        _ -> {error, closed}
    end.

-spec to_port(prim_inert:prim_inert()) -> port() | pid() | undefined.
to_port(Name) when is_atom(Name) -> whereis(Name);
to_port(Port) -> Port.

-spec fd(prim_inert:prim_inert(), inert:fd()) -> inert:fd_info() | {error, ebadf | closed}.
fd(Port, FD) when FD >= 0, FD =< 16#7fffffff ->
    case {inert_drv:describe(Port, FD), inert_drv:waiters(Port, FD, key())} of
        {{ok, Words}, {ok, Waiters, _Next}} ->
            Own = [
                #{kind => Kind, pid => Pid, waiting => Waiting}
             || {Of, Kind, Pid, Waiting} <- Waiters, Of =:= FD
            ],
            (description(FD, Words))#{fd => FD, waiters => Own};
        {{error, closed}, _} ->
            {error, closed};
        {_, {error, closed}} ->
            {error, closed};
        {{error, _}, _} ->
            {error, ebadf}
    end;
fd(Port, _FD) ->
    case port(Port) of
        {error, closed} -> {error, closed};
        _ -> {error, ebadf}
    end.

-spec key() -> integer().
key() ->
    erlang:unique_integer([positive]) band 16#7fffffff.

-spec description(inert:fd(), [string()]) -> map().
description(_FD, ["socket", Domain, Style, Local, Peer]) ->
    Addresses = [{Side, Address} || {Side, [_ | _] = Address} <- [{local, Local}, {peer, Peer}]],
    maps:from_list([{type, socket}, {domain, Domain}, {style, list_to_atom(Style)} | Addresses]);
description(FD, [Type]) ->
    case file:read_link_all("/proc/self/fd/" ++ integer_to_list(FD)) of
        {ok, Path} -> #{type => list_to_atom(Type), path => Path};
        {error, _} -> #{type => list_to_atom(Type)}
    end.

-spec print(prim_inert:prim_inert()) -> ok | {error, closed}.
print(Port) ->
    case {port(Port), all(Port, 0, [])} of
        {#{pollset := Pollset, armed := Armed, fds := FDs, delivered := Delivered}, {ok, Waiters}} ->
            io:format("~p, pollset ~s: ~b waiting for ~b fds, ~b notifications so far~n", [
                Port, Pollset, Armed, FDs, Delivered
            ]),
            table([row(Port, Waiter) || Waiter <- Waiters]);
        _ ->
            {error, closed}
    end.

-spec all(prim_inert:prim_inert(), inert:fd(), [[inert_drv:waiter()]]) ->
    {ok, [inert_drv:waiter()]} | {error, closed}.
all(Port, First, Before) ->
    case inert_drv:waiters(Port, First, key()) of
        {ok, Waiters, none} -> {ok, lists:append(lists:reverse([Waiters | Before]))};
        {ok, Waiters, Next} -> all(Port, Next, [Waiters | Before]);
        {error, closed} -> {error, closed}
    end.

-spec table([row()]) -> ok.
table([]) ->
    ok;
table(Rows) ->
    Lines = [{"fd", "what", "kind", "owner", "waiting"} | Rows],
    Width = fun(Column) -> lists:max([string:length(element(Column, Line)) || Line <- Lines]) end,
    [FD, What, Kind, Owner, Waiting] = [Width(Column) || Column <- [1, 2, 3, 4, 5]],
    lists:foreach(
        fun({A, B, C, D, E}) ->
            io:format("~*ts  ~-*ts  ~-*ts  ~-*ts  ~*ts~n", [FD, A, What, B, Kind, C, Owner, D, Waiting, E])
        end,
        Lines
    ).

-spec row(prim_inert:prim_inert(), inert_drv:waiter()) -> row().
row(Port, {FD, Kind, Pid, Waiting}) ->
    {integer_to_list(FD), what(Port, FD), atom_to_list(Kind), owner(Pid), time(Waiting)}.

-spec what(prim_inert:prim_inert(), inert:fd()) -> string().
what(Port, FD) ->
    case inert_drv:describe(Port, FD) of
        {ok, Words} -> what(description(FD, Words));
        {error, Errno} -> atom_to_list(Errno)
    end.

-spec what(map()) -> string().
what(#{type := socket, domain := Domain, style := Style} = Socket) ->
    Peer =
        case Socket of
            #{peer := Address} -> " - " ++ Address;
            #{} -> ""
        end,
    Domain ++ " " ++ atom_to_list(Style) ++
        lists:append([" " ++ Local || #{local := Local} <- [Socket]]) ++ Peer;
what(#{type := Type, path := Path}) ->
    lists:flatten(io_lib:format("~s ~ts", [Type, Path]));
what(#{type := Type}) ->
    atom_to_list(Type).

-spec owner(pid()) -> string().
owner(Pid) ->
    case process_info(Pid, registered_name) of
        {registered_name, Name} -> lists:flatten(io_lib:format("~tp", [Name]));
        _ -> pid_to_list(Pid)
    end.

%% The largest two units.
-spec time(non_neg_integer()) -> string().
time(Milliseconds) when Milliseconds < 1_000 ->
    lists:flatten(io_lib:format("~b ms", [Milliseconds]));
time(Milliseconds) when Milliseconds < 60_000 ->
    lists:flatten(io_lib:format("~.1f s", [Milliseconds / 1_000]));
time(Milliseconds) ->
    Minutes = Milliseconds div 60_000,
    Format = fun(Large, Unit, Small, Smaller) ->
        lists:flatten(io_lib:format("~b ~s ~b ~s", [Large, Unit, Small, Smaller]))
    end,
    case Minutes of
        _ when Minutes < 60 -> Format(Minutes, "min", Milliseconds div 1_000 rem 60, "s");
        _ when Minutes < 24 * 60 -> Format(Minutes div 60, "h", Minutes rem 60, "min");
        _ -> Format(Minutes div (24 * 60), "d", Minutes div 60 rem 24, "h")
    end.
