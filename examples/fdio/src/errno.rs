// SPDX-License-Identifier: Apache-2.0

//! From errno and `Result` to what Erlang sees: `ok | {ok, X} | {error, posix()}`.

use rustix::io::Errno;
use rustler::{Atom, Encoder, Env, Term};

/// The one table of errno names: the constant and its atom.
macro_rules! errno_atoms {
    ($($constant:ident $atom:ident),* $(,)?) => {
        mod atoms {
            rustler::atoms! { ok, eunknown, $($atom),* }
        }

        fn atom(errno: Errno) -> Atom {
            match errno.raw_os_error() {
                $(libc::$constant => atoms::$atom(),)*
                _ => atoms::eunknown(),
            }
        }
    };
}

// All of Linux's. Of two names for one number the table has the one that OTP
// uses: EAGAIN and not EWOULDBLOCK, EDEADLK and not EDEADLOCK, ENOTSUP and not
// EOPNOTSUPP.
errno_atoms! {
    E2BIG e2big,
    EACCES eacces,
    EADDRINUSE eaddrinuse,
    EADDRNOTAVAIL eaddrnotavail,
    EADV eadv,
    EAFNOSUPPORT eafnosupport,
    EAGAIN eagain,
    EALREADY ealready,
    EBADE ebade,
    EBADF ebadf,
    EBADFD ebadfd,
    EBADMSG ebadmsg,
    EBADR ebadr,
    EBADRQC ebadrqc,
    EBADSLT ebadslt,
    EBFONT ebfont,
    EBUSY ebusy,
    ECANCELED ecanceled,
    ECHILD echild,
    ECHRNG echrng,
    ECOMM ecomm,
    ECONNABORTED econnaborted,
    ECONNREFUSED econnrefused,
    ECONNRESET econnreset,
    EDEADLK edeadlk,
    EDESTADDRREQ edestaddrreq,
    EDOM edom,
    EDOTDOT edotdot,
    EDQUOT edquot,
    EEXIST eexist,
    EFAULT efault,
    EFBIG efbig,
    EHOSTDOWN ehostdown,
    EHOSTUNREACH ehostunreach,
    EHWPOISON ehwpoison,
    EIDRM eidrm,
    EILSEQ eilseq,
    EINPROGRESS einprogress,
    EINTR eintr,
    EINVAL einval,
    EIO eio,
    EISCONN eisconn,
    EISDIR eisdir,
    EISNAM eisnam,
    EKEYEXPIRED ekeyexpired,
    EKEYREJECTED ekeyrejected,
    EKEYREVOKED ekeyrevoked,
    EL2HLT el2hlt,
    EL2NSYNC el2nsync,
    EL3HLT el3hlt,
    EL3RST el3rst,
    ELIBACC elibacc,
    ELIBBAD elibbad,
    ELIBEXEC elibexec,
    ELIBMAX elibmax,
    ELIBSCN elibscn,
    ELNRNG elnrng,
    ELOOP eloop,
    EMEDIUMTYPE emediumtype,
    EMFILE emfile,
    EMLINK emlink,
    EMSGSIZE emsgsize,
    EMULTIHOP emultihop,
    ENAMETOOLONG enametoolong,
    ENAVAIL enavail,
    ENETDOWN enetdown,
    ENETRESET enetreset,
    ENETUNREACH enetunreach,
    ENFILE enfile,
    ENOANO enoano,
    ENOBUFS enobufs,
    ENOCSI enocsi,
    ENODATA enodata,
    ENODEV enodev,
    ENOENT enoent,
    ENOEXEC enoexec,
    ENOKEY enokey,
    ENOLCK enolck,
    ENOLINK enolink,
    ENOMEDIUM enomedium,
    ENOMEM enomem,
    ENOMSG enomsg,
    ENONET enonet,
    ENOPKG enopkg,
    ENOPROTOOPT enoprotoopt,
    ENOSPC enospc,
    ENOSR enosr,
    ENOSTR enostr,
    ENOSYS enosys,
    ENOTBLK enotblk,
    ENOTCONN enotconn,
    ENOTDIR enotdir,
    ENOTEMPTY enotempty,
    ENOTNAM enotnam,
    ENOTRECOVERABLE enotrecoverable,
    ENOTSOCK enotsock,
    ENOTSUP enotsup,
    ENOTTY enotty,
    ENOTUNIQ enotuniq,
    ENXIO enxio,
    EOVERFLOW eoverflow,
    EOWNERDEAD eownerdead,
    EPERM eperm,
    EPFNOSUPPORT epfnosupport,
    EPIPE epipe,
    EPROTO eproto,
    EPROTONOSUPPORT eprotonosupport,
    EPROTOTYPE eprototype,
    ERANGE erange,
    EREMCHG eremchg,
    EREMOTE eremote,
    EREMOTEIO eremoteio,
    ERESTART erestart,
    ERFKILL erfkill,
    EROFS erofs,
    ESHUTDOWN eshutdown,
    ESOCKTNOSUPPORT esocktnosupport,
    ESPIPE espipe,
    ESRCH esrch,
    ESRMNT esrmnt,
    ESTALE estale,
    ESTRPIPE estrpipe,
    ETIME etime,
    ETIMEDOUT etimedout,
    ETOOMANYREFS etoomanyrefs,
    ETXTBSY etxtbsy,
    EUCLEAN euclean,
    EUNATCH eunatch,
    EUSERS eusers,
    EXDEV exdev,
    EXFULL exfull,
}

/// An errno that encodes as its lower-case name.
#[derive(Debug)]
pub struct Posix(Errno);

impl From<Errno> for Posix {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

impl Encoder for Posix {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        atom(self.0).encode(env)
    }
}

/// `{ok, T} | {error, posix()}`
pub type Reply<T> = Result<T, Posix>;

/// `ok | {error, posix()}`
pub struct Done(rustix::io::Result<()>);

impl From<rustix::io::Result<()>> for Done {
    fn from(result: rustix::io::Result<()>) -> Self {
        Self(result)
    }
}

impl Encoder for Done {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self.0 {
            Ok(()) => atoms::ok().encode(env),
            Err(errno) => Err::<(), _>(Posix(errno)).encode(env),
        }
    }
}
