#!/usr/bin/env escript
%% SPDX-License-Identifier: Apache-2.0
%%
%% test/docs_chunks.escript DIRECTORY SOURCE...
%%
%% What scripts/docs-erlang makes of the sources reads in the shell as what EDoc makes of
%% them, word for word, in the format that is due on this OTP. DIRECTORY is for the chunks.

-mode(compile).

main([Directory | Sources]) ->
    ok = io:setopts([{encoding, unicode}]),
    EDoc = filename:join(Directory, "edoc"),
    Ours = filename:join(Directory, "ours"),
    ok = edoc:files(Sources, [
        {preprocess, true}, {doclet, edoc_doclet_chunks}, {layout, edoc_layout_chunks}, {dir, EDoc}
    ]),
    "" = os:cmd(lists:join(" ", ["scripts/docs-erlang chunks", Ours | Sources]) ++ " 2>&1 >/dev/null"),
    Results = [compare(list_to_atom(filename:basename(Source, ".erl")), EDoc, Ours) || Source <- Sources],
    lists:sum(Results) > 0 orelse error(nothing_compared).

compare(Module, EDoc, Ours) ->
    Expected = chunk(Module, EDoc),
    Found = chunk(Module, Ours),
    Format =
        case list_to_integer(erlang:system_info(otp_release)) >= 27 of
            true -> <<"text/markdown">>;
            false -> <<"application/erlang+html">>
        end,
    Format = element(4, Found),
    %% Beside the format and the texts it is the same.
    Expected = setelement(7, setelement(5, setelement(4, Found, element(4, Expected)), element(5, Expected)), [
        setelement(4, Entry, Doc)
     || {Entry, {_, _, _, Doc, _}} <- lists:zip(element(7, Found), element(7, Expected))
    ]),
    Shown = [
        {Name, words(render(Name, Module, Expected)), words(render(Name, Module, Found))}
     || Name <- [Module | [Name || {Name, _, _, #{}, _} <- element(7, Found)]]
    ],
    [] = [{Name, A -- B, B -- A} || {Name, A, B} <- Shown, A =/= B],
    length(Shown).

chunk(Module, Directory) ->
    {ok, Chunk} = file:read_file(filename:join([Directory, "chunks", atom_to_list(Module) ++ ".chunk"])),
    binary_to_term(Chunk).

render({function, Name, Arity}, Module, Docs) -> shell_docs:render(Module, Name, Arity, Docs, #{ansi => false});
render({type, Name, Arity}, Module, Docs) -> shell_docs:render_type(Module, Name, Arity, Docs, #{ansi => false});
render({callback, Name, Arity}, Module, Docs) ->
    shell_docs:render_callback(Module, Name, Arity, Docs, #{ansi => false});
render(Module, Module, Docs) -> shell_docs:render(Module, Docs, #{ansi => false}).

words(Text) -> string:lexemes(unicode:characters_to_list(Text), " \n\t").
