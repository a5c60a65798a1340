// SPDX-License-Identifier: Apache-2.0
//! What a callback does on request: fail the port, or panic.

use erl_driver::{Failure, Port};
use std::ffi::CString;
use std::panic::panic_any;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Callback {
    Stop,
    Output,
    Control,
    Call,
    ReadyInput,
    ReadyOutput,
    StopSelect,
    ProcessExit,
    Timeout,
}

impl Callback {
    pub fn parse(byte: u8) -> Option<Callback> {
        Some(match byte {
            1 => Callback::Stop,
            2 => Callback::Output,
            3 => Callback::Control,
            4 => Callback::Call,
            5 => Callback::ReadyInput,
            6 => Callback::ReadyOutput,
            7 => Callback::StopSelect,
            8 => Callback::ProcessExit,
            9 => Callback::Timeout,
            _ => return None,
        })
    }
}

#[derive(Clone, PartialEq, Eq)]
pub enum Deed {
    Nothing,
    FailEof,
    FailPosix(i32),
    FailAtom(CString),
    PanicStr,
    PanicString(String),
    PanicOther,
    PanicBomb,
    /// In `process_exit`, of the monitor that it runs for.
    Demonitor,
    /// In `stop`: set the timer, and monitor the owner.
    Outlive,
}

/// A payload that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload panics, too");
    }
}

impl Deed {
    pub fn parse(data: &[u8]) -> Option<Deed> {
        let (kind, rest) = data.split_first()?;
        Some(match kind {
            1 => Deed::FailEof,
            2 => Deed::FailPosix(i32::from_be_bytes(rest.try_into().ok()?)),
            3 => Deed::FailAtom(CString::new(rest).ok()?),
            4 => Deed::PanicStr,
            5 => Deed::PanicString(String::from_utf8(rest.to_vec()).ok()?),
            6 => Deed::PanicOther,
            7 => Deed::PanicBomb,
            8 => Deed::Demonitor,
            9 => Deed::Outlive,
            _ => return None,
        })
    }

    pub fn perform(&self, port: &Port) {
        match self {
            Deed::FailEof => port.fail(Failure::Eof),
            Deed::FailPosix(errno) => port.fail(Failure::Posix(*errno)),
            Deed::FailAtom(reason) => port.fail(Failure::Atom(reason.clone())),
            _ => self.panic(),
        }
    }

    /// Panics, if that is what is to be done.
    pub fn panic(&self) {
        match self {
            Deed::PanicStr => panic!("a str"),
            Deed::PanicString(message) => panic!("{message}"),
            Deed::PanicOther => panic_any(42),
            Deed::PanicBomb => panic_any(Bomb),
            _ => {}
        }
    }
}
