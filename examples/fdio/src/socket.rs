// SPDX-License-Identifier: Apache-2.0

//! Calls that want a socket.

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt,
};
use rustler::{Binary, Decoder, Env, NifResult, Term};

use crate::address::Address;
use crate::choice::choice;
use crate::errno::{Done, Reply};
use crate::fd::Fd;
use crate::file::{Max, read_with, write_with};
use crate::message::{Wanted, bind_to_device};

choice! {
    Domain { Inet inet, Inet6 inet6, Unix unix, Netlink netlink }
}

impl From<Domain> for AddressFamily {
    fn from(domain: Domain) -> Self {
        match domain {
            Domain::Inet => Self::INET,
            Domain::Inet6 => Self::INET6,
            Domain::Unix => Self::UNIX,
            Domain::Netlink => Self::NETLINK,
        }
    }
}

choice! {
    Type { Stream stream, Dgram dgram, Seqpacket seqpacket, Raw raw }
}

impl From<Type> for SocketType {
    fn from(kind: Type) -> Self {
        match kind {
            Type::Stream => Self::STREAM,
            Type::Dgram => Self::DGRAM,
            Type::Seqpacket => Self::SEQPACKET,
            Type::Raw => Self::RAW,
        }
    }
}

/// A pair is of unix sockets, for which raw would be another word for dgram.
struct PairType(Type);

impl<'a> Decoder<'a> for PairType {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode()? {
            Type::Raw => Err(rustler::Error::BadArg),
            kind => Ok(Self(kind)),
        }
    }
}

choice! {
    Named { Icmp icmp, Icmpv6 icmpv6 }
}

/// 0, the domain's and type's own, or one of a few that must be named.
struct ProtocolOrDefault(Option<Protocol>);

impl<'a> Decoder<'a> for ProtocolOrDefault {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if term.decode().is_ok_and(|number: u32| number == 0) {
            return Ok(Self(None));
        }
        Ok(Self(Some(match term.decode()? {
            Named::Icmp => ipproto::ICMP,
            Named::Icmpv6 => ipproto::ICMPV6,
        })))
    }
}

choice! {
    How { Read read, Write write, ReadWrite read_write }
}

choice! {
    Switch {
        Reuseaddr reuseaddr, Nodelay nodelay, Keepalive keepalive,
        Pktinfo pktinfo, Recvttl recvttl, Timestamp timestamp,
    }
}

choice! {
    Size { Sndbuf sndbuf, Rcvbuf rcvbuf }
}

const NEW: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

#[rustler::nif]
fn socket(domain: Domain, kind: Type, protocol: ProtocolOrDefault) -> Reply<Fd> {
    // A protocol's number means something else in other domains: 1 is ICMP, but
    // NETLINK_USERSOCK too.
    if protocol.0.is_some() && !matches!(domain, Domain::Inet | Domain::Inet6) {
        return Err(Errno::PROTONOSUPPORT.into());
    }
    Ok(rustix::net::socket_with(domain.into(), kind.into(), NEW, protocol.0)?.into())
}

#[rustler::nif]
fn socketpair(kind: PairType) -> Reply<(Fd, Fd)> {
    let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, kind.0.into(), NEW, None)?;
    Ok((one.into(), other.into()))
}

#[rustler::nif]
fn bind(fd: Fd, address: Address) -> Done {
    let bind = || rustix::net::bind(fd.borrow()?, &address.to_any()?);
    bind().into()
}

#[rustler::nif]
fn listen(fd: Fd, backlog: i32) -> Done {
    fd.borrow()
        .and_then(|fd| rustix::net::listen(fd, backlog))
        .into()
}

#[rustler::nif]
fn accept(fd: Fd) -> Reply<Fd> {
    Ok(rustix::net::accept_with(fd.nonblocking()?, NEW)?.into())
}

#[rustler::nif]
fn connect(fd: Fd, address: Address) -> Done {
    let connect = || rustix::net::connect(fd.nonblocking()?, &address.to_any()?);
    connect().into()
}

#[rustler::nif]
fn shutdown(fd: Fd, how: How) -> Done {
    let how = match how {
        How::Read => rustix::net::Shutdown::Read,
        How::Write => rustix::net::Shutdown::Write,
        How::ReadWrite => rustix::net::Shutdown::Both,
    };
    fd.borrow()
        .and_then(|fd| rustix::net::shutdown(fd, how))
        .into()
}

#[rustler::nif]
fn getsockname(fd: Fd) -> Reply<Address> {
    Ok(rustix::net::getsockname(fd.borrow()?)?.try_into()?)
}

#[rustler::nif]
fn getpeername(fd: Fd) -> Reply<Address> {
    match rustix::net::getpeername(fd.borrow()?)? {
        Some(address) => Ok(address.try_into()?),
        None => Ok(Address::Unix(Vec::new())),
    }
}

#[rustler::nif]
fn so_error(fd: Fd) -> Done {
    fd.borrow()
        .and_then(sockopt::socket_error)
        .and_then(|pending| pending)
        .into()
}

#[rustler::nif]
fn set_switch_nif(fd: Fd, option: Switch, on: bool) -> Done {
    fd.borrow()
        .and_then(|fd| match option {
            Switch::Reuseaddr => sockopt::set_socket_reuseaddr(fd, on),
            Switch::Nodelay => sockopt::set_tcp_nodelay(fd, on),
            Switch::Keepalive => sockopt::set_socket_keepalive(fd, on),
            Switch::Pktinfo => Wanted::Pktinfo.set(fd, on),
            Switch::Recvttl => Wanted::Ttl.set(fd, on),
            Switch::Timestamp => Wanted::Timestamp.set(fd, on),
        })
        .into()
}

#[rustler::nif]
fn set_size_nif(fd: Fd, option: Size, bytes: u32) -> Done {
    let set = || -> Result<()> {
        let fd = fd.borrow()?;
        let bytes = usize::try_from(bytes).map_err(|_| Errno::INVAL)?;
        match option {
            Size::Sndbuf => sockopt::set_socket_send_buffer_size(fd, bytes),
            Size::Rcvbuf => sockopt::set_socket_recv_buffer_size(fd, bytes),
        }
    };
    set().into()
}

#[rustler::nif]
fn set_device_nif(fd: Fd, device: Binary<'_>) -> Done {
    fd.borrow()
        .and_then(|fd| bind_to_device(fd, &device))
        .into()
}

/// Never wait, never raise SIGPIPE: whatever mode the socket is in.
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

#[rustler::nif]
fn send(env: Env<'_>, fd: Fd, data: Binary<'_>) -> Reply<usize> {
    let fd = fd.borrow()?;
    write_with(env, &data, |data| rustix::net::send(fd, data, SEND))
}

#[rustler::nif]
fn send_oob(env: Env<'_>, fd: Fd, data: Binary<'_>) -> Reply<usize> {
    let fd = fd.borrow()?;
    write_with(env, &data, |data| {
        rustix::net::send(fd, data, SEND | SendFlags::OOB)
    })
}

#[rustler::nif]
fn recv(env: Env<'_>, fd: Fd, max: Max) -> Reply<Binary<'_>> {
    receive(env, fd, &max, RecvFlags::DONTWAIT)
}

#[rustler::nif]
fn recv_oob(env: Env<'_>, fd: Fd, max: Max) -> Reply<Binary<'_>> {
    receive(env, fd, &max, RecvFlags::DONTWAIT | RecvFlags::OOB)
}

fn receive<'a>(env: Env<'a>, fd: Fd, max: &Max, flags: RecvFlags) -> Reply<Binary<'a>> {
    let fd = fd.borrow()?;
    read_with(env, max, |buffer| {
        // The second number is a datagram's full length, which may exceed `max`.
        rustix::net::recv(fd, spare_capacity(buffer), flags).map(|(received, _)| received)
    })
}
