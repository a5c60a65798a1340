%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What inert:info/0, info/1 and i/0 tell, of any port of the driver.
-module(inert_info).

-export([port/1]).
-export([fd/2]).
-export([print/1]).

-type row() :: {FD :: string(), What :: string(), Kind :: string(), Owner :: string(), Waiting :: string()}.

%% Wider columns are shortened, so that a line of the table stays a line.
-define(WHAT_WIDTH, 79).
-define(OWNER_WIDTH, 41).

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
            io:format("~tp, pollset ~s: ~b waiting for ~b fds, ~b notifications so far~n", [
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
    What = shorten(what(Port, FD), ?WHAT_WIDTH),
    {integer_to_list(FD), What, atom_to_list(Kind), shorten(owner(Pid), ?OWNER_WIDTH), time(Waiting)}.

-spec what(prim_inert:prim_inert(), inert:fd()) -> string().
what(Port, FD) ->
    case inert_drv:describe(Port, FD) of
        {ok, Words} -> what(description(FD, Words));
        %% By its number, which is all that is known of it.
        {error, ebadf} -> "(closed)";
        {error, Errno} -> atom_to_list(Errno)
    end.

-spec what(map()) -> string().
what(#{type := socket, domain := Domain, style := Style} = Socket) ->
    Sides =
        case Socket of
            #{local := Local, peer := Peer} -> [Local, "-", Peer];
            #{local := Local} -> [Local];
            #{peer := Peer} -> ["-", Peer];
            #{} -> []
        end,
    lists:flatten(lists:join(" ", [Domain, atom_to_list(Style) | Sides]));
what(#{type := Type, path := Path}) ->
    case {Type, printable(Path)} of
        {anonymous, "anon_inode:" ++ Name} -> string:trim(Name, both, "[]");
        %% pipe:[1234] says it twice.
        {pipe, "pipe:" ++ _ = Name} -> Name;
        {anonymous, Name} -> Name;
        {character_device, Name} -> "device " ++ Name;
        {block_device, Name} -> "device " ++ Name;
        {_, Name} -> atom_to_list(Type) ++ " " ++ Name
    end;
what(#{type := Type}) ->
    atom_to_list(Type).

%% A path may have any bytes: none of them breaks the table, or the terminal.
-spec printable(file:filename_all()) -> string().
printable(Path) when is_binary(Path) ->
    case unicode:characters_to_list(Path) of
        Text when is_list(Text) -> printable(Text);
        _NotUtf8 -> lists:append([escape_byte(Byte) || <<Byte>> <= Path])
    end;
printable(Path) ->
    lists:flatmap(fun escape/1, Path).

-spec escape(char()) -> string().
escape(Char) when Char > 16#9f -> [Char];
escape(Char) -> escape_byte(Char).

-spec escape_byte(byte()) -> string().
escape_byte(Byte) when Byte >= $\s, Byte =< $~ -> [Byte];
escape_byte(Byte) -> lists:flatten(io_lib:format("\\x~2.16.0b", [Byte])).

%% What tells one from another is at the beginning and at the end.
-spec shorten(string(), pos_integer()) -> string().
shorten(Text, Width) ->
    case string:length(Text) of
        Length when Length > Width ->
            Half = (Width - 3) div 2,
            lists:flatten([string:slice(Text, 0, Half), "...", string:slice(Text, Length - Half)]);
        _ ->
            Text
    end.

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
