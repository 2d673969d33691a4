//! What the benchmark and its programs in the kernel share: the layouts of their maps, and what a
//! generated frame looks like.
#![no_std]

use core::net::IpAddr;

use bytemuck::{Pod, Zeroable};

/// Names of programs and maps in the object.
pub mod name {
    /// XDP, run by `BPF_PROG_TEST_RUN` with live frames: IPv4.
    pub const GENERATE4: &str = "generate4";
    /// The same: IPv6.
    pub const GENERATE6: &str = "generate6";
    /// XDP on the interface that generated frames enter by: passes everything. It is there for the
    /// interface's receive queue.
    pub const PASS: &str = "pass";
    /// tc ingress where frames arrive: counts those that were generated, and drops them.
    pub const COUNT: &str = "count";
    /// tc, attached nowhere: what running a program costs that does nothing.
    pub const NOTHING: &str = "nothing";
    /// tc ingress where frames enter: redirects those that were generated, as they are.
    pub const REDIRECT: &str = "redirect";
    /// Array of one: [`super::Traffic`].
    pub const TRAFFIC: &str = "TRAFFIC";
    /// Array of one: [`super::Expected`].
    pub const EXPECTED: &str = "EXPECTED";
    /// Array of one: [`super::Exit`].
    pub const EXIT: &str = "EXIT";
    /// Per-CPU array: [`super::count`] to a number of frames.
    pub const COUNTS: &str = "COUNTS";
}

/// What a generated frame's payload begins with.
pub const MARK: [u8; 8] = *b"causeway";

/// Where the type of an Ethernet frame is.
pub const ETHER_TYPE_AT: usize = 12;

/// Where things are in a family's frames, in bytes: UDP with a payload of 18, which makes IPv4's
/// frame the shortest that Ethernet has, without its checksum.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The type of the frame, as its bytes stand in a word.
    pub ether_type: u16,
    /// How long it is.
    pub frame: usize,
    /// How long an address is.
    pub address: usize,
    /// Where the source address is, and behind it the destination.
    pub source_at: usize,
    /// Where the IP header's checksum is, if it has one.
    pub ip_checksum_at: Option<usize>,
    /// Where the source port is, and behind it the destination port.
    pub ports_at: usize,
    /// Where UDP's checksum is.
    pub udp_checksum_at: usize,
    /// Where [`MARK`] is.
    pub mark_at: usize,
}

/// IPv4's.
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

/// IPv6's.
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

/// What is generated: the frame and how its tuple changes from one to the next. Numbers are in the
/// machine's order unless they say otherwise.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Traffic {
    /// The frame, with zeros for what changes and for the checksums, and behind its end.
    pub frame: [u32; LONGEST / 4],
    /// The sum of the IP header's words as they stand in the frame.
    pub ip_sum: u32,
    /// The sum of what UDP's checksum covers.
    pub udp_sum: u32,
    /// One changes the destination address, zero the source address.
    pub toward: u32,
    /// The last word of the first address; what is before it is in the frame.
    pub address: u32,
    /// The first source port.
    pub port: u32,
    /// How many source ports there are; then comes the next address.
    pub ports: u32,
    /// The first destination port.
    pub service: u32,
    /// How many destination ports there are, taken in turn.
    pub services: u32,
    /// How many flows there are until they begin anew; zero for a new flow with each frame.
    pub flows: u32,
    /// What becomes of a frame: an action of XDP's. Passed, it enters the host here; sent back, it
    /// is received at the other end of the veth pair.
    pub action: u32,
    /// Where the next frame is in all that: written by the program.
    pub next: Next,
}

/// The next frame's place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Next {
    /// Which flow.
    pub flow: u32,
    /// Which address.
    pub address: u32,
    /// Which source port.
    pub port: u32,
    /// Which destination port.
    pub service: u32,
}

/// What changes from one frame to the next, as it stands in the frame.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// The last word of the outside address, or of the only one that sends.
    pub address: u32,
    /// Where that is.
    pub address_at: usize,
    /// Source and destination port.
    pub ports: [u16; 2],
    /// The IP header's checksum.
    pub ip_checksum: u16,
    /// UDP's.
    pub udp_checksum: u16,
}

impl Traffic {
    /// What the next frame has.
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
            // Zero would say that there is none.
            udp_checksum: match !fold(sum) {
                0 => 0xffff,
                checksum => checksum,
            },
        }
    }

    /// The next frame, as the generator writes it, and zeros behind it.
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

    /// Moves on to the next frame.
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

/// What a frame must look like where it arrives.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Expected {
    /// Source and destination address, one behind the other as they stand in the frame.
    pub addresses: [u64; 4],
    /// The bits of them that count.
    pub mask: [u64; 4],
}

impl Expected {
    /// These addresses, both of one family; none for whatever.
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

    /// Whether a frame's addresses are those.
    #[inline(always)]
    pub fn are<const WORDS: usize>(&self, addresses: [u64; WORDS]) -> bool {
        let mut other = 0;
        for (at, word) in addresses.into_iter().enumerate() {
            other |= (word ^ self.addresses[at]) & self.mask[at];
        }
        other == 0
    }
}

/// Where frames are redirected to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Exit {
    /// The interface's index.
    pub index: u32,
    /// One: into the other end of that veth pair. Zero: out of it.
    pub peer: u32,
}

/// What is counted.
pub mod count {
    /// Frames as they were expected.
    pub const ARRIVED: u32 = 0;
    /// Generated frames that were not.
    pub const WRONG: u32 = 1;
    /// How many counts there are.
    pub const ALL: u32 = 2;
}

/// Folds a sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The two words of an address as they stand in a frame, added.
#[inline(always)]
pub const fn halves(address: u32) -> u32 {
    (address & 0xffff) + (address >> 16)
}
