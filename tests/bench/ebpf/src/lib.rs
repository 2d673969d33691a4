//! Shared by the benchmark and its BPF programs: map layouts, and the layout of generated frames.
#![no_std]

use core::net::IpAddr;

use bytemuck::{Pod, Zeroable};

/// Names of programs and maps in the object.
pub mod name {
    /// XDP, run by `BPF_PROG_TEST_RUN` with live frames (IPv4).
    pub const GENERATE4: &str = "generate4";
    /// XDP, run by `BPF_PROG_TEST_RUN` with live frames (IPv6).
    pub const GENERATE6: &str = "generate6";
    /// XDP that passes everything, on the interface where generated frames enter: it sets up the
    /// receive queue.
    pub const PASS: &str = "pass";
    /// tc ingress on arrival: counts and drops generated frames.
    pub const COUNT: &str = "count";
    /// tc, not attached: an empty program, for comparison.
    pub const NOTHING: &str = "nothing";
    /// tc ingress at the entry: redirects generated frames unchanged.
    pub const REDIRECT: &str = "redirect";
    /// Array of one: [`super::Traffic`].
    pub const TRAFFIC: &str = "TRAFFIC";
    /// Array of one: [`super::Expected`].
    pub const EXPECTED: &str = "EXPECTED";
    /// Array of one: [`super::Exit`].
    pub const EXIT: &str = "EXIT";
    /// Per-CPU array: number of frames for each [`super::count`].
    pub const COUNTS: &str = "COUNTS";
}

/// The first bytes of a generated payload.
pub const MARK: [u8; 8] = *b"causeway";

/// Offset of the Ethernet type.
pub const ETHER_TYPE_AT: usize = 12;

/// Offsets in the frames of a family: UDP with 18 bytes of payload, which for IPv4 is the shortest
/// Ethernet frame (without FCS).
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Ethernet type, in frame order.
    pub ether_type: u16,
    /// Length of the frame.
    pub frame: usize,
    /// Length of an address.
    pub address: usize,
    /// Offset of the source address; the destination follows.
    pub source_at: usize,
    /// Offset of the IP header checksum, if any.
    pub ip_checksum_at: Option<usize>,
    /// Offset of the source port; the destination port follows.
    pub ports_at: usize,
    /// Offset of the UDP checksum.
    pub udp_checksum_at: usize,
    /// Offset of [`MARK`].
    pub mark_at: usize,
}

/// IPv4.
pub const V4: Layout = Layout {
    ether_type: 0x0800_u16.to_be(),
    frame: 60,
    address: 4,
    source_at: 26,
    ip_checksum_at: Some(24),
    ports_at: 34,
    udp_checksum_at: 40,
    mark_at: 42,
};

/// IPv6.
pub const V6: Layout = Layout {
    ether_type: 0x86dd_u16.to_be(),
    frame: 80,
    address: 16,
    source_at: 22,
    ip_checksum_at: None,
    ports_at: 54,
    udp_checksum_at: 60,
    mark_at: 62,
};

/// Bytes of the longest frame.
pub const LONGEST: usize = V6.frame;

/// What to generate: the frame, and how its tuple changes. Numbers are in host byte order unless
/// noted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Traffic {
    /// The frame, with zeros in changing fields and checksums, padded with zeros.
    pub frame: [u32; LONGEST / 4],
    /// Sum of the IP header's words in frame order.
    pub ip_sum: u32,
    /// Sum of what the UDP checksum covers.
    pub udp_sum: u32,
    /// 1: the destination address changes; 0: the source address.
    pub toward: u32,
    /// Last word of the first changing address; the words before it are in `frame`.
    pub address: u32,
    /// First source port.
    pub port: u32,
    /// Number of source ports per address.
    pub ports: u32,
    /// First destination port.
    pub service: u32,
    /// Number of destination ports, used in turn.
    pub services: u32,
    /// Number of flows, used in turn; 0 for a new flow with each frame.
    pub flows: u32,
    /// XDP action: `XDP_PASS` lets the frame enter here, `XDP_TX` lets the other end of the veth
    /// pair receive it.
    pub action: u32,
    /// Position of the next frame, written by the program.
    pub next: Next,
}

/// The position of a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Next {
    /// Index of the flow.
    pub flow: u32,
    /// Index of the address.
    pub address: u32,
    /// Index of the source port.
    pub port: u32,
    /// Index of the destination port.
    pub service: u32,
}

/// The fields that change from frame to frame, in frame order.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Last word of the changing address.
    pub address: u32,
    /// Offset of that word.
    pub address_at: usize,
    /// Source port and destination port.
    pub ports: [u16; 2],
    /// IP header checksum.
    pub ip_checksum: u16,
    /// UDP checksum.
    pub udp_checksum: u16,
}

impl Traffic {
    /// The changing fields of the next frame.
    #[inline(always)]
    pub fn header(&self, layout: &Layout) -> Header {
        let address = (self.address + self.next.address).to_be();
        let ports =
            [(self.port + self.next.port) as u16, (self.service + self.next.service) as u16];
        let ports = ports.map(u16::to_be);
        let sum = self.udp_sum + halves(address) + u32::from(ports[0]) + u32::from(ports[1]);
        let source_ends_at = layout.source_at + layout.address;
        Header {
            address,
            address_at: if self.toward == 0 {
                source_ends_at - 4
            } else {
                source_ends_at + layout.address - 4
            },
            ports,
            ip_checksum: !fold(self.ip_sum + halves(address)),
            // Zero would mean no checksum.
            udp_checksum: match !fold(sum) {
                0 => 0xffff,
                checksum => checksum,
            },
        }
    }

    /// The next frame as the generator writes it, padded with zeros.
    pub fn next_frame(&self, layout: &Layout) -> [u8; LONGEST] {
        let header = self.header(layout);
        let mut frame = [0; LONGEST];
        for (bytes, word) in frame.chunks_exact_mut(4).zip(self.frame) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        frame[header.address_at..][..4].copy_from_slice(&header.address.to_ne_bytes());
        frame[layout.ports_at..][..2].copy_from_slice(&header.ports[0].to_ne_bytes());
        frame[layout.ports_at + 2..][..2].copy_from_slice(&header.ports[1].to_ne_bytes());
        if let Some(at) = layout.ip_checksum_at {
            frame[at..][..2].copy_from_slice(&header.ip_checksum.to_ne_bytes());
        }
        frame[layout.udp_checksum_at..][..2].copy_from_slice(&header.udp_checksum.to_ne_bytes());
        frame
    }

    /// Advances to the next frame.
    #[inline(always)]
    pub fn advance(&mut self) {
        let next = &mut self.next;
        next.flow += 1;
        if next.flow == self.flows {
            *next = Next::zeroed();
            return;
        }
        next.port += 1;
        if next.port >= self.ports {
            next.port = 0;
            next.address += 1;
        }
        next.service += 1;
        if next.service >= self.services {
            next.service = 0;
        }
    }
}

/// The expected frame on arrival.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Expected {
    /// Source and destination address in frame order.
    pub addresses: [u64; 4],
    /// Mask of the bits to compare.
    pub mask: [u64; 4],
}

impl Expected {
    /// Expects these addresses, both of one family. `None` accepts any.
    pub fn new(source: Option<IpAddr>, destination: Option<IpAddr>) -> Self {
        let mut expected = Self::default();
        for (place, address) in [source, destination].into_iter().enumerate() {
            let (length, octets) = match address {
                Some(IpAddr::V4(address)) => (4, address.to_ipv6_compatible().octets()),
                Some(IpAddr::V6(address)) => (16, address.octets()),
                None => continue,
            };
            let range = place * length..(place + 1) * length;
            bytemuck::cast_slice_mut(&mut expected.addresses)[range.clone()]
                .copy_from_slice(&octets[16 - length..]);
            bytemuck::cast_slice_mut::<_, u8>(&mut expected.mask)[range].fill(0xff);
        }
        expected
    }

    /// Whether a frame has the expected addresses.
    #[inline(always)]
    pub fn are<const WORDS: usize>(&self, addresses: [u64; WORDS]) -> bool {
        let mut other = 0;
        for (at, word) in addresses.into_iter().enumerate() {
            other |= (word ^ self.addresses[at]) & self.mask[at];
        }
        other == 0
    }
}

/// The target of redirects.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Exit {
    /// Index of the interface.
    pub index: u32,
    /// 1: `bpf_redirect_peer`, into the other end of the veth pair; 0: `bpf_redirect`.
    pub peer: u32,
}

/// Indices of the counters.
pub mod count {
    /// Expected frames.
    pub const ARRIVED: u32 = 0;
    /// Other generated frames.
    pub const WRONG: u32 = 1;
    /// Number of counters.
    pub const ALL: u32 = 2;
}

/// Folds a sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The sum of the words of an address, in frame order.
#[inline(always)]
pub const fn halves(address: u32) -> u32 {
    (address & 0xffff) + (address >> 16)
}
