//! `Pod` for the generic layouts of the maps. bytemuck cannot derive it for a generic struct; here
//! assertions show for both families that there is no padding.

#![expect(
    unsafe_code,
    reason = "bytemuck's traits are unsafe to implement, and its derive refuses generic structs"
)]

use bytemuck::{Pod, Zeroable};
use core::mem::size_of;

use crate::{
    abi::{
        endpoint::Endpoint,
        flow_entry::FlowEntry,
        fragment::{Datagram, QueuedKey},
        publish::{AddressPort, Admitted, Publish},
        socket::{SocketAddress, SocketPeer},
        translation::Translation,
        uplink::Uplink,
    },
    wire::{
        address::{Address, V4, V6},
        tuple::Tuple,
    },
};

macro_rules! plain {
    ($($layout:ident: $rest:literal bytes and $addresses:literal addresses;)+) => {$(
        // SAFETY: every field is zeroable: integers, arrays of them, and other layouts of this
        // list.
        unsafe impl<A: Address> Zeroable for $layout<A> {}
        // SAFETY: `repr(C)`, every field is `Pod`, and the assertions show for both families that
        // the size is the sum of the fields.
        unsafe impl<A: Address> Pod for $layout<A> {}
        const _: () = assert!(size_of::<$layout<V4>>() == $rest + $addresses * 4);
        const _: () = assert!(size_of::<$layout<V6>>() == $rest + $addresses * 16);
    )+};
}

plain! {
    Tuple: 8 bytes and 2 addresses;
    Translation: 32 bytes and 2 addresses;
    FlowEntry: 80 bytes and 2 addresses;
    Endpoint: 36 bytes and 3 addresses;
    Publish: 8 bytes and 1 addresses;
    AddressPort: 4 bytes and 1 addresses;
    Admitted: 4 bytes and 1 addresses;
    SocketPeer: 12 bytes and 1 addresses;
    Uplink: 4 bytes and 1 addresses;
    SocketAddress: 4 bytes and 1 addresses;
    Datagram: 12 bytes and 2 addresses;
    QueuedKey: 16 bytes and 2 addresses;
}
