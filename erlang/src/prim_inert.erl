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

%% For inert.
-export([check_start/1]).

%% For the shell: see erl_error:format_exception/3.
-export([format_error/2]).

-export_type([prim_inert/0]).
-export_type([fd/0]).
-export_type([mode/0]).
-export_type([option/0]).
-export_type([options/0]).
-export_type([start_option/0]).
-export_type([error/0]).

-type prim_inert() :: port() | atom().
%% A port of the driver, or the name that it is registered under.
-type fd() :: integer().
%% A file descriptor. A number that is no open one gives `{error, ebadf}'.
-type mode() :: inert_drv:mode().
-type option() :: {mode, mode()} | {timeout, timeout()}.
-type options() :: [option()].
-type start_option() :: {pollset, epoll | erts}.
%% How the kernel is asked to watch: `epoll', an epoll instance of inert's own,
%% the default on Linux; `erts', ERTS's own pollset, the default elsewhere.
-type error() :: inert_drv:error().

%% How often a poll by reference looks whether the node has been renamed: see
%% wait/3. In milliseconds.
-define(RENAME_CHECK, 5_000).

%% What was armed and could not be cleared ends in a message, which is there or, if
%% the port is just closing, about to be sent. So a wait for it ends at once,
%% unless the driver broke down meanwhile. In milliseconds.
-define(LAST_MESSAGE, 5_000).

%% With so many messages in the mailbox a reference is cheaper than looking at them.
-define(SHORT_MAILBOX, 32).

-define(IS_MODE(M), (M =:= read orelse M =:= write orelse M =:= read_write)).
-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0))).

%% Longer ones a receive does not take.
-define(ONE_STEP, 16#ffffffff).
-define(IS_ONE_STEP(T), (T =:= infinity orelse T =< ?ONE_STEP)).

%% Raises badarg for the calling function. Causes: argument's position => what it
%% should be, for format_error/2.
-define(BADARG(Args, Causes),
    erlang:error(badarg, Args, [{error_info, #{module => prim_inert, cause => Causes}}])
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
    case check_start(Options) of
        ok -> {ok, inert_drv:open(Options)};
        error -> ?BADARG([Options], #{1 => start_options})
    end.

%% @private
-spec check_start(term()) -> ok | error.
check_start([]) -> ok;
check_start([{pollset, epoll} | Rest]) -> check_start(Rest);
check_start([{pollset, erts} | Rest]) -> check_start(Rest);
check_start(_) -> error.

%% @doc Closes a port, from any process. Whoever is blocked on it gets `{error,
%% closed}'. A port that is closed already is fine.
-spec stop(prim_inert()) -> ok.
stop(Port) ->
    try port_close(Port) of
        true -> ok
    catch
        error:badarg -> ok
    end.

%% @equiv fdset(Port, FD, read)
-spec fdset(prim_inert(), fd()) -> ok | {error, error()}.
fdset(Port, FD) when is_integer(FD) ->
    set(Port, FD, inert_drv:encode(read));
fdset(Port, FD) ->
    ?BADARG([Port, FD], #{2 => fd}).

%% @doc As `inert:fdset/2'. The messages carry the port.
-spec fdset(prim_inert(), fd(), mode() | options()) -> ok | {error, error()}.
fdset(Port, FD, Options) when is_integer(FD) ->
    case options(Options, read) of
        {ok, Bits, _Timeout} -> set(Port, FD, Bits);
        {error, _} = Error -> Error;
        badarg -> ?BADARG([Port, FD, Options], #{3 => timeout_option})
    end;
fdset(Port, FD, Options) ->
    ?BADARG([Port, FD, Options], #{2 => fd}).

%% @equiv fdclr(Port, FD, read_write)
-spec fdclr(prim_inert(), fd()) -> ok | {error, error()}.
fdclr(Port, FD) when is_integer(FD) ->
    clear(Port, FD, inert_drv:encode(read_write));
fdclr(Port, FD) ->
    ?BADARG([Port, FD], #{2 => fd}).

%% @doc As `inert:fdclr/2'.
-spec fdclr(prim_inert(), fd(), mode() | options()) -> ok | {error, error()}.
fdclr(Port, FD, Options) when is_integer(FD) ->
    case options(Options, read_write) of
        {ok, Bits, _Timeout} -> clear(Port, FD, Bits);
        {error, _} = Error -> Error;
        badarg -> ?BADARG([Port, FD, Options], #{3 => timeout_option})
    end;
fdclr(Port, FD, Options) ->
    ?BADARG([Port, FD, Options], #{2 => fd}).

%% @equiv poll(Port, FD, read, infinity)
-spec poll(prim_inert(), fd()) -> {ok, read} | {error, error() | ecanceled}.
poll(Port, FD) when is_integer(FD) ->
    wait_ready(Port, FD, inert_drv:encode(read), infinity);
poll(Port, FD) ->
    ?BADARG([Port, FD], #{2 => fd}).

%% @doc As `inert:poll/2'.
-spec poll(prim_inert(), fd(), mode() | options()) ->
    {ok, read | write} | {error, error() | timeout | ecanceled}.
poll(Port, FD, Options) when is_integer(FD) ->
    case options(Options, read) of
        {ok, Bits, Timeout} -> wait_ready(Port, FD, Bits, Timeout);
        {error, _} = Error -> Error;
        badarg -> ?BADARG([Port, FD, Options], #{3 => timeout_option})
    end;
poll(Port, FD, Options) ->
    ?BADARG([Port, FD, Options], #{2 => fd}).

%% @doc As `inert:poll/3'.
-spec poll(prim_inert(), fd(), mode() | options(), timeout()) ->
    {ok, read | write} | {error, error() | timeout | ecanceled}.
poll(Port, FD, Options, Timeout) when is_integer(FD), ?IS_TIMEOUT(Timeout) ->
    case options(Options, read) of
        {ok, Bits, _Timeout} -> wait_ready(Port, FD, Bits, Timeout);
        {error, _} = Error -> Error;
        badarg -> ?BADARG([Port, FD, Options, Timeout], #{3 => timeout_option})
    end;
poll(Port, FD, Options, Timeout) when is_integer(FD) ->
    ?BADARG([Port, FD, Options, Timeout], #{4 => timeout});
poll(Port, FD, Options, Timeout) ->
    ?BADARG([Port, FD, Options, Timeout], #{2 => fd}).

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

%% The driver takes fds of 32 bits; larger numbers are no open fd either.
-define(IS_INT32(N), (N >= -16#80000000 andalso N =< 16#7fffffff)).

-spec set(prim_inert(), fd(), inert_drv:bits()) -> ok | {error, error()}.
set(Port, FD, Bits) when ?IS_INT32(FD) -> inert_drv:fdset(Port, FD, Bits);
set(_Port, _FD, _Bits) -> {error, ebadf}.

-spec clear(prim_inert(), fd(), inert_drv:bits()) -> ok | {error, error()}.
clear(Port, FD, Bits) when ?IS_INT32(FD) -> inert_drv:fdclr(Port, FD, Bits);
clear(_Port, _FD, _Bits) -> {error, ebadf}.

-spec wait_ready(prim_inert(), fd(), inert_drv:bits(), timeout()) ->
    {ok, inert_drv:kind()} | {error, error() | timeout | ecanceled}.
wait_ready(_Port, FD, _Bits, _Timeout) when not ?IS_INT32(FD) ->
    {error, ebadf};
wait_ready(Port, FD, Bits, 0) ->
    inert_drv:check(Port, FD, Bits);
wait_ready(Port, FD, Bits, Timeout) ->
    case process_info(self(), message_queue_len) of
        {message_queue_len, Length} when Length < ?SHORT_MAILBOX, ?IS_ONE_STEP(Timeout) ->
            poll_by_key(Port, FD, Bits, Timeout);
        _ ->
            poll_by_reference(Port, FD, Bits, Timeout)
    end.

%% The usual way: what is in the mailbox is few messages to look at.
-spec poll_by_key(prim_inert(), fd(), inert_drv:bits(), timeout()) ->
    {ok, inert_drv:kind()} | {error, error() | timeout | ecanceled}.
poll_by_key(Port, FD, Bits, Timeout) ->
    Key = erlang:unique_integer([positive]) band 16#7fffffff,
    case inert_drv:poll(Port, FD, Bits, <<Key:32>>) of
        ok ->
            receive
                {inert_poll, Key, Result} -> ended(Result)
            after Timeout ->
                case inert_drv:cancel(Port, FD, Bits) of
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
-spec poll_by_reference(prim_inert(), fd(), inert_drv:bits(), timeout()) ->
    {ok, inert_drv:kind()} | {error, error() | timeout | ecanceled}.
poll_by_reference(Port, FD, Bits, Timeout) ->
    Reference = make_ref(),
    External = term_to_binary(Reference),
    case inert_drv:poll(Port, FD, Bits, External) of
        ok ->
            Deadline = deadline(Timeout),
            case wait(Reference, External, Deadline) of
                {ok, Result} -> ended(Result);
                timeout -> timed_out(Port, FD, Bits, External);
                renamed -> again(Port, FD, Bits, External, Deadline)
            end;
        {error, einval} ->
            %% The driver takes references of a few nodes only, and this one has
            %% had more names than that, or somebody sent it others.
            poll_without_reference(Port, FD, Bits, Timeout);
        Done ->
            Done
    end.

-spec poll_without_reference(prim_inert(), fd(), inert_drv:bits(), timeout()) ->
    {ok, inert_drv:kind()} | {error, error() | timeout | ecanceled}.
poll_without_reference(Port, FD, Bits, Timeout) when ?IS_ONE_STEP(Timeout) ->
    poll_by_key(Port, FD, Bits, Timeout);
poll_without_reference(Port, FD, Bits, Timeout) ->
    case poll_by_key(Port, FD, Bits, ?ONE_STEP) of
        {error, timeout} -> poll_without_reference(Port, FD, Bits, Timeout - ?ONE_STEP);
        Done -> Done
    end.

%% Waits for the message in steps. A node that is renamed (net_kernel:start/2 on
%% a running system, say) makes the reference that the driver holds one of
%% another node, which the receive would never match. Nothing tells a process
%% of that, so it looks.
-spec wait(reference(), binary(), integer() | infinity) -> {ok, atom()} | timeout | renamed.
wait(Reference, External, Deadline) ->
    Step = min(left(Deadline), ?RENAME_CHECK),
    receive
        {Reference, Result} -> {ok, Result}
    after Step ->
        case {binary_to_term(External), left(Deadline)} of
            {Reference, 0} -> timeout;
            {Reference, _} -> wait(Reference, External, Deadline);
            {_Foreign, _} -> renamed
        end
    end.

%% The wait begins anew, unless it is over by now.
-spec again(prim_inert(), fd(), inert_drv:bits(), binary(), integer() | infinity) ->
    {ok, inert_drv:kind()} | {error, error() | timeout | ecanceled}.
again(Port, FD, Bits, External, Deadline) ->
    case timed_out(Port, FD, Bits, External) of
        {error, timeout} -> wait_ready(Port, FD, Bits, left(Deadline));
        Done -> Done
    end.

%% Nothing stays armed, and a message that was faster is the result.
-spec timed_out(prim_inert(), fd(), inert_drv:bits(), binary()) ->
    {ok, inert_drv:kind()} | {error, error() | timeout | ecanceled}.
timed_out(Port, FD, Bits, External) ->
    case inert_drv:cancel(Port, FD, Bits) of
        ok ->
            {error, timeout};
        _GoneOrClosed ->
            %% As the driver would write it now: see wait/3.
            Reference = binary_to_term(External),
            receive
                {Reference, Result} -> ended(Result)
            after ?LAST_MESSAGE -> {error, closed}
            end
    end.

-spec ended(atom()) -> {ok, inert_drv:kind()} | {error, error() | ecanceled}.
ended(read) -> {ok, read};
ended(write) -> {ok, write};
ended(Error) -> {error, Error}.

-spec deadline(timeout()) -> integer() | infinity.
deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

-spec left(integer() | infinity) -> timeout().
left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

%% The first of several values for an option counts, as in proplists.
-spec options(term(), mode()) -> {ok, inert_drv:bits(), timeout()} | {error, einval} | badarg.
options(Mode, _Default) when ?IS_MODE(Mode) -> {ok, inert_drv:encode(Mode), infinity};
options(Options, Default) when is_list(Options) -> options(Options, Default, #{});
options(_, _Default) -> {error, einval}.

-spec options(term(), mode(), #{mode => mode(), timeout => timeout()}) ->
    {ok, inert_drv:bits(), timeout()} | {error, einval} | badarg.
options([{mode, Mode} | Rest], Default, Found) when ?IS_MODE(Mode) ->
    options(Rest, Default, maps:merge(#{mode => Mode}, Found));
options([{timeout, Timeout} | Rest], Default, Found) when ?IS_TIMEOUT(Timeout) ->
    options(Rest, Default, maps:merge(#{timeout => Timeout}, Found));
options([{timeout, _} | _], _Default, _Found) ->
    badarg;
options([], Default, Found) ->
    {ok, inert_drv:encode(maps:get(mode, Found, Default)), maps:get(timeout, Found, infinity)};
options(_, _Default, _Found) ->
    {error, einval}.

%% @private
-spec format_error(term(), erlang:stacktrace()) -> #{pos_integer() => unicode:chardata()}.
format_error(_Reason, [{_Module, _Function, _Args, Info} | _]) ->
    #{cause := Causes} = proplists:get_value(error_info, Info, #{cause => #{}}),
    maps:map(fun(_Position, Cause) -> describe(Cause) end, Causes).

-spec describe(atom()) -> unicode:chardata().
describe(fd) -> <<"not a file descriptor, which is an integer">>;
describe(timeout) -> <<"not a timeout, which is infinity or a number of milliseconds from 0">>;
describe(timeout_option) -> <<"the option timeout is not infinity or a number of milliseconds from 0">>;
describe(start_options) -> <<"not a list of start options: {pollset, epoll | erts}">>.
