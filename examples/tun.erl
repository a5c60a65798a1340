%% SPDX-License-Identifier: Apache-2.0

%% @doc A host that is a process: it answers ping, and on a TAP device ARP too.
%%
%% ```
%% 1> {ok, Host} = tun:start_link(#{address => {192, 0, 2, 2}}).
%% {ok,<0.95.0>}
%% 2> tun:up(tun:device(Host), {192, 0, 2, 1}, 24).
%% ok
%% 3> os:cmd("ping -c 1 192.0.2.2").
%% '''
%%
%% A TUN device is a network interface of this machine whose cable ends in a fd: the kernel's
%% packets come out of it, and what is written to it the kernel receives. A TAP device does the same with
%% Ethernet frames. The process drains what is there, up to 64 packets, then waits for
%% readiness (`inert:fdset/2') with its mailbox in between.
%%
%% Creating a device needs CAP_NET_ADMIN. A program without it can use one that was made for it:
%%
%% ```
%% # ip tuntap add dev tun7 mode tun user joe
%% # ip address add 192.0.2.1/24 dev tun7
%% # ip link set tun7 up
%% '''
%%
%% To try this away from the machine's network, start the shell in a namespace of its own:
%% `unshare --net --map-root-user make shell'.
%%
%% The host is as simple as can be: IPv4 without fragments and options. The package tunctl is
%% for products.
-module(tun).

-behaviour(gen_server).

-export([start_link/1]).
-export([stop/1]).
-export([device/1]).
-export([up/3]).
-export([answer/2]).

-export([init/1]).
-export([handle_continue/2]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

-export_type([options/0]).
-export_type([mac/0]).
-export_type([host/0]).

-type mac() :: <<_:48>>.

-type options() :: #{
    address := inet:ip4_address(), kind => tun | tap, name => string() | binary(), mac => mac()
}.
%% `address': the host's. `kind': default `tun'. `name': the device's; default `"tun%d"' or `"tap%d"', with
%% a number that the kernel chooses. `mac': the host's, for `tap'; default `<<2, 0, 0, 0, 0, 1>>'.

-type host() :: #{address := inet:ip4_address(), kind := tun | tap, mac := mac()}.
%% What `answer/2' needs to know.

-record(state, {
    fd :: fdio:fd(),
    device :: binary(),
    host :: host()
}).

%% An Ethernet frame of a TAP device with an MTU as large as can be.
-define(MAX_FRAME, 65536 + 14).

%% Packets in a row before the mailbox has its turn.
-define(BATCH, 64).

-define(ETHERTYPE_IPV4, 16#0800).
-define(ETHERTYPE_ARP, 16#0806).
-define(ICMP, 1).
-define(ECHO_REPLY, 0).
-define(ECHO_REQUEST, 8).

%%% API

%% @doc Starts a host on a device. The device is there when this returns; bring it up with
%% `up/3' or ip(8). It goes when the host ends, unless it was made by `ip tuntap add'.
%%
%% Errors: those of `fdio:tun/2', such as `eperm' and `ebusy'. Bad options raise `badarg'. Should the device be deleted later, the host
%% ends with `{read, ebadfd}'.
-spec start_link(options()) -> gen_server:start_ret().
start_link(Options) ->
    Defaults = #{kind => tun, name => "", mac => <<2, 0, 0, 0, 0, 1>>},
    case maps:merge(Defaults, Options) of
        #{address := Address, kind := Kind, mac := <<_:6/binary>>} = All when
            map_size(All) =:= 4, Kind =:= tun orelse Kind =:= tap
        ->
            inet:is_ipv4_address(Address) orelse error(badarg, [Options]),
            gen_server:start_link(?MODULE, All, []);
        _Bad ->
            error(badarg, [Options])
    end.

%% @doc Stops a host. When it returns the fd is closed, and with it the device gone.
-spec stop(pid()) -> ok.
stop(Host) ->
    gen_server:stop(Host).

%% @doc The device's name.
-spec device(pid()) -> binary().
device(Host) ->
    gen_server:call(Host, device).

%% @doc Gives this machine's side of a device an address and brings it up, with ip(8). Needs
%% CAP_NET_ADMIN. The error is what ip says.
-spec up(binary(), inet:ip4_address(), PrefixLength :: 0..32) -> ok | {error, binary()}.
up(Device, Address, Length) ->
    Prefix = [inet:ntoa(Address), $/, integer_to_list(Length)],
    case ip(["address", "add", lists:flatten(Prefix), "dev", Device]) of
        ok -> ip(["link", "set", "dev", Device, "up"]);
        {error, _Said} = Error -> Error
    end.

%% Not by a shell, to which a name might say something.
-spec ip([string() | binary()]) -> ok | {error, binary()}.
ip(Arguments) ->
    case os:find_executable("ip", os:getenv("PATH", "") ++ ":/sbin:/usr/sbin") of
        false ->
            {error, <<"there is no ip: install iproute2">>};
        Ip ->
            said(open_port({spawn_executable, Ip}, [
                {args, Arguments}, exit_status, stderr_to_stdout, binary
            ]), <<>>)
    end.

-spec said(port(), binary()) -> ok | {error, binary()}.
said(Port, Said) ->
    receive
        {Port, {data, More}} -> said(Port, <<Said/binary, More/binary>>);
        {Port, {exit_status, 0}} -> ok;
        {Port, {exit_status, _Failed}} -> {error, Said}
    end.

%%% The server

%% @private
-spec init(map()) -> {ok, #state{}, {continue, drain}} | {stop, term()}.
init(#{kind := Kind, name := Name} = Options) ->
    %% The end of whoever started the host comes as terminate/2, which closes the fd.
    process_flag(trap_exit, true),
    ok = inert:start(),
    %% Nothing else would tell the host that what it waits for will not come.
    _ = erlang:monitor(port, inert:pollid()),
    case fdio:tun(Kind, Name) of
        {ok, {FD, Device}} ->
            Host = maps:with([address, kind, mac], Options),
            {ok, #state{fd = FD, device = Device, host = Host}, {continue, drain}};
        {error, Reason} ->
            {stop, Reason}
    end.

%% @private
-spec handle_continue(drain, #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_continue(drain, State) ->
    drain(?BATCH, State).

%% @private
-spec handle_call(device, gen_server:from(), #state{}) -> {reply, binary(), #state{}}.
handle_call(device, _From, #state{device = Device} = State) ->
    {reply, Device, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({inert_read, _PollId, FD}, #state{fd = FD} = State) ->
    drain(?BATCH, State);
handle_info({'DOWN', _Monitor, port, _PollId, Reason}, State) ->
    {stop, {inert, Reason}, State};
handle_info(_Message, State) ->
    {noreply, State}.

%% First cleared, then closed: the number may belong to another file at once.
%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{fd = FD}) ->
    _ = inert:fdclr(FD),
    ok = fdio:close(FD).

%% After a full batch this waits, too: what is there already is told at once, behind the
%% messages that have come meanwhile.
-spec drain(non_neg_integer(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
drain(0, State) ->
    wait(State);
drain(Left, #state{fd = FD, host = Host} = State) ->
    case fdio:read(FD, ?MAX_FRAME) of
        {ok, Packet} ->
            ok = respond(FD, answer(Packet, Host)),
            drain(Left - 1, State);
        {error, eagain} ->
            wait(State);
        {error, Reason} ->
            {stop, {read, Reason}, State}
    end.

-spec wait(#state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
wait(#state{fd = FD} = State) ->
    case inert:fdset(FD, read) of
        ok -> {noreply, State};
        {error, Reason} -> {stop, {fdset, Reason}, State}
    end.

%% An answer that does not go out (eagain; eio, as the device has been taken down) is lost, as
%% packets may be. If the device is no more, reading says so.
-spec respond(fdio:fd(), {ok, binary()} | ignore) -> ok.
respond(_FD, ignore) ->
    ok;
respond(FD, {ok, Answer}) ->
    _ = fdio:write(FD, Answer),
    ok.

%%% The protocols

%% @doc What a host says to a packet (`tun') or frame (`tap').
%%
%% Whatever cannot be relied on is ignored: cut short, of a wrong checksum, or not for this host.
-spec answer(binary(), host()) -> {ok, binary()} | ignore.
answer(Packet, #{kind := tun} = Host) ->
    ipv4(Packet, Host);
answer(<<To:6/binary, From:6/binary, Type:16, Payload/binary>>, #{kind := tap, mac := Mac} = Host) when
    To =:= Mac; To =:= <<16#ffffffffffff:48>>
->
    Answer =
        case Type of
            ?ETHERTYPE_ARP -> arp(Payload, Host);
            ?ETHERTYPE_IPV4 -> ipv4(Payload, Host);
            _Other -> ignore
        end,
    case Answer of
        {ok, Reply} -> {ok, <<From/binary, Mac/binary, Type:16, Reply/binary>>};
        ignore -> ignore
    end;
answer(_Frame, _Host) ->
    ignore.

%% RFC 826: who has this address? Hardware 1 is Ethernet, operation 1 a request, 2 its reply.
%% A frame is at least 60 bytes long, so there may be padding.
-spec arp(binary(), host()) -> {ok, binary()} | ignore.
arp(
    <<1:16, ?ETHERTYPE_IPV4:16, 6, 4, 1:16, Mac:6/binary, IP:4/binary, _:6/binary, Wanted:4/binary, _/binary>>,
    #{address := Address, mac := Own}
) ->
    case ip4(Address) of
        Wanted ->
            {ok, <<1:16, ?ETHERTYPE_IPV4:16, 6, 4, 2:16, Own/binary, Wanted/binary, Mac/binary, IP/binary>>};
        _Another ->
            ignore
    end;
arp(_Packet, _Host) ->
    ignore.

%% RFC 791. Of the flags and the fragment's offset, only "do not fragment" may be set.
-spec ipv4(binary(), host()) -> {ok, binary()} | ignore.
ipv4(
    <<4:4, Words:4, _Tos, Length:16, _Id:16, 0:1, _DF:1, 0:14, _Ttl, ?ICMP, _Sum:16, From:4/binary, To:4/binary,
        _/binary>> = Packet,
    #{address := Address}
) when Words >= 5, Length >= Words * 4, Length =< byte_size(Packet) ->
    HeaderLength = Words * 4,
    PayloadLength = Length - HeaderLength,
    <<Header:HeaderLength/binary, Payload:PayloadLength/binary, _Padding/binary>> = Packet,
    case {ip4(Address), checksum(Header)} of
        {To, 0} ->
            case icmp(Payload) of
                {ok, Reply} -> {ok, ipv4_packet(To, From, Reply)};
                ignore -> ignore
            end;
        _AnotherOrWrong ->
            ignore
    end;
ipv4(_Packet, _Host) ->
    ignore.

%% RFC 792: an echo reply is the request with another type.
-spec icmp(binary()) -> {ok, binary()} | ignore.
icmp(<<?ECHO_REQUEST, 0, _Sum:16, _IdAndSequence:32, _/binary>> = Request) ->
    case checksum(Request) of
        0 ->
            <<_:4/binary, Rest/binary>> = Request,
            Sum = checksum(<<?ECHO_REPLY, 0, 0:16, Rest/binary>>),
            {ok, <<?ECHO_REPLY, 0, Sum:16, Rest/binary>>};
        _Wrong ->
            ignore
    end;
icmp(_Message) ->
    ignore.

-spec ipv4_packet(binary(), binary(), binary()) -> binary().
ipv4_packet(From, To, Payload) ->
    Before = <<4:4, 5:4, 0, (20 + byte_size(Payload)):16, 0:16, 0:16, 64, ?ICMP>>,
    Sum = checksum(<<Before/binary, 0:16, From/binary, To/binary>>),
    <<Before/binary, Sum:16, From/binary, To/binary, Payload/binary>>.

%% RFC 1071: the complement of the sum in ones' complement. Over data with its checksum in
%% place it is 0.
-spec checksum(binary()) -> 0..16#ffff.
checksum(Data) ->
    Padding = (byte_size(Data) rem 2) * 8,
    fold(lists:sum([Word || <<Word:16>> <= <<Data/binary, 0:Padding>>])).

-spec fold(non_neg_integer()) -> 0..16#ffff.
fold(Sum) when Sum > 16#ffff -> fold((Sum band 16#ffff) + (Sum bsr 16));
fold(Sum) -> Sum bxor 16#ffff.

-spec ip4(inet:ip4_address()) -> <<_:32>>.
ip4({A, B, C, D}) ->
    <<A, B, C, D>>.
