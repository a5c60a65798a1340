// SPDX-License-Identifier: Apache-2.0
//! A port is lent for the length of a callback: nobody keeps it.

use erl_driver::{Pid, Port};
use std::cell::Cell;

thread_local! {
    static PORT: Cell<Option<&'static Port>> = const { Cell::new(None) };
    static OWNER: Cell<Option<Pid>> = const { Cell::new(None) };
}

pub fn keep(port: &Port) {
    OWNER.set(Some(port.owner()));
    #[cfg(feature = "misuse")]
    PORT.set(Some(port)); //~ E0521
}

fn main() {}
