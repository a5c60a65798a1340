// SPDX-License-Identifier: Apache-2.0

//! Socket addresses as Erlang writes them:
//! `{inet:ip_address(), inet:port_number()} | {unix, binary()} |
//! {netlink, PortId, Groups}`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::{Errno, Result};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};
use rustler::types::tuple::{get_tuple, make_tuple};
use rustler::{Atom, Binary, Decoder, Encoder, Env, Error, NewBinary, NifResult, Term};

mod atoms {
    rustler::atoms! { netlink, unix }
}

/// The address of a socket.
pub enum Address {
    /// IPv4 or IPv6; flow and scope of the latter are not kept.
    Ip(SocketAddr),
    /// The bytes of `sun_path`: a path, a zero byte and an abstract name, or
    /// nothing for a socket without a name.
    Unix(Vec<u8>),
    /// A port and a mask of multicast groups.
    Netlink(SocketAddrNetlink),
}

impl Address {
    /// As the system calls want it.
    pub fn to_any(&self) -> Result<SocketAddrAny> {
        Ok(match self {
            Self::Ip(ip) => (*ip).into(),
            Self::Netlink(netlink) => (*netlink).into(),
            Self::Unix(path) => match path.as_slice() {
                [] => SocketAddrUnix::new_unnamed(),
                [0, name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
                path => SocketAddrUnix::new(path)?,
            }
            .into(),
        })
    }
}

impl TryFrom<SocketAddrAny> for Address {
    type Error = Errno;

    fn try_from(any: SocketAddrAny) -> Result<Self> {
        match any.address_family() {
            AddressFamily::UNIX => {}
            AddressFamily::NETLINK => return Ok(Self::Netlink(any.try_into()?)),
            _ => return Ok(Self::Ip(any.try_into()?)),
        }
        let unix = SocketAddrUnix::try_from(any)?;
        let path = match (unix.path_bytes(), unix.abstract_name()) {
            (Some(path), _) => path.to_vec(),
            // rustix reads the address of a socket without a name as an empty
            // abstract name; unix(7) has no such address.
            (None, None | Some([])) => Vec::new(),
            (None, Some(name)) => [&[0], name].concat(),
        };
        Ok(Self::Unix(path))
    }
}

impl Encoder for Address {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self {
            Self::Ip(ip) => (encode_ip(env, ip.ip()), ip.port()).encode(env),
            Self::Netlink(address) => {
                (atoms::netlink(), address.pid(), address.groups()).encode(env)
            }
            Self::Unix(path) => {
                let mut binary = NewBinary::new(env, path.len());
                binary.as_mut_slice().copy_from_slice(path);
                (atoms::unix(), Binary::from(binary)).encode(env)
            }
        }
    }
}

pub fn encode_ip(env: Env<'_>, ip: IpAddr) -> Term<'_> {
    let elements: Vec<Term<'_>> = match ip {
        IpAddr::V4(ip) => ip.octets().iter().map(|octet| octet.encode(env)).collect(),
        IpAddr::V6(ip) => ip
            .segments()
            .iter()
            .map(|segment| segment.encode(env))
            .collect(),
    };
    make_tuple(env, &elements)
}

impl<'a> Decoder<'a> for Address {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if let Ok((kind, port, groups)) = term.decode::<(Atom, u32, u32)>() {
            return match kind == atoms::netlink() {
                true => Ok(Self::Netlink(SocketAddrNetlink::new(port, groups))),
                false => Err(Error::BadArg),
            };
        }
        let (kind, rest): (Term<'a>, Term<'a>) = term.decode()?;
        if kind
            .decode::<Atom>()
            .is_ok_and(|atom| atom == atoms::unix())
        {
            let path: Binary<'a> = rest.decode()?;
            return Ok(Self::Unix(path.to_vec()));
        }
        let port = decode_exactly(rest)?;
        Ok(Self::Ip(SocketAddr::new(decode_ip(kind)?, port)))
    }
}

pub fn decode_ip(term: Term<'_>) -> NifResult<IpAddr> {
    let elements = get_tuple(term)?;
    if elements.len() == 4 {
        return Ok(Ipv4Addr::from(decode_elements::<u8, 4>(&elements)?).into());
    }
    Ok(Ipv6Addr::from(decode_elements::<u16, 8>(&elements)?).into())
}

fn decode_elements<T, const N: usize>(elements: &[Term<'_>]) -> NifResult<[T; N]>
where
    T: TryFrom<u32>,
{
    let decoded = elements
        .iter()
        .copied()
        .map(decode_exactly)
        .collect::<NifResult<Vec<T>>>()?;
    decoded.try_into().map_err(|_| Error::BadArg)
}

/// rustler's own decoders of types smaller than 32 bits cut off what does not fit.
pub fn decode_exactly<T: TryFrom<u32>>(term: Term<'_>) -> NifResult<T> {
    T::try_from(term.decode::<u32>()?).map_err(|_| Error::BadArg)
}
