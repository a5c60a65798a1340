// SPDX-License-Identifier: Apache-2.0

//! Calls that work on any descriptor, and those that make one that is no socket.

use rustix::event::{EventfdFlags, eventfd as sys_eventfd};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open as sys_open};
use rustix::io::Result;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, getrlimit};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustler::{Binary, Decoder, Encoder, Env, NewBinary, NifResult, Term};

use crate::choice::{List, choice};
use crate::errno::{Done, Reply};
use crate::fd::Fd;

mod atoms {
    rustler::atoms! { infinity }
}

/// What one call moves at most. Copying more would keep a scheduler from its
/// other processes for longer than the millisecond a NIF is allowed.
const LIMIT: usize = 1024 * 1024;

/// What a scheduler is assumed to copy in one percent of that millisecond.
const BYTES_PER_PERCENT: usize = 16 * 1024;

/// How many bytes to read: 1 to `LIMIT`, else badarg.
pub struct Max(usize);

impl Max {
    pub fn get(&self) -> usize {
        self.0
    }
}

impl<'a> Decoder<'a> for Max {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode()? {
            max @ 1..=LIMIT => Ok(Self(max)),
            _ => Err(rustler::Error::BadArg),
        }
    }
}

/// Runs `read` on an empty buffer of `max` bytes and returns what it put there.
pub fn read_with<'a>(
    env: Env<'a>,
    max: &Max,
    read: impl FnOnce(&mut Vec<u8>) -> Result<usize>,
) -> Reply<Binary<'a>> {
    let mut buffer = Vec::with_capacity(max.0);
    let length = read(&mut buffer)?;
    // Copied, so that a short read does not keep all of `max` bytes alive.
    let mut binary = NewBinary::new(env, length);
    binary.as_mut_slice().copy_from_slice(&buffer);
    pay_for(env, length);
    Ok(binary.into())
}

/// Runs `write` on at most `LIMIT` bytes of `data`.
pub fn write_with(
    env: Env<'_>,
    data: &Binary<'_>,
    write: impl FnOnce(&[u8]) -> Result<usize>,
) -> Reply<usize> {
    let written = write(&data[..data.len().min(LIMIT)])?;
    pay_for(env, written);
    Ok(written)
}

/// Takes the copied bytes off the calling process's time slice: a process that
/// only copies would otherwise get thousands of calls for each turn.
pub fn pay_for(env: Env<'_>, bytes: usize) {
    if let Ok(percent @ 1..) = i32::try_from(bytes / BYTES_PER_PERCENT) {
        rustler::schedule::consume_timeslice(env, percent.min(100));
    }
}

choice! {
    OpenMode { Read read, Write write, Append append, Creat creat, Excl excl, Trunc trunc }
}

fn open_flags(modes: &[OpenMode]) -> OFlags {
    let reads = modes.contains(&OpenMode::Read);
    let writes = modes.contains(&OpenMode::Write) || modes.contains(&OpenMode::Append);
    let access = match (reads, writes) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    // NOCTTY: opening a terminal must not give it to the VM.
    let always = OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    modes
        .iter()
        .fold(access | always, |flags, mode| match mode {
            OpenMode::Read | OpenMode::Write => flags,
            OpenMode::Append => flags | OFlags::APPEND,
            OpenMode::Creat => flags | OFlags::CREATE,
            OpenMode::Excl => flags | OFlags::EXCL,
            OpenMode::Trunc => flags | OFlags::TRUNC,
        })
}

#[rustler::nif]
fn open_nif(path: Binary<'_>, modes: List<OpenMode>) -> Reply<Fd> {
    Ok(sys_open(
        path.as_slice(),
        open_flags(&modes.0),
        Mode::from_raw_mode(0o666),
    )?
    .into())
}

#[rustler::nif]
fn close(fd: Fd) -> Done {
    fd.close().into()
}

#[rustler::nif(schedule = "DirtyIo")]
fn close_wait(fd: Fd) -> Done {
    fd.close().into()
}

#[rustler::nif]
fn read(env: Env<'_>, fd: Fd, max: Max) -> Reply<Binary<'_>> {
    let fd = fd.nonblocking()?;
    read_with(env, &max, |buffer| {
        rustix::io::read(fd, rustix::buffer::spare_capacity(buffer))
    })
}

#[rustler::nif]
fn write(env: Env<'_>, fd: Fd, data: Binary<'_>) -> Reply<usize> {
    let fd = fd.nonblocking()?;
    write_with(env, &data, |data| rustix::io::write(fd, data))
}

#[rustler::nif]
fn dup(fd: Fd) -> Reply<Fd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd.borrow()?, 0)?.into())
}

#[rustler::nif]
fn dup2(fd: Fd, to: Fd) -> Done {
    fd.dup_to(to).into()
}

#[rustler::nif]
fn pipe() -> Reply<(Fd, Fd)> {
    let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    Ok((reader.into(), writer.into()))
}

choice! {
    Counting { Counter counter, Semaphore semaphore }
}

#[rustler::nif]
fn eventfd(counting: Counting) -> Reply<Fd> {
    let mut flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
    flags.set(EventfdFlags::SEMAPHORE, counting == Counting::Semaphore);
    Ok(sys_eventfd(0, flags)?.into())
}

#[rustler::nif]
fn openpty(env: Env<'_>) -> Reply<(Fd, Fd, Binary<'_>)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = sys_open(
        &name,
        open_flags(&[OpenMode::Read, OpenMode::Write]),
        Mode::empty(),
    )?;
    // Raw, as a serial line is used: what is written on one side is what is
    // read on the other.
    let mut settings = tcgetattr(&slave)?;
    settings.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &settings)?;
    let mut name_binary = NewBinary::new(env, name.as_bytes().len());
    name_binary.as_mut_slice().copy_from_slice(name.as_bytes());
    Ok((master.into(), slave.into(), name_binary.into()))
}

#[rustler::nif]
fn set_nonblock(fd: Fd, on: bool) -> Done {
    let set = || {
        let fd = fd.borrow()?;
        let mut flags = fcntl_getfl(fd)?;
        flags.set(OFlags::NONBLOCK, on);
        fcntl_setfl(fd, flags)
    };
    set().into()
}

#[rustler::nif]
fn is_open(fd: Fd) -> bool {
    fd.borrow().and_then(rustix::io::fcntl_getfd).is_ok()
}

/// A soft limit, `infinity` where there is none.
struct Limit(Option<u64>);

impl Encoder for Limit {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self.0 {
            Some(limit) => limit.encode(env),
            None => atoms::infinity().encode(env),
        }
    }
}

#[rustler::nif]
fn max_fds() -> Limit {
    Limit(getrlimit(Resource::Nofile).current)
}
