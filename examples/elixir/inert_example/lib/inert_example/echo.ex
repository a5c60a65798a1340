# SPDX-License-Identifier: Apache-2.0

defmodule InertExample.Echo do
  @moduledoc """
  A UDP server that sends every datagram back.

  It shows how a `GenServer` waits for a file descriptor among its other messages:
  `:prim_inert.fdset/3` asks for one message, and when that has come and its datagram is
  dealt with, it asks again. So there is one message in the mailbox at most, however fast
  the clients are; what they send meanwhile waits in the kernel.

      iex> {:ok, server} = InertExample.Echo.start_link(port: 0)
      iex> port = InertExample.Echo.port(server)
      iex> InertExample.Client.request({127, 0, 0, 1}, port, "hello")
      {:ok, "hello"}
      iex> GenServer.stop(server)
      :ok

  What ends it, so that its supervisor starts it anew: an error of the socket
  (`{:recv, reason}`), and inert refusing the file descriptor (`{:fdset, reason}`).

  Once inert's port is closed, no message of it will ever come. So the server monitors
  the port; when it closes, inert's own supervisor opens another one, and the server
  asks that one. Its socket stays open meanwhile.

  The file descriptor is one that the VM uses, too, for `:gen_udp`. inert's pollset
  `:epoll`, the default on Linux, can share those. With `:erts` only one of the two may wait
  at a time: hence a passive socket, which is received from with a timeout of 0.
  """

  use GenServer

  @type option ::
          {:port, :inet.port_number()} | {:ip, :inet.ip_address()} | {:name, GenServer.name()}

  # How long to wait for inert's supervisor, in milliseconds.
  @retry 50

  @doc """
  Starts a server, linked to the caller.

    * `:port` - where to listen; 0, the default, lets the kernel choose (see `port/1`)
    * `:ip` - the default is `{127, 0, 0, 1}`, for this machine only
    * `:name` - as for `GenServer.start_link/3`

  Returns `{:error, reason}` if the socket cannot be opened, with `:eaddrinuse` or its kin.
  """
  @spec start_link([option]) :: GenServer.on_start()
  def start_link(options \\ []) do
    {name, options} = Keyword.split(options, [:name])
    GenServer.start_link(__MODULE__, options, name)
  end

  @doc "The port that a server listens on."
  @spec port(GenServer.server()) :: :inet.port_number()
  def port(server \\ __MODULE__) do
    GenServer.call(server, :port)
  end

  @impl true
  def init(options) do
    # For terminate/2, which clears before it closes.
    Process.flag(:trap_exit, true)

    with {:ok, socket} <- open(options),
         {:ok, fd} <- :inet.getfd(socket) do
      {:ok, %{socket: socket, fd: fd, pollid: nil}, {:continue, :connect}}
    else
      {:error, reason} -> {:stop, reason}
    end
  end

  @impl true
  def handle_continue(:connect, state), do: connect(state)

  @impl true
  def handle_call(:port, _from, state) do
    {:ok, port} = :inet.port(state.socket)
    {:reply, port, state}
  end

  @impl true
  def handle_info({:inert_read, pollid, fd}, %{pollid: pollid, fd: fd} = state) do
    # Ready does not mean that there is a datagram: one with a bad checksum is dropped
    # when it is read. A timeout of 0 asks, and does not wait.
    case :gen_udp.recv(state.socket, 0, 0) do
      {:ok, {ip, port, data}} ->
        # UDP: a datagram that cannot be sent is a datagram lost.
        _ = :gen_udp.send(state.socket, ip, port, data)
        wait(state)

      {:error, reason} when reason in [:timeout, :econnrefused] ->
        wait(state)

      {:error, reason} ->
        {:stop, {:recv, reason}, state}
    end
  end

  def handle_info({:DOWN, _monitor, :port, pollid, _reason}, %{pollid: pollid} = state) do
    connect(%{state | pollid: nil})
  end

  def handle_info(:connect, %{pollid: nil} = state), do: connect(state)

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    _ = :inert.fdclr(state.fd)
    :gen_udp.close(state.socket)
  end

  defp open(options) do
    port = Keyword.get(options, :port, 0)
    ip = Keyword.get(options, :ip, {127, 0, 0, 1})
    :gen_udp.open(port, [:binary, active: false, ip: ip])
  end

  # The port that is asked is the port that is monitored.
  defp connect(state) do
    case :inert.pollid() do
      :undefined ->
        Process.send_after(self(), :connect, @retry)
        {:noreply, state}

      pollid ->
        Port.monitor(pollid)
        wait(%{state | pollid: pollid})
    end
  end

  # If the next datagram is there already, the message comes at once.
  defp wait(state) do
    case :prim_inert.fdset(state.pollid, state.fd, :read) do
      :ok -> {:noreply, state}
      # Closed just now: the monitor's message is on its way.
      {:error, :closed} -> {:noreply, state}
      {:error, reason} -> {:stop, {:fdset, reason}, state}
    end
  end
end
