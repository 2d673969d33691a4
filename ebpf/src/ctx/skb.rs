//! The skb of a tc program: reads, rewrites and redirects. No other module holds a pointer into a
//! frame of tc.

use core::{marker::PhantomData, ptr};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET, BPF_F_INGRESS,
        BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM,
        bpf_adj_room_mode::BPF_ADJ_ROOM_NET,
    },
    helpers::{
        bpf_clone_redirect, bpf_csum_update, bpf_get_prandom_u32, bpf_l4_csum_replace,
        bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_sk_fullsock, bpf_skb_adjust_room,
        bpf_skb_change_proto, bpf_skb_change_tail, bpf_skb_change_type, bpf_skb_load_bytes,
        bpf_skb_pull_data, bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use bytemuck::{AnyBitPattern, NoUninit};
use causeway_common::{
    abi::{Deliver, Macs, QUEUED_FRAME_BYTES, QueuedFrame, Translation, drop_reason::DropReason},
    flow::error::ErrorTranslation,
    nat::{fragment, icmp_error, nat64},
    scratch::Scratch,
    verdict::Verdict,
    wire::{
        address::{Port, V6},
        checksum,
        ethernet::{ETHERNET, Ethernet, ether_type},
        frame::{Frame, FrameMut},
        headers::{self, Head, Icmp},
        icmp::{self, IcmpError},
        ipv4::Ipv4,
        ipv6::Ipv6,
        packet::{Arrival, Malformed, Packet, Payload},
        protocol,
        tcp_options::{self, MssSearch},
        tuple::{Echo, Side, Tuple},
    },
};

use crate::family::Family;

const PACKET_HOST: u32 = 0;

/// `skb->mark` of a packet that was processed on netkit egress, so that the next program (host side
/// or uplink) does not process it again. The kernel clears marks that a container sets when the
/// packet leaves its namespace.
const PROCESSED_MARK: u32 = 0xca5e_0001;

/// The skb that a tc program runs for.
pub(crate) struct Skb<'a> {
    raw: *mut __sk_buff,
    context: &'a TcContext,
    _frame: PhantomData<&'a [u8]>,
}

impl<'a> Skb<'a> {
    /// The skb. Only the bytes of the Ethernet header are sure to be linear.
    #[inline(always)]
    pub(crate) fn new(context: &'a TcContext) -> Self {
        Self { raw: context.skb.skb, context, _frame: PhantomData }
    }

    /// Parses a packet with usual headers; see [`Self::parse`] for all others.
    #[inline(always)]
    pub(crate) fn parse_usual<A: Family>(&mut self, side: Side) -> Result<Packet<A>, Malformed> {
        self.reach_for(A::USUAL);
        A::parse_usual(self, self.arrival(side))
    }

    /// Parses the packet. Its headers are made linear first: a driver may have left them in a page
    /// fragment.
    #[inline(always)]
    pub(crate) fn parse<A: Family>(&mut self, side: Side) -> Result<Packet<A>, Malformed> {
        self.reach_for(A::LONGEST);
        A::parse(self, self.arrival(side))
    }

    /// Makes the first `bytes` of the frame linear, or all of it if it is shorter.
    #[inline(always)]
    pub(crate) fn reach_for(&mut self, bytes: u32) {
        let wanted = self.context.len().min(bytes);
        if self.context.data() + wanted as usize > self.context.data_end() {
            // SAFETY: S4 (no pointer into the frame is held). After a failure, the first read that
            // is out of reach fails.
            let _ = unsafe { bpf_skb_pull_data(self.raw, wanted) };
        }
    }

    #[inline(always)]
    pub(crate) fn context(&self) -> &TcContext {
        self.context
    }

    /// Ether type of the frame, in network byte order.
    #[inline(always)]
    pub(crate) fn ether_type(&self) -> Option<u16> {
        self.read::<Ethernet>(0).map(|header| header.ether_type())
    }

    /// Whether the packet has a VLAN tag. The kernel keeps it apart from the frame.
    #[inline(always)]
    pub(crate) fn is_tagged(&self) -> bool {
        // SAFETY: S1 (context field).
        unsafe { (*self.raw).vlan_present != 0 }
    }

    /// Whether the frame's destination MAC is the interface's.
    #[inline(always)]
    pub(crate) fn is_for_host(&self) -> bool {
        // SAFETY: S1 (context field).
        unsafe { (*self.raw).pkt_type == PACKET_HOST }
    }

    /// Whether no socket lookup would find the sender on the host: for a ping, or a socket that is
    /// bound to a device.
    #[inline(always)]
    pub(crate) fn bypasses_socket_lookup<A>(&self, packet: &Packet<A>) -> bool {
        if packet.payload == Payload::Echo {
            return true;
        }
        // SAFETY: S1 (context field). The socket that it points to lives as long as the program
        // runs.
        unsafe {
            let socket = (*self.raw).__bindgen_anon_2.sk;
            if socket.is_null() {
                return false;
            }
            let socket = bpf_sk_fullsock(socket);
            !socket.is_null() && (*socket).bound_dev_if != 0
        }
    }

    /// Index of the interface where the packet arrived; zero if a process of the host sent it.
    #[inline(always)]
    pub(crate) fn ingress_interface(&self) -> u32 {
        // SAFETY: S1 (context field).
        unsafe { (*self.raw).ingress_ifindex }
    }

    /// Whether the program runs on netkit egress, in the container's namespace: the packet has
    /// arrived at no interface yet.
    #[inline(always)]
    pub(crate) fn is_container_egress(&self) -> bool {
        self.ingress_interface() == 0
    }

    /// Whether the packet was processed on netkit egress. Clears the mark that says so.
    #[inline(always)]
    pub(crate) fn take_processed_mark(&mut self) -> bool {
        // SAFETY: S1 (context field).
        unsafe {
            if (*self.raw).mark != PROCESSED_MARK {
                return false;
            }
            (*self.raw).mark = 0;
        }
        true
    }

    /// Marks the packet as processed, on netkit egress only: the next program, at the host side or
    /// the uplink, cannot tell it from a packet that it has to process.
    #[inline(always)]
    pub(crate) fn set_processed_mark(&mut self) {
        if self.is_container_egress() {
            // SAFETY: S1 (context field).
            unsafe { (*self.raw).mark = PROCESSED_MARK }
        }
    }

    /// How the packet arrived.
    #[inline(always)]
    pub(crate) fn arrival(&self, side: Side) -> Arrival {
        Arrival {
            side,
            // SAFETY: S1 (context field).
            input: unsafe { (*self.raw).ifindex },
            length: self.context.len(),
            // SAFETY: S1 (context field).
            gso_size: unsafe { (*self.raw).gso_size },
        }
    }

    /// The `T` at `offset`, for writing. None if it is not within the linear part of the frame.
    #[inline(always)]
    pub(crate) fn write<T: AnyBitPattern + NoUninit>(&mut self, offset: usize) -> Option<&mut T> {
        let at = self.reach::<T>(offset)?;
        // SAFETY: S5 (bytes of the frame).
        Some(unsafe { &mut *at })
    }

    #[inline(always)]
    fn reach<T>(&self, offset: usize) -> Option<*mut T> {
        let at = self.context.data() + offset;
        if at + size_of::<T>() > self.context.data_end() {
            None
        } else {
            Some(ptr::with_exposed_provenance_mut(at))
        }
    }

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
            let macs = now(&translation.macs);
            self.rewrite(packet, translation, &macs).ok_or(DropReason::RewriteFailed)?;
            return Ok(self.redirect(translation, &macs));
        }
        Ok(self.redirect(translation, &translation.macs))
    }

    /// Makes TCP's options linear.
    #[inline(always)]
    pub(crate) fn reach_for_options<A: Family>(&mut self, packet: &Packet<A>) {
        self.reach_for((packet.payload_offset() + tcp_options::LONGEST) as u32);
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
        self.cross_payload(packet, translation)?;
        self.cross(ether_type::IPV4, -beyond::<Ipv6>(packet), translation)?;
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
        self.cross_payload(packet, translation)?;
        self.cross(ether_type::IPV6, -beyond::<Ipv4>(packet), translation)?;
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
        self.cross(
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
        self.cross(
            ether_type::IPV6,
            headers::HEADER_GROWTH.cast_signed() - beyond::<Ipv4>(packet),
            &error.outer,
        )?;
        self.store_head(head6)?;
        Ok(self.redirect(&error.outer, &error.outer.macs))
    }

    /// Rewrites checksums and ports of a packet that changes its family.
    #[inline(always)]
    fn cross_payload(
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
    fn cross(
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
    fn store_head<H: NoUninit>(&mut self, head: &Head<H>) -> Result<(), DropReason> {
        let icmp_at = ETHERNET + size_of::<H>();
        self.store(ETHERNET, &head.outer)?;
        self.store(icmp_at, &head.icmp)?;
        self.store(icmp_at + size_of::<Icmp>(), &head.quoted)?;
        // SAFETY: S4 (no pointer into the frame is held). The helper fails if the skb has no
        // checksum over the frame (`CHECKSUM_COMPLETE`); then there is nothing to update.
        unsafe { bpf_csum_update(self.raw, head.payload_delta.into()) };
        Ok(())
    }

    /// Stores a value in the frame, and updates the checksum over the frame if the device has given
    /// one (`CHECKSUM_COMPLETE`).
    #[inline(always)]
    fn store<T: NoUninit>(&mut self, offset: usize, value: &T) -> Result<(), DropReason> {
        let (from, length) = (ptr::from_ref(value).cast(), size_of::<T>() as u32);
        // SAFETY: S4 (no pointer into the frame is held). `from` has `length` bytes.
        let result = unsafe {
            bpf_skb_store_bytes(self.raw, offset as u32, from, length, BPF_F_RECOMPUTE_CSUM.into())
        };
        if result == 0 { Ok(()) } else { Err(DropReason::RewriteFailed) }
    }

    /// Copies the frame. Returns false if it is too long.
    #[inline(always)]
    pub(crate) fn copy_to(&self, frame: &mut QueuedFrame) -> bool {
        frame.length = self.context.len();
        let length = length_of(frame);
        if length != frame.length {
            return false;
        }
        // SAFETY: the buffer has `QUEUED_FRAME_BYTES` bytes, the most that `length` can be.
        unsafe {
            bpf_skb_load_bytes(self.raw.cast(), 0, frame.bytes.as_mut_ptr().cast(), length) == 0
        }
    }

    /// Replaces the frame by a queued one. Returns false if that failed.
    #[inline(always)]
    pub(crate) fn become_frame(&self, frame: &QueuedFrame) -> bool {
        let length = length_of(frame);
        // SAFETY: S4 (no pointer into the frame is held). The buffer has `QUEUED_FRAME_BYTES`
        // bytes, the most that `length` can be.
        unsafe {
            bpf_skb_change_tail(self.raw, length, 0) == 0
                && bpf_skb_store_bytes(
                    self.raw,
                    0,
                    frame.bytes.as_ptr().cast(),
                    length,
                    BPF_F_RECOMPUTE_CSUM.into(),
                ) == 0
        }
    }

    /// Reinjects a copy of the frame: it arrives at the same interface again.
    #[inline(always)]
    pub(crate) fn reinject(&self) {
        // SAFETY: S4 (no pointer into the frame is held). If there is no memory for the copy it is
        // lost, as any packet may be.
        unsafe {
            bpf_clone_redirect(self.raw, (*self.raw).ifindex, BPF_F_INGRESS.into());
        }
    }

    #[inline(always)]
    fn redirect<A>(&self, translation: &Translation<A>, macs: &Macs) -> Verdict {
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
    fn redirect_into(&self, host_side: u32) -> i64 {
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
    fn update_checksums<A: Family>(
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

    /// Updates the checksum over the frame that some devices give (`CHECKSUM_COMPLETE`), if the
    /// changed header has no checksum of its own. Without one the helper fails, and there is
    /// nothing to update.
    #[inline(always)]
    fn frame_changed<A: Family>(&self, by: u32) {
        if A::HAS_NO_HEADER_CHECKSUM {
            // SAFETY: S4 (no pointer into the frame is held).
            unsafe { bpf_csum_update(self.raw, checksum::fold(by).into()) };
        }
    }

    #[inline(always)]
    fn add_to_checksum(&self, field: u32, delta: u16, flags: u64) -> Result<(), DropReason> {
        // SAFETY: S4 (no pointer into the frame is held). The kernel checks the offset.
        let result = unsafe { bpf_l4_csum_replace(self.raw, field, 0, u64::from(delta), flags) };
        if result == 0 { Ok(()) } else { Err(DropReason::RewriteFailed) }
    }

    #[inline(always)]
    fn rewrite<A: Family>(
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
    fn write_macs(&mut self, macs: &Macs) -> Option<()> {
        // Word by word: a copy of the whole array would be a call.
        let [a, b, c] = macs.words();
        let to = self.write::<[u32; 3]>(0)?;
        to[0] = a;
        to[1] = b;
        to[2] = c;
        Some(())
    }

    #[inline(always)]
    fn rewrite_ports<A: Family>(&mut self, packet: &Packet<A>, tuple: &Tuple<A>) -> Option<()> {
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

/// Length of a queued frame, 1 to [`QUEUED_FRAME_BYTES`]. The mask is for the verifier, which knows
/// nothing of a value that is read from a map.
#[inline(always)]
fn length_of(frame: &QueuedFrame) -> u32 {
    (frame.length.wrapping_sub(1) & (QUEUED_FRAME_BYTES as u32 - 1)) + 1
}

/// Bytes of options or extension headers between a packet's header and its payload.
#[inline(always)]
fn beyond<H>(packet: &Packet<V6>) -> i32 {
    (packet.payload_offset() as u32).cast_signed()
        - ((ETHERNET + size_of::<H>()) as u32).cast_signed()
}

/// The MACs, read once. Race: another CPU may set or clear the MACs of a next hop while the frame
/// is rewritten; the rewrite and the redirect must see the same ones.
#[inline(always)]
fn now(macs: &Macs) -> Macs {
    // SAFETY: a reference is valid for reads.
    unsafe { ptr::read_volatile(macs) }
}

/// An unpredictable number.
#[inline(always)]
pub(crate) fn random() -> u16 {
    // SAFETY: the helper takes no pointer.
    unsafe { bpf_get_prandom_u32() as u16 }
}

impl FrameMut for Skb<'_> {
    #[inline(always)]
    fn put<T: NoUninit>(&mut self, offset: usize, value: &T) -> Option<()> {
        let at = self.reach::<T>(offset)?;
        // SAFETY: S5 (bytes of the frame).
        unsafe { *at = *value };
        Some(())
    }
}

impl Frame for Skb<'_> {
    #[inline(always)]
    fn read<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        // SAFETY: S5 (bytes of the frame).
        self.reach::<T>(offset).map(|at| unsafe { *at })
    }
}

const _: () = assert!(ETHERNET == size_of::<Ethernet>());
