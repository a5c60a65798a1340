%% SPDX-License-Identifier: Apache-2.0

%% @doc JSON, written only, as OTP has it from version 27 on.
-module(bench_json).

-export([encode/1]).

-export_type([value/0]).

-type value() :: #{atom() => value()} | [value()] | atom() | binary() | number().
%% Atoms and binaries become strings, but for `true', `false' and `null'.

-spec encode(value()) -> iodata().
encode(Map) when is_map(Map) ->
    Members = [[encode(Key), $:, encode(Value)] || {Key, Value} <- lists:sort(maps:to_list(Map))],
    [${, lists:join($,, Members), $}];
encode(List) when is_list(List) ->
    [$[, lists:join(",\n", [encode(Value) || Value <- List]), $]];
encode(Word) when Word =:= true; Word =:= false; Word =:= null ->
    atom_to_binary(Word);
encode(Atom) when is_atom(Atom) ->
    encode(atom_to_binary(Atom));
encode(Integer) when is_integer(Integer) ->
    integer_to_list(Integer);
encode(Float) when is_float(Float) ->
    float_to_list(Float, [{decimals, 3}]);
encode(Text) when is_binary(Text) ->
    [$", [escape(Char) || Char <- unicode:characters_to_list(Text)], $"].

escape($") -> "\\\"";
escape($\\) -> "\\\\";
escape(Char) when Char < 32 -> io_lib:format("\\u~4.16.0b", [Char]);
escape(Char) -> unicode:characters_to_binary([Char]).
