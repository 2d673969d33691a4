//! The skb of a tc program that becomes one of the other family.

use aya_ebpf::{
    bindings::{
        BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET, bpf_adj_room_mode::BPF_ADJ_ROOM_NET,
    },
    helpers::{bpf_csum_update, bpf_skb_adjust_room, bpf_skb_change_proto},
};
use bytemuck::NoUninit;
use causeway_common::{
    abi::{Deliver, Translation, drop_reason::DropReason},
    nat::nat64,
    scratch::Scratch,
    verdict::Verdict,
    wire::{
        address::V6,
        ethernet::{ETHERNET, ether_type},
        frame::{Frame as _, FrameMut as _},
        headers::{self, Head, Icmp},
        ipv4::Ipv4,
        ipv6::Ipv6,
        packet::{Packet, Payload},
    },
};

use super::skb::{Skb, random};

impl Skb<'_> {
    /// Translates an IPv6 packet to IPv4 and forwards it.
    #[inline(always)]
    pub(crate) fn forward_as_ipv4(
        &mut self,
        scratch: &mut Scratch<V6>,
    ) -> Result<Verdict, DropReason> {
        let Scratch { packet, entry, head4, .. } = scratch;
        let translation = &entry.translation;
        nat64::to_ipv4(self, packet, &translation.tuple, random(), head4)
            .ok_or(DropReason::RewriteFailed)?;
        self.rewrite_payload(packet, translation)?;
        self.change_family(ether_type::IPV4, -beyond::<Ipv6>(packet), translation)?;
        self.store(ETHERNET, &head4.outer)?;
        Ok(self.redirect(translation, &translation.macs))
    }

    /// Translates an IPv4 packet to IPv6 and forwards it.
    #[inline(always)]
    pub(crate) fn forward_as_ipv6(
        &mut self,
        scratch: &mut Scratch<V6>,
    ) -> Result<Verdict, DropReason> {
        let Scratch { packet, entry, head6, .. } = scratch;
        let translation = &entry.translation;
        if packet.payload == Payload::Udp
            && self.read(packet.payload_offset() + 6).unwrap_or(0_u16) == 0
        {
            return Err(DropReason::NoChecksum);
        }
        nat64::to_ipv6(self, packet, &translation.tuple, head6).ok_or(DropReason::RewriteFailed)?;
        self.rewrite_payload(packet, translation)?;
        self.change_family(ether_type::IPV6, -beyond::<Ipv4>(packet), translation)?;
        self.store(ETHERNET, &head6.outer)?;
        Ok(self.redirect(translation, &translation.macs))
    }

    /// Replaces the headers of an ICMPv6 error by the IPv4 headers in the scratch, and forwards it.
    #[inline(always)]
    pub(crate) fn forward_error_as_ipv4(
        &mut self,
        scratch: &Scratch<V6>,
    ) -> Result<Verdict, DropReason> {
        let Scratch { packet, error_translation: error, head4, .. } = scratch;
        self.change_family(
            ether_type::IPV4,
            -beyond::<Ipv6>(packet) - headers::HEADER_GROWTH.cast_signed(),
            &error.outer,
        )?;
        self.store_head(head4)?;
        Ok(self.redirect(&error.outer, &error.outer.macs))
    }

    /// Replaces the headers of an ICMP error by the IPv6 headers in the scratch, and forwards it.
    #[inline(always)]
    pub(crate) fn forward_error_as_ipv6(
        &mut self,
        scratch: &Scratch<V6>,
    ) -> Result<Verdict, DropReason> {
        let Scratch { packet, error_translation: error, head6, .. } = scratch;
        self.change_family(
            ether_type::IPV6,
            headers::HEADER_GROWTH.cast_signed() - beyond::<Ipv4>(packet),
            &error.outer,
        )?;
        self.store_head(head6)?;
        Ok(self.redirect(&error.outer, &error.outer.macs))
    }

    /// Rewrites checksums and ports of a packet that changes its family.
    #[inline(always)]
    pub(super) fn rewrite_payload(
        &mut self,
        packet: &Packet<V6>,
        translation: &Translation<V6>,
    ) -> Result<(), DropReason> {
        self.update_checksums(packet, translation)?;
        self.rewrite_ports(packet, &translation.tuple).ok_or(DropReason::RewriteFailed)
    }

    /// Changes the family of the skb. The new header is still to be stored. `room` bytes are added
    /// after it, or removed if negative.
    #[inline(always)]
    pub(super) fn change_family(
        &mut self,
        ether_type: u16,
        room: i32,
        translation: &Translation<V6>,
    ) -> Result<(), DropReason> {
        // SAFETY: S4 (no pointer into the frame is held).
        unsafe {
            // GSO segment sizes stay: they were chosen for the longer header.
            let flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET);
            if (room != 0 && bpf_skb_adjust_room(self.raw, room, BPF_ADJ_ROOM_NET, flags) != 0)
                || bpf_skb_change_proto(self.raw, ether_type, 0) != 0
            {
                return Err(DropReason::RewriteFailed);
            }
        }
        if translation.deliver != Deliver::UPLINK || translation.macs.is_resolved() {
            self.write_macs(&translation.macs).ok_or(DropReason::RewriteFailed)?;
        }
        self.put(ETHERNET - size_of::<u16>(), &ether_type).ok_or(DropReason::RewriteFailed)
    }

    #[inline(always)]
    pub(super) fn store_head<H: NoUninit>(&mut self, head: &Head<H>) -> Result<(), DropReason> {
        let icmp_at = ETHERNET + size_of::<H>();
        self.store(ETHERNET, &head.outer)?;
        self.store(icmp_at, &head.icmp)?;
        self.store(icmp_at + size_of::<Icmp>(), &head.quoted)?;
        // SAFETY: S4 (no pointer into the frame is held). The helper fails if the skb has no
        // checksum over the frame (`CHECKSUM_COMPLETE`); then there is nothing to update.
        unsafe { bpf_csum_update(self.raw, head.payload_delta.into()) };
        Ok(())
    }
}

/// Bytes of options or extension headers between a packet's header and its payload.
#[inline(always)]
fn beyond<H>(packet: &Packet<V6>) -> i32 {
    (packet.payload_offset() as u32).cast_signed()
        - ((ETHERNET + size_of::<H>()) as u32).cast_signed()
}
