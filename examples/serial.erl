%% SPDX-License-Identifier: Apache-2.0

%% @doc A serial line: raw bytes or lines of text, to and from a tty.
%%
%% ```
%% 1> {ok, Line} = serial:open("/dev/ttyUSB0", #{speed => 115200}).
%% {ok,<0.95.0>}
%% 2> serial:write(Line, <<"AT\r\n">>).
%% ok
%% 3> serial:read_line(Line, 1000).
%% {ok,<<"OK">>}
%% 4> serial:close(Line).
%% ok
%% '''
%%
%% A line is a process that owns the fd and ends with the process that opened it. It waits for both
%% directions at once, by message (`inert:fdset/2'), and answers its callers when there is something to
%% say: `gen_server:reply/2'. It reads ahead, 64 KiB and no more; then whoever sends is stopped by flow
%% control, where the line has it.
%%
%% Unplugging (of a USB adapter, or closing the other side of a pseudo-terminal) closes the fd at
%% once, so that the device's name is free for when it is plugged in again. What had been read before
%% can still be had; every call after that answers `{error, closed}'.
%%
%% Written for one kind of user, it has no break signals, no modem control lines and no timing of
%% bytes; the package srly has more.
-module(serial).

-behaviour(gen_server).

-export([open/1]).
-export([open/2]).
-export([write/2]).
-export([write/3]).
-export([read/2]).
-export([read_line/2]).
-export([close/1]).

-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

-export_type([line/0]).
-export_type([reason/0]).

-type line() :: pid().

-type reason() :: closed | timeout | ebusy | emsgsize.
%% `closed': unplugged, or `close/1' was called. `ebusy': another process reads.
%% `emsgsize': 64 KiB, and no end of the line; `read/2' gets what is there.

%% A process that is to be told something. It takes its call back by ending.
-record(caller, {
    from :: gen_server:from(),
    monitor :: reference(),
    timer :: reference() | none
}).

-record(state, {
    fd :: fdio:fd() | closed,
    owner :: reference(),
    %% What has been read and nobody has asked for.
    in = <<>> :: binary(),
    %% One at most.
    readers = [] :: [{#caller{}, line | bytes}],
    %% In order, with what is still to be written.
    writers = [] :: [{#caller{}, binary()}]
}).

%% What a line holds in memory of what it reads, and so the longest line.
-define(BUFFER, 65536).

%% What most devices speak if they do not say otherwise.
-define(DEFAULTS, #{speed => 9600, data_bits => 8, parity => none, stop_bits => 1, flow => none}).

-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0 andalso T =< 16#ffffffff))).

%%% API

%% @doc As `open(Path, #{})': 9600 bits a second, 8 data bits, no parity, 1 stop bit.
-spec open(file:name()) -> {ok, line()} | {error, term()}.
open(Path) ->
    open(Path, #{}).

%% @doc Opens a tty for the caller. No other program can open it meanwhile, unless it runs as root.
%%
%% Errors are named by the call that failed: `{open, enoent}', `{open, eacces}' (often solved by joining the
%% group `dialout'), `{open, ebusy}' (another program has it), `{tcsetattr, enotty}' (no tty);
%% `{unsupported, [parity]}' names the settings that the device does not have.
%% Other settings and values raise `badarg'.
-spec open(file:name(), fdio:line()) -> {ok, line()} | {error, term()}.
open(Path, Settings) ->
    case gen_server:start(?MODULE, {self(), Path, maps:merge(?DEFAULTS, Settings)}, []) of
        {ok, Line} -> {ok, Line};
        {error, {shutdown, badarg}} -> error(badarg, [Path, Settings]);
        {error, {shutdown, Reason}} -> {error, Reason}
    end.

%% @doc As `write(Line, Data, infinity)'.
-spec write(line(), iodata()) -> ok | {error, reason()}.
write(Line, Data) ->
    write(Line, Data, infinity).

%% @doc Writes, after what others have asked for before. `ok' means that the kernel has all of it. After
%% `{error, timeout}', in milliseconds, any part of it may have been sent: the other side held the line.
-spec write(line(), iodata(), timeout()) -> ok | {error, reason()}.
write(Line, Data, Timeout) when ?IS_TIMEOUT(Timeout) ->
    call(Line, {write, iolist_to_binary(Data), Timeout}).

%% @doc What has come, at least a byte.
-spec read(line(), timeout()) -> {ok, binary()} | {error, reason()}.
read(Line, Timeout) when ?IS_TIMEOUT(Timeout) ->
    call(Line, {read, bytes, Timeout}).

%% @doc The next line of text, without its LF or CR LF. A part of a line stays for the next
%% call when this one times out.
-spec read_line(line(), timeout()) -> {ok, binary()} | {error, reason()}.
read_line(Line, Timeout) when ?IS_TIMEOUT(Timeout) ->
    call(Line, {read, line, Timeout}).

%% @doc Closes the line. What the kernel has of what was written is still sent; if the other
%% side holds the line, the kernel gives up after a time (setserial(8), `closing_wait': 30 seconds).
-spec close(line()) -> ok.
close(Line) ->
    try
        gen_server:stop(Line)
    catch
        exit:noproc -> ok
    end.

%% The server has the timers: a caller that gave up by itself would leave its request there.
-spec call(line(), term()) -> term().
call(Line, Request) ->
    try
        gen_server:call(Line, Request, infinity)
    catch
        exit:{Reason, {gen_server, call, _}} when Reason =:= noproc; Reason =:= normal ->
            {error, closed}
    end.

%%% The server

%% @private
-spec init({pid(), file:name(), fdio:line()}) -> {ok, #state{}} | {stop, {shutdown, term()}}.
init({Owner, Path, Settings}) ->
    ok = inert:start(),
    %% Nothing else would tell the line that what it waits for will not come.
    _ = erlang:monitor(port, inert:pollid()),
    try open_tty(Path, Settings) of
        {ok, FD} -> {ok, arm(#state{fd = FD, owner = erlang:monitor(process, Owner)})};
        %% shutdown: nothing has crashed, so nothing is to be logged.
        {error, Reason} -> {stop, {shutdown, Reason}}
    catch
        error:badarg -> {stop, {shutdown, badarg}}
    end.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, term(), #state{}}.
handle_call({read, What, Timeout}, From, #state{readers = []} = State) ->
    {noreply, go_on(State#state{readers = [{caller(From, Timeout), What}]})};
handle_call({read, _What, _Timeout}, _From, State) ->
    {reply, {error, ebusy}, State};
handle_call({write, Data, Timeout}, From, #state{writers = Writers} = State) ->
    {noreply, go_on(State#state{writers = Writers ++ [{caller(From, Timeout), Data}]})}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info({inert_read, _PollId, FD}, #state{fd = FD} = State) ->
    {noreply, go_on(fill(State))};
handle_info({inert_write, _PollId, FD}, #state{fd = FD} = State) ->
    {noreply, go_on(State)};
handle_info({timeout, Timer, caller}, State) ->
    {Callers, Rest} = take(Timer, State),
    ok = answer(Callers, {error, timeout}),
    {noreply, go_on(Rest)};
handle_info({'DOWN', Owner, process, _Pid, _Reason}, #state{owner = Owner} = State) ->
    {stop, normal, State};
handle_info({'DOWN', Monitor, process, _Pid, _Reason}, State) ->
    {_Gone, Rest} = take(Monitor, State),
    {noreply, go_on(Rest)};
handle_info({'DOWN', _Monitor, port, _PollId, _Reason}, State) ->
    {noreply, go_on(hang_up(State))};
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> term().
terminate(_Reason, State) ->
    hang_up(State).

%% fdio opens with O_NOCTTY and O_NONBLOCK: the line does not become the VM's terminal, and opening
%% does not wait for a modem's carrier.
-spec open_tty(file:name(), fdio:line()) -> {ok, fdio:fd()} | {error, term()}.
open_tty(Path, Settings) ->
    case fdio:open(Path, [read, write]) of
        {ok, FD} ->
            try set_up(FD, Settings) of
                ok ->
                    {ok, FD};
                {error, _Reason} = Error ->
                    ok = fdio:close(FD),
                    Error
            catch
                error:badarg ->
                    ok = fdio:close(FD),
                    error(badarg)
            end;
        {error, Reason} ->
            {error, {open, Reason}}
    end.

%% What a device cannot do it leaves out without an error, so look. A speed that it can only come near
%% to, by 2 %, counts as the one asked for: the kernel sees to that.
-spec set_up(fdio:fd(), fdio:line()) -> ok | {error, term()}.
set_up(FD, Settings) ->
    case {fdio:tcsetattr(FD, Settings), fdio:tiocexcl(FD), fdio:tcgetattr(FD)} of
        {ok, ok, {ok, Line}} ->
            case [Key || {Key, Value} <- maps:to_list(Settings), maps:get(Key, Line) =/= Value] of
                [] -> ok;
                Keys -> {error, {unsupported, lists:sort(Keys)}}
            end;
        {{error, Reason}, _, _} ->
            {error, {tcsetattr, Reason}};
        {ok, {error, Reason}, _} ->
            {error, {tiocexcl, Reason}};
        {ok, ok, {error, Reason}} ->
            {error, {tcgetattr, Reason}}
    end.

%%% What happens after every message

-spec go_on(#state{}) -> #state{}.
go_on(State) ->
    arm(flush(serve(State))).

%% Gives the reader what it waits for, if it is there.
-spec serve(#state{}) -> #state{}.
serve(#state{readers = [{Caller, What}], in = In, fd = FD} = State) ->
    case next(What, In) of
        {ok, Item, Rest} ->
            ok = answer([Caller], {ok, Item}),
            State#state{readers = [], in = Rest};
        none when byte_size(In) >= ?BUFFER ->
            ok = answer([Caller], {error, emsgsize}),
            State#state{readers = []};
        none when FD =:= closed ->
            ok = answer([Caller], {error, closed}),
            State#state{readers = []};
        none ->
            State
    end;
serve(#state{readers = []} = State) ->
    State.

-spec next(line | bytes, binary()) -> {ok, binary(), Rest :: binary()} | none.
next(bytes, <<>>) ->
    none;
next(bytes, In) ->
    {ok, In, <<>>};
next(line, In) ->
    case binary:split(In, <<"\n">>) of
        %% Copied, so that a short line does not keep a long buffer alive.
        [Line, Rest] -> {ok, binary:copy(without_cr(Line)), Rest};
        [_Incomplete] -> none
    end.

-spec without_cr(binary()) -> binary().
without_cr(Line) ->
    Length = byte_size(Line) - 1,
    case Line of
        <<Text:Length/binary, $\r>> -> Text;
        _ -> Line
    end.

%% Writes as much as goes now.
-spec flush(#state{}) -> #state{}.
flush(#state{writers = []} = State) ->
    State;
flush(#state{writers = Writers, fd = closed} = State) ->
    ok = answer([Caller || {Caller, _Data} <- Writers], {error, closed}),
    State#state{writers = []};
flush(#state{writers = [{Caller, Data} | Writers], fd = FD} = State) ->
    case fdio:write(FD, Data) of
        {ok, Written} when Written =:= byte_size(Data) ->
            ok = answer([Caller], ok),
            flush(State#state{writers = Writers});
        {ok, Written} ->
            <<_:Written/binary, Rest/binary>> = Data,
            flush(State#state{writers = [{Caller, Rest} | Writers]});
        {error, eagain} ->
            State;
        {error, _Unplugged} ->
            flush(hang_up(State))
    end.

%% Reads what is there, once: more of it makes the fd ready again.
-spec fill(#state{}) -> #state{}.
fill(#state{in = In} = State) when byte_size(In) >= ?BUFFER ->
    State;
fill(#state{fd = FD, in = In} = State) ->
    case fdio:read(FD, ?BUFFER - byte_size(In)) of
        {ok, <<_, _/binary>> = Data} -> State#state{in = <<In/binary, Data/binary>>};
        {error, eagain} -> State;
        %% A tty that has been unplugged is at its end, or answers eio.
        _Unplugged -> hang_up(State)
    end.

%% Arming replaces what was armed on this fd, so each time it is both that matter now.
-spec arm(#state{}) -> #state{}.
arm(#state{fd = closed} = State) ->
    State;
arm(#state{fd = FD, in = In, writers = Writers} = State) ->
    Armed =
        case {byte_size(In) < ?BUFFER, Writers =/= []} of
            {true, true} -> inert:fdset(FD, read_write);
            {true, false} -> inert:fdset(FD, read);
            {false, true} -> inert:fdset(FD, write);
            {false, false} -> inert:fdclr(FD)
        end,
    case Armed of
        ok -> State;
        {error, _InertHasStopped} -> go_on(hang_up(State))
    end.

%% First cleared, then closed: the number may belong to another file at once. Not on this scheduler,
%% as close(2) of a tty may wait for the other side to take what was written.
-spec hang_up(#state{}) -> #state{}.
hang_up(#state{fd = closed} = State) ->
    State;
hang_up(#state{fd = FD} = State) ->
    _ = inert:fdclr(FD),
    ok = fdio:close_wait(FD),
    State#state{fd = closed}.

%%% Callers

-spec caller(gen_server:from(), timeout()) -> #caller{}.
caller({Pid, _Tag} = From, Timeout) ->
    #caller{from = From, monitor = erlang:monitor(process, Pid), timer = start_timer(Timeout)}.

-spec start_timer(timeout()) -> reference() | none.
start_timer(infinity) -> none;
start_timer(Timeout) -> erlang:start_timer(Timeout, self(), caller).

%% The caller that has this timer or monitor, if it still waits.
-spec take(reference(), #state{}) -> {[#caller{}], #state{}}.
take(Reference, #state{readers = Readers, writers = Writers} = State) ->
    Is = fun({#caller{timer = Timer, monitor = Monitor}, _}) ->
        Timer =:= Reference orelse Monitor =:= Reference
    end,
    {Reading, OtherReaders} = lists:partition(Is, Readers),
    {Writing, OtherWriters} = lists:partition(Is, Writers),
    Taken = [Caller || {Caller, _} <- Reading ++ Writing],
    {Taken, State#state{readers = OtherReaders, writers = OtherWriters}}.

-spec answer([#caller{}], term()) -> ok.
answer(Callers, Answer) ->
    lists:foreach(
        fun(#caller{from = From, monitor = Monitor, timer = Timer}) ->
            true = erlang:demonitor(Monitor, [flush]),
            %% One that has run out already is of a caller that nobody finds any more.
            _ = Timer =:= none orelse erlang:cancel_timer(Timer),
            gen_server:reply(From, Answer)
        end,
        Callers
    ).
