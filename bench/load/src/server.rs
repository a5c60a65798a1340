// SPDX-License-Identifier: Apache-2.0

//! What one thread with epoll(7) can do: level-triggered, a read, a write, and
//! nothing else for a request.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// How many events one epoll_wait may bring.
const EVENTS: usize = 1024;

/// Bytes of one read, as the benchmark's other servers have it.
const CHUNK: usize = 4096;

struct Connection {
    stream: TcpStream,
    /// What did not fit into the socket's buffer. While there is any, nothing
    /// is read.
    pending: Vec<u8>,
}

/// Serves until the standard input ends, or for this long.
pub fn run(port: u16, longest: Duration) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    // std's backlog is 128 (or more, in newer versions); with thousands that
    // connect at once the kernel would drop some, to be tried again a second later.
    // listen(2) may be called again to change it.
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    println!("port {}", listener.local_addr()?.port());

    let stdin = io::stdin();
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    watch(&epoll, &listener, EventFlags::IN)?;
    watch(&epoll, &stdin, EventFlags::IN)?;

    let ends = Instant::now() + longest;
    let mut connections = HashMap::new();
    let mut buffer = [0; CHUNK];
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let timeout = left.try_into().map_err(io::Error::other)?;
        match epoll::wait(&epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in events.drain(..) {
            let fd = event.data.u64() as RawFd;
            if fd == listener.as_raw_fd() {
                accept(&listener, &epoll, &mut connections)?;
            } else if fd == stdin.as_raw_fd() {
                return Ok(());
            } else if let Some(connection) = connections.get_mut(&fd) {
                if turn(connection, &epoll, &mut buffer).is_err() {
                    connections.remove(&fd);
                }
            }
        }
    }
}

/// What /proc/sys/net/core/somaxconn allows by default.
const BACKLOG: i32 = 4096;

fn watch(epoll: &OwnedFd, fd: impl AsFd, events: EventFlags) -> io::Result<()> {
    let data = EventData::new_u64(fd.as_fd().as_raw_fd() as u64);
    Ok(epoll::add(epoll, fd, data, events)?)
}

fn accept(
    listener: &TcpListener,
    epoll: &OwnedFd,
    connections: &mut HashMap<RawFd, Connection>,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _peer)) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                watch(epoll, &stream, EventFlags::IN)?;
                let fd = stream.as_raw_fd();
                let pending = Vec::new();
                connections.insert(fd, Connection { stream, pending });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// One event of one connection. An error means that it is over.
fn turn(connection: &mut Connection, epoll: &OwnedFd, buffer: &mut [u8]) -> io::Result<()> {
    if !connection.pending.is_empty() {
        let sent = write(&mut connection.stream, &connection.pending)?;
        connection.pending.drain(..sent);
        if connection.pending.is_empty() {
            wait_for(connection, epoll, EventFlags::IN)?;
        }
        return Ok(());
    }
    match connection.stream.read(buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(received) => {
            let sent = write(&mut connection.stream, &buffer[..received])?;
            if sent < received {
                connection
                    .pending
                    .extend_from_slice(&buffer[sent..received]);
                wait_for(connection, epoll, EventFlags::OUT)?;
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

fn wait_for(connection: &Connection, epoll: &OwnedFd, events: EventFlags) -> io::Result<()> {
    let data = EventData::new_u64(connection.stream.as_raw_fd() as u64);
    Ok(epoll::modify(epoll, &connection.stream, data, events)?)
}

/// How much went out now.
fn write(stream: &mut TcpStream, data: &[u8]) -> io::Result<usize> {
    match stream.write(data) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}
