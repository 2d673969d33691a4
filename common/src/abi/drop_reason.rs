//! Why a packet left the fast path: one row for each reason, from which everything else derives.
//!
//! The counters in the kernel, `causeway stats`, its `--json`, `docs/drop-reasons.md`, the ICMP
//! error for the sender and the way of later fragments all come from the row. To add a reason,
//! append a row with the next number, return it where the packet ends, and write the page anew
//! (`UPDATE_DOCS=1 cargo test -p causeway-common drop_reason`).

use crate::wire::icmp::IcmpErrorKind;

/// The entries of the map of counters: no reason has a number as high.
pub const CAPACITY: u32 = 64;

/// What becomes of a packet that leaves the fast path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It goes on unchanged, to other programs and the kernel's stack.
    Punt,
    /// It is queued, and reinjected once it can be decided.
    Hold,
    /// It ends here.
    Drop,
}

impl Fate {
    /// Its word in `causeway stats` and `docs/drop-reasons.md`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Punt => "punt",
            Self::Hold => "hold",
            Self::Drop => "drop",
        }
    }
}

/// How the later fragments of a container's datagram are decided, if the first one ended here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LaterFragments {
    /// By the ports of the first, of which a record is kept.
    ByRecord,
    /// By their own addresses, with the same result. No record is kept.
    Alone,
}

/// Expands rows of the form
///
/// ```text
/// /// The meaning, in one sentence.
/// Variant = number, "name", Fate[, icmp = IcmpErrorKind][, later_fragments = LaterFragments];
/// ```
///
/// Without `icmp` the sender gets no error, without `later_fragments` a record is kept for them.
macro_rules! drop_reasons {
    ($(
        $(#[doc = $meaning:literal])+
        $variant:ident = $number:literal, $name:literal, $fate:ident
        $(, icmp = $icmp:ident)?
        $(, later_fragments = $later_fragments:ident)?;
    )+) => {
        /// The named cause of a drop, of a punt to the kernel's stack, or of a wait. The number is
        /// the index of the counter in the kernel and never changes its meaning.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum DropReason {
            $($(#[doc = $meaning])+ $variant = $number,)+
        }

        impl DropReason {
            /// Every reason, by number.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in `causeway stats`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What it means, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($meaning),+).trim_ascii()),+ }
            }

            /// The reason with that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.name() == name)
            }

            /// The reason with that number.
            #[inline(always)]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// What becomes of the packet.
            #[inline(always)]
            pub const fn fate(self) -> Fate {
                match self { $(Self::$variant => Fate::$fate),+ }
            }

            /// The ICMP error that its sender gets.
            #[inline(always)]
            pub const fn icmp_error(self) -> Option<IcmpErrorKind> {
                match self {
                    $($(Self::$variant => Some(IcmpErrorKind::$icmp),)?)+
                    _ => None,
                }
            }

            /// How the later fragments of the datagram are decided.
            #[inline(always)]
            pub const fn later_fragments(self) -> LaterFragments {
                match self {
                    $($(Self::$variant => LaterFragments::$later_fragments,)?)+
                    _ => LaterFragments::ByRecord,
                }
            }
        }
    };
}

drop_reasons! {
    /// A packet from outside that belongs to no flow and is for no published port.
    NotOurs = 1, "not-ours", Punt;
    /// An ARP packet of a container.
    Arp = 2, "arp", Punt;
    /// A packet from a container to an address of the host.
    ToHost = 3, "to-host", Punt;
    /// A packet from a container to a neighbour that is not an endpoint, or to a multicast or
    /// broadcast address.
    ToBridge = 4, "to-bridge", Punt, later_fragments = Alone;
    /// A packet for a published port that belongs to a socket of the host.
    HostSocket = 5, "host-socket", Punt;
    /// Neighbour discovery or multicast listener discovery of a container.
    Nd = 6, "nd", Punt;
    /// A packet from the host itself into a network.
    FromHost = 7, "from-host", Punt;
    /// A fragment that arrived before the first fragment of its datagram, which has the ports.
    FragmentHeld = 15, "fragment-held", Hold;
    /// A packet from a container, with a source address that is not the container's.
    SourceAddressSpoofed = 16, "source-address-spoofed", Drop, later_fragments = Alone;
    /// A packet from a container, with a source MAC that is not the container's.
    SourceMacSpoofed = 17, "source-mac-spoofed", Drop, later_fragments = Alone;
    /// A frame from a container that carries neither IP nor ARP, or has a VLAN tag.
    NotIp = 18, "not-ip", Drop;
    /// The headers contradict each other, or the length of the frame.
    Malformed = 20, "malformed", Drop;
    /// A fragment whose first fragment was not forwarded, that came before it and cannot be held,
    /// or that would have to change its family (NAT64).
    Fragment = 21, "fragment", Drop;
    /// A protocol other than TCP, UDP, SCTP and ICMP echo, or a link-local message to another link.
    ProtocolNotTranslated = 22, "protocol-not-translated", Drop;
    /// A packet from an internal network to the outside.
    InternalNetwork = 23, "internal-network", Drop;
    /// A packet from a container of one network to a container of another.
    OtherNetwork = 24, "other-network", Drop;
    /// A packet between containers of a network with inter-container communication off.
    IccOff = 25, "icc-off", Drop;
    /// The host has no route to the destination.
    NoRoute = 26, "no-route", Drop, icmp = NoRoute;
    /// The route to the destination leaves through an interface that is not an uplink.
    NotAnUplink = 27, "not-an-uplink", Drop;
    /// A packet from a container that belongs to no flow and cannot start one, such as a TCP
    /// segment without SYN.
    NoFlow = 28, "no-flow", Drop;
    /// The flow table is full, and no entry could be evicted.
    TableFull = 29, "table-full", Drop, icmp = Prohibited;
    /// No free source port was found toward the destination.
    PortsExhausted = 30, "ports-exhausted", Drop, icmp = Prohibited;
    /// The publish does not admit the source address.
    SourceNotAdmitted = 31, "source-not-admitted", Drop;
    /// The container of the publish is gone.
    ContainerGone = 32, "container-gone", Drop;
    /// A packet that the host forwards into a network, to a port that is not published.
    NotPublished = 33, "not-published", Drop;
    /// The TTL or hop limit is used up.
    TtlExceeded = 34, "ttl-exceeded", Drop, icmp = TimeExceeded;
    /// A kernel helper failed to change the packet.
    RewriteFailed = 35, "rewrite-failed", Drop;
    /// An ICMP error from a container to the outside that belongs to no flow.
    ErrorOfNoFlow = 36, "error-of-no-flow", Drop;
    /// A packet from outside to a published port, with a source address of the host, of a network,
    /// or that no packet may have.
    SourceNotOutside = 38, "source-not-outside", Drop;
    /// ARP of a container that claims the address or MAC of another.
    ArpSpoofed = 39, "arp-spoofed", Drop;
    /// The container has as many flows as its network allows.
    TooManyFlows = 40, "too-many-flows", Drop, icmp = Prohibited;
    /// SCTP whose source port is taken toward the destination: the checksum covers ports, so they
    /// are not translated.
    SctpPortTaken = 41, "sctp-port-taken", Drop, icmp = Prohibited;
    /// The packet is longer than the MTU of the next link.
    TooLong = 42, "too-long", Drop, icmp = TooLong;
    /// Neighbour discovery of a container that claims the address or MAC of another.
    NdSpoofed = 43, "nd-spoofed", Drop;
    /// A container sent what only a router may send: a router advertisement, a redirect, or a
    /// multicast listener query.
    RouterAdvertisement = 44, "router-advertisement", Drop;
    /// IPv6 from a container with more extension headers than are parsed: neighbour discovery could
    /// hide behind them.
    ExtensionHeaders = 45, "extension-headers", Drop;
    /// UDP without a checksum from an IPv4 container to an IPv6 client, which requires one.
    NoChecksum = 46, "no-checksum", Drop;
    /// An ICMP error between families (NAT64), of a type that the other family does not have.
    ErrorNotTranslated = 47, "error-not-translated", Drop;
    /// A packet from outside with a loopback or multicast source or a loopback destination, which
    /// no wire carries (RFC 1122 section 3.2.1.3).
    Martian = 50, "martian", Drop;
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        fmt::Write as _,
        fs,
        string::{String, ToString as _},
        vec::Vec,
    };

    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/drop-reasons.md");

    const HEAD: &str = "\
# Drop reasons

<!-- Written from the rows of common/src/abi/drop_reason.rs by
     `UPDATE_DOCS=1 cargo test -p causeway-common drop_reason`. Do not edit. -->

A packet that the fast path does not forward is counted under one of these names. `causeway stats`
prints the counters, which start at zero when the datapath is loaded. A name keeps its meaning; any
version may add one.

*ICMP error* is what the sender is told: at most 1,000 errors a second for each CPU and side, and
without a limit for packets that are too long.

*Later fragments*: only the first fragment of a datagram carries ports. When it ends for one of
these reasons, its ports are recorded and the rest of the datagram is decided by them. Where the row
says *alone*, each fragment ends for the same reason by its own addresses: nothing is recorded.
";

    fn page() -> String {
        let mut page = HEAD.to_string();
        for (fate, title) in [
            (Fate::Drop, "Dropped: the packet ends"),
            (Fate::Punt, "Punted: the packet goes on unchanged to the kernel's stack"),
            (Fate::Hold, "Held: the packet is queued, and reinjected once it can be decided"),
        ] {
            let mut reasons: Vec<_> =
                DropReason::ALL.iter().filter(|reason| reason.fate() == fate).collect();
            reasons.sort_by_key(|reason| reason.name());
            write!(page, "\n## {title}\n\n").unwrap();
            page += "| name | meaning | ICMP error | later fragments | number |\n";
            page += "|---|---|---|---|---|\n";
            for reason in reasons {
                let later_fragments = match reason.later_fragments() {
                    LaterFragments::ByRecord => "",
                    LaterFragments::Alone => "alone",
                };
                writeln!(
                    page,
                    "| `{}` | {} | {} | {later_fragments} | {} |",
                    reason.name(),
                    reason.meaning(),
                    reason.icmp_error().map_or("", IcmpErrorKind::name),
                    *reason as u8
                )
                .unwrap();
            }
        }
        page
    }

    #[test]
    fn page_is_current() {
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(PAGE, page()).unwrap();
        }
        let written = fs::read_to_string(PAGE).unwrap_or_default();
        assert!(
            written == page(),
            "docs/drop-reasons.md is not current: run `UPDATE_DOCS=1 cargo test -p causeway-common`"
        );
    }

    #[test]
    fn numbers_ascend_and_fit() {
        assert!(DropReason::ALL.is_sorted_by(|a, b| (*a as u8) < *b as u8));
        assert!(DropReason::ALL.iter().all(|reason| u32::from(*reason as u8) < CAPACITY));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }

    #[test]
    fn meanings_are_one_sentence() {
        for reason in DropReason::ALL {
            let meaning = reason.meaning();
            assert!(meaning.ends_with('.') && !meaning.contains(['|', '\n']), "{meaning}");
        }
    }
}
