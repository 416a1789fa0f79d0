//! Smallest value of any range of the array: minima of blocks of 64, and a sparse table over blocks of 64 of those.
//!
//! Four bytes for every 64th entry, and four times log2 levels for every 4,096th: 0.07 to 0.08 bytes an entry. A query looks at 126 entries, as
//! many block minima and two places of the table at most.

use std::ops::Range;

use super::array::{Array, word};

const BLOCK: usize = 64;

/// Answers for one array, from words that lie elsewhere: block minima, then the levels of the table, lowest first.
#[derive(Debug, Clone, Copy)]
pub(super) struct RangeMinimum<'a> {
    words: &'a [[u8; 4]],
    blocks: usize,
    /// Blocks of blocks.
    tops: usize,
}

/// Words of the minima of so many entries.
pub(super) fn minima_len(entries: usize) -> usize {
    let blocks = entries.div_ceil(BLOCK);
    let tops = blocks.div_ceil(BLOCK);
    blocks + level_widths(tops).sum::<usize>()
}

/// Places in each level of the table over so many tops: level k has minima of 2^k.
fn level_widths(tops: usize) -> impl Iterator<Item = usize> {
    (0..usize::BITS).map_while(move |k| (tops + 1).checked_sub(1 << k).filter(|width| *width > 0))
}

/// Collects minima as entries come.
#[derive(Debug, Default)]
pub(crate) struct Minima {
    entries: usize,
    blocks: Vec<u32>,
}

impl Minima {
    pub(crate) fn push(&mut self, entry: u32) {
        match self.blocks.last_mut().filter(|_| !self.entries.is_multiple_of(BLOCK)) {
            Some(least) => *least = entry.min(*least),
            None => self.blocks.push(entry),
        }
        self.entries += 1;
    }

    /// Adds those of entries that follow; there is a whole number of blocks before them.
    pub(crate) fn append(&mut self, mut more: Self) {
        debug_assert!(self.entries.is_multiple_of(BLOCK), "a block is not divided");
        self.entries += more.entries;
        self.blocks.append(&mut more.blocks);
    }

    /// The words that [`RangeMinimum`] reads.
    pub(crate) fn finish(self) -> Vec<u32> {
        let mut words = self.blocks;
        let tops: Vec<u32> = words.chunks(BLOCK).filter_map(|block| block.iter().min().copied()).collect();
        let mut level_first = words.len();
        words.extend(&tops);
        for (k, width) in level_widths(tops.len()).enumerate().skip(1) {
            let half = 1 << (k - 1);
            let level: Vec<u32> = (0..width).map(|at| words[level_first + at].min(words[level_first + at + half])).collect();
            level_first = words.len();
            words.extend(level);
        }
        words
    }
}

impl<'a> RangeMinimum<'a> {
    /// `words` are what [`Minima::finish`] made of `entries` entries.
    pub(super) fn new(words: &'a [[u8; 4]], entries: usize) -> Self {
        let blocks = entries.div_ceil(BLOCK);
        Self { words, blocks, tops: blocks.div_ceil(BLOCK) }
    }

    /// Smallest of a range of the array that this was made for; nothing for an empty range.
    pub(super) fn of(&self, values: Array<'_>, range: Range<usize>) -> Option<u32> {
        let (edges, blocks) = inner(&range);
        let (block_edges, tops) = inner(&blocks);
        let scanned = edges.into_iter().flat_map(|edge| values.slice(edge).iter()).min();
        let block = block_edges.into_iter().flat_map(|edge| self.words.get(edge).unwrap_or_default()).map(word).min();
        [scanned, block, self.over_tops(tops)].into_iter().flatten().min()
    }

    fn over_tops(&self, range: Range<usize>) -> Option<u32> {
        let k = range.len().checked_ilog2()?;
        let level = usize::try_from(k).ok()?;
        let first = self.blocks + level_widths(self.tops).take(level).sum::<usize>();
        let least = |at: usize| self.words.get(first + at).map(word);
        [least(range.start), least(range.end - (1 << k))].into_iter().flatten().min()
    }
}

/// The parts of a range before and after whole blocks, and the blocks: none where the range holds no whole one.
fn inner(range: &Range<usize>) -> ([Range<usize>; 2], Range<usize>) {
    let (first, last) = (range.start.div_ceil(BLOCK), range.end / BLOCK);
    if first >= last {
        return ([range.clone(), 0..0], 0..0);
    }
    ([range.start..first * BLOCK, last * BLOCK..range.end], first..last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_range_has_the_minimum_of_a_scan() {
        let check = |values: &[u32], range: Range<usize>| {
            let mut minima = Minima::default();
            values.iter().for_each(|value| minima.push(*value));
            let words = minima.finish();
            assert_eq!(words.len(), minima_len(values.len()));
            let bytes = |words: &[u32]| words.iter().map(|word| word.to_le_bytes()).collect::<Vec<_>>();
            let (words, array) = (bytes(&words), bytes(values));
            let got = RangeMinimum::new(&words, values.len()).of(Array::new(array.as_flattened()), range.clone());
            assert_eq!(got, values[range.clone()].iter().min().copied(), "{range:?} of {}", values.len());
        };
        let mut runner = proptest::test_runner::TestRunner::default();
        let sizes = prop_oneof![0..400_usize, 4_000..4_200_usize, 20_000..40_000_usize];
        let cases = sizes.prop_flat_map(|size| (proptest::collection::vec(any::<u32>(), size), 0..=size, 0..=size));
        runner
            .run(&cases, |(values, a, b)| {
                check(&values, a.min(b)..a.max(b));
                Ok(())
            })
            .unwrap();
    }
}
