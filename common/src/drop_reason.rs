//! Why a packet left the fast path.

use crate::icmp_reply::IcmpErrorKind;

macro_rules! reasons {
    ($($(#[doc = $doc:expr])+ $variant:ident = $number:literal, $name:literal, $fate:ident;)+) => {
        /// The named cause of a drop or of a punt to the kernel's stack. The number is the
        /// counter's index in the kernel: it never changes meaning.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl DropReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in `causeway stats`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The one with that number.
            #[inline(always)]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// What becomes of the packet.
            #[inline(always)]
            pub const fn fate(self) -> Fate {
                match self { $(Self::$variant => Fate::$fate),+ }
            }
        }
    };
}

/// What becomes of a packet that leaves the fast path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// The kernel's stack, and other programs, see it unchanged.
    Punt,
    /// It is kept, and comes again.
    Hold,
    /// It ends here.
    Drop,
}

/// How many counters there are room for.
pub const CAPACITY: u32 = 64;

reasons! {
    /// From outside, and neither of a flow nor for a published port.
    NotOurs = 1, "not-ours", Punt;
    /// ARP of a container.
    Arp = 2, "arp", Punt;
    /// Neighbour discovery or multicast listener discovery of a container.
    Nd = 6, "nd", Punt;
    /// From a container to an address of the host.
    ToHost = 3, "to-host", Punt;
    /// From a container to a neighbour that is no endpoint, or to many.
    ToBridge = 4, "to-bridge", Punt;
    /// For a published port, but a socket of the host has that very exchange.
    HostSocket = 5, "host-socket", Punt;
    /// To a container from the host itself.
    FromHost = 7, "from-host", Punt;

    /// A fragment that needs translation and is ahead of its datagram's first one, which says how.
    FragmentHeld = 15, "fragment-held", Hold;

    /// From a container, with an address that is not its own.
    SourceAddressSpoofed = 16, "source-address-spoofed", Drop;
    /// From a container, with a MAC that is not its own.
    SourceMacSpoofed = 17, "source-mac-spoofed", Drop;
    /// From a container: neither IP nor ARP.
    NotIp = 18, "not-ip", Drop;
    /// Its headers contradict themselves or the frame's length.
    Malformed = 20, "malformed", Drop;
    /// A fragment of a datagram whose first one did not leave, or that is ahead of that one and
    /// cannot be held.
    Fragment = 21, "fragment", Drop;
    /// Translation is for TCP, UDP, SCTP and ICMP echo.
    ProtocolNotTranslated = 22, "protocol-not-translated", Drop;
    /// From an internal network to the outside.
    InternalNetwork = 23, "internal-network", Drop;
    /// From one network to another.
    OtherNetwork = 24, "other-network", Drop;
    /// Between containers of a network that keeps them apart.
    IccOff = 25, "icc-off", Drop;
    /// The host has no route to the destination: answered with ICMP network unreachable.
    NoRoute = 26, "no-route", Drop;
    /// The route to the destination does not leave through an uplink.
    NotAnUplink = 27, "not-an-uplink", Drop;
    /// TCP or SCTP in mid-stream, of no flow.
    NoFlow = 28, "no-flow", Drop;
    /// The flow table has no room.
    TableFull = 29, "table-full", Drop;
    /// No port was found free toward that destination: answered, as all that finds no room, with
    /// ICMP administratively prohibited.
    PortsExhausted = 30, "ports-exhausted", Drop;
    /// The publish does not admit that source.
    SourceNotAdmitted = 31, "source-not-admitted", Drop;
    /// The publish's container is gone.
    ContainerGone = 32, "container-gone", Drop;
    /// Into a network, from elsewhere than the host, and not published.
    NotPublished = 33, "not-published", Drop;
    /// The last hop of its life: answered with ICMP time exceeded.
    TtlExceeded = 34, "ttl-exceeded", Drop;
    /// An ICMP error to the outside that belongs to no flow.
    ErrorOfNoFlow = 36, "error-of-no-flow", Drop;
    /// Longer than the MTU of what comes next: answered with ICMP fragmentation needed.
    TooLong = 42, "too-long", Drop;
    /// From outside to a published port, with an address that is not outside: the host's own, a
    /// network's, or none that a packet may have.
    SourceNotOutside = 38, "source-not-outside", Drop;
    /// ARP of a container in the name of another address or MAC.
    ArpSpoofed = 39, "arp-spoofed", Drop;
    /// Neighbour discovery of a container in the name of another address or MAC.
    NdSpoofed = 43, "nd-spoofed", Drop;
    /// From a container: what only a router may say (router advertisements, redirects, multicast
    /// listener queries).
    RouterAdvertisement = 44, "router-advertisement", Drop;
    /// From a container: behind more IPv6 extension headers than are looked at, where neighbour
    /// discovery could hide.
    ExtensionHeaders = 45, "extension-headers", Drop;
    /// The container has as many flows as its network lets it have.
    TooManyFlows = 40, "too-many-flows", Drop;
    /// SCTP whose port is taken toward that destination: its checksum covers the ports, so it keeps
    /// its own.
    SctpPortTaken = 41, "sctp-port-taken", Drop;
    /// From outside, in the name of loopback or of many, or to loopback: no packet on a wire has
    /// such an address (RFC 1122 section 3.2.1.3).
    Martian = 50, "martian", Drop;
    /// An ICMP error between an IPv6 client and a container that has IPv4 alone, and of a kind that
    /// the other family does not have.
    ErrorNotTranslated = 47, "error-not-translated", Drop;
    /// UDP without a checksum, which IPv6 does not allow, from a container that has IPv4 alone to
    /// an IPv6 client.
    NoChecksum = 46, "no-checksum", Drop;
    /// A helper refused to change the packet.
    RewriteFailed = 35, "rewrite-failed", Drop;
}

impl DropReason {
    /// What the sender is told, where it is told something.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most are nobody's business")]
    #[inline(always)]
    pub const fn icmp_error(self) -> Option<IcmpErrorKind> {
        match self {
            Self::TtlExceeded => Some(IcmpErrorKind::TimeExceeded),
            Self::TooLong => Some(IcmpErrorKind::TooLong),
            Self::PortsExhausted | Self::SctpPortTaken | Self::TableFull | Self::TooManyFlows => {
                Some(IcmpErrorKind::Prohibited)
            }
            Self::NoRoute => Some(IcmpErrorKind::NoRoute),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_unique_and_fit() {
        for (i, a) in DropReason::ALL.iter().enumerate() {
            assert!(u32::from(*a as u8) < CAPACITY);
            for b in &DropReason::ALL[i + 1..] {
                assert_ne!(*a as u8, *b as u8);
                assert_ne!(a.name(), b.name());
            }
        }
    }
}
