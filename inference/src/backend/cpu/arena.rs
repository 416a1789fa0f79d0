//! Memory for weights, caches and what a step works on: zeroed, on cache lines, on large pages where the system has them.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A cache line: what every vector load of a kernel stays inside of.
pub const LINE: usize = 64;
/// A large page. Allocations of at least one are aligned to it.
const LARGE: usize = 2 << 20;

/// Bytes of a fixed length on cache lines. Zero when made.
pub struct Lines {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the bytes are owned as those of a `Vec<u8>` are; nothing else has the pointer.
unsafe impl Send for Lines {}
// SAFETY: shared access only reads.
unsafe impl Sync for Lines {}

impl Lines {
    /// At least one byte; the length is rounded up to whole lines.
    ///
    /// # Panics
    /// If the length overflows. Memory that the system does not have ends the process, as everywhere.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        let length = bytes.max(1).checked_next_multiple_of(LINE).expect("a length in memory");
        let align = if length >= LARGE { LARGE } else { LINE };
        let layout = Layout::from_size_align(length, align).expect("a length in memory");
        // SAFETY: the layout has a length above zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        #[cfg(target_os = "linux")]
        if align == LARGE {
            // SAFETY: the whole pages of our own allocation; the call is a hint and changes no byte.
            // Its answer is not looked at: without large pages everything works, a little slower.
            unsafe { libc::madvise(start.as_ptr().cast(), length / LARGE * LARGE, libc::MADV_HUGEPAGE) };
        }
        Self { start, layout }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes were allocated, zeroed, and are never shorter.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }

    /// The bytes, to write.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("bytes", &self.layout.size()).finish_non_exhaustive()
    }
}

/// Numbers of which every pattern of bits is one, and zero is zero.
pub trait Number: Copy + Send + Sync + sealed::Sealed + 'static {}
impl Number for f32 {}
impl Number for i32 {}
impl Number for i8 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for i32 {}
    impl Sealed for i8 {}
}

/// Numbers of a fixed count in [`Lines`]. Zero when made.
#[derive(Debug)]
pub struct Values<T> {
    lines: Lines,
    count: usize,
    number: PhantomData<T>,
}

impl<T: Number> Values<T> {
    /// `count` zeros.
    ///
    /// # Panics
    /// If the length overflows.
    #[must_use]
    pub fn zeroed(count: usize) -> Self {
        let bytes = count.checked_mul(size_of::<T>()).expect("a length in memory");
        Self { lines: Lines::zeroed(bytes), count, number: PhantomData }
    }
}

impl<T: Number> Deref for Values<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many numbers fit the bytes, which are aligned to a line and initialised; any bits are a number.
        unsafe { std::slice::from_raw_parts(self.lines.start.as_ptr().cast(), self.count) }
    }
}

impl<T: Number> DerefMut for Values<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.lines.start.as_ptr().cast(), self.count) }
    }
}
