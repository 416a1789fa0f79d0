//! The array where it lies: four little-endian bytes an entry.

use std::ops::Range;

use super::{ARRAY_LEAF_ENTRIES, ArrayLeaf, format::ARRAY_STRIDE};

/// Word starts of a segment in the order of what follows them, as offsets in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array<'a>(&'a [[u8; 4]]);

/// The bytes of an array leaf.
pub(crate) struct LeafBytes {
    bytes: [[u8; 5]; ARRAY_LEAF_ENTRIES],
    entries: usize,
}

impl AsRef<[u8]> for LeafBytes {
    fn as_ref(&self) -> &[u8] {
        self.bytes[..self.entries].as_flattened()
    }
}

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

    /// The bytes of leaf j, as [`Array::leaf`] has them.
    pub(crate) fn leaf_bytes(&self, index: usize) -> LeafBytes {
        let first = index * ARRAY_STRIDE;
        let entries = self.slice(first..(first + ARRAY_LEAF_ENTRIES).min(self.len()));
        let mut leaf = LeafBytes { bytes: [[0; 5]; ARRAY_LEAF_ENTRIES], entries: entries.len() };
        leaf.bytes.iter_mut().zip(entries.iter()).for_each(|(bytes, entry)| bytes[1..].copy_from_slice(&entry.to_be_bytes()));
        leaf
    }

    /// Leaf j: entries [15 j, 15 j + 16).
    pub(crate) fn leaf(&self, index: usize) -> ArrayLeaf {
        let first = index * ARRAY_STRIDE;
        ArrayLeaf(self.slice(first..(first + ARRAY_LEAF_ENTRIES).min(self.len())).iter().map(u64::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Leaf as _;

    #[test]
    fn a_leaf_has_the_same_bytes_however_it_is_written() {
        for entries in [0, 1, 15, 16, 17, 30, 31, 100_u32] {
            let bytes: Vec<u8> = (0..entries).flat_map(|entry| entry.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
            let array = Array::new(&bytes);
            for leaf in 0..array.len().div_ceil(ARRAY_STRIDE) {
                assert_eq!(array.leaf_bytes(leaf).as_ref(), array.leaf(leaf).bytes(), "{leaf} of {entries}");
            }
        }
    }
}
