%% SPDX-License-Identifier: Apache-2.0
%% @doc Waits for readiness of file descriptors, without blocking a scheduler.
%%
%% A file descriptor (fd) is a number from anywhere: a NIF that opens sockets,
%% serial lines or devices, or `inet:getfd/1'. inert tells when it can be read or
%% written. It never opens, reads, writes or closes one itself.
%%
%% ```
%% ok = inert:start(),
%% {ok, read} = inert:poll(FD),
%% {error, timeout} = inert:poll(FD, write, 1000).
%% '''
%%
%% {@link poll/3} blocks the calling process until the fd is ready. {@link fdset/2}
%% returns at once, and a message says later that the fd is ready, for processes
%% that wait for other things, too:
%%
%% ```
%% ok = inert:fdset(FD, read_write),
%% Port = inert:pollid(),
%% receive
%%     {inert_read, Port, FD} -> readable;
%%     {inert_write, Port, FD} -> writable
%% end.
%% '''
%%
%% Several fds are one call, too: {@link poll/2} of a list waits for whichever is ready
%% first and tells of all that are.
%%
%% ```
%% {ok, [{Socket, read}, {Tty, write}]} = inert:poll([Socket, {Tty, write}], 1000).
%% '''
%%
%% == Kinds ==
%%
%% <ul>
%% <li>`read', poll(2)'s POLLIN: reading does not block. The message of fdset is
%%   `{inert_read, PollId, FD}'.</li>
%% <li>`write', POLLOUT: writing does not block. `{inert_write, PollId, FD}'.</li>
%% <li>`priority', POLLPRI: a socket has out-of-band data, or a file has something to tell
%%   (/proc/self/mounts, /proc/pressure, sysfs). `{inert_priority, PollId, FD}'.</li>
%% <li>`hangup', POLLRDHUP or POLLHUP: the other side has closed, or has shut down its
%%   sending half. `{inert_hangup, PollId, FD}'.</li>
%% </ul>
%%
%% A mode is one kind, `read_write', or a list of kinds. On the pollset `erts' the last two
%% give `{error, enotsup}'.
%%
%% == Rules ==
%%
%% <ul>
%% <li>Readiness is that of poll(2): errors and hang-ups make a fd ready for
%%   every kind. Regular files and directories are always ready.</li>
%% <li>Every notification is for once; arm again for the next one.</li>
%% <li>A kind of a fd has one waiter at most. One process may wait to read a fd
%%   while another waits to write it; a second one for the same kind gets
%%   `{error, ebusy}' and changes nothing. What a process waits for ends with
%%   it.</li>
%% <li>Nobody can tell that a fd was closed elsewhere: clear before closing.
%%   Where a number was closed and came back as another file, the new file's
%%   user gets the fd, and a process that was blocked polling the old file gets
%%   `{error, ebadf}'.</li>
%% <li>The pollset `epoll' takes one open file under 250 numbers (dup(2)), in all ports
%%   together; the next is refused by the kernel, with `{error, einval}'.</li>
%% <li>An integer that is no open fd is `{error, ebadf}'; an unknown mode or option
%%   is `{error, einval}'; a fd that is no integer or a timeout that is none raises
%%   `badarg'. Nothing that was armed changes.</li>
%% </ul>
%%
%% The service is a registered port, `inert'. With the application started it is
%% kept by a supervisor; without it {@link start/0} opens it. {@link prim_inert}
%% has the same calls for ports of one's own.
-module(inert).

-export([start/0]).
-export([start/1]).
-export([stop/0]).
-export([pollid/0]).
-export([fdset/1]).
-export([fdset/2]).
-export([fdclr/1]).
-export([fdclr/2]).
-export([poll/1]).
-export([poll/2]).
-export([poll/3]).
-export([child_spec/1]).
-export([info/0]).
-export([info/1]).
-export([i/0]).

-export_type([fd/0]).
-export_type([kind/0]).
-export_type([set/0]).
-export_type([set_error/0]).
-export_type([child_option/0]).
-export_type([info/0]).
-export_type([fd_info/0]).
-export_type([mode/0]).
-export_type([option/0]).
-export_type([options/0]).
-export_type([error/0]).

-type fd() :: prim_inert:fd().
%% A file descriptor. A number that is no open one gives `{error, ebadf}'.
-type mode() :: prim_inert:mode().
-type option() :: prim_inert:option().
-type options() :: prim_inert:options().
%% The first of several values for an option counts. `fdset' and `fdclr' have no
%% use for `timeout'.
-type error() :: prim_inert:error().
%% `closed': the service is not started, or was stopped meanwhile. `ebadf': the
%% fd is not open. `ebusy': another process waits for this kind. `einval': unknown
%% mode or option.

-type kind() :: prim_inert:kind().
-type set() :: prim_inert:set().
%% Fds, each once, with or without a mode.
-type set_error() :: prim_inert:set_error().
-type child_option() :: {name, atom()} | prim_inert:start_option().
-type info() :: #{
    port := port(),
    pollset := epoll | erts,
    armed := non_neg_integer(),
    fds := non_neg_integer(),
    polls := non_neg_integer(),
    processes := non_neg_integer(),
    delivered := non_neg_integer(),
    spurious := non_neg_integer(),
    stale := non_neg_integer(),
    wakeups := non_neg_integer(),
    migrated := non_neg_integer(),
    returned := non_neg_integer()
}.
%% Now: `armed', waiters, which wait for `fds' different fds; `polls', of which so many
%% are blocked in a poll; `processes', those that have armed something since they
%% started. Since the port was opened: `delivered', notifications; `spurious', events of
%% fds that turned out to have nothing ready that somebody waited for; `stale', waiters
%% whose file had left its number; `wakeups', calls by ERTS because something was ready;
%% `migrated' and `returned', how often the epoll instance moved to the schedulers and
%% back.
-type fd_info() :: #{
    fd := fd(),
    type := socket | pipe | file | directory | tty | character_device | block_device | link | anonymous,
    path => file:filename_all(),
    domain => string(),
    style => stream | dgram | raw | seqpacket | other,
    local => string(),
    peer => string(),
    waiters := [#{kind := kind(), pid := pid(), waiting := non_neg_integer()}]
}.
%% What the kernel says of a fd, and who waits for it, for how many milliseconds. Of a
%% socket `domain' (`"inet"', `"inet6"', `"unix"', ...), `style', and the addresses that it
%% has; of others, on Linux, `path'.

-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0))).

%% As in prim_inert, for this module's own arguments.
-define(BADARG(Args, Position, Cause),
    erlang:error(badarg, Args, [{error_info, #{module => inert_args, cause => #{Position => Cause}}}])
).

%% @doc As {@link start/1}, with the options of the application's environment: the
%% key `pollset', if it is set.
-spec start() -> ok.
start() ->
    start(inert_server:options()).

%% @doc Starts the service, if it is not started; if it is, the options do not
%% matter.
%%
%% Any number of processes may call it at the same time; there is one port. The
%% port outlives the caller. Without the application `inert' the caller becomes its
%% owner (though not linked to it), and may hand it over with
%% `prim_inert:controlling_process(inert, Pid)'.
%%
%% Raises `{driver_load_failed, Path, Text}' if the driver cannot be loaded, with
%% the path that was tried and what `erl_ddll:format_error/1' says; `badarg' for an
%% unknown option; the errno's name, such as `emfile', if the system refuses (with the
%% application `{Errno, {erlang, open_port, Arguments}}'); `{name_taken, inert, Pid}' if a
%% process has that name.
-spec start([prim_inert:start_option()]) -> ok.
start(Options) ->
    case {inert_args:start_options(Options), whereis(?MODULE)} of
        {error, _} -> ?BADARG([Options], 1, start_options);
        {ok, undefined} -> inert_server:start_service(Options);
        {ok, Port} when is_port(Port) -> ok;
        {ok, Pid} -> error({name_taken, ?MODULE, Pid})
    end.

%% @doc Stops the service, if it is started. Whoever is blocked in a poll gets
%% `{error, closed}' at once.
-spec stop() -> ok.
stop() ->
    inert_server:stop_service().

%% @doc The service's port, which its messages carry, or `undefined' if the service
%% is not started.
-spec pollid() -> port() | undefined.
pollid() ->
    case whereis(?MODULE) of
        Port when is_port(Port) -> Port;
        _ -> undefined
    end.

%% @doc Has the calling process told once when the fd can be read, or when the fds of a
%% set are ready: as {@link fdset/2} for each.
%%
%% Of a set all is armed or nothing: `{error, {Reason, FD}}' names the fd that stands in
%% the way. In a set a fd without a mode is for `read', and no fd occurs twice.
-spec fdset(fd() | set()) -> ok | {error, error() | set_error()}.
fdset(FDs) ->
    case inert_args:fds(FDs, read) of
        {ok, Target} -> inert_drv:fdset(?MODULE, Target);
        {error, _} = Error -> Error;
        {badarg, Cause} -> ?BADARG([FDs], 1, Cause)
    end.

%% @doc Has the calling process told once when the fd is ready: by
%% `{inert_read, PollId, FD}' for the kind read and `{inert_write, PollId, FD}' for
%% write, where `PollId' is {@link pollid/0}.
%%
%% A kind that is ready already is told at once. With several kinds there is a message for
%% each, when it is ready. What the same process had armed on this fd before is replaced.
-spec fdset(fd(), mode() | options()) -> ok | {error, error()}.
fdset(FD, Options) ->
    case inert_args:fd(FD, Options, read) of
        {ok, Target, _Timeout} -> inert_drv:fdset(?MODULE, Target);
        {error, _} = Error -> Error;
        {badarg, fd} -> ?BADARG([FD, Options], 1, fd);
        {badarg, Cause} -> ?BADARG([FD, Options], 2, Cause)
    end.

%% @doc Clears `read' and `write' of the fd, as {@link fdclr/2}; or of a set what it
%% says, `read_write' where it says nothing. It does not clear priority and hangup; name
%% them for that. Of a set all is cleared or nothing.
-spec fdclr(fd() | set()) -> ok | {error, error() | set_error()}.
fdclr(FDs) ->
    case inert_args:fds(FDs, read_write) of
        {ok, Target} -> inert_drv:fdclr(?MODULE, Target);
        {error, _} = Error -> Error;
        {badarg, Cause} -> ?BADARG([FDs], 1, Cause)
    end.

%% @doc Clears what is armed for the fd, by whichever process: no message will be
%% sent for it. A process that is blocked polling a kind that is cleared by
%% another gets `{error, ecanceled}'. That nothing is armed is fine.
%%
%% A message that was sent before stays in its mailbox.
-spec fdclr(fd(), mode() | options()) -> ok | {error, error()}.
fdclr(FD, Options) ->
    case inert_args:fd(FD, Options, read_write) of
        {ok, Target, _Timeout} -> inert_drv:fdclr(?MODULE, Target);
        {error, _} = Error -> Error;
        {badarg, fd} -> ?BADARG([FD, Options], 1, fd);
        {badarg, Cause} -> ?BADARG([FD, Options], 2, Cause)
    end.

%% @doc As {@link poll/3}, of a fd for `read', of a set for what it says; without a
%% timeout.
-spec poll(fd()) -> {ok, kind()} | {error, error() | ecanceled};
    (set()) -> {ok, [{fd(), kind()}]} | {error, set_error()}.
poll(FDs) ->
    case inert_args:fds(FDs, read) of
        {ok, Target} -> prim_inert:wait(?MODULE, Target, infinity);
        {error, _} = Error -> Error;
        {badarg, Cause} -> ?BADARG([FDs], 1, Cause)
    end.

%% @doc Of a fd: as {@link poll/3}, with the timeout among the options; `infinity' if it
%% is not.
%%
%% Of a set: blocks the calling process until something of the set is ready, for the
%% timeout in milliseconds at most. The answer is everything that is ready at that moment,
%% each kind of each fd. It is one call of the port for any number of fds, and nothing
%% of the set stays armed. If something is wrong with a fd of the set, `{error, {Reason,
%% FD}}' names it, and nothing was armed; a poll of a set that waits ends so, too, if a fd
%% of it is cleared by another process (`ecanceled') or found to be another file (`ebadf').
%% A fd that occurs twice is `{error, {einval, FD}}', an empty set `{error, einval}'.
-spec poll(fd(), mode() | options()) -> {ok, kind()} | {error, error() | timeout | ecanceled};
    (set(), timeout()) -> {ok, [{fd(), kind()}]} | {error, set_error()}.
poll(FD, Options) when is_integer(FD) ->
    case inert_args:fd(FD, Options, read) of
        {ok, Target, Timeout} -> prim_inert:wait(?MODULE, Target, Timeout);
        {error, _} = Error -> Error;
        {badarg, Cause} -> ?BADARG([FD, Options], 2, Cause)
    end;
poll(FDs, Timeout) ->
    case inert_args:fds(FDs, read) of
        {badarg, Cause} -> ?BADARG([FDs, Timeout], 1, Cause);
        _ when not ?IS_TIMEOUT(Timeout) -> ?BADARG([FDs, Timeout], 2, timeout);
        {ok, Target} -> prim_inert:wait(?MODULE, Target, Timeout);
        {error, _} = Error -> Error
    end.

%% @doc Blocks the calling process until the fd is ready, for `Timeout' milliseconds
%% at most.
%%
%% With several kinds it returns when one of them is ready; if several are, it names the
%% first of read, write, priority, hangup. A timeout of 0 checks without arming anything.
%% Other messages in the mailbox are not touched, and how many there are does not matter.
%% Whatever is returned, nothing of this poll stays armed, and no message of it will come.
%% What the same process had armed for the same kinds with {@link fdset/2} is replaced,
%% unless the timeout is 0.
%%
%% Errors beside those of {@link error()}: `timeout'; `ecanceled', if another process
%% has cleared a kind that was polled.
-spec poll(fd(), mode() | options(), timeout()) ->
    {ok, kind()} | {error, error() | timeout | ecanceled}.
poll(FD, Options, Timeout) when ?IS_TIMEOUT(Timeout) ->
    case inert_args:fd(FD, Options, read) of
        {ok, Target, _Timeout} -> prim_inert:wait(?MODULE, Target, Timeout);
        {error, _} = Error -> Error;
        {badarg, fd} -> ?BADARG([FD, Options, Timeout], 1, fd);
        {badarg, Cause} -> ?BADARG([FD, Options, Timeout], 2, Cause)
    end;
poll(FD, Options, Timeout) when is_integer(FD) ->
    ?BADARG([FD, Options, Timeout], 3, timeout);
poll(FD, Options, Timeout) ->
    ?BADARG([FD, Options, Timeout], 1, fd).

%% @doc The service as a child of a supervisor of yours, for a system that does not start
%% the application `inert'; or, with the option `name', a port of your own, registered
%% under that name for {@link prim_inert}, and owned by the child.
%%
%% ```
%% init([]) ->
%%     {ok, {#{}, [inert:child_spec([]), inert:child_spec([{name, serial_inert}, {pollset, erts}])]}}.
%% '''
%%
%% If the port dies the child ends with `{port_closed, Reason}' and is started anew; if it
%% cannot be opened, with `{Errno, {erlang, open_port, Arguments}}'. After {@link stop/0} it
%% ends as `normal' and, being transient, stays away. Raises `badarg' for an unknown
%% option.
-spec child_spec([child_option()]) -> supervisor:child_spec().
child_spec(Options) ->
    case inert_server:child_options(Options) of
        {ok, Name, StartOptions} -> inert_server:child_spec(Name, StartOptions);
        error -> ?BADARG([Options], 1, child_options)
    end.

%% @doc What the service does and has done, as a map of {@link info()}.
-spec info() -> info() | {error, closed}.
info() ->
    inert_info:port(?MODULE).

%% @doc What a fd is, and who waits for it with the service.
-spec info(fd()) -> fd_info() | {error, ebadf | closed}.
info(FD) when is_integer(FD) ->
    inert_info:fd(?MODULE, FD);
info(FD) ->
    ?BADARG([FD], 1, fd).

%% @doc Prints a table of all that is armed with the service: fd, what it is, kind, owner,
%% and for how long.
-spec i() -> ok | {error, closed}.
i() ->
    inert_info:print(?MODULE).
