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
//! - registrations are one-shot, so one left behind is heard once at most;
//! - EPOLL_CTL_MOD finding nothing (`ENOENT`) means that the number has come back
//!   as another file.

use super::home::{Advice, Home};
use super::{Armed, Pollset, Select, Stale};
use crate::kinds::Kinds;
use crate::pages::Pages;
use crate::sys::{self, EpollEvent, Errno, FileId};
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
    registrations: Pages<Registration>,
    generation: u32,
    events: Box<[EpollEvent; BATCH]>,
    /// Numbers that were ever registered: no fewer than are.
    registered: u32,
    home: Home,
}

impl Epoll {
    /// Creates the instance and has ERTS watch it. To be [closed](Pollset::close).
    pub fn new(host: &dyn Select) -> Result<Epoll, Errno> {
        let instance = sys::Epoll::create()?;
        if let Err(errno) = host.select(instance.fd(), Kinds::READ) {
            sys::close(instance.fd());
            return Err(errno);
        }
        Ok(Epoll {
            instance,
            registrations: Pages::new(),
            generation: 0,
            events: Box::new([EpollEvent::EMPTY; BATCH]),
            registered: 0,
            home: Home::new(),
        })
    }

    fn register(&mut self, fd: i32, kinds: Kinds) -> Result<(), Errno> {
        // After 2^32 registrations numbers come again; those left behind from
        // then are heard once at most, and poll(2) has the last word.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        let generation = self.generation;
        match self.instance.add(fd, kinds, data(fd, generation)) {
            // Registered by a file that was here before and has come back.
            Err(Errno::EEXIST) => self.instance.modify(fd, kinds, data(fd, generation))?,
            result => result?,
        }
        let slot = self.registrations.slot(fd);
        self.registered += u32::from(slot.generation == 0);
        *slot = Registration {
            generation,
            kinds,
            file: sys::file_id(fd).ok().map(FileMark::new),
        };
        Ok(())
    }

    /// Changes a registration. An error says that it is no longer there.
    fn change(&mut self, fd: i32, kinds: Kinds) -> Result<(), Errno> {
        let generation = self.registrations.get(fd).generation;
        if generation == 0 {
            return Err(Errno::ENOENT);
        }
        self.instance.modify(fd, kinds, data(fd, generation))?;
        self.registrations.slot(fd).kinds = kinds;
        Ok(())
    }

    fn drain(&mut self, fds: &mut Vec<i32>) -> usize {
        let Ok(count) = self.instance.wait(&mut self.events[..]) else {
            // EINTR cannot be: it does not wait. The next call tries again.
            return 0;
        };
        for event in &self.events[..count] {
            let (fd, generation) = (event.data() as u32 as i32, (event.data() >> 32) as u32);
            if self.registrations.get(fd).generation == generation {
                fds.push(fd);
            }
        }
        count
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

    fn watch(&mut self, host: &dyn Select) {
        // Refused only by a port that is closed.
        let _ = host.select(self.instance.fd(), Kinds::READ);
    }
}

impl Pollset for Epoll {
    fn arm(&mut self, _host: &dyn Select, fd: i32, kinds: Kinds) -> Result<Armed, Errno> {
        if self.registrations.get(fd).generation == 0 {
            self.register(fd, kinds)?;
            return Ok(Armed::Watched);
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

    /// Nothing is done: what is still registered fires once at most, and finds
    /// no waiter. That saves a system call per fdclr and per poll that times out,
    /// and the next arming needs one in any case, to see whether the number has
    /// come back as another file.
    fn disarm(&mut self, _host: &dyn Select, _fd: i32, _left: Kinds) {}

    fn ready(&mut self, host: &dyn Select, _event: i32, fds: &mut Vec<i32>) {
        let count = self.drain(fds);
        match self.home.after_ready(count, self.registered) {
            Advice::Keep => {}
            Advice::Stay => self.stay(host),
            Advice::Return => self.come_back(host),
        }
    }

    fn after_arming(&mut self, fds: &mut Vec<i32>) {
        if self.home.looks() {
            let count = self.drain(fds);
            self.home.after_look(count);
        }
    }

    fn settle(&mut self, _host: &dyn Select, fd: i32, left: Kinds) -> Result<(), Stale> {
        if left.is_empty() {
            // The one shot has been fired.
            return Ok(());
        }
        self.change(fd, left).map_err(|_| Stale)
    }

    /// A file that left its number, stayed open and came back finds what it left
    /// behind, where EPOLL_CTL_MOD alone would take it for the file that had the
    /// number meanwhile.
    fn is_stale(&mut self, fd: i32) -> bool {
        let registration = self.registrations.get(fd);
        let file = sys::file_id(fd).ok().map(FileMark::new);
        let stale = self.change(fd, registration.kinds).is_err() || file != registration.file;
        if stale && registration.generation != 0 {
            self.registrations.slot(fd).generation = 0;
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
        host.forget_and_close(self.instance.fd());
    }
}
