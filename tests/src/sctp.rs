//! SCTP packets (RFC 9260) over raw sockets, built and parsed here, so that the kernel needs no
//! SCTP.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _},
    time::Duration,
};

use causeway_netlink::Netns;
use nix::{
    libc,
    sys::socket::{SockaddrStorage, bind},
};

use crate::{
    family::{Family, V4, V6},
    place,
    wait::{DEADLINE, SILENCE},
};

/// A packet with one chunk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Verification tag.
    pub tag: u32,
    /// The chunk: a multiple of four bytes.
    pub chunk: Vec<u8>,
}

/// An INIT chunk that asks for `tag`.
pub fn init(tag: u32) -> Vec<u8> {
    opening(1, tag)
}

/// An INIT ACK chunk that asks for `tag`, without the cookie.
pub fn init_ack(tag: u32) -> Vec<u8> {
    opening(2, tag)
}

/// A DATA chunk of eight bytes.
pub fn data() -> Vec<u8> {
    let mut chunk = vec![0, 3, 0, 24];
    chunk.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    chunk.extend(b"causeway");
    chunk
}

/// An ABORT chunk without a cause.
pub fn abort() -> Vec<u8> {
    vec![6, 0, 0, 4]
}

/// A SHUTDOWN COMPLETE chunk.
pub fn shutdown_complete() -> Vec<u8> {
    vec![14, 0, 0, 4]
}

fn opening(kind: u8, tag: u32) -> Vec<u8> {
    let mut chunk = vec![kind, 0, 0, 20];
    chunk.extend(tag.to_be_bytes());
    chunk.extend([0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
    chunk
}

impl Packet {
    /// The packet's bytes, with its checksum.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.chunk);
        let sum = crc32c::crc32c(&bytes);
        // RFC 9260 appendix A: the register's least significant byte is sent first.
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Parses a packet. `None` if it is too short or its `CRC32c` is wrong.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let packet = Self {
            source: u16::from_be_bytes(bytes.get(0..2)?.try_into().ok()?),
            destination: u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?),
            tag: u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?),
            chunk: bytes.get(12..)?.to_vec(),
        };
        (packet.bytes() == bytes).then_some(packet)
    }

    /// The answer, with the given tag and chunk.
    #[must_use]
    pub fn answer(&self, tag: u32, chunk: Vec<u8>) -> Self {
        Self { source: self.destination, destination: self.source, tag, chunk }
    }
}

/// A raw socket that sends SCTP packets and receives all that arrive at its address.
#[derive(Debug)]
pub struct Peer {
    socket: UdpSocket,
    family: Family,
}

impl Peer {
    /// Opens one for every address of the namespace.
    pub fn start(netns: &Netns, family: Family) -> Self {
        Self::at(netns, family.any())
    }

    /// Opens one for that address.
    pub fn at(netns: &Netns, address: IpAddr) -> Self {
        let family = Family::of(address);
        let domain = match family {
            V4 => libc::AF_INET,
            V6 => libc::AF_INET6,
        };
        let socket = place::run(netns, || {
            // SAFETY: a plain system call with three integers, which returns a new descriptor.
            match unsafe {
                libc::socket(domain, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_SCTP)
            } {
                -1 => Err(io::Error::last_os_error()),
                // SAFETY: the descriptor is open and owned here. UdpSocket is used for send_to and
                // recv_from only, which work on any datagram socket.
                descriptor => Ok(unsafe { UdpSocket::from_raw_fd(descriptor) }),
            }
        });
        let socket = socket.expect("root may open a raw socket");
        let address = SockaddrStorage::from(SocketAddr::new(address, 0));
        bind(socket.as_raw_fd(), &address).expect("an address of the namespace");
        Self { socket, family }
    }

    /// Sends a packet.
    pub fn send(&self, to: IpAddr, packet: &Packet) {
        self.socket
            .send_to(&packet.bytes(), SocketAddr::from((to, 0)))
            .expect("a raw socket sends");
    }

    /// The next packet that arrives, and its source.
    #[track_caller]
    pub fn next(&self) -> (IpAddr, Packet) {
        self.receive(DEADLINE).expect("no SCTP packet arrives")
    }

    /// Whether nothing arrives within [`SILENCE`].
    pub fn is_silent(&self) -> bool {
        self.receive(SILENCE).is_none()
    }

    fn receive(&self, patience: Duration) -> Option<(IpAddr, Packet)> {
        self.socket.set_read_timeout(Some(patience)).expect("a timeout can be set");
        let mut buffer = vec![0; 65536];
        let (length, from) = self.socket.recv_from(&mut buffer).ok()?;
        let header = match self.family {
            V4 => usize::from(buffer[0] & 0x0f) * 4,
            // The kernel does not pass on the IPv6 header.
            V6 => 0,
        };
        let packet = Packet::parse(&buffer[header..length]);
        Some((
            from.ip(),
            packet.unwrap_or_else(|| panic!("a wrong checksum: {:02x?}", &buffer[..length])),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_reads_back_and_rejects_damage() {
        let packet = Packet { source: 5000, destination: 38412, tag: 7, chunk: data() };
        let bytes = packet.bytes();
        assert_eq!(Packet::parse(&bytes), Some(packet));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(Packet::parse(&changed), None, "byte {at}");
        }
    }
}
