//! One array written by many threads, each its own part, without a lock: parts are handed out once, which is checked.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Parts that one array may be cut into. More tasks than this for two or a few dozen threads would only cost claims.
pub const PARTS_MAX: usize = 4096;

/// Which parts are taken: a bit each.
struct Taken([AtomicU64; PARTS_MAX / 64]);

impl Taken {
    fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Panics at the second claim of a part: two threads would write the same place.
    fn claim(&self, part: usize) {
        let bit = 1u64 << (part % 64);
        let before = self.0[part / 64].fetch_or(bit, Ordering::Relaxed);
        assert!(before & bit == 0, "part {part} is taken already");
    }
}

/// A slice in parts of equal length (the last may be shorter), each of which one task takes.
pub struct Parts<'a, T> {
    start: *mut T,
    length: usize,
    each: usize,
    taken: Taken,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a part goes to one thread, as a `&mut [T]` would.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Cuts a slice.
    ///
    /// # Panics
    /// If there would be more than [`PARTS_MAX`] parts, or parts of no length.
    pub fn new(slice: &'a mut [T], each: usize) -> Self {
        assert!(each > 0 && slice.len().div_ceil(each) <= PARTS_MAX, "{} in parts of {each}", slice.len());
        Self { start: slice.as_mut_ptr(), length: slice.len(), each, taken: Taken::new(), slice: PhantomData }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.length.div_ceil(self.each)
    }

    /// Takes a part.
    ///
    /// # Panics
    /// If there is no such part or it is taken.
    #[expect(clippy::mut_from_ref, reason = "each part is handed out once, which is checked")]
    #[must_use]
    pub fn take(&self, part: usize) -> &mut [T] {
        assert!(part < self.count(), "part {part} of {}", self.count());
        self.taken.claim(part);
        let from = part * self.each;
        // SAFETY: inside the slice that is borrowed alone for 'a, and no other part overlaps it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), self.each.min(self.length - from)) }
    }
}

impl<T> std::fmt::Debug for Parts<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("length", &self.length).field("each", &self.each).finish_non_exhaustive()
    }
}

/// Ranges of a slice, in rising order, each of which one task takes.
pub struct Cuts<'a, T> {
    start: *mut T,
    ranges: &'a [Range<usize>],
    taken: Taken,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a range goes to one thread, as a `&mut [T]` would.
unsafe impl<T: Send> Sync for Cuts<'_, T> {}

impl<'a, T> Cuts<'a, T> {
    /// Cuts a slice; what lies between the ranges is nobody's.
    ///
    /// # Panics
    /// If ranges overlap, do not rise or leave the slice, or are more than [`PARTS_MAX`].
    pub fn new(slice: &'a mut [T], ranges: &'a [Range<usize>]) -> Self {
        let mut end = 0;
        for range in ranges {
            assert!(end <= range.start && range.start <= range.end && range.end <= slice.len(), "range {range:?} of {}", slice.len());
            end = range.end;
        }
        assert!(ranges.len() <= PARTS_MAX, "{} ranges", ranges.len());
        Self { start: slice.as_mut_ptr(), ranges, taken: Taken::new(), slice: PhantomData }
    }

    /// Takes a range.
    ///
    /// # Panics
    /// If there is no such range or it is taken.
    #[expect(clippy::mut_from_ref, reason = "each range is handed out once, which is checked")]
    #[must_use]
    pub fn take(&self, at: usize) -> &mut [T] {
        let range = &self.ranges[at];
        self.taken.claim(at);
        // SAFETY: inside the slice that is borrowed alone for 'a, and no other range overlaps it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

impl<T> std::fmt::Debug for Cuts<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cuts").field("ranges", &self.ranges.len()).finish_non_exhaustive()
    }
}

/// An output `[rows, width]` cut into runs of columns, each of which one task takes.
pub struct Tiles<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    each: usize,
    taken: Taken,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: a tile goes to one thread, as a `&mut` of its columns would.
unsafe impl Sync for Tiles<'_> {}

impl<'a> Tiles<'a> {
    /// Cuts `out: [rows, width]` into runs of `each` columns; the last may be shorter.
    ///
    /// # Panics
    /// If the length is not rows times width, or there would be more than [`PARTS_MAX`] tiles.
    pub fn new(out: &'a mut [f32], rows: usize, width: usize, each: usize) -> Self {
        assert!(rows.checked_mul(width) == Some(out.len()), "{rows} rows of {width}");
        assert!(each > 0 && width.div_ceil(each) <= PARTS_MAX, "{width} columns by {each}");
        Self { start: out.as_mut_ptr(), rows, width, each, taken: Taken::new(), slice: PhantomData }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.width.div_ceil(self.each)
    }

    /// Takes a tile.
    ///
    /// # Panics
    /// If there is no such tile or it is taken.
    #[must_use]
    pub fn take(&self, tile: usize) -> OutTile<'_> {
        assert!(tile < self.count(), "tile {tile} of {}", self.count());
        self.taken.claim(tile);
        let columns = tile * self.each..self.width.min((tile + 1) * self.each);
        OutTile { start: self.start, rows: self.rows, width: self.width, columns, slice: PhantomData }
    }
}

impl std::fmt::Debug for Tiles<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tiles").field("rows", &self.rows).field("width", &self.width).field("each", &self.each).finish_non_exhaustive()
    }
}

/// Some columns of every row of an output; nobody else has them.
#[derive(Debug)]
pub struct OutTile<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    columns: Range<usize>,
    slice: PhantomData<&'a mut [f32]>,
}

impl<'a> OutTile<'a> {
    /// All columns of `out: [rows, width]`.
    ///
    /// # Panics
    /// If the length is not rows times width.
    pub fn whole(out: &'a mut [f32], rows: usize, width: usize) -> Self {
        assert!(rows.checked_mul(width) == Some(out.len()), "{rows} rows of {width}");
        Self { start: out.as_mut_ptr(), rows, width, columns: 0..width, slice: PhantomData }
    }

    /// Rows of the output.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Which columns these are.
    #[must_use]
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// These columns of a row.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline]
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: inside the output; the tile has these columns alone, and is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.width + self.columns.start), self.columns.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_tiles_cover_an_array_once() {
        let mut values = vec![0u32; 10];
        let parts = Parts::new(&mut values, 4);
        assert_eq!(parts.count(), 3);
        (0..3).for_each(|part| parts.take(part).iter_mut().for_each(|value| *value += u32::try_from(part).unwrap() + 1));
        assert_eq!(values, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]);
        let cuts = Cuts::new(&mut values, &[1..3, 3..3, 7..10]);
        [0, 2, 1].into_iter().for_each(|cut| cuts.take(cut).fill(9));
        assert_eq!(values, [1, 9, 9, 1, 2, 2, 2, 9, 9, 9]);
        let mut out = vec![0f32; 6];
        let tiles = Tiles::new(&mut out, 2, 3, 2);
        for tile in 0..2u8 {
            let mut taken = tiles.take(usize::from(tile));
            (0..2u8).for_each(|row| taken.row(usize::from(row)).fill(f32::from(10 * row + tile)));
        }
        assert_eq!(out, [0.0, 0.0, 1.0, 10.0, 10.0, 11.0]);
    }

    #[test]
    #[should_panic(expected = "part 1 is taken already")]
    fn a_part_is_taken_once() {
        let mut values = vec![0u32; 10];
        let parts = Parts::new(&mut values, 4);
        let _first = parts.take(1);
        let _second = parts.take(1);
    }
}
