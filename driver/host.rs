// SPDX-License-Identifier: Apache-2.0
//! The service's host in a VM: `erl_driver` behind the traits that the service
//! and the pollsets are written against. Messages are made here and nowhere
//! else.

use crate::kinds::{Kind, Kinds};
use crate::pollset::Select;
use crate::service::{End, Host, KeptTag, Message, Waiter};
use crate::sys::Errno;
use crate::wire::Entry;
use erl_driver::{Atom, Event, Mode, Pid, Port, Term};

/// What one fd's delivery takes of a timeslice of about a millisecond, in
/// fds per percent: a message sent costs some 2 microseconds.
const FDS_PER_PERCENT: usize = 5;

/// The atoms of all messages, made when the port opens.
#[derive(Debug, Clone, Copy)]
pub struct Atoms {
    /// `inert_read` and so on, in the order of `Kind::ALL`.
    events: [Atom; Kind::ALL.len()],
    kinds: [Atom; Kind::ALL.len()],
    inert_poll: Atom,
    inert_waiters: Atom,
    none: Atom,
    ebadf: Atom,
    ecanceled: Atom,
    closed: Atom,
}

impl Atoms {
    pub fn new() -> Atoms {
        Atoms {
            events: Kind::ALL.map(|kind| {
                Atom::new(match kind {
                    Kind::Read => c"inert_read",
                    Kind::Write => c"inert_write",
                    Kind::Priority => c"inert_priority",
                    Kind::Hangup => c"inert_hangup",
                })
            }),
            kinds: Kind::ALL.map(|kind| {
                Atom::new(match kind {
                    Kind::Read => c"read",
                    Kind::Write => c"write",
                    Kind::Priority => c"priority",
                    Kind::Hangup => c"hangup",
                })
            }),
            inert_poll: Atom::new(c"inert_poll"),
            inert_waiters: Atom::new(c"inert_waiters"),
            none: Atom::new(c"none"),
            ebadf: Atom::new(c"ebadf"),
            ecanceled: Atom::new(c"ecanceled"),
            closed: Atom::new(c"closed"),
        }
    }

    fn event(&self, kind: Kind) -> Atom {
        self.events[kind.index()]
    }

    fn kind(&self, kind: Kind) -> Atom {
        self.kinds[kind.index()]
    }
}

/// The port of the running callback, as the service's host.
pub struct ErtsHost<'a> {
    pub port: &'a Port,
    pub atoms: &'a Atoms,
}

fn mode(kinds: Kinds) -> Option<Mode> {
    kinds
        .iter()
        .filter_map(|kind| match kind {
            Kind::Read => Some(Mode::READ),
            Kind::Write => Some(Mode::WRITE),
            // ERTS has no such.
            Kind::Priority | Kind::Hangup => None,
        })
        .reduce(|all, one| all | one)
}

impl Select for ErtsHost<'_> {
    fn select(&self, fd: i32, kinds: Kinds) -> Result<(), Errno> {
        let Some(mode) = mode(kinds) else {
            return Ok(());
        };
        // Refused is what ERTS has no room for in its table of fds.
        self.port
            .select(Event::from_fd(fd), mode | Mode::USE)
            .map_err(|_| Errno::EINVAL)
    }

    fn deselect(&self, fd: i32, kinds: Kinds) {
        if let Some(mode) = mode(kinds) {
            // Refused by a port that is closed: nothing is selected then.
            let _ = self.port.deselect(Event::from_fd(fd), mode);
        }
    }

    fn forget(&self, fd: i32) {
        let mode = Mode::READ | Mode::WRITE | Mode::USE_NO_CALLBACK;
        // As above.
        let _ = self.port.deselect(Event::from_fd(fd), mode);
    }

    fn forget_and_close(&self, fd: i32) {
        let mode = Mode::READ | Mode::WRITE | Mode::USE;
        // As above; Driver::stop_select closes.
        let _ = self.port.deselect(Event::from_fd(fd), mode);
    }

    /// So it is up to ERTS 15 (OTP 27), and no longer in ERTS 17 (OTP 29).
    fn deselecting_resets_count(&self) -> bool {
        let version = erl_driver::erts_version().to_bytes();
        let major = version.split(|byte| *byte == b'.').next();
        let major = major.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        major.is_some_and(|major: u32| major < 16)
    }
}

impl ErtsHost<'_> {
    /// A kind; `[{FD, Kind}]` of a set; an error, with the fd if it is of a set.
    fn end<'t, 'a>(&self, t: &'t mut Term<'a>, end: End<'_>) -> &'t mut Term<'a> {
        match end {
            End::Ready(kind) => t.atom(self.atoms.kind(kind)),
            End::AllReady(entries) => t.list(|t| {
                entries.iter().fold(t, |t, Entry { fd, kinds }| {
                    kinds.iter().fold(t, |t, kind| {
                        t.tuple(|t| t.int(*fd as isize).atom(self.atoms.kind(kind)))
                    })
                })
            }),
            End::BadFd(fd) => self.error(t, self.atoms.ebadf, fd),
            End::Canceled(fd) => self.error(t, self.atoms.ecanceled, fd),
            End::Closed => t.atom(self.atoms.closed),
        }
    }

    fn error<'t, 'a>(
        &self,
        t: &'t mut Term<'a>,
        reason: Atom,
        fd: Option<i32>,
    ) -> &'t mut Term<'a> {
        match fd {
            Some(fd) => t.tuple(|t| t.atom(reason).int(fd as isize)),
            None => t.atom(reason),
        }
    }

    fn waiter<'t, 'a>(&self, t: &'t mut Term<'a>, waiter: &Waiter<Pid>) -> &'t mut Term<'a> {
        t.tuple(|t| {
            t.int(waiter.fd as isize)
                .atom(self.atoms.kind(waiter.kind))
                .pid(waiter.pid)
                .int(waiter.waiting as isize)
        })
    }
}

impl Host for ErtsHost<'_> {
    type Pid = Pid;

    fn tell(&self, pid: Pid, message: Message<'_, Pid>) {
        let mut external = Vec::new();
        let mut term = Term::new();
        match message {
            Message::Event { kind, fd } => term.tuple(|t| {
                t.atom(self.atoms.event(kind))
                    .port(self.port)
                    .int(fd as isize)
            }),
            Message::Poll { tag, end } => match tag {
                KeptTag::Key(key) => term.tuple(|t| {
                    let t = t.atom(self.atoms.inert_poll).int(*key as isize);
                    self.end(t, end)
                }),
                KeptTag::Reference(reference) => {
                    reference.write(&mut external);
                    term.tuple(|t| self.end(t.external(&external), end))
                }
            },
            Message::Waiters { key, waiters, next } => term.tuple(|t| {
                t.atom(self.atoms.inert_waiters).int(key as isize);
                t.list(|t| waiters.iter().fold(t, |t, waiter| self.waiter(t, waiter)));
                match next {
                    Some(fd) => t.int(fd as isize),
                    None => t.atom(self.atoms.none),
                }
            }),
        };
        // A process that is gone is not told; its exit takes its waiters.
        let _ = self.port.send(pid, &term);
    }

    fn monitor(&self, pid: Pid) -> bool {
        self.port.monitor(pid).is_ok()
    }

    fn is_alive(&self, pid: Pid) -> bool {
        match self.port.monitor(pid) {
            Ok(monitor) => {
                // If it has just ended, so has the monitor.
                let _ = self.port.demonitor(&monitor);
                true
            }
            Err(_) => false,
        }
    }

    fn worked(&self, fds: usize) {
        let percent = u8::try_from(fds / FDS_PER_PERCENT).unwrap_or(100);
        if percent > 0 {
            self.port.consume_timeslice(percent);
        }
    }
}
