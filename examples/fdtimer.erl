%% SPDX-License-Identifier: Apache-2.0

%% @doc A periodic timer that does not drift and counts what was missed: timerfd(2).
%%
%% ```
%% %% Ten samples, one a millisecond; {10, 0} unless one of them took too long.
%% fdtimer:fold(1_000_000, fun
%%     (_Missed, {10, All}) -> {stop, {10, All}};
%%     (Missed, {N, All}) -> {ok, {N + 1, All + Missed}}
%% end, {0, 0}).
%% '''
%%
%% `timer:send_interval/2' sends a message for every period, however long the receiver has not looked: a process
%% that falls behind gets further behind. Here the kernel counts. A process that was
%% busy for five periods is told once, that five have passed: one on time, four missed. And the periods are
%% nanoseconds, on the kernel's grid from the first one on, whatever each round of the loop takes.
%%
%% (The name is not `timer', which is OTP's.)
-module(fdtimer).

-export([open/1]).
-export([next/2]).
-export([close/1]).
-export([fold/3]).

-type reason() :: fdio:posix() | inert:error() | timeout | ecanceled.

%% @doc A timer that expires every `Period' nanoseconds from now on. Shorter than what the machine can
%% do (some microseconds, and the VM's own turns) is allowed, and shows as missed.
-spec open(Period :: pos_integer()) -> {ok, fdio:fd()} | {error, fdio:posix()}.
open(Period) when is_integer(Period), Period > 0 ->
    ok = inert:start(),
    case fdio:timerfd_create(monotonic) of
        {ok, FD} ->
            ok = fdio:timerfd_settime(FD, Period, Period),
            {ok, FD};
        {error, _Reason} = Error ->
            Error
    end.

%% @doc Waits for the end of a period, `Timeout' milliseconds at most, and tells how many have ended
%% since it was last told: 1 is on time, every further one was missed.
%%
%% Errors: `timeout', `ebusy' (another process waits for this timer), `closed' (inert was stopped).
-spec next(fdio:fd(), timeout()) -> {ok, Periods :: pos_integer()} | {error, reason()}.
next(FD, Timeout) ->
    case fdio:read(FD, 8) of
        {ok, <<Periods:64/native>>} ->
            {ok, Periods};
        {error, eagain} ->
            case inert:poll(FD, read, Timeout) of
                %% Nobody else reads it: it is there, unless the clock is changed.
                {ok, read} -> next(FD, Timeout);
                {error, _Reason} = Error -> Error
            end;
        {error, _Reason} = Error ->
            Error
    end.

%% @doc Closes a timer.
-spec close(fdio:fd()) -> ok.
close(FD) ->
    %% First cleared, then closed: the number may belong to another file at once.
    _ = inert:fdclr(FD),
    ok = fdio:close(FD).

%% @doc Calls the function at the end of every period with the number of periods that were missed before
%% it, until it says stop. The timer is closed however that ends, unless the process is killed.
-spec fold(Period :: pos_integer(), fun((Missed :: non_neg_integer(), Acc) -> {ok | stop, Acc}), Acc) ->
    {ok, Acc} | {error, reason()}.
fold(Period, Fun, Acc) ->
    case open(Period) of
        {ok, FD} ->
            try
                fold_on(FD, Fun, Acc)
            after
                close(FD)
            end;
        {error, _Reason} = Error ->
            Error
    end.

-spec fold_on(fdio:fd(), fun((non_neg_integer(), Acc) -> {ok | stop, Acc}), Acc) ->
    {ok, Acc} | {error, reason()}.
fold_on(FD, Fun, Acc) ->
    case next(FD, infinity) of
        {ok, Periods} ->
            case Fun(Periods - 1, Acc) of
                {ok, Acc1} -> fold_on(FD, Fun, Acc1);
                {stop, Acc1} -> {ok, Acc1}
            end;
        {error, _Reason} = Error ->
            Error
    end.
