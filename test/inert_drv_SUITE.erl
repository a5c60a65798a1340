%% SPDX-License-Identifier: Apache-2.0
%%
%% SPEC.md, section 3: loading the driver, and its wire as programs use it that open the
%% port themselves. What arrives there may be anything.
-module(inert_drv_SUITE).

-export([suite/0]).
-export([all/0]).
-export([groups/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).
-export([init_per_group/2]).
-export([end_per_group/2]).
-export([init_per_testcase/2]).
-export([end_per_testcase/2]).

%% wire
-export([fdset_and_fdclr_are_eight_bytes/1]).
-export([the_reply_is_empty_or_the_errno/1]).
-export([both_kinds_are_mode_3/1]).
-export([wrong_lengths_are_einval/1]).
-export([unknown_modes_are_einval/1]).
-export([unknown_commands_are_einval/1]).
-export([no_fd_is_ebadf/1]).
-export([a_taken_kind_is_ebusy/1]).
-export([ctl_sends_a_command/1]).
-export([the_driver_takes_no_output_and_no_calls/1]).

%% hostile
-export([ten_thousand_random_commands/1]).
-export([no_bytes_are_a_reference_but_a_reference/1]).
-export([foreign_references_are_harmless/1]).
-export([foreign_references_leak_no_atoms/1]).
-export([foreign_references_shut_nobody_out/1]).
-export([huge_data_is_refused/1]).

%% loading
-export([three_hundred_loads_with_waiters_armed/1]).
-export([loads_and_unloads_race/1]).
-export([halt_with_waiters_armed/1]).
-export([halt_without_flushing_with_waiters_armed/1]).
-export([an_orderly_stop_with_waiters_armed/1]).
-export([an_orderly_stop_of_the_application/1]).
-export([halt_in_the_middle_of_everything/1]).

%% once
-export([start_and_stop_count/1]).
-export([a_port_keeps_the_driver_loaded/1]).
-export([encode_knows_every_mode/1]).
-export([the_command_names_the_pollset/1]).
-export([an_unknown_start_word_is_badarg/1]).
-export([the_driver_is_found_wherever_the_application_is/1]).

-include_lib("stdlib/include/assert.hrl").

-define(DRIVER, "inert_drv").

-define(FDSET, 1).
-define(FDCLR, 2).
%% Further ones are inert's own, and these may come to be: what may be sent with any of
%% them is shown without knowing which is which.
-define(OWN, lists:seq(3, 15)).

-import(inert_test, [
    pair/0,
    full_pair/0,
    close/1,
    run/1,
    blocked/1,
    result/1,
    results/1,
    make_readable/1,
    make_writable/1,
    message_of/1,
    quiet_barrier/1,
    no_message/0
]).

suite() ->
    inert_test:suite().

all() ->
    inert_test:per_pollset(topics()) ++ [{group, once}].

groups() ->
    inert_test:groups_per_pollset(topics()) ++
        [
            {once, [], [
                start_and_stop_count,
                a_port_keeps_the_driver_loaded,
                encode_knows_every_mode,
                the_command_names_the_pollset,
                an_unknown_start_word_is_badarg,
                the_driver_is_found_wherever_the_application_is
            ]}
        ].

topics() ->
    [
        {wire, [
            fdset_and_fdclr_are_eight_bytes,
            the_reply_is_empty_or_the_errno,
            both_kinds_are_mode_3,
            wrong_lengths_are_einval,
            unknown_modes_are_einval,
            unknown_commands_are_einval,
            no_fd_is_ebadf,
            a_taken_kind_is_ebusy,
            ctl_sends_a_command,
            the_driver_takes_no_output_and_no_calls
        ]},
        {hostile, [
            ten_thousand_random_commands,
            no_bytes_are_a_reference_but_a_reference,
            foreign_references_are_harmless,
            foreign_references_leak_no_atoms,
            foreign_references_shut_nobody_out,
            huge_data_is_refused
        ]},
        {loading, [
            three_hundred_loads_with_waiters_armed,
            loads_and_unloads_race,
            halt_with_waiters_armed,
            halt_without_flushing_with_waiters_armed,
            an_orderly_stop_with_waiters_armed,
            an_orderly_stop_of_the_application,
            halt_in_the_middle_of_everything
        ]}
    ].

init_per_suite(Config) ->
    inert_test:init_per_suite(Config).

end_per_suite(Config) ->
    inert_test:end_per_suite(Config).

init_per_group(Group, Config) ->
    Opened = lists:member(Group, [wire, hostile]),
    [{opened, Opened} | inert_test:init_per_group(Group, Config)].

end_per_group(Group, Config) ->
    inert_test:end_per_group(Group, Config).

init_per_testcase(_Case, Config0) ->
    Config = inert_test:init_per_testcase(Config0),
    case proplists:get_value(opened, Config) of
        true ->
            ok = inert_drv:start(),
            [{port, open_raw(Config)} | Config];
        false ->
            Config
    end.

end_per_testcase(_Case, Config) ->
    case proplists:get_value(opened, Config) of
        true ->
            true = port_close(port(Config)),
            ok = inert_drv:stop();
        false ->
            ok
    end,
    inert_test:end_per_testcase(Config).

port(Config) ->
    proplists:get_value(port, Config).

%% As a program does that opens the port itself.
open_raw(Config) ->
    open_port({spawn_driver, command(Config)}, []).

command(Config) ->
    ?DRIVER ++ " " ++ atom_to_list(proplists:get_value(pollset, Config)).

control(Port, Command, FD, Mode) ->
    erlang:port_control(Port, Command, <<FD:32/signed-big, Mode:32/signed-big>>).

%% The port does what it should.
works(Port) ->
    {A, B} = full_pair(),
    ?assertEqual([], control(Port, ?FDSET, A, 3)),
    make_readable(B),
    ?assertEqual({inert_read, A}, message_of(Port)),
    make_writable(B),
    ?assertEqual({inert_write, A}, message_of(Port)),
    inert_test:drain(A),
    Poller = blocked(run(fun() -> prim_inert:poll(Port, A, read) end)),
    make_readable(B),
    ?assertEqual({ok, read}, result(Poller)),
    close([A, B]).

%%% wire

%% The bytes themselves, not what an encoder makes of them.
fdset_and_fdclr_are_eight_bytes(Config) ->
    Port = port(Config),
    {A, B} = full_pair(),
    Read = [0, 0, A bsr 8, A band 255, 0, 0, 0, 1],
    Write = <<0, 0, (A bsr 8), A, 0, 0, 0, 2>>,
    ?assertEqual([], erlang:port_control(Port, 1, Read)),
    ?assertEqual([], erlang:port_control(Port, 1, Read)),
    make_readable(B),
    receive
        Message -> ?assertEqual({inert_read, Port, A}, Message)
    end,
    ?assertEqual([], erlang:port_control(Port, 1, Write)),
    make_writable(B),
    receive
        Message2 -> ?assertEqual({inert_write, Port, A}, Message2)
    end,
    inert_test:drain(A),
    ?assertEqual([], erlang:port_control(Port, 1, Read)),
    ?assertEqual([], erlang:port_control(Port, 2, [Read])),
    ?assertEqual([], erlang:port_control(Port, 2, Read)),
    make_readable(B),
    quiet_barrier(Port),
    no_message(),
    close([A, B]).

the_reply_is_empty_or_the_errno(Config) ->
    Port = port(Config),
    {A, B} = pair(),
    [
        begin
            ?assertEqual([], control(Port, ?FDCLR, A, Mode)),
            ?assertEqual("ebadf", control(Port, Command, inert_test:closed_fd(), Mode)),
            ?assertEqual("ebadf", control(Port, Command, -1, Mode)),
            ?assertEqual("einval", control(Port, Command, A, Mode + 4))
        end
     || Command <- [?FDSET, ?FDCLR], Mode <- [1, 2, 3]
    ],
    no_message(),
    close([A, B]).

both_kinds_are_mode_3(Config) ->
    Port = port(Config),
    {A, B} = pair(),
    make_readable(B),
    ?assertEqual([], control(Port, ?FDSET, A, 3)),
    ?assertEqual([{inert_read, A}, {inert_write, A}], lists:sort([message_of(Port), message_of(Port)])),
    inert_test:drain(A),
    inert_test:fill(A),
    ?assertEqual([], control(Port, ?FDSET, A, 3)),
    ?assertEqual([], control(Port, ?FDCLR, A, 3)),
    make_readable(B),
    make_writable(B),
    quiet_barrier(Port),
    no_message(),
    close([A, B]).

%% Refused, whatever it is, and what is armed stays so.
refused(Port, Expected, Requests) ->
    {A, B} = full_pair(),
    ?assertEqual([], control(Port, ?FDSET, A, 1)),
    Writer = blocked(run(fun() -> prim_inert:poll(Port, A, write) end)),
    [
        ?assertEqual({Command, Data, Expected}, {Command, Data, erlang:port_control(Port, Command, Data)})
     || {Command, Data} <- Requests(A)
    ],
    no_message(),
    make_readable(B),
    ?assertEqual({inert_read, A}, message_of(Port)),
    blocked(Writer),
    make_writable(B),
    ?assertEqual({ok, write}, result(Writer)),
    quiet_barrier(Port),
    no_message(),
    close([A, B]).

wrong_lengths_are_einval(Config) ->
    refused(port(Config), "einval", fun(A) ->
        Right = <<A:32, 3:32>>,
        [{Command, binary:part(Right, 0, Length)} || Command <- [?FDSET, ?FDCLR], Length <- lists:seq(0, 7)] ++
            [
                {Command, <<Right/binary, 0:(8 * More)>>}
             || Command <- [?FDSET, ?FDCLR], More <- lists:seq(1, 20) ++ [248, 4096]
            ] ++
            [{Command, <<A:16, 3:16>>} || Command <- [?FDSET, ?FDCLR]] ++
            [{Command, <<A:64, 3:64>>} || Command <- [?FDSET, ?FDCLR]]
    end).

unknown_modes_are_einval(Config) ->
    refused(port(Config), "einval", fun(A) ->
        [
            {Command, <<A:32, Mode:32>>}
         || {Commands, Modes} <- [{[?FDSET, ?FDCLR], [4, 5, 7, 8, 12, 15]}, {[?FDSET, ?FDCLR, 3, 5, 7, 8, 9], []}],
            Command <- Commands,
            Mode <- Modes ++ [0, 16, 255, 256, 257, 1 bsl 16, 1 bsl 24 + 1, -1, -3, 1 bsl 31, 1 bsl 31 + 1]
        ]
    end).

unknown_commands_are_einval(Config) ->
    refused(port(Config), "einval", fun(A) ->
        [
            {Command, Data}
         || Command <- [0, 100, 255, 256, 257, 258, 1 bsl 16 + 1, 1 bsl 24 + 2, 1 bsl 31 + 1, 1 bsl 32 - 1],
            Data <- [<<A:32, 3:32>>, <<>>, <<A:32, 1:32, 0>>]
        ]
    end).

no_fd_is_ebadf(Config) ->
    refused(port(Config), "ebadf", fun(_) ->
        [
            {Command, <<FD:32, Mode:32>>}
         || Command <- [?FDSET, ?FDCLR],
            FD <- [-1, -2, -(1 bsl 31), 1 bsl 31 - 1, fdio:max_fds(), inert_test:closed_fd()],
            Mode <- [1, 2, 3]
        ]
    end).

a_taken_kind_is_ebusy(Config) ->
    Port = port(Config),
    {A, B} = full_pair(),
    Poller = blocked(run(fun() -> prim_inert:poll(Port, A, read) end)),
    ?assertEqual("ebusy", control(Port, ?FDSET, A, 1)),
    ?assertEqual("ebusy", control(Port, ?FDSET, A, 3)),
    ?assertEqual([], control(Port, ?FDSET, A, 2)),
    ?assertEqual([], control(Port, ?FDCLR, A, 1)),
    ?assertEqual({error, ecanceled}, result(Poller)),
    ?assertEqual([], control(Port, ?FDCLR, A, 2)),
    close([A, B]).

ctl_sends_a_command(Config) ->
    Port = port(Config),
    {A, B} = pair(),
    true = register(inert_drv_SUITE_port, Port),
    [
        begin
            ?assertEqual(ok, inert_drv:ctl(To, ?FDSET, <<A:32, (inert_drv:encode(write)):32>>)),
            ?assertEqual({inert_write, A}, message_of(Port)),
            ?assertEqual(ok, inert_drv:ctl(To, ?FDSET, <<A:32, (inert_drv:encode(read)):32>>)),
            ?assertEqual({error, ebusy}, result(run(fun() -> inert_drv:ctl(To, ?FDSET, <<A:32, 1:32>>) end))),
            ?assertEqual(ok, result(run(fun() -> inert_drv:ctl(To, ?FDCLR, [<<A:32>>, [0, 0, 0], 3]) end))),
            ?assertEqual({error, ebadf}, inert_drv:ctl(To, ?FDSET, <<-1:32, 1:32>>)),
            ?assertEqual({error, einval}, inert_drv:ctl(To, ?FDSET, <<A:32, 4:32>>)),
            ?assertEqual({error, einval}, inert_drv:ctl(To, 0, <<A:32, 1:32>>)),
            ?assertEqual({error, einval}, inert_drv:ctl(To, ?FDSET, <<>>))
        end
     || To <- [Port, inert_drv_SUITE_port]
    ],
    ?assertEqual({error, closed}, inert_drv:ctl(no_such_name, ?FDSET, <<A:32, 1:32>>)),
    Closed = open_raw(Config),
    true = port_close(Closed),
    ?assertEqual({error, closed}, inert_drv:ctl(Closed, ?FDSET, <<A:32, 1:32>>)),
    make_readable(B),
    quiet_barrier(Port),
    no_message(),
    close([A, B]).

the_driver_takes_no_output_and_no_calls(Config) ->
    Port = port(Config),
    refused(Port, [], fun(_) ->
        [
            try
                port_command(Port, Data)
            catch
                error:badarg -> refused
            end
         || Data <- ["x", <<>>, binary:copy(<<"x">>, 1 bsl 20)]
        ],
        Port ! {self(), {command, "x"}},
        [
            ?assertError(badarg, erlang:port_call(Port, Command, Data))
         || Command <- [0, 1, 2, 3, 100], Data <- [foo, <<1:32, 3:32>>]
        ],
        []
    end),
    works(Port),
    %% What ERTS does not like in a message to a port, the port's owner is told of.
    Owner = run(fun() ->
        process_flag(trap_exit, true),
        Mine = open_raw(Config),
        Foreigner = run(fun() -> {self(), {command, "x"}} end),
        [
            begin
                Mine ! Message,
                receive
                    {'EXIT', Mine, badsig} -> ok
                end
            end
         || Message <- [foo, {self(), foo}, {self(), foo, bar}, result(Foreigner)]
        ],
        receive
            {'EXIT', Foreigner, normal} -> ok
        end,
        ?assertEqual("ebadf", control(Mine, ?FDSET, -1, 2)),
        true = port_close(Mine)
    end),
    ?assertEqual(true, result(Owner)).

%%% hostile

ten_thousand_random_commands(Config) ->
    Port = port(Config),
    Processes = 4,
    Commands = 2500,
    %% Waiters who have nothing to do with it.
    {A, B} = full_pair(),
    {C, D} = full_pair(),
    ?assertEqual([], control(Port, ?FDSET, A, 1)),
    Writer = blocked(run(fun() -> prim_inert:poll(Port, A, write) end)),
    Both = blocked(run(fun() -> prim_inert:poll(Port, C, read_write) end)),
    %% Ready ones and others, and what may be done to them is done to them alone.
    Targets = [full_pair() || _ <- lists:seq(1, 4)] ++ [pair() || _ <- lists:seq(1, 4)],
    {ok, Null} = fdio:open("/dev/null", [read]),
    FDs = [Null | lists:append([[X, Y] || {X, Y} <- Targets])],
    Senders = [
        run(fun() ->
            _ = rand:seed(exsss, {Seed, Seed, Seed}),
            lists:usort([send_random(Port, FDs) || _ <- lists:seq(1, Commands)])
        end)
     || Seed <- lists:seq(1, Processes)
    ],
    Replies = lists:usort(lists:append(results(Senders))),
    ct:log("~p", [Replies]),
    no_message(),
    [blocked(Pid) || Pid <- [Writer, Both]],
    ?assertEqual("ebusy", control(Port, ?FDSET, C, 1)),
    make_readable(B),
    ?assertEqual({inert_read, A}, message_of(Port)),
    make_writable(B),
    ?assertEqual({ok, write}, result(Writer)),
    make_readable(D),
    ?assertEqual({ok, read}, result(Both)),
    %% What they had armed went with them.
    [?assertEqual([], control(Port, ?FDSET, FD, 3)) || FD <- FDs],
    [?assertEqual([], control(Port, ?FDCLR, FD, 3)) || FD <- FDs],
    _ = flush(),
    works(Port),
    close([A, B, C, D, Null | Targets]).

send_random(Port, FDs) ->
    Command = random_command(),
    Data = random_data(FDs),
    Reply = erlang:port_control(Port, Command, Data),
    case lists:member(Command, ?OWN) of
        true ->
            own;
        false ->
            Allowed =
                case lists:member(Command, [?FDSET, ?FDCLR]) of
                    true -> ["", "ebadf", "ebusy", "einval"];
                    false -> ["einval"]
                end,
            ?assert(lists:member(Reply, Allowed), {Command, Data, Reply}),
            Reply
    end.

random_command() ->
    case rand:uniform(4) of
        1 -> rand:uniform(301) - 1;
        2 -> rand:uniform(1 bsl 32) - 1;
        _ -> rand:uniform(lists:max(?OWN))
    end.

random_data(FDs) ->
    case rand:uniform(10) of
        1 -> rand:bytes(rand:uniform(300) - 1);
        2 -> rand:bytes(8);
        3 -> [rand:bytes(rand:uniform(4)), rand:bytes(4)];
        4 -> <<(random_fd(FDs)):32, (rand:uniform(1 bsl 32) - 1):32>>;
        5 -> <<(random_fd(FDs)):32, (rand:uniform(3)):32>>;
        6 -> <<(random_fd(FDs)):32, (rand:uniform(3)):32, (rand:bytes(rand:uniform(60)))/binary>>;
        7 -> <<(random_fd(FDs)):32, (rand:uniform(3)):32, (term_to_binary(make_ref()))/binary>>;
        8 -> <<(random_fd(FDs)):32, (rand:uniform(3)):32, (one_of(no_references()))/binary>>;
        9 -> <<(random_fd(FDs)):32, (rand:uniform(3)):32, (bent(term_to_binary(make_ref())))/binary>>;
        10 -> <<(random_fd(FDs)):32, (rand:uniform(6) - 1):32>>
    end.

random_fd(FDs) ->
    case rand:uniform(4) of
        1 -> one_of([-1, -(1 bsl 31), 1 bsl 31 - 1, fdio:max_fds(), 1_000_000_000]);
        _ -> one_of(FDs)
    end.

one_of(List) ->
    lists:nth(rand:uniform(length(List)), List).

%% One byte is another one, but of its end: where nodes' names are, new atoms come of it.
bent(Binary) ->
    Size = byte_size(Binary),
    At = case rand:uniform(2) of
        1 -> rand:uniform(5) - 1;
        2 -> Size - rand:uniform(16)
    end,
    <<Before:At/binary, _, After/binary>> = Binary,
    <<Before/binary, (rand:uniform(256) - 1), After/binary>>.

%% External terms that are no reference, or not only one, or not all of it.
no_references() ->
    Reference = make_ref(),
    External = term_to_binary(Reference),
    Terms = [
        foo,
        1,
        1 bsl 100,
        1.5,
        [],
        [Reference],
        {Reference},
        {Reference, read},
        #{Reference => 1},
        <<"binary">>,
        "string",
        self(),
        hd(erlang:ports()),
        fun lists:map/2,
        fun() -> Reference end
    ],
    [term_to_binary(Term) || Term <- Terms] ++
        [
            term_to_binary(lists:duplicate(1000, Reference), [compressed]),
            <<External/binary, 0>>,
            <<External/binary, External/binary>>,
            <<131>>,
            <<131, 90>>,
            %% REFERENCE_EXT and NEW_REFERENCE_EXT.
            <<131, 101, 100, 3:16, "a@b", 1:32, 0>>,
            <<131, 114, 3:16, 100, 3:16, "a@b", 0, 1:32, 2:32, 3:32>>,
            %% NEWER_REFERENCE_EXT with no number, too long a number, and a node that is
            %% no atom, no node, or cannot be.
            <<131, 90, 0:16, 119, 3, "a@b", 0:32>>,
            <<131, 90, 6:16, 119, 3, "a@b", 0:32, 0:(6 * 32)>>,
            <<131, 90, 65535:16, 119, 3, "a@b", 0:32, 0:32>>,
            <<131, 90, 1:16, 97, 1, 0:32, 1:32>>,
            <<131, 90, 1:16, 119, 3, "foo", 0:32, 1:32>>,
            <<131, 90, 1:16, 119, 0, 0:32, 1:32>>,
            <<131, 90, 1:16, 119, 3, 255, "@", 255, 0:32, 1:32>>,
            <<131, 90, 1:16, 118, 65535:16, "a@b", 0:32, 1:32>>,
            <<131, 90, 1:16, 118, 3000:16, (binary:copy(<<"a@b">>, 1000))/binary, 0:32, 1:32>>,
            %% Atoms of a distribution's cache.
            <<131, 90, 1:16, 82, 0, 0:32, 1:32>>
        ] ++
        [binary:part(External, 0, Size) || Size <- lists:seq(1, byte_size(External) - 1)].

no_bytes_are_a_reference_but_a_reference(Config) ->
    Port = port(Config),
    %% A fd that is not ready.
    {C, D} = full_pair(),
    refused(Port, "einval", fun(_) ->
        [
            {Command, <<C:32, Mode:32, Data/binary>>}
         || Command <- ?OWN,
            Data <- no_references(),
            %% Four bytes are a key, which any number is.
            byte_size(Data) =/= 4,
            Mode <- [1, 3]
        ]
    end),
    works(Port),
    close([C, D]).

%% They are what another node's would be, or this one's under another name.
foreign_references_are_harmless(Config) ->
    Port = port(Config),
    {A, B} = full_pair(),
    References = [
        %% Numbers that this VM's never have, other incarnations, the longest names.
        <<131, 90, 3:16, 119, 13, "nonode@nohost", 0:32, -1:32, -1:32, -1:32>>,
        <<131, 90, 5:16, 119, 13, "nonode@nohost", 0:32, -1:32, -1:32, -1:32, -1:32, -1:32>>,
        <<131, 90, 1:16, 119, 13, "nonode@nohost", 0:32, 0:32>>,
        <<131, 90, 3:16, 119, 13, "nonode@nohost", 7:32, 1:32, 2:32, 3:32>>,
        <<131, 90, 3:16, 119, 3, "a@b", 0:32, 1:32, 2:32, 3:32>>,
        <<131, 90, 3:16, 119, 3, "a@b", -1:32, -1:32, -1:32, -1:32>>,
        <<131, 90, 5:16, 119, 3, "a@b", 1:32, 1:32, 2:32, 3:32, 4:32, 5:32>>,
        <<131, 90, 3:16, 119, 1, "@", 1:32, 1:32, 2:32, 3:32>>,
        <<131, 90, 3:16, 119, 255, "a@", (binary:copy(<<"b">>, 253))/binary, 1:32, 1:32, 2:32, 3:32>>
    ],
    %% What the test is about is there: some command takes a reference.
    ?assert(wait_with(Port, A, term_to_binary(make_ref()))),
    ?assertEqual([], control(Port, ?FDCLR, A, 1)),
    ?assertMatch([{_, ecanceled}], flush()),
    [
        begin
            %% It ends with its process, as polls do,
            _ = result(run(fun() -> wait_with(Port, A, Reference) end)),
            inert_test:until(fun() -> control(Port, ?FDSET, A, 1) =:= [] end),
            ?assertEqual([], control(Port, ?FDCLR, A, 1)),
            %% or when the fd is ready; who asked for a message may get one.
            _ = wait_with(Port, A, Reference),
            make_readable(B),
            quiet_barrier(Port),
            _ = flush(),
            ?assertEqual([], control(Port, ?FDSET, A, 1)),
            ?assertEqual({inert_read, A}, message_of(Port)),
            inert_test:drain(A)
        end
     || Reference <- References
    ],
    %% The end of the port is another one that is told.
    Other = open_raw(Config),
    [_ = wait_with(Other, FD, Reference) || {FD, Reference} <- lists:zip([A, B], lists:sublist(References, 2))],
    true = port_close(Other),
    _ = flush(),
    close([A, B]),
    works(Port).

%% Whether any command waits with such a reference.
wait_with(Port, FD, Reference) ->
    lists:any(
        fun(Command) -> erlang:port_control(Port, Command, <<FD:32, 1:32, Reference/binary>>) =:= [] end,
        ?OWN
    ).

flush() ->
    receive
        Message -> [Message | flush()]
    after 0 -> []
    end.

%% A node's name becomes an atom, and atoms are for ever.
foreign_references_leak_no_atoms(Config) ->
    Port = port(Config),
    {A, B} = full_pair(),
    Count = 2000,
    %% A first one, for what is made once.
    ask_foreign(Port, A, B),
    Before = erlang:system_info(atom_count),
    [ask_foreign(Port, A, B) || _ <- lists:seq(1, Count)],
    After = erlang:system_info(atom_count),
    ct:log("~b atoms before, ~b after", [Before, After]),
    close([A, B]),
    works(Port),
    ?assert(After - Before < Count div 20, {new_atoms, After - Before, of_references, Count}).

ask_foreign(Port, A, B) ->
    %% Of a name that no run of this case in this VM has had.
    Unique = erlang:unique_integer([positive]),
    Node = <<"inert_drv_SUITE_", (integer_to_binary(Unique))/binary, "@nowhere">>,
    Reference = <<131, 90, 3:16, 119, (byte_size(Node)), Node/binary, 1:32, 1:32, 2:32, 3:32>>,
    _ = wait_with(Port, A, Reference),
    make_readable(B),
    quiet_barrier(Port),
    _ = flush(),
    [] = control(Port, ?FDCLR, A, 1),
    inert_test:drain(A).

%% Whoever polls by the public API gets along, whatever others have sent before.
foreign_references_shut_nobody_out(Config) ->
    Port = port(Config),
    {A, B} = full_pair(),
    _ = result(run(fun() -> [ask_foreign(Port, A, B) || _ <- lists:seq(1, 20)] end)),
    Waiting = [{unasked, N} || N <- lists:seq(1, 1000)],
    [
        begin
            Poller = run(fun() ->
                [self() ! Message || Message <- Mailbox],
                Result = prim_inert:poll(Port, A, read, Timeout),
                {Result, flush() =:= Mailbox}
            end),
            ?assertEqual({Timeout, Poller}, {Timeout, blocked(Poller)}),
            make_readable(B),
            ?assertEqual({Timeout, {{ok, read}, true}}, {Timeout, result(Poller)}),
            inert_test:drain(A)
        end
     || Mailbox <- [[], Waiting],
        Timeout <- [infinity, 4000, 3_600_000, 1 bsl 32 - 1, 1 bsl 32, 1 bsl 40, 1 bsl 70]
    ],
    close([A, B]).

huge_data_is_refused(Config) ->
    Port = port(Config),
    Huge = binary:copy(<<0>>, 1 bsl 20),
    Memory = erlang:memory(system),
    refused(Port, "einval", fun(A) ->
        [
            {Command, [<<A:32, 1:32>>, Data]}
         || Command <- [0, ?FDSET, ?FDCLR, 200 | ?OWN],
            Data <- [Huge, [<<131, 90, 5:16, 119, 255>>, Huge], [<<131>>, term_to_binary(Huge)]],
            _ <- lists:seq(1, 2)
        ]
    end),
    inert_test:until(fun() ->
        true = erlang:garbage_collect(),
        erlang:memory(system) < Memory + (1 bsl 20)
    end),
    works(Port).

%%% loading

three_hundred_loads_with_waiters_armed(Config) ->
    Pairs = [full_pair() || _ <- lists:seq(1, 10)],
    _ = [load_and_unload(Config, Pairs) || _ <- lists:seq(1, 30)],
    Memory = erlang:memory(system),
    Resident = resident(),
    _ = [load_and_unload(Config, Pairs) || _ <- lists:seq(1, 270)],
    ct:log("system memory ~b -> ~b, resident ~b -> ~b", [Memory, erlang:memory(system), Resident, resident()]),
    inert_test:until(fun() -> erlang:memory(system) < Memory + (4 bsl 20) end),
    %% Of the shared object alone, 270 copies would be more.
    ?assert(resident() < Resident + (64 bsl 20)),
    close(Pairs).

load_and_unload(Config, Pairs) ->
    ?assertNot(inert_test:driver_loaded()),
    ok = inert_drv:start(),
    Port = open_raw(Config),
    ok = inert_drv:stop(),
    [[] = control(Port, ?FDSET, A, 1) || {A, _} <- Pairs],
    Pollers = inert_test:blocked_all([
        run(fun() -> prim_inert:poll(Port, A, write) end)
     || {A, _} <- lists:sublist(Pairs, 3)
    ]),
    ?assert(inert_test:driver_loaded()),
    true = port_close(Port),
    ?assertEqual([{error, closed}], lists:usort(results(Pollers))),
    inert_test:until(fun() -> not inert_test:driver_loaded() end),
    %% It is gone, and what it had armed with it.
    ?assertError(badarg, open_raw(Config)),
    no_message().

%% Bytes: see statm in proc(5).
resident() ->
    {ok, Statm} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = string:lexemes(Statm, " "),
    4096 * binary_to_integer(Pages).

loads_and_unloads_race(Config) ->
    {A, B} = pair(),
    Racers = [
        run(fun() ->
            [
                begin
                    Port = inert_test:open(Config),
                    ?assertEqual({ok, write}, prim_inert:poll(Port, A, write)),
                    ?assertEqual(ok, prim_inert:fdset(Port, A, read)),
                    ?assertEqual(ok, prim_inert:stop(Port))
                end
             || _ <- lists:seq(1, 100)
            ],
            done
        end)
     || _ <- lists:seq(1, 8)
    ],
    ?assertEqual([done], lists:usort(results(Racers))),
    inert_test:until(fun() -> not inert_test:driver_loaded() end),
    close([A, B]).

halt_with_waiters_armed(Config) ->
    ends_cleanly(Config, halt).

halt_without_flushing_with_waiters_armed(Config) ->
    ends_cleanly(Config, halt_without_flushing).

an_orderly_stop_with_waiters_armed(Config) ->
    ends_cleanly(Config, orderly).

an_orderly_stop_of_the_application(Config) ->
    ends_cleanly(Config, application).

halt_in_the_middle_of_everything(Config) ->
    [ends_cleanly(Config, amid) || _ <- [1, 2, 3]].

%% In a VM of its own: see inert_test:end_vm/1.
ends_cleanly(Config, How) ->
    Directory = filename:join(proplists:get_value(priv_dir, Config), How),
    Pollset = proplists:get_value(pollset, Config),
    ?assertEqual({0, <<>>}, inert_test:erl(Directory, {inert_test, end_vm, [Pollset, How]})).

%%% once

start_and_stop_count(_Config) ->
    ?assertNot(inert_test:driver_loaded()),
    ?assertEqual(ok, inert_drv:stop()),
    ?assertEqual(ok, inert_drv:start()),
    ?assertEqual([{self(), 1}], users()),
    ?assertEqual(ok, inert_drv:start()),
    ?assertEqual([{self(), 2}], users()),
    Other = run(fun() ->
        ok = inert_drv:start(),
        receive
            go_on -> ok
        end
    end),
    inert_test:until(fun() -> length(users()) =:= 2 end),
    ?assertEqual(lists:sort([{self(), 2}, {Other, 1}]), lists:sort(users())),
    ?assertEqual(ok, inert_drv:stop()),
    ?assertEqual(ok, inert_drv:stop()),
    ?assertEqual([{Other, 1}], users()),
    %% Others' uses are not one's own to take back.
    ?assertEqual(ok, inert_drv:stop()),
    ?assertEqual([{Other, 1}], users()),
    ?assert(inert_test:driver_loaded()),
    %% Whoever ends uses it no more.
    Other ! go_on,
    ok = result(Other),
    inert_test:until(fun() -> not inert_test:driver_loaded() end),
    ?assertEqual(ok, inert_drv:stop()).

users() ->
    erl_ddll:info(?DRIVER, processes).

a_port_keeps_the_driver_loaded(_Config) ->
    ok = inert_drv:start(),
    Port = open_port({spawn_driver, ?DRIVER}, []),
    ?assertEqual(1, erl_ddll:info(?DRIVER, port_count)),
    ok = inert_drv:stop(),
    ?assert(inert_test:driver_loaded()),
    works(Port),
    %% Used again meanwhile.
    ok = inert_drv:start(),
    Second = open_port({spawn_driver, ?DRIVER}, []),
    works(Second),
    ok = inert_drv:stop(),
    true = port_close(Port),
    ?assert(inert_test:driver_loaded()),
    works(Second),
    true = port_close(Second),
    inert_test:until(fun() -> not inert_test:driver_loaded() end).

encode_knows_every_mode(_Config) ->
    ?assertEqual([1, 2, 3], [inert_drv:encode(Mode) || Mode <- [read, write, read_write]]),
    ?assertEqual([4, 8], [inert_drv:encode(Mode) || Mode <- [priority, hangup]]),
    ?assertEqual([1, 9, 14], [inert_drv:encode(Mode) || Mode <- [[read], [hangup, read], [write, priority, hangup]]]),
    [?assertError(_, inert_drv:encode(Mode)) || Mode <- [foo, 1, [], [read_write], [read | write], "read", [[read]]]].

the_command_names_the_pollset(_Config) ->
    ok = inert_drv:start(),
    [
        begin
            Port = open_port({spawn_driver, Command}, []),
            works(Port),
            true = port_close(Port)
        end
     || Pollset <- inert_test:pollsets(),
        Word <- [atom_to_list(Pollset)],
        Command <- [
            ?DRIVER,
            ?DRIVER ++ " " ++ Word,
            list_to_binary(?DRIVER ++ " " ++ Word),
            ?DRIVER ++ "   " ++ Word ++ " "
        ]
    ],
    ok = inert_drv:stop().

an_unknown_start_word_is_badarg(_Config) ->
    ok = inert_drv:start(),
    Ports = erlang:ports(),
    [
        begin
            {error, Reason} =
                try
                    open_port({spawn_driver, ?DRIVER ++ " " ++ Words}, [])
                catch
                    Class:What -> {Class, What}
                end,
            ?assert(lists:member(Reason, [badarg, einval]), Words)
        end
     || Words <- [
            "foo",
            "ERTS",
            "ert",
            "ertss",
            "erts erts",
            "erts foo",
            "foo erts",
            "erts,epoll",
            "-",
            "\377",
            lists:duplicate(10_000, $a),
            lists:flatten(lists:duplicate(1000, "erts "))
        ]
    ],
    ?assertEqual(Ports, erlang:ports()),
    ok = inert_drv:stop().

%% As a release, a dependency and a checkout lay it out.
the_driver_is_found_wherever_the_application_is(Config) ->
    Home = filename:dirname(filename:dirname(code:which(inert_drv))),
    Object = filename:join([code:priv_dir(inert), "inert_drv.so"]),
    [
        begin
            Directory = filename:join([proplists:get_value(priv_dir, Config), "found", Name]),
            Ebin = filename:join(Directory, "ebin"),
            Priv = filename:join(Directory, "priv"),
            ok = filelib:ensure_dir(filename:join(Ebin, "x")),
            ok = filelib:ensure_dir(filename:join(Priv, "x")),
            [
                {ok, _} = file:copy(File, filename:join(Ebin, filename:basename(File)))
             || File <- filelib:wildcard(filename:join([Home, "ebin", "*"]))
            ],
            {ok, _} = file:copy(Object, filename:join(Priv, "inert_drv.so")),
            {ok, Peer, _} = peer:start(#{
                connection => standard_io, args => ["-pa", Ebin], env => [{"ERL_LIBS", ""}]
            }),
            try
                ?assertEqual(ok, peer:call(Peer, inert, start, [])),
                ?assertEqual({error, ebadf}, peer:call(Peer, inert, poll, [-1])),
                %% Nowhere else was there one.
                ?assertEqual(filename:join(Ebin, "inert.beam"), peer:call(Peer, code, which, [inert]))
            after
                peer:stop(Peer)
            end
        end
     || Name <- ["inert", "inert-1.2.3", "something_else"]
    ].
