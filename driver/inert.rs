// SPDX-License-Identifier: Apache-2.0
//! The driver: one service per port, and ERTS's callbacks handed to it.

use crate::host::{Atoms, ErtsHost};
#[cfg(target_os = "linux")]
use crate::pollset::epoll::Epoll;
use crate::pollset::{Pollset, Select, erts::Erts};
use crate::service::{Refusal, Service};
use crate::sys::{self, Errno};
use crate::wire;
use erl_driver::{BadArgument, Driver, Event, Monitor, Pid, Port, Reply, StartError};
use std::ffi::CStr;

struct Inert {
    service: Service<Pid>,
    atoms: Atoms,
}

/// The pollset that the words after the driver's name ask for:
/// `"inert_drv erts"`. Without a word it is the best there is.
fn pollset(host: &dyn Select, command: &[u8]) -> Result<Box<dyn Pollset + Send>, StartError> {
    let mut words = command
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
        .skip(1);
    match (words.next(), words.next()) {
        (None, None) => Ok(epoll(host).unwrap_or_else(|_| Box::new(Erts::new(host)))),
        (Some(b"epoll"), None) => epoll(host).map_err(|Errno(errno)| StartError::Errno(errno)),
        (Some(b"erts"), None) => Ok(Box::new(Erts::new(host))),
        _ => Err(StartError::BadArgument),
    }
}

#[cfg(target_os = "linux")]
fn epoll(host: &dyn Select) -> Result<Box<dyn Pollset + Send>, Errno> {
    Ok(Box::new(Epoll::new(host)?))
}

#[cfg(not(target_os = "linux"))]
fn epoll(_host: &dyn Select) -> Result<Box<dyn Pollset + Send>, Errno> {
    Err(Errno::ENOTSUP)
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

    fn load() -> Result<(), StartError> {
        if sys::event_is_a_word() {
            Ok(())
        } else {
            Err(StartError::General)
        }
    }

    fn start(port: &Port, command: &[u8]) -> Result<Self, StartError> {
        let atoms = Atoms::new();
        let pollset = pollset(
            &ErtsHost {
                port,
                atoms: &atoms,
            },
            command,
        )?;
        Ok(Inert {
            service: Service::new(pollset),
            atoms,
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
            Err(wire::Malformed) => Err(Refusal {
                errno: Errno::EINVAL,
                fd: None,
            }),
        };
        match answer {
            Ok(answer) => {
                if answer.is_binary() {
                    reply.make_binary();
                }
                answer.write(|bytes| reply.push(bytes));
            }
            Err(refusal) => {
                let Errno(errno) = refusal.errno;
                reply.push(erl_driver::errno_name(errno).to_bytes());
                if let Some(fd) = refusal.fd {
                    reply.push(format!(" {fd}").as_bytes());
                }
            }
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
