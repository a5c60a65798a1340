// SPDX-License-Identifier: Apache-2.0
//! stop_select runs when the port may be gone: it gets no state and no port.

use erl_driver::{Driver, Event, Port, StartError};

pub struct Closing;

impl Driver for Closing {
    const NAME: &'static std::ffi::CStr = c"closing_drv";

    fn start(_port: &Port, _command: &[u8]) -> Result<Self, StartError> {
        Ok(Closing)
    }

    #[cfg(not(feature = "misuse"))]
    fn stop_select(event: Event) {
        let _ = event;
    }

    #[cfg(feature = "misuse")]
    #[rustfmt::skip]
    fn stop_select(&mut self, event: Event) { //~ E0185
        let _ = event;
    }
}

fn main() {}
