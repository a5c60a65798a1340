%% SPDX-License-Identifier: Apache-2.0

%% @doc Raw system calls on raw file descriptors.
%%
%% The companion of inert's examples, tests and benchmarks: inert waits until a
%% fd is ready, something else has to open, read, write and close it. <b>This is
%% an example, not a product.</b> The packages procket (sockets), srly (serial
%% lines) and tunctl (TUN/TAP) are products that do this job, and inert works
%% with the fds of any of them.
%%
%% What holds for every function:
%%
%% <ul>
%% <li>A fd is an integer, and yours: nobody closes it but you, not even when
%%     the process that opened it dies. Whoever closes a number that belongs to
%%     somebody else (0, 1 and 2, or one that the VM has opened) breaks that
%%     somebody; `close/1' and `dup2/2' cannot tell.</li>
%% <li>New fds are non-blocking and close-on-exec.</li>
%% <li>The answer is `ok', `{ok, X}' or `{error, posix()}', the errno's name in
%%     lower case. Any integer that is no open fd, negative or huge ones too,
%%     gives `{error, ebadf}'. Arguments of a wrong type, and numbers out of the
%%     documented range, raise `badarg'.</li>
%% <li>No call waits (`close_wait/1' may, elsewhere). They run on normal schedulers, and one that has to wait
%%     answers `{error, eagain}' or `{error, einprogress}': that is the moment for
%%     `inert:poll/2'. `read/2', `write/2', `accept/1' and `connect/2' on a fd in
%%     blocking mode answer `{error, einval}' (see `set_nonblock/2').</li>
%% <li>Nothing raises SIGPIPE: the VM ignores it, and `send/2' asks for none.</li>
%% <li>Linux only.</li>
%% </ul>
%%
%% Errors named below are those to expect; the kernel may answer with any.
-module(fdio).

-export([open/2]).
-export([close/1]).
-export([close_wait/1]).
-export([read/2]).
-export([write/2]).
-export([dup/1]).
-export([dup2/2]).
-export([pipe/0]).
-export([eventfd/0]).
-export([eventfd/1]).
-export([openpty/0]).
-export([tcgetattr/1]).
-export([tcsetattr/2]).
-export([tiocexcl/1]).
-export([tun/2]).
-export([set_nonblock/2]).
-export([is_open/1]).
-export([max_fds/0]).
-export([socketpair/0]).
-export([socketpair/1]).
-export([socket/3]).
-export([bind/2]).
-export([listen/2]).
-export([accept/1]).
-export([connect/2]).
-export([shutdown/2]).
-export([getsockname/1]).
-export([getpeername/1]).
-export([so_error/1]).
-export([setsockopt/3]).
-export([send/2]).
-export([send_oob/2]).
-export([recv/2]).
-export([recv_oob/2]).
-export([sendmsg/2]).
-export([recvmsg/2]).
-export([inotify_init/0]).
-export([inotify_add_watch/3]).
-export([inotify_rm_watch/2]).
-export([inotify_read/1]).
-export([timerfd_create/1]).
-export([timerfd_settime/3]).
-export([pidfd_open/1]).
-export([pidfd_send_signal/2]).

-export_type([fd/0]).
-export_type([posix/0]).
-export_type([address/0]).
-export_type([open_mode/0]).
-export_type([line/0]).
-export_type([domain/0]).
-export_type([type/0]).
-export_type([protocol/0]).
-export_type([socket_option/0]).
-export_type([control/0]).
-export_type([message/0]).
-export_type([inotify_flag/0]).
-export_type([inotify_event/0]).
-export_type([signal/0]).

-on_load(load/0).

-type fd() :: integer().
%% A file descriptor. Open ones are not negative; any integer is accepted.

-type posix() :: atom().
%% An errno's name in lower case: `ebadf', `eagain', `econnrefused', ...
%% `eunknown' stands for a number that Linux had not named by 2025.

-type address() ::
    {inet:ip_address(), inet:port_number()}
    | {unix, binary()}
    | {netlink, PortId :: 0..16#ffffffff, Groups :: 0..16#ffffffff}.
%% A socket's address. That of a unix socket is a path, a zero byte and a name in
%% the abstract namespace (see unix(7)), or `<<>>' for a socket without a name. That of a netlink
%% socket is its port, 0 for the kernel's, and a mask of multicast groups (see netlink(7)). For an
%% ICMP socket the port means nothing.

-type open_mode() :: read | write | append | creat | excl | trunc.
%% `append' implies `write'. Neither `read' nor `write' means `read'.

-type line() :: #{
    speed => pos_integer(),
    data_bits => 5..8,
    parity => none | even | odd,
    stop_bits => 1 | 2,
    flow => none | hardware | software
}.
%% The settings of a serial line. `speed' is in bits a second. `flow' is how a side that cannot
%% take more stops the other: RTS/CTS (`hardware') or XON/XOFF (`software', for text only, as two bytes
%% are not data then).

-type domain() :: inet | inet6 | unix | netlink.

-type type() :: stream | dgram | seqpacket | raw.

-type protocol() :: 0 | icmp | icmpv6.
%% 0 is the domain's and type's own: TCP or UDP for inet and inet6, `NETLINK_ROUTE' for netlink.

-type socket_option() ::
    reuseaddr | nodelay | keepalive | sndbuf | rcvbuf | pktinfo | recvttl | timestamp | bindtodevice.

-type control() ::
    {rights, [fd()]}
    | {pktinfo, Local :: inet:ip_address(), Interface :: non_neg_integer()}
    | {ttl, 0..255}
    | {timestamp, Nanoseconds :: integer()}.
%% One piece of ancillary data, see cmsg(3).
%%
%% `rights', on unix sockets: fds. What is sent stays the sender's, and what is received are new
%% numbers for the same open files, close-on-exec, and the receiver's to close.
%%
%% `pktinfo', on IP: received, the local address that the datagram was sent to (for a broadcast or
%% a multicast group of IPv4 the one to answer from) and the index of its interface. Sent, the
%% address to send from, and the interface to leave by, 0 for the one that routing chooses.
%%
%% `ttl', on IP: time to live, or the hop limit of IPv6. `timestamp', received only: when the kernel got
%% it, since 1970, as `os:system_time(nanosecond)' counts.

-type message() :: #{
    data := binary(),
    control := [control()],
    flags := [trunc | ctrunc],
    address => address()
}.
%% What `recvmsg/2' received. `trunc': the datagram was longer than asked for, the rest of it is
%% gone. `ctrunc': some ancillary data is missing; of fds, those that this VM had no number left for.
%% `address': the sender's; a stream, and a sender without a name, give none or an empty one.

-type inotify_flag() ::
    access | modify | attrib | close_write | close_nowrite | open | moved_from | moved_to
    | create | delete | delete_self | move_self | unmount | q_overflow | ignored
    | onlydir | dont_follow | excl_unlink | mask_create | mask_add | isdir | oneshot.
%% The constants of inotify(7), without `IN_' and in lower case. From `onlydir' on, but for `isdir', they say how
%% to watch; `unmount', `q_overflow', `ignored' and `isdir' are only told.

-type inotify_event() :: #{
    watch := integer(),
    flags := [inotify_flag()],
    cookie := non_neg_integer(),
    name := binary()
}.
%% `watch' is -1 for `q_overflow', when the kernel's queue was full and events are lost. `cookie' is the same for
%% the `moved_from' and the `moved_to' of one file, else 0. `name' is the file's in the watched
%% directory, `<<>>' for what happened to the directory or file that is watched.

-type signal() :: hup | int | quit | kill | usr1 | usr2 | term | cont | stop.

%%% Any fd

%% @doc Opens a file, directory, FIFO or device: open(2).
%%
%% New files get the access rights 0666 less the umask. A terminal does not become the VM's
%% controlling terminal.
%%
%% ```
%% {ok, FD} = fdio:open("/dev/urandom", [read]).
%% '''
%%
%% Errors: `enoent', `eacces', `eisdir', `emfile', `einval' (a zero byte in the path), `enxio'
%% (a FIFO opened for `write' that nobody reads).
-spec open(Path :: binary() | string(), [open_mode()]) -> {ok, fd()} | {error, posix()}.
open(Path, Modes) ->
    try
        open_nif(path(Path), Modes)
    catch
        error:badarg -> error(badarg, [Path, Modes])
    end.

%% @doc Closes a fd: close(2). What waits on it in inert must be cleared before
%% (`inert:fdclr/1').
%%
%% ```
%% ok = fdio:close(FD),
%% {error, ebadf} = fdio:close(FD).
%% '''
%%
%% Errors: `ebadf', also for a second close, unless the number has been reused.
-spec close(fd()) -> ok | {error, posix()}.
close(_FD) ->
    erlang:nif_error(not_loaded).

%% @doc As `close/1', on a dirty I/O scheduler: for the few files whose close(2) may wait, such as a
%% serial line (until what was written is sent, if flow control holds it) or a file on
%% NFS.
%%
%% ```
%% ok = fdio:close_wait(FD).
%% '''
%%
%% Errors: `ebadf', `eio'. The fd is closed after any error.
-spec close_wait(fd()) -> ok | {error, posix()}.
close_wait(_FD) ->
    erlang:nif_error(not_loaded).

%% @doc Reads what is there, `Max' bytes (1 to 1 MiB) or less: read(2). `{ok, <<>>}' is the end of the
%% file: on a stream socket the peer will not write any more.
%%
%% ```
%% case fdio:read(FD, 65536) of
%%     {ok, <<>>} -> eof;
%%     {ok, Data} -> Data;
%%     {error, eagain} -> inert:poll(FD, read)
%% end.
%% '''
%%
%% Errors: `eagain' (nothing there yet), `ebadf' (closed, or not open for reading),
%% `econnreset', `eisdir', `einval' (in blocking mode).
-spec read(fd(), Max :: 1..1048576) -> {ok, binary()} | {error, posix()}.
read(_FD, _Max) ->
    erlang:nif_error(not_loaded).

%% @doc Writes as much of the data as fits now, 1 MiB at most, and tells how much that was:
%% write(2).
%%
%% ```
%% {ok, Written} = fdio:write(FD, Data),
%% <<_:Written/binary, Rest/binary>> = Data.
%% '''
%%
%% Errors: `eagain' (nothing fits), `epipe' (nobody can read it any more), `ebadf' (closed, or not open
%% for writing), `einval' (in blocking mode).
-spec write(fd(), binary()) -> {ok, Written :: non_neg_integer()} | {error, posix()}.
write(_FD, _Data) ->
    erlang:nif_error(not_loaded).

%% @doc A second number for the same open file, the lowest that is free: dup(2). Both share
%% position and flags, `set_nonblock/2' included.
%%
%% ```
%% {ok, Copy} = fdio:dup(FD).
%% '''
%%
%% Errors: `ebadf', `emfile'.
-spec dup(fd()) -> {ok, fd()} | {error, posix()}.
dup(_FD) ->
    erlang:nif_error(not_loaded).

%% @doc Makes the number `To' mean the open file of `FD', closing what it was before: dup2(2).
%%
%% ```
%% ok = fdio:dup2(FD, To).
%% '''
%%
%% Errors: `ebadf' (`FD' is not open, or `To' is beyond `max_fds/0').
-spec dup2(fd(), To :: fd()) -> ok | {error, posix()}.
dup2(_FD, _To) ->
    erlang:nif_error(not_loaded).

%% @doc A pipe's two ends: pipe(2).
%%
%% ```
%% {ok, {Reader, Writer}} = fdio:pipe().
%% '''
%%
%% Errors: `emfile', `enfile'.
-spec pipe() -> {ok, {Reader :: fd(), Writer :: fd()}} | {error, posix()}.
pipe() ->
    erlang:nif_error(not_loaded).

%% @equiv eventfd(counter)
-spec eventfd() -> {ok, fd()} | {error, posix()}.
eventfd() ->
    eventfd(counter).

%% @doc A counter in the kernel, at 0: eventfd(2). It is read and written as 8 bytes in the
%% machine's byte order, readable while above 0. Reading a `counter' resets it; reading a `semaphore' gives 1
%% and takes 1 off.
%%
%% ```
%% {ok, FD} = fdio:eventfd(counter),
%% {ok, 8} = fdio:write(FD, <<3:64/native>>),
%% {ok, <<3:64/native>>} = fdio:read(FD, 8).
%% '''
%%
%% Errors: `emfile', `enfile'. Writing gives `eagain' where it would count beyond 2^64 - 2.
-spec eventfd(counter | semaphore) -> {ok, fd()} | {error, posix()}.
eventfd(_Counting) ->
    erlang:nif_error(not_loaded).

%% @doc A pseudo-terminal: openpty(3). `Name' is the slave's path. The line is raw, as a serial line is
%% used: no echo, no lines, every byte comes out as it went in.
%%
%% ```
%% {ok, {Master, Slave, <<"/dev/pts/", _/binary>>}} = fdio:openpty().
%% '''
%%
%% Errors: `emfile', `enfile', `eagain' (the system has no more of them). When the last
%% slave is closed, reading the master gives `eio'.
-spec openpty() -> {ok, {Master :: fd(), Slave :: fd(), Name :: binary()}} | {error, posix()}.
openpty() ->
    erlang:nif_error(not_loaded).

%% @doc The settings of a terminal's line, all of `line()': tcgetattr(3).
%%
%% ```
%% {ok, #{speed := 9600, data_bits := 8, parity := none}} = fdio:tcgetattr(FD).
%% '''
%%
%% Errors: `enotty' (no terminal), `eio' (it has been unplugged), `ebadf'.
-spec tcgetattr(fd()) -> {ok, line()} | {error, posix()}.
tcgetattr(_FD) ->
    erlang:nif_error(not_loaded).

%% @doc Makes a line raw (no echo, no line editing, no signals, every byte as it is), lets
%% it ignore the modem control lines, and changes the settings given: tcsetattr(3).
%%
%% A device may do without what it cannot do, and the answer is `ok' all the same: `tcgetattr/1' tells what
%% it made of it.
%%
%% ```
%% ok = fdio:tcsetattr(FD, #{speed => 115200, parity => even}).
%% '''
%%
%% Errors: `enotty' (no terminal), `einval' (a speed out of the device's reach), `eio' (it has been unplugged),
%% `ebadf'.
-spec tcsetattr(fd(), line()) -> ok | {error, posix()}.
tcsetattr(_FD, _Line) ->
    erlang:nif_error(not_loaded).

%% @doc Keeps others from opening this terminal until all its fds are closed: ioctl_tty(2),
%% `TIOCEXCL'. Their open(2) fails with `ebusy', unless they are root.
%%
%% ```
%% ok = fdio:tiocexcl(FD).
%% '''
%%
%% Errors: `enotty' (no terminal), `eio' (it has been unplugged), `ebadf'.
-spec tiocexcl(fd()) -> ok | {error, posix()}.
tiocexcl(_FD) ->
    erlang:nif_error(not_loaded).

%% @doc A network device whose other end is the fd: the kernel's tuntap.rst. What the kernel sends
%% through the device is what the fd reads, one packet (`tun': IP) or frame (`tap': Ethernet) a
%% read, cut if longer than `Max'; what is written is what the kernel receives. The device is gone
%% when the fd is closed, unless it was made to stay (`ip tuntap add').
%%
%% `Name' is at most 15 bytes. One that exists, and is free, is used; else it is created, which needs
%% the right to (CAP_NET_ADMIN). In it `%d' stands for a number that the kernel chooses, and `""' for
%% `"tun%d"' or `"tap%d"'.
%%
%% ```
%% {ok, {FD, <<"tun0">>}} = fdio:tun(tun, "tun%d").
%% '''
%%
%% Errors: `eperm', `eacces', `enoent' (no /dev/net/tun), `enodev' (the kernel has no such driver),
%% `ebusy' (somebody has it), `einval' (a device of another kind, or no name), `enametoolong', `emfile'.
-spec tun(tun | tap, Name :: binary() | string()) ->
    {ok, {fd(), Name :: binary()}} | {error, posix()}.
tun(Kind, Name) when is_list(Name) ->
    case unicode:characters_to_binary(Name) of
        Binary when is_binary(Binary) -> tun_nif(Kind, Binary);
        _NotText -> error(badarg, [Kind, Name])
    end;
tun(Kind, Name) ->
    tun_nif(Kind, Name).

%% @doc Switches non-blocking mode on or off: fcntl(2), `O_NONBLOCK'. For fds that come from
%% elsewhere, and for tests.
%%
%% ```
%% ok = fdio:set_nonblock(0, true).
%% '''
%%
%% Errors: `ebadf'.
-spec set_nonblock(fd(), boolean()) -> ok | {error, posix()}.
set_nonblock(_FD, _On) ->
    erlang:nif_error(not_loaded).

%% @doc Whether this number is an open fd at this moment: fcntl(2), `F_GETFD'. Whose it is, nobody
%% can tell.
%%
%% ```
%% false = fdio:is_open(-1).
%% '''
-spec is_open(fd()) -> boolean().
is_open(_FD) ->
    erlang:nif_error(not_loaded).

%% @doc How many fds the VM may have, so the lowest number that no fd can get:
%% getrlimit(2), the soft limit of `RLIMIT_NOFILE'.
%%
%% ```
%% {error, ebadf} = fdio:dup2(FD, fdio:max_fds()).
%% '''
-spec max_fds() -> pos_integer() | infinity.
max_fds() ->
    erlang:nif_error(not_loaded).

%%% Sockets

%% @doc As `socketpair(stream)'.
-spec socketpair() -> {ok, {fd(), fd()}} | {error, posix()}.
socketpair() ->
    socketpair(stream).

%% @doc Two unix sockets connected to each other: socketpair(2).
%%
%% ```
%% {ok, {A, B}} = fdio:socketpair(),
%% {ok, 5} = fdio:write(A, <<"hello">>),
%% {ok, <<"hello">>} = fdio:read(B, 100).
%% '''
%%
%% Errors: `emfile', `enfile'.
-spec socketpair(stream | dgram | seqpacket) -> {ok, {fd(), fd()}} | {error, posix()}.
socketpair(_Type) ->
    erlang:nif_error(not_loaded).

%% @doc A socket: socket(2). An ICMP socket of type `dgram' sends and receives echoes and no more, but
%% needs no rights where the sysctl net.ipv4.ping_group_range has the user's group; `raw' needs
%% CAP_NET_RAW.
%%
%% ```
%% {ok, FD} = fdio:socket(inet, stream, 0),
%% {ok, Ping} = fdio:socket(inet, dgram, icmp).
%% '''
%%
%% Errors: `emfile', `enfile', `eafnosupport', `esocktnosupport' (no such type in this domain),
%% `eprotonosupport' (no such protocol of this type), `eacces' and `eperm' (not allowed).
-spec socket(domain(), type(), protocol()) -> {ok, fd()} | {error, posix()}.
socket(_Domain, _Type, _Protocol) ->
    erlang:nif_error(not_loaded).

%% @doc Gives a socket its address: bind(2). Port 0 lets the kernel choose (see `getsockname/1').
%%
%% ```
%% ok = fdio:bind(FD, {{127, 0, 0, 1}, 0}).
%% '''
%%
%% Errors: `eaddrinuse', `eaddrnotavail', `eacces', `eafnosupport' (of another domain), `einval' (has an address
%% already), `enametoolong', `ebadf', `enotsock'.
-spec bind(fd(), address()) -> ok | {error, posix()}.
bind(_FD, _Address) ->
    erlang:nif_error(not_loaded).

%% @doc Accepts connections from now on: listen(2). `Backlog' is how many may wait for
%% `accept/1'.
%%
%% ```
%% ok = fdio:listen(FD, 128).
%% '''
%%
%% Errors: `eaddrinuse', `enotsup' (no stream), `ebadf', `enotsock'.
-spec listen(fd(), Backlog :: integer()) -> ok | {error, posix()}.
listen(_FD, _Backlog) ->
    erlang:nif_error(not_loaded).

%% @doc Takes one connection that waits: accept4(2). Its address is `getpeername/1''s to tell.
%%
%% ```
%% case fdio:accept(ListenFD) of
%%     {ok, FD} -> FD;
%%     {error, eagain} -> inert:poll(ListenFD, read)
%% end.
%% '''
%%
%% Errors: `eagain' (none waits), `emfile' and `enfile' (the connection waits on),
%% `econnaborted', `einval' (not listening, or in blocking mode), `ebadf', `enotsock'.
-spec accept(fd()) -> {ok, fd()} | {error, posix()}.
accept(_FD) ->
    erlang:nif_error(not_loaded).

%% @doc Connects a socket: connect(2).
%%
%% ```
%% case fdio:connect(FD, {{127, 0, 0, 1}, 22}) of
%%     ok -> ok;
%%     {error, einprogress} -> {ok, write} = inert:poll(FD, write), fdio:so_error(FD);
%%     {error, _} = Error -> Error
%% end.
%% '''
%%
%% Errors: `einprogress' (writable once decided, then ask `so_error/1'), `ealready' (in progress
%% since an earlier call), `eisconn', `eagain' (a unix socket's backlog is full; try later),
%% `econnrefused', `enoent',
%% `eafnosupport', `einval' (in blocking mode), `ebadf', `enotsock'.
-spec connect(fd(), address()) -> ok | {error, posix()}.
connect(_FD, _Address) ->
    erlang:nif_error(not_loaded).

%% @doc Ends one or both directions: shutdown(2). After `write' the peer reads to the end, then
%% `{ok, <<>>}'.
%%
%% ```
%% ok = fdio:shutdown(FD, write).
%% '''
%%
%% Errors: `enotconn', `ebadf', `enotsock'.
-spec shutdown(fd(), read | write | read_write) -> ok | {error, posix()}.
shutdown(_FD, _How) ->
    erlang:nif_error(not_loaded).

%% @doc A socket's own address: getsockname(2).
%%
%% ```
%% {ok, {{127, 0, 0, 1}, Port}} = fdio:getsockname(ListenFD).
%% '''
%%
%% Errors: `ebadf', `enotsock', `eafnosupport' (not of a `domain()').
-spec getsockname(fd()) -> {ok, address()} | {error, posix()}.
getsockname(_FD) ->
    erlang:nif_error(not_loaded).

%% @doc The address of the socket that this one is connected to: getpeername(2).
%%
%% ```
%% {ok, {IP, Port}} = fdio:getpeername(FD).
%% '''
%%
%% Errors: `enotconn', `ebadf', `enotsock', `eafnosupport' (not of a `domain()').
-spec getpeername(fd()) -> {ok, address()} | {error, posix()}.
getpeername(_FD) ->
    erlang:nif_error(not_loaded).

%% @doc The error that waits on a socket, which asking clears: getsockopt(2), `SO_ERROR'. It tells how
%% a connect in progress ended.
%%
%% ```
%% {error, econnrefused} = fdio:so_error(FD),
%% ok = fdio:so_error(FD).
%% '''
%%
%% Errors: the one that waited; `ebadf', `enotsock'.
-spec so_error(fd()) -> ok | {error, posix()}.
so_error(_FD) ->
    erlang:nif_error(not_loaded).

%% @doc Sets an option: setsockopt(2).
%%
%% `reuseaddr', `nodelay' and `keepalive' are `true' or `false'; `sndbuf' and `rcvbuf' are in bytes, of
%% which Linux takes twice as many, within its limits. `pktinfo', `recvttl' and `timestamp' are `true'
%% or `false', and have `recvmsg/2' tell the `control()' of that name (`recvttl' that of `ttl').
%% `bindtodevice' is an interface's name: the socket knows no other; `<<>>' takes that back.
%%
%% ```
%% ok = fdio:setsockopt(FD, nodelay, true),
%% ok = fdio:setsockopt(FD, sndbuf, 4096),
%% ok = fdio:setsockopt(FD, bindtodevice, <<"lo">>).
%% '''
%%
%% Errors: `enotsup' (`nodelay' of a unix socket) and `enoprotoopt', `enodev' and `eperm'
%% (`bindtodevice'), `ebadf', `enotsock'.
-spec setsockopt(fd(), socket_option(), boolean() | non_neg_integer() | binary()) ->
    ok | {error, posix()}.
setsockopt(FD, Option, On) when
    Option =:= reuseaddr;
    Option =:= nodelay;
    Option =:= keepalive;
    Option =:= pktinfo;
    Option =:= recvttl;
    Option =:= timestamp
->
    set_switch_nif(FD, Option, On);
setsockopt(FD, Option, Bytes) when Option =:= sndbuf; Option =:= rcvbuf ->
    set_size_nif(FD, Option, Bytes);
setsockopt(FD, bindtodevice, Interface) ->
    set_device_nif(FD, Interface);
setsockopt(FD, Option, Value) ->
    error(badarg, [FD, Option, Value]).

%% @doc As `write/2', on sockets only: send(2) with `MSG_NOSIGNAL' and `MSG_DONTWAIT'. Does not
%% wait on a socket in blocking mode either.
%%
%% ```
%% {ok, 5} = fdio:send(FD, <<"hello">>).
%% '''
%%
%% Errors: `eagain', `epipe', `econnreset', `enotconn', `emsgsize' (a datagram too long), `ebadf',
%% `enotsock'.
-spec send(fd(), binary()) -> {ok, Written :: non_neg_integer()} | {error, posix()}.
send(_FD, _Data) ->
    erlang:nif_error(not_loaded).

%% @doc Sends with `MSG_OOB': the last byte becomes TCP's urgent byte, which the peer's poll(2)
%% sees as `POLLPRI'.
%%
%% ```
%% {ok, 1} = fdio:send_oob(FD, <<"!">>).
%% '''
%%
%% Errors: those of `send/2', `enotsup' (neither TCP nor, in newer kernels, a unix stream).
-spec send_oob(fd(), binary()) -> {ok, Written :: non_neg_integer()} | {error, posix()}.
send_oob(_FD, _Data) ->
    erlang:nif_error(not_loaded).

%% @doc As `read/2', on sockets only: recv(2) with `MSG_DONTWAIT'. Does not wait on a socket in
%% blocking mode either. A datagram longer than `Max' is cut.
%%
%% ```
%% {ok, Data} = fdio:recv(FD, 65536).
%% '''
%%
%% Errors: `eagain', `econnreset', `econnrefused' (UDP), `enotconn', `ebadf', `enotsock'.
-spec recv(fd(), Max :: 1..1048576) -> {ok, binary()} | {error, posix()}.
recv(_FD, _Max) ->
    erlang:nif_error(not_loaded).

%% @doc Receives TCP's urgent byte: recv(2) with `MSG_OOB'.
%%
%% ```
%% {ok, <<"!">>} = fdio:recv_oob(FD, 1).
%% '''
%%
%% Errors: `einval' (there is none), `eagain' (announced, not here yet), `ebadf', `enotsock'.
-spec recv_oob(fd(), Max :: 1..1048576) -> {ok, binary()} | {error, posix()}.
recv_oob(_FD, _Max) ->
    erlang:nif_error(not_loaded).

%% @doc Sends a message with ancillary data, or to an address: sendmsg(2) with `MSG_NOSIGNAL' and
%% `MSG_DONTWAIT'. A stream may take a part of the data only, the fds with its first byte; without
%% any data it sends nothing.
%%
%% ```
%% {ok, 1} = fdio:sendmsg(FD, #{data => <<"x">>, control => [{rights, [Other]}]}),
%% {ok, 5} = fdio:sendmsg(UdpFD, #{data => <<"hello">>, address => {{127, 0, 0, 1}, 7}}).
%% '''
%%
%% Errors: those of `send/2'; `einval' (ancillary data that the socket's domain does not know, or more than 253
%% fds), `ebadf' (also for a fd among `rights'), `etoomanyrefs' (too many fds are on their way),
%% `edestaddrreq', `econnrefused'.
-spec sendmsg(fd(), #{data := binary(), address => address(), control => [control()]}) ->
    {ok, Sent :: non_neg_integer()} | {error, posix()}.
sendmsg(_FD, _Message) ->
    erlang:nif_error(not_loaded).

%% @doc Receives with ancillary data and the sender's address: recvmsg(2) with `MSG_DONTWAIT'.
%% <b>Fds among the ancillary data are open</b>, whether wanted or not: look at `control', and close
%% them.
%%
%% ```
%% {ok, #{data := <<"x">>, control := [{rights, [FD]}], flags := []}} = fdio:recvmsg(Other, 100).
%% '''
%%
%% Errors: those of `recv/2'.
-spec recvmsg(fd(), Max :: 1..1048576) -> {ok, message()} | {error, posix()}.
recvmsg(_FD, _Max) ->
    erlang:nif_error(not_loaded).

%%% Changes of files

%% In the order in which they are told.
-define(INOTIFY_FLAGS, [
    {access, 16#1},
    {modify, 16#2},
    {attrib, 16#4},
    {close_write, 16#8},
    {close_nowrite, 16#10},
    {open, 16#20},
    {moved_from, 16#40},
    {moved_to, 16#80},
    {create, 16#100},
    {delete, 16#200},
    {delete_self, 16#400},
    {move_self, 16#800},
    {unmount, 16#2000},
    {q_overflow, 16#4000},
    {ignored, 16#8000},
    {onlydir, 16#1000000},
    {dont_follow, 16#2000000},
    {excl_unlink, 16#4000000},
    {mask_create, 16#10000000},
    {mask_add, 16#20000000},
    {isdir, 16#40000000},
    {oneshot, 16#80000000}
]).

%% An event is 16 bytes and a name of at most 255, padded: some hundreds of usual ones.
-define(INOTIFY_BUFFER, 16384).

%% @doc A queue for what happens to watched files: inotify(7). Readable when there is
%% something to read.
%%
%% Errors: `emfile' (also beyond `fs.inotify.max_user_instances'), `enfile'.
-spec inotify_init() -> {ok, fd()} | {error, posix()}.
inotify_init() ->
    erlang:nif_error(not_loaded).

%% @doc Watches a file or directory: inotify_add_watch(2). Watching one again changes its flags, and
%% gives the same number.
%%
%% ```
%% {ok, FD} = fdio:inotify_init(),
%% {ok, Watch} = fdio:inotify_add_watch(FD, "/tmp", [create, delete, onlydir]).
%% '''
%%
%% Errors: `enoent', `enotdir' (with `onlydir'), `eacces', `enospc' (beyond `fs.inotify.max_user_watches'),
%% `eexist' (with `mask_create'), `einval' (no flag, or no fd of inotify), `ebadf'.
-spec inotify_add_watch(fd(), Path :: binary() | string(), [inotify_flag()]) ->
    {ok, Watch :: integer()} | {error, posix()}.
inotify_add_watch(FD, Path, Flags) ->
    try
        inotify_add_watch_nif(FD, path(Path), inotify_mask(Flags))
    catch
        error:_ -> error(badarg, [FD, Path, Flags])
    end.

%% @doc Ends a watch, which `ignored' confirms: inotify_rm_watch(2).
%%
%% Errors: `einval' (no such watch, or no fd of inotify), `ebadf'.
-spec inotify_rm_watch(fd(), Watch :: integer()) -> ok | {error, posix()}.
inotify_rm_watch(_FD, _Watch) ->
    erlang:nif_error(not_loaded).

%% @doc Reads the events that wait, as many as 16 KiB hold, the oldest first.
%%
%% ```
%% {ok, [#{flags := [create], name := <<"new">>}]} = fdio:inotify_read(FD).
%% '''
%%
%% Errors: those of `read/2'; `einval', if it is no fd of inotify.
-spec inotify_read(fd()) -> {ok, [inotify_event()]} | {error, posix()}.
inotify_read(FD) ->
    case read(FD, ?INOTIFY_BUFFER) of
        {ok, Bytes} -> inotify_events(Bytes, []);
        {error, _Reason} = Error -> Error
    end.

-spec inotify_events(binary(), [inotify_event()]) -> {ok, [inotify_event()]} | {error, einval}.
inotify_events(
    <<Watch:32/native-signed, Mask:32/native, Cookie:32/native, Length:32/native, Padded:Length/binary,
        Rest/binary>>,
    Events
) ->
    [Name | _Zeros] = binary:split(Padded, <<0>>),
    Flags = [Flag || {Flag, Bit} <- ?INOTIFY_FLAGS, Mask band Bit =/= 0],
    Event = #{watch => Watch, flags => Flags, cookie => Cookie, name => Name},
    inotify_events(Rest, [Event | Events]);
inotify_events(<<>>, [_ | _] = Events) ->
    {ok, lists:reverse(Events)};
inotify_events(_NoEvent, _Events) ->
    {error, einval}.

-spec inotify_mask([inotify_flag()]) -> non_neg_integer().
inotify_mask(Flags) ->
    lists:foldl(fun(Flag, Mask) -> Mask bor inotify_bit(Flag) end, 0, Flags).

-spec inotify_bit(inotify_flag()) -> pos_integer().
inotify_bit(Flag) ->
    {Flag, Bit} = lists:keyfind(Flag, 1, ?INOTIFY_FLAGS),
    Bit.

%%% Timers

%% @doc A timer that is not set yet: timerfd_create(2). Once it has expired it is readable, and `read/2' gives
%% how often it has since the last read, as 8 bytes in the machine's byte order.
%%
%% `monotonic' runs on whatever the clock is set to, `realtime' follows the clock, and
%% `boottime' is as `monotonic' and counts the time that the system sleeps.
%%
%% Errors: `emfile', `enfile'.
-spec timerfd_create(monotonic | realtime | boottime) -> {ok, fd()} | {error, posix()}.
timerfd_create(_Clock) ->
    erlang:nif_error(not_loaded).

%% @doc Sets a timer: timerfd_settime(2). It expires after `After' nanoseconds for the first time, and then every
%% `Every' nanoseconds, or not again if that is 0. An `After' of 0 stops it. What has expired and was
%% not read is forgotten.
%%
%% ```
%% {ok, FD} = fdio:timerfd_create(monotonic),
%% ok = fdio:timerfd_settime(FD, 1_000_000, 0),
%% {ok, read} = inert:poll(FD),
%% {ok, <<1:64/native>>} = fdio:read(FD, 8).
%% '''
%%
%% Errors: `einval' (no timer), `ebadf'.
-spec timerfd_settime(fd(), After :: non_neg_integer(), Every :: non_neg_integer()) ->
    ok | {error, posix()}.
timerfd_settime(_FD, _After, _Every) ->
    erlang:nif_error(not_loaded).

%%% Processes of the system

%% @doc A fd for a process of the system, any that runs: pidfd_open(2). It is readable once the process
%% has ended, and cannot be read. The process's number may then be used again; the fd never means another process.
%%
%% ```
%% {ok, FD} = fdio:pidfd_open(OsPid),
%% {ok, read} = inert:poll(FD).
%% '''
%%
%% Errors: `esrch' (no such process), `einval' (0, negative, or a thread), `enosys' (before Linux 5.3), `emfile'.
-spec pidfd_open(OsPid :: integer()) -> {ok, fd()} | {error, posix()}.
pidfd_open(_OsPid) ->
    erlang:nif_error(not_loaded).

%% @doc Sends a signal to the process that a fd of `pidfd_open/1' means: pidfd_send_signal(2).
%%
%% Errors: `esrch' (it has ended), `eperm', `ebadf' (also for a fd that means no process).
-spec pidfd_send_signal(fd(), signal()) -> ok | {error, posix()}.
pidfd_send_signal(_FD, _Signal) ->
    erlang:nif_error(not_loaded).

%%% The NIF

%% A binary is taken as it is: names of files need not be UTF-8.
-spec path(term()) -> binary().
path(Path) when is_binary(Path) ->
    Path;
path(Path) when is_list(Path) ->
    case unicode:characters_to_binary(Path) of
        Binary when is_binary(Binary) -> Binary;
        _NotText -> error(badarg)
    end;
path(_Path) ->
    error(badarg).

-spec open_nif(binary(), [open_mode()]) -> {ok, fd()} | {error, posix()}.
open_nif(_Path, _Modes) ->
    erlang:nif_error(not_loaded).

-spec tun_nif(tun | tap, binary()) -> {ok, {fd(), binary()}} | {error, posix()}.
tun_nif(_Kind, _Name) ->
    erlang:nif_error(not_loaded).

-spec set_switch_nif(fd(), socket_option(), term()) -> ok | {error, posix()}.
set_switch_nif(_FD, _Option, _On) ->
    erlang:nif_error(not_loaded).

-spec set_size_nif(fd(), socket_option(), term()) -> ok | {error, posix()}.
set_size_nif(_FD, _Option, _Bytes) ->
    erlang:nif_error(not_loaded).

-spec set_device_nif(fd(), term()) -> ok | {error, posix()}.
set_device_nif(_FD, _Device) ->
    erlang:nif_error(not_loaded).

-spec inotify_add_watch_nif(fd(), binary(), non_neg_integer()) -> {ok, integer()} | {error, posix()}.
inotify_add_watch_nif(_FD, _Path, _Mask) ->
    erlang:nif_error(not_loaded).

-spec load() -> ok | {error, term()}.
load() ->
    erlang:load_nif(filename:join(priv_dir(), "fdio"), 0).

%% The code server knows the priv directory of applications in its path whose
%% directory is called after them; from anywhere else, priv is beside ebin.
-spec priv_dir() -> file:filename().
priv_dir() ->
    case code:priv_dir(fdio) of
        {error, bad_name} ->
            Ebin = filename:dirname(code:which(?MODULE)),
            filename:join(filename:dirname(Ebin), "priv");
        Dir ->
            Dir
    end.
