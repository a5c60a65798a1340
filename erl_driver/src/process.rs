// SPDX-License-Identifier: Apache-2.0
//! Processes: whom a driver talks to, and how it learns that one is gone.

use erl_driver_sys as sys;

/// A local process, which may be gone. It can be kept, compared and hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(pub(crate) sys::ErlDrvTermData);

/// A monitor of a process, made by [`Port::monitor`](crate::Port::monitor).
/// Two are equal if they are the same monitor, not if they watch the same
/// process.
#[derive(Clone, Copy)]
pub struct Monitor(pub(crate) sys::ErlDrvMonitor);

impl PartialEq for Monitor {
    fn eq(&self, other: &Monitor) -> bool {
        // SAFETY: compares the contents of two monitors, nothing else.
        unsafe { sys::driver_compare_monitors(&self.0, &other.0) == 0 }
    }
}

impl Eq for Monitor {}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Monitor")
    }
}

/// The process is not there (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoProcess;

impl std::fmt::Display for NoProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no such process")
    }
}

impl std::error::Error for NoProcess {}
