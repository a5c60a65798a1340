%% SPDX-License-Identifier: Apache-2.0
%% @doc File descriptor readiness through a port of one's own.
%%
%% The calls of {@link inert}, with a port (or the name it is registered under) as
%% first argument; what they do and return is described there. Any process may
%% use a port, and several ports work side by side, on the same fds too. A port
%% dies with its owner, the process that started it or got it by {@link
%% controlling_process/2}; whoever is blocked on it then gets `{error, closed}'.
%%
%% ```
%% {ok, Port} = prim_inert:start(),
%% {error, timeout} = prim_inert:poll(Port, FD, read, 100),
%% ok = prim_inert:stop(Port).
%% '''
-module(prim_inert).

-export([start/0]).
-export([start/1]).
-export([stop/1]).
-export([fdset/2]).
-export([fdset/3]).
-export([fdclr/2]).
-export([fdclr/3]).
-export([poll/2]).
-export([poll/3]).
-export([poll/4]).
-export([controlling_process/2]).
-export([info/1]).
-export([info/2]).
-export([i/1]).

%% For inert.
-export([wait/3]).

-export_type([prim_inert/0]).
-export_type([fd/0]).
-export_type([mode/0]).
-export_type([option/0]).
-export_type([options/0]).
-export_type([start_option/0]).
-export_type([error/0]).
-export_type([kind/0]).
-export_type([set/0]).
-export_type([set_error/0]).

-type prim_inert() :: port() | atom().
%% A port of the driver, or the name that it is registered under.
-type fd() :: integer().
%% A file descriptor. A number that is no open one gives `{error, ebadf}'.
-type kind() :: inert_drv:kind().
%% What a fd can be waited for: `read' and `write' everywhere; `priority' (POLLPRI)
%% and `hangup' (POLLRDHUP) on the pollset `epoll'.
-type mode() :: inert_drv:mode().
%% One kind, both of `read_write', or a list of kinds.
-type set() :: [fd() | {fd(), mode()}].
%% Fds, each once. Without a mode: `read', to clear `read_write'.
-type option() :: {mode, mode()} | {timeout, timeout()}.
-type options() :: [option()].
-type start_option() :: {pollset, epoll | erts}.
%% How the kernel is asked to watch: `epoll', an epoll instance of inert's own,
%% the default on Linux; `erts', ERTS's own pollset, the default elsewhere.
-type error() :: inert_drv:error().
-type set_error() :: closed | einval | timeout | {error() | ecanceled, fd()}.
%% What went wrong with a set, and with which fd of it. `einval' alone: there is
%% nothing to wait for in an empty set.

%% How often a poll by reference looks whether the node has been renamed: see
%% receive_end/3. In milliseconds.
-define(RENAME_CHECK, 5_000).

%% What was armed and could not be cleared ends in a message, which is there or, if
%% the port is just closing, about to be sent. So a wait for it ends at once,
%% unless the driver broke down meanwhile. In milliseconds.
-define(LAST_MESSAGE, 5_000).

%% With so many messages in the mailbox a reference is cheaper than looking at them.
-define(SHORT_MAILBOX, 32).

-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0))).

%% Longer ones a receive does not take.
-define(ONE_STEP, 16#ffffffff).
-define(IS_ONE_STEP(T), (T =:= infinity orelse T =< ?ONE_STEP)).

%% Raises badarg for the calling function: its argument at this position is not
%% what it should be.
-define(BADARG(Args, Position, Cause),
    erlang:error(badarg, Args, [{error_info, #{module => inert_args, cause => #{Position => Cause}}}])
).

%% @equiv start([])
-spec start() -> {ok, port()}.
start() ->
    start([]).

%% @doc Opens a port, owned by and linked to the calling process. The driver is
%% loaded if it is not.
%%
%% Raises `{driver_load_failed, Path, Text}' if the driver cannot be loaded, `badarg'
%% for an unknown option, and the errno's name, such as `emfile', if the system
%% refuses.
-spec start([start_option()]) -> {ok, port()}.
start(Options) ->
    case inert_args:start_options(Options) of
        ok -> {ok, inert_drv:open(Options)};
        error -> ?BADARG([Options], 1, start_options)
    end.

%% @doc Closes a port, from any process. Whoever is blocked on it gets `{error,
%% closed}'. A port that is closed already is fine.
-spec stop(prim_inert()) -> ok.
stop(Port) ->
    try port_close(Port) of
        true -> ok
    catch
        error:badarg -> ok
    end.

%% @doc As `inert:fdset/1'. The messages carry the port.
-spec fdset(prim_inert(), fd() | set()) -> ok | {error, error() | set_error()}.
fdset(Port, FDs) ->
    case inert_args:fds(FDs, read) of
        {ok, Target} -> inert_drv:fdset(Port, Target);
        {error, _} = Error -> Error;
        {badarg, Cause} -> ?BADARG([Port, FDs], 2, Cause)
    end.

%% @doc As `inert:fdset/2'. The messages carry the port.
-spec fdset(prim_inert(), fd(), mode() | options()) -> ok | {error, error()}.
fdset(Port, FD, Options) ->
    case inert_args:fd(FD, Options, read) of
        {ok, Target, _Timeout} -> inert_drv:fdset(Port, Target);
        {error, _} = Error -> Error;
        {badarg, fd} -> ?BADARG([Port, FD, Options], 2, fd);
        {badarg, Cause} -> ?BADARG([Port, FD, Options], 3, Cause)
    end.

%% @doc As `inert:fdclr/1'.
-spec fdclr(prim_inert(), fd() | set()) -> ok | {error, error() | set_error()}.
fdclr(Port, FDs) ->
    case inert_args:fds(FDs, read_write) of
        {ok, Target} -> inert_drv:fdclr(Port, Target);
        {error, _} = Error -> Error;
        {badarg, Cause} -> ?BADARG([Port, FDs], 2, Cause)
    end.

%% @doc As `inert:fdclr/2'.
-spec fdclr(prim_inert(), fd(), mode() | options()) -> ok | {error, error()}.
fdclr(Port, FD, Options) ->
    case inert_args:fd(FD, Options, read_write) of
        {ok, Target, _Timeout} -> inert_drv:fdclr(Port, Target);
        {error, _} = Error -> Error;
        {badarg, fd} -> ?BADARG([Port, FD, Options], 2, fd);
        {badarg, Cause} -> ?BADARG([Port, FD, Options], 3, Cause)
    end.

%% @doc As `inert:poll/1'.
-spec poll(prim_inert(), fd()) -> {ok, kind()} | {error, error() | ecanceled};
    (prim_inert(), set()) -> {ok, [{fd(), kind()}]} | {error, set_error()}.
poll(Port, FDs) ->
    case inert_args:fds(FDs, read) of
        {ok, Target} -> wait(Port, Target, infinity);
        {error, _} = Error -> Error;
        {badarg, Cause} -> ?BADARG([Port, FDs], 2, Cause)
    end.

%% @doc As `inert:poll/2'.
-spec poll(prim_inert(), fd(), mode() | options()) -> {ok, kind()} | {error, error() | timeout | ecanceled};
    (prim_inert(), set(), timeout()) -> {ok, [{fd(), kind()}]} | {error, set_error()}.
poll(Port, FD, Options) when is_integer(FD) ->
    case inert_args:fd(FD, Options, read) of
        {ok, Target, Timeout} -> wait(Port, Target, Timeout);
        {error, _} = Error -> Error;
        {badarg, Cause} -> ?BADARG([Port, FD, Options], 3, Cause)
    end;
poll(Port, FDs, Timeout) ->
    case inert_args:fds(FDs, read) of
        {badarg, Cause} -> ?BADARG([Port, FDs, Timeout], 2, Cause);
        _ when not ?IS_TIMEOUT(Timeout) -> ?BADARG([Port, FDs, Timeout], 3, timeout);
        {ok, Target} -> wait(Port, Target, Timeout);
        {error, _} = Error -> Error
    end.

%% @doc As `inert:poll/3'.
-spec poll(prim_inert(), fd(), mode() | options(), timeout()) ->
    {ok, kind()} | {error, error() | timeout | ecanceled}.
poll(Port, FD, Options, Timeout) when ?IS_TIMEOUT(Timeout) ->
    case inert_args:fd(FD, Options, read) of
        {ok, Target, _Timeout} -> wait(Port, Target, Timeout);
        {error, _} = Error -> Error;
        {badarg, fd} -> ?BADARG([Port, FD, Options, Timeout], 2, fd);
        {badarg, Cause} -> ?BADARG([Port, FD, Options, Timeout], 3, Cause)
    end;
poll(Port, FD, Options, Timeout) when is_integer(FD) ->
    ?BADARG([Port, FD, Options, Timeout], 4, timeout);
poll(Port, FD, Options, Timeout) ->
    ?BADARG([Port, FD, Options, Timeout], 2, fd).

%% @doc As `inert:info/0'.
-spec info(prim_inert()) -> inert:info() | {error, closed}.
info(Port) ->
    inert_info:port(Port).

%% @doc As `inert:info/1'.
-spec info(prim_inert(), fd()) -> inert:fd_info() | {error, ebadf | closed}.
info(Port, FD) when is_integer(FD) ->
    inert_info:fd(Port, FD);
info(Port, FD) ->
    ?BADARG([Port, FD], 2, fd).

%% @doc As `inert:i/0'.
-spec i(prim_inert()) -> ok | {error, closed}.
i(Port) ->
    inert_info:print(Port).

%% @doc Hands a port over to another local process.
%%
%% Only the port's owner may do so; for anyone else it is `{error, not_owner}', and
%% `ok' if `Pid' owns the port already. Afterwards `Pid' is linked to the port and
%% the caller is not. Whatever waits goes on waiting and gets its messages.
%% `{error, einval}': the port is closed, its name is not registered, or `Pid' is no
%% process that is alive on this node.
-spec controlling_process(prim_inert(), pid()) -> ok | {error, not_owner | einval}.
controlling_process(Name, Pid) when is_atom(Name) ->
    case whereis(Name) of
        Port when is_port(Port) -> controlling_process(Port, Pid);
        _ -> {error, einval}
    end;
controlling_process(Port, Pid) when is_port(Port), is_pid(Pid) ->
    Self = self(),
    case erlang:port_info(Port, connected) of
        {connected, Pid} -> ok;
        {connected, Self} -> hand_over(Port, Pid);
        {connected, _} -> {error, not_owner};
        undefined -> {error, einval}
    end;
controlling_process(_Port, _Pid) ->
    {error, einval}.

-spec hand_over(port(), pid()) -> ok | {error, einval}.
hand_over(Port, Pid) ->
    try erlang:port_connect(Port, Pid) of
        true ->
            unlink(Port),
            ok
    catch
        error:badarg -> {error, einval}
    end.

-type result() ::
    {ok, kind() | [{fd(), kind()}]}
    | {error, error() | timeout | ecanceled | {error() | ecanceled, fd()}}.

%% @private
-spec wait(prim_inert(), inert_drv:target(), timeout()) -> result().
wait(_Port, {set, 0, _Set}, _Timeout) ->
    {error, einval};
wait(Port, {one, FD, Bits}, Timeout) ->
    %% A set of one, of one kind: as fast as a poll of the fd, which says the same.
    case wait(Port, {FD, Bits}, Timeout) of
        {ok, Kind} -> {ok, [{FD, Kind}]};
        {error, closed} -> {error, closed};
        {error, timeout} -> {error, timeout};
        {error, Reason} -> {error, {Reason, FD}}
    end;
wait(Port, Target, 0) ->
    inert_drv:check(Port, Target);
wait(Port, Target, Timeout) ->
    case process_info(self(), message_queue_len) of
        {message_queue_len, Length} when Length < ?SHORT_MAILBOX, ?IS_ONE_STEP(Timeout) ->
            poll_by_key(Port, Target, Timeout);
        _ ->
            poll_by_reference(Port, Target, Timeout)
    end.

%% The usual way: what is in the mailbox is few messages to look at.
-spec poll_by_key(prim_inert(), inert_drv:target(), timeout()) -> result().
poll_by_key(Port, Target, Timeout) ->
    Key = erlang:unique_integer([positive]) band 16#7fffffff,
    case inert_drv:poll(Port, Target, Key) of
        ok ->
            receive
                {inert_poll, Key, Result} -> ended(Result)
            after Timeout ->
                case inert_drv:cancel(Port, Target) of
                    ok ->
                        {error, timeout};
                    _GoneOrClosed ->
                        receive
                            {inert_poll, Key, Result} -> ended(Result)
                        after ?LAST_MESSAGE -> {error, closed}
                        end
                end
            end;
        Done ->
            Done
    end.

%% With a long mailbox. The compiler's receive marker: what was in the mailbox
%% before the reference was made is not looked at in the receive that matches on
%% it. The reference costs a microsecond on its way through the driver.
-spec poll_by_reference(prim_inert(), inert_drv:target(), timeout()) -> result().
poll_by_reference(Port, Target, Timeout) ->
    Reference = make_ref(),
    External = term_to_binary(Reference),
    case inert_drv:poll(Port, Target, External) of
        ok ->
            Deadline = deadline(Timeout),
            case receive_end(Reference, External, Deadline) of
                {ok, Result} -> ended(Result);
                timeout -> timed_out(Port, Target, External);
                renamed -> again(Port, Target, External, Deadline)
            end;
        {error, einval} ->
            %% The driver takes references of a few nodes only, and this one has
            %% had more names than that, or somebody sent it others.
            poll_without_reference(Port, Target, Timeout);
        Done ->
            Done
    end.

-spec poll_without_reference(prim_inert(), inert_drv:target(), timeout()) -> result().
poll_without_reference(Port, Target, Timeout) when ?IS_ONE_STEP(Timeout) ->
    poll_by_key(Port, Target, Timeout);
poll_without_reference(Port, Target, Timeout) ->
    case poll_by_key(Port, Target, ?ONE_STEP) of
        {error, timeout} -> poll_without_reference(Port, Target, Timeout - ?ONE_STEP);
        Done -> Done
    end.

%% Waits for the message in steps. A node that is renamed (net_kernel:start/2 on
%% a running system, say) makes the reference that the driver holds one of
%% another node, which the receive would never match. Nothing tells a process
%% of that, so it looks.
-spec receive_end(reference(), binary(), integer() | infinity) -> {ok, atom()} | timeout | renamed.
receive_end(Reference, External, Deadline) ->
    Step = min(left(Deadline), ?RENAME_CHECK),
    receive
        {Reference, Result} -> {ok, Result}
    after Step ->
        case {binary_to_term(External), left(Deadline)} of
            {Reference, 0} -> timeout;
            {Reference, _} -> receive_end(Reference, External, Deadline);
            {_Foreign, _} -> renamed
        end
    end.

%% The wait begins anew, unless it is over by now.
-spec again(prim_inert(), inert_drv:target(), binary(), integer() | infinity) -> result().
again(Port, Target, External, Deadline) ->
    case timed_out(Port, Target, External) of
        {error, timeout} -> wait(Port, Target, left(Deadline));
        Done -> Done
    end.

%% Nothing stays armed, and a message that was faster is the result.
-spec timed_out(prim_inert(), inert_drv:target(), binary()) -> result().
timed_out(Port, Target, External) ->
    case inert_drv:cancel(Port, Target) of
        ok ->
            {error, timeout};
        _GoneOrClosed ->
            %% As the driver would write it now: see receive_end/3.
            Reference = binary_to_term(External),
            receive
                {Reference, Result} -> ended(Result)
            after ?LAST_MESSAGE -> {error, closed}
            end
    end.

-spec ended(term()) -> result().
ended(read) -> {ok, read};
ended(write) -> {ok, write};
ended(priority) -> {ok, priority};
ended(hangup) -> {ok, hangup};
ended(Set) when is_list(Set) -> {ok, Set};
ended(Error) -> {error, Error}.

-spec deadline(timeout()) -> integer() | infinity.
deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

-spec left(integer() | infinity) -> timeout().
left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).
