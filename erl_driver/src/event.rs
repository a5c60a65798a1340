// SPDX-License-Identifier: Apache-2.0
//! What is selected on: an event, on Unix a file descriptor.

use erl_driver_sys as sys;
use std::ffi::c_int;
use std::ops::BitOr;

/// An event that a driver selects on: on Unix, a file descriptor.
///
/// ERTS passes it as an opaque pointer and converts with a cast through a word,
/// so the integer in the union is a word, too: an `int` there would be the
/// wrong half on a big-endian 64-bit machine.
#[derive(Clone, Copy)]
pub struct Event(EventOrFd);

#[derive(Clone, Copy)]
#[repr(C)]
union EventOrFd {
    event: sys::ErlDrvEvent,
    fd: isize,
}

const _: () = assert!(size_of::<EventOrFd>() == size_of::<sys::ErlDrvEvent>());

impl Event {
    /// The event of a file descriptor. The number is not checked: what ERTS
    /// cannot handle is refused by [`Port::select`](crate::Port::select). The fd
    /// stays its owner's.
    pub fn from_fd(fd: i32) -> Event {
        Event(EventOrFd { fd: fd as isize })
    }

    /// The file descriptor of an event.
    pub fn fd(self) -> i32 {
        // SAFETY: both members are plain words without invalid values (reading
        // a pointer's address as an integer is what ERTS does with it).
        unsafe { self.0.fd as i32 }
    }

    pub(crate) fn from_raw(event: sys::ErlDrvEvent) -> Event {
        Event(EventOrFd { event })
    }

    pub(crate) fn raw(self) -> sys::ErlDrvEvent {
        // SAFETY: any word is a valid raw pointer value; ERTS never follows it.
        unsafe { self.0.event }
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event(fd {})", self.fd())
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.fd() == other.fd()
    }
}

impl Eq for Event {}

/// The four modes of `driver_select`, to be combined with `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(c_int);

impl Mode {
    /// `ERL_DRV_READ`: [`ready_input`](crate::Driver::ready_input) runs while
    /// the event is readable, at its end, or in error.
    pub const READ: Mode = Mode(sys::ERL_DRV_READ);
    /// `ERL_DRV_WRITE`: [`ready_output`](crate::Driver::ready_output) runs while
    /// the event is writable, or in error.
    pub const WRITE: Mode = Mode(sys::ERL_DRV_WRITE);
    /// `ERL_DRV_USE`: ERTS keeps what it knows of the event between selects;
    /// deselecting it runs [`stop_select`](crate::Driver::stop_select) when the
    /// event may be closed.
    pub const USE: Mode = Mode(sys::ERL_DRV_USE);
    /// `ERL_DRV_USE_NO_CALLBACK`: as [`USE`](Mode::USE), for deselecting
    /// without `stop_select`.
    pub const USE_NO_CALLBACK: Mode = Mode(sys::ERL_DRV_USE_NO_CALLBACK);

    pub(crate) fn raw(self) -> c_int {
        self.0
    }
}

impl BitOr for Mode {
    type Output = Mode;

    fn bitor(self, other: Mode) -> Mode {
        Mode(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_carries_its_fd() {
        for fd in [0, 1, 7, 19_999, i32::MAX, -1] {
            assert_eq!(Event::from_fd(fd).fd(), fd);
            assert_eq!(Event::from_raw(Event::from_fd(fd).raw()).fd(), fd);
        }
    }

    #[test]
    fn an_event_is_the_number_as_a_pointer() {
        assert_eq!(Event::from_fd(7).raw().addr(), 7);
    }
}
