%% SPDX-License-Identifier: Apache-2.0

%% @doc A counter or semaphore that OS threads, other programs and Erlang processes share: eventfd(2).
%%
%% ```
%% {ok, FD} = event:open(counter),
%% ok = event:post(FD, 3),
%% {ok, 3} = event:take(FD, 1000).
%% '''
%%
%% A thread of a NIF, or another program, cannot send an Erlang message when it likes; but it can write(2) eight
%% bytes, from anywhere, without a lock and without allocating. Thousands of posts while nobody
%% looks are one number, so nothing piles up. Another program gets the fd over a unix socket:
%% `unix:send(Socket, <<"event">>, [FD], 1000)' (unix.erl).
%%
%% A `counter' gives all that was posted since it was last taken. A `semaphore' gives 1 at a time, to
%% whoever comes first. As inert has one waiter for each number of a fd, each process that takes needs a number of
%% its own for it (`fdio:dup/1').
-module(event).

-export([open/1]).
-export([post/2]).
-export([take/2]).
-export([close/1]).

%% In milliseconds of erlang:monotonic_time/1.
-type deadline() :: integer() | infinity.

-type reason() :: fdio:posix() | inert:error() | timeout | ecanceled.

%% The kernel counts no further.
-define(MOST, 16#fffffffffffffffe).

%% @doc An event that counts from 0.
-spec open(counter | semaphore) -> {ok, fdio:fd()} | {error, fdio:posix()}.
open(Counting) ->
    ok = inert:start(),
    fdio:eventfd(Counting).

%% @doc Adds to the count; never waits.
%%
%% Errors: `eagain' (the count would exceed 2^64 - 2, which no one number may either), `ebadf'.
-spec post(fdio:fd(), Count :: pos_integer()) -> ok | {error, fdio:posix()}.
post(FD, Count) when is_integer(Count), Count >= 1, Count =< ?MOST ->
    case fdio:write(FD, <<Count:64/native>>) of
        {ok, 8} -> ok;
        {error, _Reason} = Error -> Error
    end.

%% @doc Takes what was posted, and waits for it, `Timeout' milliseconds at most.
%%
%% Errors: `timeout', `ebusy' (another process waits for this number), `closed' (inert was stopped), `ebadf'.
-spec take(fdio:fd(), timeout()) -> {ok, Count :: pos_integer()} | {error, reason()}.
take(FD, Timeout) ->
    take_until(FD, deadline(Timeout)).

%% @doc Closes this number for the event; it is gone when all its numbers are.
-spec close(fdio:fd()) -> ok.
close(FD) ->
    %% First cleared, then closed: the number may belong to another file at once.
    _ = inert:fdclr(FD),
    ok = fdio:close(FD).

%% Ready is not taken: another one may have been quicker, so this tries again.
-spec take_until(fdio:fd(), deadline()) -> {ok, pos_integer()} | {error, reason()}.
take_until(FD, Deadline) ->
    case fdio:read(FD, 8) of
        {ok, <<Count:64/native>>} ->
            {ok, Count};
        {error, eagain} ->
            case inert:poll(FD, read, time_left(Deadline)) of
                {ok, read} -> take_until(FD, Deadline);
                {error, _Reason} = Error -> Error
            end;
        {error, _Reason} = Error ->
            Error
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
