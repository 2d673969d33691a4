//! The order of a packet's steps, written once: the kernel's programs, the model that tests compare
//! them with, and the fuzz targets all run these functions.
//!
//! | hook | function |
//! |---|---|
//! | tc ingress on a host side | [`from_container`] |
//! | tc ingress on an uplink | [`from_uplink`] |
//! | tc egress on an uplink | [`to_uplink`] |
//! | tc egress on a bridge | [`to_bridge`] |
//! | XDP on an uplink | [`crate::xdp`], the part of [`from_uplink`] that needs no skb |
//!
//! ```text
//! from_container, from_uplink                       to_uplink
//!  fast path: entry of the flow, no state change     host fast path: of no tracked flow
//!  parse: IP options, extension headers              parse
//!  slow path: state, next hop, expiry                ICMP error, or the host's own flow
//!  NAT64: IPv4 answer to an IPv6 client              plan, create
//!  link: ARP, ND, MLD of a container                 send
//!  fragment: record, queue, reinject
//!  ICMP error: translated with its quote
//!  plan: which flow may begin
//!  mapping: endpoint-independent, reused or created
//!  create: a port, two entries; evict when full
//!  send: TTL, MTU, MSS; rewrite, redirect
//!  ICMP reply to a packet that was refused
//! ```
//!
//! [`Steps`] says what a step is. Its default methods call the pure functions. The kernel replaces
//! those that must be functions of their own, because the verifier looks at a function once, and
//! because the stack frames of nested calls share 512 bytes.

mod create;
mod fragment;
mod host;
mod ingress;
mod nat64;
mod send;
mod steps;

use crate::{
    abi::drop_reason::DropReason,
    guard::arp,
    verdict::Verdict,
    wire::{
        address::{V4, V6},
        ethernet::ether_type,
        tuple::Side,
    },
};

pub use self::{
    create::{create, create_with_eviction},
    fragment::fragment,
    host::{host_egress, host_fast_path, host_flow, host_slow_path, plan_host_flow},
    ingress::{error, fast_path, first_packet, ingress, parse, slow_path},
    nat64::{nat64, translate_ipv4_error},
    send::{reply, send, send_or_nat64},
    steps::{Family, Link, Nat64Client, Nat64Steps, NoFlow, Steps},
};

/// tc ingress on a host side: what a container sends.
#[inline(always)]
pub fn from_container<S: Link + Steps<V4> + Steps<V6>>(steps: &S) -> Verdict {
    let stop = |reason| Steps::<V4>::stop(steps, reason);
    if steps.is_tagged() {
        return stop(DropReason::NotIp);
    }
    match steps.ether_type() {
        Some(ether_type::IPV4) => ingress::<V4>(steps, Side::CONTAINER, DropReason::Malformed),
        Some(ether_type::IPV6) => ingress::<V6>(steps, Side::CONTAINER, DropReason::Malformed),
        Some(ether_type::ARP) => {
            let frame = Steps::<V4>::frame(steps, arp::HEADERS);
            let arrival = steps.arrival(Side::CONTAINER);
            stop(arp::from_container(&frame, arrival, Steps::<V4>::env(steps)))
        }
        _ => stop(DropReason::NotIp),
    }
}

/// tc ingress on an uplink: replies, and published ports.
#[inline(always)]
pub fn from_uplink<S: Link + Steps<V4> + Steps<V6>>(steps: &S) -> Verdict {
    let not_ours = || Steps::<V4>::stop(steps, DropReason::NotOurs);
    if steps.is_tagged() || !steps.is_for_host() {
        return not_ours();
    }
    match steps.ether_type() {
        Some(ether_type::IPV4) => ingress::<V4>(steps, Side::UPLINK, DropReason::NotOurs),
        Some(ether_type::IPV6) => ingress::<V6>(steps, Side::UPLINK, DropReason::NotOurs),
        _ => not_ours(),
    }
}

/// tc egress on an uplink, of what the host itself sends: it leaves as it is, unless it shares a
/// tuple with a flow.
#[inline(always)]
pub fn to_uplink<S: Link + Steps<V4> + Steps<V6>>(steps: &S) -> Verdict {
    if steps.is_tagged() {
        return Verdict::PASS;
    }
    match steps.ether_type() {
        Some(ether_type::IPV4) => host_egress::<V4>(steps),
        Some(ether_type::IPV6) => host_egress::<V6>(steps),
        _ => Verdict::PASS,
    }
}

/// tc egress on a bridge: what the host's stack sends into a network. Decided from `input` alone,
/// the interface that the packet came to the host by, zero if the host itself sends it.
#[inline(always)]
pub const fn to_bridge(input: u32) -> DropReason {
    if input == 0 { DropReason::FromHost } else { DropReason::NotPublished }
}

#[cfg(test)]
mod endpoint_independent_tests;
#[cfg(test)]
mod fragment_tests;
#[cfg(test)]
mod nat64_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
