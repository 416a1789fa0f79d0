//! Erasure code: an object becomes `total` fragments, any `data` of which give it back.
//!
//! Codec 1 is Reed-Solomon over GF(2^8) with the systematic Vandermonde matrix of `reed-solomon-erasure`; the first `data` fragments are the
//! object itself, cut in equal parts and zero-filled. A 64 MiB shard at 3 of 5 is five fragments of 21.3 MiB (1.67 times the bytes); at
//! 16 of 48 it is 48 of 4 MiB (3 times). The codec, not the hash, is what takes the time.
//!
//! An [`ObjectManifest`] names each fragment twice: BLAKE3 for transfer, a keccak tree for audits on chain. Only a [`VerifiedFragment`]
//! goes into [`reconstruct`], so a wrong byte is blamed on the fragment that carried it and not on the object.

mod manifest;

use std::{collections::BTreeMap, fmt, sync::OnceLock};

use reed_solomon_erasure::galois_8::ReedSolomon;
use types::{
    id::{BlobId, Hash32},
    merkle,
};

pub use self::manifest::{FragmentRoot, MANIFEST_BYTES_MAX, ManifestError, ObjectManifest};
use crate::blob;

/// Code of the Reed-Solomon codec on the wire.
pub const CODEC_REED_SOLOMON_8: u8 = 1;
/// Largest object: a shard is at most this long, so one fits in memory with its fragments several times over.
pub const OBJECT_BYTES_MAX: usize = 64 << 20;
/// Largest fragment: the devnet's third of the largest object.
pub const FRAGMENT_BYTES_MAX: usize = OBJECT_BYTES_MAX.div_ceil(3);
/// Most fragments of one object, in any profile.
pub const FRAGMENTS_MAX: usize = 48;
/// Bytes of a leaf of a fragment's keccak tree: small enough to open in one transaction, 16 of them in an audited range.
pub const AUDIT_LEAF_BYTES: usize = 1024;

/// How many fragments an object has and how many of them suffice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Profile {
    data: u8,
    total: u8,
}

/// A pair of numbers that is no profile of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{data} of {total} fragments is no profile: expected 3 of 5, 4 of 12, 10 of 30 or 16 of 48")]
pub struct ProfileError {
    /// Fragments said to suffice.
    pub data: u8,
    /// Fragments said to exist.
    pub total: u8,
}

impl Profile {
    /// Five nodes on one machine; also what a young network starts with.
    pub const DEVNET: Self = Self { data: 3, total: 5 };
    const ALL: [(usize, Self); 4] =
        [(96, Self { data: 16, total: 48 }), (60, Self { data: 10, total: 30 }), (24, Self { data: 4, total: 12 }), (0, Self::DEVNET)];

    /// The profile of these numbers.
    ///
    /// # Errors
    /// [`ProfileError`] for a pair outside the protocol's table.
    pub fn new(data: u8, total: u8) -> Result<Self, ProfileError> {
        let profile = Self { data, total };
        Self::ALL.iter().any(|(_, known)| *known == profile).then_some(profile).ok_or(ProfileError { data, total })
    }

    /// The profile of a new object when `operators` may hold fragments.
    pub fn for_operators(operators: usize) -> Self {
        let row = Self::ALL.iter().find(|(least, _)| operators >= *least);
        row.map_or(Self::DEVNET, |(_, profile)| *profile)
    }

    /// Fragments that suffice.
    pub const fn data(self) -> u8 {
        self.data
    }

    /// Fragments there are.
    pub const fn total(self) -> u8 {
        self.total
    }

    /// Bytes of each fragment of an object of `length` bytes.
    pub(crate) const fn fragment_len(self, length: usize) -> usize {
        length.div_ceil(self.data as usize)
    }

    /// The codec, built once per process: its matrix, and the inversions it remembers, are dear.
    fn codec(self) -> &'static ReedSolomon {
        static CODECS: [OnceLock<ReedSolomon>; Profile::ALL.len()] = [const { OnceLock::new() }; Profile::ALL.len()];
        let row = Self::ALL.iter().position(|(_, known)| *known == self).expect("profiles are made from the table only");
        let (data, parity) = (usize::from(self.data), usize::from(self.total - self.data));
        CODECS[row].get_or_init(|| ReedSolomon::new(data, parity).expect("the table holds valid codes"))
    }
}

/// An object's manifest and its fragments, in order.
#[derive(Clone)]
pub struct Encoded {
    /// Names the object and every fragment.
    pub manifest: ObjectManifest,
    /// The fragments' bytes, by index.
    pub fragments: Vec<Vec<u8>>,
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

/// An object that cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Nothing to keep.
    #[error("the object is empty: there is nothing to keep")]
    Empty,
    /// Longer than an object may be.
    #[error("the object has {got} bytes, at most {max} are allowed: split it into several")]
    TooLong {
        /// Its bytes.
        got: usize,
        /// [`OBJECT_BYTES_MAX`].
        max: usize,
    },
}

/// Cuts `object` into fragments. `text_root` is that of the documents inside, zero if the object holds no text.
///
/// # Errors
/// [`EncodeError`] if the object is empty or too long.
pub fn encode(object: &[u8], text_root: Hash32, profile: Profile) -> Result<Encoded, EncodeError> {
    if object.is_empty() {
        return Err(EncodeError::Empty);
    }
    if object.len() > OBJECT_BYTES_MAX {
        return Err(EncodeError::TooLong { got: object.len(), max: OBJECT_BYTES_MAX });
    }
    let fragment_len = profile.fragment_len(object.len());
    let mut fragments: Vec<Vec<u8>> = object.chunks(fragment_len).map(|part| zero_filled(part, fragment_len)).collect();
    fragments.resize_with(usize::from(profile.total), || vec![0; fragment_len]);
    profile.codec().encode(&mut fragments).expect("counts and lengths are those of the codec");
    let roots = fragments.iter().map(|bytes| FragmentRoot::of(bytes)).collect();
    Ok(Encoded { manifest: ObjectManifest::new(profile, object, text_root, roots), fragments })
}

fn zero_filled(part: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(part);
    bytes.resize(len, 0);
    bytes
}

impl FragmentRoot {
    /// Both names of a fragment's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { blake3: BlobId::of(bytes), keccak: merkle::Tree::over(bytes.chunks(AUDIT_LEAF_BYTES)).root() }
    }
}

/// A fragment whose bytes were hashed and found to be what the manifest names.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedFragment {
    object: BlobId,
    index: u8,
    blake3: BlobId,
    bytes: Vec<u8>,
}

impl fmt::Debug for VerifiedFragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedFragment")
            .field("object", &self.object)
            .field("index", &self.index)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

impl VerifiedFragment {
    /// The object it belongs to: the id of its manifest.
    pub const fn object(&self) -> BlobId {
        self.object
    }

    /// Which fragment it is.
    pub const fn index(&self) -> u8 {
        self.index
    }

    /// Its BLAKE3 name.
    pub const fn blake3(&self) -> BlobId {
        self.blake3
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its bytes, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Bytes that are not the fragment they were said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// The object has no such fragment.
    #[error("object {object} has {total} fragments, so none with index {index}")]
    NoSuchIndex {
        /// The object.
        object: BlobId,
        /// The index asked for.
        index: u8,
        /// How many there are.
        total: u8,
    },
    /// The hash differs.
    #[error("fragment {index} of object {object} should be {expected}, the {len} bytes at hand are {got}: fetch it from another holder")]
    Corrupt {
        /// The object.
        object: BlobId,
        /// Which fragment.
        index: u8,
        /// What the manifest names.
        expected: BlobId,
        /// What the bytes are.
        got: BlobId,
        /// How many bytes there are.
        len: usize,
    },
}

impl ObjectManifest {
    /// Hashes `bytes` against the root of fragment `index`.
    ///
    /// # Errors
    /// [`FragmentError`] naming object and fragment.
    pub fn verify(&self, index: u8, bytes: Vec<u8>) -> Result<VerifiedFragment, FragmentError> {
        let object = self.id();
        let total = self.profile().total();
        let root = self.fragments().get(usize::from(index)).ok_or(FragmentError::NoSuchIndex { object, index, total })?;
        match blob::verify(root.blake3, &bytes) {
            Ok(()) => Ok(VerifiedFragment { object, index, blake3: root.blake3, bytes }),
            Err(blob::Mismatch { expected, got, len }) => Err(FragmentError::Corrupt { object, index, expected, got, len }),
        }
    }
}

/// Why an object does not come back from its fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReconstructError {
    /// Fewer distinct fragments than the code needs.
    #[error("object {object} needs {needed} fragments, {found} were found: start more of its holders and try again")]
    TooFew {
        /// The object.
        object: BlobId,
        /// Distinct fragments at hand.
        found: usize,
        /// Fragments that suffice.
        needed: usize,
    },
    /// A fragment of something else.
    #[error("a fragment of object {got} was given for object {object}")]
    Foreign {
        /// The object being rebuilt.
        object: BlobId,
        /// The object the fragment belongs to.
        got: BlobId,
    },
    /// Every fragment is what the manifest names, yet together they are not the object: whoever wrote the manifest lied.
    #[error("the fragments of object {object} give {got}, its manifest promises {expected}: the uploader's manifest is false")]
    FalseManifest {
        /// The object.
        object: BlobId,
        /// The content its manifest names.
        expected: BlobId,
        /// What the fragments give.
        got: BlobId,
    },
}

/// Gives the object back from any fragments that suffice.
///
/// # Errors
/// [`ReconstructError`]; the content is hashed before it is returned.
pub fn reconstruct(manifest: &ObjectManifest, fragments: Vec<VerifiedFragment>) -> Result<Vec<u8>, ReconstructError> {
    let (object, profile) = (manifest.id(), manifest.profile());
    let (data, total) = (usize::from(profile.data()), usize::from(profile.total()));
    let mut found = BTreeMap::new();
    for fragment in fragments {
        if fragment.object != object {
            return Err(ReconstructError::Foreign { object, got: fragment.object });
        }
        found.insert(usize::from(fragment.index), fragment.bytes);
    }
    if found.len() < data {
        return Err(ReconstructError::TooFew { object, found: found.len(), needed: data });
    }
    let mut parts: Vec<_> = (0..total).map(|index| found.remove(&index)).collect();
    profile.codec().reconstruct_data(&mut parts).expect("enough fragments of the manifest's length");
    let mut bytes = Vec::with_capacity(data * manifest.fragment_len());
    parts[..data].iter().flatten().for_each(|part| bytes.extend_from_slice(part));
    let is_padded = bytes[manifest.length()..].iter().all(|byte| *byte == 0);
    bytes.truncate(manifest.length());
    let got = BlobId::of(&bytes);
    let expected = manifest.content();
    if got == expected && is_padded { Ok(bytes) } else { Err(ReconstructError::FalseManifest { object, expected, got }) }
}

#[cfg(test)]
mod tests;
