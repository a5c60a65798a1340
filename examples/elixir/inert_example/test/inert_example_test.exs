# SPDX-License-Identifier: Apache-2.0

defmodule InertExampleTest do
  use ExUnit.Case

  import ExUnit.CaptureIO

  alias InertExample.{Client, Echo}

  @localhost {127, 0, 0, 1}

  doctest Echo
  doctest Client

  for pollset <- [:epoll, :erts] do
    describe "on the pollset #{pollset}" do
      setup do: start_with(unquote(pollset))

      test "a datagram comes back" do
        assert Client.request(@localhost, Echo.port(), "hello") == {:ok, "hello"}
      end

      test "one after another, and many clients at once" do
        port = Echo.port()

        answers =
          1..10
          |> Enum.map(fn n ->
            Task.async(fn ->
              for i <- 1..10, do: Client.request(@localhost, port, "#{n} #{i}")
            end)
          end)
          |> Task.await_many(30_000)

        assert List.flatten(answers) == for(n <- 1..10, i <- 1..10, do: {:ok, "#{n} #{i}"})
      end

      test "a client does not wait longer than it said" do
        {:ok, silent} = :gen_udp.open(0, [:binary, active: false, ip: @localhost])
        {:ok, port} = :inet.port(silent)
        assert Client.request(@localhost, port, "hello", 20) == {:error, :timeout}
        :gen_udp.close(silent)
      end

      test "nobody listening is an error, at once" do
        {:ok, socket} = :gen_udp.open(0, ip: @localhost)
        {:ok, port} = :inet.port(socket)
        :gen_udp.close(socket)
        assert Client.request(@localhost, port, "hello", :infinity) == {:error, :econnrefused}
      end

      test "a client leaves no message and no socket behind" do
        before = Port.list() |> length()
        send(self(), :mine)
        {:ok, _} = Client.request(@localhost, Echo.port(), "hello")
        assert Process.info(self(), :messages) == {:messages, [:mine]}
        assert Port.list() |> length() == before
      end

      test "a server that is killed is started anew, and serves" do
        ref = Process.monitor(Echo)
        Echo |> Process.whereis() |> Process.exit(:kill)
        assert_receive {:DOWN, ^ref, _, _, :killed}
        until(fn -> Process.whereis(Echo) end)
        assert Client.request(@localhost, Echo.port(), "hello") == {:ok, "hello"}
      end

      test "when inert's port closes, the server goes on with the next one" do
        server = Process.whereis(Echo)
        pollid = :inert.pollid()
        Port.close(pollid)
        until(fn -> :inert.pollid() not in [pollid, :undefined] end)
        assert Client.request(@localhost, Echo.port(), "hello") == {:ok, "hello"}
        assert Process.whereis(Echo) == server
      end

      test "a blocked client hears that inert was stopped" do
        {:ok, silent} = :gen_udp.open(0, [:binary, active: false, ip: @localhost])
        {:ok, port} = :inet.port(silent)
        client = Task.async(fn -> Client.request(@localhost, port, "hello", :infinity) end)
        # It has sent, so it is about to poll or polls already.
        assert {:ok, _} = :gen_udp.recv(silent, 0, 5_000)
        stop()
        on_exit(&start/0)
        assert Task.await(client) == {:error, :closed}
        :gen_udp.close(silent)
      end

      test "a socket that is closed elsewhere ends the server" do
        {:ok, server} = GenServer.start(Echo, port: 0)
        ref = Process.monitor(server)
        %{socket: socket, fd: fd} = :sys.get_state(server)
        port = Echo.port(server)
        :gen_udp.close(socket)
        send(server, {:inert_read, :inert.pollid(), fd})
        assert_receive {:DOWN, ^ref, _, _, {:recv, :closed}}
        assert Client.request(@localhost, port, "hello", 5_000) == {:error, :econnrefused}
      end
    end
  end

  test "a port that is taken is an error" do
    assert {:error, :eaddrinuse} = GenServer.start(Echo, port: Echo.port())
  end

  test "without inert a server waits for it" do
    stop()
    {:ok, server} = GenServer.start(Echo, port: 0)
    port = Echo.port(server)
    start()
    assert Client.request(@localhost, port, "hello") == {:ok, "hello"}
    GenServer.stop(server)
  end

  test "IEx shows inert's documentation" do
    shown = capture_io(fn -> IEx.Introspection.h({:inert, :poll, 3}) end)
    assert shown =~ "poll(FD"
    assert shown =~ "@spec poll(fd(), mode() | options(), timeout())"
    assert shown =~ "Blocks the calling process until the fd is ready"

    shown = capture_io(fn -> IEx.Introspection.h(:inert) end)
    assert shown =~ "Waits for readiness"
    assert shown =~ "A kind of a fd has one waiter"
  end

  defp start_with(pollset) do
    stop()
    Application.put_env(:inert, :pollset, pollset)
    start()

    on_exit(fn ->
      stop()
      Application.delete_env(:inert, :pollset)
      start()
    end)
  end

  defp stop do
    for app <- [:inert_example, :inert], do: Application.stop(app)
  end

  defp start do
    {:ok, _} = Application.ensure_all_started(:inert_example)
  end

  # Supervisors take their time: under the test's own time limit.
  defp until(condition) do
    unless condition.() do
      Process.sleep(1)
      until(condition)
    end
  end
end
