//! Keccak trees, plain and summing (P2), byte for byte what the contracts compute.
//!
//! Cost: one keccak of 65 (97) bytes per inner node. [`root`] folds level by level; [`Tree`] keeps all levels (64 bytes a leaf) for what
//! must be opened; [`Crown`] keeps the upper ones (4 bytes a leaf) where the leaves are at hand anyway. An opening of a leaf among n has ceil(log2 n) siblings. Leaves and the nodes of a level are hashed side by side where the
//! machine has lanes for it, an opening's one after another.

mod crown;
mod lanes;

use serde::{Deserialize, Serialize};
use sha3::{Digest, Keccak256};

pub use self::crown::{Crown, CrownView, Growing, crown_len};
use crate::{
    amount::{Amount, AmountError},
    id::Hash32,
};

/// Deepest tree an opening may claim: 2^40 leaves.
pub const DEPTH_MAX: usize = 40;

/// keccak256 of the concatenated parts.
pub fn keccak(parts: &[&[u8]]) -> Hash32 {
    let mut state = Keccak256::new();
    parts.iter().for_each(|part| state.update(part));
    Hash32(state.finalize().into())
}

/// Digest of a leaf.
pub fn leaf(bytes: &[u8]) -> Hash32 {
    keccak(&[&[0], bytes])
}

/// Digests of many leaves, in their order; sooner than one by one where many in a row are of about one length.
pub fn leaf_digests<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>) -> Vec<Hash32> {
    keccak_each(&[0], leaves)
}

/// keccak256 of `prefix` and each message, in their order.
pub(crate) fn keccak_each<M: AsRef<[u8]>>(prefix: &[u8], messages: impl IntoIterator<Item = M>) -> Vec<Hash32> {
    lanes::keccak_each(prefix, messages)
}

/// Digest of an inner node.
pub fn node(left: Hash32, right: Hash32) -> Hash32 {
    keccak(&[&[1], &left.0, &right.0])
}

/// The level above one of a tree.
fn above(level: &[Hash32]) -> Vec<Hash32> {
    let both = |[left, right]: &[Hash32; 2]| {
        let mut both = [0; 64];
        both[..32].copy_from_slice(&left.0);
        both[32..].copy_from_slice(&right.0);
        both
    };
    keccak_each(&[1], level.as_chunks().0.iter().map(both))
}

/// Root of a tree of so many leaves and bytes, from what stands above all leaves.
pub fn seal(leaves: u64, bytes: u64, top: Hash32) -> Hash32 {
    keccak(&[&[3], &leaves.to_be_bytes(), &bytes.to_be_bytes(), &top.0])
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).expect("a length in memory fits 64 bits")
}

/// Root over leaf digests; `byte_length` is that of the committed content.
pub fn root(level: Vec<Hash32>, byte_length: u64) -> Hash32 {
    seal(as_u64(level.len()), byte_length, top(level))
}

/// Digest above all leaves; with their number and the byte length it opens the root.
pub fn top(mut level: Vec<Hash32>) -> Hash32 {
    level.resize(level.len().max(1).next_power_of_two(), Hash32::ZERO);
    while level.len() > 1 {
        level = above(&level);
    }
    level[0]
}

/// A tree kept whole so that its leaves can be opened.
#[derive(Debug, Clone)]
pub struct Tree {
    leaves: u64,
    byte_length: u64,
    levels: Vec<Vec<Hash32>>,
}

/// The way from one leaf to a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// Leaves under the root.
    pub leaves: u64,
    /// Byte length the root states.
    pub byte_length: u64,
    /// Place of the opened leaf.
    pub index: u64,
    /// Siblings from the leaf upwards.
    pub siblings: Vec<Hash32>,
}

impl Tree {
    /// Builds the tree over leaf digests.
    pub fn new(digests: Vec<Hash32>, byte_length: u64) -> Self {
        let leaves = as_u64(digests.len());
        let mut level = digests;
        level.resize(level.len().max(1).next_power_of_two(), Hash32::ZERO);
        let mut levels = vec![level];
        while levels[levels.len() - 1].len() > 1 {
            levels.push(above(&levels[levels.len() - 1]));
        }
        Self { leaves, byte_length, levels }
    }

    /// Builds the tree over whole leaves; the byte length is the sum of theirs.
    pub fn over<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut byte_length = 0;
        let digests = leaf_digests(leaves.into_iter().inspect(|bytes| byte_length += as_u64(bytes.len())));
        Self::new(digests, byte_length)
    }

    /// Digest above all leaves, before counts and lengths are sealed in: what a proof about the root's head alone needs.
    pub fn top(&self) -> Hash32 {
        self.levels[self.levels.len() - 1][0]
    }

    /// The root.
    pub fn root(&self) -> Hash32 {
        seal(self.leaves, self.byte_length, self.top())
    }

    /// Digests `height` levels above the leaves, filled up to a power of two; those of the top if the tree is not so high.
    pub fn level(&self, height: usize) -> &[Hash32] {
        &self.levels[height.min(self.levels.len() - 1)]
    }

    /// Opening of leaf `index`; nothing past the last leaf.
    pub fn open(&self, index: u64) -> Option<Opening> {
        let mut place = usize::try_from(index).ok().filter(|_| index < self.leaves)?;
        let mut siblings = Vec::with_capacity(self.levels.len());
        for level in &self.levels[..self.levels.len() - 1] {
            siblings.push(level[place ^ 1]);
            place >>= 1;
        }
        Some(Opening { leaves: self.leaves, byte_length: self.byte_length, index, siblings })
    }
}

impl Opening {
    /// The root this opening leads to from `leaf_bytes`; nothing if its shape is impossible.
    pub fn root(&self, leaf_bytes: &[u8]) -> Option<Hash32> {
        Some(seal(self.leaves, self.byte_length, self.top(leaf_bytes)?))
    }

    /// Digest above all leaves that this opening leads to from `leaf_bytes`; nothing if its shape is impossible.
    pub fn top(&self, leaf_bytes: &[u8]) -> Option<Hash32> {
        let depth = depth_of(self.leaves)?;
        if self.index >= self.leaves || self.siblings.len() != depth {
            return None;
        }
        Some(self.siblings.iter().enumerate().fold(leaf(leaf_bytes), |digest, (level, sibling)| {
            if self.index >> level & 1 == 0 { node(digest, *sibling) } else { node(*sibling, digest) }
        }))
    }
}

/// Levels above the leaves of a tree of `leaves` leaves.
fn depth_of(leaves: u64) -> Option<usize> {
    let depth = usize::try_from(leaves.max(1).checked_next_power_of_two()?.trailing_zeros()).ok()?;
    (depth <= DEPTH_MAX).then_some(depth)
}

/// A digest with the sum of the amounts below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summed {
    /// Digest.
    pub digest: Hash32,
    /// Sum of the amounts below.
    pub sum: Amount,
}

impl Summed {
    /// A leaf with its amount.
    pub fn leaf(bytes: &[u8], amount: Amount) -> Self {
        Self { digest: leaf(bytes), sum: amount }
    }

    fn join(left: Self, right: Self) -> Result<Self, AmountError> {
        Ok(Self { digest: keccak(&[&[1], &Self::both(&[left, right])]), sum: left.sum.plus(right.sum)? })
    }

    /// The nodes above so many pairs.
    fn join_each(pairs: &[[Self; 2]]) -> Result<Vec<Self>, AmountError> {
        let digests = keccak_each(&[1], pairs.iter().map(Self::both));
        digests.into_iter().zip(pairs).map(|(digest, [left, right])| Ok(Self { digest, sum: left.sum.plus(right.sum)? })).collect()
    }

    /// What a node's digest binds.
    fn both(pair: &[Self; 2]) -> [u8; 96] {
        let mut both = [0; 96];
        for (place, Self { digest, sum }) in both.as_chunks_mut::<48>().0.iter_mut().zip(pair) {
            place[..32].copy_from_slice(&digest.0);
            place[32..].copy_from_slice(&sum.0.to_be_bytes());
        }
        both
    }
}

/// A tree whose every node binds both children's digests and sums: a root can misdirect, never overpay.
#[derive(Debug, Clone)]
pub struct SumTree {
    leaves: u64,
    levels: Vec<Vec<Summed>>,
}

/// The way from one summed leaf to a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SumOpening {
    /// Leaves under the root.
    pub leaves: u64,
    /// Place of the opened leaf.
    pub index: u64,
    /// Siblings from the leaf upwards.
    pub siblings: Vec<Summed>,
}

fn seal_sum(leaves: u64, top: Summed) -> Hash32 {
    keccak(&[&[3], &leaves.to_be_bytes(), &top.sum.0.to_be_bytes(), &top.digest.0])
}

/// Nodes that are joined before they are written over those below: as many as fill the lanes several times, and no more memory.
const JOINED_AT_ONCE: usize = 64;

/// Root and total over summed leaves, folded in place: 48 bytes a leaf and nothing else.
///
/// # Errors
/// [`AmountError::Overflow`] if the total does not fit.
pub fn sum_root(mut level: Vec<Summed>) -> Result<(Hash32, Amount), AmountError> {
    let leaves = as_u64(level.len());
    level.resize(level.len().max(1).next_power_of_two(), Summed::default());
    let mut width = level.len();
    while width > 1 {
        width /= 2;
        for first in (0..width).step_by(JOINED_AT_ONCE) {
            let last = (first + JOINED_AT_ONCE).min(width);
            let joined = Summed::join_each(level[2 * first..2 * last].as_chunks().0)?;
            level[first..last].copy_from_slice(&joined);
        }
    }
    Ok((seal_sum(leaves, level[0]), level[0].sum))
}

impl SumTree {
    /// Builds the tree.
    ///
    /// # Errors
    /// [`AmountError::Overflow`] if the total does not fit.
    pub fn new(leaves: Vec<Summed>) -> Result<Self, AmountError> {
        let count = as_u64(leaves.len());
        let mut level = leaves;
        level.resize(level.len().max(1).next_power_of_two(), Summed::default());
        let mut levels = vec![level];
        while levels[levels.len() - 1].len() > 1 {
            levels.push(Summed::join_each(levels[levels.len() - 1].as_chunks().0)?);
        }
        Ok(Self { leaves: count, levels })
    }

    /// Digest and sum above all leaves, before the count is sealed in: what a proof about the root's head alone needs.
    pub fn top(&self) -> Summed {
        self.levels[self.levels.len() - 1][0]
    }

    /// The root, which states the leaf count and the total.
    pub fn root(&self) -> Hash32 {
        seal_sum(self.leaves, self.top())
    }

    /// Sum of all amounts.
    pub fn total(&self) -> Amount {
        self.top().sum
    }

    /// Opening of leaf `index`; nothing past the last leaf.
    pub fn open(&self, index: u64) -> Option<SumOpening> {
        let mut place = usize::try_from(index).ok().filter(|_| index < self.leaves)?;
        let mut siblings = Vec::with_capacity(self.levels.len());
        for level in &self.levels[..self.levels.len() - 1] {
            siblings.push(level[place ^ 1]);
            place >>= 1;
        }
        Some(SumOpening { leaves: self.leaves, index, siblings })
    }
}

impl SumOpening {
    /// Root and total this opening leads to; nothing if its shape is impossible or a sum overflows.
    pub fn root(&self, leaf: Summed) -> Option<(Hash32, Amount)> {
        if self.index >= self.leaves || self.siblings.len() != depth_of(self.leaves)? {
            return None;
        }
        let mut top = leaf;
        for (level, sibling) in self.siblings.iter().enumerate() {
            top = if self.index >> level & 1 == 0 { Summed::join(top, *sibling) } else { Summed::join(*sibling, top) }.ok()?;
        }
        Some((seal_sum(self.leaves, top), top.sum))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_leaf_opens_to_the_root_and_no_other_leaf_does(leaves in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 1..40)) {
            let tree = Tree::over(leaves.iter().map(Vec::as_slice));
            for (i, bytes) in leaves.iter().enumerate() {
                let opening = tree.open(i as u64).unwrap();
                prop_assert_eq!(opening.root(bytes), Some(tree.root()));
                let mut other = bytes.clone();
                other.push(1);
                prop_assert_ne!(opening.root(&other), Some(tree.root()));
            }
            prop_assert!(tree.open(leaves.len() as u64).is_none());
        }

        #[test]
        fn sum_openings_prove_amount_and_total(amounts in proptest::collection::vec(any::<u64>(), 1..40)) {
            let leaves: Vec<_> = amounts.iter().map(|a| Summed::leaf(&a.to_be_bytes(), Amount(u128::from(*a)))).collect();
            let tree = SumTree::new(leaves.clone()).unwrap();
            prop_assert_eq!(sum_root(leaves.clone()), Ok((tree.root(), tree.total())));
            prop_assert_eq!(tree.total(), Amount(amounts.iter().map(|a| u128::from(*a)).sum()));
            for (i, leaf) in leaves.iter().enumerate() {
                let opening = tree.open(i as u64).unwrap();
                prop_assert_eq!(opening.root(*leaf), Some((tree.root(), tree.total())));
                let larger = Summed { sum: Amount(leaf.sum.0 + 1), ..*leaf };
                prop_assert_ne!(opening.root(larger).map(|r| r.0), Some(tree.root()));
            }
        }
    }

    #[test]
    fn an_opening_past_the_last_leaf_or_of_another_depth_leads_nowhere() {
        let tree = Tree::over([[1_u8].as_slice(), &[2], &[3]]);
        let good = tree.open(2).unwrap();
        assert_eq!(good.root(&[3]), Some(tree.root()));
        assert_eq!(Opening { index: 3, ..good.clone() }.root(&[3]), None, "place 3 is filler");
        let deeper = Opening { siblings: [good.siblings.clone(), vec![Hash32::ZERO]].concat(), ..good.clone() };
        assert_eq!(deeper.root(&[3]), None);
        assert_eq!(Opening { siblings: good.siblings[..1].to_vec(), ..good }.root(&[3]), None);
    }

    #[test]
    fn a_sum_opening_past_the_last_leaf_or_of_another_depth_leads_nowhere() {
        let leaf = |byte: u8| Summed::leaf(&[byte], Amount(byte.into()));
        let tree = SumTree::new(vec![leaf(1), leaf(2), leaf(3)]).unwrap();
        let good = tree.open(2).unwrap();
        assert_eq!(good.root(leaf(3)), Some((tree.root(), Amount(6))));
        assert_eq!(SumOpening { index: 3, ..good.clone() }.root(leaf(3)), None, "place 3 is filler");
        let deeper = SumOpening { siblings: [good.siblings.clone(), vec![Summed::default()]].concat(), ..good.clone() };
        assert_eq!(deeper.root(leaf(3)), None);
        assert_eq!(SumOpening { siblings: good.siblings[..1].to_vec(), ..good }.root(leaf(3)), None);
    }

    #[test]
    fn the_deepest_tree_has_forty_levels() {
        let opening = |leaves, depth| Opening { leaves, byte_length: 0, index: 0, siblings: vec![Hash32::ZERO; depth] };
        assert!(opening(1 << 40, DEPTH_MAX).root(&[]).is_some());
        assert_eq!(opening((1 << 40) + 1, DEPTH_MAX + 1).root(&[]), None);
    }

    #[test]
    fn the_folding_root_equals_the_kept_tree() {
        for n in [0_u8, 1, 2, 3, 5, 8, 33] {
            let digests: Vec<_> = (0..n).map(|i| leaf(&[i])).collect();
            let tree = Tree::new(digests.clone(), n.into());
            assert_eq!(root(digests, n.into()), tree.root(), "{n}");
            assert_eq!(seal(n.into(), n.into(), tree.top()), tree.root(), "{n}");
        }
    }

    #[test]
    fn a_tree_of_any_size_has_the_nodes_of_its_pairs() {
        for n in (0_u8..40).chain([63, 64, 65, 127, 128, 129, 200, 255]) {
            let leaves: Vec<_> = (0..n).map(|i| Summed::leaf(&[i], Amount(i.into()))).collect();
            let digests: Vec<_> = leaves.iter().map(|leaf| leaf.digest).collect();
            let mut level = digests.clone();
            level.resize(level.len().max(1).next_power_of_two(), Hash32::ZERO);
            let tree = Tree::new(digests, n.into());
            for height in 0.. {
                assert_eq!(tree.level(height), level, "{n} leaves, {height} above them");
                if level.len() == 1 {
                    break;
                }
                level = level.chunks(2).map(|pair| keccak(&[&[1], &pair[0].0, &pair[1].0])).collect();
            }
            let mut level = leaves.clone();
            level.resize(level.len().max(1).next_power_of_two(), Summed::default());
            while level.len() > 1 {
                let joined = |pair: &[Summed]| {
                    let [left, right] = [pair[0], pair[1]].map(|child| [&child.digest.0[..], &child.sum.0.to_be_bytes()].concat());
                    Summed { digest: keccak(&[&[1], &left, &right]), sum: Amount(pair[0].sum.0 + pair[1].sum.0) }
                };
                level = level.chunks(2).map(joined).collect();
            }
            assert_eq!(SumTree::new(leaves.clone()).unwrap().top(), level[0], "{n} leaves");
            assert_eq!(sum_root(leaves), Ok((seal_sum(n.into(), level[0]), level[0].sum)), "{n} leaves");
        }
    }

    #[test]
    fn a_total_beyond_128_bits_is_refused() {
        let leaf = Summed { digest: Hash32::ZERO, sum: Amount(u128::MAX) };
        assert!(SumTree::new(vec![leaf, leaf]).is_err() && sum_root(vec![leaf, leaf]).is_err());
    }
}
