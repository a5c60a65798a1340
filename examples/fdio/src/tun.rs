// SPDX-License-Identifier: Apache-2.0

//! TUN and TAP: network devices whose other end is a descriptor.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, Result};
use rustler::{Binary, Env, NewBinary};

use crate::choice::choice;
use crate::errno::Reply;
use crate::fd::{Fd, TunRequest};

choice! {
    Kind { Tun tun, Tap tap }
}

impl TunRequest {
    fn new(kind: Kind, name: &[u8]) -> Result<Self> {
        if name.contains(&0) {
            return Err(Errno::INVAL);
        }
        let mut request = Self::ZERO;
        // The kernel wants a zero byte behind the name.
        request
            .name
            .get_mut(..name.len())
            .filter(|_| name.len() < libc::IFNAMSIZ)
            .ok_or(Errno::NAMETOOLONG)?
            .copy_from_slice(name);
        // NO_PI: what is read and written is the packet or frame, with no header
        // of the driver's own.
        let flags = libc::IFF_NO_PI
            | match kind {
                Kind::Tun => libc::IFF_TUN,
                Kind::Tap => libc::IFF_TAP,
            };
        request.flags = flags.try_into().map_err(|_| Errno::INVAL)?;
        Ok(request)
    }
}

#[rustler::nif]
fn tun_nif<'a>(env: Env<'a>, kind: Kind, name: Binary<'a>) -> Reply<(Fd, Binary<'a>)> {
    let mut request = TunRequest::new(kind, &name)?;
    let fd = open(
        "/dev/net/tun",
        OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // Until here it has no device; should this fail, it is closed again.
    request.attach(&fd)?;
    let length = request
        .name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(request.name.len());
    let mut given = NewBinary::new(env, length);
    given
        .as_mut_slice()
        .copy_from_slice(&request.name[..length]);
    Ok((fd.into(), given.into()))
}
