# SPDX-License-Identifier: Apache-2.0
[inputs: ["{mix,.formatter}.exs", "{config,lib,test}/**/*.{ex,exs}"]]
