//! Erasure code: an object becomes `total` fragments, any `data` of which give it back.
//!
//! Codec 1 is Reed-Solomon over GF(2^8) with the systematic Vandermonde matrix of `reed-solomon-erasure`; the first `data` fragments are the
//! object itself, cut in equal parts and zero-filled. A 64 MiB shard at 3 of 5 is five fragments of 21.3 MiB (1.67 times the bytes); at
//! 16 of 48 it is 48 of 4 MiB (3 times). The products are our own kernel's (`kernel`), since that library's take longer than the hashes.
//!
//! An [`ObjectManifest`] names each fragment twice: BLAKE3 for transfer, a keccak tree for audits on chain. Only a [`VerifiedFragment`]
//! goes into [`reconstruct`], so a wrong byte is blamed on the fragment that carried it and not on the object.

mod content;
mod field;
mod kernel;
mod lie;
mod manifest;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::OnceLock,
};

use types::{
    id::{BlobId, Hash32},
    merkle,
};

pub(crate) use self::{content::Content, lie::false_fragment};
use self::{
    field::Matrix,
    kernel::{Combination, Transform},
};
pub use self::{
    kernel::Path,
    lie::{Lie, PROOF_BYTES_MAX, Proof, ProofError, REENCODE_EVERY, Voided, is_reencoded},
    manifest::{FragmentRoot, MANIFEST_BYTES_MAX, ManifestError, ObjectManifest},
};
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
#[error("{data} of {total} fragments is no profile: expected 3 of 5, 3 of 9, 4 of 12, 10 of 30 or 16 of 48")]
pub struct ProfileError {
    /// Fragments said to suffice.
    pub data: u8,
    /// Fragments said to exist.
    pub total: u8,
}

impl Profile {
    /// Five nodes on one machine; also what a young network starts with.
    pub const DEVNET: Self = Self { data: 3, total: 5 };
    /// 3/9 bears the loss of any third of twelve operators and leaves three that can take what is rebuilt; 4/12 would fill all twelve.
    const ALL: [(usize, Self); 5] = [
        (96, Self { data: 16, total: 48 }),
        (60, Self { data: 10, total: 30 }),
        (24, Self { data: 4, total: 12 }),
        (12, Self { data: 3, total: 9 }),
        (0, Self::DEVNET),
    ];

    /// Every profile, the widest first.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().map(|(_, profile)| profile)
    }

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

    /// Fills the fragments after the first `data`, which are `parts`. All are of one length.
    ///
    /// # Panics
    /// If counts are not the profile's or lengths differ.
    pub fn fill_parity(self, path: Path, parts: &[&[u8]], parity: &mut [&mut [u8]]) {
        let codec = self.codec();
        if path == Path::best() { codec.parity.apply(parts, parity) } else { Parity::new(path, self, &codec.matrix).apply(parts, parity) }
    }

    /// Fills `outputs` with the fragments `wanted`, from those that are `found`. All are of one length.
    ///
    /// # Panics
    /// If fewer are found than suffice, an index is beyond the last, or counts or lengths differ.
    pub fn solve(self, path: Path, found: &BTreeMap<usize, &[u8]>, wanted: &[usize], outputs: &mut [&mut [u8]]) {
        let (codec, data) = (self.codec(), usize::from(self.data));
        let (indices, inputs): (Vec<usize>, Vec<&[u8]>) = found.iter().take(data).map(|(index, bytes)| (*index, *bytes)).unzip();
        let back = codec.matrix.select(indices).inverted().expect("as many rows of the code as suffice are independent");
        let rows = codec.matrix.select(wanted.iter().copied()).times(&back);
        Combination::new(path, rows.cells(), data).apply(&inputs, outputs);
    }

    /// The codec, made ready once per process.
    fn codec(self) -> &'static Codec {
        static CODECS: [OnceLock<Codec>; Profile::ALL.len()] = [const { OnceLock::new() }; Profile::ALL.len()];
        let row = Self::ALL.iter().position(|(_, known)| *known == self).expect("profiles are made from the table only");
        CODECS[row].get_or_init(|| Codec::new(self))
    }
}

/// A profile's matrix, and what gives the fragments that are not the object's own parts.
struct Codec {
    matrix: Matrix,
    parity: Parity,
}

/// The quickest way to the lower rows of a matrix; either gives the same bytes.
enum Parity {
    Transform(Transform),
    Combination(Combination),
}

impl Codec {
    fn new(profile: Profile) -> Self {
        let matrix = Matrix::systematic(profile.data, profile.total);
        let parity = Parity::new(Path::best(), profile, &matrix);
        Self { matrix, parity }
    }
}

impl Parity {
    fn new(path: Path, Profile { data, total }: Profile, matrix: &Matrix) -> Self {
        let lower = &matrix.cells()[usize::from(data) * usize::from(data)..];
        Transform::new(path, data, total).map_or_else(|| Self::Combination(Combination::new(path, lower, data.into())), Self::Transform)
    }

    fn apply(&self, parts: &[&[u8]], parity: &mut [&mut [u8]]) {
        match self {
            Self::Transform(transform) => transform.apply(parts, parity),
            Self::Combination(combination) => combination.apply(parts, parity),
        }
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
    let (parts, parity) = fragments.split_at_mut(profile.data.into());
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    profile.fill_parity(Path::best(), &parts, &mut parity);
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

impl ObjectManifest {
    /// A fragment whose bytes were checked group by group against the root of `index`; nothing if there is none of that index and length.
    pub(crate) fn assembled(&self, index: u8, bytes: Vec<u8>) -> Option<VerifiedFragment> {
        let root = self.fragments().get(usize::from(index)).filter(|_| bytes.len() == self.fragment_len())?;
        Some(VerifiedFragment { object: self.id(), index, blake3: root.blake3, bytes })
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
    /// The object is what the manifest names, and one of its fragments is not the object's.
    #[error("object {object} has another fragment {fragment} than its manifest names: the uploader's manifest is false")]
    FalseFragment {
        /// The object.
        object: BlobId,
        /// Which fragment.
        fragment: u8,
    },
}

/// Gives the object back from any fragments that suffice.
///
/// # Errors
/// [`ReconstructError`]; the content is hashed before it is returned.
pub fn reconstruct(manifest: &ObjectManifest, fragments: &[VerifiedFragment]) -> Result<Vec<u8>, ReconstructError> {
    let found = sorted(manifest, fragments)?;
    let (data, length) = (usize::from(manifest.profile().data()), manifest.fragment_len());
    let mut bytes = vec![0; data * length];
    let (mut here, mut others) = (BTreeSet::new(), BTreeMap::new());
    for (index, part) in found {
        match bytes.chunks_mut(length).nth(index) {
            Some(place) => {
                place.copy_from_slice(part);
                here.insert(index);
            }
            None => drop(others.insert(index, part)),
        }
    }
    complete(manifest, &mut bytes, &here, &others, &Content::new(manifest.length()))?;
    Ok(bytes)
}

/// Gives the object back from a buffer as long as its data fragments, those of `here` in their places, and from `others` by index. Every
/// byte of either was checked against the manifest, and together they are as many as suffice; `hashed` has seen nothing else. On an error the fragments
/// of `here` are still in their places.
pub(crate) fn complete(
    manifest: &ObjectManifest,
    bytes: &mut Vec<u8>,
    here: &BTreeSet<usize>,
    others: &BTreeMap<usize, &[u8]>,
    hashed: &Content,
) -> Result<(), ReconstructError> {
    let (object, needed) = (manifest.id(), usize::from(manifest.profile().data()));
    if here.len() + others.len() < needed {
        return Err(ReconstructError::TooFew { object, found: here.len() + others.len(), needed });
    }
    let mut found = others.clone();
    let mut missing: (Vec<usize>, Vec<&mut [u8]>) = (vec![], vec![]);
    for (index, place) in bytes.chunks_mut(manifest.fragment_len()).enumerate() {
        if here.contains(&index) {
            found.insert(index, place);
        } else {
            missing.0.push(index);
            missing.1.push(place);
        }
    }
    if !missing.0.is_empty() {
        manifest.profile().solve(Path::best(), &found, &missing.0, &mut missing.1);
    }
    let (content, padding) = bytes.split_at(manifest.length());
    let (got, expected) = (hashed.finish(content), manifest.content());
    if got != expected || padding.iter().any(|byte| *byte != 0) {
        return Err(ReconstructError::FalseManifest { object, expected, got });
    }
    bytes.truncate(manifest.length());
    Ok(())
}

/// Gives fragment `index` back from any others that suffice: one row of the code, without the object in between.
///
/// # Errors
/// [`RebuildError`]; the fragment is hashed before it is returned.
pub fn rebuild(manifest: &ObjectManifest, fragments: &[VerifiedFragment], index: u8) -> Result<VerifiedFragment, RebuildError> {
    let object = manifest.id();
    let total = manifest.profile().total();
    if index >= total {
        return Err(FragmentError::NoSuchIndex { object, index, total }.into());
    }
    let found = sorted(manifest, fragments)?;
    let mut solved = vec![0; manifest.fragment_len()];
    manifest.profile().solve(Path::best(), &found, &[index.into()], &mut [&mut solved]);
    Ok(manifest.verify(index, solved)?)
}

/// Why a fragment does not come back from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// Too few others, or foreign ones.
    #[error(transparent)]
    Others(#[from] ReconstructError),
    /// No such fragment; or the others, each what the manifest names, give another one: whoever wrote the manifest did not encode one object.
    #[error(transparent)]
    Fragment(#[from] FragmentError),
}

/// The fragments by index, if they are of the object and suffice.
fn sorted<'f>(manifest: &ObjectManifest, fragments: &'f [VerifiedFragment]) -> Result<BTreeMap<usize, &'f [u8]>, ReconstructError> {
    let (object, needed) = (manifest.id(), usize::from(manifest.profile().data()));
    let mut found = BTreeMap::new();
    for fragment in fragments {
        if fragment.object != object {
            return Err(ReconstructError::Foreign { object, got: fragment.object });
        }
        found.insert(usize::from(fragment.index), fragment.bytes.as_slice());
    }
    if found.len() < needed { Err(ReconstructError::TooFew { object, found: found.len(), needed }) } else { Ok(found) }
}

#[cfg(test)]
mod tests;
