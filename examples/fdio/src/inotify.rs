// SPDX-License-Identifier: Apache-2.0

//! inotify(7). Events are read with `read/2`, and taken apart in `fdio.erl`:
//! whatever the bytes are, a binary pattern stays inside them.

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustler::Binary;

use crate::errno::{Done, Reply};
use crate::fd::Fd;

#[rustler::nif]
fn inotify_init() -> Reply<Fd> {
    Ok(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?.into())
}

#[rustler::nif]
fn inotify_add_watch_nif(fd: Fd, path: Binary<'_>, mask: u32) -> Reply<i32> {
    let mask = WatchFlags::from_bits_retain(mask);
    Ok(inotify::add_watch(fd.borrow()?, path.as_slice(), mask)?)
}

#[rustler::nif]
fn inotify_rm_watch(fd: Fd, watch: i32) -> Done {
    fd.borrow()
        .and_then(|fd| inotify::remove_watch(fd, watch))
        .into()
}
