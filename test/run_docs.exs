# SPDX-License-Identifier: Apache-2.0
#
# Runs the Elixir examples of Markdown files: mix run test/run_docs.exs FILE...
#
# Blocks fenced as `elixir' are run in the order of the file, with bindings that last to
# its end. After `iex> ' comes what IEx would show, or nothing if that does not matter.
# `<!-- elixir CODE -->' is evaluated where it stands. Prints a line for each block that is
# broken, and `N passed, N failed'.

defmodule RunDocs do
  def main(files) do
    results = Enum.flat_map(files, &run_file/1)
    failed = Enum.count(results, &(&1 != :ok))
    for {:failed, where, why} <- results, do: IO.puts("not ok #{where}\n    #{why}")
    IO.puts("#{length(results) - failed} passed, #{failed} failed")
    System.halt(min(1, failed))
  end

  defp run_file(file) do
    {results, _bindings} =
      file |> File.read!() |> blocks() |> Enum.map_reduce([], &run_block(file, &1, &2))

    results
  end

  defp blocks(text) do
    ~r/^```elixir\n(.*?)^```$|^<!-- elixir (.*?)-->/ms
    |> Regex.scan(text, capture: :all_but_first)
    |> Enum.map(&List.last/1)
  end

  defp run_block(file, text, bindings) do
    # An exit signal or a wait in vain must not take the runner along.
    task = Task.Supervisor.async_nolink(RunDocs.Tasks, fn -> run(steps(text), bindings) end)

    case Task.yield(task, 30_000) || Task.shutdown(task, :brutal_kill) do
      {:ok, bindings} -> {:ok, bindings}
      other -> {{:failed, "#{file}: #{first_line(text)}", inspect(other)}, bindings}
    end
  end

  defp first_line(text), do: text |> String.split("\n") |> hd()

  defp steps("iex>" <> _ = text) do
    ~r/^iex> (.*?)$(.*?)(?=^iex> |\z)/ms
    |> Regex.scan(text, capture: :all_but_first)
    |> Enum.map(fn [code, shown] ->
      {more, shown} =
        shown |> String.split("\n") |> Enum.split_with(&String.starts_with?(&1, "...>"))

      code = Enum.join([code | Enum.map(more, &String.trim_leading(&1, "...>"))], "\n")
      {code, shown |> Enum.join("\n") |> String.trim()}
    end)
  end

  defp steps(text), do: [{text, ""}]

  defp run(steps, bindings) do
    Enum.reduce(steps, bindings, fn {code, shown}, bindings ->
      {value, bindings} = Code.eval_string(code, bindings)
      got = inspect(value)
      shown in ["", got] or raise "#{code} gave #{got}, where the file shows #{shown}"
      bindings
    end)
  end
end

{:ok, _} = Task.Supervisor.start_link(name: RunDocs.Tasks)
RunDocs.main(System.argv())
