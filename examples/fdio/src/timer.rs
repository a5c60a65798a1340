// SPDX-License-Identifier: Apache-2.0

//! timerfd(2).

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
    timerfd_create as sys_create, timerfd_settime as sys_settime,
};
use rustler::{Decoder, Error, NifResult, Term};

use crate::choice::choice;
use crate::errno::{Done, Reply};
use crate::fd::Fd;

choice! {
    Clock { Monotonic monotonic, Realtime realtime, Boottime boottime }
}

/// Nanoseconds, 0 or more, of seconds that an i64 holds: all that a u64 says.
struct Nanoseconds(Timespec);

impl<'a> Decoder<'a> for Nanoseconds {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        const SECOND: u64 = 1_000_000_000;
        let nanoseconds: u64 = term.decode()?;
        let part = |n: u64| i64::try_from(n).map_err(|_| Error::BadArg);
        Ok(Self(Timespec {
            tv_sec: part(nanoseconds / SECOND)?,
            tv_nsec: part(nanoseconds % SECOND)?,
        }))
    }
}

#[rustler::nif]
fn timerfd_create(clock: Clock) -> Reply<Fd> {
    let clock = match clock {
        Clock::Monotonic => TimerfdClockId::Monotonic,
        Clock::Realtime => TimerfdClockId::Realtime,
        Clock::Boottime => TimerfdClockId::Boottime,
    };
    Ok(sys_create(clock, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?.into())
}

#[rustler::nif]
fn timerfd_settime(fd: Fd, after: Nanoseconds, every: Nanoseconds) -> Done {
    let setting = Itimerspec {
        it_value: after.0,
        it_interval: every.0,
    };
    fd.borrow()
        .and_then(|fd| sys_settime(fd, TimerfdTimerFlags::empty(), &setting))
        .map(drop)
        .into()
}
