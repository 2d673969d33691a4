//! A frame as bytes that can be read and changed.

use bytemuck::AnyBitPattern;
use bytemuck::NoUninit;

/// A frame that can be read.
pub trait Frame {
    /// What stands at `offset`; none if the frame ends before that.
    fn read<T: AnyBitPattern>(&self, offset: usize) -> Option<T>;
}

impl Frame for [u8] {
    fn read<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        self.get(offset..offset.checked_add(size_of::<T>())?).map(bytemuck::pod_read_unaligned)
    }
}

impl<F: Frame + ?Sized> Frame for &F {
    #[inline(always)]
    fn read<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        (**self).read(offset)
    }
}

/// A frame that can be changed.
pub trait FrameMut: Frame {
    /// Puts a value at `offset`; none if the frame ends before that.
    fn put<T: NoUninit>(&mut self, offset: usize, value: &T) -> Option<()>;
}

impl FrameMut for [u8] {
    fn put<T: NoUninit>(&mut self, offset: usize, value: &T) -> Option<()> {
        self.get_mut(offset..offset.checked_add(size_of::<T>())?)?
            .copy_from_slice(bytemuck::bytes_of(value));
        Some(())
    }
}
