//! Tables of packets. Each row goes through the pure decisions and through the programs in the
//! kernel, with the same tables: the action, the frame to the last byte and the reason that was
//! counted must be equal, and be what the row says.
//!
//! ```text
//!   container      host side  bridge                               uplink and beyond
//!   c1 172.18.0.2 ──── h1 ─┬─ cwa 172.18.0.1, masquerade ─┐
//!   c2 172.18.0.3 ──── h2 ─┘                              │
//!   c3 172.19.0.2 ──── h3 ─── cwb 172.19.0.1             ─┼─ host ─── up0 10.0.2.15
//!   c4 172.20.0.2 ──── h4 ─┬─ cwc 172.20.0.1, internal,  ─┘   │        └─ near 10.0.2.2
//!   c5 172.20.0.3 ──── h5 ─┘      no icc                      │            └─ world 203.0.113.10
//!                                                             └─── lan0 192.168.9.1, no uplink
//! ```
//!
//! [`super::address`] makes the IPv6 addresses of these. A row names the interface that a frame
//! arrives at: `up0` for one from outside, `h1` to `h5` for one that a container sends.

use std::net::IpAddr;

use causeway::datapath::{Action, Entry, Trial};
use causeway_common::{
    abi::{
        Deliver,
        drop_reason::{DropReason, Fate},
    },
    wire::icmp::IcmpErrorKind,
};

use super::{
    BRIDGE_MAC, Bench, HOST, LAN, Place, address, mac_of,
    pure::{Leaving, Pure},
};
use crate::{
    family::{Family, V4},
    packet::{Fragment, IpFrame, Payload, Told, checksum},
    raw::Packet,
    report,
};

/// IPv4 addresses of the containers, as drawn above.
pub const C1: [u8; 4] = [172, 18, 0, 2];
/// See [`C1`].
pub const C2: [u8; 4] = [172, 18, 0, 3];
/// See [`C1`].
pub const C3: [u8; 4] = [172, 19, 0, 2];
/// See [`C1`].
pub const C4: [u8; 4] = [172, 20, 0, 2];
/// See [`C1`].
pub const C5: [u8; 4] = [172, 20, 0, 3];

/// The addresses of a family, by name.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "as the constants of the same names")]
pub struct Names {
    pub c1: IpAddr,
    pub c2: IpAddr,
    pub c3: IpAddr,
    pub c4: IpAddr,
    pub c5: IpAddr,
    /// Gateway of the first network.
    pub gateway: IpAddr,
    /// An unused address of the first network.
    pub unused: IpAddr,
    /// A link-local multicast group.
    pub group: IpAddr,
    pub host: IpAddr,
    pub lan: IpAddr,
    /// The next hop of the default route.
    pub near: IpAddr,
    pub world: IpAddr,
}

impl Names {
    /// The addresses of `family`.
    pub fn of(family: Family) -> Self {
        let name = |v4| address(family, v4);
        Self {
            c1: name(C1),
            c2: name(C2),
            c3: name(C3),
            c4: name(C4),
            c5: name(C5),
            gateway: name([172, 18, 0, 1]),
            unused: name([172, 18, 7, 7]),
            group: name([224, 0, 0, 251]),
            host: name(HOST),
            lan: name(LAN),
            near: name([10, 0, 2, 2]),
            world: name([203, 0, 113, 10]),
        }
    }
}

/// A MAC that is not the uplink's.
pub const ANOTHER_MACHINE: [u8; 6] = [0x02, 8, 8, 8, 8, 8];

/// MAC of the next hop.
const NEAR_MAC: [u8; 6] = [0x02, 9, 9, 9, 9, 9];

/// An address and a port.
pub type End = (IpAddr, u16);

/// The expected outcome of a frame.
#[derive(Debug)]
pub enum Expect {
    /// It is dropped or punted for that reason.
    Stop(DropReason),
    /// It leaves through that interface with that source and destination.
    Leave(&'static str, End, End),
    /// An ICMP error leaves through that interface: its source and destination, and those of the
    /// quoted packet.
    LeaveError(&'static str, IpAddr, IpAddr, End, End),
    /// The fragment is reinjected, with those queued for it.
    Reinject,
}

/// A row.
#[derive(Debug)]
pub struct Row {
    what: &'static str,
    /// Frames sent before it.
    history: Vec<(&'static str, IpFrame)>,
    input: &'static str,
    frame: Frame,
    expect: Expect,
}

#[derive(Debug)]
enum Frame {
    Ip(IpFrame),
    Raw(Vec<u8>),
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Ip(frame) => frame.bytes(),
            Self::Raw(bytes) => bytes.clone(),
        }
    }
}

/// A frame that arrives at the interface `input`, and its expected outcome.
pub const fn row(what: &'static str, input: &'static str, frame: IpFrame, expect: Expect) -> Row {
    Row { what, history: Vec::new(), input, frame: Frame::Ip(frame), expect }
}

/// A row of raw bytes that are no valid packet.
pub const fn raw(
    what: &'static str,
    input: &'static str,
    frame: Vec<u8>,
    reason: DropReason,
) -> Row {
    Row { what, history: Vec::new(), input, frame: Frame::Raw(frame), expect: Expect::Stop(reason) }
}

impl Row {
    /// Adds a frame that is sent before it.
    #[must_use]
    pub fn after(mut self, input: &'static str, frame: IpFrame) -> Self {
        self.history.push((input, frame));
        self
    }
}

/// A frame with the MAC of the container that has this source address, or of `c1` for other
/// sources.
pub fn from(source: IpAddr, destination: IpAddr, payload: Payload) -> IpFrame {
    let containers = [C1, C2, C3, C4, C5];
    let own = containers
        .into_iter()
        .find(|own| address(Family::of(source), *own) == source)
        .unwrap_or(C1);
    IpFrame::new((BRIDGE_MAC, mac_of(own)), source, destination, payload)
}

/// A frame from the next hop.
pub fn outside(bench: &Bench, source: IpAddr, destination: IpAddr, payload: Payload) -> IpFrame {
    IpFrame::new((bench.mac("up0"), NEAR_MAC), source, destination, payload)
}

/// Adds the host, five containers and some publishes, in both families.
pub fn set_up(bench: &mut Bench) {
    bench.put_host();
    let open = |address, host_side, bridge| Place {
        address,
        host_side,
        bridge,
        closed: false,
        masquerade: true,
    };
    bench.put_dual(open(C1, "h1", "cwa"));
    bench.put_dual(open(C2, "h2", "cwa"));
    bench.put_dual(Place { masquerade: false, ..open(C3, "h3", "cwb") });
    bench.put_dual(Place { closed: true, ..open(C4, "h4", "cwc") });
    bench.put_dual(Place { closed: true, ..open(C5, "h5", "cwc") });
    bench.put_publish(C1, "5000:80", &[]);
    bench.put_publish(C1, "5001:53/udp", &[]);
    bench.put_publish(C2, "7000-7009:8000-8009", &[]);
    bench.put_publish(C2, "10.0.2.15:9000:9000", &[]);
    bench.put_publish(C2, "[2001:db8:2::15]:9000:9000", &[]);
    bench.put_publish(C1, "5002-5003:5002-5003/sctp", &[]);
    bench.put_publish(C1, "6000:80", &["203.0.113.0/28", "2001:db8:113::/120"]);
}

/// The program that a frame enters at an interface.
const fn entry(input: &str) -> Entry {
    if matches!(input.as_bytes(), b"up0") { Entry::Uplink } else { Entry::HostSide }
}

/// Checks each row of a family on an empty flow table, and reports their number.
pub fn check(bench: &mut Bench, family: Family, rows: Vec<Row>) {
    let mut failures = Vec::new();
    let count = rows.len();
    for row in rows {
        bench.flush();
        for (input, frame) in &row.history {
            let bytes = frame.bytes();
            let action = bench.kernel(entry(input), input, &bytes).action;
            let whole = matches!(frame.fragment, Fragment::None | Fragment::Dont);
            assert!(action == Action::Redirect || !whole, "{}: what comes before it", row.what);
            let _ = bench.pure(entry(input), input, &bytes);
        }
        if let Err(failure) = check_row(bench, &row) {
            failures.push(format!("{}: {failure}", row.what));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {count} rows of {family} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    report::rows(family, count);
}

fn check_row(bench: &Bench, row: &Row) -> Result<(), String> {
    let bytes = row.frame.bytes();
    let before = bench.datapath.counters().reasons().expect("the counts");
    let trial = bench.kernel(entry(row.input), row.input, &bytes);
    let after = bench.datapath.counters().reasons().expect("the counts");
    let counted: Vec<_> = after
        .iter()
        .filter(|(name, count)| before[*name] != **count)
        .map(|(name, _)| *name)
        .collect();
    // The program checks the destination MAC before the decision.
    let for_us = bytes[..6] != ANOTHER_MACHINE;
    let pure = if for_us { bench.pure(entry(row.input), row.input, &bytes) } else { None };
    let ways = (&row.expect, &row.frame);
    if let (Expect::Stop(reason), frame) = ways {
        return check_stopped(row, *reason, frame, &trial, pure.as_ref(), &counted);
    }
    let (Expect::Leave(..) | Expect::LeaveError(..) | Expect::Reinject, Frame::Ip(frame)) = ways
    else {
        return Err("a raw frame does not leave".to_owned());
    };
    let leaves = !matches!(row.expect, Expect::Reinject);
    let action = if leaves { Action::Redirect } else { Action::Drop };
    if trial.action != action || !counted.is_empty() {
        return Err(format!(
            "the kernel did {:?} and counted {counted:?}; the pure code says {pure:?}",
            trial.action
        ));
    }
    let wanted = match (&row.expect, &pure) {
        (Expect::Reinject, Some(Pure::Reinject)) => return Ok(()),
        (
            Expect::Leave(through, source, destination),
            Some(Pure::Leave(leaving) | Pure::LeaveFragment(leaving)),
        ) if (bench.index(through), *source, *destination)
            == (leaving.output, leaving.source, leaving.destination) =>
        {
            let mut wanted = translated(frame, leaving);
            if matches!(pure, Some(Pure::LeaveFragment(_))) && wanted.source != frame.source {
                // The kernel chooses a random identification.
                wanted.id = id_of(frame, &trial);
            }
            wanted
        }
        (
            Expect::LeaveError(through, source, destination, quoted_source, quoted_destination),
            Some(Pure::LeaveError(leaving, quoted)),
        ) if (bench.index(through), *source, *destination)
            == (leaving.output, leaving.source.0, leaving.destination.0)
            && [*quoted_source, *quoted_destination] == *quoted =>
        {
            let Payload::Error(told, inner, length) = &frame.payload else {
                return Err("it is no error".to_owned());
            };
            let [from, to] = quoted;
            let payload = inner.payload.with_ports(from.1, to.1);
            let inner = IpFrame { source: from.0, destination: to.0, payload, ..(**inner).clone() };
            IpFrame {
                payload: Payload::Error(*told, Box::new(inner), *length),
                ..translated(frame, leaving)
            }
        }
        (_, pure) => return Err(format!("the pure code says {pure:?}")),
    };
    let wanted = wanted.bytes();
    if trial.frame == wanted {
        Ok(())
    } else {
        Err(format!("the kernel left\n {:02x?}, not\n {wanted:02x?}", trial.frame))
    }
}

fn check_stopped(
    row: &Row,
    reason: DropReason,
    frame: &Frame,
    trial: &Trial,
    pure: Option<&Pure>,
    counted: &[&str],
) -> Result<(), String> {
    let decided = match pure {
        Some(Pure::Stop(decided)) => Some(*decided),
        Some(Pure::TooLong(_)) => Some(DropReason::TooLong),
        Some(other) => return Err(format!("the pure code says {other:?}, not {reason:?}")),
        None => None,
    };
    if decided.is_some_and(|decided| decided != reason) {
        return Err(format!("the pure code says {decided:?}, not {reason:?}"));
    }
    let answer = if let Frame::Ip(frame) = frame { answer(row.input, frame, reason) } else { None };
    let (action, wanted) = match (reason.fate(), answer) {
        (Fate::Punt, _) => (Action::Pass, frame.bytes()),
        (Fate::Drop | Fate::Hold, None) => (Action::Drop, frame.bytes()),
        (Fate::Drop | Fate::Hold, Some(answer)) => (Action::Redirect, answer),
    };
    if counted != [reason.name()] {
        return Err(format!("the kernel counted {counted:?}, not {}", reason.name()));
    }
    if trial.action != action || trial.frame != wanted {
        return Err(format!(
            "the kernel did {:?} and left\n {:02x?}, not\n {wanted:02x?}",
            trial.action, trial.frame
        ));
    }
    Ok(())
}

/// The ICMP error that the sender gets, from the gateway of its network or from the host.
fn answer(input: &str, frame: &IpFrame, reason: DropReason) -> Option<Vec<u8>> {
    let told = match reason.icmp_error()? {
        IcmpErrorKind::TimeExceeded => Told::HopsExceeded,
        IcmpErrorKind::TooLong => Told::TooLong(1500),
        IcmpErrorKind::Prohibited => Told::Prohibited,
        IcmpErrorKind::NoRoute => Told::NoRoute,
    };
    if matches!(frame.payload, Payload::Error(..)) || frame.fragment == Fragment::Later {
        return None;
    }
    let family = frame.family();
    let speaker = match input {
        "h1" | "h2" => address(family, [172, 18, 0, 1]),
        "h3" => address(family, [172, 19, 0, 1]),
        "h4" | "h5" => address(family, [172, 20, 0, 1]),
        _ => address(family, HOST),
    };
    let quoted = (frame.bytes().len() - 14).min(96) & !1;
    let answer = IpFrame {
        id: 0,
        fragment: Fragment::Dont,
        ..IpFrame::new(
            (frame.macs.1, frame.macs.0),
            speaker,
            frame.source,
            Payload::Error(told, Box::new(frame.clone()), quoted),
        )
    };
    let mut bytes = answer.bytes();
    if family == V4 {
        // Internetwork control (RFC 1812 section 4.3.2.5).
        bytes[15] = 0xc0;
        bytes[24..26].fill(0);
        let sum = checksum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    Some(bytes)
}

/// The frame as it must leave, with every checksum computed in full.
fn translated(frame: &IpFrame, leaving: &Leaving) -> IpFrame {
    let ((source, from), (destination, to)) = (leaving.source, leaving.destination);
    let payload = frame.payload.with_ports(from, to);
    match leaving.deliver {
        // As the bridge would forward it, but with the true source MAC.
        Deliver::SAME_BRIDGE => IpFrame { macs: (leaving.mac, mac_at(source)), ..frame.clone() },
        Deliver::CONTAINER => IpFrame {
            macs: (leaving.mac, BRIDGE_MAC),
            source,
            destination,
            ttl: frame.ttl - 1,
            payload,
            ..frame.clone()
        },
        _ => IpFrame { source, destination, ttl: frame.ttl - 1, payload, ..frame.clone() },
    }
}

/// MAC of the container with that address.
fn mac_at(own: IpAddr) -> [u8; 6] {
    let containers = [C1, C2, C3, C4, C5];
    let is_own = |container: &[u8; 4]| {
        address(Family::of(own), *container) == own || super::link_local_of(*container) == own
    };
    mac_of(containers.into_iter().find(is_own).expect("a container's address"))
}

/// The packet in a frame.
pub fn read(frame: &[u8]) -> Packet {
    Packet::parse(&frame[14..]).unwrap_or_else(|| panic!("no packet: {frame:02x?}"))
}

/// The identification of the fragment that left.
pub fn id_of(frame: &IpFrame, trial: &Trial) -> u32 {
    if frame.family() == V4 {
        return u16::from_be_bytes([trial.frame[18], trial.frame[19]]).into();
    }
    let at = frame.payload_at() - 4;
    u32::from_be_bytes(trial.frame[at..at + 4].try_into().expect("four bytes"))
}
