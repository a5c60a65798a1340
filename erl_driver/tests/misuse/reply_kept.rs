// SPDX-License-Identifier: Apache-2.0
//! A reply is filled in its callback or never: nobody keeps it.

use erl_driver::Reply;
use std::cell::Cell;

thread_local! {
    static REPLY: Cell<Option<&'static mut Reply<'static>>> = const { Cell::new(None) };
}

pub fn keep(reply: &mut Reply) {
    reply.push(b"later");
    #[cfg(feature = "misuse")]
    REPLY.set(Some(reply)); //~ E0521
}

fn main() {}
