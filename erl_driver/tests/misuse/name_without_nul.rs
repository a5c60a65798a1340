// SPDX-License-Identifier: Apache-2.0
//! The name is a C string, since ERTS reads it as one.

use erl_driver::{Driver, Port, StartError};

pub struct Named;

#[rustfmt::skip]
impl Driver for Named {
    #[cfg(not(feature = "misuse"))]
    const NAME: &'static std::ffi::CStr = c"named_drv";
    #[cfg(feature = "misuse")]
    const NAME: &'static str = "named_drv"; //~ E0326

    fn start(_port: &Port, _command: &[u8]) -> Result<Self, StartError> {
        Ok(Named)
    }
}

fn main() {}
