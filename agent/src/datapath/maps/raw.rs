//! The shared layouts as plain bytes for aya.
#![expect(
    unsafe_code,
    reason = "aya::Pod is unsafe to implement, and is implemented here once for every layout"
)]

use bytemuck::Pod;

/// A key or value for aya's maps.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub(in crate::datapath) struct Raw<T>(pub(in crate::datapath) T);

// SAFETY: transparent over a type that bytemuck vouches for: no padding, no pointer, any bytes are
// valid.
unsafe impl<T: Pod> aya::Pod for Raw<T> {}
