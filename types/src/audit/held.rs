//! A fragment as the root of a node's holdings names it.

use serde::{Deserialize, Serialize};

use crate::id::{BlobId, Hash32};

/// One fragment that a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldFragment {
    /// The object.
    pub object: BlobId,
    /// Which fragment.
    pub fragment: u8,
    /// Fragments of the object.
    pub fragments: u8,
    /// Its bytes.
    pub bytes: u32,
    /// Its keccak root, as the object's manifest names it.
    pub root: Hash32,
}

impl HeldFragment {
    /// Bytes of a leaf.
    pub const LEAF_BYTES: usize = 70;

    /// Its leaf in the tree of holdings: object, fragment u8, fragments u8, bytes u32, root.
    pub fn leaf(&self) -> Vec<u8> {
        [self.object.0.as_slice(), &[self.fragment, self.fragments], &self.bytes.to_be_bytes(), &self.root.0].concat()
    }
}
