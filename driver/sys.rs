// SPDX-License-Identifier: Apache-2.0
//! System calls on file descriptors that are not ours: the one file of the
//! driver with `unsafe` in it. Each call turns -1 into an [`Errno`] and does
//! nothing else.

#![allow(unsafe_code)]

use crate::kinds::{Kind, Kinds};
use std::ffi::c_int;
use std::fmt;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

/// An errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub c_int);

impl Errno {
    pub const EBADF: Errno = Errno(libc::EBADF);
    pub const EBUSY: Errno = Errno(libc::EBUSY);
    pub const EEXIST: Errno = Errno(libc::EEXIST);
    pub const EINVAL: Errno = Errno(libc::EINVAL);
    pub const ENOTSUP: Errno = Errno(libc::ENOTSUP);
    pub const ENOENT: Errno = Errno(libc::ENOENT);
    pub const EPERM: Errno = Errno(libc::EPERM);

    /// The kernel has no room left, which says nothing of the fd it was asked about.
    #[cfg(target_os = "linux")]
    pub fn is_shortage(self) -> bool {
        matches!(self.0, libc::ENOMEM | libc::ENOSPC)
    }

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

/// What is ready of the kinds asked for. Trouble, which is an error or a hang-up, counts
/// as ready for every kind, as in poll(2) and ERTS.
fn ready(asked: Kinds, is_trouble: bool, is_told: impl Fn(Kind) -> bool) -> Kinds {
    if is_trouble {
        return asked;
    }
    asked
        .iter()
        .filter(|kind| is_told(*kind))
        .fold(Kinds::NONE, |all, kind| all | kind.into())
}

fn poll_events(kind: Kind) -> i16 {
    match kind {
        Kind::Read => libc::POLLIN,
        Kind::Write => libc::POLLOUT,
        Kind::Priority => libc::POLLPRI,
        #[cfg(target_os = "linux")]
        Kind::Hangup => libc::POLLRDHUP,
        // No pollset of other systems takes it.
        #[cfg(not(target_os = "linux"))]
        Kind::Hangup => 0,
    }
}

fn kinds_of(events: i16) -> Kinds {
    let mut kinds = Kinds::NONE;
    for kind in Kind::ALL {
        if events & poll_events(kind) != 0 {
            kinds |= kind.into();
        }
    }
    kinds
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
        const TROUBLE: i16 = libc::POLLERR | libc::POLLHUP;
        let told = self.0.revents;
        Found::Ready(ready(
            kinds_of(self.0.events),
            told & TROUBLE != 0,
            |kind| told & poll_events(kind) != 0,
        ))
    }
}

impl PollFd {
    /// What is ready, as far as it is open.
    pub fn ready(&self) -> Kinds {
        match self.found() {
            Found::Ready(kinds) => kinds,
            Found::NotOpen => Kinds::NONE,
        }
    }

    /// Takes kinds for asked for and found.
    pub fn add(&mut self, kinds: Kinds) {
        for kind in kinds.iter() {
            self.0.events |= poll_events(kind);
            self.0.revents |= poll_events(kind);
        }
    }

    /// As if nothing had been found.
    pub fn forget(&mut self) {
        self.0.revents = 0;
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
    file_type: libc::mode_t,
    device: libc::dev_t,
    inode: libc::ino_t,
    /// The device that a device file stands for.
    special: libc::dev_t,
}

fn stat(fd: i32) -> Result<libc::stat, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat takes any number and writes the struct when it returns 0.
    check(unsafe { libc::fstat(fd, stat.as_mut_ptr()) })?;
    // SAFETY: see above.
    Ok(unsafe { stat.assume_init() })
}

impl FileId {
    #[cfg(target_os = "linux")]
    pub fn is_regular(&self) -> bool {
        self.file_type == libc::S_IFREG
    }

    /// Whether several files may have this identity: those of anonymous inodes (eventfd,
    /// timerfd, inotify, ...), and those of a device such as /dev/net/tun or /dev/ptmx,
    /// each opening of which is another one.
    #[cfg(target_os = "linux")]
    pub fn is_shared(&self) -> bool {
        matches!(self.file_type, 0 | libc::S_IFCHR)
    }
}

/// fstat(2), as far as it identifies the file.
pub fn file_id(fd: i32) -> Result<FileId, Errno> {
    let stat = stat(fd)?;
    Ok(FileId {
        file_type: stat.st_mode & libc::S_IFMT,
        device: stat.st_dev,
        inode: stat.st_ino,
        special: stat.st_rdev,
    })
}

/// What is behind a fd, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    kind: &'static str,
    socket: Option<Socket>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Socket {
    domain: String,
    style: &'static str,
    local: String,
    peer: String,
}

impl fmt::Display for Description {
    /// The kind, and of a socket its domain, type, local and remote address; a
    /// line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if let Some(socket) = &self.socket {
            let Socket {
                domain,
                style,
                local,
                peer,
            } = socket;
            write!(f, "\n{domain}\n{style}\n{local}\n{peer}")?;
        }
        Ok(())
    }
}

/// Asks the kernel what is behind a fd: fstat(2), isatty(3), getsockname(2),
/// getpeername(2).
pub fn describe(fd: i32) -> Result<Description, Errno> {
    let kind = match stat(fd)?.st_mode & libc::S_IFMT {
        libc::S_IFSOCK => "socket",
        libc::S_IFIFO => "pipe",
        libc::S_IFREG => "file",
        libc::S_IFDIR => "directory",
        libc::S_IFBLK => "block_device",
        libc::S_IFLNK => "link",
        // SAFETY: takes any number.
        libc::S_IFCHR if unsafe { libc::isatty(fd) } == 1 => "tty",
        libc::S_IFCHR => "character_device",
        // An anonymous inode: epoll, eventfd, inotify, ...
        _ => "anonymous",
    };
    let socket = (kind == "socket").then(|| {
        let mut style: c_int = 0;
        let mut length = size_of::<c_int>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, which `style` has.
        unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_TYPE,
                (&raw mut style).cast(),
                &mut length,
            )
        };
        let (domain, local) = address(fd, libc::getsockname);
        let (_, peer) = address(fd, libc::getpeername);
        Socket {
            domain,
            style: match style {
                libc::SOCK_STREAM => "stream",
                libc::SOCK_DGRAM => "dgram",
                libc::SOCK_RAW => "raw",
                libc::SOCK_SEQPACKET => "seqpacket",
                _ => "other",
            },
            local,
            peer,
        }
    });
    Ok(Description { kind, socket })
}

type GetName = unsafe extern "C" fn(c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> c_int;

/// Domain and address of one side of a socket, empty where there is none.
fn address(fd: i32, get: GetName) -> (String, String) {
    // SAFETY: all zeroes is a sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&storage) as libc::socklen_t;
    let place = &raw mut storage;
    // SAFETY: the kernel writes at most `length` bytes, which the storage has.
    if check(unsafe { get(fd, place.cast(), &mut length) }).is_err() {
        return (String::new(), String::new());
    }
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the storage is as large as any address, and aligned for all.
            let inet: libc::sockaddr_in = unsafe { place.cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(u32::from_be(inet.sin_addr.s_addr));
            let address = SocketAddrV4::new(ip, u16::from_be(inet.sin_port));
            ("inet".into(), address.to_string())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let inet: libc::sockaddr_in6 = unsafe { place.cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(inet.sin6_addr.s6_addr);
            let port = u16::from_be(inet.sin6_port);
            let address = SocketAddrV6::new(ip, port, 0, inet.sin6_scope_id);
            ("inet6".into(), address.to_string())
        }
        libc::AF_UNIX => {
            // SAFETY: as above.
            let unix: libc::sockaddr_un = unsafe { place.cast::<libc::sockaddr_un>().read() };
            let offset = std::mem::offset_of!(libc::sockaddr_un, sun_path);
            let path = unix.sun_path.iter().map(|byte| *byte as u8);
            let mut path: Vec<u8> = path
                .take((length as usize).saturating_sub(offset))
                .collect();
            // An abstract name begins with a zero byte, commonly written as @.
            match path.first_mut() {
                Some(first @ 0) => *first = b'@',
                _ => path.truncate(
                    path.iter()
                        .position(|byte| *byte == 0)
                        .unwrap_or(path.len()),
                ),
            }
            ("unix".into(), path.escape_ascii().to_string())
        }
        #[cfg(target_os = "linux")]
        libc::AF_NETLINK => ("netlink".into(), String::new()),
        #[cfg(target_os = "linux")]
        libc::AF_PACKET => ("packet".into(), String::new()),
        family => (family.to_string(), String::new()),
    }
}

/// Milliseconds on a clock that goes on evenly, from any start. Coarse, where
/// there is a coarse one: it costs a few nanoseconds, and its steps are some
/// milliseconds.
pub fn milliseconds() -> u64 {
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the struct; the clock is there on every system.
    unsafe { libc::clock_gettime(CLOCK, &mut time) };
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
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

/// When a registration is heard of.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Once, and then when it was modified.
    Once,
    /// Whenever something happens.
    Edges,
}

#[cfg(target_os = "linux")]
fn epoll_event(kind: Kind) -> c_int {
    match kind {
        Kind::Read => libc::EPOLLIN,
        Kind::Write => libc::EPOLLOUT,
        Kind::Priority => libc::EPOLLPRI,
        Kind::Hangup => libc::EPOLLRDHUP,
    }
}

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

    /// What is ready of the kinds asked for.
    pub fn ready(&self, asked: Kinds) -> Kinds {
        const TROUBLE: c_int = libc::EPOLLERR | libc::EPOLLHUP;
        let told = self.0.events as c_int;
        ready(asked, told & TROUBLE != 0, |kind| {
            told & epoll_event(kind) != 0
        })
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

    /// EPOLL_CTL_ADD: `EEXIST` if the fd's file is registered under this number,
    /// and then nothing is asked of the file.
    pub fn add(self, fd: i32, kinds: Kinds, how: Notice, data: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_ADD, fd, kinds, how, data)
    }

    /// EPOLL_CTL_MOD: `ENOENT` if the fd's file is not registered under this
    /// number.
    pub fn modify(self, fd: i32, kinds: Kinds, how: Notice, data: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_MOD, fd, kinds, how, data)
    }

    /// EPOLL_CTL_DEL.
    pub fn remove(self, fd: i32) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_DEL, fd, Kinds::NONE, Notice::Once, 0)
    }

    /// With no kinds, trouble is reported still (the kernel adds EPOLLERR and
    /// EPOLLHUP).
    fn control(
        self,
        operation: c_int,
        fd: i32,
        kinds: Kinds,
        how: Notice,
        data: u64,
    ) -> Result<(), Errno> {
        let how = match how {
            Notice::Once => libc::EPOLLONESHOT,
            Notice::Edges => libc::EPOLLET,
        };
        let events = kinds
            .iter()
            .map(epoll_event)
            .fold(how, |all, one| all | one);
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
