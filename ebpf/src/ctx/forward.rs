//! The skb of a tc program: rewritten, redirected, answered.

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::{
        bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_tail,
        bpf_skb_change_type, bpf_skb_store_bytes,
    },
};
use causeway_common::{
    abi::{Deliver, Macs, Translation, drop_reason::DropReason},
    flow::error::ErrorTranslation,
    nat::{fragment, icmp_error},
    verdict::Verdict,
    wire::{
        address::Port,
        checksum,
        ethernet::ETHERNET,
        icmp::{self, IcmpError},
        packet::Packet,
        protocol,
        tcp_options::MssSearch,
        tuple::{Echo, Side, Tuple},
    },
};

use super::skb::{PACKET_HOST, Skb};
use crate::family::Family;

impl Skb<'_> {
    /// Rewrites the packet and forwards it.
    #[inline(always)]
    pub(crate) fn forward<A: Family>(
        &mut self,
        packet: &Packet<A>,
        translation: &Translation<A>,
    ) -> Result<Verdict, DropReason> {
        if translation.deliver == Deliver::SAME_BRIDGE {
            self.write_macs(&translation.macs).ok_or(DropReason::RewriteFailed)?;
        } else if translation.deliver == Deliver::STACK {
            if translation.port_delta != 0 {
                self.update_checksums(packet, translation)?;
                self.rewrite_ports(packet, &translation.tuple).ok_or(DropReason::RewriteFailed)?;
            }
            return Ok(Verdict::PASS);
        } else {
            // A packet that is partly rewritten is dropped: any failure from here on is
            // `RewriteFailed`.
            self.update_checksums(packet, translation)?;
            // If the transport's checksum covers the addresses, both changes cancel out in the
            // checksum over the frame (`CHECKSUM_COMPLETE`), but the helper has already taken the
            // addresses' change off it: right for IPv4 only (Linux 6.16 has a flag for IPv6, commit
            // ead7f9b8de65). If it does not cover them (SCTP), the change counts. Either way it is
            // added here.
            self.frame_changed::<A>(u32::from(translation.address_delta) + u32::from(A::ONE_HOP));
            let macs = read_once(&translation.macs);
            self.rewrite(packet, translation, &macs).ok_or(DropReason::RewriteFailed)?;
            return Ok(self.redirect(translation, &macs));
        }
        Ok(self.redirect(translation, &translation.macs))
    }

    /// Lowers the MSS that `search` found, if it is larger than `limit` bytes, and updates TCP's
    /// checksum.
    #[inline(always)]
    pub(crate) fn lower_mss<A: Family>(
        &mut self,
        packet: &Packet<A>,
        search: &MssSearch,
        limit: u16,
    ) -> Result<(), DropReason> {
        match search.lower(self, limit).ok_or(DropReason::RewriteFailed)? {
            0 => Ok(()),
            delta => self.add_to_checksum((packet.payload_offset() + 16) as u32, delta, 0),
        }
    }

    /// Rewrites an ICMP error and its quote, and forwards it.
    #[inline(always)]
    pub(crate) fn forward_error<A: Family>(
        &mut self,
        packet: &Packet<A>,
        translation: &ErrorTranslation<A>,
    ) -> Result<Verdict, DropReason> {
        if translation.outer.deliver == Deliver::CONTAINER {
            self.write_macs(&translation.outer.macs).ok_or(DropReason::RewriteFailed)?;
        }
        icmp_error::apply(self, packet.payload_offset(), translation)
            .ok_or(DropReason::RewriteFailed)?;
        if translation.outer.deliver != Deliver::STACK {
            self.frame_changed::<A>(A::ONE_HOP.into());
        }
        Ok(self.redirect(&translation.outer, &translation.outer.macs))
    }

    /// Replaces the frame by an ICMP error, and sends it back to where the packet came from.
    #[inline(always)]
    pub(crate) fn send_back<A>(
        &mut self,
        packet: &Packet<A>,
        error: &IcmpError,
    ) -> Option<Verdict> {
        let length = u32::from(error.length);
        if length < ETHERNET as u32 || length > icmp::MAX_FRAME as u32 {
            return None;
        }
        // If the packet's checksum was left to the hardware (`CHECKSUM_PARTIAL`), the skb stays in
        // that state. Only virtual links deliver such packets, and neighbours on them accept the
        // error; an uplink without checksum offload corrupts it.
        // SAFETY: S4 (no pointer into the frame is held). The buffer has `length` bytes.
        unsafe {
            if bpf_skb_change_tail(self.raw, length, 0) != 0
                || bpf_skb_store_bytes(self.raw, 0, error.bytes.as_ptr().cast(), length, 0) != 0
            {
                return None;
            }
            let action = if packet.tuple.side == Side::CONTAINER {
                self.redirect_into(packet.input)
            } else {
                bpf_redirect(packet.input, 0)
            };
            Some(Verdict::from_action(action as i32))
        }
    }

    /// Rewrites a fragment and forwards it. `id` is the identification that it leaves with, in the
    /// byte order of the packet.
    #[inline(always)]
    pub(crate) fn forward_fragment<A: Family>(
        &mut self,
        packet: &Packet<A>,
        translation: &Translation<A>,
        id: u32,
    ) -> Result<Verdict, DropReason> {
        if fragment::is_translated(translation) {
            A::rewrite_id(self, packet, id).ok_or(DropReason::RewriteFailed)?;
            let words = |id: u32| (id & 0xffff) + (id >> 16);
            self.frame_changed::<A>(checksum::delta(words(packet.id), words(id)).into());
        } else if !packet.first_fragment && translation.deliver == Deliver::STACK {
            return Ok(Verdict::PASS);
        }
        if packet.first_fragment || !fragment::is_translated(translation) {
            return self.forward(packet, translation);
        }
        if translation.deliver == Deliver::CONTAINER {
            self.write_macs(&translation.macs).ok_or(DropReason::RewriteFailed)?;
        }
        A::rewrite(
            self.write::<A::Header>(ETHERNET).ok_or(DropReason::RewriteFailed)?,
            translation,
        );
        // The transport's checksum, which covers the addresses, is in the first fragment.
        self.frame_changed::<A>(u32::from(translation.address_delta) + u32::from(A::ONE_HOP));
        Ok(self.redirect(translation, &translation.macs))
    }

    #[inline(always)]
    pub(super) fn redirect<A>(&self, translation: &Translation<A>, macs: &Macs) -> Verdict {
        if translation.deliver == Deliver::STACK {
            return Verdict::PASS;
        }
        // SAFETY: the helpers take numbers only; the kernel checks the interface.
        let action = unsafe {
            if translation.deliver == Deliver::UPLINK && macs.is_resolved() {
                bpf_redirect(translation.output, 0)
            } else if translation.deliver == Deliver::UPLINK {
                bpf_redirect_neigh(translation.output, ptr::null_mut(), 0, 0)
            } else {
                self.redirect_into(translation.output)
            }
        };
        Verdict::from_action(action as i32)
    }

    /// Redirects into the container of a host side.
    #[inline(always)]
    pub(super) fn redirect_into(&self, host_side: u32) -> i64 {
        // SAFETY: the helpers take numbers only; the kernel checks the interface.
        unsafe {
            // `bpf_redirect_peer` works at ingress only.
            if self.is_container_egress() {
                return bpf_redirect(host_side, 0);
            }
            // Before Linux 6.15 `bpf_redirect_peer` leaves the packet type as it was at the
            // interface where the packet arrived.
            if !self.is_for_host() {
                bpf_skb_change_type(self.raw, PACKET_HOST);
            }
            bpf_redirect_peer(host_side, 0)
        }
    }

    /// Updates the transport's checksum for changed addresses and ports. By helper, because only
    /// the kernel knows whether the field has a full checksum or, with `CHECKSUM_PARTIAL`, one over
    /// the pseudo header alone.
    #[inline(always)]
    pub(super) fn update_checksums<A: Family>(
        &self,
        packet: &Packet<A>,
        translation: &Translation<A>,
    ) -> Result<(), DropReason> {
        let protocol = packet.tuple.protocol;
        let (offset, flags) = match protocol {
            protocol::TCP => (16, 0),
            protocol::UDP => (6, u64::from(BPF_F_MARK_MANGLED_0)),
            _ => (2, 0),
        };
        let field = (packet.payload_offset() + offset) as u32;
        if translation.port_delta != 0 {
            self.add_to_checksum(field, translation.port_delta, flags)?;
        }
        if translation.address_delta != 0 && A::has_pseudo_header(protocol) {
            self.add_to_checksum(
                field,
                translation.address_delta,
                flags | u64::from(BPF_F_PSEUDO_HDR),
            )?;
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn rewrite<A: Family>(
        &mut self,
        packet: &Packet<A>,
        translation: &Translation<A>,
        macs: &Macs,
    ) -> Option<()> {
        let tuple = &translation.tuple;
        if translation.deliver == Deliver::CONTAINER || macs.is_resolved() {
            self.write_macs(macs)?;
        }
        A::rewrite(self.write::<A::Header>(ETHERNET)?, translation);
        self.rewrite_ports(packet, tuple)
    }

    #[inline(always)]
    pub(super) fn rewrite_ports<A: Family>(
        &mut self,
        packet: &Packet<A>,
        tuple: &Tuple<A>,
    ) -> Option<()> {
        match tuple.echo {
            Echo::NONE => {
                *self.write::<[Port; 2]>(packet.payload_offset())? =
                    [tuple.source_port, tuple.destination_port];
            }
            Echo::REQUEST => *self.write::<Port>(packet.payload_offset() + 4)? = tuple.source_port,
            _ => *self.write::<Port>(packet.payload_offset() + 4)? = tuple.destination_port,
        }
        Some(())
    }
}

/// The MACs, read once. Race: another CPU may set or clear the MACs of a next hop while the frame
/// is rewritten; the rewrite and the redirect must see the same ones.
#[inline(always)]
fn read_once(macs: &Macs) -> Macs {
    // SAFETY: a reference is valid for reads.
    unsafe { ptr::read_volatile(macs) }
}
