// SPDX-License-Identifier: Apache-2.0

//! Processes of the system, as descriptors: pidfd_open(2).

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal as SysSignal, pidfd_open as sys_open, pidfd_send_signal as sys_send,
};

use crate::choice::choice;
use crate::errno::{Done, Reply};
use crate::fd::Fd;

choice! {
    Signal { Hup hup, Int int, Quit quit, Kill kill, Usr1 usr1, Usr2 usr2, Term term, Cont cont, Stop stop }
}

#[rustler::nif]
fn pidfd_open(pid: i32) -> Reply<Fd> {
    // Negative numbers and 0 name process groups elsewhere, and here nothing.
    // (rustix would panic in a debug build.)
    let pid = (pid > 0)
        .then(|| Pid::from_raw(pid))
        .flatten()
        .ok_or(Errno::INVAL)?;
    Ok(sys_open(pid, PidfdFlags::NONBLOCK)?.into())
}

#[rustler::nif]
fn pidfd_send_signal(fd: Fd, signal: Signal) -> Done {
    let signal = match signal {
        Signal::Hup => SysSignal::HUP,
        Signal::Int => SysSignal::INT,
        Signal::Quit => SysSignal::QUIT,
        Signal::Kill => SysSignal::KILL,
        Signal::Usr1 => SysSignal::USR1,
        Signal::Usr2 => SysSignal::USR2,
        Signal::Term => SysSignal::TERM,
        Signal::Cont => SysSignal::CONT,
        Signal::Stop => SysSignal::STOP,
    };
    fd.borrow().and_then(|fd| sys_send(fd, signal)).into()
}
