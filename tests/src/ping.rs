//! ICMP echo, with an identifier of the caller's choice.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::{FromRawFd as _, IntoRawFd as _},
    time::{Duration, Instant},
};

use causeway::net::netns::Netns;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::{place, wait::DEADLINE};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// Pings `to` once from `netns` with `size` bytes of payload, and fails the test if no answer comes.
#[track_caller]
pub fn ping(netns: &Netns, to: Ipv4Addr, identifier: u16, size: usize) {
    try_ping(netns, to, identifier, size, DEADLINE)
        .unwrap_or_else(|error| panic!("no ping from {} to {to} with {size} bytes: {error}", netns.path().display()));
}

/// Pings `to` once from `netns`.
pub fn try_ping(netns: &Netns, to: Ipv4Addr, identifier: u16, size: usize, patience: Duration) -> io::Result<()> {
    let socket = raw(netns)?;
    let request = echo(ECHO_REQUEST, identifier, 1, size);
    socket.send_to(&request, SocketAddr::from((to, 0)))?;
    let end = Instant::now() + patience;
    loop {
        let message = receive(&socket, end)?;
        if message.source == to && message.icmp.len() == request.len() && message.icmp[0] == ECHO_REPLY {
            let same = message.icmp[4..] == request[4..];
            if same && checksum(&message.icmp) == 0 {
                return Ok(());
            }
            if same {
                return Err(io::Error::other("the answer's checksum is wrong"));
            }
        }
    }
}

/// Sees the pings that arrive in a namespace.
#[derive(Debug)]
pub struct Listener(UdpSocket);

impl Listener {
    /// From now on.
    pub fn start(netns: &Netns) -> Self {
        Self(raw(netns).expect("root may open a raw socket"))
    }

    /// Where the next one comes from, and its identifier.
    #[track_caller]
    pub fn next(&self) -> (Ipv4Addr, u16) {
        let end = Instant::now() + DEADLINE;
        loop {
            let message = receive(&self.0, end).unwrap_or_else(|error| panic!("no ping arrives: {error}"));
            if message.icmp.first() == Some(&ECHO_REQUEST) {
                return (message.source, u16::from_be_bytes([message.icmp[4], message.icmp[5]]));
            }
        }
    }
}

struct Message {
    source: Ipv4Addr,
    icmp: Vec<u8>,
}

fn raw(netns: &Netns) -> io::Result<UdpSocket> {
    let socket =
        place::run(netns, || socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp))?;
    // SAFETY: the descriptor is open and nobody else's. UdpSocket is send_to and recv_from on any socket of IP datagrams.
    Ok(unsafe { UdpSocket::from_raw_fd(socket.into_raw_fd()) })
}

fn receive(socket: &UdpSocket, end: Instant) -> io::Result<Message> {
    let mut buffer = vec![0; 65536];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        let header = usize::from(buffer[0] & 0x0f) * 4;
        if length >= header + 8 {
            let source = Ipv4Addr::new(buffer[12], buffer[13], buffer[14], buffer[15]);
            return Ok(Message { source, icmp: buffer[header..length].to_vec() });
        }
    }
}

fn echo(kind: u8, identifier: u16, sequence: u16, size: usize) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend((0..size).map(|place| u8::try_from(place % 251).expect("less than 251")));
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// RFC 1071; 0 if the message has a right one in it.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_its_checksum_in_it_sums_to_zero() {
        for size in [0, 1, 56, 1001] {
            assert_eq!(checksum(&echo(ECHO_REQUEST, 0x1234, 1, size)), 0);
        }
    }
}
