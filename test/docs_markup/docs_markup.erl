%% SPDX-License-Identifier: Apache-2.0
%% @doc Text that Markdown would read as something else: *stars*, 2 * 3 * 4, _under_,
%% a_b_c, __d__, [x], [x](y), [x][y], [x]: z, {:x}, back\slash, \*, &lt;tag>, &amp;amp;,
%% a | b, ~tilde~, ``a "quote"'', Füße.
%%
%% # no heading
%%
%% 1. no list
%%
%% - nor this
%%
%% > nor this
%%
%% | nor | this
%%
%% <ul>
%% <li>A single letter</li>
%% <li>1 digit, `[x] (y)', `{x: y}', `#{a := b}', `g([])', `a_b', `*c*', `x\n'</li>
%% <li>- dash</li>
%% <li>+ plus</li>
%% <li>2) two</li>
%% <li><p>I first</p><p>second</p><ul><li>A nested</li><li>nested `x'</li></ul></li>
%% </ul>
%% A after the list
%% <ol><li>one</li><li>A two</li><li>3 three</li></ol>
%% ```
%% f(_A_) ->
%%
%%     *[x](y)*, `` "&".
%% '''
%% Text with <em>em *x*</em>, <strong>strong</strong>, <i>i_j</i> and <b>b</b>.
%% [http://localhost/a_b], <a href="http://localhost/c_d">a *link*</a>, {@link f/0},
%% {@link f/0. f([])}, {@link t()}, {@link inert}.
%% <h4>Head_ing *x*</h4>
-module(docs_markup).

-export([f/0]).
-export_type([t/0]).

-type t() :: ok.
%% 3. A type, [t].

-callback c(t()) -> t().
%% A callback_of * this *.

%% @equiv g([])
-spec f() -> ok.
f() -> ok.
