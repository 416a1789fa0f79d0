//! A tree of which only the upper levels are kept: what is below them is hashed again for each opening.
//!
//! A [`Tree`] keeps 64 bytes a leaf, and up to twice that where the leaves are just more than a power of two. A crown keeps four, and nothing of
//! what only fills a level up. For that an opening hashes 16 leaves and 15 nodes: of text leaves of 324 bytes 78 blocks of keccak, some
//! 30 microseconds.

use std::ops::Range;

use super::{Opening, Tree, above, as_u64, leaf_digests, node, seal, top};
use crate::id::Hash32;

/// Levels below the lowest that is kept.
const HEIGHT: usize = 4;
/// Leaves below one digest of the lowest level that is kept.
const GROUP: usize = 1 << HEIGHT;

/// The upper levels of a tree whose leaves are at hand elsewhere.
#[derive(Debug, Clone)]
pub struct Crown {
    leaves: u64,
    byte_length: u64,
    /// From the lowest kept level up to the top; digests that no leaf stands below are left out.
    levels: Vec<Vec<Hash32>>,
}

/// A crown that grows by leaves.
#[derive(Debug, Default)]
pub struct Growing {
    leaves: u64,
    kept: Vec<Hash32>,
    /// Leaf digests that make no whole group yet.
    rest: Vec<Hash32>,
}

/// `level` folded up by [`HEIGHT`] levels; it holds whole groups.
fn folded(level: &[Hash32]) -> Vec<Hash32> {
    (1..HEIGHT).fold(above(level), |level, _| above(&level))
}

/// What stands `height` levels above leaves that are not there.
fn fill(height: usize) -> Hash32 {
    (0..height).fold(Hash32::ZERO, |digest, _| node(digest, digest))
}

impl Growing {
    /// Adds the leaves with these digests.
    pub fn extend(&mut self, digests: &[Hash32]) {
        self.leaves += as_u64(digests.len());
        self.rest.extend_from_slice(digests);
        let whole = self.rest.len() / GROUP * GROUP;
        self.kept.extend(folded(&self.rest[..whole]));
        self.rest.drain(..whole);
    }

    /// The crown over all leaves added; `byte_length` is that of the committed content.
    pub fn finish(mut self, byte_length: u64) -> Crown {
        if self.kept.is_empty() {
            // One group: its tree is as high as its leaves need.
            return Crown { leaves: self.leaves, byte_length, levels: vec![vec![top(self.rest)]] };
        }
        if !self.rest.is_empty() {
            self.rest.resize(GROUP, Hash32::ZERO);
            self.kept.extend(folded(&self.rest));
        }
        self.kept.shrink_to_fit();
        let (mut levels, mut filling) = (vec![self.kept], fill(HEIGHT));
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let mut next = above(level);
            if let [unpaired] = level.as_chunks::<2>().1 {
                next.push(node(*unpaired, filling));
            }
            next.shrink_to_fit();
            levels.push(next);
            filling = node(filling, filling);
        }
        Crown { leaves: self.leaves, byte_length, levels }
    }
}

impl Crown {
    /// The crown over whole leaves; the byte length is the sum of theirs.
    pub fn over<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>) -> Self {
        let (mut byte_length, mut growing) = (0, Growing::default());
        growing.extend(&leaf_digests(leaves.into_iter().inspect(|bytes| byte_length += as_u64(bytes.as_ref().len()))));
        growing.finish(byte_length)
    }

    /// Digest above all leaves.
    pub fn top(&self) -> Hash32 {
        self.levels[self.levels.len() - 1][0]
    }

    /// The root, the same as [`Tree::root`] of these leaves.
    pub fn root(&self) -> Hash32 {
        seal(self.leaves, self.byte_length, self.top())
    }

    /// Bytes of digests in memory.
    pub fn memory_bytes(&self) -> usize {
        self.levels.iter().map(|level| level.capacity() * size_of::<Hash32>()).sum()
    }

    /// Opening of leaf `index`, the same as [`Tree::open`]; `again` gives the digests of the leaves in a range of at most 16. Nothing past the
    /// last leaf, and nothing if these are not the leaves that the crown was made over.
    pub fn open(&self, index: u64, again: impl FnOnce(Range<usize>) -> Vec<Hash32>) -> Option<Opening> {
        let leaf = usize::try_from(index).ok().filter(|_| index < self.leaves)?;
        let leaves = usize::try_from(self.leaves).ok()?;
        let mut place = leaf / GROUP;
        let first = place * GROUP;
        let last = leaves.min(first + GROUP);
        let mut digests = again(first..last);
        if digests.len() != last - first {
            return None;
        }
        if leaves > GROUP {
            digests.resize(GROUP, Hash32::ZERO);
        }
        let low = Tree::new(digests, 0);
        if low.top() != self.levels[0][place] {
            return None;
        }
        let mut siblings = low.open(as_u64(leaf - first))?.siblings;
        let mut filling = fill(HEIGHT);
        for level in &self.levels[..self.levels.len() - 1] {
            siblings.push(level.get(place ^ 1).copied().unwrap_or(filling));
            place >>= 1;
            filling = node(filling, filling);
        }
        Some(Opening { leaves: self.leaves, byte_length: self.byte_length, index, siblings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf_bytes(number: usize) -> Vec<u8> {
        number.to_string().into_bytes()
    }

    #[test]
    fn a_crown_has_the_root_and_the_openings_of_the_whole_tree() {
        for count in (0..70).chain([127, 128, 129, 255, 256, 257, 300, 513, 1_000]) {
            let leaves: Vec<_> = (0..count).map(leaf_bytes).collect();
            let (tree, crown) = (Tree::over(leaves.iter().map(Vec::as_slice)), Crown::over(&leaves));
            assert_eq!((crown.root(), crown.top()), (tree.root(), tree.top()), "{count}");
            let step = if count < 70 { 1 } else { 7 };
            for index in (0..count).step_by(step).chain(count.checked_sub(1)) {
                let opened = crown.open(index as u64, |range| leaf_digests(&leaves[range]));
                assert_eq!(opened, tree.open(index as u64), "{index} of {count}");
                assert!(opened.is_some());
            }
            assert!(crown.open(count as u64, |_| vec![]).is_none());
        }
    }

    #[test]
    fn a_crown_does_not_depend_on_how_many_leaves_come_at_once() {
        let digests = leaf_digests((0..333).map(leaf_bytes));
        let whole = Tree::new(digests.clone(), 9).root();
        for step in [1, 3, 15, 16, 17, 100, 333] {
            let mut growing = Growing::default();
            digests.chunks(step).for_each(|digests| growing.extend(digests));
            assert_eq!(growing.finish(9).root(), whole, "{step}");
        }
    }

    #[test]
    fn other_leaves_than_it_was_made_over_open_nothing() {
        let leaves: Vec<_> = (0..40).map(leaf_bytes).collect();
        let crown = Crown::over(&leaves);
        let changed = |range: Range<usize>| leaf_digests(range.map(|number| leaf_bytes(if number == 19 { 0 } else { number })));
        assert!(crown.open(17, changed).is_none());
        assert!(crown.open(17, |range| leaf_digests(&leaves[range][1..])).is_none());
        assert!(crown.open(1, changed).is_some(), "of another group");
    }

    #[test]
    fn a_crown_takes_four_bytes_a_leaf() {
        let crown = Crown::over((0..10_000).map(leaf_bytes));
        assert!(crown.memory_bytes() <= 4 * 10_000 + 32 * 14, "{}", crown.memory_bytes());
    }
}
