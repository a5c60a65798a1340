// SPDX-License-Identifier: Apache-2.0

//! sendmsg(2) and recvmsg(2), with the ancillary data of cmsg(3) as terms.
//!
//! Two libraries do it. rustix serves every socket but those of IP: it hands
//! out received descriptors as `OwnedFd`, so that none is lost, not even where
//! the kernel had to cut the list. nix serves IP, whose messages rustix does not
//! know.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket as ip;
use rustix::io::{Errno, Result};
use rustix::net::sockopt::socket_domain;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use rustler::{
    Atom, Binary, Decoder, Encoder, Env, Error, MapIterator, NewBinary, NifResult, Term,
};

use crate::address::{Address, decode_exactly, decode_ip, encode_ip};
use crate::choice::List;
use crate::errno::Reply;
use crate::fd::Fd;
use crate::file::{Max, pay_for, write_with};

mod atoms {
    rustler::atoms! {
        address, control, data, flags,
        rights, pktinfo, ttl, timestamp,
        trunc, ctrunc,
    }
}

/// `SCM_MAX_FD`: the kernel passes no more with one message (unix(7)).
const MAX_RIGHTS: usize = 253;

/// Holds every ancillary message that can come with one message.
const CONTROL_SPACE: usize = 2048;

/// One piece of ancillary data.
enum Control {
    /// `SCM_RIGHTS`
    Rights(Vec<Fd>),
    /// `IP_PKTINFO`, `IPV6_PKTINFO`: the local address, the interface's index.
    Pktinfo(IpAddr, u32),
    /// `IP_TTL`, `IPV6_HOPLIMIT`
    Ttl(u8),
    /// `SO_TIMESTAMPNS`: nanoseconds since the epoch.
    Timestamp(i64),
}

impl Encoder for Control {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self {
            Self::Rights(fds) => (atoms::rights(), fds).encode(env),
            Self::Pktinfo(local, interface) => {
                (atoms::pktinfo(), encode_ip(env, *local), interface).encode(env)
            }
            Self::Ttl(ttl) => (atoms::ttl(), ttl).encode(env),
            Self::Timestamp(nanoseconds) => (atoms::timestamp(), nanoseconds).encode(env),
        }
    }
}

impl<'a> Decoder<'a> for Control {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if let Ok((kind, local, interface)) = term.decode::<(Atom, Term<'a>, u32)>() {
            if kind == atoms::pktinfo() {
                return Ok(Self::Pktinfo(decode_ip(local)?, interface));
            }
            return Err(Error::BadArg);
        }
        let (kind, value): (Atom, Term<'a>) = term.decode()?;
        if kind == atoms::rights() {
            Ok(Self::Rights(value.decode::<List<Fd>>()?.0))
        } else if kind == atoms::ttl() {
            Ok(Self::Ttl(decode_exactly(value)?))
        } else {
            Err(Error::BadArg)
        }
    }
}

/// What sendmsg takes: `#{data := binary(), address => .., control => [..]}`.
struct Outgoing<'a> {
    data: Binary<'a>,
    address: Option<Address>,
    control: Vec<Control>,
}

impl<'a> Decoder<'a> for Outgoing<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let (mut data, mut address, mut control) = (None, None, Vec::new());
        for (key, value) in MapIterator::new(term).ok_or(Error::BadArg)? {
            let key: Atom = key.decode()?;
            if key == atoms::data() {
                data = Some(value.decode()?);
            } else if key == atoms::address() {
                address = Some(value.decode()?);
            } else if key == atoms::control() {
                control = value.decode::<List<Control>>()?.0;
            } else {
                return Err(Error::BadArg);
            }
        }
        Ok(Self {
            data: data.ok_or(Error::BadArg)?,
            address,
            control,
        })
    }
}

/// What recvmsg gives. The data's length may exceed what was received of it.
struct Incoming {
    length: usize,
    address: Option<Address>,
    control: Vec<Control>,
    data_cut: bool,
    control_cut: bool,
}

fn is_ip(fd: BorrowedFd<'_>) -> Result<bool> {
    let domain = socket_domain(fd)?;
    Ok(domain == AddressFamily::INET || domain == AddressFamily::INET6)
}

#[rustler::nif]
fn sendmsg<'a>(env: Env<'a>, fd: Fd, message: Outgoing<'a>) -> Reply<usize> {
    let fd = fd.borrow()?;
    let Outgoing {
        data,
        address,
        control,
    } = message;
    let send = if is_ip(fd)? { send_ip } else { send_other };
    write_with(env, &data, |data| {
        send(fd, data, address.as_ref(), &control)
    })
}

fn send_other(
    fd: BorrowedFd<'_>,
    data: &[u8],
    address: Option<&Address>,
    control: &[Control],
) -> Result<usize> {
    let rights = match control {
        [] => &[][..],
        [Control::Rights(fds)] if fds.len() <= MAX_RIGHTS => fds,
        _ => return Err(Errno::INVAL),
    };
    let rights = rights.iter().map(Fd::borrow).collect::<Result<Vec<_>>>()?;
    let rights = SendAncillaryMessage::ScmRights(&rights);
    let mut space = vec![MaybeUninit::uninit(); rights.size()];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !control.is_empty() && !ancillary.push(rights) {
        return Err(Errno::NOBUFS);
    }
    let data = [IoSlice::new(data)];
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match address {
        Some(address) => {
            rustix::net::sendmsg_addr(fd, &address.to_any()?, &data, &mut ancillary, flags)
        }
        None => rustix::net::sendmsg(fd, &data, &mut ancillary, flags),
    }
}

fn send_ip(
    fd: BorrowedFd<'_>,
    data: &[u8],
    address: Option<&Address>,
    control: &[Control],
) -> Result<usize> {
    let address = match address {
        Some(Address::Ip(address)) => Some(ip::SockaddrStorage::from(*address)),
        Some(_) => return Err(Errno::AFNOSUPPORT),
        None => None,
    };
    let v6 = socket_domain(fd)? == AddressFamily::INET6;
    let owned = control
        .iter()
        .map(|control| IpControl::new(control, v6))
        .collect::<Result<Vec<_>>>()?;
    let control: Vec<_> = owned.iter().map(IpControl::borrow).collect();
    let flags = ip::MsgFlags::MSG_DONTWAIT | ip::MsgFlags::MSG_NOSIGNAL;
    let data = [IoSlice::new(data)];
    ip::sendmsg(fd.as_raw_fd(), &data, &control, flags, address.as_ref()).map_err(errno)
}

/// What `nix::sys::socket::ControlMessage` borrows.
enum IpControl {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
    Ttl(i32),
    HopLimit(i32),
}

impl IpControl {
    fn new(control: &Control, v6: bool) -> Result<Self> {
        Ok(match control {
            Control::Ttl(ttl) if v6 => Self::HopLimit((*ttl).into()),
            Control::Ttl(ttl) => Self::Ttl((*ttl).into()),
            Control::Pktinfo(IpAddr::V4(local), interface) if !v6 => Self::V4(libc::in_pktinfo {
                ipi_ifindex: i32::try_from(*interface).map_err(|_| Errno::INVAL)?,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(local.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            }),
            Control::Pktinfo(IpAddr::V6(local), interface) if v6 => Self::V6(libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: local.octets(),
                },
                ipi6_ifindex: *interface,
            }),
            _ => return Err(Errno::INVAL),
        })
    }

    fn borrow(&self) -> ip::ControlMessage<'_> {
        match self {
            Self::V4(info) => ip::ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ip::ControlMessage::Ipv6PacketInfo(info),
            Self::Ttl(ttl) => ip::ControlMessage::Ipv4Ttl(ttl),
            Self::HopLimit(limit) => ip::ControlMessage::Ipv6HopLimit(limit),
        }
    }
}

#[rustler::nif]
fn recvmsg(env: Env<'_>, fd: Fd, max: Max) -> Reply<Term<'_>> {
    let fd = fd.borrow()?;
    let mut buffer = vec![0; max.get()];
    let incoming = if is_ip(fd)? {
        receive_ip(fd, &mut buffer)?
    } else {
        receive_other(fd, &mut buffer)?
    };
    let data = &buffer[..incoming.length.min(buffer.len())];
    let mut binary = NewBinary::new(env, data.len());
    binary.as_mut_slice().copy_from_slice(data);
    pay_for(env, data.len());
    Ok(incoming.to_map(env, binary.into()))
}

impl Incoming {
    fn to_map<'a>(&self, env: Env<'a>, data: Binary<'a>) -> Term<'a> {
        let flags = [
            (self.data_cut, atoms::trunc()),
            (self.control_cut, atoms::ctrunc()),
        ];
        let flags: Vec<Atom> = flags
            .into_iter()
            .filter_map(|(set, flag)| set.then_some(flag))
            .collect();
        let mut pairs = vec![
            (atoms::data().encode(env), data.encode(env)),
            (atoms::control().encode(env), self.control.encode(env)),
            (atoms::flags().encode(env), flags.encode(env)),
        ];
        if let Some(address) = &self.address {
            pairs.push((atoms::address().encode(env), address.encode(env)));
        }
        // The keys are four different atoms.
        Term::map_from_pairs(env, &pairs).unwrap_or_else(|_| Term::map_new(env))
    }
}

fn receive_other(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Incoming> {
    let mut space = [MaybeUninit::uninit(); CONTROL_SPACE];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let data = &mut [IoSliceMut::new(buffer)];
    let received = rustix::net::recvmsg(fd, data, &mut ancillary, flags)?;
    // From here on Erlang owns the descriptors, all of those that were made.
    let control = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => {
                Some(Control::Rights(fds.map(Fd::from).collect()))
            }
            _ => None,
        })
        .collect();
    Ok(Incoming {
        length: received.bytes,
        // A stream's peer is getpeername's to tell.
        address: received.address.and_then(|any| any.try_into().ok()),
        control,
        data_cut: received.flags.contains(ReturnFlags::TRUNC),
        control_cut: received.flags.contains(ReturnFlags::CTRUNC),
    })
}

fn receive_ip(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Incoming> {
    let mut space = [0; CONTROL_SPACE];
    let data = &mut [IoSliceMut::new(buffer)];
    let flags = ip::MsgFlags::MSG_DONTWAIT;
    let received: ip::RecvMsg<'_, '_, ip::SockaddrStorage> =
        ip::recvmsg(fd.as_raw_fd(), data, Some(&mut space), flags).map_err(errno)?;
    let control_cut = received.flags.contains(ip::MsgFlags::MSG_CTRUNC);
    // What was cut cannot be taken apart; no descriptor is among it.
    let control = match received.cmsgs() {
        Ok(messages) => messages.filter_map(from_ip).collect(),
        Err(_) => Vec::new(),
    };
    Ok(Incoming {
        length: received.bytes,
        address: received.address.as_ref().and_then(socket_address),
        control,
        data_cut: received.flags.contains(ip::MsgFlags::MSG_TRUNC),
        control_cut,
    })
}

fn socket_address(storage: &ip::SockaddrStorage) -> Option<Address> {
    let address: SocketAddr = match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => std::net::SocketAddrV4::from(*v4).into(),
        (None, Some(v6)) => std::net::SocketAddrV6::from(*v6).into(),
        (None, None) => return None,
    };
    Some(Address::Ip(address))
}

fn from_ip(message: ip::ControlMessageOwned) -> Option<Control> {
    use ip::ControlMessageOwned as Message;
    Some(match message {
        Message::Ipv4PacketInfo(info) => Control::Pktinfo(
            Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into(),
            info.ipi_ifindex.try_into().unwrap_or(0),
        ),
        Message::Ipv6PacketInfo(info) => Control::Pktinfo(
            Ipv6Addr::from(info.ipi6_addr.s6_addr).into(),
            info.ipi6_ifindex,
        ),
        Message::Ipv4Ttl(ttl) | Message::Ipv6HopLimit(ttl) => Control::Ttl(ttl.try_into().ok()?),
        Message::ScmTimestampns(time) => Control::Timestamp(
            time.tv_sec()
                .checked_mul(1_000_000_000)?
                .checked_add(time.tv_nsec())?,
        ),
        _ => return None,
    })
}

/// Options that have ancillary data come with what is received.
#[derive(Clone, Copy)]
pub enum Wanted {
    Pktinfo,
    Ttl,
    Timestamp,
}

impl Wanted {
    pub fn set(self, fd: BorrowedFd<'_>, on: bool) -> Result<()> {
        use ip::{setsockopt, sockopt};
        let v6 = socket_domain(fd)? == AddressFamily::INET6;
        match self {
            Self::Pktinfo if v6 => setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &on),
            Self::Pktinfo => setsockopt(&fd, sockopt::Ipv4PacketInfo, &on),
            Self::Ttl if v6 => setsockopt(&fd, sockopt::Ipv6RecvHopLimit, &on),
            Self::Ttl => setsockopt(&fd, sockopt::Ipv4RecvTtl, &on),
            Self::Timestamp => setsockopt(&fd, sockopt::ReceiveTimestampns, &on),
        }
        .map_err(errno)
    }
}

/// `SO_BINDTODEVICE`
pub fn bind_to_device(fd: BorrowedFd<'_>, device: &[u8]) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let device = std::ffi::OsStr::from_bytes(device).to_owned();
    ip::setsockopt(&fd, ip::sockopt::BindToDevice, &device).map_err(errno)
}

/// nix has an errno type of its own.
fn errno(errno: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}
