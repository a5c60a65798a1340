// SPDX-License-Identifier: Apache-2.0
//! A port is neither copied nor cloned.

use erl_driver::Port;

pub fn copy(port: &Port) {
    let same: &Port = port;
    #[cfg(feature = "misuse")]
    let same = &{ *same }; //~ E0507
    same.set_busy(false);
}

pub fn is_clone<T: Clone>(_: &T) {}

pub fn clone(port: &Port) {
    is_clone(&port.owner());
    #[cfg(feature = "misuse_types")]
    is_clone(port); //~ E0277
}

fn main() {}
