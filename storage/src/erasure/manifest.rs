//! Object manifests: what an object is, and every fragment of it, by hash.
//!
//! Layout, big-endian: codec u8, data u8, total u8, length u64, fragment length u32, content (BLAKE3), text root (keccak, zero if the object
//! holds no text), then per fragment BLAKE3 and keccak root. 79 bytes and 64 per fragment: 399 at 3 of 5, 3,151 at 16 of 48. The object's id is
//! the BLAKE3 of these bytes.

use types::{
    encoding::{DecodeError, Reader, Writer},
    id::{BlobId, Hash32},
};

use super::{CODEC_REED_SOLOMON_8, FRAGMENTS_MAX, OBJECT_BYTES_MAX, Profile, ProfileError};

const HEAD_BYTES: usize = 3 + 8 + 4 + 32 + 32;
const ROOT_BYTES: usize = 64;
/// Longest manifest.
pub const MANIFEST_BYTES_MAX: usize = HEAD_BYTES + FRAGMENTS_MAX * ROOT_BYTES;

/// The two names of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentRoot {
    /// What a transfer is checked against.
    pub blake3: BlobId,
    /// Root over leaves of [`super::AUDIT_LEAF_BYTES`], what an audit opens on chain.
    pub keccak: Hash32,
}

/// An object: its content by hash, its code, its fragments. Its own id is the BLAKE3 of its canonical bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectManifest {
    id: BlobId,
    profile: Profile,
    length: usize,
    content: BlobId,
    text_root: Hash32,
    fragments: Vec<FragmentRoot>,
}

/// Why bytes are no object manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the layout.
    #[error("not an object manifest: {0}")]
    Layout(#[from] DecodeError),
    /// A code outside the table.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A manifest other than the one asked for.
    #[error("object {expected} was asked for, the manifest at hand is {got}: fetch it from another holder")]
    Mismatch {
        /// The object asked for.
        expected: BlobId,
        /// The id of the bytes.
        got: BlobId,
    },
}

impl ObjectManifest {
    pub(super) fn new(profile: Profile, object: &[u8], text_root: Hash32, fragments: Vec<FragmentRoot>) -> Self {
        Self { id: BlobId::ZERO, profile, length: object.len(), content: BlobId::of(object), text_root, fragments }.with_id()
    }

    fn with_id(self) -> Self {
        Self { id: BlobId::of(&self.encode()), ..self }
    }

    /// The object's id.
    pub const fn id(&self) -> BlobId {
        self.id
    }

    /// Its code.
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Bytes of the object.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Bytes of each fragment.
    pub const fn fragment_len(&self) -> usize {
        self.profile.fragment_len(self.length)
    }

    /// BLAKE3 of the object.
    pub const fn content(&self) -> BlobId {
        self.content
    }

    /// Root of the documents inside; zero if the object holds no text.
    pub const fn text_root(&self) -> Hash32 {
        self.text_root
    }

    /// Names of the fragments, by index.
    pub fn fragments(&self) -> &[FragmentRoot] {
        &self.fragments
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let length = u64::try_from(self.length).expect("an object's length is bounded");
        let fragment_len = u32::try_from(self.fragment_len()).expect("a fragment's length is bounded");
        Writer::new()
            .u8(CODEC_REED_SOLOMON_8)
            .u8(self.profile.data())
            .u8(self.profile.total())
            .u64(length)
            .u32(fragment_len)
            .blob(self.content)
            .hash(self.text_root)
            .each(&self.fragments, |w, root| w.blob(root.blake3).hash(root.keccak))
            .finish()
    }

    /// Reads canonical bytes, which have exactly one form.
    ///
    /// # Errors
    /// [`ManifestError`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut r = Reader::new(bytes);
        expect("codec", r.u8("codec")?.into(), CODEC_REED_SOLOMON_8.into(), "1, Reed-Solomon over GF(2^8)")?;
        let profile = Profile::new(r.u8("data fragments")?, r.u8("fragments")?)?;
        let stated = r.u64("object length")?;
        let length = usize::try_from(stated).ok().filter(|length| (1..=OBJECT_BYTES_MAX).contains(length));
        let length = length.ok_or(DecodeError::Value { field: "object length", got: stated, expected: "1 byte to 64 MiB" })?;
        let fragment_len = u64::try_from(profile.fragment_len(length)).expect("a fragment's length is bounded");
        expect("fragment length", r.u32("fragment length")?.into(), fragment_len, "the object length over the data fragments, rounded up")?;
        let (content, text_root) = (r.blob("content")?, r.hash("text root")?);
        let fragments = r.each("fragment roots", profile.total().into(), ROOT_BYTES, |r| {
            Ok(FragmentRoot { blake3: r.blob("fragment")?, keccak: r.hash("fragment")? })
        })?;
        r.finish()?;
        Ok(Self { id: BlobId::of(bytes), profile, length, content, text_root, fragments })
    }

    /// Reads the manifest of a given object.
    ///
    /// # Errors
    /// [`ManifestError::Mismatch`] before anything is read if the bytes are not that object's.
    pub fn decode_as(object: BlobId, bytes: &[u8]) -> Result<Self, ManifestError> {
        let got = BlobId::of(bytes);
        if got == object { Self::decode(bytes) } else { Err(ManifestError::Mismatch { expected: object, got }) }
    }
}

/// Bytes of the manifest that begins here, as it says itself; whether it is one is [`ObjectManifest::decode`]'s to say.
pub(super) fn manifest_len(bytes: &[u8]) -> usize {
    HEAD_BYTES + bytes.get(2).map_or(0, |total| usize::from(*total)) * ROOT_BYTES
}

fn expect(field: &'static str, got: u64, expected: u64, meaning: &'static str) -> Result<(), DecodeError> {
    if got == expected { Ok(()) } else { Err(DecodeError::Value { field, got, expected: meaning }) }
}
