%% SPDX-License-Identifier: Apache-2.0

%% @doc ICMP echo: is a host there, and how far away?
%%
%% ```
%% 1> ping:ping({127, 0, 0, 1}, #{count => 3, interval => 100}).
%% {ok,[{1,{ok,74}},{2,{ok,81}},{3,{ok,69}}]}
%% '''
%%
%% There are two ways to an ICMP socket. A datagram socket needs no rights where the sysctl
%% net.ipv4.ping_group_range has the user's group, and the kernel hands it only the replies to its own requests. A
%% raw socket needs CAP_NET_RAW and sees all that comes from the host, of which this picks its own. Either
%% is connected to the host, so that final errors from the network ("administratively prohibited") come back as
%% errors of the socket. What may pass ("host unreachable", from a router that looks for it) the kernel keeps to
%% itself, unless asked with `IP_RECVERR'; it ends as a timeout.
-module(ping).

-export([ping/1]).
-export([ping/2]).

-export_type([options/0]).
-export_type([reply/0]).

-type options() :: #{
    count => pos_integer(),
    interval => non_neg_integer(),
    timeout => non_neg_integer(),
    size => 0..65527,
    socket => any | dgram | raw
}.
%% `count': how many requests, one after the other; default 1. `interval': milliseconds from one request to the
%% next, or more if the reply takes longer; default 1000. `timeout': milliseconds to wait for each reply;
%% default 1000. `size': bytes in a request behind its header; default 56. `socket': which kind; default `any',
%% `dgram' if it is allowed and else `raw'.

-type reply() :: {Sequence :: 1..65535, {ok, Microseconds :: non_neg_integer()} | {error, reason()}}.

-type reason() :: timeout | closed | fdio:posix().
%% `closed': inert has been stopped.

-record(target, {
    fd :: fdio:fd(),
    type :: dgram | raw,
    family :: inet | inet6,
    %% What tells this call's replies from those of others.
    id :: 0..16#ffff,
    payload :: binary(),
    timeout :: non_neg_integer()
}).

%% The largest datagram there is.
-define(MAX_PACKET, 65535).

%%% API

%% @doc As `ping(IP, #{})'.
-spec ping(inet:ip_address()) -> {ok, [reply()]} | {error, {atom(), fdio:posix()}}.
ping(IP) ->
    ping(IP, #{}).

%% @doc Sends requests and tells what became of each.
%%
%% A reply that comes after its timeout changes nothing, and neither do a second one and replies to others.
%% Errors of one request: `timeout', `ehostunreach' (such as from a firewall), `enetunreach', `emsgsize', ...
%%
%% Errors of the whole are named by the call that failed: `{socket, eacces}' or `{socket, eperm}' (neither kind is
%% allowed), `{connect, enetunreach}', ... Bad arguments raise `badarg'.
-spec ping(inet:ip_address(), options()) -> {ok, [reply()]} | {error, {atom(), fdio:posix()}}.
ping(IP, Options) ->
    Defaults = #{count => 1, interval => 1000, timeout => 1000, size => 56, socket => any},
    All = maps:merge(Defaults, Options),
    (inet:is_ip_address(IP) andalso maps:size(All) =:= 5 andalso lists:all(fun is_option/1, maps:to_list(All))) orelse
        error(badarg, [IP, Options]),
    ok = inert:start(),
    #{count := Count, interval := Interval, socket := Kind} = All,
    case open(family(IP), Kind) of
        {ok, {Type, FD}} ->
            %% Runs on errors and exceptions. If this process may be killed from
            %% outside, the fd must belong to another one: see echo.erl.
            try
                case target(FD, Type, IP, All) of
                    {ok, Target} -> {ok, requests(1, Count, Interval, Target)};
                    {error, _Reason} = Error -> Error
                end
            after
                %% First cleared, then closed: the number may belong to another file at once.
                _ = inert:fdclr(FD),
                ok = fdio:close(FD)
            end;
        {error, Reason} ->
            {error, {socket, Reason}}
    end.

-spec is_option({atom(), term()}) -> boolean().
is_option({count, N}) -> is_integer(N) andalso N >= 1 andalso N =< 65535;
is_option({size, N}) -> is_integer(N) andalso N >= 0 andalso N =< 65527;
is_option({socket, Kind}) -> lists:member(Kind, [any, dgram, raw]);
is_option({_Time, Ms}) -> is_integer(Ms) andalso Ms >= 0 andalso Ms =< 16#ffffffff.

%%% The socket

-spec open(inet | inet6, any | dgram | raw) -> {ok, {dgram | raw, fdio:fd()}} | {error, fdio:posix()}.
open(Family, any) ->
    case open(Family, dgram) of
        {ok, _} = Opened -> Opened;
        {error, _NotAllowed} -> open(Family, raw)
    end;
open(Family, Type) ->
    case fdio:socket(Family, Type, protocol(Family)) of
        {ok, FD} -> {ok, {Type, FD}};
        {error, _Reason} = Error -> Error
    end.

-spec protocol(inet | inet6) -> icmp | icmpv6.
protocol(inet) -> icmp;
protocol(inet6) -> icmpv6.

-spec family(inet:ip_address()) -> inet | inet6.
family(IP) when tuple_size(IP) =:= 4 -> inet;
family(IP) when tuple_size(IP) =:= 8 -> inet6.

-spec target(fdio:fd(), dgram | raw, inet:ip_address(), map()) ->
    {ok, #target{}} | {error, {connect | getsockname, fdio:posix()}}.
target(FD, Type, IP, #{size := Size, timeout := Timeout}) ->
    case {fdio:connect(FD, {IP, 0}), fdio:getsockname(FD)} of
        {ok, {ok, {_OwnIP, Port}}} ->
            {ok, #target{
                fd = FD,
                type = Type,
                family = family(IP),
                id = id(Type, Port),
                payload = rand:bytes(Size),
                timeout = Timeout
            }};
        {{error, Reason}, _} ->
            {error, {connect, Reason}};
        {ok, {error, Reason}} ->
            {error, {getsockname, Reason}}
    end.

%% The kernel gives a datagram socket an id of its own, which it shows as its port.
-spec id(dgram | raw, 0..16#ffff) -> 0..16#ffff.
id(dgram, Port) -> Port;
id(raw, _Protocol) -> rand:uniform(65536) - 1.

%%% Requests and replies

-spec requests(pos_integer(), pos_integer(), non_neg_integer(), #target{}) -> [reply()].
requests(Last, Last, _Interval, Target) ->
    [{Last, request(Last, Target)}];
requests(Sequence, Last, Interval, Target) ->
    Next = erlang:monotonic_time(millisecond) + Interval,
    Reply = {Sequence, request(Sequence, Target)},
    timer:sleep(time_left(Next)),
    [Reply | requests(Sequence + 1, Last, Interval, Target)].

-spec request(1..65535, #target{}) -> {ok, non_neg_integer()} | {error, reason()}.
request(Sequence, #target{fd = FD, timeout = Timeout} = Target) ->
    Sent = erlang:monotonic_time(microsecond),
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    case send(FD, message(Sequence, Target), Deadline) of
        ok ->
            case reply(Sequence, Target, Deadline) of
                ok -> {ok, erlang:monotonic_time(microsecond) - Sent};
                {error, _Reason} = Error -> Error
            end;
        {error, _Reason} = Error ->
            Error
    end.

-spec send(fdio:fd(), binary(), integer()) -> ok | {error, reason()}.
send(FD, Message, Deadline) ->
    case fdio:send(FD, Message) of
        {ok, _All} ->
            ok;
        {error, eagain} ->
            case inert:poll(FD, write, time_left(Deadline)) of
                {ok, write} -> send(FD, Message, Deadline);
                {error, _Reason} = Error -> Error
            end;
        {error, _Reason} = Error ->
            Error
    end.

%% What is not the reply is thrown away, but not for longer than there is time.
-spec reply(1..65535, #target{}, integer()) -> ok | {error, reason()}.
reply(Sequence, #target{fd = FD} = Target, Deadline) ->
    case fdio:recv(FD, ?MAX_PACKET) of
        {ok, Packet} ->
            case {is_reply(Packet, Sequence, Target), time_left(Deadline)} of
                {true, _} -> ok;
                {false, 0} -> {error, timeout};
                {false, _} -> reply(Sequence, Target, Deadline)
            end;
        {error, eagain} ->
            case inert:poll(FD, read, time_left(Deadline)) of
                {ok, read} -> reply(Sequence, Target, Deadline);
                {error, _Reason} = Error -> Error
            end;
        {error, _Reason} = Error ->
            Error
    end.

-spec time_left(integer()) -> non_neg_integer().
time_left(Deadline) ->
    max(0, Deadline - erlang:monotonic_time(millisecond)).

%%% ICMP: RFC 792, and RFC 4443 for IPv6

%% The kernel fills in IPv6's checksum, which covers addresses, and a datagram socket's id and checksum.
-spec message(1..65535, #target{}) -> binary().
message(Sequence, #target{family = inet6, id = Id, payload = Payload}) ->
    <<128, 0, 0:16, Id:16, Sequence:16, Payload/binary>>;
message(Sequence, #target{family = inet, id = Id, payload = Payload}) ->
    Sum = checksum(<<8, 0, 0:16, Id:16, Sequence:16, Payload/binary>>),
    <<8, 0, Sum:16, Id:16, Sequence:16, Payload/binary>>.

-spec is_reply(binary(), 1..65535, #target{}) -> boolean().
%% A raw IPv4 socket's packets begin with their IP header, of so many words, and nobody has looked at the
%% ICMP checksum.
is_reply(<<4:4, Words:4, _/binary>> = Packet, Sequence, #target{type = raw, family = inet} = Target) when
    byte_size(Packet) >= Words * 4
->
    HeaderLength = Words * 4,
    <<_Header:HeaderLength/binary, Message/binary>> = Packet,
    checksum(Message) =:= 0 andalso is_reply(Message, Sequence, Target#target{type = dgram});
is_reply(<<Type, 0, _Sum:16, Id:16, Sequence:16, Payload/binary>>, Sequence, #target{id = Id, payload = Payload} = Target) ->
    Type =:= echo_reply(Target);
is_reply(_Packet, _Sequence, _Target) ->
    false.

-spec echo_reply(#target{}) -> 0 | 129.
echo_reply(#target{family = inet}) -> 0;
echo_reply(#target{family = inet6}) -> 129.

%% RFC 1071: the complement of the sum in ones' complement. Over data with its checksum in
%% place it is 0.
-spec checksum(binary()) -> 0..16#ffff.
checksum(Data) ->
    Padding = (byte_size(Data) rem 2) * 8,
    fold(lists:sum([Word || <<Word:16>> <= <<Data/binary, 0:Padding>>])).

-spec fold(non_neg_integer()) -> 0..16#ffff.
fold(Sum) when Sum > 16#ffff -> fold((Sum band 16#ffff) + (Sum bsr 16));
fold(Sum) -> Sum bxor 16#ffff.
