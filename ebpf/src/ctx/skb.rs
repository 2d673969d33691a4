//! The skb of a tc program: reads and writes. No other module holds a pointer into a frame of tc.

use core::{marker::PhantomData, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, BPF_F_RECOMPUTE_CSUM},
    helpers::{
        bpf_clone_redirect, bpf_csum_update, bpf_get_prandom_u32, bpf_l4_csum_replace,
        bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use bytemuck::{AnyBitPattern, NoUninit};
use causeway_common::{
    abi::{Macs, QUEUED_FRAME_BYTES, QueuedFrame, drop_reason::DropReason},
    wire::{
        checksum,
        ethernet::{ETHERNET, Ethernet},
        frame::{Frame, FrameMut},
        packet::{Arrival, Malformed, Packet, Payload},
        tcp_options,
        tuple::Side,
    },
};

use super::fields::Fields;
use crate::family::Family;

pub(super) const PACKET_HOST: u32 = 0;

/// `skb->mark` of a packet that was processed on netkit egress, so that the next program (host side
/// or uplink) does not process it again. The kernel clears marks that a container sets when the
/// packet leaves its namespace.
const PROCESSED_MARK: u32 = 0xca5e_0001;

/// The skb that a tc program runs for.
pub(crate) struct Skb<'a> {
    pub(super) raw: *mut __sk_buff,
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

    /// Fields of the context.
    #[inline(always)]
    fn fields(&self) -> Fields<'a> {
        Fields::new(self.context)
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
        self.fields().vlan_present() != 0
    }

    /// Whether the frame's destination MAC is the interface's.
    #[inline(always)]
    pub(crate) fn is_for_host(&self) -> bool {
        self.fields().packet_type() == PACKET_HOST
    }

    /// Whether no socket lookup would find the sender on the host: for a ping, or a socket that is
    /// bound to a device.
    #[inline(always)]
    pub(crate) fn bypasses_socket_lookup<A>(&self, packet: &Packet<A>) -> bool {
        if packet.payload == Payload::Echo {
            return true;
        }
        self.fields().socket_is_bound_to_device()
    }

    /// Index of the interface where the packet arrived; zero if a process of the host sent it.
    #[inline(always)]
    pub(crate) fn ingress_interface(&self) -> u32 {
        self.fields().ingress_ifindex()
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
        let fields = self.fields();
        if fields.mark() != PROCESSED_MARK {
            return false;
        }
        fields.set_mark(0);
        true
    }

    /// Marks the packet as processed, on netkit egress only: the next program, at the host side or
    /// the uplink, cannot tell it from a packet that it has to process.
    #[inline(always)]
    pub(crate) fn set_processed_mark(&mut self) {
        if self.is_container_egress() {
            self.fields().set_mark(PROCESSED_MARK);
        }
    }

    /// How the packet arrived.
    #[inline(always)]
    pub(crate) fn arrival(&self, side: Side) -> Arrival {
        Arrival {
            side,
            input: self.fields().ifindex(),
            length: self.context.len(),
            gso_size: self.fields().gso_size(),
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

    /// Makes TCP's options linear.
    #[inline(always)]
    pub(crate) fn reach_for_options<A: Family>(&mut self, packet: &Packet<A>) {
        self.reach_for((packet.payload_offset() + tcp_options::LONGEST) as u32);
    }

    /// Stores a value in the frame, and updates the checksum over the frame if the device has given
    /// one (`CHECKSUM_COMPLETE`).
    #[inline(always)]
    pub(super) fn store<T: NoUninit>(
        &mut self,
        offset: usize,
        value: &T,
    ) -> Result<(), DropReason> {
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
            bpf_clone_redirect(self.raw, self.fields().ifindex(), BPF_F_INGRESS.into());
        }
    }

    /// Updates the checksum over the frame that some devices give (`CHECKSUM_COMPLETE`), if the
    /// changed header has no checksum of its own. Without one the helper fails, and there is
    /// nothing to update.
    #[inline(always)]
    pub(super) fn frame_changed<A: Family>(&self, by: u32) {
        if A::HAS_NO_HEADER_CHECKSUM {
            // SAFETY: S4 (no pointer into the frame is held).
            unsafe { bpf_csum_update(self.raw, checksum::fold(by).into()) };
        }
    }

    #[inline(always)]
    pub(super) fn add_to_checksum(
        &self,
        field: u32,
        delta: u16,
        flags: u64,
    ) -> Result<(), DropReason> {
        // SAFETY: S4 (no pointer into the frame is held). The kernel checks the offset.
        let result = unsafe { bpf_l4_csum_replace(self.raw, field, 0, u64::from(delta), flags) };
        if result == 0 { Ok(()) } else { Err(DropReason::RewriteFailed) }
    }

    #[inline(always)]
    pub(super) fn write_macs(&mut self, macs: &Macs) -> Option<()> {
        // Word by word: a copy of the whole array would be a call.
        let [a, b, c] = macs.words();
        let to = self.write::<[u32; 3]>(0)?;
        to[0] = a;
        to[1] = b;
        to[2] = c;
        Some(())
    }
}

/// Length of a queued frame, 1 to [`QUEUED_FRAME_BYTES`]. The mask is for the verifier, which knows
/// nothing of a value that is read from a map.
#[inline(always)]
fn length_of(frame: &QueuedFrame) -> u32 {
    (frame.length.wrapping_sub(1) & (QUEUED_FRAME_BYTES as u32 - 1)) + 1
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
