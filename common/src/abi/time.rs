//! Time in the datapath.

/// A time or duration in ticks of 2^30 ns (1.07 s) of the monotonic clock. One shift turns
/// nanoseconds into ticks, and 32 bits hold 136 years.
pub type Ticks = u32;

/// Binary logarithm of the nanoseconds in a tick.
pub const TICK_SHIFT: u32 = 30;

/// `seconds` in ticks, rounded up.
pub const fn ticks(seconds: u32) -> Ticks {
    ((seconds as u64 * 1_000_000_000).div_ceil(1 << TICK_SHIFT)) as Ticks
}

/// Ticks in seconds, rounded down.
pub const fn seconds(ticks: Ticks) -> u64 {
    ((ticks as u64) << TICK_SHIFT) / 1_000_000_000
}
