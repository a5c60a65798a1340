# SPDX-License-Identifier: Apache-2.0

defmodule InertExample.MixProject do
  use Mix.Project

  def project do
    [
      app: :inert_example,
      version: "0.1.0",
      elixir: "~> 1.14",
      deps: deps(),
      releases: [inert_example: [include_executables_for: [:unix]]]
    ]
  end

  def application do
    [
      mod: {InertExample.Application, []},
      # For tests: the documentation as IEx shows it.
      extra_applications: [:logger] ++ if(Mix.env() == :test, do: [:iex], else: [])
    ]
  end

  # In a project of your own: {:inert, git: "<inert's repository>", branch: "main"}.
  defp deps do
    [{:inert, path: "../../..", manager: :rebar3}]
  end
end
