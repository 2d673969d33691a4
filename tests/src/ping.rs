//! ICMP echo of either family, with a given identifier.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{FromRawFd as _, IntoRawFd as _},
    time::{Duration, Instant},
};

use causeway_netlink::Netns;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::{
    family::{Family, V4, V6},
    packet::checksum,
    place,
    wait::DEADLINE,
};

/// Pings `to` once from `netns` with `size` bytes of payload. Fails the test without an answer.
#[track_caller]
pub fn ping(netns: &Netns, to: impl Into<IpAddr>, identifier: u16, size: usize) {
    let to = to.into();
    try_ping(netns, to, identifier, size, DEADLINE).unwrap_or_else(|error| {
        panic!("no ping from {} to {to} with {size} bytes: {error}", netns.path().display())
    });
}

/// Pings `to` once from `netns`.
pub fn try_ping(
    netns: &Netns,
    to: impl Into<IpAddr>,
    identifier: u16,
    size: usize,
    patience: Duration,
) -> io::Result<()> {
    let to = to.into();
    let family = Family::of(to);
    let (request, reply) = family.echo();
    let socket = raw(netns, family)?;
    let request = echo(request, identifier, 1, size);
    socket.send_to(&request, SocketAddr::from((to, 0)))?;
    let end = Instant::now() + patience;
    loop {
        let message = receive(&socket, family, end)?;
        if message.source == to && message.icmp.len() == request.len() && message.icmp[0] == reply {
            let same = message.icmp[4..] == request[4..];
            // The kernel verifies the ICMPv6 checksum, which covers the pseudo header.
            if same && (family == V6 || checksum(&message.icmp) == 0) {
                return Ok(());
            }
            if same {
                return Err(io::Error::other("the answer's checksum is wrong"));
            }
        }
    }
}

/// Receives the echo requests that arrive in a namespace.
#[derive(Debug)]
pub struct Listener {
    socket: UdpSocket,
    family: Family,
}

impl Listener {
    /// Starts receiving.
    pub fn start(netns: &Netns, family: Family) -> Self {
        Self { socket: raw(netns, family).expect("root may open a raw socket"), family }
    }

    /// Source and identifier of the next request.
    #[track_caller]
    pub fn next(&self) -> (IpAddr, u16) {
        let end = Instant::now() + DEADLINE;
        loop {
            let message = receive(&self.socket, self.family, end)
                .unwrap_or_else(|error| panic!("no ping arrives: {error}"));
            if message.icmp.first() == Some(&self.family.echo().0) {
                return (message.source, u16::from_be_bytes([message.icmp[4], message.icmp[5]]));
            }
        }
    }
}

struct Message {
    source: IpAddr,
    icmp: Vec<u8>,
}

fn raw(netns: &Netns, family: Family) -> io::Result<UdpSocket> {
    let (domain, protocol) = match family {
        V4 => (AddressFamily::Inet, SockProtocol::Icmp),
        V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket =
        place::run(netns, || socket(domain, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol))?;
    // SAFETY: the descriptor is open and owned here. UdpSocket is used for send_to and recv_from
    // only, which work on any datagram socket.
    Ok(unsafe { UdpSocket::from_raw_fd(socket.into_raw_fd()) })
}

fn receive(socket: &UdpSocket, family: Family, end: Instant) -> io::Result<Message> {
    let mut buffer = vec![0; 65536];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let (length, from) = socket.recv_from(&mut buffer)?;
        let header = match family {
            V4 => usize::from(buffer[0] & 0x0f) * 4,
            // The kernel does not pass on the IPv6 header.
            V6 => 0,
        };
        if length >= header + 8 {
            return Ok(Message { source: from.ip(), icmp: buffer[header..length].to_vec() });
        }
    }
}

/// An echo request. The kernel fills in the `ICMPv6` checksum.
fn echo(kind: u8, identifier: u16, sequence: u16, size: usize) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend((0..size).map(|place| u8::try_from(place % 251).expect("less than 251")));
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_with_checksum_sums_to_zero() {
        for size in [0, 1, 56, 1001] {
            assert_eq!(checksum(&echo(8, 0x1234, 1, size)), 0);
        }
    }
}
