// SPDX-License-Identifier: Apache-2.0
//! One port's service: who may wait for what, who is told, and what the pollset
//! has to watch. Knows neither ERTS nor bytes: the host stands for both.

use crate::kinds::{Kind, Kinds};
use crate::pollset::{Armed, Pollset, Report, Select, Unwatched};
use crate::reference::{Keeper, Kept};
use crate::sys::{self, Errno, Found, PollFd};
use crate::table::Table;
use crate::wire::{Answer, Counters, Entry, Fds, Request, Tag};
use slab::Slab;
use smallvec::SmallVec;
use std::hash::Hash;

/// What the service needs of the VM, for the length of one callback.
pub trait Host: Select {
    type Pid: Copy + Eq + Hash;

    /// Tells a process something. One that is gone is not told.
    fn tell(&self, pid: Self::Pid, message: Message<'_, Self::Pid>);

    /// Has [`Service::process_exit`] called when the process is gone. False if
    /// it is gone already.
    fn monitor(&self, pid: Self::Pid) -> bool;

    /// Whether a process that is monitored lives still. Its exit may be known
    /// before [`Service::process_exit`] is called.
    fn is_alive(&self, pid: Self::Pid) -> bool;

    /// Tells the scheduler that work on this many fds was done.
    fn worked(&self, fds: usize);
}

/// A message to a process.
#[derive(Debug)]
pub enum Message<'a, P> {
    /// `{inert_read, Port, FD}`, and alike for the other kinds.
    Event { kind: Kind, fd: i32 },
    /// `{inert_poll, Key, Result}` or `{Reference, Result}`: the end of a poll.
    Poll { tag: &'a KeptTag, end: End<'a> },
    /// `{inert_waiters, Key, [{FD, Kind, Pid, Milliseconds}], Next}`.
    Waiters {
        key: i32,
        waiters: &'a [Waiter<P>],
        next: Option<i32>,
    },
}

/// Who waits, as it is told to somebody who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter<P> {
    pub fd: i32,
    pub kind: Kind,
    pub pid: P,
    /// For how many milliseconds.
    pub waiting: u64,
}

/// A poll's tag for as long as it waits.
#[derive(Debug, Clone)]
pub enum KeptTag {
    Key(i32),
    Reference(Kept),
}

/// How a poll that waited ends. Of a set, what went wrong is told with the fd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    Ready(Kind),
    /// Of a set: all that is ready.
    AllReady(&'a [Entry]),
    /// The file that was polled is gone from its number.
    BadFd(Option<i32>),
    /// Another process has cleared the kind.
    Canceled(Option<i32>),
    /// The port is closing.
    Closed,
}

/// Why a request is refused. Of a set, with the fd that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub errno: Errno,
    pub fd: Option<i32>,
}

/// A fd, and what is wrong with it.
type Offence = (Errno, i32);

/// Why a wait ends without readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    BadFd,
    Canceled,
}

/// How a waiter is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notify {
    /// By one message per kind, as fdset promises.
    Event,
    /// By the one message that ends its poll, which has this index.
    Poll(u32),
}

/// What the table knows of a waiter.
struct Waiting {
    notify: Notify,
    since: u64,
}

/// A poll that waits, for one fd or a set.
struct Poll<P> {
    pid: P,
    tag: KeptTag,
    is_set: bool,
    entries: SmallVec<[Entry; 1]>,
}

/// What becomes of a fd: waiters of a process for `kinds` in the place of those that
/// it had for `before`.
#[derive(Clone, Copy)]
struct Change {
    fd: i32,
    kinds: Kinds,
    before: Kinds,
}

/// Waiters that one message tells of. Who wants more asks again.
const WAITERS_PER_MESSAGE: usize = 512;

/// How often a request begins anew because a fd has become another file meanwhile.
const TRIES: usize = 3;

/// See the module's documentation.
pub struct Service<P> {
    table: Table<P, Waiting>,
    polls: Slab<Poll<P>>,
    pollset: Box<dyn Pollset + Send>,
    keeper: Keeper,
    /// What has happened; what is, is filled in when somebody asks.
    counters: Counters,
    /// Fds of which poll(2) has told somebody else than who waits for it.
    overheard: Vec<i32>,
    /// Empty between calls; kept to save their memory from being made anew.
    reports: Vec<Report>,
    polled: Vec<PollFd>,
}

impl<P: Copy + Eq + Hash> Service<P> {
    pub fn new(pollset: Box<dyn Pollset + Send>) -> Self {
        Service {
            table: Table::new(),
            polls: Slab::new(),
            pollset,
            keeper: Keeper::default(),
            counters: Counters::default(),
            overheard: Vec::new(),
            reports: Vec::new(),
            polled: Vec::new(),
        }
    }

    /// A request of the process `caller`.
    pub fn request<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        request: Request<'_>,
    ) -> Result<Answer, Refusal> {
        let plain = |errno| Refusal { errno, fd: None };
        match request {
            Request::Set(fds) => {
                let done = with(fds, |asked| self.set(host, caller, asked));
                self.after_arming(host);
                done.map(|()| Answer::Done)
            }
            Request::Clear(fds) => {
                with(fds, |asked| self.clear(host, asked)).map(|()| Answer::Done)
            }
            Request::Check(fds) => with(fds, |asked| {
                let polled = self.look(host, caller, asked)?;
                let answer = asked.ready(&polled).unwrap_or(match asked.is_set {
                    true => Answer::AllReady(Vec::new()),
                    false => Answer::NotReady,
                });
                self.keep_unnamed(asked, &polled);
                self.done_with(polled);
                Ok(answer)
            }),
            Request::Poll(fds, tag) => {
                let tag = match tag {
                    Tag::Key(key) => KeptTag::Key(key),
                    Tag::Reference(reference) => {
                        let kept = self.keeper.keep(reference);
                        KeptTag::Reference(kept.ok_or(plain(Errno::EINVAL))?)
                    }
                };
                let answer = with(fds, |asked| self.poll(host, caller, asked, &tag));
                if matches!(answer, Ok(Answer::Done) | Err(_)) {
                    self.after_arming(host);
                }
                answer
            }
            Request::Cancel(entry) => Ok(self.cancel(host, caller, entry)),
            Request::Info => Ok(Answer::Info(self.info())),
            Request::Waiters { first, key } => {
                self.tell_waiters(host, caller, first, key);
                Ok(Answer::Done)
            }
            Request::Describe(fd) => sys::describe(fd).map(Answer::Description).map_err(plain),
        }
    }

    fn info(&self) -> Counters {
        let mut counters = self.counters;
        counters.armed = self.table.len() as u64;
        counters.fds = self.table.fds() as u64;
        counters.polls = self.polls.len() as u64;
        counters.processes = self.table.processes() as u64;
        self.pollset.count(&mut counters);
        counters
    }

    fn tell_waiters<H: Host<Pid = P>>(&self, host: &H, caller: P, first: i32, key: i32) {
        let now = sys::milliseconds();
        let mut waiters = Vec::new();
        let mut next = None;
        for (fd, kind, pid, waiting) in self.table.from(first) {
            let is_new = waiters.last().is_none_or(|last: &Waiter<P>| last.fd != fd);
            if is_new && waiters.len() >= WAITERS_PER_MESSAGE {
                next = Some(fd);
                break;
            }
            waiters.push(Waiter {
                fd,
                kind,
                pid,
                waiting: now.saturating_sub(waiting.since),
            });
        }
        let waiters = &waiters;
        host.tell(caller, Message::Waiters { key, waiters, next });
    }

    /// Asks the kernel what is ready. All of it is such as the caller may ask
    /// for: open, free or its own, each fd once.
    fn look<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        asked: Asked<'_>,
    ) -> Result<Vec<PollFd>, Offence> {
        let mut polled = std::mem::take(&mut self.polled);
        let result = self.look_into(host, caller, asked, &mut polled);
        if result.is_err() {
            // What the kernel has told concerns others only.
            for one in &polled {
                self.overhear(one.fd(), one.ready());
            }
        }
        self.tell_overheard(host);
        match result {
            Ok(()) => Ok(polled),
            Err((errno, fd)) => {
                self.done_with(polled);
                if errno == Errno::EBADF {
                    self.evict(host, fd);
                }
                Err((errno, fd))
            }
        }
    }

    fn look_into<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        asked: Asked<'_>,
        polled: &mut Vec<PollFd>,
    ) -> Result<(), Offence> {
        asked.each_once()?;
        for &Entry { fd, kinds } in asked.entries {
            if !(kinds - self.pollset.kinds()).is_empty() {
                return Err((Errno::ENOTSUP, fd));
            }
            self.claim(host, caller, fd, kinds)?;
            polled.push(PollFd::new(fd, kinds | self.priority(fd)));
        }
        // Before poll(2), by which a file may forget what the refused set would not tell.
        if polled.len() > 1
            && asked
                .entries
                .iter()
                .any(|e| e.kinds.contains(Kind::Priority))
        {
            if let Some(bad) = polled.iter().find(|one| !sys::is_open(one.fd())) {
                return Err((Errno::EBADF, bad.fd()));
            }
        }
        if let Err(errno) = sys::poll(polled) {
            // EINVAL: more than the process may have open.
            let bad = polled.iter().find(|one| !sys::is_open(one.fd()));
            return Err(match (bad, polled.first()) {
                (Some(bad), _) => (Errno::EBADF, bad.fd()),
                (None, first) => (errno, first.map_or(-1, PollFd::fd)),
            });
        }
        if let Some(bad) = polled.iter().find(|one| one.found() == Found::NotOpen) {
            return Err((Errno::EBADF, bad.fd()));
        }
        for (&Entry { fd, kinds }, one) in asked.entries.iter().zip(polled) {
            self.overhear(fd, one.ready() - kinds);
            if kinds.contains(Kind::Priority) {
                let untold = self.pollset.untold(fd);
                one.add(untold);
            }
        }
        Ok(())
    }

    /// Priority, if somebody waits for it: to be asked for whenever poll(2) is
    /// asked, because the file may forget it then.
    fn priority(&self, fd: i32) -> Kinds {
        self.table.armed(fd) & Kinds::PRIORITY
    }

    /// The kernel has told somebody of a fd's priority who does not wait for it.
    fn overhear(&mut self, fd: i32, told: Kinds) {
        if !(told & self.priority(fd)).is_empty() {
            self.overheard.push(fd);
        } else {
            self.pollset.keep(fd, told);
        }
    }

    /// A poll of one fd names one kind only. Priority beside it is told next time.
    fn keep_unnamed(&mut self, asked: Asked<'_>, polled: &[PollFd]) {
        if let (false, [Entry { fd, kinds }], [one]) = (asked.is_set, asked.entries, polled) {
            let ready = one.ready() & *kinds;
            if let Some(named) = ready.iter().next() {
                self.pollset.keep(*fd, ready - named.into());
            }
        }
    }

    fn done_with(&mut self, mut polled: Vec<PollFd>) {
        polled.clear();
        self.polled = polled;
    }

    /// Of these kinds of a fd, those that another process waits for.
    fn others(&self, caller: P, fd: i32, kinds: Kinds) -> Kinds {
        let armed = self.table.armed(fd) & kinds;
        match armed.is_empty() {
            true => armed,
            false => armed - self.table.armed_by(fd, caller),
        }
    }

    /// Whether the caller may have these kinds: no other process has, or what
    /// others wait for is a file that has left the number.
    fn claim<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        fd: i32,
        kinds: Kinds,
    ) -> Result<(), Offence> {
        if self.others(caller, fd, kinds).is_empty() {
            return Ok(());
        }
        for kind in self.others(caller, fd, kinds).iter() {
            let waiter = self.table.get(fd, kind).map(|(pid, _)| pid);
            if let Some(dead) = waiter.filter(|pid| !host.is_alive(*pid)) {
                self.process_exit(host, dead);
            }
        }
        if self.others(caller, fd, kinds).is_empty() {
            return Ok(());
        }
        if !self.pollset.is_stale(fd) {
            return Err((Errno::EBUSY, fd));
        }
        self.evict(host, fd);
        Ok(())
    }

    fn set<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        asked: Asked<'_>,
    ) -> Result<(), Offence> {
        self.looked(host, caller, asked, |service, polled| {
            service.arm(host, caller, asked, polled, Notify::Event)?;
            for (entry, one) in asked.entries.iter().zip(polled) {
                for kind in (one.ready() & entry.kinds).iter() {
                    service.counters.delivered += 1;
                    let fd = entry.fd;
                    host.tell(caller, Message::Event { kind, fd });
                }
            }
            Ok(())
        })
    }

    fn poll<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        asked: Asked<'_>,
        tag: &KeptTag,
    ) -> Result<Answer, Offence> {
        self.looked(host, caller, asked, |service, polled| {
            let Some(answer) = asked.ready(polled) else {
                return service.wait(host, caller, asked, tag, polled);
            };
            for &Entry { fd, kinds } in asked.entries {
                let before = service.table.armed_by(fd, caller) & kinds;
                service.drop_waiters(host, fd, before);
            }
            service.keep_unnamed(asked, polled);
            Ok(answer)
        })
    }

    /// Looks, and goes on with what was found. A number may become another file in
    /// between, by a thread of somebody else's. If the pollset cannot watch that (a regular
    /// file), or does not find it where another one was, then what was found is no longer
    /// true, and poll(2) knows better.
    fn looked<H: Host<Pid = P>, T>(
        &mut self,
        host: &H,
        caller: P,
        asked: Asked<'_>,
        go_on: impl Fn(&mut Self, &[PollFd]) -> Result<T, Offence>,
    ) -> Result<T, Offence> {
        let mut tries = 1;
        let mut told = Vec::new();
        loop {
            let mut polled = self.look(host, caller, asked)?;
            for (one, kinds) in polled.iter_mut().zip(&told) {
                one.add(*kinds);
            }
            let done = go_on(self, &polled);
            let other = match done {
                Err((errno, fd)) if tries < TRIES && asked.is_other(fd, errno, &polled) => Some(fd),
                _ => None,
            };
            if let Some(other) = other {
                told = asked.forgotten(other, &polled);
            }
            self.worked(host, &polled);
            self.done_with(polled);
            if other.is_none() {
                return done.map_err(|(errno, fd)| match errno {
                    // Not found, and not again and again.
                    Errno::ENOENT => (Errno::EBADF, fd),
                    _ => (errno, fd),
                });
            }
            tries += 1;
            // What arming has drained is for others, too, and must not wait for this one.
            self.after_arming(host);
        }
    }

    fn wait<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        asked: Asked<'_>,
        tag: &KeptTag,
        polled: &[PollFd],
    ) -> Result<Answer, Offence> {
        let index = self.polls.insert(Poll {
            pid: caller,
            tag: tag.clone(),
            is_set: asked.is_set,
            entries: asked.entries.into(),
        });
        let armed = self.arm(host, caller, asked, polled, Notify::Poll(index as u32));
        if armed != Ok(true) {
            self.polls.try_remove(index);
        }
        armed.map(|_| Answer::Done)
    }

    fn worked<H: Host<Pid = P>>(&self, host: &H, polled: &[PollFd]) {
        if polled.len() > 1 {
            host.worked(polled.len());
        }
    }

    /// Puts waiters for what is not ready in the place of the caller's waiters: of
    /// all for an event, of those for the same kinds for a poll. On an error all
    /// is as it was. Without waiters if the caller is dead: nobody is left to be
    /// told.
    fn arm<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        caller: P,
        asked: Asked<'_>,
        polled: &[PollFd],
        notify: Notify,
    ) -> Result<bool, Offence> {
        let change = |(&Entry { fd, kinds }, one): (&Entry, &PollFd)| {
            let mine = self.table.armed_by(fd, caller);
            Change {
                fd,
                kinds: kinds - one.ready(),
                before: match notify {
                    Notify::Event => mine,
                    Notify::Poll(_) => mine & kinds,
                },
            }
        };
        let alone = asked.entries.len() == 1;
        let changes = asked.entries.iter().zip(polled).map(change);
        let changes: SmallVec<[Change; 1]> = changes.collect();
        let mut gone: SmallVec<[Entry; 1]> = SmallVec::new();
        if changes.iter().any(|change| !change.kinds.is_empty()) {
            if !self.table.knows(caller) {
                if !host.monitor(caller) {
                    return Ok(false);
                }
                self.table.add(caller);
            }
            let watched = self.watch(host, &changes, &mut gone);
            if let Err((count, errno, fd)) = watched {
                // What is watched beside what the table says, is watched no more.
                for change in &changes[..count] {
                    self.follow(host, &[change.fd]);
                }
                for entry in gone {
                    self.evict(host, entry.fd);
                }
                if errno == Errno::EBADF {
                    self.evict(host, fd);
                }
                for one in polled {
                    self.overhear(one.fd(), one.ready());
                }
                self.tell_overheard(host);
                return Err((errno, fd));
            }
        }
        let mut left: SmallVec<[i32; 1]> = SmallVec::new();
        for &Change { fd, kinds, before } in &changes {
            if !(before - kinds).is_empty() && (kinds.is_empty() || !alone) {
                left.push(fd);
            }
            for kind in before.iter() {
                self.take(fd, kind, &mut left);
            }
        }
        let since = sys::milliseconds();
        for &Change { fd, kinds, .. } in &changes {
            for kind in kinds.iter() {
                let armed = self.table.arm(fd, kind, caller, Waiting { notify, since });
                debug_assert!(armed, "{kind:?} of fd {fd} was not free");
            }
        }
        // Not before the table says what is armed: the poll that this ends may have waited
        // for other fds of the same set.
        for Entry { fd, kinds } in gone {
            self.evict_waiters(host, fd, kinds);
            left.push(fd);
        }
        self.follow(host, &left);
        Ok(true)
    }

    /// Has the pollset watch what is wanted. If something is refused: how many
    /// were done before it. For one fd alone it is exactly what the table will say;
    /// for several it is no less than what it says now, for the case that a later
    /// one is refused. `gone` are those that were other files before, with the kinds that
    /// somebody waits for in vain.
    fn watch<H: Host<Pid = P>>(
        &mut self,
        host: &H,
        changes: &[Change],
        gone: &mut SmallVec<[Entry; 1]>,
    ) -> Result<(), (usize, Errno, i32)> {
        let alone = changes.len() == 1;
        for (count, &Change { fd, kinds, before }) in changes.iter().enumerate() {
            if kinds.is_empty() {
                continue;
            }
            let armed = self.table.armed(fd);
            let kept = match alone {
                true => armed - before,
                false => armed,
            };
            match self.pollset.arm(host, fd, kept | kinds) {
                Ok(Armed::Watched) => {}
                Ok(Armed::Replaced) => {
                    let kinds = armed - kinds;
                    gone.push(Entry { fd, kinds });
                }
                Err(errno) => return Err((count, errno, fd)),
            }
        }
        Ok(())
    }

    /// Takes a waiter out without a word. What else its poll waits for goes with it,
    /// and the fds of that are added to `left`: the pollset has to follow.
    fn take(&mut self, fd: i32, kind: Kind, left: &mut SmallVec<[i32; 1]>) {
        if let Some((_, waiting)) = self.table.take(fd, kind) {
            if let Notify::Poll(index) = waiting.notify {
                if let Some(poll) = self.polls.try_remove(index as usize) {
                    self.take_others(index, &poll, left);
                }
            }
        }
    }

    /// Takes the waiters of a poll out that is there no more.
    fn take_others(&mut self, index: u32, poll: &Poll<P>, left: &mut SmallVec<[i32; 1]>) {
        for Entry { fd, kinds } in &poll.entries {
            let mine = self
                .table
                .kinds(*fd, |waiting| waiting.notify == Notify::Poll(index));
            for kind in (mine & *kinds).iter() {
                self.table.take(*fd, kind);
            }
            if !mine.is_empty() {
                left.push(*fd);
            }
        }
    }

    fn drop_waiters<H: Host<Pid = P>>(&mut self, host: &H, fd: i32, kinds: Kinds) {
        if kinds.is_empty() {
            return;
        }
        let mut left = SmallVec::new();
        left.push(fd);
        for kind in kinds.iter() {
            self.take(fd, kind, &mut left);
        }
        self.follow(host, &left);
    }

    /// Has the pollset follow the table, where less is armed than before.
    fn follow<H: Host<Pid = P>>(&mut self, host: &H, fds: &[i32]) {
        for fd in fds {
            self.pollset.disarm(host, *fd, self.table.armed(*fd));
        }
    }

    fn clear<H: Host<Pid = P>>(&mut self, host: &H, asked: Asked<'_>) -> Result<(), Offence> {
        asked.each_once()?;
        // Not by poll(2), which some files forget their event by.
        if let Some(bad) = asked.entries.iter().find(|entry| !sys::is_open(entry.fd)) {
            self.evict(host, bad.fd);
            return Err((Errno::EBADF, bad.fd));
        }
        for &Entry { fd, kinds } in asked.entries {
            let cleared = self.table.armed(fd) & kinds;
            for kind in cleared.iter() {
                self.end(host, fd, kind, Why::Canceled);
            }
            if !cleared.is_empty() {
                self.follow(host, &[fd]);
            }
        }
        Ok(())
    }

    /// Clears a poll of the caller, known by something that it waits for.
    fn cancel<H: Host<Pid = P>>(&mut self, host: &H, caller: P, entry: Entry) -> Answer {
        for kind in entry.kinds.iter() {
            match self.table.get(entry.fd, kind) {
                Some((pid, waiting)) if pid == caller && waiting.notify != Notify::Event => {
                    self.drop_waiters(host, entry.fd, kind.into());
                    return Answer::Done;
                }
                _ => {}
            }
        }
        Answer::Gone
    }

    /// Takes a waiter out whose wait ends without readiness. A poll is told how it
    /// ended; fdset's waiters are told of events only.
    fn end<H: Host<Pid = P>>(&mut self, host: &H, fd: i32, kind: Kind, why: Why) {
        if let Some((_, waiting)) = self.table.take(fd, kind) {
            self.counters.stale += u64::from(why == Why::BadFd);
            if let Notify::Poll(index) = waiting.notify {
                self.finish(host, index, |is_set| {
                    let fd = is_set.then_some(fd);
                    match why {
                        Why::BadFd => End::BadFd(fd),
                        Why::Canceled => End::Canceled(fd),
                    }
                });
            }
        }
    }

    /// Ends a poll: nothing stays armed for it, and it is told.
    fn finish<'a, H: Host<Pid = P>>(
        &mut self,
        host: &H,
        index: u32,
        end: impl FnOnce(bool) -> End<'a>,
    ) {
        if let Some(poll) = self.polls.try_remove(index as usize) {
            let mut left = SmallVec::new();
            self.take_others(index, &poll, &mut left);
            self.follow(host, &left);
            let (tag, end) = (&poll.tag, end(poll.is_set));
            host.tell(poll.pid, Message::Poll { tag, end });
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
            self.end(host, fd, kind, Why::BadFd);
        }
    }

    /// ERTS reports an event.
    pub fn ready<H: Host<Pid = P>>(&mut self, host: &H, event: i32) {
        self.counters.wakeups += 1;
        let mut reports = std::mem::take(&mut self.reports);
        self.pollset.ready(host, event, &mut reports);
        self.deliver_all(host, reports);
    }

    fn after_arming<H: Host<Pid = P>>(&mut self, host: &H) {
        let mut reports = std::mem::take(&mut self.reports);
        self.pollset.after_arming(&mut reports);
        self.deliver_all(host, reports);
    }

    /// Finds out which waiters of these fds it concerns, and tells them.
    fn deliver_all<H: Host<Pid = P>>(&mut self, host: &H, mut reports: Vec<Report>) {
        if !reports.is_empty() {
            let mut polled = std::mem::take(&mut self.polled);
            let armed = |report: &Report| PollFd::new(report.fd, self.table.armed(report.fd));
            let unknown = |report: &&Report| report.found.is_none();
            polled.extend(reports.iter().filter(unknown).map(armed));
            if !polled.is_empty() && sys::poll(&mut polled).is_err() {
                // No memory. What was reported is taken for ready: waiters can
                // bear a spurious wake-up, not a lost one.
                for one in &mut polled {
                    one.add(Kinds::ALL);
                }
            }
            let mut asked = polled.iter_mut();
            for at in 0..reports.len() {
                let Report { fd, found, told } = reports[at];
                let found = match found {
                    Some(kinds) => Found::Ready(kinds),
                    None => asked.next().map_or(Found::NotOpen, |one| {
                        one.add(told);
                        one.found()
                    }),
                };
                self.deliver(host, fd, found, &mut reports[at..]);
            }
            host.worked(reports.len());
            self.done_with(polled);
            reports.clear();
            self.tell_overheard(host);
        }
        self.reports = reports;
    }

    /// Of what poll(2) said while it was asked for something else.
    fn tell_overheard<H: Host<Pid = P>>(&mut self, host: &H) {
        while let Some(fd) = self.overheard.pop() {
            let told = Kinds::PRIORITY;
            self.deliver(host, fd, Found::Ready(told), &mut []);
        }
    }

    /// Tells the waiters of a fd what was found; `batch` are the reports that are still
    /// to be delivered.
    fn deliver<H: Host<Pid = P>>(&mut self, host: &H, fd: i32, found: Found, batch: &mut [Report]) {
        let Found::Ready(found) = found else {
            self.evict(host, fd);
            return;
        };
        // A poll of a set may have ended since the kernel was asked.
        let mut ready = found & self.table.armed(fd);
        self.pollset.keep(fd, found - ready);
        if ready.is_empty() {
            self.counters.spurious += 1;
        }
        let left = self.left_after(fd, ready);
        match self.pollset.settle(host, fd, left) {
            Ok(()) => {}
            Err(Unwatched::Stale) => {
                self.evict(host, fd);
                return;
            }
            Err(Unwatched::Refused) => {
                // Nothing would tell of the others any more. They are taken for
                // ready: waiters can bear a spurious wake-up, not a lost one.
                ready |= left;
                self.pollset.disarm(host, fd, Kinds::NONE);
            }
        }
        for kind in ready.iter() {
            let Some((pid, waiting)) = self.table.take(fd, kind) else {
                continue;
            };
            self.counters.delivered += 1;
            match waiting.notify {
                Notify::Event => host.tell(pid, Message::Event { kind, fd }),
                Notify::Poll(index) => match self.polls.get(index as usize) {
                    Some(poll) if poll.is_set => {
                        let all = self.all_ready(index, Entry { fd, kinds: ready }, batch);
                        host.worked(all.1);
                        self.counters.delivered += all.0.len() as u64 - 1;
                        self.finish(host, index, |_| End::AllReady(&all.0));
                    }
                    _ => {
                        let of_it = |other: &Waiting| other.notify == waiting.notify;
                        let unnamed = self.table.kinds(fd, of_it) & ready;
                        self.pollset.keep(fd, unnamed);
                        self.finish(host, index, |_| End::Ready(kind));
                    }
                },
            }
        }
    }

    /// All that is ready of a poll's set, of which `known` is; and of how many fds
    /// it was found out.
    fn all_ready(&mut self, index: u32, known: Entry, batch: &mut [Report]) -> (Vec<Entry>, usize) {
        let entries = &self.polls[index as usize].entries;
        if let [Entry { fd, kinds }] = entries[..] {
            let kinds = known.kinds & kinds;
            return (vec![Entry { fd, kinds }], 0);
        }
        let mut polled: Vec<PollFd> = entries
            .iter()
            .map(|Entry { fd, kinds }| PollFd::new(*fd, *kinds | self.priority(*fd)))
            .collect();
        if sys::poll(&mut polled).is_err() {
            // No memory: the others are found by the next poll.
            for one in &mut polled {
                one.forget();
            }
        }
        let told_once = batch.iter_mut().filter(|report| !report.told.is_empty());
        let mut told_once: Vec<&mut Report> = told_once.collect();
        let mut all = Vec::new();
        for (Entry { fd, kinds }, one) in entries.iter().zip(&polled) {
            let mut ready = one.ready();
            if *fd == known.fd {
                ready |= known.kinds;
            }
            for report in told_once.iter_mut().filter(|report| report.fd == *fd) {
                ready |= report.told & *kinds;
                report.told = report.told - *kinds;
            }
            if *fd != known.fd && (ready - *kinds).contains(Kind::Priority) {
                self.overheard.push(*fd);
            }
            let (fd, kinds) = (*fd, ready & *kinds);
            if !kinds.is_empty() {
                all.push(Entry { fd, kinds });
            }
        }
        (all, polled.len())
    }

    /// What stays armed of a fd when the waiters of `ready` have been told:
    /// neither those, nor what else their polls wait for.
    fn left_after(&self, fd: i32, ready: Kinds) -> Kinds {
        let mut left = self.table.armed(fd) - ready;
        if left.is_empty() {
            return left;
        }
        for kind in ready.iter() {
            let notify = self.table.get(fd, kind).map(|(_, waiting)| waiting.notify);
            if let Some(poll @ Notify::Poll(_)) = notify {
                left = left - self.table.kinds(fd, |waiting| waiting.notify == poll);
            }
        }
        left
    }

    /// A process is gone: so is what it had armed.
    pub fn process_exit<H: Host<Pid = P>>(&mut self, host: &H, pid: P) {
        while let Some((fd, _)) = self.table.first_of(pid) {
            self.drop_waiters(host, fd, self.table.armed_by(fd, pid));
        }
        self.table.remove(pid);
    }

    /// The port is closing: no poll may go on waiting.
    pub fn stop<H: Host<Pid = P>>(mut self, host: &H) {
        self.pollset.close(host);
        for poll in self.polls.drain() {
            let (tag, end) = (&poll.tag, End::Closed);
            host.tell(poll.pid, Message::Poll { tag, end });
        }
    }
}

/// What a request is about.
#[derive(Clone, Copy)]
struct Asked<'a> {
    entries: &'a [Entry],
    /// One fd alone is answered otherwise than a set of one.
    is_set: bool,
}

/// Runs a request of one fd or a set. Of a set, what is refused comes with the fd.
fn with<T>(fds: Fds<'_>, run: impl FnOnce(Asked<'_>) -> Result<T, Offence>) -> Result<T, Refusal> {
    let (result, is_set) = match fds {
        Fds::One(entry) => {
            let entries = &[entry];
            let is_set = false;
            (run(Asked { entries, is_set }), is_set)
        }
        Fds::Set(set) => {
            let entries = &set.iter().collect::<Vec<_>>();
            let is_set = true;
            (run(Asked { entries, is_set }), is_set)
        }
    };
    result.map_err(|(errno, fd)| Refusal {
        errno,
        fd: is_set.then_some(fd),
    })
}

impl Asked<'_> {
    /// No fd may occur twice in a set: it would wait for itself.
    fn each_once(self) -> Result<(), Offence> {
        if self.entries.len() > 1 {
            let mut fds: Vec<i32> = self.entries.iter().map(|entry| entry.fd).collect();
            fds.sort_unstable();
            if let Some(twice) = fds.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err((Errno::EINVAL, twice[0]));
            }
        }
        Ok(())
    }

    /// Whether arming refused a fd such that what poll(2) had found is of another file: it is
    /// not where it was registered, or is one that can be read and written at any time.
    fn is_other(self, fd: i32, errno: Errno, polled: &[PollFd]) -> bool {
        let not_ready = |(entry, one): (&Entry, &PollFd)| {
            entry.fd == fd && !((entry.kinds - one.ready()) & Kinds::READ_WRITE).is_empty()
        };
        match errno {
            Errno::ENOENT => true,
            Errno::ENOTSUP => self.entries.iter().zip(polled).any(not_ready),
            _ => false,
        }
    }

    /// What poll(2) found of each fd but one, as far as a file may tell it once only.
    fn forgotten(self, other: i32, polled: &[PollFd]) -> Vec<Kinds> {
        let told = |(entry, one): (&Entry, &PollFd)| match entry.fd == other {
            true => Kinds::NONE,
            false => entry.kinds & one.ready() & Kinds::PRIORITY,
        };
        self.entries.iter().zip(polled).map(told).collect()
    }

    /// The answer to a poll of which something is ready.
    fn ready(self, polled: &[PollFd]) -> Option<Answer> {
        let ready = |(entry, one): (&Entry, &PollFd)| {
            let kinds = entry.kinds & one.ready();
            let fd = entry.fd;
            (!kinds.is_empty()).then_some(Entry { fd, kinds })
        };
        let mut all = self.entries.iter().zip(polled).filter_map(ready);
        if !self.is_set {
            return all.next()?.kinds.iter().next().map(Answer::Ready);
        }
        let all: Vec<Entry> = all.collect();
        (!all.is_empty()).then_some(Answer::AllReady(all))
    }
}

#[cfg(test)]
mod tests;
