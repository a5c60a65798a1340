// SPDX-License-Identifier: Apache-2.0

//! fdio: raw system calls on raw file descriptors, for Erlang.
//!
//! This is the support of inert's examples, tests and benchmarks, not a
//! product: the module `fdio` (`fdio.erl`) says what it promises. It knows
//! nothing about inert.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `fd.rs` | the step from an Erlang integer to a descriptor: all `unsafe` there is |
//! | `errno.rs` | errno to atom, results to terms |
//! | `address.rs` | socket addresses to and from terms |
//! | `choice.rs` | arguments that are one atom of a few, or a list |
//! | `file.rs` | calls that work on any descriptor |
//! | `socket.rs` | calls that want a socket |
//! | `message.rs` | sendmsg and recvmsg: ancillary data |
//! | `inotify.rs` | watches of directories |
//! | `timer.rs` | timers |
//! | `process.rs` | processes of the system |
//! | `tty.rs` | calls that want a terminal |
//! | `tun.rs` | TUN and TAP devices |
//!
//! Every function here runs on a normal scheduler, so none may block: new
//! descriptors are non-blocking, and a call that would wait on a descriptor
//! in blocking mode is refused (`fd::Fd::nonblocking`) or told not to
//! (`MSG_DONTWAIT`).

#[cfg(not(target_os = "linux"))]
compile_error!("fdio uses accept4(2), eventfd(2) and MSG_DONTWAIT as Linux has them");

mod address;
mod choice;
mod errno;
mod fd;
mod file;
mod inotify;
mod message;
mod process;
mod socket;
mod timer;
mod tty;
mod tun;

rustler::init!("fdio");
