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

use super::home::{Home, Place};
use super::{Armed, Pollset, Select, Stale};
use crate::kinds::Kinds;
use crate::pages::Pages;
use crate::sys::{self, EpollEvent, Errno};
use crate::wire::Counters;

/// Events of one drain. More stay in the kernel, whose instance stays readable,
/// so ERTS calls again after others had their turn.
const BATCH: usize = 128;

/// What is registered under a number.
#[derive(Clone, Copy, Default)]
struct Registration {
    /// 0: nothing.
    generation: u32,
    kinds: Kinds,
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
        *self.registrations.slot(fd) = Registration { generation, kinds };
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

    /// Has ERTS forget the instance and watch it anew: that takes it from the
    /// scheduler pollset to the poll thread, or keeps it there. It is given up
    /// entirely in between, since an event of the scheduler pollset that is
    /// deselected and selected with ERL_DRV_USE kept inside `ready_input` is
    /// never armed again (erl_port_task.c, reset_executed_io_task_handle).
    fn watch_anew(&mut self, host: &dyn Select) {
        host.forget(self.instance.fd());
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
        if self.home.after_ready(count) == Place::Anew {
            self.watch_anew(host);
        }
    }

    fn after_arming(&mut self, fds: &mut Vec<i32>) {
        if self.home.drains_in_control() {
            self.drain(fds);
        }
    }

    fn settle(&mut self, _host: &dyn Select, fd: i32, left: Kinds) -> Result<(), Stale> {
        if left.is_empty() {
            // The one shot has been fired.
            return Ok(());
        }
        self.change(fd, left).map_err(|_| Stale)
    }

    fn is_stale(&mut self, fd: i32) -> bool {
        let kinds = self.registrations.get(fd).kinds;
        self.change(fd, kinds).is_err()
    }

    fn count(&self, counters: &mut Counters) {
        counters.rehomed = self.home.rehomed;
        counters.migrated = self.home.migrated;
    }

    fn close(&mut self, host: &dyn Select) {
        host.forget_and_close(self.instance.fd());
    }
}
