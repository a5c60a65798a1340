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
    pub const EEXIST: Errno = Errno(libc::EEXIST);
    pub const EINVAL: Errno = Errno(libc::EINVAL);
    #[cfg(not(target_os = "linux"))]
    pub const ENOTSUP: Errno = Errno(libc::ENOTSUP);
    pub const ENOENT: Errno = Errno(libc::ENOENT);

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// An epoll(7) instance. Closed by whoever created it, not when dropped: ERTS
/// may be watching it still.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoll(i32);

/// One event of [`Epoll::wait`].
#[cfg(target_os = "linux")]
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct EpollEvent(libc::epoll_event);

#[cfg(target_os = "linux")]
impl EpollEvent {
    pub const EMPTY: EpollEvent = EpollEvent(libc::epoll_event { events: 0, u64: 0 });

    /// The data that the fd was registered with.
    pub fn data(&self) -> u64 {
        self.0.u64
    }
}

#[cfg(target_os = "linux")]
impl Epoll {
    pub fn create() -> Result<Epoll, Errno> {
        // SAFETY: takes a flag.
        check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Epoll)
    }

    pub fn fd(self) -> i32 {
        self.0
    }

    /// EPOLL_CTL_ADD: `EEXIST` if the fd's file is registered under this number.
    pub fn add(self, fd: i32, kinds: Kinds, data: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_ADD, fd, kinds, data)
    }

    /// EPOLL_CTL_MOD: `ENOENT` if the fd's file is not registered under this
    /// number.
    pub fn modify(self, fd: i32, kinds: Kinds, data: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_MOD, fd, kinds, data)
    }

    /// Every registration is one-shot. With no kinds, trouble is reported still
    /// (the kernel adds EPOLLERR and EPOLLHUP), once.
    fn control(self, operation: c_int, fd: i32, kinds: Kinds, data: u64) -> Result<(), Errno> {
        let events = kinds
            .iter()
            .map(|kind| match kind {
                Kind::Read => libc::EPOLLIN,
                Kind::Write => libc::EPOLLOUT,
            })
            .fold(libc::EPOLLONESHOT, |all, one| all | one);
        let mut event = libc::epoll_event {
            events: events as u32,
            u64: data,
        };
        // SAFETY: takes any numbers; the kernel reads the event during the call.
        check(unsafe { libc::epoll_ctl(self.0, operation, fd, &mut event) }).map(drop)
    }

    /// epoll_wait without waiting: how many of `events` were filled.
    pub fn wait(self, events: &mut [EpollEvent]) -> Result<usize, Errno> {
        // SAFETY: EpollEvent is transparent over epoll_event, and the slice's
        // length goes with it.
        let count = check(unsafe {
            libc::epoll_wait(self.0, events.as_mut_ptr().cast(), events.len() as c_int, 0)
        })?;
        Ok(count as usize)
    }
}

/// Closes a fd that inert itself has opened.
pub fn close(fd: i32) {
    // SAFETY: close takes any number; callers pass what duplicate and the
    // epoll pollset have opened, once. An error leaves nothing to be done.
    unsafe { libc::close(fd) };
}

/// Whether C (c_src_shim/shim.c, compiled against the installed erl_driver.h)
/// makes of a fd the event that `erl_driver` makes of it: the number, in a word.
pub fn event_is_a_word() -> bool {
    // SAFETY: declared as in c_src_shim/shim.h, compiled into this driver by
    // build.rs; both convert a number and touch nothing else.
    unsafe extern "C" {
        safe fn erl_drv_shim_event_from_fd(fd: c_int) -> *mut std::ffi::c_void;
        safe fn erl_drv_shim_fd_from_event(event: *mut std::ffi::c_void) -> c_int;
    }
    [0, 7, c_int::MAX].into_iter().all(|fd| {
        let event = erl_drv_shim_event_from_fd(fd);
        event.addr() == fd as usize && erl_drv_shim_fd_from_event(event) == fd
    })
}

/// Makes `fd` another number for the file of `file`, closing what it was.
#[cfg(test)]
pub fn replace_for_test(file: i32, fd: i32) {
    // SAFETY: takes any numbers.
    check(unsafe { libc::dup2(file, fd) }).expect("dup2");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_and_rust_agree_on_events() {
        assert!(event_is_a_word());
    }
}
