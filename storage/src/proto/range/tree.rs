//! The pairs of a fragment: what a holder keeps beside its bytes, and what a reader has of it.

use types::id::BlobId;

use super::{GROUP_BYTES, Hash, PAIR_BYTES, Pair, Shape, walk::Node};

/// The pairs of a fragment in pre-order: all of them at a holder, those that came at a reader. 64 bytes a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    shape: Shape,
    root: BlobId,
    pairs: Vec<Pair>,
}

impl Tree {
    /// The tree of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut growing = Growing::new(bytes.len());
        bytes.chunks(GROUP_BYTES).for_each(|group| growing.push(group));
        growing.finish()
    }

    /// A tree of which nothing but the root is known.
    pub(crate) fn unknown(root: BlobId, length: usize) -> Self {
        let shape = Shape::of(length);
        Self { shape, root, pairs: vec![[0; PAIR_BYTES]; shape.groups() as usize - 1] }
    }

    /// The fragment's BLAKE3 name.
    pub const fn root(&self) -> BlobId {
        self.root
    }

    /// Bytes of the fragment.
    pub const fn length(&self) -> usize {
        self.shape.length
    }

    pub(super) const fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn pair(&self, node: Node) -> Pair {
        self.pairs[node.place as usize]
    }

    /// Enters a pair that was checked.
    pub(crate) fn learn(&mut self, place: u32, pair: Pair) {
        if let Some(known) = self.pairs.get_mut(place as usize) {
            *known = pair;
        }
    }
}

/// A tree being built from groups in their order. 32 bytes a group until it is done.
#[derive(Debug)]
pub struct Growing {
    shape: Shape,
    leaves: Vec<Hash>,
}

impl Growing {
    /// For a fragment of `length` bytes.
    pub const fn new(length: usize) -> Self {
        Self { shape: Shape::of(length), leaves: Vec::new() }
    }

    /// The next group: [`GROUP_BYTES`], or what is left.
    pub fn push(&mut self, bytes: &[u8]) {
        let group = u32::try_from(self.leaves.len()).unwrap_or(u32::MAX);
        self.leaves.push(self.shape.group_hash(group, bytes));
    }

    /// The tree, once all groups were given; a missing one counts as empty, so that the root is another.
    pub fn finish(mut self) -> Tree {
        if self.leaves.is_empty() {
            self.push(&[]);
        }
        self.leaves.resize(self.shape.groups() as usize, [0; 32]);
        let mut pairs = vec![[0; PAIR_BYTES]; self.leaves.len() - 1];
        let root = self.merge(Node::root(self.shape), &mut pairs);
        Tree { shape: self.shape, root: BlobId(root), pairs }
    }

    /// Twelve levels deep at most.
    fn merge(&self, node: Node, pairs: &mut [Pair]) -> Hash {
        if node.is_leaf() {
            return self.leaves[node.first as usize];
        }
        let (left, right) = node.children();
        let mut pair = [0; PAIR_BYTES];
        pair[..32].copy_from_slice(&self.merge(left, pairs));
        pair[32..].copy_from_slice(&self.merge(right, pairs));
        pairs[node.place as usize] = pair;
        self.shape.pair_hash(node, &pair)
    }
}
