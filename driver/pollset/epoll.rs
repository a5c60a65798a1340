// SPDX-License-Identifier: Apache-2.0
//! The `epoll` pollset: an epoll instance of inert's own, of which ERTS sees one
//! fd only. Linux.
//!
//! ERTS never sees the fds of the waiters, so whoever else uses them through
//! ERTS (inet, socket, a port) is not disturbed. Arming is one epoll_ctl(2), and
//! one `ready_input` drains many events.
//!
//! A registration belongs to the open file *and* the number. When a number is
//! closed its registration goes with the file, or, if the file is open elsewhere
//! still (a duplicate, a forked child), stays behind. Hence:
//!
//! - an event carries the generation of its registration, and one that is not
//!   the number's current generation is dropped;
//! - before a waiter is told, the file's identity is compared with the one that was armed;
//! - registrations are one-shot, so one left behind is heard once at most;
//! - EPOLL_CTL_MOD finding nothing (`ENOENT`) means that the number has come back
//!   as another file.
//!
//! Fds that are armed for priority are registered otherwise, because of files such as
//! /proc/self/mounts and /proc/pressure. They forget their event once somebody has asked,
//! and EPOLL_CTL_MOD asks, and so does whoever waits for the instance, before
//! epoll_wait(2) asks again and finds nothing. So such a fd stays registered for the edges
//! of all kinds: such a file is always readable, and an edge of it after the first, whatever
//! is left of it, is its event. What comes while nobody waits is kept for who comes next.
//! Whether the number has come back is then seen by EPOLL_CTL_ADD, which says `EEXIST` and
//! asks nothing.
//!
//! One open file may be registered under many numbers. The kernel takes 500 ways from a
//! file through nested instances (reverse_path_check in fs/eventpoll.c), and refuses whoever
//! comes next. That must not be ERTS when it adds the instance to a second one of its own,
//! the scheduler pollset: it would lose the instance. So from the beginning another instance
//! holds that place, and leaves it when ERTS comes: the number too many is then refused to
//! who arms it.

use super::home::{Advice, Home};
use super::{Armed, Pollset, Report, Select, Unwatched};
use crate::kinds::{Kind, Kinds};
use crate::pages::Pages;
use crate::sys::{self, EpollEvent, Errno, FileId, Notice};
use crate::wire::Counters;
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher;
use std::num::NonZeroU32;

/// Events of one drain. More stay in the kernel, whose instance stays readable,
/// so ERTS calls again after others had their turn.
const BATCH: usize = 128;

/// What is registered under a number.
#[derive(Clone, Copy, Default)]
struct Registration {
    /// 0: nothing.
    generation: u32,
    kinds: Kinds,
    file: Option<FileMark>,
    /// Registered for the edges of all kinds.
    edges: bool,
    /// The file forgets what it has told: a regular one, which epoll takes of
    /// /proc and /sys only. (A socket's out-of-band data stays.)
    forgets: bool,
    /// Told while nobody waited.
    untold: bool,
    /// The file's identity is shared with others: only epoll tells it from them.
    shared: bool,
    /// Not the first registration under this number: an earlier file, if it is open still
    /// and comes back, finds its own.
    again: bool,
}

/// How kinds are registered.
fn notice(kinds: Kinds) -> (Kinds, Notice) {
    if kinds.contains(Kind::Priority) {
        (Kinds::ALL, Notice::Edges)
    } else {
        (kinds, Notice::Once)
    }
}

/// What is kept of a file's identity: 32 bits, and two files that agree in them
/// are told apart by what else there is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileMark(NonZeroU32);

impl FileMark {
    fn new(id: FileId) -> FileMark {
        let hash = FxBuildHasher.hash_one(id);
        FileMark(NonZeroU32::new((hash >> 32) as u32).unwrap_or(NonZeroU32::MAX))
    }
}

fn data(fd: i32, generation: u32) -> u64 {
    (u64::from(generation) << 32) | u64::from(fd as u32)
}

/// See the module's documentation.
pub struct Epoll {
    instance: sys::Epoll,
    /// Stands in for ERTS's second instance. Nobody waits for it.
    stand_in: sys::Epoll,
    /// Whether the instance is in it.
    stands_in: bool,
    registrations: Pages<Registration>,
    generation: u32,
    events: Box<[EpollEvent; BATCH]>,
    /// Drained and not yet reported.
    early: Vec<Report>,
    /// Numbers that were ever registered: no fewer than are.
    registered: u32,
    home: Home,
}

/// With no kinds: nothing of what happens needs to be kept.
fn hold(stand_in: sys::Epoll, instance: sys::Epoll) -> Result<(), Errno> {
    stand_in.add(instance.fd(), Kinds::NONE, Notice::Once, 0)
}

impl Epoll {
    /// Creates the instance and has ERTS watch it. To be [closed](Pollset::close).
    pub fn new(host: &dyn Select) -> Result<Epoll, Errno> {
        let instance = sys::Epoll::create()?;
        let stand_in = sys::Epoll::create().inspect_err(|_| sys::close(instance.fd()))?;
        let watched =
            hold(stand_in, instance).and_then(|()| host.select(instance.fd(), Kinds::READ));
        if let Err(errno) = watched {
            sys::close(stand_in.fd());
            sys::close(instance.fd());
            return Err(errno);
        }
        Ok(Epoll {
            instance,
            stand_in,
            stands_in: true,
            registrations: Pages::new(),
            generation: 0,
            events: Box::new([EpollEvent::EMPTY; BATCH]),
            early: Vec::new(),
            registered: 0,
            home: Home::new(host.deselecting_resets_count()),
        })
    }

    fn next_generation(&mut self) -> u32 {
        // After 2^32 registrations numbers come again; those left behind from
        // then are heard once at most, and the file's identity has the last word.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.generation
    }

    fn register(&mut self, fd: i32, kinds: Kinds) -> Result<(), Errno> {
        if self.home.leaves() {
            // Until the next round ERTS does not come.
            self.stand_in();
        }
        let generation = self.next_generation();
        let (asked, how) = notice(kinds);
        match self.instance.add(fd, asked, how, data(fd, generation)) {
            // Registered by a file that was here before and has come back.
            Err(Errno::EEXIST) => {
                self.instance.modify(fd, asked, how, data(fd, generation))?;
            }
            result => result?,
        }
        self.registered_as(fd, generation, kinds);
        self.skip_first_edge(fd);
        Ok(())
    }

    /// The first edge says that the file can be read, which is so always.
    fn skip_first_edge(&mut self, fd: i32) {
        let registration = self.registrations.get(fd);
        if registration.edges && registration.forgets {
            let mut reports = Vec::new();
            // One more than all that is registered can be, if nothing happens meanwhile.
            for _ in 0..=self.registered / BATCH as u32 {
                if self.drain(&mut reports) < BATCH {
                    break;
                }
            }
            reports.retain(|report| report.fd != fd);
            self.early.append(&mut reports);
        }
    }

    fn registered_as(&mut self, fd: i32, generation: u32, kinds: Kinds) {
        let id = sys::file_id(fd).ok();
        let slot = self.registrations.slot(fd);
        self.registered += u32::from(slot.generation == 0);
        *slot = Registration {
            generation,
            kinds,
            file: id.map(FileMark::new),
            edges: notice(kinds).1 == Notice::Edges,
            forgets: id.is_some_and(|id| id.is_regular()),
            untold: false,
            shared: id.is_some_and(|id| id.is_shared()),
            again: slot.again || slot.generation != 0,
        };
    }

    /// Whether the file behind the number is the one that is registered, as far as
    /// can be known.
    fn is_same_file(&self, fd: i32) -> bool {
        let is = |mark| match sys::file_id(fd) {
            Ok(id) => FileMark::new(id) == mark,
            // Another errno, such as ENOMEM, says nothing of the file.
            Err(errno) => errno != Errno::EBADF,
        };
        self.registrations.get(fd).file.is_none_or(is)
    }

    /// Changes a registration. An error says that it is no longer there.
    fn change(&mut self, fd: i32, kinds: Kinds) -> Result<(), Errno> {
        let registration = self.registrations.get(fd);
        if registration.generation == 0 {
            return Err(Errno::ENOENT);
        }
        let (asked, how) = notice(kinds);
        let edges = how == Notice::Edges;
        if edges && registration.edges {
            return self.confirm(fd);
        }
        self.instance
            .modify(fd, asked, how, data(fd, registration.generation))?;
        let slot = self.registrations.slot(fd);
        slot.kinds = kinds;
        slot.edges = edges;
        self.skip_first_edge(fd);
        Ok(())
    }

    fn register_or_change(&mut self, fd: i32, kinds: Kinds) -> Result<Armed, Errno> {
        let registration = self.registrations.get(fd);
        if registration.generation == 0 {
            self.register(fd, kinds)?;
            return Ok(Armed::Watched);
        }
        // EPOLL_CTL_MOD would find what this file has left behind, and not see that
        // another one was armed meanwhile.
        if registration.again && !self.is_same_file(fd) {
            self.register(fd, kinds)?;
            return Ok(Armed::Replaced);
        }
        match self.change(fd, kinds) {
            Ok(()) => Ok(Armed::Watched),
            Err(Errno::ENOENT) => {
                self.register(fd, kinds)?;
                Ok(Armed::Replaced)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Whether a registration is still there.
    fn confirm(&mut self, fd: i32) -> Result<(), Errno> {
        if self.registrations.get(fd).generation == 0 || !self.is_same_file(fd) {
            return Err(Errno::ENOENT);
        }
        self.find(fd)
    }

    /// The same, of a file that may be the one that was registered. Nothing is asked of it.
    fn find(&mut self, fd: i32) -> Result<(), Errno> {
        let generation = self.next_generation();
        let (asked, how) = notice(Kinds::PRIORITY);
        match self.instance.add(fd, asked, how, data(fd, generation)) {
            Err(Errno::EEXIST) => Ok(()),
            // A file of the same identity, opened anew under the same number. Who
            // arms it registers it; so far this was a question only.
            Ok(()) => {
                self.instance.remove(fd)?;
                Err(Errno::ENOENT)
            }
            Err(errno) => Err(errno),
        }
    }

    fn drain(&mut self, reports: &mut Vec<Report>) -> usize {
        let Ok(count) = self.instance.wait(&mut self.events[..]) else {
            // EINTR cannot be: it does not wait. The next call tries again.
            return 0;
        };
        for event in &self.events[..count] {
            let (fd, generation) = (event.data() as u32 as i32, (event.data() >> 32) as u32);
            let registration = self.registrations.get(fd);
            if registration.generation == generation {
                let told = match registration.edges && registration.forgets {
                    true => Kinds::PRIORITY,
                    false => Kinds::NONE,
                };
                // The kernel has looked just now. But edges are told of kinds that are no
                // longer ready beside those that are; and of a file that is not known,
                // the number's readiness is all that can be compared.
                let found = match !registration.edges && registration.file.is_some() {
                    true => Some(event.ready(registration.kinds)),
                    false => None,
                };
                reports.push(Report { fd, found, told });
            }
        }
        count
    }

    /// Leaves the place to ERTS's second instance.
    fn make_way(&mut self) {
        if self.stands_in {
            // It is there, as `stands_in` says.
            let _ = self.stand_in.remove(self.instance.fd());
            self.stands_in = false;
        }
    }

    /// Takes the place that ERTS's second instance has left, or has not taken yet. The
    /// kernel may refuse that, by its limit or for want of memory.
    fn stand_in(&mut self) {
        self.stands_in = self.stands_in || hold(self.stand_in, self.instance).is_ok();
    }

    /// Sets back ERTS's count of rounds.
    fn stay(&mut self, host: &dyn Select) {
        host.deselect(self.instance.fd(), Kinds::READ);
        self.watch(host);
    }

    /// Has ERTS forget the instance and watch it anew, on the poll thread. It has
    /// to be given up entirely: an event of the scheduler pollset that is
    /// deselected and selected inside `ready_input`, with ERL_DRV_USE kept, is
    /// never armed again (erl_port_task.c, reset_executed_io_task_handle).
    fn come_back(&mut self, host: &dyn Select) {
        host.forget(self.instance.fd());
        self.watch(host);
    }

    /// On the poll thread, and so in one instance of ERTS's.
    fn watch(&mut self, host: &dyn Select) {
        // Refused only by a port that is closed.
        let _ = host.select(self.instance.fd(), Kinds::READ);
        self.stand_in();
    }
}

impl Pollset for Epoll {
    fn kinds(&self) -> Kinds {
        Kinds::ALL
    }

    fn arm(&mut self, _host: &dyn Select, fd: i32, kinds: Kinds) -> Result<Armed, Errno> {
        match self.register_or_change(fd, kinds) {
            // A file that can be read and written at any time has nothing else to tell.
            Err(Errno::EPERM) => Err(Errno::ENOTSUP),
            result => result,
        }
    }

    /// Nothing is done: what is still registered fires once at most, and finds
    /// no waiter. That saves a system call per fdclr and per poll that times out,
    /// and the next arming needs one in any case, to see whether the number has
    /// come back as another file.
    fn disarm(&mut self, _host: &dyn Select, _fd: i32, _left: Kinds) {}

    fn ready(&mut self, host: &dyn Select, _event: i32, reports: &mut Vec<Report>) {
        let count = self.drain(reports);
        match self.home.after_ready(count, self.registered) {
            Advice::Keep => {}
            Advice::Stay => self.stay(host),
            // Nobody has kept the place, so it may be taken.
            Advice::Leave if !self.stands_in && self.home.stays() => self.stay(host),
            Advice::Leave => self.make_way(),
            Advice::Return => self.come_back(host),
        }
    }

    fn after_arming(&mut self, reports: &mut Vec<Report>) {
        reports.append(&mut self.early);
        if self.home.looks() {
            let count = self.drain(reports);
            self.home.after_look(count);
        }
    }

    fn settle(&mut self, _host: &dyn Select, fd: i32, left: Kinds) -> Result<(), Unwatched> {
        // The event may be of a file that has left the number and is open elsewhere.
        if !self.is_same_file(fd) {
            return Err(Unwatched::Stale);
        }
        let registration = self.registrations.get(fd);
        // The next edge comes anyway, or the one shot has been fired.
        let nothing_to_watch = registration.edges || left.is_empty();
        let watched = match (nothing_to_watch, registration.shared) {
            (true, false) => Ok(()),
            // Not by EPOLL_CTL_MOD with no kinds: it would tell of a hang-up, again and again.
            (true, true) => self.find(fd),
            (false, _) => self.change(fd, left),
        };
        watched.map_err(|errno| {
            if errno.is_shortage() {
                Unwatched::Refused
            } else {
                Unwatched::Stale
            }
        })
    }

    fn untold(&mut self, fd: i32) -> Kinds {
        if !self.registrations.get(fd).untold {
            return Kinds::NONE;
        }
        self.registrations.slot(fd).untold = false;
        match self.confirm(fd) {
            Ok(()) => Kinds::PRIORITY,
            Err(_) => Kinds::NONE,
        }
    }

    fn keep(&mut self, fd: i32, told: Kinds) {
        let registration = self.registrations.get(fd);
        if told.contains(Kind::Priority) && registration.edges && registration.forgets {
            self.registrations.slot(fd).untold = true;
        }
    }

    /// A file that left its number, stayed open and came back finds what it left
    /// behind, where EPOLL_CTL_MOD alone would take it for the file that had the
    /// number meanwhile.
    fn is_stale(&mut self, fd: i32) -> bool {
        let registration = self.registrations.get(fd);
        let has_left = |errno: Errno| !errno.is_shortage();
        let stale =
            !self.is_same_file(fd) || self.change(fd, registration.kinds).is_err_and(has_left);
        if stale && registration.generation != 0 {
            let slot = self.registrations.slot(fd);
            slot.generation = 0;
            slot.again = true;
            self.registered -= 1;
        }
        stale
    }

    fn count(&self, counters: &mut Counters) {
        counters.returned = self.home.returned;
        counters.pollset = 1;
        counters.migrated = self.home.migrated;
    }

    fn close(&mut self, host: &dyn Select) {
        // Closed alone, it would go on in a forked child that has it.
        self.make_way();
        sys::close(self.stand_in.fd());
        host.forget_and_close(self.instance.fd());
    }
}
