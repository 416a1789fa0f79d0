//! Sealed segments: the object that stands in a shard's place.
//!
//! Header, big-endian: `TRIBSEAL`, format u8 (1), Datanet u64, version u32, segment u32, key epoch u32, plaintext length u64, synthetic IV 16: 53 bytes.
//! Then pieces of [`PIECE_BYTES`] of plaintext, the last one shorter, each with its tag of 16 bytes. Piece i: XChaCha20-Poly1305 under the segment key,
//! nonce IV || i u64, associated data header || i u64. Segment key = derive("tributary/seal/segment/v1", data key, Datanet, version, segment);
//! IV = the first 16 bytes of BLAKE3 keyed with derive("tributary/seal/iv/v1", segment key) over the header before the IV and the plaintext.
//!
//! The length in the header is associated data of every piece, so pieces cannot be cut off, added, repeated or exchanged, and any one opens alone.

use std::fmt;

use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::AeadInPlace};
use types::{
    encoding::{DecodeError, Reader, Writer},
    id::AssetId,
};
use zeroize::Zeroizing;

use super::key::{DataKey, derive};
use crate::erasure::OBJECT_BYTES_MAX;

/// Plaintext of one piece: what a reader must hold to read one row, at 0.024 % of tags.
pub const PIECE_BYTES: usize = 64 << 10;
/// Bytes of the header.
pub const HEADER_BYTES: usize = IV_AT + IV_BYTES;
/// Bytes that authenticate a piece.
pub const TAG_BYTES: usize = 16;
/// Longest plaintext whose sealed form is still an object.
pub const PLAIN_BYTES_MAX: usize = OBJECT_BYTES_MAX - HEADER_BYTES - OBJECT_BYTES_MAX.div_ceil(PIECE_BYTES) * TAG_BYTES;
const MAGIC: &[u8; 8] = b"TRIBSEAL";
const FORMAT: u8 = 1;
const IV_AT: usize = 8 + 1 + 8 + 4 + 4 + 4 + 8;
const IV_BYTES: usize = 16;

/// Which segment: it is sealed into the bytes and cannot be taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The Datanet.
    pub datanet: AssetId,
    /// Its version; of a contribution, the block of its commitment.
    pub version: u32,
    /// Which segment of the version; of a contribution, the ordinal of its commitment in that block.
    pub segment: u32,
}

/// What a sealed segment says of itself. True only once a piece was opened under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which segment.
    pub name: Name,
    /// The key epoch whose key opens it.
    pub epoch: u32,
    /// Bytes of plaintext.
    pub length: usize,
    iv: [u8; IV_BYTES],
}

/// A segment that cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Nothing or too much.
    #[error("a segment has 1 to {PLAIN_BYTES_MAX} bytes, {got} were given: split it into several")]
    Length {
        /// Bytes given.
        got: usize,
    },
    /// A key of another Datanet.
    #[error("the key is Datanet {got}'s, the segment is Datanet {expected}'s")]
    Datanet {
        /// The segment's.
        expected: AssetId,
        /// The key's.
        got: AssetId,
    },
}

/// Why sealed bytes do not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not the layout.
    #[error("not a sealed segment: {0}")]
    Layout(#[from] DecodeError),
    /// Another segment.
    #[error("segment {expected:?} was asked for, these bytes are {got:?}: fetch the object that the manifest names")]
    Name {
        /// What was asked for.
        expected: Name,
        /// What the header says.
        got: Name,
    },
    /// Another key epoch.
    #[error(
        "the segment is sealed under key epoch {expected}, the key at hand is of epoch {got}: use the one of a grant for epoch {expected}"
    )]
    Epoch {
        /// The segment's.
        expected: u32,
        /// The key's.
        got: u32,
    },
    /// Changed, or sealed under another key.
    #[error("piece {piece} was changed or is sealed under another key: fetch the object again, then ask the owner")]
    Forged {
        /// Which piece.
        piece: u64,
    },
    /// The pieces open, and their IV is not that of their plaintext: whoever sealed them used another rule, and may repeat nonces.
    #[error("the segment was not sealed by the rule that keeps nonces from being used twice: do not use it, and tell the owner")]
    Iv,
}

impl Header {
    /// Reads the header in front of sealed bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for another format or a length that no segment has.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.bytes("magic", MAGIC.len())? != MAGIC {
            return Err(DecodeError::Value { field: "magic", got: bytes[0].into(), expected: "TRIBSEAL" });
        }
        match r.u8("format")? {
            FORMAT => {}
            got => return Err(DecodeError::Value { field: "format", got: got.into(), expected: "1" }),
        }
        let name = Name { datanet: AssetId(r.u64("Datanet")?), version: r.u32("version")?, segment: r.u32("segment")? };
        let (epoch, stated) = (r.u32("key epoch")?, r.u64("length")?);
        let length = usize::try_from(stated).ok().filter(|length| (1..=PLAIN_BYTES_MAX).contains(length));
        let length = length.ok_or(DecodeError::Value { field: "length", got: stated, expected: "1 byte to what an object holds" })?;
        let iv = *r.bytes("IV", IV_BYTES)?.first_chunk().expect("as many bytes as were asked for");
        Ok(Self { name, epoch, length, iv })
    }

    fn encode(&self) -> Vec<u8> {
        let length = u64::try_from(self.length).expect("a segment's length is bounded");
        let Name { datanet, version, segment } = self.name;
        let w = Writer::sized(HEADER_BYTES).bytes(MAGIC).u8(FORMAT).u64(datanet.0).u32(version).u32(segment);
        w.u32(self.epoch).u64(length).bytes(&self.iv).finish()
    }

    /// Pieces of the segment.
    pub fn pieces(&self) -> u64 {
        u64::try_from(self.length.div_ceil(PIECE_BYTES)).expect("pieces are bounded")
    }

    /// Where a piece stands in the sealed bytes; nothing past the last.
    pub fn piece(&self, piece: u64) -> Option<std::ops::Range<usize>> {
        let before = usize::try_from(piece).ok()?.checked_mul(PIECE_BYTES).filter(|before| *before < self.length)?;
        let start = HEADER_BYTES + before + before / PIECE_BYTES * TAG_BYTES;
        Some(start..start + (self.length - before).min(PIECE_BYTES) + TAG_BYTES)
    }

    /// Bytes of the whole sealed segment.
    pub fn sealed_len(&self) -> usize {
        HEADER_BYTES + self.length + self.length.div_ceil(PIECE_BYTES) * TAG_BYTES
    }
}

/// The key of one segment: lets its holder seal and open that segment, and tells nothing of the data key or of other segments. A contributor who may not
/// read a Datanet seals its own contribution with it.
#[derive(Clone)]
pub struct SegmentKey {
    name: Name,
    epoch: u32,
    secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegmentKey(of {:?}, epoch {})", self.name, self.epoch)
    }
}

impl SegmentKey {
    /// The key of a segment under a data key.
    ///
    /// # Errors
    /// [`SealError::Datanet`].
    pub fn of(key: &DataKey, name: Name) -> Result<Self, SealError> {
        if key.datanet() != name.datanet {
            return Err(SealError::Datanet { expected: name.datanet, got: key.datanet() });
        }
        Ok(Self { name, epoch: key.epoch(), secret: segment_key(key, name) })
    }

    /// The key as it was received from whoever holds the data key of that epoch.
    pub fn received(name: Name, epoch: u32, secret: [u8; 32]) -> Self {
        Self { name, epoch, secret: Zeroizing::new(secret) }
    }

    /// The key epoch.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The secret, to be sent over an encrypted stream to who seals this segment.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Seals the segment. The same key and plaintext give the same bytes.
    ///
    /// # Errors
    /// [`SealError::Length`].
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        if !(1..=PLAIN_BYTES_MAX).contains(&plain.len()) {
            return Err(SealError::Length { got: plain.len() });
        }
        let own = &self.secret;
        let mut header = Header { name: self.name, epoch: self.epoch, length: plain.len(), iv: [0; IV_BYTES] };
        header.iv = iv(own, &header.encode(), plain);
        let (head, cipher) = (header.encode(), XChaCha20Poly1305::new((&**own).into()));
        let mut sealed = Vec::with_capacity(header.sealed_len());
        sealed.extend_from_slice(&head);
        for (piece, part) in (0..).zip(plain.chunks(PIECE_BYTES)) {
            let (nonce, bound) = nonce_and_bound(&header, &head, piece);
            let start = sealed.len();
            sealed.extend_from_slice(part);
            let tag = cipher.encrypt_in_place_detached(&nonce, &bound, &mut sealed[start..]).expect("a piece is no too long message");
            sealed.extend_from_slice(&tag);
        }
        Ok(sealed)
    }
}

fn segment_key(key: &DataKey, name: Name) -> Zeroizing<[u8; 32]> {
    let Name { datanet, version, segment } = name;
    derive("tributary/seal/segment/v1", &[key.secret(), &datanet.0.to_be_bytes(), &version.to_be_bytes(), &segment.to_be_bytes()])
}

fn iv(key: &[u8; 32], head: &[u8], plain: &[u8]) -> [u8; IV_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(&derive("tributary/seal/iv/v1", &[key]));
    hasher.update(&head[..IV_AT]).update(plain);
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}

fn nonce_and_bound(header: &Header, head: &[u8], piece: u64) -> (XNonce, Vec<u8>) {
    let mut nonce = XNonce::default();
    nonce[..IV_BYTES].copy_from_slice(&header.iv);
    nonce[IV_BYTES..].copy_from_slice(&piece.to_be_bytes());
    (nonce, [head, &piece.to_be_bytes()].concat())
}

/// Seals a segment. The same key, name and plaintext give the same bytes.
///
/// # Errors
/// [`SealError`].
pub fn seal(key: &DataKey, name: Name, plain: &[u8]) -> Result<Vec<u8>, SealError> {
    SegmentKey::of(key, name)?.seal(plain)
}

fn expect(key: &DataKey, name: Name, header: &Header) -> Result<(), OpenError> {
    if header.name != name {
        return Err(OpenError::Name { expected: name, got: header.name });
    }
    if key.epoch() != header.epoch {
        return Err(OpenError::Epoch { expected: header.epoch, got: key.epoch() });
    }
    // A key of another Datanet opens nothing: the Datanet is in the segment's key.
    Ok(())
}

fn open_in(cipher: &XChaCha20Poly1305, header: &Header, head: &[u8], piece: u64, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let forged = OpenError::Forged { piece };
    let length = header.piece(piece).map(|range| range.len());
    let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().filter(|_| length == Some(sealed.len())).ok_or_else(|| forged.clone())?;
    let (nonce, bound) = nonce_and_bound(header, head, piece);
    let mut plain = body.to_vec();
    cipher.decrypt_in_place_detached(&nonce, &bound, &mut plain, tag.into()).map_err(|_| forged)?;
    Ok(plain)
}

/// Opens one piece, given the segment's header and the piece's sealed bytes ([`Header::piece`]).
///
/// # Errors
/// [`OpenError`].
pub fn open_piece(key: &DataKey, name: Name, header: &Header, piece: u64, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    expect(key, name, header)?;
    let cipher = XChaCha20Poly1305::new((&*segment_key(key, name)).into());
    open_in(&cipher, header, &header.encode(), piece, sealed)
}

/// Opens a whole segment, which must be the one named.
///
/// # Errors
/// [`OpenError`]; nothing is returned unless every piece and the IV are right.
pub fn open(key: &DataKey, name: Name, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let header = Header::decode(sealed)?;
    expect(key, name, &header)?;
    let expected = header.sealed_len();
    if sealed.len() < expected {
        return Err(DecodeError::Short { field: "pieces", need: expected, left: sealed.len() }.into());
    }
    if sealed.len() > expected {
        return Err(DecodeError::Trailing(sealed.len() - expected).into());
    }
    let own = segment_key(key, name);
    let (head, cipher) = (&sealed[..HEADER_BYTES], XChaCha20Poly1305::new((&*own).into()));
    let mut plain = Vec::with_capacity(header.length);
    for piece in 0..header.pieces() {
        let range = header.piece(piece).expect("a piece of the segment");
        plain.extend_from_slice(&open_in(&cipher, &header, head, piece, &sealed[range])?);
    }
    if iv(&own, head, &plain) == header.iv { Ok(plain) } else { Err(OpenError::Iv) }
}
