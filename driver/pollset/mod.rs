// SPDX-License-Identifier: Apache-2.0
//! Pollsets: ways to have the kernel watch fds. A pollset knows fds and kinds,
//! not processes.

#[cfg(target_os = "linux")]
pub mod epoll;
pub mod erts;
#[cfg(target_os = "linux")]
mod home;

use crate::kinds::Kinds;
use crate::sys::Errno;
use crate::wire::Counters;

/// ERTS's side of a pollset: `driver_select`, for the port of the callback that
/// is running.
pub trait Select {
    /// Selects a fd for one direction or both, keeping ERTS's state of it.
    fn select(&self, fd: i32, kinds: Kinds) -> Result<(), Errno>;
    /// Takes directions away.
    fn deselect(&self, fd: i32, kinds: Kinds);
    /// Has ERTS forget a fd that is not ours: it is never closed.
    fn forget(&self, fd: i32);
    /// Has ERTS forget a fd that is ours, and close it when that is safe.
    fn forget_and_close(&self, fd: i32);
    /// Whether deselecting a fd sets back the count of rounds after which ERTS moves
    /// it to the scheduler pollset (see `home`).
    fn deselecting_resets_count(&self) -> bool;
}

/// What [`Pollset::arm`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Armed {
    /// The fd is watched.
    Watched,
    /// The fd is watched, but what had been watched under its number was
    /// another file: the number was closed and has come back.
    Replaced,
}

/// Why a fd is watched no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwatched {
    /// The file behind the number is not the one that was armed, or there is none.
    Stale,
    /// The file is there, and the kernel has no room to watch it.
    Refused,
}

/// A fd that may be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub fd: i32,
    /// The kinds that the event is of, where they need not be asked for by poll(2).
    pub found: Option<Kinds>,
    /// What the kernel told once and will not tell again: poll(2) need not
    /// find it. Some files (/proc/self/mounts, /proc/pressure) forget their event as
    /// soon as somebody has asked.
    pub told: Kinds,
}

/// A set of fds that the kernel watches. Every notification is one-shot: after
/// a fd came out of [`ready`](Pollset::ready) it is watched again only when
/// `settle` or `arm` says so.
pub trait Pollset {
    /// The kinds that can be armed.
    fn kinds(&self) -> Kinds {
        Kinds::READ_WRITE
    }

    /// Has exactly `kinds` of `fd` watched, which are not empty. An error
    /// leaves everything as it was.
    fn arm(&mut self, host: &dyn Select, fd: i32, kinds: Kinds) -> Result<Armed, Errno>;

    /// Nothing but `left`, possibly nothing, of `fd` needs watching any more. It
    /// may come out of `ready` once more all the same. The fd may be closed.
    fn disarm(&mut self, host: &dyn Select, fd: i32, left: Kinds);

    /// ERTS reports `event` ready: adds the fds that may be ready to `reports`.
    fn ready(&mut self, host: &dyn Select, event: i32, reports: &mut Vec<Report>);

    /// A request has armed something, or has tried to: a pollset that finds it worth while adds
    /// the fds that may be ready to `reports`, without waiting for ERTS.
    fn after_arming(&mut self, reports: &mut Vec<Report>) {
        let _ = reports;
    }

    /// What was told of a fd while nobody waited for it, and poll(2) would not
    /// find. It is not told again.
    fn untold(&mut self, fd: i32) -> Kinds {
        let _ = fd;
        Kinds::NONE
    }

    /// Somebody has asked the kernel, and what it told reaches nobody: keeps
    /// it for [`untold`](Pollset::untold), where it would be lost.
    fn keep(&mut self, fd: i32, told: Kinds) {
        let _ = (fd, told);
    }

    /// After a fd came out of `ready`: has `left`, possibly nothing, watched.
    fn settle(&mut self, host: &dyn Select, fd: i32, left: Kinds) -> Result<(), Unwatched>;

    /// Whether the file that was armed as `fd` is no longer the one behind
    /// that number, as far as the kernel can tell.
    fn is_stale(&mut self, fd: i32) -> bool;

    /// Fills in its own counters.
    fn count(&self, counters: &mut Counters) {
        let _ = counters;
    }

    /// Watches nothing any more.
    fn close(&mut self, host: &dyn Select);
}
