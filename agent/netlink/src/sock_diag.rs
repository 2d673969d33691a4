//! Connected sockets of one namespace: listed and destroyed (`sock_diag(7)`; `SOCK_DESTROY` from
//! Linux 4.5 on).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, bail};
use bytemuck::{Pod, Zeroable};
use causeway_api::{Error, types::publish::Protocol};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
        socket,
    },
};

use crate::netns::Netns;

/// A netlink socket in one namespace.
#[derive(Debug)]
pub struct SockDiag {
    socket: OwnedFd,
}

/// A connected socket.
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    /// `SO_COOKIE`, which BPF programs see too.
    pub cookie: u64,
    /// Peer; an IPv4-mapped address is here as IPv4.
    pub remote: SocketAddr,
    family: u8,
    protocol: u8,
    id: Id,
}

/// What became of a socket that was to be destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its process gets `ECONNABORTED`, and the peer of a TCP connection a reset.
    Now,
    /// The socket had ended before.
    Before,
}

/// `struct nlmsghdr`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Header {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// `struct inet_diag_sockid`. Ports and addresses are in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Id {
    source_port: [u8; 2],
    destination_port: [u8; 2],
    source: [u8; 16],
    destination: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

/// `struct inet_diag_req_v2`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Request {
    family: u8,
    protocol: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    id: Id,
}

/// The beginning of `struct inet_diag_msg`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Answer {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: Id,
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// Bit set of the states (`tcp_states.h`) in which a TCP socket has a peer: all but `TIME_WAIT`,
/// which no process holds, `CLOSE` and `LISTEN`. A connected UDP socket is in the first one.
const STATES: [u32; 8] = [1, 2, 3, 4, 5, 8, 9, 11];

impl SockDiag {
    /// Opens a socket in `netns`.
    pub fn open(netns: &Netns) -> anyhow::Result<Self> {
        let open = || {
            let socket = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkSockDiag,
            )?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            Ok::<_, Errno>(socket)
        };
        let socket =
            netns.run(open)?.map_err(Error::os).context("cannot ask the kernel for its sockets")?;
        Ok(Self { socket })
    }

    /// Lists the connected sockets of both families that have one of the cookies.
    pub fn connected(
        &self,
        protocol: Protocol,
        cookies: &BTreeSet<u64>,
    ) -> anyhow::Result<Vec<Connected>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = Request {
                family: family as u8,
                protocol: protocol.number(),
                states: STATES.into_iter().fold(0, |states, state| states | 1 << state),
                ..Zeroable::zeroed()
            };
            let mut take = |answer: &Answer| {
                let cookie = u64::from(answer.id.cookie[0]) | u64::from(answer.id.cookie[1]) << 32;
                if cookies.contains(&cookie) {
                    let Answer { family, id, .. } = *answer;
                    let remote = SocketAddr::new(
                        address(family, id.destination),
                        u16::from_be_bytes(id.destination_port),
                    );
                    found.push(Connected {
                        cookie,
                        remote,
                        family,
                        protocol: protocol.number(),
                        id,
                    });
                }
            };
            self.ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request, &mut take)
                .map_err(Error::os)
                .with_context(|| format!("cannot list the {protocol} sockets"))?;
        }
        Ok(found)
    }

    /// Destroys a socket. None if the kernel cannot (it was built without
    /// `CONFIG_INET_DIAG_DESTROY`).
    pub fn end(&self, connected: &Connected) -> anyhow::Result<Option<Ended>> {
        let Connected { family, protocol, id, .. } = *connected;
        let request = Request { family, protocol, id, ..Zeroable::zeroed() };
        match self.ask(SOCK_DESTROY, NLM_F_ACK, &request, &mut |_| {}) {
            Ok(()) => Ok(Some(Ended::Now)),
            Err(Errno::ENOENT) => Ok(Some(Ended::Before)),
            Err(Errno::EOPNOTSUPP) => Ok(None),
            Err(error) => {
                bail!(
                    Error::os(error).context(format!(
                        "cannot end the socket connected to {}",
                        connected.remote
                    ))
                )
            }
        }
    }

    /// Sends a request, and passes every answer on.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        request: &Request,
        take: &mut impl FnMut(&Answer),
    ) -> Result<(), Errno> {
        let header = Header {
            length: (size_of::<Header>() + size_of::<Request>()) as u32,
            kind,
            flags: NLM_F_REQUEST | flags,
            ..Zeroable::zeroed()
        };
        let message = [bytemuck::bytes_of(&header), bytemuck::bytes_of(request)].concat();
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        // Longer than any message of a dump.
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..length];
            while let Some((header, payload)) = rest.split_at_checked(size_of::<Header>()) {
                let header: Header = bytemuck::pod_read_unaligned(header);
                match header.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code =
                            payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        return if code == 0 { Ok(()) } else { Err(Errno::from_raw(-code)) };
                    }
                    _ => {
                        if let Some(answer) = payload.get(..size_of::<Answer>()) {
                            take(&bytemuck::pod_read_unaligned(answer));
                        }
                    }
                }
                // Each message begins at a multiple of four, and is never shorter than its header.
                let length = (header.length as usize).next_multiple_of(4).max(size_of::<Header>());
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
}

fn address(family: u8, bytes: [u8; 16]) -> IpAddr {
    if i32::from(family) == AddressFamily::Inet as i32 {
        let [a, b, c, d, ..] = bytes;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!((size_of::<Header>(), size_of::<Id>()), (16, 48));
        assert_eq!((size_of::<Request>(), size_of::<Answer>()), (56, 52));
    }

    #[test]
    fn an_address_is_that_of_the_packets() {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[10, 0, 2, 15]);
        assert_eq!(address(2, bytes), Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(
            address(10, Ipv4Addr::new(10, 0, 2, 15).to_ipv6_mapped().octets()),
            Ipv4Addr::new(10, 0, 2, 15)
        );
        assert_eq!(address(10, Ipv6Addr::LOCALHOST.octets()), Ipv6Addr::LOCALHOST);
    }

    #[test]
    fn sockets_are_found_by_their_cookies() {
        use nix::{getsockopt_impl, libc, sockopt_impl, sys::socket::getsockopt};
        sockopt_impl!(SocketCookie, GetOnly, libc::SOL_SOCKET, libc::SO_COOKIE, u64);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mapped = SocketAddr::new(
            Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
            listener.local_addr().unwrap().port(),
        );
        let streams = [
            TcpStream::connect(listener.local_addr().unwrap()).unwrap(),
            TcpStream::connect(mapped).unwrap(),
        ];
        let [connected, open] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        connected.connect("127.0.0.1:9").unwrap();
        let tcp: BTreeSet<u64> =
            streams.iter().map(|stream| getsockopt(stream, SocketCookie).unwrap()).collect();
        let udp = [&connected, &open].map(|socket| getsockopt(socket, SocketCookie).unwrap());

        let diag = SockDiag::open(&Netns::current().unwrap()).unwrap();
        let found = diag.connected(Protocol::Tcp, &tcp).unwrap();
        assert_eq!(found.iter().map(|socket| socket.cookie).collect::<BTreeSet<_>>(), tcp);
        assert!(
            found.iter().all(|socket| socket.remote == listener.local_addr().unwrap()),
            "{found:?}"
        );
        let found = diag.connected(Protocol::Udp, &udp.into()).unwrap();
        assert_eq!(
            found.iter().map(|socket| socket.cookie).collect::<Vec<_>>(),
            [udp[0]],
            "the other has no peer"
        );
    }
}
