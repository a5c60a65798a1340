// SPDX-License-Identifier: Apache-2.0
//! inert's linked-in driver: waits for readiness of file descriptors on behalf
//! of Erlang processes.
//!
//! | module | what it is |
//! | --- | --- |
//! | `wire` | the bytes of `erlang:port_control/3` |
//! | `service` | who may wait, who is told |
//! | `table` | the waiters |
//! | `pages` | a value per fd |
//! | `pollset` | how the kernel is asked to watch |
//! | `reference` | the tag of a poll's message |
//! | `sys` | system calls, with all the `unsafe` |
//! | `host` | the VM's side, through `erl_driver` |
//!
//! Tests are built without `host` and the driver itself: what they call exists
//! in a VM only.

#![deny(unsafe_code)]
#![cfg_attr(test, allow(dead_code))]

mod kinds;
mod pages;
mod pollset;
mod reference;
mod service;
mod sys;
mod table;
mod wire;

#[cfg(not(test))]
mod host;
#[cfg(not(test))]
mod inert;
