//! The steps of a packet over a [`Model`]: they decide, and say what would be done with the frame.

use core::{
    cell::{Cell, RefCell, RefMut},
    marker::PhantomData,
};

use crate::{
    abi::{
        drop_reason::DropReason,
        translation::{Deliver, Translation},
    },
    flow::{error::ErrorTranslation, fragment_context::FragmentContext},
    pipeline::{self, Family, Nat64Client, Nat64Steps, NoFlow, Steps},
    scratch::Scratch,
    testing::model::Model,
    verdict::{Outcome, Verdict},
    wire::{
        address::{V4, V6},
        frame::Frame,
        icmp::{IcmpError, IcmpErrorKind},
        packet::{Malformed, Packet, Payload},
        tuple::Side,
    },
};

/// What becomes of a packet.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision<A> {
    /// It is rewritten and sent on.
    Forward(Translation<A>),
    /// It is a fragment: it is rewritten, gets that identification, and is sent on.
    ForwardFragment(Translation<A>, u32),
    /// It and the fragments that were queued for it are reinjected where they arrived.
    Reinject,
    /// It is an ICMP error of a flow: it and its quote are rewritten, and it is sent on.
    ForwardError(ErrorTranslation<A>),
    /// It leaves the fast path.
    Stop(DropReason),
    /// It is longer than the MTU of the next link, in bytes.
    TooLong(u16),
}

/// What an IPv4 packet's way among IPv6's flows is: see [`pipeline::nat64`].
type Nat64<'m, A> = dyn Fn(&mut Scratch<A>) -> Verdict + 'm;

/// The steps of one packet.
struct ModelSteps<'m, A, F: ?Sized> {
    frame: &'m F,
    packet: Packet<A>,
    env: &'m Model<A>,
    bypasses_socket_lookup: bool,
    scratch: RefCell<Scratch<A>>,
    fragment: RefCell<FragmentContext<A>>,
    decision: Cell<Option<Decision<A>>>,
    nat64: Option<&'m Nat64<'m, A>>,
    _frame: PhantomData<&'m F>,
}

impl<'m, A: Family, F: Frame + ?Sized> ModelSteps<'m, A, F> {
    fn new(frame: &'m F, packet: &Packet<A>, env: &'m Model<A>) -> Self {
        Self {
            frame,
            packet: *packet,
            env,
            bypasses_socket_lookup: false,
            scratch: RefCell::new(Scratch::new(*packet, [0; 6])),
            fragment: RefCell::new(FragmentContext::new(packet)),
            decision: Cell::new(None),
            nat64: None,
            _frame: PhantomData,
        }
    }

    fn decide(&self, decision: Decision<A>) {
        self.decision.set(Some(decision));
    }

    fn sent(&self, decision: Decision<A>, translation: &Translation<A>) -> Verdict {
        self.decide(decision);
        if translation.deliver == Deliver::STACK { Verdict::PASS } else { Verdict::REDIRECT }
    }
}

impl<A: Family, F: Frame + ?Sized> Steps<A> for ModelSteps<'_, A, F> {
    type Env = Model<A>;
    type Scratch<'s>
        = RefMut<'s, Scratch<A>>
    where
        Self: 's;
    type Fragment<'s>
        = RefMut<'s, FragmentContext<A>>
    where
        Self: 's;

    fn env(&self) -> &Model<A> {
        self.env
    }

    fn scratch(&self) -> Option<RefMut<'_, Scratch<A>>> {
        Some(self.scratch.borrow_mut())
    }

    fn fragment_context(&self) -> Option<RefMut<'_, FragmentContext<A>>> {
        Some(self.fragment.borrow_mut())
    }

    fn frame(&self, _reach: u32) -> impl Frame + '_ {
        self.frame
    }

    fn parse_usual(&self, _side: Side) -> Result<Packet<A>, Malformed> {
        Ok(self.packet)
    }

    fn parse(&self, _side: Side) -> Result<Packet<A>, Malformed> {
        Ok(self.packet)
    }

    fn bypasses_socket_lookup(&self, _packet: &Packet<A>) -> bool {
        self.bypasses_socket_lookup
    }

    fn count(&self, reason: DropReason) {
        let before = self.decision.get();
        assert!(before.is_none(), "{reason:?} is counted after another outcome");
        self.decide(Decision::Stop(reason));
    }

    fn forward(&self, _packet: &Packet<A>, translation: &Translation<A>) -> Verdict {
        self.sent(Decision::Forward(*translation), translation)
    }

    fn clamp_mss(
        &self,
        _packet: &Packet<A>,
        _translation: &Translation<A>,
    ) -> Result<(), DropReason> {
        Ok(())
    }

    fn forward_fragment(&self, scratch: &Scratch<A>, context: &FragmentContext<A>) -> Verdict {
        let translation = &scratch.entry.translation;
        self.sent(Decision::ForwardFragment(*translation, context.id), translation)
    }

    fn forward_error(&self, _packet: &Packet<A>, error: &ErrorTranslation<A>) -> Verdict {
        self.sent(Decision::ForwardError(*error), &error.outer)
    }

    fn forward_nat64(&self, scratch: &mut Scratch<A>) -> Verdict {
        let translation = scratch.entry.translation;
        self.sent(Decision::Forward(translation), &translation)
    }

    fn forward_error_nat64(&self, scratch: &mut Scratch<A>) -> Verdict {
        let error = scratch.error_translation;
        self.sent(Decision::ForwardError(error), &error.outer)
    }

    fn take_error_budget(&self, _packet: &Packet<A>) -> bool {
        true
    }

    fn send_back(&self, _packet: &Packet<A>, _error: &IcmpError) -> Verdict {
        Verdict::REDIRECT
    }

    fn reply(&self, scratch: &mut Scratch<A>) -> Verdict {
        if scratch.icmp_error_kind == IcmpErrorKind::TooLong as u8 {
            self.decide(Decision::TooLong(scratch.entry.translation.mtu));
        }
        Verdict::DROP
    }

    fn fast_path(&self, side: Side, malformed: DropReason) -> Verdict {
        pipeline::fast_path(self, side, malformed)
    }

    fn parse_into(&self, scratch: &mut Scratch<A>, side: Side) -> Result<(), Malformed> {
        pipeline::parse(self, scratch, side)
    }

    fn slow_path(&self, scratch: &mut Scratch<A>) -> Verdict {
        pipeline::slow_path(self, scratch)
    }

    fn send_checked(&self, scratch: &mut Scratch<A>) -> Verdict {
        pipeline::send_or_nat64(self, scratch)
    }

    fn send(&self, scratch: &mut Scratch<A>) -> Verdict {
        pipeline::send(self, scratch)
    }

    fn error(&self, scratch: &mut Scratch<A>) -> Verdict {
        pipeline::error(self, scratch)
    }

    fn fragment(&self, scratch: &mut Scratch<A>) -> Verdict {
        pipeline::fragment(self, scratch)
    }

    fn first_packet(&self, scratch: &mut Scratch<A>) -> Verdict {
        pipeline::first_packet(self, scratch)
    }

    fn create_with_eviction(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
        pipeline::create_with_eviction(self, scratch)
    }

    fn create(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
        pipeline::create(self, scratch)
    }

    fn host_fast_path(&self) -> Verdict {
        pipeline::host_fast_path(self)
    }

    fn host_slow_path(&self, scratch: &mut Scratch<A>) -> Verdict {
        pipeline::host_slow_path(self, scratch)
    }

    fn host_flow(&self, scratch: &mut Scratch<A>) -> Verdict {
        pipeline::host_flow(self, scratch)
    }

    fn plan_host_flow(&self, scratch: &mut Scratch<A>) -> Result<(), NoFlow> {
        pipeline::plan_host_flow(self, scratch)
    }

    fn nat64(&self, scratch: &mut Scratch<A>) -> Verdict {
        self.nat64.map_or(Verdict::UNDECIDED, |nat64| nat64(scratch))
    }

    fn reinject(&self, counted: Option<&Scratch<A>>) {
        if let Some(scratch) = counted {
            crate::nat::fragment::uncount(&scratch.packet, self.env);
        }
        crate::env::FragmentStore::reinject(self.env);
        self.decide(Decision::Reinject);
    }
}

impl<F: Frame + ?Sized> Nat64Client for ModelSteps<'_, V4, F> {}

impl<F: Frame + ?Sized> Nat64Steps for ModelSteps<'_, V6, F> {
    fn translate_error(&self, scratch: &mut Scratch<V6>) -> Outcome {
        pipeline::translate_ipv4_error(self, scratch)
    }

    fn forward_as_ipv6(&self, scratch: &mut Scratch<V6>) -> Verdict {
        self.forward_nat64(scratch)
    }

    fn forward_error_as_ipv6(&self, scratch: &mut Scratch<V6>) -> Verdict {
        self.forward_error_nat64(scratch)
    }
}

/// Decides about a packet that arrived at a host side or an uplink, as its tuple says.
///
/// # Panics
///
/// If nothing was decided.
pub fn decide<A: Family>(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<A>,
    env: &Model<A>,
) -> Decision<A> {
    let steps = ModelSteps::new(frame, packet, env);
    let verdict = pipeline::ingress(&steps, packet.tuple.side, DropReason::Malformed);
    assert!(verdict.is_final(), "{verdict:?}");
    steps.decision.get().expect("a decision")
}

/// Decides about an IPv4 packet with the flows of IPv6 clients in sight. [`Err`] is what becomes of
/// it among those.
///
/// # Panics
///
/// If nothing was decided.
#[expect(clippy::result_large_err, reason = "both are decisions, and a test looks at one")]
pub fn decide_nat64(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<V4>,
    v4: &Model<V4>,
    v6: &Model<V6>,
) -> Result<Decision<V4>, Decision<V6>> {
    let v6_steps = ModelSteps::new(frame, &crate::nat::nat64::mapped_packet(packet), v6);
    let client = ModelSteps::new(frame, packet, v4);
    // What is kept among IPv6's is addressed to containers.
    let nat64 = |scratch: &mut Scratch<V4>| {
        if packet.tuple.side != Side::CONTAINER {
            return Verdict::UNDECIDED;
        }
        let verdict = pipeline::nat64(&client, &v6_steps, scratch);
        // The way back to an IPv6 client was refused in IPv4's name.
        if let Some(Decision::Stop(reason)) = client.decision.get() {
            v6_steps.decide(if reason == DropReason::TooLong {
                Decision::TooLong(scratch.entry.translation.mtu)
            } else {
                Decision::Stop(reason)
            });
        }
        verdict
    };
    let mut steps = ModelSteps::new(frame, packet, v4);
    steps.nat64 = Some(&nat64);
    let verdict = pipeline::ingress(&steps, packet.tuple.side, DropReason::Malformed);
    assert!(verdict.is_final(), "{verdict:?}");
    match v6_steps.decision.get() {
        Some(decision) => Err(decision),
        None => Ok(steps.decision.get().expect("a decision")),
    }
}

/// Decides about a packet that the host itself sends out of an uplink; none if it leaves as it is.
/// `bypasses_socket_lookup` is as for [`crate::nat::host_flows::classify`].
pub fn decide_to_uplink<A: Family>(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<A>,
    bypasses_socket_lookup: bool,
    env: &Model<A>,
) -> Option<Decision<A>> {
    let mut steps = ModelSteps::new(frame, packet, env);
    steps.bypasses_socket_lookup = bypasses_socket_lookup || packet.payload == Payload::Echo;
    let verdict = pipeline::host_egress(&steps);
    match steps.decision.get() {
        Some(Decision::Stop(_) | Decision::TooLong(_)) if verdict == Verdict::PASS => None,
        decision => decision,
    }
}
