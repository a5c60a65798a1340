%% SPDX-License-Identifier: Apache-2.0
%%
%% Which pollset a port gets, and what becomes of the kernel's refusals.
-module(pollset_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([suite/0]).

-export([epoll_is_the_default_on_linux/1]).
-export([the_pollset_is_chosen_by_name/1]).
-export([the_environment_chooses_for_the_service/1]).
-export([a_pollset_that_is_none_is_a_bad_argument/1]).
-export([without_fds_epoll_by_name_is_emfile_and_the_default_falls_back/1]).
-export([a_refusal_of_the_kernel_is_the_callers_error/1]).
-export([a_fd_of_epolls_own_is_refused/1]).

-spec all() -> [atom()].
all() ->
    [
        epoll_is_the_default_on_linux,
        the_pollset_is_chosen_by_name,
        the_environment_chooses_for_the_service,
        a_pollset_that_is_none_is_a_bad_argument,
        without_fds_epoll_by_name_is_emfile_and_the_default_falls_back,
        a_refusal_of_the_kernel_is_the_callers_error,
        a_fd_of_epolls_own_is_refused
    ].

-spec suite() -> [tuple()].
suite() ->
    [{timetrap, {seconds, 60}}].

epoll_is_the_default_on_linux(_Config) ->
    {ok, Port} = prim_inert:start(),
    ?assertEqual(epoll, pollset(Port)),
    ok = prim_inert:stop(Port).

the_pollset_is_chosen_by_name(_Config) ->
    [
        begin
            {ok, Port} = prim_inert:start([{pollset, Pollset}]),
            ?assertEqual(Pollset, pollset(Port)),
            ok = prim_inert:stop(Port),
            ok = inert:start([{pollset, Pollset}]),
            ?assertEqual(Pollset, pollset(inert)),
            ok = inert:stop()
        end
     || Pollset <- [epoll, erts]
    ].

the_environment_chooses_for_the_service(_Config) ->
    ok = application:set_env(inert, pollset, erts),
    try
        ok = inert:start(),
        ?assertEqual(erts, pollset(inert)),
        ok = inert:stop(),
        {ok, _} = application:ensure_all_started(inert),
        ?assertEqual(erts, pollset(inert))
    after
        ok = application:stop(inert),
        ok = application:unset_env(inert, pollset)
    end.

a_pollset_that_is_none_is_a_bad_argument(_Config) ->
    [
        begin
            ?assertError(badarg, prim_inert:start(Options)),
            ?assertError(badarg, inert:start(Options))
        end
     || Options <- [[{pollset, kqueue}], [{pollset, "epoll"}], [unknown], none, [{pollset, epoll} | erts]]
    ],
    ?assertEqual(undefined, inert:pollid()).

without_fds_epoll_by_name_is_emfile_and_the_default_falls_back(_Config) ->
    %% The driver is loaded, which takes a fd.
    ok = inert_drv:start(),
    {ok, {FD, Peer}} = fdio:socketpair(),
    All = all_fds(FD),
    ?assertError(emfile, open_port({spawn_driver, "inert_drv epoll"}, [])),
    Port = open_port({spawn_driver, "inert_drv"}, []),
    close(All),
    ?assertEqual(erts, pollset(Port)),
    ok = prim_inert:fdset(Port, FD, read),
    {ok, 1} = fdio:write(Peer, <<1>>),
    receive
        {inert_read, Port, FD} -> ok
    end,
    ok = prim_inert:stop(Port),
    close([FD, Peer]),
    inert_drv:stop().

%% The kernel takes one file under 250 numbers into an instance that is nested in two
%% others (reverse_path_check in fs/eventpoll.c), and refuses more with EINVAL.
a_refusal_of_the_kernel_is_the_callers_error(_Config) ->
    {ok, Port} = prim_inert:start([{pollset, epoll}]),
    {ok, {FD, Peer}} = fdio:socketpair(),
    Copies = inert_test:copies(FD, 600),
    Results = [{prim_inert:fdset(Port, Copy, read), Copy} || Copy <- Copies],
    Armed = [Copy || {ok, Copy} <- Results],
    ?assertEqual([{error, einval}], lists:usort([Error || {{error, _} = Error, _} <- Results])),
    {ok, #{armed := Count}} = inert_drv:info(Port),
    ?assertEqual(Count, length(Armed)),
    %% A poll gets the same, and all that was armed still is.
    [Refused | _] = Copies -- Armed,
    ?assertEqual({error, einval}, prim_inert:poll(Port, Refused, read, 1000)),
    {ok, 1} = fdio:write(Peer, <<1>>),
    Told = [
        receive
            {inert_read, Port, Copy} -> Copy
        end
     || Copy <- Armed
    ],
    ?assertEqual(Armed, Told),
    ok = prim_inert:stop(Port),
    close([FD, Peer | Copies]).

a_fd_of_epolls_own_is_refused(_Config) ->
    Before = instances(),
    {ok, Port} = prim_inert:start([{pollset, epoll}]),
    %% The one that ERTS watches, and the one that stands in for ERTS's second.
    [_, _] = Own = instances() -- Before,
    [?assertMatch({error, _}, prim_inert:fdset(Port, FD, read)) || FD <- Own],
    %% One of ERTS's that it is in would be a loop; another is a fd like any.
    [?assert(lists:member(prim_inert:fdset(Port, FD, read), [ok, {error, eloop}])) || FD <- Before],
    ok = prim_inert:stop(Port).

%% The epoll instances of this VM.
instances() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    [
        list_to_integer(Name)
     || Name <- Names,
        {ok, File} <- [file:read_link("/proc/self/fd/" ++ Name)],
        string:find(File, "eventpoll") =/= nomatch
    ].

pollset(Port) ->
    {ok, #{pollset := Pollset}} = inert_drv:info(Port),
    Pollset.

%% Every number there is.
all_fds(FD) ->
    case fdio:dup(FD) of
        {ok, Copy} -> [Copy | all_fds(FD)];
        {error, emfile} -> []
    end.

close(FDs) ->
    lists:foreach(fun(FD) -> ok = fdio:close(FD) end, FDs).
