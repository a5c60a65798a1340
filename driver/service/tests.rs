// SPDX-License-Identifier: Apache-2.0
//! The service on real fds, with a host that records instead of a VM.

use super::*;
#[cfg(target_os = "linux")]
use crate::pollset::epoll::Epoll;
use crate::pollset::erts::{Erts, Selected};
use crate::wire;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Processes whose exit the service has not heard of yet.
    dead: RefCell<Vec<u32>>,
    /// The one fd that ERTS refuses.
    refused: Cell<Option<i32>>,
}

/// A process that is gone already.
const DEAD: u32 = 666;

impl Select for Recorder {
    fn select(&self, fd: i32, kinds: Kinds) -> Result<(), Errno> {
        if self.full.get() || self.refused.get() == Some(fd) {
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

    fn deselecting_resets_count(&self) -> bool {
        true
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

    fn is_alive(&self, pid: u32) -> bool {
        !self.dead.borrow().contains(&pid)
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

/// What a VM's ports share lives for ever. It is kept where a leak check finds it: what
/// else is lost is a leak.
fn new_selected() -> &'static Selected {
    static KEPT: Mutex<Vec<&Selected>> = Mutex::new(Vec::new());
    let selected = Box::leak(Box::new(Selected::new()));
    KEPT.lock().unwrap().push(selected);
    selected
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
        Vm::sharing(pollset, new_selected())
    }

    fn sharing(pollset: Which, selected: &'static Selected) -> Vm {
        let host = Recorder::default();
        let service = Service::new(match pollset {
            Which::Erts => Box::new(Erts::sharing(&host, selected)),
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

/// The bytes of a request of a set: its command, what is before and after the set.
fn of_set(before: &[u8], entries: &[(i32, Kinds)], after: &[u8]) -> Vec<u8> {
    let mut bytes = before.to_vec();
    for (fd, kinds) in entries {
        bytes.extend(fd.to_be_bytes());
        bytes.extend(kinds.mode().to_be_bytes());
    }
    bytes.extend(after);
    bytes
}

impl Vm {
    fn set_all(&mut self, caller: u32, entries: &[(i32, Kinds)]) -> Result<Answer, (Errno, i32)> {
        let bytes = of_set(&[], entries, &[]);
        self.request_set(caller, wire::decode(7, &bytes).unwrap())
    }

    fn clear_all(&mut self, caller: u32, entries: &[(i32, Kinds)]) -> Result<Answer, (Errno, i32)> {
        let bytes = of_set(&[], entries, &[]);
        self.request_set(caller, wire::decode(8, &bytes).unwrap())
    }

    fn poll_all(&mut self, caller: u32, entries: &[(i32, Kinds)]) -> Result<Answer, (Errno, i32)> {
        let count = (entries.len() as i32).to_be_bytes();
        let bytes = of_set(&count, entries, &7i32.to_be_bytes());
        self.request_set(caller, wire::decode(10, &bytes).unwrap())
    }

    /// Who waits, and what the pollset watches.
    fn armed(&self, fds: &[i32]) -> Vec<(i32, Kinds, Kinds)> {
        let of = |fd: &i32| (*fd, self.service.table.armed(*fd), self.watched(*fd));
        fds.iter().map(of).collect()
    }
}

/// Pairs of [`full_pair`], and the fds of their first ends.
fn full_pairs(count: usize) -> (Vec<(UnixStream, UnixStream)>, Vec<i32>) {
    let pairs: Vec<_> = (0..count).map(|_| full_pair()).collect();
    let fds = pairs.iter().map(|(ours, _)| ours.as_raw_fd()).collect();
    (pairs, fds)
}

fn nothing_armed(vm: &Vm, fds: &[i32]) {
    let none = |fd: &i32| (*fd, Kinds::NONE, Kinds::NONE);
    assert_eq!(vm.armed(fds), fds.iter().map(none).collect::<Vec<_>>());
    assert_eq!((vm.service.table.len(), vm.service.polls.len()), (0, 0));
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
    the_dead_are_not_in_the_way
    an_old_files_event_is_not_the_new_files
    a_file_that_comes_back_is_a_newcomer
    a_number_that_came_back_goes_to_the_newcomer
    a_closed_fd_is_bad_and_its_waiters_go
    numbers_that_are_no_fd_are_bad
    a_spurious_event_is_armed_again
    a_stop_ends_every_poll_once
    two_ports_wait_for_the_same_fd
    ports_that_run_at_the_same_time_share_a_fd
    a_set_wakes_once_with_all_that_is_ready
    a_set_that_is_ready_arms_nothing
    one_batch_ends_two_sets
    a_set_is_refused_with_the_fd_and_nothing_changes
    a_set_stays_armed_where_it_ends_an_old_one
    a_poll_that_is_replaced_leaves_nothing
    a_cleared_fd_ends_the_set_and_frees_the_others
    waiters_are_told_in_pages
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

fn the_dead_are_not_in_the_way(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, poll(fd, READ)), Ok(Answer::Done));
    assert_eq!(vm.request(2, poll(fd, READ)), Err(Errno::EBUSY));
    vm.host.dead.borrow_mut().push(1);
    assert_eq!(vm.request(2, poll(fd, READ)), Ok(Answer::Done));
    vm.exit(1);
    (&theirs).write_all(b"x").unwrap();
    vm.fire(fd);
    assert_eq!(vm.host.sent(), [Sent::End(2, End::Ready(Kind::Read))]);
}

fn an_old_files_event_is_not_the_new_files(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, set(fd, READ)), Ok(Answer::Done));
    let old = sys::duplicate(fd).unwrap();
    let (other, other_end) = full_pair();
    sys::replace_for_test(other.as_raw_fd(), fd);
    // Both are ready, but only the old one's event is there.
    (&other_end).write_all(b"x").unwrap();
    (&theirs).write_all(b"x").unwrap();
    vm.fire(fd);
    assert_eq!(vm.host.sent(), []);
    assert_eq!(vm.service.table.armed(fd), Kinds::NONE);
    sys::close(old);
}

fn a_file_that_comes_back_is_a_newcomer(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (ours, theirs) = full_pair();
    let fd = ours.as_raw_fd();
    assert_eq!(vm.request(1, set(fd, READ)), Ok(Answer::Done));
    let first = sys::duplicate(fd).unwrap();
    let (other, other_end) = full_pair();
    sys::replace_for_test(other.as_raw_fd(), fd);
    assert_eq!(vm.request(1, set(fd, READ)), Ok(Answer::Done));
    sys::replace_for_test(first, fd);
    assert_eq!(vm.request(2, set(fd, WRITE)), Ok(Answer::Done));
    // The waiter of the file between is gone.
    assert_eq!(vm.service.table.armed(fd), WRITE);
    (&other_end).write_all(b"x").unwrap();
    drain(&theirs);
    vm.fire(fd);
    assert_eq!(vm.host.sent(), [Sent::Event(2, Kind::Write, fd)]);
    sys::close(first);
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
    let selected = new_selected();
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

/// Each port has a lock of its own in ERTS; what is shared has one here. No two of them have
/// the same event at the same time.
fn ports_that_run_at_the_same_time_share_a_fd(pollset: Which) {
    let selected = new_selected();
    let (ours, _theirs) = full_pair();
    let fd = ours.as_raw_fd();
    // Relaxed: it is to order nothing that the driver itself leaves unordered.
    let in_use = AtomicBool::new(false);
    let port = |pid| {
        let mut vm = Vm::sharing(pollset, selected);
        for _ in 0..300 {
            assert_eq!(vm.request(pid, set(fd, READ)), Ok(Answer::Done));
            let own = pollset == Which::Erts && vm.host.selected.borrow().contains_key(&fd);
            if own {
                assert!(!in_use.swap(true, Ordering::Relaxed));
                std::thread::yield_now();
                in_use.store(false, Ordering::Relaxed);
            }
            assert_eq!(vm.request(pid, clear(fd, READ)), Ok(Answer::Done));
            assert_eq!(vm.watched(fd), Kinds::NONE);
        }
        vm.service.stop(&vm.host);
    };
    std::thread::scope(|scope| {
        for pid in 1..=4 {
            scope.spawn(move || port(pid));
        }
    });
    let mut last = Vm::sharing(pollset, selected);
    assert_eq!(last.request(1, set(fd, READ)), Ok(Answer::Done));
    assert_eq!(last.watched(fd), READ, "nothing is left of the others");
}

fn a_set_wakes_once_with_all_that_is_ready(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (pairs, fds) = full_pairs(4);
    let entries: Vec<_> = fds.iter().map(|fd| (*fd, both())).collect();
    assert_eq!(vm.poll_all(1, &entries), Ok(Answer::Done));
    assert_eq!(vm.service.table.len(), 8);
    assert_eq!(*vm.host.monitored.borrow(), [1]);
    (&pairs[1].1).write_all(b"x").unwrap();
    drain(&pairs[3].1);
    (&pairs[3].1).write_all(b"x").unwrap();
    // One event: the others are found by asking.
    vm.fire(fds[1]);
    let all = [(fds[1], READ), (fds[3], both())].map(|(fd, kinds)| Entry { fd, kinds });
    assert_eq!(vm.host.sent(), [Sent::AllReady(1, all.to_vec())]);
    nothing_armed(&vm, &fds);
    // What ERTS reports late finds nobody.
    vm.fire(fds[3]);
    assert_eq!(vm.host.sent(), []);
}

fn a_set_that_is_ready_arms_nothing(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (pairs, fds) = full_pairs(3);
    let entries: Vec<_> = fds.iter().map(|fd| (*fd, READ)).collect();
    // What the caller had armed of these kinds goes, and of others it stays.
    assert_eq!(vm.request(1, set(fds[0], both())), Ok(Answer::Done));
    (&pairs[2].1).write_all(b"x").unwrap();
    let all = vec![Entry {
        fd: fds[2],
        kinds: READ,
    }];
    assert_eq!(vm.poll_all(1, &entries), Ok(Answer::AllReady(all)));
    assert_eq!(vm.armed(&fds[..1]), [(fds[0], WRITE, WRITE)]);
    assert_eq!(vm.service.table.len(), 1);
    assert_eq!(vm.service.polls.len(), 0);
    assert_eq!(vm.host.sent(), []);
}

fn one_batch_ends_two_sets(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (pairs, fds) = full_pairs(3);
    let [a, b, c] = fds[..] else { unreachable!() };
    assert_eq!(vm.poll_all(1, &[(a, READ), (b, READ)]), Ok(Answer::Done));
    assert_eq!(vm.poll_all(2, &[(b, WRITE), (c, READ)]), Ok(Answer::Done));
    // Of the two sets' common fd, and of what each has alone.
    for pair in &pairs {
        drain(&pair.1);
        (&pair.1).write_all(b"x").unwrap();
    }
    for fd in &fds {
        vm.fire(*fd);
    }
    let mut sent = vm.host.sent();
    sent.sort_by_key(|one| matches!(one, Sent::AllReady(2, _)));
    let all = |entries: [(i32, Kinds); 2]| entries.map(|(fd, kinds)| Entry { fd, kinds }).to_vec();
    assert_eq!(
        sent,
        [
            Sent::AllReady(1, all([(a, READ), (b, READ)])),
            Sent::AllReady(2, all([(b, WRITE), (c, READ)])),
        ]
    );
    nothing_armed(&vm, &fds);
}

/// Refused in the middle, by the pollset itself: what it was told before is taken back.
fn a_set_is_refused_with_the_fd_and_nothing_changes(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (pairs, mut fds) = full_pairs(4);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let (refused, errno, wanted) = match pollset {
        Which::Erts => (fds[3], Errno::EINVAL, WRITE),
        // A regular file, of which epoll takes nothing, and which has not hung up.
        #[cfg(target_os = "linux")]
        Which::Epoll => (file.as_raw_fd(), Errno::ENOTSUP, Kinds::HANGUP),
    };
    vm.host.refused.set(Some(refused));
    fds.truncate(3);
    let [a, b, c] = fds[..] else { unreachable!() };
    assert_eq!(vm.request(1, set(a, READ)), Ok(Answer::Done));
    assert_eq!(vm.poll_all(2, &[(b, READ), (c, READ)]), Ok(Answer::Done));
    let before = vm.armed(&fds);
    let last = [(a, WRITE), (b, WRITE), (refused, wanted)];
    let first = [(refused, wanted), (b, WRITE), (a, WRITE)];
    for entries in [&last, &first] {
        assert_eq!(vm.set_all(1, entries), Err((errno, refused)));
        assert_eq!(vm.poll_all(1, entries), Err((errno, refused)));
        assert_eq!(vm.poll_all(3, entries), Err((errno, refused)));
        assert_eq!(vm.armed(&fds), before);
        assert_eq!(vm.service.polls.len(), 1);
    }
    assert_eq!(vm.host.sent(), []);
    // Nobody is told what was refused; those who waited are.
    for pair in &pairs[..3] {
        drain(&pair.1);
        (&pair.1).write_all(b"x").unwrap();
    }
    vm.fire(a);
    if pollset == Which::Erts {
        vm.fire(c);
    }
    let all = [b, c].map(|fd| Entry { fd, kinds: READ }).to_vec();
    let mut sent = vm.host.sent();
    sent.sort_by_key(|one| matches!(one, Sent::AllReady(..)));
    assert_eq!(
        sent,
        [Sent::Event(1, Kind::Read, a), Sent::AllReady(2, all)]
    );
    nothing_armed(&vm, &fds);
}

fn a_set_stays_armed_where_it_ends_an_old_one(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (pairs, fds) = full_pairs(2);
    let (other, other_end) = full_pair();
    let entries = |kinds| [(fds[0], kinds), (fds[1], kinds)];
    assert_eq!(vm.poll_all(1, &entries(READ)), Ok(Answer::Done));
    let old = sys::duplicate(fds[1]).unwrap();
    sys::replace_for_test(other.as_raw_fd(), fds[1]);
    // The second ends the old poll, which had the first, too.
    assert_eq!(vm.set_all(2, &entries(WRITE)), Ok(Answer::Done));
    assert_eq!(vm.host.sent(), [Sent::End(1, End::BadFd(Some(fds[1])))]);
    assert_eq!(
        vm.armed(&fds),
        fds.iter().map(|fd| (*fd, WRITE, WRITE)).collect::<Vec<_>>()
    );
    drain(&pairs[0].1);
    drain(&other_end);
    vm.fire(fds[0]);
    if pollset == Which::Erts {
        vm.fire(fds[1]);
    }
    let mut sent = vm.host.sent();
    sent.sort_by_key(|one| matches!(one, Sent::Event(_, _, fd) if *fd == fds[1]));
    assert_eq!(
        sent,
        [fds[0], fds[1]].map(|fd| Sent::Event(2, Kind::Write, fd))
    );
    sys::close(old);
}

/// A process that does not wait for its answers, over the wire.
fn a_poll_that_is_replaced_leaves_nothing(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (pairs, fds) = full_pairs(3);
    let [a, b, c] = fds[..] else { unreachable!() };
    assert_eq!(
        vm.poll_all(1, &[(a, READ), (b, READ), (c, READ)]),
        Ok(Answer::Done)
    );
    assert_eq!(vm.poll_all(1, &[(b, both())]), Ok(Answer::Done));
    assert_eq!(vm.service.polls.len(), 1);
    assert_eq!(
        vm.armed(&fds),
        [
            (a, Kinds::NONE, Kinds::NONE),
            (b, both(), both()),
            (c, Kinds::NONE, Kinds::NONE)
        ]
    );
    assert_eq!(vm.set_all(1, &[(a, READ), (b, WRITE)]), Ok(Answer::Done));
    assert_eq!(vm.service.polls.len(), 0);
    assert_eq!(vm.armed(&fds[..2]), [(a, READ, READ), (b, WRITE, WRITE)]);
    (&pairs[1].1).write_all(b"x").unwrap();
    vm.fire(b);
    assert_eq!(vm.host.sent(), []);
    drain(&pairs[1].1);
    vm.fire(b);
    assert_eq!(vm.host.sent(), [Sent::Event(1, Kind::Write, b)]);
    vm.exit(1);
    nothing_armed(&vm, &fds);
}

fn a_cleared_fd_ends_the_set_and_frees_the_others(pollset: Which) {
    let mut vm = Vm::new(pollset);
    let (_pairs, fds) = full_pairs(3);
    let [a, b, c] = fds[..] else { unreachable!() };
    assert_eq!(
        vm.poll_all(1, &[(a, READ), (b, both()), (c, READ)]),
        Ok(Answer::Done)
    );
    assert_eq!(vm.set_all(2, &[(a, WRITE)]), Ok(Answer::Done));
    assert_eq!(
        vm.clear_all(3, &[(a, WRITE), (b, WRITE), (c, READ)]),
        Ok(Answer::Done)
    );
    assert_eq!(vm.host.sent(), [Sent::End(1, End::Canceled(Some(b)))]);
    nothing_armed(&vm, &fds);
}

fn waiters_are_told_in_pages(pollset: Which) {
    let mut vm = Vm::new(pollset);
    // Numbers of one socket: a test run may not have many files.
    let (ours, _theirs) = full_pair();
    let twins: Vec<_> = (0..270).map(|_| ours.try_clone().unwrap()).collect();
    let mut fds: Vec<i32> = twins.iter().map(AsRawFd::as_raw_fd).collect();
    fds.sort_unstable();
    let entries: Vec<_> = fds.iter().map(|fd| (*fd, both())).collect();
    assert_eq!(vm.set_all(1, &entries), Ok(Answer::Done));
    let expected: Vec<_> = fds
        .iter()
        .flat_map(|fd| [(*fd, Kind::Read, 1), (*fd, Kind::Write, 1)])
        .collect();
    let (mut told, mut pages) = (Vec::new(), Vec::new());
    let mut next = Some(0);
    while let Some(first) = next {
        let request = Request::Waiters { first, key: 7 };
        assert_eq!(vm.request(2, request), Ok(Answer::Done));
        let [Sent::Waiters(page, after)] = &vm.host.sent()[..] else {
            panic!("not one message");
        };
        pages.push(page.len());
        told.extend(page.iter().copied());
        next = *after;
    }
    assert_eq!((told, pages), (expected, vec![512, 28]));
    // An exact page has no next.
    assert_eq!(vm.clear_all(2, &entries[256..]), Ok(Answer::Done));
    assert_eq!(
        vm.request(2, Request::Waiters { first: 0, key: 7 }),
        Ok(Answer::Done)
    );
    let sent = vm.host.sent();
    assert!(matches!(&sent[..], [Sent::Waiters(page, None)] if page.len() == 512));
    assert_eq!(
        vm.request(
            2,
            Request::Waiters {
                first: i32::MIN,
                key: 7
            }
        ),
        Ok(Answer::Done)
    );
    assert_eq!(vm.host.sent(), sent);
}
