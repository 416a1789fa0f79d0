//! Keys that transcripts' keys are wrapped for, and the wraps.
//!
//! An account's exchange key is X25519 and follows from the account's own secret, so it is kept nowhere and is there again after a restart:
//! secret = derive("tributary/transcript/exchange/v1", account's 32 bytes). Whose a key is follows from a signature of the account alone ([`super::ask`]).
//!
//! A wrap: e = derive("tributary/transcript/ephemeral/v1", key, receipt hash, M), E = e G, s = X25519(e, M), k = derive("tributary/transcript/wrap/v1", s, E, M), then
//! E and XChaCha20-Poly1305(k, nonce 0, key) with the receipt hash as associated data: 80 bytes. `derive` is BLAKE3's key derivation mode over the concatenated
//! fields. e is as secret as the key that it wraps and belongs to one key, receipt and M, so k is used once, and wrapping again gives the same bytes.
//! Cost: two multiplications on the curve, some 100 µs.

use std::fmt;

use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::AeadInPlace};
use serde::{Deserialize, Serialize};
use types::{
    encoding::{DecodeError, Reader, Writer},
    id::{ExchangeKey, Hash32},
    key::Account,
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::sealed::TranscriptKey;

/// Bytes of a wrap.
pub const WRAP_BYTES: usize = 32 + 32 + TAG_BYTES;
/// Bytes that authenticate a ciphertext.
pub(super) const TAG_BYTES: usize = 16;

/// BLAKE3's derivation of a key for one purpose from the concatenated parts.
pub(super) fn derive(purpose: &str, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(purpose);
    for part in parts {
        hasher.update(part);
    }
    Zeroizing::new(*hasher.finalize().as_bytes())
}

/// Bytes that nothing can be wrapped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no exchange key: expected a u-coordinate below 2^255 - 19 of a point beyond the small subgroup")]
pub struct BadKey(pub ExchangeKey);

/// A wrap that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key of receipt {receipt}'s transcript is not wrapped for {reader}, or the wrap was changed")]
pub struct NotForReader {
    /// The receipt.
    pub receipt: Hash32,
    /// Who tried.
    pub reader: ExchangeKey,
}

/// The half of an exchange key that opens wraps. Wiped when dropped, never printed.
pub struct ExchangeSecret {
    secret: StaticSecret,
    public: ExchangeKey,
}

impl fmt::Debug for ExchangeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExchangeSecret(of {})", self.public)
    }
}

impl ExchangeSecret {
    /// The one that belongs to an account.
    pub fn of(account: &Account) -> Self {
        let secret = StaticSecret::from(*account.derived("tributary/transcript/exchange/v1"));
        let public = ExchangeKey(PublicKey::from(&secret).to_bytes());
        Self { secret, public }
    }

    /// What others wrap for.
    pub const fn public(&self) -> ExchangeKey {
        self.public
    }
}

/// A transcript's key that one reader can open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrap {
    /// E.
    ephemeral: ExchangeKey,
    /// The key's ciphertext.
    key: Hash32,
    tag: [u8; TAG_BYTES],
}

impl Wrap {
    /// Its bytes: E, ciphertext, tag.
    pub fn encode(&self) -> [u8; WRAP_BYTES] {
        let bytes = Writer::sized(WRAP_BYTES).bytes(&self.ephemeral.0).hash(self.key).bytes(&self.tag).finish();
        bytes.try_into().expect("32, 32 and 16 bytes")
    }

    /// Reads a wrap; whether it opens is seen when it is opened.
    ///
    /// # Errors
    /// [`DecodeError`] if there are not exactly [`WRAP_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let ephemeral = ExchangeKey(r.hash("ephemeral key")?.0);
        let key = r.hash("wrapped key")?;
        let tag = *r.bytes("tag of the wrap", TAG_BYTES)?.first_chunk().expect("as many bytes as were asked for");
        r.finish().map(|()| Self { ephemeral, key, tag })
    }
}

/// Whether a u-coordinate is in its one form: X25519 ignores the highest bit and reduces by the prime, so that one point would have several names.
fn is_canonical(key: ExchangeKey) -> bool {
    let [low, middle @ .., high] = key.0;
    high < 0x7f || (high == 0x7f && (middle.iter().any(|byte| *byte != 0xff) || low < 0xed))
}

/// Whether anything can be wrapped for a key.
///
/// # Errors
/// [`BadKey`].
pub fn check(key: ExchangeKey) -> Result<(), BadKey> {
    // Scalars are multiples of eight, so that each takes a point of small order to zero and no other point.
    let shared = StaticSecret::from([1; 32]).diffie_hellman(&PublicKey::from(key.0));
    if is_canonical(key) && shared.was_contributory() { Ok(()) } else { Err(BadKey(key)) }
}

fn cipher(secret: &StaticSecret, other: ExchangeKey, ephemeral: ExchangeKey, reader: ExchangeKey) -> Option<XChaCha20Poly1305> {
    let shared = secret.diffie_hellman(&PublicKey::from(other.0));
    let key = derive("tributary/transcript/wrap/v1", &[shared.as_bytes(), &ephemeral.0, &reader.0]);
    (is_canonical(other) && shared.was_contributory()).then(|| XChaCha20Poly1305::new((&*key).into()))
}

/// Wraps a transcript's key for `reader`: the same key and reader give the same bytes.
///
/// # Errors
/// [`BadKey`].
pub fn wrap(key: &TranscriptKey, reader: ExchangeKey) -> Result<Wrap, BadKey> {
    let (receipt, plain) = (key.receipt(), key.secret());
    let secret = StaticSecret::from(*derive("tributary/transcript/ephemeral/v1", &[plain, &receipt.0, &reader.0]));
    let ephemeral = ExchangeKey(PublicKey::from(&secret).to_bytes());
    let cipher = cipher(&secret, reader, ephemeral, reader).ok_or(BadKey(reader))?;
    let mut sealed = *plain;
    let tag = cipher.encrypt_in_place_detached(&XNonce::default(), &receipt.0, &mut sealed).expect("32 bytes are no too long message");
    Ok(Wrap { ephemeral, key: Hash32(sealed), tag: tag.into() })
}

/// Opens a wrap that is said to hold the key of `receipt`'s transcript.
///
/// # Errors
/// [`NotForReader`].
pub fn unwrap(wrap: &Wrap, reader: &ExchangeSecret, receipt: Hash32) -> Result<TranscriptKey, NotForReader> {
    let refused = NotForReader { receipt, reader: reader.public };
    let cipher = cipher(&reader.secret, wrap.ephemeral, wrap.ephemeral, reader.public).ok_or(refused)?;
    let mut plain = Zeroizing::new(wrap.key.0);
    cipher.decrypt_in_place_detached(&XNonce::default(), &receipt.0, plain.as_mut_slice(), (&wrap.tag).into()).map_err(|_| refused)?;
    Ok(TranscriptKey::unwrapped(receipt, plain))
}
