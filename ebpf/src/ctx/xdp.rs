//! The frame of an XDP program. No other module holds a pointer into one.

use core::{marker::PhantomData, ptr};

use aya_ebpf::programs::XdpContext;
use bytemuck::{AnyBitPattern, NoUninit};
use causeway_common::wire::frame::{Frame, FrameMut};

/// A frame before the kernel has made an skb of it. It contains a VLAN tag, unless the hardware has
/// removed the tag.
pub(crate) struct Buffer<'a> {
    context: &'a XdpContext,
    _frame: PhantomData<&'a [u8]>,
}

impl<'a> Buffer<'a> {
    #[inline(always)]
    pub(crate) fn new(context: &'a XdpContext) -> Self {
        Self { context, _frame: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn context(&self) -> &'a XdpContext {
        self.context
    }

    /// Readable bytes. A longer packet is malformed by this length, and passes.
    #[inline(always)]
    pub(crate) fn length(&self) -> u32 {
        (self.context.data_end() - self.context.data()) as u32
    }

    #[inline(always)]
    fn reach<T>(&self, offset: usize) -> Option<*mut T> {
        let at = self.context.data() + offset;
        if at + size_of::<T>() > self.context.data_end() {
            None
        } else {
            Some(ptr::with_exposed_provenance_mut(at))
        }
    }
}

impl Frame for Buffer<'_> {
    #[inline(always)]
    fn read<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        // SAFETY: S5 (bytes of the frame).
        self.reach::<T>(offset).map(|at| unsafe { *at })
    }
}

impl FrameMut for Buffer<'_> {
    #[inline(always)]
    fn put<T: NoUninit>(&mut self, offset: usize, value: &T) -> Option<()> {
        let at = self.reach::<T>(offset)?;
        // SAFETY: S5 (bytes of the frame).
        unsafe { *at = *value };
        Some(())
    }
}
