//! The contexts of programs, and the only pointers into frames.

pub(crate) mod skb;
