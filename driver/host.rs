// SPDX-License-Identifier: Apache-2.0
//! The service's host in a VM: `erl_driver` behind the traits that the service
//! and the pollsets are written against. Messages are made here and nowhere
//! else.

use crate::kinds::{Kind, Kinds};
use crate::pollset::Select;
use crate::service::{End, Host, KeptTag, Message};
use crate::sys::Errno;
use erl_driver::{Atom, Event, Mode, Pid, Port, Term};

/// What one fd's delivery takes of a timeslice of about a millisecond, in
/// fds per percent: a message sent costs some 2 microseconds.
const FDS_PER_PERCENT: usize = 5;

/// The atoms of all messages, made when the port opens.
#[derive(Debug, Clone, Copy)]
pub struct Atoms {
    inert_read: Atom,
    inert_write: Atom,
    inert_poll: Atom,
    read: Atom,
    write: Atom,
    ebadf: Atom,
    ecanceled: Atom,
    closed: Atom,
}

impl Atoms {
    pub fn new() -> Atoms {
        Atoms {
            inert_read: Atom::new(c"inert_read"),
            inert_write: Atom::new(c"inert_write"),
            inert_poll: Atom::new(c"inert_poll"),
            read: Atom::new(c"read"),
            write: Atom::new(c"write"),
            ebadf: Atom::new(c"ebadf"),
            ecanceled: Atom::new(c"ecanceled"),
            closed: Atom::new(c"closed"),
        }
    }

    fn event(&self, kind: Kind) -> Atom {
        match kind {
            Kind::Read => self.inert_read,
            Kind::Write => self.inert_write,
        }
    }

    fn end(&self, end: End) -> Atom {
        match end {
            End::Ready(Kind::Read) => self.read,
            End::Ready(Kind::Write) => self.write,
            End::BadFd => self.ebadf,
            End::Canceled => self.ecanceled,
            End::Closed => self.closed,
        }
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
        .map(|kind| match kind {
            Kind::Read => Mode::READ,
            Kind::Write => Mode::WRITE,
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
}

impl Host for ErtsHost<'_> {
    type Pid = Pid;

    fn tell(&self, pid: Pid, message: Message<'_>) {
        let mut external = Vec::new();
        let mut term = Term::new();
        match message {
            Message::Event { kind, fd } => term.tuple(|t| {
                t.atom(self.atoms.event(kind))
                    .port(self.port)
                    .int(fd as isize)
            }),
            Message::Poll { tag, end } => {
                let result = self.atoms.end(end);
                match tag {
                    KeptTag::Key(key) => term.tuple(|t| {
                        t.atom(self.atoms.inert_poll)
                            .int(*key as isize)
                            .atom(result)
                    }),
                    KeptTag::Reference(reference) => {
                        reference.write(&mut external);
                        term.tuple(|t| t.external(&external).atom(result))
                    }
                }
            }
        };
        // A process that is gone is not told; its exit takes its waiters.
        let _ = self.port.send(pid, &term);
    }

    fn monitor(&self, pid: Pid) -> bool {
        self.port.monitor(pid).is_ok()
    }

    fn worked(&self, fds: usize) {
        let percent = u8::try_from(fds / FDS_PER_PERCENT).unwrap_or(100);
        if percent > 0 {
            self.port.consume_timeslice(percent);
        }
    }
}
