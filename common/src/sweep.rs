//! Flows that the agent wants removed, by key: it knows who they are only as of the moment in which
//! it walked through the table, so the kernel looks again.

use crate::{
    address::Address,
    half::{Seen, bury, end},
    tables::Tables,
    tuple::Tuple,
};

/// Which of the flows are to be removed.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    /// Those that have ended.
    Ended = 0,
    /// All.
    Any = 1,
}

/// How many keys one run of the kernel's program takes.
pub const KEYS: usize = 64;

/// Removes both halves of the flow that has that key; false if it stays or is gone.
#[inline(always)]
pub fn sweep<A: Address>(tables: &impl Tables<A>, key: &Tuple<A>, which: Which) -> bool {
    if which == Which::Ended {
        return bury(tables, key, tables.now());
    }
    let Some(half) = tables.flow(key) else { return false };
    let (seen, other) = (Seen::new(&half), half.translation.tuple.reversed());
    drop(half);
    end(tables, seen, key, &other);
    true
}
