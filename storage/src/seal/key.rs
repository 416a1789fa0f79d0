//! Data keys, and wrapping them for members.
//!
//! A member's X25519 key is its ed25519 node key on the birationally equivalent curve (RFC 7748, as libsodium and age do): everyone can compute the
//! public half from the node id, the secret half is the first 32 bytes of SHA-512 of the seed, clamped. Signatures carry their purpose and wraps are
//! keyed by derivations of their own, so neither speaks for the other.
//!
//! A wrap: e = derive("tributary/seal/ephemeral/v1", key, Datanet u64, epoch u32, member id), E = e G, s = X25519(e, M), k =
//! derive("tributary/seal/wrap/v1", s, E, M), then E and XChaCha20-Poly1305(k, nonce 0, key) with associated data Datanet, epoch, member id. `derive` is
//! BLAKE3's key derivation mode over the concatenated fields.

use std::fmt;

use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::AeadInPlace};
use curve25519_dalek::edwards::CompressedEdwardsY;
use sha2::{Digest, Sha512};
use types::id::{AssetId, NodeId};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Bytes of a wrapped key.
pub const WRAPPED_BYTES: usize = 32 + 32 + 16;

/// The key of one Datanet in one key epoch. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct DataKey {
    datanet: AssetId,
    epoch: u32,
    secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey(of Datanet {}, epoch {})", self.datanet, self.epoch)
    }
}

/// BLAKE3's derivation of a key for one purpose from the concatenated parts.
pub(super) fn derive(context: &str, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    Zeroizing::new(*hasher.finalize().as_bytes())
}

impl DataKey {
    /// A key of 32 bytes that the caller drew at random.
    pub fn new(datanet: AssetId, epoch: u32, secret: [u8; 32]) -> Self {
        Self { datanet, epoch, secret: Zeroizing::new(secret) }
    }

    /// The Datanet.
    pub const fn datanet(&self) -> AssetId {
        self.datanet
    }

    /// The key epoch, counted from 0.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// What the log says of the key, so that each member knows that the others were given the same: derive("tributary/seal/commitment/v1", key,
    /// Datanet u64, epoch u32).
    pub fn commitment(&self) -> [u8; 32] {
        *derive("tributary/seal/commitment/v1", &[self.secret(), &self.datanet.0.to_be_bytes(), &self.epoch.to_be_bytes()])
    }
}

/// A member's half that opens wraps. Wiped when dropped, never printed.
pub struct MemberSecret {
    id: NodeId,
    secret: StaticSecret,
}

impl fmt::Debug for MemberSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberSecret(of {})", self.id)
    }
}

impl MemberSecret {
    /// The half that belongs to the identity with this ed25519 seed.
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        let id = NodeId(ed25519_dalek::SigningKey::from_bytes(seed).verifying_key().to_bytes());
        let expanded = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(seed)));
        let half = Zeroizing::new(*expanded.first_chunk::<32>().expect("64 bytes hold 32"));
        Self { id, secret: StaticSecret::from(*half) }
    }

    /// The identity.
    pub const fn id(&self) -> NodeId {
        self.id
    }
}

/// A data key that one member can open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrapped(pub [u8; WRAPPED_BYTES]);

/// An id that no key can be wrapped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no node id that a key can be wrapped for: expected a point of the curve beyond its small subgroup")]
pub struct BadMember(pub NodeId);

/// A wrap that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key of Datanet {datanet}, epoch {epoch} is not wrapped for {member}, or was changed: ask the owner of the Datanet for a new grant"
)]
pub struct NotForMember {
    /// The Datanet.
    pub datanet: AssetId,
    /// The key epoch.
    pub epoch: u32,
    /// Who tried.
    pub member: NodeId,
}

fn exchange_key(member: NodeId) -> Result<PublicKey, BadMember> {
    let point = CompressedEdwardsY(member.0).decompress().filter(|point| !point.is_small_order()).ok_or(BadMember(member))?;
    Ok(PublicKey::from(point.to_montgomery().to_bytes()))
}

fn bound_to(datanet: AssetId, epoch: u32, member: NodeId) -> Vec<u8> {
    [datanet.0.to_be_bytes().as_slice(), &epoch.to_be_bytes(), &member.0].concat()
}

fn wrapping(secret: &StaticSecret, other: &PublicKey, ephemeral: &[u8; 32], member: &[u8; 32]) -> Option<XChaCha20Poly1305> {
    let shared = secret.diffie_hellman(other);
    let key = derive("tributary/seal/wrap/v1", &[shared.as_bytes(), ephemeral, member]);
    shared.was_contributory().then(|| XChaCha20Poly1305::new((&*key).into()))
}

/// Wraps a data key for a member: the same key, Datanet, epoch and member give the same bytes.
///
/// # Errors
/// [`BadMember`].
pub fn wrap(key: &DataKey, member: NodeId) -> Result<Wrapped, BadMember> {
    let public = exchange_key(member)?;
    let bound = bound_to(key.datanet, key.epoch, member);
    let secret = StaticSecret::from(*derive("tributary/seal/ephemeral/v1", &[key.secret(), &bound]));
    let ephemeral = PublicKey::from(&secret).to_bytes();
    let cipher = wrapping(&secret, &public, &ephemeral, public.as_bytes()).ok_or(BadMember(member))?;
    let mut sealed = *key.secret;
    let tag = cipher.encrypt_in_place_detached(&XNonce::default(), &bound, &mut sealed).expect("32 bytes are no too long message");
    let mut wrapped = [0; WRAPPED_BYTES];
    wrapped[..32].copy_from_slice(&ephemeral);
    wrapped[32..64].copy_from_slice(&sealed);
    wrapped[64..].copy_from_slice(&tag);
    Ok(Wrapped(wrapped))
}

/// Opens a wrap that is said to hold the key of a Datanet and epoch.
///
/// # Errors
/// [`NotForMember`].
pub fn unwrap(wrapped: &Wrapped, member: &MemberSecret, datanet: AssetId, epoch: u32) -> Result<DataKey, NotForMember> {
    let refused = NotForMember { datanet, epoch, member: member.id };
    let (ephemeral, rest) = wrapped.0.split_first_chunk::<32>().expect("a wrap has 80 bytes");
    let (sealed, tag) = rest.split_first_chunk::<32>().expect("a wrap has 80 bytes");
    let own = PublicKey::from(&member.secret);
    let cipher = wrapping(&member.secret, &PublicKey::from(*ephemeral), ephemeral, own.as_bytes()).ok_or(refused)?;
    let mut secret = Zeroizing::new(*sealed);
    let bound = bound_to(datanet, epoch, member.id);
    cipher.decrypt_in_place_detached(&XNonce::default(), &bound, secret.as_mut_slice(), tag.into()).map_err(|_| refused)?;
    Ok(DataKey { datanet, epoch, secret })
}
