//! Evidence as the verifiers read it (Protocol P7): one byte string, integers big-endian, nothing padded, nothing that follows from elsewhere.

use types::{
    encoding::Document,
    id::Hash32,
    merkle::{Opening, SumOpening, SumTree, Summed},
    operator::NodeRoot,
};

/// Collects evidence from front to back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packer(Vec<u8>);

impl Packer {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The evidence.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// Bytes whose length the verifier knows.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes after their length u32.
    #[must_use]
    pub fn blob(self, bytes: &[u8]) -> Self {
        // What is opened is a leaf, receipt, quote or manifest: kilobytes.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.u32(length).raw(bytes)
    }

    /// One byte.
    #[must_use]
    pub fn u8(self, number: u8) -> Self {
        self.raw(&[number])
    }

    /// Four bytes.
    #[must_use]
    pub fn u32(self, number: u32) -> Self {
        self.raw(&number.to_be_bytes())
    }

    /// Eight bytes.
    #[must_use]
    pub fn u64(self, number: u64) -> Self {
        self.raw(&number.to_be_bytes())
    }

    /// An opening without its index: leaf count, byte length, siblings.
    #[must_use]
    pub fn opening(self, opening: &Opening) -> Self {
        let head = self.u64(opening.leaves).u64(opening.byte_length);
        opening.siblings.iter().fold(head, |packer, sibling| packer.raw(&sibling.0))
    }

    /// The head of a root: leaf count, byte length, top.
    #[must_use]
    pub fn head(self, leaves: u64, byte_length: u64, top: Hash32) -> Self {
        self.u64(leaves).u64(byte_length).raw(&top.0)
    }

    /// An opening of a sum tree: leaf count, index, siblings with their sums.
    #[must_use]
    pub fn sum_opening(self, opening: &SumOpening) -> Self {
        self.u64(opening.leaves).u64(opening.index).siblings(&opening.siblings)
    }

    /// Siblings with their sums: all of an opening whose leaf count and index are known.
    #[must_use]
    pub fn siblings(self, siblings: &[Summed]) -> Self {
        siblings.iter().fold(self, |packer, sibling| packer.raw(&sibling.digest.0).raw(&sibling.sum.0.to_be_bytes()))
    }

    /// The head of a sum tree's root: leaf count, total, top.
    #[must_use]
    pub fn sum_head(self, leaves: u64, tree: &SumTree) -> Self {
        self.u64(leaves).raw(&tree.total().0.to_be_bytes()).raw(&tree.top().digest.0)
    }

    /// A submitted node root: body, block of submission.
    #[must_use]
    pub fn node_root(self, root: &NodeRoot, block: u64) -> Self {
        self.raw(&root.encode()).u64(block)
    }

    /// A receipt's place: node root, index, siblings.
    #[must_use]
    pub fn place(self, place: &Place) -> Self {
        self.node_root(&place.root, place.block).u64(place.opening.index).siblings(&place.opening.siblings)
    }

    /// Bytes so far.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A receipt's place in a tree that its node submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node root, as its event gives it.
    pub root: NodeRoot,
    /// Block of its submission.
    pub block: u64,
    /// Opening of the receipt's hash with its fee. Its leaf count is the root's, and is not repeated in evidence.
    pub opening: SumOpening,
}
