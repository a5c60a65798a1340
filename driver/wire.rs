// SPDX-License-Identifier: Apache-2.0
//! The wire: what arrives through `erlang:port_control/3`, and what is
//! answered. Its other half is `erlang/src/inert_drv.erl`. Knows bytes only.
//!
//! | command | data | reply |
//! | --- | --- | --- |
//! | 1 FDSET | fd, mode of 1 to 3 | empty: armed |
//! | 2 FDCLR | fd, mode of 1 to 3 | empty: cleared |
//! | 3 CHECK | fd, mode | a kind: ready; `timeout`: not ready |
//! | 4 POLL | fd, mode, tag | a kind: ready, and what this process had armed of these kinds is cleared; empty: armed, a message with the tag will come |
//! | 5 CANCEL | fd, mode | empty: the poll that had armed this for the process is cleared, no message will come; `gone`: nothing was armed, the message has been sent |
//! | 6 INFO | | the [`Counters`], 64-bit big-endian |
//! | 7 FDSET_ALL | set | empty: armed |
//! | 8 FDCLR_ALL | set | empty: cleared |
//! | 9 CHECK_ALL | set | a binary: the set of what is ready, maybe empty |
//! | 10 POLL_ALL | number of fds, set, tag | a binary: the set of what is ready, and what this process had armed of these kinds is cleared; empty: armed, a message with the tag will come |
//! | 11 WAITERS | first fd, key | empty: a message `{inert_waiters, Key, [{FD, Kind, Pid, Milliseconds}], Next}` was sent, with the waiters of some fds; the others from `Next` on, or `none` |
//! | 12 DESCRIBE | fd | what the file is, as text: see [`Description`] |
//!
//! fd, mode, key and the number of fds are signed 32-bit, big-endian; a set is fd and mode
//! of each in a row, each fd once. A tag is a key, whose message is `{inert_poll, Key,
//! Result}`, or a reference in the external term format, whose message is `{Reference,
//! Result}`. Errors are the errno's name in lower case; of a set, with the fd it is about:
//! `ebadf 7`. FDSET and FDCLR never change; the others belong to inert.

use crate::kinds::{Kind, Kinds};
use crate::reference::Reference;
use crate::sys::Description;

/// A request, as sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Set(Fds<'a>),
    Clear(Fds<'a>),
    Check(Fds<'a>),
    Poll(Fds<'a>, Tag<'a>),
    Cancel(Entry),
    Info,
    Waiters { first: i32, key: i32 },
    Describe(i32),
}

/// A fd, and kinds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub fd: i32,
    pub kinds: Kinds,
}

/// The fds that a request is about: one, or a set, which is answered otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fds<'a> {
    One(Entry),
    Set(Set<'a>),
}

/// The bytes of a set, each mode in it known to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<'a>(&'a [u8]);

/// The bytes of a fd and a mode.
const ENTRY: usize = 8;

/// The fds of the largest set: a process of Linux may not have more open, with
/// the kernel's own `fs.nr_open`.
const MAX_SET: usize = 1 << 20;

impl<'a> Set<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Set<'a>, Malformed> {
        let entries = bytes.chunks_exact(ENTRY);
        if !entries.remainder().is_empty() || entries.len() > MAX_SET {
            return Err(Malformed);
        }
        for bytes in entries {
            entry(bytes)?;
        }
        Ok(Set(bytes))
    }

    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        let entries = self.0.chunks_exact(ENTRY);
        // What is malformed was never let in: see above.
        entries.filter_map(|bytes| entry(bytes).ok())
    }
}

/// What a poll's message is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag<'a> {
    Key(i32),
    Reference(Reference<'a>),
}

/// What is answered if there is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Ready(Kind),
    NotReady,
    /// What is ready of a set.
    AllReady(Vec<Entry>),
    Gone,
    Info(Counters),
    Description(Description),
}

impl Answer {
    /// Whether the reply is a binary; if not, it is a list.
    pub fn is_binary(&self) -> bool {
        matches!(self, Answer::AllReady(_))
    }

    /// Writes the reply.
    pub fn write(&self, mut push: impl FnMut(&[u8])) {
        match self {
            Answer::Done => {}
            Answer::Ready(kind) => push(kind.name().as_bytes()),
            Answer::NotReady => push(b"timeout"),
            Answer::AllReady(entries) => {
                for Entry { fd, kinds } in entries {
                    push(&fd.to_be_bytes());
                    push(&kinds.mode().to_be_bytes());
                }
            }
            Answer::Gone => push(b"gone"),
            Answer::Info(counters) => {
                for value in counters.values() {
                    push(&value.to_be_bytes());
                }
            }
            Answer::Description(description) => push(description.to_string().as_bytes()),
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
    /// Fds that have a waiter.
    pub fds: u64,
    /// Polls that wait.
    pub polls: u64,
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
    fn values(&self) -> [u64; 11] {
        [
            self.pollset,
            self.armed,
            self.fds,
            self.polls,
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
const FDSET_ALL: u32 = 7;
const FDCLR_ALL: u32 = 8;
const CHECK_ALL: u32 = 9;
const POLL_ALL: u32 = 10;
const WAITERS: u32 = 11;
const DESCRIBE: u32 = 12;

/// Reads a request. Any bytes may come: port_control is open to every process.
pub fn decode(command: u32, data: &[u8]) -> Result<Request<'_>, Malformed> {
    match command {
        FDSET => Ok(Request::Set(Fds::One(legacy_entry(data)?))),
        FDCLR => Ok(Request::Clear(Fds::One(legacy_entry(data)?))),
        CHECK => Ok(Request::Check(Fds::One(entry(data)?))),
        POLL => {
            let (first, rest) = data.split_at_checked(ENTRY).ok_or(Malformed)?;
            Ok(Request::Poll(Fds::One(entry(first)?), tag(rest)?))
        }
        CANCEL => Ok(Request::Cancel(entry(data)?)),
        INFO if data.is_empty() => Ok(Request::Info),
        FDSET_ALL => Ok(Request::Set(Fds::Set(Set::parse(data)?))),
        FDCLR_ALL => Ok(Request::Clear(Fds::Set(Set::parse(data)?))),
        CHECK_ALL => Ok(Request::Check(Fds::Set(Set::parse(data)?))),
        POLL_ALL => {
            let (count, rest) = int32(data)?;
            let length = usize::try_from(count)
                .ok()
                .and_then(|n| n.checked_mul(ENTRY));
            let (set, rest) = rest
                .split_at_checked(length.ok_or(Malformed)?)
                .ok_or(Malformed)?;
            // There is nothing that an empty set could wait for.
            if set.is_empty() {
                return Err(Malformed);
            }
            Ok(Request::Poll(Fds::Set(Set::parse(set)?), tag(rest)?))
        }
        WAITERS => {
            let (first, rest) = int32(data)?;
            let key = last_int32(rest)?;
            Ok(Request::Waiters { first, key })
        }
        DESCRIBE => Ok(Request::Describe(last_int32(data)?)),
        _ => Err(Malformed),
    }
}

fn entry(data: &[u8]) -> Result<Entry, Malformed> {
    let (fd, rest) = int32(data)?;
    let kinds = Kinds::from_mode(last_int32(rest)?).ok_or(Malformed)?;
    Ok(Entry { fd, kinds })
}

/// Of the two commands that never change, whose modes do not either.
fn legacy_entry(data: &[u8]) -> Result<Entry, Malformed> {
    let entry = entry(data)?;
    if (entry.kinds - Kinds::READ_WRITE).is_empty() {
        Ok(entry)
    } else {
        Err(Malformed)
    }
}

fn tag(data: &[u8]) -> Result<Tag<'_>, Malformed> {
    match int32(data) {
        Ok((key, [])) => Ok(Tag::Key(key)),
        _ => Reference::parse(data).map(Tag::Reference).ok_or(Malformed),
    }
}

fn int32(data: &[u8]) -> Result<(i32, &[u8]), Malformed> {
    let (first, rest) = data.split_first_chunk().ok_or(Malformed)?;
    Ok((i32::from_be_bytes(*first), rest))
}

/// A number, and nothing behind it.
fn last_int32(data: &[u8]) -> Result<i32, Malformed> {
    match int32(data)? {
        (number, []) => Ok(number),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMANDS: std::ops::RangeInclusive<u32> = 0..=DESCRIBE + 2;

    fn data(fd: i32, mode: i32) -> Vec<u8> {
        [fd.to_be_bytes(), mode.to_be_bytes()].concat()
    }

    fn entries(fds: Fds<'_>) -> Vec<(i32, i32)> {
        let Fds::Set(set) = fds else {
            panic!("no set");
        };
        set.iter().map(|e| (e.fd, e.kinds.mode())).collect()
    }

    #[test]
    fn the_two_commands_that_never_change() {
        assert_eq!(
            decode(1, &[0, 0, 0, 7, 0, 0, 0, 1]),
            Ok(Request::Set(Fds::One(Entry {
                fd: 7,
                kinds: Kinds::READ
            })))
        );
        assert_eq!(
            decode(2, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 3]),
            Ok(Request::Clear(Fds::One(Entry {
                fd: -1,
                kinds: Kinds::READ | Kinds::WRITE
            })))
        );
        for command in [1, 2] {
            for mode in 4..16 {
                assert_eq!(decode(command, &data(7, mode)), Err(Malformed));
            }
        }
    }

    #[test]
    fn wrong_lengths_and_modes_are_malformed() {
        for command in [FDSET, FDCLR, CHECK, CANCEL] {
            for length in [0, 1, 4, 7] {
                assert_eq!(decode(command, &data(1, 1)[..length]), Err(Malformed));
            }
            let mut long = data(1, 1);
            long.push(0);
            assert_eq!(decode(command, &long), Err(Malformed));
        }
        for command in [FDSET, FDCLR, CHECK, CANCEL, FDSET_ALL, FDCLR_ALL, CHECK_ALL] {
            for mode in [0, 16, -1, 1 << 30] {
                assert_eq!(decode(command, &data(1, mode)), Err(Malformed));
            }
        }
        assert_eq!(decode(INFO, &[0]), Err(Malformed));
        assert_eq!(decode(DESCRIBE, &data(1, 1)), Err(Malformed));
        assert_eq!(decode(WAITERS, &[0; 7]), Err(Malformed));
        assert_eq!(decode(WAITERS, &[0; 9]), Err(Malformed));
    }

    #[test]
    fn unknown_commands_are_malformed() {
        for command in [0, DESCRIBE + 1, 100, u32::MAX] {
            assert_eq!(decode(command, &data(1, 1)), Err(Malformed));
        }
    }

    #[test]
    fn a_poll_of_a_set_says_how_many() {
        let key = 7i32.to_be_bytes();
        let set = [data(3, 1), data(4, 12)].concat();
        let poll = |count: i32| [&count.to_be_bytes()[..], &set, &key].concat();
        let bytes = poll(2);
        let Ok(Request::Poll(fds, Tag::Key(7))) = decode(POLL_ALL, &bytes) else {
            panic!("no poll");
        };
        assert_eq!(entries(fds), [(3, 1), (4, 12)]);
        for count in [-1, 0, 1, 3, i32::MAX, i32::MIN] {
            assert_eq!(decode(POLL_ALL, &poll(count)), Err(Malformed), "{count}");
        }
    }

    #[test]
    fn a_set_has_an_end() {
        let long = [0, 0, 0, 1, 0, 0, 0, 1].repeat(MAX_SET + 1);
        assert!(decode(FDSET_ALL, &long[ENTRY..]).is_ok());
        assert_eq!(decode(FDSET_ALL, &long), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(command in COMMANDS, bytes: Vec<u8>) {
            let _ = decode(command, &bytes);
        }

        #[test]
        fn what_is_written_is_read(written in prop::collection::vec((any::<i32>(), 1..=15i32), 0..20)) {
            let bytes: Vec<u8> = written.iter().flat_map(|(fd, mode)| data(*fd, *mode)).collect();
            let Ok(Request::Set(fds)) = decode(FDSET_ALL, &bytes) else {
                panic!("no set");
            };
            prop_assert_eq!(entries(fds), written);
        }
    }
}
