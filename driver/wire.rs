// SPDX-License-Identifier: Apache-2.0
//! The wire: what arrives through `erlang:port_control/3`, and what is
//! answered. Its other half is `erlang/src/inert_drv.erl`. Knows bytes only.
//!
//! | command | data | reply |
//! | --- | --- | --- |
//! | 1 FDSET | fd, mode | empty: armed |
//! | 2 FDCLR | fd, mode | empty: cleared |
//! | 3 CHECK | fd, mode | a kind: ready; `timeout`: not ready |
//! | 4 POLL | fd, mode, tag | a kind: ready, and what this process had armed of these kinds is cleared; empty: armed, a message with the tag will come |
//! | 5 CANCEL | fd, mode | empty: what this process's poll had armed is cleared, no message will come; `gone`: nothing was armed, the message has been sent |
//! | 6 INFO | | the [`Counters`], 64-bit big-endian |
//!
//! fd and mode are signed 32-bit, big-endian. A tag is a signed 32-bit number `Key`,
//! whose message is `{inert_poll, Key, Result}`, or a reference in the external
//! term format, whose message is `{Reference, Result}`. Errors are the errno's name in
//! lower case. FDSET and FDCLR never change; the others belong to inert.

use crate::kinds::{Kind, Kinds};
use crate::reference::Reference;

/// A request, as sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Set { fd: i32, kinds: Kinds },
    Clear { fd: i32, kinds: Kinds },
    Check { fd: i32, kinds: Kinds },
    Poll { fd: i32, kinds: Kinds, tag: Tag<'a> },
    Cancel { fd: i32, kinds: Kinds },
    Info,
}

/// What a poll's message is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag<'a> {
    Key(i32),
    Reference(Reference<'a>),
}

/// What is answered if there is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    Ready(Kind),
    NotReady,
    Gone,
    Info(Counters),
}

impl Answer {
    /// Writes the reply.
    pub fn write(&self, mut push: impl FnMut(&[u8])) {
        match self {
            Answer::Done => {}
            Answer::Ready(kind) => push(kind.name().as_bytes()),
            Answer::NotReady => push(b"timeout"),
            Answer::Gone => push(b"gone"),
            Answer::Info(counters) => {
                for value in counters.values() {
                    push(&value.to_be_bytes());
                }
            }
        }
    }
}

/// What INFO tells of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// The pollset: 0 is erts, 1 epoll.
    pub pollset: u64,
    /// Waiters now.
    pub armed: u64,
    /// Processes that are monitored: those that have armed something and live.
    pub processes: u64,
    /// Waiters told that their fd is ready.
    pub delivered: u64,
    /// Fds that were reported and had nothing ready that was armed.
    pub spurious: u64,
    /// Waiters whose file had left its number.
    pub stale: u64,
    /// Callbacks by which ERTS reported something.
    pub wakeups: u64,
    /// Of the epoll pollset: times that ERTS was let move the instance into its
    /// scheduler pollset.
    pub migrated: u64,
    /// Of the epoll pollset: times that the instance was taken back.
    pub returned: u64,
}

impl Counters {
    fn values(&self) -> [u64; 9] {
        [
            self.pollset,
            self.armed,
            self.processes,
            self.delivered,
            self.spurious,
            self.stale,
            self.wakeups,
            self.migrated,
            self.returned,
        ]
    }
}

/// The bytes are no request: `einval`.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

const FDSET: u32 = 1;
const FDCLR: u32 = 2;
const CHECK: u32 = 3;
const POLL: u32 = 4;
const CANCEL: u32 = 5;
const INFO: u32 = 6;

/// Reads a request. Any bytes may come: port_control is open to every process.
pub fn decode(command: u32, data: &[u8]) -> Result<Request<'_>, Malformed> {
    if (command, data) == (INFO, &[]) {
        return Ok(Request::Info);
    }
    let (fd, rest) = int32(data)?;
    let (mode, rest) = int32(rest)?;
    let kinds = Kinds::from_mode(mode).ok_or(Malformed)?;
    match (command, rest) {
        (FDSET, []) => Ok(Request::Set { fd, kinds }),
        (FDCLR, []) => Ok(Request::Clear { fd, kinds }),
        (CHECK, []) => Ok(Request::Check { fd, kinds }),
        (POLL, tag) => {
            let tag = decode_tag(tag)?;
            Ok(Request::Poll { fd, kinds, tag })
        }
        (CANCEL, []) => Ok(Request::Cancel { fd, kinds }),
        _ => Err(Malformed),
    }
}

fn decode_tag(data: &[u8]) -> Result<Tag<'_>, Malformed> {
    match int32(data) {
        Ok((key, [])) => Ok(Tag::Key(key)),
        _ => Reference::parse(data).map(Tag::Reference).ok_or(Malformed),
    }
}

fn int32(data: &[u8]) -> Result<(i32, &[u8]), Malformed> {
    let (first, rest) = data.split_first_chunk().ok_or(Malformed)?;
    Ok((i32::from_be_bytes(*first), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(fd: i32, mode: i32) -> Vec<u8> {
        [fd.to_be_bytes(), mode.to_be_bytes()].concat()
    }

    #[test]
    fn the_two_commands_that_never_change() {
        assert_eq!(
            decode(1, &[0, 0, 0, 7, 0, 0, 0, 1]),
            Ok(Request::Set {
                fd: 7,
                kinds: Kinds::READ
            })
        );
        assert_eq!(
            decode(2, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 3]),
            Ok(Request::Clear {
                fd: -1,
                kinds: Kinds::READ | Kinds::WRITE
            })
        );
    }

    #[test]
    fn wrong_lengths_and_modes_are_malformed() {
        for command in [FDSET, FDCLR, CHECK, CANCEL] {
            let mut long = data(1, 1);
            long.push(0);
            assert_eq!(decode(command, &long), Err(Malformed));
        }
        for command in 0..10 {
            for length in 0..8 {
                let info = command == INFO && length == 0;
                assert_eq!(decode(command, &data(1, 1)[..length]).is_ok(), info);
            }
            for mode in [0, 4, -1, 1 << 30] {
                assert_eq!(decode(command, &data(1, mode)), Err(Malformed));
            }
        }
    }

    #[test]
    fn unknown_commands_are_malformed() {
        for command in [0, 6, 7, 100, u32::MAX] {
            assert_eq!(decode(command, &data(1, 1)), Err(Malformed));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(command in 0u32..8, bytes: Vec<u8>) {
            let _ = decode(command, &bytes);
        }

        #[test]
        fn what_is_written_is_read(fd: i32, mode in 1i32..=3) {
            let kinds = Kinds::from_mode(mode).unwrap();
            let data = data(fd, mode);
            prop_assert_eq!(decode(FDSET, &data), Ok(Request::Set { fd, kinds }));
        }
    }
}
