//! A transcript that only those read for whom its key was wrapped: how a node keeps one of the class `checked` (PROTOCOL section 4).
//!
//! Bytes, big-endian: `TRIBTEXT`, format u8 (1), receipt hash, plaintext length u32: 45 bytes, the associated data. Then XChaCha20-Poly1305 of the plaintext under the
//! receipt's own key with nonce 0: as many bytes, and 16 of tag. The plaintext is the answer's bundle as JSON, as of an open one. The key =
//! derive("tributary/transcript/key/v1", 32 random bytes, receipt hash, BLAKE3 of the plaintext), so that it seals one plaintext even where a machine draws the same
//! bytes twice. It is wrapped for a reader by [`super::wrap`].
//!
//! A cipher of this kind lets who chose the key make bytes that open to two texts under two keys. That helps no node: what a reader opens must lead to the salted roots in
//! the receipt ([`open`]), and one text does.
//!
//! Cost: a pass of BLAKE3 and one of ChaCha20 over some 10 kB, a microsecond each, and 61 bytes.

use std::fmt;

use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::AeadInPlace};
use types::{
    encoding::{DecodeError, Document as _, Reader, Writer},
    id::Hash32,
    key::{Domains, Signed},
    receipt::Receipt,
};
use zeroize::Zeroizing;

use super::{
    TranscriptError,
    wrap::{ExchangeSecret, NotForReader, TAG_BYTES, Wrap, derive, unwrap},
};
use crate::{bundle::Bundle, message::REPLY_BYTES_MAX};

/// Bytes before the ciphertext.
pub const HEADER_BYTES: usize = 8 + 1 + 32 + 4;
/// Longest plaintext: sealed, and with a wrap beside it, it is one reply, or one record of the node's books.
pub const PLAIN_BYTES_MAX: usize = REPLY_BYTES_MAX - 1024;
const MAGIC: &[u8; 8] = b"TRIBTEXT";
const FORMAT: u8 = 1;

/// The key of one receipt's transcript. Wiped when dropped, never printed.
pub struct TranscriptKey {
    receipt: Hash32,
    secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for TranscriptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TranscriptKey(of receipt {})", self.receipt)
    }
}

impl TranscriptKey {
    /// As it came out of a wrap.
    pub(super) const fn unwrapped(receipt: Hash32, secret: Zeroizing<[u8; 32]>) -> Self {
        Self { receipt, secret }
    }

    /// The receipt's hash.
    pub const fn receipt(&self) -> Hash32 {
        self.receipt
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

/// A transcript that cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a transcript has 1 to {PLAIN_BYTES_MAX} bytes, this one has {0}")]
pub struct PlainLength(pub usize);

/// Why a sealed transcript tells nothing of its receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not the layout.
    #[error("not a sealed transcript: {0}")]
    Layout(#[from] DecodeError),
    /// That of another receipt.
    #[error("it is sealed for receipt {got}, asked for was {expected}")]
    Foreign {
        /// Asked for.
        expected: Hash32,
        /// What its header says.
        got: Hash32,
    },
    /// The wrap is another's.
    #[error(transparent)]
    Wrap(#[from] NotForReader),
    /// The ciphertext is not what the key sealed.
    #[error("the sealed transcript of receipt {0} was changed, or is sealed under another key than the wrap holds")]
    Changed(Hash32),
    /// It opens to something else than the receipt's text.
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
}

/// A sealed transcript.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    receipt: Hash32,
    /// Ciphertext and tag.
    body: Vec<u8>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(of receipt {}, {} bytes)", self.receipt, self.body.len())
    }
}

impl Sealed {
    /// The receipt's hash, as the header says it.
    pub const fn receipt(&self) -> Hash32 {
        self.receipt
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = header(self.receipt, self.body.len().saturating_sub(TAG_BYTES));
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Reads a sealed transcript; whether it opens is seen when it is opened.
    ///
    /// # Errors
    /// [`DecodeError`] for another format, a length that none has, or other bytes than that many and a tag.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let magic = r.bytes("magic", MAGIC.len())?;
        if magic != MAGIC {
            return Err(DecodeError::Value { field: "magic", got: magic[0].into(), expected: "TRIBTEXT" });
        }
        match r.u8("format")? {
            FORMAT => {}
            got => return Err(DecodeError::Value { field: "format", got: got.into(), expected: "1" }),
        }
        let receipt = r.hash("receipt")?;
        let stated = r.u32("length")?;
        let length = usize::try_from(stated).ok().filter(|length| (1..=PLAIN_BYTES_MAX).contains(length));
        let got = u64::from(stated);
        let length = length.ok_or(DecodeError::Value { field: "length", got, expected: "1 byte to what a reply holds" })?;
        let body = r.bytes("ciphertext", length + TAG_BYTES)?.to_vec();
        r.finish().map(|()| Self { receipt, body })
    }

    /// The plaintext.
    ///
    /// # Errors
    /// [`OpenError::Foreign`], [`OpenError::Changed`].
    pub fn plain(&self, key: &TranscriptKey) -> Result<Vec<u8>, OpenError> {
        if key.receipt != self.receipt {
            return Err(OpenError::Foreign { expected: key.receipt, got: self.receipt });
        }
        let changed = || OpenError::Changed(self.receipt);
        let (text, tag) = self.body.split_last_chunk::<TAG_BYTES>().ok_or_else(changed)?;
        let mut plain = text.to_vec();
        let head = header(self.receipt, plain.len());
        let cipher = XChaCha20Poly1305::new((&*key.secret).into());
        cipher.decrypt_in_place_detached(&XNonce::default(), &head, &mut plain, tag.into()).map_err(|_| changed())?;
        Ok(plain)
    }
}

fn header(receipt: Hash32, length: usize) -> Vec<u8> {
    let length = u32::try_from(length).expect("a transcript's length is bounded");
    Writer::sized(HEADER_BYTES).bytes(MAGIC).u8(FORMAT).hash(receipt).u32(length).finish()
}

/// Seals a transcript for a receipt under a key of its own; `drawn` are 32 bytes that the caller drew at random.
///
/// # Errors
/// [`PlainLength`].
pub fn seal(receipt: Hash32, plain: &[u8], drawn: &[u8; 32]) -> Result<(Sealed, TranscriptKey), PlainLength> {
    if !(1..=PLAIN_BYTES_MAX).contains(&plain.len()) {
        return Err(PlainLength(plain.len()));
    }
    let digest = *blake3::hash(plain).as_bytes();
    let secret = derive("tributary/transcript/key/v1", &[drawn, &receipt.0, &digest]);
    let mut body = Vec::with_capacity(plain.len() + TAG_BYTES);
    body.extend_from_slice(plain);
    let cipher = XChaCha20Poly1305::new((&*secret).into());
    let head = header(receipt, plain.len());
    let tag = cipher.encrypt_in_place_detached(&XNonce::default(), &head, &mut body).expect("a transcript is no too long message");
    body.extend_from_slice(&tag);
    Ok((Sealed { receipt, body }, TranscriptKey { receipt, secret }))
}

/// The bundle of `receipt` from its sealed transcript and the wrap that its node made for `reader`: that text and manifest lead to the receipt's salted roots is checked,
/// and nothing else of what it says.
///
/// # Errors
/// [`OpenError`]; the bytes are a node's, so each speaks against it.
pub fn open(
    sealed: &[u8],
    wrapped: &Wrap,
    reader: &ExchangeSecret,
    receipt: &Signed<Receipt>,
    domains: &Domains,
) -> Result<Bundle, OpenError> {
    let (sealed, expected) = (Sealed::decode(sealed)?, receipt.document.hash());
    if sealed.receipt != expected {
        return Err(OpenError::Foreign { expected, got: sealed.receipt });
    }
    let plain = sealed.plain(&unwrap(wrapped, reader, expected)?)?;
    Ok(super::read(&plain, receipt, domains)?)
}

#[cfg(test)]
mod tests;
