// SPDX-License-Identifier: Apache-2.0
//! Callbacks of a port run on any scheduler: what a driver keeps can go there.

use erl_driver::{Driver, Port, StartError};

#[cfg(not(feature = "misuse"))]
type Counter = std::sync::Arc<u8>;
#[cfg(feature = "misuse")]
type Counter = std::rc::Rc<u8>;

pub struct Counting(pub Counter);

#[rustfmt::skip]
impl Driver for Counting { //~ E0277
    const NAME: &'static std::ffi::CStr = c"counting_drv";

    fn start(_port: &Port, _command: &[u8]) -> Result<Self, StartError> {
        Ok(Counting(Counter::default()))
    }
}

fn main() {}
