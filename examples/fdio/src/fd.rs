// SPDX-License-Identifier: Apache-2.0

//! From an Erlang integer to a descriptor and back: all `unsafe` of the crate.
//!
//! Erlang owns the descriptors, as plain integers: nothing here closes one
//! because a Rust value went out of scope, and a number may be closed, or may
//! never have been open. The kernel is the judge: it looks the number up in
//! every call and answers EBADF. Only negative numbers are turned away before.

use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, Result};
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustler::{Decoder, Encoder, Env, NifResult, Term, TermType};

/// A descriptor's number, as Erlang gave it.
#[derive(Clone, Copy)]
pub struct Fd(RawFd);

impl Fd {
    /// The descriptor for the length of a call.
    pub fn borrow(&self) -> Result<BorrowedFd<'_>> {
        if self.0 < 0 {
            return Err(Errno::BADF);
        }
        // SAFETY: the number is not -1, the one value a BorrowedFd must not
        // have. Should it not be open, the only thing done with it, a system
        // call, fails with EBADF: rustix hands the number to the kernel
        // and keeps nothing.
        Ok(unsafe { BorrowedFd::borrow_raw(self.0) })
    }

    /// The descriptor, if calls on it cannot block the scheduler: EINVAL if
    /// `O_NONBLOCK` is off.
    pub fn nonblocking(&self) -> Result<BorrowedFd<'_>> {
        let fd = self.borrow()?;
        if fcntl_getfl(fd)?.contains(OFlags::NONBLOCK) {
            Ok(fd)
        } else {
            Err(Errno::INVAL)
        }
    }

    /// close(2). Unlike dropping an `OwnedFd`, closing twice is an answer,
    /// EBADF, and no abort.
    pub fn close(self) -> Result<()> {
        if self.0 < 0 {
            return Err(Errno::BADF);
        }
        // SAFETY: no Rust value owns this number: `Fd::from` gave up ownership
        // when Erlang got it. That Erlang code has no further use for it is
        // what the caller of fdio:close/1 says.
        unsafe { rustix::io::try_close(self.0) }
    }

    /// dup2(2), the new number close-on-exec. rustix wants an `OwnedFd` as
    /// the target, which a number that is not open yet cannot be.
    pub fn dup_to(self, to: Self) -> Result<()> {
        if self.0 == to.0 {
            // dup3(2) refuses this with EINVAL; dup2(2) only checks.
            return self.borrow().and_then(fcntl_getfl).map(drop);
        }
        // SAFETY: two integers; dup3 reads and writes no memory.
        match unsafe { libc::dup3(self.0, to.0, libc::O_CLOEXEC) } {
            -1 => Err(last_errno()),
            _ => Ok(()),
        }
    }
}

const IFREQ_REST: usize = size_of::<libc::ifreq>() - libc::IFNAMSIZ - size_of::<i16>();

/// What `TUNSETIFF` reads and writes: a `struct ifreq`, of which it uses the
/// name and the flags.
#[repr(C)]
pub struct TunRequest {
    pub name: [u8; libc::IFNAMSIZ],
    pub flags: i16,
    rest: [u8; IFREQ_REST],
}

impl TunRequest {
    pub const ZERO: Self = Self {
        name: [0; libc::IFNAMSIZ],
        flags: 0,
        rest: [0; IFREQ_REST],
    };

    /// ioctl(2) with `TUNSETIFF`: `fd`, open on /dev/net/tun, becomes the other
    /// end of a network device. The device's name is written back.
    pub fn attach(&mut self, fd: impl AsFd) -> Result<()> {
        // SAFETY: of an `ifreq` this has the size and, checked below, the place
        // of the two fields; all of it is initialised, and any bytes that the
        // kernel writes are valid for its integers. Drivers other than tun's do
        // not know the opcode, and answer ENOTTY or EINVAL.
        unsafe {
            ioctl(
                fd,
                Updater::<{ libc::TUNSETIFF as Opcode }, Self>::new(self),
            )
        }
    }
}

const _: () = {
    assert!(size_of::<TunRequest>() == size_of::<libc::ifreq>());
    assert!(offset_of!(TunRequest, flags) == offset_of!(libc::ifreq, ifr_ifru));
};

/// What the C library's call that has just failed left in errno.
fn last_errno() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// From here on Erlang owns the descriptor.
impl From<OwnedFd> for Fd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into_raw_fd())
    }
}

impl Encoder for Fd {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.0.encode(env)
    }
}

/// Any integer is a descriptor; one that the kernel's `int` cannot hold is
/// none that is open, so it decodes as -1.
impl<'a> Decoder<'a> for Fd {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode() {
            Ok(number) => Ok(Self(number)),
            Err(_) if term.get_type() == TermType::Integer => Ok(Self(-1)),
            Err(badarg) => Err(badarg),
        }
    }
}
