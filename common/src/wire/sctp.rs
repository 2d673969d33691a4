//! SCTP (RFC 9260), as far as the state of a flow depends on it: the first chunk of a packet, as
//! the TCP flag that means the same.
//!
//! The checksum covers ports but not addresses. Addresses are therefore translated and ports never:
//! the checksum stays as the sender, or its device, has computed it.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use network_types::sctp::SctpHdr;

use crate::wire::{
    tcp,
    transport::{Ports, number},
};

/// The common header and the header of the first chunk (RFC 9260 sections 3.1 and 3.2).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Head {
    pub(crate) ports: Ports,
    tag: [u16; 2],
    checksum: [u16; 2],
    kind: u8,
    flags: u8,
    length: u16,
}

const _: () = {
    assert!(offset_of!(Head, tag) == offset_of!(SctpHdr, verification_tag));
    assert!(offset_of!(Head, checksum) == offset_of!(SctpHdr, checksum));
    assert!(offset_of!(Head, kind) == SctpHdr::LEN);
};

/// Chunk types.
mod chunk {
    pub(super) const INIT: u8 = 1;
    pub(super) const INIT_ACK: u8 = 2;
    pub(super) const ABORT: u8 = 6;
    pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
}

/// `GSO_BY_FRAGS` (linux/skbuff.h): the segments of a GSO packet have lengths of their own. SCTP's
/// do.
pub(crate) const GSO_BY_FRAGMENTS: u32 = 0xffff;

impl Head {
    /// The verification tag, which the receiver chose in its INIT or INIT ACK. Zero only in an
    /// INIT.
    #[inline(always)]
    pub(crate) const fn tag(&self) -> u32 {
        number(self.tag)
    }

    /// The equivalent TCP flag: SYN for INIT and INIT ACK, which carry the sender's initiate tag;
    /// RST for ABORT and SHUTDOWN COMPLETE; none for any other. Receivers discard an INIT with a
    /// verification tag and an INIT ACK without (RFC 9260 section 8.5.1): these have no flag.
    #[inline(always)]
    pub(crate) const fn meaning(&self) -> u8 {
        let untagged = self.tag() == 0;
        match self.kind {
            chunk::INIT if untagged => tcp::SYN,
            chunk::INIT_ACK if !untagged => tcp::SYN,
            chunk::ABORT | chunk::SHUTDOWN_COMPLETE => tcp::RST,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_chunk_has_equivalent_tcp_flag() {
        for (what, kind, tag, meaning) in [
            ("INIT", 1, 0, tcp::SYN),
            ("INIT with a tag", 1, 7, 0),
            ("INIT ACK", 2, 7, tcp::SYN),
            ("INIT ACK without a tag", 2, 0, 0),
            ("DATA", 0, 7, 0),
            ("HEARTBEAT", 4, 7, 0),
            ("ABORT", 6, 7, tcp::RST),
            ("SHUTDOWN", 7, 7, 0),
            ("COOKIE ECHO", 10, 7, 0),
            ("SHUTDOWN COMPLETE", 14, 7, tcp::RST),
        ] {
            let mut bytes = [0; 16];
            bytes[7] = tag;
            bytes[12] = kind;
            let head: Head = bytemuck::pod_read_unaligned(&bytes);
            assert_eq!((head.tag(), head.meaning()), (u32::from(tag), meaning), "{what}");
        }
    }
}
