//! Which frames are generated: three ways through a host, and how many flows they are of.

use std::net::Ipv4Addr;

use causeway::net::mac::Mac;
use causeway_bench_ebpf::{FRAME, MARK, MARK_AT, PORTS_AT, SOURCE_AT, Traffic, fold};

/// The first address of the outside that flows come from or go to: RFC 2544's network for benchmarks.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The first published port on the host.
pub const HOST_PORT: u16 = 20_000;
/// The container port that it leads to.
pub const CONTAINER_PORT: u16 = 30_000;

/// Flows of one outside address.
const PORTS_OF_EACH: u32 = 64;
/// Flows of one container toward another.
const PORTS_OF_NEIGHBOUR: u32 = 50_000;
const FIRST_PORT: u32 = 1_024;

/// `XDP_PASS` and `XDP_TX`.
const PASS: u32 = 2;
const SEND: u32 = 3;

/// Where frames go through a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From outside to a published port.
    Inwards,
    /// From a container to the outside.
    Outwards,
    /// From a container to another of its network.
    Across,
    /// As [`Self::Inwards`], but sent by the world: the uplink's driver receives it, and its XDP program if it has one.
    Wire,
    /// As [`Self::Wire`], but in the name of loopback: nobody gets it.
    Martian,
}

impl Way {
    /// Whether the frames are received by the uplink's driver.
    pub const fn is_wire(self) -> bool {
        matches!(self, Self::Wire | Self::Martian)
    }
}

/// How many flows frames are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flows {
    /// So many, in turn.
    Of(u32),
    /// Each frame begins one.
    New,
}

/// The ends of a frame's header.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The sender's MAC.
    pub source_mac: Mac,
    /// Whom the frame is for on the link.
    pub destination_mac: Mac,
    /// The container that sends, if one does.
    pub source: Ipv4Addr,
    /// Whom it is addressed to, unless that changes.
    pub destination: Ipv4Addr,
    /// The first destination port.
    pub port: u16,
    /// How many destination ports are taken in turn.
    pub ports: u32,
}

/// The frames of `flows` flows.
pub fn frames(way: Way, flows: Flows, ends: &Ends) -> Traffic {
    let (source, destination) = match way {
        Way::Inwards | Way::Wire | Way::Martian | Way::Across => (Ipv4Addr::UNSPECIFIED, ends.destination),
        Way::Outwards => (ends.source, Ipv4Addr::UNSPECIFIED),
    };
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&ends.destination_mac.0);
    frame[6..12].copy_from_slice(&ends.source_mac.0);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip_length = u16::try_from(FRAME - 14).unwrap_or_default();
    frame[14..16].copy_from_slice(&[0x45, 0]);
    frame[16..18].copy_from_slice(&ip_length.to_be_bytes());
    frame[20..24].copy_from_slice(&[0x40, 0, 64, 17]); // don't fragment, TTL 64, UDP
    frame[SOURCE_AT..][..4].copy_from_slice(&source.octets());
    frame[SOURCE_AT + 4..][..4].copy_from_slice(&destination.octets());
    frame[PORTS_AT + 4..][..2].copy_from_slice(&(ip_length - 20).to_be_bytes());
    frame[MARK_AT..][..8].copy_from_slice(&MARK);
    // The pseudo header's share: addresses, protocol and length.
    let pseudo = sum(&frame[SOURCE_AT..PORTS_AT]) + u32::from(17_u16.to_be()) + u32::from((ip_length - 20).to_be());
    let (address, ports) = match way {
        Way::Across => (ends.source, PORTS_OF_NEIGHBOUR),
        Way::Inwards | Way::Wire | Way::Outwards => (OUTSIDE, PORTS_OF_EACH),
        Way::Martian => (Ipv4Addr::LOCALHOST, PORTS_OF_EACH),
    };
    Traffic {
        ip_sum: u32::from(fold(sum(&frame[14..PORTS_AT]))),
        udp_sum: u32::from(fold(pseudo + sum(&frame[PORTS_AT..]))),
        frame: bytemuck::pod_read_unaligned(&frame),
        toward: u32::from(way == Way::Outwards),
        address: address.to_bits(),
        port: FIRST_PORT,
        ports,
        service: u32::from(ends.port),
        services: ends.ports,
        flows: match flows {
            Flows::Of(flows) => flows,
            Flows::New => 0,
        },
        action: if way.is_wire() { SEND } else { PASS },
        next: bytemuck::Zeroable::zeroed(),
    }
}

/// Of words as they stand in the frame.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum()
}
