# SPDX-License-Identifier: Apache-2.0

defmodule InertExample.Application do
  @moduledoc false
  # inert is an application of its own, started before this one: see mix.exs.

  use Application

  @impl true
  def start(_type, _args) do
    port = Application.fetch_env!(:inert_example, :port)
    children = [{InertExample.Echo, port: port, name: InertExample.Echo}]
    Supervisor.start_link(children, strategy: :one_for_one, name: InertExample.Supervisor)
  end
end
