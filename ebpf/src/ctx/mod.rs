//! The contexts of programs, and the only pointers into frames.

mod fields;
mod forward;
mod nat64;
pub(crate) mod skb;
pub(crate) mod sock_addr;
pub(crate) mod xdp;
