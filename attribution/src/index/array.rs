//! The array where it lies: four little-endian bytes an entry.

use std::ops::Range;

use super::{ARRAY_LEAF_ENTRIES, ArrayLeaf, format::ARRAY_STRIDE};

/// Word starts of a segment in the order of what follows them, as offsets in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array<'a>(&'a [[u8; 4]]);

/// The number that four bytes of a segment are.
pub(super) fn word(bytes: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*bytes)
}

impl<'a> Array<'a> {
    /// `bytes`: four an entry.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    /// Number of entries.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no word at all.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry at a rank.
    pub fn get(&self, rank: usize) -> Option<u32> {
        self.0.get(rank).map(word)
    }

    /// The entries of a range of ranks; none if it reaches beyond the last.
    pub fn slice(&self, ranks: Range<usize>) -> Self {
        Self(self.0.get(ranks).unwrap_or_default())
    }

    /// The entries in their order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u32> + DoubleEndedIterator + 'a {
        self.0.iter().map(word)
    }

    /// Leaf j: entries [15 j, 15 j + 16).
    pub(crate) fn leaf(&self, index: usize) -> ArrayLeaf {
        let first = index * ARRAY_STRIDE;
        ArrayLeaf(self.slice(first..(first + ARRAY_LEAF_ENTRIES).min(self.len())).iter().map(u64::from).collect())
    }
}
