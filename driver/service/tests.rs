// SPDX-License-Identifier: Apache-2.0
//! The service on real fds, with a host that records instead of a VM.

use super::*;
use crate::pollset::erts::{Erts, Selected};
use crate::reference::Reference;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// A message that was sent, and to whom.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Event(u32, Kind, i32),
    End(u32, End),
}

#[derive(Default)]
struct Recorder {
    sent: RefCell<Vec<Sent>>,
    monitored: RefCell<Vec<u32>>,
    /// What ERTS would have selected.
    selected: RefCell<BTreeMap<i32, Kinds>>,
    full: Cell<bool>,
}

/// A process that is gone already.
const DEAD: u32 = 666;

impl Select for Recorder {
    fn select(&self, fd: i32, kinds: Kinds) -> Result<(), Errno> {
        if self.full.get() {
            return Err(Errno::EINVAL);
        }
        *self.selected.borrow_mut().entry(fd).or_default() |= kinds;
        Ok(())
    }

    fn deselect(&self, fd: i32, kinds: Kinds) {
        if let Some(selected) = self.selected.borrow_mut().get_mut(&fd) {
            *selected = *selected - kinds;
        }
    }

    fn forget(&self, fd: i32) {
        self.selected.borrow_mut().remove(&fd);
    }

    fn forget_and_close(&self, fd: i32) {
        self.forget(fd);
        sys::close(fd);
    }
}

impl Host for Recorder {
    type Pid = u32;

    fn tell(&self, pid: u32, message: Message<'_>) {
        self.sent.borrow_mut().push(match message {
            Message::Event { kind, fd } => Sent::Event(pid, kind, fd),
            Message::Poll { end, .. } => Sent::End(pid, end),
        });
    }

    fn monitor(&self, pid: u32) -> bool {
        self.monitored.borrow_mut().push(pid);
        pid != DEAD
    }

    fn worked(&self, _fds: usize) {}
}

impl Recorder {
    fn sent(&self) -> Vec<Sent> {
        self.sent.take()
    }

    fn selected(&self, fd: i32) -> Kinds {
        self.selected.borrow().get(&fd).copied().unwrap_or_default()
    }
}

const READ: Kinds = Kinds::READ;
const WRITE: Kinds = Kinds::WRITE;

fn both() -> Kinds {
    READ | WRITE
}

/// As in a VM of its own: fds are shared by all tests, this must not be.
fn service() -> Service<u32> {
    sharing(Box::leak(Box::new(Selected::new())))
}

fn sharing(selected: &'static Selected) -> Service<u32> {
    Service::new(Box::new(Erts::sharing(selected)))
}

/// A reference of node a@b, in the external format.
const REFERENCE: &[u8] = &[
    131, 90, 0, 1, 119, 3, b'a', b'@', b'b', 0, 0, 0, 1, 0, 0, 0, 7,
];

fn poll(fd: i32, kinds: Kinds) -> Request<'static> {
    Request::Poll {
        fd,
        kinds,
        reference: Reference::parse(REFERENCE).unwrap(),
    }
}

fn set(fd: i32, kinds: Kinds) -> Request<'static> {
    Request::Set { fd, kinds }
}

/// Two connected sockets, the first with a full send buffer: neither readable
/// nor writable until the second writes or reads.
fn full_pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    while (&ours).write(&[0; 4096]).is_ok() {}
    (ours, theirs)
}

fn drain(mut socket: &UnixStream) {
    let mut bytes = [0; 65536];
    while socket.read(&mut bytes).is_ok_and(|count| count > 0) {}
}

#[test]
fn a_ready_kind_is_told_at_once_and_not_armed() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(service.request(&host, 1, set(fd, both())), Ok(Answer::Done));
    assert_eq!(host.sent(), [Sent::Event(1, Kind::Read, fd)]);
    assert_eq!(host.selected(fd), WRITE);
    // The second of both messages, which the original loses.
    drain(&theirs);
    service.ready(&host, fd);
    assert_eq!(host.sent(), [Sent::Event(1, Kind::Write, fd)]);
    assert_eq!(host.selected(fd), Kinds::NONE);
}

#[test]
fn a_poll_of_both_kinds_ends_once_and_leaves_nothing() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(
        service.request(&host, 1, poll(fd, both())),
        Ok(Answer::Done)
    );
    drain(&theirs);
    (&theirs).write_all(b"x").unwrap();
    service.ready(&host, fd);
    assert_eq!(host.sent(), [Sent::End(1, End::Ready(Kind::Read))]);
    assert_eq!(host.selected(fd), Kinds::NONE);
    assert_eq!(service.table.armed(fd), Kinds::NONE);
}

#[test]
fn one_reads_while_another_writes() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(service.request(&host, 1, poll(fd, READ)), Ok(Answer::Done));
    assert_eq!(service.request(&host, 2, poll(fd, WRITE)), Ok(Answer::Done));
    drain(&theirs);
    service.ready(&host, fd);
    assert_eq!(host.sent(), [Sent::End(2, End::Ready(Kind::Write))]);
    assert_eq!(host.selected(fd), READ);
    (&theirs).write_all(b"x").unwrap();
    service.ready(&host, fd);
    assert_eq!(host.sent(), [Sent::End(1, End::Ready(Kind::Read))]);
}

#[test]
fn a_taken_kind_is_busy_and_nothing_changes() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, _theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(service.request(&host, 1, set(fd, READ)), Ok(Answer::Done));
    for request in [set(fd, both()), poll(fd, READ), set(fd, READ)] {
        assert_eq!(service.request(&host, 2, request), Err(Errno::EBUSY));
    }
    assert_eq!(service.table.armed(fd), READ);
    assert_eq!(host.selected(fd), READ);
    assert_eq!(host.sent(), []);
}

#[test]
fn arming_again_replaces_what_the_same_process_armed() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(service.request(&host, 1, set(fd, both())), Ok(Answer::Done));
    assert_eq!(service.request(&host, 1, set(fd, WRITE)), Ok(Answer::Done));
    assert_eq!(host.selected(fd), WRITE);
    // A poll replaces the same kinds only.
    assert_eq!(service.request(&host, 1, poll(fd, READ)), Ok(Answer::Done));
    assert_eq!(service.table.armed(fd), both());
    (&theirs).write_all(b"x").unwrap();
    drain(&theirs);
    service.ready(&host, fd);
    assert_eq!(
        host.sent(),
        [
            Sent::End(1, End::Ready(Kind::Read)),
            Sent::Event(1, Kind::Write, fd)
        ]
    );
}

#[test]
fn a_check_changes_nothing() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    let check = || Request::Check { fd, kinds: READ };
    assert_eq!(service.request(&host, 1, set(fd, READ)), Ok(Answer::Done));
    assert_eq!(service.request(&host, 1, check()), Ok(Answer::NotReady));
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(
        service.request(&host, 1, check()),
        Ok(Answer::Ready(Kind::Read))
    );
    service.ready(&host, fd);
    assert_eq!(host.sent(), [Sent::Event(1, Kind::Read, fd)]);
}

#[test]
fn cancel_says_whether_a_message_has_been_sent() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    let cancel = || Request::Cancel { fd, kinds: both() };
    assert_eq!(service.request(&host, 1, poll(fd, READ)), Ok(Answer::Done));
    assert_eq!(service.request(&host, 2, cancel()), Ok(Answer::Gone));
    assert_eq!(service.request(&host, 1, cancel()), Ok(Answer::Done));
    assert_eq!(host.selected(fd), Kinds::NONE);
    assert_eq!(service.request(&host, 1, poll(fd, READ)), Ok(Answer::Done));
    (&theirs).write_all(b"x").unwrap();
    service.ready(&host, fd);
    assert_eq!(service.request(&host, 1, cancel()), Ok(Answer::Gone));
}

#[test]
fn clearing_cancels_a_poll_whole() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, _theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(
        service.request(&host, 1, poll(fd, both())),
        Ok(Answer::Done)
    );
    let clear = Request::Clear { fd, kinds: WRITE };
    assert_eq!(service.request(&host, 2, clear), Ok(Answer::Done));
    assert_eq!(host.sent(), [Sent::End(1, End::Canceled)]);
    assert_eq!(host.selected(fd), Kinds::NONE);
}

#[test]
fn an_exit_frees_what_was_armed_and_no_more() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, _theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(service.request(&host, 1, set(fd, READ)), Ok(Answer::Done));
    assert_eq!(service.request(&host, 2, set(fd, WRITE)), Ok(Answer::Done));
    service.process_exit(&host, 1);
    assert_eq!(host.selected(fd), WRITE);
    assert_eq!(service.request(&host, 2, set(fd, both())), Ok(Answer::Done));
    assert_eq!(*host.monitored.borrow(), [1, 2]);
}

#[test]
fn the_dead_arm_nothing() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, _theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(
        service.request(&host, DEAD, set(fd, READ)),
        Ok(Answer::Done)
    );
    assert_eq!(service.table.armed(fd), Kinds::NONE);
    assert_eq!(host.selected(fd), Kinds::NONE);
}

#[test]
fn a_refused_select_leaves_all_as_it_was() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(service.request(&host, 1, set(fd, READ)), Ok(Answer::Done));
    host.full.set(true);
    assert_eq!(
        service.request(&host, 1, set(fd, WRITE)),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        service.request(&host, 2, poll(fd, WRITE)),
        Err(Errno::EINVAL)
    );
    host.full.set(false);
    (&theirs).write_all(b"x").unwrap();
    service.ready(&host, fd);
    assert_eq!(host.sent(), [Sent::Event(1, Kind::Read, fd)]);
}

#[test]
fn a_number_that_came_back_goes_to_the_newcomer() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(service.request(&host, 1, poll(fd, READ)), Ok(Answer::Done));
    assert_eq!(service.request(&host, 3, set(fd, WRITE)), Ok(Answer::Done));
    let (other, other_end) = full_pair();
    // The number now stands for another file; the old one stays open.
    let old = sys::duplicate(fd).unwrap();
    sys::replace_for_test(other.as_raw_fd(), fd);
    assert_eq!(service.request(&host, 2, set(fd, READ)), Ok(Answer::Done));
    assert_eq!(host.sent(), [Sent::End(1, End::BadFd)]);
    assert_eq!(service.table.armed(fd), READ);
    // The old file's event reaches nobody, the new one's its waiter.
    (&theirs).write_all(b"x").unwrap();
    service.ready(&host, fd);
    assert_eq!(host.sent(), []);
    (&other_end).write_all(b"x").unwrap();
    service.ready(&host, fd);
    assert_eq!(host.sent(), [Sent::Event(2, Kind::Read, fd)]);
    sys::close(old);
}

#[test]
fn a_closed_fd_is_bad_and_its_waiters_go() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, _theirs) = full_pair();
    // A number that no other test gets when this one has closed it.
    let fd = 15_000;
    sys::replace_for_test(ours.as_raw_fd(), fd);
    assert_eq!(service.request(&host, 1, poll(fd, READ)), Ok(Answer::Done));
    sys::close(fd);
    for request in [
        set(fd, READ),
        poll(fd, WRITE),
        Request::Clear { fd, kinds: READ },
    ] {
        assert_eq!(service.request(&host, 2, request), Err(Errno::EBADF));
    }
    assert_eq!(host.sent(), [Sent::End(1, End::BadFd)]);
    assert_eq!(service.table.iter().count(), 0);
}

#[test]
fn numbers_that_are_no_fd_are_bad() {
    let (host, mut service) = (Recorder::default(), service());
    for fd in [-1, i32::MIN, i32::MAX, 1_000_000] {
        assert_eq!(service.request(&host, 1, set(fd, READ)), Err(Errno::EBADF));
        let clear = Request::Clear { fd, kinds: READ };
        assert_eq!(service.request(&host, 1, clear), Err(Errno::EBADF));
    }
}

#[test]
fn a_spurious_event_is_armed_again() {
    let (host, mut service) = (Recorder::default(), service());
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(service.request(&host, 1, set(fd, READ)), Ok(Answer::Done));
    service.ready(&host, fd);
    assert_eq!(host.sent(), []);
    assert_eq!(host.selected(fd), READ);
    (&theirs).write_all(b"x").unwrap();
    service.ready(&host, fd);
    assert_eq!(host.sent(), [Sent::Event(1, Kind::Read, fd)]);
}

#[test]
fn a_stop_ends_every_poll_once() {
    let (host, mut service) = (Recorder::default(), service());
    let pairs: Vec<_> = (0..10).map(|_| full_pair()).collect();
    for (pid, (ours, _)) in pairs.iter().enumerate() {
        let request = poll(ours.as_raw_fd(), both());
        assert_eq!(
            service.request(&host, pid as u32, request),
            Ok(Answer::Done)
        );
    }
    service.stop(&host);
    let mut sent = host.sent();
    sent.sort_by_key(|sent| match sent {
        Sent::Event(pid, ..) | Sent::End(pid, _) => *pid,
    });
    let expected: Vec<_> = (0..10).map(|pid| Sent::End(pid, End::Closed)).collect();
    assert_eq!(sent, expected);
    assert!(host.selected.borrow().is_empty());
}

#[test]
fn two_ports_wait_for_the_same_fd() {
    let host = Recorder::default();
    let selected = Box::leak(Box::new(Selected::new()));
    let (mut one, mut two) = (sharing(selected), sharing(selected));
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(one.request(&host, 1, set(fd, READ)), Ok(Answer::Done));
    assert_eq!(two.request(&host, 2, set(fd, READ)), Ok(Answer::Done));
    let events: Vec<i32> = host.selected.borrow().keys().copied().collect();
    assert_eq!(events.len(), 2, "{events:?}");
    (&theirs).write_all(b"x").unwrap();
    for event in events {
        if event == fd {
            one.ready(&host, event);
        } else {
            two.ready(&host, event);
        }
    }
    let told = [
        Sent::Event(1, Kind::Read, fd),
        Sent::Event(2, Kind::Read, fd),
    ];
    assert_eq!(host.sent(), told);
    assert!(host.selected.borrow().is_empty());
}
