// SPDX-License-Identifier: Apache-2.0
//! A driver without a start is none.

use erl_driver::{Driver, Port, StartError};

pub struct Idle;

#[cfg(not(feature = "misuse"))]
impl Driver for Idle {
    const NAME: &'static std::ffi::CStr = c"idle_drv";

    fn start(_port: &Port, _command: &[u8]) -> Result<Self, StartError> {
        Ok(Idle)
    }
}

#[cfg(feature = "misuse")]
#[rustfmt::skip]
impl Driver for Idle { //~ E0046
    const NAME: &'static std::ffi::CStr = c"idle_drv";
}

pub fn refuse(_: &Port) -> StartError {
    StartError::General
}

fn main() {}
