//! Checks of what a container announces on its link: addresses and MACs must be its own.

pub mod arp;
pub mod link;
pub mod ndp;
