// SPDX-License-Identifier: Apache-2.0
//! Linked-in Erlang port drivers in safe Rust.
//!
//! A driver is a type that implements [`Driver`]; one value of it lives for
//! each open port. [`driver!`] exports it under the name that `open_port/2`
//! uses:
//!
//! ```no_run
//! use erl_driver::{BadArgument, Driver, Port, Reply, StartError};
//!
//! /// Answers each `erlang:port_control(Port, 1, Data)` with its sum so far.
//! struct Sum(u64);
//!
//! impl Driver for Sum {
//!     const NAME: &'static std::ffi::CStr = c"sum_drv";
//!
//!     fn start(_port: &Port, _command: &[u8]) -> Result<Self, StartError> {
//!         Ok(Sum(0))
//!     }
//!
//!     fn control(
//!         &mut self,
//!         _port: &Port,
//!         command: u32,
//!         data: &[u8],
//!         reply: &mut Reply,
//!     ) -> Result<(), BadArgument> {
//!         if command != 1 {
//!             return Err(BadArgument);
//!         }
//!         self.0 += data.iter().map(|byte| u64::from(*byte)).sum::<u64>();
//!         reply.push(&self.0.to_be_bytes());
//!         Ok(())
//!     }
//! }
//!
//! # #[cfg(any())]
//! erl_driver::driver!(Sum);
//! # fn main() {}
//! ```
//!
//! Build it as a `cdylib` whose `driver_*` symbols stay undefined (the VM
//! resolves them), load it with `erl_ddll:load/2`, and open a port with
//! `open_port({spawn_driver, "sum_drv"}, [])`.
//!
//! # What is taken care of
//!
//! - **Panics.** None crosses into the VM. A callback that panics writes one
//!   line to the VM's standard error, and its port is closed with an atom as
//!   exit reason that says which driver panicked, in which callback, why, and
//!   where: `'driver sum_drv: panic in control: attempt to add with overflow
//!   (src/lib.rs:23)'`. The reply of a control or call is `badarg`. `stop` still
//!   runs. Other ports of the driver go on. (A driver has no way into Erlang's
//!   logger: ERTS offers it none.)
//! - **Reentrancy.** ERTS runs `stop` inside `driver_failure`, while the
//!   failing callback is still on the stack. [`Port::fail`] therefore takes
//!   effect after the callback has returned.
//! - **Locking.** Drivers use port locking: callbacks of one port never run
//!   at the same time, those of different ports may. [`Port`] is lent for the
//!   length of a callback and cannot be kept, nor given to another thread.
//! - **Memory.** [`driver!`] makes `driver_alloc` the global allocator, so
//!   `erlang:memory/0` sees what a driver uses.
//! - **Unloading.** Nothing of this crate survives `erl_ddll:unload/1`.
//!
//! # What is not
//!
//! - The driver queue (`driver_enq` and friends), `driver_async` and threads:
//!   none is wrapped. `erl_driver_sys` has them. A thread that a driver starts
//!   must have ended before [`Driver::unload`] returns.
//! - A thread-local whose type has a destructor keeps the library in memory
//!   after an unload (glibc); the next load then finds the old statics.
//! - What ends a Rust program ends the VM: memory that is exhausted, a stack
//!   that overflows, a destructor that panics while another panic unwinds, a
//!   panic whose message panics while it is formatted. With `panic = "abort"` in
//!   the profile any panic would, so that this crate does not build with it.
//!
//! # What the types do not catch
//!
//! What the compiler rejects is in `tests/misuse/`, a file for each: a port, a reply,
//! a term or lent data kept, copied, made up or taken to another thread, a driver that
//! borrows or is bound to its thread, a state used after `stop`, two drivers in one
//! library. What it lets pass:
//!
//! - **A file descriptor that is wrong.** [`Event::from_fd`] takes any number, and
//!   [`Port::select`] refuses only what ERTS cannot handle, such as a negative one. A
//!   number that is closed, or that another file has got meanwhile, is selected
//!   all the same. Keep the file open until [`Driver::stop_select`] has run for it:
//!   of one that is closed before, ERTS may log an error, or hear nothing, or hear of
//!   the number's next file.
//! - **An event that stays selected.** Nothing deselects for the driver. What is left
//!   when [`Driver::stop`] returns, ERTS finds when it is ready next, takes away, and
//!   logs.
//! - **An event that two ports select.** The later takes it from the other, and ERTS
//!   logs that.
//! - **An event that is ready and stays selected,** without being read or written:
//!   [`Driver::ready_input`] runs again and again, and costs what a busy loop costs.
//! - **A callback that blocks or takes long.** It holds a scheduler, and the port's
//!   lock: the VM's other processes wait. Leave off after about a millisecond, and say
//!   so with [`Port::consume_timeslice`].
//! - **A lock that callbacks of several ports share,** held while one of them calls
//!   what may run another: [`Port::deselect`] may call [`Driver::stop_select`] before
//!   it returns.
//! - **A term that is none,** by its numbers: two terms in place of one, a map with a
//!   key twice, bytes that are no external term. Sending it is an error, nothing is
//!   sent: see [`Term`].
//! - **Atoms without end.** Each new one of [`Atom::new`] and of [`Term::external`]
//!   stays for as long as the VM runs, and a full table of atoms ends it.
//! - **A [`Pid`] or a [`Monitor`] of another port, or of a process that is gone.**
//!   They are numbers, which can be kept; using one is an error that is reported,
//!   and harmless.
//! - **A thread that outlives the driver, a static with what must be given back.**
//!   [`Driver::unload`] is the last chance to end or to give back.

#[cfg(panic = "abort")]
compile_error!("erl_driver needs `panic = \"unwind\"`: an abort would end the Erlang VM");

mod alloc;
mod entry;
mod event;
mod panic;
mod port;
mod process;
mod reply;
mod term;

pub use alloc::DriverAlloc;
pub use entry::{Entry, IoVec};
pub use event::{Event, Mode};
pub use port::{Failure, Port, SelectError, SendError, TimerError};
pub use process::{Monitor, NoProcess, Pid};
pub use reply::Reply;
pub use term::{Atom, Term};

#[doc(hidden)]
pub use erl_driver_sys as sys;

/// The name of an errno as ERTS spells it, in lower case: `enoent` for `ENOENT`,
/// `unknown` for a number that is none, or (OTP 29) `errno_` and the number.
pub fn errno_name(errno: i32) -> &'static std::ffi::CStr {
    // SAFETY: erl_errno_id takes any number and returns a string constant, or one that the
    // VM keeps for ever.
    unsafe { std::ffi::CStr::from_ptr(sys::erl_errno_id(errno)) }
}

/// The version of ERTS, as `erlang:system_info(version)` has it: `13.1.5`, for example.
pub fn erts_version() -> &'static std::ffi::CStr {
    let mut info = std::mem::MaybeUninit::<sys::ErlDrvSysInfo>::zeroed();
    // SAFETY: ERTS fills in as much as the size says, and the version's text is a constant
    // in every ERTS.
    unsafe {
        sys::driver_system_info(info.as_mut_ptr(), size_of::<sys::ErlDrvSysInfo>());
        std::ffi::CStr::from_ptr((*info.as_ptr()).erts_version)
    }
}

/// The caller's arguments are wrong: `erlang:port_control/3` and
/// `erlang:port_call/3` raise `badarg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadArgument;

impl std::fmt::Display for BadArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bad argument")
    }
}

impl std::error::Error for BadArgument {}

/// Why [`Driver::start`] opened no port: the reason of the error that
/// `open_port/2` raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartError {
    /// `einval`.
    General,
    /// `badarg`: the command string is wrong.
    BadArgument,
    /// The name of this errno in lower case, `emfile` for `EMFILE`; `unknown` for
    /// a number that is none.
    Errno(i32),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::General => f.write_str("the driver did not start"),
            StartError::BadArgument => f.write_str("bad argument in the driver's command"),
            StartError::Errno(errno) => std::io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        error
            .raw_os_error()
            .map_or(StartError::General, StartError::Errno)
    }
}

/// A driver: the state of one port, and the callbacks that ERTS runs on it.
///
/// Implement [`start`](Driver::start) and the callbacks you want; the others
/// do what their documentation says. The names are those of `driver_entry(3)`.
pub trait Driver: Sized + Send + 'static {
    /// The name that `open_port/2` and `erl_ddll:load/2` know it by; that of the
    /// shared object without its ending.
    const NAME: &'static std::ffi::CStr;

    /// The driver was loaded, no port is open yet. An error, whichever, or a
    /// panic refuses the load: `erl_ddll:load/2` returns an error that
    /// `erl_ddll:format_error/1` spells "Driver init failed". `unload` does
    /// not run then.
    fn load() -> Result<(), StartError> {
        Ok(())
    }

    /// The driver is about to be unloaded; all its ports are closed. Statics
    /// are gone afterwards, without their destructors being run. A panic is
    /// reported and changes nothing.
    fn unload() {}

    /// A port is being opened by [`Port::owner`], who is also its
    /// [`caller`](Port::caller). `command` is the string given to
    /// `open_port/2`, the driver's name included, without the final NUL.
    ///
    /// An error or a panic (`einval`) is raised by `open_port/2`; `stop` does not
    /// run then, so that what was selected must be deselected before.
    fn start(port: &Port, command: &[u8]) -> Result<Self, StartError>;

    /// The port is closing, whoever closed it, or the VM is halting. Deselect
    /// what is still selected; terms can still be sent. Its monitors have ended,
    /// and its timer is cancelled. Runs once for each port that
    /// `start` has opened, also after a panic. A panic here is reported, but the
    /// port has its exit reason already.
    fn stop(self, port: &Port) {
        let _ = port;
    }

    /// Data for the port, of any length: `Port ! {Owner, {command, Data}}` or
    /// `erlang:port_command/2`. By default it is dropped. A driver that has its
    /// own [`outputv`](Driver::outputv) is not called here.
    fn output(&mut self, port: &Port, data: &[u8]) {
        let _ = (port, data);
    }

    /// As [`output`](Driver::output), in pieces and without copying. By default
    /// the pieces are joined and given to `output`.
    fn outputv(&mut self, port: &Port, data: &IoVec) {
        self.output(port, &data.concat());
    }

    /// `erlang:port_control/3`, with any `command` from 0 to 4,294,967,295 and
    /// `data` of any length. What is pushed to `reply` is the result, a list of
    /// bytes or, with [`Reply::make_binary`], a binary; it reaches the caller also
    /// if the port [fails](Port::fail) in this callback. By default every command
    /// is a bad argument.
    fn control(
        &mut self,
        port: &Port,
        command: u32,
        data: &[u8],
        reply: &mut Reply,
    ) -> Result<(), BadArgument> {
        let _ = (port, command, data, reply);
        Err(BadArgument)
    }

    /// `erlang:port_call/3`: as control, but `data` and `reply` are one term
    /// each, in the external format. A reply that is no such term, or nothing,
    /// raises `badarg`, too. (Beyond its first byte ERTS checks it; a malformed
    /// one longer than some 250 bytes is not freed then.) By default every
    /// command is a bad argument.
    fn call(
        &mut self,
        port: &Port,
        command: u32,
        data: &[u8],
        reply: &mut Reply,
    ) -> Result<(), BadArgument> {
        let _ = (port, command, data, reply);
        Err(BadArgument)
    }

    /// An event selected with [`Mode::READ`] is ready. By default it is
    /// deselected, so that an event nobody handles does not spin.
    fn ready_input(&mut self, port: &Port, event: Event) {
        let _ = port.deselect(event, Mode::READ);
    }

    /// An event selected with [`Mode::WRITE`] is ready. By default it is
    /// deselected.
    fn ready_output(&mut self, port: &Port, event: Event) {
        let _ = port.deselect(event, Mode::WRITE);
    }

    /// ERTS is done with an event that was deselected with [`Mode::USE`]: it
    /// may be closed now. Runs at once, inside [`Port::deselect`], or later, on
    /// any thread, and without the port, which may be gone; the library is still
    /// there. A panic is reported and closes no port. By default nothing is
    /// closed.
    fn stop_select(event: Event) {
        let _ = event;
    }

    /// The process of a monitor is gone; [`Port::monitored`] says which it was.
    /// Runs once for each monitor, which ends when this returns.
    ///
    /// A port that [fails](Port::fail) or panics here closes a moment later, and
    /// no callback but `stop` runs before: ERTS cannot close it with this one
    /// on the stack. Until then controls and calls are answered with `badarg`,
    /// and the port's timer is cancelled.
    fn process_exit(&mut self, port: &Port, monitor: Monitor) {
        let _ = (port, monitor);
    }

    /// The timer set with [`Port::set_timer`] has expired. It runs once; set it
    /// again for more.
    fn timeout(&mut self, port: &Port) {
        let _ = port;
    }
}

/// Exports `driver_init`, through which `erl_ddll` finds the driver, and makes
/// `driver_alloc` the crate's global allocator.
///
/// Takes the type that implements [`Driver`]. To be used once in a `cdylib`, also
/// under `#![forbid(unsafe_code)]`. The allocator can be left out, for a crate
/// that has its own, of which `erlang:memory/0` then knows nothing:
/// `driver!(MyDriver, allocator = none)`.
#[macro_export]
macro_rules! driver {
    ($driver:ty) => {
        #[global_allocator]
        static ERL_DRIVER_ALLOC: $crate::DriverAlloc = $crate::DriverAlloc;
        $crate::driver!($driver, allocator = none);
    };
    ($driver:ty, allocator = none) => {
        static ERL_DRIVER_ENTRY: $crate::Entry = $crate::Entry::new::<$driver>();

        /// Called by the VM when it loads the driver.
        #[unsafe(no_mangle)]
        pub extern "C" fn driver_init() -> *mut $crate::sys::ErlDrvEntry {
            ERL_DRIVER_ENTRY.get()
        }
    };
}
