%% SPDX-License-Identifier: Apache-2.0

%% @doc Waits for another program's end, and stops it, by a fd that means the process: pidfd_open(2).
%%
%% ```
%% ok = pidfd:wait(OsPid, 5000),           % any program's, not only one of open_port/2
%% {ok, term} = pidfd:stop(OsPid, 5000).   % SIGTERM, 5 seconds, SIGKILL
%% '''
%%
%% A process number means whoever has it now: between asking `kill -0' and sending a signal the program may have ended
%% and the number may be another's. A pidfd means one process for ever. It becomes readable when
%% that process has ended, and a signal to it then reaches nobody, never a stranger. (Whoever opens one needs
%% to know that the number is still right at that moment. For a program of your own that is so until its port has told
%% the exit status, or its parent has waited for it.)
%%
%% How it ended only its parent learns: for programs of open_port/2 that is the option `exit_status'.
%%
%% Why not signalfd(2): that reads signals sent to this VM, and works only where every thread blocks them. ERTS
%% has threads that nobody outside may change, and handles the signals itself; `os:set_signal/2' and
%% `erl_signal_server' are the way to have them in Erlang.
-module(pidfd).

-export([open/1]).
-export([await/2]).
-export([close/1]).
-export([wait/2]).
-export([stop/2]).

-type reason() :: fdio:posix() | inert:error() | timeout | ecanceled.

%% @doc A fd for a process of the system.
%%
%% Errors: `esrch' (there is none), `einval' (no process number), `enosys' (before Linux 5.3), `emfile'.
-spec open(OsPid :: integer()) -> {ok, fdio:fd()} | {error, fdio:posix()}.
open(OsPid) ->
    ok = inert:start(),
    fdio:pidfd_open(OsPid).

%% @doc Waits until the process has ended, `Timeout' milliseconds at most. It stays so: asking
%% again is answered at once.
%%
%% Errors: `timeout', `ebusy' (another process waits for this fd), `closed' (inert was stopped), `ebadf'.
-spec await(fdio:fd(), timeout()) -> ok | {error, reason()}.
await(FD, Timeout) ->
    case inert:poll(FD, read, Timeout) of
        {ok, read} -> ok;
        {error, _Reason} = Error -> Error
    end.

%% @doc Closes the fd, which does nothing to the process.
-spec close(fdio:fd()) -> ok.
close(FD) ->
    %% First cleared, then closed: the number may belong to another file at once.
    _ = inert:fdclr(FD),
    ok = fdio:close(FD).

%% @doc Waits until a process has ended; one that is not there has.
-spec wait(OsPid :: integer(), timeout()) -> ok | {error, reason()}.
wait(OsPid, Timeout) ->
    case with(OsPid, fun(FD) -> await(FD, Timeout) end) of
        {error, esrch} -> ok;
        Waited -> Waited
    end.

%% @doc Ends a process: asks it to (SIGTERM), and if it has not within `Grace' milliseconds, makes it
%% (SIGKILL). Returns when it has ended, with the signal that was needed, or `none' if there was no such process.
%%
%% Errors: `eperm' (somebody else's), `einval', ...
-spec stop(OsPid :: integer(), Grace :: timeout()) -> {ok, term | kill | none} | {error, reason()}.
stop(OsPid, Grace) ->
    case with(OsPid, fun(FD) -> end_with(FD, [{term, Grace}, {kill, infinity}]) end) of
        {error, esrch} -> {ok, none};
        Stopped -> Stopped
    end.

-spec end_with(fdio:fd(), [{fdio:signal(), timeout()}]) -> {ok, term | kill} | {error, reason()}.
end_with(FD, [{Signal, Timeout} | More]) ->
    case fdio:pidfd_send_signal(FD, Signal) of
        ok ->
            case await(FD, Timeout) of
                ok -> {ok, Signal};
                {error, timeout} when More =/= [] -> end_with(FD, More);
                {error, _Reason} = Error -> Error
            end;
        %% It has ended at last, of the signal before.
        {error, esrch} when Signal =:= kill ->
            {ok, term};
        {error, _Reason} = Error ->
            Error
    end.

-spec with(integer(), fun((fdio:fd()) -> Result)) -> Result | {error, reason()}.
with(OsPid, Fun) ->
    case open(OsPid) of
        {ok, FD} ->
            try
                Fun(FD)
            after
                close(FD)
            end;
        {error, _Reason} = Error ->
            Error
    end.
