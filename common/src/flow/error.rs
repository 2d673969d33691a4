//! Translation of an ICMP error that belongs to a flow.

use bytemuck::Zeroable as _;

use crate::{
    abi::translation::Translation,
    wire::{address::Address, quote::Quote, tuple::Tuple},
};

/// Translation of an ICMP error and of the packet that it quotes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ErrorTranslation<A> {
    /// Translation of the error itself. Its tuple has no ports.
    pub outer: Translation<A>,
    /// The quoted packet as it arrived: its tuple, and the offsets of its headers.
    pub quote: Quote<A>,
    /// The quoted tuple after translation: as the quoted packet's sender sent it.
    pub quoted: Tuple<A>,
}

impl<A: Address> ErrorTranslation<A> {
    /// An empty value, to be filled in place.
    pub fn none() -> Self {
        Self {
            outer: Translation::zeroed(),
            quote: Quote { tuple: Tuple::zeroed(), header_at: 0, payload_at: 0 },
            quoted: Tuple::zeroed(),
        }
    }
}
