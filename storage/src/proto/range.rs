//! Ranges of a fragment, each 16 KiB checked against the fragment's BLAKE3 name as it arrives.
//!
//! BLAKE3 is a tree; [`GROUP_BYTES`] are the leaves here. A range travels as bao does (O'Connor and others), in pre-order: for a node that the range
//! touches the 64 bytes of its two children's hashes, then the left child, then the right one; for a leaf its bytes. Whoever knows the fragment's
//! name and length can check every pair and every leaf when it is there, and nothing that was checked needs to be looked at again. No lengths
//! travel: both sides derive the steps from the fragment's length and the range.
//!
//! A range costs 64 bytes for each group and 11 pairs at most above it: 0.4 % of a 4 MiB fragment. A holder keeps the pairs ([`Tree`]: 16 KiB for
//! that fragment) and reads the rest from its disk; a reader keeps the pairs it got, so that it can prove to itself later what it wrote down.
//!
//! Own code instead of `bao-tree`: the hashing is `blake3::hazmat`'s in both, what is left is the walk below.

mod decode;
mod encode;
mod tree;
mod walk;

use serde::{Deserialize, Serialize};

pub use self::{
    decode::{BLOCK_GROUPS, Block, Decoder, Wrong, whole},
    encode::{Encoder, FillError},
    tree::{Growing, Tree},
};
use crate::erasure::FRAGMENT_BYTES_MAX;

/// Bytes that are checked at once: 16 chunks of BLAKE3. The last group of a fragment may be shorter.
pub const GROUP_BYTES: usize = 16 << 10;
/// Bytes of two children's hashes.
pub const PAIR_BYTES: usize = 64;
/// Most groups of a fragment.
pub const GROUPS_MAX: u32 = as_groups(FRAGMENT_BYTES_MAX.div_ceil(GROUP_BYTES));

#[expect(clippy::cast_possible_truncation, reason = "checked in the line before, where constants are computed")]
const fn as_groups(groups: usize) -> u32 {
    assert!(groups < u32::MAX as usize, "fragments have fewer groups");
    groups as u32
}

/// Groups in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Run {
    /// The first group.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Run {
    /// One past the last group; beyond every group if the sum is no 32-bit number.
    pub const fn end(self) -> u32 {
        self.first.saturating_add(self.count)
    }

    /// All groups of a fragment of `length` bytes.
    pub fn all(length: usize) -> Self {
        Self { first: 0, count: Shape::of(length).groups() }
    }

    /// Whether it names groups of a fragment of `length` bytes, and at least one.
    pub fn fits(self, length: usize) -> bool {
        self.count > 0 && self.first.checked_add(self.count).is_some_and(|end| end <= Shape::of(length).groups())
    }

    /// Bytes that it takes on the wire, for a fragment of `length` bytes.
    pub fn encoded_len(self, length: usize) -> usize {
        let shape = Shape::of(length);
        walk::Walk::new(shape, self).map(|step| step.len(shape)).sum()
    }
}

/// A fragment's length, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    length: usize,
}

impl Shape {
    pub(crate) const fn of(length: usize) -> Self {
        Self { length }
    }

    /// The fragment's length.
    pub(crate) const fn length(self) -> usize {
        self.length
    }

    /// Groups, at least one.
    pub(crate) fn groups(self) -> u32 {
        u32::try_from(self.length.div_ceil(GROUP_BYTES).max(1)).unwrap_or(u32::MAX)
    }

    /// Where a group begins.
    pub(crate) const fn offset(self, group: u32) -> usize {
        (group as usize).saturating_mul(GROUP_BYTES)
    }

    /// Bytes of a group.
    pub(crate) fn group_len(self, group: u32) -> usize {
        self.length.saturating_sub(self.offset(group)).min(GROUP_BYTES)
    }

    /// The hash of a group at its place.
    fn group_hash(self, group: u32, bytes: &[u8]) -> Hash {
        use blake3::hazmat::HasherExt as _;
        if self.groups() == 1 {
            return *blake3::hash(bytes).as_bytes();
        }
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(u64::from(group) * GROUP_BYTES as u64).update(bytes);
        hasher.finalize_non_root()
    }

    /// The hash of a node with these children.
    fn pair_hash(self, node: walk::Node, pair: &Pair) -> Hash {
        use blake3::hazmat::{Mode, merge_subtrees_non_root, merge_subtrees_root};
        let (left, right) = split(pair);
        if node.count == self.groups() {
            *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
        } else {
            merge_subtrees_non_root(&left, &right, Mode::Hash)
        }
    }
}

type Hash = [u8; 32];
type Pair = [u8; PAIR_BYTES];

fn split(pair: &Pair) -> (Hash, Hash) {
    let (mut left, mut right) = ([0; 32], [0; 32]);
    left.copy_from_slice(&pair[..32]);
    right.copy_from_slice(&pair[32..]);
    (left, right)
}

#[cfg(test)]
mod tests;
