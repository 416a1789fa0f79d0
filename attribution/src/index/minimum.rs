//! Smallest value of any range of the array, in constant time: minima of blocks of 32, and a sparse table above them.
//!
//! n / 32 block minima times log2 levels of four bytes: about 1.5 bytes per entry at a million entries.

use std::ops::Range;

const BLOCK: usize = 32;

/// Answers for one fixed array.
#[derive(Debug)]
pub(super) struct RangeMinimum {
    /// `levels[k][i]`: smallest value of the 2^k blocks from block i.
    levels: Vec<Vec<u32>>,
}

impl RangeMinimum {
    pub(super) fn new(values: &[u32]) -> Self {
        let mut levels: Vec<Vec<u32>> = vec![values.chunks(BLOCK).filter_map(|block| block.iter().min().copied()).collect()];
        for k in 0.. {
            let (below, width) = (&levels[k], 1 << k);
            if below.len() <= width {
                break;
            }
            let above = below.iter().zip(&below[width..]).map(|(a, b)| *a.min(b)).collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.levels.iter().map(|level| level.capacity() * size_of::<u32>()).sum()
    }

    /// Smallest of `values[range]`, the array this was made for; nothing for an empty range.
    pub(super) fn of(&self, values: &[u32], range: Range<usize>) -> Option<u32> {
        let (first, last) = (range.start.div_ceil(BLOCK), range.end / BLOCK);
        if first >= last {
            return values[range].iter().min().copied();
        }
        let edges = values[range.start..first * BLOCK].iter().chain(&values[last * BLOCK..range.end]).min();
        let k = (last - first).ilog2();
        let level = &self.levels[usize::try_from(k).expect("at most 64 levels")];
        let inner = level[first].min(level[last - (1 << k)]);
        Some(edges.map_or(inner, |edge| inner.min(*edge)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_range_has_the_minimum_of_a_scan(values in proptest::collection::vec(any::<u32>(), 0..400), a in 0..400_usize, b in 0..400_usize) {
            let (a, b) = (a.min(values.len()), b.min(values.len()));
            let range = a.min(b)..a.max(b);
            prop_assert_eq!(RangeMinimum::new(&values).of(&values, range.clone()), values[range].iter().min().copied());
        }
    }
}
