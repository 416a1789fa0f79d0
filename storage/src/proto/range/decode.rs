//! Reading a range: every pair and every group is checked when its last byte is there.

use types::id::BlobId;

use super::{GROUP_BYTES, Hash, PAIR_BYTES, Pair, Run, Shape, split, walk::Node};
use crate::erasure::{ObjectManifest, VerifiedFragment};

/// Groups handed on at once: 256 KiB.
pub const BLOCK_GROUPS: u32 = 16;

/// Groups in a row whose bytes were hashed and found to be the fragment's. Only a [`Decoder`] makes them.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    object: BlobId,
    index: u8,
    run: Run,
    bytes: Vec<u8>,
    pairs: Vec<(u32, Pair)>,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block").field("object", &self.object).field("index", &self.index).field("run", &self.run).finish_non_exhaustive()
    }
}

impl Block {
    /// The object.
    pub const fn object(&self) -> BlobId {
        self.object
    }

    /// Which fragment.
    pub const fn index(&self) -> u8 {
        self.index
    }

    /// Which groups.
    pub const fn run(&self) -> Run {
        self.run
    }

    /// Their bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Pairs that came with them and before them, by place in pre-order.
    pub(crate) fn pairs(&self) -> &[(u32, Pair)] {
        &self.pairs
    }
}

/// What a holder sent instead of what the fragment's name asks for. The honest bytes at this place hash to `expected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("group {group} of fragment {index} of object {object} should be {expected}, what came is {got}")]
pub struct Wrong {
    /// The object.
    pub object: BlobId,
    /// Which fragment.
    pub index: u8,
    /// The first group below the node that is wrong.
    pub group: u32,
    /// What the node hashes to by the manifest.
    pub expected: BlobId,
    /// What came.
    pub got: BlobId,
}

/// A range being read. What it holds: the group that is arriving, and once a group was good, a block of [`BLOCK_GROUPS`].
#[derive(Debug)]
pub struct Decoder {
    object: BlobId,
    index: u8,
    shape: Shape,
    run: Run,
    /// What is still to come, next last.
    stack: Vec<(Node, Hash)>,
    /// The step that is arriving, with how much of it is there.
    filled: usize,
    pair: Pair,
    /// Good groups, and the one that is arriving.
    bytes: Vec<u8>,
    good: Run,
    good_bytes: usize,
    pairs: Vec<(u32, Pair)>,
    wrong: Option<Wrong>,
}

impl Decoder {
    /// A range of fragment `index` of the manifest's object; nothing if the object has no such range.
    pub fn new(manifest: &ObjectManifest, index: u8, run: Run) -> Option<Self> {
        let root = manifest.fragments().get(usize::from(index))?.blake3;
        let shape = Shape::of(manifest.fragment_len());
        run.fits(manifest.fragment_len()).then(|| {
            let mut decoder = Self {
                object: manifest.id(),
                index,
                shape,
                run,
                stack: vec![(Node::root(shape), root.0)],
                filled: 0,
                pair: [0; PAIR_BYTES],
                bytes: Vec::new(),
                good: Run { first: run.first, count: 0 },
                good_bytes: 0,
                pairs: Vec::new(),
                wrong: None,
            };
            decoder.settle();
            decoder
        })
    }

    /// Whether nothing more is to come, be it that all is there or that something was wrong.
    pub fn is_done(&self) -> bool {
        self.stack.is_empty()
    }

    /// Where the next bytes go; empty once nothing more is to come. Never longer than [`GROUP_BYTES`].
    pub fn space(&mut self) -> &mut [u8] {
        match self.stack.last() {
            None => &mut [],
            Some((node, _)) if node.is_leaf() => {
                let len = self.shape.group_len(node.first);
                if self.bytes.len() < self.good_bytes + len {
                    if self.good_bytes > 0 && self.bytes.capacity() < self.good_bytes + len {
                        self.bytes.reserve_exact(BLOCK_GROUPS as usize * GROUP_BYTES - self.good_bytes);
                    }
                    self.bytes.resize(self.good_bytes + len, 0);
                }
                &mut self.bytes[self.good_bytes + self.filled..self.good_bytes + len]
            }
            Some(_) => &mut self.pair[self.filled..],
        }
    }

    /// Says that `count` bytes were put at the beginning of [`Decoder::space`]. Gives a block when one is full or the range ends.
    ///
    /// # Errors
    /// [`Wrong`], now and whenever it is called again; [`Decoder::take`] still gives what was good before.
    pub fn advance(&mut self, count: usize) -> Result<Option<Block>, Wrong> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let Some(&(node, expected)) = self.stack.last() else { return Ok(None) };
        let len = if node.is_leaf() { self.shape.group_len(node.first) } else { PAIR_BYTES };
        self.filled = self.filled.saturating_add(count).min(len);
        if self.filled < len {
            return Ok(None);
        }
        let got = if node.is_leaf() {
            self.shape.group_hash(node.first, &self.bytes[self.good_bytes..self.good_bytes + len])
        } else {
            self.shape.pair_hash(node, &self.pair)
        };
        if got != expected {
            let (object, index) = (self.object, self.index);
            let wrong = Wrong { object, index, group: node.first, expected: BlobId(expected), got: BlobId(got) };
            self.wrong = Some(wrong);
            self.stack.clear();
            return Err(wrong);
        }
        self.filled = 0;
        self.stack.pop();
        if node.is_leaf() {
            self.good.count += 1;
            self.good_bytes += len;
        } else {
            let ((near, far), (near_hash, far_hash)) = (node.children(), split(&self.pair));
            self.pairs.push((node.place, self.pair));
            self.stack.extend([(far, far_hash), (near, near_hash)]);
        }
        self.settle();
        Ok(if self.good.count >= BLOCK_GROUPS || self.is_done() { self.take() } else { None })
    }

    /// The good groups that were not handed on yet; nothing if there are none.
    pub fn take(&mut self) -> Option<Block> {
        if self.good.count == 0 {
            return None;
        }
        // A group that is half there goes on in a new buffer.
        let rest = self.bytes.split_off(self.good_bytes);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        let (run, pairs) = (self.good, std::mem::take(&mut self.pairs));
        (self.good, self.good_bytes) = (Run { first: run.end(), count: 0 }, 0);
        Some(Block { object: self.object, index: self.index, run, bytes, pairs })
    }

    /// Bytes of memory behind it.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Drops what the range does not touch from the top of the stack.
    fn settle(&mut self) {
        while self.stack.last().is_some_and(|(node, _)| !node.touches(self.run)) {
            self.stack.pop();
        }
    }
}

/// The fragment of blocks that follow one another from its first group to its last; nothing if they do not.
pub fn whole(manifest: &ObjectManifest, index: u8, blocks: &[Block]) -> Option<VerifiedFragment> {
    let mut bytes = Vec::with_capacity(manifest.fragment_len());
    let mut next = 0;
    for block in blocks {
        if block.object != manifest.id() || block.index != index || block.run.first != next {
            return None;
        }
        next = block.run.end();
        bytes.extend_from_slice(&block.bytes);
    }
    (next == Run::all(manifest.fragment_len()).count).then(|| manifest.assembled(index, bytes)).flatten()
}
