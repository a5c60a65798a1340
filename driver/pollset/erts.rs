// SPDX-License-Identifier: Apache-2.0
//! The `erts` pollset: one `driver_select` per fd, straight into ERTS's own
//! check I/O. Works on every Unix.
//!
//! ERTS keeps one state per fd number for all ports and NIFs of the VM, which
//! has three consequences here.
//!
//! - A fd is given back entirely (`ERL_DRV_USE_NO_CALLBACK`) whenever nothing of
//!   it is armed, though keeping it would save ERTS an epoll entry's making per
//!   arming. What is kept after the user has closed the fd would meet the next
//!   user of the number, and `enif_select`, which is what `socket` uses, takes a
//!   kept but idle state for its own without setting it up (`enif_select_x` in
//!   erl_check_io.c, case ERTS_EV_TYPE_DRV_SEL).
//! - Two ports that select one fd steal it from each other. So the first of our
//!   ports selects the fd itself, and a port that comes while it is selected
//!   selects a duplicate, which is another number with the same readiness.
//! - ERTS does not say when a number has come back as another file. The file's
//!   identity is compared whenever it matters.

use super::{Armed, Pollset, Report, Select, Unwatched};
use crate::kinds::Kinds;
use crate::sys::{self, Errno, FileId};
use rustc_hash::{FxBuildHasher, FxHashSet};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The fds that some port of this driver has selected under their own number.
static SELECTED: Selected = Selected::new();

/// A set of fds that all pollsets of a VM share.
pub struct Selected(Mutex<Option<FxHashSet<i32>>>);

impl Selected {
    pub const fn new() -> Selected {
        Selected(Mutex::new(None))
    }

    fn fds(&self) -> MutexGuard<'_, Option<FxHashSet<i32>>> {
        // Nothing panics with the lock held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a fd as selected under its own number. False if it already was.
    fn claim(&self, fd: i32) -> bool {
        self.fds().get_or_insert_default().insert(fd)
    }

    fn unclaim(&self, fd: i32) {
        let mut selected = self.fds();
        if let Some(fds) = selected.as_mut() {
            fds.remove(&fd);
            if fds.is_empty() {
                // The memory must not outlive the driver, which may be unloaded.
                *selected = None;
            }
        }
    }
}

/// What is selected for one fd.
#[derive(Debug, Clone, Copy)]
struct State {
    /// The number that ERTS knows: the fd itself, or a duplicate of ours.
    event: i32,
    kinds: Kinds,
    file: FileId,
}

/// See the module's documentation.
pub struct Erts {
    selected: &'static Selected,
    /// Of ERTS: see `Select::deselecting_resets_count`.
    deselecting_resets_count: bool,
    states: HashMap<i32, State, FxBuildHasher>,
    /// The fds of the duplicates.
    duplicates: HashMap<i32, i32, FxBuildHasher>,
}

impl Erts {
    pub fn new(host: &dyn Select) -> Erts {
        Erts::sharing(host, &SELECTED)
    }

    pub fn sharing(host: &dyn Select, selected: &'static Selected) -> Erts {
        Erts {
            selected,
            deselecting_resets_count: host.deselecting_resets_count(),
            states: HashMap::default(),
            duplicates: HashMap::default(),
        }
    }

    /// The number to select for a fd.
    fn event_for(&mut self, fd: i32) -> Result<i32, Errno> {
        if self.selected.claim(fd) {
            return Ok(fd);
        }
        let duplicate = sys::duplicate(fd)?;
        self.duplicates.insert(duplicate, fd);
        Ok(duplicate)
    }

    /// Gives an event back to ERTS: ours to be closed, another's to be left.
    fn give_back(&mut self, host: &dyn Select, fd: i32, event: i32) {
        if event == fd {
            host.forget(event);
            self.selected.unclaim(fd);
        } else {
            self.duplicates.remove(&event);
            host.forget_and_close(event);
        }
    }

    fn release(&mut self, host: &dyn Select, fd: i32) {
        if let Some(state) = self.states.remove(&fd) {
            self.give_back(host, fd, state.event);
        }
    }
}

impl Pollset for Erts {
    fn arm(&mut self, host: &dyn Select, fd: i32, kinds: Kinds) -> Result<Armed, Errno> {
        let file = sys::file_id(fd)?;
        match self.states.get_mut(&fd) {
            Some(state) if state.file == file => {
                host.select(state.event, kinds - state.kinds)?;
                host.deselect(state.event, state.kinds - kinds);
                state.kinds = kinds;
                return Ok(Armed::Watched);
            }
            _ => {}
        }
        let replaced = self.states.contains_key(&fd);
        self.release(host, fd);
        let event = self.event_for(fd)?;
        if let Err(errno) = host.select(event, kinds) {
            self.give_back(host, fd, event);
            return Err(errno);
        }
        self.states.insert(fd, State { event, kinds, file });
        Ok(if replaced {
            Armed::Replaced
        } else {
            Armed::Watched
        })
    }

    fn disarm(&mut self, host: &dyn Select, fd: i32, left: Kinds) {
        match self.states.get_mut(&fd) {
            Some(state) if !left.is_empty() => {
                host.deselect(state.event, state.kinds - left);
                state.kinds = state.kinds & left;
            }
            _ => self.release(host, fd),
        }
    }

    fn ready(&mut self, host: &dyn Select, event: i32, reports: &mut Vec<Report>) {
        let fd = self.duplicates.get(&event).copied().unwrap_or(event);
        if self
            .states
            .get(&fd)
            .is_some_and(|state| state.event == event)
        {
            reports.push(Report {
                fd,
                found: None,
                told: Kinds::NONE,
            });
        } else {
            // Nothing of ours. It must not be reported for ever.
            host.forget(event);
        }
    }

    fn settle(&mut self, host: &dyn Select, fd: i32, left: Kinds) -> Result<(), Unwatched> {
        if self.is_stale(fd) {
            return Err(Unwatched::Stale);
        }
        if left.is_empty() {
            self.release(host, fd);
        } else if let Some(state) = self.states.get_mut(&fd) {
            // Where ERTS has moved a fd to the scheduler pollset, selecting it inside a
            // callback would lose it (erl_check_io.c, count > 10). Deselecting all of it
            // prevents that by setting the count back, or, where it does not, giving the
            // fd up entirely.
            if self.deselecting_resets_count {
                host.deselect(state.event, state.kinds);
            } else {
                host.forget(state.event);
            }
            state.kinds = left;
            if host.select(state.event, left).is_err() {
                return Err(Unwatched::Refused);
            }
        }
        Ok(())
    }

    fn is_stale(&mut self, fd: i32) -> bool {
        self.states
            .get(&fd)
            .is_some_and(|state| match sys::file_id(fd) {
                Ok(file) => file != state.file,
                // Another errno, such as ENOMEM, says nothing of the file.
                Err(errno) => errno == Errno::EBADF,
            })
    }

    fn close(&mut self, host: &dyn Select) {
        let fds: Vec<i32> = self.states.keys().copied().collect();
        for fd in fds {
            self.release(host, fd);
        }
    }
}
