// SPDX-License-Identifier: Apache-2.0
//! The port of a running callback, and what a driver can do with it.

use crate::{Event, Mode, Monitor, NoProcess, Pid, Term};
use erl_driver_sys as sys;
use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_ulong};
use std::marker::PhantomData;
use std::time::Duration;

/// The port that a callback runs for. Lent for the length of the callback, on
/// the thread that holds the port's lock.
///
/// It cannot be kept:
///
/// ```compile_fail,E0521
/// # use erl_driver::Port;
/// # use std::cell::Cell;
/// thread_local! {
///     static KEPT: Cell<Option<&'static Port>> = const { Cell::new(None) };
/// }
///
/// fn keep(port: &Port) {
///     KEPT.set(Some(port));
/// }
/// ```
///
/// nor copied:
///
/// ```compile_fail,E0507
/// # use erl_driver::Port;
/// fn copy(port: &Port) -> Port {
///     *port
/// }
/// ```
///
/// nor used by another thread, not even one that ends before the callback does:
///
/// ```compile_fail,E0277
/// # use erl_driver::Port;
/// fn elsewhere(port: &Port) {
///     std::thread::scope(|scope| {
///         scope.spawn(|| port.owner());
///     });
/// }
/// ```
pub struct Port {
    raw: sys::ErlDrvPort,
    id: sys::ErlDrvTermData,
    failure: Cell<Option<Failure>>,
    callback: Callback,
    /// Neither Send nor Sync: what ERTS allows here depends on the thread.
    thread_bound: PhantomData<*mut ()>,
}

/// How a port fails: see [`Port::fail`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The exit reason is `normal`. With the option `eof` of `open_port/2` the
    /// owner gets `{Port, eof}` instead, and the port stays open.
    Eof,
    /// The exit reason is the name of this errno, `einval` for `EINVAL`;
    /// `unknown` for a number that is none.
    Posix(i32),
    /// The exit reason is this atom (Latin-1, cut at 255 characters).
    Atom(CString),
}

/// `driver_select` refused: the fd is negative, or not below what ERTS can
/// handle (`max_fds` of `erlang:system_info(check_io)`). Whether it is open is
/// not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectError;

impl std::fmt::Display for SelectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("driver_select refused the event")
    }
}

impl std::error::Error for SelectError {}

/// Why a term was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// The receiver is not there (any more), or no process.
    NoProcess,
    /// The term is malformed: see [`Term`]. Nothing was sent.
    BadTerm,
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SendError::NoProcess => "no such process",
            SendError::BadTerm => "malformed term",
        })
    }
}

impl std::error::Error for SendError {}

/// The port has no timer (any more): it is closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerError;

impl std::fmt::Display for TimerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the port has no timer")
    }
}

impl std::error::Error for TimerError {}

/// The callback that a port is lent to, as far as that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callback {
    Any,
    /// With the monitor that fired.
    ProcessExit(Monitor),
    Stop,
}

impl Port {
    /// # Safety
    /// A callback of this port is running on this thread, and runs longer than
    /// the `Port` lives.
    pub(crate) unsafe fn new(
        raw: sys::ErlDrvPort,
        id: sys::ErlDrvTermData,
        callback: Callback,
    ) -> Port {
        Port {
            raw,
            id,
            failure: Cell::new(None),
            callback,
            thread_bound: PhantomData,
        }
    }

    pub(crate) fn id(&self) -> sys::ErlDrvTermData {
        self.id
    }

    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure.take()
    }

    /// Selects an event, for the modes given in addition to those it has. While
    /// it is selected and ready, [`ready_input`](crate::Driver::ready_input) or
    /// [`ready_output`](crate::Driver::ready_output) run again and again.
    ///
    /// It is the driver's job to deselect whatever it has selected before
    /// [`stop`](crate::Driver::stop) returns. Two ports that select the same
    /// event steal it from each other, and ERTS logs that.
    pub fn select(&self, event: Event, mode: Mode) -> Result<(), SelectError> {
        self.driver_select(event, mode, 1)
    }

    /// Takes modes away from a selected event; those it does not have do not
    /// matter. With [`Mode::USE`] all are taken, ERTS gives the event up and then
    /// calls [`stop_select`](crate::Driver::stop_select), also for an event that
    /// was not selected at all.
    pub fn deselect(&self, event: Event, mode: Mode) -> Result<(), SelectError> {
        self.driver_select(event, mode, 0)
    }

    fn driver_select(&self, event: Event, mode: Mode, on: c_int) -> Result<(), SelectError> {
        // SAFETY: a callback of this port is running. Events are numbers that
        // ERTS checks; it may call stop_select from here, which takes no state.
        match unsafe { sys::driver_select(self.raw, event.raw(), mode.raw(), on) } {
            0 => Ok(()),
            _ => Err(SelectError),
        }
    }

    /// Sends a term to a process. Terms sent to one process arrive in order.
    /// `start` and `stop` may send, too.
    pub fn send(&self, to: Pid, term: &Term) -> Result<(), SendError> {
        let (words, length) = term.words().ok_or(SendError::BadTerm)?;
        // SAFETY: the words are well-formed by construction and what they
        // point to is borrowed by the term. ERTS only reads them.
        let sent =
            unsafe { sys::erl_drv_send_term(self.id, to.0, words.as_ptr().cast_mut(), length) };
        match sent {
            1.. => Ok(()),
            0 => Err(SendError::NoProcess),
            _ => Err(SendError::BadTerm),
        }
    }

    /// Sends a term to the port's owner: it arrives as it is, without
    /// `{Port, {data, _}}` around it.
    pub fn send_owner(&self, term: &Term) -> Result<(), SendError> {
        let (words, length) = term.words().ok_or(SendError::BadTerm)?;
        // SAFETY: as in `send`.
        let sent = unsafe { sys::erl_drv_output_term(self.id, words.as_ptr().cast_mut(), length) };
        match sent {
            1.. => Ok(()),
            0 => Err(SendError::NoProcess),
            _ => Err(SendError::BadTerm),
        }
    }

    /// Sends `{Port, {data, Data}}` to the port's owner, as a list of bytes, or
    /// as the options of `open_port/2` say (`binary`, `{line, L}`). An owner that
    /// is gone is no error; that error is a port that is gone.
    pub fn output(&self, data: &[u8]) -> Result<(), SendError> {
        // SAFETY: ERTS copies the bytes.
        let sent = unsafe {
            sys::driver_output(
                self.raw,
                data.as_ptr().cast::<c_char>().cast_mut(),
                data.len(),
            )
        };
        if sent == 0 {
            Ok(())
        } else {
            Err(SendError::NoProcess)
        }
    }

    /// The port's owner, the process connected to it.
    pub fn owner(&self) -> Pid {
        // SAFETY: a callback of this port is running.
        Pid(unsafe { sys::driver_connected(self.raw) })
    }

    /// The process that made the call in `start`, `output`, `outputv`, `control`
    /// or `call`. Elsewhere it is nobody: to monitor it or to send to it fails
    /// with `NoProcess`, and a term that has it is malformed. (A `stop` that
    /// follows from such a callback still has its caller.)
    pub fn caller(&self) -> Pid {
        // SAFETY: a callback of this port is running.
        Pid(unsafe { sys::driver_caller(self.raw) })
    }

    /// Monitors a process: [`process_exit`](crate::Driver::process_exit) runs
    /// once when it is gone, later than this callback. A process can be monitored
    /// more than once. All monitors end with the port, before
    /// [`stop`](crate::Driver::stop), where this fails.
    pub fn monitor(&self, process: Pid) -> Result<Monitor, NoProcess> {
        // ERTS has ended the port's monitors before: this one would be lost.
        if self.callback == Callback::Stop {
            return Err(NoProcess);
        }
        // Zeros: ERTS leaves the last bytes of a monitor as they are.
        let mut monitor = sys::ErlDrvMonitor {
            data: [0; size_of::<sys::ErlDrvMonitor>()],
        };
        // SAFETY: ERTS writes the monitor, if it returns 0. It looks the process
        // up, and takes a pid that is none for one that is gone.
        match unsafe { sys::driver_monitor_process(self.raw, process.0, &mut monitor) } {
            0 => Ok(Monitor(monitor)),
            _ => Err(NoProcess),
        }
    }

    /// Ends a monitor. An error says that it is none of this port's (any more),
    /// or the one that [`process_exit`](crate::Driver::process_exit) is running
    /// for, which ends by itself.
    pub fn demonitor(&self, monitor: &Monitor) -> Result<(), NoProcess> {
        // ERTS removes that one after the callback, whether or not it is still
        // there (`erts_fire_port_monitor` in io.c): removed twice, its
        // neighbours in the tree of monitors are overwritten.
        if self.callback == Callback::ProcessExit(*monitor) {
            return Err(NoProcess);
        }
        // SAFETY: ERTS checks the monitor against those of the port.
        match unsafe { sys::driver_demonitor_process(self.raw, &monitor.0) } {
            0 => Ok(()),
            _ => Err(NoProcess),
        }
    }

    /// The process of a monitor, also inside
    /// [`process_exit`](crate::Driver::process_exit). `None` if the monitor is
    /// none of this port's (any more).
    pub fn monitored(&self, monitor: &Monitor) -> Option<Pid> {
        // SAFETY: ERTS checks the monitor against those of the port.
        let pid = unsafe { sys::driver_get_monitored_process(self.raw, &monitor.0) };
        // SAFETY: a constant.
        (pid != unsafe { sys::driver_mk_term_nil() }).then_some(Pid(pid))
    }

    /// Closes the port with a reason, once the running callback has returned:
    /// its owner and links get an exit signal, and
    /// [`stop`](crate::Driver::stop) runs. A control or call is still answered.
    /// Without effect in `start` (return an error there) and `stop`; a moment
    /// later in [`process_exit`](crate::Driver::process_exit). The last of
    /// several reasons counts.
    pub fn fail(&self, failure: Failure) {
        self.failure.set(Some(failure));
    }

    /// Has [`timeout`](crate::Driver::timeout) called once, not before `delay`
    /// has passed, rounded up to whole milliseconds. Replaces a timer that is
    /// running; a port has one. More than a hundred years (on 32-bit machines,
    /// 49 days) count as that. Fails in [`stop`](crate::Driver::stop).
    pub fn set_timer(&self, delay: Duration) -> Result<(), TimerError> {
        // ERTS has cancelled the port's timer before. This one would keep the
        // port's memory, and the driver loaded, until it expires.
        if self.callback == Callback::Stop {
            return Err(TimerError);
        }
        let milliseconds = milliseconds(delay);
        // SAFETY: a callback of this port is running.
        match unsafe { sys::driver_set_timer(self.raw, milliseconds) } {
            0 => Ok(()),
            _ => Err(TimerError),
        }
    }

    /// Cancels the timer, if one is running.
    pub fn cancel_timer(&self) -> Result<(), TimerError> {
        // SAFETY: a callback of this port is running.
        match unsafe { sys::driver_cancel_timer(self.raw) } {
            0 => Ok(()),
            _ => Err(TimerError),
        }
    }

    /// Tells the scheduler that the callback has used `percent` of a timeslice
    /// (1 to 100, cut to that range). True if the callback should return soon.
    pub fn consume_timeslice(&self, percent: u8) -> bool {
        // SAFETY: a callback of this port is running.
        unsafe { sys::erl_drv_consume_timeslice(self.raw, c_int::from(percent.clamp(1, 100))) != 0 }
    }

    /// Marks the port busy or not. Processes that send data (`output`) to a busy
    /// port are suspended until it is not; `control` and `call` still run.
    pub fn set_busy(&self, busy: bool) {
        // SAFETY: a callback of this port is running.
        unsafe { sys::set_busy_port(self.raw, c_int::from(busy)) }
    }

    pub(crate) fn set_control_flags(&self, binary: bool) {
        let flags = if binary {
            sys::PORT_CONTROL_FLAG_BINARY as c_int
        } else {
            0
        };
        // SAFETY: a callback of this port is running.
        unsafe { sys::set_port_control_flags(self.raw, flags) }
    }
}

/// ERTS adds its clock to the number, as a signed one: far above what it can
/// stand for, a timer would expire at once.
const MAX_MILLISECONDS: u128 = 100 * 366 * 24 * 60 * 60 * 1000;

fn milliseconds(delay: Duration) -> c_ulong {
    let rounded_up = delay.as_nanos().div_ceil(1_000_000).min(MAX_MILLISECONDS);
    c_ulong::try_from(rounded_up).unwrap_or(c_ulong::MAX)
}

/// Has `timeout` called as soon as ERTS runs the port again.
///
/// # Safety
/// A callback of the port `raw` is running on this thread.
pub(crate) unsafe fn run_soon(raw: sys::ErlDrvPort) {
    // SAFETY: what the caller promises. It fails for a closed port only.
    unsafe { sys::driver_set_timer(raw, 0) };
}

/// Carries out a failure.
///
/// # Safety
/// A callback of the port `raw` is running on this thread and will not touch
/// its driver state again: ERTS may run `stop` from here.
pub(crate) unsafe fn fail_now(raw: sys::ErlDrvPort, failure: Failure) {
    // SAFETY: what the caller promises; ERTS copies the atom's text.
    unsafe {
        match failure {
            Failure::Eof => sys::driver_failure_eof(raw),
            Failure::Posix(errno) => sys::driver_failure_posix(raw, errno),
            Failure::Atom(reason) => sys::driver_failure_atom(raw, reason.as_ptr().cast_mut()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_rounded_up() {
        let cases = [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(7), 7),
            (Duration::from_micros(7001), 8),
        ];
        for (delay, expected) in cases {
            assert_eq!(milliseconds(delay), expected, "{delay:?}");
        }
    }

    #[test]
    fn a_delay_for_ever_is_long_and_not_negative() {
        let longest = i64::try_from(milliseconds(Duration::MAX)).unwrap();
        assert!(longest >= i64::from(u32::MAX));
        assert!(longest.checked_mul(1000).is_some());
    }
}
