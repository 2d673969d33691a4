//! ICMPv6 types of neighbour discovery (RFC 4861) and multicast listener discovery (RFC 3810).

/// Multicast listener query, the lowest of these types.
pub(crate) const LISTENER_QUERY: u8 = 130;

pub(crate) const LISTENER_REPORT: u8 = 131;

pub(crate) const LISTENER_DONE: u8 = 132;

pub(crate) const ROUTER_SOLICITATION: u8 = 133;

pub(crate) const NEIGHBOUR_SOLICITATION: u8 = 135;

pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Redirect, the last of the consecutive types.
pub(crate) const REDIRECT: u8 = 137;

pub(crate) const LISTENER_REPORT_V2: u8 = 143;

/// The first and last type of multicast router discovery (RFC 4286). Switches send all multicast to
/// a port where they see one.
pub(crate) const ROUTER_OF_GROUPS: u8 = 151;

pub(crate) const NO_ROUTER_OF_GROUPS: u8 = 153;
