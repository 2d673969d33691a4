//! What a container may claim about itself on its link.

pub mod arp;
pub mod link;
pub mod ndp;
