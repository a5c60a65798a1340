// SPDX-License-Identifier: Apache-2.0
//! A driver outlives the call that opened its port, and borrows nothing of it.

use erl_driver::{Driver, Port, StartError};
use std::marker::PhantomData;

pub struct Command<'a>(PhantomData<&'a [u8]>);

#[cfg(not(feature = "misuse"))]
impl Driver for Command<'static> {
    const NAME: &'static std::ffi::CStr = c"command_drv";

    fn start(_port: &Port, _command: &[u8]) -> Result<Self, StartError> {
        Ok(Command(PhantomData))
    }
}

#[cfg(feature = "misuse")]
#[rustfmt::skip]
impl<'a> Driver for Command<'a> { //~ E0478
    const NAME: &'static std::ffi::CStr = c"command_drv";

    fn start(_port: &Port, _command: &[u8]) -> Result<Self, StartError> {
        Ok(Command(PhantomData))
    }
}

fn main() {}
