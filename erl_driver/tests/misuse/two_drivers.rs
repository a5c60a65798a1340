// SPDX-License-Identifier: Apache-2.0
//! A library exports one driver.

use erl_driver::{Driver, Port, StartError, driver};

pub struct One;

impl Driver for One {
    const NAME: &'static std::ffi::CStr = c"one_drv";

    fn start(_port: &Port, _command: &[u8]) -> Result<Self, StartError> {
        Ok(One)
    }
}

#[cfg(not(feature = "misuse"))]
driver!(One, allocator = none);

// On one line: compilers differ in which of the two they call the second.
#[cfg(feature = "misuse")]
#[rustfmt::skip]
mod twice { use super::*; driver!(One, allocator = none); driver!(One, allocator = none); } //~ E0428

fn main() {}
