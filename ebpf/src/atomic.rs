//! Counters that every CPU counts in at once. `core` has no read-modify-write for this target, the
//! machine does.

use core::arch::asm;

/// A counter in a map.
#[derive(Clone, Copy)]
pub(crate) struct Counter(*mut u64);

impl Counter {
    /// # Safety
    ///
    /// `counter` is aligned, lies in a map for good, and everybody who writes it does so through a
    /// `Counter`.
    #[inline(always)]
    pub(crate) unsafe fn new(counter: *mut u64) -> Self {
        Self(counter)
    }

    /// Adds `number`, wrapping, and answers what was there before.
    #[inline(always)]
    pub(crate) fn add(self, number: i64) -> u64 {
        let mut value = number;
        // SAFETY: `new`'s caller says that the place is good.
        unsafe {
            asm!("{0} = atomic_fetch_add((u64 *)({1} + 0), {0})", inout(reg) value, in(reg) self.0)
        };
        value.cast_unsigned()
    }

    /// Puts `value` there, and answers what was there before.
    #[inline(always)]
    pub(crate) fn swap(self, value: u64) -> u64 {
        let mut value = value;
        // SAFETY: as above.
        unsafe { asm!("{0} = xchg_64({1} + 0, {0})", inout(reg) value, in(reg) self.0) };
        value
    }

    /// Puts another number there.
    #[inline(always)]
    pub(crate) fn set(self, value: u64) {
        // SAFETY: as above. Volatile, because others read it.
        unsafe { self.0.write_volatile(value) }
    }

    /// What is there.
    #[inline(always)]
    pub(crate) fn get(self) -> u64 {
        // SAFETY: as above. Volatile, because others write it.
        unsafe { self.0.read_volatile() }
    }
}
