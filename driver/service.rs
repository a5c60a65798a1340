// SPDX-License-Identifier: Apache-2.0
//! One port's service: who may wait for what, who is told, and what the pollset
//! has to watch. Knows neither ERTS nor bytes: the host stands for both.

use crate::kinds::{Kind, Kinds};
use crate::pollset::{Armed, Pollset, Select};
use crate::reference::{Keeper, Kept};
use crate::sys::{self, Errno, Found, PollFd};
use crate::table::Table;
use crate::wire::{Answer, Counters, Request, Tag};
use std::hash::Hash;

/// What the service needs of the VM, for the length of one callback.
pub trait Host: Select {
    type Pid: Copy + Eq + Hash;

    /// Tells a process something. One that is gone is not told.
    fn tell(&self, pid: Self::Pid, message: Message<'_>);

    /// Has [`Service::process_exit`] called when the process is gone. False if
    /// it is gone already.
    fn monitor(&self, pid: Self::Pid) -> bool;

    /// Tells the scheduler that work on this many fds was done.
    fn worked(&self, fds: usize);
}

/// A message to a process.
#[derive(Debug)]
pub enum Message<'a> {
    /// `{inert_read, Port, FD}` or `{inert_write, Port, FD}`.
    Event { kind: Kind, fd: i32 },
    /// `{inert_poll, Key, Result}` or `{Reference, Result}`: the end of a poll.
    Poll { tag: &'a KeptTag, end: End },
}

/// A poll's tag for as long as it waits.
#[derive(Debug, Clone)]
pub enum KeptTag {
    Key(i32),
    Reference(Kept),
}

/// How a poll that waited ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Ready(Kind),
    /// The file that was polled is gone from its number.
    BadFd,
    /// Another process has cleared the kind.
    Canceled,
    /// The port is closing.
    Closed,
}

/// How a waiter is told.
enum Notify {
    /// By one message per kind, as fdset promises.
    Event,
    /// By the one message that ends its poll.
    Poll(KeptTag),
}

/// See the module's documentation.
pub struct Service<P> {
    table: Table<P, Notify>,
    pollset: Box<dyn Pollset + Send>,
    keeper: Keeper,
    /// What has happened; what is, is filled in when somebody asks.
    counters: Counters,
    /// Empty between calls; kept to save their memory from being made anew.
    fds: Vec<i32>,
    polled: Vec<PollFd>,
}

impl<P: Copy + Eq + Hash> Service<P> {
    pub fn new(pollset: Box<dyn Pollset + Send>) -> Self {
        Service {
            table: Table::new(),
            pollset,
            keeper: Keeper::default(),
            counters: Counters::default(),
            fds: Vec::new(),
            polled: Vec::new(),
        }
    }

    /// A request of the process `caller`.
    pub fn request<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        request: Request<'_>,
    ) -> Result<Answer, Errno> {
        match request {
            Request::Set { fd, kinds } => {
                let answer = self.set(host, caller, fd, kinds);
                if answer == Ok(Answer::Done) {
                    self.after_arming(host);
                }
                answer
            }
            Request::Clear { fd, kinds } => self.clear(host, fd, kinds),
            Request::Check { fd, kinds } => {
                let ready = self.check(host, caller, fd, kinds)?;
                Ok(ready.iter().next().map_or(Answer::NotReady, Answer::Ready))
            }
            Request::Poll { fd, kinds, tag } => {
                let tag = match tag {
                    Tag::Key(key) => KeptTag::Key(key),
                    Tag::Reference(reference) => {
                        KeptTag::Reference(self.keeper.keep(reference).ok_or(Errno::EINVAL)?)
                    }
                };
                let answer = self.poll(host, caller, fd, kinds, tag);
                if answer == Ok(Answer::Done) {
                    self.after_arming(host);
                }
                answer
            }
            Request::Info => Ok(Answer::Info(self.info())),
            Request::Cancel { fd, kinds } => Ok(self.cancel(host, caller, fd, kinds)),
        }
    }

    fn info(&self) -> Counters {
        let mut counters = self.counters;
        counters.armed = self.table.len() as u64;
        counters.processes = self.table.processes() as u64;
        self.pollset.count(&mut counters);
        counters
    }

    /// The kinds that are ready now, of those that the caller may have.
    fn check<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        fd: i32,
        kinds: Kinds,
    ) -> Result<Kinds, Errno> {
        let mut one = [PollFd::new(fd, kinds)];
        sys::poll(&mut one)?;
        let Found::Ready(ready) = one[0].found() else {
            self.evict(host, fd);
            return Err(Errno::EBADF);
        };
        self.claim(host, caller, fd, kinds)?;
        Ok(ready)
    }

    /// Whether the caller may have these kinds: no other process has, or what
    /// others wait for is a file that has left the number.
    fn claim<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        fd: i32,
        kinds: Kinds,
    ) -> Result<(), Errno> {
        let taken = self.table.armed(fd) - self.table.armed_by(fd, caller);
        if !(taken & kinds).is_empty() {
            if !self.pollset.is_stale(fd) {
                return Err(Errno::EBUSY);
            }
            self.evict(host, fd);
        }
        Ok(())
    }

    fn set<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        fd: i32,
        kinds: Kinds,
    ) -> Result<Answer, Errno> {
        let ready = self.check(host, caller, fd, kinds)?;
        let before = self.table.armed_by(fd, caller);
        self.replace(host, caller, fd, before, kinds - ready, || Notify::Event)?;
        for kind in ready.iter() {
            self.counters.delivered += 1;
            host.tell(caller, Message::Event { kind, fd });
        }
        Ok(Answer::Done)
    }

    fn poll<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        fd: i32,
        kinds: Kinds,
        tag: KeptTag,
    ) -> Result<Answer, Errno> {
        let ready = self.check(host, caller, fd, kinds)?;
        let before = self.table.armed_by(fd, caller) & kinds;
        if let Some(kind) = ready.iter().next() {
            self.replace(host, caller, fd, before, Kinds::NONE, || Notify::Event)?;
            return Ok(Answer::Ready(kind));
        }
        self.replace(host, caller, fd, before, kinds, || {
            Notify::Poll(tag.clone())
        })?;
        Ok(Answer::Done)
    }

    /// Puts waiters for `after` in the place of the caller's waiters for
    /// `before`. On an error all is as it was.
    fn replace<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        fd: i32,
        before: Kinds,
        after: Kinds,
        notify: impl Fn() -> Notify,
    ) -> Result<(), Errno> {
        let armed = self.table.armed(fd);
        let kept = armed - before;
        if after.is_empty() {
            if !before.is_empty() {
                self.pollset.disarm(host, fd, kept);
            }
        } else {
            if !self.table.knows(caller) && !host.monitor(caller) {
                // Died with its request under way: nobody is left to be told.
                return Ok(());
            }
            self.table.add(caller);
            match self.pollset.arm(host, fd, kept | after) {
                Ok(Armed::Watched) => {}
                Ok(Armed::Replaced) => {
                    self.evict_waiters(host, fd, kept);
                    self.pollset.disarm(host, fd, after);
                }
                Err(errno) => {
                    if errno == Errno::EBADF {
                        self.evict(host, fd);
                    }
                    return Err(errno);
                }
            }
        }
        for kind in before.iter() {
            self.table.take(fd, kind);
        }
        for kind in after.iter() {
            let armed = self.table.arm(fd, kind, caller, notify());
            debug_assert!(armed, "{kind:?} of fd {fd} was not free");
        }
        Ok(())
    }

    fn clear<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        fd: i32,
        kinds: Kinds,
    ) -> Result<Answer, Errno> {
        if !sys::is_open(fd) {
            self.evict(host, fd);
            return Err(Errno::EBADF);
        }
        let armed = self.table.armed(fd);
        for kind in kinds.iter() {
            self.end(host, fd, kind, End::Canceled);
        }
        self.disarm_from(host, fd, armed);
        Ok(Answer::Done)
    }

    /// Clears what a poll of the caller has armed.
    fn cancel<H: Host<Pid = P>>(&mut self, host: &H, caller: P, fd: i32, kinds: Kinds) -> Answer {
        let armed = self.table.armed(fd);
        let mut found = Answer::Gone;
        for kind in kinds.iter() {
            if let Some((pid, Notify::Poll(_))) = self.table.get(fd, kind)
                && pid == caller
            {
                self.table.take(fd, kind);
                found = Answer::Done;
            }
        }
        self.disarm_from(host, fd, armed);
        found
    }

    /// Has the pollset follow the table, where less is armed than before.
    fn disarm_from<H: Host<Pid = P>>(&mut self, host: &H, fd: i32, before: Kinds) {
        let left = self.table.armed(fd);
        if left != before {
            self.pollset.disarm(host, fd, left);
        }
    }

    /// Takes a waiter out. A poll is told how it ended, and what else it waits
    /// for on this fd goes with it; fdset's waiters are told of events only.
    fn end<H: Host<Pid = P>>(&mut self, host: &H, fd: i32, kind: Kind, end: End) {
        let Some((pid, notify)) = self.table.take(fd, kind) else {
            return;
        };
        match end {
            End::Ready(_) => self.counters.delivered += 1,
            End::BadFd => self.counters.stale += 1,
            End::Canceled | End::Closed => {}
        }
        match (notify, end) {
            (Notify::Event, End::Ready(kind)) => host.tell(pid, Message::Event { kind, fd }),
            (Notify::Event, _) => {}
            (Notify::Poll(tag), end) => {
                for other in self.table.armed_by(fd, pid).iter() {
                    if let Some((_, Notify::Poll(_))) = self.table.get(fd, other) {
                        self.table.take(fd, other);
                    }
                }
                host.tell(pid, Message::Poll { tag: &tag, end });
            }
        }
    }

    /// The file that the waiters of a fd meant is gone from its number.
    fn evict<H: Host<Pid = P>>(&mut self, host: &H, fd: i32) {
        let armed = self.table.armed(fd);
        if !armed.is_empty() {
            self.evict_waiters(host, fd, armed);
            self.pollset.disarm(host, fd, Kinds::NONE);
        }
    }

    fn evict_waiters<H: Host<Pid = P>>(&mut self, host: &H, fd: i32, kinds: Kinds) {
        for kind in kinds.iter() {
            self.end(host, fd, kind, End::BadFd);
        }
    }

    /// ERTS reports an event.
    pub fn ready<H: Host<Pid = P>>(&mut self, host: &H, event: i32) {
        self.counters.wakeups += 1;
        let mut fds = std::mem::take(&mut self.fds);
        self.pollset.ready(host, event, &mut fds);
        self.deliver_all(host, fds);
    }

    fn after_arming<H: Host<Pid = P>>(&mut self, host: &H) {
        let mut fds = std::mem::take(&mut self.fds);
        self.pollset.after_arming(&mut fds);
        self.deliver_all(host, fds);
    }

    /// Finds out which waiters of these fds it concerns, and tells them.
    fn deliver_all<H: Host<Pid = P>>(&mut self, host: &H, mut fds: Vec<i32>) {
        if !fds.is_empty() {
            let mut polled = std::mem::take(&mut self.polled);
            polled.extend(fds.iter().map(|fd| PollFd::new(*fd, self.table.armed(*fd))));
            // What the kernel says of the number now is what counts: the event
            // may be old, or of a file that has left the number.
            if sys::poll(&mut polled).is_ok() {
                for one in &polled {
                    self.deliver(host, one.fd(), one.found());
                }
            } else {
                // No memory. What was reported is taken for ready: waiters can
                // bear a spurious wake-up, not a lost one.
                for fd in &fds {
                    self.deliver(host, *fd, Found::Ready(self.table.armed(*fd)));
                }
            }
            host.worked(fds.len());
            polled.clear();
            self.polled = polled;
            fds.clear();
        }
        self.fds = fds;
    }

    fn deliver<H: Host<Pid = P>>(&mut self, host: &H, fd: i32, found: Found) {
        let Found::Ready(ready) = found else {
            self.evict(host, fd);
            return;
        };
        if ready.is_empty() {
            self.counters.spurious += 1;
        }
        let left = self.left_after(fd, ready);
        if self.pollset.settle(host, fd, left).is_err() {
            self.evict(host, fd);
            return;
        }
        for kind in ready.iter() {
            self.end(host, fd, kind, End::Ready(kind));
        }
    }

    /// What stays armed of a fd when the waiters of `ready` have been told:
    /// neither those, nor what else their polls wait for.
    fn left_after(&self, fd: i32, ready: Kinds) -> Kinds {
        let mut left = self.table.armed(fd) - ready;
        for kind in ready.iter() {
            if let Some((pid, Notify::Poll(_))) = self.table.get(fd, kind) {
                for other in (self.table.armed_by(fd, pid) & left).iter() {
                    if let Some((_, Notify::Poll(_))) = self.table.get(fd, other) {
                        left = left - other.into();
                    }
                }
            }
        }
        left
    }

    /// A process is gone: so is what it had armed.
    pub fn process_exit<H: Host<Pid = P>>(&mut self, host: &H, pid: P) {
        while let Some((fd, _)) = self.table.first_of(pid) {
            let armed = self.table.armed(fd);
            for kind in self.table.armed_by(fd, pid).iter() {
                self.table.take(fd, kind);
            }
            self.disarm_from(host, fd, armed);
        }
        self.table.remove(pid);
    }

    /// The port is closing: no poll may go on waiting.
    pub fn stop<H: Host<Pid = P>>(mut self, host: &H) {
        self.pollset.close(host);
        let armed: Vec<_> = self.table.iter().map(|(fd, kind, _)| (fd, kind)).collect();
        for (fd, kind) in armed {
            self.end(host, fd, kind, End::Closed);
        }
    }
}

#[cfg(test)]
mod tests;
