//! Fields of the context of a tc program.

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_sk_fullsock, programs::TcContext};

/// The fields, each read when it is asked for: the kernel computes it from the skb.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(*mut __sk_buff, core::marker::PhantomData<&'a TcContext>);

macro_rules! getters {
    ($($(#[$meta:meta])* $name:ident = $field:ident;)+) => {$(
        $(#[$meta])*
        #[inline(always)]
        pub(super) fn $name(self) -> u32 {
            // SAFETY: S1: the context is borrowed for as long as `self` lives.
            unsafe { (*self.0).$field }
        }
    )+};
}

impl<'a> Fields<'a> {
    #[inline(always)]
    pub(super) fn new(context: &'a TcContext) -> Self {
        Self(context.skb.skb, core::marker::PhantomData)
    }

    getters! {
        /// Not zero if the packet has a VLAN tag, which the kernel keeps apart from the frame.
        vlan_present = vlan_present;
        /// `PACKET_HOST` and the like.
        packet_type = pkt_type;
        /// Index of the interface where the packet arrived; zero if a process of the host sent it.
        ingress_ifindex = ingress_ifindex;
        /// Index of the interface that the program runs at.
        ifindex = ifindex;
        /// Bytes of payload in each segment of a GSO packet; zero for any other.
        gso_size = gso_size;
        /// The packet's mark.
        mark = mark;
    }

    /// Sets the packet's mark.
    #[inline(always)]
    pub(super) fn set_mark(self, mark: u32) {
        // SAFETY: S1: a field that the program may write.
        unsafe { (*self.0).mark = mark }
    }

    /// Whether the sender's socket is bound to a device.
    #[inline(always)]
    pub(super) fn socket_is_bound_to_device(self) -> bool {
        // SAFETY: S1: the socket lives as long as the program runs, and is checked for null before
        // it is read.
        unsafe {
            let socket = (*self.0).__bindgen_anon_2.sk;
            if socket.is_null() {
                return false;
            }
            let socket = bpf_sk_fullsock(socket);
            !socket.is_null() && (*socket).bound_dev_if != 0
        }
    }
}
