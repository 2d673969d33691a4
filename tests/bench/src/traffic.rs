//! Generated frames: paths through a host, and numbers of flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use causeway_api::types::mac::Mac;
use causeway_bench_ebpf::{ETHER_TYPE_AT, LONGEST, Layout, MARK, Traffic, V4, V6, fold};
use causeway_tests::family::Family;

/// The first outside address of flows, in the benchmarking networks of RFC 2544 and RFC 5180.
pub const fn outside(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1)),
    }
}

/// The first martian source. IPv6 has one loopback address only.
const fn martian(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
    }
}

/// The layout of a family's frames.
pub const fn layout(family: Family) -> &'static Layout {
    match family {
        Family::V4 => &V4,
        Family::V6 => &V6,
    }
}

/// The first published port on the host.
pub const HOST_PORT: u16 = 20_000;
/// The container port of [`HOST_PORT`].
pub const CONTAINER_PORT: u16 = 30_000;

/// Flows per outside address.
const PORTS_OF_EACH: u32 = 64;
/// Flows from one container to another.
const PORTS_OF_NEIGHBOUR: u32 = 50_000;
const FIRST_PORT: u32 = 1_024;

/// Protocol number.
const UDP: u8 = 17;

/// `XDP_PASS` and `XDP_TX`.
const PASS: u32 = 2;
const SEND: u32 = 3;

/// The path of frames through a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From outside to a published port.
    Inwards,
    /// From a container to the outside.
    Outwards,
    /// From a container to another on its network.
    Across,
    /// Like [`Self::Inwards`], but sent by the world, so that the uplink's driver receives it and
    /// runs its XDP program.
    Wire,
    /// Like [`Self::Wire`], but from a loopback or multicast source: must be dropped.
    Martian,
}

impl Way {
    /// Whether the uplink's driver receives the frames.
    pub const fn is_wire(self) -> bool {
        matches!(self, Self::Wire | Self::Martian)
    }
}

/// The number of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flows {
    /// So many flows in turn.
    Of(u32),
    /// A new flow for each frame.
    New,
}

/// Addresses in the header of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Source MAC.
    pub source_mac: Mac,
    /// Destination MAC.
    pub destination_mac: Mac,
    /// The sending container, if any.
    pub source: IpAddr,
    /// The destination, unless it changes from frame to frame.
    pub destination: IpAddr,
    /// The first destination port.
    pub port: u16,
    /// Number of destination ports, used in turn.
    pub ports: u32,
}

/// The frames of `flows` flows, of the family of `ends`.
pub fn frames(way: Way, flows: Flows, ends: &Ends) -> Traffic {
    let family = Family::of(ends.destination);
    let layout = layout(family);
    let changing = match way {
        Way::Across => ends.source,
        Way::Martian => martian(family),
        Way::Inwards | Way::Wire | Way::Outwards => outside(family),
    };
    let (source, destination) = match way {
        Way::Inwards | Way::Wire | Way::Martian | Way::Across => (changing, ends.destination),
        Way::Outwards => (ends.source, changing),
    };
    let mut frame = [0; LONGEST];
    frame[..6].copy_from_slice(&ends.destination_mac.0);
    frame[6..12].copy_from_slice(&ends.source_mac.0);
    frame[ETHER_TYPE_AT..][..2].copy_from_slice(&layout.ether_type.to_ne_bytes());
    let length = |at: usize| u16::try_from(layout.frame - at).unwrap_or_default().to_be_bytes();
    match family {
        Family::V4 => {
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&length(14));
            frame[20..24].copy_from_slice(&[0x40, 0, 64, UDP]); // don't fragment, TTL 64
        }
        Family::V6 => {
            frame[14] = 0x60;
            frame[18..20].copy_from_slice(&length(layout.ports_at));
            frame[20..22].copy_from_slice(&[UDP, 64]); // hop limit 64
        }
    }
    let toward = way == Way::Outwards;
    for (place, address) in [source, destination].into_iter().enumerate() {
        let whole = &mut frame[layout.source_at + place * layout.address..][..layout.address];
        whole.copy_from_slice(&octets(address));
        // The generator writes its last word into each frame.
        if place == usize::from(toward) {
            whole[layout.address - 4..].fill(0);
        }
    }
    frame[layout.ports_at + 4..][..2].copy_from_slice(&length(layout.ports_at));
    frame[layout.mark_at..][..8].copy_from_slice(&MARK);
    // The pseudo header: addresses, protocol and length.
    let pseudo = sum(&frame[layout.source_at..layout.ports_at])
        + u32::from(u16::from(UDP).to_be())
        + u32::from(u16::from_ne_bytes(length(layout.ports_at)));
    let last = octets(changing);
    Traffic {
        ip_sum: u32::from(fold(sum(&frame[14..layout.ports_at]))),
        udp_sum: u32::from(fold(pseudo + sum(&frame[layout.ports_at..]))),
        frame: bytemuck::pod_read_unaligned(&frame),
        toward: toward.into(),
        address: last[layout.address - 4..]
            .iter()
            .fold(0, |word, octet| word << 8 | u32::from(*octet)),
        port: FIRST_PORT,
        ports: if way == Way::Across { PORTS_OF_NEIGHBOUR } else { PORTS_OF_EACH },
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

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// The sum of words in frame order.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum()
}
