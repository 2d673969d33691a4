//! Types of the ICMPv6 messages that keep a link going: neighbour discovery (RFC 4861) and
//! multicast listener discovery (RFC 3810).

/// The type of a multicast listener query: the first of all these.
pub(crate) const LISTENER_QUERY: u8 = 130;

pub(crate) const LISTENER_REPORT: u8 = 131;

pub(crate) const LISTENER_DONE: u8 = 132;

pub(crate) const ROUTER_SOLICITATION: u8 = 133;

pub(crate) const NEIGHBOUR_SOLICITATION: u8 = 135;

pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// The last in their row.
pub(crate) const REDIRECT: u8 = 137;

pub(crate) const LISTENER_REPORT_V2: u8 = 143;

/// The first and last of multicast router discovery (RFC 4286): who says such gets all that is for
/// groups.
pub(crate) const ROUTER_OF_GROUPS: u8 = 151;

pub(crate) const NO_ROUTER_OF_GROUPS: u8 = 153;
