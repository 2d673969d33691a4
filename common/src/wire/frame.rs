//! Access to the bytes of a frame.

use bytemuck::AnyBitPattern;
use bytemuck::NoUninit;

/// A frame that can be read.
pub trait Frame {
    /// The value at `offset`; none if the frame is too short.
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
    /// Writes a value at `offset`; none if the frame is too short.
    fn put<T: NoUninit>(&mut self, offset: usize, value: &T) -> Option<()>;
}

impl FrameMut for [u8] {
    fn put<T: NoUninit>(&mut self, offset: usize, value: &T) -> Option<()> {
        self.get_mut(offset..offset.checked_add(size_of::<T>())?)?
            .copy_from_slice(bytemuck::bytes_of(value));
        Some(())
    }
}
