//! The outcome of a step: an action for the kernel, or which step comes next.

use crate::abi::drop_reason::{DropReason, Fate};

/// The outcome of a step. The numbers of the final ones are the actions of a tc program
/// (`TCX_NEXT`, `TC_ACT_SHOT`, `TC_ACT_REDIRECT`); the others are below every action.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Verdict(i32);

impl Verdict {
    /// Final: the packet goes on unchanged, to other programs and the kernel's stack.
    pub const PASS: Self = Self(-1);
    /// Final: the packet ends.
    pub const DROP: Self = Self(2);
    /// Final: the packet leaves through another interface.
    pub const REDIRECT: Self = Self(7);
    /// The next step decides.
    pub const UNDECIDED: Self = Self(-2);
    /// The packet is dropped, and its sender gets an ICMP error ([`crate::icmp_reply`]).
    pub const REFUSED: Self = Self(-3);
    /// The header is an unusual one: the whole parser has to read it.
    pub const UNPARSED: Self = Self(-4);
    /// The packet is an ICMP error that leaves as one of the other family.
    pub const NAT64: Self = Self(-5);

    /// The verdict whose number is the kernel's action.
    #[inline(always)]
    pub const fn from_action(action: i32) -> Self {
        Self(action)
    }

    /// The action that a tc program returns. Only for a final verdict.
    #[inline(always)]
    pub const fn action(self) -> i32 {
        self.0
    }

    /// Whether no step is left.
    #[inline(always)]
    pub const fn is_final(self) -> bool {
        self.0 >= Self::PASS.0
    }

    /// What becomes of a packet that leaves the fast path.
    #[inline(always)]
    pub const fn of(fate: Fate) -> Self {
        match fate {
            Fate::Punt => Self::PASS,
            Fate::Drop | Fate::Hold => Self::DROP,
        }
    }
}

/// The outcome of a lookup in the flow table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Outcome {
    /// The packet belongs to no flow.
    Miss,
    /// The packet is of a flow, whose translation was found.
    Forward,
    /// The packet is of a flow and ends.
    Drop(DropReason),
}

impl Outcome {
    /// The outcome for a packet of a flow that may leave or not.
    #[inline(always)]
    pub const fn of(leaves: Result<(), DropReason>) -> Self {
        match leaves {
            Ok(()) => Self::Forward,
            Err(reason) => Self::Drop(reason),
        }
    }
}
