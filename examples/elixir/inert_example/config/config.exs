# SPDX-License-Identifier: Apache-2.0

import Config

# Port 0 lets the kernel choose: InertExample.Echo.port() tells.
config :inert_example, port: 0

# How inert asks the kernel: :epoll (the default on Linux) or :erts.
# config :inert, pollset: :erts
