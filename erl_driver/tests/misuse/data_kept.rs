// SPDX-License-Identifier: Apache-2.0
//! A control's data are lent for the call, and so are an output's pieces.

use erl_driver::{BadArgument, Driver, IoVec, Port, Reply, StartError};

pub struct Last(Option<&'static [u8]>);

impl Driver for Last {
    const NAME: &'static std::ffi::CStr = c"last_drv";

    fn start(_port: &Port, _command: &[u8]) -> Result<Self, StartError> {
        Ok(Last(None))
    }

    fn control(
        &mut self,
        _port: &Port,
        _command: u32,
        data: &[u8],
        reply: &mut Reply,
    ) -> Result<(), BadArgument> {
        #[cfg(feature = "misuse")]
        self.0.replace(data); //~ E0521
        reply.push(data);
        Ok(())
    }

    fn outputv(&mut self, _port: &Port, data: &IoVec) {
        // On one line: compilers differ in which part of it they name.
        #[cfg(feature = "misuse")]
        self.0.replace(data.pieces().next().unwrap()); //~ E0521
        assert!(data.pieces().next().is_some());
    }
}

fn main() {}
