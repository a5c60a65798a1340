%% SPDX-License-Identifier: Apache-2.0

%% @doc Tells what changes in a directory: inotify(7).
%%
%% ```
%% {ok, Watcher} = watch:start_link("/var/spool/in"),
%% receive
%%     {watch, Watcher, Changes} ->
%%         [process(Name) || {written, Name} <- Changes],
%%         watch:next(Watcher)
%% end.
%% '''
%%
%% The watcher sends one message, a list of changes, and no other until `next/1' asks for it, as a socket in
%% `{active, once}' does. A caller that is slow so has no mailbox full of changes: they wait in the
%% kernel's queue, which is bounded. If that overflows, the change `overflow' says that some are lost, and that the
%% directory has to be read again. Read it once at the beginning, too, after the watcher has started: what happens in
%% between is then told twice rather than never.
%%
%% When the directory is deleted, moved away or unmounted, the last message is `{watch, Watcher, gone}', and the
%% watcher ends, as it does when the process that started it ends. Subdirectories are not watched, and nothing tells
%% that a directory above was moved.
-module(watch).

-behaviour(gen_server).

-export([start_link/1]).
-export([next/1]).
-export([stop/1]).

-export([init/1]).
-export([handle_continue/2]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

-export_type([change/0]).

-type change() ::
    {created, name()}
    | {written, name()}
    | {deleted, name()}
    | {renamed, From :: name(), To :: name()}
    | {moved_out, name()}
    | {moved_in, name()}
    | overflow.
%% `written': somebody who had it open for writing has closed it, so it may be complete. `created'
%% is a new file or directory, of which nothing may be there yet. A rename is told as `moved_out' and `moved_in'
%% if its halves come in different messages.

-type name() :: binary().
%% In the directory; the bytes that the file system has.

-record(state, {
    fd :: fdio:fd(),
    owner :: pid(),
    %% Whether the owner has asked for the next message.
    asked = true :: boolean()
}).

-define(FLAGS, [
    create, close_write, delete, moved_from, moved_to, delete_self, move_self, onlydir
]).

%%% API

%% @doc Watches a directory from now on, and tells the caller.
%%
%% Errors: `enoent', `enotdir', `eacces', `enospc' (more watches than the sysctl fs.inotify.max_user_watches
%% allows), `emfile' (more watchers than fs.inotify.max_user_instances, or no fds left).
-spec start_link(file:filename_all()) -> {ok, pid()} | {error, fdio:posix()}.
start_link(Directory) ->
    %% Opened here, so that an error is an answer and not the end of a process linked to the caller.
    case open(Directory) of
        {ok, FD} -> gen_server:start_link(?MODULE, {FD, self()}, []);
        {error, _Reason} = Error -> Error
    end.

%% @doc Asks for the next message.
-spec next(pid()) -> ok.
next(Watcher) ->
    gen_server:cast(Watcher, next).

%% @doc Ends a watcher. A message that it has sent before is there still.
-spec stop(pid()) -> ok.
stop(Watcher) ->
    gen_server:stop(Watcher).

%%% The watcher

%% @private
-spec init({fdio:fd(), pid()}) -> {ok, #state{}, {continue, wait}}.
init({FD, Owner}) ->
    %% Turns one's own end into terminate/2.
    process_flag(trap_exit, true),
    %% Nothing else would tell the watcher that what it waits for will not come.
    _ = erlang:monitor(port, inert:pollid()),
    {ok, #state{fd = FD, owner = Owner}, {continue, wait}}.

%% @private
-spec handle_continue(wait, #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_continue(wait, State) ->
    wait(State).

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, {error, unknown}, #state{}}.
handle_call(_Request, _From, State) ->
    {reply, {error, unknown}, State}.

%% @private
-spec handle_cast(next, #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_cast(next, #state{asked = false} = State) ->
    wait(State#state{asked = true});
handle_cast(_AskedAlready, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({inert_read, _PollId, FD}, #state{fd = FD} = State) ->
    read(State);
handle_info({'DOWN', _Monitor, port, _PollId, Reason}, State) ->
    {stop, {inert, Reason}, State};
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{fd = FD}) ->
    _ = inert:fdclr(FD),
    ok = fdio:close(FD).

-spec open(file:filename_all()) -> {ok, fdio:fd()} | {error, fdio:posix()}.
open(Directory) ->
    ok = inert:start(),
    case fdio:inotify_init() of
        {ok, FD} ->
            try fdio:inotify_add_watch(FD, Directory, ?FLAGS) of
                {ok, _Watch} ->
                    {ok, FD};
                {error, _Reason} = Error ->
                    ok = fdio:close(FD),
                    Error
            catch
                error:badarg ->
                    ok = fdio:close(FD),
                    error(badarg, [Directory])
            end;
        {error, _Reason} = Error ->
            Error
    end.

%% inert tells once, at once if something is there.
-spec wait(#state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
wait(#state{fd = FD} = State) ->
    case inert:fdset(FD, read) of
        ok -> {noreply, State};
        {error, Reason} -> {stop, {fdset, Reason}, State}
    end.

-spec read(#state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
read(#state{fd = FD} = State) ->
    case fdio:inotify_read(FD) of
        {ok, Events} -> tell(changes(Events), gone(Events), State);
        {error, eagain} -> wait(State);
        {error, Reason} -> {stop, {inotify_read, Reason}, State}
    end.

-spec tell([change()], boolean(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
tell([], false, State) ->
    wait(State);
tell(Changes, Gone, #state{owner = Owner} = State) ->
    _ = [Owner ! {watch, self(), Changes} || Changes =/= []],
    case Gone of
        true ->
            Owner ! {watch, self(), gone},
            {stop, normal, State};
        false ->
            {noreply, State#state{asked = false}}
    end.

%% `ignored' comes last whenever the kernel ends the watch; a directory that was moved is watched on, but
%% is not the one any more that was meant.
-spec gone([fdio:inotify_event()]) -> boolean().
gone(Events) ->
    lists:any(
        fun(#{flags := Flags}) -> lists:any(fun(F) -> lists:member(F, [ignored, move_self]) end, Flags) end,
        Events
    ).

%%% From events to changes

-spec changes([fdio:inotify_event()]) -> [change()].
changes([]) ->
    [];
changes([#{flags := [Flag | _], name := Name, cookie := Cookie} | Events]) ->
    case Flag of
        create -> [{created, Name} | changes(Events)];
        close_write -> [{written, Name} | changes(Events)];
        delete -> [{deleted, Name} | changes(Events)];
        moved_from -> moved_from(Name, Cookie, Events);
        moved_to -> [{moved_in, Name} | changes(Events)];
        q_overflow -> [overflow | changes(Events)];
        _AboutTheDirectory -> changes(Events)
    end.

%% The halves of a rename have a cookie in common, and the second follows at once, or there is none.
-spec moved_from(name(), non_neg_integer(), [fdio:inotify_event()]) -> [change()].
moved_from(From, Cookie, [#{flags := [moved_to | _], cookie := Cookie, name := To} | Events]) ->
    [{renamed, From, To} | changes(Events)];
moved_from(From, _Cookie, Events) ->
    [{moved_out, From} | changes(Events)].
