//! Writing a range: pairs from the tree, groups from wherever they are kept, each checked on the way.

use types::id::BlobId;

use super::{Hash, Run, Tree, split, walk::Node};

/// A range being written, some groups at a time. Holds one node per level.
#[derive(Debug)]
pub struct Encoder {
    run: Run,
    stack: Vec<(Node, Hash)>,
}

/// Why a range cannot be written on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError<E> {
    /// A group could not be read.
    #[error("cannot read a group: {0}")]
    Read(E),
    /// A group is not what the tree was made of.
    #[error("group {group} is {got}, its tree says {expected}")]
    Changed {
        /// Which group.
        group: u32,
        /// Its hash in the tree.
        expected: BlobId,
        /// Its hash now.
        got: BlobId,
    },
}

impl Encoder {
    /// A range of the tree's fragment; nothing if it does not fit.
    pub fn new(tree: &Tree, run: Run) -> Option<Self> {
        run.fits(tree.length()).then(|| Self { run, stack: vec![(Node::root(tree.shape()), tree.root().0)] })
    }

    /// Whether all of it was written.
    pub fn is_done(&self) -> bool {
        !self.stack.iter().any(|(node, _)| node.touches(self.run))
    }

    /// Appends up to `groups` more groups to `out`, with the pairs before them. `read` fills a slice with the fragment's bytes at an offset. What it
    /// gives is hashed again: a holder does not send what its disk changed.
    ///
    /// # Errors
    /// [`FillError`]; then `out` ends somewhere in the range.
    pub fn fill<E>(
        &mut self,
        tree: &Tree,
        groups: u32,
        out: &mut Vec<u8>,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), FillError<E>> {
        let (shape, mut left) = (tree.shape(), groups);
        while left > 0
            && let Some((node, expected)) = self.stack.pop()
        {
            if !node.touches(self.run) {
                continue;
            }
            if !node.is_leaf() {
                let pair = tree.pair(node);
                out.extend_from_slice(&pair);
                let ((near, far), (near_hash, far_hash)) = (node.children(), split(&pair));
                self.stack.extend([(far, far_hash), (near, near_hash)]);
                continue;
            }
            let group = node.first;
            let start = out.len();
            out.resize(start + shape.group_len(group), 0);
            let bytes = &mut out[start..];
            read(u64::try_from(shape.offset(group)).unwrap_or(u64::MAX), bytes).map_err(FillError::Read)?;
            let got = shape.group_hash(group, bytes);
            if got != expected {
                return Err(FillError::Changed { group, expected: BlobId(expected), got: BlobId(got) });
            }
            left -= 1;
        }
        Ok(())
    }
}
