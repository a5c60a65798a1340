%% SPDX-License-Identifier: Apache-2.0
%%
%% Runs the Erlang examples of Markdown files and of EDoc, so that one that is broken fails the
%% tests, and checks what else such a file promises:
%%
%%   scripts/with-libs erl -noinput -pa _build/suites -run run_docs main FILE...
%%
%% Blocks fenced as `erlang' are run in the order of the file, on both pollsets:
%%
%% - one that begins with a prompt, such as `1> ', is a session. Each result, and what was
%%   printed, must be what the file shows. Numbers of fds, ports, processes and
%%   references may differ, if they do so in the same way throughout the file;
%%   `...' stands for anything.
%% - one with a `-module' attribute is compiled, without warnings, and loaded.
%% - any other is evaluated, as the shell would: bindings last to the end of the file,
%%   f/0 and f/1 forget them, and a match that fails is a failure.
%%
%% Comments that a reader does not see say what a block needs: `<!-- run CODE -->' is
%% evaluated where it stands, and `<!-- epoll -->' has the next block run on that
%% pollset only.
%%
%% Of an Erlang source file the examples in its documentation are run; what they need is
%% in needs/2, by module and by the number of the example.
%%
%% Beside that: a test named as SUITE:case exists, a file that is linked to exists, and
%% so does each target that a block of `sh' has make build.
%%
%% Prints a line for each block, and `N passed, N failed'.
-module(run_docs).

-export([main/1]).

%% An example takes seconds at most. What takes this long waits in vain.
-define(PATIENCE_MS, 30_000).

-record(block, {line, kind, text, only_epoll = false}).

-spec main([string()]) -> no_return().
main(Files) ->
    %% Examples show what happens when something dies.
    ok = logger:set_primary_config(level, none),
    Results = lists:append([
        run_file(File, Pollset) || File <- Files, Pollset <- inert_test:pollsets()
    ] ++ [checks(File) || File <- Files]),
    [report(R) || R <- Results],
    Failed = length([R || {_, {failed, _}} = R <- Results]),
    io:format("~b passed, ~b failed~n", [length(Results) - Failed, Failed]),
    halt(min(1, Failed), [{flush, true}]).

report({Name, ok}) ->
    io:format("ok ~ts~n", [Name]);
report({Name, {failed, Why}}) ->
    io:format("not ok ~ts~n~ts~n", [Name, indented(Why)]).

indented(Text) ->
    ["    ", string:replace(string:trim(Text), "\n", "\n    ", all)].

%%% Reading

blocks(File) ->
    {ok, Text} = file:read_file(File),
    Lines = numbered(string:split(Text, "\n", all)),
    case filename:extension(File) of
        ".erl" -> edoc_blocks(filename:basename(File, ".erl"), Lines, 1);
        _ -> blocks(Lines, [], false)
    end.

edoc_blocks(Module, Lines, Index) ->
    case lists:splitwith(fun({_, Line}) -> Line =/= <<"%% ```">> end, Lines) of
        {_, []} ->
            [];
        {_, [{N, _} | Inside]} ->
            {Example, Rest} = lists:splitwith(fun({_, Line}) -> Line =/= <<"%% '''">> end, Inside),
            Text = lists:join("\n", [string:prefix(L, "%% ") || {_, L} <- Example]),
            {Before, After} = needs(list_to_atom(Module), Index),
            [
                #block{line = N, kind = hidden, text = Before},
                #block{line = N, kind = edoc_kind(Text), text = unicode:characters_to_list(Text)},
                #block{line = N, kind = hidden, text = After}
                | edoc_blocks(Module, Rest, Index + 1)
            ]
    end.

%% A function by itself is taken for one of a module called example.
edoc_kind(Text) ->
    case re:run(iolist_to_binary(Text), "^[a-z_]+\\(.*\\) ->$", [multiline]) of
        {match, _} -> function;
        nomatch -> code
    end.

needs(inert, 1) ->
    {"{FD, B} = inert_test:full_pair(), inert_test:make_readable(B).", "ok."};
needs(inert, 2) ->
    {"ok.", "inert:fdclr(FD), inert_test:close([FD, B])."};
needs(inert, 3) ->
    {"{Socket, B3} = inert_test:full_pair(), inert_test:make_readable(B3), {ok, {M3, Tty, _}} = fdio:openpty().",
        "inert_test:close([Socket, B3, M3, Tty])."};
needs(inert, 4) ->
    {"ok.", "{ok, {#{}, Children}} = example:init([]), ok = supervisor:check_childspecs(Children)."};
needs(prim_inert, 1) ->
    {"{ok, {FD, B}} = fdio:socketpair().", "inert_test:close([FD, B])."};
needs(inert_drv, 1) ->
    {"{ok, {FD, B}} = fdio:socketpair(), inert_test:make_readable(B).",
        "port_close(Port), inert_drv:stop(), inert_test:close([FD, B])."};
needs(Module, Index) ->
    error({no_needs, Module, Index}).

numbered(Lines) ->
    lists:zip(lists:seq(1, length(Lines)), Lines).

blocks([], Blocks, _) ->
    lists:reverse(Blocks);
blocks([{_, <<"<!-- epoll -->">>} | Lines], Blocks, _) ->
    blocks(Lines, Blocks, true);
blocks([{N, <<"<!-- run", _/binary>> = First} | Lines], Blocks, OnlyEpoll) ->
    {Text, Rest} = comment([{N, First} | Lines], []),
    blocks(Rest, [#block{line = N, kind = hidden, text = Text} | Blocks], OnlyEpoll);
blocks([{N, <<"```", Language/binary>>} | Lines], Blocks, OnlyEpoll) ->
    {Inside, [_Fence | Rest]} = lists:splitwith(fun({_, L}) -> L =/= <<"```">> end, Lines),
    Text = lists:join("\n", [L || {_, L} <- Inside]),
    Block = #block{
        line = N,
        kind = kind(Language, iolist_to_binary(Text)),
        text = unicode:characters_to_list(Text),
        only_epoll = OnlyEpoll
    },
    blocks(Rest, [Block | Blocks], false);
blocks([_ | Lines], Blocks, OnlyEpoll) ->
    blocks(Lines, Blocks, OnlyEpoll).

comment([{_, Line} | Lines], Taken) ->
    case string:split(Line, "-->") of
        [Last, _] ->
            [_, Code] = string:split(lists:join("\n", lists:reverse([Last | Taken])), "run"),
            {unicode:characters_to_list(Code), Lines};
        [_] ->
            comment(Lines, [Line | Taken])
    end.

kind(<<"erlang">>, Text) ->
    case {re:run(Text, "^[0-9]+> "), re:run(Text, "^-module\\(", [multiline])} of
        {{match, _}, _} -> session;
        {nomatch, {match, _}} -> module;
        {nomatch, nomatch} -> code
    end;
kind(<<"sh">>, _) -> shell;
kind(_, _) -> other.

%%% Running

%% In a process of its own, whose output is taken and which may hang.
run_file(File, Pollset) ->
    ok = application:set_env(inert, pollset, Pollset),
    Blocks = [
        B
     || #block{kind = Kind, only_epoll = OnlyEpoll} = B <- blocks(File),
        lists:member(Kind, [hidden, session, module, function, code]),
        Pollset =:= epoll orelse not OnlyEpoll
    ],
    Caller = self(),
    {Runner, Monitor} = spawn_monitor(fun() ->
        Output = spawn_link(fun() -> output([]) end),
        group_leader(Output, self()),
        run_blocks(Blocks, Output, #{}, erl_eval:new_bindings(), Caller)
    end),
    Results = collect(Runner, Monitor, Blocks),
    ok = stop_service(),
    [{io_lib:format("~ts:~b (~s)", [File, N, Pollset]), Result} || {#block{line = N}, Result} <- Results].

%% An example may have started the application.
stop_service() ->
    _ = application:stop(inert),
    inert:stop().

collect(Runner, Monitor, [Block | Rest]) ->
    receive
        {Runner, ok} ->
            [{Block, ok} || Block#block.kind =/= hidden] ++ collect(Runner, Monitor, Rest);
        {Runner, {failed, Why}} ->
            %% The next ones may need what this one did not do.
            demonitor(Monitor, [flush]),
            [{Block, {failed, Why}}];
        {'DOWN', Monitor, process, Runner, Reason} ->
            [{Block, {failed, io_lib:format("the process ended: ~tp", [Reason])}}]
    after ?PATIENCE_MS ->
        demonitor(Monitor, [flush]),
        exit(Runner, kill),
        [{Block, {failed, "it hangs"}}]
    end;
collect(_Runner, Monitor, []) ->
    demonitor(Monitor, [flush]),
    [].

run_blocks([], _Output, _Numbers, _Bindings, _Caller) ->
    ok;
run_blocks([Block | Rest], Output, Numbers, Bindings, Caller) ->
    try run_block(Block, Output, Numbers, Bindings) of
        {NewNumbers, NewBindings} ->
            Caller ! {self(), ok},
            run_blocks(Rest, Output, NewNumbers, NewBindings, Caller)
    catch
        throw:{failed, Why} ->
            Caller ! {self(), {failed, Why}};
        Class:Reason:Stack ->
            Caller ! {self(), {failed, exception(Class, Reason, Stack)}}
    end.

run_block(#block{kind = module, text = Text}, _Output, Numbers, Bindings) ->
    compile_module(Text),
    {Numbers, Bindings};
run_block(#block{kind = function, text = Text}, _Output, Numbers, Bindings) ->
    compile_module("-module(example).\n-compile([export_all, nowarn_export_all]).\n" ++ Text),
    {Numbers, Bindings};
run_block(#block{kind = session, text = Text}, Output, Numbers, Bindings) ->
    run_session(session(string:split(Text, "\n", all)), Output, Numbers, Bindings);
run_block(#block{text = Text}, _Output, Numbers, Bindings) ->
    put(awaited, 0),
    {_, NewBindings} = evaluate(Text, Bindings),
    {Numbers, NewBindings}.

compile_module(Text) ->
    File = filename:join("_build", "docs_example.erl"),
    ok = file:write_file(File, unicode:characters_to_binary(Text)),
    case compile:file(File, [binary, return, warnings_as_errors, debug_info]) of
        {ok, Module, Binary, _} ->
            _ = code:purge(Module),
            {module, Module} = code:load_binary(Module, atom_to_list(Module) ++ ".erl", Binary);
        {error, Errors, Warnings} ->
            throw({failed, io_lib:format("~tp", [Errors ++ Warnings])})
    end.

evaluate(Text, Bindings) ->
    case erl_scan:string(Text) of
        {ok, Tokens, _} -> evaluate_tokens(Tokens, none, Bindings);
        {error, {_, Module, Why}, _} -> throw({failed, Module:format_error(Why)})
    end.

%% One expression, up to its dot, after the other.
evaluate_tokens([], Value, Bindings) ->
    {Value, Bindings};
evaluate_tokens(Tokens, _Value, Bindings) ->
    {Expression, Rest} = lists:splitwith(fun(T) -> element(1, T) =/= dot end, Tokens),
    {Dot, Left} =
        case Rest of
            [D | L] -> {D, L};
            [] -> {{dot, 1}, []}
        end,
    case erl_parse:parse_exprs(Expression ++ [Dot]) of
        {ok, Expressions} ->
            {value, Value, NewBindings} = erl_eval:exprs(Expressions, Bindings, {eval, fun shell_command/3}),
            evaluate_tokens(Left, Value, NewBindings);
        {error, {_, Module, Why}} ->
            throw({failed, Module:format_error(Why)})
    end.

%% What the shell knows beside modules' functions.
shell_command(f, [], _Bindings) ->
    {value, ok, erl_eval:new_bindings()};
shell_command(f, [{var, _, Name}], Bindings) ->
    {value, ok, erl_eval:del_binding(Name, Bindings)};
shell_command(flush, [], Bindings) ->
    flush(get(awaited)),
    {value, ok, Bindings};
shell_command(Name, Arguments, Bindings) ->
    case erlang:function_exported(c, Name, length(Arguments)) of
        true ->
            {Values, NewBindings} = erl_eval:expr_list(Arguments, Bindings, {eval, fun shell_command/3}),
            {value, apply(c, Name, Values), NewBindings};
        false ->
            throw({failed, io_lib:format("the shell knows no ~s/~b", [Name, length(Arguments)])})
    end.

%% Who reads the file types slowly, and what is shown has come by then.
flush(Awaited) ->
    Wait = case Awaited > 0 of true -> infinity; false -> 0 end,
    receive
        Message ->
            io:format("Shell got ~tp~n", [Message]),
            flush(Awaited - 1)
    after Wait -> ok
    end.

exception(Class, Reason, Stack) ->
    erl_error:format_exception(Class, Reason, [Entry || {Module, _, _, _} = Entry <- Stack, Module =/= ?MODULE, Module =/= erl_eval]).

%%% Sessions

%% [{Input, Expected}]
session([]) ->
    [];
session([Line | Lines]) ->
    case re:run(Line, "^[0-9]+> (.*)$", [{capture, all_but_first, list}, unicode]) of
        {match, [First]} ->
            {Input, Rest} = input(First, Lines),
            {Shown, Next} = lists:splitwith(fun is_output/1, Rest),
            [{Input, lists:flatten(lists:join("\n", Shown))} | session(Next)];
        nomatch ->
            throw({failed, io_lib:format("no prompt: ~ts", [Line])})
    end.

is_output(Line) ->
    re:run(Line, "^[0-9]+> ") =:= nomatch.

input(Text, Lines) ->
    case {erl_scan:string(Text), Lines} of
        {{ok, [_ | _] = Tokens, _}, _} when element(1, hd(Tokens)) =/= dot ->
            case {element(1, lists:last(Tokens)), Lines} of
                {dot, _} -> {Text, Lines};
                {_, [Line | Rest]} -> input(Text ++ "\n" ++ Line, Rest);
                {_, []} -> throw({failed, "a prompt without a full stop: " ++ Text})
            end;
        {_, [Line | Rest]} ->
            input(Text ++ "\n" ++ Line, Rest);
        {_, []} ->
            throw({failed, "a prompt without a full stop: " ++ Text})
    end.

run_session([], _Output, Numbers, Bindings) ->
    {Numbers, Bindings};
run_session([{Input, Expected} | Rest], Output, Numbers, Bindings) ->
    put(awaited, length(string:split(Expected, "Shell got", all)) - 1),
    {Result, NewBindings} =
        try
            {Value, Bound} = evaluate(Input, Bindings),
            {io_lib:format("~tp", [Value]), Bound}
        catch
            Class:Reason:Stack when Class =/= throw ->
                {["** ", exception(Class, Reason, Stack)], Bindings}
        end,
    Output ! {take, self()},
    Printed = receive {Output, Text} -> Text end,
    Actual = lists:flatten([unicode:characters_to_list(Printed), Result]),
    case matches(squeeze(Expected), squeeze(Actual), Numbers) of
        {true, NewNumbers} ->
            run_session(Rest, Output, NewNumbers, NewBindings);
        false ->
            throw({failed, io_lib:format("~ts~nprinted~n~ts~nwhere the file shows~n~ts", [Input, Actual, Expected])})
    end.

%% How lines are broken is the terminal's doing.
squeeze(Text) ->
    [C || C <- Text, C > $\s].

matches(Expected, Actual, Numbers) ->
    case string:split(Expected, "...", all) of
        [_] -> same(parts(Expected), parts(Actual), "", Numbers);
        Parts -> in_order(Parts, Actual, Numbers)
    end.

in_order(Parts, Actual, Numbers) ->
    Pattern = ["^", lists:join(".*", [quote(P) || P <- Parts]), "$"],
    case re:run(Actual, Pattern, [dotall, unicode]) of
        {match, _} -> {true, Numbers};
        nomatch -> false
    end.

quote(Text) ->
    re:replace(re:replace(Text, "[][(){}.*+?^$|#\\\\]", "\\\\&", [global, unicode]), "[0-9]+", "[0-9]+", [global, unicode]).

parts(Text) ->
    re:split(Text, "([0-9]+)", [{return, list}, unicode]).

same([], [], _Before, Numbers) ->
    {true, Numbers};
same([Part | Expected], [Part | Actual], Before, Numbers) ->
    same(Expected, Actual, Before ++ Part, Numbers);
same([Shown | Expected], [Got | Actual], Before, Numbers) ->
    case may_differ(Shown, Got, Before) andalso maps:get(Shown, Numbers, Got) =:= Got of
        true -> same(Expected, Actual, Before ++ Got, Numbers#{Shown => Got});
        false -> false
    end;
same(_, _, _, _) ->
    false.

%% Open fds, and what stands between < and >.
may_differ(Shown, Got, Before) ->
    is_number_text(Shown) andalso is_number_text(Got) andalso
        (fdio:is_open(list_to_integer(Got)) orelse is_in_brackets(Before)).

is_number_text(Text) ->
    Text =/= "" andalso lists:all(fun(C) -> C >= $0 andalso C =< $9 end, Text).

is_in_brackets(Before) ->
    case [C || C <- lists:reverse(Before), C =:= $< orelse C =:= $>] of
        [$< | _] -> true;
        _ -> false
    end.

%% A group leader that keeps what is printed.
output(Printed) ->
    receive
        {io_request, From, ReplyAs, Request} ->
            {Reply, More} = put_chars(Request),
            From ! {io_reply, ReplyAs, Reply},
            output([Printed, More]);
        {take, Pid} ->
            Pid ! {self(), unicode:characters_to_binary(Printed)},
            output([])
    end.

put_chars({put_chars, Encoding, Text}) -> {ok, unicode:characters_to_binary(Text, Encoding)};
put_chars({put_chars, Encoding, M, F, A}) -> {ok, unicode:characters_to_binary(apply(M, F, A), Encoding)};
put_chars({requests, Requests}) -> {ok, [element(2, put_chars(R)) || R <- Requests]};
put_chars(getopts) -> {[{encoding, unicode}], ""};
put_chars({get_geometry, _}) -> {{error, enotsup}, ""};
put_chars(_) -> {{error, request}, ""}.

%%% What else is checked

checks(File) ->
    {ok, Text} = file:read_file(File),
    [
        {io_lib:format("~ts: ~ts", [File, What]), complain(Complaints)}
     || {What, Complaints} <- [
            {"the tests it names exist", lists:flatmap(fun missing_test/1, tests(Text))},
            {"what it links to exists", lists:flatmap(fun(L) -> missing_link(File, L) end, links(Text))},
            {"what it has make build exists", missing_targets([B#block.text || #block{kind = shell} = B <- blocks(File)])}
        ]
    ].

complain([]) -> ok;
complain(Complaints) -> {failed, lists:join("\n", Complaints)}.

matching(Text, Pattern) ->
    case re:run(Text, Pattern, [global, unicode, multiline, {capture, all_but_first, list}]) of
        {match, Found} -> lists:usort(Found);
        nomatch -> []
    end.

tests(Text) ->
    matching(Text, "\\b([a-z_]+_SUITE):([a-z0-9_]+)").

%% That it is a case, not a helper: suites' cases take their configuration.
missing_test([Suite, Case]) ->
    Module = list_to_atom(Suite),
    case code:ensure_loaded(Module) of
        {module, _} ->
            Cases = lists:flatten([cases_of(A) || A <- [Module:all() | groups(Module)]]),
            [io_lib:format("~s has no case ~s", [Suite, Case]) || not lists:member(list_to_atom(Case), Cases)];
        {error, _} ->
            [io_lib:format("no suite ~s", [Suite])]
    end.

groups(Module) ->
    case erlang:function_exported(Module, groups, 0) of
        true -> Module:groups();
        false -> []
    end.

cases_of(Case) when is_atom(Case) -> Case;
cases_of({group, _}) -> [];
cases_of({testcase, Case, _}) -> Case;
cases_of({_Name, _Properties, Cases}) -> cases_of(Cases);
cases_of(Cases) when is_list(Cases) -> [cases_of(C) || C <- Cases].

links(Text) ->
    [L || [L] <- matching(Text, "\\]\\(([^)\\s]+)\\)"), string:find(L, "://") =:= nomatch].

missing_link(File, Link) ->
    [Path | Anchor] = string:split(Link, "#"),
    Target =
        case Path of
            "" -> File;
            _ -> filename:join(filename:dirname(File), Path)
        end,
    case filelib:is_file(Target) of
        false -> [io_lib:format("no ~ts", [Link])];
        true -> [io_lib:format("no heading for ~ts", [Link]) || A <- Anchor, not lists:member(A, anchors(Target))]
    end.

%% As the usual renderers make them of headings.
anchors(File) ->
    {ok, Text} = file:read_file(File),
    [
        lists:flatten(string:replace([C || C <- string:lowercase(H), is_anchor(C)], " ", "-", all))
     || [H] <- matching(Text, "^#+ (.*)$")
    ].

is_anchor(C) ->
    (C >= $a andalso C =< $z) orelse (C >= $0 andalso C =< $9) orelse C =:= $\s orelse C =:= $- orelse C =:= $_.

missing_targets(Texts) ->
    {ok, Makefile} = file:read_file("Makefile"),
    [
        io_lib:format("the Makefile has no ~s", [Target])
     || Text <- Texts,
        [Words] <- matching(Text, "^(?:sudo )?make([^#\n]*)"),
        Target <- string:lexemes(Words, " "),
        hd(Target) =/= $-,
        not lists:member($=, Target),
        re:run(Makefile, ["^", Target, ":"], [multiline]) =:= nomatch
    ].
