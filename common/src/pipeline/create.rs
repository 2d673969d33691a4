//! The creation of a planned flow.

use crate::{
    abi::{drop_reason::DropReason, owner::Owner},
    nat::endpoint_independent,
    pipeline::steps::{Family, Steps},
    scratch::Scratch,
};

/// Creates the planned flow, and before it the mapping that it goes by.
#[inline(always)]
pub(super) fn create_planned<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    if endpoint_independent::needs_mapping(scratch) && !steps.reuse_mapping(scratch) {
        endpoint_independent::plan_mapping(scratch);
        let created = steps.create_with_eviction(scratch);
        endpoint_independent::resume_flow(scratch);
        created?;
    }
    steps.create_with_eviction(scratch)
}

/// Creates the planned flow, and evicts another one if there is no room.
#[inline(always)]
pub fn create_with_eviction<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    match steps.create(scratch) {
        Err(DropReason::TableFull) if steps.evict_one(Owner::NONE) => steps.create(scratch),
        Err(DropReason::TooManyFlows) if steps.evict_one(scratch.entry.owner) => {
            steps.create(scratch)
        }
        outcome => outcome,
    }
}

/// Creates the planned flow, or lets a neighbour's packet go on without one.
#[inline(always)]
pub fn create<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    steps.prepare(scratch);
    steps.try_ports(scratch);
    steps.complete(scratch)
}
