%% SPDX-License-Identifier: Apache-2.0
%% @private
%% Reads the arguments of inert and prim_inert, and says what is wrong with them.
-module(inert_args).

-export([fds/2]).
-export([fd/3]).
-export([start_options/1]).
-export([format_error/2]).

-define(IS_INT32(N), (N >= -16#80000000 andalso N =< 16#7fffffff)).
-define(IS_KIND(K), (K =:= read orelse K =:= write orelse K =:= priority orelse K =:= hangup)).
-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0))).

%% A fd, or a set of fds with or without a mode each.
-spec fds(term(), prim_inert:mode()) ->
    {ok, inert_drv:target()} | {error, ebadf | einval | {ebadf | einval, integer()}} | {badarg, fds | {fds, term()}}.
fds(FD, Default) when is_integer(FD), ?IS_INT32(FD) -> {ok, {FD, inert_drv:encode(Default)}};
fds(FD, _Default) when is_integer(FD) -> {error, ebadf};
fds([FD], Default) when is_integer(FD), ?IS_INT32(FD) -> {ok, {one, FD, inert_drv:encode(Default)}};
fds([{FD, Kind}], _Default) when is_integer(FD), ?IS_INT32(FD), ?IS_KIND(Kind) ->
    {ok, {one, FD, inert_drv:encode(Kind)}};
fds(List, Default) when is_list(List) -> set(List, inert_drv:encode(Default), 0, <<>>);
fds(_, _Default) -> {badarg, fds}.

-spec set(term(), inert_drv:bits(), non_neg_integer(), binary()) ->
    {ok, inert_drv:target()} | {error, {ebadf | einval, integer()}} | {badarg, fds | {fds, term()}}.
set([], _Default, Count, Set) ->
    {ok, {set, Count, Set}};
set([FD | Rest], Default, Count, Set) when is_integer(FD), ?IS_INT32(FD) ->
    set(Rest, Default, Count + 1, <<Set/binary, FD:32, Default:32>>);
set([{FD, Mode} | Rest], Default, Count, Set) when is_integer(FD), ?IS_INT32(FD) ->
    case mode(Mode) of
        {ok, Bits} -> set(Rest, Default, Count + 1, <<Set/binary, FD:32, Bits:32>>);
        error -> {error, {einval, FD}}
    end;
set([FD | _], _Default, _Count, _Set) when is_integer(FD) ->
    {error, {ebadf, FD}};
set([{FD, _Mode} | _], _Default, _Count, _Set) when is_integer(FD) ->
    {error, {ebadf, FD}};
set([Wrong | _], _Default, _Count, _Set) ->
    {badarg, {fds, Wrong}};
set(_, _Default, _Count, _Set) ->
    {badarg, fds}.

%% A fd with a mode or options.
-spec fd(term(), term(), prim_inert:mode()) ->
    {ok, inert_drv:target(), timeout()} | {error, ebadf | einval} | {badarg, fd | timeout_option}.
fd(FD, Kind, _Default) when is_integer(FD), ?IS_INT32(FD), ?IS_KIND(Kind) ->
    %% What most calls are, some 30 ns sooner than below.
    {ok, {FD, inert_drv:encode(Kind)}, infinity};
fd(FD, Options, Default) when is_integer(FD) ->
    case mode_or_options(Options, Default) of
        {ok, Bits, Timeout} when ?IS_INT32(FD) -> {ok, {FD, Bits}, Timeout};
        {ok, _Bits, _Timeout} -> {error, ebadf};
        Wrong -> Wrong
    end;
fd(_, _Options, _Default) ->
    {badarg, fd}.

-spec mode_or_options(term(), prim_inert:mode()) ->
    {ok, inert_drv:bits(), timeout()} | {error, einval} | {badarg, timeout_option}.
mode_or_options([], Default) ->
    {ok, inert_drv:encode(Default), infinity};
mode_or_options([Option | _] = Options, Default) when is_tuple(Option) ->
    options(Options, Default, #{});
mode_or_options(Mode, _Default) ->
    case mode(Mode) of
        {ok, Bits} -> {ok, Bits, infinity};
        error -> {error, einval}
    end.

%% The first of several values for an option counts, as in proplists.
-spec options(term(), prim_inert:mode(), #{mode => inert_drv:bits(), timeout => timeout()}) ->
    {ok, inert_drv:bits(), timeout()} | {error, einval} | {badarg, timeout_option}.
options([{mode, Mode} | Rest], Default, Found) ->
    case mode(Mode) of
        {ok, Bits} -> options(Rest, Default, maps:merge(#{mode => Bits}, Found));
        error -> {error, einval}
    end;
options([{timeout, Timeout} | Rest], Default, Found) when ?IS_TIMEOUT(Timeout) ->
    options(Rest, Default, maps:merge(#{timeout => Timeout}, Found));
options([{timeout, _} | _], _Default, _Found) ->
    {badarg, timeout_option};
options([], _Default, #{mode := Bits} = Found) ->
    {ok, Bits, maps:get(timeout, Found, infinity)};
options([], Default, Found) ->
    {ok, inert_drv:encode(Default), maps:get(timeout, Found, infinity)};
options(_, _Default, _Found) ->
    {error, einval}.

-spec mode(term()) -> {ok, inert_drv:bits()} | error.
mode(read) -> {ok, 1};
mode(write) -> {ok, 2};
mode(Mode) ->
    try
        {ok, inert_drv:encode(Mode)}
    catch
        error:function_clause -> error
    end.

-spec start_options(term()) -> ok | error.
start_options([]) -> ok;
start_options([{pollset, epoll} | Rest]) -> start_options(Rest);
start_options([{pollset, erts} | Rest]) -> start_options(Rest);
start_options(_) -> error.

%% For the shell: see erl_error:format_exception/3.
-spec format_error(term(), erlang:stacktrace()) -> #{pos_integer() => unicode:chardata()}.
format_error(_Reason, [{_Module, _Function, _Args, Info} | _]) ->
    #{cause := Causes} = proplists:get_value(error_info, Info, #{cause => #{}}),
    maps:map(fun(_Position, Cause) -> describe(Cause) end, Causes).

-spec describe(atom() | {atom(), term()}) -> unicode:chardata().
describe(fd) ->
    <<"not a file descriptor, which is an integer">>;
describe(fds) ->
    <<"not a file descriptor, which is an integer, nor a list of such and of {FD, Mode}">>;
describe({fds, Wrong}) ->
    io_lib:format("a list with ~0tP in it, which is neither a file descriptor nor {FD, Mode}", [Wrong, 10]);
describe(timeout) ->
    <<"not a timeout, which is infinity or a number of milliseconds from 0">>;
describe(timeout_option) ->
    <<"the option timeout is not infinity or a number of milliseconds from 0">>;
describe(start_options) ->
    <<"not a list of start options: {pollset, epoll | erts}">>;
describe(child_options) ->
    <<"not a list of options: {name, atom()}, {pollset, epoll | erts}">>.
