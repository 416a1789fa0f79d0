//! A tree of which only the upper levels are kept: what is below them is hashed again for each opening.
//!
//! Kept digests are one row of bytes, lowest level first, so that a [`CrownView`] reads them where they lie: in memory or in a mapped file.
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

/// Leaves hashed at a time where memory is to stay small: as many as fill the lanes many times.
const LEAVES_AT_ONCE: usize = 4_096;

/// The upper levels of a tree whose leaves are at hand elsewhere.
#[derive(Debug, Clone)]
pub struct Crown {
    leaves: u64,
    byte_length: u64,
    /// From the lowest kept level up to the top, level by level; digests that no leaf stands below are left out.
    digests: Vec<[u8; 32]>,
}

/// A crown whose digests lie elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrownView<'a> {
    leaves: u64,
    byte_length: u64,
    digests: &'a [[u8; 32]],
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
            return Crown { leaves: self.leaves, byte_length, digests: vec![top(self.rest).0] };
        }
        if !self.rest.is_empty() {
            self.rest.resize(GROUP, Hash32::ZERO);
            self.kept.extend(folded(&self.rest));
        }
        let mut digests: Vec<[u8; 32]> = Vec::with_capacity(crown_len(self.leaves));
        let (mut level, mut filling) = (self.kept, fill(HEIGHT));
        while level.len() > 1 {
            digests.extend(level.iter().map(|digest| digest.0));
            let unpaired = level.as_chunks::<2>().1.first().copied();
            level = above(&level);
            level.extend(unpaired.map(|unpaired| node(unpaired, filling)));
            filling = node(filling, filling);
        }
        digests.extend(level.iter().map(|digest| digest.0));
        Crown { leaves: self.leaves, byte_length, digests }
    }
}

/// Digests in each level of a crown over so many leaves, the lowest first.
fn widths(leaves: u64) -> impl Iterator<Item = usize> {
    let lowest = usize::try_from(leaves.div_ceil(as_u64(GROUP))).unwrap_or(usize::MAX).max(1);
    std::iter::successors(Some(lowest), |width| (*width > 1).then(|| width.div_ceil(2)))
}

/// Digests of a crown over so many leaves.
pub fn crown_len(leaves: u64) -> usize {
    widths(leaves).fold(0, usize::saturating_add)
}

impl Crown {
    /// The crown over whole leaves; the byte length is the sum of theirs.
    pub fn over<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>) -> Self {
        let (mut byte_length, mut growing) = (0, Growing::default());
        growing.extend(&leaf_digests(leaves.into_iter().inspect(|bytes| byte_length += as_u64(bytes.as_ref().len()))));
        growing.finish(byte_length)
    }

    /// The crown over leaves of content of `byte_length` bytes, of which a few thousand digests are in memory at a time.
    pub fn in_parts<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>, byte_length: u64) -> Self {
        let (mut growing, mut leaves) = (Growing::default(), leaves.into_iter().peekable());
        while leaves.peek().is_some() {
            growing.extend(&leaf_digests(leaves.by_ref().take(LEAVES_AT_ONCE)));
        }
        growing.finish(byte_length)
    }

    /// The same crown, to be read.
    pub fn view(&self) -> CrownView<'_> {
        CrownView { leaves: self.leaves, byte_length: self.byte_length, digests: &self.digests }
    }

    /// Its digests, lowest level first: what [`CrownView::new`] takes.
    pub fn digests(&self) -> &[[u8; 32]] {
        &self.digests
    }

    /// Digest above all leaves.
    pub fn top(&self) -> Hash32 {
        self.view().top()
    }

    /// The root, the same as [`Tree::root`] of these leaves.
    pub fn root(&self) -> Hash32 {
        self.view().root()
    }

    /// Bytes of digests in memory.
    pub fn memory_bytes(&self) -> usize {
        self.digests.capacity() * size_of::<Hash32>()
    }

    /// As [`CrownView::open`].
    pub fn open(&self, index: u64, again: impl FnOnce(Range<usize>) -> Vec<Hash32>) -> Option<Opening> {
        self.view().open(index, again)
    }
}

impl<'a> CrownView<'a> {
    /// The crown over so many leaves and bytes with these digests, lowest level first; nothing if they are not as many as it has.
    pub fn new(leaves: u64, byte_length: u64, digests: &'a [[u8; 32]]) -> Option<Self> {
        (digests.len() == crown_len(leaves)).then_some(Self { leaves, byte_length, digests })
    }

    /// Digest above all leaves.
    pub fn top(&self) -> Hash32 {
        Hash32(*self.digests.last().expect("a crown has a top"))
    }

    /// The root that its topmost digest makes.
    pub fn root(&self) -> Hash32 {
        seal(self.leaves, self.byte_length, self.top())
    }

    /// Whether every digest is the one above those below it, so that one that is not shows before anything is opened.
    pub fn is_whole(&self) -> bool {
        let (mut filling, mut first) = (fill(HEIGHT), 0);
        for width in widths(self.leaves).take_while(|width| *width > 1) {
            let (level, next) = self.digests[first..].split_at(width);
            let pairs = level.chunks(2).map(|pair| node(Hash32(pair[0]), pair.get(1).map_or(filling, |right| Hash32(*right))));
            if !pairs.eq(next[..width.div_ceil(2)].iter().map(|digest| Hash32(*digest))) {
                return false;
            }
            filling = node(filling, filling);
            first += width;
        }
        true
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
        if low.top().0 != self.digests[place] {
            return None;
        }
        let mut siblings = low.open(as_u64(leaf - first))?.siblings;
        let (mut filling, mut level_first) = (fill(HEIGHT), 0);
        for width in widths(self.leaves).take_while(|width| *width > 1) {
            let level = &self.digests[level_first..level_first + width];
            siblings.push(level.get(place ^ 1).map_or(filling, |digest| Hash32(*digest)));
            place >>= 1;
            level_first += width;
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
        for count in [0, 1, 4_095, 4_096, 4_097, 9_000] {
            let length = (0..count).map(|number| leaf_bytes(number).len() as u64).sum();
            let parts = Crown::in_parts((0..count).map(leaf_bytes), length);
            assert_eq!(parts.view(), Crown::over((0..count).map(leaf_bytes)).view(), "{count}");
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
    fn a_crown_is_read_where_its_digests_lie_and_a_changed_one_shows() {
        for count in [0, 1, 16, 17, 100, 333, 1_025] {
            let leaves: Vec<_> = (0..count).map(leaf_bytes).collect();
            let crown = Crown::over(&leaves);
            let (length, mut digests) = (leaves.iter().map(|leaf| leaf.len() as u64).sum(), crown.digests().to_vec());
            let view = |digests: &[[u8; 32]]| CrownView::new(count as u64, length, digests).map(|view| (view.root(), view.is_whole()));
            assert_eq!(view(&digests), Some((crown.root(), true)), "{count}");
            assert!(view(&digests[1..]).is_none());
            for at in (0..digests.len()).filter(|_| count > 16) {
                digests[at][at % 32] ^= 1;
                assert!(!view(&digests).unwrap().1, "{at} of {count}");
                digests[at][at % 32] ^= 1;
            }
        }
    }

    #[test]
    fn a_crown_takes_four_bytes_a_leaf() {
        let crown = Crown::over((0..10_000).map(leaf_bytes));
        assert!(crown.memory_bytes() <= 4 * 10_000 + 32 * 14, "{}", crown.memory_bytes());
    }
}
