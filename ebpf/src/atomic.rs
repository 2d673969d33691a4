//! Counters that all CPUs update. `core` has no atomic read-modify-write for this target, so the
//! BPF instructions are written as inline assembly.

use core::arch::asm;

/// A 64-bit counter in a map value.
#[derive(Clone, Copy)]
pub(crate) struct Counter(*mut u64);

impl Counter {
    /// Wraps a counter.
    ///
    /// # Safety
    ///
    /// `counter` is aligned to eight bytes, lies in a map value until the program ends, and is
    /// written through a `Counter` only.
    #[inline(always)]
    pub(crate) unsafe fn new(counter: *mut u64) -> Self {
        Self(counter)
    }

    /// Adds `number`, wrapping, and returns the value before.
    #[inline(always)]
    pub(crate) fn add(self, number: i64) -> u64 {
        let mut value = number;
        // SAFETY: the pointer is valid and aligned until the program ends (contract of `new`).
        unsafe {
            asm!("{0} = atomic_fetch_add((u64 *)({1} + 0), {0})", inout(reg) value, in(reg) self.0);
        };
        value.cast_unsigned()
    }

    /// Stores `value`, and returns the value before.
    #[inline(always)]
    pub(crate) fn swap(self, value: u64) -> u64 {
        let mut value = value;
        // SAFETY: the pointer is valid and aligned until the program ends (contract of `new`).
        unsafe { asm!("{0} = xchg_64({1} + 0, {0})", inout(reg) value, in(reg) self.0) };
        value
    }

    /// Stores `value`.
    #[inline(always)]
    pub(crate) fn set(self, value: u64) {
        // SAFETY: the pointer is valid and aligned until the program ends (contract of `new`).
        // Volatile, because other CPUs read the value.
        unsafe { self.0.write_volatile(value) }
    }

    /// Loads the value.
    #[inline(always)]
    pub(crate) fn get(self) -> u64 {
        // SAFETY: the pointer is valid and aligned until the program ends (contract of `new`).
        // Volatile, because other CPUs write the value.
        unsafe { self.0.read_volatile() }
    }
}
