# SPDX-License-Identifier: Apache-2.0

defmodule InertExample.Client do
  @moduledoc """
  Asks a UDP server, and waits for its answer.

  It shows the other way to wait: `:inert.poll/3` blocks the calling process, and no
  other, until the file descriptor is ready or the time is over. Messages that the
  process gets meanwhile stay in its mailbox.
  """

  @timeout 5_000

  @doc """
  Sends a datagram and returns the answer.

      iex> InertExample.Client.request({127, 0, 0, 1}, InertExample.Echo.port(), "hello")
      {:ok, "hello"}

  Errors: `:timeout` (in milliseconds), `:econnrefused` (nobody listens there),
  `:closed` (inert was stopped meanwhile), and those of the socket.
  """
  @spec request(:inet.ip_address(), :inet.port_number(), iodata, timeout) ::
          {:ok, binary} | {:error, atom}
  def request(ip, port, data, timeout \\ @timeout) do
    with {:ok, socket} <- :gen_udp.open(0, [:binary, active: false]) do
      try do
        # Connected: only answers of this server, and its absence is an error.
        with :ok <- :gen_udp.connect(socket, ip, port),
             :ok <- :gen_udp.send(socket, data) do
          receive_answer(socket, timeout)
        end
      after
        # Nothing is armed any more: poll leaves nothing behind.
        :gen_udp.close(socket)
      end
    end
  end

  defp receive_answer(socket, timeout) do
    with {:ok, fd} <- :inet.getfd(socket),
         {:ok, :read} <- :inert.poll(fd, :read, timeout),
         {:ok, {_ip, _port, answer}} <- :gen_udp.recv(socket, 0, 0) do
      {:ok, answer}
    end
  end
end
