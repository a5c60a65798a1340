#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# inert as a Mix project's dependency, by path. Without Elixir here, nothing is
# to be shown, and that is said.

. "$(dirname "$0")/dep_common.sh"

if ! command -v mix >/dev/null 2>&1; then
    echo "skip the Mix project: no mix on this machine"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

# Mix runs the rebar3 it is told of, and would otherwise ask to download one.
MIX_REBAR3=$(command -v "${REBAR3:-rebar3}")
CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}
HOME=$work/home MIX_HOME=$work/home/mix
export MIX_REBAR3 CARGO_HOME RUSTUP_HOME HOME MIX_HOME
mkdir "$HOME"

project=$work/mix_project

new_project() {
    mkdir -p "$project/src"
    cat >"$project/mix.exs" <<'EX'
defmodule UserOfInert.MixProject do
  use Mix.Project

  def project do
    [app: :user_of_inert, version: "0.1.0", deps: deps()]
  end

  defp deps do
    [{:inert, path: "../inert", manager: :rebar3}]
  end
end
EX
    write_user_module "$project/src/user_of_inert.erl"
}

in_project() { (cd "$project" && "$@"); }

check "the repository can be cloned" publish
git clone --quiet "$work/inert.git" "$work/inert"
new_project
check "path dependency: mix compiles, the driver included" in_project mix compile
check "path dependency: inert starts and polls" in_project mix run --no-compile -e \
    '{:ok, _} = Application.ensure_all_started(:inert); :user_of_inert.main()'

finish
