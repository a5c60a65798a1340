// SPDX-License-Identifier: Apache-2.0
//! System calls on file descriptors that are not ours: the one file of the
//! driver with `unsafe` in it. Each call turns -1 into an [`Errno`] and does
//! nothing else.

#![allow(unsafe_code)]

use crate::kinds::{Kind, Kinds};
use std::ffi::c_int;
use std::mem::MaybeUninit;

/// An errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub c_int);

impl Errno {
    pub const EBADF: Errno = Errno(libc::EBADF);
    pub const EBUSY: Errno = Errno(libc::EBUSY);
    pub const EINVAL: Errno = Errno(libc::EINVAL);

    fn last() -> Errno {
        Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

fn check(result: c_int) -> Result<c_int, Errno> {
    if result == -1 {
        Err(Errno::last())
    } else {
        Ok(result)
    }
}

/// One entry of a poll(2): a fd, the kinds asked for, the kinds found.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PollFd(libc::pollfd);

/// What poll(2) found for one fd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// These kinds are ready, maybe none.
    Ready(Kinds),
    /// The number is no open fd.
    NotOpen,
}

/// Errors and hang-ups count as ready for every kind, as in poll(2) and ERTS.
const TROUBLE: i16 = libc::POLLERR | libc::POLLHUP;

fn poll_events(kind: Kind) -> i16 {
    match kind {
        Kind::Read => libc::POLLIN,
        Kind::Write => libc::POLLOUT,
    }
}

impl PollFd {
    pub fn new(fd: i32, kinds: Kinds) -> PollFd {
        PollFd(libc::pollfd {
            fd,
            events: kinds.iter().map(poll_events).fold(0, |all, one| all | one),
            revents: 0,
        })
    }

    pub fn fd(&self) -> i32 {
        self.0.fd
    }

    /// What was found, of the kinds asked for.
    pub fn found(&self) -> Found {
        // poll(2) skips negative numbers in silence.
        if self.0.fd < 0 || self.0.revents & libc::POLLNVAL != 0 {
            return Found::NotOpen;
        }
        let mut ready = Kinds::NONE;
        for kind in Kind::ALL {
            let events = poll_events(kind);
            if self.0.events & events != 0 && self.0.revents & (events | TROUBLE) != 0 {
                ready |= kind.into();
            }
        }
        Found::Ready(ready)
    }
}

/// poll(2) without waiting. `fds` holds no more than RLIMIT_NOFILE entries.
pub fn poll(fds: &mut [PollFd]) -> Result<(), Errno> {
    loop {
        // SAFETY: PollFd is transparent over pollfd, the slice's length goes
        // with it, and the kernel writes nothing but `revents`.
        let result = unsafe { libc::poll(fds.as_mut_ptr().cast(), fds.len() as libc::nfds_t, 0) };
        match check(result) {
            Ok(_) => return Ok(()),
            Err(Errno(libc::EINTR)) => continue,
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether the number is an open fd.
pub fn is_open(fd: i32) -> bool {
    // SAFETY: F_GETFD takes any number and changes nothing.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).is_ok()
}

/// What the kernel tells of the file behind a fd without its help: enough to
/// tell two sockets, pipes or files apart, though not two of the anonymous
/// inodes (eventfd, timerfd, inotify), which all share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: libc::dev_t,
    inode: libc::ino_t,
    /// The device that a device file stands for.
    special: libc::dev_t,
}

/// fstat(2), as far as it identifies the file.
pub fn file_id(fd: i32) -> Result<FileId, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat takes any number and writes the struct when it returns 0.
    check(unsafe { libc::fstat(fd, stat.as_mut_ptr()) })?;
    // SAFETY: see above.
    let stat = unsafe { stat.assume_init() };
    Ok(FileId {
        device: stat.st_dev,
        inode: stat.st_ino,
        special: stat.st_rdev,
    })
}

/// A second number for the file of `fd`, to be closed with [`close`].
pub fn duplicate(fd: i32) -> Result<i32, Errno> {
    // SAFETY: takes any number.
    check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })
}

/// Closes a fd that inert itself has opened.
pub fn close(fd: i32) {
    // SAFETY: close takes any number; callers pass what duplicate and the
    // epoll pollset have opened, once. An error leaves nothing to be done.
    unsafe { libc::close(fd) };
}

/// Makes `fd` another number for the file of `file`, closing what it was.
#[cfg(test)]
pub fn replace_for_test(file: i32, fd: i32) {
    // SAFETY: takes any numbers.
    check(unsafe { libc::dup2(file, fd) }).expect("dup2");
}
