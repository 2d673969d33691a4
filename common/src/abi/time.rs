//! Time in the datapath.

/// A time or duration of 2^30 ns (1.07 s) on the monotonic clock: one shift from nanoseconds, and
/// 136 years in 32 bits.
pub type Ticks = u32;

/// How many nanoseconds are a tick, as a shift.
pub const TICK_SHIFT: u32 = 30;

/// The ticks that cover `seconds`.
pub const fn ticks(seconds: u32) -> Ticks {
    ((seconds as u64 * 1_000_000_000).div_ceil(1 << TICK_SHIFT)) as Ticks
}

/// The whole seconds in some ticks.
pub const fn seconds(ticks: Ticks) -> u64 {
    ((ticks as u64) << TICK_SHIFT) / 1_000_000_000
}
