// SPDX-License-Identifier: Apache-2.0

//! The load generator: a closed loop on every connection. A request is sent, its
//! echo is read and compared byte for byte, the next request is sent.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use serde::Serialize;

/// What to do to the server.
pub struct Load {
    pub port: u16,
    pub connections: NonZeroUsize,
    pub size: NonZeroUsize,
    pub pause: Duration,
    pub warmup: Duration,
    pub seconds: Duration,
}

/// What came of it. Times of a round trip are in microseconds.
#[derive(Debug, Serialize)]
pub struct Report {
    connections: usize,
    size: usize,
    requests: u64,
    seconds: f64,
    rps: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    /// Connections that failed: closed, reset, or an echo that differs.
    errors: usize,
    /// Connections that had no answer in the measured time: a server that
    /// loses one looks fast otherwise.
    silent: usize,
}

/// How many events one epoll_wait may bring.
const EVENTS: usize = 1024;

/// A round trip takes no longer than a run, so fits.
const LONGEST_NS: u64 = 1_000_000_000_000;

/// Significant digits of the histogram: an error of 0.1 %.
const DIGITS: u8 = 3;

/// A generator that connects for longer than this has met a server that does
/// not accept.
const CONNECT: Duration = Duration::from_secs(10);

struct Connection {
    stream: TcpStream,
    number: u64,
    request: Vec<u8>,
    echo: Vec<u8>,
    /// Bytes of the request that are sent.
    sent: usize,
    /// Bytes of the echo that are here.
    received: usize,
    began: Instant,
    in_flight: bool,
    answers: u64,
    answered: Option<Instant>,
}

enum Progress {
    Waits,
    Answered,
}

impl Connection {
    fn open(port: u16, number: u64, size: usize) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), CONNECT)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        // Printable, and different at every place, so that a shift is seen.
        let request = (0..size).map(|at| b' ' + (at % 95) as u8).collect();
        Ok(Self {
            stream,
            number,
            request,
            echo: vec![0; size],
            sent: 0,
            received: 0,
            began: Instant::now(),
            in_flight: false,
            answers: 0,
            answered: None,
        })
    }

    /// A request that no other connection sends, nor this one before.
    fn begin(&mut self, now: Instant) -> io::Result<()> {
        let label = self.number.wrapping_shl(32).wrapping_add(self.answers);
        for (byte, label) in self.request.iter_mut().zip(label.to_be_bytes()) {
            *byte = label;
        }
        self.sent = 0;
        self.received = 0;
        self.began = now;
        self.in_flight = true;
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> io::Result<Progress> {
        if !self.in_flight {
            // The peer has no reason to say anything but that it has closed, which the next
            // request finds out.
            return Ok(Progress::Waits);
        }
        self.send()?;
        while self.received < self.echo.len() {
            match self.stream.read(&mut self.echo[self.received..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(received) => self.received += received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waits),
                Err(error) => return Err(error),
            }
        }
        if self.echo == self.request {
            self.in_flight = false;
            Ok(Progress::Answered)
        } else {
            Err(ErrorKind::InvalidData.into())
        }
    }
}

/// Opens the connections, then warms up and measures.
pub fn run(load: &Load) -> io::Result<Report> {
    let size = load.size.get();
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(load.connections.get());
    for number in 0..load.connections.get() as u64 {
        let connection = Connection::open(load.port, number, size)?;
        // Edge-triggered and for both directions: no further epoll_ctl, ever.
        epoll::add(
            &epoll,
            &connection.stream,
            EventData::new_u64(number),
            EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        )?;
        connections.push(Some(connection));
    }

    let mut tally = Tally::new(load)?;
    // Those that pause. All pauses are of one length: who is first ends first.
    let mut paused: VecDeque<(Instant, usize)> = VecDeque::new();
    let mut events = Vec::with_capacity(EVENTS);
    let first = Instant::now();
    for slot in &mut connections {
        attempt(slot, &mut tally, |connection, _| connection.begin(first));
    }
    loop {
        let now = Instant::now();
        while let Some(&(ends, slot)) = paused.front() {
            if ends > now {
                break;
            }
            paused.pop_front();
            attempt(&mut connections[slot], &mut tally, |connection, _| {
                connection.begin(now)
            });
        }
        if now >= tally.ends {
            break;
        }
        let next = paused
            .front()
            .map_or(tally.ends, |(ends, _)| tally.ends.min(*ends));
        let timeout = (next - now).try_into().map_err(io::Error::other)?;
        match epoll::wait(&epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in events.drain(..) {
            let slot = event.data.u64() as usize;
            attempt(&mut connections[slot], &mut tally, |connection, tally| {
                if let Progress::Waits = connection.advance()? {
                    return Ok(());
                }
                let now = Instant::now();
                tally.count(connection.began, now);
                connection.answers += 1;
                connection.answered = Some(now);
                if load.pause.is_zero() {
                    connection.begin(now)
                } else {
                    paused.push_back((now + load.pause, slot));
                    Ok(())
                }
            });
        }
    }
    let silent = connections
        .iter()
        .flatten()
        .filter(|connection| connection.answered.is_none_or(|at| at < tally.begins))
        .count();
    Ok(tally.report(load, silent))
}

/// Does something with a connection that is still there. One that fails is
/// counted and dropped.
fn attempt(
    slot: &mut Option<Connection>,
    tally: &mut Tally,
    what: impl FnOnce(&mut Connection, &mut Tally) -> io::Result<()>,
) {
    if let Some(connection) = slot {
        if what(connection, tally).is_err() {
            *slot = None;
            tally.errors += 1;
        }
    }
}

struct Tally {
    begins: Instant,
    ends: Instant,
    latencies: Histogram<u64>,
    errors: usize,
}

impl Tally {
    fn new(load: &Load) -> io::Result<Self> {
        let begins = Instant::now() + load.warmup;
        Ok(Self {
            begins,
            ends: begins + load.seconds,
            latencies: Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)
                .map_err(io::Error::other)?,
            errors: 0,
        })
    }

    /// Answers that arrive in the measured time count.
    fn count(&mut self, began: Instant, now: Instant) {
        if now >= self.begins && now < self.ends {
            let nanoseconds = u64::try_from((now - began).as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(nanoseconds);
        }
    }

    fn report(&self, load: &Load, silent: usize) -> Report {
        let seconds = load.seconds.as_secs_f64();
        let microseconds = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1e3;
        Report {
            connections: load.connections.get(),
            size: load.size.get(),
            requests: self.latencies.len(),
            seconds,
            rps: self.latencies.len() as f64 / seconds,
            p50: microseconds(0.5),
            p90: microseconds(0.9),
            p99: microseconds(0.99),
            max: self.latencies.max() as f64 / 1e3,
            errors: self.errors,
            silent,
        }
    }
}
