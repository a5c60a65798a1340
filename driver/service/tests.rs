// SPDX-License-Identifier: Apache-2.0
//! The service on real fds, with a host that records instead of a VM.

use super::*;
#[cfg(target_os = "linux")]
use crate::pollset::epoll::Epoll;
use crate::pollset::erts::{Erts, Selected};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// A message that was sent, and to whom.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Event(u32, Kind, i32),
    End(u32, End<'static>),
    /// The end of a poll of a set that is ready.
    AllReady(u32, Vec<Entry>),
    Waiters(Vec<(i32, Kind, u32)>, Option<i32>),
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

    fn tell(&self, pid: u32, message: Message<'_, u32>) {
        self.sent.borrow_mut().push(match message {
            Message::Event { kind, fd } => Sent::Event(pid, kind, fd),
            Message::Poll { end, .. } => match end {
                End::AllReady(all) => Sent::AllReady(pid, all.to_vec()),
                End::Ready(kind) => Sent::End(pid, End::Ready(kind)),
                End::BadFd(fd) => Sent::End(pid, End::BadFd(fd)),
                End::Canceled(fd) => Sent::End(pid, End::Canceled(fd)),
                End::Closed => Sent::End(pid, End::Closed),
            },
            Message::Waiters { waiters, next, .. } => {
                let waiters = waiters.iter().map(|one| (one.fd, one.kind, one.pid));
                Sent::Waiters(waiters.collect(), next)
            }
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Erts,
    #[cfg(target_os = "linux")]
    Epoll,
}

/// A service, and a VM around it.
struct Vm {
    host: Recorder,
    service: Service<u32>,
    pollset: Which,
}

impl Vm {
    fn new(pollset: Which) -> Vm {
        // As in a VM of its own: fds are shared by all tests, this must not be.
        Vm::sharing(pollset, Box::leak(Box::new(Selected::new())))
    }

    fn sharing(pollset: Which, selected: &'static Selected) -> Vm {
        let host = Recorder::default();
        let service = Service::new(match pollset {
            Which::Erts => Box::new(Erts::sharing(selected)),
            #[cfg(target_os = "linux")]
            Which::Epoll => Box::new(Epoll::new(&host).unwrap()),
        });
        Vm {
            host,
            service,
            pollset,
        }
    }

    /// A refusal must name the fd if it is of a set, and else not.
    fn request(&mut self, caller: u32, request: Request<'_>) -> Result<Answer, Errno> {
        let answer = self.service.request(&self.host, caller, request);
        answer.map_err(|refusal| {
            assert_eq!(refusal.fd, None);
            refusal.errno
        })
    }

    /// The same for sets.
    fn request_set(&mut self, caller: u32, request: Request<'_>) -> Result<Answer, (Errno, i32)> {
        let answer = self.service.request(&self.host, caller, request);
        answer.map_err(|refusal| (refusal.errno, refusal.fd.unwrap()))
    }

    /// ERTS finds something ready: the fd, or the one event that it knows.
    fn fire(&mut self, fd: i32) {
        let event = match self.pollset {
            Which::Erts => fd,
            #[cfg(target_os = "linux")]
            Which::Epoll => *self.host.selected.borrow().keys().next().unwrap(),
        };
        self.service.ready(&self.host, event);
    }

    fn exit(&mut self, pid: u32) {
        self.service.process_exit(&self.host, pid);
    }

    /// The kinds watched; for the epoll pollset, those that should be.
    fn watched(&self, fd: i32) -> Kinds {
        match self.pollset {
            Which::Erts => self.host.selected(fd),
            #[cfg(target_os = "linux")]
            Which::Epoll => self.service.table.armed(fd),
        }
    }
}

fn poll(fd: i32, kinds: Kinds) -> Request<'static> {
    Request::Poll(one(fd, kinds), Tag::Key(7))
}

fn one(fd: i32, kinds: Kinds) -> Fds<'static> {
    Fds::One(Entry { fd, kinds })
}

fn clear(fd: i32, kinds: Kinds) -> Request<'static> {
    Request::Clear(one(fd, kinds))
}

fn set(fd: i32, kinds: Kinds) -> Request<'static> {
    Request::Set(one(fd, kinds))
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

/// Each test on each pollset.
macro_rules! on_both_pollsets {
    ($($test:ident)*) => {
        mod on_erts {
            $(#[test]
            fn $test() {
                super::$test(super::Which::Erts);
            })*
        }

        #[cfg(target_os = "linux")]
        mod on_epoll {
            $(#[test]
            fn $test() {
                super::$test(super::Which::Epoll);
            })*
        }
    };
}

on_both_pollsets! {
    a_ready_kind_is_told_at_once_and_not_armed
    a_poll_of_both_kinds_ends_once_and_leaves_nothing
    one_reads_while_another_writes
    a_taken_kind_is_busy_and_nothing_changes
    arming_again_replaces_what_the_same_process_armed
    a_check_changes_nothing
    a_poll_that_finds_its_fd_ready_replaces_what_was_set
    cancel_says_whether_a_message_has_been_sent
    clearing_cancels_a_poll_whole
    an_exit_frees_what_was_armed_and_no_more
    the_dead_arm_nothing
    a_number_that_came_back_goes_to_the_newcomer
    a_closed_fd_is_bad_and_its_waiters_go
    numbers_that_are_no_fd_are_bad
    a_spurious_event_is_armed_again
    a_stop_ends_every_poll_once
    two_ports_wait_for_the_same_fd
}

fn a_ready_kind_is_told_at_once_and_not_armed(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(vm.request(1, set(fd, both())), Ok(Answer::Done));
    assert_eq!(vm.host.sent(), [Sent::Event(1, Kind::Read, fd)]);
    assert_eq!(vm.watched(fd), WRITE);
    // The second of both messages, which the original loses.
    drain(&theirs);
    vm.fire(fd);
    assert_eq!(vm.host.sent(), [Sent::Event(1, Kind::Write, fd)]);
    assert_eq!(vm.watched(fd), Kinds::NONE);
}

fn a_poll_of_both_kinds_ends_once_and_leaves_nothing(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, poll(fd, both())), Ok(Answer::Done));
    drain(&theirs);
    (&theirs).write_all(b"x").unwrap();
    vm.fire(fd);
    assert_eq!(vm.host.sent(), [Sent::End(1, End::Ready(Kind::Read))]);
    assert_eq!(vm.watched(fd), Kinds::NONE);
    assert_eq!(vm.service.table.armed(fd), Kinds::NONE);
}

fn one_reads_while_another_writes(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, poll(fd, READ)), Ok(Answer::Done));
    assert_eq!(vm.request(2, poll(fd, WRITE)), Ok(Answer::Done));
    drain(&theirs);
    vm.fire(fd);
    assert_eq!(vm.host.sent(), [Sent::End(2, End::Ready(Kind::Write))]);
    assert_eq!(vm.watched(fd), READ);
    (&theirs).write_all(b"x").unwrap();
    vm.fire(fd);
    assert_eq!(vm.host.sent(), [Sent::End(1, End::Ready(Kind::Read))]);
}

fn a_taken_kind_is_busy_and_nothing_changes(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, _theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, set(fd, READ)), Ok(Answer::Done));
    for request in [set(fd, both()), poll(fd, READ), set(fd, READ)] {
        assert_eq!(vm.request(2, request), Err(Errno::EBUSY));
    }
    assert_eq!(vm.service.table.armed(fd), READ);
    assert_eq!(vm.watched(fd), READ);
    assert_eq!(vm.host.sent(), []);
}

fn arming_again_replaces_what_the_same_process_armed(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, set(fd, both())), Ok(Answer::Done));
    assert_eq!(vm.request(1, set(fd, WRITE)), Ok(Answer::Done));
    assert_eq!(vm.watched(fd), WRITE);
    // A poll replaces the same kinds only.
    assert_eq!(vm.request(1, poll(fd, READ)), Ok(Answer::Done));
    assert_eq!(vm.service.table.armed(fd), both());
    (&theirs).write_all(b"x").unwrap();
    drain(&theirs);
    vm.fire(fd);
    assert_eq!(
        vm.host.sent(),
        [
            Sent::End(1, End::Ready(Kind::Read)),
            Sent::Event(1, Kind::Write, fd)
        ]
    );
}

fn a_check_changes_nothing(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    let check = || Request::Check(one(fd, READ));
    assert_eq!(vm.request(1, set(fd, READ)), Ok(Answer::Done));
    assert_eq!(vm.request(1, check()), Ok(Answer::NotReady));
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(vm.request(1, check()), Ok(Answer::Ready(Kind::Read)));
    vm.fire(fd);
    assert_eq!(vm.host.sent(), [Sent::Event(1, Kind::Read, fd)]);
}

fn cancel_says_whether_a_message_has_been_sent(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    let cancel = || Request::Cancel(Entry { fd, kinds: both() });
    assert_eq!(vm.request(1, poll(fd, READ)), Ok(Answer::Done));
    assert_eq!(vm.request(2, cancel()), Ok(Answer::Gone));
    assert_eq!(vm.request(1, cancel()), Ok(Answer::Done));
    assert_eq!(vm.watched(fd), Kinds::NONE);
    assert_eq!(vm.request(1, poll(fd, READ)), Ok(Answer::Done));
    (&theirs).write_all(b"x").unwrap();
    vm.fire(fd);
    assert_eq!(vm.request(1, cancel()), Ok(Answer::Gone));
}

fn clearing_cancels_a_poll_whole(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, _theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, poll(fd, both())), Ok(Answer::Done));
    let clear = clear(fd, WRITE);
    assert_eq!(vm.request(2, clear), Ok(Answer::Done));
    assert_eq!(vm.host.sent(), [Sent::End(1, End::Canceled(None))]);
    assert_eq!(vm.watched(fd), Kinds::NONE);
}

fn an_exit_frees_what_was_armed_and_no_more(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, _theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, set(fd, READ)), Ok(Answer::Done));
    assert_eq!(vm.request(2, set(fd, WRITE)), Ok(Answer::Done));
    vm.exit(1);
    assert_eq!(vm.watched(fd), WRITE);
    assert_eq!(vm.request(2, set(fd, both())), Ok(Answer::Done));
    assert_eq!(*vm.host.monitored.borrow(), [1, 2]);
}

fn the_dead_arm_nothing(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, _theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(DEAD, set(fd, READ)), Ok(Answer::Done));
    assert_eq!(vm.service.table.armed(fd), Kinds::NONE);
    assert_eq!(vm.watched(fd), Kinds::NONE);
}

fn a_poll_that_finds_its_fd_ready_replaces_what_was_set(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, set(fd, both())), Ok(Answer::Done));
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(vm.request(2, poll(fd, READ)), Err(Errno::EBUSY));
    assert_eq!(vm.request(1, poll(fd, READ)), Ok(Answer::Ready(Kind::Read)));
    assert_eq!(vm.service.table.armed(fd), WRITE);
    vm.fire(fd);
    assert_eq!(vm.host.sent(), []);
}

#[test]
fn a_refused_select_leaves_all_as_it_was() {
    let mut vm = Vm::new(Which::Erts);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, set(fd, READ)), Ok(Answer::Done));
    vm.host.full.set(true);
    assert_eq!(vm.request(1, set(fd, WRITE)), Err(Errno::EINVAL));
    assert_eq!(vm.request(2, poll(fd, WRITE)), Err(Errno::EINVAL));
    vm.host.full.set(false);
    (&theirs).write_all(b"x").unwrap();
    vm.fire(fd);
    assert_eq!(vm.host.sent(), [Sent::Event(1, Kind::Read, fd)]);
}

fn a_number_that_came_back_goes_to_the_newcomer(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, poll(fd, READ)), Ok(Answer::Done));
    assert_eq!(vm.request(3, set(fd, WRITE)), Ok(Answer::Done));
    let (other, other_end) = full_pair();
    // The number now stands for another file; the old one stays open.
    let old = sys::duplicate(fd).unwrap();
    sys::replace_for_test(other.as_raw_fd(), fd);
    assert_eq!(vm.request(2, set(fd, READ)), Ok(Answer::Done));
    assert_eq!(vm.host.sent(), [Sent::End(1, End::BadFd(None))]);
    assert_eq!(vm.service.table.armed(fd), READ);
    // The old file's event reaches nobody, the new one's its waiter.
    (&theirs).write_all(b"x").unwrap();
    vm.fire(fd);
    assert_eq!(vm.host.sent(), []);
    (&other_end).write_all(b"x").unwrap();
    vm.fire(fd);
    assert_eq!(vm.host.sent(), [Sent::Event(2, Kind::Read, fd)]);
    sys::close(old);
}

fn a_closed_fd_is_bad_and_its_waiters_go(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, _theirs) = full_pair();
    // A number that no other test gets when this one has closed it.
    let fd = 15_000;
    sys::replace_for_test(ours.as_raw_fd(), fd);
    assert_eq!(vm.request(1, poll(fd, READ)), Ok(Answer::Done));
    sys::close(fd);
    for request in [set(fd, READ), poll(fd, WRITE), clear(fd, READ)] {
        assert_eq!(vm.request(2, request), Err(Errno::EBADF));
    }
    assert_eq!(vm.host.sent(), [Sent::End(1, End::BadFd(None))]);
    assert_eq!(vm.service.table.len(), 0);
}

fn numbers_that_are_no_fd_are_bad(pollset: Which) {
    let mut vm = Vm::new(pollset);
    for fd in [-1, i32::MIN, i32::MAX, 1_000_000] {
        assert_eq!(vm.request(1, set(fd, READ)), Err(Errno::EBADF));
        let clear = clear(fd, READ);
        assert_eq!(vm.request(1, clear), Err(Errno::EBADF));
    }
}

fn a_spurious_event_is_armed_again(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, set(fd, READ)), Ok(Answer::Done));
    vm.fire(fd);
    assert_eq!(vm.host.sent(), []);
    assert_eq!(vm.watched(fd), READ);
    (&theirs).write_all(b"x").unwrap();
    vm.fire(fd);
    assert_eq!(vm.host.sent(), [Sent::Event(1, Kind::Read, fd)]);
}

fn a_stop_ends_every_poll_once(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let pairs: Vec<_> = (0..10).map(|_| full_pair()).collect();
    for (pid, (ours, _)) in pairs.iter().enumerate() {
        let request = poll(ours.as_raw_fd(), both());
        assert_eq!(vm.request(pid as u32, request), Ok(Answer::Done));
    }
    vm.service.stop(&vm.host);
    let mut sent = vm.host.sent();
    sent.sort_by_key(|sent| match sent {
        Sent::End(pid, _) => *pid,
        other => panic!("{other:?}"),
    });
    let expected: Vec<_> = (0..10).map(|pid| Sent::End(pid, End::Closed)).collect();
    assert_eq!(sent, expected);
    assert!(vm.host.selected.borrow().is_empty());
}

fn two_ports_wait_for_the_same_fd(pollset: Which) {
    let selected = Box::leak(Box::new(Selected::new()));
    let mut one = Vm::sharing(pollset, selected);
    let mut two = Vm::sharing(pollset, selected);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(one.request(1, set(fd, READ)), Ok(Answer::Done));
    assert_eq!(two.request(2, set(fd, READ)), Ok(Answer::Done));
    let events = [&one, &two].map(|vm| *vm.host.selected.borrow().keys().next().unwrap());
    assert_ne!(events[0], events[1], "ERTS knows one user of an event");
    (&theirs).write_all(b"x").unwrap();
    for (vm, event) in [(&mut one, events[0]), (&mut two, events[1])] {
        vm.service.ready(&vm.host, event);
    }
    assert_eq!(one.host.sent(), [Sent::Event(1, Kind::Read, fd)]);
    assert_eq!(two.host.sent(), [Sent::Event(2, Kind::Read, fd)]);
}
