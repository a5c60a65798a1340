%% SPDX-License-Identifier: Apache-2.0

%% @doc Watches network links and addresses come and go: rtnetlink(7).
%%
%% ```
%% 1> {ok, Watcher} = netlink:start_link().
%% {ok,<0.95.0>}
%% 2> netlink:next(Watcher).
%% ok
%% 3> receive {netlink, Watcher, Events} -> Events end.
%% [resync]
%% 4> netlink:next(Watcher), receive {netlink, Watcher, More} -> More end.
%% [{new_link,#{index => 1,name => <<"lo">>,mtu => 65536,
%%              flags => [up,loopback,running,lower_up],operstate => unknown,mac => <<0,0,0,0,0,0>>}}]
%% '''
%%
%% What a watcher sends, each batch only after a `next/1', is enough to keep a picture of what there is, by
%% one rule: `resync' means to forget everything; what follows, until `synced', is all there is, and
%% after that come the changes. A watcher begins with `resync'.
%%
%% So neither a slow reader nor a storm of events fills any memory: what is not asked for waits in the socket,
%% and when the socket is full the kernel drops events and says so (ENOBUFS). Then the watcher takes a
%% new socket and asks for everything again, which the reader sees as another `resync'.
-module(netlink).

-behaviour(gen_server).

-export([start_link/0]).
-export([start_link/1]).
-export([next/1]).
-export([stop/1]).
-export([events/1]).

-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

-export_type([options/0]).
-export_type([event/0]).
-export_type([link/0]).
-export_type([address/0]).

-type options() :: #{rcvbuf => pos_integer()}.
%% `rcvbuf': bytes of events that may wait in the socket, of which Linux takes twice as many, up to the sysctl
%% net.core.rmem_max; default: net.core.rmem_default.

-type event() ::
    resync
    | synced
    | {new_link, link()}
    | {del_link, link()}
    | {new_address, address()}
    | {del_address, address()}.
%% `new_link' and `new_address' also tell of changes: the index, or the index and address, are known
%% already then. A link that goes takes its addresses along, with or without a word about them.

-type link() :: #{
    index := pos_integer(),
    name := binary(),
    flags := [up | broadcast | loopback | pointtopoint | running | noarp | promisc | multicast | lower_up],
    mtu => non_neg_integer(),
    operstate => unknown | notpresent | down | lowerlayerdown | testing | dormant | up,
    mac => binary()
}.
%% `flags': see netdevice(7); `up' is what the administrator wants, `lower_up' and `operstate' what the cable says.

-type address() :: #{
    index := pos_integer(),
    address := inet:ip_address(),
    prefix_length := 0..128,
    scope := universe | site | link | host | nowhere | 0..255,
    flags := [deprecated | tentative | dadfailed | permanent],
    peer => inet:ip_address()
}.
%% `index': the link's. `peer': the other end's, on a point-to-point link. An IPv6 address can be used once
%% it is not `tentative' any more.

-record(state, {
    fd :: fdio:fd(),
    owner :: pid(),
    options :: options(),
    %% Whether the owner has asked for a batch and not got it.
    wanted = false :: boolean(),
    %% What has been asked of the kernel since the last resync.
    sync = begun :: begun | links | addresses | synced
}).

%% netlink(7), rtnetlink(7), linux/rtnetlink.h
-define(NLMSG_ERROR, 2).
-define(NLMSG_DONE, 3).
-define(RTM_NEWLINK, 16).
-define(RTM_DELLINK, 17).
-define(RTM_GETLINK, 18).
-define(RTM_NEWADDR, 20).
-define(RTM_DELADDR, 21).
-define(RTM_GETADDR, 22).
-define(NLM_F_REQUEST, 16#001).
-define(NLM_F_DUMP, 16#300).
-define(NLM_F_DUMP_INTR, 16#010).
-define(RTMGRP_LINK, 16#001).
-define(RTMGRP_IPV4_IFADDR, 16#010).
-define(RTMGRP_IPV6_IFADDR, 16#100).
-define(AF_INET, 2).
-define(AF_INET6, 10).

%% The answer to a dump comes in pieces of 32 KiB at most.
-define(MAX_DATAGRAM, 65536).

%%% API

%% @doc As `start_link(#{})'.
-spec start_link() -> gen_server:start_ret().
start_link() ->
    start_link(#{}).

%% @doc Starts a watcher for the caller, with whom it ends. It needs no rights.
%%
%% Errors are named by the call that failed: `{socket, emfile}', ... Bad options raise `badarg'. Should
%% the socket fail later, the watcher ends with such a reason.
-spec start_link(options()) -> gen_server:start_ret().
start_link(Options) ->
    are_options(Options) orelse error(badarg, [Options]),
    gen_server:start_link(?MODULE, {self(), Options}, []).

-spec are_options(term()) -> boolean().
are_options(#{rcvbuf := Bytes} = Options) when map_size(Options) =:= 1 ->
    is_integer(Bytes) andalso Bytes > 0 andalso Bytes =< 16#7fffffff;
are_options(Options) ->
    Options =:= #{}.

%% @doc Asks for the next events. They come, as soon as there are some, as one message to whoever
%% started the watcher: `{netlink, Watcher, [event(), ...]}'. Asking again before that changes nothing.
-spec next(pid()) -> ok.
next(Watcher) ->
    gen_server:cast(Watcher, next).

%% @doc Stops a watcher. When it returns, the fd is closed.
-spec stop(pid()) -> ok.
stop(Watcher) ->
    gen_server:stop(Watcher).

%%% The server

%% @private
-spec init({pid(), options()}) -> {ok, #state{}} | {stop, term()}.
init({Owner, Options}) ->
    %% The end of the owner comes as terminate/2, which closes the fd.
    process_flag(trap_exit, true),
    ok = inert:start(),
    %% Nothing else would tell the watcher that what it waits for will not come.
    _ = erlang:monitor(port, inert:pollid()),
    case open(Options) of
        {ok, FD} -> {ok, #state{fd = FD, owner = Owner, options = Options}};
        {error, Reason} -> {stop, Reason}
    end.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, {error, einval}, #state{}}.
handle_call(_Request, _From, State) ->
    {reply, {error, einval}, State}.

%% @private
-spec handle_cast(next, #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_cast(next, #state{sync = begun} = State) ->
    dump(links, deliver([resync], State));
handle_cast(next, State) ->
    collect(State#state{wanted = true}).

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({inert_read, _PollId, FD}, #state{fd = FD, wanted = true} = State) ->
    collect(State);
handle_info({'DOWN', _Monitor, port, _PollId, Reason}, State) ->
    {stop, {inert, Reason}, State};
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{fd = FD}) ->
    close(FD).

%% Takes one datagram that has something to tell, or waits for one.
-spec collect(#state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
collect(#state{fd = FD} = State) ->
    case fdio:recv(FD, ?MAX_DATAGRAM) of
        {ok, Datagram} ->
            take(messages(Datagram), State);
        {error, eagain} ->
            wait(State);
        {error, enobufs} ->
            resync(State);
        {error, Reason} ->
            {stop, {recv, Reason}, State}
    end.

-spec wait(#state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
wait(#state{fd = FD} = State) ->
    case inert:fdset(FD, read) of
        ok -> {noreply, State};
        {error, Reason} -> {stop, {fdset, Reason}, State}
    end.

%% A list ends with a message of its own, which has an errno, less than 0, if it ends too soon.
-spec take([message()], #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
take(Messages, State) ->
    Events = lists:flatmap(fun event/1, Messages),
    case {lists:any(fun is_interrupted/1, Messages), lists:last([none | Messages])} of
        {true, _} ->
            resync(State);
        {false, {Type, _, <<Errno:32/signed-native, _/binary>>}} when
            Errno < 0, Type =:= ?NLMSG_ERROR orelse Type =:= ?NLMSG_DONE
        ->
            {stop, {dump, {errno, -Errno}}, State};
        {false, {?NLMSG_DONE, _, _}} ->
            dumped(Events, State);
        {false, _} ->
            told(Events, State)
    end.

%% What there is changed while the kernel listed it: the list may lack something.
-spec is_interrupted(message()) -> boolean().
is_interrupted({_Type, Flags, _Body}) ->
    Flags band ?NLM_F_DUMP_INTR =/= 0.

%% The end of a list: on to the next one.
-spec dumped([event()], #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
dumped(Events, #state{sync = links} = State) ->
    case dump(addresses, State) of
        {noreply, Next} -> told(Events, Next);
        Stop -> Stop
    end;
dumped(Events, State) ->
    told(Events ++ [synced], State#state{sync = synced}).

-spec told([event()], #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
told([], State) -> collect(State);
told(Events, State) -> {noreply, deliver(Events, State)}.

-spec deliver([event(), ...], #state{}) -> #state{}.
deliver(Events, #state{owner = Owner} = State) ->
    Owner ! {netlink, self(), Events},
    State#state{wanted = false}.

%% A new socket: the old one's list may be unfinished, and only one can be asked for at a time.
-spec resync(#state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
resync(#state{fd = Old, options = Options} = State) ->
    case open(Options) of
        {ok, FD} ->
            close(Old),
            dump(links, deliver([resync], State#state{fd = FD}));
        {error, Reason} ->
            {stop, Reason, State}
    end.

%% Lists come as events do, on the same socket.
-spec dump(links | addresses, #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
dump(What, #state{fd = FD} = State) ->
    {Type, Body} =
        case What of
            links -> {?RTM_GETLINK, <<0:128>>};
            addresses -> {?RTM_GETADDR, <<0:64>>}
        end,
    Length = 16 + byte_size(Body),
    Flags = ?NLM_F_REQUEST bor ?NLM_F_DUMP,
    Request = <<Length:32/native, Type:16/native, Flags:16/native, 0:32, 0:32, Body/binary>>,
    case fdio:send(FD, Request) of
        {ok, Length} -> {noreply, State#state{sync = What}};
        {error, Reason} -> {stop, {send, Reason}, State}
    end.

%%% The socket

-spec open(options()) -> {ok, fdio:fd()} | {error, {atom(), fdio:posix()}}.
open(Options) ->
    case fdio:socket(netlink, raw, 0) of
        {ok, FD} ->
            Groups = ?RTMGRP_LINK bor ?RTMGRP_IPV4_IFADDR bor ?RTMGRP_IPV6_IFADDR,
            Steps =
                [{setsockopt, [FD, rcvbuf, Bytes]} || {rcvbuf, Bytes} <- maps:to_list(Options)] ++
                    %% Connected to the kernel, the socket takes nothing from other processes.
                    [{bind, [FD, {netlink, 0, Groups}]}, {connect, [FD, {netlink, 0, 0}]}],
            case first_error(Steps) of
                ok ->
                    {ok, FD};
                {error, _Reason} = Error ->
                    ok = fdio:close(FD),
                    Error
            end;
        {error, Reason} ->
            {error, {socket, Reason}}
    end.

-spec first_error([{atom(), [term()]}]) -> ok | {error, {atom(), fdio:posix()}}.
first_error([]) ->
    ok;
first_error([{Function, Arguments} | Steps]) ->
    case apply(fdio, Function, Arguments) of
        ok -> first_error(Steps);
        {error, Reason} -> {error, {Function, Reason}}
    end.

%% First cleared, then closed: the number may belong to another file at once.
-spec close(fdio:fd()) -> ok.
close(FD) ->
    _ = inert:fdclr(FD),
    ok = fdio:close(FD).

%%% The messages

-type message() :: {Type :: 0..16#ffff, Flags :: 0..16#ffff, Body :: binary()}.

%% @doc The events in what a netlink socket has received. Messages of other kinds are left out, and so is what
%% is no message.
-spec events(binary()) -> [event()].
events(Datagram) ->
    lists:flatmap(fun event/1, messages(Datagram)).

-spec messages(binary()) -> [message()].
messages(<<Length:32/native, Type:16/native, Flags:16/native, _Sequence:32, _Port:32, Rest/binary>>) when
    Length >= 16, Length - 16 =< byte_size(Rest)
->
    {Body, More} = split(Length - 16, Rest),
    [{Type, Flags, Body} | messages(More)];
messages(_NoMessage) ->
    [].

-spec event(message()) -> [event()].
%% Of the family AF_UNSPEC, 0: with AF_BRIDGE the same message says that a link has left a bridge.
event({Type, _, <<0, _, _:16, Index:32/native, Flags:32/native, _:32, Attributes/binary>>}) when
    Type =:= ?RTM_NEWLINK; Type =:= ?RTM_DELLINK
->
    Start = #{index => Index, flags => names(Flags, link_flags())},
    case lists:foldl(fun link_attribute/2, Start, attributes(Attributes)) of
        #{name := _} = Link -> [{kind(Type), Link}];
        _NothingButAHint -> []
    end;
event({Type, _, <<Family, Length, Flags8, Scope, Index:32/native, Rest/binary>>}) when
    Type =:= ?RTM_NEWADDR orelse Type =:= ?RTM_DELADDR, Family =:= ?AF_INET orelse Family =:= ?AF_INET6
->
    Size = #{?AF_INET => 4, ?AF_INET6 => 16},
    Attributes = maps:from_list([
        Attribute
     || {Kind, Value} = Attribute <- attributes(Rest),
        Kind =:= 8 orelse byte_size(Value) =:= map_get(Family, Size)
    ]),
    %% IFA_FLAGS, 8, has room for more flags than the header.
    Flags =
        case Attributes of
            #{8 := <<All:32/native>>} -> All;
            #{} -> Flags8
        end,
    Start = #{
        index => Index,
        prefix_length => Length,
        scope => scope(Scope),
        flags => names(Flags, address_flags())
    },
    case Attributes of
        %% IFA_LOCAL, 2, is this end's; IFA_ADDRESS, 1, the other's or the same.
        #{2 := Same, 1 := Same} -> [{kind(Type), Start#{address => ip(Same)}}];
        #{2 := Own, 1 := Peer} -> [{kind(Type), Start#{address => ip(Own), peer => ip(Peer)}}];
        #{1 := Own} -> [{kind(Type), Start#{address => ip(Own)}}];
        #{} -> []
    end;
event(_Other) ->
    [].

-spec kind(0..16#ffff) -> new_link | del_link | new_address | del_address.
kind(?RTM_NEWLINK) -> new_link;
kind(?RTM_DELLINK) -> del_link;
kind(?RTM_NEWADDR) -> new_address;
kind(?RTM_DELADDR) -> del_address.

-spec attributes(binary()) -> [{Type :: 0..16#3fff, binary()}].
attributes(<<Length:16/native, Type:16/native, Rest/binary>>) when Length >= 4, Length - 4 =< byte_size(Rest) ->
    {Value, More} = split(Length - 4, Rest),
    %% The upper two bits tell of the value's form.
    [{Type band 16#3fff, Value} | attributes(More)];
attributes(_NoAttribute) ->
    [].

%% Both messages and attributes are aligned to 4 bytes.
-spec split(non_neg_integer(), binary()) -> {binary(), Rest :: binary()}.
split(Length, Data) ->
    Padded = min((Length + 3) band bnot 3, byte_size(Data)),
    <<Value:Length/binary, _/binary>> = Data,
    <<_:Padded/binary, Rest/binary>> = Data,
    {Value, Rest}.

%% IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_OPERSTATE: linux/if_link.h. Copied, so that a name does not
%% keep a datagram alive.
-spec link_attribute({0..16#3fff, binary()}, map()) -> map().
link_attribute({1, Mac}, Link) -> Link#{mac => binary:copy(Mac)};
link_attribute({3, Name}, Link) -> Link#{name => binary:copy(hd(binary:split(Name, <<0>>)))};
link_attribute({4, <<Mtu:32/native>>}, Link) -> Link#{mtu => Mtu};
link_attribute({16, <<State>>}, Link) when State =< 6 -> Link#{operstate => operstate(State)};
link_attribute(_Other, Link) -> Link.

-spec operstate(0..6) -> atom().
operstate(State) ->
    element(State + 1, {unknown, notpresent, down, lowerlayerdown, testing, dormant, up}).

-spec link_flags() -> [{pos_integer(), atom()}].
link_flags() ->
    [
        {16#1, up},
        {16#2, broadcast},
        {16#8, loopback},
        {16#10, pointtopoint},
        {16#40, running},
        {16#80, noarp},
        {16#100, promisc},
        {16#1000, multicast},
        {16#10000, lower_up}
    ].

-spec address_flags() -> [{pos_integer(), atom()}].
address_flags() ->
    [{16#20, deprecated}, {16#40, tentative}, {16#08, dadfailed}, {16#80, permanent}].

-spec names(non_neg_integer(), [{pos_integer(), atom()}]) -> [atom()].
names(Flags, Names) ->
    [Name || {Flag, Name} <- Names, Flags band Flag =/= 0].

-spec scope(0..255) -> atom() | 0..255.
scope(0) -> universe;
scope(200) -> site;
scope(253) -> link;
scope(254) -> host;
scope(255) -> nowhere;
scope(Other) -> Other.

-spec ip(binary()) -> inet:ip_address().
ip(<<A, B, C, D>>) -> {A, B, C, D};
ip(<<A:16, B:16, C:16, D:16, E:16, F:16, G:16, H:16>>) -> {A, B, C, D, E, F, G, H}.
