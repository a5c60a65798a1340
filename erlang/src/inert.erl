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
%% <li>The pollset `epoll' takes one open file under some hundreds of numbers
%%   (dup(2)) at most; the kernel refuses more, and `{error, einval}' is the
%%   answer.</li>
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

-export_type([fd/0]).
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

-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0))).

%% As in prim_inert, for this module's own arguments.
-define(BADARG(Args, Causes),
    erlang:error(badarg, Args, [{error_info, #{module => prim_inert, cause => Causes}}])
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
%% unknown option.
-spec start([prim_inert:start_option()]) -> ok.
start(Options) ->
    case {prim_inert:check_start(Options), whereis(?MODULE)} of
        {error, _} -> ?BADARG([Options], #{1 => start_options});
        {ok, undefined} -> inert_server:start_service(Options);
        {ok, Port} when is_port(Port) -> ok
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
        undefined -> undefined
    end.

%% @equiv fdset(FD, read)
-spec fdset(fd()) -> ok | {error, error()}.
fdset(FD) when is_integer(FD) ->
    prim_inert:fdset(?MODULE, FD);
fdset(FD) ->
    ?BADARG([FD], #{1 => fd}).

%% @doc Has the calling process told once when the fd is ready: by
%% `{inert_read, PollId, FD}' for the kind read and `{inert_write, PollId, FD}' for
%% write, where `PollId' is {@link pollid/0}.
%%
%% A kind that is ready already is told at once. With `read_write' both messages
%% come, each when its kind is ready. What the same process had armed on this fd
%% before is replaced.
-spec fdset(fd(), mode() | options()) -> ok | {error, error()}.
fdset(FD, Options) when is_integer(FD) ->
    try
        prim_inert:fdset(?MODULE, FD, Options)
    catch
        error:badarg -> ?BADARG([FD, Options], #{2 => timeout_option})
    end;
fdset(FD, Options) ->
    ?BADARG([FD, Options], #{1 => fd}).

%% @equiv fdclr(FD, read_write)
-spec fdclr(fd()) -> ok | {error, error()}.
fdclr(FD) when is_integer(FD) ->
    prim_inert:fdclr(?MODULE, FD);
fdclr(FD) ->
    ?BADARG([FD], #{1 => fd}).

%% @doc Clears what is armed for the fd, by whichever process: no message will be
%% sent for it. A process that is blocked polling a kind that is cleared by
%% another gets `{error, ecanceled}'. That nothing is armed is fine.
%%
%% A message that was sent before stays in its mailbox.
-spec fdclr(fd(), mode() | options()) -> ok | {error, error()}.
fdclr(FD, Options) when is_integer(FD) ->
    try
        prim_inert:fdclr(?MODULE, FD, Options)
    catch
        error:badarg -> ?BADARG([FD, Options], #{2 => timeout_option})
    end;
fdclr(FD, Options) ->
    ?BADARG([FD, Options], #{1 => fd}).

%% @equiv poll(FD, read, infinity)
-spec poll(fd()) -> {ok, read} | {error, error() | ecanceled}.
poll(FD) when is_integer(FD) ->
    prim_inert:poll(?MODULE, FD);
poll(FD) ->
    ?BADARG([FD], #{1 => fd}).

%% @doc As {@link poll/3}, with the timeout among the options; `infinity' if it is
%% not.
-spec poll(fd(), mode() | options()) ->
    {ok, read | write} | {error, error() | timeout | ecanceled}.
poll(FD, Options) when is_integer(FD) ->
    try
        prim_inert:poll(?MODULE, FD, Options)
    catch
        error:badarg -> ?BADARG([FD, Options], #{2 => timeout_option})
    end;
poll(FD, Options) ->
    ?BADARG([FD, Options], #{1 => fd}).

%% @doc Blocks the calling process until the fd is ready, for `Timeout' milliseconds
%% at most.
%%
%% With `read_write' it returns when one of both kinds is ready, `{ok, read}' if both
%% are. A timeout of 0 checks without arming anything. Other messages in the
%% mailbox are not touched, and how many there are does not matter. Whatever is
%% returned, nothing of this poll stays armed, and no message of it will come. What
%% the same process had armed for the same kinds with {@link fdset/2} is replaced,
%% unless the timeout is 0.
%%
%% Errors beside those of {@link error()}: `timeout'; `ecanceled', if another process
%% has cleared a kind that was polled.
-spec poll(fd(), mode() | options(), timeout()) ->
    {ok, read | write} | {error, error() | timeout | ecanceled}.
poll(FD, Options, Timeout) when is_integer(FD), ?IS_TIMEOUT(Timeout) ->
    try
        prim_inert:poll(?MODULE, FD, Options, Timeout)
    catch
        error:badarg -> ?BADARG([FD, Options, Timeout], #{2 => timeout_option})
    end;
poll(FD, Options, Timeout) when is_integer(FD) ->
    ?BADARG([FD, Options, Timeout], #{3 => timeout});
poll(FD, Options, Timeout) ->
    ?BADARG([FD, Options, Timeout], #{1 => fd}).
