//! Random frames through the programs in the kernel, in histories: packets, replies, ICMP errors
//! about them, half of them damaged. The kernel must do exactly what the pure decisions say.
//!
//! `CAUSEWAY_FRAMES` sets the number of frames.

use std::{collections::BTreeMap, env};

use arbitrary::{Arbitrary as _, Unstructured};
use causeway::datapath::{Action, Entry, Trial};
use causeway_api::types::{flow_options::FlowPolicy, publish::PortRange};
use causeway_common::{
    abi::{
        Deliver, Network,
        drop_reason::{DropReason, Fate},
    },
    testing::model::Model,
    wire::{
        address::{self, Address as _},
        packet::Arrival,
        tuple::Side,
    },
};
use causeway_fuzz::{
    fixture::{CONTAINERS, Fixture, GATEWAYS, HOST, PUBLISHES, Scenery, WORLD, subnet},
    history::check_outcome,
    programs::{Hook, Outcome, run},
    traffic::{self, Arriving, Event, Left, Memory},
    wire::Frame,
};
use causeway_tests::{
    bench::{Bench, Place, default_policy, pure::Models, with_bench},
    families,
    family::{Family, V4, V6},
};

families!(kernel_matches_model_for_any_frame);

/// Default number of frames for each family, which takes some seconds.
const FRAMES: u64 = 150_000;

/// Events in a history. Too few to fill the flow table, whose exact capacity differs between kernel
/// and model.
const HISTORY: u64 = 160;

/// The only port of the masquerade range, so that allocation is not random.
const PICKED: u16 = 4010;

const INTERFACES: [&str; 5] = ["h1", "h2", "h3", "h4", "h5"];

/// A family of addresses, for frames through the kernel.
trait Played: Scenery {
    /// Offset of the addresses in the IP header.
    const ADDRESSES_AT: usize;
    /// Subnets and masks without a route in the kernel, but with one in the model.
    fn nowhere() -> Vec<(Self, Self)>;
    fn model(models: &Models) -> &Model<Self>;
    fn model_mut(models: &mut Models) -> &mut Model<Self>;

    /// Source and destination in a frame.
    fn addresses(frame: &[u8]) -> (Self, Self) {
        let at = 14 + Self::ADDRESSES_AT;
        let size = size_of::<Self>();
        let read = |at: usize| bytemuck::pod_read_unaligned(&frame[at..at + size]);
        (read(at), read(at + size))
    }
}

impl Played for address::V4 {
    const ADDRESSES_AT: usize = 12;

    /// Loopback, and broadcast addresses of the subnets.
    fn nowhere() -> Vec<(Self, Self)> {
        [
            ([127, 0, 0, 0], 8),
            ([10, 0, 2, 255], 32),
            ([192, 168, 9, 255], 32),
            ([172, 18, 255, 255], 32),
            ([172, 19, 255, 255], 32),
            ([172, 20, 255, 255], 32),
        ]
        .map(|(address, bits)| subnet(address, bits))
        .to_vec()
    }

    fn model(models: &Models) -> &Model<Self> {
        &models.v4
    }

    fn model_mut(models: &mut Models) -> &mut Model<Self> {
        &mut models.v4
    }
}

impl Played for address::V6 {
    const ADDRESSES_AT: usize = 8;

    /// Loopback, and subnet-router anycast addresses (RFC 4291 section 2.6.1).
    fn nowhere() -> Vec<(Self, Self)> {
        [
            [127, 0, 0, 1],
            [10, 0, 2, 0],
            [192, 168, 9, 0],
            [172, 18, 0, 0],
            [172, 19, 0, 0],
            [172, 20, 0, 0],
        ]
        .map(|address| subnet(address, 128))
        .to_vec()
    }

    fn model(models: &Models) -> &Model<Self> {
        &models.v6
    }

    fn model_mut(models: &mut Models) -> &mut Model<Self> {
        &mut models.v6
    }
}

fn kernel_matches_model_for_any_frame(family: Family) {
    match family {
        V4 => play::<address::V4>(),
        V6 => play::<address::V6>(),
    }
}

fn play<A: Played>() {
    let count = env::var("CAUSEWAY_FRAMES")
        .map_or(FRAMES, |count| count.parse().expect("a number of frames"));
    with_bench(|bench| {
        set_up::<A>(bench);
        let fixture = Fixture {
            sides: INTERFACES.map(|name| bench.index(name)),
            uplink: bench.index("up0"),
            uplink_mac: bench.mac("up0"),
        };
        let start = bench.datapath.counters().reasons().expect("the counts");
        let mut seen = Seen::default();
        let mut number = 0;
        while seen.frames < count {
            number += 1;
            History {
                bench,
                model: A::model(&bench.models),
                fixture,
                random: Random::new(number),
                memory: Memory::default(),
                start: &start,
                seen: &mut seen,
                early: number % 2 == 0,
            }
            .play();
            let counted = since(&start, &bench.datapath.counters().reasons().expect("the counts"));
            assert_eq!(
                counted, seen.reasons,
                "history {number}: the reasons that the kernel counted"
            );
            bench.flush();
            A::model(&bench.models).age_ring.borrow_mut().clear();
        }
        assert!(bench.datapath.flows().expect("the flows").is_empty(), "flows are left");
        seen.check();
        an_exchange_works::<A>(bench, &fixture);
    });
}

fn set_up<A: Played>(bench: &mut Bench) {
    bench.put_host();
    for (container, (address, host_side)) in CONTAINERS.into_iter().zip(INTERFACES).enumerate() {
        let bridge = ["cwa", "cwa", "cwb", "cwc", "cwc"][container];
        bench.put_dual(Place {
            address,
            host_side,
            bridge,
            closed: container > 2,
            masquerade: container != 2,
        });
    }
    for (container, publish, from) in PUBLISHES {
        bench.put_publish(CONTAINERS[container], publish, from);
    }
    bench.put_publish(CONTAINERS[1], "[2001:db8:2::15]:9000:9000", &[]);
    // Only some containers accept redirected frames.
    bench.put_xdp(&["h1", "h3"]);
    let ports = PortRange::new(PICKED, PICKED).expect("a port");
    let policy = FlowPolicy { ports, ..default_policy() };
    for (bridge, gateway) in ["cwa", "cwb", "cwc"].into_iter().zip(GATEWAYS) {
        bench.put_flow_policy(bridge, &policy);
        let (subnet, mask) = subnet(gateway, A::PREFIX);
        let index = bench.index(bridge);
        A::model_mut(&mut bench.models).routes.insert(0, (subnet, mask, index));
    }
    let model = A::model_mut(&mut bench.models);
    // Flows of the host use the reserved network 0.
    model.networks.insert(1, Network { first_port: PICKED.into(), ports: 1, ..Network::DEFAULT });
    model.endpoints.values_mut().for_each(|endpoint| endpoint.network_number = 1);
    for (subnet, mask) in A::nowhere() {
        model.routes.insert(0, (subnet, mask, 0));
    }
}

/// Totals over all histories.
#[derive(Debug, Default)]
struct Seen {
    frames: u64,
    left: u64,
    answered: u64,
    /// Frames handled by XDP.
    early: u64,
    reasons: Reasons,
}

type Reasons = BTreeMap<&'static str, u64>;

/// Reasons counted since `start`.
fn since(start: &Reasons, counted: &Reasons) -> Reasons {
    counted
        .iter()
        .map(|(name, count)| (*name, count - start[name]))
        .filter(|(_, count)| *count > 0)
        .collect()
}

impl Seen {
    fn count(&mut self, reason: DropReason) {
        *self.reasons.entry(reason.name()).or_default() += 1;
    }

    /// Checks that the frames reached all paths.
    fn check(&self) {
        eprintln!("{self:?}");
        assert!(self.left > self.frames / 20, "only {} of {} frames left", self.left, self.frames);
        assert!(
            self.early > self.frames / 100,
            "only {} of {} frames early",
            self.early,
            self.frames
        );
        assert!(self.answered > 0 && self.reasons.len() > 15, "{self:?}");
    }
}

struct History<'a, A> {
    bench: &'a Bench,
    model: &'a Model<A>,
    fixture: Fixture,
    random: Random,
    memory: Memory,
    start: &'a Reasons,
    seen: &'a mut Seen,
    early: bool,
}

impl<A: Played> History<'_, A> {
    fn play(mut self) {
        for _ in 0..HISTORY {
            let bytes: [u64; 8] = std::array::from_fn(|_| self.random.next());
            let bytes = bytes.map(u64::to_ne_bytes).concat();
            let event = Event::arbitrary(&mut Unstructured::new(&bytes)).expect("bytes enough");
            let Some((arriving, _)) = traffic::frame::<A>(event, &self.fixture, &self.memory)
            else {
                continue;
            };
            if self.random.next().is_multiple_of(64) {
                self.send_into_bridge(&arriving);
            }
            if is_fragment::<A>(&arriving) {
                return self.send_fragment(&arriving);
            }
            if !self.send(arriving) {
                return;
            }
        }
    }

    /// Returns false if the kernel chose a random port, which the model cannot know.
    fn send(&mut self, arriving: Arriving) -> bool {
        let trial = match self.try_early(&arriving) {
            Some(trial) if trial.action == Action::Drop => {
                // Also for a multicast exchange of the host, which would be passed to the stack and
                // end there.
                assert!(is_martian::<A>(&arriving.frame), "{arriving:02x?}");
                self.seen.count(DropReason::Martian);
                return true;
            }
            Some(trial) => trial,
            None => self.try_frame(entry(arriving.hook), arriving.input, 0, &arriving.frame),
        };
        let for_host = arriving.frame[..6] == self.fixture.uplink_mac;
        let mut outcome = run(arriving.hook, &arriving.frame, arriving.input, for_host, self.model);
        if outcome == Outcome::Stop(DropReason::NotAnUplink) && leads_nowhere::<A>(&arriving.frame)
        {
            outcome = Outcome::Stop(DropReason::NoRoute);
        }
        check_outcome(&arriving, &outcome, self.model);
        if let Outcome::Stop(reason) | Outcome::Answer(reason, _) = outcome {
            self.seen.count(reason);
        }
        let moved = matches!(outcome, Outcome::Leave { deliver: Deliver::STACK, .. })
            && arriving.hook == Hook::UplinkOut;
        if let Err(difference) = compare(&arriving, &outcome, &trial, moved) {
            panic!(
                "{arriving:02x?}\nby the decisions: {outcome:02x?}\nby the kernel: {trial:02x?}\n{difference}"
            );
        }
        self.seen.answered +=
            u64::from(matches!(outcome, Outcome::Answer(..)) && trial.action == Action::Redirect);
        if let Outcome::Leave { output, .. } = outcome {
            self.seen.left += 1;
            let moved = moved && trial.frame != arriving.frame;
            if moved {
                let by_kernel =
                    Outcome::Leave { frame: trial.frame.clone(), output, deliver: Deliver::STACK };
                check_outcome(&arriving, &by_kernel, self.model);
            }
            self.memory.push(Left { came: arriving, frame: trial.frame, output });
            return !moved;
        }
        true
    }

    /// Every other history has XDP at the uplink. XDP must do what the tc program would do, or pass
    /// the frame unchanged.
    fn try_early(&mut self, arriving: &Arriving) -> Option<Trial> {
        if arriving.hook != Hook::Uplink || !self.early {
            return None;
        }
        let trial =
            self.bench.datapath.try_frame(Entry::UplinkXdp, arriving.input, 0, &arriving.frame);
        let trial = trial.expect("the frame runs");
        if trial.action == Action::Pass {
            assert_eq!(trial.frame, arriving.frame, "{arriving:02x?}");
            return None;
        }
        self.seen.frames += 1;
        self.seen.early += 1;
        Some(trial)
    }

    /// Fragments get a random identification and may be reinjected, which the model does not know,
    /// so that the history ends here. Tables of packets have rows of fragments.
    fn send_fragment(&mut self, arriving: &Arriving) {
        let entry = entry(arriving.hook);
        let trial = self.try_frame(entry, arriving.input, 0, &arriving.frame);
        assert!(
            trial.action == Action::Drop
                || trial.frame.len() == arriving.frame.len()
                || trial.frame.len() < 576
        );
        let counted = self.bench.datapath.counters().reasons().expect("the counts");
        self.seen.reasons = since(self.start, &counted);
    }

    /// The program at the bridge reads no byte of the frame.
    fn send_into_bridge(&mut self, arriving: &Arriving) {
        let came_by = if self.random.next().is_multiple_of(2) { 0 } else { arriving.input };
        let trial =
            self.try_frame(Entry::Bridge, self.bench.index("cwa"), came_by, &arriving.frame);
        let (reason, action) = if came_by == 0 {
            (DropReason::FromHost, Action::Pass)
        } else {
            (DropReason::NotPublished, Action::Drop)
        };
        assert_eq!((trial.action, &trial.frame), (action, &arriving.frame));
        self.seen.count(reason);
    }

    fn try_frame(&mut self, entry: Entry, input: u32, came_by: u32, frame: &[u8]) -> Trial {
        self.seen.frames += 1;
        self.bench.datapath.try_frame(entry, input, came_by, frame).expect("the frame runs")
    }
}

const fn entry(hook: Hook) -> Entry {
    match hook {
        Hook::HostSide => Entry::HostSide,
        Hook::Uplink => Entry::Uplink,
        Hook::UplinkOut => Entry::UplinkOut,
    }
}

fn is_fragment<A: Played>(arriving: &Arriving) -> bool {
    // For IPv4 also fragments that are no valid packet.
    let field = u16::from_be_bytes([arriving.frame[20], arriving.frame[21]]);
    if A::FAMILY == address::V4::FAMILY {
        return arriving.frame[12..14] == [8, 0] && field & 0x3fff != 0;
    }
    A::parse(&arriving.frame[..], arrival(arriving)).is_ok_and(|packet| packet.is_fragment())
}

fn arrival(arriving: &Arriving) -> Arrival {
    let side = match arriving.hook {
        Hook::HostSide => Side::CONTAINER,
        Hook::Uplink => Side::UPLINK,
        Hook::UplinkOut => Side::HOST,
    };
    let length = u32::try_from(arriving.frame.len()).expect("a short frame");
    Arrival { side, input: arriving.input, length, gso_size: 0 }
}

fn is_martian<A: Played>(frame: &[u8]) -> bool {
    let (source, destination) = A::addresses(frame);
    source.is_loopback() || source.is_multicast() || destination.is_loopback()
}

fn leads_nowhere<A: Played>(frame: &[u8]) -> bool {
    let (_, destination) = A::addresses(frame);
    A::nowhere().iter().any(|(subnet, mask)| destination.is_in(subnet, mask))
}

/// The action of a program for an outcome.
const fn action(outcome: &Outcome) -> Action {
    match outcome {
        Outcome::Leave { deliver: Deliver::STACK, .. } | Outcome::Pass => Action::Pass,
        Outcome::Leave { .. } | Outcome::Answer(..) => Action::Redirect,
        Outcome::Again => Action::Drop,
        Outcome::Stop(reason) => match reason.fate() {
            Fate::Punt => Action::Pass,
            Fate::Drop | Fate::Hold => Action::Drop,
        },
    }
}

/// Compares the kernel with the pure decisions. `moved`: the kernel may have chosen the port of the
/// frame.
fn compare(
    arriving: &Arriving,
    outcome: &Outcome,
    trial: &Trial,
    moved: bool,
) -> Result<(), &'static str> {
    let passes = arriving.hook == Hook::UplinkOut && matches!(outcome, Outcome::Leave { .. });
    let expected = if passes { Action::Pass } else { action(outcome) };
    let unanswered = trial.action == Action::Drop && trial.frame == arriving.frame;
    let frame = match outcome {
        // ICMP errors are rate limited; beyond the limit the packet is dropped unchanged.
        Outcome::Answer(..) if unanswered => return Ok(()),
        Outcome::Stop(DropReason::NoRoute) if unanswered || trial.action == Action::Redirect => {
            return Ok(());
        }
        _ if trial.action != expected => return Err("it is another action"),
        // The frame may be partly translated.
        Outcome::Stop(DropReason::RewriteFailed) => return Ok(()),
        Outcome::Leave { .. } if moved => {
            return if trial.frame.len() == arriving.frame.len() {
                Ok(())
            } else {
                Err("it is another length")
            };
        }
        Outcome::Leave { frame, .. } | Outcome::Answer(_, frame) => frame,
        Outcome::Stop(_) | Outcome::Pass | Outcome::Again => &arriving.frame,
    };
    if trial.frame == *frame { Ok(()) } else { Err("it is another frame") }
}

/// Checks that a new flow works after all this.
fn an_exchange_works<A: Played>(bench: &Bench, fixture: &Fixture) {
    let data = [&[0x0f, 0xa0, 0, 53, 0, 13, 0, 0][..], b"hello"].concat();
    let container = A::named(CONTAINERS[0]).ip();
    let sent = Frame {
        macs: (causeway_fuzz::fixture::BRIDGE_MAC, causeway_fuzz::fixture::mac_of(0)),
        source: container,
        destination: A::named(WORLD).ip(),
        ttl: 64,
        options: Vec::new(),
        extensions: Vec::new(),
        dont_fragment: false,
        fragment: None,
        protocol: causeway_fuzz::wire::protocol::UDP,
        payload: data,
    };
    let trial = bench.kernel(Entry::HostSide, "h1", &sent.summed().bytes());
    let left = Frame::read(&trial.frame).expect("a packet");
    assert_eq!(
        (trial.action, left.source, left.ports()),
        (Action::Redirect, A::named(HOST).ip(), Some((4000, 53)))
    );
    let mut answer = left.reversed();
    answer.macs.0 = fixture.uplink_mac;
    let trial = bench.kernel(Entry::Uplink, "up0", &answer.summed().bytes());
    let back = Frame::read(&trial.frame).expect("a packet");
    assert_eq!(
        (trial.action, back.destination, back.ports()),
        (Action::Redirect, container, Some((53, 4000)))
    );
    assert!(back.transport_sums_up());
}

/// A deterministic generator (`SplitMix64`).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
