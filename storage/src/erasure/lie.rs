//! Proof that a manifest is a lie: that no object has these fragments.
//!
//! Whoever writes a manifest can name fragments that are not one object's: readers with other fragments would see other objects, or none. Each
//! fragment verifies, so no holder is to blame; the manifest alone convicts its author. A [`Proof`] is the manifest and evidence that
//! everybody can check without asking anybody, and [`Proof::check`] gives a [`Voided`], which only a checked proof does.
//!
//! *Fragments*: as many whole fragments as suffice, each what the manifest names. They determine the object; hashed and encoded again it must give
//! the manifest. Convicts of every lie. At most [`PROOF_BYTES_MAX`]: the object's own size.
//!
//! *Column*: the same leaf of one fragment more than suffice, each opened under its keccak root. The code works byte by byte, so the last follows from
//! the others. Convicts of fragments that are no code word: 25 kB for 16 of 48, whatever the object's size; small enough for a message.
//!
//! Bytes, big-endian: kind u8 (1 fragments, 2 column), the manifest, then by kind: per fragment index u8 and its bytes; or leaf u32, and per fragment
//! index u8, the leaf's bytes, the siblings upwards, 32 each. Indices ascend. All lengths follow from the manifest. Walrus has the same notion (its inconsistency
//! proof); there a committee signs the verdict, here everybody computes it.
//!
//! *Who looks.* What k fragments give is hashed by every reader, so a false object is noticed at the first read. A false fragment that nobody asked for is
//! not: one reader in [`REENCODE_EVERY`] encodes what it read again ([`is_reencoded`]), and so does every repair of more than one fragment.

use std::collections::BTreeMap;

use types::{
    encoding::{DecodeError, Reader, Writer},
    id::{BlobId, Hash32, NodeId},
    merkle::{Opening, Tree},
};

use super::{
    AUDIT_LEAF_BYTES, FragmentError, MANIFEST_BYTES_MAX, ManifestError, OBJECT_BYTES_MAX, ObjectManifest, Path, ReconstructError,
    VerifiedFragment, encode, manifest::manifest_len, reconstruct, sorted,
};

/// Longest proof: the largest object with its padding, the longest manifest, and the indices.
pub const PROOF_BYTES_MAX: usize = OBJECT_BYTES_MAX + MANIFEST_BYTES_MAX + 64;

/// One reader of an object in so many encodes it again. 16: of 32 readers one does with probability 0.87, and each pays for a sixteenth of an encoding a read.
pub const REENCODE_EVERY: u64 = 16;

/// Whether `reader` encodes `object` again after reading it: drawn by both, so that who writes a manifest cannot find one that nobody looks at.
pub fn is_reencoded(object: BlobId, reader: NodeId) -> bool {
    let draw = BlobId::of(&[b"tributary/reencode/v1".as_slice(), &object.0, &reader.0].concat());
    u64::from_be_bytes(*draw.0.first_chunk().expect("a hash has 32 bytes")).is_multiple_of(REENCODE_EVERY)
}

const FRAGMENTS: u8 = 1;
const COLUMN: u8 = 2;

/// A manifest, and what shows that it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    manifest: ObjectManifest,
    evidence: Evidence,
}

#[derive(Clone, PartialEq, Eq)]
enum Evidence {
    Fragments(Vec<(u8, Vec<u8>)>),
    Column { leaf: u32, opened: Vec<Opened> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Opened {
    index: u8,
    bytes: Vec<u8>,
    siblings: Vec<Hash32>,
}

// Counts instead of contents: a log line must not hold an object.
impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fragments(fragments) => f.debug_tuple("Fragments").field(&fragments.len()).finish(),
            Self::Column { leaf, opened } => f.debug_struct("Column").field("leaf", leaf).field("opened", &opened.len()).finish(),
        }
    }
}

/// What a manifest lies about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Its fragments give another object than it names, or one that is not padded with zeros.
    Content,
    /// The object it names has another fragment of this index.
    Fragment(u8),
    /// Its fragments are no code word from this leaf on.
    Column(u32),
}

/// An object without a meaning: its manifest was proved to lie. Only [`Proof::check`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voided {
    object: BlobId,
    lie: Lie,
}

impl Voided {
    /// The object.
    pub const fn object(&self) -> BlobId {
        self.object
    }

    /// What its manifest lies about.
    pub const fn lie(&self) -> Lie {
        self.lie
    }
}

/// Why a proof convicts nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not the layout.
    #[error("not a proof of a false manifest: {0}")]
    Layout(#[from] DecodeError),
    /// Longer than a proof may be.
    #[error("a proof of {got} bytes, at most {max} are allowed")]
    TooLong {
        /// Its bytes.
        got: usize,
        /// [`PROOF_BYTES_MAX`].
        max: usize,
    },
    /// Not a manifest: then there is no object to void.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A fragment that the manifest does not name.
    #[error(transparent)]
    Fragment(#[from] FragmentError),
    /// A leaf that is not under the fragment's root.
    #[error("leaf {leaf} of fragment {index} is not what the manifest's keccak root covers")]
    Leaf {
        /// Which leaf.
        leaf: u32,
        /// Of which fragment.
        index: u8,
    },
    /// All agrees.
    #[error("the fragments are those of the object that the manifest names: it does not lie")]
    Honest,
}

impl Proof {
    /// Looks for a lie with the fragments at hand; nothing if what they determine is what the manifest says. With more than suffice the proof is
    /// small where it can be. Costs an encoding and every hash.
    ///
    /// # Errors
    /// [`ReconstructError`] if fewer fragments are given than suffice, or one of another object.
    pub fn find(manifest: &ObjectManifest, fragments: &[VerifiedFragment]) -> Result<Option<Self>, ReconstructError> {
        let found = sorted(manifest, fragments)?;
        if let Some(evidence) = column(manifest, &found) {
            return Ok(Some(Self { manifest: manifest.clone(), evidence }));
        }
        let enough: Vec<VerifiedFragment> = first(manifest, fragments);
        let evidence = || Evidence::Fragments(enough.iter().map(|fragment| (fragment.index(), fragment.bytes().to_vec())).collect());
        Ok(lie(manifest, &enough).map(|_| Self { manifest: manifest.clone(), evidence: evidence() }))
    }

    /// The object whose manifest it is about.
    pub const fn object(&self) -> BlobId {
        self.manifest.id()
    }

    /// Convicts.
    ///
    /// # Errors
    /// [`ProofError`] if it does not: whoever sent it is wrong.
    pub fn check(&self) -> Result<Voided, ProofError> {
        let manifest = &self.manifest;
        let lie = match &self.evidence {
            Evidence::Fragments(fragments) => {
                let verified = fragments.iter().map(|(index, bytes)| manifest.verify(*index, bytes.clone()));
                lie(manifest, &verified.collect::<Result<Vec<_>, _>>()?)
            }
            Evidence::Column { leaf, opened } => {
                for opened in opened {
                    if opening(manifest, *leaf, &opened.siblings).root(&opened.bytes) != Some(keccak_of(manifest, opened.index)?) {
                        return Err(ProofError::Leaf { leaf: *leaf, index: opened.index });
                    }
                }
                let found: BTreeMap<usize, &[u8]> =
                    opened.iter().map(|opened| (usize::from(opened.index), opened.bytes.as_slice())).collect();
                first_difference(manifest, &found).map(|_| Lie::Column(*leaf))
            }
        };
        lie.map(|lie| Voided { object: manifest.id(), lie }).ok_or(ProofError::Honest)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let w = Writer::new();
        match &self.evidence {
            Evidence::Fragments(fragments) => {
                let w = w.u8(FRAGMENTS).bytes(&self.manifest.encode());
                w.each(fragments, |w, (index, bytes)| w.u8(*index).bytes(bytes)).finish()
            }
            Evidence::Column { leaf, opened } => {
                let w = w.u8(COLUMN).bytes(&self.manifest.encode()).u32(*leaf);
                w.each(opened, |w, opened| w.u8(opened.index).bytes(&opened.bytes).each(&opened.siblings, |w, hash| w.hash(*hash))).finish()
            }
        }
    }

    /// Reads canonical bytes, which have exactly one form. Allocates what arrived and no more.
    ///
    /// # Errors
    /// [`ProofError`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofError> {
        if bytes.len() > PROOF_BYTES_MAX {
            return Err(ProofError::TooLong { got: bytes.len(), max: PROOF_BYTES_MAX });
        }
        let mut r = Reader::new(bytes);
        let kind = r.u8("kind")?;
        let len = manifest_len(bytes.get(1..).unwrap_or_default());
        let manifest = ObjectManifest::decode(r.bytes("manifest", len)?)?;
        let data = manifest.profile().data();
        let evidence = match kind {
            FRAGMENTS => Evidence::Fragments(ascending(&mut r, &manifest, data, |r, index| {
                Ok((index, r.bytes("fragment", manifest.fragment_len())?.to_vec()))
            })?),
            COLUMN => {
                let (leaf, leaves) = (r.u32("leaf")?, leaves(&manifest));
                if u64::from(leaf) >= leaves {
                    return Err(DecodeError::Value { field: "leaf", got: leaf.into(), expected: "a leaf of the fragments" }.into());
                }
                let opened = ascending(&mut r, &manifest, data + 1, |r, index| {
                    let bytes = r.bytes("leaf's bytes", leaf_len(&manifest, leaf))?.to_vec();
                    let siblings = (0..depth(leaves)).map(|_| r.hash("sibling")).collect::<Result<_, _>>()?;
                    Ok(Opened { index, bytes, siblings })
                })?;
                Evidence::Column { leaf, opened }
            }
            got => return Err(DecodeError::Value { field: "kind", got: got.into(), expected: "1, fragments, or 2, a column" }.into()),
        };
        r.finish()?;
        Ok(Self { manifest, evidence })
    }
}

/// Reads `count` entries whose indices ascend and are the manifest's.
fn ascending<T>(
    r: &mut Reader<'_>,
    manifest: &ObjectManifest,
    count: u8,
    mut read: impl FnMut(&mut Reader<'_>, u8) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut entries = Vec::with_capacity(count.into());
    let mut least = 0;
    for _ in 0..count {
        let index = r.u8("index")?;
        if index < least || index >= manifest.profile().total() {
            return Err(DecodeError::Value { field: "index", got: index.into(), expected: "indices of fragments, ascending" });
        }
        least = index + 1;
        entries.push(read(r, index)?);
    }
    Ok(entries)
}

/// What the manifest lies about, if fragments that suffice show it.
fn lie(manifest: &ObjectManifest, fragments: &[VerifiedFragment]) -> Option<Lie> {
    let Ok(object) = reconstruct(manifest, fragments) else { return Some(Lie::Content) };
    false_fragment(manifest, &object).map(Lie::Fragment)
}

/// The first fragment that the manifest names and that the object, which is what the manifest names, does not have.
pub(crate) fn false_fragment(manifest: &ObjectManifest, object: &[u8]) -> Option<u8> {
    let honest =
        encode(object, manifest.text_root(), manifest.profile()).expect("an object that a manifest describes can be encoded").manifest;
    let index = manifest.fragments().iter().zip(honest.fragments()).position(|(named, made)| named != made)?;
    Some(u8::try_from(index).expect("a profile has at most 48 fragments"))
}

/// The first fragments that suffice, by index.
fn first(manifest: &ObjectManifest, fragments: &[VerifiedFragment]) -> Vec<VerifiedFragment> {
    let sorted: BTreeMap<u8, &VerifiedFragment> = fragments.iter().map(|fragment| (fragment.index(), fragment)).collect();
    sorted.into_values().take(manifest.profile().data().into()).cloned().collect()
}

/// Where, past the first that suffice, a fragment differs from what those determine: its index, and the byte.
fn first_difference(manifest: &ObjectManifest, found: &BTreeMap<usize, &[u8]>) -> Option<(usize, usize)> {
    let data = usize::from(manifest.profile().data());
    let extra: Vec<(usize, &[u8])> = found.iter().skip(data).map(|(index, bytes)| (*index, *bytes)).collect();
    let enough: BTreeMap<usize, &[u8]> = found.iter().take(data).map(|(index, bytes)| (*index, *bytes)).collect();
    let mut solved: Vec<Vec<u8>> = extra.iter().map(|(_, bytes)| vec![0; bytes.len()]).collect();
    let wanted: Vec<usize> = extra.iter().map(|(index, _)| *index).collect();
    if wanted.is_empty() {
        return None;
    }
    let mut outputs: Vec<&mut [u8]> = solved.iter_mut().map(Vec::as_mut_slice).collect();
    manifest.profile().solve(Path::best(), &enough, &wanted, &mut outputs);
    let differs =
        |(index, given): &(usize, &[u8]), made: &[u8]| Some((*index, given.iter().zip(made).position(|(given, made)| given != made)?));
    extra.iter().zip(&solved).find_map(|(extra, made)| differs(extra, made))
}

/// A column that convicts, if there are fragments enough and their keccak roots are those of their bytes.
fn column(manifest: &ObjectManifest, found: &BTreeMap<usize, &[u8]>) -> Option<Evidence> {
    let (index, byte) = first_difference(manifest, found)?;
    let leaf = u32::try_from(byte / AUDIT_LEAF_BYTES).expect("a fragment's length is bounded");
    let data = usize::from(manifest.profile().data());
    let chosen = found.iter().take(data).chain(found.get_key_value(&index));
    let opened = chosen.map(|(index, bytes)| {
        let tree = Tree::over(bytes.chunks(AUDIT_LEAF_BYTES));
        let index = u8::try_from(*index).expect("a profile has at most 48 fragments");
        let is_named = keccak_of(manifest, index).is_ok_and(|named| named == tree.root());
        let siblings = tree.open(leaf.into()).filter(|_| is_named)?.siblings;
        let bytes = bytes.chunks(AUDIT_LEAF_BYTES).nth(usize::try_from(leaf).ok()?)?.to_vec();
        Some(Opened { index, bytes, siblings })
    });
    Some(Evidence::Column { leaf, opened: opened.collect::<Option<_>>()? })
}

fn keccak_of(manifest: &ObjectManifest, index: u8) -> Result<Hash32, FragmentError> {
    let (object, total) = (manifest.id(), manifest.profile().total());
    let root = manifest.fragments().get(usize::from(index)).ok_or(FragmentError::NoSuchIndex { object, index, total })?;
    Ok(root.keccak)
}

fn opening(manifest: &ObjectManifest, leaf: u32, siblings: &[Hash32]) -> Opening {
    let byte_length = u64::try_from(manifest.fragment_len()).expect("a fragment's length is bounded");
    Opening { leaves: leaves(manifest), byte_length, index: leaf.into(), siblings: siblings.to_vec() }
}

/// Leaves of a fragment's keccak tree.
fn leaves(manifest: &ObjectManifest) -> u64 {
    u64::try_from(manifest.fragment_len().div_ceil(AUDIT_LEAF_BYTES)).expect("a fragment's length is bounded")
}

/// Siblings above a leaf: the tree is filled up to a power of two.
const fn depth(leaves: u64) -> u32 {
    leaves.next_power_of_two().trailing_zeros()
}

fn leaf_len(manifest: &ObjectManifest, leaf: u32) -> usize {
    let from = usize::try_from(leaf).expect("32 bits fit a length") * AUDIT_LEAF_BYTES;
    (manifest.fragment_len() - from).min(AUDIT_LEAF_BYTES)
}

#[cfg(test)]
mod tests;
