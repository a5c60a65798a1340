%% SPDX-License-Identifier: Apache-2.0

%% @doc An echo server for TCP, in a VM of its own: it has the VM's lifetime, and
%% needs no way to stop.
%%
%% What holds for every server: it listens on 127.0.0.1, has one process per
%% connection, switches Nagle's algorithm off, handles binaries, and ends a connection at the end
%% of its data and at any error.
-module(bench_server).

-export([backlog/0]).

-callback listen(Argument :: term()) -> {ok, inet:port_number()}.

%% @doc As many as somaxconn allows by default: a connection that the kernel drops is tried again
%% a second later.
-spec backlog() -> pos_integer().
backlog() ->
    4096.
