// SPDX-License-Identifier: Apache-2.0
//! The driver: one service per port, and ERTS's callbacks handed to it.

use crate::host::{Atoms, ErtsHost};
use crate::pollset::{Pollset, erts::Erts};
use crate::service::Service;
use crate::sys::{self, Errno};
use crate::wire;
use erl_driver::{BadArgument, Driver, Event, Monitor, Pid, Port, Reply, StartError};
use std::ffi::CStr;

struct Inert {
    service: Service<Pid>,
    atoms: Atoms,
}

/// The pollset that the words after the driver's name ask for:
/// `"inert_drv erts"`.
fn pollset(command: &[u8]) -> Result<Box<dyn Pollset + Send>, StartError> {
    let mut words = command
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
        .skip(1);
    match (words.next(), words.next()) {
        (None | Some(b"erts"), None) => Ok(Box::new(Erts::new())),
        _ => Err(StartError::BadArgument),
    }
}

impl Inert {
    fn with<'a>(&'a mut self, port: &'a Port) -> (&'a mut Service<Pid>, ErtsHost<'a>) {
        let atoms = &self.atoms;
        (&mut self.service, ErtsHost { port, atoms })
    }

    fn ready(&mut self, port: &Port, event: Event) {
        let (service, host) = self.with(port);
        service.ready(&host, event.fd());
    }
}

impl Driver for Inert {
    const NAME: &'static CStr = c"inert_drv";

    fn start(_port: &Port, command: &[u8]) -> Result<Self, StartError> {
        Ok(Inert {
            service: Service::new(pollset(command)?),
            atoms: Atoms::new(),
        })
    }

    fn stop(self, port: &Port) {
        let atoms = &self.atoms;
        self.service.stop(&ErtsHost { port, atoms });
    }

    fn control(
        &mut self,
        port: &Port,
        command: u32,
        data: &[u8],
        reply: &mut Reply,
    ) -> Result<(), BadArgument> {
        let answer = match wire::decode(command, data) {
            Ok(request) => {
                let (service, host) = self.with(port);
                service.request(&host, port.caller(), request)
            }
            Err(wire::Malformed) => Err(Errno::EINVAL),
        };
        match answer {
            Ok(answer) => reply.push(answer.text().as_bytes()),
            Err(Errno(errno)) => reply.push(erl_driver::errno_name(errno).to_bytes()),
        }
        Ok(())
    }

    fn ready_input(&mut self, port: &Port, event: Event) {
        self.ready(port, event);
    }

    fn ready_output(&mut self, port: &Port, event: Event) {
        self.ready(port, event);
    }

    /// Only what inert itself has opened is given up in a way that leads here.
    fn stop_select(event: Event) {
        sys::close(event.fd());
    }

    fn process_exit(&mut self, port: &Port, monitor: Monitor) {
        if let Some(pid) = port.monitored(&monitor) {
            let (service, host) = self.with(port);
            service.process_exit(&host, pid);
        }
    }
}

erl_driver::driver!(Inert);
