// SPDX-License-Identifier: Apache-2.0
//! A driver for `probe_SUITE`: it does what its port is told to with
//! `erlang:port_control/3`, and tells its port's owner what ERTS called.
//!
//! It knows nothing of inert, and has no unsafe code.
//!
//! | module | what it is |
//! | --- | --- |
//! | `command` | the bytes of `erlang:port_control/3` |
//! | `deed` | what a callback does on request: fail, panic |
//! | `terms` | one term of each kind |

#![forbid(unsafe_code)]

mod command;
mod deed;
mod terms;

use command::Command;
use deed::{Callback, Deed};
use erl_driver::{
    Atom, BadArgument, Driver, Event, IoVec, Mode, Monitor, Pid, Port, Reply, SendError,
    StartError, Term,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Ports opened since the driver was loaded: gone with an unload.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// What `stop_select` was given, and what it is to do. It runs without a port.
static STOPPED: Mutex<Vec<i32>> = Mutex::new(Vec::new());
static WHEN_STOPPED: Mutex<Deed> = Mutex::new(Deed::Nothing);

/// A statistic of 64 bytes that wants a cache line of its own.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; 64]);

#[derive(Default)]
struct Probe {
    /// What the callbacks are to do, once each.
    plan: Vec<(Callback, Deed)>,
    monitors: Vec<Monitor>,
    remembered: Option<Pid>,
    memory: Vec<u8>,
    lines: Vec<Line>,
    timeouts: u32,
}

impl Driver for Probe {
    const NAME: &'static std::ffi::CStr = c"probe_drv";

    /// `PROBE_LOAD` in the environment: `fail`, or what to panic with.
    fn load() -> Result<(), StartError> {
        match std::env::var("PROBE_LOAD") {
            Err(_) => Ok(()),
            Ok(value) if value == "fail" => Err(StartError::General),
            Ok(value) => panic!("{value}"),
        }
    }

    /// `PROBE_UNLOAD` in the environment: what to panic with.
    fn unload() {
        if let Ok(value) = std::env::var("PROBE_UNLOAD") {
            panic!("{value}");
        }
    }

    /// `probe_drv WORD...`, and nothing but words known here.
    fn start(port: &Port, command: &[u8]) -> Result<Self, StartError> {
        OPENED.fetch_add(1, Ordering::Relaxed);
        let mut probe = Probe::default();
        let mut words = command.split(|byte| *byte == b' ');
        if words.next() != Some(b"probe_drv") {
            return Err(StartError::BadArgument);
        }
        for word in words {
            match word {
                b"general" => return Err(StartError::General),
                b"badarg" => return Err(StartError::BadArgument),
                b"emfile" => return Err(StartError::Errno(24)),
                b"ebusy" => return Err(std::io::Error::from_raw_os_error(16).into()),
                b"panic" => Deed::PanicStr.perform(port),
                b"fail" => port.fail(erl_driver::Failure::Eof),
                b"hello" => tell(port, port.owner(), c"start", |t| t.binary(command)),
                b"caller" => tell(port, port.caller(), c"start", |t| t.nil()),
                b"timer" => port
                    .set_timer(Duration::ZERO)
                    .map_err(|_| StartError::General)?,
                b"monitor" => probe.monitors.push(monitor_owner(port)?),
                _ => return Err(StartError::BadArgument),
            }
        }
        Ok(probe)
    }

    fn stop(mut self, port: &Port) {
        tell(port, port.owner(), c"stop", |t| t);
        if self.act(port, Callback::Stop) == Deed::Outlive {
            let timer = port.set_timer(Duration::MAX).is_ok();
            let monitor = port.monitor(port.owner()).is_ok();
            tell(port, port.owner(), c"outlived", |t| {
                t.int(timer.into()).int(monitor.into())
            });
        }
    }

    fn output(&mut self, port: &Port, data: &[u8]) {
        tell(port, port.owner(), c"output", |t| t.binary(data));
    }

    /// Answers to the caller, with each piece; empty ones are left out.
    fn outputv(&mut self, port: &Port, data: &IoVec) {
        self.act(port, Callback::Output);
        let size = data.size() as u64;
        tell(port, port.caller(), c"outputv", |t| {
            t.uint64(&size).list(|t| {
                let pieces = data.pieces().filter(|piece| !piece.is_empty());
                pieces.fold(t, |t, piece| t.binary(piece))
            })
        });
        self.output(port, &data.concat());
    }

    fn control(
        &mut self,
        port: &Port,
        command: u32,
        data: &[u8],
        reply: &mut Reply,
    ) -> Result<(), BadArgument> {
        let command = Command::parse(command, data).ok_or(BadArgument)?;
        self.act(port, Callback::Control);
        self.execute(port, command, reply)
    }

    /// Answers with its argument (command 1); `n` bytes that are no term (2).
    fn call(
        &mut self,
        port: &Port,
        command: u32,
        data: &[u8],
        reply: &mut Reply,
    ) -> Result<(), BadArgument> {
        self.act(port, Callback::Call);
        reply.make_binary();
        match command {
            1 => reply.push(data),
            2 => reply.push(&vec![0; data.len()]),
            3 => {}
            _ => return Err(BadArgument),
        }
        Ok(())
    }

    fn ready_input(&mut self, port: &Port, event: Event) {
        self.ready(
            port,
            Callback::ReadyInput,
            Mode::READ,
            event,
            c"ready_input",
        );
    }

    fn ready_output(&mut self, port: &Port, event: Event) {
        self.ready(
            port,
            Callback::ReadyOutput,
            Mode::WRITE,
            event,
            c"ready_output",
        );
    }

    fn stop_select(event: Event) {
        locked(&STOPPED).push(event.fd());
        let deed = std::mem::replace(&mut *locked(&WHEN_STOPPED), Deed::Nothing);
        deed.panic();
    }

    /// Tells whose monitor it was, and which: its number among those made.
    fn process_exit(&mut self, port: &Port, monitor: Monitor) {
        let pid = port.monitored(&monitor);
        let index = self.monitors.iter().position(|one| *one == monitor);
        let index = index.map_or(-1, |index| index as isize);
        tell(port, port.owner(), c"process_exit", |t| {
            match pid {
                Some(pid) => t.pid(pid),
                None => t.nil(),
            }
            .int(index)
        });
        if self.act(port, Callback::ProcessExit) == Deed::Demonitor {
            let ended = port.demonitor(&monitor).is_ok();
            tell(port, port.owner(), c"demonitored", |t| t.int(ended.into()));
        }
    }

    fn timeout(&mut self, port: &Port) {
        self.timeouts += 1;
        let timeouts = self.timeouts as isize;
        tell(port, port.owner(), c"timeout", |t| t.int(timeouts));
        self.act(port, Callback::Timeout);
    }
}

impl Probe {
    fn ready(
        &mut self,
        port: &Port,
        callback: Callback,
        mode: Mode,
        event: Event,
        name: &'static std::ffi::CStr,
    ) {
        let _ = port.deselect(event, mode);
        tell(port, port.owner(), name, |t| t.int(event.fd() as isize));
        self.act(port, callback);
    }

    /// Does what was planned for this callback, and forgets it.
    fn act(&mut self, port: &Port, callback: Callback) -> Deed {
        let Some(index) = self.plan.iter().position(|(when, _)| *when == callback) else {
            return Deed::Nothing;
        };
        let (_, deed) = self.plan.swap_remove(index);
        deed.perform(port);
        deed
    }

    fn execute(
        &mut self,
        port: &Port,
        command: Command,
        reply: &mut Reply,
    ) -> Result<(), BadArgument> {
        match command {
            Command::List(data) => reply.push(data),
            Command::Binary(data) => {
                reply.make_binary();
                reply.push(data);
            }
            Command::Bytewise(data) => {
                reply.make_binary();
                data.chunks(1).for_each(|byte| reply.push(byte));
                assert_eq!(reply.len(), data.len());
            }
            Command::Cleared(data) => {
                reply.push(&[0; 100]);
                reply.clear();
                assert!(reply.is_empty());
                reply.push(data);
            }
            Command::Refuse(data) => {
                reply.make_binary();
                reply.push(data);
                return Err(BadArgument);
            }
            Command::Opened => reply.push(&OPENED.load(Ordering::Relaxed).to_be_bytes()),
            Command::Plan(callback, deed) => match callback {
                Callback::StopSelect => *locked(&WHEN_STOPPED) = deed,
                _ => self.plan.push((callback, deed)),
            },
            Command::Select(fd, mode) => {
                reply.push(word(port.select(Event::from_fd(fd), mode)));
            }
            Command::Deselect(fd, mode) => {
                reply.push(word(port.deselect(Event::from_fd(fd), mode)));
            }
            Command::Stopped => {
                for fd in locked(&STOPPED).drain(..) {
                    reply.push(&fd.to_be_bytes());
                }
            }
            Command::Monitor => match port.monitor(self.remembered.unwrap_or(port.caller())) {
                Ok(monitor) => {
                    reply.push(self.monitors.len().to_string().as_bytes());
                    self.monitors.push(monitor);
                }
                Err(error) => reply.push(error.to_string().as_bytes()),
            },
            Command::Demonitor(index) => {
                reply.push(word(port.demonitor(self.monitor(index)?)));
            }
            Command::Monitored(index) => match port.monitored(self.monitor(index)?) {
                Some(pid) => tell(port, port.caller(), c"monitored", |t| t.pid(pid)),
                None => reply.push(b"nobody"),
            },
            Command::Same(one, other) => {
                let same = self.monitor(one)? == self.monitor(other)?;
                reply.push(same.to_string().as_bytes());
            }
            Command::Timer(delay) => reply.push(word(port.set_timer(delay))),
            Command::CancelTimer => reply.push(word(port.cancel_timer())),
            Command::Term(name) => {
                reply.push(sent(terms::send(name, port).ok_or(BadArgument)?));
            }
            Command::External(data) => {
                let mut term = Term::new();
                term.external(data);
                reply.push(sent(port.send(port.caller(), &term)));
            }
            Command::Remember => self.remembered = Some(port.caller()),
            Command::SendRemembered(data) => {
                let mut term = Term::new();
                term.binary(data);
                reply.push(sent(port.send(self.remembered.ok_or(BadArgument)?, &term)));
            }
            Command::SendOwner(data) => {
                let mut term = Term::new();
                term.binary(data);
                reply.push(sent(port.send_owner(&term)));
            }
            Command::Output(data) => reply.push(sent(port.output(data))),
            Command::Consume(percent) => {
                reply.push(port.consume_timeslice(percent).to_string().as_bytes());
            }
            Command::Busy(busy) => port.set_busy(busy),
            Command::Allocate(size) => self.memory = vec![1; size],
            Command::Aligned(count) => {
                self.lines = Vec::new();
                for index in 0..count {
                    self.lines.push(Line([index as u8; 64]));
                }
                let right = self.lines.iter().enumerate().all(|(index, line)| {
                    std::ptr::from_ref(line).is_aligned() && line.0 == [index as u8; 64]
                });
                reply.push(right.to_string().as_bytes());
            }
            Command::Errno(errno) => reply.push(erl_driver::errno_name(errno).to_bytes()),
            Command::Who => {
                let (owner, caller) = (port.owner(), port.caller());
                tell(port, port.caller(), c"who", |t| t.pid(owner).pid(caller));
            }
            Command::ErtsVersion => reply.push(erl_driver::erts_version().to_bytes()),
            Command::CatchOwnPanic => {
                let caught = std::panic::catch_unwind(|| panic!("caught by the driver"));
                reply.push(word(caught.map_or(Ok(()), |()| Err(()))));
            }
        }
        Ok(())
    }

    fn monitor(&self, index: usize) -> Result<&Monitor, BadArgument> {
        self.monitors.get(index).ok_or(BadArgument)
    }
}

/// Sends `{Port, What, ...}`. A receiver that is gone is not this driver's matter.
fn tell<'a>(
    port: &Port,
    to: Pid,
    what: &'static std::ffi::CStr,
    rest: impl for<'t> FnOnce(&'t mut Term<'a>) -> &'t mut Term<'a>,
) {
    let mut term = Term::new();
    term.tuple(|t| rest(t.port(port).atom(Atom::new(what))));
    let _ = port.send(to, &term);
}

fn monitor_owner(port: &Port) -> Result<Monitor, StartError> {
    port.monitor(port.owner()).map_err(|_| StartError::General)
}

fn word<E>(result: Result<(), E>) -> &'static [u8] {
    match result {
        Ok(()) => b"ok",
        Err(_) => b"error",
    }
}

fn sent(result: Result<(), SendError>) -> &'static [u8] {
    match result {
        Ok(()) => b"ok",
        Err(SendError::NoProcess) => b"no_process",
        Err(SendError::BadTerm) => b"bad_term",
    }
}

/// What a panic has left is as good as it was.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

erl_driver::driver!(Probe);
