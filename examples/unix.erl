%% SPDX-License-Identifier: Apache-2.0

%% @doc Unix sockets, stream and datagram, that carry fds from one program to another.
%%
%% ```
%% {ok, Listen} = unix:listen("/run/my/socket"),
%% {ok, FD} = unix:accept(Listen, infinity),
%% {ok, <<"log">>, [LogFD]} = unix:recv(FD, 1, 5000),
%% {ok, read} = inert:poll(LogFD).
%% '''
%%
%% and in the other program
%%
%% ```
%% {ok, FD} = unix:connect(stream, "/run/my/socket", 5000),
%% ok = unix:send(FD, <<"log">>, [LogFD], 5000).
%% '''
%%
%% A fd that is received is a new number for the same open file, and whoever receives it has to close
%% it. A peer can send fds with any byte, so every byte is received by recvmsg(2), and fds that are too many,
%% or come with a message that is not good, are closed here: `recv/3' returns at most
%% as many as it was told to, and after an error none is left open. They are close-on-exec.
%%
%% A stream has no messages; here each is its length in 4 bytes, then the data, with the fds at the first
%% byte. A datagram is a message of its own. What counts for all functions: timeouts are in milliseconds and
%% for the whole call; after an error on a stream it is unknown how much of a message went through, so
%% close it; and fds belong to no process, so if yours may be killed, let another one own them, as
%% echo.erl does.
-module(unix).

-export([listen/1]).
-export([open/1]).
-export([accept/2]).
-export([connect/3]).
-export([send/4]).
-export([recv/3]).
-export([send_datagram/4]).
-export([recv_datagram/3]).
-export([close/1]).
-export([close/2]).

-export_type([path/0]).
-export_type([reason/0]).

-type path() :: file:filename_all().
%% Of the socket's file, 108 bytes at most. A zero byte first makes it a name in the abstract
%% namespace, which leaves no file.

-type reason() ::
    fdio:posix() | inert:error() | timeout | ecanceled | closed | too_many_fds | ctrunc | eproto.
%% `closed': the peer has, between two messages (or inert was stopped). `eproto': it has, amid one.
%% `emsgsize': a message longer than 64 KiB. `too_many_fds': more than were allowed. `ctrunc': this VM had no
%% number left for one of them.

%% In milliseconds of erlang:monotonic_time/1.
-type deadline() :: integer() | infinity.

-define(MAX_MESSAGE, 65536).
-define(BACKLOG, 128).

%% connect(2) to a unix socket whose backlog is full says eagain, and nothing tells when it is not.
-define(PAUSE_MS, 10).

%% inode(7)
-define(S_IFMT, 8#170000).
-define(S_IFSOCK, 8#140000).

%% @doc A stream socket that accepts connections. A file that a program left behind which is not
%% there any more is replaced; one that somebody listens at gives `eaddrinuse'. `close/2' removes it.
-spec listen(path()) -> {ok, fdio:fd()} | {error, reason()}.
listen(Path) ->
    case bound(stream, Path) of
        {ok, FD} ->
            case fdio:listen(FD, ?BACKLOG) of
                ok -> {ok, FD};
                {error, _Reason} = Error -> close_after(Error, FD)
            end;
        {error, _Reason} = Error ->
            Error
    end.

%% @doc A datagram socket that others send to. `close/2' removes its file.
-spec open(path()) -> {ok, fdio:fd()} | {error, reason()}.
open(Path) ->
    bound(dgram, Path).

%% @doc The next connection.
-spec accept(fdio:fd(), timeout()) -> {ok, fdio:fd()} | {error, reason()}.
accept(ListenFD, Timeout) ->
    retry(read, ListenFD, deadline(Timeout), fun() -> fdio:accept(ListenFD) end).

%% @doc A socket for sending to the one that listens (`stream') or is open (`dgram') there.
%%
%% Errors: `enoent' (no such file), `econnrefused' (nobody there), `eprototype' (of the other type).
-spec connect(stream | dgram, path(), timeout()) -> {ok, fdio:fd()} | {error, reason()}.
connect(Type, Path, Timeout) ->
    Address = address(Path),
    case socket(Type) of
        {ok, FD} ->
            case connect_fd(FD, Address, deadline(Timeout)) of
                ok -> {ok, FD};
                {error, _Reason} = Error -> close_after(Error, FD)
            end;
        {error, _Reason} = Error ->
            Error
    end.

%% @doc Sends a message, and fds (253 at most), over a stream. The fds stay the caller's, to be closed
%% at any time from now on.
-spec send(fdio:fd(), binary(), [fdio:fd()], timeout()) -> ok | {error, reason()}.
send(_FD, Data, _FDs, _Timeout) when byte_size(Data) > ?MAX_MESSAGE ->
    {error, emsgsize};
send(FD, Data, FDs, Timeout) ->
    Deadline = deadline(Timeout),
    Frame = <<(byte_size(Data)):32, Data/binary>>,
    Message = #{data => Frame, control => rights(FDs)},
    case retry(write, FD, Deadline, fun() -> fdio:sendmsg(FD, Message) end) of
        {ok, Sent} -> send_rest(FD, binary:part(Frame, Sent, byte_size(Frame) - Sent), Deadline);
        {error, _Reason} = Error -> Error
    end.

%% @doc Receives a message from a stream, with `MaxFDs' fds at most.
-spec recv(fdio:fd(), MaxFDs :: non_neg_integer(), timeout()) ->
    {ok, binary(), [fdio:fd()]} | {error, reason()}.
recv(FD, MaxFDs, Timeout) ->
    Deadline = deadline(Timeout),
    case recv_exactly(FD, 4, MaxFDs, Deadline) of
        {ok, <<Length:32>>, FDs} when Length =< ?MAX_MESSAGE ->
            case recv_exactly(FD, Length, MaxFDs - length(FDs), Deadline) of
                {ok, Data, More} -> {ok, Data, FDs ++ More};
                {error, closed} -> close_after({error, eproto}, FDs);
                {error, _Reason} = Error -> close_after(Error, FDs)
            end;
        {ok, <<_TooLong:32>>, FDs} ->
            close_after({error, emsgsize}, FDs);
        {error, _Reason} = Error ->
            Error
    end.

%% @doc Sends a message, and fds, as one datagram. Waits while the receiver's queue is full, which
%% only a connected socket can: poll(2) calls any other one writable, whatever the receiver's state.
%%
%% Errors: `econnrefused' (the receiver is gone), `emsgsize' (more than the socket buffers).
-spec send_datagram(fdio:fd(), binary(), [fdio:fd()], timeout()) -> ok | {error, reason()}.
send_datagram(FD, Data, FDs, Timeout) ->
    Message = #{data => Data, control => rights(FDs)},
    case retry(write, FD, deadline(Timeout), fun() -> fdio:sendmsg(FD, Message) end) of
        {ok, _All} -> ok;
        {error, _Reason} = Error -> Error
    end.

%% @doc Receives a datagram, with `MaxFDs' fds at most. One that is not good is gone, and the next one
%% can be received.
-spec recv_datagram(fdio:fd(), MaxFDs :: non_neg_integer(), timeout()) ->
    {ok, binary(), [fdio:fd()]} | {error, reason()}.
recv_datagram(FD, MaxFDs, Timeout) ->
    recv_message(FD, ?MAX_MESSAGE, MaxFDs, deadline(Timeout)).

%% @doc Closes a socket, or a fd that was received.
-spec close(fdio:fd()) -> ok.
close(FD) ->
    %% First cleared, then closed: the number may belong to another file at once.
    _ = inert:fdclr(FD),
    ok = fdio:close(FD).

%% @doc Closes a socket of `listen/1' or `open/1' and removes its file.
-spec close(fdio:fd(), path()) -> ok.
close(FD, Path) ->
    %% In this order there is no moment with somebody at the file and nobody to find.
    remove(address(Path)),
    close(FD).

%%% Receiving

%% The next Length bytes and all fds that come with them. A message without data still takes no read.
-spec recv_exactly(fdio:fd(), non_neg_integer(), integer(), deadline()) ->
    {ok, binary(), [fdio:fd()]} | {error, reason()}.
recv_exactly(FD, Length, MaxFDs, Deadline) ->
    recv_exactly(FD, Length, MaxFDs, Deadline, <<>>, []).

-spec recv_exactly(fdio:fd(), non_neg_integer(), integer(), deadline(), binary(), [fdio:fd()]) ->
    {ok, binary(), [fdio:fd()]} | {error, reason()}.
recv_exactly(_FD, Length, _MaxFDs, _Deadline, Data, FDs) when byte_size(Data) =:= Length ->
    {ok, Data, FDs};
recv_exactly(FD, Length, MaxFDs, Deadline, Data, FDs) ->
    case recv_message(FD, Length - byte_size(Data), MaxFDs - length(FDs), Deadline) of
        {ok, <<>>, []} when Data =:= <<>>, FDs =:= [] ->
            {error, closed};
        {ok, <<>>, More} ->
            close_after({error, eproto}, FDs ++ More);
        {ok, Bytes, More} ->
            recv_exactly(FD, Length, MaxFDs, Deadline, <<Data/binary, Bytes/binary>>, FDs ++ More);
        {error, _Reason} = Error ->
            close_after(Error, FDs)
    end.

%% The one place where fds come in.
-spec recv_message(fdio:fd(), pos_integer(), integer(), deadline()) ->
    {ok, binary(), [fdio:fd()]} | {error, reason()}.
recv_message(FD, Max, MaxFDs, Deadline) ->
    case retry(read, FD, Deadline, fun() -> fdio:recvmsg(FD, Max) end) of
        {ok, #{data := Data, control := Control, flags := Flags}} ->
            FDs = lists:append([Some || {rights, Some} <- Control]),
            case {Flags, length(FDs) =< MaxFDs} of
                {[], true} -> {ok, Data, FDs};
                {[], false} -> close_after({error, too_many_fds}, FDs);
                {[trunc | _], _} -> close_after({error, emsgsize}, FDs);
                {[ctrunc], _} -> close_after({error, ctrunc}, FDs)
            end;
        {error, _Reason} = Error ->
            Error
    end.

-spec close_after(Error, fdio:fd() | [fdio:fd()]) -> Error when Error :: {error, reason()}.
close_after(Error, FDs) when is_list(FDs) ->
    lists:foreach(fun close/1, FDs),
    Error;
close_after(Error, FD) ->
    close_after(Error, [FD]).

%%% Sending

-spec rights([fdio:fd()]) -> [fdio:control()].
rights([]) -> [];
rights(FDs) -> [{rights, FDs}].

-spec send_rest(fdio:fd(), binary(), deadline()) -> ok | {error, reason()}.
send_rest(_FD, <<>>, _Deadline) ->
    ok;
send_rest(FD, Data, Deadline) ->
    case retry(write, FD, Deadline, fun() -> fdio:send(FD, Data) end) of
        {ok, Sent} -> send_rest(FD, binary:part(Data, Sent, byte_size(Data) - Sent), Deadline);
        {error, _Reason} = Error -> Error
    end.

%%% Sockets and their files

-spec address(path()) -> {unix, binary()}.
address(Path) when is_binary(Path) ->
    {unix, Path};
address(Path) when is_list(Path) ->
    case unicode:characters_to_binary(Path) of
        Binary when is_binary(Binary) -> {unix, Binary};
        _NotText -> error(badarg, [Path])
    end;
address(Path) ->
    error(badarg, [Path]).

-spec socket(stream | dgram) -> {ok, fdio:fd()} | {error, reason()}.
socket(Type) ->
    ok = inert:start(),
    fdio:socket(unix, Type, 0).

-spec bound(stream | dgram, path()) -> {ok, fdio:fd()} | {error, reason()}.
bound(Type, Path) ->
    Address = address(Path),
    case socket(Type) of
        {ok, FD} ->
            case bind(FD, Type, Address) of
                ok -> {ok, FD};
                {error, _Reason} = Error -> close_after(Error, FD)
            end;
        {error, _Reason} = Error ->
            Error
    end.

-spec bind(fdio:fd(), stream | dgram, fdio:address()) -> ok | {error, reason()}.
bind(FD, Type, Address) ->
    case fdio:bind(FD, Address) of
        {error, eaddrinuse} ->
            case is_left_behind(Type, Address) of
                true ->
                    remove(Address),
                    fdio:bind(FD, Address);
                false ->
                    {error, eaddrinuse}
            end;
        Bound ->
            Bound
    end.

%% A socket's file outlives the socket. Only a file that is a socket's: connecting to any other is refused, too.
-spec is_left_behind(stream | dgram, fdio:address()) -> boolean().
is_left_behind(Type, Address) ->
    is_socket(Address) andalso nobody_there(Type, Address).

-spec nobody_there(stream | dgram, fdio:address()) -> boolean().
nobody_there(Type, Address) ->
    case fdio:socket(unix, Type, 0) of
        {ok, FD} ->
            Refused = fdio:connect(FD, Address) =:= {error, econnrefused},
            ok = fdio:close(FD),
            Refused;
        {error, _Reason} ->
            false
    end.

-spec is_socket(fdio:address()) -> boolean().
is_socket({unix, <<0, _/binary>>}) ->
    false;
is_socket({unix, Path}) ->
    case file:read_link_info(Path, [raw]) of
        {ok, Info} -> element(8, Info) band ?S_IFMT =:= ?S_IFSOCK;
        {error, _Reason} -> false
    end.

-spec remove(fdio:address()) -> ok.
remove({unix, Path} = Address) ->
    case is_socket(Address) of
        true -> _ = file:delete(Path, [raw]), ok;
        false -> ok
    end.

-spec connect_fd(fdio:fd(), fdio:address(), deadline()) -> ok | {error, reason()}.
connect_fd(FD, Address, Deadline) ->
    case fdio:connect(FD, Address) of
        {error, eagain} ->
            case time_left(Deadline) of
                0 ->
                    {error, timeout};
                Left ->
                    timer:sleep(min(Left, ?PAUSE_MS)),
                    connect_fd(FD, Address, Deadline)
            end;
        Connected ->
            Connected
    end.

%%% Waiting

%% Does Call until it does not say eagain, and waits in between.
-spec retry(read | write, fdio:fd(), deadline(), fun(() -> {ok, Result} | {error, reason()})) ->
    {ok, Result} | {error, reason()}.
retry(Kind, FD, Deadline, Call) ->
    case Call() of
        {error, eagain} ->
            case inert:poll(FD, Kind, time_left(Deadline)) of
                {ok, Kind} -> retry(Kind, FD, Deadline, Call);
                {error, _Reason} = Error -> Error
            end;
        Done ->
            Done
    end.

-spec deadline(timeout()) -> deadline().
deadline(infinity) ->
    infinity;
deadline(Timeout) ->
    erlang:monotonic_time(millisecond) + Timeout.

-spec time_left(deadline()) -> timeout().
time_left(infinity) ->
    infinity;
time_left(Deadline) ->
    max(0, Deadline - erlang:monotonic_time(millisecond)).
