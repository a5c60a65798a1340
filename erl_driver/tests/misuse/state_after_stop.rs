// SPDX-License-Identifier: Apache-2.0
//! stop consumes the state: nothing of it is used again.

use erl_driver::{Driver, Port, StartError};

pub struct Stopping(pub Vec<u8>);

impl Driver for Stopping {
    const NAME: &'static std::ffi::CStr = c"stopping_drv";

    fn start(_port: &Port, _command: &[u8]) -> Result<Self, StartError> {
        Ok(Stopping(Vec::new()))
    }

    fn timeout(&mut self, port: &Port) {
        port.fail(erl_driver::Failure::Eof);
        #[cfg(feature = "misuse")]
        self.stop(port); //~ E0507
    }
}

fn main() {}
