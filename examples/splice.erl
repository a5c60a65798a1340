%% SPDX-License-Identifier: Apache-2.0

%% @doc Moves bytes between two fds, both ways at once, in one process: the middle of a proxy.
%%
%% ```
%% {ok, #{A := FromA, B := FromB}} = splice:run(A, B, #{idle => 60000}).
%% '''
%%
%% Each way has one buffer, and reads nothing while it is not empty. So a side that takes no more keeps the
%% other one from sending, in the end by that one's own socket buffer, and memory stays at two buffers whatever the
%% sides do. The two ways wait for each other in nothing: one may stand still while the other one runs.
%%
%% When one side ends its data, what is left of it is written, and then the other side's writing end is shut
%% down: it sees the end, too, and may go on sending. (What is no socket has no half to shut down; its
%% user sees the end when you close it.) Both ways at their ends is the end. An error of either side ends both.
%%
%% The process waits by messages of inert, for up to two kinds on each fd, and touches no other message. The
%% fds have to be non-blocking, and nobody else may wait for them meanwhile. They stay the caller's, to be closed
%% afterwards however it ended.
-module(splice).

-export([run/2]).
-export([run/3]).

-export_type([options/0]).
-export_type([moved/0]).

-type options() :: #{idle => timeout(), buffer => 1..1048576}.
%% `idle': after how many milliseconds in which neither side is ready to end with `timeout';
%% default `infinity'. `buffer': what one way holds at most, in bytes; default 65536.

-type moved() :: #{fdio:fd() => non_neg_integer()}.
%% The bytes that came from each fd and were written to the other.

-type failure() ::
    {read | write | shutdown | wait, fdio:fd(), fdio:posix() | inert:error()} | timeout | closed.
%% What failed, on which fd, and why; or `timeout', or `closed' (inert was stopped).

-record(way, {
    from :: fdio:fd(),
    to :: fdio:fd(),
    buffer = <<>> :: binary(),
    moved = 0 :: non_neg_integer(),
    wait = read :: read | write | ended
}).

%% Buffers that one way moves before the other one has its turn.
-define(ROUNDS, 16).

%% @doc As `run(A, B, #{})'.
-spec run(fdio:fd(), fdio:fd()) -> {ok, moved()} | {error, failure(), moved()}.
run(A, B) ->
    run(A, B, #{}).

%% @doc Returns when both sides have ended their data and all of it is written, or with the first
%% error. Then nothing is armed, and no message of inert is left.
%%
%% Errors: `{write, B, epipe}' (that side reads no more), `{read, A, econnreset}', `{wait, A, ebusy}'
%% (another process waits for it), `{read, A, einval}' (in blocking mode), ...
-spec run(fdio:fd(), fdio:fd(), options()) -> {ok, moved()} | {error, failure(), moved()}.
run(A, B, Options) when is_integer(A), is_integer(B), A =/= B, is_map(Options) ->
    Defaults = #{idle => infinity, buffer => 65536},
    #{idle := Idle, buffer := Buffer} = All = maps:merge(Defaults, Options),
    map_size(All) =:= 2 orelse error(badarg, [A, B, Options]),
    ok = inert:start(),
    Port = inert:pollid(),
    Monitor = erlang:monitor(port, Port),
    There = #way{from = A, to = B},
    Back = #way{from = B, to = A},
    Result =
        case take(A, B) of
            ok ->
                Ended = loop({Port, Monitor, Idle, Buffer}, There, Back),
                _ = inert:fdclr(A),
                _ = inert:fdclr(B),
                Ended;
            {error, Failure} ->
                {error, Failure, moved(There, Back)}
        end,
    erlang:demonitor(Monitor, [flush]),
    forget(Port, A, B),
    Result.

%% Whoever waits for one of the fds was there first, and goes on waiting: what is cleared at the end is
%% what was armed here.
-spec take(fdio:fd(), fdio:fd()) -> ok | {error, failure()}.
take(A, B) ->
    case arm(A, true, true) of
        ok ->
            case arm(B, true, true) of
                ok ->
                    ok;
                {error, Reason} ->
                    _ = inert:fdclr(A),
                    {error, {wait, B, Reason}}
            end;
        {error, Reason} ->
            {error, {wait, A, Reason}}
    end.

-type fixed() :: {port(), reference(), timeout(), pos_integer()}.

-spec loop(fixed(), #way{}, #way{}) -> {ok, moved()} | {error, failure(), moved()}.
loop({Port, Monitor, Idle, Buffer} = Fixed, There0, Back0) ->
    maybe_error(move(There0, Buffer, ?ROUNDS), Back0, fun(There) ->
        maybe_error(move(Back0, Buffer, ?ROUNDS), There, fun(Back) ->
            case {There#way.wait, Back#way.wait} of
                {ended, ended} ->
                    {ok, moved(There, Back)};
                _ ->
                    case wait(Port, Monitor, Idle, There, Back) of
                        ok -> loop(Fixed, There, Back);
                        {error, Failure} -> {error, Failure, moved(There, Back)}
                    end
            end
        end)
    end).

-spec maybe_error(Result, #way{}, fun((#way{}) -> Done)) -> Done | {error, failure(), moved()} when
    Result :: {ok, #way{}} | {error, failure(), #way{}}.
maybe_error({ok, Way}, _Other, Next) -> Next(Way);
maybe_error({error, Failure, Way}, Other, _Next) -> {error, Failure, moved(Way, Other)}.

-spec moved(#way{}, #way{}) -> moved().
moved(#way{from = A, moved = FromA}, #way{from = B, moved = FromB}) ->
    #{A => FromA, B => FromB}.

%%% One way

%% Moves what can be moved now, and says what to wait for: the end of its turn is as if more were to read, as
%% inert says at once whether there is.
-spec move(#way{}, pos_integer(), non_neg_integer()) -> {ok, #way{}} | {error, failure(), #way{}}.
move(#way{wait = ended} = Way, _Buffer, _Rounds) ->
    {ok, Way};
move(#way{buffer = <<>>} = Way, _Buffer, 0) ->
    {ok, Way#way{wait = read}};
move(#way{from = From, buffer = <<>>} = Way, Buffer, Rounds) ->
    case fdio:read(From, Buffer) of
        {ok, <<>>} -> pass_end_on(Way);
        {ok, Data} -> move(Way#way{buffer = Data}, Buffer, Rounds);
        {error, eagain} -> {ok, Way#way{wait = read}};
        {error, Reason} -> {error, {read, From, Reason}, Way}
    end;
move(#way{to = To, buffer = Data, moved = Moved} = Way, Buffer, Rounds) ->
    case fdio:write(To, Data) of
        {ok, Written} ->
            <<_:Written/binary, Rest/binary>> = Data,
            move(Way#way{buffer = Rest, moved = Moved + Written}, Buffer, max(0, Rounds - 1));
        {error, eagain} ->
            {ok, Way#way{wait = write}};
        {error, Reason} ->
            {error, {write, To, Reason}, Way}
    end.

-spec pass_end_on(#way{}) -> {ok, #way{}} | {error, failure(), #way{}}.
pass_end_on(#way{to = To} = Way) ->
    case fdio:shutdown(To, write) of
        ok -> {ok, Way#way{wait = ended}};
        {error, enotsock} -> {ok, Way#way{wait = ended}};
        %% The other side is gone: there is nobody to tell.
        {error, enotconn} -> {ok, Way#way{wait = ended}};
        {error, Reason} -> {error, {shutdown, To, Reason}, Way}
    end.

%%% Both ways

-spec wait(port(), reference(), timeout(), #way{}, #way{}) -> ok | {error, failure()}.
wait(Port, Monitor, Idle, #way{from = A, wait = There}, #way{from = B, wait = Back}) ->
    %% A is read on the way there and written on the way back.
    case arm(A, There =:= read, Back =:= write) of
        ok ->
            case arm(B, Back =:= read, There =:= write) of
                ok -> await(Port, Monitor, Idle, A, B);
                {error, Reason} -> {error, {wait, B, Reason}}
            end;
        {error, Reason} ->
            {error, {wait, A, Reason}}
    end.

%% Replaces what was armed before.
-spec arm(fdio:fd(), boolean(), boolean()) -> ok | {error, inert:error()}.
arm(FD, true, true) -> inert:fdset(FD, read_write);
arm(FD, true, false) -> inert:fdset(FD, read);
arm(FD, false, true) -> inert:fdset(FD, write);
arm(FD, false, false) -> inert:fdclr(FD).

-spec await(port(), reference(), timeout(), fdio:fd(), fdio:fd()) -> ok | {error, failure()}.
await(Port, Monitor, Idle, A, B) ->
    receive
        {Ready, Port, FD} when
            (Ready =:= inert_read orelse Ready =:= inert_write) andalso (FD =:= A orelse FD =:= B)
        ->
            %% Both ways are tried next, whatever it was; so what else has come meanwhile says nothing
            %% new, and must not pile up.
            forget(Port, A, B);
        {'DOWN', Monitor, port, Port, _Reason} ->
            {error, closed}
    after Idle ->
        {error, timeout}
    end.

-spec forget(port(), fdio:fd(), fdio:fd()) -> ok.
forget(Port, A, B) ->
    receive
        {inert_read, Port, FD} when FD =:= A; FD =:= B -> forget(Port, A, B);
        {inert_write, Port, FD} when FD =:= A; FD =:= B -> forget(Port, A, B)
    after 0 -> ok
    end.
