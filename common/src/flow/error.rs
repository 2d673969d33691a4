//! How an ICMP error of a flow is translated.

use bytemuck::Zeroable as _;

use crate::{
    abi::translation::Translation,
    wire::{address::Address, quote::Quote, tuple::Tuple},
};

/// How an error is translated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ErrorTranslation<A> {
    /// Of the error itself; its tuple has no ports.
    pub outer: Translation<A>,
    /// What it quotes.
    pub quote: Quote<A>,
    /// The quoted tuple, translated back.
    pub quoted: Tuple<A>,
}

impl<A: Address> ErrorTranslation<A> {
    /// Nothing is known yet.
    pub fn none() -> Self {
        Self {
            outer: Translation::zeroed(),
            quote: Quote { tuple: Tuple::zeroed(), header_at: 0, payload_at: 0 },
            quoted: Tuple::zeroed(),
        }
    }
}
