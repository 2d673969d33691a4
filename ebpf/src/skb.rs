//! The packet in the kernel: reads, the one place that rewrites, and redirects. Nothing else holds
//! a pointer into a frame.

use core::{marker::PhantomData, ptr};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET, BPF_F_INGRESS,
        BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM,
        bpf_adj_room_mode::BPF_ADJ_ROOM_NET, tcx_action_base::TCX_NEXT,
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
    abi::{Macs, QUEUED_FRAME_BYTES, QueuedFrame, Translation, deliver, drop_reason::DropReason},
    flow::error::ErrorTranslation,
    nat::{fragment, icmp_error, nat64},
    scratch::Scratch,
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
        tuple::{Tuple, echo, side},
    },
};

use crate::maps::Family;

const PACKET_HOST: u32 = 0;

/// The mark of a packet that was decided about where its container sent it, from there to the next
/// program of ours. The kernel takes away what mark a container gives its packets.
const PROCESSED_MARK: u32 = 0xca5e_0001;

/// A frame that a tc program was called for.
pub(crate) struct Skb<'a> {
    raw: *mut __sk_buff,
    context: &'a TcContext,
    _frame: PhantomData<&'a [u8]>,
}

impl<'a> Skb<'a> {
    /// The frame. Of its bytes only those of the Ethernet header are in reach for sure.
    #[inline(always)]
    pub(crate) fn new(context: &'a TcContext) -> Self {
        Self { raw: context.skb.skb, context, _frame: PhantomData }
    }

    /// Parses a packet whose header has nothing in it that nearly none has; see [`Self::parse`].
    #[inline(always)]
    pub(crate) fn parse_usual<A: Family>(&mut self, side: u8) -> Result<Packet<A>, Malformed> {
        self.reach_for(A::USUAL);
        A::parse_usual(self, self.arrival(side))
    }

    /// Parses the packet, its headers brought in reach: a driver may have left them in a fragment.
    #[inline(always)]
    pub(crate) fn parse<A: Family>(&mut self, side: u8) -> Result<Packet<A>, Malformed> {
        self.reach_for(A::LONGEST);
        A::parse(self, self.arrival(side))
    }

    /// Brings the first `bytes` of the frame in reach, or what there is of them.
    #[inline(always)]
    pub(crate) fn reach_for(&mut self, bytes: u32) {
        let wanted = self.context.len().min(bytes);
        if self.context.data() + wanted as usize > self.context.data_end() {
            // A failure shows in the first read that finds nothing.
            // SAFETY: no pointer into the frame is held.
            let _ = unsafe { bpf_skb_pull_data(self.raw, wanted) };
        }
    }

    #[inline(always)]
    pub(crate) fn context(&self) -> &TcContext {
        self.context
    }

    /// The type of the frame, as the frame's bytes stand in a word.
    #[inline(always)]
    pub(crate) fn ether_type(&self) -> Option<u16> {
        self.read::<Ethernet>(0).map(|header| header.ether_type())
    }

    /// Whether it carries a VLAN tag, which the kernel has put aside.
    #[inline(always)]
    pub(crate) fn is_tagged(&self) -> bool {
        // SAFETY: a field of the program's context.
        unsafe { (*self.raw).vlan_present != 0 }
    }

    /// Whether its destination MAC is the interface's.
    #[inline(always)]
    pub(crate) fn is_for_host(&self) -> bool {
        // SAFETY: a field of the program's context.
        unsafe { (*self.raw).pkt_type == PACKET_HOST }
    }

    /// Whether no socket lookup would find who of the host sends it: a ping, or a socket bound to a
    /// device.
    #[inline(always)]
    pub(crate) fn bypasses_socket_lookup<A>(&self, packet: &Packet<A>) -> bool {
        if packet.payload == Payload::Echo {
            return true;
        }
        // SAFETY: a field of the program's context, and what it points to as long as the program
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

    /// The interface it came to the host by, zero if a process of the host sent it.
    #[inline(always)]
    pub(crate) fn ingress_interface(&self) -> u32 {
        // SAFETY: a field of the program's context.
        unsafe { (*self.raw).ingress_ifindex }
    }

    /// Whether it is where its container sends it, at the other end of a netkit pair: it has come
    /// to nowhere yet.
    #[inline(always)]
    pub(crate) fn is_container_egress(&self) -> bool {
        self.ingress_interface() == 0
    }

    /// Whether it has been decided about where its container sent it. What says so goes with that.
    #[inline(always)]
    pub(crate) fn take_processed_mark(&mut self) -> bool {
        // SAFETY: a field of the program's context.
        unsafe {
            if (*self.raw).mark != PROCESSED_MARK {
                return false;
            }
            (*self.raw).mark = 0;
        }
        true
    }

    /// Notes that it has been decided about, if that was where its container sends it: what comes
    /// next, the host side or an uplink on its way out, cannot tell it from what it decides about
    /// itself.
    #[inline(always)]
    pub(crate) fn set_processed_mark(&mut self) {
        if self.is_container_egress() {
            // SAFETY: a field of the program's context.
            unsafe { (*self.raw).mark = PROCESSED_MARK }
        }
    }

    /// Where and how it arrived.
    #[inline(always)]
    pub(crate) fn arrival(&self, side: u8) -> Arrival {
        Arrival {
            side,
            // SAFETY: a field of the program's context.
            input: unsafe { (*self.raw).ifindex },
            length: self.context.len(),
            // SAFETY: a field of the program's context.
            gso_size: unsafe { (*self.raw).gso_size },
        }
    }

    /// What stands at `offset`, to be changed.
    #[inline(always)]
    pub(crate) fn write<T: AnyBitPattern + NoUninit>(&mut self, offset: usize) -> Option<&mut T> {
        let at = self.reach::<T>(offset)?;
        // SAFETY: within the frame, and any bytes are a `T`. Its alignment may be less than `T`'s,
        // which is nothing to the machines that BPF runs on (the kernel's own structures are read
        // so).
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

    /// Rewrites the packet and sends it on. Answers the action.
    #[inline(always)]
    pub(crate) fn leave<A: Family>(
        &mut self,
        packet: &Packet<A>,
        translation: &Translation<A>,
    ) -> Result<i32, DropReason> {
        if translation.deliver == deliver::SAME_BRIDGE {
            self.write_macs(&translation.macs).ok_or(DropReason::RewriteFailed)?;
        } else if translation.deliver == deliver::STACK {
            if translation.port_delta != 0 {
                self.update_checksums(packet, translation)?;
                self.rewrite_ports(packet, &translation.tuple).ok_or(DropReason::RewriteFailed)?;
            }
            return Ok(TCX_NEXT);
        } else {
            // Whatever fails from here on leaves the packet half translated: it ends.
            self.update_checksums(packet, translation)?;
            // Either the payload's checksum makes up for the addresses, but then the helper has
            // taken them from the sum already (as is right for IPv4; mended by a flag in Linux
            // 6.16, commit ead7f9b8de65); or it does not (SCTP), and they count.
            self.frame_changed::<A>(u32::from(translation.address_delta) + u32::from(A::ONE_HOP));
            let macs = now(&translation.macs);
            self.rewrite(packet, translation, &macs).ok_or(DropReason::RewriteFailed)?;
            return Ok(self.redirect(translation, &macs));
        }
        Ok(self.redirect(translation, &translation.macs))
    }

    /// Brings TCP's options in reach.
    #[inline(always)]
    pub(crate) fn reach_for_options<A: Family>(&mut self, packet: &Packet<A>) {
        self.reach_for((payload_at(packet) + tcp_options::LONGEST) as u32);
    }

    /// Lowers the longest segment that was found in TCP's options, if it is longer than `limit`
    /// bytes.
    #[inline(always)]
    pub(crate) fn lower_mss<A: Family>(
        &mut self,
        packet: &Packet<A>,
        search: &MssSearch,
        limit: u16,
    ) -> Result<(), DropReason> {
        match search.lower(self, limit).ok_or(DropReason::RewriteFailed)? {
            0 => Ok(()),
            delta => self.add_to_checksum((payload_at(packet) + 16) as u32, delta, 0),
        }
    }

    /// Rewrites an ICMP error and what it quotes, and sends it on. Answers the action.
    #[inline(always)]
    pub(crate) fn leave_error<A: Family>(
        &mut self,
        packet: &Packet<A>,
        translation: &ErrorTranslation<A>,
    ) -> Result<i32, DropReason> {
        if translation.outer.deliver == deliver::CONTAINER {
            self.write_macs(&translation.outer.macs).ok_or(DropReason::RewriteFailed)?;
        }
        icmp_error::apply(self, payload_at(packet), translation)
            .ok_or(DropReason::RewriteFailed)?;
        if translation.outer.deliver != deliver::STACK {
            self.frame_changed::<A>(A::ONE_HOP.into());
        }
        Ok(self.redirect(&translation.outer, &translation.outer.macs))
    }

    /// Puts an error in the frame's place, and sends it to where that came from. Answers the
    /// action.
    #[inline(always)]
    pub(crate) fn send_back<A>(&mut self, packet: &Packet<A>, error: &IcmpError) -> Option<i32> {
        let length = u32::from(error.length);
        if length < ETHERNET as u32 || length > icmp::MAX_FRAME as u32 {
            return None;
        }
        // A sum that was left to the hardware stays so. Only who is near sends such, and is
        // believed by those who are; but an uplink that does not leave it to the hardware either
        // spoils the error. SAFETY: no pointer into the frame is held, and the buffer is as long as
        // said.
        unsafe {
            if bpf_skb_change_tail(self.raw, length, 0) != 0
                || bpf_skb_store_bytes(self.raw, 0, error.bytes.as_ptr().cast(), length, 0) != 0
            {
                return None;
            }
            let action = if packet.tuple.side == side::CONTAINER {
                self.redirect_into(packet.input)
            } else {
                bpf_redirect(packet.input, 0)
            };
            Some(action as i32)
        }
    }

    /// Rewrites a fragment and sends it on. Answers the action.
    #[inline(always)]
    pub(crate) fn leave_fragment<A: Family>(
        &mut self,
        packet: &Packet<A>,
        translation: &Translation<A>,
        id: u32,
    ) -> Result<i32, DropReason> {
        if fragment::is_translated(translation) {
            A::rewrite_id(self, packet, id).ok_or(DropReason::RewriteFailed)?;
            let words = |id: u32| (id & 0xffff) + (id >> 16);
            self.frame_changed::<A>(checksum::delta(words(packet.id), words(id)).into());
        } else if !packet.first_fragment && translation.deliver == deliver::STACK {
            return Ok(TCX_NEXT);
        }
        if packet.first_fragment || !fragment::is_translated(translation) {
            return self.leave(packet, translation);
        }
        if translation.deliver == deliver::CONTAINER {
            self.write_macs(&translation.macs).ok_or(DropReason::RewriteFailed)?;
        }
        A::rewrite(
            self.write::<A::Header>(ETHERNET).ok_or(DropReason::RewriteFailed)?,
            translation,
        );
        // The checksum that makes up for the addresses is in the first fragment.
        self.frame_changed::<A>(u32::from(translation.address_delta) + u32::from(A::ONE_HOP));
        Ok(self.redirect(translation, &translation.macs))
    }

    /// Makes an IPv6 packet one of IPv4 and sends it on. Answers the action.
    #[inline(always)]
    pub(crate) fn leave_as_ipv4(&mut self, scratch: &mut Scratch<V6>) -> Result<i32, DropReason> {
        let Scratch { packet, entry, head4, .. } = scratch;
        let translation = &entry.translation;
        nat64::to_ipv4(self, packet, &translation.tuple, random(), head4)
            .ok_or(DropReason::RewriteFailed)?;
        self.cross_payload(packet, translation)?;
        self.cross(ether_type::IPV4, -beyond::<Ipv6>(packet), translation)?;
        self.store(ETHERNET, &head4.outer)?;
        Ok(self.redirect(translation, &translation.macs))
    }

    /// Makes an IPv4 packet one of IPv6 and sends it on. Answers the action.
    #[inline(always)]
    pub(crate) fn leave_as_ipv6(&mut self, scratch: &mut Scratch<V6>) -> Result<i32, DropReason> {
        let Scratch { packet, entry, head6, .. } = scratch;
        let translation = &entry.translation;
        if packet.payload == Payload::Udp && self.read(payload_at(packet) + 6).unwrap_or(0_u16) == 0
        {
            return Err(DropReason::NoChecksum);
        }
        nat64::to_ipv6(self, packet, &translation.tuple, head6).ok_or(DropReason::RewriteFailed)?;
        self.cross_payload(packet, translation)?;
        self.cross(ether_type::IPV6, -beyond::<Ipv4>(packet), translation)?;
        self.store(ETHERNET, &head6.outer)?;
        Ok(self.redirect(translation, &translation.macs))
    }

    /// Gives an IPv6 error the headers that were made for it in IPv4, and sends it on. Answers the
    /// action.
    #[inline(always)]
    pub(crate) fn leave_error_as_ipv4(&mut self, scratch: &Scratch<V6>) -> Result<i32, DropReason> {
        let Scratch { packet, error_translation: error, head4, .. } = scratch;
        self.cross(
            ether_type::IPV4,
            -beyond::<Ipv6>(packet) - headers::HEADER_GROWTH.cast_signed(),
            &error.outer,
        )?;
        self.store_head(head4)?;
        Ok(self.redirect(&error.outer, &error.outer.macs))
    }

    /// Gives an IPv4 error the headers that were made for it in IPv6, and sends it on. Answers the
    /// action.
    #[inline(always)]
    pub(crate) fn leave_error_as_ipv6(&mut self, scratch: &Scratch<V6>) -> Result<i32, DropReason> {
        let Scratch { packet, error_translation: error, head6, .. } = scratch;
        self.cross(
            ether_type::IPV6,
            headers::HEADER_GROWTH.cast_signed() - beyond::<Ipv4>(packet),
            &error.outer,
        )?;
        self.store_head(head6)?;
        Ok(self.redirect(&error.outer, &error.outer.macs))
    }

    /// Rewrites what comes after the header of a packet that gets one of the other family.
    #[inline(always)]
    fn cross_payload(
        &mut self,
        packet: &Packet<V6>,
        translation: &Translation<V6>,
    ) -> Result<(), DropReason> {
        self.update_checksums(packet, translation)?;
        self.rewrite_ports(packet, &translation.tuple).ok_or(DropReason::RewriteFailed)
    }

    /// Makes the frame one of the other family's, whose header is to be stored. `room` bytes are
    /// added after that header, or removed.
    #[inline(always)]
    fn cross(
        &mut self,
        ether_type: u16,
        room: i32,
        translation: &Translation<V6>,
    ) -> Result<(), DropReason> {
        // SAFETY: no pointer into the frame is held.
        unsafe {
            // The sizes of segments stay: they were asked for with the longer header in mind.
            let flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET);
            if (room != 0 && bpf_skb_adjust_room(self.raw, room, BPF_ADJ_ROOM_NET, flags) != 0)
                || bpf_skb_change_proto(self.raw, ether_type, 0) != 0
            {
                return Err(DropReason::RewriteFailed);
            }
        }
        if translation.deliver != deliver::UPLINK || translation.macs.is_resolved() {
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
        // SAFETY: no pointer into the frame is held. Where there is no sum over the frame this
        // fails, and nothing is to be done.
        unsafe { bpf_csum_update(self.raw, head.payload_delta.into()) };
        Ok(())
    }

    /// Stores a value in the frame, and in the sum over it that some devices give.
    #[inline(always)]
    fn store<T: NoUninit>(&mut self, offset: usize, value: &T) -> Result<(), DropReason> {
        let (from, length) = (ptr::from_ref(value).cast(), size_of::<T>() as u32);
        // SAFETY: no pointer into the frame is held, and there are as many bytes.
        let result = unsafe {
            bpf_skb_store_bytes(self.raw, offset as u32, from, length, BPF_F_RECOMPUTE_CSUM.into())
        };
        if result == 0 { Ok(()) } else { Err(DropReason::RewriteFailed) }
    }

    /// Copies the frame; false if it is too long.
    #[inline(always)]
    pub(crate) fn copy_to(&self, frame: &mut QueuedFrame) -> bool {
        frame.length = self.context.len();
        let length = length_of(frame);
        if length != frame.length {
            return false;
        }
        // SAFETY: there are as many bytes as the length can say.
        unsafe {
            bpf_skb_load_bytes(self.raw.cast(), 0, frame.bytes.as_mut_ptr().cast(), length) == 0
        }
    }

    /// Replaces the frame by another; false if that failed.
    #[inline(always)]
    pub(crate) fn become_frame(&self, frame: &QueuedFrame) -> bool {
        let length = length_of(frame);
        // SAFETY: no pointer into the frame is held, and there are as many bytes as the length can
        // say.
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

    /// Sends a copy of the frame into the interface where it arrived, as if it arrived now.
    #[inline(always)]
    pub(crate) fn reinject(&self) {
        // SAFETY: no pointer into the frame is held. A copy that there is no memory for is lost, as
        // any packet may be.
        unsafe {
            bpf_clone_redirect(self.raw, (*self.raw).ifindex, BPF_F_INGRESS.into());
        }
    }

    #[inline(always)]
    fn redirect<A>(&self, translation: &Translation<A>, macs: &Macs) -> i32 {
        if translation.deliver == deliver::STACK {
            return TCX_NEXT;
        }
        // SAFETY: redirects by number; the kernel checks what it finds there.
        let action = unsafe {
            if translation.deliver == deliver::UPLINK && macs.is_resolved() {
                bpf_redirect(translation.output, 0)
            } else if translation.deliver == deliver::UPLINK {
                bpf_redirect_neigh(translation.output, ptr::null_mut(), 0, 0)
            } else {
                self.redirect_into(translation.output)
            }
        };
        action as i32
    }

    /// Into the container of a host side.
    #[inline(always)]
    fn redirect_into(&self, host_side: u32) -> i64 {
        // SAFETY: redirects by number; the kernel checks what it finds there.
        unsafe {
            // The short way is for what has arrived.
            if self.is_container_egress() {
                return bpf_redirect(host_side, 0);
            }
            // Before Linux 6.15 the packet keeps the type it had for the interface it arrived at.
            if !self.is_for_host() {
                bpf_skb_change_type(self.raw, PACKET_HOST);
            }
            bpf_redirect_peer(host_side, 0)
        }
    }

    /// By helper, because only the kernel knows whether the field is a full sum or, with
    /// `CHECKSUM_PARTIAL`, one over the pseudo header alone.
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
        let field = (payload_at(packet) + offset) as u32;
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

    /// Tells the sum over the frame that some devices give what a header without a checksum of its
    /// own has changed by. Where there is no such sum this fails, and nothing is to be done.
    #[inline(always)]
    fn frame_changed<A: Family>(&self, by: u32) {
        if A::HAS_NO_HEADER_CHECKSUM {
            // SAFETY: no pointer into the frame is held.
            unsafe { bpf_csum_update(self.raw, checksum::fold(by).into()) };
        }
    }

    #[inline(always)]
    fn add_to_checksum(&self, field: u32, delta: u16, flags: u64) -> Result<(), DropReason> {
        // SAFETY: no pointer into the frame is held; the kernel checks the offset.
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
        if translation.deliver == deliver::CONTAINER || macs.is_resolved() {
            self.write_macs(macs)?;
        }
        A::rewrite(self.write::<A::Header>(ETHERNET)?, translation);
        self.rewrite_ports(packet, tuple)
    }

    #[inline(always)]
    fn write_macs(&mut self, macs: &Macs) -> Option<()> {
        // Word by word: as a whole it is a call.
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
            echo::NONE => {
                *self.write::<[Port; 2]>(payload_at(packet))? =
                    [tuple.source_port, tuple.destination_port]
            }
            echo::REQUEST => *self.write::<Port>(payload_at(packet) + 4)? = tuple.source_port,
            _ => *self.write::<Port>(payload_at(packet) + 4)? = tuple.destination_port,
        }
        Some(())
    }
}

/// The length of a held frame: 1 to [`QUEUED_FRAME_BYTES`], which the verifier cannot know of one that lies
/// in a map.
#[inline(always)]
fn length_of(frame: &QueuedFrame) -> u32 {
    (frame.length.wrapping_sub(1) & (QUEUED_FRAME_BYTES as u32 - 1)) + 1
}

/// Bytes between the header of a packet and its payload.
#[inline(always)]
fn beyond<H>(packet: &Packet<V6>) -> i32 {
    (payload_at(packet) as u32).cast_signed() - ((ETHERNET + size_of::<H>()) as u32).cast_signed()
}

/// The MACs, read once: another CPU may learn or forget those of a next hop while the frame is
/// rewritten by them and sent as they say.
#[inline(always)]
fn now(macs: &Macs) -> Macs {
    // SAFETY: they are there to be read.
    unsafe { ptr::read_volatile(macs) }
}

/// A number nobody can foretell.
#[inline(always)]
pub(crate) fn random() -> u16 {
    // SAFETY: reads a generator.
    unsafe { bpf_get_prandom_u32() as u16 }
}

/// Where the payload begins, with a bound that the verifier cannot know of a packet that was put
/// aside.
#[inline(always)]
pub(crate) fn payload_at<A: Family>(packet: &Packet<A>) -> usize {
    packet.payload_at & A::PAYLOAD_MASK
}

impl FrameMut for Skb<'_> {
    #[inline(always)]
    fn put<T: NoUninit>(&mut self, offset: usize, value: &T) -> Option<()> {
        let at = self.reach::<T>(offset)?;
        // SAFETY: within the frame, and a `T` is plain bytes. For its alignment see `write`.
        unsafe { *at = *value };
        Some(())
    }
}

impl Frame for Skb<'_> {
    #[inline(always)]
    fn read<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        // SAFETY: within the frame, and any bytes are a `T`. For its alignment see `write`.
        self.reach::<T>(offset).map(|at| unsafe { *at })
    }
}

const _: () = assert!(ETHERNET == size_of::<Ethernet>());
